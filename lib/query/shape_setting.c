/*
 * shape_setting.c - SET, SHOW, RESET, DISCARD and the options of a transaction: name and value, as SQL that the
 * server takes back.
 */
#include "query/shape_build.h"

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

/* --- values, as SQL ------------------------------------------------------------------------ */

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

/* --- SET, SHOW, RESET, DISCARD ------------------------------------------------------------- */

/* BEGIN ISOLATION LEVEL x READ ONLY; the same of SET TRANSACTION (a level set there is its `setting`). */
void transaction_options(Build *build, PgQuery__Node *const *options, size_t n)
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

/* SET TRANSACTION and SET SESSION CHARACTERISTICS come as MULTI, with the rest as options. An isolation
 * level set by the former becomes `setting`. */
void set_read(Build *build, const Node *node)
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

void set_constraints_read(Build *build, const Node *node) { kind_set(build, SHAPE_SET_LOCAL); }

void show_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_SHOW);
    build->shape->setting = lower(build, node->variable_show_stmt->name);
}

void discard_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_DISCARD);
    if (node->discard_stmt->target == PG_QUERY__DISCARD_MODE__DISCARD_ALL)
        build_trait(build, SHAPE_HAS_DISCARD_ALL);
}
