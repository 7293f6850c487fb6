/*
 * topology.c - puts the parts together and lets them go together.
 *
 *     Topology 7 ──┐
 *     Topology 8 ──┴── Config (refs 2), ShardMap (refs 2), Catalog of app (refs 1 each)
 *
 * Reference counts are plain integers: create and destroy run on the control thread alone
 * (published_collect calls topology_destroy there), workers only read.
 */
#include "meta/topology.h"

#include <stdlib.h>

#define TOPOLOGY_BLOCK_SIZE (8 * 1024)

typedef struct TableKey {
    uint32_t database;
    Slice schema, name;
} TableKey;

static uint64_t table_key_hash(const TableKey *key)
{
    return slice_hash(key->name, slice_hash(key->schema, key->database));
}

static bool table_key_equal(const void *item, const void *wanted)
{
    const Table *table = item;
    const TableKey *key = wanted;
    return table->database == key->database && slice_equal(table->name, key->name) &&
           slice_equal(table->schema, key->schema);
}

static int slice_compare(Slice a, Slice b)
{
    size_t n = MIN(a.len, b.len);
    int order = n ? memcmp(a.data, b.data, n) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int table_compare(const void *left, const void *right)
{
    const Table *a = left, *b = right;
    if (a->database != b->database)
        return a->database < b->database ? -1 : 1;
    int order = slice_compare(a->schema, b->schema);
    return order ? order : slice_compare(a->name, b->name);
}

/* The key's type, as the catalog has it. A column that is not there, or whose equal values need not
 * be equal bytes, is KEY_NONE: such a table is never routed by its key. */
static void table_find_key(Table *table, const Catalog *catalog)
{
    if (!catalog->loaded)
        return;
    const CatalogTable *facts = catalog_table(catalog, table->schema, table->name);
    const CatalogColumn *column = facts ? catalog_column(facts, table->key) : NULL;
    table->key_oid = column ? column->type_oid : 0;
    table->key_type = column && column->deterministic ? key_type_of(column->type_oid) : KEY_NONE;
}

static bool table_copy(Table *into, const Table *from, Arena *arena)
{
    *into = *from;
    into->schema = arena_dup(arena, from->schema);
    into->name = arena_dup(arena, from->name);
    into->key = arena_dup(arena, from->key);
    into->colocation = arena_dup(arena, from->colocation);
    return into->schema.data && into->name.data && into->key.data &&
           (into->colocation.data || from->colocation.len == 0);
}

static bool topology_add_tables(Topology *t, const Table *tables, uint32_t count, Error *err)
{
    t->tables = arena_array(&t->arena, Table, MAX(count, 1));
    if (!t->tables)
        goto no_memory;
    for (uint32_t i = 0; i < count; i++) {
        assert(tables[i].database < t->config->database_count);
        if (!table_copy(&t->tables[i], &tables[i], &t->arena))
            goto no_memory;
        table_find_key(&t->tables[i], t->catalogs[tables[i].database]);
    }
    if (count > 1)
        qsort(t->tables, count, sizeof *t->tables, table_compare);
    t->table_count = count;
    for (uint32_t i = 0; i < count; i++) {
        Table *table = &t->tables[i];
        TableKey key = {table->database, table->schema, table->name};
        uint64_t hash = table_key_hash(&key);
        if (map_get(&t->table_index, hash, &key)) {
            error_set(err, "42P07", "table \"%.*s.%.*s\" is distributed twice",
                      SLICE_FMT(table->schema), SLICE_FMT(table->name));
            return false;
        }
        if (!map_put(&t->table_index, hash, table))
            goto no_memory;
    }
    return true;
no_memory:
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while building the topology");
    return false;
}

Topology *topology_create(Config *config, uint32_t *config_refs, ShardMap *map, const Table *tables,
                          uint32_t table_count, Catalog **catalogs, Error *err)
{
    Topology *t = calloc(1, sizeof *t);
    if (!t) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while building the topology");
        return NULL;
    }
    list_init(&t->published.link);
    arena_init(&t->arena, TOPOLOGY_BLOCK_SIZE);
    map_init(&t->table_index, table_key_equal);
    t->config = config;
    t->config_refs = config_refs;
    ++*config_refs;
    t->map = shard_map_retain(map);
    t->catalogs = arena_array(&t->arena, Catalog *, MAX(config->database_count, 1));
    for (uint32_t i = 0; t->catalogs && i < config->database_count; i++)
        t->catalogs[i] = catalog_retain(catalogs[i]);
    if (!t->catalogs) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while building the topology");
    } else if (topology_add_tables(t, tables, table_count, err)) {
        return t;
    }
    /* The caller keeps what it came with, so its count must not fall to zero here. */
    --*config_refs;
    t->config_refs = NULL;
    topology_destroy(&t->published);
    return NULL;
}

void topology_destroy(PublishedValue *value)
{
    if (!value)
        return;
    Topology *t = container_of(value, Topology, published);
    for (uint32_t i = 0; t->catalogs && i < t->config->database_count; i++)
        catalog_free(t->catalogs[i]);
    shard_map_free(t->map);
    map_finish(&t->table_index);
    arena_finish(&t->arena);
    if (t->config_refs)
        topology_release_config(t->config, t->config_refs);
    free(t);
}

void topology_release_config(Config *config, uint32_t *config_refs)
{
    assert(*config_refs > 0);
    if (--*config_refs > 0)
        return;
    config_free(config);
    free(config_refs);
}

bool topology_set_two_phase(Topology *topology, const char *const *why, Error *err)
{
    size_t count = (size_t)topology->config->database_count * topology->config->shard_count;
    const char **copy = arena_array(&topology->arena, const char *, MAX(count, 1));
    bool ok = copy != NULL;
    for (size_t i = 0; ok && i < count; i++) {
        if (why[i])
            copy[i] = arena_text(&topology->arena, slice_str(why[i]));
        ok = copy[i] || !why[i];
    }
    if (ok)
        topology->two_phase_why = copy;
    else
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while building the topology");
    return ok;
}

const Table *topology_table(const Topology *topology, uint32_t database, Slice schema, Slice name)
{
    TableKey key = {database, schema, name};
    return map_get(&topology->table_index, table_key_hash(&key), &key);
}

bool topology_database_sharded(const Topology *topology, uint32_t database)
{
    for (uint32_t i = 0; i < topology->table_count; i++) {
        if (topology->tables[i].database == database)
            return true;
    }
    return false;
}
