/*
 * placement.h - which shard a row belongs to, for every kind of table.
 *
 *     kind        key       who decides
 *     HASH        1..8      bucket of the row hash -> ShardMap; a pinned value's own bucket (pin.h)
 *     RANGE       1         the Place with the greatest value that is not above the key
 *     LIST        1         the Place of that value; else the one of all others, where there is one
 *     REFERENCE   none      every shard has all rows
 *     LOCAL       none      one named shard has all rows
 *
 * Places are written as text in the store: `<value>@<shard> ...`, the value in hexadecimal digits of its
 * canonical form (wire/value.h; integers always as 8 bytes), `*` for no value: all others, or the lowest.
 */
#ifndef SHOAL_META_PLACEMENT_H
#define SHOAL_META_PLACEMENT_H

#include "meta/config.h"
#include "meta/hash.h"

#define TABLE_KEYS_MAX 8

typedef enum TableKind { TABLE_HASH, TABLE_RANGE, TABLE_LIST, TABLE_REFERENCE, TABLE_LOCAL } TableKind;

const char *table_kind_name(TableKind kind);
/* False when there is no kind of that name. */
bool table_kind_read(Slice name, TableKind *ret_kind) MUST_USE;

typedef struct Place {
    Slice value; /* canonical; data NULL: no value */
    uint16_t shard;  /* index in Config.shards */
    uint32_t bucket; /* of a pinned value: its own (meta/pin.h) */
} Place;

/* Order of canonical values as PostgreSQL's btree has it: <0, 0, >0. Integers may differ in width. Not for
 * text, whose order is its collation's. */
int key_compare(KeyType type, Slice a, Slice b);
/* Integers as 8 bytes, char(n) without its blanks; other values as they are. The bytes lie in `space` when
 * they had to be made. */
Slice key_normal(KeyType type, Slice canonical, uint8_t space[static 8]);
bool key_type_ordered(KeyType type); /* may be the key of a RANGE table */

/* Reads the store's text; false with XX001 for what placement_write did not write, or F0000 for a shard
 * that the configuration does not have. */
bool placement_read(Slice text, const Config *config, Arena *arena, Place **ret_places,
                    uint32_t *ret_count, Error *err) MUST_USE;
/* NULL when memory is out. */
const char *placement_write(const Place *places, uint32_t count, const Config *config, Arena *arena);

/* A value as its hexadecimal digits, and back; false for other text, or when memory is out. NULL: out of memory. */
bool place_value_of_hex(Slice hex, Arena *arena, Slice *ret) MUST_USE;
char *place_value_hex(Slice value, Arena *arena) MUST_USE;

/* The Place that a value (normal form) belongs to, or NULL. Places of a RANGE table are sorted. */
const Place *placement_find(TableKind kind, KeyType type, const Place *places, uint32_t count, Slice value);

#endif
