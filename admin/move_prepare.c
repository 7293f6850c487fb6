/*
 * move_prepare.c - from the plan to a copy that is proven: nobody waits for any of it.
 *
 *     announce    statements for several shards pass over copies from now on (router/foreign.h)
 *     preflight   everything that would fail later is said now
 *     publish, watch (move_watch.h), slot
 *     copy        and the digest of the originals, in the same snapshot
 *     verify      every copied row has the digest of its original
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
#define ANNOUNCE_US   UINT64_C(2000000)

#define LEGS_EACH(leg, move) for (MoveLeg *leg = (move)->legs; leg < (move)->legs + (move)->leg_count; leg++)

/* ---- announcement ------------------------------------------------------------------------------- */

/* From now on rows may lie on two shards: statements that no key restricts to one of them are refused.
 * Those that were planned before, and have not been sent yet, are waited for; one that runs does not
 * see what is copied later. */
void move_announce_begin(Move *move)
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

void move_announce_end(Move *move)
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

void move_preflight_begin(Move *move)
{
    if (move_fails_at(move, "plan_written"))
        return;
    move->usual_isolation = true;
    move->findings = 0;
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

bool move_keep_facts(MoveLeg *leg, MoveSide side, const PGresult *rows, Error *err)
{
    const char *text = PQntuples(rows) ? pg_text(rows, 0, 0) : NULL;
    free(leg->facts[side]);
    leg->facts[side] = strdup(text ? text : "");
    if (leg->facts[side])
        return true;
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

/* All of them are told at once; the first one is the move's reason. */
static void finding_add(MoveLeg *leg, MoveSide side, const char *problem, const char *remedy)
{
    Move *move = leg->move;
    char text[700];
    if (move->findings++ == 0) {
        error_set(&move->finding, SQLSTATE_OBJECT_NOT_READY, "%s", problem);
        error_hint(&move->finding, "%s", remedy);
    }
    snprintf(text, sizeof text, "move %" PRIu64 " cannot begin: %s, database %s: %.250s. %.250s", move->id,
             side == SIDE_TARGET ? move->target : move->source, leg->database, problem, remedy);
    control_event(move->control, LOG_WARNING, "move", text);
}

bool move_preflight_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    if (index == 0)
        return move_keep_facts(leg, side, rows, err);
    for (int i = 0; index == 1 && i < PQntuples(rows); i++)
        finding_add(leg, side, PQgetvalue(rows, i, 0), PQgetvalue(rows, i, 1));
    if (side == SIDE_SOURCE && index == 2) {
        leg->move->bytes_expected += pg_u64(rows, 0, 0);
        leg->move->rows_expected += pg_u64(rows, 0, 1);
    }
    if (side == SIDE_TARGET && index == 4)
        leg->move->usual_isolation &= pg_bool(rows, 0, 0);
    for (int i = 0; side == SIDE_TARGET && index == 3 && i < PQntuples(rows); i++) {
        char problem[200];
        const Table *table = &leg->tables[pg_u64(rows, i, 0)];
        snprintf(problem, sizeof problem, "table \"%.*s.%.*s\" has rows of these buckets on the target",
                 SLICE_FMT(table->schema), SLICE_FMT(table->name));
        finding_add(leg, side, problem, "They are nobody's: shoalctl fsck shows them.");
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

bool move_facts_equal(Move *move)
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

/* What was found, as the step's failure. */
static bool nothing_found(Move *move)
{
    if (move->findings == 0)
        return true;
    if (move->findings > 1)
        error_detail(&move->finding, "%u findings in all; SHOW EVENTS has them, each with its remedy", move->findings);
    else
        error_detail(&move->finding, "%s", move->finding.hint);
    move_fail(move, &move->finding);
    return false;
}

void move_preflight_end(Move *move)
{
    if (!nothing_found(move) || move_fails_at(move, "target_ddl") || move_fails_at(move, "target_empty_check") || !move_facts_equal(move)) {
        move->attempts = UINT32_MAX; /* trying again would not help */
        move_fail_now(move);
        return;
    }
    move_next(move);
}

/* ---- publication, slot, snapshot ------------------------------------------------------------- */

/* While nobody writes: a row must not be changed between being looked at by the filter's first
 * check and the catalog's change. The lock waits a short time only, because writers wait behind it. */
void move_publish_on(MoveLeg *leg, MoveSide side, bool back)
{
    move_ask_add(leg, side, "BEGIN");
    move_ask_add(leg, side, "CREATE SCHEMA IF NOT EXISTS shoal");
    move_ask_add(leg, side, move_sql_lock(leg, "SHARE ROW EXCLUSIVE"));
    move_ask_add(leg, side, move_sql_create_publication(leg, back));
    move_ask_add(leg, side, "COMMIT");
}

void move_publish_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        move_publish_on(leg, SIDE_SOURCE, false);
        move_ask_run(leg, SIDE_SOURCE, ASK_MS);
    }
}

/* The slot comes after the publication: decoding looks at the catalog as it was. It waits for every
 * transaction that is running now, so it has a time limit. The walsender stays: the snapshot is its. */
void move_slot_begin(Move *move)
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

bool move_slot_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    if (side == SIDE_SNAPSHOT && index == 2) {
        int column = PQfnumber(rows, "snapshot_name");
        const char *name = column >= 0 && PQntuples(rows) ? pg_text(rows, 0, column) : NULL;
        snprintf(leg->snapshot, sizeof leg->snapshot, "%s", name ? name : "");
    }
    if (side == SIDE_SOURCE) {
        if (!row_forms_read(&leg->move->arena, rows, leg->table_count, &leg->forms, err))
            return false;
        for (uint32_t t = 0; t < leg->table_count; t++) {
            if (leg->forms[t].columns)
                continue;
            error_set(err, SQLSTATE_OBJECT_NOT_READY, "table \"%.*s\" has gone", SLICE_FMT(leg->tables[t].name));
            return false;
        }
    }
    return true;
}

void move_slot_end(Move *move)
{
    if (move_fails_at(move, "slot_or_trigger_created") || move_fails_at(move, "snapshot_exported"))
        move_fail_now(move);
    else
        move_next(move);
}

/* Before the slot, so that it misses nothing that comes behind the snapshot. */
void move_watch_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        if (!watch_begin(leg)) {
            move_no_memory(move);
            return;
        }
        move_ask_add(leg, SIDE_WATCH, "SELECT set_config('statement_timeout', '0', false), "
                                      "set_config('idle_session_timeout', '0', false)");
        move_ask_add(leg, SIDE_WATCH, watch_sql_create(leg));
        move_ask_run(leg, SIDE_WATCH, move->control->config->move_slot_timeout_ms);
    }
}

/* The snapshot stays for the proof of the copy, when the copy has let go of it. */
void move_hold_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        move_ask_add(leg, SIDE_FENCE, "SELECT set_config('statement_timeout', '0', false), "
                                      "set_config('idle_in_transaction_session_timeout', '0', false)");
        move_ask_add(leg, SIDE_FENCE, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        move_ask_add(leg, SIDE_FENCE, arena_printf(&move->scratch, "SET TRANSACTION SNAPSHOT '%s'", leg->snapshot));
        move_ask_run(leg, SIDE_FENCE, ASK_MS);
    }
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
    PgClient *digest = &leg->asks[SIDE_FENCE].client;
    if (err) {
        if (pg_client_busy(digest)) { /* nobody waits for it any more */
            pg_client_close(digest);
            leg->move->pending--;
        }
        Error told = *err;
        if (!told.detail[0])
            error_detail(&told, "copying, database %s", leg->database);
        move_fail(leg->move, &told);
    }
    move_step_end(leg->move);
}

/* The originals are read for the proof while they are copied, in the same snapshot: another core has time for it. */
static void digest_originals(MoveLeg *leg)
{
    move_digests_reset(leg, SIDE_SOURCE);
    for (uint32_t t = 0; t < leg->table_count; t++)
        move_ask_add(leg, SIDE_FENCE, move_sql_digest(leg, t));
    move_ask_add(leg, SIDE_FENCE, "COMMIT");
    move_ask_run(leg, SIDE_FENCE, 0);
}

bool move_copy_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    return index == leg->table_count || move_digest_add(&leg->digests[0], rows, err);
}

void move_copy_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        PgLogin source, target;
        MoveCopyTable tables[MOVE_COPY_TABLES_MAX];
        char *snapshot = arena_printf(&move->scratch, "SET TRANSACTION SNAPSHOT '%s'", leg->snapshot);
        bool ok = snapshot && leg->table_count <= MOVE_COPY_TABLES_MAX &&
                  move_login(leg, SIDE_SOURCE, &source) && move_login(leg, SIDE_TARGET, &target);
        for (uint32_t t = 0; ok && t < leg->table_count; t++) {
            tables[t] = move_sql_copy(leg, t);
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
        digest_originals(leg);
    }
}

void move_copy_end(Move *move)
{
    LEGS_EACH(leg, move) {
        move->rows += leg->copy.rows;
        move->bytes += leg->copy.bytes;
        pg_client_close(&leg->asks[SIDE_SNAPSHOT].client);
    }
    if (move_fails_at(move, "copy_last_row"))
        move_fail_now(move);
    else
        move_next(move);
}

/* ---- is the copy the same? --------------------------------------------------------------------- */

/* Rows as text, one line each, behind those that are there. */
bool move_digest_add(struct MoveDigest *digest, const PGresult *rows, Error *err)
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

void move_digests_reset(MoveLeg *leg, MoveSide side)
{
    free(leg->digests[side].text);
    leg->digests[side].text = calloc(1, 1);
    leg->digests[side].len = 0;
}

bool move_digests_equal(Move *move)
{
    LEGS_EACH(leg, move) {
        const char *source = leg->digests[0].text, *target = leg->digests[1].text;
        if (source && target && strcmp(source, target) == 0)
            continue;
        Error err;
        error_set(&err, SQLSTATE_DATA_CORRUPTED, "the copied rows of database %s are not equal to their originals",
                  leg->database);
        error_detail(&err, "source: %.200s; target: %.200s", source ? source : "", target ? target : "");
        move_fail(move, &err);
        return false;
    }
    return true;
}

/* Nothing has been applied yet: the copies must say what their originals said, whatever is written meanwhile. */
void move_verify_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        move_digests_reset(leg, SIDE_TARGET);
        move_ask_add(leg, SIDE_TARGET, "SELECT set_config('statement_timeout', '0', false)");
        for (uint32_t t = 0; t < leg->table_count; t++)
            move_ask_add(leg, SIDE_TARGET, move_sql_digest(leg, t));
        move_ask_run(leg, SIDE_TARGET, 0);
    }
}

bool move_verify_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err)
{
    return index == 0 || move_digest_add(&leg->digests[1], rows, err);
}

void move_verify_end(Move *move)
{
    if (!move_digests_equal(move))
        move_fail_now(move);
    else
        move_next(move);
}

/* A new shard knows nothing of its tables: without this its first plans would be bad ones. */
void move_analyze_begin(Move *move)
{
    LEGS_EACH(leg, move) {
        move_ask_add(leg, SIDE_TARGET, "SELECT set_config('statement_timeout', '0', false)");
        for (uint32_t t = 0; t < leg->table_count; t++)
            move_ask_add(leg, SIDE_TARGET, move_sql_analyze(leg, t));
        move_ask_run(leg, SIDE_TARGET, 0);
    }
}

void move_analyze_end(Move *move)
{
    if (move_fails_at(move, "copy_verified"))
        move_fail_now(move);
    else
        move_next(move);
}
