/*
 * split.c - may the statement be pushed to the shards as it is, and what is left to do then?
 *
 *   every row of FROM and WHERE is on one shard (split_scope.c: an anchor)?         no -> GATHER
 *   groups, DISTINCT, windows: by the key, so that each is within one shard?        no -> PARTIAL, GATHER
 *   ORDER BY: the router compares what it can compare exactly                       no -> PARTIAL
 *
 * Each way starts from a fresh tree of the text, because it rewrites it.
 */
#include "query/split_build.h"

#include "query/grammar.h"

bool split_refuse(Split *split, const char *reason)
{
    *split->form = (SplitForm){.kind = SPLIT_NONE, .reason = reason};
    return true;
}

/* A fresh tree; false when memory is out or the text is no single SELECT. */
static bool split_parse(Split *split)
{
    PgQuery__ParseResult *tree;
    char *text = arena_text(split->in->arena, split->in->text);
    split->maker = (Maker){.arena = split->in->arena};
    if (!text || grammar_parse(text, split->in->arena, &tree) != GRAMMAR_OK || tree->n_stmts != 1 ||
        !tree->stmts[0]->stmt || tree->stmts[0]->stmt->node_case != PG_QUERY__NODE__NODE_SELECT_STMT)
        return false;
    split->select = tree->stmts[0]->stmt->select_stmt;
    scope_read(split, &split->scope, split->select, 0);
    return true;
}

/* ---- what is refused ----------------------------------------------------------------------------- */

static const char *const SYSTEM_COLUMNS[] = {"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"};

static bool any_table_has(const Split *split, Slice name)
{
    for (uint32_t i = 0; i < split->in->shape->table_count; i++)
        if (table_column(&split->in->tables[i], name))
            return true;
    return false;
}

typedef struct Search {
    const Split *split;
    bool system_column, locks_inside;
} Search;

static void search(const ProtobufCMessage *message, void *context)
{
    Search *found = context;
    if (message->descriptor == &pg_query__column_ref__descriptor) {
        const PgQuery__ColumnRef *column = (const PgQuery__ColumnRef *)message;
        Slice name = tree_string(column->fields[column->n_fields - 1]);
        for (size_t i = 0; i < ARRAY_LEN(SYSTEM_COLUMNS); i++)
            if (slice_is(name, SYSTEM_COLUMNS[i]) && !any_table_has(found->split, name))
                found->system_column = true;
    }
    if (message->descriptor == &pg_query__select_stmt__descriptor &&
        ((const PgQuery__SelectStmt *)message)->n_locking_clause)
        found->locks_inside = true;
    tree_children(message, search, found);
}

/* True: refused. */
static bool refuse_what_cannot_be(Split *split, const SplitFacts *facts)
{
    const Shape *shape = split->in->shape;
    Search found = {.split = split};
    tree_children(&split->select->base, search, &found);
    if (shape->traits & SHAPE_HAS_MODIFYING_CTE)
        return split_refuse(split, "WITH writes rows, and its tables are on several shards");
    if (shape->traits & SHAPE_HAS_INTO)
        return split_refuse(split, "a table is made from rows of several shards");
    if (shape->traits & SHAPE_HAS_SAMPLE)
        return split_refuse(split, "TABLESAMPLE would take its sample on each shard");
    if (shape->traits & SHAPE_HAS_TEMP)
        return split_refuse(split, "a temporary table is on one server only");
    if (facts->forbidden)
        return split_refuse(split, "a volatile function would run once for each shard");
    if (found.system_column)
        return split_refuse(split, "system columns (ctid, xmin, tableoid ...) mean something else on "
                                   "each shard");
    if (found.locks_inside)
        return split_refuse(split, "a subquery locks rows of several shards");
    return false;
}

/* ---- what may be pushed ---------------------------------------------------------------------------- */

/* Time is one moment on all shards, volatile functions run for rows only. */
static bool facts_may_be_pushed(const Split *split, const SplitFacts *facts)
{
    SplitFacts around = {0};
    const PgQuery__SelectStmt *select = split->select;
    facts_of_list(split, select->from_clause, select->n_from_clause, &around);
    if (select->with_clause)
        facts_of_message(split, &select->with_clause->base, &around);
    return !facts->time_hidden && !(facts->time && split->in->now.len == 0) && !facts->state &&
           !(facts->volatile_ && facts->sublink) && !around.volatile_ && !facts->outer_aggregate;
}

static bool is_pushable(Split *split, const SplitFacts *facts)
{
    return split->select->op == PG_QUERY__SET_OPERATION__SETOP_NONE && !split->select->n_values_lists &&
           facts_may_be_pushed(split, facts) && scope_find_anchor(split);
}

static const PgQuery__WindowDef *window_named(const PgQuery__SelectStmt *select, const char *name)
{
    for (size_t i = 0; name && *name && i < select->n_window_clause; i++)
        if (strcmp(select->window_clause[i]->window_def->name, name) == 0)
            return select->window_clause[i]->window_def;
    return NULL;
}

typedef struct WindowSearch {
    const Split *split;
    bool other; /* a window whose partitions are not within shards */
} WindowSearch;

static bool window_has_key(const Split *split, const PgQuery__WindowDef *window)
{
    for (int depth = 0; window && depth < 8; depth++) {
        if (window->n_partition_clause)
            return scope_has_key(split, window->partition_clause, window->n_partition_clause);
        const PgQuery__WindowDef *base = window_named(split->select, window->refname);
        window = base ? base : window_named(split->select, window->name);
        if (window == base && !base)
            return false;
    }
    return false;
}

static void window_search(const ProtobufCMessage *message, void *context)
{
    WindowSearch *found = context;
    if (message->descriptor == &pg_query__select_stmt__descriptor)
        return; /* a subquery's windows are its own */
    if (message->descriptor == &pg_query__func_call__descriptor) {
        const PgQuery__WindowDef *over = ((const PgQuery__FuncCall *)message)->over;
        if (over && !window_has_key(found->split, over))
            found->other = true;
    }
    tree_children(message, window_search, found);
}

static bool windows_have_key(const Split *split)
{
    WindowSearch found = {.split = split};
    for (size_t i = 0; i < split->select->n_target_list; i++)
        window_search(&split->select->target_list[i]->base, &found);
    for (size_t i = 0; i < split->select->n_sort_clause; i++)
        window_search(&split->select->sort_clause[i]->base, &found);
    return !found.other;
}

/* GROUP BY with its names and numbers resolved; NULL when one cannot be told or is a grouping set. */
static PgQuery__Node **groups_resolve(const Split *split)
{
    const PgQuery__SelectStmt *select = split->select;
    PgQuery__Node **groups = arena_array(split->in->arena, PgQuery__Node *, select->n_group_clause + 1);
    for (size_t i = 0; groups && i < select->n_group_clause; i++) {
        int target;
        if (select->group_clause[i]->node_case == PG_QUERY__NODE__NODE_GROUPING_SET)
            return NULL;
        groups[i] = item_resolve(split, select->group_clause[i], false, &target);
        if (!groups[i])
            return NULL;
    }
    return groups;
}

static bool distinct_has_key(const Split *split)
{
    const PgQuery__SelectStmt *select = split->select;
    size_t n = select->n_distinct_clause;
    PgQuery__Node **list = arena_array(split->in->arena, PgQuery__Node *,
                                       MAX(n, select->n_target_list) + 1);
    if (!list)
        return false;
    /* Plain DISTINCT is a list with nothing in it. */
    bool on = n && select->distinct_clause[0] &&
              select->distinct_clause[0]->node_case != PG_QUERY__NODE__NODE__NOT_SET;
    if (!on) {
        for (size_t i = 0; i < select->n_target_list; i++)
            list[i] = select->target_list[i]->res_target->val;
        return scope_has_key(split, list, select->n_target_list);
    }
    for (size_t i = 0; i < n; i++) {
        int target;
        list[i] = item_resolve(split, select->distinct_clause[i], true, &target);
        if (!list[i])
            return false;
    }
    return scope_has_key(split, list, n);
}

/* ---- the way ---------------------------------------------------------------------------------------- */

/* What the pushed statement leaves to do. */
typedef enum Rest { REST_ROWS, REST_PARTIAL, REST_GATHER } Rest;

static Rest rest_of(const Split *split)
{
    const PgQuery__SelectStmt *select = split->select;
    SplitFacts facts = {0};
    facts_of_list(split, select->target_list, select->n_target_list, &facts);
    facts_of_list(split, select->sort_clause, select->n_sort_clause, &facts);
    facts_of(split, select->having_clause, &facts);
    if (facts.grouping || select->group_distinct)
        return REST_GATHER;
    bool grouped = select->n_group_clause || select->having_clause || facts.aggregate;
    if (grouped) {
        PgQuery__Node **groups = groups_resolve(split);
        if (!groups)
            return REST_GATHER;
        if (!scope_has_key(split, groups, select->n_group_clause))
            return facts.window || select->n_distinct_clause ? REST_GATHER : REST_PARTIAL;
    }
    if (facts.window && !windows_have_key(split))
        return REST_GATHER;
    if (select->n_distinct_clause && !distinct_has_key(split))
        return grouped || facts.window ? REST_GATHER : REST_PARTIAL;
    return REST_ROWS;
}

/* Rows are of one shard each: they follow one another, or are merged by ORDER BY. */
static bool make_rows(Split *split)
{
    const PgQuery__SelectStmt *select = split->select;
    if (!select->n_sort_clause && merge_concat(split))
        return true;
    if (!split_parse(split))
        return false;
    if (select->n_sort_clause && !split->in->unmerged && merge_ordered(split))
        return true;
    if (split->select->n_locking_clause)
        return split_refuse(split, "rows of several shards would be locked to be sorted or counted");
    return split_parse(split) && merge_finished(split);
}

static bool make_locked(Split *split, const SplitFacts *facts)
{
    if (split->select->limit_count || split->select->limit_offset)
        return split_refuse(split, "FOR UPDATE with LIMIT would lock rows of each shard that are not "
                                   "answered");
    if (!is_pushable(split, facts) || rest_of(split) != REST_ROWS)
        return split_refuse(split, "rows can be locked only where each shard answers its own rows");
    return make_rows(split);
}

static bool make_pushed(Split *split)
{
    switch (rest_of(split)) {
    case REST_ROWS:
        return make_rows(split);
    case REST_PARTIAL:
        return partial_make(split);
    default:
        return false;
    }
}

bool split_make(const SplitInput *input, SplitForm *ret)
{
    Split split = {.in = input, .form = ret};
    SplitFacts facts = {0};
    *ret = (SplitForm){0};
    if (!split_parse(&split))
        return split_refuse(&split, "the statement cannot be taken apart");
    facts_of_message(&split, &split.select->base, &facts);
    /* Facts of the whole: aggregates of any level are told apart where it matters. */
    if (refuse_what_cannot_be(&split, &facts))
        return true;
    ret->locks = split.select->n_locking_clause > 0;
    bool made = ret->locks ? make_locked(&split, &facts)
                           : !input->whole && is_pushable(&split, &facts) && make_pushed(&split);
    if (split.maker.failed)
        return false;
    if (!made && (!split_parse(&split) || !gather_make(&split)))
        return split_refuse(&split, "its rows cannot be fetched");
    if (ret->kind == SPLIT_CONCAT || ret->kind == SPLIT_ORDERED || ret->kind == SPLIT_PARTIAL)
        ret->anchor = (uint32_t)split.anchor;
    return !split.maker.failed;
}

const char *split_kind_name(SplitKind kind)
{
    static const char *const NAMES[] = {"refused", "concat", "ordered", "partial", "gather"};
    return NAMES[kind];
}
