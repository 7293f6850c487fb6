/*
 * effect.c - keeps the session's settings and transaction in step with the server's.
 *
 *      SET x        (no transaction)   gucs = gucs + x
 *      BEGIN ... SET x ... COMMIT      gucs_tx = gucs; gucs_tx + x; gucs = gucs_tx
 *      BEGIN ... SET x ... ROLLBACK    gucs_tx = gucs; gucs_tx + x; forgotten
 *
 * What cannot be followed (ROLLBACK TO a savepoint after SET, statements we could not parse, state
 * that lives in the server session only) pins the server connection to the session instead.
 */
#include "router/effect.h"

#include <stdlib.h>

#include "router/planner.h"
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

static void forget_statement(Session *session, Slice name)
{
    statement_release(&session->worker->statements,
                      map_remove(&session->statements, slice_hash(name, 0), &name));
}

/* One statement that succeeded; `slot` is the vector it worked on. */
static void shape_apply(Request *request, const Shape *shape, GucVector **slot)
{
    Session *session = request->session;
    session->temporary |= shape->traits & SHAPE_HAS_TEMP;
    session->path_unknown |= shape->kind != SHAPE_MULTI && plan_sets_path_unseen(shape);
    switch (shape->kind) {
    case SHAPE_MULTI:
        for (uint32_t i = 0; i < shape->part_count; i++)
            shape_apply(request, shape->parts[i], slot);
        break;
    case SHAPE_SET:
        if (shape->setting_value.len)
            vector_set(session, slot, shape->setting, shape->setting_value);
        else
            vector_reset(session, slot, shape->setting);
        break;
    case SHAPE_RESET:
        vector_reset(session, slot, shape->setting);
        break;
    case SHAPE_RESET_ALL:
        vector_reset_all(session, slot);
        break;
    case SHAPE_DISCARD:
        if (shape->traits & SHAPE_HAS_DISCARD_ALL) {
            vector_replace(session, slot, guc_retain(session->gucs_base));
            forget_statements(session);
            session->pinned = session->temporary = session->path_unknown = false;
        }
        break;
    case SHAPE_SET_LOCAL:
        session->path_local |= slice_is(shape->setting, "search_path");
        break;
    case SHAPE_DEALLOCATE:
        if (shape->statement.len)
            forget_statement(session, shape->statement);
        else
            forget_statements(session);
        break;
    case SHAPE_ROLLBACK_TO:
        if (session->gucs_tx != session->gucs)
            session->tx_set_undone = session->path_local = true;
        break;
    case SHAPE_COMMIT:
        if ((shape->traits & SHAPE_HAS_CHAIN) && session->tx == 'T')
            vector_replace(session, &session->gucs, guc_retain(session->gucs_tx));
        break;
    case SHAPE_ROLLBACK:
        if (shape->traits & SHAPE_HAS_CHAIN)
            vector_replace(session, &session->gucs_tx, guc_retain(session->gucs));
        break;
    case SHAPE_UNPARSED:
        session->pinned = true; /* it worked, and we do not know what it did */
        break;
    case SHAPE_DDL:
    case SHAPE_DDL_ALONE:
        session->tx_ddl = true;
        break;
    default:
        break;
    }
}

static bool ends_by_commit(const Shape *shape)
{
    if (shape->kind == SHAPE_MULTI)
        return shape->part_count && ends_by_commit(shape->parts[shape->part_count - 1]);
    return shape->kind == SHAPE_COMMIT || shape->kind == SHAPE_PREPARE_TRANSACTION;
}

static bool request_commits(const Request *request)
{
    if (request->error_seen)
        return false;
    for (uint32_t i = 0; i < request->planned_count; i++)
        if (request->planned[i].executed && ends_by_commit(request->planned[i].shape))
            return true;
    return false;
}

void effect_transaction_over(Session *session, bool committed)
{
    if (committed && session->gucs_tx != session->gucs)
        vector_replace(session, &session->gucs, guc_retain(session->gucs_tx));
    vector_replace(session, &session->gucs_tx, NULL);
    if (committed && session->tx_set_undone)
        session->pinned = session->path_unknown = true;
    session->tx_set_undone = session->path_local = false;
    session->lazy = session->tx_lost = false;
    free((void *)(uintptr_t)session->deferred.data);
    session->deferred = (Slice){0};
    session->tx = TX_IDLE;
}

static void transaction_step(Request *request, char tx_status)
{
    Session *session = request->session;
    char before = session->tx;
    bool inside = before != TX_IDLE || tx_status != TX_IDLE;

    if (before == TX_IDLE && tx_status != TX_IDLE)
        session->gucs_tx = guc_retain(session->gucs);
    if (!request->error_seen)
        for (uint32_t i = 0; i < request->planned_count; i++) {
            if (!request->planned[i].executed)
                continue;
            shape_apply(request, request->planned[i].shape,
                        inside ? &session->gucs_tx : &session->gucs);
        }
    if (before != TX_IDLE && tx_status == TX_IDLE)
        effect_transaction_over(session, before == TX_BLOCK && request_commits(request));
    session->tx = tx_status;
}

void effect_apply(Request *request, Backend *backend, char tx_status)
{
    Session *session = request->session;
    bool other = session->held && session->held != backend; /* pinned elsewhere, this ran aside */
    transaction_step(request, tx_status);
    if (!backend)
        return; /* a batch's member: nothing was left anywhere */
    if (request->pins)
        session->pinned = true;
    backend_set_gucs(backend, session_gucs(session));
    if (other)
        return;
    if (tx_status != TX_IDLE || session->pinned) {
        task_hold(&request->task);
        session->held = backend;
        session->held_shard = request->shard;
    } else {
        session->held = NULL;
    }
}
