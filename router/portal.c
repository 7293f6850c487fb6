/*
 * portal.c - the session's portals: found by name, driven where they live, ended with what made them.
 *
 *     FETCH 100 FROM c     ──> the portal's own connection ──> encode, as from any server
 *     Execute "C_1" 100    ──> the same
 *     CLOSE c, Close "C_1" ──> answered here; its connection goes back
 *
 * The transaction does not know of such a connection: it has written nothing, and nothing is to be committed there.
 */
#include "router/portal.h"

#include <stdlib.h>

#include "router/dispatch.h"
#include "router/effect.h"
#include "router/encode.h"
#include "router/local.h"
#include "router/scatter.h"
#include "router/transaction.h"
#include "router/worker_state.h"
#include "wire/backend.h"

static const SinkOps PORTAL_SINK;

/* ---- the registry -------------------------------------------------------------------------------------- */

Portal *portal_find(const Session *session, Slice name)
{
    LIST_EACH (link, &session->portals) {
        Portal *portal = list_entry(link, Portal, link);
        if (slice_equal(portal->name, name))
            return portal;
    }
    return NULL;
}

/* All of them count: each is looked through at each fetch, and one of its own keeps a server connection. */
static bool too_many(const Session *session, Error *err)
{
    uint32_t count = 0, max = worker_config(session->worker)->client_cursors_max;
    LIST_EACH (link, &session->portals)
        count++;
    if (count < max)
        return false;
    error_set(err, SQLSTATE_LIMIT_EXCEEDED, "too many open cursors in one session");
    error_detail(err, "The limit is %u.", max);
    error_hint(err, "CLOSE what is read, or raise client_cursors_max.");
    return true;
}

Portal *portal_create(Session *session, Slice name, PortalPlace place, Error *err)
{
    assert(!portal_find(session, name));
    if (too_many(session, err))
        return NULL;
    Portal *portal = calloc(1, sizeof *portal + name.len + 1);
    if (!portal) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return NULL;
    }
    uint8_t *text = (uint8_t *)(portal + 1);
    if (name.len)
        memcpy(text, name.data, name.len);
    *portal = (Portal){.holder.kind = HOLDER_PORTAL, .session = session, .place = place, .sink.ops = &PORTAL_SINK,
                       .depth = session->script.count, .fresh = session->tx != TX_IDLE, .name = slice_of(text, name.len)};
    list_init(&portal->link);
    list_push(&session->portals, &portal->link);
    return portal;
}

void portal_destroy(Portal *portal)
{
    if (!portal)
        return;
    list_remove(&portal->link);
    if (portal->backend)
        backend_release(portal->backend, portal->hold);
    statement_release(&portal->session->worker->statements, portal->statement);
    buf_finish(&portal->bind);
    buf_finish(&portal->description);
    free(portal);
}

/* ---- their end ------------------------------------------------------------------------------------------ */

void portals_drop(Session *session)
{
    LIST_EACH_SAFE (link, &session->portals)
        portal_destroy(list_entry(link, Portal, link));
}

void portals_transaction_over(Session *session, bool committed)
{
    LIST_EACH_SAFE (link, &session->portals) {
        Portal *portal = list_entry(link, Portal, link);
        if (!portal->hold || (portal->fresh && !committed)) {
            portal_destroy(portal);
        } else {
            portal->fresh = false;
            portal->depth = 0;
        }
    }
}

void portals_rolled_back(Session *session)
{
    LIST_EACH_SAFE (link, &session->portals) {
        Portal *portal = list_entry(link, Portal, link);
        if (portal->fresh && portal->depth >= session->script.count)
            portal_destroy(portal);
    }
}

void portals_released(Session *session)
{
    LIST_EACH (link, &session->portals) {
        Portal *portal = list_entry(link, Portal, link);
        portal->depth = MIN(portal->depth, session->script.count);
    }
}

void portals_series_over(Session *session)
{
    LIST_EACH_SAFE (link, &session->portals) {
        Portal *portal = list_entry(link, Portal, link);
        if (!portal->hold)
            portal_destroy(portal);
    }
}

void portal_on_held_lost(Portal *portal)
{
    portal->backend = NULL; /* the next fetch is told */
}

/* ---- what a request has to do with them --------------------------------------------------------------------- */

static bool step_portal(const TaskStep *step, Slice *ret)
{
    Slice body = slice_from(step->frame, 5);
    TargetMessage target;
    ExecuteMessage execute;
    Error err;
    switch (step->op) {
    case TASK_EXECUTE:
        if (frontend_read_execute(body, &execute, &err) != WIRE_OK)
            return false;
        *ret = execute.portal;
        return true;
    case TASK_DESCRIBE_PORTAL:
        if (frontend_read_describe(body, &target, &err) != WIRE_OK)
            return false;
        *ret = target.name;
        return true;
    case TASK_CLOSE_PORTAL:
        if (frontend_read_close(body, &target, &err) != WIRE_OK)
            return false;
        *ret = target.name;
        return true;
    default:
        return false;
    }
}

/* The portal of before that it goes on with; NULL: none. */
static Portal *portal_of(const Request *request)
{
    const Session *session = request->session;
    Slice name;
    if (list_empty(&session->portals))
        return NULL;
    if (request->planned_count == 1) {
        const Shape *shape = request->planned[0].shape;
        bool goes_on = request->planned[0].executed && (shape->kind == SHAPE_FETCH || shape->kind == SHAPE_CLOSE);
        return goes_on && shape->statement.len ? portal_find(session, shape->statement) : NULL;
    }
    for (uint32_t i = 0; request->planned_count == 0 && i < request->step_count; i++)
        if (step_portal(&request->steps[i], &name))
            return portal_find(session, name);
    return NULL;
}

bool portal_shard(const Request *request, uint32_t *ret)
{
    const Portal *portal = portal_of(request);
    if (!portal || portal->place != PORTAL_SHARD)
        return false;
    *ret = portal->shard;
    return true;
}

static void drop_named(Session *session, Slice name)
{
    Portal *portal = portal_find(session, name);
    if (portal && !portal->request)
        portal_destroy(portal);
}

void portal_note_closed(Request *request)
{
    Session *session = request->session;
    Slice name;
    if (list_empty(&session->portals))
        return;
    for (uint32_t i = 0; i < request->step_count; i++)
        if (request->steps[i].op == TASK_CLOSE_PORTAL && step_portal(&request->steps[i], &name)) {
            Portal *portal = portal_find(session, name);
            if (portal && portal->place != PORTAL_SHARD) /* that one's server is told */
                drop_named(session, name);
        }
    for (uint32_t i = 0; i < request->planned_count; i++)
        if (!request->planned[i].bind || request->planned[i].bind->portal.len == 0)
            drop_named(session, SLICE("")); /* a Query, and a Bind, replace the unnamed portal */
}

bool portal_refuse_name(Request *request)
{
    const Session *session = request->session;
    const Portal *portal = NULL;
    Error err;
    for (uint32_t i = 0; i < request->planned_count && !list_empty(&session->portals) && !portal; i++) {
        const PlanStatement *statement = &request->planned[i];
        const Portal *named = statement->bind ? portal_find(session, statement->bind->portal) : NULL;
        const Portal *declared = statement->executed && statement->shape->kind == SHAPE_DECLARE
                                     ? portal_find(session, statement->shape->statement)
                                     : NULL;
        portal = named && named->place != PORTAL_SHARD ? named : declared;
    }
    if (!portal || session->tx == TX_FAILED)
        return false;
    error_set(&err, "42P03", "cursor \"%.*s\" already exists", SLICE_FMT(portal->name));
    dispatch_error(request, &err);
    return true;
}

/* ---- at its own connection -------------------------------------------------------------------------------------- */

/* Its columns as the client's statement has them: the final statement over partial results names them otherwise. */
static bool describe_as_asked(const Portal *portal, const Frame *frame, Buf *out)
{
    RowDescription asked, told;
    FieldDescription field, as;
    FieldDescription *fields = arena_array(&portal->request->arena, FieldDescription, COLUMNS_MAX);
    Error err;
    size_t i = 0, k = 0, n = 0;
    Slice description = buf_bytes(&portal->description);
    if (!fields || description.len < 5 || backend_read_row_description(slice_from(description, 5), &asked, &err) != WIRE_OK ||
        backend_read_row_description(frame->body, &told, &err) != WIRE_OK || asked.count != told.count)
        return false;
    while (row_description_next(&asked, &i, &field) && row_description_next(&told, &k, &as)) {
        field.format = as.format;
        fields[n++] = field;
    }
    backend_put_row_description(out, fields, n);
    return !out->failed;
}

static void fetch_on_frame(Sink *sink, Task *task, const Frame *frame)
{
    Portal *portal = container_of(sink, Portal, sink);
    Frame other;
    Buf told;
    Error ignored;
    if (frame->type == BACKEND_ROW_DESCRIPTION) {
        buf_init(&told, 1 << 22);
        if (describe_as_asked(portal, frame, &told) && frame_next(buf_bytes(&told), SIZE_MAX, &other, &ignored) == WIRE_OK)
            ENCODE_OPS.on_frame(&portal->request->sink, task, &other);
        else
            ENCODE_OPS.on_frame(&portal->request->sink, task, frame);
        buf_finish(&told);
        return;
    }
    ENCODE_OPS.on_frame(&portal->request->sink, task, frame);
}

static void fetch_over(Portal *portal)
{
    Request *request = portal->request;
    Session *session = request->session;
    portal->request = NULL;
    request->task_active = request->skipping = false;
    if (request->error_seen) {
        encode_drop_unconfirmed(request);
        if (!portal->hold)
            portal_destroy(portal);
    }
    if (session->tx != TX_IDLE)
        effect_everywhere(request, request->error_seen ? TX_FAILED : TX_BLOCK);
    request_end(request, session->tx);
}

static void fetch_on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    Portal *portal = container_of(sink, Portal, sink);
    (void)tx_status;
    if (!last)
        return;
    latency_on_answer(portal->request, task);
    task_hold(task);
    fetch_over(portal);
}

static void fetch_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    Portal *portal = container_of(sink, Portal, sink);
    (void)maybe_executed;
    latency_on_answer(portal->request, task);
    encode_error(portal->request, err);
    if (backend_state(portal->backend) == BACKEND_DEAD)
        portal->backend = NULL;
    fetch_over(portal);
}

static const SinkOps PORTAL_SINK = {.on_frame = fetch_on_frame, .on_ready = fetch_on_ready, .on_lost = fetch_on_lost};

static void fetch(Request *request, Portal *portal)
{
    Session *session = request->session;
    bool ends = request->complete;
    Error err;
    request_cut(request); /* what comes behind a Flush is another question */
    if (!ends && !request_add(request, TASK_SYNC, NULL)) {
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        session_fatal(session, &err);
        return;
    }
    if (!ends)
        request->steps[request->step_count - 1].hidden = true;
    portal->request = request;
    request->shard = portal->shard;
    request->task_active = true;
    task_init(&request->task, &portal->sink, request->steps, request->step_count);
    request->task.gucs = session_gucs(session);
    request->task.holder = portal;
    backend_run(portal->backend, &request->task);
}

/* CLOSE ALL: on all servers that may have one. */
static bool close_all(Request *request)
{
    Session *session = request->session;
    bool any = !list_empty(&session->portals);
    if (!any || session->tx == TX_FAILED)
        return false;
    portals_drop(session);
    if (session->part_count == 0) {
        local_tag(request, "CLOSE CURSOR ALL", session->tx);
        return true;
    }
    if (session->tx == TX_IDLE) /* WITH HOLD, where the session is pinned */
        return false;
    scatter_on_all(request);
    return true;
}

static bool lost(Request *request, Portal *portal)
{
    Error err;
    if (portal->backend)
        return false;
    error_set(&err, SQLSTATE_CONNECTION_FAILURE, "connection to the merge server was lost");
    error_detail(&err, "The rows of cursor \"%.*s\" were there.", SLICE_FMT(portal->name));
    portal_destroy(portal);
    dispatch_error(request, &err);
    return true;
}

bool portal_run(Request *request)
{
    Session *session = request->session;
    const Shape *shape = request->planned_count == 1 ? request->planned[0].shape : NULL;
    if (shape && shape->kind == SHAPE_CLOSE && request->planned[0].executed && !shape->statement.len)
        return close_all(request);
    Portal *portal = portal_of(request);
    if (!portal || portal->place != PORTAL_OWN || session->tx == TX_FAILED)
        return false;
    if (shape && shape->kind == SHAPE_CLOSE) {
        portal_destroy(portal);
        local_tag(request, "CLOSE CURSOR", session->tx);
        return true;
    }
    if (!lost(request, portal))
        fetch(request, portal);
    return true;
}

/* ---- on a shard --------------------------------------------------------------------------------------------------- */

static void note_on_shard(Session *session, Slice name, uint32_t shard, bool declared, bool hold)
{
    Portal *portal = portal_find(session, name);
    Error ignored;
    if (!portal)
        portal = portal_create(session, name, PORTAL_SHARD, &ignored);
    if (!portal || portal->place != PORTAL_SHARD)
        return; /* too many: a later fetch is asked where the transaction is, and refused there if it is elsewhere */
    portal->shard = shard;
    portal->declared = declared;
    portal->hold = hold;
}

void portal_follow(Request *request, uint32_t shard)
{
    Session *session = request->session;
    if (session_database(session, session->worker->topology)->shard_count == 1 ||
        (!session->spread && list_empty(&session->portals) && !request->pins))
        return; /* where there is one server, it knows them all */
    for (uint32_t i = 0; i < request->planned_count; i++) {
        const PlanStatement *statement = &request->planned[i];
        const Shape *shape = statement->shape;
        if (shape->kind == SHAPE_DECLARE && statement->executed)
            note_on_shard(session, shape->statement, shard, true, (shape->traits & SHAPE_HAS_HOLD) != 0);
        else if (shape->kind == SHAPE_CLOSE && statement->executed)
            drop_named(session, shape->statement);
        if (statement->bind && (statement->bind->portal.len || request->max_rows > 0 || !statement->executed))
            note_on_shard(session, statement->bind->portal, shard, false, false);
    }
    Slice name;
    for (uint32_t i = 0; i < request->step_count && !list_empty(&session->portals); i++)
        if (request->steps[i].op == TASK_CLOSE_PORTAL && step_portal(&request->steps[i], &name))
            drop_named(session, name);
}

/* ---- bound, not executed -------------------------------------------------------------------------------------------- */

/* B | length | portal NUL | ...  without the name. */
static Slice bind_unnamed(Slice frame, Slice portal, Arena *arena)
{
    size_t len = frame.len - portal.len;
    uint8_t *copy = arena_alloc(arena, len);
    if (!copy)
        return slice_of(NULL, 0);
    uint32_t word = (uint32_t)len - 1;
    copy[0] = frame.data[0];
    for (int i = 0; i < 4; i++)
        copy[1 + i] = (uint8_t)(word >> (24 - 8 * i));
    memcpy(copy + 5, frame.data + 5 + portal.len, len - 5);
    return slice_of(copy, len);
}

static Slice describe_unnamed(Arena *arena)
{
    static const uint8_t FRAME[] = {'D', 0, 0, 0, 6, 'P', 0};
    return arena_dup(arena, slice_of(FRAME, sizeof FRAME));
}

static bool keep_bind(Portal *portal, Statement *statement, Slice frame)
{
    buf_init(&portal->bind, frame.len);
    portal->statement = statement_retain(statement);
    return buf_append(&portal->bind, frame);
}

bool portal_bind_later(Request *request)
{
    Session *session = request->session;
    Slice name = request->bound ? request->bound->portal : SLICE("");
    Error err;
    if (!request->bound || !request->bound_statement)
        return true;
    drop_named(session, name);
    Portal *portal = portal_create(session, name, PORTAL_BOUND, &err);
    if (!portal)
        return error_is(&err, SQLSTATE_LIMIT_EXCEEDED); /* its Execute will not find it */
    for (uint32_t i = 0; i < request->step_count; i++) {
        TaskStep *step = &request->steps[i];
        if (step->op == TASK_BIND) {
            if (!keep_bind(portal, request->bound_statement, step->frame))
                return false;
            step->frame = bind_unnamed(step->frame, name, &request->arena);
        } else if (step->op == TASK_DESCRIBE_PORTAL) {
            step->frame = describe_unnamed(&request->arena);
        }
        if ((step->op == TASK_BIND || step->op == TASK_DESCRIBE_PORTAL) && !step->frame.len)
            return false;
    }
    return true;
}

Portal *portal_recall(const Session *session, Slice name)
{
    Portal *portal = list_empty(&session->portals) ? NULL : portal_find(session, name);
    return portal && portal->place == PORTAL_BOUND && buf_len(&portal->bind) ? portal : NULL;
}
