/*
 * store_pins.c - rows of the table pin.
 *
 * Their bucket numbers go on where those of the hash end, without a gap: the map is an array. So a pin that is over
 * leaves its row behind, without a database, and the next one takes it.
 */
#include "meta/store_pins.h"

#include <stdio.h>
#include <stdlib.h>

#include "meta/store_rows.h"

enum { PIN_BUCKET, PIN_DATABASE, PIN_COLOCATION, PIN_TYPE, PIN_VALUE, PIN_SHARD, PIN_COLUMNS };

/* ---- reading ------------------------------------------------------------------------------------------- */

typedef struct PinWalk {
    Store *store;
    Arena arena;
    Slice rows[PINS_MAX][PIN_COLUMNS];
    uint32_t count;
} PinWalk;

static bool pin_visit(const Slice *columns, void *ctx, Error *err)
{
    PinWalk *walk = ctx;
    char text[24];
    snprintf(text, sizeof text, "%.*s", SLICE_FMT(columns[PIN_BUCKET]));
    if (walk->count == PINS_MAX || strtoull(text, NULL, 10) != walk->store->bucket_count + walk->count)
        return store_corrupt(walk->store, err, "bucket %u of a pinned value is missing, found %s",
                             walk->store->bucket_count + walk->count, text);
    for (int i = 0; i < PIN_COLUMNS; i++) {
        char *copy = arena_text(&walk->arena, columns[i]);
        if (!copy) {
            error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while reading the store");
            return false;
        }
        walk->rows[walk->count][i] = slice_str(copy);
    }
    walk->count++;
    return true;
}

static PinWalk *walk_open(Store *store, Error *err)
{
    PinWalk *walk = calloc(1, sizeof *walk);
    if (!walk) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while reading the store");
        return NULL;
    }
    walk->store = store;
    arena_init(&walk->arena, 4096);
    if (store_rows_each(store, &STORE_PIN, pin_visit, walk, err))
        return walk;
    arena_finish(&walk->arena);
    free(walk);
    return NULL;
}

static void walk_close(PinWalk *walk)
{
    arena_finish(&walk->arena);
    free(walk);
}

static bool shard_find(const Config *config, Slice name, uint32_t bucket, uint16_t *ret, Error *err)
{
    for (uint32_t i = 0; i < config->shard_count; i++) {
        if (!slice_is(name, config->shards[i].name))
            continue;
        *ret = (uint16_t)i;
        return true;
    }
    error_set(err, SQLSTATE_CONFIG_FILE, "%.120s: shard \"%.*s\" is missing, but bucket %u (of a pinned value) lives there",
              config->path, SLICE_FMT(name), bucket);
    error_hint(err, "Put [shard %.*s] back. A shard may be taken out once its buckets were moved away.", SLICE_FMT(name));
    return false;
}

/* A free bucket lives wherever bucket 0 does: it has no rows, and its last owner may be gone. */
static bool pin_take(PinWalk *walk, uint32_t i, ShardMap *map, const Config *config, Error *err)
{
    const Slice *row = walk->rows[i];
    uint32_t bucket = walk->store->bucket_count + i;
    Pin *pin = &map->pins[i];
    pin->database = arena_text(&map->arena, row[PIN_DATABASE]);
    pin->colocation = arena_text(&map->arena, row[PIN_COLOCATION]);
    pin->type = arena_text(&map->arena, row[PIN_TYPE]);
    map->shard_of[bucket] = map->shard_of[0];
    if (!pin->database || !pin->colocation || !pin->type) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while reading the store");
        return false;
    }
    if (!place_value_of_hex(row[PIN_VALUE], &map->arena, &pin->value))
        return store_corrupt(walk->store, err, "\"%.*s\" is no pinned value", (int)MIN(row[PIN_VALUE].len, 60),
                             (const char *)row[PIN_VALUE].data);
    return !pin_in_use(pin) || shard_find(config, row[PIN_SHARD], bucket, &map->shard_of[bucket], err);
}

bool store_load_pins(Store *store, ShardMap *map, const Config *config, Error *err)
{
    PinWalk *walk = walk_open(store, err);
    if (!walk)
        return false;
    bool ok = true;
    if (walk->count >= store->bucket_count)
        ok = store_corrupt(store, err, "more values are pinned than there are buckets");
    else if (!shard_map_add_pins(map, walk->count)) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while reading the store");
        ok = false;
    }
    for (uint32_t i = 0; ok && i < walk->count; i++)
        ok = pin_take(walk, i, map, config, err);
    walk_close(walk);
    return ok;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static bool pin_put(Store *store, uint32_t bucket, const Pin *pin, const char *shard, Error *err)
{
    char number[16];
    Arena arena;
    arena_init(&arena, 512);
    char *hex = place_value_hex(pin->value, &arena);
    snprintf(number, sizeof number, "%u", bucket);
    bool ok = hex != NULL;
    if (!ok) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    } else {
        Slice columns[PIN_COLUMNS] = {slice_str(number),    slice_str(pin->database), slice_str(pin->colocation),
                                      slice_str(pin->type), slice_str(hex),           slice_str(shard)};
        ok = store_row_put(store, &STORE_PIN, columns, err);
    }
    arena_finish(&arena);
    return ok;
}

bool store_add_pin(Store *store, uint32_t bucket, const Pin *pin, const char *shard, const StoreMove *move, Error *err)
{
    if (!store_begin(store, err))
        return false;
    bool ok = pin_put(store, bucket, pin, shard, err) && store_move_row(store, move, err);
    return store_change_end(store, ok, &STORE_PIN, &STORE_MOVE, err);
}

bool store_remove_pin(Store *store, uint32_t bucket, Error *err)
{
    static const Pin NONE = {.database = "", .colocation = "", .type = ""};
    if (!store_begin(store, err))
        return false;
    return store_change_end(store, pin_put(store, bucket, &NONE, "", err), &STORE_PIN, NULL, err);
}

bool store_pin_owner(Store *store, uint32_t bucket, const char *from, const char *owner, Error *err)
{
    PinWalk *walk = walk_open(store, err);
    if (!walk)
        return false;
    uint32_t i = bucket - store->bucket_count;
    bool ok = i < walk->count && walk->rows[i][PIN_DATABASE].len && slice_is(walk->rows[i][PIN_SHARD], from);
    if (!ok)
        store_corrupt(store, err, "bucket %u does not live on %s", bucket, from);
    else
        walk->rows[i][PIN_SHARD] = slice_str(owner);
    ok = ok && store_row_put(store, &STORE_PIN, walk->rows[i], err);
    walk_close(walk);
    return ok;
}
