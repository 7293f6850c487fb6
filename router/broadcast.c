/*
 * broadcast.c - the shards in turn, then the commits in turn.
 *
 *   phase     leg = the shard at work     on success          on failure
 *   RUN       BEGIN; ddl                  next leg, COMMIT    ROLLBACK
 *   COMMIT    COMMIT                      next leg, end       ROLLBACK of the rest, told which are done
 *
 * A cancel request reaches the leg at work, up to the first COMMIT. A client that goes before that takes
 * the DDL with it; later the commits are carried through without it (adrift), so that the shards agree.
 */
#include "router/broadcast.h"

#include <stdio.h>
#include <stdlib.h>

#include "router/effect.h"
#include "router/encode.h"
#include "router/local.h"
#include "router/worker_state.h"
#include "wire/backend.h"

#define ANSWER_MAX ((size_t)1 << 20)

typedef enum BroadcastPhase { BROADCAST_RUN, BROADCAST_COMMIT } BroadcastPhase;

struct Broadcast {
    Holder holder; /* first member */
    Request *request; /* NULL: adrift */
    Worker *worker;
    List adrift_link; /* worker.adrift */
    Arena arena;
    GucVector *gucs;   /* of the session; a reference */
    Call *reread; /* adrift: what the control thread must know at the end */
    Sink sink;
    Task task;
    TaskStep steps[2];
    bool task_active;
    bool alone;
    BroadcastPhase phase;
    uint32_t leg, leg_count;
    const char **names; /* per leg: the shard's */
    const uint32_t *shards;
    Backend **held;         /* per leg: connection with the open transaction */
    Slice begin, ddl, commit; /* whole Query frames */
    Buf answer; /* frames for the client: notices and the tag of the first leg, or the error */
    bool failed;
    uint32_t committed; /* legs whose COMMIT (or statement, when alone) succeeded */
};

static void leg_run(Broadcast *b);
static void broadcast_end(Broadcast *b);

static Slice query_frame(Arena *arena, Slice sql)
{
    Buf buf;
    buf_init(&buf, sql.len + 64);
    frontend_put_query(&buf, sql);
    Slice frame = buf.failed ? (Slice){0} : arena_dup(arena, buf_bytes(&buf));
    buf_finish(&buf);
    return frame;
}

static const char *leg_name(const Broadcast *b, uint32_t leg)
{
    return b->names[leg]; /* as it was at the start: the configuration may change meanwhile */
}

/* Replaces the answer by an error; the first one counts. */
static void fail(Broadcast *b, const Error *err)
{
    if (b->failed)
        return;
    b->failed = true;
    buf_reset(&b->answer);
    backend_put_error(&b->answer, SEVERITY_ERROR, err);
}

/* ---- answers from the shard at work -------------------------------------------------------------- */

static void broadcast_on_frame(Sink *sink, Task *task, const Frame *frame)
{
    Broadcast *b = container_of(sink, Broadcast, sink);
    (void)task;
    if (frame->type == BACKEND_ERROR) {
        if (!b->failed) {
            b->failed = true;
            buf_reset(&b->answer);
            buf_append(&b->answer, frame->whole);
        }
    } else if (b->leg == 0 && b->phase == BROADCAST_RUN && !b->failed) {
        buf_append(&b->answer, frame->whole);
    }
}

/* Some legs are done and others are not: the client must know which. */
static void tell_partial(Broadcast *b)
{
    char names[256] = "";
    Error err;
    if (!b->failed || b->committed == 0)
        return;
    for (uint32_t i = 0; i < b->committed; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", leg_name(b, i));
    }
    ErrorResponse first;
    Frame frame;
    Error ignored;
    if (frame_next(buf_bytes(&b->answer), SIZE_MAX, &frame, &ignored) != WIRE_OK ||
        backend_read_error(frame.body, &first, &ignored) != WIRE_OK)
        return;
    error_response_copy(&first, &err);
    error_detail(&err, "It failed on shard %s and is done on: %s.", leg_name(b, b->leg), names);
    error_hint(&err, "Put the cause right and run the statement again, with IF [NOT] EXISTS where it has it.");
    b->failed = false;
    fail(b, &err);
}

static void after_run(Broadcast *b)
{
    if (b->alone && !b->failed)
        b->committed++;
    if (!b->failed && ++b->leg < b->leg_count) {
        leg_run(b);
        return;
    }
    if (b->failed || b->alone) {
        broadcast_end(b);
        return;
    }
    b->phase = BROADCAST_COMMIT;
    b->leg = 0;
    leg_run(b);
}

static void after_commit(Broadcast *b)
{
    if (b->failed) {
        broadcast_end(b);
        return;
    }
    b->committed++;
    if (++b->leg < b->leg_count)
        leg_run(b);
    else
        broadcast_end(b);
}

static void broadcast_on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    Broadcast *b = container_of(sink, Broadcast, sink);
    if (!last)
        return;
    b->task_active = false;
    b->held[b->leg] = tx_status == TX_IDLE ? NULL : task->backend;
    if (b->phase == BROADCAST_RUN)
        after_run(b);
    else
        after_commit(b);
}

static void broadcast_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    Broadcast *b = container_of(sink, Broadcast, sink);
    (void)task;
    b->task_active = false;
    if (b->held[b->leg] && backend_state(b->held[b->leg]) == BACKEND_DEAD)
        b->held[b->leg] = NULL; /* otherwise it was refused before it was sent: rolled back below */
    Error told = *err;
    if (b->phase == BROADCAST_COMMIT && maybe_executed)
        memcpy(told.sqlstate, SQLSTATE_OUTCOME_UNKNOWN, 6);
    fail(b, &told);
    broadcast_end(b);
}

static const SinkOps BROADCAST_OPS = {
    .on_frame = broadcast_on_frame,
    .on_ready = broadcast_on_ready,
    .on_lost = broadcast_on_lost,
};

/* ---- driving ---------------------------------------------------------------------------------------- */

static void leg_run(Broadcast *b)
{
    uint32_t n = 0;
    if (b->phase == BROADCAST_COMMIT) {
        b->steps[n++] = (TaskStep){.op = TASK_QUERY, .frame = b->commit};
    } else {
        if (!b->alone)
            b->steps[n++] = (TaskStep){.op = TASK_QUERY, .frame = b->begin, .hidden = true};
        b->steps[n++] = (TaskStep){.op = TASK_QUERY, .frame = b->ddl};
    }
    task_init(&b->task, &b->sink, b->steps, n);
    b->task.gucs = b->gucs;
    b->task.holder = b;
    Backend *held = b->held[b->leg];
    if (b->phase == BROADCAST_COMMIT && !held) {
        Error err;
        error_set(&err, SQLSTATE_CONNECTION_FAILURE, "connection to shard %s was lost before COMMIT",
                  leg_name(b, b->leg));
        fail(b, &err);
        broadcast_end(b);
        return;
    }
    b->task_active = true;
    if (held) {
        backend_run(held, &b->task);
        return;
    }
    Session *session = b->request->session;
    Worker *worker = b->worker;
    const Config *config = worker_config(worker);
    const ServerConfig *primary = topology_primary(worker->topology, b->shards[b->leg]);
    Pool *pool = pool_get(worker->pools, primary ? primary : config->shards[b->shards[b->leg]].primary,
                          session_database(session, worker->topology),
                          config_user(config, slice_str(session->user)), slice_str(session->user));
    if (pool) {
        pool_submit(pool, &b->task);
        return;
    }
    b->task_active = false;
    Error err;
    error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    fail(b, &err);
    broadcast_end(b);
}

static void release_all(Broadcast *b)
{
    for (uint32_t i = 0; i < b->leg_count; i++)
        if (b->held[i])
            backend_release(b->held[i], false); /* rolls back what is open */
}

static void broadcast_free(Broadcast *b)
{
    buf_finish(&b->answer);
    guc_release(&b->worker->gucs, b->gucs);
    list_remove(&b->adrift_link);
    arena_finish(&b->arena);
    call_free(b->reread);
    free(b);
}

static void broadcast_end(Broadcast *b)
{
    Request *request = b->request;
    release_all(b);
    if (!request) {
        if (b->committed)
            inbox_send(b->worker->options.control, &b->reread->mail);
        if (b->committed)
            b->reread = NULL;
        broadcast_free(b);
        return;
    }
    tell_partial(b);
    request->broadcast = NULL;
    local_answer_catalog(request, buf_bytes(&b->answer), b->committed > 0);
    broadcast_free(b);
}

/* Ends it now, wherever it is. */
static void broadcast_drop(Broadcast *b)
{
    if (b->task_active)
        task_abandon(&b->task);
    b->task_active = false;
    b->committed = b->reread ? b->committed : 0;
    broadcast_end(b);
}

static bool broadcast_fill(Broadcast *b, Slice sql)
{
    Session *session = b->request->session;
    const Config *config = worker_config(b->worker);
    const DatabaseConfig *database = session_database(session, b->worker->topology);
    b->leg_count = database->shard_count;
    b->gucs = guc_retain(session_gucs(session));
    b->held = arena_array(&b->arena, Backend *, b->leg_count);
    b->names = arena_array(&b->arena, const char *, b->leg_count);
    b->shards = (const uint32_t *)(const void *)arena_dup(
                    &b->arena, slice_of(database->shards, database->shard_count * sizeof(uint32_t))).data;
    b->begin = query_frame(&b->arena, SLICE("BEGIN"));
    b->ddl = query_frame(&b->arena, sql);
    b->commit = query_frame(&b->arena, SLICE("COMMIT"));
    if (!b->held || !b->names || !b->shards || !b->begin.len || !b->ddl.len || !b->commit.len)
        return false;
    for (uint32_t i = 0; i < b->leg_count; i++)
        if (!(b->names[i] = arena_text(&b->arena, slice_str(config->shards[b->shards[i]].name))))
            return false;
    return true;
}

void broadcast_start(Request *request, Slice sql, bool alone)
{
    Session *session = request->session;
    Broadcast *b = calloc(1, sizeof *b);
    if (b) {
        *b = (Broadcast){.holder.kind = HOLDER_BROADCAST, .request = request, .worker = session->worker,
                         .sink.ops = &BROADCAST_OPS, .alone = alone};
        arena_init(&b->arena, 1024);
        list_init(&b->adrift_link);
        buf_init(&b->answer, ANSWER_MAX);
    }
    if (!b || !broadcast_fill(b, sql)) {
        Error err;
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        if (b)
            broadcast_free(b);
        local_error(request, &err, session->tx);
        return;
    }
    request_cut(request); /* what comes behind a Flush is another question */
    request->broadcast = b;
    leg_run(b);
}

void broadcast_cancel(Broadcast *b)
{
    if (b->phase == BROADCAST_RUN && b->task_active)
        task_cancel(&b->task);
}

void broadcast_abandon(Broadcast *b)
{
    bool committing = b->phase == BROADCAST_COMMIT && b->task_active;
    if (committing || b->committed)
        b->reread = local_catalog_call(b->request);
    b->request = NULL;
    if (committing && b->reread) {
        list_push(&b->worker->adrift, &b->adrift_link);
        return;
    }
    broadcast_drop(b);
}

void broadcast_drop_adrift(Worker *worker)
{
    List *link;
    while ((link = list_first(&worker->adrift))) {
        Broadcast *b = list_entry(link, Broadcast, adrift_link);
        b->committed = 0; /* nobody is there to be told */
        broadcast_drop(b);
    }
}

void broadcast_on_held_lost(Broadcast *b, Backend *backend)
{
    for (uint32_t i = 0; i < b->leg_count; i++)
        if (b->held[i] == backend)
            b->held[i] = NULL;
}
