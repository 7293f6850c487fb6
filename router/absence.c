/*
 * absence.c - why this file exists: a statement for three shards of which one is being promoted must not
 * begin on the other two; and a router that wakes up must not write where it wrote before it slept.
 */
#include "router/absence.h"

#include "core/clock.h"
#include "router/fence.h"
#include "router/park.h"
#include "router/worker_state.h"

#define STOPPED_US   ((uint64_t)1000 * 1000) /* a turn that comes so late was held up from outside */
#define DOUBT_MAX_US ((uint64_t)10 * 1000 * 1000) /* nobody can look: what was known must do */

/* ---- doubt ------------------------------------------------------------------------------------- */

/* Turns come at least five times a second (worker.sweep). */
static void notice_stop(Worker *worker)
{
    uint64_t now_us = worker->loop.now_us;
    if (worker->turn_us && now_us > worker->turn_us + STOPPED_US)
        worker->doubt_us = now_us;
    worker->turn_us = MAX(worker->turn_us, now_us);
}

/* Every shard with replicas was looked at since. */
static bool is_looked_at(const Worker *worker)
{
    const Topology *topology = worker->topology;
    for (uint32_t i = 0; i < topology->config->shard_count; i++) {
        uint32_t primary = topology->primaries[i];
        if (topology->config->shards[i].replica_count && primary != NO_PRIMARY &&
            standing_get(topology->standings, primary).looked_us <= worker->doubt_us)
            return false;
    }
    return true;
}

static bool in_doubt(Worker *worker)
{
    notice_stop(worker);
    if (worker->doubt_us &&
        (clock_now_us() > worker->doubt_us + DOUBT_MAX_US || is_looked_at(worker)))
        worker->doubt_us = 0;
    return worker->doubt_us != 0;
}

bool absence_possible(Session *session)
{
    return in_doubt(session->worker) || session->worker->topology->vacant;
}

/* ---- who must wait ------------------------------------------------------------------------------ */

static const Participant *part_of(const Session *session, uint32_t shard)
{
    for (uint32_t i = 0; i < session->part_count; i++)
        if (session->parts[i].shard == shard)
            return &session->parts[i];
    return NULL;
}

/* An open transaction goes on where it is: others may wait for its end. Anything else does not begin. */
static bool misses_primary(const Session *session, uint32_t shard)
{
    const Participant *part = part_of(session, shard);
    return session->worker->topology->primaries[shard] == NO_PRIMARY && !(part && part->tx != 'I');
}

bool absence_holds(const Session *session, const Plan *plan)
{
    const Topology *topology = session->worker->topology;
    const DatabaseConfig *database = session_database(session, topology);
    for (uint32_t i = 0; session->worker->doubt_us && i < database->shard_count; i++)
        if (topology->config->shards[database->shards[i]].replica_count)
            return true;
    for (uint32_t i = 0; i < session->part_count; i++)
        if (misses_primary(session, session->parts[i].shard))
            return true; /* it holds a connection there, for its session state: that would be written to */
    if (plan->kind == PLAN_DIRECT || plan->kind == PLAN_PROBE || plan->kind == PLAN_LOCAL || plan->kind == PLAN_REJECT)
        return false;
    for (uint32_t i = 0; i < database->shard_count; i++)
        if (misses_primary(session, database->shards[i]))
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
    if (now_us - session->absent_since_us >= MAX(wait_us, worker->doubt_us ? DOUBT_MAX_US : 0) || !fence_park(session))
        return false;
    worker->absent_count++;
    parks_soon(worker);
    return true;
}

void absence_error(Session *session, Error *err)
{
    const Topology *topology = session->worker->topology;
    const DatabaseConfig *database = session_database(session, topology);
    const char *name = "of it";
    for (uint32_t i = 0; i < database->shard_count; i++)
        if (misses_primary(session, database->shards[i]))
            name = topology->config->shards[database->shards[i]].name;
    session->absent_since_us = 0;
    error_set(err, SQLSTATE_CANNOT_CONNECT, "shard %s has no primary now", name);
    error_detail(err, "Nothing of the statement was begun; it waited for one, up to failover_wait.");
    error_hint(err, "SHOW REPLICAS tells who is what.");
}

bool absence_look(Worker *worker)
{
    if (!worker->absent_count)
        return false;
    worker->absent_count = 0;
    fence_on_adopt(worker); /* they are dispatched again, and wait again if they must */
    return true;
}
