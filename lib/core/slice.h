/* slice.h - bytes that lie somewhere else: a pointer and a length, never owned, not terminated. */
#ifndef SHOAL_CORE_SLICE_H
#define SHOAL_CORE_SLICE_H

#include <string.h>

#include "core/base.h"

typedef struct Slice {
    const uint8_t *data; /* borrowed; may be NULL when len is 0 */
    size_t len;
} Slice;

#define SLICE(text) ((Slice){(const uint8_t *)("" text), sizeof(text) - 1})
#define SLICE_FMT(s) (int)(s).len, (const char *)(s).data /* for "%.*s" */

static inline Slice slice_of(const void *data, size_t len)
{
    return (Slice){(const uint8_t *)data, len};
}
static inline Slice slice_str(const char *text)
{
    return slice_of(text, text ? strlen(text) : 0);
}
static inline bool slice_equal(Slice a, Slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}
static inline bool slice_is(Slice a, const char *text)
{
    return slice_equal(a, slice_str(text));
}
/* Bytes from `from` (cut at the end); shorter than asked when the slice is. */
static inline Slice slice_from(Slice s, size_t from)
{
    from = MIN(from, s.len);
    return slice_of(s.data + from, s.len - from);
}

bool slice_equal_nocase(Slice a, Slice b); /* ASCII only */
/* A good 64-bit hash for tables in memory, never for anything stored. Seed 0 stands for a random
 * seed of this process, so that no client can choose colliding keys; any other seed gives the same
 * answer everywhere (on machines of one byte order). */
uint64_t slice_hash(Slice s, uint64_t seed);
/* Constant time in the contents (not in the length): for secrets. */
bool slice_equal_secret(Slice a, Slice b);

#endif
