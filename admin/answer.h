/*
 * answer.h - a Call's answer, in the protocol's words: one result of text cells, or one error.
 *
 *     answer_columns, answer_row ..., answer_done      RowDescription, DataRow ..., CommandComplete
 *
 * An answer that does not fit into the Call's Buf becomes error 54000 in answer_done.
 */
#ifndef SHOAL_ADMIN_ANSWER_H
#define SHOAL_ADMIN_ANSWER_H

#include "core/error.h"
#include "router/call.h"

typedef struct AnswerColumn {
    const char *name;
    uint32_t type_oid; /* WIRE_OID_TEXT, WIRE_OID_INT8, WIRE_OID_BOOL */
} AnswerColumn;

void answer_columns(Call *call, const AnswerColumn *columns, size_t count);
/* `count` cells, NULL is SQL NULL; copied. */
void answer_row(Call *call, const char *const *cells, size_t count);
void answer_done(Call *call, const char *tag);
/* Replaces whatever is there. */
void answer_error(Call *call, const Error *err);

#endif
