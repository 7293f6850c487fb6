/*
 * stats.h - counters and histograms that one thread writes and others read.
 *
 * A Counter is written by its owner alone with relaxed stores (no locked instruction) and may be
 * read at any time from any thread; readers sum over the workers.
 * A Histogram has log-linear buckets: 16 per power of two, so an answer is at most 6 % off.
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
/* q in 0..1; 0 when empty. The upper edge of the bucket that holds the quantile. */
uint64_t histogram_quantile(const Histogram *h, double q);

#endif
