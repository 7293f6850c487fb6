/*
 * store_pins.h - what the Store keeps of pinned values: which, and where the bucket of each lives.
 *
 *     store_add_pin -> store_switch_owner (store_moves.h) ... -> store_remove_pin
 *
 * Errors as in store.h. A pin is made together with the move that takes it away, so that none is left over by a crash.
 */
#ifndef SHOAL_META_STORE_PINS_H
#define SHOAL_META_STORE_PINS_H

#include "meta/pin.h"
#include "meta/store_moves.h"

/* One transaction: the pin with its bucket, which lives on `shard` as its rows do until now, and the move. */
bool store_add_pin(Store *store, uint32_t bucket, const Pin *pin, const char *shard, const StoreMove *move,
                   Error *err) MUST_USE;
/* The value's rows are its home bucket's again. The bucket stays, free. */
bool store_remove_pin(Store *store, uint32_t bucket, Error *err) MUST_USE;

/* For store.c and store_moves.c. Every pin, behind the buckets of the hash that `map` has already. */
bool store_load_pins(Store *store, ShardMap *map, const Config *config, Error *err) MUST_USE;
/* In a transaction, which seals them at its end. */
bool store_pin_owner(Store *store, uint32_t bucket, const char *from, const char *owner, Error *err) MUST_USE;

#endif
