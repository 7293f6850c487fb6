/*
 * rebalance.c - from what is to what should be, with few buckets on the road.
 *
 *     share[i] = total * weight[i] / sum of weights
 *     givers: cost above share (and above the threshold)      takers: cost below share
 *
 *     for each giver's bucket, the dearest first:
 *         leaves when that brings the giver nearer to its share (all leave a shard of weight 0)
 *         goes to the taker that lacks most
 */
#include "admin/rebalance.h"

#include <stdlib.h>

typedef struct Candidate {
    uint64_t cost;
    uint32_t bucket;
} Candidate;

typedef struct Balance {
    const RebalanceInput *input;
    Arena *arena;
    RebalancePlan *plan;
    uint64_t *share;  /* [shard_count] */
    uint64_t *held;   /* [shard_count] cost, changes as buckets are placed */
} Balance;

static uint64_t cost_of(const RebalanceInput *input, uint32_t bucket)
{
    return input->costs ? input->costs[bucket] : 1;
}

static int dearest_first(const void *left, const void *right)
{
    const Candidate *a = left, *b = right;
    if (a->cost != b->cost)
        return a->cost > b->cost ? -1 : 1;
    return a->bucket < b->bucket ? -1 : a->bucket > b->bucket;
}

/* Shares add up to the total: what rounding leaves goes to the first shards that have a weight. */
static void shares_fill(Balance *balance)
{
    const RebalanceInput *input = balance->input;
    uint64_t total = 0, weights = 0, given = 0;
    for (uint32_t i = 0; i < input->shard_count; i++) {
        total += balance->held[i];
        weights += input->weights[i];
    }
    assert(weights > 0);
    for (uint32_t i = 0; i < input->shard_count; i++) {
        balance->share[i] = total / weights * input->weights[i] + total % weights * input->weights[i] / weights;
        given += balance->share[i];
    }
    for (uint32_t i = 0; given < total; i = (i + 1) % input->shard_count) {
        if (input->weights[i] == 0)
            continue;
        balance->share[i]++;
        given++;
    }
}

/* The shard that lacks most of its share, in proportion to its weight's; a shard of weight 0 never takes. */
static uint32_t neediest(const Balance *balance, uint32_t giver)
{
    const RebalanceInput *input = balance->input;
    uint32_t best = UINT32_MAX;
    int64_t most = INT64_MIN;
    for (uint32_t i = 0; i < input->shard_count; i++) {
        int64_t lack = (int64_t)balance->share[i] - (int64_t)balance->held[i];
        if (i == giver || input->weights[i] == 0 || lack <= most)
            continue;
        best = i;
        most = lack;
    }
    return best;
}

static RebalanceMove *move_between(Balance *balance, uint32_t source, uint32_t target)
{
    RebalancePlan *plan = balance->plan;
    for (uint32_t i = 0; i < plan->count; i++) {
        if (plan->moves[i].source == source && plan->moves[i].target == target)
            return &plan->moves[i];
    }
    RebalanceMove *move = &plan->moves[plan->count];
    *move = (RebalanceMove){.source = source, .target = target};
    if (!bucket_set_init(&move->buckets, balance->input->map->bucket_count, balance->arena))
        return NULL;
    plan->count++;
    return move;
}

static bool place(Balance *balance, uint32_t giver, uint32_t taker, const Candidate *candidate)
{
    RebalanceMove *move = move_between(balance, giver, taker);
    if (!move)
        return false;
    bucket_set_add(&move->buckets, candidate->bucket);
    move->cost += candidate->cost;
    balance->held[giver] -= candidate->cost;
    balance->held[taker] += candidate->cost;
    return true;
}

/* Would it make things better? The giver comes nearer to its share, and the taker is not left with more
 * above its own than the giver had. */
static bool worth_it(const Balance *balance, uint32_t giver, uint32_t taker, uint64_t cost)
{
    if (balance->input->weights[giver] == 0)
        return true;
    int64_t surplus = (int64_t)balance->held[giver] - (int64_t)balance->share[giver];
    int64_t excess = (int64_t)(balance->held[taker] + cost) - (int64_t)balance->share[taker];
    return cost > 0 && 2 * surplus > (int64_t)cost && excess < surplus;
}

static bool giver_empties(Balance *balance, uint32_t giver)
{
    const RebalanceInput *input = balance->input;
    const ShardMap *map = input->map;
    uint64_t bound = balance->share[giver] + balance->share[giver] * input->threshold_percent / 100;
    if (input->weights[giver] > 0 && balance->plan->before[giver] <= bound)
        return true; /* who takes does not give: nothing travels twice */
    Candidate *candidates = arena_array(balance->arena, Candidate, map->bucket_count);
    uint32_t count = 0;
    if (!candidates)
        return false;
    for (uint32_t b = 0; b < map->bucket_count; b++) {
        if (map->shard_of[b] == giver && !(input->fixed && input->fixed[b]))
            candidates[count++] = (Candidate){cost_of(input, b), b};
    }
    qsort(candidates, count, sizeof *candidates, dearest_first);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t taker = neediest(balance, giver);
        if (taker != UINT32_MAX && worth_it(balance, giver, taker, candidates[i].cost) &&
            !place(balance, giver, taker, &candidates[i]))
            return false;
    }
    return true;
}

bool rebalance_plan(const RebalanceInput *input, Arena *arena, RebalancePlan *ret)
{
    uint32_t n = input->shard_count;
    *ret = (RebalancePlan){.moves = arena_array(arena, RebalanceMove, n * n),
                           .before = arena_array(arena, uint64_t, n),
                           .after = arena_array(arena, uint64_t, n)};
    Balance balance = {input, arena, ret, arena_array(arena, uint64_t, n), ret->after};
    if (!ret->moves || !ret->before || !ret->after || !balance.share)
        return false;
    for (uint32_t b = 0; b < input->map->bucket_count; b++)
        ret->before[input->map->shard_of[b]] += cost_of(input, b);
    memcpy(balance.held, ret->before, n * sizeof *balance.held);
    shares_fill(&balance);
    for (uint32_t i = 0; i < n; i++) {
        if (!giver_empties(&balance, i))
            return false;
    }
    return true;
}
