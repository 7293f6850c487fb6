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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quotes_and_backslashes_keep_their_meaning),
        cmocka_unit_test(a_binary_array_is_what_array_recv_takes),
        cmocka_unit_test(an_empty_array_has_no_dimension),
        cmocka_unit_test(an_array_that_does_not_fit_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
