/*
 * report_fill.c - a worker's rows, on the report's way from worker to worker.
 *
 *     control ──> worker 0 ──> worker 1 ──> ... ──> control, merged there (report.c)
 */
#include "router/report.h"

#include "core/clock.h"
#include "router/commit.h"
#include "router/doubt.h"
#include "router/reads.h"
#include "router/request.h"
#include "router/worker_state.h"

#define CELLS_MAX         24
#define TEMPLATE_CELL_MAX 120 /* bytes of a statement in SHOW BATCHES */

typedef struct Cells {
    Arena *arena;
    const char *at[CELLS_MAX];
    uint32_t count;
    const Spread *spread; /* of the newest cell, when it is one's */
} Cells;

/* `text` lives as long as the report. */
static void cell_put(Cells *cells, const char *text)
{
    assert(cells->count < CELLS_MAX);
    cells->at[cells->count++] = text;
}

static void cell_slice(Cells *cells, Slice text)
{
    cell_put(cells, arena_text(cells->arena, text));
}

static void cell_text(Cells *cells, const char *text)
{
    if (text)
        cell_slice(cells, slice_str(text));
    else
        cell_put(cells, NULL);
}

static void cell_int(Cells *cells, uint64_t value)
{
    char digits[20], *at = digits + sizeof digits;
    do
        *--at = (char)('0' + value % 10);
    while (value /= 10);
    cell_slice(cells, slice_of(at, (size_t)(digits + sizeof digits - at)));
}

static void cell_rate(Cells *cells, double per_s)
{
    cell_int(cells, (uint64_t)(per_s + 0.5));
}

static void cell_spread(Cells *cells, const Spread *spread)
{
    if (spread && spread == cells->spread) /* several figures of one spread */
        cell_put(cells, cells->at[cells->count - 1]);
    else
        cell_put(cells, spread ? spread_text(spread, cells->arena) : NULL);
    cells->spread = spread;
}

/* Long statements are cut: a screen at 3 a.m. is not wide. */
static void cell_template(Cells *cells, Slice text)
{
    bool cut = text.len > TEMPLATE_CELL_MAX;
    size_t len = cut ? TEMPLATE_CELL_MAX : text.len;
    while (cut && len && (text.data[len] & 0xc0) == 0x80)
        len--; /* not in the middle of a character */
    cell_put(cells, arena_printf(cells->arena, "%.*s%s", (int)len, (const char *)text.data,
                                 cut ? "..." : ""));
}

static const char *client_state(const Session *session)
{
    switch (session->state) {
    case SESSION_LOGIN:
        return "login";
    case SESSION_ACTIVE:
        return session->request_count ? "active" : session->tx != TX_IDLE ? "in transaction" : "idle";
    default:
        return "closing";
    }
}

static void report_clients(Worker *worker, Report *report)
{
    LIST_EACH(link, &worker->sessions) {
        const Session *session = list_entry(link, Session, link);
        Cells c = {.arena = &report->arena};
        char tx[2] = {session->tx, 0};
        cell_int(&c, session->id);
        cell_text(&c, session->user);
        cell_text(&c, session->database);
        cell_put(&c, client_state(session));
        cell_text(&c, tx);
        cell_text(&c, session->peer);
        cell_text(&c, session->tls ? "yes" : "no");
        cell_int(&c, worker->options.index);
        cell_int(&c, session->request_count);
        cell_int(&c, session->statement_total);
        if (session->part_count)
            cell_int(&c, (uint64_t)backend_server_pid(session->parts[0].backend));
        else
            cell_text(&c, NULL);
        cell_text(&c, session->pinned ? "yes" : "no");
        cell_int(&c, session->statements.count);
        cell_int(&c, (worker->loop.now_us - session->connected_us) / 1000000);
        cell_slice(&c, session_application(session));
        if (!report_add(report, c.at))
            return;
    }
}

typedef struct ServerRows {
    Worker *worker;
    Report *report;
} ServerRows;

static void report_backend(Backend *backend, void *ctx)
{
    ServerRows *rows = ctx;
    Pool *pool = backend_pool(backend);
    Cells c = {.arena = &rows->report->arena};
    char tx[2] = {backend_tx_status(backend), 0};
    uint64_t since = backend_connected_us(backend);
    cell_int(&c, backend_id(backend));
    cell_text(&c, pool_server(pool)->name);
    cell_slice(&c, pool_database(pool));
    cell_slice(&c, pool_user(pool));
    cell_text(&c, backend_state_name(backend_state(backend)));
    cell_text(&c, tx[0] ? tx : NULL);
    cell_int(&c, (uint64_t)backend_server_pid(backend));
    cell_int(&c, rows->worker->options.index);
    cell_int(&c, since ? (rows->worker->loop.now_us - since) / 1000000 : 0);
    report_add(rows->report, c.at);
}

static void report_servers(Worker *worker, Report *report)
{
    ServerRows rows = {worker, report};
    size_t cursor = 0;
    Pool *pool;
    while ((pool = pool_set_next(worker->pools, &cursor)))
        pool_each_backend(pool, report_backend, &rows);
}

static void report_pools(Worker *worker, Report *report)
{
    size_t cursor = 0;
    Pool *pool;
    while ((pool = pool_set_next(worker->pools, &cursor))) {
        const PoolStats *s = pool_stats(pool);
        Cells c = {.arena = &report->arena};
        cell_text(&c, pool_server(pool)->name);
        cell_slice(&c, pool_database(pool));
        cell_slice(&c, pool_user(pool));
        cell_int(&c, pool_size(pool));
        const Counter *counters[] = {&s->active, &s->idle, &s->held, &s->connecting, &s->waiting,
                                     &s->tasks, &s->waits, &s->wait_us, &s->connects,
                                     &s->connect_failures, &s->losses, &s->cancels, &s->parses,
                                     &s->bytes_in, &s->bytes_out};
        for (size_t i = 0; i < ARRAY_LEN(counters); i++)
            cell_int(&c, counter_get(counters[i]));
        if (!report_add(report, c.at))
            return;
    }
}

static void report_batches(Worker *worker, Report *report)
{
    static const char *const TIERS[] = {"-", "A", "B", "C", "W"};
    size_t cursor = 0;
    BatchTemplateInfo info;
    while (batcher_next_template(worker->batcher, &cursor, &info)) {
        Cells c = {.arena = &report->arena};
        /* Tier C and W save round trips and commits, not statements. */
        bool saves = info.tier == BATCH_TIER_KEYS || info.tier == BATCH_TIER_ORDINAL;
        Spread cost = {0};
        if (info.cost_us)
            spread_add(&cost, info.cost_us);
        const Spread *service = info.service_us ? info.service_us : info.cost_us ? &cost : NULL;
        cell_template(&c, info.text);
        cell_text(&c, info.pool);
        cell_text(&c, info.profile);
        cell_put(&c, TIERS[info.tier]);
        cell_put(&c, batch_reason_text(info.reason)->code);
        cell_rate(&c, info.per_s);
        cell_int(&c, info.statements);
        cell_int(&c, info.alone);
        cell_int(&c, info.batches);
        cell_int(&c, info.keys);
        cell_int(&c, saves ? info.statements - MIN(info.batches, info.statements) : 0);
        cell_int(&c, info.members - MIN(info.keys, info.members));
        cell_int(&c, info.retried);
        cell_int(&c, info.size_max);
        cell_spread(&c, info.size);
        cell_spread(&c, info.wait_us);
        cell_spread(&c, info.wait_us);
        cell_spread(&c, service);
        cell_spread(&c, service);
        cell_spread(&c, service);
        cell_int(&c, info.batch_max);
        cell_int(&c, info.inflight_max);
        cell_int(&c, info.proofs);
        if (!report_add(report, c.at))
            return;
    }
}

static void report_reasons(Worker *worker, Report *report)
{
    const BatcherStats *stats = batcher_stats(worker->batcher);
    for (int reason = BATCH_OK + 1; reason < BATCH_REASON_COUNT; reason++) {
        const BatchReasonText *text = batch_reason_text((BatchReason)reason);
        uint64_t count = counter_get(&stats->reasons[reason]);
        Cells c = {.arena = &report->arena};
        cell_put(&c, text->code);
        if (text->rule)
            cell_int(&c, (uint64_t)text->rule);
        else
            cell_text(&c, NULL);
        cell_int(&c, count);
        cell_put(&c, text->help);
        if (count && !report_add(report, c.at))
            return;
    }
}

static void report_statements(Worker *worker, Report *report)
{
    LIST_EACH (link, &worker->digests.lru) {
        const Digest *digest = list_entry(link, Digest, lru);
        Cells c = {.arena = &report->arena};
        cell_template(&c, slice_str(digest->text));
        cell_text(&c, digest->database);
        cell_put(&c, digest->kind);
        cell_int(&c, digest->calls);
        cell_rate(&c, rate_get(&digest->rate, worker->loop.now_us));
        cell_int(&c, digest->errors);
        cell_int(&c, digest->batched);
        cell_put(&c, digest->asked ? batch_reason_text(digest->reason)->code : NULL);
        cell_spread(&c, &digest->spread_us);
        cell_spread(&c, &digest->spread_us);
        cell_spread(&c, &digest->spread_us);
        cell_int(&c, digest->max_us);
        cell_int(&c, digest->total_us);
        if (!report_add(report, c.at))
            return;
    }
}

static void report_replicas(Worker *worker, Report *report)
{
    const Config *config = worker_config(worker);
    for (uint32_t i = 0; i < MIN(config->server_count, worker->reads->server_count); i++) {
        const ReadServer *s = &worker->reads->servers[i];
        Cells c = {.arena = &report->arena};
        cell_text(&c, config->servers[i]->name);
        cell_int(&c, counter_get(&s->reads));
        cell_int(&c, s->inflight);
        cell_int(&c, s->latency_us);
        cell_int(&c, counter_get(&s->hedges));
        cell_int(&c, counter_get(&s->hedge_wins));
        cell_int(&c, counter_get(&s->copies));
        cell_int(&c, counter_get(&s->reruns));
        cell_int(&c, counter_get(&s->failures));
        cell_int(&c, (uint64_t)s->breaker.state);
        cell_int(&c, s->breaker.opened);
        cell_int(&c, (uint64_t)doubt_word(worker, i));
        if (!report_add(report, c.at))
            return;
    }
}

/* What only happened to repeat once is not shown: a single client that asks the same for ever. */
static void report_n1(Worker *worker, Report *report)
{
    for (N1Pattern *p = n1_book_next(&worker->n1, NULL); p; p = n1_book_next(&worker->n1, p)) {
        Cells c = {.arena = &report->arena};
        if (!p->parent->text || (p->loops < 2 && !p->confirmed))
            continue;
        cell_text(&c, p->parent->database);
        cell_template(&c, slice_str(p->parent->text));
        cell_template(&c, slice_str(p->text));
        if (p->link_count)
            cell_int(&c, p->links[0].column + 1u);
        else
            cell_text(&c, NULL);
        cell_int(&c, p->loops);
        cell_int(&c, p->statements);
        cell_int(&c, p->statements / MAX(p->loops, 1));
        cell_int(&c, p->statements_max);
        cell_int(&c, p->spent_us);
        cell_int(&c, p->saved);
        cell_int(&c, p->prefetches);
        cell_int(&c, p->fetched);
        cell_text(&c, p->why ? "no" : "yes");
        if (p->why == N1_WHY_BATCH)
            cell_text(&c, arena_printf(&report->arena, "%s: %s", n1_why_text(p->why),
                                       batch_reason_text(p->reason)->code));
        else
            cell_text(&c, n1_why_text(p->why));
        if (!report_add(report, c.at))
            return;
    }
}

/* `name` must live as long as the report. */
static void stat_row(Report *report, const char *name, uint64_t value)
{
    Cells c = {.arena = &report->arena};
    cell_put(&c, name);
    cell_int(&c, value);
    report_add(report, c.at);
}

/* The counter takes a session's bytes over when it ends. */
static uint64_t bytes_out_of_living(const Worker *worker)
{
    uint64_t bytes = 0;
    LIST_EACH (link, &worker->sessions)
        bytes += list_entry(link, Session, link)->stream.bytes_out;
    LIST_EACH (link, &worker->closing)
        bytes += list_entry(link, Session, link)->stream.bytes_out;
    return bytes;
}

static void report_read_rules(Worker *worker, Report *report)
{
    const Reads *reads = worker->reads;
    for (int i = 0; i < READ_RULE_COUNT; i++) {
        const char *name = arena_printf(&report->arena, "reads_%s", read_rule_text((ReadRule)i));
        if (name)
            stat_row(report, name, counter_get(&reads->rules[i]));
    }
    stat_row(report, "reads_fallback", counter_get(&reads->fallbacks));
    stat_row(report, "reads_refused", counter_get(&reads->refused));
    stat_row(report, "reads_late", counter_get(&reads->late));
    stat_row(report, "reads_late_stale", counter_get(&reads->late_stale));
}

static void report_stats(Worker *worker, Report *report)
{
    static const char *const PLANS[PLAN_KIND_COUNT] = {
        [PLAN_DIRECT] = "plans_direct",     [PLAN_WRITE] = "plans_write",
        [PLAN_SCATTER] = "plans_scatter",   [PLAN_DDL] = "plans_ddl",
        [PLAN_INSERT] = "plans_insert",     [PLAN_INSERT_SELECT] = "plans_insert_select",
        [PLAN_MERGE] = "plans_merge",       [PLAN_COPY_IN] = "plans_copy_in",
        [PLAN_COPY_OUT] = "plans_copy_out", [PLAN_LOCAL] = "plans_local",
        [PLAN_PROBE] = "plans_probe",       [PLAN_REJECT] = "plans_reject"};
    const WorkerStats *s = &worker->stats;
    const BatcherStats *b = batcher_stats(worker->batcher);
    stat_row(report, "clients", counter_get(&s->clients));
    stat_row(report, "connections", counter_get(&s->connections));
    stat_row(report, "logins_refused", counter_get(&s->refused));
    stat_row(report, "http_on_pg_port", counter_get(&s->http_requests));
    stat_row(report, "bad_startups", counter_get(&s->bad_startups));
    stat_row(report, "cancels_unknown", counter_get(&s->cancels_unknown));
    stat_row(report, "statements", counter_get(&s->statements));
    stat_row(report, "transactions", counter_get(&s->transactions));
    stat_row(report, "errors", counter_get(&s->errors));
    for (int i = 0; i < PLAN_KIND_COUNT; i++)
        stat_row(report, PLANS[i], counter_get(&s->plans[i]));
    stat_row(report, "batches", counter_get(&b->batches));
    stat_row(report, "batched_statements", counter_get(&b->statements));
    stat_row(report, "batched_keys", counter_get(&b->keys));
    stat_row(report, "statements_saved",
             counter_get(&b->statements) - MIN(counter_get(&b->batches), counter_get(&b->statements)));
    stat_row(report, "keys_deduped",
             counter_get(&b->members) - MIN(counter_get(&b->keys), counter_get(&b->members)));
    stat_row(report, "batch_alone", counter_get(&b->alone));
    stat_row(report, "batch_retried", counter_get(&b->retried));
    report_read_rules(worker, report);
    stat_row(report, "pipelined_statements", counter_get(&b->piped));
    stat_row(report, "pipelines", counter_get(&b->convoys));
    stat_row(report, "batched_writes", counter_get(&b->writes));
    stat_row(report, "write_commits", counter_get(&b->commits));
    stat_row(report, "write_commits_failed", counter_get(&b->write_failures));
    stat_row(report, "batch_proofs", counter_get(&b->proofs));
    stat_row(report, "batch_mismatches", counter_get(&b->mismatches));
    stat_row(report, "prefetches", counter_get(&b->ahead));
    stat_row(report, "prefetched_keys", counter_get(&b->ahead_keys));
    stat_row(report, "prefetch_hits", counter_get(&b->ahead_hits));
    stat_row(report, "n1_patterns", worker->n1.pattern_count);
    stat_row(report, "n1_memory", worker->n1.memory);
    stat_row(report, "client_bytes_in", counter_get(&s->bytes_in));
    stat_row(report, "client_bytes_out", counter_get(&s->bytes_out) + bytes_out_of_living(worker));
    stat_row(report, "statement_stats", worker->digests.count);
    stat_row(report, "statement_stats_dropped", worker->digests.dropped);
    stat_row(report, "shapes_cached", worker->shapes.count);
    stat_row(report, "shape_hits", worker->shapes.hits);
    stat_row(report, "shape_misses", worker->shapes.misses);
}

/* One row from the moment its gid is made until it is known that no shard holds it prepared, or that
 * nobody here will bring it to an end: recovery leaves these alone (H60). */
static void report_transactions(Worker *worker, Report *report)
{
    for (Commit *commit = NULL; (commit = commit_next(worker, commit));) {
        Cells c = {.arena = &report->arena};
        if (!commit_gid(commit)[0])
            continue;
        cell_text(&c, arena_text(&report->arena, slice_str(commit_gid(commit))));
        cell_int(&c, commit_session_id(commit));
        cell_text(&c, arena_text(&report->arena, slice_str(commit_database(commit))));
        cell_text(&c, commit_shards(commit, &report->arena));
        cell_text(&c, commit_phase(commit));
        cell_int(&c, commit_age_ms(commit));
        if (!report_add(report, c.at))
            return;
    }
}

static void report_holding(Backend *backend, void *ctx)
{
    ServerRows *rows = ctx;
    Holder *holder = backend_owner(backend);
    if (!holder || holder->kind != HOLDER_SESSION)
        return;
    Session *session = container_of(holder, Session, holder);
    Cells c = {.arena = &rows->report->arena};
    cell_int(&c, session->id);
    cell_int(&c, rows->worker->options.index);
    cell_text(&c, pool_server(backend_pool(backend))->name);
    cell_int(&c, (uint64_t)backend_server_pid(backend));
    cell_text(&c, session->user);
    cell_text(&c, session->database);
    cell_text(&c, session->peer);
    cell_int(&c, session->statement_total);
    report_add(rows->report, c.at);
}

static void report_holdings(Worker *worker, Report *report)
{
    ServerRows rows = {worker, report};
    size_t cursor = 0;
    Pool *pool;
    while ((pool = pool_set_next(worker->pools, &cursor)))
        pool_each_backend(pool, report_holding, &rows);
}

static void (*const FILL[REPORT_KIND_COUNT])(Worker *worker, Report *report) = {
    [REPORT_CLIENTS] = report_clients, [REPORT_SERVERS] = report_servers,
    [REPORT_POOLS] = report_pools,     [REPORT_BATCHES] = report_batches,
    [REPORT_BATCH_REASONS] = report_reasons, [REPORT_N1] = report_n1, [REPORT_STATS] = report_stats,
    [REPORT_STATEMENTS] = report_statements,
    [REPORT_REPLICAS] = report_replicas,
    [REPORT_TRANSACTIONS] = report_transactions,
    [REPORT_HOLDINGS] = report_holdings,
};

static void report_on_delivery(Mail *mail, void *owner)
{
    Report *report = container_of(mail, Report, mail);
    Worker *worker = owner;
    FILL[report->kind](worker, report);
    report->next_worker++;
    if (report->next_worker < worker->options.count) {
        inbox_send(worker_inbox(worker->options.all[report->next_worker]), mail);
        return;
    }
    mail->on_delivery = report->on_reply;
    inbox_send(report->reply, mail);
}

void worker_report(Worker *const *workers, uint32_t count, Report *report)
{
    assert(count > 0);
    report->next_worker = 0;
    report->mail.on_delivery = report_on_delivery;
    inbox_send(worker_inbox(workers[0]), &report->mail);
}
