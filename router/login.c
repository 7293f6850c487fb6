/*
 * login.c - who is there, may they come in, and what does the session start with.
 *
 * An unknown user, or one without a password, goes through the same motions as a wrong password
 * (H93). Settings of the startup message are applied to a server connection as SET, so that a wrong
 * one is refused in PostgreSQL's own words; what they report back becomes a greeting (greeting.c), and
 * later logins with the same settings need no server.
 */
#include "router/login.h"

#include <stdio.h>
#include <stdlib.h>

#include "router/cancel.h"
#include "router/greeting.h"
#include "router/scram.h"
#include "router/start_settings.h"
#include "router/worker_state.h"
#include "wire/backend.h"

typedef enum LoginPhase { LOGIN_FIRST, LOGIN_SASL_FIRST, LOGIN_SASL_FINAL, LOGIN_WARM, LOGIN_CHECK } LoginPhase;

struct Login {
    Session *session;
    LoginPhase phase;
    bool ssl_asked, gss_asked;
    bool sasl_delayed; /* the mechanism was chosen without its first message */
    Arena arena;
    StartupPacket startup; /* its Slices copied into the arena */
    const UserConfig *user;
    Scram scram;
    bool scram_started;
    Timer timeout;
    Pool *pool;
    PoolWaiter waiter;
    bool waiting;
    Sink sink;
    Task task;
    TaskStep steps[2];
    bool task_active;
    Error failure;
    bool failed;
    Buf statuses; /* ParameterStatus messages that the settings caused */
};

static void login_warm(Login *login);

static void refuse(Login *login, const Error *err)
{
    counter_add(&login->session->worker->stats.refused, 1);
    session_fatal(login->session, err);
}

static void refuse_with(Login *login, const char *sqlstate, const char *message)
{
    Error err;
    error_set(&err, sqlstate, "%s", message);
    refuse(login, &err);
}

/* ---- life -------------------------------------------------------------------------------------------- */

static void login_on_timeout(Timer *timer)
{
    Login *login = timer->ctx;
    session_kill(login->session); /* nothing is said, nothing is logged: nobody may be there */
}

bool login_begin(Session *session)
{
    Login *login = calloc(1, sizeof *login);
    if (!login)
        return false;
    login->session = session;
    arena_init(&login->arena, 1024);
    buf_init(&login->statuses, 65536);
    list_init(&login->waiter.link);
    timer_init(&login->timeout, &session->worker->loop, login_on_timeout, login);
    timer_start_ms(&login->timeout, worker_config(session->worker)->login_timeout_ms);
    session->login = login;
    return true;
}

void login_finish(Session *session)
{
    Login *login = session->login;
    if (!login)
        return;
    session->login = NULL;
    timer_stop(&login->timeout);
    if (login->waiting)
        pool_warm_cancel(&login->waiter);
    if (login->task_active)
        task_abandon(&login->task);
    if (login->scram_started)
        scram_finish(&login->scram);
    arena_finish(&login->arena);
    buf_finish(&login->statuses);
    free(login);
}

static void welcome(Login *login, Slice frames)
{
    Session *session = login->session;
    session_activate(session, frames);
    login_finish(session);
}

static void greet(Login *login, Slice frames)
{
    if (frames.len)
        welcome(login, frames);
    else
        refuse_with(login, SQLSTATE_OUT_OF_MEMORY, "out of memory");
}

/* ---- CHECK: the settings on a server ------------------------------------------------------------------------- */

static void check_on_frame(Sink *sink, Task *task, const Frame *frame)
{
    Login *login = container_of(sink, Login, sink);
    ErrorResponse response;
    Error err;
    (void)task;
    if (frame->type == BACKEND_PARAMETER_STATUS) {
        buf_append(&login->statuses, frame->whole);
    } else if (frame->type == BACKEND_ERROR && !login->failed &&
               backend_read_error(frame->body, &response, &err) == WIRE_OK) {
        login->failed = true;
        error_response_copy(&response, &login->failure);
    }
}

static void check_on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    Login *login = container_of(sink, Login, sink);
    (void)tx_status;
    if (!last)
        return;
    login->task_active = false;
    if (login->session->state != SESSION_LOGIN)
        return;
    if (login->failed) {
        refuse(login, &login->failure);
        return;
    }
    backend_set_gucs(task->backend, login->session->gucs_base);
    greet(login, greeting_make(login->session->worker, login->pool, login->session->gucs_base,
                               buf_bytes(&login->statuses)));
}

static void check_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    Login *login = container_of(sink, Login, sink);
    (void)task;
    (void)maybe_executed;
    login->task_active = false;
    refuse(login, err);
}

static const SinkOps CHECK_OPS = {check_on_frame, check_on_ready, check_on_lost};

/* One Query with all SETs: a single transaction, so that a wrong one leaves nothing behind. */
static bool start_check(Login *login)
{
    Buf sql, frame;
    buf_init(&sql, 65536);
    buf_init(&frame, 131072);
    bool ok = guc_transition(NULL, login->session->gucs_base, &sql);
    frontend_put_query(&frame, buf_bytes(&sql));
    Slice bytes = ok && !sql.failed && !frame.failed ? arena_dup(&login->arena, buf_bytes(&frame))
                                                     : (Slice){0};
    buf_finish(&sql);
    buf_finish(&frame);
    if (!bytes.len)
        return false;
    login->phase = LOGIN_CHECK;
    login->sink.ops = &CHECK_OPS;
    login->steps[0] = (TaskStep){.op = TASK_QUERY, .frame = bytes};
    task_init(&login->task, &login->sink, login->steps, 1);
    login->task_active = true;
    pool_submit(login->pool, &login->task);
    return true;
}

static void on_warm(PoolWaiter *waiter, Pool *pool, const Error *err)
{
    Login *login = container_of(waiter, Login, waiter);
    (void)pool;
    login->waiting = false;
    if (login->session->state != SESSION_LOGIN)
        return;
    if (err) {
        refuse(login, err);
        return;
    }
    Worker *worker = login->session->worker;
    GucVector *gucs = login->session->gucs_base;
    Slice known = greeting_find(worker, login->pool, gucs);
    if (known.len)
        welcome(login, known);
    else if (!gucs)
        greet(login, greeting_make(worker, login->pool, NULL, (Slice){0}));
    else if (!start_check(login))
        refuse_with(login, SQLSTATE_OUT_OF_MEMORY, "out of memory");
}

static void login_warm(Login *login)
{
    Session *session = login->session;
    Worker *worker = session->worker;
    const Config *config = worker_config(worker);
    const DatabaseConfig *database = session_database(session, worker->topology);
    const Topology *topology = worker->topology;
    const ServerConfig *primary = topology_primary(topology, database->shards[0]);
    uint32_t leaving = topology->leaving[database->shards[0]];
    if (!primary && leaving != NO_PRIMARY)
        primary = config->servers[leaving]; /* a login reads */
    login->phase = LOGIN_WARM;
    login->pool = pool_get(worker->pools, primary ? primary : config->shards[database->shards[0]].primary, database,
                           login->user, slice_str(session->user));
    if (!login->pool) {
        refuse_with(login, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return;
    }
    login->waiter.on_warm = on_warm;
    login->waiting = true;
    pool_warm(login->pool, &login->waiter);
}

/* ---- after authentication ----------------------------------------------------------------------------------------- */

static void welcome_console(Login *login)
{
    static const char *const STATUS[][2] = {
        {"client_encoding", "UTF8"},   {"DateStyle", "ISO, MDY"}, {"integer_datetimes", "on"},
        {"server_encoding", "UTF8"},   {"server_version", "15.0 (Shoal " SHOAL_VERSION ")"},
        {"standard_conforming_strings", "on"}, {"TimeZone", "UTC"},
    };
    Session *session = login->session;
    Buf frames;
    GucVector *none = session->gucs_base; /* settings mean nothing to the console */
    session->gucs_base = NULL;
    guc_release(&session->worker->gucs, none);
    buf_init(&frames, 4096);
    for (size_t i = 0; i < ARRAY_LEN(STATUS); i++)
        backend_put_parameter_status(&frames, slice_str(STATUS[i][0]), slice_str(STATUS[i][1]));
    welcome(login, buf_bytes(&frames));
    buf_finish(&frames);
}

/* With trust and no [user] sections everybody may do everything, as trust says. */
static void take_rights(Login *login)
{
    Session *session = login->session;
    const Config *config = worker_config(session->worker);
    bool open = config->auth == AUTH_TRUST && config->user_count == 0;
    session->admin = open || (login->user && login->user->admin);
    session->monitor = session->admin || (login->user && login->user->monitor);
}

static void authenticated(Login *login)
{
    Session *session = login->session;
    const Config *config = worker_config(session->worker);
    backend_put_authentication(&session->stream.out, AUTH_OK, (Slice){0});
    stream_touch(&session->stream);
    take_rights(login);
    session->console = slice_is(login->startup.database, "shoal");
    if (session->console && !session->monitor) {
        refuse_with(login, SQLSTATE_NO_PRIVILEGE, "permission denied for the console");
        return;
    }
    const DatabaseConfig *database = config_database(config, login->startup.database);
    Error err;
    if (!session->console && !database) {
        error_set(&err, SQLSTATE_INVALID_DATABASE, "database \"%.*s\" does not exist",
                  SLICE_FMT(login->startup.database));
        refuse(login, &err);
        return;
    }
    session->database_index = database ? database->index : 0;
    if (session->console)
        welcome_console(login);
    else if (!start_settings_take(session, &login->startup, &login->arena, &err))
        refuse(login, &err);
    else
        login_warm(login);
}

/* ---- SASL ------------------------------------------------------------------------------------------------------------ */

static void ask_for_password(Login *login)
{
    static const Slice MECHANISMS[] = {{(const uint8_t *)"SCRAM-SHA-256", 13}};
    scram_init(&login->scram, login->user ? login->user->verifier : NULL, login->startup.user);
    login->scram_started = true;
    backend_put_auth_sasl(&login->session->stream.out, MECHANISMS, 1);
    stream_touch(&login->session->stream);
    login->phase = LOGIN_SASL_FIRST;
}

static bool sasl_answer(Login *login, uint32_t code, Buf *answer)
{
    backend_put_authentication(&login->session->stream.out, code, buf_bytes(answer));
    stream_touch(&login->session->stream);
    buf_finish(answer);
    return true;
}

static bool sasl_first(Login *login, Slice body, Error *err)
{
    SaslInitial initial;
    Buf answer;
    if (frontend_read_sasl_initial(body, &initial, err) != WIRE_OK)
        return false;
    if (!slice_is(initial.mechanism, "SCRAM-SHA-256")) {
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION,
                  "client selected an invalid SASL authentication mechanism");
        return false;
    }
    if (!initial.has_response) { /* the mechanism's first message comes on its own */
        backend_put_authentication(&login->session->stream.out, AUTH_SASL_CONTINUE, (Slice){0});
        stream_touch(&login->session->stream);
        login->sasl_delayed = true;
        return true;
    }
    buf_init(&answer, 4096);
    if (!scram_first(&login->scram, initial.response, login->session->tls, &answer, err)) {
        buf_finish(&answer);
        return false;
    }
    login->phase = LOGIN_SASL_FINAL;
    return sasl_answer(login, AUTH_SASL_CONTINUE, &answer);
}

static bool sasl_delayed_first(Login *login, Slice body, Error *err)
{
    Buf answer;
    buf_init(&answer, 4096);
    if (!scram_first(&login->scram, body, login->session->tls, &answer, err)) {
        buf_finish(&answer);
        return false;
    }
    login->phase = LOGIN_SASL_FINAL;
    return sasl_answer(login, AUTH_SASL_CONTINUE, &answer);
}

static bool sasl_final(Login *login, Slice body, Error *err)
{
    Buf answer;
    buf_init(&answer, 4096);
    if (!scram_final(&login->scram, body, &answer, err)) {
        buf_finish(&answer);
        if (error_is(err, SQLSTATE_INVALID_PASSWORD))
            error_set(err, SQLSTATE_INVALID_PASSWORD,
                      "password authentication failed for user \"%.*s\"",
                      SLICE_FMT(login->startup.user));
        return false;
    }
    sasl_answer(login, AUTH_SASL_FINAL, &answer);
    authenticated(login);
    return true;
}

static void run_sasl(Login *login, Slice body)
{
    Error err;
    bool ok = login->phase == LOGIN_SASL_FINAL ? sasl_final(login, body, &err)
              : login->sasl_delayed            ? sasl_delayed_first(login, body, &err)
                                               : sasl_first(login, body, &err);
    if (!ok)
        refuse(login, &err);
}

/* ---- FIRST ------------------------------------------------------------------------------------------------------------- */

static Slice keep(Login *login, Slice bytes)
{
    return bytes.len ? arena_dup(&login->arena, bytes) : (Slice){0};
}

static StartupParam *keep_params(Login *login, const StartupParam *params, size_t count)
{
    StartupParam *copy = arena_array(&login->arena, StartupParam, count + 1);
    for (size_t i = 0; copy && i < count; i++)
        copy[i] = (StartupParam){keep(login, params[i].name), keep(login, params[i].value)};
    return copy;
}

/* The packet's Slices lie in the read buffer; the login outlives it. */
static void keep_startup(Login *login, const StartupPacket *packet)
{
    login->startup = *packet;
    login->startup.user = keep(login, packet->user);
    login->startup.database = keep(login, packet->database);
    login->startup.options = keep(login, packet->options);
    login->startup.params = keep_params(login, packet->params, packet->param_count);
    login->startup.extensions = NULL;
    login->startup.extension_count = 0;
}

static uint64_t clients_of_all(const Worker *worker)
{
    uint64_t clients = 0;
    for (uint32_t i = 0; i < worker->options.count; i++)
        clients += counter_get(&worker_stats(worker->options.all[i])->clients);
    return clients;
}

static void start_session(Login *login, const StartupPacket *packet)
{
    Session *session = login->session;
    const Config *config = worker_config(session->worker);
    keep_startup(login, packet);
    snprintf(session->user, sizeof session->user, "%.*s", SLICE_FMT(packet->user));
    snprintf(session->database, sizeof session->database, "%.*s", SLICE_FMT(packet->database));
    if (packet->replication != STARTUP_REPLICATION_OFF) {
        refuse_with(login, SQLSTATE_FEATURE_NOT_SUPPORTED,
                    "replication connections are not supported through Shoal");
        return;
    }
    if (config->tls_required && !session->tls) {
        refuse_with(login, SQLSTATE_INVALID_AUTHORIZATION, "TLS is required");
        return;
    }
    if (clients_of_all(session->worker) > config->client_max) {
        refuse_with(login, SQLSTATE_TOO_MANY_CONNECTIONS, "sorry, too many clients already");
        return;
    }
    if (startup_must_negotiate(packet))
        startup_put_negotiate(&session->stream.out, packet);
    login->user = config_user(config, login->startup.user);
    if (config->auth == AUTH_TRUST)
        authenticated(login);
    else
        ask_for_password(login);
}

/* Bytes that came in the clear before the handshake must never be used afterwards (H83). */
static bool stuffed(Login *login)
{
    if (buf_len(&login->session->stream.in) == 0)
        return false;
    Error err;
    error_set(&err, SQLSTATE_PROTOCOL_VIOLATION,
              "received unencrypted data after SSL request");
    error_detail(&err, "This could be either a client-software bug or evidence of an attempted "
                       "man-in-the-middle attack.");
    refuse(login, &err);
    return true;
}

static void answer_ssl(Login *login)
{
    Session *session = login->session;
    SSL_CTX *tls = session->worker->options.tls;
    Error err;
    if (login->ssl_asked || session->tls) {
        refuse_with(login, SQLSTATE_FEATURE_NOT_SUPPORTED, "unsupported frontend protocol 1234.5679: server supports 3.0 to 3.0");
        return;
    }
    login->ssl_asked = true;
    stream_write(&session->stream, tls ? SLICE("S") : SLICE("N"));
    if (stuffed(login) || !tls)
        return;
    session->tls = true;
    if (!stream_accept_tls(&session->stream, tls, &err))
        refuse(login, &err);
}

static void answer_gss(Login *login)
{
    if (login->gss_asked) {
        refuse_with(login, SQLSTATE_FEATURE_NOT_SUPPORTED, "unsupported frontend protocol 1234.5680: server supports 3.0 to 3.0");
        return;
    }
    login->gss_asked = true;
    stream_write(&login->session->stream, SLICE("N"));
    stuffed(login);
}

static void run_first(Login *login, const StartupPacket *packet)
{
    Session *session = login->session;
    switch (packet->kind) {
    case STARTUP_SSL_REQUEST:
        answer_ssl(login);
        break;
    case STARTUP_GSS_REQUEST:
        answer_gss(login);
        break;
    case STARTUP_CANCEL:
        cancel_route(session->worker, packet->cancel_pid, packet->cancel_key);
        session_kill(session);
        break;
    case STARTUP_MESSAGE:
        start_session(login, packet);
        break;
    case STARTUP_HTTP:
        counter_add(&session->worker->stats.http_requests, 1);
        session_kill(session);
        break;
    default:
        counter_add(&session->worker->stats.bad_startups, 1);
        session_kill(session);
        break;
    }
}

static bool next_first(Login *login)
{
    Session *session = login->session;
    StartupPacket packet;
    Error err;
    switch (startup_next(buf_bytes(&session->stream.in), &packet, &login->arena, &err)) {
    case WIRE_MORE:
        return false;
    case WIRE_BAD:
        counter_add(&session->worker->stats.bad_startups, 1);
        refuse(login, &err);
        return false;
    case WIRE_OK:
        break;
    }
    /* The handshake looks at what is behind the request: take the request away before. */
    bool keeps = packet.kind == STARTUP_MESSAGE;
    if (!keeps)
        buf_consume(&session->stream.in, packet.whole.len);
    run_first(login, &packet);
    if (keeps && session->state != SESSION_DEAD)
        buf_consume(&session->stream.in, packet.whole.len);
    return packet.whole.len > 0;
}

static bool next_sasl(Login *login)
{
    Frame frame;
    Error err;
    Slice in = buf_bytes(&login->session->stream.in);
    switch (frame_next_auth(in, "SASL", &frame, &err)) {
    case WIRE_MORE:
        return false;
    case WIRE_BAD:
        refuse(login, &err);
        return false;
    case WIRE_OK:
        break;
    }
    Session *session = login->session;
    run_sasl(login, frame.body);
    buf_consume(&session->stream.in, frame.whole.len);
    return true;
}

void login_run(Session *session)
{
    bool going = true;
    while (going && session->login && session->state == SESSION_LOGIN) {
        Login *login = session->login;
        switch (login->phase) {
        case LOGIN_FIRST:
            going = next_first(login);
            break;
        case LOGIN_SASL_FIRST:
        case LOGIN_SASL_FINAL:
            going = next_sasl(login);
            break;
        default:
            going = false; /* what came early waits for the login to be done */
            break;
        }
    }
}
