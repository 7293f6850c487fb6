/*
 * http_state.h - an HTTP request from inside, for http*.c only.
 *
 *   state     list           enters by                          leaves by
 *   NEW       none           its headers are here               an answer, or its SHOWs are asked
 *   WAITING   http->waiting  http_ask; suspended                the last Call came back, refusal
 *   MADE      none           `response` is there                libmicrohttpd has sent it
 */
#ifndef SHOAL_ADMIN_HTTP_STATE_H
#define SHOAL_ADMIN_HTTP_STATE_H

#include <microhttpd.h>

#include "admin/command.h"
#include "admin/control_state.h"
#include "admin/http.h"
#include "admin/rowset.h"

#define HTTP_SHOWS_MAX 24 /* of one request */

typedef struct HttpRequest HttpRequest;

/* One SHOW of a request. */
typedef struct HttpShow {
    HttpRequest *request;
    const char *name; /* "batch_reasons" */
    Call *call;       /* under way; NULL: not asked, or back */
    Rowset rows;
    bool failed;
    Error err;
} HttpShow;

typedef enum HttpState { HTTP_NEW, HTTP_WAITING, HTTP_MADE } HttpState;

struct HttpRequest {
    List link;
    Http *http;
    struct MHD_Connection *connection;
    int state; /* HttpState */
    Arena arena;
    HttpShow shows[HTTP_SHOWS_MAX];
    size_t show_count, open_count;
    /* Makes `response` of the shows. */
    void (*finish)(HttpRequest *request);
    struct MHD_Response *response; /* owned until queued */
    unsigned status;
};

struct Http {
    Control *control;
    struct MHD_Daemon *daemon;
    ev_io io;
    Timer timer; /* libmicrohttpd's own timeouts */
    List waiting; /* HttpRequest.link */
    bool refusing;
};

typedef struct HttpRoute {
    const char *path; /* "/api/": everything below */
    bool open;        /* asks for no password */
    void (*run)(HttpRequest *request, const char *rest);
} HttpRoute;

/* http_listen.c */
int http_listen(const Config *config, Error *err) MUST_USE;
/* http_routes.c */
const HttpRoute *http_route_find(const char *path);

/* http.c: asks SHOW `name`; false when there is none that a monitor may use without arguments. */
bool http_ask(HttpRequest *request, const char *name) MUST_USE;
/* Answers with these bytes (copied). */
void http_answer(HttpRequest *request, unsigned status, const char *type, Slice body);
void http_answer_text(HttpRequest *request, unsigned status, const char *text);
/* The name under which a command is on /api ("batch_reasons"), or false: it is not. */
bool http_show_name(const Command *command, char ret_name[static 64]);

#endif
