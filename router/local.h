/*
 * local.h - answers that Shoal gives itself, in the frames that the client's messages ask for.
 *
 * An answer is what PostgreSQL would send for a simple Query: T D* C, or C alone, or E. For an
 * extended request it is dealt out over its steps: ParseComplete, BindComplete, descriptions, rows.
 */
#ifndef SHOAL_ROUTER_LOCAL_H
#define SHOAL_ROUTER_LOCAL_H

#include "router/request.h"

/* An answer that comes piece by piece. Open says what stands before the rows (`description`: a whole T
 * frame, or empty), rows go to request_out, close says the rest (`D* C`, or an E) and what stands behind.
 * Close without open says all of it. The request goes on until it is ended. */
void local_open(Request *request, Slice description);
void local_close(Request *request, Slice frames);

/* Each ends the request, whose state is RUNNING and which has no task. */
void local_answer(Request *request, Slice frames, char tx_status);
void local_tag(Request *request, const char *tag, char tx_status);
void local_error(Request *request, const Error *err, char tx_status);

/* Like local_answer, outside a transaction; with `changed`, only after the catalog was read again. */
void local_answer_catalog(Request *request, Slice frames, bool changed);

/* SELECT shoal.name(...), and every statement of the console database: asks the control thread; the
 * request ends when the answer is back. */
void local_function(Request *request);
void local_console(Request *request);
/* DDL went through: the answer waits until its catalog is known to all. False: it could not be
 * asked (memory); nothing waits. */
bool local_read_catalog(Request *request) MUST_USE;
/* The same question, not sent, for which nobody waits. NULL when memory is out. */
Call *local_catalog_call(Request *request) MUST_USE;

#endif
