/*
 * resolve.c - one question about one transaction, asked until somebody answers or the time is up.
 */
#include "admin/resolve.h"

#include <stdlib.h>

#include "admin/catalog_loader.h"
#include "admin/control_state.h"

#define RETRY_MS       200
#define RUN_TIMEOUT_MS 5000

typedef struct ResolveJob {
    Job job;
    PgClient client;
    Timer timer;
    uint32_t database, shard;
    uint64_t deadline_us;
    const char *gid; /* in the call's arena */
    PgQuery queries[2];
} ResolveJob;

static void resolve_ask(ResolveJob *job);
static bool resolve_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void resolve_on_done(PgClient *client, const Error *err);

static const PgClientEvents EVENTS = {.on_result = resolve_on_result, .on_done = resolve_on_done};

static const char TOMBSTONE_SQL[] =
    "INSERT INTO shoal.decision (gid, commit) VALUES ($1, false) ON CONFLICT DO NOTHING";
static const char STANDS_SQL[] = "SELECT commit FROM shoal.decision WHERE gid = $1";

static void resolve_on_free(Job *base)
{
    ResolveJob *job = container_of(base, ResolveJob, job);
    timer_stop(&job->timer);
    pg_client_close(&job->client);
    free(job);
}

static void resolve_on_time(Timer *timer)
{
    resolve_ask(timer->ctx);
}

static bool find_decider(const Control *control, const Call *call, Slice gid, ResolveJob *job)
{
    const DatabaseConfig *database = config_database(control->config, slice_str(call->database));
    GidParts parts = gid_read(&control->gid, gid);
    for (uint32_t i = 0; database && parts.owner == GID_OWN && i < database->shard_count; i++) {
        if (slice_is(parts.shard, control->config->shards[database->shards[i]].name)) {
            job->database = database->index;
            job->shard = database->shards[i];
            return true;
        }
    }
    return false;
}

void resolve_call(Control *control, Call *call)
{
    ResolveJob *job = calloc(1, sizeof *job);
    call->outcome = CALL_UNKNOWN;
    if (job)
        job->gid = arena_text(&call->arena, call->gid);
    if (!job || !job->gid || !find_decider(control, call, call->gid, job)) {
        free(job);
        control_answer(control, call);
        return;
    }
    job_start(&job->job, control, call, resolve_on_free);
    pg_client_init(&job->client, &control->loop, &EVENTS, job);
    timer_init(&job->timer, &control->loop, resolve_on_time, job);
    job->deadline_us = control->loop.now_us + (uint64_t)call->deadline_ms * 1000;
    job->queries[0] = (PgQuery){TOMBSTONE_SQL, &job->gid, 1};
    job->queries[1] = (PgQuery){STANDS_SQL, &job->gid, 1};
    resolve_ask(job);
}

static void resolve_ask(ResolveJob *job)
{
    const Control *control = job->job.control;
    const Config *config = control->config;
    uint64_t now_us = control->loop.now_us;
    if (now_us >= job->deadline_us) {
        job_end(&job->job, NULL);
        return;
    }
    PgLogin login = control_login(config, &config->databases[job->database], control_primary(control, job->shard));
    uint64_t left_ms = (job->deadline_us - now_us) / 1000 + 1;
    pg_client_run(&job->client, &login, job->queries, 2, MIN(left_ms, RUN_TIMEOUT_MS));
}

static bool resolve_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    ResolveJob *job = client->ctx;
    if (index == 1 && PQntuples(rows) == 1)
        job->job.call->outcome = pg_bool(rows, 0, 0) ? CALL_COMMITTED : CALL_ABORTED;
    return true;
}

static void resolve_on_done(PgClient *client, const Error *err)
{
    ResolveJob *job = client->ctx;
    if (job->job.call->outcome != CALL_UNKNOWN) {
        job_end(&job->job, NULL);
        return;
    }
    timer_start_ms(&job->timer, RETRY_MS);
}
