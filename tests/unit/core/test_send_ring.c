/* Writes through io_uring, on real sockets. Where the kernel offers none, there is nothing to test. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/send_ring.h"
#include "story.h"

#define PAIRS 400

static SendRing *ring;
static int near_end[PAIRS], far_end[PAIRS], sent[PAIRS];

static int open_pairs(void **state)
{
    (void)state;
    ring = send_ring_create();
    for (int i = 0; i < PAIRS; i++) {
        int ends[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
        near_end[i] = ends[0];
        far_end[i] = ends[1];
    }
    return 0;
}

static int close_pairs(void **state)
{
    (void)state;
    send_ring_destroy(ring);
    for (int i = 0; i < PAIRS; i++) {
        close(near_end[i]);
        close(far_end[i]);
    }
    return 0;
}

#define NEEDS_A_RING                                                                                           \
    if (!ring)                                                                                                 \
    skip()

static Slice word(int i)
{
    static char words[PAIRS][16];
    int len = snprintf(words[i], sizeof(words[i]), "answer %d", i);
    return slice_of(words[i], (size_t)len);
}

static void assert_got(int i, Slice expected)
{
    char bytes[64];
    ssize_t n = recv(far_end[i], bytes, sizeof(bytes), 0);
    assert_int_equal(n, expected.len);
    assert_memory_equal(bytes, expected.data, expected.len);
}

/* A client would get the answer of another, or none. */
static void each_gets_its_own_and_no_more_than_fit(void **state)
{
    (void)state;
    NEEDS_A_RING;
    int added = 0;
    while (send_ring_add(ring, near_end[added], word(added), &sent[added]))
        added++;
    assert_int_equal(added, SEND_RING_MAX);
    assert_int_equal(sent[0], SEND_NOT_TRIED);
    assert_true(send_ring_submit(ring));
    for (int i = 0; i < added; i++) {
        assert_int_equal(sent[i], word(i).len);
        assert_got(i, word(i));
    }
    assert_true(send_ring_submit(ring)); /* nothing: nothing happens */
    for (int turn = 0; turn < 1000; turn++) { /* its places come back */
        assert_true(send_ring_add(ring, near_end[turn % PAIRS], word(7), &sent[7]));
        assert_true(send_ring_submit(ring));
        assert_got(turn % PAIRS, word(7));
    }
}

/* One who does not read, or has gone, would hold up or hurt the others. */
static void the_troubles_of_one_are_its_own(void **state)
{
    (void)state;
    NEEDS_A_RING;
    char much[4096] = {0};
    while (send(near_end[1], much, sizeof(much), MSG_NOSIGNAL) > 0)
        continue;
    close(far_end[2]);
    far_end[2] = -1;
    for (int i = 0; i < 5; i++)
        assert_true(send_ring_add(ring, near_end[i], word(i), &sent[i]));
    assert_true(send_ring_submit(ring));
    assert_int_equal(sent[1], -EAGAIN);
    assert_int_equal(sent[2], -EPIPE);
    assert_got(0, word(0));
    assert_got(3, word(3));
    assert_got(4, word(4));
}

/* A large answer would be cut off where the socket is full. */
static void what_did_not_fit_is_told(void **state)
{
    (void)state;
    NEEDS_A_RING;
    size_t size = (size_t)4 << 20, got = 0;
    char *much = calloc(1, size), piece[65536];
    assert_true(send_ring_add(ring, near_end[0], slice_of(much, size), &sent[0]));
    assert_true(send_ring_submit(ring));
    assert_true(sent[0] > 0 && (size_t)sent[0] < size);
    for (ssize_t n; (n = recv(far_end[0], piece, sizeof(piece), 0)) > 0;)
        got += (size_t)n;
    assert_int_equal(got, sent[0]);
    free(much);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_gets_its_own_and_no_more_than_fit, open_pairs, close_pairs),
        cmocka_unit_test_setup_teardown(the_troubles_of_one_are_its_own, open_pairs, close_pairs),
        cmocka_unit_test_setup_teardown(what_did_not_fit_is_told, open_pairs, close_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
