/*
 * commit.c - the phases of a commit over several shards, and what becomes of each when a server dies.
 *
 *                 ┌────────── an error, a lost connection ──────────────┐
 *                 │                                                     v
 *    PREPARE ─────┴──> DECIDE ──┬── committed ──> FINISH ──> over     UNDO ──> over
 *    writers but one   the last │                   ^                   ^
 *    prepare, readers  commits  └── lost ──> ASK ───┴── committed, or ──┘ rolled back
 *    commit                                   └── nobody knows: 08007
 *
 * Rounds and syncs for w writers: one PREPARE round (w - 1 servers sync), one decision (1 syncs), one
 * COMMIT PREPARED round (w - 1 sync). Whatever a dead or stuck server keeps from being done stands in
 * its pg_prepared_xacts, under a gid that names the decider: recovery does it later.
 */
#include "router/commit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/failpoint.h"
#include "core/log.h"
#include "meta/gid.h"
#include "router/effect.h"
#include "router/local.h"
#include "router/transaction.h"
#include "router/worker_state.h"
#include "wire/backend.h"

typedef enum CommitPhase { PHASE_PREPARE, PHASE_DECIDE, PHASE_ASK, PHASE_FINISH, PHASE_UNDO } CommitPhase;

typedef enum CommitLegState {
    LEG_OPEN,      /* its transaction is open (or failed) there */
    LEG_PREPARED,  /* PREPARE TRANSACTION was answered */
    LEG_ENDED,     /* committed or rolled back */
    LEG_LOST       /* its connection is gone, or it did not answer in time: PostgreSQL rolls back what was
                      not prepared, recovery ends what was */
} CommitLegState;

typedef struct CommitLeg {
    Commit *commit;
    Sink sink;
    Task task;
    TaskStep step;
    Participant part;
    CommitLegState state;
    bool busy;
    bool failed; /* the statement under way was answered by an error */
    char tag[32];
} CommitLeg;

struct Commit {
    Holder holder; /* first member */
    List link;     /* worker.commits */
    Worker *worker;
    Session *session; /* NULL: it has gone */
    uint64_t session_id;
    CommitDone *done; /* NULL: nobody waits */
    void *ctx;
    CommitWhat what;
    CommitPhase phase;
    uint64_t begun_us, deadline_us; /* the latter of this phase */
    char gid[GID_SIZE]; /* "" while one is not needed */
    const char *sent;   /* failpoint to pass when what was written has left; NULL */
    const char *database; /* in the arena */
    CommitLeg *legs;
    uint32_t leg_count, busy;
    int decider; /* index of the leg; -1: nobody writes */
    bool moving; /* a phase is being started: answers wait for it */
    bool one_phase; /* commit_mode = one_phase_best_effort */
    Call *call;  /* ASK */
    GucVector *gucs; /* what a COMMIT leaves on the connections */
    Buf error;   /* the first one: a whole E frame */
    Arena arena;
};

static void phase_over(Commit *commit);
static void commit_on_resolved(Mail *mail, void *owner);
static void commit_end(Commit *commit, CommitResult result);

/* ---- errors ------------------------------------------------------------------------------------------ */

static void keep_frame(Commit *commit, Slice frame)
{
    if (buf_len(&commit->error) == 0)
        buf_append(&commit->error, frame);
}

static void keep_error(Commit *commit, const Error *err)
{
    if (buf_len(&commit->error) == 0)
        backend_put_error(&commit->error, SEVERITY_ERROR, err);
}

static const char *shard_name(const Commit *commit, const CommitLeg *leg)
{
    const Config *config = worker_config(commit->worker);
    return leg->part.shard < config->shard_count ? config->shards[leg->part.shard].name : "?";
}

static void keep_lost(Commit *commit, const CommitLeg *leg, const Error *cause)
{
    Error err;
    error_set(&err, "40000", "transaction was rolled back: shard %s was lost before it could commit",
              shard_name(commit, leg));
    error_detail(&err, "%s", cause->message);
    error_hint(&err, "Nothing of it was committed on any shard; run the transaction again.");
    keep_error(commit, &err);
}

/* ---- one statement on one leg -------------------------------------------------------------------------- */

static void leg_on_frame(Sink *sink, Task *task, const Frame *frame)
{
    CommitLeg *leg = container_of(sink, CommitLeg, sink);
    Slice tag;
    Error err;
    (void)task;
    if (frame->type == BACKEND_ERROR) {
        leg->failed = true;
        if (leg->commit->phase == PHASE_PREPARE || leg->commit->phase == PHASE_DECIDE)
            keep_frame(leg->commit, frame->whole);
        else if (leg->commit->phase == PHASE_FINISH)
            (void)FAILPOINT("commit_second_failed");
    } else if (frame->type == BACKEND_COMMAND_COMPLETE &&
               backend_read_command_complete(frame->body, &tag, &err) == WIRE_OK) {
        snprintf(leg->tag, sizeof leg->tag, "%.*s", SLICE_FMT(tag));
    }
}

/* What the answer says about the leg's transaction. */
static CommitLegState leg_judge(const CommitLeg *leg, char tx_status)
{
    if (tx_status != TX_IDLE)
        return LEG_OPEN;
    if (leg->state == LEG_PREPARED)
        return leg->failed ? LEG_LOST : LEG_ENDED; /* somebody else has ended it: recovery looks */
    return !leg->failed && strcmp(leg->tag, "PREPARE TRANSACTION") == 0 ? LEG_PREPARED : LEG_ENDED;
}

static void leg_over(CommitLeg *leg)
{
    Commit *commit = leg->commit;
    leg->busy = false;
    commit->busy--;
    if (commit->phase == PHASE_PREPARE && commit->busy)
        (void)FAILPOINT("commit_prepared_one");
    if (commit->phase == PHASE_FINISH && commit->busy)
        (void)FAILPOINT("commit_second_one");
    if (commit->busy == 0 && !commit->moving)
        phase_over(commit);
}

static void leg_on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    CommitLeg *leg = container_of(sink, CommitLeg, sink);
    if (!last)
        return;
    task_hold(task);
    leg->part.tx = tx_status;
    leg->state = leg_judge(leg, tx_status);
    leg_over(leg);
}

static void leg_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    CommitLeg *leg = container_of(sink, CommitLeg, sink);
    Commit *commit = leg->commit;
    (void)task;
    if (commit->phase == PHASE_PREPARE)
        keep_lost(commit, leg, err);
    if (commit->phase == PHASE_DECIDE && !maybe_executed)
        keep_lost(commit, leg, err);
    leg->failed = true;
    leg->state = LEG_LOST;
    if (backend_state(leg->part.backend) == BACKEND_DEAD)
        leg->part.backend = NULL;
    leg_over(leg);
}

static const SinkOps LEG_OPS = {
    .on_frame = leg_on_frame,
    .on_ready = leg_on_ready,
    .on_lost = leg_on_lost,
};

static void leg_say(CommitLeg *leg, const char *sql)
{
    Commit *commit = leg->commit;
    Buf frame;
    buf_init(&frame, 1024);
    frontend_put_query(&frame, slice_str(sql));
    leg->step = (TaskStep){.op = TASK_QUERY, .frame = arena_dup(&commit->arena, buf_bytes(&frame))};
    buf_finish(&frame);
    leg->failed = false;
    leg->tag[0] = '\0';
    if (!leg->step.frame.len) { /* no memory for thirty bytes: as if the server were lost */
        backend_release(leg->part.backend, true);
        leg->part.backend = NULL;
        leg->state = LEG_LOST;
        leg->failed = true;
        return;
    }
    task_init(&leg->task, &leg->sink, &leg->step, 1);
    leg->task.gucs = backend_gucs(leg->part.backend); /* no SET of ours in between */
    leg->task.holder = commit;
    leg->busy = true;
    commit->busy++;
    backend_run(leg->part.backend, &leg->task);
}

static void leg_say_gid(CommitLeg *leg, const char *verb)
{
    char sql[GID_SIZE + 64];
    snprintf(sql, sizeof sql, "%s '%s'", verb, leg->commit->gid);
    leg_say(leg, sql);
}

/* ---- phases -------------------------------------------------------------------------------------------- */

static void phase_begin(Commit *commit, CommitPhase phase)
{
    commit->phase = phase;
    commit->moving = true;
    commit->deadline_us = commit->worker->loop.now_us +
                          (uint64_t)worker_config(commit->worker)->commit_timeout_ms * 1000;
}

static void phase_begun(Commit *commit)
{
    commit->moving = false;
    if (commit->busy == 0)
        phase_over(commit);
}

static void prepare(Commit *commit)
{
    phase_begin(commit, PHASE_PREPARE);
    if (commit->gid[0])
        (void)FAILPOINT("commit_before_prepare");
    for (uint32_t i = 0; i < commit->leg_count; i++) {
        CommitLeg *leg = &commit->legs[i];
        if ((int)i == commit->decider)
            continue;
        if (!leg->part.writes)
            leg_say(leg, "COMMIT");
        else if (!commit->one_phase)
            leg_say_gid(leg, "PREPARE TRANSACTION");
    }
    commit->sent = commit->gid[0] ? "commit_prepare_sent" : NULL;
    phase_begun(commit);
}

static void decide(Commit *commit)
{
    CommitLeg *leg = &commit->legs[commit->decider];
    char sql[GID_SIZE + 64];
    phase_begin(commit, PHASE_DECIDE);
    snprintf(sql, sizeof sql, "SELECT shoal.decide('%s'); COMMIT", commit->gid);
    leg_say(leg, commit->gid[0] ? sql : "COMMIT");
    commit->sent = commit->gid[0] ? "commit_decision_sent" : NULL;
    phase_begun(commit);
}

static void finish(Commit *commit)
{
    phase_begin(commit, PHASE_FINISH);
    if (commit->gid[0])
        (void)FAILPOINT("commit_decided");
    for (uint32_t i = 0; i < commit->leg_count; i++) {
        CommitLeg *leg = &commit->legs[i];
        if (leg->state == LEG_PREPARED)
            leg_say_gid(leg, "COMMIT PREPARED");
        else if (leg->state == LEG_OPEN && commit->one_phase)
            leg_say(leg, "COMMIT");
    }
    commit->sent = commit->gid[0] ? "commit_second_sent" : NULL;
    phase_begun(commit);
}

static void undo(Commit *commit)
{
    phase_begin(commit, PHASE_UNDO);
    for (uint32_t i = 0; i < commit->leg_count; i++) {
        CommitLeg *leg = &commit->legs[i];
        if (leg->state == LEG_PREPARED)
            leg_say_gid(leg, "ROLLBACK PREPARED");
        else if (leg->state == LEG_OPEN)
            leg_say(leg, "ROLLBACK");
    }
    phase_begun(commit);
}

/* The decider's answer is lost: control asks its shard, and makes sure that the answer stays true. */
static void ask(Commit *commit)
{
    Worker *worker = commit->worker;
    phase_begin(commit, PHASE_ASK);
    Call *call = call_create(CALL_RESOLVE);
    if (call)
        call->text = arena_dup(&call->arena, slice_str(commit->gid));
    if (!call || !call->text.len) {
        call_free(call);
        commit_end(commit, COMMIT_UNKNOWN);
        return;
    }
    call->gid = call->text;
    call->deadline_ms = worker_config(worker)->commit_timeout_ms;
    call->database = arena_text(&call->arena, slice_str(commit->database));
    call->session_id = commit->session_id;
    call->reply = &worker->inbox;
    call->on_reply = commit_on_resolved;
    call->session = commit;
    call->mail.on_delivery = worker->options.on_call;
    commit->call = call;
    commit->moving = false;
    inbox_send(worker->options.control, &call->mail);
}

static void prepared(Commit *commit)
{
    bool failed = buf_len(&commit->error) > 0;
    for (uint32_t i = 0; i < commit->leg_count; i++) {
        CommitLeg *leg = &commit->legs[i];
        bool votes = (int)i != commit->decider && leg->part.writes && !commit->one_phase;
        if (votes && leg->state != LEG_PREPARED && !failed) {
            Error err;
            error_set(&err, "40000", "transaction was rolled back: shard %s had given it up before",
                      shard_name(commit, leg));
            keep_error(commit, &err);
            failed = true;
        }
    }
    if (failed) {
        (void)FAILPOINT("commit_prepare_failed");
        undo(commit);
        return;
    }
    if (commit->gid[0])
        (void)FAILPOINT("commit_prepared");
    if (commit->decider >= 0)
        decide(commit);
    else
        commit_end(commit, COMMIT_COMMITTED);
}

static void decided(Commit *commit)
{
    CommitLeg *leg = &commit->legs[commit->decider];
    if (leg->state == LEG_ENDED && !leg->failed && strcmp(leg->tag, "COMMIT") == 0)
        finish(commit);
    else if (leg->state == LEG_LOST && buf_len(&commit->error) == 0 && commit->gid[0])
        ask(commit);
    else if (leg->state == LEG_LOST && buf_len(&commit->error) == 0)
        commit_end(commit, COMMIT_UNKNOWN);
    else
        undo(commit);
}

/* Best effort has no way back: what is committed on one shard and not on another is told. */
static bool finished_all(Commit *commit)
{
    for (uint32_t i = 0; commit->one_phase && i < commit->leg_count; i++) {
        const CommitLeg *leg = &commit->legs[i];
        if (leg->state == LEG_ENDED && !leg->failed)
            continue;
        Error err;
        error_set(&err, SQLSTATE_OUTCOME_UNKNOWN, "transaction is committed on some shards, but not on shard %s",
                  shard_name(commit, leg));
        error_detail(&err, "commit_mode is one_phase_best_effort.");
        error_hint(&err, "Look at the rows on that shard; two_phase prevents this.");
        keep_error(commit, &err);
        return false;
    }
    return true;
}

static void phase_over(Commit *commit)
{
    switch (commit->phase) {
    case PHASE_PREPARE:
        prepared(commit);
        break;
    case PHASE_DECIDE:
        decided(commit);
        break;
    case PHASE_ASK:
        break;
    case PHASE_FINISH:
        commit_end(commit, finished_all(commit) ? COMMIT_COMMITTED : COMMIT_UNKNOWN);
        break;
    case PHASE_UNDO:
        commit_end(commit, commit->what == COMMIT_UNDO && buf_len(&commit->error) == 0 ? COMMIT_ROLLED_BACK
                                                                                       : COMMIT_FAILED);
        break;
    }
}

static void commit_on_resolved(Mail *mail, void *owner)
{
    Call *call = container_of(mail, Call, mail);
    Commit *commit = call->session;
    CallOutcome outcome = call->outcome;
    (void)owner;
    call_free(call);
    if (!commit)
        return;
    commit->call = NULL;
    if (outcome == CALL_COMMITTED) {
        finish(commit);
        return;
    }
    if (outcome == CALL_ABORTED) {
        Error err;
        error_set(&err, "40000", "transaction was rolled back: shard %s was lost before it had committed",
                  shard_name(commit, &commit->legs[commit->decider]));
        error_hint(&err, "Nothing of it was committed on any shard; run the transaction again.");
        keep_error(commit, &err);
        undo(commit);
        return;
    }
    commit_end(commit, COMMIT_UNKNOWN);
}

/* ---- the end --------------------------------------------------------------------------------------------- */

static void tell_unknown(Commit *commit)
{
    Error err;
    error_set(&err, SQLSTATE_OUTCOME_UNKNOWN, "connection to the server was lost while the transaction committed");
    if (commit->gid[0])
        error_detail(&err, "Transaction %s is in doubt: shard %s decides it.", commit->gid,
                     shard_name(commit, &commit->legs[commit->decider]));
    error_hint(&err, "The transaction may or may not have been committed; look before trying again.%s",
               commit->gid[0] ? " SHOW TRANSACTIONS on the console tells how it stands." : "");
    keep_error(commit, &err);
}

/* The connection goes back: to the session when it left state there, to its pool otherwise. */
static void leg_give_back(CommitLeg *leg, CommitResult result)
{
    Commit *commit = leg->commit;
    Backend *backend = leg->part.backend;
    bool committed = result == COMMIT_COMMITTED && leg->state == LEG_ENDED;
    if (!backend)
        return;
    if (leg->busy) {
        task_abandon(&leg->task);
        backend_release(backend, true);
        return;
    }
    if (leg->part.tx == TX_IDLE)
        backend_set_gucs(backend, committed ? commit->gucs : leg->part.settings);
    if (!leg->part.state || !commit->session || leg->part.tx != TX_IDLE) {
        backend_release(backend, leg->part.state);
        return;
    }
    backend_give(backend, commit->session);
    Participant *part = transaction_join(commit->session, backend, leg->part.shard, TX_IDLE,
                                         committed ? commit->gucs : leg->part.settings);
    if (part)
        part->state = true;
}

static void commit_free(Commit *commit)
{
    list_remove(&commit->link);
    for (uint32_t i = 0; i < commit->leg_count; i++)
        guc_release(&commit->worker->gucs, commit->legs[i].part.settings);
    guc_release(&commit->worker->gucs, commit->gucs);
    buf_finish(&commit->error);
    arena_finish(&commit->arena);
    free(commit);
}

/* A connection whose state was the session's has died with it. */
static bool lost_state(const Commit *commit)
{
    for (uint32_t i = 0; i < commit->leg_count; i++)
        if (commit->legs[i].part.state && !commit->legs[i].part.backend)
            return true;
    return false;
}

static void commit_end(Commit *commit, CommitResult result)
{
    Session *session = commit->session;
    if (result == COMMIT_COMMITTED && commit->gid[0])
        (void)FAILPOINT("commit_done");
    if (result == COMMIT_UNKNOWN)
        tell_unknown(commit);
    if (commit->call)
        commit->call->session = NULL;
    for (uint32_t i = 0; i < commit->leg_count; i++)
        leg_give_back(&commit->legs[i], result);
    if (session)
        session->commit = NULL;
    if (commit->done)
        commit->done(commit->ctx, result, buf_bytes(&commit->error));
    if (session && lost_state(commit)) {
        Error err;
        error_set(&err, SQLSTATE_CONNECTION_FAILURE, "connection to the server was lost");
        error_detail(&err, "The session had state on that server connection.");
        error_hint(&err, "Connect again.");
        session_fatal(session, &err);
    }
    if (result == COMMIT_COMMITTED && commit->gid[0])
        (void)FAILPOINT("commit_told");
    commit_free(commit);
}

void commit_on_held_lost(Commit *commit, Backend *backend)
{
    for (uint32_t i = 0; i < commit->leg_count; i++) {
        CommitLeg *leg = &commit->legs[i];
        if (leg->part.backend != backend)
            continue;
        leg->part.backend = NULL;
        leg->state = leg->state == LEG_ENDED ? LEG_ENDED : LEG_LOST;
        if (leg->state == LEG_LOST && (int)i == commit->decider) {
            Error err = *backend_last_error(backend);
            keep_lost(commit, leg, &err); /* it was not asked yet: PostgreSQL rolls it back */
        }
    }
}

/* Stops waiting for the servers that have not answered in time. */
static void commit_give_up(Commit *commit)
{
    commit->moving = true;
    for (uint32_t i = 0; i < commit->leg_count; i++) {
        CommitLeg *leg = &commit->legs[i];
        if (!leg->busy)
            continue;
        Error err;
        error_set(&err, SQLSTATE_CONNECTION_FAILURE, "shard %s did not answer within commit_timeout",
                  shard_name(commit, leg));
        task_abandon(&leg->task);
        backend_release(leg->part.backend, true);
        leg->part.backend = NULL;
        leg->busy = false;
        leg->failed = true;
        leg->state = LEG_LOST;
        commit->busy--;
        if (commit->phase == PHASE_PREPARE)
            keep_lost(commit, leg, &err);
    }
    commit->moving = false;
    phase_over(commit);
}

void commit_sweep(Worker *worker)
{
    LIST_EACH_SAFE(link, &worker->commits) {
        Commit *commit = list_entry(link, Commit, link);
        if (worker->loop.now_us < commit->deadline_us)
            continue;
        if (commit->phase == PHASE_ASK)
            commit_end(commit, COMMIT_UNKNOWN);
        else
            commit_give_up(commit);
    }
}

void commit_drop_all(Worker *worker)
{
    List *link;
    while ((link = list_first(&worker->commits))) {
        Commit *commit = list_entry(link, Commit, link);
        commit->done = NULL;
        commit->session = NULL;
        commit_end(commit, COMMIT_FAILED);
    }
}

void commit_detach(Commit *commit)
{
    commit->done = NULL;
    commit->session = NULL;
}

void commit_on_flushed(Worker *worker)
{
#ifdef SHOAL_FAILPOINTS
    LIST_EACH_SAFE(link, &worker->commits) {
        Commit *commit = list_entry(link, Commit, link);
        const char *sent = commit->sent;
        commit->sent = NULL;
        if (sent)
            (void)FAILPOINT(sent);
    }
#else
    (void)worker;
#endif
}

/* ---- the beginning --------------------------------------------------------------------------------------- */

/* Takes the participants over from the session. */
static bool take_legs(Commit *commit, Session *session)
{
    uint32_t size = transaction_size(session);
    commit->legs = arena_array(&commit->arena, CommitLeg, size + 1);
    commit->database = arena_text(&commit->arena, slice_str(session->database));
    if (!commit->legs || !commit->database)
        return false;
    for (uint32_t i = session->part_count; i-- > 0;) {
        Participant *part = &session->parts[i];
        if (part->tx == TX_IDLE)
            continue;
        CommitLeg *leg = &commit->legs[commit->leg_count++];
        *leg = (CommitLeg){.commit = commit, .sink.ops = &LEG_OPS, .part = *part};
        leg->part.settings = guc_retain(part->settings);
        backend_give(part->backend, commit);
        transaction_leave(session, part->shard);
    }
    return true;
}

/* One writer decides: one that left session state (temporary tables, LISTEN), because PostgreSQL does
 * not prepare such a transaction, else the last. Two or more need a name for what they do together. */
static bool choose_decider(Commit *commit, Error *err)
{
    Worker *worker = commit->worker;
    uint32_t writers = 0;
    commit->decider = -1;
    for (uint32_t i = 0; i < commit->leg_count; i++) {
        if (!commit->legs[i].part.writes)
            continue;
        writers++;
        if (commit->decider < 0 || !commit->legs[commit->decider].part.state)
            commit->decider = (int)i;
    }
    if (writers < 2 || commit->one_phase)
        return true;
    uint64_t n = worker->next_commit;
    worker->next_commit += worker->options.count; /* unique over all workers */
    return gid_make(worker->options.gid, n, shard_name(commit, &commit->legs[commit->decider]),
                    commit->gid, err);
}

void commit_start(Session *session, CommitWhat what, CommitDone *done, void *ctx)
{
    Worker *worker = session->worker;
    Commit *commit = calloc(1, sizeof *commit);
    Error err;
    if (commit) {
        *commit = (Commit){.holder.kind = HOLDER_COMMIT, .worker = worker, .session = session,
                           .session_id = session->id, .begun_us = worker->loop.now_us, .done = done, .ctx = ctx, .what = what};
        commit->one_phase = session_database(session, worker->topology)->commit_mode == COMMIT_ONE_PHASE;
        arena_init(&commit->arena, 1024);
        buf_init(&commit->error, 1 << 20);
        list_init(&commit->link);
        commit->gucs = guc_retain(session_gucs(session));
    }
    if (!commit || !take_legs(commit, session)) {
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        if (commit)
            commit_free(commit);
        session_fatal(session, &err); /* its connections are rolled back */
        return;
    }
    list_push(&worker->commits, &commit->link);
    session->commit = commit;
    if (commit->leg_count > 1 && what == COMMIT_DO)
        (void)FAILPOINT("commit_received");
    if (what == COMMIT_DO && !choose_decider(commit, &err)) {
        keep_error(commit, &err);
        what = COMMIT_UNDO;
    }
    if (what == COMMIT_UNDO) {
        undo(commit);
        return;
    }
    if (commit->gid[0])
        (void)FAILPOINT("commit_named");
    prepare(commit);
}

/* ---- the client's own -------------------------------------------------------------------------------------- */

typedef struct ClientCommit {
    Request *request;
    bool chain;
} ClientCommit;

/* AND CHAIN: the next transaction has the characteristics of this one, and no participants yet. */
static void next_of_chain(Session *session, Script *begin)
{
    session->script = *begin;
    session->gucs_tx = guc_retain(session->gucs);
    session->spread = true;
    session->tx = TX_BLOCK;
}

static void on_client_commit(void *ctx, CommitResult result, Slice error)
{
    ClientCommit *client = ctx;
    Request *request = client->request;
    Session *session = request->session;
    bool committed = result == COMMIT_COMMITTED;
    bool good = committed || result == COMMIT_ROLLED_BACK;
    bool ddl = session->tx_ddl && (committed || result == COMMIT_UNKNOWN);
    Script begin = {0};
    if (good && client->chain) {
        script_chain(&session->script);
        begin = session->script;
        session->script = (Script){0};
    }
    effect_transaction_over(session, committed);
    session->tx_ddl = false;
    if (good && client->chain)
        next_of_chain(session, &begin);
    if (good) {
        Buf tag;
        buf_init(&tag, 64);
        backend_put_command_complete(&tag, committed ? SLICE("COMMIT") : SLICE("ROLLBACK"));
        local_close(request, buf_bytes(&tag));
        buf_finish(&tag);
    } else {
        local_close(request, error);
    }
    if (!ddl || session->tx != TX_IDLE || !local_read_catalog(request))
        request_end(request, session->tx);
}

void commit_transaction(Request *request, CommitWhat what, bool chain)
{
    Session *session = request->session;
    ClientCommit *client = arena_new(&request->arena, ClientCommit);
    request_cut(request); /* what comes behind a Flush is another question */
    if (!client) {
        Error err;
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        session_fatal(session, &err);
        return;
    }
    *client = (ClientCommit){request, chain};
    if (session->tx_set_undone && what == COMMIT_DO && session->part_count)
        session->parts[0].state = true; /* what it has set, nobody knows: it stays there */
    commit_start(session, what, on_client_commit, client);
}

/* ---- for reports -------------------------------------------------------------------------------------------- */

Commit *commit_next(Worker *worker, Commit *before)
{
    List *next = before ? before->link.next : worker->commits.next;
    return next == &worker->commits ? NULL : list_entry(next, Commit, link);
}

const char *commit_gid(const Commit *commit)
{
    return commit->gid;
}

uint64_t commit_session_id(const Commit *commit)
{
    return commit->session_id;
}

const char *commit_database(const Commit *commit)
{
    return commit->database;
}

const char *commit_phase(const Commit *commit)
{
    static const char *const NAMES[] = {
        [PHASE_PREPARE] = "preparing", [PHASE_DECIDE] = "deciding", [PHASE_ASK] = "asking the decider",
        [PHASE_FINISH] = "committing", [PHASE_UNDO] = "rolling back"};
    return NAMES[commit->phase];
}

const char *commit_shards(const Commit *commit, Arena *arena)
{
    char names[256] = "";
    for (uint32_t i = 0; i < commit->leg_count; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? "," : "", shard_name(commit, &commit->legs[i]));
    }
    return arena_text(arena, slice_str(names));
}

uint64_t commit_age_ms(const Commit *commit)
{
    return (commit->worker->loop.now_us - commit->begun_us) / 1000;
}
