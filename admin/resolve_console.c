/*
 * resolve_console.c - prepared transactions as an operator sees them, and ends them.
 *
 * RESOLVE acts with the decision or not at all, unless FORCE is said: an end against the decision leaves
 * one shard with half a transaction. What is known stands in the answer, whether it acted or not.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/answer.h"
#include "admin/catalog_loader.h"
#include "admin/control_state.h"
#include "admin/resolve.h"
#include "wire/value.h"

#define TEXT(column_name) {column_name, WIRE_OID_TEXT}
#define INT8(column_name) {column_name, WIRE_OID_INT8}
#define RUN_TIMEOUT_MS 8000

static const char *number(Arena *arena, uint64_t value)
{
    return arena_printf(arena, "%" PRIu64, value);
}

/* ---- SHOW ------------------------------------------------------------------------------------------------ */

static void job_free_plain(Job *job)
{
    free(job);
}

static const char *state_of(const PreparedRow *row)
{
    static const char *const OWNERS[] = {[GID_FOREIGN] = "foreign", [GID_OTHER] = "other router"};
    if (row->parts.owner != GID_OWN)
        return OWNERS[row->parts.owner];
    return row->active ? "active" : row->finished ? "ended" : "in doubt";
}

static const char *shard_of(const Control *control, uint32_t shard)
{
    return control->config->shards[shard].name;
}

/* "s1, s2 (not reached)": where it is prepared, and as whom `row` stands for all of them. */
static const char *holders_of(const Control *control, const PreparedRow *row, Arena *arena, uint64_t *ret_locks)
{
    const char *text = "";
    for (const PreparedRow *other = control->recovery.rows; other; other = other->next) {
        if (other->database != row->database || strcmp(other->gid, row->gid) != 0)
            continue;
        text = arena_printf(arena, "%s%s%s%s", text, *text ? ", " : "", shard_of(control, other->shard),
                            other->stale      ? " (not reached)"
                            : other->finished ? " (ended)"
                                              : "");
        *ret_locks += other->locks;
    }
    return text;
}

static bool is_first(const Control *control, const PreparedRow *row)
{
    for (const PreparedRow *other = control->recovery.rows; other != row; other = other->next)
        if (other->database == row->database && strcmp(other->gid, row->gid) == 0)
            return false;
    return true;
}

static void show_transactions_on_looked(Job *job)
{
    static const AnswerColumn COLUMNS[] = {TEXT("gid"),     TEXT("database"), TEXT("state"), INT8("age_ms"),
                                           TEXT("shards"),  TEXT("decider"),  TEXT("decision"),
                                           INT8("locks"),   TEXT("user")};
    Control *control = job->control;
    Call *call = job->call;
    Arena *arena = &call->arena;
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (const PreparedRow *row = control->recovery.rows; row; row = row->next) {
        uint64_t locks = 0;
        bool own = row->parts.owner == GID_OWN;
        if ((own && row->finished) || !is_first(control, row))
            continue;
        const char *holders = holders_of(control, row, arena, &locks);
        const char *cells[] = {row->gid,
                               control->config->databases[row->database].name,
                               state_of(row),
                               number(arena, row->age_ms),
                               holders,
                               own ? arena_text(arena, row->parts.shard) : NULL,
                               own && !row->active ? decision_name(row->decision) : NULL,
                               number(arena, locks),
                               row->user};
        answer_row(call, cells, ARRAY_LEN(cells));
    }
    answer_done(call, "SHOW");
    job_end(job, NULL);
}

bool show_transactions(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                       Error *err)
{
    Job *job = calloc(1, sizeof *job);
    if (!job) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    job_start(job, control, call, job_free_plain);
    job_wait_look(job, show_transactions_on_looked);
    return true;
}

bool show_recovery(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                   Error *err)
{
    static const AnswerColumn COLUMNS[] = {TEXT("name"), INT8("value"), TEXT("help")};
    const RecoveryStats *s = &control->recovery.stats;
    const struct {
        const char *name;
        uint64_t value;
        const char *help;
    } ROWS[] = {
        {"epoch", control->gid.epoch, "Starts of this router; 0: the store could not be written."},
        {"rounds", s->rounds, "Looks at all prepared transactions since the start."},
        {"in_doubt", s->in_doubt, "Prepared transactions of this router that nobody works on, now."},
        {"oldest_ms", s->oldest_ms, "Age of the oldest of them."},
        {"committed", s->committed, "Prepared transactions that recovery has committed."},
        {"rolled_back", s->rolled_back, "Prepared transactions that recovery has rolled back."},
        {"tombstones", s->tombstones, "Aborts that recovery has decided, because no decision stood."},
        {"forgotten", s->forgotten, "Decision rows deleted, because no shard needs them any more."},
        {"damage", s->damage, "Transactions that ended on a shard against their decision. Must be 0."},
        {"foreign", s->foreign, "Prepared transactions of other applications, now."},
        {"other_routers", s->other, "Prepared transactions of other routers of this cluster, now."},
    };
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        const char *cells[] = {ROWS[i].name, number(&call->arena, ROWS[i].value), ROWS[i].help};
        answer_row(call, cells, ARRAY_LEN(cells));
    }
    answer_done(call, "SHOW");
    control_answer(control, call);
    return true;
}

/* ---- RESOLVE --------------------------------------------------------------------------------------------- */

typedef struct OperatorJob {
    Job job;
    PgClient client;
    const char *gid;
    bool commit, force;
    const PreparedRow **rows; /* where it is prepared; in the call's arena, copies */
    uint32_t row_count, at;
    Decision decision;
    PgQuery query;
    const char **done; /* what came of each row */
} OperatorJob;

static void operator_next(OperatorJob *job);
static void operator_on_done(PgClient *client, const Error *err);

static const PgClientEvents EVENTS = {.on_done = operator_on_done};

static void operator_on_free(Job *base)
{
    OperatorJob *job = container_of(base, OperatorJob, job);
    pg_client_close(&job->client);
    free(job);
}

static void operator_refuse(OperatorJob *job, const char *why)
{
    Error err;
    error_set(&err, SQLSTATE_OBJECT_NOT_READY, "transaction %.100s is not resolved: %s", job->gid, why);
    error_detail(&err, "Decision: %s. Prepared on %u shards; SHOW TRANSACTIONS tells where.",
                 decision_name(job->decision), job->row_count);
    error_hint(&err, "RESOLVE ... FORCE does it all the same. A transaction that ends in two ways leaves "
                     "shards that contradict each other.");
    job_end(&job->job, &err);
}

/* False: refused. */
static bool operator_check(OperatorJob *job)
{
    const PreparedRow *row = job->rows[0];
    if (row->parts.owner == GID_FOREIGN) {
        Error err;
        error_set(&err, SQLSTATE_INVALID_PARAMETER, "transaction %.100s was not prepared by Shoal", job->gid);
        error_hint(&err, "End it with COMMIT PREPARED or ROLLBACK PREPARED on its server, as its owner.");
        job_end(&job->job, &err);
        return false;
    }
    if (row->active) {
        operator_refuse(job, "its client's COMMIT is being carried out");
        return false;
    }
    if (job->force)
        return true;
    if (row->parts.owner == GID_OTHER) {
        operator_refuse(job, "it belongs to another router of this cluster");
        return false;
    }
    if (job->decision == DECISION_UNKNOWN) {
        operator_refuse(job, "its decider cannot be asked");
        return false;
    }
    if (job->commit != (job->decision == DECISION_COMMIT)) {
        operator_refuse(job, job->commit ? "it was not decided to commit" : "it was decided to commit");
        return false;
    }
    return true;
}

static bool operator_collect(OperatorJob *job)
{
    Control *control = job->job.control;
    Arena *arena = &job->job.call->arena;
    uint32_t count = 0;
    for (const PreparedRow *row = control->recovery.rows; row; row = row->next)
        count += strcmp(row->gid, job->gid) == 0 && !row->finished;
    job->rows = arena_array(arena, const PreparedRow *, count + 1);
    job->done = arena_array(arena, const char *, count + 1);
    for (const PreparedRow *row = control->recovery.rows; row && job->rows && job->done; row = row->next) {
        PreparedRow *copy;
        if (strcmp(row->gid, job->gid) != 0 || row->finished || !(copy = arena_new(arena, PreparedRow)))
            continue;
        *copy = *row;
        job->rows[job->row_count++] = copy;
        if (job->decision < copy->decision)
            job->decision = copy->decision;
    }
    return job->row_count > 0;
}

static void operator_on_looked(Job *base)
{
    OperatorJob *job = container_of(base, OperatorJob, job);
    Error err;
    if (!operator_collect(job)) {
        error_set(&err, SQLSTATE_UNDEFINED_OBJECT, "transaction %.100s is not prepared on any shard that could be asked",
                  job->gid);
        error_hint(&err, "SHOW TRANSACTIONS lists what is prepared. What is ended already needs no RESOLVE.");
        job_end(base, &err);
        return;
    }
    if (operator_check(job))
        operator_next(job);
}

static void operator_answer(OperatorJob *job)
{
    static const AnswerColumn COLUMNS[] = {TEXT("gid"), TEXT("shard"), TEXT("decision"), TEXT("result")};
    Control *control = job->job.control;
    Call *call = job->job.call;
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t i = 0; i < job->row_count; i++) {
        const char *cells[] = {job->gid, shard_of(control, job->rows[i]->shard), decision_name(job->decision),
                               job->done[i] ? job->done[i] : "out of memory"};
        answer_row(call, cells, ARRAY_LEN(cells));
    }
    answer_done(call, "RESOLVE");
    char text[GID_SIZE + 160];
    snprintf(text, sizeof text, "transaction %.190s was resolved by %.40s: %s%s, decision %s", job->gid,
             call->user ? call->user : "an operator", job->commit ? "commit" : "rollback",
             job->force ? " by force" : "", decision_name(job->decision));
    control_event(control, LOG_WARNING, "resolve", text);
    if (job->force && job->decision > DECISION_NONE && job->commit != (job->decision == DECISION_COMMIT))
        control->recovery.stats.damage++;
    (void)recovery_kick(&control->recovery);
    job_end(&job->job, NULL);
}

static void operator_run(OperatorJob *job, uint32_t shard)
{
    const Config *config = job->job.control->config;
    const DatabaseConfig *database = &config->databases[job->rows[0]->database];
    PgLogin login = control_login(config, database, control_primary(job->job.control, shard));
    pg_client_close(&job->client);
    pg_client_init(&job->client, &job->job.control->loop, &EVENTS, job);
    pg_client_run(&job->client, &login, &job->query, 1, RUN_TIMEOUT_MS);
}

/* gids reach SQL as literals here: quotes are doubled, and backslashes mean themselves. */
static const char *quoted(Arena *arena, const char *text)
{
    char *out = arena_alloc(arena, 2 * strlen(text) + 3), *at = out;
    if (!out)
        return NULL;
    *at++ = '\'';
    for (; *text; text++) {
        if (*text == '\'')
            *at++ = '\'';
        *at++ = *text;
    }
    *at++ = '\'';
    *at = '\0';
    return out;
}

static void operator_next(OperatorJob *job)
{
    Arena *arena = &job->job.call->arena;
    if (job->at == job->row_count) {
        operator_answer(job);
        return;
    }
    const char *gid = quoted(arena, job->gid);
    const char *sql = gid ? arena_printf(arena, "%s PREPARED %s", job->commit ? "COMMIT" : "ROLLBACK", gid) : NULL;
    if (!sql) {
        operator_answer(job);
        return;
    }
    job->query = (PgQuery){.sql = sql};
    operator_run(job, job->rows[job->at]->shard);
}

static void operator_on_done(PgClient *client, const Error *err)
{
    OperatorJob *job = client->ctx;
    Arena *arena = &job->job.call->arena;
    job->done[job->at++] = err ? arena_printf(arena, "%s: %s", err->sqlstate, err->message)
                               : (job->commit ? "committed" : "rolled back");
    operator_next(job);
}

static bool resolve_arguments(const CommandLine *arguments, bool *ret_commit, bool *ret_force, Error *err)
{
    uint32_t n = arguments->count;
    *ret_force = n == 3 && strcmp(arguments->words[2], "force") == 0;
    if (n == 2 || *ret_force) {
        *ret_commit = strcmp(arguments->words[1], "commit") == 0;
        if (*ret_commit || strcmp(arguments->words[1], "rollback") == 0)
            return true;
    }
    error_set(err, SQLSTATE_SYNTAX_ERROR, "RESOLVE needs a transaction and how it is to end");
    error_hint(err, "RESOLVE 'gid' COMMIT|ROLLBACK [FORCE]; SHOW TRANSACTIONS lists the gids.");
    return false;
}

bool run_resolve(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                 Error *err)
{
    bool commit, force;
    if (!resolve_arguments(arguments, &commit, &force, err))
        return false;
    OperatorJob *job = calloc(1, sizeof *job);
    if (!job) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    job->gid = arguments->words[0];
    job->commit = commit;
    job->force = force;
    pg_client_init(&job->client, &control->loop, &EVENTS, job);
    job_start(&job->job, control, call, operator_on_free);
    job_wait_look(&job->job, operator_on_looked);
    return true;
}
