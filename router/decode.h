/*
 * decode.h - a client's bytes become Requests.
 *
 *     Q                      ends a Request of its own (or goes on with an open extended one)
 *     P B D E C F            add a step
 *     H (Flush)              sends what is there; the Request stays open
 *     S (Sync)               ends the Request
 *     d c f                  COPY data, straight to the server; ignored outside of COPY
 *     X                      no more
 */
#ifndef SHOAL_ROUTER_DECODE_H
#define SHOAL_ROUTER_DECODE_H

#include "router/session.h"

/* Takes whole messages from the stream. True when it stopped although more are there: what came before
 * must go on first (pipeline limit, COPY, a server that does not read); the client is to be slowed. */
bool decode_run(Session *session);

#endif
