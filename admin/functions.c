/*
 * functions.c - the table of shoal.*() functions, and those that need nothing but the topology.
 */
#include "admin/functions.h"

#include "admin/answer.h"
#include "admin/control_state.h"
#include "admin/distribute.h"
#include "admin/sizes.h"
#include "meta/identifier.h"
#include "wire/value.h"

typedef bool FunctionFn(Control *control, Call *call, const Function *function, Error *err);

static FunctionFn run_version, run_bucket_of, run_shard_of;

static FunctionFn run_citus_distribute;

/* The words before each argument's type are its name, for calls with name => value. */
static const Function FUNCTIONS[] = {
    {"distribute_table", "table text, key text [, colocate_with text]",
     "Spreads the rows of an empty table over the shards by a hash of its key: one column, or several separated by commas.",
     2, 3, distribute_run},
    {"distribute_by_range", "table text, key text, places text [, colocate_with text]",
     "Spreads the rows of an empty table by ranges of its key: LOWEST@SHARD, ...", 3, 4, distribute_run},
    {"distribute_by_list", "table text, key text, places text [, colocate_with text]",
     "Spreads the rows of an empty table by the values of its key: VALUE@SHARD, ...; * for all others.", 3, 4,
     distribute_run},
    {"create_reference_table", "table_name text",
     "Makes an empty table one that is whole on each shard.", 1, 1, distribute_run},
    {"place_table", "table text, shard text", "Puts an empty table on a shard of its own choice.", 2, 2,
     distribute_run},
    {"undistribute_table", "table_name text",
     "Makes it an ordinary table of the home shard again; other shards must have no rows of it.", 1, 1,
     distribute_run},
    {"create_distributed_table",
     "table_name text, distribution_column text [, distribution_type text, colocate_with text, shard_count text]",
     "Citus's name for distribute_table.", 2, 5, run_citus_distribute},
    {"shard_of", "table text, key text [, ...]", "The shard that has the rows with this key.", 2,
     1 + TABLE_KEYS_MAX, run_shard_of},
    {"bucket_of", "table text, key text [, ...]", "The bucket that rows with this key are in.", 2,
     1 + TABLE_KEYS_MAX, run_bucket_of},
    {"table_size", "table_name text", "Bytes of a table on all shards, without its indexes.", 1, 1, sizes_run},
    {"total_size", "table_name text", "Bytes of a table on all shards, with its indexes.", 1, 1, sizes_run},
    {"row_count", "table_name text", "Rows of a table on all shards, counted.", 1, 1, sizes_run},
    {"row_estimate", "table_name text", "Rows of a table on all shards, as of their last ANALYZE.", 1, 1, sizes_run},
    {"database_size", "", "Bytes of the database on all shards.", 0, 0, sizes_run},
    {"version", "", "Shoal's version.", 0, 0, run_version},
};

const Function *functions_table(size_t *ret_count)
{
    *ret_count = ARRAY_LEN(FUNCTIONS);
    return FUNCTIONS;
}

const Function *function_find(const Call *call, Error *err)
{
    const Function *function = NULL;
    for (size_t i = 0; !function && i < ARRAY_LEN(FUNCTIONS); i++) {
        if (slice_is(call->function, FUNCTIONS[i].name))
            function = &FUNCTIONS[i];
    }
    if (!function) {
        error_set(err, "42883", "function shoal.%.*s() does not exist",
                  (int)MIN(call->function.len, 63), (const char *)call->function.data);
        error_hint(err, "SHOW FUNCTIONS on the console lists what there is.");
        return NULL;
    }
    if (call->arg_count < function->args_min || call->arg_count > function->args_max) {
        error_set(err, "42883", "function shoal.%s() does not take %u arguments", function->name,
                  call->arg_count);
        error_hint(err, "shoal.%s(%s)", function->name, function->arguments);
        return NULL;
    }
    return function;
}

/* Which argument has this name? -1: none. `arguments` is "a text, b text [, c text]". */
static int argument_named(const char *arguments, Slice name)
{
    int at = 0;
    for (const char *word = arguments; *word; at++) {
        word += strspn(word, " ,[]");
        size_t len = strcspn(word, " ");
        if (len && slice_equal(slice_of(word, len), name))
            return at;
        word += strcspn(word, ",");
    }
    return -1;
}

/* Arguments given by name go to their places; those left out between are NULL. */
static bool arguments_order(const Function *function, Call *call, Error *err)
{
    Slice *args = arena_array(&call->arena, Slice, function->args_max + 1);
    uint32_t count = 0;
    for (uint32_t i = 0; args && i < call->arg_count; i++) {
        bool named = call->arg_names && call->arg_names[i].len;
        int at = named ? argument_named(function->arguments, call->arg_names[i]) : (int)i;
        if (at < 0 || (uint32_t)at >= function->args_max) {
            error_set(err, "42883", "function shoal.%s() has no argument \"%.*s\"", function->name,
                      SLICE_FMT(call->arg_names[i]));
            error_hint(err, "shoal.%s(%s)", function->name, function->arguments);
            return false;
        }
        args[at] = call->args[i];
        count = MAX(count, (uint32_t)at + 1);
    }
    if (!args) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    call->args = args;
    call->arg_count = count;
    return true;
}

void functions_run(Control *control, Call *call)
{
    Error err;
    const Function *function = function_find(call, &err);
    if (function && arguments_order(function, call, &err) && function->run(control, call, function, &err))
        return;
    answer_error(call, &err);
    control_answer(control, call);
}

void function_answer(Call *call, const char *name, const char *value)
{
    AnswerColumn column = {name, WIRE_OID_TEXT};
    answer_columns(call, &column, 1);
    answer_row(call, &value, 1);
    answer_done(call, "SELECT 1");
}

static bool answer_now(Control *control, Call *call, const Function *function, const char *value)
{
    function_answer(call, function->name, value);
    control_answer(control, call);
    return true;
}

/* create_distributed_table('t', 'id', 'hash', colocate_with => 'none'): what means something else here is
 * refused, a number of shards is ours to choose. */
static bool run_citus_distribute(Control *control, Call *call, const Function *function, Error *err)
{
    Slice type = call->arg_count > 2 ? call->args[2] : (Slice){0};
    (void)function;
    if (type.data && !slice_is(type, "hash")) {
        error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "distribution type \"%.*s\" is not supported",
                  (int)MIN(type.len, 20), (const char *)type.data);
        error_hint(err, "Use hash; or shoal.distribute_by_range() and shoal.distribute_by_list(), which name the "
                        "places of values.");
        return false;
    }
    call->args[2] = call->arg_count > 3 ? call->args[3] : (Slice){0};
    call->arg_count = call->arg_count > 3 ? 3 : 2;
    return distribute_run(control, call, &FUNCTIONS[0], err);
}

static bool run_version(Control *control, Call *call, const Function *function, Error *err)
{
    return answer_now(control, call, function, "Shoal " SHOAL_VERSION);
}

bool table_name_read(Slice text, Arena *arena, const char **ret_schema, const char **ret_name,
                     Error *err)
{
    Identifier parts[2];
    Slice rest = text;
    size_t count = 0;
    while (count < ARRAY_LEN(parts) && identifier_take(&rest, '.', &parts[count]))
        count++;
    if (count == 0 || rest.len > 0) {
        error_set(err, "42602", "invalid name \"%.*s\"", (int)MIN(text.len, 130),
                  (const char *)text.data);
        error_hint(err, "Write a table as name, schema.name or \"Name\".");
        return false;
    }
    *ret_schema = count == 2 ? arena_text(arena, identifier_slice(&parts[0])) : "public";
    *ret_name = arena_text(arena, identifier_slice(&parts[count - 1]));
    if (*ret_schema && *ret_name)
        return true;
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

/* The table, and the values of its key, one text for each column. */
static bool key_values(const Topology *topology, uint32_t database, Slice table_name, const Slice *keys,
                       uint32_t key_count, Arena *arena, const Table **ret_table,
                       Slice ret_values[static TABLE_KEYS_MAX], Error *err)
{
    const char *schema, *name;
    if (!table_name_read(table_name, arena, &schema, &name, err))
        return false;
    const Table *table = topology_table(topology, database, slice_str(schema), slice_str(name));
    if (!table) {
        error_set(err, SQLSTATE_UNDEFINED_TABLE, "table \"%s.%s\" is not distributed", schema,
                  name);
        return false;
    }
    if (table->key_count == 0) {
        error_set(err, SQLSTATE_INVALID_PARAMETER, "table \"%s.%s\" has no key: it is a %s table", schema,
                  name, table_kind_name(table->kind));
        return false;
    }
    if (!table_is_ready(table)) {
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "the key of table \"%s.%s\" is not known yet",
                  schema, name);
        error_hint(err, "The catalog of the home shard has not been read, or has no such column.");
        return false;
    }
    if (key_count != table->key_count) {
        error_set(err, SQLSTATE_INVALID_PARAMETER, "the key of table \"%s.%s\" is (%.*s)", schema, name,
                  SLICE_FMT(table->key));
        error_hint(err, "Give one value for each of its columns.");
        return false;
    }
    for (uint32_t i = 0; i < key_count; i++) {
        const TableKey *key = &table->keys[i];
        if (value_canonical(key->oid, FORMAT_TEXT, keys[i], arena, &ret_values[i]) == VALUE_OK)
            continue;
        error_set(err, SQLSTATE_INVALID_PARAMETER, "invalid key for column \"%.*s\" (%s)",
                  SLICE_FMT(key->column), key_type_name(key->type));
        return false;
    }
    *ret_table = table;
    return true;
}

bool key_bucket(const Topology *topology, uint32_t database, Slice table_name, const Slice *keys,
                uint32_t key_count, Arena *arena, uint32_t *ret_bucket, uint32_t *ret_shard, Error *err)
{
    const Table *table;
    Slice values[TABLE_KEYS_MAX];
    if (!key_values(topology, database, table_name, keys, key_count, arena, &table, values, err))
        return false;
    *ret_bucket = table->kind == TABLE_HASH ? topology_bucket(topology->map, table, values)
                                            : shard_map_bucket(topology->map, table_row_hash(table, values));
    if (topology_place(topology, table, values, ret_shard))
        return true;
    error_set(err, "23514", "no shard may have a row with this key");
    error_hint(err, "No place was given for it when the table was distributed.");
    return false;
}

/* False with err, or *ret_null for a NULL argument: functions of NULL are NULL. */
static bool call_bucket(Control *control, Call *call, uint32_t *ret_bucket, uint32_t *ret_shard,
                        bool *ret_null, Error *err)
{
    *ret_null = false;
    for (uint32_t i = 0; i < call->arg_count; i++)
        *ret_null |= !call->args[i].data;
    if (*ret_null)
        return true;
    const DatabaseConfig *database = config_database(control->config, slice_str(call->database));
    if (!database) {
        error_set(err, SQLSTATE_INVALID_DATABASE, "database \"%s\" does not exist", call->database);
        return false;
    }
    return key_bucket(control->topology, database->index, call->args[0], call->args + 1,
                      call->arg_count - 1, &call->arena, ret_bucket, ret_shard, err);
}

static bool run_bucket_of(Control *control, Call *call, const Function *function, Error *err)
{
    uint32_t bucket, shard;
    bool null;
    if (!call_bucket(control, call, &bucket, &shard, &null, err))
        return false;
    return answer_now(control, call, function,
                      null ? NULL : arena_printf(&call->arena, "%u", bucket));
}

static bool run_shard_of(Control *control, Call *call, const Function *function, Error *err)
{
    uint32_t bucket, shard;
    bool null;
    if (!call_bucket(control, call, &bucket, &shard, &null, err))
        return false;
    if (null)
        return answer_now(control, call, function, NULL);
    return answer_now(control, call, function, control->config->shards[shard].name);
}
