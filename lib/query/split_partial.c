/*
 * split_partial.c - aggregates: the shards aggregate their rows, PostgreSQL the partial results.
 *
 *     SELECT g, count(*), avg(x) FROM t GROUP BY g HAVING sum(x) > 5 ORDER BY 2
 *
 *     leg    SELECT g AS g1, count(*) AS p1, sum(x) AS p2, count(x) AS p3 FROM t GROUP BY 1
 *     final  SELECT g1, sum(p1)::int8, sum(p2) / nullif(sum(p3), 0)
 *            FROM pg_temp.shoal_1 GROUP BY g1 HAVING sum(p2)::<type of p2> > 5 ORDER BY 2
 *
 * | aggregate          | of the leg        | in the final statement                                |
 * | count              | count             | sum::int8                                             |
 * | sum                | sum               | sum, cast to the type of the partial column           |
 * | min max bool bit   | the same          | the same                                              |
 * | avg                | sum and count     | sum / nullif(sum of counts, 0): as PostgreSQL divides |
 *
 * sum(int4) is an int8 and the sum of those a numeric: hence the cast. The type is learned from the
 * temporary table, so the text carries a mark until then (split_final).
 * Whatever else is asked of the rows of a group (DISTINCT, ORDER BY, percentiles, stddev, arrays) needs the
 * rows: GATHER. Sums of floats depend on the order of the rows, here as in PostgreSQL.
 */
#include <stdio.h>

#include "query/grammar.h"
#include "query/split_build.h"

typedef struct Partial {
    Split *split;
    PgQuery__SelectStmt *leg, *final;
    PgQuery__Node **groups; /* expressions of GROUP BY, as resolved */
    size_t group_count;
    PgQuery__Node **parts; /* aggregates that the legs compute: p1, p2 ... */
    size_t part_count;
    bool failed; /* something that needs the rows */
} Partial;

static PgQuery__Node *column_numbered(Partial *p, char kind, size_t number)
{
    char name[24];
    snprintf(name, sizeof name, "%c%zu", kind, number);
    return make_column(&p->split->maker, NULL, name);
}

/* The column in which the legs answer this aggregate. */
static size_t part_number(Partial *p, PgQuery__Node *aggregate)
{
    for (size_t i = 0; i < p->part_count; i++)
        if (node_equal(p->parts[i], aggregate))
            return i + 1;
    list_add(&p->split->maker, &p->parts, &p->part_count, aggregate);
    return p->part_count;
}

static PgQuery__Node *call_of(Partial *p, const char *name, PgQuery__Node *arg)
{
    return make_call(&p->split->maker, name, &arg, 1);
}

/* The same call with another function. */
static PgQuery__Node *call_renamed(Partial *p, const PgQuery__FuncCall *call, const char *name)
{
    PgQuery__Node *node = make_call(&p->split->maker, name, NULL, 0);
    if (!node)
        return NULL;
    PgQuery__FuncCall *copy = node->func_call;
    copy->args = call->args;
    copy->n_args = call->n_args;
    copy->agg_filter = call->agg_filter;
    return node;
}

static PgQuery__Node *combine_count(Partial *p, PgQuery__Node *aggregate)
{
    Maker *maker = &p->split->maker;
    PgQuery__Node *sum = call_of(p, "sum", column_numbered(p, 'p', part_number(p, aggregate)));
    return make_cast(maker, sum, "pg_catalog", "int8");
}

static PgQuery__Node *combine_sum(Partial *p, PgQuery__Node *aggregate)
{
    size_t number = part_number(p, aggregate);
    char type[48];
    snprintf(type, sizeof type, "%s%zu", p->split->form->type_mark, number);
    return make_cast(&p->split->maker, call_of(p, "sum", column_numbered(p, 'p', number)), "pg_catalog",
                     type);
}

static PgQuery__Node *combine_avg(Partial *p, const PgQuery__FuncCall *call)
{
    size_t sum = part_number(p, call_renamed(p, call, "sum"));
    if (sum <= 64)
        p->split->form->averages |= (uint64_t)1 << (sum - 1);
    else
        p->failed = true;
    size_t count = part_number(p, call_renamed(p, call, "count"));
    PgQuery__Node *total = call_of(p, "sum", column_numbered(p, 'p', count));
    PgQuery__Node *divisor = make_operator(&p->split->maker, "=", total, make_integer(&p->split->maker, 0));
    if (divisor)
        divisor->a_expr->kind = PG_QUERY__A__EXPR__KIND__AEXPR_NULLIF;
    return make_operator(&p->split->maker, "/", call_of(p, "sum", column_numbered(p, 'p', sum)), divisor);
}

static bool is_pg_catalog_call(const Partial *p, const PgQuery__FuncCall *call, Slice *ret_name)
{
    ShapeName name = {slice_of(NULL, 0), tree_string(call->funcname[call->n_funcname - 1])};
    if (call->n_funcname > 1)
        name.schema = tree_string(call->funcname[0]);
    SplitFunction function = p->split->in->function(p->split->in->context, &name);
    *ret_name = name.name;
    return function.known && function.system;
}

/* What stands for an aggregate in the final statement; NULL when its rows are needed. */
static PgQuery__Node *aggregate_combine(Partial *p, PgQuery__Node *node)
{
    static const char *const SAME[] = {"min", "max", "bool_and", "bool_or", "every",
                                       "bit_and", "bit_or", "bit_xor"};
    const PgQuery__FuncCall *call = node->func_call;
    Slice name;
    if (call->agg_distinct || call->n_agg_order || call->agg_within_group || call->func_variadic ||
        call->n_args > 1 || !is_pg_catalog_call(p, call, &name))
        return NULL;
    if (slice_is(name, "count"))
        return combine_count(p, node);
    if (slice_is(name, "sum"))
        return combine_sum(p, node);
    if (slice_is(name, "avg"))
        return combine_avg(p, call);
    for (size_t i = 0; i < ARRAY_LEN(SAME); i++)
        if (slice_is(name, SAME[i]))
            return call_of(p, SAME[i], column_numbered(p, 'p', part_number(p, node)));
    return NULL;
}

static bool is_aggregate(const Partial *p, const PgQuery__Node *node)
{
    if (node->node_case != PG_QUERY__NODE__NODE_FUNC_CALL || node->func_call->over)
        return false;
    const PgQuery__FuncCall *call = node->func_call;
    ShapeName name = {slice_of(NULL, 0), tree_string(call->funcname[call->n_funcname - 1])};
    if (call->n_funcname > 1)
        name.schema = tree_string(call->funcname[call->n_funcname - 2]);
    SplitFunction function = p->split->in->function(p->split->in->context, &name);
    return function.kind == 'a' || call->agg_star || call->agg_distinct || call->agg_within_group ||
           call->n_agg_order || call->agg_filter;
}

static void substitute(const ProtobufCMessage *message, void *context);

/* Replaces groups and aggregates at and below a node of our own tree by the columns of the legs. */
static void substitute_node(Partial *p, PgQuery__Node *node)
{
    for (size_t i = 0; i < p->group_count; i++)
        if (p->groups[i]->node_case != PG_QUERY__NODE__NODE_A_CONST && node_equal(p->groups[i], node)) {
            const PgQuery__Node *column = column_numbered(p, 'g', i + 1);
            if (column)
                *node = *column;
            return;
        }
    if (node->node_case == PG_QUERY__NODE__NODE_COLUMN_REF ||
        node->node_case == PG_QUERY__NODE__NODE_SUB_LINK) {
        p->failed = true; /* depends on a group in a way that only PostgreSQL knows */
        return;
    }
    if (is_aggregate(p, node)) {
        PgQuery__Node *own = arena_new(p->split->in->arena, PgQuery__Node);
        if (!own) {
            p->split->maker.failed = true;
            return;
        }
        *own = *node; /* the leg keeps the aggregate, the final statement gets its sum */
        const PgQuery__Node *combined = aggregate_combine(p, own);
        p->failed |= !combined;
        if (combined)
            *node = *combined;
        return;
    }
    tree_children(&node->base, substitute, p);
}

static void substitute(const ProtobufCMessage *message, void *context)
{
    if (message->descriptor == &pg_query__node__descriptor)
        substitute_node(context, (PgQuery__Node *)(uintptr_t)message);
    else
        tree_children(message, substitute, context);
}

/* A copy of the expression, because the leg needs the original: groups may be shared. */
static PgQuery__Node *node_copy(Partial *p, const PgQuery__Node *node)
{
    Arena *arena = p->split->in->arena;
    size_t size = pg_query__node__get_packed_size(node);
    uint8_t *bytes = arena_alloc(arena, size + 1);
    PgQuery__Node *copy = bytes ? grammar_unpack(arena, bytes, pg_query__node__pack(node, bytes)) : NULL;
    p->split->maker.failed |= !copy;
    return copy;
}

static PgQuery__Node *substituted(Partial *p, const PgQuery__Node *node)
{
    PgQuery__Node *copy = node_copy(p, node);
    if (copy)
        substitute_node(p, copy);
    return copy;
}

/* ---- the clauses ------------------------------------------------------------------------------------- */

static bool groups_read(Partial *p)
{
    const PgQuery__SelectStmt *select = p->split->select;
    for (size_t i = 0; i < select->n_group_clause; i++) {
        int target;
        PgQuery__Node *group = item_resolve(p->split, select->group_clause[i], false, &target);
        SplitFacts facts = {0};
        if (!group)
            return false;
        facts_of(p->split, group, &facts);
        if (facts.volatile_ || facts.set_returning || facts.sublink)
            return false;
        list_add(&p->split->maker, &p->groups, &p->group_count, node_copy(p, group));
    }
    return true;
}

static bool sorts_make(Partial *p)
{
    Maker *maker = &p->split->maker;
    const PgQuery__SelectStmt *select = p->split->select;
    for (size_t i = 0; i < select->n_sort_clause; i++) {
        const PgQuery__SortBy *sort = select->sort_clause[i]->sort_by;
        int target;
        PgQuery__Node *value = item_resolve(p->split, sort->node, true, &target);
        if (!value)
            return false;
        PgQuery__Node *node =
            target >= 0 ? make_integer(maker, target + 1) : substituted(p, value);
        list_add(maker, &p->final->sort_clause, &p->final->n_sort_clause,
                 make_sort_node(maker, make_sort_copy(maker, sort, node)));
    }
    return true;
}

static bool final_make(Partial *p)
{
    Maker *maker = &p->split->maker;
    const PgQuery__SelectStmt *select = p->split->select;
    p->final = make_select(maker);
    if (!p->final || targets_have_star(select))
        return false;
    for (size_t i = 0; i < select->n_target_list; i++)
        list_add(maker, &p->final->target_list, &p->final->n_target_list,
                 make_target(maker, NULL, substituted(p, select->target_list[i]->res_target->val)));
    if (select->having_clause)
        p->final->having_clause = substituted(p, select->having_clause);
    if (!sorts_make(p) || p->failed)
        return false;
    for (size_t i = 0; i < p->group_count; i++)
        list_add(maker, &p->final->group_clause, &p->final->n_group_clause,
                 column_numbered(p, 'g', i + 1));
    list_add(maker, &p->final->from_clause, &p->final->n_from_clause,
             make_table(maker, "pg_temp", "shoal_1", NULL));
    p->final->limit_count = select->limit_count;
    p->final->limit_offset = select->limit_offset;
    p->final->limit_option = select->limit_option;
    return true;
}

/* The leg is the statement with another select list and without what the final statement does. */
static void leg_make(Partial *p)
{
    Maker *maker = &p->split->maker;
    PgQuery__SelectStmt *leg = p->split->select;
    char name[24];
    leg->target_list = NULL;
    leg->n_target_list = leg->n_group_clause = leg->n_sort_clause = 0;
    leg->having_clause = leg->limit_count = leg->limit_offset = NULL;
    leg->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
    for (size_t i = 0; i < p->group_count; i++) {
        snprintf(name, sizeof name, "g%zu", i + 1);
        list_add(maker, &leg->target_list, &leg->n_target_list, make_target(maker, name, p->groups[i]));
        list_add(maker, &leg->group_clause, &leg->n_group_clause, make_integer(maker, (int32_t)i + 1));
    }
    for (size_t i = 0; i < p->part_count; i++) {
        snprintf(name, sizeof name, "p%zu", i + 1);
        list_add(maker, &leg->target_list, &leg->n_target_list, make_target(maker, name, p->parts[i]));
    }
    if (!p->part_count && !p->group_count)
        list_add(maker, &leg->target_list, &leg->n_target_list,
                 make_target(maker, "p0", make_call(maker, "count", &(PgQuery__Node *){make_integer(maker, 1)}, 1)));
    p->leg = leg;
}

/* A word for types that does not stand in the statement. */
static void mark_choose(Split *split)
{
    const Slice text = split->in->text;
    for (unsigned n = 0;; n++) {
        snprintf(split->form->type_mark, sizeof split->form->type_mark, "shoal_%u_type_", n);
        const char *mark = split->form->type_mark;
        if (!text.len || !memmem(text.data, text.len, mark, strlen(mark)))
            return;
    }
}

static void replace_time(Split *split)
{
    SplitFacts facts = {0};
    facts_of_message(split, &split->select->base, &facts);
    if (facts.time)
        time_replace(split, &split->select->base);
}

static bool form_fill(Partial *p, const char *reason)
{
    Split *split = p->split;
    SplitRelation *relation = arena_new(split->in->arena, SplitRelation);
    if (!relation)
        return false;
    *relation = (SplitRelation){.table = -1, .name = "shoal_1",
                                .leg = tree_text(&split->maker, p->leg)};
    split->form->kind = SPLIT_PARTIAL;
    split->form->reason = reason;
    split->form->relations = relation;
    split->form->relation_count = 1;
    split->form->column_count = (uint32_t)p->leg->n_target_list;
    split->form->part_count = (uint32_t)p->part_count;
    split->form->final = tree_text(&split->maker, p->final);
    return relation->leg.len && split->form->final.len;
}

/* ---- DISTINCT ------------------------------------------------------------------------------------------ */

static bool distinct_make(Partial *p)
{
    Split *split = p->split;
    PgQuery__SelectStmt *select = split->select;
    Maker *maker = &split->maker;
    if (!targets_expand(split) || (select->distinct_clause[0] &&
        select->distinct_clause[0]->node_case != PG_QUERY__NODE__NODE__NOT_SET))
        return false; /* DISTINCT ON */
    p->final = make_select(maker);
    if (!p->final)
        return false;
    p->final->distinct_clause = select->distinct_clause;
    p->final->n_distinct_clause = select->n_distinct_clause;
    SplitFacts facts = {0};
    facts_of_list(split, select->target_list, select->n_target_list, &facts);
    if (facts.volatile_ || facts.set_returning)
        return false;
    for (size_t i = 0; i < select->n_sort_clause; i++) {
        const PgQuery__SortBy *sort = select->sort_clause[i]->sort_by;
        int target;
        if (!item_resolve(split, sort->node, true, &target) || target < 0)
            return false;
        list_add(maker, &p->final->sort_clause, &p->final->n_sort_clause,
                 make_sort_node(maker, make_sort_copy(maker, sort, make_integer(maker, target + 1))));
    }
    for (size_t i = 0; i < select->n_target_list; i++) {
        char name[24];
        snprintf(name, sizeof name, "c%zu", i + 1);
        select->target_list[i] = make_target(maker, name, select->target_list[i]->res_target->val);
        list_add(maker, &p->final->target_list, &p->final->n_target_list,
                 make_target(maker, NULL, make_column(maker, NULL, name)));
    }
    list_add(maker, &p->final->from_clause, &p->final->n_from_clause,
             make_table(maker, "pg_temp", "shoal_1", NULL));
    p->final->limit_count = select->limit_count;
    p->final->limit_offset = select->limit_offset;
    p->final->limit_option = select->limit_option;
    select->n_sort_clause = 0;
    select->limit_count = select->limit_offset = NULL;
    select->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
    p->leg = select;
    return form_fill(p, "DISTINCT over rows of several shards");
}

bool partial_make(Split *split)
{
    Partial p = {.split = split};
    PgQuery__SelectStmt *select = split->select;
    SplitFacts facts = {0};
    facts_of_message(split, &select->base, &facts);
    mark_choose(split);
    if (facts.time) {
        replace_time(split);
        scope_read(split, &split->scope, select, 0);
    }
    bool grouped = select->n_group_clause || select->having_clause;
    SplitFacts outer = {0};
    facts_of_list(split, select->target_list, select->n_target_list, &outer);
    facts_of_list(split, select->sort_clause, select->n_sort_clause, &outer);
    if (outer.set_returning)
        return false;
    if (!grouped && !outer.aggregate)
        return distinct_make(&p);
    if (select->n_distinct_clause || !groups_read(&p) || !final_make(&p))
        return false;
    leg_make(&p);
    return form_fill(&p, "aggregates of several shards are combined");
}

/* ---- types, when they are known ---------------------------------------------------------------------------- */

Slice split_final(const SplitForm *form, const char *const *types, uint32_t count, Arena *arena)
{
    Slice rest = form->final, none = slice_of(NULL, 0);
    size_t mark_len = strlen(form->type_mark), room = form->final.len + 64;
    if (!mark_len)
        return rest;
    for (const uint8_t *at; (at = memmem(rest.data, rest.len, form->type_mark, mark_len));) {
        rest = slice_from(rest, (size_t)(at - rest.data) + mark_len);
        room += 64;
    }
    char *text = arena_alloc(arena, room);
    size_t len = 0;
    rest = form->final;
    for (const uint8_t *at; text && (at = memmem(rest.data, rest.len, form->type_mark, mark_len));) {
        size_t before = (size_t)(at - rest.data), number = 0;
        memcpy(text + len, rest.data, before);
        len += before;
        rest = slice_from(rest, before + mark_len);
        for (; rest.len && rest.data[0] >= '0' && rest.data[0] <= '9'; rest = slice_from(rest, 1))
            number = number * 10 + (rest.data[0] - '0');
        /* Parts stand behind the groups in the relation. */
        size_t column = form->column_count - form->part_count + number - 1;
        if (number < 1 || number > form->part_count || column >= count || !types[column] ||
            strlen(types[column]) > 60)
            return none;
        len += (size_t)snprintf(text + len, 64, "%s", types[column]);
    }
    if (!text)
        return none;
    memcpy(text + len, rest.data, rest.len);
    return slice_of(text, len + rest.len);
}
