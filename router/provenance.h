/*
 * provenance.h - do the values of statements come, in order, from the rows of an earlier one? Pure.
 *
 *     A  SELECT id, author FROM posts       id  author
 *                                           1   7       <- B(7)
 *                                           2   9       <- B(9)
 *                                           3   9
 *                                           4   NULL
 *                                           5   4       <- B(4)
 *
 * A ParentRows is A's result as it passed by: its DataRows one behind the other, and where each begins.
 * A Provenance follows the Bs: each (value, column) pair that fits so far is a Suspect, with the row it has
 * come to. Between one B and the next rows may be passed over whose value is NULL, or was met before (an
 * ORM asks once for each object). Values are compared as a person would: 42 in a text row and in a binary
 * parameter are the same. A wrong guess costs time only, so nothing here need be exact; everything must
 * be bounded.
 */
#ifndef SHOAL_ROUTER_PROVENANCE_H
#define SHOAL_ROUTER_PROVENANCE_H

#include "core/buf.h"
#include "wire/formats.h"

#define PROVENANCE_COLUMNS_MAX  32 /* of A; those behind are not looked at */
#define PROVENANCE_VALUES_MAX   8 /* of B */
#define PROVENANCE_SUSPECTS_MAX 16

typedef struct ParentRows {
    Buf bytes; /* bodies of DataRows */
    uint32_t *at; /* where each begins; owned */
    uint32_t count, room, rows_max;
    uint32_t binary; /* bit per column */
    bool overflow; /* it was too large: nothing is kept */
} ParentRows;

void parent_rows_init(ParentRows *rows);
void parent_rows_finish(ParentRows *rows);
/* Forgets what was there; the next result's columns come in these formats. */
void parent_rows_begin(ParentRows *rows, WireFormats formats, uint32_t rows_max, uint64_t bytes_max);
/* One DataRow's body. */
void parent_rows_add(ParentRows *rows, Slice body);
/* Gives the memory back. */
void parent_rows_drop(ParentRows *rows);
size_t parent_rows_memory(const ParentRows *rows);
/* Column `column` of row `row`; false when it is NULL or not there. */
bool parent_rows_value(const ParentRows *rows, uint32_t row, uint32_t column, Slice *ret,
                       uint16_t *ret_format);

/* The same for the same value, however it is written; never 0. */
uint64_t provenance_hash(Slice value, uint16_t format);
uint64_t provenance_hash_integer(int64_t number);

typedef struct Suspect {
    uint8_t value, column;
    uint16_t changes; /* how often it differed from the one before: a constant is no key */
    uint32_t row; /* of A, that it has come to */
    uint64_t last;
} Suspect;

typedef struct Provenance {
    Suspect suspects[PROVENANCE_SUSPECTS_MAX];
    uint32_t suspect_count;
    uint32_t turns; /* Bs that fitted, from the first one on */
    bool broken; /* one did not fit: no more is learned from this result */
} Provenance;

/* The next B. `values`: hashes of its values, 0 for those that are none (NULL). False when the loop is, or
 * becomes, broken. */
bool provenance_step(Provenance *loop, const ParentRows *rows, const uint64_t *values, uint32_t value_count);
/* The suspects that vary, at most one per value, into `ret`; how many. */
uint32_t provenance_links(const Provenance *loop, Suspect *ret, uint32_t max);

#endif
