/*
 * learn.c - what does this statement look like? Asked once per template, of PostgreSQL itself.
 *
 *     Parse  Describe  Sync   Query "transaction_isolation"
 *     1      t T       Z      T D C Z
 *
 * The answer is replayed to each member that asks to have its statement described, and tells which
 * types the parameters have. A server whose default is SERIALIZABLE is seen here too (rule 3).
 * Until it is there, statements go their own way (BATCH_LEARNING). Nobody waits for it.
 */
#include "batcher/batcher_internal.h"
#include "batcher/rewrite.h"
#include "wire/backend.h"

static void learn_on_frame(Sink *sink, Task *task, const Frame *frame);
static void learn_on_ready(Sink *sink, Task *task, char tx_status, bool last);
static void learn_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed);
static void learn_finish(Template *template);

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
        if (backend_read_data_row(frame->body, 1, &row, &err) == WIRE_OK)
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
    if (template->serializable)
        return BATCH_ISOLATION;
    if (template->param_count > PARAMS_MAX)
        return BATCH_LIMIT;
    const PolicyVerdict *verdict = &template->judgement->verdict;
    template->key_count = verdict->key_count;
    BatchReason reason = key_plan_make(template->judgement->key.shape, verdict, template->literals,
                                       template->oids, template->param_count, template->keys);
    if (reason)
        return reason;
    template->sql = make_sql(template);
    return template->sql ? BATCH_OK : BATCH_UNSUPPORTED_CLAUSE;
}

static void learn_finish(Template *template)
{
    Batcher *batcher = template->batcher;
    if (template->failed || !template->row_frame.data || !template->parameter_frame.data) {
        template_distrust(batcher, template, RELEARN_US, "it could not be described");
    } else {
        template->reason = plan(template);
        template->state = template->reason ? TEMPLATE_REFUSED : TEMPLATE_READY;
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
