/*
 * row_form.h - in which form a table's rows travel, and by which hash two copies of a row are compared: asked of the
 * server, which knows the columns' types.
 *
 *     columns   those that are copied: generated ones are computed over there
 *     binary    each column's binary form means the same on every server: COPY need not write and read text
 *     hash      of a row with the alias t. Values of types that are equal only when all their bits are go in as they
 *               are, all others as text: 1.0 and 1.00 are not the same row
 *
 * The text of a whole row costs ten times the hash of its values; a move's time was mostly that.
 */
#ifndef SHOAL_ADMIN_ROW_FORM_H
#define SHOAL_ADMIN_ROW_FORM_H

#include <libpq-fe.h>

#include "core/arena.h"
#include "core/error.h"

typedef struct RowForm {
    const char *columns, *hash; /* SQL; in the arena given */
    bool binary;
} RowForm;

/* One row for each table: its number from 1, columns, binary, hash. `tables` is what stands in FROM: t(rel, n). */
const char *row_form_sql(Arena *arena, const char *tables);
/* The answer, as [count] forms; a table that has gone has no columns. False: out of memory. */
bool row_forms_read(Arena *arena, const PGresult *rows, uint32_t count, RowForm **ret, Error *err) MUST_USE;
/* For rows of which nothing is known. (t.*): a column may be called t. */
#define ROW_HASH_OF_TEXT "pg_catalog.hashtextextended((t.*)::text, 0)"

#endif
