/*
 * shape_statement.c - which statement it is: one row per kind of statement that is not simply DDL.
 *
 * A row's function fills what is special about it; tables, functions and predicates come from the
 * folders' walkers. Whatever has no row is DDL that may run in a transaction block.
 */
#include "query/shape_build.h"

typedef PgQuery__Node Node;
typedef void (*StatementRead)(Build *build, const Node *node);

static void set_read(Build *build, const Node *node);
static void setting_values(Build *build, PgQuery__Node *const *args, size_t n);

static void kind_set(Build *build, ShapeKind kind) { build->shape->kind = kind; }

/* Everything below is looked at; the tables named are what the statement works on. */
static void utility_read(Build *build, const Node *node)
{
    Level level;
    level_begin(build, &level, NULL);
    facts_node(build, &level, node);
}

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

/* --- DDL that a distributed table cannot bear ------------------------------------------------- */

static void column_changed(Build *build, const char *name)
{
    Shape *shape = build->shape;
    Slice *column =
        build_add(build, build->arena, &shape->assigned, &shape->assigned_count, sizeof(Slice));
    if (column)
        *column = build_text(build, name);
}

static void rename_read(Build *build, const Node *node)
{
    const PgQuery__RenameStmt *rename = node->rename_stmt;
    kind_set(build, SHAPE_DDL);
    switch (rename->rename_type) {
    case PG_QUERY__OBJECT_TYPE__OBJECT_TABLE:
    case PG_QUERY__OBJECT_TYPE__OBJECT_VIEW: /* ALTER VIEW and ALTER INDEX may name a table, too */
    case PG_QUERY__OBJECT_TYPE__OBJECT_INDEX:
    case PG_QUERY__OBJECT_TYPE__OBJECT_SEQUENCE:
    case PG_QUERY__OBJECT_TYPE__OBJECT_MATVIEW:
        build_trait(build, SHAPE_MOVES_TABLE);
        break;
    case PG_QUERY__OBJECT_TYPE__OBJECT_SCHEMA:
        build_trait(build, SHAPE_MOVES_TABLE);
        build->shape->statement = build_text(build, rename->subname);
        break;
    case PG_QUERY__OBJECT_TYPE__OBJECT_COLUMN:
        column_changed(build, rename->subname);
        break;
    default:
        break;
    }
    utility_read(build, node);
}

static void new_schema_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_DDL);
    build_trait(build, SHAPE_MOVES_TABLE);
    utility_read(build, node);
}

/* The names of a list, each with a separator behind it. */
static void unique_add(Build *build, PgQuery__Node *const *names, size_t n)
{
    Shape *shape = build->shape;
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        len += tree_string(names[i]).len + 1;
    uint8_t *text = arena_alloc(build->arena, len + 1);
    Slice *unique = text ? build_add(build, build->arena, &shape->uniques, &shape->unique_count, sizeof(Slice)) : NULL;
    build->failed |= !text;
    if (!unique)
        return;
    *unique = slice_of(text, len);
    for (size_t i = 0; i < n; i++) {
        Slice name = tree_string(names[i]);
        if (name.len)
            memcpy(text, name.data, name.len);
        text[name.len] = SHAPE_UNIQUE_SEPARATOR;
        text += name.len + 1;
    }
}

/* Index elements: `name`, or an expression without one. */
static void unique_add_elements(Build *build, PgQuery__Node *const *elements, size_t n)
{
    PgQuery__Node **names = arena_array(build->arena, PgQuery__Node *, n + 1);
    PgQuery__Node *nodes = arena_array(build->arena, PgQuery__Node, n + 1);
    PgQuery__String *strings = arena_array(build->arena, PgQuery__String, n + 1);
    build->failed |= !names || !nodes || !strings;
    for (size_t i = 0; !build->failed && i < n; i++) {
        const Node *element = elements[i];
        if (element->node_case == PG_QUERY__NODE__NODE_LIST && element->list->n_items) /* EXCLUDE: (element, operator) */
            element = element->list->items[0];
        bool named = element->node_case == PG_QUERY__NODE__NODE_INDEX_ELEM;
        pg_query__string__init(&strings[i]);
        pg_query__node__init(&nodes[i]);
        strings[i].sval = named ? element->index_elem->name : (char *)(uintptr_t)"";
        nodes[i].node_case = PG_QUERY__NODE__NODE_STRING;
        nodes[i].string = &strings[i];
        names[i] = &nodes[i];
    }
    if (!build->failed)
        unique_add(build, names, n);
}

/* `column`: of a column's own constraint; NULL: the constraint names its columns. */
static void unique_read(Build *build, const Node *node, const char *column)
{
    if (node->node_case != PG_QUERY__NODE__NODE_CONSTRAINT)
        return;
    const PgQuery__Constraint *constraint = node->constraint;
    bool unique = constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_UNIQUE ||
                  constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY;
    if (constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_EXCLUSION)
        unique_add_elements(build, constraint->exclusions, constraint->n_exclusions);
    if (!unique || (constraint->indexname && *constraint->indexname)) /* USING INDEX: it was looked at before */
        return;
    PgQuery__String string = PG_QUERY__STRING__INIT;
    PgQuery__Node own = PG_QUERY__NODE__INIT, *owns[] = {&own};
    own.node_case = PG_QUERY__NODE__NODE_STRING;
    own.string = &string;
    string.sval = (char *)(uintptr_t)(column ? column : "");
    if (column)
        unique_add(build, owns, 1);
    else
        unique_add(build, constraint->keys, constraint->n_keys);
}

static void column_uniques_read(Build *build, const Node *node)
{
    if (node->node_case != PG_QUERY__NODE__NODE_COLUMN_DEF)
        return;
    const PgQuery__ColumnDef *column = node->column_def;
    for (size_t i = 0; i < column->n_constraints; i++)
        unique_read(build, column->constraints[i], column->colname);
}

static void create_read(Build *build, const Node *node)
{
    const PgQuery__CreateStmt *create = node->create_stmt;
    kind_set(build, SHAPE_DDL);
    for (size_t i = 0; i < create->n_table_elts; i++) {
        unique_read(build, create->table_elts[i], NULL);
        column_uniques_read(build, create->table_elts[i]);
    }
    if (node->create_stmt->n_inh_relations)
        build_trait(build, SHAPE_MOVES_TABLE);
    utility_read(build, node);
}

static void alter_facts(Build *build, const PgQuery__AlterTableStmt *alter)
{
    for (size_t i = 0; i < alter->n_cmds; i++) {
        if (alter->cmds[i]->node_case != PG_QUERY__NODE__NODE_ALTER_TABLE_CMD)
            continue;
        const PgQuery__AlterTableCmd *cmd = alter->cmds[i]->alter_table_cmd;
        switch (cmd->subtype) {
        case PG_QUERY__ALTER_TABLE_TYPE__AT_DropColumn:
        case PG_QUERY__ALTER_TABLE_TYPE__AT_AlterColumnType:
            column_changed(build, cmd->name);
            break;
        case PG_QUERY__ALTER_TABLE_TYPE__AT_AddInherit:
        case PG_QUERY__ALTER_TABLE_TYPE__AT_DropInherit:
        case PG_QUERY__ALTER_TABLE_TYPE__AT_AttachPartition:
            build_trait(build, SHAPE_MOVES_TABLE);
            break;
        case PG_QUERY__ALTER_TABLE_TYPE__AT_AddConstraint:
            if (cmd->def)
                unique_read(build, cmd->def, NULL);
            break;
        case PG_QUERY__ALTER_TABLE_TYPE__AT_AddColumn:
            if (cmd->def)
                column_uniques_read(build, cmd->def);
            break;
        default:
            break;
        }
    }
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

/* BEGIN ISOLATION LEVEL x READ ONLY; the same of SET TRANSACTION (a level set there is its `setting`). */
static void transaction_options(Build *build, PgQuery__Node *const *options, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (options[i]->node_case != PG_QUERY__NODE__NODE_DEF_ELEM)
            continue; /* SET TRANSACTION SNAPSHOT */
        const PgQuery__DefElem *option = options[i]->def_elem;
        const Node *arg = option->arg;
        if (!arg || arg->node_case != PG_QUERY__NODE__NODE_A_CONST)
            continue;
        if (slice_is(slice_str(option->defname), "transaction_read_only") &&
            arg->a_const->val_case == PG_QUERY__A__CONST__VAL_IVAL && arg->a_const->ival->ival)
            build_trait(build, SHAPE_HAS_READ_ONLY);
        if (slice_is(slice_str(option->defname), "transaction_isolation")) {
            build->shape->setting = build_text(build, option->defname);
            setting_values(build, &option->arg, 1);
        }
    }
}

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

/* --- SET, SHOW, RESET, DISCARD ------------------------------------------------------------- */

static Slice lower(Build *build, const char *text)
{
    Slice name = slice_str(text);
    uint8_t *copy = arena_alloc(build->arena, name.len);
    if (!copy) {
        build->failed = true;
        return slice_of(NULL, 0);
    }
    for (size_t i = 0; i < name.len; i++)
        copy[i] = name.data[i] >= 'A' && name.data[i] <= 'Z' ? name.data[i] | 0x20 : name.data[i];
    return slice_of(copy, name.len);
}

/* SET TRANSACTION and SET SESSION CHARACTERISTICS come as MULTI, with the rest as options. An isolation
 * level set by the former becomes `setting`. */
static void set_read(Build *build, const Node *node)
{
    const PgQuery__VariableSetStmt *set = node->variable_set_stmt;
    Shape *shape = build->shape;
    bool multi = set->kind == PG_QUERY__VARIABLE_SET_KIND__VAR_SET_MULTI;
    bool session = multi && slice_is(slice_str(set->name), "SESSION CHARACTERISTICS");
    if (set->kind == PG_QUERY__VARIABLE_SET_KIND__VAR_RESET_ALL) {
        kind_set(build, SHAPE_RESET_ALL);
        return;
    }
    shape->setting = lower(build, set->name);
    if (set->kind == PG_QUERY__VARIABLE_SET_KIND__VAR_RESET) {
        kind_set(build, SHAPE_RESET);
        return;
    }
    kind_set(build, set->is_local || (multi && !session) ? SHAPE_SET_LOCAL : SHAPE_SET);
    if (session || (shape->kind == SHAPE_SET && slice_is(shape->setting, "seed")))
        build_trait(build, SHAPE_LEAVES_STATE);
    if (!multi)
        setting_values(build, set->args, set->n_args);
    else if (!session)
        transaction_options(build, set->args, set->n_args);
}

/* 'text' with what needs doubling doubled; E'' where a backslash stands, right in either mode of
 * standard_conforming_strings. */
static char *quoted(Build *build, Slice text)
{
    bool escape = text.len && memchr(text.data, '\\', text.len);
    char *out = arena_alloc(build->scratch, text.len * 2 + 4), *to = out;
    if (!out)
        return NULL;
    if (escape)
        *to++ = 'E';
    *to++ = '\'';
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '\'' || text.data[i] == '\\')
            *to++ = (char)text.data[i];
        *to++ = (char)text.data[i];
    }
    *to++ = '\'';
    *to = '\0';
    return out;
}

/* [+-]hh:mm, an interval that reads alike whatever fields (HOUR TO MINUTE) it is cut to. */
static bool is_offset(Slice text)
{
    size_t at = text.len && (text.data[0] == '+' || text.data[0] == '-');
    size_t digits = 0;
    while (at + digits < text.len && text.data[at + digits] >= '0' && text.data[at + digits] <= '9')
        digits++;
    Slice rest = slice_from(text, at + digits);
    return digits >= 1 && digits <= 2 && rest.len == 3 && rest.data[0] == ':' && rest.data[1] >= '0' &&
           rest.data[1] <= '5' && rest.data[2] >= '0' && rest.data[2] <= '9';
}

/* SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE, as some ORMs greet: the server itself keeps it as the
 * string INTERVAL '+02:00', which it takes back. NULL when it is not that. */
static char *offset_value(Build *build, const Node *arg)
{
    const PgQuery__TypeCast *cast = arg->node_case == PG_QUERY__NODE__NODE_TYPE_CAST ? arg->type_cast : NULL;
    const Node *inner = cast ? cast->arg : NULL;
    if (!inner || inner->node_case != PG_QUERY__NODE__NODE_A_CONST ||
        inner->a_const->val_case != PG_QUERY__A__CONST__VAL_SVAL || !cast->type_name || !cast->type_name->n_names)
        return NULL;
    const Node *name = cast->type_name->names[cast->type_name->n_names - 1];
    Slice text = slice_str(inner->a_const->sval->sval);
    if (name->node_case != PG_QUERY__NODE__NODE_STRING || strcmp(name->string->sval, "interval") != 0 ||
        !is_offset(text))
        return NULL;
    return arena_printf(build->scratch, "'INTERVAL ''%.*s'''", SLICE_FMT(text));
}

/* The value as SQL; NULL when memory is out or, with *ret_odd, when it has no such form. In scratch. */
static char *setting_value(Build *build, const Node *arg, bool *ret_odd)
{
    char *offset = offset_value(build, arg);
    if (offset)
        return offset;
    const PgQuery__AConst *constant = arg->node_case == PG_QUERY__NODE__NODE_A_CONST ? arg->a_const : NULL;
    if (constant && constant->val_case == PG_QUERY__A__CONST__VAL_IVAL)
        return arena_printf(build->scratch, "%d", constant->ival->ival);
    if (constant && constant->val_case == PG_QUERY__A__CONST__VAL_FVAL)
        return arena_printf(build->scratch, "%s", constant->fval->fval);
    if (constant && constant->val_case == PG_QUERY__A__CONST__VAL_SVAL)
        return quoted(build, slice_str(constant->sval->sval));
    *ret_odd = true; /* SET TIME ZONE INTERVAL '1 day', and what may come */
    return NULL;
}

/* 'a', 'b', ... */
static void setting_values(Build *build, PgQuery__Node *const *args, size_t n)
{
    char **pieces = arena_array(build->scratch, char *, MAX(n, 1));
    size_t len = 1;
    bool odd = false;
    build->failed = build->failed || !pieces;
    for (size_t i = 0; i < n && !build->failed && !odd; i++) {
        pieces[i] = setting_value(build, args[i], &odd);
        len += pieces[i] ? strlen(pieces[i]) + 2 : 0;
        build->failed = !pieces[i] && !odd;
    }
    if (odd)
        build_trait(build, SHAPE_LEAVES_STATE);
    char *list = odd || build->failed ? NULL : arena_alloc(build->arena, len), *to = list;
    if (!list) {
        build->failed = build->failed || !odd;
        return;
    }
    for (size_t i = 0; i < n; i++)
        to = stpcpy(stpcpy(to, i ? ", " : ""), pieces[i]);
    build->shape->setting_value = slice_of(list, (size_t)(to - list));
}

static void set_constraints_read(Build *build, const Node *node) { kind_set(build, SHAPE_SET_LOCAL); }

static void show_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_SHOW);
    build->shape->setting = lower(build, node->variable_show_stmt->name);
}

static void discard_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_DISCARD);
    if (node->discard_stmt->target == PG_QUERY__DISCARD_MODE__DISCARD_ALL)
        build_trait(build, SHAPE_HAS_DISCARD_ALL);
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

/* --- DDL that cannot run inside a transaction block ---------------------------------------- */

static void alone_if(Build *build, const Node *node, bool alone)
{
    kind_set(build, alone ? SHAPE_DDL_ALONE : SHAPE_DDL);
    utility_read(build, node);
}
static void alone_read(Build *build, const Node *node) { alone_if(build, node, true); }
static void index_read(Build *build, const Node *node)
{
    const PgQuery__IndexStmt *index = node->index_stmt;
    alone_if(build, node, index->concurrent);
    if (index->unique)
        unique_add_elements(build, index->index_params, index->n_index_params);
    if (index->concurrent && index->if_not_exists)
        build->shape->statement = build_text(build, index->idxname);
}

static void drop_read(Build *build, const Node *node)
{
    const PgQuery__DropStmt *drop = node->drop_stmt;
    kind_set(build, drop->concurrent ? SHAPE_DDL_ALONE : SHAPE_DDL);
    bool tables = drop->remove_type == PG_QUERY__OBJECT_TYPE__OBJECT_TABLE ||
                  drop->remove_type == PG_QUERY__OBJECT_TYPE__OBJECT_VIEW ||
                  drop->remove_type == PG_QUERY__OBJECT_TYPE__OBJECT_MATVIEW ||
                  drop->remove_type == PG_QUERY__OBJECT_TYPE__OBJECT_FOREIGN_TABLE;
    for (size_t i = 0; tables && i < drop->n_objects; i++) {
        if (drop->objects[i]->node_case != PG_QUERY__NODE__NODE_LIST)
            continue;
        const PgQuery__List *names = drop->objects[i]->list;
        size_t n = names->n_items;
        PgQuery__RangeVar range = {
            .relname = n > 0 ? names->items[n - 1]->string->sval : NULL,
            .schemaname = n > 1 ? names->items[n - 2]->string->sval : NULL,
        };
        table_add(build, NULL, &range, true);
    }
}

static void alter_table_read(Build *build, const Node *node)
{
    const PgQuery__AlterTableStmt *alter = node->alter_table_stmt;
    bool alone = false;
    alter_facts(build, alter);
    for (size_t i = 0; i < alter->n_cmds; i++) {
        const Node *def = alter->cmds[i]->alter_table_cmd->def;
        alone = alone || (def && def->node_case == PG_QUERY__NODE__NODE_PARTITION_CMD &&
                          def->partition_cmd->concurrent);
    }
    alone_if(build, node, alone);
}

/* ALTER DATABASE x SET TABLESPACE. */
static void alter_database_read(Build *build, const Node *node)
{
    const PgQuery__AlterDatabaseStmt *alter = node->alter_database_stmt;
    bool alone = false;
    for (size_t i = 0; i < alter->n_options; i++)
        alone = alone || slice_is(slice_str(alter->options[i]->def_elem->defname), "tablespace");
    alone_if(build, node, alone);
}

static void vacuum_read(Build *build, const Node *node)
{
    utility_read(build, node);
    kind_set(build, node->vacuum_stmt->is_vacuumcmd ? SHAPE_DDL_ALONE : SHAPE_MAINTENANCE);
}
static void cluster_read(Build *build, const Node *node)
{
    utility_read(build, node);
    kind_set(build, node->cluster_stmt->relation ? SHAPE_MAINTENANCE : SHAPE_DDL_ALONE);
}
static void maintenance_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_MAINTENANCE);
    utility_read(build, node);
}
static void function_create_read(Build *build, const Node *node)
{
    const PgQuery__CreateFunctionStmt *create = node->create_function_stmt;
    kind_set(build, SHAPE_DDL);
    if (create->n_funcname > 1 && slice_is(tree_string(create->funcname[0]), "pg_temp"))
        build_trait(build, SHAPE_HAS_TEMP | SHAPE_LEAVES_STATE);
    utility_read(build, node);
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
