#include "wire_test.h"

static Error err;
static Frame frame;

static void frames_are_cut_where_they_end(void **state)
{
    /* Lost otherwise: every answer behind the first one of a pipeline. */
    Slice in = SLICE("Q\0\0\0\6x\0S\0\0\0\4");
    assert_int_equal(frame_next_frontend(in, 100, &frame, &err), WIRE_OK);
    assert_int_equal(frame.type, 'Q');
    assert_bytes(frame.body, SLICE("x\0"));
    assert_int_equal(frame.whole.len, 7);
    assert_int_equal(frame_next_frontend(slice_from(in, 7), 100, &frame, &err), WIRE_OK);
    assert_int_equal(frame.type, 'S');
    assert_int_equal(frame.body.len, 0);
}

static void half_a_frame_waits(void **state)
{
    /* Lost otherwise: sessions whose messages arrive in more than one packet (H11). */
    Slice in = SLICE("Q\0\0\0\6x\0");
    for (size_t n = 0; n < in.len; n++)
        assert_int_equal(frame_next_frontend(slice_of(in.data, n), 100, &frame, &err), WIRE_MORE);
}

static void lengths_that_lie_are_refused_at_once(void **state)
{
    /* Lost otherwise: the router's memory, to anybody who declares 2 GB (cases 61-64). */
    Slice lies[] = {SLICE("Q\0\0\0\0"), SLICE("Q\0\0\0\3"), SLICE("Q\xff\xff\xff\xff"),
                    SLICE("Q\x7f\xff\xff\xff"), SLICE("Q\x40\0\0\4")};
    for (size_t i = 0; i < ARRAY_LEN(lies); i++)
        assert_bad(frame_next_frontend(lies[i], SIZE_MAX, &frame, &err), &err, "08P01",
                   "invalid message length");
}

static void small_messages_stay_small(void **state)
{
    /* Lost otherwise: a Sync of 10 kB takes a server before it is refused (case 65). */
    Slice sync = SLICE("S\0\0\x27\x15"), execute = SLICE("E\0\0\x4e\x20");
    assert_bad(frame_next_frontend(sync, 1 << 20, &frame, &err), &err, "08P01",
               "invalid message length");
    assert_string_equal(err.detail,
                        "A message of type 'S' declares a length of 10005; it may be 4 to 10004.");
    assert_bad(frame_next_frontend(execute, 1 << 20, &frame, &err), &err, "08P01",
               "invalid message length");
    assert_int_equal(frame_next_frontend(SLICE("S\0\0\x27\x14"), 1 << 20, &frame, &err), WIRE_MORE);
}

static void a_large_message_obeys_the_setting(void **state)
{
    /* Lost otherwise: the operator's limit on what one client may buffer. */
    assert_int_equal(frame_next_frontend(SLICE("Q\0\0\x4\0"), 1020, &frame, &err), WIRE_MORE);
    assert_bad(frame_next_frontend(SLICE("Q\0\0\x4\1"), 1020, &frame, &err), &err, "08P01",
               "invalid message length");
}

static void unknown_types_are_refused_by_their_first_byte(void **state)
{
    /* Lost otherwise: a client that is out of step is taken for a slow one (cases 57-60). */
    struct {
        const char *in;
        const char *message;
    } cases[] = {
        {"z", "invalid frontend message type 122"}, {"\0", "invalid frontend message type 0"},
        {"T", "invalid frontend message type 84"},  {"R", "invalid frontend message type 82"},
        {"Z", "invalid frontend message type 90"},  {"p", "invalid frontend message type 112"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_bad(frame_next_frontend(slice_of(cases[i].in, 1), 100, &frame, &err), &err, "08P01",
                   cases[i].message);
    assert_bad(frame_next_backend(SLICE("Q"), 100, &frame, &err), &err, "08P01",
               "invalid backend message type 81");
}

static void servers_keep_their_own_limits(void **state)
{
    /* Lost otherwise: an evil server fills our memory with one ReadyForQuery (case 138). */
    assert_bad(frame_next_backend(SLICE("Z\0\1\0\0"), 1 << 20, &frame, &err), &err, "08P01",
               "invalid message length");
    assert_int_equal(frame_next_backend(SLICE("D\0\1\0\0"), 1 << 20, &frame, &err), WIRE_MORE);
    assert_bad(frame_next_backend(SLICE("D\0\0\0\2"), 1 << 20, &frame, &err), &err, "08P01",
               "invalid message length");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_cut_where_they_end),
        cmocka_unit_test(half_a_frame_waits),
        cmocka_unit_test(lengths_that_lie_are_refused_at_once),
        cmocka_unit_test(small_messages_stay_small),
        cmocka_unit_test(a_large_message_obeys_the_setting),
        cmocka_unit_test(unknown_types_are_refused_by_their_first_byte),
        cmocka_unit_test(servers_keep_their_own_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
