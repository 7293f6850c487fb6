/*
 * learn.c - what does this statement look like? Asked once per template, of PostgreSQL itself.
 *
 *     Parse  Describe  Sync   Query "transaction_isolation"
 *     1      t T       Z      T D C Z
 *
 * Through a view or row security the catalog cannot tell whether an index serves the keys; then the
 * plan of the batch statement is looked at, with sequential scans made expensive:
 *
 *     Query "BEGIN; SET LOCAL ..."   Parse s17  Sync   Query "EXPLAIN EXECUTE s17(NULL)"   Query "ROLLBACK"
 *
 * The answer is replayed to each member that asks to have its statement described, and tells which
 * types the parameters have. A server whose default is SERIALIZABLE is seen here too (rule 3).
 * Until it is there, statements go their own way (BATCH_LEARNING). Nobody waits for it.
 */
#include "batcher/batcher_internal.h"
#include "batcher/rewrite.h"
#include "batcher/without.h"
#include "wire/backend.h"

static void learn_on_frame(Sink *sink, Task *task, const Frame *frame);
static void learn_on_ready(Sink *sink, Task *task, char tx_status, bool last);
static void learn_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed);
static void learn_finish(Template *template);
static void learn_plan_line(Template *template, const Frame *frame);

static const SinkOps LEARN_OPS = {learn_on_frame, learn_on_ready, learn_on_lost};

static const char ISOLATION_SQL[] = "SELECT pg_catalog.current_setting('transaction_isolation')";

static bool keep_literals(Template *template, const BatchCandidate *c)
{
    uint32_t count = c->policy.shape->literal_count;
    template->literals = arena_array(&template->arena, ShapeLiteral, count + 1);
    if (template->literals && count)
        memcpy(template->literals, c->literals, sizeof(ShapeLiteral) * count);
    return template->literals;
}

static bool make_query(Template *template, Slice *ret)
{
    Buf buf;
    buf_init(&buf, 1024);
    frontend_put_query(&buf, slice_str(ISOLATION_SQL));
    *ret = arena_dup(&template->arena, buf_bytes(&buf));
    buf_finish(&buf);
    return ret->data;
}

void learn_start(Batcher *batcher, Template *template, const BatchCandidate *c)
{
    Slice query;
    template->original =
        prepared_intern(batcher->prepared, c->text, c->param_oids, c->param_oid_count);
    if (!template->original || !keep_literals(template, c) || !make_query(template, &query)) {
        template->state = TEMPLATE_REFUSED;
        template->reason = BATCH_LIMIT;
        return;
    }
    template->state = TEMPLATE_LEARNING;
    template->sink.ops = &LEARN_OPS;
    Prepared *original = template->original;
    template->steps[0] = (TaskStep){.op = TASK_PARSE, .unnamed = true, .prepared = original};
    template->steps[1] =
        (TaskStep){.op = TASK_DESCRIBE_STATEMENT, .unnamed = true, .prepared = original};
    template->steps[2] = (TaskStep){.op = TASK_SYNC};
    template->steps[3] = (TaskStep){.op = TASK_QUERY, .frame = query};
    task_init(&template->task, &template->sink, template->steps, 4);
    template->task.gucs = c->gucs;
    template->task.read_only = true;
    template->pool = c->pool;
    pool_submit(c->pool, &template->task);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void learn_params(Template *template, const Frame *frame)
{
    ParameterDescription params;
    Error err;
    template->parameter_frame = arena_dup(&template->arena, frame->whole);
    if (backend_read_parameter_description(frame->body, &params, &err) != WIRE_OK ||
        !template->parameter_frame.data) {
        template->failed = true;
        return;
    }
    template->param_count = params.count;
    template->oids = arena_array(&template->arena, uint32_t, params.count + 1);
    for (uint32_t i = 0; template->oids && i < params.count; i++)
        template->oids[i] = parameter_description_at(&params, i);
    template->failed |= !template->oids;
}

static void learn_row(Template *template, const Frame *frame)
{
    RowDescription row;
    Error err;
    template->row_frame = arena_dup(&template->arena, frame->whole);
    template->failed |= backend_read_row_description(frame->body, &row, &err) != WIRE_OK ||
                        !template->row_frame.data;
    template->column_count = template->failed ? 0 : row.count;
}

static void learn_on_frame(Sink *sink, Task *task, const Frame *frame)
{
    (void)task;
    Template *template = container_of(sink, Template, sink);
    DataRow row;
    Error err;
    switch (frame->type) {
    case BACKEND_ERROR:
        template->failed = true;
        break;
    case BACKEND_PARAMETER_DESCRIPTION:
        learn_params(template, frame);
        break;
    case BACKEND_ROW_DESCRIPTION: /* the second one is of our own query */
        if (!template->row_frame.data)
            learn_row(template, frame);
        break;
    case BACKEND_DATA_ROW:
        if (template->proving)
            learn_plan_line(template, frame);
        else if (backend_read_data_row(frame->body, 1, &row, &err) == WIRE_OK)
            template->serializable |= slice_is(data_row_at(&row, 0).value, "serializable");
        break;
    default:
        break;
    }
}

/* The rewritten text, with its parameters' types: an array where a key was. */
static Prepared *make_sql(Template *template)
{
    Batcher *batcher = template->batcher;
    RewriteInput input = {.text = template->original->text,
                          .shape = template->judgement->key.shape,
                          .keys = template->keys,
                          .key_count = template->key_count};
    uint32_t oids[PARAMS_MAX + KEY_COUNT_MAX] = {0}, count = template->param_count;
    if (count)
        memcpy(oids, template->oids, sizeof(uint32_t) * count);
    for (uint32_t k = 0; k < template->key_count; k++) {
        oids[template->keys[k].array_param - 1] = template->keys[k].type->array_oid;
        count = MAX(count, template->keys[k].array_param);
    }
    Buf sql;
    buf_init(&sql, LARGE_BODY_MAX / 4);
    template->tier = template->judgement->verdict.tier;
    bool good = template->tier == BATCH_TIER_KEYS && rewrite_keys(&input, &sql);
    if (!good) {
        template->tier = BATCH_TIER_ORDINAL;
        good = rewrite_ordinal(&input, &sql);
    }
    Prepared *prepared =
        good ? prepared_intern(batcher->prepared, buf_bytes(&sql), oids, count) : NULL;
    buf_finish(&sql);
    return prepared;
}

static BatchReason plan(Template *template)
{
    if (template->serializable && !without_rule(3))
        return BATCH_ISOLATION;
    if (template->param_count > PARAMS_MAX)
        return BATCH_LIMIT;
    const PolicyVerdict *verdict = &template->judgement->verdict;
    template->key_count = verdict->key_count;
    BatchReason reason = key_plan_make(
        template->judgement->key.shape, verdict, (const char *const *)template->judgement->casts,
        template->literals, template->oids, template->param_count, template->keys);
    if (reason)
        return reason;
    template->sql = make_sql(template);
    return template->sql ? BATCH_OK : BATCH_UNSUPPORTED_CLAUSE;
}

/* ---- does an index serve it? ------------------------------------------------------------------ */

static bool put_query(Template *template, TaskStep *step, Slice sql)
{
    Buf buf;
    buf_init(&buf, 16384);
    frontend_put_query(&buf, sql);
    *step = (TaskStep){.op = TASK_QUERY, .frame = arena_dup(&template->arena, buf_bytes(&buf))};
    buf_finish(&buf);
    return step->frame.data;
}

/* EXPLAIN (COSTS OFF) EXECUTE shoal_5f0c93a1_17(NULL, NULL): the plan for any values. */
static bool put_explain(Template *template, TaskStep *step)
{
    Buf sql;
    buf_init(&sql, 16384);
    buf_append(&sql, SLICE("EXPLAIN (COSTS OFF) EXECUTE "));
    buf_append(&sql, slice_str(template->sql->name));
    for (uint32_t i = 0; i < template->sql->oid_count; i++)
        buf_append(&sql, i ? SLICE(", NULL") : SLICE("(NULL"));
    buf_append(&sql, SLICE(")"));
    bool good = !sql.failed && put_query(template, step, buf_bytes(&sql));
    buf_finish(&sql);
    return good;
}

static bool prove_index(Template *template)
{
    GucVector *gucs = template->task.gucs;
    if (!put_query(template, &template->steps[0],
                   SLICE("BEGIN; SET LOCAL enable_seqscan = off; "
                         "SET LOCAL plan_cache_mode = force_generic_plan")) ||
        !put_explain(template, &template->steps[3]) ||
        !put_query(template, &template->steps[4], SLICE("ROLLBACK")))
        return false;
    template->steps[1] = (TaskStep){.op = TASK_PARSE, .prepared = template->sql};
    template->steps[2] = (TaskStep){.op = TASK_SYNC};
    template->proving = true;
    task_init(&template->task, &template->sink, template->steps, 5);
    template->task.gucs = gucs;
    template->task.read_only = true;
    pool_submit(template->pool, &template->task);
    return true;
}

/* "Index Cond: (id = "_shoal_k"."_shoal_a1")", "Index Cond: (id = ANY ($1))" */
static void learn_plan_line(Template *template, const Frame *frame)
{
    DataRow row;
    Error err;
    if (backend_read_data_row(frame->body, 1, &row, &err) != WIRE_OK)
        return;
    Slice line = data_row_at(&row, 0).value;
    const char *key = template->tier == BATCH_TIER_KEYS ? "ANY (" : "_shoal_a";
    template->indexed |= memmem(line.data, line.len, "Index Cond:", 11) &&
                         memmem(line.data, line.len, key, strlen(key));
}

static void learn_over(Template *template)
{
    Batcher *batcher = template->batcher;
    template->state = template->reason ? TEMPLATE_REFUSED : TEMPLATE_READY;
    prepared_release(batcher->prepared, template->original);
    template->original = NULL;
    template_free_if_done(batcher, template);
}

static void learn_finish(Template *template)
{
    Batcher *batcher = template->batcher;
    if (template->proving) {
        template->reason = template->indexed && !template->failed ? BATCH_OK : BATCH_NO_INDEX;
        learn_over(template);
        return;
    }
    if (template->failed || !template->row_frame.data || !template->parameter_frame.data) {
        template_distrust(batcher, template, RELEARN_US, "it could not be described");
    } else {
        template->reason = plan(template);
        if (!template->reason && template->judgement->verdict.prove_index && prove_index(template))
            return;
        if (!template->reason && template->judgement->verdict.prove_index)
            template->reason = BATCH_LIMIT;
        learn_over(template);
        return;
    }
    prepared_release(batcher->prepared, template->original);
    template->original = NULL;
    template_free_if_done(batcher, template);
}

static void learn_on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    (void)task, (void)tx_status;
    if (last)
        learn_finish(container_of(sink, Template, sink));
}

static void learn_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    (void)task, (void)err, (void)maybe_executed;
    Template *template = container_of(sink, Template, sink);
    template->failed = true;
    learn_finish(template);
}
