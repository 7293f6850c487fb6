/*
 * planner_rekey.c - an UPDATE that assigns to the shard key: where its rows lie, and whether they can go elsewhere exactly.
 *
 * They are updated where they lie and moved afterwards (rekey.h). What PostgreSQL does by itself in between would see
 * them on the wrong shard: triggers, policies, foreign keys of the key itself, cascades. Those are refused.
 */
#include "router/foreign.h"
#include "router/planner_state.h"

static Plan refuse_rekey(const char *detail)
{
    return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "this statement may not change the shard key of a row", detail,
                       "Delete the row and insert it with its new key.");
}

static bool key_refers(const Ref *target)
{
    for (uint32_t i = 0; i < target->table->key_count; i++) {
        const CatalogColumn *column = catalog_column(target->catalog, target->table->keys[i].column);
        if (!column || column->refers)
            return true;
    }
    return false;
}

/* NULL: its rows can be moved. */
static const char *why_not(const Planner *p, int target)
{
    const Ref *ref = target < 0 ? NULL : &p->refs[target];
    if (p->shape->kind != SHAPE_UPDATE || !ref || ref->kind != REF_DISTRIBUTED)
        return "The row would belong to another shard; only UPDATE itself moves it there.";
    if (p->shape->traits & SHAPE_HAS_MODIFYING_CTE)
        return "Its WITH writes rows, too.";
    if (!ref->catalog || !table_is_ready(ref->table))
        return "The table, or the type of its key, is not known.";
    if (ref->catalog->kind != 'r' || ref->catalog->has_children)
        return "The table has partitions or children.";
    if (ref->catalog->has_rules_or_triggers)
        return "The row would be deleted and inserted, and the table's triggers or rules would see that.";
    if (ref->catalog->row_security)
        return "The row would be deleted and inserted, and the table's policies would judge that.";
    if (ref->catalog->cascades)
        return "A foreign key hands the change on to rows that would stay on the old shard.";
    if (key_refers(ref))
        return "The key is part of a foreign key, which the old shard would judge by its own rows.";
    return NULL;
}

Plan plan_rekey(Planner *p)
{
    int target = ref_target(p);
    const char *why = why_not(p, target);
    Plan plan;
    if (why)
        return refuse_rekey(why);
    if (p->in->temporary)
        return plan_reject_temporary();
    if (foreign_table(p->in->topology, p->refs[target].table)) {
        plan = plan_reject(SQLSTATE_OBJECT_IN_USE, "", NULL, NULL);
        foreign_error(&plan.error);
        return plan;
    }
    refs_fix_by_values(p);
    refs_fix_by_joins(p);
    refs_place(p);
    if (!plan_write(p, &plan)) {
        plan = plan_agree(p);
        if (plan.kind != PLAN_DIRECT || plan.any_shard) /* of one that is NULL there is no row */
            return plan;
        uint32_t *one = arena_new(p->in->arena, uint32_t);
        if (!one)
            return plan_reject(SQLSTATE_OUT_OF_MEMORY, "out of memory", NULL, NULL);
        *one = plan.shard;
        plan = (Plan){.kind = PLAN_WRITE, .shards = one, .shard_count = 1};
    }
    if (plan.kind != PLAN_WRITE)
        return plan;
    plan.rekeys = true;
    plan.table = p->refs[target].table;
    plan.schema = p->refs[target].catalog->schema;
    plan.name = p->refs[target].catalog->name;
    return plan;
}
