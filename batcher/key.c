/*
 * key.c - why it exists: an array of keys must mean what each `column = value` meant alone. So the
 * element type is the one PostgreSQL would give the value there: int4 or int8 for a bare integer,
 * by its size; the column's type for a quoted literal; the described type for a parameter. Each
 * value is read by wire/value, which knows the type's input function or says that it does not.
 */
#include "batcher/key.h"

#include "batcher/without.h"

static const KeyTypeInfo TYPES[] = {
    {WIRE_OID_INT4, WIRE_OID_INT4_ARRAY, "int4", true, true},
    {WIRE_OID_INT8, WIRE_OID_INT8_ARRAY, "int8", true, true},
    {WIRE_OID_INT2, WIRE_OID_INT2_ARRAY, "int2", true, true},
    {WIRE_OID_TEXT, WIRE_OID_TEXT_ARRAY, "text", false, true},
    {WIRE_OID_VARCHAR, WIRE_OID_VARCHAR_ARRAY, "varchar", false, true},
    {WIRE_OID_UUID, WIRE_OID_UUID_ARRAY, "uuid", false, true},
    {WIRE_OID_BPCHAR, WIRE_OID_BPCHAR_ARRAY, "bpchar", false, false},
    {WIRE_OID_BOOL, WIRE_OID_BOOL_ARRAY, "bool", false, false},
    {WIRE_OID_BYTEA, WIRE_OID_BYTEA_ARRAY, "bytea", false, false},
    {WIRE_OID_NAME, WIRE_OID_NAME_ARRAY, "name", false, false},
    {WIRE_OID_OID, WIRE_OID_OID_ARRAY, "oid", false, false},
    {WIRE_OID_DATE, WIRE_OID_DATE_ARRAY, "date", false, false},
    {WIRE_OID_TIMESTAMP, WIRE_OID_TIMESTAMP_ARRAY, "timestamp", false, false},
    {WIRE_OID_TIMESTAMPTZ, WIRE_OID_TIMESTAMPTZ_ARRAY, "timestamptz", false, false},
};

const KeyTypeInfo *key_type(uint32_t oid)
{
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++)
        if (TYPES[i].oid == oid)
            return &TYPES[i];
    return NULL;
}

bool key_type_is_integer(uint32_t oid)
{
    const KeyTypeInfo *type = key_type(oid);
    return type && type->integer;
}

static const KeyTypeInfo *type_by_name(Slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++)
        if (slice_is(name, TYPES[i].name))
            return &TYPES[i];
    return NULL;
}

/* Casts that carry a length or precision could change the value; varchar and bpchar may have one.
 * Among integers any cast will do: it stays in the text, and the index serves each of them. */
bool key_cast_allowed(uint32_t column_oid, ShapeName cast)
{
    if (cast.name.len == 0)
        return true;
    const KeyTypeInfo *column = key_type(column_oid), *type = type_by_name(cast.name);
    if (!type || !column || (cast.schema.len && !slice_is(cast.schema, "pg_catalog")) ||
        type->oid == WIRE_OID_VARCHAR || type->oid == WIRE_OID_BPCHAR)
        return false;
    return type == column || (type->integer && column->integer);
}

static bool is_text(uint32_t oid)
{
    return oid == WIRE_OID_TEXT || oid == WIRE_OID_VARCHAR;
}

/* May a parameter of this type stand beside a column of that one? Then the same operator family
 * compares them, and the column's index serves. Not char(n): its canonical form has lost blanks that
 * the same parameter would show elsewhere in the statement. */
static bool param_fits(const KeyTypeInfo *param, uint32_t column_oid)
{
    return param && param->oid != WIRE_OID_BPCHAR &&
           (param->oid == column_oid || (param->integer && key_type_is_integer(column_oid)) ||
            (is_text(param->oid) && is_text(column_oid)));
}

/* A type that only PostgreSQL reads: its values travel as text, and PostgreSQL reads each as it would
 * have read the literal or the parameter. A bare integer beside numeric is int4 or int8 there, too. */
static BatchReason plan_text(const ShapeValue *value, const ShapeLiteral *literals,
                             uint32_t column_oid, const char *cast, KeyPlan *plan)
{
    plan->cast = cast;
    plan->type = key_type(WIRE_OID_TEXT);
    plan->source = KEY_FROM_STRING;
    if (value->kind == SHAPE_VALUE_PARAM) {
        plan->source = KEY_FROM_PARAM;
        return BATCH_OK;
    }
    ShapeLiteralClass class = literals[value->index].class;
    plan->negative = value->negative;
    if (class == SHAPE_LITERAL_STRING)
        return value->negative ? BATCH_KEY_VALUE : BATCH_OK;
    plan->source = KEY_FROM_INTEGER;
    plan->cast = NULL;
    plan->type = key_type(class == SHAPE_LITERAL_INT4 ? WIRE_OID_INT4 : WIRE_OID_INT8);
    return column_oid == WIRE_OID_NUMERIC ? BATCH_OK : BATCH_KEY_VALUE;
}

static BatchReason plan_literal(const ShapeValue *value, const ShapeLiteral *literal,
                                uint32_t column_oid, KeyPlan *plan)
{
    plan->negative = value->negative;
    if (literal->class == SHAPE_LITERAL_STRING) {
        /* PostgreSQL compares varchar columns as text, without cutting the literal. */
        plan->source = KEY_FROM_STRING;
        plan->type = key_type(column_oid == WIRE_OID_VARCHAR ? WIRE_OID_TEXT : column_oid);
        return value->negative ? BATCH_KEY_VALUE : BATCH_OK;
    }
    plan->source = KEY_FROM_INTEGER;
    plan->type = key_type(literal->class == SHAPE_LITERAL_INT4 ? WIRE_OID_INT4 : WIRE_OID_INT8);
    return key_type_is_integer(column_oid) ? BATCH_OK : BATCH_KEY_VALUE;
}

BatchReason key_plan_make(const Shape *shape, const PolicyVerdict *verdict,
                          const char *const *casts, const ShapeLiteral *literals,
                          const uint32_t *param_oids, uint32_t param_count,
                          KeyPlan ret[KEY_COUNT_MAX])
{
    uint32_t extra = param_count;
    for (uint32_t i = 0; i < verdict->key_count; i++) {
        const ShapeValue *value = &shape->equals[verdict->keys[i]].value;
        uint32_t column_oid = verdict->key_oids[i];
        KeyPlan *plan = &ret[i];
        *plan = (KeyPlan){.equal = verdict->keys[i], .index = value->index};
        if (value->kind == SHAPE_VALUE_LITERAL) {
            BatchReason reason =
                casts[i] ? plan_text(value, literals, column_oid, casts[i], plan)
                         : plan_literal(value, &literals[value->index], column_oid, plan);
            if (reason)
                return reason;
            plan->array_param = ++extra;
            continue;
        }
        if (value->index == 0 || value->index > param_count || value->negative)
            return BATCH_KEY_TYPE;
        plan->source = KEY_FROM_PARAM;
        plan->index = value->index - 1;
        plan->type = key_type(param_oids[plan->index]);
        plan->array_param = value->index;
        bool fits = param_fits(plan->type, column_oid);
        if (casts[i] && param_oids[plan->index] == column_oid)
            fits = plan_text(value, literals, column_oid, casts[i], plan) == BATCH_OK;
        if (!fits)
            return BATCH_KEY_TYPE;
    }
    return BATCH_OK;
}

/* ---- members' values ------------------------------------------------------------------------- */

/* A bare integer literal: digits that the lexer has checked, and a sign. Leading zeros are fine. */
static BatchReason decode_integer(const KeyPlan *plan, Slice digits, Arena *scratch, Slice *ret)
{
    uint64_t value = 0;
    for (size_t i = 0; i < digits.len; i++) {
        uint8_t digit = (uint8_t)(digits.data[i] - '0');
        if (digit > 9 || value > (UINT64_MAX - digit) / 10)
            return BATCH_KEY_VALUE;
        value = value * 10 + digit;
    }
    size_t width = plan->type->oid == WIRE_OID_INT4 ? 4 : 8;
    if (value > (width == 4 ? (uint64_t)INT32_MAX : (uint64_t)INT64_MAX))
        return BATCH_KEY_VALUE;
    uint64_t bits = __builtin_bswap64((plan->negative ? 0 - value : value) << (64 - 8 * width));
    uint8_t *bytes = arena_alloc(scratch, width);
    if (!bytes)
        return BATCH_LIMIT;
    memcpy(bytes, &bits, width);
    *ret = slice_of(bytes, width);
    return BATCH_OK;
}

static BatchReason decode_value(const KeyPlan *plan, int format, Slice value, Arena *scratch,
                                Slice *ret)
{
    if (value.len > KEY_BYTES_MAX)
        return BATCH_LIMIT;
    if (value.len && memchr(value.data, 0, value.len) &&
        (is_text(plan->type->oid) || plan->type->oid == WIRE_OID_BPCHAR))
        return BATCH_KEY_VALUE; /* no text holds a NUL: PostgreSQL refuses it */
    if (value_canonical(plan->type->oid, format, value, scratch, ret) != VALUE_OK)
        return BATCH_KEY_VALUE;
    return BATCH_OK;
}

BatchReason key_decode(const KeyPlan *plan, Slice text, const ShapeLiteral *literals,
                       const BindMessage *bind, Arena *scratch, Slice *ret)
{
    if (plan->source == KEY_FROM_PARAM) {
        BindParam param = bind_param_at(bind, plan->index);
        uint16_t format = bind_param_format(bind, plan->index);
        if ((param.is_null && !without_rule(10)) || format > FORMAT_BINARY || (plan->cast && format != FORMAT_TEXT))
            return BATCH_KEY_VALUE;
        return decode_value(plan, format, param.value, scratch, ret);
    }
    const ShapeLiteral *literal = &literals[plan->index];
    if (plan->source == KEY_FROM_INTEGER)
        return decode_integer(plan, slice_of(text.data + literal->offset, literal->len), scratch,
                              ret);
    if (literal->len > KEY_BYTES_MAX)
        return BATCH_LIMIT;
    return decode_value(plan, FORMAT_TEXT, shape_literal_value(text, literal, scratch), scratch,
                        ret);
}
