/*
 * fuzz_changes.c - messages of logical replication, one after the other: | length 1 | message | ...
 *
 * Values lie within their message, whatever it says.
 */
#include <stdlib.h>

#include "wire/changes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ChangeTable tables[] = {{.schema = SLICE("s"), .name = SLICE("t"), .column = SLICE("k")}};
    ChangeReader reader = {tables, 1};
    while (size > 0) {
        size_t len = MIN(data[0], size - 1);
        Slice message = slice_of(data + 1, len);
        Change change;
        Error err;
        if (change_read(&reader, message, &change, &err) == WIRE_OK)
            for (uint32_t i = 0; i < change.count; i++)
                if (change.count > 2 || change.values[i].data < message.data ||
                    change.values[i].data + change.values[i].len > message.data + message.len)
                    abort();
        data += 1 + len;
        size -= 1 + len;
    }
    return 0;
}
