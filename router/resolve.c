/*
 * resolve.c - step by step, as PostgreSQL would take the messages.
 *
 *     Parse "a" 'SELECT ..$1'   session.statements += a       step.prepared
 *     Bind  "a" (42)            request.planned += a with (42)  step.prepared
 *     Execute                   ... and it is executed
 *     Query 'SELECT 1'          request.planned += its shape;  the unnamed statement is gone (H07)
 */
#include "router/resolve.h"

#include "router/portal.h"
#include "router/worker_state.h"

static Worker *worker_of(const Request *request)
{
    return request->session->worker;
}

/* PostgreSQL would refuse this message: the steps before it stand, the rest up to Sync is skipped. */
static void refuse(Request *request, uint32_t at, const Error *err)
{
    Error *copy = arena_new(&request->arena, Error);
    if (!copy)
        return;
    *copy = *err;
    request->local_error = copy;
    request->step_count = request->prepared_count = at;
}

/* Room for one more pointer behind `count`; doubled, because an executemany() comes as one request. */
static void *with_room(Request *request, void *array, uint32_t count)
{
    if (count && (count & (count - 1)))
        return array; /* full at powers of two only */
    void **grown = arena_array(&request->arena, void *, count ? count * 2 : 1);
    if (grown && count)
        memcpy(grown, array, count * sizeof *grown);
    return grown;
}

static bool keep_statement(Request *request, Statement *statement)
{
    Statement **grown = with_room(request, request->statements, request->statement_count);
    if (!grown)
        return false;
    grown[request->statement_count++] = statement_retain(statement);
    request->statements = grown;
    return true;
}

static bool keep_created(Request *request, Statement *statement)
{
    Statement **grown = with_room(request, request->created, request->created_count);
    if (!grown)
        return false;
    grown[request->created_count++] = statement;
    request->created = grown;
    return keep_statement(request, statement);
}

static Statement *find_statement(Session *session, Slice name)
{
    return name.len ? map_get(&session->statements, slice_hash(name, 0), &name) : session->unnamed;
}

static bool plan_later(Request *request, PlanStatement statement)
{
    if (request->planned_count == request->planned_room) {
        uint32_t room = request->planned_room ? request->planned_room * 2 : 2;
        PlanStatement *grown = arena_array(&request->arena, PlanStatement, room);
        if (!grown)
            return false;
        if (request->planned_count)
            memcpy(grown, request->planned, request->planned_count * sizeof *grown);
        request->planned = grown;
        request->planned_room = room;
    }
    request->planned[request->planned_count++] = statement;
    return true;
}

static void mark_state(Request *request, const Shape *shape)
{
    if (shape->traits & SHAPE_LEAVES_STATE)
        request->pins = true;
    for (uint32_t i = 0; i < shape->part_count; i++)
        mark_state(request, shape->parts[i]);
}

/* ---- one step each ------------------------------------------------------------------------------ */

static bool check_parse(Request *request, const ParseMessage *parse, Error *err)
{
    Session *session = request->session;
    if (parse->name.len && find_statement(session, parse->name)) {
        error_set(err, SQLSTATE_DUPLICATE_STATEMENT, "prepared statement \"%.*s\" already exists",
                  SLICE_FMT(parse->name));
        return false;
    }
    if (parse->name.len &&
        session->statements.count >= worker_config(session->worker)->client_statements_max) {
        error_set(err, SQLSTATE_LIMIT_EXCEEDED, "too many prepared statements in one session");
        error_detail(err, "The limit is %u.", worker_config(session->worker)->client_statements_max);
        error_hint(err, "Close statements that are not needed, or raise client_statements_max.");
        return false;
    }
    return true;
}

static bool register_statement(Session *session, Statement *statement)
{
    if (statement->name_len)
        return map_put(&session->statements, statement->hash, statement);
    statement_release(&session->worker->statements, session->unnamed);
    session->unnamed = statement;
    return true;
}

static bool resolve_parse(Request *request, uint32_t at, Slice body)
{
    Session *session = request->session;
    TaskStep *step = &request->steps[at];
    ParseMessage parse;
    Error err;
    if (frontend_read_parse(body, &parse, &err) != WIRE_OK || !check_parse(request, &parse, &err)) {
        refuse(request, at, &err);
        return true;
    }
    uint32_t *oids = arena_array(&request->arena, uint32_t, parse.oid_count + 1);
    if (!oids)
        return false;
    for (uint32_t i = 0; i < parse.oid_count; i++)
        oids[i] = parse_oid_at(&parse, i);
    Statement *statement = statement_create(&session->worker->statements, parse.name, parse.sql, oids,
                                            parse.oid_count, session_standard_strings(session),
                                            session_values_may_vary(session));
    if (!statement)
        return false;
    if (!register_statement(session, statement)) {
        statement_release(&session->worker->statements, statement);
        return false;
    }
    step->prepared = statement->prepared;
    step->unnamed = parse.name.len == 0;
    return keep_created(request, statement);
}

static bool resolve_bind(Request *request, uint32_t at, Slice body)
{
    TaskStep *step = &request->steps[at];
    BindMessage *bind = arena_new(&request->arena, BindMessage);
    Error err;
    if (!bind)
        return false;
    if (frontend_read_bind(body, bind, &err) != WIRE_OK) {
        refuse(request, at, &err);
        return true;
    }
    Statement *statement = find_statement(request->session, bind->statement);
    request->bound = bind;
    request->bound_statement = statement;
    step->unnamed = bind->statement.len == 0;
    if (!statement)
        return true; /* goes as it is: the server says 26000 in its own words */
    step->prepared = statement->prepared;
    /* Bind already needs the shard: the portal is made there. */
    return keep_statement(request, statement) &&
           plan_later(request, (PlanStatement){
                                   .shape = statement->reading.shape,
                                   .text = statement->prepared->text,
                                   .literals = statement->reading.literals,
                                   .hint = statement->reading.hint,
                                   .bind = bind,
                                   .param_oids = statement->prepared->oids,
                                   .param_oid_count = statement->prepared->oid_count,
                               });
}

static bool resolve_target(Request *request, uint32_t at, Slice body, bool close)
{
    TaskStep *step = &request->steps[at];
    Session *session = request->session;
    TargetMessage target;
    Error err;
    WireResult result = close ? frontend_read_close(body, &target, &err)
                              : frontend_read_describe(body, &target, &err);
    if (result != WIRE_OK) {
        refuse(request, at, &err);
        return true;
    }
    if (target.target == TARGET_PORTAL) {
        step->op = close ? TASK_CLOSE_PORTAL : TASK_DESCRIBE_PORTAL;
        return true;
    }
    Statement *statement = find_statement(session, target.name);
    step->op = close ? TASK_CLOSE_STATEMENT : TASK_DESCRIBE_STATEMENT;
    step->unnamed = target.name.len == 0;
    if (!statement)
        return true;
    step->prepared = statement->prepared;
    if (!keep_statement(request, statement))
        return false;
    if (!close)
        return true;
    if (target.name.len)
        map_remove(&session->statements, statement->hash, &target.name);
    else
        session->unnamed = NULL;
    statement_release(&session->worker->statements, statement);
    return true;
}

/* It was bound by a request of before, and is executed now, as if it were bound here. */
static bool recall(Request *request, Portal *portal)
{
    BindMessage *bind = arena_new(&request->arena, BindMessage);
    Slice frame = arena_dup(&request->arena, buf_bytes(&portal->bind));
    Statement *statement = portal->statement;
    Error err;
    if (!bind || !frame.data || frontend_read_bind(slice_from(frame, 5), bind, &err) != WIRE_OK)
        return false;
    mark_state(request, statement->reading.shape);
    if (!keep_statement(request, statement))
        return false;
    portal_destroy(portal);
    request->recalled_bind = frame;
    return plan_later(request, (PlanStatement){.executed = true,
                                               .shape = statement->reading.shape,
                                               .text = statement->prepared->text,
                                               .literals = statement->reading.literals,
                                               .hint = statement->reading.hint,
                                               .bind = bind,
                                               .param_oids = statement->prepared->oids,
                                               .param_oid_count = statement->prepared->oid_count});
}

static bool resolve_execute(Request *request, uint32_t at, Slice body)
{
    ExecuteMessage execute;
    Error err;
    if (frontend_read_execute(body, &execute, &err) != WIRE_OK) {
        refuse(request, at, &err);
        return true;
    }
    request->max_rows = execute.max_rows;
    bool found = false;
    for (uint32_t i = request->planned_count; i-- > 0 && !found;) {
        PlanStatement *planned = &request->planned[i];
        if (!planned->bind || !slice_equal(execute.portal, planned->bind->portal))
            continue;
        if (planned->bind == request->bound && request->bound_statement)
            request->last_reading = &request->bound_statement->reading;
        planned->executed = found = true;
        mark_state(request, planned->shape);
    }
    Portal *portal = found ? NULL : portal_recall(request->session, execute.portal);
    return !portal || recall(request, portal); /* NULL: a portal that lives somewhere, or none */
}

static bool resolve_query(Request *request, uint32_t at, Slice body)
{
    Worker *worker = worker_of(request);
    Session *session = request->session;
    QueryMessage query;
    Error err;
    if (frontend_read_query(body, &query, &err) != WIRE_OK) {
        refuse(request, at, &err);
        return true;
    }
    ShapeReading *reading = arena_new(&request->arena, ShapeReading);
    Shape **grown = arena_array(&request->arena, Shape *, request->shape_count + 1);
    if (!reading || !grown ||
        !shape_read(&worker->shapes, query.sql, session_standard_strings(session),
                    session_values_may_vary(session), &request->arena, reading))
        return false;
    if (request->shape_count)
        memcpy(grown, request->shapes, request->shape_count * sizeof *grown);
    grown[request->shape_count++] = reading->shape;
    request->shapes = grown;
    request->last_reading = reading;
    statement_release(&worker->statements, session->unnamed);
    session->unnamed = NULL;
    mark_state(request, reading->shape);
    return plan_later(request, (PlanStatement){.executed = true,
                                               .shape = reading->shape,
                                               .text = query.sql,
                                               .literals = reading->literals,
                                               .hint = reading->hint});
}

static bool resolve_step(Request *request, uint32_t at)
{
    const TaskStep *step = &request->steps[at];
    Slice body = slice_from(step->frame, 5);
    Error err;
    switch (step->op) {
    case TASK_PARSE:
        return resolve_parse(request, at, body);
    case TASK_BIND:
        return resolve_bind(request, at, body);
    case TASK_DESCRIBE_STATEMENT:
        return resolve_target(request, at, body, false);
    case TASK_CLOSE_STATEMENT:
        return resolve_target(request, at, body, true);
    case TASK_EXECUTE:
        return resolve_execute(request, at, body);
    case TASK_QUERY:
        return resolve_query(request, at, body);
    case TASK_SYNC:
    case TASK_FLUSH:
        if (frontend_read_empty(body, &err) != WIRE_OK)
            refuse(request, at, &err);
        return true;
    default:
        return true;
    }
}

bool resolve_steps(Request *request)
{
    /* After a refusal (and a Flush) more may have come: it is passed over, up to Sync. */
    if (request->local_error && request->prepared_count < request->step_count)
        request->step_count = request->prepared_count;
    while (request->prepared_count < request->step_count && !request->local_error)
        if (!resolve_step(request, request->prepared_count++))
            return false;
    return true;
}
