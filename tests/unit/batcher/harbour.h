/*
 * harbour.h - a worker in a test, with a batcher on a real PostgreSQL, and clients who write down
 * every byte they are given.
 *
 *     Client *a = query(h, "select name from users where id = 1");      through the batcher
 *     assert_heard_as_direct(h, a);                                     byte for byte
 *
 * The catalog is read from the server by libpq, as the control thread would.
 */
#ifndef SHOAL_TESTS_BATCHER_HARBOUR_H
#define SHOAL_TESTS_BATCHER_HARBOUR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <libpq-fe.h>

#include "batcher/batcher.h"
#include "core/clock.h"
#include "core/stream.h"
#include "support/pg_cluster.h"
#include "wire/backend.h"

typedef struct Harbour {
    Loop loop;
    Inbox inbox;
    Canceller *canceller;
    PreparedSet prepared;
    GucSet gucs;
    ShapeCache shapes;
    PoolSet *set;
    Batcher *batcher;
    Config config;
    Topology topology;
    Catalog *catalog, *catalogs[1];
    ServerConfig server, *servers[1];
    DatabaseConfig database;
    char conninfo[128];
    Pool *pool;
    const PgCluster *pg;
} Harbour;

typedef struct Client {
    Sink sink;
    Task task;
    Harbour *harbour;
    Arena arena;
    TaskStep steps[8];
    uint32_t count;
    Prepared *prepared;
    const char *sql;
    ShapeReading reading;
    BindMessage bind;
    bool extended;
    GucVector *gucs; /* borrowed */
    Buf heard; /* every frame; ReadyForQuery as a frame of its own */
    uint32_t rows;
    bool over, lost;
    Error err;
    BatchReason reason; /* of batcher_add */
    Task *before; /* of the same client, not answered; NULL mostly */
    void (*on_hear)(struct Client *client, const Frame *frame);
    void *ctx;
} Client;

/* ---- the catalog, as the control thread reads it ----------------------------------------------- */

static inline Slice cell(Arena *arena, const PGresult *result, int row, int column)
{
    return arena_dup(arena, slice_str(PQgetvalue(result, row, column)));
}
static inline int64_t number(const PGresult *result, int row, int column)
{
    return atoll(PQgetvalue(result, row, column));
}
static inline bool yes(const PGresult *result, int row, int column)
{
    return PQgetvalue(result, row, column)[0] == 't';
}

static inline PGresult *ask(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    return result;
}

#define SQL_TABLES                                                                                 \
    "select c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relrowsecurity,"           \
    " c.relhassubclass from pg_class c join pg_namespace n on n.oid = c.relnamespace"              \
    " where n.nspname = 'public' and c.relkind in ('r','p','v','m','f')"
#define SQL_COLUMNS                                                                                \
    "select a.attname, a.atttypid, a.atttypmod, a.attnum, a.attnotnull,"                           \
    " a.atttypid in (16,17,18,20,21,23,25,26,1043,1082,1114,1184,2950),"                           \
    " coalesce((select collisdeterministic from pg_collation where oid = a.attcollation), true),"  \
    " exists (select 1 from pg_index i where i.indrelid = a.attrelid and i.indisvalid"             \
    "   and i.indpred is null and i.indkey[0] = a.attnum),"                                        \
    " exists (select 1 from pg_index i where i.indrelid = a.attrelid and i.indisvalid"             \
    "   and i.indisunique and i.indimmediate and i.indpred is null and i.indnkeyatts = 1"          \
    "   and i.indkey[0] = a.attnum),"                                                              \
    " t.typtype = 'b' and t.typnamespace = 'pg_catalog'::regnamespace and t.typelem = 0"           \
    " from pg_attribute a join pg_type t on t.oid = a.atttypid"                                    \
    " where a.attrelid = %s and a.attnum > 0 and not a.attisdropped order by a.attnum"
#define SQL_FUNCTIONS                                                                              \
    "select n.nspname, p.proname, p.provolatile, p.prokind, p.proretset from pg_proc p"            \
    " join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('pg_catalog', 'public')"
#define SQL_TYPES                                                                                  \
    "select n.nspname, t.typname, t.oid, t.typtype = 'b' and n.nspname = 'pg_catalog'"             \
    " from pg_type t join pg_namespace n on n.oid = t.typnamespace"                                \
    " where n.nspname in ('pg_catalog', 'public') and t.typtype in ('b', 'e', 'd')"

static inline void load_columns(PGconn *conn, Catalog *catalog, CatalogTable *table)
{
    char sql[2048], oid[16];
    snprintf(oid, sizeof(oid), "%u", table->oid);
    snprintf(sql, sizeof(sql), SQL_COLUMNS, oid);
    PGresult *r = ask(conn, sql);
    table->column_count = (uint32_t)PQntuples(r);
    table->columns = arena_array(&catalog->arena, CatalogColumn, table->column_count + 1);
    for (int i = 0; i < PQntuples(r); i++)
        table->columns[i] = (CatalogColumn){.name = cell(&catalog->arena, r, i, 0),
                                            .type_oid = (uint32_t)number(r, i, 1),
                                            .typmod = (int32_t)number(r, i, 2),
                                            .number = (int16_t)number(r, i, 3),
                                            .not_null = yes(r, i, 4),
                                            .equal_image = yes(r, i, 5),
                                            .deterministic = yes(r, i, 6),
                                            .indexed_alone = yes(r, i, 7),
                                            .unique_alone = yes(r, i, 8),
                                            .plain_type = yes(r, i, 9)};
    PQclear(r);
}

static inline PGconn *harbour_connect(const PgCluster *pg)
{
    char conninfo[128];
    snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1 port=%d user=postgres dbname=postgres",
             pg->port);
    return PQconnectdb(conninfo);
}

static inline Catalog *load_catalog(const PgCluster *pg, uint64_t version)
{
    PGconn *conn = harbour_connect(pg);
    Catalog *catalog = catalog_create();
    Arena *arena = &catalog->arena;
    PGresult *r = ask(conn, SQL_TABLES);
    for (int i = 0; i < PQntuples(r); i++) {
        CatalogTable *table = arena_new(arena, CatalogTable);
        *table = (CatalogTable){.schema = cell(arena, r, i, 1),
                                .name = cell(arena, r, i, 2),
                                .oid = (uint32_t)number(r, i, 0),
                                .kind = PQgetvalue(r, i, 3)[0],
                                .persistence = PQgetvalue(r, i, 4)[0],
                                .row_security = yes(r, i, 5),
                                .has_children = yes(r, i, 6)};
        load_columns(conn, catalog, table);
        assert_true(catalog_add_table(catalog, table));
    }
    PQclear(r);
    r = ask(conn, SQL_FUNCTIONS);
    for (int i = 0; i < PQntuples(r); i++) {
        CatalogFunction *f = arena_new(arena, CatalogFunction);
        *f = (CatalogFunction){.schema = cell(arena, r, i, 0),
                               .name = cell(arena, r, i, 1),
                               .volatility = PQgetvalue(r, i, 2)[0],
                               .kind = PQgetvalue(r, i, 3)[0],
                               .set_returning = yes(r, i, 4)};
        assert_true(catalog_add_function(catalog, f));
    }
    PQclear(r);
    r = ask(conn, SQL_TYPES);
    for (int i = 0; i < PQntuples(r); i++) {
        CatalogType *t = arena_new(arena, CatalogType);
        *t = (CatalogType){.schema = cell(arena, r, i, 0),
                           .name = cell(arena, r, i, 1),
                           .oid = (uint32_t)number(r, i, 2),
                           .plain = yes(r, i, 3)};
        assert_true(catalog_add_type(catalog, t));
    }
    PQclear(r);
    PQfinish(conn);
    catalog->loaded = true;
    catalog->version = version;
    catalog->search_path = SLICE("\"$user\", public");
    return catalog;
}

/* ---- the worker -------------------------------------------------------------------------------- */

static inline void harbour_turn_end(void *ctx)
{
    Harbour *h = ctx;
    batcher_turn_end(h->batcher);
    pool_set_turn_end(h->set);
    stream_flush_all(&h->loop);
}

static inline Harbour *harbour_open(const PgCluster *pg)
{
    Harbour *h = calloc(1, sizeof(*h));
    h->pg = pg;
    assert_true(loop_init(&h->loop));
    inbox_open(&h->inbox, &h->loop, h);
    h->canceller = canceller_create(2);
    prepared_set_init(&h->prepared);
    guc_set_init(&h->gucs);
    shape_cache_init(&h->shapes, 1000, 16 << 20);
    PoolEvents events = {0};
    h->set = pool_set_create(&h->loop, &h->inbox, h->canceller, 1, &h->prepared, &h->gucs, &events);
    h->batcher = batcher_create(&h->loop, &h->prepared, &h->gucs, &h->shapes);
    assert_non_null(h->batcher);
    loop_on_turn_end(&h->loop, harbour_turn_end, h);
    snprintf(h->conninfo, sizeof(h->conninfo), "host=127.0.0.1 port=%d", pg->port);
    h->server = (ServerConfig){
        .name = "s0/primary", .conninfo = h->conninfo, .host = "127.0.0.1", .port = pg->port};
    h->servers[0] = &h->server;
    h->database =
        (DatabaseConfig){.name = "app", .dbname = "postgres", .pool_size = 8, .batch = true};
    h->config = (Config){.query_wait_timeout_ms = 10000,
                         .server_connect_timeout_ms = 5000,
                         .server_idle_timeout_ms = 60000,
                         .server_lifetime_ms = 600000,
                         .server_statements_max = 500,
                         .tcp_user_timeout_ms = 10000,
                         .message_max = 16 << 20,
                         .server_message_max = 64 << 20,
                         .output_high = 256 << 10,
                         .servers = h->servers,
                         .server_count = 1,
                         .databases = &h->database,
                         .database_count = 1,
                         .batch = true,
                         .batch_max = 100,
                         .batch_inflight_max = 1,
                         .batch_bytes_max = 1 << 20,
                         .batch_rows_max = 5000,
                         .batch_templates_max = 1000};
    h->catalog = h->catalogs[0] = load_catalog(pg, 1);
    h->topology.config = &h->config;
    h->topology.catalogs = h->catalogs;
    pool_set_adopt(h->set, &h->topology);
    batcher_adopt(h->batcher, &h->topology);
    h->pool = pool_get(h->set, &h->server, &h->database, NULL, SLICE("postgres"));
    assert_non_null(h->pool);
    return h;
}

static inline void harbour_close(Harbour *h)
{
    batcher_destroy(h->batcher);
    canceller_destroy(h->canceller);
    inbox_close(&h->inbox);
    pool_set_destroy(h->set);
    shape_cache_finish(&h->shapes);
    prepared_set_finish(&h->prepared);
    guc_set_finish(&h->gucs);
    catalog_free(h->catalog);
    loop_finish(&h->loop);
    free(h);
}

/* As after DDL that the control thread has seen. */
static inline void harbour_reload(Harbour *h)
{
    Catalog *old = h->catalog;
    h->catalog = h->catalogs[0] = load_catalog(h->pg, old->version + 1);
    batcher_adopt(h->batcher, &h->topology);
    catalog_free(old);
}

static inline void harbour_nudge(Timer *timer)
{
    (void)timer;
}

static inline bool harbour_until(Harbour *h, bool (*done)(void *ctx), void *ctx)
{
    Timer nudge;
    uint64_t end_us = clock_now_us() + 15u * 1000 * 1000;
    timer_init(&nudge, &h->loop, harbour_nudge, NULL);
    while (!done(ctx) && clock_now_us() < end_us) {
        timer_start_ms(&nudge, 20);
        ev_run(h->loop.ev, EVRUN_ONCE);
    }
    timer_stop(&nudge);
    return done(ctx);
}

static inline bool time_is_up(void *ctx)
{
    return clock_now_us() >= *(uint64_t *)ctx;
}

static inline void wait_ms(Harbour *h, unsigned ms)
{
    uint64_t end_us = clock_now_us() + ms * 1000u;
    (void)harbour_until(h, time_is_up, &end_us);
}

/* ---- clients ----------------------------------------------------------------------------------- */

static inline void client_on_frame(Sink *sink, Task *task, const Frame *frame)
{
    Client *c = container_of(sink, Client, sink);
    assert_ptr_equal(task, &c->task);
    assert_false(c->over);
    c->rows += frame->type == 'D';
    buf_append(&c->heard, frame->whole);
    if (c->on_hear)
        c->on_hear(c, frame);
}

static inline void client_on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    Client *c = container_of(sink, Client, sink);
    assert_false(c->over);
    assert_true(last);
    assert_int_equal(task->state, TASK_DONE);
    assert_ptr_equal(task->sink, sink);
    backend_put_ready(&c->heard, tx_status);
    c->over = true;
}

static inline void client_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    (void)task, (void)maybe_executed;
    Client *c = container_of(sink, Client, sink);
    assert_false(c->over);
    c->err = *err;
    c->over = c->lost = true;
}

static const SinkOps CLIENT_OPS = {client_on_frame, client_on_ready, client_on_lost};

static inline Client *client(Harbour *h, const char *sql)
{
    Client *c = calloc(1, sizeof(*c));
    c->sink.ops = &CLIENT_OPS;
    c->harbour = h;
    c->sql = sql;
    arena_init(&c->arena, 1024);
    buf_init(&c->heard, 64 << 20);
    return c;
}

static inline void client_free(Client *c)
{
    if (c->prepared)
        prepared_release(&c->harbour->prepared, c->prepared);
    if (c->reading.shape)
        shape_release(&c->harbour->shapes, c->reading.shape);
    arena_finish(&c->arena);
    buf_finish(&c->heard);
    free(c);
}

static inline void client_step(Client *c, TaskOp op, Buf *frame)
{
    TaskStep step = {.op = op, .prepared = c->prepared};
    if (frame) {
        step.frame = arena_dup(&c->arena, buf_bytes(frame));
        buf_finish(frame);
    }
    c->steps[c->count++] = step;
}

static inline void say_query(Client *c)
{
    Buf q;
    buf_init(&q, 1 << 20);
    frontend_put_query(&q, slice_str(c->sql));
    client_step(c, TASK_QUERY, &q);
}

typedef struct Param {
    const void *bytes; /* NULL: null */
    size_t len;
    bool binary;
} Param;
#define TEXT(s) ((Param){(s), strlen(s), false})

/* Parse Bind Describe Execute Sync; which steps: "PBDES", 's' for Describe of the statement. */
static inline void say_extended(Client *c, const char *steps, const Param *params, size_t count,
                                WireFormats results)
{
    uint8_t codes[64] = {0};
    c->prepared = prepared_intern(&c->harbour->prepared, slice_str(c->sql), NULL, 0);
    c->extended = true;
    for (; *steps; steps++) {
        Buf f;
        buf_init(&f, 1 << 20);
        if (*steps == 'B') {
            for (size_t i = 0; i < count; i++)
                codes[2 * i + 1] = params[i].binary;
            WireFormats formats = {slice_of(codes, 2 * count), (uint16_t)count};
            size_t mark = frontend_bind_begin(&f, SLICE(""), SLICE(""), formats, count);
            for (size_t i = 0; i < count; i++)
                if (params[i].bytes)
                    frontend_bind_value(&f, slice_of(params[i].bytes, params[i].len));
                else
                    frontend_bind_null(&f);
            frontend_bind_end(&f, mark, results);
            client_step(c, TASK_BIND, &f);
            Error err;
            Slice frame = c->steps[c->count - 1].frame;
            assert_int_equal(frontend_read_bind(slice_from(frame, 5), &c->bind, &err), WIRE_OK);
        } else if (*steps == 'D') {
            frontend_put_describe(&f, TARGET_PORTAL, SLICE(""));
            client_step(c, TASK_DESCRIBE_PORTAL, &f);
        } else if (*steps == 'E') {
            frontend_put_execute(&f, SLICE(""), 0);
            client_step(c, TASK_EXECUTE, &f);
        } else {
            client_step(c,
                        *steps == 'P'   ? TASK_PARSE
                        : *steps == 's' ? TASK_DESCRIBE_STATEMENT
                                        : TASK_SYNC,
                        NULL);
        }
    }
}

static inline void client_prepare(Client *c)
{
    if (!c->count)
        say_query(c);
    task_init(&c->task, &c->sink, c->steps, c->count);
    c->task.gucs = c->gucs;
    c->over = false;
}

/* Round the batcher. */
static inline void go_direct(Client *c)
{
    client_prepare(c);
    pool_submit(c->harbour->pool, &c->task);
}

/* As the planner does: to the batcher, and round it when that says no. */
static inline BatchReason go(Client *c)
{
    Harbour *h = c->harbour;
    client_prepare(c);
    if (!c->reading.shape)
        assert_true(shape_read(&h->shapes, slice_str(c->sql), true, true, &c->arena, &c->reading));
    BatchCandidate candidate = {.policy = {.shape = c->reading.shape,
                                           .topology = &h->topology,
                                           .user = SLICE("postgres"),
                                           .search_path = h->catalog->search_path,
                                           .gucs = c->gucs,
                                           .hint = c->reading.hint,
                                           .autocommit = true,
                                           .values_may_vary = true},
                                .text = slice_str(c->sql),
                                .literals = c->reading.literals,
                                .bind = c->extended ? &c->bind : NULL,
                                .pool = h->pool,
                                .gucs = c->gucs,
                                .before = c->before};
    c->reason = batcher_add(h->batcher, &candidate, &c->task);
    if (c->reason)
        pool_submit(h->pool, &c->task);
    return c->reason;
}

static inline bool client_is_over(void *ctx)
{
    return ((Client *)ctx)->over;
}

static inline void finish(Client *c)
{
    if (!harbour_until(c->harbour, client_is_over, c))
        fail_msg("no end of: %s", c->sql);
}

/* The SQLSTATE of the last error heard, "" for none. */
static inline const char *heard_error(Client *c)
{
    Slice in = buf_bytes(&c->heard);
    Frame frame;
    Error err;
    c->err.sqlstate[0] = c->lost ? c->err.sqlstate[0] : '\0';
    while (frame_next(in, LARGE_BODY_MAX, &frame, &err) == WIRE_OK) {
        ErrorResponse response;
        if (frame.type == 'E' && backend_read_error(frame.body, &response, &err) == WIRE_OK)
            error_response_copy(&response, &c->err);
        in = slice_from(in, frame.whole.len);
    }
    return c->err.sqlstate;
}

/* What was heard as words, for messages: T D C Z ... */
static inline const char *heard_types(Client *c)
{
    static char text[256];
    size_t len = 0;
    Slice in = buf_bytes(&c->heard);
    Frame frame;
    Error err;
    while (len + 1 < sizeof(text) && frame_next(in, LARGE_BODY_MAX, &frame, &err) == WIRE_OK) {
        text[len++] = (char)frame.type;
        in = slice_from(in, frame.whole.len);
    }
    text[len] = '\0';
    return text;
}

/* The same steps round the batcher, afterwards. */
static inline void assert_heard_as_direct(Client *c)
{
    Client *direct = client(c->harbour, c->sql);
    memcpy(direct->steps, c->steps, sizeof(c->steps));
    direct->count = c->count;
    direct->gucs = c->gucs;
    go_direct(direct);
    finish(direct);
    if (direct->lost)
        fail_msg("%s: direct one lost: %s %s", c->sql, direct->err.sqlstate, direct->err.message);
    Slice a = buf_bytes(&c->heard), b = buf_bytes(&direct->heard);
    if (!slice_equal(a, b)) {
        fprintf(stderr, "%s\n  batched %s", c->sql, heard_types(c));
        fprintf(stderr, " direct %s\n", heard_types(direct));
        for (size_t i = 0; i < MAX(a.len, b.len); i++)
            if (i >= a.len || i >= b.len || a.data[i] != b.data[i]) {
                fprintf(stderr, "  first difference at byte %zu of %zu, %zu\n", i, a.len, b.len);
                break;
            }
        fail();
    }
    client_free(direct);
}

static inline uint64_t batched(const Harbour *h)
{
    return counter_get(&batcher_stats(h->batcher)->statements);
}
static inline uint64_t refused(const Harbour *h, BatchReason reason)
{
    return counter_get(&batcher_stats(h->batcher)->reasons[reason]);
}

#endif
