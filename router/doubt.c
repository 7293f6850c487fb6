/*
 * doubt.c - why this file exists: a machine that was suspended wakes up and writes where it wrote before. The old
 * primary may still live, take the writes, and lose all of them.
 */
#include "router/doubt.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "router/park.h"
#include "router/worker_state.h"

#define STOPPED_US ((uint64_t)1000 * 1000) /* turns come at least five times a second (worker.sweep) */
#define SILENT_US  ((uint64_t)5 * 1000 * 1000) /* a server that has not answered for so long was lost before the stop */

void doubts_finish(Doubts *doubts)
{
    for (uint32_t i = 0; i < doubts->count; i++)
        free(doubts->shards[i].server);
    free(doubts->shards);
    *doubts = (Doubts){0};
}

bool doubt_about(const Worker *worker, uint32_t shard)
{
    return shard < worker->doubts.count && worker->doubts.shards[shard].woke_us != 0;
}

const ServerConfig *doubt_primary(const Worker *worker, uint32_t shard)
{
    return doubt_about(worker, shard) ? NULL : topology_primary(worker->topology, shard);
}

void doubt_tell(const Worker *worker, uint32_t shard, Error *err)
{
    const char *name = worker_config(worker)->shards[shard].name;
    if (!doubt_about(worker, shard)) {
        error_set(err, SQLSTATE_CANNOT_CONNECT, "shard %s has no primary now", name);
        error_hint(err, "Try again. SHOW REPLICAS tells who is what.");
        return;
    }
    error_set(err, SQLSTATE_CANNOT_CONNECT, "no primary of shard %s is known now", name);
    error_detail(err, "Shoal was stopped for a while, and its servers have not answered since: another one may have been promoted.");
    error_hint(err, "SHOW REPLICAS tells who does not answer. RESUME %s: the primary is who it was.", name);
}

/* ---- it begins ------------------------------------------------------------------------------------ */

static bool grow(Doubts *doubts, uint32_t count)
{
    if (count <= doubts->count)
        return true;
    Doubt *more = realloc(doubts->shards, count * sizeof *more);
    if (!more)
        return false;
    memset(more + doubts->count, 0, (count - doubts->count) * sizeof *more);
    doubts->shards = more;
    doubts->count = count;
    return true;
}

/* Who takes its writes, or would again after RESUME; NULL: nobody, or nobody could ever be asked. */
static const ServerConfig *in_office(const Topology *topology, uint32_t shard)
{
    uint32_t server = topology->primaries[shard] != NO_PRIMARY ? topology->primaries[shard] : topology->leaving[shard];
    if (!topology->config->shards[shard].replica_count || server == NO_PRIMARY ||
        !standing_get(topology->standings, server).measured_us)
        return NULL;
    return topology->config->servers[server];
}

static void doubt_begin(Worker *worker, uint32_t shard, uint64_t slept_us, uint64_t woke_us)
{
    const Topology *topology = worker->topology;
    const ServerConfig *server = in_office(topology, shard);
    Doubt *doubt = &worker->doubts.shards[shard];
    char *name = server ? strdup(server->name) : NULL;
    if (!name)
        return;
    Error err;
    free(doubt->server);
    worker->doubts.open += doubt->woke_us == 0;
    *doubt = (Doubt){.slept_us = doubt->woke_us ? doubt->slept_us : slept_us,
                     .woke_us = woke_us,
                     .timeline = topology->stamps[shard].timeline,
                     .server = name};
    doubt_tell(worker, shard, &err);
    pool_set_hold_server(worker->pools, name, &err);
}

void doubt_notice(Worker *worker)
{
    Doubts *doubts = &worker->doubts;
    uint64_t now_us = clock_now_us(), seen_us = doubts->seen_us;
    doubts->seen_us = MAX(now_us, seen_us);
    if (!seen_us || now_us <= seen_us + STOPPED_US)
        return;
    const Topology *topology = worker->topology;
    if (!grow(doubts, topology->config->shard_count))
        return;
    for (uint32_t i = 0; i < topology->config->shard_count; i++)
        doubt_begin(worker, i, seen_us, now_us);
    if (doubts->open)
        parks_soon(worker);
}

/* ---- it ends --------------------------------------------------------------------------------------- */

/* Since the router woke up; one that was lost long before the stop is not waited for. */
static bool is_heard(const Topology *topology, const Doubt *doubt, uint32_t server)
{
    ServerStanding standing = standing_get(topology->standings, server);
    bool lost_before = standing.measured_us + SILENT_US + (uint64_t)topology->config->lag_check_ms * 1000 < doubt->slept_us;
    return standing.measured_us > doubt->woke_us || lost_before;
}

static bool others_heard(const Topology *topology, const Doubt *doubt, uint32_t shard, uint32_t primary)
{
    const ShardConfig *config = &topology->config->shards[shard];
    for (uint32_t i = 0; i <= config->replica_count; i++) {
        const ServerConfig *server = i == 0 ? config->primary : config->replicas[i - 1];
        if (server->index != primary && !is_heard(topology, doubt, server->index))
            return false;
    }
    return true;
}

/* The others are looked at first: whoever has lost the role to one of them is told of before that one's answer
 * is (probes.c). */
static bool is_known(const Topology *topology, const Doubt *doubt, uint32_t shard)
{
    const ServerConfig *server = in_office(topology, shard);
    if (!server)
        return true; /* there is none to be wrong about: the next one is found by asking */
    bool promoted = topology->stamps[shard].timeline > doubt->timeline && strcmp(server->name, doubt->server) != 0;
    bool heard = promoted || others_heard(topology, doubt, shard, server->index);
    ServerStanding standing = standing_get(topology->standings, server->index);
    if (standing.vouched_us > doubt->woke_us)
        return true;
    return heard && standing.state == HEALTH_UP && !standing.in_recovery && standing.measured_us > doubt->woke_us;
}

DoubtWord doubt_word(const Worker *worker, uint32_t server)
{
    const ServerConfig *config = worker_config(worker)->servers[server];
    if (!doubt_about(worker, config->shard))
        return DOUBT_NONE;
    const Doubt *doubt = &worker->doubts.shards[config->shard];
    if (strcmp(doubt->server, config->name) == 0)
        return DOUBT_HELD;
    return is_heard(worker->topology, doubt, server) ? DOUBT_HEARD : DOUBT_SILENT;
}

static void doubt_end(Worker *worker, Doubt *doubt)
{
    pool_set_release_server(worker->pools, doubt->server);
    free(doubt->server);
    *doubt = (Doubt){0};
    worker->doubts.open--;
}

/* Whoever waits for what had begun there has waited long enough. */
static void doubt_drop(Worker *worker, Doubt *doubt, uint32_t shard)
{
    Error err;
    doubt->dropped = true;
    doubt_tell(worker, shard, &err);
    log_error(worker->who, &err);
    pool_set_drop_server(worker->pools, doubt->server, &err);
}

void doubt_look(Worker *worker)
{
    Doubts *doubts = &worker->doubts;
    uint64_t wait_us = (uint64_t)worker_config(worker)->failover_wait_ms * 1000;
    uint32_t shards = MIN(doubts->count, worker_config(worker)->shard_count);
    for (uint32_t i = 0; doubts->open && i < shards; i++) {
        Doubt *doubt = &doubts->shards[i];
        if (!doubt->woke_us)
            continue;
        if (is_known(worker->topology, doubt, i))
            doubt_end(worker, doubt);
        else if (!doubt->dropped && clock_now_us() - doubt->woke_us >= wait_us)
            doubt_drop(worker, doubt, i);
    }
}
