/*
 * fence.c - who waits, and who is still on the way.
 *
 * Exact because it is simple: a request remembers the version of the topology it was planned by, a participant that of
 * the request which opened its transaction there (AND CHAIN: which began it anew). After a worker has adopted version v,
 * nothing is planned by an older one any more; so when no older request and no older participant is left on a shard,
 * none will ever be.
 *
 *   a transaction (or a series)          on the shard that loses rows       on the one that gets them
 *   there since before the fence,
 *      READ COMMITTED                    waited for; goes on everywhere     not waited for: each statement sees what has come
 *      REPEATABLE READ, SERIALIZABLE,    waited for; goes on everywhere     waited for; goes on everywhere: its snapshot has
 *      pinned, on a replica, not known                                      not the rows to come
 *   comes there inside the fence,
 *      READ COMMITTED                    not waited for: it needs other     joins; not waited for
 *                                        rows; for those that move it waits
 *      REPEATABLE READ and the like      the same: what it reads of them    waits before its first snapshot there is taken,
 *                                        later, it reads on the other       whichever rows it wants; so it never misses any
 *                                        shard
 *   began before, and is on neither      no matter when it began: as one that comes inside the fence
 *   COMMIT under way, began before       waited for, wherever its writers are: they are the commit's now
 *   SELECT on several shards, gathered   waited for when planned before, with its merge server's part; waits when planned since
 *
 * So nobody ends with a 40001 for a snapshot that is too old: what would need one has waited before it was taken.
 */
#include "router/fence.h"

#include "router/commit.h"
#include "router/worker_state.h"

/* ---- snapshots ------------------------------------------------------------------------------- */

/* What its transaction reads next may be read in a snapshot of before; or on a replica, that shows what was there
 * before until it has replayed. */
static bool keeps_snapshot(const Session *session, bool every)
{
    return every || session->n1.isolation != N1_READ_COMMITTED || session->pinned || session->reads.tx_replica ||
           session->reads.tx_read_only;
}

/* Several statements may come of it, or follow it, that read in one snapshot. */
static bool request_keeps_snapshot(const Request *request, bool every)
{
    const Session *session = request->session;
    bool several = request->planned_count > 1 || !request->complete || request->series ||
                   (request->planned_count && request->planned[0].shape->kind == SHAPE_MULTI);
    if (session->tx != TX_IDLE && keeps_snapshot(session, every))
        return true;
    return several && (every || n1_may_keep_snapshot(request));
}

/* Where no snapshot is taken: transaction control, settings, what goes on with a snapshot that there is. */
static bool reads_nothing(const Request *request)
{
    switch (request->planned_count == 1 ? request->planned[0].shape->kind : SHAPE_MULTI) {
    case SHAPE_BEGIN:
    case SHAPE_COMMIT:
    case SHAPE_ROLLBACK:
    case SHAPE_SAVEPOINT:
    case SHAPE_RELEASE:
    case SHAPE_ROLLBACK_TO:
    case SHAPE_SET:
    case SHAPE_SET_LOCAL:
    case SHAPE_RESET:
    case SHAPE_RESET_ALL:
    case SHAPE_SHOW:
    case SHAPE_FETCH:
    case SHAPE_CLOSE:
    case SHAPE_EMPTY:
        return true;
    default:
        return false;
    }
}

/* What every shard would answer alike goes where the transaction is (planning.c). */
static uint32_t shard_of(const Session *session, const Plan *plan)
{
    for (uint32_t i = 0; plan->any_shard && !plan->catalog && i < session->part_count; i++)
        if (session->parts[i].tx != TX_IDLE)
            return session->parts[i].shard;
    return plan->shard;
}

/* It would take a snapshot where rows are about to come, and keep it. Which shards it needs is not always known to who
 * only looks: then it waits, too. */
static bool takes_snapshot(const Request *request, const Plan *plan)
{
    const Topology *topology = request->session->worker->topology;
    if (!topology->gain_since || plan->kind == PLAN_LOCAL || plan->kind == PLAN_PROBE || reads_nothing(request) ||
        !request_keeps_snapshot(request, topology->gain_every))
        return false;
    return plan->kind != PLAN_DIRECT || topology->gain_since[shard_of(request->session, plan)];
}

/* ---- who waits ------------------------------------------------------------------------------- */

/* Its transaction has been on a shard that loses or gets buckets since before: it goes on, by the old map. Must be
 * the same as what is waited for (transaction_blocks). */
static bool is_inside(const Session *session)
{
    const Topology *topology = session->worker->topology;
    for (uint32_t i = 0; topology->fence_since && session->tx != TX_IDLE && i < session->part_count; i++) {
        const Participant *part = &session->parts[i];
        if (part->tx == TX_IDLE)
            continue;
        if (part->version < topology->fence_since[part->shard])
            return true;
        if (part->version < topology->gain_since[part->shard] && keeps_snapshot(session, topology->gain_every))
            return true;
    }
    return false;
}

bool fence_passed(const Request *request)
{
    const uint64_t *since = request->session->worker->topology->fence_since;
    return since && request->planned_version < since[request->shard];
}

bool fence_holds(const Request *request, const Plan *plan)
{
    return (plan->fenced || takes_snapshot(request, plan)) && !is_inside(request->session);
}

bool fence_park(Session *session)
{
    Worker *worker = session->worker;
    if (session->parked)
        return true;
    if (worker->parked_count >= worker_config(worker)->fence_wait_max)
        return false;
    session->parked = true;
    worker->parked_count++;
    return true;
}

void fence_unpark(Session *session)
{
    session->worker->parked_count -= session->parked;
    session->parked = false;
}

void fence_full_error(const Worker *worker, Error *err)
{
    error_set(err, "53000", "rows of this key are being moved to another shard");
    error_detail(err, "%u statements wait for that already.", worker->parked_count);
    error_hint(err, "Try again. fence_wait_max says how many may wait.");
}

void fence_on_adopt(Worker *worker)
{
    if (worker->parked_count == 0)
        return;
    worker->parked_count = 0;
    LIST_EACH (link, &worker->sessions) {
        Session *session = list_entry(link, Session, link);
        if (!session->parked)
            continue;
        session->parked = false;
        worker_wake_session(worker, session);
    }
}

/* ---- who is still on the way ----------------------------------------------------------------- */

static bool transaction_blocks(const Session *session, const FenceAsk *ask)
{
    if (session->tx == TX_IDLE || (ask->primary_only && session->reads.tx_replica))
        return false;
    if (session->commit) /* its connections are the commit's now */
        return session->tx_version < ask->version;
    for (uint32_t i = 0; i < session->part_count; i++) {
        const Participant *part = &session->parts[i];
        if (part->tx != TX_IDLE && part->version < ask->version &&
            (ask->shard == FENCE_ANY_SHARD || part->shard == ask->shard ||
             (part->shard == ask->gainer && keeps_snapshot(session, ask->gain_every))))
            return true;
    }
    return false;
}

/* One that waits for the control thread (the asker himself is one) is on no server. */
static bool request_blocks(const Request *request, const FenceAsk *ask)
{
    if (request->state != REQUEST_RUNNING || request->call || request->planned_version >= ask->version)
        return false;
    if (ask->shard == FENCE_ANY_SHARD || request->scatter || request->gather || request->errand || request->series ||
        request->session->commit)
        return true;
    return request->shard == ask->shard ||
           (request->shard == ask->gainer && request_keeps_snapshot(request, ask->gain_every));
}

static bool session_blocks(const Session *session, const FenceAsk *ask)
{
    if (session->state != SESSION_LOGIN && ask->database != FENCE_ANY_DATABASE &&
        session->database_index != ask->database)
        return false;
    if (!ask->requests_only && transaction_blocks(session, ask))
        return true;
    LIST_EACH (link, (List *)(uintptr_t)&session->requests) {
        if (request_blocks(list_entry(link, Request, link), ask))
            return true;
    }
    return false;
}

/* In a pool's queue, or in a batch that collects. */
static bool session_waits(const Session *session, const FenceAsk *ask)
{
    LIST_EACH (link, (List *)(uintptr_t)&session->requests) {
        const Request *request = list_entry(link, Request, link);
        if (request_blocks(request, ask) && (request->scatter || request->gather || request->errand || request->parked ||
                                               (request->task_active && request->task.state != TASK_INFLIGHT)))
            return true;
    }
    return false;
}

/* Commits whose clients have gone: nobody knows what they were planned by. */
static uint32_t orphaned_commits(Worker *worker)
{
    uint32_t count = 0;
    for (Commit *commit = commit_next(worker, NULL); commit; commit = commit_next(worker, commit)) {
        bool owned = false;
        LIST_EACH (link, &worker->sessions)
            owned |= list_entry(link, Session, link)->commit == commit;
        count += !owned;
    }
    return count;
}

static void ask_on_delivery(Mail *mail, void *owner)
{
    Worker *worker = owner;
    FenceAsk *ask = container_of(mail, FenceAsk, mail);
    LIST_EACH (link, &worker->sessions)
        ask->blockers += session_blocks(list_entry(link, Session, link), ask);
    LIST_EACH (link, &worker->sessions)
        ask->waiting += session_waits(list_entry(link, Session, link), ask);
    ask->blockers += orphaned_commits(worker);
    fence_ask(ask);
}

void fence_ask(FenceAsk *ask)
{
    if (ask->next_worker < ask->worker_count) {
        Worker *worker = ask->workers[ask->next_worker++];
        ask->mail.on_delivery = ask_on_delivery;
        inbox_send(worker_inbox(worker), &ask->mail);
        return;
    }
    ask->mail.on_delivery = ask->on_reply;
    inbox_send(ask->reply, &ask->mail);
}
