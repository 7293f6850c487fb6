/*
 * hash.c - the row hash of PostgreSQL's hash partitioning, byte for byte.
 *
 * Bob Jenkins' lookup3 in the variant that PostgreSQL keeps in common/hashfn.c: three words of
 * state, twelve bytes per round, the seed mixed in before the first round:
 *
 *     a b c := golden + len     seed -> mix     [12 bytes -> a b c, mix]*     tail -> final
 *
 * Written for little-endian servers, whatever this machine is: a big-endian PostgreSQL hashes
 * otherwise, and shards of mixed byte order could never agree on a row's place anyway.
 */
#include "meta/hash.h"

#define HASH_GOLDEN 0x9e3779b9u
#define HASH_EXTRA 3923095u

typedef struct HashState {
    uint32_t a, b, c;
} HashState;

static inline uint32_t rotate(uint32_t word, int bits)
{
    return (word << bits) | (word >> (32 - bits));
}

static inline uint32_t load_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void state_mix(HashState *s)
{
    s->a -= s->c, s->a ^= rotate(s->c, 4), s->c += s->b;
    s->b -= s->a, s->b ^= rotate(s->a, 6), s->a += s->c;
    s->c -= s->b, s->c ^= rotate(s->b, 8), s->b += s->a;
    s->a -= s->c, s->a ^= rotate(s->c, 16), s->c += s->b;
    s->b -= s->a, s->b ^= rotate(s->a, 19), s->a += s->c;
    s->c -= s->b, s->c ^= rotate(s->b, 4), s->b += s->a;
}

static inline uint64_t state_final(HashState *s)
{
    s->c ^= s->b, s->c -= rotate(s->b, 14);
    s->a ^= s->c, s->a -= rotate(s->c, 11);
    s->b ^= s->a, s->b -= rotate(s->a, 25);
    s->c ^= s->b, s->c -= rotate(s->b, 16);
    s->a ^= s->c, s->a -= rotate(s->c, 4);
    s->b ^= s->a, s->b -= rotate(s->a, 14);
    s->c ^= s->b, s->c -= rotate(s->b, 24);
    return (uint64_t)s->b << 32 | s->c;
}

static inline HashState state_start(uint32_t len, uint64_t seed)
{
    uint32_t start = HASH_GOLDEN + len + HASH_EXTRA;
    HashState s = {start, start, start};
    if (seed) {
        s.a += (uint32_t)(seed >> 32);
        s.b += (uint32_t)seed;
        state_mix(&s);
    }
    return s;
}

uint64_t hash_bytes_extended(const uint8_t *bytes, size_t len, uint64_t seed)
{
    HashState s = state_start((uint32_t)len, seed);
    for (; len >= 12; bytes += 12, len -= 12) {
        s.a += load_le32(bytes);
        s.b += load_le32(bytes + 4);
        s.c += load_le32(bytes + 8);
        state_mix(&s);
    }
    /* The tail fills a, then b, then the upper three bytes of c: its lowest one is the length's. */
    uint8_t tail[12] = {0};
    if (len > 0)
        memcpy(tail, bytes, len);
    s.a += load_le32(tail);
    s.b += load_le32(tail + 4);
    s.c += load_le32(tail + 8) << 8;
    return state_final(&s);
}

static uint64_t hash_word_extended(uint32_t word, uint64_t seed)
{
    HashState s = state_start(sizeof word, seed);
    s.a += word;
    return state_final(&s);
}

/* Folds the upper half in so that equal int2, int4 and int8 values hash alike, negative ones too. */
static uint64_t hash_int_extended(int64_t value, uint64_t seed)
{
    uint32_t low = (uint32_t)value;
    uint32_t high = (uint32_t)((uint64_t)value >> 32);
    low ^= value >= 0 ? high : ~high;
    return hash_word_extended(low, seed);
}

/* A signed big-endian number of 1 to 8 bytes. */
static int64_t load_be_signed(Slice bytes)
{
    assert(bytes.len >= 1 && bytes.len <= 8);
    uint64_t value = bytes.len && (bytes.data[0] & 0x80) ? UINT64_MAX : 0;
    for (size_t i = 0; i < bytes.len; i++)
        value = value << 8 | bytes.data[i];
    return (int64_t)value;
}

uint64_t hash_value_extended(KeyType type, Slice canonical)
{
    size_t len = canonical.len;
    switch (type) {
    case KEY_INT:
    case KEY_BOOL:
    case KEY_DATE:
    case KEY_TIMESTAMP:
        return hash_int_extended(load_be_signed(canonical), HASH_PARTITION_SEED);
    case KEY_BPCHAR:
        while (len > 0 && canonical.data[len - 1] == ' ')
            len--;
        return hash_bytes_extended(canonical.data, len, HASH_PARTITION_SEED);
    case KEY_TEXT:
    case KEY_UUID:
        return hash_bytes_extended(canonical.data, len, HASH_PARTITION_SEED);
    case KEY_NONE:
        break;
    }
    assert(!"a shard key of a type that has no hash");
    return 0;
}

KeyType key_type_of(uint32_t type_oid)
{
    switch (type_oid) {
    case 16:
        return KEY_BOOL;
    case 20: /* int8 */
    case 21: /* int2 */
    case 23: /* int4 */
        return KEY_INT;
    case 17:   /* bytea */
    case 25:   /* text */
    case 1043: /* varchar */
        return KEY_TEXT;
    case 1042:
        return KEY_BPCHAR;
    case 1082:
        return KEY_DATE;
    case 1114: /* timestamp */
    case 1184: /* timestamptz */
        return KEY_TIMESTAMP;
    case 2950:
        return KEY_UUID;
    default:
        return KEY_NONE;
    }
}

const char *key_type_name(KeyType type)
{
    static const char *const NAMES[] = {
        [KEY_NONE] = "none", [KEY_INT] = "integer", [KEY_TEXT] = "text", [KEY_BPCHAR] = "bpchar",
        [KEY_UUID] = "uuid", [KEY_BOOL] = "bool",   [KEY_DATE] = "date", [KEY_TIMESTAMP] = "timestamp",
    };
    return NAMES[type];
}
