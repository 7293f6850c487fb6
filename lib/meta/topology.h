/*
 * topology.h - everything the data path must know about the cluster, immutable, one pointer.
 *
 *     Topology ── Config        shards.ini
 *              ── ShardMap      bucket -> shard, with a version
 *              ── Table[]       distributed tables, per database
 *              ── Catalog[]     per database
 *              ── primaries     who takes the writes of each shard now
 *              ── Standings     how each server stands; shared with the control thread, which goes on
 *                               writing it (meta/standing.h)
 *
 * Control builds a new one and publishes it (core/published.h); workers adopt it at the end of a
 * turn; a running Request finishes on its own version. Parts that did not change are shared by
 * reference count (control's).
 */
#ifndef SHOAL_META_TOPOLOGY_H
#define SHOAL_META_TOPOLOGY_H

#include "core/published.h"
#include "meta/catalog.h"
#include "meta/config.h"
#include "meta/hash.h"
#include "meta/oid_map.h"
#include "meta/placement.h"
#include "meta/standing.h"

/* Values with a bucket of their own: at most these, and fewer than there are buckets of the hash. */
#define PINS_MAX 256
#define SHARD_MAP_BUCKETS_MAX (16384 + PINS_MAX)

struct Pin; /* meta/pin.h */

/* bucket -> shard index, read from the store. The buckets of the hash come first; behind them those of pinned values. */
typedef struct ShardMap {
    uint64_t version;
    uint32_t bucket_count; /* all of them */
    uint16_t *shard_of;    /* [bucket_count]: index in Config.shards */
    struct Pin *pins;      /* [pin_count]: of bucket hashed + i */
    uint32_t pin_count;
    uint32_t refs;
    Arena arena; /* the pins' texts */
} ShardMap;

/* A set of buckets; `has` is a byte per bucket. Made by the functions of bucket_sql.h. */
typedef struct BucketSet {
    uint8_t *has; /* [bucket_count] 0 or 1, in an arena */
    uint32_t bucket_count, count;
} BucketSet;

/* Between the columns of a key in the store: no name has it that a person would give. */
#define TABLE_KEY_SEPARATOR '\x1f'

typedef struct TableKey {
    Slice column;
    uint32_t oid; /* its type, 0 while the catalog has not been seen or has no such column */
    KeyType type; /* KEY_NONE: the table cannot be routed by its key (yet) */
} TableKey;

/* A table of one database that is not simply on the home shard. */
typedef struct Table {
    uint32_t database; /* index in Config.databases */
    Slice schema, name;
    TableKind kind;
    TableKey keys[TABLE_KEYS_MAX]; /* in the order in which they are hashed */
    uint32_t key_count;            /* 0 for REFERENCE and LOCAL */
    Slice key; /* the columns as text, `a, b`; given to topology_create: joined by TABLE_KEY_SEPARATOR */
    /* Of a HASH table with one key column, for those who compare how tables are hashed; else 0 and KEY_NONE. Ask
     * topology_place, which knows all kinds. */
    uint32_t key_oid;
    KeyType key_type;
    Slice colocation; /* name of the group; tables of one group share map and places */
    Place *places;    /* RANGE, LIST: all; HASH: pinned values, from the map; LOCAL: the one shard */
    uint32_t place_count;
    bool partitioned; /* PostgreSQL's own partitions hold its rows, and none are in itself */
    bool partition;   /* of a table that was distributed: placed like that one, for who names it directly. Not in the
                       * store: topology_create takes it from the catalog */
} Table;

/* Of a shard's primary. 0: not known. */
typedef struct RoleStamp {
    uint64_t system_id, timeline;
} RoleStamp;

typedef struct Topology {
    PublishedValue published; /* first member */
    Config *config;
    uint32_t *config_refs;
    ShardMap *map;
    Table *tables; /* sorted by database, schema, name */
    uint32_t table_count;
    Map table_index;
    Catalog **catalogs;  /* by database index; never NULL, maybe not loaded */
    uint32_t *primaries; /* by shard index: a server index, or NO_PRIMARY while there is none */
    uint32_t *leaving; /* by shard index: the server on which open transactions may go on although nothing new
                        * goes there (admin/switchover.h); NO_PRIMARY: none */
    RoleStamp *stamps; /* by shard index: what the primary shows that it is */
    bool vacant;       /* some shard has no primary */
    const Standings *standings; /* borrowed, lives as long as the process; NULL in tests */
    /* [database * shard_count + shard]: NULL when the shard's primary can take part in a commit over
     * several shards for this database, else why not, in an operator's words. */
    const char **two_phase_why;
    /* [database * shard_count + shard]: what the shard calls types and tables of the home shard; NULL: the same. */
    OidMap **oids;
    /* Buckets that change their shard at this moment, a byte each; NULL: none. Statements that need one
     * wait (router/fence.h). */
    const uint8_t *fenced;
    /* [shard_count], NULL with `fenced`: the first topology with the fence of the buckets that this
     * shard is about to lose; 0: it loses none. gain_since: to get; there only transactions count whose snapshot may
     * be older than the rows that come: those of REPEATABLE READ and above, or all (`gain_every`). */
    const uint64_t *fence_since, *gain_since;
    bool gain_every;
    bool joining; /* a shard is about to join: what writes to several shards waits, like statements for `fenced` buckets */
    /* [shard_count]: buckets whose rows may lie on this shard although it does not own them; NULL: there are none
     * anywhere. Who asks several shards passes over them (router/foreign.h). */
    const BucketSet *foreign;
    uint64_t copies_gone; /* grows when such rows have been deleted, that are passed over still: snapshots may show them */
    bool copying; /* some move is under way and not decided: distributed tables keep their shape */
    Arena arena;
} Topology;

#define NO_PRIMARY UINT32_MAX

/* Who takes the writes of this shard: as written, until somebody else was found to. NULL: nobody now. */
static inline const ServerConfig *topology_primary(const Topology *topology, uint32_t shard)
{
    uint32_t server = topology->primaries[shard];
    return server == NO_PRIMARY ? NULL : topology->config->servers[server];
}

/*
 * Assembles a Topology that shares `config`, `map` and `catalogs` (takes a reference on each; the
 * caller's own references stay the caller's). `tables` is copied; key_oid and key_type are filled
 * in from the catalogs that are loaded. `config_refs` was malloc'ed by whoever loaded the Config,
 * starting at 1 for itself; who gives back the last reference frees the Config and the counter.
 */
Topology *topology_create(Config *config, uint32_t *config_refs, ShardMap *map, const Table *tables,
                          uint32_t table_count, Catalog **catalogs, Error *err) MUST_USE;
/* For Published: gives back its references. */
void topology_destroy(PublishedValue *value);
/* Gives back one reference on a Config: the loader's own, or a topology's. */
void topology_release_config(Config *config, uint32_t *config_refs);

/* True when key values can be placed: its columns are known, with types that may be keys. Always true for
 * REFERENCE and LOCAL. */
bool table_is_ready(const Table *table);
/* The shard of the row with these key values (canonical, one for each key column, of its KeyType). False when
 * no shard may have such a row: a RANGE or LIST table has no place for it. Not for REFERENCE. */
bool topology_place(const Topology *topology, const Table *table, const Slice *values,
                    uint32_t *ret_shard) MUST_USE;
/* The bucket of the row with these key values in a HASH table. */
uint32_t topology_bucket(const ShardMap *map, const Table *table, const Slice *values);
/* The row hash of these values: what the bucket is made of. */
uint64_t table_row_hash(const Table *table, const Slice *values);

/* What the control thread has found out about each shard; copied. To be called before it is published.
 * Without it no shard is ready. */
bool topology_set_two_phase(Topology *topology, const char *const *why, Error *err) MUST_USE;
/* Takes a reference on each map; to be called before it is published. */
bool topology_set_oids(Topology *topology, OidMap *const *maps, Error *err) MUST_USE;
/* NULL: ready for two-phase commit. Else the reason, for a DETAIL. */
static inline const char *topology_two_phase_why(const Topology *topology, uint32_t database, uint32_t shard)
{
    return topology->two_phase_why
               ? topology->two_phase_why[database * topology->config->shard_count + shard]
               : "Shoal has not looked at this shard yet.";
}

const Table *topology_table(const Topology *topology, uint32_t database, Slice schema, Slice name);
/* True when the database has any distributed table. */
bool topology_database_sharded(const Topology *topology, uint32_t database);

/* How many of so many buckets are the hash's: a power of two, and those of pins are fewer. */
static inline uint32_t buckets_hashed(uint32_t bucket_count)
{
    return UINT32_C(1) << (31 - __builtin_clz(bucket_count));
}
/* The bucket that the hash says; topology_bucket knows pinned values, too. */
static inline uint32_t shard_map_bucket(const ShardMap *map, uint64_t row_hash)
{
    return (uint32_t)(row_hash & (buckets_hashed(map->bucket_count) - 1));
}

/* `bucket_count` is a power of two: nothing is pinned yet. */
ShardMap *shard_map_create(uint32_t bucket_count);
/* Room for the buckets of `count` pins, which the caller fills. */
bool shard_map_add_pins(ShardMap *map, uint32_t count) MUST_USE;
ShardMap *shard_map_retain(ShardMap *map);
void shard_map_free(ShardMap *map);
/* First placement: buckets spread over `shard_count` shards in contiguous, even runs. */
void shard_map_spread(ShardMap *map, uint32_t shard_count);

#endif
