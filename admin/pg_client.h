/*
 * pg_client.h - a conversation of the control thread with one PostgreSQL server, which never
 * blocks.
 *
 *     CLOSED --run--> STARTING --> CONNECTING --> SETUP --> RUNNING --done--> IDLE --run-->
 * STARTING
 *        ^___________________________________________|  any failure or the time limit: on_done(err)
 *
 * Loader, probes and functions all ask this way: a list of queries, a callback for each result, one
 * callback at the end. (A run without time limit has timeout_ms 0.) The connection is kept between runs; one that turns out to have died while
 * idle is opened again once, silently. A transaction begun in one run may end in the next.
 * Only the data path speaks raw protocol; this is libpq as it is. (libpq looks names up with
 * getaddrinfo, so a slow resolver can hold up the control thread, never the data path.)
 */
#ifndef SHOAL_ADMIN_PG_CLIENT_H
#define SHOAL_ADMIN_PG_CLIENT_H

#include <libpq-fe.h>

#include "core/error.h"
#include "core/loop.h"
#include "core/slice.h"

typedef struct PgClient PgClient;

/* Whom to talk to; read during pg_client_run only, so it may live in a Config that is replaced. */
typedef struct PgLogin {
    const char *conninfo; /* libpq keywords: host, port, sslmode ... */
    const char *dbname;
    const char *user;     /* NULL: libpq's own default */
    const char *password; /* NULL: none */
    bool replication;     /* a walsender of this database: CREATE_REPLICATION_SLOT */
} PgLogin;

/* One statement, parameters as text. Borrowed until on_done. */
typedef struct PgQuery {
    const char *sql;
    const char *const *values; /* [value_count]; a NULL is SQL NULL */
    int value_count; /* PG_QUERY_SIMPLE: by the simple protocol, as replication commands must be */
} PgQuery;
#define PG_QUERY_SIMPLE (-1)

typedef struct PgClientEvents {
    /* The answer of query `index`, which did not fail; cleared after the call. False and `err` end
     * the run: the connection is closed (what was begun is rolled back) and on_done hears err. */
    bool (*on_result)(PgClient *client, uint32_t index, const PGresult *result, Error *err);
    /* The run is over; the last thing that the client does in this turn: it may be run again or
     * closed from here. `err` is NULL when every query was answered. What the server or the network
     * said in words is client->why, for logs and operators only (H88). */
    void (*on_done)(PgClient *client, const Error *err);
    /* Query `next` has begun a COPY, or its socket is ready again (pg_client_copy_*). NULL: a COPY is
     * an error. */
    void (*on_copy)(PgClient *client);
} PgClientEvents;

typedef enum PgClientState {
    PG_CLIENT_CLOSED,     /* no connection */
    PG_CLIENT_STARTING,   /* a run was asked for; begins in the next turn */
    PG_CLIENT_CONNECTING, /* PQconnectPoll */
    PG_CLIENT_SETUP,      /* connected; session settings on their way */
    PG_CLIENT_RUNNING,    /* query `next` is on its way */
    PG_CLIENT_COPYING,    /* query `next` is a COPY whose rows flow */
    PG_CLIENT_IDLE        /* connected, nothing asked */
} PgClientState;

struct PgClient {
    int state; /* PgClientState */
    Loop *loop;
    PGconn *conn; /* owned */
    int watching; /* EV_READ and EV_WRITE as `io` is set; 0 when it is stopped */
    ev_io io;
    Timer timer; /* STARTING: the next turn; afterwards the time limit of the run */
    uint64_t timeout_ms;
    const PgQuery *queries; /* of the run; borrowed */
    uint32_t count, next;
    bool sticky;   /* the owner's: a connection that was lost is an error, never opened again silently
                    * (it held a transaction, or a snapshot) */
    bool replication;
    bool reused;   /* the run began on a kept connection and nothing was answered yet */
    bool copy_readable; /* COPYING: on_copy was called because there is something to read */
    char why[200]; /* last failure in libpq's or the server's words, one line */
    const PgClientEvents *events;
    void *ctx;      /* the owner's */
    char *login[4]; /* copies of the PgLogin's fields, owned */
};

void pg_client_init(PgClient *client, Loop *loop, const PgClientEvents *events, void *ctx);
/* Starts a run; state CLOSED or IDLE. Callbacks come from the loop, never before this returns. */
void pg_client_run(PgClient *client, const PgLogin *login, const PgQuery *queries, uint32_t count,
                   uint64_t timeout_ms);
/* Drops the connection and the run, silently; the client may be run again. */
void pg_client_close(PgClient *client);

/* While COPYING, both directions. read: > 0 bytes of one row (free with PQfreemem), 0 not yet, -1 the
 * last row was read, -2 the connection is lost. write: into libpq's buffer; flush sends it, *ret_full
 * when the socket takes no more for now; both false when the connection is lost. finish ends COPY FROM (`reason` not NULL: makes it fail); then, and
 * after -1, the run goes on with the COPY's result. wait: which readiness calls on_copy again. */
int pg_client_copy_read(PgClient *client, char **ret_row);
bool pg_client_copy_write(PgClient *client, const char *bytes, int len) MUST_USE;
bool pg_client_copy_flush(PgClient *client, bool *ret_full) MUST_USE;
void pg_client_copy_finish(PgClient *client, const char *reason);
void pg_client_copy_wait(PgClient *client, int events);

static inline bool pg_client_busy(const PgClient *client)
{
    return client->state != PG_CLIENT_CLOSED && client->state != PG_CLIENT_IDLE;
}

/* A cell as Slice (empty for NULL) and as text (NULL for NULL); both live as long as the result. */
Slice pg_slice(const PGresult *result, int row, int column);
const char *pg_text(const PGresult *result, int row, int column);
static inline bool pg_bool(const PGresult *result, int row, int column)
{
    const char *text = pg_text(result, row, column);
    return text && text[0] == 't';
}
uint64_t pg_u64(const PGresult *result, int row, int column); /* 0 for NULL */

#endif
