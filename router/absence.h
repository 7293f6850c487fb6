/*
 * absence.h - sessions whose next request must wait for a primary.
 *
 *     vacant   a shard has none: a promotion, SWITCHOVER, PAUSE. One statement for one shard waits where it
 *              is sent (park.h); what concerns several shards, or a connection that the session holds for its
 *              state, waits here, before any of it has begun.
 *     doubt    nobody knows whether the one that was known still is the one (doubt.h): the same, and open
 *              transactions wait too.
 *
 *     dispatch ──holds──> parked, still QUEUED ──each 20 ms, and with each topology──> dispatched again
 *                                              ──failover_wait is over──────────────> 08001
 */
#ifndef SHOAL_ROUTER_ABSENCE_H
#define SHOAL_ROUTER_ABSENCE_H

#include "router/planner.h"
#include "router/session.h"

/* False mostly: then nothing below needs to be asked. */
bool absence_possible(Session *session);
bool absence_holds(const Request *request, const Plan *plan);
/* It waits now. False: it has waited long enough, or too many do. */
bool absence_park(Session *session) MUST_USE;
void absence_error(Session *session, Error *err);
/* Each 20 ms: those who wait are looked at again. True: there are some. */
bool absence_look(Worker *worker);

#endif
