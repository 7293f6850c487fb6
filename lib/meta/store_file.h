/*
 * store_file.h - the SQLite file under the Store: opened, locked, checked, written (internal to meta).
 *
 * Life: store_file_open -> statements -> store_file_close. All of it on the control thread.
 */
#ifndef SHOAL_META_STORE_FILE_H
#define SHOAL_META_STORE_FILE_H

#include <sqlite3.h>

#include "meta/store.h"

#define STORE_APPLICATION_ID 0x53686f6c /* "Shol" */
#define STORE_VERSION 4
#define STORE_PATH_MAX 4096
#define STORE_CLUSTER_ID_LEN 16

#define SQLSTATE_DISK_FULL "53100"
#define SQLSTATE_DUPLICATE_TABLE "42P07"

struct Store {
    sqlite3 *db;
    char path[STORE_PATH_MAX];
    char cluster_id[STORE_CLUSTER_ID_LEN + 1];
    uint32_t bucket_count;
    bool failed; /* a commit ended in an unknown state: nothing is written until a restart (H67) */
};

/* What opening a database file found. */
bool store_file_open(Store *store, int flags, Error *err) MUST_USE;
/* Of a file that exists: ours, of a known version, sound, and ours alone from now on. */
bool store_file_claim(Store *store, Error *err) MUST_USE;

/* "store PATH: reason", and the hint that fits the code. Always false. */
bool store_corrupt(const Store *store, Error *err, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same for what SQLite says about its last call. */
bool store_fail(const Store *store, Error *err, const char *doing);

bool store_exec(Store *store, const char *sql, Error *err) MUST_USE;
/* A statement with its texts bound; NULL with err. Finish it with sqlite3_finalize. */
sqlite3_stmt *store_prepare(Store *store, const char *sql, const Slice *params, int count,
                            Error *err) MUST_USE;
/* Runs a statement that gives no rows. */
bool store_run(Store *store, const char *sql, const Slice *params, int count, Error *err) MUST_USE;
/* The number in the first column of the first row. */
bool store_number(Store *store, const char *sql, int64_t *ret_number, Error *err) MUST_USE;

bool store_begin(Store *store, Error *err) MUST_USE;
bool store_commit(Store *store, Error *err) MUST_USE;
void store_rollback(Store *store);

#endif
