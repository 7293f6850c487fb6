/*
 * batcher.h - many Tasks, one statement, many answers.
 *
 *   client 1  SELECT name FROM users WHERE id = 7   ┐                       ┌ row of 7  -> client 1
 *   client 2  SELECT name FROM users WHERE id = 42  ┼─> one Batch ──────────┼ row of 42 -> client 2
 *   client 3  SELECT name FROM users WHERE id = 7   ┘   ... = ANY('{7,42}') └ row of 7  -> client 3
 *
 * No timer anywhere: while fewer than `batch_inflight_max` batches of a group are in flight, what was
 * collected in this turn goes out at the turn's end, even alone (and then unmodified); otherwise it
 * waits for the running batch to come back. Light load means no delay, heavy load means large batches.
 *
 * The contract (which statements may travel together: 21 rules) is docs/batching.md; the decision is
 * policy.c, pure. Each answer equals the direct one byte for byte; on any error all members run
 * alone, so that only the guilty one fails, with its own text.
 *
 *   Judgement  the policy's verdict on a statement (keys cut out) from one pool under one GucVector
 *   Template   Judgement x literals that are no keys: the original's description, the rewritten SQL
 *   Group      Template x parameters that are no keys, formats: queue of members, batches in flight
 *   Batch      members of one statement sent: COLLECTING -> SENT -> SPLITTING -> DONE,
 *              or SINGLY, each by its own steps
 */
#ifndef SHOAL_BATCHER_BATCHER_H
#define SHOAL_BATCHER_BATCHER_H

#include "backend/pool.h"
#include "batcher/policy.h"
#include "core/spread.h"
#include "wire/frontend.h"

typedef struct Batcher Batcher;

typedef struct BatcherStats {
    Counter statements; /* members that came back through a batch of two or more */
    Counter alone; /* members sent alone because nobody else was there */
    Counter batches; /* statements sent for two or more members */
    Counter members; /* statements sent in them */
    Counter keys; /* keys in them: duplicates counted once */
    Counter ahead, ahead_keys; /* batches with keys fetched ahead (prefetch.h), and how many of those */
    Counter ahead_hits; /* statements answered from what was fetched ahead */
    Counter retried; /* members run alone after an error of their batch */
    Counter piped, convoys; /* tier C: members behind others, and in how many runs */
    Counter writes, commits; /* writes that shared a commit, and the commits */
    Counter write_failures;  /* commits that were rolled back, their members then run alone */
    Counter proofs, mismatches; /* batches run together with their originals; that differed */
    Counter reasons[BATCH_REASON_COUNT]; /* statements not batched, by reason */
    Histogram size; /* members per batch, batches of one included */
    Histogram wait_us; /* from batcher_add to sending */
    Histogram service_us; /* from sending to the last answer */
} BatcherStats;

/* A statement that the planner sent to one shard, with all that decides whether it may be batched.
 * Everything is borrowed until the task is DONE. */
typedef struct BatchCandidate {
    PolicyInput policy; /* shape, catalog, session facts */
    Slice text; /* the statement as the client wrote it */
    const ShapeLiteral *literals;
    const uint32_t *param_oids; /* declared types, 0 = to be inferred */
    uint32_t param_oid_count;
    const BindMessage *bind; /* NULL in the simple protocol */
    Pool *pool;
    GucVector *gucs;
    Task *before; /* the newest task of the same client that is not answered yet; NULL: none */
} BatchCandidate;

Batcher *batcher_create(Loop *loop, PreparedSet *prepared, GucSet *gucs,
                        ShapeCache *shapes) MUST_USE;
void batcher_destroy(Batcher *batcher);
/* Limits in force ([batch] settings). Templates of older catalog versions are judged again. */
void batcher_adopt(Batcher *batcher, const Topology *topology);

/* BATCH_OK: the batcher has the task and its sink will hear the same frames as from a backend.
 * Otherwise nothing happened: the caller submits it to the pool; the reason was counted. */
BatchReason batcher_add(Batcher *batcher, const BatchCandidate *candidate, Task *task);
/* May the same client's next lookup be offered before this task is answered (rule 21)? Only while it is not
 * sent; the next one travels with it, or after it. BATCH_ORDER says that it cannot, and to come again. */
bool batcher_may_follow(Task *task);
/* For INSERT, UPDATE and DELETE: it shares a commit with others where that was asked for. The session
 * must not go on before it is answered. */
BatchReason batcher_add_write(Batcher *batcher, const BatchCandidate *candidate, Task *task);
/* For a task in state MEMBER, which it stays from batcher_add until it is DONE, even when it runs
 * alone: what is in the pool then is a task of the batcher's own. Harmless in other states. */
void batcher_cancel(Batcher *batcher, Task *task); /* answered 57014 at once */
void batcher_abandon(Batcher *batcher, Task *task); /* no more calls to its sink */

/* Turn-end hook, before the pools': closes what is due. */
void batcher_turn_end(Batcher *batcher);

const BatcherStats *batcher_stats(const Batcher *batcher);

/* One row of SHOW BATCHES: a template. */
typedef struct BatchTemplateInfo {
    Slice text; /* normalized, for people */
    const char *pool;
    BatchTier tier;
    BatchReason reason; /* BATCH_OK or why the template is not batched */
    uint64_t statements, alone, batches, members, keys, retried, size_max;
    double per_s;
    uint64_t cost_us; /* tier C: about how long one takes; 0: not known */
    const Spread *wait_us, *service_us, *size; /* NULL: nothing was sent; until the next turn */
    const char *profile;
    uint32_t batch_max, inflight_max; /* as tuned by now */
    uint64_t proofs;
    bool disproved;
} BatchTemplateInfo;
/* Iteration: NULL cursor state starts at 0; false at the end. */
bool batcher_next_template(Batcher *batcher, size_t *cursor, BatchTemplateInfo *ret);

#endif
