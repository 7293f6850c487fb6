/*
 * scatter.h - one request on several shards at once, answered as one.
 *
 *     request ──> leg s0: BEGIN; statement ──┐                       client
 *                 leg s1: BEGIN; statement ──┼──> Composer ──rows──> encode
 *                 leg s2: BEGIN; statement ──┘        └──tag, after the commit
 *
 * Legs run at once, or one after the other (`sequential`: always in the order of the shards, so that two of
 * them cannot lock each other out). With `atomic` they run in one transaction: the client's, whose
 * participants they become, or one of Shoal's own, which is committed before the client hears the tag
 * (PostgreSQL does it in this order too). Without it each leg stands alone.
 *
 * The first error wins: what has not begun does not begin, the other legs are cancelled and waited for;
 * then the transaction has failed (the client's) or is rolled back (Shoal's own).
 *
 *   leg state    meaning                                  leaves to
 *   WAITING      sequential: one before it runs           RUNNING, DONE
 *   RUNNING      its task is with a pool or a backend     DONE
 *   DONE         answered, failed, or never begun
 */
#ifndef SHOAL_ROUTER_SCATTER_H
#define SHOAL_ROUTER_SCATTER_H

#include "router/reads.h"

typedef enum LegState { LEG_WAITING, LEG_RUNNING, LEG_DONE } LegState;

/* Why a leg is not read from; it is read again when no reason is left. */
typedef enum LegPause { LEG_PAUSE_CLIENT = 1, LEG_PAUSE_COMPOSER = 2 } LegPause;

typedef struct Leg {
    Scatter *scatter;
    uint32_t index, shard;
    Sink sink;
    Task task;
    TaskStep *steps; /* in the request's arena; the opening may stand before them */
    uint32_t step_count;
    int state;   /* LegState */
    bool began;
    bool held;   /* on a connection that the session had before */
    bool failed; /* an error came from here, or its connection was lost */
    unsigned paused; /* LegPause */
    uint64_t rows, bytes; /* of DataRows that came */
    /* On a replica (reads.h): what it says is held until the first row, so that until then it can run again on
     * the primary. */
    LegRead read;
    Buf said;        /* held */
    bool spoke;      /* nothing is held any more */
    bool again;      /* an error has come that the primary might not have */
    bool on_primary; /* this is the second time */
} Leg;

/* Makes one answer of several. Lives in the request's arena; frames are valid during the call only. */
typedef struct ComposerOps {
    /* A message of a leg: T D C I n t s N G H V d c, and 1 2 3 of steps that are not hidden. Never E. */
    void (*on_frame)(Scatter *scatter, Leg *leg, const Frame *frame);
    /* A leg has ended well. May be NULL. */
    void (*on_leg_end)(Scatter *scatter, Leg *leg);
    /* All have ended well, and something is to be done before the answer: false, and scatter_go_to_end when
     * it is. May be NULL. */
    bool (*on_legs_done)(Scatter *scatter);
    /* A running leg is being stopped, because another one has failed, or asks for copy data although the
     * scatter has failed: one that waits for data is told here. May be NULL. */
    void (*on_stop)(Scatter *scatter, Leg *leg);
    /* All have ended well; the transaction of Shoal's own is committed: say the tag (local_close). */
    void (*on_end)(Scatter *scatter);
    /* The request is over, one way or the other: give back what is not in the arena. May be NULL. */
    void (*on_free)(Scatter *scatter);
} ComposerOps;

/* What one leg says. */
typedef struct ScatterLeg {
    uint32_t shard;
    TaskStep *steps; /* the last is a QUERY or SYNC; scatter_steps makes them */
    uint32_t step_count;
} ScatterLeg;

typedef struct ScatterSpec {
    const ScatterLeg *legs; /* in the order of the shards; lives until scatter_start has returned */
    uint32_t leg_count;
    const ComposerOps *ops;
    void *composer;
    bool sequential; /* one leg after the other */
    bool atomic;     /* in one transaction */
    bool writes;  /* the participants must commit together */
    bool catalog; /* DDL: the answer waits until the catalog is known to all */
    bool tells_done; /* not atomic: an error names the shards that are done */
} ScatterSpec;

struct Scatter {
    Request *request;
    Worker *worker;
    const ComposerOps *ops;
    void *composer; /* the composer's own */
    Leg *legs;
    uint32_t leg_count;
    uint32_t running, done;
    bool sequential, atomic, writes, catalog, tells_done;
    bool implicit; /* the transaction is Shoal's own, around this request */
    bool failed;
    bool enough; /* scatter_enough: what still comes is passed over */
    bool finishing; /* all legs are done: the end is under way */
    Buf error;      /* the first one: a whole E frame */
};

/* Starts it; the request is RUNNING and ends by it. */
void scatter_start(Request *request, const ScatterSpec *spec);
/* The request's own steps on all participants of its transaction; the first one's answer is the
 * client's. */
void scatter_on_all(Request *request);
/* The statement on the given shards, in a transaction that commits when all have succeeded; tags are
 * added up, rows of RETURNING follow one another. `texts`: what each shard is asked; NULL: what the client said. */
void scatter_write(Request *request, const uint32_t *shards, uint32_t shard_count, const Slice *texts);
/* The same, where all shards do the same to the same rows: the first one's answer is the client's, and one
 * that counts other rows than the first fails the statement (XX001). */
void scatter_same(Request *request, const uint32_t *shards, uint32_t shard_count);
/* DDL on every shard of the database, one after the other, answered by the first shard's answer.
 * `alone`: it cannot run in a transaction; an error says where it is done. */
void scatter_ddl(Request *request, bool alone);

/* The steps that ask `sql` of a shard as the request's only statement was asked: a Query, or Parse, Bind
 * (the client's values and formats), Describe, Execute, Sync. In the arena; *ret NULL when memory is out. */
void scatter_steps(Request *request, Slice sql, TaskStep **ret, uint32_t *ret_count);

/* A Query of `sql`, whatever the client asked with: for statements without parameters. */
void scatter_query_steps(Request *request, Slice sql, TaskStep **ret, uint32_t *ret_count);

/* For composers. */
void leg_pause(Leg *leg, LegPause why);
void leg_resume(Leg *leg, LegPause why);
/* An error of the composer's own: as if a leg had said it. */
void scatter_fail(Scatter *scatter, const Error *err);
/* After on_legs_done said false; or scatter_fail was called since. */
void scatter_go_to_end(Scatter *scatter);
/* The rest of the legs is not needed (LIMIT is reached): they are cancelled, and the answer is good. */
void scatter_enough(Scatter *scatter);

void scatter_cancel(Scatter *scatter);
/* The client reads again. */
void scatter_drained(Scatter *scatter);
/* The client has gone: legs are abandoned; a commit under way goes on by itself. Frees it. */
void scatter_abandon(Scatter *scatter);

#endif
