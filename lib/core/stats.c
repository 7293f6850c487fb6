/*
 * stats.c - the histogram's buckets: values below 16 have one each, then 16 per power of two.
 *
 *     value      0 1 ... 15 | 16 17 ... 31 | 32-33 34-35 ... 62-63 | 64-67 ...
 *     bucket     0 1 ... 15 | 16 17 ... 31 | 32    33    ... 47    | 48    ...
 */
#include "core/stats.h"

#include <math.h>

#define RATE_S 10.0 /* an event counts e times less after this time */

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

void histogram_subtract(Histogram *h, const Histogram *earlier)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        counter_sub(&h->buckets[i], counter_get(&earlier->buckets[i]));
    counter_sub(&h->count, counter_get(&earlier->count));
    counter_sub(&h->sum, counter_get(&earlier->sum));
}

uint64_t histogram_count_upto(const Histogram *h, uint64_t value)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS - 1 && bucket_upper(i) <= value; i++)
        count += counter_get(&h->buckets[i]);
    return count;
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

double rate_get(const Rate *rate, uint64_t now_us)
{
    if (now_us <= rate->at_us || rate->per_s == 0)
        return rate->per_s;
    return rate->per_s * exp(-(double)(now_us - rate->at_us) / (RATE_S * 1e6));
}

/* Each event is worth 1 / RATE_S when it happens: at a steady rate the sum of all is that rate. */
void rate_add(Rate *rate, uint64_t n, uint64_t now_us)
{
    rate->per_s = rate_get(rate, now_us) + (double)n / RATE_S;
    rate->at_us = MAX(now_us, rate->at_us);
}
