/*
 * scatter.c - drives the legs: begin, first error, last end, then the commit, then the answer.
 *
 *      leg_begin ──> pool or participant ──> leg_on_frame ... leg_on_ready ──> scatter_go_on
 *                                                                                │ all done
 *                         answer <── scatter_end <── commit (Shoal's own) <── scatter_finish
 *
 * A connection on which a leg ran inside a transaction is a participant from then on, whatever became
 * of the statement: it is committed or rolled back with the others.
 */
#include "router/scatter.h"

#include <stdio.h>

#include "router/commit.h"
#include "router/composer.h"
#include "router/dispatch.h"
#include "router/effect.h"
#include "router/encode.h"
#include "router/local.h"
#include "router/transaction.h"
#include "router/verdict.h"
#include "router/worker_state.h"
#include "wire/backend.h"

static void scatter_go_on(Scatter *scatter);

static Session *session_of(const Scatter *scatter)
{
    return scatter->request->session;
}

static bool in_transaction(const Scatter *scatter)
{
    return scatter->implicit || session_of(scatter)->tx != TX_IDLE;
}

/* ---- the first error ------------------------------------------------------------------------------- */

/* What runs is stopped. Legs of a transaction are waited for: their connections belong to it. */
static void leg_let_go(Leg *leg, bool ok)
{
    reads_leg_end(leg->scatter->worker, &leg->read, ok);
    buf_finish(&leg->said);
}

static void stop_legs(Scatter *scatter, bool wait)
{
    for (uint32_t i = 0; i < scatter->leg_count; i++) {
        Leg *leg = &scatter->legs[i];
        if (leg->state != LEG_RUNNING)
            continue;
        leg->paused = 0;
        if (leg->task.backend)
            backend_resume(leg->task.backend);
        if (scatter->ops->on_stop)
            scatter->ops->on_stop(scatter, leg);
        if (wait || in_transaction(scatter)) {
            task_cancel(&leg->task);
            continue;
        }
        task_abandon(&leg->task);
        leg_let_go(leg, true);
        leg->state = LEG_DONE;
        scatter->running--;
        scatter->done++;
    }
}

static void fail_with_frame(Scatter *scatter, Slice frame)
{
    if (scatter->failed)
        return;
    scatter->failed = true;
    buf_append(&scatter->error, frame);
}

void scatter_fail(Scatter *scatter, const Error *err)
{
    if (scatter->failed)
        return;
    scatter->failed = true;
    backend_put_error(&scatter->error, SEVERITY_ERROR, err);
    stop_legs(scatter, true); /* a composer may be inside the answer of one of them */
}

void scatter_enough(Scatter *scatter)
{
    scatter->enough = true;
    if (!in_transaction(scatter)) /* a cancelled leg would fail the transaction: its rows are passed over */
        stop_legs(scatter, false);
}

/* ---- answers ---------------------------------------------------------------------------------------- */

static void leg_frame(Leg *leg, Task *task, const Frame *frame)
{
    Scatter *scatter = leg->scatter;
    Request *request = scatter->request;
    if (frame->type == BACKEND_ERROR) {
        Frame verdict;
        leg->failed = true;
        if (verdict_replaces(request->session, frame, &verdict))
            frame = &verdict;
        fail_with_frame(scatter, frame->whole);
        return; /* the others are stopped when this leg's ReadyForQuery is here */
    }
    if (scatter->failed && frame->type == BACKEND_COPY_IN && scatter->ops->on_stop)
        scatter->ops->on_stop(scatter, leg);
    if (scatter->failed || scatter->enough)
        return;
    if (frame->type == BACKEND_DATA_ROW) {
        leg->rows++;
        leg->bytes += frame->body.len;
    }
    if (frame->type == BACKEND_NOTICE && leg->index && scatter->ops == &COMPOSER_FIRST)
        return; /* the same again */
    if (frame->type == BACKEND_NOTICE) {
        buf_append(request_out(request), frame->whole);
        request_touch(request);
        return;
    }
    scatter->ops->on_frame(scatter, leg, frame);
    if (stream_choked(&session_of(scatter)->stream) && task->backend)
        leg_pause(leg, LEG_PAUSE_CLIENT);
}

/* What was held is heard; from here on it is the answer, whatever comes. */
static void leg_speak(Leg *leg, Task *task)
{
    Buf said = leg->said;
    Frame frame;
    Error err;
    buf_init(&leg->said, 0);
    leg->spoke = true;
    for (Slice rest = buf_bytes(&said); frame_next(rest, SIZE_MAX, &frame, &err) == WIRE_OK;
         rest = slice_from(rest, frame.whole.len))
        leg_frame(leg, task, &frame);
    buf_finish(&said);
}

static bool may_run_again(const Leg *leg)
{
    return leg->read.pool && !leg->spoke && !leg->scatter->failed && !leg->scatter->enough;
}

/* With what is to be said beside its error. */
static void leg_answer(Leg *leg, Task *task, const Frame *frame, const ReadDenial *denial)
{
    Frame told;
    Buf buf;
    buf_init(&buf, READ_HOLD_MAX);
    leg_frame(leg, task, read_denial_put(denial, frame, &buf, &told) ? &told : frame);
    buf_finish(&buf);
}

static void leg_on_frame(Sink *sink, Task *task, const Frame *frame)
{
    Leg *leg = container_of(sink, Leg, sink);
    bool primary_only;
    ReadDenial denial = {0};
    if (leg->again)
        return;
    if (!leg->read.pool || leg->spoke) {
        leg_frame(leg, task, frame);
        return;
    }
    leg->again = frame->type == BACKEND_ERROR && may_run_again(leg) && reads_may_differ(frame, &primary_only) &&
                 reads_leg_again(leg->scatter->worker, &leg->read, primary_only, &denial);
    if (leg->again)
        return;
    bool speaks = frame->type == BACKEND_DATA_ROW || frame->type == BACKEND_COPY_DATA || frame->type == BACKEND_ERROR ||
                  buf_len(&leg->said) + frame->whole.len > READ_HOLD_MAX;
    if (!speaks) {
        buf_append(&leg->said, frame->whole);
        return;
    }
    leg_speak(leg, task);
    leg_answer(leg, task, frame, &denial);
}

static void leg_begin(Leg *leg);

static void leg_run_again(Leg *leg, bool ok)
{
    leg_let_go(leg, ok);
    leg->again = false;
    leg->on_primary = true;
    leg->scatter->running--;
    leg_begin(leg);
    if (leg->state == LEG_DONE) /* there is no primary either */
        scatter_go_on(leg->scatter);
}

static void leg_over(Leg *leg)
{
    Scatter *scatter = leg->scatter;
    leg_let_go(leg, !leg->failed || scatter->failed);
    leg->state = LEG_DONE;
    scatter->running--;
    scatter->done++;
    if (scatter->failed)
        stop_legs(scatter, false);
    else if (!scatter->enough && scatter->ops->on_leg_end)
        scatter->ops->on_leg_end(scatter, leg);
    scatter_go_on(scatter);
}

static void leg_on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    Leg *leg = container_of(sink, Leg, sink);
    Scatter *scatter = leg->scatter;
    Session *session = session_of(scatter);
    if (!last)
        return;
    latency_on_answer(scatter->request, task);
    if (leg->again && !task->cancelled && may_run_again(leg)) {
        leg_run_again(leg, true);
        return;
    }
    if (leg->read.pool && !leg->spoke)
        leg_speak(leg, task);
    if (in_transaction(scatter)) {
        if (tx_status == TX_IDLE) { /* PostgreSQL never does that; it must not pass for a commit */
            Error err;
            error_set(&err, SQLSTATE_INTERNAL, "shard %s ended the transaction by itself",
                      worker_config(scatter->worker)->shards[leg->shard].name);
            scatter_fail(scatter, &err);
            task_hold(task);
        }
        Participant *part = transaction_join(session, task->backend, leg->shard, tx_status, task->gucs,
                                             scatter->request->planned_version);
        if (part)
            part->writes |= scatter->writes;
    } else if (leg->held) {
        task_hold(task);
    }
    leg_over(leg);
}

static void tell_unknown(Error *err)
{
    Error first = *err;
    error_set(err, SQLSTATE_STATEMENT_UNKNOWN, "connection to the server was lost while the statement ran");
    error_detail(err, "%s: %s", first.message, first.detail);
    error_hint(err, "The statement may or may not have taken effect there; look before trying again.");
}

static void leg_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    Leg *leg = container_of(sink, Leg, sink);
    Scatter *scatter = leg->scatter;
    Session *session = session_of(scatter);
    Error told = *err;
    ReadDenial denial = {0};
    latency_on_answer(scatter->request, task);
    if (may_run_again(leg) && !task->cancelled && reads_leg_again(leg->scatter->worker, &leg->read, false, &denial)) {
        leg_run_again(leg, false);
        return;
    }
    read_denial_add(&denial, &told);
    leg->failed = true;
    if (scatter->writes && maybe_executed && !in_transaction(scatter))
        tell_unknown(&told);
    Participant *part = transaction_part(session, leg->shard);
    if (leg->held && part && backend_state(part->backend) == BACKEND_DEAD) {
        bool state = part->state;
        session->tx_lost |= part->tx != TX_IDLE && !scatter->implicit;
        transaction_leave(session, leg->shard);
        if (state) {
            session_fatal(session, &told);
            return; /* the reaper abandons the rest */
        }
    }
    if (!scatter->failed)
        backend_put_error(&scatter->error, SEVERITY_ERROR, &told);
    scatter->failed = true;
    leg_over(leg);
}

static const SinkOps LEG_OPS = {
    .on_frame = leg_on_frame,
    .on_ready = leg_on_ready,
    .on_lost = leg_on_lost,
};

/* ---- pausing ----------------------------------------------------------------------------------------- */

void leg_pause(Leg *leg, LegPause why)
{
    if (leg->state != LEG_RUNNING || !leg->task.backend)
        return;
    leg->paused |= why;
    backend_pause(leg->task.backend);
}

void leg_resume(Leg *leg, LegPause why)
{
    if (!(leg->paused & why))
        return;
    leg->paused &= ~(unsigned)why;
    if (!leg->paused && leg->state == LEG_RUNNING && leg->task.backend)
        backend_resume(leg->task.backend);
}

void scatter_drained(Scatter *scatter)
{
    for (uint32_t i = 0; i < scatter->leg_count; i++)
        leg_resume(&scatter->legs[i], LEG_PAUSE_CLIENT);
}

/* ---- legs begin -------------------------------------------------------------------------------------- */

/* The shard joins the transaction in the same write as its first statement. */
static bool leg_open(Leg *leg)
{
    Session *session = session_of(leg->scatter);
    Arena *arena = &leg->scatter->request->arena;
    Slice opening = transaction_opening(session, arena);
    TaskStep *steps = arena_array(arena, TaskStep, leg->step_count + 1);
    if (!opening.len || !steps)
        return false;
    steps[0] = (TaskStep){.op = TASK_QUERY, .hidden = true, .frame = opening};
    memcpy(steps + 1, leg->steps, leg->step_count * sizeof *steps);
    leg->steps = steps;
    leg->step_count++;
    return true;
}

/* Reads outside of a transaction go where single ones would go. */
static Pool *leg_pool(Leg *leg, Error *err)
{
    Scatter *scatter = leg->scatter;
    Session *session = session_of(scatter);
    if (!scatter->writes && !in_transaction(scatter) && !leg->on_primary) {
        buf_init(&leg->said, READ_HOLD_MAX + 8192);
        if (!reads_leg_begin(scatter->request, leg->shard, &leg->read, err))
            return NULL;
        if (leg->read.pool)
            return leg->read.pool;
    }
    Pool *pool = dispatch_pool(session, leg->shard);
    if (!pool)
        dispatch_no_pool(session, leg->shard, err);
    return pool;
}

static void leg_begin(Leg *leg)
{
    Scatter *scatter = leg->scatter;
    Session *session = session_of(scatter);
    Participant *part = transaction_part(session, leg->shard);
    bool joins = in_transaction(scatter) && (!part || part->tx == TX_IDLE);
    Error err;
    error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    Pool *pool = part ? NULL : leg_pool(leg, &err);
    leg->held = part != NULL;
    leg->state = LEG_RUNNING;
    scatter->running++;
    if ((joins && !leg_open(leg)) || (!part && !pool)) {
        leg_let_go(leg, true);
        leg->state = LEG_DONE;
        scatter->running--;
        scatter->done++;
        scatter_fail(scatter, &err);
        return;
    }
    task_init(&leg->task, &leg->sink, leg->steps, leg->step_count);
    leg->task.gucs = session_gucs(session);
    leg->task.holder = part || in_transaction(scatter) ? session : NULL;
    leg->task.read_only = !scatter->writes && !in_transaction(scatter);
    if (part)
        backend_run(part->backend, &leg->task);
    else
        pool_submit(pool, &leg->task);
}

/* ---- the end ------------------------------------------------------------------------------------------ */

static void scatter_free(Scatter *scatter)
{
    if (scatter->ops->on_free)
        scatter->ops->on_free(scatter);
    buf_finish(&scatter->error);
    scatter->request->scatter = NULL;
}

/* Some legs are done and others are not, and nothing will undo them: the client must know which. */
static void tell_done(Scatter *scatter)
{
    const Config *config = worker_config(scatter->worker);
    ErrorResponse first;
    Frame frame;
    Error err, ignored;
    char names[256] = "";
    const char *failed = NULL;
    for (uint32_t i = 0; i < scatter->leg_count; i++) {
        const Leg *leg = &scatter->legs[i];
        size_t used = strlen(names);
        if (leg->failed)
            failed = config->shards[leg->shard].name;
        else if (leg->began && leg->state == LEG_DONE)
            snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", config->shards[leg->shard].name);
    }
    if (!names[0] || !failed || frame_next(buf_bytes(&scatter->error), SIZE_MAX, &frame, &ignored) != WIRE_OK ||
        backend_read_error(frame.body, &first, &ignored) != WIRE_OK)
        return;
    error_response_copy(&first, &err);
    error_detail(&err, "It failed on shard %s and is done on: %s.", failed, names);
    error_hint(&err, "Put the cause right and run the statement again, with IF [NOT] EXISTS where it has it.");
    buf_reset(&scatter->error);
    backend_put_error(&scatter->error, SEVERITY_ERROR, &err);
}

static void scatter_end(Scatter *scatter)
{
    Request *request = scatter->request;
    Session *session = request->session;
    bool failed = scatter->failed;
    bool catalog = scatter->catalog && session->tx == TX_IDLE && (!failed || scatter->tells_done);
    if (failed && scatter->tells_done)
        tell_done(scatter);
    if (failed)
        local_close(request, buf_bytes(&scatter->error));
    else
        scatter->ops->on_end(scatter);
    if (failed)
        encode_drop_unconfirmed(request);
    if (session->tx != TX_IDLE)
        effect_everywhere(request, failed ? TX_FAILED : TX_BLOCK);
    scatter_free(scatter);
    if (!catalog || !local_read_catalog(request))
        request_end(request, session->tx);
}

static void on_committed(void *ctx, CommitResult result, Slice error)
{
    Scatter *scatter = ctx;
    Session *session = session_of(scatter);
    session->commit = NULL;
    session->implicit = session->tx_lost = false;
    script_clear(&session->script);
    if (result == COMMIT_FAILED || result == COMMIT_UNKNOWN)
        fail_with_frame(scatter, error);
    scatter_end(scatter);
}

static void scatter_finish(Scatter *scatter)
{
    scatter->finishing = true;
    if (scatter->failed || !scatter->ops->on_legs_done || scatter->ops->on_legs_done(scatter))
        scatter_go_to_end(scatter);
}

void scatter_go_to_end(Scatter *scatter)
{
    Session *session = session_of(scatter);
    if (scatter->implicit && session->tx_lost && !scatter->failed) {
        Error err; /* between two legs, with nothing in flight */
        error_set(&err, SQLSTATE_CONNECTION_FAILURE, "connection to the server was lost");
        error_detail(&err, "The statement had run on that shard, and was not committed.");
        scatter_fail(scatter, &err);
    }
    if (scatter->implicit)
        commit_start(session, scatter->failed ? COMMIT_UNDO : COMMIT_DO, on_committed, scatter);
    else
        scatter_end(scatter);
}

/* The next leg, or the end. */
static void scatter_go_on(Scatter *scatter)
{
    bool stop = scatter->failed || scatter->enough;
    for (uint32_t i = 0; i < scatter->leg_count && !stop; i++) {
        Leg *leg = &scatter->legs[i];
        if (leg->state != LEG_WAITING || (scatter->sequential && scatter->running))
            continue;
        leg->began = true;
        leg_begin(leg);
        stop = scatter->failed;
    }
    if (scatter->running == 0 && !scatter->finishing)
        scatter_finish(scatter);
}

static bool scatter_fill(Scatter *scatter, const ScatterSpec *spec)
{
    Session *session = session_of(scatter);
    Arena *arena = &scatter->request->arena;
    scatter->legs = arena_array(arena, Leg, spec->leg_count);
    if (!scatter->legs)
        return false;
    for (uint32_t i = 0; i < spec->leg_count; i++)
        scatter->legs[i] = (Leg){.scatter = scatter, .index = i, .shard = spec->legs[i].shard,
                                 .sink.ops = &LEG_OPS, .steps = spec->legs[i].steps,
                                 .step_count = spec->legs[i].step_count};
    scatter->leg_count = spec->leg_count;
    scatter->implicit = spec->atomic && session->tx == TX_IDLE;
    session->implicit = scatter->implicit;
    return !scatter->implicit ||
           script_add(&session->script, SCRIPT_BEGIN, (Slice){0}, SLICE("BEGIN"));
}

static bool may_write(const Session *session, const ScatterSpec *spec, Error *err)
{
    uint32_t *shards = arena_array(&session->worker->scratch, uint32_t, spec->leg_count);
    for (uint32_t i = 0; shards && i < spec->leg_count; i++)
        shards[i] = spec->legs[i].shard;
    if (shards)
        return transaction_may_write(session, shards, spec->leg_count, err);
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

void scatter_start(Request *request, const ScatterSpec *spec)
{
    Session *session = request->session;
    Error err;
    if (spec->atomic && spec->writes && !may_write(session, spec, &err)) {
        dispatch_error(request, &err);
        return;
    }
    Scatter *scatter = arena_new(&request->arena, Scatter);
    request_cut(request); /* what comes behind a Flush is another question */
    if (scatter) {
        *scatter = (Scatter){.request = request, .worker = session->worker, .ops = spec->ops,
                             .composer = spec->composer, .sequential = spec->sequential,
                             .atomic = spec->atomic, .writes = spec->writes, .catalog = spec->catalog,
                             .tells_done = spec->tells_done};
        buf_init(&scatter->error, 1 << 20);
    }
    if (!scatter || !scatter_fill(scatter, spec)) {
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        session_fatal(session, &err);
        return;
    }
    request->scatter = scatter;
    scatter_go_on(scatter);
}

void scatter_cancel(Scatter *scatter)
{
    if (scatter->finishing)
        return; /* it commits */
    if (scatter->sequential && !scatter->running)
        return;
    for (uint32_t i = 0; i < scatter->leg_count; i++)
        if (scatter->legs[i].state == LEG_RUNNING)
            task_cancel(&scatter->legs[i].task);
}

void scatter_abandon(Scatter *scatter)
{
    Session *session = session_of(scatter);
    for (uint32_t i = 0; i < scatter->leg_count; i++)
        if (scatter->legs[i].state == LEG_RUNNING) {
            task_abandon(&scatter->legs[i].task);
            leg_let_go(&scatter->legs[i], true);
        }
    if (session->commit)
        commit_detach(session->commit);
    session->commit = NULL;
    scatter_free(scatter);
}
