/*
 * backend.c - why it exists: servers lie too (a broken one, an evil one, a proxy in between). Each
 * message is walked once, completely, before anybody believes one of its counts; the iterators
 * then run over checked bytes and cannot fail.
 *
 *     DataRow:         n | len bytes | len bytes | ...        -1: NULL
 *     RowDescription:  n | name\0 table attnum type typlen typmod format | ...
 *     ErrorResponse:   S text\0 V text\0 C code\0 M text\0 ... \0
 */
#include "wire/backend.h"

#include <stdio.h>

#include "wire/reader.h"
#include "wire/writer.h"

static WireResult finish(WireReader *r, Error *err)
{
    return reader_done(r) ? WIRE_OK : reader_fail(r, err);
}

static WireResult lie(Error *err, const char *problem)
{
    error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "%s", problem);
    return WIRE_BAD;
}

static Column value_read(WireReader *r)
{
    int32_t len = reader_i32(r);
    if (len == -1)
        return (Column){.is_null = true};
    return (Column){.value = reader_bytes(r, (size_t)len)};
}

/* ---- login ----------------------------------------------------------------------------------- */

static bool mechanisms_ok(Slice data)
{
    WireReader r = reader_of(data);
    while (reader_cstring(&r).len > 0)
        ;
    return reader_done(&r) && data.len > 1;
}

WireResult backend_read_authentication(Slice body, AuthenticationMessage *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->code = reader_u32(&r);
    ret->data = reader_rest(&r);
    bool ok = false;
    switch (ret->code) {
    case AUTH_OK:
    case AUTH_KERBEROS5:
    case AUTH_CLEARTEXT:
    case AUTH_GSS:
    case AUTH_SSPI:
        ok = ret->data.len == 0;
        break;
    case AUTH_MD5:
        ok = ret->data.len == 4;
        break;
    case AUTH_SASL:
        ok = mechanisms_ok(ret->data);
        break;
    case AUTH_GSS_CONTINUE:
    case AUTH_SASL_CONTINUE:
    case AUTH_SASL_FINAL:
        ok = true;
        break;
    }
    if (r.bad || !ok)
        return lie(err, "server sent a malformed authentication request");
    return WIRE_OK;
}

bool auth_mechanism_at(const AuthenticationMessage *auth, size_t i, Slice *ret)
{
    WireReader r = reader_of(auth->data);
    Slice name = reader_cstring(&r);
    while (i-- > 0 && name.len)
        name = reader_cstring(&r);
    if (name.len)
        *ret = name;
    return name.len > 0;
}

void backend_put_authentication(Buf *buf, uint32_t code, Slice data)
{
    size_t mark = writer_begin(buf, BACKEND_AUTHENTICATION);
    writer_u32(buf, code);
    writer_bytes(buf, data);
    writer_end(buf, mark);
}

void backend_put_auth_sasl(Buf *buf, const Slice *mechanisms, size_t count)
{
    size_t mark = writer_begin(buf, BACKEND_AUTHENTICATION);
    writer_u32(buf, AUTH_SASL);
    for (size_t i = 0; i < count; i++)
        writer_cstring(buf, mechanisms[i]);
    writer_u8(buf, 0);
    writer_end(buf, mark);
}

WireResult backend_read_key_data(Slice body, KeyData *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->pid = reader_u32(&r);
    ret->key = reader_u32(&r);
    return finish(&r, err);
}

void backend_put_key_data(Buf *buf, uint32_t pid, uint32_t key)
{
    size_t mark = writer_begin(buf, BACKEND_KEY_DATA);
    writer_u32(buf, pid);
    writer_u32(buf, key);
    writer_end(buf, mark);
}

WireResult backend_read_parameter_status(Slice body, ParameterStatus *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->name = reader_cstring(&r);
    ret->value = reader_cstring(&r);
    return finish(&r, err);
}

void backend_put_parameter_status(Buf *buf, Slice name, Slice value)
{
    size_t mark = writer_begin(buf, BACKEND_PARAMETER_STATUS);
    writer_cstring(buf, name);
    writer_cstring(buf, value);
    writer_end(buf, mark);
}

WireResult backend_read_negotiate_version(Slice body, NegotiateVersion *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->version = reader_u32(&r);
    ret->option_count = reader_u32(&r);
    ret->options = slice_of(r.at, r.left);
    for (uint32_t i = 0; i < ret->option_count && !r.bad; i++)
        (void)reader_cstring(&r);
    return finish(&r, err);
}

void backend_put_negotiate_version(Buf *buf, uint32_t version, const Slice *options, size_t count)
{
    size_t mark = writer_begin(buf, BACKEND_NEGOTIATE_VERSION);
    writer_u32(buf, version);
    writer_u32(buf, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        writer_cstring(buf, options[i]);
    writer_end(buf, mark);
}

/* ---- answers without content ----------------------------------------------------------------- */

WireResult backend_read_empty(Slice body, Error *err)
{
    WireReader r = reader_of(body);
    return finish(&r, err);
}

void backend_put_empty(Buf *buf, char type)
{
    writer_end(buf, writer_begin(buf, type));
}

WireResult backend_read_ready(Slice body, char *ret, Error *err)
{
    WireReader r = reader_of(body);
    char status = (char)reader_u8(&r);
    if (!reader_done(&r))
        return reader_fail(&r, err);
    if (status != TX_IDLE && status != TX_BLOCK && status != TX_FAILED)
        return lie(err, "server sent an unknown transaction status");
    *ret = status;
    return WIRE_OK;
}

void backend_put_ready(Buf *buf, char tx_status)
{
    size_t mark = writer_begin(buf, BACKEND_READY);
    writer_u8(buf, (uint8_t)tx_status);
    writer_end(buf, mark);
}

/* ---- what a result looks like ---------------------------------------------------------------- */

static FieldDescription field_read(WireReader *r)
{
    FieldDescription field;
    field.name = reader_cstring(r);
    field.table_oid = reader_u32(r);
    field.attnum = reader_i16(r);
    field.type_oid = reader_u32(r);
    field.type_len = reader_i16(r);
    field.typmod = reader_i32(r);
    field.format = reader_u16(r);
    return field;
}

static void field_write(Buf *buf, const FieldDescription *field)
{
    writer_cstring(buf, field->name);
    writer_u32(buf, field->table_oid);
    writer_i16(buf, field->attnum);
    writer_u32(buf, field->type_oid);
    writer_i16(buf, field->type_len);
    writer_i32(buf, field->typmod);
    writer_u16(buf, field->format);
}

WireResult backend_read_row_description(Slice body, RowDescription *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->count = reader_u16(&r);
    ret->fields = slice_of(r.at, r.left);
    if (ret->count > COLUMNS_MAX)
        return lie(err, "server sent a row description with too many columns");
    for (uint16_t i = 0; i < ret->count && !r.bad; i++)
        if (field_read(&r).format > FORMAT_BINARY)
            return lie(err, "server sent a row description with an unknown format");
    return finish(&r, err);
}

bool row_description_next(const RowDescription *row, size_t *cursor, FieldDescription *ret)
{
    if (*cursor >= row->fields.len)
        return false;
    WireReader r = reader_of(slice_from(row->fields, *cursor));
    *ret = field_read(&r);
    assert(!r.bad);
    *cursor = row->fields.len - r.left;
    return true;
}

void backend_put_row_description(Buf *buf, const FieldDescription *fields, size_t count)
{
    assert(count <= COLUMNS_MAX);
    size_t mark = writer_begin(buf, BACKEND_ROW_DESCRIPTION);
    writer_u16(buf, (uint16_t)count);
    for (size_t i = 0; i < count; i++)
        field_write(buf, &fields[i]);
    writer_end(buf, mark);
}

void backend_put_row_description_after(Buf *buf, const RowDescription *row, size_t dropped)
{
    assert(dropped <= row->count);
    WireReader r = reader_of(row->fields);
    for (size_t i = 0; i < dropped; i++)
        (void)field_read(&r);
    size_t mark = writer_begin(buf, BACKEND_ROW_DESCRIPTION);
    writer_u16(buf, (uint16_t)(row->count - dropped));
    writer_bytes(buf, reader_rest(&r));
    writer_end(buf, mark);
}

bool backend_put_row_description_formats(Buf *buf, const RowDescription *row, WireFormats formats)
{
    if (formats.count > 1 && formats.count != row->count)
        return false;
    size_t mark = writer_begin(buf, BACKEND_ROW_DESCRIPTION);
    writer_u16(buf, row->count);
    FieldDescription field;
    for (size_t i = 0, cursor = 0; row_description_next(row, &cursor, &field); i++) {
        field.format = formats_of(formats, i);
        field_write(buf, &field);
    }
    writer_end(buf, mark);
    return true;
}

WireResult backend_read_parameter_description(Slice body, ParameterDescription *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->count = reader_u16(&r);
    ret->oids = reader_bytes(&r, (size_t)ret->count * 4);
    return finish(&r, err);
}

uint32_t parameter_description_at(const ParameterDescription *params, size_t i)
{
    assert(i < params->count);
    WireReader r = reader_of(slice_from(params->oids, i * 4));
    return reader_u32(&r);
}

void backend_put_parameter_description(Buf *buf, const uint32_t *oids, size_t count)
{
    assert(count <= UINT16_MAX);
    size_t mark = writer_begin(buf, BACKEND_PARAMETER_DESCRIPTION);
    writer_u16(buf, (uint16_t)count);
    for (size_t i = 0; i < count; i++)
        writer_u32(buf, oids[i]);
    writer_end(buf, mark);
}

/* ---- rows ------------------------------------------------------------------------------------ */

WireResult backend_read_data_row(Slice body, int expected, DataRow *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->count = reader_u16(&r);
    ret->columns = slice_of(r.at, r.left);
    if (expected >= 0 && ret->count != expected)
        return lie(err, "server sent a row with another number of columns than it described");
    for (uint16_t i = 0; i < ret->count && !r.bad; i++)
        (void)value_read(&r);
    return finish(&r, err);
}

bool data_row_next(const DataRow *row, size_t *cursor, Column *ret)
{
    if (*cursor >= row->columns.len)
        return false;
    WireReader r = reader_of(slice_from(row->columns, *cursor));
    *ret = value_read(&r);
    assert(!r.bad);
    *cursor = row->columns.len - r.left;
    return true;
}

Column data_row_at(const DataRow *row, size_t i)
{
    assert(i < row->count);
    WireReader r = reader_of(row->columns);
    for (size_t skipped = 0; skipped < i; skipped++)
        (void)value_read(&r);
    return value_read(&r);
}

void backend_put_data_row(Buf *buf, const Column *columns, size_t count)
{
    assert(count <= COLUMNS_MAX);
    size_t mark = writer_begin(buf, BACKEND_DATA_ROW);
    writer_u16(buf, (uint16_t)count);
    for (size_t i = 0; i < count; i++) {
        if (columns[i].is_null)
            writer_null(buf);
        else
            writer_value(buf, columns[i].value);
    }
    writer_end(buf, mark);
}

void backend_put_data_row_after(Buf *buf, const DataRow *row, size_t dropped)
{
    assert(dropped <= row->count);
    WireReader r = reader_of(row->columns);
    for (size_t i = 0; i < dropped; i++)
        (void)value_read(&r);
    size_t mark = writer_begin(buf, BACKEND_DATA_ROW);
    writer_u16(buf, (uint16_t)(row->count - dropped));
    writer_bytes(buf, reader_rest(&r));
    writer_end(buf, mark);
}

WireResult backend_read_command_complete(Slice body, Slice *ret_tag, Error *err)
{
    WireReader r = reader_of(body);
    *ret_tag = reader_cstring(&r);
    return finish(&r, err);
}

bool command_tag_rows(Slice tag, uint64_t *ret)
{
    size_t start = tag.len;
    while (start > 0 && tag.data[start - 1] >= '0' && tag.data[start - 1] <= '9')
        start--;
    if (start == tag.len || start == 0 || tag.data[start - 1] != ' ')
        return false;
    uint64_t rows = 0;
    for (size_t i = start; i < tag.len; i++)
        if (__builtin_mul_overflow(rows, 10, &rows) ||
            __builtin_add_overflow(rows, tag.data[i] - '0', &rows))
            return false;
    *ret = rows;
    return true;
}

void backend_put_command_complete(Buf *buf, Slice tag)
{
    size_t mark = writer_begin(buf, BACKEND_COMMAND_COMPLETE);
    writer_cstring(buf, tag);
    writer_end(buf, mark);
}

void backend_put_command_rows(Buf *buf, Slice verb, uint64_t rows)
{
    char number[32];
    int len = snprintf(number, sizeof number, slice_is(verb, "INSERT") ? " 0 %llu" : " %llu",
                       (unsigned long long)rows);
    size_t mark = writer_begin(buf, BACKEND_COMMAND_COMPLETE);
    writer_bytes(buf, verb);
    writer_cstring(buf, slice_of(number, (size_t)len));
    writer_end(buf, mark);
}

WireResult backend_read_function_result(Slice body, FunctionResult *ret, Error *err)
{
    WireReader r = reader_of(body);
    Column column = value_read(&r);
    *ret = (FunctionResult){column.value, column.is_null};
    return finish(&r, err);
}

void backend_put_function_result(Buf *buf, const FunctionResult *result)
{
    size_t mark = writer_begin(buf, BACKEND_FUNCTION_RESULT);
    if (result->is_null)
        writer_null(buf);
    else
        writer_value(buf, result->value);
    writer_end(buf, mark);
}

/* ---- COPY ------------------------------------------------------------------------------------ */

WireResult backend_read_copy_response(Slice body, CopyResponse *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->format = reader_u8(&r);
    ret->columns.count = reader_u16(&r);
    ret->columns.raw = reader_bytes(&r, (size_t)ret->columns.count * 2);
    if (!reader_done(&r))
        return reader_fail(&r, err);
    if (ret->format > FORMAT_BINARY || ret->columns.count > COLUMNS_MAX)
        return lie(err, "server sent a malformed copy response");
    for (size_t i = 0; i < ret->columns.count; i++)
        if (formats_raw_at(ret->columns, i) > FORMAT_BINARY)
            return lie(err, "server sent a malformed copy response");
    return WIRE_OK;
}

void backend_put_copy_response(Buf *buf, char type, const CopyResponse *copy)
{
    assert(type == BACKEND_COPY_IN || type == BACKEND_COPY_OUT || type == BACKEND_COPY_BOTH);
    size_t mark = writer_begin(buf, type);
    writer_u8(buf, copy->format);
    writer_u16(buf, copy->columns.count);
    writer_bytes(buf, copy->columns.raw);
    writer_end(buf, mark);
}

void backend_put_copy_data(Buf *buf, Slice data)
{
    size_t mark = writer_begin(buf, BACKEND_COPY_DATA);
    writer_bytes(buf, data);
    writer_end(buf, mark);
}

/* ---- errors, notices, notifications ---------------------------------------------------------- */

static bool sqlstate_ok(Slice code)
{
    for (size_t i = 0; i < code.len; i++)
        if (!((code.data[i] >= '0' && code.data[i] <= '9') ||
              (code.data[i] >= 'A' && code.data[i] <= 'Z')))
            return false;
    return code.len == 5;
}

WireResult backend_read_error(Slice body, ErrorResponse *ret, Error *err)
{
    WireReader r = reader_of(body);
    while (reader_u8(&r) != 0)
        (void)reader_cstring(&r);
    if (!reader_done(&r))
        return reader_fail(&r, err);
    ret->fields = slice_of(body.data, body.len - 1);

    bool severity = error_response_field(ret, FIELD_SEVERITY_PLAIN, &ret->severity) ||
                    error_response_field(ret, FIELD_SEVERITY, &ret->severity);
    if (!severity || !error_response_field(ret, FIELD_MESSAGE, &ret->message) ||
        !error_response_field(ret, FIELD_SQLSTATE, &ret->sqlstate) || !sqlstate_ok(ret->sqlstate))
        return lie(err, "server sent an error without severity, SQLSTATE or message");
    return WIRE_OK;
}

bool error_response_field(const ErrorResponse *response, char code, Slice *ret)
{
    WireReader r = reader_of(response->fields);
    while (r.left) {
        char found = (char)reader_u8(&r);
        Slice text = reader_cstring(&r);
        if (found == code) {
            *ret = text;
            return true;
        }
    }
    return false;
}

void error_response_copy(const ErrorResponse *response, Error *ret)
{
    char sqlstate[6] = "";
    memcpy(sqlstate, response->sqlstate.data, 5);
    error_set(ret, sqlstate, "%.*s", SLICE_FMT(response->message));
    Slice text;
    if (error_response_field(response, FIELD_DETAIL, &text))
        error_detail(ret, "%.*s", SLICE_FMT(text));
    if (error_response_field(response, FIELD_HINT, &text))
        error_hint(ret, "%.*s", SLICE_FMT(text));
}

static void field_put(Buf *buf, char code, const char *text)
{
    writer_u8(buf, (uint8_t)code);
    writer_cstring(buf, slice_str(text));
}

static void report_put(Buf *buf, char type, const char *severity, const Error *err)
{
    size_t mark = writer_begin(buf, type);
    field_put(buf, FIELD_SEVERITY, severity);
    field_put(buf, FIELD_SEVERITY_PLAIN, severity);
    field_put(buf, FIELD_SQLSTATE, err->sqlstate);
    field_put(buf, FIELD_MESSAGE, err->message);
    if (err->detail[0])
        field_put(buf, FIELD_DETAIL, err->detail);
    if (err->hint[0])
        field_put(buf, FIELD_HINT, err->hint);
    field_put(buf, FIELD_ROUTINE, "router");
    writer_u8(buf, 0);
    writer_end(buf, mark);
}

void backend_put_error(Buf *buf, const char *severity, const Error *err)
{
    report_put(buf, BACKEND_ERROR, severity, err);
}

void backend_put_notice(Buf *buf, const char *severity, const Error *notice)
{
    report_put(buf, BACKEND_NOTICE, severity, notice);
}

WireResult backend_read_notification(Slice body, NotificationMessage *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->pid = reader_u32(&r);
    ret->channel = reader_cstring(&r);
    ret->payload = reader_cstring(&r);
    return finish(&r, err);
}

void backend_put_notification(Buf *buf, uint32_t pid, Slice channel, Slice payload)
{
    size_t mark = writer_begin(buf, BACKEND_NOTIFICATION);
    writer_u32(buf, pid);
    writer_cstring(buf, channel);
    writer_cstring(buf, payload);
    writer_end(buf, mark);
}

/* ---- any of them ----------------------------------------------------------------------------- */

WireResult backend_check(const Frame *frame, Error *err)
{
    union {
        AuthenticationMessage authentication;
        KeyData key;
        ParameterStatus status;
        NegotiateVersion negotiate;
        RowDescription description;
        ParameterDescription parameters;
        DataRow row;
        FunctionResult result;
        CopyResponse copy;
        ErrorResponse error;
        NotificationMessage notification;
        Slice tag;
        char ready;
    } any;
    switch (frame->type) {
    case BACKEND_AUTHENTICATION:
        return backend_read_authentication(frame->body, &any.authentication, err);
    case BACKEND_KEY_DATA:
        return backend_read_key_data(frame->body, &any.key, err);
    case BACKEND_PARAMETER_STATUS:
        return backend_read_parameter_status(frame->body, &any.status, err);
    case BACKEND_NEGOTIATE_VERSION:
        return backend_read_negotiate_version(frame->body, &any.negotiate, err);
    case BACKEND_ROW_DESCRIPTION:
        return backend_read_row_description(frame->body, &any.description, err);
    case BACKEND_PARAMETER_DESCRIPTION:
        return backend_read_parameter_description(frame->body, &any.parameters, err);
    case BACKEND_DATA_ROW:
        return backend_read_data_row(frame->body, -1, &any.row, err);
    case BACKEND_FUNCTION_RESULT:
        return backend_read_function_result(frame->body, &any.result, err);
    case BACKEND_COMMAND_COMPLETE:
        return backend_read_command_complete(frame->body, &any.tag, err);
    case BACKEND_COPY_IN:
    case BACKEND_COPY_OUT:
    case BACKEND_COPY_BOTH:
        return backend_read_copy_response(frame->body, &any.copy, err);
    case BACKEND_ERROR:
    case BACKEND_NOTICE:
        return backend_read_error(frame->body, &any.error, err);
    case BACKEND_NOTIFICATION:
        return backend_read_notification(frame->body, &any.notification, err);
    case BACKEND_READY:
        return backend_read_ready(frame->body, &any.ready, err);
    case BACKEND_COPY_DATA:
        return WIRE_OK;
    default:
        return frame_type_known_backend(frame->type)
                   ? backend_read_empty(frame->body, err)
                   : lie(err, "server sent a message of unknown type");
    }
}
