/*
 * fuzz_value.c - key values: byte 0 chooses the type, byte 1 the format.
 *
 * A canonical value is a fixed point: read again as binary, or printed and read again as text, it
 * is the same.
 */
#include <stdlib.h>

#include "wire/array.h"
#include "wire/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth)
{
    if (!truth)
        abort();
}

static const uint32_t TYPES[] = {
    WIRE_OID_INT2,  WIRE_OID_INT4, WIRE_OID_INT8,    WIRE_OID_OID,         WIRE_OID_UUID,
    WIRE_OID_BOOL,  WIRE_OID_DATE, WIRE_OID_BPCHAR,  WIRE_OID_TEXT,        WIRE_OID_TIMESTAMP,
    WIRE_OID_BYTEA, WIRE_OID_NAME, WIRE_OID_NUMERIC, WIRE_OID_TIMESTAMPTZ,
};

static void fixed_point(uint32_t type, Slice canonical, Arena *arena)
{
    Slice again;
    require(value_canonical(type, FORMAT_BINARY, canonical, arena, &again) == VALUE_OK);
    require(slice_equal(canonical, again));

    Buf buf;
    buf_init(&buf, 1 << 22);
    if (value_text(type, canonical, &buf)) {
        Slice text = buf_bytes(&buf);
        require(value_canonical(type, FORMAT_TEXT, text, arena, &again) == VALUE_OK);
        require(slice_equal(canonical, again));
    }
    buf_reset(&buf);
    for (int format = FORMAT_TEXT; format <= FORMAT_BINARY; format++) {
        ArrayWriter array;
        array_begin(&array, &buf, format, type);
        array_add(&array, canonical);
        array_add_null(&array);
        array_end(&array);
        require(!buf.failed);
    }
    buf_finish(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    uint32_t type = TYPES[data[0] % ARRAY_LEN(TYPES)];
    Arena arena;
    Slice canonical;
    arena_init(&arena, 4096);
    if (value_canonical(type, data[1] % 2, slice_of(data + 2, size - 2), &arena, &canonical) ==
        VALUE_OK)
        fixed_point(type, canonical, &arena);
    arena_finish(&arena);
    return 0;
}
