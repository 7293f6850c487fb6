/*
 * planner_hidden.c - what a statement would read or write without Shoal seeing it: tables in the bodies of functions,
 * rows of several shards in a temporary table of one, partitions made a moment ago, the row that a cursor stands on.
 * None of it is run on one shard in the hope that it is all there.
 */
#include "router/planner_state.h"

#include <stdio.h>

/* ---- functions ------------------------------------------------------------------------------- */

/* PostgreSQL's own functions that run a query given as text, or read a table given by name. */
static const char *const QUERY_FUNCTIONS[] = {"query_to_xml", "cursor_to_xml", "table_to_xml",
                                              "schema_to_xml", "database_to_xml", "ts_stat"};

static bool runs_statements(const Planner *p, const ShapeName *name)
{
    for (size_t i = 0; i < ARRAY_LEN(QUERY_FUNCTIONS); i++) {
        size_t len = strlen(QUERY_FUNCTIONS[i]); /* ..._and_xmlschema and the like too */
        if (name->name.len >= len && memcmp(name->name.data, QUERY_FUNCTIONS[i], len) == 0)
            return true;
    }
    if (name->schema.len >= 7 && memcmp(name->schema.data, "pg_temp", 7) == 0)
        return true;
    const CatalogFunction *function = catalog_resolve_function(
        p->catalog, name->schema, name->name, p->in->search_path, p->in->user);
    if (!function)
        return p->in->changed && !schema_is_system(name->schema); /* perhaps made a moment ago */
    return function->runs_statements && !schema_is_system(function->schema);
}

static void reject_hidden(Planner *p, const char *what, const ShapeName *name)
{
    p->hidden = true;
    p->plan = plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "this function is not supported on a sharded database yet", NULL,
                          "Declare it IMMUTABLE if it reads no table, or say where it runs: /* shoal: shard = NAME */ or "
                          "/* shoal: table = NAME, key = VALUE */ before SELECT.");
    error_detail(&p->plan.error, "%s \"%.*s\" may read tables, which Shoal cannot see.", what, SLICE_FMT(name->name));
}

/* A function's body may read distributed tables, and would see one shard's rows. */
bool plan_hides_tables(Planner *p)
{
    if (!topology_database_sharded(p->in->topology, p->in->database))
        return false;
    for (uint32_t i = 0; i < p->shape->function_count; i++)
        if (runs_statements(p, &p->shape->functions[i])) {
            reject_hidden(p, "Function", &p->shape->functions[i]);
            return true;
        }
    for (uint32_t i = 0; p->catalog->operators_run && i < p->shape->operator_count; i++) {
        const ShapeName *name = &p->shape->operators[i];
        const CatalogFunction *own = catalog_resolve_function(p->catalog, name->schema, name->name, p->in->search_path, p->in->user);
        if (own && own->runs_statements) {
            reject_hidden(p, "The function of operator", name);
            return true;
        }
    }
    return false;
}

/* ---- temporary objects ------------------------------------------------------------------------ */

/* They live on the home shard: made from tables that are not whole there, they would hold some of the rows. */
bool plan_makes_temporary(Planner *p)
{
    for (uint32_t i = 0; i < p->shape->table_count; i++) {
        const Ref *ref = &p->refs[i];
        bool whole = ref->kind == REF_SYSTEM || ref->kind == REF_REFERENCE ||
                     (ref->kind == REF_LOCAL && ref->shard == planner_home(p));
        if (p->shape->tables[i].target || whole)
            continue;
        p->plan = plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "a temporary object cannot be made of rows of several shards",
                              NULL, "CREATE TABLE, INSERT ... SELECT into it, and DROP it when it has been read.");
        error_detail(&p->plan.error, "It would stand on one shard, and see that shard's rows of \"%.*s\" alone.",
                     SLICE_FMT(p->shape->tables[i].name.name));
        return true;
    }
    return plan_hides_tables(p);
}

/* ---- partitions ------------------------------------------------------------------------------- */

static bool has_partitions(const Planner *p)
{
    const Topology *t = p->in->topology;
    for (uint32_t i = 0; i < t->table_count; i++)
        if (t->tables[i].database == p->in->database && t->tables[i].partitioned)
            return true;
    return false;
}

/* A partition is placed like the whole table. The catalog tells which tables are partitions, and is read at COMMIT: until
 * then a name that it does not know may be one. */
bool plan_names_unseen(Planner *p)
{
    bool ddl = p->shape->kind == SHAPE_DDL || p->shape->kind == SHAPE_DDL_ALONE;
    bool harmless = ddl && (p->shape->makes_table || (!p->shape->unique_count && !(p->shape->traits & SHAPE_MOVES_TABLE)));
    if (!p->in->partitioned || harmless || !has_partitions(p))
        return false;
    for (uint32_t i = 0; i < p->shape->table_count; i++) {
        const Ref *ref = &p->refs[i];
        if (ref->catalog || ref->kind != REF_LOCAL)
            continue;
        p->plan = plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "a partition cannot be used in the transaction that makes it", NULL,
                              "COMMIT first, or name the partitioned table.");
        error_detail(&p->plan.error, "\"%.*s\" may be a partition of a distributed table; which shards its rows belong to is known after COMMIT.",
                     SLICE_FMT(p->shape->tables[i].name.name));
        return true;
    }
    return false;
}

/* ---- cursors ------------------------------------------------------------------------------------ */

/* UPDATE, DELETE ... WHERE CURRENT OF: the row is where its cursor lives. */
Plan plan_at_cursor(Planner *p)
{
    int target = ref_target(p);
    bool spread = target >= 0 && p->refs[target].kind == REF_REFERENCE;
    if (plan_moves_rows(p))
        return p->plan;
    if (p->in->cursor_gathered || (spread && p->in->cursor))
        return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "the row that this cursor stands on cannot be written",
                           spread ? "A reference table is written on every shard, and the cursor is open on one."
                                  : "The cursor's rows were brought together from several shards.",
                           "Write it by its key: WHERE key = value.");
    if (p->distributed_count + p->reference_count > 1 || p->shape->traits & SHAPE_HAS_CTE)
        return plan_reject_shards("WHERE CURRENT OF writes to the table of its cursor, and reads no other.");
    return plan_direct(p->in->cursor ? *p->in->cursor : planner_home(p), false);
}
