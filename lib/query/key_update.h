/*
 * key_update.h - an UPDATE that gives rows another shard key, cut into what is done where.
 *
 *     UPDATE t AS a SET k = k + 1 WHERE x > 2 RETURNING a.x
 *       update   UPDATE t AS a SET k = k + 1 WHERE x > 2
 *                RETURNING a.k::text, a.ctid::text, (a.*)::text       on the shards that the rows lie on
 *       remove   DELETE FROM ONLY s.t WHERE ctid = ANY ($1::tid[])    those that belong elsewhere now
 *       insert   INSERT INTO s.t AS a (k, x) OVERRIDING SYSTEM VALUE
 *                SELECT ... FROM unnest($1::s.t[]) shoal_rows RETURNING a.x     there
 *       reread   SELECT a.x FROM ONLY s.t AS a WHERE a.ctid = ANY ($1::tid[])   those that stayed, for RETURNING
 *
 * Pure. Parameters of `update` keep their numbers; the other texts have one, the array.
 */
#ifndef SHOAL_QUERY_KEY_UPDATE_H
#define SHOAL_QUERY_KEY_UPDATE_H

#include "core/arena.h"
#include "core/slice.h"

/* The table as the catalog has it. */
typedef struct KeyUpdateTable {
    Slice schema, name;
    const Slice *keys; /* its key columns */
    uint32_t key_count;
    const Slice *columns; /* that can be written: all but generated ones */
    uint32_t column_count;
} KeyUpdateTable;

typedef struct KeyUpdate {
    Slice update, remove, insert;
    Slice reread; /* empty without RETURNING */
    bool returning;
    bool returns_more; /* RETURNING has parameters, subqueries, or may name tables of FROM */
} KeyUpdate;

/* False when it is no single UPDATE, or cannot be taken apart (or memory is out). */
bool key_update_read(Slice text, const KeyUpdateTable *table, Arena *arena, KeyUpdate *ret) MUST_USE;

#endif
