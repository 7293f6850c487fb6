/*
 * portal_open.c - cuts DECLARE into its head and its SELECT, plans the SELECT as if it were sent alone, and has its rows
 * brought together where the cursor then lives.
 *
 *     DECLARE c SCROLL CURSOR FOR SELECT ...
 *     ^ head                      ^ inner         merge server:  head + the final statement of GATHER
 *
 * Rows that could be merged as they come are gathered too: a connection of the transaction cannot wait in the middle of
 * an answer, because the client's other statements need it.
 */
#include "router/portal_open.h"

#include "query/lexer.h"
#include "router/dispatch.h"
#include "router/gather.h"
#include "router/planning.h"
#include "router/portal.h"
#include "router/worker_state.h"

static void refuse(Request *request, const char *message, const char *detail, const char *hint)
{
    Error err;
    error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED, "%s", message);
    error_detail(&err, "%s", detail);
    error_hint(&err, "%s", hint);
    dispatch_error(request, &err);
}

static bool is_gathered(const Plan *plan)
{
    SplitKind kind = plan->spread->form.kind;
    return kind == SPLIT_GATHER || kind == SPLIT_PARTIAL;
}

static bool open_as(Request *request, Slice name, Slice head, bool hold, const Plan *plan)
{
    Session *session = request->session;
    Error err;
    if (!is_gathered(plan)) { /* it locks rows, which cannot be gathered */
        refuse(request, "rows of several shards cannot be locked and fetched in parts",
               "They are brought together before the first is fetched.",
               "Select them without FOR UPDATE, or without a cursor or fetch size.");
        return true;
    }
    if (session->tx != TX_IDLE && session->tx_locks) {
        refuse(request, "rows of several shards cannot be brought together in a transaction that has changed or locked tables",
               "They are brought together on another connection, which would wait for this transaction.",
               "COMMIT first, or fix the shard key.");
        return true;
    }
    Portal *portal = portal_create(session, name, PORTAL_OWN, &err);
    if (!portal) {
        dispatch_error(request, &err);
        return true;
    }
    portal->declared = head.len > 0;
    portal->hold = hold;
    portal->request = request;
    request->portal = portal;
    request->portal_head = head;
    gather_start(request, plan->spread);
    return true;
}

void portal_open(Request *request, const Plan *plan)
{
    const BindMessage *bind = request->planned[request->planned_count - 1].bind;
    Plan whole = *plan;
    if (!is_gathered(plan)) {
        request->whole = true;
        whole = planning_make(request);
    }
    if (whole.kind == PLAN_SCATTER)
        open_as(request, bind ? bind->portal : SLICE(""), SLICE(""), false, &whole);
    else
        dispatch_error(request, &whole.error);
}

/* ---- DECLARE ------------------------------------------------------------------------------------------------ */

static bool head_read(Slice text, bool standard_strings, Slice *ret_head, Slice *ret_inner)
{
    Lexer lexer;
    lexer_init(&lexer, text, standard_strings);
    Token token = lexer_next(&lexer), before = {0};
    if (token.kind != TOKEN_IDENT || !token_is(text, token, "declare"))
        return false;
    lexer_next(&lexer); /* its name, which may be any word */
    for (; token.kind != TOKEN_END && token.kind != TOKEN_BAD; before = token) {
        token = lexer_next(&lexer);
        if (token.kind != TOKEN_IDENT || !token_is(text, token, "for"))
            continue;
        uint32_t end = token.offset + token.len;
        *ret_head = slice_of(text.data, end);
        *ret_inner = slice_from(text, end);
        return before.kind == TOKEN_IDENT;
    }
    return false;
}

static bool keep_shape(Request *request, Shape *shape)
{
    Shape **grown = arena_array(&request->arena, Shape *, request->shape_count + 1);
    if (!grown)
        return false;
    if (request->shape_count)
        memcpy(grown, request->shapes, request->shape_count * sizeof *grown);
    grown[request->shape_count++] = shape;
    request->shapes = grown;
    return true;
}

/* The request's statement becomes the SELECT; `ret_kept` is what it was. */
static bool enter_inner(Request *request, Slice inner, PlanStatement *ret_kept)
{
    Session *session = request->session;
    PlanStatement *statement = &request->planned[0];
    ShapeReading reading;
    *ret_kept = *statement;
    if (!shape_read(&session->worker->shapes, inner, session_standard_strings(session), session_values_may_vary(session),
                    &request->arena, &reading))
        return false;
    if (!keep_shape(request, reading.shape)) {
        shape_release(&session->worker->shapes, reading.shape);
        return false;
    }
    statement->shape = reading.shape;
    statement->text = inner;
    statement->literals = reading.literals;
    return true;
}

static bool needs_transaction(Request *request, bool hold)
{
    Error err;
    if (hold || request->session->tx != TX_IDLE)
        return false;
    error_set(&err, "25P01", "DECLARE CURSOR can only be used in transaction blocks");
    dispatch_error(request, &err);
    return true;
}

bool portal_declare(Request *request)
{
    const Shape *shape = request->planned[0].shape;
    bool hold = shape->traits & SHAPE_HAS_HOLD;
    Slice head, inner, name = shape->statement;
    PlanStatement kept;
    if (!head_read(request->planned[0].text, session_standard_strings(request->session), &head, &inner) ||
        !enter_inner(request, inner, &kept))
        return false;
    Plan plan = planning_make(request);
    if (plan.kind == PLAN_SCATTER && !is_gathered(&plan)) {
        request->whole = true;
        plan = planning_make(request);
    }
    if (plan.kind != PLAN_SCATTER || !kept.executed) {
        request->planned[0] = kept;
        request->whole = false;
        if (plan.kind != PLAN_REJECT)
            return false;
        dispatch_error(request, &plan.error);
        return true;
    }
    if (needs_transaction(request, hold))
        return true;
    request->pins = false; /* what WITH HOLD leaves is on a connection of the cursor's own */
    return open_as(request, arena_dup(&request->arena, name), head, hold, &plan);
}
