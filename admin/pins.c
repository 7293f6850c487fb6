/*
 * pins.c - which value, which bucket for it, and when it is not needed any more.
 *
 * Giving a value its own bucket changes nothing for anybody: it lives where the value's rows are already, and whether a
 * worker knows of it or not, it asks the same shard. What moves then is a bucket. So all there is to be careful about is
 * here: the bucket that loses the value must not be in a move, because that move's filter has been said already.
 */
#include "admin/pins.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "admin/answer.h"
#include "admin/control_state.h"
#include "admin/functions.h"
#include "admin/places.h"
#include "core/clock.h"
#include "meta/store_pins.h"
#include "wire/value.h"

/* What MOVE TENANT names. */
typedef struct Tenant {
    uint32_t database; /* index */
    const Table *table;
    Slice value;
    const char *target;
} Tenant;

static bool out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

/* ---- what was said --------------------------------------------------------------------------------------- */

/* The only database with such a table, or the one that was named. */
static bool table_find(const Control *control, const char *text, const char *database, Arena *arena, Tenant *tenant,
                       Error *err)
{
    const char *schema, *name;
    if (!table_name_read(slice_str(text), arena, &schema, &name, err))
        return false;
    for (uint32_t d = 0; d < control->config->database_count; d++) {
        const Table *table = topology_table(control->topology, d, slice_str(schema), slice_str(name));
        if (!table || (database && strcmp(database, control->config->databases[d].name) != 0))
            continue;
        if (tenant->table) {
            error_set(err, "42P09", "several databases have a table \"%s\"", text);
            error_hint(err, "MOVE TENANT %s ... IN %s TO ...", text, control->config->databases[d].name);
            return false;
        }
        tenant->table = table;
        tenant->database = d;
    }
    if (tenant->table)
        return true;
    error_set(err, SQLSTATE_UNDEFINED_TABLE, "no database has a distributed table \"%s\"", text);
    return false;
}

static bool may_be_pinned(const Table *table, Error *err)
{
    const char *why = NULL;
    if (table->kind != TABLE_HASH)
        why = "Only tables that are spread by hash have buckets; of the others each value has its place already.";
    else if (!table_is_ready(table)) {
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "the key of table \"%.*s\" is not known yet", SLICE_FMT(table->name));
        return false;
    } else if (table->key_count > 1)
        why = "Its key has several columns.";
    else if (!pin_type(table->keys[0].oid))
        why = "Its key is no number, text, bytea or uuid.";
    if (!why)
        return true;
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "one key of table \"%.*s\" cannot be moved alone", SLICE_FMT(table->name));
    error_detail(err, "%s", why);
    if (table->kind == TABLE_HASH)
        error_hint(err, "MOVE KEY moves its whole bucket.");
    return false;
}

/* Other encodings than UTF-8 have other bytes for what was typed here. */
static bool is_certain(const Control *control, const Tenant *tenant, Error *err)
{
    bool ascii = true;
    for (size_t i = 0; i < tenant->value.len; i++)
        ascii &= !(tenant->value.data[i] & 0x80);
    KeyType type = tenant->table->keys[0].type;
    bool text = type == KEY_BPCHAR || (type == KEY_TEXT && tenant->table->keys[0].oid != WIRE_OID_BYTEA);
    if (ascii || !text || slice_is(control->topology->catalogs[tenant->database]->encoding, "UTF8"))
        return true;
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "a key that is not ASCII can be moved alone in databases in UTF8 only");
    return false;
}

static bool tenant_read(const Control *control, Arena *arena, const CommandLine *arguments, Tenant *ret, Error *err)
{
    const char *const *words = arguments->words;
    uint32_t n = arguments->count;
    bool named = n == 7 && strcmp(words[3], "in") == 0;
    uint16_t shard;
    *ret = (Tenant){.target = n ? words[n - 1] : ""};
    if ((n != 5 && !named) || strcmp(words[n - 2], "to") != 0) {
        error_set(err, SQLSTATE_SYNTAX_ERROR, "MOVE TENANT takes a table, a value of its key, and a shard");
        error_hint(err, "MOVE TENANT orders 42 TO s1; with IN database when several databases have such a table.");
        return false;
    }
    if (!place_shard_read(slice_str(ret->target), control->config, &shard, err) ||
        !table_find(control, words[1], named ? words[4] : NULL, arena, ret, err) || !may_be_pinned(ret->table, err) ||
        !place_value_read(slice_str(words[2]), ret->table->keys[0].oid, arena, &ret->value, err) ||
        !is_certain(control, ret, err))
        return false;
    const DatabaseConfig *database = &control->config->databases[ret->database];
    for (uint32_t i = 0; i < database->shard_count; i++)
        if (database->shards[i] == shard)
            return true;
    error_set(err, SQLSTATE_INVALID_PARAMETER, "database \"%s\" does not lie on shard %s", database->name, ret->target);
    return false;
}

/* ---- its bucket ------------------------------------------------------------------------------------------ */

/* One that is free, or the next one. */
static bool bucket_choose(const Control *control, uint32_t *ret, Error *err)
{
    const ShardMap *map = control->map;
    uint32_t hashed = buckets_hashed(map->bucket_count);
    for (uint32_t b = hashed; b < map->bucket_count; b++) {
        if (bucket_in_use(map, b) || moves_has_bucket(control, b))
            continue;
        *ret = b;
        return true;
    }
    *ret = map->bucket_count;
    if (map->pin_count < PINS_MAX && map->pin_count + 1 < hashed)
        return true;
    error_set(err, SQLSTATE_LIMIT_EXCEEDED, "%u keys live apart from their buckets: more cannot be kept", map->pin_count);
    error_hint(err, "SHOW PINS lists them. Move some to the shards where their buckets live.");
    return false;
}

/* What is stored is not in force: it must be. */
static void stop_the_world(const Error *err)
{
    log_error("pins", err);
    log_line(LOG_ERROR, "pins", "the map in the store cannot be put in force; shoald ends here, and does so when it starts");
    _exit(74);
}

/* The map as the store has it now. */
static void map_adopt(Control *control)
{
    Error err;
    ShardMap *map = store_load_map(control->store, control->config, &err);
    if (!map)
        stop_the_world(&err);
    shard_map_free(control->map);
    control->map = map;
    if (!control_publish(control, &err))
        stop_the_world(&err);
}

static bool pin_and_move(Control *control, const Tenant *tenant, uint32_t owner, Arena *arena, uint64_t *ret_id, Error *err)
{
    uint32_t bucket;
    if (!bucket_choose(control, &bucket, err))
        return false;
    const char *source = control->config->shards[owner].name;
    Pin pin = {.database = control->config->databases[tenant->database].name,
               .colocation = arena_text(arena, tenant->table->colocation),
               .type = pin_type(tenant->table->keys[0].oid),
               .value = tenant->value};
    const char *text = arena_printf(arena, "%u", bucket);
    if (!pin.colocation || !text)
        return out_of_memory(err);
    StoreMove row = moves_row(control, source, tenant->target, text);
    if (!store_add_pin(control->store, bucket, &pin, source, &row, err)) {
        if (store_failed(control->store))
            stop_the_world(err);
        return false;
    }
    *ret_id = row.id;
    map_adopt(control);
    if (!moves_take(control, &row, err))
        stop_the_world(err);
    return true;
}

static bool stays(const Tenant *tenant, Error *err)
{
    error_set(err, SQLSTATE_INVALID_PARAMETER, "this key lives on %s already", tenant->target);
    return false;
}

bool pins_move(Control *control, Arena *arena, const CommandLine *arguments, uint64_t *ret_id, Error *err)
{
    Tenant tenant;
    const ShardMap *map = control->map;
    if (!tenant_read(control, arena, arguments, &tenant, err) || !moves_known(control, err))
        return false;
    uint32_t bucket = topology_bucket(map, tenant.table, &tenant.value), owner = map->shard_of[bucket];
    const char *source = control->config->shards[owner].name;
    if (strcmp(source, tenant.target) == 0)
        return stays(&tenant, err);
    if (pin_of_bucket(map, bucket)) {
        BucketSet buckets;
        if (!bucket_set_init(&buckets, map->bucket_count, arena))
            return out_of_memory(err);
        bucket_set_add(&buckets, bucket);
        return moves_add(control, source, tenant.target, &buckets, ret_id, err);
    }
    if (!moves_has_bucket(control, bucket))
        return pin_and_move(control, &tenant, owner, arena, ret_id, err);
    error_set(err, SQLSTATE_OBJECT_IN_USE, "this key's bucket, %u, is in a move", bucket);
    error_hint(err, "SHOW MOVES tells which; REBALANCE FINISH ends its rollback window.");
    return false;
}

/* ---- its end --------------------------------------------------------------------------------------------- */

void pins_settle(Control *control, const Move *move)
{
    Error err;
    for (uint32_t b = buckets_hashed(control->map->bucket_count); b < control->map->bucket_count; b++) {
        const Pin *pin = pin_of_bucket(control->map, b);
        if (!pin_in_use(pin) || !bucket_set_has(&move->buckets, b) || moves_has_bucket(control, b))
            continue;
        uint32_t home = pin_home(control->map, pin);
        /* A bucket in a move has told its filter: this value is not in it. */
        if (control->map->shard_of[home] != control->map->shard_of[b] || moves_has_bucket(control, home))
            continue;
        if (!store_remove_pin(control->store, b, &err)) {
            if (store_failed(control->store))
                stop_the_world(&err);
            log_error("pins", &err); /* it stays, and is right */
            return;
        }
        map_adopt(control);
    }
}

/* ---- SHOW PINS ------------------------------------------------------------------------------------------- */

static const char *number(Arena *arena, uint64_t value)
{
    return arena_printf(arena, "%" PRIu64, value);
}

bool console_show_pins(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {{"bucket", WIRE_OID_INT8},     {"database", WIRE_OID_TEXT},
                                           {"colocation", WIRE_OID_TEXT}, {"key", WIRE_OID_TEXT},
                                           {"shard", WIRE_OID_TEXT},      {"home_bucket", WIRE_OID_INT8},
                                           {"home_shard", WIRE_OID_TEXT}};
    const ShardMap *map = control->map;
    Arena *arena = &call->arena;
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t b = buckets_hashed(map->bucket_count); b < map->bucket_count; b++) {
        const Pin *pin = pin_of_bucket(map, b);
        if (!pin_in_use(pin))
            continue;
        uint32_t home = pin_home(map, pin);
        const char *cells[] = {number(arena, b),
                               pin->database,
                               pin->colocation,
                               pin_value_text(pin, arena),
                               control->config->shards[map->shard_of[b]].name,
                               number(arena, home),
                               control->config->shards[map->shard_of[home]].name};
        answer_row(call, cells, ARRAY_LEN(cells));
    }
    answer_done(call, "SHOW");
    control_answer(control, call);
    return true;
}
