/* OIDs of a shard in the home shard's words: descriptions, parameters, binary arrays and records. */
#include "backend/translate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "wire/backend.h"

/* mood is 20001 on the shard and 30001 at home, mood[] 20002 and 30002, pair 20003 and 30003. */
static OidMap *map_make(void)
{
    const OidName home[] = {{SLICE("r t"), 31000, 0, true, 0},
                            {SLICE("t _mood"), 30002, 0, false, OID_SHAPE_ARRAY},
                            {SLICE("t mood"), 30001, 0, false, 0},
                            {SLICE("t moods"), 30004, 30002, false, OID_SHAPE_DOMAIN},
                            {SLICE("t pair"), 30003, 0, false, OID_SHAPE_RECORD}};
    const OidName shard[] = {{SLICE("r t"), 21000, 0, true, 0},
                             {SLICE("t _mood"), 20002, 0, false, OID_SHAPE_ARRAY},
                             {SLICE("t mood"), 20001, 0, false, 0},
                             {SLICE("t moods"), 20004, 20002, false, OID_SHAPE_DOMAIN},
                             {SLICE("t only_here"), 20009, 0, false, 0},
                             {SLICE("t pair"), 20003, 0, false, OID_SHAPE_RECORD}};
    OidMap *map;
    assert_true(oid_map_make(home, ARRAY_LEN(home), shard, ARRAY_LEN(shard), &map));
    assert_non_null(map);
    return map;
}

static void put_u32(Buf *buf, uint32_t value)
{
    const uint8_t bytes[] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    buf_append(buf, slice_of(bytes, 4));
}

static void put_array(Buf *buf, uint32_t element)
{
    put_u32(buf, 1);
    put_u32(buf, 0);
    put_u32(buf, element);
    put_u32(buf, 1);
    put_u32(buf, 1);
    put_u32(buf, 3);
    buf_append(buf, SLICE("sad"));
}

/* A record of a mood and of an array of them. */
static void put_record(Buf *buf, uint32_t mood, uint32_t moods)
{
    put_u32(buf, 2);
    put_u32(buf, mood);
    put_u32(buf, 2);
    buf_append(buf, SLICE("ok"));
    put_u32(buf, moods);
    put_u32(buf, 27);
    put_array(buf, mood);
}

static Frame frame_of(char type, const Buf *buf)
{
    Slice whole = buf_bytes(buf);
    return (Frame){.type = (uint8_t)type, .whole = whole, .body = slice_from(whole, 5)};
}

static void describe(Buf *buf, uint32_t table, uint32_t type, uint16_t format)
{
    const FieldDescription field = {.name = SLICE("x"), .table_oid = table, .type_oid = type, .format = format};
    backend_put_row_description(buf, &field, 1);
}

/* Else: a driver looks for a type that the home shard does not have. */
static void a_description_speaks_of_home(void **state)
{
    OidMap *map = map_make();
    RowTypes row = {0};
    Buf got, wanted;
    (void)state;
    buf_init(&got, 1000);
    buf_init(&wanted, 1000);
    describe(&got, 21000, 20001, 0);
    describe(&wanted, 31000, 30001, 0);
    Frame frame = frame_of('T', &got);
    translate_description(map, &frame, &row);
    assert_true(slice_equal(buf_bytes(&got), buf_bytes(&wanted)));
    assert_false(row.any); /* text */
    assert_int_equal(oid_map_home_type(map, 20009), 20009);
    assert_int_equal(oid_map_shard_type(map, 30001), 20001);
    buf_finish(&got);
    buf_finish(&wanted);
    row_types_finish(&row);
    oid_map_free(map);
}

static void row_case(uint32_t type, uint32_t mood, uint32_t moods, Buf *ret)
{
    Buf value;
    buf_init(&value, 1000);
    if (type == 20003 || type == 2249)
        put_record(&value, mood, moods);
    else
        put_array(&value, mood);
    const Column column = {.value = buf_bytes(&value)};
    backend_put_data_row(ret, &column, 1);
    buf_finish(&value);
}

/* Else: the header of an array names a type that the client takes for another one. */
static void binary_values_speak_of_home(void **state)
{
    static const uint32_t TYPES[] = {20002, 20003, 2249, 20004};
    OidMap *map = map_make();
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++) {
        RowTypes row = {0};
        Buf description, got, wanted;
        buf_init(&description, 1000);
        buf_init(&got, 1000);
        buf_init(&wanted, 1000);
        describe(&description, 0, TYPES[i], 1);
        row_case(TYPES[i], 20001, 20002, &got);
        row_case(TYPES[i], 30001, 30002, &wanted);
        Frame frame = frame_of('T', &description);
        translate_description(map, &frame, &row);
        assert_true(row.any);
        frame = frame_of('D', &got);
        translate_row(map, &frame, &row);
        assert_true(slice_equal(buf_bytes(&got), buf_bytes(&wanted)));
        /* Cut short anywhere: what is there is walked, nothing beyond it. */
        for (size_t len = 7; len < frame.whole.len; len++) {
            uint8_t copy[200];
            memcpy(copy, frame.whole.data, len);
            Frame cut = {.type = 'D', .whole = slice_of(copy, len), .body = slice_of(copy + 5, len - 5)};
            translate_row(map, &cut, &row);
        }
        buf_finish(&description);
        buf_finish(&got);
        buf_finish(&wanted);
        row_types_finish(&row);
    }
    oid_map_free(map);
}

/* Else: the shard refuses a value, or takes it for another type. */
static void parameters_speak_of_the_shard(void **state)
{
    uint32_t declared[] = {30002};
    Prepared prepared = {.oids = declared, .oid_count = 1};
    static const uint8_t BINARY[] = {0, 1};
    OidMap *map = map_make();
    Buf got, wanted, home, there;
    (void)state;
    buf_init(&got, 1000);
    buf_init(&wanted, 1000);
    buf_init(&home, 1000);
    buf_init(&there, 1000);
    put_array(&home, 30001);
    put_array(&there, 20001);
    for (int i = 0; i < 2; i++) {
        Buf *out = i ? &wanted : &got;
        WireFormats formats = {.raw = slice_of(BINARY, 2), .count = 1};
        size_t mark = frontend_bind_begin(out, SLICE(""), SLICE("s"), formats, 1);
        frontend_bind_value(out, buf_bytes(i ? &there : &home));
        frontend_bind_end(out, mark, WIRE_FORMATS_NONE);
    }
    translate_bind(map, got.data, buf_len(&got), &prepared);
    assert_true(slice_equal(buf_bytes(&got), buf_bytes(&wanted)));
    buf_reset(&got);
    buf_reset(&wanted);
    frontend_put_parse(&got, SLICE("s"), SLICE("SELECT $1"), declared, 1);
    declared[0] = 20002;
    frontend_put_parse(&wanted, SLICE("s"), SLICE("SELECT $1"), declared, 1);
    translate_parse(map, got.data, buf_len(&got), 1);
    assert_true(slice_equal(buf_bytes(&got), buf_bytes(&wanted)));
    buf_finish(&got);
    buf_finish(&wanted);
    buf_finish(&home);
    buf_finish(&there);
    oid_map_free(map);
}

/* Else: every row of shards that agree is looked into for nothing. */
static void shards_that_agree_have_no_map(void **state)
{
    const OidName names[] = {{SLICE("t a"), 20001, 0, false, 0}, {SLICE("t b"), 20002, 0, false, 0}};
    OidMap *map;
    (void)state;
    assert_true(oid_map_make(names, 2, names, 2, &map));
    assert_null(map);
    assert_int_equal(oid_map_home_type(map, 20001), 20001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_description_speaks_of_home),
        cmocka_unit_test(binary_values_speak_of_home),
        cmocka_unit_test(parameters_speak_of_the_shard),
        cmocka_unit_test(shards_that_agree_have_no_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
