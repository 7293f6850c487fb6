/*
 * transaction.h - the server connections of a session's transaction, one per shard it has touched.
 *
 *     BEGIN ─────────────> answered here: script = BEGIN            parts: -
 *     UPDATE .. id = 1 ──> s0: BEGIN; UPDATE                         parts: s0 writes
 *     SAVEPOINT a ───────> s0: SAVEPOINT a     script += SAVEPOINT a
 *     SELECT .. id = 2 ──> s1: BEGIN; SAVEPOINT a; SELECT            parts: s0 writes, s1
 *     ROLLBACK TO a ─────> s0, s1
 *     COMMIT ────────────> commit.h
 *
 * A session holds at most one connection per shard. Outside of a transaction it holds none, or the one
 * that its session state was left on.
 */
#ifndef SHOAL_ROUTER_TRANSACTION_H
#define SHOAL_ROUTER_TRANSACTION_H

#include "router/request.h"

/* The session's connection on a shard; NULL when it holds none there. Valid until the next change. */
Participant *transaction_part(const Session *session, uint32_t shard);
/* Participants in which a transaction is open. */
uint32_t transaction_size(const Session *session);
/* A spread transaction in which nothing has run yet, or that failed before anything did. */
static inline bool transaction_is_lazy(const Session *session)
{
    return session->spread && transaction_size(session) == 0;
}

/* A task of the session has ended on `backend` in state T or E, or must be held for its session state
 * (I): the backend is, or stays, a participant. `settings` is what ROLLBACK leaves there, `version` that of the task's
 * topology (fence.c). NULL when memory is out: the session is killed, the backend released. */
Participant *transaction_join(Session *session, Backend *backend, uint32_t shard, char tx,
                              GucVector *settings, uint64_t version);
/* The connection is no participant any more: it has died, or goes back by itself. */
void transaction_leave(Session *session, uint32_t shard);
/* The transaction is over: participants without session state go back to their pools; an open one is
 * rolled back there (backend_release does that). */
void transaction_let_go(Session *session);

/* The transaction has failed and no savepoint leads back: the participants that have not failed themselves
 * roll back now, so that nobody waits for their locks until the client says ROLLBACK. */
void transaction_let_unfailed_go(Session *session);

/* The Query frame that takes a shard into the transaction, in the arena. Empty when memory is out. */
Slice transaction_opening(Session *session, Arena *arena);

/* A spread transaction begins; nobody is told. False when memory is out. */
bool transaction_begin(Session *session, Slice sql) MUST_USE;

/* True: the statement is one of transaction control, or hits a failed spread transaction, and has been
 * answered, or sent to all participants. False: it goes its usual way. */
bool transaction_control(Request *request, const Shape *shape);
/* A statement has succeeded on all participants: the script follows. Without its text (it was one of
 * several in a Query) no more shards may join. */
void transaction_follow(Session *session, const Shape *shape, Slice text);

/* Writing on these shards too would make the transaction one of several writers, and one of them cannot take
 * part in two-phase commit: 55000, before anything is written there. True: may go on. */
bool transaction_may_write(const Session *session, const uint32_t *shards, uint32_t count, Error *err) MUST_USE;
/* The statement may have written, or holds locks that others rely on until the commit. */
bool transaction_writes(const Session *session, const Shape *shape);

#endif
