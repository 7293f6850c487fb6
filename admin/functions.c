/*
 * functions.c - the table of shoal.*() functions, and those that need nothing but the topology.
 */
#include "admin/functions.h"

#include "admin/answer.h"
#include "admin/control_state.h"
#include "admin/distribute.h"
#include "meta/identifier.h"
#include "wire/value.h"

typedef bool FunctionFn(Control *control, Call *call, const Function *function, Error *err);

static FunctionFn run_version, run_bucket_of, run_shard_of;

static const Function FUNCTIONS[] = {
    {"distribute_table", "table text, key text [, colocate_with text]",
     "Spreads the rows of an empty table over the shards by the value of its key column.", 2, 3,
     distribute_run},
    {"undistribute_table", "table text",
     "Makes a distributed table, empty but on the home shard, an ordinary one again.", 1, 1,
     distribute_run},
    {"shard_of", "table text, key text [, ...]", "The shard that has the rows with this key.", 2, 1 + TABLE_KEYS_MAX,
     run_shard_of},
    {"bucket_of", "table text, key text [, ...]", "The bucket that rows with this key are in.", 2, 1 + TABLE_KEYS_MAX,
     run_bucket_of},
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
        error_hint(err, "Shoal has distribute_table, undistribute_table, shard_of, bucket_of and "
                        "version.");
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

void functions_run(Control *control, Call *call)
{
    Error err;
    const Function *function = function_find(call, &err);
    if (function && function->run(control, call, function, &err))
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
    *ret_bucket = shard_map_bucket(topology->map, table_row_hash(table, values));
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
