/* tree_build.c - makes parse nodes; PostgreSQL's own words for them come from libpg_query's deparser. */
#include "query/tree_build.h"

#include <stdlib.h>
#include <string.h>

#include "query/grammar.h"

/* A new message of `type`, initialised as protobuf-c wants it. */
#define NEW(maker, Type, init) ((Type *)message_new((maker), sizeof(Type), (void (*)(void *))(init)))

typedef void Init(void *message);

static void *message_new(Maker *maker, size_t size, Init *init)
{
    void *message = arena_zalloc(maker->arena, size);
    if (!message)
        maker->failed = true;
    else
        init(message);
    return message;
}

static char *text_copy(Maker *maker, const char *text)
{
    char *copy = arena_text(maker->arena, slice_str(text));
    maker->failed |= !copy;
    return copy;
}

#define WRAP(function, Message, init_message, CASE, field)                                           \
    static PgQuery__Node *function(Maker *maker, Message *inside)                                     \
    {                                                                                                 \
        PgQuery__Node *node = NEW(maker, PgQuery__Node, pg_query__node__init);                        \
        if (!node || !inside)                                                                         \
            return NULL;                                                                              \
        node->node_case = CASE;                                                                       \
        node->field = inside;                                                                         \
        return node;                                                                                  \
    }

WRAP(wrap_string, PgQuery__String, , PG_QUERY__NODE__NODE_STRING, string)
WRAP(wrap_const, PgQuery__AConst, , PG_QUERY__NODE__NODE_A_CONST, a_const)
WRAP(wrap_param, PgQuery__ParamRef, , PG_QUERY__NODE__NODE_PARAM_REF, param_ref)
WRAP(wrap_column, PgQuery__ColumnRef, , PG_QUERY__NODE__NODE_COLUMN_REF, column_ref)
WRAP(wrap_call, PgQuery__FuncCall, , PG_QUERY__NODE__NODE_FUNC_CALL, func_call)
WRAP(wrap_expr, PgQuery__AExpr, , PG_QUERY__NODE__NODE_A_EXPR, a_expr)
WRAP(wrap_cast, PgQuery__TypeCast, , PG_QUERY__NODE__NODE_TYPE_CAST, type_cast)
WRAP(wrap_target, PgQuery__ResTarget, , PG_QUERY__NODE__NODE_RES_TARGET, res_target)
WRAP(wrap_table, PgQuery__RangeVar, , PG_QUERY__NODE__NODE_RANGE_VAR, range_var)
WRAP(wrap_bool, PgQuery__BoolExpr, , PG_QUERY__NODE__NODE_BOOL_EXPR, bool_expr)
WRAP(wrap_select, PgQuery__SelectStmt, , PG_QUERY__NODE__NODE_SELECT_STMT, select_stmt)
WRAP(wrap_sort, PgQuery__SortBy, , PG_QUERY__NODE__NODE_SORT_BY, sort_by)

void list_add(Maker *maker, PgQuery__Node ***list, size_t *count, PgQuery__Node *node)
{
    PgQuery__Node **grown = arena_array(maker->arena, PgQuery__Node *, *count + 1);
    if (!grown || !node) {
        maker->failed = true;
        return;
    }
    if (*count)
        memcpy(grown, *list, *count * sizeof *grown);
    grown[(*count)++] = node;
    *list = grown;
}

PgQuery__Node *make_string(Maker *maker, const char *text)
{
    PgQuery__String *string = NEW(maker, PgQuery__String, pg_query__string__init);
    if (string)
        string->sval = text_copy(maker, text);
    return wrap_string(maker, string);
}

PgQuery__Node *make_integer(Maker *maker, int32_t value)
{
    PgQuery__AConst *constant = NEW(maker, PgQuery__AConst, pg_query__a__const__init);
    PgQuery__Integer *integer = NEW(maker, PgQuery__Integer, pg_query__integer__init);
    if (!constant || !integer)
        return NULL;
    integer->ival = value;
    constant->val_case = PG_QUERY__A__CONST__VAL_IVAL;
    constant->ival = integer;
    return wrap_const(maker, constant);
}

PgQuery__Node *make_number(Maker *maker, const char *digits)
{
    PgQuery__AConst *constant = NEW(maker, PgQuery__AConst, pg_query__a__const__init);
    PgQuery__Float *number = NEW(maker, PgQuery__Float, pg_query__float__init);
    if (!constant || !number)
        return NULL;
    number->fval = text_copy(maker, digits);
    constant->val_case = PG_QUERY__A__CONST__VAL_FVAL;
    constant->fval = number;
    return wrap_const(maker, constant);
}

PgQuery__Node *make_text(Maker *maker, const char *text)
{
    PgQuery__AConst *constant = NEW(maker, PgQuery__AConst, pg_query__a__const__init);
    PgQuery__String *string = NEW(maker, PgQuery__String, pg_query__string__init);
    if (!constant || !string)
        return NULL;
    string->sval = text_copy(maker, text);
    constant->val_case = PG_QUERY__A__CONST__VAL_SVAL;
    constant->sval = string;
    return wrap_const(maker, constant);
}

PgQuery__Node *make_param(Maker *maker, int32_t number)
{
    PgQuery__ParamRef *param = NEW(maker, PgQuery__ParamRef, pg_query__param_ref__init);
    if (param)
        param->number = number;
    return wrap_param(maker, param);
}

PgQuery__Node *make_column(Maker *maker, const char *qualifier, const char *name)
{
    PgQuery__ColumnRef *column = NEW(maker, PgQuery__ColumnRef, pg_query__column_ref__init);
    if (!column)
        return NULL;
    if (qualifier)
        list_add(maker, &column->fields, &column->n_fields, make_string(maker, qualifier));
    list_add(maker, &column->fields, &column->n_fields, make_string(maker, name));
    return wrap_column(maker, column);
}

PgQuery__Node *make_call(Maker *maker, const char *name, PgQuery__Node **args, size_t n)
{
    PgQuery__FuncCall *call = NEW(maker, PgQuery__FuncCall, pg_query__func_call__init);
    if (!call)
        return NULL;
    list_add(maker, &call->funcname, &call->n_funcname, make_string(maker, "pg_catalog"));
    list_add(maker, &call->funcname, &call->n_funcname, make_string(maker, name));
    for (size_t i = 0; i < n; i++)
        list_add(maker, &call->args, &call->n_args, args[i]);
    call->funcformat = PG_QUERY__COERCION_FORM__COERCE_EXPLICIT_CALL;
    return wrap_call(maker, call);
}

PgQuery__Node *make_operator(Maker *maker, const char *name, PgQuery__Node *left, PgQuery__Node *right)
{
    PgQuery__AExpr *expr = NEW(maker, PgQuery__AExpr, pg_query__a__expr__init);
    if (!expr)
        return NULL;
    expr->kind = PG_QUERY__A__EXPR__KIND__AEXPR_OP;
    list_add(maker, &expr->name, &expr->n_name, make_string(maker, name));
    expr->lexpr = left;
    expr->rexpr = right;
    return wrap_expr(maker, expr);
}

PgQuery__Node *make_cast(Maker *maker, PgQuery__Node *arg, const char *schema, const char *type)
{
    PgQuery__TypeCast *cast = NEW(maker, PgQuery__TypeCast, pg_query__type_cast__init);
    PgQuery__TypeName *name = NEW(maker, PgQuery__TypeName, pg_query__type_name__init);
    if (!cast || !name)
        return NULL;
    if (schema)
        list_add(maker, &name->names, &name->n_names, make_string(maker, schema));
    list_add(maker, &name->names, &name->n_names, make_string(maker, type));
    name->typemod = -1;
    cast->arg = arg;
    cast->type_name = name;
    return wrap_cast(maker, cast);
}

PgQuery__Node *make_target(Maker *maker, const char *name, PgQuery__Node *value)
{
    PgQuery__ResTarget *target = NEW(maker, PgQuery__ResTarget, pg_query__res_target__init);
    if (!target)
        return NULL;
    if (name)
        target->name = text_copy(maker, name);
    target->val = value;
    return wrap_target(maker, target);
}

PgQuery__Node *make_table(Maker *maker, const char *schema, const char *name, const char *alias)
{
    PgQuery__RangeVar *table = NEW(maker, PgQuery__RangeVar, pg_query__range_var__init);
    PgQuery__Alias *as = alias ? NEW(maker, PgQuery__Alias, pg_query__alias__init) : NULL;
    if (!table || (alias && !as))
        return NULL;
    table->schemaname = text_copy(maker, schema);
    table->relname = text_copy(maker, name);
    table->inh = true;
    table->relpersistence = text_copy(maker, "p");
    if (as)
        as->aliasname = text_copy(maker, alias);
    table->alias = as;
    return wrap_table(maker, table);
}

PgQuery__Node *make_and(Maker *maker, PgQuery__Node **terms, size_t n)
{
    if (n == 0)
        return NULL;
    if (n == 1)
        return terms[0];
    PgQuery__BoolExpr *expr = NEW(maker, PgQuery__BoolExpr, pg_query__bool_expr__init);
    if (!expr)
        return NULL;
    expr->boolop = PG_QUERY__BOOL_EXPR_TYPE__AND_EXPR;
    for (size_t i = 0; i < n; i++)
        list_add(maker, &expr->args, &expr->n_args, terms[i]);
    return wrap_bool(maker, expr);
}

PgQuery__SelectStmt *make_select(Maker *maker)
{
    PgQuery__SelectStmt *select = NEW(maker, PgQuery__SelectStmt, pg_query__select_stmt__init);
    if (select) {
        select->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
        select->op = PG_QUERY__SET_OPERATION__SETOP_NONE;
    }
    return select;
}

PgQuery__Node *make_select_node(Maker *maker, PgQuery__SelectStmt *select)
{
    return wrap_select(maker, select);
}

PgQuery__SortBy *make_sort_copy(Maker *maker, const PgQuery__SortBy *sort, PgQuery__Node *node)
{
    PgQuery__SortBy *copy = NEW(maker, PgQuery__SortBy, pg_query__sort_by__init);
    if (!copy)
        return NULL;
    *copy = *sort;
    copy->node = node;
    return copy;
}

PgQuery__Node *make_sort_node(Maker *maker, PgQuery__SortBy *sort)
{
    return wrap_sort(maker, sort);
}

Slice tree_text(Maker *maker, PgQuery__SelectStmt *select)
{
    if (maker->failed)
        return slice_of(NULL, 0);
    PgQuery__ParseResult result = PG_QUERY__PARSE_RESULT__INIT;
    PgQuery__RawStmt raw = PG_QUERY__RAW_STMT__INIT;
    PgQuery__RawStmt *list[1] = {&raw};
    raw.stmt = wrap_select(maker, select);
    result.stmts = list;
    result.n_stmts = 1;
    return raw.stmt ? grammar_deparse(&result, maker->arena) : slice_of(NULL, 0);
}

/* ---- equality --------------------------------------------------------------------------------- */

static bool field_is_place(const ProtobufCFieldDescriptor *field)
{
    return strcmp(field->name, "location") == 0 || strcmp(field->name, "stmt_location") == 0 ||
           strcmp(field->name, "stmt_len") == 0;
}

static size_t value_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    default:
        return 4;
    }
}

static bool value_equal(const ProtobufCFieldDescriptor *field, const void *a, const void *b)
{
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        const ProtobufCMessage *x = *(ProtobufCMessage *const *)a, *y = *(ProtobufCMessage *const *)b;
        return x == y || (x && y && tree_equal(x, y));
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        const char *x = *(const char *const *)a, *y = *(const char *const *)b;
        return x == y || (x && y && strcmp(x, y) == 0);
    }
    if (field->type == PROTOBUF_C_TYPE_BYTES)
        return false; /* no parse node has them */
    return memcmp(a, b, value_size(field->type)) == 0;
}

static bool field_equal(const ProtobufCFieldDescriptor *field, const ProtobufCMessage *a,
                        const ProtobufCMessage *b)
{
    const char *x = (const char *)a, *y = (const char *)b;
    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            uint32_t in_x, in_y;
            memcpy(&in_x, x + field->quantifier_offset, sizeof in_x);
            memcpy(&in_y, y + field->quantifier_offset, sizeof in_y);
            if (in_x != in_y)
                return false;
            if (in_x != field->id)
                return true;
        }
        return value_equal(field, x + field->offset, y + field->offset);
    }
    size_t n, m;
    memcpy(&n, x + field->quantifier_offset, sizeof n);
    memcpy(&m, y + field->quantifier_offset, sizeof m);
    if (n != m)
        return false;
    size_t step = field->type == PROTOBUF_C_TYPE_MESSAGE || field->type == PROTOBUF_C_TYPE_STRING
                      ? sizeof(void *)
                      : value_size(field->type);
    const char *list_x = *(const char *const *)(const void *)(x + field->offset);
    const char *list_y = *(const char *const *)(const void *)(y + field->offset);
    for (size_t i = 0; i < n; i++)
        if (!value_equal(field, list_x + i * step, list_y + i * step))
            return false;
    return true;
}

bool tree_equal(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
    if (a->descriptor != b->descriptor)
        return false;
    for (unsigned i = 0; i < a->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &a->descriptor->fields[i];
        if (!field_is_place(field) && !field_equal(field, a, b))
            return false;
    }
    return true;
}
