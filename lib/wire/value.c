/*
 * value.c - why it exists: a router that takes ' 7', '+7' and binary 7 for three keys sends two of
 * them to the wrong shard; one that accepts what PostgreSQL refuses answers for a row that nobody
 * asked for. So each type's input function is followed to the letter, or not at all (OPAQUE).
 */
#include "wire/value.h"

#include <stdio.h>
#include <strings.h>

#include "wire/value_time.h"
#include "wire/writer.h"

static ValueResult text_canonical(uint32_t type_oid, Slice value, Arena *arena, Slice *ret);
static ValueResult binary_canonical(uint32_t type_oid, Slice value, Arena *arena, Slice *ret);
static ValueResult string_canonical(uint32_t type_oid, Slice value, Slice *ret);

static bool is_string(uint32_t type_oid)
{
    return type_oid == WIRE_OID_TEXT || type_oid == WIRE_OID_VARCHAR ||
           type_oid == WIRE_OID_BPCHAR || type_oid == WIRE_OID_NAME;
}

ValueResult value_canonical(uint32_t type_oid, int format, Slice value, Arena *arena, Slice *ret)
{
    if (is_string(type_oid)) /* both formats are the same bytes */
        return format == FORMAT_TEXT || format == FORMAT_BINARY
                   ? string_canonical(type_oid, value, ret)
                   : VALUE_OPAQUE;
    if (format == FORMAT_TEXT)
        return text_canonical(type_oid, value, arena, ret);
    if (format == FORMAT_BINARY)
        return binary_canonical(type_oid, value, arena, ret);
    return VALUE_OPAQUE;
}

/* A NUL is an error in every text that PostgreSQL receives. */
static bool has_nul(Slice value)
{
    return value.len && memchr(value.data, 0, value.len);
}

static ValueResult string_canonical(uint32_t type_oid, Slice value, Slice *ret)
{
    if (has_nul(value) || (type_oid == WIRE_OID_NAME && value.len > IDENTIFIER_BYTES_MAX))
        return VALUE_OPAQUE;
    if (type_oid == WIRE_OID_BPCHAR)
        while (value.len && value.data[value.len - 1] == ' ')
            value.len--;
    *ret = value;
    return VALUE_OK;
}

/* The last `size` bytes of a big-endian number. */
static ValueResult number_put(uint64_t number, size_t size, Arena *arena, Slice *ret)
{
    uint8_t *room = arena_alloc(arena, size);
    if (!room)
        return VALUE_OPAQUE;
    number = __builtin_bswap64(number);
    memcpy(room, (const uint8_t *)&number + 8 - size, size);
    *ret = slice_of(room, size);
    return VALUE_OK;
}

static uint64_t number_get(Slice bytes)
{
    uint64_t number = 0;
    for (size_t i = 0; i < bytes.len; i++)
        number = number << 8 | bytes.data[i];
    return number;
}

/* ---- from text ------------------------------------------------------------------------------- */

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static Slice trim(Slice text)
{
    while (text.len && is_space(text.data[0]))
        text = slice_from(text, 1);
    while (text.len && is_space(text.data[text.len - 1]))
        text.len--;
    return text;
}

/* spaces, sign, digits, spaces; judged by its syntax first, so that only well-formed texts are
 * out of range. */
static ValueResult integer_read(Slice text, int64_t least, int64_t most, int64_t *ret)
{
    text = trim(text);
    bool negative = text.len && text.data[0] == '-';
    if (text.len && (negative || text.data[0] == '+'))
        text = slice_from(text, 1);
    if (text.len == 0)
        return VALUE_OPAQUE;
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] < '0' || text.data[i] > '9')
            return VALUE_OPAQUE;
    /* Counted downwards, because the most negative number has no positive twin. */
    int64_t number = 0;
    for (size_t i = 0; i < text.len; i++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_sub_overflow(number, text.data[i] - '0', &number))
            return VALUE_OUT_OF_RANGE;
    if (!negative && __builtin_sub_overflow((int64_t)0, number, &number))
        return VALUE_OUT_OF_RANGE;
    if (number < least || number > most)
        return VALUE_OUT_OF_RANGE;
    *ret = number;
    return VALUE_OK;
}

static ValueResult integer_canonical(Slice text, int64_t least, int64_t most, size_t size,
                                     Arena *arena, Slice *ret)
{
    int64_t number;
    ValueResult result = integer_read(text, least, most, &number);
    return result == VALUE_OK ? number_put((uint64_t)number, size, arena, ret) : result;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Two hex digits at the head of the text; -1 when there are none. */
static int hex_take(Slice *text)
{
    if (text->len < 2 || hex_digit(text->data[0]) < 0 || hex_digit(text->data[1]) < 0)
        return -1;
    int byte = hex_digit(text->data[0]) << 4 | hex_digit(text->data[1]);
    *text = slice_from(*text, 2);
    return byte;
}

/* As uuid_in: braces around all of it, a hyphen after any group of four digits. */
static ValueResult uuid_canonical(Slice text, Arena *arena, Slice *ret)
{
    uint8_t *room = arena_alloc(arena, 16);
    if (!room)
        return VALUE_OPAQUE;
    bool braces = text.len && text.data[0] == '{';
    if (braces)
        text = slice_from(text, 1);
    for (int i = 0; i < 16; i++) {
        int byte = hex_take(&text);
        if (byte < 0)
            return VALUE_OPAQUE;
        room[i] = (uint8_t)byte;
        if (text.len && text.data[0] == '-' && i % 2 == 1 && i < 15)
            text = slice_from(text, 1);
    }
    if (!slice_equal(text, braces ? SLICE("}") : SLICE("")))
        return VALUE_OPAQUE;
    *ret = slice_of(room, 16);
    return VALUE_OK;
}

bool value_bool_text(Slice text, bool *ret)
{
    static const struct {
        const char *word;
        size_t least; /* length of its shortest unique prefix */
        bool value;
    } WORDS[] = {{"true", 1, true}, {"false", 1, false}, {"yes", 1, true}, {"no", 1, false},
                 {"on", 2, true},   {"off", 2, false},   {"1", 1, true},   {"0", 1, false}};
    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++)
        if (text.len >= WORDS[i].least && text.len <= strlen(WORDS[i].word) &&
            strncasecmp((const char *)text.data, WORDS[i].word, text.len) == 0) {
            *ret = WORDS[i].value;
            return true;
        }
    return false;
}

static ValueResult bool_canonical(Slice text, Slice *ret)
{
    bool value;
    if (!value_bool_text(trim(text), &value))
        return VALUE_OPAQUE;
    *ret = value ? SLICE("\1") : SLICE("\0");
    return VALUE_OK;
}

/* Hex digits behind \x; spaces may stand between the pairs. */
static bool bytea_hex(Slice text, uint8_t *room, size_t *ret_len)
{
    size_t n = 0;
    while (text.len) {
        uint8_t c = text.data[0];
        if (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
            text = slice_from(text, 1);
            continue;
        }
        int byte = hex_take(&text);
        if (byte < 0)
            return false;
        room[n++] = (uint8_t)byte;
    }
    *ret_len = n;
    return true;
}

static bool is_octal(uint8_t c)
{
    return c >= '0' && c <= '7';
}

/* Bytes as they are, backslash doubled, or backslash and three octal digits. */
static bool bytea_escape(Slice text, uint8_t *room, size_t *ret_len)
{
    size_t n = 0;
    while (text.len) {
        const uint8_t *c = text.data;
        size_t used = 1;
        if (c[0] & 0x80)
            return false; /* would be converted from the client's encoding first */
        if (c[0] != '\\')
            room[n++] = c[0];
        else if (text.len >= 2 && c[1] == '\\') {
            room[n++] = '\\';
            used = 2;
        } else if (text.len >= 4 && is_octal(c[1]) && c[1] <= '3' && is_octal(c[2]) &&
                   is_octal(c[3])) {
            room[n++] = (uint8_t)((c[1] - '0') << 6 | (c[2] - '0') << 3 | (c[3] - '0'));
            used = 4;
        } else
            return false;
        text = slice_from(text, used);
    }
    *ret_len = n;
    return true;
}

static ValueResult bytea_canonical(Slice text, Arena *arena, Slice *ret)
{
    if (has_nul(text))
        return VALUE_OPAQUE;
    uint8_t *room = arena_alloc(arena, text.len + 1);
    if (!room)
        return VALUE_OPAQUE;
    size_t len;
    bool hex = text.len >= 2 && text.data[0] == '\\' && text.data[1] == 'x';
    if (!(hex ? bytea_hex(slice_from(text, 2), room, &len) : bytea_escape(text, room, &len)))
        return VALUE_OPAQUE;
    *ret = slice_of(room, len);
    return VALUE_OK;
}

static ValueResult text_canonical(uint32_t type_oid, Slice value, Arena *arena, Slice *ret)
{
    int32_t days;
    int64_t us;
    switch (type_oid) {
    case WIRE_OID_INT2:
        return integer_canonical(value, INT16_MIN, INT16_MAX, 2, arena, ret);
    case WIRE_OID_INT4:
        return integer_canonical(value, INT32_MIN, INT32_MAX, 4, arena, ret);
    case WIRE_OID_INT8:
        return integer_canonical(value, INT64_MIN, INT64_MAX, 8, arena, ret);
    case WIRE_OID_OID: /* signs mean something else here (strtoul): not ours */
        if (value.len == 0 || value.data[0] < '0' || value.data[0] > '9')
            return VALUE_OPAQUE;
        return integer_canonical(value, 0, UINT32_MAX, 4, arena, ret);
    case WIRE_OID_UUID:
        return uuid_canonical(value, arena, ret);
    case WIRE_OID_BOOL:
        return bool_canonical(value, ret);
    case WIRE_OID_BYTEA:
        return bytea_canonical(value, arena, ret);
    case WIRE_OID_DATE:
        if (!time_read_date(value, &days))
            return VALUE_OPAQUE;
        return number_put((uint64_t)days, 4, arena, ret);
    case WIRE_OID_TIMESTAMP:
    case WIRE_OID_TIMESTAMPTZ:
        if (!time_read_timestamp(value, type_oid == WIRE_OID_TIMESTAMPTZ, &us))
            return VALUE_OPAQUE;
        return number_put((uint64_t)us, 8, arena, ret);
    default:
        return VALUE_OPAQUE;
    }
}

/* ---- from binary ----------------------------------------------------------------------------- */

/* Bytes of a binary value; 0 for types that are not ours or have no fixed length. */
static size_t fixed_len(uint32_t type_oid)
{
    switch (type_oid) {
    case WIRE_OID_BOOL:
        return 1;
    case WIRE_OID_INT2:
        return 2;
    case WIRE_OID_INT4:
    case WIRE_OID_OID:
    case WIRE_OID_DATE:
        return 4;
    case WIRE_OID_INT8:
    case WIRE_OID_TIMESTAMP:
    case WIRE_OID_TIMESTAMPTZ:
        return 8;
    case WIRE_OID_UUID:
        return 16;
    default:
        return 0;
    }
}

static ValueResult binary_canonical(uint32_t type_oid, Slice value, Arena *arena, Slice *ret)
{
    if (type_oid == WIRE_OID_BYTEA) {
        *ret = value;
        return VALUE_OK;
    }
    if (value.len == 0 || value.len != fixed_len(type_oid))
        return VALUE_OPAQUE; /* PostgreSQL: 08P01 or 22P03 */
    if (type_oid == WIRE_OID_BOOL) {
        *ret = value.data[0] ? SLICE("\1") : SLICE("\0"); /* any other byte is true too */
        return VALUE_OK;
    }
    if (type_oid == WIRE_OID_DATE && !time_date_in_range((int32_t)number_get(value)))
        return VALUE_OUT_OF_RANGE;
    if ((type_oid == WIRE_OID_TIMESTAMP || type_oid == WIRE_OID_TIMESTAMPTZ) &&
        !time_timestamp_in_range((int64_t)number_get(value)))
        return VALUE_OUT_OF_RANGE;
    *ret = value;
    return VALUE_OK;
}

/* ---- to text --------------------------------------------------------------------------------- */

static void hex_put(Buf *buf, Slice bytes)
{
    static const char DIGITS[] = "0123456789abcdef";
    for (size_t i = 0; i < bytes.len; i++) {
        writer_u8(buf, (uint8_t)DIGITS[bytes.data[i] >> 4]);
        writer_u8(buf, (uint8_t)DIGITS[bytes.data[i] & 15]);
    }
}

/* 8-4-4-4-12 */
static void uuid_put(Buf *buf, Slice bytes)
{
    static const size_t ENDS[] = {4, 6, 8, 10, 16};
    for (size_t i = 0, start = 0; i < ARRAY_LEN(ENDS); start = ENDS[i++]) {
        if (start)
            writer_u8(buf, '-');
        hex_put(buf, slice_of(bytes.data + start, ENDS[i] - start));
    }
}

static void decimal_put(Buf *buf, int64_t number)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%lld", (long long)number);
    writer_bytes(buf, slice_of(text, (size_t)len));
}

bool value_text(uint32_t type_oid, Slice canonical, Buf *buf)
{
    if (is_string(type_oid)) {
        writer_bytes(buf, canonical);
        return true;
    }
    if (type_oid == WIRE_OID_BYTEA) {
        writer_bytes(buf, SLICE("\\x"));
        hex_put(buf, canonical);
        return true;
    }
    if (canonical.len == 0 || canonical.len != fixed_len(type_oid))
        return false;
    uint64_t number = canonical.len <= 8 ? number_get(canonical) : 0;
    switch (type_oid) {
    case WIRE_OID_INT2:
        decimal_put(buf, (int16_t)number);
        return true;
    case WIRE_OID_INT4:
        decimal_put(buf, (int32_t)number);
        return true;
    case WIRE_OID_INT8:
    case WIRE_OID_OID:
        decimal_put(buf, (int64_t)number);
        return true;
    case WIRE_OID_BOOL:
        writer_u8(buf, number ? 't' : 'f');
        return true;
    case WIRE_OID_UUID:
        uuid_put(buf, canonical);
        return true;
    default:
        return false; /* dates and timestamps print as DateStyle and TimeZone say */
    }
}

bool value_integer(Slice canonical, int64_t *ret)
{
    uint64_t bits = 0;
    if (canonical.len != 2 && canonical.len != 4 && canonical.len != 8)
        return false;
    for (size_t i = 0; i < canonical.len; i++)
        bits = bits << 8 | canonical.data[i];
    unsigned unused = (unsigned)(64 - 8 * canonical.len);
    *ret = (int64_t)(bits << unused) >> unused;
    return true;
}

uint32_t value_array_oid(uint32_t type_oid)
{
    static const struct {
        uint32_t type, array;
    } PAIRS[] = {
        {WIRE_OID_BOOL, WIRE_OID_BOOL_ARRAY},
        {WIRE_OID_BYTEA, WIRE_OID_BYTEA_ARRAY},
        {WIRE_OID_NAME, WIRE_OID_NAME_ARRAY},
        {WIRE_OID_INT2, WIRE_OID_INT2_ARRAY},
        {WIRE_OID_INT4, WIRE_OID_INT4_ARRAY},
        {WIRE_OID_INT8, WIRE_OID_INT8_ARRAY},
        {WIRE_OID_TEXT, WIRE_OID_TEXT_ARRAY},
        {WIRE_OID_OID, WIRE_OID_OID_ARRAY},
        {WIRE_OID_BPCHAR, WIRE_OID_BPCHAR_ARRAY},
        {WIRE_OID_VARCHAR, WIRE_OID_VARCHAR_ARRAY},
        {WIRE_OID_DATE, WIRE_OID_DATE_ARRAY},
        {WIRE_OID_TIMESTAMP, WIRE_OID_TIMESTAMP_ARRAY},
        {WIRE_OID_TIMESTAMPTZ, WIRE_OID_TIMESTAMPTZ_ARRAY},
        {WIRE_OID_UUID, WIRE_OID_UUID_ARRAY},
    };
    for (size_t i = 0; i < ARRAY_LEN(PAIRS); i++)
        if (PAIRS[i].type == type_oid)
            return PAIRS[i].array;
    return 0;
}
