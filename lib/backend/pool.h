/*
 * pool.h - the server connections of one worker to one server as one (database, user).
 *
 * Tasks wait in one FIFO; a freed connection goes to the longest waiter (H31). Connections are
 * opened on demand up to the limit, closed when idle for long or old (with jitter, H32), kept when
 * clients leave (H33). A server that cannot be reached fails its waiters at once with 08001 naming
 * shard and server; it is tried again when needed, after 250 ms, later at most every second.
 */
#ifndef SHOAL_BACKEND_POOL_H
#define SHOAL_BACKEND_POOL_H

#include "backend/backend.h"
#include "core/inbox.h"
#include "core/stats.h"
#include "meta/topology.h"

typedef struct PoolSet PoolSet;
typedef struct Canceller Canceller;

/* What the pools tell the layer above. Any may be NULL. */
typedef struct PoolEvents {
    /* The server took enough of a COPY IN: the task's holder may go on feeding. */
    void (*on_drained)(void *holder, Backend *backend);
    /* A held connection with nothing in flight died, or sent a message nobody asked for
     * (NotificationResponse, ParameterStatus, notice): frame is NULL when it died. */
    void (*on_held_message)(void *holder, Backend *backend, const Frame *frame);
    /* An error frame passed by: tells of catalog changes (42P01, 42703, 0A000 "cached plan"). */
    void (*on_error_seen)(void *ctx, Pool *pool, const char sqlstate[6]);
    void *ctx;
} PoolEvents;

typedef struct PoolStats {
    Counter tasks, queries, syncs; /* done */
    Counter waits, wait_us;        /* tasks that had to wait, and how long */
    Counter connects, connect_failures, losses, cancels;
    Counter bytes_in, bytes_out;
    Counter parses;                                  /* statements prepared on servers */
    Counter active, idle, held, connecting, waiting; /* gauges, set at the end of each turn */
} PoolStats;

/* One per worker. `workers` divides the pool sizes. */
PoolSet *pool_set_create(Loop *loop, Inbox *inbox, Canceller *canceller, uint32_t workers,
                         PreparedSet *prepared, GucSet *gucs, const PoolEvents *events) MUST_USE;
/* Closes all connections; tasks in flight are lost. The canceller and the inbox are gone already:
 * first canceller_destroy, then inbox_close, then this. */
void pool_set_destroy(PoolSet *set);
/* The topology in force: limits, servers; to be called before the first pool_get. It is
 * used until the next one. Connections of changed servers and passwords are closed when free; pools of servers or
 * databases that are gone drain. */
void pool_set_adopt(PoolSet *set, const Topology *topology);
/* Finds or makes the pool. NULL when memory is out. */
Pool *pool_get(PoolSet *set, const ServerConfig *server, const DatabaseConfig *database,
               const UserConfig *user, Slice user_name) MUST_USE;
/* Ends all connections to a server at once, whoever has them: it must not take another write from here. */
void pool_set_drop_server(PoolSet *set, const char *server, const Error *err);
/* Until it is released nothing more is written to a server: connections keep what they have to say, tasks that
 * wait for one hear `why` (not executed). */
void pool_set_hold_server(PoolSet *set, const char *server, const Error *why);
void pool_set_release_server(PoolSet *set, const char *server);
/* From a turn-end hook, before stream_flush_all: hands out connections, opens new ones, reaps the
 * dead. */
void pool_set_turn_end(PoolSet *set);
/* Iteration for SHOW: NULL at the end. */
Pool *pool_set_next(PoolSet *set, size_t *cursor);

/* The task's sink hears on_ready(last) or on_lost, never before this function returned.
 * With task->holder set, the connection is HELD for the holder whenever the task ends in a
 * transaction, and on request (task_hold). */
void pool_submit(Pool *pool, Task *task);
/* Called by a sink inside on_ready(last): keep task->backend for the task's holder although no
 * transaction is open (session state was left on the server). For this once: to be repeated by
 * each task that ends outside a transaction. */
void task_hold(Task *task);

const char *pool_name(const Pool *pool); /* "s0/primary app/alice" */
const ServerConfig *pool_server(const Pool *pool);
Slice pool_database(const Pool *pool);
Slice pool_user(const Pool *pool);
uint64_t pool_id(const Pool *pool);
const PoolStats *pool_stats(const Pool *pool);
uint32_t pool_size(const Pool *pool); /* limit of this worker */
/* Backends of a pool for SHOW SERVERS; calls fn for each. */
void pool_each_backend(Pool *pool, void (*fn)(Backend *backend, void *ctx), void *ctx);
/* ParameterStatus values that new sessions of this pool are greeted with. False until the first
 * connection stands; then name/value pairs, in the order PostgreSQL reports them. */
uint32_t pool_parameters(const Pool *pool, const char *const **ret_names,
                         const char *const **ret_values);
/* Opens a first connection when there is none, then calls back (ok or the error). One shot. */
typedef struct PoolWaiter {
    List link;
    void (*on_warm)(struct PoolWaiter *waiter, Pool *pool, const Error *err);
} PoolWaiter;
void pool_warm(Pool *pool, PoolWaiter *waiter);
void pool_warm_cancel(PoolWaiter *waiter);

/* One per process: a few short-lived threads run PQcancel, which blocks until the server has taken
 * the request. Bounded; past the bound requests wait their turn. */
Canceller *canceller_create(unsigned threads_max) MUST_USE;
void canceller_destroy(Canceller *canceller);

#endif
