/*
 * frontend.h - messages that clients send: read them from clients, put them for servers.
 *
 * `frontend_read_x` decodes the body of one Frame (OK or BAD, never MORE) and borrows all Slices
 * from it. A BAD carries the SQLSTATE and the words that PostgreSQL 15 would answer; the
 * connection is kept and the session skips to Sync. `frontend_put_x` appends one whole message;
 * trouble is the Buf's sticky `failed`. Decoders fill *ret on the way: after BAD it means nothing.
 */
#ifndef SHOAL_WIRE_FRONTEND_H
#define SHOAL_WIRE_FRONTEND_H

#include "core/arena.h"
#include "core/buf.h"
#include "wire/formats.h"
#include "wire/frame.h"
#include "wire/startup.h"

/* ---- simple query ---------------------------------------------------------------------------- */

typedef struct QueryMessage {
    Slice sql; /* without NUL; nothing behind the first NUL is ever accepted */
} QueryMessage;

WireResult frontend_read_query(Slice body, QueryMessage *ret, Error *err) MUST_USE;
void frontend_put_query(Buf *buf, Slice sql);

/* ---- extended query -------------------------------------------------------------------------- */

typedef struct ParseMessage {
    Slice name; /* empty: the unnamed statement */
    Slice sql;
    Slice param_oids; /* raw: oid_count big-endian uint32s; 0 means unspecified */
    uint16_t oid_count;
} ParseMessage;

WireResult frontend_read_parse(Slice body, ParseMessage *ret, Error *err) MUST_USE;
/* 0 (unspecified) for i >= oid_count. */
uint32_t parse_oid_at(const ParseMessage *parse, size_t i);
void frontend_put_parse(Buf *buf, Slice name, Slice sql, const uint32_t *oids, size_t oid_count);
/* The same statement under another name. */
void frontend_put_parse_renamed(Buf *buf, const ParseMessage *parse, Slice name);

typedef struct BindParam {
    Slice value; /* borrowed from the message; empty when is_null */
    bool is_null;
} BindParam;

typedef struct BindMessage {
    Slice portal;    /* empty: the unnamed portal */
    Slice statement; /* empty: the unnamed statement */
    WireFormats formats;
    uint16_t param_count;
    Slice params; /* raw: param_count times int32 length and bytes; checked */
    WireFormats result_formats;
    Slice tail; /* everything behind the statement's name, for forwarding under another one */
} BindMessage;

/* Checks everything that can be checked without knowing the statement. No allocation. */
WireResult frontend_read_bind(Slice body, BindMessage *ret, Error *err) MUST_USE;
/* Parameter i (< param_count) by walking from the first one; cheap for the first few. */
BindParam bind_param_at(const BindMessage *bind, size_t i);
/* All parameters at once, in linear time; NULL only when memory is out (or there are none). */
BindParam *bind_params(const BindMessage *bind, Arena *arena) MUST_USE;
static inline uint16_t bind_param_format(const BindMessage *bind, size_t i)
{
    return formats_of(bind->formats, i);
}

/* A Bind field by field; values may be written in place (arrays: wire/array.h).
 *
 *     size_t mark = frontend_bind_begin(buf, SLICE(""), name, WIRE_FORMATS_BINARY, 2);
 *     frontend_bind_value(buf, one);                    or frontend_bind_null(buf)
 *     size_t at = writer_begin_value(buf); ... writer_end_value(buf, at);
 *     frontend_bind_end(buf, mark, result_formats);
 */
size_t frontend_bind_begin(Buf *buf, Slice portal, Slice statement, WireFormats formats,
                           size_t param_count);
void frontend_bind_value(Buf *buf, Slice value);
void frontend_bind_null(Buf *buf);
void frontend_bind_end(Buf *buf, size_t mark, WireFormats result_formats);
/* A client's Bind to a statement of another name; everything else as it came, portal included. */
void frontend_put_bind_renamed(Buf *buf, const BindMessage *bind, Slice statement);

/* Describe and Close have the same shape. */
typedef struct TargetMessage {
    uint8_t target; /* TARGET_STATEMENT or TARGET_PORTAL */
    Slice name;
} TargetMessage;

WireResult frontend_read_describe(Slice body, TargetMessage *ret, Error *err) MUST_USE;
WireResult frontend_read_close(Slice body, TargetMessage *ret, Error *err) MUST_USE;
void frontend_put_describe(Buf *buf, char target, Slice name);
void frontend_put_close(Buf *buf, char target, Slice name);

typedef struct ExecuteMessage {
    Slice portal;
    int32_t max_rows; /* <= 0: all */
} ExecuteMessage;

WireResult frontend_read_execute(Slice body, ExecuteMessage *ret, Error *err) MUST_USE;
void frontend_put_execute(Buf *buf, Slice portal, int32_t max_rows);

/* Sync and Flush: the body must be empty. (Terminate's body is not looked at, as in PostgreSQL.) */
WireResult frontend_read_empty(Slice body, Error *err) MUST_USE;
void frontend_put_sync(Buf *buf);
void frontend_put_flush(Buf *buf);
void frontend_put_terminate(Buf *buf);

/* ---- login ----------------------------------------------------------------------------------- */

/* While logging in, anything but 'p' is fatal: BAD with 08P01 "expected <what> response, got
 * message type N". `what` is "password" or "SASL". Its body is limited to AUTH_BODY_MAX. */
WireResult frame_next_auth(Slice in, const char *what, Frame *ret, Error *err) MUST_USE;

/* 'p' as a cleartext or md5 password. 28P01 when empty. */
WireResult frontend_read_password(Slice body, Slice *ret, Error *err) MUST_USE;

typedef struct SaslInitial {
    Slice mechanism;
    Slice response; /* empty when has_response is false */
    bool has_response;
} SaslInitial;

WireResult frontend_read_sasl_initial(Slice body, SaslInitial *ret, Error *err) MUST_USE;
/* SASLResponse: the whole body is the mechanism's. */
WireResult frontend_read_sasl_response(Slice body, Slice *ret, Error *err) MUST_USE;

/* First messages; see startup.h for reading them. `params` include user, database, options. */
void frontend_put_startup(Buf *buf, uint32_t version, const StartupParam *params, size_t count);
void frontend_put_ssl_request(Buf *buf);
void frontend_put_gss_request(Buf *buf);
void frontend_put_cancel(Buf *buf, uint32_t pid, uint32_t key);
void frontend_put_password(Buf *buf, Slice password);
void frontend_put_sasl_initial(Buf *buf, Slice mechanism, const Slice *response);
void frontend_put_sasl_response(Buf *buf, Slice response);

/* ---- COPY and function call ------------------------------------------------------------------ */

/* CopyData's body is the data, CopyDone's is empty. */
WireResult frontend_read_copy_fail(Slice body, Slice *ret_reason, Error *err) MUST_USE;
void frontend_put_copy_data(Buf *buf, Slice data);
void frontend_put_copy_done(Buf *buf);
void frontend_put_copy_fail(Buf *buf, Slice reason);

typedef struct FunctionCallMessage {
    uint32_t function_oid;
    WireFormats formats;
    uint16_t arg_count;
    Slice args; /* raw: arg_count times int32 length and bytes; checked */
    uint16_t result_format;
} FunctionCallMessage;

WireResult frontend_read_function_call(Slice body, FunctionCallMessage *ret, Error *err) MUST_USE;
void frontend_put_function_call(Buf *buf, const FunctionCallMessage *call);

#endif
