/*
 * planning.h - where a request goes, as its session is now.
 *
 * Plans live in the worker's scratch arena until the next one is made; what a plan over several shards
 * keeps longer is in the request's arena.
 */
#ifndef SHOAL_ROUTER_PLANNING_H
#define SHOAL_ROUTER_PLANNING_H

#include "router/request.h"

/* What the planner is told about the request's session, its moment included; for a part of its statement. */
void planning_input(const Request *request, PlanInput *ret);
/* Which shards all its statements need; cheap, asked before its turn. Texts for several shards are not made,
 * and the session's own connections are not looked at. */
Plan planning_look(Request *request);
/* The plan by which it runs. */
Plan planning_make(Request *request);
/* The client speaks the database's encoding: keys that are texts can be hashed as they come. */
bool planning_same_encoding(const Session *session, const Topology *topology);

#endif
