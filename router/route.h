/*
 * route.h - a planned request goes its way: to one shard, to several, or to an error.
 */
#ifndef SHOAL_ROUTER_ROUTE_H
#define SHOAL_ROUTER_ROUTE_H

#include "router/planner.h"
#include "router/request.h"

/* A RUNNING request is carried out as planned, or answered with an error. */
void route_plan(Request *request, Plan *plan);
/* It runs as it is on one shard: in the transaction there, or on a connection of its own. */
void route_direct(Request *request, uint32_t shard);
/* 25P02, in PostgreSQL's words. */
void route_error_aborted(Error *err);

#endif
