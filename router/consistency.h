/*
 * consistency.h - what a read was promised, and whether a server keeps it. Pure.
 *
 *     hint > session > user > database > [replicas]     the first that says anything
 *
 *     strong     the primary
 *     bounded    whatever was committed more than max_lag ago is there
 *     session    what this session has written is there, and nothing that it has seen is gone
 *     eventual   any replica that is one
 *
 * The proof is one comparison of times of this machine's own clock: `fresh_us` of a server means that
 * all that was acknowledged before is visible there (meta/standing.h). A session's last write was
 * acknowledged at floor_us: fresh_us >= floor_us, and it is there. Figures grow old by themselves: a
 * router that was stopped for a minute finds that it knows nothing.
 */
#ifndef SHOAL_ROUTER_CONSISTENCY_H
#define SHOAL_ROUTER_CONSISTENCY_H

#include "core/slice.h"
#include "meta/config.h"
#include "meta/standing.h"

#define NO_SERVER       UINT32_MAX
#define READ_COPIES_MAX 3

/* What somebody asked for; READ_DEFAULT and 0 where nothing was said. */
typedef struct ReadWish {
    ReadConsistency consistency;
    uint32_t max_lag_ms;
    uint32_t copies; /* ask so many servers at once, the first answer counts; 0: nothing was said */
    uint32_t deadline_ms;      /* no answer by then: it ends; 0: none */
    uint32_t deadline_percent; /* ... or by what this share of reads takes; 0: none */
    bool late_stale; /* then any replica may answer, however old its data */
} ReadWish;

/* What a session has said, written and seen, as far as its later reads depend on it. */
typedef struct SessionReads {
    ReadWish wish, local; /* `local`: by SET LOCAL, until the transaction ends */
    uint64_t wrote_us;    /* when its last write was acknowledged; 0 never */
    uint64_t saw_us;      /* when it was last answered by `saw_server` */
    uint32_t saw_server;  /* server index; NO_SERVER: a primary, several, or nobody yet */
    bool tx_replica;      /* its transaction is on a replica */
    bool tx_read_only;    /* its transaction said READ ONLY, and no server knows of it yet */
    uint64_t *floors;     /* by shard: LSN that must be replayed where it reads; NULL none; owned */
    uint32_t floor_count;
} SessionReads;

typedef struct ReadPromise {
    ReadConsistency consistency; /* never READ_DEFAULT */
    uint64_t max_lag_us, max_lag_bytes; /* bounded; bytes 0: no limit */
    uint64_t floor_us, floor_lsn;       /* session: what it has written; 0 nothing */
    uint64_t seen_us;                   /* session: when it last read, on `seen_server` */
    uint32_t seen_server;
    uint64_t map_us; /* rows came to the shard up to then: without them it answers nothing; 0 none */
} ReadPromise;

typedef enum ReadRefusal {
    READ_ALLOWED,
    READ_NOT_UP,     /* down, wrong, or not yet asked */
    READ_NO_STANDBY, /* it is the primary, or was promoted */
    READ_STALE,      /* its figures are too old to tell */
    READ_LAGS,       /* older than max_lag */
    READ_LAGS_BYTES,
    READ_BEFORE_WRITE, /* what the session wrote is not known to be there */
    READ_BEFORE_SEEN,  /* what the session saw elsewhere is not known to be there */
    READ_BEFORE_MOVE,  /* rows that were moved to its shard are not known to be there */
    READ_BROKEN,       /* its breaker is open */
    READ_REFUSAL_COUNT
} ReadRefusal;

const char *read_refusal_text(ReadRefusal refusal);

/* May this standby answer? `stale_us`: figures that are older tell nothing of bytes. */
ReadRefusal consistency_check(const ReadPromise *promise, const ServerStanding *standing,
                              uint32_t server, uint64_t now_us, uint64_t stale_us);

/* "bounded", in any case. */
bool consistency_read(Slice text, ReadConsistency *ret) MUST_USE;
/* "80ms", "p99", "p99 stale", "off": of ReadWish only the deadline's fields are set. */
bool consistency_read_deadline(Slice text, ReadWish *ret) MUST_USE;
/* "1" to "3"; "0": as the table or [replicas] says. */
bool consistency_read_copies(Slice text, uint32_t *ret) MUST_USE;
/* "500ms", "2s", "1min"; a bare number is milliseconds. */
bool consistency_read_lag(Slice text, uint32_t *ret_ms) MUST_USE;
/* read_consistency = ..., max_lag = ..., copies = ... in a leading comment, in any order. What is not
 * understood asks for nothing. */
ReadWish consistency_read_hint(Slice hint);

#endif
