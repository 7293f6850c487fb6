/*
 * dispatch.h - a request whose turn has come is planned and sent on its way.
 */
#ifndef SHOAL_ROUTER_DISPATCH_H
#define SHOAL_ROUTER_DISPATCH_H

#include "router/request.h"

/* Sends a QUEUED request on. False: it must wait for those before it (nothing happened). Requests
 * of one client run one after the other, except single lookups that the batcher takes: those do
 * not change the session, so that any number of them may be under way. */
bool dispatch_request(Request *request) MUST_USE;
/* A RUNNING request of one statement, or one part of a series, goes its way. */
void dispatch_part(Request *request);
/* Answers a RUNNING request with an error of Shoal's own; in a transaction block the server's transaction
 * fails too, as it would have by PostgreSQL's error. */
void dispatch_error(Request *request, const Error *err);
/* The pool of the session's database and user on the shard's primary; NULL when there is none now, or
 * memory is out. */
Pool *dispatch_pool(Session *session, uint32_t shard);
/* Which of the two it was. */
void dispatch_no_pool(const Session *session, uint32_t shard, Error *err);
/* More steps came for an open request (Flush or Sync behind it). */
void dispatch_more(Request *request);

/* A request of which nothing has been answered is planned once more: over several shards, and by GATHER. */
void dispatch_again(Request *request);
/* What was fetched ahead for this request, in its transaction, cannot be used: it runs as it is. */
void dispatch_refused(Task *task);

#endif
