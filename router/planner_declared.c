/*
 * planner_declared.c - what Shoal cannot look into (CALL, DO, functions in SQL or PL/pgSQL) runs where its client says.
 *
 * What the statement itself names must be there, too. What the bodies read and write is the client's word.
 */
#include "router/foreign.h"
#include "router/place_hint.h"
#include "router/planner_state.h"

static Plan refuse_place(const char *sqlstate, const char *detail)
{
    return plan_reject(sqlstate, "the comment does not say where this statement runs", detail,
                       "Write /* shoal: shard = NAME */ or /* shoal: table = NAME, key = VALUE */ before it.");
}

static bool shard_named(const Planner *p, Slice name, uint32_t *ret)
{
    for (uint32_t i = 0; i < p->database->shard_count; i++)
        if (slice_equal(slice_str(p->in->topology->config->shards[p->database->shards[i]].name), name)) {
            *ret = p->database->shards[i];
            return true;
        }
    return false;
}

static bool is_integer(Slice text)
{
    size_t at = text.len && text.data[0] == '-';
    bool digits = at < text.len;
    for (; at < text.len; at++)
        digits &= text.data[at] >= '0' && text.data[at] <= '9';
    return digits;
}

/* NULL: *ret is the shard of the table's rows with that key. */
static const char *row_place(const Planner *p, const PlaceHint *hint, uint32_t *ret)
{
    const CatalogTable *facts = catalog_resolve_table(p->catalog, hint->schema, hint->table, p->in->search_path, p->in->user);
    const Table *table = facts ? topology_table(p->in->topology, p->in->database, facts->schema, facts->name) : NULL;
    const ShapeName none = {0};
    Slice value;
    if (!table || table->kind == TABLE_REFERENCE || table->kind == TABLE_LOCAL || table->key_count != 1 || !table_is_ready(table))
        return "There is no such table, or it is not distributed by one column.";
    const TableKey *key = &table->keys[0];
    bool integer = !hint->quoted && is_integer(hint->key);
    if (key_text(p, hint->key, integer, &none, key, &value) != KEY_KNOWN)
        return "The key is not a value of the type of the table's key; texts stand in quotes.";
    return key_place(p, table, &value, ret) ? NULL : "No shard may have a row with this key.";
}

/* What the statement names besides is on that shard. */
static Plan names_here(Planner *p, uint32_t shard)
{
    refs_fix_by_values(p);
    refs_fix_by_joins(p);
    refs_place(p);
    Plan plan = plan_agree(p);
    if (plan.kind == PLAN_DIRECT && !plan.any_shard && plan.shard != shard)
        return plan_reject_shards("Its tables are on another shard than the one that the comment says.");
    if (plan.kind == PLAN_DIRECT && plan.any_shard && planner_asks_catalog(p) && shard != planner_home(p))
        return plan_reject_shards("It asks the catalog, which another shard answers for than the one that the comment says.");
    return plan.kind == PLAN_DIRECT ? plan_direct(shard, false) : plan;
}

Plan plan_declared(Planner *p, Plan refused)
{
    PlaceHint hint;
    uint32_t shard = 0;
    bool select = p->shape->kind == SHAPE_SELECT && !(p->shape->traits & (SHAPE_HAS_INTO | SHAPE_HAS_MODIFYING_CTE));
    if (!place_hint_read(p->statement->hint, &hint) || (!select && p->shape->kind != SHAPE_CALL && p->shape->kind != SHAPE_DO))
        return refused;
    if (hint.bad)
        return refuse_place("22023", "It says a shard, or a table and the key of a row, and each once.");
    if (p->in->temporary)
        return plan_reject_temporary();
    const char *why = NULL;
    if (!hint.shard.len)
        why = row_place(p, &hint, &shard);
    else if (!shard_named(p, hint.shard, &shard))
        why = "There is no such shard in this database.";
    if (why)
        return refuse_place("22023", why);
    Plan plan = names_here(p, shard);
    bool copies = hint.shard.len && p->in->topology->foreign && p->in->topology->foreign[shard].count;
    if (plan.kind == PLAN_DIRECT && copies) { /* nobody can tell the body which rows are not the shard's own */
        plan.kind = PLAN_REJECT;
        foreign_error(&plan.error);
    }
    *p->fenced |= p->in->topology->fenced != NULL;
    return plan;
}
