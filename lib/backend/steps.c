/*
 * steps.c - a task's steps become bytes, and what they owe is written down.
 *
 *     step        written                                    owed
 *     PARSE s17   known here: nothing                        '1' by ourselves, in its turn
 *                 else P "s17" text                          1
 *     BIND        [P "s17" text, when not known here] B      [1 hidden] 2
 *     CLOSE       nothing: others use the statement          '3' by ourselves, in its turn
 *     SYNC        S                                          Z
 *
 * Everything of a task is written at once, into `out` of its backend: the stream's, or `behind`
 * while the server session has still to be brought to the task's settings; what waits there follows
 * when that has succeeded, so a statement never runs under wrong settings.
 */
#include "backend/backend_internal.h"
#include "wire/frontend.h"

static void write_step(Backend *backend, Task *task, const TaskStep *step, const TaskStep *before);
static void write_parse(Backend *backend, const TaskStep *step);
static void write_bind(Backend *backend, const TaskStep *step);
static void write_sync(Backend *backend, Task *task, const TaskStep *step);
static void write_raw(Backend *backend, Slice frames);
static void inject_parse(Backend *backend, Prepared *prepared, bool unnamed);
static void describe_first(Backend *backend, const TaskStep *execute);
static void owe_answer(Backend *backend, const TaskStep *step, uint8_t answer);
static Slice statement_name(const TaskStep *step);
static bool same_portal(const TaskStep *describe, const TaskStep *execute);

void steps_write(Backend *backend, Task *task, const TaskStep *steps, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        write_step(backend, task, &steps[i], i ? &steps[i - 1] : NULL);
    if (backend->out->failed)
        steps_break(backend);
    stream_touch(&backend->stream);
}

static void write_step(Backend *backend, Task *task, const TaskStep *step, const TaskStep *before)
{
    Buf *out = backend->out;
    PoolStats *stats = &backend->pool->stats;
    if (step->op == TASK_SYNC) {
        write_sync(backend, task, step);
        return;
    }
    if (backend->owed.skipping) /* the server would skip it until Sync */
        return;
    switch (step->op) {
    case TASK_PARSE:
        write_parse(backend, step);
        break;
    case TASK_BIND:
        write_bind(backend, step);
        break;
    case TASK_DESCRIBE_STATEMENT:
        inject_parse(backend, step->prepared, step->unnamed);
        frontend_put_describe(out, TARGET_STATEMENT, statement_name(step));
        steps_owe(backend, (Expect){.kind = EXPECT_DESCRIBE_STATEMENT,
                                    .hidden = step->hidden,
                                    .unnamed = step->unnamed,
                                    .prepared = step->prepared});
        break;
    case TASK_DESCRIBE_PORTAL:
        buf_append(out, step->frame);
        steps_owe(backend, (Expect){.kind = EXPECT_DESCRIBE_PORTAL, .hidden = step->hidden});
        break;
    case TASK_EXECUTE:
        describe_first(backend, step);
        buf_append(out, step->frame);
        steps_owe(backend, (Expect){.kind = EXPECT_EXECUTE,
                                    .hidden = step->hidden,
                                    .described = before && same_portal(before, step)});
        break;
    case TASK_CLOSE_PORTAL:
        buf_append(out, step->frame);
        steps_owe(backend, (Expect){.kind = EXPECT_CLOSE, .hidden = step->hidden});
        break;
    case TASK_CLOSE_STATEMENT:
        owe_answer(backend, step, BACKEND_CLOSE_COMPLETE);
        break;
    case TASK_FUNCTION:
        buf_append(out, step->frame);
        steps_owe(backend, (Expect){.kind = EXPECT_FUNCTION, .hidden = step->hidden});
        break;
    case TASK_QUERY:
        known_set_unnamed(&backend->known, NULL); /* the server drops it (H07) */
        buf_append(out, step->frame);
        steps_owe(backend, (Expect){.kind = EXPECT_QUERY, .hidden = step->hidden});
        counter_add(&stats->queries, 1);
        break;
    case TASK_FLUSH:
        frontend_put_flush(out);
        break;
    case TASK_RAW:
        write_raw(backend, step->frame);
        break;
    case TASK_SYNC:
        break;
    }
}

/* A statement that the server has is not parsed again: the answer is ours, in its turn. */
static void write_parse(Backend *backend, const TaskStep *step)
{
    if (!step->unnamed && known_touch(&backend->known, step->prepared)) {
        owe_answer(backend, step, BACKEND_PARSE_COMPLETE);
        return;
    }
    Prepared *prepared = step->prepared;
    size_t before = buf_len(backend->out);
    frontend_put_parse(backend->out, statement_name(step), prepared->text, prepared->oids,
                       prepared->oid_count);
    Slice written = slice_from(buf_bytes(backend->out), before);
    if (pool_oids(backend->pool) && !backend->out->failed)
        translate_parse(pool_oids(backend->pool), (uint8_t *)(uintptr_t)written.data, written.len, prepared->oid_count);
    steps_owe(backend, (Expect){.kind = EXPECT_PARSE,
                                .hidden = step->hidden,
                                .unnamed = step->unnamed,
                                .prepared = prepared});
    if (step->unnamed)
        known_set_unnamed(&backend->known, prepared);
    else if (!known_add(&backend->known, prepared))
        steps_break(backend);
}

/* Parses what the server lacks in front of its first use; the answer is hidden. */
static void inject_parse(Backend *backend, Prepared *prepared, bool unnamed)
{
    if (!prepared)
        return;
    if (unnamed ? backend->known.unnamed == prepared : known_touch(&backend->known, prepared))
        return;
    TaskStep parse = {.op = TASK_PARSE, .unnamed = unnamed, .hidden = true, .prepared = prepared};
    write_parse(backend, &parse);
}

/* Where OIDs are translated, rows in binary are understood by their description alone. */
static void describe_first(Backend *backend, const TaskStep *execute)
{
    if (!pool_oids(backend->pool) || !backend->binary || execute->frame.len < 10)
        return;
    frontend_put_describe(backend->out, TARGET_PORTAL, slice_of(execute->frame.data + 5, execute->frame.len - 10));
    steps_owe(backend, (Expect){.kind = EXPECT_DESCRIBE_PORTAL, .hidden = true});
}

static void write_bind(Backend *backend, const TaskStep *step)
{
    BindMessage bind;
    Error err;
    inject_parse(backend, step->prepared, step->unnamed);
    size_t before = buf_len(backend->out);
    bool good = step->prepared && frontend_read_bind(slice_from(step->frame, 5), &bind, &err) == WIRE_OK;
    if (good)
        frontend_put_bind_renamed(backend->out, &bind, statement_name(step));
    else
        buf_append(backend->out, step->frame); /* let the server say what is wrong with it */
    const OidMap *oids = pool_oids(backend->pool);
    if (oids && good && !backend->out->failed) {
        Slice written = slice_from(buf_bytes(backend->out), before);
        backend->binary = bind_asks_binary(&bind);
        translate_bind(oids, (uint8_t *)(uintptr_t)written.data, written.len, step->prepared);
    }
    steps_owe(backend, (Expect){.kind = EXPECT_BIND,
                                .hidden = step->hidden,
                                .unnamed = step->unnamed,
                                .prepared = step->prepared});
}

static void write_sync(Backend *backend, Task *task, const TaskStep *step)
{
    if (expect_ignores_sync(&backend->owed)) {
        task->open = true; /* its ReadyForQuery will not come (bad-input 99) */
        return;
    }
    frontend_put_sync(backend->out);
    steps_owe(backend, (Expect){.kind = EXPECT_SYNC, .hidden = step->hidden});
    counter_add(&backend->pool->stats.syncs, 1);
}

/* d, c, f. Behind an error the server ignores them, so they are not sent at all (H09). */
static void write_raw(Backend *backend, Slice frames)
{
    Frame frame;
    Error err;
    if (backend->owed.skipping || backend->owed.phase == PHASE_FAILED)
        return;
    buf_append(backend->out, frames);
    while (frame_next_frontend(frames, LARGE_BODY_MAX, &frame, &err) == WIRE_OK) {
        if (frame.type == FRONTEND_COPY_DONE || frame.type == FRONTEND_COPY_FAIL)
            steps_owe(backend, (Expect){.kind = EXPECT_COPY_END});
        frames = slice_from(frames, frame.whole.len);
    }
}

/* At the head of a task nothing can be in the way of a Close, and nothing behind it is hurt (H17).
 */
void steps_close_statements(Backend *backend)
{
    uint32_t max = backend->pool->set->limits.statements_max;
    KnownSet *known = &backend->known;
    for (Prepared *old = known_take_closing(known, max); old;
         old = known_take_closing(known, max)) {
        frontend_put_close(backend->out, TARGET_STATEMENT, slice_str(old->name));
        steps_owe(backend, (Expect){.kind = EXPECT_CLOSE, .hidden = true, .errand = true});
        prepared_release(known->prepared, old);
    }
}

/* What follows is written behind the settings, and goes out when they are made. */
void steps_settings(Backend *backend, GucVector *gucs)
{
    Buf sql;
    buf_init(&sql, LARGE_BODY_MAX / 2);
    if (guc_transition(backend->gucs, gucs, &sql) && buf_append(&sql, slice_of("", 1))) {
        backend->gucs_next = guc_retain(gucs);
        steps_errand(backend, ERRAND_SETTINGS, (const char *)buf_bytes(&sql).data);
        backend->out = &backend->behind;
    } else {
        steps_break(backend);
    }
    buf_finish(&sql);
}

void steps_errand(Backend *backend, Errand errand, const char *sql)
{
    Buf *out = &backend->stream.out;
    assert(backend->errand == ERRAND_NONE);
    backend->errand = errand;
    backend->errand_failed = false;
    if (sql) {
        known_set_unnamed(&backend->known, NULL);
        frontend_put_query(out, slice_str(sql));
    } else {
        frontend_put_sync(out);
    }
    steps_owe(backend,
              (Expect){.kind = sql ? EXPECT_QUERY : EXPECT_SYNC, .hidden = true, .errand = true});
    stream_touch(&backend->stream);
}

void steps_owe(Backend *backend, Expect expect)
{
    if (!expect_push(&backend->owed, expect))
        steps_break(backend);
}

static void owe_answer(Backend *backend, const TaskStep *step, uint8_t answer)
{
    steps_owe(backend,
              (Expect){.kind = EXPECT_SYNTHETIC, .answer = answer, .hidden = step->hidden});
    if (!list_linked(&backend->attention))
        list_push(&backend->pool->set->attention, &backend->attention);
    pool_touch(backend->pool);
}

/* Out of memory or beyond out_max in the middle of a task: nothing half-said may go out. The stream
 * reports itself gone at the turn's end, and that loses the task; a caller is never called back. */
void steps_break(Backend *backend)
{
    backend->stream.out.failed = true;
    stream_touch(&backend->stream);
}

static Slice statement_name(const TaskStep *step)
{
    return step->unnamed || !step->prepared ? SLICE("") : slice_str(step->prepared->name);
}

/* Describe: D len 'P' name NUL.  Execute: E len name NUL max_rows. */
static bool same_portal(const TaskStep *describe, const TaskStep *execute)
{
    if (describe->op != TASK_DESCRIBE_PORTAL || describe->frame.len < 7 || execute->frame.len < 10)
        return false;
    return slice_equal(slice_from(describe->frame, 6),
                       slice_of(execute->frame.data + 5, execute->frame.len - 9));
}
