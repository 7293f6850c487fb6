/*
 * verdict.h - the control thread ends a client's statement, in its own words: deadlocks over shards.
 *
 *     control ──Verdict──> worker: the same statement still runs? ──> cancelled on its servers
 *                                  its error 57014 ──────────────────> the verdict's instead
 *
 * A statement that ends by itself meanwhile is told as it ended.
 */
#ifndef SHOAL_ROUTER_VERDICT_H
#define SHOAL_ROUTER_VERDICT_H

#include "router/session.h"
#include "wire/frame.h"

/* From the control thread. `statement_total` is what the Report said: another statement is let alone.
 * Nothing happens when memory is out. */
void verdict_send(Worker *worker, uint64_t session_id, uint64_t statement_total, const Error *err);

/* What the client is to hear instead of this error; false: the error itself. `ret` is valid until the
 * verdict is dropped. */
bool verdict_replaces(const Session *session, const Frame *error, Frame *ret);
/* The statement is over, or the session is. */
void verdict_drop(Session *session);

#endif
