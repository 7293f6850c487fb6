/*
 * row_deal.h - rows in hand, each as the text of its table's row type, dealt out to the shards they belong to.
 *
 *     (7,x)  key 7 -> s0 ─┐      s0: INSERT INTO s.t (a, b) SELECT ... FROM unnest('{"(7,x)","(9,z)"}'::s.t[]) ...
 *     (8,y)  key 8 -> s1  ├──>   s1: the same with '{"(8,y)"}'
 *     (9,z)  key 9 -> s0 ─┘
 *
 * One statement per shard, so that ON CONFLICT, triggers and RETURNING see what they would see in PostgreSQL.
 */
#ifndef SHOAL_ROUTER_ROW_DEAL_H
#define SHOAL_ROUTER_ROW_DEAL_H

#include "router/copy_layout.h"
#include "router/scatter.h"

typedef struct RowDeal {
    CopyTarget target; /* what the rows are judged by */
    bool all;          /* a reference table: every row to every shard */
    bool here;         /* a table of one shard: every row to `shard` */
    uint32_t shard;
    Buf *rows;         /* [shard_count]: the array under construction */
    uint32_t *counts;  /* [shard_count]: rows in it */
    uint32_t shard_count; /* of the configuration */
    Arena *arena;
} RowDeal;

/* For a table that the planner found, in the session's topology. NULL table: of the home shard. Bounded by
 * errand_max_bytes. False when memory is out. */
bool row_deal_init(RowDeal *deal, const Session *session, const Table *table, Arena *arena) MUST_USE;
void row_deal_finish(RowDeal *deal);
/* A row with its key columns as text (data NULL: NULL). False: it has no shard, or there are too many. */
bool row_deal_add(RowDeal *deal, const Topology *topology, const Slice *keys, Slice row, Arena *scratch,
                  Error *err) MUST_USE;
/* A row, or anything else that is dealt so, to a shard that is known. False: there are too many. */
bool row_deal_put(RowDeal *deal, uint32_t shard, Slice row, Error *err) MUST_USE;
/* Where it belongs, without adding it. */
bool row_deal_place(const RowDeal *deal, const Topology *topology, const Slice *keys, Arena *scratch,
                    uint32_t *ret_shard, Error *err) MUST_USE;
/* Without any row: an empty array for one shard, which then answers in PostgreSQL's words. */
void row_deal_some(RowDeal *deal);

/* One leg for each shard that has rows; `sql` takes the array as parameter `param`. The client's own values are
 * given for parameters below it, those for which `used` says so. *ret_count 0: no shard has any. False when
 * memory is out. */
bool row_deal_legs(const RowDeal *deal, Request *request, Slice sql, uint32_t param, const bool *used,
                   ScatterLeg **ret_legs, uint32_t *ret_count) MUST_USE;
/* Steps that run `sql` with one text parameter, hidden answers but for T, D and C. NULL when memory is out. */
TaskStep *row_deal_steps(Request *request, Slice sql, Slice value, uint32_t *ret_count);
/* Steps that run `sql` with a whole Bind frame; only T, D and C of their answers are seen. NULL when memory is out. */
TaskStep *row_deal_ask(Request *request, Slice sql, const uint32_t *oids, uint32_t oid_count, Slice bound,
                       uint32_t *ret_count);

#endif
