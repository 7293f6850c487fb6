/*
 * insert_source.c - works on the tree, so that no word of an identifier is taken for a clause.
 */
#include "query/insert_source.h"

#include <stdio.h>
#include <string.h>

#include "core/buf.h"
#include "query/grammar.h"
#include "query/tree.h"
#include "query/tree_build.h"

#define ROWS_TEXT_MAX ((size_t)1 << 20)

static PgQuery__Node *only_statement(Slice text, Arena *arena)
{
    PgQuery__ParseResult *tree;
    char *copy = arena_text(arena, text);
    if (!copy || grammar_parse(copy, arena, &tree) != GRAMMAR_OK || tree->n_stmts != 1)
        return NULL;
    return tree->stmts[0]->stmt;
}

static PgQuery__Node *insert_node(Slice text, Arena *arena)
{
    PgQuery__Node *node = only_statement(text, arena);
    return node && node->node_case == PG_QUERY__NODE__NODE_INSERT_STMT ? node : NULL;
}

static Slice node_text(PgQuery__Node *node, Arena *arena)
{
    PgQuery__ParseResult result = PG_QUERY__PARSE_RESULT__INIT;
    PgQuery__RawStmt raw = PG_QUERY__RAW_STMT__INIT;
    PgQuery__RawStmt *list[1] = {&raw};
    raw.stmt = node;
    result.stmts = list;
    result.n_stmts = 1;
    return grammar_deparse(&result, arena);
}

/* ---- what stands behind the source ---------------------------------------------------------------- */

typedef struct TailFacts {
    bool params, subqueries;
} TailFacts;

static void tail_look(const ProtobufCMessage *message, void *context)
{
    TailFacts *facts = context;
    facts->params |= message->descriptor == &pg_query__param_ref__descriptor;
    facts->subqueries |= message->descriptor == &pg_query__sub_link__descriptor;
    tree_children(message, tail_look, facts);
}

static void tail_read(const PgQuery__InsertStmt *insert, InsertSource *ret)
{
    TailFacts conflict = {0}, returning = {0};
    if (insert->on_conflict_clause)
        tail_look(&insert->on_conflict_clause->base, &conflict);
    for (size_t i = 0; i < insert->n_returning_list; i++)
        tail_look(&insert->returning_list[i]->base, &returning);
    ret->on_conflict = insert->on_conflict_clause != NULL;
    ret->returning = insert->n_returning_list > 0;
    ret->conflict_params = conflict.params;
    ret->returning_params = returning.params;
    ret->reads_more = conflict.subqueries || returning.subqueries;
    ret->user_value = insert->override == PG_QUERY__OVERRIDING_KIND__OVERRIDING_USER_VALUE;
}

/* ---- the source ------------------------------------------------------------------------------------- */

static bool is_star(const PgQuery__Node *node)
{
    return node->node_case == PG_QUERY__NODE__NODE_COLUMN_REF && node->column_ref->n_fields &&
           node->column_ref->fields[node->column_ref->n_fields - 1]->node_case == PG_QUERY__NODE__NODE_A_STAR;
}

static SourceColumn column_of(const PgQuery__Node *target)
{
    const PgQuery__Node *value = target->res_target->val;
    SourceColumn column = {0};
    if (!value || value->node_case != PG_QUERY__NODE__NODE_COLUMN_REF || value->column_ref->n_fields > 2)
        return column;
    const PgQuery__ColumnRef *ref = value->column_ref;
    column.name = tree_string(ref->fields[ref->n_fields - 1]);
    if (ref->n_fields == 2)
        column.qualifier = tree_string(ref->fields[0]);
    return column;
}

static bool columns_read(const PgQuery__SelectStmt *select, Arena *arena, InsertSource *ret)
{
    size_t count = select->n_target_list;
    if (select->op != PG_QUERY__SET_OPERATION__SETOP_NONE)
        return true;
    if (count == 1 && is_star(select->target_list[0]->res_target->val)) {
        ret->star = select->n_from_clause == 1 &&
                    select->from_clause[0]->node_case == PG_QUERY__NODE__NODE_RANGE_VAR;
        return true;
    }
    for (size_t i = 0; i < count; i++)
        if (is_star(select->target_list[i]->res_target->val))
            return true;
    ret->columns = arena_array(arena, SourceColumn, count + 1);
    for (size_t i = 0; ret->columns && i < count; i++)
        ret->columns[i] = column_of(select->target_list[i]);
    ret->column_count = (uint32_t)count;
    return ret->columns != NULL;
}

/* The WITH of the INSERT belongs to the source: nothing else may name what is in it, but for subqueries
 * in its tail (reads_more). False: both have one. */
static bool with_move(PgQuery__InsertStmt *insert)
{
    if (!insert->with_clause)
        return true;
    if (!insert->select_stmt || insert->select_stmt->select_stmt->with_clause)
        return false;
    insert->select_stmt->select_stmt->with_clause = insert->with_clause;
    insert->with_clause = NULL;
    return true;
}

static bool has_parts(const PgQuery__InsertStmt *insert)
{
    for (size_t i = 0; i < insert->n_cols; i++)
        if (insert->cols[i]->res_target->n_indirection)
            return true; /* t (a[1], b.c) */
    return false;
}

static PgQuery__Node *star_target(Maker *maker)
{
    PgQuery__Node *column = make_column(maker, NULL, "x");
    PgQuery__Node *star = arena_new(maker->arena, PgQuery__Node);
    PgQuery__AStar *inside = arena_new(maker->arena, PgQuery__AStar);
    if (!column || !star || !inside)
        return NULL;
    pg_query__a__star__init(inside);
    pg_query__node__init(star);
    star->node_case = PG_QUERY__NODE__NODE_A_STAR;
    star->a_star = inside;
    column->column_ref->fields[0] = star;
    return make_target(maker, NULL, column);
}

bool insert_source_read(Slice text, Arena *arena, InsertSource *ret)
{
    PgQuery__Node *node = insert_node(text, arena);
    Maker maker = {.arena = arena};
    *ret = (InsertSource){0};
    if (!node || has_parts(node->insert_stmt))
        return false;
    PgQuery__InsertStmt *insert = node->insert_stmt;
    tail_read(insert, ret);
    if (!with_move(insert))
        return false;
    if (insert->select_stmt) {
        const PgQuery__SelectStmt *select = insert->select_stmt->select_stmt;
        ret->plain = select->n_values_lists > 0;
        ret->text = node_text(insert->select_stmt, arena);
        if (!ret->text.len || (!ret->plain && !columns_read(select, arena, ret)))
            return false;
    } else {
        ret->plain = true;
    }
    PgQuery__Node *star = star_target(&maker);
    insert->returning_list = &star;
    insert->n_returning_list = 1;
    ret->probe = star ? node_text(node, arena) : (Slice){0};
    return ret->probe.len > 0;
}

/* ---- rows given as an array ---------------------------------------------------------------------------- */

Slice insert_quote(Slice name, Arena *arena)
{
    uint8_t *out = arena_alloc(arena, 2 * name.len + 3);
    size_t len = 0;
    if (!out)
        return (Slice){0};
    out[len++] = '"';
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] == '"')
            out[len++] = '"';
        out[len++] = name.data[i];
    }
    out[len++] = '"';
    return slice_of(out, len);
}

/* SELECT shoal_rows."a", shoal_rows."b" FROM unnest($1::"s"."t"[]) AS shoal_rows */
static PgQuery__Node *rows_select(Slice schema, Slice table, const Slice *columns, uint32_t count, uint32_t param,
                                  Arena *arena)
{
    Buf sql;
    char number[32];
    buf_init(&sql, ROWS_TEXT_MAX);
    buf_append(&sql, SLICE("SELECT "));
    for (uint32_t i = 0; i < count; i++) {
        buf_append(&sql, i ? SLICE(", shoal_rows.") : SLICE("shoal_rows."));
        buf_append(&sql, insert_quote(columns[i], arena));
    }
    snprintf(number, sizeof number, " FROM unnest($%u::", param);
    buf_append(&sql, slice_str(number));
    buf_append(&sql, insert_quote(schema, arena));
    buf_append(&sql, SLICE("."));
    buf_append(&sql, insert_quote(table, arena));
    buf_append(&sql, SLICE("[]) AS shoal_rows"));
    PgQuery__Node *node = sql.failed ? NULL : only_statement(buf_bytes(&sql), arena);
    buf_finish(&sql);
    return node;
}

Slice insert_rows_text(Slice text, Slice schema, Slice table, const Slice *columns, uint32_t column_count,
                       uint32_t param, Arena *arena)
{
    PgQuery__Node *node = insert_node(text, arena);
    PgQuery__Node *rows = rows_select(schema, table, columns, column_count, param, arena);
    Maker maker = {.arena = arena};
    if (!node || !rows)
        return (Slice){0};
    PgQuery__InsertStmt *insert = node->insert_stmt;
    insert->with_clause = NULL;
    insert->select_stmt = rows;
    insert->override = PG_QUERY__OVERRIDING_KIND__OVERRIDING_SYSTEM_VALUE;
    insert->relation->schemaname = arena_text(arena, schema);
    insert->relation->relname = arena_text(arena, table);
    insert->cols = NULL;
    insert->n_cols = 0;
    for (uint32_t i = 0; i < column_count; i++)
        list_add(&maker, &insert->cols, &insert->n_cols, make_target(&maker, arena_text(arena, columns[i]), NULL));
    return maker.failed || !insert->relation->schemaname || !insert->relation->relname ? (Slice){0}
                                                                                     : node_text(node, arena);
}
