/*
 * backend_internal.h - the structs behind backend.h and pool.h, for the files of this folder only.
 *
 *     pool_set.c      all pools of a worker, its clock, its turn's end
 *     pool.c          one pool: who waits, who gets which connection, when to open another one
 *     backend.c       one connection's life: libpq opens it, states, holds, cleaning, loss
 *     conversation.c  what is said on it: answers matched and passed up
 *     steps.c         ... and what we say: steps become bytes
 *     cancel.c        task_cancel, task_abandon
 *     expect.c known.c guc.c prepared.c     pure helpers of the conversation
 *     canceller.c     the threads that run PQcancel
 */
#ifndef SHOAL_BACKEND_BACKEND_INTERNAL_H
#define SHOAL_BACKEND_BACKEND_INTERNAL_H

#include <libpq-fe.h>

#include "backend/backend.h"
#include "backend/canceller.h"
#include "backend/expect.h"
#include "backend/identity.h"
#include "backend/known.h"
#include "backend/pool.h"
#include "backend/translate.h"
#include "core/map.h"
#include "core/stream.h"

/* What PostgreSQL reports of a session, in the order in which it greets a new one. */
#define PARAMETERS_MAX 15
extern const char *const PARAMETER_NAMES[PARAMETERS_MAX];

/* The settings in force, copied from the Config: a reload may free that one. */
typedef struct PoolLimits {
    uint32_t query_wait_timeout_ms, connect_timeout_ms, idle_timeout_ms, lifetime_ms;
    uint32_t statements_max, tcp_user_timeout_ms;
    uint64_t message_max, server_message_max, output_high;
} PoolLimits;

/* What a backend does for itself between tasks; one at a time, its answers go to nobody. */
typedef enum Errand {
    ERRAND_NONE,
    ERRAND_SETTINGS, /* SET/RESET to the task's vector; the task's steps wait in `behind` */
    ERRAND_ROLLBACK, /* nobody is left to end this transaction */
    ERRAND_DISCARD,  /* DISCARD ALL: nobody knows what is left on the session */
    ERRAND_LANDING   /* Sync after a cancel request: what it hits has been hit when Z comes (H30) */
} Errand;

struct Backend {
    List link; /* in the pool's list of this state */
    int state; /* BackendState */
    Pool *pool;
    uint64_t id;
    char who[160]; /* for the log */

    /* the connection: backend.c */
    PGconn *conn; /* owned; after the login only for PQgetCancel and PQfinish */
    ev_io connecting;
    Timer connect_timer;
    bool asking;   /* CONNECTING, logged in: who it is has been asked (identity.h) */
    Stream stream; /* over conn's socket, which stays libpq's */
    RowTypes row; /* of the rows now coming, where OIDs are translated */
    bool binary;  /* what is executed may answer in binary */
    int server_pid;
    uint32_t generation; /* the pool's when this was opened; older ones are closed when free */
    uint64_t connected_us, expires_us, idle_since_us; /* loop clock; expires 0: never */
    char *parameters[PARAMETERS_MAX];                 /* owned; NULL unknown */
    uint64_t counted_in, counted_out; /* bytes that are in the pool's stats already */

    /* the conversation: conversation.c */
    ExpectQueue owed;
    KnownSet known;
    Buf *out;       /* where steps are written: &stream.out, or &behind */
    Buf behind;     /* steps that wait for ERRAND_SETTINGS */
    List attention; /* in set->attention while an answer of ours is due */
    List inflight;  /* Tasks; the first is `task` while it is at work, the rest has not been sent */
    Task *task;     /* whose answers now come; NULL: none, or abandoned */
    uint64_t sent_mark;   /* stream.bytes_out from which on bytes of `task` have left */
    char tx_status;       /* of the last ReadyForQuery */
    GucVector *gucs;      /* what the server session looks like; one reference */
    GucVector *gucs_next; /* during ERRAND_SETTINGS: what it will look like; one reference */
    Errand errand;
    bool errand_failed;
    uint32_t settings_tries; /* of this task's settings that a timeout has ended */
    bool draining;       /* the task was abandoned; what it still brings is thrown away */
    bool gucs_touched;   /* `gucs` was changed in this transaction: a rollback makes it untrue */
    bool schema_touched; /* DDL ran in this transaction */
    bool dirty;          /* session state of unknown kind may be left: DISCARD ALL before reuse */
    uint64_t alone_since_us; /* draining, or CANCELLING, since */
    void *holder;            /* the session that may go on with it */
    CancelJob *cancel;       /* under way; it belongs to the canceller */
    bool cancel_landing;     /* a request was delivered, and no round trip has been made since */
    Error last_error; /* FATAL words of the server, or what was wrong; sqlstate "" for none */
};

struct Pool {
    PoolSet *set;
    uint64_t id;
    List link;  /* in set->pools */
    List dirty; /* in set->dirty while there is something to do at the turn's end */
    char *name;
    ServerConfig server;   /* a copy whose strings are server_texts */
    char *server_texts[3]; /* name, conninfo, host; owned */
    char *database, *dbname, *user;
    char *password;   /* secret; NULL: none */
    bool user_forced; /* the database's server_user, not the client's name */
    uint32_t size;
    uint32_t generation; /* counts changes of address or password */
    uint32_t database_index; /* in the configuration in force */
    bool gone;           /* no longer in the configuration: connections are closed when free */

    List connecting, idle, busy, held, dead; /* Backends by state; idle: last used first */
    uint32_t counts[BACKEND_DEAD + 1];
    List waiting; /* Tasks, longest waiting first */
    uint32_t waiting_count;
    List refused; /* Tasks, WAITING, that were cancelled: told at the turn's end */
    List warmers; /* PoolWaiters */

    bool down; /* the last attempt to connect failed */
    bool primary; /* its server is one, by the topology in force */
    bool doubted; /* nobody knows whether its server still is what it was: nothing is written to it */
    Error doubt;  /* what is said then */
    bool unsure; /* a connection was lost or refused: perhaps the server was away, and replaced meanwhile */
    uint32_t backoff_ms;
    uint64_t retry_us; /* not before this time */
    Error down_error;

    bool warm; /* values are known */
    uint32_t value_count;
    const char *value_names[PARAMETERS_MAX]; /* constants */
    char *values[PARAMETERS_MAX];            /* owned */
    PoolStats stats;
};

struct PoolSet {
    Loop *loop;
    Inbox *inbox;
    Canceller *canceller; /* NULL: nothing can be cancelled */
    uint32_t workers;
    PreparedSet *prepared;
    GucSet *gucs;
    PoolEvents events;
    PoolLimits limits;
    const Topology *topology; /* in force; borrowed until the next one is adopted */
    Map by_name; /* Pools by server, database and user */
    List pools, dirty;
    List attention; /* Backends that owe an answer of our own */
    List cancels;   /* CancelJobs under way */
    Timer tick;
    uint64_t catalog_version; /* sum over the databases, of the topology in force */
    uint64_t turn_us;         /* loop->now_us of the last turn whose end has been worked off */
    uint64_t next_pool_id, next_backend_id;
};

/* ---- backend.c ------------------------------------------------------------------------------ */

/* Starts connecting; failure is told by pool_on_connect_failed, perhaps before it returns. */
void backend_open(Pool *pool);
/* Puts a task behind those in flight; to idle connections it is handed by the pool. */
void backend_take(Backend *backend, Task *task);
/* True when the server has closed an idle connection or said something we have not read (H14). */
bool backend_stale(Backend *backend);
/* What next, when nothing is at work: land a cancel, next task, held, clean, idle or closed.
 * Harmless at any time. */
void backend_settle(Backend *backend);
void backend_move(Backend *backend, BackendState to);
void backend_errand_done(Backend *backend);
/* Closes it without a word: idle, old, or unusable with nobody concerned. */
void backend_close(Backend *backend);
/* The connection cannot be used any more; everybody concerned is told. */
void backend_lose(Backend *backend, const Error *err);
void backend_learn_parameter(Backend *backend, Slice name, Slice value);
void backend_cancel_landed(Backend *backend);
void backend_free(Backend *backend); /* DEAD only */
void backend_count_bytes(Backend *backend);

/* ---- steps.c -------------------------------------------------------------------------------- */

void steps_write(Backend *backend, Task *task, const TaskStep *steps, uint32_t count);
/* Closes what the server should forget. Only at the head of a task: nothing can be in the way of a
 * Close there, and nothing behind it is hurt (H17). */
void steps_close_statements(Backend *backend);
/* Brings the session to these settings; what is written next waits for that. */
void steps_settings(Backend *backend, GucVector *gucs);
/* Writes a simple Query of Shoal's own, or a Sync when sql is NULL. */
void steps_errand(Backend *backend, Errand errand, const char *sql);
void steps_owe(Backend *backend, Expect expect);
/* Out of memory or beyond out_max in the middle of a task: nothing half-said may go out. The stream
 * reports itself gone at the turn's end, and that loses the task; a caller is never called back. */
void steps_break(Backend *backend);

/* ---- conversation.c ------------------------------------------------------------------------- */

extern const StreamEvents CONVERSATION_EVENTS;
/* The first task of `inflight` is at work from now on. */
void conversation_begin(Backend *backend);
/* Puts in the answers that Shoal owes itself and whose turn has come. */
void conversation_answer(Backend *backend);
/* Forgets what waits behind the settings: it was never sent. */
void conversation_forget_behind(Backend *backend);
/* Ends `task`, which is the first of inflight, without an answer. */
void conversation_refuse(Backend *backend, const Error *err, bool maybe_executed);

/* ---- pool.c --------------------------------------------------------------------------------- */

void pool_touch(Pool *pool);
/* In this order at the turn's end. */
void pool_dispatch(Pool *pool);
void pool_reap(Pool *pool);
void pool_gauge(Pool *pool);
/* Each 100 ms: what waited too long, idle and old connections. */
void pool_tick(Pool *pool, uint64_t now_us);
bool pool_active(const Pool *pool);
void pool_on_connected(Pool *pool, Backend *backend);
/* Who waits for a connection hears that there is none. */
void pool_fail_waiting(Pool *pool, const Error *err);
void pool_on_connect_failed(Pool *pool, const Error *err);
/* What its server should be; not watched when nothing is known. */
ServerIdentity pool_identity(const Pool *pool);
List *pool_list(Pool *pool, BackendState state);
/* A WAITING task leaves the queue. */
void pool_forget_task(Task *task);
void pool_refuse_task(Task *task); /* ... and is told at the turn's end that it was cancelled */

/* What this server calls other than the home shard; NULL: nothing. */
static inline const OidMap *pool_oids(const Pool *pool)
{
    const Topology *topology = pool->set->topology;
    if (!topology || !topology->oids || pool->gone)
        return NULL;
    return topology->oids[(size_t)pool->database_index * topology->config->shard_count + pool->server.shard];
}

static inline uint32_t pool_live(const Pool *pool)
{
    return pool->counts[BACKEND_IDLE] + pool->counts[BACKEND_BUSY] + pool->counts[BACKEND_HELD] +
           pool->counts[BACKEND_CANCELLING];
}

#endif
