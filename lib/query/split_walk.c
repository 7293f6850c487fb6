/*
 * split_walk.c - what stands in an expression, as far as it decides where the expression may run.
 *
 * Subqueries are looked into for functions, but their aggregates are their own, unless the arguments
 * may be columns of this level: then it cannot be told here, and says so (`outer_aggregate`).
 */
#include <strings.h>

#include "query/split_build.h"

typedef struct Walk {
    const Split *split;
    SplitFacts *facts;
    const PgQuery__SelectStmt *inside; /* the subquery that we are in; NULL: this level */
} Walk;

/* Volatile, but each call stands for itself: rows of shards may have them as well as rows of one server. */
static const char *const FREE_VOLATILE[] = {"random", "gen_random_uuid", "clock_timestamp", "timeofday"};
static const char *const TIME_FUNCTIONS[] = {"now", "transaction_timestamp", "statement_timestamp"};
static const char *const TIME_WORDS[] = {"now", "today", "tomorrow", "yesterday"};

static bool is_one_of(Slice name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (slice_is(name, list[i]))
            return true;
    return false;
}

static ShapeName name_of(PgQuery__Node *const *names, size_t n)
{
    ShapeName name = {slice_of(NULL, 0), slice_of(NULL, 0)};
    if (n)
        name.name = tree_string(names[n - 1]);
    if (n > 1)
        name.schema = tree_string(names[n - 2]);
    return name;
}

/* Does the subquery's own FROM surely have the column? */
static bool own_column(const Walk *walk, const PgQuery__Node *node)
{
    SplitScope scope;
    Slice name;
    scope_read(walk->split, &scope, walk->inside, UINT32_MAX);
    if (node->node_case != PG_QUERY__NODE__NODE_COLUMN_REF)
        return false;
    const PgQuery__ColumnRef *column = node->column_ref;
    if (column->n_fields < 2)
        return scope_column(&scope, node, &name) >= 0;
    for (uint32_t i = 0; i < scope.count; i++)
        if (slice_equal(scope.items[i].alias, tree_string(column->fields[0])))
            return true;
    return false;
}

typedef struct ColumnSearch {
    const Walk *walk;
    bool any, own;
} ColumnSearch;

static void search_columns(const ProtobufCMessage *message, void *context)
{
    ColumnSearch *search = context;
    if (message->descriptor == &pg_query__node__descriptor) {
        const PgQuery__Node *node = (const PgQuery__Node *)message;
        if (node->node_case == PG_QUERY__NODE__NODE_COLUMN_REF) {
            search->any = true;
            search->own |= own_column(search->walk, node);
            return;
        }
    }
    tree_children(message, search_columns, context);
}

/* An aggregate belongs to the innermost query whose columns are among its arguments; to its own when it
 * has none. */
static bool aggregate_is_own(const Walk *walk, const PgQuery__FuncCall *call)
{
    ColumnSearch search = {.walk = walk};
    for (size_t i = 0; i < call->n_args; i++)
        if (call->args[i])
            search_columns(&call->args[i]->base, &search);
    return !search.any || search.own;
}

static void call_read(Walk *walk, const PgQuery__FuncCall *call)
{
    SplitFacts *facts = walk->facts;
    ShapeName name = name_of(call->funcname, call->n_funcname);
    SplitFunction function = walk->split->in->function(walk->split->in->context, &name);
    bool aggregate = call->agg_star || call->agg_distinct || call->agg_within_group ||
                     call->n_agg_order || call->agg_filter || function.kind == 'a';
    if (call->over && !walk->inside)
        facts->window = true;
    else if (aggregate && !call->over && !walk->inside)
        facts->aggregate = true;
    else if (aggregate && !call->over && !aggregate_is_own(walk, call))
        facts->outer_aggregate = true;
    facts->set_returning |= function.set_returning;
    facts->state |= !function.known;
    if (function.known && function.system &&
        is_one_of(name.name, TIME_FUNCTIONS, ARRAY_LEN(TIME_FUNCTIONS)) && call->n_args == 0)
        facts->time = true;
    else if (slice_is(name.name, "age") && call->n_args == 1)
        facts->time_hidden = true;
    if (function.known && function.volatility == 'v') {
        facts->volatile_ = true;
        facts->forbidden |=
            !function.system || !is_one_of(name.name, FREE_VOLATILE, ARRAY_LEN(FREE_VOLATILE));
    }
}

static void constant_read(SplitFacts *facts, const PgQuery__AConst *constant)
{
    if (constant->val_case != PG_QUERY__A__CONST__VAL_SVAL)
        return;
    Slice text = slice_str(constant->sval->sval);
    while (text.len && text.data[0] == ' ')
        text = slice_from(text, 1);
    for (size_t i = 0; i < ARRAY_LEN(TIME_WORDS); i++) {
        size_t len = strlen(TIME_WORDS[i]);
        if (text.len >= len && strncasecmp((const char *)text.data, TIME_WORDS[i], len) == 0)
            facts->time_hidden = true;
    }
}

static void value_function_read(SplitFacts *facts, const PgQuery__SQLValueFunction *function)
{
    switch (function->op) {
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_DATE:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIME:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIME:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP:
        facts->time = true;
        break;
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIME_N:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP_N:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIME_N:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP_N:
        facts->time_hidden = true;
        break;
    default:
        break;
    }
}

static void walk_message(const ProtobufCMessage *message, void *context)
{
    Walk *walk = context;
    if (message->descriptor == &pg_query__func_call__descriptor)
        call_read(walk, (const PgQuery__FuncCall *)message);
    else if (message->descriptor == &pg_query__a__const__descriptor)
        constant_read(walk->facts, (const PgQuery__AConst *)message);
    else if (message->descriptor == &pg_query__sqlvalue_function__descriptor)
        value_function_read(walk->facts, (const PgQuery__SQLValueFunction *)message);
    else if (message->descriptor == &pg_query__grouping_func__descriptor)
        walk->facts->grouping = true;
    else if (message->descriptor == &pg_query__sub_link__descriptor)
        walk->facts->sublink = true;
    if (message->descriptor == &pg_query__select_stmt__descriptor) {
        Walk inner = {walk->split, walk->facts, (const PgQuery__SelectStmt *)message};
        tree_children(message, walk_message, &inner);
        return;
    }
    tree_children(message, walk_message, walk);
}

void facts_of_message(const Split *split, const ProtobufCMessage *message, SplitFacts *facts)
{
    Walk walk = {split, facts, NULL};
    walk_message(message, &walk);
}

void facts_of(const Split *split, const PgQuery__Node *node, SplitFacts *facts)
{
    if (node)
        facts_of_message(split, &node->base, facts);
}

void facts_of_list(const Split *split, PgQuery__Node *const *list, size_t n, SplitFacts *facts)
{
    for (size_t i = 0; i < n; i++)
        facts_of(split, list[i], facts);
}

/* ---- the time ---------------------------------------------------------------------------------- */

static PgQuery__Node *now_constant(Split *split)
{
    char *text = arena_text(split->in->arena, split->in->now);
    split->maker.failed |= !text;
    return text ? make_cast(&split->maker, make_text(&split->maker, text), "pg_catalog", "timestamptz")
                : NULL;
}

/* What stands for the time in this node; NULL when it is something else. */
static PgQuery__Node *time_constant(Split *split, const PgQuery__Node *node)
{
    static const struct {
        int op;
        const char *type; /* NULL: as it is */
    } TYPES[] = {{PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_DATE, "date"},
                 {PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIME, "timetz"},
                 {PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP, NULL},
                 {PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIME, "time"},
                 {PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP, "timestamp"}};
    if (node->node_case == PG_QUERY__NODE__NODE_FUNC_CALL && node->func_call->n_args == 0) {
        ShapeName name = name_of(node->func_call->funcname, node->func_call->n_funcname);
        return is_one_of(name.name, TIME_FUNCTIONS, ARRAY_LEN(TIME_FUNCTIONS)) ? now_constant(split)
                                                                               : NULL;
    }
    if (node->node_case != PG_QUERY__NODE__NODE_SQLVALUE_FUNCTION)
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++)
        if ((int)node->sqlvalue_function->op == TYPES[i].op)
            return TYPES[i].type
                       ? make_cast(&split->maker, now_constant(split), "pg_catalog", TYPES[i].type)
                       : now_constant(split);
    return NULL;
}

static void time_walk(const ProtobufCMessage *message, void *context)
{
    Split *split = context;
    if (message->descriptor == &pg_query__node__descriptor) {
        PgQuery__Node *node = (PgQuery__Node *)(uintptr_t)message; /* of our own tree */
        if (node->node_case == PG_QUERY__NODE__NODE_RES_TARGET && node->res_target->val &&
            !*node->res_target->name) {
            /* A subquery's column keeps the name that it would have had. */
            Slice name = target_name(node);
            char *text = arena_text(split->in->arena, name);
            split->maker.failed |= !text;
            if (text && !slice_is(name, "?column?"))
                node->res_target->name = text;
        }
        const PgQuery__Node *constant = time_constant(split, node);
        if (constant) {
            *node = *constant;
            return;
        }
    }
    tree_children(message, time_walk, context);
}

void time_replace(Split *split, const ProtobufCMessage *message)
{
    time_walk(message, split);
}
