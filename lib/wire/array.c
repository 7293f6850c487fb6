/*
 * array.c - why it exists: a batch's keys become one parameter without being gathered first.
 *
 *     binary:  ndim 1 | has nulls | element oid | count | lower bound 1 | len bytes | len bytes ...
 *              ^mark    ^patched                  ^patched by array_end
 *     text:    {"a","b\"c",NULL}
 */
#include "wire/array.h"

#include <string.h>

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

/* ---- reading ---------------------------------------------------------------------------------- */

static uint32_t u32_at(Slice bytes, size_t at)
{
    const uint8_t *b = bytes.data + at;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void skip_space(Slice *text)
{
    while (text->len && is_space(text->data[0]))
        *text = slice_from(*text, 1);
}

static bool binary_open(ArrayReader *reader, Slice bytes)
{
    enum { HEADER = 20 };
    if (bytes.len >= EMPTY_LEN && u32_at(bytes, 0) == 0) {
        reader->element_oid = u32_at(bytes, 8);
        return true;
    }
    if (bytes.len < HEADER || u32_at(bytes, 0) != 1)
        return false;
    reader->element_oid = u32_at(bytes, 8);
    reader->left = u32_at(bytes, AT_COUNT);
    reader->rest = slice_from(bytes, HEADER);
    return true;
}

bool array_open(ArrayReader *reader, int format, Slice bytes, Arena *arena)
{
    *reader = (ArrayReader){.format = format};
    if (format == FORMAT_BINARY)
        return binary_open(reader, bytes);
    skip_space(&bytes);
    while (bytes.len && is_space(bytes.data[bytes.len - 1]))
        bytes.len--;
    if (bytes.len < 2 || bytes.data[0] != '{' || bytes.data[bytes.len - 1] != '}')
        return false;
    reader->rest = slice_of(bytes.data + 1, bytes.len - 2);
    skip_space(&reader->rest);
    reader->left = reader->rest.len > 0;
    reader->space = arena_alloc(arena, reader->rest.len + 1); /* unquoted, nothing grows */
    return reader->space != NULL;
}

static bool binary_take(ArrayReader *reader, Slice *ret)
{
    if (reader->left == 0)
        return false;
    if (reader->rest.len < 4) {
        reader->bad = true;
        return false;
    }
    uint32_t len = u32_at(reader->rest, 0);
    reader->rest = slice_from(reader->rest, 4);
    reader->left--;
    *ret = slice_of(NULL, 0);
    if (len == UINT32_MAX)
        return true;
    if (len > reader->rest.len) {
        reader->bad = true;
        return false;
    }
    *ret = slice_of(reader->rest.data, len);
    reader->rest = slice_from(reader->rest, len);
    return true;
}

/* "..." or a bare word, up to the comma or the end, into `out`. *ret_len without the blanks behind a bare one. */
static bool word_take(Slice *text, uint8_t *out, size_t *ret_len, bool *ret_quoted)
{
    size_t len = 0, kept = 0;
    *ret_quoted = text->len && text->data[0] == '"';
    if (*ret_quoted)
        *text = slice_from(*text, 1);
    for (;;) {
        if (text->len == 0)
            break;
        uint8_t c = text->data[0];
        if (*ret_quoted ? c == '"' : c == ',')
            break;
        if (!*ret_quoted && (c == '"' || c == '{' || c == '}'))
            return false;
        bool escaped = c == '\\';
        if (escaped) {
            *text = slice_from(*text, 1);
            if (text->len == 0)
                return false;
            c = text->data[0];
        }
        out[len++] = c;
        kept = escaped || !is_space(c) ? len : kept;
        *text = slice_from(*text, 1);
    }
    *ret_len = *ret_quoted ? len : kept;
    if (!*ret_quoted)
        return kept > 0;
    if (text->len == 0)
        return false;
    *text = slice_from(*text, 1); /* the closing quote */
    skip_space(text);
    return text->len == 0 || text->data[0] == ',';
}

static bool text_take(ArrayReader *reader, Slice *ret)
{
    size_t len;
    bool quoted;
    uint8_t *out = reader->space;
    if (!reader->left)
        return false;
    skip_space(&reader->rest);
    if (!word_take(&reader->rest, out, &len, &quoted)) {
        reader->bad = true;
        return false;
    }
    reader->space += len;
    reader->left = reader->rest.len > 0;
    if (reader->left)
        reader->rest = slice_from(reader->rest, 1); /* the comma: an element must follow */
    bool null = !quoted && len == 4 && slice_equal_nocase(slice_of(out, len), SLICE("null"));
    *ret = null ? slice_of(NULL, 0) : slice_of(out, len);
    return true;
}

bool array_take(ArrayReader *reader, Slice *ret_value)
{
    return reader->format == FORMAT_BINARY ? binary_take(reader, ret_value) : text_take(reader, ret_value);
}
