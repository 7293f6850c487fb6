/*
 * copy_in.h - COPY ... FROM STDIN into a table whose rows are on several shards.
 *
 *     client ──d d d c──> CopyReader ──row──> key ──> shard ──┬─ pending ──d──> s0: COPY t FROM STDIN
 *                          (wire/copy.h)                      └─ pending ──d──> s1: COPY t FROM STDIN
 *
 * Each shard runs the client's own COPY and gets the rows that belong to it as the bytes they came in, in
 * one transaction: all are loaded, or none is. A reference table's rows go to all. A shard that does not
 * take its rows fast enough stops the reading from the client; nothing else is kept but one unfinished row
 * and one message per shard.
 */
#ifndef SHOAL_ROUTER_COPY_IN_H
#define SHOAL_ROUTER_COPY_IN_H

#include "router/scatter.h"

/* Starts the legs; the request is RUNNING and has a Plan of kind COPY_IN. */
void copy_in_start(Request *request, const Plan *plan);
/* The request is such a COPY, and its client may send data. */
bool copy_in_takes(const Request *request);
/* A CopyData, CopyDone or CopyFail of the client. False: some shard is choked, read no more. */
bool copy_in_feed(Request *request, const Frame *frame);
/* A shard has taken what it had been sent. False: another one is still choked. */
bool copy_in_drained(Session *session, const Backend *backend);

#endif
