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
    REPORT_TRANSACTIONS, /* transactions over several shards that are being committed now */
    REPORT_HOLDINGS,     /* server connections that work for a client now, and which client that is */
    REPORT_KIND_COUNT
} ReportKind;

typedef struct ReportColumn {
    const char *name;
    uint32_t type_oid; /* WIRE_OID_TEXT or WIRE_OID_INT8 */
    /* How rows of several workers with equal text columns become one: rows are kept apart when no
     * column of the kind says REPORT_SUM or REPORT_MAX. */
    /* REPORT_ANY: the text of one of them. REPORT_MEAN: the column before it by the one before that. */
    enum { REPORT_KEEP, REPORT_SUM, REPORT_MAX, REPORT_ANY, REPORT_MEAN } merge;
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
/* Appends a row of printf'ed cells: one const char * per column, copied. */
bool report_add(Report *report, const char *const *cells);
/* Merges rows as the columns say (after the last worker). */
void report_merge(Report *report);

#endif
