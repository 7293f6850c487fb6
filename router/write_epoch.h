/*
 * write_epoch.h - which tables were written through this router, by any client of any worker.
 *
 *     client 2, worker 1:   UPDATE users ... COMMIT ──> epoch of `users` + 1, before its answer leaves
 *     client 1, worker 0:   answers about `users` fetched ahead: their epoch is another one ──> thrown away
 *
 * So nobody who has heard of a write is later told of what was before it. The epochs are counters in one
 * array, found by a hash of database and table: two tables on one counter throw away too much, never too
 * little. Each database has two counters besides: of writes whose tables cannot be told (functions, DDL,
 * triggers, cascading foreign keys, views), and of all writes, for readers of partitioned tables.
 *
 * One array for all workers, made before they start. An epoch is increased (seq_cst) before the write's
 * answer is handed to the client's stream; it is read (seq_cst) before the batch is sent and before each
 * answer from it.
 */
#ifndef SHOAL_ROUTER_WRITE_EPOCH_H
#define SHOAL_ROUTER_WRITE_EPOCH_H

#include <stdatomic.h>

#include "meta/topology.h"
#include "query/shape.h"

#define WRITE_EPOCH_SLOTS 4096

typedef struct WriteEpochs {
    _Atomic uint32_t slots[WRITE_EPOCH_SLOTS];
} WriteEpochs;

/* What names mean to a session. */
typedef struct WriteScope {
    const Topology *topology;
    uint32_t database;
    Slice user, search_path;
    bool names_unsure; /* what they mean is not known: temporary objects, SET LOCAL search_path */
} WriteScope;

#define WRITE_SET_MAX 12

/* Counters that some statements have increased, or depend on. Zeroed: empty. */
typedef struct WriteSet {
    uint16_t slots[WRITE_SET_MAX];
    uint8_t count;
    bool full; /* more than it holds: every counter of the database is meant */
} WriteSet;

/* Adds what an executed statement may write. Nothing for statements that only read. */
void write_set_add_writes(WriteSet *set, const WriteScope *scope, const Shape *shape);
/* Adds what an answer to this SELECT depends on. False: no set can tell. */
bool write_set_add_reads(WriteSet *set, const WriteScope *scope, const Shape *shape) MUST_USE;
/* The statement calls functions that may write, or change the session. */
bool write_scope_calls_unknown(const WriteScope *scope, const Shape *shape);

void write_epochs_increase(WriteEpochs *epochs, const WriteSet *set);
/* Their sum: equal before and after exactly when none of them was increased. */
uint64_t write_epochs_sum(const WriteEpochs *epochs, const WriteSet *set);

#endif
