/*
 * move_plan.h - REBALANCE PLAN and REBALANCE START: which buckets would travel, what that costs, what blocks it.
 *
 *     shards are asked (plan_facts.h) ─> costs per bucket ─> rebalance_plan ─> a row per pair of shards
 *
 * BY COUNT (the default) makes buckets even, BY BYTES what they hold, BY LOAD what they are used (bucket_load.h);
 * all against the weights in shards.ini. DRAIN s0 empties a shard. START plans the same and begins it; what blocks a
 * move is found again by its own preflight. A Job; owner: the control thread.
 */
#ifndef SHOAL_ADMIN_MOVE_PLAN_H
#define SHOAL_ADMIN_MOVE_PLAN_H

#include "admin/command.h"

bool move_plan_run(Control *control, Call *call, const CommandLine *arguments, bool start, Error *err);

#endif
