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

#include "meta/pin.h"

#define TOPOLOGY_BLOCK_SIZE (8 * 1024)

typedef struct TableName {
    uint32_t database;
    Slice schema, name;
} TableName;

static uint64_t table_key_hash(const TableName *key)
{
    return slice_hash(key->name, slice_hash(key->schema, key->database));
}

static bool table_key_equal(const void *item, const void *wanted)
{
    const Table *table = item;
    const TableName *key = wanted;
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

/* The keys' types, as the catalog has them. A column that is not there, or whose equal values need not be
 * equal bytes, is KEY_NONE: such a table is never routed by its key. */
static void table_find_keys(Table *table, const Catalog *catalog)
{
    if (!catalog->loaded)
        return;
    const CatalogTable *facts = catalog_table(catalog, table->schema, table->name);
    table->partitioned = facts && facts->kind == 'p';
    for (uint32_t i = 0; i < table->key_count; i++) {
        TableKey *key = &table->keys[i];
        const CatalogColumn *column = facts ? catalog_column(facts, key->column) : NULL;
        key->oid = column ? column->type_oid : 0;
        key->type = column && column->deterministic ? key_type_of(column->type_oid) : KEY_NONE;
    }
    bool simple = table->kind == TABLE_HASH && table->key_count == 1;
    table->key_oid = simple ? table->keys[0].oid : 0;
    table->key_type = simple ? table->keys[0].type : KEY_NONE;
}

/* Cuts the columns apart, and makes a text for people of them: `a, b`. */
static bool table_split_key(Table *table, Arena *arena)
{
    Slice rest = table->key;
    table->key_count = 0;
    if (table->kind == TABLE_REFERENCE || table->kind == TABLE_LOCAL)
        return true;
    char *text = arena_alloc(arena, rest.len * 2 + 1), *to = text;
    while (text && rest.len && table->key_count < TABLE_KEYS_MAX) {
        const uint8_t *end = memchr(rest.data, TABLE_KEY_SEPARATOR, rest.len);
        Slice column = slice_of(rest.data, end ? (size_t)(end - rest.data) : rest.len);
        if (table->key_count)
            to = stpcpy(to, ", ");
        to = mempcpy(to, column.data, column.len);
        table->keys[table->key_count++] = (TableKey){.column = column};
        rest = slice_from(rest, column.len + 1);
    }
    table->key = slice_of(text, text ? (size_t)(to - text) : 0);
    return text != NULL;
}

static bool table_copy_places(Table *into, const Table *from, Arena *arena)
{
    into->places = arena_array(arena, Place, from->place_count + 1);
    for (uint32_t i = 0; into->places && i < from->place_count; i++) {
        into->places[i] = from->places[i];
        if (from->places[i].value.data)
            into->places[i].value = arena_dup(arena, from->places[i].value);
        if (from->places[i].value.data && !into->places[i].value.data)
            return false;
    }
    return into->places != NULL;
}

static bool table_copy(Table *into, const Table *from, Arena *arena)
{
    *into = *from;
    into->schema = arena_dup(arena, from->schema);
    into->name = arena_dup(arena, from->name);
    into->key = arena_dup(arena, from->key);
    into->colocation = arena_dup(arena, from->colocation);
    if (!table_copy_places(into, from, arena) || !table_split_key(into, arena))
        return false;
    return into->schema.data && into->name.data && (into->key.data || from->key.len == 0) &&
           (into->colocation.data || from->colocation.len == 0);
}

/* The distributed table among the first `count` that this one is a partition of. */
static const Table *table_of_partition(const Topology *t, uint32_t count, uint32_t database, const CatalogTable *part)
{
    const CatalogTable *root = part->root ? catalog_table_by_oid(t->catalogs[database], part->root) : NULL;
    for (uint32_t i = 0; root && i < count; i++) {
        const Table *table = &t->tables[i];
        if (table->database == database && slice_equal(table->name, root->name) && slice_equal(table->schema, root->schema))
            return table;
    }
    return NULL;
}

static uint32_t partition_count(const Topology *t)
{
    uint32_t count = 0;
    for (uint32_t d = 0; d < t->config->database_count; d++)
        for (uint32_t i = 0; t->catalogs[d]->loaded && i < t->catalogs[d]->by_oid_count; i++)
            count += t->catalogs[d]->by_oid[i]->root != 0;
    return count;
}

static bool already(const Topology *t, uint32_t count, uint32_t database, const CatalogTable *part)
{
    for (uint32_t i = 0; i < count; i++)
        if (t->tables[i].database == database && slice_equal(t->tables[i].name, part->name) &&
            slice_equal(t->tables[i].schema, part->schema))
            return true;
    return false;
}

/* Whoever names a partition means rows that are placed like those of the whole. The catalog outlives us. */
static uint32_t topology_add_partitions(Topology *t, uint32_t count)
{
    uint32_t all = count;
    for (uint32_t d = 0; d < t->config->database_count; d++) {
        const Catalog *catalog = t->catalogs[d];
        for (uint32_t i = 0; catalog->loaded && i < catalog->by_oid_count; i++) {
            const CatalogTable *part = catalog->by_oid[i];
            const Table *whole = table_of_partition(t, count, d, part);
            if (!whole || already(t, count, d, part))
                continue;
            Table *table = &t->tables[all++];
            *table = *whole;
            table->schema = part->schema;
            table->name = part->name;
            table->partition = true;
            table_find_keys(table, catalog);
        }
    }
    return all;
}

static bool topology_add_tables(Topology *t, const Table *tables, uint32_t count, Error *err)
{
    t->tables = arena_array(&t->arena, Table, MAX(count + partition_count(t), 1));
    if (!t->tables)
        goto no_memory;
    for (uint32_t i = 0; i < count; i++) {
        assert(tables[i].database < t->config->database_count);
        if (!table_copy(&t->tables[i], &tables[i], &t->arena))
            goto no_memory;
        table_find_keys(&t->tables[i], t->catalogs[tables[i].database]);
    }
    count = topology_add_partitions(t, count);
    for (uint32_t i = 0; i < count; i++)
        if (!pins_fill(&t->tables[i], t->map, t->config->databases[t->tables[i].database].name, &t->arena))
            goto no_memory;
    if (count > 1)
        qsort(t->tables, count, sizeof *t->tables, table_compare);
    t->table_count = count;
    for (uint32_t i = 0; i < count; i++) {
        Table *table = &t->tables[i];
        TableName key = {table->database, table->schema, table->name};
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
    t->primaries = arena_array(&t->arena, uint32_t, MAX(config->shard_count, 1));
    t->leaving = arena_array(&t->arena, uint32_t, MAX(config->shard_count, 1));
    t->stamps = arena_array(&t->arena, RoleStamp, MAX(config->shard_count, 1));
    bool ok = t->catalogs && t->primaries && t->leaving && t->stamps;
    for (uint32_t i = 0; ok && i < config->shard_count; i++) {
        t->primaries[i] = config->shards[i].primary->index;
        t->leaving[i] = NO_PRIMARY;
        t->stamps[i] = (RoleStamp){0};
    }
    if (!ok) {
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
    for (size_t i = 0; t->oids && i < (size_t)t->config->database_count * t->config->shard_count; i++)
        oid_map_free(t->oids[i]);
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

bool table_is_ready(const Table *table)
{
    for (uint32_t i = 0; i < table->key_count; i++)
        if (table->keys[i].type == KEY_NONE)
            return false;
    return true;
}

uint64_t table_row_hash(const Table *table, const Slice *values)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < table->key_count; i++)
        hash = hash_combine64(hash, hash_value_extended(table->keys[i].type, values[i]));
    return hash;
}

uint32_t topology_bucket(const ShardMap *map, const Table *table, const Slice *values)
{
    uint8_t space[8];
    const Place *pin = NULL;
    assert(table->kind == TABLE_HASH && table_is_ready(table));
    if (table->place_count)
        pin = placement_find(TABLE_HASH, table->keys[0].type, table->places, table->place_count,
                             key_normal(table->keys[0].type, values[0], space));
    return pin ? pin->bucket : shard_map_bucket(map, table_row_hash(table, values));
}

bool topology_place(const Topology *topology, const Table *table, const Slice *values, uint32_t *ret_shard)
{
    const Place *place = NULL;
    uint8_t space[8];
    assert(table->kind != TABLE_REFERENCE && table_is_ready(table));
    if (table->kind == TABLE_HASH) {
        *ret_shard = topology->map->shard_of[topology_bucket(topology->map, table, values)];
        return true;
    }
    if (table->kind == TABLE_LOCAL)
        place = table->places;
    else if (table->place_count)
        place = placement_find(table->kind, table->keys[0].type, table->places, table->place_count,
                               key_normal(table->keys[0].type, values[0], space));
    if (!place)
        return false;
    *ret_shard = place->shard;
    return true;
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

bool topology_set_oids(Topology *topology, OidMap *const *maps, Error *err)
{
    size_t count = (size_t)topology->config->database_count * topology->config->shard_count;
    topology->oids = arena_array(&topology->arena, OidMap *, MAX(count, 1));
    if (!topology->oids) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while building the topology");
        return false;
    }
    for (size_t i = 0; i < count; i++)
        topology->oids[i] = oid_map_retain(maps[i]);
    return true;
}

const Table *topology_table(const Topology *topology, uint32_t database, Slice schema, Slice name)
{
    TableName key = {database, schema, name};
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
