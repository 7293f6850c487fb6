/*
 * route.c - from a plan to the ones that carry it out: a task on one shard, or what composes the answers of several.
 *
 *   DIRECT ─ a batch of writes (offer), else the participant's connection, a replica's (reads), or a pool's
 *   WRITE, DDL ──> scatter      SCATTER ──> scatter_read, gather, portal_open
 *   INSERT ──> insert           INSERT ... SELECT ──> insert_select, MERGE ──> merge_rows        COPY ──> copy_in, copy_out
 *   LOCAL ──> a shoal function  PROBE ──> PostgreSQL says what is wrong    REJECT ──> the planner's error
 */
#include "router/route.h"

#include "router/copy_in.h"
#include "router/copy_out.h"
#include "router/dispatch.h"
#include "router/doubt.h"
#include "router/encode.h"
#include "router/gather.h"
#include "router/insert.h"
#include "router/insert_select.h"
#include "router/merge_rows.h"
#include "router/local.h"
#include "router/offer.h"
#include "router/portal.h"
#include "router/portal_open.h"
#include "router/reads.h"
#include "router/rekey.h"
#include "router/scatter.h"
#include "router/scatter_read.h"
#include "router/transaction.h"
#include "router/worker_state.h"

void route_error_aborted(Error *err)
{
    error_set(err, "25P02", "current transaction is aborted, commands ignored until end of transaction block");
}

/* The shard joins the transaction in the same write as the request. */
static bool prepend_opening(Request *request)
{
    TaskStep *steps = arena_array(&request->arena, TaskStep, request->step_count + 1);
    Slice opening = transaction_opening(request->session, &request->arena);
    if (!steps || !opening.len)
        return false;
    request->opening = true;
    steps[0] = (TaskStep){.op = TASK_QUERY, .hidden = true, .frame = opening};
    memcpy(steps + 1, request->steps, request->step_count * sizeof *steps);
    request->steps = steps;
    request->step_count++;
    request->step_room = request->step_count;
    request->prepared_count++;
    return true;
}

void route_direct(Request *request, uint32_t shard)
{
    Session *session = request->session;
    Participant *part = transaction_part(session, shard);
    bool joins = session->spread && (!part || part->tx == TX_IDLE);
    Pool *pool = NULL;
    Error err;
    if (joins && session->tx == TX_FAILED) { /* nobody joins what has failed elsewhere */
        route_error_aborted(&err);
        local_error(request, &err, TX_FAILED);
        return;
    }
    if (!part && !reads_route(request, shard, &pool, &err)) {
        dispatch_error(request, &err);
        return;
    }
    if (joins && !prepend_opening(request)) {
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        local_error(request, &err, session->tx);
        return;
    }
    request->shard = shard;
    request->on_held = part != NULL;
    request->task_active = true;
    request->steps_fed = request->step_count;
    task_init(&request->task, part ? &request->sink : reads_sink(request), request->steps, request->step_count);
    request->task.gucs = session_gucs(session);
    request->task.holder = session;
    request->task.open = !request->complete;
    request->task.read_only = request->read && request->read->may_hedge;
    if (part) {
        backend_run(part->backend, &request->task);
    } else if (pool) {
        pool_submit(pool, &request->task);
        reads_begin(request);
    } else { /* nobody takes the shard's writes now */
        doubt_tell(session->worker, shard, &err);
        ENCODE_OPS.on_lost(&request->sink, &request->task, &err, false);
    }
}

/* PostgreSQL says what is wrong with a text that we cannot read; it must not run it, because nobody
 * knows on which shard it belongs. */
static void run_probe(Request *request, uint32_t shard)
{
    Session *session = request->session;
    const PlanStatement *statement = &request->planned[0];
    TaskStep *steps = arena_array(&request->arena, TaskStep, 2);
    Prepared *prepared = prepared_intern(&session->worker->prepared, statement->text, NULL, 0);
    Error *err = arena_new(&request->arena, Error);
    if (!steps || !prepared || !err || session->tx != TX_IDLE) {
        Error refused;
        prepared_release(&session->worker->prepared, prepared);
        error_set(&refused, SQLSTATE_SYNTAX_ERROR, "statement cannot be routed");
        error_detail(&refused, "Shoal cannot read it: %s.", statement->shape->reason);
        dispatch_error(request, &refused);
        return;
    }
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED,
              "this statement cannot be routed on a sharded database");
    error_detail(err, "Shoal cannot read it: %s.",
                 statement->shape->reason ? statement->shape->reason : "it names a table that is not known yet");
    error_hint(err, "Use PostgreSQL 15's grammar, or connect to a shard directly.");
    request->probe = prepared;
    request->local_error = err;
    steps[0] = (TaskStep){.op = TASK_PARSE, .unnamed = true, .prepared = prepared, .hidden = true};
    steps[1] = (TaskStep){.op = TASK_SYNC};
    request->steps = steps;
    request->step_count = request->step_room = request->prepared_count = 2;
    request->planned_count = 0;
    route_direct(request, shard);
}

/* Only described: any shard can do that. What it has bound may still be executed, by a request of its own. */
static void run_described(Request *request)
{
    Session *session = request->session;
    bool goes_on = !request->complete;
    Error err;
    request_cut(request);
    if ((goes_on || session->tx != TX_IDLE) && !portal_bind_later(request)) {
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        session_fatal(session, &err);
        return;
    }
    if (goes_on && request_add(request, TASK_SYNC, NULL))
        request->steps[request->step_count - 1].hidden = true;
    route_direct(request, session_database(session, session->worker->topology)->shards[0]);
}

/* What returns no rows is run to its end, whatever the limit (JDBC says 1 there). */
static bool refuse_parts(Request *request)
{
    Error err;
    if (request->max_rows <= 0 || !(request->planned[request->planned_count - 1].shape->traits & SHAPE_HAS_RETURNING))
        return false;
    error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED, "rows of a write on several shards cannot be fetched in parts");
    error_hint(&err, "Execute it without a row limit (fetch size).");
    dispatch_error(request, &err);
    return true;
}

/* A statement that writes on several shards. */
static void run_write(Request *request, const Plan *plan)
{
    if (refuse_parts(request))
        return;
    if (plan->rekeys)
        rekey_start(request, plan);
    else if (plan->same)
        scatter_same(request, plan->shards, plan->shard_count);
    else
        scatter_write(request, plan->shards, plan->shard_count, plan->texts);
}

static void run_insert_select(Request *request, const Plan *plan)
{
    if (!refuse_parts(request))
        insert_select_start(request, plan);
}

static void run_copy(Request *request, const Plan *plan)
{
    if (plan->kind == PLAN_COPY_IN)
        copy_in_start(request, plan);
    else
        copy_out_start(request, plan);
}

/* A SELECT over several shards. */
static void run_spread(Request *request, const Plan *plan)
{
    if (request->max_rows > 0 && !request->portal)
        portal_open(request, plan);
    else if (plan->spread->form.kind == SPLIT_CONCAT || plan->spread->form.kind == SPLIT_ORDERED)
        scatter_read(request, plan->spread);
    else if (!gather_refuse_locked(request))
        gather_start(request, plan->spread);
}

/* One portal, executed in parts within one series: the parts could not be told apart in its answer. */
static bool refuse_repeated(Request *request)
{
    uint32_t executes = 0;
    Error err;
    for (uint32_t i = 0; i < request->step_count; i++)
        executes += request->steps[i].op == TASK_EXECUTE;
    if (executes < 2)
        return false;
    error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED, "a portal over several shards cannot be executed twice in one series");
    error_hint(&err, "Send Sync or Flush between the Execute messages.");
    dispatch_error(request, &err);
    return true;
}

static bool is_on_several(PlanKind kind)
{
    return kind != PLAN_DIRECT && kind != PLAN_LOCAL && kind != PLAN_PROBE && kind != PLAN_REJECT;
}

/* The transaction has failed on some shard: nothing runs on the others, where nobody knows (H63). The one that has failed
 * answers in its own words. */
static bool fails_with_transaction(Request *request, const Plan *plan)
{
    Session *session = request->session;
    Error err;
    if (!session->spread || session->tx != TX_FAILED || plan->kind == PLAN_PROBE)
        return false;
    Participant *part = plan->kind == PLAN_DIRECT ? transaction_part(session, plan->shard) : NULL;
    if (part && part->tx == TX_FAILED)
        return false;
    route_error_aborted(&err);
    local_error(request, &err, TX_FAILED);
    return true;
}

void route_plan(Request *request, Plan *plan)
{
    Session *session = request->session;
    Error err;
    counter_add(&session->worker->stats.plans[plan->kind], 1);
    if (fails_with_transaction(request, plan))
        return;
    if (is_on_several(plan->kind) && refuse_repeated(request))
        return;
    if (is_on_several(plan->kind) && !request->planned[0].executed) {
        run_described(request);
        return;
    }
    switch (plan->kind) {
    case PLAN_DIRECT:
        if (!offer_write(request, plan->shard))
            route_direct(request, plan->shard);
        break;
    case PLAN_DDL:
        scatter_ddl(request, plan->alone);
        break;
    case PLAN_WRITE:
        run_write(request, plan);
        break;
    case PLAN_SCATTER:
        run_spread(request, plan);
        break;
    case PLAN_INSERT:
        if (!refuse_parts(request))
            insert_start(request, plan);
        break;
    case PLAN_INSERT_SELECT:
        run_insert_select(request, plan);
        break;
    case PLAN_MERGE: /* which returns no rows */
        merge_rows_start(request, plan);
        break;
    case PLAN_COPY_IN:
    case PLAN_COPY_OUT:
        run_copy(request, plan);
        break;
    case PLAN_LOCAL:
        if (!request->planned[0].executed) {
            error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED,
                      "shoal functions cannot be described without being executed");
            error_hint(&err, "Use the simple protocol, or send Bind and Execute together.");
            dispatch_error(request, &err);
        } else if (session->tx != TX_IDLE || request->planned_count != 1) {
            error_set(&err, "25001", "shoal functions cannot run inside a transaction block");
            dispatch_error(request, &err);
        } else {
            local_function(request);
        }
        break;
    case PLAN_PROBE:
        run_probe(request, plan->shard);
        break;
    default:
        dispatch_error(request, &plan->error);
        break;
    }
}

