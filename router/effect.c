/*
 * effect.c - keeps the session's settings and transaction in step with the server's.
 *
 *      SET x        (no transaction)   gucs_tx = gucs; gucs_tx + x; gucs = gucs_tx
 *      BEGIN ... SET x ... COMMIT      gucs_tx = gucs; gucs_tx + x; gucs = gucs_tx
 *      BEGIN ... SET x ... ROLLBACK    gucs_tx = gucs; gucs_tx + x; gucs_tx = gucs
 *
 * What cannot be followed (ROLLBACK TO a savepoint after SET, a Query that failed behind a COMMIT of its
 * own, statements we could not parse, state that lives in the server session only) pins the server connection to the session instead.
 */
#include "router/effect.h"

#include <stdlib.h>

#include "query/lexer.h"
#include "router/planner.h"
#include "router/portal.h"
#include "router/read_setting.h"
#include "router/transaction.h"
#include "router/worker_state.h"

static GucSet *guc_set(Session *session)
{
    return &session->worker->gucs;
}

/* Replaces a vector by one that the caller owns a reference of. */
static void vector_replace(Session *session, GucVector **slot, GucVector *vector)
{
    GucVector *old = *slot;
    *slot = vector;
    guc_release(guc_set(session), old);
}

static void vector_set(Session *session, GucVector **slot, Slice name, Slice value)
{
    bool ok;
    GucVector *vector = guc_with(guc_set(session), *slot, name, value, &ok);
    if (ok)
        vector_replace(session, slot, vector);
    else
        session->tx_set_undone = true; /* memory is out: we do not know any more */
}

static void vector_unset(Session *session, GucVector **slot, Slice name)
{
    bool ok;
    GucVector *vector = guc_without(guc_set(session), *slot, name, &ok);
    if (ok)
        vector_replace(session, slot, vector);
}

static void vector_reset(Session *session, GucVector **slot, Slice name)
{
    const GucEntry *base = guc_find(session->gucs_base, name);
    if (base)
        vector_set(session, slot, name, base->value);
    else
        vector_unset(session, slot, name);
}

/* RESET ALL leaves role and session authorization as they are. */
static void vector_reset_all(Session *session, GucVector **slot)
{
    GucVector *old = guc_retain(*slot);
    vector_replace(session, slot, guc_retain(session->gucs_base));
    for (uint32_t i = 0; old && i < old->count; i++)
        if (slice_is(old->entries[i].name, "role") ||
            slice_is(old->entries[i].name, "session_authorization"))
            vector_set(session, slot, old->entries[i].name, old->entries[i].value);
    guc_release(guc_set(session), old);
}

static void forget_statements(Session *session)
{
    size_t cursor = 0;
    Statement *statement;
    while ((statement = map_next(&session->statements, &cursor))) {
        Slice name = slice_of(statement->name, statement->name_len);
        map_remove(&session->statements, statement->hash, &name);
        statement_release(&session->worker->statements, statement);
    }
    statement_release(&session->worker->statements, session->unnamed);
    session->unnamed = NULL;
}

void effect_statement_gone(Session *session, Slice name)
{
    statement_release(&session->worker->statements,
                      map_remove(&session->statements, slice_hash(name, 0), &name));
}

/* RESET goes to the server's own default there, and to the startup message's value here. */
static void note_reset(Session *session)
{
    session->tx_reset |= session->gucs_base != NULL;
}

/* COMMIT or ROLLBACK, in a block or in the middle of a Query. */
static void transaction_ends(Session *session, bool committed)
{
    if (committed) {
        vector_replace(session, &session->gucs, guc_retain(session->gucs_tx));
        session->pinned |= session->tx_set_undone;
        session->path_unknown |= session->tx_set_undone;
    } else {
        vector_replace(session, &session->gucs_tx, guc_retain(session->gucs));
    }
    session->tx_set_undone = session->path_local = false;
    if (session->tx != TX_IDLE)
        portals_transaction_over(session, committed);
}

/* What follows a COMMIT in a block: the next block, or (in a Query of several) who knows. */
static void chain(Request *request, const Shape *shape, Slice text)
{
    Session *session = request->session;
    for (uint32_t i = 0; i < session->part_count; i++) {
        session->parts[i].writes = false;
        session->parts[i].version = request->planned_version; /* its snapshot, too, is a new one */
    }
    session->sealed |= !(shape->traits & SHAPE_HAS_CHAIN) || text.len == 0;
    script_chain(&session->script);
}

/* LOCK TABLE in its strongest mode, which is the default. */
static bool locks_out_readers(Slice text)
{
    Lexer lexer;
    bool mode = false, access = false;
    lexer_init(&lexer, text, true);
    for (Token token, before = {0}; (token = lexer_next(&lexer)).kind != TOKEN_END && token.kind != TOKEN_BAD; before = token) {
        if (token.kind != TOKEN_IDENT)
            continue;
        mode |= token_is(text, token, "mode");
        access |= token_is(text, token, "exclusive") && before.kind == TOKEN_IDENT && token_is(text, before, "access");
    }
    return access || !mode;
}

/* One statement that succeeded. `failed`: the transaction had failed before it. */
static void shape_apply(Request *request, const Shape *shape, Slice text, bool *failed)
{
    Session *session = request->session;
    GucVector **slot = &session->gucs_tx;
    session->temporary |= shape->traits & SHAPE_HAS_TEMP;
    session->path_unknown |= shape->kind != SHAPE_MULTI && plan_sets_path_unseen(shape);
    transaction_follow(session, shape, text);
    switch (shape->kind) {
    case SHAPE_MULTI:
        for (uint32_t i = 0; i < shape->part_count; i++)
            shape_apply(request, shape->parts[i], (Slice){0}, failed);
        break;
    case SHAPE_SET:
        if (shape->setting_value.len) {
            vector_set(session, slot, shape->setting, shape->setting_value);
            break;
        }
        vector_reset(session, slot, shape->setting);
        note_reset(session);
        break;
    case SHAPE_RESET:
        vector_reset(session, slot, shape->setting);
        note_reset(session);
        break;
    case SHAPE_RESET_ALL:
        read_setting_reset(session);
        vector_reset_all(session, slot);
        note_reset(session);
        break;
    case SHAPE_DISCARD:
        if (shape->traits & SHAPE_HAS_DISCARD_ALL) {
            read_setting_reset(session);
            portals_drop(session);
            vector_replace(session, slot, guc_retain(session->gucs_base));
            note_reset(session);
            forget_statements(session);
            session->pinned = session->temporary = session->path_unknown = false;
        }
        break;
    case SHAPE_SET_LOCAL:
        session->path_local |= slice_is(shape->setting, "search_path");
        break;
    case SHAPE_DEALLOCATE:
        if (shape->statement.len)
            effect_statement_gone(session, shape->statement);
        else
            forget_statements(session);
        break;
    case SHAPE_RELEASE:
        portals_released(session);
        break;
    case SHAPE_ROLLBACK_TO:
        *failed = false;
        portals_rolled_back(session);
        if (session->gucs_tx != session->gucs)
            session->tx_set_undone = session->path_local = session->sealed = true;
        break;
    case SHAPE_COMMIT:
    case SHAPE_PREPARE_TRANSACTION:
        transaction_ends(session, !*failed);
        chain(request, shape, text);
        *failed = false;
        break;
    case SHAPE_ROLLBACK:
        transaction_ends(session, false);
        chain(request, shape, text);
        *failed = false;
        break;
    case SHAPE_MAINTENANCE: /* REFRESH, CLUSTER */
        session->tx_locks = true;
        break;
    case SHAPE_LOCK:
        session->tx_locks |= locks_out_readers(text);
        break;
    case SHAPE_UNPARSED:
        session->pinned = true; /* it worked, and we do not know what it did */
        break;
    case SHAPE_DDL:
    case SHAPE_DDL_ALONE:
        session->tx_partition = (session->tx_ddl && session->tx_partition) || shape->makes_partition;
        session->tx_ddl = session->tx_locks = true;
        break;
    default:
        break;
    }
}

typedef struct Traces {
    bool settings, end; /* a statement that sets something; one that ends a transaction */
    uint32_t count;
} Traces;

static void traces_of(const Shape *shape, Traces *traces)
{
    for (uint32_t i = 0; i < shape->part_count; i++)
        traces_of(shape->parts[i], traces);
    switch (shape->kind) {
    case SHAPE_MULTI:
        return;
    case SHAPE_SET:
    case SHAPE_RESET:
    case SHAPE_RESET_ALL:
    case SHAPE_DISCARD:
    case SHAPE_UNPARSED:
        traces->settings = true;
        break;
    case SHAPE_COMMIT:
    case SHAPE_ROLLBACK:
    case SHAPE_PREPARE_TRANSACTION:
        traces->end = true;
        break;
    default:
        break;
    }
    traces->count++;
}

/* It failed, but a part of it may have been committed before, with settings that nobody has followed:
 *     SET x = 1; COMMIT; SELECT 1/0        Parse.. Execute(SET) Query Parse.. Execute(1/0) Sync */
static bool half_done(const Request *request)
{
    const Session *session = request->session;
    Traces traces = {.settings = session->gucs_tx != session->gucs};
    for (uint32_t i = 0; i < request->planned_count; i++) {
        traces_of(request->planned[i].shape, &traces);
        traces.end |= request->extended && !request->planned[i].bind; /* a Query among them commits */
    }
    return traces.settings && traces.end && traces.count > 1;
}

/* A portal that sets something stays open: whoever executes it later names the portal alone. */
static bool leaves_portal(const Request *request)
{
    Traces traces = {0};
    for (uint32_t i = 0; i < request->planned_count; i++)
        if (!request->planned[i].executed) {
            traces_of(request->planned[i].shape, &traces);
            traces.settings |= (request->planned[i].shape->traits & SHAPE_LEAVES_STATE) != 0;
        }
    return traces.settings;
}

void effect_transaction_over(Session *session, bool committed)
{
    transaction_ends(session, committed);
    vector_replace(session, &session->gucs_tx, NULL);
    session->spread = session->sealed = session->tx_lost = session->tx_locks = false;
    script_clear(&session->script);
    session->tx = TX_IDLE;
}

static void transaction_step(Request *request, char tx_status)
{
    Session *session = request->session;
    bool failed = session->tx == TX_FAILED;
    if (session->tx == TX_IDLE)
        vector_replace(session, &session->gucs_tx, guc_retain(session->gucs));
    if (request->error_seen)
        session->pinned |= half_done(request);
    else
        for (uint32_t i = 0; i < request->planned_count; i++)
            if (request->planned[i].executed)
                shape_apply(request, request->planned[i].shape, request->planned[i].text, &failed);
    if (tx_status == TX_IDLE)
        effect_transaction_over(session, !request->error_seen && !failed);
    else
        session->pinned |= leaves_portal(request);
    /* A participant that died while this statement ran elsewhere has failed the transaction. */
    session->tx = session->tx_lost && tx_status != TX_IDLE ? TX_FAILED : tx_status;
}

/* What the server has now, as far as we know. After a RESET it lacks the startup settings: their values
 * are unknown, so that the next task sets or resets them whatever it needs. */
static void tell_backend(Session *session, Backend *backend)
{
    GucVector *known = guc_retain(session_gucs(session));
    for (uint32_t i = 0; session->tx_reset && i < session->gucs_base->count; i++)
        vector_set(session, &known, session->gucs_base->entries[i].name, SLICE("?"));
    backend_set_gucs(backend, known);
    guc_release(guc_set(session), known);
}

static bool request_writes(const Request *request)
{
    for (uint32_t i = 0; i < request->planned_count; i++)
        if (transaction_writes(request->session, request->planned[i].shape))
            return true;
    return request->planned_count == 0 && request->steps_fed; /* a portal of before is executed */
}

void effect_apply(Request *request, Backend *backend, char tx_status)
{
    Session *session = request->session;
    Participant *part = transaction_part(session, request->shard);
    bool had_state = part && part->state, was_pinned = session->pinned;
    if (!backend)
        return; /* a batch's member: a lookup outside of a transaction, which changes nothing */
    GucVector *came_with = guc_retain(request->task.gucs); /* what a ROLLBACK leaves there */
    transaction_step(request, tx_status);
    session->pinned |= request->pins;
    bool state = session->pinned && (had_state || request->pins || !was_pinned);
    tell_backend(session, backend);
    if (tx_status == TX_IDLE)
        session->tx_reset = false;
    if (!request->error_seen)
        portal_follow(request, request->shard);
    if (tx_status == TX_IDLE && !state) {
        transaction_leave(session, request->shard);
    } else {
        task_hold(&request->task);
        part = transaction_join(session, backend, request->shard, tx_status, came_with, request->planned_version);
        if (part) {
            part->state = state;
            part->writes |= tx_status != TX_IDLE && request_writes(request);
        }
    }
    guc_release(guc_set(session), came_with);
}

void effect_everywhere(Request *request, char tx_status)
{
    Session *session = request->session;
    transaction_step(request, tx_status);
    for (uint32_t i = 0; i < session->part_count; i++)
        tell_backend(session, session->parts[i].backend);
}
