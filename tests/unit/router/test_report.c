/*
 * SHOW over several workers. A user would lose sight of the truth at 3 a.m.: rows told twice, sums that
 * are a worker's alone, clients that have become one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "router/report.h"

static Report *report_of(ReportKind kind)
{
    Report *report = report_create(kind);
    assert_non_null(report);
    return report;
}

static const char *cell(const Report *report, uint32_t row, uint32_t column)
{
    const ReportRow *at = report->rows;
    while (row--)
        at = at->next;
    return at->cells[column];
}

static void test_counters_are_summed(void **state)
{
    /* SHOW STATS says what one worker has done, not what Shoal has. */
    (void)state;
    Report *report = report_of(REPORT_STATS);
    assert_true(report_add(report, (const char *[]){"clients", "3"}));
    assert_true(report_add(report, (const char *[]){"errors", "18446744073709551610"}));
    assert_true(report_add(report, (const char *[]){"clients", "4"}));
    assert_true(report_add(report, (const char *[]){"errors", "5"}));
    report_merge(report);
    assert_int_equal(report->row_count, 2);
    assert_string_equal(cell(report, 0, 0), "clients");
    assert_string_equal(cell(report, 0, 1), "7");
    assert_string_equal(cell(report, 1, 1), "18446744073709551615");
    report_free(report);
}

static void test_maxima_are_not_summed(void **state)
{
    /* The largest batch seems larger than any batch was. */
    (void)state;
    Report *report = report_of(REPORT_BATCHES);
    const char *one[] = {"SELECT $1", "s0", "A", "ok", "10", "1", "2", "9", "5", "0", "70", "90"};
    const char *two[] = {"SELECT $1", "s0", "A", "ok", "20", "2", "3", "18", "7", "1", "60", "95"};
    const char *other[] = {"SELECT $1", "s1", "A", "ok", "1", "1", "0", "0", "1", "0", "5", "5"};
    assert_true(report_add(report, one) && report_add(report, other) && report_add(report, two));
    report_merge(report);
    assert_int_equal(report->row_count, 2);
    assert_string_equal(cell(report, 0, 4), "30");
    assert_string_equal(cell(report, 0, 8), "7");
    assert_string_equal(cell(report, 0, 10), "70");
    assert_string_equal(cell(report, 0, 11), "95");
    assert_string_equal(cell(report, 1, 1), "s1");
    report_free(report);
}

static void test_clients_stay_apart(void **state)
{
    /* Two clients that look alike are shown as one. */
    (void)state;
    Report *report = report_of(REPORT_CLIENTS);
    const char *client[] = {"1", "app", "db", "idle", "I", "peer", "no", "0", "0", "5", NULL, "no", "0", "9"};
    assert_true(report_add(report, client) && report_add(report, client));
    report_merge(report);
    assert_int_equal(report->row_count, 2);
    assert_null(cell(report, 1, 10));
    report_free(report);
}

static void test_null_cells(void **state)
{
    /* A reason without a rule ends the process as soon as there are two workers. */
    (void)state;
    Report *report = report_of(REPORT_BATCH_REASONS);
    assert_true(report_add(report, (const char *[]){"off", NULL, "3", "help"}));
    assert_true(report_add(report, (const char *[]){"off", NULL, "4", "help"}));
    assert_true(report_add(report, (const char *[]){"off", "7", "1", "help"}));
    report_merge(report);
    assert_int_equal(report->row_count, 2);
    assert_null(cell(report, 0, 1));
    assert_string_equal(cell(report, 0, 2), "7");
    report_free(report);
}

static void test_merging_again_and_adding_behind(void **state)
{
    /* A report that goes round once more loses its rows, or writes behind the last one. */
    (void)state;
    Report *report = report_of(REPORT_STATS);
    report_merge(report);
    assert_int_equal(report->row_count, 0);
    assert_true(report_add(report, (const char *[]){"a", "1"}));
    assert_true(report_add(report, (const char *[]){"a", "1"}));
    report_merge(report);
    assert_true(report_add(report, (const char *[]){"b", "2"}));
    assert_true(report_add(report, (const char *[]){"a", "1"}));
    report_merge(report);
    assert_int_equal(report->row_count, 2);
    assert_string_equal(cell(report, 0, 1), "3");
    assert_string_equal(cell(report, 1, 0), "b");
    report_free(report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters_are_summed),
        cmocka_unit_test(test_maxima_are_not_summed),
        cmocka_unit_test(test_clients_stay_apart),
        cmocka_unit_test(test_null_cells),
        cmocka_unit_test(test_merging_again_and_adding_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
