/*
 * map.c - linear probing in a table of {hash, item}.
 *
 *     slot:   [ a ][ b ][gone][ c ][    ][ d ] ...
 *              ^ home of c: probe a, b, over the tombstone, found
 *
 * At most 3/4 of the slots are used (tombstones count), so a probe always meets an empty slot.
 * Removing leaves a tombstone only when the next slot is in use. The callers' hashes are spread
 * by a multiplication, so that counting numbers make good hashes too.
 */
#include "core/map.h"

#include <stdlib.h>

#define MAP_SIZE_MIN ((size_t)8)

static char gone_mark;
#define MAP_GONE ((void *)&gone_mark)

static MapSlot *map_find(const Map *map, uint64_t hash, const void *key);
static bool map_rehash(Map *map);
static inline size_t map_home(const Map *map, uint64_t hash);
static inline bool slot_live(const MapSlot *slot)
{
    return slot->item && slot->item != MAP_GONE;
}

void map_init(Map *map, MapEqual eq) { *map = (Map){.eq = eq}; }

void map_finish(Map *map)
{
    free(map->slots);
    map_init(map, map->eq);
}

void *map_get(const Map *map, uint64_t hash, const void *key)
{
    MapSlot *slot = map_find(map, hash, key);
    return slot ? slot->item : NULL;
}

bool map_put(Map *map, uint64_t hash, void *item)
{
    assert(item && item != MAP_GONE);
    if ((map->count + map->gone + 1) * 4 > map->size * 3 && !map_rehash(map))
        return false;
    size_t i = map_home(map, hash);
    while (slot_live(&map->slots[i]))
        i = (i + 1) & (map->size - 1);
    if (map->slots[i].item == MAP_GONE)
        map->gone--;
    map->slots[i] = (MapSlot){.hash = hash, .item = item};
    map->count++;
    return true;
}

void *map_remove(Map *map, uint64_t hash, const void *key)
{
    MapSlot *slot = map_find(map, hash, key);
    if (!slot)
        return NULL;
    void *item = slot->item;
    size_t mask = map->size - 1, i = (size_t)(slot - map->slots);
    slot->item = MAP_GONE;
    map->gone++;
    map->count--;
    /* A tombstone before an empty slot leads nowhere: take it and those before it away. */
    if (!map->slots[(i + 1) & mask].item)
        for (; map->slots[i].item == MAP_GONE; i = (i - 1) & mask) {
            map->slots[i].item = NULL;
            map->gone--;
        }
    return item;
}

void *map_next(const Map *map, size_t *cursor)
{
    while (*cursor < map->size) {
        const MapSlot *slot = &map->slots[(*cursor)++];
        if (slot_live(slot))
            return slot->item;
    }
    return NULL;
}

static MapSlot *map_find(const Map *map, uint64_t hash, const void *key)
{
    if (map->count == 0)
        return NULL;
    for (size_t i = map_home(map, hash); map->slots[i].item; i = (i + 1) & (map->size - 1)) {
        MapSlot *slot = &map->slots[i];
        if (slot->hash == hash && slot->item != MAP_GONE && map->eq(slot->item, key))
            return slot;
    }
    return NULL;
}

/* A fresh table for twice the present items: grows, sweeps tombstones, or shrinks. */
static bool map_rehash(Map *map)
{
    Map fresh = {.size = MAP_SIZE_MIN, .eq = map->eq};
    while (fresh.size < (map->count + 1) * 2)
        fresh.size *= 2;
    fresh.slots = calloc(fresh.size, sizeof(MapSlot));
    if (!fresh.slots)
        return false;
    for (size_t i = 0; i < map->size; i++) {
        if (!slot_live(&map->slots[i]))
            continue;
        size_t to = map_home(&fresh, map->slots[i].hash);
        while (fresh.slots[to].item)
            to = (to + 1) & (fresh.size - 1);
        fresh.slots[to] = map->slots[i];
    }
    fresh.count = map->count;
    free(map->slots);
    *map = fresh;
    return true;
}

static inline size_t map_home(const Map *map, uint64_t hash)
{
    uint64_t spread = hash * 0x9e3779b97f4a7c15u;
    return (size_t)(spread ^ spread >> 32) & (map->size - 1);
}
