/*
 * report.h - a worker's live objects as rows for SHOW: asked by mail, answered by mail.
 *
 * The control thread sends one Report to each worker in turn; the worker appends its rows and sends it
 * on; the last one sends it back. Nothing is shared, nobody waits.
 */
#ifndef SHOAL_ROUTER_REPORT_H
#define SHOAL_ROUTER_REPORT_H

#include "core/arena.h"
#include "core/inbox.h"

typedef enum ReportKind {
    REPORT_CLIENTS,
    REPORT_SERVERS,
    REPORT_POOLS,
    REPORT_BATCHES,
    REPORT_BATCH_REASONS,
    REPORT_N1,
    REPORT_STATS,
    REPORT_STATEMENTS,
    REPORT_REPLICAS, /* by server: its reads; joined with what the control thread knows */
    REPORT_TRANSACTIONS, /* transactions over several shards that are being committed now */
    REPORT_HOLDINGS,     /* server connections that work for a client now, and which client that is */
    REPORT_KIND_COUNT
} ReportKind;

/* How rows of several workers with equal REPORT_KEEP columns become one; rows are kept apart when no
 * column of the kind is merged. In the last four a worker puts a Spread as text, and report_merge
 * shows a figure of all of them: a quantile cannot be made of quantiles. */
typedef enum ReportMerge {
    REPORT_KEEP,
    REPORT_SUM,
    REPORT_MAX,
    REPORT_ANY,  /* any worker's that is not NULL */
    REPORT_MEAN, /* the column before it by the one before that */
    REPORT_P50,
    REPORT_P95,
    REPORT_P99,
    REPORT_OCTAVES
} ReportMerge;

typedef struct ReportColumn {
    const char *name;
    uint32_t type_oid; /* WIRE_OID_TEXT or WIRE_OID_INT8 */
    ReportMerge merge;
} ReportColumn;

typedef struct ReportRow {
    struct ReportRow *next;
    const char *cells[]; /* column count of them; NULL is SQL NULL; in the report's arena */
} ReportRow;

typedef struct Report {
    Mail mail;
    ReportKind kind;
    Arena arena;
    ReportRow *rows, **tail;
    uint32_t row_count;
    uint32_t next_worker;  /* index of the worker to go to next */
    Inbox *reply;          /* where the full report goes */
    void (*on_reply)(Mail *mail, void *owner);
    void *ctx;             /* the asker's */
} Report;

const ReportColumn *report_columns(ReportKind kind, uint32_t *ret_count);
Report *report_create(ReportKind kind) MUST_USE;
void report_free(Report *report);
/* Appends a row: one const char * per column, which live as long as the report (its arena, or
 * constants). */
bool report_add(Report *report, const char *const *cells);
/* Merges rows as the columns say; after the last worker, once for kinds with spreads. */
void report_merge(Report *report);

#endif
