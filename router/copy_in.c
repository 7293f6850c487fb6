/*
 * copy_in.c - each row to its shard, and the four ways in which a COPY ends.
 *
 *     CopyDone     the last row, the trailer, CopyDone to every leg; tags are added up      COPY 7
 *     CopyFail     passed on: every shard says 57014, the first one's is the client's
 *     a bad row    CopyFail to every leg; the client gets our error
 *     a shard's E  CopyFail to the others (on_stop); what the client still sends is passed over
 *
 * While rows are dealt out the map must stay what it was: if buckets move meanwhile, the COPY fails with
 * 40001 and nothing is loaded.
 */
#include "router/copy_in.h"

#include <inttypes.h>
#include <stdio.h>

#include "router/composer.h"
#include "router/copy_layout.h"
#include "router/dispatch.h"
#include "router/local.h"
#include "router/worker_state.h"
#include "wire/backend.h"
#include "wire/value.h"

#define PENDING_SEND ((size_t)32 << 10) /* bytes for one shard that are worth a message */
#define HEADER       5                  /* of a message: d and its length */

/* The rows that wait for one leg: a CopyData under construction. */
typedef struct Pending {
    Buf rows;
    bool ready;  /* its CopyInResponse is here */
    bool choked; /* until copy_in_drained */
} Pending;

typedef struct CopyIn {
    SumComposer sum; /* first: COMPOSER_SUM's own */
    Scatter *scatter;
    CopyTarget target;
    CopyReader reader;
    Pending *pending; /* per leg */
    uint32_t ready;
    bool open;  /* the client may send data */
    bool ended; /* it has said CopyDone or CopyFail */
} CopyIn;

static const ComposerOps COMPOSER_COPY_IN;

static CopyIn *copy_of(Scatter *scatter)
{
    CopyIn *copy = scatter->composer;
    copy->scatter = scatter;
    return copy;
}

/* ---- to the legs ------------------------------------------------------------------------------------ */

static void feed_leg(CopyIn *copy, uint32_t i, Slice frames)
{
    Leg *leg = &copy->scatter->legs[i];
    if (leg->state == LEG_RUNNING && !backend_feed_copy(&leg->task, frames))
        copy->pending[i].choked = true;
}

static void feed_all(CopyIn *copy, Slice frames)
{
    for (uint32_t i = 0; i < copy->scatter->leg_count; i++)
        feed_leg(copy, i, frames);
}

static void pending_send(CopyIn *copy, uint32_t i)
{
    Buf *rows = &copy->pending[i].rows;
    Slice frame = buf_bytes(rows);
    if (frame.len <= HEADER)
        return;
    uint32_t len = __builtin_bswap32((uint32_t)(frame.len - 1));
    rows->data[rows->head] = FRONTEND_COPY_DATA;
    memcpy(rows->data + rows->head + 1, &len, sizeof len);
    feed_leg(copy, i, frame);
    buf_reset(rows);
}

static bool pending_add(CopyIn *copy, uint32_t i, Slice bytes)
{
    Buf *rows = &copy->pending[i].rows;
    if (buf_len(rows) == 0)
        buf_append(rows, slice_of("d\0\0\0", HEADER));
    buf_append(rows, bytes);
    if (rows->failed)
        return false;
    if (buf_len(rows) >= PENDING_SEND)
        pending_send(copy, i);
    return true;
}

static bool any_choked(const CopyIn *copy)
{
    for (uint32_t i = 0; i < copy->scatter->leg_count; i++)
        if (copy->pending[i].choked && copy->scatter->legs[i].state == LEG_RUNNING)
            return true;
    return false;
}

/* A leg that waits for data ends only by being told so. */
static void copy_on_stop(Scatter *scatter, Leg *leg)
{
    CopyIn *copy = copy_of(scatter);
    static const char REASON[] = "COPY has failed on another shard";
    Buf frame;
    if (copy->ended && copy->pending[leg->index].ready)
        return; /* it has been told how the data ends */
    buf_init(&frame, 256);
    frontend_put_copy_fail(&frame, slice_str(REASON));
    backend_feed_copy(&leg->task, buf_bytes(&frame));
    buf_finish(&frame);
}

/* ---- rows -------------------------------------------------------------------------------------------- */

static bool row_take(CopyIn *copy, const CopyRow *row, Error *err)
{
    uint32_t shard;
    bool ok = true;
    if (!row->every && !copy->target.all) {
        Session *session = copy->scatter->request->session;
        arena_reset(&session->worker->scratch);
        if (!copy_target_shard(&copy->target, session->worker->topology, row, &session->worker->scratch, &shard,
                               err)) {
            if (!err->detail[0])
                error_detail(err, "Row %" PRIu64 " of the data.", copy->reader.rows);
            return false;
        }
    }
    for (uint32_t i = 0; i < copy->scatter->leg_count; i++)
        if (row->every || copy->target.all || copy->scatter->legs[i].shard == shard)
            ok &= pending_add(copy, i, row->bytes);
    if (!ok)
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return ok;
}

static bool data_take(CopyIn *copy, Slice input, Error *err)
{
    CopyRow row;
    WireResult result;
    while ((result = copy_next(&copy->reader, &input, &row, err)) == WIRE_OK)
        if (!row_take(copy, &row, err))
            return false;
    return result != WIRE_BAD;
}

static bool data_end(CopyIn *copy, Error *err)
{
    CopyRow row;
    WireResult result = copy_end(&copy->reader, &row, err);
    if (result == WIRE_BAD || (result == WIRE_OK && !row_take(copy, &row, err)))
        return false;
    Slice trailer = copy_trailer(copy->reader.layout.format);
    for (uint32_t i = 0; i < copy->scatter->leg_count; i++) {
        if (trailer.len && !pending_add(copy, i, trailer)) {
            error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
            return false;
        }
        pending_send(copy, i);
    }
    return true;
}

bool copy_in_takes(const Request *request)
{
    return request->scatter && request->scatter->ops == &COMPOSER_COPY_IN;
}

bool copy_in_feed(Request *request, const Frame *frame)
{
    Session *session = request->session;
    CopyIn *copy = copy_of(request->scatter);
    Error err;
    bool ok = true;
    if (copy->ended || request->scatter->failed)
        return true;
    if (!copy_target_holds(&copy->target, session->worker->topology, &err))
        ok = false;
    else if (frame->type == FRONTEND_COPY_DATA)
        ok = data_take(copy, frame->body, &err);
    else if (frame->type == FRONTEND_COPY_DONE)
        ok = data_end(copy, &err);
    if (!ok) {
        scatter_fail(request->scatter, &err);
        return true;
    }
    if (frame->type != FRONTEND_COPY_DATA) {
        feed_all(copy, frame->whole);
        copy->ended = true;
        session->copy = SESSION_COPY_NONE;
        return true;
    }
    return !any_choked(copy);
}

bool copy_in_drained(Session *session, const Backend *backend)
{
    if (list_empty(&session->requests))
        return true;
    const Request *request = list_entry(session->requests.next, Request, link);
    if (!copy_in_takes(request))
        return true;
    CopyIn *copy = copy_of(request->scatter);
    for (uint32_t i = 0; i < copy->scatter->leg_count; i++)
        if (copy->scatter->legs[i].task.backend == backend)
            copy->pending[i].choked = false;
    return !any_choked(copy);
}

/* ---- answers ------------------------------------------------------------------------------------------ */

/* All shards wait for data: so may the client begin. In the extended protocol the Sync that came with the
 * Execute means nothing, as in PostgreSQL: the one behind the data ends the series. */
static void copy_begin(CopyIn *copy, const Frame *frame)
{
    Request *request = copy->scatter->request;
    Session *session = request->session;
    copy->open = true;
    if (request->extended)
        request->cut = true;
    local_open(request, (Slice){0});
    buf_append(request_out(request), frame->whole);
    request_touch(request);
    session->copy = SESSION_COPY_IN;
    worker_wake_session(session->worker, session); /* its data may be here already */
}

static void copy_on_frame(Scatter *scatter, Leg *leg, const Frame *frame)
{
    CopyIn *copy = copy_of(scatter);
    if (frame->type == BACKEND_COPY_IN) {
        copy->pending[leg->index].ready = true;
        if (++copy->ready == scatter->leg_count)
            copy_begin(copy, frame);
    } else if (frame->type == BACKEND_COMMAND_COMPLETE && (leg->index == 0 || !copy->target.all)) {
        COMPOSER_SUM.on_frame(scatter, leg, frame);
    }
}

static void copy_on_end(Scatter *scatter)
{
    COMPOSER_SUM.on_end(scatter);
}

static void copy_on_free(Scatter *scatter)
{
    CopyIn *copy = copy_of(scatter);
    Session *session = scatter->request->session;
    session->copy = SESSION_COPY_NONE;
    session->input_blocked = false;
    for (uint32_t i = 0; i < scatter->leg_count; i++)
        buf_finish(&copy->pending[i].rows);
    copy_reader_finish(&copy->reader);
}

static const ComposerOps COMPOSER_COPY_IN = {.on_frame = copy_on_frame,
                                             .on_stop = copy_on_stop,
                                             .on_end = copy_on_end,
                                             .on_free = copy_on_free};

/* ---- start ---------------------------------------------------------------------------------------------- */

static CopyIn *copy_create(Request *request, const DatabaseConfig *database, const CopyLayout *layout)
{
    CopyIn *copy = arena_new(&request->arena, CopyIn);
    Pending *pending = arena_array(&request->arena, Pending, database->shard_count);
    if (!copy || !pending)
        return NULL;
    copy->pending = pending;
    for (uint32_t i = 0; i < database->shard_count; i++)
        buf_init(&pending[i].rows, layout->row_max + PENDING_SEND + 64);
    copy_reader_init(&copy->reader, layout);
    return copy;
}

void copy_in_start(Request *request, const Plan *plan)
{
    Session *session = request->session;
    const Topology *topology = session->worker->topology;
    const DatabaseConfig *database = session_database(session, topology);
    const PlanStatement *statement = &request->planned[0];
    CopyTarget target;
    CopyLayout layout;
    Error err;
    if (!copy_target_read(&target, topology, plan, statement->shape, &request->arena, &layout, &err)) {
        dispatch_error(request, &err);
        return;
    }
    layout.row_max = worker_config(session->worker)->copy_row_max;
    if (!session_values_may_vary(session)) {
        error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED,
                  "COPY into a table on several shards cannot read this client encoding");
        error_hint(&err, "SET client_encoding = 'UTF8'.");
        dispatch_error(request, &err);
        return;
    }
    ScatterLeg *legs = arena_array(&request->arena, ScatterLeg, database->shard_count);
    CopyIn *copy = copy_create(request, database, &layout);
    TaskStep *steps = NULL;
    uint32_t count = 0;
    scatter_query_steps(request, statement->text, &steps, &count);
    if (!legs || !copy || !steps) {
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        session_fatal(session, &err);
        return;
    }
    copy->target = target;
    copy->target.same_encoding = plan->same_encoding;
    for (uint32_t i = 0; i < database->shard_count; i++)
        legs[i] = (ScatterLeg){.shard = database->shards[i], .steps = steps, .step_count = count};
    scatter_start(request, &(ScatterSpec){.legs = legs, .leg_count = database->shard_count, .ops = &COMPOSER_COPY_IN,
                                          .composer = copy, .atomic = true, .writes = true});
}
