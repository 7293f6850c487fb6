/*
 * translate.c - walks messages and binary values, and changes the four bytes of each OID where they stand.
 *
 *     array    int32 dimensions, int32 flags, int32 OID of the elements, (int32 size, int32 from) per dimension,
 *              int32 length and bytes of each element
 *     record   int32 fields, (int32 OID, int32 length, bytes) of each
 */
#include "backend/translate.h"

#include <stdlib.h>
#include <string.h>

#define OID_RECORD       2249u
#define OID_RECORD_ARRAY 2287u
#define DEPTH_MAX        16

typedef struct Bytes {
    uint8_t *at, *end;
    bool short_; /* the rest is not as it should be: it is left alone */
} Bytes;

typedef struct Walk {
    const OidMap *map;
    bool to_home;
} Walk;

static uint32_t read_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void write_u32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

static uint8_t *take(Bytes *bytes, size_t len)
{
    static uint8_t nothing[4];
    if (bytes->short_ || (size_t)(bytes->end - bytes->at) < len) {
        bytes->short_ = true;
        memset(nothing, 0, sizeof nothing);
        return nothing;
    }
    bytes->at += len;
    return bytes->at - len;
}

static uint32_t take_u32(Bytes *bytes)
{
    return read_u32(take(bytes, 4));
}

static uint32_t take_u16(Bytes *bytes)
{
    const uint8_t *at = take(bytes, 2);
    return (uint32_t)at[0] << 8 | at[1];
}

static void skip_text(Bytes *bytes)
{
    uint8_t *end = bytes->short_ ? NULL : memchr(bytes->at, 0, (size_t)(bytes->end - bytes->at));
    if (end)
        bytes->at = end + 1;
    else
        bytes->short_ = true;
}

static Bytes body_of(const Frame *frame)
{
    uint8_t *at = (uint8_t *)(uintptr_t)frame->body.data; /* in the stream's own buffer */
    return (Bytes){.at = at, .end = at + frame->body.len};
}

/* ---- values -------------------------------------------------------------------------------------- */

/* What the binary form of a type (the shard's OID) holds; domains are looked through. */
static OidShape shape_of(const OidMap *map, uint32_t *type)
{
    for (int depth = 0; depth < DEPTH_MAX; depth++) {
        const OidType *known = oid_map_type(map, *type);
        if (*type == OID_RECORD)
            return OID_SHAPE_RECORD;
        if (*type == OID_RECORD_ARRAY)
            return OID_SHAPE_ARRAY;
        if (!known || known->shape != OID_SHAPE_DOMAIN)
            return known ? (OidShape)known->shape : OID_SHAPE_PLAIN;
        *type = known->base;
    }
    return OID_SHAPE_PLAIN;
}

static void walk_value(const Walk *walk, uint32_t type, Bytes value, int depth);

/* The OID that stands here is changed; the shard's one is returned. */
static uint32_t walk_oid(const Walk *walk, Bytes *bytes)
{
    uint8_t *at = take(bytes, 4);
    uint32_t oid = read_u32(at);
    if (bytes->short_)
        return 0;
    write_u32(at, walk->to_home ? oid_map_home_type(walk->map, oid) : oid_map_shard_type(walk->map, oid));
    return walk->to_home ? oid : read_u32(at);
}

static void walk_part(const Walk *walk, uint32_t type, Bytes *from, int depth)
{
    uint32_t len = take_u32(from);
    if (len == UINT32_MAX)
        return;
    uint8_t *at = take(from, len);
    if (!from->short_)
        walk_value(walk, type, (Bytes){.at = at, .end = at + len}, depth + 1);
}

static void walk_array(const Walk *walk, Bytes value, int depth)
{
    uint32_t dimensions = take_u32(&value);
    take(&value, 4);
    uint32_t element = walk_oid(walk, &value);
    uint64_t count = dimensions ? 1 : 0;
    for (uint32_t i = 0; i < dimensions && !value.short_; i++) {
        count *= take_u32(&value);
        take(&value, 4);
    }
    uint32_t inside = element;
    if (shape_of(walk->map, &inside) == OID_SHAPE_PLAIN)
        return;
    for (uint64_t i = 0; i < count && !value.short_; i++)
        walk_part(walk, element, &value, depth);
}

static void walk_record(const Walk *walk, Bytes value, int depth)
{
    uint32_t fields = take_u32(&value);
    for (uint32_t i = 0; i < fields && !value.short_; i++) {
        uint32_t type = walk_oid(walk, &value);
        walk_part(walk, type, &value, depth);
    }
}

/* `type` is the shard's. */
static void walk_value(const Walk *walk, uint32_t type, Bytes value, int depth)
{
    if (depth > DEPTH_MAX)
        return;
    switch (shape_of(walk->map, &type)) {
    case OID_SHAPE_ARRAY:
        walk_array(walk, value, depth);
        break;
    case OID_SHAPE_RECORD:
        walk_record(walk, value, depth);
        break;
    default:
        break;
    }
}

/* ---- from the shard --------------------------------------------------------------------------------- */

void row_types_finish(RowTypes *row)
{
    free(row->types);
    *row = (RowTypes){0};
}

static bool row_types_begin(RowTypes *row, uint32_t count)
{
    row->any = false;
    row->count = 0;
    if (count <= row->room)
        return true;
    uint32_t *more = realloc(row->types, count * sizeof *more);
    if (!more)
        return false;
    row->types = more;
    row->room = count;
    return true;
}

void translate_description(const OidMap *map, const Frame *frame, RowTypes *row)
{
    Bytes bytes = body_of(frame);
    uint32_t count = take_u16(&bytes);
    bool room = row_types_begin(row, count);
    for (uint32_t i = 0; i < count && !bytes.short_; i++) {
        skip_text(&bytes);
        uint8_t *table = take(&bytes, 6), *type = take(&bytes, 10);
        bool binary = take_u16(&bytes) == 1;
        if (bytes.short_)
            return;
        uint32_t oid = read_u32(type), inside = oid;
        bool walks = binary && shape_of(map, &inside) != OID_SHAPE_PLAIN;
        if (room)
            row->types[row->count++] = walks ? oid : 0;
        row->any |= room && walks;
        write_u32(type, oid_map_home_type(map, oid));
        write_u32(table, oid_map_home_relation(map, read_u32(table)));
    }
}

void translate_row(const OidMap *map, const Frame *frame, const RowTypes *row)
{
    const Walk walk = {.map = map, .to_home = true};
    Bytes bytes = body_of(frame);
    uint32_t count = take_u16(&bytes);
    if (!row->any || count != row->count)
        return;
    for (uint32_t i = 0; i < count && !bytes.short_; i++) {
        uint32_t len = take_u32(&bytes);
        if (len == UINT32_MAX)
            continue;
        uint8_t *at = take(&bytes, len);
        if (!bytes.short_ && row->types[i])
            walk_value(&walk, row->types[i], (Bytes){.at = at, .end = at + len}, 0);
    }
}

void translate_parameters(const OidMap *map, const Frame *frame, Prepared *prepared)
{
    Bytes bytes = body_of(frame);
    uint32_t count = take_u16(&bytes);
    uint32_t *learned = prepared && !prepared->learned && count ? calloc(count, sizeof *learned) : NULL;
    for (uint32_t i = 0; i < count && !bytes.short_; i++) {
        uint8_t *at = take(&bytes, 4);
        if (bytes.short_)
            break;
        uint32_t home = oid_map_home_type(map, read_u32(at));
        write_u32(at, home);
        if (learned)
            learned[i] = home;
    }
    if (learned) {
        prepared->learned = learned;
        prepared->learned_count = count;
    }
}

/* ---- to the shard ------------------------------------------------------------------------------------- */

void translate_parse(const OidMap *map, uint8_t *message, size_t len, uint32_t oid_count)
{
    if (len < 4 * (size_t)oid_count)
        return;
    uint8_t *at = message + len - 4 * (size_t)oid_count; /* the last thing in it */
    for (uint32_t i = 0; i < oid_count; i++, at += 4)
        write_u32(at, oid_map_shard_type(map, read_u32(at)));
}

static uint32_t parameter_type(const Prepared *prepared, uint32_t i)
{
    if (i < prepared->oid_count && prepared->oids[i])
        return prepared->oids[i];
    return i < prepared->learned_count ? prepared->learned[i] : 0;
}

static bool is_binary(const uint8_t *formats, uint32_t count, uint32_t i)
{
    uint32_t at = count == 1 ? 0 : i;
    return at < count && formats[2 * at + 1] == 1;
}

void translate_bind(const OidMap *map, uint8_t *message, size_t len, const Prepared *prepared)
{
    const Walk walk = {.map = map};
    Bytes bytes = {.at = message + 5, .end = message + len, .short_ = len < 5};
    skip_text(&bytes);
    skip_text(&bytes);
    uint32_t format_count = take_u16(&bytes);
    const uint8_t *formats = take(&bytes, 2 * (size_t)format_count);
    uint32_t count = take_u16(&bytes);
    for (uint32_t i = 0; i < count && !bytes.short_; i++) {
        uint32_t size = take_u32(&bytes), type = parameter_type(prepared, i);
        if (size == UINT32_MAX)
            continue;
        uint8_t *at = take(&bytes, size);
        if (!bytes.short_ && type && is_binary(formats, format_count, i))
            walk_value(&walk, oid_map_shard_type(map, type), (Bytes){.at = at, .end = at + size}, 0);
    }
}

bool bind_asks_binary(const BindMessage *bind)
{
    for (uint32_t i = 0; i < bind->result_formats.count; i++)
        if (bind->result_formats.raw.data[2 * i + 1] == 1)
            return true;
    return false;
}
