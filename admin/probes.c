/*
 * probes.c - one question per server and turn of the clock.
 *
 *     answer    of a shard with replicas   -> roles.c says who it is, lag.c how old its data is
 *               primary, not in recovery   -> UP        in recovery -> WRONG ("is in recovery")
 *               same system identifier as another shard's server    -> WRONG
 *     no answer in time, no connection     -> DOWN
 *
 * Each answer of a primary ages its standbys anew: what they had replayed is held against the newest
 * position known, whichever of the two answers came first.
 */
#include "admin/probes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/catalog_loader.h"
#include "core/clock.h"
#include "meta/topology.h"

#define LONE_INTERVAL_MS 1000 /* servers of a shard without replicas */
#define PROBE_TIMEOUT_MS 3000
#define SHARD_SERVERS_MAX 64

/* A standby shows its timeline by what it receives and by what its last restart point was on; a
 * primary by the name of the file it writes (pg_control is behind after a promotion). */
static const PgQuery PROBE_QUERY = {
    .sql =
        "SELECT pg_is_in_recovery(), (SELECT system_identifier FROM pg_control_system()),"
        " CASE WHEN pg_is_in_recovery() THEN greatest("
        "  (SELECT timeline_id FROM pg_control_checkpoint()),"
        "  (SELECT received_tli FROM pg_stat_wal_receiver))"
        " ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END,"
        " current_setting('server_version_num'), current_setting('max_prepared_transactions'),"
        " (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
        "  ELSE pg_current_wal_insert_lsn() END - '0/0')::bigint,"
        " CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END,"
        " (SELECT status FROM pg_stat_wal_receiver), current_setting('block_size'),"
        " pg_size_bytes(current_setting('wal_segment_size'))"};

static void probes_on_time(Timer *timer);
static bool probe_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void probe_on_done(PgClient *client, const Error *err);
static bool health_judge(ServerHealth *health, char *ret_why, size_t size);
static void shard_judge(Probes *probes, uint32_t shard);
static void health_move(ServerHealth *health, HealthState to, const char *why);
static void health_publish(ServerHealth *health);

static const PgClientEvents CLIENT_EVENTS = {.on_result = probe_on_result,
                                             .on_done = probe_on_done};

/* ---- the servers of a shard, primary of the file first --------------------------------------- */

static uint32_t shard_size(const ShardConfig *shard)
{
    return MIN(shard->replica_count + 1, SHARD_SERVERS_MAX);
}

static const ServerConfig *shard_server(const ShardConfig *shard, uint32_t i)
{
    return i == 0 ? shard->primary : shard->replicas[i - 1];
}

static uint32_t place_in_shard(const ShardConfig *shard, uint32_t server)
{
    for (uint32_t i = 0; i < shard_size(shard); i++)
        if (shard_server(shard, i)->index == server)
            return i;
    return ROLES_NONE;
}

static bool has_replicas(const Probes *probes, uint32_t shard)
{
    return probes->config->shards[shard].replica_count > 0;
}

/* ---- life -------------------------------------------------------------------------------------- */

static bool shards_init(Probes *probes, const RoleMemory *memory)
{
    const Config *config = probes->config;
    probes->shards = calloc(MAX(config->shard_count, 1), sizeof *probes->shards);
    for (uint32_t i = 0; probes->shards && i < config->shard_count; i++) {
        ShardHealth *shard = &probes->shards[i];
        shard->memory = memory[i];
        shard->history_of = NO_PRIMARY;
        shard->memory.primary = place_in_shard(&config->shards[i], memory[i].primary);
        if (has_replicas(probes, i)) {
            shard->history = calloc(1, sizeof *shard->history);
            if (!shard->history)
                return false;
        }
    }
    return probes->shards != NULL;
}

/* Another server at the same address is known by its system identifier, as ever. */
static char *place_of(const Config *config, const ServerConfig *server)
{
    char text[600];
    snprintf(text, sizeof text, "%s %s:%d", config->shards[server->shard].name, server->host ? server->host : "",
             server->port);
    return strdup(text);
}

bool probes_init(Probes *probes, Loop *loop, const Config *config, Standings *standings,
                 const RoleMemory *memory, const ProbeEvents *events)
{
    *probes = (Probes){.loop = loop,
                       .config = config,
                       .standings = standings,
                       .count = config->server_count,
                       .shard_count = config->shard_count,
                       .events = *events};
    timer_init(&probes->timer, loop, probes_on_time, probes);
    probes->servers = calloc(MAX(probes->count, 1), sizeof *probes->servers);
    if (!probes->servers)
        return false;
    for (uint32_t i = 0; i < probes->count; i++) {
        ServerHealth *health = &probes->servers[i];
        health->probes = probes;
        health->server = config->servers[i];
        health->changed_wall_us = clock_wall_us();
        health->place = place_of(config, health->server);
        pg_client_init(&health->client, loop, &CLIENT_EVENTS, health);
        patroni_init(&health->patroni, loop, health->server->patroni_host, health->server->patroni_port);
        if (has_replicas(probes, health->server->shard))
            health->lags = calloc(LAG_SECONDS, sizeof *health->lags);
    }
    if (!shards_init(probes, memory)) {
        probes_finish(probes);
        return false;
    }
    timer_start_ms(&probes->timer, 0);
    return true;
}

/* Nobody is asked any more. */
static void probes_hush(Probes *probes)
{
    timer_stop(&probes->timer);
    for (uint32_t i = 0; i < probes->count; i++) {
        pg_client_close(&probes->servers[i].client);
        if (probes->servers[i].patroni.loop)
            patroni_finish(&probes->servers[i].patroni);
    }
}

static void probes_free(Probes *probes)
{
    for (uint32_t i = 0; i < probes->count; i++) {
        free(probes->servers[i].place);
        free(probes->servers[i].lags);
    }
    for (uint32_t i = 0; probes->shards && i < probes->shard_count; i++)
        free(probes->shards[i].history);
    free(probes->shards);
    free(probes->servers);
}

void probes_finish(Probes *probes)
{
    if (!probes->servers)
        return;
    probes_hush(probes);
    probes_free(probes);
    probes->servers = NULL;
    probes->shards = NULL;
}

/* ---- another Config ------------------------------------------------------------------------------ */

static bool same_place(const ServerHealth *a, const ServerHealth *b)
{
    return a->place && b->place && strcmp(a->place, b->place) == 0;
}

static void lags_inherit(Probes *probes, Probes *old)
{
    for (uint32_t i = 0; i < probes->count; i++)
        for (uint32_t k = 0; k < old->count; k++) {
            ServerHealth *to = &probes->servers[i], *from = &old->servers[k];
            if (!to->lags || !from->lags || !same_place(to, from))
                continue;
            free(to->lags);
            to->lags = from->lags;
            to->lag_next = from->lag_next;
            from->lags = NULL;
        }
}

/* What a primary had, and when, is as true as before while it is the primary: without it a standby that lags
 * would be of an unknown age until it has caught up with the RELOAD. */
static void history_inherit(Probes *probes, Probes *old, uint32_t shard)
{
    ShardHealth *to = &probes->shards[shard];
    if (!to->history || to->memory.primary == ROLES_NONE)
        return;
    uint32_t primary = shard_server(&probes->config->shards[shard], to->memory.primary)->index;
    for (uint32_t i = 0; i < old->shard_count; i++) {
        ShardHealth *from = &old->shards[i];
        if (!from->history || from->history_of == NO_PRIMARY ||
            !same_place(&probes->servers[primary], &old->servers[from->history_of]))
            continue;
        free(to->history);
        to->history = from->history;
        to->history_of = primary;
        from->history = NULL;
    }
}

bool probes_restart(Probes *probes, const Config *config, Standings *standings, const RoleMemory *memory)
{
    if (probes->servers)
        probes_hush(probes);
    Probes old = *probes; /* of it only what lies on the heap */
    if (!probes_init(probes, old.loop, config, standings, memory, &old.events)) {
        if (old.servers)
            probes_free(&old);
        return false;
    }
    if (old.servers) {
        lags_inherit(probes, &old);
        for (uint32_t i = 0; i < probes->shard_count; i++)
            history_inherit(probes, &old, i);
        probes_free(&old);
    }
    return true;
}

/* ---- asking ------------------------------------------------------------------------------------ */

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

static void lag_note(ServerHealth *health);

static void probes_on_time(Timer *timer)
{
    Probes *probes = timer->ctx;
    uint64_t now_us = clock_now_us();
    uint32_t interval_ms = LONE_INTERVAL_MS;
    for (uint32_t i = 0; i < probes->count; i++) {
        ServerHealth *health = &probes->servers[i];
        bool watched = has_replicas(probes, health->server->shard);
        interval_ms = watched ? MIN(interval_ms, probes->config->lag_check_ms) : interval_ms;
        lag_note(health);
        bool due = watched || now_us - health->asked_us >= (LONE_INTERVAL_MS - 50) * UINT64_C(1000);
        if (pg_client_busy(&health->client) || !due)
            continue;
        const DatabaseConfig *database = probe_database(probes->config, health->server->shard);
        PgLogin login = control_login(probes->config, database, health->server);
        health->asked_us = clock_now_us();
        if (watched)
            patroni_ask(&health->patroni);
        pg_client_run(&health->client, &login, &PROBE_QUERY, 1,
                      watched ? MIN(PROBE_TIMEOUT_MS, 10 * probes->config->lag_check_ms + 500)
                              : PROBE_TIMEOUT_MS);
    }
    timer_start_ms(timer, interval_ms);
}

static bool probe_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    ServerHealth *health = client->ctx;
    health->in_recovery = pg_bool(rows, 0, 0);
    snprintf(health->system_id, sizeof health->system_id, "%s", PQgetvalue(rows, 0, 1));
    health->timeline = MAX(health->timeline, pg_u64(rows, 0, 2));
    health->version = pg_u64(rows, 0, 3);
    health->prepared_max = pg_u64(rows, 0, 4);
    uint64_t lsn = pg_u64(rows, 0, 5);
    health->lsn = health->in_recovery ? lsn : lag_record_end(lsn, pg_u64(rows, 0, 8), pg_u64(rows, 0, 9));
    health->replay_paused = pg_bool(rows, 0, 6);
    const char *receiver = pg_text(rows, 0, 7);
    snprintf(health->receiver, sizeof health->receiver, "%s", receiver ? receiver : "");
    health->latency_us = clock_now_us() - health->asked_us;
    if (!health->since_us || health->server_pid != PQbackendPID(client->conn))
        health->since_us = health->asked_us;
    if (health->server_pid != PQbackendPID(client->conn)) { /* a new connection, perhaps another server */
        health->server_pid = PQbackendPID(client->conn);
        health->timeline = pg_u64(rows, 0, 2);
    }
    health->measured_us = health->asked_us;
    return true;
}

static void probe_on_done(PgClient *client, const Error *err)
{
    ServerHealth *health = client->ctx;
    Probes *probes = health->probes;
    uint32_t shard = health->server->shard;
    health->answered = !err;
    health->ended_us = health->asked_us;
    if (err) {
        health->timeline = 0; /* another server may answer next time */
        health->since_us = 0;
        health_move(health, HEALTH_DOWN, client->why);
    }
    if (has_replicas(probes, shard)) {
        shard_judge(probes, shard);
    } else if (!err) {
        char why[sizeof health->why];
        bool right = health_judge(health, why, sizeof why);
        health_move(health, right ? HEALTH_UP : HEALTH_WRONG, right ? "" : why);
    }
    health_publish(health);
}

/* ---- who is what ------------------------------------------------------------------------------- */

/* Two shards on one server would hold each other's rows; two servers of one shard are one cluster. */
static bool identity_judge(ServerHealth *health, char *ret_why, size_t size)
{
    const ServerConfig *server = health->server;
    for (uint32_t i = 0; i < health->probes->count; i++) {
        const ServerHealth *other = &health->probes->servers[i];
        if (other == health || !other->system_id[0])
            continue;
        if (strcmp(other->system_id, health->system_id) == 0 && other->server->shard != server->shard) {
            snprintf(ret_why, size, "has the system identifier of %s, which is another shard's",
                     other->server->name);
            return false;
        }
    }
    return true;
}

static bool health_judge(ServerHealth *health, char *ret_why, size_t size)
{
    if (health->in_recovery) {
        snprintf(ret_why, size, "is in recovery: not a primary");
        return false;
    }
    return identity_judge(health, ret_why, size);
}

static void verdict_apply(ServerHealth *health, RoleVerdict verdict, const RoleMemory *memory)
{
    char why[sizeof health->why] = "";
    bool right = false;
    switch (verdict) {
    case ROLE_UNKNOWN:
        return;
    case ROLE_PRIMARY:
    case ROLE_STANDBY:
        right = identity_judge(health, why, sizeof why);
        break;
    case ROLE_BEHIND:
        snprintf(why, sizeof why, "follows timeline %" PRIu64 ", the primary is on %" PRIu64,
                 health->timeline, memory->timeline);
        break;
    case ROLE_FENCED:
        snprintf(why, sizeof why, "fenced: takes writes on timeline %" PRIu64 ", the shard is on %" PRIu64,
                 health->timeline, memory->timeline);
        break;
    case ROLE_REFUSED:
        snprintf(why, sizeof why, "takes writes, and its Patroni says that it is not the leader");
        break;
    case ROLE_FOREIGN:
        snprintf(why, sizeof why, "has another system identifier than the shard");
        break;
    }
    health_move(health, right ? HEALTH_UP : HEALTH_WRONG, why);
}

static void shard_age(Probes *probes, uint32_t shard);

static void shard_judge(Probes *probes, uint32_t shard)
{
    const ShardConfig *config = &probes->config->shards[shard];
    ShardHealth *health = &probes->shards[shard];
    RoleFact facts[SHARD_SERVERS_MAX];
    RoleVerdict verdicts[SHARD_SERVERS_MAX];
    uint32_t count = shard_size(config);
    uint64_t now_us = clock_now_us();
    for (uint32_t i = 0; i < count; i++) {
        const ServerHealth *server = &probes->servers[shard_server(config, i)->index];
        facts[i] = (RoleFact){.known = server->answered,
                              .asked = server->ended_us != 0,
                              .recovery = server->in_recovery,
                              .refused = patroni_word(&server->patroni, now_us) == PATRONI_FOLLOWER,
                              .timeline = server->timeline,
                              .system_id = strtoull(server->system_id, NULL, 10)};
    }
    uint64_t timeline = health->memory.timeline;
    bool moved = roles_decide(&health->memory, facts, count, verdicts);
    const RoleMemory *memory = &health->memory;
    for (uint32_t i = 0; i < count; i++)
        verdict_apply(&probes->servers[shard_server(config, i)->index], verdicts[i], memory);
    if (moved) {
        lag_reset(health->history);
        health->history_of = NO_PRIMARY;
    }
    for (int good = 0; good < 2; good++) /* whom nobody may use any more, they hear first */
        for (uint32_t i = 0; i < count; i++)
            if ((probes->servers[shard_server(config, i)->index].state == HEALTH_UP) == good)
                health_publish(&probes->servers[shard_server(config, i)->index]);
    if (moved || timeline != memory->timeline)
        probes->events.on_primary(probes->events.ctx, shard,
                                  memory->primary == ROLES_NONE ? NO_PRIMARY
                                                                : shard_server(config, memory->primary)->index,
                                  memory->timeline, memory->system_id);
    shard_age(probes, shard);
}

/* ---- how old --------------------------------------------------------------------------------------- */

/* The primary's position is the newest fact about all its standbys. */
static void shard_age(Probes *probes, uint32_t shard)
{
    const ShardConfig *config = &probes->config->shards[shard];
    ShardHealth *health = &probes->shards[shard];
    if (health->memory.primary == ROLES_NONE)
        return;
    const ServerHealth *primary =
        &probes->servers[shard_server(config, health->memory.primary)->index];
    const LagHistory *history = health->history;
    uint32_t last = (history->first + history->count - 1) % LAG_SAMPLES;
    bool news = !history->count || history->samples[last].asked_us != primary->measured_us;
    if (!news || !primary->answered || primary->in_recovery)
        return;
    health->history_of = primary->server->index;
    lag_add(health->history, primary->measured_us, primary->lsn);
    for (uint32_t i = 0; i < shard_size(config); i++)
        health_publish(&probes->servers[shard_server(config, i)->index]);
}

static uint64_t fresh_of(const ServerHealth *health)
{
    const LagHistory *history = health->probes->shards[health->server->shard].history;
    if (!history || health->state != HEALTH_UP || !health->measured_us)
        return 0;
    return health->in_recovery ? lag_fresh_us(history, health->lsn) : health->measured_us;
}

/* For the primary: since when none of the others has taken its place. Who does not answer says nothing. */
static uint64_t looked_of(const ServerHealth *health)
{
    const Probes *probes = health->probes;
    const ShardConfig *config = &probes->config->shards[health->server->shard];
    const RoleMemory *memory = &probes->shards[health->server->shard].memory;
    uint64_t looked_us = UINT64_MAX;
    if (memory->primary == ROLES_NONE || shard_server(config, memory->primary) != health->server)
        return 0;
    for (uint32_t i = 0; i < shard_size(config); i++) {
        const ServerHealth *other = &probes->servers[shard_server(config, i)->index];
        if (other->state != HEALTH_DOWN)
            looked_us = MIN(looked_us, other->ended_us);
    }
    return looked_us == UINT64_MAX ? 0 : looked_us;
}

static uint64_t vouched_of(const ServerHealth *health)
{
    bool leader = health->patroni.word == PATRONI_LEADER;
    return MAX(health->vouched_us, leader ? health->patroni.word_us : 0);
}

void probes_vouch(Probes *probes, uint32_t server)
{
    probes->servers[server].vouched_us = clock_now_us();
    health_publish(&probes->servers[server]);
}

static void health_publish(ServerHealth *health)
{
    const LagHistory *history = health->probes->shards[health->server->shard].history;
    if (health->state == HEALTH_UNKNOWN)
        return; /* after a RELOAD what was known stands, and grows old, until it has answered again */
    ServerStanding standing = {
        .state = (uint64_t)health->state,
        .in_recovery = health->in_recovery,
        .measured_us = health->measured_us,
        .lsn = health->lsn,
        .fresh_us = fresh_of(health),
        .lag_bytes = !history || !health->measured_us ? UINT64_MAX
                     : health->in_recovery            ? lag_bytes(history, health->lsn)
                                                      : 0,
        .latency_us = health->latency_us,
        .since_us = health->since_us ? health->since_us : UINT64_MAX,
        .vouched_us = vouched_of(health),
        .looked_us = looked_of(health),
    };
    if (health->probes->standings)
        standing_put(health->probes->standings, health->server->index, &standing);
}

uint64_t server_lag_us(const ServerHealth *health, uint64_t now_us)
{
    const LagHistory *history = health->probes->shards[health->server->shard].history;
    uint64_t fresh_us = fresh_of(health);
    if (!fresh_us)
        return UINT64_MAX;
    bool all = health->answered && (!health->in_recovery || lag_bytes(history, health->lsn) == 0);
    return all || now_us < fresh_us ? 0 : now_us - fresh_us;
}

/* One figure a second for SHOW REPLICA_LAG. */
static void lag_note(ServerHealth *health)
{
    uint64_t wall_us = clock_wall_us();
    if (!health->lags || !health->in_recovery)
        return;
    const LagSecond *last = &health->lags[(health->lag_next + LAG_SECONDS - 1) % LAG_SECONDS];
    if (last->wall_us / 1000000 == wall_us / 1000000)
        return;
    const LagHistory *history = health->probes->shards[health->server->shard].history;
    health->lags[health->lag_next] =
        (LagSecond){.wall_us = wall_us,
                    .lag_us = server_lag_us(health, clock_now_us()),
                    .lag_bytes = health->answered ? lag_bytes(history, health->lsn) : UINT64_MAX};
    health->lag_next = (health->lag_next + 1) % LAG_SECONDS;
}

/* ---- telling ------------------------------------------------------------------------------------- */

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
    health->probes->events.on_event(health->probes->events.ctx,
                                    to == HEALTH_UP ? LOG_INFO : LOG_WARNING, "server", text);
}
