/*
 * grammar.h - PostgreSQL 15's own grammar (libpg_query), as a tree in an arena.
 *
 * May be asked from several threads at once. The caller has bounded the text before (complexity.h):
 * libpg_query does not watch its stack.
 */
#ifndef SHOAL_QUERY_GRAMMAR_H
#define SHOAL_QUERY_GRAMMAR_H

#include <pg_query/pg_query.pb-c.h>

#include "core/arena.h"

typedef enum GrammarResult {
    GRAMMAR_OK,
    GRAMMAR_REFUSED,  /* a syntax error for PostgreSQL 15 */
    GRAMMAR_NO_MEMORY
} GrammarResult;

/* `text` ends with NUL. The tree lives as long as the arena; nothing else is to be freed. */
GrammarResult grammar_parse(const char *text, Arena *arena, PgQuery__ParseResult **ret) MUST_USE;
/* The statement written as SQL again, in the arena. Empty when it cannot be (or memory is out). */
Slice grammar_deparse(const PgQuery__ParseResult *tree, Arena *arena) MUST_USE;
/* A copy of a node, from its packed form. NULL when memory is out. */
PgQuery__Node *grammar_unpack(Arena *arena, const uint8_t *packed, size_t len) MUST_USE;
/* 0 when it cannot be had. Parses once more. */
uint64_t grammar_fingerprint(const char *text);

#endif
