/*
 * frontend.c - why it exists: a client's message is understood once, completely, or refused with
 * the words PostgreSQL would have used. What is forwarded later is what was checked here, byte by
 * byte: nothing hides behind a NUL, a count or a length.
 *
 *     Bind:  portal\0 statement\0 | n formats | n params: len bytes, len bytes ... | n formats
 *                                  ^---------------------- tail ------------------------------^
 */
#include "wire/frontend.h"

#include "wire/reader.h"
#include "wire/writer.h"

/* The common end of most decoders: `ret` was filled on the way and is valid when this is OK. */
static WireResult finish(WireReader *r, Error *err)
{
    return reader_done(r) ? WIRE_OK : reader_fail(r, err);
}

static WireFormats formats_read(WireReader *r)
{
    uint16_t count = reader_u16(r);
    return (WireFormats){reader_bytes(r, (size_t)count * 2), count};
}

static void formats_write(Buf *buf, WireFormats formats)
{
    writer_u16(buf, formats.count);
    writer_bytes(buf, formats.raw);
}

/* int32 length and bytes, -1 for NULL. A length below -1 is "insufficient data", as in PostgreSQL:
 * it becomes a huge number here and a negative one there. */
static BindParam value_read(WireReader *r)
{
    int32_t len = reader_i32(r);
    if (len == -1)
        return (BindParam){.is_null = true};
    return (BindParam){.value = reader_bytes(r, (size_t)len)};
}

/* ---- simple query ---------------------------------------------------------------------------- */

WireResult frontend_read_query(Slice body, QueryMessage *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->sql = reader_cstring(&r);
    return finish(&r, err);
}

void frontend_put_query(Buf *buf, Slice sql)
{
    size_t mark = writer_begin(buf, FRONTEND_QUERY);
    writer_cstring(buf, sql);
    writer_end(buf, mark);
}

/* ---- Parse ----------------------------------------------------------------------------------- */

WireResult frontend_read_parse(Slice body, ParseMessage *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->name = reader_cstring(&r);
    ret->sql = reader_cstring(&r);
    ret->oid_count = reader_u16(&r);
    ret->param_oids = reader_bytes(&r, (size_t)ret->oid_count * 4);
    return finish(&r, err);
}

uint32_t parse_oid_at(const ParseMessage *parse, size_t i)
{
    if (i >= parse->oid_count)
        return 0;
    WireReader r = reader_of(slice_from(parse->param_oids, i * 4));
    return reader_u32(&r);
}

void frontend_put_parse(Buf *buf, Slice name, Slice sql, const uint32_t *oids, size_t oid_count)
{
    assert(oid_count <= UINT16_MAX);
    size_t mark = writer_begin(buf, FRONTEND_PARSE);
    writer_cstring(buf, name);
    writer_cstring(buf, sql);
    writer_u16(buf, (uint16_t)oid_count);
    for (size_t i = 0; i < oid_count; i++)
        writer_u32(buf, oids[i]);
    writer_end(buf, mark);
}

void frontend_put_parse_renamed(Buf *buf, const ParseMessage *parse, Slice name)
{
    size_t mark = writer_begin(buf, FRONTEND_PARSE);
    writer_cstring(buf, name);
    writer_cstring(buf, parse->sql);
    writer_u16(buf, parse->oid_count);
    writer_bytes(buf, parse->param_oids);
    writer_end(buf, mark);
}

/* ---- Bind ------------------------------------------------------------------------------------ */

static WireResult format_bad(uint16_t format, Error *err)
{
    error_set(err, SQLSTATE_INVALID_PARAMETER, "unsupported format code: %d", (int16_t)format);
    return WIRE_BAD;
}

/* Walks the values once; each one's format is judged behind its bytes, as PostgreSQL does. */
static WireResult params_check(WireReader *r, WireFormats formats, size_t count, Error *err)
{
    for (size_t i = 0; i < count; i++) {
        value_read(r);
        if (r->bad)
            return reader_fail(r, err);
        if (formats_of(formats, i) > FORMAT_BINARY)
            return format_bad(formats_of(formats, i), err);
    }
    return WIRE_OK;
}

/* The bytes between two positions of one reader. */
static Slice between(const uint8_t *start, const WireReader *r)
{
    return slice_of(start, (size_t)(r->at - start));
}

WireResult frontend_read_bind(Slice body, BindMessage *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->portal = reader_cstring(&r);
    ret->statement = reader_cstring(&r);
    ret->tail = slice_of(r.at, r.left);
    ret->formats = formats_read(&r);
    ret->param_count = reader_u16(&r);
    if (r.bad)
        return reader_fail(&r, err);
    if (ret->formats.count > 1 && ret->formats.count != ret->param_count) {
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION,
                  "bind message has %d parameter formats but %d parameters", ret->formats.count,
                  ret->param_count);
        return WIRE_BAD;
    }
    const uint8_t *start = r.at;
    WireResult result = params_check(&r, ret->formats, ret->param_count, err);
    if (result != WIRE_OK)
        return result;
    ret->params = between(start, &r);
    ret->result_formats = formats_read(&r);
    return finish(&r, err);
}

BindParam bind_param_at(const BindMessage *bind, size_t i)
{
    assert(i < bind->param_count);
    WireReader r = reader_of(bind->params);
    for (size_t skipped = 0; skipped < i; skipped++)
        value_read(&r);
    return value_read(&r);
}

BindParam *bind_params(const BindMessage *bind, Arena *arena)
{
    if (bind->param_count == 0)
        return NULL;
    BindParam *params = arena_array(arena, BindParam, bind->param_count);
    WireReader r = reader_of(bind->params);
    for (size_t i = 0; params && i < bind->param_count; i++)
        params[i] = value_read(&r);
    return params;
}

size_t frontend_bind_begin(Buf *buf, Slice portal, Slice statement, WireFormats formats,
                           size_t param_count)
{
    assert(param_count <= UINT16_MAX);
    size_t mark = writer_begin(buf, FRONTEND_BIND);
    writer_cstring(buf, portal);
    writer_cstring(buf, statement);
    formats_write(buf, formats);
    writer_u16(buf, (uint16_t)param_count);
    return mark;
}

void frontend_bind_value(Buf *buf, Slice value)
{
    writer_value(buf, value);
}
void frontend_bind_null(Buf *buf)
{
    writer_null(buf);
}

void frontend_bind_end(Buf *buf, size_t mark, WireFormats result_formats)
{
    formats_write(buf, result_formats);
    writer_end(buf, mark);
}

void frontend_put_bind_renamed(Buf *buf, const BindMessage *bind, Slice statement)
{
    size_t mark = writer_begin(buf, FRONTEND_BIND);
    writer_cstring(buf, bind->portal);
    writer_cstring(buf, statement);
    writer_bytes(buf, bind->tail);
    writer_end(buf, mark);
}

/* ---- Describe, Close, Execute, Sync ... ------------------------------------------------------ */

static WireResult target_read(Slice body, const char *message, TargetMessage *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->target = reader_u8(&r);
    ret->name = reader_cstring(&r);
    if (!reader_done(&r))
        return reader_fail(&r, err);
    if (ret->target == TARGET_STATEMENT || ret->target == TARGET_PORTAL)
        return WIRE_OK;
    error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "invalid %s message subtype %d", message,
              ret->target);
    return WIRE_BAD;
}

WireResult frontend_read_describe(Slice body, TargetMessage *ret, Error *err)
{
    return target_read(body, "DESCRIBE", ret, err);
}

WireResult frontend_read_close(Slice body, TargetMessage *ret, Error *err)
{
    return target_read(body, "CLOSE", ret, err);
}

static void target_put(Buf *buf, char type, char target, Slice name)
{
    assert(target == TARGET_STATEMENT || target == TARGET_PORTAL);
    size_t mark = writer_begin(buf, type);
    writer_u8(buf, (uint8_t)target);
    writer_cstring(buf, name);
    writer_end(buf, mark);
}

void frontend_put_describe(Buf *buf, char target, Slice name)
{
    target_put(buf, FRONTEND_DESCRIBE, target, name);
}

void frontend_put_close(Buf *buf, char target, Slice name)
{
    target_put(buf, FRONTEND_CLOSE, target, name);
}

WireResult frontend_read_execute(Slice body, ExecuteMessage *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->portal = reader_cstring(&r);
    ret->max_rows = reader_i32(&r);
    return finish(&r, err);
}

void frontend_put_execute(Buf *buf, Slice portal, int32_t max_rows)
{
    size_t mark = writer_begin(buf, FRONTEND_EXECUTE);
    writer_cstring(buf, portal);
    writer_i32(buf, max_rows);
    writer_end(buf, mark);
}

WireResult frontend_read_empty(Slice body, Error *err)
{
    WireReader r = reader_of(body);
    return finish(&r, err);
}

static void empty_put(Buf *buf, char type)
{
    writer_end(buf, writer_begin(buf, type));
}

void frontend_put_sync(Buf *buf)
{
    empty_put(buf, FRONTEND_SYNC);
}
void frontend_put_flush(Buf *buf)
{
    empty_put(buf, FRONTEND_FLUSH);
}
void frontend_put_terminate(Buf *buf)
{
    empty_put(buf, FRONTEND_TERMINATE);
}

/* ---- login ----------------------------------------------------------------------------------- */

WireResult frame_next_auth(Slice in, const char *what, Frame *ret, Error *err)
{
    if (in.len == 0)
        return WIRE_MORE;
    if (in.data[0] != FRONTEND_PASSWORD) {
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "expected %s response, got message type %d",
                  what, in.data[0]);
        return WIRE_BAD;
    }
    return frame_next(in, AUTH_BODY_MAX, ret, err);
}

WireResult frontend_read_password(Slice body, Slice *ret, Error *err)
{
    WireReader r = reader_of(body);
    Slice password = reader_cstring(&r);
    if (!reader_done(&r)) {
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "invalid password packet size");
        return WIRE_BAD;
    }
    if (password.len == 0) {
        error_set(err, SQLSTATE_INVALID_PASSWORD, "empty password returned by client");
        return WIRE_BAD;
    }
    *ret = password;
    return WIRE_OK;
}

WireResult frontend_read_sasl_initial(Slice body, SaslInitial *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->mechanism = reader_cstring(&r);
    BindParam response = value_read(&r);
    ret->response = response.value;
    ret->has_response = !response.is_null;
    return finish(&r, err);
}

WireResult frontend_read_sasl_response(Slice body, Slice *ret, Error *err)
{
    *ret = body;
    return WIRE_OK;
}

/* First messages have no type: the length comes first and counts itself. */
static size_t first_begin(Buf *buf, uint32_t code)
{
    size_t mark = buf_len(buf);
    writer_u32(buf, 0);
    writer_u32(buf, code);
    return mark;
}

static void first_end(Buf *buf, size_t mark)
{
    if (buf->failed)
        buf->tail = buf->head + mark;
    else
        writer_patch_u32(buf, mark, (uint32_t)(buf_len(buf) - mark));
}

void frontend_put_startup(Buf *buf, uint32_t version, const StartupParam *params, size_t count)
{
    size_t mark = first_begin(buf, version);
    for (size_t i = 0; i < count; i++) {
        writer_cstring(buf, params[i].name);
        writer_cstring(buf, params[i].value);
    }
    writer_u8(buf, 0);
    first_end(buf, mark);
}

void frontend_put_ssl_request(Buf *buf)
{
    first_end(buf, first_begin(buf, PROTOCOL_SSL));
}
void frontend_put_gss_request(Buf *buf)
{
    first_end(buf, first_begin(buf, PROTOCOL_GSS));
}

void frontend_put_cancel(Buf *buf, uint32_t pid, uint32_t key)
{
    size_t mark = first_begin(buf, PROTOCOL_CANCEL);
    writer_u32(buf, pid);
    writer_u32(buf, key);
    first_end(buf, mark);
}

void frontend_put_password(Buf *buf, Slice password)
{
    size_t mark = writer_begin(buf, FRONTEND_PASSWORD);
    writer_cstring(buf, password);
    writer_end(buf, mark);
}

void frontend_put_sasl_initial(Buf *buf, Slice mechanism, const Slice *response)
{
    size_t mark = writer_begin(buf, FRONTEND_PASSWORD);
    writer_cstring(buf, mechanism);
    if (response)
        writer_value(buf, *response);
    else
        writer_null(buf);
    writer_end(buf, mark);
}

void frontend_put_sasl_response(Buf *buf, Slice response)
{
    size_t mark = writer_begin(buf, FRONTEND_PASSWORD);
    writer_bytes(buf, response);
    writer_end(buf, mark);
}

/* ---- COPY and function call ------------------------------------------------------------------ */

WireResult frontend_read_copy_fail(Slice body, Slice *ret_reason, Error *err)
{
    WireReader r = reader_of(body);
    *ret_reason = reader_cstring(&r);
    return finish(&r, err);
}

void frontend_put_copy_data(Buf *buf, Slice data)
{
    size_t mark = writer_begin(buf, FRONTEND_COPY_DATA);
    writer_bytes(buf, data);
    writer_end(buf, mark);
}

void frontend_put_copy_done(Buf *buf)
{
    empty_put(buf, FRONTEND_COPY_DONE);
}

void frontend_put_copy_fail(Buf *buf, Slice reason)
{
    size_t mark = writer_begin(buf, FRONTEND_COPY_FAIL);
    writer_cstring(buf, reason);
    writer_end(buf, mark);
}

/* PostgreSQL has words of its own for a negative size here. */
static WireResult args_check(WireReader *r, FunctionCallMessage *call, Error *err)
{
    for (size_t i = 0; i < call->arg_count; i++) {
        int32_t len = reader_i32(r);
        if (!r->bad && len < -1) {
            error_set(err, SQLSTATE_PROTOCOL_VIOLATION,
                      "invalid argument size %d in function call message", len);
            return WIRE_BAD;
        }
        if (len > 0)
            reader_bytes(r, (size_t)len);
        if (r->bad)
            return reader_fail(r, err);
        if (formats_of(call->formats, i) > FORMAT_BINARY)
            return format_bad(formats_of(call->formats, i), err);
    }
    return WIRE_OK;
}

WireResult frontend_read_function_call(Slice body, FunctionCallMessage *ret, Error *err)
{
    WireReader r = reader_of(body);
    ret->function_oid = reader_u32(&r);
    ret->formats = formats_read(&r);
    ret->arg_count = reader_u16(&r);
    if (r.bad)
        return reader_fail(&r, err);
    if (ret->formats.count > 1 && ret->formats.count != ret->arg_count) {
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION,
                  "function call message contains %d argument formats but %d arguments",
                  ret->formats.count, ret->arg_count);
        return WIRE_BAD;
    }
    const uint8_t *start = r.at;
    WireResult result = args_check(&r, ret, err);
    if (result != WIRE_OK)
        return result;
    ret->args = between(start, &r);
    ret->result_format = reader_u16(&r);
    return finish(&r, err);
}

void frontend_put_function_call(Buf *buf, const FunctionCallMessage *call)
{
    size_t mark = writer_begin(buf, FRONTEND_FUNCTION_CALL);
    writer_u32(buf, call->function_oid);
    formats_write(buf, call->formats);
    writer_u16(buf, call->arg_count);
    writer_bytes(buf, call->args);
    writer_u16(buf, call->result_format);
    writer_end(buf, mark);
}
