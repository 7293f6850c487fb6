/* Lag is measured against what the primary had inserted, never against what a standby received. */
#include "admin/lag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static LagHistory history;

static void samples(const uint64_t (*pairs)[2], size_t count)
{
    lag_reset(&history);
    for (size_t i = 0; i < count; i++)
        lag_add(&history, pairs[i][0], pairs[i][1]);
}

/* Else: a read that asked for data of the last second gets older data. */
static void test_fresh_is_the_newest_sample_that_was_replayed(void **state)
{
    (void)state;
    samples((const uint64_t[][2]){{10, 100}, {20, 100}, {30, 250}, {40, 300}}, 4);
    assert_int_equal(lag_fresh_us(&history, 99), 0);
    assert_int_equal(lag_fresh_us(&history, 100), 20);
    assert_int_equal(lag_fresh_us(&history, 260), 30);
    assert_int_equal(lag_fresh_us(&history, 300), 40);
    assert_int_equal(lag_bytes(&history, 260), 40);
    assert_int_equal(lag_bytes(&history, 301), 0);
}

/* L2. Else: replicas of an idle primary are shunned, or a cut one is trusted for ever. */
static void test_an_idle_primary_has_no_lag_and_a_cut_standby_grows_old(void **state)
{
    (void)state;
    samples((const uint64_t[][2]){{10, 100}, {20, 100}, {30, 100}}, 3);
    assert_int_equal(lag_fresh_us(&history, 100), 30);
    lag_add(&history, 40, 101);
    assert_int_equal(lag_fresh_us(&history, 100), 30);
    lag_add(&history, 50, 101);
    assert_int_equal(lag_fresh_us(&history, 100), 30);
}

static void test_nothing_is_known_without_the_primary(void **state)
{
    (void)state;
    lag_reset(&history);
    assert_int_equal(lag_fresh_us(&history, 1000), 0);
    assert_int_equal(lag_bytes(&history, 1000), UINT64_MAX);
}

/* Else: after hours of running the ring points to the wrong sample. */
static void test_the_ring_forgets_its_oldest(void **state)
{
    (void)state;
    lag_reset(&history);
    for (uint64_t i = 1; i <= 3 * LAG_SAMPLES; i++)
        lag_add(&history, i * 10, i);
    assert_int_equal(lag_fresh_us(&history, 3 * LAG_SAMPLES), 30 * LAG_SAMPLES);
    assert_int_equal(lag_fresh_us(&history, 2 * LAG_SAMPLES + 1), 20 * LAG_SAMPLES + 10);
    assert_int_equal(lag_fresh_us(&history, 2 * LAG_SAMPLES), 0);
}

/* Else: positions of a restored primary are held against those of the one before. */
static void test_a_primary_that_goes_back_begins_anew(void **state)
{
    (void)state;
    samples((const uint64_t[][2]){{10, 100}, {20, 200}, {30, 150}}, 3);
    assert_int_equal(lag_fresh_us(&history, 120), 0);
    assert_int_equal(lag_fresh_us(&history, 200), 30);
}

/* Else: one idle primary in a thousand has replicas that seem 24 bytes behind for ever. */
static void test_a_page_header_is_not_lag(void **state)
{
    (void)state;
    const uint64_t block = 8192, segment = 16 << 20;
    assert_int_equal(lag_record_end(3 * block + 24, block, segment), 3 * block);
    assert_int_equal(lag_record_end(2 * segment + 40, block, segment), 2 * segment);
    assert_int_equal(lag_record_end(3 * block + 40, block, segment), 3 * block + 40);
    assert_int_equal(lag_record_end(3 * block + 32, block, segment), 3 * block + 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fresh_is_the_newest_sample_that_was_replayed),
        cmocka_unit_test(test_an_idle_primary_has_no_lag_and_a_cut_standby_grows_old),
        cmocka_unit_test(test_nothing_is_known_without_the_primary),
        cmocka_unit_test(test_the_ring_forgets_its_oldest),
        cmocka_unit_test(test_a_primary_that_goes_back_begins_anew),
        cmocka_unit_test(test_a_page_header_is_not_lag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
