/*
 * split_merge.c - statements whose rows the shards answer whole: one after the other, or merged.
 *
 *     SELECT name FROM t ORDER BY age LIMIT 10 OFFSET 5
 *     leg:    SELECT name, age AS shoal_s1 FROM t ORDER BY age LIMIT 15
 *     router: merges by the hidden column, passes over 5, answers 10
 *
 * Where the router cannot compare (text by its collation, types it does not know), the merge server
 * sorts: PARTIAL, with LIMIT pushed all the same.
 */
#include <stdio.h>
#include <stdlib.h>

#include "query/split_build.h"

/* Types whose order the router knows exactly, by the OID of their binary form. */
static const struct {
    uint32_t oid;
    const char *name;
} ORDERED_TYPES[] = {{16, "bool"},      {17, "bytea"},  {18, "char"},       {20, "int8"},
                     {21, "int2"},      {23, "int4"},   {26, "oid"},        {700, "float4"},
                     {701, "float8"},   {1082, "date"}, {1083, "time"},     {1114, "timestamp"},
                     {1184, "timestamptz"}, {1186, "interval"}, {1700, "numeric"}, {2950, "uuid"}};

static bool type_is_ordered(uint32_t oid)
{
    for (size_t i = 0; i < ARRAY_LEN(ORDERED_TYPES); i++)
        if (ORDERED_TYPES[i].oid == oid)
            return true;
    return false;
}

static bool is_star(const PgQuery__Node *node)
{
    return node && node->node_case == PG_QUERY__NODE__NODE_COLUMN_REF &&
           node->column_ref->n_fields &&
           node->column_ref->fields[node->column_ref->n_fields - 1]->node_case ==
               PG_QUERY__NODE__NODE_A_STAR;
}

static bool target_is_star(const PgQuery__Node *target)
{
    const PgQuery__Node *value = target->res_target->val;
    if (is_star(value))
        return true;
    if (!value || value->node_case != PG_QUERY__NODE__NODE_A_INDIRECTION)
        return false;
    const PgQuery__AIndirection *path = value->a_indirection; /* (x).* */
    return path->n_indirection &&
           path->indirection[path->n_indirection - 1]->node_case == PG_QUERY__NODE__NODE_A_STAR;
}

bool targets_have_star(const PgQuery__SelectStmt *select)
{
    for (size_t i = 0; i < select->n_target_list; i++)
        if (target_is_star(select->target_list[i]))
            return true;
    return false;
}

/* ---- names and numbers of the select list ----------------------------------------------------------- */

static PgQuery__Node *target_numbered(const Split *split, int32_t number, int *ret_target)
{
    const PgQuery__SelectStmt *select = split->select;
    if (number < 1 || (size_t)number > select->n_target_list)
        return NULL;
    for (int32_t i = 0; i < number; i++)
        if (target_is_star(select->target_list[i]))
            return NULL;
    *ret_target = number - 1;
    return select->target_list[number - 1]->res_target->val;
}

static int target_named(const PgQuery__SelectStmt *select, Slice name)
{
    int found = -1;
    for (size_t i = 0; i < select->n_target_list; i++)
        if (!target_is_star(select->target_list[i]) && slice_equal(target_name(select->target_list[i]), name)) {
            if (found >= 0 && !node_equal(select->target_list[found]->res_target->val,
                                          select->target_list[i]->res_target->val))
                return -2; /* ambiguous */
            found = found < 0 ? (int)i : found;
        }
    return found;
}

static PgQuery__Node *name_resolve(const Split *split, PgQuery__Node *item, bool output_first,
                                   int *ret_target)
{
    const PgQuery__SelectStmt *select = split->select;
    Slice name = tree_string(item->column_ref->fields[0]), input;
    int target = target_named(select, name);
    if (target == -2)
        return NULL;
    if (target >= 0 && !output_first && scope_column(&split->scope, item, &input) >= 0)
        target = -1; /* GROUP BY: the column of a table comes first */
    else if (target >= 0 && !output_first &&
             !node_equal(item, select->target_list[target]->res_target->val)) {
        /* Nobody knows whether some FROM item has such a column. */
        for (uint32_t i = 0; i < split->scope.count; i++)
            if (!split->scope.items[i].table || split->scope.items[i].renamed ||
                table_column(split->scope.items[i].table, name))
                return NULL;
    }
    if (target < 0)
        return item;
    *ret_target = target;
    return select->target_list[target]->res_target->val;
}

PgQuery__Node *item_resolve(const Split *split, PgQuery__Node *item, bool output_first, int *ret_target)
{
    const PgQuery__SelectStmt *select = split->select;
    *ret_target = -1;
    if (item->node_case == PG_QUERY__NODE__NODE_A_CONST)
        return item->a_const->val_case == PG_QUERY__A__CONST__VAL_IVAL
                   ? target_numbered(split, item->a_const->ival->ival, ret_target)
                   : NULL;
    if (item->node_case == PG_QUERY__NODE__NODE_COLUMN_REF && item->column_ref->n_fields == 1)
        return name_resolve(split, item, output_first, ret_target);
    for (size_t i = 0; i < select->n_target_list && *ret_target < 0; i++)
        if (node_equal(select->target_list[i]->res_target->val, item))
            *ret_target = (int)i;
    return item;
}

/* Writes out one *: the columns of one item, or of all. */
static bool star_expand(Split *split, const PgQuery__ColumnRef *star, PgQuery__Node ***list, size_t *count)
{
    bool found = false;
    if (star->n_fields > 2 || split->scope.merged || split->scope.hidden || split->scope.overflow)
        return false;
    for (uint32_t i = 0; i < split->scope.count; i++) {
        const SplitItem *item = &split->scope.items[i];
        if (star->n_fields == 2 && !slice_equal(item->alias, tree_string(star->fields[0])))
            continue;
        if (!item->table || !item->table->columns || item->renamed || (found && star->n_fields == 2))
            return false;
        char *alias = arena_text(split->in->arena, item->alias);
        for (uint32_t c = 0; alias && c < item->table->column_count; c++) {
            char *name = arena_text(split->in->arena, item->table->columns[c].name);
            list_add(&split->maker, list, count,
                     name ? make_target(&split->maker, NULL, make_column(&split->maker, alias, name)) : NULL);
        }
        split->maker.failed |= !alias;
        found = true;
    }
    return found;
}

bool targets_expand(Split *split)
{
    PgQuery__SelectStmt *select = split->select;
    PgQuery__Node **list = NULL;
    size_t count = 0;
    if (!targets_have_star(select))
        return true;
    for (size_t i = 0; i < select->n_target_list; i++) {
        PgQuery__Node *target = select->target_list[i];
        if (!target_is_star(target))
            list_add(&split->maker, &list, &count, target);
        else if (!is_star(target->res_target->val) ||
                 !star_expand(split, target->res_target->val->column_ref, &list, &count))
            return false;
    }
    select->target_list = list;
    select->n_target_list = count;
    return true;
}

/* ---- LIMIT and OFFSET -------------------------------------------------------------------------------- */

static bool constant_read(const PgQuery__AConst *constant, SplitNumber *ret)
{
    *ret = (SplitNumber){0};
    if (constant->isnull)
        return true;
    if (constant->val_case == PG_QUERY__A__CONST__VAL_IVAL)
        *ret = (SplitNumber){.kind = SPLIT_NUMBER_CONST, .value = constant->ival->ival};
    else
        return false;
    return ret->value >= 0; /* PostgreSQL says what is wrong with it */
}

bool number_read(const PgQuery__Node *node, SplitNumber *ret)
{
    *ret = (SplitNumber){0};
    if (!node)
        return true;
    if (node->node_case == PG_QUERY__NODE__NODE_A_CONST)
        return constant_read(node->a_const, ret);
    if (node->node_case != PG_QUERY__NODE__NODE_PARAM_REF)
        return false;
    *ret = (SplitNumber){.kind = SPLIT_NUMBER_PARAM, .param = (uint32_t)node->param_ref->number};
    return true;
}

/* A parameter that stands in LIMIT or OFFSET alone is an int8 there. */
static bool param_is_alone(const Split *split, const SplitNumber *number)
{
    const Shape *shape = split->in->shape;
    return number->kind != SPLIT_NUMBER_PARAM ||
           (number->param <= shape->param_use_count && shape->param_uses[number->param - 1] == 1);
}

/* The legs answer limit + offset rows. False when the numbers are not plain ones. */
static bool limit_push(Split *split, bool *ret_changed)
{
    PgQuery__SelectStmt *select = split->select;
    SplitForm *form = split->form;
    if (select->limit_option == PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_WITH_TIES ||
        !number_read(select->limit_count, &form->limit) ||
        !number_read(select->limit_offset, &form->offset) || !param_is_alone(split, &form->limit) ||
        !param_is_alone(split, &form->offset))
        return false;
    *ret_changed |= select->limit_count || select->limit_offset;
    select->limit_offset = NULL;
    select->limit_count = NULL;
    if (form->limit.kind == SPLIT_NUMBER_NONE)
        return true;
    select->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_COUNT;
    if (form->limit.kind == SPLIT_NUMBER_CONST && form->offset.kind != SPLIT_NUMBER_PARAM) {
        char digits[24];
        snprintf(digits, sizeof digits, "%lld", (long long)(form->limit.value + form->offset.value));
        select->limit_count = make_number(&split->maker, digits);
    } else {
        form->limit_param = split->in->shape->param_max + 1;
        select->limit_count = make_param(&split->maker, (int32_t)form->limit_param);
    }
    return true;
}

/* ---- CONCAT -------------------------------------------------------------------------------------------- */

static bool replace_time(Split *split)
{
    SplitFacts facts = {0};
    facts_of_message(split, &split->select->base, &facts);
    if (facts.time)
        time_replace(split, &split->select->base);
    return facts.time;
}

static bool form_leg(Split *split, bool changed)
{
    split->form->leg = changed ? tree_text(&split->maker, split->select) : split->in->text;
    return split->form->leg.len > 0;
}

bool merge_concat(Split *split)
{
    bool changed = false;
    if (!limit_push(split, &changed))
        return false;
    changed |= replace_time(split);
    split->form->kind = SPLIT_CONCAT;
    return form_leg(split, changed);
}

/* ---- ORDERED ---------------------------------------------------------------------------------------------- */

static uint32_t column_type(const Split *split, const PgQuery__Node *node)
{
    Slice name;
    int owner = scope_column(&split->scope, node, &name);
    const SplitColumn *column = owner < 0 ? NULL : table_column(split->scope.items[owner].table, name);
    return column ? column->type_oid : 0;
}

static uint32_t call_type(const Split *split, const PgQuery__FuncCall *call)
{
    Slice name = tree_string(call->funcname[call->n_funcname - 1]);
    ShapeName full = {slice_of(NULL, 0), name};
    SplitFunction function = split->in->function(split->in->context, &full);
    uint32_t arg = call->n_args == 1 ? column_type(split, call->args[0]) : 0;
    if (!function.known || !function.system || call->n_funcname > 1)
        return 0;
    if (slice_is(name, "count"))
        return 20;
    if (slice_is(name, "min") || slice_is(name, "max"))
        return arg;
    if (slice_is(name, "sum"))
        return arg == 21 || arg == 23 ? 20 : arg == 20 || arg == 1700 ? 1700 : 0;
    return 0;
}

static uint32_t cast_type(const PgQuery__TypeName *type)
{
    if (!type || type->n_array_bounds || type->setof || !type->n_names ||
        (type->n_names > 1 && !slice_is(tree_string(type->names[0]), "pg_catalog")))
        return 0;
    Slice name = tree_string(type->names[type->n_names - 1]);
    for (size_t i = 0; i < ARRAY_LEN(ORDERED_TYPES); i++)
        if (slice_is(name, ORDERED_TYPES[i].name) && ORDERED_TYPES[i].oid != 18)
            return ORDERED_TYPES[i].oid;
    return 0;
}

/* The type that an expression surely has; 0 when that is not known here. */
static uint32_t expression_type(const Split *split, const PgQuery__Node *node)
{
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_COLUMN_REF:
        return column_type(split, node);
    case PG_QUERY__NODE__NODE_FUNC_CALL:
        return call_type(split, node->func_call);
    case PG_QUERY__NODE__NODE_TYPE_CAST:
        return cast_type(node->type_cast->type_name);
    default:
        return 0;
    }
}

static bool sort_is_descending(const PgQuery__SortBy *sort)
{
    return sort->sortby_dir == PG_QUERY__SORT_BY_DIR__SORTBY_DESC;
}

static bool sort_nulls_first(const PgQuery__SortBy *sort)
{
    if (sort->sortby_nulls == PG_QUERY__SORT_BY_NULLS__SORTBY_NULLS_FIRST)
        return true;
    if (sort->sortby_nulls == PG_QUERY__SORT_BY_NULLS__SORTBY_NULLS_LAST)
        return false;
    return sort_is_descending(sort);
}

static bool repeats_badly(const Split *split, const PgQuery__Node *node)
{
    SplitFacts facts = {0};
    facts_of(split, node, &facts);
    return facts.volatile_ || facts.set_returning;
}

static bool sets_in_targets(const Split *split)
{
    SplitFacts facts = {0};
    facts_of_list(split, split->select->target_list, split->select->n_target_list, &facts);
    facts_of_list(split, split->select->sort_clause, split->select->n_sort_clause, &facts);
    return facts.set_returning;
}

bool merge_ordered(Split *split)
{
    PgQuery__SelectStmt *select = split->select;
    size_t n = select->n_sort_clause, visible;
    SplitSort *sorts = arena_array(split->in->arena, SplitSort, n);
    PgQuery__Node **values = arena_array(split->in->arena, PgQuery__Node *, n);
    bool changed = false;
    if (!sorts || !values || sets_in_targets(split))
        return false;
    for (size_t i = 0; i < n; i++) {
        const PgQuery__SortBy *sort = select->sort_clause[i]->sort_by;
        int target;
        values[i] = item_resolve(split, sort->node, true, &target);
        if (!values[i] || repeats_badly(split, values[i]) ||
            sort->sortby_dir == PG_QUERY__SORT_BY_DIR__SORTBY_USING)
            return false;
        sorts[i] = (SplitSort){sort_is_descending(sort), sort_nulls_first(sort),
                               expression_type(split, values[i])};
        if (!type_is_ordered(sorts[i].type_oid))
            return false;
    }
    if (!targets_expand(split) || !limit_push(split, &changed))
        return false;
    visible = select->n_target_list;
    split->form->visible = (uint32_t)visible;
    for (size_t i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "shoal_s%zu", i + 1);
        list_add(&split->maker, &select->target_list, &visible,
                 make_target(&split->maker, name, values[i]));
    }
    select->n_target_list = visible;
    replace_time(split);
    split->form->kind = SPLIT_ORDERED;
    split->form->sorts = sorts;
    split->form->sort_count = (uint32_t)n;
    return form_leg(split, true);
}

/* ---- sorted by the merge server ------------------------------------------------------------------------------- */

/* Names of the select list in GROUP BY become numbers: the list gets other names. */
static bool groups_number(Split *split)
{
    PgQuery__SelectStmt *select = split->select;
    for (size_t i = 0; i < select->n_group_clause; i++) {
        int target;
        PgQuery__Node *item = select->group_clause[i];
        if (!item_resolve(split, item, false, &target))
            return false;
        if (target >= 0)
            select->group_clause[i] = make_integer(&split->maker, target + 1);
    }
    return true;
}

/* The final statement's column i, which is the leg's. */
static PgQuery__Node *final_column(Split *split, size_t i)
{
    char name[24];
    snprintf(name, sizeof name, "c%zu", i + 1);
    return make_column(&split->maker, NULL, name);
}

static void targets_rename(Split *split)
{
    PgQuery__SelectStmt *select = split->select;
    for (size_t i = 0; i < select->n_target_list; i++) {
        char name[24];
        snprintf(name, sizeof name, "c%zu", i + 1);
        select->target_list[i] =
            make_target(&split->maker, name, select->target_list[i]->res_target->val);
    }
}

/* The leg's ORDER BY by numbers, and the final statement's by columns. */
static bool sorts_finish(Split *split, PgQuery__SelectStmt *final)
{
    PgQuery__SelectStmt *select = split->select;
    size_t visible = select->n_target_list;
    for (size_t i = 0; i < select->n_sort_clause; i++) {
        PgQuery__SortBy *sort = select->sort_clause[i]->sort_by;
        int target;
        PgQuery__Node *value = item_resolve(split, sort->node, true, &target);
        if (!value || (target < 0 && repeats_badly(split, value)))
            return false;
        size_t at = target >= 0 ? (size_t)target : visible++;
        if (target < 0)
            list_add(&split->maker, &select->target_list, &select->n_target_list,
                     make_target(&split->maker, NULL, value));
        list_add(&split->maker, &final->sort_clause, &final->n_sort_clause,
                 make_sort_node(&split->maker,
                                make_sort_copy(&split->maker, sort, final_column(split, at))));
        sort->node = make_integer(&split->maker, (int32_t)at + 1);
    }
    return true;
}

bool merge_finished(Split *split)
{
    PgQuery__SelectStmt *select = split->select, *final = make_select(&split->maker);
    SplitRelation *relation = arena_new(split->in->arena, SplitRelation);
    bool changed = false;
    if (!final || !relation || sets_in_targets(split) || !targets_expand(split) ||
        !groups_number(split) ||
        (select->n_distinct_clause && select->distinct_clause[0] &&
         select->distinct_clause[0]->node_case != PG_QUERY__NODE__NODE__NOT_SET))
        return false;
    size_t visible = select->n_target_list;
    final->limit_count = select->limit_count;
    final->limit_offset = select->limit_offset;
    final->limit_option = select->limit_option;
    if (!sorts_finish(split, final))
        return false;
    if (!limit_push(split, &changed)) {
        select->limit_count = select->limit_offset = NULL;
        select->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
        select->n_sort_clause = 0;
    }
    targets_rename(split);
    replace_time(split);
    for (size_t i = 0; i < visible; i++)
        list_add(&split->maker, &final->target_list, &final->n_target_list,
                 make_target(&split->maker, NULL, final_column(split, i)));
    list_add(&split->maker, &final->from_clause, &final->n_from_clause,
             make_table(&split->maker, "pg_temp", "shoal_1", NULL));
    *relation = (SplitRelation){.table = -1, .name = "shoal_1",
                                .leg = tree_text(&split->maker, select)};
    split->form->kind = SPLIT_PARTIAL;
    split->form->reason = "ORDER BY or LIMIT is left to PostgreSQL";
    split->form->relations = relation;
    split->form->relation_count = 1;
    split->form->final = tree_text(&split->maker, final);
    split->form->column_count = (uint32_t)select->n_target_list;
    return relation->leg.len && split->form->final.len;
}
