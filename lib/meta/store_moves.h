/*
 * store_moves.h - what the Store keeps of moves: each step before it is taken, and the one transaction
 * that gives buckets a new owner.
 *
 *     store_put_move ... store_put_move -> store_switch_owner -> store_put_move ...
 *
 * The owner of a bucket changes nowhere else. Errors as in store.h; after store_failed the outcome of
 * the last change is unknown until the store is opened again.
 */
#ifndef SHOAL_META_STORE_MOVES_H
#define SHOAL_META_STORE_MOVES_H

#include "meta/bucket_sql.h"
#include "meta/store.h"

/* One move; texts are the caller's, never NULL. */
typedef struct StoreMove {
    uint64_t id;                 /* 1, 2, 3 ...; never used again */
    const char *source, *target; /* shards by name */
    const char *buckets;         /* bucket_set_text */
    const char *state, *step;    /* admin/move.h knows them */
    uint32_t attempts;
    const char *reason;
    uint64_t created_wall_us, changed_wall_us;
} StoreMove;

bool store_put_move(Store *store, const StoreMove *move, Error *err) MUST_USE;
/* The same in a transaction of the caller, who seals and commits. */
bool store_move_row(Store *store, const StoreMove *move, Error *err) MUST_USE;
/* All, in order of id; in the arena. */
bool store_load_moves(Store *store, Arena *arena, StoreMove **ret_moves, uint32_t *ret_count,
                      Error *err) MUST_USE;
/* Drops all but the newest `keep` of those that are over (states done, cancelled, failed). */
bool store_forget_moves(Store *store, uint32_t keep, Error *err) MUST_USE;
/* One transaction: these buckets live on `owner` now, the map's version grows, the move's row is as
 * given. Refused (XX001) when one of them does not live on `from`. */
bool store_switch_owner(Store *store, const StoreMove *move, const BucketSet *buckets,
                        const char *from, const char *owner, Error *err) MUST_USE;

/* Shards that take part, in order of index; in the arena. */
bool store_load_members(Store *store, Arena *arena, const char ***ret_names, uint32_t *ret_count,
                        Error *err) MUST_USE;
/* Replaces the list. */
bool store_put_members(Store *store, const char *const *names, uint32_t count, Error *err) MUST_USE;

/* A commit ended in an unknown state (H67): nothing more is written by this process. */
bool store_failed(const Store *store);

#endif
