/*
 * dispatch.c - the turn of one request: whether it must wait, and who takes it.
 *
 *   buckets move, no primary ───────────────────────> parked (fence, absence)
 *   single lookup ──────────────────────────────────> the batcher, or what was fetched ahead (offer)
 *   console database ───────────────────────────────> local_console
 *   sharded database: BEGIN, SAVEPOINT, COMMIT ... ─> transaction_control
 *   several statements for several shards ──────────> series
 *   otherwise ──────────────────────────────────────> planned, and on its way (route)
 */
#include "router/dispatch.h"

#include "router/absence.h"
#include "router/effect.h"
#include "router/explain.h"
#include "router/fence.h"
#include "router/local.h"
#include "router/n1.h"
#include "router/offer.h"
#include "router/planning.h"
#include "router/portal.h"
#include "router/portal_open.h"
#include "router/read_setting.h"
#include "router/reads.h"
#include "router/resolve.h"
#include "router/route.h"
#include "router/series.h"
#include "router/transaction.h"
#include "router/worker_state.h"
#include "wire/backend.h"

/* The only statement, when it is executed: a portal that is only described changes nothing. */
static const Shape *only_shape(const Request *request)
{
    return request->planned_count == 1 && request->planned[0].executed ? request->planned[0].shape : NULL;
}

static bool is_sharded(const Session *session)
{
    return session_database(session, session->worker->topology)->shard_count > 1;
}

/* A transaction that has begun nowhere yet: on several shards all of them, on one those that a replica may have. Its
 * server is chosen when the first statement comes, so that SET LOCAL shoal.* may still say which. */
static bool begins_lazily(const Request *request, const Shape *shape)
{
    const Session *session = request->session;
    const Config *config = worker_config(session->worker);
    uint32_t shard = session_database(session, session->worker->topology)->shards[0];
    if (session->spread)
        return true;
    return shape && shape->kind == SHAPE_BEGIN && (shape->traits & SHAPE_HAS_READ_ONLY) && session->tx == TX_IDLE &&
           !session->part_count && config->shards[shard].replica_count;
}

static void start(Request *request)
{
    Session *session = request->session;
    request->planned_version = session->worker->topology->published.version;
    if (session->tx == TX_IDLE || transaction_is_lazy(session))
        session->tx_version = request->planned_version; /* of the one that it may begin */
    request->state = REQUEST_RUNNING;
    session->running++;
    session->running_alone = !request->batched;
    session->statement_total += MAX(request->planned_count, 1);
}

static void start_offered(Request *request)
{
    counter_add(&request->session->worker->stats.plans[PLAN_DIRECT], 1);
    start(request);
}

/* ---- Shoal's own errors ------------------------------------------------------------------------------ */

/* The last steps of a request that Shoal has refused: what ran before it on the server must fail too,
 * the transaction block as well as the series that is a transaction of its own. A Bind to a statement
 * that cannot exist does that, hidden. */
static bool add_failure(Request *request)
{
    /* Bind: portal "", statement "shoal fails it", no formats, no parameters, no result formats. */
    static const uint8_t FAIL[] = "B\0\0\0\x1a\0shoal fails it\0\0\0\0\0\0"; /* with its last NUL */
    const Frame frame = {.type = FRONTEND_BIND, .whole = slice_of(FAIL, sizeof FAIL)};
    request_cut(request);
    if (!request_add(request, TASK_BIND, &frame) || !request_add(request, TASK_SYNC, NULL))
        return false;
    request->steps[request->step_count - 2].hidden = true;
    request->steps[request->step_count - 1].hidden = request->cut;
    return true;
}

/* Says an error that ends the request here. */
void dispatch_error(Request *request, const Error *err)
{
    Session *session = request->session;
    Participant *part = session->tx == TX_BLOCK && session->part_count ? &session->parts[0] : NULL;
    for (uint32_t i = 0; part && i < session->part_count; i++)
        if (session->parts[i].tx != TX_IDLE)
            part = &session->parts[i];
    if (!part || transaction_size(session) != 1) {
        /* No server knows of it, or several do: the transaction has failed here (transaction.c). */
        if (session->tx == TX_BLOCK)
            session->tx = TX_FAILED;
        local_error(request, err, session->tx);
        return;
    }
    Error *copy = arena_new(&request->arena, Error);
    if (!request->local_error)
        request->step_count = 0;
    if (!copy || !add_failure(request)) {
        session_fatal(session, err);
        return;
    }
    *copy = *err;
    request->local_error = copy;
    request->task_active = true;
    request->shard = part->shard;
    request->on_held = true;
    task_init(&request->task, &request->sink, request->steps, request->step_count);
    request->task.gucs = session_gucs(session);
    request->task.holder = session;
    backend_run(part->backend, &request->task);
}

/* The only connection of the transaction has died: as in any failed one, only its end is heard. */
static void run_lost(Request *request, const Shape *shape)
{
    Session *session = request->session;
    if (shape && (shape->kind == SHAPE_ROLLBACK || shape->kind == SHAPE_COMMIT) &&
        !(shape->traits & SHAPE_HAS_CHAIN)) {
        effect_transaction_over(session, false);
        local_tag(request, "ROLLBACK", TX_IDLE);
        return;
    }
    Error err;
    route_error_aborted(&err);
    local_error(request, &err, TX_FAILED);
}

/* ---- the ways ---------------------------------------------------------------------------------------- */

Pool *dispatch_pool(Session *session, uint32_t shard)
{
    const Config *config = worker_config(session->worker);
    const ServerConfig *primary = doubt_primary(session->worker, shard);
    if (!primary)
        return NULL;
    return pool_get(session->worker->pools, primary, session_database(session, session->worker->topology),
                    config_user(config, slice_str(session->user)), slice_str(session->user));
}

void dispatch_no_pool(const Session *session, uint32_t shard, Error *err)
{
    if (doubt_primary(session->worker, shard))
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    else
        doubt_tell(session->worker, shard, err);
}

/* Parse and Describe in a transaction that has no server yet must not decide on one: they run on any
 * connection, outside of the transaction. True: it is on its way, or answered. */
static bool run_aside(Request *request)
{
    Session *session = request->session;
    bool asks = false;
    if (request->planned_count)
        return false;
    for (uint32_t i = 0; i < request->step_count; i++) {
        TaskOp op = request->steps[i].op;
        if (op == TASK_EXECUTE || op == TASK_BIND || op == TASK_DESCRIBE_PORTAL)
            return false;
        asks |= op == TASK_PARSE || op == TASK_DESCRIBE_STATEMENT;
    }
    if (!asks) {
        local_answer(request, (Slice){0}, session->tx);
        return true;
    }
    for (uint32_t i = 0; i < session->script.count; i++)
        if (session->script.entries[i].kind == SCRIPT_SET)
            return false; /* it may decide what the names mean: the server must have it first */
    uint32_t shard = session_database(session, session->worker->topology)->shards[0];
    Pool *pool = dispatch_pool(session, shard);
    if (!pool)
        return false;
    request->shard = shard;
    request->aside = request->task_active = true;
    task_init(&request->task, &request->sink, request->steps, request->step_count);
    request->task.gucs = session_gucs(session);
    request->task.holder = session;
    pool_submit(pool, &request->task);
    return true;
}

/* ---- what may not run ------------------------------------------------------------------------------------ */

static bool has_function_step(const Request *request)
{
    for (uint32_t i = 0; i < request->step_count; i++)
        if (request->steps[i].op == TASK_FUNCTION)
            return true;
    return false;
}

/* On a shared connection it would be another client's value, or none. */
static bool reads_lost_state(const Request *request)
{
    const Session *session = request->session;
    if (session->tx != TX_IDLE || session->pinned || request->planned_count != 1)
        return false;
    return request->planned[0].shape->traits & SHAPE_READS_STATE;
}

/* DEALLOCATE of a statement that was prepared by a message: no server knows it by that name. */
static bool deallocates_ours(const Session *session, const Shape *shape)
{
    return shape->kind == SHAPE_DEALLOCATE && shape->statement.len && session->tx != TX_FAILED &&
           map_get(&session->statements, slice_hash(shape->statement, 0), &shape->statement);
}

void dispatch_again(Request *request)
{
    request->whole = true;
    Plan plan = planning_make(request);
    route_plan(request, &plan);
}

/* ---- the turn of one request -------------------------------------------------------------------------------- */

/* Nothing but a way for the steps before it to be answered, then the error (see resolve.c). */
static void run_refused(Request *request)
{
    Session *session = request->session;
    Error err = *request->local_error;
    bool nothing_before = request->step_count == 0;
    if (nothing_before || session->console || (session->spread && transaction_size(session) != 1)) {
        request->step_count = 0;
        request->local_error = NULL;
        TaskStep *step = arena_new(&request->arena, TaskStep);
        if (step) {
            *step = (TaskStep){.op = TASK_EXECUTE};
            request->steps = step;
            request->step_count = request->step_room = 1;
        }
        dispatch_error(request, &err);
        return;
    }
    if (session->tx == TX_BLOCK) {
        dispatch_error(request, &err);
        return;
    }
    Plan plan = planning_look(request);
    if (plan.kind != PLAN_DIRECT) {
        request->local_error = NULL;
        dispatch_error(request, plan.kind == PLAN_REJECT ? &plan.error : &err);
        return;
    }
    if (!add_failure(request)) {
        session_fatal(session, &err);
        return;
    }
    route_direct(request, plan.shard);
}

/* Several statements that do not all go to one shard, or of which some are about the transaction. */
static bool in_parts(Request *request)
{
    Session *session = request->session;
    bool several = request->planned_count > 1 ||
                   (request->planned_count == 1 && request->planned[0].shape->kind == SHAPE_MULTI);
    if (!several || !(is_sharded(session) || session->spread) || (session->tx != TX_IDLE && !session->spread) ||
        session->tx_lost)
        return false;
    return (series_has_control(request) || planning_look(request).kind != PLAN_DIRECT ||
            session->part_count) &&
           series_start(request);
}

static void run_alone(Request *request)
{
    Session *session = request->session;
    start(request);
    if (request->local_error) {
        run_refused(request);
        return;
    }
    if (session->console) {
        local_console(request);
        return;
    }
    if (is_sharded(session) && has_function_step(request)) {
        Error err;
        error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED,
                  "the function call protocol is not supported on a sharded database");
        error_hint(&err, "Call the function with SELECT.");
        dispatch_error(request, &err);
        return;
    }
    if (reads_lost_state(request)) {
        Error err;
        error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED,
                  "currval() and lastval() need the transaction in which nextval() was called");
        error_detail(&err, "Outside of a transaction each statement may run on another server session.");
        error_hint(&err, "Use INSERT ... RETURNING, or put both statements into one transaction.");
        dispatch_error(request, &err);
        return;
    }
    if (in_parts(request))
        return;
    dispatch_part(request);
}

void dispatch_part(Request *request)
{
    Session *session = request->session;
    const Shape *shape = only_shape(request);
    portal_note_closed(request);
    if (portal_refuse_name(request))
        return;
    if (shape && read_setting_run(request, shape))
        return;
    if ((is_sharded(session) || begins_lazily(request, shape)) && transaction_control(request, shape))
        return;
    if (session->tx_lost) {
        run_lost(request, shape);
        return;
    }
    if (portal_run(request) || (transaction_is_lazy(session) && run_aside(request)))
        return;
    if (shape && deallocates_ours(session, shape)) {
        effect_statement_gone(session, shape->statement);
        local_tag(request, "DEALLOCATE", session->tx);
        return;
    }
    if (shape && shape->kind == SHAPE_DECLARE && session->tx != TX_FAILED && is_sharded(session) && portal_declare(request))
        return;
    if (shape && shape->kind == SHAPE_EXPLAIN && session->tx != TX_FAILED && is_sharded(session) && explain_start(request))
        return;
    Plan plan = planning_make(request);
    route_plan(request, &plan);
}

void dispatch_refused(Task *task)
{
    Request *request = container_of(task, Request, task);
    bool cancelled = task->cancelled;
    request->batched = request->task_active = false;
    route_direct(request, request->shard);
    if (cancelled && request->task_active)
        task_cancel(&request->task);
}

/* After a failed series that had no Sync: nothing is heard until one comes. */
static void pass_over(Request *request)
{
    Session *session = request->session;
    bool ends = request->step_count && request->steps[request->step_count - 1].op == TASK_SYNC &&
                !request->cut;
    start(request);
    session->skipping = !ends;
    request->cut = !ends;
    request_end(request, session->tx);
}

/* Rows that it needs are changing their shard: it is planned again by the next topology. */
static bool must_wait(Request *request)
{
    Session *session = request->session;
    if (session->console || session->tx_lost || request->local_error || request->planned_count == 0)
        return false;
    Plan plan = planning_look(request);
    return fence_holds(request, &plan);
}

/* A shard that it needs has no primary now, or nobody knows who it is. */
static bool must_wait_for_primary(Request *request)
{
    Session *session = request->session;
    if (session->console || session->tx_lost || request->local_error)
        return false;
    Plan plan = {.kind = PLAN_LOCAL};
    if (request->planned_count)
        plan = planning_look(request);
    return absence_holds(request, &plan);
}

static bool end_with(Request *request, const Error *err)
{
    start(request);
    dispatch_error(request, err);
    return true;
}

bool dispatch_request(Request *request)
{
    Session *session = request->session;
    if (session->running && session->running_alone)
        return false;
    if (session->skipping) {
        if (session->running)
            return false;
        pass_over(request);
        return true;
    }
    if (!resolve_steps(request)) {
        Error err;
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        session_fatal(session, &err);
        return false;
    }
    Error err;
    if (session->park_cancelled && !session->running) {
        session->park_cancelled = false;
        error_set(&err, SQLSTATE_QUERY_CANCELED, "canceling statement due to user request");
        return end_with(request, &err);
    }
    if (session->worker->topology->fenced && must_wait(request)) {
        if (fence_park(session) || session->running)
            return false;
        fence_full_error(session->worker, &err);
        return end_with(request, &err);
    }
    if (absence_possible(session) && must_wait_for_primary(request)) {
        if (absence_park(session) || session->running)
            return false;
        absence_error(session, &err);
        return end_with(request, &err);
    }
    session->absent_since_us = 0;
    if (!session->running && !request->n1_watched && !session->console)
        n1_watch(request);
    if (session->running && (reads_wait_turn(request) || !offer_may_follow(request)))
        return false;
    if (!request->not_batched && offer_lookup(request)) {
        start_offered(request);
        return true;
    }
    if (request->batch_reason == BATCH_ORDER && session->running)
        return false; /* it is asked about again when those before it are answered */
    request->not_batched = true; /* asked once; its reason is counted once */
    if (session->running)
        return false;
    if (offer_ahead(request)) {
        start_offered(request);
        session->running_alone = true;
        return true;
    }
    if (request->local_error)
        request_cut(request); /* the client has sent Flush and waits for the error */
    run_alone(request);
    return true;
}

/* What came after a Flush runs where the series began, or not at all. */
static void check_more(Request *request, uint32_t planned, uint32_t from)
{
    if (request->planned_count == planned)
        return;
    Plan plan = planning_look(request);
    if (plan.fenced && !fence_passed(request)) {
        plan.kind = PLAN_REJECT; /* what runs already cannot wait, and cannot go on elsewhere */
        error_set(&plan.error, "40001", "rows of this key are being moved to another shard");
        error_hint(&plan.error, "Try again, or send Sync between statements.");
    }
    if (plan.kind == PLAN_DIRECT && (plan.any_shard || plan.shard == request->shard))
        return;
    if (plan.kind != PLAN_REJECT) {
        error_set(&plan.error, SQLSTATE_FEATURE_NOT_SUPPORTED,
                  "statements after a Flush must belong to the same shard");
        error_detail(&plan.error, "The series has begun on another shard.");
        error_hint(&plan.error, "Send Sync between them.");
    }
    request->local_error = arena_new(&request->arena, Error);
    if (request->local_error)
        *request->local_error = plan.error;
    request->step_count = from;
}

void dispatch_more(Request *request)
{
    if (request->state == REQUEST_QUEUED || request->state == REQUEST_ENDED) {
        worker_wake_session(request->session->worker, request->session);
        return;
    }
    uint32_t from = request->steps_fed, planned = request->planned_count;
    if (!resolve_steps(request) || !request->task_active)
        return;
    n1_watch(request);
    if (!request->local_error)
        check_more(request, planned, from);
    if (request->local_error && !add_failure(request)) {
        session_fatal(request->session, request->local_error);
        return;
    }
    if (request->task.state == TASK_WAITING) {
        request->task.steps = request->steps;
        request->task.step_count = request->step_count;
        request->task.open = !request->complete;
    } else {
        backend_feed(&request->task, request->steps + from, request->step_count - from);
    }
    request->steps_fed = request->step_count;
}
