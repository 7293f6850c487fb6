/* reader.c - the one thing about readers that is not worth inlining: telling what went wrong. */
#include "wire/reader.h"

WireResult reader_fail(const WireReader *r, Error *err)
{
    assert(r->bad);
    error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "%s", r->problem);
    return WIRE_BAD;
}
