/*
 * scatter_write.c - what the legs of a write, of DDL and of transaction control say.
 *
 *      simple      Query                                        the text, as a Query on each shard
 *      extended    Parse Bind [Describe] Execute .. Sync        Parse Bind Describe Execute Sync on each
 */
#include "router/composer.h"
#include "router/local.h"
#include "router/scatter.h"
#include "router/transaction.h"
#include "router/worker_state.h"

static void out_of_memory(Request *request)
{
    Error err;
    error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    session_fatal(request->session, &err);
}

static Slice frame_keep(Request *request, Buf *frame)
{
    Slice copy = frame->failed ? (Slice){0} : arena_dup(&request->arena, buf_bytes(frame));
    buf_finish(frame);
    return copy;
}

static bool has_step(const Request *request, TaskOp op)
{
    for (uint32_t i = 0; i < request->step_count; i++)
        if (request->steps[i].op == op)
            return true;
    return false;
}

/* The client's own message of that kind, the last one. */
static Slice frame_of(const Request *request, TaskOp op)
{
    for (uint32_t i = request->step_count; i-- > 0;)
        if (request->steps[i].op == op)
            return request->steps[i].frame;
    return op == TASK_BIND ? request->recalled_bind : (Slice){0};
}

void scatter_query_steps(Request *request, Slice sql, TaskStep **ret, uint32_t *ret_count)
{
    Buf frame;
    buf_init(&frame, sql.len + 64);
    frontend_put_query(&frame, sql);
    TaskStep *steps = arena_array(&request->arena, TaskStep, 1);
    Slice whole = frame_keep(request, &frame);
    if (!steps || !whole.len)
        return;
    steps[0] = (TaskStep){.op = TASK_QUERY, .frame = whole};
    *ret = steps;
    *ret_count = 1;
}

static void steps_extended(Request *request, Slice sql, TaskStep **ret, uint32_t *ret_count)
{
    const PlanStatement *statement = &request->planned[request->planned_count - 1];
    Prepared *prepared = request_prepare(request, sql, statement->param_oids, statement->param_oid_count);
    TaskStep *steps = arena_array(&request->arena, TaskStep, 6);
    bool ask_statement = has_step(request, TASK_DESCRIBE_STATEMENT);
    Buf frame;
    buf_init(&frame, 256);
    frontend_put_describe(&frame, 'P', statement->bind->portal);
    Slice describe = frame_keep(request, &frame);
    uint32_t n = 0;
    if (!prepared || !steps || !describe.len)
        return;
    steps[n++] = (TaskStep){.op = TASK_PARSE, .prepared = prepared, .hidden = true};
    if (ask_statement)
        steps[n++] = (TaskStep){.op = TASK_DESCRIBE_STATEMENT, .prepared = prepared};
    steps[n++] = (TaskStep){.op = TASK_BIND, .prepared = prepared, .hidden = true,
                            .frame = frame_of(request, TASK_BIND)};
    if (!ask_statement || has_step(request, TASK_DESCRIBE_PORTAL))
        steps[n++] = (TaskStep){.op = TASK_DESCRIBE_PORTAL, .frame = describe};
    steps[n++] = (TaskStep){.op = TASK_EXECUTE, .frame = frame_of(request, TASK_EXECUTE)};
    steps[n++] = (TaskStep){.op = TASK_SYNC};
    *ret = steps;
    *ret_count = n;
}

void scatter_steps(Request *request, Slice sql, TaskStep **ret, uint32_t *ret_count)
{
    const PlanStatement *statement = &request->planned[request->planned_count - 1];
    *ret = NULL;
    if (statement->bind)
        steps_extended(request, sql, ret, ret_count);
    else
        scatter_query_steps(request, sql, ret, ret_count);
}

/* The same text on each shard. Each leg has steps of its own: an opening may come before them. */
static ScatterLeg *same_legs(Request *request, Slice sql, const uint32_t *shards, uint32_t count);

/* Another text on each shard. */
static ScatterLeg *own_legs(Request *request, const Slice *texts, const uint32_t *shards, uint32_t count)
{
    ScatterLeg *legs = arena_array(&request->arena, ScatterLeg, count);
    for (uint32_t i = 0; legs && i < count; i++) {
        const ScatterLeg *one = same_legs(request, texts[i], &shards[i], 1);
        if (!one)
            return NULL;
        legs[i] = *one;
    }
    return legs;
}

static ScatterLeg *same_legs(Request *request, Slice sql, const uint32_t *shards, uint32_t count)
{
    ScatterLeg *legs = arena_array(&request->arena, ScatterLeg, count);
    TaskStep *steps;
    uint32_t step_count = 0;
    scatter_steps(request, sql, &steps, &step_count);
    if (!legs || !steps)
        return NULL;
    for (uint32_t i = 0; i < count; i++)
        legs[i] = (ScatterLeg){.shard = shards[i], .steps = steps, .step_count = step_count};
    return legs;
}

void scatter_write(Request *request, const uint32_t *shards, uint32_t shard_count, const Slice *texts)
{
    Slice sql = request->planned[request->planned_count - 1].text;
    ScatterLeg *legs = texts ? own_legs(request, texts, shards, shard_count)
                             : same_legs(request, sql, shards, shard_count);
    SumComposer *sum = arena_new(&request->arena, SumComposer);
    if (!legs || !sum) {
        out_of_memory(request);
        return;
    }
    scatter_start(request, &(ScatterSpec){.legs = legs, .leg_count = shard_count, .ops = &COMPOSER_SUM,
                                          .composer = sum, .sequential = true, .atomic = true,
                                          .writes = true});
}

void scatter_same(Request *request, const uint32_t *shards, uint32_t shard_count)
{
    Slice sql = request->planned[request->planned_count - 1].text;
    ScatterLeg *legs = same_legs(request, sql, shards, shard_count);
    SumComposer *sum = arena_new(&request->arena, SumComposer);
    bool writes = request->planned[request->planned_count - 1].shape->kind != SHAPE_LOCK;
    if (!legs || !sum) {
        out_of_memory(request);
        return;
    }
    scatter_start(request, &(ScatterSpec){.legs = legs, .leg_count = shard_count, .ops = &COMPOSER_SAME,
                                          .composer = sum, .sequential = true, .atomic = true,
                                          .writes = writes});
}

static char *quoted(Arena *arena, Slice text, char mark)
{
    char *copy = arena_alloc(arena, 2 * text.len + 3);
    size_t n = 0;
    if (!copy)
        return NULL;
    copy[n++] = mark;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == (uint8_t)mark)
            copy[n++] = mark;
        copy[n++] = (char)text.data[i];
    }
    copy[n++] = mark;
    copy[n] = '\0';
    return copy;
}

/* An index that was left half-built, by an error or a crash, would be taken for a finished one: it goes first. One that
 * somebody builds at this moment is waited for by the DROP. */
static char *drop_half_index(Request *request, const Shape *shape)
{
    Arena *arena = &request->arena;
    const ShapeName *table = &shape->tables[0].name;
    char *index = quoted(arena, shape->statement, '\'');
    char *schema = quoted(arena, table->schema, '"'), *name = quoted(arena, table->name, '"');
    char *full = schema && name ? arena_printf(arena, "%s%s%s", table->schema.len ? schema : "",
                                               table->schema.len ? "." : "", name)
                                : NULL;
    char *literal = full ? quoted(arena, slice_str(full), '\'') : NULL;
    return index && literal
               ? arena_printf(arena,
                              "DO $shoal$ DECLARE half pg_catalog.text; BEGIN SELECT pg_catalog.format('%%I.%%I', n.nspname,"
                              " c.relname) INTO half FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid ="
                              " i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE i.indrelid ="
                              " pg_catalog.to_regclass(%s) AND c.relname = %s AND NOT i.indisvalid; IF FOUND THEN"
                              " EXECUTE 'DROP INDEX ' || half; END IF; END $shoal$",
                              literal, index)
               : NULL;
}

/* CREATE INDEX CONCURRENTLY IF NOT EXISTS: what goes on after a failure. */
static bool put_drop_first(Request *request, const Shape *shape, ScatterLeg *legs, uint32_t count)
{
    TaskStep *drop = NULL;
    uint32_t one = 0;
    char *sql = drop_half_index(request, shape);
    if (sql)
        scatter_query_steps(request, slice_str(sql), &drop, &one);
    TaskStep *steps = drop ? arena_array(&request->arena, TaskStep, legs[0].step_count + 1) : NULL;
    if (!steps)
        return false;
    steps[0] = drop[0];
    steps[0].hidden = true;
    memcpy(steps + 1, legs[0].steps, legs[0].step_count * sizeof *steps);
    for (uint32_t i = 0; i < count; i++) {
        legs[i].steps = steps;
        legs[i].step_count++;
    }
    return true;
}

void scatter_ddl(Request *request, bool alone)
{
    Session *session = request->session;
    const DatabaseConfig *database = session_database(session, session->worker->topology);
    Slice sql = request->planned[request->planned_count - 1].text;
    const Shape *shape = request->planned[request->planned_count - 1].shape;
    ScatterLeg *legs = same_legs(request, sql, database->shards, database->shard_count);
    bool again = alone && shape->kind == SHAPE_DDL_ALONE && shape->statement.len && shape->table_count == 1;
    if (!legs || (again && !put_drop_first(request, shape, legs, database->shard_count))) {
        out_of_memory(request);
        return;
    }
    scatter_start(request, &(ScatterSpec){.legs = legs, .leg_count = database->shard_count,
                                          .ops = &COMPOSER_FIRST, .sequential = true, .atomic = !alone,
                                          .writes = true, .catalog = true, .tells_done = alone});
}

void scatter_on_all(Request *request)
{
    Session *session = request->session;
    uint32_t count = 0;
    uint32_t *shards = arena_array(&request->arena, uint32_t, session->part_count + 1);
    for (uint32_t i = 0; shards && i < session->part_count; i++)
        if (session->parts[i].tx != TX_IDLE)
            shards[count++] = session->parts[i].shard;
    ScatterLeg *legs = shards ? same_legs(request, request->planned[0].text, shards, count) : NULL;
    if (!legs) {
        out_of_memory(request);
        return;
    }
    scatter_start(request, &(ScatterSpec){.legs = legs, .leg_count = count, .ops = &COMPOSER_FIRST});
}
