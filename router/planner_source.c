/*
 * planner_source.c - where the rows of an INSERT ... SELECT are read, and whether they stay there.
 *
 *     INSERT INTO archive SELECT user_id, note FROM events WHERE at < '2024-01-01'
 *         archive by user_id, events by user_id, one group     each shard runs it by itself
 *         events by id                                          gathered, and dealt out
 *
 * A row stays when the SELECT only concatenates what the shards answer, and the column that becomes the target's key
 * is the key of a table that it reads, which no outer join may have made NULL.
 */
#include "router/planner_state.h"

#include "router/fanout.h"

/* Which of the source's outermost tables an output column is of; -1: it cannot be told. *ret its name there. */
static int column_table(const Planner *p, const InsertSource *parts, uint32_t at, Slice *ret)
{
    if (parts->star) {
        const CatalogTable *facts = p->shape->table_count ? p->refs[0].catalog : NULL;
        if (!facts || at >= facts->column_count || p->shape->tables[0].level != 0 || p->shape->tables[0].renamed)
            return -1;
        *ret = facts->columns[at].name;
        return 0;
    }
    if (!parts->columns || at >= parts->column_count || !parts->columns[at].name.len)
        return -1;
    const SourceColumn *column = &parts->columns[at];
    *ret = column->name;
    if (!column->qualifier.len)
        return ref_of_column(p, -1, 0, 0, (uint16_t)p->shape->table_count, column->name);
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        if (p->shape->tables[i].level == 0 && !p->shape->tables[i].renamed &&
            slice_equal(p->shape->tables[i].alias, column->qualifier))
            return (int)i;
    return -1;
}

/* Which output column becomes the key. */
static int key_position(const ShapeInsert *insert, const CatalogTable *facts, Slice key)
{
    if (insert->columns) {
        for (uint32_t i = 0; i < insert->column_count; i++)
            if (slice_equal(insert->columns[i], key))
                return (int)i;
        return -1;
    }
    for (uint32_t i = 0; i < facts->column_count; i++)
        if (slice_equal(facts->columns[i].name, key))
            return (int)i;
    return -1;
}

/* The value is stored as it was read: no length cuts it. */
static bool stores_alike(const CatalogColumn *to, const CatalogColumn *from)
{
    return to && from && key_types_agree(from->type_oid, to->type_oid) &&
           (to->typmod < 0 || (to->typmod == from->typmod && to->type_oid == from->type_oid));
}

static bool rows_stay(const Planner *p, const InsertSource *parts, const Shape *insert, const Table *table,
                      const CatalogTable *facts)
{
    Slice column;
    if (!table || table->key_count != 1 || p->shape->traits & (SHAPE_HAS_OUTER_JOIN | SHAPE_HAS_SETOP) ||
        parts->reads_more || parts->plain)
        return false;
    int at = key_position(&insert->insert, facts, table->keys[0].column);
    int owner = at < 0 ? -1 : column_table(p, parts, (uint32_t)at, &column);
    const Ref *ref = owner < 0 ? NULL : &p->refs[owner];
    return ref && ref->kind == REF_DISTRIBUTED && ref->catalog && tables_colocated(table, ref->table) &&
           slice_equal(column, ref->table->keys[0].column) &&
           stores_alike(catalog_column(facts, table->keys[0].column), catalog_column(ref->catalog, column));
}

/* True: it can be pushed, `ret` says where to. */
static bool push(const Planner *p, const FanoutRef *refs, PlanSource *ret)
{
    Error ignored;
    PlanInput input = *p->in;
    if (input.topology->foreign) /* copies that a move has made would be read where they lie */
        return false;
    input.whole = false;
    const Fanout *spread = fanout_make(&input, p->statement, refs, false, input.keep, &ignored);
    if (!spread || spread->form.kind != SPLIT_CONCAT || spread->form.limit.kind || spread->form.offset.kind)
        return false;
    *ret = (PlanSource){.pushed = true, .shards = spread->legs.shards, .shard_count = spread->legs.count};
    return true;
}

bool plan_source(const PlanInput *input, const PlanStatement *source, const InsertSource *parts, const Shape *insert,
                 const Table *table, const CatalogTable *facts, PlanSource *ret, Error *err)
{
    ParamMemo memo = {0};
    bool fenced = false, fetched = false;
    PlanInput whole = *input;
    bool everywhere = table && table->kind == TABLE_REFERENCE; /* its name is the staging table's on the merge server */
    whole.whole = true;
    whole.in_transaction |= everywhere;
    Planner planner = planner_of(&whole, source, &memo, &fenced);
    Planner *p = &planner;
    FanoutRef *refs = arena_array(input->keep, FanoutRef, p->shape->table_count + 1);
    *ret = (PlanSource){0};
    if (p->shape->kind != SHAPE_SELECT || !refs) {
        error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "this statement cannot be run over several shards");
        error_detail(err, "Its source, taken by itself, cannot be read.");
        error_hint(err, "Write it otherwise: (ARRAY[...])[i], for one, as a function call.");
        return false;
    }
    if (!refs_resolve(p) || plan_hides_tables(p)) {
        *err = p->plan.error;
        return false;
    }
    refs_fix_by_values(p);
    refs_fix_by_joins(p);
    refs_place(p);
    if (!refs_spread(p, refs)) {
        *err = p->plan.error;
        if (p->plan.kind == PLAN_PROBE)
            error_set(err, SQLSTATE_UNDEFINED_TABLE, "a table of this statement does not exist, or is not known yet");
        return false;
    }
    for (uint32_t i = 0; i < p->shape->table_count; i++) {
        fetched |= p->refs[i].kind == REF_DISTRIBUTED || p->refs[i].kind == REF_LOCAL ||
                   (p->refs[i].kind == REF_REFERENCE && whole.in_transaction);
        ret->system |= p->refs[i].kind == REF_SYSTEM;
    }
    if (rows_stay(p, parts, insert, table, facts) && push(p, refs, ret))
        return true;
    if (fetched)
        ret->spread = fanout_make(&whole, source, refs, planner_asks_catalog(p), input->keep, err);
    return !fetched || ret->spread;
}
