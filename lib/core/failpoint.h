/*
 * failpoint.h - named places in the program where a test may let something go wrong.
 *
 *     SHOAL_FAILPOINT=commit_prepared:panic                   SIGKILL to ourselves, as kill -9 would
 *     SHOAL_FAILPOINT=commit_decided@2:sleep:1500             only at the second hit
 *     SHOAL_FAILPOINT=store_commit:enospc,recovery_look:error several
 *
 * Each name stands in the table of failpoint.c with what it means; `shoald --failpoints` lists them.
 * An armed point writes a line "failpoint NAME: hit N" to stderr when it is hit, before it acts, so
 * that a test can strike at that very moment. Without the meson option `failpoints` nothing of this
 * is in the program. Armed once, before threads start; hits are counted by atomics.
 */
#ifndef SHOAL_CORE_FAILPOINT_H
#define SHOAL_CORE_FAILPOINT_H

#include <stdio.h>

#include "core/error.h"

typedef enum FailAction { FAIL_NONE, FAIL_ERROR, FAIL_ENOSPC } FailAction;

#ifdef SHOAL_FAILPOINTS
extern bool failpoints_armed; /* constant once threads run */
/* What the place has to do: go on, or fail. PANIC and SLEEP are done inside. */
#define FAILPOINT(name) (failpoints_armed ? failpoint_hit(name) : FAIL_NONE)
FailAction failpoint_hit(const char *name);
#else
#define FAILPOINT(name) FAIL_NONE
#endif

/* For places that can fail: true with err (58030, or 53100) when the point says so. */
#define FAILPOINT_FAILS(name, err) failpoint_error(FAILPOINT(name), name, err)
static inline bool failpoint_error(FailAction action, const char *name, Error *err)
{
    if (action == FAIL_NONE)
        return false;
    error_set(err, action == FAIL_ENOSPC ? "53100" : SQLSTATE_IO_ERROR, "failpoint %s", name);
    return true;
}

/* Reads SHOAL_FAILPOINT's words; false when one is wrong, or when this program has no failpoints. */
bool failpoints_arm(const char *words, Error *err) MUST_USE;
/* "name  what has happened when it is hit", one a line. */
void failpoints_list(FILE *out);

#endif
