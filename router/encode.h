/*
 * encode.h - the Sink at the top: what a server says becomes what the client reads.
 *
 * Frames pass as the bytes they are. On the way the session learns what it must know: which Parse
 * was accepted, that an error came, that COPY began; and at ReadyForQuery, what the statement did to
 * the session (transaction, settings, state left on the server). After ReadyForQuery nothing of the
 * task is left with the backend.
 */
#ifndef SHOAL_ROUTER_ENCODE_H
#define SHOAL_ROUTER_ENCODE_H

#include "backend/task.h"

typedef struct Request Request;

extern const SinkOps ENCODE_OPS;

/* The name of a statement that never exists: a Bind to it, hidden, makes the server's transaction fail
 * when Shoal itself has refused a statement. The server's own words about it are not shown. */
#define ENCODE_FAIL_NAME "shoal fails it"

/* Statements whose Parse was refused, or skipped after an error, are forgotten (H16). */
void encode_drop_unconfirmed(Request *request);
/* An error of Shoal's own, as the answer to what the request asked. */
void encode_error(Request *request, const Error *err);

#endif
