/*
 * views.h - views over distributed tables: a view's query stands in its place while the statement is planned.
 *
 *     SELECT name FROM grown WHERE id > 5
 *     SELECT name FROM (SELECT users.id, users.name FROM public.users WHERE (users.age > 17)) AS grown WHERE id > 5
 *
 * The second text decides which shards are needed. When that is one shard, or each shard for itself, PostgreSQL runs
 * what the client said, over its own view. When rows must be brought together, the second text is what is taken apart; then
 * it is read with the client's own rights, so it must be certain that the view would let him read the same: he may read the view,
 * its owner what it names, and it is no security barrier.
 */
#ifndef SHOAL_ROUTER_VIEWS_H
#define SHOAL_ROUTER_VIEWS_H

#include "router/request.h"

/* plan_make, for statements that may name views. */
Plan views_plan(Request *request, const PlanInput *input, const PlanStatement *statement);
/* The source of an INSERT with its views replaced; as it was where it has none. False: `err` says why not. */
bool views_replace(Request *request, const PlanInput *input, PlanStatement *statement, Error *err) MUST_USE;

#endif
