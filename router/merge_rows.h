/*
 * merge_rows.h - MERGE whose source is made elsewhere than where its target lies: its rows are dealt out by the key.
 *
 *     MERGE INTO t USING (SELECT u_id, count(*) AS n FROM clicks GROUP BY 1) s ON t.id = s.u_id WHEN ...
 *       turn 0   the rows of s, by gather (or on one server, for VALUES and functions)
 *       turn 1   each shard: MERGE INTO t USING (SELECT ... FROM unnest($1) ...) s ON t.id = s.u_id WHEN ...
 *
 * All rows with one key are on one shard, so that PostgreSQL itself finds what matches, and what is merged twice (21000).
 * Where nothing is inserted and ON says nothing about the key, each shard gets all rows. So does the
 * shard of a table that is not distributed.
 */
#ifndef SHOAL_ROUTER_MERGE_ROWS_H
#define SHOAL_ROUTER_MERGE_ROWS_H

#include "router/request.h"

/* Starts it; the request is RUNNING and has a Plan of kind MERGE. */
void merge_rows_start(Request *request, const Plan *plan);

#endif
