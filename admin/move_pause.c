/*
 * move_pause.c - inside the fence: what everybody waits for.
 *
 *     lock     nobody else writes on the losing side, either
 *     drain    the other side has everything
 *     prove    it is the same
 *     stop     the stream ends, so that nothing comes behind the decision
 *     decide   move_fence.c
 */
#include "admin/move_steps.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/control_state.h"
#include "admin/move_sql.h"
#include "core/clock.h"

#define ASK_MS        20000
#define DRAIN_LOOK_MS 5
#define FENCE_KEYS_MAX 20000 /* more are not asked for one by one */

#define LEGS_EACH(leg, move) for (MoveLeg *leg = (move)->legs; leg < (move)->legs + (move)->leg_count; leg++)

/* ---- inside the fence ------------------------------------------------------------------------ */

/* Waits for prepared transactions and for writers that never came through here, too. The guard becomes
 * true with the commit, after the decision; a crash before it leaves nothing. */
void move_lock_begin(Move *move)
{
    MoveSide from = move_from_side(move);
    LEGS_EACH(leg, move) {
        leg->drain_lsn = 0;
        leg->drained = false;
        leg->watched = !leg->watch.on || move->backwards;
        move_ask_add(leg, SIDE_FENCE, "BEGIN");
        move_ask_add(leg, SIDE_FENCE, move_sql_lock(leg, "EXCLUSIVE"));
        if (from == SIDE_SOURCE)
            move_ask_add(leg, SIDE_FENCE, move_sql_guards(leg));
        move_ask_run(leg, SIDE_FENCE, ASK_MS);
    }
}

void move_drain_begin(Move *move)
{
    MoveSide from = move_from_side(move);
    LEGS_EACH(leg, move) {
        if (leg->drain_lsn && !leg->watched) { /* behind the mark, whose commit has flushed the log */
            move_ask_add(leg, SIDE_WATCH, watch_sql_read(leg));
            move_ask_run(leg, SIDE_WATCH, ASK_MS);
        }
        if (leg->drained)
            continue;
        if (leg->drain_lsn == 0) {
            move_ask_add(leg, from, move_sql_mark(leg));
            move_ask_add(leg, from, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8");
        } else {
            move_ask_add(leg, from, move_sql_passed(leg, move->backwards));
        }
        move_ask_run(leg, from, ASK_MS);
    }
}

bool move_drain_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    if (side == SIDE_WATCH) {
        bool ok = watch_read(leg, rows, err);
        leg->watched = !leg->watch.more;
        return ok;
    }
    if (leg->drain_lsn) {
        leg->drained = PQntuples(rows) && pg_bool(rows, 0, 0);
        return true;
    }
    if (index == 1)
        leg->drain_lsn = pg_u64(rows, 0, 0);
    return true;
}

void move_drain_end(Move *move)
{
    bool all = true;
    LEGS_EACH(leg, move)
        all &= leg->drained && leg->watched;
    if (all && move_fails_at(move, "final_catchup_done")) {
        move_fail_now(move);
    } else if (all) {
        move_next(move);
    } else if (clock_now_us() - move->fence_since_us >
               (uint64_t)move->control->config->move_fence_timeout_ms * 1000) {
        Error err;
        error_set(&err, SQLSTATE_OBJECT_IN_USE, "the target did not catch up in time");
        move_fail(move, &err);
        move_fail_now(move);
    } else {
        move_again(move, DRAIN_LOOK_MS);
    }
}

/* The watch has told what was written since the rest was proven. */
static bool proves_written(const MoveLeg *leg)
{
    return leg->watch.on && !leg->move->backwards && leg->watch.keys.count <= FENCE_KEYS_MAX;
}

/* Count and sum of each table and bucket, or of what was written since they were proven; the schema, the sequences; and that the locks are still held. */
void move_prove_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        bool written = proves_written(leg);
        for (MoveSide side = SIDE_SOURCE; side <= SIDE_TARGET; side++) {
            move_digests_reset(leg, side);
            move_ask_add(leg, side, move_sql_facts(leg));
            if (side == move_from_side(move))
                move_ask_add(leg, side, move_sql_sequences(leg));
            else
                move_ask_add(leg, side, move_sql_subscription_state(leg, move->backwards));
            for (uint32_t t = 0; t < leg->table_count; t++) {
                if (!written)
                    move_ask_add(leg, side, move_sql_digest(leg, t));
                else if (watch_count(leg, t, true) > 0)
                    move_ask_add(leg, side, watch_sql_keys(leg, t, true));
            }
            move_ask_run(leg, side, move->control->config->move_fence_timeout_ms);
        }
    }
}

/* Ids that the source has given must not be given again by the target. */
bool move_keep_sequences(MoveLeg *leg, const PGresult *rows, Error *err)
{
    Arena *arena = &leg->move->arena;
    uint32_t count = (uint32_t)PQntuples(rows);
    leg->sequence_count = 0;
    leg->sequences = arena_array(arena, const char *, count * 3 + 1);
    bool ok = leg->sequences != NULL;
    for (uint32_t i = 0; ok && i < count * 3; i++) {
        leg->sequences[i] = arena_text(arena, pg_slice(rows, (int)(i / 3), (int)(i % 3)));
        ok = leg->sequences[i] != NULL;
    }
    if (!ok) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    leg->sequence_count = count;
    return true;
}

void move_raise_sequences(MoveLeg *leg, MoveSide side)
{
    for (uint32_t i = 0; i < leg->sequence_count; i++)
        move_ask_add(leg, side, move_sql_raise_sequence(leg, leg->sequences[i * 3], leg->sequences[i * 3 + 1],
                                                        leg->sequences[i * 3 + 2]));
}

bool move_prove_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    if (index == 0)
        return move_keep_facts(leg, side, rows, err);
    if (index == 1 && side == move_from_side(leg->move))
        return move_keep_sequences(leg, rows, err);
    if (index == 1)
        return move_stream_rows(leg, side, rows, err);
    return move_digest_add(&leg->digests[side], rows, err);
}

void move_prove_end(Move *move)
{
    if (!move_facts_equal(move) || !move_digests_equal(move) || move_fails_at(move, "diff_done"))
        move_fail_now(move);
    else
        move_next(move);
}

/* The stream ends: its last change was seen by the proof. */
void move_stop_begin(Move *move)
{
    MoveSide to = move_to_side(move);
    LEGS_EACH(leg, move) {
        move_ask_add(leg, to, move_sql_disable_subscription(leg, move->backwards));
        move_ask_add(leg, to, move_sql_stop_worker(leg, move->backwards));
        move_raise_sequences(leg, to);
        if (move->backwards) /* the owner again: its guard goes before the decision, or its clients hit it */
            move_ask_add(leg, to, move_sql_drop_guards(leg));
        move_ask_run(leg, to, ASK_MS);
    }
}

void move_worker_begin(Move *move)
{
    MoveSide to = move_to_side(move);
    LEGS_EACH(leg, move) {
        leg->drained = false;
        move_ask_add(leg, to, move_sql_subscription_state(leg, move->backwards));
        move_ask_run(leg, to, ASK_MS);
    }
}

bool move_worker_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    leg->drained = PQntuples(rows) && !pg_bool(rows, 0, 1);
    return true;
}

/* What the stream back has seen so far came from the source itself: it starts behind it. And the last
 * question before the decision: are the locks still held? */
void move_decide_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        if (!move->backwards) {
            move_ask_add(leg, SIDE_TARGET, move_sql_advance(leg, true));
            move_ask_run(leg, SIDE_TARGET, ASK_MS);
        }
        move_ask_add(leg, SIDE_FENCE, "SELECT 1");
        move_ask_run(leg, SIDE_FENCE, ASK_MS);
    }
}
