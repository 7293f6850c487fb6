/*
 * rekey.h - UPDATE that gives rows another shard key: they end on the shard that the new key belongs to.
 *
 *     turn 0   UPDATE ... RETURNING key, ctid, row     on each shard that may have such rows
 *                  assignments, casts, NOT NULL, CHECK, waiting for others' locks: PostgreSQL's own
 *     turn 1   DELETE of those that belong elsewhere, by ctid: they are locked by this transaction and stay put
 *     turn 2   INSERT of them where they belong (row_deal.h), with the client's RETURNING
 *     turn 3   with RETURNING: the rows that stayed, read again
 *
 * All in one transaction, so that nobody sees a row twice or not at all (H51). The client hears UPDATE n.
 */
#ifndef SHOAL_ROUTER_REKEY_H
#define SHOAL_ROUTER_REKEY_H

#include "router/planner.h"
#include "router/request.h"

/* Starts it; the request is RUNNING, has one statement and a Plan of kind WRITE with `rekeys`. */
void rekey_start(Request *request, const Plan *plan);

#endif
