/*
 * failpoint.h - places in the program where a test may make it die, wait or fail.
 *
 *     SHOAL_FAILPOINT=copy_mid:panic                 kill -9 of ourselves, there
 *     SHOAL_FAILPOINT=copy_mid:sleep:2000            the thread sleeps (milliseconds), then goes on
 *     SHOAL_FAILPOINT=map_tx_begin:error[:times]     the place fails, always or so many times
 *     SHOAL_FAILPOINT=a:sleep:100,b:enospc           several
 *
 * Compiled in with -Dfailpoints=true only; otherwise FAILPOINT() is the constant FAIL_NONE. Every
 * name stands in the table of failpoint.c; `shoald --failpoints` lists it. A hit is a line on stderr.
 */
#ifndef SHOAL_CORE_FAILPOINT_H
#define SHOAL_CORE_FAILPOINT_H

#include "core/error.h"

typedef enum FailAction {
    FAIL_NONE,
    FAIL_ERROR, /* the place behaves as if what it is about to do had failed */
    FAIL_ENOSPC /* ... for want of disk space */
} FailAction;

#ifdef SHOAL_FAILPOINTS
/* Panics and sleeps in here; the rest is the caller's. `name` is in the table. Any thread. */
FailAction failpoint_hit(const char *name);
#define FAILPOINT(name) failpoint_hit(name)
#else
#define FAILPOINT(name) FAIL_NONE
#endif

/* Names by index, NULL past the last; empty when they are not compiled in. */
const char *failpoint_name(size_t index);
/* What the place reports: 58030 or 53100. */
void failpoint_error(FailAction action, const char *name, Error *err);

#endif
