/*
 * place_hint.h - where a statement runs that Shoal cannot look into: its client says it in a leading comment.
 *
 *     shoal: shard = s1                    the comment before CALL tidy()
 *     shoal: table = orders, key = 42      ... before DO $$ ... $$: the shard of that row
 *
 * Pure. Other words of the comment are others' (consistency.h, the batcher).
 */
#ifndef SHOAL_ROUTER_PLACE_HINT_H
#define SHOAL_ROUTER_PLACE_HINT_H

#include "core/slice.h"

typedef struct PlaceHint {
    Slice shard;                   /* empty: not said */
    Slice schema, table, key;      /* `table` empty: not said; `schema` empty: by search_path */
    bool has_key, quoted;          /* `quoted`: the key stood in '' */
    bool bad;                      /* shard or table is said, but not in one of the two ways above */
} PlaceHint;

/* False: it says nothing about a place. */
bool place_hint_read(Slice hint, PlaceHint *ret);

#endif
