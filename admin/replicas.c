/*
 * replicas.c - SHOW REPLICAS and SHOW REPLICA_LAG.
 *
 *     console ──Report──> worker 0 ──> worker 1 ──> back: reads by server ┐
 *     probes: role, lag, age, state, why ─────────────────────────────────┴─> one row a server
 */
#include "admin/replicas.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "admin/answer.h"
#include "admin/control_state.h"
#include "core/clock.h"
#include "router/doubt.h"
#include "router/reads.h"
#include "wire/value.h"

static const char *number(Arena *arena, uint64_t value)
{
    return arena_printf(arena, "%" PRIu64, value);
}

static const char *wall_text(Arena *arena, uint64_t wall_us)
{
    time_t seconds = (time_t)(wall_us / 1000000);
    struct tm tm;
    char text[32];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    return arena_printf(arena, "%s UTC", text);
}

bool show_replica_lag(Control *control, Call *call, const Command *command,
                      const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {{"server", WIRE_OID_TEXT}, {"at", WIRE_OID_TEXT}, {"lag_ms", WIRE_OID_INT8}, {"lag_bytes", WIRE_OID_INT8}};
    Arena *arena = &call->arena;
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t i = 0; control->probes.servers && i < control->probes.count; i++) {
        const ServerHealth *health = &control->probes.servers[i];
        for (uint32_t k = 1; health->lags && k <= LAG_SECONDS; k++) {
            const LagSecond *lag = &health->lags[(health->lag_next + LAG_SECONDS - k) % LAG_SECONDS];
            if (!lag->wall_us)
                break;
            const char *cells[] = {health->server->name, wall_text(arena, lag->wall_us),
                                   lag->lag_us == UINT64_MAX ? NULL : number(arena, lag->lag_us / 1000),
                                   lag->lag_bytes == UINT64_MAX ? NULL : number(arena, lag->lag_bytes)};
            answer_row(call, cells, ARRAY_LEN(cells));
        }
    }
    answer_done(call, "SHOW");
    control_answer(control, call);
    return true;
}

/* ---- SHOW REPLICAS ------------------------------------------------------------------------------- */

enum { OWN_NAME, OWN_READS, OWN_INFLIGHT, OWN_LATENCY, OWN_HEDGES, OWN_WINS, OWN_COPIES, OWN_RERUNS, OWN_FAILURES,
       OWN_BREAKER, OWN_OPENED, OWN_DOUBT };

static const ReportRow *row_of(const Report *report, const char *server)
{
    for (const ReportRow *row = report->rows; row; row = row->next)
        if (strcmp(row->cells[OWN_NAME], server) == 0)
            return row;
    return NULL;
}

static uint64_t cell(const ReportRow *row, int i)
{
    return row ? strtoull(row->cells[i], NULL, 10) : 0;
}

/* Reads of all servers of the shard. */
static uint64_t shard_reads(const Control *control, const Report *report, uint32_t shard)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < control->probes.count; i++)
        if (control->config->servers[i]->shard == shard)
            total += cell(row_of(report, control->config->servers[i]->name), OWN_READS);
    return total;
}

/* After a stop of this process; NULL: nothing of it keeps anybody away from the server. */
static const char *doubt_text(DoubtWord word)
{
    static const char *const TEXTS[] = {
        [DOUBT_HELD] = "held: Shoal was stopped, and not all of the shard's servers have answered since",
        [DOUBT_SILENT] = "has not answered since Shoal was stopped: the primary is held until it does, or RESUME",
    };
    return (size_t)word < ARRAY_LEN(TEXTS) ? TEXTS[word] : NULL;
}

/* What keeps reads away; NULL when nothing does. */
static const char *why_out(const Control *control, const ServerHealth *health, const ReportRow *own,
                           bool primary, Arena *arena)
{
    const char *doubt = doubt_text((DoubtWord)cell(own, OWN_DOUBT));
    if (health->state != HEALTH_UP)
        return doubt ? arena_printf(arena, "%s; %s", health->why, doubt) : arena_text(arena, slice_str(health->why));
    if (doubt)
        return doubt;
    if (primary)
        return control->leaving[health->server->shard] == health->server->index
                   ? "paused: what runs may end there, everything else waits" : NULL;
    if (health->replay_paused)
        return "replay is paused";
    if (cell(own, OWN_BREAKER) != BREAKER_CLOSED)
        return "breaker is open";
    if (!health->receiver[0])
        return "receives nothing: no walreceiver";
    ServerStanding standing = standing_get(control->standings, health->server->index);
    if (control->config->max_lag_bytes && standing.lag_bytes > control->config->max_lag_bytes)
        return read_refusal_text(READ_LAGS_BYTES);
    bool lags = server_lag_us(health, clock_now_us()) > (uint64_t)control->config->max_lag_ms * 1000;
    return lags ? read_refusal_text(READ_LAGS) : NULL;
}

static void put_row(Control *control, Call *call, const Report *report, const ServerHealth *health)
{
    Arena *arena = &call->arena;
    const ServerConfig *server = health->server;
    const ReportRow *own = row_of(report, server->name);
    bool primary = server == control_primary(control, server->shard);
    uint64_t now_us = clock_now_us(), lag_us = server_lag_us(health, now_us);
    uint64_t total = shard_reads(control, report, server->shard), reads = cell(own, OWN_READS);
    ServerStanding standing = standing_get(control->standings, server->index);
    const char *cells[] = {
        control->config->shards[server->shard].name,
        server->name,
        primary ? "primary" : "replica",
        health_state_name(health->state),
        primary || lag_us == UINT64_MAX ? NULL : number(arena, lag_us / 1000),
        primary || standing.lag_bytes == UINT64_MAX || !health->answered ? NULL : number(arena, standing.lag_bytes),
        health->measured_us ? number(arena, (now_us - health->measured_us) / 1000) : NULL,
        health->timeline ? number(arena, health->timeline) : NULL,
        why_out(control, health, own, primary, arena),
        number(arena, reads),
        total ? arena_printf(arena, "%.1f", 100.0 * (double)reads / (double)total) : NULL,
        number(arena, cell(own, OWN_INFLIGHT)),
        number(arena, cell(own, OWN_LATENCY)),
        number(arena, cell(own, OWN_HEDGES)),
        number(arena, cell(own, OWN_WINS)),
        number(arena, cell(own, OWN_COPIES)),
        number(arena, cell(own, OWN_RERUNS)),
        number(arena, cell(own, OWN_FAILURES)),
        breaker_state_name((int)cell(own, OWN_BREAKER)),
        number(arena, cell(own, OWN_OPENED)),
    };
    answer_row(call, cells, ARRAY_LEN(cells));
}

static void replicas_on_reply(Mail *mail, void *owner)
{
    static const AnswerColumn COLUMNS[] = {
        {"shard", WIRE_OID_TEXT},        {"server", WIRE_OID_TEXT},       {"role", WIRE_OID_TEXT},
        {"state", WIRE_OID_TEXT},        {"lag_ms", WIRE_OID_INT8},       {"lag_bytes", WIRE_OID_INT8},
        {"measured_ms_ago", WIRE_OID_INT8}, {"timeline", WIRE_OID_INT8},  {"why", WIRE_OID_TEXT},
        {"reads", WIRE_OID_INT8},        {"share_percent", WIRE_OID_TEXT}, {"inflight", WIRE_OID_INT8},
        {"latency_us", WIRE_OID_INT8},   {"hedges", WIRE_OID_INT8},       {"hedge_wins", WIRE_OID_INT8},
        {"copies", WIRE_OID_INT8},
        {"reruns", WIRE_OID_INT8},       {"failures", WIRE_OID_INT8},     {"breaker", WIRE_OID_TEXT},
        {"breaker_opened", WIRE_OID_INT8},
    };
    Control *control = owner;
    Report *report = container_of(mail, Report, mail);
    Call *call = report->ctx;
    control->reports--;
    report_merge(report);
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t i = 0; control->probes.servers && i < control->probes.count; i++) {
        const ServerHealth *health = &control->probes.servers[i];
        if (control->config->shards[health->server->shard].replica_count)
            put_row(control, call, report, health);
    }
    report_free(report);
    answer_done(call, "SHOW");
    control_answer(control, call);
    control_stop_if_due(control);
}

bool show_replicas(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err)
{
    Report *report = report_create(REPORT_REPLICAS);
    if (!report) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    report->reply = &control->inbox;
    report->on_reply = replicas_on_reply;
    report->ctx = call;
    control->reports++;
    worker_report(control->workers, control->worker_count, report);
    return true;
}
