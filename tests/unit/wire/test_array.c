#include "wire/array.h"

#include "wire/value.h"
#include "wire/writer.h"
#include "wire_test.h"

static void quotes_and_backslashes_keep_their_meaning(void **state)
{
    /* Lost otherwise: a key with a quote in it ends the array, or adds elements to it. */
    Buf buf;
    ArrayWriter array;
    buf_init(&buf, 1000);
    array_begin(&array, &buf, FORMAT_TEXT, WIRE_OID_TEXT);
    array_add(&array, SLICE("plain"));
    array_add(&array, SLICE("\"},{\\"));
    array_add(&array, SLICE(""));
    array_add(&array, SLICE("NULL"));
    array_add_null(&array);
    array_add(&array, SLICE("\\\\\"\""));
    array_end(&array);
    assert_slice(buf_bytes(&buf),
                 "{\"plain\",\"\\\"},{\\\\\",\"\",\"NULL\",NULL,\"\\\\\\\\\\\"\\\"\"}");
    buf_finish(&buf);
}

static void a_binary_array_is_what_array_recv_takes(void **state)
{
    /* Lost otherwise: batches of clients that speak binary. */
    Buf buf;
    ArrayWriter array;
    buf_init(&buf, 1000);
    writer_u8(&buf, 'x'); /* the array need not begin where the Buf does */
    array_begin(&array, &buf, FORMAT_BINARY, WIRE_OID_INT2);
    array_add(&array, SLICE("\0\7"));
    array_add_null(&array);
    array_end(&array);
    assert_bytes(buf_bytes(&buf), SLICE("x\0\0\0\1\0\0\0\1\0\0\0\x15\0\0\0\2\0\0\0\1"
                                        "\0\0\0\2\0\7\xff\xff\xff\xff"));
    buf_finish(&buf);
}

static void an_empty_array_has_no_dimension(void **state)
{
    /* Lost otherwise: PostgreSQL refuses a dimension of length 0. */
    Buf buf;
    ArrayWriter array;
    buf_init(&buf, 1000);
    array_begin(&array, &buf, FORMAT_BINARY, WIRE_OID_INT8);
    array_end(&array);
    assert_bytes(buf_bytes(&buf), SLICE("\0\0\0\0\0\0\0\0\0\0\0\x14"));
    buf_reset(&buf);
    array_begin(&array, &buf, FORMAT_TEXT, WIRE_OID_INT8);
    array_end(&array);
    assert_slice(buf_bytes(&buf), "{}");
    buf_finish(&buf);
}

static void an_array_that_does_not_fit_says_so(void **state)
{
    /* Lost otherwise: the worker, to an array larger than the Buf's limit. */
    Buf buf;
    ArrayWriter array;
    buf_init(&buf, 50);
    array_begin(&array, &buf, FORMAT_BINARY, WIRE_OID_INT8);
    for (int i = 0; i < 10; i++)
        array_add(&array, SLICE("12345678"));
    array_end(&array);
    assert_true(buf.failed);
    buf_finish(&buf);
}

/* What is in it, with bars between; ~ for NULL, ! when it is bad. */
static const char *elements_of(const char *text, Arena *arena)
{
    ArrayReader reader;
    Slice value;
    Buf out;
    buf_init(&out, 1024);
    if (!array_open(&reader, FORMAT_TEXT, slice_str(text), arena))
        return "none";
    while (array_take(&reader, &value)) {
        buf_append(&out, value.data ? value : SLICE("~"));
        buf_append(&out, SLICE("|"));
    }
    if (reader.bad)
        buf_append(&out, SLICE("!"));
    const char *kept = arena_text(arena, buf_bytes(&out));
    buf_finish(&out);
    return kept;
}

static void test_reads_as_postgresql(void **state)
{
    /* Lost otherwise: a key of the list, and with it the rows of a shard that is not asked. */
    Arena arena;
    arena_init(&arena, 4096);
    assert_string_equal(elements_of("{}", &arena), "");
    assert_string_equal(elements_of(" { 1 ,2,  NULL,null } ", &arena), "1|2|~|~|");
    assert_string_equal(elements_of("{\"a,b\", \"q\\\"\" ,\"NULL\",x\\,y z }", &arena), "a,b|q\"|NULL|x,y z|");
    assert_string_equal(elements_of("{\"\"}", &arena), "|");
    assert_string_equal(elements_of("{1,}", &arena), "1|!");
    assert_string_equal(elements_of("{{1,2},{3,4}}", &arena), "!");
    assert_string_equal(elements_of("{\"a\"b}", &arena), "!");
    assert_string_equal(elements_of("{\"a}", &arena), "!");
    assert_string_equal(elements_of("[0:1]={1,2}", &arena), "none");
    assert_string_equal(elements_of("{1", &arena), "none");
    arena_finish(&arena);
}

static void test_binary_ends_where_it_says(void **state)
{
    /* Lost otherwise: bytes behind the array are taken for keys. */
    static const uint8_t ONE[] = {0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0, 2, 0, 0, 0, 1,
                                  0, 0, 0, 4, 0, 0, 0, 7, 0xFF, 0xFF, 0xFF, 0xFF};
    ArrayReader reader;
    Slice value;
    Arena arena;
    arena_init(&arena, 4096);
    assert_true(array_open(&reader, FORMAT_BINARY, slice_of(ONE, sizeof ONE), &arena));
    assert_int_equal(reader.element_oid, 23);
    assert_true(array_take(&reader, &value) && value.len == 4 && value.data[3] == 7);
    assert_true(array_take(&reader, &value) && !value.data);
    assert_false(array_take(&reader, &value) || reader.bad);
    for (size_t len = 20; len < sizeof ONE; len++) {
        assert_true(array_open(&reader, FORMAT_BINARY, slice_of(ONE, len), &arena));
        while (array_take(&reader, &value))
            ;
        assert_true(reader.bad);
    }
    assert_false(array_open(&reader, FORMAT_BINARY, slice_of(ONE, 19), &arena));
    arena_finish(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quotes_and_backslashes_keep_their_meaning),
        cmocka_unit_test(a_binary_array_is_what_array_recv_takes),
        cmocka_unit_test(an_empty_array_has_no_dimension),
        cmocka_unit_test(an_array_that_does_not_fit_says_so),
        cmocka_unit_test(test_reads_as_postgresql),
        cmocka_unit_test(test_binary_ends_where_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
