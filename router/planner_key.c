/*
 * planner_key.c - from `key = value` to a shard.
 *
 *      users.id = $1        value_key     the value's canonical bytes, if it is certain what it means there
 *                           ref_place     all key columns known -> bucket -> shard
 *      o.user_id = u.id     fix_by_join   hands the value on, when both hash alike
 */
#include "router/planner_state.h"

#include "wire/array.h"
#include "wire/value.h"

/* The type that a value has by itself: of its cast, of its parameter, or the column's (unknown
 * literals and untyped parameters take the column's type, as PostgreSQL resolves `col = unknown`). */
static uint32_t value_type(const Planner *p, const ShapeValue *value, const TableKey *key)
{
    if (value->cast.name.len)
        return 0; /* casts are told apart in value_key */
    if (value->kind == SHAPE_VALUE_PARAM && value->index <= p->statement->param_oid_count &&
        p->statement->param_oids[value->index - 1] != 0)
        return p->statement->param_oids[value->index - 1];
    return key->oid;
}

static const struct {
    const char *name;
    uint32_t oid;
} CAST_TYPES[] = {
    {"int2", WIRE_OID_INT2},       {"int4", WIRE_OID_INT4}, {"int8", WIRE_OID_INT8},
    {"text", WIRE_OID_TEXT},       {"uuid", WIRE_OID_UUID}, {"bool", WIRE_OID_BOOL},
    {"date", WIRE_OID_DATE},       {"timestamp", WIRE_OID_TIMESTAMP},
    {"timestamptz", WIRE_OID_TIMESTAMPTZ},
};

static uint32_t cast_type(const ShapeName *cast)
{
    if (cast->schema.len && !slice_is(cast->schema, "pg_catalog"))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(CAST_TYPES); i++)
        if (slice_is(cast->name, CAST_TYPES[i].name))
            return CAST_TYPES[i].oid;
    return 0;
}

/* Values of one KeyType compare and hash alike whatever their width: int2, int4, int8; text, varchar. */
bool key_types_agree(uint32_t value_oid, uint32_t key_oid)
{
    if (value_oid == key_oid)
        return true;
    KeyType key = key_type_of(key_oid), value = key_type_of(value_oid);
    if (key == KEY_INT || key == KEY_TEXT)
        return value == key && (value_oid == WIRE_OID_BYTEA) == (key_oid == WIRE_OID_BYTEA);
    return false;
}

bool plan_types_agree(uint32_t value_oid, uint32_t key_oid)
{
    return key_types_agree(value_oid, key_oid);
}

/* The type that `value` gives to the parameter in it, when its client declared none. */
static uint32_t param_type_beside(const Planner *p, const ShapeEqual *equal)
{
    const ShapeValue *value = &equal->value;
    if (value->cast.name.len)
        return cast_type(&value->cast);
    int owner =
        ref_of_column(p, equal->table, equal->level, equal->from, equal->to, equal->column);
    const CatalogTable *table = owner < 0 ? NULL : p->refs[owner].catalog;
    const CatalogColumn *column = table ? catalog_column(table, equal->column) : NULL;
    return column ? column->type_oid : 0;
}

/* PostgreSQL gives an undeclared parameter the type that its first place asks for. Where it stands in
 * several, only those are understood that would give it the key's type: in
 * `price < $1 AND id = $1` it is a numeric, and '5.0' is the id 5. */
static bool param_is_of_type(const Planner *p, uint32_t number, uint32_t oid)
{
    const Shape *shape = p->shape;
    uint32_t seen = 0, uses = number <= shape->param_use_count ? shape->param_uses[number - 1] : 0;
    if (uses <= 1)
        return uses == 1;
    if (p->memo->param == number && p->memo->oid == oid)
        return p->memo->good;
    for (uint32_t i = 0; i < shape->equal_count; i++) {
        const ShapeValue *value = &shape->equals[i].value;
        seen += value->kind == SHAPE_VALUE_PARAM && value->index == number &&
                key_types_agree(param_type_beside(p, &shape->equals[i]), oid);
    }
    for (uint32_t i = 0; i < shape->insert.rows * shape->insert.column_count; i++) {
        const ShapeValue *value = &shape->insert.values[i];
        seen += value->kind == SHAPE_VALUE_PARAM && value->index == number &&
                value->cast.name.len == 0 &&
                key_types_agree(insert_column_type(p, i % shape->insert.column_count), oid);
    }
    *p->memo = (ParamMemo){number, oid, MIN(seen, (uint32_t)UINT8_MAX) == uses};
    return p->memo->good;
}

/* Text is hashed in the database's encoding; a client that speaks another one can be followed as long
 * as it stays in ASCII. */
static bool is_ascii(Slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] & 0x80)
            return false;
    return true;
}

/* Types whose every spelling that PostgreSQL takes is understood here; a text that is not, is an
 * error there (tested against PostgreSQL in wire's value tests). */
static bool spelling_is_certain(uint32_t oid)
{
    KeyType type = key_type_of(oid);
    return type == KEY_INT || type == KEY_UUID || type == KEY_BOOL;
}

/* A value of type `oid`, as the client gave it. */
static KeyKnown bytes_key(const Planner *p, uint32_t oid, int format, Slice bytes, const TableKey *key, Slice *ret)
{
    if (!oid || !key_types_agree(oid, key->oid))
        return KEY_UNKNOWN;
    if (value_canonical(oid, format, bytes, p->in->arena, ret) != VALUE_OK)
        return spelling_is_certain(oid) ? KEY_NO_ROW : KEY_UNKNOWN;
    KeyType type = key_type_of(oid);
    bool text = (type == KEY_TEXT && oid != WIRE_OID_BYTEA) || type == KEY_BPCHAR;
    return !text || p->in->same_encoding || is_ascii(*ret) ? KEY_KNOWN : KEY_UNKNOWN;
}

/* The canonical bytes of a value compared with a key column. */
static KeyKnown value_key(const Planner *p, const ShapeValue *value, const TableKey *key, Slice *ret)
{
    uint32_t oid = value->cast.name.len ? cast_type(&value->cast) : value_type(p, value, key);
    Slice bytes;
    int format = FORMAT_TEXT;
    Arena *arena = p->in->arena;

    if (value->kind == SHAPE_VALUE_LITERAL) {
        const ShapeLiteral *literal = &p->statement->literals[value->index];
        bool integer = literal->class != SHAPE_LITERAL_STRING;
        bytes = shape_literal_value(p->statement->text, literal, arena);
        if (integer) {
            /* An integer literal compared with text is an error, with numeric types something else. */
            if (oid != key->oid && !key_types_agree(oid, key->oid))
                return KEY_UNKNOWN;
            if (key_type_of(key->oid) != KEY_INT)
                return KEY_UNKNOWN;
            oid = WIRE_OID_INT8; /* may pass the column's range: then no row has it, on any shard */
            if (value->negative) {
                char *text = arena_printf(arena, "-%.*s", SLICE_FMT(bytes));
                if (!text)
                    return KEY_UNKNOWN;
                bytes = slice_str(text);
            }
        } else if (value->negative) {
            return KEY_UNKNOWN;
        }
    } else if (value->kind == SHAPE_VALUE_PARAM && p->statement->bind && !value->negative) {
        const BindMessage *bind = p->statement->bind;
        if (value->index == 0 || value->index > bind->param_count)
            return KEY_UNKNOWN;
        BindParam param = bind_param_at(bind, value->index - 1);
        if (param.is_null)
            return KEY_NO_ROW;
        format = bind_param_format(bind, value->index - 1);
        bytes = param.value;
        /* `$1::int8` makes the parameter itself an int8 when nothing else was declared. */
        uint32_t declared = value->index <= p->statement->param_oid_count
                                ? p->statement->param_oids[value->index - 1]
                                : 0;
        if (value->cast.name.len && declared && declared != oid)
            return KEY_UNKNOWN;
        if (!declared && !param_is_of_type(p, value->index, oid))
            return KEY_UNKNOWN;
    } else {
        return value->kind == SHAPE_VALUE_NULL ? KEY_NO_ROW : KEY_UNKNOWN;
    }
    return bytes_key(p, oid, format, bytes, key, ret);
}

KeyKnown key_text(const Planner *p, Slice text, bool integer, const ShapeName *cast, const TableKey *key, Slice *ret)
{
    uint32_t oid = cast->name.len ? cast_type(cast) : integer ? WIRE_OID_INT8 : key->oid;
    bool fits = integer == (key->type == KEY_INT) || (key->type == KEY_INT && cast->name.len);
    return key->type == KEY_NONE || !fits ? KEY_UNKNOWN : bytes_key(p, oid, FORMAT_TEXT, text, key, ret);
}

/* The same, where the column's type may be no key's. */
KeyKnown key_value(const Planner *p, const ShapeValue *value, const TableKey *key, Slice *ret)
{
    return key->type == KEY_NONE ? KEY_UNKNOWN : value_key(p, value, key, ret);
}

/* The shard of the row with these key values; false when it has none. Takes note of a fenced bucket, and of its
 * use. */
bool key_place(const Planner *p, const Table *table, const Slice *values, uint32_t *ret_shard)
{
    const Topology *t = p->in->topology;
    if (!topology_place(t, table, values, ret_shard))
        return false;
    if (table->kind != TABLE_HASH || !(t->fenced || p->in->bucket_uses))
        return true;
    uint32_t bucket = topology_bucket(t->map, table, values);
    if (t->fenced)
        *p->fenced |= t->fenced[bucket];
    if (p->in->bucket_uses)
        counter_add(&p->in->bucket_uses[bucket], 1);
    return true;
}

/* All key columns are known: their shard. No shard for values that have no place: no row has them. */
static void ref_place(const Planner *p, Ref *ref)
{
    Slice values[TABLE_KEYS_MAX];
    bool known = true;
    for (uint32_t i = 0; i < ref->table->key_count; i++) {
        if (ref->keys[i].known == KEY_NO_ROW)
            ref->shard = SHARD_EVERY;
        known &= ref->keys[i].known == KEY_KNOWN;
        values[i] = ref->keys[i].value;
    }
    if (known && ref->shard == SHARD_NONE && !key_place(p, ref->table, values, &ref->shard))
        ref->shard = SHARD_EVERY;
}

/* Which of the table's key columns it is; -1: none. */
int key_index(const Table *table, Slice column)
{
    for (uint32_t i = 0; i < table->key_count; i++)
        if (slice_equal(table->keys[i].column, column))
            return (int)i;
    return -1;
}

/* ---- IN and ANY ------------------------------------------------------------------------------------ */

static const struct {
    uint32_t array, element;
} ARRAY_TYPES[] = {
    {1005, WIRE_OID_INT2}, {1007, WIRE_OID_INT4},    {1016, WIRE_OID_INT8},      {1009, WIRE_OID_TEXT},
    {1015, WIRE_OID_VARCHAR}, {2951, WIRE_OID_UUID}, {1000, WIRE_OID_BOOL},      {1182, WIRE_OID_DATE},
    {1115, WIRE_OID_TIMESTAMP}, {1185, WIRE_OID_TIMESTAMPTZ},
};

static uint32_t element_type(uint32_t array)
{
    for (size_t i = 0; i < ARRAY_LEN(ARRAY_TYPES); i++)
        if (ARRAY_TYPES[i].array == array)
            return ARRAY_TYPES[i].element;
    return 0;
}

/* The array behind ANY: its bytes, and the type of its elements (0: not known, or one that says it itself). */
static bool array_bytes(const Planner *p, const ShapeValue *value, const TableKey *key, ArrayReader *ret,
                        uint32_t *ret_oid)
{
    const BindMessage *bind = p->statement->bind;
    uint32_t cast = value->cast.name.len ? cast_type(&value->cast) : 0;
    if (value->cast.name.len && !cast)
        return false;
    *ret_oid = cast ? cast : key->oid;
    if (value->kind == SHAPE_VALUE_LITERAL) {
        const ShapeLiteral *literal = &p->statement->literals[value->index];
        return literal->class == SHAPE_LITERAL_STRING &&
               array_open(ret, FORMAT_TEXT, shape_literal_value(p->statement->text, literal, p->in->arena), p->in->arena);
    }
    if (value->kind != SHAPE_VALUE_PARAM || !bind || value->index == 0 || value->index > bind->param_count)
        return false;
    uint32_t number = value->index;
    uint32_t declared = number <= p->statement->param_oid_count ? p->statement->param_oids[number - 1] : 0;
    BindParam param = bind_param_at(bind, number - 1);
    int format = bind_param_format(bind, number - 1);
    if (declared)
        *ret_oid = element_type(declared);
    bool once = number <= p->shape->param_use_count && p->shape->param_uses[number - 1] == 1;
    if (param.is_null || !*ret_oid || (cast && declared && cast != *ret_oid) || (!declared && !once) ||
        !array_open(ret, format, param.value, p->in->arena))
        return false;
    return format == FORMAT_TEXT || ret->element_oid == *ret_oid;
}

/* A value's shard is among them. False: only PostgreSQL knows it. */
static bool some_add(const Planner *p, const Table *table, KeyKnown known, Slice value, bool *some)
{
    uint32_t shard;
    if (known == KEY_KNOWN && key_place(p, table, &value, &shard))
        some[shard] = true;
    return known != KEY_UNKNOWN;
}

static bool some_of_array(const Planner *p, const Table *table, const ShapeValue *value, bool *some)
{
    const TableKey *key = &table->keys[0];
    ArrayReader reader;
    uint32_t oid;
    Slice element, canonical;
    if (!array_bytes(p, value, key, &reader, &oid))
        return false;
    while (array_take(&reader, &element)) {
        KeyKnown known = element.data ? bytes_key(p, oid, reader.format, element, key, &canonical) : KEY_NO_ROW;
        if (!some_add(p, table, known, canonical, some))
            return false;
    }
    return !reader.bad;
}

static bool some_of_list(const Planner *p, const Table *table, const ShapeAny *any, bool *some)
{
    for (uint32_t i = 0; i < any->value_count; i++) {
        Slice canonical;
        KeyKnown known = key_value(p, &any->values[i], &table->keys[0], &canonical);
        if (!some_add(p, table, known, canonical, some))
            return false;
    }
    return true;
}

/* Its rows are on one shard, or have none. */
static void ref_settle(const Planner *p, Ref *ref)
{
    uint32_t count = 0, last = SHARD_EVERY;
    for (uint32_t i = 0; i < p->in->topology->config->shard_count; i++)
        if (ref->some[i]) {
            count++;
            last = i;
        }
    if (count <= 1 && ref->shard == SHARD_NONE)
        ref->shard = last;
}

static void fix_by_any(Planner *p, const ShapeAny *any)
{
    int owner = ref_of_column(p, any->table, any->level, any->from, any->to, any->column);
    Ref *ref = owner < 0 ? NULL : &p->refs[owner];
    if (!ref || ref->kind != REF_DISTRIBUTED || ref->some || ref->table->key_count != 1 ||
        ref->table->keys[0].type == KEY_NONE || key_index(ref->table, any->column) != 0)
        return;
    bool *some = arena_array(p->in->arena, bool, p->in->topology->config->shard_count);
    if (!some || !(any->array ? some_of_array(p, ref->table, any->values, some) : some_of_list(p, ref->table, any, some)))
        return;
    ref->some = some;
    ref_settle(p, ref);
}

void refs_fix_by_values(Planner *p)
{
    for (uint32_t i = 0; i < p->shape->equal_count; i++) {
        const ShapeEqual *equal = &p->shape->equals[i];
        int owner = ref_of_column(p, equal->table, equal->level, equal->from, equal->to, equal->column);
        if (owner < 0)
            continue;
        Ref *ref = &p->refs[owner];
        int at = ref->kind == REF_DISTRIBUTED ? key_index(ref->table, equal->column) : -1;
        if (at >= 0 && ref->keys[at].known == KEY_UNKNOWN)
            ref->keys[at].known = key_value(p, &equal->value, &ref->table->keys[at], &ref->keys[at].value);
    }
    for (uint32_t i = 0; i < p->shape->any_count; i++)
        fix_by_any(p, &p->shape->anys[i]);
}

bool tables_colocated(const Table *a, const Table *b)
{
    bool places = a->place_count || b->place_count;
    return a->kind == b->kind && a->key_count == 1 && b->key_count == 1 &&
           (!places || slice_equal(a->colocation, b->colocation));
}

bool keys_meet(const Planner *p, const ShapeJoin *join, int a, int b)
{
    const Ref *to = &p->refs[a], *from = &p->refs[b];
    return to->kind == REF_DISTRIBUTED && from->kind == REF_DISTRIBUTED &&
           tables_colocated(to->table, from->table) && slice_equal(join->column, to->table->keys[0].column) &&
           slice_equal(join->other_column, from->table->keys[0].column) &&
           key_types_agree(from->table->keys[0].oid, to->table->keys[0].oid);
}

/* `a.key = b.key` hands b's value on to a, when both hash alike. */
static bool fix_by_join(Planner *p, const ShapeJoin *join)
{
    int a = ref_of_column(p, join->table, join->level, join->from, join->to, join->column);
    int b = ref_of_column(p, join->other, join->other_level, join->from, join->to, join->other_column);
    if (a < 0 || b < 0)
        return false;
    Ref *to = &p->refs[a], *from = &p->refs[b];
    if (to->kind != REF_DISTRIBUTED || from->kind != REF_DISTRIBUTED)
        return false;
    if (from->some && !to->some && keys_meet(p, join, a, b)) {
        to->some = from->some;
        ref_settle(p, to);
        return true;
    }
    int x = key_index(to->table, join->column), y = key_index(from->table, join->other_column);
    if (x < 0 || y < 0 || to->keys[x].known != KEY_UNKNOWN || from->keys[y].known == KEY_UNKNOWN ||
        !key_types_agree(from->table->keys[y].oid, to->table->keys[x].oid))
        return false;
    to->keys[x] = from->keys[y];
    return true;
}

void refs_fix_by_joins(Planner *p)
{
    bool again = true;
    while (again) {
        again = false;
        for (uint32_t i = 0; i < p->shape->join_count; i++)
            again |= fix_by_join(p, &p->shape->joins[i]);
    }
}

void refs_place(Planner *p)
{
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        if (p->refs[i].kind == REF_DISTRIBUTED && p->refs[i].shard == SHARD_NONE)
            ref_place(p, &p->refs[i]);
}

uint32_t insert_column_type(const Planner *p, uint32_t at)
{
    int target = ref_target(p);
    const CatalogTable *table = target < 0 ? NULL : p->refs[target].catalog;
    const CatalogColumn *column = NULL;
    if (table && p->shape->insert.columns)
        column = catalog_column(table, p->shape->insert.columns[at]);
    else if (table && at < table->column_count)
        column = &table->columns[at];
    return column ? column->type_oid : 0;
}

/* A reference table that is only read: all of it is on each shard. */
static bool is_whole(const Planner *p, uint32_t at)
{
    return p->refs[at].kind == REF_REFERENCE && !p->shape->tables[at].target && !(p->shape->traits & SHAPE_HAS_LOCKING);
}

bool refs_all_joined(const Planner *p, int target)
{
    bool joined[TABLES_MAX] = {false}, again = true;
    joined[target] = true;
    while (again) {
        again = false;
        for (uint32_t i = 0; i < p->shape->join_count; i++) {
            const ShapeJoin *join = &p->shape->joins[i];
            int a = ref_of_column(p, join->table, join->level, join->from, join->to, join->column);
            int b = ref_of_column(p, join->other, join->other_level, join->from, join->to, join->other_column);
            if (a < 0 || b < 0 || joined[a] || !joined[b] || !keys_meet(p, join, a, b))
                continue;
            joined[a] = again = true;
        }
    }
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        if (p->refs[i].kind != REF_SYSTEM && !joined[i] && !is_whole(p, i))
            return false;
    return true;
}
