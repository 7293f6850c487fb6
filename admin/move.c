/*
 * move.c - what drives a move: one step after the other, each in all its databases at once.
 *
 *     take(step):  state and step into the store ─> begin: conversations are started
 *                       ─> rows come in ─> the last one is over ─> end: next step, or look again
 *     trouble:     by state: undo (moving), let the fence go and try again (fenced), or repeat (all others)
 *
 * A step is "ensure": whatever a crashed predecessor left, either it does not matter or undoing has
 * taken it away before. Nothing here waits; nothing here is called from two places at once: a step
 * runs, or a timer is armed, or the move rests.
 */
#include "admin/move_sql.h"
#include "admin/move_steps.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "admin/control_state.h"
#include "admin/move_clean.h"
#include "admin/moves.h"
#include "core/clock.h"
#include "core/failpoint.h"
#include "meta/pin.h"

#define RETRY_MS       500
#define RETRY_MAX_MS   10000
#define LOCK_RETRIES   40 /* of a step that finds something in use, before the move is undone; a lock is waited for as long as it takes */
#define LOCK_MS         300u
#define ATTEMPTS_MAX   3

static const char *const STATE_NAMES[MOVE_STATE_COUNT] = {
    [MOVE_PLANNED] = "planned",     [MOVE_MOVING] = "moving",       [MOVE_SWITCHED] = "switched",
    [MOVE_RETURNING] = "returning", [MOVE_UNDOING] = "undoing",     [MOVE_FINISHING] = "finishing",
    [MOVE_DONE] = "done",           [MOVE_CANCELLED] = "cancelled", [MOVE_FAILED] = "failed"};

static void move_begin(Move *move);
static void move_trouble(Move *move);
static void move_on_time(Timer *timer);
static bool ask_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void ask_on_done(PgClient *client, const Error *err);

static const PgClientEvents ASK_EVENTS = {.on_result = ask_on_result, .on_done = ask_on_done};

const char *move_state_name(MoveState state)
{
    return STATE_NAMES[state];
}

bool move_state_read(const char *name, MoveState *ret)
{
    for (int i = 0; i < MOVE_STATE_COUNT; i++) {
        if (strcmp(STATE_NAMES[i], name) == 0) {
            *ret = (MoveState)i;
            return true;
        }
    }
    return false;
}

/* ---- birth and death ------------------------------------------------------------------------- */

Move *move_create(Control *control, const StoreMove *row, Error *err)
{
    Move *move = calloc(1, sizeof *move);
    if (!move) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return NULL;
    }
    move->control = control;
    list_init(&move->link);
    arena_init(&move->arena, 4096);
    arena_init(&move->scratch, 65536);
    timer_init(&move->timer, &control->loop, move_on_time, move);
    move->id = row->id;
    move->source = arena_text(&move->arena, slice_str(row->source));
    move->target = arena_text(&move->arena, slice_str(row->target));
    move->buckets_text = arena_text(&move->arena, slice_str(row->buckets));
    move->attempts = row->attempts;
    move->created_wall_us = row->created_wall_us;
    move->changed_wall_us = row->changed_wall_us;
    snprintf(move->reason, sizeof move->reason, "%s", row->reason);
    /* A step that only withdraws follows on nothing that had copied. */
    move->copied = *row->step && strncmp(row->step, "withdraw", 8) != 0 && move_step_copies(row->step);
    if (!move->source || !move->target || !move->buckets_text) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    } else if (!move_state_read(row->state, &move->state)) {
        error_set(err, SQLSTATE_DATA_CORRUPTED, "move %" PRIu64 " has the unknown state \"%s\"", row->id,
                  row->state);
    } else if (bucket_set_read(slice_str(row->buckets), control->map->bucket_count, &move->arena,
                               &move->buckets, err)) {
        return move;
    }
    move_free(move);
    return NULL;
}

static void legs_free(Move *move)
{
    for (uint32_t i = 0; i < move->leg_count; i++) {
        MoveLeg *leg = &move->legs[i];
        move_copy_close(&leg->copy);
        watch_end(leg);
        for (int s = 0; s < SIDE_COUNT; s++)
            pg_client_close(&leg->asks[s].client);
        for (int d = 0; d < 2; d++) {
            free(leg->digests[d].text);
            free(leg->facts[d]);
        }
    }
    free(move->legs);
    move->legs = NULL;
    move->leg_count = 0;
}

void move_free(Move *move)
{
    if (!move)
        return;
    list_remove(&move->link);
    timer_stop(&move->timer);
    move_load_stop(move);
    drain_stop(&move->drain);
    legs_free(move);
    arena_finish(&move->scratch);
    arena_finish(&move->arena);
    free(move);
}

/* ---- legs: one per database with hash tables -------------------------------------------------- */

static bool concerns(const Move *move, const Table *table);

static bool has_buckets(const Move *move, const Topology *topology, uint32_t database)
{
    for (uint32_t i = 0; i < topology->table_count; i++)
        if (topology->tables[i].database == database && topology->tables[i].kind == TABLE_HASH &&
            concerns(move, &topology->tables[i]))
            return true;
    return false;
}

/* Dropped, maybe since the move began: there is nothing of it to be moved, or to be taken away. */
static bool has_gone(const Topology *topology, const Table *table)
{
    const Catalog *catalog = topology->catalogs[table->database];
    return catalog->loaded && !catalog_table(catalog, table->schema, table->name);
}

/* A move of pinned values alone has nothing to do with tables that have no such value. */
static bool concerns(const Move *move, const Table *table)
{
    for (uint32_t b = 0; b < buckets_hashed(move->control->map->bucket_count); b++)
        if (bucket_set_has(&move->buckets, b))
            return true;
    for (uint32_t i = 0; i < table->place_count; i++)
        if (bucket_set_has(&move->buckets, table->places[i].bucket))
            return true;
    return false;
}

static bool leg_fill(MoveLeg *leg, const Topology *topology, uint32_t database)
{
    Arena *arena = &leg->move->arena;
    leg->database = arena_text(arena, slice_str(topology->config->databases[database].name));
    leg->tables = arena_array(arena, Table, topology->table_count);
    if (!leg->database || !leg->tables)
        return false;
    for (uint32_t i = 0; i < topology->table_count; i++) {
        const Table *from = &topology->tables[i];
        if (from->database != database || from->partition || /* its whole goes */
            from->kind != TABLE_HASH) /* the others have no buckets */
            continue;
        if (has_gone(topology, from) || !concerns(leg->move, from))
            continue;
        if (!table_keep(&leg->tables[leg->table_count++], from, arena))
            return false;
    }
    return true;
}

/* Which rows are in its buckets cannot be told: why. */
static bool leg_refuse(const Table *table, Error *err)
{
    if (!table_is_ready(table)) {
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "the key of table \"%.*s\" is not known yet",
                  SLICE_FMT(table->name));
        return false;
    }
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "buckets of table \"%.*s\" cannot be moved yet",
              SLICE_FMT(table->name));
    error_detail(err, "%s", tables_why_unmovable(table));
    return false;
}

static bool legs_make(Move *move, Error *err)
{
    Control *control = move->control;
    const Topology *topology = control->topology;
    legs_free(move);
    move->legs = calloc(MAX(topology->config->database_count, 1), sizeof *move->legs);
    if (!move->legs) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    for (uint32_t d = 0; d < topology->config->database_count; d++) {
        bool looked_at = move->state != MOVE_PLANNED && topology->config->databases[d].shard_count > 1;
        if (!has_buckets(move, topology, d) && !looked_at) /* something may be left where all tables have gone */
            continue;
        MoveLeg *leg = &move->legs[move->leg_count++];
        leg->move = move;
        leg->number = d;
        move_copy_init(&leg->copy, &control->loop, leg);
        for (int s = 0; s < SIDE_COUNT; s++) {
            leg->asks[s].leg = leg;
            leg->asks[s].side = (MoveSide)s;
            pg_client_init(&leg->asks[s].client, &control->loop, &ASK_EVENTS, &leg->asks[s]);
            leg->asks[s].client.sticky = s == SIDE_FENCE || s == SIDE_SNAPSHOT || s == SIDE_WATCH;
        }
        if (!leg_fill(leg, topology, d)) {
            error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
            return false;
        }
        for (uint32_t t = 0; t < leg->table_count; t++) {
            if (!bucket_sql_knows(&leg->tables[t], control->map->bucket_count))
                return leg_refuse(&leg->tables[t], err);
        }
    }
    return true;
}

/* ---- conversations --------------------------------------------------------------------------- */

void move_no_memory(Move *move)
{
    Error err;
    error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    move_fail(move, &err);
}

void move_ask_add(MoveLeg *leg, MoveSide side, const char *sql)
{
    MoveAsk *ask = &leg->asks[side];
    if (!sql) {
        move_no_memory(leg->move);
        return;
    }
    if (ask->count == MOVE_QUERIES_MAX) {
        Error err;
        error_set(&err, SQLSTATE_LIMIT_EXCEEDED, "too many tables in one database for a move");
        move_fail(leg->move, &err);
        return;
    }
    ask->queries[ask->count++] = (PgQuery){.sql = sql};
}

/* Who stands on that side now; NULL when the shard or the database is not in shards.ini any more. */
static const ServerConfig *side_server(const MoveLeg *leg, MoveSide side)
{
    const Move *move = leg->move;
    const Config *config = move->control->config;
    bool target = side == SIDE_TARGET || (side == SIDE_FENCE && move->backwards);
    const char *name = target ? move->target : move->source;
    for (uint32_t i = 0; i < config->shard_count; i++) {
        if (strcmp(config->shards[i].name, name) == 0)
            return control_primary(move->control, i);
    }
    return NULL;
}

bool move_login(const MoveLeg *leg, MoveSide side, PgLogin *ret)
{
    const Config *config = leg->move->control->config;
    const DatabaseConfig *database = config_database(config, slice_str(leg->database));
    const ServerConfig *server = side_server(leg, side);
    if (!database || !server)
        return false;
    *ret = control_login(config, database, server);
    ret->replication = side == SIDE_SNAPSHOT;
    return true;
}

void move_ask_run(MoveLeg *leg, MoveSide side, uint64_t timeout_ms)
{
    MoveAsk *ask = &leg->asks[side];
    PgLogin login;
    if (leg->move->failed || ask->count == 0) {
        ask->count = 0;
        return;
    }
    if (!move_login(leg, side, &login)) {
        Error err;
        error_set(&err, SQLSTATE_CONFIG_FILE, "shard or database of move %" PRIu64 " is not configured",
                  leg->move->id);
        move_fail(leg->move, &err);
        return;
    }
    leg->move->pending++;
    pg_client_run(&ask->client, &login, ask->queries, ask->count, timeout_ms);
}

static bool ask_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    MoveAsk *ask = client->ctx;
    const MoveStep *step = ask->leg->move->step;
    return !step->rows || step->rows(ask->leg, ask->side, index, rows, err);
}

static void ask_on_done(PgClient *client, const Error *err)
{
    MoveAsk *ask = client->ctx;
    Move *move = ask->leg->move;
    ask->count = 0;
    if (err) {
        Error told = *err;
        if (!told.detail[0])
            error_detail(&told, "%s, database %s%s%s", side_server(ask->leg, ask->side)
                                                          ? side_server(ask->leg, ask->side)->name : "?",
                         ask->leg->database, client->why[0] ? ": " : "", client->why);
        move_fail(move, &told);
    }
    move_step_end(move);
}

void move_fail(Move *move, const Error *err)
{
    if (!move->failed)
        move->err = *err;
    move->failed = true;
}

void move_step_end(Move *move)
{
    assert(move->pending > 0);
    if (--move->pending > 0)
        return;
    move->running = false;
    if (move->failed)
        move_trouble(move);
    else
        move->step->end(move);
}

/* ---- for the steps ---------------------------------------------------------------------------- */

MoveSide move_from_side(const Move *move)
{
    return move->backwards ? SIDE_TARGET : SIDE_SOURCE;
}

MoveSide move_to_side(const Move *move)
{
    return move->backwards ? SIDE_SOURCE : SIDE_TARGET;
}

/* True when a failpoint says that the step fails here. */
bool move_fails_at(Move *move, const char *name)
{
    (void)name;
    FailAction action = FAILPOINT(name);
    if (action == FAIL_NONE)
        return false;
    Error err;
    failpoint_error(action, name, &err);
    move_fail(move, &err);
    return true;
}

/* A failure found in `end`: nothing runs any more, so it is handled like one of a conversation. */
void move_fail_now(Move *move)
{
    move->running = true;
    move->pending = 1;
    move_step_end(move);
}

/* ---- steps ----------------------------------------------------------------------------------- */

bool move_store(Move *move, Error *err)
{
    move->changed_wall_us = clock_wall_us();
    StoreMove row = move_row(move);
    return store_put_move(move->control->store, &row, err);
}

StoreMove move_row(const Move *move)
{
    return (StoreMove){.id = move->id,
                       .source = move->source,
                       .target = move->target,
                       .buckets = move->buckets_text,
                       .state = move_state_name(move->state),
                       .step = move->step ? move->step->name : "",
                       .attempts = move->attempts,
                       .reason = move->reason,
                       .created_wall_us = move->created_wall_us,
                       .changed_wall_us = move->changed_wall_us};
}

/* A commit of unknown outcome: whoever goes on may give rows to the wrong owner. The next start reads
 * what is true (H67). */
void move_stop_the_world(const Move *move, const Error *err)
{
    log_error("store", err);
    log_line(LOG_ERROR, "move", "move %" PRIu64 ": it is unknown what the store holds; shoald ends here, "
             "and finds out when it starts", move->id);
    _exit(74);
}

void move_again(Move *move, uint64_t after_ms)
{
    timer_start_ms(&move->timer, after_ms);
}

static void move_on_time(Timer *timer)
{
    Move *move = timer->ctx;
    if (!move->running && move->step)
        move_begin(move);
}

/* The step's conversations begin; also for another look. */
static void move_begin(Move *move)
{
    assert(!move->running);
    arena_reset(&move->scratch);
    move->running = true;
    move->failed = false;
    move->pending = 1; /* ours: a step without conversations ends here */
    for (uint32_t i = 0; i < move->leg_count; i++) {
        for (int s = 0; s < SIDE_COUNT; s++)
            move->legs[i].asks[s].count = 0;
    }
    move->step->begin(move);
    move_step_end(move);
}

/* What the move is spent on, and what the pause, for people. */
void move_note_phase(Move *move)
{
    size_t used = strlen(move->phases);
    if (move->step)
        move_times_add(&move->times, move->step->name, clock_now_us() - move->step_since_us);
    if (move->fenced && move->step)
        snprintf(move->phases + used, sizeof move->phases - used, "%s%s %" PRIu64, used ? ", " : "", move->step->name,
                 (clock_now_us() - move->step_since_us) / 1000);
}

void move_take(Move *move, const MoveStep *step)
{
    Error err;
    bool stored = step->quiet && step->state == move->state;
    move_note_phase(move);
    move->step = step;
    move->state = step->state;
    move->copied |= step->state != MOVE_UNDOING && move_step_copies(step->name);
    move->step_since_us = clock_now_us();
    move->retries = 0;
    log_line(LOG_DEBUG, "move", "move %" PRIu64 ": %s", move->id, step->name);
    if (!stored && !move_store(move, &err)) {
        if (store_failed(move->control->store))
            move_stop_the_world(move, &err);
        move_fail(move, &err);
        move_trouble(move);
        return;
    }
    if (move->wish == MOVE_WISH_CANCEL && move->state == MOVE_MOVING && !move->fenced) {
        error_set(&err, SQLSTATE_QUERY_CANCELED, "cancelled by an operator");
        move_fail(move, &err);
        move_trouble(move);
        return;
    }
    move_again(move, 0);
}

void move_next(Move *move)
{
    move_take(move, move->step + 1);
}

/* ---- trouble --------------------------------------------------------------------------------- */

static uint64_t backoff_ms(const Move *move)
{
    uint64_t ms = (uint64_t)RETRY_MS << MIN(move->retries, 5);
    return MIN(ms, RETRY_MAX_MS);
}

static void repeat_later(Move *move)
{
    if (move->retries == 0)
        log_line(LOG_WARNING, "move", "move %" PRIu64 ", %s: %s (%s); tried again", move->id,
                 move->step->name, move->err.message, move->err.detail);
    move->retries++;
    move_again(move, backoff_ms(move));
}

/* Clients queue behind us while we wait, so the first try is short; where statements are many and slow, a short one would
 * never succeed. */
uint32_t move_lock_ms(const Move *move)
{
    return LOCK_MS << MIN(move->retries, 3);
}

bool move_waits_for_lock(const Move *move)
{
    return move->step && move->retries > 0 && error_is(&move->err, "55P03");
}

/* Those that wait for us or for whom we waited too long: nothing is wrong, only busy. */
static bool is_busy(const Error *err)
{
    return error_is(err, "55P03") || error_is(err, "40P01") || error_is(err, SQLSTATE_OBJECT_IN_USE);
}

static void forward_trouble(Move *move)
{
    bool busy = is_busy(&move->err);
    if (move->fenced) {
        move_unfence(move);
        if (busy && ++move->fence_attempts < move->control->config->move_fence_attempts) {
            log_line(LOG_INFO, "move", "move %" PRIu64 ": the fence was let go (%s), tried again", move->id,
                     move->err.message);
            move->step = move_step_catch_up();
            move->retries = move->fence_attempts;
            move_again(move, backoff_ms(move));
            return;
        }
    } else if (busy && move->wish != MOVE_WISH_CANCEL && (++move->retries < LOCK_RETRIES || move_waits_for_lock(move))) {
        move_again(move, move->retries < LOCK_RETRIES ? RETRY_MS : RETRY_MAX_MS);
        return;
    }
    snprintf(move->reason, sizeof move->reason, "%.200s%s%.190s", move->err.message,
             move->err.detail[0] ? ": " : "", move->err.detail);
    char text[600];
    snprintf(text, sizeof text, "move %" PRIu64 " is undone (%s): %s", move->id, move->step->name, move->reason);
    control_event(move->control, LOG_WARNING, "move", text);
    move_undo(move);
}

/* It goes on with those that there are, when the catalog knows which. */
static void forget_tables(Move *move)
{
    log_line(LOG_INFO, "move", "move %" PRIu64 ", %s: %s; looking again", move->id, move->step->name,
             move->err.message);
    move->step = NULL;
    moves_look_again(move->control);
}

static void move_trouble(Move *move)
{
    if (move->control->stopping)
        return;
    if (store_failed(move->control->store))
        move_stop_the_world(move, &move->err);
    switch (move->state) {
    case MOVE_PLANNED:
    case MOVE_MOVING:
        forward_trouble(move);
        return;
    case MOVE_RETURNING:
        move_unfence(move);
        snprintf(move->reason, sizeof move->reason, "rollback gave up: %.300s", move->err.message);
        move->wish = MOVE_WISH_NONE;
        move->backwards = false;
        move_take(move, move_step_rest());
        return;
    default:
        if (error_is(&move->err, SQLSTATE_UNDEFINED_TABLE)) /* dropped behind the switch, as it may be */
            forget_tables(move);
        else
            repeat_later(move);
    }
}

/* Cleaning begins with connections that hold nothing. */
static void drop_conversations(Move *move)
{
    timer_stop(&move->timer);
    move_load_stop(move);
    for (uint32_t i = 0; i < move->leg_count; i++) {
        move_copy_close(&move->legs[i].copy);
        watch_end(&move->legs[i]);
        for (int s = 0; s < SIDE_COUNT; s++)
            pg_client_close(&move->legs[i].asks[s].client);
    }
    move->running = false;
    move->pending = 0;
}

void move_undo(Move *move)
{
    drop_conversations(move);
    move->reverse_made = false;
    move_take(move, move->copied ? move_step_undo() : move_step_withdraw());
}

/* The state is final, or planned again. */
void move_rest(Move *move, MoveState state)
{
    Error err;
    drop_conversations(move);
    legs_free(move);
    move->state = state;
    move->step = NULL;
    move->backwards = false;
    if (!move_store(move, &err)) {
        if (store_failed(move->control->store))
            move_stop_the_world(move, &err);
        log_error("move", &err);
    }
    if (move_is_over(move)) {
        char text[700];
        snprintf(text, sizeof text, "move %" PRIu64 " of buckets %.80s from %s to %s: %s%s%s", move->id,
                 move->buckets_text, move->source, move->target, move_state_name(state),
                 move->reason[0] ? ": " : "", move->reason);
        control_event(move->control, LOG_INFO, "move", text);
    }
    if (!control_publish(move->control, &err)) /* the next publication tells it */
        log_error("move", &err);
    moves_on_rest(move->control, move);
}

bool move_gives_up(const Move *move)
{
    return move->attempts >= ATTEMPTS_MAX;
}

/* ---- what others ask for --------------------------------------------------------------------- */

void move_start(Move *move)
{
    Error err;
    if (!legs_make(move, &err)) {
        /* Before anything was begun that is a refusal; later it is waited for. */
        if (move->state == MOVE_PLANNED) {
            snprintf(move->reason, sizeof move->reason, "%s", err.message);
            move_rest(move, MOVE_FAILED);
        } else {
            log_error("move", &err);
            moves_look_later(move->control);
        }
        return;
    }
    move->begun_us = clock_now_us();
    switch (move->state) {
    case MOVE_PLANNED:
        move->attempts++;
        move->copied = move->reverse_made = move->announced = false;
        move->rows = move->bytes = move->rows_expected = move->bytes_expected = move->deleted = 0;
        move->fence_attempts = 0;
        move_times_reset(&move->times);
        move_load_start(move);
        move_take(move, move_step_first());
        return;
    case MOVE_MOVING:
        snprintf(move->reason, sizeof move->reason, "the router was restarted while moving");
        move_undo(move);
        return;
    case MOVE_UNDOING:
        move_undo(move);
        return;
    case MOVE_SWITCHED:
    case MOVE_RETURNING:
        move_take(move, move_step_switched());
        return;
    case MOVE_FINISHING:
        move_take(move, move_step_finish());
        return;
    default:
        return;
    }
}

/* Asks are taken up between two steps; a move that only waits is woken. */
void move_ask_for(Move *move, MoveWish wish)
{
    move->wish = wish;
    if (wish == MOVE_WISH_CANCEL && move->state == MOVE_MOVING && move->step && !move->fenced) {
        Error err;
        error_set(&err, SQLSTATE_QUERY_CANCELED, "cancelled by an operator");
        move->failed = false;
        move_fail(move, &err);
        move_trouble(move);
        return;
    }
    if (move->state == MOVE_PLANNED && wish == MOVE_WISH_CANCEL && !move->step) {
        snprintf(move->reason, sizeof move->reason, "cancelled by an operator");
        move_rest(move, MOVE_CANCELLED);
        return;
    }
    if (move->step && !move->running && timer_armed(&move->timer))
        move_again(move, 0);
}
