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

static MoveSide from_side(const Move *move)
{
    return move->backwards ? SIDE_TARGET : SIDE_SOURCE;
}

static MoveSide to_side(const Move *move)
{
    return move->backwards ? SIDE_SOURCE : SIDE_TARGET;
}

/* True when a failpoint says that the step fails here. */
static bool fails_at(Move *move, const char *name)
{
    (void)name;
    FailAction action = FAILPOINT(name);
    if (action == FAIL_NONE)
        return false;
    Error err;
    failpoint_error(action, name, &err);
    move_fail(move, &err);
    return true;
}

/* A failure found in `end`: nothing runs any more, so it is handled like one of a conversation. */
static void fail_now(Move *move)
{
    move->running = true;
    move->pending = 1;
    move_step_end(move);
}

/* ---- announcement ------------------------------------------------------------------------------- */

/* From now on rows may lie on two shards: statements that no key restricts to one of them are refused.
 * Those that were planned before, and have not been sent yet, are waited for; one that runs does not
 * see what is copied later. */
static void announce_begin(Move *move)
{
    Error err;
    if (move->announced)
        return;
    move->announced = true;
    if (!control_publish(move->control, &err)) {
        move_fail(move, &err);
        return;
    }
    drain_start(&move->drain, move->control, FENCE_ANY_SHARD);
    move->drain.requests_only = true;
}

static void announce_end(Move *move)
{
    bool sent = move->drain.waiting == 0 && clock_now_us() - move->step_since_us > ANNOUNCE_US;
    if (move->drain.done || sent) {
        drain_stop(&move->drain);
        move_next(move);
        return;
    }
    drain_look(&move->drain);
    move_again(move, DRAIN_LOOK_MS);
}

/* ---- preflight ------------------------------------------------------------------------------- */

static void preflight_begin(Move *move)
{
    if (fails_at(move, "plan_written"))
        return;
    move->usual_isolation = true;
    LEGS_EACH(leg, move) {
        move_ask_add(leg, SIDE_SOURCE, move_sql_facts(leg));
        move_ask_add(leg, SIDE_SOURCE, move_sql_requirements(leg));
        move_ask_add(leg, SIDE_SOURCE, move_sql_sizes(leg));
        move_ask_run(leg, SIDE_SOURCE, ASK_MS);
        move_ask_add(leg, SIDE_TARGET, move_sql_facts(leg));
        move_ask_add(leg, SIDE_TARGET, move_sql_requirements(leg));
        move_ask_add(leg, SIDE_TARGET, move_sql_leftovers(leg));
        move_ask_add(leg, SIDE_TARGET, move_sql_any_rows(leg));
        move_ask_add(leg, SIDE_TARGET, move_sql_usual_isolation(leg));
        move_ask_run(leg, SIDE_TARGET, ASK_MS);
    }
}

static bool keep_facts(MoveLeg *leg, MoveSide side, const PGresult *rows, Error *err)
{
    const char *text = PQntuples(rows) ? pg_text(rows, 0, 0) : NULL;
    free(leg->facts[side]);
    leg->facts[side] = strdup(text ? text : "");
    if (leg->facts[side])
        return true;
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

static bool preflight_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    if (index == 0)
        return keep_facts(leg, side, rows, err);
    if (index == 1 && PQntuples(rows) > 0) {
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "%s", PQgetvalue(rows, 0, 0));
        error_hint(err, "%s", PQgetvalue(rows, 0, 1));
        return false;
    }
    if (side == SIDE_SOURCE && index == 2) {
        leg->move->bytes_expected += pg_u64(rows, 0, 0);
        leg->move->rows_expected += pg_u64(rows, 0, 1);
    }
    if (side == SIDE_TARGET && index == 4)
        leg->move->usual_isolation &= pg_bool(rows, 0, 0);
    if (side == SIDE_TARGET && index == 3 && PQntuples(rows) > 0) {
        const Table *table = &leg->tables[pg_u64(rows, 0, 0)];
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "table \"%.*s.%.*s\" has rows of these buckets on the target",
                  SLICE_FMT(table->schema), SLICE_FMT(table->name));
        error_hint(err, "They are nobody's: shoalctl fsck shows them.");
        return false;
    }
    return true;
}

/* The first line that only one side has. */
static void tell_difference(const MoveLeg *leg, Error *err)
{
    const char *a = leg->facts[0], *b = leg->facts[1];
    while (*a && *a == *b) {
        a++;
        b++;
    }
    while (a > leg->facts[0] && a[-1] != '\n') {
        a--;
        b--;
    }
    error_set(err, SQLSTATE_OBJECT_NOT_READY, "the tables of database %s are not the same on both shards",
              leg->database);
    error_detail(err, "source: %.*s; target: %.*s", (int)strcspn(a, "\n"), a, (int)strcspn(b, "\n"), b);
    error_hint(err, "DDL through Shoal changes all shards; shoalctl fsck compares them.");
}

static bool facts_equal(Move *move)
{
    LEGS_EACH(leg, move) {
        if (strcmp(leg->facts[0], leg->facts[1]) == 0)
            continue;
        Error err;
        tell_difference(leg, &err);
        move_fail(move, &err);
        return false;
    }
    return true;
}

static void preflight_end(Move *move)
{
    if (fails_at(move, "target_ddl") || fails_at(move, "target_empty_check") || !facts_equal(move)) {
        move->attempts = UINT32_MAX; /* trying again would not help */
        fail_now(move);
        return;
    }
    move_next(move);
}

/* ---- publication, slot, snapshot ------------------------------------------------------------- */

/* While nobody writes: a row must not be changed between being looked at by the filter's first
 * check and the catalog's change. The lock waits a short time only, because writers wait behind it. */
static void publish_on(MoveLeg *leg, MoveSide side, bool back)
{
    move_ask_add(leg, side, "BEGIN");
    move_ask_add(leg, side, "SET LOCAL lock_timeout = '500ms'");
    move_ask_add(leg, side, "CREATE SCHEMA IF NOT EXISTS shoal");
    move_ask_add(leg, side, move_sql_lock(leg, "SHARE ROW EXCLUSIVE"));
    move_ask_add(leg, side, move_sql_create_publication(leg, back));
    move_ask_add(leg, side, "COMMIT");
}

static void publish_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        publish_on(leg, SIDE_SOURCE, false);
        move_ask_run(leg, SIDE_SOURCE, ASK_MS);
    }
}

/* The slot comes after the publication: decoding looks at the catalog as it was. It waits for every
 * transaction that is running now, so it has a time limit. The walsender stays: the snapshot is its. */
static void slot_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        move_ask_add(leg, SIDE_SNAPSHOT, "SET idle_in_transaction_session_timeout = 0");
        move_ask_add(leg, SIDE_SNAPSHOT, "SET statement_timeout = 0");
        move_ask_add(leg, SIDE_SNAPSHOT, move_sql_create_slot_command(leg));
        for (uint32_t i = 0; i < leg->asks[SIDE_SNAPSHOT].count; i++)
            leg->asks[SIDE_SNAPSHOT].queries[i].value_count = PG_QUERY_SIMPLE;
        move_ask_run(leg, SIDE_SNAPSHOT, move->control->config->move_slot_timeout_ms);
        move_ask_add(leg, SIDE_SOURCE, move_sql_columns(leg));
        move_ask_run(leg, SIDE_SOURCE, ASK_MS);
    }
}

static bool slot_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    if (side == SIDE_SNAPSHOT && index == 2) {
        int column = PQfnumber(rows, "snapshot_name");
        const char *name = column >= 0 && PQntuples(rows) ? pg_text(rows, 0, column) : NULL;
        snprintf(leg->snapshot, sizeof leg->snapshot, "%s", name ? name : "");
    }
    if (side == SIDE_SOURCE) {
        leg->columns = arena_array(&leg->move->arena, const char *, leg->table_count);
        for (int i = 0; leg->columns && i < PQntuples(rows); i++)
            leg->columns[pg_u64(rows, i, 0) - 1] = arena_text(&leg->move->arena, pg_slice(rows, i, 1));
        for (uint32_t t = 0; t < leg->table_count; t++) {
            if (leg->columns && leg->columns[t])
                continue;
            error_set(err, SQLSTATE_OBJECT_NOT_READY, "table \"%.*s\" has gone", SLICE_FMT(leg->tables[t].name));
            return false;
        }
    }
    return true;
}

static void slot_end(Move *move)
{
    if (fails_at(move, "slot_or_trigger_created") || fails_at(move, "snapshot_exported"))
        fail_now(move);
    else
        move_next(move);
}

/* ---- copy ------------------------------------------------------------------------------------ */

static void copy_on_snapshot(MoveCopy *copy)
{
    MoveLeg *leg = copy->ctx;
    pg_client_close(&leg->asks[SIDE_SNAPSHOT].client);
}

static void copy_on_done(MoveCopy *copy, const Error *err)
{
    MoveLeg *leg = copy->ctx;
    if (err) {
        Error told = *err;
        if (!told.detail[0])
            error_detail(&told, "copying, database %s", leg->database);
        move_fail(leg->move, &told);
    }
    move_step_end(leg->move);
}

static void copy_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        PgLogin source, target;
        MoveCopyTable tables[MOVE_COPY_TABLES_MAX];
        char *snapshot = arena_printf(&move->scratch, "SET TRANSACTION SNAPSHOT '%s'", leg->snapshot);
        bool ok = snapshot && leg->table_count <= MOVE_COPY_TABLES_MAX &&
                  move_login(leg, SIDE_SOURCE, &source) && move_login(leg, SIDE_TARGET, &target);
        for (uint32_t t = 0; ok && t < leg->table_count; t++) {
            tables[t] = move_sql_copy(leg, t, leg->columns[t]);
            ok = tables[t].in && tables[t].out;
        }
        if (!ok) {
            move_no_memory(move);
            return;
        }
        leg->copy.on_done = copy_on_done;
        leg->copy.on_snapshot = copy_on_snapshot;
        move->pending++;
        move_copy_run(&leg->copy, &source, &target, snapshot, tables, leg->table_count,
                      move->control->config->move_bytes_per_s);
    }
}

static void copy_end(Move *move)
{
    LEGS_EACH(leg, move) {
        move->rows += leg->copy.rows;
        move->bytes += leg->copy.bytes;
        pg_client_close(&leg->asks[SIDE_SNAPSHOT].client);
    }
    if (fails_at(move, "copy_last_row"))
        fail_now(move);
    else
        move_next(move);
}

/* A new shard knows nothing of its tables: without this its first plans would be bad ones. */
static void analyze_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        move_ask_add(leg, SIDE_TARGET, "SELECT set_config('statement_timeout', '0', false)");
        for (uint32_t t = 0; t < leg->table_count; t++)
            move_ask_add(leg, SIDE_TARGET, move_sql_analyze(leg, t));
        move_ask_run(leg, SIDE_TARGET, 0);
    }
}

static void analyze_end(Move *move)
{
    if (fails_at(move, "copy_verified"))
        fail_now(move);
    else
        move_next(move);
}

/* ---- subscription, catching up --------------------------------------------------------------- */

static void subscribe_begin(Move *move)
{
    if (fails_at(move, "catchup_start"))
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

static bool stream_rows(MoveLeg *leg, MoveSide side, const PGresult *rows, Error *err)
{
    if (side == to_side(leg->move)) {
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
    return stream_rows(leg, side, rows, err);
}

static void catch_up_end(Move *move)
{
    bool all = true;
    LEGS_EACH(leg, move)
        all &= leg->caught_up;
    if (fails_at(move, "catchup_mid")) {
        fail_now(move);
    } else if (move->wish == MOVE_WISH_CANCEL) {
        Error err;
        error_set(&err, SQLSTATE_QUERY_CANCELED, "cancelled by an operator");
        move_fail(move, &err);
        fail_now(move);
    } else if (!all || move->paused) {
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
        publish_on(leg, SIDE_TARGET, true);
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

/* ---- inside the fence ------------------------------------------------------------------------ */

/* Waits for prepared transactions and for writers that never came through here, too. Shorter than
 * deadlock_timeout, so that a client is never the one that PostgreSQL chooses. The guard becomes
 * true with the commit, after the decision; a crash before it leaves nothing. */
static void lock_begin(Move *move)
{
    MoveSide from = from_side(move);
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

static void drain_begin(Move *move)
{
    MoveSide from = from_side(move);
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

static bool drain_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    if (leg->drain_lsn) {
        leg->drained = PQntuples(rows) && pg_bool(rows, 0, 0);
        return true;
    }
    if (index == 1)
        leg->drain_lsn = pg_u64(rows, 0, 0);
    return true;
}

static void drain_end(Move *move)
{
    bool all = true;
    LEGS_EACH(leg, move)
        all &= leg->drained;
    if (all && fails_at(move, "final_catchup_done")) {
        fail_now(move);
    } else if (all) {
        move_next(move);
    } else if (clock_now_us() - move->fence_since_us >
               (uint64_t)move->control->config->move_fence_timeout_ms * 1000) {
        Error err;
        error_set(&err, SQLSTATE_OBJECT_IN_USE, "the target did not catch up in time");
        move_fail(move, &err);
        fail_now(move);
    } else {
        move_again(move, DRAIN_LOOK_MS);
    }
}

/* Count and sum of each table and bucket, the schema, the sequences; and that the locks are still held. */
static void prove_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        for (MoveSide side = SIDE_SOURCE; side <= SIDE_TARGET; side++) {
            free(leg->digests[side].text);
            leg->digests[side].text = calloc(1, 1);
            leg->digests[side].len = 0;
            move_ask_add(leg, side, move_sql_facts(leg));
            if (side == from_side(move))
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

static bool prove_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    if (index == 0)
        return keep_facts(leg, side, rows, err);
    if (index == 1 && side == from_side(leg->move))
        return move_keep_sequences(leg, rows, err);
    if (index == 1)
        return stream_rows(leg, side, rows, err);
    return digest_add(&leg->digests[side], rows, err);
}

static void prove_end(Move *move)
{
    bool equal = facts_equal(move);
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
    if (!equal || fails_at(move, "diff_done"))
        fail_now(move);
    else
        move_next(move);
}

/* The stream ends: its last change was seen by the proof. */
static void stop_begin(Move *move)
{
    MoveSide to = to_side(move);
    LEGS_EACH(leg, move) {
        move_ask_add(leg, to, move_sql_disable_subscription(leg, move->backwards));
        move_ask_add(leg, to, move_sql_stop_worker(leg, move->backwards));
        move_raise_sequences(leg, to);
        if (move->backwards) /* the owner again: its guard goes before the decision, or its clients hit it */
            move_ask_add(leg, to, move_sql_drop_guards(leg));
        move_ask_run(leg, to, ASK_MS);
    }
}

static void worker_begin(Move *move)
{
    MoveSide to = to_side(move);
    LEGS_EACH(leg, move) {
        leg->drained = false;
        move_ask_add(leg, to, move_sql_subscription_state(leg, move->backwards));
        move_ask_run(leg, to, ASK_MS);
    }
}

static bool worker_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    leg->drained = PQntuples(rows) && !pg_bool(rows, 0, 1);
    return true;
}

/* What the stream back has seen so far came from the source itself: it starts behind it. And the last
 * question before the decision: are the locks still held? */
static void decide_begin(Move *move)
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
    LEGS_EACH(leg, move)
        pg_client_close(&leg->asks[SIDE_FENCE].client);
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
        move_ask_add(leg, SIDE_SOURCE, "BEGIN");
        move_ask_add(leg, SIDE_SOURCE, "SET LOCAL lock_timeout = '400ms'");
        move_ask_add(leg, SIDE_SOURCE, "CREATE SCHEMA IF NOT EXISTS shoal");
        move_ask_add(leg, SIDE_SOURCE, move_sql_guard_function(leg, move->target));
        for (uint32_t t = 0; t < leg->table_count; t++) {
            move_ask_add(leg, SIDE_SOURCE, move_sql_guard_trigger(leg, t, 0));
            move_ask_add(leg, SIDE_SOURCE, move_sql_guard_trigger(leg, t, 1));
        }
        move_ask_add(leg, SIDE_SOURCE, "COMMIT");
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
    {"announce", MOVE_MOVING, announce_begin, NULL, announce_end},
    {"preflight", MOVE_MOVING, preflight_begin, preflight_rows, preflight_end},
    {"publish", MOVE_MOVING, publish_begin, NULL, move_next},
    {"slot", MOVE_MOVING, slot_begin, slot_rows, slot_end},
    {"copy", MOVE_MOVING, copy_begin, NULL, copy_end},
    {"analyze", MOVE_MOVING, analyze_begin, NULL, analyze_end},
    {"subscribe", MOVE_MOVING, subscribe_begin, NULL, move_next},
    {"catch_up", MOVE_MOVING, catch_up_begin, catch_up_rows, catch_up_end},
    {"reverse", MOVE_MOVING, reverse_begin, NULL, reverse_end},
    {"fence", MOVE_MOVING, move_fence_begin, NULL, move_fence_end},
    {"lock", MOVE_MOVING, lock_begin, NULL, move_next},
    {"drain", MOVE_MOVING, drain_begin, drain_rows, drain_end},
    {"prove", MOVE_MOVING, prove_begin, prove_rows, prove_end},
    {"stop", MOVE_MOVING, stop_begin, NULL, move_next},
    {"stopped", MOVE_MOVING, worker_begin, worker_rows, drain_end},
    {"decide", MOVE_MOVING, decide_begin, NULL, move_decide_end},
};

static const MoveStep SWITCHED[] = {
    {"guard", MOVE_SWITCHED, guard_commit_begin, NULL, guard_commit_end},
    {"guard_look", MOVE_SWITCHED, guard_look_begin, guard_look_rows, move_next},
    {"guard_make", MOVE_SWITCHED, guard_make_begin, NULL, move_next},
    {"forget", MOVE_SWITCHED, forget_forward_begin, NULL, move_next},
    {"forget_slot", MOVE_SWITCHED, forget_slot_begin, NULL, move_next},
    {"follow", MOVE_SWITCHED, follow_begin, NULL, follow_end},
    {"rest", MOVE_SWITCHED, rest_begin, NULL, rest_end},
};

static const MoveStep RETURN[] = {
    {"return_fence", MOVE_RETURNING, move_fence_begin, NULL, move_fence_end},
    {"return_lock", MOVE_RETURNING, lock_begin, NULL, move_next},
    {"return_drain", MOVE_RETURNING, drain_begin, drain_rows, drain_end},
    {"return_prove", MOVE_RETURNING, prove_begin, prove_rows, prove_end},
    {"return_stop", MOVE_RETURNING, stop_begin, NULL, move_next},
    {"return_stopped", MOVE_RETURNING, worker_begin, worker_rows, drain_end},
    {"return_decide", MOVE_RETURNING, decide_begin, NULL, move_decide_end},
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

bool move_step_copies(const char *name)
{
    return strcmp(name, "announce") != 0 && strcmp(name, "preflight") != 0 && strcmp(name, "publish") != 0 && strcmp(name, "slot") != 0;
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
