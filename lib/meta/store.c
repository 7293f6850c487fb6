/*
 * store.c - the Store: a file that is created whole, opened only when it is right, and changed in
 * transactions that are durable when they return.
 *
 *     no file:  schema, facts, buckets -> PATH.new.PID -> link to PATH      (a crash leaves no half store)
 *     a file:   not empty, ours, known version, locked, sound (store_file.c)
 *               -> every row matches its sum and its table's seal (store_rows.c)
 *               -> each bucket 0 .. bucket_count-1 exactly once
 */
#include "meta/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "meta/store_pins.h"
#include "meta/store_rows.h"
#include "sql/sql.h"

#define STORE_EVENTS_MAX 10000
#define STORE_TABLE_COLUMNS 7

/* ---- making a new one ---- */

/* `digits` random hex digits and a NUL. */
static bool random_id(const Store *store, char *ret_id, size_t digits, Error *err)
{
    uint8_t random[STORE_CLUSTER_ID_LEN / 2];
    assert(digits / 2 <= sizeof random);
    if (RAND_bytes(random, (int)(digits / 2)) != 1) {
        error_set(err, SQLSTATE_INTERNAL, "store %.200s: no random numbers", store->path);
        return false;
    }
    for (size_t i = 0; i < digits / 2; i++)
        snprintf(ret_id + 2 * i, 3, "%02x", random[i]);
    return true;
}

static bool store_fill_facts(Store *store, uint32_t bucket_count, Error *err)
{
    char id[STORE_CLUSTER_ID_LEN + 1], buckets[16];
    if (!random_id(store, id, STORE_CLUSTER_ID_LEN, err))
        return false;
    snprintf(buckets, sizeof buckets, "%u", bucket_count);
    return store_fact_put(store, "cluster_id", id, err) &&
           store_fact_put(store, "bucket_count", buckets, err) &&
           store_fact_put(store, "map_version", "1", err) &&
           store_fact_put(store, "generation", "1", err);
}

static bool store_fill_buckets(Store *store, uint32_t bucket_count, const Config *config, Error *err)
{
    ShardMap *map = shard_map_create(bucket_count);
    if (!map) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "store %.200s: out of memory", store->path);
        return false;
    }
    shard_map_spread(map, config->shard_count);
    bool ok = true;
    for (uint32_t b = 0; ok && b < bucket_count; b++) {
        char number[16];
        snprintf(number, sizeof number, "%u", b);
        Slice columns[2] = {slice_str(number), slice_str(config->shards[map->shard_of[b]].name)};
        ok = store_row_put(store, &STORE_BUCKET, columns, err);
    }
    shard_map_free(map);
    return ok && store_seal(store, &STORE_BUCKET, err) && store_seal(store, &STORE_TABLE, err);
}

/* From version 2 on: moves and members, none yet. */
static bool upgrade_moves(Store *store, Error *err)
{
    return store_exec(store, sql_store_schema_3, err) && store_seal(store, &STORE_MOVE, err) &&
           store_seal(store, &STORE_MEMBER, err);
}

/* From version 3 on: pinned values, none yet. */
static bool upgrade_pins(Store *store, Error *err)
{
    return store_exec(store, sql_store_schema_4, err) && store_seal(store, &STORE_PIN, err);
}

static bool store_fill(Store *store, uint32_t bucket_count, const Config *config, Error *err)
{
    char identity[96];
    snprintf(identity, sizeof identity, "PRAGMA application_id=%d; PRAGMA user_version=%d",
             STORE_APPLICATION_ID, STORE_VERSION);
    return store_exec(store, "PRAGMA synchronous=FULL", err) && store_begin(store, err) &&
           store_exec(store, sql_store_schema, err) && store_exec(store, identity, err) &&
           store_fill_facts(store, bucket_count, err) &&
           store_fill_buckets(store, bucket_count, config, err) &&
           store_seal(store, &STORE_MOVE, err) && store_seal(store, &STORE_MEMBER, err) &&
           store_seal(store, &STORE_PIN, err) && store_commit(store, err);
}

static bool sync_directory(const char *path)
{
    char directory[STORE_PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Gives the finished file its name, unless another router was faster: then that one's counts. */
static bool store_publish(const Store *draft, const char *path, Error *err)
{
    if ((link(draft->path, path) == 0 || errno == EEXIST) && sync_directory(path))
        return true;
    error_set(err, SQLSTATE_IO_ERROR, "store %.200s: cannot be made: %s", path, strerror(errno));
    return false;
}

static bool store_create(const char *path, uint32_t bucket_count, const Config *config, Error *err)
{
    Store draft = {0};
    snprintf(draft.path, sizeof draft.path, "%s.new.%ld", path, (long)getpid());
    unlink(draft.path);
    bool ok = store_file_open(&draft, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err) &&
              store_fill(&draft, bucket_count, config, err);
    sqlite3_close(draft.db);
    ok = ok && store_publish(&draft, path, err);
    unlink(draft.path);
    return ok;
}

/* ---- opening ---- */

/* A journal without its database would be replayed into a new one. */
static bool store_no_leftovers(const Store *store, Error *err)
{
    static const char *const ENDINGS[] = {"-wal", "-journal"};
    for (size_t i = 0; i < ARRAY_LEN(ENDINGS); i++) {
        char name[STORE_PATH_MAX + 16];
        snprintf(name, sizeof name, "%s%s", store->path, ENDINGS[i]);
        if (access(name, F_OK) == 0)
            return store_corrupt(store, err, "missing, but its journal (%s) is there", ENDINGS[i]);
    }
    return true;
}

static bool store_find_or_create(Store *store, uint32_t bucket_count, const Config *config, Error *err)
{
    struct stat st;
    if (stat(store->path, &st) == 0) {
        if (S_ISREG(st.st_mode))
            return st.st_size > 0 || store_corrupt(store, err, "empty");
        error_set(err, SQLSTATE_IO_ERROR, "store %.200s: not a regular file", store->path);
        error_hint(err, "\"store\" in shards.ini names a file; it is made when it does not exist.");
        return false;
    }
    if (errno == ENOENT)
        return store_no_leftovers(store, err) && store_create(store->path, bucket_count, config, err);
    error_set(err, SQLSTATE_IO_ERROR, "store %.200s: %s", store->path, strerror(errno));
    error_hint(err, "Look at \"store\" in shards.ini; its directory must exist and be readable.");
    return false;
}

typedef struct BucketWalk {
    const Store *store;
    uint32_t expected; /* next bucket */
    /* While loading a map; NULL while only checking. */
    ShardMap *map;
    const Config *config;
} BucketWalk;

static bool bucket_place(BucketWalk *walk, uint32_t bucket, Slice shard, Error *err)
{
    for (uint32_t i = 0; i < walk->config->shard_count; i++) {
        if (slice_is(shard, walk->config->shards[i].name)) {
            walk->map->shard_of[bucket] = (uint16_t)i;
            return true;
        }
    }
    error_set(err, SQLSTATE_CONFIG_FILE, "%.120s: shard \"%.*s\" is missing, but bucket %u lives there",
              walk->config->path, SLICE_FMT(shard), bucket);
    error_hint(err, "Put [shard %.*s] back. A shard may be taken out once its buckets were moved away.",
               SLICE_FMT(shard));
    return false;
}

static bool bucket_visit(const Slice *columns, void *ctx, Error *err)
{
    BucketWalk *walk = ctx;
    char text[24];
    snprintf(text, sizeof text, "%.*s", SLICE_FMT(columns[0]));
    unsigned long long bucket = strtoull(text, NULL, 10);
    if (bucket != walk->expected || bucket >= walk->store->bucket_count)
        return store_corrupt(walk->store, err, "bucket %u of %u is missing, found %s", walk->expected,
                             walk->store->bucket_count, text);
    walk->expected++;
    return !walk->map || bucket_place(walk, (uint32_t)bucket, columns[1], err);
}

static bool store_walk_buckets(Store *store, BucketWalk *walk, Error *err)
{
    walk->store = store;
    if (!store_rows_each(store, &STORE_BUCKET, bucket_visit, walk, err))
        return false;
    return walk->expected == store->bucket_count ||
           store_corrupt(store, err, "bucket %u of %u is missing", walk->expected, store->bucket_count);
}

static bool store_upgrade(Store *store, Error *err);

static bool store_verify(Store *store, Error *err)
{
    uint64_t buckets;
    if (!store_rows_each(store, &STORE_FACT, NULL, NULL, err) ||
        !store_fact_get(store, "cluster_id", store->cluster_id, sizeof store->cluster_id, err) ||
        !store_fact_number(store, "bucket_count", &buckets, err))
        return false;
    if (buckets < 64 || buckets > 16384 || (buckets & (buckets - 1)))
        return store_corrupt(store, err, "impossible bucket count %" PRIu64, buckets);
    store->bucket_count = (uint32_t)buckets;
    BucketWalk walk = {0};
    return store_walk_buckets(store, &walk, err) &&
           store_rows_each(store, &STORE_TABLE, NULL, NULL, err) &&
           store_rows_each(store, &STORE_MOVE, NULL, NULL, err) &&
           store_rows_each(store, &STORE_MEMBER, NULL, NULL, err) &&
           store_rows_each(store, &STORE_PIN, NULL, NULL, err);
}

Store *store_open(const char *path, uint32_t bucket_count, const Config *config, Error *err)
{
    if (strlen(path) + 32 > STORE_PATH_MAX) {
        error_set(err, SQLSTATE_IO_ERROR, "store: the path is too long");
        return NULL;
    }
    Store *store = calloc(1, sizeof *store);
    if (!store) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "store %.200s: out of memory", path);
        return NULL;
    }
    snprintf(store->path, sizeof store->path, "%s", path);
    if (store_find_or_create(store, bucket_count, config, err) &&
        store_file_open(store, SQLITE_OPEN_READWRITE, err) && store_file_claim(store, err) &&
        store_upgrade(store, err) && store_verify(store, err))
        return store;
    store_close(store);
    return NULL;
}

void store_close(Store *store)
{
    if (!store)
        return;
    sqlite3_close(store->db);
    free(store);
}

const char *store_cluster_id(const Store *store)
{
    return store->cluster_id;
}

/* Stores made before transactions had names lack both facts: they are made here. */
static bool store_write_epoch(Store *store, char *router_id, uint64_t *epoch, Error *err)
{
    char text[24];
    if (!store_fact_find(store, "router_id", router_id, STORE_ROUTER_ID_SIZE, err) ||
        !store_fact_find(store, "router_epoch", text, sizeof text, err))
        return false;
    if (!router_id[0] && (!random_id(store, router_id, STORE_ROUTER_ID_SIZE - 1, err) ||
                          !store_fact_put(store, "router_id", router_id, err)))
        return false;
    if (text[0] && !store_fact_number(store, "router_epoch", epoch, err))
        return false;
    ++*epoch;
    snprintf(text, sizeof text, "%" PRIu64, *epoch);
    return store_fact_put(store, "router_epoch", text, err);
}

bool store_next_epoch(Store *store, char ret_router_id[static STORE_ROUTER_ID_SIZE],
                      uint64_t *ret_epoch, Error *err)
{
    char router_id[STORE_ROUTER_ID_SIZE];
    uint64_t epoch = 0;
    if (store_fact_find(store, "router_id", router_id, sizeof router_id, err) && router_id[0])
        memcpy(ret_router_id, router_id, sizeof router_id);
    if (!store_begin(store, err))
        return false;
    if (!store_write_epoch(store, router_id, &epoch, err)) {
        store_rollback(store);
        return false;
    }
    if (!store_commit(store, err))
        return false;
    memcpy(ret_router_id, router_id, sizeof router_id);
    *ret_epoch = epoch;
    return true;
}

/* ---- the map ---- */

ShardMap *store_load_map(Store *store, const Config *config, Error *err)
{
    BucketWalk walk = {.config = config, .map = shard_map_create(store->bucket_count)};
    if (!walk.map) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "store %.200s: out of memory", store->path);
        return NULL;
    }
    if (store_fact_number(store, "map_version", &walk.map->version, err) &&
        store_walk_buckets(store, &walk, err) && store_load_pins(store, walk.map, config, err))
        return walk.map;
    shard_map_free(walk.map);
    return NULL;
}

/* ---- tables ---- */

typedef struct TableWalk {
    Arena *arena;
    StoreTable *tables;
    uint32_t count, cap;
} TableWalk;

static bool table_visit(const Slice *columns, void *ctx, Error *err)
{
    TableWalk *walk = ctx;
    if (walk->count == walk->cap) {
        uint32_t cap = MAX(walk->cap * 2, 64);
        StoreTable *grown = arena_array(walk->arena, StoreTable, cap);
        if (grown && walk->count)
            memcpy(grown, walk->tables, walk->count * sizeof *grown);
        walk->tables = grown;
        walk->cap = cap;
    }
    const char *texts[STORE_TABLE_COLUMNS] = {NULL};
    for (int i = 0; walk->tables && i < STORE_TABLE_COLUMNS; i++)
        texts[i] = arena_text(walk->arena, columns[i]);
    for (int i = 0; i < STORE_TABLE_COLUMNS; i++) {
        if (!texts[i]) {
            error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while reading the store");
            return false;
        }
    }
    walk->tables[walk->count++] = (StoreTable){texts[0], texts[1], texts[2], texts[3],
                                                texts[4], texts[5], texts[6]};
    return true;
}

bool store_load_tables(Store *store, Arena *arena, StoreTable **ret_tables, uint32_t *ret_count,
                       Error *err)
{
    TableWalk walk = {.arena = arena};
    if (!store_rows_each(store, &STORE_TABLE, table_visit, &walk, err))
        return false;
    *ret_tables = walk.tables;
    *ret_count = walk.count;
    return true;
}

static void table_columns(const StoreTable *table, Slice columns[static STORE_TABLE_COLUMNS])
{
    columns[0] = slice_str(table->database);
    columns[1] = slice_str(table->schema);
    columns[2] = slice_str(table->name);
    columns[3] = slice_str(table->key);
    columns[4] = slice_str(table->colocation ? table->colocation : "");
    columns[5] = slice_str(table->kind ? table->kind : "hash");
    columns[6] = slice_str(table->placement ? table->placement : "");
}

/* 0: not there, 1: there with this kind, key and group, 2: there with others, -1: err is set. */
static int table_find(Store *store, const Slice columns[static STORE_TABLE_COLUMNS], Error *err)
{
    sqlite3_stmt *stmt = store_prepare(store,
        "SELECT key_column = ?4 AND colocation = ?5 AND kind = ?6 FROM distributed_table "
        "WHERE database_name = ?1 AND schema_name = ?2 AND table_name = ?3", columns, 6, err);
    if (!stmt)
        return -1;
    int rc = sqlite3_step(stmt), found = 0;
    if (rc == SQLITE_ROW)
        found = sqlite3_column_int(stmt, 0) ? 1 : 2;
    else if (rc != SQLITE_DONE)
        found = store_fail(store, err, "reading") - 1;
    sqlite3_finalize(stmt);
    return found;
}

bool store_add_table(Store *store, const StoreTable *table, Error *err)
{
    Slice columns[STORE_TABLE_COLUMNS];
    table_columns(table, columns);
    int found = table_find(store, columns, err);
    if (found == 2) {
        error_set(err, SQLSTATE_DUPLICATE_TABLE,
                  "table \"%s.%s\" is already distributed in another way", table->schema,
                  table->name);
        return false;
    }
    if (found != 0)
        return found == 1;
    if (!store_begin(store, err))
        return false;
    return store_change_end(store, store_row_put(store, &STORE_TABLE, columns, err), &STORE_TABLE, NULL, err);
}

bool store_remove_table(Store *store, const StoreTable *table, Error *err)
{
    Slice name[3] = {slice_str(table->database), slice_str(table->schema), slice_str(table->name)};
    if (!store_begin(store, err))
        return false;
    bool ok = store_run(store, "DELETE FROM distributed_table WHERE database_name = ?1 "
                               "AND schema_name = ?2 AND table_name = ?3", name, 3, err);
    if (ok && sqlite3_changes(store->db) == 0) {
        error_set(err, SQLSTATE_UNDEFINED_OBJECT, "table \"%s.%s\" is not distributed", table->schema,
                  table->name);
        ok = false;
    }
    return store_change_end(store, ok, &STORE_TABLE, NULL, err);
}

static bool tables_put(Store *store, const StoreTable *tables, uint32_t count, Error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        Slice columns[STORE_TABLE_COLUMNS];
        table_columns(&tables[i], columns);
        if (!store_row_put(store, &STORE_TABLE, columns, err))
            return false;
    }
    return true;
}

static bool upgrade_visit(const Slice *columns, void *ctx, Error *err)
{
    Slice grown[STORE_TABLE_COLUMNS];
    memcpy(grown, columns, 5 * sizeof *columns);
    grown[5] = SLICE("hash");
    grown[6] = SLICE("");
    return table_visit(grown, ctx, err);
}

/* Version 1 knew hash tables of one column only. Its rows are checked before they are believed. */
static bool upgrade_tables(Store *store, TableWalk *walk, Error *err)
{
    return store_rows_each(store, &STORE_TABLE_1, upgrade_visit, walk, err) &&
           store_exec(store, "ALTER TABLE distributed_table ADD COLUMN kind TEXT NOT NULL DEFAULT 'hash';"
                             "ALTER TABLE distributed_table ADD COLUMN placement TEXT NOT NULL DEFAULT ''", err) &&
           tables_put(store, walk->tables, walk->count, err) && store_seal(store, &STORE_TABLE, err);
}

/* One step and the version that it leads to, in one transaction. */
static bool upgrade_step(Store *store, int64_t from, Error *err)
{
    Arena arena;
    char identity[48];
    snprintf(identity, sizeof identity, "PRAGMA user_version=%d", (int)from + 1);
    if (!store_begin(store, err))
        return false;
    arena_init(&arena, 4096);
    TableWalk walk = {.arena = &arena};
    bool ok = (from == 1   ? upgrade_tables(store, &walk, err)
               : from == 2 ? upgrade_moves(store, err)
                           : upgrade_pins(store, err)) &&
              store_exec(store, identity, err);
    if (ok)
        ok = store_commit(store, err);
    else
        store_rollback(store);
    arena_finish(&arena);
    return ok;
}

/* A store of an older program becomes one of this program, step by step. */
static bool store_upgrade(Store *store, Error *err)
{
    int64_t version;
    if (!store_number(store, "PRAGMA user_version", &version, err))
        return false;
    for (; version < STORE_VERSION; version++)
        if (!upgrade_step(store, version, err))
            return false;
    return true;
}

/* ---- events ---- */

bool store_add_event(Store *store, const char *kind, const char *text, Error *err)
{
    char at[24], keep[128];
    snprintf(at, sizeof at, "%" PRIu64, clock_wall_us());
    snprintf(keep, sizeof keep, "DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - %d",
             STORE_EVENTS_MAX);
    Slice columns[3] = {slice_str(at), slice_str(kind), slice_str(text)};
    if (!store_begin(store, err))
        return false;
    if (store_run(store, "INSERT INTO event (at_wall_us, kind, text) VALUES (?1, ?2, ?3)", columns, 3, err) &&
        store_exec(store, keep, err))
        return store_commit(store, err);
    store_rollback(store);
    return false;
}

bool store_load_events(Store *store, Arena *arena, uint32_t limit, StoreEvent **ret_events,
                       uint32_t *ret_count, Error *err)
{
    limit = MIN(limit, STORE_EVENTS_MAX);
    StoreEvent *events = arena_array(arena, StoreEvent, limit + 1);
    sqlite3_stmt *stmt = store_prepare(
        store, "SELECT at_wall_us, kind, text FROM event ORDER BY id DESC", NULL, 0, err);
    if (!stmt)
        return false;
    uint32_t count = 0;
    int rc = SQLITE_ROW;
    bool ok = events != NULL;
    while (ok && count < limit && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        StoreEvent *event = &events[count++];
        event->at_wall_us = (uint64_t)sqlite3_column_int64(stmt, 0);
        event->kind = arena_text(arena, slice_str((const char *)sqlite3_column_text(stmt, 1)));
        event->text = arena_text(arena, slice_str((const char *)sqlite3_column_text(stmt, 2)));
        ok = event->kind && event->text;
    }
    if (!ok)
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while reading events");
    else if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        ok = store_fail(store, err, "reading events");
    sqlite3_finalize(stmt);
    if (!ok)
        return false;
    *ret_events = events;
    *ret_count = count;
    return true;
}
