/*
 * move_steps.c - the steps towards the switch, and behind it; each with its reason.
 *
 *     source                                     target
 *     publication (row filter), then slot
 *     snapshot of the slot ───── copy ─────────> rows
 *     stream ─────────────────────────────────>  apply worker          catch up
 *                                                publication and slot for the way back
 *     === fence: routers hold statements back; tables are locked; guards ===
 *     mark, insert position ──── passed? ─────>  yes
 *     digest ─────────────────── equal? ──────>  digest
 *     the store says: target                     (no way back but by the stream back)
 *     <──────────────────────────────── stream back, until the rows are deleted here
 *
 * What undoes and what cleans is in move_clean.c; the fence and the decision are in move_fence.c.
 */
#include "admin/move_steps.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/control_state.h"
#include "admin/move_clean.h"
#include "admin/move_sql.h"
#include "core/clock.h"
#include "core/failpoint.h"

#define ASK_MS        20000
#define LOOK_MS       200   /* between two looks at a stream that catches up */
#define DRAIN_LOOK_MS 10
#define ANNOUNCE_US   UINT64_C(2000000)
#define CAUGHT_UP     (256 * 1024) /* bytes of log that the fence may have to wait for */

#define LEGS_EACH(leg, move) for (MoveLeg *leg = (move)->legs; leg < (move)->legs + (move)->leg_count; leg++)

/* ---- subscription, catching up --------------------------------------------------------------- */

static void subscribe_begin(Move *move)
{
    if (move_fails_at(move, "catchup_start"))
        return;
    LEGS_EACH(leg, move) {
        PgLogin source;
        if (!move_login(leg, SIDE_SOURCE, &source)) {
            move_no_memory(move);
            return;
        }
        move_ask_add(leg, SIDE_TARGET, move_sql_create_subscription(leg, false, &source));
        move_ask_run(leg, SIDE_TARGET, ASK_MS);
    }
}

static void catch_up_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        leg->caught_up = false;
        move_ask_add(leg, SIDE_SOURCE, move_sql_lag(leg, false));
        move_ask_run(leg, SIDE_SOURCE, ASK_MS);
        move_ask_add(leg, SIDE_TARGET, move_sql_subscription_state(leg, false));
        move_ask_run(leg, SIDE_TARGET, ASK_MS);
    }
}

bool move_stream_rows(MoveLeg *leg, MoveSide side, const PGresult *rows, Error *err)
{
    if (side == move_to_side(leg->move)) {
        if (PQntuples(rows) && pg_bool(rows, 0, 0))
            return true;
        error_set(err, "23505", "the target could not apply a change, and its subscription has stopped");
        error_detail(err, "Its server log tells which; often a row that was there already.");
        return false;
    }
    if (PQntuples(rows) == 0 || strcmp(PQgetvalue(rows, 0, 2), "lost") == 0) {
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "the replication slot is gone");
        error_hint(err, "max_slot_wal_keep_size of the source is smaller than what a move may lag behind.");
        return false;
    }
    leg->lag_bytes = pg_u64(rows, 0, 0);
    leg->caught_up = pg_bool(rows, 0, 1) && leg->lag_bytes <= CAUGHT_UP;
    return true;
}

static bool catch_up_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    return move_stream_rows(leg, side, rows, err);
}

static void catch_up_end(Move *move)
{
    bool all = true;
    uint64_t lag = 0;
    LEGS_EACH(leg, move) {
        all &= leg->caught_up;
        lag = MAX(lag, leg->lag_bytes);
    }
    move_lag_look(move, lag);
    if (lag > move->control->config->move_lag_undo) {
        Error err;
        error_set(&err, SQLSTATE_OBJECT_NOT_READY, "the target falls behind: the source keeps more than move_lag_undo");
        error_hint(&err, "Move when less is written, fewer buckets at a time, or raise move_lag_undo.");
        move_fail(move, &err);
        move_fail_now(move);
    } else if (move_fails_at(move, "catchup_mid")) {
        move_fail_now(move);
    } else if (move->wish == MOVE_WISH_CANCEL) {
        Error err;
        error_set(&err, SQLSTATE_QUERY_CANCELED, "cancelled by an operator");
        move_fail(move, &err);
        move_fail_now(move);
    } else if (!all || move->paused || move_load_holds(move)) {
        move_again(move, LOOK_MS);
    } else {
        move_next(move);
    }
}

/* ---- the way back, made before the fence: a slot waits for running transactions ----------------- */

static void reverse_begin(Move *move)
{
    if (move->reverse_made) /* the fence is tried again */
        return;
    LEGS_EACH(leg, move) {
        move_publish_on(leg, SIDE_TARGET, true);
        move_ask_add(leg, SIDE_TARGET, move_sql_create_slot(leg, true));
        move_ask_run(leg, SIDE_TARGET, move->control->config->move_slot_timeout_ms);
        move_ask_add(leg, SIDE_SOURCE, "CREATE SCHEMA IF NOT EXISTS shoal");
        move_ask_add(leg, SIDE_SOURCE, move_sql_guard_function(leg, move->target));
        move_ask_run(leg, SIDE_SOURCE, ASK_MS);
    }
}

static void reverse_end(Move *move)
{
    move->reverse_made = true;
    move_next(move);
}

/* Connections are opened before anybody waits for them. */
static void open_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        static const MoveSide SIDES[] = {SIDE_SOURCE, SIDE_TARGET, SIDE_FENCE};
        for (size_t i = 0; i < ARRAY_LEN(SIDES); i++) {
            move_ask_add(leg, SIDES[i], "SELECT 1");
            move_ask_run(leg, SIDES[i], ASK_MS);
        }
    }
}

/* ---- behind the switch ----------------------------------------------------------------------- */

/* The transaction that holds the locks commits its guards. After a restart there is none: they are made. */
static void guard_commit_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        if (leg->asks[SIDE_FENCE].client.state != PG_CLIENT_IDLE)
            continue;
        move_ask_add(leg, SIDE_FENCE, "COMMIT");
        move_ask_run(leg, SIDE_FENCE, ASK_MS);
    }
}

static void guard_commit_end(Move *move)
{
    LEGS_EACH(leg, move) {
        pg_client_close(&leg->asks[SIDE_FENCE].client);
        pg_client_close(&leg->asks[SIDE_WATCH].client);
        watch_end(leg);
    }
    move_next(move);
}

static void guard_look_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        move_ask_add(leg, SIDE_SOURCE, move_sql_guard_count(leg));
        move_ask_run(leg, SIDE_SOURCE, ASK_MS);
    }
}

static bool guard_look_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    leg->guarded = pg_u64(rows, 0, 0) == 2 * leg->table_count;
    return true;
}

static void guard_make_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        if (leg->guarded)
            continue;
        move_ask_add(leg, SIDE_SOURCE, "CREATE SCHEMA IF NOT EXISTS shoal");
        move_ask_add(leg, SIDE_SOURCE, move_sql_guard_function(leg, move->target));
        for (uint32_t t = 0; t < leg->table_count; t++)
            move_ask_add(leg, SIDE_SOURCE, move_sql_guard(leg, t, move_lock_ms(move)));
        move_ask_run(leg, SIDE_SOURCE, ASK_MS);
    }
}

static void forget_forward_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        move_ask_add(leg, SIDE_TARGET, move_sql_drop_subscription(leg, false));
        move_ask_run(leg, SIDE_TARGET, ASK_MS);
    }
}

static void forget_slot_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        move_ask_add(leg, SIDE_SOURCE, move_sql_drop_stream(leg, false));
        move_ask_run(leg, SIDE_SOURCE, ASK_MS);
    }
}

/* From here on the source follows the target, and could become the owner again. */
static void follow_begin(Move *move)
{
    if (move->control->config->move_rollback_window_ms == 0)
        return;
    LEGS_EACH(leg, move) {
        PgLogin target;
        if (!move_login(leg, SIDE_TARGET, &target)) {
            move_no_memory(move);
            return;
        }
        move_ask_add(leg, SIDE_SOURCE, move_sql_ensure_subscription(leg, true, &target));
        move_ask_run(leg, SIDE_SOURCE, ASK_MS);
    }
}

static void follow_end(Move *move)
{
    move->switched_at_us = clock_now_us();
    move_next(move);
}

static void rest_begin(Move *move) {}

static void rest_end(Move *move)
{
    uint64_t window_us = (uint64_t)move->control->config->move_rollback_window_ms * 1000;
    uint64_t now_us = clock_now_us(), rested_us = now_us - move->switched_at_us;
    if (move->wish == MOVE_WISH_RETURN && window_us > 0) {
        move->backwards = true;
        move_take(move, move_step_return());
    } else if (move->wish == MOVE_WISH_FINISH || rested_us >= window_us) {
        move_take(move, move_step_finish());
    } else {
        move_again(move, MAX((window_us - rested_us) / 1000, 1));
    }
}

/* ---- the tables ------------------------------------------------------------------------------ */

static const MoveStep FORWARD[] = {
    {"announce", MOVE_MOVING, move_announce_begin, NULL, move_announce_end, false},
    {"preflight", MOVE_MOVING, move_preflight_begin, move_preflight_rows, move_preflight_end, false},
    {"publish", MOVE_MOVING, move_publish_begin, NULL, move_next, false},
    {"watch", MOVE_MOVING, move_watch_begin, NULL, move_next, false},
    {"slot", MOVE_MOVING, move_slot_begin, move_slot_rows, move_slot_end, false},
    {"hold", MOVE_MOVING, move_hold_begin, NULL, move_next, false},
    {"copy", MOVE_MOVING, move_copy_begin, move_copy_rows, move_copy_end, false},
    {"verify", MOVE_MOVING, move_verify_begin, move_verify_rows, move_verify_end, false},
    {"analyze", MOVE_MOVING, move_analyze_begin, NULL, move_analyze_end, false},
    {"subscribe", MOVE_MOVING, subscribe_begin, NULL, move_next, false},
    {"catch_up", MOVE_MOVING, catch_up_begin, catch_up_rows, catch_up_end, false},
    {"written", MOVE_MOVING, move_written_begin, move_written_rows, move_written_end, true},
    {"written_source", MOVE_MOVING, move_written_source_begin, move_written_source_rows, move_next, true},
    {"written_pass", MOVE_MOVING, move_written_pass_begin, move_written_pass_rows, move_written_pass_end, true},
    {"written_target", MOVE_MOVING, move_written_target_begin, move_written_target_rows, move_written_target_end, true},
    {"reverse", MOVE_MOVING, reverse_begin, NULL, reverse_end, true},
    {"open", MOVE_MOVING, open_begin, NULL, move_next, true},
    {"fence", MOVE_MOVING, move_fence_begin, NULL, move_fence_end, true},
    {"lock", MOVE_MOVING, move_lock_begin, NULL, move_next, true},
    {"drain", MOVE_MOVING, move_drain_begin, move_drain_rows, move_drain_end, true},
    {"prove", MOVE_MOVING, move_prove_begin, move_prove_rows, move_prove_end, true},
    {"stop", MOVE_MOVING, move_stop_begin, NULL, move_next, true},
    {"stopped", MOVE_MOVING, move_worker_begin, move_worker_rows, move_drain_end, true},
    {"decide", MOVE_MOVING, move_decide_begin, NULL, move_decide_end, true},
};

static const MoveStep SWITCHED[] = {
    {"guard", MOVE_SWITCHED, guard_commit_begin, NULL, guard_commit_end, false},
    {"guard_look", MOVE_SWITCHED, guard_look_begin, guard_look_rows, move_next, false},
    {"guard_make", MOVE_SWITCHED, guard_make_begin, NULL, move_next, false},
    {"forget", MOVE_SWITCHED, forget_forward_begin, NULL, move_next, false},
    {"forget_slot", MOVE_SWITCHED, forget_slot_begin, NULL, move_next, false},
    {"follow", MOVE_SWITCHED, follow_begin, NULL, follow_end, false},
    {"rest", MOVE_SWITCHED, rest_begin, NULL, rest_end, false},
};

static const MoveStep RETURN[] = {
    {"return_fence", MOVE_RETURNING, move_fence_begin, NULL, move_fence_end, true},
    {"return_lock", MOVE_RETURNING, move_lock_begin, NULL, move_next, true},
    {"return_drain", MOVE_RETURNING, move_drain_begin, move_drain_rows, move_drain_end, true},
    {"return_prove", MOVE_RETURNING, move_prove_begin, move_prove_rows, move_prove_end, true},
    {"return_stop", MOVE_RETURNING, move_stop_begin, NULL, move_next, true},
    {"return_stopped", MOVE_RETURNING, move_worker_begin, move_worker_rows, move_drain_end, true},
    {"return_decide", MOVE_RETURNING, move_decide_begin, NULL, move_decide_end, true},
};

const MoveStep *move_step_first(void)
{
    return &FORWARD[0];
}

static const MoveStep *step_named(const MoveStep *steps, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(steps[i].name, name) == 0)
            return &steps[i];
    }
    assert(!"no such step");
    return steps;
}

const MoveStep *move_step_catch_up(void)
{
    return step_named(FORWARD, ARRAY_LEN(FORWARD), "catch_up");
}

const MoveStep *move_step_written(void)
{
    return step_named(FORWARD, ARRAY_LEN(FORWARD), "written");
}

const MoveStep *move_step_reverse(void)
{
    return step_named(FORWARD, ARRAY_LEN(FORWARD), "reverse");
}

bool move_step_copies(const char *name)
{
    return strcmp(name, "announce") != 0 && strcmp(name, "preflight") != 0 && strcmp(name, "publish") != 0 && strcmp(name, "watch") != 0 &&
           strcmp(name, "slot") != 0 && strcmp(name, "hold") != 0;
}

const MoveStep *move_step_switched(void)
{
    return &SWITCHED[0];
}

const MoveStep *move_step_rest(void)
{
    return &SWITCHED[0]; /* guard and stream are looked at again before it rests */
}

const MoveStep *move_step_return(void)
{
    return &RETURN[0];
}
