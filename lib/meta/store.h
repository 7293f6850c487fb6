/*
 * store.h - what the system knows and must not forget, behind a small interface.
 *
 * SQLite, WAL, synchronous=FULL, one writer: the control thread. A missing file is created; a
 * corrupt, foreign (application_id), newer, locked or unwritable one gives a clear error and never
 * a guessed map (H67, H68, bad-input 132). Rows carry checksums, because SQLite does not see bit
 * flips. The interface speaks of maps and tables, not of SQL: several routers will later share the
 * same state elsewhere (etcd).
 */
#ifndef SHOAL_META_STORE_H
#define SHOAL_META_STORE_H

#include "meta/topology.h"

typedef struct Store Store;

typedef struct StoreTable {
    const char *database, *schema, *name, *key, *colocation; /* in the caller's arena */
    const char *kind, *placement; /* NULL: hash, and nothing placed by hand */
} StoreTable;

typedef struct StoreEvent {
    uint64_t at_wall_us;
    const char *kind, *text;
} StoreEvent;

/* Opens or creates, migrates to this program's schema, checks every row. `bucket_count` and the
 * shard names are used only when the store is new; an existing store keeps its bucket count. */
Store *store_open(const char *path, uint32_t bucket_count, const Config *config, Error *err) MUST_USE;
void store_close(Store *store);

/* The map, with shard names resolved to indexes of `config`; an unknown shard is an error. */
ShardMap *store_load_map(Store *store, const Config *config, Error *err) MUST_USE;
bool store_load_tables(Store *store, Arena *arena, StoreTable **ret_tables, uint32_t *ret_count,
                       Error *err) MUST_USE;
/* 42P07 when the table is distributed already with another key. Durable when it returns true. */
bool store_add_table(Store *store, const StoreTable *table, Error *err) MUST_USE;
bool store_remove_table(Store *store, const StoreTable *table, Error *err) MUST_USE;
bool store_add_event(Store *store, const char *kind, const char *text, Error *err) MUST_USE;
bool store_load_events(Store *store, Arena *arena, uint32_t limit, StoreEvent **ret_events,
                       uint32_t *ret_count, Error *err) MUST_USE;
/* Who took the writes of a shard last, and on which timeline: below it nobody may (admin/roles.h). */
typedef struct StorePrimary {
    char server[128]; /* name; "": nothing was remembered yet */
    uint64_t timeline, system_id;
} StorePrimary;
bool store_load_primary(Store *store, const char *shard, StorePrimary *ret_primary, Error *err) MUST_USE;
bool store_save_primary(Store *store, const char *shard, const StorePrimary *primary, Error *err) MUST_USE;
/* Rows that go to their shards with their table (admin/row_fill.h); gid "": none do. */
typedef struct StoreFill {
    char gid[200], database[128], schema[64], name[64];
    char when; /* what is prepared is committed when the table is in the store: '+', or when it is not: '-' */
} StoreFill;
bool store_load_fill(Store *store, StoreFill *ret_fill, Error *err) MUST_USE;
/* Durable when it returns true. NULL: it is over. */
bool store_save_fill(Store *store, const StoreFill *fill, Error *err) MUST_USE;
/* Random identity of this cluster's metadata, made with the store. */
const char *store_cluster_id(const Store *store);

#define STORE_ROUTER_ID_SIZE 9

/* Counts this start of the router: the epoch of its transactions' names, durable when it returns. The
 * router's own random identity is made with the first one; it is told also on failure, when it is known:
 * what this router prepared before must be ended where nothing can be written. */
bool store_next_epoch(Store *store, char ret_router_id[static STORE_ROUTER_ID_SIZE],
                      uint64_t *ret_epoch, Error *err) MUST_USE;

#endif
