/*
 * explain.h - EXPLAIN of a statement over several shards: Shoal's plan above the shards' plans.
 *
 *     Shoal concat over 2 shards
 *       Rows: 120, Bytes: 2400                                  with ANALYZE
 *       ->  Shard s0: SELECT * FROM users WHERE age > 5
 *             Seq Scan on users  (cost=...)
 *             Sent: rows=61 bytes=1220 time=0.512 ms            with ANALYZE
 *       ->  Shard s1: ...
 *
 * Each shard explains what it would be asked; plain EXPLAIN executes nothing. With ANALYZE a SELECT's parts are executed
 * twice: by PostgreSQL's own EXPLAIN ANALYZE, and once more to count what is sent; UPDATE and DELETE once, in one
 * transaction over the shards. FORMAT TEXT and JSON; others are refused.
 */
#ifndef SHOAL_ROUTER_EXPLAIN_H
#define SHOAL_ROUTER_EXPLAIN_H

#include "router/request.h"

/* The request's only statement is an EXPLAIN whose statement one shard cannot answer: takes it over, or refuses it.
 * False: it is no such one. */
bool explain_start(Request *request) MUST_USE;

#endif
