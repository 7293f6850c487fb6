/*
 * term.h - a statement with one more AND-term: it sees fewer rows of one of its tables.
 *
 *     UPDATE t SET x = 1 WHERE y > 2     +  t.id > 7     UPDATE t SET x = 1 WHERE y > 2 AND t.id > 7
 *     SELECT a, count(*) FROM t GROUP BY 1               SELECT a, count(*) FROM t WHERE t.id > 7 GROUP BY 1
 *     COPY t TO STDOUT (FORMAT csv)                      COPY (SELECT "a", "b" FROM ONLY t WHERE ...) TO ...
 *
 *     MERGE INTO t USING s ON ... WHEN MATCHED THEN ...  MERGE ... WHEN MATCHED AND s.id > 7 THEN ...
 *
 * Pure. While buckets move, the shards that hold rows of others are asked with such a term.
 */
#ifndef SHOAL_QUERY_TERM_H
#define SHOAL_QUERY_TERM_H

#include "core/arena.h"

/* `term` stands in the outermost WHERE, so its columns must be those of that level. `columns`: what COPY of a
 * whole table means when it names none, as SQL. Empty: memory is out, the text is no single SELECT, UPDATE, DELETE,
 * MERGE or COPY TO, a join's own alias hides its tables, or WHERE CURRENT OF stands where the term would. */
Slice term_add(Slice text, const char *term, const char *columns, Arena *arena);

#endif
