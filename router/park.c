/*
 * park.c - why this file exists: while a standby is being promoted every write would fail at once, and
 * each application would have to know how to wait. A few seconds of waiting here, in order and with a
 * limit, are a failover that nobody sees.
 */
#include "router/park.h"

#include "core/clock.h"
#include "router/absence.h"
#include "router/dispatch.h"
#include "router/encode.h"
#include "router/reads.h"
#include "router/worker_state.h"

#define LOOK_MS 20

bool park_request(Request *request, uint32_t wait_ms, const Error *why, bool (*retry)(Request *request),
                  void (*give_up)(Request *request, const Error *why))
{
    Worker *worker = request->session->worker;
    Parked *parked = arena_new(&request->arena, Parked);
    if (!parked)
        return false;
    *parked = (Parked){.request = request,
                       .until_us = clock_now_us() + (uint64_t)wait_ms * 1000,
                       .retry = retry,
                       .give_up = give_up,
                       .why = *why};
    list_init(&parked->link);
    list_push(&worker->parked, &parked->link);
    request->parked = parked;
    parks_soon(worker);
    return true;
}

void parks_soon(Worker *worker)
{
    if (!timer_armed(&worker->park_timer))
        timer_start_ms(&worker->park_timer, LOOK_MS);
}

void park_leave(Request *request)
{
    if (request->parked)
        list_remove(&request->parked->link);
    request->parked = NULL;
}

void park_cancel(Request *request)
{
    Parked *parked = request->parked;
    Error err;
    error_set(&err, SQLSTATE_QUERY_CANCELED, "canceling statement due to user request");
    park_leave(request);
    parked->give_up(request, &err);
}

void parks_look(Worker *worker)
{
    doubt_look(worker);
    uint64_t now_us = clock_now_us();
    List waiting; /* who parks again waits for the next look */
    list_init(&waiting);
    list_splice(&waiting, &worker->parked);
    for (List *link = list_pop(&waiting); link; link = list_pop(&waiting)) {
        Parked *parked = list_entry(link, Parked, link);
        Request *request = parked->request;
        request->parked = NULL;
        if (parked->retry(request))
            continue;
        if (now_us >= parked->until_us) {
            parked->give_up(request, &parked->why);
            continue;
        }
        request->parked = parked;
        list_push(&worker->parked, link);
    }
    if (absence_look(worker) || worker->doubts.open || !list_empty(&worker->parked))
        parks_soon(worker);
}

void parks_on_time(Timer *timer)
{
    parks_look(timer->ctx);
}

/* ---- for a primary ---------------------------------------------------------------------------------- */

/* Sent again as soon as somebody takes writes; when that fails too, it comes back here by itself. */
static bool retry_primary(Request *request)
{
    const Topology *topology = request->session->worker->topology;
    const ServerConfig *primary = doubt_primary(request->session->worker, request->shard);
    if (!primary)
        return false;
    ServerStanding standing = standing_get(topology->standings, primary->index);
    if (standing.state != HEALTH_UP)
        return false; /* it does not answer the control thread either */
    Pool *pool = reads_server_pool(request, primary->index);
    if (!pool)
        return false;
    GucVector *gucs = request->task.gucs;
    request->read = NULL;
    request->batched = false;
    task_init(&request->task, &request->sink, request->steps, request->step_count);
    request->task.gucs = gucs;
    request->task.holder = request->session;
    request->task.open = !request->complete;
    request->task_active = true;
    pool_submit(pool, &request->task);
    return true;
}

static void give_up_primary(Request *request, const Error *why)
{
    ENCODE_OPS.on_lost(&request->sink, &request->task, why, false);
}

/* What tells of a server that is not there, and not of a login that is wrong. */
static bool is_absence(const Error *why)
{
    static const char *const STATES[] = {"08000", "08001", "08003", "08004", "08006", "57P01", "57P02", "57P03"};
    for (size_t i = 0; i < ARRAY_LEN(STATES); i++)
        if (error_is(why, STATES[i]))
            return true;
    return false;
}

bool park_for_primary(Request *request, const Error *why)
{
    const Config *config = worker_config(request->session->worker);
    uint64_t now_us = clock_now_us();
    uint64_t wait_us = (uint64_t)config->failover_wait_ms * 1000;
    if (!wait_us || !config->shards[request->shard].replica_count || !is_absence(why) ||
        request->session->state != SESSION_ACTIVE || request->session->worker->stopping)
        return false;
    if (!request->absent_since_us)
        request->absent_since_us = now_us;
    uint64_t waited_us = now_us - request->absent_since_us;
    return waited_us < wait_us &&
           park_request(request, (uint32_t)((wait_us - waited_us) / 1000), why, retry_primary, give_up_primary);
}
