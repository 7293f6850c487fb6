/*
 * bucket_sql.c - the shard function in PostgreSQL's words.
 *
 * bucket = (hash64(v) + C) mod n with n a power of two: only the low bits of the sum count, and a
 * plain bigint addition of the whole would overflow. So both are cut first, and the sum once more.
 * Types whose hash function cannot be called from SQL go through hash_record_extended(ROW(v)):
 * its hash of a record of one column is the column's.
 */
#include "meta/bucket_sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "meta/pin.h"

/* What hash_combine64(0, h) adds to h. */
#define COMBINE_CONSTANT UINT64_C(0x49a0f4dd15e5a8e3)

/* ---- sets of buckets ------------------------------------------------------------------------- */

bool bucket_set_init(BucketSet *set, uint32_t bucket_count, Arena *arena)
{
    *set = (BucketSet){.has = arena_zalloc(arena, MAX(bucket_count, 1)), .bucket_count = bucket_count};
    return set->has != NULL;
}

void bucket_set_add(BucketSet *set, uint32_t bucket)
{
    assert(bucket < set->bucket_count);
    set->count += !set->has[bucket];
    set->has[bucket] = 1;
}

/* The end of the run that begins at `first`. */
static uint32_t run_end(const BucketSet *set, uint32_t first)
{
    uint32_t last = first;
    while (last + 1 < set->bucket_count && set->has[last + 1])
        last++;
    return last;
}

char *bucket_set_text(const BucketSet *set, Arena *arena)
{
    size_t size = (size_t)set->count * 12 + 1, at = 0; /* "16383-16383," */
    char *text = arena_alloc(arena, size);
    if (!text)
        return NULL;
    text[0] = '\0';
    for (uint32_t b = 0; b < set->bucket_count; b++) {
        if (!set->has[b])
            continue;
        uint32_t last = run_end(set, b);
        int n = snprintf(text + at, size - at, last > b ? "%s%u-%u" : "%s%u", at ? "," : "", b, last);
        at += (size_t)n;
        b = last;
    }
    return text;
}

static bool read_number(const char **at, const char *end, uint32_t bound, uint32_t *ret)
{
    uint32_t value = 0;
    const char *start = *at;
    while (*at < end && **at >= '0' && **at <= '9' && *at - start < 6)
        value = value * 10 + (uint32_t)(*(*at)++ - '0');
    *ret = value;
    return *at > start && value < bound;
}

bool bucket_set_read(Slice text, uint32_t bucket_count, Arena *arena, BucketSet *ret, Error *err)
{
    BucketSet set;
    const char *at = (const char *)text.data, *end = at + text.len;
    if (!bucket_set_init(&set, bucket_count, arena)) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    while (at < end) {
        uint32_t first, last;
        bool ok = read_number(&at, end, bucket_count, &first);
        last = first;
        if (ok && at < end && *at == '-') {
            at++;
            ok = read_number(&at, end, bucket_count, &last) && last >= first;
        }
        ok = ok && (at == end || (*at == ',' && at + 1 < end));
        if (!ok) {
            error_set(err, SQLSTATE_INVALID_PARAMETER, "\"%.*s\" is not a list of buckets",
                      (int)MIN(text.len, 60), (const char *)text.data);
            error_hint(err, "Write 7 or 0-15,40; the buckets are 0 to %u.", bucket_count - 1);
            return false;
        }
        for (uint32_t b = first; b <= last; b++)
            bucket_set_add(&set, b);
        at += at < end;
    }
    *ret = set;
    return true;
}

/* ---- quoting --------------------------------------------------------------------------------- */

static char *quote(Arena *arena, Slice text, const char *open, char mark, bool escapes)
{
    char *out = arena_alloc(arena, text.len * 2 + 8), *at = out;
    if (!out)
        return NULL;
    at += sprintf(at, "%s", open);
    for (size_t i = 0; i < text.len; i++) {
        char c = (char)text.data[i];
        if (c == mark || (escapes && c == '\\'))
            *at++ = c;
        *at++ = c;
    }
    *at++ = mark;
    *at = '\0';
    return out;
}

char *sql_quote_identifier(Arena *arena, Slice name)
{
    return quote(arena, name, "\"", '"', false);
}

char *sql_quote_literal(Arena *arena, Slice text)
{
    bool backslash = text.len && memchr(text.data, '\\', text.len);
    return quote(arena, text, backslash ? " E'" : "'", '\'', backslash);
}

char *sql_table_name(Arena *arena, const Table *table)
{
    char *schema = sql_quote_identifier(arena, table->schema);
    char *name = sql_quote_identifier(arena, table->name);
    return schema && name ? arena_printf(arena, "%s.%s", schema, name) : NULL;
}

char *sql_table_rows(Arena *arena, const Table *table)
{
    char *name = sql_table_name(arena, table);
    return name ? arena_printf(arena, "%s%s", table->partitioned ? "" : "ONLY ", name) : NULL;
}

/* ---- the expression -------------------------------------------------------------------------- */

/* The type's own extended hash function, where SQL can call it with a value of the type. */
static const char *hash_function(uint32_t type_oid)
{
    switch (type_oid) {
    case 20: /* int8 */
        return "hashint8extended";
    case 21: /* int2 */
        return "hashint2extended";
    case 23: /* int4 */
        return "hashint4extended";
    case 25:   /* text */
    case 1043: /* varchar */
        return "hashtextextended";
    case 1042: /* bpchar */
        return "hashbpcharextended";
    case 2950: /* uuid */
        return "uuid_hash_extended";
    case 1114: /* timestamp */
        return "timestamp_hash_extended";
    default: /* bytea, bool, date, timestamptz */
        return NULL;
    }
}

/* hash64(v), of one column. */
static char *value_hash_sql(Arena *arena, const char *column, uint32_t type_oid)
{
    assert(key_type_of(type_oid) != KEY_NONE);
    const char *function = hash_function(type_oid);
    return arena_printf(arena, "pg_catalog.%s(%s%s%s, %" PRId64 ")", function ? function : "hash_record_extended",
                        function ? "" : "ROW(", column, function ? "" : ")", (int64_t)HASH_PARTITION_SEED);
}

/* hash_combine64(0, h), its low bits. */
static char *first_hash_sql(Arena *arena, const char *column, uint32_t type_oid, uint64_t mask)
{
    char *hash = value_hash_sql(arena, column, type_oid);
    return hash ? arena_printf(arena, "(((%s & %" PRIu64 ") + %" PRIu64 ") & %" PRIu64 ")", hash, mask,
                               COMBINE_CONSTANT & mask, mask)
                : NULL;
}

char *bucket_sql(Arena *arena, const char *column, uint32_t type_oid, uint32_t bucket_count)
{
    return first_hash_sql(arena, column, type_oid, buckets_hashed(bucket_count) - 1);
}

/* = ANY of the set's buckets, of a bigint[]. */
static char *in_set(Arena *arena, const char *bucket, const BucketSet *set)
{
    size_t size = (size_t)set->count * 6 + 1, at = 0;
    char *list = arena_alloc(arena, size);
    if (!bucket || !list)
        return NULL;
    list[0] = '\0';
    for (uint32_t b = 0; b < set->bucket_count; b++) {
        if (set->has[b])
            at += (size_t)snprintf(list + at, size - at, at ? ",%u" : "%u", b);
    }
    return arena_printf(arena, "%s = ANY ('{%s}'::pg_catalog.int8[])", bucket, list);
}

/* ---- of a whole key -------------------------------------------------------------------------- */

/* hash_combine64(a, h) = a ^ (h + C + (a << 54) + (a >> 7)): its low bits need seven more of a, and never those that
 * come from above. So the first column's hash is cut to the bits that all the others will need. */
static uint32_t first_bits(const Table *table, uint32_t bucket_count)
{
    return (uint32_t)__builtin_ctz(buckets_hashed(bucket_count)) + 7 * (table->key_count - 1);
}

bool bucket_sql_knows(const Table *table, uint32_t bucket_count)
{
    return table->kind == TABLE_HASH && table_is_ready(table) && table->key_count > 0 &&
           first_bits(table, bucket_count) < 63; /* a sum of two such numbers is a bigint */
}

static char *key_column(Arena *arena, const TableKey *key, const char *of)
{
    char *name = sql_quote_identifier(arena, key->column);
    return name ? arena_printf(arena, "%s%s", of, name) : NULL;
}

/* Pinned values first, each with the bucket that is its own. */
static char *with_pins(Arena *arena, const Table *table, const char *of, char *hash)
{
    char *column = key_column(arena, &table->keys[0], of);
    const char *cases = "";
    if (table->place_count == 0 || !column || !hash)
        return column ? hash : NULL;
    for (uint32_t i = 0; cases && i < table->place_count; i++) {
        char *value = pin_value_sql(arena, &table->keys[0], table->places[i].value);
        cases = value ? arena_printf(arena, "%s WHEN %s = %s THEN %u", cases, column, value, table->places[i].bucket) : NULL;
    }
    return cases ? arena_printf(arena, "(CASE%s ELSE %s END)", cases, hash) : NULL;
}

char *bucket_sql_table(Arena *arena, const Table *table, const char *of, uint32_t bucket_count)
{
    assert(bucket_sql_knows(table, bucket_count));
    uint32_t bits = first_bits(table, bucket_count);
    char *column = key_column(arena, &table->keys[0], of);
    char *hash = column ? first_hash_sql(arena, column, table->keys[0].oid, (UINT64_C(1) << bits) - 1) : NULL;
    for (uint32_t i = 1; hash && i < table->key_count; i++) {
        bits -= 7;
        uint64_t mask = (UINT64_C(1) << bits) - 1;
        column = key_column(arena, &table->keys[i], of);
        char *more = column ? value_hash_sql(arena, column, table->keys[i].oid) : NULL;
        hash = more ? arena_printf(arena, "((%s # ((%s & %" PRIu64 ") + %" PRIu64 " + (%s >> 7))) & %" PRIu64 ")", hash,
                                   more, mask, COMBINE_CONSTANT & mask, hash, mask)
                    : NULL;
    }
    return with_pins(arena, table, of, hash);
}

char *bucket_sql_has_key(Arena *arena, const Table *table, const char *of)
{
    char *text = NULL;
    for (uint32_t i = 0; i < table->key_count; i++) {
        char *column = key_column(arena, &table->keys[i], of);
        text = column ? arena_printf(arena, "%s%s%s IS NOT NULL", text ? text : "", text ? " AND " : "", column) : NULL;
        if (!text)
            return NULL;
    }
    return text;
}

char *bucket_sql_table_filter(Arena *arena, const Table *table, const char *of, const BucketSet *set)
{
    char *within = in_set(arena, bucket_sql_table(arena, table, of, set->bucket_count), set);
    char *has_key = bucket_sql_has_key(arena, table, of);
    return within && has_key ? arena_printf(arena, "(%s AND %s)", has_key, within) : NULL;
}

bool table_keep(Table *into, const Table *from, Arena *arena)
{
    *into = *from;
    into->schema = arena_dup(arena, from->schema);
    into->name = arena_dup(arena, from->name);
    into->key = arena_dup(arena, from->key);
    bool ok = into->schema.data && into->name.data && into->key.data;
    for (uint32_t i = 0; ok && i < from->key_count; i++) {
        into->keys[i].column = arena_dup(arena, from->keys[i].column);
        ok = into->keys[i].column.data != NULL;
    }
    into->colocation = SLICE("");
    into->places = arena_array(arena, Place, from->place_count + 1);
    for (uint32_t i = 0; ok && into->places && i < from->place_count; i++) {
        into->places[i] = from->places[i];
        into->places[i].value = arena_dup(arena, from->places[i].value);
        ok = into->places[i].value.data || !from->places[i].value.data;
    }
    return ok && into->places;
}
