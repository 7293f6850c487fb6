/*
 * row_deal.c - keys judged as COPY judges them (copy_layout.h), rows written into array literals.
 */
#include "router/row_deal.h"

#include "router/planning.h"
#include "router/worker_state.h"
#include "wire/value.h"

#define OID_TEXT 25u

bool row_deal_init(RowDeal *deal, const Session *session, const Table *table, Arena *arena)
{
    const Topology *topology = session->worker->topology;
    uint32_t database = session->database_index;
    size_t bytes_max = worker_config(session->worker)->errand_max_bytes;
    const Catalog *catalog = topology->catalogs[database];
    *deal = (RowDeal){.arena = arena, .shard_count = topology->config->shard_count};
    deal->shard = topology->config->databases[database].shards[0];
    deal->here = !table || table->kind == TABLE_LOCAL;
    deal->all = table && table->kind == TABLE_REFERENCE;
    if (table && table->kind == TABLE_LOCAL && table->place_count)
        deal->shard = table->places->shard;
    deal->target = (CopyTarget){.database = database, .utf8 = slice_is(catalog->encoding, "UTF8"),
                                .all = deal->all, .map_version = topology->map->version, .same_encoding = planning_same_encoding(session, topology)};
    if (table) {
        deal->target.schema = arena_dup(arena, table->schema);
        deal->target.name = arena_dup(arena, table->name);
    }
    const CatalogTable *facts = table ? catalog_table(catalog, table->schema, table->name) : NULL;
    for (uint32_t i = 0; facts && i < table->key_count; i++) {
        const CatalogColumn *column = catalog_column(facts, table->keys[i].column);
        if (!column)
            return false;
        deal->target.keys[i] = table->keys[i];
        deal->target.keys[i].column = arena_dup(arena, table->keys[i].column);
        deal->target.columns[i] = *column;
        deal->target.key_count++;
    }
    deal->rows = arena_array(arena, Buf, deal->shard_count);
    deal->counts = arena_array(arena, uint32_t, deal->shard_count);
    for (uint32_t i = 0; deal->rows && i < deal->shard_count; i++)
        buf_init(&deal->rows[i], bytes_max);
    return deal->rows && deal->counts;
}

void row_deal_finish(RowDeal *deal)
{
    for (uint32_t i = 0; deal->rows && i < deal->shard_count; i++)
        buf_finish(&deal->rows[i]);
    deal->rows = NULL;
}

/* ---- rows --------------------------------------------------------------------------------------------- */

bool row_deal_place(const RowDeal *deal, const Topology *topology, const Slice *keys, Arena *scratch,
                    uint32_t *ret_shard, Error *err)
{
    CopyRow row = {0};
    if (deal->here || deal->all) {
        *ret_shard = deal->shard;
        return true;
    }
    if (!copy_target_holds(&deal->target, topology, err)) {
        error_set(err, "40001", "rows of the table were moved during the statement");
        error_hint(err, "Nothing was changed; run it again.");
        return false;
    }
    for (uint32_t i = 0; i < deal->target.key_count; i++)
        row.keys[i] = (CopyField){.value = keys[i], .null = !keys[i].data};
    return copy_target_shard(&deal->target, topology, &row, scratch, ret_shard, err);
}

/* An element of an array: "(7,\"x\")" */
static void put_element(Buf *out, Slice row, bool first)
{
    buf_append(out, first ? SLICE("{\"") : SLICE(",\""));
    for (size_t from = 0, i = 0; i <= row.len; i++) {
        if (i < row.len && row.data[i] != '"' && row.data[i] != '\\')
            continue;
        buf_append(out, slice_of(row.data + from, i - from));
        if (i < row.len)
            buf_append(out, SLICE("\\"));
        from = i;
    }
    buf_append(out, SLICE("\""));
}

bool row_deal_put(RowDeal *deal, uint32_t shard, Slice row, Error *err)
{
    put_element(&deal->rows[shard], row, deal->counts[shard]++ == 0);
    if (!deal->rows[shard].failed)
        return true;
    error_set(err, SQLSTATE_LIMIT_EXCEEDED, "the rows that this statement moves are more than errand_max_bytes");
    error_hint(err, "Move them in several statements, or raise errand_max_bytes.");
    return false;
}

bool row_deal_add(RowDeal *deal, const Topology *topology, const Slice *keys, Slice row, Arena *scratch, Error *err)
{
    uint32_t shard;
    if (!row_deal_place(deal, topology, keys, scratch, &shard, err))
        return false;
    const DatabaseConfig *database = &topology->config->databases[deal->target.database];
    for (uint32_t i = 0; i < database->shard_count; i++) {
        uint32_t at = database->shards[i];
        if (!deal->all && at != shard)
            continue;
        if (!row_deal_put(deal, at, row, err))
            return false;
    }
    return true;
}

void row_deal_some(RowDeal *deal)
{
    for (uint32_t i = 0; i < deal->shard_count; i++)
        if (deal->counts[i])
            return;
    buf_append(&deal->rows[deal->shard], SLICE("{"));
    deal->counts[deal->shard] = 1;
}

/* ---- legs --------------------------------------------------------------------------------------------- */

static Slice frame_keep(Request *request, Buf *frame)
{
    Slice kept = frame->failed ? (Slice){0} : arena_dup(&request->arena, buf_bytes(frame));
    buf_finish(frame);
    return kept;
}

/* The array as the last parameter; before it the client's own values, or NULL for those that are not used. */
static Slice bind_frame(Request *request, const BindMessage *bind, Slice array, uint32_t param, const bool *used)
{
    Arena *arena = &request->arena;
    uint8_t *codes = arena_alloc(arena, 2 * (size_t)param + 2);
    BindParam *own = bind && param > 1 ? bind_params(bind, arena) : NULL;
    Buf frame;
    if (!codes)
        return (Slice){0};
    for (uint32_t i = 0; i < param; i++) {
        codes[2 * i] = 0;
        codes[2 * i + 1] = own && i + 1 < param && used[i] ? (uint8_t)bind_param_format(bind, i) : 0;
    }
    buf_init(&frame, (size_t)1 << 30);
    size_t mark = frontend_bind_begin(&frame, (Slice){0}, (Slice){0},
                                      (WireFormats){slice_of(codes, 2 * (size_t)param), (uint16_t)param}, (uint16_t)param);
    for (uint32_t i = 0; i + 1 < param; i++) {
        if (own && used[i] && !own[i].is_null)
            frontend_bind_value(&frame, own[i].value);
        else
            frontend_bind_null(&frame);
    }
    frontend_bind_value(&frame, array);
    frontend_bind_end(&frame, mark, bind ? bind->result_formats : WIRE_FORMATS_NONE);
    return frame_keep(request, &frame);
}

TaskStep *row_deal_ask(Request *request, Slice sql, const uint32_t *oids, uint32_t oid_count, Slice bound,
                       uint32_t *ret_count)
{
    Prepared *prepared = request_prepare(request, sql, oids, oid_count);
    TaskStep *steps = arena_array(&request->arena, TaskStep, 5);
    Buf describe, execute;
    buf_init(&describe, 64);
    frontend_put_describe(&describe, 'P', (Slice){0});
    buf_init(&execute, 64);
    frontend_put_execute(&execute, (Slice){0}, 0);
    Slice described = frame_keep(request, &describe), executed = frame_keep(request, &execute);
    if (!prepared || !steps || !bound.len || !described.len || !executed.len)
        return NULL;
    steps[0] = (TaskStep){.op = TASK_PARSE, .unnamed = true, .prepared = prepared, .hidden = true};
    steps[1] = (TaskStep){.op = TASK_BIND, .unnamed = true, .prepared = prepared, .hidden = true, .frame = bound};
    steps[2] = (TaskStep){.op = TASK_DESCRIBE_PORTAL, .frame = described};
    steps[3] = (TaskStep){.op = TASK_EXECUTE, .frame = executed};
    steps[4] = (TaskStep){.op = TASK_SYNC};
    *ret_count = 5;
    return steps;
}

TaskStep *row_deal_steps(Request *request, Slice sql, Slice value, uint32_t *ret_count)
{
    return row_deal_ask(request, sql, NULL, 0, bind_frame(request, NULL, value, 1, NULL), ret_count);
}

bool row_deal_legs(const RowDeal *deal, Request *request, Slice sql, uint32_t param, const bool *used,
                   ScatterLeg **ret_legs, uint32_t *ret_count)
{
    const PlanStatement *statement = &request->planned[0];
    ScatterLeg *legs = arena_array(&request->arena, ScatterLeg, deal->shard_count);
    uint32_t *oids = arena_array(&request->arena, uint32_t, param + 1);
    *ret_count = 0;
    if (!legs || !oids)
        return false;
    for (uint32_t i = 0; i + 1 < param; i++)
        oids[i] = !used[i] ? OID_TEXT : i < statement->param_oid_count ? statement->param_oids[i] : 0;
    for (uint32_t shard = 0; shard < deal->shard_count; shard++) {
        if (!deal->counts[shard])
            continue;
        ScatterLeg *leg = &legs[(*ret_count)++];
        leg->shard = shard;
        buf_append(&deal->rows[shard], SLICE("}"));
        leg->steps = row_deal_ask(request, sql, oids, param,
                                bind_frame(request, statement->bind, buf_bytes(&deal->rows[shard]), param, used),
                                &leg->step_count);
        if (!leg->steps)
            return false;
    }
    *ret_legs = legs;
    return true;
}
