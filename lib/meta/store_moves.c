/*
 * store_moves.c - rows of moves and members; the transaction that is a move's point of no return.
 */
#include "meta/store_moves.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "meta/store_pins.h"
#include "meta/store_rows.h"

#define MOVE_COLUMNS 10

bool store_move_row(Store *store, const StoreMove *move, Error *err)
{
    char id[24], attempts[16], created[24], changed[24];
    snprintf(id, sizeof id, "%" PRIu64, move->id);
    snprintf(attempts, sizeof attempts, "%u", move->attempts);
    snprintf(created, sizeof created, "%" PRIu64, move->created_wall_us);
    snprintf(changed, sizeof changed, "%" PRIu64, move->changed_wall_us);
    const Slice columns[MOVE_COLUMNS] = {
        slice_str(id),          slice_str(move->source), slice_str(move->target), slice_str(move->buckets),
        slice_str(move->state), slice_str(move->step),   slice_str(attempts),     slice_str(move->reason),
        slice_str(created),     slice_str(changed)};
    return store_row_put(store, &STORE_MOVE, columns, err);
}

bool store_put_move(Store *store, const StoreMove *move, Error *err)
{
    return store_begin(store, err) &&
           store_change_end(store, store_move_row(store, move, err), &STORE_MOVE, NULL, err);
}

/* ---- loading --------------------------------------------------------------------------------- */

typedef struct MoveWalk {
    Arena *arena;
    StoreMove *moves;
    uint32_t count, room;
} MoveWalk;

static uint64_t number_of(Slice text)
{
    char copy[24];
    snprintf(copy, sizeof copy, "%.*s", (int)MIN(text.len, sizeof copy - 1), (const char *)text.data);
    return strtoull(copy, NULL, 10);
}

static bool walk_no_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while reading the store");
    return false;
}

static bool move_visit(const Slice *columns, void *ctx, Error *err)
{
    MoveWalk *walk = ctx;
    if (walk->count == walk->room) {
        uint32_t room = MAX(walk->room * 2, 16);
        StoreMove *grown = arena_array(walk->arena, StoreMove, room);
        if (!grown)
            return walk_no_memory(err);
        if (walk->count)
            memcpy(grown, walk->moves, walk->count * sizeof *grown);
        walk->moves = grown;
        walk->room = room;
    }
    const char *texts[MOVE_COLUMNS];
    for (int i = 0; i < MOVE_COLUMNS; i++) {
        texts[i] = arena_text(walk->arena, columns[i]);
        if (!texts[i])
            return walk_no_memory(err);
    }
    walk->moves[walk->count++] = (StoreMove){.id = number_of(columns[0]),
                                             .source = texts[1],
                                             .target = texts[2],
                                             .buckets = texts[3],
                                             .state = texts[4],
                                             .step = texts[5],
                                             .attempts = (uint32_t)number_of(columns[6]),
                                             .reason = texts[7],
                                             .created_wall_us = number_of(columns[8]),
                                             .changed_wall_us = number_of(columns[9])};
    return true;
}

bool store_load_moves(Store *store, Arena *arena, StoreMove **ret_moves, uint32_t *ret_count, Error *err)
{
    MoveWalk walk = {.arena = arena};
    if (!store_rows_each(store, &STORE_MOVE, move_visit, &walk, err))
        return false;
    *ret_moves = walk.moves;
    *ret_count = walk.count;
    return true;
}

bool store_forget_moves(Store *store, uint32_t keep, Error *err)
{
    char sql[256];
    /* The newest row stays in any case: its id is where counting goes on. */
    snprintf(sql, sizeof sql,
             "DELETE FROM move WHERE state IN ('done', 'cancelled', 'failed') AND id <= "
             "(SELECT max(id) FROM move) - %u", MAX(keep, 1));
    return store_begin(store, err) &&
           store_change_end(store, store_exec(store, sql, err), &STORE_MOVE, NULL, err);
}

/* ---- the decision ---------------------------------------------------------------------------- */

static bool owner_change(Store *store, uint32_t bucket, const char *from, const char *owner, Error *err)
{
    char number[16];
    if (bucket >= store->bucket_count)
        return store_pin_owner(store, bucket, from, owner, err);
    snprintf(number, sizeof number, "%u", bucket);
    Slice key[2] = {slice_str(number), slice_str(from)};
    sqlite3_stmt *stmt = store_prepare(
        store, "SELECT 1 FROM bucket WHERE bucket = CAST(?1 AS INTEGER) AND shard = ?2", key, 2, err);
    if (!stmt)
        return false;
    int rc = sqlite3_step(stmt);
    sqlite3_finalize(stmt);
    if (rc == SQLITE_DONE)
        return store_corrupt(store, err, "bucket %u does not live on %s", bucket, from);
    if (rc != SQLITE_ROW)
        return store_fail(store, err, "reading");
    Slice columns[2] = {slice_str(number), slice_str(owner)};
    return store_row_put(store, &STORE_BUCKET, columns, err);
}

static bool map_version_grow(Store *store, Error *err)
{
    uint64_t version;
    char text[24];
    if (!store_fact_number(store, "map_version", &version, err))
        return false;
    snprintf(text, sizeof text, "%" PRIu64, version + 1);
    return store_fact_put(store, "map_version", text, err);
}

bool store_switch_owner(Store *store, const StoreMove *move, const BucketSet *buckets, const char *from,
                        const char *owner, Error *err)
{
    if (!store_begin(store, err))
        return false;
    bool ok = true;
    for (uint32_t b = 0; ok && b < buckets->bucket_count; b++)
        ok = !buckets->has[b] || owner_change(store, b, from, owner, err);
    ok = ok && store_seal(store, &STORE_PIN, err) && map_version_grow(store, err) && store_move_row(store, move, err);
    return store_change_end(store, ok, &STORE_BUCKET, &STORE_MOVE, err);
}

/* ---- members --------------------------------------------------------------------------------- */

typedef struct MemberWalk {
    Arena *arena;
    const char **names;
    uint32_t count;
} MemberWalk;

static bool member_visit(const Slice *columns, void *ctx, Error *err)
{
    MemberWalk *walk = ctx;
    if (walk->count == UINT16_MAX || number_of(columns[0]) != walk->count) {
        error_set(err, SQLSTATE_DATA_CORRUPTED, "the store's list of shards has a gap at %u", walk->count);
        return false;
    }
    const char **grown = arena_array(walk->arena, const char *, walk->count + 1);
    const char *name = arena_text(walk->arena, columns[1]);
    if (!grown || !name)
        return walk_no_memory(err);
    if (walk->count)
        memcpy(grown, walk->names, walk->count * sizeof *grown);
    grown[walk->count++] = name;
    walk->names = grown;
    return true;
}

bool store_load_members(Store *store, Arena *arena, const char ***ret_names, uint32_t *ret_count, Error *err)
{
    MemberWalk walk = {.arena = arena};
    if (!store_rows_each(store, &STORE_MEMBER, member_visit, &walk, err))
        return false;
    *ret_names = walk.names;
    *ret_count = walk.count;
    return true;
}

bool store_put_members(Store *store, const char *const *names, uint32_t count, Error *err)
{
    if (!store_begin(store, err))
        return false;
    bool ok = store_exec(store, "DELETE FROM member", err);
    for (uint32_t i = 0; ok && i < count; i++) {
        char position[16];
        snprintf(position, sizeof position, "%u", i);
        Slice columns[2] = {slice_str(position), slice_str(names[i])};
        ok = store_row_put(store, &STORE_MEMBER, columns, err);
    }
    return store_change_end(store, ok, &STORE_MEMBER, NULL, err);
}

bool store_failed(const Store *store)
{
    return store->failed;
}
