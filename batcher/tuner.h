/*
 * tuner.h - how large a template's batches may be, and how many of them may be under way. Pure.
 *
 *     T(n) = a + b n      what a batch of n takes when it is alone on its server, learned
 *
 *     n_max   AIMD: full batches of 20 in a row, 95 % of them within the target: a few more;
 *             otherwise a tenth less, unless b n is so small a part of T that it would not help
 *     c       gradient: while batches wait for each other, one more is tried; it stays if clearly
 *             more members are served for it and T / (a + b n) does not rise. One less is tried, too,
 *             and stays if about as many are served: fewer and larger batches cost less
 *
 * Never a waiting time: a batch that may leave leaves (docs/batching.md).
 */
#ifndef SHOAL_BATCHER_TUNER_H
#define SHOAL_BATCHER_TUNER_H

#include "core/base.h"

typedef struct TunerLimits {
    uint32_t batch_max, inflight_max; /* at least 1 */
    uint64_t target_us;               /* 0: batches stay as large as they may be */
} TunerLimits;

typedef struct Tuner {
    TunerLimits limits;
    double batch_max;  /* now */
    uint32_t inflight; /* now */

    /* Of the last batches, newest weighing most: sums for the line a + b n. */
    double weight, n, t, nn, nt;

    /* This window of batches, for n_max. */
    uint32_t seen, late, full, largest;

    /* This window of batches, for c. */
    uint32_t rounds, waiting;
    double strain; /* sum of T / (a + b n) */
    uint64_t members, since_us;
    int trial; /* of this window: c was made 1 more, 1 less, or 0 as it is */
    int last_trial;
    double rate_before; /* members per microsecond in the window before the trial */
    uint32_t pause, pause_next; /* windows until the next trial */
} Tuner;

/* What is known of one batch when its answer is complete. */
typedef struct TunerBatch {
    uint32_t members;
    uint64_t service_us;
    bool alone;   /* no other batch of the template was under way when it was sent */
    bool waiting; /* somebody had to stay behind when it left, or came since */
} TunerBatch;

void tuner_init(Tuner *tuner, TunerLimits limits);
/* Limits may change at any time; what was learned stays. */
void tuner_limit(Tuner *tuner, TunerLimits limits);
void tuner_observe(Tuner *tuner, TunerBatch batch, uint64_t now_us);
static inline uint32_t tuner_batch_max(const Tuner *tuner)
{
    return (uint32_t)tuner->batch_max;
}
static inline uint32_t tuner_inflight_max(const Tuner *tuner)
{
    return tuner->inflight;
}
/* a + b n in microseconds; 0 while not known. `ret_b`: b alone. */
double tuner_expect(const Tuner *tuner, uint32_t members, double *ret_b);

#endif
