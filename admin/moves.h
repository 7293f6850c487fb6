/*
 * moves.h - all moves of the cluster: which one runs now, which one next.
 *
 *     moves_add ─> planned ──(its shards are free, catalogs are read)──> running ─> over
 *
 * At most move_parallel run at a time, and no two that share a shard: each of them loads two. Those
 * that were under way when the router stopped are taken up first. Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_MOVES_H
#define SHOAL_ADMIN_MOVES_H

#include "admin/move.h"

/* What a move takes besides its bytes: announcing, starting streams, waiting for them. */
#define MOVE_FIXED_US UINT64_C(5000000)

typedef struct Moves {
    List list; /* Move.link, by id: those that are not over */
    uint64_t next_id;
    Timer timer;  /* the next look at who may begin */
    bool loaded;
    bool paused;  /* REBALANCE PAUSE: nothing new begins, nothing is fenced */
    uint64_t copies_gone; /* as Topology's */
    uint64_t bytes_per_s; /* of the last move of some size, from its begin to the switch; 0: there was none */
} Moves;

void moves_init(Control *control);
/* What they hold is rolled back; the store knows where they are. */
void moves_finish(Control *control);

/* Plans one; it begins by itself. 55006 when one of the buckets is in another move, 22023 when it does
 * not live on `source`. *ret_id is its number. */
bool moves_add(Control *control, const char *source, const char *target, const BucketSet *buckets,
               uint64_t *ret_id, Error *err) MUST_USE;
/* Moves can be asked for; else 55000. */
bool moves_known(const Control *control, Error *err) MUST_USE;
/* The next one, planned. Who stores it together with more (pins.h) has it taken then. */
StoreMove moves_row(const Control *control, const char *source, const char *target, const char *buckets);
bool moves_take(Control *control, const StoreMove *row, Error *err) MUST_USE;
Move *moves_find(Control *control, uint64_t id);
/* True while some move is not over: tables keep their shape. */
bool moves_any(const Control *control);
bool moves_has_bucket(const Control *control, uint32_t bucket);

/* For control_publish: fills in what is held back, in the topology's arena. False: out of memory. */
bool moves_fence(const Control *control, Topology *topology) MUST_USE;
/* The same for rows that lie where they are not at home, and for tables that may not change. */
bool moves_foreign(const Control *control, Topology *topology) MUST_USE;

/* For move.c. */
void moves_on_rest(Control *control, Move *move);
void moves_look_later(Control *control);
/* The same after a while. */
void moves_look_again(Control *control);

#endif
