/*
 * copy_out.h - COPY ... TO STDOUT from several shards: their data, one behind the other, as of one server.
 *
 *     s0: H d(header) d d c ──┐
 *     s1: H d(header) d d c ──┴──> client: H d(header) d d d d c
 *
 * Each CopyData of PostgreSQL is one row (the binary preamble stands before the first one, the trailer is one
 * of its own), so that rows may be passed on as they come, from all shards at once.
 */
#ifndef SHOAL_ROUTER_COPY_OUT_H
#define SHOAL_ROUTER_COPY_OUT_H

#include "router/scatter.h"

/* Starts the legs; the request is RUNNING and has a Plan of kind COPY_OUT. */
void copy_out_start(Request *request, const Plan *plan);

#endif
