/*
 * move_clean.c - undoing and finishing are the same work on the other shard.
 *
 *     1  subscriptions, on both: nothing is applied any more
 *     2  slots and publications, on both: nothing is retained or sent any more. Before any row is
 *        deleted, or the deletion would travel to the rows' new home (H74)
 *     3  nobody who was planned before the switch is at work there any more: whoever has slipped past the fence, for
 *        whatever reason, shall find the rows. Not a second fence: nobody is held back, it is waited for as long as it takes
 *     4  rows, in batches, on the shard that the store does not name as their owner
 *     5  nobody has a snapshot that shows them: until then they are passed over (router/foreign.h)
 *     6  guards; then a last look at everything with the move's name
 */
#include "admin/move_clean.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/control_state.h"
#include "admin/move_sql.h"

#define ASK_MS       20000
#define LOOK_MS      100
#define DELETE_ROWS  5000
#define DELETE_PAGES 128
#define DELETE_PAUSE_MS 1

#define LEGS_EACH(leg, move) for (MoveLeg *leg = (move)->legs; leg < (move)->legs + (move)->leg_count; leg++)

static void subscriptions_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        for (MoveSide side = SIDE_SOURCE; side <= SIDE_TARGET; side++) {
            move_ask_add(leg, side, move_sql_drop_subscriptions(leg));
            move_ask_run(leg, side, ASK_MS);
        }
    }
}

static void slots_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        leg->objects_left = false;
        leg->page = leg->pages = 0;
        for (MoveSide side = SIDE_SOURCE; side <= SIDE_TARGET; side++) {
            move_ask_add(leg, side, move_sql_drop_slots(leg));
            move_ask_add(leg, side, move_sql_stop_slots(leg));
            move_ask_add(leg, side, move_sql_drop_publications(leg));
            move_ask_run(leg, side, ASK_MS);
        }
    }
}

/* A slot whose walsender was only now told to end is dropped by the next look. */
static bool slots_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    if (index == 1 && PQntuples(rows) > 0)
        leg->objects_left = true;
    return true;
}

static void slots_end(Move *move)
{
    LEGS_EACH(leg, move) {
        if (leg->objects_left) {
            move_again(move, LOOK_MS);
            return;
        }
    }
    if (move_fails_at(move, "slot_dropped"))
        move_fail_now(move);
    else
        move_next(move);
}

/* ---- those of before ---------------------------------------------------------------------------- */

static void let_go_begin(Move *move)
{
    if (!move->letting_go) {
        drain_start(&move->drain, move->control, move_side_shard(move, true));
        move->drain.version = move->switch_version;
        move->drain.done = move->switch_version == 0; /* whoever was planned before it has gone with that process */
        move->letting_go = true;
    }
    if (!move->drain.done)
        drain_look(&move->drain);
}

/* Rows that are deleted show in older snapshots: they are passed over until the last of those has gone. What begins
 * behind this topology does not see them, a replica only when it has replayed their deletion. */
static void seen_begin(Move *move)
{
    Error err;
    bool kept_by_source = move->state == MOVE_UNDOING && !move->backwards;
    if (!move->letting_go) {
        move->control->moves.copies_gone++;
        if (!control_publish(move->control, &err)) {
            move_fail(move, &err);
            return;
        }
        drain_start(&move->drain, move->control, FENCE_NO_SHARD);
        move->drain.gainer = move_side_shard(move, !kept_by_source);
        move->drain.gain_every = !move->usual_isolation;
        move->letting_go = true;
    }
    drain_look(&move->drain);
}

static void let_go_end(Move *move)
{
    if (move->drain.done) {
        drain_stop(&move->drain);
        move->letting_go = false;
        move_next(move);
    } else {
        move_again(move, LOOK_MS);
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* The one thing that must never happen: rows deleted where they are at home. */
static bool loser_owns_none(Move *move, const char *loser)
{
    const Control *control = move->control;
    for (uint32_t b = 0; b < move->buckets.bucket_count; b++) {
        uint32_t owner = control->map->shard_of[b];
        if (!move->buckets.has[b] || strcmp(control->config->shards[owner].name, loser) != 0)
            continue;
        Error err;
        error_set(&err, SQLSTATE_DATA_CORRUPTED, "bucket %u lives on %s: its rows are not deleted there", b, loser);
        move_fail(move, &err);
        return false;
    }
    return true;
}

/* Page by page, so that each is read once, and not all that is dead already for each batch; then a look at whole
 * tables, which finds nothing as a rule. Nobody writes rows of these buckets there any more. */
static void rows_ask(MoveLeg *leg, MoveSide side)
{
    bool sweeping = leg->page < leg->pages;
    leg->swept = sweeping;
    leg->rows_left = leg->table_count > 0 && (leg->pages == 0 || sweeping);
    move_ask_add(leg, side, "SELECT set_config('session_replication_role', 'replica', false)");
    if (leg->pages == 0 && leg->table_count > 0)
        move_ask_add(leg, side, move_sql_pages(leg));
    for (uint32_t t = 0; leg->pages > 0 && t < leg->table_count; t++) {
        if (sweeping)
            move_ask_add(leg, side, move_sql_delete_pages(leg, t, leg->page, leg->page + DELETE_PAGES));
        else
            move_ask_add(leg, side, move_sql_delete(leg, t, DELETE_ROWS));
    }
    move_ask_run(leg, side, 0);
}

static void rows_begin(Move *move, MoveSide side)
{
    if (!loser_owns_none(move, side == SIDE_TARGET ? move->target : move->source) ||
        (side == SIDE_SOURCE && move_fails_at(move, move->deleted ? "source_delete_mid" : "source_delete_start")))
        return;
    LEGS_EACH(leg, move)
        rows_ask(leg, side);
}

static void target_rows_begin(Move *move)
{
    rows_begin(move, SIDE_TARGET);
}

static void source_rows_begin(Move *move)
{
    rows_begin(move, SIDE_SOURCE);
}

static bool rows_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    if (index == 0)
        return true;
    if (PQnfields(rows) == 1) {
        leg->pages = MAX(pg_u64(rows, 0, 0), 1);
        return true;
    }
    uint64_t count = strtoull(PQcmdTuples((PGresult *)(uintptr_t)rows), NULL, 10);
    leg->move->deleted += count;
    leg->rows_left |= count > 0;
    return true;
}

static void rows_end(Move *move)
{
    bool left = false;
    LEGS_EACH(leg, move) {
        left |= leg->rows_left;
        leg->page += leg->swept ? DELETE_PAGES : 0;
    }
    if (left)
        move_again(move, DELETE_PAUSE_MS);
    else
        move_next(move);
}

/* ---- guards, and the last look --------------------------------------------------------------- */

static void guards_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        for (MoveSide side = SIDE_SOURCE; side <= SIDE_TARGET; side++) {
            move_ask_add(leg, side, "SELECT set_config('session_replication_role', 'origin', false)");
            for (uint32_t t = 0; t < leg->table_count; t++) /* one lock at a time: whoever holds one waits for none */
                move_ask_add(leg, side, move_sql_drop_guard(leg, t, move_lock_ms(move)));
            move_ask_add(leg, side, move_sql_drop_guards(leg));
            move_ask_add(leg, side, move_sql_leftovers(leg));
            move_ask_run(leg, side, ASK_MS);
        }
    }
}

static bool guards_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    if (index != leg->table_count + 2 || PQntuples(rows) == 0)
        return true;
    error_set(err, SQLSTATE_OBJECT_IN_USE, "%s is still there", PQgetvalue(rows, 0, 0));
    return false;
}

static void finish_end(Move *move)
{
    if (move_fails_at(move, "done"))
        move_fail_now(move);
    else
        move_rest(move, MOVE_DONE);
}

static void undo_end(Move *move)
{
    bool asked = move->wish == MOVE_WISH_CANCEL || move->wish == MOVE_WISH_RETURN;
    move_rest(move, asked ? MOVE_CANCELLED : move_gives_up(move) ? MOVE_FAILED : MOVE_PLANNED);
}

static const MoveStep WITHDRAW[] = {
    {"withdraw", MOVE_UNDOING, subscriptions_begin, NULL, move_next, false},
    {"withdraw_slots", MOVE_UNDOING, slots_begin, slots_rows, slots_end, false},
    {"withdraw_guards", MOVE_UNDOING, guards_begin, guards_rows, undo_end, false},
};

static const MoveStep UNDO[] = {
    {"undo", MOVE_UNDOING, subscriptions_begin, NULL, move_next, false},
    {"undo_slots", MOVE_UNDOING, slots_begin, slots_rows, slots_end, false},
    {"undo_wait", MOVE_UNDOING, let_go_begin, NULL, let_go_end, true},
    {"undo_rows", MOVE_UNDOING, target_rows_begin, rows_rows, rows_end, false},
    {"undo_seen", MOVE_UNDOING, seen_begin, NULL, let_go_end, true},
    {"undo_guards", MOVE_UNDOING, guards_begin, guards_rows, undo_end, false},
};

static const MoveStep FINISH[] = {
    {"finish", MOVE_FINISHING, subscriptions_begin, NULL, move_next, false},
    {"finish_slots", MOVE_FINISHING, slots_begin, slots_rows, slots_end, false},
    {"finish_wait", MOVE_FINISHING, let_go_begin, NULL, let_go_end, true},
    {"finish_rows", MOVE_FINISHING, source_rows_begin, rows_rows, rows_end, false},
    {"finish_seen", MOVE_FINISHING, seen_begin, NULL, let_go_end, true},
    {"finish_guards", MOVE_FINISHING, guards_begin, guards_rows, finish_end, false},
};

const MoveStep *move_step_withdraw(void)
{
    return &WITHDRAW[0];
}

const MoveStep *move_step_undo(void)
{
    return &UNDO[0];
}

const MoveStep *move_step_finish(void)
{
    return &FINISH[0];
}
