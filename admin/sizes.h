/*
 * sizes.h - shoal.table_size(), total_size(), row_count(), row_estimate(), database_size(): sums over the shards.
 *
 * PostgreSQL's own pg_table_size() and its like tell of one shard. A reference table's bytes are counted on each shard,
 * its rows once. row_count() asks for the right to SELECT (42501).
 */
#ifndef SHOAL_ADMIN_SIZES_H
#define SHOAL_ADMIN_SIZES_H

#include "admin/functions.h"

bool sizes_run(Control *control, Call *call, const Function *function, Error *err);

#endif
