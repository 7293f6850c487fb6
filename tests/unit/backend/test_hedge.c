/* Second questions come late enough to be rare, and never more of them than was allowed. */
#include "backend/hedge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_the_delay_is_the_quantile(void **state)
{
    (void)state;
    Quantile quantile;
    quantile_init(&quantile);
    for (uint64_t i = 0; i < 2000; i++)
        quantile_add(&quantile, (i * 7919) % 1000, 95);
    assert_in_range(quantile_us(&quantile), 900, 1100);
}

static void test_a_few_reads_are_no_ground_for_a_delay(void **state)
{
    (void)state;
    Quantile quantile;
    quantile_init(&quantile);
    for (int i = 0; i < 40; i++)
        quantile_add(&quantile, 100, 95);
    assert_int_equal(quantile_us(&quantile), 0);
}

/* Else: after a quiet hour the delay is that of yesterday's load. */
static void test_it_follows_what_reads_take_now(void **state)
{
    (void)state;
    Quantile quantile;
    quantile_init(&quantile);
    for (int i = 0; i < 5000; i++)
        quantile_add(&quantile, 100, 95);
    for (int i = 0; i < 20000; i++)
        quantile_add(&quantile, 10000, 95);
    assert_in_range(quantile_us(&quantile), 9000, 11500);
}

static void test_durations_of_any_size_have_a_place(void **state)
{
    (void)state;
    for (uint64_t us = 1; us < UINT64_C(1) << 40; us *= 3) {
        Quantile quantile;
        quantile_init(&quantile);
        for (int i = 0; i < 100; i++)
            quantile_add(&quantile, us, 95);
        if (us < UINT64_C(1) << 33)
            assert_in_range(quantile_us(&quantile), us, us + us / 8 + 1);
    }
}

/* Else: when everything is slow, hedging doubles the load and nothing recovers. */
static void test_extra_reads_stay_within_their_share(void **state)
{
    (void)state;
    Budget budget = {0};
    uint32_t spent = 0;
    for (int i = 0; i < 10000; i++) {
        budget_earn(&budget, 5);
        spent += budget_spend(&budget);
    }
    assert_int_equal(spent, 500);
    for (int i = 0; i < 10000; i++)
        budget_earn(&budget, 5);
    for (spent = 0; budget_spend(&budget); spent++) {
    }
    assert_int_equal(spent, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_delay_is_the_quantile),
        cmocka_unit_test(test_a_few_reads_are_no_ground_for_a_delay),
        cmocka_unit_test(test_it_follows_what_reads_take_now),
        cmocka_unit_test(test_durations_of_any_size_have_a_place),
        cmocka_unit_test(test_extra_reads_stay_within_their_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
