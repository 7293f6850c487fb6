/*
 * value.h - values of key types in one canonical form, so that equal keys are equal bytes.
 *
 * The canonical form is what the type's binary send function gives: int4 '  +7 ' and binary 7
 * both become 00 00 00 07. What cannot be understood here exactly as PostgreSQL would is OPAQUE:
 * the statement goes to PostgreSQL alone and PostgreSQL decides (or complains). `type_oid` is the
 * key column's type; one that is not in the table is always OPAQUE.
 *
 * | type                     | text accepted                              | canonical            |
 * | int2 int4 int8           | spaces, sign, digits                       | 2, 4, 8 big-endian   |
 * | oid                      | digits                                     | 4 big-endian         |
 * | uuid                     | any case, braces, hyphens after any group  | 16 bytes             |
 * | bool                     | unique prefixes of true..off, 1, 0         | 1 byte               |
 * | bytea                    | \x hex and escape                          | the bytes            |
 * | date                     | YYYY-MM-DD                                 | int32 days from 2000 |
 * | timestamp                | YYYY-MM-DD HH:MM:SS[.ffffff], T for space  | int64 microseconds   |
 * | timestamptz              | the same with Z, +HH or +HH:MM             | int64 microseconds   |
 * | text varchar             | any                                        | the bytes            |
 * | name                     | up to 63 bytes                             | the bytes            |
 * | bpchar                   | any                                        | without last spaces  |
 *
 * Texts are bytes in the client's encoding: compare them only between sessions of one encoding,
 * and hash non-ASCII only where it is the database's.
 */
#ifndef SHOAL_WIRE_VALUE_H
#define SHOAL_WIRE_VALUE_H

#include "core/arena.h"
#include "core/buf.h"
#include "wire/protocol.h"

#define WIRE_OID_BOOL        16u
#define WIRE_OID_BYTEA       17u
#define WIRE_OID_CHAR        18u
#define WIRE_OID_NAME        19u
#define WIRE_OID_INT8        20u
#define WIRE_OID_INT2        21u
#define WIRE_OID_INT4        23u
#define WIRE_OID_TEXT        25u
#define WIRE_OID_OID         26u
#define WIRE_OID_JSON        114u
#define WIRE_OID_FLOAT4      700u
#define WIRE_OID_FLOAT8      701u
#define WIRE_OID_UNKNOWN     705u
#define WIRE_OID_BPCHAR      1042u
#define WIRE_OID_VARCHAR     1043u
#define WIRE_OID_DATE        1082u
#define WIRE_OID_TIME        1083u
#define WIRE_OID_TIMESTAMP   1114u
#define WIRE_OID_TIMESTAMPTZ 1184u
#define WIRE_OID_NUMERIC     1700u
#define WIRE_OID_UUID        2950u
#define WIRE_OID_JSONB       3802u

#define WIRE_OID_BOOL_ARRAY        1000u
#define WIRE_OID_BYTEA_ARRAY       1001u
#define WIRE_OID_NAME_ARRAY        1003u
#define WIRE_OID_INT2_ARRAY        1005u
#define WIRE_OID_INT4_ARRAY        1007u
#define WIRE_OID_TEXT_ARRAY        1009u
#define WIRE_OID_BPCHAR_ARRAY      1014u
#define WIRE_OID_VARCHAR_ARRAY     1015u
#define WIRE_OID_INT8_ARRAY        1016u
#define WIRE_OID_OID_ARRAY         1028u
#define WIRE_OID_TIMESTAMP_ARRAY   1115u
#define WIRE_OID_DATE_ARRAY        1182u
#define WIRE_OID_TIMESTAMPTZ_ARRAY 1185u
#define WIRE_OID_UUID_ARRAY        2951u

typedef enum ValueResult {
    VALUE_OK,
    VALUE_OPAQUE,      /* not understood here: let PostgreSQL decide */
    VALUE_OUT_OF_RANGE /* well-formed, but the type cannot hold it (PostgreSQL: 22003 or 22008) */
} ValueResult;

/* *ret lives as long as `value` or the arena, whichever ends first. NULLs are the caller's. */
ValueResult value_canonical(uint32_t type_oid, int format, Slice value, Arena *arena,
                            Slice *ret) MUST_USE;

/* Appends a canonical value as text: what PostgreSQL prints for int2/4/8, oid, uuid, bool and the
 * text types, and hex (always accepted as input) for bytea. False for other types and wrong
 * lengths; nothing is written then. */
bool value_text(uint32_t type_oid, Slice canonical, Buf *buf) MUST_USE;

/* PostgreSQL's words for booleans (unique prefixes, no case, no spaces); false when it is none. */
bool value_bool_text(Slice text, bool *ret) MUST_USE;

/* A canonical int2, int4 or int8: any of the three widths. False: the value has none of them. */
bool value_integer(Slice canonical, int64_t *ret) MUST_USE;

/* The array type of a key type, 0 when it is none of those above. */
uint32_t value_array_oid(uint32_t type_oid);

#endif
