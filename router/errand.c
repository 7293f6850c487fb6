/*
 * errand.c - drives the turns. While one runs, the request looks like a Query of Shoal's own, and request_out is
 * `answer`; then the client's steps come back and are answered.
 */
#include "router/errand.h"

#include "router/commit.h"
#include "router/dispatch.h"
#include "router/effect.h"
#include "router/local.h"
#include "router/transaction.h"
#include "router/worker_state.h"
#include "wire/backend.h"

static Session *session_of(const Errand *errand)
{
    return errand->request->session;
}

/* ---- the end ------------------------------------------------------------------------------------------ */

/* The client's own steps and statement stand in the request again. */
static void come_back(Errand *errand)
{
    Request *request = errand->request;
    request->capture = NULL;
    request->steps = errand->steps;
    request->step_count = errand->step_count;
    request->step_room = errand->step_room;
    request->dealt = errand->dealt;
    request->planned = errand->statement;
    request->planned_count = request->planned_room = 1;
    request->prepared_count = request->step_count;
    request->local_error = NULL;
    request->error_seen = request->opening = request->on_held = false;
    if (!request->parameter_description.len)
        request->parameter_description = errand->described;
}

static void answer_client(Errand *errand)
{
    Request *request = errand->request;
    Buf answer = errand->answer;
    errand->answer = (Buf){0};
    come_back(errand);
    errand_free(errand);
    local_answer(request, buf_bytes(&answer), request->session->tx);
    buf_finish(&answer);
}

static void on_committed(void *ctx, CommitResult result, Slice error)
{
    Errand *errand = ctx;
    Session *session = session_of(errand);
    session->commit = NULL;
    effect_transaction_over(session, result == COMMIT_COMMITTED);
    if (error.len) {
        buf_reset(&errand->answer);
        buf_append(&errand->answer, error);
    }
    answer_client(errand);
}

/* `answer` holds what the client is to hear. */
static void errand_close(Errand *errand, bool good)
{
    Session *session = session_of(errand);
    if (!errand->unseen || session->tx == TX_IDLE)
        answer_client(errand);
    else
        commit_start(session, good ? COMMIT_DO : COMMIT_UNDO, on_committed, errand);
}

/* An error of Shoal's own: a transaction of the client's has failed by it, on all its shards. */
static void errand_fail(Errand *errand, const Error *err)
{
    Request *request = errand->request;
    if (errand->unseen) {
        buf_reset(&errand->answer);
        backend_put_error(&errand->answer, SEVERITY_ERROR, err);
        errand_close(errand, false);
        return;
    }
    come_back(errand);
    errand_free(errand);
    dispatch_error(request, err);
}

/* ---- turns --------------------------------------------------------------------------------------------- */

static void turn_begin(Errand *errand)
{
    Request *request = errand->request;
    TaskStep *step = arena_new(&request->arena, TaskStep);
    Error err;
    if (!step || session_of(errand)->tx_lost) {
        error_set(&err, step ? SQLSTATE_CONNECTION_FAILURE : SQLSTATE_OUT_OF_MEMORY,
                  step ? "connection to the server was lost" : "out of memory");
        errand_fail(errand, &err);
        return;
    }
    step->op = TASK_QUERY;
    request->steps = step;
    request->step_count = request->step_room = request->prepared_count = 1;
    request->dealt = 0;
    request->local_error = NULL;
    request->error_seen = request->opening = request->on_held = false;
    request->capture = &errand->answer;
    errand->ops->on_turn(errand, errand->turn);
}

/* The E frame among what a turn said, or nothing. */
static Slice error_among(Slice frames)
{
    Frame frame;
    Error err;
    while (frames.len && frame_next(frames, SIZE_MAX, &frame, &err) == WIRE_OK) {
        if (frame.type == BACKEND_ERROR)
            return frame.whole;
        frames = slice_from(frames, frame.whole.len);
    }
    return (Slice){0};
}

static void too_large(Error *err)
{
    error_set(err, SQLSTATE_LIMIT_EXCEEDED, "the rows that this statement moves are more than errand_max_bytes");
    error_hint(err, "Move them in several statements, or raise errand_max_bytes.");
}

bool errand_turn_ended(Request *request)
{
    Errand *errand = request->errand;
    if (!errand)
        return false;
    Error err;
    ErrandNext next = ERRAND_FAIL;
    Slice failure = error_among(buf_bytes(&errand->answer));
    request->capture = NULL;
    if (!errand->described.len)
        errand->described = request->parameter_description;
    if (errand->answer.failed)
        too_large(&err);
    else if (failure.len) {
        Slice kept = arena_dup(&request->arena, failure);
        buf_reset(&errand->answer);
        buf_append(&errand->answer, kept);
        errand_close(errand, false);
        return true;
    } else
        next = errand->ops->on_answer(errand, errand->turn, buf_bytes(&errand->answer), &err);
    if (next == ERRAND_NEXT) {
        buf_reset(&errand->answer);
        errand->turn++;
        turn_begin(errand);
    } else if (next == ERRAND_ANSWER) {
        errand_close(errand, true);
    } else {
        errand_fail(errand, &err);
    }
    return true;
}

/* ---- life ------------------------------------------------------------------------------------------------ */

void errand_free(Errand *errand)
{
    if (!errand)
        return;
    errand->request->errand = NULL;
    errand->request->capture = NULL;
    buf_finish(&errand->answer);
    errand->ops->on_free(errand);
}

void errand_start(Request *request, const ErrandOps *ops, void *own)
{
    Session *session = request->session;
    Errand *errand = arena_new(&request->arena, Errand);
    Errand lost = {.request = request, .ops = ops, .own = own};
    Error err;
    bool begins = session->tx == TX_IDLE;
    if (!errand || (begins && !transaction_begin(session, SLICE("BEGIN")))) {
        ops->on_free(&lost);
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        session_fatal(session, &err);
        return;
    }
    *errand = lost;
    errand->unseen = begins;
    errand->statement = request->planned;
    errand->steps = request->steps;
    errand->step_count = request->step_count;
    errand->step_room = request->step_room;
    errand->dealt = request->dealt;
    buf_init(&errand->answer, worker_config(session->worker)->errand_max_bytes);
    request_cut(request);
    request->errand = errand;
    turn_begin(errand);
}
