/*
 * table.c - prints a PGresult.
 *
 *     server      role     state  why
 *     ----------  -------  -----  ---
 *     s0/primary  primary  up
 *
 * Control bytes (a newline in a statement's text) are shown as blanks, so that a row stays a line.
 */
#include "bin/table.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define OID_INT8  20
#define WIDTH_MAX 80 /* a longer cell does not widen its column for all rows */

/* Characters of a UTF-8 text. */
static size_t text_width(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

static size_t column_width(const PGresult *rows, int column)
{
    size_t width = text_width(PQfname(rows, column));
    for (int i = 0; i < PQntuples(rows); i++) {
        size_t cell = text_width(PQgetvalue(rows, i, column));
        if (cell > width)
            width = cell;
    }
    return width < WIDTH_MAX ? width : WIDTH_MAX;
}

static void cell_print(FILE *out, const char *text, size_t width, bool right, bool last)
{
    size_t own = text_width(text);
    size_t blanks = own < width ? width - own : 0;
    for (size_t i = 0; right && i < blanks; i++)
        fputc(' ', out);
    for (; *text; text++)
        fputc((unsigned char)*text < ' ' || *text == 0x7f ? ' ' : *text, out);
    for (size_t i = 0; !right && !last && i < blanks; i++)
        fputc(' ', out);
    fputs(last ? "\n" : "  ", out);
}

void table_print(FILE *out, const PGresult *rows)
{
    int columns = PQnfields(rows);
    size_t *widths = calloc(columns > 0 ? (size_t)columns : 1, sizeof *widths);
    if (!widths)
        return;
    for (int c = 0; c < columns; c++) {
        widths[c] = column_width(rows, c);
        cell_print(out, PQfname(rows, c), widths[c], false, c + 1 == columns);
    }
    for (int c = 0; c < columns; c++) {
        for (size_t i = 0; i < widths[c]; i++)
            fputc('-', out);
        fputs(c + 1 == columns ? "\n" : "  ", out);
    }
    for (int i = 0; i < PQntuples(rows); i++) {
        for (int c = 0; c < columns; c++)
            cell_print(out, PQgetvalue(rows, i, c), widths[c], PQftype(rows, c) == OID_INT8,
                       c + 1 == columns);
    }
    free(widths);
}

static json_t *cell_json(const PGresult *rows, int row, int column)
{
    if (PQgetisnull(rows, row, column))
        return json_null();
    const char *text = PQgetvalue(rows, row, column);
    if (PQftype(rows, column) == OID_INT8)
        return json_integer(strtoll(text, NULL, 10));
    json_t *string = json_string(text);
    return string ? string : json_string("(not valid UTF-8)");
}

bool table_print_json(FILE *out, const PGresult *rows)
{
    json_t *array = json_array();
    bool ok = array != NULL;
    for (int i = 0; ok && i < PQntuples(rows); i++) {
        json_t *object = json_object();
        for (int c = 0; object && ok && c < PQnfields(rows); c++)
            ok = json_object_set_new(object, PQfname(rows, c), cell_json(rows, i, c)) == 0;
        ok = ok && object && json_array_append_new(array, object) == 0;
    }
    ok = ok && json_dumpf(array, out, JSON_INDENT(2)) == 0 && fputc('\n', out) != EOF;
    json_decref(array);
    return ok;
}
