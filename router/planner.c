/*
 * planner.c - proves that one shard can answer, or says why not.
 *
 *   1  every table reference is looked up: distributed, local to the home shard, or the system's
 *   2  every distributed reference must be fixed: some term `key = value` of its level gives the
 *      shard, or a join term hands on the value of a reference that is fixed already
 *   3  all of them, and the home shard if local tables take part, must be the same shard
 *
 *      SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 7
 *               users.id = 7          -> bucket 610 -> s1
 *               orders.user_id = u.id -> the same value -> s1            DIRECT s1
 *
 * Nothing is guessed: an opaque value, a column that cannot be told apart, a view: REJECT.
 */
#include "router/planner.h"

#include <stdio.h>

#include "router/fanout.h"
#include "router/foreign.h"
#include "wire/value.h"

#define SHARD_NONE    UINT32_MAX       /* not fixed */
#define SHARD_EVERY   (UINT32_MAX - 1) /* key = NULL, or a value that PostgreSQL will refuse: every
                                          shard gives the same answer */
#define TABLES_MAX    64 /* references in one statement that are looked at; more: REJECT */

typedef enum RefKind {
    REF_SYSTEM,      /* pg_catalog, information_schema: alike on every shard */
    REF_LOCAL,       /* whole on one shard: the home shard, or the one it was put on */
    REF_REFERENCE,   /* whole on every shard */
    REF_DISTRIBUTED, /* by its key: hash, range, list */
    REF_VIEW         /* materialized or not; may name anything: only where nothing is distributed */
} RefKind;

typedef enum KeyKnown {
    KEY_UNKNOWN,  /* only PostgreSQL can know */
    KEY_KNOWN,
    KEY_NO_ROW    /* NULL equals nothing; or not a value of the type: an error on whatever shard */
} KeyKnown;

/* What the statement says about one key column of a reference. */
typedef struct RefKey {
    KeyKnown known;
    Slice value; /* KEY_KNOWN: canonical */
} RefKey;

typedef struct Ref {
    RefKind kind;
    const Table *table;          /* it is in the topology: distributed, reference, placed by hand */
    const CatalogTable *catalog; /* NULL when the catalog does not know it */
    RefKey *keys;                /* REF_DISTRIBUTED: one per key column of the table */
    uint32_t shard;              /* SHARD_NONE while not fixed */
    bool bare;                   /* named without a schema */
} Ref;

/* What was found out about a parameter last: a long INSERT may give it in each row. */
typedef struct ParamMemo {
    uint32_t param, oid;
    bool good;
} ParamMemo;

typedef struct Planner {
    const PlanInput *in;
    const PlanStatement *statement;
    const Shape *shape;
    const DatabaseConfig *database;
    const Catalog *catalog;
    Ref refs[TABLES_MAX];
    uint32_t distributed_count, local_count, reference_count;
    ParamMemo *memo;
    bool *fenced; /* a bucket that it needs is moving at this moment */
    Plan plan;
} Planner;

static Plan direct(uint32_t shard, bool any)
{
    return (Plan){.kind = PLAN_DIRECT, .shard = shard, .any_shard = any};
}

static Plan reject(const char *sqlstate, const char *message, const char *detail, const char *hint)
{
    Plan plan = {.kind = PLAN_REJECT};
    error_set(&plan.error, sqlstate, "%s", message);
    if (detail)
        error_detail(&plan.error, "%s", detail);
    if (hint)
        error_hint(&plan.error, "%s", hint);
    return plan;
}

static Plan reject_shards(const char *detail)
{
    return reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                  "this statement needs more than one shard, which is not supported yet", detail,
                  "Fix the shard key of every distributed table with key = value.");
}

static Plan reject_temporary(void)
{
    return reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "which table is meant cannot be known",
                  "The session has temporary tables; one of them may have that name.",
                  "Write schema and table, or drop the temporary tables and DISCARD ALL.");
}

/* ---- step 1: what the names mean ---------------------------------------------------------- */

static bool is_system_schema(Slice schema)
{
    return slice_is(schema, "pg_catalog") || slice_is(schema, "information_schema") ||
           slice_is(schema, "pg_toast");
}

/* A name the catalog does not know (yet): the table may have been created a moment ago on a shard.
 * If any distributed table has that name, in the schema given or in any, it is taken for that one. */
static const Table *table_by_bare_name(const Planner *p, const ShapeName *name)
{
    const Topology *t = p->in->topology;
    for (uint32_t i = 0; i < t->table_count; i++) {
        const Table *table = &t->tables[i];
        if (table->database == p->in->database && slice_equal(table->name, name->name) &&
            (name->schema.len == 0 || slice_equal(table->schema, name->schema)))
            return table;
    }
    return NULL;
}

/* Which path is in force cannot be told: the name is certain when it is one table's only, or of none
 * that is distributed. */
static bool name_is_certain(const Planner *p, const ShapeName *name)
{
    size_t cursor = 0;
    uint32_t count = 0;
    if (!p->in->path_unknown || name->schema.len || !table_by_bare_name(p, name))
        return true;
    for (const CatalogTable *table; (table = map_next(&p->catalog->tables, &cursor));)
        count += slice_equal(table->name, name->name);
    return count <= 1;
}

bool plan_sets_path_unseen(const Shape *shape)
{
    for (uint32_t i = 0; i < shape->function_count; i++)
        if (slice_is(shape->functions[i].name, "set_config"))
            return true;
    return false;
}

bool plan_sets_path(const Shape *shape)
{
    switch (shape->kind) {
    case SHAPE_SET:
    case SHAPE_SET_LOCAL:
    case SHAPE_RESET:
        return slice_is(shape->setting, "search_path");
    case SHAPE_RESET_ALL:
    case SHAPE_DISCARD:
    case SHAPE_ROLLBACK:
    case SHAPE_ROLLBACK_TO:
    case SHAPE_COMMIT: /* ends SET LOCAL */
        return true;
    default:
        return plan_sets_path_unseen(shape);
    }
}

static void ref_resolve(Planner *p, const ShapeTable *from, Ref *ret)
{
    *ret = (Ref){.kind = REF_LOCAL, .shard = SHARD_NONE};
    if (is_system_schema(from->name.schema)) {
        ret->kind = REF_SYSTEM;
        return;
    }
    ret->catalog = catalog_resolve_table(p->catalog, from->name.schema, from->name.name,
                                         p->in->search_path, p->in->user);
    if (ret->catalog && is_system_schema(ret->catalog->schema)) {
        ret->kind = REF_SYSTEM;
        return;
    }
    ret->table = ret->catalog ? topology_table(p->in->topology, p->in->database,
                                               ret->catalog->schema, ret->catalog->name)
                              : table_by_bare_name(p, &from->name);
    ret->shard = p->database->shards[0];
    if (ret->table && ret->table->kind == TABLE_REFERENCE)
        ret->kind = REF_REFERENCE;
    else if (ret->table && ret->table->kind == TABLE_LOCAL)
        ret->shard = ret->table->place_count ? ret->table->places->shard : ret->shard;
    else if (ret->table)
        ret->kind = REF_DISTRIBUTED;
    else if (ret->catalog && (ret->catalog->kind == 'v' || ret->catalog->kind == 'm'))
        ret->kind = REF_VIEW;
}

static bool resolve_all(Planner *p)
{
    if (p->shape->table_count > TABLES_MAX) {
        p->plan = reject(SQLSTATE_STATEMENT_TOO_COMPLEX, "the statement names too many tables",
                         "At most 64 table references are looked at in a sharded database.", NULL);
        return false;
    }
    for (uint32_t i = 0; i < p->shape->table_count; i++) {
        if (!name_is_certain(p, &p->shape->tables[i].name)) {
            p->plan = reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "which table is meant cannot be known",
                             "search_path was set by SET LOCAL or set_config(), and several schemas "
                             "have a table of that name.",
                             "Write schema and table, or use SET search_path.");
            return false;
        }
        ref_resolve(p, &p->shape->tables[i], &p->refs[i]);
        p->refs[i].bare = p->shape->tables[i].name.schema.len == 0;
        if (p->refs[i].kind == REF_DISTRIBUTED) {
            p->refs[i].shard = SHARD_NONE;
            p->refs[i].keys = arena_array(p->in->arena, RefKey, p->refs[i].table->key_count);
            if (!p->refs[i].keys) {
                p->plan = reject(SQLSTATE_OUT_OF_MEMORY, "out of memory", NULL, NULL);
                return false;
            }
        }
        p->distributed_count += p->refs[i].kind == REF_DISTRIBUTED;
        p->reference_count += p->refs[i].kind == REF_REFERENCE;
        p->local_count += p->refs[i].kind == REF_LOCAL || p->refs[i].kind == REF_VIEW;
    }
    return true;
}

/* ---- step 2: which shard each reference is fixed to ----------------------------------------- */

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

static int column_owner(const Planner *p, int16_t table, uint16_t level, uint16_t from, uint16_t to,
                        Slice column);
static uint32_t insert_column_type(const Planner *p, uint32_t at);

/* Values of one KeyType compare and hash alike whatever their width: int2, int4, int8; text, varchar. */
static bool types_agree(uint32_t value_oid, uint32_t key_oid)
{
    if (value_oid == key_oid)
        return true;
    KeyType key = key_type_of(key_oid), value = key_type_of(value_oid);
    if (key == KEY_INT || key == KEY_TEXT)
        return value == key && (value_oid == WIRE_OID_BYTEA) == (key_oid == WIRE_OID_BYTEA);
    return false;
}

/* The type that `value` gives to the parameter in it, when its client declared none. */
static uint32_t param_type_beside(const Planner *p, const ShapeEqual *equal)
{
    const ShapeValue *value = &equal->value;
    if (value->cast.name.len)
        return cast_type(&value->cast);
    int owner =
        column_owner(p, equal->table, equal->level, equal->from, equal->to, equal->column);
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
                types_agree(param_type_beside(p, &shape->equals[i]), oid);
    }
    for (uint32_t i = 0; i < shape->insert.rows * shape->insert.column_count; i++) {
        const ShapeValue *value = &shape->insert.values[i];
        seen += value->kind == SHAPE_VALUE_PARAM && value->index == number &&
                value->cast.name.len == 0 &&
                types_agree(insert_column_type(p, i % shape->insert.column_count), oid);
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

/* Characters; at most, where the encoding is not known. */
static size_t text_length(Slice text, bool utf8)
{
    size_t length = 0;
    for (size_t i = 0; i < text.len; i++)
        length += !utf8 || (text.data[i] & 0xC0) != 0x80;
    return length;
}

/* Types whose every spelling that PostgreSQL takes is understood here; a text that is not, is an
 * error there (tested against PostgreSQL in wire's value tests). */
static bool spelling_is_certain(uint32_t oid)
{
    KeyType type = key_type_of(oid);
    return type == KEY_INT || type == KEY_UUID || type == KEY_BOOL;
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
            if (oid != key->oid && !types_agree(oid, key->oid))
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
    if (!oid || !types_agree(oid, key->oid))
        return KEY_UNKNOWN;
    if (value_canonical(oid, format, bytes, arena, ret) != VALUE_OK)
        return spelling_is_certain(oid) ? KEY_NO_ROW : KEY_UNKNOWN;
    KeyType type = key_type_of(oid);
    bool text = (type == KEY_TEXT && oid != WIRE_OID_BYTEA) || type == KEY_BPCHAR;
    return !text || p->in->same_encoding || is_ascii(*ret) ? KEY_KNOWN : KEY_UNKNOWN;
}

/* The same, where the column's type may be no key's. */
static KeyKnown key_value(const Planner *p, const ShapeValue *value, const TableKey *key, Slice *ret)
{
    return key->type == KEY_NONE ? KEY_UNKNOWN : value_key(p, value, key, ret);
}

/* The shard of the row with these key values; false when it has none. Takes note of a fenced bucket. */
static bool place_values(const Planner *p, const Table *table, const Slice *values, uint32_t *ret_shard)
{
    const Topology *t = p->in->topology;
    if (!topology_place(t, table, values, ret_shard))
        return false;
    if (t->fenced && table->kind == TABLE_HASH)
        *p->fenced |= t->fenced[shard_map_bucket(t->map, table_row_hash(table, values))];
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
    if (known && ref->shard == SHARD_NONE && !place_values(p, ref->table, values, &ref->shard))
        ref->shard = SHARD_EVERY;
}

/* Which of the table's key columns it is; -1: none. */
static int key_index(const Table *table, Slice column)
{
    for (uint32_t i = 0; i < table->key_count; i++)
        if (slice_equal(table->keys[i].column, column))
            return (int)i;
    return -1;
}

/* Which reference an unqualified column belongs to: the only one of its level that has it, among
 * those which the condition can name. */
static int column_owner(const Planner *p, int16_t table, uint16_t level, uint16_t from, uint16_t to,
                        Slice column)
{
    if (table >= 0)
        return table;
    int owner = -1;
    for (uint32_t i = from; i < p->shape->table_count && i < to; i++) {
        if (p->shape->tables[i].level != level || p->shape->tables[i].renamed)
            continue;
        if (!p->refs[i].catalog)
            return -1; /* it might have the column: cannot be told */
        if (catalog_column(p->refs[i].catalog, column)) {
            if (owner >= 0)
                return -1;
            owner = (int)i;
        }
    }
    return owner;
}

static void fix_by_values(Planner *p)
{
    for (uint32_t i = 0; i < p->shape->equal_count; i++) {
        const ShapeEqual *equal = &p->shape->equals[i];
        int owner = column_owner(p, equal->table, equal->level, equal->from, equal->to, equal->column);
        if (owner < 0)
            continue;
        Ref *ref = &p->refs[owner];
        int at = ref->kind == REF_DISTRIBUTED ? key_index(ref->table, equal->column) : -1;
        if (at >= 0 && ref->keys[at].known == KEY_UNKNOWN)
            ref->keys[at].known = key_value(p, &equal->value, &ref->table->keys[at], &ref->keys[at].value);
    }
}

/* Equal keys of both tables are on the same shard. */
static bool colocated(const Table *a, const Table *b)
{
    bool places = a->place_count || b->place_count;
    return a->kind == b->kind && a->key_count == 1 && b->key_count == 1 &&
           (!places || slice_equal(a->colocation, b->colocation));
}

/* The join is on the keys of both, and rows with equal keys are together. */
static bool keys_meet(const Planner *p, const ShapeJoin *join, int a, int b)
{
    const Ref *to = &p->refs[a], *from = &p->refs[b];
    return to->kind == REF_DISTRIBUTED && from->kind == REF_DISTRIBUTED &&
           colocated(to->table, from->table) && slice_equal(join->column, to->table->keys[0].column) &&
           slice_equal(join->other_column, from->table->keys[0].column) &&
           types_agree(from->table->keys[0].oid, to->table->keys[0].oid);
}

/* `a.key = b.key` hands b's value on to a, when both hash alike. */
static bool fix_by_join(Planner *p, const ShapeJoin *join)
{
    int a = column_owner(p, join->table, join->level, join->from, join->to, join->column);
    int b = column_owner(p, join->other, join->other_level, join->from, join->to, join->other_column);
    if (a < 0 || b < 0)
        return false;
    Ref *to = &p->refs[a], *from = &p->refs[b];
    if (to->kind != REF_DISTRIBUTED || from->kind != REF_DISTRIBUTED)
        return false;
    int x = key_index(to->table, join->column), y = key_index(from->table, join->other_column);
    if (x < 0 || y < 0 || to->keys[x].known != KEY_UNKNOWN || from->keys[y].known == KEY_UNKNOWN ||
        !types_agree(from->table->keys[y].oid, to->table->keys[x].oid))
        return false;
    to->keys[x] = from->keys[y];
    return true;
}

static void fix_by_joins(Planner *p)
{
    bool again = true;
    while (again) {
        again = false;
        for (uint32_t i = 0; i < p->shape->join_count; i++)
            again |= fix_by_join(p, &p->shape->joins[i]);
    }
}

static void place_all(Planner *p)
{
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        if (p->refs[i].kind == REF_DISTRIBUTED && p->refs[i].shard == SHARD_NONE)
            ref_place(p, &p->refs[i]);
}

/* ---- step 3: one shard for all --------------------------------------------------------------- */

static uint32_t home_shard(const Planner *p)
{
    return p->database->shards[0];
}

static const char *shard_name(const Planner *p, uint32_t shard)
{
    return p->in->topology->config->shards[shard].name;
}

static Plan not_fixed(const Planner *p, const Ref *ref)
{
    char detail[256];
    snprintf(detail, sizeof detail,
             "Table \"%.*s\" is distributed by \"%.*s\", and the statement does not fix that key to one value.",
             SLICE_FMT(ref->table->name), SLICE_FMT(ref->table->key));
    return reject_shards(detail);
}

/* Rows of a reference table are locked on the home shard, so that those who lock them meet. */
static bool is_locked(const Planner *p, const Ref *ref)
{
    return ref->kind == REF_REFERENCE && (p->shape->traits & SHAPE_HAS_LOCKING);
}

static Plan agree(const Planner *p)
{
    uint32_t shard = SHARD_NONE;
    char detail[256];
    for (uint32_t i = 0; i < p->shape->table_count; i++) {
        const Ref *ref = &p->refs[i];
        bool here_only = (ref->kind != REF_SYSTEM && ref->kind != REF_REFERENCE) || is_locked(p, ref);
        uint32_t here = here_only ? ref->shard : SHARD_NONE;
        if (ref->kind == REF_DISTRIBUTED && here == SHARD_NONE)
            return not_fixed(p, ref);
        if (ref->kind == REF_VIEW && topology_database_sharded(p->in->topology, p->in->database))
            return reject_shards("The statement reads a view, which may read distributed tables.");
        if (here == SHARD_NONE || here == SHARD_EVERY)
            continue;
        if (p->in->temporary && ref->bare && here != home_shard(p))
            return reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                          "which table is meant cannot be known",
                          "The session has temporary tables, on another shard than these rows; one "
                          "of them may have that name.",
                          "Write schema and table, or drop the temporary tables and DISCARD ALL.");
        if (shard != SHARD_NONE && shard != here) {
            snprintf(detail, sizeof detail, "It reads rows of shard %s and of shard %s (\"%.*s\").",
                     shard_name(p, shard), shard_name(p, here),
                     SLICE_FMT(p->shape->tables[i].name.name));
            return reject_shards(detail);
        }
        shard = here;
    }
    return shard == SHARD_NONE ? direct(home_shard(p), true) : direct(shard, false);
}

/* ---- statements that write the key ----------------------------------------------------------- */

/* What the outermost INSERT writes to; those in WITH stand in levels of their own. -1: nothing. */
static int insert_target(const Planner *p)
{
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        if (p->shape->tables[i].target && p->shape->tables[i].level == 0)
            return (int)i;
    return -1;
}

static uint32_t insert_column_type(const Planner *p, uint32_t at)
{
    int target = insert_target(p);
    const CatalogTable *table = target < 0 ? NULL : p->refs[target].catalog;
    const CatalogColumn *column = NULL;
    if (table && p->shape->insert.columns)
        column = catalog_column(table, p->shape->insert.columns[at]);
    else if (table && at < table->column_count)
        column = &table->columns[at];
    return column ? column->type_oid : 0;
}

static int insert_key_position(const Planner *p, const Ref *ref, Slice key)
{
    const ShapeInsert *insert = &p->shape->insert;
    if (insert->columns) {
        for (uint32_t i = 0; i < insert->column_count; i++)
            if (slice_equal(insert->columns[i], key))
                return (int)i;
        return -1;
    }
    for (uint32_t i = 0; ref->catalog && i < ref->catalog->column_count; i++)
        if (slice_equal(ref->catalog->columns[i].name, key))
            return i < insert->column_count ? (int)i : -1;
    return -1;
}

static bool value_is_null_param(const Planner *p, const ShapeValue *value)
{
    const BindMessage *bind = p->statement->bind;
    return value->kind == SHAPE_VALUE_PARAM && bind && value->index > 0 &&
           value->index <= bind->param_count && bind_param_at(bind, value->index - 1).is_null;
}

bool plan_column_stores(const CatalogColumn *column, KeyType type, Slice value, bool utf8)
{
    if (column->typmod < 0)
        return true;
    if (column->type_oid == WIRE_OID_VARCHAR)
        return text_length(value, utf8) + 4 <= (size_t)column->typmod;
    if (type == KEY_TIMESTAMP && value.len == 8) {
        uint64_t us;
        memcpy(&us, value.data, 8);
        return (int64_t)__builtin_bswap64(us) % 1000000 == 0;
    }
    return true;
}

static bool column_stores(const Planner *p, const Ref *ref, const TableKey *key, Slice value)
{
    const CatalogColumn *column = ref->catalog ? catalog_column(ref->catalog, key->column) : NULL;
    return column && plan_column_stores(column, key->type, value, slice_is(p->catalog->encoding, "UTF8"));
}

static Plan insert_unknown(const Ref *target, const TableKey *key)
{
    char detail[256];
    snprintf(detail, sizeof detail,
             "The value for key \"%.*s\" of table \"%.*s\" is NULL, a default, an expression or too long.",
             SLICE_FMT(key->column), SLICE_FMT(target->table->name));
    return reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "the shard of the new row cannot be known", detail,
                  "Give the key as a constant or a parameter.");
}

/* One row: its shard, or a REJECT in *ret. Values that are an error on whatever shard leave it as it is. */
static bool insert_row(const Planner *p, const Ref *target, const int *at, uint32_t row, uint32_t *ret_shard,
                       Plan *ret)
{
    const ShapeInsert *insert = &p->shape->insert;
    Slice values[TABLE_KEYS_MAX];
    bool every = false;
    for (uint32_t i = 0; i < target->table->key_count; i++) {
        const TableKey *key = &target->table->keys[i];
        const ShapeValue *value = &insert->values[row * insert->column_count + (uint32_t)at[i]];
        bool null = value->kind == SHAPE_VALUE_NULL || value_is_null_param(p, value);
        KeyKnown known = null ? KEY_UNKNOWN : key_value(p, value, key, &values[i]);
        every |= known == KEY_NO_ROW;
        if (known == KEY_UNKNOWN || (known == KEY_KNOWN && !column_stores(p, target, key, values[i]))) {
            *ret = insert_unknown(target, key);
            return false;
        }
    }
    *ret_shard = SHARD_EVERY;
    if (every || place_values(p, target->table, values, ret_shard))
        return true;
    *ret = reject("23514", "no shard may have this row", NULL, "Give its key a place, or correct it.");
    error_detail(&ret->error, "Table \"%.*s\" is distributed by %s of \"%.*s\", which has no place for this value.",
                 SLICE_FMT(target->table->name), table_kind_name(target->table->kind),
                 SLICE_FMT(target->table->key));
    return false;
}

/* Rows of several shards: each shard gets its own. Other tables, whose rows the values may depend on, would
 * have to be there, too. */
static Plan plan_insert_split(const Planner *p, uint32_t *rows, uint32_t count)
{
    if (p->shape->table_count != 1 || p->shape->traits & (SHAPE_HAS_CTE | SHAPE_HAS_SUBQUERY))
        return reject_shards("The rows of this INSERT belong to different shards, and it reads other tables.");
    if (p->in->temporary)
        return reject_temporary();
    for (uint32_t i = 0; i < count; i++)
        if (rows[i] == SHARD_EVERY)
            rows[i] = home_shard(p);
    return (Plan){.kind = PLAN_INSERT, .rows = rows, .row_count = count};
}

static Plan plan_insert_values(Planner *p, Ref *target)
{
    char detail[256];
    int at[TABLE_KEYS_MAX];
    Plan refused;
    for (uint32_t i = 0; i < target->table->key_count; i++) {
        at[i] = insert_key_position(p, target, target->table->keys[i].column);
        if (at[i] >= 0)
            continue;
        snprintf(detail, sizeof detail, "Table \"%.*s\" is distributed by \"%.*s\".",
                 SLICE_FMT(target->table->name), SLICE_FMT(target->table->key));
        return reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "INSERT does not say the shard key", detail,
                      "Name the key column and give its value in the statement.");
    }
    uint32_t count = p->shape->insert.rows;
    uint32_t *rows = arena_array(p->in->arena, uint32_t, count + 1);
    bool together = true;
    if (!rows)
        return reject(SQLSTATE_OUT_OF_MEMORY, "out of memory", NULL, NULL);
    for (uint32_t row = 0; row < count; row++) {
        if (!insert_row(p, target, at, row, &rows[row], &refused))
            return refused;
        target->shard = rows[row];
        together &= rows[row] == rows[0];
    }
    if (!together)
        return plan_insert_split(p, rows, count);
    fix_by_joins(p);
    place_all(p);
    return agree(p);
}

static Plan plan_insert(Planner *p)
{
    int at = insert_target(p);
    if (at < 0 || p->refs[at].kind != REF_DISTRIBUTED) {
        fix_by_joins(p);
        place_all(p);
        return agree(p);
    }
    if (p->shape->insert.rows == 0)
        return reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                      "INSERT ... SELECT into a distributed table is not supported yet",
                      "Its rows may belong to several shards.",
                      "Insert the rows with VALUES.");
    return plan_insert_values(p, &p->refs[at]);
}

static bool assigns_key(const Planner *p, const Ref *target)
{
    for (uint32_t i = 0; i < p->shape->assigned_count; i++)
        if (key_index(target->table, p->shape->assigned[i]) >= 0)
            return true;
    return false;
}

/* A row whose key changes would be on a shard where nobody looks for it (H51). WITH may write to
 * several tables; which of them a column is assigned to is not told apart. */
static bool moves_rows(Planner *p)
{
    bool moves = false;
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        moves |= p->shape->tables[i].target && p->refs[i].kind == REF_DISTRIBUTED &&
                 assigns_key(p, &p->refs[i]);
    if (!moves)
        return false;
    p->plan = reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                     "a statement may not change the shard key of a row",
                     "The row would belong to another shard.",
                     "Delete the row and insert it with its new key.");
    return true;
}

/* ---- all kinds ------------------------------------------------------------------------------- */

/* PostgreSQL's own functions that run a query given as text, or read a table given by name. */
static const char *const QUERY_FUNCTIONS[] = {"query_to_xml", "cursor_to_xml", "table_to_xml",
                                              "schema_to_xml", "database_to_xml", "ts_stat"};

static bool runs_statements(const Planner *p, const ShapeName *name)
{
    for (size_t i = 0; i < ARRAY_LEN(QUERY_FUNCTIONS); i++) {
        size_t len = strlen(QUERY_FUNCTIONS[i]); /* ..._and_xmlschema and the like too */
        if (name->name.len >= len && memcmp(name->name.data, QUERY_FUNCTIONS[i], len) == 0)
            return true;
    }
    const CatalogFunction *function = catalog_resolve_function(
        p->catalog, name->schema, name->name, p->in->search_path, p->in->user);
    return function && function->runs_statements && !is_system_schema(function->schema);
}

/* A function's body may read distributed tables, and would see one shard's rows. */
static bool hides_tables(Planner *p)
{
    if (!topology_database_sharded(p->in->topology, p->in->database))
        return false;
    for (uint32_t i = 0; i < p->shape->function_count; i++) {
        const ShapeName *name = &p->shape->functions[i];
        if (!runs_statements(p, name))
            continue;
        p->plan = reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                         "this function is not supported on a sharded database yet", NULL,
                         "Call it on a shard directly, or declare it IMMUTABLE if it reads no table.");
        error_detail(&p->plan.error, "Function \"%.*s\" may read tables, which Shoal cannot see.",
                     SLICE_FMT(name->name));
        return true;
    }
    return false;
}

static bool writes_reference(const Planner *p)
{
    if (p->shape->kind == SHAPE_COPY_OUT)
        return false;
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        if (p->shape->tables[i].target && p->refs[i].kind == REF_REFERENCE)
            return true;
    return false;
}

/* Every distributed reference is joined to the target on its key, so that each shard can do its part by
 * itself: the rows that belong together are there. */
static bool all_joined(const Planner *p, int target)
{
    bool joined[TABLES_MAX] = {false}, again = true;
    joined[target] = true;
    while (again) {
        again = false;
        for (uint32_t i = 0; i < p->shape->join_count; i++) {
            const ShapeJoin *join = &p->shape->joins[i];
            int a = column_owner(p, join->table, join->level, join->from, join->to, join->column);
            int b = column_owner(p, join->other, join->other_level, join->from, join->to, join->other_column);
            if (a < 0 || b < 0 || joined[a] || !joined[b] || !keys_meet(p, join, a, b))
                continue;
            joined[a] = again = true;
        }
    }
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        if (p->refs[i].kind != REF_SYSTEM && !joined[i])
            return false;
    return true;
}

/* Shards that hold rows of others are asked for their own. */
static void pass_over_foreign(const Planner *p, Plan *plan, int reference, const char *columns)
{
    const Topology *topology = p->in->topology;
    const Table *table = p->refs[reference].table;
    if (!foreign_table(topology, table) || !p->in->keep)
        return;
    plan->texts = foreign_texts(topology, table, p->database->shards, p->database->shard_count,
                                p->shape->tables[reference].alias, p->statement->text, columns, p->in->keep);
    if (plan->texts)
        return;
    plan->kind = PLAN_REJECT;
    foreign_error(&plan->error);
}

/* UPDATE and DELETE that no key restricts to one shard: each shard changes its own rows. */
static bool plan_write(Planner *p, Plan *ret)
{
    int target = insert_target(p);
    bool dml = p->shape->kind == SHAPE_UPDATE || p->shape->kind == SHAPE_DELETE;
    if (!dml || target < 0 || p->refs[target].kind != REF_DISTRIBUTED ||
        p->refs[target].shard != SHARD_NONE || p->shape->traits & SHAPE_HAS_MODIFYING_CTE ||
        p->in->temporary || !all_joined(p, target))
        return false;
    *ret = (Plan){.kind = PLAN_WRITE, .shards = p->database->shards,
                  .shard_count = p->database->shard_count};
    pass_over_foreign(p, ret, target, NULL);
    return true;
}

/* A SELECT that no shard can answer alone (fanout.h). */
static Plan plan_spread(Planner *p)
{
    FanoutRef *refs = arena_array(p->in->arena, FanoutRef, p->shape->table_count + 1);
    Plan plan = {.kind = PLAN_SCATTER};
    if (!refs)
        return reject(SQLSTATE_OUT_OF_MEMORY, "out of memory", NULL, NULL);
    for (uint32_t i = 0; i < p->shape->table_count; i++) {
        const Ref *ref = &p->refs[i];
        if (ref->kind == REF_VIEW)
            return reject_shards("The statement reads a view together with distributed tables.");
        if (ref->kind == REF_LOCAL && !ref->catalog && !p->in->in_transaction) /* most likely a typing error */
            return (Plan){.kind = PLAN_PROBE, .shard = home_shard(p)};
        if (p->in->temporary && ref->bare)
            return reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "which table is meant cannot be known",
                          "The session has temporary tables, and one of them may have that name.",
                          "Write schema and table, or drop the temporary tables and DISCARD ALL.");
        refs[i] = (FanoutRef){.place = ref->kind == REF_DISTRIBUTED ? SPLIT_PLACE_SPREAD
                                       : ref->kind == REF_REFERENCE ? SPLIT_PLACE_EVERY
                                       : ref->kind == REF_SYSTEM    ? SPLIT_PLACE_SYSTEM
                                                                    : SPLIT_PLACE_HOME,
                              .table = ref->table,
                              .catalog = ref->catalog};
        refs[i].known_shard = (ref->kind == REF_DISTRIBUTED || ref->kind == REF_LOCAL) && ref->shard != SHARD_NONE;
        refs[i].shard = ref->shard == SHARD_EVERY ? UINT32_MAX : ref->shard;
    }
    plan.spread = fanout_make(p->in, p->statement, refs, p->in->keep, &plan.error);
    if (!plan.spread)
        plan.kind = PLAN_REJECT;
    return plan;
}

/* ---- reference tables ------------------------------------------------------------------------- */

static Plan reject_drift(const char *what, Slice name)
{
    Plan plan = reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "the shards would not write the same to a reference table",
                       NULL, "Give the value itself in the statement.");
    error_detail(&plan.error, "%s%s%.*s%s may differ from shard to shard.", what, name.len ? " \"" : "",
                 SLICE_FMT(name), name.len ? "\"" : "");
    return plan;
}

/* A column that the INSERT leaves out, or gives as DEFAULT, and whose default differs from server to server. */
static const CatalogColumn *drifting_default(const Planner *p, const CatalogTable *table)
{
    const ShapeInsert *insert = &p->shape->insert;
    for (uint32_t i = 0; i < table->column_count; i++) {
        const CatalogColumn *column = &table->columns[i];
        uint32_t at = i;
        if (!column->varying_default || column->generated)
            continue;
        for (at = 0; insert->columns && at < insert->column_count; at++)
            if (slice_equal(insert->columns[at], column->name))
                break;
        if (!insert->columns)
            at = i; /* by position */
        if (at >= insert->column_count)
            return column;
        for (uint32_t row = 0; row < insert->rows; row++)
            if (insert->values[row * insert->column_count + at].kind == SHAPE_VALUE_DEFAULT)
                return column;
    }
    return NULL;
}

static Slice drifting_function(const Planner *p)
{
    for (uint32_t i = 0; i < p->shape->function_count; i++) {
        const ShapeName *name = &p->shape->functions[i];
        const CatalogFunction *function = catalog_resolve_function(
            p->catalog, name->schema, name->name, p->in->search_path, p->in->user);
        if (!function || function->volatility != 'i')
            return name->name;
    }
    return (Slice){0};
}

/* Each shard writes to its own copy: what it writes must not depend on where and when (H56). */
static Plan plan_reference_write(Planner *p)
{
    static const uint32_t DRIFTS = SHAPE_HAS_TIME_VALUE | SHAPE_HAS_SAMPLE | SHAPE_HAS_LIMIT | SHAPE_HAS_OFFSET |
                                   SHAPE_HAS_WINDOW | SHAPE_HAS_MODIFYING_CTE;
    const CatalogTable *table = NULL;
    if (p->in->temporary)
        return reject_temporary();
    for (uint32_t i = 0; i < p->shape->table_count; i++) {
        if (p->refs[i].kind != REF_REFERENCE)
            return reject_shards("A reference table is written on every shard, and the statement names a table "
                                 "that is not on all of them.");
        if (p->shape->tables[i].target)
            table = p->refs[i].catalog;
    }
    Slice function = drifting_function(p);
    if (function.len)
        return reject_drift("The result of function", function);
    if (p->shape->traits & DRIFTS)
        return reject_drift("The time of day, or the rows that LIMIT leaves,", (Slice){0});
    if (!table || table->has_rules_or_triggers)
        return reject_drift("What the table's triggers or rules do", (Slice){0});
    const CatalogColumn *column = p->shape->kind == SHAPE_INSERT ? drifting_default(p, table) : NULL;
    if (column)
        return reject_drift("The default of column", column->name);
    return (Plan){.kind = PLAN_WRITE, .same = true, .shards = p->database->shards,
                  .shard_count = p->database->shard_count};
}

static Plan plan_rows(Planner *p)
{
    if (moves_rows(p) || hides_tables(p))
        return p->plan;
    if (p->reference_count && writes_reference(p))
        return plan_reference_write(p);
    if (p->distributed_count == 0)
        return agree(p);
    fix_by_values(p);
    if (p->shape->kind == SHAPE_INSERT) {
        Plan plan = plan_insert(p);
        return plan;
    }
    fix_by_joins(p);
    Plan plan;
    place_all(p);
    if (plan_write(p, &plan))
        return plan;
    plan = agree(p);
    if (plan.kind == PLAN_REJECT && p->shape->kind == SHAPE_SELECT && p->in->keep)
        return plan_spread(p);
    return plan;
}

/* ---- COPY, LOCK ------------------------------------------------------------------------------ */

static bool calls_aggregate(const Planner *p)
{
    for (uint32_t i = 0; i < p->shape->function_count; i++) {
        const ShapeName *name = &p->shape->functions[i];
        const CatalogFunction *function = catalog_resolve_function(
            p->catalog, name->schema, name->name, p->in->search_path, p->in->user);
        if (!function || function->kind != 'f')
            return true;
    }
    return false;
}

/* COPY (SELECT ...): each shard answers for its rows when no row depends on those of another shard. */
static bool query_splits(Planner *p, int *ret_first)
{
    static const uint32_t WHOLE = SHAPE_HAS_LOCKING | SHAPE_HAS_CTE | SHAPE_HAS_SAMPLE | SHAPE_HAS_SUBQUERY |
                                  SHAPE_HAS_SETOP | SHAPE_HAS_GROUP | SHAPE_HAS_DISTINCT | SHAPE_HAS_ORDER |
                                  SHAPE_HAS_LIMIT | SHAPE_HAS_OFFSET | SHAPE_HAS_WINDOW | SHAPE_HAS_OUTER_JOIN |
                                  SHAPE_HAS_MODIFYING_CTE | SHAPE_HAS_FUNCTION_IN_FROM;
    int first = -1;
    if (p->shape->traits & WHOLE || calls_aggregate(p))
        return false;
    for (uint32_t i = 0; i < p->shape->table_count && first < 0; i++)
        if (p->refs[i].kind == REF_DISTRIBUTED)
            first = (int)i;
    *ret_first = first;
    return first >= 0 && all_joined(p, first);
}

/* What COPY of a whole table copies: generated columns are left out. NULL: not known, or memory is out. */
static const char *copied_columns(const Planner *p, const CatalogTable *table)
{
    const char *list = NULL;
    for (uint32_t i = 0; table && p->in->keep && i < table->column_count; i++) {
        if (table->columns[i].generated)
            continue;
        const char *name = sql_quote_identifier(p->in->keep, table->columns[i].name);
        list = name ? arena_printf(p->in->keep, "%s%s%s", list ? list : "", list ? ", " : "", name) : NULL;
        if (!list)
            return NULL;
    }
    return list;
}

static Plan plan_copy_out(const Planner *p, int reference)
{
    Plan plan = {.kind = PLAN_COPY_OUT, .table = p->refs[reference].table};
    pass_over_foreign(p, &plan, reference, copied_columns(p, p->refs[reference].catalog));
    return plan;
}

static Plan plan_copy(Planner *p)
{
    int target = insert_target(p);
    const Ref *ref = target < 0 ? NULL : &p->refs[target];
    bool in = p->shape->kind == SHAPE_COPY_IN;
    bool whole = ref && (ref->kind == REF_DISTRIBUTED || (in && ref->kind == REF_REFERENCE));
    if (hides_tables(p))
        return p->plan;
    if (whole && ref->bare && p->in->temporary)
        return reject_temporary();
    if (whole && in && !table_is_ready(ref->table))
        return reject_shards("The type of its key is not known, or cannot be a key.");
    if (whole && in)
        return (Plan){.kind = PLAN_COPY_IN, .table = ref->table, .same_encoding = p->in->same_encoding};
    if (whole)
        return plan_copy_out(p, target);
    fix_by_values(p);
    fix_by_joins(p);
    place_all(p);
    Plan plan = agree(p);
    int first;
    if (plan.kind == PLAN_REJECT && !in && !ref && p->distributed_count && query_splits(p, &first))
        return p->in->temporary ? reject_temporary() : plan_copy_out(p, first);
    return plan;
}

/* A table on several shards is locked on all of them, always in the same order. */
static Plan plan_lock(Planner *p)
{
    if (p->distributed_count + p->reference_count == 0 || !p->in->in_transaction)
        return p->distributed_count ? direct(home_shard(p), true) /* PostgreSQL says 25P01 */ : agree(p);
    if (p->in->temporary)
        return reject_temporary();
    return (Plan){.kind = PLAN_WRITE, .same = true, .shards = p->database->shards,
                  .shard_count = p->database->shard_count};
}

static Plan plan_unparsed(const Planner *p)
{
    if (p->shape->too_complex)
        return reject(SQLSTATE_STATEMENT_TOO_COMPLEX, "statement is too complex to be routed",
                      p->shape->reason, "Split the statement, or send it to one shard directly.");
    return (Plan){.kind = PLAN_PROBE, .shard = home_shard(p)};
}

/* Under another name it would be taken for a table of the home shard, with a part of its rows. */
static bool moves_table(const Planner *p)
{
    const Topology *t = p->in->topology;
    if (!(p->shape->traits & SHAPE_MOVES_TABLE))
        return false;
    for (uint32_t i = 0; p->shape->statement.len && i < t->table_count; i++)
        if (t->tables[i].database == p->in->database &&
            slice_equal(t->tables[i].schema, p->shape->statement))
            return true;
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        if (p->refs[i].table)
            return true;
    return false;
}

static Plan plan_sharded(Planner *p)
{
    char message[128];
    switch (p->shape->kind) {
    case SHAPE_UNPARSED:
        return plan_unparsed(p);
    case SHAPE_SELECT:
    case SHAPE_INSERT:
    case SHAPE_UPDATE:
    case SHAPE_DELETE:
    case SHAPE_EXPLAIN:
    case SHAPE_DECLARE:
        if (p->shape->traits & SHAPE_HAS_INTO)
            return reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                          "creating a table from a query is not supported on a sharded database yet",
                          "The table has to be made on every shard.", "Create the table first, then insert its rows.");
        return plan_rows(p);
    case SHAPE_COPY_IN:
    case SHAPE_COPY_OUT:
        return plan_copy(p);
    case SHAPE_LOCK:
        return plan_lock(p);
    case SHAPE_MERGE:
    case SHAPE_COPY_SERVER:
        if (p->distributed_count)
            return reject_shards("MERGE, and COPY from and to files, work on whole distributed tables.");
        return plan_rows(p);
    case SHAPE_DDL:
    case SHAPE_DDL_ALONE:
    case SHAPE_MAINTENANCE:
        if (p->shape->traits & SHAPE_HAS_TEMP)
            return direct(home_shard(p), false);
        if (p->shape->traits & SHAPE_HAS_INTO)
            return reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                          "creating a table from a query is not supported on a sharded database yet",
                          "The table has to be made on every shard.", "Create the table first, then insert its rows.");
        if (moves_table(p) || moves_rows(p))
            return reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                          "a distributed table keeps its name, its schema and its key",
                          "Shoal finds its rows by them; inheritance is not followed.",
                          "shoal.undistribute_table() first, or make a new table.");
        if (p->in->in_transaction && p->shape->kind == SHAPE_DDL_ALONE)
            return direct(home_shard(p), true); /* PostgreSQL says 25001 */
        return (Plan){.kind = PLAN_DDL, .alone = p->shape->kind != SHAPE_DDL && !p->in->in_transaction};
    case SHAPE_PREPARE_TRANSACTION:
    case SHAPE_COMMIT_PREPARED:
    case SHAPE_CALL:
    case SHAPE_DO:
    case SHAPE_PREPARE:
    case SHAPE_EXECUTE:
        snprintf(message, sizeof message, "%s is not supported on a sharded database yet",
                 shape_kind_name(p->shape->kind));
        return reject(SQLSTATE_FEATURE_NOT_SUPPORTED, message, "Its shard cannot be known.",
                      "Send the statements themselves, with the shard key fixed.");
    default:
        return direct(home_shard(p), true);
    }
}

static Plan plan_parts(const PlanInput *input, const PlanStatement *statement)
{
    const Shape *shape = statement->shape;
    Plan *plans = arena_array(input->arena, Plan, shape->part_count);
    if (!plans)
        return reject(SQLSTATE_OUT_OF_MEMORY, "out of memory", NULL, NULL);
    PlanInput inside = *input;
    for (uint32_t i = 0; i < shape->part_count; i++) {
        PlanStatement part = *statement;
        part.shape = shape->parts[i];
        inside.in_transaction = true; /* several statements in one Query are one transaction */
        plans[i] = plan_make(&inside, &part);
        inside.path_unknown |= plan_sets_path(part.shape);
        if (plans[i].kind == PLAN_LOCAL)
            return reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                          "shoal functions cannot be called among other statements",
                          "They are answered by Shoal, not by a shard.",
                          "Send the call alone.");
    }
    return plan_merge(input, plans, shape->part_count);
}

/* True when the statement names a distributed table, by any schema: a move relies on its shape. */
static bool names_distributed(const PlanInput *input, const Shape *shape)
{
    const Topology *topology = input->topology;
    for (uint32_t i = 0; i < shape->table_count; i++)
        for (uint32_t t = 0; t < topology->table_count; t++)
            if (topology->tables[t].database == input->database &&
                slice_equal(topology->tables[t].name, shape->tables[i].name.name))
                return true;
    return shape->table_count == 0;
}

/* While rows are copied, their tables must stay as they are. VACUUM and the like change none. */
static Plan while_copying(const PlanInput *input, Plan plan, const Shape *shape)
{
    if (shape->kind == SHAPE_MAINTENANCE || !names_distributed(input, shape))
        return plan;
    return reject(SQLSTATE_OBJECT_IN_USE, "a distributed table cannot be changed while its rows are copied",
                  "A move relies on equal tables on both shards until it has switched.",
                  "SHOW MOVES tells how far it is; try again then, or REBALANCE CANCEL it.");
}

/* Of one shard, or rows of several: when a bucket it needs is fenced. Of all shards: when any is. */
static Plan with_fence(const PlanInput *input, Plan plan, const Shape *shape, bool fenced)
{
    bool all = plan.kind == PLAN_SCATTER || (plan.kind == PLAN_WRITE && !plan.same) || plan.kind == PLAN_DDL ||
               plan.kind == PLAN_COPY_IN || plan.kind == PLAN_COPY_OUT;
    plan.fenced = fenced || (all && input->topology->fenced);
    return plan.kind == PLAN_DDL && input->topology->copying ? while_copying(input, plan, shape) : plan;
}

Plan plan_make(const PlanInput *input, const PlanStatement *statement)
{
    const Shape *shape = statement->shape;
    ParamMemo memo = {0};
    bool fenced = false;
    Planner planner = {
        .memo = &memo,
        .fenced = &fenced,
        .in = input,
        .statement = statement,
        .shape = shape,
        .database = &input->topology->config->databases[input->database],
        .catalog = input->topology->catalogs[input->database],
    };
    if (shape->shoal_call)
        return (Plan){.kind = PLAN_LOCAL};
    if (planner.database->shard_count == 1)
        return direct(planner.database->shards[0], true);
    if (shape->citus_call)
        return (Plan){.kind = PLAN_LOCAL};
    if (shape->kind == SHAPE_MULTI)
        return plan_parts(input, statement);
    if (!resolve_all(&planner))
        return planner.plan;
    Plan plan = plan_sharded(&planner);
    return with_fence(input, plan, shape, fenced);
}

static Plan merge(const PlanInput *input, const Plan *plans, uint32_t count)
{
    const Config *config = input->topology->config;
    Plan merged = direct(config->databases[input->database].shards[0], true);
    for (uint32_t i = 0; i < count; i++) {
        const Plan *plan = &plans[i];
        if (plan->kind != PLAN_DIRECT)
            return count == 1 || plan->kind == PLAN_REJECT || plan->kind == PLAN_PROBE
                       ? *plan
                       : reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                                "DDL on a sharded database cannot travel with other statements yet",
                                "It has to run on every shard.", "Send it alone.");
        if (plan->any_shard)
            continue;
        if (!merged.any_shard && merged.shard != plan->shard) {
            char detail[160];
            snprintf(detail, sizeof detail, "Its statements need shard %s and shard %s.",
                     config->shards[merged.shard].name, config->shards[plan->shard].name);
            return reject_shards(detail);
        }
        merged = *plan;
    }
    return merged;
}

Plan plan_merge(const PlanInput *input, const Plan *plans, uint32_t count)
{
    Plan merged = merge(input, plans, count);
    for (uint32_t i = 0; i < count; i++)
        merged.fenced |= plans[i].fenced;
    return merged;
}
