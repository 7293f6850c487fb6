/*
 * shape_facts.c - what stands in expressions: functions, operators, types, parameters, traits.
 *
 * One walk over everything below a node. Kinds of node that mean something have a row in the table;
 * all others are only passed through. Clauses that open a new Level (subqueries) go back to
 * shape_query.c.
 */
#include "query/shape_build.h"

typedef struct Facts {
    Build *build;
    const Level *level;
} Facts;

typedef void (*FactRead)(Build *build, const Level *level, const ProtobufCMessage *message);

static void children_read(Build *build, const Level *level, const ProtobufCMessage *message);

static void child_visit(const ProtobufCMessage *message, void *context)
{
    const Facts *facts = context;
    facts_read(facts->build, facts->level, message);
}

static void children_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    Facts facts = {build, level};
    tree_children(message, child_visit, &facts);
}

/* --- functions ----------------------------------------------------------------------------- */

/*
 * Functions whose effect stays with the server session. They pin the client's session to its
 * backend. Left out on purpose: pg_advisory_xact_*, pg_export_snapshot, lo_open and friends (all end
 * with the transaction), and nextval: its trace is seen by currval and lastval alone, which are told
 * apart by SHAPE_READS_STATE.
 */
static const char *const state_functions[] = {
    "set_config", /* unless its third argument is the constant true */
    "setseed",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_replication_origin_session_setup",
    "pg_replication_origin_session_reset",
    "pg_replication_origin_session_progress",
    "pg_replication_origin_session_is_setup",
    "pg_create_logical_replication_slot", /* may be temporary */
    "pg_create_physical_replication_slot",
    "dblink_connect",
    "dblink_connect_u",
    "dblink_disconnect",
    "dblink_open",
    "dblink_fetch",
    "dblink_close",
    "dblink_exec", /* may use a named connection */
    "dblink_send_query",
    "dblink_get_result",
    "dblink_get_connections",
};

/* pg_temp, or pg_temp_3 as the catalog calls it. */
bool schema_is_temporary(Slice schema)
{
    return slice_is(schema, "pg_temp") || (schema.len > 8 && memcmp(schema.data, "pg_temp_", 8) == 0);
}

bool function_keeps_state(ShapeName name)
{
    if (schema_is_temporary(name.schema))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(state_functions); i++)
        if (slice_is(name.name, state_functions[i]))
            return true;
    return false;
}

static bool const_is_true(const PgQuery__Node *node)
{
    return node->node_case == PG_QUERY__NODE__NODE_A_CONST &&
           node->a_const->val_case == PG_QUERY__A__CONST__VAL_BOOLVAL &&
           node->a_const->boolval->boolval;
}

static void function_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    const PgQuery__FuncCall *call = (const PgQuery__FuncCall *)message;
    ShapeName name = name_borrow(call->funcname, call->n_funcname);
    build_add_name(build, &build->shape->functions, &build->shape->function_count, name);
    bool local = slice_is(name.name, "set_config") && call->n_args == 3 && const_is_true(call->args[2]);
    if (function_keeps_state(name) && !local)
        build_trait(build, SHAPE_LEAVES_STATE);
    if (slice_is(name.name, "currval") || slice_is(name.name, "lastval"))
        build_trait(build, SHAPE_READS_STATE);
    if (schema_is_temporary(name.schema))
        build_trait(build, SHAPE_HAS_TEMP);
    if (call->over)
        build_trait(build, SHAPE_HAS_WINDOW);
    children_read(build, level, message);
}

static void time_or_role_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    const PgQuery__SQLValueFunction *function = (const PgQuery__SQLValueFunction *)message;
    build_trait(build, function->op <= PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP_N
                           ? SHAPE_HAS_TIME_VALUE
                           : SHAPE_HAS_ROLE_VALUE);
}

/* --- operators ----------------------------------------------------------------------------- */

static void operator_add(Build *build, PgQuery__Node *const *names, size_t n)
{
    if (n > 0)
        build_add_name(build, &build->shape->operators, &build->shape->operator_count,
                       name_borrow(names, n));
}

static void operator_add_spelt(Build *build, const char *spelt)
{
    build_add_name(build, &build->shape->operators, &build->shape->operator_count,
                   (ShapeName){.name = slice_str(spelt)});
}

/* The tree names BETWEEN as such; what runs is a pair of comparisons. */
static void expression_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    const PgQuery__AExpr *expression = (const PgQuery__AExpr *)message;
    switch (expression->kind) {
    case PG_QUERY__A__EXPR__KIND__AEXPR_BETWEEN:
    case PG_QUERY__A__EXPR__KIND__AEXPR_BETWEEN_SYM:
        operator_add_spelt(build, ">=");
        operator_add_spelt(build, "<=");
        break;
    case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_BETWEEN:
    case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_BETWEEN_SYM:
        operator_add_spelt(build, "<");
        operator_add_spelt(build, ">");
        break;
    default:
        operator_add(build, expression->name, expression->n_name);
        break;
    }
    children_read(build, level, message);
}

static void sort_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    const PgQuery__SortBy *sort = (const PgQuery__SortBy *)message;
    operator_add(build, sort->use_op, sort->n_use_op);
    children_read(build, level, message);
}

static void sublink_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    const PgQuery__SubLink *link = (const PgQuery__SubLink *)message;
    build_trait(build, SHAPE_HAS_SUBQUERY);
    if (link->n_oper_name)
        operator_add(build, link->oper_name, link->n_oper_name);
    else if (link->sub_link_type == PG_QUERY__SUB_LINK_TYPE__ANY_SUBLINK)
        operator_add_spelt(build, "="); /* IN (SELECT ...) */
    facts_node(build, level, link->testexpr);
    query_read(build, level, link->subselect);
}

/* --- the rest ------------------------------------------------------------------------------ */

static void type_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    const PgQuery__TypeName *type = (const PgQuery__TypeName *)message;
    build_add_name(build, &build->shape->types, &build->shape->type_count,
                   name_borrow(type->names, type->n_names));
}

static void param_count(Build *build, uint32_t number)
{
    enum { NUMBER_MAX = UINT16_MAX }; /* of the protocol */
    Shape *shape = build->shape;
    if (number > NUMBER_MAX)
        return;
    if (number > shape->param_use_count) {
        uint32_t count = MIN(MAX(number, shape->param_use_count * 2), NUMBER_MAX);
        uint8_t *uses = arena_alloc(build->arena, count);
        if (!uses) {
            build->failed = true;
            return;
        }
        memset(uses, 0, count);
        if (shape->param_use_count)
            memcpy(uses, shape->param_uses, shape->param_use_count);
        shape->param_uses = uses;
        shape->param_use_count = count;
    }
    if (shape->param_uses[number - 1] < UINT8_MAX)
        shape->param_uses[number - 1]++;
}

static void param_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    int32_t number = ((const PgQuery__ParamRef *)message)->number;
    if (number <= 0)
        return;
    build->shape->param_max = MAX(build->shape->param_max, (uint32_t)number);
    param_count(build, (uint32_t)number);
}

static void star_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    build_trait(build, SHAPE_HAS_STAR);
}

/* FOR UPDATE OF x: x is an alias, not a table. */
static void locking_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    build_trait(build, SHAPE_HAS_LOCKING);
}

static void window_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    build_trait(build, SHAPE_HAS_WINDOW);
    children_read(build, level, message);
}

static void into_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    const PgQuery__IntoClause *into = (const PgQuery__IntoClause *)message;
    build_trait(build, SHAPE_HAS_INTO);
    if (into->rel)
        table_add(build, level, into->rel, true);
}

/* FROM is read by shape_level.c; a table anywhere else is what a utility statement works on. */
static void range_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    table_add(build, level, (const PgQuery__RangeVar *)message, true);
}

/* REFERENCES other, LIKE other: named, not changed. */
static void constraint_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    const PgQuery__Constraint *constraint = (const PgQuery__Constraint *)message;
    if (constraint->pktable)
        table_add(build, level, constraint->pktable, false);
    facts_node(build, level, constraint->raw_expr);
    facts_node(build, level, constraint->where_clause);
}

static void like_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    const PgQuery__TableLikeClause *like = (const PgQuery__TableLikeClause *)message;
    if (like->relation)
        table_add(build, level, like->relation, false);
}

static void select_fact(Build *build, const Level *level, const ProtobufCMessage *message)
{
    select_read(build, level, (const PgQuery__SelectStmt *)message);
}

/* A Node is unwrapped; DML below it gets its own level. */
static void node_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    const PgQuery__Node *node = (const PgQuery__Node *)message;
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_SELECT_STMT:
    case PG_QUERY__NODE__NODE_INSERT_STMT:
    case PG_QUERY__NODE__NODE_UPDATE_STMT:
    case PG_QUERY__NODE__NODE_DELETE_STMT:
    case PG_QUERY__NODE__NODE_MERGE_STMT:
        query_read(build, level, node);
        break;
    case PG_QUERY__NODE__NODE__NOT_SET:
        break;
    default:
        facts_read(build, level, tree_inside(node));
        break;
    }
}

static const struct {
    const ProtobufCMessageDescriptor *descriptor;
    FactRead read;
} fact_table[] = {
    {&pg_query__node__descriptor, node_read}, /* first: every other message is one */
    {&pg_query__a__expr__descriptor, expression_read},
    {&pg_query__func_call__descriptor, function_read},
    {&pg_query__type_name__descriptor, type_read},
    {&pg_query__param_ref__descriptor, param_read},
    {&pg_query__a__star__descriptor, star_read},
    {&pg_query__sub_link__descriptor, sublink_read},
    {&pg_query__sort_by__descriptor, sort_read},
    {&pg_query__window_def__descriptor, window_read},
    {&pg_query__sqlvalue_function__descriptor, time_or_role_read},
    {&pg_query__select_stmt__descriptor, select_fact},
    {&pg_query__locking_clause__descriptor, locking_read},
    {&pg_query__into_clause__descriptor, into_read},
    {&pg_query__range_var__descriptor, range_read},
    {&pg_query__constraint__descriptor, constraint_read},
    {&pg_query__table_like_clause__descriptor, like_read},
};

void facts_read(Build *build, const Level *level, const ProtobufCMessage *message)
{
    if (!message || build->failed)
        return;
    for (size_t i = 0; i < ARRAY_LEN(fact_table); i++) {
        if (fact_table[i].descriptor == message->descriptor) {
            fact_table[i].read(build, level, message);
            return;
        }
    }
    children_read(build, level, message);
}

void facts_node(Build *build, const Level *level, const PgQuery__Node *node)
{
    if (node)
        facts_read(build, level, &node->base);
}

void facts_nodes(Build *build, const Level *level, PgQuery__Node *const *nodes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        facts_node(build, level, nodes[i]);
}
