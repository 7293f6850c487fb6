/*
 * backend.h - messages that servers send: read them from servers, put them for clients.
 *
 * `backend_read_x` decodes the body of one Frame (OK or BAD, never MORE), checks all of it and
 * borrows its Slices. BAD (08P01) means that the server lies or is broken: drop that connection
 * and tell the client 08006. `backend_put_x` appends one whole message; trouble is the Buf's
 * sticky `failed`. Decoders fill *ret on the way: after BAD it means nothing.
 */
#ifndef SHOAL_WIRE_BACKEND_H
#define SHOAL_WIRE_BACKEND_H

#include "core/buf.h"
#include "wire/formats.h"
#include "wire/frame.h"

/* ---- login ----------------------------------------------------------------------------------- */

typedef struct AuthenticationMessage {
    uint32_t code; /* AUTH_* */
    Slice data; /* MD5: salt of 4; SASL: names, see auth_mechanism_at; *_CONTINUE, *_FINAL: token */
} AuthenticationMessage;

WireResult backend_read_authentication(Slice body, AuthenticationMessage *ret, Error *err) MUST_USE;
/* Mechanism i of an AUTH_SASL; false behind the last one. */
bool auth_mechanism_at(const AuthenticationMessage *auth, size_t i, Slice *ret);
/* AUTH_OK, AUTH_CLEARTEXT (data empty), AUTH_MD5 (salt), AUTH_SASL_CONTINUE, AUTH_SASL_FINAL. */
void backend_put_authentication(Buf *buf, uint32_t code, Slice data);
void backend_put_auth_sasl(Buf *buf, const Slice *mechanisms, size_t count);

typedef struct KeyData {
    uint32_t pid, key;
} KeyData;

WireResult backend_read_key_data(Slice body, KeyData *ret, Error *err) MUST_USE;
void backend_put_key_data(Buf *buf, uint32_t pid, uint32_t key);

typedef struct ParameterStatus {
    Slice name, value;
} ParameterStatus;

WireResult backend_read_parameter_status(Slice body, ParameterStatus *ret, Error *err) MUST_USE;
void backend_put_parameter_status(Buf *buf, Slice name, Slice value);

typedef struct NegotiateVersion {
    uint32_t version; /* PROTOCOL_VERSION(3, newest minor) */
    uint32_t option_count;
    Slice options; /* raw: option_count strings with NUL */
} NegotiateVersion;

WireResult backend_read_negotiate_version(Slice body, NegotiateVersion *ret, Error *err) MUST_USE;
void backend_put_negotiate_version(Buf *buf, uint32_t version, const Slice *options, size_t count);

/* ---- answers without content ----------------------------------------------------------------- */

/* ParseComplete, BindComplete, CloseComplete, NoData, PortalSuspended, EmptyQuery, CopyDone. */
WireResult backend_read_empty(Slice body, Error *err) MUST_USE;
void backend_put_empty(Buf *buf, char type);
static inline void backend_put_parse_complete(Buf *buf)
{
    backend_put_empty(buf, '1');
}
static inline void backend_put_bind_complete(Buf *buf)
{
    backend_put_empty(buf, '2');
}
static inline void backend_put_close_complete(Buf *buf)
{
    backend_put_empty(buf, '3');
}
static inline void backend_put_no_data(Buf *buf)
{
    backend_put_empty(buf, 'n');
}
static inline void backend_put_portal_suspended(Buf *buf)
{
    backend_put_empty(buf, 's');
}
static inline void backend_put_empty_query(Buf *buf)
{
    backend_put_empty(buf, 'I');
}
static inline void backend_put_copy_done(Buf *buf)
{
    backend_put_empty(buf, 'c');
}

/* *ret is TX_IDLE, TX_BLOCK or TX_FAILED. */
WireResult backend_read_ready(Slice body, char *ret, Error *err) MUST_USE;
void backend_put_ready(Buf *buf, char tx_status);

/* ---- what a result looks like ---------------------------------------------------------------- */

typedef struct FieldDescription {
    Slice name;
    uint32_t table_oid; /* 0: not a table's column */
    int16_t attnum;
    uint32_t type_oid;
    int16_t type_len; /* -1: any */
    int32_t typmod;   /* -1: none */
    uint16_t format;  /* FORMAT_TEXT when described before Bind */
} FieldDescription;

typedef struct RowDescription {
    uint16_t count;
    Slice fields; /* raw, checked */
} RowDescription;

WireResult backend_read_row_description(Slice body, RowDescription *ret, Error *err) MUST_USE;
/* Iteration: start with *cursor = 0; false behind the last field. */
bool row_description_next(const RowDescription *row, size_t *cursor, FieldDescription *ret);
void backend_put_row_description(Buf *buf, const FieldDescription *fields, size_t count);
/* As it came, but without the first `dropped` columns (what batching added). */
void backend_put_row_description_after(Buf *buf, const RowDescription *row, size_t dropped);
/* As it came, but with the formats that a Bind asked for. False (nothing written) when the list
 * is neither empty, one, nor one each. */
bool backend_put_row_description_formats(Buf *buf, const RowDescription *row, WireFormats formats);

typedef struct ParameterDescription {
    uint16_t count;
    Slice oids; /* raw: count big-endian uint32s */
} ParameterDescription;

WireResult backend_read_parameter_description(Slice body, ParameterDescription *ret,
                                              Error *err) MUST_USE;
uint32_t parameter_description_at(const ParameterDescription *params, size_t i); /* i < count */
void backend_put_parameter_description(Buf *buf, const uint32_t *oids, size_t count);

/* ---- rows ------------------------------------------------------------------------------------ */

typedef struct Column {
    Slice value; /* empty when is_null */
    bool is_null;
} Column;

typedef struct DataRow {
    uint16_t count;
    Slice columns; /* raw: count times int32 length and bytes; checked */
} DataRow;

/* `expected`: columns of the RowDescription, or -1 when unknown. A different count is BAD. */
WireResult backend_read_data_row(Slice body, int expected, DataRow *ret, Error *err) MUST_USE;
/* Iteration: start with *cursor = 0; false behind the last column. */
bool data_row_next(const DataRow *row, size_t *cursor, Column *ret);
/* Column i (< count) by walking from the first one. */
Column data_row_at(const DataRow *row, size_t i);
void backend_put_data_row(Buf *buf, const Column *columns, size_t count);
/* As it came, but without the first `dropped` columns. */
void backend_put_data_row_after(Buf *buf, const DataRow *row, size_t dropped);

/* The tag, e.g. "SELECT 3". */
WireResult backend_read_command_complete(Slice body, Slice *ret_tag, Error *err) MUST_USE;
/* The number of rows at the end of a tag; false when the tag has none ("BEGIN"). */
bool command_tag_rows(Slice tag, uint64_t *ret);
void backend_put_command_complete(Buf *buf, Slice tag);
/* `verb` and the number: "SELECT 3"; INSERT gets its historical zero: "INSERT 0 3". */
void backend_put_command_rows(Buf *buf, Slice verb, uint64_t rows);

typedef struct FunctionResult {
    Slice value;
    bool is_null;
} FunctionResult;

WireResult backend_read_function_result(Slice body, FunctionResult *ret, Error *err) MUST_USE;
void backend_put_function_result(Buf *buf, const FunctionResult *result);

/* ---- COPY ------------------------------------------------------------------------------------ */

typedef struct CopyResponse {
    uint8_t format; /* FORMAT_TEXT or FORMAT_BINARY */
    WireFormats columns;
} CopyResponse;

/* CopyIn, CopyOut and CopyBoth have the same shape. */
WireResult backend_read_copy_response(Slice body, CopyResponse *ret, Error *err) MUST_USE;
void backend_put_copy_response(Buf *buf, char type, const CopyResponse *copy);
void backend_put_copy_data(Buf *buf, Slice data);

/* ---- errors, notices, notifications ---------------------------------------------------------- */

typedef struct ErrorResponse {
    Slice severity; /* the untranslated one where there is one */
    Slice sqlstate; /* 5 bytes */
    Slice message;
    Slice fields; /* raw: code and string, without the last NUL; checked */
} ErrorResponse;

/* For 'E' and 'N'. One without severity, SQLSTATE of five letters or message is BAD. */
WireResult backend_read_error(Slice body, ErrorResponse *ret, Error *err) MUST_USE;
/* A field by its code (FIELD_*); false when the server did not send it. */
bool error_response_field(const ErrorResponse *response, char code, Slice *ret);
/* SQLSTATE, message, detail and hint, cut to what an Error holds. */
void error_response_copy(const ErrorResponse *response, Error *ret);
/* 'E' from Shoal itself: severity in S and V, and R "router", so that it is told apart. */
void backend_put_error(Buf *buf, const char *severity, const Error *err);
/* 'N' likewise; severity SEVERITY_NOTICE or SEVERITY_WARNING. */
void backend_put_notice(Buf *buf, const char *severity, const Error *notice);

typedef struct NotificationMessage {
    uint32_t pid;
    Slice channel, payload;
} NotificationMessage;

WireResult backend_read_notification(Slice body, NotificationMessage *ret, Error *err) MUST_USE;
void backend_put_notification(Buf *buf, uint32_t pid, Slice channel, Slice payload);

/* ---- any of them ----------------------------------------------------------------------------- */

/* Decodes the frame by its type and forgets the answer: is it what a server may send at all? */
WireResult backend_check(const Frame *frame, Error *err) MUST_USE;

#endif
