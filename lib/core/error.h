/*
 * error.h - an error on its way to somebody: SQLSTATE, message, DETAIL, HINT.
 *
 * Fallible functions take `Error *err` last, fill it and return false/NULL; on success they leave
 * it alone. Who finally tells a person (the session, the console, main) encodes or logs it once.
 * Texts are cut, never overrun; the caller owns the memory (usually its stack).
 */
#ifndef SHOAL_CORE_ERROR_H
#define SHOAL_CORE_ERROR_H

#include "core/base.h"

typedef struct Error {
    char sqlstate[6];
    char message[320];
    char detail[512];
    char hint[320];
} Error;

/* SQLSTATEs that Shoal itself answers with (PostgreSQL's appendix A, where they exist there). */
#define SQLSTATE_PROTOCOL_VIOLATION "08P01"
#define SQLSTATE_CANNOT_CONNECT "08001"
#define SQLSTATE_CONNECTION_FAILURE "08006"
#define SQLSTATE_OUTCOME_UNKNOWN "08007"
#define SQLSTATE_STATEMENT_UNKNOWN "40003"
#define SQLSTATE_FEATURE_NOT_SUPPORTED "0A000"
#define SQLSTATE_INVALID_AUTHORIZATION "28000"
#define SQLSTATE_INVALID_PASSWORD "28P01"
#define SQLSTATE_INVALID_DATABASE "3D000"
#define SQLSTATE_INVALID_STATEMENT "26000"
#define SQLSTATE_INVALID_PARAMETER "22023"
#define SQLSTATE_SYNTAX_ERROR "42601"
#define SQLSTATE_UNDEFINED_OBJECT "42704"
#define SQLSTATE_UNDEFINED_TABLE "42P01"
#define SQLSTATE_DUPLICATE_STATEMENT "42P05"
#define SQLSTATE_NO_PRIVILEGE "42501"
#define SQLSTATE_OBJECT_NOT_READY "55000"
#define SQLSTATE_OBJECT_IN_USE "55006"
#define SQLSTATE_TOO_MANY_CONNECTIONS "53300"
#define SQLSTATE_OUT_OF_MEMORY "53200"
#define SQLSTATE_LIMIT_EXCEEDED "54000"
#define SQLSTATE_STATEMENT_TOO_COMPLEX "54001"
#define SQLSTATE_QUERY_CANCELED "57014"
#define SQLSTATE_ADMIN_SHUTDOWN "57P01"
#define SQLSTATE_CANNOT_CONNECT_NOW "57P03"
#define SQLSTATE_IO_ERROR "58030"
#define SQLSTATE_CONFIG_FILE "F0000"
#define SQLSTATE_INTERNAL "XX000"
#define SQLSTATE_DATA_CORRUPTED "XX001"

/* Sets code and message, clears detail and hint. */
void error_set(Error *err, const char *sqlstate, const char *fmt, ...) PRINTF_LIKE(3, 4);
void error_detail(Error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
void error_hint(Error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
static inline bool error_is(const Error *err, const char *sqlstate)
{
    return __builtin_memcmp(err->sqlstate, sqlstate, 5) == 0;
}

#endif
