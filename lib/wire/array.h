/*
 * array.h - one array parameter out of many members' values, written straight into a Bind.
 *
 *     size_t at = writer_begin_value(buf);
 *     array_begin(&array, buf, FORMAT_BINARY, WIRE_OID_INT8);
 *     array_add(&array, key) for each member
 *     array_end(&array);
 *     writer_end_value(buf, at);
 *
 * Text form: {"a","b",NULL}, each value quoted always, so that no content has a meaning. Values
 * must be in an encoding in which no byte of a longer character looks like ASCII (UTF-8, any
 * server encoding; not SJIS, BIG5, GBK, GB18030, JOHAB, UHC).
 * Binary form: one dimension, lower bound 1, each value as the element type's send function gives
 * it. The Buf must not be consumed from between begin and end; trouble is its `failed`.
 */
#ifndef SHOAL_WIRE_ARRAY_H
#define SHOAL_WIRE_ARRAY_H

#include "core/arena.h"
#include "core/buf.h"
#include "wire/protocol.h"

typedef struct ArrayWriter {
    Buf *buf;      /* borrowed */
    int format;    /* FORMAT_TEXT or FORMAT_BINARY: of the array and of each value */
    size_t mark;   /* start of the array in the Buf, counted from its head */
    int32_t count; /* elements so far */
    bool has_null;
} ArrayWriter;

void array_begin(ArrayWriter *array, Buf *buf, int format, uint32_t element_oid);
void array_add(ArrayWriter *array, Slice value);
void array_add_null(ArrayWriter *array);
void array_end(ArrayWriter *array);

/* The way back, for arrays of one dimension that a client gives: which values are in it? */
typedef struct ArrayReader {
    Slice rest; /* borrowed */
    int format;
    uint32_t element_oid; /* binary: as the array says it; 0 in text */
    uint32_t left;        /* binary: elements not yet taken; text: 1 while one must follow */
    uint8_t *space;       /* text: where elements are unquoted to; in the arena */
    bool bad;             /* it is not what was expected; whoever stores it will say so */
} ArrayReader;

/* False: not an array of one dimension, or with bounds of its own (or memory is out). */
bool array_open(ArrayReader *reader, int format, Slice bytes, Arena *arena) MUST_USE;
/* The next element; data NULL for NULL. False at the end, or when it is bad. */
bool array_take(ArrayReader *reader, Slice *ret_value);

#endif
