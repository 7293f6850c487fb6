/*
 * balance.c - why this file exists: "the best server" is a decision that must be made a hundred
 * thousand times a second from a handful of numbers, and must point into the right direction (H36).
 *
 * The default follows Prequal (Wydrowski et al., NSDI 2024): a server with more requests in flight than
 * most have is hot, and the hotter the slower it is taken for; the quickest is taken. In
 * flight rises at once when a server stalls, latency only when answers come: together they are quick
 * and steady. What Prequal has to probe is known here exactly.
 */
#include "backend/balance.h"

#include <string.h>

#define HOT_QUANTILE   84 /* percent */
#define RIF_FORGET     1024 /* samples after which old ones count half */
#define LATENCY_EQUAL  125 /* percent of the lowest: no difference worth a preference */
#define HASH_LOAD      125 /* percent of the fair share that one server may have */

void balancer_init(Balancer *balancer, uint64_t seed)
{
    memset(balancer, 0, sizeof *balancer);
    balancer->random = seed ? seed : 1;
}

/* xorshift64*: good enough to draw servers. */
static uint64_t draw(Balancer *balancer)
{
    uint64_t x = balancer->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    balancer->random = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* (inflight + 1) / weight, compared without dividing. */
static bool less_busy(const BalanceCandidate *a, const BalanceCandidate *b)
{
    return (uint64_t)(a->inflight + 1) * b->weight < (uint64_t)(b->inflight + 1) * a->weight;
}

/* Of those in `among` (a bit each) the least busy one; equals take turns. */
static uint32_t choose_least_busy(Balancer *balancer, const BalanceCandidate *c, uint32_t count,
                                  uint64_t among)
{
    uint32_t best = count, start = (uint32_t)(balancer->turn++ % count);
    for (uint32_t k = 0; k < count; k++) {
        uint32_t i = (start + k) % count;
        if ((among >> i & 1) && (best == count || less_busy(&c[i], &c[best])))
            best = i;
    }
    return best;
}

/* ---- hot and cold ------------------------------------------------------------------------------ */

static void rif_note(Balancer *balancer, uint32_t inflight)
{
    balancer->rif[MIN(inflight, BALANCE_RIF_MAX - 1)]++;
    if (++balancer->rif_count < RIF_FORGET)
        return;
    balancer->rif_count = 0;
    for (uint32_t i = 0; i < BALANCE_RIF_MAX; i++) {
        balancer->rif[i] /= 2;
        balancer->rif_count += balancer->rif[i];
    }
}

/* More in flight than this is hot. */
static uint32_t hot_limit(const Balancer *balancer)
{
    uint64_t seen = 0;
    for (uint32_t i = 0; i < BALANCE_RIF_MAX; i++) {
        seen += balancer->rif[i];
        if (seen * 100 >= (uint64_t)balancer->rif_count * HOT_QUANTILE)
            return i;
    }
    return BALANCE_RIF_MAX;
}

/* What a read would wait there. A hot server's latency counts once more for each read above the limit: where
 * little is in flight the limit is none at all, and two quick servers with one read each must not send the next
 * one to the slow third. Of a hot server that has never answered nothing is expected. */
static uint64_t expected_us(const BalanceCandidate *c, uint32_t limit)
{
    if (c->inflight <= limit)
        return c->latency_us;
    return c->latency_us ? c->latency_us * (1 + c->inflight - limit) : UINT64_MAX;
}

static uint32_t choose_hot_cold(Balancer *balancer, const BalanceCandidate *c, uint32_t count)
{
    uint64_t quick = 0, lowest = UINT64_MAX;
    uint32_t limit = hot_limit(balancer);
    for (uint32_t i = 0; i < count; i++) {
        rif_note(balancer, c[i].inflight);
        lowest = MIN(lowest, expected_us(&c[i], limit));
    }
    uint64_t most = lowest > UINT64_MAX / LATENCY_EQUAL ? UINT64_MAX : lowest * LATENCY_EQUAL / 100;
    for (uint32_t i = 0; i < count; i++)
        if (expected_us(&c[i], limit) <= most)
            quick |= UINT64_C(1) << i;
    return choose_least_busy(balancer, c, count, quick);
}

/* ---- the others ---------------------------------------------------------------------------------- */

/* Smooth: a weight of 2 beside 1 gives a b a, not a a b. */
static uint32_t choose_weighted(Balancer *balancer, const BalanceCandidate *c, uint32_t count)
{
    uint32_t best = 0;
    int64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        int64_t *credit = &balancer->credit[c[i].server % BALANCE_SERVERS_MAX];
        *credit += c[i].weight;
        total += c[i].weight;
        if (*credit > balancer->credit[c[best].server % BALANCE_SERVERS_MAX])
            best = i;
    }
    balancer->credit[c[best].server % BALANCE_SERVERS_MAX] -= total;
    return best;
}

static uint32_t choose_power_of_two(Balancer *balancer, const BalanceCandidate *c, uint32_t count)
{
    uint32_t a = (uint32_t)(draw(balancer) >> 33) % count;
    if (count == 1)
        return a;
    uint32_t b = (a + 1 + (uint32_t)(draw(balancer) >> 33) % (count - 1)) % count;
    if (less_busy(&c[b], &c[a]))
        return b;
    return less_busy(&c[a], &c[b]) || c[a].latency_us <= c[b].latency_us ? a : b;
}

static uint32_t choose_response_time(Balancer *balancer, const BalanceCandidate *c, uint32_t count)
{
    const uint64_t scale = 1000000;
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += c[i].weight * scale / MAX(c[i].latency_us, 1);
    if (total == 0)
        return choose_least_busy(balancer, c, count, UINT64_MAX);
    uint64_t at = draw(balancer) % total;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t share = c[i].weight * scale / MAX(c[i].latency_us, 1);
        if (at < share)
            return i;
        at -= share;
    }
    return count - 1;
}

static uint32_t choose_nearest(Balancer *balancer, const BalanceCandidate *c, uint32_t count)
{
    bool zone = false;
    for (uint32_t i = 0; i < count; i++)
        zone |= c[i].same_zone;
    uint64_t lowest = UINT64_MAX, near = 0;
    for (uint32_t i = 0; i < count; i++)
        if (c[i].same_zone == zone)
            lowest = MIN(lowest, c[i].distance_us);
    for (uint32_t i = 0; i < count; i++)
        if (c[i].same_zone == zone && (zone || c[i].distance_us * 100 <= lowest * LATENCY_EQUAL))
            near |= UINT64_C(1) << i;
    return choose_least_busy(balancer, c, count, near);
}

/* Rendezvous: each server has its own order for each key, so one that goes takes only its own keys
 * along. In that order the first that is not over its share. */
static uint32_t choose_hash(Balancer *balancer, const BalanceCandidate *c, uint32_t count, uint64_t key)
{
    uint64_t total = 1, weights = 0, tried = 0;
    for (uint32_t i = 0; i < count; i++) {
        total += c[i].inflight;
        weights += c[i].weight;
    }
    for (uint32_t k = 0; k < count; k++) {
        uint32_t best = count;
        uint64_t best_score = 0;
        for (uint32_t i = 0; i < count; i++) {
            uint64_t score = mix(key ^ mix(c[i].server + 1));
            if (!(tried >> i & 1) && (best == count || score > best_score)) {
                best = i;
                best_score = score;
            }
        }
        tried |= UINT64_C(1) << best;
        uint64_t room = (total * c[best].weight * HASH_LOAD + weights * 100 - 1) / (weights * 100);
        if (c[best].inflight < room)
            return best;
    }
    return choose_least_busy(balancer, c, count, UINT64_MAX);
}

uint32_t balance_choose(Balancer *balancer, BalancePolicy policy, const BalanceCandidate *candidates,
                        uint32_t count, uint64_t key)
{
    assert(count > 0 && count <= BALANCE_SERVERS_MAX);
    switch (policy) {
    case BALANCE_ROUND_ROBIN:
        return (uint32_t)(balancer->turn++ % count);
    case BALANCE_WEIGHTED:
        return choose_weighted(balancer, candidates, count);
    case BALANCE_LEAST_CONNECTIONS:
        return choose_least_busy(balancer, candidates, count, UINT64_MAX);
    case BALANCE_POWER_OF_TWO:
        return choose_power_of_two(balancer, candidates, count);
    case BALANCE_RESPONSE_TIME:
        return choose_response_time(balancer, candidates, count);
    case BALANCE_NEAREST:
        return choose_nearest(balancer, candidates, count);
    case BALANCE_HASH:
        return choose_hash(balancer, candidates, count, key);
    default:
        return choose_hot_cold(balancer, candidates, count);
    }
}
