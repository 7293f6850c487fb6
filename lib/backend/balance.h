/*
 * balance.h - which of the servers that may answer a read gets it. Pure, but for its own memory of turns.
 *
 *     hot_cold            the lowest latency, which counts the more the busier than most a server is
 *     round_robin         each in turn
 *     weighted            each in turn, as often as its weight says
 *     least_connections   fewest reads under way for its weight
 *     power_of_two        the less busy one of two drawn at random
 *     response_time       at random, a server with half the latency twice as often
 *     nearest             the same zone, then the shortest round trip
 *     hash                the same statement with the same values to the same server, unless that one has
 *                         more than its share (its cache stays warm)
 *
 * In-flight counts are this worker's own and exact, not sampled. One Balancer per worker and shard.
 */
#ifndef SHOAL_BACKEND_BALANCE_H
#define SHOAL_BACKEND_BALANCE_H

#include "core/base.h"
#include "meta/config.h"

#define BALANCE_SERVERS_MAX 64
#define BALANCE_RIF_MAX     256

typedef struct BalanceCandidate {
    uint32_t server;      /* the caller's number of it, below BALANCE_SERVERS_MAX */
    uint32_t weight;      /* 1 or more */
    uint32_t inflight;    /* reads of this worker under way there */
    uint64_t latency_us;  /* of its reads lately; 0: none measured */
    uint64_t distance_us; /* round trip of a trivial question */
    bool same_zone;
} BalanceCandidate;

typedef struct Balancer {
    uint64_t turn;
    uint64_t random;
    int64_t credit[BALANCE_SERVERS_MAX]; /* weighted: who is owed a turn */
    uint32_t rif[BALANCE_RIF_MAX]; /* hot_cold: how often that many were in flight on a candidate */
    uint32_t rif_count;
} Balancer;

void balancer_init(Balancer *balancer, uint64_t seed);
/* Index into candidates; count is 1 to BALANCE_SERVERS_MAX. `key`: hash of statement and values. */
uint32_t balance_choose(Balancer *balancer, BalancePolicy policy, const BalanceCandidate *candidates,
                        uint32_t count, uint64_t key);

#endif
