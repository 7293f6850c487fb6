/*
 * plan_facts.h - what must be known before buckets are planned to travel: asked of all shards, changed nowhere.
 *
 *     facts_ask ──> each database on each shard:  sizes of its tables, a sample of their rows by bucket,
 *                                                 what a move would miss there, the tables' shape, room on disk
 *               ──> on_done: rows and bytes of each bucket, findings
 *
 * A table is read as a whole up to FACTS_PAGES pages, beyond by a sample of so many: so the question costs the same
 * whether a table has a gigabyte or a terabyte. Room on disk is known of servers on this machine alone: PostgreSQL
 * does not tell. Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_PLAN_FACTS_H
#define SHOAL_ADMIN_PLAN_FACTS_H

#include "admin/control_state.h"

#define FACTS_PAGES 2048

typedef struct FactsAsk FactsAsk;

/* Something that would make a move fail. */
typedef struct FactsFinding {
    struct FactsFinding *next;
    uint32_t shard;
    const char *database, *problem, *remedy;
} FactsFinding;

typedef struct PlanFacts {
    Control *control;
    Arena *arena; /* borrowed: holds all of this but the connections */
    uint32_t bucket_count, shard_count, database_count;
    uint64_t *rows, *data, *bytes; /* [bucket_count] estimated: rows; bytes in them; bytes on disk, with indexes */
    uint64_t *room;                /* [shard_count] bytes free on disk; UINT64_MAX: not known */
    BucketSet *strays;             /* [shard_count] buckets whose rows lie there although they live elsewhere */
    const char **shapes; /* [database_count * shard_count] tables_sql_facts; NULL: none, or not answered */
    FactsFinding *findings;
    FactsAsk *asks;
    uint32_t ask_count, pending;
    bool silent; /* some shard has not answered: the figures lack its rows */
    Error failed; /* ... why */
    void (*on_done)(void *ctx);
    void *ctx;
} PlanFacts;

/* Asks; on_done is called once, later, unless facts_close comes first. False: memory is out. */
bool facts_ask(PlanFacts *facts, Control *control, Arena *arena, void (*on_done)(void *ctx), void *ctx) MUST_USE;
void facts_close(PlanFacts *facts);
/* Adds one. */
void facts_find(PlanFacts *facts, uint32_t shard, const char *database, const char *problem, const char *remedy);

#endif
