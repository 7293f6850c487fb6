/*
 * writer.h - appends messages to a Buf, field by field, and patches their length at the end.
 *
 *     size_t mark = writer_begin(buf, BACKEND_READY);
 *     writer_u8(buf, TX_IDLE);
 *     writer_end(buf, mark);
 *
 * Errors are the Buf's sticky `failed`: write everything, then ask once. A message that did not
 * fit leaves nothing behind: the Buf holds whole messages only. Between begin and end nothing may
 * be consumed from the Buf.
 */
#ifndef SHOAL_WIRE_WRITER_H
#define SHOAL_WIRE_WRITER_H

#include "core/buf.h"

/* n bytes at the tail to be filled (and already committed), or NULL and `failed`. */
static inline uint8_t *writer_room(Buf *buf, size_t n)
{
    if (buf->failed)
        return NULL;
    uint8_t *at;
    if (n <= buf->cap - buf->tail && n <= buf->limit && buf_len(buf) <= buf->limit - n)
        at = buf->data ? buf->data + buf->tail : NULL;
    else
        at = buf_reserve(buf, n);
    if (at)
        buf_commit(buf, n);
    return at;
}

static inline void writer_u8(Buf *buf, uint8_t v)
{
    uint8_t *at = writer_room(buf, 1);
    if (at)
        *at = v;
}

static inline void writer_u16(Buf *buf, uint16_t v)
{
    uint8_t *at = writer_room(buf, 2);
    if (at) {
        v = __builtin_bswap16(v);
        memcpy(at, &v, 2);
    }
}

static inline void writer_u32(Buf *buf, uint32_t v)
{
    uint8_t *at = writer_room(buf, 4);
    if (at) {
        v = __builtin_bswap32(v);
        memcpy(at, &v, 4);
    }
}

static inline void writer_u64(Buf *buf, uint64_t v)
{
    uint8_t *at = writer_room(buf, 8);
    if (at) {
        v = __builtin_bswap64(v);
        memcpy(at, &v, 8);
    }
}

static inline void writer_i16(Buf *buf, int16_t v)
{
    writer_u16(buf, (uint16_t)v);
}
static inline void writer_i32(Buf *buf, int32_t v)
{
    writer_u32(buf, (uint32_t)v);
}
static inline void writer_i64(Buf *buf, int64_t v)
{
    writer_u64(buf, (uint64_t)v);
}

static inline void writer_bytes(Buf *buf, Slice bytes)
{
    if (bytes.len == 0)
        return;
    uint8_t *at = writer_room(buf, bytes.len);
    if (at)
        memcpy(at, bytes.data, bytes.len);
}

/* The text and a NUL behind it. The text itself must not contain one. */
static inline void writer_cstring(Buf *buf, Slice text)
{
    writer_bytes(buf, text);
    writer_u8(buf, 0);
}

/* int32 length and the bytes: a value in Bind or DataRow. */
static inline void writer_value(Buf *buf, Slice value)
{
    writer_u32(buf, (uint32_t)value.len);
    writer_bytes(buf, value);
}
static inline void writer_null(Buf *buf)
{
    writer_i32(buf, -1);
}

/* Starts a message; the mark is where it starts, counted from the Buf's head. */
static inline size_t writer_begin(Buf *buf, char type)
{
    size_t mark = buf_len(buf);
    uint8_t *at = writer_room(buf, 5);
    if (at) {
        at[0] = (uint8_t)type;
        memset(at + 1, 0, 4);
    }
    return mark;
}

/* Starts something with an int32 length in front that does not count itself (a value in Bind). */
static inline size_t writer_begin_value(Buf *buf)
{
    size_t mark = buf_len(buf);
    writer_u32(buf, 0);
    return mark;
}

/* Writes `v` over four bytes at `mark` (counted from the head). */
static inline void writer_patch_u32(Buf *buf, size_t mark, uint32_t v)
{
    assert(mark <= buf_len(buf) && buf_len(buf) - mark >= 4);
    v = __builtin_bswap32(v);
    memcpy(buf->data + buf->head + mark, &v, 4);
}

/* Patches the message's length; takes the message back if it did not fit. */
static inline void writer_end(Buf *buf, size_t mark)
{
    size_t len = buf_len(buf) - mark;
    if (len > INT32_MAX)
        buf->failed = true;
    if (buf->failed)
        buf->tail = buf->head + mark;
    else
        writer_patch_u32(buf, mark + 1, (uint32_t)(len - 1));
}

static inline void writer_end_value(Buf *buf, size_t mark)
{
    size_t len = buf_len(buf) - mark;
    if (len > INT32_MAX)
        buf->failed = true;
    if (!buf->failed)
        writer_patch_u32(buf, mark, (uint32_t)(len - 4));
}

#endif
