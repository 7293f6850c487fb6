/*
 * local.c - Shoal as its own little server: console, shoal.*() functions, lazy BEGIN.
 *
 *      request ──Call──> control thread ──Call, answer filled──> call_on_reply ──> local_answer
 */
#include "router/local.h"

#include "router/effect.h"
#include "router/encode.h"
#include "router/worker_state.h"
#include "wire/backend.h"

/* ---- dealing out an answer -------------------------------------------------------------------- */

typedef struct Answer {
    Slice description; /* whole T frame; empty: NoData */
    Slice rest;        /* D* C, perhaps without its beginning */
    bool failed;       /* rest is E */
} Answer;

static Answer answer_split(Slice frames)
{
    Answer answer = {.rest = frames};
    Frame frame;
    Error err;
    if (frames.len && frames.data[0] == BACKEND_ROW_DESCRIPTION &&
        frame_next(frames, SIZE_MAX, &frame, &err) == WIRE_OK) {
        answer.description = frame.whole;
        answer.rest = slice_from(frames, frame.whole.len);
    }
    answer.failed = answer.rest.len && answer.rest.data[0] == BACKEND_ERROR;
    return answer;
}

static void put_description(Buf *out, const Answer *answer)
{
    if (answer->description.len)
        buf_append(out, answer->description);
    else
        backend_put_no_data(out);
}

/* A step that is answered by the words of the statement itself: rows and the tag. */
static bool step_executes(const TaskStep *step)
{
    return step->op == TASK_EXECUTE || step->op == TASK_QUERY || step->op == TASK_FUNCTION;
}

/* The share of a step that comes before the rows, or of one that has none; false when there must be an
 * error instead. */
static bool deal_step(Request *request, const TaskStep *step, const Answer *answer, Buf *out)
{
    switch (step->op) {
    case TASK_PARSE:
        if (request->confirmed_count < request->created_count)
            request->created[request->confirmed_count++]->confirmed = true;
        backend_put_parse_complete(out);
        return true;
    case TASK_BIND:
        backend_put_bind_complete(out);
        return true;
    case TASK_CLOSE_STATEMENT:
    case TASK_CLOSE_PORTAL:
        backend_put_close_complete(out);
        return true;
    case TASK_DESCRIBE_STATEMENT:
    case TASK_DESCRIBE_PORTAL:
        if (answer->failed)
            return false;
        if (step->op == TASK_DESCRIBE_STATEMENT && request->parameter_description.len)
            buf_append(out, request->parameter_description);
        else if (step->op == TASK_DESCRIBE_STATEMENT)
            backend_put_parameter_description(out, NULL, 0);
        put_description(out, answer);
        return true;
    case TASK_QUERY:
        buf_append(out, answer->description);
        return true;
    default:
        return true;
    }
}

static void count_error(Request *request, Slice frames)
{
    Frame frame;
    ErrorResponse response;
    Error err;
    char sqlstate[6] = "";
    if (frame_next(frames, SIZE_MAX, &frame, &err) == WIRE_OK &&
        backend_read_error(frame.body, &response, &err) == WIRE_OK)
        memcpy(sqlstate, response.sqlstate.data, 5);
    worker_count_error(request->session->worker, sqlstate);
}

static void put_rest(Request *request, const Answer *answer)
{
    if (request->error_seen)
        return;
    buf_append(request_out(request), answer->rest);
    if (!answer->failed)
        return;
    request->error_seen = true;
    request->dealt = request->step_count; /* what comes behind an error is passed over */
    count_error(request, answer->rest);
}

/* Deals out to the steps from request->dealt on, up to and with the first that executes: whose rows
 * come next. False when there is none. */
static bool deal_to_rows(Request *request, const Answer *answer)
{
    while (request->dealt < request->step_count) {
        const TaskStep *step = &request->steps[request->dealt++];
        if (!deal_step(request, step, answer, request_out(request)))
            put_rest(request, answer);
        else if (step_executes(step))
            return true;
    }
    return false;
}

void local_open(Request *request, Slice description)
{
    Answer answer = {.description = description};
    deal_to_rows(request, &answer);
}

void local_close(Request *request, Slice frames)
{
    Answer answer = answer_split(frames);
    bool at_rows = request->dealt && step_executes(&request->steps[request->dealt - 1]);
    while (at_rows || deal_to_rows(request, &answer)) {
        put_rest(request, &answer);
        at_rows = false;
    }
    request_touch(request);
}

void local_answer(Request *request, Slice frames, char tx_status)
{
    local_close(request, frames);
    request_end(request, tx_status);
}

void local_tag(Request *request, const char *tag, char tx_status)
{
    Buf frames;
    buf_init(&frames, 256);
    backend_put_command_complete(&frames, slice_str(tag));
    local_answer(request, buf_bytes(&frames), tx_status);
    buf_finish(&frames);
}

void local_error(Request *request, const Error *err, char tx_status)
{
    Buf frames;
    buf_init(&frames, 8192);
    backend_put_error(&frames, SEVERITY_ERROR, err);
    local_answer(request, buf_bytes(&frames), tx_status);
    buf_finish(&frames);
}

/* ---- asking the control thread ------------------------------------------------------------------ */

static Call *call_start(Request *request, CallKind kind)
{
    Session *session = request->session;
    Worker *worker = session->worker;
    Call *call = call_create(kind);
    if (!call)
        return NULL;
    call->database = arena_text(&call->arena, slice_str(session->database));
    call->user = arena_text(&call->arena, slice_str(session->user));
    call->admin = session->admin;
    call->monitor = session->monitor;
    call->session_id = session->id;
    call->reply = &worker->inbox;
    call->on_reply = call_on_reply;
    call->session = request;
    call->mail.on_delivery = worker->options.on_call;
    if (!call->database || !call->user) {
        call_free(call);
        return NULL;
    }
    return call;
}

static void call_send(Request *request, Call *call)
{
    request_cut(request); /* what comes behind a Flush is another question */
    request->call = call;
    inbox_send(request->session->worker->options.control, &call->mail);
}

static void out_of_memory(Request *request)
{
    Error err;
    error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    local_error(request, &err, request->session->tx);
}

/* The value of an argument as text; a parameter's binary form is not understood here. */
static bool call_argument(const PlanStatement *statement, const ShapeValue *value, Arena *arena,
                          Slice *ret)
{
    *ret = (Slice){0};
    if (value->kind == SHAPE_VALUE_NULL)
        return true;
    if (value->kind == SHAPE_VALUE_LITERAL) {
        *ret = shape_literal_value(statement->text, &statement->literals[value->index], arena);
        const char *sign = value->negative ? "-" : "";
        char *text = arena_printf(arena, "%s%.*s", sign, SLICE_FMT(*ret));
        *ret = slice_str(text);
        return text != NULL;
    }
    if (value->kind == SHAPE_VALUE_PARAM && statement->bind &&
        value->index <= statement->bind->param_count && value->index > 0) {
        BindParam param = bind_param_at(statement->bind, value->index - 1);
        if (param.is_null)
            return true;
        if (bind_param_format(statement->bind, value->index - 1) != FORMAT_TEXT)
            return false;
        *ret = slice_str(arena_text(arena, param.value));
        return ret->data != NULL;
    }
    return false;
}

void local_function(Request *request)
{
    const PlanStatement *statement = &request->planned[0];
    const Shape *shape = statement->shape;
    Error err;
    Call *call = call_start(request, CALL_FUNCTION);
    if (!call) {
        out_of_memory(request);
        return;
    }
    call->function = arena_dup(&call->arena, shape->functions[0].name);
    call->args = arena_array(&call->arena, Slice, shape->call_arg_count + 1);
    call->arg_names = arena_array(&call->arena, Slice, shape->call_arg_count + 1);
    for (uint32_t i = 0; call->arg_names && i < shape->call_arg_count; i++)
        call->arg_names[i] = arena_dup(&call->arena, shape->call_names[i]);
    call->arg_count = shape->call_arg_count;
    for (uint32_t i = 0; call->args && i < shape->call_arg_count; i++)
        if (!call_argument(statement, &shape->call_args[i], &call->arena, &call->args[i])) {
            error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED,
                      "arguments of shoal functions must be constants or parameters in text format");
            call_free(call);
            local_error(request, &err, request->session->tx);
            return;
        }
    if (!call->args || !call->arg_names) {
        call_free(call);
        out_of_memory(request);
        return;
    }
    call_send(request, call);
}

void local_console(Request *request)
{
    Slice text = request->planned_count ? request->planned[0].text : SLICE("");
    Call *call = call_start(request, CALL_CONSOLE);
    if (!call) {
        out_of_memory(request);
        return;
    }
    call->text = arena_dup(&call->arena, text);
    call_send(request, call);
}

bool local_read_catalog(Request *request)
{
    Call *call = call_start(request, CALL_CATALOG);
    if (call)
        call_send(request, call);
    return call != NULL;
}

Call *local_catalog_call(Request *request)
{
    Call *call = call_start(request, CALL_CATALOG);
    if (call)
        call->session = NULL;
    return call;
}

void local_answer_catalog(Request *request, Slice frames, bool changed)
{
    local_close(request, frames);
    if (!changed || !local_read_catalog(request))
        request_end(request, TX_IDLE);
}

/* In the worker's thread again. */
void call_on_reply(Mail *mail, void *owner)
{
    Call *call = container_of(mail, Call, mail);
    Request *request = call->session;
    (void)owner;
    if (request) {
        request->call = NULL;
        if (call->kind == CALL_CATALOG)
            request_end(request, TX_IDLE); /* its answer is written already */
        else
            local_answer(request, buf_bytes(&call->answer), request->session->tx);
    }
    call_free(call);
}
