/*
 * absence.c - why this file exists: a statement for three shards of which one is being promoted must not
 * begin on the other two.
 */
#include "router/absence.h"

#include "core/clock.h"
#include "router/fence.h"
#include "router/park.h"
#include "router/reads.h"
#include "router/worker_state.h"

bool absence_possible(Session *session)
{
    doubt_notice(session->worker);
    return session->worker->doubts.open || session->worker->topology->vacant;
}

/* ---- who must wait ------------------------------------------------------------------------------ */

static const Participant *part_of(const Session *session, uint32_t shard)
{
    for (uint32_t i = 0; i < session->part_count; i++)
        if (session->parts[i].shard == shard)
            return &session->parts[i];
    return NULL;
}

/* An open transaction goes on where it is: others may wait for its end. Anything else does not begin. In doubt
 * only what can do no harm goes on: what has failed, or reads on a replica. */
static bool misses_primary(const Session *session, uint32_t shard)
{
    const Participant *part = part_of(session, shard);
    if (doubt_about(session->worker, shard))
        return !part || part->tx == TX_IDLE || (part->tx == TX_BLOCK && !session->reads.tx_replica);
    return session->worker->topology->primaries[shard] == NO_PRIMARY && !(part && part->tx != 'I');
}

/* What is looked at only is told REJECT for a SELECT over several shards: that waits, too, unless a replica may answer
 * in the primary's place. What will be refused anyway waits with it, for it cannot be told apart. */
bool absence_holds(const Request *request, const Plan *plan)
{
    const Session *session = request->session;
    const Topology *topology = session->worker->topology;
    const DatabaseConfig *database = session_database(session, topology);
    for (uint32_t i = 0; i < session->part_count; i++)
        if (misses_primary(session, session->parts[i].shard))
            return true; /* it holds a connection there, for its session state: that would be written to */
    if (plan->kind == PLAN_DIRECT || plan->kind == PLAN_PROBE || plan->kind == PLAN_LOCAL ||
        (plan->kind == PLAN_REJECT && (!plan->looked || session->tx == TX_FAILED)))
        return false;
    for (uint32_t i = 0; i < database->shard_count; i++)
        if (misses_primary(session, database->shards[i]) && !(plan->looked && reads_leg_may_leave(request, database->shards[i])))
            return true;
    return false;
}

/* ---- waiting -------------------------------------------------------------------------------------- */

bool absence_park(Session *session)
{
    Worker *worker = session->worker;
    uint64_t now_us = clock_now_us();
    uint64_t wait_us = (uint64_t)worker_config(worker)->failover_wait_ms * 1000;
    if (!session->absent_since_us)
        session->absent_since_us = now_us;
    if (now_us - session->absent_since_us >= wait_us || !fence_park(session))
        return false;
    worker->absent_count++;
    parks_soon(worker);
    return true;
}

void absence_error(Session *session, Error *err)
{
    const Topology *topology = session->worker->topology;
    const DatabaseConfig *database = session_database(session, topology);
    uint32_t shard = database->shards[0];
    for (uint32_t i = 0; i < database->shard_count; i++)
        if (misses_primary(session, database->shards[i]))
            shard = database->shards[i];
    session->absent_since_us = 0;
    doubt_tell(session->worker, shard, err);
}

bool absence_look(Worker *worker)
{
    if (!worker->absent_count)
        return false;
    worker->absent_count = 0;
    fence_on_adopt(worker); /* they are dispatched again, and wait again if they must */
    return true;
}
