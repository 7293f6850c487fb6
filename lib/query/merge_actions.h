/*
 * merge_actions.h - what the INSERTs of a MERGE write to a key column.
 *
 *     MERGE INTO t USING s ON t.id = s.key WHEN NOT MATCHED THEN INSERT (id, x) VALUES (s.key, 1)      "s"."key"
 *
 * Pure.
 */
#ifndef SHOAL_QUERY_MERGE_ACTIONS_H
#define SHOAL_QUERY_MERGE_ACTIONS_H

#include "query/insert_source.h"

typedef struct MergeActions {
    bool inserts;
    bool alike;       /* every INSERT writes the same plain column of the source to the key */
    SourceColumn key; /* that column */
} MergeActions;

/* `position`: of the key among the table's columns, for INSERTs that name none. False when it cannot be told. */
bool merge_actions_read(Slice text, Slice key, uint32_t position, Arena *arena, MergeActions *ret) MUST_USE;

#endif
