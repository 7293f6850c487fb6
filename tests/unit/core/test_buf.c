#include "story.h"

#include "core/buf.h"

/* Else: a client's bytes come out in another order than they went in. */
static void bytes_leave_in_the_order_they_came(void **state)
{
    Buf buf;
    uint64_t random = 1, next_in = 0, next_out = 0;
    buf_init(&buf, 5000);
    for (int step = 0; step < 20000; step++) {
        size_t n = story_random(&random) % 700;
        if (n <= buf.limit - buf_len(&buf)) {
            uint8_t *room = buf_reserve(&buf, n);
            assert_non_null(room);
            for (size_t i = 0; i < n; i++)
                room[i] = (uint8_t)next_in++;
            buf_commit(&buf, n);
        }
        size_t gone = story_random(&random) % (buf_len(&buf) + 1);
        for (size_t i = 0; i < gone; i++)
            assert_int_equal(buf_bytes(&buf).data[i], (uint8_t)next_out++);
        buf_consume(&buf, gone);
        assert_int_equal(buf_len(&buf), next_in - next_out);
        assert_true(buf.cap <= 4 * buf.limit);
    }
    buf_finish(&buf);
}

/* Else: one client that never reads takes the memory of all. */
static void a_full_buf_refuses_and_says_so(void **state)
{
    Buf buf;
    buf_init(&buf, 10);
    assert_true(buf_append(&buf, SLICE("12345678")));
    assert_false(buf_append(&buf, SLICE("9ab")));
    assert_true(buf.failed);
    assert_false(buf_append(&buf, SLICE("9"))); /* sticky: no message with a hole in it */
    assert_true(slice_is(buf_bytes(&buf), "12345678"));
    buf_reset(&buf);
    assert_true(buf_append(&buf, SLICE("0123456789")));
    assert_null(buf_reserve(&buf, SIZE_MAX)); /* H11: no sum that wraps */
    buf_finish(&buf);
}

/* Else: 10,000 clients that once had a long answer keep 100 MB for ever (H15). */
static void an_empty_buf_gives_its_memory_back(void **state)
{
    Buf buf;
    buf_init(&buf, 1 << 20);
    assert_null(buf.data);
    assert_non_null(buf_reserve(&buf, 1 << 19));
    buf_commit(&buf, 1 << 19);
    buf_consume(&buf, (1 << 19) - 3);
    buf_trim(&buf);
    assert_true(buf.cap <= 64 * 1024);
    assert_int_equal(buf_len(&buf), 3);
    buf_consume(&buf, 3);
    buf_trim(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.cap, 0);
    buf_finish(&buf);
}

/* Else: a reader of a long message moves the same bytes over and over. */
static void a_loan_is_returned_with_what_is_left_copied(void **state)
{
    Buf buf;
    uint8_t scratch[64];
    buf_init(&buf, 1000);
    assert_true(buf_append(&buf, SLICE("abc")));
    buf_lend(&buf, scratch, sizeof(scratch));
    memcpy(scratch + 3, "defg", 4);
    buf_commit(&buf, 4);
    buf_consume(&buf, 5);
    assert_true(buf_keep(&buf));
    memset(scratch, 'X', sizeof(scratch));
    assert_true(slice_is(buf_bytes(&buf), "fg"));

    buf_lend(&buf, scratch, sizeof(scratch));
    assert_true(buf_append(&buf, slice_of(scratch, 0)));
    assert_non_null(buf_reserve(&buf, 100)); /* outgrows the loan: moves home by itself */
    assert_false(buf.lent);
    assert_true(slice_is(buf_bytes(&buf), "fg"));

    buf_lend(&buf, scratch, sizeof(scratch));
    buf_consume(&buf, 2);
    assert_true(buf_keep(&buf));
    assert_null(buf.data); /* nothing left: no memory held */
    buf_finish(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_leave_in_the_order_they_came),
        cmocka_unit_test(a_full_buf_refuses_and_says_so),
        cmocka_unit_test(an_empty_buf_gives_its_memory_back),
        cmocka_unit_test(a_loan_is_returned_with_what_is_left_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
