/*
 * wire_tap.h - a Stream under test, its owner, and the far end of its socket in the test's hands.
 *
 * The owner speaks a small protocol: one length byte, then that many payload bytes; complete
 * frames are appended to `got`, what is incomplete stays in `in`.
 */
#ifndef SHOAL_TESTS_UNIT_CORE_WIRE_TAP_H
#define SHOAL_TESTS_UNIT_CORE_WIRE_TAP_H

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/stream.h"
#include "story.h"

/* How all taps write from now on. */
static bool tap_sends_together;

static inline int taps_send_together(void **state)
{
    (void)state;
    SendRing *ring = send_ring_create(); /* where the kernel has none, they write one by one once more */
    tap_sends_together = ring != NULL;
    send_ring_destroy(ring);
    return 0;
}

typedef struct Tap {
    Loop loop;
    Stream stream;
    int far; /* the test's end of the socket, non-blocking */
    Buf got; /* what the owner has consumed */
    bool raw; /* no frames: consume everything */
    bool hold; /* consume nothing */
    bool echo; /* answer what was consumed */
    bool close_in_bytes, close_in_gone, close_in_drained;
    bool inside_write; /* the test is inside stream_write: no callback may come */
    int offers, drained, gone;
    bool gone_by_error;
    Error gone_err;
} Tap;

static inline void tap_on_bytes(Stream *stream)
{
    Tap *tap = stream->ctx;
    assert_false(tap->inside_write);
    assert_int_equal(tap->gone, 0);
    tap->offers++;
    if (tap->close_in_bytes)
        stream_close(stream);
    while (!tap->hold && buf_len(&stream->in) > 0) {
        Slice bytes = buf_bytes(&stream->in);
        size_t whole = tap->raw ? bytes.len : 1 + (size_t)bytes.data[0];
        if (whole > bytes.len)
            break;
        Slice payload = tap->raw ? bytes : slice_of(bytes.data + 1, whole - 1);
        assert_true(buf_append(&tap->got, payload));
        if (tap->echo)
            assert_true(stream_write(stream, payload));
        buf_consume(&stream->in, whole);
    }
}

static inline void tap_on_drained(Stream *stream)
{
    Tap *tap = stream->ctx;
    assert_false(tap->inside_write);
    tap->drained++;
    if (tap->close_in_drained)
        stream_close(stream);
}

static inline void tap_on_gone(Stream *stream, const Error *err)
{
    Tap *tap = stream->ctx;
    assert_false(tap->inside_write);
    assert_int_equal(stream->state, STREAM_GONE);
    tap->gone++;
    tap->gone_by_error = err != NULL;
    if (err)
        tap->gone_err = *err;
    if (tap->close_in_gone)
        stream_close(stream);
}

static inline void tap_flush(void *ctx) { stream_flush_all(ctx); }

static const StreamEvents TAP_EVENTS = {tap_on_bytes, tap_on_drained, tap_on_gone};
static const StreamLimits TAP_LIMITS = {.in_max = 1 << 20, .out_max = 4 << 20, .out_high = 1 << 16};

static inline Tap *tap_open(StreamLimits limits)
{
    int ends[2];
    Tap *tap = calloc(1, sizeof(*tap));
    assert_non_null(tap);
    assert_true(loop_init(&tap->loop));
    if (tap_sends_together)
        assert_true(loop_send_together(&tap->loop, 1));
    loop_on_turn_end(&tap->loop, tap_flush, &tap->loop);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    tap->far = ends[1];
    buf_init(&tap->got, 64 << 20);
    stream_init(&tap->stream, &tap->loop, &TAP_EVENTS, tap, limits);
    stream_open(&tap->stream, ends[0], true);
    return tap;
}

static inline void tap_close(Tap *tap)
{
    stream_close(&tap->stream);
    stream_close(&tap->stream);
    assert_true(list_empty(&tap->loop.dirty));
    if (tap->far >= 0)
        close(tap->far);
    buf_finish(&tap->got);
    loop_finish(&tap->loop);
    free(tap);
}

static inline void tap_turns(Tap *tap, int n)
{
    while (n-- > 0)
        loop_turn(&tap->loop, false);
}

/* Turns until the condition holds; gives up after about five seconds. */
#define TAP_UNTIL(tap, condition)                                                                  \
    do {                                                                                           \
        for (int tries = 0; !(condition) && tries < 50000; tries++) {                              \
            loop_turn(&(tap)->loop, false);                                                        \
            if (tries > 100)                                                                       \
                usleep(100);                                                                       \
        }                                                                                          \
        assert_true(condition);                                                                    \
    } while (0)

static inline void far_send(Tap *tap, Slice bytes)
{
    assert_int_equal(send(tap->far, bytes.data, bytes.len, MSG_NOSIGNAL), bytes.len);
}

/* Reads what is there, at most `max` bytes. */
static inline size_t far_receive(Tap *tap, Buf *into, size_t max)
{
    uint8_t *room = buf_reserve(into, max);
    assert_non_null(room);
    ssize_t n = recv(tap->far, room, max, 0);
    if (n <= 0)
        return 0;
    buf_commit(into, (size_t)n);
    return (size_t)n;
}

static inline bool got_is(const Tap *tap, const char *text)
{
    return slice_is(buf_bytes(&tap->got), text);
}

static inline uint8_t pattern_at(uint64_t i) { return (uint8_t)(i * 31 + (i >> 8)); }

/* `n` bytes of a pattern in which a lost, doubled or moved byte shows. */
static inline uint8_t *pattern(size_t n)
{
    uint8_t *bytes = malloc(n);
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++)
        bytes[i] = pattern_at(i);
    return bytes;
}

static inline void assert_pattern(const Buf *buf, size_t n)
{
    Slice bytes = buf_bytes(buf);
    assert_int_equal(bytes.len, n);
    for (size_t i = 0; i < n; i++)
        if (bytes.data[i] != pattern_at(i))
            fail_msg("byte %zu differs", i);
}

#endif
