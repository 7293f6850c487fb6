/*
 * frame.c - why it exists: nothing behind this file ever sees half a message or a lying length.
 *
 * A client that declares 2 GB costs five bytes of memory: type and length are judged before the
 * body is waited for. The tables below say which types each side may send and which of them carry
 * user data; all others are small in PostgreSQL too (its PQ_SMALL_MESSAGE_LIMIT).
 */
#include "wire/frame.h"

#include <stdio.h>

typedef enum TypeSize { SIZE_UNKNOWN, SIZE_SMALL, SIZE_LARGE } TypeSize;

/* PostgreSQL 15's SocketBackend sorts its types in the same way. */
static const uint8_t FRONTEND_SIZES[256] = {
    [FRONTEND_QUERY] = SIZE_LARGE,     [FRONTEND_FUNCTION_CALL] = SIZE_LARGE,
    [FRONTEND_PARSE] = SIZE_LARGE,     [FRONTEND_BIND] = SIZE_LARGE,
    [FRONTEND_COPY_DATA] = SIZE_LARGE, [FRONTEND_TERMINATE] = SIZE_SMALL,
    [FRONTEND_CLOSE] = SIZE_SMALL,     [FRONTEND_DESCRIBE] = SIZE_SMALL,
    [FRONTEND_EXECUTE] = SIZE_SMALL,   [FRONTEND_FLUSH] = SIZE_SMALL,
    [FRONTEND_SYNC] = SIZE_SMALL,      [FRONTEND_COPY_DONE] = SIZE_SMALL,
    [FRONTEND_COPY_FAIL] = SIZE_SMALL,
};

/* What libpq calls VALID_LONG_MESSAGE_TYPE, and those that can grow with the number of columns. */
static const uint8_t BACKEND_SIZES[256] = {
    [BACKEND_ROW_DESCRIPTION] = SIZE_LARGE,
    [BACKEND_DATA_ROW] = SIZE_LARGE,
    [BACKEND_COPY_DATA] = SIZE_LARGE,
    [BACKEND_FUNCTION_RESULT] = SIZE_LARGE,
    [BACKEND_ERROR] = SIZE_LARGE,
    [BACKEND_NOTICE] = SIZE_LARGE,
    [BACKEND_NOTIFICATION] = SIZE_LARGE,
    [BACKEND_PARAMETER_DESCRIPTION] = SIZE_LARGE,
    [BACKEND_AUTHENTICATION] = SIZE_SMALL,
    [BACKEND_BIND_COMPLETE] = SIZE_SMALL,
    [BACKEND_CLOSE_COMPLETE] = SIZE_SMALL,
    [BACKEND_COMMAND_COMPLETE] = SIZE_SMALL,
    [BACKEND_COPY_BOTH] = SIZE_SMALL,
    [BACKEND_COPY_DONE] = SIZE_SMALL,
    [BACKEND_COPY_IN] = SIZE_SMALL,
    [BACKEND_COPY_OUT] = SIZE_SMALL,
    [BACKEND_EMPTY_QUERY] = SIZE_SMALL,
    [BACKEND_KEY_DATA] = SIZE_SMALL,
    [BACKEND_NEGOTIATE_VERSION] = SIZE_SMALL,
    [BACKEND_NO_DATA] = SIZE_SMALL,
    [BACKEND_PARAMETER_STATUS] = SIZE_SMALL,
    [BACKEND_PARSE_COMPLETE] = SIZE_SMALL,
    [BACKEND_PORTAL_SUSPENDED] = SIZE_SMALL,
    [BACKEND_READY] = SIZE_SMALL,
};

bool frame_type_known_frontend(uint8_t type)
{
    return FRONTEND_SIZES[type] != SIZE_UNKNOWN;
}
bool frame_type_known_backend(uint8_t type)
{
    return BACKEND_SIZES[type] != SIZE_UNKNOWN;
}

size_t frame_body_max_frontend(uint8_t type, size_t large_max)
{
    size_t most = FRONTEND_SIZES[type] == SIZE_LARGE ? LARGE_BODY_MAX : SMALL_BODY_MAX;
    return MIN(most, large_max);
}

size_t frame_body_max_backend(uint8_t type, size_t large_max)
{
    size_t most = BACKEND_SIZES[type] == SIZE_LARGE ? LARGE_BODY_MAX : BACKEND_SMALL_MAX;
    return MIN(most, large_max);
}

static WireResult length_bad(uint8_t type, uint32_t length, size_t body_max, Error *err)
{
    char letter[8];
    snprintf(letter, sizeof letter, type > 32 && type < 127 ? "'%c'" : "%d", type);
    error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "invalid message length");
    error_detail(err, "A message of type %s declares a length of %d; it may be 4 to %zu.", letter,
                 (int32_t)length, body_max + 4);
    return WIRE_BAD;
}

WireResult frame_next(Slice in, size_t body_max, Frame *ret, Error *err)
{
    if (in.len < 5)
        return WIRE_MORE;
    uint32_t length = (uint32_t)in.data[1] << 24 | (uint32_t)in.data[2] << 16 |
                      (uint32_t)in.data[3] << 8 | in.data[4];
    if (length < 4 || length - 4 > body_max || length > INT32_MAX)
        return length_bad(in.data[0], length, body_max, err);
    if (length > in.len - 1)
        return WIRE_MORE;
    ret->type = in.data[0];
    ret->whole = slice_of(in.data, (size_t)length + 1);
    ret->body = slice_of(in.data + 5, length - 4);
    return WIRE_OK;
}

WireResult frame_next_frontend(Slice in, size_t large_max, Frame *ret, Error *err)
{
    if (in.len == 0)
        return WIRE_MORE;
    if (!frame_type_known_frontend(in.data[0])) {
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "invalid frontend message type %d", in.data[0]);
        return WIRE_BAD;
    }
    return frame_next(in, frame_body_max_frontend(in.data[0], large_max), ret, err);
}

WireResult frame_next_backend(Slice in, size_t large_max, Frame *ret, Error *err)
{
    if (in.len == 0)
        return WIRE_MORE;
    if (!frame_type_known_backend(in.data[0])) {
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "invalid backend message type %d", in.data[0]);
        return WIRE_BAD;
    }
    return frame_next(in, frame_body_max_backend(in.data[0], large_max), ret, err);
}
