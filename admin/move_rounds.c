/*
 * move_rounds.c - the proof of what was written since the copy, while it goes on being written (move_watch.h).
 *
 *     written         what was written since the last look?          few: no round is needed
 *     written_source  some of those keys, on the source; and where its log stands behind that
 *     written_pass    has the target come so far?
 *     written_target  the same keys there; and what was written meanwhile: written again
 */
#include "admin/move_steps.h"

#include "admin/control_state.h"
#include "admin/move_sql.h"

#define ASK_MS     60000
#define LOOK_MS    10
#define ROUNDS_MAX 200 /* then the rest is left to the pause, which may be too short for it */

#define LEGS_EACH(leg, move) for (MoveLeg *leg = (move)->legs; leg < (move)->legs + (move)->leg_count; leg++)

static void read_begin(MoveLeg *leg)
{
    if (!leg->watch.on)
        return;
    move_ask_add(leg, SIDE_WATCH, watch_sql_read(leg));
    move_ask_run(leg, SIDE_WATCH, ASK_MS);
}

void move_written_begin(Move *move)
{
    LEGS_EACH(leg, move)
        read_begin(leg);
}

bool move_written_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    return watch_read(leg, rows, err);
}

void move_written_end(Move *move)
{
    bool more = false, many = false;
    LEGS_EACH(leg, move) {
        more |= leg->watch.on && leg->watch.more;
        many |= leg->watch.on && leg->watch.keys.count > WATCH_FENCE_KEYS && leg->watch.round < ROUNDS_MAX;
    }
    if (more) {
        move_again(move, 0);
        return;
    }
    if (!many) {
        move_take(move, move_step_reverse());
        return;
    }
    LEGS_EACH(leg, move)
        watch_round(leg);
    move_next(move);
}

static void keys_ask(MoveLeg *leg, MoveSide side)
{
    for (uint32_t t = 0; t < leg->table_count; t++)
        if (watch_count(leg, t, false) > 0)
            move_ask_add(leg, side, watch_sql_keys(leg, t, false));
}

void move_written_source_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        if (!leg->watch.on)
            continue;
        keys_ask(leg, SIDE_SOURCE);
        move_ask_add(leg, SIDE_SOURCE, move_sql_mark(leg));
        move_ask_add(leg, SIDE_SOURCE, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8");
        move_ask_run(leg, SIDE_SOURCE, ASK_MS);
    }
}

bool move_written_source_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    uint32_t last = leg->asks[side].count - 1;
    if (index == last)
        leg->watch.lsn = pg_u64(rows, 0, 0);
    else if (index + 1 < last)
        watch_said(leg, 0, rows);
    return true;
}

void move_written_pass_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        if (!leg->watch.on || leg->watch.passed)
            continue;
        leg->drain_lsn = leg->watch.lsn;
        move_ask_add(leg, SIDE_SOURCE, move_sql_passed(leg, false));
        move_ask_run(leg, SIDE_SOURCE, ASK_MS);
        move_ask_add(leg, SIDE_TARGET, move_sql_subscription_state(leg, false));
        move_ask_run(leg, SIDE_TARGET, ASK_MS);
    }
}

bool move_written_pass_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    if (side == SIDE_TARGET)
        return move_stream_rows(leg, side, rows, err);
    leg->watch.passed = PQntuples(rows) && pg_bool(rows, 0, 0);
    return true;
}

void move_written_pass_end(Move *move)
{
    LEGS_EACH(leg, move) {
        if (leg->watch.on && !leg->watch.passed) {
            move_again(move, LOOK_MS);
            return;
        }
    }
    move_next(move);
}

void move_written_target_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        if (!leg->watch.on)
            continue;
        keys_ask(leg, SIDE_TARGET);
        move_ask_run(leg, SIDE_TARGET, ASK_MS);
        read_begin(leg);
    }
}

bool move_written_target_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    if (side == SIDE_WATCH)
        return watch_read(leg, rows, err);
    watch_said(leg, 1, rows);
    return true;
}

void move_written_target_end(Move *move)
{
    LEGS_EACH(leg, move) {
        /* Not everything was read that was written meanwhile: who was looked at may be among it. */
        if (leg->watch.on && !leg->watch.more)
            watch_settle(leg);
    }
    move_take(move, move_step_written());
}
