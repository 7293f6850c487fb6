/*
 * reader.h - takes integers, strings and bytes off the head of a message body.
 *
 * The error is sticky: read everything, then ask once. A reader that went bad answers zeros and
 * empty Slices and never leaves the body (each length is checked as `len > left`).
 *
 *     WireReader r = reader_of(body);
 *     ret->portal = reader_cstring(&r);
 *     ret->max_rows = reader_i32(&r);
 *     if (!reader_done(&r))
 *         return reader_fail(&r, err);
 */
#ifndef SHOAL_WIRE_READER_H
#define SHOAL_WIRE_READER_H

#include "wire/frame.h"

typedef struct WireReader {
    const uint8_t *at;   /* next byte; borrowed from the body */
    size_t left;         /* bytes from `at` to the end of the body */
    bool bad;            /* sticky */
    const char *problem; /* the first one, in PostgreSQL's words; constant text; NULL while good */
} WireReader;

static inline WireReader reader_of(Slice body)
{
    return (WireReader){.at = body.data, .left = body.len};
}

static inline void reader_set_bad(WireReader *r, const char *problem)
{
    if (!r->bad)
        r->problem = problem;
    r->bad = true;
    r->left = 0;
}

/* The next n bytes, where they lie. */
static inline Slice reader_bytes(WireReader *r, size_t n)
{
    if (n > r->left) {
        reader_set_bad(r, "insufficient data left in message");
        return slice_of(NULL, 0);
    }
    Slice bytes = slice_of(r->at, n);
    if (n) {
        r->at += n;
        r->left -= n;
    }
    return bytes;
}

static inline uint8_t reader_u8(WireReader *r)
{
    if (r->left == 0) {
        reader_set_bad(r, "no data left in message");
        return 0;
    }
    r->left--;
    return *r->at++;
}

static inline uint16_t reader_u16(WireReader *r)
{
    Slice b = reader_bytes(r, 2);
    return b.len ? (uint16_t)(b.data[0] << 8 | b.data[1]) : 0;
}

static inline uint32_t reader_u32(WireReader *r)
{
    Slice b = reader_bytes(r, 4);
    return b.len ? (uint32_t)b.data[0] << 24 | (uint32_t)b.data[1] << 16 |
                       (uint32_t)b.data[2] << 8 | b.data[3]
                 : 0;
}

static inline int16_t reader_i16(WireReader *r)
{
    return (int16_t)reader_u16(r);
}
static inline int32_t reader_i32(WireReader *r)
{
    return (int32_t)reader_u32(r);
}
static inline int64_t reader_i64(WireReader *r)
{
    uint64_t high = reader_u32(r);
    return (int64_t)(high << 32 | reader_u32(r));
}

/* Bytes up to the next NUL, which is taken too but not part of the answer. */
static inline Slice reader_cstring(WireReader *r)
{
    const uint8_t *nul = r->left ? memchr(r->at, 0, r->left) : NULL;
    if (!nul) {
        reader_set_bad(r, "invalid string in message");
        return slice_of(NULL, 0);
    }
    Slice text = slice_of(r->at, (size_t)(nul - r->at));
    r->left -= text.len + 1;
    r->at = nul + 1;
    return text;
}

/* Everything that is left. */
static inline Slice reader_rest(WireReader *r)
{
    return reader_bytes(r, r->left);
}

/* True when nothing went wrong and nothing is left over. */
static inline bool reader_done(WireReader *r)
{
    if (!r->bad && r->left)
        reader_set_bad(r, "invalid message format");
    return !r->bad;
}

/* Fills `err` with 08P01 and the first problem; always WIRE_BAD, so that decoders can return it. */
WireResult reader_fail(const WireReader *r, Error *err);

#endif
