/*
 * merge_actions.c - goes through the WHEN clauses.
 */
#include "query/merge_actions.h"

#include "query/grammar.h"
#include "query/tree.h"

static const PgQuery__MergeStmt *merge_parse(Slice text, Arena *arena)
{
    PgQuery__ParseResult *tree;
    char *copy = arena_text(arena, text);
    if (!copy || grammar_parse(copy, arena, &tree) != GRAMMAR_OK || tree->n_stmts != 1 || !tree->stmts[0]->stmt ||
        tree->stmts[0]->stmt->node_case != PG_QUERY__NODE__NODE_MERGE_STMT)
        return NULL;
    return tree->stmts[0]->stmt->merge_stmt;
}

/* The value that this INSERT gives to the key; NULL: its default. */
static const PgQuery__Node *key_value(const PgQuery__MergeWhenClause *when, Slice key, uint32_t position)
{
    size_t at = position;
    if (when->n_target_list)
        for (at = 0; at < when->n_target_list; at++)
            if (slice_equal(slice_str(when->target_list[at]->res_target->name), key))
                break;
    return at < when->n_values ? when->values[at] : NULL;
}

static SourceColumn column_of(const PgQuery__Node *node)
{
    SourceColumn column = {0};
    if (!node || node->node_case != PG_QUERY__NODE__NODE_COLUMN_REF || node->column_ref->n_fields > 2)
        return column;
    const PgQuery__ColumnRef *ref = node->column_ref;
    column.name = tree_string(ref->fields[ref->n_fields - 1]);
    if (ref->n_fields == 2)
        column.qualifier = tree_string(ref->fields[0]);
    return column;
}

bool merge_actions_read(Slice text, Slice key, uint32_t position, Arena *arena, MergeActions *ret)
{
    const PgQuery__MergeStmt *merge = merge_parse(text, arena);
    *ret = (MergeActions){.alike = true};
    for (size_t i = 0; merge && i < merge->n_merge_when_clauses; i++) {
        const PgQuery__MergeWhenClause *when = merge->merge_when_clauses[i]->merge_when_clause;
        if (when->command_type != PG_QUERY__CMD_TYPE__CMD_INSERT)
            continue;
        SourceColumn column = column_of(key_value(when, key, position));
        ret->alike &= column.name.len && (!ret->inserts || (slice_equal(column.name, ret->key.name) &&
                                                            slice_equal(column.qualifier, ret->key.qualifier)));
        ret->key = column;
        ret->inserts = true;
    }
    return merge != NULL;
}
