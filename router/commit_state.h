/*
 * commit_state.h - a Commit from inside; for commit.c (the phases), commit_leg.c (one statement on one
 * participant) and commit_client.c (the client's own COMMIT, and what reports see).
 */
#ifndef SHOAL_ROUTER_COMMIT_STATE_H
#define SHOAL_ROUTER_COMMIT_STATE_H

#include "meta/gid.h"
#include "router/commit.h"
#include "router/transaction.h"

typedef enum CommitPhase { PHASE_PREPARE, PHASE_DECIDE, PHASE_ASK, PHASE_FINISH, PHASE_UNDO } CommitPhase;

typedef enum CommitLegState {
    LEG_OPEN,      /* its transaction is open (or failed) there */
    LEG_PREPARED,  /* PREPARE TRANSACTION was answered */
    LEG_ENDED,     /* committed or rolled back */
    LEG_LOST       /* its connection is gone, or it did not answer in time: PostgreSQL rolls back what was
                      not prepared, recovery ends what was */
} CommitLegState;

typedef struct CommitLeg {
    Commit *commit;
    Sink sink;
    Task task;
    TaskStep step;
    Participant part;
    CommitLegState state;
    bool busy;
    bool failed; /* the statement under way was answered by an error */
    bool evident; /* its part leaves evidence, which recovery looks for */
    char tag[32];
} CommitLeg;

struct Commit {
    Holder holder; /* first member */
    List link;     /* worker.commits */
    Worker *worker;
    Session *session; /* NULL: it has gone */
    uint64_t session_id;
    CommitDone *done; /* NULL: nobody waits */
    void *ctx;
    CommitWhat what;
    CommitPhase phase;
    uint64_t begun_us, deadline_us; /* the latter of this phase */
    char gid[GID_SIZE]; /* "" while one is not needed */
    const char *sent;   /* failpoint to pass when what was written has left; NULL */
    const char *database; /* in the arena */
    CommitLeg *legs;
    uint32_t leg_count, busy;
    int decider; /* index of the leg; -1: nobody writes */
    bool moving; /* a phase is being started: answers wait for it */
    bool one_phase; /* commit_mode = one_phase_best_effort */
    Call *call;  /* ASK */
    GucVector *gucs; /* what a COMMIT leaves on the connections */
    Buf error;   /* the first one: a whole E frame */
    Arena arena;
};

/* commit_leg.c: the first error is the one that the client hears. */
void commit_keep_frame(Commit *commit, Slice frame);
void commit_keep_error(Commit *commit, const Error *err);
/* 40000: the leg was lost before it could commit. */
void commit_keep_lost(Commit *commit, const CommitLeg *leg, const Error *cause);
const char *commit_leg_shard(const Commit *commit, const CommitLeg *leg);

/* Takes the participants over from the session. */
bool commit_take_legs(Commit *commit, Session *session) MUST_USE;
/* Sends. commit_phase_over hears when the last leg of the phase has its answer, or will have none. */
void commit_leg_say(CommitLeg *leg, const char *sql); /* NULL: there was no memory for it */
/* PREPARE TRANSACTION; on a shard with standbys with evidence of the part (shoal.branch). */
void commit_leg_prepare(CommitLeg *leg);
void commit_leg_say_gid(CommitLeg *leg, const char *verb);
/* Its connection goes back: to the session when it left state there, to its pool otherwise. */
void commit_leg_give_back(CommitLeg *leg, CommitResult result);

/* commit.c: all legs that were asked in this phase have answered. */
void commit_phase_over(Commit *commit);

#endif
