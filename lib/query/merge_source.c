/*
 * merge_source.c - works on the tree. Names of the source's columns are found as PostgreSQL finds them, or not at all:
 * what MERGE does with the rows calls them by name.
 */
#include "query/merge_source.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/text.h"
#include "query/grammar.h"
#include "query/insert_source.h"
#include "query/merge_columns.h"
#include "query/tree_build.h"
#include "query/tree.h"

#define TEXT_MAX ((size_t)16 << 20)

typedef struct Reading {
    const MergeTables *tables;
    const PgQuery__MergeStmt *merge;
    Arena *arena;
    const Slice *names; /* of the source's columns */
    uint32_t count;
} Reading;

static PgQuery__ParseResult *merge_parse(Slice text, Arena *arena)
{
    PgQuery__ParseResult *tree;
    char *copy = arena_text(arena, text);
    if (!copy || grammar_parse(copy, arena, &tree) != GRAMMAR_OK || tree->n_stmts != 1 || !tree->stmts[0]->stmt ||
        tree->stmts[0]->stmt->node_case != PG_QUERY__NODE__NODE_MERGE_STMT)
        return NULL;
    return tree;
}

/* ---- the source as a SELECT --------------------------------------------------------------------------- */

static Slice select_text(PgQuery__SelectStmt *select, Arena *arena)
{
    Maker maker = {.arena = arena};
    return tree_text(&maker, select);
}

static const PgQuery__Alias *source_alias(const PgQuery__Node *source)
{
    switch (source->node_case) {
    case PG_QUERY__NODE__NODE_RANGE_VAR:
        return source->range_var->alias;
    case PG_QUERY__NODE__NODE_RANGE_SUBSELECT:
        return source->range_subselect->alias;
    case PG_QUERY__NODE__NODE_RANGE_FUNCTION:
        return source->range_function->alias;
    default:
        return NULL;
    }
}

/* By which its columns may be called. */
static Slice source_name(const PgQuery__Node *source)
{
    const PgQuery__Alias *alias = source_alias(source);
    if (alias)
        return slice_str(alias->aliasname);
    return source->node_case == PG_QUERY__NODE__NODE_RANGE_VAR ? slice_str(source->range_var->relname) : (Slice){0};
}

static Slice source_text(const PgQuery__MergeStmt *merge, Arena *arena)
{
    Maker maker = {.arena = arena};
    PgQuery__Node *source = merge->source_relation;
    PgQuery__ParseResult *tree;
    if (source->node_case == PG_QUERY__NODE__NODE_RANGE_SUBSELECT && !merge->with_clause)
        return select_text(source->range_subselect->subquery->select_stmt, arena);
    char *text = arena_printf(arena, "SELECT * FROM x");
    if (!text || grammar_parse(text, arena, &tree) != GRAMMAR_OK)
        return (Slice){0};
    PgQuery__SelectStmt *select = tree->stmts[0]->stmt->select_stmt;
    select->from_clause[0] = source;
    select->with_clause = merge->with_clause;
    return tree_text(&maker, select);
}

static bool is_star(const PgQuery__Node *node)
{
    return node && node->node_case == PG_QUERY__NODE__NODE_COLUMN_REF && node->column_ref->n_fields &&
           node->column_ref->fields[node->column_ref->n_fields - 1]->node_case == PG_QUERY__NODE__NODE_A_STAR;
}

/* ---- ON and WHEN -------------------------------------------------------------------------------------- */

/* Which column of the source it is; -1: none, or more than one. */
static int source_column(const Reading *r, const PgQuery__Node *node)
{
    int found = -1;
    if (!node || node->node_case != PG_QUERY__NODE__NODE_COLUMN_REF || node->column_ref->n_fields > 2 || is_star(node))
        return -1;
    const PgQuery__ColumnRef *ref = node->column_ref;
    Slice name = tree_string(ref->fields[ref->n_fields - 1]);
    if (ref->n_fields == 2 && !slice_equal(tree_string(ref->fields[0]), source_name(r->merge->source_relation)))
        return -1;
    for (uint32_t i = 0; i < r->count; i++) {
        if (!slice_equal(r->names[i], name))
            continue;
        if (found >= 0)
            return -1;
        found = (int)i;
    }
    return found;
}

static bool is_target_key(const Reading *r, const PgQuery__Node *node, Slice key)
{
    const PgQuery__RangeVar *target = r->merge->relation;
    if (!node || node->node_case != PG_QUERY__NODE__NODE_COLUMN_REF || node->column_ref->n_fields > 2 || is_star(node))
        return false;
    const PgQuery__ColumnRef *ref = node->column_ref;
    Slice alias = slice_str(target->alias ? target->alias->aliasname : target->relname);
    if (!slice_equal(tree_string(ref->fields[ref->n_fields - 1]), key))
        return false;
    return ref->n_fields == 2 ? slice_equal(tree_string(ref->fields[0]), alias) : source_column(r, node) < 0;
}

static bool is_equal_sign(const PgQuery__AExpr *expr)
{
    return expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_OP && expr->n_name &&
           slice_is(tree_string(expr->name[expr->n_name - 1]), "=") &&
           (expr->n_name == 1 || slice_is(tree_string(expr->name[0]), "pg_catalog"));
}

/* The AND-terms of ON. */
static void on_read(const Reading *r, const PgQuery__Node *node, int *at)
{
    if (!node)
        return;
    if (node->node_case == PG_QUERY__NODE__NODE_BOOL_EXPR && node->bool_expr->boolop == PG_QUERY__BOOL_EXPR_TYPE__AND_EXPR) {
        for (size_t i = 0; i < node->bool_expr->n_args; i++)
            on_read(r, node->bool_expr->args[i], at);
        return;
    }
    if (node->node_case != PG_QUERY__NODE__NODE_A_EXPR || !is_equal_sign(node->a_expr))
        return;
    for (uint32_t i = 0; i < r->tables->key_count; i++) {
        const PgQuery__Node *left = node->a_expr->lexpr, *right = node->a_expr->rexpr;
        Slice key = r->tables->keys[i];
        int column = is_target_key(r, left, key) ? source_column(r, right) : is_target_key(r, right, key) ? source_column(r, left) : -1;
        if (column >= 0 && at[i] < 0)
            at[i] = column;
    }
}

/* What this INSERT gives to the key; NULL: its default. */
static const PgQuery__Node *key_value(const PgQuery__MergeWhenClause *when, Slice key, uint32_t position)
{
    size_t at = position;
    if (when->n_target_list)
        for (at = 0; at < when->n_target_list; at++)
            if (slice_equal(slice_str(when->target_list[at]->res_target->name), key))
                break;
    return at < when->n_values ? when->values[at] : NULL;
}

static void when_read(const Reading *r, MergeSource *ret)
{
    ret->inserts_key = ret->joined;
    for (size_t i = 0; i < r->merge->n_merge_when_clauses; i++) {
        const PgQuery__MergeWhenClause *when = r->merge->merge_when_clauses[i]->merge_when_clause;
        if (when->command_type != PG_QUERY__CMD_TYPE__CMD_INSERT)
            continue;
        ret->inserts = true;
        ret->inserts_key &= when->override != PG_QUERY__OVERRIDING_KIND__OVERRIDING_USER_VALUE;
        for (uint32_t k = 0; ret->joined && k < r->tables->key_count; k++)
            ret->inserts_key &= source_column(r, key_value(when, r->tables->keys[k], r->tables->positions[k])) == (int)ret->at[k];
    }
}

typedef struct Look {
    bool *params;
    uint32_t param_max;
    bool subqueries;
} Look;

static void look(const ProtobufCMessage *message, void *context)
{
    Look *facts = context;
    facts->subqueries |= message->descriptor == &pg_query__sub_link__descriptor;
    if (message->descriptor == &pg_query__param_ref__descriptor) {
        int32_t number = ((const PgQuery__ParamRef *)(const void *)message)->number;
        if (number > 0 && (uint32_t)number <= facts->param_max)
            facts->params[number] = true;
    }
    tree_children(message, look, facts);
}

/* ---- values of the key --------------------------------------------------------------------------------- */

static Slice negated(Slice digits, Arena *arena)
{
    char *text = arena_printf(arena, "-%.*s", SLICE_FMT(digits));
    return text ? slice_str(text) : (Slice){0};
}

static void constant_read(const PgQuery__AConst *constant, Arena *arena, MergeValue *value)
{
    char *digits;
    if (constant->isnull)
        return;
    switch (constant->val_case) {
    case PG_QUERY__A__CONST__VAL_IVAL:
        digits = arena_printf(arena, "%d", constant->ival->ival);
        value->text = digits ? slice_str(digits) : (Slice){0};
        value->kind = value->text.len ? MERGE_VALUE_INTEGER : MERGE_VALUE_OTHER;
        break;
    case PG_QUERY__A__CONST__VAL_SVAL:
        value->text = slice_str(constant->sval->sval);
        /* what a backslash means is the session's setting */
        value->kind = memchr(value->text.data, '\\', value->text.len) ? MERGE_VALUE_OTHER : MERGE_VALUE_STRING;
        break;
    case PG_QUERY__A__CONST__VAL_FVAL:
        value->text = slice_str(constant->fval->fval);
        value->kind = MERGE_VALUE_INTEGER;
        for (size_t i = 0; i < value->text.len; i++)
            if (value->text.data[i] < '0' || value->text.data[i] > '9')
                value->kind = MERGE_VALUE_OTHER;
        break;
    default:
        break;
    }
}

static MergeValue value_of(const PgQuery__Node *node, Arena *arena)
{
    MergeValue value = {0};
    if (node && node->node_case == PG_QUERY__NODE__NODE_TYPE_CAST) {
        const PgQuery__TypeName *type = node->type_cast->type_name;
        if (type->n_typmods || type->n_array_bounds || type->setof || !type->n_names || type->n_names > 2)
            return value;
        value.cast = tree_string(type->names[type->n_names - 1]);
        value.cast_schema = type->n_names == 2 ? tree_string(type->names[0]) : (Slice){0};
        node = node->type_cast->arg;
    }
    bool minus = node && node->node_case == PG_QUERY__NODE__NODE_A_EXPR && node->a_expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_OP &&
                 !node->a_expr->lexpr && node->a_expr->n_name == 1 && slice_is(tree_string(node->a_expr->name[0]), "-");
    if (minus)
        node = node->a_expr->rexpr;
    if (node && node->node_case == PG_QUERY__NODE__NODE_A_CONST)
        constant_read(node->a_const, arena, &value);
    else if (node && node->node_case == PG_QUERY__NODE__NODE_PARAM_REF && !minus) {
        value.kind = MERGE_VALUE_PARAM;
        value.param = (uint32_t)node->param_ref->number;
    }
    if (minus && value.kind == MERGE_VALUE_INTEGER)
        value.text = negated(value.text, arena);
    else if (minus)
        value.kind = MERGE_VALUE_OTHER;
    return value;
}

/* A constant or a parameter, perhaps cast. */
static bool is_plain(const PgQuery__Node *node)
{
    while (node && node->node_case == PG_QUERY__NODE__NODE_TYPE_CAST)
        node = node->type_cast->arg;
    return node && (node->node_case == PG_QUERY__NODE__NODE_A_CONST || node->node_case == PG_QUERY__NODE__NODE_PARAM_REF);
}

/* One row for each list of VALUES, or the one of SELECT 1, 'x'. */
static bool is_constant(const PgQuery__SelectStmt *select)
{
    bool plain = !select->n_from_clause && !select->where_clause && !select->having_clause && !select->n_group_clause &&
                 !select->n_distinct_clause && !select->n_sort_clause && !select->limit_count && !select->limit_offset &&
                 !select->with_clause && !select->n_locking_clause && select->op == PG_QUERY__SET_OPERATION__SETOP_NONE;
    for (size_t i = 0; plain && i < select->n_target_list; i++)
        plain = is_plain(select->target_list[i]->res_target->val);
    return plain;
}

static void values_read(const Reading *r, MergeSource *ret)
{
    const PgQuery__Node *source = r->merge->source_relation;
    Look facts = {.param_max = 0};
    if (!ret->joined || r->merge->with_clause || source->node_case != PG_QUERY__NODE__NODE_RANGE_SUBSELECT)
        return;
    const PgQuery__SelectStmt *select = source->range_subselect->subquery->select_stmt;
    look(&select->base, &facts);
    if (!is_constant(select) || facts.subqueries)
        return;
    size_t rows = select->n_values_lists ? select->n_values_lists : 1;
    MergeValue *values = arena_array(r->arena, MergeValue, rows * r->tables->key_count);
    for (size_t row = 0; values && row < rows; row++)
        for (uint32_t k = 0; k < r->tables->key_count; k++) {
            const PgQuery__List *list = select->n_values_lists ? select->values_lists[row]->list : NULL;
            if (list && list->n_items != r->count)
                return;
            values[row * r->tables->key_count + k] =
                value_of(list ? list->items[ret->at[k]] : select->target_list[ret->at[k]]->res_target->val, r->arena);
        }
    ret->values = values;
    ret->value_rows = (uint32_t)rows;
}

/* ---- all of it ------------------------------------------------------------------------------------------ */

static void joined_read(const Reading *r, MergeSource *ret)
{
    int at[MERGE_KEYS_MAX];
    for (uint32_t i = 0; i < r->tables->key_count; i++)
        at[i] = -1;
    on_read(r, r->merge->join_condition, at);
    ret->joined = r->tables->key_count > 0;
    for (uint32_t i = 0; i < r->tables->key_count; i++) {
        ret->joined &= at[i] >= 0;
        ret->at[i] = at[i] < 0 ? 0 : (uint32_t)at[i];
    }
}

static bool rest_read(const Reading *r, uint32_t param_max, MergeSource *ret)
{
    Look in = {.params = arena_array(r->arena, bool, param_max + 1), .param_max = param_max};
    Look rest = {.params = arena_array(r->arena, bool, param_max + 1), .param_max = param_max};
    if (!in.params || !rest.params)
        return false;
    look(&r->merge->source_relation->base, &in);
    if (r->merge->with_clause)
        look(&r->merge->with_clause->base, &in);
    if (r->merge->join_condition)
        look(&r->merge->join_condition->base, &rest);
    for (size_t i = 0; i < r->merge->n_merge_when_clauses; i++)
        look(&r->merge->merge_when_clauses[i]->base, &rest);
    ret->params = in.params;
    ret->rest_params = rest.params;
    ret->reads_more = rest.subqueries;
    return true;
}

bool merge_source_read(Slice text, const MergeTables *tables, uint32_t param_max, Arena *arena, MergeSource *ret,
                       const char **why)
{
    PgQuery__ParseResult *tree = merge_parse(text, arena);
    Reading *r = arena_new(arena, Reading);
    *ret = (MergeSource){0};
    *why = "The statement cannot be taken apart.";
    if (!tree || !r || tables->key_count > MERGE_KEYS_MAX)
        return false;
    *r = (Reading){.tables = tables, .merge = tree->stmts[0]->stmt->merge_stmt, .arena = arena};
    if (!r->merge->source_relation || !r->merge->relation)
        return false;
    if (!merge_columns_read(tables, r->merge, arena, &ret->names, &ret->column_count, why))
        return false;
    r->names = ret->names;
    r->count = ret->column_count;
    joined_read(r, ret);
    when_read(r, ret);
    if (!rest_read(r, param_max, ret))
        return false;
    values_read(r, ret);
    ret->text = source_text(r->merge, arena);
    return ret->text.len > 0;
}

/* ---- texts ------------------------------------------------------------------------------------------------ */

PRINTF_LIKE(2, 3) static void put_format(Buf *text, const char *format, ...)
{
    char words[256];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    text_put(text, words);
}

/* The output of the type itself, which a cast to text is not for every type. */
#define VALUE "CASE pg_catalog.num_nulls(shoal_s.c%u) WHEN 0 THEN pg_catalog.format('%%s', shoal_s.c%u) END"
#define TYPE  "pg_catalog.format_type(pg_catalog.pg_typeof(shoal_s.c%u)::pg_catalog.oid, -1)"

Slice merge_query_text(const MergeSource *source, uint32_t key_count, Slice text, Arena *arena)
{
    Buf out;
    buf_init(&out, TEXT_MAX);
    for (uint32_t i = 0; i < source->column_count; i++)
        put_format(&out, i ? ", c%u" : "WITH shoal_s (c%u", i + 1);
    text_put(&out, ") AS MATERIALIZED (");
    buf_append(&out, text);
    text_put(&out, ") SELECT 'T'");
    for (uint32_t i = 0; i < key_count; i++)
        put_format(&out, ", pg_catalog.pg_typeof(shoal_s.c%u)::pg_catalog.oid::pg_catalog.text", source->at[i] + 1);
    for (uint32_t i = 0; i < source->column_count; i++)
        put_format(&out, i ? ", " TYPE : ", ARRAY[" TYPE, i + 1);
    text_put(&out, "]::pg_catalog.text FROM (SELECT) AS shoal_one LEFT JOIN shoal_s ON false UNION ALL SELECT 'R'");
    for (uint32_t i = 0; i < key_count; i++)
        put_format(&out, ", " VALUE, source->at[i] + 1, source->at[i] + 1);
    for (uint32_t i = 0; i < source->column_count; i++)
        put_format(&out, i ? ", " VALUE : ", ARRAY[" VALUE, i + 1, i + 1);
    text_put(&out, "]::pg_catalog.text FROM shoal_s");
    return text_keep(&out, arena);
}

/* SELECT shoal_r.a[1]::int8 AS "id", ... FROM (SELECT x::text[] AS a FROM unnest($1::text[]) AS u (x) OFFSET 0) AS shoal_r
 * (OFFSET: each array is read once, not for each of its elements.) */
static PgQuery__Node *rows_select(const MergeSource *source, const Slice *types, uint32_t param, Arena *arena)
{
    PgQuery__ParseResult *tree;
    Buf out;
    buf_init(&out, TEXT_MAX);
    for (uint32_t i = 0; i < source->column_count; i++) {
        put_format(&out, i ? ", shoal_r.a[%u]::" : "SELECT shoal_r.a[%u]::", i + 1);
        buf_append(&out, types[i]);
        text_put(&out, " AS ");
        buf_append(&out, insert_quote(source->names[i], arena));
    }
    put_format(&out, " FROM (SELECT x::pg_catalog.text[] AS a FROM pg_catalog.unnest($%u::pg_catalog.text[]) AS u (x) OFFSET 0) AS shoal_r",
               param);
    Slice text = text_keep(&out, arena);
    char *copy = text.len ? arena_text(arena, text) : NULL;
    return copy && grammar_parse(copy, arena, &tree) == GRAMMAR_OK && tree->n_stmts == 1 ? tree->stmts[0]->stmt : NULL;
}

Slice merge_rows_text(Slice text, const MergeSource *source, const Slice *types, uint32_t param, Arena *arena)
{
    PgQuery__ParseResult *tree = merge_parse(text, arena);
    PgQuery__Node *rows = rows_select(source, types, param, arena), *node = arena_new(arena, PgQuery__Node);
    PgQuery__RangeSubselect *subselect = arena_new(arena, PgQuery__RangeSubselect);
    PgQuery__Alias *alias = arena_new(arena, PgQuery__Alias);
    if (!tree || !rows || !node || !subselect || !alias)
        return (Slice){0};
    PgQuery__MergeStmt *merge = tree->stmts[0]->stmt->merge_stmt;
    pg_query__node__init(node);
    pg_query__range_subselect__init(subselect);
    pg_query__alias__init(alias);
    alias->aliasname = arena_text(arena, source_name(merge->source_relation));
    subselect->subquery = rows;
    subselect->alias = alias; /* the columns have their names already */
    node->node_case = PG_QUERY__NODE__NODE_RANGE_SUBSELECT;
    node->range_subselect = subselect;
    merge->source_relation = node;
    merge->with_clause = NULL;
    return alias->aliasname ? grammar_deparse(tree, arena) : (Slice){0};
}
