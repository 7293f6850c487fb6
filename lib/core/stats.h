/*
 * stats.h - counters and histograms that one thread writes and others read.
 *
 * A Counter is written by its owner alone with relaxed stores (no locked instruction) and may be
 * read at any time from any thread; readers sum over the workers.
 * A Histogram has log-linear buckets: 16 per power of two, so an answer is at most 6 % off. It takes
 * 4 KiB: for figures that exist once per worker; spread.h is for those that exist a thousand times.
 */
#ifndef SHOAL_CORE_STATS_H
#define SHOAL_CORE_STATS_H

#include <stdatomic.h>

#include "core/base.h"

typedef _Atomic uint64_t Counter;

static inline void counter_add(Counter *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
static inline void counter_sub(Counter *c, uint64_t n) { counter_add(c, (uint64_t)0 - n); }
static inline uint64_t counter_get(const Counter *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

#define HISTOGRAM_BUCKETS 512 /* 16 per power of two, up to 2^35: 9.5 hours in microseconds */

typedef struct Histogram {
    Counter buckets[HISTOGRAM_BUCKETS];
    Counter count, sum, max;
} Histogram;

void histogram_add(Histogram *h, uint64_t value);
/* Adds `from` into `into`; `from` may be written meanwhile. */
void histogram_merge(Histogram *into, const Histogram *from);
/* Takes an earlier state of the same histogram off: what happened since. `max` stays. */
void histogram_subtract(Histogram *h, const Histogram *earlier);
/* q in 0..1; 0 when empty. The upper edge of the bucket that holds the quantile. */
uint64_t histogram_quantile(const Histogram *h, double q);
/* How many values were at most `value`; exact when a bucket ends there (powers of two minus one),
 * else those of whole buckets below. */
uint64_t histogram_count_upto(const Histogram *h, uint64_t value);

/* Events per second, of about the last ten seconds. One owner; nothing to do while nothing happens. */
typedef struct Rate {
    double per_s; /* at `at_us` */
    uint64_t at_us;
} Rate;
void rate_add(Rate *rate, uint64_t n, uint64_t now_us);
double rate_get(const Rate *rate, uint64_t now_us);

#endif
