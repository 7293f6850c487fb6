/*
 * pin.c - whose rows a pin is about, and how to say its value.
 *
 * Types are compared by name, not by OID: a group's tables may have int4 and int8 keys, and 42 is 42 in both. bytea
 * hashes like text does, but its values are written otherwise.
 */
#include "meta/pin.h"

#include <inttypes.h>

#include "meta/bucket_sql.h"

#define OID_BYTEA 17

const char *pin_type(uint32_t key_oid)
{
    switch (key_type_of(key_oid)) {
    case KEY_INT:
        return "integer";
    case KEY_TEXT:
        return key_oid == OID_BYTEA ? "bytea" : "text";
    case KEY_BPCHAR:
        return "char";
    case KEY_UUID:
        return "uuid";
    case KEY_BOOL:
    case KEY_DATE:
    case KEY_TIMESTAMP:
    case KEY_NONE:
        return NULL;
    }
    return NULL;
}

static KeyType type_named(const char *name)
{
    return strcmp(name, "integer") == 0 ? KEY_INT
           : strcmp(name, "char") == 0  ? KEY_BPCHAR
           : strcmp(name, "uuid") == 0  ? KEY_UUID
                                        : KEY_TEXT;
}

const Pin *pin_of_bucket(const ShardMap *map, uint32_t bucket)
{
    uint32_t hashed = buckets_hashed(map->bucket_count);
    assert(bucket < map->bucket_count);
    return bucket < hashed ? NULL : &map->pins[bucket - hashed];
}

bool bucket_in_use(const ShardMap *map, uint32_t bucket)
{
    const Pin *pin = pin_of_bucket(map, bucket);
    return !pin || pin_in_use(pin);
}

uint32_t pin_home(const ShardMap *map, const Pin *pin)
{
    return shard_map_bucket(map, hash_key(type_named(pin->type), pin->value));
}

bool pins_fill(Table *table, const ShardMap *map, const char *database, Arena *arena)
{
    if (table->kind != TABLE_HASH)
        return true;
    table->places = NULL;
    table->place_count = 0;
    const char *type = table->key_count == 1 && table->keys[0].type != KEY_NONE ? pin_type(table->keys[0].oid) : NULL;
    if (!type || map->pin_count == 0)
        return true;
    table->places = arena_array(arena, Place, map->pin_count);
    for (uint32_t i = 0; table->places && i < map->pin_count; i++) {
        const Pin *pin = &map->pins[i];
        if (!pin_in_use(pin) || strcmp(pin->database, database) != 0 || strcmp(pin->type, type) != 0 ||
            !slice_is(table->colocation, pin->colocation))
            continue;
        uint32_t bucket = buckets_hashed(map->bucket_count) + i;
        Slice value = arena_dup(arena, pin->value);
        if (!value.data)
            return false;
        table->places[table->place_count++] =
            (Place){.value = value, .bucket = bucket, .shard = map->shard_of[bucket]};
    }
    return table->places != NULL;
}

/* ---- SQL ----------------------------------------------------------------------------------------------- */

static char *integer_sql(Arena *arena, Slice value)
{
    uint64_t number = 0;
    for (size_t i = 0; i < value.len; i++)
        number = number << 8 | value.data[i];
    return arena_printf(arena, "'%" PRId64 "'::pg_catalog.int8", (int64_t)number);
}

char *pin_value_sql(Arena *arena, const TableKey *key, Slice value)
{
    if (key->type == KEY_INT)
        return integer_sql(arena, value);
    if (key->type == KEY_UUID || key->oid == OID_BYTEA) {
        char *hex = place_value_hex(value, arena);
        return hex ? arena_printf(arena, key->type == KEY_UUID ? "'%s'::pg_catalog.uuid" : "E'\\\\x%s'::pg_catalog.bytea", hex)
                   : NULL;
    }
    char *text = sql_quote_literal(arena, value);
    return text ? arena_printf(arena, "%s::pg_catalog.%s", text, key->type == KEY_BPCHAR ? "bpchar" : "text") : NULL;
}
