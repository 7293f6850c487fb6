/*
 * shard_map.c - bucket -> shard, as an array.
 *
 * Maps are shared between topologies by a reference count that only the control thread touches;
 * workers read the array through the Topology they have adopted.
 */
#include <stdlib.h>

#include "meta/pin.h"

ShardMap *shard_map_create(uint32_t bucket_count)
{
    assert(bucket_count > 0 && (bucket_count & (bucket_count - 1)) == 0);
    ShardMap *map = calloc(1, sizeof *map);
    if (!map)
        return NULL;
    map->shard_of = calloc(bucket_count, sizeof *map->shard_of);
    if (!map->shard_of) {
        free(map);
        return NULL;
    }
    map->bucket_count = bucket_count;
    map->refs = 1;
    arena_init(&map->arena, 512);
    return map;
}

bool shard_map_add_pins(ShardMap *map, uint32_t count)
{
    assert(map->pin_count == 0 && count <= PINS_MAX && count < map->bucket_count);
    uint16_t *grown = realloc(map->shard_of, (map->bucket_count + count) * sizeof *grown);
    if (grown)
        map->shard_of = grown;
    map->pins = arena_array(&map->arena, Pin, MAX(count, 1));
    if (!grown || !map->pins)
        return false;
    memset(grown + map->bucket_count, 0, count * sizeof *grown);
    map->pin_count = count;
    map->bucket_count += count;
    return true;
}

ShardMap *shard_map_retain(ShardMap *map)
{
    assert(map->refs > 0);
    map->refs++;
    return map;
}

void shard_map_free(ShardMap *map)
{
    if (!map || --map->refs > 0)
        return;
    free(map->shard_of);
    arena_finish(&map->arena);
    free(map);
}

void shard_map_spread(ShardMap *map, uint32_t shard_count)
{
    assert(shard_count > 0 && shard_count <= UINT16_MAX);
    for (uint32_t b = 0; b < map->bucket_count; b++)
        map->shard_of[b] = (uint16_t)((uint64_t)b * shard_count / map->bucket_count);
}
