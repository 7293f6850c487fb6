/*
 * gather_legs.c - rows of the shards become COPY data of the merge server.
 *
 *     DataRow, binary:     D | length | count 2 | length 4, value | ...
 *     COPY tuple, binary:  d | length | count 2 | length 4, value | ...        the same bytes
 *
 * So a row is passed on with another letter in front. Types that are not PostgreSQL's own (enums, extensions)
 * travel as text, because their binary form may hold OIDs of one shard.
 *
 * Each leg runs all its relations in one series, so that it reads them in one snapshot (outside of a
 * transaction: REPEATABLE READ). The COPYs come one after the other: a leg that is ahead is paused, and what
 * it had sent already waits in `pending`.
 */
#include "router/gather_build.h"

#include <stdlib.h>

#include "router/dispatch.h"
#include "router/worker_state.h"
#include "wire/backend.h"

#define FIRST_USER_OID 16384u
#define END_MARK       UINT32_MAX
#define PENDING_MAX    ((size_t)1 << 30)

static const uint8_t COPY_HEADER[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0"; /* with its last NUL: 19 bytes */

bool gather_relation_describe(GatherRelation *relation, Slice description, Arena *arena)
{
    RowDescription row;
    FieldDescription field;
    Error err;
    size_t cursor = 0;
    uint32_t n = 0;
    if (backend_read_row_description(slice_from(description, 5), &row, &err) != WIRE_OK)
        return false;
    relation->type_oids = arena_array(arena, uint32_t, row.count + 1);
    relation->column_count = row.count;
    relation->binary = true;
    while (relation->type_oids && row_description_next(&row, &cursor, &field)) {
        relation->type_oids[n++] = field.type_oid;
        relation->binary &= field.type_oid < FIRST_USER_OID && field.type_oid != 1033; /* aclitem has no binary form */
    }
    return relation->type_oids != NULL;
}

/* ---- COPY data ------------------------------------------------------------------------------------------- */

static void put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void pause_all(Gather *gather)
{
    for (uint32_t i = 0; i < gather->leg_count; i++)
        leg_pause(&gather->scatter->legs[i], LEG_PAUSE_COMPOSER);
}

static void copy_put(Gather *gather, Slice frames)
{
    if (!backend_feed_copy(&gather->task, frames) && !gather->choked) {
        gather->choked = true;
        if (gather->scatter)
            pause_all(gather);
    }
}

bool gather_copy_begin(Gather *gather)
{
    uint8_t frame[5 + sizeof COPY_HEADER] = {'d'};
    if (!gather->relations[gather->current].binary)
        return true;
    put_u32(frame + 1, 4 + sizeof COPY_HEADER);
    memcpy(frame + 5, COPY_HEADER, sizeof COPY_HEADER);
    copy_put(gather, slice_of(frame, sizeof frame));
    return true;
}

static void copy_finish(Gather *gather)
{
    static const uint8_t DONE[] = {'d', 0, 0, 0, 6, 0xFF, 0xFF, 'c', 0, 0, 0, 4};
    bool binary = gather->relations[gather->current].binary;
    copy_put(gather, binary ? slice_of(DONE, sizeof DONE) : slice_of(DONE + 7, 5));
}

static char escape_of(uint8_t c)
{
    switch (c) {
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    case '\v':
        return 'v';
    case '\\':
        return '\\';
    default:
        return 0;
    }
}

static void put_escaped(Buf *line, Slice value)
{
    for (size_t from = 0, i = 0; i <= value.len; i++) {
        char escape = i < value.len ? escape_of(value.data[i]) : 0;
        if (i < value.len && !escape)
            continue;
        buf_append(line, slice_of(value.data + from, i - from));
        if (escape)
            buf_append(line, slice_of((char[]){'\\', escape}, 2));
        from = i + 1;
    }
}

/* A row of text values as a line of COPY. */
static bool put_text_row(Buf *line, Slice body)
{
    DataRow row;
    Column column;
    Error err;
    size_t cursor = 0;
    bool first = true;
    if (backend_read_data_row(body, -1, &row, &err) != WIRE_OK)
        return false;
    buf_append(line, slice_of("d\0\0\0\0", 5));
    while (data_row_next(&row, &cursor, &column)) {
        if (!first)
            buf_append(line, SLICE("\t"));
        first = false;
        if (column.is_null)
            buf_append(line, SLICE("\\N"));
        else
            put_escaped(line, column.value);
    }
    buf_append(line, SLICE("\n"));
    if (line->failed)
        return false;
    put_u32(line->data + line->head + 1, (uint32_t)buf_len(line) - 1);
    return true;
}

static void too_much(Gather *gather)
{
    Error err;
    error_set(&err, "53400", "the rows that this statement brings together are more than gather_max_bytes");
    error_detail(&err, "More than %llu bytes would be gathered: %s.", (unsigned long long)gather->bytes_max,
                 gather->spread->form.reason);
    error_hint(&err, "Restrict it, fix the shard key, join tables by their key, or raise gather_max_bytes.");
    gather_fail(gather, &err);
}

static void row_forward(Gather *gather, Slice body)
{
    GatherRelation *relation = &gather->relations[gather->current];
    Buf frame;
    gather->bytes += body.len;
    relation->bytes += body.len;
    relation->rows++;
    if (gather->bytes > gather->bytes_max) {
        too_much(gather);
        return;
    }
    buf_init(&frame, (size_t)1 << 31);
    bool good;
    if (relation->binary) {
        uint8_t head[5] = {'d'};
        put_u32(head + 1, (uint32_t)body.len + 4);
        buf_append(&frame, slice_of(head, sizeof head));
        good = buf_append(&frame, body);
    } else {
        good = put_text_row(&frame, body);
    }
    if (good) {
        copy_put(gather, buf_bytes(&frame));
    } else {
        Error err;
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        gather_fail(gather, &err);
    }
    buf_finish(&frame);
}

/* ---- whose turn it is ---------------------------------------------------------------------------------------- */

static bool leg_has_turn(const Gather *gather, const GatherLeg *leg)
{
    return gather->copying && leg->at < leg->count && leg->relations[leg->at] == gather->current;
}

/* Every leg is past the table that is being filled: it is full. */
static void check_full(Gather *gather)
{
    if (!gather->copying || gather->ended)
        return;
    for (uint32_t i = 0; i < gather->leg_count; i++) {
        const GatherLeg *leg = &gather->legs[i];
        if (leg->at < leg->count && leg->relations[leg->at] <= gather->current)
            return;
    }
    gather->copying = false;
    copy_finish(gather);
}

static bool pending_take(GatherLeg *leg, Slice *ret_body, bool *ret_end)
{
    Slice queue = buf_bytes(&leg->pending);
    uint32_t len;
    if (queue.len < sizeof len)
        return false;
    memcpy(&len, queue.data, sizeof len);
    *ret_end = len == END_MARK;
    *ret_body = slice_of(queue.data + sizeof len, *ret_end ? 0 : len);
    return true;
}

static void leg_catch_up(Gather *gather, GatherLeg *leg)
{
    Slice body;
    bool end;
    while (leg_has_turn(gather, leg) && !gather->ended && pending_take(leg, &body, &end)) {
        if (end)
            leg->at++;
        else
            row_forward(gather, body);
        buf_consume(&leg->pending, sizeof(uint32_t) + body.len);
    }
}

void gather_legs_go_on(Gather *gather)
{
    for (uint32_t i = 0; i < gather->leg_count && !gather->ended; i++)
        leg_catch_up(gather, &gather->legs[i]);
    for (uint32_t i = 0; i < gather->leg_count && !gather->ended && !gather->choked; i++)
        if (buf_len(&gather->legs[i].pending) == 0)
            leg_resume(&gather->scatter->legs[i], LEG_PAUSE_COMPOSER);
    check_full(gather);
}

void gather_on_server_drained(Gather *gather)
{
    if (!gather->choked)
        return;
    gather->choked = false;
    for (uint32_t i = 0; gather->scatter && i < gather->leg_count; i++)
        if (buf_len(&gather->legs[i].pending) == 0)
            leg_resume(&gather->scatter->legs[i], LEG_PAUSE_COMPOSER);
}

/* ---- the composer ------------------------------------------------------------------------------------------------ */

static void pending_put(Gather *gather, Leg *leg, const Frame *frame)
{
    GatherLeg *own = &gather->legs[leg->index];
    uint32_t len = frame->type == BACKEND_DATA_ROW ? (uint32_t)frame->body.len : END_MARK;
    buf_append(&own->pending, slice_of(&len, sizeof len));
    if (len != END_MARK)
        buf_append(&own->pending, frame->body);
    if (own->pending.failed) {
        Error err;
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        gather_fail(gather, &err);
        return;
    }
    leg_pause(leg, LEG_PAUSE_COMPOSER);
}

static void legs_on_frame(Scatter *scatter, Leg *leg, const Frame *frame)
{
    Gather *gather = scatter->composer;
    GatherLeg *own = &gather->legs[leg->index];
    if (frame->type != BACKEND_DATA_ROW && frame->type != BACKEND_COMMAND_COMPLETE)
        return;
    if (buf_len(&own->pending) || !leg_has_turn(gather, own)) {
        pending_put(gather, leg, frame);
        return;
    }
    if (frame->type == BACKEND_DATA_ROW) {
        row_forward(gather, frame->body);
        return;
    }
    own->at++;
    check_full(gather);
}

static bool legs_on_done(Scatter *scatter)
{
    gather_on_legs_done(scatter->composer);
    return false;
}

static void legs_on_end(Scatter *scatter) { gather_on_end(scatter->composer); }
static void legs_on_free(Scatter *scatter) { gather_on_scatter_free(scatter->composer); }

static const ComposerOps COMPOSER_GATHER = {.on_frame = legs_on_frame,
                                            .on_legs_done = legs_on_done,
                                            .on_end = legs_on_end,
                                            .on_free = legs_on_free};

/* ---- what the legs say --------------------------------------------------------------------------------------------- */

static const FanoutLegs *shards_of(const Gather *gather, uint32_t relation)
{
    const Fanout *spread = gather->spread;
    return spread->form.kind == SPLIT_GATHER ? &spread->relations[relation] : &spread->legs;
}

/* What the shard is asked for the relation; NULL: nothing. */
static const Slice *text_for(const Gather *gather, uint32_t relation, uint32_t shard)
{
    const FanoutLegs *legs = shards_of(gather, relation);
    for (uint32_t i = 0; i < legs->count; i++)
        if (legs->shards[i] == shard)
            return &legs->texts[i];
    return NULL;
}

static Slice frame_keep(Gather *gather, Buf *frame)
{
    Slice kept = frame->failed ? (Slice){0} : arena_dup(&gather->request->arena, buf_bytes(frame));
    buf_finish(frame);
    return kept;
}

static TaskStep query_step(Gather *gather, const char *sql)
{
    Buf frame;
    buf_init(&frame, 256);
    frontend_put_query(&frame, slice_str(sql));
    return (TaskStep){.op = TASK_QUERY, .hidden = true, .frame = frame_keep(gather, &frame)};
}

static bool relation_steps(Gather *gather, uint32_t relation, Slice text, TaskStep *steps)
{
    Arena *arena = &gather->request->arena;
    Prepared *prepared = request_prepare(gather->request, text, gather->types, gather->type_count);
    WireFormats results = gather->relations[relation].binary ? WIRE_FORMATS_BINARY : WIRE_FORMATS_NONE;
    Slice bind = fanout_bind(gather_statement(gather), &gather->spread->form, SLICE(""), gather->offset, gather->limit,
                             results, arena);
    Buf frame;
    buf_init(&frame, 256);
    frontend_put_execute(&frame, SLICE(""), 0);
    Slice execute = frame_keep(gather, &frame);
    steps[0] = (TaskStep){.op = TASK_PARSE, .prepared = prepared, .hidden = true};
    steps[1] = (TaskStep){.op = TASK_BIND, .prepared = prepared, .hidden = true, .frame = bind};
    steps[2] = (TaskStep){.op = TASK_EXECUTE, .frame = execute};
    return prepared && bind.len && execute.len;
}

static bool leg_make(Gather *gather, uint32_t shard, GatherLeg *own, ScatterLeg *leg)
{
    Arena *arena = &gather->request->arena;
    uint32_t n = 0, count = gather->spread->form.relation_count;
    bool alone = gather->request->session->tx == TX_IDLE;
    TaskStep *steps = arena_array(arena, TaskStep, 3 * (size_t)count + 3);
    own->relations = arena_array(arena, uint32_t, count);
    buf_init(&own->pending, PENDING_MAX);
    if (!steps || !own->relations)
        return false;
    if (alone)
        steps[n++] = query_step(gather, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    for (uint32_t i = 0; i < count; i++) {
        const Slice *text = text_for(gather, i, shard);
        if (!text)
            continue;
        own->relations[own->count++] = i;
        if (!relation_steps(gather, i, *text, steps + n))
            return false;
        n += 3;
    }
    steps[n++] = (TaskStep){.op = TASK_SYNC};
    if (alone)
        steps[n++] = query_step(gather, "COMMIT");
    *leg = (ScatterLeg){.shard = shard, .steps = steps, .step_count = n};
    return true;
}

bool gather_legs_start(Gather *gather)
{
    const Config *config = worker_config(gather->request->session->worker);
    Arena *arena = &gather->request->arena;
    ScatterLeg *legs = arena_array(arena, ScatterLeg, config->shard_count);
    gather->legs = arena_array(arena, GatherLeg, config->shard_count);
    if (!legs || !gather->legs)
        return false;
    for (uint32_t shard = 0; shard < config->shard_count; shard++) {
        bool wanted = false;
        for (uint32_t i = 0; i < gather->spread->form.relation_count; i++)
            wanted |= text_for(gather, i, shard) != NULL;
        if (!wanted)
            continue;
        uint32_t n = gather->leg_count++;
        if (!leg_make(gather, shard, &gather->legs[n], &legs[n]))
            return false;
    }
    Request *request = gather->request;
    scatter_start(request, &(ScatterSpec){.legs = legs, .leg_count = gather->leg_count,
                                          .ops = &COMPOSER_GATHER, .composer = gather});
    if (request->gather == gather)
        gather->scatter = request->scatter;
    return true;
}

void gather_legs_free(Gather *gather)
{
    for (uint32_t i = 0; i < gather->leg_count; i++)
        buf_finish(&gather->legs[i].pending);
    gather->leg_count = 0;
}
