/*
 * move.h - buckets travel from one shard to another while everybody keeps working.
 *
 *     planned ─> moving ─────> switched ─────> finishing ─> done
 *        ^         │ failure      │ rollback       rows on the source are deleted last
 *        │         v              v
 *        └────── undoing <──── returning         (undoing ends in planned: another attempt, or in
 *                   └─> failed, cancelled         failed, cancelled)
 *
 *   state      the owner is   what may be lying about, and who takes it away
 *   planned    source         nothing
 *   moving     source         streams, copied rows on the target: undoing
 *   switched   target         reverse stream, old rows and guard on the source: finishing
 *   returning  target         as switched; fenced: back to switched, or decided: undoing
 *   undoing    source         what moving or returning left; retried until it is gone
 *   finishing  target         what switched left; retried until it is gone
 *   done, cancelled, failed   nothing
 *
 * Each state and step is in the store before it is taken (meta/store_moves.h). The one point of no
 * return is store_switch_owner. The steps are in move_steps.c, their SQL is in move_sql.c; the data
 * path's part is the fence (router/fence.h). Rules and reasons: docs/rebalancing.md.
 * Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_MOVE_H
#define SHOAL_ADMIN_MOVE_H

#include "admin/drain.h"
#include "admin/move_copy.h"
#include "admin/move_load.h"
#include "admin/move_times.h"
#include "admin/move_watch.h"
#include "admin/pg_client.h"
#include "admin/row_form.h"
#include "meta/store_moves.h"

typedef struct Control Control;
typedef struct Move Move;
typedef struct MoveLeg MoveLeg;
typedef struct MoveStep MoveStep;

typedef enum MoveState {
    MOVE_PLANNED,
    MOVE_MOVING,
    MOVE_SWITCHED,
    MOVE_RETURNING,
    MOVE_UNDOING,
    MOVE_FINISHING,
    MOVE_DONE,
    MOVE_CANCELLED,
    MOVE_FAILED,
    MOVE_STATE_COUNT
} MoveState;

/* What an operator asked for; taken up at the next step that allows it. */
typedef enum MoveWish { MOVE_WISH_NONE, MOVE_WISH_CANCEL, MOVE_WISH_RETURN, MOVE_WISH_FINISH } MoveWish;

/* Conversations of a leg. Those that hold something (a lock, a snapshot) are never reopened silently. */
typedef enum MoveSide {
    SIDE_SOURCE,
    SIDE_TARGET,
    SIDE_FENCE,    /* on the side that loses the buckets: holds its tables' locks */
    SIDE_SNAPSHOT, /* on the source: the walsender that made the slot and exported its snapshot */
    SIDE_WATCH,    /* on the source: its session has the watch's slot */
    SIDE_COUNT
} MoveSide;

#define MOVE_QUERIES_MAX 72

typedef struct MoveAsk {
    MoveLeg *leg;
    MoveSide side;
    PgClient client;
    PgQuery queries[MOVE_QUERIES_MAX];
    uint32_t count;
} MoveAsk;

/* The part of a move in one database. */
struct MoveLeg {
    Move *move;
    uint32_t number;      /* the database's in shards.ini, from 0: in slot names */
    const char *database; /* shards.ini's name */
    Table *tables;        /* distributed ones, by name; in the move's arena */
    uint32_t table_count;
    MoveAsk asks[SIDE_COUNT];
    MoveCopy copy;
    char snapshot[64];
    MoveWatch watch;
    bool watched;        /* inside the fence: everything that was written is known */
    uint64_t drain_lsn;  /* the target must have passed it */
    uint64_t lag_bytes;
    bool caught_up, drained;
    bool rows_left;      /* clean-up: there may be more */
    bool swept;          /* clean-up: the question was about pages */
    uint64_t page, pages; /* clean-up: rows of pages before `page` are gone, of the largest table's; `pages` 0: not asked yet */
    bool objects_left;   /* clean-up: something is still in use */
    struct MoveDigest {
        char *text; /* one line per table and bucket, as the server gave it; malloc'ed */
        size_t len;
    } digests[2];   /* source, target */
    char *facts[2];      /* schema fingerprints; malloc'ed */
    RowForm *forms; /* [table_count]: how their rows travel; in the move's arena; NULL until the slot is made */
    const char **sequences; /* triples schema, name, last value; in the move's arena */
    uint32_t sequence_count;
    bool guarded;
};

struct Move {
    List link; /* in moves->list, by id */
    Control *control;
    uint64_t id;
    Arena arena; /* texts that live as long as the move */
    const char *source, *target;
    BucketSet buckets;
    const char *buckets_text;
    MoveState state;
    MoveWish wish;
    bool copied; /* rows on the target may be ours */
    const MoveStep *step; /* taken now, or next; NULL when nothing is to be done */
    uint32_t attempts;    /* of moving */
    uint32_t fence_attempts;
    char reason[400];
    uint64_t created_wall_us, changed_wall_us;

    /* Since the move was taken up by this process. */
    MoveLeg *legs; /* [leg_count]; NULL while there are none */
    uint32_t leg_count;
    Arena scratch; /* of one step */
    uint32_t pending; /* conversations that have not answered yet */
    bool running;     /* a step was begun and has not ended */
    bool backwards;   /* returning: target and source have changed roles */
    Error err;        /* the first one of the running step */
    bool failed;
    Timer timer;      /* the next step, or the next look */
    uint64_t step_since_us, fence_since_us, fence_us, begun_us;
    uint32_t retries; /* of this step */
    bool announced;    /* the published topology says that buckets move */
    uint32_t findings; /* of preflight; `finding` is the first one */
    Error finding;
    bool usual_isolation; /* preflight: a transaction that says nothing is READ COMMITTED on both sides */
    bool reverse_made; /* publication and slot for the way back */
    uint64_t deleted;  /* rows */
    bool fence_told;
    char phases[200]; /* of the pause: what it was spent on, in ms */
    MoveTimes times;  /* of all its steps until the switch */
    uint64_t fence_version; /* of the first topology with the fence */
    uint64_t switch_version; /* of the first topology behind the decision; 0: not by this process */
    bool letting_go; /* clean-up: `drain` is about those that are older than the switch */
    bool fenced;      /* the published topology holds its buckets back */
    bool paused;      /* by an operator; before the fence only */
    MoveLoad load;    /* the same by itself */
    Drain drain;
    uint64_t rows, bytes, rows_expected, bytes_expected;
    uint64_t switched_at_us;
};

const char *move_state_name(MoveState state);
bool move_state_read(const char *name, MoveState *ret) MUST_USE;
static inline bool move_is_over(const Move *move)
{
    return move->state >= MOVE_DONE;
}

/* From the store's row, or a new one; nothing happens yet. NULL and err: out of memory, unknown shard. */
Move *move_create(Control *control, const StoreMove *row, Error *err) MUST_USE;
/* Closes its connections (what they held is rolled back). */
void move_free(Move *move);
/* Takes it up where the store says it is. */
void move_start(Move *move);
void move_ask_for(Move *move, MoveWish wish);
/* Writes state, step and reason to the store. */
bool move_store(Move *move, Error *err) MUST_USE;

/* For move_steps.c: a conversation's queries, built in move->scratch. */
void move_ask_add(MoveLeg *leg, MoveSide side, const char *sql);
void move_ask_run(MoveLeg *leg, MoveSide side, uint64_t timeout_ms);
/* The step has nothing to wait for any more, or something else than a conversation has failed. */
void move_step_end(Move *move);
void move_fail(Move *move, const Error *err);
void move_no_memory(Move *move);

#endif
