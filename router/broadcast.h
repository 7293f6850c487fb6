/*
 * broadcast.h - one statement on every shard of a database, answered once: DDL.
 *
 *   s0:  BEGIN; <ddl>   ──ok──>  s1:  BEGIN; <ddl>   ──ok──>   COMMIT s0, COMMIT s1
 *                                         └──error──>  ROLLBACK on all, the error to the client
 *
 * One shard after the other and always in the same order, so that two of them cannot lock each other
 * out. All commit only after all have succeeded; a shard that dies between the first and the last
 * COMMIT leaves the others committed, and the client is told which (two-phase commit will close that
 * gap). Statements that cannot run in a transaction run shard by shard, and an error names those
 * that are done.
 */
#ifndef SHOAL_ROUTER_BROADCAST_H
#define SHOAL_ROUTER_BROADCAST_H

#include "router/request.h"

/* Starts it; ends the request by local_answer. */
void broadcast_start(Request *request, Slice sql, bool alone);
/* Asks the shard at work to stop; nothing when it has begun to commit. */
void broadcast_cancel(Broadcast *broadcast);
/* The client has gone: ends what runs, rolls back what is open. One that has begun to commit goes on. */
void broadcast_abandon(Broadcast *broadcast);
/* The worker ends: so do those whose clients have gone. */
void broadcast_drop_adrift(Worker *worker);
/* A held connection of it died. */
void broadcast_on_held_lost(Broadcast *broadcast, Backend *backend);

#endif
