/*
 * greeting.h - what a new session is told about its server: ParameterStatus, remembered per worker.
 *
 * Sessions of one pool with the same startup settings get the same greeting. The first of them has its
 * settings tried on a server (login.c); the others need no server to log in.
 */
#ifndef SHOAL_ROUTER_GREETING_H
#define SHOAL_ROUTER_GREETING_H

#include "backend/pool.h"
#include "router/worker.h"

void greetings_init(Worker *worker);
/* Databases, roles or settings may have changed: the next logins ask again. */
void greetings_forget(Worker *worker);
void greetings_finish(Worker *worker);

/* ParameterStatus messages, valid until the next turn; empty when not known yet. */
Slice greeting_find(Worker *worker, const Pool *pool, const GucVector *gucs);
/* Composes and remembers it: the pool's values, with what `statuses` (ParameterStatus messages that
 * the settings caused) says instead. Empty when memory is out. */
Slice greeting_make(Worker *worker, const Pool *pool, GucVector *gucs, Slice statuses);

#endif
