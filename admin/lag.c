/*
 * lag.c - why this file exists: "receive equals replay" is zero also when nothing arrives any more,
 * and the time of the last replayed transaction stands still when nobody writes. The primary's own
 * position, and when we asked for it, have neither fault.
 */
#include "admin/lag.h"

#define PAGE_HEADER_SIZE      24
#define LONG_PAGE_HEADER_SIZE 40 /* of a segment's first page */

void lag_reset(LagHistory *history)
{
    history->first = history->count = 0;
}

static const LagSample *sample_at(const LagHistory *history, uint32_t i)
{
    return &history->samples[(history->first + i) % LAG_SAMPLES];
}

void lag_add(LagHistory *history, uint64_t asked_us, uint64_t lsn)
{
    if (history->count && lsn < sample_at(history, history->count - 1)->lsn)
        lag_reset(history); /* it went back: another server, or restored; the old figures are void */
    if (history->count == LAG_SAMPLES) {
        history->first = (history->first + 1) % LAG_SAMPLES;
        history->count--;
    }
    history->samples[(history->first + history->count++) % LAG_SAMPLES] = (LagSample){asked_us, lsn};
}

uint64_t lag_fresh_us(const LagHistory *history, uint64_t replayed)
{
    uint32_t low = 0, high = history->count; /* samples before `low` are replayed, from `high` on not */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (sample_at(history, middle)->lsn <= replayed)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? sample_at(history, low - 1)->asked_us : 0;
}

uint64_t lag_bytes(const LagHistory *history, uint64_t replayed)
{
    if (!history->count)
        return UINT64_MAX;
    uint64_t inserted = sample_at(history, history->count - 1)->lsn;
    return inserted > replayed ? inserted - replayed : 0;
}

uint64_t lag_record_end(uint64_t insert_lsn, uint64_t block_size, uint64_t segment_size)
{
    if (segment_size && insert_lsn % segment_size == LONG_PAGE_HEADER_SIZE)
        return insert_lsn - LONG_PAGE_HEADER_SIZE;
    if (block_size && insert_lsn % block_size == PAGE_HEADER_SIZE)
        return insert_lsn - PAGE_HEADER_SIZE;
    return insert_lsn;
}
