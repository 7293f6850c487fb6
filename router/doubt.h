/*
 * doubt.h - who is a shard's primary, after this process was stopped (SIGSTOP, a suspended machine)?
 *
 *     a turn comes a second late ──> each shard with replicas is in doubt; its primary's connections are held:
 *                                    nothing more is written to them, what waits in their pools waits elsewhere
 *     its servers have answered since ──> the doubt is over, what was held goes on
 *     another primary was found       ──> leave_old_primaries (worker.c), as after any promotion
 *     failover_wait is over           ──> those connections end: what had begun there hears that nobody knows
 *
 * To everybody else in this folder a shard in doubt has no primary: doubt_primary says NULL, and statements wait
 * as in a failover (park.h, absence.h). It stays in doubt for as long as its servers are not heard, however long:
 * old knowledge is never trusted. Heard must be the primary and each other server that answered before the stop;
 * or its Patroni says that the primary has the leader's lock, or an operator says so (RESUME).
 */
#ifndef SHOAL_ROUTER_DOUBT_H
#define SHOAL_ROUTER_DOUBT_H

#include "meta/topology.h"
#include "router/worker.h"

typedef struct Doubt {
    uint64_t slept_us, woke_us; /* the stop, as far as it was noticed; woke_us 0: no doubt */
    uint64_t timeline;          /* of the primary that was known then */
    char *server;               /* its name; owned */
    bool dropped;               /* its connections were ended */
} Doubt;

typedef struct Doubts {
    Doubt *shards; /* by shard index; owned */
    uint32_t count;
    uint32_t open;    /* of them in doubt */
    uint64_t seen_us; /* clock when a turn was last seen to go on */
} Doubts;

void doubts_finish(Doubts *doubts);
/* Several times a turn, before anything is sent: was the process stopped? */
void doubt_notice(Worker *worker);
/* Each 20 ms while some shard is in doubt, and with each topology. */
void doubt_look(Worker *worker);
bool doubt_about(const Worker *worker, uint32_t shard);
/* As topology_primary; NULL also while the shard is in doubt. */
const ServerConfig *doubt_primary(const Worker *worker, uint32_t shard);
/* For SHOW REPLICAS: what the doubt about its shard means for this server. */
typedef enum DoubtWord {
    DOUBT_NONE,
    DOUBT_HEARD,  /* nothing: it has answered since */
    DOUBT_HELD,   /* it was the primary: nothing is written there until the doubt is over */
    DOUBT_SILENT, /* it is waited for */
} DoubtWord;
DoubtWord doubt_word(const Worker *worker, uint32_t server);
/* What is said to who has waited in vain: the shard has no primary, or nobody knows. */
void doubt_tell(const Worker *worker, uint32_t shard, Error *err);

#endif
