/*
 * Where the values of a loop come from. A user would lose time, not rows, if this were wrong: a guess that
 * does not fit is thrown away. It must never read beyond a row, and never grow beyond its limits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "router/provenance.h"
#include "wire/backend.h"

static ParentRows rows;
static Provenance loop;

static int begin(void **state)
{
    (void)state;
    parent_rows_init(&rows);
    parent_rows_begin(&rows, WIRE_FORMATS_NONE, 100, 10000);
    loop = (Provenance){0};
    return 0;
}
static int end(void **state)
{
    (void)state;
    parent_rows_finish(&rows);
    return 0;
}

/* A row of texts; NULL is NULL. */
static void row(const char *a, const char *b)
{
    Column columns[2] = {{.value = slice_str(a), .is_null = !a}, {.value = slice_str(b), .is_null = !b}};
    Buf buf;
    buf_init(&buf, 1000);
    backend_put_data_row(&buf, columns, 2);
    parent_rows_add(&rows, slice_from(buf_bytes(&buf), 5));
    buf_finish(&buf);
}

static bool asks(const char *value)
{
    uint64_t hash = provenance_hash(slice_str(value), FORMAT_TEXT);
    return provenance_step(&loop, &rows, &hash, 1);
}

static void values_in_order_are_followed(void **state)
{
    (void)state;
    row("1", "7"), row("2", "9"), row("3", "4");
    assert_true(asks("7") && asks("9") && asks("4"));
    Suspect links[2];
    assert_int_equal(provenance_links(&loop, links, 2), 1);
    assert_int_equal(links[0].column, 1);
    assert_int_equal(links[0].row, 2);
}

static void nulls_and_values_met_before_are_passed_over(void **state)
{
    (void)state;
    row("1", NULL), row("2", "9"), row("3", "9"), row("4", NULL), row("5", "4");
    assert_true(asks("9") && asks("4"));
}

static void the_same_value_may_come_again(void **state)
{
    (void)state;
    row("1", "9"), row("2", "9"), row("3", "4");
    assert_true(asks("9") && asks("9") && asks("4"));
    assert_int_equal(loop.suspects[0].row, 2);
}

static void other_values_break_it(void **state)
{
    (void)state;
    row("1", "7"), row("2", "9"), row("3", "4");
    assert_true(asks("7"));
    assert_false(asks("4")); /* 9 was left out */
    assert_true(loop.broken);
    assert_false(asks("9"));
}

static void what_comes_before_the_loop_does_not(void **state)
{
    (void)state;
    row("1", "7"), row("2", "9");
    assert_false(asks("1000")); /* who is logged in */
    assert_false(loop.broken);
    assert_true(asks("7") && asks("9"));
}

static void a_constant_is_no_key(void **state)
{
    (void)state;
    row("5", "7"), row("5", "7"), row("5", "7");
    Suspect links[2];
    assert_true(asks("5") && asks("5") && asks("5"));
    assert_int_equal(provenance_links(&loop, links, 2), 0);
}

static void numbers_are_the_same_in_every_form(void **state)
{
    (void)state;
    uint64_t text = provenance_hash(SLICE("-42"), FORMAT_TEXT);
    assert_int_equal(text, provenance_hash(SLICE("\xff\xff\xff\xd6"), FORMAT_BINARY));
    assert_int_equal(text, provenance_hash(SLICE("\xff\xff\xff\xff\xff\xff\xff\xd6"), FORMAT_BINARY));
    assert_int_equal(text, provenance_hash(SLICE("\xff\xd6"), FORMAT_BINARY));
    assert_int_not_equal(text, provenance_hash(SLICE("42"), FORMAT_TEXT));
    assert_int_equal(provenance_hash(SLICE("00112233-4455-6677-8899-AABBccddeeff"), FORMAT_TEXT),
                     provenance_hash(SLICE("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"),
                                     FORMAT_BINARY));
}

static void a_large_result_is_not_kept(void **state)
{
    (void)state;
    for (int i = 0; i < 101; i++)
        row("1", "2");
    assert_true(rows.overflow);
    assert_int_equal(rows.count, 0);
    assert_int_equal(parent_rows_memory(&rows), 0);
    parent_rows_begin(&rows, WIRE_FORMATS_NONE, 100, 50);
    row("1", "2");
    row("a longer one that does not fit", "into fifty bytes");
    assert_true(rows.overflow);
}

static void rows_that_lie_are_not_read(void **state)
{
    (void)state;
    Slice value;
    uint16_t format;
    parent_rows_add(&rows, SLICE("\0\2\0\0\0\xff"));
    parent_rows_add(&rows, SLICE("\0"));
    parent_rows_add(&rows, SLICE("\0\2\0\0\0\1x\0\0\0\x20y"));
    assert_false(parent_rows_value(&rows, 0, 0, &value, &format));
    assert_false(parent_rows_value(&rows, 1, 0, &value, &format));
    assert_true(parent_rows_value(&rows, 2, 0, &value, &format));
    assert_false(parent_rows_value(&rows, 2, 1, &value, &format));
    assert_false(parent_rows_value(&rows, 2, 2, &value, &format));
}

int main(void)
{
#define STORY(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        STORY(values_in_order_are_followed),
        STORY(nulls_and_values_met_before_are_passed_over),
        STORY(the_same_value_may_come_again),
        STORY(other_values_break_it),
        STORY(what_comes_before_the_loop_does_not),
        STORY(a_constant_is_no_key),
        STORY(numbers_are_the_same_in_every_form),
        STORY(a_large_result_is_not_kept),
        STORY(rows_that_lie_are_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
