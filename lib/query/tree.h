/*
 * tree.h - going through a parse tree without knowing each of its 240 kinds of node.
 *
 * protobuf-c describes every message, so whatever stands below a node can be visited: no table and
 * no function hides in a clause that nobody thought of. Pure.
 */
#ifndef SHOAL_QUERY_TREE_H
#define SHOAL_QUERY_TREE_H

#include <pg_query/pg_query.pb-c.h>

#include "core/slice.h"

typedef void (*TreeVisit)(const ProtobufCMessage *message, void *context);

/* Calls `visit` for each message directly below, in the order of the fields. A Node (the envelope
 * of all kinds) has its content as its only child. */
void tree_children(const ProtobufCMessage *message, TreeVisit visit, void *context);

/* The message inside a Node; NULL for NULL and empty. */
const ProtobufCMessage *tree_inside(const PgQuery__Node *node);

/* The text of a String node; empty when it is none. */
Slice tree_string(const PgQuery__Node *node);

#endif
