/*
 * planner_ref.c - which table each name of a statement means: by the catalog and the session's search_path,
 * else by the names of distributed tables. What cannot be told for certain is refused.
 */
#include "router/planner_state.h"

#include "router/fanout.h"

bool schema_is_system(Slice schema)
{
    return slice_is(schema, "pg_catalog") || slice_is(schema, "information_schema") ||
           slice_is(schema, "pg_toast");
}

/* A name the catalog does not know (yet): the table may have been created a moment ago on a shard.
 * If any distributed table has that name, in the schema given or in any, it is taken for that one. */
static const Table *table_by_bare_name(const Planner *p, const ShapeName *name)
{
    const Topology *t = p->in->topology;
    for (uint32_t i = 0; i < t->table_count; i++) {
        const Table *table = &t->tables[i];
        if (table->database == p->in->database && slice_equal(table->name, name->name) &&
            (name->schema.len == 0 || slice_equal(table->schema, name->schema)))
            return table;
    }
    return NULL;
}

/* Which path is in force cannot be told: the name is certain when it is one table's only, or of none
 * that is distributed. */
static bool name_is_certain(const Planner *p, const ShapeName *name)
{
    size_t cursor = 0;
    uint32_t count = 0;
    if (!p->in->path_unknown || name->schema.len || !table_by_bare_name(p, name))
        return true;
    for (const CatalogTable *table; (table = map_next(&p->catalog->tables, &cursor));)
        count += slice_equal(table->name, name->name);
    return count <= 1;
}

bool plan_sets_path_unseen(const Shape *shape)
{
    for (uint32_t i = 0; i < shape->function_count; i++)
        if (slice_is(shape->functions[i].name, "set_config"))
            return true;
    return false;
}

bool plan_sets_path(const Shape *shape)
{
    switch (shape->kind) {
    case SHAPE_SET:
    case SHAPE_SET_LOCAL:
    case SHAPE_RESET:
        return slice_is(shape->setting, "search_path");
    case SHAPE_RESET_ALL:
    case SHAPE_DISCARD:
    case SHAPE_ROLLBACK:
    case SHAPE_ROLLBACK_TO:
    case SHAPE_COMMIT: /* ends SET LOCAL */
        return true;
    default:
        return plan_sets_path_unseen(shape);
    }
}

/* Rows written through a plain view belong where those of its table do, by the key as the view shows it. */
static void ref_through_view(const Planner *p, const ShapeTable *from, Ref *ref)
{
    const CatalogTable *view = ref->catalog;
    bool written = p->shape->kind == SHAPE_INSERT || p->shape->kind == SHAPE_UPDATE || p->shape->kind == SHAPE_DELETE;
    if (!written || !from->target || from->level != 0 || !view->view || !view->view->base || view->has_rules_or_triggers)
        return;
    const CatalogTable *base = catalog_table_by_oid(p->catalog, view->view->base);
    const Table *table = base ? topology_table(p->in->topology, p->in->database, base->schema, base->name) : NULL;
    if (!base || (table && table->kind == TABLE_REFERENCE))
        return;
    if (!table || table->kind == TABLE_LOCAL) { /* PostgreSQL writes through it where the table is */
        ref->table = table;
        ref->kind = REF_LOCAL;
        ref->shard = table && table->place_count ? table->places->shard : p->database->shards[0];
        ref->through = true;
        return;
    }
    for (uint32_t i = 0; i < table->key_count; i++)
        if (!catalog_column(view, table->keys[i].column))
            return;
    ref->table = table;
    ref->kind = REF_DISTRIBUTED;
    ref->through = true;
}

static void ref_resolve(Planner *p, const ShapeTable *from, Ref *ret)
{
    *ret = (Ref){.kind = REF_LOCAL, .shard = SHARD_NONE};
    if (schema_is_system(from->name.schema)) {
        ret->kind = REF_SYSTEM;
        return;
    }
    ret->catalog = catalog_resolve_table(p->catalog, from->name.schema, from->name.name,
                                         p->in->search_path, p->in->user);
    if (ret->catalog && schema_is_system(ret->catalog->schema)) {
        ret->kind = REF_SYSTEM;
        return;
    }
    ret->table = ret->catalog ? topology_table(p->in->topology, p->in->database,
                                               ret->catalog->schema, ret->catalog->name)
                              : table_by_bare_name(p, &from->name);
    ret->shard = p->database->shards[0];
    if (ret->table && ret->table->kind == TABLE_REFERENCE)
        ret->kind = REF_REFERENCE;
    else if (ret->table && ret->table->kind == TABLE_LOCAL)
        ret->shard = ret->table->place_count ? ret->table->places->shard : ret->shard;
    else if (ret->table)
        ret->kind = REF_DISTRIBUTED;
    else if (ret->catalog && (ret->catalog->kind == 'v' || ret->catalog->kind == 'm'))
        ret->kind = REF_VIEW;
    if (ret->kind == REF_VIEW)
        ref_through_view(p, from, ret);
}

bool refs_resolve(Planner *p)
{
    if (p->shape->table_count > TABLES_MAX) {
        p->plan = plan_reject(SQLSTATE_STATEMENT_TOO_COMPLEX, "the statement names too many tables",
                         "At most 64 table references are looked at in a sharded database.", NULL);
        return false;
    }
    for (uint32_t i = 0; i < p->shape->table_count; i++) {
        if (!name_is_certain(p, &p->shape->tables[i].name)) {
            p->plan = plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "which table is meant cannot be known",
                             "search_path was set by SET LOCAL or set_config(), and several schemas "
                             "have a table of that name.",
                             "Write schema and table, or use SET search_path.");
            return false;
        }
        ref_resolve(p, &p->shape->tables[i], &p->refs[i]);
        p->refs[i].bare = p->shape->tables[i].name.schema.len == 0;
        if (p->refs[i].kind == REF_DISTRIBUTED) {
            p->refs[i].shard = SHARD_NONE;
            p->refs[i].keys = arena_array(p->in->arena, RefKey, p->refs[i].table->key_count);
            if (!p->refs[i].keys) {
                p->plan = plan_reject(SQLSTATE_OUT_OF_MEMORY, "out of memory", NULL, NULL);
                return false;
            }
        }
        p->distributed_count += p->refs[i].kind == REF_DISTRIBUTED;
        p->reference_count += p->refs[i].kind == REF_REFERENCE;
        p->local_count += p->refs[i].kind == REF_LOCAL || p->refs[i].kind == REF_VIEW;
    }
    return true;
}

/* ---- columns and targets -------------------------------------------------------------------- */

int ref_of_column(const Planner *p, int16_t table, uint16_t level, uint16_t from, uint16_t to,
                  Slice column)
{
    if (table >= 0)
        return table;
    int owner = -1;
    for (uint32_t i = from; i < p->shape->table_count && i < to; i++) {
        if (p->shape->tables[i].level != level || p->shape->tables[i].renamed)
            continue;
        if (!p->refs[i].catalog)
            return -1; /* it might have the column: cannot be told */
        if (catalog_column(p->refs[i].catalog, column)) {
            if (owner >= 0)
                return -1;
            owner = (int)i;
        }
    }
    return owner;
}

int ref_target(const Planner *p)
{
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        if (p->shape->tables[i].target && p->shape->tables[i].level == 0)
            return (int)i;
    return -1;
}

bool refs_spread(Planner *p, FanoutRef *refs)
{
    for (uint32_t i = 0; i < p->shape->table_count; i++) {
        const Ref *ref = &p->refs[i];
        if (ref->kind == REF_VIEW)
            p->plan = plan_reject_shards("The statement reads a view together with distributed tables.");
        else if (ref->kind == REF_LOCAL && !ref->catalog && !p->in->in_transaction) /* most likely a typing error */
            p->plan = (Plan){.kind = PLAN_PROBE, .shard = planner_home(p)};
        else if (p->in->temporary && ref->bare)
            p->plan = plan_reject_temporary();
        if (p->plan.kind)
            return false;
        refs[i] = (FanoutRef){.place = ref->kind == REF_DISTRIBUTED ? SPLIT_PLACE_SPREAD
                                       : ref->kind == REF_REFERENCE ? SPLIT_PLACE_EVERY
                                       : ref->kind == REF_SYSTEM    ? SPLIT_PLACE_SYSTEM
                                                                    : SPLIT_PLACE_HOME,
                              .table = ref->table,
                              .catalog = ref->catalog};
        refs[i].known_shard = (ref->kind == REF_DISTRIBUTED || ref->kind == REF_LOCAL) && ref->shard != SHARD_NONE;
        refs[i].shard = ref->shard == SHARD_EVERY ? UINT32_MAX : ref->shard;
        refs[i].some = ref->some;
    }
    return true;
}
