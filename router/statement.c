/* statement.c - what a Parse leaves behind in a session. */
#include "router/statement.h"

#include <stdlib.h>

Statement *statement_create(const StatementContext *context, Slice name, Slice text,
                            const uint32_t *oids, uint32_t oid_count, bool standard_strings,
                            bool values_may_vary)
{
    Statement *statement = calloc(1, sizeof *statement);
    if (!statement)
        return NULL;
    statement->refs = 1;
    arena_init(&statement->arena, 256);
    statement->name = malloc(name.len + 1);
    statement->prepared = prepared_intern(context->prepared, text, oids, oid_count);
    if (!statement->name || !statement->prepared ||
        !shape_read(context->shapes, statement->prepared->text, standard_strings, values_may_vary,
                    &statement->arena, &statement->reading)) {
        statement_release(context, statement);
        return NULL;
    }
    if (name.len)
        memcpy(statement->name, name.data, name.len);
    statement->name[name.len] = '\0';
    statement->name_len = name.len;
    statement->hash = slice_hash(name, 0);
    return statement;
}

Statement *statement_retain(Statement *statement)
{
    statement->refs++;
    return statement;
}

void statement_release(const StatementContext *context, Statement *statement)
{
    if (!statement)
        return;
    assert(statement->refs > 0);
    if (--statement->refs)
        return;
    if (statement->reading.shape)
        shape_release(context->shapes, statement->reading.shape);
    prepared_release(context->prepared, statement->prepared);
    arena_finish(&statement->arena);
    free(statement->name);
    free(statement);
}

bool statement_name_equal(const void *item, const void *key)
{
    const Statement *statement = item;
    return slice_equal(slice_of(statement->name, statement->name_len), *(const Slice *)key);
}
