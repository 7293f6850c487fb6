/*
 * gather.c - the merge server's side: what it is asked, and when.
 *
 *   phase     task on the merge server                               leaves when
 *   LEARN     BEGIN; Parse and Describe the client's statement       described: types of its parameters
 *   CREATE    the temporary tables, and their descriptions           described: formats, types
 *   COPY      COPY shoal_i FROM STDIN, one table after the other     every leg is past relation i
 *   FINAL     the final statement; COMMIT                            its ReadyForQuery
 *
 * The legs (gather_legs.c) run their relations in the same order; one that is ahead of the COPY waits.
 * LEARN and CREATE travel together when the client has declared its parameters or has none.
 */
#include "router/gather_build.h"

#include <stdio.h>
#include <stdlib.h>

#include "router/dispatch.h"
#include "router/local.h"
#include "router/portal.h"
#include "router/transaction.h"
#include "router/worker_state.h"
#include "wire/backend.h"
#include "wire/value.h"

static void run_create(Gather *gather);
static void run_copy(Gather *gather);
static void run_final(Gather *gather);

static Session *session_of(const Gather *gather)
{
    return gather->request->session;
}

const PlanStatement *gather_statement(const Gather *gather)
{
    return &gather->request->planned[gather->request->planned_count - 1];
}

/* ---- the end ------------------------------------------------------------------------------------------ */

/* Its connection goes back (what is open there is rolled back), and what is not in the arena. */
static void gather_free(Gather *gather)
{
    Request *request = gather->request;
    if (request->portal && !gather->handed_on) { /* it has not come to be */
        request->portal->request = NULL;
        portal_destroy(request->portal);
        request->portal = NULL;
    }
    if (gather->active) {
        task_abandon(&gather->task);
        if (gather->running_on) /* it was held before: it stays so until it is let go */
            backend_release(gather->running_on, true);
    }
    gather->active = false;
    gather->running_on = NULL;
    if (gather->backend)
        backend_release(gather->backend, false);
    gather->backend = NULL;
    gather_legs_free(gather);
    buf_finish(&gather->error);
    request->gather = NULL;
}

/* Before the legs have begun, the gather ends the request itself. */
static void end_early(Gather *gather, const Error *err)
{
    Request *request = gather->request;
    Session *session = request->session;
    if (session->tx == TX_IDLE && buf_len(&gather->error)) {
        Buf frame = gather->error;
        gather->error = (Buf){0};
        gather_free(gather);
        local_answer(request, buf_bytes(&frame), session->tx);
        buf_finish(&frame);
        return;
    }
    gather_free(gather);
    dispatch_error(request, err);
}

/* The error of the merge server, or of Shoal's own. */
void gather_fail(Gather *gather, const Error *err)
{
    if (gather->ended)
        return;
    gather->ended = true;
    if (!gather->scatter) {
        end_early(gather, err);
        return;
    }
    scatter_fail(gather->scatter, err);
    if (gather->legs_done)
        scatter_go_to_end(gather->scatter);
}

static void out_of_memory(Gather *gather)
{
    Error err;
    error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    gather_fail(gather, &err);
}

/* ---- steps ---------------------------------------------------------------------------------------------- */

typedef struct Steps {
    Gather *gather;
    TaskStep *list;
    uint32_t count, room;
    bool failed;
} Steps;

static Steps steps_begin(Gather *gather, uint32_t room)
{
    TaskStep *list = arena_array(&gather->request->arena, TaskStep, room);
    return (Steps){.gather = gather, .list = list, .room = room, .failed = !list};
}

static void step_add(Steps *steps, TaskStep step)
{
    bool frame = step.op != TASK_PARSE && step.op != TASK_DESCRIBE_STATEMENT && step.op != TASK_SYNC;
    steps->failed |= steps->count == steps->room || (frame && !step.frame.len);
    if (!steps->failed)
        steps->list[steps->count++] = step;
}

static Slice frame_keep(Gather *gather, Buf *frame)
{
    Slice kept = frame->failed ? (Slice){0} : arena_dup(&gather->request->arena, buf_bytes(frame));
    buf_finish(frame);
    return kept;
}

static void add_query(Steps *steps, bool hidden, const char *sql)
{
    Buf frame;
    buf_init(&frame, 1 << 20);
    frontend_put_query(&frame, slice_str(sql));
    step_add(steps, (TaskStep){.op = TASK_QUERY, .hidden = hidden, .frame = frame_keep(steps->gather, &frame)});
}

static Prepared *add_parse(Steps *steps, Slice sql, const uint32_t *types, uint32_t count)
{
    Prepared *prepared = request_prepare(steps->gather->request, sql, types, count);
    steps->failed |= !prepared;
    step_add(steps, (TaskStep){.op = TASK_PARSE, .unnamed = true, .hidden = true, .prepared = prepared});
    return prepared;
}

static void add_describe(Steps *steps, Prepared *prepared)
{
    step_add(steps, (TaskStep){.op = TASK_DESCRIBE_STATEMENT, .unnamed = true, .prepared = prepared});
}

static void add_bind(Steps *steps, Prepared *prepared, Slice portal, WireFormats results)
{
    Gather *gather = steps->gather;
    Slice bind = fanout_bind(gather_statement(gather), &gather->spread->form, portal, gather->offset, gather->limit,
                             results, &gather->request->arena);
    step_add(steps, (TaskStep){.op = TASK_BIND, .unnamed = true, .hidden = true, .prepared = prepared,
                               .frame = bind});
}

static void add_portal(Steps *steps, TaskOp op, Slice portal, int32_t max_rows, bool hidden)
{
    Buf frame;
    buf_init(&frame, 256 + portal.len);
    if (op == TASK_EXECUTE)
        frontend_put_execute(&frame, portal, max_rows);
    else
        frontend_put_describe(&frame, 'P', portal);
    step_add(steps, (TaskStep){.op = op, .hidden = hidden, .frame = frame_keep(steps->gather, &frame)});
}

static void steps_run(Steps *steps)
{
    Gather *gather = steps->gather;
    Session *session = session_of(gather);
    if (steps->failed) {
        out_of_memory(gather);
        return;
    }
    task_init(&gather->task, &gather->sink, steps->list, steps->count);
    gather->task.gucs = session_gucs(session);
    gather->task.holder = gather;
    gather->active = true;
    if (gather->backend) {
        gather->running_on = gather->backend;
        gather->backend = NULL;
        backend_run(gather->running_on, &gather->task);
        return;
    }
    Pool *pool = dispatch_pool(session, gather->shard);
    if (!pool) {
        Error err;
        gather->active = false;
        dispatch_no_pool(session, gather->shard, &err);
        gather_fail(gather, &err);
        return;
    }
    pool_submit(pool, &gather->task);
}

/* ---- LEARN and CREATE --------------------------------------------------------------------------------------- */

/* As in the client's transaction. It may be READ ONLY; this one makes tables of its own, and
 * a DEFERRABLE one would wait for it. */
static void add_settings(Steps *steps, const Script *script)
{
    Buf sql, frame;
    buf_init(&sql, script->bytes + 4 * script->count + 256);
    buf_init(&frame, script->bytes + 4 * script->count + 512);
    script_write_settings(script, &sql);
    buf_append(&sql, SLICE(";\nSET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE"));
    frontend_put_query(&frame, buf_bytes(&sql));
    steps->failed |= sql.failed;
    buf_finish(&sql);
    step_add(steps, (TaskStep){.op = TASK_QUERY, .hidden = true, .frame = frame_keep(steps->gather, &frame)});
}

/* BEGIN, with what SET LOCAL has changed in the client's transaction. */
static void add_begin(Steps *steps)
{
    Session *session = session_of(steps->gather);
    bool local = false;
    for (uint32_t i = 0; session->tx != TX_IDLE && i < session->script.count; i++)
        local |= session->script.entries[i].kind == SCRIPT_SET;
    if (local)
        add_settings(steps, &session->script);
    else
        add_query(steps, true, "BEGIN READ WRITE");
}

static void add_create(Steps *steps)
{
    Gather *gather = steps->gather;
    const SplitForm *form = &gather->spread->form;
    Arena *arena = &gather->request->arena;
    for (uint32_t i = 0; i < form->relation_count; i++) {
        const SplitRelation *relation = &form->relations[i];
        const char *sql = arena_printf(arena, "CREATE TEMP TABLE %s ON COMMIT DROP AS %.*s WITH NO DATA",
                                       relation->name, SLICE_FMT(relation->leg));
        steps->failed |= !sql;
        Prepared *prepared = add_parse(steps, slice_str(sql), gather->types, gather->type_count);
        add_bind(steps, prepared, SLICE(""), WIRE_FORMATS_NONE);
        add_portal(steps, TASK_EXECUTE, SLICE(""), 0, true);
    }
    step_add(steps, (TaskStep){.op = TASK_SYNC});
    for (uint32_t i = 0; i < form->relation_count; i++) {
        const SplitRelation *relation = &form->relations[i];
        const char *sql = relation->primary.len
                              ? arena_printf(arena, "ALTER TABLE pg_temp.%s ADD PRIMARY KEY (\"%.*s\")",
                                             relation->name, SLICE_FMT(relation->primary))
                              : NULL;
        if (sql)
            add_query(steps, true, sql);
    }
    if (gather->spread->staging.len)
        add_query(steps, true, arena_text(arena, gather->spread->staging));
    for (uint32_t i = 0; i < form->relation_count; i++) {
        const char *sql = arena_printf(arena, "SELECT * FROM pg_temp.%s", form->relations[i].name);
        steps->failed |= !sql;
        add_describe(steps, add_parse(steps, slice_str(sql), NULL, 0));
    }
    step_add(steps, (TaskStep){.op = TASK_SYNC});
}

/* Every parameter has a type that the client declared. */
static bool types_declared(const Gather *gather)
{
    const PlanStatement *statement = gather_statement(gather);
    for (uint32_t i = 0; i < statement->shape->param_max; i++)
        if (i >= statement->param_oid_count || statement->param_oids[i] == 0)
            return false;
    return true;
}

static void run_learn(Gather *gather)
{
    const PlanStatement *statement = gather_statement(gather);
    const SplitForm *form = &gather->spread->form;
    Steps steps = steps_begin(gather, 16 + 8 * form->relation_count);
    add_begin(&steps);
    add_describe(&steps, add_parse(&steps, statement->text, statement->param_oids,
                                   statement->param_oid_count));
    if (types_declared(gather)) {
        gather->phase = GATHER_CREATE;
        gather->types = fanout_types(statement, form, &gather->type_count, &gather->request->arena);
        steps.failed |= !gather->types;
        add_create(&steps);
    } else {
        step_add(&steps, (TaskStep){.op = TASK_SYNC});
    }
    steps_run(&steps);
}

static void run_create(Gather *gather)
{
    Steps steps = steps_begin(gather, 16 + 8 * gather->spread->form.relation_count);
    gather->phase = GATHER_CREATE;
    add_create(&steps);
    steps_run(&steps);
}

/* What PostgreSQL takes the parameters for. */
static bool learn_types(Gather *gather, const Frame *frame)
{
    ParameterDescription params;
    Error err;
    const SplitForm *form = &gather->spread->form;
    if (gather->phase != GATHER_LEARN ||
        backend_read_parameter_description(frame->body, &params, &err) != WIRE_OK)
        return true;
    gather->type_count = MAX(params.count, form->limit_param);
    gather->types = arena_array(&gather->request->arena, uint32_t, gather->type_count + 1);
    if (!gather->types)
        return false;
    for (uint32_t i = 0; i < params.count; i++)
        gather->types[i] = parameter_description_at(&params, i);
    if (form->limit_param)
        gather->types[form->limit_param - 1] = WIRE_OID_INT8;
    return true;
}

/* The first T is the statement's, the others are the relations'. */
static bool learn_row(Gather *gather, const Frame *frame)
{
    Arena *arena = &gather->request->arena;
    Slice kept = arena_dup(arena, frame->whole);
    if (!gather->description.len) {
        gather->description = kept;
        return kept.len > 0;
    }
    if (gather->described == gather->spread->form.relation_count)
        return true;
    GatherRelation *relation = &gather->relations[gather->described++];
    return kept.len > 0 && gather_relation_describe(relation, kept, arena);
}

/* ---- PARTIAL: types of the partial results ------------------------------------------------------------------ */

static const struct {
    uint32_t oid;
    const char *name;
} SUM_TYPES[] = {{20, "int8"}, {1700, "numeric"}, {700, "float4"}, {701, "float8"}, {1186, "interval"},
                 {790, "money"}};

static const char *sum_type(uint32_t oid)
{
    for (size_t i = 0; i < ARRAY_LEN(SUM_TYPES); i++)
        if (SUM_TYPES[i].oid == oid)
            return SUM_TYPES[i].name;
    return NULL;
}

/* Empty: this form cannot be finished exactly; the rows themselves are needed. */
static Slice final_text(Gather *gather)
{
    const SplitForm *form = &gather->spread->form;
    const GatherRelation *relation = &gather->relations[0];
    const char **names = arena_array(&gather->request->arena, const char *, relation->column_count + 1);
    if (form->kind != SPLIT_PARTIAL)
        return form->final;
    for (uint32_t i = 0; names && i < relation->column_count; i++)
        names[i] = sum_type(relation->type_oids[i]);
    /* avg(float4) counts in float8, its sums are float4 */
    for (uint32_t i = 0; i < form->part_count && i < 64; i++)
        if (form->averages >> i & 1 &&
            (relation->column_count != form->column_count ||
             relation->type_oids[form->column_count - form->part_count + i] == WIRE_OID_FLOAT4))
            return (Slice){0};
    return names ? split_final(form, names, relation->column_count, &gather->request->arena) : (Slice){0};
}

/* The tables stand. */
static void created(Gather *gather)
{
    Request *request = gather->request;
    gather->final = final_text(gather);
    if (!gather->final.len) {
        struct Portal *portal = request->portal;
        request->portal = NULL;
        gather_free(gather);
        request->portal = portal;
        dispatch_again(request); /* by GATHER */
        return;
    }
    gather->current = 0;
    run_copy(gather);
}

/* ---- COPY ------------------------------------------------------------------------------------------------------ */

static void run_copy(Gather *gather)
{
    char sql[160];
    Steps steps = steps_begin(gather, 2);
    const SplitRelation *relation = &gather->spread->form.relations[gather->current];
    gather->phase = GATHER_COPY;
    gather->copying = false;
    snprintf(sql, sizeof sql, "COPY pg_temp.%s FROM STDIN%s", relation->name,
             gather->relations[gather->current].binary ? " (FORMAT binary)" : "");
    add_query(&steps, false, sql);
    steps_run(&steps);
}

/* The merge server waits for rows. */
static void on_copy_in(Gather *gather)
{
    gather->copying = true;
    if (!gather_copy_begin(gather)) {
        out_of_memory(gather);
        return;
    }
    if (gather->scatter)
        gather_legs_go_on(gather);
    else if (!gather_legs_start(gather))
        out_of_memory(gather);
}

/* One table is full. */
static void on_copied(Gather *gather)
{
    gather->current++;
    gather->copying = false;
    if (gather->current < gather->spread->form.relation_count)
        run_copy(gather);
    else if (gather->legs_done)
        run_final(gather);
}

void gather_on_legs_done(Gather *gather)
{
    gather->legs_done = true;
    if (gather->current == gather->spread->form.relation_count && !gather->active)
        run_final(gather);
}

/* ---- FINAL ------------------------------------------------------------------------------------------------------ */

/* The answer, and the end; or its beginning, in a portal that stays. */
static void add_final(Steps *steps, WireFormats results)
{
    Gather *gather = steps->gather;
    const Request *request = gather->request;
    Slice portal = request->portal ? request->portal->name : SLICE("");
    Prepared *prepared = add_parse(steps, gather->final, gather->types, gather->type_count);
    add_bind(steps, prepared, portal, results);
    add_portal(steps, TASK_DESCRIBE_PORTAL, portal, 0, false);
    add_portal(steps, TASK_EXECUTE, portal, request->portal ? request->max_rows : 0, false);
    step_add(steps, (TaskStep){.op = TASK_SYNC});
    if (!request->portal)
        add_query(steps, true, "COMMIT");
}

/* DECLARE in the client's words, for the statement over the tables that are full now. WITH HOLD is held at once: the
 * tables go, and the client's own transaction decides on the cursor. */
static void add_declare(Steps *steps)
{
    Gather *gather = steps->gather;
    const Request *request = gather->request;
    const char *sql = arena_printf(&gather->request->arena, "%.*s\n%.*s", SLICE_FMT(request->portal_head),
                                   SLICE_FMT(gather->final));
    steps->failed |= !sql;
    Prepared *prepared = add_parse(steps, slice_str(sql ? sql : ""), gather->types, gather->type_count);
    add_bind(steps, prepared, SLICE(""), WIRE_FORMATS_NONE);
    add_portal(steps, TASK_EXECUTE, SLICE(""), 0, false);
    add_portal(steps, TASK_DESCRIBE_PORTAL, request->portal->name, 0, false);
    step_add(steps, (TaskStep){.op = TASK_SYNC});
    if (request->portal->hold)
        add_query(steps, true, "COMMIT");
}

static void run_final(Gather *gather)
{
    const PlanStatement *statement = gather_statement(gather);
    const SplitForm *form = &gather->spread->form;
    WireFormats results = statement->bind ? statement->bind->result_formats : WIRE_FORMATS_NONE;
    Steps steps = steps_begin(gather, 8 + form->relation_count);
    gather->phase = GATHER_FINAL;
    for (uint32_t i = 0; i < form->relation_count; i++)
        if (gather->relations[i].bytes > GATHER_ANALYZE_BYTES && form->relation_count > 1) {
            char sql[64];
            snprintf(sql, sizeof sql, "ANALYZE pg_temp.%s", form->relations[i].name);
            add_query(&steps, true, sql);
        }
    if (gather->request->portal && gather->request->portal->declared)
        add_declare(&steps);
    else
        add_final(&steps, results);
    steps_run(&steps);
}

/* Shoal's own mistake would be told here, before a row is answered with a wrong type. */
static bool same_types(Slice described, Slice answered)
{
    RowDescription x, y;
    FieldDescription f, g;
    Error err;
    size_t i = 0, j = 0;
    if (backend_read_row_description(slice_from(described, 5), &x, &err) != WIRE_OK ||
        backend_read_row_description(slice_from(answered, 5), &y, &err) != WIRE_OK || x.count != y.count)
        return false;
    while (row_description_next(&x, &i, &f) && row_description_next(&y, &j, &g))
        if (f.type_oid != g.type_oid)
            return false;
    return true;
}

static void on_final_description(Gather *gather, const Frame *frame)
{
    const BindMessage *bind = gather_statement(gather)->bind;
    RowDescription row;
    Error err;
    Buf out;
    bool declared = gather->request->portal && gather->request->portal->declared;
    if (!same_types(gather->description, frame->whole) ||
        backend_read_row_description(slice_from(gather->description, 5), &row, &err) != WIRE_OK) {
        error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED, "this statement cannot be run over several shards");
        error_detail(&err, "Its answer would have other types than PostgreSQL's.");
        backend_put_error(&gather->error, SEVERITY_ERROR, &err); /* told when the server is ready */
        return;
    }
    if (declared)
        return; /* FETCH describes it */
    buf_init(&out, 1 << 22);
    if (!backend_put_row_description_formats(&out, &row, bind ? bind->result_formats : WIRE_FORMATS_NONE))
        buf_append(&out, gather->description);
    local_open(gather->request, buf_bytes(&out));
    buf_finish(&out);
    gather->open = true;
}

static void on_final_frame(Gather *gather, const Frame *frame)
{
    Request *request = gather->request;
    switch (frame->type) {
    case BACKEND_ROW_DESCRIPTION:
        on_final_description(gather, frame);
        break;
    case BACKEND_DATA_ROW:
        buf_append(request_out(request), frame->whole);
        request_touch(request);
        if (stream_choked(&session_of(gather)->stream) && gather->task.backend)
            backend_pause(gather->task.backend);
        break;
    case BACKEND_COMMAND_COMPLETE:
    case BACKEND_PORTAL_SUSPENDED:
        gather->tag = arena_dup(&request->arena, frame->whole);
        break;
    default:
        break;
    }
}

/* ---- the merge server's answers ------------------------------------------------------------------------------------ */

static void on_frame(Sink *sink, Task *task, const Frame *frame)
{
    Gather *gather = container_of(sink, Gather, sink);
    Request *request = gather->request;
    (void)task;
    if (frame->type == BACKEND_ERROR) {
        if (!buf_len(&gather->error))
            buf_append(&gather->error, frame->whole);
        return;
    }
    if (gather->ended || buf_len(&gather->error))
        return;
    if (frame->type == BACKEND_NOTICE && gather->phase == GATHER_FINAL) {
        buf_append(request_out(request), frame->whole);
        request_touch(request);
        return;
    }
    bool good = true;
    if (gather->phase == GATHER_FINAL)
        on_final_frame(gather, frame);
    else if (frame->type == BACKEND_COPY_IN)
        on_copy_in(gather);
    else if (frame->type == BACKEND_PARAMETER_DESCRIPTION && !gather->description.len) {
        request->parameter_description = arena_dup(&request->arena, frame->whole);
        good = learn_types(gather, frame);
    } else if (frame->type == BACKEND_ROW_DESCRIPTION)
        good = learn_row(gather, frame);
    if (!good) {
        Error err;
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        backend_put_error(&gather->error, SEVERITY_ERROR, &err);
    }
}

/* The statement was good when it was described: what it is rewritten to must not fail by itself. */
static void fail_by_server(Gather *gather)
{
    ErrorResponse response;
    Frame frame;
    Error err, ignored;
    error_set(&err, SQLSTATE_INTERNAL, "the merge server has refused its part");
    if (frame_next(buf_bytes(&gather->error), SIZE_MAX, &frame, &ignored) == WIRE_OK &&
        backend_read_error(frame.body, &response, &ignored) == WIRE_OK)
        error_response_copy(&response, &err);
    bool rewritten = gather->description.len > 0;
    if (rewritten) /* its position would point into another text */
        buf_reset(&gather->error);
    if (gather->phase == GATHER_CREATE && rewritten && !error_is(&err, SQLSTATE_QUERY_CANCELED) &&
        !error_is(&err, SQLSTATE_NO_PRIVILEGE) && memcmp(err.sqlstate, "22", 2) != 0) { /* 22: a parameter's value */
        Error first = err;
        error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED, "this statement cannot be run over several shards");
        error_detail(&err, "A temporary table for its rows cannot be made: %s.", first.message);
    }
    gather_fail(gather, &err);
}

static void on_final_done(Gather *gather)
{
    Scatter *scatter = gather->scatter;
    struct Portal *portal = gather->request->portal;
    gather->finished = true;
    if (portal) {
        portal->request = NULL;
        portal->backend = gather->backend;
        portal->shard = gather->shard;
        buf_init(&portal->description, gather->description.len);
        buf_append(&portal->description, gather->description);
        backend_give(gather->backend, portal);
        gather->backend = NULL;
        gather->handed_on = true;
    }
    scatter_go_to_end(scatter); /* says the tag */
}

static void on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    Gather *gather = container_of(sink, Gather, sink);
    if (!last)
        return;
    gather->active = false;
    gather->running_on = NULL;
    bool stays = gather->phase == GATHER_FINAL && gather->request->portal && !gather->ended && !buf_len(&gather->error);
    if (tx_status != TX_IDLE || stays) {
        task_hold(task);
        gather->backend = task->backend;
    }
    if (gather->ended)
        return; /* the end is under way, and gives the connection back */
    if (buf_len(&gather->error)) {
        fail_by_server(gather);
        return;
    }
    switch (gather->phase) {
    case GATHER_LEARN:
        run_create(gather);
        break;
    case GATHER_CREATE:
        created(gather);
        break;
    case GATHER_COPY:
        on_copied(gather);
        break;
    case GATHER_FINAL:
        on_final_done(gather);
        break;
    }
}

static void on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    Gather *gather = container_of(sink, Gather, sink);
    (void)task;
    (void)maybe_executed;
    gather->active = false;
    gather->backend = gather->running_on = NULL;
    buf_reset(&gather->error);
    gather_fail(gather, err);
}

static const SinkOps SINK_OPS = {.on_frame = on_frame, .on_ready = on_ready, .on_lost = on_lost};

/* ---- for others -------------------------------------------------------------------------------------------------- */

void gather_on_end(Gather *gather)
{
    local_close(gather->request, gather->tag);
}

void gather_on_scatter_free(Gather *gather)
{
    gather->ended = true;
    gather_free(gather);
}

/* The merge server works on a connection of its own, which would wait for this transaction's locks for ever. */
bool gather_refuse_locked(Request *request)
{
    const Session *session = request->session;
    Error err;
    if (session->tx == TX_IDLE || !session->tx_locks)
        return false;
    error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED,
              "rows of several shards cannot be brought together in a transaction that has changed or locked tables");
    error_detail(&err, "They are brought together on another connection, which would wait for this transaction.");
    error_hint(&err, "COMMIT first, or fix the shard key.");
    dispatch_error(request, &err);
    return true;
}

/* They take turns; a shard that has no primary now lets its turn pass. */
static uint32_t merge_server(Worker *worker, const DatabaseConfig *database)
{
    uint32_t shard = database->shards[worker->gather_next++ % database->shard_count];
    for (uint32_t i = 1; i < database->shard_count && !doubt_primary(worker, shard); i++)
        shard = database->shards[worker->gather_next++ % database->shard_count];
    return shard;
}

void gather_start(Request *request, const Fanout *spread)
{
    Session *session = request->session;
    const DatabaseConfig *database = session_database(session, session->worker->topology);
    Gather *gather = arena_new(&request->arena, Gather);
    uint32_t count = spread->form.relation_count;
    Error err;
    if (gather)
        gather->relations = arena_array(&request->arena, GatherRelation, count);
    if (!gather || !gather->relations) {
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        session_fatal(session, &err);
        return;
    }
    gather->holder.kind = HOLDER_GATHER;
    gather->request = request;
    gather->spread = spread;
    gather->sink.ops = &SINK_OPS;
    gather->bytes_max = worker_config(session->worker)->gather_max_bytes;
    buf_init(&gather->error, 1 << 20);
    if (!fanout_limits(gather_statement(gather), &spread->form, &gather->offset, &gather->limit, &err)) {
        dispatch_error(request, &err);
        return;
    }
    gather->shard = spread->form.system ? database->shards[0] : merge_server(session->worker, database);
    request_cut(request);
    request->gather = gather;
    run_learn(gather);
}

void gather_cancel(Gather *gather)
{
    if (gather->active)
        task_cancel(&gather->task);
}

void gather_abandon(Gather *gather)
{
    gather->ended = true;
    gather_free(gather);
}

void gather_drained(Gather *gather)
{
    if (gather->active && gather->task.backend && gather->phase == GATHER_FINAL)
        backend_resume(gather->task.backend);
}

void gather_on_held_lost(Gather *gather, Backend *backend)
{
    Error err;
    if (gather->backend == backend)
        gather->backend = NULL;
    error_set(&err, SQLSTATE_CONNECTION_FAILURE, "connection to the merge server was lost");
    gather_fail(gather, &err);
}
