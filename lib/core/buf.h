/*
 * buf.h - a queue of bytes: written at the tail, read at the head, bounded.
 *
 *     data            head          tail            cap      limit
 *      |---consumed----|---readable--|---writable----|  ....   |
 *
 * An empty Buf holds no memory, and gives back what it holds with buf_trim: ten thousand idle
 * clients cost ten thousand empty structs (hazard H15). Growth doubles up to `limit`.
 * Owner: whoever embeds it. Not shared between threads.
 */
#ifndef SHOAL_CORE_BUF_H
#define SHOAL_CORE_BUF_H

#include "core/slice.h"

typedef struct Buf {
    uint8_t *data; /* owned unless lent; NULL while cap is 0 */
    size_t head, tail, cap;
    size_t limit; /* bytes; the most that may be readable at once */
    bool failed;  /* an append did not fit (limit or no memory); sticky until buf_reset */
    bool lent;    /* data belongs to the lender, between buf_lend and buf_keep */
} Buf;

void buf_init(Buf *buf, size_t limit);
void buf_finish(Buf *buf);

static inline size_t buf_len(const Buf *buf) { return buf->tail - buf->head; }
static inline Slice buf_bytes(const Buf *buf)
{
    return buf->data ? slice_of(buf->data + buf->head, buf_len(buf)) : slice_of(NULL, 0);
}

/* Room for `n` more bytes at the tail; NULL and `failed` when it would pass the limit or memory is
 * out. Invalidates earlier pointers into the Buf. Follow with buf_commit(n written). */
uint8_t *buf_reserve(Buf *buf, size_t n) MUST_USE;
static inline void buf_commit(Buf *buf, size_t n)
{
    assert(buf->tail + n <= buf->cap);
    buf->tail += n;
}
/* False (and `failed`) when it did not fit; nothing is written then. */
bool buf_append(Buf *buf, Slice bytes);
/* Drops `n` bytes at the head. */
void buf_consume(Buf *buf, size_t n);
/* Empties it, keeps the memory, clears `failed`. */
void buf_reset(Buf *buf);
/* Gives memory back: all of it when empty, the excess over 64 KiB otherwise where cheap. */
void buf_trim(Buf *buf);

/* Moves the readable bytes to the front of somebody else's memory and goes on there: a reader's
 * scratch space, so that bytes which are consumed at once never cost an allocation. */
void buf_lend(Buf *buf, uint8_t *memory, size_t size);
/* Ends the loan: what is still readable is copied into memory of the Buf's own. False (and
 * `failed`, empty) when memory is out. Nothing to do when not lent. */
bool buf_keep(Buf *buf) MUST_USE;

#endif
