/* A breaker keeps reads away from what fails, and lets few of them find out when that is over. */
#include "backend/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static Breaker breaker;
static BreakerLimits limits;
static uint64_t now_us;

static void begin(void)
{
    breaker_init(&breaker);
    limits = (BreakerLimits){.failure_percent = 50, .open_us = 2000000};
    now_us = 100000000;
}

static void call(bool ok, uint64_t took_us)
{
    breaker_begin(&breaker);
    breaker_end(&breaker, &limits, now_us, ok, took_us);
}

static void calls(int count, bool ok)
{
    for (int i = 0; i < count; i++)
        call(ok, 100);
}

static void test_it_opens_when_half_of_the_reads_fail(void **state)
{
    (void)state;
    begin();
    calls(10, true);
    calls(9, false);
    assert_true(breaker_allows(&breaker, now_us));
    call(false, 100);
    assert_false(breaker_allows(&breaker, now_us));
}

/* Else: the first lost connection of the day takes a server out. */
static void test_a_few_failures_tell_nothing(void **state)
{
    (void)state;
    begin();
    calls(9, false);
    assert_true(breaker_allows(&breaker, now_us));
}

static void test_failures_of_long_ago_do_not_count(void **state)
{
    (void)state;
    begin();
    calls(9, false);
    now_us += 11000000;
    calls(1, false);
    assert_true(breaker_allows(&breaker, now_us));
}

static void test_slow_calls_open_it_when_they_count(void **state)
{
    (void)state;
    begin();
    limits.slow_us = 50000;
    for (int i = 0; i < 10; i++)
        call(true, 60000);
    assert_int_equal(breaker.state, BREAKER_OPEN);
}

/* Else: all waiting reads rush at a server that has just come back. */
static void test_half_open_lets_two_at_a_time_try(void **state)
{
    (void)state;
    begin();
    calls(10, false);
    now_us += 1999999;
    assert_false(breaker_allows(&breaker, now_us));
    now_us += 1;
    assert_true(breaker_allows(&breaker, now_us));
    breaker_begin(&breaker);
    assert_true(breaker_allows(&breaker, now_us));
    breaker_begin(&breaker);
    assert_false(breaker_allows(&breaker, now_us));
    breaker_forget(&breaker);
    assert_true(breaker_allows(&breaker, now_us));
}

static void test_it_closes_when_the_probes_went_well(void **state)
{
    (void)state;
    begin();
    calls(10, false);
    now_us += 2000000;
    for (int i = 0; i < BREAKER_PROBES; i++) {
        assert_true(breaker_allows(&breaker, now_us));
        call(true, 100);
    }
    assert_int_equal(breaker.state, BREAKER_CLOSED);
}

static void test_a_failed_probe_keeps_it_open_for_longer(void **state)
{
    (void)state;
    begin();
    calls(10, false);
    now_us += 2000000;
    assert_true(breaker_allows(&breaker, now_us));
    call(false, 100);
    now_us += 3999999;
    assert_false(breaker_allows(&breaker, now_us));
    now_us += 1;
    assert_true(breaker_allows(&breaker, now_us));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_opens_when_half_of_the_reads_fail),
        cmocka_unit_test(test_a_few_failures_tell_nothing),
        cmocka_unit_test(test_failures_of_long_ago_do_not_count),
        cmocka_unit_test(test_slow_calls_open_it_when_they_count),
        cmocka_unit_test(test_half_open_lets_two_at_a_time_try),
        cmocka_unit_test(test_it_closes_when_the_probes_went_well),
        cmocka_unit_test(test_a_failed_probe_keeps_it_open_for_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
