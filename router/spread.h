/*
 * spread.h - a SELECT that needs several shards: which of them, and what each is asked (query/split.h).
 *
 *     SELECT count(*) FROM users            all shards           PARTIAL
 *     SELECT ... FROM users u JOIN items i  users: all shards    GATHER, two relations
 *                                           items: all shards
 *     ... WHERE u.id = 7                    users: s1 alone
 *
 * Pure; the planner's last resort before it refuses.
 */
#ifndef SHOAL_ROUTER_SPREAD_H
#define SHOAL_ROUTER_SPREAD_H

#include "query/split.h"
#include "router/planner.h"

/* A table reference of the shape, as the planner found it. */
typedef struct SpreadRef {
    SplitPlace place;
    const Table *table;          /* SPREAD */
    const CatalogTable *catalog; /* NULL: not known */
    bool known_shard;
    uint32_t shard; /* known_shard: its rows are there; UINT32_MAX: it has none that count */
} SpreadRef;

typedef struct SpreadLegs {
    const uint32_t *shards; /* ascending */
    uint32_t count;
} SpreadLegs;

typedef struct SpreadPlan {
    SplitForm form;
    SpreadLegs legs;       /* CONCAT, ORDERED, PARTIAL */
    SpreadLegs *relations; /* GATHER: [form.relation_count] */
    SplitInput input;      /* while it is made */
    const SpreadRef *refs; /* while it is made */
} SpreadPlan;

/* In `arena`: it lives as long as the request. NULL: refused, `err` says why. */
const SpreadPlan *spread_make(const PlanInput *input, const PlanStatement *statement, const SpreadRef *refs,
                          Arena *arena, Error *err) MUST_USE;
#endif
