/*
 * merge_columns.c - goes through FROM, WITH and stars as far as they are certain.
 */
#include "query/merge_columns.h"

#include "query/tree.h"

#define COLUMNS_MAX 1600 /* as in PostgreSQL */
#define DEPTH_MAX   8

typedef struct Reading {
    const MergeTables *tables;
    Arena *arena;
    Slice names[COLUMNS_MAX];
    uint32_t count;
    const char *why;
} Reading;

/* The names of WITH that are visible: its first `count`. */
typedef struct Scope {
    const PgQuery__WithClause *with;
    size_t count;
} Scope;

static bool refuse(Reading *r, const char *why)
{
    r->why = why;
    return false;
}

/* ---- names of columns --------------------------------------------------------------------------------- */

static bool columns_of_select(Reading *r, const PgQuery__SelectStmt *select, Scope scope, int depth);
static bool columns_of_item(Reading *r, const PgQuery__Node *item, Scope scope, int depth);

static bool name_add(Reading *r, Slice name)
{
    if (r->count == COLUMNS_MAX)
        return refuse(r, "Its source has too many columns.");
    r->names[r->count++] = name;
    return true;
}

static Slice last_string(PgQuery__Node *const *names, size_t n)
{
    return n ? tree_string(names[n - 1]) : (Slice){0};
}

/* PostgreSQL's FigureColname, for what is common. Empty: another one. *ret_weak: a cast around it names it anew. */
static Slice figured_name(const PgQuery__Node *node, bool *ret_weak)
{
    Slice name;
    *ret_weak = false;
    if (!node)
        return (Slice){0};
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_COLUMN_REF:
        return last_string(node->column_ref->fields, node->column_ref->n_fields);
    case PG_QUERY__NODE__NODE_FUNC_CALL:
        return last_string(node->func_call->funcname, node->func_call->n_funcname);
    case PG_QUERY__NODE__NODE_TYPE_CAST:
        name = figured_name(node->type_cast->arg, ret_weak);
        return *ret_weak ? last_string(node->type_cast->type_name->names, node->type_cast->type_name->n_names) : name;
    case PG_QUERY__NODE__NODE_COLLATE_CLAUSE:
        return figured_name(node->collate_clause->arg, ret_weak);
    case PG_QUERY__NODE__NODE_COALESCE_EXPR:
        return SLICE("coalesce");
    case PG_QUERY__NODE__NODE_MIN_MAX_EXPR:
        return node->min_max_expr->op == PG_QUERY__MIN_MAX_OP__IS_GREATEST ? SLICE("greatest") : SLICE("least");
    case PG_QUERY__NODE__NODE_A_ARRAY_EXPR:
        return SLICE("array");
    case PG_QUERY__NODE__NODE_A_EXPR:
        if (node->a_expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_NULLIF)
            return SLICE("nullif");
        *ret_weak = true;
        return SLICE("?column?");
    case PG_QUERY__NODE__NODE_A_CONST:
    case PG_QUERY__NODE__NODE_PARAM_REF:
        *ret_weak = true;
        return SLICE("?column?");
    default:
        return (Slice){0};
    }
}

static Slice name_of(const PgQuery__Node *node)
{
    bool weak;
    return figured_name(node, &weak);
}

static bool is_star(const PgQuery__Node *node)
{
    return node && node->node_case == PG_QUERY__NODE__NODE_COLUMN_REF && node->column_ref->n_fields &&
           node->column_ref->fields[node->column_ref->n_fields - 1]->node_case == PG_QUERY__NODE__NODE_A_STAR;
}

static bool columns_of_values(Reading *r, const PgQuery__SelectStmt *select)
{
    size_t width = select->values_lists[0]->list->n_items;
    for (size_t i = 0; i < width; i++) {
        char *name = arena_printf(r->arena, "column%zu", i + 1);
        if (!name || !name_add(r, slice_str(name)))
            return refuse(r, "Its source has too many columns.");
    }
    return true;
}

/* Those of a star: of the only item in FROM. */
static bool columns_of_star(Reading *r, const PgQuery__SelectStmt *select, Scope scope, int depth)
{
    if (select->n_from_clause != 1)
        return refuse(r, "Which columns * means in its source is not certain.");
    return columns_of_item(r, select->from_clause[0], scope, depth + 1);
}

static bool columns_of_select(Reading *r, const PgQuery__SelectStmt *select, Scope scope, int depth)
{
    if (depth > DEPTH_MAX)
        return refuse(r, "Its source is nested too deep.");
    if (select->n_values_lists)
        return columns_of_values(r, select);
    if (select->op != PG_QUERY__SET_OPERATION__SETOP_NONE)
        return columns_of_select(r, select->larg, scope, depth + 1);
    bool both = select->with_clause && scope.with; /* a name could be of either */
    if (select->with_clause)
        scope = (Scope){select->with_clause, select->with_clause->n_ctes};
    for (size_t i = 0; i < select->n_target_list; i++) {
        const PgQuery__ResTarget *target = select->target_list[i]->res_target;
        if (both && is_star(target->val))
            return refuse(r, "Which columns * means in its source is not certain.");
        if (is_star(target->val) ? !columns_of_star(r, select, scope, depth)
                                 : !name_add(r, target->name && *target->name ? slice_str(target->name) : name_of(target->val)))
            return false;
    }
    return r->count > 0 || refuse(r, "Its source has no columns.");
}

/* The first columns have names of their own: AS s (a, b). */
static bool rename_columns(Reading *r, uint32_t from, PgQuery__Node *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (from + i >= r->count)
            return refuse(r, "Its source has fewer columns than its alias names.");
        r->names[from + i] = tree_string(names[i]);
    }
    return true;
}

/* Which of them it is; as many as there are: none. */
static size_t cte_named(Scope scope, const char *name)
{
    size_t at = 0;
    while (at < scope.count && !slice_equal(slice_str(scope.with->ctes[at]->common_table_expr->ctename), slice_str(name)))
        at++;
    return at;
}

/* In its query those before it are visible; with RECURSIVE all. */
static bool columns_of_cte(Reading *r, Scope scope, size_t at, int depth)
{
    const PgQuery__CommonTableExpr *cte = scope.with->ctes[at]->common_table_expr;
    Scope inside = {scope.with, scope.with->recursive ? scope.with->n_ctes : at};
    uint32_t from = r->count;
    if (cte->ctequery->node_case != PG_QUERY__NODE__NODE_SELECT_STMT || cte->search_clause || cte->cycle_clause)
        return refuse(r, "Which columns its WITH gives is not certain.");
    return columns_of_select(r, cte->ctequery->select_stmt, inside, depth + 1) &&
           rename_columns(r, from, cte->aliascolnames, cte->n_aliascolnames);
}

static bool columns_of_table(Reading *r, const PgQuery__RangeVar *table, Scope scope, int depth)
{
    bool bare = !table->schemaname || !*table->schemaname;
    uint32_t count = 0;
    size_t at = bare ? cte_named(scope, table->relname) : scope.count;
    if (at < scope.count)
        return columns_of_cte(r, scope, at, depth);
    const Slice *columns =
        r->tables->columns(r->tables->context, bare ? (Slice){0} : slice_str(table->schemaname), slice_str(table->relname), &count);
    for (uint32_t i = 0; columns && i < count; i++)
        if (!name_add(r, columns[i]))
            return false;
    return columns ? true : refuse(r, "A table of its source is not known.");
}

static bool columns_of_item(Reading *r, const PgQuery__Node *item, Scope scope, int depth)
{
    uint32_t from = r->count;
    const PgQuery__Alias *alias = NULL;
    bool known = false;
    if (depth > DEPTH_MAX)
        return refuse(r, "Its source is nested too deep.");
    if (item->node_case == PG_QUERY__NODE__NODE_RANGE_VAR) {
        alias = item->range_var->alias;
        known = columns_of_table(r, item->range_var, scope, depth);
    } else if (item->node_case == PG_QUERY__NODE__NODE_RANGE_SUBSELECT) {
        alias = item->range_subselect->alias;
        known = columns_of_select(r, item->range_subselect->subquery->select_stmt, scope, depth + 1);
    } else if (item->node_case == PG_QUERY__NODE__NODE_RANGE_FUNCTION) {
        /* What a function gives is named by its alias, or not known. */
        alias = item->range_function->alias;
        for (size_t i = 0; alias && i < alias->n_colnames; i++)
            if (!name_add(r, tree_string(alias->colnames[i])))
                return false;
        for (size_t i = 0; i < item->range_function->n_coldeflist; i++)
            if (!name_add(r, slice_str(item->range_function->coldeflist[i]->column_def->colname)))
                return false;
        return r->count > from || refuse(r, "Which columns a function gives its source is not certain.");
    }
    if (!known)
        return r->why ? false : refuse(r, "Its source is neither a table, a subquery, VALUES nor a function.");
    return !alias || rename_columns(r, from, alias->colnames, alias->n_colnames);
}

bool merge_columns_read(const MergeTables *tables, const PgQuery__MergeStmt *merge, Arena *arena, Slice **ret_names,
                        uint32_t *ret_count, const char **why)
{
    Reading *r = arena_new(arena, Reading);
    Scope scope = {merge->with_clause, merge->with_clause ? merge->with_clause->n_ctes : 0};
    if (!r)
        return false;
    *r = (Reading){.tables = tables, .arena = arena};
    bool known = columns_of_item(r, merge->source_relation, scope, 0);
    for (uint32_t i = 0; known && i < r->count; i++)
        known = r->names[i].len || refuse(r, "A column of its source has no name that is certain.");
    if (r->why)
        *why = r->why;
    *ret_names = known ? arena_array(arena, Slice, r->count + 1) : NULL;
    if (!*ret_names)
        return false;
    memcpy(*ret_names, r->names, r->count * sizeof *r->names);
    *ret_count = r->count;
    return true;
}
