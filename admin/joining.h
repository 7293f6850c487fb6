/*
 * joining.h - the short time in which a shard joins: nobody writes to several shards, and its reference tables have all
 * rows.
 *
 *     fill ahead ─> fence: statements that write to several shards wait; transactions of before end ─> fill, locked
 *               ─> on_ready: it is told to the workers, they adopt it, recovery has looked at it ─> joining_release
 *
 * So nobody has written to the shards of before when the others knew of one more, and nobody is refused because the new
 * one cannot commit with others yet. A transaction that does not end holds it up: the fence is let go, and tried again
 * later, like that of a move (move_fence_timeout, move_fence_attempts). Where there are no reference tables, missing
 * nothing, the shard joins without it in the end. Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_JOINING_H
#define SHOAL_ADMIN_JOINING_H

#include "admin/drain.h"
#include "admin/shard_fill.h"

typedef struct Joining Joining;

/* Reference tables of one database. */
typedef struct JoiningFill {
    Joining *joining;
    ShardFill fill;
    uint32_t database; /* in the Config with the new shard */
    Table *tables;     /* in the arena */
    uint32_t table_count;
} JoiningFill;

struct Joining {
    Control *control;
    const Config *config; /* with the new shard; borrowed until on_ready */
    uint32_t shard;
    Arena *arena; /* borrowed */
    JoiningFill *fills; /* owned */
    uint32_t fill_count, next;
    bool fenced, locked;
    uint32_t attempts;
    uint64_t fenced_at_us;
    uint64_t held_us; /* how long statements waited in the end; for people */
    Drain drain;
    Timer timer;
    void (*on_ready)(Joining *joining, const Error *err); /* err: it cannot join */
    void *ctx;
};

/* Why it may not begin now: moves are under way, and there are reference tables. */
bool joining_may(const Control *control, Error *err) MUST_USE;
/* on_ready is called later, never from inside. */
void joining_begin(Joining *joining, Control *control, const Config *config, uint32_t shard, Arena *arena,
                   void (*on_ready)(Joining *joining, const Error *err), void *ctx);
/* Locks and fence go. Also for one that never began, or has failed. */
void joining_release(Joining *joining);

#endif
