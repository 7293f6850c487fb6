/*
 * copy_fields.c - the key's values in one line, and no other: fields before them are passed over,
 * those behind are not looked at.
 *
 *     text   delimiter unless behind a backslash; NULL is compared before anything is unescaped
 *     CSV    delimiter unless quoted; a NULL that was quoted is a text
 */
#include "wire/copy.h"

/* ---- text ----------------------------------------------------------------------------------------------- */

static int digit_of(uint8_t c, int base)
{
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : base;
    return digit < base ? digit : -1;
}

/* Up to `max` digits from *at; false when there is none. */
static bool take_digits(Slice raw, size_t *at, int base, int max, uint8_t *ret)
{
    unsigned value = 0;
    int count = 0;
    for (int digit; count < max && *at < raw.len && (digit = digit_of(raw.data[*at], base)) >= 0; count++) {
        value = value * (unsigned)base + (unsigned)digit;
        ++*at;
    }
    *ret = (uint8_t)value;
    return count > 0;
}

/* What stands behind a backslash at *at, and *at behind it. */
static uint8_t unescape_one(Slice raw, size_t *at)
{
    uint8_t c = raw.data[*at], value;
    if (take_digits(raw, at, 8, 3, &value))
        return value;
    ++*at;
    switch (c) {
    case 'x':
        return take_digits(raw, at, 16, 2, &value) ? value : c;
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'v':
        return '\v';
    default:
        return c;
    }
}

static bool text_value(Slice raw, Arena *scratch, Slice *ret)
{
    uint8_t *out = arena_alloc(scratch, raw.len + 1);
    size_t n = 0;
    if (!out)
        return false;
    for (size_t at = 0; at < raw.len;) {
        uint8_t c = raw.data[at++];
        out[n++] = c == '\\' && at < raw.len ? unescape_one(raw, &at) : c;
    }
    *ret = slice_of(out, n);
    return true;
}

/* The field that begins at *at, raw; *at moves behind its delimiter, beyond the line after the last. */
static Slice text_field(const CopyLayout *layout, Slice line, size_t *at, bool *escaped)
{
    size_t from = *at, to = from;
    *escaped = false;
    while (to < line.len && line.data[to] != layout->delimiter) {
        bool escape = line.data[to] == '\\';
        *escaped |= escape;
        to += escape && to + 1 < line.len ? 2 : 1;
    }
    *at = to + 1;
    return slice_of(line.data + from, to - from);
}

static bool text_key(const CopyLayout *layout, Slice raw, bool escaped, Arena *scratch, CopyField *ret)
{
    *ret = (CopyField){.value = raw, .null = slice_equal(raw, layout->null_text)};
    return ret->null || !escaped || text_value(raw, scratch, &ret->value);
}

/* ---- CSV ------------------------------------------------------------------------------------------------- */

/* As text_field; the value is unquoted into `out` (room for the whole line) when it is wanted. */
static CopyField csv_field(const CopyLayout *layout, Slice line, size_t *at, uint8_t *out)
{
    size_t from = *at, n = 0, i = from;
    bool quoted = false, inside = false;
    while (i < line.len && (inside || line.data[i] != layout->delimiter)) {
        uint8_t c = line.data[i++];
        bool pair = inside && c == layout->escape && i < line.len &&
                    (line.data[i] == layout->escape || line.data[i] == layout->quote);
        if (pair)
            c = line.data[i++];
        else if (c == layout->quote) {
            inside = !inside;
            quoted = true;
            continue;
        }
        if (out)
            out[n] = c;
        n++;
    }
    *at = i + 1;
    CopyField field = {.missing = inside};
    field.null = !quoted && slice_equal(slice_of(line.data + from, i - from), layout->null_text);
    if (quoted)
        field.value = slice_of(out, out ? n : 0);
    else
        field.value = slice_of(line.data + from, i - from);
    return field;
}

/* ---- both ------------------------------------------------------------------------------------------------ */

static int key_at(const CopyLayout *layout, uint32_t field)
{
    for (uint32_t k = 0; k < layout->key_count; k++)
        if (layout->keys[k] == field)
            return (int)k;
    return -1;
}

bool copy_read_keys(const CopyLayout *layout, Slice line, Arena *scratch, CopyField *keys)
{
    uint32_t left = layout->key_count;
    size_t at = 0;
    for (uint32_t k = 0; k < layout->key_count; k++)
        keys[k] = (CopyField){.missing = true};
    for (uint32_t field = 0; left && at <= line.len; field++) {
        int k = key_at(layout, field);
        bool escaped;
        left -= k >= 0;
        if (layout->format == COPY_TEXT) {
            Slice raw = text_field(layout, line, &at, &escaped);
            if (k >= 0 && !text_key(layout, raw, escaped, scratch, &keys[k]))
                return false;
            continue;
        }
        uint8_t *out = k >= 0 ? arena_alloc(scratch, line.len - at + 1) : NULL;
        if (k >= 0 && !out)
            return false;
        CopyField read = csv_field(layout, line, &at, out);
        if (k >= 0)
            keys[k] = read;
    }
    return true;
}
