/*
 * drift.h - SHOW SCHEMA_DRIFT: what stands in one shard's schema and not, or otherwise, in the home shard's.
 *
 * One row for each difference: database, shard, kind, object, what (missing, only here, differs), here, home.
 * No rows: the shards agree. A shard that cannot be asked is a row, too.
 */
#ifndef SHOAL_ADMIN_DRIFT_H
#define SHOAL_ADMIN_DRIFT_H

#include "admin/command.h"

bool show_schema_drift(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err);

#endif
