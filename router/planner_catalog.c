/*
 * planner_catalog.c - questions about the catalog: they are answered as from one database.
 *
 * Shards agree on names, not on OIDs: a driver that has read an OID asks for it in its next statement, and
 * pg_dump asks for hundreds in one transaction. So the home shard answers all of them, also in a
 * transaction that is at work elsewhere, which it then joins. What a session or a transaction has
 * on one server (its cursors, locks, backend) is asked there.
 */
#include "router/planner_state.h"

/* About the server session or the transaction itself. */
static const char *const SESSION_VIEWS[] = {
    "pg_cursors", "pg_prepared_statements", "pg_locks", "pg_stat_activity", "pg_settings", "pg_prepared_xacts",
};

/* Functions that read the catalog by an OID or a name; * stands for any letters. */
static const char *const CATALOG_FUNCTIONS[] = {
    "pg_get_*", "to_reg*", "format_type", "obj_description", "col_description", "shobj_description",
    "has_*_privilege", "pg_relation_*", "pg_table_*", "pg_type_is_visible", "pg_function_is_visible",
    "pg_operator_is_visible", "pg_opclass_is_visible", "pg_opfamily_is_visible", "pg_collation_is_visible",
    "pg_conversion_is_visible", "pg_ts_*", "pg_statistics_obj_is_visible", "pg_indexes_size",
    "pg_total_relation_size", "pg_describe_object", "pg_identify_object*", "pg_index_*", "pg_indexam_*",
    "pg_index_column_has_property", "pg_filenode_relation", "pg_sequence_parameters",
};

static bool name_fits(Slice name, const char *pattern)
{
    const char *star = strchr(pattern, '*');
    if (!star)
        return slice_is(name, pattern);
    size_t before = (size_t)(star - pattern), behind = strlen(star + 1);
    return name.len >= before + behind && memcmp(name.data, pattern, before) == 0 &&
           memcmp(name.data + name.len - behind, star + 1, behind) == 0;
}

static bool is_session_view(Slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(SESSION_VIEWS); i++)
        if (slice_is(name, SESSION_VIEWS[i]))
            return true;
    return false;
}

static bool is_catalog_function(const ShapeName *name)
{
    if (name->schema.len && !slice_is(name->schema, "pg_catalog"))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(CATALOG_FUNCTIONS); i++)
        if (name_fits(name->name, CATALOG_FUNCTIONS[i]))
            return true;
    return false;
}

bool planner_names_system(const Planner *p)
{
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        if (p->refs[i].kind == REF_SYSTEM && !is_session_view(p->shape->tables[i].name.name))
            return true;
    return false;
}

bool planner_asks_catalog(const Planner *p)
{
    for (uint32_t i = 0; i < p->shape->function_count; i++)
        if (is_catalog_function(&p->shape->functions[i]))
            return true;
    for (uint32_t i = 0; i < p->shape->type_count; i++)
        if (name_fits(p->shape->types[i].name, "reg*"))
            return true;
    return planner_names_system(p);
}

bool planner_prepares_catalog(const Planner *p)
{
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        if (p->refs[i].kind != REF_SYSTEM || p->shape->tables[i].target)
            return false;
    return true;
}

/* It is one server's: who takes it up elsewhere would read the other shards at another moment. */
bool planner_exports_snapshot(Planner *p)
{
    if (!topology_database_sharded(p->in->topology, p->in->database))
        return false;
    for (uint32_t i = 0; i < p->shape->function_count; i++) {
        if (!slice_is(p->shape->functions[i].name, "pg_export_snapshot"))
            continue;
        p->plan = plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "a snapshot cannot be shared over several shards",
                              "Each shard of a transaction has a snapshot of its own.",
                              "pg_dump: leave out -j.");
        return true;
    }
    return false;
}
