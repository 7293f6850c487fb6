/*
 * pin.h - one value of a hash table that has a bucket of its own, so that it can live anywhere.
 *
 *     buckets of the hash   0 .. 1023      rows by their hash
 *     pinned values         1024, 1025 ..  rows with that very value, wherever its hash would put them
 *
 * A pin says which value; where the bucket lives the map says, as of all buckets. So a pinned value is fenced, filtered,
 * moved and verified like any bucket, and the bucket that its hash names does not have its rows. It holds for all tables
 * of one colocation group of a database whose only key column is of that type. A bucket whose pin was taken away
 * stays in the map, has no rows, and serves the next pin.
 */
#ifndef SHOAL_META_PIN_H
#define SHOAL_META_PIN_H

#include "meta/topology.h"

typedef struct Pin {
    const char *database; /* its name; "": the bucket is free */
    const char *colocation;
    const char *type; /* pin_type */
    Slice value;      /* canonical and normal (placement.h) */
} Pin;

/* Of a key column: types whose equal values are equal bytes have one name. NULL: its values cannot be pinned. */
const char *pin_type(uint32_t key_oid);
static inline bool pin_in_use(const Pin *pin)
{
    return pin->database[0] != '\0';
}
/* The bucket has rows, or may have some: it is one of the hash's, or some value is pinned to it. */
bool bucket_in_use(const ShardMap *map, uint32_t bucket);
/* NULL: a bucket of the hash. */
const Pin *pin_of_bucket(const ShardMap *map, uint32_t bucket);
/* Where the value's rows would be without the pin. */
uint32_t pin_home(const ShardMap *map, const Pin *pin);

/* Gives a HASH table, whose keys are known, the Places of its values. False: out of memory. */
bool pins_fill(Table *table, const ShardMap *map, const char *database, Arena *arena) MUST_USE;

/* The value in SQL, of the type that `=` compares the column with. NULL: out of memory. */
char *pin_value_sql(Arena *arena, const TableKey *key, Slice value) MUST_USE;

#endif
