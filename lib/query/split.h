/*
 * split.h - a SELECT over several shards, cut into what each shard does and what is done with it.
 *
 *   CONCAT    rows of the shards follow one another:   SELECT * FROM t WHERE x > 5
 *   ORDERED   each shard sorts, the router merges:     ... ORDER BY id LIMIT 10
 *             (hidden columns at the end of the row are the sort keys, in binary)
 *   PARTIAL   each shard aggregates, PostgreSQL finishes over the partial rows:
 *               leg    SELECT g AS g1, count(*) AS p1 FROM t GROUP BY 1
 *               final  SELECT g1, sum(p1)::int8 FROM pg_temp.shoal_1 GROUP BY g1
 *   GATHER    tables are fetched, filtered and pruned, and PostgreSQL runs the statement itself:
 *               leg    SELECT id, x FROM t WHERE x > 5          -> pg_temp.shoal_1
 *               final  SELECT ... over (...) FROM pg_temp.shoal_1 t WHERE x > 5
 *   NONE      refused, with the reason
 *
 * Pure: decides from the text, its Shape, and what the caller says about tables and functions. Whatever
 * is not proven to stay exact when pushed is gathered. Parameters keep their numbers.
 */
#ifndef SHOAL_QUERY_SPLIT_H
#define SHOAL_QUERY_SPLIT_H

#include "query/shape.h"

typedef enum SplitKind { SPLIT_NONE, SPLIT_CONCAT, SPLIT_ORDERED, SPLIT_PARTIAL, SPLIT_GATHER } SplitKind;

/* Where the rows of a table are. */
typedef enum SplitPlace {
    SPLIT_PLACE_SYSTEM, /* the catalog: each server has its own, the home shard's is shown */
    SPLIT_PLACE_SPREAD, /* distributed by its key */
    SPLIT_PLACE_EVERY,  /* whole on each shard */
    SPLIT_PLACE_HOME    /* on one shard */
} SplitPlace;

typedef struct SplitColumn {
    Slice name;
    uint32_t type_oid;
} SplitColumn;

/* One table reference of the Shape, by the same index. Borrowed from the catalog. */
typedef struct SplitTable {
    SplitPlace place;
    const SplitColumn *columns; /* all of them in order; NULL: not known */
    uint32_t column_count;
    const Slice *keys; /* SPREAD: the columns that decide on the shard */
    uint32_t key_count;
    uint32_t group; /* SPREAD: equal keys of tables of one group are on one shard */
    Slice primary;  /* a column that is unique over all shards and never NULL; empty when none */
} SplitTable;

typedef struct SplitFunction {
    bool known;
    bool system;     /* of pg_catalog alone */
    char kind;       /* f a w p */
    char volatility; /* v s i */
    bool set_returning;
} SplitFunction;

typedef struct SplitInput {
    const Shape *shape; /* a single SELECT */
    Slice text;
    const SplitTable *tables; /* [shape->table_count] */
    SplitFunction (*function)(const void *context, const ShapeName *name);
    const void *context;
    Slice now;       /* the moment that now() means, as a timestamptz literal; empty: not known */
    bool fetch_every; /* GATHER: tables that are on every shard are fetched too, because this transaction
                         may have written to them */
    bool unmerged;    /* not ORDERED */
    bool whole;       /* GATHER only */
    bool home;        /* GATHER: on the home shard */
    Arena *arena;    /* of the answer and for scratch */
} SplitInput;

/* A sort key: the i-th hidden column, counted from the first one hidden. */
typedef struct SplitSort {
    bool descending, nulls_first;
    uint32_t type_oid;
} SplitSort;

typedef struct SplitNumber {
    enum { SPLIT_NUMBER_NONE, SPLIT_NUMBER_CONST, SPLIT_NUMBER_PARAM } kind;
    int64_t value;  /* CONST */
    uint32_t param; /* PARAM: $n, an int8 */
} SplitNumber;

/* A temporary table on the merge server, pg_temp.<name>. */
typedef struct SplitRelation {
    int table;     /* >= 0: rows for the references of that name; -1: of the statement, from all its shards */
    char name[24];
    Slice leg;     /* what is asked of the shards */
    Slice primary; /* GATHER: becomes the primary key, on which the statement's GROUP BY may rely */
} SplitRelation;

typedef struct SplitForm {
    SplitKind kind;
    const char *reason; /* NONE: why not. PARTIAL, GATHER: why rows are not just merged; for people */
    Slice leg;          /* CONCAT, ORDERED: what each shard runs */
    const SplitSort *sorts; /* ORDERED */
    uint32_t sort_count;
    uint32_t visible;       /* ORDERED: columns before the hidden ones */
    SplitNumber limit, offset; /* CONCAT, ORDERED: the router's. PARTIAL: only for limit_param */
    /* The legs' LIMIT is this parameter: limit + offset, an int8, NULL for none. 0: they have none. */
    uint32_t limit_param;
    SplitRelation *relations; /* PARTIAL (one), GATHER */
    uint32_t relation_count;
    Slice final;       /* PARTIAL, GATHER: the statement for the merge server */
    uint64_t averages;     /* PARTIAL: partial results (from bit 0) that are sums of an avg() */
    char type_mark[24];    /* PARTIAL: stands in `final` for types not known yet; see split_final */
    uint32_t column_count, part_count; /* PARTIAL: of its relation; the last ones are partial results */
    bool system;       /* names the system's catalog: the merge server is the home shard */
    bool locks;        /* FOR UPDATE and the like: rows are locked on the shards */
    uint32_t anchor;   /* CONCAT, ORDERED, PARTIAL: the reference whose shards run it */
} SplitForm;

/* Fills *ret. False only when memory is out. */
bool split_make(const SplitInput *input, SplitForm *ret) MUST_USE;
/* PARTIAL: the final statement, once the types of the relation's columns are known (as pg_catalog
 * names; NULL: not one of PostgreSQL's own). Empty when memory is out or a type is missing. */
Slice split_final(const SplitForm *form, const char *const *types, uint32_t count, Arena *arena);

const char *split_kind_name(SplitKind kind);

#endif
