/*
 * frame.h - cuts a stream of bytes into messages: type, length, body.
 *
 *     in:   | D | 00 00 00 0b | 00 01 00 00 00 01 41 | D | 00 00 ...
 *             ^type            ^-------- body -------^
 *           ^----------------- whole -----------------^
 *
 * Nothing is copied: body and whole point into `in` and live as long as it does. Consume
 * `whole.len` bytes afterwards. A length that is too long is BAD as soon as its four bytes are
 * there, before anything is buffered for it.
 */
#ifndef SHOAL_WIRE_FRAME_H
#define SHOAL_WIRE_FRAME_H

#include "core/error.h"
#include "core/slice.h"
#include "wire/protocol.h"

typedef enum WireResult {
    WIRE_OK,   /* `ret` is filled */
    WIRE_MORE, /* not yet complete; come back with more bytes behind the same ones */
    WIRE_BAD   /* `err` is filled; for a frame the stream cannot be understood any further */
} WireResult;

typedef struct Frame {
    uint8_t type;
    Slice body;  /* without type and length */
    Slice whole; /* type, length and body: what to forward and to consume */
} Frame;

/* Cuts the next message at the head of `in`. BAD (08P01 "invalid message length") when its body
 * is longer than `body_max` or its length less than 4. Knows nothing about types. */
WireResult frame_next(Slice in, size_t body_max, Frame *ret, Error *err) MUST_USE;

/* From a client, after login: the type is checked first, even before the length is there (08P01
 * "invalid frontend message type N"), then the length by what PostgreSQL allows that type. */
WireResult frame_next_frontend(Slice in, size_t large_max, Frame *ret, Error *err) MUST_USE;

/* From a server: the same for its types. BAD means: drop this server connection. */
WireResult frame_next_backend(Slice in, size_t large_max, Frame *ret, Error *err) MUST_USE;

bool frame_type_known_frontend(uint8_t type);
bool frame_type_known_backend(uint8_t type);

/* The most body bytes a message of this type may have: SMALL_BODY_MAX for those that carry no
 * user data, otherwise `large_max` (a setting), but never more than PostgreSQL takes. */
size_t frame_body_max_frontend(uint8_t type, size_t large_max);
size_t frame_body_max_backend(uint8_t type, size_t large_max);

#endif
