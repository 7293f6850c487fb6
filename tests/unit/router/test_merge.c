/*
 * Rows of several legs as one answer, and the order of values. A user would see rows out of order, twice,
 * or not at all.
 *
 * A row here is a text column and an int4 key in binary; "3a" stands for the row ('a', hidden 3).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "router/merge.h"
#include "router/order.h"
#include "wire/backend.h"
#include "wire/frame.h"
#include "wire/value.h"

static const MergeKey UP = {.type_oid = WIRE_OID_INT4};

/* A DataRow's body: the letter, and the key unless there is none ('-' is NULL). */
static Slice row_of(Buf *buf, const char *row, bool keyed)
{
    uint8_t key[4] = {0, 0, 0, (uint8_t)(row[0] - '0')};
    Column columns[2] = {{.value = slice_of(row + 1, 1)}, {.value = slice_of(key, 4), .is_null = row[0] == '-'}};
    buf_reset(buf);
    backend_put_data_row(buf, columns, keyed ? 2 : 1);
    return slice_from(buf_bytes(buf), 5);
}

/* The letters that came out. */
static char *letters(Buf *out)
{
    static char text[256];
    size_t n = 0;
    Frame frame;
    Error err;
    while (buf_len(out) && frame_next(buf_bytes(out), 1 << 20, &frame, &err) == WIRE_OK) {
        DataRow row;
        assert_int_equal(frame.type, 'D');
        assert_int_equal(backend_read_data_row(frame.body, 1, &row, &err), WIRE_OK);
        text[n++] = (char)data_row_at(&row, 0).value.data[0];
        buf_consume(out, frame.whole.len);
    }
    text[n] = '\0';
    return text;
}

typedef struct Story {
    Merge merge;
    Buf row, out;
    Error err;
} Story;

static void begin(Story *s, const MergeKey *key, uint32_t legs, uint64_t offset, uint64_t limit)
{
    assert_true(merge_init(&s->merge, key, key ? 1 : 0, legs, offset, limit, 100));
    buf_init(&s->row, 1 << 20);
    buf_init(&s->out, 1 << 20);
}

static void end(Story *s)
{
    merge_finish(&s->merge);
    buf_finish(&s->row);
    buf_finish(&s->out);
}

static void put(Story *s, uint32_t leg, const char *row)
{
    Slice body = row_of(&s->row, row, s->merge.key_count > 0);
    assert_true(merge_row(&s->merge, leg, body, &s->out, &s->err));
}

static void over(Story *s, uint32_t leg) { assert_true(merge_end(&s->merge, leg, &s->out, &s->err)); }

/* Else rows wait for a leg that has nothing to do with them. */
static void without_keys_rows_leave_at_once(void **state)
{
    Story s;
    (void)state;
    begin(&s, NULL, 2, 1, 3);
    put(&s, 1, "0a");
    assert_string_equal(letters(&s.out), "");
    put(&s, 0, "0b");
    put(&s, 1, "0c");
    assert_string_equal(letters(&s.out), "bc");
    put(&s, 1, "0d");
    put(&s, 1, "0e");
    assert_string_equal(letters(&s.out), "d");
    assert_true(merge_is_full(&s.merge));
    assert_int_equal(s.merge.rows, 3);
    end(&s);
}

/* Else the smallest row of a slow shard comes after bigger ones. */
static void a_row_waits_for_the_heads_of_all_legs(void **state)
{
    Story s;
    (void)state;
    begin(&s, &UP, 3, 0, UINT64_MAX);
    put(&s, 0, "3a");
    put(&s, 0, "7b");
    put(&s, 1, "4c");
    assert_string_equal(letters(&s.out), "");
    over(&s, 2);
    assert_string_equal(letters(&s.out), "ac");
    over(&s, 1);
    assert_string_equal(letters(&s.out), "b");
    put(&s, 0, "8d");
    over(&s, 0);
    assert_string_equal(letters(&s.out), "d");
    end(&s);
}

/* Else LIMIT 2 OFFSET 1 is applied on each shard (H47). */
static void offset_and_limit_count_merged_rows(void **state)
{
    Story s;
    (void)state;
    begin(&s, &UP, 2, 1, 2);
    put(&s, 0, "1a");
    put(&s, 0, "3b");
    put(&s, 1, "2c");
    put(&s, 1, "4d");
    over(&s, 0);
    over(&s, 1);
    assert_string_equal(letters(&s.out), "cb");
    end(&s);
}

/* Else NULLs stand at the wrong end, and DESC is upside down. */
static void nulls_and_directions(void **state)
{
    static const struct {
        MergeKey key;
        const char *first, *second, *third, *order;
    } ROWS[] = {{{WIRE_OID_INT4, false, false}, "1a", "2b", "-c", "abc"},
                {{WIRE_OID_INT4, false, true}, "-c", "1a", "2b", "cab"},
                {{WIRE_OID_INT4, true, true}, "-c", "2b", "1a", "cba"},
                {{WIRE_OID_INT4, true, false}, "2b", "1a", "-c", "bac"}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        Story s;
        begin(&s, &ROWS[i].key, 3, 0, UINT64_MAX);
        put(&s, 0, ROWS[i].second);
        put(&s, 1, ROWS[i].third);
        put(&s, 2, ROWS[i].first);
        for (uint32_t leg = 0; leg < 3; leg++)
            over(&s, leg);
        assert_string_equal(letters(&s.out), ROWS[i].order);
        end(&s);
    }
}

/* Else a fast shard fills the router's memory while a slow one sleeps. */
static void a_leg_that_is_ahead_wants_a_pause(void **state)
{
    Story s;
    (void)state;
    begin(&s, &UP, 2, 0, UINT64_MAX);
    while (!merge_wants_pause(&s.merge, 0))
        put(&s, 0, "5a");
    s.merge.legs[0].paused = true;
    assert_false(merge_wants_pause(&s.merge, 1));
    put(&s, 1, "6b");
    over(&s, 1);
    (void)letters(&s.out);
    assert_false(merge_wants_pause(&s.merge, 0));
    end(&s);
}

/* Else a client reads rows before it knows their types (H55). */
static void a_gate_keeps_rows_until_it_is_opened(void **state)
{
    Story s;
    (void)state;
    begin(&s, NULL, 2, 0, UINT64_MAX);
    s.merge.gated = true;
    put(&s, 1, "0a");
    over(&s, 1);
    assert_string_equal(letters(&s.out), "");
    assert_true(merge_open(&s.merge, &s.out, &s.err));
    put(&s, 0, "0b");
    assert_string_equal(letters(&s.out), "ab");
    end(&s);
}

/* Else a broken shard crashes the router. */
static void malformed_rows_are_an_error(void **state)
{
    Story s;
    (void)state;
    begin(&s, &UP, 2, 0, UINT64_MAX);
    put(&s, 0, "1a");
    assert_false(merge_row(&s.merge, 1, slice_of("\0\1\0\0", 4), &s.out, &s.err));
    assert_string_equal(s.err.sqlstate, SQLSTATE_PROTOCOL_VIOLATION);
    end(&s);
}

/* ---- order ---------------------------------------------------------------------------------------- */

static int compare(uint32_t oid, const char *a, size_t a_len, const char *b, size_t b_len)
{
    int order = 99;
    assert_true(order_compare(oid, slice_of(a, a_len), slice_of(b, b_len), &order));
    return order < 0 ? -1 : order > 0;
}
#define ORDER(oid, a, b) compare(oid, a, sizeof(a) - 1, b, sizeof(b) - 1)

/* Else negative numbers come last, or NaN first. */
static void values_compare_as_in_postgresql(void **state)
{
    (void)state;
    assert_int_equal(ORDER(WIRE_OID_INT4, "\xff\xff\xff\xff", "\0\0\0\1"), -1);
    assert_int_equal(ORDER(WIRE_OID_OID, "\xff\xff\xff\xff", "\0\0\0\1"), 1);
    assert_int_equal(ORDER(WIRE_OID_INT8, "\x80\0\0\0\0\0\0\0", "\x7f\0\0\0\0\0\0\0"), -1);
    assert_int_equal(ORDER(WIRE_OID_FLOAT4, "\x80\0\0\0", "\0\0\0\0"), 0);
    assert_int_equal(ORDER(WIRE_OID_FLOAT4, "\x7f\xc0\0\0", "\x7f\x80\0\0"), 1);
    assert_int_equal(ORDER(WIRE_OID_FLOAT8, "\x7f\xf8\0\0\0\0\0\0", "\xff\xf8\0\0\0\0\0\0"), 0);
    assert_int_equal(ORDER(WIRE_OID_BYTEA, "ab", "abc"), -1);
    assert_int_equal(ORDER(WIRE_OID_BOOL, "\0", "\1"), -1);
    /* '1 mon' = '30 days' > '29 days 23:00' */
    assert_int_equal(ORDER(1186, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", "\0\0\0\0\0\0\0\0\0\0\0\x1e\0\0\0\0"), 0);
    assert_int_equal(ORDER(1186, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", "\0\0\0\0\0\0\0\1\0\0\0\x1e\0\0\0\0"), -1);
}

/* Else 1.50 and 1.5 are two values, and -2 comes before -10. */
static void numerics_compare_by_value(void **state)
{
    static const char NEG_10[] = "\0\1\0\0\x40\0\0\0\0\x0a", NEG_2[] = "\0\1\0\0\x40\0\0\0\0\2";
    static const char ZERO[] = "\0\0\0\0\0\0\0\0", HALF[] = "\0\1\xff\xff\0\0\0\1\x13\x88";
    static const char ONE_AND_HALF[] = "\0\2\0\0\0\0\0\2\0\1\x13\x88", PADDED[] = "\0\3\0\1\0\0\0\1\0\0\0\1\x13\x88";
    static const char TEN_THOUSAND[] = "\0\1\0\1\0\0\0\0\0\1", NAN_[] = "\0\0\0\0\xc0\0\0\0";
    static const char INFINITE[] = "\0\0\0\0\xd0\0\0\0", MINUS_INFINITE[] = "\0\0\0\0\xf0\0\0\0";
    (void)state;
    assert_int_equal(ORDER(WIRE_OID_NUMERIC, MINUS_INFINITE, NEG_10), -1);
    assert_int_equal(ORDER(WIRE_OID_NUMERIC, NEG_10, NEG_2), -1);
    assert_int_equal(ORDER(WIRE_OID_NUMERIC, NEG_2, ZERO), -1);
    assert_int_equal(ORDER(WIRE_OID_NUMERIC, ZERO, HALF), -1);
    assert_int_equal(ORDER(WIRE_OID_NUMERIC, HALF, ONE_AND_HALF), -1);
    assert_int_equal(ORDER(WIRE_OID_NUMERIC, ONE_AND_HALF, PADDED), 0);
    assert_int_equal(ORDER(WIRE_OID_NUMERIC, ONE_AND_HALF, TEN_THOUSAND), -1);
    assert_int_equal(ORDER(WIRE_OID_NUMERIC, TEN_THOUSAND, INFINITE), -1);
    assert_int_equal(ORDER(WIRE_OID_NUMERIC, INFINITE, NAN_), -1);
}

/* Else text is merged by its bytes against the database's collation (H50). */
static void types_whose_order_is_not_known_are_left_alone(void **state)
{
    int order;
    (void)state;
    assert_false(order_known(WIRE_OID_TEXT));
    assert_false(order_known(16500));
    assert_false(order_compare(WIRE_OID_TEXT, SLICE("a"), SLICE("b"), &order));
    assert_false(order_compare(WIRE_OID_INT4, SLICE("123"), SLICE("1234"), &order));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_keys_rows_leave_at_once),
        cmocka_unit_test(a_row_waits_for_the_heads_of_all_legs),
        cmocka_unit_test(offset_and_limit_count_merged_rows),
        cmocka_unit_test(nulls_and_directions),
        cmocka_unit_test(a_leg_that_is_ahead_wants_a_pause),
        cmocka_unit_test(a_gate_keeps_rows_until_it_is_opened),
        cmocka_unit_test(malformed_rows_are_an_error),
        cmocka_unit_test(values_compare_as_in_postgresql),
        cmocka_unit_test(numerics_compare_by_value),
        cmocka_unit_test(types_whose_order_is_not_known_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
