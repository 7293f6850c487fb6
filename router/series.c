/*
 * series.c - cuts a request into parts and drives them through dispatch, each as if it were alone.
 *
 *      steps      P B E | P B E | S        parts' steps get a Sync each, which ends nothing inside of a block
 *      planned    0     | 1     |
 *
 * A part ends by request_end, like any request; that asks here whether another one follows. Parts that
 * are answered at once do so inside series_go_on, whose loop takes note: no recursion.
 */
#include "router/series.h"

#include "query/lexer.h"
#include "router/commit.h"
#include "router/dispatch.h"
#include "router/effect.h"
#include "router/local.h"
#include "router/resolve.h"
#include "router/transaction.h"
#include "router/worker_state.h"
#include "wire/backend.h"

typedef struct SeriesPart {
    TaskStep *steps;
    uint32_t step_count;
    PlanStatement *planned; /* NULL: to be resolved (a text of a Query), or it only closes things */
} SeriesPart;

struct Series {
    SeriesPart *parts;
    uint32_t count, next;
    bool simple;
    bool unseen;  /* the open block is Shoal's own */
    bool looping; /* series_go_on is at work */
    bool ended;   /* ... and the part it started has ended already */
    bool closing; /* the unseen block is being committed */
};

static void series_go_on(Request *request);

/* ---- cutting a Query ---------------------------------------------------------------------------------- */

static bool add_text(Request *request, Series *series, Slice text)
{
    SeriesPart *part = &series->parts[series->count++];
    Buf frame;
    buf_init(&frame, text.len + 64);
    frontend_put_query(&frame, text);
    part->steps = arena_array(&request->arena, TaskStep, 1);
    Slice whole = frame.failed ? (Slice){0} : arena_dup(&request->arena, buf_bytes(&frame));
    buf_finish(&frame);
    if (!part->steps || !whole.len)
        return false;
    part->steps[0] = (TaskStep){.op = TASK_QUERY, .frame = whole};
    part->step_count = 1;
    return true;
}

/* At semicolons outside of parentheses. Whether these are the statements' ends, their number tells
 * (CREATE FUNCTION ... BEGIN ATOMIC has some inside). */
static bool cut_query(Request *request, Series *series)
{
    const PlanStatement *whole = &request->planned[0];
    Slice text = whole->text;
    uint32_t expected = whole->shape->part_count, begin = 0;
    int depth = 0;
    bool empty = true;
    Lexer lexer;
    series->parts = arena_array(&request->arena, SeriesPart, expected);
    if (!series->parts)
        return false;
    lexer_init(&lexer, text, session_standard_strings(request->session));
    for (Token token; (token = lexer_next(&lexer)).kind != TOKEN_BAD;) {
        char mark = token.kind == TOKEN_PUNCT && token.len == 1 ? (char)text.data[token.offset] : 0;
        depth += mark == '(' ? 1 : mark == ')' ? -1 : 0;
        bool end = token.kind == TOKEN_END || (mark == ';' && depth == 0);
        if (!end) {
            empty = false;
            continue;
        }
        uint32_t stop = token.kind == TOKEN_END ? (uint32_t)text.len : token.offset;
        if (!empty && (series->count == expected ||
                       !add_text(request, series, slice_of(text.data + begin, stop - begin))))
            return false;
        begin = token.offset + token.len;
        empty = true;
        if (token.kind == TOKEN_END)
            return series->count == expected;
    }
    return false;
}

/* ---- cutting a pipeline --------------------------------------------------------------------------------- */

static bool end_part(Request *request, Series *series, uint32_t from, uint32_t to, PlanStatement *planned)
{
    uint32_t count = to - from;
    SeriesPart *part = &series->parts[series->count++];
    part->steps = arena_array(&request->arena, TaskStep, count + 1);
    if (!part->steps)
        return false;
    memcpy(part->steps, request->steps + from, count * sizeof *part->steps);
    part->steps[count] = (TaskStep){.op = TASK_SYNC};
    part->step_count = count + 1;
    part->planned = planned;
    return true;
}

/* Each Execute ends a part, and has its own Bind before it there. */
static bool cut_steps(Request *request, Series *series)
{
    uint32_t from = 0, at = 0, binds = 0;
    series->parts = arena_array(&request->arena, SeriesPart, request->planned_count + 1);
    if (!series->parts)
        return false;
    for (uint32_t i = 0; i < request->step_count; i++) {
        const TaskStep *step = &request->steps[i];
        binds += step->op == TASK_BIND;
        if (step->op == TASK_QUERY || step->op == TASK_FLUSH || step->op == TASK_RAW || step->op == TASK_FUNCTION)
            return false;
        if (step->op == TASK_EXECUTE) {
            if (binds != 1 || at == request->planned_count || !request->planned[at].executed ||
                !end_part(request, series, from, i + 1, &request->planned[at]))
                return false;
            from = i + 1;
            binds = 0;
            at++;
        }
    }
    bool sync = request->steps[request->step_count - 1].op == TASK_SYNC;
    uint32_t end = request->step_count - sync;
    if (binds || at != request->planned_count)
        return false;
    return from == end || end_part(request, series, from, end, NULL);
}

/* ---- one part -------------------------------------------------------------------------------------------- */

static bool is_control(ShapeKind kind)
{
    switch (kind) {
    case SHAPE_BEGIN:
    case SHAPE_COMMIT:
    case SHAPE_ROLLBACK:
    case SHAPE_SAVEPOINT:
    case SHAPE_RELEASE:
    case SHAPE_ROLLBACK_TO:
    case SHAPE_SET_LOCAL:
        return true;
    default:
        return false;
    }
}

bool series_has_control(const Request *request)
{
    for (uint32_t i = 0; i < request->planned_count; i++) {
        const Shape *shape = request->planned[i].shape;
        if (is_control(shape->kind))
            return true;
        for (uint32_t k = 0; k < shape->part_count; k++)
            if (is_control(shape->parts[k]->kind))
                return true;
    }
    return false;
}

static bool part_load(Request *request, SeriesPart *part)
{
    request->steps = part->steps;
    request->step_count = request->step_room = part->step_count;
    request->planned = part->planned;
    request->planned_count = request->planned_room = part->planned != NULL;
    request->prepared_count = part->step_count;
    request->bound = NULL;
    request->max_rows = 0;
    request->recalled_bind = (Slice){0};
    request->dealt = 0;
    request->opening = request->on_held = request->aside = false;
    request->parameter_description = (Slice){0};
    request->tx_status = 0;
    if (!request->series->simple)
        return true;
    request->prepared_count = 0;
    return resolve_steps(request);
}

static void tell_no_transaction(Request *request)
{
    Error notice;
    error_set(&notice, "25P01", "there is no transaction in progress");
    backend_put_notice(request_out(request), "WARNING", &notice);
}

static bool refuse_savepoint(Request *request, const Shape *shape)
{
    static const char *const NAMES[SHAPE_KIND_COUNT] = {[SHAPE_SAVEPOINT] = "SAVEPOINT",
                                                        [SHAPE_RELEASE] = "RELEASE SAVEPOINT",
                                                        [SHAPE_ROLLBACK_TO] = "ROLLBACK TO SAVEPOINT"};
    Error err;
    if (!NAMES[shape->kind])
        return false;
    error_set(&err, "25P01", "%s can only be used in transaction blocks", NAMES[shape->kind]);
    request->session->tx = TX_FAILED;
    local_error(request, &err, TX_FAILED);
    return true;
}

static void part_run(Request *request)
{
    Session *session = request->session;
    Series *series = request->series;
    const Shape *shape = request->planned_count ? request->planned[0].shape : NULL;
    if (session->tx == TX_IDLE && request->planned_count && shape->kind != SHAPE_BEGIN) {
        if (!transaction_begin(session, SLICE("BEGIN"))) {
            Error err;
            error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
            session_fatal(session, &err);
            return;
        }
        series->unseen = true;
    }
    if (series->unseen && shape) {
        if (refuse_savepoint(request, shape))
            return;
        if (shape->kind == SHAPE_COMMIT || shape->kind == SHAPE_ROLLBACK)
            tell_no_transaction(request);
        if (shape->kind == SHAPE_BEGIN) { /* it is the client's from now on */
            series->unseen = false;
            local_tag(request, "BEGIN", TX_BLOCK);
            return;
        }
    }
    dispatch_part(request);
}

/* ---- the end ----------------------------------------------------------------------------------------------- */

static void series_finish(Request *request)
{
    Session *session = request->session;
    bool ddl = session->tx_ddl && session->tx == TX_IDLE;
    request->series = NULL;
    if (ddl)
        session->tx_ddl = false;
    if (!ddl || !local_read_catalog(request))
        request_end(request, session->tx);
}

static void on_committed(void *ctx, CommitResult result, Slice error)
{
    Request *request = ctx;
    Session *session = request->session;
    session->commit = NULL;
    effect_transaction_over(session, result == COMMIT_COMMITTED);
    session->tx_ddl &= result == COMMIT_COMMITTED || result == COMMIT_UNKNOWN;
    if (error.len && !request->error_seen) {
        buf_append(request_out(request), error);
        request->error_seen = true;
        request_touch(request);
    }
    series_finish(request);
}

/* What nobody has seen begin, nobody sees end. */
static void series_close(Request *request)
{
    Session *session = request->session;
    Series *series = request->series;
    if (!series->unseen || session->tx == TX_IDLE) {
        series_finish(request);
        return;
    }
    series->closing = true;
    commit_start(session, session->tx == TX_BLOCK && !request->error_seen ? COMMIT_DO : COMMIT_UNDO,
                 on_committed, request);
}

static void series_go_on(Request *request)
{
    Series *series = request->series;
    series->looping = true;
    do {
        if (request->error_seen || series->next == series->count ||
            request->session->state != SESSION_ACTIVE) {
            series->looping = false;
            series_close(request);
            return;
        }
        series->ended = false;
        if (!part_load(request, &series->parts[series->next++])) {
            Error err;
            error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
            session_fatal(request->session, &err);
            return;
        }
        part_run(request);
        if (request->series != series)
            return; /* the session is over */
    } while (series->ended);
    series->looping = false;
}

bool series_part_ended(Request *request)
{
    Series *series = request->series;
    if (!series)
        return false;
    if (request->session->tx == TX_IDLE)
        series->unseen = false;
    if (series->looping)
        series->ended = true;
    else if (!series->closing)
        series_go_on(request);
    return true;
}

bool series_start(Request *request)
{
    Series *series = arena_new(&request->arena, Series);
    if (!series || !request->complete || request->local_error)
        return false;
    series->simple = !request->extended && request->planned_count == 1;
    if (!(series->simple ? cut_query(request, series) : request->extended && cut_steps(request, series)))
        return false;
    request->series = series;
    series_go_on(request);
    return true;
}
