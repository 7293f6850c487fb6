#include "wire/writer.h"

#include "wire/reader.h"
#include "wire_test.h"

static void what_is_written_is_read_back(void **state)
{
    /* Lost otherwise: every number on the wire. */
    Buf buf;
    buf_init(&buf, 1000);
    writer_u8(&buf, 200);
    writer_i16(&buf, -2);
    writer_i32(&buf, -3);
    writer_i64(&buf, INT64_MIN + 4);
    writer_cstring(&buf, SLICE("five"));
    writer_bytes(&buf, SLICE("6\0"));
    WireReader r = reader_of(buf_bytes(&buf));
    assert_int_equal(reader_u8(&r), 200);
    assert_int_equal(reader_i16(&r), -2);
    assert_int_equal(reader_i32(&r), -3);
    assert_true(reader_i64(&r) == INT64_MIN + 4);
    assert_slice(reader_cstring(&r), "five");
    assert_bytes(reader_bytes(&r, 2), SLICE("6\0"));
    assert_true(reader_done(&r));
    buf_finish(&buf);
}

static void the_length_is_patched_behind_consumed_bytes(void **state)
{
    /* Lost otherwise: a message built while earlier ones leave, or while the Buf moves. */
    Buf buf;
    buf_init(&buf, 1 << 20);
    for (int i = 0; i < 200; i++) {
        size_t mark = writer_begin(&buf, 'd');
        for (int k = 0; k < i; k++)
            writer_u8(&buf, (uint8_t)k);
        writer_end(&buf, mark);
        if (i % 3 == 0) {
            Frame frame = frame_take(&buf);
            buf_consume(&buf, frame.whole.len);
        }
    }
    Slice rest = buf_bytes(&buf);
    Frame frame;
    Error err;
    while (rest.len) {
        assert_int_equal(frame_next(rest, 1000, &frame, &err), WIRE_OK);
        rest = slice_from(rest, frame.whole.len);
    }
    assert_int_equal(frame.body.len, 199);
    buf_finish(&buf);
}

static void a_message_that_does_not_fit_leaves_nothing(void **state)
{
    /* Lost otherwise: the stream behind half a message is garbage to the peer. */
    Buf buf;
    buf_init(&buf, 64);
    writer_end(&buf, writer_begin(&buf, 'S'));
    size_t mark = writer_begin(&buf, 'd');
    for (int i = 0; i < 100; i++)
        writer_u8(&buf, 1);
    writer_end(&buf, mark);
    assert_true(buf.failed);
    assert_bytes(buf_bytes(&buf), SLICE("S\0\0\0\4"));
    writer_end(&buf, writer_begin(&buf, 'S'));
    assert_int_equal(buf_len(&buf), 5);
    buf_finish(&buf);
}

static void a_readers_first_problem_stays(void **state)
{
    /* Lost otherwise: the one message that tells a driver's author what is wrong. */
    WireReader r = reader_of(SLICE("ab"));
    (void)reader_cstring(&r);
    (void)reader_i32(&r);
    assert_false(reader_done(&r));
    assert_string_equal(r.problem, "invalid string in message");
    assert_int_equal(reader_u8(&r), 0);

    WireReader huge = reader_of(SLICE("\xff\xff\xff\xfe"));
    (void)reader_bytes(&huge, (size_t)reader_i32(&huge)); /* H11: len > left, in full width */
    assert_true(huge.bad);
    assert_string_equal(huge.problem, "insufficient data left in message");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(the_length_is_patched_behind_consumed_bytes),
        cmocka_unit_test(a_message_that_does_not_fit_leaves_nothing),
        cmocka_unit_test(a_readers_first_problem_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
