/*
 * shape_query.c - SELECT, INSERT, UPDATE, DELETE, MERGE: each opens a Level and reads its clauses.
 *
 *     with w as (select ... from t)           level 1: t      (named w for what follows)
 *     select * from a join b on ...           level 0: a, b
 *     where exists (select 1 from c ...)      level 2: c, may name a and b
 *
 * A set operation is a level without tables, its branches are levels of their own.
 */
#include "query/shape_build.h"

static void with_read(Build *build, const Level *level, const PgQuery__WithClause *with);
static void select_traits(Build *build, const PgQuery__SelectStmt *select);
static void insert_read(Build *build, const Level *up, const PgQuery__InsertStmt *insert);
static void insert_source(Build *build, const Level *level, const PgQuery__InsertStmt *insert);
static void insert_rows(Build *build, const PgQuery__InsertStmt *insert,
                        const PgQuery__SelectStmt *values);
static void conflict_read(Build *build, const Level *level, const PgQuery__OnConflictClause *conflict);
static void update_read(Build *build, const Level *up, const PgQuery__UpdateStmt *update);
static void delete_read(Build *build, const Level *up, const PgQuery__DeleteStmt *stmt);
static void merge_read(Build *build, const Level *up, const PgQuery__MergeStmt *merge);
static void assigned_read(Build *build, PgQuery__Node *const *targets, size_t n);
static void returning_read(Build *build, const Level *level, PgQuery__Node *const *list, size_t n);

void query_read(Build *build, const Level *up, const PgQuery__Node *node)
{
    if (!node || build->failed)
        return;
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_SELECT_STMT:
        select_read(build, up, node->select_stmt);
        break;
    case PG_QUERY__NODE__NODE_INSERT_STMT:
        insert_read(build, up, node->insert_stmt);
        break;
    case PG_QUERY__NODE__NODE_UPDATE_STMT:
        update_read(build, up, node->update_stmt);
        break;
    case PG_QUERY__NODE__NODE_DELETE_STMT:
        delete_read(build, up, node->delete_stmt);
        break;
    case PG_QUERY__NODE__NODE_MERGE_STMT:
        merge_read(build, up, node->merge_stmt);
        break;
    default:
        facts_node(build, up, node);
        break;
    }
}

void select_read(Build *build, const Level *up, const PgQuery__SelectStmt *select)
{
    Level level;
    const CteName *ctes = build->ctes; /* what WITH adds is visible in here only */
    level_begin(build, &level, up);
    with_read(build, &level, select->with_clause);
    select_traits(build, select);
    if (select->larg)
        select_read(build, up, select->larg);
    if (select->rarg)
        select_read(build, up, select->rarg);
    level_from(build, &level, select->from_clause, select->n_from_clause);
    level_where(build, &level, select->where_clause);
    if (select->into_clause)
        facts_read(build, &level, &select->into_clause->base);
    facts_nodes(build, &level, select->distinct_clause, select->n_distinct_clause);
    facts_nodes(build, &level, select->target_list, select->n_target_list);
    facts_nodes(build, &level, select->group_clause, select->n_group_clause);
    facts_node(build, &level, select->having_clause);
    facts_nodes(build, &level, select->window_clause, select->n_window_clause);
    facts_nodes(build, &level, select->values_lists, select->n_values_lists);
    facts_nodes(build, &level, select->sort_clause, select->n_sort_clause);
    facts_node(build, &level, select->limit_offset);
    facts_node(build, &level, select->limit_count);
    facts_nodes(build, &level, select->locking_clause, select->n_locking_clause);
    build->ctes = ctes;
}

static bool limit_is_all(const PgQuery__Node *limit)
{
    return limit->node_case == PG_QUERY__NODE__NODE_A_CONST && limit->a_const->isnull;
}

static void select_traits(Build *build, const PgQuery__SelectStmt *select)
{
    uint32_t traits = 0;
    traits |= select->larg ? SHAPE_HAS_SETOP : 0;
    traits |= select->n_group_clause || select->having_clause ? SHAPE_HAS_GROUP : 0;
    traits |= select->n_distinct_clause ? SHAPE_HAS_DISTINCT : 0;
    traits |= select->n_sort_clause ? SHAPE_HAS_ORDER : 0;
    traits |= select->limit_count && !limit_is_all(select->limit_count) ? SHAPE_HAS_LIMIT : 0;
    traits |= select->limit_offset ? SHAPE_HAS_OFFSET : 0;
    traits |= select->n_window_clause ? SHAPE_HAS_WINDOW : 0;
    build_trait(build, traits);
}

static void cte_push(Build *build, const PgQuery__CommonTableExpr *cte)
{
    CteName *name = arena_alloc(build->scratch, sizeof(CteName));
    if (!name) {
        build->failed = true;
        return;
    }
    *name = (CteName){.name = slice_str(cte->ctename), .up = build->ctes};
    build->ctes = name;
}

/* Names become visible to what follows; with RECURSIVE to all of the list. The caller takes them
 * away again. */
static void with_read(Build *build, const Level *level, const PgQuery__WithClause *with)
{
    if (!with)
        return;
    build_trait(build, SHAPE_HAS_CTE);
    for (size_t i = 0; with->recursive && i < with->n_ctes; i++)
        cte_push(build, with->ctes[i]->common_table_expr);
    for (size_t i = 0; i < with->n_ctes; i++) {
        const PgQuery__CommonTableExpr *cte = with->ctes[i]->common_table_expr;
        if (cte->ctequery && cte->ctequery->node_case != PG_QUERY__NODE__NODE_SELECT_STMT)
            build_trait(build, SHAPE_HAS_MODIFYING_CTE);
        query_read(build, level->up, cte->ctequery);
        if (cte->cycle_clause)
            facts_read(build, level, &cte->cycle_clause->base);
        if (!with->recursive)
            cte_push(build, cte);
    }
}

/* --- INSERT -------------------------------------------------------------------------------- */

static void insert_read(Build *build, const Level *up, const PgQuery__InsertStmt *insert)
{
    Level level;
    const CteName *ctes = build->ctes;
    level_begin(build, &level, up);
    with_read(build, &level, insert->with_clause);
    if (insert->relation)
        level_table(build, &level, insert->relation, true);
    insert_source(build, &level, insert);
    facts_nodes(build, &level, insert->cols, insert->n_cols);
    conflict_read(build, &level, insert->on_conflict_clause);
    returning_read(build, &level, insert->returning_list, insert->n_returning_list);
    build->ctes = ctes;
}

/* Plain VALUES: nothing about it but rows. */
static bool select_is_values(const PgQuery__SelectStmt *select)
{
    return select->n_values_lists && !select->n_sort_clause && !select->limit_count &&
           !select->limit_offset && !select->with_clause && !select->n_locking_clause;
}

static void insert_source(Build *build, const Level *level, const PgQuery__InsertStmt *insert)
{
    bool outermost = level->number == 0;
    if (!insert->select_stmt) {
        if (outermost)
            build->shape->insert.rows = 1; /* DEFAULT VALUES: no column is named */
        return;
    }
    if (insert->select_stmt->node_case != PG_QUERY__NODE__NODE_SELECT_STMT)
        return;
    const PgQuery__SelectStmt *select = insert->select_stmt->select_stmt;
    if (outermost)
        insert_rows(build, insert, select);
    select_read(build, level->up, select);
}

static void insert_columns(Build *build, const PgQuery__InsertStmt *insert)
{
    ShapeInsert *shape = &build->shape->insert;
    if (!insert->n_cols)
        return;
    shape->columns = arena_array(build->arena, Slice, insert->n_cols);
    shape->column_count = (uint32_t)insert->n_cols;
    for (size_t i = 0; shape->columns && i < insert->n_cols; i++)
        shape->columns[i] = build_text(build, insert->cols[i]->res_target->name);
    build->failed = build->failed || !shape->columns;
}

/* Rows of different length are an error for PostgreSQL; here they count as no rows known. */
static void insert_rows(Build *build, const PgQuery__InsertStmt *insert,
                        const PgQuery__SelectStmt *values)
{
    ShapeInsert *shape = &build->shape->insert;
    insert_columns(build, insert);
    /* OVERRIDING USER VALUE: an identity column takes its sequence's value, not the one given. */
    bool user = insert->override == PG_QUERY__OVERRIDING_KIND__OVERRIDING_USER_VALUE;
    if (!select_is_values(values) || user || build->failed)
        return;
    size_t rows = values->n_values_lists;
    size_t width = shape->column_count ? shape->column_count : values->values_lists[0]->list->n_items;
    for (size_t r = 0; r < rows; r++)
        if (values->values_lists[r]->list->n_items != width)
            return;
    shape->values = arena_array(build->arena, ShapeValue, MAX(rows * width, 1));
    if (!shape->values) {
        build->failed = true;
        return;
    }
    shape->rows = (uint32_t)rows;
    shape->column_count = (uint32_t)width;
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < width; i++)
            shape->values[r * width + i] = value_read(build, values->values_lists[r]->list->items[i]);
}

static void conflict_read(Build *build, const Level *level, const PgQuery__OnConflictClause *conflict)
{
    if (!conflict)
        return;
    build_trait(build, SHAPE_HAS_ON_CONFLICT);
    assigned_read(build, conflict->target_list, conflict->n_target_list);
    facts_read(build, level, &conflict->base);
}

/* --- UPDATE, DELETE, MERGE ----------------------------------------------------------------- */

static void cursor_read(Build *build, const PgQuery__Node *where)
{
    if (where && where->node_case == PG_QUERY__NODE__NODE_CURRENT_OF_EXPR)
        build->shape->statement = build_text(build, where->current_of_expr->cursor_name);
}

static void update_read(Build *build, const Level *up, const PgQuery__UpdateStmt *update)
{
    Level level;
    const CteName *ctes = build->ctes;
    level_begin(build, &level, up);
    with_read(build, &level, update->with_clause);
    if (update->relation)
        level_table(build, &level, update->relation, true);
    level_from(build, &level, update->from_clause, update->n_from_clause);
    level_where(build, &level, update->where_clause);
    cursor_read(build, update->where_clause);
    assigned_read(build, update->target_list, update->n_target_list);
    facts_nodes(build, &level, update->target_list, update->n_target_list);
    returning_read(build, &level, update->returning_list, update->n_returning_list);
    build->ctes = ctes;
}

static void delete_read(Build *build, const Level *up, const PgQuery__DeleteStmt *stmt)
{
    Level level;
    const CteName *ctes = build->ctes;
    level_begin(build, &level, up);
    with_read(build, &level, stmt->with_clause);
    if (stmt->relation)
        level_table(build, &level, stmt->relation, true);
    level_from(build, &level, stmt->using_clause, stmt->n_using_clause);
    level_where(build, &level, stmt->where_clause);
    cursor_read(build, stmt->where_clause);
    returning_read(build, &level, stmt->returning_list, stmt->n_returning_list);
    build->ctes = ctes;
}

/* ON restricts the target's rows that are touched, but not those that are inserted: it gives joins
 * of the target, and no equals. */
static void merge_read(Build *build, const Level *up, const PgQuery__MergeStmt *merge)
{
    Level level;
    const CteName *ctes = build->ctes;
    level_begin(build, &level, up);
    with_read(build, &level, merge->with_clause);
    if (merge->relation)
        level_table(build, &level, merge->relation, true);
    PgQuery__Node *source = merge->source_relation;
    if (source)
        level_from(build, &level, &source, 1);
    level_joins(build, &level, merge->join_condition, (FromRange){0, 1});
    facts_node(build, &level, merge->join_condition);
    for (size_t i = 0; i < merge->n_merge_when_clauses; i++) {
        const PgQuery__MergeWhenClause *when = merge->merge_when_clauses[i]->merge_when_clause;
        if (when->command_type == PG_QUERY__CMD_TYPE__CMD_UPDATE)
            assigned_read(build, when->target_list, when->n_target_list);
        facts_read(build, &level, &when->base);
    }
    build->ctes = ctes;
}

static void assigned_read(Build *build, PgQuery__Node *const *targets, size_t n)
{
    Shape *shape = build->shape;
    for (size_t i = 0; i < n; i++) {
        if (targets[i]->node_case != PG_QUERY__NODE__NODE_RES_TARGET)
            continue;
        Slice *column = build_add(build, build->arena, &shape->assigned, &shape->assigned_count,
                                  sizeof(Slice));
        if (column)
            *column = build_text(build, targets[i]->res_target->name);
    }
}

static void returning_read(Build *build, const Level *level, PgQuery__Node *const *list, size_t n)
{
    if (n > 0)
        build_trait(build, SHAPE_HAS_RETURNING);
    facts_nodes(build, level, list, n);
}
