/*
 * spread.h - how values are spread, in half a kilobyte: for figures that exist a thousand times.
 *
 * Log-linear like Histogram (stats.h), but with 4 buckets per power of two (an answer is at most
 * 25 % off), 32-bit counts and one owner: a worker's template or statement. It goes to another
 * thread as text ("3:12 17:2", bucket:count), where spreads of several workers are merged.
 * Values beyond 2^31 (36 minutes in microseconds) count as that.
 */
#ifndef SHOAL_CORE_SPREAD_H
#define SHOAL_CORE_SPREAD_H

#include "core/arena.h"

#define SPREAD_BUCKETS 120

typedef struct Spread {
    uint32_t counts[SPREAD_BUCKETS]; /* each stays at UINT32_MAX when it gets there */
} Spread;

void spread_add(Spread *spread, uint64_t value);
void spread_merge(Spread *into, const Spread *from);
uint64_t spread_count(const Spread *spread);
/* q in 0..1; the upper edge of the bucket that holds the quantile; 0 when empty. */
uint64_t spread_quantile(const Spread *spread, double q);

/* The text form; NULL when memory is out. An empty spread is "". */
char *spread_text(const Spread *spread, Arena *arena) MUST_USE;
/* Adds what the text says. False for anything that spread_text does not write. */
bool spread_add_text(Spread *spread, const char *text) MUST_USE;
/* For people, by powers of two: "1:20 2-3:7 4-7:2". */
char *spread_octaves(const Spread *spread, Arena *arena) MUST_USE;

#endif
