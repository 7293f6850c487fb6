/*
 * switchover.c - why this file exists: a primary must be stopped now and then (an update, a new disk), and
 * between "no more writes there" and "writes here" lie five steps that are each easy to forget at night.
 *
 *     client   INSERT ····················· waits ························> answered by the new one
 *     shard    old | draining | vacant, old one leaving | vacant (handover) | new
 */
#include "admin/switchover.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/answer.h"
#include "admin/control_state.h"
#include "admin/drain.h"
#include "core/clock.h"
#include "wire/value.h"

#define LOOK_MS      10
#define PROMOTE_MS   60000
#define FIND_MAX_US  ((uint64_t)15 * 1000 * 1000)

typedef enum SwitchState { SWITCH_DRAINING, SWITCH_PAUSED, SWITCH_ASKING, SWITCH_CATCHING_UP, SWITCH_PROMOTING,
                           SWITCH_FINDING } SwitchState;

typedef struct Switchover {
    Job job;   /* its call is answered early by PAUSE */
    List link; /* control->switches */
    int state; /* SwitchState */
    uint32_t shard, source, target; /* servers; target NO_PRIMARY: a pause */
    Drain drain;
    PgClient client;
    PgQuery query;
    uint64_t lsn; /* what the target must have replayed */
    uint64_t paused_us, until_us, promoted_us;
    Timer timer;
} Switchover;

static void switchover_on_time(Timer *timer);
static bool client_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void client_on_done(PgClient *client, const Error *err);

static const PgClientEvents CLIENT_EVENTS = {.on_result = client_on_result, .on_done = client_on_done};

/* ---- life ---------------------------------------------------------------------------------------- */

static void switchover_free(Job *job)
{
    Switchover *it = container_of(job, Switchover, job);
    timer_stop(&it->timer);
    drain_stop(&it->drain);
    pg_client_close(&it->client);
    list_remove(&it->link);
    free(it);
}

static Switchover *switchover_find(Control *control, uint32_t shard)
{
    LIST_EACH (link, &control->switches) {
        Switchover *it = list_entry(link, Switchover, link);
        if (it->shard == shard)
            return it;
    }
    return NULL;
}

static const char *shard_name(const Switchover *it)
{
    return it->job.control->config->shards[it->shard].name;
}

static const char *server_name(const Control *control, uint32_t server)
{
    return control->config->servers[server]->name;
}

static void tell(Switchover *it, LogLevel level, const char *text)
{
    char line[300];
    snprintf(line, sizeof line, "shard %s: %s", shard_name(it), text);
    control_event(it->job.control, level, "switchover", line);
}

static Switchover *switchover_start(Control *control, Call *call, uint32_t shard, uint32_t target, Error *err)
{
    Switchover *it = calloc(1, sizeof *it);
    uint32_t source = control->primaries[shard];
    if (!it || !failover_pause(control, shard, err)) {
        if (!it)
            error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        free(it);
        return NULL;
    }
    uint64_t now_us = clock_now_us();
    it->shard = shard;
    it->source = source;
    it->target = target;
    it->paused_us = now_us;
    it->until_us = now_us + (uint64_t)control->config->switchover_wait_ms * 1000;
    job_start(&it->job, control, call, switchover_free);
    list_init(&it->link);
    list_push(&control->switches, &it->link);
    pg_client_init(&it->client, &control->loop, &CLIENT_EVENTS, it);
    timer_init(&it->timer, &control->loop, switchover_on_time, it);
    drain_start(&it->drain, control, shard);
    it->drain.primary_only = true;
    timer_start_ms(&it->timer, LOOK_MS);
    return it;
}

/* Everything is as it was. */
static void give_up(Switchover *it, const Error *err)
{
    Control *control = it->job.control;
    uint32_t shard = it->shard;
    char text[280];
    snprintf(text, sizeof text, "not switched: %.240s", err->message);
    tell(it, LOG_WARNING, text);
    failover_resume(control, shard);
    job_end(&it->job, err);
}

/* ---- answers --------------------------------------------------------------------------------------- */

static void answer(Switchover *it, const char *tag)
{
    static const AnswerColumn COLUMNS[] = {
        {"shard", WIRE_OID_TEXT}, {"primary", WIRE_OID_TEXT}, {"was", WIRE_OID_TEXT}, {"waited_ms", WIRE_OID_INT8}};
    Control *control = it->job.control;
    Call *call = it->job.call;
    uint32_t now = control->primaries[it->shard];
    const char *cells[] = {shard_name(it), now == NO_PRIMARY ? NULL : server_name(control, now),
                           server_name(control, it->source),
                           arena_printf(&call->arena, "%" PRIu64, (clock_now_us() - it->paused_us) / 1000)};
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    answer_row(call, cells, ARRAY_LEN(cells));
    answer_done(call, tag);
}

static void paused(Switchover *it)
{
    Call *call = it->job.call;
    it->state = SWITCH_PAUSED;
    tell(it, LOG_WARNING, "paused: nothing runs on its primary, new statements wait");
    answer(it, "PAUSE");
    it->job.call = NULL; /* the job stays: it ends with the pause */
    control_answer(it->job.control, call);
}

/* ---- the steps -------------------------------------------------------------------------------------- */

static void ask(Switchover *it, uint32_t server, const char *sql, uint64_t timeout_ms)
{
    const Config *config = it->job.control->config;
    const DatabaseConfig *database = NULL;
    for (uint32_t i = 0; i < config->database_count && !database; i++)
        for (uint32_t s = 0; s < config->databases[i].shard_count; s++)
            if (config->databases[i].shards[s] == it->shard)
                database = &config->databases[i];
    PgLogin login = control_login(config, database, config->servers[server]);
    it->query = (PgQuery){.sql = sql};
    pg_client_run(&it->client, &login, &it->query, 1, timeout_ms);
}

static void promote(Switchover *it)
{
    pg_client_close(&it->client);
    it->state = SWITCH_PROMOTING;
    it->promoted_us = clock_now_us();
    tell(it, LOG_WARNING, "everything is replayed on the new primary, which is promoted now");
    ask(it, it->target, "SELECT pg_promote(true, 50)", PROMOTE_MS);
}

static bool client_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    Switchover *it = client->ctx;
    if (it->state == SWITCH_ASKING)
        it->lsn = lag_record_end(pg_u64(rows, 0, 0), pg_u64(rows, 0, 1), pg_u64(rows, 0, 2));
    return true;
}

static void client_on_done(PgClient *client, const Error *err)
{
    Switchover *it = client->ctx;
    if (it->state == SWITCH_ASKING && err) {
        Error told = *err;
        error_detail(&told, "%s", client->why);
        give_up(it, &told);
    } else if (it->state == SWITCH_ASKING) {
        it->state = SWITCH_CATCHING_UP;
    } else if (it->state == SWITCH_PROMOTING) {
        if (err)
            log_line(LOG_WARNING, "control", "pg_promote on %s: %s",
                     server_name(it->job.control, it->target), client->why);
        it->state = SWITCH_FINDING; /* whatever it said: what the probes see is what counts */
    }
}

/* A server that cannot take over any more. */
static bool target_is_lost(const Switchover *it)
{
    const ServerHealth *health = &it->job.control->probes.servers[it->target];
    return health->state == HEALTH_DOWN || health->state == HEALTH_WRONG;
}

static void expired(Switchover *it)
{
    Error err;
    const Config *config = it->job.control->config;
    if (it->state == SWITCH_DRAINING) {
        error_set(&err, SQLSTATE_OBJECT_IN_USE, "transactions on the primary of shard %s did not end within %u ms",
                  shard_name(it), config->switchover_wait_ms);
        error_detail(&err, "%u sessions are in one.", it->drain.blockers == UINT32_MAX ? 0 : it->drain.blockers);
        error_hint(&err, "SHOW CLIENTS tells whose. Everything goes on as before; try again, or raise switchover_wait.");
    } else {
        error_set(&err, SQLSTATE_OBJECT_NOT_READY, "%s has not replayed everything within %u ms",
                  server_name(it->job.control, it->target), config->switchover_wait_ms);
        error_hint(&err, "SHOW REPLICAS tells its lag. Everything goes on as before.");
    }
    give_up(it, &err);
}

/* Somebody else was found to be the primary, or nobody is: failover.c has taken over. */
static bool is_overtaken(Switchover *it)
{
    return it->job.control->leaving[it->shard] == NO_PRIMARY;
}

static void look_before_promotion(Switchover *it)
{
    Error err;
    if (it->state == SWITCH_DRAINING)
        drain_look(&it->drain);
    if (it->target != NO_PRIMARY && target_is_lost(it)) {
        error_set(&err, SQLSTATE_OBJECT_NOT_READY, "%s cannot be used: %s", server_name(it->job.control, it->target),
                  it->job.control->probes.servers[it->target].why);
        error_hint(&err, "Everything goes on as before.");
        give_up(it, &err);
        return;
    }
    if (it->state == SWITCH_DRAINING && it->drain.done) {
        if (it->target == NO_PRIMARY) {
            paused(it);
        } else {
            it->state = SWITCH_ASKING;
            ask(it, it->source,
                "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, current_setting('block_size'),"
                " pg_size_bytes(current_setting('wal_segment_size'))",
                1000);
        }
    } else if (it->state == SWITCH_CATCHING_UP && it->job.control->probes.servers[it->target].lsn >= it->lsn) {
        promote(it);
    } else if (it->state != SWITCH_PAUSED && clock_now_us() >= it->until_us) {
        expired(it);
    }
}

static void look_after_promotion(Switchover *it)
{
    Control *control = it->job.control;
    if (control->primaries[it->shard] == it->target) {
        answer(it, "SWITCHOVER");
        job_end(&it->job, NULL);
        return;
    }
    if (clock_now_us() - it->promoted_us < FIND_MAX_US)
        return;
    Error err;
    error_set(&err, SQLSTATE_OUTCOME_UNKNOWN, "%s was told to become the primary of shard %s, and has not been seen to",
              server_name(control, it->target), shard_name(it));
    error_detail(&err, "The shard has no primary until one is found: two must never be written to.");
    error_hint(&err, "Look at %s. If it was not promoted, and never will be: RESUME %s.", server_name(control, it->target),
               shard_name(it));
    tell(it, LOG_ERROR, err.message);
    Call *call = it->job.call;
    it->job.call = NULL;
    it->state = SWITCH_PAUSED; /* until RESUME, or until it is seen */
    it->target = NO_PRIMARY;
    if (call) {
        answer_error(call, &err);
        control_answer(control, call);
    }
}

static void overtaken(Switchover *it)
{
    Error err;
    Control *control = it->job.control;
    error_set(&err, SQLSTATE_OBJECT_NOT_READY, "shard %s: %s", shard_name(it),
              control->roles[it->shard].primary == NO_PRIMARY ? "its primary has become a standby"
                                                              : "another server has become the primary");
    error_hint(&err, "SHOW REPLICAS tells who it is now.");
    job_end(&it->job, it->job.call ? &err : NULL);
}

static void switchover_on_time(Timer *timer)
{
    Switchover *it = timer->ctx;
    timer_start_ms(timer, LOOK_MS);
    if (it->state == SWITCH_PROMOTING || it->state == SWITCH_FINDING)
        look_after_promotion(it);
    else if (is_overtaken(it))
        overtaken(it);
    else
        look_before_promotion(it);
}

/* ---- commands ------------------------------------------------------------------------------------------ */

static bool find_shard(const Control *control, const char *name, uint32_t *ret, Error *err)
{
    for (uint32_t i = 0; i < control->config->shard_count; i++)
        if (strcmp(control->config->shards[i].name, name) == 0) {
            *ret = i;
            return true;
        }
    error_set(err, SQLSTATE_UNDEFINED_OBJECT, "there is no shard \"%s\"", name);
    error_hint(err, "SHOW SHARDS lists them.");
    return false;
}

/* "s0/replica1", or "replica1" of that shard. */
static bool find_server(const Control *control, uint32_t shard, const char *name, uint32_t *ret, Error *err)
{
    for (uint32_t i = 0; i < control->config->server_count; i++) {
        const ServerConfig *server = control->config->servers[i];
        const char *slash = strchr(server->name, '/');
        if (server->shard == shard && (strcmp(server->name, name) == 0 || (slash && strcmp(slash + 1, name) == 0))) {
            *ret = i;
            return true;
        }
    }
    error_set(err, SQLSTATE_UNDEFINED_OBJECT, "shard %s has no server \"%s\"", control->config->shards[shard].name, name);
    error_hint(err, "SHOW REPLICAS lists them.");
    return false;
}

/* What makes it impossible to begin. */
static bool may_begin(Control *control, uint32_t shard, Error *err)
{
    const char *name = control->config->shards[shard].name;
    if (switchover_find(control, shard) || control->primaries[shard] == NO_PRIMARY) {
        error_set(err, SQLSTATE_OBJECT_IN_USE, "shard %s is paused, or has no primary now", name);
        error_hint(err, "RESUME %s ends a pause.", name);
        return false;
    }
    if (!control->config->shards[shard].replica_count || !control->probes.servers) {
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "shard %s has no replicas", name);
        return false;
    }
    if (moves_any(control) || control->distribute || control->shard_joining) {
        error_set(err, SQLSTATE_OBJECT_IN_USE, "moves are under way, a table is being distributed, or a shard joins");
        error_hint(err, "Their replication slots would be lost with the old primary. Try again when it is done.");
        return false;
    }
    return true;
}

bool console_pause(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err)
{
    uint32_t shard;
    if (arguments->count != 1) {
        error_set(err, SQLSTATE_SYNTAX_ERROR, "PAUSE takes the name of a shard");
        return false;
    }
    return find_shard(control, arguments->words[0], &shard, err) && may_begin(control, shard, err) &&
           switchover_start(control, call, shard, NO_PRIMARY, err);
}

/* Workers that woke up and do not hear all of its servers wait until somebody knows (router/doubt.h). False:
 * they answer, so nobody is in doubt. */
static bool vouch(Control *control, uint32_t shard)
{
    uint32_t primary = control->primaries[shard];
    bool silent = false;
    for (uint32_t i = 0; control->probes.servers && i < control->probes.count; i++)
        silent |= control->config->servers[i]->shard == shard && control->probes.servers[i].state != HEALTH_UP;
    if (!silent || primary == NO_PRIMARY || !control->config->shards[shard].replica_count)
        return false;
    char text[200];
    snprintf(text, sizeof text, "shard %s: %s is the primary, says RESUME", control->config->shards[shard].name,
             control->config->servers[primary]->name);
    control_event(control, LOG_WARNING, "failover", text);
    probes_vouch(&control->probes, primary);
    return true;
}

bool console_resume(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err)
{
    uint32_t shard;
    if (arguments->count != 1) {
        error_set(err, SQLSTATE_SYNTAX_ERROR, "RESUME takes the name of a shard");
        return false;
    }
    if (!find_shard(control, arguments->words[0], &shard, err))
        return false;
    Switchover *it = switchover_find(control, shard);
    if (!it && vouch(control, shard)) {
        answer_done(call, "RESUME");
        control_answer(control, call);
        return true;
    }
    if (!it || it->state != SWITCH_PAUSED) {
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "shard %s is not paused", arguments->words[0]);
        return false;
    }
    tell(it, LOG_INFO, "resumed");
    failover_resume(control, shard);
    job_end(&it->job, NULL);
    answer_done(call, "RESUME");
    control_answer(control, call);
    return true;
}

bool console_switchover(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                        Error *err)
{
    uint32_t shard, target;
    if (arguments->count != 3 || strcmp(arguments->words[1], "to") != 0) {
        error_set(err, SQLSTATE_SYNTAX_ERROR, "SWITCHOVER takes a shard and a server");
        error_hint(err, "SWITCHOVER s0 TO s0/replica1");
        return false;
    }
    if (!find_shard(control, arguments->words[0], &shard, err) ||
        !find_server(control, shard, arguments->words[2], &target, err) || !may_begin(control, shard, err))
        return false;
    const ServerHealth *health = &control->probes.servers[target];
    if (target == control->primaries[shard] || health->state != HEALTH_UP || !health->in_recovery ||
        health->replay_paused) {
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "%s is not a standby that could take over", health->server->name);
        error_detail(err, "It is %s%s.", target == control->primaries[shard] ? "the primary" : health_state_name(health->state),
                     health->replay_paused ? ", and its replay is paused" : "");
        error_hint(err, "SHOW REPLICAS tells more.");
        return false;
    }
    return switchover_start(control, call, shard, target, err);
}
