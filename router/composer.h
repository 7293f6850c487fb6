/*
 * composer.h - the simple ways of making one answer of several (scatter.h).
 *
 *     FIRST   the first leg's answer is the client's, the others only have to succeed: DDL, SAVEPOINT
 *     SAME    the first leg's answer; the others must have counted as many rows: reference tables
 *     SUM     rows follow one another as they come, counts are added up: UPDATE 3 + UPDATE 4 = UPDATE 7
 */
#ifndef SHOAL_ROUTER_COMPOSER_H
#define SHOAL_ROUTER_COMPOSER_H

#include "router/scatter.h"

extern const ComposerOps COMPOSER_FIRST; /* legs have the request's own steps; composer is NULL */

typedef struct SumComposer {
    bool open;
    char verb[32]; /* "UPDATE", "INSERT 0"; empty while no tag has come */
    uint64_t rows;
    Slice tag; /* whole frame, when it has no count */
} SumComposer;

extern const ComposerOps COMPOSER_SUM; /* composer is a SumComposer, zeroed */
/* The first leg's rows and tag; the others must have the same tag. */
extern const ComposerOps COMPOSER_SAME; /* composer is a SumComposer, zeroed */

#endif
