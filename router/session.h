/*
 * session.h - one client: its connection, what it has set and prepared, its Requests in order.
 *
 *   state      list              meaning                                       leaves to
 *   LOGIN      worker.sessions   TLS, startup, authentication (login.c)        ACTIVE, DEAD
 *   ACTIVE     worker.sessions   requests are read and answered                CLOSING, DEAD
 *   CLOSING    worker.closing    last words are being written, input is ignored DEAD
 *   DEAD       worker.dead       gone; reaped at the end of the turn
 *
 * The transaction, as the client knows it:
 *
 *   I          none
 *   T          open on the participants, one server connection per shard that it has touched. `spread`
 *              (sharded databases): Shoal has answered BEGIN, and each shard joins when a statement
 *              needs it; `script` is what it is told first. Not `spread`: one shard, whose server
 *              has answered BEGIN itself
 *   E          failed, on some participant or here. `tx_lost`: a participant has died, so that only
 *              COMMIT or ROLLBACK leave it, not ROLLBACK TO
 *
 * Owner: one worker. Small on purpose: ten thousand idle sessions are ten thousand of these.
 */
#ifndef SHOAL_ROUTER_SESSION_H
#define SHOAL_ROUTER_SESSION_H

#include "backend/pool.h"
#include "core/stream.h"
#include "router/consistency.h"
#include "router/n1.h"
#include "router/script.h"
#include "router/statement.h"

typedef struct Worker Worker;
typedef struct Request Request;
typedef struct Login Login;

typedef enum SessionState { SESSION_LOGIN, SESSION_ACTIVE, SESSION_CLOSING, SESSION_DEAD } SessionState;

/* COPY ... FROM STDIN, as the client's bytes must be understood (bad-input 97-102). */
typedef enum SessionCopy {
    SESSION_COPY_NONE,
    SESSION_COPY_IN,      /* d c f (and S H, which PostgreSQL ignores) go to the server as they come */
    SESSION_COPY_IN_SYNC, /* extended protocol: data ended; the Sync that follows goes along too */
    SESSION_COPY_DRAIN    /* extended protocol: COPY failed; late d c f are dropped up to the Sync */
} SessionCopy;

/* Who may hold a server connection (task->holder): the first member says which it is. */
typedef struct Holder {
    enum { HOLDER_SESSION, HOLDER_COMMIT, HOLDER_GATHER, HOLDER_PORTAL } kind;
} Holder;

/* A server connection that is a session's for now. */
typedef struct Participant {
    Backend *backend;
    uint32_t shard;
    char tx;             /* I: no transaction there, it is held for its session state */
    bool state;          /* session state was left on it: it stays when the transaction is over */
    bool writes;         /* something was written there, or rows were locked: it must commit with the others */
    uint64_t version;    /* of the topology by which the request was planned that opened its transaction there */
    GucVector *settings; /* what a ROLLBACK leaves on that connection; a reference */
} Participant;

typedef struct Session {
    Holder holder;  /* first member */
    List link;      /* worker.sessions, worker.closing or worker.dead */
    List wake_link; /* worker.woken */
    Worker *worker;
    uint64_t id;
    int state; /* SessionState */
    Stream stream;
    Login *login; /* while LOGIN; owned */
    char who[32]; /* prefix of log lines: "client 17" */
    char peer[48]; /* address, for SHOW CLIENTS */

    char user[64], database[64]; /* as the client gave them, after login */
    uint32_t database_index;     /* in config->databases; of the topology in force */
    bool console, admin, monitor;
    bool tls;
    uint32_t cancel_pid, cancel_key;

    char tx;           /* I, T or E: what the last ReadyForQuery said */
    bool park_cancelled; /* ... and its client does not want it any more */
    bool parked;       /* its next request waits for a topology without fence (fence.h) */
    uint64_t absent_since_us; /* its next request waits for a primary since then (absence.h); 0: it does not */
    uint64_t tx_version; /* of the topology by which the request was planned that may have opened it on a first shard */
    bool tx_lost;      /* E, and a server connection of it has died */
    bool tx_locks;     /* this transaction may hold a table's strongest lock: no other connection may read it */
    bool tx_ddl;       /* DDL ran in this transaction: the catalog is read again when it commits */
    bool tx_partition; /* ... some of it made a partition: a table that the catalog does not know may be it */
    bool tx_set_undone; /* ROLLBACK TO after a SET: we no longer know what the server has */
    bool tx_reset; /* a RESET ran: the server lacks what the startup message had set */
    bool spread;       /* T or E: shards join as they are needed */
    Script script;     /* of a spread transaction */
    bool sealed;       /* the script is not the whole truth: no more shards may join */
    /* Server connections that are this session's: of the open transaction, and the one that session
     * state was left on (`pinned`), which stays when the transaction is over. transaction.h */
    Participant *parts;
    uint32_t part_count, part_room;
    struct Commit *commit; /* under way; borrowed */
    struct Verdict *verdict; /* what its statement is to end with (verdict.h); owned; NULL mostly */
    bool implicit; /* tx is I, but a transaction of Shoal's own is open around a statement (scatter.h) */
    bool temporary; /* it made temporary objects, where it is pinned: their names hide those of tables */
    bool path_unknown; /* set_config() may have set search_path; until DISCARD ALL */
    bool path_local;   /* SET LOCAL, or ROLLBACK TO after SET: until the transaction ends */
    bool pinned; /* session state was left on a server: it is held until the session ends (or DISCARD ALL) */

    List portals; /* of the transaction, or WITH HOLD: portal.h; owned */

    SessionReads reads; /* what its reads may be answered from */

    GucVector *gucs;      /* in force outside the transaction */
    GucVector *gucs_tx;   /* while tx != I: what a COMMIT makes `gucs` */
    GucVector *gucs_base; /* from the startup message: what RESET goes back to */

    Map statements; /* name -> Statement */
    Statement *unnamed;

    List requests;     /* in order of arrival; answers leave in this order */
    uint32_t request_count;
    Request *building; /* not yet complete; not in the list, unless it was flushed */
    Request *undispatched; /* first of the list that is still QUEUED */
    uint32_t running;      /* requests in state RUNNING */
    bool running_alone;    /* the running one changes the session: nothing may overtake or join it */
    bool skipping; /* a series that a Query cut off has failed: what comes up to the next Sync is passed
                      over, as PostgreSQL does */
    int copy;          /* SessionCopy of the first request */
    bool input_blocked; /* reading is paused: pipeline limit, COPY, or back-pressure towards a server */
    N1Watch n1;        /* does it ask the same for each row of a result? */
    bool terminate;    /* X was read: close when all answers are out */
    uint64_t idle_since_us;
    uint64_t closing_since_us; /* CLOSING: a client that does not read is not waited for for ever */
    uint64_t connected_us;
    uint64_t arrived_us; /* when the newest bytes of stream.in can have come at the earliest */
    uint32_t leaving;    /* answers in the worker's latency log that are not written yet */
    uint64_t bytes_seen; /* of stream.bytes_in, already in the worker's statistics */
    uint64_t statement_total;
} Session;

/* A connection was accepted; the session owns the descriptor from now on. NULL: closed already. */
Session *session_create(Worker *worker, int fd, const char *peer);
/* Login is done: greets with the given ParameterStatus messages (raw), key and ReadyForQuery. */
void session_activate(Session *session, Slice parameter_status);
/* Frees it; its requests have been abandoned. Only from the reaper. */
void session_destroy(Session *session);

/* Ends the session now: requests are abandoned, the held connection goes back, DEAD. Idempotent. */
void session_kill(Session *session);
/* Says a last FATAL, writes what is waiting, then ends. */
void session_fatal(Session *session, const Error *err);
/* A clean end: what is in the output buffer is still written. */
void session_close_gently(Session *session);

/* Shoal stops: 57P01. */
void session_stop(Session *session);
/* The connection it held, with nothing in flight, died. */
void session_on_held_lost(Session *session, Backend *backend);

/* Sends on what can be sent: dispatches queued requests, goes on decoding. Safe to call any time. */
void session_run(Session *session);
/* A request ended: those at the head that are answered leave, the next ones get their turn. */
void session_on_request_end(Session *session);
/* A cancel request with this session's key arrived. */
void session_cancel(Session *session);

/* The GUC vector that a statement sent now must find. */
static inline GucVector *session_gucs(const Session *session)
{
    return session->tx == 'I' ? session->gucs : session->gucs_tx;
}
/* As the client set it; empty when it did not. */
Slice session_application(const Session *session);
Slice session_search_path(const Session *session, const Topology *topology);
/* standard_conforming_strings is on; the client encoding is safe for cutting literals out (H44). */
bool session_standard_strings(const Session *session);
bool session_values_may_vary(const Session *session);
const DatabaseConfig *session_database(const Session *session, const Topology *topology);

#endif
