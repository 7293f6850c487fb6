/*
 * insert.c - cuts the rows of VALUES apart at their parentheses, and puts what comes back in order.
 */
#include "router/insert.h"

#include "query/lexer.h"
#include "router/composer.h"
#include "router/dispatch.h"
#include "router/worker_state.h"
#include "wire/backend.h"

/* ---- the text -------------------------------------------------------------------------------------------- */

typedef struct Cutter {
    Slice sql;
    Lexer lexer;
    Token token; /* the next one */
    Buf out;
    uint32_t *params; /* new number - 1 -> old number */
    uint32_t param_count, param_room;
    Arena *arena;
    bool bad;
} Cutter;

static uint32_t param_number(Cutter *cutter, uint32_t old)
{
    for (uint32_t i = cutter->param_count; i-- > 0;)
        if (cutter->params[i] == old)
            return i + 1;
    if (cutter->param_count == cutter->param_room) {
        uint32_t room = MAX(cutter->param_room * 2, 16u);
        uint32_t *grown = arena_array(cutter->arena, uint32_t, room);
        if (!grown) {
            cutter->bad = true;
            return 1;
        }
        if (cutter->param_count)
            memcpy(grown, cutter->params, cutter->param_count * sizeof *grown);
        cutter->params = grown;
        cutter->param_room = room;
    }
    cutter->params[cutter->param_count++] = old;
    return cutter->param_count;
}

/* Copies what stands from `from` up to the next token, with or without that token. */
static void copy_token(Cutter *cutter, uint32_t *from, bool wanted)
{
    Token token = cutter->token;
    if (wanted && token.kind == TOKEN_PARAM) {
        char number[16];
        int len = snprintf(number, sizeof number, "$%u", param_number(cutter, token.param));
        buf_append(&cutter->out, slice_of(cutter->sql.data + *from, token.offset - *from));
        buf_append(&cutter->out, slice_of(number, (size_t)len));
    } else if (wanted) {
        buf_append(&cutter->out, slice_of(cutter->sql.data + *from, token.offset + token.len - *from));
    }
    *from = token.offset + token.len;
    cutter->bad |= token.kind == TOKEN_BAD;
    cutter->token = lexer_next(&cutter->lexer);
}

static bool is_punct(const Cutter *cutter, char c)
{
    return cutter->token.kind == TOKEN_PUNCT && cutter->token.len == 1 &&
           cutter->sql.data[cutter->token.offset] == (uint8_t)c;
}

/* Up to and with the word VALUES that the rows follow. */
static void copy_head(Cutter *cutter, uint32_t *from)
{
    int depth = 0;
    bool found = false;
    while (!found && cutter->token.kind != TOKEN_END && !cutter->bad) {
        depth += is_punct(cutter, '(') - is_punct(cutter, ')');
        found = depth == 0 && cutter->token.kind == TOKEN_IDENT && token_is(cutter->sql, cutter->token, "values");
        copy_token(cutter, from, true);
    }
    cutter->bad |= !found;
}

/* ( ... ): one row. */
static void copy_row(Cutter *cutter, uint32_t *from, bool wanted)
{
    int depth = 0;
    cutter->bad |= !is_punct(cutter, '(');
    do {
        depth += is_punct(cutter, '(') - is_punct(cutter, ')');
        if (cutter->token.kind == TOKEN_END)
            cutter->bad = true;
        else
            copy_token(cutter, from, wanted);
    } while (depth > 0 && !cutter->bad);
}

static void copy_rows(Cutter *cutter, uint32_t *from, const uint32_t *rows, uint32_t row_count, uint32_t shard)
{
    bool any = false;
    for (uint32_t i = 0; i < row_count && !cutter->bad; i++) {
        bool wanted = rows[i] == shard;
        if (i) {
            cutter->bad |= !is_punct(cutter, ',');
            copy_token(cutter, from, false);
        }
        if (wanted && any)
            buf_append(&cutter->out, SLICE(","));
        any |= wanted;
        copy_row(cutter, from, wanted);
    }
    cutter->bad |= is_punct(cutter, ',');
}

bool insert_text(Slice sql, bool standard_strings, const uint32_t *rows, uint32_t row_count, uint32_t shard,
                 Arena *arena, Slice *ret_text, uint32_t **ret_params, uint32_t *ret_param_count)
{
    Cutter cutter = {.sql = sql, .arena = arena};
    uint32_t from = 0;
    buf_init(&cutter.out, sql.len * 2 + 64);
    lexer_init(&cutter.lexer, sql, standard_strings);
    cutter.token = lexer_next(&cutter.lexer);
    copy_head(&cutter, &from);
    copy_rows(&cutter, &from, rows, row_count, shard);
    while (cutter.token.kind != TOKEN_END && !cutter.bad)
        copy_token(&cutter, &from, true);
    *ret_text = arena_dup(arena, buf_bytes(&cutter.out));
    *ret_params = cutter.params;
    *ret_param_count = cutter.param_count;
    bool ok = !cutter.bad && !cutter.out.failed && ret_text->data;
    buf_finish(&cutter.out);
    return ok;
}

/* ---- what comes back -------------------------------------------------------------------------------------- */

typedef struct InsertLeg {
    uint32_t shard, rows; /* rows that it was given */
    Buf returned;         /* whole DataRows */
} InsertLeg;

typedef struct Insert {
    SumComposer sum; /* first: COMPOSER_SUM's own */
    const uint32_t *rows;
    uint32_t row_count, leg_count;
    InsertLeg *legs;
} Insert;

static void insert_on_frame(Scatter *scatter, Leg *leg, const Frame *frame)
{
    Insert *insert = scatter->composer;
    if (frame->type != BACKEND_DATA_ROW) {
        COMPOSER_SUM.on_frame(scatter, leg, frame);
        return;
    }
    Buf *returned = &insert->legs[leg->index].returned;
    buf_append(returned, frame->whole);
    if (!returned->failed)
        return;
    Error err;
    error_set(&err, SQLSTATE_LIMIT_EXCEEDED, "the rows that RETURNING gives are too many to be put in order");
    error_hint(&err, "Insert fewer rows at a time, or raise server_message_max.");
    scatter_fail(scatter, &err);
}

static void put_next_row(Request *request, Buf *returned)
{
    Frame frame;
    Error err;
    if (frame_next(buf_bytes(returned), SIZE_MAX, &frame, &err) != WIRE_OK)
        return;
    buf_append(request_out(request), frame.whole);
    buf_consume(returned, frame.whole.len);
}

static void insert_on_end(Scatter *scatter)
{
    Insert *insert = scatter->composer;
    bool each = true; /* each row gave one back */
    for (uint32_t i = 0; i < insert->leg_count; i++)
        each &= scatter->legs[i].rows == insert->legs[i].rows;
    for (uint32_t row = 0; each && row < insert->row_count; row++)
        for (uint32_t i = 0; i < insert->leg_count; i++)
            if (insert->legs[i].shard == insert->rows[row])
                put_next_row(scatter->request, &insert->legs[i].returned);
    for (uint32_t i = 0; i < insert->leg_count; i++)
        buf_append(request_out(scatter->request), buf_bytes(&insert->legs[i].returned));
    request_touch(scatter->request);
    COMPOSER_SUM.on_end(scatter);
}

static void insert_on_free(Scatter *scatter)
{
    Insert *insert = scatter->composer;
    for (uint32_t i = 0; i < insert->leg_count; i++)
        buf_finish(&insert->legs[i].returned);
}

static const ComposerOps COMPOSER_INSERT = {.on_frame = insert_on_frame,
                                            .on_end = insert_on_end,
                                            .on_free = insert_on_free};

/* ---- the legs ---------------------------------------------------------------------------------------------- */

static Slice frame_keep(Request *request, Buf *frame)
{
    Slice copy = frame->failed ? (Slice){0} : arena_dup(&request->arena, buf_bytes(frame));
    buf_finish(frame);
    return copy;
}

/* The client's values that this leg needs, in their own formats. */
static Slice bind_frame(Request *request, const BindMessage *bind, const uint32_t *params, uint32_t count)
{
    BindParam *all = bind_params(bind, &request->arena);
    uint8_t *codes = arena_alloc(&request->arena, 2 * count + 2);
    Buf frame;
    if (!codes || (!all && bind->param_count))
        return (Slice){0};
    for (uint32_t i = 0; i < count; i++) {
        uint16_t format = bind_param_format(bind, params[i] - 1);
        codes[2 * i] = (uint8_t)(format >> 8);
        codes[2 * i + 1] = (uint8_t)format;
    }
    buf_init(&frame, bind->params.len + 8 * (size_t)count + 1024 + bind->result_formats.raw.len);
    size_t mark = frontend_bind_begin(&frame, (Slice){0}, (Slice){0},
                                      (WireFormats){slice_of(codes, 2 * count), (uint16_t)count}, (uint16_t)count);
    for (uint32_t i = 0; i < count; i++) {
        const BindParam *param = &all[params[i] - 1];
        if (param->is_null)
            frontend_bind_null(&frame);
        else
            frontend_bind_value(&frame, param->value);
    }
    frontend_bind_end(&frame, mark, bind->result_formats);
    return frame_keep(request, &frame);
}

static bool extended_steps(Request *request, const PlanStatement *statement, Slice text, const uint32_t *params,
                           uint32_t count, ScatterLeg *leg)
{
    uint32_t *oids = arena_array(&request->arena, uint32_t, count + 1);
    TaskStep *steps = arena_array(&request->arena, TaskStep, 5);
    Buf describe, execute;
    buf_init(&describe, 64);
    frontend_put_describe(&describe, 'P', (Slice){0});
    buf_init(&execute, 64);
    frontend_put_execute(&execute, (Slice){0}, 0);
    Slice described = frame_keep(request, &describe), executed = frame_keep(request, &execute);
    if (!oids || !steps || !described.len || !executed.len)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (params[i] == 0 || params[i] > statement->bind->param_count)
            return false;
        oids[i] = params[i] <= statement->param_oid_count ? statement->param_oids[params[i] - 1] : 0;
    }
    Prepared *prepared = request_prepare(request, text, oids, count);
    Slice bound = bind_frame(request, statement->bind, params, count);
    if (!prepared || !bound.len)
        return false;
    steps[0] = (TaskStep){.op = TASK_PARSE, .unnamed = true, .prepared = prepared, .hidden = true};
    steps[1] = (TaskStep){.op = TASK_BIND, .unnamed = true, .prepared = prepared, .hidden = true, .frame = bound};
    steps[2] = (TaskStep){.op = TASK_DESCRIBE_PORTAL, .frame = described};
    steps[3] = (TaskStep){.op = TASK_EXECUTE, .frame = executed};
    steps[4] = (TaskStep){.op = TASK_SYNC};
    leg->steps = steps;
    leg->step_count = 5;
    return true;
}

static bool leg_make(Request *request, const Insert *insert, uint32_t shard, ScatterLeg *leg)
{
    const PlanStatement *statement = &request->planned[0];
    Slice text;
    uint32_t *params, count;
    leg->shard = shard;
    if (!insert_text(statement->text, session_standard_strings(request->session), insert->rows,
                     insert->row_count, shard, &request->arena, &text, &params, &count))
        return false;
    if (statement->bind)
        return extended_steps(request, statement, text, params, count, leg);
    scatter_query_steps(request, text, &leg->steps, &leg->step_count);
    return leg->steps != NULL;
}

static bool has_describe_statement(const Request *request)
{
    for (uint32_t i = 0; i < request->step_count; i++)
        if (request->steps[i].op == TASK_DESCRIBE_STATEMENT)
            return true;
    return false;
}

/* One leg for each shard that has rows, in the order of the shards. */
static bool legs_make(Request *request, Insert *insert, ScatterLeg *legs, uint32_t shard_count)
{
    size_t limit = worker_config(request->session->worker)->server_message_max;
    for (uint32_t shard = 0; shard < shard_count; shard++) {
        uint32_t rows = 0;
        for (uint32_t i = 0; i < insert->row_count; i++)
            rows += insert->rows[i] == shard;
        if (rows == 0)
            continue;
        InsertLeg *leg = &insert->legs[insert->leg_count];
        leg->shard = shard;
        leg->rows = rows;
        buf_init(&leg->returned, limit);
        if (!leg_make(request, insert, shard, &legs[insert->leg_count++]))
            return false;
    }
    return true;
}

void insert_start(Request *request, const Plan *plan)
{
    Session *session = request->session;
    uint32_t shard_count = worker_config(session->worker)->shard_count;
    Insert *insert = arena_new(&request->arena, Insert);
    ScatterLeg *legs = arena_array(&request->arena, ScatterLeg, shard_count);
    Error err;
    if (insert) {
        insert->legs = arena_array(&request->arena, InsertLeg, shard_count);
        insert->row_count = plan->row_count;
        insert->rows = (const uint32_t *)(const void *)arena_dup(
                           &request->arena, slice_of(plan->rows, plan->row_count * sizeof *plan->rows)).data;
    }
    error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED, "the rows of this INSERT cannot be dealt out to their shards");
    error_hint(&err, "Insert the rows one by one.");
    if (!insert || !legs || !insert->legs || !insert->rows || has_describe_statement(request) ||
        !legs_make(request, insert, legs, shard_count)) {
        dispatch_error(request, &err);
        return;
    }
    scatter_start(request, &(ScatterSpec){.legs = legs, .leg_count = insert->leg_count, .ops = &COMPOSER_INSERT,
                                          .composer = insert, .sequential = true, .atomic = true,
                                          .writes = true});
}
