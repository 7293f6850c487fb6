/*
 * distribute_plan.c - may this table be distributed by this column? As far as the topology knows.
 *
 * Pure: depends on nothing but its arguments, touches nothing. What only the shards themselves know
 * is asked by distribute.c.
 */
#include "admin/distribute.h"

#define KEY_TYPES_TEXT                                                                             \
    "smallint, integer, bigint, text, varchar, char, bytea, uuid, boolean, date, timestamp, "      \
    "timestamptz"

static bool plan_out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

static bool plan_key(const CatalogTable *table, Slice wanted, Arena *arena, DistributePlan *plan,
                     Error *err)
{
    plan->key = arena_text(arena, wanted);
    if (!plan->key)
        return plan_out_of_memory(err);
    const CatalogColumn *column = catalog_column(table, wanted);
    if (!column) {
        error_set(err, "42703", "column \"%s\" of table \"%s.%s\" does not exist", plan->key,
                  plan->schema, plan->name);
        return false;
    }
    plan->key_oid = column->type_oid;
    plan->key_type = key_type_of(column->type_oid);
    if (plan->key_type == KEY_NONE) {
        error_set(err, "42804", "column \"%s\" has a type that cannot be a shard key", plan->key);
        error_hint(err, "Allowed are " KEY_TYPES_TEXT ".");
        return false;
    }
    if (!column->deterministic) {
        error_set(err, "42804", "column \"%s\" has a nondeterministic collation", plan->key);
        error_hint(err, "Equal keys must be equal bytes; use a deterministic collation.");
        return false;
    }
    return true;
}

static bool plan_kind(const CatalogTable *table, const DistributePlan *plan, Error *err)
{
    const char *reason = table->kind != 'r'          ? "is not an ordinary table"
                         : table->persistence == 't' ? "is a temporary table"
                         : table->has_children       ? "has inheritance children"
                                                     : NULL;
    if (!reason)
        return true;
    error_set(err, "42809", "\"%s.%s\" %s", plan->schema, plan->name, reason);
    error_hint(err, "Only ordinary tables can be distributed.");
    return false;
}

/* The colocation group: that of another table, whose key must have the same type. */
static bool plan_colocation(const Topology *topology, Slice other_name, Arena *arena,
                            DistributePlan *plan, Error *err)
{
    const char *schema, *name;
    if (!table_name_read(other_name, arena, &schema, &name, err))
        return false;
    const Table *other =
        topology_table(topology, plan->database, slice_str(schema), slice_str(name));
    if (!other) {
        error_set(err, SQLSTATE_UNDEFINED_TABLE, "table \"%s.%s\" is not distributed", schema,
                  name);
        error_hint(err, "colocate_with names a table that was distributed before.");
        return false;
    }
    if (other->key_type != plan->key_type) {
        error_set(err, "42804", "the keys of \"%s.%s\" and \"%s.%s\" have different types", schema,
                  name, plan->schema, plan->name);
        return false;
    }
    plan->colocation = arena_text(arena, other->colocation);
    return plan->colocation || plan_out_of_memory(err);
}

static bool plan_distribute(const Topology *topology, const Slice *args, uint32_t arg_count,
                            Arena *arena, DistributePlan *plan, Error *err)
{
    const Catalog *catalog = topology->catalogs[plan->database];
    const CatalogTable *table =
        catalog_table(catalog, slice_str(plan->schema), slice_str(plan->name));
    if (!table) {
        error_set(err, SQLSTATE_UNDEFINED_TABLE, "table \"%s.%s\" does not exist", plan->schema,
                  plan->name);
        error_hint(err, "CREATE TABLE through Shoal makes it on every shard.");
        return false;
    }
    if (!plan_kind(table, plan, err) || !plan_key(table, args[1], arena, plan, err))
        return false;
    plan->colocation = "default";
    if (arg_count > 2 && args[2].data && !plan_colocation(topology, args[2], arena, plan, err))
        return false;
    const Table *now =
        topology_table(topology, plan->database, slice_str(plan->schema), slice_str(plan->name));
    if (!now)
        return true;
    if (!slice_is(now->key, plan->key)) {
        error_set(err, "42P07", "table \"%s.%s\" is already distributed by \"%.*s\"", plan->schema,
                  plan->name, SLICE_FMT(now->key));
        error_hint(err, "shoal.undistribute_table() first.");
        return false;
    }
    plan->already = true;
    return true;
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
    plan->key = arena_text(arena, now->key);
    plan->colocation = arena_text(arena, now->colocation);
    return (plan->key && plan->colocation) || plan_out_of_memory(err);
}

bool distribute_plan_make(const Topology *topology, uint32_t database, bool undo, const Slice *args,
                          uint32_t arg_count, Arena *arena, DistributePlan *ret, Error *err)
{
    assert(arg_count >= (undo ? 1u : 2u));
    *ret = (DistributePlan){.undo = undo, .database = database};
    for (uint32_t i = 0; i < (undo ? 1u : 2u); i++) {
        if (args[i].data)
            continue;
        error_set(err, "22004", "%s must not be NULL", i == 0 ? "the table's name" : "the key");
        return false;
    }
    if (!topology->catalogs[database]->loaded) {
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "the catalog of this database is not loaded");
        error_hint(err, "The home shard must answer; SHOW SHARDS on the console tells more.");
        return false;
    }
    if (!table_name_read(args[0], arena, &ret->schema, &ret->name, err))
        return false;
    return undo ? plan_undistribute(topology, arena, ret, err)
                : plan_distribute(topology, args, arg_count, arena, ret, err);
}
