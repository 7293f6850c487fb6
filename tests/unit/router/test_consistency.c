/* What a read was promised is kept, or it goes to the primary. */
#include "router/consistency.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000)

static ServerStanding standing;
static ReadPromise promise;
static uint64_t now_us;

static void begin(ReadConsistency consistency)
{
    now_us = 1000 * SECOND;
    standing = (ServerStanding){.state = HEALTH_UP, .in_recovery = 1, .measured_us = now_us - SECOND / 10,
                                .fresh_us = now_us - SECOND / 10, .lsn = 5000, .since_us = 1};
    promise = (ReadPromise){.consistency = consistency, .max_lag_us = SECOND, .seen_server = NO_SERVER};
}

static ReadRefusal check(void)
{
    return consistency_check(&promise, &standing, 2, now_us, SECOND);
}

static void test_bounded_is_by_what_is_proven(void **state)
{
    (void)state;
    begin(READ_BOUNDED);
    assert_int_equal(check(), READ_ALLOWED);
    standing.fresh_us = now_us - SECOND;
    assert_int_equal(check(), READ_ALLOWED);
    standing.fresh_us--;
    assert_int_equal(check(), READ_LAGS);
    standing.fresh_us = 0;
    assert_int_equal(check(), READ_LAGS);
}

/* Else: a router that was stopped for a minute goes on as if nothing had happened. */
static void test_figures_grow_old_by_themselves(void **state)
{
    (void)state;
    begin(READ_BOUNDED);
    now_us += 60 * SECOND;
    assert_int_equal(check(), READ_LAGS);
}

static void test_bytes_count_only_while_they_are_fresh(void **state)
{
    (void)state;
    begin(READ_BOUNDED);
    promise.max_lag_bytes = 100;
    standing.lag_bytes = 100;
    assert_int_equal(check(), READ_ALLOWED);
    standing.lag_bytes = 101;
    assert_int_equal(check(), READ_LAGS_BYTES);
    standing.lag_bytes = UINT64_MAX;
    assert_int_equal(check(), READ_STALE);
}

/* Else: what was just saved is not there on the next page. */
static void test_a_session_reads_what_it_wrote(void **state)
{
    (void)state;
    begin(READ_SESSION);
    assert_int_equal(check(), READ_ALLOWED);
    promise.floor_us = standing.fresh_us + 1;
    assert_int_equal(check(), READ_BEFORE_WRITE);
    standing.fresh_us = promise.floor_us;
    assert_int_equal(check(), READ_ALLOWED);
    promise.floor_lsn = 5001;
    assert_int_equal(check(), READ_BEFORE_WRITE);
    standing.lsn = 5001;
    assert_int_equal(check(), READ_ALLOWED);
}

/* Else: a list grows and shrinks from one page to the next. */
static void test_a_session_never_goes_back(void **state)
{
    (void)state;
    begin(READ_SESSION);
    promise.seen_us = now_us;
    promise.seen_server = 1;
    assert_int_equal(check(), READ_BEFORE_SEEN);
    promise.seen_server = 2; /* the same one goes on from there */
    assert_int_equal(check(), READ_ALLOWED);
    standing.since_us = now_us + 1; /* unless it was started anew since */
    assert_int_equal(check(), READ_BEFORE_SEEN);
    standing.fresh_us = now_us;
    assert_int_equal(check(), READ_ALLOWED);
}

static void test_only_a_standby_that_is_up_answers(void **state)
{
    (void)state;
    begin(READ_EVENTUAL);
    assert_int_equal(check(), READ_ALLOWED);
    standing.in_recovery = 0;
    assert_int_equal(check(), READ_NO_STANDBY);
    standing.state = HEALTH_WRONG;
    assert_int_equal(check(), READ_NOT_UP);
    begin(READ_STRONG);
    assert_int_not_equal(check(), READ_ALLOWED);
}

static void test_hints_are_read_in_any_spelling(void **state)
{
    (void)state;
    ReadWish wish = consistency_read_hint(SLICE("read_consistency = eventual"));
    assert_int_equal(wish.consistency, READ_EVENTUAL);
    wish = consistency_read_hint(SLICE("batch=off max_lag=2s, READ_CONSISTENCY=Bounded; copies=2"));
    assert_int_equal(wish.consistency, READ_BOUNDED);
    assert_int_equal(wish.max_lag_ms, 2000);
    assert_int_equal(wish.copies, 2);
    wish = consistency_read_hint(SLICE("read_consistency=newest =,= max_lag=abc copies=99"));
    assert_int_equal(wish.consistency, READ_DEFAULT);
    assert_int_equal(wish.max_lag_ms, 0);
    assert_int_equal(wish.copies, 0);
    wish = consistency_read_hint(SLICE(""));
    assert_int_equal(wish.consistency, READ_DEFAULT);
}

static void test_lags_have_units(void **state)
{
    (void)state;
    uint32_t ms;
    assert_true(consistency_read_lag(SLICE("250"), &ms) && ms == 250);
    assert_true(consistency_read_lag(SLICE("3 s"), &ms) && ms == 3000);
    assert_true(consistency_read_lag(SLICE("1min"), &ms) && ms == 60000);
    assert_false(consistency_read_lag(SLICE("fast"), &ms));
    assert_false(consistency_read_lag(SLICE("99999999999s"), &ms));
    assert_false(consistency_read_lag(SLICE("1 parsec"), &ms));
}

/* Else: a deadline that was meant as a percentile cuts everything off at 99 ms. */
static void test_deadlines_are_durations_or_percentiles(void **state)
{
    (void)state;
    ReadWish wish = {0};
    assert_true(consistency_read_deadline(SLICE("80ms"), &wish));
    assert_true(wish.deadline_ms == 80 && !wish.deadline_percent && !wish.late_stale);
    assert_true(consistency_read_deadline(SLICE("p99 stale"), &wish));
    assert_true(wish.deadline_percent == 99 && !wish.deadline_ms && wish.late_stale);
    assert_false(consistency_read_deadline(SLICE("p20"), &wish));
    assert_false(consistency_read_deadline(SLICE("p"), &wish));
    assert_false(consistency_read_deadline(SLICE(" stale"), &wish));
    assert_int_equal(wish.deadline_percent, 99);
    assert_true(consistency_read_deadline(SLICE("off"), &wish));
    assert_true(!wish.deadline_ms && !wish.deadline_percent && !wish.late_stale);
    wish = consistency_read_hint(SLICE("deadline = p95, late = stale"));
    assert_true(wish.deadline_percent == 95 && wish.late_stale);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounded_is_by_what_is_proven),
        cmocka_unit_test(test_figures_grow_old_by_themselves),
        cmocka_unit_test(test_bytes_count_only_while_they_are_fresh),
        cmocka_unit_test(test_a_session_reads_what_it_wrote),
        cmocka_unit_test(test_a_session_never_goes_back),
        cmocka_unit_test(test_only_a_standby_that_is_up_answers),
        cmocka_unit_test(test_hints_are_read_in_any_spelling),
        cmocka_unit_test(test_lags_have_units),
        cmocka_unit_test(test_deadlines_are_durations_or_percentiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
