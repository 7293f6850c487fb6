/* table.h - a result on the screen: aligned columns for people, or JSON for programs. */
#ifndef SHOAL_BIN_TABLE_H
#define SHOAL_BIN_TABLE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>

void table_print(FILE *out, const PGresult *rows);
/* An array of objects; int8 columns as numbers, NULL as null. False when memory is out. */
bool table_print_json(FILE *out, const PGresult *rows);

#endif
