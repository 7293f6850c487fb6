/*
 * shard_fill.c - compare, empty, copy, compare.
 */
#include "admin/shard_fill.h"

#include <string.h>

#include "admin/move_sql.h"

#define HOME 0
#define NEW  1

typedef enum FillStep {
    FILL_COMPARE, /* digests of all tables, both sides */
    FILL_EMPTY,   /* new: those that differ */
    FILL_COPY,
    FILL_PROVE    /* new: digests of those again */
} FillStep;

static bool side_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void side_on_done(PgClient *client, const Error *err);
static void copy_on_done(MoveCopy *copy, const Error *err);

static const PgClientEvents SIDE_EVENTS = {.on_result = side_on_result, .on_done = side_on_done};

void fill_init(ShardFill *fill, Loop *loop, void *ctx, void (*on_done)(ShardFill *fill, const Error *err))
{
    *fill = (ShardFill){.ctx = ctx, .on_done = on_done};
    for (int i = 0; i < 2; i++) {
        fill->sides[i].fill = fill;
        pg_client_init(&fill->sides[i].client, loop, &SIDE_EVENTS, &fill->sides[i]);
        fill->sides[i].client.sticky = true;
    }
    move_copy_init(&fill->copy, loop, fill);
    fill->copy.on_done = copy_on_done;
}

void fill_close(ShardFill *fill)
{
    if (!fill->on_done)
        return;
    move_copy_close(&fill->copy);
    for (int i = 0; i < 2; i++)
        pg_client_close(&fill->sides[i].client);
}

static void fill_end(ShardFill *fill)
{
    fill->on_done(fill, fill->failed ? &fill->err : NULL);
}

static void fail(ShardFill *fill, const Error *err)
{
    if (!fill->failed)
        fill->err = *err;
    fill->failed = true;
}

static void fail_memory(ShardFill *fill)
{
    Error err;
    error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    fail(fill, &err);
}

/* ---- questions ------------------------------------------------------------------------------------- */

static void side_add(FillSide *side, const char *sql)
{
    if (!sql)
        fail_memory(side->fill);
    else if (side->count < FILL_QUERIES_MAX)
        side->queries[side->count++] = (PgQuery){.sql = sql};
}

static void side_run(FillSide *side)
{
    ShardFill *fill = side->fill;
    if (fill->failed)
        return;
    fill->pending++;
    pg_client_run(&side->client, side == &fill->sides[HOME] ? &fill->home : &fill->new, side->queries, side->count, 0);
}

static const char *digest_sql(const ShardFill *fill, uint32_t table)
{
    const char *name = sql_table_name(fill->arena, &fill->tables[table]);
    return name ? arena_printf(fill->arena, "SELECT %u, count(*), coalesce(sum(hashtextextended((t.*)::text, 0)::numeric), 0) "
                                            "FROM ONLY %s t", table, name)
                : NULL;
}

static const char *lock_sql(const ShardFill *fill)
{
    const char *names = "";
    for (uint32_t t = 0; names && t < fill->table_count; t++) {
        const char *name = sql_table_name(fill->arena, &fill->tables[t]);
        names = name ? arena_printf(fill->arena, "%s%s%s", names, t ? ", " : "", name) : NULL;
    }
    return names ? arena_printf(fill->arena, "LOCK TABLE ONLY %s IN SHARE MODE", names) : NULL;
}

/* The snapshot comes behind the locks: it is taken by the first query. */
static void compare_begin(ShardFill *fill)
{
    FillSide *home = &fill->sides[HOME], *new = &fill->sides[NEW];
    home->count = new->count = 0;
    side_add(home, "SELECT set_config('statement_timeout', '0', false), "
                   "set_config('idle_in_transaction_session_timeout', '0', false)");
    side_add(home, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    side_add(home, fill->locked ? "SET LOCAL lock_timeout = '400ms'" : "SET LOCAL lock_timeout = '10s'");
    if (fill->locked)
        side_add(home, lock_sql(fill));
    side_add(home, "SELECT pg_export_snapshot()");
    side_add(home, tables_sql_columns(fill->arena, fill->tables, fill->table_count));
    side_add(new, "SELECT set_config('statement_timeout', '0', false), "
                  "set_config('session_replication_role', 'replica', false)");
    home->first_digest = home->count;
    new->first_digest = new->count;
    for (uint32_t t = 0; t < fill->table_count; t++) {
        side_add(home, digest_sql(fill, t));
        side_add(new, digest_sql(fill, t));
    }
    side_run(home);
    side_run(new);
}

static void empty_begin(ShardFill *fill)
{
    FillSide *new = &fill->sides[NEW];
    new->count = 0;
    new->first_digest = UINT32_MAX;
    for (uint32_t i = 0; i < fill->differing_count; i++) {
        const char *name = sql_table_name(fill->arena, &fill->tables[fill->differing[i]]);
        side_add(new, name ? arena_printf(fill->arena, "DELETE FROM ONLY %s", name) : NULL);
    }
    side_run(new);
}

static void copy_begin(ShardFill *fill)
{
    MoveCopyTable tables[FILL_TABLES_MAX];
    const char *snapshot = arena_printf(fill->arena, "SET TRANSACTION SNAPSHOT '%s'", fill->snapshot);
    bool ok = snapshot != NULL;
    for (uint32_t i = 0; ok && i < fill->differing_count; i++) {
        uint32_t t = fill->differing[i];
        const char *name = sql_table_name(fill->arena, &fill->tables[t]);
        ok = name != NULL;
        if (ok)
            tables[i] = (MoveCopyTable){
                .out = arena_printf(fill->arena, "COPY (SELECT %s FROM ONLY %s) TO STDOUT", fill->columns[t], name),
                .in = arena_printf(fill->arena, "COPY %s (%s) FROM STDIN", name, fill->columns[t])};
        ok = ok && tables[i].out && tables[i].in;
    }
    if (!ok) {
        fail_memory(fill);
        return;
    }
    fill->pending++;
    move_copy_run(&fill->copy, &fill->home, &fill->new, snapshot, tables, fill->differing_count, 0);
}

static void prove_begin(ShardFill *fill)
{
    FillSide *new = &fill->sides[NEW];
    new->count = new->first_digest = 0;
    for (uint32_t i = 0; i < fill->differing_count; i++)
        side_add(new, digest_sql(fill, fill->differing[i]));
    side_add(new, "SELECT set_config('session_replication_role', 'origin', false)");
    side_run(new);
}

/* ---- from step to step --------------------------------------------------------------------------- */

static void compare(ShardFill *fill)
{
    fill->differing_count = 0;
    for (uint32_t t = 0; t < fill->table_count; t++) {
        const char *home = fill->digests[HOME][t], *new = fill->digests[NEW][t];
        if (!home || !new || strcmp(home, new) != 0)
            fill->differing[fill->differing_count++] = t;
    }
}

/* What was copied must be what was there. */
static void judge(ShardFill *fill)
{
    compare(fill);
    if (fill->differing_count == 0)
        return;
    Error err;
    error_set(&err, SQLSTATE_DATA_CORRUPTED, "the copied rows of reference table \"%.*s\" are not equal to their originals",
              SLICE_FMT(fill->tables[fill->differing[0]].name));
    fail(fill, &err);
}

static void columns_check(ShardFill *fill)
{
    for (uint32_t t = 0; t < fill->table_count; t++) {
        if (fill->columns[t] && fill->snapshot)
            continue;
        Error err;
        error_set(&err, SQLSTATE_OBJECT_NOT_READY, "reference table \"%.*s\" has gone", SLICE_FMT(fill->tables[t].name));
        fail(fill, &err);
        return;
    }
}

static void step_begin(ShardFill *fill, FillStep step)
{
    static void (*const BEGINS[])(ShardFill *) = {
        [FILL_COMPARE] = compare_begin, [FILL_EMPTY] = empty_begin, [FILL_COPY] = copy_begin, [FILL_PROVE] = prove_begin};
    fill->step = step;
    fill->pending = 1; /* ours: whoever fails to begin ends here */
    BEGINS[step](fill);
    if (--fill->pending == 0)
        fill_end(fill);
}

static void step_end(ShardFill *fill)
{
    if (--fill->pending > 0)
        return;
    if (!fill->failed && fill->step == FILL_COMPARE) {
        columns_check(fill);
        compare(fill);
    } else if (!fill->failed && fill->step == FILL_PROVE) {
        judge(fill);
    }
    if (fill->failed || fill->step == FILL_PROVE || fill->differing_count == 0)
        fill_end(fill);
    else
        step_begin(fill, (FillStep)(fill->step + 1));
}

void fill_run(ShardFill *fill, const PgLogin *home, const PgLogin *new, const Table *tables, uint32_t count, bool locked,
              Arena *arena)
{
    assert(count > 0 && count <= FILL_TABLES_MAX);
    fill_close(fill);
    fill->home = *home;
    fill->new = *new;
    fill->tables = tables;
    fill->table_count = count;
    fill->locked = locked;
    fill->arena = arena;
    fill->failed = false;
    fill->snapshot = NULL;
    memset(fill->digests, 0, sizeof fill->digests);
    memset(fill->columns, 0, sizeof fill->columns);
    step_begin(fill, FILL_COMPARE);
}

/* ---- answers ----------------------------------------------------------------------------------------- */

static bool home_result(ShardFill *fill, uint32_t index, const PGresult *rows)
{
    uint32_t first = fill->sides[HOME].first_digest;
    if (index == first - 2)
        fill->snapshot = PQntuples(rows) ? arena_text(fill->arena, pg_slice(rows, 0, 0)) : NULL;
    for (int i = 0; index == first - 1 && i < PQntuples(rows); i++)
        fill->columns[pg_u64(rows, i, 0) - 1] = arena_text(fill->arena, pg_slice(rows, i, 1));
    return true;
}

static bool side_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    FillSide *side = client->ctx;
    ShardFill *fill = side->fill;
    int which = side == &fill->sides[HOME] ? HOME : NEW;
    if (which == HOME)
        (void)home_result(fill, index, rows);
    if (index < side->first_digest || PQntuples(rows) == 0 || PQnfields(rows) != 3)
        return true;
    const char *text =
        arena_printf(fill->arena, "%s %s", PQgetvalue(rows, 0, 1), PQgetvalue(rows, 0, 2));
    fill->digests[which][pg_u64(rows, 0, 0)] = text;
    if (!text)
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return text != NULL;
}

static void side_on_done(PgClient *client, const Error *err)
{
    FillSide *side = client->ctx;
    if (err) {
        Error told = *err;
        if (!told.detail[0])
            error_detail(&told, "%s %s", side == &side->fill->sides[HOME] ? "Home shard:" : "New shard:", client->why);
        fail(side->fill, &told);
    }
    step_end(side->fill);
}

static void copy_on_done(MoveCopy *copy, const Error *err)
{
    ShardFill *fill = copy->ctx;
    fill->bytes += copy->bytes;
    if (err)
        fail(fill, err);
    step_end(fill);
}
