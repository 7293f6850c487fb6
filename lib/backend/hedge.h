/*
 * hedge.h - when to ask a second server, and how often one may. Pure.
 *
 *     Quantile   what p percent of reads take at most, lately: the time after which a second one asks
 *     Budget     earned by reads, spent by extra ones: load grows by a known share, never by a storm
 */
#ifndef SHOAL_BACKEND_HEDGE_H
#define SHOAL_BACKEND_HEDGE_H

#include "core/base.h"

#define QUANTILE_BUCKETS 256 /* eight per power of two of microseconds */

typedef struct Quantile {
    uint16_t buckets[QUANTILE_BUCKETS];
    uint32_t count, since; /* in the buckets; since the answer below was worked out */
    uint64_t answer_us;    /* 0: too few seen */
} Quantile;

void quantile_init(Quantile *quantile);
/* Notes one duration; `percent` is what is asked for. */
void quantile_add(Quantile *quantile, uint64_t us, uint32_t percent);
/* The same for another share, worked out now; 0: too few seen. */
uint64_t quantile_at_us(const Quantile *quantile, uint32_t percent);
static inline uint64_t quantile_us(const Quantile *quantile) { return quantile->answer_us; }

typedef struct Budget {
    uint64_t saved; /* hundredths */
} Budget;

#define BUDGET_SAVED_MAX 2000 /* 20 at once */

void budget_earn(Budget *budget, uint32_t percent);
/* True: one was there, and is spent. */
bool budget_spend(Budget *budget);

#endif
