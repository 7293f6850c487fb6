/*
 * conversation.c - what is said on a server connection, and who hears the answers.
 *
 *     task's steps ── steps.c ──> out (one write at the turn's end)
 *                         └─────> owed  [1 hide][2][T][..C][Z]
 *                                    │
 *     in ── frame ── expect_match ───┘──> sink->on_frame / on_ready, or hidden
 *
 * One task is at work at a time; more of the same holder wait behind it. An ErrorResponse settles
 * its step and, of an extended series, all steps up to the next Sync. What no step allows means
 * that the server is broken: the connection is lost, nobody else notices.
 */
#include "backend/backend_internal.h"
#include "core/clock.h"
#include "core/log.h"
#include "wire/backend.h"
#include "wire/frontend.h"

static void conversation_on_bytes(Stream *stream);
static void conversation_on_drained(Stream *stream);
static void conversation_on_gone(Stream *stream, const Error *err);
static void on_frame(Backend *backend, const Frame *frame);
static void on_unasked(Backend *backend, const Frame *frame);
static void on_answer(Backend *backend, const Frame *frame);
static void on_error(Backend *backend, const Frame *frame);
static void translate(Backend *backend, const Frame *frame, const Expect *expect);
static void on_ready(Backend *backend, const Frame *frame);
static void on_fatal(Backend *backend, const ErrorResponse *response);
static void task_over(Backend *backend);
static void after_copy_in(Backend *backend);
static void after_tag(Backend *backend, Slice tag);
static void after_transaction(Backend *backend);
static void forget_statements(Backend *backend);
static void unlearn(Backend *backend, const Expect *skipped);
static void learn_stale_plan(Backend *backend, const Expect *failed, const ErrorResponse *response);
static void deliver(Backend *backend, const Frame *frame);
static bool decode(const Frame *frame, int *ret_columns, Error *err);
static void refuse_frame(Backend *backend, uint8_t type);
static void refuse_bytes(Backend *backend, const Error *err);

const StreamEvents CONVERSATION_EVENTS = {
    .on_bytes = conversation_on_bytes,
    .on_drained = conversation_on_drained,
    .on_gone = conversation_on_gone,
};

void conversation_begin(Backend *backend)
{
    Task *task = list_entry(list_first(&backend->inflight), Task, link);
    assert(!backend->task && backend->errand == ERRAND_NONE && !expect_head(&backend->owed));
    assert(task->state == TASK_INFLIGHT && backend->state == BACKEND_BUSY);
    Error err;
    if (task->cancelled || task->feed_failed) {
        error_set(&err, task->cancelled ? SQLSTATE_QUERY_CANCELED : SQLSTATE_OUT_OF_MEMORY,
                  task->cancelled ? "canceling statement due to user request" : "out of memory");
        conversation_refuse(backend, &err, false);
        backend_settle(backend);
        return;
    }
    backend->task = task;
    backend->binary = true; /* a portal of before may have been bound so */
    backend->out = &backend->stream.out;
    steps_close_statements(backend);
    if (task->gucs != backend->gucs && backend->tx_status == TX_IDLE)
        steps_settings(backend, task->gucs);
    backend->sent_mark = backend->stream.bytes_out + buf_len(&backend->stream.out);
    task->sent = backend->errand == ERRAND_NONE;
    task->sent_us = clock_now_us(); /* not the turn's: what was collected in it has waited */
    steps_write(backend, task, task->steps, task->step_count);
    if (task->fed_count)
        steps_write(backend, task, task->fed, task->fed_count);
}

static void conversation_on_bytes(Stream *stream)
{
    Backend *backend = stream->ctx;
    uint64_t message_max = backend->pool->set->limits.server_message_max;
    while (stream->state == STREAM_OPEN && !stream->paused) {
        Frame frame;
        Error err;
        WireResult result = frame_next_backend(buf_bytes(&stream->in), message_max, &frame, &err);
        if (result == WIRE_MORE)
            return;
        if (result == WIRE_BAD) {
            refuse_bytes(backend, &err);
            return;
        }
        on_frame(backend, &frame);
        if (backend->state == BACKEND_DEAD)
            return;
        buf_consume(&stream->in, frame.whole.len);
    }
}

static void on_frame(Backend *backend, const Frame *frame)
{
    conversation_answer(backend);
    switch (frame->type) {
    case BACKEND_NOTICE:
    case BACKEND_PARAMETER_STATUS:
    case BACKEND_NOTIFICATION:
        on_unasked(backend, frame);
        break;
    case BACKEND_ERROR:
        on_error(backend, frame);
        break;
    case BACKEND_READY:
        on_ready(backend, frame);
        break;
    default:
        on_answer(backend, frame);
        break;
    }
}

/* N, S and A may come at any time. They belong to whoever is being answered. */
static void on_unasked(Backend *backend, const Frame *frame)
{
    Error err;
    ErrorResponse notice;
    if (backend_check(frame, &err) != WIRE_OK) {
        refuse_bytes(backend, &err);
        return;
    }
    ParameterStatus status;
    if (frame->type == BACKEND_PARAMETER_STATUS &&
        backend_read_parameter_status(frame->body, &status, &err) == WIRE_OK)
        backend_learn_parameter(backend, status.name, status.value);
    if (frame->type == BACKEND_NOTICE &&
        backend_read_error(frame->body, &notice, &err) == WIRE_OK &&
        memcmp(notice.sqlstate.data, "57P", 3) == 0) /* it warns of its end */
        error_response_copy(&notice, &backend->last_error);
    const Expect *head = expect_head(&backend->owed);
    bool shown = backend->task && backend->errand == ERRAND_NONE && !(head && head->hidden);
    if (shown && (frame->type != BACKEND_NOTIFICATION || backend->task->holder)) {
        deliver(backend, frame);
    } else if (backend->state == BACKEND_HELD) {
        const PoolEvents *events = &backend->pool->set->events;
        if (events->on_held_message)
            events->on_held_message(backend->holder, backend, frame);
    }
}

static void on_answer(Backend *backend, const Frame *frame)
{
    Expect expect;
    Error err;
    int columns = -1;
    if (!decode(frame, &columns, &err)) {
        refuse_bytes(backend, &err);
        return;
    }
    ExpectVerdict verdict = expect_match(&backend->owed, frame->type, columns, &expect);
    if (verdict != EXPECT_GOES_ON && verdict != EXPECT_ANSWERED) {
        refuse_frame(backend, frame->type);
        return;
    }
    if (pool_oids(backend->pool))
        translate(backend, frame, &expect);
    if (frame->type == BACKEND_PARSE_COMPLETE)
        counter_add(&backend->pool->stats.parses, 1);
    else if (frame->type == BACKEND_COMMAND_COMPLETE)
        after_tag(backend, frame->body);
    else if (frame->type == BACKEND_COPY_IN)
        after_copy_in(backend);
    if (!expect.hidden && !expect.errand)
        deliver(backend, frame);
    if (backend->state != BACKEND_DEAD)
        conversation_answer(backend);
}

/* It was checked; the bytes are ours until the next ones are read. */
static void translate(Backend *backend, const Frame *frame, const Expect *expect)
{
    const OidMap *oids = pool_oids(backend->pool);
    if (frame->type == BACKEND_ROW_DESCRIPTION)
        translate_description(oids, frame, &backend->row);
    else if (frame->type == BACKEND_PARAMETER_DESCRIPTION)
        translate_parameters(oids, frame, backend->task ? expect->prepared : NULL); /* abandoned: it may be gone */
    else if (frame->type == BACKEND_DATA_ROW && backend->row.any)
        translate_row(oids, frame, &backend->row);
    else if (frame->type == BACKEND_NO_DATA || frame->type == BACKEND_COMMAND_COMPLETE)
        backend->row.any = false;
}

static void on_error(Backend *backend, const Frame *frame)
{
    ErrorResponse response;
    Expect failed, skipped;
    Error err;
    if (backend_read_error(frame->body, &response, &err) != WIRE_OK) {
        refuse_bytes(backend, &err);
        return;
    }
    if (slice_is(response.severity, SEVERITY_FATAL) || slice_is(response.severity, "PANIC")) {
        on_fatal(backend, &response);
        return;
    }
    if (expect_match(&backend->owed, BACKEND_ERROR, -1, &failed) != EXPECT_FAILED ||
        (failed.errand && failed.kind == EXPECT_CLOSE)) { /* which PostgreSQL cannot refuse */
        refuse_frame(backend, frame->type);
        return;
    }
    unlearn(backend, &failed);
    learn_stale_plan(backend, &failed, &response);
    while (expect_skip(&backend->owed, &skipped))
        unlearn(backend, &skipped);
    if (failed.errand) {
        backend->errand_failed = true;
        error_response_copy(&response, &backend->last_error);
        return;
    }
    const PoolEvents *events = &backend->pool->set->events;
    if (events->on_error_seen) {
        char sqlstate[6] = {0};
        memcpy(sqlstate, response.sqlstate.data, 5);
        events->on_error_seen(events->ctx, backend->pool, sqlstate);
    }
    deliver(backend, frame); /* a hidden step's error is the client's too */
}

/* The server ends this session: after shutdown, a crash of its neighbour, idle_in_transaction ...
 */
static void on_fatal(Backend *backend, const ErrorResponse *response)
{
    error_response_copy(response, &backend->last_error);
    backend_lose(backend, NULL);
}

static void on_ready(Backend *backend, const Frame *frame)
{
    Expect expect;
    Error err;
    char tx_status;
    if (backend_read_ready(frame->body, &tx_status, &err) != WIRE_OK) {
        refuse_bytes(backend, &err);
        return;
    }
    if (expect_match(&backend->owed, BACKEND_READY, -1, &expect) != EXPECT_READY) {
        refuse_frame(backend, frame->type);
        return;
    }
    backend->tx_status = tx_status;
    if (tx_status == TX_IDLE)
        after_transaction(backend);
    if (expect.errand) {
        backend_errand_done(backend);
        return;
    }
    if (backend->owed.readies == 0)
        conversation_answer(backend); /* an answer of ours that no Z follows comes before the last one */
    Task *task = backend->task;
    if (task && !task->open && backend->owed.readies == 0) {
        task_over(backend);
    } else if (task) {
        if (!expect.hidden)
            task->sink->ops->on_ready(task->sink, task, tx_status, false);
    } else if (backend->owed.readies == 0) {
        backend->draining = false;
        backend_settle(backend);
    }
    if (backend->state != BACKEND_DEAD)
        conversation_answer(backend);
}

/* The task leaves before its sink hears of it, so that the sink may run the next one right there.
 */
static void task_over(Backend *backend)
{
    Task *task = backend->task;
    Sink *sink = task->sink;
    backend->task = NULL;
    list_remove(&task->link);
    task->done_us = backend->pool->set->loop->now_us;
    task_move(task, TASK_DONE);
    counter_add(&backend->pool->stats.tasks, 1);
    backend_count_bytes(backend);
    backend->holder = NULL;
    if (task->holder && (backend->tx_status != TX_IDLE || !list_empty(&backend->inflight)))
        task_hold(task);
    sink->ops->on_ready(sink, task, backend->tx_status, true); /* `task` may be gone now */
    backend_settle(backend);
}

void conversation_refuse(Backend *backend, const Error *err, bool maybe_executed)
{
    Task *task = list_entry(list_first(&backend->inflight), Task, link);
    if (backend->task == task)
        backend->task = NULL;
    list_remove(&task->link);
    task->done_us = backend->pool->set->loop->now_us;
    task_move(task, TASK_DONE);
    task->backend = NULL;
    task->sink->ops->on_lost(task->sink, task, err, maybe_executed);
}

void conversation_forget_behind(Backend *backend)
{
    Expect expect;
    while (expect_drop(&backend->owed, &expect))
        unlearn(backend, &expect);
    backend->owed.skipping = false;
    backend->owed.phase = PHASE_START;
    list_remove(&backend->attention);
    buf_reset(&backend->behind);
    buf_trim(&backend->behind);
    backend->out = &backend->stream.out;
}

void conversation_answer(Backend *backend)
{
    static const uint8_t BYTES[2][5] = {{BACKEND_PARSE_COMPLETE, 0, 0, 0, 4},
                                        {BACKEND_CLOSE_COMPLETE, 0, 0, 0, 4}};
    Expect expect;
    list_remove(&backend->attention);
    while (backend->state != BACKEND_DEAD && expect_take_synthetic(&backend->owed, &expect)) {
        const uint8_t *bytes = BYTES[expect.answer == BACKEND_CLOSE_COMPLETE];
        Frame frame = {
            .type = expect.answer, .body = slice_of(bytes + 5, 0), .whole = slice_of(bytes, 5)};
        if (!expect.hidden)
            deliver(backend, &frame);
    }
}

/* ---- what an answer teaches ----------------------------------------------------------------- */

/* The server now reads COPY data. Nobody is left to send some, or Syncs were read as part of it. */
static void after_copy_in(Backend *backend)
{
    bool swallowed = backend->owed.swallowed > 0;
    if (backend->task) {
        if (swallowed && backend->owed.readies == 0)
            backend->task->open = true;
        return;
    }
    if (!expect_ignores_sync(&backend->owed))
        return;
    frontend_put_copy_fail(&backend->stream.out, SLICE("the client has gone"));
    steps_owe(backend, (Expect){.kind = EXPECT_COPY_END});
    if (backend->owed.readies == 0) {
        frontend_put_sync(&backend->stream.out);
        steps_owe(backend, (Expect){.kind = EXPECT_SYNC});
    }
    stream_touch(&backend->stream);
}

/* Commands after which statements are not what they were. */
static void after_tag(Backend *backend, Slice tag)
{
    static const struct {
        const char *tag;
        bool forgets; /* every prepared statement of the session is dropped (H18) */
    } TAGS[] = {{"DISCARD ALL", true},
                {"DEALLOCATE ALL", true},
                {"ALTER ", false},
                {"DROP ", false},
                {"CREATE VIEW", false}};
    for (size_t i = 0; i < ARRAY_LEN(TAGS); i++) {
        size_t len = strlen(TAGS[i].tag);
        if (tag.len < len || memcmp(tag.data, TAGS[i].tag, len) != 0)
            continue;
        if (TAGS[i].forgets)
            forget_statements(backend);
        else
            backend->schema_touched = true;
    }
}

static void after_transaction(Backend *backend)
{
    backend->gucs_touched = false;
    if (backend->schema_touched)
        prepared_schema_changed(backend->pool->set->prepared);
    backend->schema_touched = false;
}

/* All but those whose Parse is still on its way behind the command. */
static void forget_statements(Backend *backend)
{
    LIST_EACH_SAFE (link, &backend->known.used) {
        Known *known = list_entry(link, Known, link);
        if (!expect_awaits_parse(&backend->owed, known->prepared))
            known_remove(&backend->known, known->prepared);
    }
    if (!backend->known.unnamed || !expect_awaits_parse(&backend->owed, backend->known.unnamed))
        known_set_unnamed(&backend->known, NULL);
}

/* A Parse that failed or was skipped leaves nothing on the server (H16). */
static void unlearn(Backend *backend, const Expect *skipped)
{
    if (skipped->kind != EXPECT_PARSE)
        return;
    if (skipped->unnamed)
        known_set_unnamed(&backend->known, NULL);
    else
        known_remove(&backend->known, skipped->prepared);
}

/* "cached plan must not change result type": this connection parses it anew next time (H19). */
static void learn_stale_plan(Backend *backend, const Expect *failed, const ErrorResponse *response)
{
    Slice routine;
    if (!failed->prepared || failed->kind == EXPECT_PARSE ||
        !slice_is(response->sqlstate, SQLSTATE_FEATURE_NOT_SUPPORTED) ||
        !error_response_field(response, FIELD_ROUTINE, &routine) ||
        !slice_is(routine, "RevalidateCachedQuery"))
        return;
    if (failed->unnamed)
        known_set_unnamed(&backend->known, NULL);
    else
        known_close_later(&backend->known, failed->prepared);
}

/* ---- small helpers -------------------------------------------------------------------------- */

static void deliver(Backend *backend, const Frame *frame)
{
    Task *task = backend->task;
    if (!task)
        return;
    task->answered = true;
    task->sink->ops->on_frame(task->sink, task, frame);
}

/* Every message is read as what it says it is, before anybody believes it (bad-input 138). */
static bool decode(const Frame *frame, int *ret_columns, Error *err)
{
    DataRow row;
    RowDescription description;
    switch (frame->type) {
    case BACKEND_DATA_ROW:
        if (backend_read_data_row(frame->body, -1, &row, err) != WIRE_OK)
            return false;
        *ret_columns = row.count;
        return true;
    case BACKEND_ROW_DESCRIPTION:
        if (backend_read_row_description(frame->body, &description, err) != WIRE_OK)
            return false;
        *ret_columns = description.count;
        return true;
    default:
        return backend_check(frame, err) == WIRE_OK;
    }
}

static void refuse_frame(Backend *backend, uint8_t type)
{
    const Expect *head = expect_head(&backend->owed);
    Error err;
    error_set(&err, SQLSTATE_PROTOCOL_VIOLATION, "the server sent a message of type '%c' %s",
              type >= ' ' && type < 127 ? type : '?',
              head ? "that answers nothing it was asked" : "without being asked");
    refuse_bytes(backend, &err);
}

/* Also a message longer than we are willing to buffer, which is no fault of the server. */
static void refuse_bytes(Backend *backend, const Error *err)
{
    Slice in = buf_bytes(&backend->stream.in);
    uint64_t max = backend->pool->set->limits.server_message_max;
    Error told = *err;
    if (in.len >= 5 && frame_type_known_backend(in.data[0])) {
        uint32_t length = (uint32_t)in.data[1] << 24 | (uint32_t)in.data[2] << 16 |
                          (uint32_t)in.data[3] << 8 | in.data[4];
        size_t most = frame_body_max_backend(in.data[0], LARGE_BODY_MAX);
        if (length >= 4 && length - 4 > max && length - 4 <= most) {
            error_set(&told, SQLSTATE_LIMIT_EXCEEDED, "server message of %u bytes is too long",
                      length);
            error_hint(&told, "The limit is server_message_max = %llu bytes.",
                       (unsigned long long)max);
        }
    }
    backend_lose(backend, &told);
}

static void conversation_on_drained(Stream *stream)
{
    Backend *backend = stream->ctx;
    const PoolEvents *events = &backend->pool->set->events;
    void *holder = backend->task ? backend->task->holder : NULL;
    if (events->on_drained && holder)
        events->on_drained(holder, backend);
}

static void conversation_on_gone(Stream *stream, const Error *err)
{
    backend_lose(stream->ctx, err);
}
