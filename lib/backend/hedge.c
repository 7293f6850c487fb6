/*
 * hedge.c - why this file exists: a second question cuts the tail only when it is asked late enough to
 * be rare and early enough to matter; both are learned from the reads themselves.
 */
#include "backend/hedge.h"

#include <string.h>

#define FORGET_AT   4096 /* durations; then all count half */
#define COUNT_MIN   50
#define WORK_OUT_AT 32

void quantile_init(Quantile *quantile)
{
    memset(quantile, 0, sizeof *quantile);
}

static uint32_t bucket_of(uint64_t us)
{
    if (us < 8)
        return (uint32_t)us;
    uint32_t power = 63 - (uint32_t)__builtin_clzll(us);
    uint32_t bucket = (power - 2) * 8 + (uint32_t)(us >> (power - 3) & 7);
    return MIN(bucket, QUANTILE_BUCKETS - 1);
}

/* The upper edge. */
static uint64_t bucket_us(uint32_t bucket)
{
    if (bucket < 8)
        return bucket;
    uint32_t power = bucket / 8 + 2;
    return ((UINT64_C(8) + bucket % 8 + 1) << (power - 3)) - 1;
}

static uint64_t work_out(const Quantile *quantile, uint32_t percent)
{
    uint64_t seen = 0;
    for (uint32_t i = 0; i < QUANTILE_BUCKETS; i++) {
        seen += quantile->buckets[i];
        if (seen * 100 >= (uint64_t)quantile->count * percent)
            return bucket_us(i);
    }
    return bucket_us(QUANTILE_BUCKETS - 1);
}

uint64_t quantile_at_us(const Quantile *quantile, uint32_t percent)
{
    return quantile->count < COUNT_MIN ? 0 : MAX(work_out(quantile, percent), 1);
}

static void forget(Quantile *quantile)
{
    quantile->count = 0;
    for (uint32_t i = 0; i < QUANTILE_BUCKETS; i++) {
        quantile->buckets[i] /= 2;
        quantile->count += quantile->buckets[i];
    }
}

void quantile_add(Quantile *quantile, uint64_t us, uint32_t percent)
{
    quantile->buckets[bucket_of(us)]++;
    if (++quantile->count >= FORGET_AT)
        forget(quantile);
    if (++quantile->since >= WORK_OUT_AT && quantile->count >= COUNT_MIN) {
        quantile->since = 0;
        quantile->answer_us = MAX(work_out(quantile, percent), 1);
    }
}

void budget_earn(Budget *budget, uint32_t percent)
{
    budget->saved = MIN(budget->saved + percent, BUDGET_SAVED_MAX);
}

bool budget_spend(Budget *budget)
{
    if (budget->saved < 100)
        return false;
    budget->saved -= 100;
    return true;
}
