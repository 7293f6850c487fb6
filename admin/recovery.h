/*
 * recovery.h - brings transactions over several shards to an end when whoever began them cannot.
 *
 *     facts ──> decisions D ──> prepared P ──> active here A ──> for each own g in P - A:
 *
 *        a row of D says commit ──────────────────────────> COMMIT PREPARED where it is prepared
 *        a row says abort ────────────────────────────────> ROLLBACK PREPARED
 *        no row: write an abort row, look again ──────────> what then stands decides
 *        the decider cannot be asked ─────────────────────> nothing; it stays in doubt, and is shown
 *
 *     then rows of D are deleted whose g no shard holds prepared, asked after the row was read, once each
 *     part has shown its own row in shoal.branch (recovery_forget.c).
 *
 * The order is the point: D before P before A. A g that was decided after D was read is found by the
 * abort row's conflict; one that began after P was read is not in P. So any number of recoverers may
 * run at once, beside live transactions (H60): the key of shoal.decision lets one of them win.
 *
 * Only names with this router's own prefix, prepared in the connection's own database, are touched
 * (H61). Runs at start and for ever after: each recovery_interval, each second while something is in
 * doubt. Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_RECOVERY_H
#define SHOAL_ADMIN_RECOVERY_H

#include "admin/pg_client.h"
#include "admin/shard_schema.h"
#include "core/log.h"
#include "meta/gid.h"

typedef struct Control Control;
typedef struct Recovery Recovery;
typedef struct ShardLook ShardLook;
typedef struct Work Work;
typedef struct Part Part;

typedef enum Decision {
    DECISION_UNKNOWN, /* the decider could not be asked */
    DECISION_NONE,    /* it was asked, and there is no row */
    DECISION_COMMIT,
    DECISION_ABORT
} Decision;

/* One prepared transaction of one shard, as a round has seen it; in the round's arena. */
typedef struct PreparedRow {
    struct PreparedRow *next;
    uint32_t database, shard; /* indexes in the Config in force */
    const char *gid, *user;
    char xid[24]; /* with its epoch: for pg_xact_status */
    uint64_t age_ms, locks;
    GidParts parts;
    bool active;   /* in A */
    bool finished; /* by this round */
    bool stale;    /* of an earlier round: its shard could not be asked in this one */
    Decision decision;
} PreparedRow;

typedef struct DecisionRow {
    struct DecisionRow *next;
    const char *gid;
    const char *branches; /* names of the shards with evidence of a part, by commas */
    bool commit, old; /* old: a tombstone that nobody can come too late for any more */
    bool active;      /* in A */
    bool over;        /* it has done its work: nobody holds it prepared */
    const ShardLook *torn_at; /* where a part of it is missing; NULL: nowhere */
} DecisionRow;

/* Evidence of a part that was committed; nobody asks for it any more when its decision has gone. */
typedef struct BranchRow {
    struct BranchRow *next;
    const char *gid;
} BranchRow;

typedef enum RoundStep {
    ROUND_IDLE,
    ROUND_FACTS,
    ROUND_BRANCHES,
    ROUND_DECISIONS,
    ROUND_PREPARED,
    ROUND_ACTIVE,     /* a Report is on its way through the workers */
    ROUND_RECHECK,    /* still prepared, now that A is known? */
    ROUND_TOMBSTONES,
    ROUND_FINISH,
    ROUND_PROOF,
    ROUND_FORGET
} RoundStep;

/* One shard of one database: a connection, and what it told in this round. */
struct ShardLook {
    PgClient client;
    Recovery *recovery;
    uint32_t database, shard;
    ShardFacts facts;
    bool migrating;
    uint64_t migrated_round; /* the last one in which migrations were tried */
    bool reached; /* every question of this round was answered so far */
    bool busy;
    PreparedRow *rows;
    DecisionRow *decisions;
    bool decisions_known; /* all of them are in the list */
    bool rows_cut;        /* there are more rows than were asked for */
    BranchRow *branches;
    Part *parts;          /* that it must have committed */
    const char *param; /* of the question under way */
    PgQuery query[2];
    Work *work; /* what it has to do in this step; in the round's arena */
};

typedef struct RecoveryStats { /* control thread only */
    uint64_t rounds, committed, rolled_back, forgotten, tombstones;
    uint64_t damage;                   /* heuristic outcomes and missing parts found: never silent */
    uint64_t in_doubt, foreign, other; /* now */
    uint64_t oldest_ms;                /* of those in doubt */
} RecoveryStats;

struct Recovery {
    Control *control;
    Timer timer;
    ShardLook *looks; /* [look_count]: every shard of every database that has several */
    uint32_t look_count;
    int step; /* RoundStep */
    uint32_t pending; /* looks that are busy in this step */
    bool again;       /* somebody wants a round that begins after the running one */
    uint64_t round;   /* begun so far */
    bool first_done;  /* every shard was asked once, or could not be */
    Arena arena, last_arena; /* of this round; of the last one, for SHOW */
    PreparedRow *rows;       /* of the last round */
    char **told;             /* gids in doubt that an event has told of; owned */
    uint32_t told_count;
    PreparedRow *collected;  /* `rows` while a round gathers them */
    bool why_changed;
    char (*why)[200]; /* [database * shard_count + shard]; "" ready */
    RecoveryStats stats, told_stats;
};

/* Begins the first round. */
bool recovery_init(Recovery *recovery, Control *control) MUST_USE;
/* Harmless when it was never begun, and twice. */
void recovery_finish(Recovery *recovery);
/* control->config has a shard more, behind the others: begins anew, and keeps what it knows of them. */
bool recovery_grow(Recovery *recovery, Control *control) MUST_USE;
/* A round that begins now, or right after the running one: its number. */
uint64_t recovery_kick(Recovery *recovery);
/* The reasons for topology_set_two_phase, [database * shard_count + shard], in the arena; NULL: no memory. */
const char *const *recovery_two_phase_why(const Recovery *recovery, Arena *arena);

const char *decision_name(Decision decision);

#endif
