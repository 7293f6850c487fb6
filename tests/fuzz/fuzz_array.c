/*
 * fuzz_array.c - any bytes as an array: elements lie inside it or its arena, and it ends.
 */
#include <stdlib.h>

#include "wire/array.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ArrayReader reader;
    Arena arena;
    Slice value;
    size_t count = 0;
    volatile uint8_t sum = 0;
    if (size == 0)
        return 0;
    arena_init(&arena, 4096);
    if (array_open(&reader, data[0] & 1 ? FORMAT_BINARY : FORMAT_TEXT, slice_of(data + 1, size - 1), &arena))
        while (array_take(&reader, &value)) {
            for (size_t i = 0; i < value.len; i++)
                sum = (uint8_t)(sum + value.data[i]);
            if (++count > size)
                abort(); /* more elements than bytes */
        }
    arena_finish(&arena);
    return 0;
}
