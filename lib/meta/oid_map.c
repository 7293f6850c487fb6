/*
 * oid_map.c - two lists of names become pairs of OIDs, by one walk through both.
 */
#include "meta/oid_map.h"

#include <stdlib.h>
#include <string.h>

static int name_order(Slice a, Slice b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len ? memcmp(a.data, b.data, len) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* ---- making ------------------------------------------------------------------------------------ */

static OidMap *map_create(uint32_t room)
{
    OidMap *map = calloc(1, sizeof *map);
    if (!map)
        return NULL;
    map->refs = 1;
    map->types = calloc((size_t)room + 1, sizeof *map->types);
    map->home_types = calloc((size_t)room + 1, sizeof *map->home_types);
    map->relations = calloc((size_t)room + 1, sizeof *map->relations);
    if (map->types && map->home_types && map->relations)
        return map;
    oid_map_free(map);
    return NULL;
}

static void map_add(OidMap *map, const OidName *shard, uint32_t home)
{
    if (shard->relation && home) {
        map->relations[map->relation_count++] = (OidPair){shard->oid, home};
    } else if (!shard->relation) {
        map->types[map->type_count++] =
            (OidType){.shard = shard->oid, .home = home, .base = shard->base, .shape = shard->shape};
        if (home)
            map->home_types[map->home_type_count++] = (OidPair){shard->oid, home};
    }
}

/* The first member of each entry is what it is ordered by. */
static int shard_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int home_order(const void *a, const void *b)
{
    uint32_t x = ((const OidPair *)a)->home, y = ((const OidPair *)b)->home;
    return (x > y) - (x < y);
}

bool oid_map_make(const OidName *home, uint32_t home_count, const OidName *shard, uint32_t shard_count,
                  OidMap **ret)
{
    OidMap *map = map_create(shard_count);
    bool differs = false;
    uint32_t h = 0;
    *ret = NULL;
    if (!map)
        return false;
    for (uint32_t s = 0; s < shard_count; s++) {
        while (h < home_count && name_order(home[h].name, shard[s].name) < 0)
            h++;
        bool found = h < home_count && name_order(home[h].name, shard[s].name) == 0;
        uint32_t oid = found ? home[h].oid : 0;
        differs |= oid != shard[s].oid;
        map_add(map, &shard[s], oid);
    }
    if (!differs) {
        oid_map_free(map);
        return true;
    }
    qsort(map->types, map->type_count, sizeof *map->types, shard_order);
    qsort(map->relations, map->relation_count, sizeof *map->relations, shard_order);
    qsort(map->home_types, map->home_type_count, sizeof *map->home_types, home_order);
    *ret = map;
    return true;
}

OidMap *oid_map_retain(OidMap *map)
{
    if (map)
        map->refs++;
    return map;
}

void oid_map_free(OidMap *map)
{
    if (!map || --map->refs)
        return;
    free(map->types);
    free(map->home_types);
    free(map->relations);
    free(map);
}

/* ---- looking up ---------------------------------------------------------------------------------- */

const OidType *oid_map_type(const OidMap *map, uint32_t shard_oid)
{
    if (!map || shard_oid < OID_FIRST_USER)
        return NULL;
    return bsearch(&shard_oid, map->types, map->type_count, sizeof *map->types, shard_order);
}

uint32_t oid_map_home_type(const OidMap *map, uint32_t shard_oid)
{
    const OidType *type = oid_map_type(map, shard_oid);
    return type && type->home ? type->home : shard_oid;
}

uint32_t oid_map_shard_type(const OidMap *map, uint32_t home_oid)
{
    OidPair wanted = {.home = home_oid};
    if (!map || home_oid < OID_FIRST_USER)
        return home_oid;
    const OidPair *pair = bsearch(&wanted, map->home_types, map->home_type_count, sizeof wanted, home_order);
    return pair ? pair->shard : home_oid;
}

uint32_t oid_map_home_relation(const OidMap *map, uint32_t shard_oid)
{
    if (!map || shard_oid < OID_FIRST_USER)
        return shard_oid;
    const OidPair *pair =
        bsearch(&shard_oid, map->relations, map->relation_count, sizeof *map->relations, shard_order);
    return pair ? pair->home : shard_oid;
}
