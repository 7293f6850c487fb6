/*
 * latency.c - stamps become stages when the answer's last byte has been given to the kernel.
 *
 *     drop_ended ──> leaving: [slow ... | of this turn ...] ──flush──> histograms
 *
 * An answer is out when the stream has written as many bytes as were in its buffer when the request
 * left. Nearly all go out with the flush of the same turn; those of slow clients stay in front and
 * are looked at once a millisecond, so that a thousand of them do not cost every turn.
 */
#include "router/latency.h"

#include <stdlib.h>

#include "core/clock.h"
#include "router/worker_state.h"

#define LEAVING_MAX  65536u /* beyond it the last stage is not waited for */
#define SLOW_LOOK_US 1000

static const char *const STAGES[LATENCY_STAGE_COUNT] = {
    [LATENCY_READ] = "read",     [LATENCY_ORDER] = "order",   [LATENCY_PLAN] = "plan",
    [LATENCY_QUEUE] = "queue",   [LATENCY_SERVER] = "server", [LATENCY_SPLIT] = "split",
    [LATENCY_WRITE] = "write",   [LATENCY_TOTAL] = "total",
};
static const char *const PATHS[LATENCY_PATH_COUNT] = {
    [LATENCY_BATCHED] = "batched", [LATENCY_DIRECT] = "direct",
    [LATENCY_SCATTER] = "scatter", [LATENCY_LOCAL] = "local"};

const char *latency_stage_name(LatencyStage stage)
{
    return STAGES[stage];
}

const char *latency_path_name(LatencyPath path)
{
    return PATHS[path];
}

void latency_on_answer(Request *request, const Task *task)
{
    LatencyTimes *times = &request->times;
    if (task->sent_us && (!times->sent_us || task->sent_us < times->sent_us))
        times->sent_us = task->sent_us;
    times->tasks++;
    times->answered_us = MAX(times->answered_us, request->session->worker->loop.now_us);
}

/* Stamps come from two clocks that are read at different moments (the turn's start, and now), and
 * some are missing: each is at least the one before it. */
static void stages_record(LatencyStats *stats, LatencyPath path, const LatencyTimes *t,
                          uint64_t written_us)
{
    const uint64_t ends[LATENCY_TOTAL] = {t->seen_us, t->turn_us,     t->planned_us, t->sent_us,
                                          t->answered_us, t->ended_us, written_us};
    Histogram *of = stats->of[path];
    uint64_t at = t->arrived_us;
    bool to_server = t->sent_us != 0;
    for (int stage = LATENCY_READ; stage < LATENCY_TOTAL; stage++) {
        uint64_t end = MAX(ends[stage], at);
        bool skipped = !to_server && (stage == LATENCY_QUEUE || stage == LATENCY_SERVER);
        if (!skipped)
            histogram_add(&of[stage], end - at);
        at = end;
    }
    histogram_add(&of[LATENCY_TOTAL], at - t->arrived_us);
}

static LatencyPath path_of(const Request *request)
{
    if (request->batched)
        return LATENCY_BATCHED;
    if (request->times.tasks > 1)
        return LATENCY_SCATTER;
    return request->times.sent_us ? LATENCY_DIRECT : LATENCY_LOCAL;
}

static bool room_for_one(LatencyLog *log)
{
    if (log->count < log->room)
        return true;
    uint32_t room = log->room ? log->room * 2 : 64;
    if (room > LEAVING_MAX)
        return false;
    LatencyLeaving *leaving = realloc(log->leaving, room * sizeof *leaving);
    if (!leaving)
        return false;
    log->leaving = leaving;
    log->room = room;
    return true;
}

void latency_on_leave(Request *request)
{
    Session *session = request->session;
    Worker *worker = session->worker;
    LatencyLog *log = &worker->latency;
    LatencyTimes *times = &request->times;
    if (!times->planned_us && !times->sent_us) /* answered while it was planned */
        times->planned_us = times->ended_us;
    if (!room_for_one(log)) {
        stages_record(&worker->stats.latency, path_of(request), times, times->ended_us);
        return;
    }
    log->leaving[log->count++] =
        (LatencyLeaving){.session = session,
                         .mark = session->stream.bytes_out + buf_len(&session->stream.out),
                         .times = *times,
                         .path = path_of(request)};
    session->leaving++;
}

/* Records those from `from` on that are out; the others move to the front. */
static uint32_t sweep(LatencyLog *log, LatencyStats *stats, uint32_t from, uint32_t to,
                      uint32_t keep_at, uint64_t now_us)
{
    for (uint32_t i = from; i < to; i++) {
        LatencyLeaving *leaving = &log->leaving[i];
        if (!leaving->session)
            continue;
        if (leaving->session->stream.bytes_out < leaving->mark) {
            log->leaving[keep_at++] = *leaving;
            continue;
        }
        leaving->session->leaving--;
        stages_record(stats, leaving->path, &leaving->times, now_us);
    }
    return keep_at;
}

void latency_on_flushed(LatencyLog *log, LatencyStats *stats)
{
    if (log->count == 0)
        return;
    uint64_t now_us = clock_now_us();
    uint32_t kept = log->slow;
    if (log->slow && now_us - log->looked_us >= SLOW_LOOK_US) {
        kept = sweep(log, stats, 0, log->slow, 0, now_us);
        log->looked_us = now_us;
    }
    log->count = sweep(log, stats, log->slow, log->count, kept, now_us);
    log->slow = log->count;
}

void latency_forget(LatencyLog *log, const Session *session)
{
    for (uint32_t i = 0; session->leaving && i < log->count; i++)
        if (log->leaving[i].session == session)
            log->leaving[i].session = NULL;
}

void latency_finish(LatencyLog *log)
{
    free(log->leaving);
    *log = (LatencyLog){0};
}
