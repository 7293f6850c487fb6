/*
 * Metrics as text. A user would lose his alarms: one wrong line, and Prometheus takes none of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin/metrics.h"

static RowsetColumn POOL_COLUMNS[] = {{"server", false}, {"database", false}, {"user", false},
                                      {"waiting", true}, {"wait_us", true}};

static char *written(const char *source, const Rowset *rows)
{
    Buf out;
    buf_init(&out, 1 << 20);
    metrics_write(&out, &source, &rows, 1);
    assert_false(out.failed);
    Slice bytes = buf_bytes(&out);
    char *text = strndup(bytes.data ? (const char *)bytes.data : "", bytes.len);
    buf_finish(&out);
    return text;
}

static void test_a_row_is_a_series(void **state)
{
    /* The figure is there, under another name than documented. */
    (void)state;
    const char *cells[] = {"s0/primary", "app", "ann", "3", "1500000"};
    Rowset rows = {POOL_COLUMNS, 5, cells, 1, 1};
    char *text = written("pools", &rows);
    assert_non_null(strstr(text, "# TYPE shoal_pool_waiting gauge\n"
                                 "shoal_pool_waiting{server=\"s0/primary\",database=\"app\",user=\"ann\"} 3\n"));
    assert_non_null(strstr(text, "shoal_pool_wait_seconds_total{server=\"s0/primary\",database=\"app\",user=\"ann\"} 1.5\n"));
    assert_null(strstr(text, "shoal_pool_size")); /* the source has no such column */
    free(text);
}

static void test_labels_are_escaped(void **state)
{
    /* A user called "x\n" ends a line, and the scrape. */
    (void)state;
    const char *cells[] = {"a\"b", "c\\d", "e\nf\xff\xc3\xa9", "1", "0"};
    Rowset rows = {POOL_COLUMNS, 5, cells, 1, 1};
    char *text = written("pools", &rows);
    assert_non_null(strstr(text, "{server=\"a\\\"b\",database=\"c\\\\d\",user=\"e\\nf?\xc3\xa9\"} 1\n"));
    free(text);
}

static void test_equal_labels_are_added_up(void **state)
{
    /* The same series twice is refused by Prometheus as a whole. */
    (void)state;
    const char *cells[] = {"s", "d", "u", "1", "0", "s", "d", "v", "5", "0", "s", "d", "u", "2", "0"};
    Rowset rows = {POOL_COLUMNS, 5, cells, 3, 3};
    char *text = written("pools", &rows);
    assert_non_null(strstr(text, "user=\"u\"} 3\n"));
    assert_non_null(strstr(text, "user=\"v\"} 5\n"));
    assert_null(strstr(text, "user=\"u\"} 1\n"));
    free(text);
}

static void test_a_state_is_one_or_nothing(void **state)
{
    /* A server that is down is told as up because one of its rows says so. */
    (void)state;
    RowsetColumn columns[] = {{"check", false}, {"state", false}, {"what", false}};
    const char *cells[] = {"servers", "ok", NULL, "catalogs", "bad", "x", "catalogs", "ok", NULL};
    Rowset rows = {columns, 3, cells, 3, 3};
    char *text = written("health", &rows);
    assert_non_null(strstr(text, "shoal_health{check=\"servers\"} 1\n"));
    assert_non_null(strstr(text, "shoal_health{check=\"catalogs\"} 0\n"));
    free(text);
}

static void test_a_histogram_has_buckets_sum_and_count(void **state)
{
    /* Latencies cannot be added up over routers, nor quantiles be had. */
    (void)state;
    RowsetColumn columns[] = {{"path", false}, {"stage", false}, {"le_us", true}, {"count", true}, {"sum_us", true}};
    const char *cells[] = {"batched", "total", "16", "2", NULL, "batched", "total", NULL, "5", "2000000"};
    Rowset rows = {columns, 5, cells, 2, 2};
    char *text = written("latency_buckets", &rows);
    assert_non_null(strstr(text, "shoal_request_duration_seconds_bucket{path=\"batched\",stage=\"total\",le=\"1.6e-05\"} 2\n"));
    assert_non_null(strstr(text, "_bucket{path=\"batched\",stage=\"total\",le=\"+Inf\"} 5\n"));
    assert_non_null(strstr(text, "_sum{path=\"batched\",stage=\"total\"} 2\n"));
    assert_non_null(strstr(text, "_count{path=\"batched\",stage=\"total\"} 5\n"));
    free(text);
}

static void test_the_table_is_sound(void **state)
{
    /* A name twice, a counter that is none, a help that breaks the line. */
    (void)state;
    size_t count;
    const Metric *metrics = metrics_table(&count);
    for (size_t i = 0; i < count; i++) {
        const Metric *m = &metrics[i];
        bool total = strlen(m->name) > 6 && strcmp(m->name + strlen(m->name) - 6, "_total") == 0;
        assert_int_equal(total, m->type == METRIC_COUNTER);
        assert_int_equal(strncmp(m->name, "shoal_", 6), 0);
        assert_int_equal(strspn(m->name, "abcdefghijklmnopqrstuvwxyz_"), strlen(m->name));
        assert_null(strpbrk(m->help, "\n\\"));
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(metrics[k].name, m->name);
    }
    const char *sources[64];
    size_t many = metrics_sources(sources, 64);
    assert_true(many > 5 && many < 20);
}

/* Else: the documentation tells of metrics that are gone. `ninja -C build metrics-doc` writes it anew. */
static void test_the_documentation_is_up_to_date(void **state)
{
    (void)state;
    char *text = NULL, path[4096];
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    metrics_write_markdown(out);
    fclose(out);
    const char *root = getenv("SHOAL_SOURCE");
    snprintf(path, sizeof path, "%s/docs/metrics.md", root ? root : ".");
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *found = calloc(1, len + 2);
    assert_int_equal(fread(found, 1, len + 1, file), len);
    fclose(file);
    assert_string_equal(found, text);
    free(found);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_row_is_a_series),
        cmocka_unit_test(test_labels_are_escaped),
        cmocka_unit_test(test_equal_labels_are_added_up),
        cmocka_unit_test(test_a_state_is_one_or_nothing),
        cmocka_unit_test(test_a_histogram_has_buckets_sum_and_count),
        cmocka_unit_test(test_the_table_is_sound),
        cmocka_unit_test(test_the_documentation_is_up_to_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
