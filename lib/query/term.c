/*
 * term.c - through the tree and back to text: a WHERE may be anywhere in a text, or nowhere.
 */
#include "query/term.h"

#include "query/grammar.h"
#include "query/tree_build.h"

static PgQuery__Node *parse_one(const char *text, Arena *arena, PgQuery__ParseResult **ret_tree)
{
    PgQuery__ParseResult *tree;
    if (!text || grammar_parse(text, arena, &tree) != GRAMMAR_OK || tree->n_stmts != 1)
        return NULL;
    *ret_tree = tree;
    return tree->stmts[0]->stmt;
}

/* The term as a node: of a statement that has nothing else. */
static PgQuery__Node *term_parse(const char *term, Arena *arena)
{
    PgQuery__ParseResult *tree;
    PgQuery__Node *node = parse_one(arena_printf(arena, "SELECT WHERE %s", term), arena, &tree);
    return node && node->node_case == PG_QUERY__NODE__NODE_SELECT_STMT ? node->select_stmt->where_clause : NULL;
}

static bool where_add(Maker *maker, PgQuery__Node **where, PgQuery__Node *term)
{
    PgQuery__Node **both = arena_array(maker->arena, PgQuery__Node *, 2);
    if (!both || (*where && (*where)->node_case == PG_QUERY__NODE__NODE_CURRENT_OF_EXPR))
        return false;
    both[0] = *where ? *where : term;
    both[1] = term;
    *where = make_and(maker, both, both[0] == term ? 1 : 2);
    return *where != NULL;
}

/* (a JOIN b ON ...) AS j: only j can be named outside of it. */
static bool hides(const PgQuery__Node *from)
{
    if (!from || from->node_case != PG_QUERY__NODE__NODE_JOIN_EXPR)
        return false;
    const PgQuery__JoinExpr *join = from->join_expr;
    return join->alias || hides(join->larg) || hides(join->rarg);
}

static bool select_add(Maker *maker, PgQuery__SelectStmt *select, PgQuery__Node *term)
{
    if (select->op != PG_QUERY__SET_OPERATION__SETOP_NONE || select->n_values_lists)
        return false;
    for (size_t i = 0; i < select->n_from_clause; i++)
        if (hides(select->from_clause[i]))
            return false;
    return where_add(maker, &select->where_clause, term);
}

/* COPY t (a, b) TO: as COPY (SELECT a, b FROM ONLY t) TO, which copies the same rows. */
static bool copy_query(Maker *maker, PgQuery__CopyStmt *copy, const char *columns)
{
    PgQuery__ParseResult *tree;
    PgQuery__Node *query =
        parse_one(arena_printf(maker->arena, "SELECT %s FROM ONLY t", columns ? columns : "*"), maker->arena, &tree);
    if (!query || query->node_case != PG_QUERY__NODE__NODE_SELECT_STMT)
        return false;
    PgQuery__SelectStmt *select = query->select_stmt;
    PgQuery__RangeVar *table = select->from_clause[0]->range_var;
    table->schemaname = copy->relation->schemaname;
    table->relname = copy->relation->relname;
    size_t count = 0;
    for (size_t i = 0; i < copy->n_attlist; i++) {
        if (i == 0)
            select->target_list = NULL;
        PgQuery__Node *name = copy->attlist[i];
        list_add(maker, &select->target_list, &count,
                 make_target(maker, NULL, make_column(maker, NULL, name->string->sval)));
        select->n_target_list = count;
    }
    copy->query = query;
    copy->relation = NULL;
    copy->n_attlist = 0;
    return !maker->failed;
}

static bool copy_add(Maker *maker, PgQuery__CopyStmt *copy, PgQuery__Node *term, const char *columns)
{
    if (copy->is_from || (copy->relation && !copy_query(maker, copy, columns)))
        return false;
    PgQuery__Node *query = copy->query;
    return query && query->node_case == PG_QUERY__NODE__NODE_SELECT_STMT &&
           select_add(maker, query->select_stmt, term);
}

/* Of all that MERGE does: a row that the term keeps out finds no WHEN that would do something. */
static bool merge_add(Maker *maker, PgQuery__MergeStmt *merge, PgQuery__Node *term)
{
    for (size_t i = 0; i < merge->n_merge_when_clauses; i++) {
        PgQuery__Node *node = merge->merge_when_clauses[i];
        if (node->node_case != PG_QUERY__NODE__NODE_MERGE_WHEN_CLAUSE)
            return false;
        PgQuery__MergeWhenClause *when = node->merge_when_clause;
        if (when->command_type != PG_QUERY__CMD_TYPE__CMD_NOTHING && !where_add(maker, &when->condition, term))
            return false;
    }
    return merge->n_merge_when_clauses > 0;
}

Slice term_add(Slice text, const char *term, const char *columns, Arena *arena)
{
    Maker maker = {.arena = arena};
    PgQuery__ParseResult *tree = NULL;
    PgQuery__Node *node = parse_one(arena_text(arena, text), arena, &tree), *extra = term_parse(term, arena);
    bool ok = false;
    if (!node || !extra)
        return slice_of(NULL, 0);
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_SELECT_STMT:
        ok = select_add(&maker, node->select_stmt, extra);
        break;
    case PG_QUERY__NODE__NODE_UPDATE_STMT:
        ok = where_add(&maker, &node->update_stmt->where_clause, extra);
        break;
    case PG_QUERY__NODE__NODE_DELETE_STMT:
        ok = where_add(&maker, &node->delete_stmt->where_clause, extra);
        break;
    case PG_QUERY__NODE__NODE_MERGE_STMT:
        ok = merge_add(&maker, node->merge_stmt, extra);
        break;
    case PG_QUERY__NODE__NODE_COPY_STMT:
        ok = copy_add(&maker, node->copy_stmt, extra, columns);
        break;
    default:
        break;
    }
    return ok && !maker.failed ? grammar_deparse(tree, arena) : slice_of(NULL, 0);
}
