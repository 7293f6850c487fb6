/*
 * shape_level.c - the FROM items of a level, and what conditions say about their columns.
 *
 *     from a join b on a.x = b.x left join c on c.y = a.y where a.k = $1
 *          0      1                        2
 *
 *     WHERE a.k = $1            every row of a obeys                 -> equal a.k
 *     inner ON a.x = b.x        rows of both obey                    -> joins a.x~b.x and b.x~a.x
 *     left ON c.y = a.y         rows of c obey, those of a need not  -> join c.y~a.y alone
 *     left ON a.z = 1           nothing: a keeps its other rows
 *     full ON                   nothing
 *
 * Sound means: the reference may read only rows that obey, and the statement's result stays the
 * same. Equality is strict, so a WHERE above an outer join that loses rows of the nullable side
 * loses the null-extended ones too; that is why position below outer joins does not matter there.
 * Only AND-terms count; nothing under OR, NOT, CASE or a function.
 */
#include "query/shape_build.h"

/* What a column reference means. */
typedef struct Column {
    enum { COLUMN_UNKNOWN, COLUMN_OF_TABLE, COLUMN_SOMEWHERE /* unqualified, several tables */ } kind;
    int16_t table;
    const Level *level; /* in which it was found */
    uint32_t item;      /* COLUMN_OF_TABLE: which FROM item of that level */
    Slice name;         /* borrowed from the tree */
    const PgQuery__ColumnRef *ref;
} Column;

/* Where a condition stands and whose rows it restricts. */
typedef struct Scope {
    Build *build;
    Level *level;
    FromRange range;  /* items whose rows must obey */
    uint16_t from, to; /* tables that may be meant; `to` is UINT16_MAX for all that follow */
    bool unqualified; /* columns without a table's name are those of `range` */
    bool joins_only;
} Scope;

static FromRange from_item(Build *build, Level *level, const PgQuery__Node *node);
static FromRange from_join(Build *build, Level *level, const PgQuery__JoinExpr *join);
static void join_using(Build *build, Level *level, const PgQuery__JoinExpr *join, FromRange left,
                       FromRange right);
static FromItem *item_add(Build *build, Level *level, Slice alias, int16_t table);
static void condition_read(const Scope *scope, const PgQuery__Node *node);
static void equality_read(const Scope *scope, const PgQuery__AExpr *equality);
static void pair_read(const Scope *scope, const PgQuery__Node *left, const PgQuery__Node *right,
                      const PgQuery__AExpr *equality);
static void equal_add(const Scope *scope, const Column *column, const PgQuery__Node *value,
                      const PgQuery__AExpr *plain);
static void any_read(const Scope *scope, const PgQuery__AExpr *term);
static void join_add(const Scope *scope, const Column *side, const Column *other);
static Column column_find(const Level *level, const PgQuery__Node *node);

void level_begin(Build *build, Level *level, const Level *up)
{
    *level = (Level){.number = (uint16_t)build->level_count, .up = up};
    if (build->level_count++ >= UINT16_MAX)
        build->overflowed = true;
}

/* --- FROM ---------------------------------------------------------------------------------- */

ShapeTable *table_add(Build *build, const Level *level, const PgQuery__RangeVar *range, bool target)
{
    Shape *shape = build->shape;
    if (shape->table_count >= INT16_MAX) {
        build->overflowed = true;
        return NULL;
    }
    ShapeTable *table = build_add(build, build->arena, &shape->tables, &shape->table_count,
                                  sizeof(ShapeTable));
    if (!table)
        return NULL;
    table->name = (ShapeName){build_text(build, range->schemaname), build_text(build, range->relname)};
    table->alias = range->alias ? build_text(build, range->alias->aliasname) : table->name.name;
    table->level = level ? level->number : 0;
    table->target = target;
    table->aliased = range->alias != NULL;
    table->only = !range->inh;
    table->token = token_at(build, range->location);
    table->token_count = (uint8_t)(1 + 2 * (range->schemaname && *range->schemaname) + 2 * (range->catalogname && *range->catalogname));
    bool created = range->relpersistence && range->relpersistence[0] == 't';
    if (created || schema_is_temporary(table->name.schema))
        build_trait(build, SHAPE_HAS_TEMP | SHAPE_LEAVES_STATE);
    return table;
}

void level_table(Build *build, Level *level, const PgQuery__RangeVar *range, bool target)
{
    ShapeTable *table = table_add(build, level, range, target);
    if (!table)
        return;
    table->renamed = range->alias && range->alias->n_colnames;
    int16_t index = table->renamed ? -1 : (int16_t)(build->shape->table_count - 1);
    FromItem *item = item_add(build, level, table->alias, index);
    if (item && !range->alias)
        item->schema = table->name.schema;
}

void level_from(Build *build, Level *level, PgQuery__Node *const *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        from_item(build, level, items[i]);
    if (level->leaf_count > 1)
        build_trait(build, SHAPE_HAS_JOIN);
}

static FromItem *item_add(Build *build, Level *level, Slice alias, int16_t table)
{
    FromItem *item = build_add(build, build->scratch, &level->items, &level->item_count,
                               sizeof(FromItem));
    if (item)
        *item = (FromItem){.alias = alias, .table = table};
    level->leaf_count++;
    return item;
}

static bool cte_visible(const Build *build, const PgQuery__RangeVar *range)
{
    if (range->schemaname && *range->schemaname)
        return false;
    for (const CteName *cte = build->ctes; cte; cte = cte->up)
        if (slice_is(cte->name, range->relname))
            return true;
    return false;
}

static Slice alias_of(const PgQuery__Alias *alias)
{
    return alias ? slice_str(alias->aliasname) : slice_of(NULL, 0);
}

static void from_range(Build *build, Level *level, const PgQuery__RangeVar *range)
{
    if (!cte_visible(build, range))
        level_table(build, level, range, false);
    else
        item_add(build, level, range->alias ? alias_of(range->alias) : slice_str(range->relname), -1);
}

static void from_subselect(Build *build, Level *level, const PgQuery__RangeSubselect *subselect)
{
    build_trait(build, SHAPE_HAS_SUBQUERY);
    query_read(build, subselect->lateral ? level : level->up, subselect->subquery);
    item_add(build, level, alias_of(subselect->alias), -1);
}

static void from_function(Build *build, Level *level, const PgQuery__Alias *alias,
                          const ProtobufCMessage *function)
{
    build_trait(build, SHAPE_HAS_FUNCTION_IN_FROM);
    facts_read(build, level, function);
    item_add(build, level, alias_of(alias), -1);
}

static FromRange from_sample(Build *build, Level *level, const PgQuery__RangeTableSample *sample)
{
    build_trait(build, SHAPE_HAS_SAMPLE);
    FromRange range = from_item(build, level, sample->relation);
    facts_nodes(build, level, sample->args, sample->n_args);
    facts_node(build, level, sample->repeatable);
    return range;
}

/* Adds what stands in FROM; returns the items added. */
static FromRange from_item(Build *build, Level *level, const PgQuery__Node *node)
{
    FromRange range = {level->item_count, level->item_count};
    if (!node || build->failed)
        return range;
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_RANGE_VAR:
        from_range(build, level, node->range_var);
        break;
    case PG_QUERY__NODE__NODE_RANGE_SUBSELECT:
        from_subselect(build, level, node->range_subselect);
        break;
    case PG_QUERY__NODE__NODE_RANGE_FUNCTION:
        from_function(build, level, node->range_function->alias, tree_inside(node));
        break;
    case PG_QUERY__NODE__NODE_RANGE_TABLE_FUNC:
        from_function(build, level, node->range_table_func->alias, tree_inside(node));
        break;
    case PG_QUERY__NODE__NODE_RANGE_TABLE_SAMPLE:
        return from_sample(build, level, node->range_table_sample);
    case PG_QUERY__NODE__NODE_JOIN_EXPR:
        return from_join(build, level, node->join_expr);
    default: /* nothing that PostgreSQL 15 knows: its tables are listed, its columns unknown */
        facts_node(build, level, node);
        item_add(build, level, slice_of(NULL, 0), -1);
        break;
    }
    range.end = level->item_count;
    return range;
}

/* --- joins --------------------------------------------------------------------------------- */

/* The items whose rows must obey ON. */
static FromRange join_range(const PgQuery__JoinExpr *join, FromRange left, FromRange right)
{
    switch (join->jointype) {
    case PG_QUERY__JOIN_TYPE__JOIN_INNER:
        return (FromRange){left.first, right.end};
    case PG_QUERY__JOIN_TYPE__JOIN_LEFT:
        return right;
    case PG_QUERY__JOIN_TYPE__JOIN_RIGHT:
        return left;
    default:
        return (FromRange){right.end, right.end};
    }
}

/* The items joined are named by the join's alias only. With a list of columns they are renamed too,
 * those of subqueries inside included, which does no harm. */
static void join_alias(Build *build, Level *level, const PgQuery__Alias *alias, FromRange *all,
                       uint32_t first_table)
{
    for (uint32_t i = all->first; i < all->end && !build->failed; i++) {
        level->items[i].hidden = true;
        if (alias->n_colnames)
            level->items[i].table = -1;
    }
    for (uint32_t i = first_table; alias->n_colnames && i < build->shape->table_count; i++)
        build->shape->tables[i].renamed = true;
    item_add(build, level, alias_of(alias), -1);
    level->leaf_count--;
    all->end = level->item_count;
}

static FromRange from_join(Build *build, Level *level, const PgQuery__JoinExpr *join)
{
    uint32_t first_table = build->shape->table_count;
    FromRange left = from_item(build, level, join->larg);
    FromRange right = from_item(build, level, join->rarg);
    bool inner = join->jointype == PG_QUERY__JOIN_TYPE__JOIN_INNER;
    build_trait(build, SHAPE_HAS_JOIN | (inner ? 0 : SHAPE_HAS_OUTER_JOIN));
    level->natural |= join->is_natural;
    join_using(build, level, join, left, right);
    Scope scope = {.build = build,
                   .level = level,
                   .range = join_range(join, left, right),
                   .from = (uint16_t)first_table,
                   .to = (uint16_t)build->shape->table_count,
                   .unqualified = inner};
    condition_read(&scope, join->quals);
    facts_node(build, level, join->quals);
    FromRange all = {left.first, right.end};
    if (join->join_using_alias) {
        item_add(build, level, alias_of(join->join_using_alias), -1);
        level->leaf_count--;
        all.end = level->item_count;
    }
    if (join->alias)
        join_alias(build, level, join->alias, &all, first_table);
    return all;
}

/* The column `name` of one side of a join, when it can be told: the side is one table, or the
 * column was merged there before. */
static Column using_column(const Level *level, FromRange side, Slice name)
{
    Column column = {.kind = COLUMN_UNKNOWN, .level = level, .name = name};
    if (side.end - side.first == 1)
        column.table = level->items[side.first].table;
    else
        column.table = -1;
    for (uint32_t i = level->merged_count; i > 0 && side.end - side.first > 1; i--) {
        const Merged *merged = &level->merged[i - 1];
        if (merged->first >= side.first && merged->end <= side.end &&
            slice_equal(merged->column, name)) {
            column.table = merged->table;
            break;
        }
    }
    for (uint32_t i = side.first; i < side.end && column.table >= 0; i++)
        if (level->items[i].table == column.table) {
            column.kind = COLUMN_OF_TABLE;
            column.item = i;
        }
    return column;
}

static void join_using(Build *build, Level *level, const PgQuery__JoinExpr *join, FromRange left,
                       FromRange right)
{
    Scope scope = {.build = build, .level = level, .range = join_range(join, left, right)};
    for (size_t i = 0; i < join->n_using_clause && !build->failed; i++) {
        Slice name = tree_string(join->using_clause[i]);
        Column l = using_column(level, left, name), r = using_column(level, right, name);
        if (l.kind == COLUMN_OF_TABLE && r.kind == COLUMN_OF_TABLE) {
            join_add(&scope, &l, &r);
            join_add(&scope, &r, &l);
        }
        Merged *merged = build_add(build, build->scratch, &level->merged, &level->merged_count,
                                   sizeof(Merged));
        if (!merged)
            return;
        bool right_kept = join->jointype == PG_QUERY__JOIN_TYPE__JOIN_RIGHT;
        bool unsure = join->jointype == PG_QUERY__JOIN_TYPE__JOIN_FULL;
        *merged = (Merged){.column = name,
                           .table = unsure ? -1 : right_kept ? r.table : l.table,
                           .first = left.first,
                           .end = right.end};
    }
}

/* --- conditions ---------------------------------------------------------------------------- */

void level_where(Build *build, Level *level, const PgQuery__Node *where)
{
    Scope scope = {.build = build,
                   .level = level,
                   .range = {0, level->item_count},
                   .to = UINT16_MAX,
                   .unqualified = true};
    condition_read(&scope, where);
    facts_node(build, level, where);
}

void level_joins(Build *build, Level *level, const PgQuery__Node *on, FromRange range)
{
    Scope scope = {
        .build = build, .level = level, .range = range, .to = UINT16_MAX, .joins_only = true};
    condition_read(&scope, on);
}

static void condition_read(const Scope *scope, const PgQuery__Node *node)
{
    if (!node || scope->build->failed)
        return;
    if (node->node_case == PG_QUERY__NODE__NODE_BOOL_EXPR) {
        const PgQuery__BoolExpr *terms = node->bool_expr;
        if (terms->boolop == PG_QUERY__BOOL_EXPR_TYPE__AND_EXPR)
            for (size_t i = 0; i < terms->n_args; i++)
                condition_read(scope, terms->args[i]);
    } else if (node->node_case == PG_QUERY__NODE__NODE_A_EXPR) {
        if (node->a_expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_OP)
            equality_read(scope, node->a_expr);
        else if (node->a_expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_IN ||
                 node->a_expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_OP_ANY)
            any_read(scope, node->a_expr);
    } else if (node->node_case == PG_QUERY__NODE__NODE_NULL_TEST) {
        const PgQuery__NullTest *test = node->null_test;
        if (test->nulltesttype == PG_QUERY__NULL_TEST_TYPE__IS_NULL && test->arg &&
            test->arg->node_case == PG_QUERY__NODE__NODE_COLUMN_REF)
            build_trait(scope->build, SHAPE_HAS_NULL_KEY_TEST);
    }
}

/* `=` as PostgreSQL finds it, or written OPERATOR(pg_catalog.=); rows compare column by column. */
static void equality_read(const Scope *scope, const PgQuery__AExpr *equality)
{
    ShapeName name = name_borrow(equality->name, equality->n_name);
    const PgQuery__Node *left = equality->lexpr, *right = equality->rexpr;
    if (!slice_is(name.name, "=") || !left || !right)
        return;
    if (name.schema.len && !slice_is(name.schema, "pg_catalog"))
        return;
    if (left->node_case != PG_QUERY__NODE__NODE_ROW_EXPR ||
        right->node_case != PG_QUERY__NODE__NODE_ROW_EXPR) {
        pair_read(scope, left, right, equality->n_name == 1 ? equality : NULL);
        return;
    }
    const PgQuery__RowExpr *l = left->row_expr, *r = right->row_expr;
    for (size_t i = 0; l->n_args == r->n_args && i < l->n_args; i++)
        pair_read(scope, l->args[i], r->args[i], NULL);
}

/* `equality` is NULL when the operator's token is not simply `=` between the two. */
static void pair_read(const Scope *scope, const PgQuery__Node *left, const PgQuery__Node *right,
                      const PgQuery__AExpr *equality)
{
    Column l = column_find(scope->level, left), r = column_find(scope->level, right);
    if (l.ref && r.ref) {
        join_add(scope, &l, &r);
        join_add(scope, &r, &l);
    } else if (l.ref) {
        equal_add(scope, &l, right, equality);
    } else if (r.ref) {
        equal_add(scope, &r, left, NULL);
    }
}

/* Do the rows of the column's table obey conditions of this scope? */
static bool scope_restricts(const Scope *scope, const Column *column)
{
    if (column->level != scope->level)
        return false;
    if (column->kind == COLUMN_OF_TABLE)
        return column->item >= scope->range.first && column->item < scope->range.end;
    return column->kind == COLUMN_SOMEWHERE && scope->unqualified;
}

/* Where the column's tokens stand: name (. name)*. */
static void column_place(const Build *build, const PgQuery__ColumnRef *ref, ShapeEqual *equal)
{
    uint32_t first = token_at(build, ref->location), count = (uint32_t)ref->n_fields * 2 - 1;
    equal->column_token = UINT16_MAX;
    if (first == UINT32_MAX || first + count > build->token_count)
        return;
    for (uint32_t i = 1; i < count; i += 2)
        if (!slice_is(token_text(build->text, build->tokens[first + i]), "."))
            return;
    equal->column_token = token_place(build, first);
    equal->column_token_count = (uint16_t)count;
}

static void equal_add(const Scope *scope, const Column *column, const PgQuery__Node *value,
                      const PgQuery__AExpr *plain)
{
    Build *build = scope->build;
    if (scope->joins_only || !scope_restricts(scope, column))
        return;
    ShapeValue read = value_read(build, value);
    if (read.kind == SHAPE_VALUE_OPAQUE || read.kind == SHAPE_VALUE_DEFAULT)
        return;
    ShapeEqual *equal = build_add(build, build->arena, &build->shape->equals,
                                  &build->shape->equal_count, sizeof(ShapeEqual));
    if (!equal)
        return;
    *equal = (ShapeEqual){.table = column->table,
                          .level = column->level->number,
                          .from = scope->from,
                          .to = scope->to,
                          .column = build_slice(build, column->name),
                          .value = read,
                          .plain = plain != NULL,
                          .operator_token = UINT16_MAX};
    column_place(build, column->ref, equal);
    if (plain)
        equal->operator_token = token_place(build, token_at(build, plain->location));
}

/* The values behind IN, of ARRAY[...], or the one that is an array. */
static bool any_values(Build *build, const PgQuery__AExpr *term, ShapeAny *any)
{
    PgQuery__Node *const *list = NULL;
    size_t n = 0;
    if (term->rexpr->node_case == PG_QUERY__NODE__NODE_LIST) {
        list = term->rexpr->list->items;
        n = term->rexpr->list->n_items;
    } else if (term->rexpr->node_case == PG_QUERY__NODE__NODE_A_ARRAY_EXPR) {
        list = term->rexpr->a_array_expr->elements;
        n = term->rexpr->a_array_expr->n_elements;
    }
    any->array = !list;
    any->value_count = list ? (uint32_t)n : 1;
    any->values = arena_array(build->arena, ShapeValue, any->value_count + 1);
    if (!any->values) {
        build->failed = true;
        return false;
    }
    for (size_t i = 0; i < n; i++)
        any->values[i] = value_read(build, list[i]);
    if (!list)
        any->values[0] = array_value_read(build, term->rexpr);
    return true;
}

/* column IN (...), column = ANY (...); `=` as PostgreSQL finds it. */
static void any_read(const Scope *scope, const PgQuery__AExpr *term)
{
    Build *build = scope->build;
    ShapeName name = name_borrow(term->name, term->n_name);
    if (!slice_is(name.name, "=") || (name.schema.len && !slice_is(name.schema, "pg_catalog")) || !term->lexpr ||
        !term->rexpr)
        return;
    Column column = column_find(scope->level, term->lexpr);
    if (!column.ref || scope->joins_only || !scope_restricts(scope, &column))
        return;
    ShapeAny any = {.table = column.table, .level = column.level->number, .from = scope->from, .to = scope->to};
    if (!any_values(build, term, &any))
        return;
    any.column = build_slice(build, column.name);
    ShapeAny *added = build_add(build, build->arena, &build->shape->anys, &build->shape->any_count, sizeof any);
    if (added)
        *added = any;
}

static void join_add(const Scope *scope, const Column *side, const Column *other)
{
    Build *build = scope->build;
    if (!scope_restricts(scope, side) || other->kind == COLUMN_UNKNOWN)
        return;
    bool same = side->kind == COLUMN_OF_TABLE && other->kind == COLUMN_OF_TABLE &&
                side->table == other->table;
    if (same)
        return;
    ShapeJoin *join = build_add(build, build->arena, &build->shape->joins,
                                &build->shape->join_count, sizeof(ShapeJoin));
    if (join)
        *join = (ShapeJoin){.table = side->table,
                            .other = other->table,
                            .level = side->level->number,
                            .other_level = other->level->number,
                            .from = scope->from,
                            .to = scope->to,
                            .column = build_slice(build, side->name),
                            .other_column = build_slice(build, other->name)};
}

/* --- columns ------------------------------------------------------------------------------- */

/* Without a table's name: the only FROM item, or the table that USING says, or one of several. */
static void column_find_unqualified(const Level *level, Column *column)
{
    for (uint32_t i = level->merged_count; i > 0; i--) {
        const Merged *merged = &level->merged[i - 1];
        if (!slice_equal(merged->column, column->name))
            continue;
        for (uint32_t k = merged->first; k < merged->end && merged->table >= 0; k++)
            if (level->items[k].table == merged->table) {
                column->kind = COLUMN_OF_TABLE;
                column->table = merged->table;
                column->item = k;
            }
        return;
    }
    if (level->natural)
        return;
    for (uint32_t i = 0; i < level->item_count; i++)
        if (level->items[i].table >= 0 && column->kind == COLUMN_UNKNOWN) {
            bool only = level->leaf_count == 1;
            column->kind = only ? COLUMN_OF_TABLE : COLUMN_SOMEWHERE;
            column->table = only ? level->items[i].table : -1;
            column->item = i;
        }
}

/* By alias, or by schema and name; this level first, then those around it. */
static void column_find_qualified(const Level *level, Slice schema, Slice alias, Column *column)
{
    for (; level; level = level->up) {
        for (uint32_t i = 0; i < level->item_count; i++) {
            const FromItem *item = &level->items[i];
            if (item->hidden || !slice_equal(item->alias, alias))
                continue;
            if (schema.len && !slice_equal(item->schema, schema))
                continue;
            column->level = level;
            column->item = i;
            column->table = item->table;
            column->kind = item->table >= 0 ? COLUMN_OF_TABLE : COLUMN_UNKNOWN;
            return;
        }
    }
}

/* `ref` is NULL when the node is no plain column. */
static Column column_find(const Level *level, const PgQuery__Node *node)
{
    Column column = {.kind = COLUMN_UNKNOWN, .table = -1, .level = level};
    if (node->node_case != PG_QUERY__NODE__NODE_COLUMN_REF)
        return column;
    const PgQuery__ColumnRef *ref = node->column_ref;
    size_t n = ref->n_fields;
    Slice name = n > 0 ? tree_string(ref->fields[n - 1]) : slice_of(NULL, 0);
    if (name.len == 0)
        return column; /* a star */
    column.ref = ref;
    column.name = name;
    if (n == 1)
        column_find_unqualified(level, &column);
    else if (n <= 3)
        column_find_qualified(level, n == 3 ? tree_string(ref->fields[0]) : slice_of(NULL, 0),
                              tree_string(ref->fields[n - 2]), &column);
    return column;
}
