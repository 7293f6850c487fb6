/*
 * resolve.h - what the messages of a request mean: names become statements, texts become Shapes.
 *
 * Runs when the request's turn has come, because a Parse before it may have made the name it uses.
 * Afterwards every step has its Prepared, and request->planned lists what will be executed.
 */
#ifndef SHOAL_ROUTER_RESOLVE_H
#define SHOAL_ROUTER_RESOLVE_H

#include "router/request.h"

/* Looks at the steps that were not looked at before (an open request grows). A step that cannot be
 * gone on with sets request->local_error and cuts the steps off there. False when memory is out. */
bool resolve_steps(Request *request) MUST_USE;

#endif
