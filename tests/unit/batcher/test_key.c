/* Members' values as array elements. */
#include "sketch.h"

static const char *const NO_CASTS[KEY_COUNT_MAX];

typedef struct Row {
    const char *sql;
    BatchReason reason;
    uint32_t type;
    const char *bytes;
    size_t len;
} Row;

#define OK(type, bytes) BATCH_OK, type, bytes, sizeof(bytes) - 1
#define NO              BATCH_KEY_VALUE, 0, "", 0

static const Row ROWS[] = {
    {"select 1 from users where id = 7", OK(WIRE_OID_INT4, "\0\0\0\7")},
    {"select 1 from users where id = 007", OK(WIRE_OID_INT4, "\0\0\0\7")},
    {"select 1 from users where id = -1", OK(WIRE_OID_INT4, "\xff\xff\xff\xff")},
    {"select 1 from users where id = 2147483647", OK(WIRE_OID_INT4, "\x7f\xff\xff\xff")},
    {"select 1 from users where id = 2147483648", OK(WIRE_OID_INT8, "\0\0\0\0\x80\0\0\0")},
    {"select 1 from users where id = -2147483648", OK(WIRE_OID_INT8, "\xff\xff\xff\xff\x80\0\0\0")},
    {"select 1 from users where org = 7", OK(WIRE_OID_INT4, "\0\0\0\7")},
    {"select 1 from users where id = ' 7 '", OK(WIRE_OID_INT4, "\0\0\0\7")},
    {"select 1 from users where org = '7'", OK(WIRE_OID_INT8, "\0\0\0\0\0\0\0\7")},
    {"select 1 from users where id = '2147483648'", NO},
    {"select 1 from users where id = '7.0'", NO},
    {"select 1 from users where id = ''", NO},
    {"select 1 from users where mail = 'o''x'", OK(WIRE_OID_TEXT, "o'x")},
    {"select 1 from users where mail = ''", OK(WIRE_OID_TEXT, "")},
    {"select 1 from users where mail = 5", NO},
    {"select 1 from users where uid = '{6FA459EA-EE8A-3CA4-894E-DB77E160355E}'",
     OK(WIRE_OID_UUID, "\x6f\xa4\x59\xea\xee\x8a\x3c\xa4\x89\x4e\xdb\x77\xe1\x60\x35\x5e")},
    {"select 1 from users where uid = 'x'", NO},
    {"select 1 from users where code = 'ab  '", OK(WIRE_OID_BPCHAR, "ab")},
    {"select 1 from users where org = 5 and born = 'today'", NO},
};

/* Another key than the client asked for would be looked up. */
static void test_literals(void **state)
{
    Sketch *s = *state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        KeyPlan keys[KEY_COUNT_MAX];
        Slice bytes = {0};
        sketch_read(s, ROWS[i].sql);
        PolicyVerdict verdict = policy_judge(&s->input);
        assert_int_equal(verdict.reason, BATCH_OK);
        BatchReason reason =
            key_plan_make(s->input.shape, &verdict, NO_CASTS, s->reading.literals, NULL, 0, keys);
        uint32_t last = verdict.key_count - 1;
        if (reason == BATCH_OK)
            reason = key_decode(&keys[last], slice_str(ROWS[i].sql), s->reading.literals, NULL,
                                &s->arena, &bytes);
        if (reason != ROWS[i].reason)
            fail_msg("%s: %s", ROWS[i].sql, batch_reason_text(reason)->code);
        if (reason)
            continue;
        assert_int_equal(keys[last].type->oid, ROWS[i].type);
        assert_int_equal(bytes.len, ROWS[i].len);
        assert_memory_equal(bytes.data, ROWS[i].bytes, bytes.len);
    }
}

static BatchReason decode_param(Sketch *s, uint32_t oid, int format, Slice value, bool null,
                                Slice *ret)
{
    KeyPlan keys[KEY_COUNT_MAX];
    BindMessage bind;
    Error err;
    Buf buf;
    PolicyVerdict verdict = policy_judge(&s->input);
    BatchReason reason = key_plan_make(s->input.shape, &verdict, NO_CASTS, NULL, &oid, 1, keys);
    if (reason)
        return reason;
    buf_init(&buf, 1 << 16);
    size_t mark = frontend_bind_begin(&buf, SLICE(""), SLICE(""),
                                      format ? WIRE_FORMATS_BINARY : WIRE_FORMATS_TEXT, 1);
    if (null)
        frontend_bind_null(&buf);
    else
        frontend_bind_value(&buf, value);
    frontend_bind_end(&buf, mark, WIRE_FORMATS_NONE);
    Slice frame = arena_dup(&s->arena, buf_bytes(&buf));
    buf_finish(&buf);
    assert_int_equal(frontend_read_bind(slice_from(frame, 5), &bind, &err), WIRE_OK);
    return key_decode(&keys[0], SLICE(""), NULL, &bind, &s->arena, ret);
}

/* The same by Bind: text, binary, NULL, other types. */
static void test_parameters(void **state)
{
    Sketch *s = *state;
    Slice got;
    sketch_read(s, "select 1 from users where id = $1");
    assert_int_equal(decode_param(s, WIRE_OID_INT4, 0, SLICE("7"), false, &got), BATCH_OK);
    assert_true(slice_equal(got, SLICE("\0\0\0\7")));
    assert_int_equal(decode_param(s, WIRE_OID_INT8, 1, SLICE("\0\0\0\0\0\0\0\7"), false, &got),
                     BATCH_OK);
    assert_int_equal(got.len, 8);
    assert_int_equal(decode_param(s, WIRE_OID_INT4, 1, SLICE("\0\7"), false, &got),
                     BATCH_KEY_VALUE);
    assert_int_equal(decode_param(s, WIRE_OID_INT4, 0, SLICE(""), true, &got), BATCH_KEY_VALUE);
    assert_int_equal(decode_param(s, WIRE_OID_NUMERIC, 0, SLICE("7"), false, &got), BATCH_KEY_TYPE);
    assert_int_equal(decode_param(s, WIRE_OID_TEXT, 0, SLICE("7"), false, &got), BATCH_KEY_TYPE);
    sketch_read(s, "select 1 from users where mail = $1");
    assert_int_equal(decode_param(s, WIRE_OID_TEXT, 0, SLICE("a\0b"), false, &got),
                     BATCH_KEY_VALUE);
    char *large = calloc(1, KEY_BYTES_MAX + 1);
    memset(large, 'x', KEY_BYTES_MAX + 1);
    assert_int_equal(
        decode_param(s, WIRE_OID_VARCHAR, 0, slice_of(large, KEY_BYTES_MAX + 1), false, &got),
        BATCH_LIMIT);
    free(large);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, sketch_open, sketch_close)

int main(void)
{
    const struct CMUnitTest tests[] = {STORY(test_literals), STORY(test_parameters)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
