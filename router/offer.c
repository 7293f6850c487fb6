/*
 * offer.c - rule 2 of batching, as far as a client's messages tell: one statement, executed once and whole,
 * outside of a transaction. What looks like that is offered; the batcher knows the other rules.
 */
#include "router/offer.h"

#include "batcher/without.h"
#include "router/dispatch.h"
#include "router/n1.h"
#include "router/planning.h"
#include "router/reads.h"
#include "router/transaction.h"
#include "router/worker_state.h"

static bool one_statement(const Request *request)
{
    if (request->flushed || request->pins || request->planned_count != 1 || request->local_error ||
        !request->last_reading)
        return false;
    if (!request->extended)
        return true;
    uint32_t binds = 0, executes = 0;
    for (uint32_t i = 0; i < request->step_count; i++) {
        TaskOp op = request->steps[i].op;
        if (op == TASK_QUERY || op == TASK_FUNCTION || op == TASK_CLOSE_PORTAL ||
            op == TASK_CLOSE_STATEMENT || op == TASK_FLUSH || op == TASK_RAW)
            return false;
        binds += op == TASK_BIND;
        executes += op == TASK_EXECUTE;
    }
    return binds == 1 && executes == 1 && request->max_rows <= 0 && request->bound->portal.len == 0;
}

static bool is_select(const Request *request)
{
    return request->planned[0].shape->kind == SHAPE_SELECT;
}

/* The newest of the client's statements before this one that is on its way; NULL: there is none. */
static Request *running_before(const Request *request)
{
    const List *head = &request->session->requests;
    for (List *link = request->link.prev; request->session->running && link != head; link = link->prev) {
        Request *before = list_entry(link, Request, link);
        if (before->state == REQUEST_RUNNING)
            return before;
    }
    return NULL;
}

static BatchCandidate candidate_of(Request *request, Pool *pool)
{
    Session *session = request->session;
    Worker *worker = session->worker;
    const PlanStatement *statement = &request->planned[0];
    Request *before = running_before(request);
    return (BatchCandidate){
        .policy = {.shape = statement->shape,
                   .topology = worker->topology,
                   .database = session->database_index,
                   .user = slice_str(session->user),
                   .search_path = session_search_path(session, worker->topology),
                   .gucs = session_gucs(session),
                   .hint = request->last_reading->hint,
                   .autocommit = true,
                   .session_state = session->pinned,
                   .values_may_vary = session_values_may_vary(session)},
        .text = statement->text,
        .literals = statement->literals,
        .param_oids = statement->param_oids,
        .param_oid_count = statement->param_oid_count,
        .bind = statement->bind,
        .pool = pool,
        .gucs = session_gucs(session),
        .before = before ? &before->task : NULL,
    };
}

/* A session that goes on from what it has seen asks for each row when it needs it. */
static bool n1_may(const Request *request)
{
    return !request->read || request->read->promise.consistency != READ_SESSION;
}

/* To the batcher, or to what an N+1 loop has fetched ahead. `held`: the connection of the transaction,
 * where only the latter is possible; NULL outside of one. */
static bool run_batched(Request *request, uint32_t shard, Backend *held)
{
    Session *session = request->session;
    Pool *pool = held ? dispatch_pool(session, shard) : NULL;
    Error refused; /* said when it comes again, alone */
    if ((!held && !reads_route(request, shard, &pool, &refused)) || !pool)
        return false;
    BatchCandidate candidate = candidate_of(request, pool);
    request->shard = shard;
    request->on_held = held != NULL;
    task_init(&request->task, held ? &request->sink : reads_sink(request), request->steps, request->step_count);
    request->task.gucs = session_gucs(session);
    request->task.holder = session;
    request->task.read_only = !held && is_select(request);
    if (n1_may(request) && n1_answer(request, &candidate, held)) {
        if (request->read) { /* asked ahead, with its own key among the others: longer than one read, and no hedge */
            request->read->hedged = true;
            reads_begin(request);
        }
        return true;
    }
    Batcher *batcher = session->worker->batcher;
    BatchReason reason = held                      ? BATCH_IN_TRANSACTION
                         : request->task.read_only ? batcher_add(batcher, &candidate, &request->task)
                                                   : batcher_add_write(batcher, &candidate, &request->task);
    request->batch_reason = (uint8_t)reason;
    if (reason != BATCH_OK)
        return false;
    request->task_active = true;
    request->batched = true;
    reads_begin(request);
    return true;
}

bool offer_may_follow(const Request *request)
{
    Request *before = running_before(request);
    return !before || (before->batched && batcher_may_follow(&before->task));
}

bool offer_lookup(Request *request)
{
    const Session *session = request->session;
    bool idle = session->tx == TX_IDLE && !session->part_count;
    if ((!idle && !without_rule(2) && !without_rule(6)) || !one_statement(request) || session->console ||
        !is_select(request))
        return false;
    Plan plan = planning_look(request);
    return plan.kind == PLAN_DIRECT && run_batched(request, plan.shard, NULL);
}

bool offer_ahead(Request *request)
{
    const Session *session = request->session;
    if (!n1_follows(request) || session->tx != TX_BLOCK || session->pinned || !one_statement(request) ||
        !is_select(request))
        return false;
    Plan plan = planning_look(request);
    const Participant *part = plan.kind == PLAN_DIRECT ? transaction_part(session, plan.shard) : NULL;
    return part && part->tx == TX_BLOCK && run_batched(request, plan.shard, part->backend);
}

bool offer_write(Request *request, uint32_t shard)
{
    const Session *session = request->session;
    if (!worker_config(session->worker)->batch_writes || session->tx != TX_IDLE || session->part_count ||
        !one_statement(request))
        return false;
    ShapeKind kind = request->planned[0].shape->kind;
    return (kind == SHAPE_INSERT || kind == SHAPE_UPDATE || kind == SHAPE_DELETE) &&
           run_batched(request, shard, NULL);
}
