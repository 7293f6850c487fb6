/*
 * read.c - one read's way through one or more servers.
 *
 *      frames ──> held (up to READ_HOLD_MAX) ──complete──> encode ──> client      the others: let go
 *                      │
 *                      ├─ error another server might not have, or lost: drop it, again elsewhere
 *                      └─ too long to hold: from here on this attempt is the answer, whatever comes
 *
 * Nobody hears a word of an attempt before it has won. A loser that has run for a short time is left to
 * finish on its own connection: cancelling costs the server more than the rest of a short read.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "core/clock.h"
#include "router/encode.h"
#include "router/reads.h"
#include "router/worker_state.h"
#include "wire/backend.h"

#define SHORT_US     ((uint64_t)100 * 1000) /* a loser younger than this is not cancelled */
#define RESCUE_MS    20                     /* how often reads on servers that went down are looked for */

static Reads *reads_of(const Read *read)
{
    return read->request->session->worker->reads;
}

static ReadServer *server_of(const Attempt *attempt)
{
    return &reads_of(attempt->read)->servers[attempt->server];
}

/* ---- accounts ------------------------------------------------------------------------------------------ */

static void attempt_open(Attempt *attempt, uint64_t now_us)
{
    Reads *reads = reads_of(attempt->read);
    ReadServer *server = server_of(attempt);
    attempt->active = true;
    attempt->started_us = now_us;
    attempt->read->asked++;
    server->inflight++;
    reads->primary_reads += attempt->fallback;
    counter_add(&server->reads, 1);
    counter_add(&server->hedges, attempt->kind == ATTEMPT_HEDGE);
    counter_add(&server->copies, attempt->kind == ATTEMPT_COPY);
    breaker_begin(&server->breaker);
}

static void note_latency(ReadServer *server, uint64_t took_us, uint64_t now_us)
{
    uint64_t before_us = reads_latency_us(server, now_us); /* else one that has recovered is tried once in seven seconds */
    server->latency_us = before_us ? (7 * before_us + took_us) / 8 : took_us;
    server->latency_at_us = now_us;
    server->samples += server->samples < READ_SAMPLES_MIN;
}

typedef enum AttemptEnd { ATTEMPT_ANSWERED, ATTEMPT_FAILED, ATTEMPT_LET_GO } AttemptEnd;

static void attempt_close(Attempt *attempt, AttemptEnd end)
{
    Reads *reads = reads_of(attempt->read);
    ReadServer *server = server_of(attempt);
    /* Opening a connection says nothing of how quick the server's reads are. */
    uint64_t now_us = clock_now_us(), from_us = MAX(attempt->started_us, attempt->task->sent_us);
    uint64_t took_us = now_us - MIN(from_us, now_us);
    BreakerLimits limits = reads_breaker_limits(reads);
    assert(attempt->active);
    attempt->active = false;
    server->inflight--;
    reads->primary_reads -= attempt->fallback;
    if (end == ATTEMPT_LET_GO) {
        note_latency(server, took_us * 2, now_us); /* it would have taken longer still */
        breaker_forget(&server->breaker);
        return;
    }
    breaker_end(&server->breaker, &limits, now_us, end == ATTEMPT_ANSWERED, took_us);
    if (end == ATTEMPT_FAILED) {
        counter_add(&server->failures, 1);
        return;
    }
    note_latency(server, took_us, now_us);
    if (attempt->read->may_hedge)
        quantile_add(&reads->shards[attempt->read->shard].quantile, took_us,
                     worker_config(reads->worker)->hedge_percentile);
}

/* ---- the end of others ------------------------------------------------------------------------------------ */

static void attempt_let_go(Attempt *attempt)
{
    Worker *worker = attempt->read->request->session->worker;
    buf_finish(&attempt->held); /* also of one that failed before */
    if (!attempt->active)
        return;
    bool young = clock_now_us() - attempt->started_us < SHORT_US;
    attempt_close(attempt, ATTEMPT_LET_GO);
    if (attempt->batched)
        batcher_abandon(worker->batcher, attempt->task);
    else if (young)
        task_leave(attempt->task);
    else
        task_abandon(attempt->task);
}

static void let_others_go(Read *read, const Attempt *but)
{
    for (uint32_t i = 0; i < read->attempt_count; i++)
        if (&read->attempts[i] != but)
            attempt_let_go(&read->attempts[i]);
}

static bool others_active(const Read *read, const Attempt *but)
{
    for (uint32_t i = 0; i < read->attempt_count; i++)
        if (&read->attempts[i] != but && read->attempts[i].active)
            return true;
    return false;
}

/* ---- again, elsewhere ------------------------------------------------------------------------------------- */

/* A fresh attempt with a task of its own. */
static bool attempt_add(Read *read, uint32_t server, AttemptKind kind, bool fallback)
{
    Request *request = read->request;
    Pool *pool = reads_server_pool(request, server);
    if (!pool || read->attempt_count == READ_ATTEMPTS_MAX)
        return false;
    Attempt *attempt = &read->attempts[read->attempt_count];
    read_start(read, server, fallback);
    attempt->kind = kind;
    attempt->task = &attempt->own;
    task_init(&attempt->own, &attempt->sink, request->steps, request->step_count);
    attempt->own.gucs = request->task.gucs;
    attempt->own.holder = request->session;
    attempt->own.read_only = true;
    attempt_open(attempt, clock_now_us());
    pool_submit(pool, &attempt->own);
    return true;
}

/* The request's own task goes round again, so that it may also begin a transaction. */
static bool attempt_again(Attempt *attempt, uint32_t server, bool fallback)
{
    Request *request = attempt->read->request;
    Pool *pool = reads_server_pool(request, server);
    if (!pool)
        return false;
    attempt->server = server;
    attempt->fallback = fallback;
    attempt->failed = attempt->primary_only = attempt->batched = false;
    if (attempt->task == &request->task)
        request->batched = false;
    GucVector *gucs = attempt->task->gucs;
    task_init(attempt->task, &attempt->sink, request->steps, request->step_count);
    attempt->task->gucs = gucs;
    attempt->task->holder = request->session;
    attempt->task->read_only = attempt->read->may_hedge;
    attempt_open(attempt, clock_now_us());
    pool_submit(pool, attempt->task);
    return true;
}

/* The attempt brought nothing that counts. True: another one is on its way, or was already. */
static bool rerun(Attempt *attempt)
{
    Read *read = attempt->read;
    Reads *reads = reads_of(read);
    const Topology *topology = reads->worker->topology;
    uint32_t primary = topology->primaries[read->shard];
    if (others_active(read, attempt))
        return true;
    if (read->request->task.cancelled)
        return false;
    /* What only the primary can tell costs one question more at most; the rest is budgeted. */
    if (!attempt->primary_only && !budget_spend(&reads->reruns)) {
        read->denied = READ_DENIED_BUDGET;
        return false;
    }
    ReadRefusal refusal;
    uint32_t server = attempt->primary_only ? NO_SERVER : reads_choose(reads, read, &refusal);
    bool fallback = server == NO_SERVER;
    if (fallback)
        server = primary;
    if (server == NO_PRIMARY || (fallback && (attempt->server == primary || doubt_about(reads->worker, read->shard)))) {
        read->denied = READ_DENIED_NO_SERVER;
        return false;
    }
    counter_add(&reads->servers[attempt->server].reruns, 1);
    buf_reset(&attempt->held);
    return attempt_again(attempt, server, fallback);
}

/* ---- what the servers say ------------------------------------------------------------------------------------ */

static Attempt *attempt_of(Sink *sink)
{
    return container_of(sink, Attempt, sink);
}

/* What is said beside its error, if that is the end. */
static ReadDenial denial_of(const Attempt *attempt)
{
    const Config *config = worker_config(reads_of(attempt->read)->worker);
    return (ReadDenial){.reason = attempt->read->denied,
                        .asked = attempt->read->asked,
                        .server = config->servers[attempt->server]->name,
                        .retry_percent = config->retry_max};
}

static void answer_frame(Attempt *attempt, const Frame *frame)
{
    ReadDenial denial = denial_of(attempt);
    Frame told;
    Buf buf;
    buf_init(&buf, READ_HOLD_MAX);
    if (attempt->failed && frame->type == BACKEND_ERROR && read_denial_put(&denial, frame, &buf, &told))
        frame = &told;
    ENCODE_OPS.on_frame(&attempt->read->request->sink, attempt->task, frame);
    buf_finish(&buf);
}

/* Its held frames go to the client; the others are let go. From now on it is the answer. */
static void attempt_win(Attempt *attempt)
{
    Read *read = attempt->read;
    read->winner = attempt;
    list_remove(&read->link);
    let_others_go(read, attempt);
    if (attempt->kind == ATTEMPT_HEDGE)
        counter_add(&server_of(attempt)->hedge_wins, 1);
    Buf held = attempt->held;
    buf_init(&attempt->held, READ_HOLD_MAX);
    Frame frame;
    Error err;
    for (Slice rest = buf_bytes(&held); frame_next(rest, SIZE_MAX, &frame, &err) == WIRE_OK;
         rest = slice_from(rest, frame.whole.len))
        answer_frame(attempt, &frame);
    buf_finish(&held);
}

/* Could it have gone well elsewhere? 42: what is not there may not have been replayed yet. */
bool reads_may_differ(const Frame *frame, bool *ret_primary_only)
{
    ErrorResponse response;
    Error err;
    *ret_primary_only = false;
    if (backend_read_error(frame->body, &response, &err) != WIRE_OK)
        return false;
    Slice state = response.sqlstate;
    bool conflict = slice_is(state, "40001") || slice_is(state, "40P01");
    bool behind = state.len == 5 && (memcmp(state.data, "42", 2) == 0 || memcmp(state.data, "3F", 2) == 0);
    bool standby = slice_is(state, "25006") || slice_is(state, "55000") || slice_is(state, "0A000");
    *ret_primary_only = behind || standby;
    return conflict || behind || standby;
}

static void judge_error(Attempt *attempt, const Frame *frame)
{
    const Topology *topology = attempt->read->request->session->worker->topology;
    if (attempt->server != topology->primaries[attempt->read->shard])
        attempt->failed = reads_may_differ(frame, &attempt->primary_only);
}

static void read_on_frame(Sink *sink, Task *task, const Frame *frame)
{
    Attempt *attempt = attempt_of(sink);
    Read *read = attempt->read;
    if (read->winner == attempt) {
        ENCODE_OPS.on_frame(&read->request->sink, task, frame);
        return;
    }
    if (frame->type == BACKEND_ERROR)
        judge_error(attempt, frame);
    if (!attempt->failed && buf_len(&attempt->held) + frame->whole.len > READ_HOLD_MAX) {
        attempt_win(attempt);
        ENCODE_OPS.on_frame(&read->request->sink, task, frame);
        return;
    }
    buf_append(&attempt->held, frame->whole);
}

static void read_on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    Attempt *attempt = attempt_of(sink);
    Read *read = attempt->read;
    Request *request = read->request;
    if (!last) {
        if (read->winner != attempt)
            attempt_win(attempt);
        ENCODE_OPS.on_ready(&request->sink, task, tx_status, last);
        return;
    }
    bool failed = attempt->failed && read->winner != attempt;
    attempt_close(attempt, failed && !attempt->primary_only ? ATTEMPT_FAILED : ATTEMPT_ANSWERED);
    if (failed && rerun(attempt))
        return;
    if (read->winner != attempt)
        attempt_win(attempt);
    ENCODE_OPS.on_ready(&request->sink, task, tx_status, last);
}

static void read_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    Attempt *attempt = attempt_of(sink);
    Read *read = attempt->read;
    attempt_close(attempt, ATTEMPT_FAILED);
    if (read->winner != attempt && !error_is(err, SQLSTATE_QUERY_CANCELED) && rerun(attempt))
        return;
    buf_finish(&attempt->held);
    list_remove(&read->link);
    let_others_go(read, attempt);
    Error told = *err;
    ReadDenial denial = denial_of(attempt);
    read_denial_add(&denial, &told);
    ENCODE_OPS.on_lost(&read->request->sink, task, &told, maybe_executed);
}

static const SinkOps READ_OPS = {
    .on_frame = read_on_frame,
    .on_ready = read_on_ready,
    .on_lost = read_on_lost,
};

/* ---- beginning ------------------------------------------------------------------------------------------------ */

void read_start(Read *read, uint32_t server, bool fallback)
{
    assert(read->attempt_count < READ_ATTEMPTS_MAX);
    Attempt *attempt = &read->attempts[read->attempt_count++];
    *attempt = (Attempt){.sink = {.ops = &READ_OPS}, .read = read, .server = server, .fallback = fallback};
    attempt->task = &read->request->task;
    buf_init(&attempt->held, READ_HOLD_MAX + 8192); /* an error may follow what is held already */
}

Sink *reads_sink(Request *request)
{
    return request->read ? &request->read->attempts[0].sink : &request->sink;
}

static void ask_copies(Read *read)
{
    ReadRefusal refusal;
    for (uint32_t i = 1; i < read->copies && i < READ_ATTEMPTS_MAX; i++) {
        uint32_t server = reads_choose(reads_of(read), read, &refusal);
        if (server == NO_SERVER || !attempt_add(read, server, ATTEMPT_COPY, false))
            return;
    }
}

static void arm(Reads *reads)
{
    if (!timer_armed(&reads->timer) && !list_empty(&reads->active))
        timer_start_ms(&reads->timer, 1);
}

void reads_begin(Request *request)
{
    Read *read = request->read;
    if (!read)
        return;
    Reads *reads = reads_of(read);
    const Config *config = worker_config(reads->worker);
    read->started_us = clock_now_us();
    read->attempts[0].batched = request->batched;
    budget_earn(&reads->reruns, config->retry_max);
    budget_earn(&reads->hedges, config->hedge_max);
    attempt_open(&read->attempts[0], read->started_us);
    list_push(&reads->active, &read->link);
    ask_copies(read);
    arm(reads);
}

/* ---- hedging and rescue --------------------------------------------------------------------------------------- */

/* All its servers have gone silent. */
static bool is_stranded(const Read *read, const Standings *standings)
{
    bool any = false;
    for (uint32_t i = 0; i < read->attempt_count; i++) {
        if (!read->attempts[i].active)
            continue;
        any = true;
        if (standing_get(standings, read->attempts[i].server).state != HEALTH_DOWN)
            return false;
    }
    return any;
}

static void hedge(Reads *reads, Read *read, bool rescue)
{
    ReadRefusal refusal;
    uint32_t server = reads_choose(reads, read, &refusal);
    bool fallback = server == NO_SERVER;
    if (fallback && rescue) /* an ordinary hedge never burdens the primary */
        server = reads->worker->topology->primaries[read->shard];
    if (server == NO_SERVER || (fallback && doubt_about(reads->worker, read->shard)))
        return;
    if (!budget_spend(rescue ? &reads->reruns : &reads->hedges))
        return;
    if (attempt_add(read, server, rescue ? ATTEMPT_RESCUE : ATTEMPT_HEDGE, fallback) && rescue)
        counter_add(&reads->servers[read->attempts[0].server].reruns, 1);
}

/* The tail is cut: any replica answers, if that was allowed; else the client is told, and nobody works on. */
static void read_late(Reads *reads, Read *read)
{
    Request *request = read->request;
    Error err;
    read->deadline_us = 0;
    if (read->late_stale && read->promise.consistency != READ_EVENTUAL) {
        ReadRefusal refusal;
        read->promise.consistency = READ_EVENTUAL;
        uint32_t server = reads_choose(reads, read, &refusal);
        if (server != NO_SERVER && attempt_add(read, server, ATTEMPT_RESCUE, false)) {
            counter_add(&reads->late_stale, 1);
            return;
        }
    }
    counter_add(&reads->late, 1);
    error_set(&err, SQLSTATE_QUERY_CANCELED, "canceling statement due to shoal.deadline");
    error_detail(&err, "No server has answered within %" PRIu64 " ms.", (clock_now_us() - read->started_us) / 1000);
    error_hint(&err, "Ask again later, allow more time, or data of any age: SET shoal.deadline = 'p99 stale'.");
    list_remove(&read->link);
    bool batched = read->attempts[0].batched && read->attempts[0].active && read->attempts[0].task == &request->task;
    for (uint32_t i = 0; i < read->attempt_count; i++) {
        Attempt *attempt = &read->attempts[i];
        if (attempt->active && attempt->task == &request->task) {
            attempt_close(attempt, ATTEMPT_LET_GO);
            buf_finish(&attempt->held);
            if (batched)
                batcher_abandon(request->session->worker->batcher, &request->task);
            else
                task_abandon(&request->task);
        } else {
            attempt_let_go(attempt);
        }
    }
    ENCODE_OPS.on_lost(&request->sink, &request->task, &err, false);
}

static void read_look(Reads *reads, Read *read, const Config *config, uint64_t now_us)
{
    if (read->deadline_us && now_us >= read->deadline_us && !read->winner) {
        read_late(reads, read);
        return;
    }
    uint64_t delay_us = quantile_us(&reads->shards[read->shard].quantile);
    const Topology *topology = reads->worker->topology;
    if (!read->may_hedge || read->winner || read->attempt_count == READ_ATTEMPTS_MAX)
        return;
    bool late = config->hedge && delay_us && now_us - read->started_us >= delay_us;
    if (late && !read->hedged && read->attempt_count == 1 && !read->attempts[0].fallback) {
        read->hedged = true;
        hedge(reads, read, false);
    } else if (is_stranded(read, topology->standings)) {
        hedge(reads, read, true);
    }
}

void reads_on_time(Timer *timer)
{
    Reads *reads = timer->ctx;
    const Config *config = worker_config(reads->worker);
    uint64_t now_us = clock_now_us();
    bool young = false; /* some read is not hedged yet: look again soon */
    LIST_EACH_SAFE (link, &reads->active) {
        Read *read = list_entry(link, Read, link);
        bool dated = read->deadline_us;
        read_look(reads, read, config, now_us);
        if (dated && !read->deadline_us && !list_linked(link))
            continue; /* it has ended, and may be gone */
        young |= (read->may_hedge && !read->hedged && config->hedge) || read->deadline_us;
    }
    if (!list_empty(&reads->active))
        timer_start_ms(timer, young ? 1 : RESCUE_MS);
}

/* ---- from above ------------------------------------------------------------------------------------------------- */

void reads_cancel(Request *request)
{
    Read *read = request->read;
    for (uint32_t i = 1; read && i < read->attempt_count; i++)
        if (read->attempts[i].active)
            task_cancel(read->attempts[i].task);
}

/* Before the request's own task is abandoned by who calls this. */
void reads_abandon(Request *request)
{
    Read *read = request->read;
    if (!read)
        return;
    list_remove(&read->link);
    for (uint32_t i = 0; i < read->attempt_count; i++) {
        Attempt *attempt = &read->attempts[i];
        if (attempt->active && attempt->task == &request->task)
            attempt_close(attempt, ATTEMPT_LET_GO);
        else
            attempt_let_go(attempt);
        buf_finish(&attempt->held);
    }
}

void reads_resume(Request *request)
{
    Read *read = request->read;
    if (read && read->winner && read->winner->active && read->winner->task->backend)
        backend_resume(read->winner->task->backend);
}
