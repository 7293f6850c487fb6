/*
 * n1_loop.h - a parent's rows, and the statements that a session makes of them, one after the other.
 *
 *     N1Loop   parent, rows       of the last result that a loop may follow
 *       └ N1Track  pattern        one child statement: where in the rows it has come to, what of it was
 *                                 fetched ahead
 */
#ifndef SHOAL_ROUTER_N1_LOOP_H
#define SHOAL_ROUTER_N1_LOOP_H

#include "router/n1_book.h"
#include "router/provenance.h"
#include "router/reads.h"
#include "router/write_epoch.h"

#define N1_TRACKS_MAX 4

typedef struct N1Track {
    N1Pattern *pattern; /* of loop->parent: stays as long as the loop follows it */
    Provenance from; /* where its values come from */
    uint64_t statements; /* in this turn of the parent */
    bool counted; /* among the pattern's loops */
    PrefetchLink values[PROVENANCE_VALUES_MAX]; /* what Suspect.value numbers */

    Prefetch *ahead; /* owned */
    uint32_t hits;
    bool tried; /* it failed in this loop */
    uint32_t age_ms; /* it may be so old; 0: exact, inside its transaction */
    char tx; /* of the session when it was asked */
    uint64_t version; /* of the topology then */
    WriteSet reads;
    uint64_t epoch; /* of `reads` then */
    ReadOrigin origin; /* which server it was asked of */
} N1Track;

typedef struct N1Loop {
    N1Parent *parent; /* a reference; NULL none */
    ParentRows rows;
    bool remembered; /* rows are complete */
    N1Why lack; /* why there are none */
    N1Track tracks[N1_TRACKS_MAX];
    uint32_t track_count;
    uint64_t used_us;
    uint64_t charged; /* bytes of it in book->memory */
} N1Loop;

N1Loop *n1_loop_create(void) MUST_USE;
void n1_loop_free(N1Loop *loop, N1Book *book); /* NULL is fine */

/* The parent is sent (again): what was followed until now is over. */
void n1_loop_begin(N1Loop *loop, N1Book *book, N1Parent *parent);
/* A loop found by counting, which is already `statements` long and has no rows. */
void n1_loop_suspect(N1Loop *loop, N1Book *book, N1Pattern *pattern, uint32_t statements);
/* The parent's result has passed by. */
void n1_loop_remembered(N1Loop *loop, bool failed);

/* NULL: too many. */
N1Track *n1_loop_track(N1Loop *loop, N1Pattern *pattern);
/* The child's next statement, by hashes of its values. */
void n1_loop_turn(N1Loop *loop, N1Track *track, const uint64_t *hashes, uint32_t count, const Config *config);
/* Fills links and values of what the child will ask for next. False: nothing to guess. */
bool n1_loop_guess(const N1Loop *loop, const N1Track *track, Arena *arena, uint32_t rows_max,
                   PrefetchInput *ret) MUST_USE;

bool n1_loop_keeps(const N1Loop *loop); /* something is fetched ahead */
void n1_loop_throw(N1Loop *loop, N1Book *book);
void n1_track_throw(N1Loop *loop, N1Track *track, N1Book *book);
/* Brings book->memory up to date. */
void n1_loop_account(N1Loop *loop, N1Book *book);

#endif
