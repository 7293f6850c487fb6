/*
 * joining.c - from the schema to the moment in which a shard may join.
 */
#include "admin/joining.h"

#include <inttypes.h>
#include <stdlib.h>

#include "admin/control_state.h"
#include "core/clock.h"

#define LOOK_MS      2
#define RETRY_MS     500
#define RETRY_MAX_MS 5000
#define BARE_ATTEMPTS 3 /* without reference tables: nothing would be missed, a statement may be refused */

static void fill_next(Joining *joining);
static void fill_on_done(ShardFill *fill, const Error *err);
static void joining_on_time(Timer *timer);

/* ---- birth and death ------------------------------------------------------------------------------- */

static const Table *reference_table(const Topology *topology, uint32_t database)
{
    for (uint32_t i = 0; i < topology->table_count; i++) {
        const Table *table = &topology->tables[i];
        if (table->kind == TABLE_REFERENCE && (database == UINT32_MAX || table->database == database))
            return table;
    }
    return NULL;
}

bool joining_may(const Control *control, Error *err)
{
    const Table *table = reference_table(control->topology, UINT32_MAX);
    if (!table || !moves_any(control))
        return true;
    error_set(err, SQLSTATE_OBJECT_IN_USE, "buckets are being moved");
    error_detail(err, "The rows of reference table \"%.*s\" have to be copied to the new shard.", SLICE_FMT(table->name));
    error_hint(err, "Try again when SHOW MOVES says that they are done, or REBALANCE FINISH.");
    return false;
}

static bool fill_prepare(Joining *joining, uint32_t database)
{
    const Topology *topology = joining->control->topology;
    const DatabaseConfig *known =
        config_database(joining->control->config, slice_str(joining->config->databases[database].name));
    bool lies_there = false;
    for (uint32_t i = 0; i < joining->config->databases[database].shard_count; i++)
        lies_there |= joining->config->databases[database].shards[i] == joining->shard;
    if (!known || !lies_there || !reference_table(topology, known->index))
        return true;
    JoiningFill *fill = &joining->fills[joining->fill_count++];
    fill->joining = joining;
    fill->database = database;
    fill->tables = arena_array(joining->arena, Table, topology->table_count);
    fill_init(&fill->fill, &joining->control->loop, fill, fill_on_done);
    for (uint32_t i = 0; fill->tables && i < topology->table_count; i++) {
        const Table *from = &topology->tables[i];
        if (from->kind != TABLE_REFERENCE || from->database != known->index)
            continue;
        Table *into = &fill->tables[fill->table_count++];
        *into = (Table){.schema = arena_dup(joining->arena, from->schema), .name = arena_dup(joining->arena, from->name)};
        if (!into->schema.data || !into->name.data)
            return false;
    }
    return fill->tables != NULL;
}

void joining_begin(Joining *joining, Control *control, const Config *config, uint32_t shard, Arena *arena,
                   void (*on_ready)(Joining *joining, const Error *err), void *ctx)
{
    *joining = (Joining){.control = control, .config = config, .shard = shard, .arena = arena,
                         .on_ready = on_ready, .ctx = ctx};
    timer_init(&joining->timer, &control->loop, joining_on_time, joining);
    timer_start_ms(&joining->timer, 0);
}

static void unfence(Joining *joining)
{
    Control *control = joining->control;
    Error err;
    for (uint32_t i = 0; i < joining->fill_count; i++)
        fill_close(&joining->fills[i].fill);
    drain_stop(&joining->drain);
    joining->locked = false;
    if (!joining->fenced)
        return;
    joining->fenced = false;
    joining->held_us = clock_now_us() - joining->fenced_at_us;
    control->joining_since = 0;
    if (!control_publish(control, &err))
        log_error("control", &err); /* the next publication lets it go */
}

void joining_release(Joining *joining)
{
    if (!joining->control)
        return;
    timer_stop(&joining->timer);
    unfence(joining);
    free(joining->fills);
    joining->fills = NULL;
    joining->fill_count = 0;
}

/* ---- steps ----------------------------------------------------------------------------------------- */

static void joining_fail(Joining *joining, const Error *err)
{
    Error told = *err;
    joining_release(joining);
    joining->on_ready(joining, &told);
}

static void fail_memory(Joining *joining)
{
    Error err;
    error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    joining_fail(joining, &err);
}

static void fills_make(Joining *joining)
{
    joining->fills = calloc(MAX(joining->config->database_count, 1), sizeof *joining->fills);
    bool ok = joining->fills != NULL;
    for (uint32_t d = 0; ok && d < joining->config->database_count; d++) {
        ok = fill_prepare(joining, d);
        if (!ok || joining->fill_count == 0 || joining->fills[joining->fill_count - 1].table_count <= FILL_TABLES_MAX)
            continue;
        Error err;
        error_set(&err, SQLSTATE_LIMIT_EXCEEDED, "there are more than %d reference tables in one database", FILL_TABLES_MAX);
        joining_fail(joining, &err);
        return;
    }
    if (!ok)
        fail_memory(joining);
    else
        fill_next(joining);
}

static void fence_begin(Joining *joining)
{
    Control *control = joining->control;
    Error err;
    control->joining_since = control->topology->published.version + 1;
    joining->fenced = true;
    joining->fenced_at_us = clock_now_us();
    joining->attempts++;
    if (!control_publish(control, &err)) {
        joining_fail(joining, &err);
        return;
    }
    drain_start(&joining->drain, control, FENCE_ANY_SHARD);
    timer_start_ms(&joining->timer, 0);
}

/* Somebody does not end: everybody goes on, and it is tried again. */
static void fence_give_up(Joining *joining, const Error *err)
{
    const Config *config = joining->control->config;
    uint32_t attempts = joining->fill_count ? config->move_fence_attempts : BARE_ATTEMPTS;
    Error told = *err;
    unfence(joining);
    if (joining->attempts < attempts) {
        joining->next = 0; /* what was written meanwhile is copied ahead again */
        timer_start_ms(&joining->timer, MIN((uint64_t)RETRY_MS * joining->attempts, RETRY_MAX_MS));
    } else if (joining->fill_count == 0) {
        joining->on_ready(joining, NULL);
    } else {
        joining_fail(joining, &told);
    }
}

static void drain_end(Joining *joining)
{
    uint64_t limit_us = (uint64_t)joining->control->config->move_fence_timeout_ms * 1000;
    if (joining->drain.done) {
        drain_stop(&joining->drain);
        joining->locked = true;
        joining->next = 0;
        fill_next(joining);
        return;
    }
    if (clock_now_us() - joining->fenced_at_us > limit_us) {
        Error err;
        error_set(&err, SQLSTATE_OBJECT_IN_USE, "transactions that began before did not end in time");
        error_hint(&err, "SHOW CLIENTS tells whose they are.");
        fence_give_up(joining, &err);
        return;
    }
    drain_look(&joining->drain);
    timer_start_ms(&joining->timer, LOOK_MS);
}

static void joining_on_time(Timer *timer)
{
    Joining *joining = timer->ctx;
    if (!joining->fills)
        fills_make(joining);
    else if (joining->fenced)
        drain_end(joining);
    else
        fill_next(joining);
}

/* One database after the other; then the fence, or the end. */
static void fill_next(Joining *joining)
{
    if (joining->next < joining->fill_count) {
        JoiningFill *fill = &joining->fills[joining->next];
        const DatabaseConfig *database = &joining->config->databases[fill->database];
        Control *control = joining->control;
        PgLogin home = control_login(joining->config, database, control_primary(control, database->shards[0]));
        PgLogin new = control_login(joining->config, database, joining->config->shards[joining->shard].primary);
        fill_run(&fill->fill, &home, &new, fill->tables, fill->table_count, joining->locked, joining->arena);
    } else if (!joining->locked && (joining->fill_count > 0 || !moves_any(joining->control))) {
        fence_begin(joining);
    } else {
        joining->on_ready(joining, NULL);
    }
}

static void fill_on_done(ShardFill *fill, const Error *err)
{
    Joining *joining = ((JoiningFill *)fill->ctx)->joining;
    if (err && joining->locked && (error_is(err, "55P03") || error_is(err, "40P01"))) {
        fence_give_up(joining, err);
        return;
    }
    if (err) {
        joining_fail(joining, err);
        return;
    }
    if (!joining->locked)
        fill_close(fill); /* its snapshot goes; locks stay until all have joined */
    joining->next++;
    fill_next(joining);
}
