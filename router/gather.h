/*
 * gather.h - rows of several shards brought together on one PostgreSQL, which then answers.
 *
 *     shards                          merge server (any shard, round robin)
 *                                     BEGIN; Describe the statement; CREATE TEMP TABLE shoal_1 ... AS leg
 *                                     ... WITH NO DATA; COPY shoal_1 FROM STDIN
 *     leg: rows ──DataRow=COPY tuple──>    rows
 *                                     the final statement ──rows──> client
 *                                     COMMIT (the tables go)
 *
 * The connection to the merge server is the gather's own, never a participant of the client's
 * transaction: temporary tables would forbid its PREPARE. Legs are read on the participants, so own writes are
 * seen. Bounded by gather_max_bytes, rows are streamed: a slow merge server slows the legs.
 * PARTIAL and GATHER of query/split.h.
 */
#ifndef SHOAL_ROUTER_GATHER_H
#define SHOAL_ROUTER_GATHER_H

#include "router/scatter.h"
#include "router/fanout.h"

typedef struct Gather Gather;

/* True: the transaction holds locks that another connection would wait for; the request has ended with 0A000. */
bool gather_refuse_locked(Request *request);
/* Starts it; the request is RUNNING and ends by it. */
void gather_start(Request *request, const Fanout *spread);
/* A cancel request: whatever the merge server does for it. The legs are the scatter's. */
void gather_cancel(Gather *gather);
/* The client has gone. Frees it. Its legs are abandoned already. */
void gather_abandon(Gather *gather);
/* The client reads again; the merge server does. */
void gather_drained(Gather *gather);
void gather_on_server_drained(Gather *gather);
/* The connection to the merge server died with nothing in flight. */
void gather_on_held_lost(Gather *gather, Backend *backend);

#endif
