/*
 * scatter_read.h - a SELECT over several shards whose rows are merged here: CONCAT and ORDERED (fanout.h).
 */
#ifndef SHOAL_ROUTER_SCATTER_READ_H
#define SHOAL_ROUTER_SCATTER_READ_H

#include "router/scatter.h"
#include "router/fanout.h"

/* Starts it; the request is RUNNING and ends by it. */
void scatter_read(Request *request, const Fanout *spread);

/* What LIMIT and OFFSET are worth. False: not numbers that PostgreSQL would take (`err` as it says it). */
bool fanout_limits(const PlanStatement *statement, const SplitForm *form, uint64_t *ret_offset,
                   uint64_t *ret_limit, Error *err) MUST_USE;
/* A Bind of the client's values for a leg, to the portal of that name: with the parameter of the legs' LIMIT, where the form has one,
 * and the given result formats. In the arena; empty when memory is out. */
Slice fanout_bind(const PlanStatement *statement, const SplitForm *form, Slice portal, uint64_t offset, uint64_t limit,
                  WireFormats results, Arena *arena) MUST_USE;
/* The types of a leg's parameters: the client's, and int8 for those of LIMIT. NULL when memory is out. */
uint32_t *fanout_types(const PlanStatement *statement, const SplitForm *form, uint32_t *ret_count,
                       Arena *arena) MUST_USE;

#endif
