/*
 * http.c - libmicrohttpd in the control loop, and the way of one request through it.
 *
 * The library has no thread here: its epoll descriptor is one watcher of the loop. A request that
 * needs SHOWs is suspended, its Calls travel as a session's would, and it goes on when the last one
 * is back. Nothing here can hold up the data path; a slow or silent HTTP client holds up nobody,
 * and is gone after HTTP_TIMEOUT_S.
 */
#include "admin/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/console.h"
#include "admin/http_state.h"
#include "admin/verdict.h"

#define HTTP_TIMEOUT_S       15
#define HTTP_CONNECTIONS_MAX 64
#define HTTP_HEADERS_MAX     ((size_t)16 * 1024) /* bytes per connection; 431 beyond */

static void http_run(Http *http);

/* ---- answers --------------------------------------------------------------------------------- */

static void add_headers(struct MHD_Response *response, const char *type)
{
    static const char *const HEADERS[][2] = {
        {"Cache-Control", "no-store"},
        {"X-Content-Type-Options", "nosniff"},
        {"X-Frame-Options", "DENY"},
        {"Referrer-Policy", "no-referrer"},
        {"Content-Security-Policy",
         "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
         "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
    };
    MHD_add_response_header(response, "Content-Type", type);
    for (size_t i = 0; i < ARRAY_LEN(HEADERS); i++)
        MHD_add_response_header(response, HEADERS[i][0], HEADERS[i][1]);
}

void http_answer(HttpRequest *request, unsigned status, const char *type, Slice body)
{
    assert(!request->response);
    request->state = HTTP_MADE;
    request->response = MHD_create_response_from_buffer(
        body.len, (void *)(uintptr_t)(body.len ? (const void *)body.data : ""), MHD_RESPMEM_MUST_COPY);
    if (!request->response)
        return; /* no memory: the connection is closed */
    add_headers(request->response, type);
    request->status = status;
}

void http_answer_text(HttpRequest *request, unsigned status, const char *text)
{
    char line[300];
    int len = snprintf(line, sizeof line, "%s\n", text);
    http_answer(request, status, "text/plain; charset=utf-8", slice_of(line, MIN((size_t)len, sizeof line - 1)));
}

/* ---- asking the console ---------------------------------------------------------------------- */

bool http_show_name(const Command *command, char ret_name[static 64])
{
    if (strncmp(command->words, "show ", 5) != 0 || command->right != COMMAND_FOR_MONITORS)
        return false;
    if (*command->arguments && *command->arguments != '[') /* it needs some */
        return false;
    snprintf(ret_name, 64, "%s", command->words + 5);
    for (char *c = ret_name; *c; c++)
        *c = *c == ' ' ? '_' : *c;
    return true;
}

static const Command *show_find(const char *name)
{
    size_t count;
    const Command *commands = console_commands(&count);
    for (size_t i = 0; i < count; i++) {
        char own[64];
        if (http_show_name(&commands[i], own) && strcmp(own, name) == 0)
            return &commands[i];
    }
    return NULL;
}

/* All of its answers are here: the request goes on inside libmicrohttpd, which has to be run for
 * that (its descriptor does not tell of a resumed connection). */
static void request_finish(HttpRequest *request)
{
    Http *http = request->http;
    list_remove(&request->link);
    request->state = HTTP_NEW;
    request->finish(request);
    MHD_resume_connection(request->connection);
    http_run(http);
}

static void show_on_reply(Mail *mail, void *owner)
{
    Call *call = container_of(mail, Call, mail);
    HttpShow *show = call->session;
    if (!show) { /* nobody waits any more */
        call_free(call);
        return;
    }
    HttpRequest *request = show->request;
    show->call = NULL;
    show->failed = !rowset_read(buf_bytes(&call->answer), &request->arena, &show->rows, &show->err);
    call_free(call);
    if (--request->open_count == 0)
        request_finish(request);
}

static Call *show_call(HttpShow *show, const Command *command)
{
    Call *call = call_create(CALL_CONSOLE);
    if (!call)
        return NULL;
    call->text = slice_str(command->words);
    call->database = "shoal";
    call->user = "http";
    call->monitor = true;
    call->reply = &show->request->http->control->inbox;
    call->on_reply = show_on_reply;
    call->session = show;
    return call;
}

bool http_ask(HttpRequest *request, const char *name)
{
    const Command *command = show_find(name);
    if (!command || request->show_count == HTTP_SHOWS_MAX)
        return false;
    HttpShow *show = &request->shows[request->show_count++];
    *show = (HttpShow){.request = request, .name = name};
    show->call = show_call(show, command);
    if (!show->call) {
        show->failed = true;
        error_set(&show->err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return true;
    }
    request->open_count++;
    if (request->state == HTTP_NEW) {
        request->state = HTTP_WAITING;
        list_push(&request->http->waiting, &request->link);
        MHD_suspend_connection(request->connection);
    }
    console_run(request->http->control, show->call); /* answers by mail, never at once */
    return true;
}

/* Calls that are under way come back to nobody. */
static void request_detach(HttpRequest *request)
{
    for (size_t i = 0; i < request->show_count; i++)
        if (request->shows[i].call) {
            request->shows[i].call->session = NULL;
            request->shows[i].call = NULL; /* freed when it is back, maybe before the request */
        }
    request->open_count = 0;
}

/* ---- one request ----------------------------------------------------------------------------- */

static bool password_fits(struct MHD_Connection *connection, const char *wanted)
{
    char *password = NULL;
    char *user = MHD_basic_auth_get_username_password(connection, &password);
    bool fits = password && slice_equal_secret(slice_str(password), slice_str(wanted));
    MHD_free(user);
    MHD_free(password);
    return fits;
}

/* "127.0.0.1:6480", "[::1]:6480", "localhost": nothing that a DNS server of somebody else's names. */
static bool host_is_address(const char *host)
{
    if (!host)
        return true; /* HTTP/1.0 */
    if (strncasecmp(host, "localhost", 9) == 0 && (host[9] == '\0' || host[9] == ':'))
        return true;
    return *host == '[' ? strspn(host, "[]0123456789abcdefABCDEF:.") == strlen(host)
                        : *host && strspn(host, "0123456789.:") == strlen(host);
}

static void ask_for_password(HttpRequest *request)
{
    http_answer_text(request, MHD_HTTP_UNAUTHORIZED, "the password is http_password of shards.ini");
    if (request->response)
        MHD_add_response_header(request->response, MHD_HTTP_HEADER_WWW_AUTHENTICATE,
                                "Basic realm=\"Shoal\", charset=\"UTF-8\"");
}

static bool is_read(const char *method)
{
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

static void request_run(HttpRequest *request, const char *method, const char *url)
{
    const Config *config = request->http->control->config;
    const HttpRoute *route = http_route_find(url);
    const char *host = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Host");
    if (!is_read(method)) {
        http_answer_text(request, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD");
        if (request->response)
            MHD_add_response_header(request->response, "Allow", "GET, HEAD");
    } else if (route && route->open) {
        route->run(request, url + strlen(route->path));
    } else if (config->http_password && !password_fits(request->connection, config->http_password)) {
        ask_for_password(request);
    } else if (!config->http_password && !host_is_address(host)) {
        http_answer_text(request, MHD_HTTP_FORBIDDEN,
                         "Host must be an address or localhost, or http_password be set");
    } else if (!route) {
        http_answer_text(request, MHD_HTTP_NOT_FOUND, "not found; / is the page, /api/index.json the list");
    } else if (request->http->refusing) {
        http_answer_text(request, MHD_HTTP_SERVICE_UNAVAILABLE, "Shoal is shutting down");
    } else {
        route->run(request, url + strlen(route->path));
    }
}

static HttpRequest *request_create(Http *http, struct MHD_Connection *connection)
{
    HttpRequest *request = calloc(1, sizeof *request);
    if (!request)
        return NULL;
    list_init(&request->link);
    arena_init(&request->arena, 8192);
    request->http = http;
    request->connection = connection;
    return request;
}

/* libmicrohttpd calls once when the headers are there (an answer now would end the connection: good
 * for what may have a body), again when the request is whole, and again when a suspended connection
 * was resumed. */
static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *upload,
                                 size_t *upload_size, void **context)
{
    HttpRequest *request = *context;
    if (!request) {
        *context = request = request_create(cls, connection);
        if (!request)
            return MHD_NO;
        if (is_read(method))
            return MHD_YES;
    }
    *upload_size = 0;
    if (request->state == HTTP_NEW)
        request_run(request, method, url);
    if (request->state == HTTP_WAITING)
        return MHD_YES;
    if (!request->response)
        return MHD_NO;
    enum MHD_Result result = MHD_queue_response(connection, request->status, request->response);
    MHD_destroy_response(request->response);
    request->response = NULL;
    return result;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode why)
{
    HttpRequest *request = *context;
    *context = NULL;
    if (!request)
        return;
    request_detach(request);
    list_remove(&request->link);
    if (request->response)
        MHD_destroy_response(request->response);
    arena_finish(&request->arena);
    free(request);
}

/* ---- the library in the loop ----------------------------------------------------------------- */

static void http_run(Http *http)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms;
    MHD_run(http->daemon);
    if (MHD_get_timeout(http->daemon, &timeout_ms) == MHD_YES)
        timer_start_ms(&http->timer, timeout_ms);
    else
        timer_stop(&http->timer);
}

static void on_ready(struct ev_loop *ev, ev_io *watcher, int revents)
{
    http_run(watcher->data);
}

static void on_time(Timer *timer)
{
    http_run(timer->ctx);
}

static struct MHD_Daemon *daemon_start(Http *http, int fd)
{
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_access,
                            http, MHD_OPTION_LISTEN_SOCKET, fd,
                            MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX,
                            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_TIMEOUT_S,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, HTTP_HEADERS_MAX,
                            MHD_OPTION_NOTIFY_COMPLETED, on_completed, http, MHD_OPTION_END);
}

Http *http_open(Control *control, Error *err)
{
    int fd = http_listen(control->config, err);
    if (fd < 0)
        return NULL;
    Http *http = calloc(1, sizeof *http);
    if (http) {
        http->control = control;
        list_init(&http->waiting);
        timer_init(&http->timer, &control->loop, on_time, http);
        http->daemon = daemon_start(http, fd);
    }
    const union MHD_DaemonInfo *info =
        http && http->daemon ? MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while starting HTTP");
        if (http && http->daemon)
            MHD_stop_daemon(http->daemon);
        else
            close(fd);
        free(http);
        return NULL;
    }
    ev_io_init(&http->io, on_ready, info->epoll_fd, EV_READ);
    http->io.data = http;
    ev_io_start(control->loop.ev, &http->io);
    http_run(http);
    return http;
}

void http_refuse(Http *http)
{
    if (!http)
        return;
    http->refusing = true;
    List *link;
    while ((link = list_pop(&http->waiting))) {
        HttpRequest *request = list_entry(link, HttpRequest, link);
        request_detach(request);
        http_answer_text(request, MHD_HTTP_SERVICE_UNAVAILABLE, "Shoal is shutting down");
        MHD_resume_connection(request->connection);
    }
    http_run(http);
}

void http_close(Http *http)
{
    if (!http)
        return;
    http_refuse(http); /* what was resumed must have gone on before the end */
    ev_io_stop(http->control->loop.ev, &http->io);
    timer_stop(&http->timer);
    MHD_stop_daemon(http->daemon);
    free(http);
}
