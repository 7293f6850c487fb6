/*
 * tree_build.h - new nodes for a parse tree, and the way back from a tree to SQL text.
 *
 * All nodes live in the maker's arena. When memory is out, `failed` is set once and makers return
 * NULL; whoever finishes (tree_text) looks at it. Nodes may stand in several places of a tree: text is
 * made from them, nothing is freed.
 */
#ifndef SHOAL_QUERY_TREE_BUILD_H
#define SHOAL_QUERY_TREE_BUILD_H

#include <pg_query/pg_query.pb-c.h>

#include "core/arena.h"

typedef struct Maker {
    Arena *arena;
    bool failed; /* memory is out; sticky */
} Maker;

PgQuery__Node *make_string(Maker *maker, const char *text);
PgQuery__Node *make_integer(Maker *maker, int32_t value);
/* An integer of any size, in digits. */
PgQuery__Node *make_number(Maker *maker, const char *digits);
PgQuery__Node *make_text(Maker *maker, const char *text); /* 'text' */
PgQuery__Node *make_param(Maker *maker, int32_t number);
/* `qualifier` may be NULL. */
PgQuery__Node *make_column(Maker *maker, const char *qualifier, const char *name);
/* pg_catalog.name(args) */
PgQuery__Node *make_call(Maker *maker, const char *name, PgQuery__Node **args, size_t n);
PgQuery__Node *make_operator(Maker *maker, const char *name, PgQuery__Node *left, PgQuery__Node *right);
/* `schema` may be NULL. */
PgQuery__Node *make_cast(Maker *maker, PgQuery__Node *arg, const char *schema, const char *type);
/* `name` may be NULL. */
PgQuery__Node *make_target(Maker *maker, const char *name, PgQuery__Node *value);
PgQuery__Node *make_table(Maker *maker, const char *schema, const char *name, const char *alias);
PgQuery__Node *make_and(Maker *maker, PgQuery__Node **terms, size_t n);
PgQuery__Node *make_select_node(Maker *maker, PgQuery__SelectStmt *select);
PgQuery__SelectStmt *make_select(Maker *maker);
PgQuery__SortBy *make_sort_copy(Maker *maker, const PgQuery__SortBy *sort, PgQuery__Node *node);
PgQuery__Node *make_sort_node(Maker *maker, PgQuery__SortBy *sort);

/* A list of nodes with one more at its end; for the repeated fields of a message. */
void list_add(Maker *maker, PgQuery__Node ***list, size_t *count, PgQuery__Node *node);

/* The statement as SQL, in the arena; empty when memory is out or the tree cannot be written. */
Slice tree_text(Maker *maker, PgQuery__SelectStmt *select);

/* Same meaning: equal but for where they stand in the text. */
bool tree_equal(const ProtobufCMessage *a, const ProtobufCMessage *b);
static inline bool node_equal(const PgQuery__Node *a, const PgQuery__Node *b)
{
    return a == b || (a && b && tree_equal(&a->base, &b->base));
}

#endif
