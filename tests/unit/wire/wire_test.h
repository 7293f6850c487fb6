/* wire_test.h - the verbs in which the tests of the protocol folder are told. */
#ifndef SHOAL_WIRE_TEST_H
#define SHOAL_WIRE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include "core/base.h"

#include <cmocka.h>

#include "core/arena.h"
#include "core/buf.h"
#include "wire/frame.h"

static UNUSED void assert_slice(Slice s, const char *text)
{
    if (!slice_is(s, text))
        fail_msg("expected \"%s\", got \"%.*s\" (%zu bytes)", text, SLICE_FMT(s), s.len);
}

static UNUSED void assert_bytes(Slice s, Slice expected)
{
    assert_int_equal(s.len, expected.len);
    if (s.len)
        assert_memory_equal(s.data, expected.data, s.len);
}

static UNUSED void assert_bad(WireResult result, const Error *err, const char *sqlstate,
                              const char *message)
{
    assert_int_equal(result, WIRE_BAD);
    assert_string_equal(err->sqlstate, sqlstate);
    assert_string_equal(err->message, message);
}

/* The next message of the Buf. On the way it arrives byte by byte, each prefix in a block of
 * memory of its own, so that AddressSanitizer sees any look beyond it. */
static UNUSED Frame frame_take(Buf *buf)
{
    Slice all = buf_bytes(buf);
    Frame frame;
    Error err;
    assert_false(buf->failed);
    assert_int_equal(frame_next(all, LARGE_BODY_MAX, &frame, &err), WIRE_OK);
    for (size_t n = 0; n < frame.whole.len; n++) {
        Frame partial;
        uint8_t *copy = malloc(n ? n : 1);
        assert_non_null(copy);
        memcpy(copy, all.data, n);
        assert_int_equal(frame_next(slice_of(copy, n), LARGE_BODY_MAX, &partial, &err), WIRE_MORE);
        free(copy);
    }
    return frame;
}

/* Drops a frame that was taken and checks that it was the last one. */
static UNUSED void frame_last(Buf *buf, const Frame *frame)
{
    assert_int_equal(buf_len(buf), frame->whole.len);
    buf_reset(buf);
}

#endif
