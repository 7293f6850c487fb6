/*
 * shape_structure.c - which literals are values, and which belong to the statement's structure.
 *
 *     select name::varchar(10) from t where id = 42 order by 1
 *                          kept                value         kept
 *
 * A literal is a value when the tree has a constant at its place, in an expression. Two texts that
 * differ in values alone have the same tree but for these constants: the scanner's classes decide
 * the grammar's path (int4 and longer integers are different tokens there, so they are different
 * classes here). Kept are lengths of types, positions in ORDER BY, GROUP BY and DISTINCT ON, and
 * whatever is no constant in the tree (float(53), UESCAPE '!'), and all literals of utility
 * statements.
 */
#include "query/shape_build.h"

typedef struct Marks {
    const Build *build;
    uint8_t *value; /* per literal: 1 when it is a value */
} Marks;

static void message_mark(const ProtobufCMessage *message, void *context);

static void const_mark(const Marks *marks, const PgQuery__AConst *constant, uint8_t value)
{
    uint32_t index, end;
    bool negative;
    if (literal_at(marks->build, constant->location, &index, &negative, &end))
        marks->value[index] = value;
}

static void position_unmark(const Marks *marks, const PgQuery__Node *node)
{
    if (node && node->node_case == PG_QUERY__NODE__NODE_A_CONST)
        const_mark(marks, node->a_const, 0);
}

static void unmark_below(const ProtobufCMessage *message, void *context)
{
    if (message->descriptor == &pg_query__a__const__descriptor)
        const_mark(context, (const PgQuery__AConst *)message, 0);
    else
        tree_children(message, unmark_below, context);
}

/* GROUP BY keeps all of its literals: expressions there must be found again in the select list. */
static void select_mark(Marks *marks, const PgQuery__SelectStmt *select)
{
    tree_children(&select->base, message_mark, marks);
    for (size_t i = 0; i < select->n_sort_clause; i++)
        if (select->sort_clause[i]->node_case == PG_QUERY__NODE__NODE_SORT_BY)
            position_unmark(marks, select->sort_clause[i]->sort_by->node);
    for (size_t i = 0; i < select->n_distinct_clause; i++)
        position_unmark(marks, select->distinct_clause[i]);
    for (size_t i = 0; i < select->n_group_clause; i++)
        unmark_below(&select->group_clause[i]->base, marks);
}

static void message_mark(const ProtobufCMessage *message, void *context)
{
    Marks *marks = context;
    if (message->descriptor == &pg_query__a__const__descriptor)
        const_mark(marks, (const PgQuery__AConst *)message, 1);
    else if (message->descriptor == &pg_query__select_stmt__descriptor)
        select_mark(marks, (const PgQuery__SelectStmt *)message);
    else if (message->descriptor != &pg_query__type_name__descriptor)
        tree_children(message, message_mark, context);
}

bool structure_read(const Build *build, const PgQuery__ParseResult *tree, uint32_t **ret_kept,
                    uint32_t *ret_kept_count)
{
    Marks marks = {.build = build,
                   .value = arena_zalloc(build->scratch, MAX(build->literal_count, 1))};
    uint32_t *kept = arena_alloc(build->scratch, MAX(build->literal_count, 1) * sizeof(uint32_t));
    if (!marks.value || !kept)
        return false;
    for (size_t i = 0; i < tree->n_stmts; i++)
        if (statement_has_values(tree->stmts[i]->stmt))
            message_mark(&tree->stmts[i]->stmt->base, &marks);
    uint32_t count = 0;
    for (uint32_t i = 0; i < build->literal_count; i++)
        if (!marks.value[i])
            kept[count++] = i;
    *ret_kept = kept;
    *ret_kept_count = count;
    return true;
}
