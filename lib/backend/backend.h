/*
 * backend.h - one server connection: opened by libpq, spoken to by us.
 *
 * libpq opens and authenticates (PQconnectStart/PQconnectPoll in the loop: every auth method, TLS,
 * multi-host). After that the data path speaks the protocol itself over PQsocket() or libpq's SSL
 * object, because rows must pass through as bytes. This seam is backend.c, and no other file.
 *
 *   state       list in its pool   meaning                                  leaves to
 *   CONNECTING  pool.connecting    libpq is at work                         IDLE, DEAD
 *   IDLE        pool.idle          ready, no transaction, nothing owed      BUSY, DEAD
 *   BUSY        pool.busy          tasks in flight                          IDLE, HELD, CANCELLING, DEAD
 *   HELD        pool.held          belongs to a session (transaction open,  BUSY, IDLE, DEAD
 *                                  or session state on it), nothing in flight
 *   CANCELLING  pool.busy          its task is over, but a cancel request may IDLE, HELD, DEAD
 *                                  still be on its way: not reused before it has landed (H30)
 *   DEAD        pool.dead          reaped at the end of the turn
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
char backend_tx_status(const Backend *backend);
uint64_t backend_connected_us(const Backend *backend);
/* Value of a reported parameter at connection time or later; NULL when unknown. */
const char *backend_parameter(const Backend *backend, const char *name);

/* Runs a task on a connection its holder has (state HELD or BUSY of the same holder). */
void backend_run(Backend *backend, Task *task);
/* More steps for a task that is `open` and in flight on a backend; clears `open` when the last step
 * is SYNC or QUERY. `steps` must live until the task is done. */
void backend_feed(Task *task, TaskStep *steps, uint32_t count);
/* Raw frames for a COPY IN that is going on (d, c, f). False: the server's side is choked; wait for
 * the holder's on_drained (see PoolEvents). The bytes were taken in both cases. */
bool backend_feed_copy(Task *task, Slice frames);

/* The session ends its hold. Clean (no transaction, nothing left on the server session): back to
 * the pool. Otherwise it is rolled back or closed. */
void backend_release(Backend *backend, bool session_state_left);
/* The session's vector after a SET that took effect on this connection. */
void backend_set_gucs(Backend *backend, GucVector *gucs);

/* Stops reading from the server while the client is slow; resume goes on. */
void backend_pause(Backend *backend);
void backend_resume(Backend *backend);

/* Asks the server to cancel what this task runs, now or not at all: if the task is over before the
 * request could be sent, nobody is hit. Runs in the canceller's thread. */
void task_cancel(Task *task);
/* The one who waits for this task has gone: no more calls to its sink. A waiting task just ends; one
 * in flight is cancelled, drained and its backend cleaned or closed. */
void task_abandon(Task *task);

#endif
