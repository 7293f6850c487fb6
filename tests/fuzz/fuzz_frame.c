/*
 * fuzz_frame.c - a pipeline of messages from a client or a server.
 *
 * Byte 0 says whose stream follows. Each frame is cut, decoded by its type, and, where there is an
 * encoder that takes what the decoder gives, written again: the bytes must be the same.
 */
#include <stdlib.h>

#include "wire/backend.h"
#include "wire/frontend.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BODY_MAX 4096

static void require(bool truth)
{
    if (!truth)
        abort();
}

static void same_again(Buf *buf, const Frame *frame)
{
    require(!buf->failed && slice_equal(buf_bytes(buf), frame->whole));
    buf_reset(buf);
}

static void bind_try(const Frame *frame, Buf *buf, Arena *arena)
{
    BindMessage bind;
    Error err;
    if (frontend_read_bind(frame->body, &bind, &err) != WIRE_OK)
        return;
    frontend_put_bind_renamed(buf, &bind, bind.statement);
    same_again(buf, frame);

    BindParam *params = bind_params(&bind, arena);
    size_t mark =
        frontend_bind_begin(buf, bind.portal, bind.statement, bind.formats, bind.param_count);
    for (size_t i = 0; i < bind.param_count; i++) {
        require(bind_param_format(&bind, i) <= FORMAT_BINARY);
        if (params[i].is_null)
            frontend_bind_null(buf);
        else
            frontend_bind_value(buf, params[i].value);
    }
    frontend_bind_end(buf, mark, bind.result_formats);
    same_again(buf, frame);
}

static void client_try(const Frame *frame, Buf *buf, Arena *arena)
{
    Error err;
    QueryMessage query;
    ParseMessage parse;
    TargetMessage target;
    ExecuteMessage execute;
    FunctionCallMessage call;
    SaslInitial sasl;
    Slice text;

    switch (frame->type) {
    case FRONTEND_QUERY:
        if (frontend_read_query(frame->body, &query, &err) == WIRE_OK) {
            frontend_put_query(buf, query.sql);
            same_again(buf, frame);
        }
        break;
    case FRONTEND_PARSE:
        if (frontend_read_parse(frame->body, &parse, &err) == WIRE_OK) {
            frontend_put_parse_renamed(buf, &parse, parse.name);
            same_again(buf, frame);
        }
        break;
    case FRONTEND_BIND:
        bind_try(frame, buf, arena);
        break;
    case FRONTEND_DESCRIBE:
        if (frontend_read_describe(frame->body, &target, &err) == WIRE_OK) {
            frontend_put_describe(buf, (char)target.target, target.name);
            same_again(buf, frame);
        }
        break;
    case FRONTEND_EXECUTE:
        if (frontend_read_execute(frame->body, &execute, &err) == WIRE_OK) {
            frontend_put_execute(buf, execute.portal, execute.max_rows);
            same_again(buf, frame);
        }
        break;
    case FRONTEND_FUNCTION_CALL:
        if (frontend_read_function_call(frame->body, &call, &err) == WIRE_OK) {
            frontend_put_function_call(buf, &call);
            same_again(buf, frame);
        }
        break;
    default: /* the same bytes as a login's 'p' */
        if (frontend_read_sasl_initial(frame->body, &sasl, &err) == WIRE_OK)
            require(sasl.mechanism.len + sasl.response.len + 5 == frame->body.len);
        if (frontend_read_password(frame->body, &text, &err) == WIRE_OK)
            require(text.len + 1 == frame->body.len);
        break;
    }
}

static void row_try(const Frame *frame, Buf *buf)
{
    DataRow row;
    Error err;
    Column columns[COLUMNS_MAX];
    if (backend_read_data_row(frame->body, -1, &row, &err) != WIRE_OK || row.count > COLUMNS_MAX)
        return;
    size_t count = 0;
    for (size_t cursor = 0; data_row_next(&row, &cursor, &columns[count]);)
        count++;
    require(count == row.count);
    backend_put_data_row(buf, columns, count);
    same_again(buf, frame);
    backend_put_data_row_after(buf, &row, 0);
    same_again(buf, frame);
    backend_put_data_row_after(buf, &row, row.count);
    require(buf_len(buf) == 7);
    buf_reset(buf);
}

static void description_try(const Frame *frame, Buf *buf)
{
    RowDescription row;
    Error err;
    FieldDescription fields[COLUMNS_MAX];
    if (backend_read_row_description(frame->body, &row, &err) != WIRE_OK)
        return;
    size_t count = 0;
    for (size_t cursor = 0; row_description_next(&row, &cursor, &fields[count]);)
        count++;
    require(count == row.count);
    backend_put_row_description(buf, fields, count);
    same_again(buf, frame);
    require(backend_put_row_description_formats(buf, &row, WIRE_FORMATS_BINARY));
    buf_reset(buf);
}

static void server_try(const Frame *frame, Buf *buf)
{
    Error err;
    ErrorResponse response;
    AuthenticationMessage auth;
    Slice text;
    uint64_t rows;

    WireResult result = backend_check(frame, &err);
    require(result == WIRE_OK || (result == WIRE_BAD && error_is(&err, "08P01")));
    if (result == WIRE_BAD)
        return;
    if (frame->type == BACKEND_DATA_ROW)
        row_try(frame, buf);
    if (frame->type == BACKEND_ROW_DESCRIPTION)
        description_try(frame, buf);
    if (frame->type == BACKEND_ERROR) {
        require(backend_read_error(frame->body, &response, &err) == WIRE_OK);
        error_response_copy(&response, &err);
        backend_put_error(buf, SEVERITY_ERROR, &err);
        buf_reset(buf);
    }
    if (frame->type == BACKEND_AUTHENTICATION) {
        require(backend_read_authentication(frame->body, &auth, &err) == WIRE_OK);
        for (size_t i = 0; auth.code == AUTH_SASL && auth_mechanism_at(&auth, i, &text); i++)
            require(text.len > 0);
    }
    if (frame->type == BACKEND_COMMAND_COMPLETE) {
        require(backend_read_command_complete(frame->body, &text, &err) == WIRE_OK);
        (void)command_tag_rows(text, &rows);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    bool client = data[0] % 2 == 0;
    Slice rest = slice_of(data + 1, size - 1);
    Buf buf;
    Arena arena;
    Frame frame, partial;
    Error err;
    buf_init(&buf, 1 << 20);
    arena_init(&arena, 4096);

    while ((client ? frame_next_frontend(rest, BODY_MAX, &frame, &err)
                   : frame_next_backend(rest, BODY_MAX, &frame, &err)) == WIRE_OK) {
        require(frame.whole.len == frame.body.len + 5 && frame.whole.len <= rest.len);
        Slice shorter = slice_of(rest.data, frame.whole.len - 1);
        require(frame_next(shorter, BODY_MAX, &partial, &err) == WIRE_MORE);
        if (client)
            client_try(&frame, &buf, &arena);
        else
            server_try(&frame, &buf);
        rest = slice_from(rest, frame.whole.len);
        arena_reset(&arena);
    }
    buf_finish(&buf);
    arena_finish(&arena);
    return 0;
}
