/*
 * split_gather.c - each table is fetched, and the statement runs over what came.
 *
 *     SELECT u.name, rank() OVER (ORDER BY o.amount) FROM users u LEFT JOIN orders o ON o.item = u.item
 *     WHERE u.age > 30
 *
 *     leg 1  SELECT name, item, age FROM users u WHERE u.age > 30      -> pg_temp.shoal_1
 *     leg 2  SELECT amount, item FROM orders o                         -> pg_temp.shoal_2
 *     final  SELECT ... FROM pg_temp.shoal_1 u LEFT JOIN pg_temp.shoal_2 o ON ... WHERE u.age > 30
 *
 * Columns that the statement nowhere names are left out, and AND-terms about one table alone go along:
 * from WHERE for tables whose rows no outer join replaces by NULLs, from ON where ON decides about that
 * table's rows. The final statement keeps every term, so too many rows fetched do no harm.
 */
#include <stdio.h>

#include "query/split_build.h"

typedef struct CteScope {
    const char *name;
    const struct CteScope *up;
} CteScope;

typedef struct Gather {
    Split *split;
    const CteScope *ctes;
    bool whole; /* some name may mean a whole row: all columns are fetched */
    bool grouped;
    PgQuery__Node **names; /* columns named anywhere */
    size_t name_count;
    bool failed;
} Gather;

/* ---- which columns --------------------------------------------------------------------------------- */

static bool is_alias(const Gather *g, Slice name)
{
    const Shape *shape = g->split->in->shape;
    for (uint32_t i = 0; i < shape->table_count; i++)
        if (slice_equal(shape->tables[i].alias, name))
            return true;
    return false;
}

static bool is_named(const Gather *g, Slice column)
{
    for (size_t i = 0; i < g->name_count; i++)
        if (slice_equal(tree_string(g->names[i]), column))
            return true;
    return g->whole;
}

static void name_add(Gather *g, PgQuery__Node *name)
{
    if (!is_named(g, tree_string(name)))
        list_add(&g->split->maker, &g->names, &g->name_count, name);
}

static void names_collect(const ProtobufCMessage *message, void *context)
{
    Gather *g = context;
    if (message->descriptor == &pg_query__column_ref__descriptor) {
        const PgQuery__ColumnRef *column = (const PgQuery__ColumnRef *)message;
        PgQuery__Node *last = column->fields[column->n_fields - 1];
        if (!tree_string(last).len || (column->n_fields == 1 && is_alias(g, tree_string(last))))
            g->whole = true;
        else
            name_add(g, last);
    } else if (message->descriptor == &pg_query__join_expr__descriptor) {
        const PgQuery__JoinExpr *join = (const PgQuery__JoinExpr *)message;
        g->whole |= join->is_natural || join->alias;
        for (size_t i = 0; i < join->n_using_clause; i++)
            name_add(g, join->using_clause[i]);
    } else if (message->descriptor == &pg_query__select_stmt__descriptor) {
        g->grouped |= ((const PgQuery__SelectStmt *)message)->n_group_clause > 0;
    } else if (message->descriptor == &pg_query__common_table_expr__descriptor) {
        const PgQuery__CommonTableExpr *cte = (const PgQuery__CommonTableExpr *)message;
        if (cte->search_clause || cte->cycle_clause)
            g->whole = true; /* they name columns in their own way */
    }
    tree_children(message, names_collect, g);
}

/* ---- which rows -------------------------------------------------------------------------------------- */

typedef struct TermCheck {
    const SplitScope *scope;
    const SplitItem *item;
    bool own, other;
} TermCheck;

static void term_check(const ProtobufCMessage *message, void *context)
{
    TermCheck *check = context;
    if (message->descriptor == &pg_query__node__descriptor) {
        const PgQuery__Node *node = (const PgQuery__Node *)message;
        Slice name;
        if (node->node_case == PG_QUERY__NODE__NODE_COLUMN_REF) {
            int owner = scope_column(check->scope, node, &name);
            if (owner >= 0 && &check->scope->items[owner] == check->item)
                check->own = true;
            else
                check->other = true;
            return;
        }
    }
    tree_children(message, term_check, check);
}

static bool term_is_about(const Gather *g, const SplitScope *scope, const SplitItem *item,
                          const PgQuery__Node *term)
{
    TermCheck check = {.scope = scope, .item = item};
    SplitFacts facts = {0};
    term_check(&term->base, &check);
    facts_of(g->split, term, &facts);
    return check.own && !check.other && !facts.volatile_ && !facts.sublink && !facts.time &&
           !facts.time_hidden && !facts.state && !facts.set_returning && !facts.aggregate;
}

typedef struct Terms {
    PgQuery__Node **list;
    size_t count;
} Terms;

static void terms_take(Gather *g, const SplitScope *scope, const SplitItem *item, PgQuery__Node *node,
                       Terms *terms)
{
    if (!node)
        return;
    if (node->node_case == PG_QUERY__NODE__NODE_BOOL_EXPR &&
        node->bool_expr->boolop == PG_QUERY__BOOL_EXPR_TYPE__AND_EXPR) {
        for (size_t i = 0; i < node->bool_expr->n_args; i++)
            terms_take(g, scope, item, node->bool_expr->args[i], terms);
        return;
    }
    if (term_is_about(g, scope, item, node))
        list_add(&g->split->maker, &terms->list, &terms->count, node);
}

static bool stands_in(const PgQuery__Node *node, const PgQuery__RangeVar *range)
{
    if (!node)
        return false;
    if (node->node_case == PG_QUERY__NODE__NODE_RANGE_VAR)
        return node->range_var == range;
    return node->node_case == PG_QUERY__NODE__NODE_JOIN_EXPR &&
           (stands_in(node->join_expr->larg, range) || stands_in(node->join_expr->rarg, range));
}

/* Terms of the ONs above the table, while they decide about its rows. */
static void terms_of_join(Gather *g, const SplitScope *scope, const SplitItem *item,
                          const PgQuery__Node *node, Terms *terms)
{
    if (!node || node->node_case != PG_QUERY__NODE__NODE_JOIN_EXPR)
        return;
    const PgQuery__JoinExpr *join = node->join_expr;
    bool left = stands_in(join->larg, item->range), right = stands_in(join->rarg, item->range);
    bool inner = join->jointype == PG_QUERY__JOIN_TYPE__JOIN_INNER && !item->nullable;
    bool padded = (join->jointype == PG_QUERY__JOIN_TYPE__JOIN_LEFT && right &&
                   join->rarg->node_case == PG_QUERY__NODE__NODE_RANGE_VAR) ||
                  (join->jointype == PG_QUERY__JOIN_TYPE__JOIN_RIGHT && left &&
                   join->larg->node_case == PG_QUERY__NODE__NODE_RANGE_VAR);
    if ((left || right) && (inner || padded))
        terms_take(g, scope, item, join->quals, terms);
    if (left)
        terms_of_join(g, scope, item, join->larg, terms);
    if (right)
        terms_of_join(g, scope, item, join->rarg, terms);
}

static Terms terms_of(Gather *g, const SplitScope *scope, const SplitItem *item,
                      const PgQuery__SelectStmt *select)
{
    Terms terms = {0};
    if (item->renamed || scope->overflow)
        return terms;
    if (!item->nullable)
        terms_take(g, scope, item, select->where_clause, &terms);
    for (size_t i = 0; i < select->n_from_clause; i++)
        if (stands_in(select->from_clause[i], item->range))
            terms_of_join(g, scope, item, select->from_clause[i], &terms);
    return terms;
}

/* ---- the relation -------------------------------------------------------------------------------------- */

static SplitRelation *relation_add(Gather *g, Slice leg, int table)
{
    SplitForm *form = g->split->form;
    for (uint32_t i = 0; i < form->relation_count; i++)
        if (slice_equal(form->relations[i].leg, leg))
            return &form->relations[i];
    SplitRelation *grown =
        arena_array(g->split->in->arena, SplitRelation, form->relation_count + 1);
    if (!grown) {
        g->split->maker.failed = true;
        return NULL;
    }
    if (form->relation_count)
        memcpy(grown, form->relations, form->relation_count * sizeof *grown);
    form->relations = grown;
    SplitRelation *relation = &grown[form->relation_count++];
    *relation = (SplitRelation){.table = table, .leg = leg};
    snprintf(relation->name, sizeof relation->name, "shoal_%u", form->relation_count);
    return relation;
}

static Slice leg_text(Gather *g, const SplitScope *scope, const SplitItem *item,
                      const PgQuery__SelectStmt *select, bool *ret_primary)
{
    Maker *maker = &g->split->maker;
    PgQuery__SelectStmt *leg = make_select(maker);
    PgQuery__Node *from = make_table(maker, "", item->range->relname, NULL);
    if (!leg || !from)
        return slice_of(NULL, 0);
    from->range_var = (PgQuery__RangeVar *)(uintptr_t)item->range;
    PgQuery__RangeVar *plain = arena_new(maker->arena, PgQuery__RangeVar);
    if (!plain)
        return slice_of(NULL, 0);
    *plain = *item->range;
    if (item->renamed)
        plain->alias = NULL;
    from->range_var = plain;
    *ret_primary = false;
    for (uint32_t c = 0; c < item->table->column_count; c++) {
        Slice column = item->table->columns[c].name;
        char *name = arena_text(maker->arena, column);
        if (!name || (!item->renamed && !is_named(g, column)))
            continue;
        *ret_primary |= slice_equal(column, item->table->primary);
        list_add(maker, &leg->target_list, &leg->n_target_list,
                 make_target(maker, NULL, make_column(maker, NULL, name)));
    }
    list_add(maker, &leg->from_clause, &leg->n_from_clause, from);
    Terms terms = terms_of(g, scope, item, select);
    if (terms.count)
        leg->where_clause = make_and(maker, terms.list, terms.count);
    return tree_text(maker, leg);
}

/* Puts the temporary table in the place of a table. */
static void replace(Gather *g, const SplitScope *scope, const SplitItem *item,
                    const PgQuery__SelectStmt *select)
{
    Split *split = g->split;
    bool primary = false;
    if (item->table->place == SPLIT_PLACE_SYSTEM) {
        split->form->system = true;
        return;
    }
    if (item->table->place == SPLIT_PLACE_EVERY && !split->in->fetch_every)
        return;
    if (!item->table->columns || item->index < 0) {
        g->failed = true;
        return;
    }
    Slice leg = leg_text(g, scope, item, select, &primary);
    if (!leg.len) {
        g->failed = true;
        return;
    }
    SplitRelation *relation = relation_add(g, leg, item->index);
    if (!relation)
        return;
    if (primary && g->grouped)
        relation->primary = item->table->primary;
    PgQuery__RangeVar *range = (PgQuery__RangeVar *)(uintptr_t)item->range;
    const PgQuery__Node *made = make_table(&split->maker, "pg_temp", relation->name,
                                           range->alias ? NULL : range->relname);
    if (!made)
        return;
    PgQuery__Alias *alias = range->alias ? range->alias : made->range_var->alias;
    *range = *made->range_var;
    range->alias = alias;
}

/* ---- every level ------------------------------------------------------------------------------------------ */

static bool cte_visible(const Gather *g, const PgQuery__RangeVar *range)
{
    for (const CteScope *cte = g->ctes; !*range->schemaname && cte; cte = cte->up)
        if (strcmp(cte->name, range->relname) == 0)
            return true;
    return false;
}

static void select_gather(Gather *g, const PgQuery__SelectStmt *select);

static void below(const ProtobufCMessage *message, void *context)
{
    Gather *g = context;
    if (message->descriptor == &pg_query__select_stmt__descriptor) {
        select_gather(g, (const PgQuery__SelectStmt *)message);
        return;
    }
    if (message->descriptor == &pg_query__column_ref__descriptor) {
        /* schema.table.column: the temporary table is called by its alias */
        PgQuery__ColumnRef *column = (PgQuery__ColumnRef *)(uintptr_t)message;
        if (column->n_fields == 3) {
            column->fields++;
            column->n_fields--;
        }
        return;
    }
    tree_children(message, below, g);
}

static void cte_push(Gather *g, const PgQuery__CommonTableExpr *cte)
{
    CteScope *scope = arena_new(g->split->in->arena, CteScope);
    if (!scope) {
        g->split->maker.failed = true;
        return;
    }
    *scope = (CteScope){cte->ctename, g->ctes};
    g->ctes = scope;
}

static void with_gather(Gather *g, const PgQuery__WithClause *with)
{
    for (size_t i = 0; with && with->recursive && i < with->n_ctes; i++)
        cte_push(g, with->ctes[i]->common_table_expr);
    for (size_t i = 0; with && i < with->n_ctes; i++) {
        below(&with->ctes[i]->base, g);
        if (!with->recursive)
            cte_push(g, with->ctes[i]->common_table_expr);
    }
}

static void select_gather(Gather *g, const PgQuery__SelectStmt *select)
{
    const CteScope *outer = g->ctes;
    SplitScope *scope = arena_new(g->split->in->arena, SplitScope);
    if (!scope) {
        g->split->maker.failed = true;
        return;
    }
    with_gather(g, select->with_clause);
    scope_read(g->split, scope, select, UINT32_MAX);
    g->failed |= scope->overflow;
    for (uint32_t i = 0; i < scope->count; i++)
        if (scope->items[i].range && cte_visible(g, scope->items[i].range))
            scope->items[i].table = NULL;
        else if (scope->items[i].range && !scope->items[i].table)
            g->failed = true; /* a table that the shape does not have: cannot be */
    for (uint32_t i = 0; i < scope->count && !g->failed; i++)
        if (scope->items[i].table)
            replace(g, scope, &scope->items[i], select);
    const PgQuery__WithClause *with = select->with_clause;
    ((PgQuery__SelectStmt *)(uintptr_t)select)->with_clause = NULL; /* is done */
    tree_children(&select->base, below, g);
    ((PgQuery__SelectStmt *)(uintptr_t)select)->with_clause = (PgQuery__WithClause *)(uintptr_t)with;
    g->ctes = outer;
}

bool gather_make(Split *split)
{
    Gather g = {.split = split};
    *split->form = (SplitForm){.system = split->in->home};
    names_collect(&split->select->base, &g);
    select_gather(&g, split->select);
    if (g.failed || split->maker.failed)
        return false;
    split->form->kind = SPLIT_GATHER;
    split->form->reason = "the statement needs rows of several shards together";
    split->form->final = tree_text(&split->maker, split->select);
    return split->form->final.len > 0 && split->form->relation_count > 0;
}
