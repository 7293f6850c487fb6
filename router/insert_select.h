/*
 * insert_select.h - INSERT whose rows only PostgreSQL can make: from a SELECT, or with a key that is a default.
 *
 *     pushed   every row stays where it was read: each shard runs the statement
 *     moved    turn 0   gather (gather.h) brings the source together and runs
 *                         INSERT INTO pg_temp.t (cols) SELECT ... RETURNING key, row
 *                       there: types, defaults, NOT NULL are PostgreSQL's own
 *              turn 1   each shard gets its rows (row_deal.h), with ON CONFLICT and RETURNING
 */
#ifndef SHOAL_ROUTER_INSERT_SELECT_H
#define SHOAL_ROUTER_INSERT_SELECT_H

#include "router/planner.h"
#include "router/request.h"

/* Starts it; the request is RUNNING, has one statement and a Plan of kind INSERT_SELECT. */
void insert_select_start(Request *request, const Plan *plan);

#endif
