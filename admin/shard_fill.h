/*
 * shard_fill.h - the rows that a new shard must have before it joins: those of one database's reference tables.
 *
 *     home shard                              new shard
 *     snapshot (and locks) ── digests ──?──   digests         equal: nothing to do
 *        └── COPY of those that differ ───>   emptied, filled, digest again: equal, or it has failed
 *
 * Run twice: ahead, while everybody works, so that little is left; and `locked`, when nobody writes (shard_add.c), where
 * the digests are the proof. The home shard's locks are held until fill_close: an open transaction of somebody who never
 * came through here, or a prepared one, is waited for by them. Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_SHARD_FILL_H
#define SHOAL_ADMIN_SHARD_FILL_H

#include "admin/move_copy.h"
#include "meta/bucket_sql.h"

#define FILL_TABLES_MAX  MOVE_COPY_TABLES_MAX
#define FILL_QUERIES_MAX (FILL_TABLES_MAX + 8)

typedef struct ShardFill ShardFill;

typedef struct FillSide {
    ShardFill *fill;
    PgClient client;
    PgQuery queries[FILL_QUERIES_MAX];
    uint32_t count, first_digest; /* index of the first table's; UINT32_MAX: none is asked for */
} FillSide;

struct ShardFill {
    Arena *arena; /* borrowed */
    const Table *tables; /* borrowed */
    uint32_t table_count;
    PgLogin home, new;   /* what they point to lives as long as the run */
    bool locked;
    FillSide sides[2]; /* home: its transaction stays open; new */
    MoveCopy copy;
    const char *digests[2][FILL_TABLES_MAX];
    const char *columns[FILL_TABLES_MAX];
    const char *snapshot;
    uint32_t differing[FILL_TABLES_MAX], differing_count;
    uint32_t step, pending;
    uint64_t bytes; /* copied */
    bool failed;
    Error err;
    /* Over, well or not (err); last act in this turn. */
    void (*on_done)(ShardFill *fill, const Error *err);
    void *ctx;
};

void fill_init(ShardFill *fill, Loop *loop, void *ctx, void (*on_done)(ShardFill *fill, const Error *err));
/* `tables`: 1 to FILL_TABLES_MAX reference tables of one database. */
void fill_run(ShardFill *fill, const PgLogin *home, const PgLogin *new, const Table *tables, uint32_t count, bool locked,
              Arena *arena);
/* Ends what runs, and lets the locks go. */
void fill_close(ShardFill *fill);

#endif
