/*
 * read_denial.c - why this file exists: "terminating connection due to conflict with recovery" tells an application
 * nothing of what the router did about it, and an operator nothing of what to change.
 */
#include "router/read_denial.h"

#include "wire/backend.h"

#include <stdio.h>
#include <string.h>

/* Behind what is there already. */
static void text_append(char *text, size_t size, const char *more)
{
    size_t len = strlen(text);
    snprintf(text + len, size - len, "%s%s", len ? " " : "", more);
}

void read_denial_add(const ReadDenial *denial, Error *err)
{
    char said[256];
    if (denial->reason == READ_NOT_DENIED)
        return;
    bool budget = denial->reason == READ_DENIED_BUDGET;
    snprintf(said, sizeof said, "The read was tried %u time%s, last on %.64s, and not again: %s.", denial->asked,
             denial->asked == 1 ? "" : "s", denial->server,
             budget ? "the budget of reads that run again is spent" : "no other server may answer it now");
    text_append(err->detail, sizeof err->detail, said);
    if (budget)
        snprintf(said, sizeof said, "Ask again. More may run again with a higher retry_max (it is %u percent of reads); "
                 "SHOW REPLICAS tells which server fails.", denial->retry_percent);
    else
        snprintf(said, sizeof said, "Ask again. SHOW REPLICAS tells why the others are out of use.");
    text_append(err->hint, sizeof err->hint, said);
}

bool read_denial_put(const ReadDenial *denial, const Frame *error, Buf *buf, Frame *ret)
{
    ErrorResponse response;
    Error told;
    if (denial->reason == READ_NOT_DENIED || backend_read_error(error->body, &response, &told) != WIRE_OK)
        return false;
    error_response_copy(&response, &told);
    read_denial_add(denial, &told);
    size_t from = buf_len(buf);
    backend_put_error(buf, SEVERITY_ERROR, &told);
    if (buf->failed)
        return false;
    Slice whole = slice_from(buf_bytes(buf), from);
    *ret = (Frame){.type = BACKEND_ERROR, .whole = whole, .body = slice_from(whole, 5)};
    return true;
}
