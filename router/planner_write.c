/*
 * planner_write.c - where the rows belong that a statement writes: INSERT by the keys it gives, UPDATE and DELETE
 * by the rows they find, reference tables everywhere alike.
 */
#include "router/foreign.h"
#include "router/planner_state.h"

#include <stdio.h>

#include "wire/value.h"

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

/* Characters; at most, where the encoding is not known. */
static size_t text_length(Slice text, bool utf8)
{
    size_t length = 0;
    for (size_t i = 0; i < text.len; i++)
        length += !utf8 || (text.data[i] & 0xC0) != 0x80;
    return length;
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
    return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "the shard of the new row cannot be known", detail,
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
    if (every || key_place(p, target->table, values, ret_shard))
        return true;
    *ret = plan_reject("23514", "no shard may have this row", NULL, "Give its key a place, or correct it.");
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
        return plan_reject_shards("The rows of this INSERT belong to different shards, and it reads other tables.");
    if (p->in->temporary)
        return plan_reject_temporary();
    for (uint32_t i = 0; i < count; i++)
        if (rows[i] == SHARD_EVERY)
            rows[i] = planner_home(p);
    return (Plan){.kind = PLAN_INSERT, .rows = rows, .row_count = count};
}

Plan plan_insert_select(const Planner *p)
{
    int at = ref_target(p);
    const Ref *target = at < 0 ? NULL : &p->refs[at];
    if (!target || !target->catalog)
        return plan_reject_shards("The table that it writes to is not known.");
    if (target->through) /* what the view's table has for defaults, the view does not say */
        return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "rows cannot be inserted through a view in this way",
                           "Which shard they belong to is only known when they are made.",
                           "Give the key of each row as a constant or a parameter in VALUES, or name the view's table.");
    if (p->shape->traits & SHAPE_HAS_MODIFYING_CTE)
        return plan_reject_shards("Its WITH writes rows, too.");
    if (p->in->temporary)
        return plan_reject_temporary();
    return (Plan){.kind = PLAN_INSERT_SELECT, .table = target->table, .schema = target->catalog->schema,
                  .name = target->catalog->name};
}

/* The column's default gives a value. */
static bool key_has_default(const Ref *target, Slice key)
{
    const CatalogColumn *column = target->catalog ? catalog_column(target->catalog, key) : NULL;
    return column && (column->identity || column->varying_default || column->volatile_default || column->sequence.len);
}

/* Some row leaves a key column to its default: which value that is, PostgreSQL must say. */
static bool keys_by_default(const Planner *p, const Ref *target)
{
    const ShapeInsert *insert = &p->shape->insert;
    for (uint32_t i = 0; i < target->table->key_count; i++) {
        Slice key = target->table->keys[i].column;
        int at = insert_key_position(p, target, key);
        if (!key_has_default(target, key))
            continue;
        if (at < 0)
            return true;
        for (uint32_t row = 0; row < insert->rows; row++)
            if (insert->values[row * insert->column_count + (uint32_t)at].kind == SHAPE_VALUE_DEFAULT)
                return true;
    }
    return false;
}

static Plan plan_insert_values(Planner *p, Ref *target)
{
    char detail[256];
    int at[TABLE_KEYS_MAX];
    Plan refused;
    if (keys_by_default(p, target))
        return plan_insert_select(p);
    for (uint32_t i = 0; i < target->table->key_count; i++) {
        at[i] = insert_key_position(p, target, target->table->keys[i].column);
        if (at[i] >= 0)
            continue;
        snprintf(detail, sizeof detail, "Table \"%.*s\" is distributed by \"%.*s\".",
                 SLICE_FMT(target->table->name), SLICE_FMT(target->table->key));
        return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "INSERT does not say the shard key", detail,
                      "Name the key column and give its value in the statement.");
    }
    uint32_t count = p->shape->insert.rows;
    uint32_t *rows = arena_array(p->in->arena, uint32_t, count + 1);
    bool together = true;
    if (!rows)
        return plan_reject(SQLSTATE_OUT_OF_MEMORY, "out of memory", NULL, NULL);
    for (uint32_t row = 0; row < count; row++) {
        if (!insert_row(p, target, at, row, &rows[row], &refused))
            return error_is(&refused.error, SQLSTATE_FEATURE_NOT_SUPPORTED) && p->shape->table_count == 1 &&
                           !(p->shape->traits & (SHAPE_HAS_CTE | SHAPE_HAS_SUBQUERY))
                       ? plan_insert_select(p) /* PostgreSQL must say what the value is */
                       : refused;
        target->shard = rows[row];
        together &= rows[row] == rows[0];
    }
    if (!together)
        return plan_insert_split(p, rows, count);
    refs_fix_by_joins(p);
    refs_place(p);
    return plan_agree(p);
}

/* Into a table of one shard, from rows of several. */
static Plan plan_insert_here(Planner *p)
{
    refs_fix_by_joins(p);
    refs_place(p);
    Plan plan = plan_agree(p);
    bool local = ref_target(p) >= 0 && p->refs[ref_target(p)].kind == REF_LOCAL;
    return plan.kind == PLAN_REJECT && local && p->shape->insert.rows == 0 ? plan_insert_select(p) : plan;
}

Plan plan_insert(Planner *p)
{
    int at = ref_target(p);
    if (at < 0 || p->refs[at].kind != REF_DISTRIBUTED)
        return plan_insert_here(p);
    return p->shape->insert.rows == 0 ? plan_insert_select(p) : plan_insert_values(p, &p->refs[at]);
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
bool plan_moves_rows(Planner *p)
{
    bool moves = false;
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        moves |= p->shape->tables[i].target && p->refs[i].kind == REF_DISTRIBUTED &&
                 assigns_key(p, &p->refs[i]);
    if (!moves)
        return false;
    p->plan = plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                     "a statement may not change the shard key of a row",
                     "The row would belong to another shard.",
                     "Delete the row and insert it with its new key.");
    return true;
}

bool plan_writes_reference(const Planner *p)
{
    if (p->shape->kind == SHAPE_COPY_OUT)
        return false;
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        if (p->shape->tables[i].target && p->refs[i].kind == REF_REFERENCE)
            return true;
    return false;
}

/* Shards that hold rows of others are asked for their own. */
void plan_pass_over_foreign(const Planner *p, Plan *plan, int reference, const char *columns)
{
    const Topology *topology = p->in->topology;
    const Table *table = p->refs[reference].table;
    if (!foreign_table(topology, table) || !p->in->keep)
        return;
    const uint32_t *shards = plan->shards ? plan->shards : p->database->shards;
    uint32_t count = plan->shards ? plan->shard_count : p->database->shard_count;
    plan->texts = foreign_texts(topology, table, shards, count, p->shape->tables[reference].alias, p->statement->text, columns, p->in->keep);
    if (plan->texts)
        return;
    plan->kind = PLAN_REJECT;
    foreign_error(&plan->error);
}

/* UPDATE and DELETE that no key restricts to one shard: each shard changes its own rows. */
bool plan_write(Planner *p, Plan *ret)
{
    int target = ref_target(p);
    bool dml = p->shape->kind == SHAPE_UPDATE || p->shape->kind == SHAPE_DELETE;
    if (!dml || target < 0 || p->refs[target].kind != REF_DISTRIBUTED ||
        p->refs[target].shard != SHARD_NONE || p->shape->traits & SHAPE_HAS_MODIFYING_CTE ||
        p->in->temporary || !refs_all_joined(p, target))
        return false;
    uint32_t *shards = arena_array(p->in->arena, uint32_t, p->database->shard_count);
    *ret = (Plan){.kind = PLAN_WRITE, .shards = shards};
    for (uint32_t i = 0; shards && i < p->database->shard_count; i++)
        if (!p->refs[target].some || p->refs[target].some[p->database->shards[i]])
            shards[ret->shard_count++] = p->database->shards[i];
    plan_pass_over_foreign(p, ret, target, NULL);
    return shards != NULL;
}

/* ---- reference tables ------------------------------------------------------------------------- */

static Plan reject_drift(const char *what, Slice name)
{
    Plan plan = plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "the shards would not write the same to a reference table",
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
static Plan plan_alike(Planner *p)
{
    static const uint32_t DRIFTS = SHAPE_HAS_TIME_VALUE | SHAPE_HAS_SAMPLE | SHAPE_HAS_LIMIT | SHAPE_HAS_OFFSET |
                                   SHAPE_HAS_WINDOW | SHAPE_HAS_MODIFYING_CTE;
    const CatalogTable *table = NULL;
    if (p->in->temporary)
        return plan_reject_temporary();
    for (uint32_t i = 0; i < p->shape->table_count; i++) {
        if (p->refs[i].kind != REF_REFERENCE)
            return plan_reject_shards("A reference table is written on every shard, and the statement names a table "
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

/* Rows that a query would make differently are made once, and written everywhere. */
Plan plan_reference_write(Planner *p)
{
    Plan plan = plan_alike(p);
    int at = ref_target(p);
    bool rows = p->shape->kind == SHAPE_INSERT && p->shape->insert.rows == 0 && at >= 0 &&
                p->refs[at].kind == REF_REFERENCE;
    return plan.kind == PLAN_REJECT && rows ? plan_insert_select(p) : plan;
}

/* ---- DDL that promises what no shard can keep ----------------------------------------------------------- */

static bool unique_names(Slice unique, Slice column)
{
    while (unique.len) {
        const uint8_t *end = memchr(unique.data, SHAPE_UNIQUE_SEPARATOR, unique.len);
        size_t len = end ? (size_t)(end - unique.data) : unique.len;
        if (slice_equal(slice_of(unique.data, len), column))
            return true;
        unique = slice_from(unique, MIN(len + 1, unique.len));
    }
    return false;
}

static bool unique_has_key(Slice unique, const Table *table)
{
    for (uint32_t i = 0; i < table->key_count; i++)
        if (!unique_names(unique, table->keys[i].column))
            return false;
    return true;
}

/* The table that DDL makes or changes, or the one that it makes a partition of. */
static const Table *table_of_uniques(const Planner *p)
{
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        if (p->shape->tables[i].target && p->refs[i].table && p->refs[i].kind == REF_DISTRIBUTED)
            return p->refs[i].table;
    return NULL;
}

bool plan_breaks_unique(Planner *p)
{
    const Table *table = table_of_uniques(p);
    for (uint32_t i = 0; table && i < p->shape->unique_count; i++) {
        if (unique_has_key(p->shape->uniques[i], table))
            continue;
        p->plan = plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                              "a unique or exclusion constraint of a distributed table must contain its key", NULL,
                              "Add the key's columns to it, or make an index that is not unique.");
        error_detail(&p->plan.error, "Table \"%.*s\" is distributed by \"%.*s\"; a shard cannot see the rows of others.",
                     SLICE_FMT(table->name), SLICE_FMT(table->key));
        return true;
    }
    return false;
}
