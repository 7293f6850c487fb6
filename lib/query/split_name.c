/* split_name.c - PostgreSQL's FigureColname: how an output column without AS is called. */
#include "query/split_build.h"

/* Strength 2: sure. 1: a type's name, used when nothing better stands inside. 0: none. */
static int name_figure(const PgQuery__Node *node, Slice *ret);

static int name_last(PgQuery__Node *const *fields, size_t n, Slice *ret)
{
    for (size_t i = n; i > 0; i--) {
        Slice name = tree_string(fields[i - 1]);
        if (name.len) {
            *ret = name;
            return 2;
        }
    }
    return 0;
}

static int name_constant(const char *name, Slice *ret)
{
    *ret = slice_str(name);
    return 2;
}

static int name_cast(const PgQuery__TypeCast *cast, Slice *ret)
{
    int strength = name_figure(cast->arg, ret);
    if (strength > 1 || !cast->type_name || !cast->type_name->n_names)
        return strength;
    *ret = tree_string(cast->type_name->names[cast->type_name->n_names - 1]);
    return 1;
}

static int name_sublink(const PgQuery__SubLink *link, Slice *ret)
{
    if (link->sub_link_type == PG_QUERY__SUB_LINK_TYPE__EXISTS_SUBLINK)
        return name_constant("exists", ret);
    if (link->sub_link_type == PG_QUERY__SUB_LINK_TYPE__ARRAY_SUBLINK)
        return name_constant("array", ret);
    if (link->sub_link_type != PG_QUERY__SUB_LINK_TYPE__EXPR_SUBLINK ||
        link->subselect->node_case != PG_QUERY__NODE__NODE_SELECT_STMT ||
        !link->subselect->select_stmt->n_target_list)
        return 0;
    *ret = target_name(link->subselect->select_stmt->target_list[0]);
    return slice_is(*ret, "?column?") ? 0 : 2;
}

static int name_value_function(const PgQuery__SQLValueFunction *function, Slice *ret)
{
    static const char *const NAMES[] = {
        "",          "current_date", "current_time",    "current_time",    "current_timestamp",
        "current_timestamp", "localtime", "localtime", "localtimestamp", "localtimestamp",
        "current_role", "current_user", "user", "session_user", "current_catalog", "current_schema"};
    size_t op = (size_t)function->op;
    return op && op < ARRAY_LEN(NAMES) ? name_constant(NAMES[op], ret) : 0;
}

static int name_figure(const PgQuery__Node *node, Slice *ret)
{
    if (!node)
        return 0;
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_COLUMN_REF:
        return name_last(node->column_ref->fields, node->column_ref->n_fields, ret);
    case PG_QUERY__NODE__NODE_A_INDIRECTION: {
        int found = name_last(node->a_indirection->indirection, node->a_indirection->n_indirection, ret);
        return found ? found : name_figure(node->a_indirection->arg, ret);
    }
    case PG_QUERY__NODE__NODE_FUNC_CALL:
        return name_last(node->func_call->funcname, node->func_call->n_funcname, ret);
    case PG_QUERY__NODE__NODE_A_EXPR:
        return node->a_expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_NULLIF ? name_constant("nullif", ret)
                                                                         : 0;
    case PG_QUERY__NODE__NODE_TYPE_CAST:
        return name_cast(node->type_cast, ret);
    case PG_QUERY__NODE__NODE_COLLATE_CLAUSE:
        return name_figure(node->collate_clause->arg, ret);
    case PG_QUERY__NODE__NODE_GROUPING_FUNC:
        return name_constant("grouping", ret);
    case PG_QUERY__NODE__NODE_SUB_LINK:
        return name_sublink(node->sub_link, ret);
    case PG_QUERY__NODE__NODE_CASE_EXPR: {
        int strength = name_figure(node->case_expr->defresult, ret);
        if (strength > 1)
            return strength;
        *ret = SLICE("case");
        return 1;
    }
    case PG_QUERY__NODE__NODE_A_ARRAY_EXPR:
        return name_constant("array", ret);
    case PG_QUERY__NODE__NODE_ROW_EXPR:
        return name_constant("row", ret);
    case PG_QUERY__NODE__NODE_COALESCE_EXPR:
        return name_constant("coalesce", ret);
    case PG_QUERY__NODE__NODE_MIN_MAX_EXPR:
        return name_constant(node->min_max_expr->op == PG_QUERY__MIN_MAX_OP__IS_GREATEST ? "greatest"
                                                                                          : "least",
                             ret);
    case PG_QUERY__NODE__NODE_SQLVALUE_FUNCTION:
        return name_value_function(node->sqlvalue_function, ret);
    default:
        return 0;
    }
}

Slice target_name(const PgQuery__Node *target)
{
    Slice name = SLICE("?column?");
    if (target->node_case != PG_QUERY__NODE__NODE_RES_TARGET)
        return name;
    if (*target->res_target->name)
        return slice_str(target->res_target->name);
    name_figure(target->res_target->val, &name);
    return name;
}
