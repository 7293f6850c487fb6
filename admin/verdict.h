/*
 * verdict.h - is everything well? One table of checks, each with what it looks at.
 *
 * What SHOW HEALTH lists, what /health answers, and the line on top of the web page. A check says
 * nothing when there is nothing to say; then its row is "ok". Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_VERDICT_H
#define SHOAL_ADMIN_VERDICT_H

#include "core/arena.h"

typedef struct Control Control;

typedef enum VerdictLevel {
    VERDICT_OK,
    VERDICT_WARNING, /* look at it today */
    VERDICT_BAD      /* clients are hurt */
} VerdictLevel;

typedef struct Verdict Verdict;

/* The worst of all checks. */
VerdictLevel verdict_of(Control *control);
const char *verdict_level_name(VerdictLevel level);
/* For load balancers: new clients can be served by this router. *ret_why: a constant text when not. */
bool verdict_ready(const Control *control, const char **ret_why);

#endif
