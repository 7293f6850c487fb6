/*
 * buf.c - where a Buf's memory comes from and goes to.
 *
 * When the tail meets the end of the memory there are two ways to make room:
 *
 *     move   |xxxxxxxxxxxx|readable|      ->  |readable|..............|     costs len bytes
 *     grow   |xx|readable.........|       ->  |readable.........|...........................|
 *
 * Moving is chosen when at least as many bytes were consumed as must be moved, so every byte is
 * moved a bounded number of times (no O(n^2) for a slow reader of a long message), and the memory
 * stays within a small multiple of the limit.
 */
#include "core/buf.h"

#include <stdlib.h>

#define BUF_CAP_MIN ((size_t)512)
#define BUF_TRIM_CAP ((size_t)64 * 1024)
#define BUF_TRIM_LEN ((size_t)16 * 1024) /* more than this is not copied just to save memory */

static bool buf_rehouse(Buf *buf, size_t cap);
static size_t cap_for(size_t need);

void buf_init(Buf *buf, size_t limit)
{
    /* Capacities are rounded up to powers of two and may be twice the limit. */
    *buf = (Buf){.limit = MIN(limit, SIZE_MAX / 8)};
}

void buf_finish(Buf *buf)
{
    if (!buf->lent)
        free(buf->data);
    buf_init(buf, buf->limit);
}

uint8_t *buf_reserve(Buf *buf, size_t n)
{
    size_t len = buf_len(buf);
    if (buf->failed || len > buf->limit || n > buf->limit - len) {
        buf->failed = true;
        return NULL;
    }
    if (n <= buf->cap - buf->tail && buf->data)
        return buf->data + buf->tail;
    if (buf->data && !buf->lent && len + n <= buf->cap && buf->head >= len) {
        memmove(buf->data, buf->data + buf->head, len);
        buf->head = 0;
        buf->tail = len;
    } else if (!buf_rehouse(buf, cap_for(MAX(len + n, buf->lent ? 0 : buf->cap + 1)))) {
        buf->failed = true;
        return NULL;
    }
    assert(buf->cap - buf->tail >= n);
    return buf->data + buf->tail;
}

bool buf_append(Buf *buf, Slice bytes)
{
    uint8_t *room = buf_reserve(buf, bytes.len);
    if (!room)
        return false;
    if (bytes.len)
        memcpy(room, bytes.data, bytes.len);
    buf_commit(buf, bytes.len);
    return true;
}

void buf_consume(Buf *buf, size_t n)
{
    assert(n <= buf_len(buf));
    buf->head += n;
    if (buf->head == buf->tail)
        buf->head = buf->tail = 0;
}

void buf_reset(Buf *buf)
{
    buf->head = buf->tail = 0;
    buf->failed = false;
}

void buf_trim(Buf *buf)
{
    size_t len = buf_len(buf);
    if (buf->lent || !buf->data)
        return;
    if (len == 0) {
        free(buf->data);
        buf->data = NULL;
        buf->head = buf->tail = buf->cap = 0;
    } else if (buf->cap > BUF_TRIM_CAP && len <= BUF_TRIM_LEN) {
        (void)buf_rehouse(buf, BUF_TRIM_CAP); /* no memory for the smaller one: keep the larger */
    }
}

void buf_lend(Buf *buf, uint8_t *memory, size_t size)
{
    size_t len = buf_len(buf);
    assert(!buf->lent && len <= size);
    if (len)
        memcpy(memory, buf->data + buf->head, len);
    free(buf->data);
    buf->data = memory;
    buf->head = 0;
    buf->tail = len;
    buf->cap = size;
    buf->lent = true;
}

bool buf_keep(Buf *buf)
{
    if (!buf->lent)
        return true;
    if (buf_len(buf) > 0 && buf_rehouse(buf, cap_for(buf_len(buf))))
        return true;
    buf->failed = buf_len(buf) > 0;
    buf->data = NULL;
    buf->head = buf->tail = buf->cap = 0;
    buf->lent = false;
    return !buf->failed;
}

/* Moves the readable bytes to the front of fresh memory of its own. Changes nothing on failure. */
static bool buf_rehouse(Buf *buf, size_t cap)
{
    size_t len = buf_len(buf);
    assert(cap >= len);
    uint8_t *data = malloc(cap);
    if (!data)
        return false;
    if (len)
        memcpy(data, buf->data + buf->head, len);
    if (!buf->lent)
        free(buf->data);
    buf->data = data;
    buf->head = 0;
    buf->tail = len;
    buf->cap = cap;
    buf->lent = false;
    return true;
}

/* The next power of two, so that capacities double. */
static size_t cap_for(size_t need)
{
    size_t cap = BUF_CAP_MIN;
    while (cap < need)
        cap *= 2;
    return cap;
}
