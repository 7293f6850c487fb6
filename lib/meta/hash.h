/*
 * hash.h - PostgreSQL's own row hash, so that any shard can check any row.
 *
 * rowHash as in hash partitioning (partbounds.c compute_partition_hash_value, common/hashfn.c
 * hash_bytes_extended): for each non-null key column
 *     rowHash = hash_combine64(rowHash, hash_extended(value, HASH_PARTITION_SEED))
 * bucket = rowHash mod bucket_count. Verified against tests/unit/meta/hash.tsv and PostgreSQL itself.
 * Values arrive in canonical binary form (wire/value.h): what the type's send function gives.
 */
#ifndef SHOAL_META_HASH_H
#define SHOAL_META_HASH_H

#include "core/slice.h"

#define HASH_PARTITION_SEED 0x7A5B22367996DCFDULL

/* How a type is hashed; KEY_NONE: not allowed as a shard key. */
typedef enum KeyType {
    KEY_NONE,
    KEY_INT,       /* int2, int4, int8: equal values hash alike; 2, 4 or 8 bytes big-endian */
    KEY_TEXT,      /* text, varchar (deterministic collation), bytea: the bytes */
    KEY_BPCHAR,    /* char(n): the bytes without trailing blanks */
    KEY_UUID,      /* 16 bytes */
    KEY_BOOL,      /* 1 byte */
    KEY_DATE,      /* 4 bytes: int4 hash */
    KEY_TIMESTAMP  /* timestamp, timestamptz: 8 bytes: int8 hash */
} KeyType;

/* By the type's OID in pg_catalog (fixed OIDs); KEY_NONE for everything else. */
KeyType key_type_of(uint32_t type_oid);
const char *key_type_name(KeyType type);

uint64_t hash_bytes_extended(const uint8_t *bytes, size_t len, uint64_t seed);
uint64_t hash_value_extended(KeyType type, Slice canonical);
static inline uint64_t hash_combine64(uint64_t a, uint64_t b)
{
    return a ^ (b + 0x49a0f4dd15e5a8e3ULL + (a << 54) + (a >> 7));
}
/* Row hash of a single non-null key column. */
static inline uint64_t hash_key(KeyType type, Slice canonical)
{
    return hash_combine64(0, hash_value_extended(type, canonical));
}

#endif
