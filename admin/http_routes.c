/*
 * http_routes.c - what there is to get by HTTP: one row each, and how its answer is made of SHOWs.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "admin/console.h"
#include "admin/http_state.h"
#include "admin/metrics.h"
#include "admin/verdict.h"
#include "admin/web/web.h"
#include "core/clock.h"
#include "core/utf8.h"

#define METRICS_BYTES_MAX ((size_t)16 << 20)

/* ---- the page -------------------------------------------------------------------------------- */

static void run_page(HttpRequest *request, const char *rest)
{
    http_answer(request, 200, "text/html; charset=utf-8", slice_str(web_index_html));
}

static void run_script(HttpRequest *request, const char *rest)
{
    http_answer(request, 200, "text/javascript; charset=utf-8", slice_str(web_shoal_js));
}

static void run_style(HttpRequest *request, const char *rest)
{
    http_answer(request, 200, "text/css; charset=utf-8", slice_str(web_shoal_css));
}

static void run_icon(HttpRequest *request, const char *rest)
{
    http_answer(request, 200, "image/svg+xml", slice_str(web_shoal_svg));
}

/* ---- health ---------------------------------------------------------------------------------- */

static void run_live(HttpRequest *request, const char *rest)
{
    http_answer_text(request, 200, "live");
}

static void run_ready(HttpRequest *request, const char *rest)
{
    const char *why;
    bool ready = verdict_ready(request->http->control, &why);
    http_answer_text(request, ready ? 200 : 503, ready ? "ready" : why);
}

/* ---- metrics --------------------------------------------------------------------------------- */

static void finish_metrics(HttpRequest *request)
{
    const char *sources[HTTP_SHOWS_MAX];
    const Rowset *rows[HTTP_SHOWS_MAX];
    for (size_t i = 0; i < request->show_count; i++) {
        sources[i] = request->shows[i].name;
        rows[i] = request->shows[i].failed ? NULL : &request->shows[i].rows;
    }
    Buf out;
    buf_init(&out, METRICS_BYTES_MAX);
    metrics_write(&out, sources, rows, request->show_count);
    if (out.failed)
        http_answer_text(request, 500, "out of memory, or too many series");
    else
        http_answer(request, 200, "text/plain; version=0.0.4; charset=utf-8", buf_bytes(&out));
    buf_finish(&out);
}

/* Asks all SHOWs; when none is under way (no memory) the answer is made at once. */
static void ask_all(HttpRequest *request, const char *const *names, size_t count,
                    void (*finish)(HttpRequest *request))
{
    bool known = true;
    request->finish = finish;
    for (size_t i = 0; i < count && known; i++)
        known = http_ask(request, names[i]);
    if (request->open_count == 0)
        finish(request);
}

static void run_metrics(HttpRequest *request, const char *rest)
{
    const char *sources[HTTP_SHOWS_MAX];
    ask_all(request, sources, metrics_sources(sources, ARRAY_LEN(sources)), finish_metrics);
}

/* ---- /api ------------------------------------------------------------------------------------ */

/* What is no UTF-8 is shown as '?': names and statements are the clients' bytes. */
static json_t *json_text(const char *text)
{
    json_t *json = json_string(text);
    if (json)
        return json;
    char *copy = strdup(text);
    if (!copy)
        return NULL;
    for (size_t i = 0, len; copy[i]; i += len ? len : 1) {
        len = utf8_len((const uint8_t *)copy + i);
        if (!len)
            copy[i] = '?';
    }
    json = json_string(copy);
    free(copy);
    return json;
}

static json_t *json_cell(const Rowset *rows, uint32_t row, uint32_t column)
{
    const char *text = rowset_cell(rows, row, (int)column);
    if (!text)
        return json_null();
    return rows->columns[column].number ? json_integer(strtoll(text, NULL, 10)) : json_text(text);
}

static json_t *json_rows(const Rowset *rows)
{
    json_t *array = json_array();
    for (uint32_t r = 0; array && r < rows->row_count; r++) {
        json_t *object = json_object();
        for (uint32_t c = 0; c < rows->column_count; c++)
            json_object_set_new(object, rows->columns[c].name, json_cell(rows, r, c));
        if (json_array_append_new(array, object) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *json_columns(const Rowset *rows)
{
    json_t *array = json_array();
    for (uint32_t c = 0; array && c < rows->column_count; c++)
        json_array_append_new(array, json_pack("{s:s, s:s}", "name", rows->columns[c].name, "type",
                                               rows->columns[c].number ? "number" : "text"));
    return array;
}

/* Takes the reference. */
static void answer_json(HttpRequest *request, unsigned status, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (text)
        http_answer(request, status, "application/json", slice_str(text));
    else
        http_answer_text(request, 500, "out of memory");
    free(text);
}

static void finish_show(HttpRequest *request)
{
    const HttpShow *show = &request->shows[0];
    if (show->failed) {
        answer_json(request, 500, json_pack("{s:s, s:{s:s, s:s}}", "show", show->name, "error",
                                            "sqlstate", show->err.sqlstate, "message", show->err.message));
        return;
    }
    answer_json(request, 200,
                json_pack("{s:s, s:f, s:o, s:o}", "show", show->name, "at_s",
                          (double)clock_wall_us() / 1e6, "columns", json_columns(&show->rows),
                          "rows", json_rows(&show->rows)));
}

static void answer_index(HttpRequest *request)
{
    size_t count;
    const Command *commands = console_commands(&count);
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        char name[64];
        if (http_show_name(&commands[i], name))
            json_array_append_new(array, json_pack("{s:s, s:s}", "name", name, "help", commands[i].help));
    }
    answer_json(request, 200, json_pack("{s:o}", "shows", array));
}

static void run_api(HttpRequest *request, const char *rest)
{
    size_t len = strlen(rest);
    if (len < 6 || strcmp(rest + len - 5, ".json") != 0) {
        http_answer_text(request, 404, "not found; /api/index.json lists what there is");
        return;
    }
    char *name = arena_text(&request->arena, slice_of(rest, len - 5));
    if (name && strcmp(name, "index") == 0) {
        answer_index(request);
        return;
    }
    request->finish = finish_show;
    if (!name || !http_ask(request, name))
        http_answer_text(request, 404, "no such SHOW; /api/index.json lists what there is");
    else if (request->open_count == 0)
        finish_show(request);
}

/* ---- the table ------------------------------------------------------------------------------- */

static const HttpRoute ROUTES[] = {
    {"/", false, run_page},
    {"/shoal.js", false, run_script},
    {"/shoal.css", false, run_style},
    {"/shoal.svg", false, run_icon},
    {"/metrics", false, run_metrics},
    {"/health", true, run_ready},
    {"/health/ready", true, run_ready},
    {"/health/live", true, run_live},
    {"/api/", false, run_api},
};

const HttpRoute *http_route_find(const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(ROUTES); i++) {
        size_t len = strlen(ROUTES[i].path);
        bool below = len > 1 && ROUTES[i].path[len - 1] == '/';
        if (below ? strncmp(path, ROUTES[i].path, len) == 0 : strcmp(path, ROUTES[i].path) == 0)
            return &ROUTES[i];
    }
    return NULL;
}
