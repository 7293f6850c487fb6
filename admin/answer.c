/* answer.c - puts results and errors of the control thread into a Call; see answer.h. */
#include "admin/answer.h"

#include "wire/backend.h"
#include "wire/value.h"

#define ANSWER_COLUMNS_MAX 32

static int16_t type_len(uint32_t type_oid)
{
    return type_oid == WIRE_OID_INT8 ? 8 : type_oid == WIRE_OID_BOOL ? 1 : -1;
}

void answer_columns(Call *call, const AnswerColumn *columns, size_t count)
{
    assert(count <= ANSWER_COLUMNS_MAX);
    FieldDescription fields[ANSWER_COLUMNS_MAX];
    for (size_t i = 0; i < count; i++) {
        fields[i] = (FieldDescription){.name = slice_str(columns[i].name),
                                       .type_oid = columns[i].type_oid,
                                       .type_len = type_len(columns[i].type_oid),
                                       .typmod = -1,
                                       .format = FORMAT_TEXT};
    }
    backend_put_row_description(&call->answer, fields, count);
}

void answer_row(Call *call, const char *const *cells, size_t count)
{
    assert(count <= ANSWER_COLUMNS_MAX);
    Column columns[ANSWER_COLUMNS_MAX];
    for (size_t i = 0; i < count; i++)
        columns[i] = (Column){.value = slice_str(cells[i]), .is_null = cells[i] == NULL};
    backend_put_data_row(&call->answer, columns, count);
}

void answer_done(Call *call, const char *tag)
{
    backend_put_command_complete(&call->answer, slice_str(tag));
    if (!call->answer.failed)
        return;
    Error err;
    error_set(&err, SQLSTATE_LIMIT_EXCEEDED, "the answer is longer than %zu bytes",
              call->answer.limit);
    answer_error(call, &err);
}

void answer_error(Call *call, const Error *err)
{
    buf_reset(&call->answer);
    call->failed = true;
    backend_put_error(&call->answer, SEVERITY_ERROR, err);
}
