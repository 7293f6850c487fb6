/*
 * fuzz_translate.c - OIDs of binary values, changed in place and changed back: the bytes must be those of before.
 *
 * Byte 0 chooses the column's type; the rest is one binary value.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/translate.h"
#include "wire/backend.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static OidMap *map_of(uint32_t home, uint32_t shard)
{
    const OidName a[] = {{SLICE("a"), home + 2, 0, false, OID_SHAPE_ARRAY},
                         {SLICE("b"), home + 1, 0, false, OID_SHAPE_PLAIN},
                         {SLICE("c"), home + 3, 0, false, OID_SHAPE_RECORD}};
    const OidName b[] = {{SLICE("a"), shard + 2, 0, false, OID_SHAPE_ARRAY},
                         {SLICE("b"), shard + 1, 0, false, OID_SHAPE_PLAIN},
                         {SLICE("c"), shard + 3, 0, false, OID_SHAPE_RECORD}};
    OidMap *map;
    if (!oid_map_make(a, 3, b, 3, &map))
        abort();
    return map;
}

/* OIDs of the second server in the first one's value stay, and would be changed on the way back. */
static bool known_twice(const uint8_t *data, size_t size)
{
    for (size_t i = 1; i + 4 <= size; i++)
        if (data[i] == 0 && data[i + 1] == 0 && data[i + 2] == 30000 >> 8 && data[i + 3] >= (30000 & 0xff) &&
            data[i + 3] <= (30000 & 0xff) + 3)
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 4096)
        return 0;
    OidMap *map = map_of(30000, 20000), *back = map_of(20000, 30000);
    uint32_t types[] = {data[0] % 2 ? 20002 : 20003};
    RowTypes row = {.types = types, .count = 1, .any = true};
    Buf buf;
    buf_init(&buf, 1 << 16);
    const Column column = {.value = slice_of(data + 1, size - 1)};
    backend_put_data_row(&buf, &column, 1);
    Slice whole = buf_bytes(&buf);
    const Frame frame = {.type = 'D', .whole = whole, .body = slice_from(whole, 5)};
    translate_row(map, &frame, &row);
    uint32_t back_types[] = {types[0] + 10000};
    RowTypes back_row = {.types = back_types, .count = 1, .any = true};
    translate_row(back, &frame, &back_row);
    if (!known_twice(data, size) && memcmp(slice_from(whole, 11).data, data + 1, size - 1) != 0)
        abort();
    buf_finish(&buf);
    oid_map_free(map);
    oid_map_free(back);
    return 0;
}
