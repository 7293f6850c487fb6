/*
 * rekey.c - deals the rows of turn 0 by leg, because only the leg knows on which shard a ctid means something.
 *
 *     leg s0:  (7 -> 8 stays)   stays[s0] += ctid              read again for RETURNING
 *              (7 -> 9 is s1's) gone[s0]  += ctid              DELETE
 *                               moved[s1] += row as text       INSERT
 *
 * Each later turn must find exactly the rows that were dealt to it, else the statement fails.
 */
#include "router/rekey.h"

#include "query/key_update.h"
#include "router/composer.h"
#include "router/dispatch.h"
#include "router/errand.h"
#include "router/row_deal.h"
#include "router/scatter_read.h"
#include "router/worker_state.h"
#include "wire/backend.h"

typedef enum RekeyTurn { REKEY_UPDATE, REKEY_REMOVE, REKEY_INSERT, REKEY_REREAD } RekeyTurn;

typedef struct Rekey {
    SumComposer sum; /* first member: the composer of turn 0 */
    KeyUpdate texts;
    PlanStatement bare; /* the client's, without its values */
    const uint32_t *shards;
    uint32_t shard_count;
    RowDeal moved, gone, stays;
    uint64_t moved_count, stay_count;
    Buf answer; /* of RETURNING, so far: T D* */
    RekeyTurn now;
} Rekey;

static bool refuse(Error *err, const char *detail, const char *hint)
{
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "this UPDATE of the shard key cannot be run over several shards");
    error_detail(err, "%s", detail);
    error_hint(err, "%s", hint);
    return false;
}

static bool out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

/* ---- turn 0: the rows --------------------------------------------------------------------------------- */

/* key..., ctid, row */
static bool deal_row(Rekey *rekey, Worker *worker, uint32_t shard, const Frame *frame, Error *err)
{
    uint32_t keys = rekey->moved.target.key_count, to;
    Slice fields[TABLE_KEYS_MAX + 2];
    DataRow row;
    Column column;
    size_t cursor = 0;
    if (backend_read_data_row(frame->body, (int)keys + 2, &row, err) != WIRE_OK)
        return false;
    for (uint32_t i = 0; i < keys + 2 && data_row_next(&row, &cursor, &column); i++)
        fields[i] = column.is_null ? (Slice){0} : column.value;
    arena_reset(&worker->scratch);
    if (!row_deal_place(&rekey->moved, worker->topology, fields, &worker->scratch, &to, err))
        return false;
    if (to == shard) {
        rekey->stay_count++;
        return !rekey->texts.returning || row_deal_put(&rekey->stays, shard, fields[keys], err);
    }
    rekey->moved_count++;
    return row_deal_put(&rekey->gone, shard, fields[keys], err) && row_deal_put(&rekey->moved, to, fields[keys + 1], err);
}

static void update_on_frame(Scatter *scatter, Leg *leg, const Frame *frame)
{
    Rekey *rekey = scatter->composer;
    Error err;
    if (frame->type == BACKEND_DATA_ROW) {
        if (!scatter->failed && !deal_row(rekey, scatter->worker, leg->shard, frame, &err))
            scatter_fail(scatter, &err);
    } else if (frame->type != BACKEND_ROW_DESCRIPTION) {
        COMPOSER_SUM.on_frame(scatter, leg, frame);
    }
}

static void update_on_end(Scatter *scatter)
{
    COMPOSER_SUM.on_end(scatter);
}

static const ComposerOps COMPOSER_UPDATE = {.on_frame = update_on_frame, .on_end = update_on_end};

/* The client's values, text for the rows. */
static TaskStep *update_steps(Errand *errand, uint32_t *ret_count)
{
    Request *request = errand->request;
    const PlanStatement *statement = errand->statement;
    const Rekey *rekey = errand->own;
    const SplitForm whole = {0};
    TaskStep *steps = NULL;
    if (!statement->bind) {
        scatter_query_steps(request, rekey->texts.update, &steps, ret_count);
        return steps;
    }
    Slice bind = fanout_bind(statement, &whole, SLICE(""), 0, 0, WIRE_FORMATS_NONE, &request->arena);
    return row_deal_ask(request, rekey->texts.update, statement->param_oids, statement->param_oid_count, bind,
                        ret_count);
}

static bool update_start(Errand *errand)
{
    Request *request = errand->request;
    Rekey *rekey = errand->own;
    ScatterLeg *legs = arena_array(&request->arena, ScatterLeg, rekey->shard_count);
    for (uint32_t i = 0; legs && i < rekey->shard_count; i++) {
        legs[i].shard = rekey->shards[i];
        legs[i].steps = update_steps(errand, &legs[i].step_count);
        if (!legs[i].steps)
            return false;
    }
    if (!legs)
        return false;
    scatter_start(request, &(ScatterSpec){.legs = legs, .leg_count = rekey->shard_count, .ops = &COMPOSER_UPDATE,
                                          .composer = &rekey->sum, .sequential = true, .atomic = true, .writes = true});
    return true;
}

/* ---- the other turns: each shard what was dealt to it ------------------------------------------------- */

static bool dealt_start(Errand *errand, const RowDeal *deal, Slice sql)
{
    Request *request = errand->request;
    SumComposer *sum = arena_new(&request->arena, SumComposer);
    bool none = false;
    uint32_t count;
    ScatterLeg *legs;
    if (!sum || !row_deal_legs(deal, request, sql, 1, &none, &legs, &count))
        return false;
    scatter_start(request, &(ScatterSpec){.legs = legs, .leg_count = count, .ops = &COMPOSER_SUM, .composer = sum,
                                          .sequential = true, .atomic = true, .writes = true});
    return true;
}

static void on_turn(Errand *errand, uint32_t turn)
{
    Rekey *rekey = errand->own;
    bool begun = false;
    (void)turn;
    errand->request->planned = rekey->texts.returning && rekey->now > REKEY_REMOVE ? errand->statement : &rekey->bare;
    switch (rekey->now) {
    case REKEY_UPDATE:
        errand->request->planned = errand->statement;
        begun = update_start(errand);
        break;
    case REKEY_REMOVE:
        begun = dealt_start(errand, &rekey->gone, rekey->texts.remove);
        break;
    case REKEY_INSERT:
        begun = dealt_start(errand, &rekey->moved, rekey->texts.insert);
        break;
    case REKEY_REREAD:
        begun = dealt_start(errand, &rekey->stays, rekey->texts.reread);
        break;
    }
    if (!begun) {
        Error err;
        out_of_memory(&err);
        dispatch_error(errand->request, &err);
    }
}

/* Rows go to `answer`, behind one description. *ret_rows: as the tag counts them. */
static bool answer_take(Rekey *rekey, Slice frames, uint64_t *ret_rows, Error *err)
{
    Frame frame;
    Slice tag;
    *ret_rows = 0;
    while (frames.len && frame_next(frames, SIZE_MAX, &frame, err) == WIRE_OK) {
        frames = slice_from(frames, frame.whole.len);
        if (frame.type == BACKEND_DATA_ROW || (frame.type == BACKEND_ROW_DESCRIPTION && !buf_bytes(&rekey->answer).len))
            buf_append(&rekey->answer, frame.whole);
        else if (frame.type == BACKEND_COMMAND_COMPLETE &&
                 (backend_read_command_complete(frame.body, &tag, err) != WIRE_OK || !command_tag_rows(tag, ret_rows)))
            *ret_rows = 0;
    }
    return true;
}

/* What is told in place of the last turn's own answer. */
static ErrandNext finish(Errand *errand, Error *err)
{
    Rekey *rekey = errand->own;
    backend_put_command_rows(&rekey->answer, SLICE("UPDATE"), rekey->moved_count + rekey->stay_count);
    if (rekey->answer.failed || errand->answer.failed) {
        error_set(err, SQLSTATE_LIMIT_EXCEEDED, "the rows that this statement returns are more than errand_max_bytes");
        error_hint(err, "Return them in several statements, or raise errand_max_bytes.");
        return ERRAND_FAIL;
    }
    buf_reset(&errand->answer);
    buf_append(&errand->answer, buf_bytes(&rekey->answer));
    return ERRAND_ANSWER;
}

static RekeyTurn turn_after(const Rekey *rekey)
{
    bool any = rekey->moved_count > 0;
    switch (rekey->now) {
    case REKEY_UPDATE:
        return any ? REKEY_REMOVE : rekey->stay_count && rekey->texts.returning ? REKEY_REREAD : REKEY_INSERT;
    case REKEY_REMOVE:
        return REKEY_INSERT;
    default:
        return REKEY_REREAD;
    }
}

static bool is_last(const Rekey *rekey)
{
    if (rekey->now == REKEY_UPDATE)
        return !rekey->moved_count && !rekey->texts.returning;
    return rekey->now == REKEY_REREAD ||
           (rekey->now == REKEY_INSERT && !(rekey->texts.returning && rekey->stay_count));
}

static ErrandNext on_answer(Errand *errand, uint32_t turn, Slice frames, Error *err)
{
    Rekey *rekey = errand->own;
    uint64_t rows;
    (void)turn;
    if (!answer_take(rekey, frames, &rows, err))
        return ERRAND_FAIL;
    uint64_t expected = rekey->now == REKEY_UPDATE   ? rekey->moved_count + rekey->stay_count
                        : rekey->now == REKEY_REREAD ? rekey->stay_count
                                                     : rekey->moved_count;
    if (rows != expected) {
        error_set(err, SQLSTATE_DATA_CORRUPTED, "rows whose shard key changes were lost on their way");
        error_detail(err, "%llu of %llu rows were found.", (unsigned long long)rows, (unsigned long long)expected);
        error_hint(err, "Nothing was changed. Look for rules, triggers and policies of the table.");
        return ERRAND_FAIL;
    }
    if (is_last(rekey))
        return finish(errand, err);
    rekey->now = turn_after(rekey);
    if (rekey->now == REKEY_INSERT && !rekey->moved_count)
        row_deal_some(&rekey->moved); /* no rows: PostgreSQL says so, with RETURNING's columns */
    return ERRAND_NEXT;
}

static void on_free(Errand *errand)
{
    Rekey *rekey = errand->own;
    row_deal_finish(&rekey->moved);
    row_deal_finish(&rekey->gone);
    row_deal_finish(&rekey->stays);
    buf_finish(&rekey->answer);
}

static const ErrandOps OPS = {.on_turn = on_turn, .on_answer = on_answer, .on_free = on_free};

/* ---- start ------------------------------------------------------------------------------------------------ */

static bool texts_make(Rekey *rekey, Request *request, const Plan *plan, Error *err)
{
    const Session *session = request->session;
    const CatalogTable *facts =
        catalog_table(session->worker->topology->catalogs[session->database_index], plan->schema, plan->name);
    Slice *columns = facts ? arena_array(&request->arena, Slice, facts->column_count + 1) : NULL;
    Slice keys[TABLE_KEYS_MAX];
    KeyUpdateTable table = {.schema = plan->schema, .name = plan->name, .columns = columns, .keys = keys};
    if (!facts)
        return refuse(err, "The table is not known yet.", "Try again.");
    if (!columns)
        return out_of_memory(err);
    for (uint32_t i = 0; i < facts->column_count; i++)
        if (!facts->columns[i].generated)
            columns[table.column_count++] = facts->columns[i].name;
    for (uint32_t i = 0; i < plan->table->key_count; i++)
        keys[table.key_count++] = plan->table->keys[i].column;
    if (!key_update_read(request->planned[0].text, &table, &request->arena, &rekey->texts))
        return refuse(err, "The statement cannot be taken apart.", "Delete the rows and insert them with their new key.");
    if (rekey->texts.returning && rekey->texts.returns_more)
        return refuse(err, "RETURNING has parameters or subqueries, or stands behind FROM.",
                      "Leave RETURNING out, and read the rows in a statement of its own.");
    return true;
}

static bool rekey_fill(Rekey *rekey, Request *request, const Plan *plan, Error *err)
{
    const Session *session = request->session;
    size_t max = worker_config(session->worker)->errand_max_bytes;
    Arena *arena = &request->arena;
    const GucEntry *digits = guc_find(session_gucs(session), SLICE("extra_float_digits"));
    RowDeal *deals[] = {&rekey->moved, &rekey->gone, &rekey->stays};
    uint32_t *shards = arena_array(arena, uint32_t, plan->shard_count + 1);
    if (digits && digits->value.len && (digits->value.data[0] == '0' || digits->value.data[0] == '-'))
        return refuse(err, "With extra_float_digits below 1 floats lose digits on their way.",
                      "RESET extra_float_digits.");
    buf_init(&rekey->answer, max);
    for (size_t i = 0; i < ARRAY_LEN(deals); i++)
        if (!row_deal_init(deals[i], session, plan->table, arena))
            return out_of_memory(err);
    if (!shards)
        return out_of_memory(err);
    memcpy(shards, plan->shards, plan->shard_count * sizeof *shards);
    rekey->shards = shards;
    rekey->shard_count = plan->shard_count;
    rekey->bare = request->planned[0];
    rekey->bare.bind = NULL;
    return texts_make(rekey, request, plan, err);
}

void rekey_start(Request *request, const Plan *plan)
{
    Rekey *rekey = arena_new(&request->arena, Rekey);
    Error err;
    if (!rekey) {
        out_of_memory(&err);
        dispatch_error(request, &err);
    } else if (!rekey_fill(rekey, request, plan, &err)) {
        on_free(&(Errand){.own = rekey});
        dispatch_error(request, &err);
    } else {
        errand_start(request, &OPS, rekey);
    }
}
