/*
 * bucket_sql.h - a row's bucket as a SQL expression that PostgreSQL evaluates like Shoal does.
 *
 *     ((hashint8extended("id", 8816678312871386365) & 1023) + 227) & 1023
 *
 * Immutable and made of built-in functions only, so that a publication's row filter may contain it
 * (PostgreSQL >= 15). Whoever must know which rows of a table belong to some buckets says it with
 * these: moves, digests, fsck, statements for many shards while a shard holds rows of others.
 */
#ifndef SHOAL_META_BUCKET_SQL_H
#define SHOAL_META_BUCKET_SQL_H

#include "core/arena.h"
#include "meta/topology.h"

bool bucket_set_init(BucketSet *set, uint32_t bucket_count, Arena *arena) MUST_USE;
void bucket_set_add(BucketSet *set, uint32_t bucket);
/* Also of a set that was made before a value got its bucket. */
static inline bool bucket_set_has(const BucketSet *set, uint32_t bucket)
{
    return bucket < set->bucket_count && set->has[bucket];
}
/* "0-3,7": runs in order; and back (22023 for anything else). "" is the empty set. */
char *bucket_set_text(const BucketSet *set, Arena *arena) MUST_USE;
bool bucket_set_read(Slice text, uint32_t bucket_count, Arena *arena, BucketSet *ret, Error *err) MUST_USE;

/* An identifier with its quotes: "My ""Table""". NULL only when memory is out, here and below. */
char *sql_quote_identifier(Arena *arena, Slice name) MUST_USE;
/* 'a literal', E'...' when it holds backslashes. */
char *sql_quote_literal(Arena *arena, Slice text) MUST_USE;
/* "schema"."name" */
char *sql_table_name(Arena *arena, const Table *table) MUST_USE;
/* ONLY "schema"."name"; without ONLY when its partitions hold its rows. */
char *sql_table_rows(Arena *arena, const Table *table) MUST_USE;

/* The bucket of a row; `column` is written as it is (quoted, maybe with an alias before it). NULL
 * in the column gives NULL or some bucket: ask for IS NOT NULL where that matters. */
char *bucket_sql(Arena *arena, const char *column, uint32_t type_oid, uint32_t bucket_count) MUST_USE;
/* The same of a table's whole key, of one column or several. */

/* Every row of the table lies where its bucket does, and SQL can say which that is: a HASH table whose key is known,
 * few enough columns. Eight columns and 16384 buckets are beyond bigint's bits. */
bool bucket_sql_knows(const Table *table, uint32_t bucket_count);
/* `of` stands before each column: "", "t.", "NEW." */
char *bucket_sql_table(Arena *arena, const Table *table, const char *of, uint32_t bucket_count) MUST_USE;
char *bucket_sql_table_filter(Arena *arena, const Table *table, const char *of, const BucketSet *set) MUST_USE;
/* True when no column of the key is NULL. */
char *bucket_sql_has_key(Arena *arena, const Table *table, const char *of) MUST_USE;
/* A Table that lives as long as the arena does. */
bool table_keep(Table *into, const Table *from, Arena *arena) MUST_USE;

#endif
