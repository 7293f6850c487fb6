/*
 * standing.h - how each server stands: is it there, what is it, how old is its data. Written by the
 * control thread, read by workers without a lock.
 *
 *     control: measures ──standing_put──> [seq | words]  ──standing_get──> worker: may this read go there?
 *
 * Time is CLOCK_MONOTONIC throughout, and each figure says when it was measured: a reader compares
 * with its own clock, so figures that nobody renewed (the process was stopped, the control thread is
 * busy, the server does not answer) grow old by themselves and promise nothing any more.
 */
#ifndef SHOAL_META_STANDING_H
#define SHOAL_META_STANDING_H

#include <stdatomic.h>

#include "core/base.h"

typedef enum HealthState {
    HEALTH_UNKNOWN, /* not yet asked */
    HEALTH_UP,      /* answers and is what it should be */
    HEALTH_WRONG,   /* answers, but is not what it should be: never used */
    HEALTH_DOWN     /* does not answer */
} HealthState;

typedef struct ServerStanding {
    uint64_t state;       /* HealthState */
    uint64_t in_recovery; /* 1: a standby, as it said at measured_us */
    uint64_t measured_us; /* when the last answered question was asked; 0 never */
    uint64_t lsn;         /* standby: replayed up to here; else: inserted up to here; at measured_us */
    uint64_t fresh_us;    /* every commit acknowledged before this time is visible there; 0 unknown */
    uint64_t lag_bytes;   /* behind the primary at measured_us; UINT64_MAX unknown */
    uint64_t latency_us;  /* round trip of the last question */
    uint64_t since_us;    /* it has answered without a break since: it has not been started anew */
    uint64_t vouched_us;  /* primary: when its Patroni, or an operator, last said that it is the one; 0 never */
    uint64_t looked_us;   /* primary: the others of its shard were asked since, and none has taken its place; 0 unknown */
} ServerStanding;

#define STANDING_WORDS (sizeof(ServerStanding) / sizeof(uint64_t))

/* A seqlock: `seq` is odd while the one writer is at it. */
typedef struct StandingCell {
    _Atomic uint64_t seq;
    _Atomic uint64_t words[STANDING_WORDS];
    uint8_t apart[64 - 8]; /* neighbours are written at other times */
} StandingCell;

typedef struct Standings {
    uint32_t count;
    StandingCell cells[]; /* by ServerConfig.index */
} Standings;

Standings *standings_create(uint32_t count) MUST_USE;
void standings_destroy(Standings *standings);
/* Control thread only. */
void standing_put(Standings *standings, uint32_t server, const ServerStanding *standing);
/* Any thread. A NULL table, or a server that is not in it: nothing is known. */
ServerStanding standing_get(const Standings *standings, uint32_t server);

const char *health_state_name(int state);

#endif
