/*
 * canceller.h - cancel requests on their way: PQcancel blocks, so it runs in threads of its own.
 *
 *     worker                    canceller's thread               worker again
 *     PQgetCancel, submit  -->  PQcancel (connects, waits)  -->  mail: the server has been told
 *
 * A CancelJob owns its PGcancel, so the backend may die meanwhile. `backend` and the link are
 * touched by the worker alone; a dead backend's job has none.
 */
#ifndef SHOAL_BACKEND_CANCELLER_H
#define SHOAL_BACKEND_CANCELLER_H

#include <libpq-fe.h>

#include "backend/pool.h"

typedef struct CancelJob {
    Mail mail;
    Inbox *inbox;           /* where it is mailed back to */
    PGcancel *cancel;       /* owned */
    Backend *backend;       /* NULL: it died meanwhile */
    List link;              /* in the set's cancels */
    struct CancelJob *next; /* in the canceller's queue */
    bool failed;
    char text[256]; /* libpq's words when it failed */
} CancelJob;

/* The job comes back to its inbox in any case. */
void canceller_submit(Canceller *canceller, CancelJob *job);
void cancel_job_free(CancelJob *job);

#endif
