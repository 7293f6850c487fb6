/* send_ring.c - liburing, reduced to what a turn's end needs. */
#include "core/send_ring.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/socket.h>

struct SendRing {
    struct io_uring ring;
    unsigned count; /* added, not submitted */
};

/* The flags spare interrupts; kernels before 6.0 do not know them. */
static int ring_open(struct io_uring *ring)
{
    unsigned flags = 0;
#if defined(IORING_SETUP_SINGLE_ISSUER) && defined(IORING_SETUP_COOP_TASKRUN)
    flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN;
#endif
    int error = io_uring_queue_init(SEND_RING_MAX, ring, flags);
    return error == -EINVAL && flags ? io_uring_queue_init(SEND_RING_MAX, ring, 0) : error;
}

static bool knows_send(struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool known = probe && io_uring_opcode_supported(probe, IORING_OP_SEND);
    io_uring_free_probe(probe);
    return known;
}

SendRing *send_ring_create(void)
{
    SendRing *ring = calloc(1, sizeof(*ring));
    if (!ring)
        return NULL;
    int error = ring_open(&ring->ring);
    if (error == 0 && knows_send(&ring->ring))
        return ring;
    if (error == 0)
        io_uring_queue_exit(&ring->ring);
    free(ring);
    errno = error ? -error : ENOSYS;
    return NULL;
}

void send_ring_destroy(SendRing *ring)
{
    if (!ring)
        return;
    io_uring_queue_exit(&ring->ring);
    free(ring);
}

bool send_ring_add(SendRing *ring, int fd, Slice bytes, int *ret_sent)
{
    struct io_uring_sqe *sqe = ring->count < SEND_RING_MAX ? io_uring_get_sqe(&ring->ring) : NULL;
    if (!sqe)
        return false;
    *ret_sent = SEND_NOT_TRIED;
    io_uring_prep_send(sqe, fd, bytes.data, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    io_uring_sqe_set_data(sqe, ret_sent);
    ring->count++;
    return true;
}

/* The result of one write, which is there or about to be. */
static bool take_one(struct io_uring *ring)
{
    struct io_uring_cqe *cqe;
    int error;
    do
        error = io_uring_wait_cqe(ring, &cqe);
    while (error == -EINTR);
    if (error)
        return false;
    *(int *)io_uring_cqe_get_data(cqe) = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    return true;
}

bool send_ring_submit(SendRing *ring)
{
    unsigned count = ring->count;
    int submitted;
    ring->count = 0;
    do
        submitted = io_uring_submit(&ring->ring);
    while (submitted == -EINTR);
    bool good = submitted == (int)count;
    for (int i = 0; i < submitted; i++)
        good &= take_one(&ring->ring);
    return good;
}
