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

#define BATCH_COLUMNS 23

static uint32_t column_of(ReportKind kind, const char *name)
{
    uint32_t count;
    const ReportColumn *columns = report_columns(kind, &count);
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(columns[i].name, name) == 0)
            return i;
    fail_msg("no column %s", name);
    return 0;
}

static const char *named_cell(const Report *report, uint32_t row, const char *name)
{
    return cell(report, row, column_of(report->kind, name));
}

/* A row of SHOW BATCHES as a worker sends it: every figure is 0 but for those named. */
static void batch_row(const char **row, const char *pool, const char *statements,
                      const char *size_max, const char *spread)
{
    uint32_t count;
    const ReportColumn *columns = report_columns(REPORT_BATCHES, &count);
    assert_int_equal(count, BATCH_COLUMNS);
    for (uint32_t i = 0; i < count; i++)
        row[i] = columns[i].merge >= REPORT_P50 ? spread : "0";
    row[column_of(REPORT_BATCHES, "pool")] = pool;
    row[column_of(REPORT_BATCHES, "statements")] = statements;
    row[column_of(REPORT_BATCHES, "size_max")] = size_max;
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
    const char *one[BATCH_COLUMNS], *two[BATCH_COLUMNS], *other[BATCH_COLUMNS];
    batch_row(one, "s0", "10", "5", "16:99 40:1");
    batch_row(two, "s0", "20", "7", "16:1");
    batch_row(other, "s1", "1", "1", "");
    assert_true(report_add(report, one) && report_add(report, other) && report_add(report, two));
    report_merge(report);
    assert_int_equal(report->row_count, 2);
    assert_string_equal(named_cell(report, 0, "statements"), "30");
    assert_string_equal(named_cell(report, 0, "size_max"), "7");
    assert_string_equal(named_cell(report, 1, "pool"), "s1");
    report_free(report);
}

static void test_quantiles_are_those_of_all_workers(void **state)
{
    /* One slow worker in ten thousand statements is shown as everybody's p99. */
    (void)state;
    Report *report = report_of(REPORT_BATCHES);
    const char *fast[BATCH_COLUMNS], *slow[BATCH_COLUMNS], *idle[BATCH_COLUMNS];
    batch_row(fast, "s0", "1", "1", "16:9999"); /* bucket 16: 32-39 */
    batch_row(slow, "s0", "1", "1", "60:1");
    batch_row(idle, "s1", "1", "1", NULL);
    assert_true(report_add(report, slow) && report_add(report, fast) && report_add(report, idle));
    report_merge(report);
    assert_string_equal(named_cell(report, 0, "service_p99_us"), "39");
    assert_string_equal(named_cell(report, 0, "sizes"), "32-63:9999 65536-131071:1");
    assert_null(named_cell(report, 1, "service_p99_us"));
    report_free(report);
}

static void test_clients_stay_apart(void **state)
{
    /* Two clients that look alike are shown as one. */
    (void)state;
    Report *report = report_of(REPORT_CLIENTS);
    const char *client[] = {"1", "app", "db", "idle", "I", "peer", "no", "0", "0", "5", NULL, "no", "0", "9", ""};
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
        cmocka_unit_test(test_quantiles_are_those_of_all_workers),
        cmocka_unit_test(test_clients_stay_apart),
        cmocka_unit_test(test_null_cells),
        cmocka_unit_test(test_merging_again_and_adding_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
