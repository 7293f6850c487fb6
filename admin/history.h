/*
 * history.h - the last half hour in steps of five seconds, for those who come when it is over.
 *
 *     every 5 s: counters of all workers - the counters of 5 s ago = one Sample
 *     ring of 360 Samples  <── SHOW HISTORY, the web page's curves, SHOW HEALTH's "lately"
 *
 * Reads the workers' atomics; nobody is asked, nobody waits. Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_HISTORY_H
#define SHOAL_ADMIN_HISTORY_H

#include "core/loop.h"
#include "router/worker.h"

#define HISTORY_STEP_MS 5000
#define HISTORY_SAMPLES 360
#define HISTORY_MINUTE  12 /* steps */

typedef struct HistorySample {
    uint64_t at_wall_us, took_us;
    uint64_t clients; /* at its end */
    uint64_t statements, transactions, errors, internal_errors, batched, batches;
    uint64_t p50_us, p99_us, max_us; /* of whole requests to servers in this step; 0: none */
} HistorySample;

typedef struct History {
    Timer timer;
    Worker *const *workers; /* borrowed */
    uint32_t worker_count;
    HistorySample *samples;   /* owned ring of HISTORY_SAMPLES */
    uint32_t count, next;
    HistorySample totals;     /* counters at the last step */
    uint64_t step_us;         /* clock of the last step */
    LatencyStats *minute;     /* owned ring of HISTORY_MINUTE + 1 totals, newest at minute_at */
    uint32_t minute_at, minute_count;
} History;

bool history_start(History *history, Loop *loop, Worker *const *workers, uint32_t count) MUST_USE;
void history_finish(History *history);
/* The i-th newest; NULL behind the end. */
const HistorySample *history_sample(const History *history, uint32_t i);
/* All workers' histograms since the start. */
void history_latency(const History *history, LatencyStats *ret);
/* What of it happened since about a minute ago. */
void history_latency_minute(const History *history, const LatencyStats *now, LatencyStats *ret);

#endif
