/*
 * merge_rows.c - the rows go through Shoal as arrays of texts, because a subquery's row has no type with a name.
 *
 *     T  {20}    {bigint,text}        the types of the source's columns, as the merge server finds them
 *     R  {7}     {7,"x"}              key, row                                 key 7 -> s1 gets '{"{7,\"x\"}", ...}'
 */
#include "router/merge_rows.h"

#include <stdlib.h>

#include "query/insert_source.h"
#include "query/merge_source.h"
#include "router/composer.h"
#include "router/dispatch.h"
#include "router/errand.h"
#include "router/foreign.h"
#include "router/gather.h"
#include "router/planning.h"
#include "router/row_deal.h"
#include "router/views.h"
#include "router/worker_state.h"
#include "wire/backend.h"
#include "wire/array.h"
#include "wire/value.h"

#define OID_BYTEA 17u
#define OID_TEXT  25u

typedef struct Blend {
    const MergeSource *source;
    const Table *table; /* while it is planned */
    RowDeal deal;
    Fanout *fanout;      /* of turn 0 */
    PlanStatement probe; /* of turn 0 */
    BindMessage bind;    /* the client's, with answers as text */
    Slice *types;        /* names, one for each column; NULL: not heard of yet */
} Blend;

static bool refuse(Error *err, const char *detail, const char *hint)
{
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "this MERGE cannot be run over several shards");
    error_detail(err, "%s", detail);
    error_hint(err, "%s", hint);
    return false;
}

static bool out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

static uint32_t key_count(const Blend *blend)
{
    return blend->source->joined ? blend->deal.target.key_count : 0;
}

/* ---- turn 0: the rows --------------------------------------------------------------------------------- */

static bool types_read(Blend *blend, Request *request, const Slice *oids, Slice names, Error *err)
{
    ArrayReader reader;
    uint32_t count = blend->source->column_count;
    Slice *types = arena_array(&request->arena, Slice, count + 1);
    for (uint32_t i = 0; i < key_count(blend); i++) {
        char number[16] = "";
        memcpy(number, oids[i].data, MIN(oids[i].len, sizeof number - 1));
        if (!plan_types_agree((uint32_t)strtoul(number, NULL, 10), blend->deal.target.keys[i].oid))
            return refuse(err, "The source's column that ON compares with the key is of another type.",
                          "Cast it to the type of the key.");
    }
    Slice kept = arena_dup(&request->arena, names);
    if (!types || !kept.data || !array_open(&reader, FORMAT_TEXT, kept, &request->arena))
        return out_of_memory(err);
    for (uint32_t i = 0; i < count; i++)
        if (!array_take(&reader, &types[i]) || !types[i].len)
            return refuse(err, "A column of its source has no type.", "Cast it to one.");
    blend->types = types;
    return true;
}

/* Rows that match nothing and are not inserted are nobody's. */
static bool row_counts(const Blend *blend, const Slice *keys)
{
    for (uint32_t i = 0; i < key_count(blend); i++)
        if (!keys[i].data && !blend->source->inserts)
            return false;
    return true;
}

static bool row_take(Blend *blend, Session *session, const Slice *keys, Slice row, Error *err)
{
    Arena *scratch = &session->worker->scratch;
    uint32_t shard;
    arena_reset(scratch);
    if (!row_counts(blend, keys))
        return true;
    if (!blend->source->inserts && blend->source->joined &&
        !row_deal_place(&blend->deal, session->worker->topology, keys, scratch, &shard, err) && error_is(err, "23514"))
        return true; /* no shard may have such a row */
    return row_deal_add(&blend->deal, session->worker->topology, keys, row, scratch, err);
}

static bool rows_read(Blend *blend, Request *request, Slice frames, Error *err)
{
    Frame frame;
    uint32_t keys = key_count(blend);
    while (frames.len && frame_next(frames, SIZE_MAX, &frame, err) == WIRE_OK) {
        Slice fields[TABLE_KEYS_MAX + 2] = {{0}};
        DataRow row;
        Column column;
        size_t cursor = 0;
        frames = slice_from(frames, frame.whole.len);
        if (frame.type != BACKEND_DATA_ROW)
            continue;
        if (backend_read_data_row(frame.body, (int)keys + 2, &row, err) != WIRE_OK)
            return false;
        for (uint32_t i = 0; i < keys + 2 && data_row_next(&row, &cursor, &column); i++)
            fields[i] = column.is_null ? (Slice){0} : column.value;
        bool good = slice_is(fields[0], "T") ? types_read(blend, request, fields + 1, fields[keys + 1], err)
                                             : row_take(blend, request->session, fields + 1, fields[keys + 1], err);
        if (!good)
            return false;
    }
    return blend->types ? true : refuse(err, "The types of its source were not told.", "Run it again.");
}

/* ---- turn 1: each shard its rows ------------------------------------------------------------------------ */

static bool write_rows(Errand *errand)
{
    Request *request = errand->request;
    Blend *blend = errand->own;
    const MergeSource *source = blend->source;
    uint32_t count, max = errand->statement->shape->param_max;
    bool params = false;
    for (uint32_t i = 1; i <= max; i++)
        params |= source->rest_params[i];
    uint32_t param = params ? max + 1 : 1;
    SumComposer *sum = arena_new(&request->arena, SumComposer);
    ScatterLeg *legs;
    Slice sql = merge_rows_text(errand->statement->text, source, blend->types, param, &request->arena);
    if (!sum || !sql.len || !row_deal_legs(&blend->deal, request, sql, param, source->rest_params + 1, &legs, &count))
        return false;
    scatter_start(request, &(ScatterSpec){.legs = legs, .leg_count = count, .ops = &COMPOSER_SUM, .composer = sum,
                                          .sequential = true, .atomic = true, .writes = true});
    return true;
}

/* Every shard would write to copies that it only keeps for a move. */
static bool copies_came(const Errand *errand)
{
    const Blend *blend = errand->own;
    const Topology *topology = errand->request->session->worker->topology;
    const CopyTarget *target = &blend->deal.target;
    return blend->deal.all &&
           foreign_table(topology, topology_table(topology, target->database, target->schema, target->name));
}

static void on_turn(Errand *errand, uint32_t turn)
{
    Blend *blend = errand->own;
    Error err;
    errand->request->planned = turn == 0 ? &blend->probe : errand->statement;
    if (turn == 0)
        gather_start(errand->request, blend->fanout);
    else if (copies_came(errand)) {
        foreign_error(&err);
        dispatch_error(errand->request, &err);
    } else if (!write_rows(errand)) {
        out_of_memory(&err);
        dispatch_error(errand->request, &err);
    }
}

static ErrandNext on_answer(Errand *errand, uint32_t turn, Slice frames, Error *err)
{
    Blend *blend = errand->own;
    if (turn == 1)
        return ERRAND_ANSWER;
    if (!rows_read(blend, errand->request, frames, err))
        return ERRAND_FAIL;
    row_deal_some(&blend->deal); /* no rows: PostgreSQL says so */
    return ERRAND_NEXT;
}

static void on_free(Errand *errand)
{
    Blend *blend = errand->own;
    row_deal_finish(&blend->deal);
}

static const ErrandOps OPS = {.on_turn = on_turn, .on_answer = on_answer, .on_free = on_free};

/* ---- start ------------------------------------------------------------------------------------------------ */

static uint32_t declared_type(const PlanStatement *statement, uint32_t number)
{
    return number <= statement->param_oid_count ? statement->param_oids[number - 1] : 0;
}

/* Parameters take their type where they stand first, which cutting the statement must not change. */
static bool params_are_certain(const Request *request, const MergeSource *source, Error *err)
{
    const PlanStatement *statement = &request->planned[0];
    bool open = false, described = false;
    for (uint32_t i = 1; i <= statement->shape->param_max; i++) {
        bool declared = declared_type(statement, i) != 0;
        open |= !declared;
        if (!declared && source->params[i] && source->rest_params[i])
            return refuse(err, "A parameter without a type stands in the source and behind it.", "Cast it, or declare its type.");
    }
    for (uint32_t i = 0; i < request->step_count; i++)
        described |= request->steps[i].op == TASK_DESCRIBE_STATEMENT;
    return !open || !described ||
           refuse(err, "It is described in the same series in which it is executed, and its parameters have no types.",
                  "Declare their types, or describe it first.");
}

static bool is_certain(const Request *request, const MergeSource *source, Error *err)
{
    const GucEntry *digits = guc_find(session_gucs(request->session), SLICE("extra_float_digits"));
    if (digits && digits->value.len && (digits->value.data[0] == '0' || digits->value.data[0] == '-'))
        return refuse(err, "With extra_float_digits below 1 floats lose digits on their way.",
                      "RESET extra_float_digits.");
    if (!session_standard_strings(request->session))
        return refuse(err, "With standard_conforming_strings off its strings would be read otherwise.",
                      "RESET standard_conforming_strings.");
    return params_are_certain(request, source, err);
}

/* The source alone: parameters that are not its own have some type that takes whatever they hold. */
static bool probe_make(Blend *blend, const PlanStatement *statement, Arena *arena)
{
    uint32_t count = statement->shape->param_max;
    uint32_t *oids = arena_array(arena, uint32_t, count + 1);
    if (!oids)
        return false;
    for (uint32_t i = 1; i <= count; i++) {
        bool binary = statement->bind && bind_param_format(statement->bind, i - 1) == FORMAT_BINARY;
        oids[i - 1] = declared_type(statement, i);
        if (!oids[i - 1] && !blend->source->params[i])
            oids[i - 1] = binary ? OID_BYTEA : OID_TEXT;
    }
    blend->probe = *statement;
    blend->probe.executed = true;
    blend->probe.param_oids = oids;
    blend->probe.param_oid_count = count;
    if (statement->bind) {
        blend->bind = *statement->bind;
        blend->bind.result_formats = WIRE_FORMATS_NONE;
        blend->probe.bind = &blend->bind;
    }
    blend->probe.text = merge_query_text(blend->source, key_count(blend), blend->source->text, arena);
    return blend->probe.text.len > 0;
}

/* The source's own Shape; it lives as long as the request. */
static bool source_statement(Request *request, Slice text, PlanStatement *ret)
{
    Session *session = request->session;
    ShapeReading reading;
    Shape **grown = arena_array(&request->arena, Shape *, request->shape_count + 1);
    if (!grown || !shape_read(&session->worker->shapes, text, session_standard_strings(session),
                              session_values_may_vary(session), &request->arena, &reading))
        return false;
    if (request->shape_count)
        memcpy(grown, request->shapes, request->shape_count * sizeof *grown);
    grown[request->shape_count++] = reading.shape;
    request->shapes = grown;
    ret->text = text;
    ret->shape = reading.shape;
    ret->literals = reading.literals;
    return true;
}

/* The source as that of an INSERT which writes its column to the key: its rows stay for a MERGE when they would for that. */
static bool parts_read(const MergeSource *source, Slice key, Arena *arena, InsertSource *ret, Shape *ret_insert)
{
    char *text = arena_printf(arena, "INSERT INTO x %.*s", SLICE_FMT(source->text));
    Slice *columns = arena_array(arena, Slice, source->column_count + 1);
    *ret_insert = (Shape){.kind = SHAPE_INSERT};
    if (!text || !columns)
        return false;
    if (!source->joined || !insert_source_read(slice_str(text), arena, ret))
        *ret = (InsertSource){.plain = true};
    if (source->joined)
        columns[source->at[0]] = key;
    ret_insert->insert = (ShapeInsert){.columns = columns, .column_count = source->column_count};
    return true;
}

static bool source_plan(Request *request, Blend *blend, const CatalogTable *facts, PlanSource *ret, Error *err)
{
    PlanInput input;
    PlanStatement inner = request->planned[0];
    InsertSource parts;
    Shape insert;
    planning_input(request, &input);
    input.keep = &request->arena;
    if (!parts_read(blend->source, blend->source->joined ? blend->table->keys[0].column : (Slice){0}, &request->arena, &parts, &insert) ||
        !source_statement(request, blend->source->text, &inner))
        return out_of_memory(err);
    return views_replace(request, &input, &inner, err) &&
           plan_source(&input, &inner, &parts, &insert, blend->table, facts, ret, err);
}

static bool blend_prepare(Blend *blend, Request *request, const PlanSource *source)
{
    Arena *arena = &request->arena;
    const DatabaseConfig *database = session_database(request->session, request->session->worker->topology);
    blend->fanout = source->spread ? arena_new(arena, Fanout)
                                   : fanout_alone(source->system, database->shards[0], blend->source->text, arena);
    if (!blend->fanout)
        return false;
    if (source->spread)
        *blend->fanout = *source->spread;
    SplitForm *form = &blend->fanout->form;
    form->final = merge_query_text(blend->source, key_count(blend), form->final, arena);
    return form->final.len && probe_make(blend, &request->planned[0], arena);
}

static bool blend_fill(Blend *blend, Request *request, const Plan *plan, PlanSource *source, Error *err)
{
    const Session *session = request->session;
    const Topology *topology = session->worker->topology;
    const CatalogTable *facts = catalog_table(topology->catalogs[session->database_index], plan->schema, plan->name);
    *source = (PlanSource){0};
    blend->source = plan->merge;
    blend->table = plan->table;
    if (!facts)
        return refuse(err, "The table is not known yet.", "Try again.");
    if (!source_plan(request, blend, facts, source, err))
        return false;
    if (source->pushed)
        return true;
    if (!is_certain(request, blend->source, err))
        return false;
    if (!row_deal_init(&blend->deal, session, plan->table, &request->arena))
        return out_of_memory(err);
    blend->deal.all = !blend->source->joined && !blend->deal.here;
    return blend_prepare(blend, request, source) ? true : out_of_memory(err);
}

void merge_rows_start(Request *request, const Plan *plan)
{
    Blend *blend = arena_new(&request->arena, Blend);
    PlanSource source = {0};
    Error err;
    if (!blend) {
        out_of_memory(&err);
        dispatch_error(request, &err);
    } else if (!blend_fill(blend, request, plan, &source, &err)) {
        row_deal_finish(&blend->deal);
        dispatch_error(request, &err);
    } else if (source.pushed) {
        scatter_write(request, source.shards, source.shard_count, NULL);
    } else if (gather_refuse_locked(request)) {
        row_deal_finish(&blend->deal);
    } else {
        errand_start(request, &OPS, blend);
    }
}
