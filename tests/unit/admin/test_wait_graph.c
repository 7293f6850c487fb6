/* test_wait_graph.c - circles over shards: found when they are there, and only then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/wait_graph.h"

static WaitEdge edges[16];
static uint32_t count, circle[16];
static Arena arena;

static void begin(void)
{
    count = 0;
    arena_reset(&arena);
}

/* Client `waiter` waits for `blocker` on a shard; pids are the shard's own. */
static void waits(uint32_t shard, int waiter, int blocker)
{
    edges[count++] = (WaitEdge){.shard = shard, .pid = 100 + (uint64_t)(waiter < 0 ? 50 - waiter : waiter),
                                .blocker_pid = 100 + (uint64_t)(blocker < 0 ? 50 - blocker : blocker),
                                .since = "12:00", .waiter = MAX(waiter, -1), .blocker = MAX(blocker, -1)};
}

static uint32_t found(void)
{
    return wait_graph_circle(edges, count, circle, &arena);
}

/* Else: two clients wait for each other until somebody's timeout ends the day. */
static void a_circle_over_two_shards_is_found(void **state)
{
    begin();
    waits(0, 7, 9);
    waits(1, 9, 7);
    assert_int_equal(found(), 2);
    begin();
    waits(0, 1, 2);
    waits(1, 2, 3);
    waits(0, 4, 1); /* hangs on it, is no part of it */
    waits(2, 3, 1);
    assert_int_equal(found(), 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_not_equal(edges[circle[i]].waiter, 4);
}

/* Else: we cancel a client whom PostgreSQL has just freed. */
static void a_circle_on_one_shard_is_postgresqls_own(void **state)
{
    begin();
    waits(0, 7, 9);
    waits(0, 9, 7);
    waits(1, 3, 7);
    assert_int_equal(found(), 0);
}

/* Else: clients that only wait are cancelled. */
static void a_queue_is_no_circle(void **state)
{
    begin();
    assert_int_equal(found(), 0);
    for (int i = 0; i < 10; i++)
        waits((uint32_t)i % 3, i, i + 1);
    assert_int_equal(found(), 0);
}

/* Else: a session that does not come through us hides the circle that it is part of. */
static void a_stranger_may_be_part_of_it(void **state)
{
    begin();
    waits(0, 1, -2);
    waits(0, -2, 3);
    waits(1, 3, 1);
    assert_int_equal(found(), 3);
    begin(); /* the same pid on another shard is somebody else */
    waits(0, 1, -2);
    waits(1, -2, 1);
    assert_int_equal(found(), 0);
}

/* Else: waits that never were at one moment are taken for a deadlock. */
static void a_wait_that_ended_in_between_is_another_one(void **state)
{
    WaitEdge first[2];
    begin();
    waits(0, 7, 9);
    waits(1, 9, 7);
    first[0] = edges[0];
    first[1] = edges[1];
    assert_true(wait_graph_persists(first, 2, edges, count));
    edges[1].since = "12:01";
    assert_false(wait_graph_persists(first, 2, edges, count));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_circle_over_two_shards_is_found),
        cmocka_unit_test(a_circle_on_one_shard_is_postgresqls_own),
        cmocka_unit_test(a_queue_is_no_circle),
        cmocka_unit_test(a_stranger_may_be_part_of_it),
        cmocka_unit_test(a_wait_that_ended_in_between_is_another_one),
    };
    arena_init(&arena, 4096);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_finish(&arena);
    return failed;
}
