/*
 * http.h - metrics, health checks and the web page, on the control thread.
 *
 *     GET /metrics            Prometheus' text format                       docs/metrics.md
 *     GET /health             200 ready, 503 not: for load balancers (/health/live: always 200)
 *     GET /api/NAME.json      any SHOW that a monitor may use; /api/index.json lists them
 *     GET /                   a page for people; reads /api
 *
 *     libmicrohttpd's epoll descriptor ──readable──> control loop ──> route ──Call──> console
 *                                      answer <── resumed <── all of its SHOWs answered ──┘
 *
 * Read-only. Every answer is made of SHOWs, with a monitor's rights, so nothing is here that psql
 * does not see, and no secret (H89). With http_password all but /health ask for it; without, Host
 * must be an address or localhost, so that no page of another site can read this one (rebinding).
 */
#ifndef SHOAL_ADMIN_HTTP_H
#define SHOAL_ADMIN_HTTP_H

#include "core/error.h"

typedef struct Control Control;
typedef struct Http Http;

/* Listens where the config says. NULL and err when it cannot. */
Http *http_open(Control *control, Error *err) MUST_USE;
/* Shoal stops: whoever waits gets 503, and so does whoever comes, but for /health/live. */
void http_refuse(Http *http);
void http_close(Http *http);

#endif
