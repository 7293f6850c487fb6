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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/failpoint.h"
#include "core/log.h"
#include "router/commit_state.h"
#include "router/worker_state.h"
#include "wire/backend.h"

static void commit_on_resolved(Mail *mail, void *owner);
static void commit_end(Commit *commit, CommitResult result);

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
        commit_phase_over(commit);
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
            commit_leg_say(leg, "COMMIT");
        else if (!commit->one_phase)
            commit_leg_prepare(leg);
    }
    commit->sent = commit->gid[0] ? "commit_prepare_sent" : NULL;
    phase_begun(commit);
}

/* The shards with evidence of a part: recovery looks for each before it forgets the decision.
 * Their names need no quoting (meta/config_cluster.c). NULL: no memory. */
static const char *branches(Commit *commit)
{
    const char *names = "";
    for (uint32_t i = 0; names && i < commit->leg_count; i++)
        if (commit->legs[i].state == LEG_PREPARED && commit->legs[i].evident)
            names = arena_printf(&commit->arena, "%s%s%s", names, *names ? "," : "",
                                 commit_leg_shard(commit, &commit->legs[i]));
    return names;
}

static void decide(Commit *commit)
{
    CommitLeg *leg = &commit->legs[commit->decider];
    const char *names = branches(commit), *sql = "COMMIT";
    phase_begin(commit, PHASE_DECIDE);
    if (commit->gid[0])
        sql = names ? arena_printf(&commit->arena, "SELECT shoal.decide('%s', '%s'); COMMIT", commit->gid, names) : NULL;
    commit_leg_say(leg, sql);
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
            commit_leg_say_gid(leg, "COMMIT PREPARED");
        else if (leg->state == LEG_OPEN && commit->one_phase)
            commit_leg_say(leg, "COMMIT");
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
            commit_leg_say_gid(leg, "ROLLBACK PREPARED");
        else if (leg->state == LEG_OPEN)
            commit_leg_say(leg, "ROLLBACK");
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
                      commit_leg_shard(commit, leg));
            commit_keep_error(commit, &err);
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
                  commit_leg_shard(commit, leg));
        error_detail(&err, "commit_mode is one_phase_best_effort.");
        error_hint(&err, "Look at the rows on that shard; two_phase prevents this.");
        commit_keep_error(commit, &err);
        return false;
    }
    return true;
}

void commit_phase_over(Commit *commit)
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
                  commit_leg_shard(commit, &commit->legs[commit->decider]));
        error_hint(&err, "Nothing of it was committed on any shard; run the transaction again.");
        commit_keep_error(commit, &err);
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
                     commit_leg_shard(commit, &commit->legs[commit->decider]));
    error_hint(&err, "The transaction may or may not have been committed; look before trying again.%s",
               commit->gid[0] ? " SHOW TRANSACTIONS on the console tells how it stands." : "");
    commit_keep_error(commit, &err);
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
        commit_leg_give_back(&commit->legs[i], result);
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
            commit_keep_lost(commit, leg, &err); /* it was not asked yet: PostgreSQL rolls it back */
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
                  commit_leg_shard(commit, leg));
        task_abandon(&leg->task);
        backend_release(leg->part.backend, true);
        leg->part.backend = NULL;
        leg->busy = false;
        leg->failed = true;
        leg->state = LEG_LOST;
        commit->busy--;
        if (commit->phase == PHASE_PREPARE)
            commit_keep_lost(commit, leg, &err);
    }
    commit->moving = false;
    commit_phase_over(commit);
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
    return gid_make(worker->options.gid, n, commit_leg_shard(commit, &commit->legs[commit->decider]),
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
    if (!commit || !commit_take_legs(commit, session)) {
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
        commit_keep_error(commit, &err);
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
