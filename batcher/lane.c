/*
 * lane.c - tier C: statements that cannot become one go behind each other, as they are.
 *
 *     client 1  SELECT ... UNION ...      ┐
 *     client 2  SELECT count(*) ...       ├─ Q Q Q ──> one connection ──> T D C Z  T D C Z  T D C Z
 *     client 3  SELECT * FROM view ...    ┘            each has its own Sync: exact by construction
 *
 * No timer here either: while fewer convoys are under way than the pool has connections, what came
 * in this turn leaves at its end, and is spread over the free ones. Only statements that are known to
 * be fast travel behind each other; the others run alone, and are measured while they do.
 *
 * With a table's number a lane holds writes: its convoys have a BEGIN and a COMMIT around them.
 */
#include "batcher/batcher_internal.h"

#include <stdlib.h>

#include "batcher/without.h"

#define EVICT_TRIES 32

/* ---- lanes ----------------------------------------------------------------------------------- */

bool lane_equal(const void *item, const void *wanted)
{
    const LaneKey *a = &((const Lane *)item)->key, *b = wanted;
    return a->pool_id == b->pool_id && a->gucs == b->gucs && a->table_oid == b->table_oid;
}

static uint64_t lane_hash(const LaneKey *key)
{
    uint64_t hash = (key->pool_id * 31 + (uintptr_t)key->gucs) * 31 + key->table_oid;
    hash *= 0x9e3779b97f4a7c15ULL;
    return hash ^ (hash >> 29);
}

void lane_free(Batcher *batcher, Lane *lane)
{
    map_remove(&batcher->lanes, lane->hash, &lane->key);
    list_remove(&lane->lru);
    list_remove(&lane->due);
    guc_release(batcher->gucs, (GucVector *)(uintptr_t)lane->key.gucs);
    free(lane);
}

static bool lanes_make_room(Batcher *batcher)
{
    int tries = EVICT_TRIES;
    LIST_EACH_SAFE (it, &batcher->lanes_lru) {
        Lane *lane = list_entry(it, Lane, lru);
        if (batcher->lanes.count < LANES_MAX || tries-- == 0)
            break;
        if (lane->queued + lane->inflight + lane->travelling == 0)
            lane_free(batcher, lane);
    }
    return batcher->lanes.count < LANES_MAX;
}

static Lane *lane_get(Batcher *batcher, const BatchCandidate *c, uint32_t table_oid)
{
    LaneKey key = {.pool_id = pool_id(c->pool), .gucs = c->gucs, .table_oid = table_oid};
    uint64_t hash = lane_hash(&key);
    Lane *lane = map_get(&batcher->lanes, hash, &key);
    if (lane) {
        list_remove(&lane->lru);
        list_push(&batcher->lanes_lru, &lane->lru);
        return lane;
    }
    lane = lanes_make_room(batcher) ? calloc(1, sizeof(*lane)) : NULL;
    if (!lane || !map_put(&batcher->lanes, hash, lane)) {
        free(lane);
        return NULL;
    }
    lane->hash = hash;
    lane->key = key;
    lane->key.gucs = guc_retain(c->gucs);
    lane->pool = c->pool;
    lane->writes_max = batcher->writes_max;
    list_init(&lane->lru);
    list_init(&lane->due);
    list_init(&lane->queue);
    list_init(&lane->alone);
    list_push(&batcher->lanes_lru, &lane->lru);
    return lane;
}

void lane_due(Lane *lane, Batcher *batcher)
{
    if (!list_empty(&lane->queue) && !list_linked(&lane->due))
        list_push(&batcher->lanes_due, &lane->due);
}

/* ---- in -------------------------------------------------------------------------------------- */

/* Its sort key: as the key's type has it in binary, integers widened, so that each spelling sorts
 * alike. */
static BatchReason take_sort_key(Member *member, const BatchCandidate *c, const KeyPlan *plan)
{
    Slice value;
    uint8_t wide[8];
    Batcher *batcher = member->batcher;
    arena_reset(&batcher->scratch);
    BatchReason reason =
        key_decode(plan, c->text, c->literals, c->bind, &batcher->scratch, &value);
    if (reason)
        return reason;
    if (plan->type->integer && value.len <= 8) {
        memset(wide, value.data[0] & 0x80 ? 0xff : 0, sizeof(wide));
        memcpy(wide + 8 - value.len, value.data, value.len);
        wide[0] ^= 0x80;
        value = slice_of(wide, sizeof(wide));
    }
    uint8_t *at = value.len <= sizeof(member->small) ? member->small
                                                     : (member->big = malloc(value.len));
    if (!at)
        return BATCH_LIMIT;
    if (value.len)
        memcpy(at, value.data, value.len);
    member->key = slice_of(at, value.len);
    return BATCH_OK;
}

static bool is_fast(const Judgement *judgement)
{
    return judgement->cost_seen >= COST_SEEN_MIN && judgement->cost_us <= FAST_US;
}

BatchReason lane_join(Batcher *batcher, Judgement *judgement, const BatchCandidate *c, Task *task,
                      uint32_t table_oid, const KeyPlan *key)
{
    Lane *lane = lane_get(batcher, c, table_oid);
    Member *ahead = c->before && !without_rule(21) ? member_of(c->before) : NULL;
    if (ahead && ahead->lane != lane)
        return BATCH_ORDER;
    Member *member = lane ? member_create(batcher, NULL, lane) : NULL;
    BatchReason reason = member ? BATCH_OK : BATCH_LIMIT;
    if (member && key)
        reason = take_sort_key(member, c, key);
    if (reason) {
        member_free(batcher, member);
        return reason;
    }
    member->judgement = judgement;
    judgement->templates++;
    member_adopt(member, task);
    if (table_oid || is_fast(judgement)) {
        member_queue(member, ahead);
    } else { /* not known to be fast: it runs by itself, and is measured */
        lane->travelling++;
        list_push(&lane->alone, &member->link);
        counter_add(&batcher->stats.alone, 1);
        member_follow(member, ahead);
        member_run_alone(member);
    }
    return BATCH_OK;
}

/* ---- out ------------------------------------------------------------------------------------- */

/* One for now, several when that is all there is room for. */
static uint32_t share(const Batcher *batcher, const Lane *lane)
{
    if (lane->key.table_oid)
        return MIN(lane->writes_max, batcher->writes_max);
    uint32_t size = pool_size(lane->pool), room = size > lane->inflight ? size - lane->inflight : 1;
    return MIN((lane->queued + room - 1) / room, batcher->pipeline_max);
}

static bool has_room(const Lane *lane)
{
    return lane->inflight < (lane->key.table_oid ? WRITES_INFLIGHT : pool_size(lane->pool));
}

void lane_send_due(Batcher *batcher)
{
    List *link;
    while ((link = list_pop(&batcher->lanes_due))) {
        Lane *lane = list_entry(link, Lane, due);
        while (!list_empty(&lane->queue) && has_room(lane))
            convoy_send(batcher, lane, MAX(share(batcher, lane), 1));
    }
}

/* ---- away ------------------------------------------------------------------------------------ */

/* What a statement takes: an eighth of the difference each time. */
static void learn_cost(Judgement *judgement, uint64_t us)
{
    int64_t difference = (int64_t)us - (int64_t)judgement->cost_us;
    if (judgement->cost_seen == 0)
        judgement->cost_us = us;
    else
        judgement->cost_us = (uint64_t)((int64_t)judgement->cost_us + difference / 8);
    judgement->cost_seen += judgement->cost_seen < UINT32_MAX;
}

void lane_member_left(Member *member, bool failed)
{
    Convoy *convoy = member->convoy;
    uint64_t now_us = member->batcher->loop->now_us;
    if (!failed && member->state == MEMBER_ALONE && member->alone.sent_us)
        learn_cost(member->judgement, now_us - member->alone.sent_us);
    else if (!failed && convoy)
        learn_cost(member->judgement, now_us - MAX(convoy->turn_us, convoy->task.sent_us));
    member->lane->travelling--;
    if (convoy)
        convoy_leave(convoy, member);
}

void lane_leave(Member *member)
{
    list_remove(&member->link);
    if (member->state == MEMBER_QUEUED) {
        member->lane->queued--;
        return;
    }
    if (member->state == MEMBER_ALONE)
        task_abandon(&member->alone);
    lane_member_left(member, true);
}

/* One that is being answered: the error ends its answer, unless that has been said to the end. */
static void cancel_in_convoy(Member *member)
{
    Convoy *convoy = member->convoy;
    bool current = convoy_begun(convoy) && convoy->current == member->slot;
    bool write = convoy->lane->key.table_oid != 0;
    if ((write && convoy_begun(convoy)) || member->complete)
        return; /* too late */
    lane_leave(member);
    if (current && !convoy->over)
        convoy_stop(convoy);
    member_cancelled(member);
}

void lane_cancel(Member *member)
{
    if (member->state == MEMBER_QUEUED || member->state == MEMBER_WAITING) {
        lane_leave(member);
        member_cancelled(member);
    } else if (member->state == MEMBER_BATCHED && member->convoy) {
        cancel_in_convoy(member);
    }
}
