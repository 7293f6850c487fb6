/*
 * split_scope.c - the FROM items of a level, whose column a name is, and which reference leads.
 *
 * The anchor is a distributed reference of the outermost level whose rows are never NULLs of an outer
 * join, and to whose key every other distributed reference is joined, directly or through others:
 *
 *     users u JOIN orders o ON o.user_id = u.id    u leads: orders of a user are on his shard
 *     ref r LEFT JOIN users u ON ...               nobody: each shard would answer each row of r
 *
 * Then the rows of FROM and WHERE are the disjoint union of those of the shards.
 */
#include "query/split_build.h"

static bool visible_cte(const PgQuery__SelectStmt *select, const PgQuery__RangeVar *range)
{
    if (*range->schemaname || !select->with_clause)
        return false;
    for (size_t i = 0; i < select->with_clause->n_ctes; i++)
        if (strcmp(select->with_clause->ctes[i]->common_table_expr->ctename, range->relname) == 0)
            return true;
    return false;
}

typedef struct ScopeRead {
    const Split *split;
    SplitScope *scope;
    const PgQuery__SelectStmt *select;
    uint32_t level; /* of the shape; UINT32_MAX: unknown, tables are found by name */
    uint32_t seen;  /* tables of the shape looked at */
} ScopeRead;

/* Tables of a level stand in the shape in the order of FROM. */
static int next_table(ScopeRead *read, const PgQuery__RangeVar *range)
{
    const Shape *shape = read->split->in->shape;
    uint32_t from = read->level == UINT32_MAX ? 0 : read->seen;
    for (uint32_t i = from; i < shape->table_count; i++) {
        const ShapeTable *table = &shape->tables[i];
        if (read->level != UINT32_MAX && table->level != read->level)
            continue;
        if (slice_is(table->name.name, range->relname) &&
            slice_is(table->name.schema, range->schemaname)) {
            read->seen = i + 1;
            return (int)i;
        }
        if (read->level != UINT32_MAX)
            return -1;
    }
    return -1;
}

static void item_add(ScopeRead *read, SplitItem item)
{
    if (read->scope->count == SPLIT_ITEMS_MAX)
        read->scope->overflow = true;
    else
        read->scope->items[read->scope->count++] = item;
}

static Slice alias_name(const PgQuery__Alias *alias)
{
    return alias ? slice_str(alias->aliasname) : slice_of(NULL, 0);
}

static void range_read(ScopeRead *read, const PgQuery__RangeVar *range, bool nullable)
{
    SplitItem item = {.range = range,
                      .alias = range->alias ? alias_name(range->alias) : slice_str(range->relname),
                      .index = -1,
                      .nullable = nullable,
                      .renamed = range->alias && range->alias->n_colnames};
    if (!visible_cte(read->select, range))
        item.index = next_table(read, range);
    if (item.index >= 0)
        item.table = &read->split->in->tables[item.index];
    item_add(read, item);
}

static void from_read(ScopeRead *read, const PgQuery__Node *node, bool nullable)
{
    if (!node)
        return;
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_RANGE_VAR:
        range_read(read, node->range_var, nullable);
        break;
    case PG_QUERY__NODE__NODE_JOIN_EXPR: {
        const PgQuery__JoinExpr *join = node->join_expr;
        bool left = join->jointype == PG_QUERY__JOIN_TYPE__JOIN_RIGHT ||
                    join->jointype == PG_QUERY__JOIN_TYPE__JOIN_FULL;
        bool right = join->jointype == PG_QUERY__JOIN_TYPE__JOIN_LEFT ||
                     join->jointype == PG_QUERY__JOIN_TYPE__JOIN_FULL;
        from_read(read, join->larg, nullable || left);
        from_read(read, join->rarg, nullable || right);
        read->scope->merged |= join->is_natural || join->n_using_clause;
        read->scope->hidden |= join->alias || join->join_using_alias;
        break;
    }
    case PG_QUERY__NODE__NODE_RANGE_SUBSELECT:
        item_add(read, (SplitItem){.alias = alias_name(node->range_subselect->alias),
                                   .index = -1, .nullable = nullable});
        break;
    case PG_QUERY__NODE__NODE_RANGE_FUNCTION:
        item_add(read, (SplitItem){.alias = alias_name(node->range_function->alias),
                                   .index = -1, .nullable = nullable});
        break;
    default:
        item_add(read, (SplitItem){.index = -1, .nullable = nullable});
        break;
    }
}

void scope_read(const Split *split, SplitScope *scope, const PgQuery__SelectStmt *select, uint32_t level)
{
    ScopeRead read = {.split = split, .scope = scope, .select = select, .level = level};
    *scope = (SplitScope){0};
    for (size_t i = 0; i < select->n_from_clause; i++)
        from_read(&read, select->from_clause[i], false);
}

const SplitColumn *table_column(const SplitTable *table, Slice name)
{
    for (uint32_t i = 0; table && i < table->column_count; i++)
        if (slice_equal(table->columns[i].name, name))
            return &table->columns[i];
    return NULL;
}

static int column_unqualified(const SplitScope *scope, Slice name)
{
    int owner = -1;
    if (scope->merged || scope->hidden || scope->overflow)
        return -1;
    for (uint32_t i = 0; i < scope->count; i++) {
        const SplitItem *item = &scope->items[i];
        if (!item->table || !item->table->columns || item->renamed)
            return -1; /* it might be this one's */
        if (table_column(item->table, name)) {
            if (owner >= 0)
                return -1;
            owner = (int)i;
        }
    }
    return owner;
}

int scope_column(const SplitScope *scope, const PgQuery__Node *node, Slice *ret_name)
{
    if (!node || node->node_case != PG_QUERY__NODE__NODE_COLUMN_REF)
        return -1;
    const PgQuery__ColumnRef *column = node->column_ref;
    Slice name = column->n_fields ? tree_string(column->fields[column->n_fields - 1]) : slice_of(NULL, 0);
    if (!name.len)
        return -1;
    *ret_name = name;
    if (column->n_fields == 1)
        return column_unqualified(scope, name);
    if (column->n_fields != 2)
        return -1;
    int owner = -1;
    for (uint32_t i = 0; i < scope->count; i++)
        if (slice_equal(scope->items[i].alias, tree_string(column->fields[0]))) {
            if (owner >= 0)
                return -1;
            owner = (int)i;
        }
    if (owner < 0 || scope->items[owner].renamed || !table_column(scope->items[owner].table, name))
        return -1;
    return owner;
}

static bool item_key_in(const SplitScope *scope, const SplitItem *item, PgQuery__Node *const *list,
                        size_t n)
{
    for (uint32_t k = 0; k < item->table->key_count; k++) {
        bool found = false;
        for (size_t i = 0; i < n && !found; i++) {
            Slice name;
            int owner = scope_column(scope, list[i], &name);
            found = owner >= 0 && &scope->items[owner] == item && slice_equal(name, item->table->keys[k]);
        }
        if (!found)
            return false;
    }
    return item->table->key_count > 0;
}

bool scope_has_key(const Split *split, PgQuery__Node *const *list, size_t n)
{
    for (uint32_t i = 0; i < split->scope.count; i++) {
        const SplitItem *item = &split->scope.items[i];
        if (item->table && item->table->place == SPLIT_PLACE_SPREAD && !item->nullable &&
            item_key_in(&split->scope, item, list, n))
            return true;
    }
    return false;
}

/* ---- the anchor ---------------------------------------------------------------------------------- */

/* Which reference a side of a ShapeJoin means; as the planner finds it. */
static int join_owner(const SplitInput *in, int16_t table, uint16_t level, uint16_t from, uint16_t to,
                      Slice column)
{
    if (table >= 0)
        return table;
    int owner = -1;
    for (uint32_t i = from; i < in->shape->table_count && i < to; i++) {
        if (in->shape->tables[i].level != level || in->shape->tables[i].renamed)
            continue;
        if (!in->tables[i].columns)
            return -1;
        if (table_column(&in->tables[i], column)) {
            if (owner >= 0)
                return -1;
            owner = (int)i;
        }
    }
    return owner;
}

/* Is there a term `to.column = from.other`, obeyed by the rows of `to`? */
static bool joined_by(const SplitInput *in, int to, Slice column, int from, Slice other)
{
    for (uint32_t i = 0; i < in->shape->join_count; i++) {
        const ShapeJoin *j = &in->shape->joins[i];
        if (slice_equal(j->column, column) && slice_equal(j->other_column, other) &&
            join_owner(in, j->table, j->level, j->from, j->to, j->column) == to &&
            join_owner(in, j->other, j->other_level, j->from, j->to, j->other_column) == from)
            return true;
    }
    return false;
}

static bool joined_by_key(const SplitInput *in, int to, int from)
{
    const SplitTable *a = &in->tables[to], *b = &in->tables[from];
    if (a->group != b->group || a->key_count != b->key_count)
        return false;
    for (uint32_t k = 0; k < a->key_count; k++)
        if (!joined_by(in, to, a->keys[k], from, b->keys[k]))
            return false;
    return a->key_count > 0;
}

/* Everything spread is reached from `anchor`. */
static bool leads(const Split *split, int anchor)
{
    const SplitInput *in = split->in;
    uint32_t n = in->shape->table_count;
    bool *reached = arena_array(in->arena, bool, n + 1);
    if (!reached)
        return false;
    reached[anchor] = true;
    for (bool again = true; again;) {
        again = false;
        for (uint32_t to = 0; to < n; to++)
            for (uint32_t from = 0; from < n && !reached[to]; from++)
                if (reached[from] && in->tables[to].place == SPLIT_PLACE_SPREAD &&
                    in->tables[from].place == SPLIT_PLACE_SPREAD &&
                    joined_by_key(in, (int)to, (int)from))
                    again = reached[to] = true;
    }
    for (uint32_t i = 0; i < n; i++)
        if (in->tables[i].place == SPLIT_PLACE_SPREAD && !reached[i])
            return false;
    return true;
}

bool scope_find_anchor(Split *split)
{
    for (uint32_t i = 0; i < split->in->shape->table_count; i++)
        if (split->in->tables[i].place == SPLIT_PLACE_HOME ||
            split->in->tables[i].place == SPLIT_PLACE_SYSTEM)
            return false;
    if (split->scope.overflow)
        return false;
    for (uint32_t i = 0; i < split->scope.count; i++) {
        const SplitItem *item = &split->scope.items[i];
        if (item->table && item->table->place == SPLIT_PLACE_SPREAD && !item->nullable &&
            leads(split, item->index)) {
            split->anchor = item->index;
            return true;
        }
    }
    return false;
}
