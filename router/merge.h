/*
 * merge.h - rows of several legs become rows of one answer: in order, from OFFSET to LIMIT, without the
 * columns that only the merge needs.
 *
 *     leg 0:  [3 | a] [7 | b]  ──┐
 *     leg 1:  [4 | c]          ──┼──> 3 a, 4 c ...      a leg without a row and not at its end: wait
 *     leg 2:  (ended)          ──┘
 *
 * Memory: rows that came and cannot go yet, per leg; above `high` bytes the leg wants to be paused, below
 * half of that it wants to go on. Without sort keys nothing is kept at all.
 * Pure: rows in, frames into a Buf out.
 */
#ifndef SHOAL_ROUTER_MERGE_H
#define SHOAL_ROUTER_MERGE_H

#include "core/buf.h"
#include "core/error.h"

#define MERGE_KEYS_MAX 64

typedef struct MergeKey {
    uint32_t type_oid;
    bool descending, nulls_first;
} MergeKey;

typedef struct MergeLeg {
    Buf rows;    /* bodies of DataRows, each behind its length */
    bool ended;
    bool paused; /* as the owner was told last */
} MergeLeg;

typedef struct Merge {
    const MergeKey *keys; /* the last columns of a row, in this order; borrowed */
    uint32_t key_count;
    MergeLeg *legs; /* owned */
    uint32_t leg_count;
    uint64_t offset, limit; /* still to pass over; still to answer */
    uint64_t rows;          /* answered */
    size_t high;            /* bytes */
    bool gated;             /* rows are kept, none goes out: until merge_open */
} Merge;

/* `limit` UINT64_MAX: none. False when memory is out. `keys` NULL: rows leave as they come. */
bool merge_init(Merge *merge, const MergeKey *keys, uint32_t key_count, uint32_t leg_count,
                uint64_t offset, uint64_t limit, size_t high) MUST_USE;
void merge_finish(Merge *merge);

/* A row of a leg; what can go is appended to `out` as DataRow frames. False: the row is not what its
 * keys say, or memory is out (`err`). */
bool merge_row(Merge *merge, uint32_t leg, Slice body, Buf *out, Error *err) MUST_USE;
/* Not gated any more. */
bool merge_open(Merge *merge, Buf *out, Error *err) MUST_USE;
/* No more rows of this leg. */
bool merge_end(Merge *merge, uint32_t leg, Buf *out, Error *err) MUST_USE;
/* LIMIT is reached: no more rows are needed. */
static inline bool merge_is_full(const Merge *merge)
{
    return merge->limit == 0;
}
/* Should this leg not be read now? */
bool merge_wants_pause(const Merge *merge, uint32_t leg);

#endif
