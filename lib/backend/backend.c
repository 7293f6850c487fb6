/*
 * backend.c - one server connection's life, and the seam to libpq.
 *
 *     backend_open ── PQconnectStartParams, PQconnectPoll by io events ── CONNECTION_OK
 *         └─ PQsocket (and the SSL object) go into a Stream: from here on we speak ourselves
 *     backend_take / backend_run ── conversation ── backend_settle ── held, cleaned, idle ...
 *     backend_lose / backend_close ── DEAD ── reaped at the turn's end: backend_free, PQfinish
 *
 * backend_settle is the one place that decides what a connection does next; whoever ends something
 * (a task, an errand, a hold, a cancel request) calls it and need not know more.
 */
#include "backend/backend_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "core/fsm.h"
#include "core/log.h"
#include "wire/frontend.h"

#define SETTINGS_TRIES_MAX 100 /* then the timeout must be something else */

/* ---- states --------------------------------------------------------------------------------- */

static const char *const BACKEND_STATE_NAMES[] = {
    [BACKEND_CONNECTING] = "connecting",
    [BACKEND_IDLE] = "idle",
    [BACKEND_BUSY] = "busy",
    [BACKEND_HELD] = "held",
    [BACKEND_CANCELLING] = "cancelling",
    [BACKEND_DEAD] = "dead",
};

static const FsmTable BACKEND_FSM = {
    .type = "backend",
    .names = BACKEND_STATE_NAMES,
    .to =
        {
            [BACKEND_CONNECTING] = FSM_TO(BACKEND_IDLE) | FSM_TO(BACKEND_DEAD),
            [BACKEND_IDLE] = FSM_TO(BACKEND_BUSY) | FSM_TO(BACKEND_DEAD),
            [BACKEND_BUSY] = FSM_TO(BACKEND_IDLE) | FSM_TO(BACKEND_HELD) |
                             FSM_TO(BACKEND_CANCELLING) | FSM_TO(BACKEND_DEAD),
            [BACKEND_HELD] = FSM_TO(BACKEND_BUSY) | FSM_TO(BACKEND_CANCELLING) |
                             FSM_TO(BACKEND_IDLE) | FSM_TO(BACKEND_DEAD),
            [BACKEND_CANCELLING] = FSM_TO(BACKEND_BUSY) | FSM_TO(BACKEND_IDLE) |
                                   FSM_TO(BACKEND_HELD) | FSM_TO(BACKEND_DEAD),
        },
};

void backend_move(Backend *backend, BackendState to)
{
    Pool *pool = backend->pool;
    if (backend->state == (int)to)
        return;
    pool->counts[backend->state]--;
    fsm_move(&BACKEND_FSM, &backend->state, to, backend->who);
    pool->counts[to]++;
    list_remove(&backend->link);
    if (to == BACKEND_IDLE) { /* last used, first out */
        backend->idle_since_us = pool->set->loop->now_us;
        list_push_front(&pool->idle, &backend->link);
    } else {
        list_push(pool_list(pool, to), &backend->link);
    }
    pool_touch(pool);
}

/* ---- opening -------------------------------------------------------------------------------- */

static Backend *backend_create(Pool *pool);
static PGconn *backend_connect_start(const Pool *pool);
static void backend_on_connecting(struct ev_loop *ev, ev_io *watcher, int revents);
static void backend_on_connect_timeout(Timer *timer);
static void backend_watch(Backend *backend, PostgresPollingStatusType status);
static void backend_ask_identity(Backend *backend);
static void backend_on_identity(Backend *backend);
static void backend_on_connected(Backend *backend);
static void backend_connect_failed(Backend *backend, const char *why);
static void backend_ignore_notice(void *arg, const PGresult *result);

void backend_open(Pool *pool)
{
    Error err;
    Backend *backend = backend_create(pool);
    if (!backend) {
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        pool_on_connect_failed(pool, &err);
        return;
    }
    backend->conn = backend_connect_start(pool);
    if (!backend->conn || PQstatus(backend->conn) == CONNECTION_BAD) {
        backend_connect_failed(backend,
                               backend->conn ? PQerrorMessage(backend->conn) : "out of memory");
        return;
    }
    PQsetNoticeReceiver(backend->conn, backend_ignore_notice, NULL);
    timer_start_ms(&backend->connect_timer, pool->set->limits.connect_timeout_ms);
    backend_watch(backend, PGRES_POLLING_WRITING);
}

static Backend *backend_create(Pool *pool)
{
    PoolSet *set = pool->set;
    const PoolLimits *limits = &set->limits;
    Backend *backend = calloc(1, sizeof(*backend));
    if (!backend)
        return NULL;
    backend->pool = pool;
    backend->id = ++set->next_backend_id;
    backend->generation = pool->generation;
    backend->tx_status = TX_IDLE;
    snprintf(backend->who, sizeof(backend->who), "server %s #%" PRIu64, pool->name, backend->id);
    list_init(&backend->link);
    list_init(&backend->inflight);
    list_init(&backend->attention);
    expect_init(&backend->owed);
    known_init(&backend->known, set->prepared);
    /* A whole request may be written at once; what it may be is limited where it came in. */
    stream_init(&backend->stream, set->loop, &CONVERSATION_EVENTS, backend,
                (StreamLimits){.in_max = limits->server_message_max + 5 + STREAM_READ_SIZE,
                               .out_max = 2 * limits->message_max + (64u << 20),
                               .out_high = limits->output_high});
    buf_init(&backend->behind, backend->stream.out.limit);
    backend->out = &backend->stream.out;
    ev_init(&backend->connecting, backend_on_connecting);
    backend->connecting.data = backend;
    timer_init(&backend->connect_timer, set->loop, backend_on_connect_timeout, backend);
    backend->state = BACKEND_CONNECTING;
    pool->counts[BACKEND_CONNECTING]++;
    list_push(&pool->connecting, &backend->link);
    pool_touch(pool);
    return backend;
}

/* The server's conninfo as the operator wrote it; what follows overrides it. */
static PGconn *backend_connect_start(const Pool *pool)
{
    char user_timeout[16];
    snprintf(user_timeout, sizeof(user_timeout), "%u", pool->set->limits.tcp_user_timeout_ms);
    const char *const keywords[] = {"tcp_user_timeout", "dbname",           "user",       "dbname",
                                    "password",         "application_name", "gssencmode", NULL};
    const char *const values[] = {user_timeout,   pool->server.conninfo,
                                  pool->user,     pool->dbname,
                                  pool->password, "shoal",
                                  "disable",      NULL};
    return PQconnectStartParams(keywords, values, 1);
}

/* libpq may use another socket after each poll (several hosts, several addresses). */
static void backend_watch(Backend *backend, PostgresPollingStatusType status)
{
    struct ev_loop *ev = backend->pool->set->loop->ev;
    ev_io_stop(ev, &backend->connecting);
    ev_io_set(&backend->connecting, PQsocket(backend->conn),
              status == PGRES_POLLING_READING ? EV_READ : EV_WRITE);
    ev_io_start(ev, &backend->connecting);
}

static void backend_on_connecting(struct ev_loop *ev, ev_io *watcher, int revents)
{
    Backend *backend = watcher->data;
    ev_io_stop(ev, watcher);
    if (backend->asking) {
        backend_on_identity(backend);
        return;
    }
    PostgresPollingStatusType status = PQconnectPoll(backend->conn);
    if (status == PGRES_POLLING_OK)
        backend_ask_identity(backend);
    else if (status == PGRES_POLLING_FAILED)
        backend_connect_failed(backend, PQerrorMessage(backend->conn));
    else
        backend_watch(backend, status);
}

static void backend_on_connect_timeout(Timer *timer)
{
    Backend *backend = timer->ctx;
    char why[64];
    snprintf(why, sizeof(why), "no connection within %u ms",
             backend->pool->set->limits.connect_timeout_ms);
    backend_connect_failed(backend, why);
}

/* Before the socket becomes ours: one question through libpq, where who is behind an address matters. */
static void backend_ask_identity(Backend *backend)
{
    if (!pool_identity(backend->pool).watched) {
        backend_on_connected(backend);
    } else if (!PQsendQuery(backend->conn, IDENTITY_SQL)) {
        backend_connect_failed(backend, PQerrorMessage(backend->conn));
    } else {
        backend->asking = true;
        backend_watch(backend, PGRES_POLLING_READING);
    }
}

static void backend_on_identity(Backend *backend)
{
    ServerIdentity expected = pool_identity(backend->pool);
    char why[200];
    if (!PQconsumeInput(backend->conn)) {
        backend_connect_failed(backend, PQerrorMessage(backend->conn));
        return;
    }
    if (PQisBusy(backend->conn)) {
        backend_watch(backend, PGRES_POLLING_READING);
        return;
    }
    PGresult *answer = PQgetResult(backend->conn);
    bool right = identity_check(&expected, answer, why);
    for (; answer; answer = PQgetResult(backend->conn)) /* the last one is there already */
        PQclear(answer);
    backend->asking = false;
    if (right)
        backend_on_connected(backend);
    else
        backend_connect_failed(backend, why);
}

static void backend_on_connected(Backend *backend)
{
    Pool *pool = backend->pool;
    const PoolLimits *limits = &pool->set->limits;
    int fd = PQsocket(backend->conn);
    SSL *ssl = PQsslStruct(backend->conn, "OpenSSL");
    timer_stop(&backend->connect_timer);
    if (PQsetnonblocking(backend->conn, 1) != 0) {
        backend_connect_failed(backend, PQerrorMessage(backend->conn));
        return;
    }
    socket_tune(fd, limits->tcp_user_timeout_ms);
    stream_open(&backend->stream, fd, false);
    backend->stream.held = backend->pool->doubted;
    if (ssl)
        stream_adopt_tls(&backend->stream, ssl);
    backend->server_pid = PQbackendPID(backend->conn);
    for (size_t i = 0; i < PARAMETERS_MAX; i++) {
        const char *value = PQparameterStatus(backend->conn, PARAMETER_NAMES[i]);
        if (value)
            backend_learn_parameter(backend, slice_str(PARAMETER_NAMES[i]), slice_str(value));
    }
    backend->connected_us = pool->set->loop->now_us;
    if (limits->lifetime_ms) { /* 20 % more or less, so that they do not all go at once (H32) */
        uint64_t lifetime_us = (uint64_t)limits->lifetime_ms * 1000;
        uint64_t jitter_us = lifetime_us * 4 / 10 * ((uint64_t)random() % 1000) / 1000;
        backend->expires_us = backend->connected_us + lifetime_us * 8 / 10 + jitter_us;
    }
    log_line(LOG_DEBUG, backend->who, "connected, pid %d%s", backend->server_pid,
             ssl ? ", TLS" : "");
    backend_move(backend, BACKEND_IDLE);
    pool_on_connected(pool, backend);
}

/* What a server says before the login is for the log, not for clients (H88). */
static void backend_connect_failed(Backend *backend, const char *why)
{
    const ServerConfig *server = &backend->pool->server;
    Error err;
    error_set(&err, SQLSTATE_CANNOT_CONNECT, "could not connect to server %s", server->name);
    error_detail(&err, "%s port %d did not accept a connection to database \"%s\" as user \"%s\".",
                 server->host ? server->host : "(no host)", server->port, backend->pool->dbname,
                 backend->pool->user);
    error_hint(&err, "Shoal's log has the reason. The next attempt is made within a second.");
    size_t len = strcspn(why, "\n");
    log_line(LOG_WARNING, backend->who, "could not connect: %.*s", (int)len, why);
    backend_close(backend);
    pool_on_connect_failed(backend->pool, &err);
}

static void backend_ignore_notice(void *arg, const PGresult *result) {}

/* ---- what next ------------------------------------------------------------------------------ */

static void backend_clean(Backend *backend);
static void backend_settings_made(Backend *backend);

void backend_take(Backend *backend, Task *task)
{
    task_move(task, TASK_INFLIGHT);
    task->backend = backend;
    task->sent = task->answered = false;
    list_push(&backend->inflight, &task->link);
}

void backend_run(Backend *backend, Task *task)
{
    assert(backend->state != BACKEND_DEAD && backend->state != BACKEND_IDLE);
    assert(backend->holder && backend->holder == task->holder);
    task->queued_us = backend->pool->set->loop->now_us;
    backend_take(backend, task);
    if (backend->state == BACKEND_HELD)
        backend_settle(backend);
}

void backend_settle(Backend *backend)
{
    if (backend->state == BACKEND_DEAD || backend->state == BACKEND_CONNECTING || backend->task ||
        backend->errand != ERRAND_NONE || backend->draining)
        return;
    if (backend->cancel || backend->cancel_landing) {
        if (backend->state != BACKEND_CANCELLING)
            backend->alone_since_us = backend->pool->set->loop->now_us;
        if (backend->state == BACKEND_IDLE)
            return; /* cannot be: an idle connection has no request under way */
        backend_move(backend, BACKEND_CANCELLING);
        if (!backend->cancel)
            steps_errand(backend, ERRAND_LANDING, NULL);
    } else if (!list_empty(&backend->inflight)) {
        backend_move(backend, BACKEND_BUSY);
        conversation_begin(backend);
    } else if (backend->holder) {
        backend_move(backend, BACKEND_HELD);
    } else if (backend->state != BACKEND_IDLE) {
        backend_clean(backend);
    }
}

/* Nobody holds it: back to the pool, in the state a new connection has. */
static void backend_clean(Backend *backend)
{
    const Pool *pool = backend->pool;
    if (backend->generation != pool->generation || pool->gone) {
        backend_close(backend);
    } else if (backend->tx_status != TX_IDLE) {
        backend->dirty |= backend->gucs_touched; /* SET is undone by ROLLBACK: to what, who knows */
        backend_move(backend, BACKEND_BUSY);
        steps_errand(backend, ERRAND_ROLLBACK, "ROLLBACK");
    } else if (backend->dirty) {
        backend_move(backend, BACKEND_BUSY);
        steps_errand(backend, ERRAND_DISCARD, "DISCARD ALL");
    } else if (backend->expires_us && backend->expires_us < pool->set->loop->now_us) {
        backend_close(backend);
    } else {
        backend_move(backend, BACKEND_IDLE);
    }
}

void backend_errand_done(Backend *backend)
{
    Errand errand = backend->errand;
    backend->errand = ERRAND_NONE;
    switch (errand) {
    case ERRAND_SETTINGS:
        backend_settings_made(backend);
        break;
    case ERRAND_ROLLBACK:
    case ERRAND_DISCARD:
        if (backend->errand_failed || backend->tx_status != TX_IDLE) {
            backend_close(backend);
            return;
        }
        if (errand == ERRAND_DISCARD) {
            known_clear(&backend->known);
            backend_set_gucs(backend, NULL);
            backend->dirty = false;
        }
        break;
    case ERRAND_LANDING:
        backend->cancel_landing = false;
        break;
    case ERRAND_NONE:
        assert(!"a Z of nobody's errand");
        break;
    }
    backend->last_error.sqlstate[0] = '\0';
    backend_settle(backend);
}

/* Our SET has run into a timeout that the session of before had asked for. It is not this one's business. */
static bool settings_try_again(Backend *backend)
{
    Task *task = backend->task;
    if (!task || task->cancelled || !error_is(&backend->last_error, SQLSTATE_QUERY_CANCELED) ||
        backend->settings_tries++ >= SETTINGS_TRIES_MAX)
        return false;
    backend->task = NULL;
    conversation_begin(backend);
    return true;
}

/* The session looks as the task wants it: now its steps go out. Or it could not be had. */
static void backend_settings_made(Backend *backend)
{
    Task *task = backend->task;
    GucVector *made = backend->gucs_next;
    Error err;
    backend->gucs_next = NULL;
    if (!backend->errand_failed)
        backend_set_gucs(backend, made);
    guc_release(backend->pool->set->gucs, made);
    if (task && !backend->errand_failed && !task->cancelled) {
        Stream *stream = &backend->stream;
        backend->sent_mark = stream->bytes_out + buf_len(&stream->out);
        buf_append(&stream->out, buf_bytes(&backend->behind));
        buf_reset(&backend->behind);
        buf_trim(&backend->behind);
        backend->out = &stream->out;
        task->sent = true;
        stream_touch(stream);
        backend->settings_tries = 0;
        return;
    }
    conversation_forget_behind(backend);
    backend->draining = false;
    if (settings_try_again(backend))
        return;
    backend->settings_tries = 0;
    if (!task)
        return;
    if (task->cancelled) {
        error_set(&err, SQLSTATE_QUERY_CANCELED, "canceling statement due to user request");
    } else {
        err = backend->last_error;
        error_hint(&err, "Shoal could not bring server %s to this session's settings.",
                   backend->pool->server.name);
    }
    conversation_refuse(backend, &err, false);
}

void task_hold(Task *task)
{
    assert(task->state == TASK_DONE && task->backend && task->holder);
    assert(!task->backend->task && task->backend->state == BACKEND_BUSY);
    task->backend->holder = task->holder;
}

void backend_release(Backend *backend, bool session_state_left)
{
    assert(backend->state != BACKEND_IDLE && backend->state != BACKEND_CONNECTING);
    assert(list_empty(&backend->inflight)); /* over or abandoned */
    backend->holder = NULL;
    backend->dirty |= session_state_left;
    stream_resume(&backend->stream);
    backend_settle(backend);
}

void backend_give(Backend *backend, void *holder)
{
    assert(backend->holder && !backend->task && list_empty(&backend->inflight));
    backend->holder = holder;
}

GucVector *backend_gucs(const Backend *backend)
{
    return backend->gucs;
}

void backend_set_gucs(Backend *backend, GucVector *gucs)
{
    if (backend->gucs == gucs)
        return;
    guc_release(backend->pool->set->gucs, backend->gucs);
    backend->gucs = guc_retain(gucs);
    backend->gucs_touched |= backend->tx_status != TX_IDLE;
}

/* ---- feeding -------------------------------------------------------------------------------- */

static void task_keep_steps(Task *task, const TaskStep *steps, uint32_t count);

void backend_feed(Task *task, const TaskStep *steps, uint32_t count)
{
    if (task->state == TASK_DONE || count == 0)
        return;
    assert(task->open);
    TaskOp last = steps[count - 1].op;
    task->open = last != TASK_SYNC && last != TASK_QUERY && last != TASK_FUNCTION;
    if (task->state == TASK_INFLIGHT && task->backend->task == task)
        steps_write(task->backend, task, steps, count);
    else
        task_keep_steps(task, steps, count);
}

/* Not at work yet: the steps wait with it. A rare thing, so it may cost an allocation. */
static void task_keep_steps(Task *task, const TaskStep *steps, uint32_t count)
{
    TaskStep *fed = realloc(task->fed, sizeof(*fed) * (task->fed_count + count));
    if (!fed) {
        task->feed_failed = true;
        return;
    }
    memcpy(fed + task->fed_count, steps, sizeof(*fed) * count);
    task->fed = fed;
    task->fed_count += count;
}

bool backend_feed_copy(Task *task, Slice frames)
{
    Backend *backend = task->backend;
    if (task->state != TASK_INFLIGHT || backend->task != task)
        return true;
    TaskStep step = {.op = TASK_RAW, .frame = frames};
    steps_write(backend, task, &step, 1);
    return !stream_choked(&backend->stream);
}

void backend_pause(Backend *backend)
{
    stream_pause(&backend->stream);
}

void backend_resume(Backend *backend)
{
    stream_resume(&backend->stream);
}

/* ---- the end -------------------------------------------------------------------------------- */

static void backend_die(Backend *backend);
static void backend_describe_loss(const Backend *backend, const Error *cause, Error *ret);
static bool backend_has_sent(const Backend *backend);

void backend_lose(Backend *backend, const Error *cause)
{
    PoolSet *set = backend->pool->set;
    bool concerned = backend->state != BACKEND_IDLE;
    bool sent = backend_has_sent(backend);
    Error err;
    if (cause)
        backend->last_error = *cause;
    backend_describe_loss(backend, cause, &err);
    log_line(concerned || cause ? LOG_WARNING : LOG_INFO, backend->who, "lost: %s", err.detail);
    counter_add(&backend->pool->stats.losses, 1);
    backend->pool->unsure = true;
    backend_die(backend);
    bool tasks = !list_empty(&backend->inflight);
    while (!list_empty(&backend->inflight)) {
        Task *first = list_entry(list_first(&backend->inflight), Task, link);
        conversation_refuse(backend, &err, backend->task == first && sent);
        backend->task = NULL;
    }
    if (backend->holder && !tasks && set->events.on_held_message)
        set->events.on_held_message(backend->holder, backend, NULL);
}

/* Bytes of the task at work have left for the server. */
static bool backend_has_sent(const Backend *backend)
{
    return backend->task && backend->task->sent && backend->stream.bytes_out > backend->sent_mark;
}

static void backend_describe_loss(const Backend *backend, const Error *cause, Error *ret)
{
    const ServerConfig *server = &backend->pool->server;
    const Error *last = &backend->last_error;
    bool limit = cause && error_is(cause, SQLSTATE_LIMIT_EXCEEDED);
    if (limit)
        error_set(ret, SQLSTATE_LIMIT_EXCEEDED, "too much data from or for server %s",
                  server->name);
    else
        error_set(ret, SQLSTATE_CONNECTION_FAILURE, "connection to server %s lost", server->name);
    if (last->sqlstate[0])
        error_detail(ret, "%s port %d: %s (%s)", server->host ? server->host : "(no host)",
                     server->port, last->message, last->sqlstate);
    else
        error_detail(ret, "%s port %d closed the connection.",
                     server->host ? server->host : "(no host)", server->port);
    if (limit && last->hint[0])
        error_hint(ret, "%s", last->hint);
    else
        error_hint(ret, "Run the statement again; Shoal opens another connection as soon as the "
                        "server accepts one.");
}

void backend_close(Backend *backend)
{
    assert(list_empty(&backend->inflight) && !backend->task);
    if (backend->state != BACKEND_DEAD)
        backend_die(backend);
}

/* Nothing is freed here: we may be inside a callback of its stream. */
static void backend_die(Backend *backend)
{
    timer_stop(&backend->connect_timer);
    ev_io_stop(backend->pool->set->loop->ev, &backend->connecting);
    backend_count_bytes(backend);
    stream_close(&backend->stream);
    list_remove(&backend->attention);
    if (backend->cancel)
        backend->cancel->backend = NULL;
    backend->cancel = NULL;
    backend_move(backend, BACKEND_DEAD);
}

void backend_free(Backend *backend)
{
    assert(backend->state == BACKEND_DEAD && list_empty(&backend->inflight));
    GucSet *gucs = backend->pool->set->gucs;
    list_remove(&backend->link);
    backend->pool->counts[BACKEND_DEAD]--;
    PQfinish(backend->conn);
    expect_finish(&backend->owed);
    known_finish(&backend->known);
    row_types_finish(&backend->row);
    guc_release(gucs, backend->gucs);
    guc_release(gucs, backend->gucs_next);
    buf_finish(&backend->behind);
    buf_finish(&backend->stream.in);
    for (size_t i = 0; i < PARAMETERS_MAX; i++)
        free(backend->parameters[i]);
    free(backend);
}

/* ---- what others may know ------------------------------------------------------------------- */

bool backend_stale(Backend *backend)
{
    uint8_t byte;
    ssize_t n = recv(backend->stream.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n > 0) /* TLS has records of its own, session tickets */
        return backend->stream.ssl == NULL;
    return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

void backend_learn_parameter(Backend *backend, Slice name, Slice value)
{
    for (size_t i = 0; i < PARAMETERS_MAX; i++) {
        if (!slice_is(name, PARAMETER_NAMES[i]))
            continue;
        char *copy = malloc(value.len + 1);
        if (!copy)
            return;
        memcpy(copy, value.data, value.len);
        copy[value.len] = '\0';
        free(backend->parameters[i]);
        backend->parameters[i] = copy;
    }
}

void backend_count_bytes(Backend *backend)
{
    PoolStats *stats = &backend->pool->stats;
    counter_add(&stats->bytes_in, backend->stream.bytes_in - backend->counted_in);
    counter_add(&stats->bytes_out, backend->stream.bytes_out - backend->counted_out);
    backend->counted_in = backend->stream.bytes_in;
    backend->counted_out = backend->stream.bytes_out;
}

const char *backend_parameter(const Backend *backend, const char *name)
{
    for (size_t i = 0; i < PARAMETERS_MAX; i++)
        if (strcmp(name, PARAMETER_NAMES[i]) == 0)
            return backend->parameters[i];
    return NULL;
}

const char *backend_state_name(BackendState state)
{
    return fsm_name(&BACKEND_FSM, (int)state);
}
uint64_t backend_id(const Backend *backend)
{
    return backend->id;
}
BackendState backend_state(const Backend *backend)
{
    return (BackendState)backend->state;
}
Pool *backend_pool(const Backend *backend)
{
    return backend->pool;
}
int backend_server_pid(const Backend *backend)
{
    return backend->server_pid;
}
void *backend_owner(const Backend *backend)
{
    return backend->task ? backend->task->holder : backend->holder;
}

char backend_tx_status(const Backend *backend)
{
    return backend->tx_status;
}
uint64_t backend_connected_us(const Backend *backend)
{
    return backend->connected_us;
}
const Error *backend_last_error(const Backend *backend)
{
    return &backend->last_error;
}
