/*
 * drain.h - has everything ended that was planned by an older topology?
 *
 *     drain_start(version) ─> adopted by every worker? ─> FenceAsk round ─> 0 blockers: done
 *                                                           └─ some: asked again at the next look
 *
 * Moves need it before they lock a shard, distribute_table before it lets its locks go. Owner: the
 * control thread; whoever waits looks from time to time (drain_look), and gives up by itself.
 */
#ifndef SHOAL_ADMIN_DRAIN_H
#define SHOAL_ADMIN_DRAIN_H

#include "router/fence.h"

typedef struct Control Control;

typedef struct Drain {
    Control *control;
    uint64_t version;
    uint32_t shard, database; /* may be changed before the first look, like those below */
    uint32_t gainer;          /* see FenceAsk */
    bool gain_every;
    bool requests_only, primary_only; /* as FenceAsk's */
    FenceAsk *ask;     /* on its way; NULL: none */
    uint32_t rounds;   /* answered */
    uint32_t blockers, waiting; /* of the last answer; UINT32_MAX before it */
    bool done;
} Drain;

/* For the topology that is the newest now. */
void drain_start(Drain *drain, Control *control, uint32_t shard);
/* Asks, unless an answer is on its way or every worker has not adopted the topology yet. */
void drain_look(Drain *drain);
/* Nobody waits any more; an answer on its way is thrown away. */
void drain_stop(Drain *drain);

#endif
