/*
 * transaction.c - participants come and go; BEGIN, SAVEPOINT and the like on any number of them.
 *
 *      how many have joined      SAVEPOINT, RELEASE, SET LOCAL ...      COMMIT, ROLLBACK
 *      none                      answered here, kept in the script      answered here
 *      one                       sent there; the script follows         sent there
 *      several                   sent to all; the script follows        commit.c
 *
 * A failed transaction with one participant is left to that server, which answers in its own words.
 */
#include "router/transaction.h"

#include <stdlib.h>

#include "router/commit.h"
#include "router/dispatch.h"
#include "router/effect.h"
#include "router/local.h"
#include "router/scatter.h"
#include "router/worker_state.h"
#include "wire/backend.h"

/* ---- participants ---------------------------------------------------------------------------------- */

Participant *transaction_part(const Session *session, uint32_t shard)
{
    for (uint32_t i = 0; i < session->part_count; i++)
        if (session->parts[i].shard == shard)
            return &session->parts[i];
    return NULL;
}

uint32_t transaction_size(const Session *session)
{
    uint32_t size = 0;
    for (uint32_t i = 0; i < session->part_count; i++)
        size += session->parts[i].tx != TX_IDLE;
    return size;
}

static bool grow(Session *session)
{
    uint32_t room = session->part_room ? session->part_room * 2 : 1;
    Participant *parts = realloc(session->parts, room * sizeof *parts);
    if (!parts)
        return false;
    session->parts = parts;
    session->part_room = room;
    return true;
}

Participant *transaction_join(Session *session, Backend *backend, uint32_t shard, char tx,
                              GucVector *settings, uint64_t version)
{
    Participant *part = transaction_part(session, shard);
    if (part) {
        assert(part->backend == backend);
        if (part->tx == TX_IDLE)
            part->version = version;
        part->tx = tx;
        return part;
    }
    if (session->part_count == session->part_room && !grow(session)) {
        session_kill(session);
        backend_release(backend, true);
        return NULL;
    }
    part = &session->parts[session->part_count++];
    *part = (Participant){.backend = backend, .shard = shard, .tx = tx, .version = version,
                          .settings = guc_retain(settings)};
    return part;
}

void transaction_leave(Session *session, uint32_t shard)
{
    Participant *part = transaction_part(session, shard);
    if (!part)
        return;
    guc_release(&session->worker->gucs, part->settings);
    *part = session->parts[--session->part_count];
}

void transaction_let_go(Session *session)
{
    for (uint32_t i = session->part_count; i-- > 0;) {
        Participant *part = &session->parts[i];
        Backend *backend = part->backend;
        bool state = part->state;
        if (part->tx == TX_IDLE && state)
            continue;
        transaction_leave(session, part->shard);
        backend_release(backend, state);
    }
}

void transaction_let_unfailed_go(Session *session)
{
    bool failed = false;
    if (session->tx != TX_FAILED || !session->spread || session->commit)
        return;
    for (uint32_t i = 0; i < session->script.count; i++)
        if (session->script.entries[i].kind == SCRIPT_SAVEPOINT)
            return;
    for (uint32_t i = 0; i < session->part_count; i++)
        failed |= session->parts[i].tx == TX_FAILED;
    /* One that has failed stays, to answer what comes in PostgreSQL's words. */
    for (uint32_t i = session->part_count; failed && i-- > 0;) {
        Participant *part = &session->parts[i];
        if (part->tx != TX_BLOCK || part->state)
            continue;
        Backend *backend = part->backend;
        transaction_leave(session, part->shard);
        backend_release(backend, false);
    }
}

Slice transaction_opening(Session *session, Arena *arena)
{
    Buf sql, frame;
    buf_init(&sql, session->script.bytes + 4 * session->script.count + 64);
    buf_init(&frame, session->script.bytes + 4 * session->script.count + 128);
    script_write(&session->script, &sql);
    frontend_put_query(&frame, buf_bytes(&sql));
    Slice copy = sql.failed || frame.failed ? (Slice){0} : arena_dup(arena, buf_bytes(&frame));
    buf_finish(&sql);
    buf_finish(&frame);
    return copy;
}

/* ---- what writes ----------------------------------------------------------------------------------- */

/* Functions of pg_catalog that are VOLATILE and leave nothing behind that a commit decides on. */
static const char *const HARMLESS[] = {"random", "clock_timestamp", "timeofday", "pg_sleep",
                                       "pg_sleep_for", "pg_sleep_until", "gen_random_uuid"};

static bool function_writes(const Session *session, const ShapeName *name)
{
    const Topology *topology = session->worker->topology;
    const CatalogFunction *function = catalog_resolve_function(
        topology->catalogs[session->database_index], name->schema, name->name,
        session_search_path(session, topology), slice_str(session->user));
    if (function && function->volatility != 'v')
        return false;
    for (size_t i = 0; function && i < ARRAY_LEN(HARMLESS); i++)
        if (slice_is(function->schema, "pg_catalog") && slice_is(name->name, HARMLESS[i]))
            return false;
    return true;
}

bool transaction_writes(const Session *session, const Shape *shape)
{
    switch (shape->kind) {
    case SHAPE_SELECT:
    case SHAPE_DECLARE:
    case SHAPE_EXPLAIN:
    case SHAPE_COPY_OUT:
        break;
    case SHAPE_SAVEPOINT:
    case SHAPE_RELEASE:
    case SHAPE_ROLLBACK_TO:
    case SHAPE_SET:
    case SHAPE_SET_LOCAL:
    case SHAPE_RESET:
    case SHAPE_RESET_ALL:
    case SHAPE_SHOW:
    case SHAPE_EMPTY:
    case SHAPE_CLOSE:
    case SHAPE_FETCH: /* of a cursor whose DECLARE was looked at */
    case SHAPE_BEGIN:
        return false;
    case SHAPE_MULTI:
        for (uint32_t i = 0; i < shape->part_count; i++)
            if (transaction_writes(session, shape->parts[i]))
                return true;
        return false;
    default:
        return true;
    }
    if (shape->traits & (SHAPE_HAS_LOCKING | SHAPE_HAS_INTO | SHAPE_HAS_MODIFYING_CTE) ||
        (shape->traits & SHAPE_HAS_ANALYZE && !shape_is_read(shape)))
        return true;
    for (uint32_t i = 0; i < shape->function_count; i++)
        if (function_writes(session, &shape->functions[i]))
            return true;
    return false;
}

static bool can_prepare(const Session *session, uint32_t shard, Error *err)
{
    const Topology *topology = session->worker->topology;
    const char *why = topology_two_phase_why(topology, session->database_index, shard);
    if (!why)
        return true;
    error_set(err, SQLSTATE_OBJECT_NOT_READY, "shard %s cannot take part in a transaction over several shards",
              topology->config->shards[shard].name);
    error_detail(err, "%s", why);
    error_hint(err, "Put that right there, or set commit_mode = one_phase_best_effort for this database.");
    return false;
}

bool transaction_may_write(const Session *session, const uint32_t *shards, uint32_t count, Error *err)
{
    uint32_t others = 0;
    if (session_database(session, session->worker->topology)->commit_mode != COMMIT_TWO_PHASE)
        return true;
    for (uint32_t i = 0; i < session->part_count; i++) {
        bool among = false;
        for (uint32_t k = 0; k < count; k++)
            among |= session->parts[i].shard == shards[k];
        others += session->parts[i].writes && !among;
    }
    if (others + count < 2)
        return true;
    for (uint32_t k = 0; k < count; k++)
        if (!can_prepare(session, shards[k], err))
            return false;
    for (uint32_t i = 0; i < session->part_count; i++)
        if (session->parts[i].writes && !can_prepare(session, session->parts[i].shard, err))
            return false;
    return true;
}

/* ---- transaction control --------------------------------------------------------------------------- */

static Slice without_semicolon(Slice sql)
{
    while (sql.len && (sql.data[sql.len - 1] == ';' || sql.data[sql.len - 1] <= ' '))
        sql.len--;
    return sql;
}

static const char *tag_of(ShapeKind kind)
{
    switch (kind) {
    case SHAPE_COMMIT:
        return "COMMIT";
    case SHAPE_SAVEPOINT:
        return "SAVEPOINT";
    case SHAPE_RELEASE:
        return "RELEASE";
    case SHAPE_SET_LOCAL:
        return "SET";
    default:
        return "ROLLBACK";
    }
}

static void fail_here(Request *request, const Error *err)
{
    request->session->tx = TX_FAILED;
    local_error(request, err, TX_FAILED);
}

static void out_of_memory(Request *request)
{
    Error err;
    error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    session_fatal(request->session, &err);
}

bool transaction_begin(Session *session, Slice sql)
{
    script_clear(&session->script);
    if (!script_add(&session->script, SCRIPT_BEGIN, (Slice){0}, sql))
        return false;
    session->gucs_tx = guc_retain(session->gucs);
    session->spread = true;
    session->tx = TX_BLOCK;
    return true;
}

static void begin(Request *request, Slice sql)
{
    if (!transaction_begin(request->session, sql)) {
        out_of_memory(request);
        return;
    }
    if (request->last_reading) /* a comment before BEGIN is meant for all of it */
        request->session->reads.local = consistency_read_hint(request->last_reading->hint);
    local_tag(request, "BEGIN", TX_BLOCK);
}

/* SET TRANSACTION belongs to BEGIN: AND CHAIN keeps it. */
static ScriptKind kind_of(const Shape *shape)
{
    if (shape->kind == SHAPE_SAVEPOINT)
        return SCRIPT_SAVEPOINT;
    return slice_is(shape->setting, "transaction") ? SCRIPT_BEGIN : SCRIPT_SET;
}

void transaction_follow(Session *session, const Shape *shape, Slice text)
{
    bool ok = true;
    if (!session->spread)
        return;
    switch (shape->kind) {
    case SHAPE_SAVEPOINT:
    case SHAPE_SET_LOCAL:
        session->sealed |= text.len == 0;
        ok = text.len == 0 || script_add(&session->script, kind_of(shape), shape->statement, without_semicolon(text));
        break;
    case SHAPE_RELEASE:
        script_release(&session->script, shape->statement);
        break;
    case SHAPE_ROLLBACK_TO:
        script_rollback_to(&session->script, shape->statement);
        break;
    default:
        break;
    }
    if (!ok) {
        Error err;
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        session_fatal(session, &err);
    }
}

static bool refuse_long(Request *request, Slice sql)
{
    uint64_t max = worker_config(request->session->worker)->transaction_script_max;
    Error err;
    if (request->session->script.bytes + sql.len <= max)
        return false;
    error_set(&err, SQLSTATE_LIMIT_EXCEEDED, "too many settings and savepoints in one transaction");
    error_detail(&err, "More than %llu bytes would have to be told to each shard that joins it.",
                 (unsigned long long)max);
    error_hint(&err, "RELEASE savepoints that are not needed, or raise transaction_script_max.");
    fail_here(request, &err);
    return true;
}

/* Nothing has run anywhere: Shoal is the server. */
static bool control_lazy(Request *request, const Shape *shape)
{
    Session *session = request->session;
    Slice text = request->planned[0].text;
    bool failed = session->tx == TX_FAILED;
    Error err;
    switch (shape->kind) {
    case SHAPE_COMMIT:
    case SHAPE_ROLLBACK:
        if (shape->traits & SHAPE_HAS_CHAIN) {
            script_chain(&session->script);
            session->tx = TX_BLOCK;
            session->tx_lost = false;
            local_tag(request, failed ? "ROLLBACK" : tag_of(shape->kind), TX_BLOCK);
            return true;
        }
        effect_transaction_over(session, shape->kind == SHAPE_COMMIT && !failed);
        local_tag(request, failed ? "ROLLBACK" : tag_of(shape->kind), TX_IDLE);
        return true;
    case SHAPE_RELEASE:
    case SHAPE_ROLLBACK_TO:
        if (failed && shape->kind == SHAPE_RELEASE)
            return false;
        if (!script_has_savepoint(&session->script, shape->statement)) {
            error_set(&err, "3B001", "savepoint \"%.*s\" does not exist", SLICE_FMT(shape->statement));
            fail_here(request, &err);
            return true;
        }
        break;
    case SHAPE_SAVEPOINT:
    case SHAPE_SET_LOCAL:
        if (failed)
            return false;
        if (refuse_long(request, text))
            return true;
        break;
    default:
        return false;
    }
    transaction_follow(session, shape, text);
    session->path_local |= shape->kind == SHAPE_SET_LOCAL && slice_is(shape->setting, "search_path");
    session->tx = TX_BLOCK;
    local_tag(request, tag_of(shape->kind), TX_BLOCK);
    return true;
}

/* Several participants, or one that has died. */
static bool control_all(Request *request, const Shape *shape)
{
    Session *session = request->session;
    bool failed = session->tx == TX_FAILED;
    switch (shape->kind) {
    case SHAPE_COMMIT:
        commit_transaction(request, failed ? COMMIT_UNDO : COMMIT_DO, shape->traits & SHAPE_HAS_CHAIN);
        return true;
    case SHAPE_ROLLBACK:
        commit_transaction(request, COMMIT_UNDO, shape->traits & SHAPE_HAS_CHAIN);
        return true;
    case SHAPE_ROLLBACK_TO:
        if (session->tx_lost)
            return false;
        break;
    case SHAPE_SAVEPOINT:
    case SHAPE_SET_LOCAL:
        if (!failed && refuse_long(request, request->planned[0].text))
            return true;
        break;
    case SHAPE_RELEASE:
    case SHAPE_SET:
    case SHAPE_RESET:
    case SHAPE_RESET_ALL:
        break;
    default:
        return false;
    }
    if (failed && shape->kind != SHAPE_ROLLBACK_TO)
        return false;
    scatter_on_all(request);
    return true;
}

/* The one participant knows of the failure. It does not when another shard could not even be reached: its
 * COMMIT would commit half of the transaction. */
static bool server_agrees(const Session *session)
{
    for (uint32_t i = 0; i < session->part_count; i++)
        if (session->parts[i].tx != TX_IDLE && session->parts[i].tx != session->tx)
            return false;
    return true;
}

/* A snapshot is one server's; with another server's rows beside it, it would promise what nobody keeps. */
static bool refuse_snapshot(Request *request, const Shape *shape)
{
    Error err;
    if (!shape || shape->kind != SHAPE_SET_LOCAL || !slice_is(shape->setting, "transaction snapshot") ||
        session_database(request->session, request->session->worker->topology)->shard_count == 1)
        return false;
    error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED, "a snapshot cannot be shared over several shards");
    error_detail(&err, "Each shard of a transaction has a snapshot of its own.");
    error_hint(&err, "pg_dump: leave out -j.");
    dispatch_error(request, &err);
    return true;
}

bool transaction_control(Request *request, const Shape *shape)
{
    Session *session = request->session;
    if (refuse_snapshot(request, shape))
        return true;
    if (shape && shape->kind == SHAPE_BEGIN && session->tx == TX_IDLE) {
        begin(request, without_semicolon(request->planned[0].text));
        return true;
    }
    if (!session->spread)
        return false;
    uint32_t size = transaction_size(session);
    bool failed = session->tx == TX_FAILED;
    bool left_to_server = size == 1 && !session->tx_lost && server_agrees(session);
    if (shape && (size == 0 && !session->tx_lost ? control_lazy(request, shape)
                  : !left_to_server             ? control_all(request, shape)
                                                : false))
        return true;
    if (!failed || left_to_server)
        return false;
    Error err;
    error_set(&err, "25P02",
              "current transaction is aborted, commands ignored until end of transaction block");
    local_error(request, &err, TX_FAILED);
    return true;
}
