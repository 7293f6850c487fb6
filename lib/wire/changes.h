/*
 * changes.h - messages of pgoutput (logical replication, protocol 1): which rows were changed, by one column.
 *
 *     B begin | R relation: id, schema, name, columns | I U D: relation's id, old row or key, new row | C commit | ...
 *
 *     R must come before the first change of its relation. | n | u | t length text |   is a column's value
 *
 * Who wants to know which rows may differ needs no more than their keys. Text values are as the output function of
 * the type writes them.
 */
#ifndef SHOAL_WIRE_CHANGES_H
#define SHOAL_WIRE_CHANGES_H

#include "core/error.h"
#include "wire/frame.h"

#define CHANGE_RELATIONS_MAX 80

/* A relation of interest, and its column. Borrowed. */
typedef struct ChangeTable {
    Slice schema, name, column;
    uint32_t oid;     /* as announced; 0: not yet */
    uint32_t at;      /* the column's position */
} ChangeTable;

typedef struct ChangeReader {
    ChangeTable *tables; /* the caller's */
    uint32_t table_count;
} ChangeReader;

typedef struct Change {
    uint32_t table;   /* index in tables */
    uint32_t count;   /* 0: no row; 2: the column's value was changed: both */
    Slice values[2];  /* borrowed from the message; never NULLs */
} Change;

/* WIRE_OK: ret->count values (none for messages that change no row of these tables). WIRE_BAD: not understood, or a
 * change of a relation whose R has not come. */
WireResult change_read(ChangeReader *reader, Slice message, Change *ret, Error *err) MUST_USE;

#endif
