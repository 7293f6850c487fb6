/*
 * n1.c - one session and its loop.
 *
 *     n1_watch   parent? ── n1_begin: rows are remembered while they pass (n1_on_row)
 *                child?  ── follow: one turn more; where in the rows are we?
 *                other   ── harmless SELECT, or everything fetched ahead is thrown away
 *     n1_answer  kept and still good ──> its rows                       (no statement)
 *                confirmed, allowed  ──> one batch for the rows to come (one statement)
 *                else                ──> false: the request goes its usual way
 *     n1_on_end  what it cost
 *
 * Nothing here runs for a session whose statements do not repeat, but count_repeats.
 */
#include "router/n1.h"

#include <stdlib.h>

#include "core/clock.h"
#include "router/dispatch.h"
#include "router/n1_loop.h"
#include "router/worker_state.h"

#define PATIENCE       8 /* times what a statement takes alone */
#define FOLLOW_IDLE_US ((uint64_t)2000 * 1000) /* a loop that has stood still for longer is forgotten */

/* A driver may send BEGIN and its first statement in one series (JDBC). */
static const PlanStatement *select_of(const Request *request)
{
    uint32_t count = request->planned_count;
    const PlanStatement *last = count ? &request->planned[count - 1] : NULL;
    bool alone = count == 1 || (count == 2 && request->planned[0].shape->kind == SHAPE_BEGIN);
    return alone && last->executed && last->shape->kind == SHAPE_SELECT && !last->shape->shoal_call ? last
                                                                                                   : NULL;
}

static WriteScope scope_of(const Session *session)
{
    const Topology *topology = session->worker->topology;
    return (WriteScope){.topology = topology,
                        .database = session->database_index,
                        .user = slice_str(session->user),
                        .search_path = session_search_path(session, topology),
                        .names_unsure = session->path_unknown || session->path_local ||
                                        session->temporary || session->tx_ddl};
}

/* ---- what the session does otherwise ------------------------------------------------------------- */

static bool has_nocase(Slice text, Slice word)
{
    for (size_t at = 0; at + word.len <= text.len; at++)
        if (slice_equal_nocase(slice_of(text.data + at, word.len), word))
            return true;
    return false;
}

static N1Isolation isolation_of(Slice value)
{
    return has_nocase(value, SLICE("repeatable read"))    ? N1_REPEATABLE_READ
           : has_nocase(value, SLICE("read committed"))   ? N1_READ_COMMITTED
           : has_nocase(value, SLICE("read uncommitted")) ? N1_READ_COMMITTED
                                                          : N1_NO_ISOLATION;
}

/* What a transaction begins with when BEGIN says nothing. */
static N1Isolation default_isolation(const Session *session)
{
    const GucEntry *entry = guc_find(session->gucs, SLICE("default_transaction_isolation"));
    const Catalog *catalog = session->worker->topology->catalogs[session->database_index];
    if (entry)
        return isolation_of(entry->value);
    return catalog->isolation_unusual ? N1_NO_ISOLATION : N1_READ_COMMITTED;
}

static bool sets_isolation(const Shape *shape)
{
    for (uint32_t i = 0; i < shape->part_count; i++)
        if (sets_isolation(shape->parts[i]))
            return true;
    bool sets = shape->kind == SHAPE_BEGIN || shape->kind == SHAPE_SET || shape->kind == SHAPE_SET_LOCAL;
    return sets && has_nocase(shape->setting, SLICE("isolation")) && isolation_of(shape->setting_value) != N1_READ_COMMITTED;
}

bool n1_may_keep_snapshot(const Request *request)
{
    const Session *session = request->session;
    for (uint32_t i = 0; i < request->planned_count; i++)
        if (sets_isolation(request->planned[i].shape))
            return true;
    return session->tx == TX_IDLE ? default_isolation(session) != N1_READ_COMMITTED : session->n1.isolation != N1_READ_COMMITTED;
}

static void note_isolation(Session *session, const Shape *shape, bool in_transaction)
{
    bool level = slice_is(shape->setting, "transaction_isolation");
    for (uint32_t i = 0; i < shape->part_count; i++)
        note_isolation(session, shape->parts[i], session->tx != TX_IDLE);
    switch (shape->kind) {
    case SHAPE_BEGIN:
        if (in_transaction)
            session->n1.isolation = N1_NO_ISOLATION; /* a warning, and who knows */
        else
            session->n1.isolation = (uint8_t)(level ? isolation_of(shape->setting_value)
                                                    : default_isolation(session));
        break;
    case SHAPE_SET:
    case SHAPE_SET_LOCAL:
        if (level)
            session->n1.isolation = (uint8_t)isolation_of(shape->setting_value);
        break;
    default:
        break;
    }
}

static void note_request(Request *request)
{
    Session *session = request->session;
    for (uint32_t i = 0; i < request->planned_count; i++)
        note_isolation(session, request->planned[i].shape, session->tx != TX_IDLE);
    if (session->tx != TX_IDLE || request->planned_count != 1)
        session->n1.portal_left |= request->max_rows > 0;
    if (!worker_config(session->worker)->prefetch_stale)
        return;
    WriteScope scope = scope_of(session);
    for (uint32_t i = 0; i < request->planned_count; i++)
        write_set_add_writes(&session->n1.wrote, &scope, request->planned[i].shape);
    for (uint32_t i = 0; i < request->step_count; i++)
        if (request->steps[i].op == TASK_FUNCTION)
            session->n1.wrote.full = true;
}

/* Does nothing that an answer kept for this session could depend on. Parse and Describe alone do not
 * either; a portal of before, executed now, may do anything. */
static bool is_harmless(const Request *request)
{
    const Session *session = request->session;
    const PlanStatement *statement = select_of(request);
    if (request->planned_count == 0) {
        for (uint32_t i = 0; i < request->step_count; i++)
            if (request->steps[i].op == TASK_EXECUTE || request->steps[i].op == TASK_FUNCTION)
                return false;
        return true;
    }
    if (!statement || request->planned_count != 1 || !shape_is_read(statement->shape) ||
        (statement->shape->traits & (SHAPE_LEAVES_STATE | SHAPE_HAS_TEMP)))
        return false;
    WriteScope scope = scope_of(session);
    const Catalog *catalog = scope.topology->catalogs[scope.database];
    const Shape *shape = statement->shape;
    for (uint32_t i = 0; i < shape->table_count; i++) {
        const CatalogTable *table =
            catalog->loaded ? catalog_resolve_table(catalog, shape->tables[i].name.schema, shape->tables[i].name.name,
                                                    scope.search_path, scope.user)
                            : NULL;
        if (!table || table->row_security || table->kind == 'v' || table->kind == 'f')
            return false; /* what stands behind it may call anything */
    }
    return !write_scope_calls_unknown(&scope, shape);
}

/* ---- 1 counting ---------------------------------------------------------------------------------- */

/* The parent is looked at from now on; this loop itself is only counted. */
static void suspect(Session *session, uint32_t period, const Shape *shape)
{
    N1Watch *watch = &session->n1;
    Worker *worker = session->worker;
    const Config *config = worker_config(worker);
    if (!watch->origin[period - 1])
        return; /* nothing came before it */
    watch->run = shape->hash;
    watch->run_origin = watch->origin[period - 1];
    N1Pattern *pattern = n1_book_suspect(&worker->n1, session->database, watch->origin[period - 1],
                                         shape->hash, shape->template_text);
    if (!pattern || pattern->loops)
        return; /* known: it is followed where its parent was seen */
    if (!watch->loop)
        watch->loop = n1_loop_create();
    if (watch->loop)
        n1_loop_suspect(watch->loop, &worker->n1, pattern, config->n1_loop_min);
}

/* seen: [h0 h1 h2 h3] newest first. Period 2 is at work when each SELECT equals the one two before. */
static void count_repeats(Session *session, const Shape *shape)
{
    N1Watch *watch = &session->n1;
    uint32_t turns = worker_config(session->worker)->n1_loop_min - 1;
    bool shorter = false;
    for (uint32_t period = 1; period <= N1_PERIODS; period++) {
        uint16_t *matches = &watch->matches[period - 1];
        if (shape->hash != watch->seen[period - 1]) {
            *matches = 0;
            continue;
        }
        if (*matches == 0) /* behind another run (A BBB CCC) both belong to what came before */
            watch->origin[period - 1] =
                watch->seen[period] == watch->run ? watch->run_origin : watch->seen[period];
        *matches += *matches < UINT16_MAX;
        uint32_t wanted = period * turns;
        if (!shorter && *matches > wanted - period && *matches <= wanted)
            suspect(session, period, shape);
        shorter |= *matches >= wanted - period;
    }
    for (uint32_t i = N1_PERIODS; i > 0; i--)
        watch->seen[i] = watch->seen[i - 1];
    watch->seen[0] = shape->hash;
}

/* ---- 2 remembering ------------------------------------------------------------------------------- */

static void begin(Request *request, N1Parent *parent, const PlanStatement *statement)
{
    Session *session = request->session;
    Worker *worker = session->worker;
    const Config *config = worker_config(worker);
    if (!session->n1.loop)
        session->n1.loop = n1_loop_create();
    N1Loop *loop = session->n1.loop;
    if (!loop)
        return;
    if (!parent->text)
        parent->text = strndup((const char *)statement->shape->template_text.data,
                               statement->shape->template_text.len);
    n1_loop_begin(loop, &worker->n1, parent);
    loop->used_us = worker->loop.now_us;
    if (worker->n1.memory >= config->n1_memory_max) {
        loop->lack = N1_WHY_MEMORY;
        return;
    }
    WireFormats formats = statement->bind ? statement->bind->result_formats : WIRE_FORMATS_NONE;
    parent_rows_begin(&loop->rows, formats, config->n1_rows_max, config->n1_bytes_max);
    request->n1_parent = true;
}

void n1_on_row(Request *request, Slice body)
{
    if (request->session->n1.loop)
        parent_rows_add(&request->session->n1.loop->rows, body);
}

/* ---- 3 following --------------------------------------------------------------------------------- */

static uint64_t literal_hash(const PlanStatement *statement, const ShapeValue *value, Arena *arena)
{
    const ShapeLiteral *literal = &statement->literals[value->index];
    Slice text = shape_literal_value(statement->text, literal, arena);
    if (literal->class != SHAPE_LITERAL_STRING && value->negative) {
        char *signed_text = arena_printf(arena, "-%.*s", SLICE_FMT(text));
        return signed_text ? provenance_hash(slice_str(signed_text), FORMAT_TEXT) : 0;
    }
    return provenance_hash(text, FORMAT_TEXT);
}

/* The values that the statement compares columns with, as a loop sees them. */
static uint32_t read_values(const PlanStatement *statement, Arena *arena, uint64_t *hashes,
                            PrefetchLink *links)
{
    const Shape *shape = statement->shape;
    uint32_t count = 0;
    for (uint32_t i = 0; i < shape->equal_count && count < PROVENANCE_VALUES_MAX; i++) {
        const ShapeValue *value = &shape->equals[i].value;
        links[count] = (PrefetchLink){value->kind, value->index};
        hashes[count] = 0;
        if (value->kind == SHAPE_VALUE_LITERAL) {
            hashes[count++] = literal_hash(statement, value, arena);
        } else if (value->kind == SHAPE_VALUE_PARAM && statement->bind &&
                   value->index <= statement->bind->param_count) {
            BindParam param = bind_param_at(statement->bind, value->index - 1);
            if (!param.is_null)
                hashes[count] =
                    provenance_hash(param.value, bind_param_format(statement->bind, value->index - 1));
            count++;
        }
    }
    return count;
}

static void follow(Request *request, N1Pattern *pattern)
{
    Session *session = request->session;
    N1Loop *loop = session->n1.loop;
    N1Track *track = n1_loop_track(loop, pattern);
    uint64_t hashes[PROVENANCE_VALUES_MAX];
    if (!track)
        return;
    loop->used_us = session->worker->loop.now_us;
    request->n1_track = (uint8_t)(track - loop->tracks + 1);
    arena_reset(&session->worker->scratch);
    uint32_t count = read_values(&request->planned[0], &session->worker->scratch, hashes, track->values);
    n1_loop_turn(loop, track, hashes, count, worker_config(session->worker));
}

void n1_watch(Request *request)
{
    Session *session = request->session;
    Worker *worker = session->worker;
    const PlanStatement *statement = select_of(request);
    N1Loop *loop = session->n1.loop;
    request->n1_watched = true;
    note_request(request);
    N1Pattern *child = NULL;
    if (loop && loop->parent && statement && request->planned_count == 1)
        child = n1_parent_pattern(loop->parent, statement->shape->hash);
    if (loop && !child && n1_loop_keeps(loop) && !is_harmless(request))
        n1_loop_throw(loop, &worker->n1);
    if (!statement || !worker_config(worker)->n1)
        return;
    if (child) {
        follow(request, child);
    } else if (n1_book_may_know(&worker->n1, statement->shape->hash)) {
        N1Parent *parent = n1_book_parent(&worker->n1, session->database, statement->shape->hash);
        if (parent && parent->quiet_until_us <= worker->loop.now_us)
            begin(request, parent, statement);
    }
    count_repeats(session, statement->shape);
}

/* ---- 4 asking ahead ------------------------------------------------------------------------------ */

bool n1_follows(const Request *request)
{
    const N1Loop *loop = request->session->n1.loop;
    if (!request->n1_track || !loop)
        return false;
    const N1Track *track = &loop->tracks[request->n1_track - 1];
    return track->ahead || track->pattern->confirmed >= N1_CONFIRMATIONS;
}

static uint32_t age_of_table(const Config *config, const DatabaseConfig *database, const CatalogTable *table,
                             uint32_t otherwise)
{
    const TableConfig *own = config_table(config, database->name, table->schema, table->name);
    return own && own->prefetch_max_age_ms ? own->prefetch_max_age_ms : otherwise;
}

/* How old an answer to this statement may be; 0: not at all. The strictest of its tables decides. */
static uint32_t max_age_ms(const Session *session, const Shape *shape, const WriteScope *scope)
{
    const Config *config = worker_config(session->worker);
    const DatabaseConfig *database = &config->databases[session->database_index];
    const UserConfig *user = config_user(config, slice_str(session->user));
    uint32_t common = user && user->prefetch_max_age_ms ? user->prefetch_max_age_ms
                                                        : database->prefetch_max_age_ms;
    uint32_t age = UINT32_MAX;
    if (!config->prefetch_stale || shape->table_count == 0)
        return 0;
    for (uint32_t i = 0; i < shape->table_count; i++) {
        const CatalogTable *table =
            catalog_resolve_table(scope->topology->catalogs[scope->database], shape->tables[i].name.schema,
                                  shape->tables[i].name.name, scope->search_path, scope->user);
        age = MIN(age, table ? age_of_table(config, database, table, common) : 0);
    }
    return age;
}

static bool is_distributed(const Shape *shape, const WriteScope *scope)
{
    const Catalog *catalog = scope->topology->catalogs[scope->database];
    if (!topology_database_sharded(scope->topology, scope->database))
        return false;
    for (uint32_t i = 0; i < shape->table_count; i++) {
        const CatalogTable *table = catalog_resolve_table(catalog, shape->tables[i].name.schema,
                                                          shape->tables[i].name.name, scope->search_path,
                                                          scope->user);
        if (!table || topology_table(scope->topology, scope->database, table->schema, table->name))
            return true;
    }
    return false;
}

static bool asks_clock(const Shape *shape)
{
    for (uint32_t i = 0; i < shape->function_count; i++)
        if (slice_is(shape->functions[i].name, "statement_timestamp"))
            return true;
    return false;
}

/* May it be answered ahead in this session now? *ret_age: 0 where that is exact. */
static N1Why allowed(const Request *request, const N1Track *track, const WriteScope *scope, bool held,
                     uint32_t *ret_age)
{
    const Session *session = request->session;
    const Config *config = worker_config(session->worker);
    const Shape *shape = request->planned[0].shape;
    *ret_age = 0;
    if (!config->prefetch)
        return N1_WHY_OFF;
    if (track->pattern->paused_until_us > session->worker->loop.now_us)
        return track->pattern->wasteful ? N1_WHY_WASTED : N1_WHY_FAILED;
    if (scope->names_unsure || (held && session->n1.portal_left))
        return N1_WHY_TRANSACTION;
    if (is_distributed(shape, scope))
        return N1_WHY_SHARDED;
    if (session->worker->n1.memory >= config->n1_memory_max)
        return N1_WHY_MEMORY;
    if (held && session->n1.isolation == N1_REPEATABLE_READ)
        return asks_clock(shape) ? N1_WHY_CLOCK : N1_WHY_NONE;
    if (held ? session->n1.isolation != N1_READ_COMMITTED : default_isolation(session) == N1_NO_ISOLATION)
        return N1_WHY_ISOLATION;
    *ret_age = max_age_ms(session, shape, scope);
    return *ret_age ? N1_WHY_NONE : N1_WHY_READ_COMMITTED;
}

static bool still_good(const Request *request, const N1Track *track)
{
    const Session *session = request->session;
    const Worker *worker = session->worker;
    if (track->version != worker->topology->published.version || track->tx != session->tx ||
        !reads_origin_keeps(request, &track->origin))
        return false;
    if (!track->age_ms)
        return true;
    uint64_t age_us = clock_now_us() - prefetch_asked_us(track->ahead);
    return age_us <= (uint64_t)track->age_ms * 1000 &&
           write_epochs_sum(worker->options.epochs, &track->reads) == track->epoch;
}

static void note_sent(Request *request, N1Track *track)
{
    Session *session = request->session;
    request->task_active = request->batched = request->n1_ahead = true;
    track->pattern->why = N1_WHY_NONE;
    session->n1.loop->used_us = session->worker->loop.now_us;
}

/* Where a statement takes long anyway (a busy machine, a far server), a batch may, too. */
static uint32_t wait_ms(const Config *config, const N1Pattern *pattern)
{
    return (uint32_t)MIN(MAX(config->prefetch_wait_ms, PATIENCE * pattern->alone_us / 1000), 60000);
}

static bool ask(Request *request, N1Track *track, const BatchCandidate *candidate, Backend *held)
{
    Session *session = request->session;
    Worker *worker = session->worker;
    N1Pattern *pattern = track->pattern;
    const Config *config = worker_config(worker);
    WriteScope scope = scope_of(session);
    uint32_t age_ms;
    pattern->why = allowed(request, track, &scope, held, &age_ms);
    if (pattern->why)
        return false;
    track->reads = (WriteSet){0};
    if (age_ms && !write_set_add_reads(&track->reads, &scope, request->planned[0].shape)) {
        pattern->why = N1_WHY_TRANSACTION;
        return false;
    }
    PrefetchInput input = {.candidate = candidate,
                           .held = held,
                           .on_refused = dispatch_refused,
                           .bytes_max = config->n1_bytes_max,
                           .wait_ms = wait_ms(config, pattern)};
    if (!n1_loop_guess(session->n1.loop, track, &worker->scratch, config->n1_rows_max, &input))
        return false;
    track->epoch = write_epochs_sum(worker->options.epochs, &track->reads);
    track->version = worker->topology->published.version;
    track->tx = session->tx;
    track->origin = reads_origin(request);
    track->age_ms = age_ms;
    track->ahead = prefetch_start(worker->batcher, &input, &request->task, &pattern->reason);
    if (!track->ahead) {
        pattern->why = N1_WHY_BATCH;
        return false;
    }
    pattern->prefetches++;
    pattern->fetched += prefetch_keys(track->ahead);
    note_sent(request, track);
    return true;
}

bool n1_answer(Request *request, const BatchCandidate *candidate, Backend *held)
{
    Session *session = request->session;
    N1Loop *loop = session->n1.loop;
    if (!n1_follows(request))
        return false;
    N1Track *track = &loop->tracks[request->n1_track - 1];
    if (track->ahead && (prefetch_state(track->ahead) != PREFETCH_READY || !still_good(request, track)))
        n1_track_throw(loop, track, &session->worker->n1);
    if (!track->ahead)
        return ask(request, track, candidate, held);
    BatchCandidate same = *candidate; /* what is kept belongs to the pool that it came from */
    same.pool = held ? candidate->pool : reads_origin_pool(request, &track->origin);
    Sink *asks = request->task.sink;
    request->task.sink = &request->sink; /* no server is asked: it is no Read any more */
    if (!same.pool || !prefetch_answer(track->ahead, &same, &request->task)) {
        request->task.sink = asks;
        return false;
    }
    request->read = NULL;
    track->hits++;
    track->pattern->saved++;
    note_sent(request, track);
    return true;
}

/* ---- ends ---------------------------------------------------------------------------------------- */

void n1_on_done(Session *session)
{
    if (session->n1.wrote.count || session->n1.wrote.full)
        write_epochs_increase(session->worker->options.epochs, &session->n1.wrote);
}

static void note_time(const Request *request, N1Pattern *pattern)
{
    uint64_t us = clock_now_us() - request->times.arrived_us;
    pattern->spent_us += us;
    if (!request->n1_ahead)
        pattern->alone_us = pattern->alone_us ? (7 * pattern->alone_us + us) / 8 : us;
}

void n1_on_end(Request *request, char tx_status)
{
    Session *session = request->session;
    N1Watch *watch = &session->n1;
    N1Loop *loop = watch->loop;
    n1_on_done(session);
    if (tx_status == TX_IDLE) {
        watch->wrote = (WriteSet){0};
        watch->isolation = N1_READ_COMMITTED;
        watch->portal_left = false;
    } else if (request->error_seen) {
        watch->isolation = N1_NO_ISOLATION; /* what was set may not be what is in force */
    }
    if (!loop)
        return;
    if (request->n1_parent)
        n1_loop_remembered(loop, request->error_seen);
    if (request->n1_track)
        note_time(request, loop->tracks[request->n1_track - 1].pattern);
    if (request->n1_parent || request->n1_track)
        n1_loop_account(loop, &session->worker->n1);
}

void n1_sweep(Session *session, uint64_t now_us)
{
    N1Loop *loop = session->n1.loop;
    if (!loop || session->running || now_us < loop->used_us + FOLLOW_IDLE_US)
        return;
    n1_loop_free(loop, &session->worker->n1);
    session->n1.loop = NULL;
}

void n1_finish(Session *session)
{
    n1_on_done(session); /* it may have been committed without anybody being told */
    n1_loop_free(session->n1.loop, &session->worker->n1);
    session->n1.loop = NULL;
}
