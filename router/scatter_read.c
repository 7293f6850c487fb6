/*
 * scatter_read.c - legs that answer rows, and the composer that makes one answer of them.
 *
 *     leg: Parse Bind Describe Execute Sync        T ..................> the client's T, hidden columns cut
 *                                                  D D D ──> Merge ──D─> the client
 *                                                  C                     "SELECT n", when all are done
 *
 * The client is told the types of the home shard: those of enums and extensions have other OIDs on each
 * shard (H55). If such a type is among the columns, rows wait until the home shard has described its own.
 */
#include "router/scatter_read.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

#include "router/dispatch.h"
#include "router/local.h"
#include "router/merge.h"
#include "router/worker_state.h"
#include "wire/backend.h"
#include "wire/value.h"

#define FIRST_USER_OID 16384u
#define MERGE_HIGH     ((size_t)256 << 10) /* bytes of one leg that wait for others; a read is 64 KiB */

typedef struct MergeComposer {
    Merge merge;
    uint32_t hidden;
    Slice description; /* whole T of the first leg that told, for comparison; in the arena */
    uint32_t home;     /* leg index; UINT32_MAX: the home shard takes no part */
    bool open;
} MergeComposer;

/* ---- descriptions ------------------------------------------------------------------------------------ */

static void disagree(Scatter *scatter, const Leg *leg)
{
    Error err;
    error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED, "the shards do not agree on the columns of the answer");
    error_detail(&err, "Shard %s describes them otherwise than the others.",
                 worker_config(scatter->worker)->shards[leg->shard].name);
    error_hint(&err, "Bring the schema of the shards together (ALTER TABLE through Shoal), then try again.");
    scatter_fail(scatter, &err);
}

/* Types of PostgreSQL's own have one OID everywhere; of others only that they are others is known. */
static bool types_match(uint32_t a, uint32_t b)
{
    return a == b || (a >= FIRST_USER_OID && b >= FIRST_USER_OID);
}

static bool descriptions_match(Slice a, Slice b)
{
    RowDescription x, y;
    FieldDescription f, g;
    Error err;
    size_t i = 0, j = 0;
    if (backend_read_row_description(slice_from(a, 5), &x, &err) != WIRE_OK ||
        backend_read_row_description(slice_from(b, 5), &y, &err) != WIRE_OK || x.count != y.count)
        return false;
    while (row_description_next(&x, &i, &f) && row_description_next(&y, &j, &g))
        if (!types_match(f.type_oid, g.type_oid) || !slice_equal(f.name, g.name) || f.format != g.format)
            return false;
    return true;
}

static bool has_user_types(const RowDescription *row)
{
    FieldDescription field;
    size_t cursor = 0;
    while (row_description_next(row, &cursor, &field))
        if (field.type_oid >= FIRST_USER_OID)
            return true;
    return false;
}

/* Says the description to the client, without the hidden columns; they must be what the merge compares. */
static bool describe(Scatter *scatter, const RowDescription *row)
{
    MergeComposer *composer = scatter->composer;
    FieldDescription *fields = arena_array(&scatter->request->arena, FieldDescription, row->count + 1);
    size_t cursor = 0;
    uint32_t n = 0, visible = row->count - composer->hidden;
    Buf frame;
    if (!fields || row->count < composer->hidden)
        return false;
    while (row_description_next(row, &cursor, &fields[n]))
        n++;
    for (uint32_t i = 0; i < composer->hidden; i++)
        if (fields[visible + i].type_oid != composer->merge.keys[i].type_oid)
            return false;
    buf_init(&frame, 1 << 22);
    backend_put_row_description(&frame, fields, visible);
    local_open(scatter->request, buf_bytes(&frame));
    buf_finish(&frame);
    composer->open = true;
    return true;
}

static void on_description(Scatter *scatter, Leg *leg, const Frame *frame)
{
    MergeComposer *composer = scatter->composer;
    Request *request = scatter->request;
    RowDescription row;
    Error err;
    if (!composer->description.len)
        composer->description = arena_dup(&request->arena, frame->whole);
    else if (!descriptions_match(composer->description, frame->whole)) {
        disagree(scatter, leg);
        return;
    }
    if (composer->open || backend_read_row_description(frame->body, &row, &err) != WIRE_OK)
        return;
    bool waits = composer->home != UINT32_MAX && leg->index != composer->home && has_user_types(&row);
    composer->merge.gated = waits;
    if (waits)
        return;
    if (!describe(scatter, &row))
        disagree(scatter, leg);
    else if (!merge_open(&composer->merge, request_out(request), &err))
        scatter_fail(scatter, &err);
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

static void pause_and_resume(Scatter *scatter)
{
    MergeComposer *composer = scatter->composer;
    for (uint32_t i = 0; i < scatter->leg_count; i++) {
        MergeLeg *at = &composer->merge.legs[i];
        bool wants = merge_wants_pause(&composer->merge, i);
        if (wants == at->paused)
            continue;
        at->paused = wants;
        if (wants)
            leg_pause(&scatter->legs[i], LEG_PAUSE_COMPOSER);
        else
            leg_resume(&scatter->legs[i], LEG_PAUSE_COMPOSER);
    }
}

static void merge_on_frame(Scatter *scatter, Leg *leg, const Frame *frame)
{
    MergeComposer *composer = scatter->composer;
    Request *request = scatter->request;
    Error err;
    switch (frame->type) {
    case BACKEND_PARAMETER_DESCRIPTION:
        if (!request->parameter_description.len)
            request->parameter_description = arena_dup(&request->arena, frame->whole);
        break;
    case BACKEND_ROW_DESCRIPTION:
        on_description(scatter, leg, frame);
        break;
    case BACKEND_DATA_ROW:
        if (!merge_row(&composer->merge, leg->index, frame->body, request_out(request), &err)) {
            scatter_fail(scatter, &err);
            break;
        }
        request_touch(request);
        if (composer->merge.key_count || composer->merge.gated)
            pause_and_resume(scatter);
        break;
    default:
        break;
    }
}

static void merge_on_leg_end(Scatter *scatter, Leg *leg)
{
    MergeComposer *composer = scatter->composer;
    Error err;
    if (!merge_end(&composer->merge, leg->index, request_out(scatter->request), &err))
        scatter_fail(scatter, &err);
    request_touch(scatter->request);
    pause_and_resume(scatter);
}

static void merge_on_end(Scatter *scatter)
{
    MergeComposer *composer = scatter->composer;
    Buf frame;
    buf_init(&frame, 256);
    backend_put_command_rows(&frame, SLICE("SELECT"), composer->merge.rows);
    local_close(scatter->request, buf_bytes(&frame));
    buf_finish(&frame);
}

static void merge_on_free(Scatter *scatter)
{
    MergeComposer *composer = scatter->composer;
    merge_finish(&composer->merge);
}

static const ComposerOps COMPOSER_MERGE = {.on_frame = merge_on_frame,
                                           .on_leg_end = merge_on_leg_end,
                                           .on_end = merge_on_end,
                                           .on_free = merge_on_free};

/* ---- LIMIT and OFFSET, values ---------------------------------------------------------------------------- */

static bool number_of(const PlanStatement *statement, const SplitNumber *number, const char *what,
                      const char *sqlstate, bool *ret_none, uint64_t *ret, Error *err)
{
    int64_t value = number->value;
    *ret_none = number->kind == SPLIT_NUMBER_NONE;
    if (number->kind == SPLIT_NUMBER_PARAM) {
        const BindMessage *bind = statement->bind;
        uint32_t at = number->param - 1;
        if (!bind || at >= bind->param_count) {
            error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "bind message does not supply parameter $%u",
                      number->param);
            return false;
        }
        BindParam param = bind_param_at(bind, at);
        uint32_t type = at < statement->param_oid_count ? statement->param_oids[at] : 0;
        uint8_t bytes[64];
        Arena arena;
        Slice canonical;
        *ret_none = param.is_null;
        if (param.is_null)
            return true;
        if (type != WIRE_OID_INT2 && type != WIRE_OID_INT4)
            type = WIRE_OID_INT8;
        arena_init(&arena, 256);
        ValueResult read =
            value_canonical(type, bind_param_format(bind, at), param.value, &arena, &canonical);
        bool good = read == VALUE_OK && canonical.len <= sizeof bytes;
        if (good)
            memcpy(bytes, canonical.data, canonical.len);
        size_t len = canonical.len;
        arena_finish(&arena);
        if (!good) {
            error_set(err, read == VALUE_OUT_OF_RANGE ? "22003" : "22P02",
                      "invalid input for type bigint in %s", what);
            return false;
        }
        uint64_t raw = 0;
        for (size_t i = 0; i < len; i++)
            raw = raw << 8 | bytes[i];
        unsigned shift = 64 - 8 * (unsigned)len;
        value = (int64_t)(raw << shift) >> shift;
    }
    if (value < 0) {
        error_set(err, sqlstate, "%s must not be negative", what);
        return false;
    }
    *ret = (uint64_t)value;
    return true;
}

bool fanout_limits(const PlanStatement *statement, const SplitForm *form, uint64_t *ret_offset,
                   uint64_t *ret_limit, Error *err)
{
    bool none;
    *ret_offset = 0;
    if (!number_of(statement, &form->offset, "OFFSET", "2201X", &none, ret_offset, err) ||
        !number_of(statement, &form->limit, "LIMIT", "2201W", &none, ret_limit, err))
        return false;
    if (none)
        *ret_limit = UINT64_MAX;
    return true;
}

uint32_t *fanout_types(const PlanStatement *statement, const SplitForm *form, uint32_t *ret_count,
                       Arena *arena)
{
    uint32_t count = MAX(statement->param_oid_count, form->limit_param);
    const SplitNumber *numbers[] = {&form->limit, &form->offset};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        count = MAX(count, numbers[i]->kind == SPLIT_NUMBER_PARAM ? numbers[i]->param : 0);
    uint32_t *types = arena_array(arena, uint32_t, count + 1);
    if (!types)
        return NULL;
    for (uint32_t i = 0; i < statement->param_oid_count; i++)
        types[i] = statement->param_oids[i];
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (numbers[i]->kind == SPLIT_NUMBER_PARAM && types[numbers[i]->param - 1] == 0)
            types[numbers[i]->param - 1] = WIRE_OID_INT8;
    if (form->limit_param)
        types[form->limit_param - 1] = WIRE_OID_INT8;
    *ret_count = count;
    return types;
}

static void put_limit(Buf *frame, uint64_t offset, uint64_t limit, bool binary)
{
    char digits[24];
    uint64_t sum = limit + offset;
    if (limit == UINT64_MAX || sum > INT64_MAX) {
        frontend_bind_null(frame);
        return;
    }
    uint64_t wire = htobe64(sum);
    if (binary)
        frontend_bind_value(frame, slice_of(&wire, sizeof wire));
    else
        frontend_bind_value(frame, slice_of(digits, (size_t)snprintf(digits, sizeof digits, "%llu",
                                                                     (unsigned long long)sum)));
}

Slice fanout_bind(const PlanStatement *statement, const SplitForm *form, Slice portal, uint64_t offset, uint64_t limit,
                  WireFormats results, Arena *arena)
{
    const BindMessage *bind = statement->bind;
    uint32_t own = bind ? bind->param_count : 0;
    uint32_t count = MAX(own, form->limit_param);
    uint8_t *codes = arena_alloc(arena, 2 * (size_t)count + 2);
    BindParam *params = own ? bind_params(bind, arena) : NULL;
    Slice kept = slice_of(NULL, 0);
    Buf frame;
    if (!codes || (own && !params))
        return kept;
    for (uint32_t i = 0; i < count; i++) {
        codes[2 * i] = 0;
        codes[2 * i + 1] = i < own ? (uint8_t)bind_param_format(bind, i) : 0;
    }
    buf_init(&frame, 1 << 30);
    size_t mark = frontend_bind_begin(&frame, portal, SLICE(""),
                                      (WireFormats){.raw = slice_of(codes, 2 * (size_t)count), .count = (uint16_t)count},
                                      count);
    for (uint32_t i = 0; i < count; i++) {
        if (i + 1 == form->limit_param)
            put_limit(&frame, offset, limit, false);
        else if (i >= own || params[i].is_null)
            frontend_bind_null(&frame);
        else
            frontend_bind_value(&frame, params[i].value);
    }
    frontend_bind_end(&frame, mark, results);
    if (!frame.failed)
        kept = arena_dup(arena, buf_bytes(&frame));
    buf_finish(&frame);
    return kept;
}

/* ---- what the legs say ------------------------------------------------------------------------------------- */

/* The client's formats for its columns, binary for the hidden ones. */
static WireFormats formats_hidden(const PlanStatement *statement, const SplitForm *form, Arena *arena)
{
    WireFormats own = statement->bind ? statement->bind->result_formats : WIRE_FORMATS_NONE;
    uint32_t count = form->visible + form->sort_count;
    uint8_t *codes = arena_alloc(arena, 2 * (size_t)count + 2);
    if (form->sort_count == 0 || !codes)
        return own;
    for (uint32_t i = 0; i < count; i++) {
        codes[2 * i] = 0;
        codes[2 * i + 1] = i < form->visible ? (uint8_t)formats_of(own, i) : FORMAT_BINARY;
    }
    return (WireFormats){.raw = slice_of(codes, 2 * (size_t)count), .count = (uint16_t)count};
}

static TaskStep *steps_own(Request *request, const SplitForm *form, Slice text, uint64_t offset, uint64_t limit,
                           uint32_t *ret_count)
{
    const PlanStatement *statement = &request->planned[request->planned_count - 1];
    Arena *arena = &request->arena;
    uint32_t type_count;
    uint32_t *types = fanout_types(statement, form, &type_count, arena);
    Prepared *prepared = types ? request_prepare(request, text, types, type_count) : NULL;
    TaskStep *steps = arena_array(arena, TaskStep, 5);
    Slice bind = fanout_bind(statement, form, SLICE(""), offset, limit, formats_hidden(statement, form, arena), arena);
    Buf frame;
    buf_init(&frame, 256);
    frontend_put_describe(&frame, 'P', SLICE(""));
    Slice describe_frame = arena_dup(arena, buf_bytes(&frame));
    buf_reset(&frame);
    frontend_put_execute(&frame, SLICE(""), 0);
    Slice execute = arena_dup(arena, buf_bytes(&frame));
    buf_finish(&frame);
    if (!prepared || !steps || !bind.len || !describe_frame.len || !execute.len)
        return NULL;
    steps[0] = (TaskStep){.op = TASK_PARSE, .prepared = prepared, .hidden = true};
    steps[1] = (TaskStep){.op = TASK_BIND, .prepared = prepared, .hidden = true, .frame = bind};
    steps[2] = (TaskStep){.op = TASK_DESCRIBE_PORTAL, .frame = describe_frame};
    steps[3] = (TaskStep){.op = TASK_EXECUTE, .frame = execute};
    steps[4] = (TaskStep){.op = TASK_SYNC};
    *ret_count = 5;
    return steps;
}

static ScatterLeg *legs_make(Request *request, const Fanout *spread, uint64_t offset, uint64_t limit)
{
    const SplitForm *form = &spread->form;
    ScatterLeg *legs = arena_array(&request->arena, ScatterLeg, spread->legs.count);
    TaskStep *steps = NULL;
    uint32_t count = 0;
    Slice said = {0}; /* by `steps` */
    for (uint32_t i = 0; legs && i < spread->legs.count; i++) {
        Slice text = spread->legs.texts[i];
        if (!steps || !slice_equal(text, said)) {
            steps = NULL;
            if (form->sort_count || form->limit_param)
                steps = steps_own(request, form, text, offset, limit, &count);
            else
                scatter_steps(request, text, &steps, &count);
            said = text;
        }
        if (!steps)
            return NULL;
        legs[i] = (ScatterLeg){.shard = spread->legs.shards[i], .steps = steps, .step_count = count};
    }
    return legs;
}

static MergeComposer *composer_make(Request *request, const Fanout *spread, uint64_t offset, uint64_t limit)
{
    Session *session = request->session;
    const SplitForm *form = &spread->form;
    uint32_t home = session_database(session, session->worker->topology)->shards[0];
    MergeComposer *composer = arena_new(&request->arena, MergeComposer);
    MergeKey *keys = arena_array(&request->arena, MergeKey, form->sort_count + 1);
    if (!composer || !keys)
        return NULL;
    for (uint32_t i = 0; i < form->sort_count; i++)
        keys[i] = (MergeKey){form->sorts[i].type_oid, form->sorts[i].descending, form->sorts[i].nulls_first};
    composer->hidden = form->sort_count;
    composer->home = UINT32_MAX;
    for (uint32_t i = 0; i < spread->legs.count; i++)
        if (spread->legs.shards[i] == home)
            composer->home = i;
    if (!merge_init(&composer->merge, keys, form->sort_count, spread->legs.count, offset, limit, MERGE_HIGH)) {
        merge_finish(&composer->merge);
        return NULL;
    }
    return composer;
}

void scatter_read(Request *request, const Fanout *spread)
{
    const PlanStatement *statement = &request->planned[request->planned_count - 1];
    uint64_t offset, limit;
    Error err;
    if (!fanout_limits(statement, &spread->form, &offset, &limit, &err)) {
        dispatch_error(request, &err);
        return;
    }
    ScatterLeg *legs = legs_make(request, spread, offset, limit);
    MergeComposer *composer = legs ? composer_make(request, spread, offset, limit) : NULL;
    if (!composer) {
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        session_fatal(request->session, &err);
        return;
    }
    scatter_start(request, &(ScatterSpec){.legs = legs, .leg_count = spread->legs.count,
                                          .ops = &COMPOSER_MERGE, .composer = composer,
                                          .writes = spread->form.locks});
}
