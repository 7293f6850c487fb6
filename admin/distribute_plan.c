/*
 * distribute_plan.c - may this table be distributed by this column? As far as the topology knows.
 *
 * Pure: depends on nothing but its arguments, touches nothing. What only the shards themselves know
 * is asked by distribute.c.
 */
#include "admin/distribute.h"

#include "admin/places.h"
#include "meta/bucket_sql.h"
#include "meta/identifier.h"
#include "meta/pin.h"

#define KEY_TYPES_TEXT                                                                             \
    "smallint, integer, bigint, text, varchar, char, bytea, uuid, boolean, date, timestamp, "      \
    "timestamptz"

static bool plan_out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

static bool plan_key_column(const CatalogTable *table, Slice wanted, DistributePlan *plan, Error *err)
{
    const CatalogColumn *column = catalog_column(table, wanted);
    if (!column) {
        error_set(err, "42703", "column \"%.*s\" of table \"%s.%s\" does not exist", SLICE_FMT(wanted),
                  plan->schema, plan->name);
        return false;
    }
    TableKey key = {column->name, column->type_oid, key_type_of(column->type_oid)};
    if (key.type == KEY_NONE) {
        error_set(err, "42804", "column \"%.*s\" has a type that cannot be a shard key", SLICE_FMT(wanted));
        error_hint(err, "Allowed are " KEY_TYPES_TEXT ".");
        return false;
    }
    if (!column->deterministic) {
        error_set(err, "42804", "column \"%.*s\" has a nondeterministic collation", SLICE_FMT(wanted));
        error_hint(err, "Equal keys must be equal bytes; use a deterministic collation.");
        return false;
    }
    if (column->generated) {
        error_set(err, "42804", "column \"%.*s\" is generated", SLICE_FMT(wanted));
        error_hint(err, "The key must be given by the one who writes the row.");
        return false;
    }
    plan->keys[plan->key_count++] = key;
    return true;
}

/* One more column for each of the texts that a key has. */
static bool plan_key_texts(DistributePlan *plan, Arena *arena, Error *err)
{
    plan->key = plan->key_text = plan->key_oids = plan->key_array = "";
    for (uint32_t i = 0; i < plan->key_count && plan->key_array; i++) {
        Slice name = plan->keys[i].column;
        char *quoted = sql_quote_literal(arena, name);
        plan->key = arena_printf(arena, "%s%s%.*s", plan->key, i ? (char[]){TABLE_KEY_SEPARATOR, 0} : "",
                                 SLICE_FMT(name));
        plan->key_text = arena_printf(arena, "%s%s%.*s", plan->key_text, i ? ", " : "", SLICE_FMT(name));
        plan->key_oids = arena_printf(arena, "%s%s%u", plan->key_oids, i ? "," : "", plan->keys[i].oid);
        plan->key_array = quoted ? arena_printf(arena, "%s%s%s", plan->key_array, i ? "," : "", quoted) : NULL;
        if (!plan->key || !plan->key_text || !plan->key_oids)
            return plan_out_of_memory(err);
    }
    if (plan->key_array)
        plan->key_array = arena_printf(arena, "ARRAY[%s]::pg_catalog.text[]", plan->key_array);
    return plan->key_array || plan_out_of_memory(err);
}

/* A column's very name, or a list of names as SQL writes them. */
static bool plan_key(const CatalogTable *table, Slice wanted, Arena *arena, DistributePlan *plan, Error *err)
{
    Slice rest = wanted;
    Identifier id;
    if (catalog_column(table, wanted) || plan->kind != TABLE_HASH) {
        if (!plan_key_column(table, wanted, plan, err))
            return false;
        return plan_key_texts(plan, arena, err);
    }
    while (plan->key_count < TABLE_KEYS_MAX && identifier_take(&rest, ',', &id))
        if (!plan_key_column(table, identifier_slice(&id), plan, err))
            return false;
    if (rest.len || plan->key_count == 0) {
        error_set(err, "42703", "column \"%.*s\" of table \"%s.%s\" does not exist", (int)MIN(wanted.len, 100),
                  (const char *)wanted.data, plan->schema, plan->name);
        error_hint(err, "A key has one to eight columns, separated by commas.");
        return false;
    }
    return plan_key_texts(plan, arena, err);
}

static bool plan_kind(const CatalogTable *table, DistributePlan *plan, Error *err)
{
    plan->partitioned = table->kind == 'p' && plan->kind == TABLE_HASH;
    const char *reason = table->root                 ? "is a partition of another table"
                         : plan->partitioned         ? NULL
                         : table->kind != 'r'        ? "is not an ordinary table"
                         : table->persistence == 't' ? "is a temporary table"
                         : table->has_children       ? "has inheritance children"
                                                     : NULL;
    if (!reason)
        return true;
    error_set(err, "42809", "\"%s.%s\" %s", plan->schema, plan->name, reason);
    error_hint(err, "%s", table->root ? "Distribute that one: its partitions go with it."
                                      : "Only ordinary tables can be distributed, and partitioned ones by a hash.");
    return false;
}

static bool same_keys(const Table *table, const DistributePlan *plan)
{
    bool same = table->key_count == plan->key_count;
    for (uint32_t i = 0; same && i < plan->key_count; i++)
        same = table->keys[i].type == plan->keys[i].type;
    return same;
}

/* The colocation group: that of another table, whose keys must have the same types; `none`: of its own. */
static bool plan_colocation(const Topology *topology, Slice with, Arena *arena, DistributePlan *plan, Error *err)
{
    const char *schema, *name;
    if (!with.data || slice_is(with, "default"))
        plan->colocation = colocation_default(plan->kind, plan->schema, plan->name, arena);
    else if (slice_is(with, "none"))
        plan->colocation = arena_printf(arena, "%s.%s", plan->schema, plan->name);
    if (plan->colocation || !with.data)
        return plan->colocation || plan_out_of_memory(err);
    if (!table_name_read(with, arena, &schema, &name, err))
        return false;
    const Table *other =
        topology_table(topology, plan->database, slice_str(schema), slice_str(name));
    if (!other) {
        error_set(err, SQLSTATE_UNDEFINED_TABLE, "table \"%s.%s\" is not distributed", schema, name);
        error_hint(err, "colocate_with names a table that was distributed before.");
        return false;
    }
    if (!same_keys(other, plan) || other->kind != plan->kind) {
        error_set(err, "42804", "the keys of \"%s.%s\" and \"%s.%s\" have different types", schema,
                  name, plan->schema, plan->name);
        return false;
    }
    plan->colocation = arena_text(arena, other->colocation);
    if (plan->kind != TABLE_HASH) { /* pinned values are the group's by themselves */
        plan->places = other->places;
        plan->place_count = other->place_count;
    }
    return plan->colocation || plan_out_of_memory(err);
}

static bool plan_places(const Topology *topology, Slice text, Arena *arena, DistributePlan *plan, Error *err)
{
    Place *places = NULL;
    if (plan->kind == TABLE_LOCAL) {
        places = arena_new(arena, Place);
        plan->place_count = 1;
        if (!places)
            return plan_out_of_memory(err);
        if (!place_shard_read(text, topology->config, &places->shard, err))
            return false;
    } else if (!places_read(text, plan->kind, plan->keys[0].oid, topology->config, arena, &places,
                            &plan->place_count, err)) {
        return false;
    }
    plan->places = places;
    return true;
}

static bool plan_again(const Table *now, DistributePlan *plan, Error *err)
{
    plan->already = now->kind == plan->kind && slice_is(now->key, plan->key_text);
    if (plan->already)
        return true;
    error_set(err, "42P07", "table \"%s.%s\" is already a %s table%s%.*s", plan->schema, plan->name,
              table_kind_name(now->kind), now->key.len ? ", by " : "", SLICE_FMT(now->key));
    error_hint(err, "shoal.undistribute_table() first.");
    return false;
}

/* One map for all databases: each shard that has buckets must be one of this database's. */
static bool plan_map_fits(const Topology *topology, const DistributePlan *plan, Error *err)
{
    const ShardMap *map = topology->map;
    if (!map || plan->kind != TABLE_HASH)
        return true;
    const DatabaseConfig *database = &topology->config->databases[plan->database];
    for (uint32_t bucket = 0; bucket < map->bucket_count; bucket++) {
        bool found = false;
        for (uint32_t i = 0; i < database->shard_count; i++)
            found |= database->shards[i] == map->shard_of[bucket];
        const Pin *pin = pin_of_bucket(map, bucket);
        found |= pin && strcmp(pin->database, database->name) != 0;
        if (found)
            continue;
        error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "database \"%s\" does not lie on all shards", database->name);
        error_detail(err, "Rows of a table distributed by hash belong on shard %s too.",
                     topology->config->shards[map->shard_of[bucket]].name);
        error_hint(err, "Name all shards in [database %s], or distribute the table by range or list.", database->name);
        return false;
    }
    return true;
}

static bool plan_distribute(const Topology *topology, const Slice *args, uint32_t arg_count,
                            Arena *arena, DistributePlan *plan, Error *err)
{
    bool keyed = plan->kind != TABLE_REFERENCE && plan->kind != TABLE_LOCAL;
    bool placed = plan->kind == TABLE_RANGE || plan->kind == TABLE_LIST;
    uint32_t with = placed ? 3 : 2;
    const Catalog *catalog = topology->catalogs[plan->database];
    const CatalogTable *table =
        catalog_table(catalog, slice_str(plan->schema), slice_str(plan->name));
    if (!table) {
        error_set(err, SQLSTATE_UNDEFINED_TABLE, "table \"%s.%s\" does not exist", plan->schema,
                  plan->name);
        error_hint(err, "CREATE TABLE through Shoal makes it on every shard.");
        return false;
    }
    if (!plan_map_fits(topology, plan, err) || !plan_kind(table, plan, err) || !plan_key_texts(plan, arena, err) ||
        (keyed && !plan_key(table, args[1], arena, plan, err)))
        return false;
    if ((placed || plan->kind == TABLE_LOCAL) &&
        !plan_places(topology, args[placed ? 2 : 1], arena, plan, err))
        return false;
    if (!plan_colocation(topology, keyed && arg_count > with ? args[with] : (Slice){0}, arena, plan, err))
        return false;
    plan->placement = placement_write(plan->places, plan->place_count, topology->config, arena);
    if (!plan->placement)
        return plan_out_of_memory(err);
    const Table *now =
        topology_table(topology, plan->database, slice_str(plan->schema), slice_str(plan->name));
    return !now || plan_again(now, plan, err);
}

static bool plan_undistribute(const Topology *topology, Arena *arena, DistributePlan *plan,
                              Error *err)
{
    const Table *now =
        topology_table(topology, plan->database, slice_str(plan->schema), slice_str(plan->name));
    if (!now) {
        plan->already = true;
        return true;
    }
    const DatabaseConfig *database = &topology->config->databases[plan->database];
    for (uint32_t i = 0; i < topology->config->table_count; i++) {
        const TableConfig *t = &topology->config->tables[i];
        if (!t->key || strcmp(t->database, database->name) != 0 || strcmp(t->name, plan->name) != 0 ||
            strcmp(t->schema, plan->schema) != 0)
            continue;
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "table \"%s.%s\" is declared in %s", plan->schema,
                  plan->name, topology->config->path);
        error_hint(err, "Remove its [table] section (line %d) and RELOAD first.", t->line);
        return false;
    }
    if (now->partition) {
        error_set(err, "42809", "\"%s.%s\" is a partition of another table", plan->schema, plan->name);
        error_hint(err, "Undistribute that one: its partitions go with it.");
        return false;
    }
    plan->partitioned = now->partitioned;
    plan->kind = now->kind;
    plan->key_count = now->key_count;
    memcpy(plan->keys, now->keys, sizeof plan->keys);
    plan->colocation = arena_text(arena, now->colocation);
    plan->placement = placement_write(now->places, now->kind == TABLE_HASH ? 0 : now->place_count, topology->config, arena);
    return (plan->placement && plan->colocation && plan_key_texts(plan, arena, err)) ||
           plan_out_of_memory(err);
}

static const struct {
    const char *function;
    TableKind kind;
    uint32_t args; /* that must not be NULL */
} WAYS[] = {
    {"distribute_table", TABLE_HASH, 2},       {"distribute_by_range", TABLE_RANGE, 3},
    {"distribute_by_list", TABLE_LIST, 3},     {"create_reference_table", TABLE_REFERENCE, 1},
    {"place_table", TABLE_LOCAL, 2},           {"undistribute_table", TABLE_HASH, 1},
};

bool distribute_plan_make(const Topology *topology, uint32_t database, const char *function,
                          const Slice *args, uint32_t arg_count, Arena *arena, DistributePlan *ret,
                          Error *err)
{
    uint32_t way = 0;
    while (way + 1 < ARRAY_LEN(WAYS) && strcmp(WAYS[way].function, function) != 0)
        way++;
    *ret = (DistributePlan){.undo = way + 1 == ARRAY_LEN(WAYS), .kind = WAYS[way].kind, .database = database};
    assert(arg_count >= WAYS[way].args);
    for (uint32_t i = 0; i < WAYS[way].args; i++) {
        if (args[i].data)
            continue;
        error_set(err, "22004", "%s must not be NULL", i == 0 ? "the table's name" : i == 1 ? "the key" : "the places");
        return false;
    }
    if (!topology->catalogs[database]->loaded) {
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "the catalog of this database is not loaded");
        error_hint(err, "The home shard must answer; SHOW SHARDS on the console tells more.");
        return false;
    }
    if (!table_name_read(args[0], arena, &ret->schema, &ret->name, err))
        return false;
    return ret->undo ? plan_undistribute(topology, arena, ret, err)
                     : plan_distribute(topology, args, arg_count, arena, ret, err);
}
