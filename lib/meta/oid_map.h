/*
 * oid_map.h - the OIDs of one shard's types and tables, and what the home shard calls them.
 *
 * Shards agree on names. OIDs are given by each server as it goes: those of enums, extensions, domains and tables differ
 * as soon as the shards' pasts do (H55). Clients know the home shard's alone.
 *
 *     home:  public.mood  = 16421          shard:  public.mood  = 16437
 *            public._mood = 16420                  public._mood = 16436   an array of 16437
 *
 * Immutable, reference counted by the control thread; workers have it through the Topology. Only OIDs of
 * users' objects (16384 and above) are in it. Where both shards agree on all of them there is no map (NULL).
 */
#ifndef SHOAL_META_OID_MAP_H
#define SHOAL_META_OID_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/slice.h"

#define OID_FIRST_USER 16384u

/* What the binary form of a type holds inside. */
typedef enum OidShape {
    OID_SHAPE_PLAIN,  /* no OIDs */
    OID_SHAPE_ARRAY,  /* its header names the type of its elements */
    OID_SHAPE_RECORD, /* each field names its type */
    OID_SHAPE_DOMAIN  /* as its base type */
} OidShape;

typedef struct OidType {
    uint32_t shard, home; /* home 0: the home shard has no such type */
    uint32_t base;        /* DOMAIN: the shard's OID of the type below */
    uint8_t shape;        /* OidShape */
} OidType;

typedef struct OidPair {
    uint32_t shard, home;
} OidPair;

typedef struct OidMap {
    OidType *types;       /* by the shard's OID; owned */
    OidPair *home_types;  /* the same by the home shard's; owned */
    OidPair *relations;   /* by the shard's; owned */
    uint32_t type_count, home_type_count, relation_count;
    uint32_t refs;
} OidMap;

/* One object as a server lists it. `name` is `kind schema.name` or any other text that is its own. */
typedef struct OidName {
    Slice name;
    uint32_t oid, base;
    bool relation;
    uint8_t shape;
} OidName;

/* Both lists in the same order of their names, in bytes. *ret is NULL when nothing differs. False when memory is out. */
bool oid_map_make(const OidName *home, uint32_t home_count, const OidName *shard, uint32_t shard_count,
                  OidMap **ret);
OidMap *oid_map_retain(OidMap *map); /* NULL is fine, here and below */
void oid_map_free(OidMap *map);

/* NULL: not a user's type, or not known. */
const OidType *oid_map_type(const OidMap *map, uint32_t shard_oid);
/* Unknown ones are answered as they are. */
uint32_t oid_map_home_type(const OidMap *map, uint32_t shard_oid);
uint32_t oid_map_shard_type(const OidMap *map, uint32_t home_oid);
uint32_t oid_map_home_relation(const OidMap *map, uint32_t shard_oid);

#endif
