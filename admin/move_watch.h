/*
 * move_watch.h - which keys were written since the copy began, and are not yet proven to be equal on both shards.
 *
 *     before the main slot     a temporary slot of our own, same publication: the watch
 *     copy done                every copied row is proven by digest, in the copy's own snapshot: all that can differ
 *                              now are rows that were written since, and those the watch tells
 *     catching up, in rounds   read the watch; read some of the keys on the source; when the target has passed
 *                              that, read them there; read the watch again
 *                                equal, and not written meanwhile:  proven, forgotten
 *     inside the fence         the keys that are left, on both sides, in one question each
 *
 * So the pause does not grow with the size of what moves, but with what was written in the last moments. The slot is
 * its session's: it goes with the connection, whoever dies. Without a watch (Shoal was restarted, too many keys, the
 * way back) everything is compared inside the fence.
 */
#ifndef SHOAL_ADMIN_MOVE_WATCH_H
#define SHOAL_ADMIN_MOVE_WATCH_H

#include <libpq-fe.h>

#include "core/map.h"
#include "wire/changes.h"

typedef struct MoveLeg MoveLeg;

#define WATCH_KEYS_MAX    200000 /* more are not kept in mind: the watch is given up */
#define WATCH_ROUND_KEYS  1000   /* of one round */
#define WATCH_FENCE_KEYS  500    /* that may be left for the fence */
#define WATCH_CHANGES     5000   /* read at once */

typedef struct WatchKey {
    uint32_t table;     /* of a key of several columns only the first is kept: its rows in all buckets that move */
    uint64_t round;     /* in which it is looked at; 0: not yet */
    uint64_t said[2];   /* hash of count and sum of its rows, by source and target; 0: no row */
    uint32_t len;
    char text[];        /* as the type's output function writes it */
} WatchKey;

typedef struct MoveWatch {
    bool on;            /* the slot is there, and nothing was missed */
    bool more;          /* the last reading was full: there is more */
    Map keys;           /* WatchKey, malloc'ed */
    ChangeTable *tables; /* [leg->table_count] */
    uint64_t round;     /* grows */
    uint64_t lsn;       /* that the target must have passed before it is asked */
    bool passed;
    uint64_t proven;    /* keys, for SHOW and logs */
} MoveWatch;

/* The slot will be made by whoever runs this; NULL: memory is out. */
const char *watch_sql_create(MoveLeg *leg);
bool watch_begin(MoveLeg *leg) MUST_USE;
void watch_end(MoveLeg *leg);

/* What was written since the last reading: one row each. False: not understood. */
const char *watch_sql_read(MoveLeg *leg);
bool watch_read(MoveLeg *leg, const PGresult *rows, Error *err) MUST_USE;

/* Chooses keys for a round. */
void watch_round(MoveLeg *leg);
/* How many keys of a table are in the round (`all`: are left). */
uint32_t watch_count(const MoveLeg *leg, uint32_t table, bool all);
/* Rows: table, key, count, sum; of the keys of this round. `all`: of all keys, one row for them together. */
const char *watch_sql_keys(const MoveLeg *leg, uint32_t table, bool all);
void watch_said(MoveLeg *leg, int side, const PGresult *rows);
/* The round is over: those that are equal on both sides are forgotten. */
void watch_settle(MoveLeg *leg);

#endif
