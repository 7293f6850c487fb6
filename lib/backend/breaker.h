/*
 * breaker.h - keeps reads away from a server whose reads fail or crawl. Pure: time is given.
 *
 *     CLOSED ──too many of the last 10 s failed or were slow──> OPEN
 *     OPEN ──open_us later──> HALF_OPEN: a few at a time may try
 *     HALF_OPEN ──PROBES went well in a row──> CLOSED
 *               ──one did not──> OPEN, twice as long (at most 8 times open_us)
 *
 * Failed is what the server or the way to it did: a lost or refused connection, a read that was given
 * up. An SQL error is an answer like any other. One per worker and server.
 */
#ifndef SHOAL_BACKEND_BREAKER_H
#define SHOAL_BACKEND_BREAKER_H

#include "core/base.h"

#define BREAKER_SLOTS  10 /* of one second */
#define BREAKER_PROBES 5  /* that must go well */

typedef enum BreakerState { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN } BreakerState;

typedef struct BreakerLimits {
    uint32_t failure_percent; /* at which it opens */
    uint64_t slow_us;         /* a call that took longer counts as failed; 0: does not */
    uint64_t open_us;
} BreakerLimits;

typedef struct Breaker {
    int state; /* BreakerState */
    struct {
        uint64_t second;
        uint32_t calls, failures;
    } slots[BREAKER_SLOTS];
    uint64_t until_us; /* OPEN: up to then */
    uint32_t backoff;  /* open_us times this */
    uint32_t probing, probed; /* HALF_OPEN: on their way, gone well */
    uint64_t opened;   /* how often */
} Breaker;

void breaker_init(Breaker *breaker);
/* May a read go there now? Changes nothing but an OPEN that is over. */
bool breaker_allows(Breaker *breaker, uint64_t now_us);
/* A read goes there; each is followed by one breaker_end. */
void breaker_begin(Breaker *breaker);
void breaker_end(Breaker *breaker, const BreakerLimits *limits, uint64_t now_us, bool ok, uint64_t took_us);
/* It was given up without a verdict (its client has gone). */
void breaker_forget(Breaker *breaker);
const char *breaker_state_name(int state);

#endif
