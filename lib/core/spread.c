/*
 * spread.c - the compact distribution's buckets, and its way through a text cell.
 *
 *     value      0 1 2 3 | 4 5 6 7 | 8-9 10-11 12-13 14-15 | 16-19 ...
 *     bucket     0 1 2 3 | 4 5 6 7 | 8   9     10    11    | 12    ...
 */
#include "core/spread.h"

#include <stdio.h>
#include <stdlib.h>

static unsigned bucket_of(uint64_t value)
{
    if (value < 4)
        return (unsigned)value;
    unsigned power = 63u - (unsigned)__builtin_clzll(value);
    unsigned bucket = (power - 1) * 4 + (unsigned)(value >> (power - 2) & 3);
    return MIN(bucket, SPREAD_BUCKETS - 1u);
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_upper(unsigned bucket)
{
    if (bucket < 4)
        return bucket;
    unsigned width_power = bucket / 4 - 1;
    return ((uint64_t)(4 + bucket % 4 + 1) << width_power) - 1;
}

static void count_add(Spread *spread, unsigned bucket, uint64_t n)
{
    uint32_t *count = &spread->counts[bucket];
    *count = n < UINT32_MAX - *count ? *count + (uint32_t)n : UINT32_MAX;
}

void spread_add(Spread *spread, uint64_t value)
{
    count_add(spread, bucket_of(value), 1);
}

void spread_merge(Spread *into, const Spread *from)
{
    for (unsigned i = 0; i < SPREAD_BUCKETS; i++)
        count_add(into, i, from->counts[i]);
}

uint64_t spread_count(const Spread *spread)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < SPREAD_BUCKETS; i++)
        total += spread->counts[i];
    return total;
}

uint64_t spread_quantile(const Spread *spread, double q)
{
    uint64_t total = spread_count(spread), seen = 0;
    if (total == 0)
        return 0;
    q = q < 0 ? 0 : q > 1 ? 1 : q;
    uint64_t rank = (uint64_t)(q * (double)total);
    rank = rank == 0 ? 1 : rank;
    for (unsigned i = 0; i < SPREAD_BUCKETS; i++) {
        seen += spread->counts[i];
        if (seen >= rank)
            return bucket_upper(i);
    }
    return bucket_upper(SPREAD_BUCKETS - 1);
}

char *spread_text(const Spread *spread, Arena *arena)
{
    char text[SPREAD_BUCKETS * 16];
    size_t len = 0;
    for (unsigned i = 0; i < SPREAD_BUCKETS; i++)
        if (spread->counts[i])
            len += (size_t)snprintf(text + len, sizeof text - len, "%s%u:%u", len ? " " : "", i,
                                    spread->counts[i]);
    return arena_text(arena, slice_of(text, len));
}

bool spread_add_text(Spread *spread, const char *text)
{
    while (*text) {
        char *end;
        unsigned long bucket = strtoul(text, &end, 10);
        if (end == text || *end != ':' || bucket >= SPREAD_BUCKETS)
            return false;
        text = end + 1;
        unsigned long long count = strtoull(text, &end, 10);
        if (end == text || (*end && *end != ' '))
            return false;
        count_add(spread, (unsigned)bucket, count);
        text = *end ? end + 1 : end;
    }
    return true;
}

char *spread_octaves(const Spread *spread, Arena *arena)
{
    char text[SPREAD_BUCKETS * 16];
    size_t len = 0;
    uint64_t from = 0, count = 0;
    for (unsigned i = 0; i < SPREAD_BUCKETS; i++) {
        uint64_t upper = bucket_upper(i);
        count += spread->counts[i];
        if (((upper + 1) & upper) != 0) /* an octave ends before a power of two */
            continue;
        char range[48];
        if (from == upper)
            snprintf(range, sizeof range, "%llu", (unsigned long long)upper);
        else
            snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)from, (unsigned long long)upper);
        if (count)
            len += (size_t)snprintf(text + len, sizeof text - len, "%s%s:%llu", len ? " " : "",
                                    range, (unsigned long long)count);
        from = upper + 1;
        count = 0;
    }
    return arena_text(arena, slice_of(text, len));
}
