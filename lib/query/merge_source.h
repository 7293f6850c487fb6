/*
 * merge_source.h - a MERGE cut into the rows it takes and what it does with them.
 *
 *     MERGE INTO t USING (SELECT ...) AS s (id, x) ON t.id = s.id WHEN ...
 *       text    SELECT ...                                            the rows
 *       query   WITH shoal_s (c1, c2) AS MATERIALIZED (SELECT ...)    the same: a line of types, and each row as texts
 *               SELECT 'T', types ... UNION ALL SELECT 'R', key, row ...
 *       rows    MERGE INTO t USING (SELECT a[1]::int8, a[2]::text FROM unnest($1::text[]) ...) AS s (id, x) ON ...
 *
 * Pure. Parameters keep their numbers.
 */
#ifndef SHOAL_QUERY_MERGE_SOURCE_H
#define SHOAL_QUERY_MERGE_SOURCE_H

#include "core/arena.h"
#include "core/slice.h"

#define MERGE_KEYS_MAX 8

/* What the caller knows about tables. */
typedef struct MergeTables {
    const Slice *keys;         /* of the target */
    const uint32_t *positions; /* of its keys among its columns, for INSERTs that name none */
    uint32_t key_count;
    /* The columns of a table of the source, in order; NULL: not known. */
    const Slice *(*columns)(void *context, Slice schema, Slice name, uint32_t *ret_count);
    void *context;
} MergeTables;

/* A value of the key, in VALUES or in a SELECT of constants. */
typedef struct MergeValue {
    enum { MERGE_VALUE_OTHER, MERGE_VALUE_INTEGER, MERGE_VALUE_STRING, MERGE_VALUE_PARAM } kind;
    Slice text;     /* INTEGER (with its sign), STRING */
    uint32_t param; /* PARAM */
    Slice cast_schema, cast; /* the type's name; empty: none */
} MergeValue;

typedef struct MergeSource {
    Slice text;
    Slice *names; /* of its columns; empty: the alias of the source gives the name */
    uint32_t column_count;
    bool joined;      /* ON has target.key = source.column for each key ... */
    uint32_t at[MERGE_KEYS_MAX]; /* ... which column that is */
    bool inserts;
    bool inserts_key; /* every INSERT writes those columns to the keys */
    bool reads_more;  /* ON or WHEN have subqueries */
    const bool *params, *rest_params; /* [param_max + 1]: used in the source; in what is done with it */
    /* VALUES, and nothing else that could make or leave out a row: [row * key_count + i]. NULL: another source. */
    MergeValue *values;
    uint32_t value_rows;
} MergeSource;

/* False, and `why` a constant text, when it cannot be taken apart. `param_max`: the statement's highest. */
bool merge_source_read(Slice text, const MergeTables *tables, uint32_t param_max, Arena *arena, MergeSource *ret,
                       const char **why) MUST_USE;
/* `text`: the source's, perhaps over other tables by now. Columns of the answer: mark, one for each key (the type's
 * OID, or the value), and an array of texts (type names, or values). Empty when memory is out. */
Slice merge_query_text(const MergeSource *source, uint32_t key_count, Slice text, Arena *arena);
/* The statement for rows given as an array of arrays, as texts, in parameter number `param`. `types`: one for each
 * column. Empty when it cannot be made. */
Slice merge_rows_text(Slice text, const MergeSource *source, const Slice *types, uint32_t param, Arena *arena);

#endif
