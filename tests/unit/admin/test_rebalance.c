/* Rebalancing moves few buckets, to where they are missing, and never more than it must. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "admin/rebalance.h"

#define BUCKETS 64

static Arena arena;
static ShardMap *map;
static RebalancePlan plan;

static int setup(void **state)
{
    arena_init(&arena, 4096);
    map = shard_map_create(BUCKETS);
    return 0;
}

static int teardown(void **state)
{
    shard_map_free(map);
    arena_finish(&arena);
    return 0;
}

static void plan_with(const uint32_t *weights, uint32_t shards, const uint64_t *costs, const uint8_t *fixed)
{
    RebalanceInput input = {
        .map = map, .shard_count = shards, .weights = weights, .costs = costs, .fixed = fixed};
    assert_true(rebalance_plan(&input, &arena, &plan));
}

static uint32_t buckets_moved(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan.count; i++)
        count += plan.moves[i].buckets.count;
    return count;
}

/* Every bucket that is moved lives on its move's source. */
static void assert_sound(void)
{
    for (uint32_t i = 0; i < plan.count; i++)
        for (uint32_t b = 0; b < BUCKETS; b++)
            if (plan.moves[i].buckets.has[b])
                assert_int_equal(map->shard_of[b], plan.moves[i].source);
}

/* Else: rows travel for nothing. */
static void even_shards_stay_as_they_are(void **state)
{
    shard_map_spread(map, 2);
    plan_with((uint32_t[]){1, 1}, 2, NULL, NULL);
    assert_int_equal(plan.count, 0);
}

/* Else: a new shard costs a reshuffle of everything. */
static void a_new_shard_gets_its_share_and_no_more(void **state)
{
    shard_map_spread(map, 2);
    plan_with((uint32_t[]){1, 1, 1}, 3, NULL, NULL);
    assert_sound();
    assert_int_equal(buckets_moved(), BUCKETS / 3);
    assert_int_equal(plan.count, 2); /* one move per pair of shards */
    for (uint32_t i = 0; i < plan.count; i++)
        assert_int_equal(plan.moves[i].target, 2);
    for (uint32_t i = 0; i < 3; i++)
        assert_in_range(plan.after[i], BUCKETS / 3, BUCKETS / 3 + 1);
}

/* Else: a shard that is to be removed keeps rows, or the others are uneven afterwards. */
static void a_drained_shard_is_empty(void **state)
{
    shard_map_spread(map, 3);
    plan_with((uint32_t[]){1, 0, 1}, 3, NULL, NULL);
    assert_sound();
    assert_int_equal(plan.after[1], 0);
    assert_int_equal(plan.after[0] + plan.after[2], BUCKETS);
    assert_in_range(plan.after[0], BUCKETS / 2 - 1, BUCKETS / 2 + 1);
}

/* Else: a big machine idles while a small one drowns. */
static void weights_are_kept(void **state)
{
    shard_map_spread(map, 2);
    plan_with((uint32_t[]){3, 1}, 2, NULL, NULL);
    assert_int_equal(plan.after[0], 48);
    assert_int_equal(plan.after[1], 16);
}

/* Else: by bytes, dozens of small buckets travel where a big one would have done. */
static void few_dear_buckets_travel(void **state)
{
    uint64_t costs[BUCKETS];
    shard_map_spread(map, 2);
    for (uint32_t b = 0; b < BUCKETS; b++)
        costs[b] = b < 4 ? 100 : 1; /* shard 0: 428, shard 1: 32 */
    plan_with((uint32_t[]){1, 1}, 2, costs, NULL);
    assert_sound();
    assert_int_equal(buckets_moved() <= 2, 1);
    assert_int_equal(plan.after[1], 32 + 200);
}

/* Else: one enormous bucket is sent back and forth for ever. */
static void a_bucket_that_fits_nowhere_stays(void **state)
{
    uint64_t costs[BUCKETS] = {[0] = 1000000};
    shard_map_spread(map, 2);
    plan_with((uint32_t[]){1, 1}, 2, costs, NULL);
    assert_int_equal(plan.count, 0);
}

/* Else: a bucket is in two moves at once. */
static void buckets_in_a_move_are_left_alone(void **state)
{
    uint8_t fixed[BUCKETS];
    memset(fixed, 1, sizeof fixed);
    shard_map_spread(map, 1);
    plan_with((uint32_t[]){1, 1}, 2, NULL, fixed);
    assert_int_equal(plan.count, 0);
    fixed[5] = 0;
    plan_with((uint32_t[]){1, 1}, 2, NULL, fixed);
    assert_int_equal(buckets_moved(), 1);
    assert_int_equal(plan.moves[0].buckets.has[5], 1);
}

/* Else: the same cluster is planned differently each time it is looked at; a plan that is shown is not
 * the one that is run. And after a plan there is nothing left to plan. */
static void plans_are_stable_and_final(void **state)
{
    srand(7);
    for (int round = 0; round < 200; round++) {
        uint32_t shards = 2 + (uint32_t)rand() % 5, weights[6];
        uint64_t costs[BUCKETS], total = 0, dearest = 0;
        for (uint32_t i = 0; i < shards; i++)
            weights[i] = 1 + (uint32_t)rand() % 3;
        for (uint32_t b = 0; b < BUCKETS; b++) {
            map->shard_of[b] = (uint16_t)((uint32_t)rand() % shards);
            costs[b] = (uint64_t)rand() % 1000;
            total += costs[b];
            dearest = MAX(dearest, costs[b]);
        }
        plan_with(weights, shards, costs, NULL);
        assert_sound();
        uint64_t after = 0, weight = 0;
        for (uint32_t i = 0; i < shards; i++) {
            after += plan.after[i];
            weight += weights[i];
        }
        assert_int_equal(after, total);
        for (uint32_t i = 0; i < shards; i++)
            assert_true(plan.after[i] <= MAX(plan.before[i], total * weights[i] / weight + dearest + 1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(even_shards_stay_as_they_are), cmocka_unit_test(a_new_shard_gets_its_share_and_no_more),
        cmocka_unit_test(a_drained_shard_is_empty),     cmocka_unit_test(weights_are_kept),
        cmocka_unit_test(few_dear_buckets_travel),      cmocka_unit_test(a_bucket_that_fits_nowhere_stays),
        cmocka_unit_test(buckets_in_a_move_are_left_alone), cmocka_unit_test(plans_are_stable_and_final)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
