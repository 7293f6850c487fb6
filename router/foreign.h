/*
 * foreign.h - rows that lie on a shard which does not own them: copies that a move has made, or left.
 *
 *     s0 owns buckets 0-7, they are being copied to s1        a statement for all shards
 *     s0:  all its rows                                        s0: as it is
 *     s1:  its own, and copies of 0-7                          s1: ... AND NOT (bucket of the key in 0-7)
 *
 * A statement with its key is sent to the owner and needs nothing. One for several shards gets a term on each
 * shard that has such rows; which those are the topology says (Topology.foreign), by which it is planned, so that
 * all its legs see the same map. The fence waits for it like for all others (fence.h).
 */
#ifndef SHOAL_ROUTER_FOREIGN_H
#define SHOAL_ROUTER_FOREIGN_H

#include "meta/bucket_sql.h"

/* True while some shard holds rows of others, and the table has such rows. */
bool foreign_table(const Topology *topology, const Table *table);
/* What `shard` is to be asked in place of `text`: the same, or with a term more. `alias`: by which columns of the
 * table may be called at the outermost level; empty: it is the only one. `columns`: see term_add. In the arena. Empty: it cannot be said. */
Slice foreign_text(const Topology *topology, const Table *table, uint32_t shard, Slice alias, Slice text,
                   const char *columns, Arena *arena);
/* For each of the shards; NULL: memory is out or it cannot be said for one of them. */
Slice *foreign_texts(const Topology *topology, const Table *table, const uint32_t *shards, uint32_t count,
                     Slice alias, Slice text, const char *columns, Arena *arena);
/* What is said when it cannot be. */
void foreign_error(Error *err);

#endif
