/*
 * store_rows.h - checksummed rows of the Store: facts, buckets, tables (internal to meta).
 *
 *     row:   columns | sum = hash(table, columns)
 *     seal:  fact seal_<table> = "<rows> <hash over all rows>"
 */
#ifndef SHOAL_META_STORE_ROWS_H
#define SHOAL_META_STORE_ROWS_H

#include "meta/store_file.h"

/* A table whose rows carry sums. */
typedef struct StoreKind {
    const char *name;
    int columns; /* without sum */
    const char *select; /* columns, sum; in a fixed order of rows */
    const char *replace; /* INSERT OR REPLACE of columns and sum */
    const char *seal; /* name of its fact; NULL: not sealed */
} StoreKind;

extern const StoreKind STORE_FACT, STORE_BUCKET, STORE_TABLE, STORE_MOVE, STORE_MEMBER, STORE_PIN;
/* As version 1 had it: hash tables of one column. Read only. */
extern const StoreKind STORE_TABLE_1;

bool store_row_put(Store *store, const StoreKind *kind, const Slice *columns, Error *err) MUST_USE;
/* Calls `visit` with each row, its columns as texts (valid during the call), after its sum was found
 * right. Stops with false when visit does. A sealed kind is held against its seal at the end. */
typedef bool (*StoreVisit)(const Slice *columns, void *ctx, Error *err);
bool store_rows_each(Store *store, const StoreKind *kind, StoreVisit visit, void *ctx, Error *err) MUST_USE;
/* Writes the seal of the rows as they are now; in the transaction that changed them. */
bool store_seal(Store *store, const StoreKind *kind, Error *err) MUST_USE;

/* Ends a transaction that changed rows of `kind` (and of `other`, or NULL): seals, counts the generation
 * up, commits; or, when `ok` is false or something fails, undoes everything. */
bool store_change_end(Store *store, bool ok, const StoreKind *kind, const StoreKind *other, Error *err) MUST_USE;

bool store_fact_put(Store *store, const char *name, const char *value, Error *err) MUST_USE;
/* XX001 when it is missing or wrong; `value` gets its NUL-terminated text. */
bool store_fact_get(Store *store, const char *name, char *ret_value, size_t size, Error *err) MUST_USE;
/* True also when there is no such fact: then `value` is empty. */
bool store_fact_find(Store *store, const char *name, char *ret_value, size_t size, Error *err) MUST_USE;
bool store_fact_number(Store *store, const char *name, uint64_t *ret_number, Error *err) MUST_USE;

#endif
