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
#define DRAIN_LOOK_MS 10

#define LEGS_EACH(leg, move) for (MoveLeg *leg = (move)->legs; leg < (move)->legs + (move)->leg_count; leg++)

/* ---- inside the fence ------------------------------------------------------------------------ */

/* Waits for prepared transactions and for writers that never came through here, too. Shorter than
 * deadlock_timeout, so that a client is never the one that PostgreSQL chooses. The guard becomes
 * true with the commit, after the decision; a crash before it leaves nothing. */
void move_lock_begin(Move *move)
{
    MoveSide from = move_from_side(move);
    LEGS_EACH(leg, move) {
        leg->drain_lsn = 0;
        leg->drained = false;
        move_ask_add(leg, SIDE_FENCE, "BEGIN");
        move_ask_add(leg, SIDE_FENCE, "SET LOCAL lock_timeout = '400ms'");
        move_ask_add(leg, SIDE_FENCE, move_sql_lock(leg, "EXCLUSIVE"));
        if (from == SIDE_SOURCE) {
            for (uint32_t t = 0; t < leg->table_count; t++) {
                move_ask_add(leg, SIDE_FENCE, move_sql_guard_trigger(leg, t, 0));
                move_ask_add(leg, SIDE_FENCE, move_sql_guard_trigger(leg, t, 1));
            }
        }
        move_ask_run(leg, SIDE_FENCE, ASK_MS);
    }
}

void move_drain_begin(Move *move)
{
    MoveSide from = move_from_side(move);
    LEGS_EACH(leg, move) {
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
        all &= leg->drained;
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

/* Count and sum of each table and bucket, the schema, the sequences; and that the locks are still held. */
void move_prove_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        for (MoveSide side = SIDE_SOURCE; side <= SIDE_TARGET; side++) {
            free(leg->digests[side].text);
            leg->digests[side].text = calloc(1, 1);
            leg->digests[side].len = 0;
            move_ask_add(leg, side, move_sql_facts(leg));
            if (side == move_from_side(move))
                move_ask_add(leg, side, move_sql_sequences(leg));
            else
                move_ask_add(leg, side, move_sql_subscription_state(leg, move->backwards));
            for (uint32_t t = 0; t < leg->table_count; t++)
                move_ask_add(leg, side, move_sql_digest(leg, t));
            move_ask_run(leg, side, move->control->config->move_fence_timeout_ms);
        }
    }
}

/* Rows as text, one line each, behind those that are there. */
static bool digest_add(struct MoveDigest *digest, const PGresult *rows, Error *err)
{
    for (int r = 0; r < PQntuples(rows); r++) {
        char line[128];
        int n = snprintf(line, sizeof line, "%s %s %s %s\n", PQgetvalue(rows, r, 0), PQgetvalue(rows, r, 1),
                         PQgetvalue(rows, r, 2), PQgetvalue(rows, r, 3));
        char *grown = digest->text ? realloc(digest->text, digest->len + (size_t)n + 1) : NULL;
        if (!grown) {
            error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
            return false;
        }
        memcpy(grown + digest->len, line, (size_t)n + 1);
        digest->text = grown;
        digest->len += (size_t)n;
    }
    return true;
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
    return digest_add(&leg->digests[side], rows, err);
}

void move_prove_end(Move *move)
{
    bool equal = move_facts_equal(move);
    LEGS_EACH(leg, move) {
        if (equal && (!leg->digests[0].text || !leg->digests[1].text ||
                      strcmp(leg->digests[0].text, leg->digests[1].text) != 0)) {
            Error err;
            error_set(&err, SQLSTATE_DATA_CORRUPTED, "the copied rows of database %s are not equal to their "
                      "originals", leg->database);
            error_detail(&err, "source: %.200s; target: %.200s", leg->digests[0].text, leg->digests[1].text);
            move_fail(move, &err);
            equal = false;
        }
    }
    if (!equal || move_fails_at(move, "diff_done"))
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
