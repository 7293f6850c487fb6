/*
 * report.c - which columns SHOW has, and how the rows of several workers become one.
 */
#include "router/report.h"

#include <stdlib.h>

#include "core/spread.h"
#include "wire/value.h"

#define TEXT WIRE_OID_TEXT
#define INT  WIRE_OID_INT8

static const ReportColumn CLIENTS[] = {
    {"id", INT, REPORT_KEEP},        {"user", TEXT, REPORT_KEEP},   {"database", TEXT, REPORT_KEEP},
    {"state", TEXT, REPORT_KEEP},    {"transaction", TEXT, REPORT_KEEP},
    {"peer", TEXT, REPORT_KEEP},     {"tls", TEXT, REPORT_KEEP},    {"worker", INT, REPORT_KEEP},
    {"requests", INT, REPORT_KEEP},  {"statements", INT, REPORT_KEEP},
    {"server_pid", INT, REPORT_KEEP}, {"pinned", TEXT, REPORT_KEEP}, {"prepared", INT, REPORT_KEEP},
    {"connected_s", INT, REPORT_KEEP}, {"application", TEXT, REPORT_KEEP},
};
static const ReportColumn SERVERS[] = {
    {"id", INT, REPORT_KEEP},      {"server", TEXT, REPORT_KEEP}, {"database", TEXT, REPORT_KEEP},
    {"user", TEXT, REPORT_KEEP},   {"state", TEXT, REPORT_KEEP},  {"transaction", TEXT, REPORT_KEEP},
    {"server_pid", INT, REPORT_KEEP}, {"worker", INT, REPORT_KEEP}, {"age_s", INT, REPORT_KEEP},
};
static const ReportColumn POOLS[] = {
    {"server", TEXT, REPORT_KEEP},  {"database", TEXT, REPORT_KEEP}, {"user", TEXT, REPORT_KEEP},
    {"size", INT, REPORT_SUM},      {"active", INT, REPORT_SUM},     {"idle", INT, REPORT_SUM},
    {"held", INT, REPORT_SUM},      {"connecting", INT, REPORT_SUM}, {"waiting", INT, REPORT_SUM},
    {"tasks", INT, REPORT_SUM},     {"waits", INT, REPORT_SUM},      {"wait_us", INT, REPORT_SUM},
    {"connects", INT, REPORT_SUM},  {"connect_failures", INT, REPORT_SUM},
    {"losses", INT, REPORT_SUM},    {"cancels", INT, REPORT_SUM},    {"parses", INT, REPORT_SUM},
    {"bytes_in", INT, REPORT_SUM},  {"bytes_out", INT, REPORT_SUM},
};
static const ReportColumn BATCHES[] = {
    {"template", TEXT, REPORT_KEEP}, {"pool", TEXT, REPORT_KEEP},  {"profile", TEXT, REPORT_KEEP},
    {"tier", TEXT, REPORT_KEEP},
    {"reason", TEXT, REPORT_KEEP},   {"per_s", INT, REPORT_SUM},   {"statements", INT, REPORT_SUM},
    {"alone", INT, REPORT_SUM},      {"batches", INT, REPORT_SUM}, {"keys", INT, REPORT_SUM},
    {"saved", INT, REPORT_SUM},      {"deduped", INT, REPORT_SUM}, {"retried", INT, REPORT_SUM},
    {"size_max", INT, REPORT_MAX},   {"sizes", TEXT, REPORT_OCTAVES},
    {"wait_p50_us", INT, REPORT_P50}, {"wait_p99_us", INT, REPORT_P99},
    {"service_p50_us", INT, REPORT_P50}, {"service_p95_us", INT, REPORT_P95},
    {"service_p99_us", INT, REPORT_P99}, {"batch_max", INT, REPORT_MAX},
    {"inflight_max", INT, REPORT_MAX}, {"proofs", INT, REPORT_SUM},
};
static const ReportColumn STATEMENTS[] = {
    {"statement", TEXT, REPORT_KEEP}, {"database", TEXT, REPORT_KEEP}, {"kind", TEXT, REPORT_KEEP},
    {"calls", INT, REPORT_SUM},       {"per_s", INT, REPORT_SUM},      {"errors", INT, REPORT_SUM},
    {"batched", INT, REPORT_SUM},     {"not_batched", TEXT, REPORT_ANY},
    {"p50_us", INT, REPORT_P50},      {"p95_us", INT, REPORT_P95},     {"p99_us", INT, REPORT_P99},
    {"max_us", INT, REPORT_MAX},      {"total_us", INT, REPORT_SUM},
};
static const ReportColumn REASONS[] = {
    {"reason", TEXT, REPORT_KEEP},
    {"rule", TEXT, REPORT_KEEP},
    {"statements", INT, REPORT_SUM},
    {"help", TEXT, REPORT_KEEP},
};
static const ReportColumn REPLICAS[] = {
    {"server", TEXT, REPORT_KEEP},   {"reads", INT, REPORT_SUM},      {"inflight", INT, REPORT_SUM},
    {"latency_us", INT, REPORT_MAX}, {"hedges", INT, REPORT_SUM},     {"hedge_wins", INT, REPORT_SUM},
    {"copies", INT, REPORT_SUM},
    {"reruns", INT, REPORT_SUM},     {"failures", INT, REPORT_SUM},   {"breaker", INT, REPORT_MAX},
    {"breaker_opened", INT, REPORT_SUM}, {"doubt", INT, REPORT_MAX},
};
static const ReportColumn N1[] = {
    {"database", TEXT, REPORT_KEEP},   {"parent", TEXT, REPORT_KEEP},   {"child", TEXT, REPORT_KEEP},
    {"column", INT, REPORT_ANY},       {"loops", INT, REPORT_SUM},      {"statements", INT, REPORT_SUM},
    {"n_mean", INT, REPORT_MEAN},      {"n_max", INT, REPORT_MAX},      {"time_us", INT, REPORT_SUM},
    {"saved", INT, REPORT_SUM},        {"prefetches", INT, REPORT_SUM}, {"fetched", INT, REPORT_SUM},
    {"prefetched", TEXT, REPORT_ANY},  {"why_not", TEXT, REPORT_ANY},
};
static const ReportColumn STATS[] = {
    {"name", TEXT, REPORT_KEEP},
    {"value", INT, REPORT_SUM},
};

static const ReportColumn TRANSACTIONS[] = {
    {"gid", TEXT, REPORT_KEEP},    {"client", INT, REPORT_KEEP},   {"database", TEXT, REPORT_KEEP},
    {"shards", TEXT, REPORT_KEEP}, {"state", TEXT, REPORT_KEEP},   {"age_ms", INT, REPORT_KEEP},
};

static const ReportColumn HOLDINGS[] = {
    {"client", INT, REPORT_KEEP},   {"worker", INT, REPORT_KEEP},   {"server", TEXT, REPORT_KEEP},
    {"server_pid", INT, REPORT_KEEP}, {"user", TEXT, REPORT_KEEP},  {"database", TEXT, REPORT_KEEP},
    {"peer", TEXT, REPORT_KEEP},    {"statements", INT, REPORT_KEEP},
};

static const struct {
    const ReportColumn *columns;
    uint32_t count;
} KINDS[REPORT_KIND_COUNT] = {
    [REPORT_CLIENTS] = {CLIENTS, ARRAY_LEN(CLIENTS)},
    [REPORT_SERVERS] = {SERVERS, ARRAY_LEN(SERVERS)},
    [REPORT_POOLS] = {POOLS, ARRAY_LEN(POOLS)},
    [REPORT_BATCHES] = {BATCHES, ARRAY_LEN(BATCHES)},
    [REPORT_BATCH_REASONS] = {REASONS, ARRAY_LEN(REASONS)},
    [REPORT_N1] = {N1, ARRAY_LEN(N1)},
    [REPORT_STATS] = {STATS, ARRAY_LEN(STATS)},
    [REPORT_STATEMENTS] = {STATEMENTS, ARRAY_LEN(STATEMENTS)},
    [REPORT_REPLICAS] = {REPLICAS, ARRAY_LEN(REPLICAS)},
    [REPORT_TRANSACTIONS] = {TRANSACTIONS, ARRAY_LEN(TRANSACTIONS)},
    [REPORT_HOLDINGS] = {HOLDINGS, ARRAY_LEN(HOLDINGS)},
};

const ReportColumn *report_columns(ReportKind kind, uint32_t *ret_count)
{
    *ret_count = KINDS[kind].count;
    return KINDS[kind].columns;
}

Report *report_create(ReportKind kind)
{
    Report *report = calloc(1, sizeof *report);
    if (!report)
        return NULL;
    report->kind = kind;
    report->tail = &report->rows;
    arena_init(&report->arena, 8192);
    return report;
}

void report_free(Report *report)
{
    if (!report)
        return;
    arena_finish(&report->arena);
    free(report);
}

bool report_add(Report *report, const char *const *cells)
{
    uint32_t count = KINDS[report->kind].count;
    ReportRow *row = arena_alloc(&report->arena, sizeof *row + count * sizeof(char *));
    if (!row)
        return false;
    row->next = NULL;
    memcpy(row->cells, cells, count * sizeof *cells);
    *report->tail = row;
    report->tail = &row->next;
    report->row_count++;
    return true;
}

/* ---- merging ------------------------------------------------------------------------------------ */

static bool same_row(const ReportColumn *columns, uint32_t count, const ReportRow *a,
                     const ReportRow *b)
{
    for (uint32_t i = 0; i < count; i++)
        if (columns[i].merge == REPORT_KEEP &&
            !slice_equal(slice_str(a->cells[i]), slice_str(b->cells[i])))
            return false;
    return true;
}

static const char *merge_numbers(Report *report, ReportMerge merge, const char *a, const char *b)
{
    unsigned long long x = strtoull(a, NULL, 10), y = strtoull(b, NULL, 10);
    return arena_printf(&report->arena, "%llu", merge == REPORT_SUM ? x + y : MAX(x, y));
}

static const char *mean_of(Report *report, const char *sum, const char *count)
{
    if (!sum || !count)
        return NULL;
    return arena_printf(&report->arena, "%llu",
                        strtoull(sum, NULL, 10) / MAX(strtoull(count, NULL, 10), 1));
}

static const char *merge_spreads(Report *report, const char *a, const char *b)
{
    Spread spread = {0};
    return spread_add_text(&spread, a) && spread_add_text(&spread, b)
               ? spread_text(&spread, &report->arena)
               : NULL;
}

static void merge_row(Report *report, const ReportColumn *columns, uint32_t count, ReportRow *into,
                      const ReportRow *from)
{
    for (uint32_t i = 0; i < count; i++) {
        ReportMerge merge = columns[i].merge;
        const char *a = into->cells[i], *b = from->cells[i], *both = NULL;
        if (merge == REPORT_MEAN) /* of columns that are merged already */
            both = mean_of(report, into->cells[i - 1], into->cells[i - 2]);
        else if (merge == REPORT_KEEP || !b || (merge == REPORT_ANY && a))
            continue;
        else if (!a)
            both = b;
        else if (merge == REPORT_SUM || merge == REPORT_MAX)
            both = merge_numbers(report, merge, a, b);
        else
            both = merge_spreads(report, a, b);
        if (both)
            into->cells[i] = both;
    }
}

/* What an operator reads: the spread's text becomes a figure; nothing measured is NULL. */
static const char *show_spread(Report *report, ReportMerge merge, const char *text)
{
    static const double QUANTILES[] = {[REPORT_P50] = 0.5, [REPORT_P95] = 0.95, [REPORT_P99] = 0.99};
    Spread spread = {0};
    if (!text || !spread_add_text(&spread, text) || spread_count(&spread) == 0)
        return NULL;
    if (merge == REPORT_OCTAVES)
        return spread_octaves(&spread, &report->arena);
    return arena_printf(&report->arena, "%llu",
                        (unsigned long long)spread_quantile(&spread, QUANTILES[merge]));
}

static void show_spreads(Report *report, const ReportColumn *columns, uint32_t count)
{
    for (ReportRow *row = report->rows; row; row = row->next)
        for (uint32_t i = 0; i < count; i++)
            if (columns[i].merge >= REPORT_P50)
                row->cells[i] = show_spread(report, columns[i].merge, row->cells[i]);
}

void report_merge(Report *report)
{
    uint32_t count;
    const ReportColumn *columns = report_columns(report->kind, &count);
    bool merges = false;
    for (uint32_t i = 0; i < count; i++)
        merges |= columns[i].merge != REPORT_KEEP;
    if (!merges)
        return;
    ReportRow *rows = report->rows;
    report->rows = NULL;
    report->tail = &report->rows;
    report->row_count = 0;
    for (ReportRow *row = rows, *next; row; row = next) {
        next = row->next;
        ReportRow *into = report->rows;
        while (into && !same_row(columns, count, into, row))
            into = into->next;
        if (into) {
            merge_row(report, columns, count, into, row);
            continue;
        }
        row->next = NULL;
        *report->tail = row;
        report->tail = &row->next;
        report->row_count++;
    }
    show_spreads(report, columns, count);
}
