/*
 * formats.h - a list of format codes as it travels: none (all text), one (for all), or one each.
 */
#ifndef SHOAL_WIRE_FORMATS_H
#define SHOAL_WIRE_FORMATS_H

#include "core/slice.h"
#include "wire/protocol.h"

typedef struct WireFormats {
    Slice raw;      /* count big-endian int16s; borrowed */
    uint16_t count; /* 0, 1 or as many as there are values */
} WireFormats;

#define WIRE_FORMATS_NONE   ((WireFormats){{NULL, 0}, 0})
#define WIRE_FORMATS_TEXT   ((WireFormats){SLICE("\0\0"), 1})
#define WIRE_FORMATS_BINARY ((WireFormats){SLICE("\0\1"), 1})

/* The code at position i of the list itself; i < count. */
static inline uint16_t formats_raw_at(WireFormats formats, size_t i)
{
    assert(i < formats.count);
    return (uint16_t)(formats.raw.data[2 * i] << 8 | formats.raw.data[2 * i + 1]);
}

/* The format of value i by PostgreSQL's rule. Anything else than FORMAT_TEXT and FORMAT_BINARY is
 * what the client sent and the server will refuse. */
static inline uint16_t formats_of(WireFormats formats, size_t i)
{
    if (formats.count == 0)
        return FORMAT_TEXT;
    return formats_raw_at(formats, formats.count == 1 ? 0 : i);
}

static inline bool formats_equal(WireFormats a, WireFormats b)
{
    return slice_equal(a.raw, b.raw);
}

#endif
