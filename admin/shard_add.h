/*
 * shard_add.h - a new server becomes a shard: roles, databases and schema first, then it is told to the
 * workers.
 *
 *     shards.ini gets [shard s2]  ─>  SHARD ADD s2:
 *        roles, databases, schema   from the home shard, by pg_dump (in a child program)
 *        verify                     distributed tables equal to the home shard's
 *        join                       member in the store, topology with it, every worker has adopted it
 *        verify again               DDL that ran meanwhile is found
 *
 * It owns no bucket yet: REBALANCE START brings some. Until it has joined it is left out of everything,
 * also after a restart. SHARD REMOVE says whether a shard is empty, and what is to be done then.
 */
#ifndef SHOAL_ADMIN_SHARD_ADD_H
#define SHOAL_ADMIN_SHARD_ADD_H

#include "admin/command.h"

bool console_shard_add(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                       Error *err);
bool console_shard_remove(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                          Error *err);

#endif
