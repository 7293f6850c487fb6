/*
 * metrics.c - the table of metrics, and the text that Prometheus reads.
 *
 *     {"shoal_pool_waiting", GAUGE, "pools", "waiting", labels "server,database,user"}
 *         SHOW POOLS ──> shoal_pool_waiting{server="s0/primary",database="app",user="app"} 3
 *
 * To add a metric, add a row; if no SHOW tells the figure yet, add it there first: what a monitor
 * knows, an operator with psql should see as well. Then `ninja -C build metrics-doc`. No metric comes
 * from SHOW CLIENTS: ten thousand rows every few seconds would be felt by the workers.
 */
#include "admin/metrics.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

#include "core/utf8.h"

#define COUNTER   METRIC_COUNTER
#define GAUGE     METRIC_GAUGE
#define HISTOGRAM METRIC_HISTOGRAM

/* A name/value row of SHOW STATS or SHOW PROCESS. */
#define STAT(name, type, row, help) {name, type, "stats", row, "value", NULL, 0, NULL, help}
#define PROC(name, type, row, scale, help) {name, type, "process", row, "value", NULL, scale, NULL, help}
#define RECO(name, type, row, scale, help) {name, type, "recovery", row, "value", NULL, scale, NULL, help}
#define POOL(name, type, column, scale, help)                                                      \
    {name, type, "pools", NULL, column, NULL, scale, "server,database,user", help}

#define REPL(name, type, column, scale, help)                                                      \
    {name, type, "replicas", NULL, column, NULL, scale, "shard,server,role", help}

static const Metric METRICS[] = {
    /* Clients and statements. */
    STAT("shoal_clients", GAUGE, "clients", "Client connections, those that log in included."),
    STAT("shoal_connections_total", COUNTER, "connections", "Client connections accepted."),
    STAT("shoal_logins_refused_total", COUNTER, "logins_refused", "Logins that failed or were over a limit."),
    STAT("shoal_bad_startups_total", COUNTER, "bad_startups", "Connections that did not speak PostgreSQL's protocol."),
    STAT("shoal_statements_total", COUNTER, "statements", "Statements answered, of all kinds."),
    STAT("shoal_transactions_total", COUNTER, "transactions", "Transactions ended, single statements included."),
    STAT("shoal_client_received_bytes_total", COUNTER, "client_bytes_in", "Bytes from clients."),
    STAT("shoal_client_sent_bytes_total", COUNTER, "client_bytes_out", "Bytes to clients."),

    /* Plans. */
    STAT("shoal_plans_direct_total", COUNTER, "plans_direct", "Statements that went to one shard."),
    STAT("shoal_plans_write_total", COUNTER, "plans_write", "Statements that write on several shards."),
    STAT("shoal_plans_scatter_total", COUNTER, "plans_scatter", "SELECTs over several shards."),
    STAT("shoal_plans_insert_total", COUNTER, "plans_insert", "INSERTs whose rows belong to several shards."),
    STAT("shoal_plans_copy_in_total", COUNTER, "plans_copy_in", "COPY FROM into tables on several shards."),
    STAT("shoal_plans_copy_out_total", COUNTER, "plans_copy_out", "COPY TO from several shards."),
    STAT("shoal_plans_ddl_total", COUNTER, "plans_ddl", "Statements that change the schema on all shards."),
    STAT("shoal_plans_local_total", COUNTER, "plans_local", "Statements that Shoal answered itself."),
    STAT("shoal_plans_reject_total", COUNTER, "plans_reject", "Statements refused because no right answer can be had."),
    STAT("shoal_shapes", GAUGE, "shapes_cached", "Parsed statements in the caches."),
    STAT("shoal_shape_hits_total", COUNTER, "shape_hits", "Statements whose parse was in the cache."),
    STAT("shoal_shape_misses_total", COUNTER, "shape_misses", "Statements that had to be parsed."),

    /* Replicas. */
    REPL("shoal_replica_lag_seconds", GAUGE, "lag_ms", 1e-3, "How old a standby's data is; absent while that is not known."),
    REPL("shoal_replica_lag_bytes", GAUGE, "lag_bytes", 0, "WAL that a standby has not replayed yet."),
    REPL("shoal_replica_measured_age_seconds", GAUGE, "measured_ms_ago", 1e-3, "Age of the server's last measurement."),
    REPL("shoal_replica_reads_total", COUNTER, "reads", 0, "Reads sent there by servers' choice."),
    REPL("shoal_replica_inflight", GAUGE, "inflight", 0, "Those under way."),
    REPL("shoal_replica_latency_seconds", GAUGE, "latency_us", 1e-6, "How long they take, lately."),
    REPL("shoal_replica_hedges_total", COUNTER, "hedges", 0, "Reads asked there because another server was slow."),
    REPL("shoal_replica_hedge_wins_total", COUNTER, "hedge_wins", 0, "Those that were answered first."),
    REPL("shoal_replica_copies_total", COUNTER, "copies", 0, "Reads asked there beside another server, by the setting copies."),
    REPL("shoal_replica_reruns_total", COUNTER, "reruns", 0, "Reads run again elsewhere after this server failed."),
    REPL("shoal_replica_failures_total", COUNTER, "failures", 0, "Reads lost there."),
    REPL("shoal_replica_breaker_opened_total", COUNTER, "breaker_opened", 0, "How often its breaker opened."),

    /* Batches. */
    STAT("shoal_batches_total", COUNTER, "batches", "Statements sent to PostgreSQL for two or more of clients."),
    STAT("shoal_batched_statements_total", COUNTER, "batched_statements", "Statements of clients that were answered by them."),
    STAT("shoal_statements_saved_total", COUNTER, "statements_saved", "Statements that PostgreSQL did not have to run."),
    STAT("shoal_batch_keys_total", COUNTER, "batched_keys", "Different keys in batches."),
    STAT("shoal_batch_deduped_total", COUNTER, "keys_deduped", "Statements that shared a key with another one in their batch."),
    STAT("shoal_batch_alone_total", COUNTER, "batch_alone", "Statements that could have travelled with others, but nobody was there."),
    STAT("shoal_batch_retried_total", COUNTER, "batch_retried", "Statements run alone after trouble with their batch."),
    STAT("shoal_pipelined_statements_total", COUNTER, "pipelined_statements", "Statements sent behind others on one connection (tier C)."),
    STAT("shoal_batched_writes_total", COUNTER, "batched_writes", "Writes that shared a commit with others."),
    STAT("shoal_write_commits_total", COUNTER, "write_commits", "The commits that they shared."),
    STAT("shoal_batch_proofs_total", COUNTER, "batch_proofs", "Batches that were run together with their originals."),
    STAT("shoal_batch_mismatches_total", COUNTER, "batch_mismatches", "Of them, those whose answers differed. Anything but 0 is a defect of Shoal."),
    {"shoal_not_batched_total", COUNTER, "batch_reasons", NULL, "statements", NULL, 0, "reason",
     "Statements that were not batched, by reason (SHOW BATCH_REASONS explains each)."},

    /* Errors and latency. */
    {"shoal_errors_total", COUNTER, "errors", NULL, "errors", NULL, 0, "class",
     "Errors told to clients, by class of SQLSTATE."},
    {"shoal_request_duration_seconds", HISTOGRAM, "latency_buckets", NULL, "count", NULL, 1e-6, "path,stage",
     "Time of requests by stage, from the arrival of their bytes; `total` is the whole."},

    /* Pools and servers. */
    POOL("shoal_pool_size", GAUGE, "size", 0, "Connections the pool may have."),
    POOL("shoal_pool_active", GAUGE, "active", 0, "Connections that run something."),
    POOL("shoal_pool_idle", GAUGE, "idle", 0, "Connections that wait for work."),
    POOL("shoal_pool_held", GAUGE, "held", 0, "Connections that belong to a client's transaction or session."),
    POOL("shoal_pool_connecting", GAUGE, "connecting", 0, "Connections being made."),
    POOL("shoal_pool_waiting", GAUGE, "waiting", 0, "Statements that wait for a connection."),
    POOL("shoal_pool_tasks_total", COUNTER, "tasks", 0, "Tasks done: statements, series, batches."),
    POOL("shoal_pool_waits_total", COUNTER, "waits", 0, "Tasks that had to wait for a connection."),
    POOL("shoal_pool_wait_seconds_total", COUNTER, "wait_us", 1e-6, "How long those waited, together."),
    POOL("shoal_pool_connects_total", COUNTER, "connects", 0, "Connections made."),
    POOL("shoal_pool_connect_failures_total", COUNTER, "connect_failures", 0, "Connections that could not be made."),
    POOL("shoal_pool_losses_total", COUNTER, "losses", 0, "Connections that broke."),
    POOL("shoal_pool_cancels_total", COUNTER, "cancels", 0, "Cancel requests sent."),
    POOL("shoal_pool_parses_total", COUNTER, "parses", 0, "Statements prepared on servers."),
    POOL("shoal_pool_received_bytes_total", COUNTER, "bytes_in", 0, "Bytes from servers."),
    POOL("shoal_pool_sent_bytes_total", COUNTER, "bytes_out", 0, "Bytes to servers."),
    {"shoal_server_up", GAUGE, "shards", NULL, "state", "up", 0, "shard,server,role",
     "1: the server answers and is what shards.ini says."},
    {"shoal_server_probe_seconds", GAUGE, "shards", NULL, "latency_us", NULL, 1e-6, "shard,server,role",
     "How long the last probe took."},

    /* Transactions over several shards. */
    RECO("shoal_transactions_in_doubt", GAUGE, "in_doubt", 0, "Prepared transactions of this router that nobody works on."),
    RECO("shoal_transactions_in_doubt_oldest_seconds", GAUGE, "oldest_ms", 1e-3, "Age of the oldest of them; alarm above a minute."),
    RECO("shoal_transactions_damaged_total", COUNTER, "damage", 0, "Transactions that ended on a shard against their decision. Alarm on anything but 0."),
    RECO("shoal_recovery_rounds_total", COUNTER, "rounds", 0, "Looks at all prepared transactions."),
    RECO("shoal_recovery_committed_total", COUNTER, "committed", 0, "Prepared transactions that recovery has committed."),
    RECO("shoal_recovery_rolled_back_total", COUNTER, "rolled_back", 0, "Prepared transactions that recovery has rolled back."),
    RECO("shoal_foreign_prepared_transactions", GAUGE, "foreign", 0, "Prepared transactions of other applications."),

    /* What the router knows. */
    {"shoal_health", GAUGE, "health", NULL, "state", "ok", 0, "check", "1: the check has nothing to say (SHOW HEALTH)."},
    {"shoal_catalog_current", GAUGE, "databases", NULL, "catalog", "current", 0, "name",
     "1: the catalog of the database is known and was read again lately."},
    {"shoal_catalog_version", GAUGE, "databases", NULL, "catalog_version", NULL, 0, "name",
     "Grows with each change of the catalog that was seen."},
    {"shoal_catalog_tables", GAUGE, "databases", NULL, "tables", NULL, 0, "name", "Tables in the catalog."},
    {"shoal_distributed_tables", GAUGE, "databases", NULL, "distributed_tables", NULL, 0, "name",
     "Tables whose rows are spread over the shards."},
    {"shoal_shard_buckets", GAUGE, "map", NULL, "buckets", NULL, 0, "shard", "Buckets of the shard."},
    PROC("shoal_topology_version", GAUGE, "topology_version", 0, "Grows with each published topology."),
    PROC("shoal_map_version", GAUGE, "map_version", 0, "Grows with each change of the bucket map."),
    PROC("shoal_store_bytes", GAUGE, "store_bytes", 0, "The metadata store's files."),
    PROC("shoal_store_errors_total", COUNTER, "store_errors", 0, "Events that could not be written to the store."),

    /* The process. */
    {"shoal_info", GAUGE, "version", NULL, NULL, NULL, 0, "version,cluster", "Always 1; the labels tell."},
    PROC("shoal_workers", GAUGE, "workers", 0, "Threads that carry queries."),
    PROC("shoal_uptime_seconds", GAUGE, "uptime_s", 0, "Seconds since the start."),
    PROC("shoal_cpu_user_seconds_total", COUNTER, "cpu_user_us", 1e-6, "Processor time in the program."),
    PROC("shoal_cpu_system_seconds_total", COUNTER, "cpu_system_us", 1e-6, "Processor time in the kernel."),
    PROC("shoal_resident_bytes", GAUGE, "resident_bytes", 0, "Memory in use."),
    PROC("shoal_descriptors", GAUGE, "descriptors", 0, "Open files and connections."),
    PROC("shoal_descriptors_max", GAUGE, "descriptors_max", 0, "As many are allowed."),
};

const Metric *metrics_table(size_t *ret_count)
{
    *ret_count = ARRAY_LEN(METRICS);
    return METRICS;
}

size_t metrics_sources(const char **ret_sources, size_t room)
{
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_LEN(METRICS); i++) {
        size_t k = 0;
        while (k < count && strcmp(ret_sources[k], METRICS[i].source) != 0)
            k++;
        if (k == count && count < room)
            ret_sources[count++] = METRICS[i].source;
    }
    return count;
}

/* ---- text ------------------------------------------------------------------------------------ */

PRINTF_LIKE(2, 3)
static void put(Buf *out, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    buf_append(out, slice_of(text, MIN((size_t)n, sizeof text - 1)));
}

/* A label's value: backslash, quote and line feed escaped; what is no UTF-8 becomes '?'. */
static void put_label_value(Buf *out, const char *text)
{
    for (const uint8_t *c = (const uint8_t *)text; *c;) {
        size_t len = utf8_len(c);
        if (*c == '\\' || *c == '"')
            put(out, "\\%c", *c);
        else if (*c == '\n')
            put(out, "\\n");
        else if (len == 0)
            put(out, "?");
        else
            buf_append(out, slice_of(c, len));
        c += len ? len : 1;
    }
}

/* Doubles as short as they are exact enough; whole numbers as such. */
static void put_value(Buf *out, double value)
{
    if (value == floor(value) && fabs(value) < 1e15)
        put(out, " %.0f\n", value);
    else
        put(out, " %.9g\n", value);
}

/* ---- one metric ------------------------------------------------------------------------------ */

#define LABELS_MAX 6

typedef struct Labels {
    char names[LABELS_MAX][32];
    int columns[LABELS_MAX];
    size_t count;
} Labels;

/* False when the source lacks one of them. */
static bool labels_find(const Metric *metric, const Rowset *rows, Labels *ret)
{
    const char *at = metric->labels ? metric->labels : "";
    ret->count = 0;
    while (*at && ret->count < LABELS_MAX) {
        size_t len = strcspn(at, ",");
        char *name = ret->names[ret->count];
        snprintf(name, sizeof ret->names[0], "%.*s", (int)len, at);
        ret->columns[ret->count] = rowset_column(rows, name);
        if (ret->columns[ret->count++] < 0)
            return false;
        at += len + (at[len] == ',');
    }
    return true;
}

static void put_labels(Buf *out, const Rowset *rows, uint32_t row, const Labels *labels, const char *le)
{
    if (labels->count == 0 && !le)
        return;
    put(out, "{");
    for (size_t i = 0; i < labels->count; i++) {
        const char *value = rowset_cell(rows, row, labels->columns[i]);
        put(out, "%s%s=\"", i ? "," : "", labels->names[i]);
        put_label_value(out, value ? value : "");
        put(out, "\"");
    }
    if (le)
        put(out, "%sle=\"%s\"", labels->count ? "," : "", le);
    put(out, "}");
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static bool same_labels(const Rowset *rows, uint32_t a, uint32_t b, const Labels *labels)
{
    for (size_t i = 0; i < labels->count; i++)
        if (!same_text(rowset_cell(rows, a, labels->columns[i]), rowset_cell(rows, b, labels->columns[i])))
            return false;
    return true;
}

static bool row_counts(const Metric *metric, const Rowset *rows, uint32_t row, int value)
{
    if (metric->row && !same_text(rowset_cell(rows, row, 0), metric->row))
        return false;
    return value < 0 || metric->is || rowset_cell(rows, row, value);
}

static double row_value(const Metric *metric, const Rowset *rows, uint32_t row, int value)
{
    if (value < 0)
        return 1;
    const char *text = rowset_cell(rows, row, value);
    if (metric->is)
        return same_text(text, metric->is);
    double number = strtod(text, NULL);
    return metric->scale != 0 ? number * metric->scale : number;
}

typedef struct Series {
    uint32_t row; /* the first with these labels */
    double value;
} Series;

/* Rows of equal labels become one series: a series told twice makes the whole scrape invalid. */
static uint32_t collect_series(const Metric *metric, const Rowset *rows, const Labels *labels,
                               Series *series)
{
    int column = metric->value ? rowset_column(rows, metric->value) : -1;
    uint32_t count = 0;
    for (uint32_t row = 0; row < rows->row_count; row++) {
        if (!row_counts(metric, rows, row, column))
            continue;
        double value = row_value(metric, rows, row, column);
        uint32_t i = 0;
        while (i < count && !same_labels(rows, series[i].row, row, labels))
            i++;
        if (i == count)
            series[count++] = (Series){row, value};
        else
            series[i].value = metric->is ? MIN(series[i].value, value) : series[i].value + value;
    }
    return count;
}

static void write_series(Buf *out, const Metric *metric, const Rowset *rows, const Labels *labels)
{
    Series *series = calloc(MAX(rows->row_count, 1), sizeof *series);
    uint32_t count = series ? collect_series(metric, rows, labels, series) : 0;
    for (uint32_t i = 0; i < count; i++) {
        put(out, "%s", metric->name);
        put_labels(out, rows, series[i].row, labels, NULL);
        put_value(out, series[i].value);
    }
    free(series);
}

static void write_histogram(Buf *out, const Metric *metric, const Rowset *rows, const Labels *labels)
{
    int le = rowset_column(rows, "le_us"), count = rowset_column(rows, "count");
    int sum = rowset_column(rows, "sum_us");
    if (le < 0 || count < 0 || sum < 0)
        return;
    for (uint32_t row = 0; row < rows->row_count; row++) {
        char bound[32] = "+Inf";
        const char *le_us = rowset_cell(rows, row, le);
        if (le_us)
            snprintf(bound, sizeof bound, "%.9g", strtod(le_us, NULL) * metric->scale);
        put(out, "%s_bucket", metric->name);
        put_labels(out, rows, row, labels, bound);
        put_value(out, strtod(rowset_cell(rows, row, count), NULL));
        if (le_us)
            continue;
        put(out, "%s_sum", metric->name);
        put_labels(out, rows, row, labels, NULL);
        put_value(out, strtod(rowset_cell(rows, row, sum), NULL) * metric->scale);
        put(out, "%s_count", metric->name);
        put_labels(out, rows, row, labels, NULL);
        put_value(out, strtod(rowset_cell(rows, row, count), NULL));
    }
}

static const char *const TYPES[] = {
    [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"};

static void write_metric(Buf *out, const Metric *metric, const Rowset *rows)
{
    Labels labels;
    if (!labels_find(metric, rows, &labels) || (metric->value && rowset_column(rows, metric->value) < 0))
        return;
    put(out, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help, metric->name,
        TYPES[metric->type]);
    if (metric->type == METRIC_HISTOGRAM)
        write_histogram(out, metric, rows, &labels);
    else
        write_series(out, metric, rows, &labels);
}

void metrics_write(Buf *out, const char *const *sources, const Rowset *const *rows, size_t count)
{
    for (size_t i = 0; i < ARRAY_LEN(METRICS); i++)
        for (size_t k = 0; k < count; k++)
            if (rows[k] && strcmp(sources[k], METRICS[i].source) == 0)
                write_metric(out, &METRICS[i], rows[k]);
}

/* ---- docs/metrics.md ------------------------------------------------------------------------- */

void metrics_write_markdown(FILE *out)
{
    fputs("# Metrics\n\n"
          "<!-- Written from the table of metrics (admin/metrics.c) by `ninja -C build metrics-doc`. -->\n\n"
          "`http://127.0.0.1:6480/metrics` has them in Prometheus' text format. Each comes from a SHOW of the\n"
          "console, where psql shows the same figure. Counters start at 0 with the program.\n\n"
          "    scrape_configs:\n"
          "      - job_name: shoal\n"
          "        static_configs: [{targets: ['127.0.0.1:6480']}]\n"
          "        basic_auth: {username: shoal, password: ...}     # when http_password is set\n\n"
          "Statements have no series of their own, because there may be thousands of them: SHOW STATEMENTS and\n"
          "SHOW BATCHES list them, `/api/statements.json` too.\n\n"
          "| Metric | Type | Labels | From | Meaning |\n|---|---|---|---|---|\n",
          out);
    for (size_t i = 0; i < ARRAY_LEN(METRICS); i++) {
        const Metric *m = &METRICS[i];
        char show[64];
        size_t n = 0;
        for (; m->source[n] && n < sizeof show - 1; n++)
            show[n] = m->source[n] >= 'a' && m->source[n] <= 'z' ? (char)(m->source[n] - 32) : m->source[n];
        show[n] = '\0';
        fprintf(out, "| `%s` | %s | %s | SHOW %s | %s |\n", m->name, TYPES[m->type],
                m->labels ? m->labels : "", show, m->help);
    }
}
