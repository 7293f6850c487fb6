/*
 * rebalance.h - which buckets should go where. Pure.
 *
 *     weights per shard, a cost per bucket  ->  moves (source, target, buckets), as few buckets as possible
 *
 * Cost is 1 (by count), bytes, or statements per second. A shard's share of the whole is its weight's.
 * A shard of weight 0 is emptied (drain). Buckets stay where they are unless their shard has more than
 * its share; those that leave are chosen largest first, as long as they fit into what another one lacks,
 * so that a handful of them does it. Result: no shard above its share by more than one bucket of the
 * largest cost that had to be placed. Deterministic: equal input, equal plan.
 */
#ifndef SHOAL_ADMIN_REBALANCE_H
#define SHOAL_ADMIN_REBALANCE_H

#include "meta/bucket_sql.h"

typedef struct RebalanceInput {
    const ShardMap *map;
    uint32_t shard_count;
    const uint32_t *weights; /* [shard_count]; 0: to be emptied. Not all 0 */
    const uint64_t *costs;   /* [bucket_count]; NULL: 1 each */
    const uint8_t *fixed;    /* [bucket_count]: not 0: stays, it is in a move already; NULL: none */
    uint32_t threshold_percent; /* a shard may be above its share by so much before it gives */
} RebalanceInput;

typedef struct RebalanceMove {
    uint32_t source, target;
    BucketSet buckets;
    uint64_t cost;
} RebalanceMove;

typedef struct RebalancePlan {
    RebalanceMove *moves; /* in the arena; one per pair of shards */
    uint32_t count;
    uint64_t *before, *after; /* [shard_count] cost per shard */
} RebalancePlan;

/* False only when memory is out. */
bool rebalance_plan(const RebalanceInput *input, Arena *arena, RebalancePlan *ret) MUST_USE;

#endif
