/*
 * lag.h - how old a standby's data is, proven and not guessed. Pure.
 *
 *     primary asked at        t1     t2     t3     t4      (CLOCK_MONOTONIC, before the question)
 *     it had inserted up to   100    100    250    300
 *     the standby says: replayed up to 260
 *          -> has all of t3's 250  -> every commit acknowledged before t3 is visible there
 *          -> it is 300 - 260 bytes behind, and its data is as of t3
 *
 * No clock of a server is asked, and nothing that the standby received counts, only what it has
 * replayed: an idle primary means no lag, a standby whose receiver was cut grows old (L2).
 */
#ifndef SHOAL_ADMIN_LAG_H
#define SHOAL_ADMIN_LAG_H

#include "core/base.h"

#define LAG_SAMPLES 1024 /* 100 s at one each 100 ms; what is further behind is older than that */

typedef struct LagSample {
    uint64_t asked_us, lsn;
} LagSample;

/* What the primary of one shard said, oldest first. */
typedef struct LagHistory {
    LagSample samples[LAG_SAMPLES];
    uint32_t first, count;
} LagHistory;

/* Another primary, another history. */
void lag_reset(LagHistory *history);
void lag_add(LagHistory *history, uint64_t asked_us, uint64_t lsn);
/* Up to when everything acknowledged is in `replayed`; 0: not known. */
uint64_t lag_fresh_us(const LagHistory *history, uint64_t replayed);
/* Bytes behind the newest sample; UINT64_MAX when there is none. */
uint64_t lag_bytes(const LagHistory *history, uint64_t replayed);

/* Where the last record ends, given where the next one would begin: on a page's first byte the next
 * one begins behind the page's header, and a standby that has everything would seem to lag. */
uint64_t lag_record_end(uint64_t insert_lsn, uint64_t block_size, uint64_t segment_size);

#endif
