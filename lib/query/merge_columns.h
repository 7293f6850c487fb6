/*
 * merge_columns.h - the names of the columns of a MERGE's source, as PostgreSQL gives them. Private to merge_source.c.
 *
 *     USING (SELECT id, count(*), x::int FROM t GROUP BY 1) AS s (k)      k, count, x
 *     WITH s AS (SELECT * FROM u) ... USING s                             u's own, which the caller knows
 *
 * What is done with the rows calls them by name: a name that is not certain is no name. Pure.
 */
#ifndef SHOAL_QUERY_MERGE_COLUMNS_H
#define SHOAL_QUERY_MERGE_COLUMNS_H

#include <pg_query/pg_query.pb-c.h>

#include "query/merge_source.h"

/* False when they are not certain: *why, a constant text, says it (memory out: it stays as it was). */
bool merge_columns_read(const MergeTables *tables, const PgQuery__MergeStmt *merge, Arena *arena, Slice **ret_names,
                        uint32_t *ret_count, const char **why) MUST_USE;

#endif
