/*
 * bucket_load.h - how much each bucket is used lately: what REBALANCE BY LOAD goes by.
 *
 *     workers' counters, since the start          older, newer: the same some minutes ago
 *     load of a bucket = its counter now - its counter then      (5 to 10 minutes of work; less after a start)
 *
 * Counted are rows that statements name by their key. Statements for all shards load all buckets alike and are not
 * counted. Reads the workers' atomics. Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_BUCKET_LOAD_H
#define SHOAL_ADMIN_BUCKET_LOAD_H

#include "core/loop.h"
#include "router/worker.h"

typedef struct BucketLoad {
    Timer timer;
    Worker *const *workers; /* borrowed */
    uint32_t worker_count;
    uint64_t *older, *newer; /* [SHARD_MAP_BUCKETS_MAX], owned; NULL: memory was out */
} BucketLoad;

void bucket_load_start(BucketLoad *load, Loop *loop, Worker *const *workers, uint32_t count);
void bucket_load_finish(BucketLoad *load);
/* Into ret[bucket_count]; the sum. */
uint64_t bucket_load_read(const BucketLoad *load, uint32_t bucket_count, uint64_t *ret);

#endif
