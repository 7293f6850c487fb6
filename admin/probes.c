/*
 * probes.c - one question per server and second.
 *
 *     answer    primary, not in recovery   -> UP        in recovery -> WRONG ("is in recovery")
 *               replica, in recovery       -> UP        otherwise   -> WRONG ("is a primary")
 *               same system identifier as another shard's server    -> WRONG
 *     no answer in time, no connection     -> DOWN
 */
#include "admin/probes.h"

#include <stdio.h>
#include <stdlib.h>

#include "admin/catalog_loader.h"
#include "core/clock.h"

#define PROBE_INTERVAL_MS 1000
#define PROBE_TIMEOUT_MS  3000

static const PgQuery PROBE_QUERY = {
    .sql = "SELECT pg_is_in_recovery(), (SELECT system_identifier FROM pg_control_system()),"
           " (SELECT timeline_id FROM pg_control_checkpoint()),"
           " current_setting('server_version_num'), current_setting('max_prepared_transactions')"};

static void probes_on_time(Timer *timer);
static bool probe_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void probe_on_done(PgClient *client, const Error *err);
static HealthState health_judge(ServerHealth *health, char *ret_why, size_t size);
static void health_move(ServerHealth *health, HealthState to, const char *why);

static const PgClientEvents CLIENT_EVENTS = {.on_result = probe_on_result,
                                             .on_done = probe_on_done};

bool probes_init(Probes *probes, Loop *loop, const Config *config,
                 void (*on_event)(void *ctx, LogLevel level, const char *kind, const char *text),
                 void *ctx)
{
    *probes = (Probes){.loop = loop,
                       .config = config,
                       .count = config->server_count,
                       .on_event = on_event,
                       .ctx = ctx};
    timer_init(&probes->timer, loop, probes_on_time, probes);
    probes->servers = calloc(MAX(probes->count, 1), sizeof *probes->servers);
    if (!probes->servers)
        return false;
    for (uint32_t i = 0; i < probes->count; i++) {
        ServerHealth *health = &probes->servers[i];
        health->probes = probes;
        health->server = config->servers[i];
        health->changed_wall_us = clock_wall_us();
        pg_client_init(&health->client, loop, &CLIENT_EVENTS, health);
    }
    timer_start_ms(&probes->timer, 0);
    return true;
}

void probes_finish(Probes *probes)
{
    if (!probes->servers)
        return;
    timer_stop(&probes->timer);
    for (uint32_t i = 0; i < probes->count; i++)
        pg_client_close(&probes->servers[i].client);
    free(probes->servers);
    probes->servers = NULL;
}

const char *health_state_name(int state)
{
    static const char *const NAMES[] = {"unknown", "up", "wrong", "down"};
    return NAMES[state];
}

/* A database that the server's shard serves: its login is known to be good there. */
static const DatabaseConfig *probe_database(const Config *config, uint32_t shard)
{
    for (uint32_t i = 0; i < config->database_count; i++) {
        const DatabaseConfig *database = &config->databases[i];
        for (uint32_t s = 0; s < database->shard_count; s++) {
            if (database->shards[s] == shard)
                return database;
        }
    }
    return NULL;
}

static void probes_on_time(Timer *timer)
{
    Probes *probes = timer->ctx;
    for (uint32_t i = 0; i < probes->count; i++) {
        ServerHealth *health = &probes->servers[i];
        if (pg_client_busy(&health->client))
            continue;
        const DatabaseConfig *database = probe_database(probes->config, health->server->shard);
        PgLogin login = control_login(probes->config, database, health->server);
        health->asked_us = clock_now_us();
        pg_client_run(&health->client, &login, &PROBE_QUERY, 1, PROBE_TIMEOUT_MS);
    }
    timer_start_ms(timer, PROBE_INTERVAL_MS);
}

static bool probe_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    ServerHealth *health = client->ctx;
    health->in_recovery = pg_bool(rows, 0, 0);
    snprintf(health->system_id, sizeof health->system_id, "%s", PQgetvalue(rows, 0, 1));
    health->timeline = pg_u64(rows, 0, 2);
    health->version = pg_u64(rows, 0, 3);
    health->prepared_max = pg_u64(rows, 0, 4);
    health->latency_us = clock_now_us() - health->asked_us;
    return true;
}

static void probe_on_done(PgClient *client, const Error *err)
{
    ServerHealth *health = client->ctx;
    char why[sizeof health->why];
    if (err) {
        health_move(health, HEALTH_DOWN, client->why);
        return;
    }
    HealthState state = health_judge(health, why, sizeof why);
    health_move(health, state, state == HEALTH_UP ? "" : why);
}

static HealthState health_judge(ServerHealth *health, char *ret_why, size_t size)
{
    const ServerConfig *server = health->server;
    if (server->role == SERVER_PRIMARY && health->in_recovery) {
        snprintf(ret_why, size, "is in recovery: not a primary");
        return HEALTH_WRONG;
    }
    if (server->role == SERVER_REPLICA && !health->in_recovery) {
        snprintf(ret_why, size, "is not in recovery: not a replica");
        return HEALTH_WRONG;
    }
    for (uint32_t i = 0; i < health->probes->count; i++) {
        const ServerHealth *other = &health->probes->servers[i];
        if (other == health || !other->system_id[0])
            continue;
        bool same = strcmp(other->system_id, health->system_id) == 0;
        if (same && other->server->shard != server->shard) {
            snprintf(ret_why, size, "has the system identifier of %s, which is another shard's",
                     other->server->name);
            return HEALTH_WRONG;
        }
        if (!same && other->server->shard == server->shard) {
            snprintf(ret_why, size, "has another system identifier than %s of the same shard",
                     other->server->name);
            return HEALTH_WRONG;
        }
    }
    return HEALTH_UP;
}

static void health_move(ServerHealth *health, HealthState to, const char *why)
{
    bool changed = health->state != (int)to;
    bool worth_telling = changed && !(health->state == HEALTH_UNKNOWN && to == HEALTH_UP);
    snprintf(health->why, sizeof health->why, "%s", why);
    if (!changed)
        return;
    health->state = to;
    health->changed_wall_us = clock_wall_us();
    if (!worth_telling)
        return;
    char text[400];
    snprintf(text, sizeof text, "server %s is %s%s%s", health->server->name, health_state_name(to),
             *why ? ": " : "", why);
    health->probes->on_event(health->probes->ctx, to == HEALTH_UP ? LOG_INFO : LOG_WARNING,
                             "server", text);
}
