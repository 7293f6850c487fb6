/* Stories of tuner.h and hint.h: pure, so a server is a formula. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "batcher/hint.h"
#include "batcher/tuner.h"

typedef struct World {
    Tuner tuner;
    double a, b;     /* of this server, microseconds */
    double crowding; /* how much slower each batch is for each other one under way */
    uint64_t now_us;
} World;

/* As much load as there is room for: each batch is full, and somebody waits. */
static void run_full(World *w, uint32_t batches)
{
    for (uint32_t i = 0; i < batches; i++) {
        uint32_t n = tuner_batch_max(&w->tuner), c = tuner_inflight_max(&w->tuner);
        n -= i % 3 < n ? i % 3 : 0; /* nothing is ever exactly alike */
        double us = (w->a + w->b * n) * (1 + w->crowding * (c - 1));
        w->now_us += (uint64_t)(us / c);
        TunerBatch batch = {.members = n, .service_us = (uint64_t)us, .alone = c == 1, .waiting = true};
        tuner_observe(&w->tuner, batch, w->now_us);
    }
}

/* Lost: batches so large that everybody in them waits for longer than the profile promises. */
static void test_large_batches_shrink_to_the_target(void **state)
{
    (void)state;
    World w = {.a = 200, .b = 100, .now_us = 1};
    tuner_init(&w.tuner, (TunerLimits){.batch_max = 400, .inflight_max = 1, .target_us = 5000});
    run_full(&w, 2000);
    assert_in_range(tuner_batch_max(&w.tuner), 30, 52); /* 48 take 5 ms */
}

/* Lost: batches that stay small although the server has become fast again. */
static void test_they_grow_again(void **state)
{
    (void)state;
    World w = {.a = 200, .b = 1000, .now_us = 1};
    tuner_init(&w.tuner, (TunerLimits){.batch_max = 100, .inflight_max = 1, .target_us = 5000});
    run_full(&w, 1000);
    assert_in_range(tuner_batch_max(&w.tuner), 2, 9); /* 4 take 4.2 ms; tried a few more now and then */
    w.b = 10;
    run_full(&w, 2000);
    assert_int_equal(tuner_batch_max(&w.tuner), 100);
}

/* Lost: a server far away makes batches tiny, although that makes nothing faster. */
static void test_size_is_not_to_blame_for_distance(void **state)
{
    (void)state;
    World w = {.a = 30000, .b = 5, .now_us = 1};
    tuner_init(&w.tuner, (TunerLimits){.batch_max = 100, .inflight_max = 1, .target_us = 5000});
    run_full(&w, 2000);
    assert_in_range(tuner_batch_max(&w.tuner), 60, 100);
}

/* Lost: a target of 0 is taken for "as fast as possible". */
static void test_no_target_no_tuning(void **state)
{
    (void)state;
    World w = {.a = 200, .b = 1000, .now_us = 1};
    tuner_init(&w.tuner, (TunerLimits){.batch_max = 100, .inflight_max = 1});
    run_full(&w, 500);
    assert_int_equal(tuner_batch_max(&w.tuner), 100);
}

/* Lost: a server with many cores is asked one thing at a time. */
static void test_more_under_way_where_the_server_has_room(void **state)
{
    (void)state;
    World w = {.a = 500, .b = 10, .crowding = 0, .now_us = 1};
    tuner_init(&w.tuner, (TunerLimits){.batch_max = 100, .inflight_max = 4, .target_us = 20000});
    run_full(&w, 1000);
    assert_in_range(tuner_inflight_max(&w.tuner), 3, 4); /* one less is tried now and then */
}

/* Lost: a busy server gets two small batches instead of a large one, most of the time. */
static void test_one_under_way_where_it_has_none(void **state)
{
    (void)state;
    World w = {.a = 500, .b = 10, .crowding = 1, .now_us = 1};
    tuner_init(&w.tuner, (TunerLimits){.batch_max = 100, .inflight_max = 4, .target_us = 20000});
    uint32_t crowded = 0;
    for (int i = 0; i < 20000; i++) {
        run_full(&w, 1);
        crowded += tuner_inflight_max(&w.tuner) > 1;
    }
    assert_in_range(crowded, 1, 1000); /* tried, and left */
}

/* Lost: what was right while the server was idle goes on for ever. */
static void test_fewer_again_when_the_room_is_gone(void **state)
{
    (void)state;
    World w = {.a = 500, .b = 10, .crowding = 0, .now_us = 1};
    tuner_init(&w.tuner, (TunerLimits){.batch_max = 100, .inflight_max = 4, .target_us = 20000});
    run_full(&w, 2000);
    assert_in_range(tuner_inflight_max(&w.tuner), 3, 4);
    w.crowding = 1; /* others have taken its cores */
    run_full(&w, 4000);
    uint32_t crowded = 0;
    for (int i = 0; i < 20000; i++) {
        run_full(&w, 1);
        crowded += tuner_inflight_max(&w.tuner) > 1;
    }
    assert_in_range(crowded, 0, 1000);
}

/* Lost: a hint that was given is not heard, or one that was not given is. */
static void test_hints(void **state)
{
    (void)state;
    static const struct {
        const char *text, *profile;
        bool off;
    } hints[] = {
        {"batch=off", "", true},
        {"batch = OFF", "", true},
        {"profile=night", "night", false},
        {"profile = night , batch=no", "night", true},
        {"batch=off profile=a", "a", true},
        {"nobatch=off", "", false},
        {"batch=offline", "", false},
        {"batch=on", "", false},
        {"batch", "", false},
        {"= = =", "", false},
        {"=off", "", false},
        {"", "", false},
        {"something else, batch=off", "", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(hints); i++) {
        Hint hint = hint_read(slice_str(hints[i].text));
        assert_int_equal(hint.batch_off, hints[i].off);
        assert_true(slice_is(hint.profile, hints[i].profile));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_batches_shrink_to_the_target),
        cmocka_unit_test(test_they_grow_again),
        cmocka_unit_test(test_size_is_not_to_blame_for_distance),
        cmocka_unit_test(test_no_target_no_tuning),
        cmocka_unit_test(test_more_under_way_where_the_server_has_room),
        cmocka_unit_test(test_one_under_way_where_it_has_none),
        cmocka_unit_test(test_fewer_again_when_the_room_is_gone),
        cmocka_unit_test(test_hints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
