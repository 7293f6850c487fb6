/*
 * distribute.h - makes a table a distributed one, and back; rows that it holds go along (row_fill.h).
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
    TableKind kind; /* that it gets, or has had */
    const char *schema, *name; /* all texts in the call's arena */
    const char *key;      /* columns, joined by TABLE_KEY_SEPARATOR; "" for none */
    const char *key_text; /* for people */
    const char *key_array; /* for PostgreSQL: a text[] */
    const char *key_oids; /* "20,25" */
    bool partitioned; /* its rows are in its partitions */
    TableKey keys[TABLE_KEYS_MAX];
    uint32_t key_count;
    const char *colocation, *placement; /* as the store has them */
    const Place *places;
    uint32_t place_count;
} DistributePlan;

/* Pure. `function` is the name of one of those that distribute, `args` as it takes them. */
bool distribute_plan_make(const Topology *topology, uint32_t database, const char *function,
                          const Slice *args, uint32_t arg_count, Arena *arena, DistributePlan *ret,
                          Error *err) MUST_USE;
/* Handler of these functions: starts the Job. */
bool distribute_run(Control *control, Call *call, const Function *function, Error *err);

#endif
