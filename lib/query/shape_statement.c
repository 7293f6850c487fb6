/*
 * shape_statement.c - which statement it is: one row per kind of statement that is not simply DDL (rows that read
 * DDL stand in shape_ddl.c, those of settings in shape_setting.c).
 *
 * A row's function fills what is special about it; tables, functions and predicates come from the
 * folders' walkers. Whatever has no row is DDL that may run in a transaction block.
 */
#include "query/shape_build.h"

typedef void (*StatementRead)(Build *build, const Node *node);

/* --- queries ------------------------------------------------------------------------------- */

/* SELECT schema.function(args) and nothing else. */
static const PgQuery__FuncCall *lone_call(const PgQuery__SelectStmt *select)
{
    bool other = select->n_from_clause || select->where_clause || select->n_group_clause ||
                 select->having_clause || select->n_window_clause || select->n_sort_clause ||
                 select->limit_count || select->limit_offset || select->n_distinct_clause ||
                 select->with_clause || select->into_clause || select->larg ||
                 select->n_locking_clause;
    if (other || select->n_target_list != 1)
        return NULL;
    const Node *value = select->target_list[0]->res_target->val;
    if (!value || value->node_case != PG_QUERY__NODE__NODE_FUNC_CALL)
        return NULL;
    const PgQuery__FuncCall *call = value->func_call;
    bool odd = call->agg_star || call->agg_distinct || call->agg_filter || call->n_agg_order ||
               call->over || call->func_variadic;
    return odd ? NULL : call;
}

static bool is_citus_name(const PgQuery__FuncCall *call)
{
    static const char *const NAMES[] = {"create_distributed_table", "create_reference_table",
                                        "undistribute_table"};
    bool bare = call->n_funcname == 1 ||
                (call->n_funcname == 2 && slice_is(tree_string(call->funcname[0]), "pg_catalog"));
    for (size_t i = 0; bare && i < ARRAY_LEN(NAMES); i++)
        if (slice_is(tree_string(call->funcname[call->n_funcname - 1]), NAMES[i]))
            return true;
    return false;
}

static void shoal_call_read(Build *build, const PgQuery__SelectStmt *select)
{
    const PgQuery__FuncCall *call = lone_call(select);
    Shape *shape = build->shape;
    shape->shoal_call =
        call && call->n_funcname == 2 && slice_is(tree_string(call->funcname[0]), "shoal");
    shape->citus_call = call && !shape->shoal_call && is_citus_name(call);
    if (!shape->shoal_call && !shape->citus_call)
        return;
    shape->call_args = arena_array(build->arena, ShapeValue, MAX(call->n_args, 1));
    shape->call_names = arena_array(build->arena, Slice, MAX(call->n_args, 1));
    if (!shape->call_args || !shape->call_names) {
        build->failed = true;
        return;
    }
    shape->call_arg_count = (uint32_t)call->n_args;
    for (size_t i = 0; i < call->n_args; i++) {
        const Node *arg = call->args[i];
        if (arg->node_case == PG_QUERY__NODE__NODE_NAMED_ARG_EXPR) {
            shape->call_names[i] = build_text(build, arg->named_arg_expr->name);
            arg = arg->named_arg_expr->arg;
        }
        shape->call_args[i] = value_read(build, arg);
    }
}

static void select_statement(Build *build, const Node *node)
{
    const PgQuery__SelectStmt *select = node->select_stmt;
    kind_set(build, SHAPE_SELECT);
    query_read(build, NULL, node);
    shoal_call_read(build, select);
    if (select->n_target_list && !select->larg) {
        uint16_t token = token_place(build, token_at(build, select->target_list[0]->res_target->location));
        build->shape->select_list_token = token == UINT16_MAX ? 0 : token;
    }
}

static void insert_statement(Build *build, const Node *node)
{
    kind_set(build, SHAPE_INSERT);
    query_read(build, NULL, node);
}
static void update_statement(Build *build, const Node *node)
{
    kind_set(build, SHAPE_UPDATE);
    query_read(build, NULL, node);
}
static void delete_statement(Build *build, const Node *node)
{
    kind_set(build, SHAPE_DELETE);
    query_read(build, NULL, node);
}
static void merge_statement(Build *build, const Node *node)
{
    kind_set(build, SHAPE_MERGE);
    query_read(build, NULL, node);
}

static void table_as_read(Build *build, const Node *node)
{
    const PgQuery__CreateTableAsStmt *as = node->create_table_as_stmt;
    kind_set(build, SHAPE_DDL);
    query_read(build, NULL, as->query);
    if (as->into)
        facts_read(build, NULL, &as->into->base);
}

/* --- statements around a statement --------------------------------------------------------- */

static bool option_on(const PgQuery__DefElem *option)
{
    const Node *arg = option->arg;
    if (!arg)
        return true;
    if (arg->node_case == PG_QUERY__NODE__NODE_INTEGER)
        return arg->integer->ival != 0;
    if (arg->node_case == PG_QUERY__NODE__NODE_BOOLEAN)
        return arg->boolean->boolval;
    Slice word = tree_string(arg);
    return !slice_equal_nocase(word, SLICE("off")) && !slice_equal_nocase(word, SLICE("false"));
}

static void explain_read(Build *build, const Node *node)
{
    const PgQuery__ExplainStmt *explain = node->explain_stmt;
    for (size_t i = 0; i < explain->n_options; i++) {
        const PgQuery__DefElem *option = explain->options[i]->def_elem;
        if (slice_is(slice_str(option->defname), "analyze") && option_on(option))
            build_trait(build, SHAPE_HAS_ANALYZE);
    }
    query_read(build, NULL, explain->query);
    kind_set(build, SHAPE_EXPLAIN);
}

static void prepare_read(Build *build, const Node *node)
{
    const PgQuery__PrepareStmt *prepare = node->prepare_stmt;
    kind_set(build, SHAPE_PREPARE);
    build_trait(build, SHAPE_LEAVES_STATE);
    build->shape->statement = build_text(build, prepare->name);
    query_read(build, NULL, prepare->query);
    facts_nodes(build, NULL, prepare->argtypes, prepare->n_argtypes);
}

static void execute_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_EXECUTE);
    build->shape->statement = build_text(build, node->execute_stmt->name);
    utility_read(build, node);
}

static void deallocate_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_DEALLOCATE);
    build->shape->statement = build_text(build, node->deallocate_stmt->name);
}

static void declare_read(Build *build, const Node *node)
{
    enum { CURSOR_OPT_HOLD = 0x20 }; /* parsenodes.h */
    const PgQuery__DeclareCursorStmt *declare = node->declare_cursor_stmt;
    kind_set(build, SHAPE_DECLARE);
    if (declare->options & CURSOR_OPT_HOLD)
        build_trait(build, SHAPE_HAS_HOLD | SHAPE_LEAVES_STATE);
    build->shape->statement = build_text(build, declare->portalname);
    query_read(build, NULL, declare->query);
}

static void fetch_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_FETCH);
    build->shape->statement = build_text(build, node->fetch_stmt->portalname);
}
static void close_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_CLOSE);
    build->shape->statement = build_text(build, node->close_portal_stmt->portalname);
}

/* --- COPY ---------------------------------------------------------------------------------- */

static Slice option_text(Build *build, const Node *arg)
{
    if (!arg)
        return slice_of(NULL, 0);
    char *text = NULL;
    if (arg->node_case == PG_QUERY__NODE__NODE_INTEGER)
        text = arena_printf(build->arena, "%d", arg->integer->ival);
    else if (arg->node_case == PG_QUERY__NODE__NODE_BOOLEAN)
        text = arena_printf(build->arena, "%s", arg->boolean->boolval ? "true" : "false");
    else if (arg->node_case == PG_QUERY__NODE__NODE_FLOAT)
        text = arena_printf(build->arena, "%s", arg->float_->fval);
    else if (arg->node_case == PG_QUERY__NODE__NODE_A_STAR)
        text = arena_printf(build->arena, "*");
    else
        return build_slice(build, tree_string(arg));
    build->failed = build->failed || !text;
    return slice_str(text);
}

static void copy_options(Build *build, const PgQuery__CopyStmt *copy)
{
    Shape *shape = build->shape;
    for (size_t i = 0; i < copy->n_options; i++) {
        const PgQuery__DefElem *element = copy->options[i]->def_elem;
        ShapeOption *option = build_add(build, build->arena, &shape->options, &shape->option_count,
                                        sizeof(ShapeOption));
        if (!option)
            return;
        option->name = build_text(build, element->defname);
        option->value = option_text(build, element->arg);
    }
}

static void copy_read(Build *build, const Node *node)
{
    const PgQuery__CopyStmt *copy = node->copy_stmt;
    Shape *shape = build->shape;
    bool server = copy->is_program || (copy->filename && *copy->filename);
    kind_set(build, server ? SHAPE_COPY_SERVER : copy->is_from ? SHAPE_COPY_IN : SHAPE_COPY_OUT);
    copy_options(build, copy);
    if (copy->query && copy->query->node_case != PG_QUERY__NODE__NODE_SELECT_STMT)
        build_trait(build, SHAPE_HAS_MODIFYING_CTE);
    if (copy->query) {
        query_read(build, NULL, copy->query);
        return;
    }
    Level level;
    level_begin(build, &level, NULL);
    if (copy->relation)
        level_table(build, &level, copy->relation, true);
    facts_node(build, &level, copy->where_clause); /* restricts what is copied in, not the table */
    shape->insert.columns = arena_array(build->arena, Slice, MAX(copy->n_attlist, 1));
    for (size_t i = 0; shape->insert.columns && i < copy->n_attlist; i++)
        shape->insert.columns[i] = build_slice(build, tree_string(copy->attlist[i]));
    build->failed = build->failed || !shape->insert.columns;
    shape->insert.column_count = (uint32_t)copy->n_attlist;
    if (!copy->n_attlist)
        shape->insert.columns = NULL;
}

/* --- transactions -------------------------------------------------------------------------- */

static void transaction_read(Build *build, const Node *node)
{
    static const ShapeKind kinds[] = {
        [PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_BEGIN] = SHAPE_BEGIN,
        [PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_START] = SHAPE_BEGIN,
        [PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_COMMIT] = SHAPE_COMMIT,
        [PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK] = SHAPE_ROLLBACK,
        [PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_SAVEPOINT] = SHAPE_SAVEPOINT,
        [PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_RELEASE] = SHAPE_RELEASE,
        [PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK_TO] = SHAPE_ROLLBACK_TO,
        [PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_PREPARE] = SHAPE_PREPARE_TRANSACTION,
        [PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_COMMIT_PREPARED] = SHAPE_COMMIT_PREPARED,
        [PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK_PREPARED] = SHAPE_COMMIT_PREPARED,
    };
    const PgQuery__TransactionStmt *stmt = node->transaction_stmt;
    if ((size_t)stmt->kind < ARRAY_LEN(kinds) && stmt->kind != 0)
        kind_set(build, kinds[stmt->kind]);
    if (stmt->chain)
        build_trait(build, SHAPE_HAS_CHAIN);
    const char *name = stmt->gid && *stmt->gid ? stmt->gid : stmt->savepoint_name;
    build->shape->statement = build_text(build, name);
    transaction_options(build, stmt->options, stmt->n_options);
}

/* --- session, locks, code ------------------------------------------------------------------ */

static void listen_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_LISTEN);
    build_trait(build, SHAPE_LEAVES_STATE);
    build->shape->statement = build_text(build, node->listen_stmt->conditionname);
}
static void unlisten_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_LISTEN);
    build->shape->statement = build_text(build, node->unlisten_stmt->conditionname);
}
static void notify_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_NOTIFY);
    build->shape->statement = build_text(build, node->notify_stmt->conditionname);
}
static void lock_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_LOCK);
    utility_read(build, node);
}
static void call_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_CALL);
    utility_read(build, node);
}
/* Its body may do anything. */
static void do_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_DO);
    build_trait(build, SHAPE_LEAVES_STATE);
}
static void load_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_DDL);
    build_trait(build, SHAPE_LEAVES_STATE);
}

/* --- the table ----------------------------------------------------------------------------- */

static const struct {
    PgQuery__Node__NodeCase node;
    StatementRead read;
    bool values; /* literals in it are values; in the others they stay in the template */
} statements[] = {
    {PG_QUERY__NODE__NODE_SELECT_STMT, select_statement, true},
    {PG_QUERY__NODE__NODE_INSERT_STMT, insert_statement, true},
    {PG_QUERY__NODE__NODE_UPDATE_STMT, update_statement, true},
    {PG_QUERY__NODE__NODE_DELETE_STMT, delete_statement, true},
    {PG_QUERY__NODE__NODE_MERGE_STMT, merge_statement, true},
    {PG_QUERY__NODE__NODE_EXPLAIN_STMT, explain_read, true},
    {PG_QUERY__NODE__NODE_PREPARE_STMT, prepare_read, true},
    {PG_QUERY__NODE__NODE_EXECUTE_STMT, execute_read, true},
    {PG_QUERY__NODE__NODE_DECLARE_CURSOR_STMT, declare_read, true},
    {PG_QUERY__NODE__NODE_COPY_STMT, copy_read, true},
    {PG_QUERY__NODE__NODE_CALL_STMT, call_read, true},
    {PG_QUERY__NODE__NODE_CREATE_TABLE_AS_STMT, table_as_read, true},
    {PG_QUERY__NODE__NODE_TRANSACTION_STMT, transaction_read, false},
    {PG_QUERY__NODE__NODE_VARIABLE_SET_STMT, set_read, false},
    {PG_QUERY__NODE__NODE_VARIABLE_SHOW_STMT, show_read, false},
    {PG_QUERY__NODE__NODE_CONSTRAINTS_SET_STMT, set_constraints_read, false},
    {PG_QUERY__NODE__NODE_DISCARD_STMT, discard_read, false},
    {PG_QUERY__NODE__NODE_DEALLOCATE_STMT, deallocate_read, false},
    {PG_QUERY__NODE__NODE_FETCH_STMT, fetch_read, false},
    {PG_QUERY__NODE__NODE_CLOSE_PORTAL_STMT, close_read, false},
    {PG_QUERY__NODE__NODE_LISTEN_STMT, listen_read, false},
    {PG_QUERY__NODE__NODE_UNLISTEN_STMT, unlisten_read, false},
    {PG_QUERY__NODE__NODE_NOTIFY_STMT, notify_read, false},
    {PG_QUERY__NODE__NODE_LOCK_STMT, lock_read, false},
    {PG_QUERY__NODE__NODE_DO_STMT, do_read, false},
    {PG_QUERY__NODE__NODE_LOAD_STMT, load_read, false},
    {PG_QUERY__NODE__NODE_INDEX_STMT, index_read, false},
    {PG_QUERY__NODE__NODE_DROP_STMT, drop_read, false},
    {PG_QUERY__NODE__NODE_ALTER_TABLE_STMT, alter_table_read, false},
    {PG_QUERY__NODE__NODE_RENAME_STMT, rename_read, false},
    {PG_QUERY__NODE__NODE_ALTER_OBJECT_SCHEMA_STMT, new_schema_read, false},
    {PG_QUERY__NODE__NODE_CREATE_STMT, create_read, false},
    {PG_QUERY__NODE__NODE_ALTER_DATABASE_STMT, alter_database_read, false},
    {PG_QUERY__NODE__NODE_CREATE_FUNCTION_STMT, function_create_read, false},
    {PG_QUERY__NODE__NODE_VACUUM_STMT, vacuum_read, false},
    {PG_QUERY__NODE__NODE_CLUSTER_STMT, cluster_read, false},
    {PG_QUERY__NODE__NODE_CHECK_POINT_STMT, maintenance_read, false},
    {PG_QUERY__NODE__NODE_REFRESH_MAT_VIEW_STMT, maintenance_read, false},
    {PG_QUERY__NODE__NODE_REINDEX_STMT, alone_read, false},
    {PG_QUERY__NODE__NODE_CREATEDB_STMT, alone_read, false},
    {PG_QUERY__NODE__NODE_DROPDB_STMT, alone_read, false},
    {PG_QUERY__NODE__NODE_CREATE_TABLE_SPACE_STMT, alone_read, false},
    {PG_QUERY__NODE__NODE_DROP_TABLE_SPACE_STMT, alone_read, false},
    {PG_QUERY__NODE__NODE_ALTER_SYSTEM_STMT, alone_read, false},
    {PG_QUERY__NODE__NODE_CREATE_SUBSCRIPTION_STMT, alone_read, false},
    {PG_QUERY__NODE__NODE_ALTER_SUBSCRIPTION_STMT, alone_read, false},
    {PG_QUERY__NODE__NODE_DROP_SUBSCRIPTION_STMT, alone_read, false},
};

void statement_read(Build *build, const PgQuery__Node *stmt)
{
    for (size_t i = 0; stmt && i < ARRAY_LEN(statements); i++)
        if (statements[i].node == stmt->node_case) {
            statements[i].read(build, stmt);
            return;
        }
    kind_set(build, SHAPE_DDL);
    if (stmt)
        utility_read(build, stmt);
}

bool statement_has_values(const PgQuery__Node *stmt)
{
    for (size_t i = 0; stmt && i < ARRAY_LEN(statements); i++)
        if (statements[i].node == stmt->node_case)
            return statements[i].values;
    return false;
}
