/*
 * planning.c - the planner is pure: here it is told who asks, and its plan is fitted to the connections
 * that the session holds.
 */
#include "router/planning.h"

#include <stdio.h>
#include <time.h>

#include "router/portal.h"
#include "router/transaction.h"
#include "router/views.h"
#include "router/worker_state.h"

bool planning_same_encoding(const Session *session, const Topology *topology)
{
    const GucEntry *entry = guc_find(session_gucs(session), SLICE("client_encoding"));
    const Catalog *catalog = topology->catalogs[session->database_index];
    if (!entry)
        return true;
    Slice value = entry->value;
    if (value.len >= 2 && value.data[0] == '\'')
        value = slice_of(value.data + 1, value.len - 2);
    return slice_equal_nocase(value, catalog->encoding) ||
           (slice_equal_nocase(value, SLICE("utf-8")) && slice_is(catalog->encoding, "UTF8"));
}

/* What now() means in a statement that runs on several servers. */
static Slice moment(const Request *request)
{
    const Session *session = request->session;
    struct timespec now;
    struct tm utc;
    char *text = arena_alloc(&session->worker->scratch, 64);
    if (!text || session->tx != TX_IDLE) /* a transaction's own moment is its server's secret */
        return (Slice){0};
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t len = strftime(text, 40, "%Y-%m-%d %H:%M:%S", &utc);
    len += (size_t)snprintf(text + len, 24, ".%06ld+00", now.tv_nsec / 1000);
    return slice_of(text, len);
}

/* The cursor of UPDATE, DELETE ... WHERE CURRENT OF. */
static void cursor_fill(const Request *request, const Shape *shape, PlanInput *ret)
{
    bool positioned = (shape->kind == SHAPE_UPDATE || shape->kind == SHAPE_DELETE) && shape->statement.len;
    const Portal *portal = positioned ? portal_find(request->session, shape->statement) : NULL;
    ret->cursor = portal && portal->place == PORTAL_SHARD ? &portal->shard : NULL;
    ret->cursor_gathered = portal && portal->place != PORTAL_SHARD;
}

static void input_fill(const Request *request, PlanInput *ret)
{
    const Session *session = request->session;
    Worker *worker = session->worker;
    *ret = (PlanInput){.topology = worker->topology,
                       .database = session->database_index,
                       .user = slice_str(session->user),
                       .search_path = session_search_path(session, worker->topology),
                       .path_unknown = session->path_unknown || session->path_local,
                       .temporary = session->temporary,
                       .changed = session->tx_ddl,
                       .partitioned = session->tx_ddl && session->tx_partition,
                       .in_transaction = session->tx != TX_IDLE,
                       .same_encoding = planning_same_encoding(session, worker->topology),
                       .arena = &worker->scratch,
                       .bucket_uses = worker->stats.bucket_uses,
                       .whole = request->whole};
}

void planning_input(const Request *request, PlanInput *ret)
{
    input_fill(request, ret);
    ret->now = moment(request);
}

static Plan plan_request(Request *request, bool spread)
{
    Worker *worker = request->session->worker;
    PlanInput input;
    arena_reset(&worker->scratch);
    input_fill(request, &input);
    if (spread)
        input.now = moment(request);
    if (spread && request->planned_count == 1)
        input.keep = &request->arena;
    if (request->planned_count == 1)
        cursor_fill(request, request->planned[0].shape, &input);
    if (request->planned_count == 1)
        return views_plan(request, &input, &request->planned[0]);
    Plan *plans = arena_array(&worker->scratch, Plan, request->planned_count + 1);
    Plan none = {.kind = PLAN_REJECT};
    if (!plans) {
        error_set(&none.error, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return none;
    }
    for (uint32_t i = 0; i < request->planned_count; i++) {
        cursor_fill(request, request->planned[i].shape, &input);
        plans[i] = views_plan(request, &input, &request->planned[i]);
        input.path_unknown |= plan_sets_path(request->planned[i].shape);
    }
    return plan_merge(&input, plans, request->planned_count);
}

static void refuse(Plan *plan, const char *message, const char *here, const char *there, const char *hint)
{
    plan->kind = PLAN_REJECT;
    error_set(&plan->error, SQLSTATE_FEATURE_NOT_SUPPORTED, "%s", message);
    error_detail(&plan->error, "It has begun on shard %s, this statement needs shard %s.", here, there);
    error_hint(&plan->error, "%s", hint);
}

static bool writes(const Request *request)
{
    for (uint32_t i = 0; i < request->planned_count; i++)
        if (transaction_writes(request->session, request->planned[i].shape))
            return true;
    return false;
}

/* In which connections of the session it can run: what every shard would answer alike goes where one is,
 * and a shard can join only if Shoal knows all that the transaction has said so far. */
static void fit_session(const Request *request, Plan *plan)
{
    const Session *session = request->session;
    const Config *config = worker_config(session->worker);
    const Participant *at = NULL;
    for (uint32_t i = 0; i < session->part_count; i++)
        if (!at || (at->tx == TX_IDLE && session->parts[i].tx != TX_IDLE))
            at = &session->parts[i];
    if (!at || plan->kind == PLAN_REJECT || plan->kind == PLAN_LOCAL || plan->kind == PLAN_PROBE)
        return;
    bool may_join = session->spread && !session->sealed && !session->pinned && session->tx == TX_BLOCK;
    if (plan->kind == PLAN_DIRECT && plan->any_shard) {
        uint32_t shard;
        if (portal_shard(request, &shard) && transaction_part(session, shard))
            plan->shard = shard;
        else if (!(plan->catalog && (may_join || transaction_part(session, plan->shard))))
            plan->shard = at->shard;
        return;
    }
    bool other = plan->kind != PLAN_DIRECT || !transaction_part(session, plan->shard);
    const char *there = plan->kind == PLAN_DIRECT ? config->shards[plan->shard].name : "and others";
    const char *here = config->shards[at->shard].name;
    if (!other)
        return;
    if (session->spread && plan->kind == PLAN_DIRECT && writes(request) &&
        !transaction_may_write(session, &plan->shard, 1, &plan->error)) {
        plan->kind = PLAN_REJECT;
        return;
    }
    if (request->pins && session->pinned)
        refuse(plan, "a session cannot leave state on two shards", here, there,
               "DISCARD ALL first, or use another session.");
    else if (session->tx != TX_IDLE && (!session->spread || session->sealed))
        refuse(plan, "this transaction cannot be joined by another shard", here, there,
               "Send BEGIN, SAVEPOINT and SET each as a statement of its own, not in one Query with others.");
}

Plan planning_look(Request *request)
{
    return plan_request(request, false);
}

Plan planning_make(Request *request)
{
    Plan plan = plan_request(request, true);
    fit_session(request, &plan);
    return plan;
}
