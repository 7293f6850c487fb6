/*
 * failpoint.h - named places in the program where a test may let something go wrong.
 *
 *     SHOAL_FAILPOINT=copy_mid:panic                    kill -9 of ourselves, there
 *     SHOAL_FAILPOINT=copy_mid:sleep:2000               the thread sleeps (ms), then goes on; once
 *     SHOAL_FAILPOINT=map_tx_begin:error[:times]        the place fails, always or so many times
 *     SHOAL_FAILPOINT=commit_decided@2:sleep:1500       at the second hit only
 *     SHOAL_FAILPOINT=store_commit:enospc,copy_mid:error   several
 *
 * Compiled in with -Dfailpoints=true only; otherwise FAILPOINT() is the constant FAIL_NONE. Every name
 * stands in the table of failpoint.c with what it means; `shoald --failpoints` lists them. An armed
 * point writes a line "failpoint NAME: ACTION (hit N)" to stderr before it acts, so that a test can
 * strike at that very moment. Armed once, before threads start; hits are counted by atomics.
 */
#ifndef SHOAL_CORE_FAILPOINT_H
#define SHOAL_CORE_FAILPOINT_H

#include <stdio.h>

#include "core/error.h"

typedef enum FailAction {
    FAIL_NONE,
    FAIL_ERROR, /* the place behaves as if what it is about to do had failed */
    FAIL_ENOSPC /* ... for want of disk space */
} FailAction;

#ifdef SHOAL_FAILPOINTS
extern bool failpoints_armed; /* constant once threads run */
/* Panics and sleeps inside; the rest is the caller's. Any thread. */
#define FAILPOINT(name) (failpoints_armed ? failpoint_hit(name) : FAIL_NONE)
FailAction failpoint_hit(const char *name);
#else
#define FAILPOINT(name) FAIL_NONE
#endif

/* For places that can fail: true with err (58030, or 53100) when the point says so. */
#define FAILPOINT_FAILS(name, err) failpoint_fails(FAILPOINT(name), name, err)
/* What the place reports: 58030 or 53100. */
void failpoint_error(FailAction action, const char *name, Error *err);
static inline bool failpoint_fails(FailAction action, const char *name, Error *err)
{
    if (action != FAIL_NONE)
        failpoint_error(action, name, err);
    return action != FAIL_NONE;
}

/* Reads SHOAL_FAILPOINT's words; false when one is wrong, or when this program has no failpoints. */
bool failpoints_arm(const char *words, Error *err) MUST_USE;
/* "name  what has happened when it is hit", one a line; nothing when they are not compiled in. */
void failpoints_list(FILE *out);

#endif
