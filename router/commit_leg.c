/*
 * commit_leg.c - one participant of a commit: what is said to it, and what its answer means.
 *
 *     OPEN ── PREPARE TRANSACTION ──> PREPARED ── COMMIT PREPARED ──> ENDED
 *       └──── COMMIT, ROLLBACK ─────────────────────────────────────> ENDED
 *     any  ── its connection is gone, or no answer in time ─────────> LOST
 */
#include <stdio.h>

#include "core/failpoint.h"
#include "router/commit_state.h"
#include "router/worker_state.h"
#include "wire/backend.h"

/* ---- errors ------------------------------------------------------------------------------------------ */

void commit_keep_frame(Commit *commit, Slice frame)
{
    if (buf_len(&commit->error) == 0)
        buf_append(&commit->error, frame);
}

void commit_keep_error(Commit *commit, const Error *err)
{
    if (buf_len(&commit->error) == 0)
        backend_put_error(&commit->error, SEVERITY_ERROR, err);
}

const char *commit_leg_shard(const Commit *commit, const CommitLeg *leg)
{
    const Config *config = worker_config(commit->worker);
    return leg->part.shard < config->shard_count ? config->shards[leg->part.shard].name : "?";
}

void commit_keep_lost(Commit *commit, const CommitLeg *leg, const Error *cause)
{
    Error err;
    error_set(&err, "40000", "transaction was rolled back: shard %s was lost before it could commit",
              commit_leg_shard(commit, leg));
    error_detail(&err, "%s", cause->message);
    error_hint(&err, "Nothing of it was committed on any shard; run the transaction again.");
    commit_keep_error(commit, &err);
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
            commit_keep_frame(leg->commit, frame->whole);
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
        commit_phase_over(commit);
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
        commit_keep_lost(commit, leg, err);
    if (commit->phase == PHASE_DECIDE && !maybe_executed)
        commit_keep_lost(commit, leg, err);
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

void commit_leg_say(CommitLeg *leg, const char *sql)
{
    Commit *commit = leg->commit;
    Buf frame;
    buf_init(&frame, sql ? strlen(sql) + 64 : 64);
    if (sql)
        frontend_put_query(&frame, slice_str(sql));
    leg->step = (TaskStep){.op = TASK_QUERY, .frame = arena_dup(&commit->arena, buf_bytes(&frame))};
    buf_finish(&frame);
    leg->failed = false;
    leg->tag[0] = '\0';
    if (!leg->step.frame.len) { /* no memory for a few bytes: as if the server were lost */
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

/* What a server has prepared it does not lose; a standby in its place may never have had it. */
static bool has_standbys(const CommitLeg *leg)
{
    const Config *config = worker_config(leg->commit->worker);
    return leg->part.shard < config->shard_count && config->shards[leg->part.shard].replica_count > 0;
}

/* In one message, so that it costs no round. The row becomes visible when the part is committed. */
void commit_leg_prepare(CommitLeg *leg)
{
    char sql[2 * GID_SIZE + 64];
    const char *gid = leg->commit->gid;
    leg->evident = has_standbys(leg);
    if (!leg->evident) {
        commit_leg_say_gid(leg, "PREPARE TRANSACTION");
        return;
    }
    snprintf(sql, sizeof sql, "SELECT shoal.branch('%s'); PREPARE TRANSACTION '%s'", gid, gid);
    commit_leg_say(leg, sql);
}

void commit_leg_say_gid(CommitLeg *leg, const char *verb)
{
    char sql[GID_SIZE + 64];
    snprintf(sql, sizeof sql, "%s '%s'", verb, leg->commit->gid);
    commit_leg_say(leg, sql);
}

/* ---- from the session, and back -------------------------------------------------------------------- */

/* Takes the participants over from the session. */
bool commit_take_legs(Commit *commit, Session *session)
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

/* The connection goes back: to the session when it left state there, to its pool otherwise. */
void commit_leg_give_back(CommitLeg *leg, CommitResult result)
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
                                         committed ? commit->gucs : leg->part.settings, 0);
    if (part)
        part->state = true;
}
