/*
 * request.c - the life of a Request: made by the decoder, filled step by step, ended once.
 *
 *      session.requests:   [ENDED, out] <- [RUNNING] <- [RUNNING] <- [QUEUED]
 *                            leaves          answers wait in `out` until they are first
 */
#include "router/request.h"

#include <stdlib.h>

#include "core/clock.h"
#include "router/commit.h"
#include "router/encode.h"
#include "router/errand.h"
#include "router/gather.h"
#include "router/park.h"
#include "router/portal.h"
#include "router/reads.h"
#include "router/scatter.h"
#include "router/series.h"
#include "router/worker_state.h"
#include "wire/backend.h"

#define REQUEST_ARENA_BLOCK 2048
#define FREE_REQUESTS_MAX   1024

static Request *request_take(Worker *worker)
{
    List *link = list_pop(&worker->free_requests);
    if (link) {
        worker->free_request_count--;
        return list_entry(link, Request, link);
    }
    Request *request = calloc(1, sizeof *request);
    if (request)
        arena_init(&request->arena, REQUEST_ARENA_BLOCK);
    return request;
}

Request *request_create(Session *session)
{
    Request *request = request_take(session->worker);
    if (!request)
        return NULL;
    Arena arena = request->arena;
    *request = (Request){.session = session, .arena = arena, .state = REQUEST_BUILDING, .read_rule = -1};
    list_init(&request->link);
    buf_init(&request->out, worker_config(session->worker)->server_message_max);
    request->sink.ops = &ENCODE_OPS;
    request->times.arrived_us = session->arrived_us;
    return request;
}

void request_free(Request *request)
{
    if (!request)
        return;
    Worker *worker = request->session->worker;
    assert(!request->task_active && !request->call && !request->scatter);
    errand_free(request->errand);
    for (uint32_t i = 0; i < request->statement_count; i++)
        statement_release(&worker->statements, request->statements[i]);
    for (uint32_t i = 0; i < request->shape_count; i++)
        shape_release(&worker->shapes, request->shapes[i]);
    prepared_release(&worker->prepared, request->probe);
    for (KeptPrepared *kept = request->kept; kept; kept = kept->next)
        prepared_release(&worker->prepared, kept->prepared);
    buf_finish(&request->out);
    list_remove(&request->link);
    if (worker->free_request_count >= FREE_REQUESTS_MAX) {
        arena_finish(&request->arena);
        free(request);
        return;
    }
    arena_reset(&request->arena);
    worker->free_request_count++;
    list_push(&worker->free_requests, &request->link);
}

void request_drop_free(Worker *worker)
{
    List *link;
    while ((link = list_pop(&worker->free_requests))) {
        Request *request = list_entry(link, Request, link);
        arena_finish(&request->arena);
        free(request);
    }
    worker->free_request_count = 0;
}

void request_abandon(Request *request)
{
    Worker *worker = request->session->worker;
    park_leave(request);
    reads_abandon(request);
    if (request->task_active) {
        if (request->batched)
            batcher_abandon(worker->batcher, &request->task);
        else
            task_abandon(&request->task);
        request->task_active = false;
    }
    if (request->call) {
        request->call->session = NULL; /* freed when it comes back */
        request->call = NULL;
    }
    if (request->gather && !request->scatter)
        gather_abandon(request->gather);
    if (request->scatter)
        scatter_abandon(request->scatter);
    else if (request->state == REQUEST_RUNNING && request->session->commit) {
        commit_detach(request->session->commit);
        request->session->commit = NULL;
    }
}

Prepared *request_prepare(Request *request, Slice text, const uint32_t *oids, uint32_t oid_count)
{
    PreparedSet *set = &request->session->worker->prepared;
    KeptPrepared *kept = arena_new(&request->arena, KeptPrepared);
    Prepared *prepared = kept ? prepared_intern(set, text, oids, oid_count) : NULL;
    if (!prepared)
        return NULL;
    *kept = (KeptPrepared){request->kept, prepared};
    request->kept = kept;
    return prepared;
}

static bool grow_steps(Request *request)
{
    uint32_t room = request->step_room ? request->step_room * 2 : 8;
    TaskStep *steps = arena_array(&request->arena, TaskStep, room);
    if (!steps)
        return false;
    if (request->step_count)
        memcpy(steps, request->steps, request->step_count * sizeof *steps);
    request->steps = steps; /* the old array stays in the arena: a backend may still read it */
    request->step_room = room;
    return true;
}

bool request_add(Request *request, TaskOp op, const Frame *frame)
{
    if (request->step_count == request->step_room && !grow_steps(request))
        return false;
    Slice copy = {0};
    if (frame) {
        copy = arena_dup(&request->arena, frame->whole);
        if (!copy.data)
            return false;
    }
    request->steps[request->step_count++] = (TaskStep){.op = op, .frame = copy};
    return true;
}

static bool request_is_first(const Request *request)
{
    return request->session->requests.next == &request->link;
}

Buf *request_out(Request *request)
{
    if (request->capture)
        return request->capture;
    return request_is_first(request) ? &request->session->stream.out : &request->out;
}

void request_touch(Request *request)
{
    if (request->capture)
        return; /* errand.c looks at it */
    if (request_is_first(request))
        stream_touch(&request->session->stream);
    if (request_out(request)->failed)
        session_kill(request->session); /* memory is out, or the client never reads */
}

void request_cut(Request *request)
{
    if (request->complete)
        return;
    assert(request->session->building == request);
    request->session->building = NULL;
    request->cut = request->complete = true;
}

void request_end(Request *request, char tx_status)
{
    Session *session = request->session;
    Worker *worker = session->worker;
    assert(request->state == REQUEST_RUNNING);

    if (errand_turn_ended(request) || series_part_ended(request))
        return;
    request_cut(request);
    reads_note_end(request, tx_status);
    if (!request->cut && tx_status == TX_IDLE && !list_empty(&session->portals))
        portals_series_over(session);
    if (!request->cut)
        backend_put_ready(request_out(request), tx_status);
    else if (request->error_seen)
        session->skipping = true;
    request_touch(request);
    request->state = REQUEST_ENDED;
    n1_on_end(request, tx_status);
    counter_add(&worker->stats.statements, MAX(request->planned_count, 1));
    if (tx_status == TX_IDLE)
        counter_add(&worker->stats.transactions, 1);
    request->times.ended_us = clock_now_us();
    session_on_request_end(session);
}
