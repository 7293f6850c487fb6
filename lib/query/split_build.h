/*
 * split_build.h - a SplitForm under construction; private to lib/query.
 *
 *     split.c           may it be pushed? which kind is it?
 *        split_scope.c     the outermost level: its FROM items, whose column is it, which keys
 *        split_walk.c      facts of expressions: aggregates, volatile functions, the time
 *        split_name.c      the name that PostgreSQL gives an output column
 *        split_merge.c     CONCAT, ORDERED: hidden sort columns, LIMIT; and ORDER BY done by PARTIAL
 *        split_partial.c   aggregates and DISTINCT
 *        split_gather.c    tables fetched
 */
#ifndef SHOAL_QUERY_SPLIT_BUILD_H
#define SHOAL_QUERY_SPLIT_BUILD_H

#include "query/split.h"
#include "query/tree.h"
#include "query/tree_build.h"

#define SPLIT_ITEMS_MAX 64

/* One FROM item of a level. */
typedef struct SplitItem {
    const PgQuery__RangeVar *range; /* NULL: a subquery, a function ... */
    Slice alias;
    const SplitTable *table; /* NULL: no table of the catalog's */
    int index;               /* in the shape's tables; -1 */
    bool nullable;           /* an outer join may put NULLs in place of its row */
    bool renamed;            /* AS t(a, b) */
} SplitItem;

typedef struct SplitScope {
    SplitItem items[SPLIT_ITEMS_MAX];
    uint32_t count;
    bool merged; /* USING or NATURAL: some unqualified columns are of two tables */
    bool hidden; /* a join has an alias of its own */
    bool overflow;
} SplitScope;

typedef struct Split {
    const SplitInput *in;
    SplitForm *form;
    Maker maker;
    PgQuery__SelectStmt *select; /* the outermost; from a tree of this text that may be changed */
    SplitScope scope;            /* of the outermost level */
    int anchor;                  /* index in the shape's tables */
} Split;

/* What an expression holds. */
typedef struct SplitFacts {
    bool aggregate; /* of this level */
    bool window;
    bool sublink;
    bool volatile_; /* any volatile function */
    bool forbidden; /* a volatile one that must not run on several shards: nextval() */
    bool time;      /* now(), CURRENT_DATE: can be replaced by a constant */
    bool time_hidden; /* 'today'::date, age(x): cannot */
    bool set_returning;
    bool grouping; /* GROUPING() */
    bool outer_aggregate; /* an aggregate in a subquery that may be of this level */
    bool state;     /* unknown function */
} SplitFacts;

/* --- split_scope.c --- */
void scope_read(const Split *split, SplitScope *scope, const PgQuery__SelectStmt *select, uint32_t level);
/* The item that a column reference means; -1 when it is none for certain. `ret_name` its column. */
int scope_column(const SplitScope *scope, const PgQuery__Node *node, Slice *ret_name);
const SplitColumn *table_column(const SplitTable *table, Slice name);
/* Some table's whole key, whose rows are never NULLs of an outer join, is among the expressions. */
bool scope_has_key(const Split *split, PgQuery__Node *const *list, size_t n);
/* Every distributed reference is joined to the anchor by its key. */
bool scope_find_anchor(Split *split);

/* --- split_walk.c --- */
void facts_of(const Split *split, const PgQuery__Node *node, SplitFacts *facts);
void facts_of_list(const Split *split, PgQuery__Node *const *list, size_t n, SplitFacts *facts);
void facts_of_message(const Split *split, const ProtobufCMessage *message, SplitFacts *facts);
/* now() and its like become constants everywhere below. */
void time_replace(Split *split, const ProtobufCMessage *message);

/* --- split_name.c --- */
/* As PostgreSQL names an output column that has no AS. */
Slice target_name(const PgQuery__Node *target);

/* --- split_merge.c --- */
bool merge_concat(Split *split);
bool merge_ordered(Split *split);
/* ORDER BY by the merge server: PARTIAL. */
bool merge_finished(Split *split);
/* Resolves an item of ORDER BY, GROUP BY or DISTINCT ON: a number or a name of the select list means that
 * expression. `output_first`: as in ORDER BY. NULL when it cannot be told; *ret_target -1 or its number. */
PgQuery__Node *item_resolve(const Split *split, PgQuery__Node *item, bool output_first, int *ret_target);
bool targets_have_star(const PgQuery__SelectStmt *select);
/* Writes out * in the select list; false when its columns are not known. */
bool targets_expand(Split *split);
bool number_read(const PgQuery__Node *node, SplitNumber *ret);

/* --- split_partial.c --- */
bool partial_make(Split *split);

/* --- split_gather.c --- */
bool gather_make(Split *split);

/* All return true when the form is made (or refused), false when another way must be tried. */
bool split_refuse(Split *split, const char *reason);

#endif
