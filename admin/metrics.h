/*
 * metrics.h - every figure as Prometheus reads it; one table, from which docs/metrics.md grows too.
 *
 * A metric is one row of a table: which SHOW it comes from, which column is its value, which columns
 * become labels. So whatever a SHOW tells can be a metric by one more row in metrics.c.
 * Pure: from Rowsets to text.
 */
#ifndef SHOAL_ADMIN_METRICS_H
#define SHOAL_ADMIN_METRICS_H

#include <stdio.h>

#include "admin/rowset.h"
#include "core/buf.h"

typedef enum MetricType { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM } MetricType;

typedef struct Metric {
    const char *name; /* shoal_..., with its unit; counters end in _total */
    MetricType type;
    const char *source; /* the SHOW: "pools" */
    const char *row;    /* only the row with this in its first column; NULL: each row */
    const char *value;  /* column; NULL: each row counts 1. Of a histogram: the cumulated count, whose
                           columns are le_us, count and sum_us */
    const char *is;     /* the value is 1 when the column says this, else 0; NULL: it is a number */
    double scale;       /* times this: 1e-6 for microseconds shown as seconds; 0: as it is */
    const char *labels; /* columns, by commas; NULL: none */
    const char *help;
} Metric;

const Metric *metrics_table(size_t *ret_count);

/* The sources that are needed, without doubles, in order of their first use. At most `room`. */
size_t metrics_sources(const char **ret_sources, size_t room);

/* Appends the exposition (text format 0.0.4). rows[i] belongs to sources[i]; NULL: it could not be
 * read, and its metrics are left out. Rows with equal labels are added up (`is`: all must be). */
void metrics_write(Buf *out, const char *const *sources, const Rowset *const *rows, size_t count);

/* docs/metrics.md. */
void metrics_write_markdown(FILE *out);

#endif
