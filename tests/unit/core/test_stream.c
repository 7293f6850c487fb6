/* Plain streams over a socketpair; TLS has its own file. */
#include "wire_tap.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

/* Else: a message that arrives in two packets is lost or read twice. */
static void messages_survive_short_reads_at_every_byte(void **state)
{
    const char wire[] = "\003one\000\005three\001x\011nine\000byte";
    const size_t len = sizeof(wire) - 1;
    for (size_t cut = 0; cut <= len; cut++) {
        Tap *tap = tap_open(TAP_LIMITS);
        if (cut > 0) {
            far_send(tap, slice_of(wire, cut));
            tap_turns(tap, 2);
        }
        if (cut < len)
            far_send(tap, slice_of(wire + cut, len - cut));
        TAP_UNTIL(tap, buf_len(&tap->got) == len - 5);
        assert_true(slice_equal(buf_bytes(&tap->got), SLICE("onethreexnine\000byte")));
        tap_close(tap);
    }
    Tap *tap = tap_open(TAP_LIMITS);
    for (size_t i = 0; i < len; i++) {
        far_send(tap, slice_of(wire + i, 1));
        tap_turns(tap, 1);
    }
    TAP_UNTIL(tap, buf_len(&tap->got) == len - 5);
    tap_close(tap);
}

/* Else: 10,000 idle clients cost gigabytes (H15). */
static void an_idle_stream_holds_no_buffers(void **state)
{
    Tap *tap = tap_open(TAP_LIMITS);
    Buf far;
    buf_init(&far, 1 << 20);
    tap->raw = tap->echo = true;
    uint8_t *bytes = pattern(100000);
    far_send(tap, slice_of(bytes, 100000));
    TAP_UNTIL(tap, far_receive(tap, &far, 65536) == 0 && buf_len(&far) == 100000);
    assert_pattern(&far, 100000);
    assert_null(tap->stream.in.data);
    assert_null(tap->stream.out.data);
    assert_true(sizeof(Stream) < 512);
    assert_int_equal(tap->stream.bytes_in, 100000);
    assert_int_equal(tap->stream.bytes_out, 100000);
    free(bytes);
    buf_finish(&far);
    tap_close(tap);
}

/* Else: a statement longer than one read is garbled, or its memory stays for ever. */
static void a_long_message_waits_in_own_memory_until_consumed(void **state)
{
    Tap *tap = tap_open(TAP_LIMITS);
    tap->hold = true;
    uint8_t *bytes = pattern(300000);
    for (size_t sent = 0, step = 1; sent < 300000; sent += step, step = step * 3 + 1) {
        step = MIN(step, MIN(300000 - sent, 50000));
        far_send(tap, slice_of(bytes + sent, step));
        TAP_UNTIL(tap, buf_len(&tap->stream.in) == sent + step);
    }
    assert_pattern(&tap->stream.in, 300000);
    tap->hold = false;
    tap->raw = true;
    stream_resume(&tap->stream); /* offers again what was left */
    tap_turns(tap, 2);
    assert_pattern(&tap->got, 300000);
    assert_null(tap->stream.in.data);
    free(bytes);
    tap_close(tap);
}

/* Else: a client that sends and sends fills our memory, or we spin on its socket. */
static void a_full_in_pauses_reading_until_resumed(void **state)
{
    Tap *tap = tap_open((StreamLimits){.in_max = 100, .out_max = 100, .out_high = 100});
    uint8_t *bytes = pattern(350);
    tap->hold = true;
    far_send(tap, slice_of(bytes, 350));
    tap_turns(tap, 5);
    assert_int_equal(buf_len(&tap->stream.in), 100);
    assert_int_equal(tap->offers, 1);
    assert_true(tap->stream.paused);
    tap->hold = false;
    tap->raw = true;
    stream_resume(&tap->stream);
    TAP_UNTIL(tap, buf_len(&tap->got) == 350);
    assert_pattern(&tap->got, 350);
    free(bytes);
    tap_close(tap);
}

static void resume_once(void *ctx)
{
    Tap *tap = ctx;
    if (tap->stream.paused && tap->offers == 1) {
        tap->hold = false;
        stream_resume(&tap->stream);
    }
}

/* Else: a client waits until somebody else sends something. */
static void what_a_hook_wakes_is_served_without_another_event(void **state)
{
    Tap *tap = tap_open(TAP_LIMITS);
    tap->raw = tap->hold = tap->echo = true;
    far_send(tap, SLICE("question"));
    tap_turns(tap, 1);
    stream_pause(&tap->stream);
    loop_on_turn_end(&tap->loop, resume_once, tap); /* runs after the flush */
    Buf far;
    buf_init(&far, 100);
    ev_run(tap->loop.ev, EVRUN_ONCE); /* would sleep for ever: nothing comes from outside */
    ev_run(tap->loop.ev, EVRUN_ONCE | EVRUN_NOWAIT);
    assert_true(got_is(tap, "question"));
    assert_int_equal(far_receive(tap, &far, 100), 8);
    buf_finish(&far);
    tap_close(tap);
}

/* Else: a paused stream reads on and its owner is flooded. */
static void a_paused_stream_is_left_alone(void **state)
{
    Tap *tap = tap_open(TAP_LIMITS);
    tap->raw = true;
    stream_pause(&tap->stream);
    far_send(tap, SLICE("later"));
    tap_turns(tap, 3);
    assert_int_equal(tap->offers, 0);
    stream_resume(&tap->stream);
    TAP_UNTIL(tap, got_is(tap, "later"));
    tap_close(tap);
}

/* Else: one slow client makes the router hold a whole table in memory. */
static void a_slow_reader_chokes_the_producer_and_drains_once(void **state)
{
    Tap *tap = tap_open(TAP_LIMITS);
    uint8_t *bytes = pattern(4 << 20);
    size_t written = 0;
    Buf far;
    buf_init(&far, 16 << 20);
    while (written < 3 << 20) {
        while (!stream_choked(&tap->stream) && written < 3 << 20) {
            assert_true(stream_write(&tap->stream, slice_of(bytes + written, 7000)));
            written += 7000;
            tap_turns(tap, 1);
        }
        if (!stream_choked(&tap->stream))
            break;
        int drained_before = tap->drained;
        tap_turns(tap, 3);
        assert_int_equal(tap->drained, drained_before); /* nobody reads: still choked */
        assert_true(buf_len(&tap->stream.out) <= (1 << 16) + 7000);
        TAP_UNTIL(tap, (far_receive(tap, &far, 30000), !stream_choked(&tap->stream)));
        assert_int_equal(tap->drained, drained_before + 1);
    }
    TAP_UNTIL(tap, (far_receive(tap, &far, 100000), buf_len(&far) == written));
    assert_pattern(&far, written);
    assert_false(tap->stream.write_blocked);
    assert_null(tap->stream.out.data);
    free(bytes);
    buf_finish(&far);
    tap_close(tap);
}

/* Else: a client that reads nothing takes all memory, or its owner is called back in mid-write. */
static void too_much_output_ends_the_stream_at_the_turns_end(void **state)
{
    Tap *tap = tap_open((StreamLimits){.in_max = 100, .out_max = 1000, .out_high = 500});
    char bytes[600] = {0};
    tap->inside_write = true;
    assert_true(stream_write(&tap->stream, slice_of(bytes, sizeof(bytes))));
    assert_true(stream_choked(&tap->stream));
    assert_false(stream_write(&tap->stream, slice_of(bytes, sizeof(bytes))));
    assert_false(stream_write(&tap->stream, slice_of(bytes, 1))); /* no hole in the output */
    tap->inside_write = false;
    assert_int_equal(tap->gone, 0);
    stream_flush_all(&tap->loop);
    assert_int_equal(tap->gone, 1);
    assert_true(error_is(&tap->gone_err, SQLSTATE_LIMIT_EXCEEDED));
    assert_false(stream_write(&tap->stream, slice_of(bytes, 1)));
    tap_turns(tap, 3);
    assert_int_equal(tap->gone, 1);
    tap_close(tap);
}

/* Else: the last words of a peer (Terminate, a FATAL error) are lost with its connection. */
static void bytes_before_the_end_are_offered_before_gone(void **state)
{
    Tap *tap = tap_open(TAP_LIMITS);
    far_send(tap, SLICE("\003bye\011half"));
    close(tap->far);
    tap->far = -1;
    TAP_UNTIL(tap, tap->gone == 1);
    assert_false(tap->gone_by_error);
    assert_true(got_is(tap, "bye"));
    assert_true(slice_is(buf_bytes(&tap->stream.in), "\011half")); /* may still be looked at */
    tap_turns(tap, 3);
    assert_int_equal(tap->gone, 1);
    tap_close(tap);
}

/* Else: "server closed the connection unexpectedly" in place of the reason it gave. */
static void a_failed_write_reads_the_peers_last_words_first(void **state)
{
    for (int paused = 0; paused < 2; paused++) {
        Tap *tap = tap_open(TAP_LIMITS);
        tap->raw = true;
        far_send(tap, SLICE("shutting down"));
        close(tap->far);
        tap->far = -1;
        assert_true(stream_write(&tap->stream, SLICE("query")));
        stream_flush_all(&tap->loop);
        assert_int_equal(tap->gone, 0); /* deferred */
        if (paused)
            stream_pause(&tap->stream); /* the owner wants no bytes, but must hear of the end */
        TAP_UNTIL(tap, tap->gone == 1);
        assert_true(got_is(tap, paused ? "" : "shutting down"));
        tap_close(tap);
    }
}

/* Else: a client that half-closes (shutdown) is served for ever, or its last query is dropped. */
static void a_half_closed_peer_is_gone_after_its_last_bytes(void **state)
{
    Tap *tap = tap_open(TAP_LIMITS);
    Buf far;
    buf_init(&far, 1000);
    tap->raw = tap->echo = true;
    far_send(tap, SLICE("last question"));
    shutdown(tap->far, SHUT_WR);
    TAP_UNTIL(tap, tap->gone == 1);
    assert_true(got_is(tap, "last question"));
    buf_finish(&far);
    tap_close(tap);
}

/* Else: closing inside a callback crashes the worker, and all its clients with it. */
static void closing_inside_any_callback_is_safe(void **state)
{
    Tap *tap = tap_open(TAP_LIMITS);
    tap->close_in_bytes = true; /* and the owner goes on decoding afterwards */
    far_send(tap, SLICE("\003one\003two"));
    TAP_UNTIL(tap, tap->stream.state == STREAM_CLOSED);
    assert_true(got_is(tap, "onetwo"));
    assert_null(tap->stream.in.data);
    assert_int_equal(tap->gone, 0);
    tap_close(tap);

    tap = tap_open(TAP_LIMITS);
    tap->close_in_gone = true;
    close(tap->far);
    tap->far = -1;
    TAP_UNTIL(tap, tap->gone == 1);
    assert_int_equal(tap->stream.state, STREAM_CLOSED);
    tap_close(tap);

    tap = tap_open(TAP_LIMITS);
    tap->close_in_drained = true;
    uint8_t *bytes = pattern(70000);
    assert_true(stream_write(&tap->stream, slice_of(bytes, 70000)));
    TAP_UNTIL(tap, tap->drained == 1);
    assert_int_equal(tap->stream.state, STREAM_CLOSED);
    free(bytes);
    tap_close(tap);
}

/* Else: a reconnecting owner meets the flags and bytes of the connection before. */
static void a_closed_stream_opens_again_afresh(void **state)
{
    Tap *tap = tap_open((StreamLimits){.in_max = 10, .out_max = 10, .out_high = 5});
    int ends[2];
    tap->hold = true;
    far_send(tap, SLICE("0123456789"));
    tap_turns(tap, 2);
    assert_false(stream_write(&tap->stream, SLICE("01234567890123456789")));
    stream_close(&tap->stream);
    stream_touch(&tap->stream);
    assert_false(stream_write(&tap->stream, SLICE("x")));

    close(tap->far);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    tap->far = ends[1];
    tap->hold = false;
    tap->raw = true;
    stream_open(&tap->stream, ends[0], true);
    far_send(tap, SLICE("new"));
    TAP_UNTIL(tap, got_is(tap, "new"));
    assert_true(stream_write(&tap->stream, SLICE("new too")));
    tap_turns(tap, 1);
    assert_int_equal(tap->gone, 0);
    tap_close(tap);
}

/* Else: answers wait 40 ms for Nagle, and a dead peer holds its server for 15 minutes (H34). */
static void sockets_are_tuned(void **state)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), value = 0;
    socklen_t len = sizeof(value);
    if (fd < 0)
        skip();
    socket_tune(fd, 1700);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len), 0);
    assert_true(value != 0);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &len), 0);
    assert_int_equal(value, 1700);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_survive_short_reads_at_every_byte),
        cmocka_unit_test(an_idle_stream_holds_no_buffers),
        cmocka_unit_test(a_long_message_waits_in_own_memory_until_consumed),
        cmocka_unit_test(a_full_in_pauses_reading_until_resumed),
        cmocka_unit_test(what_a_hook_wakes_is_served_without_another_event),
        cmocka_unit_test(a_paused_stream_is_left_alone),
        cmocka_unit_test(a_slow_reader_chokes_the_producer_and_drains_once),
        cmocka_unit_test(too_much_output_ends_the_stream_at_the_turns_end),
        cmocka_unit_test(bytes_before_the_end_are_offered_before_gone),
        cmocka_unit_test(a_failed_write_reads_the_peers_last_words_first),
        cmocka_unit_test(a_half_closed_peer_is_gone_after_its_last_bytes),
        cmocka_unit_test(closing_inside_any_callback_is_safe),
        cmocka_unit_test(a_closed_stream_opens_again_afresh),
        cmocka_unit_test(sockets_are_tuned),
    };
    int failed = cmocka_run_group_tests_name("one by one", tests, NULL, NULL);
    return failed + cmocka_run_group_tests_name("together", tests, taps_send_together, NULL);
}
