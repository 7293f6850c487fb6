/*
 * encode.c - frames from below go to the client as they are; ReadyForQuery settles accounts.
 *
 *      backend ──frame──> on_frame ──bytes──> stream.out (or request.out while others are before it)
 *              ──Z──────> on_ready ──effects, DDL: catalog first──> request_end
 *              ──loss───> on_lost  ──what is known, no more────────> request_end
 */
#include "router/encode.h"

#include "router/dispatch.h"
#include "router/effect.h"
#include "router/local.h"
#include "router/park.h"
#include "router/verdict.h"
#include "router/transaction.h"
#include "router/worker_state.h"
#include "wire/backend.h"

static Request *request_of(Sink *sink)
{
    return container_of(sink, Request, sink);
}

/* False: the client does not see it. Either Shoal provoked it to end a transaction, and its own error
 * comes instead, or it is said already. */
static bool note_error(Request *request, const Frame *frame)
{
    ErrorResponse response;
    Error err;
    if (backend_read_error(frame->body, &response, &err) == WIRE_OK) {
        if (request->local_error && slice_is(response.sqlstate, SQLSTATE_INVALID_STATEMENT) &&
            memmem(response.message.data, response.message.len, ENCODE_FAIL_NAME,
                   sizeof ENCODE_FAIL_NAME - 1))
            return false;
        memcpy(request->error_state, response.sqlstate.data, 5);
    } else {
        memcpy(request->error_state, SQLSTATE_PROTOCOL_VIOLATION, 5);
    }
    /* After an error in the hidden start of the transaction the server refuses the statement itself
     * too; one error is what the client has asked for. */
    if (request->opening && request->error_seen)
        return false;
    request->error_seen = true;
    request->skipping = true;
    if (request->session->building == request) /* copy data that has waited is passed over, too */
        worker_wake_session(request->session->worker, request->session);
    worker_count_error(request->session->worker, request->error_state);
    return true;
}

static void note_copy(Request *request, uint8_t type)
{
    Session *session = request->session;
    if (type == BACKEND_COPY_IN) {
        session->copy = SESSION_COPY_IN;
        worker_wake_session(session->worker, session); /* its bytes may be here already */
    } else if (type == BACKEND_ERROR && session->copy != SESSION_COPY_NONE) {
        session->copy = request->extended && session->copy == SESSION_COPY_IN ? SESSION_COPY_DRAIN
                        : request->extended                                   ? session->copy
                                                                              : SESSION_COPY_NONE;
        session->input_blocked = false; /* nobody waits for the server to take data any more */
        worker_wake_session(session->worker, session);
    }
}

static void encode_on_frame(Sink *sink, Task *task, const Frame *frame)
{
    Request *request = request_of(sink);
    Session *session = request->session;
    Frame verdict;
    switch (frame->type) {
    case BACKEND_PARSE_COMPLETE:
        if (request->confirmed_count < request->created_count)
            request->created[request->confirmed_count++]->confirmed = true;
        break;
    case BACKEND_DATA_ROW:
        if (request->n1_parent)
            n1_on_row(request, frame->body);
        break;
    case BACKEND_COMMAND_COMPLETE:
        n1_on_done(session);
        break;
    case BACKEND_COPY_IN:
        note_copy(request, frame->type);
        break;
    case BACKEND_ERROR:
        if (verdict_replaces(session, frame, &verdict))
            frame = &verdict;
        if (!note_error(request, frame))
            return;
        note_copy(request, frame->type);
        break;
    default:
        break;
    }
    buf_append(request_out(request), frame->whole);
    request_touch(request);
    if (stream_choked(&session->stream) && task->backend && session->state == SESSION_ACTIVE)
        backend_pause(task->backend);
}

/* A Parse that was refused, or skipped after an error, leaves no statement behind (H16). */
void encode_drop_unconfirmed(Request *request)
{
    Session *session = request->session;
    for (uint32_t i = request->confirmed_count; i < request->created_count; i++) {
        Statement *statement = request->created[i];
        Slice name = slice_of(statement->name, statement->name_len);
        if (session->unnamed == statement) {
            session->unnamed = NULL;
            statement_release(&session->worker->statements, statement);
        } else if (map_get(&session->statements, statement->hash, &name) == statement) {
            map_remove(&session->statements, statement->hash, &name);
            statement_release(&session->worker->statements, statement);
        }
    }
    request->created_count = request->confirmed_count;
}

void encode_error(Request *request, const Error *err)
{
    request->error_seen = true;
    memcpy(request->error_state, err->sqlstate, sizeof request->error_state);
    worker_count_error(request->session->worker, err->sqlstate);
    backend_put_error(request_out(request), SEVERITY_ERROR, err);
    request_touch(request);
}

/* The server knows nothing of the transaction; an error fails it all the same. */
static void end_aside(Request *request)
{
    Session *session = request->session;
    if (request->error_seen)
        session->tx = TX_FAILED;
    request_end(request, session->tx);
}

static void encode_on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    Request *request = request_of(sink);
    Session *session = request->session;
    request->skipping = false;
    if (!last) {
        backend_put_ready(request_out(request), tx_status);
        request_touch(request);
        return;
    }
    request->task_active = false;
    latency_on_answer(request, task);
    request->tx_status = tx_status;
    session->copy = SESSION_COPY_NONE;
    session->input_blocked = false; /* nobody will say that the server has taken enough */
    if (request->local_error && !request->error_seen)
        encode_error(request, request->local_error);
    if (request->error_seen)
        encode_drop_unconfirmed(request);
    if (request->aside) {
        end_aside(request);
        return;
    }
    effect_apply(request, task->backend, tx_status);
    if (tx_status != TX_IDLE)
        tx_status = session->tx; /* failed meanwhile, by another participant's death */
    if (session->tx_ddl && tx_status == TX_IDLE && local_read_catalog(request)) {
        session->tx_ddl = false;
        return; /* the answer ends when the catalog has been read */
    }
    request_end(request, tx_status);
}

/* The transaction that a lost connection had open is rolled back by PostgreSQL; unless the client was
 * just committing it: then nobody here knows. */
static bool was_committing(const Request *request)
{
    if (request->session->tx == TX_IDLE)
        return false;
    for (uint32_t i = 0; i < request->planned_count; i++)
        if (request->planned[i].shape->kind == SHAPE_COMMIT)
            return true;
    return false;
}

static bool only_reads(const Request *request)
{
    for (uint32_t i = 0; i < request->planned_count; i++)
        if (!shape_is_read(request->planned[i].shape))
            return false;
    return true;
}

static Error lost_error(const Request *request, const Error *err, bool maybe_executed)
{
    Error told = *err;
    if (maybe_executed && was_committing(request)) {
        error_set(&told, SQLSTATE_OUTCOME_UNKNOWN,
                  "connection to the server was lost while the transaction committed");
        error_detail(&told, "%s: %s", err->message, err->detail);
        error_hint(&told, "The transaction may or may not have been committed; look before trying again.");
    } else if (maybe_executed && request->session->tx == TX_IDLE && !only_reads(request)) {
        error_set(&told, SQLSTATE_STATEMENT_UNKNOWN,
                  "connection to the server was lost while the statement ran");
        error_detail(&told, "%s: %s", err->message, err->detail);
        error_hint(&told, "The statement may or may not have taken effect; look before trying again.");
    }
    return told;
}

static void encode_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    Request *request = request_of(sink);
    Session *session = request->session;
    Error told = lost_error(request, err, maybe_executed);
    Participant *part = request->on_held ? transaction_part(session, request->shard) : NULL;

    latency_on_answer(request, task);
    request->task_active = false;
    if (!maybe_executed && !part && !request->parked && park_for_primary(request, err))
        return;
    session->copy = SESSION_COPY_NONE;
    session->input_blocked = false;
    if (part && backend_state(part->backend) != BACKEND_DEAD) {
        dispatch_error(request, &told); /* refused before it was sent (cancelled): nothing is lost */
        return;
    }
    encode_error(request, &told);
    encode_drop_unconfirmed(request);
    bool state = part && part->state;
    if (part)
        transaction_leave(session, request->shard);
    if (state) {
        session_fatal(session, &told); /* what it had on that server is gone with it */
        return;
    }
    if (session->tx != TX_IDLE && !error_is(&told, SQLSTATE_OUTCOME_UNKNOWN)) {
        /* Rolled back by the server, but the client has not said so yet: what it sends next must
         * not run outside its transaction. */
        session->tx = TX_FAILED;
        session->tx_lost |= part != NULL;
        request_end(request, TX_FAILED);
        return;
    }
    if (session->tx != TX_IDLE)
        effect_transaction_over(session, false);
    request_end(request, TX_IDLE);
}

const SinkOps ENCODE_OPS = {
    .on_frame = encode_on_frame,
    .on_ready = encode_on_ready,
    .on_lost = encode_on_lost,
};
