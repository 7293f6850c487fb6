/*
 * complexity.h - how deep a parser would have to recurse, known before it is asked (H43).
 *
 * libpg_query does not watch its stack: `SELECT 1+1+...` kills the process where PostgreSQL answers
 * 54001. These two numbers bound the depth of the parse tree, from tokens alone. Wide statements
 * stay cheap: a thousand rows of VALUES or a thousand pairs under OR count once, not a thousand
 * times. Pure.
 */
#ifndef SHOAL_QUERY_COMPLEXITY_H
#define SHOAL_QUERY_COMPLEXITY_H

#include "core/slice.h"

/* More nesting than this is not followed: depth is COMPLEXITY_DEPTH_MAX + 1 then. */
#define COMPLEXITY_DEPTH_MAX 500

typedef struct Complexity {
    uint32_t depth; /* most ( and [ open at once */
    uint32_t terms; /* most steps (operators, NOT, CASE, JOIN, UNION, parentheses ...) that can stand
                       under one another in the parse tree; a parenthesis weighs three, CASE two */
} Complexity;

/* Stops at the first TOKEN_BAD. */
Complexity complexity_measure(Slice text, bool standard_strings);

#endif
