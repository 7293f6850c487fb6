/*
 * commit.h - ends a transaction on all its participants: all commit, or none does.
 *
 *     readers           COMMIT
 *     writers but one   shoal.branch(gid);                                          COMMIT PREPARED gid
 *                       PREPARE TRANSACTION gid
 *     the last one                              shoal.decide(gid, shards); COMMIT
 *                       ─── phase PREPARE ───   ─── phase DECIDE ───   ─── phase FINISH ───
 *
 * The last writer's own commit carries the decision: a row in its table shoal.decision, replicated with
 * its data and readable by any router. Before it nothing is committed; after it everything will be,
 * if need be by recovery (admin/recovery.h), which finds what is prepared and asks for that row. With one
 * writer there is nothing to prepare: it is the last one. On a shard with standbys each prepared part carries a
 * row of its own (shoal.branch), by which recovery notices a part that a promoted standby has never got.
 *
 * The client hears COMMIT when the decision stands and phase FINISH is over, or has got stuck: then
 * recovery goes on. It hears an error when nothing is committed, and 08007 when the connection to the decider was lost
 * in phase DECIDE and nobody could tell within commit_timeout.
 *
 * The server connections are the Commit's own while it runs: a client that dies does not stop it.
 * Hazards H57-H68; crash points a-o are failpoints in commit.c and commit_leg.c.
 */
#ifndef SHOAL_ROUTER_COMMIT_H
#define SHOAL_ROUTER_COMMIT_H

#include "router/request.h"

typedef struct Commit Commit;

typedef enum CommitWhat { COMMIT_DO, COMMIT_UNDO } CommitWhat;

/* How it ended; `err` is set for the last three. */
typedef enum CommitResult {
    COMMIT_COMMITTED,
    COMMIT_ROLLED_BACK, /* as was asked for */
    COMMIT_FAILED,      /* everything is rolled back, or will be */
    COMMIT_UNKNOWN      /* nobody could tell: 08007 */
} CommitResult;

/* `error`: a whole E frame, the server's own where there is one; valid during the call. */
typedef void CommitDone(void *ctx, CommitResult result, Slice error);

/* Ends the transaction of the session; `done` is called once, perhaps before this returns. Connections
 * without session state go back to their pools before. */
void commit_start(Session *session, CommitWhat what, CommitDone *done, void *ctx);
/* The client's own COMMIT or ROLLBACK (`chain`: AND CHAIN): answers the request. */
void commit_transaction(Request *request, CommitWhat what, bool chain);
/* Nobody waits any more; it goes on to its end. */
void commit_detach(Commit *commit);
/* A connection of it has died, with nothing in flight. */
void commit_on_held_lost(Commit *commit, Backend *backend);
/* From the worker's sweep: what waits for an answer for too long is left to recovery. */
void commit_sweep(Worker *worker);
/* The worker ends. What is not decided is rolled back by PostgreSQL or recovery. */
void commit_drop_all(Worker *worker);
/* For reports: NULL at the end. The gid is "" while none was needed. */
Commit *commit_next(Worker *worker, Commit *before);
const char *commit_gid(const Commit *commit);
uint64_t commit_session_id(const Commit *commit);
const char *commit_database(const Commit *commit);
const char *commit_phase(const Commit *commit);
/* Names of its shards, joined by commas; in the arena. */
const char *commit_shards(const Commit *commit, Arena *arena);
uint64_t commit_age_ms(const Commit *commit);
/* Behind the turn's flush: failpoints that mean "it was sent". */
void commit_on_flushed(Worker *worker);

#endif
