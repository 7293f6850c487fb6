/*
 * pg_client.c - libpq's asynchronous calls, driven by the loop.
 *
 *     io ready -> PQconnectPoll until the connection stands
 *              -> SETUP: one statement of session settings
 *              -> per query: PQsendQueryParams, PQflush, PQconsumeInput, PQgetResult until NULL
 *
 * A run ends in exactly one place, run_end, which is always the last act: the owner may start the
 * next run or free the client from on_done.
 */
#include "admin/pg_client.h"

#include <stdlib.h>
#include <string.h>

/* Sessions of the control thread: nothing may hang, nothing may be hidden by row security, names
 * mean PostgreSQL's own unless they are qualified. */
static const char SETUP_SQL[] =
    "SET search_path = pg_catalog, pg_temp; SET statement_timeout = '30s'; SET lock_timeout = "
    "'3s'; "
    "SET idle_in_transaction_session_timeout = '60s'; SET row_security = off; "
    "SET client_min_messages = error; SET extra_float_digits = 1; "
    "SET default_transaction_isolation = 'read committed'; "
    "SET default_transaction_read_only = off; SET DateStyle = ISO";

static void client_on_time(Timer *timer);
static void client_on_io(struct ev_loop *ev, ev_io *watcher, int revents);
static void client_connect(PgClient *client);
static void client_poll_connection(PgClient *client);
static void client_send(PgClient *client);
static void client_read(PgClient *client);
static bool copy_begins(PgClient *client, PGresult *result);
static void client_copy(PgClient *client, int revents);
static bool client_take_result(PgClient *client, PGresult *result, Error *err);
static void client_lost(PgClient *client);
static void run_end(PgClient *client, const Error *err);
static void client_watch(PgClient *client, int events);
static void client_disconnect(PgClient *client);
static void client_note(PgClient *client, const char *text);

static void notice_ignored(void *arg, const PGresult *result) {}

void pg_client_init(PgClient *client, Loop *loop, const PgClientEvents *events, void *ctx)
{
    *client = (PgClient){.loop = loop, .events = events, .ctx = ctx};
    ev_init(&client->io, client_on_io);
    client->io.data = client;
    timer_init(&client->timer, loop, client_on_time, client);
}

static void login_keep(PgClient *client, const PgLogin *login)
{
    const char *fields[] = {login->conninfo, login->dbname, login->user, login->password};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        free(client->login[i]);
        client->login[i] = fields[i] ? strdup(fields[i]) : NULL;
    }
    client->replication = login->replication;
}

void pg_client_run(PgClient *client, const PgLogin *login, const PgQuery *queries, uint32_t count,
                   uint64_t timeout_ms)
{
    assert(!pg_client_busy(client));
    assert(count > 0);
    login_keep(client, login);
    client->queries = queries;
    client->count = count;
    client->next = 0;
    client->timeout_ms = timeout_ms;
    client->why[0] = '\0';
    client->state = PG_CLIENT_STARTING;
    timer_start_ms(&client->timer, 0);
}

void pg_client_close(PgClient *client)
{
    if (!client->loop)
        return;
    timer_stop(&client->timer);
    client_disconnect(client);
    login_keep(client, &(PgLogin){0});
}

static void client_on_time(Timer *timer)
{
    PgClient *client = timer->ctx;
    if (client->state != PG_CLIENT_STARTING) {
        Error err;
        error_set(&err, SQLSTATE_CANNOT_CONNECT, "the server did not answer within %llu ms",
                  (unsigned long long)client->timeout_ms);
        client_note(client, err.message);
        client_disconnect(client);
        run_end(client, &err);
        return;
    }
    if (client->timeout_ms)
        timer_start_ms(&client->timer, client->timeout_ms);
    client->reused = client->conn != NULL && !client->sticky;
    if (client->conn) {
        client->state = PG_CLIENT_RUNNING;
        client_send(client);
    } else {
        client_connect(client);
    }
}

static void client_connect(PgClient *client)
{
    /* The first dbname is expanded as a connection string; what follows overrides it. */
    const char *names[] = {"dbname", "fallback_application_name", "client_encoding", "dbname",
                           NULL,     NULL,                        NULL,              NULL};
    const char *values[] = {client->login[0], "shoal control", "UTF8", client->login[1],
                            NULL,             NULL,            NULL,   NULL};
    size_t n = 4;
    if (client->login[2])
        names[n] = "user", values[n++] = client->login[2];
    if (client->login[3])
        names[n] = "password", values[n++] = client->login[3];
    if (client->replication)
        names[n] = "replication", values[n++] = "database";
    client->reused = false;
    client->state = PG_CLIENT_CONNECTING;
    client->conn = PQconnectStartParams(names, values, 1);
    if (!client->conn || PQstatus(client->conn) == CONNECTION_BAD) {
        client_lost(client);
        return;
    }
    PQsetNoticeReceiver(client->conn, notice_ignored, NULL);
    client_watch(client, EV_WRITE);
}

static void client_on_io(struct ev_loop *ev, ev_io *watcher, int revents)
{
    PgClient *client = watcher->data;
    if (client->state == PG_CLIENT_CONNECTING)
        client_poll_connection(client);
    else if (client->state == PG_CLIENT_COPYING)
        client_copy(client, revents);
    else
        client_read(client);
}

static void client_poll_connection(PgClient *client)
{
    switch (PQconnectPoll(client->conn)) {
    case PGRES_POLLING_READING:
        client_watch(client, EV_READ);
        return;
    case PGRES_POLLING_WRITING:
        client_watch(client, EV_WRITE);
        return;
    case PGRES_POLLING_OK:
        break;
    default:
        client_lost(client);
        return;
    }
    client->state = PG_CLIENT_SETUP;
    if (PQsetnonblocking(client->conn, 1) != 0 || !PQsendQuery(client->conn, SETUP_SQL)) {
        client_lost(client);
        return;
    }
    client_watch(client, EV_READ | EV_WRITE);
}

/* Sends query `next`, or ends the run when there is none left. */
static void client_send(PgClient *client)
{
    if (client->next == client->count) {
        client_watch(client, 0);
        client->state = PG_CLIENT_IDLE;
        run_end(client, NULL);
        return;
    }
    const PgQuery *query = &client->queries[client->next];
    int sent = query->value_count == PG_QUERY_SIMPLE ? PQsendQuery(client->conn, query->sql)
                             : PQsendQueryParams(client->conn, query->sql, query->value_count, NULL,
                                                 query->values, NULL, NULL, 0 /* text */);
    if (!sent) {
        client_lost(client);
        return;
    }
    client_watch(client, EV_READ | EV_WRITE);
}

static void client_read(PgClient *client)
{
    int unsent = PQflush(client->conn);
    if (unsent < 0 || !PQconsumeInput(client->conn)) {
        client_lost(client);
        return;
    }
    client_watch(client, unsent ? EV_READ | EV_WRITE : EV_READ);
    while (!PQisBusy(client->conn)) {
        PGresult *result = PQgetResult(client->conn);
        if (result && client->events->on_copy && copy_begins(client, result))
            return;
        if (result) {
            Error err;
            bool ok = client_take_result(client, result, &err);
            PQclear(result);
            if (ok)
                continue;
            if (PQstatus(client->conn) == CONNECTION_BAD) {
                client_lost(client);
                return;
            }
            client_disconnect(client);
            run_end(client, &err);
            return;
        }
        if (client->state == PG_CLIENT_SETUP)
            client->state = PG_CLIENT_RUNNING;
        else
            client->next++;
        client_send(client);
        return;
    }
}

/* ---- COPY ------------------------------------------------------------------------------------ */

static bool copy_begins(PgClient *client, PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COPY_IN && status != PGRES_COPY_OUT)
        return false;
    PQclear(result);
    client->state = PG_CLIENT_COPYING;
    client->reused = client->copy_readable = false;
    client_watch(client, EV_READ);
    client->events->on_copy(client);
    return true;
}

static void client_copy(PgClient *client, int revents)
{
    if ((revents & EV_READ) && !PQconsumeInput(client->conn)) {
        client_lost(client);
        return;
    }
    client->copy_readable = (revents & EV_READ) != 0;
    client->events->on_copy(client);
}

int pg_client_copy_read(PgClient *client, char **ret_row)
{
    int n = PQgetCopyData(client->conn, ret_row, 1);
    if (n != -1)
        return n;
    client->state = PG_CLIENT_RUNNING; /* the COPY's result is next; the owner returns to the loop */
    client_watch(client, EV_READ | EV_WRITE);
    return -1;
}

bool pg_client_copy_flush(PgClient *client, bool *ret_full)
{
    int unsent = PQflush(client->conn);
    *ret_full = unsent > 0;
    return unsent >= 0;
}

bool pg_client_copy_write(PgClient *client, const char *bytes, int len)
{
    return PQputCopyData(client->conn, bytes, len) > 0;
}

void pg_client_copy_finish(PgClient *client, const char *reason)
{
    assert(client->state == PG_CLIENT_COPYING);
    /* A failure shows as a connection that is lost, when its result is read. */
    (void)PQputCopyEnd(client->conn, reason);
    client->state = PG_CLIENT_RUNNING;
    client_watch(client, EV_READ | EV_WRITE);
}

void pg_client_copy_wait(PgClient *client, int events)
{
    if (client->state == PG_CLIENT_COPYING)
        client_watch(client, events);
}

/* ---- results --------------------------------------------------------------------------------- */

static bool client_take_result(PgClient *client, PGresult *result, Error *err)
{
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
        const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
        const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
        error_set(err, state && strlen(state) == 5 ? state : SQLSTATE_INTERNAL, "%s",
                  message ? message : "the server answered with something unexpected");
        if (detail)
            error_detail(err, "%s", detail);
        if (hint)
            error_hint(err, "%s", hint);
        client_note(client, err->message);
        return false;
    }
    client->reused = false;
    if (client->state == PG_CLIENT_SETUP || !client->events->on_result)
        return true;
    return client->events->on_result(client, client->next, result, err);
}

/* The connection failed or never stood. A kept one may have died while nobody looked: once, again.
 */
static void client_lost(PgClient *client)
{
    client_note(client, client->conn ? PQerrorMessage(client->conn) : "out of memory");
    bool again = client->reused;
    bool stood = client->state >= PG_CLIENT_SETUP;
    client_disconnect(client);
    if (again) {
        client_connect(client);
        return;
    }
    Error err;
    if (stood)
        error_set(&err, SQLSTATE_CONNECTION_FAILURE, "the connection to the server was lost");
    else
        error_set(&err, SQLSTATE_CANNOT_CONNECT, "could not connect to the server");
    run_end(client, &err);
}

static void run_end(PgClient *client, const Error *err)
{
    timer_stop(&client->timer);
    client->queries = NULL;
    client->events->on_done(client, err);
}

static void client_watch(PgClient *client, int events)
{
    int fd = PQsocket(client->conn);
    if (ev_is_active(&client->io) && client->io.fd == fd && client->watching == events)
        return;
    ev_io_stop(client->loop->ev, &client->io);
    client->watching = events;
    if (!events || fd < 0)
        return;
    ev_io_set(&client->io, fd, events);
    ev_io_start(client->loop->ev, &client->io);
}

static void client_disconnect(PgClient *client)
{
    ev_io_stop(client->loop->ev, &client->io);
    client->watching = 0;
    client->state = PG_CLIENT_CLOSED;
    if (client->conn)
        PQfinish(client->conn);
    client->conn = NULL;
}

/* Keeps the first line, without control bytes. */
static void client_note(PgClient *client, const char *text)
{
    size_t n = 0;
    for (; text[n] && text[n] != '\n' && n < sizeof(client->why) - 1; n++)
        client->why[n] = (unsigned char)text[n] < ' ' ? ' ' : text[n];
    client->why[n] = '\0';
}

Slice pg_slice(const PGresult *result, int row, int column)
{
    return slice_of(PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column));
}

const char *pg_text(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

uint64_t pg_u64(const PGresult *result, int row, int column)
{
    const char *text = pg_text(result, row, column);
    return text ? (uint64_t)strtoll(text, NULL, 10) : 0;
}
