/*
 * move_fence.c - the short time in which nobody may use the moving buckets, and what is decided in it.
 *
 *     publish topology with fence ─> every worker has adopted it ─> what they had sent before has ended
 *        ... the steps inside the fence ...
 *     store_switch_owner ─> publish the new map, without fence ─> what waited goes to the new owner
 *
 * However it ends, the fence is let go by the next topology that is published: with the old map
 * (the steps failed) or with the new one.
 */
#include "admin/move_steps.h"

#include <inttypes.h>
#include <stdio.h>

#include "admin/control_state.h"
#include "core/clock.h"
#include "core/failpoint.h"

#define SPEED_BYTES_MIN (8 * 1024 * 1024)

#define LOOK_MS 2

static void end_with(Move *move, const Error *err)
{
    move_fail(move, err);
    move->running = true;
    move->pending = 1;
    move_step_end(move);
}

static bool fails_at(Move *move, const char *name)
{
    (void)name;
    FailAction action = FAILPOINT(name);
    if (action == FAIL_NONE)
        return false;
    Error err;
    failpoint_error(action, name, &err);
    end_with(move, &err);
    return true;
}

/* The side that loses the buckets, or the other one. */
uint32_t move_side_shard(const Move *move, bool loser)
{
    const char *name = move->backwards == loser ? move->target : move->source;
    const Config *config = move->control->config;
    for (uint32_t i = 0; i < config->shard_count; i++) {
        if (strcmp(config->shards[i].name, name) == 0)
            return i;
    }
    return FENCE_ANY_SHARD;
}

void move_fence_begin(Move *move)
{
    Error err;
    if (move->fenced)
        return; /* looking again */
    move->fenced = true;
    move->fence_told = false;
    move->fence_since_us = clock_now_us();
    move->phases[0] = '\0';
    move->fence_version = move->control->topology->published.version + 1;
    if (!control_publish(move->control, &err)) {
        move->fenced = false;
        move_fail(move, &err);
        return;
    }
    drain_start(&move->drain, move->control, move_side_shard(move, true));
    move->drain.gainer = move_side_shard(move, false);
    move->drain.gain_every = move->control->topology->gain_every;
}

void move_fence_end(Move *move)
{
    Error err;
    if (!move->fence_told) {
        move->fence_told = true;
        if (fails_at(move, "fence_source_sent"))
            return;
    }
    if (move->drain.done) {
        if (!fails_at(move, "fence_acked"))
            move_next(move);
        return;
    }
    if (clock_now_us() - move->fence_since_us > (uint64_t)move->control->config->move_fence_timeout_ms * 1000) {
        error_set(&err, SQLSTATE_OBJECT_IN_USE, "transactions that began before the fence did not end in time");
        end_with(move, &err);
        return;
    }
    drain_look(&move->drain);
    move_again(move, LOOK_MS);
}

/* The locks go with their connections, the fence goes with the next topology. */
void move_unfence(Move *move)
{
    Error err;
    for (uint32_t i = 0; i < move->leg_count; i++)
        pg_client_close(&move->legs[i].asks[SIDE_FENCE].client);
    if (!move->fenced)
        return;
    move->fenced = false;
    move->fence_us = clock_now_us() - move->fence_since_us;
    drain_stop(&move->drain);
    if (!control_publish(move->control, &err))
        log_error("move", &err); /* the next publication lets it go */
}

/* ---- the decision ---------------------------------------------------------------------------- */

/* The map as the store has it now; the new topology carries it, and no fence of ours. */
static bool adopt_map(Move *move, Error *err)
{
    Control *control = move->control;
    ShardMap *map = store_load_map(control->store, control->config, err);
    if (!map)
        return false;
    ShardMap *old = control->map;
    control->map = map;
    move->fenced = false;
    if (!control_publish(control, err)) {
        control->map = old;
        shard_map_free(map);
        return false;
    }
    move->switch_version = control->topology->published.version;
    shard_map_free(old);
    return true;
}

static bool store_decision(Move *move, Error *err)
{
    const char *from = move->backwards ? move->target : move->source;
    const char *owner = move->backwards ? move->source : move->target;
    move->state = move->backwards ? MOVE_UNDOING : MOVE_SWITCHED;
    move->changed_wall_us = clock_wall_us();
    StoreMove row = move_row(move);
    FailAction action = FAILPOINT("map_tx_begin");
    bool ok = action == FAIL_NONE;
    if (ok)
        ok = store_switch_owner(move->control->store, &row, &move->buckets, from, owner, err);
    else
        failpoint_error(action, "map_tx_begin", err);
    if (!ok)
        move->state = move->backwards ? MOVE_RETURNING : MOVE_MOVING;
    return ok;
}

/* For the next plan's forecast. A small move says nothing: its time is spent on waiting. */
static void remember_speed(const Move *move)
{
    uint64_t took_us = clock_now_us() - move->begun_us;
    if (move->bytes >= SPEED_BYTES_MIN && took_us > MOVE_FIXED_US)
        move->control->moves.bytes_per_s = move->bytes * 1000000 / (took_us - MOVE_FIXED_US);
}

/* Where its time went, for whoever waited for it. */
static void tell_times(const Move *move)
{
    char steps[400], text[560];
    uint64_t took_us = MAX(clock_now_us() - move->begun_us, 1);
    move_times_text(&move->times, steps, sizeof steps);
    snprintf(text, sizeof text, "move %" PRIu64 ": %" PRIu64 " rows, %.1f MB in %.1f s, %.1f MB/s (seconds: %s)", move->id,
             move->rows, (double)move->bytes / 1e6, (double)took_us / 1e6, (double)move->bytes / (double)took_us, steps);
    control_event(move->control, LOG_INFO, "move", text);
}

void move_decide_end(Move *move)
{
    Error err;
    if (!store_decision(move, &err)) {
        if (store_failed(move->control->store))
            move_stop_the_world(move, &err);
        end_with(move, &err);
        return;
    }
    (void)FAILPOINT("map_tx_committed");
    move_note_phase(move);
    move->wish = move->backwards ? MOVE_WISH_RETURN : MOVE_WISH_NONE;
    if (move->backwards)
        snprintf(move->reason, sizeof move->reason, "rolled back by an operator");
    else
        move->reason[0] = '\0';
    /* Decided, but not told: workers that know the old map must not be let go. */
    if (!adopt_map(move, &err))
        move_stop_the_world(move, &err);
    (void)FAILPOINT("routers_notified_one_of_two");
    move->fence_us = clock_now_us() - move->fence_since_us;
    drain_stop(&move->drain);
    (void)FAILPOINT("unfence");
    char text[500];
    snprintf(text, sizeof text, "move %" PRIu64 ": buckets %.80s live on %s now (%s); they were held back for %" PRIu64
             " ms", move->id, move->buckets_text, move->backwards ? move->source : move->target, move->phases,
             move->fence_us / 1000);
    control_event(move->control, LOG_INFO, "move", text);
    if (move->backwards) {
        move_undo(move);
    } else {
        remember_speed(move);
        tell_times(move);
        move_take(move, move_step_switched());
    }
}
