/*
 * row_fill.h - the rows that a table already holds go to their shards while it becomes another kind of table.
 *
 *     locked against writers on all shards, in the open transactions of distribute.c
 *     copy      home ──COPY──> shoal.distribute_rows on each target (a table of its own, committed)
 *     move      in the open transactions: INSERT from it, DELETE at home what belongs elsewhere; the counts must agree
 *     prepare   ACCESS EXCLUSIVE, then PREPARE TRANSACTION on all shards; the locks stay with them
 *     decide    the store: the table is in it, durable                       <- the only point of no return
 *     end       workers know, what was planned before has ended: COMMIT PREPARED everywhere (row_fill_end.h)
 *
 * Killed before the decision, everything is rolled back; behind it, everything is committed, by the next start if need be.
 * Until then whoever reads or writes the table waits. While rows are copied, only writers do.
 */
#ifndef SHOAL_ADMIN_ROW_FILL_H
#define SHOAL_ADMIN_ROW_FILL_H

#include "admin/distribute.h"
#include "admin/move_copy.h"
#include "meta/store.h"

#define FILL_QUERIES_MAX 8
#define FILL_STAGE "shoal.distribute_rows"

/* Rows of one shard for another one; indexes among the database's shards. */
typedef struct RowFillMove {
    uint32_t from, to;
    const char *filter; /* NULL: all */
    bool first;         /* to that shard */
    uint64_t copied;
} RowFillMove;

/* What a shard does with its rows. */
typedef struct RowFillShard {
    bool gives, takes; /* rows; it deletes, or inserts them */
    uint64_t removed, added, held;
    PgQuery queries[FILL_QUERIES_MAX];
    int held_at, removed_at, added_at; /* which query says so; -1: none */
    uint32_t query_count;
} RowFillShard;

typedef struct RowFill {
    Control *control;
    const DistributePlan *plan;
    Arena *arena;
    const char *table;   /* quoted, with its schema */
    const char *rows;    /* the same as it stands in FROM: a partitioned table's rows are in its partitions */
    const char *columns; /* that can be written, quoted */
    const char *role;    /* of the transactions that take the rows */
    char *last_ids;      /* "{"id": 7}": the last value of each of its sequences, at home */
    RowFillMove *moves;
    uint32_t move_count, at;
    RowFillShard *shards;
    uint32_t shard_count;
    PgClient stage;
    PgQuery stage_queries[3];
    MoveCopy copy;
    Timer next;
    StoreFill pending;
    void (*on_copied)(struct RowFill *fill, const Error *err); /* last act in this turn */
    void *ctx;
} RowFill;

/* `holds[i]`: shard i has rows now. False: they cannot be moved. */
bool row_fill_init(RowFill *fill, Control *control, const DistributePlan *plan, const bool *holds, const char *role, Arena *arena,
               Error *err) MUST_USE;
/* The rows are copied; on_copied tells. */
void row_fill_copy(RowFill *fill);
/* What shard `index` runs next in its open transaction; then each answer is shown to row_fill_take. */
bool row_fill_moves_make(RowFill *fill, uint32_t index) MUST_USE;
void row_fill_take(RowFill *fill, uint32_t index, uint32_t query, const PGresult *result);
/* Do the counts agree? */
bool row_fill_agrees(const RowFill *fill, Error *err) MUST_USE;
/* The last two, once the store knows of it. */
bool row_fill_prepare_make(RowFill *fill, uint32_t index) MUST_USE;
/* Durable: what is prepared from now on will be ended. */
bool row_fill_begin_end(RowFill *fill, Error *err) MUST_USE;
void row_fill_finish(RowFill *fill);

#endif
