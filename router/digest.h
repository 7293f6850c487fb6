/*
 * digest.h - what each statement costs: one Digest per database and statement without its values.
 *
 *     SELECT name FROM users WHERE id = ?   calls, errors, batched, rate, how long, why not batched
 *
 * Per worker, the least recently used ones make room (`statement_stats_max`). Times are those of
 * whole requests, from the arrival of their bytes to the answer in the client's buffer.
 */
#ifndef SHOAL_ROUTER_DIGEST_H
#define SHOAL_ROUTER_DIGEST_H

#include "batcher/policy.h"
#include "core/list.h"
#include "core/map.h"
#include "core/spread.h"
#include "core/stats.h"

typedef struct Request Request;

typedef struct Digest {
    List lru;
    uint64_t hash; /* of the statement's template and the database's name */
    char *database, *text; /* owned, one allocation with the Digest; text is cut */
    const char *kind; /* "SELECT" */
    uint64_t calls, errors, batched, total_us, max_us;
    BatchReason reason; /* why the last one that was not batched was not */
    bool asked;         /* some was not batched */
    Rate rate;
    Spread spread_us;
} Digest;

typedef struct DigestSet {
    Map by_hash;
    List lru; /* least recently used first */
    uint32_t count, max; /* 0: none are kept */
    uint64_t dropped;
} DigestSet;

void digests_init(DigestSet *set, uint32_t max);
void digests_finish(DigestSet *set);
/* A limit from a newer configuration. */
void digests_limit(DigestSet *set, uint32_t max);
/* The request has been answered; its shapes are still there. */
void digests_on_leave(DigestSet *set, const Request *request);

#endif
