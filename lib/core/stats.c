/*
 * stats.c - the histogram's buckets: values below 16 have one each, then 16 per power of two.
 *
 *     value      0 1 ... 15 | 16 17 ... 31 | 32-33 34-35 ... 62-63 | 64-67 ...
 *     bucket     0 1 ... 15 | 16 17 ... 31 | 32    33    ... 47    | 48    ...
 */
#include "core/stats.h"

static unsigned bucket_of(uint64_t value)
{
    if (value < 16)
        return (unsigned)value;
    unsigned power = 63u - (unsigned)__builtin_clzll(value);
    unsigned bucket = (power - 3) * 16 + (unsigned)(value >> (power - 4) & 15);
    return MIN(bucket, HISTOGRAM_BUCKETS - 1u);
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_upper(unsigned bucket)
{
    if (bucket < 16)
        return bucket;
    unsigned width_power = bucket / 16 - 1;
    return ((uint64_t)(16 + bucket % 16 + 1) << width_power) - 1;
}

void histogram_add(Histogram *h, uint64_t value)
{
    counter_add(&h->buckets[bucket_of(value)], 1);
    counter_add(&h->count, 1);
    counter_add(&h->sum, value);
    if (value > counter_get(&h->max))
        atomic_store_explicit(&h->max, value, memory_order_relaxed);
}

void histogram_merge(Histogram *into, const Histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t n = counter_get(&from->buckets[i]);
        if (n)
            counter_add(&into->buckets[i], n);
    }
    counter_add(&into->count, counter_get(&from->count));
    counter_add(&into->sum, counter_get(&from->sum));
    if (counter_get(&from->max) > counter_get(&into->max))
        atomic_store_explicit(&into->max, counter_get(&from->max), memory_order_relaxed);
}

uint64_t histogram_quantile(const Histogram *h, double q)
{
    /* Summed here and not taken from `count`: the owner may be between the two stores. */
    uint64_t total = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        total += counter_get(&h->buckets[i]);
    if (total == 0)
        return 0;
    q = q < 0 ? 0 : q > 1 ? 1 : q;
    uint64_t rank = (uint64_t)(q * (double)total), seen = 0;
    rank = rank == 0 ? 1 : MIN(rank, total);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        seen += counter_get(&h->buckets[i]);
        if (seen >= rank)
            return MIN(bucket_upper(i), MAX(counter_get(&h->max), 1));
    }
    return counter_get(&h->max); /* the last bucket has no upper edge */
}
