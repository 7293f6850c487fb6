/*
 * move_copy.h - the rows of a leg's buckets, as they were when the slot was made: COPY out of the source's
 * snapshot, COPY into the target.
 *
 *     source ──COPY TO STDOUT──> one row at a time ──> COPY FROM STDIN ──> target
 *                    paused while the target's socket is full, or by the speed limit
 *
 * Text or binary, which is half the work, as the statements say (row_form.h). Columns are
 * named, generated ones are left out. The target runs as a replica: no triggers, no foreign keys
 * (their rows come as well). One transaction per table on the target. Nothing is kept in memory but
 * what the sockets hold.
 */
#ifndef SHOAL_ADMIN_MOVE_COPY_H
#define SHOAL_ADMIN_MOVE_COPY_H

#include "admin/pg_client.h"

typedef struct MoveCopy MoveCopy;

struct MoveCopy {
    PgClient out, in;
    Timer timer; /* the speed limit's next slice */
    PgQuery out_queries[80], in_queries[80];
    uint32_t out_count, in_count;
    uint32_t out_left, in_left; /* runs that are not over */
    bool in_ready;  /* COPY FROM has begun */
    bool out_ready; /* COPY TO has begun */
    bool full;      /* the target's socket takes no more */
    bool slowed;    /* waits for the timer */
    bool held;      /* stands still until somebody says otherwise */
    bool failed;
    uint32_t unsent; /* bytes written since the last flush */
    uint64_t budget;  /* bytes left of this slice of time */
    uint64_t per_slice; /* bytes; 0: no limit */
    uint64_t rows, bytes, table_rows;
    Error err;
    /* All rows are committed on the target, or err. Last act in this turn. */
    void (*on_done)(MoveCopy *copy, const Error *err);
    /* The snapshot is taken over: whoever exported it may let go. */
    void (*on_snapshot)(MoveCopy *copy);
    void *ctx;
};

/* One table: both statements, in an arena that outlives the run. */
typedef struct MoveCopyTable {
    const char *out, *in; /* COPY (SELECT ...) TO STDOUT; COPY t (...) FROM STDIN */
} MoveCopyTable;

void move_copy_init(MoveCopy *copy, Loop *loop, void *ctx);
/* `set_snapshot`: SET TRANSACTION SNAPSHOT '...'. bytes_per_s 0: as fast as it goes. */
void move_copy_run(MoveCopy *copy, const PgLogin *source, const PgLogin *target, const char *set_snapshot,
                   const MoveCopyTable *tables, uint32_t count, uint64_t bytes_per_s);
/* Stands still, or goes on; also between two runs. */
void move_copy_hold(MoveCopy *copy, bool held);
void move_copy_close(MoveCopy *copy);

#define MOVE_COPY_TABLES_MAX 70

#endif
