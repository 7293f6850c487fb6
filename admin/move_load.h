/*
 * move_load.h - a move gives way to the work of its source.
 *
 *     each second: how many statements run there?   > move_load_max:        the copy stands still, nothing is switched
 *                                                   <= three quarters of it: it goes on
 *
 * Statements of everybody count, whichever way they came, but not Shoal's own. What has begun on the server (the digest
 * of a table) goes on. A pause by an operator (REBALANCE PAUSE) is another thing. Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_MOVE_LOAD_H
#define SHOAL_ADMIN_MOVE_LOAD_H

#include "admin/pg_client.h"

typedef struct Move Move;

typedef struct MoveLoad {
    PgClient client;
    PgQuery query;
    Timer timer;      /* the next look; loop NULL: not begun */
    uint64_t running; /* statements, at the last look */
    bool looked;      /* there was a look */
    bool high;        /* the move stands still */
    uint64_t lag;     /* bytes of log that the target lacks, at the last look of catching up */
    bool behind;      /* too many: nothing is switched */
} MoveLoad;

/* With its first look. The move has legs. */
void move_load_start(Move *move);
/* Also for one that was never started; nothing stands still any more. */
void move_load_stop(Move *move);
/* The target's lag was looked at: told when it passes move_lag_max, either way. */
void move_lag_look(Move *move, uint64_t lag);
/* It must not be switched now. */
bool move_load_holds(const Move *move);
/* Is it above the bound? For the two looks' rule: `high` is what it was. Pure. */
bool move_load_judge(uint64_t running, uint64_t max, bool high);

#endif
