/*
 * identifier.h - SQL identifiers in settings: `public`, `"My Table"`, `"$user", public`.
 *
 * Unquoted ones are folded to lower case and all are cut to 63 bytes, as PostgreSQL does. In
 * 'single quotes' they stand where a SET was read.
 * No allocation: what is read lands in the caller's Identifier.
 */
#ifndef SHOAL_META_IDENTIFIER_H
#define SHOAL_META_IDENTIFIER_H

#include "core/slice.h"

#define IDENTIFIER_MAX 63 /* NAMEDATALEN - 1 */

typedef struct Identifier {
    uint8_t bytes[IDENTIFIER_MAX + 1];
    size_t len;
} Identifier;

static inline Slice identifier_slice(const Identifier *id) { return slice_of(id->bytes, id->len); }

/*
 * Reads one identifier at the head of `rest`, up to `separator` or the end, and moves `rest` behind
 * the separator. False when there is none left or when it is malformed; `rest` is then empty
 * (nothing was left) or stands where the trouble is.
 */
bool identifier_take(Slice *rest, char separator, Identifier *ret_id) MUST_USE;

#endif
