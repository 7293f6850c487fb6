/*
 * offer.h - a single statement is offered to the batcher, or to what an N+1 loop has fetched ahead.
 *
 * True: its answer comes from there. False: it runs as it is; request->batch_reason tells why.
 */
#ifndef SHOAL_ROUTER_OFFER_H
#define SHOAL_ROUTER_OFFER_H

#include "router/request.h"

/* May a lookup be offered although the client waits for the answers of those before it? Rule 21. */
bool offer_may_follow(const Request *request) MUST_USE;
/* A lookup of a request that has not begun. */
bool offer_lookup(Request *request) MUST_USE;
/* A statement of an N+1 loop inside a transaction, not begun: only what was fetched ahead can answer it. */
bool offer_ahead(Request *request) MUST_USE;
/* A write that may travel with those of others. Unlike a lookup it has begun alone: whatever this
 * client sends next waits for its answer. */
bool offer_write(Request *request, uint32_t shard) MUST_USE;

#endif
