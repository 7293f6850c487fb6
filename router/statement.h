/*
 * statement.h - a prepared statement as one session knows it: a name for a Prepared, and its Shape.
 *
 * Reference counted within a worker: the session's name table holds one reference, each Request that
 * binds it another, so that a Close in mid pipeline takes nothing away from what was sent before.
 */
#ifndef SHOAL_ROUTER_STATEMENT_H
#define SHOAL_ROUTER_STATEMENT_H

#include "backend/prepared.h"
#include "query/shape.h"

typedef struct Statement {
    char *name;  /* owned, NUL-terminated; "" for the unnamed statement */
    size_t name_len;
    uint64_t hash;
    Prepared *prepared; /* text and declared types */
    ShapeReading reading; /* of the text; its literals live in `arena` */
    Arena arena;
    uint32_t refs;
    bool confirmed; /* ParseComplete went to the client */
} Statement;

typedef struct StatementContext {
    PreparedSet *prepared;
    ShapeCache *shapes;
} StatementContext;

/* NULL when memory is out. One reference. */
Statement *statement_create(const StatementContext *context, Slice name, Slice text,
                            const uint32_t *oids, uint32_t oid_count, bool standard_strings,
                            bool values_may_vary) MUST_USE;
Statement *statement_retain(Statement *statement);
void statement_release(const StatementContext *context, Statement *statement); /* NULL is fine */

/* MapEqual over names: item is a Statement, key a Slice. */
bool statement_name_equal(const void *item, const void *key);

#endif
