/* places.c - `VALUE@SHARD, ...`: there and back. */
#include "admin/places.h"

#include <stdlib.h>

#include "wire/value.h"

static const struct {
    const char *name;
    uint32_t oid;
} KEY_TYPES[] = {
    {"smallint", WIRE_OID_INT2},     {"int2", WIRE_OID_INT2},
    {"integer", WIRE_OID_INT4},      {"int", WIRE_OID_INT4},
    {"int4", WIRE_OID_INT4},         {"bigint", WIRE_OID_INT8},
    {"int8", WIRE_OID_INT8},         {"text", WIRE_OID_TEXT},
    {"varchar", WIRE_OID_VARCHAR},   {"character varying", WIRE_OID_VARCHAR},
    {"char", WIRE_OID_BPCHAR},       {"bpchar", WIRE_OID_BPCHAR},
    {"bytea", WIRE_OID_BYTEA},       {"uuid", WIRE_OID_UUID},
    {"boolean", WIRE_OID_BOOL},      {"bool", WIRE_OID_BOOL},
    {"date", WIRE_OID_DATE},         {"timestamp", WIRE_OID_TIMESTAMP},
    {"timestamptz", WIRE_OID_TIMESTAMPTZ},
};

uint32_t key_type_oid(Slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(KEY_TYPES); i++)
        if (slice_equal_nocase(name, slice_str(KEY_TYPES[i].name)))
            return KEY_TYPES[i].oid;
    return 0;
}

static bool out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

bool place_value_read(Slice text, uint32_t key_oid, Arena *arena, Slice *ret_value, Error *err)
{
    uint8_t space[8];
    Slice canonical;
    KeyType type = key_type_of(key_oid);
    if (type == KEY_NONE || value_canonical(key_oid, FORMAT_TEXT, text, arena, &canonical) != VALUE_OK) {
        error_set(err, SQLSTATE_INVALID_PARAMETER, "\"%.*s\" is no value of the key's type (%s)",
                  (int)MIN(text.len, 60), (const char *)text.data, key_type_name(type));
        return false;
    }
    *ret_value = arena_dup(arena, key_normal(type, canonical, space));
    return ret_value->data || out_of_memory(err);
}

bool place_shard_read(Slice name, const Config *config, uint16_t *ret_shard, Error *err)
{
    for (uint32_t i = 0; i < config->shard_count; i++) {
        if (!slice_is(name, config->shards[i].name))
            continue;
        *ret_shard = (uint16_t)i;
        return true;
    }
    error_set(err, SQLSTATE_UNDEFINED_OBJECT, "shard \"%.*s\" does not exist", (int)MIN(name.len, 63),
              (const char *)name.data);
    error_hint(err, "SHOW SHARDS on the console lists them.");
    return false;
}

static void skip_blanks(Slice *rest)
{
    while (rest->len && (*rest->data == ' ' || (*rest->data >= '\t' && *rest->data <= '\r')))
        *rest = slice_from(*rest, 1);
}

/* Up to one of `ends`, without blanks behind it. */
static Slice take_plain(Slice *rest, const char *ends)
{
    size_t n = 0;
    while (n < rest->len && !strchr(ends, rest->data[n]))
        n++;
    Slice word = slice_of(rest->data, n);
    *rest = slice_from(*rest, n);
    while (word.len && word.data[word.len - 1] <= ' ')
        word.len--;
    return word;
}

/* 'it''s': false when the quote is not closed. */
static bool take_quoted(Slice *rest, Arena *arena, Slice *ret)
{
    uint8_t *text = arena_alloc(arena, rest->len + 1);
    size_t n = 0, i = 1;
    if (!text)
        return false;
    for (; i < rest->len; i++) {
        if (rest->data[i] == '\'' && !(i + 1 < rest->len && rest->data[i + 1] == '\''))
            break;
        i += rest->data[i] == '\'';
        text[n++] = rest->data[i];
    }
    *ret = slice_of(text, n);
    bool closed = i < rest->len;
    *rest = slice_from(*rest, i + 1);
    skip_blanks(rest);
    return closed;
}

static bool take_place(Slice *rest, uint32_t key_oid, const Config *config, Arena *arena, Place *ret,
                       Error *err)
{
    Slice value = {0};
    skip_blanks(rest);
    bool quoted = rest->len && *rest->data == '\'';
    bool ok = !quoted || take_quoted(rest, arena, &value);
    if (!quoted)
        value = take_plain(rest, "@,");
    if (!ok || rest->len == 0 || *rest->data != '@') {
        error_set(err, SQLSTATE_INVALID_PARAMETER, "places are written as VALUE@SHARD, VALUE@SHARD ...");
        error_hint(err, "Values with a comma or @ in them stand in 'quotes'; * is no value.");
        return false;
    }
    *rest = slice_from(*rest, 1);
    skip_blanks(rest);
    Slice shard = take_plain(rest, ",");
    *rest = slice_from(*rest, 1);
    *ret = (Place){0};
    return ((!quoted && slice_is(value, "*")) ||
            place_value_read(value, key_oid, arena, &ret->value, err)) &&
           place_shard_read(shard, config, &ret->shard, err);
}

static int place_order(const void *left, const void *right, void *type)
{
    const Place *a = left, *b = right;
    if (!a->value.data || !b->value.data)
        return (a->value.data != NULL) - (b->value.data != NULL);
    return key_compare(*(KeyType *)type, a->value, b->value);
}

bool places_read(Slice text, TableKind kind, uint32_t key_oid, const Config *config, Arena *arena,
                 Place **ret_places, uint32_t *ret_count, Error *err)
{
    KeyType type = key_type_of(key_oid);
    uint32_t count = 0, room = 1;
    for (size_t i = 0; i < text.len; i++)
        room += text.data[i] == ',';
    Place *places = arena_array(arena, Place, room);
    if (!places)
        return out_of_memory(err);
    if (kind == TABLE_RANGE && !key_type_ordered(type)) {
        error_set(err, SQLSTATE_INVALID_PARAMETER, "a key of type %s cannot be split into ranges",
                  key_type_name(type));
        error_hint(err, "Ranges are for numbers, dates, timestamps and uuids; use a list or a hash.");
        return false;
    }
    for (Slice rest = text; rest.len; count++)
        if (!take_place(&rest, key_oid, config, arena, &places[count], err))
            return false;
    /* Sorted for both kinds: that shows what stands twice. */
    qsort_r(places, count, sizeof *places, place_order, &type);
    for (uint32_t i = 1; i < count; i++) {
        if (place_order(&places[i - 1], &places[i], &type) != 0)
            continue;
        error_set(err, SQLSTATE_INVALID_PARAMETER, "a value has two places");
        return false;
    }
    if (count == 0) {
        error_set(err, SQLSTATE_INVALID_PARAMETER, "a table needs at least one place");
        return false;
    }
    *ret_places = places;
    *ret_count = count;
    return true;
}

static const char *value_shown(uint32_t oid, Slice value, Arena *arena)
{
    Buf buf;
    buf_init(&buf, 4096);
    const char *text = NULL;
    if (value_text(oid, value, &buf))
        text = arena_text(arena, buf_bytes(&buf));
    else if (value.len <= 8) {
        uint64_t number = 0;
        for (size_t i = 0; i < value.len; i++)
            number = number << 8 | value.data[i];
        text = arena_printf(arena, "0x%llx", (unsigned long long)number);
    }
    buf_finish(&buf);
    return text;
}

/* Values are normal: integers of any width are 8 bytes. */
static uint32_t normal_oid(const TableKey *key)
{
    return key->type == KEY_INT ? WIRE_OID_INT8 : key->oid;
}

const char *pin_value_text(const Pin *pin, Arena *arena)
{
    static const struct {
        const char *type;
        uint32_t oid;
    } TYPES[] = {{"integer", WIRE_OID_INT8}, {"uuid", WIRE_OID_UUID}, {"bytea", WIRE_OID_BYTEA}};
    uint32_t oid = WIRE_OID_TEXT;
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++)
        if (strcmp(TYPES[i].type, pin->type) == 0)
            oid = TYPES[i].oid;
    return value_shown(oid, pin->value, arena);
}

const char *places_text(const Table *table, const Config *config, Arena *arena)
{
    const char *text = "";
    for (uint32_t i = 0; text && i < table->place_count; i++) {
        const Place *place = &table->places[i];
        const char *value = place->value.data ? value_shown(normal_oid(&table->keys[0]), place->value, arena) : "*";
        if (table->kind == TABLE_LOCAL)
            text = config->shards[place->shard].name;
        else
            text = arena_printf(arena, "%s%s%s@%s", text, i ? ", " : "", value ? value : "?",
                                config->shards[place->shard].name);
    }
    return text;
}

const char *colocation_default(TableKind kind, const char *schema, const char *name, Arena *arena)
{
    return kind == TABLE_HASH        ? "default"
           : kind == TABLE_REFERENCE ? "reference"
                                     : arena_printf(arena, "%s.%s", schema, name);
}
