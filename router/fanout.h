/*
 * fanout.h - a SELECT that needs several shards: which of them, and what each is asked (query/split.h).
 *
 *     SELECT count(*) FROM users            all shards           PARTIAL
 *     SELECT ... FROM users u JOIN items i  users: all shards    GATHER, two relations
 *                                           items: all shards
 *     ... WHERE u.id = 7                    users: s1 alone
 *
 * Pure; the planner's last resort before it refuses.
 */
#ifndef SHOAL_ROUTER_FANOUT_H
#define SHOAL_ROUTER_FANOUT_H

#include "query/split.h"
#include "router/planner.h"

/* A table reference of the shape, as the planner found it. */
typedef struct FanoutRef {
    SplitPlace place;
    const Table *table;          /* SPREAD */
    const CatalogTable *catalog; /* NULL: not known */
    bool known_shard;
    const bool *some; /* [shards of the configuration]: its rows are on these; NULL: on any */
    uint32_t shard; /* known_shard: its rows are there; UINT32_MAX: it has none that count */
} FanoutRef;

typedef struct FanoutLegs {
    const uint32_t *shards; /* ascending */
    uint32_t count;
    const Slice *texts; /* [count]: what each is asked */
} FanoutLegs;

typedef struct Fanout {
    SplitForm form;
    FanoutLegs legs;       /* CONCAT, ORDERED, PARTIAL */
    FanoutLegs *relations; /* GATHER: [form.relation_count] */
    Slice staging;         /* GATHER: what else is made beside its tables; empty mostly */
    SplitInput input;      /* while it is made */
    const FanoutRef *refs; /* while it is made */
} Fanout;

/* In `arena`: it lives as long as the request. `catalog`: the home shard must finish it, because the
 * statement asks the catalog. NULL: refused, `err` says why. */
const Fanout *fanout_make(const PlanInput *input, const PlanStatement *statement, const FanoutRef *refs,
                          bool catalog, Arena *arena, Error *err) MUST_USE;
/* A query that any one server answers, or (`system`) the home shard, in the form of a GATHER. NULL: memory is out. */
Fanout *fanout_alone(bool system, uint32_t home, Slice query, Arena *arena) MUST_USE;

#endif
