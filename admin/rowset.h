/*
 * rowset.h - a SHOW's answer as a table in memory: what HTTP and metrics are made of.
 *
 * The console answers in PostgreSQL's protocol; here its frames become columns and cells again, so
 * that every SHOW, also one that is written tomorrow, is on /api and can be a metric.
 */
#ifndef SHOAL_ADMIN_ROWSET_H
#define SHOAL_ADMIN_ROWSET_H

#include "core/arena.h"
#include "core/error.h"

typedef struct RowsetColumn {
    const char *name;
    bool number; /* int8 */
} RowsetColumn;

typedef struct Rowset {
    RowsetColumn *columns;
    uint32_t column_count;
    const char **cells; /* row_count * column_count; NULL is SQL NULL */
    uint32_t row_count, row_room;
} Rowset;

/* Reads the frames of an answer; all is copied into the arena. An ErrorResponse, or anything that
 * is no result, is false and err. */
bool rowset_read(Slice frames, Arena *arena, Rowset *ret, Error *err) MUST_USE;
/* Index of the column; -1 when there is none. */
int rowset_column(const Rowset *rows, const char *name);

static inline const char *rowset_cell(const Rowset *rows, uint32_t row, int column)
{
    return rows->cells[(size_t)row * rows->column_count + (size_t)column];
}

#endif
