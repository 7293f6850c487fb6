/*
 * distribute.h - makes an empty table a distributed one, and back.
 *
 *     plan      what is asked, against catalog and topology (pure)             42P01 42703 42804
 * 42P07 ... check     on every shard, as the role that the client has there, in one open
 * transaction each: it owns the table; same table, same column type, locked against writers, no
 * unique constraint or foreign key that shards cannot keep, no rows decide    store (durable),
 * publish, wait until every worker has adopted it release   statements that were planned before and
 * wait for our lock are cancelled, then COMMIT
 *
 * The locks are held until every worker knows, and until what was planned before has ended (drain.h):
 * no row can slip into the wrong shard under an old plan. A statement that has been running on a
 * server for ten seconds is not waited for: it does not touch the table, or it would wait for us.
 */
#ifndef SHOAL_ADMIN_DISTRIBUTE_H
#define SHOAL_ADMIN_DISTRIBUTE_H

#include "admin/functions.h"

typedef struct DistributePlan {
    bool undo;    /* undistribute */
    bool already; /* nothing is to be done */
    uint32_t database;
    const char *schema, *name; /* all texts in the call's arena */
    const char *key, *colocation;
    uint32_t key_oid;
    KeyType key_type;
    bool declared; /* in shards.ini */
} DistributePlan;

/* Pure. `args` as the functions distribute_table and undistribute_table take them. */
bool distribute_plan_make(const Topology *topology, uint32_t database, bool undo, const Slice *args,
                          uint32_t arg_count, Arena *arena, DistributePlan *ret,
                          Error *err) MUST_USE;
/* Handler of both functions: starts the Job. */
bool distribute_run(Control *control, Call *call, const Function *function, Error *err);

#endif
