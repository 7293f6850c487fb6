/*
 * map.h - hash table from bytes to pointers; open addressing, no allocation per entry.
 *
 * The table stores {hash, item}; the item holds its own key, which the caller compares with `eq`.
 * Owner: one thread. Items are borrowed.
 */
#ifndef SHOAL_CORE_MAP_H
#define SHOAL_CORE_MAP_H

#include "core/slice.h"

typedef bool (*MapEqual)(const void *item, const void *key);

typedef struct MapSlot {
    uint64_t hash;
    void *item; /* NULL: never used; MAP_GONE: removed */
} MapSlot;

typedef struct Map {
    MapSlot *slots;     /* owned; NULL while empty */
    size_t size;        /* slots, a power of two */
    size_t count, gone; /* items; tombstones */
    MapEqual eq;
} Map;

void map_init(Map *map, MapEqual eq);
void map_finish(Map *map);

void *map_get(const Map *map, uint64_t hash, const void *key);
/* The key must not be present. False when memory is out. */
bool map_put(Map *map, uint64_t hash, void *item) MUST_USE;
/* Returns the removed item, or NULL. */
void *map_remove(Map *map, uint64_t hash, const void *key);
/* Iteration: start with *cursor = 0; NULL at the end. Removing the returned item is allowed. */
void *map_next(const Map *map, size_t *cursor);

#endif
