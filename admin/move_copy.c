/*
 * move_copy.c - two COPYs, joined row by row.
 *
 *     out: BEGIN, SET TRANSACTION SNAPSHOT, COPY 0 ... COPY n, COMMIT
 *     in:  SET session_replication_role, COPY 0 ... COPY n
 *
 * Both run through their lists by themselves; a row of COPY i is passed on only when both stand in
 * COPY i: out waits for in because nobody reads it, in waits for out because nobody writes to it.
 */
#include "admin/move_copy.h"

#include "core/failpoint.h"

#define SLICE_MS     20
#define ROWS_A_TURN  2000 /* then the loop's other work gets its turn */
#define FLUSH_BYTES  32768
#define OUT_FIRST    3    /* queries before the first COPY */
#define IN_FIRST     1

static void copy_pump(MoveCopy *copy);
static void copy_stop(MoveCopy *copy, const Error *err);

static bool out_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    MoveCopy *copy = client->ctx;
    if (index == OUT_FIRST - 1 && copy->on_snapshot)
        copy->on_snapshot(copy);
    return true;
}

static void side_done(MoveCopy *copy, uint32_t *left, const Error *err)
{
    *left = 0;
    if (err) {
        copy_stop(copy, err);
        return;
    }
    if (copy->out_left == 0 && copy->in_left == 0)
        copy->on_done(copy, NULL);
}

static void out_on_done(PgClient *client, const Error *err)
{
    MoveCopy *copy = client->ctx;
    side_done(copy, &copy->out_left, err);
}

static void in_on_done(PgClient *client, const Error *err)
{
    MoveCopy *copy = client->ctx;
    side_done(copy, &copy->in_left, err);
}

static void out_on_copy(PgClient *client)
{
    MoveCopy *copy = client->ctx;
    copy->out_ready = true;
    copy_pump(copy);
}

/* Readable while we write: the server has an error to tell, and tells it when the COPY is ended. */
static void in_on_copy(PgClient *client)
{
    MoveCopy *copy = client->ctx;
    if (copy->in_ready && client->copy_readable) {
        copy->in_ready = false;
        pg_client_copy_finish(client, "stopped");
        return;
    }
    copy->in_ready = true;
    if (copy->full && !pg_client_copy_flush(client, &copy->full)) {
        pg_client_copy_finish(client, "stopped");
        return;
    }
    copy_pump(copy);
}

static const PgClientEvents OUT_EVENTS = {
    .on_result = out_on_result, .on_done = out_on_done, .on_copy = out_on_copy};
static const PgClientEvents IN_EVENTS = {.on_done = in_on_done, .on_copy = in_on_copy};

static void copy_on_time(Timer *timer)
{
    MoveCopy *copy = timer->ctx;
    copy->slowed = false;
    copy->budget = copy->per_slice;
    copy_pump(copy);
}

void move_copy_init(MoveCopy *copy, Loop *loop, void *ctx)
{
    *copy = (MoveCopy){.ctx = ctx};
    pg_client_init(&copy->out, loop, &OUT_EVENTS, copy);
    pg_client_init(&copy->in, loop, &IN_EVENTS, copy);
    copy->out.sticky = copy->in.sticky = true;
    timer_init(&copy->timer, loop, copy_on_time, copy);
}

void move_copy_close(MoveCopy *copy)
{
    if (!copy->timer.loop)
        return;
    timer_stop(&copy->timer);
    pg_client_close(&copy->out);
    pg_client_close(&copy->in);
    copy->out_left = copy->in_left = 0;
}

void move_copy_run(MoveCopy *copy, const PgLogin *source, const PgLogin *target, const char *set_snapshot,
                   const MoveCopyTable *tables, uint32_t count, uint64_t bytes_per_s)
{
    assert(count <= MOVE_COPY_TABLES_MAX && count > 0);
    uint32_t out = 0, in = 0;
    copy->out_queries[out++] = (PgQuery){
        .sql = "SELECT pg_catalog.set_config(n, '0', false) FROM pg_catalog.unnest(ARRAY["
               "'statement_timeout', 'idle_in_transaction_session_timeout']) n"};
    copy->out_queries[out++] =
        (PgQuery){.sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"};
    copy->out_queries[out++] = (PgQuery){.sql = set_snapshot};
    copy->in_queries[in++] = (PgQuery){
        .sql = "SELECT pg_catalog.set_config(n, v, false) FROM (VALUES ('statement_timeout', '0'),"
               " ('session_replication_role', 'replica')) AS s(n, v)"};
    assert(out == OUT_FIRST && in == IN_FIRST);
    for (uint32_t i = 0; i < count; i++) {
        copy->out_queries[out++] = (PgQuery){.sql = tables[i].out};
        copy->in_queries[in++] = (PgQuery){.sql = tables[i].in};
    }
    copy->out_queries[out++] = (PgQuery){.sql = "COMMIT"};
    copy->out_left = copy->in_left = 1;
    copy->out_ready = copy->in_ready = copy->full = copy->slowed = copy->failed = false;
    copy->rows = copy->bytes = copy->table_rows = 0;
    copy->per_slice = bytes_per_s * SLICE_MS / 1000;
    copy->budget = copy->per_slice;
    pg_client_run(&copy->out, source, copy->out_queries, out, 0);
    pg_client_run(&copy->in, target, copy->in_queries, in, 0);
}

/* The first failure ends both; what the target had not committed is gone with its connection. */
static void copy_stop(MoveCopy *copy, const Error *err)
{
    if (copy->failed)
        return;
    copy->failed = true;
    copy->err = *err;
    move_copy_close(copy);
    copy->on_done(copy, &copy->err);
}

static bool row_failpoint(MoveCopy *copy, Error *err)
{
    FailAction action = FAIL_NONE;
    if (copy->rows == 0)
        action = FAILPOINT("copy_first_row");
    else if (copy->rows == 50)
        action = FAILPOINT("copy_mid");
    if (action == FAIL_NONE)
        return true;
    failpoint_error(action, copy->rows ? "copy_mid" : "copy_first_row", err);
    return false;
}

static void target_lost(Error *err)
{
    error_set(err, SQLSTATE_CONNECTION_FAILURE, "the connection to the target was lost while copying");
}

/* What libpq has collected goes out together: a system call per row would cost more than the row. */
static bool copy_flush(MoveCopy *copy)
{
    copy->unsent = 0;
    if (pg_client_copy_flush(&copy->in, &copy->full))
        return true;
    Error err;
    target_lost(&err);
    copy_stop(copy, &err);
    return false;
}

/* The binary form begins with a header (with the first row or by itself) and ends with a mark. Text has no NULs, and
 * its rows end with a newline. */
static bool is_row(const char *bytes, int len)
{
    static const char HEADER[11] = "PGCOPY\n\377\r\n", END[2] = "\377\377";
    return !(len == 2 && memcmp(bytes, END, 2) == 0) && !(len == 19 && memcmp(bytes, HEADER, 11) == 0);
}

/* One row from out to in. 1: done; 0: nothing to do for now; -1: over or failed, do not go on. */
static int copy_row(MoveCopy *copy)
{
    char *row;
    Error err;
    int len = pg_client_copy_read(&copy->out, &row);
    if (len == 0)
        return 0;
    if (len == -1) {
        copy->out_ready = copy->in_ready = false;
        pg_client_copy_finish(&copy->in, NULL);
        return -1;
    }
    if (len < 0) {
        error_set(&err, SQLSTATE_CONNECTION_FAILURE, "the connection to the source was lost while copying");
        copy_stop(copy, &err);
        return -1;
    }
    bool ok = row_failpoint(copy, &err);
    if (ok && !pg_client_copy_write(&copy->in, row, len)) {
        target_lost(&err);
        ok = false;
    }
    copy->rows += ok && is_row(row, len);
    PQfreemem(row);
    if (!ok) {
        copy_stop(copy, &err);
        return -1;
    }
    copy->unsent += (uint32_t)len;
    copy->bytes += (uint64_t)len;
    copy->budget -= MIN(copy->budget, (uint64_t)len);
    return 1;
}

void move_copy_hold(MoveCopy *copy, bool held)
{
    copy->held = held;
    if (!held && copy->out_ready && copy->in_ready)
        copy_pump(copy);
}

static void copy_pump(MoveCopy *copy)
{
    if (copy->held && copy->out_ready && copy->in_ready) { /* the target may have an error to tell */
        pg_client_copy_wait(&copy->out, 0);
        pg_client_copy_wait(&copy->in, EV_READ);
        return;
    }
    if (!copy->out_ready || !copy->in_ready) {
        /* Nobody listens meanwhile, or the loop would spin. */
        if (copy->out_ready)
            pg_client_copy_wait(&copy->out, 0);
        return;
    }
    for (int n = 0; n < ROWS_A_TURN && !copy->full; n++) {
        if (copy->per_slice && copy->budget == 0) {
            copy->slowed = true;
            timer_start_ms(&copy->timer, SLICE_MS);
            break;
        }
        int done = copy_row(copy);
        if (done < 0)
            return;
        if ((done == 0 || copy->unsent >= FLUSH_BYTES) && !copy_flush(copy))
            return;
        if (done == 0) {
            pg_client_copy_wait(&copy->out, copy->full ? 0 : EV_READ);
            pg_client_copy_wait(&copy->in, copy->full ? EV_READ | EV_WRITE : EV_READ);
            return;
        }
    }
    /* More is there, maybe already in libpq's buffer: wait for room, or for nothing at all. */
    bool idle = copy->full || copy->slowed;
    pg_client_copy_wait(&copy->out, idle ? 0 : EV_READ | EV_WRITE);
    pg_client_copy_wait(&copy->in, copy->full ? EV_READ | EV_WRITE : EV_READ);
}
