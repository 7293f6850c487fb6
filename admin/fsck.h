/*
 * fsck.h - is the cluster what the store says it is?
 *
 *     FSCK          looks      FSCK REPAIR     ... and takes away what belongs to nobody
 *
 *   finding           meaning                                            repaired
 *   misplaced rows    rows lie where the map does not name their bucket  no: somebody must look at them
 *   no key            rows without a key: no statement finds them        no
 *   schema            the tables are not the same as on the home shard   no
 *   leftover          slot, subscription, publication or guard of a      yes
 *                     move that is over
 *   unreachable       the shard could not be asked                       no
 *
 * Rows of buckets that are in a move are left out: they lie on two shards, as they should. Reads all
 * distributed tables once; writes nothing but what REPAIR says.
 */
#ifndef SHOAL_ADMIN_FSCK_H
#define SHOAL_ADMIN_FSCK_H

#include "admin/command.h"

/* Handler of FSCK. */
bool console_fsck(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err);

#endif
