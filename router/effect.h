/*
 * effect.h - what a statement that succeeded has done to the session: transaction, settings, state.
 *
 * The server session has changed already; this keeps Shoal's picture of it true, so that the next
 * statement finds the same session on another server connection.
 */
#ifndef SHOAL_ROUTER_EFFECT_H
#define SHOAL_ROUTER_EFFECT_H

#include "router/request.h"

/* The task of the request has ended with `tx_status` on `backend` (still the session's to hold).
 * Updates settings and the transaction, holds or lets go of the backend. */
void effect_apply(Request *request, Backend *backend, char tx_status);
/* The request has ended on several participants, or nowhere. Their connections stay the session's. */
void effect_everywhere(Request *request, char tx_status);
/* A prepared statement is deallocated. */
void effect_statement_gone(Session *session, Slice name);
/* The transaction is over without a server's word (lazy, or its connection died). */
void effect_transaction_over(Session *session, bool committed);

#endif
