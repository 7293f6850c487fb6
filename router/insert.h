/*
 * insert.h - INSERT ... VALUES whose rows belong to several shards: each shard gets its own rows.
 *
 *     INSERT INTO t VALUES ($1, $2), ($3, $4), ($5, $6) RETURNING *
 *       s0: INSERT INTO t VALUES ($1, $2), ($3, $4) RETURNING *      with the values of $1 $2 $5 $6
 *       s1: INSERT INTO t VALUES ($1, $2) RETURNING *                with those of $3 $4
 *
 * All of them in one transaction. What RETURNING gives comes in the order of the rows, as PostgreSQL's does,
 * when each row gave one; after ON CONFLICT DO NOTHING, shard by shard.
 */
#ifndef SHOAL_ROUTER_INSERT_H
#define SHOAL_ROUTER_INSERT_H

#include "router/scatter.h"

/* Starts the legs; the request is RUNNING and has a Plan of kind INSERT. */
void insert_start(Request *request, const Plan *plan);

/* The statement with the rows for which `rows[i] == shard`, parameters numbered anew. *ret_params: the old
 * number of each new one. False: the text is not what was planned (or memory is out). Pure. */
bool insert_text(Slice sql, bool standard_strings, const uint32_t *rows, uint32_t row_count, uint32_t shard,
                 Arena *arena, Slice *ret_text, uint32_t **ret_params, uint32_t *ret_param_count) MUST_USE;

#endif
