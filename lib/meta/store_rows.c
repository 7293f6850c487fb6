/*
 * store_rows.c - rows that know when they were changed by somebody else.
 *
 * SQLite takes a file with flipped bits for good as long as its B-trees hold together. A wrong shard
 * in one bucket row would send that bucket's queries to a server that has none of its rows, so each
 * row is summed, and each table is sealed by the number and the hash of all its rows.
 */
#include "meta/store_rows.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "meta/hash.h"

#define STORE_COLUMNS_MAX 12

const StoreKind STORE_FACT = {
    .name = "fact", .columns = 2,
    .select = "SELECT name, value, sum FROM fact ORDER BY name",
    .replace = "INSERT OR REPLACE INTO fact VALUES (?1, ?2, ?3)",
};
const StoreKind STORE_BUCKET = {
    .name = "bucket", .columns = 2,
    .select = "SELECT bucket, shard, sum FROM bucket ORDER BY bucket",
    .replace = "INSERT OR REPLACE INTO bucket VALUES (?1, ?2, ?3)",
    .seal = "seal_bucket",
};
const StoreKind STORE_TABLE = {
    .name = "distributed_table", .columns = 7,
    .select = "SELECT database_name, schema_name, table_name, key_column, colocation, kind, placement, sum "
              "FROM distributed_table ORDER BY database_name, schema_name, table_name",
    .replace = "INSERT OR REPLACE INTO distributed_table (database_name, schema_name, table_name, key_column,"
               " colocation, kind, placement, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    .seal = "seal_distributed_table",
};
const StoreKind STORE_TABLE_1 = {
    .name = "distributed_table", .columns = 5,
    .select = "SELECT database_name, schema_name, table_name, key_column, colocation, sum "
              "FROM distributed_table ORDER BY database_name, schema_name, table_name",
    .seal = "seal_distributed_table",
};

const StoreKind STORE_MOVE = {
    .name = "move", .columns = 10,
    .select = "SELECT id, source_shard, target_shard, buckets, state, step, attempts, reason, "
              "created_wall_us, changed_wall_us, sum FROM move ORDER BY id",
    .replace = "INSERT OR REPLACE INTO move VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    .seal = "seal_move",
};
const StoreKind STORE_MEMBER = {
    .name = "member", .columns = 2,
    .select = "SELECT position, shard, sum FROM member ORDER BY position",
    .replace = "INSERT OR REPLACE INTO member VALUES (?1, ?2, ?3)",
    .seal = "seal_member",
};

const StoreKind STORE_PIN = {
    .name = "pin", .columns = 6,
    .select = "SELECT bucket, database_name, colocation, key_type, value, shard, sum FROM pin ORDER BY bucket",
    .replace = "INSERT OR REPLACE INTO pin VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    .seal = "seal_pin",
};

/* The same on every machine and in every run: hash.c's function, chained over the columns. */
static uint64_t row_sum(const StoreKind *kind, const Slice *columns)
{
    uint64_t sum = hash_bytes_extended((const uint8_t *)kind->name, strlen(kind->name), 1);
    for (int i = 0; i < kind->columns; i++)
        sum = hash_bytes_extended(columns[i].data, columns[i].len, sum);
    return sum;
}

bool store_row_put(Store *store, const StoreKind *kind, const Slice *columns, Error *err)
{
    char sum[24];
    Slice params[STORE_COLUMNS_MAX + 1];
    memcpy(params, columns, (size_t)kind->columns * sizeof *columns);
    snprintf(sum, sizeof sum, "%" PRId64, (int64_t)row_sum(kind, columns));
    params[kind->columns] = slice_str(sum);
    return store_run(store, kind->replace, params, kind->columns + 1, err);
}

static Slice column_text(sqlite3_stmt *stmt, int column)
{
    const unsigned char *text = sqlite3_column_text(stmt, column);
    return slice_of(text, (size_t)sqlite3_column_bytes(stmt, column));
}

static bool row_visit(Store *store, const StoreKind *kind, sqlite3_stmt *stmt, StoreVisit visit,
                      void *ctx, uint64_t *hash, Error *err)
{
    Slice columns[STORE_COLUMNS_MAX];
    for (int i = 0; i < kind->columns; i++)
        columns[i] = column_text(stmt, i);
    uint64_t sum = row_sum(kind, columns);
    if ((uint64_t)sqlite3_column_int64(stmt, kind->columns) != sum)
        return store_corrupt(store, err, "row \"%.60s\" of %s does not match its checksum",
                             columns[0].data ? (const char *)columns[0].data : "", kind->name);
    *hash = hash_combine64(*hash, sum);
    return !visit || visit(columns, ctx, err);
}

typedef struct Seal {
    uint64_t rows, hash;
} Seal;

static bool rows_walk(Store *store, const StoreKind *kind, StoreVisit visit, void *ctx,
                      Seal *ret_seal, Error *err)
{
    sqlite3_stmt *stmt = store_prepare(store, kind->select, NULL, 0, err);
    if (!stmt)
        return false;
    Seal seal = {0, 0};
    bool ok = true;
    int rc = SQLITE_DONE;
    while (ok && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        ok = row_visit(store, kind, stmt, visit, ctx, &seal.hash, err);
        seal.rows++;
    }
    if (ok && rc != SQLITE_DONE)
        ok = store_fail(store, err, "reading");
    sqlite3_finalize(stmt);
    *ret_seal = seal;
    return ok;
}

static void seal_text(const Seal *seal, char text[static 48])
{
    snprintf(text, 48, "%" PRIu64 " %016" PRIx64, seal->rows, seal->hash);
}

bool store_rows_each(Store *store, const StoreKind *kind, StoreVisit visit, void *ctx, Error *err)
{
    Seal seal;
    if (!rows_walk(store, kind, visit, ctx, &seal, err))
        return false;
    if (!kind->seal)
        return true;
    char found[48], expected[48];
    seal_text(&seal, found);
    if (!store_fact_get(store, kind->seal, expected, sizeof expected, err))
        return false;
    return strcmp(found, expected) == 0 ||
           store_corrupt(store, err, "the rows of %s are not those that were written (%s, not %s)",
                         kind->name, found, expected);
}

bool store_seal(Store *store, const StoreKind *kind, Error *err)
{
    Seal seal;
    char text[48];
    if (!rows_walk(store, kind, NULL, NULL, &seal, err))
        return false;
    seal_text(&seal, text);
    return store_fact_put(store, kind->seal, text, err);
}

bool store_fact_put(Store *store, const char *name, const char *value, Error *err)
{
    Slice columns[2] = {slice_str(name), slice_str(value)};
    return store_row_put(store, &STORE_FACT, columns, err);
}

bool store_fact_get(Store *store, const char *name, char *ret_value, size_t size, Error *err)
{
    return store_fact_find(store, name, ret_value, size, err) &&
           (ret_value[0] || store_corrupt(store, err, "the fact \"%s\" is missing", name));
}

bool store_fact_find(Store *store, const char *name, char *ret_value, size_t size, Error *err)
{
    Slice param = slice_str(name);
    sqlite3_stmt *stmt =
        store_prepare(store, "SELECT name, value, sum FROM fact WHERE name = ?1", &param, 1, err);
    if (!stmt)
        return false;
    uint64_t hash = 0;
    int rc = sqlite3_step(stmt);
    bool ok;
    if (rc != SQLITE_ROW)
        ok = rc == SQLITE_DONE || store_fail(store, err, "reading");
    else
        ok = row_visit(store, &STORE_FACT, stmt, NULL, NULL, &hash, err);
    if (ok)
        snprintf(ret_value, size, "%.*s", SLICE_FMT(rc == SQLITE_ROW ? column_text(stmt, 1) : SLICE("")));
    sqlite3_finalize(stmt);
    return ok;
}

bool store_fact_number(Store *store, const char *name, uint64_t *ret_number, Error *err)
{
    char text[24], *end;
    if (!store_fact_get(store, name, text, sizeof text, err))
        return false;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (end == text || *end || errno || text[0] == '-')
        return store_corrupt(store, err, "the fact \"%s\" is not a number", name);
    *ret_number = number;
    return true;
}

bool store_change_end(Store *store, bool ok, const StoreKind *kind, const StoreKind *other, Error *err)
{
    uint64_t generation;
    char text[24];
    if (ok && store_seal(store, kind, err) && (!other || store_seal(store, other, err)) &&
        store_fact_number(store, "generation", &generation, err)) {
        snprintf(text, sizeof text, "%" PRIu64, generation + 1);
        if (store_fact_put(store, "generation", text, err))
            return store_commit(store, err);
    }
    store_rollback(store);
    return false;
}
