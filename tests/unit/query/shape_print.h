/*
 * shape_print.h - a Shape as one line, for tables of expectations.
 *
 *     SELECT +limit t:users e:users.id=#0 j:a.x<b.y f:now o:+ y:pg_catalog.int8
 *
 * t: tables   [!target] [schema.]name[/alias][@level]
 * e: equals   alias.column=value, ~ when not plain; ?level.column when the table is unknown
 * j: joins    left side obeys, given the right side
 * f: functions   o: operators but =   y: types   a: assigned   c: columns   v: values, ; between rows
 * s: setting=value   n: name of statement   p: options   call(...)   r: reason
 * values      #n literal  $n parameter  - before negative ones  null  default  ?  ::type
 */
#ifndef SHOAL_TESTS_QUERY_SHAPE_PRINT_H
#define SHOAL_TESTS_QUERY_SHAPE_PRINT_H

#include "query/shape.h"

/* Cut at `size`; returns `out`. */
const char *shape_print(const Shape *shape, char *out, size_t size);

typedef struct ShapeRow {
    const char *sql, *expected;
} ShapeRow;

/* Reads each statement with a fresh cache and compares; says which rows differ before it fails. */
void shape_rows_check(const ShapeRow *rows, size_t n);
#define SHAPE_ROWS_CHECK(rows) shape_rows_check((rows), ARRAY_LEN(rows))

#endif
