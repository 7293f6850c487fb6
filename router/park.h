/*
 * park.h - requests that wait for the cluster: for a primary, for a position to become known.
 *
 *     park ──> worker.parked ──each 20 ms, and with each new topology──> retry: sent, or answered
 *                            ──time is over──────────────────────────> give_up
 *                            ──cancelled─────────────────────────────> 57014
 *
 * Nothing of a parked request has been sent to anybody.
 */
#ifndef SHOAL_ROUTER_PARK_H
#define SHOAL_ROUTER_PARK_H

#include "router/request.h"

typedef struct Parked {
    List link; /* worker.parked */
    Request *request;
    uint64_t until_us;
    bool (*retry)(Request *request);    /* true: it waits no more */
    void (*give_up)(Request *request, const Error *why);
    Error why; /* what is said when the time is over */
} Parked;

/* False when memory is out: nothing happened. */
bool park_request(Request *request, uint32_t wait_ms, const Error *why, bool (*retry)(Request *request),
                  void (*give_up)(Request *request, const Error *why)) MUST_USE;
/* 57014. */
void park_cancel(Request *request);
/* Nobody waits for it any more. */
void park_leave(Request *request);
/* A new topology was adopted: perhaps somebody's wait is over. */
void parks_look(Worker *worker);
void parks_on_time(Timer *timer);
/* parks_look will be called within 20 ms. */
void parks_soon(Worker *worker);

/* The primary of request->shard could not be had and nothing was sent: True: it waits for one (a
 * promotion, a restart), `failover_wait` at most since it was first tried. */
bool park_for_primary(Request *request, const Error *why);

#endif
