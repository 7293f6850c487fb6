/*
 * recovery.c - the rounds: what each shard is asked, in which order, and when a round is over.
 *
 *     step        each reached shard is asked                     then
 *     FACTS       settings, version of schema shoal; migrations   reasons are published
 *     BRANCHES    rows of shoal.branch with our prefix that are a minute old
 *     DECISIONS   rows of shoal.decision with our prefix
 *     PREPARED    pg_prepared_xacts of this database
 *     ACTIVE      (the workers, by a Report)                      recovery_judge.c: doubts
 *     RECHECK     which of the doubted are still prepared
 *     TOMBSTONES  for doubts without a row: the decider            recovery_judge.c: what to do
 *     FINISH      COMMIT PREPARED, ROLLBACK PREPARED
 *     PROOF       has the shard its part of what was decided?      recovery_forget.c
 *     FORGET      delete rows                                     -> idle, SHOW sees the round
 *
 * A step is over when no shard is busy any more. A shard that does not answer is out for the rest of the
 * round; the others go on.
 */
#include "admin/recovery_round.h"

#include <stdio.h>
#include <stdlib.h>

#include "admin/catalog_loader.h"
#include "admin/control_state.h"
#include "core/failpoint.h"

#define LOOK_TIMEOUT_MS  3000
#define DOUBT_INTERVAL_MS 1000

static void recovery_on_time(Timer *timer);
static void round_begin(Recovery *recovery);
static void round_next(Recovery *recovery);
static void step_begin(Recovery *recovery, RoundStep step);
static bool look_begin(ShardLook *look, RoundStep step);
static bool look_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void look_on_done(PgClient *client, const Error *err);
static void look_failed(ShardLook *look, const Error *err);
static bool ask_active(Recovery *recovery);
static void round_end(Recovery *recovery);

static const PgClientEvents CLIENT_EVENTS = {.on_result = look_on_result, .on_done = look_on_done};

#define ROWS_MAX 20000 /* asked for in one round; of the rest, the next one, which begins at once */
#define TEXT_OF_(x) #x
#define TEXT_OF(x)  TEXT_OF_(x)

static const char BRANCHES_SQL[] = "SELECT gid FROM shoal.branch WHERE starts_with(gid, $1)"
                                   " AND written_at < now() - interval '1 minute' LIMIT " TEXT_OF(ROWS_MAX);

static const char DECISIONS_SQL[] =
    "SELECT gid, commit, decided_at < now() - interval '1 day', branches FROM shoal.decision"
    " WHERE starts_with(gid, $1) LIMIT " TEXT_OF(ROWS_MAX);

/* The xid with its epoch: the newest one before the next to be given out. */
static const char PREPARED_SQL[] =
    "SELECT p.gid, p.owner, extract(epoch FROM clock_timestamp() - p.prepared) * 1000,"
    " (SELECT count(*) FROM pg_locks l WHERE l.pid IS NULL AND l.virtualtransaction ="
    "   (SELECT t.virtualtransaction FROM pg_locks t WHERE t.pid IS NULL AND t.locktype = 'transactionid'"
    "     AND t.transactionid = p.transaction AND t.granted LIMIT 1)),"
    " (n.next - ((n.next - p.transaction::text::bigint) & 4294967295))::text"
    " FROM pg_prepared_xacts p,"
    " (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next) n"
    " WHERE p.database = current_database()";

static const char RECHECK_SQL[] = "SELECT gid FROM pg_prepared_xacts WHERE gid = ANY ($1::text[])"
                                  " AND database = current_database()";

/* ---- life ------------------------------------------------------------------------------------ */

static uint32_t count_looks(const Config *config)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < config->database_count; i++)
        if (config->databases[i].shard_count > 1)
            count += config->databases[i].shard_count;
    return count;
}

bool recovery_init(Recovery *recovery, Control *control)
{
    const Config *config = control->config;
    *recovery = (Recovery){.control = control, .stats = recovery->stats, .round = recovery->round};
    arena_init(&recovery->arena, 4096);
    arena_init(&recovery->last_arena, 4096);
    timer_init(&recovery->timer, &control->loop, recovery_on_time, recovery);
    recovery->looks = calloc(MAX(count_looks(config), 1), sizeof *recovery->looks);
    recovery->why = calloc((size_t)config->database_count * config->shard_count + 1, sizeof *recovery->why);
    if (!recovery->looks || !recovery->why)
        return false;
    for (uint32_t i = 0; i < config->database_count; i++) {
        const DatabaseConfig *database = &config->databases[i];
        for (uint32_t s = 0; database->shard_count > 1 && s < database->shard_count; s++) {
            ShardLook *look = &recovery->looks[recovery->look_count++];
            *look = (ShardLook){.recovery = recovery, .database = i, .shard = database->shards[s]};
            pg_client_init(&look->client, &control->loop, &CLIENT_EVENTS, look);
            recovery_note_why(look);
        }
    }
    timer_start_ms(&recovery->timer, 0);
    return true;
}

void recovery_finish(Recovery *recovery)
{
    if (!recovery->control)
        return;
    timer_stop(&recovery->timer);
    for (uint32_t i = 0; i < recovery->look_count; i++)
        pg_client_close(&recovery->looks[i].client);
    for (uint32_t i = 0; i < recovery->told_count; i++)
        free(recovery->told[i]);
    free(recovery->told);
    free(recovery->looks);
    free(recovery->why);
    arena_finish(&recovery->arena);
    arena_finish(&recovery->last_arena);
    *recovery = (Recovery){.stats = recovery->stats, .round = recovery->round};
}

bool recovery_grow(Recovery *recovery, Control *control)
{
    uint32_t count = recovery->look_count;
    ShardLook *known = calloc(count + 1, sizeof *known);
    if (known && count)
        memcpy(known, recovery->looks, count * sizeof *known);
    recovery_finish(recovery);
    bool ok = recovery_init(recovery, control);
    for (uint32_t i = 0; ok && i < recovery->look_count; i++) {
        ShardLook *look = &recovery->looks[i];
        for (uint32_t k = 0; known && k < count; k++) {
            if (known[k].database != look->database || known[k].shard != look->shard)
                continue;
            look->facts = known[k].facts;
            recovery_note_why(look);
        }
    }
    free(known);
    return ok;
}

uint64_t recovery_kick(Recovery *recovery)
{
    if (!recovery->control)
        return 0;
    if (recovery->step == ROUND_IDLE) {
        timer_start_ms(&recovery->timer, 0);
        return recovery->round + 1;
    }
    recovery->again = true;
    return recovery->round + 1;
}

static void recovery_on_time(Timer *timer)
{
    round_begin(timer->ctx);
}

/* ---- a round ----------------------------------------------------------------------------------- */

/* Servers that the probes have found down, or to be somebody else, are not asked: that costs time, or
 * worse. */
static bool worth_asking(const ShardLook *look)
{
    const Control *control = look->recovery->control;
    const ServerConfig *server = control_primary(control, look->shard);
    if (!control->probes.servers)
        return true;
    int state = control->probes.servers[server->index].state;
    return state != HEALTH_DOWN && state != HEALTH_WRONG;
}

static void round_begin(Recovery *recovery)
{
    assert(recovery->step == ROUND_IDLE);
    recovery->round++;
    recovery->again = false;
    recovery->stats.rounds++;
    arena_reset(&recovery->arena);
    for (uint32_t i = 0; i < recovery->look_count; i++) {
        ShardLook *look = &recovery->looks[i];
        look->reached = worth_asking(look);
        look->migrating = false;
        look->rows = NULL;
        look->decisions = NULL;
        look->branches = NULL;
        look->parts = NULL;
        look->decisions_known = look->rows_cut = false;
        look->work = NULL;
    }
    (void)FAILPOINT("recovery_look");
    step_begin(recovery, ROUND_FACTS);
}

static void step_begin(Recovery *recovery, RoundStep step)
{
    recovery->step = (int)step;
    recovery->pending = 1; /* ours, until all have begun */
    for (uint32_t i = 0; i < recovery->look_count; i++) {
        ShardLook *look = &recovery->looks[i];
        if (!look->reached || !look_begin(look, step))
            continue;
        look->busy = true;
        recovery->pending++;
    }
    if (step == ROUND_ACTIVE && ask_active(recovery))
        return; /* the pending one is the Report's */
    if (--recovery->pending == 0)
        round_next(recovery);
}

/* Every shard has done this step. */
static void round_next(Recovery *recovery)
{
    switch ((RoundStep)recovery->step) {
    case ROUND_FACTS:
        recovery_publish_why(recovery);
        step_begin(recovery, ROUND_BRANCHES);
        return;
    case ROUND_BRANCHES:
        step_begin(recovery, ROUND_DECISIONS);
        return;
    case ROUND_DECISIONS:
        step_begin(recovery, ROUND_PREPARED);
        return;
    case ROUND_PREPARED:
        step_begin(recovery, ROUND_ACTIVE);
        return;
    case ROUND_ACTIVE:
        step_begin(recovery, ROUND_RECHECK);
        return;
    case ROUND_RECHECK:
        recovery_plan_tombstones(recovery);
        step_begin(recovery, ROUND_TOMBSTONES);
        return;
    case ROUND_TOMBSTONES:
        recovery_plan_finish(recovery);
        step_begin(recovery, ROUND_FINISH);
        return;
    case ROUND_FINISH:
        recovery_plan_proof(recovery);
        step_begin(recovery, ROUND_PROOF);
        return;
    case ROUND_PROOF:
        recovery_plan_forget(recovery);
        step_begin(recovery, ROUND_FORGET);
        return;
    case ROUND_FORGET:
        round_end(recovery);
        return;
    case ROUND_IDLE:
        assert(!"a step of no round");
    }
}

static void round_end(Recovery *recovery)
{
    Control *control = recovery->control;
    recovery_tell(recovery);
    /* The round becomes what SHOW sees. */
    Arena done = recovery->arena;
    recovery->arena = recovery->last_arena;
    recovery->last_arena = done;
    recovery->step = ROUND_IDLE;
    uint32_t interval_ms = control->config->recovery_interval_ms;
    if (recovery->stats.in_doubt)
        interval_ms = MIN(interval_ms, DOUBT_INTERVAL_MS);
    timer_start_ms(&recovery->timer, recovery->again ? 0 : interval_ms);
    if (!recovery->first_done) {
        recovery->first_done = true;
        control_try_ready(control);
    }
    jobs_on_recovery(control, recovery->round); /* last: a Job may answer and ask anew */
}

/* ---- one shard ------------------------------------------------------------------------------------ */

static void look_run(ShardLook *look, const PgQuery *queries, uint32_t count, uint64_t timeout_ms)
{
    const Config *config = look->recovery->control->config;
    const DatabaseConfig *database = &config->databases[look->database];
    PgLogin login = control_login(config, database, control_primary(look->recovery->control, look->shard));
    pg_client_run(&look->client, &login, queries, count, timeout_ms);
}

static void look_ask(ShardLook *look, const char *sql, const char *param)
{
    look->param = param;
    look->query[0] = (PgQuery){.sql = sql, .values = &look->param, .value_count = param ? 1 : 0};
    look_run(look, look->query, 1, LOOK_TIMEOUT_MS);
}

/* True when the shard has something to do in this step. */
static bool look_begin(ShardLook *look, RoundStep step)
{
    Recovery *recovery = look->recovery;
    switch (step) {
    case ROUND_FACTS:
        look_run(look, &SHARD_FACTS_QUERY, 1, LOOK_TIMEOUT_MS);
        return true;
    case ROUND_BRANCHES:
    case ROUND_DECISIONS:
        if (!shard_schema_ready(&look->facts) || look->facts.in_recovery)
            return false;
        look_ask(look, step == ROUND_BRANCHES ? BRANCHES_SQL : DECISIONS_SQL, recovery->control->gid.text);
        return true;
    case ROUND_PREPARED:
        if (look->facts.in_recovery)
            return false;
        look_ask(look, PREPARED_SQL, NULL);
        return true;
    case ROUND_RECHECK: {
        const char *doubted = recovery_doubted(look);
        if (doubted)
            look_ask(look, RECHECK_SQL, doubted);
        return doubted != NULL;
    }
    case ROUND_TOMBSTONES:
    case ROUND_FINISH:
    case ROUND_PROOF:
    case ROUND_FORGET:
        return recovery_work_begin(look);
    case ROUND_ACTIVE:
    case ROUND_IDLE:
        break;
    }
    return false;
}

static bool take_branches(ShardLook *look, const PGresult *rows)
{
    Arena *arena = &look->recovery->arena;
    for (int i = 0; i < PQntuples(rows); i++) {
        BranchRow *row = arena_new(arena, BranchRow);
        char *gid = arena_text(arena, pg_slice(rows, i, 0));
        if (!row || !gid)
            return false;
        *row = (BranchRow){.next = look->branches, .gid = gid};
        look->branches = row;
    }
    look->rows_cut |= PQntuples(rows) == ROWS_MAX;
    return true;
}

static bool take_decisions(ShardLook *look, const PGresult *rows)
{
    Arena *arena = &look->recovery->arena;
    for (int i = 0; i < PQntuples(rows); i++) {
        DecisionRow *row = arena_new(arena, DecisionRow);
        char *gid = arena_text(arena, pg_slice(rows, i, 0));
        char *branches = arena_text(arena, pg_slice(rows, i, 3));
        if (!row || !gid || !branches)
            return false;
        *row = (DecisionRow){.next = look->decisions, .gid = gid, .branches = branches,
                             .commit = pg_bool(rows, i, 1), .old = pg_bool(rows, i, 2)};
        look->decisions = row;
    }
    look->decisions_known = PQntuples(rows) < ROWS_MAX;
    look->rows_cut |= !look->decisions_known;
    return true;
}

static bool take_prepared(ShardLook *look, const PGresult *rows)
{
    Recovery *recovery = look->recovery;
    Arena *arena = &recovery->arena;
    for (int i = 0; i < PQntuples(rows); i++) {
        PreparedRow *row = arena_new(arena, PreparedRow);
        char *gid = arena_text(arena, pg_slice(rows, i, 0));
        char *user = arena_text(arena, pg_slice(rows, i, 1));
        if (!row || !gid || !user)
            return false;
        *row = (PreparedRow){.next = look->rows,
                             .database = look->database,
                             .shard = look->shard,
                             .gid = gid,
                             .user = user,
                             .age_ms = pg_u64(rows, i, 2),
                             .locks = pg_u64(rows, i, 3),
                             .parts = gid_read(&recovery->control->gid, slice_str(gid))};
        snprintf(row->xid, sizeof row->xid, "%s", PQgetvalue(rows, i, 4));
        look->rows = row;
    }
    return true;
}

/* Those that are prepared no more were brought to an end by whoever began them, after P was read. */
static void take_recheck(ShardLook *look, const PGresult *rows)
{
    for (PreparedRow *row = look->rows; row; row = row->next) {
        bool there = false;
        for (int i = 0; i < PQntuples(rows) && !there; i++)
            there = slice_equal(slice_str(row->gid), pg_slice(rows, i, 0));
        if (!there && row->parts.owner == GID_OWN && !row->active)
            row->finished = true;
    }
}

static bool look_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    ShardLook *look = client->ctx;
    bool ok = true;
    switch ((RoundStep)look->recovery->step) {
    case ROUND_FACTS:
        if (!look->migrating)
            shard_facts_take(&look->facts, rows);
        break;
    case ROUND_BRANCHES:
        ok = take_branches(look, rows);
        break;
    case ROUND_DECISIONS:
        ok = take_decisions(look, rows);
        break;
    case ROUND_PREPARED:
        ok = take_prepared(look, rows);
        break;
    case ROUND_RECHECK:
        take_recheck(look, rows);
        break;
    case ROUND_TOMBSTONES:
    case ROUND_FINISH:
    case ROUND_PROOF:
    case ROUND_FORGET:
        recovery_work_result(look, index, rows);
        break;
    case ROUND_ACTIVE:
    case ROUND_IDLE:
        break;
    }
    if (!ok)
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return ok;
}

/* The facts are there: are there steps to take before they are good? True: on their way. */
static bool look_migrate(ShardLook *look, const Error *err)
{
    if (look->migrating) {
        look->migrating = false;
        if (err)
            snprintf(look->facts.migration_why, sizeof look->facts.migration_why, "%.199s", err->message);
        if (err && err->sqlstate[0] == '0' && err->sqlstate[1] == '8')
            return false;
        look_run(look, &SHARD_FACTS_QUERY, 1, LOOK_TIMEOUT_MS);
        return true;
    }
    uint32_t count;
    bool tried = look->migrated_round == look->recovery->round;
    const PgQuery *steps = err || tried ? NULL : shard_migrations(&look->facts, &count);
    if (!steps)
        return false;
    look->migrating = true;
    look->migrated_round = look->recovery->round;
    look_run(look, steps, count, LOOK_TIMEOUT_MS);
    return true;
}

static void look_on_done(PgClient *client, const Error *err)
{
    ShardLook *look = client->ctx;
    Recovery *recovery = look->recovery;
    RoundStep step = (RoundStep)recovery->step;
    bool goes_on = step == ROUND_FACTS          ? look_migrate(look, err)
                   : step >= ROUND_TOMBSTONES ? recovery_work_done(look, err)
                                              : false;
    if (goes_on)
        return;
    if (err && step < ROUND_TOMBSTONES)
        look_failed(look, err);
    if (step == ROUND_FACTS)
        recovery_note_why(look);
    look->busy = false;
    assert(recovery->pending > 0);
    if (--recovery->pending == 0)
        round_next(recovery);
}

static void look_failed(ShardLook *look, const Error *err)
{
    const Config *config = look->recovery->control->config;
    look->reached = false;
    if (err->sqlstate[0] != '0' || err->sqlstate[1] != '8')
        log_line(LOG_WARNING, "recovery", "database %s on shard %s: %s (%s)",
                 config->databases[look->database].name, config->shards[look->shard].name, err->message,
                 look->client.why);
}

/* ---- A: what is alive in this process ------------------------------------------------------------------ */

static bool gid_equal(const void *item, const void *key)
{
    return slice_equal(slice_str(item), *(const Slice *)key);
}

static void mark_active(Recovery *recovery, const Map *active)
{
    for (uint32_t i = 0; i < recovery->look_count; i++) {
        for (PreparedRow *row = recovery->looks[i].rows; row; row = row->next) {
            Slice gid = slice_str(row->gid);
            row->active = map_get(active, slice_hash(gid, 0), &gid) != NULL;
        }
    }
}

/* Without memory for all of A nothing may be judged. */
static bool take_active(Recovery *recovery, const Report *report)
{
    Map active;
    bool ok = true;
    map_init(&active, gid_equal);
    for (const ReportRow *row = report->rows; ok && row; row = row->next) {
        Slice gid = slice_str(row->cells[0]);
        char *copy = arena_text(&recovery->arena, gid); /* forgetting rows looks at them, too */
        ok = copy != NULL;
        if (ok && !map_get(&active, slice_hash(gid, 0), &gid))
            ok = map_put(&active, slice_hash(gid, 0), copy);
    }
    if (ok)
        mark_active(recovery, &active);
    if (ok)
        recovery_keep_active_rows(recovery, &active);
    map_finish(&active);
    return ok;
}

static void active_on_reply(Mail *mail, void *owner)
{
    Control *control = owner;
    Report *report = container_of(mail, Report, mail);
    Recovery *recovery = &control->recovery;
    uint64_t round = (uint64_t)(uintptr_t)report->ctx;
    control->reports--;
    if (recovery->control && recovery->step == ROUND_ACTIVE && recovery->round == round) {
        if (!take_active(recovery, report))
            for (uint32_t i = 0; i < recovery->look_count; i++)
                recovery->looks[i].reached = false;
        if (--recovery->pending == 0)
            round_next(recovery);
    }
    report_free(report);
    control_stop_if_due(control);
}

/* False: nothing can be alive, no worker has ever run. */
static bool ask_active(Recovery *recovery)
{
    Control *control = recovery->control;
    if (!control->ready)
        return false;
    Report *report = report_create(REPORT_TRANSACTIONS);
    if (!report) {
        for (uint32_t i = 0; i < recovery->look_count; i++)
            recovery->looks[i].reached = false;
        return false;
    }
    report->reply = &control->inbox;
    report->on_reply = active_on_reply;
    report->ctx = (void *)(uintptr_t)recovery->round;
    control->reports++;
    worker_report(control->workers, control->worker_count, report);
    return true;
}
