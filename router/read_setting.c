/*
 * read_setting.c - why this file exists: a server would take `SET shoal.read_consistency` for a setting
 * of its own and keep it, on a connection that the next client gets.
 */
#include "router/read_setting.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "router/consistency.h"
#include "router/dispatch.h"
#include "router/local.h"
#include "router/park.h"
#include "router/reads.h"
#include "router/transaction.h"
#include "router/worker_state.h"
#include "wire/backend.h"
#include "wire/value.h"

#define TOKEN_MAX     4096
#define TOKEN_WAIT_MS 5000

/* ---- the token --------------------------------------------------------------------------------------- */

static bool lsn_read(Slice text, uint64_t *ret)
{
    char copy[32];
    unsigned high, low;
    int used = 0;
    if (text.len >= sizeof copy)
        return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    if (sscanf(copy, "%8x/%8x%n", &high, &low, &used) != 2 || (size_t)used != text.len)
        return false;
    *ret = (uint64_t)high << 32 | low;
    return true;
}

static bool shard_find(const Config *config, Slice name, uint32_t *ret)
{
    for (uint32_t i = 0; i < config->shard_count; i++)
        if (slice_is(name, config->shards[i].name)) {
            *ret = i;
            return true;
        }
    return false;
}

static Slice trim(Slice text)
{
    while (text.len && text.data[0] == ' ')
        text = slice_from(text, 1);
    while (text.len && text.data[text.len - 1] == ' ')
        text.len--;
    return text;
}

static Slice take_until(Slice *rest, char stop)
{
    const uint8_t *at = rest->len ? memchr(rest->data, stop, rest->len) : NULL;
    Slice part = at ? slice_of(rest->data, (size_t)(at - rest->data)) : *rest;
    *rest = slice_from(*rest, part.len + (at != NULL));
    return trim(part);
}

/* s0=0/5000060,s1=0/4F00028; what the session has to see besides what it wrote itself. */
static bool token_take(Session *session, Slice text, Error *err)
{
    const Config *config = worker_config(session->worker);
    uint64_t *floors = calloc(MAX(config->shard_count, 1), sizeof *floors);
    bool ok = floors != NULL;
    for (Slice rest = trim(text); ok && rest.len;) {
        Slice pair = take_until(&rest, ',');
        Slice name = take_until(&pair, '=');
        uint32_t shard;
        ok = shard_find(config, name, &shard) && lsn_read(trim(pair), &floors[shard]);
    }
    if (!ok) {
        free(floors);
        error_set(err, SQLSTATE_INVALID_PARAMETER, "invalid value for parameter \"shoal.session_lsn\"");
        error_hint(err, "Give what SHOW shoal.session_lsn said: shard=LSN, separated by commas.");
        return false;
    }
    free(session->reads.floors);
    session->reads.floors = floors;
    session->reads.floor_count = config->shard_count;
    return true;
}

/* The primary of each shard was asked after the last write: its position then is enough. False: not yet. */
static bool token_make(const Session *session, char ret_text[static TOKEN_MAX])
{
    const Topology *topology = session->worker->topology;
    const DatabaseConfig *database = session_database(session, topology);
    size_t at = 0;
    ret_text[0] = '\0';
    for (uint32_t i = 0; i < database->shard_count; i++) {
        const ServerConfig *primary = topology_primary(topology, database->shards[i]);
        ServerStanding standing = {0};
        if (primary)
            standing = standing_get(topology->standings, primary->index);
        if (!primary || standing.state != HEALTH_UP || standing.measured_us < session->reads.wrote_us)
            return false;
        at += (size_t)snprintf(ret_text + at, TOKEN_MAX - at, "%s%s=%X/%X", at ? "," : "",
                               topology->config->shards[database->shards[i]].name,
                               (unsigned)(standing.lsn >> 32), (unsigned)standing.lsn);
        if (at >= TOKEN_MAX - 128)
            return false;
    }
    return true;
}

/* ---- the names ----------------------------------------------------------------------------------------- */

static bool bad_value(Error *err, const char *name, Slice value, const char *hint)
{
    error_set(err, SQLSTATE_INVALID_PARAMETER, "invalid value for parameter \"%s\": \"%.*s\"", name,
              (int)MIN(value.len, 60), (const char *)value.data);
    error_hint(err, "%s", hint);
    return false;
}

static bool set_consistency(Session *session, Slice value, Error *err)
{
    if (!consistency_read(value, &session->reads.wish.consistency))
        return bad_value(err, "shoal.read_consistency", value,
                         "Available values: strong, bounded, session, eventual, default.");
    /* What it wrote before counts too, and nobody has kept when. */
    session->reads.wrote_us = session->reads.saw_us = clock_now_us();
    session->reads.saw_server = NO_SERVER;
    return true;
}

static bool set_max_lag(Session *session, Slice value, Error *err)
{
    return consistency_read_lag(value, &session->reads.wish.max_lag_ms) ||
           bad_value(err, "shoal.max_lag", value, "Give a duration: 500ms, 2s, 1min.");
}

static bool set_deadline(Session *session, Slice value, Error *err)
{
    return consistency_read_deadline(value, &session->reads.wish) ||
           bad_value(err, "shoal.deadline", value, "Give a duration or a percentile of reads, and what may come late: "
                                                   "'80ms', 'p99', 'p99 stale', or 'off'.");
}

static bool set_copies(Session *session, Slice value, Error *err)
{
    return consistency_read_copies(value, &session->reads.wish.copies) ||
           bad_value(err, "shoal.copies", value, "Give 1 to 3, or 0: as the table or [replicas] has it.");
}

typedef struct OwnSetting {
    const char *name;
    bool (*set)(Session *session, Slice value, Error *err);
    const char *def; /* what RESET sets */
} OwnSetting;

static const OwnSetting SETTINGS[] = {
    {"shoal.read_consistency", set_consistency, "default"},
    {"shoal.max_lag", set_max_lag, "0"},
    {"shoal.deadline", set_deadline, "off"},
    {"shoal.copies", set_copies, "0"},
    {"shoal.session_lsn", token_take, ""},
};

static const OwnSetting *setting_find(Slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(SETTINGS); i++)
        if (slice_equal_nocase(name, slice_str(SETTINGS[i].name)))
            return &SETTINGS[i];
    return NULL;
}

void read_setting_reset(Session *session)
{
    session->reads.wish = session->reads.local = (ReadWish){0};
    free(session->reads.floors);
    session->reads.floors = NULL;
    session->reads.floor_count = 0;
}

bool read_setting_start(Session *session, Slice name, Slice value, bool *ret_ours, Error *err)
{
    const OwnSetting *own = setting_find(name);
    *ret_ours = own != NULL;
    return !own || own->set(session, value, err);
}

/* ---- statements ---------------------------------------------------------------------------------------- */

/* 'session' -> session; anything else as it is written. */
static Slice unquoted(Slice value)
{
    return value.len >= 2 && value.data[0] == '\'' && value.data[value.len - 1] == '\''
               ? slice_of(value.data + 1, value.len - 2)
               : value;
}

static void answer_text(Request *request, const char *name, const char *text)
{
    Buf frames;
    Slice value = slice_str(text);
    buf_init(&frames, TOKEN_MAX + 1024);
    const FieldDescription field = {
        .name = slice_str(name), .type_oid = WIRE_OID_TEXT, .type_len = -1, .typmod = -1, .format = FORMAT_TEXT};
    const Column column = {.value = value};
    backend_put_row_description(&frames, &field, 1);
    backend_put_data_row(&frames, &column, 1);
    backend_put_command_complete(&frames, SLICE("SHOW"));
    local_answer(request, buf_bytes(&frames), request->session->tx);
    buf_finish(&frames);
}

/* Each primary is asked again within lag_check; then its position covers all that was written. */
static bool token_retry(Request *request)
{
    char text[TOKEN_MAX];
    bool known = token_make(request->session, text);
    if (known)
        answer_text(request, "shoal.session_lsn", text);
    return known;
}

static void token_give_up(Request *request, const Error *why)
{
    dispatch_error(request, why);
}

static void show_token(Request *request)
{
    Error err;
    error_set(&err, "55000", "the position of a primary is not known");
    error_hint(&err, "SHOW SHARDS tells which server does not answer.");
    if (!token_retry(request) && !park_request(request, TOKEN_WAIT_MS, &err, token_retry, token_give_up))
        dispatch_error(request, &err);
}

static void show(Request *request, const OwnSetting *own)
{
    const SessionReads *reads = &request->session->reads;
    char text[TOKEN_MAX];
    if (own->set == set_consistency) {
        answer_text(request, own->name, READ_CONSISTENCY_NAMES[reads->wish.consistency]);
    } else if (own->set == set_max_lag) {
        snprintf(text, sizeof text, "%ums", reads->wish.max_lag_ms);
        answer_text(request, own->name, text);
    } else if (own->set == set_copies) {
        snprintf(text, sizeof text, "%u", reads->wish.copies);
        answer_text(request, own->name, text);
    } else if (own->set == set_deadline) {
        const ReadWish *wish = &reads->wish;
        snprintf(text, sizeof text, wish->deadline_percent ? "p%u%s" : wish->deadline_ms ? "%ums%s" : "off",
                 wish->deadline_percent ? wish->deadline_percent : wish->deadline_ms, wish->late_stale ? " stale" : "");
        answer_text(request, own->name, text);
    } else {
        show_token(request);
    }
}

static void change(Request *request, const OwnSetting *own, Slice value, const char *tag)
{
    Error err;
    if (own->set(request->session, value, &err))
        local_tag(request, tag, request->session->tx);
    else
        dispatch_error(request, &err);
}

/* As in PostgreSQL: outside of a transaction a warning, and no effect. */
static void warn_no_transaction(Request *request)
{
    Buf frames;
    Error notice;
    buf_init(&frames, 2048);
    error_set(&notice, "25P01", "SET LOCAL can only be used in transaction blocks");
    backend_put_notice(&frames, "WARNING", &notice);
    backend_put_command_complete(&frames, SLICE("SET"));
    local_answer(request, buf_bytes(&frames), TX_IDLE);
    buf_finish(&frames);
}

/* Until the transaction ends. Once a server has been chosen for it, it comes too late to be true. */
static void change_local(Request *request, const OwnSetting *own, Slice value)
{
    Session *session = request->session;
    ReadWish before = session->reads.wish;
    Error err;
    if (session->tx == TX_IDLE) {
        warn_no_transaction(request);
        return;
    }
    bool late = !transaction_is_lazy(session);
    if (late || own->set == token_take) {
        error_set(&err, late ? "25001" : SQLSTATE_FEATURE_NOT_SUPPORTED,
                  late ? "SET LOCAL %s must come before the transaction has a server" : "SET LOCAL %s is not supported",
                  own->name);
        error_hint(&err, late ? "Directly after BEGIN READ ONLY it is in time, or as a comment before BEGIN: "
                                "/* shoal: read_consistency = ... */"
                              : "SET it for the session.");
        dispatch_error(request, &err);
        return;
    }
    session->reads.wish = session->reads.local;
    bool ok = own->set(session, value, &err);
    if (ok)
        session->reads.local = session->reads.wish;
    session->reads.wish = before;
    if (ok)
        local_tag(request, "SET", session->tx);
    else
        dispatch_error(request, &err);
}

bool read_setting_run(Request *request, const Shape *shape)
{
    bool named = shape->kind == SHAPE_SET || shape->kind == SHAPE_RESET || shape->kind == SHAPE_SHOW ||
                 shape->kind == SHAPE_SET_LOCAL;
    const OwnSetting *own = named ? setting_find(shape->setting) : NULL;
    if (!own || request->session->tx == TX_FAILED)
        return false;
    if (shape->kind == SHAPE_SHOW) {
        show(request, own);
    } else if (shape->kind == SHAPE_SET_LOCAL) {
        change_local(request, own, unquoted(shape->setting_value));
    } else {
        Slice value = shape->setting_value.len ? unquoted(shape->setting_value) : slice_str(own->def);
        change(request, own, value, shape->kind == SHAPE_SET ? "SET" : "RESET");
    }
    return true;
}
