/*
 * backend.h - one server connection: opened by libpq, spoken to by us.
 *
 * libpq opens and authenticates (PQconnectStart/PQconnectPoll in the loop: every auth method, TLS,
 * multi-host). After that the data path speaks the protocol itself over PQsocket() or libpq's SSL
 * object, because rows must pass through as bytes. This seam is backend.c, and no other file.
 *
 *   state       list in its pool  meaning                                 leaves to
 *   CONNECTING  pool.connecting   libpq is at work                        IDLE, DEAD
 *   IDLE        pool.idle         ready, no transaction, nothing owed     BUSY, DEAD
 *   BUSY        pool.busy         tasks in flight, or being cleaned       IDLE, HELD, CANCELLING,
 *                                                                         DEAD
 *   HELD        pool.held         belongs to a session (transaction open  BUSY, CANCELLING, IDLE,
 *                                 or session state on it), nothing in     DEAD
 *                                 flight
 *   CANCELLING  pool.busy         its task is over, but a cancel request  BUSY, IDLE, HELD, DEAD
 *                                 may still be on its way: not reused
 *                                 before it has landed (H30)
 *   DEAD        pool.dead         reaped at the end of the turn
 *
 * What the server owes is a queue of expectations, one per step sent, in order:
 *
 *     steps written:   P(hidden)  B  D  E  S
 *     expected:        1 hide     2  T  ..C  Z         an E drops everything up to the next Z
 *
 * A message that no expectation allows (bad-input 138) closes the connection; nobody else notices.
 */
#ifndef SHOAL_BACKEND_BACKEND_H
#define SHOAL_BACKEND_BACKEND_H

#include "backend/task.h"
#include "core/loop.h"

typedef struct Pool Pool;

typedef enum BackendState {
    BACKEND_CONNECTING,
    BACKEND_IDLE,
    BACKEND_BUSY,
    BACKEND_HELD,
    BACKEND_CANCELLING,
    BACKEND_DEAD
} BackendState;

/* Accessors; the struct is backend.c's and pool.c's (backend_internal.h). */
uint64_t backend_id(const Backend *backend);
BackendState backend_state(const Backend *backend);
const char *backend_state_name(BackendState state);
Pool *backend_pool(const Backend *backend);
int backend_server_pid(const Backend *backend);
/* For whom it works or is kept: the task's holder, or its own; NULL: nobody in particular. */
void *backend_owner(const Backend *backend);
char backend_tx_status(const Backend *backend);
uint64_t backend_connected_us(const Backend *backend);
/* Value of a reported parameter at connection time or later; NULL when unknown. */
const char *backend_parameter(const Backend *backend, const char *name);

/* What the server last said or did wrong (its FATAL message, a broken protocol); for the holder of
 * a connection that died. sqlstate "" when nothing is known. */
const Error *backend_last_error(const Backend *backend);

/* Runs a task on a connection its holder has: at once when nothing is in flight, else when what is
 * in flight is over. The sink is not called before this has returned. Never on a dead one: its
 * holder has been told (on_lost, or on_held_message without a frame). */
void backend_run(Backend *backend, Task *task);
/* More steps for a task that is `open` and waits or is in flight; clears `open` when the last step
 * is SYNC or QUERY. What the frames point to must live until the task is done. A Sync in the middle
 * of COPY IN has no effect, as in PostgreSQL, and leaves the task open: feed the CopyDone or
 * CopyFail, then another Sync. (A Sync that went out together with the Execute of a COPY FROM is
 * read by PostgreSQL as part of the COPY: the task becomes `open` with its CopyInResponse.) */
void backend_feed(Task *task, const TaskStep *steps, uint32_t count);
/* Raw frames (d, c, f) for a COPY IN, after the sink has seen the CopyInResponse. Dropped when the
 * COPY has failed or the task is done (H09). False: the server's side is choked; wait for the
 * holder's on_drained (see PoolEvents). The bytes were taken in both cases. */
bool backend_feed_copy(Task *task, Slice frames);

/* The session ends its hold; its tasks are over or abandoned. Clean (no transaction, nothing left
 * on the server session): back to the pool. Otherwise it is cleaned: ROLLBACK, DISCARD ALL. */
void backend_release(Backend *backend, bool session_state_left);
/* Another holder takes over a connection that is held, with nothing in flight but what ends in this
 * very callback. */
void backend_give(Backend *backend, void *holder);
/* The settings that the server session has, as far as is known. */
GucVector *backend_gucs(const Backend *backend);
/* The session's vector after a SET that took effect on this connection. */
void backend_set_gucs(Backend *backend, GucVector *gucs);

/* Stops reading from the server while the client is slow; resume goes on. */
void backend_pause(Backend *backend);
void backend_resume(Backend *backend);

/* Asks the server to cancel what this task runs: a task at work gets the server's error, one that
 * waits ends with on_lost (57014) at the turn's end. A request that comes late hits nobody: the
 * connection is not used before it has landed. */
void task_cancel(Task *task);
/* The one who waits for this task has gone: no more calls to its sink, and the task is DONE when
 * this returns. What was sent is cancelled and drained; then a connection that was held before
 * stays held, any other one is cleaned and goes back to its pool. */
void task_abandon(Task *task);
/* The same without a cancel request, for what will not take long: its answer is thrown away. */
void task_leave(Task *task);

#endif
