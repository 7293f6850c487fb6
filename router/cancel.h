/*
 * cancel.h - cancel keys: which session a CancelRequest means, on whichever worker it arrives.
 *
 *     cancel_pid = 1 | worker (8 bits) | number within the worker (22 bits)     key = 32 random bits
 *
 * The kernel gives the cancel connection to any worker; the pid says whose session it is, and mail
 * takes it there. An unknown pid or key is counted and not answered.
 */
#ifndef SHOAL_ROUTER_CANCEL_H
#define SHOAL_ROUTER_CANCEL_H

#include "router/session.h"

void cancel_init(Worker *worker);
void cancel_finish(Worker *worker);
/* Gives the session its pid and key. */
void cancel_register(Worker *worker, Session *session);
void cancel_unregister(Worker *worker, Session *session);
void cancel_route(Worker *worker, uint32_t pid, uint32_t key);

#endif
