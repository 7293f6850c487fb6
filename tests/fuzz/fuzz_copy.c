/*
 * fuzz_copy.c - COPY data in any chunks.
 *
 * Byte 0 chooses the format and its characters, byte 1 the size of the chunks. Whatever the chunks, the
 * same rows with the same keys come out, or the same error; and the rows are the input, in order.
 */
#include <stdlib.h>

#include "wire/copy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth)
{
    if (!truth)
        abort();
}

typedef struct Tale {
    Buf rows, keys;
    WireResult result;
    char sqlstate[6];
} Tale;

static void tell(Tale *tale, const CopyLayout *layout, const CopyRow *row)
{
    buf_append(&tale->rows, row->bytes);
    for (uint32_t k = 0; k < layout->key_count; k++) {
        const CopyField *key = &row->keys[k];
        uint8_t mark = (uint8_t)(key->missing * 4 + key->null * 2 + row->every);
        buf_append(&tale->keys, slice_of(&mark, 1));
        if (!key->missing && !key->null)
            buf_append(&tale->keys, key->value);
        buf_append(&tale->keys, SLICE("|"));
    }
}

static void read_in(Tale *tale, const CopyLayout *layout, Slice data, size_t step)
{
    CopyReader reader;
    CopyRow row;
    Error err;
    *tale = (Tale){.result = WIRE_MORE};
    buf_init(&tale->rows, 1 << 24);
    buf_init(&tale->keys, 1 << 24);
    copy_reader_init(&reader, layout);
    while (data.len && tale->result != WIRE_BAD) {
        Slice chunk = slice_of(data.data, MIN(step, data.len));
        data = slice_from(data, chunk.len);
        while ((tale->result = copy_next(&reader, &chunk, &row, &err)) == WIRE_OK)
            tell(tale, layout, &row);
        require(tale->result == WIRE_BAD || chunk.len == 0);
    }
    if (tale->result != WIRE_BAD && (tale->result = copy_end(&reader, &row, &err)) == WIRE_OK)
        tell(tale, layout, &row);
    if (tale->result == WIRE_BAD)
        memcpy(tale->sqlstate, err.sqlstate, 6);
    copy_reader_finish(&reader);
}

static void tale_finish(Tale *tale)
{
    buf_finish(&tale->rows);
    buf_finish(&tale->keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 8192)
        return 0;
    Slice input = slice_of(data + 2, size - 2);
    CopyLayout layout = copy_layout_of((CopyFormat)(data[0] % 3));
    layout.header = data[0] & 4;
    if (data[0] & 8)
        layout.escape = '\\';
    if (data[0] & 16)
        layout.delimiter = '|';
    layout.key_count = 2;
    layout.keys[0] = (data[0] >> 5) & 3;
    layout.keys[1] = 1 + (data[0] >> 7);
    layout.row_max = 4096;
    Tale whole, cut;
    read_in(&whole, &layout, input, SIZE_MAX);
    read_in(&cut, &layout, input, 1 + data[1] % 16);
    require((whole.result == WIRE_BAD) == (cut.result == WIRE_BAD));
    require(whole.result != WIRE_BAD || memcmp(whole.sqlstate, cut.sqlstate, 6) == 0);
    require(slice_equal(buf_bytes(&whole.rows), buf_bytes(&cut.rows)));
    require(slice_equal(buf_bytes(&whole.keys), buf_bytes(&cut.keys)));
    Slice rows = buf_bytes(&whole.rows);
    require(rows.len <= input.len && (rows.len == 0 || memcmp(rows.data, input.data, rows.len) == 0));
    tale_finish(&whole);
    tale_finish(&cut);
    return 0;
}
