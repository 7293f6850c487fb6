/*
 * series.h - several statements in one request that cannot all run on one shard: one after the other.
 *
 *     "UPDATE a ..; INSERT ..; DELETE .."      a Query of three
 *     P B E  P B E  P B E  S                    a pipeline with one Sync
 *
 * PostgreSQL makes one transaction of them, and so does Shoal: a block that the client does not see, over
 * the shards that its parts touch, committed before ReadyForQuery. A part that is BEGIN makes the block the
 * client's own; a part that is COMMIT ends it, and the next part begins another. The first error ends
 * the series and rolls the unseen block back (protocol: "Multiple Statements in a Simple Query",
 * "Pipelining").
 */
#ifndef SHOAL_ROUTER_SERIES_H
#define SHOAL_ROUTER_SERIES_H

#include "router/request.h"

/* Starts the request as a series. False: it cannot be cut into parts; nothing has happened. */
bool series_start(Request *request) MUST_USE;
/* Some statement of it begins, ends or structures a transaction: all participants must hear of that in
 * its turn. */
bool series_has_control(const Request *request);
/* request_end's first question: a part has ended. True: the request goes on. */
bool series_part_ended(Request *request) MUST_USE;

#endif
