/*
 * bucket_load.c - two photographs of the counters, taken every five minutes in turn.
 */
#include "admin/bucket_load.h"

#include <stdlib.h>

#define STEP_MS (5 * 60 * 1000)

static uint64_t uses(const BucketLoad *load, uint32_t bucket)
{
    uint64_t sum = 0;
    for (uint32_t w = 0; w < load->worker_count; w++)
        sum += counter_get(&worker_stats(load->workers[w])->bucket_uses[bucket]);
    return sum;
}

static void load_on_time(Timer *timer)
{
    BucketLoad *load = timer->ctx;
    memcpy(load->older, load->newer, SHARD_MAP_BUCKETS_MAX * sizeof *load->older);
    for (uint32_t b = 0; b < SHARD_MAP_BUCKETS_MAX; b++)
        load->newer[b] = uses(load, b);
    timer_start_ms(timer, STEP_MS);
}

void bucket_load_start(BucketLoad *load, Loop *loop, Worker *const *workers, uint32_t count)
{
    *load = (BucketLoad){.workers = workers,
                         .worker_count = count,
                         .older = calloc(SHARD_MAP_BUCKETS_MAX, sizeof *load->older),
                         .newer = calloc(SHARD_MAP_BUCKETS_MAX, sizeof *load->newer)};
    timer_init(&load->timer, loop, load_on_time, load);
    if (load->older && load->newer)
        timer_start_ms(&load->timer, STEP_MS);
}

void bucket_load_finish(BucketLoad *load)
{
    if (load->timer.loop)
        timer_stop(&load->timer);
    free(load->older);
    free(load->newer);
    load->older = load->newer = NULL;
}

uint64_t bucket_load_read(const BucketLoad *load, uint32_t bucket_count, uint64_t *ret)
{
    uint64_t sum = 0;
    for (uint32_t b = 0; b < bucket_count; b++) {
        ret[b] = uses(load, b) - (load->older ? load->older[b] : 0);
        sum += ret[b];
    }
    return sum;
}
