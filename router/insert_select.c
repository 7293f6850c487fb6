/*
 * insert_select.c - two ways for the rows: they stay on their shards, or they go through Shoal.
 *
 * The staging table has the target's name, so that PostgreSQL's messages name it; it is
 *     CREATE TEMP TABLE "t" (LIKE "s"."t" INCLUDING DEFAULTS) ON COMMIT DROP
 * with identity columns as defaults from their sequence.
 */
#include "router/insert_select.h"

#include "core/text.h"
#include "meta/bucket_sql.h"
#include "query/insert_source.h"
#include "router/composer.h"
#include "router/dispatch.h"
#include "router/errand.h"
#include "router/fanout.h"
#include "router/gather.h"
#include "router/planning.h"
#include "router/row_deal.h"
#include "router/views.h"
#include "router/worker_state.h"
#include "wire/backend.h"

#define SQL_MAX ((size_t)16 << 20)

typedef struct Pour {
    InsertSource source;
    RowDeal deal;
    Fanout *fanout;         /* of turn 0 */
    PlanStatement probe;    /* of turn 0 */
    BindMessage bind;       /* the client's, with answers as text */
    Slice schema, table;
    Slice *columns; /* that can be written */
    uint32_t column_count;
} Pour;

static bool refuse(Error *err, const char *detail, const char *hint)
{
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "this INSERT cannot be run over several shards");
    error_detail(err, "%s", detail);
    error_hint(err, "%s", hint);
    return false;
}

static bool out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

/* ---- texts ---------------------------------------------------------------------------------------------- */

/* WITH shoal_rows AS (`insert`) SELECT shoal_rows."key"::text, (shoal_rows.*)::text FROM shoal_rows */
static Slice rows_query(const Pour *pour, Slice insert, Arena *arena)
{
    Buf text;
    buf_init(&text, SQL_MAX);
    text_put(&text, "WITH shoal_rows AS (");
    buf_append(&text, insert);
    text_put(&text, ") SELECT ");
    for (uint32_t i = 0; i < pour->deal.target.key_count; i++) {
        text_put(&text, "shoal_rows.");
        buf_append(&text, insert_quote(pour->deal.target.keys[i].column, arena));
        text_put(&text, "::pg_catalog.text, ");
    }
    text_put(&text, "(shoal_rows.*)::pg_catalog.text FROM shoal_rows");
    return text_keep(&text, arena);
}

/* INSERT INTO pg_temp."t" (cols) `source` RETURNING * */
static Slice staged_insert(const Pour *pour, const ShapeInsert *insert, Slice source, Arena *arena)
{
    Buf text;
    buf_init(&text, SQL_MAX);
    text_put(&text, "INSERT INTO pg_temp.");
    buf_append(&text, insert_quote(pour->table, arena));
    for (uint32_t i = 0; insert->columns && i < insert->column_count; i++) {
        text_put(&text, i ? ", " : " (");
        buf_append(&text, insert_quote(insert->columns[i], arena));
    }
    text_put(&text, insert->columns && insert->column_count ? ") " : " ");
    buf_append(&text, source.len ? source : SLICE("DEFAULT VALUES"));
    text_put(&text, " RETURNING *");
    return text_keep(&text, arena);
}

static Slice staging(const Pour *pour, const CatalogTable *facts, Arena *arena)
{
    Buf text;
    Slice name = insert_quote(pour->table, arena);
    buf_init(&text, SQL_MAX);
    text_put(&text, "CREATE TEMP TABLE ");
    buf_append(&text, name);
    text_put(&text, " (LIKE ");
    buf_append(&text, insert_quote(pour->schema, arena));
    text_put(&text, ".");
    buf_append(&text, name);
    text_put(&text, " INCLUDING DEFAULTS) ON COMMIT DROP");
    for (uint32_t i = 0; i < facts->column_count; i++) {
        const CatalogColumn *column = &facts->columns[i];
        if (!column->generated && !column->identity)
            continue;
        text_put(&text, "; ALTER TABLE pg_temp.");
        buf_append(&text, name);
        text_put(&text, " ALTER COLUMN ");
        buf_append(&text, insert_quote(column->name, arena));
        if (column->generated) {
            text_put(&text, " DROP NOT NULL");
            continue;
        }
        const char *sequence = sql_quote_literal(arena, column->sequence);
        text_put(&text, " SET DEFAULT pg_catalog.nextval(");
        text_put(&text, sequence ? sequence : "''");
        text_put(&text, ")");
    }
    return text_keep(&text, arena);
}

/* ---- turn 0: the rows --------------------------------------------------------------------------------- */

static bool pour_prepare(Pour *pour, Request *request, const PlanSource *source, const CatalogTable *facts)
{
    const PlanStatement *statement = &request->planned[0];
    Arena *arena = &request->arena;
    const DatabaseConfig *database = session_database(request->session, request->session->worker->topology);
    pour->fanout = source->spread ? arena_new(arena, Fanout)
                                  : fanout_alone(source->system, database->shards[0], pour->source.text, arena);
    if (!pour->fanout)
        return false;
    if (source->spread)
        *pour->fanout = *source->spread;
    SplitForm *form = &pour->fanout->form;
    form->final = rows_query(pour, staged_insert(pour, &statement->shape->insert, form->final, arena), arena);
    pour->fanout->staging = staging(pour, facts, arena);
    pour->probe = *statement;
    pour->probe.executed = true;
    pour->probe.text = rows_query(pour, pour->source.probe, arena);
    if (statement->bind) {
        pour->bind = *statement->bind;
        pour->bind.result_formats = WIRE_FORMATS_NONE;
        pour->probe.bind = &pour->bind;
    }
    return form->final.len && pour->fanout->staging.len && pour->probe.text.len;
}

/* Row by row: the keys, then the row as text. */
static bool rows_read(Pour *pour, Session *session, Slice frames, Error *err)
{
    Frame frame;
    uint32_t keys = pour->deal.target.key_count;
    while (frames.len && frame_next(frames, SIZE_MAX, &frame, err) == WIRE_OK) {
        Slice fields[TABLE_KEYS_MAX + 1];
        DataRow row;
        Column column;
        size_t cursor = 0;
        frames = slice_from(frames, frame.whole.len);
        if (frame.type != BACKEND_DATA_ROW)
            continue;
        if (backend_read_data_row(frame.body, (int)keys + 1, &row, err) != WIRE_OK)
            return false;
        for (uint32_t i = 0; i <= keys && data_row_next(&row, &cursor, &column); i++)
            fields[i] = column.is_null ? (Slice){0} : column.value;
        arena_reset(&session->worker->scratch);
        if (!row_deal_add(&pour->deal, session->worker->topology, fields, fields[keys], &session->worker->scratch,
                          err))
            return false;
    }
    return true;
}

/* ---- turn 1: each shard its rows ------------------------------------------------------------------------ */

static void write_rows(Errand *errand)
{
    Request *request = errand->request;
    Pour *pour = errand->own;
    bool params = pour->source.conflict_params;
    uint32_t count, param = params ? errand->statement->shape->param_max + 1 : 1;
    bool *used = arena_array(&request->arena, bool, param + 1);
    SumComposer *sum = arena_new(&request->arena, SumComposer);
    ScatterLeg *legs;
    Slice sql = insert_rows_text(errand->statement->text, pour->schema, pour->table, pour->columns,
                                 pour->column_count, param, &request->arena);
    for (uint32_t i = 0; used && i + 1 < param; i++)
        used[i] = true;
    if (!used || !sum || !sql.len ||
        !row_deal_legs(&pour->deal, request, sql, param, used, &legs, &count)) {
        Error err;
        out_of_memory(&err);
        dispatch_error(request, &err);
        return;
    }
    scatter_start(request, &(ScatterSpec){.legs = legs, .leg_count = count,
                                          .ops = pour->deal.all ? &COMPOSER_SAME : &COMPOSER_SUM, .composer = sum,
                                          .sequential = true, .atomic = true, .writes = true});
}

static void on_turn(Errand *errand, uint32_t turn)
{
    Pour *pour = errand->own;
    errand->request->planned = turn == 0 ? &pour->probe : errand->statement;
    if (turn == 0)
        gather_start(errand->request, pour->fanout);
    else
        write_rows(errand);
}

static ErrandNext on_answer(Errand *errand, uint32_t turn, Slice frames, Error *err)
{
    Pour *pour = errand->own;
    if (turn == 1)
        return ERRAND_ANSWER;
    if (!rows_read(pour, errand->request->session, frames, err))
        return ERRAND_FAIL;
    row_deal_some(&pour->deal); /* no rows: PostgreSQL says so, with RETURNING's columns */
    return ERRAND_NEXT;
}

static void on_free(Errand *errand)
{
    Pour *pour = errand->own;
    row_deal_finish(&pour->deal);
}

static const ErrandOps OPS = {.on_turn = on_turn, .on_answer = on_answer, .on_free = on_free};

/* ---- start ------------------------------------------------------------------------------------------------ */

static bool can_move(const Request *request, const InsertSource *source, Error *err)
{
    const GucEntry *digits = guc_find(session_gucs(request->session), SLICE("extra_float_digits"));
    if (source->user_value)
        return refuse(err, "OVERRIDING USER VALUE gives the rows other values than the source.",
                      "Leave the identity column out.");
    if (source->returning_params || source->reads_more)
        return refuse(err, "ON CONFLICT or RETURNING has subqueries, or RETURNING has parameters.",
                      "Read what is needed in a statement of its own.");
    if (digits && digits->value.len && (digits->value.data[0] == '0' || digits->value.data[0] == '-'))
        return refuse(err, "With extra_float_digits below 1 floats lose digits on their way.",
                      "RESET extra_float_digits.");
    return true;
}

static bool columns_read(Pour *pour, const CatalogTable *facts, Arena *arena)
{
    pour->columns = arena_array(arena, Slice, facts->column_count + 1);
    pour->schema = arena_dup(arena, facts->schema);
    pour->table = arena_dup(arena, facts->name);
    for (uint32_t i = 0; pour->columns && i < facts->column_count; i++)
        if (!facts->columns[i].generated)
            pour->columns[pour->column_count++] = arena_dup(arena, facts->columns[i].name);
    return pour->columns && pour->schema.data && pour->table.data;
}

/* The source's own Shape; it lives as long as the request. */
static const Shape *source_shape(Request *request, Slice text, const ShapeLiteral **ret_literals)
{
    Session *session = request->session;
    ShapeReading reading;
    Shape **grown = arena_array(&request->arena, Shape *, request->shape_count + 1);
    if (!grown || !shape_read(&session->worker->shapes, text, session_standard_strings(session),
                              session_values_may_vary(session), &request->arena, &reading))
        return NULL;
    if (request->shape_count)
        memcpy(grown, request->shapes, request->shape_count * sizeof *grown);
    grown[request->shape_count++] = reading.shape;
    request->shapes = grown;
    *ret_literals = reading.literals;
    return reading.shape;
}

/* True: `ret` says where its rows are, or that the statement is pushed. */
static bool source_plan(Request *request, const Plan *plan, const InsertSource *source, const CatalogTable *facts,
                        PlanSource *ret, Error *err)
{
    PlanInput input;
    PlanStatement inner = request->planned[0];
    *ret = (PlanSource){0};
    if (source->plain && request->planned[0].shape->table_count == 1)
        return true;
    if (source->plain)
        return refuse(err, "VALUES with subqueries, and a key that is not given.", "Give the key in the statement.");
    inner.text = source->text;
    inner.shape = source_shape(request, source->text, &inner.literals);
    if (!inner.shape)
        return out_of_memory(err);
    planning_input(request, &input);
    input.keep = &request->arena;
    if (!views_replace(request, &input, &inner, err))
        return false;
    return plan_source(&input, &inner, source, request->planned[0].shape, plan->table, facts, ret, err);
}

static const CatalogTable *target_facts(const Request *request, const Plan *plan)
{
    const Session *session = request->session;
    const Topology *topology = session->worker->topology;
    return catalog_table(topology->catalogs[session->database_index], plan->schema, plan->name);
}

static bool pour_fill(Pour *pour, Request *request, const Plan *plan, PlanSource *source, Error *err)
{
    const Session *session = request->session;
    const CatalogTable *facts = target_facts(request, plan);
    Arena *arena = &request->arena;
    if (!facts)
        return refuse(err, "The table is not known yet.", "Try again.");
    if (!insert_source_read(request->planned[0].text, arena, &pour->source))
        return refuse(err, "The statement cannot be taken apart.", "Write it otherwise, or insert the rows with VALUES.");
    if (!source_plan(request, plan, &pour->source, facts, source, err))
        return false;
    if (source->pushed)
        return true;
    if (!can_move(request, &pour->source, err))
        return false;
    if (facts->has_rules_or_triggers && plan->table && plan->table->kind == TABLE_REFERENCE)
        return refuse(err, "What the table's triggers do may differ from shard to shard.", "Insert the rows with VALUES.");
    if (!row_deal_init(&pour->deal, session, plan->table, arena) ||
        !columns_read(pour, facts, arena) || !pour_prepare(pour, request, source, facts))
        return out_of_memory(err);
    return true;
}

void insert_select_start(Request *request, const Plan *plan)
{
    Pour *pour = arena_new(&request->arena, Pour);
    PlanSource source = {0};
    Error err;
    if (!pour) {
        out_of_memory(&err);
        dispatch_error(request, &err);
    } else if (!pour_fill(pour, request, plan, &source, &err)) {
        row_deal_finish(&pour->deal);
        dispatch_error(request, &err);
    } else if (source.pushed) {
        scatter_write(request, source.shards, source.shard_count, NULL);
    } else if (gather_refuse_locked(request)) { /* the staging table is made like the target */
        row_deal_finish(&pour->deal);
    } else {
        errand_start(request, &OPS, pour);
    }
}
