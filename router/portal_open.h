/*
 * portal_open.h - DECLARE, and Execute with a row limit, of a SELECT over several shards.
 */
#ifndef SHOAL_ROUTER_PORTAL_OPEN_H
#define SHOAL_ROUTER_PORTAL_OPEN_H

#include "router/planner.h"
#include "router/request.h"

/* Execute with a row limit: the rows are brought together, and stay where they are until the portal is closed. The
 * request is RUNNING and ends by it. */
void portal_open(Request *request, const Plan *plan);
/* DECLARE. False: its SELECT is one shard's, and goes the way of all others. */
bool portal_declare(Request *request);

#endif
