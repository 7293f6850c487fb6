/*
 * recovery_judge.c - what is in doubt, what stands about it, and what is done.
 *
 * Nothing is concluded from silence: a decider that was not reached in this round leaves its transactions
 * as they are. What was done is checked where it can be: 42704 for a COMMIT PREPARED means that somebody
 * else was faster, and pg_xact_status says how it ended (H58, H66). An end that contradicts the decision
 * is heuristic damage: an event and a counter, each time.
 */
#include "admin/recovery_round.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/control_state.h"
#include "core/failpoint.h"

#define TOMBSTONE_TIMEOUT_MS 8000 /* lock_timeout ends it before */
#define WORK_TIMEOUT_MS      5000

static const char TOMBSTONE_SQL[] =
    "INSERT INTO shoal.decision (gid, commit) VALUES ($1, false) ON CONFLICT DO NOTHING";
static const char STANDS_SQL[] = "SELECT commit FROM shoal.decision WHERE gid = $1";
static const char STATUS_SQL[] = "SELECT pg_xact_status($1::xid8)";

static Decision decision_of(const Recovery *recovery, const PreparedRow *row);
static void work_end(ShardLook *look, Work *work, const Error *err);

const char *decision_name(Decision decision)
{
    static const char *const NAMES[] = {"unknown", "none", "commit", "abort"};
    return NAMES[decision];
}

static const Config *config_of(const Recovery *recovery)
{
    return recovery->control->config;
}

static const char *shard_name(const Recovery *recovery, uint32_t shard)
{
    return config_of(recovery)->shards[shard].name;
}

/* Own, and nobody here works on it. */
static bool in_doubt(const PreparedRow *row)
{
    return row->parts.owner == GID_OWN && !row->active && !row->finished;
}

/* ---- may this shard take part? ------------------------------------------------------------------------- */

static char *why_at(const Recovery *recovery, const ShardLook *look)
{
    return recovery->why[look->database * config_of(recovery)->shard_count + look->shard];
}

void recovery_note_why(ShardLook *look)
{
    Recovery *recovery = look->recovery;
    const Config *config = config_of(recovery);
    char why[200] = "", *known = why_at(recovery, look);
    const ServerConfig *server = control_primary(recovery->control, look->shard);
    bool bad = shard_facts_judge(&look->facts, &config->databases[look->database], server, why, sizeof why);
    if (!bad)
        why[0] = '\0';
    if (strcmp(why, known) == 0)
        return;
    memcpy(known, why, sizeof why);
    recovery->why_changed = true;
    if (bad && look->facts.known)
        log_line(LOG_WARNING, "recovery", "shard %s cannot take part in transactions over several shards: %s",
                 shard_name(recovery, look->shard), why);
}

void recovery_publish_why(Recovery *recovery)
{
    Error err;
    if (!recovery->why_changed)
        return;
    recovery->why_changed = false;
    if (!control_publish(recovery->control, &err)) {
        log_error("recovery", &err);
        recovery->why_changed = true;
    }
}

const char *const *recovery_two_phase_why(const Recovery *recovery, Arena *arena)
{
    const Config *config = config_of(recovery);
    size_t count = (size_t)config->database_count * config->shard_count;
    const char **list = arena_array(arena, const char *, count + 1);
    for (size_t i = 0; list && i < count; i++)
        list[i] = recovery->why[i][0] ? recovery->why[i] : NULL;
    return list;
}

/* ---- what is in doubt ---------------------------------------------------------------------------------- */

void recovery_keep_active_rows(Recovery *recovery, const Map *active)
{
    for (uint32_t i = 0; i < recovery->look_count; i++) {
        for (DecisionRow *row = recovery->looks[i].decisions; row; row = row->next) {
            Slice gid = slice_str(row->gid);
            row->active = map_get(active, slice_hash(gid, 0), &gid) != NULL;
        }
    }
}

const char *recovery_doubted(ShardLook *look)
{
    Arena *arena = &look->recovery->arena;
    const char *list = NULL;
    for (PreparedRow *row = look->rows; row; row = row->next)
        if (in_doubt(row))
            list = arena_printf(arena, "%s%s%s", list ? list : "", list ? "," : "", row->gid);
    return list ? arena_printf(arena, "{%s}", list) : NULL;
}

ShardLook *recovery_look(const Recovery *recovery, uint32_t database, Slice shard)
{
    for (uint32_t i = 0; i < recovery->look_count; i++) {
        ShardLook *look = &recovery->looks[i];
        if (look->database == database && slice_is(shard, shard_name(recovery, look->shard)))
            return look;
    }
    return NULL;
}

static ShardLook *decider_of(const Recovery *recovery, const PreparedRow *row)
{
    return recovery_look(recovery, row->database, row->parts.shard);
}

static const DecisionRow *decision_row(const Recovery *recovery, const PreparedRow *row)
{
    const ShardLook *look = decider_of(recovery, row);
    for (const DecisionRow *d = look ? look->decisions : NULL; d; d = d->next)
        if (strcmp(d->gid, row->gid) == 0)
            return d;
    return NULL;
}

static Decision decision_of(const Recovery *recovery, const PreparedRow *row)
{
    const ShardLook *look = decider_of(recovery, row);
    const DecisionRow *stands = decision_row(recovery, row);
    if (stands)
        return stands->commit ? DECISION_COMMIT : DECISION_ABORT;
    bool asked = look && look->reached && shard_schema_ready(&look->facts) && !look->facts.in_recovery;
    return asked ? DECISION_NONE : DECISION_UNKNOWN;
}

/* ---- tombstones ---------------------------------------------------------------------------------------- */

static Work *work_of(ShardLook *look, const char *gid)
{
    for (Work *work = look->work; work; work = work->next)
        if (strcmp(work->gid, gid) == 0)
            return work;
    return NULL;
}

void recovery_plan_tombstones(Recovery *recovery)
{
    for (uint32_t i = 0; i < recovery->look_count; i++) {
        for (PreparedRow *row = recovery->looks[i].rows; row; row = row->next) {
            if (!in_doubt(row))
                continue;
            row->decision = decision_of(recovery, row);
            ShardLook *decider = decider_of(recovery, row);
            if (row->decision != DECISION_NONE || work_of(decider, row->gid))
                continue;
            Work *work = recovery_work_add(decider, WORK_TOMBSTONE, row->gid);
            if (!work)
                continue;
            work->queries[0] = (PgQuery){TOMBSTONE_SQL, &work->param, 1};
            work->queries[1] = (PgQuery){STANDS_SQL, &work->param, 1};
            work->query_count = 2;
        }
    }
}

/* For every shard that holds it. */
static void decided(Recovery *recovery, const ShardLook *decider, const char *gid, Decision decision)
{
    for (uint32_t i = 0; i < recovery->look_count; i++) {
        if (recovery->looks[i].database != decider->database)
            continue;
        for (PreparedRow *row = recovery->looks[i].rows; row; row = row->next)
            if (strcmp(row->gid, gid) == 0)
                row->decision = decision;
    }
}

/* ---- COMMIT PREPARED, ROLLBACK PREPARED ---------------------------------------------------------------- */

void recovery_plan_finish(Recovery *recovery)
{
    for (uint32_t i = 0; i < recovery->look_count; i++) {
        ShardLook *look = &recovery->looks[i];
        for (PreparedRow *row = look->rows; row; row = row->next) {
            bool commit = row->decision == DECISION_COMMIT;
            if (!in_doubt(row) || (!commit && row->decision != DECISION_ABORT))
                continue;
            Work *work = recovery_work_add(look, WORK_FINISH, row->gid);
            if (!work)
                continue;
            work->row = row;
            work->commit = commit;
            /* A name with our prefix has plain bytes only (gid_read). */
            work->queries[0].sql = arena_printf(&recovery->arena, "%s PREPARED '%s'",
                                                commit ? "COMMIT" : "ROLLBACK", row->gid);
            work->query_count = work->queries[0].sql ? 1 : 0;
        }
    }
}

/* Somebody else has ended it meanwhile; only how it ended tells whether that was right. */
static void check_status(ShardLook *look, const Work *finish)
{
    Work *work = recovery_work_add(look, WORK_STATUS, finish->gid);
    if (!work)
        return;
    work->row = finish->row;
    work->commit = finish->commit;
    work->param = finish->row->xid;
    work->queries[0] = (PgQuery){STATUS_SQL, &work->param, 1};
    work->query_count = 1;
}

static void judge_status(ShardLook *look, const Work *work)
{
    Recovery *recovery = look->recovery;
    bool committed = strcmp(work->status, "committed") == 0, aborted = strcmp(work->status, "aborted") == 0;
    char text[400];
    if (committed == work->commit && (committed || aborted)) {
        work->row->finished = true;
        return;
    }
    if (strcmp(work->status, "in progress") == 0)
        return; /* under way; the next round sees */
    const DecisionRow *stands = work->commit ? decision_row(recovery, work->row) : NULL;
    if (stands && stands->branches[0]) { /* the next round asks for its evidence, and tells (recovery_forget.c) */
        work->row->finished = recovery->again = true;
        return;
    }
    recovery->stats.damage += committed || aborted;
    work->row->finished = true;
    snprintf(text, sizeof text, "transaction %s: decided to %s, but shard %s %s", work->gid,
             work->commit ? "commit" : "abort", shard_name(recovery, look->shard),
             committed ? "has committed it" : aborted ? "has rolled it back" : "cannot say how it ended");
    control_event(recovery->control, LOG_ERROR, "heuristic", text);
}

/* ---- doing it ------------------------------------------------------------------------------------------ */

Work *recovery_work_add(ShardLook *look, int kind, const char *gid)
{
    Work *work = arena_new(&look->recovery->arena, Work), **tail = &look->work;
    if (!work)
        return NULL;
    work->kind = kind;
    work->gid = work->param = gid;
    while (*tail)
        tail = &(*tail)->next;
    *tail = work;
    return work;
}

bool recovery_work_begin(ShardLook *look)
{
    Work *work = look->work;
    if (!work)
        return false;
    if (work->kind == WORK_TOMBSTONE)
        (void)FAILPOINT("recovery_tombstone");
    else if (work->kind == WORK_FINISH)
        (void)FAILPOINT("recovery_finish");
    const Config *config = config_of(look->recovery);
    PgLogin login = control_login(config, &config->databases[look->database], control_primary(look->recovery->control, look->shard));
    pg_client_run(&look->client, &login, work->queries, work->query_count,
                  work->kind == WORK_TOMBSTONE ? TOMBSTONE_TIMEOUT_MS : WORK_TIMEOUT_MS);
    return true;
}

void recovery_work_result(ShardLook *look, uint32_t index, const PGresult *rows)
{
    Work *work = look->work;
    if (work->kind == WORK_TOMBSTONE && index == 0)
        look->recovery->stats.tombstones += strcmp(PQcmdTuples((PGresult *)(uintptr_t)rows), "1") == 0;
    else if (work->kind == WORK_TOMBSTONE && PQntuples(rows) == 1)
        work->found = pg_bool(rows, 0, 0) ? DECISION_COMMIT : DECISION_ABORT;
    else if (work->kind == WORK_PROOF)
        recovery_judge_proof(look, rows);
    else if (work->kind == WORK_TORN)
        work->stands = PQntuples(rows) == 1;
    else if (work->kind == WORK_FORGET)
        look->recovery->stats.forgotten += strtoull(PQcmdTuples((PGresult *)(uintptr_t)rows), NULL, 10);
    else if (work->kind == WORK_STATUS && PQntuples(rows) == 1)
        snprintf(work->status, sizeof work->status, "%s", PQgetvalue(rows, 0, 0));
}

bool recovery_work_done(ShardLook *look, const Error *err)
{
    Work *work = look->work;
    look->work = work->next;
    if (err && err->sqlstate[0] == '0' && err->sqlstate[1] == '8') {
        look->reached = false;
        look->work = NULL;
        return false;
    }
    work_end(look, work, err);
    return recovery_work_begin(look);
}

static void work_end(ShardLook *look, Work *work, const Error *err)
{
    Recovery *recovery = look->recovery;
    switch (work->kind) {
    case WORK_TOMBSTONE:
        (void)FAILPOINT("recovery_tombstone_done");
        if (!err && work->found)
            decided(recovery, look, work->gid, work->found);
        break;
    case WORK_FINISH:
        work->row->finished = !err;
        if (!err && work->commit)
            recovery->stats.committed++;
        else if (!err)
            recovery->stats.rolled_back++;
        else if (error_is(err, SQLSTATE_UNDEFINED_OBJECT))
            check_status(look, work);
        break;
    case WORK_STATUS:
        if (!err)
            judge_status(look, work);
        break;
    case WORK_PROOF:
        look->reached &= !err; /* what it did not show stays */
        break;
    case WORK_TORN:
        if (!err && work->stands)
            recovery_tell_torn(look, work);
        break;
    case WORK_FORGET:
    case WORK_SWEEP:
        recovery->again |= !err && look->rows_cut;
        break;
    }
    if (err && !error_is(err, SQLSTATE_UNDEFINED_OBJECT))
        log_line(LOG_WARNING, "recovery", "shard %s, transaction %s: %s", shard_name(recovery, look->shard),
                 work->gid, err->message);
}

/* ---- telling ------------------------------------------------------------------------------------------- */

/* What a shard that cannot be asked held when it was last asked. */
static void carry_over(Recovery *recovery, const ShardLook *look)
{
    Arena *arena = &recovery->arena;
    for (const PreparedRow *old = recovery->rows; old; old = old->next) {
        if (old->database != look->database || old->shard != look->shard || old->finished)
            continue;
        PreparedRow *row = arena_new(arena, PreparedRow);
        char *gid = arena_text(arena, slice_str(old->gid)), *user = arena_text(arena, slice_str(old->user));
        if (!row || !gid || !user)
            return;
        *row = *old;
        row->gid = gid;
        row->user = user;
        row->stale = true;
        row->decision = DECISION_UNKNOWN;
        row->parts = gid_read(&recovery->control->gid, slice_str(gid));
        row->next = recovery->collected;
        recovery->collected = row;
    }
}

static void collect_rows(Recovery *recovery)
{
    recovery->collected = NULL;
    for (uint32_t i = 0; i < recovery->look_count; i++) {
        ShardLook *look = &recovery->looks[i];
        if (!look->reached && !look->rows)
            carry_over(recovery, look);
        while (look->rows) {
            PreparedRow *row = look->rows;
            look->rows = row->next;
            row->stale = !look->reached;
            row->next = recovery->collected;
            recovery->collected = row;
        }
    }
    recovery->rows = recovery->collected;
}

/* The same transaction is prepared on several shards: counted once. */
static bool is_first_of_its_name(const Recovery *recovery, const PreparedRow *row)
{
    for (const PreparedRow *other = recovery->rows; other != row; other = other->next)
        if (other->database == row->database && strcmp(other->gid, row->gid) == 0 && in_doubt(other))
            return false;
    return true;
}

static void count_rows(Recovery *recovery)
{
    RecoveryStats *stats = &recovery->stats;
    stats->in_doubt = stats->foreign = stats->other = stats->oldest_ms = 0;
    for (const PreparedRow *row = recovery->rows; row; row = row->next) {
        stats->foreign += row->parts.owner == GID_FOREIGN;
        stats->other += row->parts.owner == GID_OTHER;
        if (!in_doubt(row) || !is_first_of_its_name(recovery, row))
            continue;
        stats->in_doubt++;
        stats->oldest_ms = MAX(stats->oldest_ms, row->age_ms);
    }
}

static bool still_in_doubt(const Recovery *recovery, const char *gid)
{
    for (const PreparedRow *row = recovery->rows; row; row = row->next)
        if (in_doubt(row) && strcmp(row->gid, gid) == 0)
            return true;
    return false;
}

static void forget_told(Recovery *recovery)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < recovery->told_count; i++) {
        char text[GID_SIZE + 60];
        if (still_in_doubt(recovery, recovery->told[i])) {
            recovery->told[kept++] = recovery->told[i];
            continue;
        }
        snprintf(text, sizeof text, "transaction %s is no longer in doubt", recovery->told[i]);
        control_event(recovery->control, LOG_INFO, "in_doubt", text);
        free(recovery->told[i]);
    }
    recovery->told_count = kept;
}

static void tell_doubt(Recovery *recovery, const PreparedRow *row)
{
    for (uint32_t i = 0; i < recovery->told_count; i++)
        if (strcmp(recovery->told[i], row->gid) == 0)
            return;
    char **told = realloc(recovery->told, (recovery->told_count + 1) * sizeof *told);
    if (!told)
        return;
    recovery->told = told;
    told[recovery->told_count] = strdup(row->gid);
    recovery->told_count += told[recovery->told_count] != NULL;
    char text[GID_SIZE + 200];
    snprintf(text, sizeof text, "transaction %s is prepared on shard %s and in doubt: %s %.*s",
             row->gid, shard_name(recovery, row->shard),
             row->decision == DECISION_UNKNOWN ? "its decider cannot be asked, shard"
                                               : "it could not be ended yet; decided by shard",
             SLICE_FMT(row->parts.shard));
    control_event(recovery->control, LOG_WARNING, "in_doubt", text);
}

void recovery_tell(Recovery *recovery)
{
    RecoveryStats *stats = &recovery->stats, *last = &recovery->told_stats;
    collect_rows(recovery);
    count_rows(recovery);
    if (stats->committed != last->committed || stats->rolled_back != last->rolled_back) {
        char text[120];
        snprintf(text, sizeof text, "recovery committed %" PRIu64 " and rolled back %" PRIu64 " prepared transactions",
                 stats->committed - last->committed, stats->rolled_back - last->rolled_back);
        control_event(recovery->control, LOG_INFO, "recovery", text);
    }
    *last = *stats;
    forget_told(recovery);
    for (const PreparedRow *row = recovery->rows; row; row = row->next)
        if (in_doubt(row))
            tell_doubt(recovery, row);
}
