/*
 * row_fill_end.c - one conversation with each shard, until all of them have ended it.
 *
 * A rollback must not overtake a PREPARE that is still under way on a server whose client has died (H59): sessions
 * that are at it are ended first, and it is looked at again.
 */
#include "admin/row_fill_end.h"

#include <stdio.h>
#include <stdlib.h>

#include "admin/control_state.h"
#include "core/failpoint.h"

#define AGAIN_MS   500
#define TIMEOUT_MS 20000

typedef struct EndShard {
    RowFillEnd *end;
    PgClient client;
    bool over, busy, late; /* late: a PREPARE is still under way there */
} EndShard;

struct RowFillEnd {
    Control *control;
    StoreFill fill;
    bool commits;
    const DatabaseConfig *database;
    EndShard *shards;
    uint32_t shard_count;
    char late_sql[512], end_sql[256];
    PgQuery queries[3];
    Timer timer;
    void (*on_over)(void *ctx);
    void *ctx;
};

static void end_on_time(Timer *timer);
static void end_over(RowFillEnd *end);
static bool shard_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void shard_on_done(PgClient *client, const Error *err);

static const PgClientEvents SHARD_EVENTS = {.on_result = shard_on_result, .on_done = shard_on_done};

static bool table_is_stored(Control *control, const StoreFill *fill, bool *ret, Error *err)
{
    Arena arena;
    StoreTable *tables;
    uint32_t count;
    arena_init(&arena, 4096);
    bool ok = store_load_tables(control->store, &arena, &tables, &count, err);
    *ret = false;
    for (uint32_t i = 0; ok && i < count; i++)
        *ret |= strcmp(tables[i].database, fill->database) == 0 && strcmp(tables[i].schema, fill->schema) == 0 &&
                strcmp(tables[i].name, fill->name) == 0;
    arena_finish(&arena);
    return ok;
}

static RowFillEnd *end_make(Control *control, const StoreFill *fill, bool commits)
{
    const DatabaseConfig *database = config_database(control->config, slice_str(fill->database));
    RowFillEnd *end = database ? calloc(1, sizeof *end) : NULL;
    if (!end)
        return NULL;
    *end = (RowFillEnd){.control = control, .fill = *fill, .commits = commits, .database = database, .shard_count = database->shard_count};
    end->shards = calloc(end->shard_count, sizeof *end->shards);
    if (!end->shards) {
        free(end);
        return NULL;
    }
    snprintf(end->late_sql, sizeof end->late_sql,
             "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE state = 'active'"
             " AND pid <> pg_catalog.pg_backend_pid() AND query LIKE 'PREPARE TRANSACTION ''%s''%%'", fill->gid);
    snprintf(end->end_sql, sizeof end->end_sql, "%s PREPARED '%s'", commits ? "COMMIT" : "ROLLBACK", fill->gid);
    end->queries[0] = (PgQuery){.sql = end->late_sql};
    end->queries[1] = (PgQuery){.sql = end->end_sql};
    end->queries[2] = (PgQuery){.sql = "DROP TABLE IF EXISTS " FILL_STAGE};
    timer_init(&end->timer, &control->loop, end_on_time, end);
    for (uint32_t i = 0; i < end->shard_count; i++) {
        end->shards[i].end = end;
        pg_client_init(&end->shards[i].client, &control->loop, &SHARD_EVENTS, &end->shards[i]);
    }
    return end;
}

void row_fill_end_begin(Control *control, void (*on_over)(void *ctx), void *ctx)
{
    StoreFill fill;
    Error err;
    bool stored = false;
    if (!store_load_fill(control->store, &fill, &err) || (fill.gid[0] && !table_is_stored(control, &fill, &stored, &err))) {
        log_error("fill", &err);
        return;
    }
    if (control->fill_end || !fill.gid[0])
        return;
    control->fill_end = end_make(control, &fill, stored == (fill.when == '+'));
    if (!control->fill_end) {
        log_line(LOG_ERROR, "fill", "table %s.%s of database %s: what is prepared on its shards cannot be ended",
                 fill.schema, fill.name, fill.database);
        return;
    }
    control->fill_end->on_over = on_over;
    control->fill_end->ctx = ctx;
    timer_start_ms(&control->fill_end->timer, 0);
}

static bool all_over(const RowFillEnd *end)
{
    bool over = true;
    for (uint32_t i = 0; i < end->shard_count; i++)
        over &= end->shards[i].over && !end->shards[i].busy;
    return over;
}

static void end_on_time(Timer *timer)
{
    RowFillEnd *end = timer->ctx;
    const Config *config = end->control->config;
    end->database = config_database(config, slice_str(end->fill.database)); /* a RELOAD may have come */
    if (all_over(end)) { /* the store could not be written */
        end_over(end);
        return;
    }
    for (uint32_t i = 0; end->database && i < end->shard_count && i < end->database->shard_count; i++) {
        EndShard *shard = &end->shards[i];
        if (shard->over || shard->busy)
            continue;
        PgLogin login = control_login(config, end->database, control_primary(end->control, end->database->shards[i]));
        shard->busy = true;
        shard->late = false;
        pg_client_run(&shard->client, &login, end->queries, ARRAY_LEN(end->queries), TIMEOUT_MS);
    }
    timer_start_ms(&end->timer, AGAIN_MS);
}

static bool shard_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    EndShard *shard = client->ctx;
    shard->over |= index == 1;
    if (index != 0 || PQntuples(rows) == 0)
        return true;
    shard->late = true;
    error_set(err, SQLSTATE_OBJECT_IN_USE, "it is still being prepared");
    return false;
}

/* All shards have ended it. */
static void end_over(RowFillEnd *end)
{
    Control *control = end->control;
    char text[256];
    Error err;
    void (*on_over)(void *ctx) = end->on_over;
    void *ctx = end->ctx;
    if (!store_save_fill(control->store, NULL, &err)) {
        log_error("fill", &err);
        timer_start_ms(&end->timer, AGAIN_MS);
        return;
    }
    snprintf(text, sizeof text, "table %s.%s: its rows are %s", end->fill.schema, end->fill.name,
             end->commits ? "where they belong" : "where they were");
    control_event(control, LOG_INFO, "table", text);
    row_fill_end_stop(control);
    if (on_over)
        on_over(ctx);
}

static void shard_on_done(PgClient *client, const Error *err)
{
    EndShard *shard = client->ctx;
    RowFillEnd *end = shard->end;
    shard->busy = false;
    shard->over |= err && error_is(err, "42704") && !shard->late; /* nothing is prepared there any more */
    if (err && !shard->over)
        log_line(LOG_WARNING, "fill", "%s: %s", err->message, client->why);
    (void)FAILPOINT("fill_half");
    if (all_over(end))
        end_over(end);
}

void row_fill_end_forget(Control *control)
{
    if (control->fill_end)
        control->fill_end->on_over = NULL;
}

void row_fill_end_stop(Control *control)
{
    RowFillEnd *end = control->fill_end;
    if (!end)
        return;
    control->fill_end = NULL;
    timer_stop(&end->timer);
    for (uint32_t i = 0; i < end->shard_count; i++)
        pg_client_close(&end->shards[i].client);
    free(end->shards);
    free(end);
}
