/*
 * child.h - a program that runs beside us, and tells by mail how it ended.
 *
 * For PostgreSQL's own tools (pg_dump): a thread waits for the program, the control thread does not.
 */
#ifndef SHOAL_ADMIN_CHILD_H
#define SHOAL_ADMIN_CHILD_H

#include "core/inbox.h"

typedef struct Child Child;

struct Child {
    Mail mail;
    char *const *argv;
    char *const *env;   /* added to ours; NULL-terminated NAME=value */
    Inbox *reply;
    int status;         /* exit status; -1: could not be run, 128 + n: ended by signal n */
    char output[600];   /* the end of what it wrote to stderr, one line */
    void *ctx;
    /* In the receiver's thread. The Child is the owner's: it lives until then. */
    void (*on_end)(Child *child);
};

/* False: no thread could be started. */
bool child_run(Child *child) MUST_USE;

#endif
