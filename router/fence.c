/*
 * fence.c - who waits, and who is still on the way.
 *
 * Exact because it is simple: a request remembers the version of the topology it was planned by, a
 * session that of the topology in which its transaction began. After a worker has adopted version v,
 * nothing is planned by an older one any more; so when no older request and no older transaction is
 * left on a shard, none will ever be.
 */
#include "router/fence.h"

#include "router/worker_state.h"

/* ---- who waits ------------------------------------------------------------------------------- */

/* Its transaction has been on a shard that loses buckets since before: it goes on there. */
static bool is_inside(const Session *session)
{
    const Topology *topology = session->worker->topology;
    return session->tx != TX_IDLE && session->held && topology->fence_since &&
           session->tx_version < topology->fence_since[session->held_shard];
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

static uint32_t session_blockers(const Session *session, const FenceAsk *ask)
{
    bool any = ask->shard == FENCE_ANY_SHARD;
    if (session->tx != TX_IDLE && session->held && session->tx_version < ask->version &&
        (any || session->held_shard == ask->shard))
        return 1;
    LIST_EACH (link, (List *)(uintptr_t)&session->requests) {
        const Request *request = list_entry(link, Request, link);
        if (request->state == REQUEST_RUNNING && request->planned_version < ask->version &&
            (any || request->broadcast || request->shard == ask->shard))
            return 1;
    }
    return 0;
}

static void ask_on_delivery(Mail *mail, void *owner)
{
    Worker *worker = owner;
    FenceAsk *ask = container_of(mail, FenceAsk, mail);
    LIST_EACH (link, &worker->sessions)
        ask->blockers += session_blockers(list_entry(link, Session, link), ask);
    LIST_EACH (link, &worker->adrift)
        ask->blockers++; /* commits whose clients have gone */
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
