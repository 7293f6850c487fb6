/*
 * moves.c - who may begin, and when.
 */
#include "admin/moves.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/control_state.h"
#include "admin/pins.h"
#include "core/clock.h"
#include "meta/pin.h"

#define LOOK_MS       200
#define AGAIN_US      UINT64_C(2000000) /* before an undone move is tried again */
#define KEEP_IN_STORE 1000

static void moves_on_time(Timer *timer);

#define MOVES_EACH(control) LIST_EACH_SAFE (link, &(control)->moves.list)
#define MOVE_OF(link) list_entry(link, Move, link)

static void moves_load(Control *control)
{
    Arena arena;
    Error err;
    StoreMove *rows;
    uint32_t count;
    arena_init(&arena, 4096);
    bool ok = store_load_moves(control->store, &arena, &rows, &count, &err);
    for (uint32_t i = 0; ok && i < count; i++) {
        MoveState state;
        control->moves.next_id = MAX(control->moves.next_id, rows[i].id + 1);
        if (move_state_read(rows[i].state, &state) && state >= MOVE_DONE)
            continue;
        Move *move = move_create(control, &rows[i], &err);
        ok = move != NULL;
        if (ok)
            list_push(&control->moves.list, &move->link);
    }
    arena_finish(&arena);
    if (!ok) /* nothing begins: what is under way must not be forgotten */
        log_error("move", &err);
    control->moves.loaded = ok;
}

void moves_init(Control *control)
{
    list_init(&control->moves.list);
    control->moves.next_id = 1;
    timer_init(&control->moves.timer, &control->loop, moves_on_time, control);
    moves_load(control);
    Error err;
    if (moves_any(control) && !control_publish(control, &err))
        log_error("move", &err);
    moves_look_later(control);
}

void moves_finish(Control *control)
{
    if (!control->moves.timer.loop)
        return;
    timer_stop(&control->moves.timer);
    MOVES_EACH(control)
        move_free(MOVE_OF(link));
}

/* ---- who may begin --------------------------------------------------------------------------- */

static bool catalogs_known(const Control *control)
{
    for (uint32_t i = 0; i < control->config->database_count; i++) {
        if (topology_database_sharded(control->topology, i) && !control->catalogs[i]->loaded)
            return false;
    }
    return true;
}

static bool shares_shard(const Move *a, const Move *b)
{
    return strcmp(a->source, b->source) == 0 || strcmp(a->source, b->target) == 0 ||
           strcmp(a->target, b->source) == 0 || strcmp(a->target, b->target) == 0;
}

/* One that copies, catches up or deletes; resting in its rollback window it is no burden. */
static bool is_busy(const Move *move)
{
    return move->step && !move_is_over(move) && move->state != MOVE_SWITCHED;
}

static bool may_begin(const Control *control, const Move *move)
{
    uint32_t busy = 0;
    if (control->moves.paused || control->distribute || control->shard_joining)
        return false;
    if (move->attempts > 0 && clock_wall_us() < move->changed_wall_us + AGAIN_US)
        return false;
    LIST_EACH (link, (List *)(uintptr_t)&control->moves.list) {
        const Move *other = MOVE_OF(link);
        if (other == move || !is_busy(other))
            continue;
        busy++;
        if (shares_shard(move, other))
            return false;
    }
    return busy < control->config->move_parallel;
}

static void moves_on_time(Timer *timer)
{
    Control *control = timer->ctx;
    bool waiting = false;
    MOVES_EACH(control) {
        if (move_is_over(MOVE_OF(link)))
            move_free(MOVE_OF(link));
    }
    MOVES_EACH(control) {
        Move *move = MOVE_OF(link);
        if (move->step || control->stopping || !control->moves.loaded)
            continue;
        if (catalogs_known(control) && (move->state != MOVE_PLANNED || may_begin(control, move)))
            move_start(move);
        waiting |= !move->step;
    }
    if (waiting)
        timer_start_ms(timer, LOOK_MS);
}

void moves_look_later(Control *control)
{
    timer_start_ms(&control->moves.timer, 0);
}

void moves_look_again(Control *control)
{
    timer_start_ms(&control->moves.timer, LOOK_MS);
}

/* The move stays until the timer: whoever called may still look at it. */
void moves_on_rest(Control *control, Move *move)
{
    Error err;
    if (move_is_over(move))
        pins_settle(control, move);
    if (move_is_over(move) && move->id % 100 == 0 &&
        !store_forget_moves(control->store, KEEP_IN_STORE, &err))
        log_error("move", &err);
    moves_look_later(control);
}

/* ---- asking ---------------------------------------------------------------------------------- */

bool moves_has_bucket(const Control *control, uint32_t bucket)
{
    LIST_EACH (link, (List *)(uintptr_t)&control->moves.list) {
        const Move *move = MOVE_OF(link);
        if (!move_is_over(move) && bucket_set_has(&move->buckets, bucket))
            return true;
    }
    return false;
}

static bool buckets_free(const Control *control, const char *source, const BucketSet *buckets, Error *err)
{
    const ShardMap *map = control->map;
    for (uint32_t b = 0; b < buckets->bucket_count; b++) {
        if (!buckets->has[b])
            continue;
        const char *owner = control->config->shards[map->shard_of[b]].name;
        if (strcmp(owner, source) != 0) {
            error_set(err, SQLSTATE_INVALID_PARAMETER, "bucket %u lives on %s, not on %s", b, owner, source);
            return false;
        }
        if (moves_has_bucket(control, b)) {
            error_set(err, SQLSTATE_OBJECT_IN_USE, "bucket %u is in another move", b);
            error_hint(err, "SHOW MOVES tells which; REBALANCE FINISH ends its rollback window.");
            return false;
        }
    }
    return true;
}

/* Behind the hash's buckets there are some that serve nobody now. */
static bool buckets_used(const Control *control, const BucketSet *buckets, Error *err)
{
    for (uint32_t b = 0; b < buckets->bucket_count; b++) {
        if (!buckets->has[b] || bucket_in_use(control->map, b))
            continue;
        error_set(err, SQLSTATE_INVALID_PARAMETER, "no key is pinned to bucket %u", b);
        error_hint(err, "SHOW PINS lists those that have some.");
        return false;
    }
    return true;
}

bool moves_known(const Control *control, Error *err)
{
    if (control->moves.loaded)
        return true;
    error_set(err, SQLSTATE_OBJECT_NOT_READY, "the moves in the store could not be read");
    error_hint(err, "The log tells why.");
    return false;
}

StoreMove moves_row(const Control *control, const char *source, const char *target, const char *buckets)
{
    uint64_t now = clock_wall_us();
    return (StoreMove){.id = control->moves.next_id,
                       .source = source,
                       .target = target,
                       .buckets = buckets,
                       .state = move_state_name(MOVE_PLANNED),
                       .step = "",
                       .reason = "",
                       .created_wall_us = now,
                       .changed_wall_us = now};
}

static void move_join(Control *control, Move *move)
{
    control->moves.next_id++;
    list_push(&control->moves.list, &move->link);
    moves_look_later(control);
}

bool moves_take(Control *control, const StoreMove *row, Error *err)
{
    Move *move = move_create(control, row, err);
    if (!move)
        return false;
    move_join(control, move);
    return true;
}

bool moves_add(Control *control, const char *source, const char *target, const BucketSet *buckets,
               uint64_t *ret_id, Error *err)
{
    Arena arena;
    if (!moves_known(control, err) || !buckets_used(control, buckets, err) ||
        !buckets_free(control, source, buckets, err))
        return false;
    arena_init(&arena, 4096);
    StoreMove row = moves_row(control, source, target, bucket_set_text(buckets, &arena));
    Move *move = NULL;
    if (!row.buckets)
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    else
        move = move_create(control, &row, err);
    if (move && !store_put_move(control->store, &row, err)) {
        move_free(move);
        move = NULL;
    }
    arena_finish(&arena);
    if (!move)
        return false;
    *ret_id = move->id;
    move_join(control, move);
    return true;
}

Move *moves_find(Control *control, uint64_t id)
{
    LIST_EACH (link, &control->moves.list) {
        if (MOVE_OF(link)->id == id)
            return MOVE_OF(link);
    }
    return NULL;
}

bool moves_any(const Control *control)
{
    LIST_EACH (link, (List *)(uintptr_t)&control->moves.list) {
        const Move *move = MOVE_OF(link);
        if (!move_is_over(move) && (move->state != MOVE_PLANNED || move->step))
            return true;
    }
    return false;
}

/* Rows of its buckets may lie on both shards. */
static bool has_copies(const Move *move)
{
    return !move_is_over(move) && (move->state != MOVE_PLANNED || move->announced);
}

/* Until it is decided, the move relies on its tables. Between two attempts to return they may change. */
static bool is_copying(const Move *move)
{
    return move->state == MOVE_RETURNING || (move->state == MOVE_MOVING && move->announced);
}

static void foreign_add(const Move *move, const Topology *topology, BucketSet *foreign)
{
    const ShardMap *map = topology->map;
    for (uint32_t s = 0; s < topology->config->shard_count; s++) {
        const char *name = topology->config->shards[s].name;
        if (strcmp(name, move->source) != 0 && strcmp(name, move->target) != 0)
            continue;
        for (uint32_t b = 0; b < map->bucket_count; b++)
            if (bucket_set_has(&move->buckets, b) && map->shard_of[b] != s)
                bucket_set_add(&foreign[s], b);
    }
}

bool moves_foreign(const Control *control, Topology *topology)
{
    BucketSet *foreign = NULL;
    topology->copies_gone = control->moves.copies_gone;
    LIST_EACH (link, (List *)(uintptr_t)&control->moves.list) {
        const Move *move = MOVE_OF(link);
        topology->copying |= is_copying(move);
        if (!has_copies(move))
            continue;
        if (!foreign) {
            foreign = arena_array(&topology->arena, BucketSet, topology->config->shard_count);
            for (uint32_t s = 0; foreign && s < topology->config->shard_count; s++)
                if (!bucket_set_init(&foreign[s], topology->map->bucket_count, &topology->arena))
                    return false;
        }
        if (!foreign)
            return false;
        foreign_add(move, topology, foreign);
    }
    topology->foreign = foreign;
    return true;
}

static void fence_add(const Move *move, Topology *topology, uint8_t *fenced, uint64_t *since, uint64_t *gain)
{
    const char *loser = move->backwards ? move->target : move->source;
    const char *gainer = move->backwards ? move->source : move->target;
    for (uint32_t b = 0; b < topology->map->bucket_count; b++)
        fenced[b] |= bucket_set_has(&move->buckets, b);
    for (uint32_t s = 0; s < topology->config->shard_count; s++) {
        const char *name = topology->config->shards[s].name;
        if (strcmp(name, loser) == 0)
            since[s] = move->fence_version;
        if (strcmp(name, gainer) == 0)
            gain[s] = move->fence_version;
    }
    topology->gain_every |= !move->usual_isolation;
}

bool moves_fence(const Control *control, Topology *topology)
{
    Arena *arena = &topology->arena;
    uint32_t shards = topology->config->shard_count;
    uint8_t *fenced = NULL;
    uint64_t *since = NULL, *gain = NULL;
    LIST_EACH (link, (List *)(uintptr_t)&control->moves.list) {
        const Move *move = MOVE_OF(link);
        if (!move->fenced)
            continue;
        if (!fenced) {
            fenced = arena_zalloc(arena, topology->map->bucket_count);
            since = arena_array(arena, uint64_t, shards);
            gain = arena_array(arena, uint64_t, shards);
        }
        if (!fenced || !since || !gain)
            return false;
        fence_add(move, topology, fenced, since, gain);
    }
    topology->fenced = fenced;
    topology->fence_since = since;
    topology->gain_since = gain;
    return true;
}
