/*
 * planner_merge.c - MERGE into a distributed table: what matches a row of the source, or would be inserted for it, must be
 * looked for on one shard.
 *
 *     source is a table of the group, joined on the key     each shard merges its own rows
 *     ... constants with the key, all of one shard          that shard
 *     ... anything else, joined on the key                  its rows are made, and dealt out by the key (merge_rows.h)
 *     ... anything, and nothing is inserted                 each shard gets all of them
 *     the target is a table of one shard                    it gets all of them
 */
#include "router/foreign.h"
#include "router/planner_state.h"

#include "query/merge_actions.h"
#include "query/merge_source.h"

static Plan refuse_merge(const char *detail)
{
    return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "this MERGE cannot be run over several shards", detail,
                       "Join the source on the key, ON target.key = source.column, and insert that column as the key.");
}

/* The source is joined on the keys of both: what matches, or would, is on the same shard. */
static bool source_joined(const Planner *p, int target, int source)
{
    for (uint32_t i = 0; i < p->shape->join_count; i++) {
        const ShapeJoin *join = &p->shape->joins[i];
        int a = ref_of_column(p, join->table, join->level, join->from, join->to, join->column);
        int b = ref_of_column(p, join->other, join->other_level, join->from, join->to, join->other_column);
        if (a == target && b == source && keys_meet(p, join, a, b))
            return true;
    }
    return false;
}

/* The key that INSERT writes is the source's own. */
static bool inserts_source_key(const Planner *p, const MergeActions *actions, const TableKey *key, int source)
{
    Slice alias = p->shape->tables[source].alias;
    const CatalogTable *from = p->refs[source].catalog, *to = p->refs[1 - source].catalog;
    const CatalogColumn *given = from ? catalog_column(from, p->refs[source].table->keys[0].column) : NULL;
    const CatalogColumn *stored = catalog_column(to, key->column);
    bool whole = given && stored && (stored->typmod < 0 || (stored->typmod == given->typmod && stored->type_oid == given->type_oid));
    return whole && actions->alike && slice_equal(actions->key.name, p->refs[source].table->keys[0].column) &&
           (actions->key.qualifier.len == 0 || slice_equal(actions->key.qualifier, alias));
}

static uint32_t position_of(const CatalogTable *facts, Slice column)
{
    uint32_t at = 0;
    while (at < facts->column_count && !slice_equal(facts->columns[at].name, column))
        at++;
    return at;
}

/* A table of the group, or a reference table: each shard has the rows that it needs. False: not so. */
static bool merge_in_place(Planner *p, int target, Plan *ret)
{
    int source = 1 - target;
    MergeActions actions;
    if (p->shape->table_count != 2 || target > 1 || p->refs[target].table->key_count != 1 ||
        p->shape->traits & (SHAPE_HAS_CTE | SHAPE_HAS_SUBQUERY))
        return false;
    const TableKey *key = &p->refs[target].table->keys[0];
    if (!merge_actions_read(p->statement->text, key->column, position_of(p->refs[target].catalog, key->column), p->in->arena,
                            &actions))
        return false;
    bool together = source_joined(p, target, source) && (!actions.inserts || inserts_source_key(p, &actions, key, source));
    if (!together && (p->refs[source].kind != REF_REFERENCE || actions.inserts))
        return false;
    *ret = (Plan){.kind = PLAN_WRITE, .shards = p->database->shards, .shard_count = p->database->shard_count};
    /* Rows of the source decide what is done, those of other shards by the term in each WHEN; WHEN NOT MATCHED knows
     * no other columns. A reference table has none of others: then those of the target are passed over. */
    plan_pass_over_foreign(p, ret, p->refs[source].kind == REF_DISTRIBUTED ? source : target, NULL);
    return true;
}

/* ---- rows of the source ---------------------------------------------------------------------------------- */

/* MergeTables.columns */
static const Slice *columns_of(void *context, Slice schema, Slice name, uint32_t *ret_count)
{
    const Planner *p = context;
    if (p->in->path_unknown || p->in->changed)
        return NULL;
    const CatalogTable *facts = catalog_resolve_table(p->catalog, schema, name, p->in->search_path, p->in->user);
    Slice *names = facts ? arena_array(p->in->arena, Slice, facts->column_count + 1) : NULL;
    for (uint32_t i = 0; names && i < facts->column_count; i++)
        names[i] = facts->columns[i].name;
    *ret_count = facts ? facts->column_count : 0;
    return names;
}

static KeyKnown value_known(const Planner *p, const MergeValue *value, const TableKey *key, Slice *ret)
{
    ShapeValue param = {.kind = SHAPE_VALUE_PARAM, .index = value->param, .cast = {value->cast_schema, value->cast}};
    if (value->kind == MERGE_VALUE_PARAM)
        return value->cast.len || (value->param <= p->statement->param_oid_count && p->statement->param_oids[value->param - 1])
                   ? key_value(p, &param, key, ret)
                   : KEY_UNKNOWN; /* it is a text there, whatever it is compared with */
    if (value->kind == MERGE_VALUE_OTHER)
        return KEY_UNKNOWN;
    ShapeName cast = {value->cast_schema, value->cast};
    return key_text(p, value->text, value->kind == MERGE_VALUE_INTEGER, &cast, key, ret);
}

/* All rows are constants, and of one shard. */
static bool rows_meet(const Planner *p, const MergeSource *source, const Ref *target, uint32_t *ret_shard)
{
    uint32_t keys = target->table->key_count;
    bool utf8 = slice_is(p->catalog->encoding, "UTF8");
    for (uint32_t row = 0; row < source->value_rows; row++) {
        Slice values[TABLE_KEYS_MAX];
        uint32_t shard;
        for (uint32_t i = 0; i < keys; i++) {
            const TableKey *key = &target->table->keys[i];
            const CatalogColumn *column = catalog_column(target->catalog, key->column);
            if (value_known(p, &source->values[row * keys + i], key, &values[i]) != KEY_KNOWN || !column ||
                !plan_column_stores(column, key->type, values[i], utf8))
                return false;
        }
        if (!key_place(p, target->table, values, &shard) || (row && shard != *ret_shard))
            return false;
        *ret_shard = shard;
    }
    return source->value_rows > 0;
}

/* Where the source's rows must meet the target's. NULL: they can. */
static const char *why_apart(const Ref *target, const MergeSource *source)
{
    if (source->reads_more)
        return "Its ON or WHEN has a subquery.";
    if (target->kind == REF_LOCAL || !source->inserts)
        return NULL;
    if (!source->joined)
        return "Its ON does not say that the key of the target is a column of the source.";
    return source->inserts_key ? NULL : "It inserts another key than the column of the source that ON compares with the key.";
}

static Plan merge_by_rows(Planner *p, const Ref *target)
{
    Arena *arena = p->in->keep ? p->in->keep : p->in->arena;
    Slice keys[TABLE_KEYS_MAX];
    uint32_t positions[TABLE_KEYS_MAX], shard;
    MergeSource *source = arena_new(arena, MergeSource);
    bool local = target->kind == REF_LOCAL;
    const MergeTables tables = {.keys = keys, .positions = positions, .key_count = local ? 0 : target->table->key_count,
                                .columns = columns_of, .context = p};
    const char *why;
    for (uint32_t i = 0; i < tables.key_count; i++) {
        keys[i] = target->table->keys[i].column;
        positions[i] = position_of(target->catalog, keys[i]);
    }
    if (!source)
        return plan_reject(SQLSTATE_OUT_OF_MEMORY, "out of memory", NULL, NULL);
    if (!merge_source_read(p->statement->text, &tables, p->shape->param_max, arena, source, &why))
        return refuse_merge(why);
    why = why_apart(target, source);
    if (why)
        return refuse_merge(why);
    if (source->values && rows_meet(p, source, target, &shard))
        return plan_direct(shard, false);
    Plan plan = {.kind = PLAN_MERGE, .merge = source, .table = target->table, .schema = target->catalog->schema,
                 .name = target->catalog->name};
    if (!local && !source->joined && foreign_table(p->in->topology, target->table)) {
        plan.kind = PLAN_REJECT;
        foreign_error(&plan.error);
    }
    return plan;
}

Plan plan_merge_into(Planner *p)
{
    int target = ref_target(p);
    Plan plan;
    if (p->in->temporary)
        return plan_reject_temporary();
    const Ref *ref = target < 0 ? NULL : &p->refs[target];
    bool spread = ref && ref->kind == REF_DISTRIBUTED && table_is_ready(ref->table);
    if (!ref || !ref->catalog || (!spread && ref->kind != REF_LOCAL))
        return refuse_merge("It writes a table that is on every shard, a view, or one that is not known.");
    if (p->shape->traits & SHAPE_HAS_MODIFYING_CTE)
        return refuse_merge("Its WITH writes rows, too.");
    return spread && merge_in_place(p, target, &plan) ? plan : merge_by_rows(p, ref);
}
