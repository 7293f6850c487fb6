/*
 * places.h - values and their shards, as people write them: `1000@s1, 2000@s2, *@s0`, `'de'@s0`.
 *
 * Values are read by the key's type into the form that lib/meta/placement.h compares and stores.
 */
#ifndef SHOAL_ADMIN_PLACES_H
#define SHOAL_ADMIN_PLACES_H

#include "meta/pin.h"
#include "meta/topology.h"

/* 42704 for an unknown shard, 22023 for a value that is none of the type, twice the same, or a type that has
 * no ranges. Those of a RANGE table come out sorted. */
bool places_read(Slice text, TableKind kind, uint32_t key_oid, const Config *config, Arena *arena,
                 Place **ret_places, uint32_t *ret_count, Error *err) MUST_USE;
/* A value as text, canonical and normal. False with 22023. */
bool place_value_read(Slice text, uint32_t key_oid, Arena *arena, Slice *ret_value, Error *err) MUST_USE;
bool place_shard_read(Slice name, const Config *config, uint16_t *ret_shard, Error *err) MUST_USE;
/* As places_read takes it. NULL when memory is out. */
const char *places_text(const Table *table, const Config *config, Arena *arena);
/* A pin's value, as people write it. NULL when memory is out. */
const char *pin_value_text(const Pin *pin, Arena *arena);
/* The OID of a type that may be a key, by its SQL name or PostgreSQL's own (int8); 0 for others. */
uint32_t key_type_oid(Slice name);

/* The group a table belongs to when none was named. NULL when memory is out. */
const char *colocation_default(TableKind kind, const char *schema, const char *name, Arena *arena);

#endif
