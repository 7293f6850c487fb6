/*
 * fence.c - who waits, and who is still on the way.
 *
 * Exact because it is simple: a request remembers the version of the topology it was planned by, a
 * session that of the topology in which its transaction began. After a worker has adopted version v,
 * nothing is planned by an older one any more; so when no older request and no older transaction is
 * left on a shard, none will ever be.
 */
#include "router/fence.h"

#include "router/commit.h"
#include "router/worker_state.h"

/* ---- who waits ------------------------------------------------------------------------------- */

/* What it reads next may be read in a snapshot of before. */
static bool keeps_snapshot(const Session *session, bool every)
{
    return every || session->n1.isolation != N1_READ_COMMITTED || session->pinned;
}

/* Its transaction has been on a shard that loses or gets buckets since before: it goes on, by the old map. Must be
 * the same as what is waited for (transaction_blocks). */
static bool is_inside(const Session *session)
{
    const Topology *topology = session->worker->topology;
    for (uint32_t i = 0; topology->fence_since && session->tx != TX_IDLE && i < session->part_count; i++) {
        const Participant *part = &session->parts[i];
        if (part->tx == TX_IDLE)
            continue;
        if (session->tx_version < topology->fence_since[part->shard])
            return true;
        if (session->tx_version < topology->gain_since[part->shard] && keeps_snapshot(session, topology->gain_every))
            return true;
    }
    return false;
}

bool fence_passed(const Request *request)
{
    const uint64_t *since = request->session->worker->topology->fence_since;
    return since && request->planned_version < since[request->shard];
}

bool fence_holds(const Session *session, const Plan *plan)
{
    return plan->fenced && !is_inside(session);
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
    if (session->tx == TX_IDLE || session->tx_version >= ask->version ||
        (ask->primary_only && session->reads.tx_replica))
        return false;
    if (session->commit) /* its connections are the commit's now */
        return true;
    for (uint32_t i = 0; i < session->part_count; i++) {
        const Participant *part = &session->parts[i];
        if (part->tx != TX_IDLE && (ask->shard == FENCE_ANY_SHARD || part->shard == ask->shard ||
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
    return ask->shard == FENCE_ANY_SHARD || request->scatter || request->gather || request->errand || request->session->commit ||
           request->shard == ask->shard;
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
