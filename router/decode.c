/*
 * decode.c - one message at a time, in the words of the protocol chapter "Message Flow".
 *
 * A message's inside is looked at later, when its turn has come (resolve.c); here only its type
 * counts. During COPY IN the client's bytes are the server's business: they are handed through.
 */
#include "router/decode.h"

#include "router/copy_in.h"
#include "router/dispatch.h"
#include "router/request.h"
#include "router/worker_state.h"
#include "wire/backend.h"

static void out_of_memory(Session *session)
{
    Error err;
    error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    session_fatal(session, &err);
}

static void enqueue(Session *session, Request *request)
{
    request->state = REQUEST_QUEUED;
    request->times.arrived_us = session->arrived_us;
    list_push(&session->requests, &request->link);
    session->request_count++;
    if (!session->undispatched)
        session->undispatched = request;
}

static Request *building(Session *session)
{
    if (!session->building)
        session->building = request_create(session);
    return session->building;
}

static void add_extended(Session *session, TaskOp op, const Frame *frame)
{
    Request *request = building(session);
    if (!request || !request_add(request, op, frame)) {
        out_of_memory(session);
        return;
    }
    request->extended = true;
}

/* The step that ends a request. `hidden`: its ReadyForQuery is ours alone. */
static void complete(Session *session, TaskOp op, const Frame *frame, bool hidden)
{
    Request *request = building(session);
    if (!request || !request_add(request, op, frame)) {
        out_of_memory(session);
        return;
    }
    request->steps[request->step_count - 1].hidden = hidden;
    request->cut = hidden;
    request->complete = true;
    session->building = NULL;
    if (request->flushed)
        dispatch_more(request);
    else
        enqueue(session, request);
}

static bool has_step(const Request *request, TaskOp op)
{
    for (uint32_t i = 0; i < request->step_count; i++)
        if (request->steps[i].op == op)
            return true;
    return false;
}

/* Everything up to here is to be answered now, although no Sync has come (H05). A series that only
 * prepares is over with that: which shard and which server connection the Bind behind it needs, is
 * known when that comes. One that has bound a portal stays open on its connection. */
static void flush(Session *session, const Frame *frame)
{
    Request *request = session->building;
    if (!request)
        return; /* nothing is owed */
    if (!has_step(request, TASK_BIND) && !has_step(request, TASK_QUERY)) {
        complete(session, TASK_SYNC, NULL, true);
        return;
    }
    add_extended(session, TASK_FLUSH, frame);
    if (!request->flushed) {
        request->flushed = true;
        enqueue(session, request);
    } else {
        dispatch_more(request);
    }
}

/* A Query among extended messages runs at its place and has a ReadyForQuery of its own (bad-input
 * 104). If something was bound before it, both are one transaction and one series, which ends with
 * its Sync. If not, the series is over: a Sync of our own, which the client does not see, ends it. */
static void query(Session *session, const Frame *frame)
{
    Request *request = session->building;
    if (request && has_step(request, TASK_BIND)) {
        add_extended(session, TASK_QUERY, frame);
        return;
    }
    if (request)
        complete(session, TASK_SYNC, NULL, true);
    if (session->state == SESSION_ACTIVE)
        complete(session, TASK_QUERY, frame, false);
}

static void decode_message(Session *session, const Frame *frame)
{
    switch (frame->type) {
    case FRONTEND_QUERY:
        query(session, frame);
        break;
    case FRONTEND_PARSE:
        add_extended(session, TASK_PARSE, frame);
        break;
    case FRONTEND_BIND:
        add_extended(session, TASK_BIND, frame);
        break;
    case FRONTEND_DESCRIBE:
        add_extended(session, TASK_DESCRIBE_STATEMENT, frame);
        break;
    case FRONTEND_EXECUTE:
        add_extended(session, TASK_EXECUTE, frame);
        break;
    case FRONTEND_CLOSE:
        add_extended(session, TASK_CLOSE_STATEMENT, frame);
        break;
    case FRONTEND_FUNCTION_CALL:
        if (session->building)
            add_extended(session, TASK_FUNCTION, frame);
        else
            complete(session, TASK_FUNCTION, frame, false);
        break;
    case FRONTEND_FLUSH:
        flush(session, frame);
        break;
    case FRONTEND_SYNC:
        complete(session, TASK_SYNC, frame, false);
        break;
    case FRONTEND_TERMINATE:
        session->terminate = true;
        break;
    default: /* d c f outside of COPY: late ones, passed over as PostgreSQL does (bad-input 97) */
        break;
    }
}

/* ---- COPY IN ------------------------------------------------------------------------------------- */

static bool is_copy_frame(uint8_t type)
{
    return type == FRONTEND_COPY_DATA || type == FRONTEND_COPY_DONE || type == FRONTEND_COPY_FAIL;
}

/* Anything else in the middle of the data: nobody can say where it ends (bad-input 98). */
static void copy_violated(Session *session, uint8_t type)
{
    Error err;
    error_set(&err, SQLSTATE_PROTOCOL_VIOLATION, "unexpected message type 0x%02X during COPY from stdin",
              type);
    backend_put_error(&session->stream.out, SEVERITY_ERROR, &err);
    error_set(&err, SQLSTATE_PROTOCOL_VIOLATION,
              "terminating connection because protocol synchronization was lost");
    session_fatal(session, &err);
}

/* In the extended protocol the server has read and ignored the Sync that was sent before it said
 * CopyInResponse; the one that follows the data ends the series. */
static void decode_copy(Session *session, const Frame *frame)
{
    static const TaskStep SYNC = {.op = TASK_SYNC};
    Request *request = list_entry(session->requests.next, Request, link);
    if (is_copy_frame(frame->type) && copy_in_takes(request)) {
        session->input_blocked = !copy_in_feed(request, frame); /* until the shards have taken some */
        return;
    }
    if (is_copy_frame(frame->type)) {
        if (session->copy == SESSION_COPY_IN && !backend_feed_copy(&request->task, frame->whole))
            session->input_blocked = true; /* until the server has taken some: on_drained */
        if (session->copy == SESSION_COPY_IN && frame->type != FRONTEND_COPY_DATA)
            session->copy = request->extended ? SESSION_COPY_IN_SYNC : SESSION_COPY_NONE;
        return;
    }
    if (frame->type == FRONTEND_SYNC || frame->type == FRONTEND_FLUSH) {
        if (session->copy == SESSION_COPY_IN || frame->type == FRONTEND_FLUSH)
            return; /* PostgreSQL passes over them among the data */
        session->copy = SESSION_COPY_NONE;
        session->building = NULL;
        request->complete = true;
        if (request->task_active && request->task.open)
            backend_feed(&request->task, &SYNC, 1);
        return;
    }
    copy_violated(session, frame->type);
}

static bool may_copy(const Shape *shape)
{
    for (uint32_t i = 0; i < shape->part_count; i++)
        if (may_copy(shape->parts[i]))
            return true;
    return shape->kind == SHAPE_COPY_IN || shape->kind == SHAPE_UNPARSED;
}

/* Some request that is not answered yet may still ask for copy data. */
static bool copy_expected(const Session *session)
{
    LIST_EACH (link, &session->requests) {
        const Request *request = list_entry(link, Request, link);
        if (request->state == REQUEST_QUEUED)
            return true;
        if (request->skipping)
            continue;
        for (uint32_t i = 0; request->state == REQUEST_RUNNING && i < request->planned_count; i++)
            if (may_copy(request->planned[i].shape))
                return true;
    }
    return false;
}

/* Copy data of a request whose CopyInResponse has not come yet must wait for it. */
static bool must_wait(const Session *session, uint8_t type)
{
    if (session->copy != SESSION_COPY_NONE)
        return false;
    if (is_copy_frame(type))
        return copy_expected(session);
    return session->request_count >= worker_config(session->worker)->pipeline_max;
}

bool decode_run(Session *session)
{
    Stream *stream = &session->stream;
    size_t message_max = worker_config(session->worker)->message_max;
    while (session->state == SESSION_ACTIVE && !session->terminate && !session->input_blocked) {
        Frame frame;
        Error err;
        switch (frame_next_frontend(buf_bytes(&stream->in), message_max, &frame, &err)) {
        case WIRE_MORE:
            return false;
        case WIRE_BAD:
            session_fatal(session, &err);
            return false;
        case WIRE_OK:
            break;
        }
        if (must_wait(session, frame.type))
            return true;
        if (session->copy != SESSION_COPY_NONE)
            decode_copy(session, &frame);
        else
            decode_message(session, &frame);
        buf_consume(&stream->in, frame.whole.len);
    }
    return session->input_blocked;
}
