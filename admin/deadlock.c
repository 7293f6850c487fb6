/*
 * deadlock.c - looks at waiting server processes, and names both ends by client.
 *
 * While nobody waits this is one short query per primary and interval. pg_blocking_pids takes all lock
 * partitions for a moment, so it is asked for waiting processes only.
 */
#include "admin/deadlock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/answer.h"
#include "admin/catalog_loader.h"
#include "admin/control_state.h"
#include "router/verdict.h"
#include "wire/value.h"

#define LOOK_TIMEOUT_MS 2000
#define CONFIRM_MS      100
#define OFF_MS          5000 /* deadlock_interval = 0: is it still? */

static void deadlock_on_time(Timer *timer);
static bool watch_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void watch_on_done(PgClient *client, const Error *err);
static void look_map(Deadlock *deadlock);
static void look_judge(Deadlock *deadlock);
static void look_end(Deadlock *deadlock, uint64_t next_ms);

static const PgClientEvents EVENTS = {.on_result = watch_on_result, .on_done = watch_on_done};

static const PgQuery WAITS = {
    .sql = "SELECT a.pid, b.pid, coalesce(l.waitstart, a.query_start)::text,"
           " (extract(epoch FROM clock_timestamp() - coalesce(l.waitstart, a.query_start)) * 1000)::bigint,"
           " coalesce(l.mode, 'lock') || ' on ' || CASE WHEN l.relation IS NOT NULL THEN l.locktype || ' ' ||"
           "   l.relation::regclass::text ELSE coalesce(l.locktype, 'something') END,"
           " extract(epoch FROM a.xact_start)"
           " FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS b(pid)"
           " LEFT JOIN LATERAL (SELECT * FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted LIMIT 1) l ON true"
           " WHERE a.wait_event_type = 'Lock' LIMIT 1000"};

/* ---- life -------------------------------------------------------------------------------------------------- */

static bool is_shared(const Config *config, uint32_t shard)
{
    for (uint32_t i = 0; i < config->database_count; i++) {
        const DatabaseConfig *database = &config->databases[i];
        for (uint32_t s = 0; database->shard_count > 1 && s < database->shard_count; s++)
            if (database->shards[s] == shard)
                return true;
    }
    return false;
}

bool deadlock_init(Deadlock *deadlock, Control *control)
{
    const Config *config = control->config;
    *deadlock = (Deadlock){.control = control, .look = deadlock->look, .found = deadlock->found};
    arena_init(&deadlock->now.arena, 4096);
    arena_init(&deadlock->last.arena, 4096);
    arena_init(&deadlock->circle_arena, 1024);
    timer_init(&deadlock->timer, &control->loop, deadlock_on_time, deadlock);
    deadlock->watches = calloc(MAX(config->shard_count, 1), sizeof *deadlock->watches);
    if (!deadlock->watches)
        return false;
    for (uint32_t i = 0; i < config->shard_count; i++) {
        if (!is_shared(config, i))
            continue;
        LockWatch *watch = &deadlock->watches[deadlock->watch_count++];
        *watch = (LockWatch){.deadlock = deadlock, .shard = i};
        pg_client_init(&watch->client, &control->loop, &EVENTS, watch);
    }
    timer_start_ms(&deadlock->timer, config->deadlock_interval_ms ? config->deadlock_interval_ms : OFF_MS);
    return true;
}

void deadlock_finish(Deadlock *deadlock)
{
    if (!deadlock->control)
        return;
    timer_stop(&deadlock->timer);
    for (uint32_t i = 0; i < deadlock->watch_count; i++)
        pg_client_close(&deadlock->watches[i].client);
    free(deadlock->watches);
    arena_finish(&deadlock->now.arena);
    arena_finish(&deadlock->last.arena);
    arena_finish(&deadlock->circle_arena);
    *deadlock = (Deadlock){.look = deadlock->look, .found = deadlock->found};
}

uint64_t deadlock_kick(Deadlock *deadlock)
{
    if (!deadlock->control)
        return 0;
    if (deadlock->step == DEADLOCK_IDLE)
        timer_start_ms(&deadlock->timer, 0);
    else
        deadlock->again = true;
    return deadlock->look + 1;
}

/* ---- asking ------------------------------------------------------------------------------------------------ */

static const DatabaseConfig *database_on(const Config *config, uint32_t shard)
{
    for (uint32_t i = 0; i < config->database_count; i++)
        for (uint32_t s = 0; s < config->databases[i].shard_count; s++)
            if (config->databases[i].shards[s] == shard)
                return &config->databases[i];
    return NULL;
}

static bool worth_asking(const Control *control, uint32_t shard)
{
    const ServerConfig *server = control_primary(control, shard);
    return !control->probes.servers || control->probes.servers[server->index].state == HEALTH_UP;
}

static bool wanted(const Deadlock *deadlock)
{
    if (deadlock->control->config->deadlock_interval_ms)
        return true;
    LIST_EACH(link, &deadlock->control->jobs)
        if (list_entry(link, Job, link)->on_locked)
            return true;
    return false;
}

static void deadlock_on_time(Timer *timer)
{
    Deadlock *deadlock = timer->ctx;
    Control *control = deadlock->control;
    const Config *config = control->config;
    if (!wanted(deadlock)) {
        timer_start_ms(timer, OFF_MS);
        return;
    }
    deadlock->look++;
    deadlock->again = false;
    deadlock->step = DEADLOCK_ASKING;
    Arena arena = deadlock->now.arena;
    arena_reset(&arena);
    deadlock->now = (LockLook){.arena = arena, .complete = true};
    deadlock->pending = 1;
    for (uint32_t i = 0; i < deadlock->watch_count; i++) {
        LockWatch *watch = &deadlock->watches[i];
        if (!worth_asking(control, watch->shard))
            continue;
        PgLogin login = control_login(config, database_on(config, watch->shard), control_primary(control, watch->shard));
        pg_client_run(&watch->client, &login, &WAITS, 1, LOOK_TIMEOUT_MS);
        deadlock->pending++;
    }
    if (--deadlock->pending == 0)
        look_map(deadlock);
}

static WaitEdge *edge_add(LockLook *look)
{
    if (look->edge_count == look->edge_room) {
        uint32_t room = MAX(look->edge_room * 2, 32);
        WaitEdge *edges = arena_array(&look->arena, WaitEdge, room);
        if (!edges)
            return NULL;
        if (look->edge_count)
            memcpy(edges, look->edges, look->edge_count * sizeof *edges);
        look->edges = edges;
        look->edge_room = room;
    }
    return &look->edges[look->edge_count++];
}

static bool watch_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    LockWatch *watch = client->ctx;
    LockLook *look = &watch->deadlock->now;
    for (int i = 0; i < PQntuples(rows); i++) {
        const char *since = arena_text(&look->arena, pg_slice(rows, i, 2));
        const char *what = arena_text(&look->arena, pg_slice(rows, i, 4));
        WaitEdge *edge = since && what ? edge_add(look) : NULL;
        if (!edge) {
            look->complete = false;
            return true;
        }
        *edge = (WaitEdge){.shard = watch->shard,
                           .pid = pg_u64(rows, i, 0),
                           .blocker_pid = pg_u64(rows, i, 1),
                           .since = since,
                           .what = what,
                           .waited_ms = pg_u64(rows, i, 3),
                           .begun = strtod(PQgetvalue(rows, i, 5), NULL),
                           .waiter = -1,
                           .blocker = -1};
    }
    return true;
}

static void watch_on_done(PgClient *client, const Error *err)
{
    LockWatch *watch = client->ctx;
    Deadlock *deadlock = watch->deadlock;
    if (--deadlock->pending == 0)
        look_map(deadlock);
}

/* ---- whose processes they are -------------------------------------------------------------------------------- */

static int client_index(LockLook *look, const ReportRow *row, uint32_t room)
{
    uint64_t id = strtoull(row->cells[0], NULL, 10);
    for (uint32_t i = 0; i < look->client_count; i++)
        if (look->clients[i].id == id)
            return (int)i;
    if (look->client_count == room)
        return -1;
    LockClient *client = &look->clients[look->client_count];
    *client = (LockClient){.id = id,
                           .worker = strtoull(row->cells[1], NULL, 10),
                           .statements = strtoull(row->cells[7], NULL, 10),
                           .user = arena_text(&look->arena, slice_str(row->cells[4])),
                           .database = arena_text(&look->arena, slice_str(row->cells[5])),
                           .peer = arena_text(&look->arena, slice_str(row->cells[6]))};
    return client->user && client->database && client->peer ? (int)look->client_count++ : -1;
}

static void take_holding(Deadlock *deadlock, const ReportRow *row, uint32_t room)
{
    LockLook *look = &deadlock->now;
    uint64_t pid = strtoull(row->cells[3], NULL, 10);
    int client = -2; /* not looked for yet */
    for (uint32_t i = 0; i < look->edge_count; i++) {
        WaitEdge *edge = &look->edges[i];
        if ((edge->pid != pid && edge->blocker_pid != pid) ||
            strcmp(control_primary(deadlock->control, edge->shard)->name, row->cells[2]) != 0)
            continue;
        if (client == -2)
            client = client_index(look, row, room);
        if (edge->pid == pid)
            edge->waiter = client;
        else
            edge->blocker = client;
    }
}

static void holdings_on_reply(Mail *mail, void *owner)
{
    Control *control = owner;
    Report *report = container_of(mail, Report, mail);
    Deadlock *deadlock = &control->deadlock;
    control->reports--;
    if (deadlock->control && deadlock->step == DEADLOCK_MAPPING && deadlock->look == (uint64_t)(uintptr_t)report->ctx) {
        uint32_t room = 2 * deadlock->now.edge_count;
        deadlock->now.clients = arena_array(&deadlock->now.arena, LockClient, room + 1);
        for (const ReportRow *row = report->rows; deadlock->now.clients && row; row = row->next)
            take_holding(deadlock, row, room);
        look_judge(deadlock);
    }
    report_free(report);
    control_stop_if_due(control);
}

static void look_map(Deadlock *deadlock)
{
    Control *control = deadlock->control;
    Report *report = deadlock->now.edge_count && control->ready ? report_create(REPORT_HOLDINGS) : NULL;
    deadlock->step = DEADLOCK_MAPPING;
    if (!report) {
        deadlock->circle_count = 0;
        look_end(deadlock, control->config->deadlock_interval_ms);
        return;
    }
    report->reply = &control->inbox;
    report->on_reply = holdings_on_reply;
    report->ctx = (void *)(uintptr_t)deadlock->look;
    control->reports++;
    worker_report(control->workers, control->worker_count, report);
}

/* ---- circles ------------------------------------------------------------------------------------------------- */

/* The client of the circle whose transaction is the youngest, by its edge; -1: none is ours. */
static int youngest(const LockLook *look, const uint32_t *circle, uint32_t count)
{
    int best = -1;
    for (uint32_t i = 0; i < count; i++) {
        const WaitEdge *edge = &look->edges[circle[i]];
        if (edge->waiter >= 0 && (best < 0 || edge->begun > look->edges[best].begun))
            best = (int)circle[i];
    }
    return best;
}

static void end_text(const Deadlock *deadlock, const LockLook *look, int client, uint64_t pid, char *ret, size_t size)
{
    if (client >= 0)
        snprintf(ret, size, "client %" PRIu64 " (%s, %s)", look->clients[client].id, look->clients[client].user,
                 look->clients[client].peer);
    else if (pid)
        snprintf(ret, size, "server process %" PRIu64, pid);
    else
        snprintf(ret, size, "a prepared transaction");
}

static void circle_detail(const Deadlock *deadlock, const uint32_t *circle, uint32_t count, char *ret, size_t size)
{
    const LockLook *look = &deadlock->now;
    size_t at = 0;
    ret[0] = '\0';
    for (uint32_t i = 0; i < count && at < size - 1; i++) {
        const WaitEdge *edge = &look->edges[circle[i]];
        char waiter[160], blocker[160];
        end_text(deadlock, look, edge->waiter, edge->pid, waiter, sizeof waiter);
        end_text(deadlock, look, edge->blocker, edge->blocker_pid, blocker, sizeof blocker);
        int n = snprintf(ret + at, size - at, "%s%c%s waits for %s on shard %s; blocked by %s.", i ? "\n" : "",
                         waiter[0] == 'c' ? 'C' : waiter[0], waiter + 1, edge->what,
                         deadlock->control->config->shards[edge->shard].name, blocker);
        at += MIN((size_t)n, size - at - 1);
    }
}

static void deadlock_break(Deadlock *deadlock, const uint32_t *circle, uint32_t count, int edge)
{
    Control *control = deadlock->control;
    const LockClient *client = &deadlock->now.clients[deadlock->now.edges[edge].waiter];
    char detail[480], text[700];
    Error err;
    circle_detail(deadlock, circle, count, detail, sizeof detail);
    error_set(&err, "40P01", "deadlock detected");
    error_detail(&err, "%s", detail);
    error_hint(&err, "The clients wait for each other on different shards. Run the transaction again.");
    deadlock->found++;
    snprintf(text, sizeof text, "client %" PRIu64 " is cancelled: %s", client->id, detail);
    for (char *c = text; *c; c++)
        *c = *c == '\n' ? ' ' : *c;
    control_event(control, LOG_WARNING, "deadlock", text);
    if (client->worker < control->worker_count)
        verdict_send(control->workers[client->worker], client->id, client->statements, &err);
}

/* For the second look. */
static void circle_keep(Deadlock *deadlock, const uint32_t *circle, uint32_t count)
{
    arena_reset(&deadlock->circle_arena);
    deadlock->circle = arena_array(&deadlock->circle_arena, WaitEdge, count + 1);
    deadlock->circle_count = deadlock->circle ? count : 0;
    for (uint32_t i = 0; i < deadlock->circle_count; i++) {
        deadlock->circle[i] = deadlock->now.edges[circle[i]];
        deadlock->circle[i].since = arena_text(&deadlock->circle_arena, slice_str(deadlock->circle[i].since));
        if (!deadlock->circle[i].since)
            deadlock->circle_count = 0;
    }
}

static void look_judge(Deadlock *deadlock)
{
    LockLook *look = &deadlock->now;
    uint32_t interval_ms = deadlock->control->config->deadlock_interval_ms;
    uint32_t *circle = arena_array(&look->arena, uint32_t, look->edge_count + 1);
    uint32_t count = circle ? wait_graph_circle(look->edges, look->edge_count, circle, &look->arena) : 0;
    int victim = count ? youngest(look, circle, count) : -1;
    if (victim < 0) {
        deadlock->circle_count = 0;
        look_end(deadlock, interval_ms);
        return;
    }
    if (deadlock->circle_count &&
        wait_graph_persists(deadlock->circle, deadlock->circle_count, look->edges, look->edge_count)) {
        deadlock_break(deadlock, circle, count, victim);
        deadlock->circle_count = 0;
        look_end(deadlock, interval_ms);
        return;
    }
    circle_keep(deadlock, circle, count);
    look_end(deadlock, CONFIRM_MS);
}

static void look_end(Deadlock *deadlock, uint64_t next_ms)
{
    LockLook done = deadlock->now;
    deadlock->now = deadlock->last;
    deadlock->last = done;
    deadlock->step = DEADLOCK_IDLE;
    timer_start_ms(&deadlock->timer, deadlock->again ? 0 : next_ms ? next_ms : OFF_MS);
    jobs_on_locks(deadlock->control, deadlock->look);
}

/* ---- SHOW LOCKS ------------------------------------------------------------------------------------------------ */

static void show_on_free(Job *job)
{
    free(job);
}

static void show_on_locked(Job *job)
{
    static const AnswerColumn COLUMNS[] = {
        {"shard", WIRE_OID_TEXT},     {"waited_ms", WIRE_OID_INT8},  {"lock", WIRE_OID_TEXT},
        {"waiter", WIRE_OID_INT8},    {"waiter_name", WIRE_OID_TEXT}, {"waiter_pid", WIRE_OID_INT8},
        {"blocker", WIRE_OID_INT8},   {"blocker_name", WIRE_OID_TEXT}, {"blocker_pid", WIRE_OID_INT8}};
    Control *control = job->control;
    Arena *arena = &job->call->arena;
    const LockLook *look = &control->deadlock.last;
    answer_columns(job->call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t i = 0; i < look->edge_count; i++) {
        const WaitEdge *edge = &look->edges[i];
        char names[2][160];
        const int ends[] = {edge->waiter, edge->blocker};
        const uint64_t pids[] = {edge->pid, edge->blocker_pid};
        const char *ids[2];
        for (int e = 0; e < 2; e++) {
            end_text(&control->deadlock, look, ends[e], pids[e], names[e], sizeof names[e]);
            ids[e] = ends[e] >= 0 ? arena_printf(arena, "%" PRIu64, look->clients[ends[e]].id) : NULL;
        }
        const char *cells[] = {control->config->shards[edge->shard].name,
                               arena_printf(arena, "%" PRIu64, edge->waited_ms),
                               edge->what,
                               ids[0],
                               names[0],
                               arena_printf(arena, "%" PRIu64, edge->pid),
                               ids[1],
                               names[1],
                               edge->blocker_pid ? arena_printf(arena, "%" PRIu64, edge->blocker_pid) : NULL};
        answer_row(job->call, cells, ARRAY_LEN(cells));
    }
    answer_done(job->call, "SHOW");
    job_end(job, NULL);
}

bool show_locks(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err)
{
    Job *job = calloc(1, sizeof *job);
    if (!job) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    job_start(job, control, call, show_on_free);
    job_wait_locks(job, show_on_locked);
    return true;
}
