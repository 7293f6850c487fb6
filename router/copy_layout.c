/*
 * copy_layout.c - from the words of COPY to a CopyLayout, from a row's key to its shard.
 */
#include "router/copy_layout.h"

#include "wire/value.h"

/* ---- options ------------------------------------------------------------------------------------------ */

static bool refuse(Error *err, const char *what, const char *hint)
{
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "%s is not supported by COPY of a table on several shards",
              what);
    error_hint(err, "%s", hint);
    return false;
}

static const ShapeOption *option_find(const Shape *shape, const char *name)
{
    for (uint32_t i = 0; i < shape->option_count; i++)
        if (slice_is(shape->options[i].name, name))
            return &shape->options[i];
    return NULL;
}

static bool option_is_on(const ShapeOption *option)
{
    bool on = true;
    if (!option)
        return false;
    if (option->value.len == 0 || slice_is(option->value, "1") || slice_equal_nocase(option->value, SLICE("match")))
        return true;
    return value_bool_text(option->value, &on) ? on : false;
}

static bool format_read(const Shape *shape, CopyFormat *ret, Error *err)
{
    const ShapeOption *format = option_find(shape, "format");
    *ret = COPY_TEXT;
    if (!format || slice_is(format->value, "text"))
        return true;
    if (slice_is(format->value, "csv"))
        *ret = COPY_CSV;
    else if (slice_is(format->value, "binary"))
        *ret = COPY_BINARY;
    else
        return refuse(err, "this format", "Use text, csv or binary.");
    return true;
}

static void byte_read(const Shape *shape, const char *name, uint8_t *byte)
{
    const ShapeOption *option = option_find(shape, name);
    if (option && option->value.len == 1)
        *byte = option->value.data[0];
}

bool copy_options_read(const Shape *shape, CopyLayout *ret_layout, bool *ret_forced_null, Error *err)
{
    CopyFormat format;
    const ShapeOption *encoding = option_find(shape, "encoding"), *null = option_find(shape, "null");
    if (!format_read(shape, &format, err))
        return false;
    if (encoding && !slice_equal_nocase(encoding->value, SLICE("utf8")) &&
        !slice_equal_nocase(encoding->value, SLICE("utf-8")))
        return refuse(err, "option ENCODING", "SET client_encoding instead.");
    CopyLayout layout = copy_layout_of(format);
    byte_read(shape, "delimiter", &layout.delimiter);
    byte_read(shape, "quote", &layout.quote);
    layout.escape = layout.quote;
    byte_read(shape, "escape", &layout.escape);
    if (null)
        layout.null_text = null->value;
    layout.header = option_is_on(option_find(shape, "header"));
    *ret_forced_null = option_find(shape, "force_null") || option_find(shape, "force_not_null");
    if (layout.quote == '.' || layout.escape == '.' || layout.quote == '\\')
        return refuse(err, "this quote character", "Use another one.");
    *ret_layout = layout;
    return true;
}

/* ---- the table ------------------------------------------------------------------------------------------ */

/* Which column of the data is it? -1: none. Without a list all columns come, but generated ones. */
static int column_position(const Shape *shape, const CatalogTable *table, Slice name)
{
    int position = 0;
    if (shape->insert.columns) {
        for (uint32_t i = 0; i < shape->insert.column_count; i++)
            if (slice_equal(shape->insert.columns[i], name))
                return (int)i;
        return -1;
    }
    for (uint32_t i = 0; i < table->column_count; i++) {
        if (slice_equal(table->columns[i].name, name))
            return table->columns[i].generated ? -1 : position;
        position += !table->columns[i].generated;
    }
    return -1;
}

static bool keys_read(CopyTarget *target, const Table *table, const CatalogTable *facts, const Shape *shape,
                      CopyLayout *layout, Error *err)
{
    for (uint32_t i = 0; i < table->key_count; i++) {
        const TableKey *key = &table->keys[i];
        const CatalogColumn *column = facts ? catalog_column(facts, key->column) : NULL;
        int position = column ? column_position(shape, facts, key->column) : -1;
        if (position < 0) {
            error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "COPY does not say the shard key");
            error_detail(err, "Table \"%.*s\" is distributed by \"%.*s\".", SLICE_FMT(table->name),
                         SLICE_FMT(table->key));
            error_hint(err, "Name the key column among the columns that are copied.");
            return false;
        }
        target->keys[i] = *key;
        target->columns[i] = *column;
        layout->keys[i] = (uint16_t)position;
    }
    target->key_count = layout->key_count = table->key_count;
    return true;
}

bool copy_target_read(CopyTarget *target, const Topology *topology, const Plan *plan, const Shape *shape,
                      Arena *arena, CopyLayout *ret_layout, Error *err)
{
    const Table *table = plan->table;
    const Catalog *catalog = topology->catalogs[table->database];
    *target = (CopyTarget){.database = table->database, .all = table->kind == TABLE_REFERENCE,
                           .map_version = topology->map->version,
                           .utf8 = slice_is(catalog->encoding, "UTF8")};
    target->schema = arena_dup(arena, table->schema);
    target->name = arena_dup(arena, table->name);
    CopyLayout layout;
    if (!copy_options_read(shape, &layout, &target->forced_null, err) ||
        !keys_read(target, table, catalog_table(catalog, table->schema, table->name), shape, &layout, err))
        return false;
    layout.null_text = arena_dup(arena, layout.null_text);
    for (uint32_t i = 0; i < target->key_count; i++)
        target->keys[i].column = arena_dup(arena, target->keys[i].column);
    target->binary = layout.format == COPY_BINARY;
    *ret_layout = layout;
    return true;
}

static const Table *target_table(const CopyTarget *target, const Topology *topology)
{
    return topology_table(topology, target->database, target->schema, target->name);
}

bool copy_target_holds(const CopyTarget *target, const Topology *topology, Error *err)
{
    const Table *table = target_table(target, topology);
    bool same = table && topology->map->version == target->map_version && table->key_count == target->key_count &&
                (table->kind == TABLE_REFERENCE) == target->all;
    for (uint32_t i = 0; same && i < target->key_count; i++)
        same = slice_equal(table->keys[i].column, target->keys[i].column) &&
               table->keys[i].oid == target->keys[i].oid && table->keys[i].type == target->keys[i].type;
    if (same)
        return true;
    error_set(err, "40001", "rows of the table were moved during COPY");
    error_hint(err, "Nothing was loaded; run it again.");
    return false;
}

/* ---- rows ------------------------------------------------------------------------------------------------- */

typedef enum KeyVerdict { VERDICT_GOOD, VERDICT_POSTGRES, VERDICT_REFUSED } KeyVerdict;

static bool spelling_is_certain(KeyType type)
{
    return type == KEY_INT || type == KEY_UUID || type == KEY_BOOL;
}

static bool is_text(const TableKey *key)
{
    return (key->type == KEY_TEXT && key->oid != WIRE_OID_BYTEA) || key->type == KEY_BPCHAR;
}

static bool is_ascii(Slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] & 0x80)
            return false;
    return true;
}

static KeyVerdict key_judge(const CopyTarget *target, uint32_t i, const CopyField *field, Arena *scratch,
                            Slice *ret)
{
    const TableKey *key = &target->keys[i];
    const CatalogColumn *column = &target->columns[i];
    if (field->missing)
        return VERDICT_POSTGRES;
    if (field->null)
        return column->not_null && !target->forced_null ? VERDICT_POSTGRES : VERDICT_REFUSED;
    if (target->forced_null && field->value.len == 0)
        return VERDICT_REFUSED;
    if (value_canonical(key->oid, target->binary ? FORMAT_BINARY : FORMAT_TEXT, field->value, scratch, ret) !=
        VALUE_OK)
        return spelling_is_certain(key->type) ? VERDICT_POSTGRES : VERDICT_REFUSED;
    if (is_text(key) && !target->same_encoding && !is_ascii(*ret))
        return VERDICT_REFUSED;
    return plan_column_stores(column, key->type, *ret, target->utf8) ? VERDICT_GOOD : VERDICT_REFUSED;
}

static bool refuse_key(const CopyTarget *target, uint32_t i, Error *err)
{
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "the shard of a row cannot be known");
    error_hint(err, "The value for key \"%.*s\" is NULL, too long, or written in a way that Shoal does not read.",
               SLICE_FMT(target->keys[i].column));
    return false;
}

bool copy_target_shard(const CopyTarget *target, const Topology *topology, const CopyRow *row, Arena *scratch,
                       uint32_t *ret_shard, Error *err)
{
    Slice values[TABLE_KEYS_MAX];
    for (uint32_t i = 0; i < target->key_count; i++) {
        KeyVerdict verdict = key_judge(target, i, &row->keys[i], scratch, &values[i]);
        if (verdict == VERDICT_REFUSED)
            return refuse_key(target, i, err);
        if (verdict == VERDICT_POSTGRES) {
            *ret_shard = topology->config->databases[target->database].shards[0];
            return true;
        }
    }
    if (topology_place(topology, target_table(target, topology), values, ret_shard))
        return true;
    error_set(err, "23514", "no shard may have a row of the data");
    error_hint(err, "Its key has no place in table \"%.*s\".", SLICE_FMT(target->name));
    return false;
}
