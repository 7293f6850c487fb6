/*
 * batcher_internal.h - the structs behind batcher.h, for the files of this folder only.
 *
 *     Judgement   (shape, pool, gucs, declared types)      verdict of the policy        template.c
 *       └ Template   + literals that are no keys           what PostgreSQL said about   template.c
 *           │                                              it, and the batch statement  learn.c
 *           └ Group     + parameters that are no keys,     who waits, what is in flight group.c
 *               │         formats of parameters, results
 *               ├ Member   a client's Task                                             member.c
 *               └ Batch    members of one statement sent                               batch.c
 *                                                          its answers, dealt out      split.c
 *
 *     Lane        (pool, gucs) and a table for writes      who waits                   lane.c
 *       ├ Member                                                                       member.c
 *       └ Convoy     originals behind each other           what is under way           convoy.c
 *
 * Nothing here is ever changed because the catalog changed: the Judgement is retired (out of the
 * map), those who travel finish, and the next statement finds a new one.
 */
#ifndef SHOAL_BATCHER_BATCHER_INTERNAL_H
#define SHOAL_BATCHER_BATCHER_INTERNAL_H

#include "batcher/batcher.h"
#include "batcher/key.h"
#include "batcher/prefetch.h"
#include "batcher/tuner.h"
#include "core/slab.h"
#include "core/spread.h"

#define GROUP_KEY_MAX  ((size_t)4096) /* bytes of what must be equal: literals and parameters */
#define PARAMS_MAX     64 /* of a batched statement */
#define STRIKES_MAX    3
#define DISTRUST_US    ((uint64_t)60 * 1000 * 1000)
#define RELEARN_US     ((uint64_t)1000 * 1000)
/* A batch that is out for longer does not hold up the next one, up to so many in flight. */
#define LATE_US           ((uint64_t)10 * 1000)
#define LATE_INFLIGHT_MAX 8
/* How often a batch that follows another looks for more members before it leaves. */
#define LOOKS_MAX 8

#define LANES_MAX 1024
/* Statements that take longer are not sent in front of others, and those behind one that turns out to
 * be slow are run elsewhere after this time. */
#define FAST_US           ((uint64_t)3 * 1000)
#define RESCUE_MS         10
#define COST_SEEN_MIN     3 /* runs until a statement is known to be fast */
#define WRITES_INFLIGHT   2 /* commits of one lane under way: one waits for the disk, one is at work */

typedef struct Judgement Judgement;
typedef struct Template Template;
typedef struct Group Group;
typedef struct Batch Batch;
typedef struct Lane Lane;
typedef struct Convoy Convoy;
typedef struct Proof Proof;

/* What the same statement from the same pool under the same settings is found by. */
typedef struct JudgementKey {
    const Shape *shape;
    uint64_t pool_id;
    const GucVector *gucs;
    const uint32_t *oids;
    uint32_t oid_count;
    bool simple; /* protocol */
    uint64_t profile; /* hash of the profile that the statement's hint names; 0 none */
    uint64_t hash;
} JudgementKey;

struct Judgement {
    List lru; /* batcher->judgements_lru, longest unused first; unlinked when retired */
    JudgementKey key; /* references on shape and gucs; oids owned */
    char *pool_name; /* owned, for SHOW */
    uint32_t database;
    const Catalog *catalog; /* only compared */
    uint64_t catalog_version;
    const Config *config; /* only compared */
    PolicyVerdict verdict; /* `table` is NULL here: it ends with the topology */
    WriteVerdict write; /* of INSERT, UPDATE, DELETE */
    char profile_name[64]; /* for SHOW */
    char *casts[KEY_COUNT_MAX]; /* owned; per key the SQL name of its type, or NULL */
    List children; /* its templates that are not retired */
    uint32_t templates; /* all of them, and members in lanes: what holds it */
    uint32_t strikes; /* batches that failed although every member was fine alone */
    uint64_t seen; /* statements that asked while it said no */

    /* tier C and shared commits: see lane.c */
    uint64_t cost_us; /* what it takes alone, newest weighing most */
    uint32_t cost_seen;
    uint64_t piped, convoys, rescued; /* members behind others; in how many; run elsewhere */
};

typedef enum TemplateState {
    TEMPLATE_NEW, /* seen, not asked about yet */
    TEMPLATE_LEARNING, /* Parse and Describe are on their way */
    TEMPLATE_READY, /* batches */
    TEMPLATE_REFUSED, /* `reason`, until the catalog changes */
    TEMPLATE_DISTRUSTED /* until `trust_us`, then learned anew */
} TemplateState;

typedef struct TemplateFigures {
    Spread wait_us, service_us, size; /* of members, of batches, of batches */
    Rate rate; /* members sent */
} TemplateFigures;

struct Template {
    List lru; /* batcher->templates_lru, longest unused first; or retired_templates */
    List sibling; /* judgement->children; unlinked when retired */
    Judgement *judgement;
    uint64_t hash;
    Slice key; /* judgement and literals */
    int state; /* TemplateState */
    BatchReason reason;
    bool retired; /* out of the map; freed with its last group and task */
    uint64_t trust_us;
    List children; /* its groups that are not retired */
    uint32_t groups; /* all of them */
    Arena arena;

    /* learning */
    Task task;
    Sink sink;
    TaskStep steps[5];
    Batcher *batcher;
    Prepared *original;
    ShapeLiteral *literals; /* of that text */
    bool second, failed, serializable;
    Pool *pool; /* borrowed: pools live as long as the worker */
    bool proving, indexed; /* PostgreSQL is asked for the plan; it has an index condition on a key */

    /* learned */
    BatchTier tier;
    KeyPlan keys[KEY_COUNT_MAX];
    uint32_t key_count;
    uint32_t *oids; /* parameter types of the original */
    uint32_t param_count;
    Slice parameter_frame, row_frame; /* whole messages, formats 0 */
    uint16_t column_count;
    Prepared *sql; /* the batch statement */

    Tuner tuner;
    bool disproved; /* a proof found a difference: off until the catalog changes */
    uint64_t statements, alone, batches, members, key_values, retried, size_max, proofs;
    TemplateFigures *figures; /* owned; NULL until something was sent */
};

struct Group {
    List lru; /* batcher->groups_lru, longest unused first; or retired */
    List sibling; /* template->children; unlinked when retired */
    List due; /* batcher->due while something may be sent at the turn's end */
    Template *template;
    uint64_t hash;
    Slice key; /* begins with the template's */
    bool retired;
    Pool *pool; /* of the newest member; borrowed */
    List queue; /* Members, QUEUED, in order of arrival; who waits for one `ahead` hangs on that */
    uint32_t queued; /* the latter, too */
    List batches; /* Batches SENT or with members that run alone */
    uint32_t batch_count;
    uint32_t inflight; /* those of them that hold a slot */
    uint32_t looks, seen; /* how often the next one may still look for more; whom it has seen the last time */
    WireFormats
        formats; /* for the batch's Bind: binary for the first column, the members' behind */
    Slice portal_frame; /* RowDescription as a Describe of a member's portal gets it */
    Slice
        expected; /* body of the batch's RowDescription once it was checked; malloc'ed, or empty */
    Arena arena;
};

/*
 *   state     list              enters by             leaves by
 *   QUEUED    group.queue or    batcher_add           a batch takes it, cancel, abandon
 *             behind another
 *   BATCHED   batch.members     batch_close           its answer, retry, cancel, abandon
 *   WAITING   batch.members     retry                 the one ahead of it is answered: ALONE
 *   ALONE     batch.members     batch of one, retry   its own answer, abandon
 *   SERVED    batcher.served    prefetch_answer       its answer, at the end of the turn
 *   GONE      batcher.gone      its last call         the end of the turn
 */
typedef enum MemberState {
    MEMBER_QUEUED,
    MEMBER_BATCHED,
    MEMBER_WAITING,
    MEMBER_ALONE,
    MEMBER_SERVED,
    MEMBER_GONE
} MemberState;

typedef struct Member {
    Sink place; /* stands in task->sink as long as the task is ours: so we are found by it */
    Sink sink; /* of `alone` */
    List link;
    int state;
    Batcher *batcher;
    Task *task; /* the client's */
    Sink *up; /* its sink */
    /* Neighbours among the same client's that are not answered (rule 21): nothing of a member is sent before the
     * one ahead is answered, but with it. */
    struct Member *ahead, *behind;
    Group *group; /* or NULL: in a lane */
    Batch *batch;
    Lane *lane; /* or NULL: in a group */
    Convoy *convoy;
    Judgement *judgement; /* of one in a lane; held */
    Task alone; /* the same steps, when it runs alone */
    bool failed; /* alone, too */
    bool complete; /* in a convoy: the end of its answer has been forwarded */
    size_t forwarded; /* bytes of its answer, alone */
    uint64_t added_us;
    uint32_t slot;
    uint8_t *big; /* owned; key values that do not fit `small` */
    Slice key; /* per key int32 length and bytes, as in a binary array */
    uint8_t small[48];
} Member;

/* Rows of one key: a chain through the batch's entries, in order of arrival. */
typedef struct Slot {
    uint32_t first, last, rows; /* entry numbers + 1; 0 none */
    uint32_t offset, len; /* where the key stands in `request` (tier A) */
    Slice key; /* while the batch is being made; in batch->keys afterwards, or empty */
    uint64_t hash;
} Slot;

typedef struct RowEntry {
    uint32_t next;
    uint32_t offset, len; /* whole DataRow in `rows`, first column taken off */
} RowEntry;

typedef enum BatchState {
    BATCH_COLLECTING,
    BATCH_SENT,
    BATCH_SPLITTING,
    BATCH_SINGLY, /* one member only, or RETRY: each runs alone */
    BATCH_DONE
} BatchState;

struct Batch {
    Sink sink;
    Task task;
    TaskStep steps[6];
    List link; /* group->batches, batcher->gone_batches, or batcher->free_batches */
    int state;
    Batcher *batcher;
    Group *group;
    List members; /* in order of arrival */
    uint32_t member_count;
    bool slot_held;
    bool retrying, retry_failed;
    bool blamed; /* if all members are fine alone, the batch was at fault */
    BatchReason trouble; /* why the answer is not used */
    bool described, completed;
    bool uncrowded, left_some; /* for the tuner: no other one under way; some had to wait */
    Proof *proof; /* owned; NULL: it is not to be proven */
    bool proven; /* its own answer is complete, its originals' come */
    uint64_t sent_us;
    Prefetch *prefetch; /* keys were added that nobody has asked for yet; prefetch.c */
    Backend *held; /* it runs there, inside the transaction of its only member; NULL: on any connection */
    uint64_t bytes_max; /* of its rows */
    Buf keys; /* of the slots, when it is kept: found by whoever asks later; else empty */
    Buf request; /* the Bind */
    Buf rows;
    RowEntry *entries;
    uint32_t entry_count, entry_cap;
    Slot *slots;
    uint32_t slot_count, slot_cap;
    uint32_t *table; /* hash of key -> slot + 1; table_size is a power of two */
    uint32_t table_size;
};

/*
 * Statements that cannot become one, of clients with the same settings: they go behind each other
 * on one connection. With `table_oid` they are writes to one table, and share a commit.
 */
typedef struct LaneKey {
    uint64_t pool_id;
    const GucVector *gucs;
    uint32_t table_oid;
} LaneKey;

struct Lane {
    List lru; /* batcher->lanes_lru */
    List due; /* batcher->lanes_due while something may be sent at the turn's end */
    uint64_t hash;
    LaneKey key; /* a reference on gucs */
    Pool *pool;  /* borrowed */
    List queue;  /* Members, QUEUED; who waits for one `ahead` hangs on that */
    List alone;  /* Members, WAITING and ALONE */
    uint32_t queued;   /* those who hang, too */
    uint32_t inflight; /* convoys under way */
    uint32_t travelling; /* members that are not queued */
    uint32_t writes_max; /* of the next commit: halved by a failed one */
};

typedef struct ConvoyPlace {
    Member *member; /* NULL: it has left */
    uint32_t step, step_count; /* its steps among the convoy's */
    bool skipped; /* its steps were never sent: no answer will come */
    bool failed;  /* writes: the last frame was an error */
    bool final;   /* writes: there was no transaction block around it after all */
    bool lost;    /* writes: its answer was too large to be kept */
    size_t offset, len; /* writes: its answer among `answers` */
} ConvoyPlace;

struct Convoy {
    Sink sink;
    Task task;
    List link; /* batcher->convoys, then batcher->gone_convoys */
    Batcher *batcher;
    Lane *lane;
    TaskStep *steps; /* owned; frames are the members' own */
    uint32_t step_count;
    ConvoyPlace *places; /* owned */
    uint32_t place_count;
    uint32_t current; /* place whose answers now come */
    uint32_t left;    /* members that have not */
    bool over;
    bool failed, committed; /* writes: something went wrong; COMMIT was answered */
    uint64_t sent_us, turn_us; /* when it was sent; since when the current one is at work */
    Buf answers; /* writes: all answers, until the commit */
};

struct Batcher {
    Loop *loop;
    PreparedSet *prepared;
    GucSet *gucs;
    ShapeCache *shapes;
    uint32_t rows_max;
    uint32_t templates_max; /* judgements, and templates; twice as many groups */
    uint64_t bytes_max;
    uint32_t pipeline_max, writes_max, proof_every;
    uint32_t proof_due; /* batches until the next proof */
    Map judgements, templates, groups, lanes;
    List judgements_lru, templates_lru, groups_lru, lanes_lru;
    List retired, retired_templates; /* they wait for their last batch, their last group */
    List due, lanes_due;
    List convoys; /* under way */
    Timer rescue;
    Slab members;
    List served; /* Members whose answers were fetched ahead */
    List gone_members, gone_batches, gone_convoys; /* freed at the end of the turn */
    List free_batches;
    uint32_t free_batch_count;
    Buf begin, commit; /* Query messages around writes */
    Buf key; /* scratch: a group's key */
    Arena scratch; /* scratch: one batcher_add */
    BatcherStats stats;
};

/* ---- template.c ------------------------------------------------------------------------------ */

bool judgement_equal(const void *judgement, const void *key); /* a JudgementKey */
bool template_equal(const void *template, const void *key); /* a Slice, as for groups */
/* The judgement of a statement, made when it is new or the catalog has changed; NULL: no memory. */
Judgement *judgement_get(Batcher *batcher, const BatchCandidate *candidate) MUST_USE;
void judgement_retire(Batcher *batcher, Judgement *judgement);
/* Gives back what a member in a lane held. */
void judgement_release(Batcher *batcher, Judgement *judgement);
Template *template_get(Batcher *batcher, Judgement *judgement, const BatchCandidate *candidate,
                       Slice key) MUST_USE;
/* Takes it out of the maps with its groups; it is freed when nobody travels any more. */
void template_retire(Batcher *batcher, Template *template);
/* It was used just now. */
void template_touch(Batcher *batcher, Template *template);
/* No batches of it for a while; then it is learned anew. */
void template_distrust(Batcher *batcher, Template *template, uint64_t pause_us, const char *why);
void template_strike(Batcher *batcher, Template *template);
void template_disprove(Template *template);
void template_unref_group(Batcher *batcher, Template *template);
void template_free_if_done(Batcher *batcher, Template *template);

/* ---- learn.c --------------------------------------------------------------------------------- */

/* Asks PostgreSQL what the statement looks like; the state is READY or another one afterwards. */
void learn_start(Batcher *batcher, Template *template, const BatchCandidate *candidate);

/* ---- batcher.c ------------------------------------------------------------------------------- */

/* The group that this candidate belongs to, or the reason why there is none. */
BatchReason batcher_find_group(Batcher *batcher, const BatchCandidate *candidate, const Task *task,
                               Judgement **ret_judgement, Group **ret) MUST_USE;
/* The candidate's values of the template's keys, in batcher->scratch; *ret_len: bytes of them as a
 * member's key. */
BatchReason batcher_read_keys(Batcher *batcher, const Template *template,
                              const BatchCandidate *candidate, Slice values[KEY_COUNT_MAX],
                              size_t *ret_len) MUST_USE;
/* Length and bytes of each value, one behind the other. */
void batcher_put_keys(uint8_t *at, const Slice *values, uint32_t count);
bool member_take_keys(Member *member, const Slice *values, uint32_t count, size_t len) MUST_USE;

/* ---- group.c --------------------------------------------------------------------------------- */

/* Writes to batcher->key what members of a group must have in common. *ret_template_len: how much
 * of it the template is found by. */
BatchReason group_key(Batcher *batcher, const Judgement *judgement, const BatchCandidate *candidate,
                      size_t *ret_template_len) MUST_USE;
bool group_equal(const void *group, const void *key);
Group *group_find(Batcher *batcher);
Group *group_make(Batcher *batcher, Template *template, const BatchCandidate *candidate,
                  BatchReason *ret_reason) MUST_USE;
void group_retire(Batcher *batcher, Group *group);
void group_free_if_done(Batcher *batcher, Group *group);
/* Something may be sent at the end of this turn. */
void group_due(Batcher *batcher, Group *group);
/* Parameter `index` (from 0) as its members all have it. */
BindParam group_param(const Group *group, uint32_t index, uint16_t *ret_format);

/* ---- member.c -------------------------------------------------------------------------------- */

/* In a group, or in a lane. */
Member *member_create(Batcher *batcher, Group *group, Lane *lane) MUST_USE;
/* The task becomes MEMBER, and is ours until it is DONE. */
void member_adopt(Member *member, Task *task);
/* The member that a task is, or NULL. */
Member *member_of(Task *task);
/* Into its group's or lane's queue, behind the same client's member `ahead` (NULL: there is none). */
void member_queue(Member *member, Member *ahead);
void member_follow(Member *member, Member *ahead); /* the latter only */
/* The next one behind it that may travel along; NULL: none. */
Member *member_follower(const Member *member);
/* Hands one message to the member's client; harmless when that has gone. */
void member_emit(Member *member, uint8_t type, Slice whole);
/* The last call for a member: the task is DONE and belongs to the client's side again. */
void member_finish(Member *member, char tx_status);
void member_lose(Member *member, const Error *err, bool maybe_executed);
void member_cancelled(Member *member); /* 57014 */
void member_forget(Member *member); /* without a call */
/* Runs it by its own steps, as soon as the one ahead of it is answered. */
void member_run_alone(Member *member);
void member_free(Batcher *batcher, Member *member);

/* ---- batch.c --------------------------------------------------------------------------------- */

Batch *batch_take(Batcher *batcher) MUST_USE;
/* Room for `count` slots. */
bool batch_slots_prepare(Batch *batch, uint32_t count) MUST_USE;
/* The slot of this key, a new one when no other has it. The key's bytes must stay until the Bind is
 * written. */
uint32_t batch_slot_join(Batch *batch, Slice key);
bool batch_write_bind(Batch *batch) MUST_USE;
void batch_send(Batch *batch);
/* Makes a batch of what waits in the group's queue (somebody does), up to batch_max, and sends it. */
void batch_close(Batcher *batcher, Group *group);
/* A member has left (gone, or answered alone): the last one ends the batch. */
void batch_member_left(Batch *batch, bool alone_failed);
/* What rule 1 forbids: the member joins a batch that is on its way. Only in tests without that rule. */
bool batch_take_late(Group *group, Member *member);
/* Its answer is complete: the tuner hears how long it took. */
void batch_observe(Batch *batch);
/* Each member by itself. */
void batch_run_singly(Batch *batch);
void batch_release_slot(Batch *batch);
/* Its last member has been served. */
void batch_end(Batch *batch);
void batch_free(Batcher *batcher, Batch *batch);
/* The slot whose key equals these bytes (int32 length and value); UINT32_MAX none. */
uint32_t batch_find_slot(const Batch *batch, Slice key);

/* ---- lane.c ---------------------------------------------------------------------------------- */

bool lane_equal(const void *lane, const void *key); /* a LaneKey */
/* Takes the statement into tier C, or among the writes that share a commit. BATCH_OK, or nothing
 * happened. */
BatchReason lane_join(Batcher *batcher, Judgement *judgement, const BatchCandidate *candidate,
                      Task *task, uint32_t table_oid, const KeyPlan *key) MUST_USE;
/* What waits is sent as far as connections are free. */
void lane_send_due(Batcher *batcher);
void lane_due(Lane *lane, Batcher *batcher);
/* A member in a lane has been served, or has gone; it is off its list. */
void lane_member_left(Member *member, bool failed);
/* A member's place in the lane is given up while it waits or travels. */
void lane_leave(Member *member);
/* Its client wants it cancelled. */
void lane_cancel(Member *member);
void lane_free(Batcher *batcher, Lane *lane);

/* ---- convoy.c -------------------------------------------------------------------------------- */

/* Sends up to `max` of those who wait, behind each other. */
void convoy_send(Batcher *batcher, Lane *lane, uint32_t max);
/* The member at this place has gone. */
void convoy_leave(Convoy *convoy, Member *member);
/* Its member was answered 57014 while its answer was due: the others run elsewhere, the server is
 * stopped. */
void convoy_stop(Convoy *convoy);
/* Has some byte of it been written? */
bool convoy_begun(const Convoy *convoy);
void convoy_rescue(Timer *timer); /* batcher->rescue */
/* The batcher ends: its members are told. */
void convoy_shut(Convoy *convoy, const Error *err);
void convoy_free(Convoy *convoy);

/* ---- proof.c --------------------------------------------------------------------------------- */

/* A batch's steps with its originals behind them, in one transaction; NULL: no memory. */
Proof *proof_make(const Batch *batch, const TaskStep *steps, uint32_t count) MUST_USE;
void proof_free(Proof *proof); /* NULL is fine */
const TaskStep *proof_steps(const Proof *proof, uint32_t *ret_count);
/* The member leaves the batch. */
void proof_forget(Proof *proof, const Batch *batch, const Member *member);
/* A ReadyForQuery: the next original's answers come. */
void proof_next(Proof *proof, const Batch *batch);
void proof_on_frame(Proof *proof, const Batch *batch, const Frame *frame);
/* The verdict, counted. False: the batch's answer must not be used. */
bool proof_holds(const Proof *proof, Batch *batch) MUST_USE;

/* ---- split.c --------------------------------------------------------------------------------- */

extern const SinkOps SPLIT_OPS; /* of a batch's task */
/* What the member's statement is answered with, from the rows of its slot, and its end. */
void split_deal(Member *member, const Batch *batch);

/* ---- prefetch.c ------------------------------------------------------------------------------ */

/* A batch with keys fetched ahead is over. True: its rows are kept, and it with them. */
bool prefetch_keep(Batch *batch) MUST_USE;
/* Its answer cannot be used. */
void prefetch_refused(Batch *batch);
void prefetch_deal(Batcher *batcher);
/* What is said around a batch inside a transaction: it can fail without failing the transaction. */
extern const TaskStep PREFETCH_SAVEPOINT, PREFETCH_UNDO;

#endif
