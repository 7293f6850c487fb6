/*
 * console_moves.c - moves are asked for, shown and steered.
 */
#include "admin/console_moves.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/answer.h"
#include "admin/control_state.h"
#include "admin/functions.h"
#include "admin/move_plan.h"
#include "admin/move_steps.h"
#include "admin/pins.h"
#include "core/clock.h"
#include "wire/value.h"

#define TEXT(column_name)                                                                          \
    {                                                                                              \
        column_name, WIRE_OID_TEXT                                                                 \
    }
#define INT8(column_name)                                                                          \
    {                                                                                              \
        column_name, WIRE_OID_INT8                                                                 \
    }

static const char *number(Arena *arena, uint64_t value)
{
    return arena_printf(arena, "%" PRIu64, value);
}

static bool answer_with(Control *control, Call *call, const char *tag)
{
    answer_done(call, tag);
    control_answer(control, call);
    return true;
}

static bool out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

static const ShardConfig *shard_named(const Control *control, const char *name, Error *err)
{
    for (uint32_t i = 0; i < control->config->shard_count; i++) {
        if (strcmp(control->config->shards[i].name, name) == 0)
            return &control->config->shards[i];
    }
    error_set(err, SQLSTATE_UNDEFINED_OBJECT, "there is no shard \"%s\"", name);
    error_hint(err, "SHOW SHARDS lists them.");
    return NULL;
}

/* ---- SHOW MOVES ------------------------------------------------------------------------------ */

/* What is left of it, by what it has done so far; NULL when nobody can tell. */
static const char *seconds_left(const Move *move, Arena *arena, uint64_t bytes)
{
    uint64_t spent_us = clock_now_us() - move->begun_us;
    if (!move->step || move->state != MOVE_MOVING || bytes == 0 || bytes >= move->bytes_expected)
        return NULL;
    return number(arena, spent_us / 1000000 * (move->bytes_expected - bytes) / bytes);
}

static void live_cells(const Move *move, Arena *arena, const char **cells)
{
    uint64_t rows = move->rows, bytes = move->bytes, lag = 0;
    for (uint32_t i = 0; i < move->leg_count; i++) {
        const MoveLeg *leg = &move->legs[i];
        lag = MAX(lag, leg->lag_bytes);
        if (move->rows == 0) {
            rows += leg->copy.rows;
            bytes += leg->copy.bytes;
        }
    }
    uint64_t spent_us = move->begun_us ? clock_now_us() - move->begun_us : 0;
    cells[8] = number(arena, rows);
    cells[9] = number(arena, MAX(move->rows_expected, rows));
    cells[10] = number(arena, bytes);
    cells[11] = spent_us ? number(arena, bytes * 1000000 / spent_us) : NULL;
    cells[12] = number(arena, lag);
    cells[13] = seconds_left(move, arena, bytes);
    cells[14] = move->fence_us ? number(arena, move->fence_us / 1000) : NULL;
}

bool console_show_moves(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                        Error *err)
{
    static const AnswerColumn COLUMNS[] = {
        INT8("id"),    TEXT("source"),        TEXT("target"), TEXT("buckets"),     INT8("bucket_count"),
        TEXT("state"), TEXT("step"),          INT8("attempts"), INT8("rows"),      INT8("rows_expected"),
        INT8("bytes"), INT8("bytes_per_s"),   INT8("lag_bytes"), INT8("seconds_left"), INT8("pause_ms"),
        TEXT("reason")};
    Arena *arena = &call->arena;
    StoreMove *rows;
    uint32_t count;
    if (!store_load_moves(control->store, arena, &rows, &count, err))
        return false;
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t i = count > 200 ? count - 200 : 0; i < count; i++) {
        const StoreMove *row = &rows[i];
        const Move *move = moves_find(control, row->id);
        BucketSet buckets;
        if (!bucket_set_read(slice_str(row->buckets), control->map->bucket_count, arena, &buckets, err))
            return false;
        const char *cells[ARRAY_LEN(COLUMNS)] = {number(arena, row->id), row->source, row->target, row->buckets,
                                                 number(arena, buckets.count), row->state,
                                                 *row->step ? row->step : NULL, number(arena, row->attempts)};
        if (move && move->step)
            cells[6] = move->step->name;
        if (move)
            live_cells(move, arena, cells);
        cells[15] = *row->reason ? row->reason : NULL;
        if (move && move->load.high)
            cells[15] = arena_printf(arena, "pauses: %" PRIu64 " statements run on %s", move->load.running, row->source);
        else if (move && move->load.behind)
            cells[15] = arena_printf(arena, "pauses: %s is %" PRIu64 " bytes of log behind", row->target, move->load.lag);
        else if (move && move_waits_for_lock(move))
            cells[15] = arena_printf(arena, "waits: %s", move->err.message);
        else if (move && move->letting_go && move->drain.rounds)
            cells[15] = arena_printf(arena, "waits: %u sessions have been at work on %s since the old copies were in use",
                                     move->drain.blockers, move->state == MOVE_UNDOING ? row->target : row->source);
        answer_row(call, cells, ARRAY_LEN(COLUMNS));
    }
    return answer_with(control, call, "SHOW");
}

/* ---- MOVE ------------------------------------------------------------------------------------ */

static bool answer_move(Control *control, Call *call, uint64_t id)
{
    static const AnswerColumn COLUMN = INT8("move");
    const char *cell = number(&call->arena, id);
    answer_columns(call, &COLUMN, 1);
    answer_row(call, &cell, 1);
    return answer_with(control, call, "MOVE");
}

static bool move_syntax(Error *err)
{
    error_set(err, SQLSTATE_SYNTAX_ERROR, "MOVE takes buckets, or a key, and a shard");
    error_hint(err, "MOVE \"0-15,40\" TO s1, or MOVE KEY orders 42 TO s1 (one value for each column of the key), or "
                    "MOVE TENANT orders 42 TO s1.");
    return false;
}

/* Tables that are not spread by hash have none: their values have places of their own. */
static bool has_buckets(const Control *control, uint32_t database, const char *text, Arena *arena, Error *err)
{
    const char *schema, *name;
    if (!table_name_read(slice_str(text), arena, &schema, &name, err))
        return false;
    const Table *table = topology_table(control->topology, database, slice_str(schema), slice_str(name));
    if (!table || table->kind == TABLE_HASH)
        return true;
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "table \"%s\" is not spread by hash: it has no buckets", text);
    return false;
}

/* The bucket of a key of a table, in the only database that has such a table. */
static bool key_buckets(Control *control, Call *call, const char *table, const char *const *keys, uint32_t count,
                        BucketSet *buckets, Error *err)
{
    bool found = false;
    Slice values[TABLE_KEYS_MAX];
    for (uint32_t i = 0; i < count; i++)
        values[i] = slice_str(keys[i]);
    for (uint32_t d = 0; d < control->config->database_count; d++) {
        uint32_t bucket, shard;
        if (!topology_database_sharded(control->topology, d))
            continue;
        if (!has_buckets(control, d, table, &call->arena, err) ||
            !key_bucket(control->topology, d, slice_str(table), values, count, &call->arena, &bucket, &shard, err)) {
            if (!error_is(err, SQLSTATE_UNDEFINED_TABLE))
                return false;
            continue;
        }
        bucket_set_add(buckets, bucket);
        found = true;
    }
    if (!found)
        error_set(err, SQLSTATE_UNDEFINED_TABLE, "no database has a distributed table \"%s\"", table);
    return found;
}

/* All of them must live on one shard, which is the source. */
static bool source_of(const Control *control, const BucketSet *buckets, uint32_t *ret_shard, Error *err)
{
    uint32_t source = UINT32_MAX;
    for (uint32_t b = 0; b < buckets->bucket_count; b++) {
        if (!buckets->has[b])
            continue;
        uint32_t owner = control->map->shard_of[b];
        if (source != UINT32_MAX && owner != source) {
            error_set(err, SQLSTATE_INVALID_PARAMETER, "these buckets live on several shards");
            error_detail(err, "Bucket %u lives on %s, others on %s.", b, control->config->shards[owner].name,
                         control->config->shards[source].name);
            error_hint(err, "SHOW MAP tells where they are; move those of one shard at a time.");
            return false;
        }
        source = owner;
    }
    if (source == UINT32_MAX) {
        error_set(err, SQLSTATE_INVALID_PARAMETER, "no bucket is named");
        return false;
    }
    *ret_shard = source;
    return true;
}

bool console_move(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err)
{
    const char *const *words = arguments->words;
    uint32_t n = arguments->count, source;
    BucketSet buckets;
    uint64_t id;
    if (n > 0 && strcmp(words[0], "tenant") == 0)
        return pins_move(control, &call->arena, arguments, &id, err) && answer_move(control, call, id);
    bool by_key = n >= 5 && n - 4 <= TABLE_KEYS_MAX && strcmp(words[0], "key") == 0;
    if ((n != 3 && !by_key) || strcmp(words[n - 2], "to") != 0)
        return move_syntax(err);
    const ShardConfig *target = shard_named(control, words[n - 1], err);
    if (!target)
        return false;
    if (by_key) {
        if (!bucket_set_init(&buckets, control->map->bucket_count, &call->arena))
            return out_of_memory(err);
        if (!key_buckets(control, call, words[1], words + 2, n - 4, &buckets, err))
            return false;
    } else if (!bucket_set_read(slice_str(words[0]), control->map->bucket_count, &call->arena, &buckets, err)) {
        return false;
    }
    if (!source_of(control, &buckets, &source, err))
        return false;
    const char *source_name = control->config->shards[source].name;
    if (strcmp(source_name, target->name) == 0) {
        error_set(err, SQLSTATE_INVALID_PARAMETER, "these buckets live on %s already", target->name);
        return false;
    }
    return moves_add(control, source_name, target->name, &buckets, &id, err) && answer_move(control, call, id);
}

/* ---- REBALANCE ------------------------------------------------------------------------------- */

static bool steer(Control *control, Call *call, const CommandLine *arguments, MoveWish wish, Error *err)
{
    uint64_t only = arguments->count ? strtoull(arguments->words[0], NULL, 10) : 0;
    uint32_t count = 0;
    LIST_EACH_SAFE (link, &control->moves.list) {
        Move *move = list_entry(link, Move, link);
        /* One that is being undone would be tried again. */
        bool fits = wish == MOVE_WISH_CANCEL
                        ? move->state == MOVE_PLANNED || move->state == MOVE_MOVING || move->state == MOVE_UNDOING
                        : move->state == MOVE_SWITCHED;
        if (move_is_over(move) || !fits || (arguments->count && move->id != only))
            continue;
        move_ask_for(move, wish);
        count++;
    }
    if (arguments->count && count == 0) {
        error_set(err, SQLSTATE_UNDEFINED_OBJECT, "move \"%s\" is not in a state for that", arguments->words[0]);
        error_hint(err, "SHOW MOVES. Before the switch a move can be cancelled; behind it, until its rows are "
                        "deleted, it can be rolled back or finished.");
        return false;
    }
    static const AnswerColumn COLUMN = INT8("moves");
    const char *cell = number(&call->arena, count);
    answer_columns(call, &COLUMN, 1);
    answer_row(call, &cell, 1);
    return answer_with(control, call, "REBALANCE");
}

static bool set_paused(Control *control, Call *call, bool paused)
{
    control->moves.paused = paused;
    LIST_EACH (link, &control->moves.list)
        list_entry(link, Move, link)->paused = paused;
    moves_look_later(control);
    return answer_with(control, call, "REBALANCE");
}

bool console_rebalance(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err)
{
    switch ((RebalanceVerb)command->detail) {
    case REBALANCE_PLAN:
    case REBALANCE_START:
        return move_plan_run(control, call, arguments, command->detail == REBALANCE_START, err);
    case REBALANCE_PAUSE:
    case REBALANCE_RESUME:
        return set_paused(control, call, command->detail == REBALANCE_PAUSE);
    case REBALANCE_CANCEL:
        return steer(control, call, arguments, MOVE_WISH_CANCEL, err);
    case REBALANCE_ROLLBACK:
        return steer(control, call, arguments, MOVE_WISH_RETURN, err);
    case REBALANCE_FINISH:
        return steer(control, call, arguments, MOVE_WISH_FINISH, err);
    }
    return false;
}
