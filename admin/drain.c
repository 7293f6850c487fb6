/* drain.c - one FenceAsk after the other, until nobody answers that there is something left. */
#include "admin/drain.h"

#include <stdlib.h>

#include "admin/control_state.h"

void drain_start(Drain *drain, Control *control, uint32_t shard)
{
    drain_stop(drain);
    *drain = (Drain){.control = control,
                     .version = control->topology->published.version,
                     .shard = shard,
                     .gainer = shard,
                     .database = FENCE_ANY_DATABASE,
                     .blockers = UINT32_MAX,
                     .waiting = UINT32_MAX};
}

static void drain_on_reply(Mail *mail, void *owner)
{
    Control *control = owner;
    FenceAsk *ask = container_of(mail, FenceAsk, mail);
    Drain *drain = ask->ctx;
    if (drain) {
        drain->ask = NULL;
        drain->rounds++;
        drain->blockers = ask->blockers;
        drain->waiting = ask->waiting;
        drain->done = ask->blockers == 0;
    }
    free(ask);
    control->reports--;
    control_stop_if_due(control);
}

void drain_look(Drain *drain)
{
    Control *control = drain->control;
    if (drain->done || drain->ask || control->stopping ||
        published_adopted_by_all(control->options.topologies) < drain->version)
        return;
    FenceAsk *ask = calloc(1, sizeof *ask);
    if (!ask)
        return; /* the next look tries again */
    ask->version = drain->version;
    ask->shard = drain->shard;
    ask->gainer = drain->gainer;
    ask->gain_every = drain->gain_every;
    ask->database = drain->database;
    ask->requests_only = drain->requests_only;
    ask->primary_only = drain->primary_only;
    ask->workers = control->workers;
    ask->worker_count = control->worker_count;
    ask->reply = &control->inbox;
    ask->on_reply = drain_on_reply;
    ask->ctx = drain;
    drain->ask = ask;
    control->reports++; /* it cannot be called back: a stop waits for it */
    fence_ask(ask);
}

void drain_stop(Drain *drain)
{
    if (drain->ask)
        drain->ask->ctx = NULL;
    drain->ask = NULL;
}
