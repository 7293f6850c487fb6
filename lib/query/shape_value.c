/*
 * shape_value.c - constants and parameters of the tree, tied to the tokens of the text.
 *
 *     where id = - 42 :: bigint              the tree says: constant at byte 11 (the minus sign),
 *                |    |  |                   cast to pg_catalog.int8 at byte 16
 *     tokens     3    4  5  6                the Shape says: literal 0, negative, tokens 3..6
 *
 * The tree holds the value of this one text, the Shape must not: it keeps the literal's number.
 */
#include "query/shape_build.h"

static ShapeValue const_read(Build *build, const PgQuery__AConst *constant);
static ShapeValue cast_read(Build *build, const PgQuery__TypeCast *cast);
static void cast_place(const Build *build, const PgQuery__TypeCast *cast, ShapeValue *value);
static uint32_t type_tokens(const Build *build, uint32_t first);

static ShapeValue value_of(ShapeValueKind kind)
{
    return (ShapeValue){.kind = kind, .token = UINT16_MAX};
}

ShapeValue value_read(Build *build, const PgQuery__Node *node)
{
    ShapeValue value = value_of(SHAPE_VALUE_OPAQUE);
    if (!node)
        return value;
    if (node->node_case == PG_QUERY__NODE__NODE_A_CONST)
        return const_read(build, node->a_const);
    if (node->node_case == PG_QUERY__NODE__NODE_TYPE_CAST)
        return cast_read(build, node->type_cast);
    if (node->node_case == PG_QUERY__NODE__NODE_SET_TO_DEFAULT)
        return value_of(SHAPE_VALUE_DEFAULT);
    if (node->node_case == PG_QUERY__NODE__NODE_PARAM_REF && node->param_ref->number > 0) {
        value.kind = SHAPE_VALUE_PARAM;
        value.index = (uint32_t)node->param_ref->number;
        value.token = token_place(build, token_at(build, node->param_ref->location));
        value.token_count = 1;
    }
    return value;
}

static ShapeValue const_read(Build *build, const PgQuery__AConst *constant)
{
    uint32_t first = token_at(build, constant->location), index, end;
    bool negative;
    ShapeValue value = value_of(SHAPE_VALUE_OPAQUE);
    if (constant->isnull) {
        value.kind = SHAPE_VALUE_NULL;
        end = first + 1;
    } else if (constant->val_case != PG_QUERY__A__CONST__VAL_BOOLVAL &&
               literal_at(build, constant->location, &index, &negative, &end)) {
        value.kind = SHAPE_VALUE_LITERAL;
        value.index = index;
        value.negative = negative;
    } else {
        return value;
    }
    /* With parentheses between sign and digits the place is no plain run of tokens. */
    bool plain = first != UINT32_MAX && end > first && end - first <= 2;
    if (plain) {
        value.token = token_place(build, first);
        value.token_count = (uint16_t)(end - first);
    }
    return value;
}

bool literal_at(const Build *build, int32_t location, uint32_t *ret_index, bool *ret_negative,
                uint32_t *ret_token_end)
{
    uint32_t at = token_at(build, location);
    bool negative = false;
    for (; at < build->token_count; at++) {
        Token token = build->tokens[at];
        uint8_t c = build->text.data[token.offset];
        if (token.kind == TOKEN_OPERATOR && token.len == 1 && c == '-')
            negative = !negative;
        else if (!(token.kind == TOKEN_PUNCT && c == '('))
            break;
    }
    if (at >= build->token_count)
        return false;
    uint32_t low = 0, high = build->literal_count, offset = build->tokens[at].offset;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (build->literals[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == build->literal_count || build->literals[low].offset != offset)
        return false;
    *ret_index = low;
    *ret_negative = negative;
    *ret_token_end = at + 1;
    return true;
}

/* A cast of a constant or parameter. Lengths ('x'::varchar(3)) change the value: opaque then. */
static ShapeValue cast_read(Build *build, const PgQuery__TypeCast *cast)
{
    const PgQuery__TypeName *type = cast->type_name;
    ShapeValue opaque = value_of(SHAPE_VALUE_OPAQUE);
    if (!cast->arg || !type || type->n_typmods || type->n_array_bounds || type->setof ||
        type->pct_type || !type->n_names)
        return opaque;
    if (cast->arg->node_case != PG_QUERY__NODE__NODE_A_CONST &&
        cast->arg->node_case != PG_QUERY__NODE__NODE_PARAM_REF)
        return opaque;
    ShapeValue value = value_read(build, cast->arg);
    if (value.kind == SHAPE_VALUE_OPAQUE)
        return opaque;
    value.cast = build_name(build, name_borrow(type->names, type->n_names));
    cast_place(build, cast, &value);
    return value;
}

ShapeValue array_value_read(Build *build, const PgQuery__Node *node)
{
    if (node->node_case != PG_QUERY__NODE__NODE_TYPE_CAST)
        return value_read(build, node);
    const PgQuery__TypeName *type = node->type_cast->type_name;
    const PgQuery__Node *arg = node->type_cast->arg;
    bool plain = arg && (arg->node_case == PG_QUERY__NODE__NODE_A_CONST || arg->node_case == PG_QUERY__NODE__NODE_PARAM_REF);
    if (!plain || !type || type->n_array_bounds != 1 || type->n_typmods || type->setof || type->pct_type || !type->n_names)
        return value_of(SHAPE_VALUE_OPAQUE);
    ShapeValue value = value_read(build, arg);
    value.cast = build_name(build, name_borrow(type->names, type->n_names));
    return value;
}

static bool token_spells(const Build *build, uint32_t at, const char *text)
{
    return at < build->token_count &&
           slice_equal_nocase(token_text(build->text, build->tokens[at]), slice_str(text));
}

/* Widens the place of the value inside to all of the cast:  v::type  cast(v as type)  type 'v' */
static void cast_place(const Build *build, const PgQuery__TypeCast *cast, ShapeValue *value)
{
    uint32_t first = value->token, end = first + value->token_count;
    uint32_t type = token_at(build, cast->type_name->location);
    value->token = UINT16_MAX;
    if (first == UINT16_MAX || type == UINT32_MAX)
        return;
    if (token_spells(build, end, "::") && type == end + 1) {
        end = type + type_tokens(build, type);
    } else if (first >= 2 && token_spells(build, first - 2, "cast") &&
               token_spells(build, first - 1, "(") && token_spells(build, end, "as") &&
               type == end + 1) {
        end = type + type_tokens(build, type);
        if (!token_spells(build, end, ")"))
            return;
        first -= 2;
        end++;
    } else if (type < first && type + type_tokens(build, type) == first) {
        first = type;
    } else {
        return;
    }
    if (end <= type || (type_tokens(build, type) == 0))
        return;
    value->token = token_place(build, first);
    value->token_count = (uint16_t)(end - first);
}

/* How many tokens the type's name takes; 0 when it is not one of the simple forms. */
static uint32_t type_tokens(const Build *build, uint32_t first)
{
    static const char *const wordy[] = {"character", "char", "national", "nchar", "bit", "interval",
                                        "setof"};
    for (size_t i = 0; i < ARRAY_LEN(wordy); i++)
        if (token_spells(build, first, wordy[i]))
            return 0;
    uint32_t at = first + 1;
    if (token_spells(build, first, "double")) {
        at++;
    } else if (token_spells(build, first, "time") || token_spells(build, first, "timestamp")) {
        if (token_spells(build, at, "with") || token_spells(build, at, "without"))
            at += 3;
    } else {
        while (token_spells(build, at, "."))
            at += 2;
    }
    if (token_spells(build, at, "[") || token_spells(build, at, "(") ||
        token_spells(build, at, "array") || token_spells(build, at, "%"))
        return 0;
    return at - first;
}

uint32_t token_at(const Build *build, int32_t location)
{
    uint32_t low = 0, high = build->token_count;
    if (location < 0)
        return UINT32_MAX;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (build->tokens[middle].offset < (uint32_t)location)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < build->token_count && build->tokens[low].offset == (uint32_t)location;
    return found ? low : UINT32_MAX;
}

uint16_t token_place(const Build *build, uint32_t token)
{
    return build->places && token < UINT16_MAX ? (uint16_t)token : UINT16_MAX;
}

/* The last two of a list of names: schema and name. */
ShapeName name_borrow(PgQuery__Node *const *names, size_t n)
{
    ShapeName name = {0};
    if (n > 0)
        name.name = tree_string(names[n - 1]);
    if (n > 1)
        name.schema = tree_string(names[n - 2]);
    return name;
}

/* --- memory -------------------------------------------------------------------------------- */

void *build_add(Build *build, Arena *arena, void *list, uint32_t *count, size_t size)
{
    void *items;
    memcpy(&items, list, sizeof(items));
    uint32_t n = *count;
    bool full = n == 0 || (n >= 4 && (n & (n - 1)) == 0);
    if (full) {
        void *more = arena_alloc(arena, size * MAX(n * 2, 4));
        if (!more) {
            build->failed = true;
            return NULL;
        }
        if (n)
            memcpy(more, items, size * n);
        items = more;
        memcpy(list, &items, sizeof(items));
    }
    *count = n + 1;
    return memset((char *)items + size * n, 0, size);
}

void build_add_name(Build *build, ShapeName **list, uint32_t *count, ShapeName name)
{
    enum { LOOK_MAX = 64 }; /* a long statement may name something twice; it stays linear */
    for (uint32_t i = 0; i < MIN(*count, LOOK_MAX); i++)
        if (slice_equal((*list)[i].name, name.name) && slice_equal((*list)[i].schema, name.schema))
            return;
    ShapeName *added = build_add(build, build->arena, list, count, sizeof(ShapeName));
    if (added)
        *added = build_name(build, name);
}
