/*
 * store_file.c - a SQLite file that one router owns, and SQLite's errors in an operator's words.
 */
#include "meta/store_file.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/failpoint.h"

#define HINT_CORRUPT                                                                               \
    "Restore the file from a backup. Do not just delete it: a new store spreads the buckets anew, "  \
    "which is right only when the shards hold no distributed rows."

bool store_corrupt(const Store *store, Error *err, const char *fmt, ...)
{
    char reason[200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(reason, sizeof reason, fmt, args);
    va_end(args);
    error_set(err, SQLSTATE_DATA_CORRUPTED, "store %.110s: %s", store->path, reason);
    error_hint(err, "%s", HINT_CORRUPT);
    return false;
}

bool store_fail(const Store *store, Error *err, const char *doing)
{
    int rc = store->db ? sqlite3_errcode(store->db) : SQLITE_NOMEM;
    const char *text = store->db ? sqlite3_errmsg(store->db) : "out of memory";
    const char *path = store->path;
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        error_set(err, SQLSTATE_OBJECT_IN_USE, "store %.200s: in use by another router", path);
        error_hint(err, "Each router needs a store of its own; is an old process still running?");
        break;
    case SQLITE_NOTADB:
        error_set(err, SQLSTATE_DATA_CORRUPTED, "store %.200s: not a store", path);
        error_hint(err, "Look at \"store\" in shards.ini; " HINT_CORRUPT);
        break;
    case SQLITE_CORRUPT:
        store_corrupt(store, err, "damaged: %s", text);
        break;
    case SQLITE_FULL:
        error_set(err, SQLSTATE_DISK_FULL, "store %.200s: the disk is full while %s", path, doing);
        break;
    case SQLITE_NOMEM:
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "store %.200s: out of memory while %s", path, doing);
        break;
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_IOERR:
        error_set(err, SQLSTATE_IO_ERROR, "store %.130s: %s while %s", path, text, doing);
        error_hint(err, "The file and its directory must be writable by the user Shoal runs as.");
        break;
    default:
        error_set(err, SQLSTATE_INTERNAL, "store %.130s: %s while %s", path, text, doing);
    }
    return false;
}

bool store_exec(Store *store, const char *sql, Error *err)
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK ||
           store_fail(store, err, "running a statement");
}

sqlite3_stmt *store_prepare(Store *store, const char *sql, const Slice *params, int count,
                            Error *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL);
    for (int i = 0; rc == SQLITE_OK && i < count; i++) {
        const char *text = params[i].len ? (const char *)params[i].data : "";
        rc = sqlite3_bind_text(stmt, i + 1, text, (int)params[i].len, SQLITE_STATIC);
    }
    if (rc == SQLITE_OK)
        return stmt;
    store_fail(store, err, "preparing a statement");
    sqlite3_finalize(stmt);
    return NULL;
}

bool store_run(Store *store, const char *sql, const Slice *params, int count, Error *err)
{
    sqlite3_stmt *stmt = store_prepare(store, sql, params, count, err);
    if (!stmt)
        return false;
    bool ok = sqlite3_step(stmt) == SQLITE_DONE || store_fail(store, err, "writing");
    sqlite3_finalize(stmt);
    return ok;
}

bool store_number(Store *store, const char *sql, int64_t *ret_number, Error *err)
{
    sqlite3_stmt *stmt = store_prepare(store, sql, NULL, 0, err);
    if (!stmt)
        return false;
    bool ok = sqlite3_step(stmt) == SQLITE_ROW || store_fail(store, err, "reading");
    if (ok)
        *ret_number = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return ok;
}

bool store_begin(Store *store, Error *err)
{
    if (!store->failed)
        return store_exec(store, "BEGIN IMMEDIATE", err);
    error_set(err, SQLSTATE_IO_ERROR, "store %.200s: read-only since a failed commit", store->path);
    error_hint(err, "Mend the disk, then restart the router: it reads again what was written.");
    return false;
}

/* After a failed commit nobody knows what a later open will find (H67: a commit whose fsync failed
 * was there). So nothing more is written by this process; the next start reads what is true. */
bool store_commit(Store *store, Error *err)
{
    if (FAILPOINT_FAILS("store_commit", err)) {
        store_rollback(store);
        return false;
    }
    if (sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK)
        return true;
    store_fail(store, err, "committing");
    error_detail(err, "It is unknown whether the change was stored.");
    error_hint(err, "Mend the disk, then restart the router: it reads again what was written.");
    store->failed = true;
    store_rollback(store);
    return false;
}

void store_rollback(Store *store)
{
    if (!sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
}

bool store_file_open(Store *store, int flags, Error *err)
{
    int rc = sqlite3_open_v2(store->path, &store->db, flags, NULL);
    if (rc != SQLITE_OK)
        return store_fail(store, err, "opening");
    sqlite3_extended_result_codes(store->db, 1);
    sqlite3_busy_timeout(store->db, 0);
    return true;
}

static bool store_check_identity(Store *store, Error *err)
{
    int64_t application_id, version;
    if (!store_number(store, "PRAGMA application_id", &application_id, err) ||
        !store_number(store, "PRAGMA user_version", &version, err))
        return false;
    if (application_id != STORE_APPLICATION_ID) {
        error_set(err, SQLSTATE_DATA_CORRUPTED, "store %.150s: a database of another program (application_id %" PRId64 ")",
                  store->path, application_id);
        error_hint(err, "Look at \"store\" in shards.ini: this file was not made by Shoal.");
        return false;
    }
    if (version > STORE_VERSION) {
        error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED,
                  "store %.150s: made by a newer Shoal (version %" PRId64 ", this one knows %d)",
                  store->path, version, STORE_VERSION);
        error_hint(err, "Start the newer program, or restore the backup from before the upgrade.");
        return false;
    }
    return version >= 1 || store_corrupt(store, err, "impossible version %" PRId64, version);
}

static bool store_quick_check(Store *store, Error *err)
{
    sqlite3_stmt *stmt = store_prepare(store, "PRAGMA quick_check(1)", NULL, 0, err);
    if (!stmt)
        return false;
    int rc = sqlite3_step(stmt);
    const char *verdict = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    bool ok;
    if (rc != SQLITE_ROW)
        ok = store_fail(store, err, "checking");
    else
        ok = (verdict && strcmp(verdict, "ok") == 0) ||
             store_corrupt(store, err, "damaged: %.100s", verdict ? verdict : "no verdict");
    sqlite3_finalize(stmt);
    return ok;
}

/* The lock is taken with the first read and kept until close: locking_mode comes first. Identity
 * is looked at before anything is changed, so that a foreign file stays as it was. */
bool store_file_claim(Store *store, Error *err)
{
    if (sqlite3_db_readonly(store->db, "main") == 1) {
        error_set(err, SQLSTATE_IO_ERROR, "store %.200s: is read-only", store->path);
        error_hint(err, "The file and its directory must be writable by the user Shoal runs as.");
        return false;
    }
    return store_exec(store, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA trusted_schema=OFF; "
                             "PRAGMA cell_size_check=ON", err) &&
           store_check_identity(store, err) &&
           store_exec(store, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; "
                             "BEGIN IMMEDIATE; COMMIT", err) &&
           store_quick_check(store, err);
}
