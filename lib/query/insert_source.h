/*
 * insert_source.h - an INSERT cut into where its rows come from and what is done with them.
 *
 *     WITH w AS (...) INSERT INTO t AS a (x, y) SELECT ... FROM w ON CONFLICT (x) DO NOTHING RETURNING y
 *       source   WITH w AS (...) SELECT ... FROM w
 *       probe    INSERT INTO t AS a (x, y) WITH w AS (...) SELECT ... ON CONFLICT (x) DO NOTHING RETURNING *
 *       rows     INSERT INTO s.t AS a (x, y, z) OVERRIDING SYSTEM VALUE
 *                SELECT ... FROM unnest($1::s.t[]) shoal_rows ON CONFLICT (x) DO NOTHING RETURNING y
 *
 * Pure. Parameters keep their numbers.
 */
#ifndef SHOAL_QUERY_INSERT_SOURCE_H
#define SHOAL_QUERY_INSERT_SOURCE_H

#include "core/arena.h"
#include "core/slice.h"

/* An output column of the source that is nothing but a column of one of its tables. */
typedef struct SourceColumn {
    Slice qualifier; /* empty: unqualified */
    Slice name;      /* empty: it is something else */
} SourceColumn;

typedef struct InsertSource {
    Slice text;  /* SELECT or VALUES; empty: DEFAULT VALUES */
    Slice probe; /* gives the rows back, all columns; for asking about types only */
    bool plain;  /* VALUES, DEFAULT VALUES: no SELECT */
    bool star;   /* SELECT * FROM one_table: its columns in their order */
    SourceColumn *columns; /* of a plain SELECT list without * */
    uint32_t column_count;
    bool on_conflict, returning, user_value; /* user_value: OVERRIDING USER VALUE */
    bool conflict_params, returning_params;  /* ON CONFLICT, RETURNING have parameters */
    bool reads_more; /* ON CONFLICT, RETURNING have subqueries */
} InsertSource;

/* False when it cannot be taken apart (or memory is out). */
bool insert_source_read(Slice text, Arena *arena, InsertSource *ret) MUST_USE;
/* The statement for rows given as an array of the table's row type, parameter number `param`. `columns` are
 * those that can be written. Empty when it cannot be made. */
Slice insert_rows_text(Slice text, Slice schema, Slice table, const Slice *columns, uint32_t column_count,
                       uint32_t param, Arena *arena);
/* "a ""name""" with its quotes. Empty when memory is out. */
Slice insert_quote(Slice name, Arena *arena);

#endif
