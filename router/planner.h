/*
 * planner.h - where a statement goes. Pure: decides from Shape, values and Topology alone.
 *
 *   DIRECT     one shard answers for the whole database
 *   WRITE      each of several shards runs it, in one transaction; counts are added up
 *   SCATTER    a SELECT over several shards, made one answer (fanout.h)
 *   DDL        every shard of the database runs it, answered once
 *   INSERT     each of several shards gets its rows of VALUES
 *   INSERT_SELECT  rows that a SELECT or a default makes go to their shards (insert_select.h)
 *   MERGE      rows of its source go to the shards that the target's rows are on (merge_rows.h)
 *   COPY_IN    rows of copy data go to their shards
 *   COPY_OUT   copy data of all shards
 *   LOCAL      Shoal answers: SELECT shoal.name(...)
 *   PROBE      not in our grammar: PostgreSQL may tell its own error, but may not run it (H94)
 *   REJECT     cannot be answered rightly: error, with DETAIL and HINT
 *
 * A statement goes to one shard when every distributed table that it names, at every level, is
 * restricted by `key = value` to rows of that shard, directly or through a join on the key. Whatever
 * is not proven is refused: never answered from one shard (H46-H53, bad-input 119-121).
 */
#ifndef SHOAL_ROUTER_PLANNER_H
#define SHOAL_ROUTER_PLANNER_H

#include "core/stats.h"
#include "meta/topology.h"
#include "query/insert_source.h"
#include "query/shape.h"
#include "wire/frontend.h"

typedef enum PlanKind {
    PLAN_DIRECT,
    PLAN_WRITE,
    PLAN_SCATTER,
    PLAN_DDL,
    PLAN_INSERT,
    PLAN_INSERT_SELECT,
    PLAN_MERGE,
    PLAN_COPY_IN,
    PLAN_COPY_OUT,
    PLAN_LOCAL,
    PLAN_PROBE,
    PLAN_REJECT,
    PLAN_KIND_COUNT
} PlanKind;

/* A statement with its values: bound, and perhaps executed. */
typedef struct PlanStatement {
    bool executed; /* not the planner's business: only what was executed has effects */
    const Shape *shape;
    Slice text;
    const ShapeLiteral *literals;
    Slice hint; /* of its leading comment; empty: none */
    const BindMessage *bind;    /* NULL in the simple protocol */
    const uint32_t *param_oids; /* declared types of parameters; 0: inferred by PostgreSQL */
    uint32_t param_oid_count;
} PlanStatement;

typedef struct PlanInput {
    const Topology *topology;
    uint32_t database;
    Slice user;
    Slice search_path;
    bool path_unknown;   /* SET LOCAL, set_config(): it is not search_path that names are looked up by */
    bool temporary;      /* the session has temporary objects, on the home shard */
    bool changed;        /* the transaction has made objects that the catalog does not know yet ... */
    bool partitioned;    /* ... partitions among them */
    const uint32_t *cursor; /* UPDATE, DELETE ... WHERE CURRENT OF: the shard that it lives on; NULL: none */
    bool cursor_gathered;   /* ... it lives, but on a connection of its own, over rows brought together */
    bool in_transaction; /* a transaction block is open (or opened by the same request) */
    bool same_encoding;  /* client and database encoding agree: text keys may hold any character */
    Arena *arena;        /* scratch */
    Slice now;           /* what now() means, as a timestamptz literal; empty: not known */
    bool whole;          /* SCATTER: by GATHER only */
    Counter *bucket_uses; /* [buckets]: grows by one for each row's bucket that is asked for; NULL: not counted */
    Arena *keep;         /* lives as long as the request: for SCATTER. NULL: REJECT instead */
} PlanInput;

typedef struct Plan {
    PlanKind kind;
    uint32_t shard;   /* DIRECT: index in config->shards */
    bool any_shard;   /* DIRECT: names no table of the user: every shard would answer alike */
    bool looked;      /* REJECT, to who only looks: it may become a plan of several shards (PlanInput.keep) */
    bool catalog;     /* DIRECT, any_shard: asks the catalog; the home shard, wherever the transaction is */
    bool fenced;      /* it needs a bucket that is moving at this moment: it waits (fence.h) */
    bool alone;       /* DDL: cannot run inside a transaction block */
    const uint32_t *shards; /* WRITE: in ascending order; in the input's arena */
    uint32_t shard_count;
    const Slice *texts; /* WRITE, COPY_OUT: what each shard of it, or of the database, is asked; in `keep`. NULL: as
                           the client said it */
    const struct Fanout *spread; /* SCATTER; in `keep` */
    bool rekeys; /* WRITE: an UPDATE of the shard key (rekey.h), of `table` */
    bool same; /* WRITE: each shard does the same (reference tables, LOCK); one answers for all */
    const uint32_t *rows; /* INSERT: the shard of each row; in the input's arena */
    uint32_t row_count;
    const struct MergeSource *merge; /* MERGE; in `keep` */
    const Table *table; /* COPY_IN, INSERT_SELECT, MERGE, `rekeys`: the target; NULL: a table of the home shard */
    Slice schema, name; /* INSERT_SELECT, MERGE, `rekeys`: the target, as the catalog has it */
    bool same_encoding; /* COPY_IN: as in the input */
    Error error;      /* REJECT */
} Plan;

/* After it names may mean other tables, for the statements that follow in the same request. */
bool plan_sets_path(const Shape *shape);
/* ... and in all later ones: the session's settings do not tell. */
bool plan_sets_path_unseen(const Shape *shape);

/* A column with a length or precision may store another value than the one given: varchar(3) cuts
 * blanks, timestamp(0) rounds. False for values (canonical) where that may happen. */
bool plan_column_stores(const CatalogColumn *column, KeyType type, Slice value, bool utf8);

/* A value of one type is the key of another when both compare and hash alike. */
bool plan_types_agree(uint32_t value_oid, uint32_t key_oid);

/* Where the rows of an INSERT ... SELECT, or of a MERGE, come from. */
typedef struct PlanSource {
    bool pushed; /* every row is read where it is to be written: `shards` run the whole statement */
    const uint32_t *shards;
    uint32_t shard_count;
    const struct Fanout *spread; /* how its tables are brought together; NULL: any one server answers it */
    bool system;                 /* ... the home shard, because it reads the catalog */
} PlanSource;

/* `source`: the SELECT of an INSERT into `table` (NULL: of the home shard), taken apart as `parts`. `insert` is the
 * whole statement's Shape. False: refused, `err` says why. */
bool plan_source(const PlanInput *input, const PlanStatement *source, const InsertSource *parts, const Shape *insert,
                 const Table *table, const CatalogTable *facts, PlanSource *ret, Error *err) MUST_USE;
Plan plan_make(const PlanInput *input, const PlanStatement *statement);
/* Several statements of one request: all must agree on one shard. */
Plan plan_merge(const PlanInput *input, const Plan *plans, uint32_t count);

#endif
