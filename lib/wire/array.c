/*
 * array.c - why it exists: a batch's keys become one parameter without being gathered first.
 *
 *     binary:  ndim 1 | has nulls | element oid | count | lower bound 1 | len bytes | len bytes ...
 *              ^mark    ^patched                  ^patched by array_end
 *     text:    {"a","b\"c",NULL}
 */
#include "wire/array.h"

#include "wire/writer.h"

enum { AT_FLAGS = 4, AT_COUNT = 12, EMPTY_LEN = 12 };

void array_begin(ArrayWriter *array, Buf *buf, int format, uint32_t element_oid)
{
    *array = (ArrayWriter){.buf = buf, .format = format, .mark = buf_len(buf)};
    if (format == FORMAT_TEXT) {
        writer_u8(buf, '{');
        return;
    }
    writer_u32(buf, 1);
    writer_u32(buf, 0);
    writer_u32(buf, element_oid);
    writer_u32(buf, 0);
    writer_u32(buf, 1);
}

/* Quotes are enough, provided that quotes and backslashes inside are escaped. */
static void text_put(Buf *buf, Slice value)
{
    writer_u8(buf, '"');
    for (size_t start = 0, i = 0; i <= value.len; i++) {
        bool special = i < value.len && (value.data[i] == '"' || value.data[i] == '\\');
        if (!special && i < value.len)
            continue;
        writer_bytes(buf, slice_of(value.data + start, i - start));
        if (special)
            writer_u8(buf, '\\');
        start = i; /* the special byte itself begins the next run */
    }
    writer_u8(buf, '"');
}

static void element_begin(ArrayWriter *array)
{
    if (array->format == FORMAT_TEXT && array->count > 0)
        writer_u8(array->buf, ',');
    array->count++;
}

void array_add(ArrayWriter *array, Slice value)
{
    element_begin(array);
    if (array->format == FORMAT_TEXT)
        text_put(array->buf, value);
    else
        writer_value(array->buf, value);
}

void array_add_null(ArrayWriter *array)
{
    element_begin(array);
    array->has_null = true;
    if (array->format == FORMAT_TEXT)
        writer_bytes(array->buf, SLICE("NULL"));
    else
        writer_null(array->buf);
}

void array_end(ArrayWriter *array)
{
    Buf *buf = array->buf;
    if (array->format == FORMAT_TEXT)
        writer_u8(buf, '}');
    else if (buf->failed)
        return;
    else if (array->count == 0) {
        writer_patch_u32(buf, array->mark, 0); /* PostgreSQL's empty array has no dimension */
        buf->tail = buf->head + array->mark + EMPTY_LEN;
    } else {
        writer_patch_u32(buf, array->mark + AT_FLAGS, array->has_null);
        writer_patch_u32(buf, array->mark + AT_COUNT, (uint32_t)array->count);
    }
}
