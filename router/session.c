/*
 * session.c - one client from accept to goodbye.
 *
 *     bytes ──> login.c (LOGIN)            requests in order of arrival:
 *           └─> decode.c (ACTIVE) ──────>  [ENDED] [RUNNING] [RUNNING] [QUEUED] [QUEUED]
 *                                            leave    below              undispatched
 *
 * session_run is the one place that moves things on; it is called when bytes came and, at the end of
 * the turn, for sessions that were woken by an answer. Nothing is freed before the reaper comes.
 */
#include "router/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "router/cancel.h"
#include "router/decode.h"
#include "router/dispatch.h"
#include "router/fence.h"
#include "router/effect.h"
#include "router/login.h"
#include "router/park.h"
#include "router/portal.h"
#include "router/read_setting.h"
#include "router/reads.h"
#include "router/request.h"
#include "router/verdict.h"
#include "router/gather.h"
#include "router/scatter.h"
#include "router/transaction.h"
#include "router/worker_state.h"
#include "wire/backend.h"

static void session_on_bytes(Stream *stream)
{
    Session *session = stream->ctx;
    counter_add(&session->worker->stats.bytes_in, stream->bytes_in - session->bytes_seen);
    if (stream->bytes_in != session->bytes_seen) /* else: what was left over is offered again */
        session->arrived_us = stream->loop->arrival_us;
    session->bytes_seen = stream->bytes_in;
    if (session->state == SESSION_LOGIN)
        login_run(session);
    else if (session->state == SESSION_ACTIVE)
        session_run(session);
    else
        buf_consume(&stream->in, buf_len(&stream->in)); /* CLOSING: nobody listens any more */
}

static void session_on_drained(Stream *stream)
{
    Session *session = stream->ctx;
    if (session->state != SESSION_ACTIVE)
        return;
    LIST_EACH(link, &session->requests) {
        Request *request = list_entry(link, Request, link);
        if (request->task_active && request->task.backend)
            backend_resume(request->task.backend);
        reads_resume(request);
        if (request->scatter)
            scatter_drained(request->scatter);
        if (request->gather)
            gather_drained(request->gather);
    }
}

static void session_on_gone(Stream *stream, const Error *err)
{
    Session *session = stream->ctx;
    if (err && session->state == SESSION_ACTIVE && log_enabled(LOG_DEBUG))
        log_line(LOG_DEBUG, session->who, "connection lost: %s", err->message);
    session_kill(session);
}

static const StreamEvents SESSION_EVENTS = {
    .on_bytes = session_on_bytes,
    .on_drained = session_on_drained,
    .on_gone = session_on_gone,
};

Session *session_create(Worker *worker, int fd, const char *peer)
{
    Session *session = calloc(1, sizeof *session);
    if (!session) {
        close(fd);
        return NULL;
    }
    const Config *config = worker_config(worker);
    session->holder.kind = HOLDER_SESSION;
    session->worker = worker;
    session->id = worker->next_session_id;
    worker->next_session_id += worker->options.count; /* unique over all workers */
    session->state = SESSION_LOGIN;
    session->tx = TX_IDLE;
    session->reads.saw_server = NO_SERVER;
    session->connected_us = session->idle_since_us = session->arrived_us = worker->loop.now_us;
    snprintf(session->who, sizeof session->who, "client %llu", (unsigned long long)session->id);
    snprintf(session->peer, sizeof session->peer, "%s", peer);
    list_init(&session->link);
    list_init(&session->wake_link);
    list_init(&session->requests);
    list_init(&session->portals);
    map_init(&session->statements, statement_name_equal);
    /* No user timeout: a client that does not read for a while (a pager, a debugger) is not dead. Keepalives
     * find out those that are. */
    socket_tune(fd, 0);
    stream_init(&session->stream, &worker->loop, &SESSION_EVENTS, session,
                (StreamLimits){.in_max = config->message_max + 64,
                               .out_max = 2 * config->server_message_max + config->output_high,
                               .out_high = config->output_high});
    list_push(&worker->sessions, &session->link);
    worker->session_count++;
    counter_add(&worker->stats.clients, 1);
    if (!login_begin(session)) {
        close(fd);
        session_kill(session);
        return NULL;
    }
    stream_open(&session->stream, fd, true);
    return session;
}

void session_activate(Session *session, Slice parameter_status)
{
    Buf *out = &session->stream.out;
    cancel_register(session->worker, session);
    buf_append(out, parameter_status);
    backend_put_key_data(out, session->cancel_pid, session->cancel_key);
    backend_put_ready(out, TX_IDLE);
    stream_touch(&session->stream);
    session->state = SESSION_ACTIVE;
    session->idle_since_us = session->worker->loop.now_us;
    session->gucs = guc_retain(session->gucs_base);
    worker_wake_session(session->worker, session); /* it may have sent more already */
}

/* ---- going on --------------------------------------------------------------------------------------- */

static void drop_ended(Session *session)
{
    bool left = false;
    List *link;
    while ((link = list_first(&session->requests))) {
        Request *request = list_entry(link, Request, link);
        if (buf_len(&request->out)) { /* it has just become the first: its answers may go */
            buf_append(&session->stream.out, buf_bytes(&request->out));
            buf_reset(&request->out);
            stream_touch(&session->stream);
        }
        if (request->state != REQUEST_ENDED)
            break;
        list_remove(link);
        session->request_count--;
        digests_on_leave(&session->worker->digests, request);
        latency_on_leave(request);
        request_free(request);
        left = true;
    }
    if (session->stream.out.failed)
        session_kill(session); /* memory is out, or the client never reads */
    if (left && session->request_count == 0)
        session->idle_since_us = session->worker->loop.now_us;
}

static Request *next_of(Session *session, Request *request)
{
    List *next = request->link.next;
    return next == &session->requests ? NULL : list_entry(next, Request, link);
}

static void dispatch_queued(Session *session)
{
    uint64_t at_us = session->undispatched ? clock_now_us() : 0;
    while (session->state == SESSION_ACTIVE && session->undispatched) {
        Request *request = session->undispatched;
        LatencyTimes *times = &request->times;
        times->seen_us = times->seen_us ? times->seen_us : at_us;
        times->turn_us = at_us;
        request->in_transaction = session->tx != TX_IDLE;
        if (!dispatch_request(request))
            return;
        at_us = times->planned_us = clock_now_us();
        session->undispatched = next_of(session, request);
    }
}

void session_run(Session *session)
{
    bool going = true, blocked = false;
    while (going && session->state == SESSION_ACTIVE) {
        size_t before = buf_len(&session->stream.in);
        blocked = decode_run(session);
        dispatch_queued(session);
        drop_ended(session);
        /* What was answered at once makes room: go on with the bytes that had to wait. */
        going = buf_len(&session->stream.in) < before && buf_len(&session->stream.in) > 0;
    }
    if (session->state != SESSION_ACTIVE)
        return;
    if (blocked && !session->stream.paused)
        stream_pause(&session->stream); /* TCP tells the client to wait */
    else if (!blocked && session->stream.paused)
        stream_resume(&session->stream);
    if (session->terminate && session->request_count == 0)
        session_kill(session);
    else if (session->worker->stopping && session->request_count == 0 && session->tx == TX_IDLE &&
             !session->building)
        session_stop(session);
}

void session_on_request_end(Session *session)
{
    verdict_drop(session);
    transaction_let_unfailed_go(session);
    assert(session->running > 0);
    session->running--;
    if (session->running == 0)
        session->running_alone = false;
    worker_wake_session(session->worker, session);
}

/* ---- ending ----------------------------------------------------------------------------------------- */

void session_kill(Session *session)
{
    if (session->state == SESSION_DEAD)
        return;
    session->state = SESSION_DEAD;
    list_remove(&session->link);
    list_push(&session->worker->dead, &session->link);
    loop_again(&session->worker->loop);
}

void session_close_gently(Session *session)
{
    if (session->state == SESSION_DEAD || session->state == SESSION_CLOSING)
        return;
    session->state = SESSION_CLOSING;
    list_remove(&session->link);
    list_push(&session->worker->closing, &session->link);
    stream_touch(&session->stream);
    session->closing_since_us = session->worker->loop.now_us;
    loop_again(&session->worker->loop);
}

void session_fatal(Session *session, const Error *err)
{
    if (session->state == SESSION_DEAD || session->state == SESSION_CLOSING)
        return;
    if (!error_is(err, SQLSTATE_ADMIN_SHUTDOWN))
        log_error(session->who, err);
    worker_count_error(session->worker, err->sqlstate);
    backend_put_error(&session->stream.out, SEVERITY_FATAL, err);
    session_close_gently(session);
}

void session_stop(Session *session)
{
    Error err;
    error_set(&err, SQLSTATE_ADMIN_SHUTDOWN, "terminating connection because Shoal is shutting down");
    error_hint(&err, "Connect again.");
    session_fatal(session, &err);
}

static void drop_statements(Session *session)
{
    size_t cursor = 0;
    Statement *statement;
    while ((statement = map_next(&session->statements, &cursor)))
        statement_release(&session->worker->statements, statement);
    statement_release(&session->worker->statements, session->unnamed);
    map_finish(&session->statements);
}

static void abandon_requests(Session *session)
{
    if (session->building && !list_linked(&session->building->link))
        request_free(session->building);
    List *link;
    while ((link = list_first(&session->requests))) {
        Request *request = list_entry(link, Request, link);
        request_abandon(request);
        request_free(request);
    }
}

void session_destroy(Session *session)
{
    fence_unpark(session);
    Worker *worker = session->worker;
    assert(session->state == SESSION_DEAD);
    login_finish(session);
    bool unknown = session->pinned || session->running; /* what was cut short may have set something */
    abandon_requests(session);
    portals_drop(session);
    n1_finish(session);
    while (session->part_count) {
        Participant part = session->parts[0];
        transaction_leave(session, part.shard);
        backend_release(part.backend, unknown);
    }
    free(session->parts);
    cancel_unregister(worker, session);
    latency_forget(&worker->latency, session);
    drop_statements(session);
    read_setting_reset(session);
    verdict_drop(session);
    guc_release(&worker->gucs, session->gucs);
    guc_release(&worker->gucs, session->gucs_tx);
    guc_release(&worker->gucs, session->gucs_base);
    script_clear(&session->script);
    counter_add(&worker->stats.bytes_out, session->stream.bytes_out);
    stream_close(&session->stream);
    list_remove(&session->wake_link);
    list_remove(&session->link);
    worker->session_count--;
    counter_sub(&worker->stats.clients, 1);
    free(session);
}

void session_cancel(Session *session)
{
    List *link = list_first(&session->requests);
    while (link && list_entry(link, Request, link)->state == REQUEST_ENDED) /* answered in this turn */
        link = link->next == &session->requests ? NULL : link->next;
    if (session->state != SESSION_ACTIVE || !link)
        return;
    Request *request = list_entry(link, Request, link);
    if (session->parked && request->state == REQUEST_QUEUED) {
        fence_unpark(session);
        session->park_cancelled = true; /* answered when it is dispatched: 57014 */
        worker_wake_session(session->worker, session);
        return;
    }
    if (request->parked)
        park_cancel(request);
    if (request->scatter)
        scatter_cancel(request->scatter);
    if (request->gather)
        gather_cancel(request->gather);
    if (!request->task_active)
        return;
    reads_cancel(request);
    if (request->batched)
        batcher_cancel(session->worker->batcher, &request->task);
    else
        task_cancel(&request->task);
}

void session_on_held_lost(Session *session, Backend *backend)
{
    Participant *part = NULL;
    for (uint32_t i = 0; i < session->part_count && !part; i++)
        if (session->parts[i].backend == backend)
            part = &session->parts[i];
    if (!part)
        return;
    bool state = part->state, open = part->tx != TX_IDLE;
    transaction_leave(session, part->shard);
    if (state) {
        Error err;
        error_set(&err, SQLSTATE_CONNECTION_FAILURE, "connection to the server was lost");
        error_detail(&err, "The session had state on that server connection.");
        error_hint(&err, "Connect again.");
        session_fatal(session, &err);
    } else if (open) {
        session->tx_lost = true;
        if (session->tx != TX_IDLE)
            session->tx = TX_FAILED;
    }
}

/* ---- questions ---------------------------------------------------------------------------------------- */

const DatabaseConfig *session_database(const Session *session, const Topology *topology)
{
    return &topology->config->databases[session->database_index];
}

/* The value of a SET with one plain string, without its quotes; other values as they are written. */
static Slice unquoted(Slice value)
{
    if (value.len >= 2 && value.data[0] == '\'' && value.data[value.len - 1] == '\'' &&
        !memchr(value.data + 1, '\'', value.len - 2))
        return slice_of(value.data + 1, value.len - 2);
    return value;
}

static bool setting_find(const Session *session, const char *name, Slice *ret)
{
    const GucEntry *entry = guc_find(session_gucs(session), slice_str(name));
    if (entry)
        *ret = unquoted(entry->value);
    return entry != NULL;
}

Slice session_application(const Session *session)
{
    Slice value = {0};
    return session->gucs && setting_find(session, "application_name", &value) ? value : (Slice){0};
}

Slice session_search_path(const Session *session, const Topology *topology)
{
    const GucEntry *entry = guc_find(session_gucs(session), SLICE("search_path"));
    if (entry)
        return entry->value;
    return catalog_default_path(topology->catalogs[session->database_index],
                                slice_str(session->user));
}

bool session_standard_strings(const Session *session)
{
    Slice value;
    return !setting_find(session, "standard_conforming_strings", &value) ||
           slice_equal_nocase(value, SLICE("on")) || slice_equal_nocase(value, SLICE("true")) ||
           slice_is(value, "1") || slice_equal_nocase(value, SLICE("yes"));
}

/* Encodings in which a byte of a longer character may look like a quote or a backslash (H44). */
static const char *const UNSAFE_ENCODINGS[] = {"sjis", "shift_jis", "shiftjis", "mskanji", "win932",
                                               "windows932", "big5", "win950", "windows950", "gbk",
                                               "win936", "windows936", "gb18030", "uhc", "win949",
                                               "windows949", "johab", "shift_jis_2004", "shiftjis2004"};

bool session_values_may_vary(const Session *session)
{
    Slice value;
    if (!session_standard_strings(session))
        return false;
    if (!setting_find(session, "client_encoding", &value))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(UNSAFE_ENCODINGS); i++)
        if (slice_equal_nocase(value, slice_str(UNSAFE_ENCODINGS[i])))
            return false;
    return true;
}
