/*
 * world.h - a worker in a test: loop, pools, and an Ear that writes down what a Sink hears.
 *
 *     World *w = world_open(port);
 *     Talk *t = talk(w);
 *     say_query(t, "select 1"); submit(t);
 *     hear(t, "T D(1) C(SELECT 1) Z(I)");
 *
 * A transcript has a word per message: 1 2 3 t T n G H c s I as their letters, D(first column),
 * C(tag), E(sqlstate), N, S(name), A, d(data), Z(status), lost(sqlstate,yes|no maybe executed).
 */
#ifndef SHOAL_TESTS_BACKEND_WORLD_H
#define SHOAL_TESTS_BACKEND_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backend/pool.h"
#include "core/clock.h"
#include "core/stream.h"
#include "tests/support/pg_cluster.h"
#include "wire/backend.h"
#include "wire/frontend.h"

typedef struct World {
    Loop loop;
    Inbox inbox;
    Canceller *canceller;
    PreparedSet prepared;
    GucSet gucs;
    PoolSet *set;
    Config config;
    Topology topology;
    ServerConfig server, *servers[1];
    DatabaseConfig database;
    char conninfo[128];
    Pool *pool;
    char seen[256]; /* sqlstates of on_error_seen */
    char held[256]; /* what on_held_message brought */
    int drained;
} World;

typedef struct Talk Talk;
struct Talk {
    Sink sink;
    Task task;
    World *world;
    Arena arena;
    TaskStep steps[256];
    uint32_t count, said; /* steps; those already handed over */
    char heard[16384];
    size_t len;
    bool over;
    bool keep;                   /* task_hold at the end */
    void (*on_over)(Talk *talk); /* inside on_ready(last) or on_lost */
    void (*on_hear)(Talk *talk, const Frame *frame);
    Error err;
    uint32_t rows;
    bool quiet; /* count rows only */
    void *ctx;
};

/* ---- the ear -------------------------------------------------------------------------------- */

static inline void note(Talk *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (t->len && t->len < sizeof(t->heard) - 2)
        t->heard[t->len++] = ' ';
    t->len += (size_t)vsnprintf(t->heard + t->len, sizeof(t->heard) - t->len, fmt, args);
    t->len = MIN(t->len, sizeof(t->heard) - 1);
    va_end(args);
}

static inline void ear_on_frame(Sink *sink, Task *task, const Frame *frame)
{
    Talk *t = container_of(sink, Talk, sink);
    Error err;
    DataRow row;
    Slice tag;
    ErrorResponse response;
    ParameterStatus status;
    assert_ptr_equal(task, &t->task);
    assert_false(t->over);
    if (frame->type == 'D') {
        t->rows++;
        assert_int_equal(backend_read_data_row(frame->body, -1, &row, &err), WIRE_OK);
        Column column = row.count ? data_row_at(&row, 0) : (Column){.is_null = true};
        if (!t->quiet)
            note(t, "D(%.*s)", SLICE_FMT(column.value));
    } else if (frame->type == 'C') {
        assert_int_equal(backend_read_command_complete(frame->body, &tag, &err), WIRE_OK);
        note(t, "C(%.*s)", SLICE_FMT(tag));
    } else if (frame->type == 'E') {
        assert_int_equal(backend_read_error(frame->body, &response, &err), WIRE_OK);
        error_response_copy(&response, &t->err);
        note(t, "E(%s)", t->err.sqlstate);
    } else if (frame->type == 'S') {
        assert_int_equal(backend_read_parameter_status(frame->body, &status, &err), WIRE_OK);
        note(t, "S(%.*s)", SLICE_FMT(status.name));
    } else if (frame->type == 'd') {
        note(t, "d(%.*s)", (int)frame->body.len - 1, (const char *)frame->body.data);
    } else {
        note(t, "%c", frame->type);
    }
    if (t->on_hear)
        t->on_hear(t, frame);
}

static inline void ear_on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    Talk *t = container_of(sink, Talk, sink);
    note(t, "Z(%c)", tx_status);
    if (!last)
        return;
    assert_int_equal(task->state, TASK_DONE);
    assert_false(list_linked(&task->link));
    t->over = true;
    if (t->keep)
        task_hold(task);
    if (t->on_over)
        t->on_over(t);
}

static inline void ear_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    Talk *t = container_of(sink, Talk, sink);
    assert_int_equal(task->state, TASK_DONE);
    note(t, "lost(%s,%s)", err->sqlstate, maybe_executed ? "yes" : "no");
    t->err = *err;
    t->over = true;
    if (t->on_over)
        t->on_over(t);
}

static const SinkOps EAR_OPS = {ear_on_frame, ear_on_ready, ear_on_lost};

/* ---- the world ------------------------------------------------------------------------------ */

static inline void world_on_drained(void *holder, Backend *backend)
{
    ((World *)holder)->drained++;
}

static inline void world_on_held(void *holder, Backend *backend, const Frame *frame)
{
    World *w = holder;
    size_t len = strlen(w->held);
    snprintf(w->held + len, sizeof(w->held) - len, "%c", frame ? frame->type : '!');
}

static inline void world_on_error(void *ctx, Pool *pool, const char sqlstate[6])
{
    World *w = ctx;
    size_t len = strlen(w->seen);
    snprintf(w->seen + len, sizeof(w->seen) - len, "%s ", sqlstate);
}

static inline void world_turn_end(void *ctx)
{
    World *w = ctx;
    pool_set_turn_end(w->set);
    stream_flush_all(&w->loop);
}

static inline void world_adopt(World *w)
{
    pool_set_adopt(w->set, &w->topology);
}

static inline World *world_open(int port)
{
    World *w = calloc(1, sizeof(*w));
    assert_true(loop_init(&w->loop));
    inbox_open(&w->inbox, &w->loop, w);
    w->canceller = canceller_create(2);
    prepared_set_init(&w->prepared);
    guc_set_init(&w->gucs);
    PoolEvents events = {world_on_drained, world_on_held, world_on_error, w};
    w->set = pool_set_create(&w->loop, &w->inbox, w->canceller, 1, &w->prepared, &w->gucs, &events);
    assert_non_null(w->set);
    loop_on_turn_end(&w->loop, world_turn_end, w);
    snprintf(w->conninfo, sizeof(w->conninfo), "host=127.0.0.1 port=%d", port);
    w->server = (ServerConfig){
        .name = "s0/primary", .conninfo = w->conninfo, .host = "127.0.0.1", .port = port};
    w->servers[0] = &w->server;
    w->database = (DatabaseConfig){.name = "app", .dbname = "postgres", .pool_size = 4};
    w->config = (Config){.query_wait_timeout_ms = 10000,
                         .server_connect_timeout_ms = 5000,
                         .server_idle_timeout_ms = 60000,
                         .server_lifetime_ms = 600000,
                         .server_statements_max = 100,
                         .tcp_user_timeout_ms = 10000,
                         .message_max = 16 << 20,
                         .server_message_max = 16 << 20,
                         .output_high = 256 << 10,
                         .servers = w->servers,
                         .server_count = 1,
                         .databases = &w->database,
                         .database_count = 1};
    w->topology.config = &w->config;
    world_adopt(w);
    w->pool = pool_get(w->set, &w->server, &w->database, NULL, SLICE("postgres"));
    assert_non_null(w->pool);
    return w;
}

static inline void world_close(World *w)
{
    canceller_destroy(w->canceller);
    inbox_close(&w->inbox);
    pool_set_destroy(w->set);
    prepared_set_finish(&w->prepared);
    guc_set_finish(&w->gucs);
    loop_finish(&w->loop);
    free(w);
}

static inline void world_nudge(Timer *timer) {}

/* Turns until `done`, or for so long that only a hang takes it; false then. */
static inline bool world_until(World *w, bool (*done)(void *ctx), void *ctx)
{
    Timer nudge;
    uint64_t end_us = clock_now_us() + 60ull * 1000 * 1000;
    timer_init(&nudge, &w->loop, world_nudge, NULL);
    while (!done(ctx) && clock_now_us() < end_us) {
        timer_start_ms(&nudge, 50);
        ev_run(w->loop.ev, EVRUN_ONCE);
    }
    timer_stop(&nudge);
    return done(ctx);
}

static inline bool time_is_up(void *ctx)
{
    return clock_now_us() >= *(uint64_t *)ctx;
}

static inline void world_wait_ms(World *w, unsigned ms)
{
    uint64_t end_us = clock_now_us() + ms * 1000u;
    (void)world_until(w, time_is_up, &end_us);
}

/* Until PostgreSQL executes pg_sleep() for somebody: a cancel before that has another answer. */
static inline void world_until_asleep(World *w, PgCluster *pg)
{
    bool asleep = false;
    for (int i = 0; i < 600 && !asleep; i++) {
        world_wait_ms(w, 50);
        asleep = pg_sql(pg, "do 'begin assert exists (select from pg_stat_activity "
                            "where wait_event = ''PgSleep''); end'");
    }
    assert_true(asleep);
}

/* ---- talking -------------------------------------------------------------------------------- */

static inline Talk *talk(World *w)
{
    Talk *t = calloc(1, sizeof(*t));
    t->world = w;
    t->sink.ops = &EAR_OPS;
    arena_init(&t->arena, 4096);
    task_init(&t->task, &t->sink, t->steps, 0);
    return t;
}

static inline void talk_free(Talk *t)
{
    arena_finish(&t->arena);
    free(t);
}

static inline Prepared *prepare(World *w, const char *sql)
{
    Prepared *p = prepared_intern(&w->prepared, slice_str(sql), NULL, 0);
    assert_non_null(p);
    return p;
}

static inline Slice keep(Talk *t, Buf *buf)
{
    Slice bytes = arena_dup(&t->arena, buf_bytes(buf));
    buf_finish(buf);
    return bytes;
}

static inline void say(Talk *t, TaskStep step)
{
    assert_true(t->count < ARRAY_LEN(t->steps));
    t->steps[t->count++] = step;
}

#define FRAME_OF(t, name, put)                                                                     \
    Buf name##_buf;                                                                                \
    buf_init(&name##_buf, 64 << 20);                                                               \
    put;                                                                                           \
    Slice name = keep(t, &name##_buf)

static inline void say_query(Talk *t, const char *sql)
{
    FRAME_OF(t, q, frontend_put_query(&q_buf, slice_str(sql)));
    say(t, (TaskStep){.op = TASK_QUERY, .frame = q});
}

static inline void say_parse(Talk *t, Prepared *p)
{
    say(t, (TaskStep){.op = TASK_PARSE, .prepared = p});
}

static inline void say_parse_unnamed(Talk *t, Prepared *p)
{
    say(t, (TaskStep){.op = TASK_PARSE, .prepared = p, .unnamed = true});
}

/* Bind with at most one text parameter, to the client's own name, which is not the server's. */
static inline void say_bind(Talk *t, Prepared *p, const char *param)
{
    WireFormats text = WIRE_FORMATS_NONE;
    size_t mark;
    FRAME_OF(t, b, {
        mark = frontend_bind_begin(&b_buf, SLICE(""), SLICE("client_name"), text, param ? 1 : 0);
        if (param)
            frontend_bind_value(&b_buf, slice_str(param));
        frontend_bind_end(&b_buf, mark, text);
    });
    say(t, (TaskStep){.op = TASK_BIND, .prepared = p, .frame = b});
}

static inline void say_bind_unnamed(Talk *t, Prepared *p, const char *param)
{
    say_bind(t, p, param);
    t->steps[t->count - 1].unnamed = true;
}

static inline void say_execute(Talk *t)
{
    FRAME_OF(t, e, frontend_put_execute(&e_buf, SLICE(""), 0));
    say(t, (TaskStep){.op = TASK_EXECUTE, .frame = e});
}

static inline void say_describe_portal(Talk *t)
{
    FRAME_OF(t, d, frontend_put_describe(&d_buf, TARGET_PORTAL, SLICE("")));
    say(t, (TaskStep){.op = TASK_DESCRIBE_PORTAL, .frame = d});
}

static inline void say_describe(Talk *t, Prepared *p)
{
    say(t, (TaskStep){.op = TASK_DESCRIBE_STATEMENT, .prepared = p});
}

static inline void say_close(Talk *t)
{
    say(t, (TaskStep){.op = TASK_CLOSE_STATEMENT});
}

static inline void say_sync(Talk *t)
{
    say(t, (TaskStep){.op = TASK_SYNC});
}

static inline void say_flush(Talk *t)
{
    say(t, (TaskStep){.op = TASK_FLUSH});
}

static inline void submit(Talk *t)
{
    t->task.step_count = t->said = t->count;
    pool_submit(t->world->pool, &t->task);
}

/* As a session would that may keep the connection; the world is its holder. */
static inline void submit_held(Talk *t)
{
    t->task.holder = t->world;
    submit(t);
}

static inline void run_on(Talk *t, Backend *backend)
{
    t->task.holder = t->world;
    t->task.step_count = t->said = t->count;
    backend_run(backend, &t->task);
}

/* Hands over what was said since. */
static inline void feed(Talk *t)
{
    backend_feed(&t->task, t->steps + t->said, t->count - t->said);
    t->said = t->count;
}

static inline bool copy_in(Talk *t, const char *data)
{
    FRAME_OF(t, d, frontend_put_copy_data(&d_buf, slice_str(data)));
    return backend_feed_copy(&t->task, d);
}

static inline void copy_done(Talk *t)
{
    FRAME_OF(t, c, frontend_put_copy_done(&c_buf));
    backend_feed_copy(&t->task, c);
}

static inline bool talk_is_over(void *ctx)
{
    return ((Talk *)ctx)->over;
}

static inline void finish(Talk *t)
{
    if (!world_until(t->world, talk_is_over, t))
        fail_msg("no end after: %s", t->heard);
}

static inline bool talk_heard_word(void *ctx)
{
    Talk *t = ctx;
    return strstr(t->heard, t->ctx) != NULL;
}

/* Until the transcript contains the word. */
static inline void listen_for(Talk *t, const char *word)
{
    t->ctx = (void *)(uintptr_t)word;
    if (!world_until(t->world, talk_heard_word, t))
        fail_msg("no \"%s\" in: %s", word, t->heard);
}

/* The whole story of a task, and the end of it. */
static inline void hear(Talk *t, const char *words)
{
    finish(t);
    assert_string_equal(t->heard, words);
    talk_free(t);
}

/* One simple Query and its whole answer. */
static inline void query(World *w, const char *sql, const char *words)
{
    Talk *t = talk(w);
    say_query(t, sql);
    submit(t);
    hear(t, words);
}

#endif
