/*
 * names.h - the two lists of names that rule 9 needs: stable functions and operators of PostgreSQL
 * itself that answer alike for every member of a batch.
 */
#ifndef SHOAL_BATCHER_NAMES_H
#define SHOAL_BATCHER_NAMES_H

#include "core/slice.h"

/* A function of pg_catalog that is declared STABLE and depends on nothing but its arguments, the
 * settings that all members share, the tables, and the time. */
bool names_stable_function(Slice name);
/* An operator that PostgreSQL defines for its own types; all of them are immutable or stable. */
bool names_builtin_operator(Slice name);

#endif
