/*
 * expect.h - what a server owes: one expectation per message sent, matched with answers in order.
 *
 *     sent       P(hidden)   B    D    E              S
 *     expected   1           2    T|n  D..D C|s|I     Z
 *                ^head
 *
 * Two things are owed in ReadyForQuery: by each Sync and by each Query or FunctionCall (H01). An
 * ErrorResponse settles the head; of an extended series it also settles everything up to the next
 * Sync, because the server skips that (H04). What Shoal answers for the server (ParseComplete,
 * CloseComplete) stands in the same queue, so that it comes in order (H03).
 * Pure: no sockets, no clock. Owner: a Backend.
 */
#ifndef SHOAL_BACKEND_EXPECT_H
#define SHOAL_BACKEND_EXPECT_H

#include "backend/prepared.h"

typedef enum ExpectKind {
    EXPECT_PARSE,              /* 1 */
    EXPECT_BIND,               /* 2 */
    EXPECT_DESCRIBE_STATEMENT, /* t, then T or n */
    EXPECT_DESCRIBE_PORTAL,    /* T or n */
    EXPECT_EXECUTE,            /* D.. then C, s or I; H d.. c C; G .. C */
    EXPECT_CLOSE,              /* 3 */
    EXPECT_SYNTHETIC,          /* nothing: `answer` is put in by Shoal when its turn comes */
    EXPECT_COPY_END,           /* nothing: CopyDone or CopyFail was sent here */
    EXPECT_FUNCTION,           /* V, then Z */
    EXPECT_QUERY,              /* results (T D.. C | C | I | copies), then Z */
    EXPECT_SYNC                /* Z */
} ExpectKind;

typedef struct Expect {
    uint8_t kind;       /* ExpectKind */
    uint8_t answer;     /* SYNTHETIC: '1' or '3' */
    bool hidden;        /* its answers are not for the sink (an error is, unless `errand`) */
    bool errand;        /* the backend's own business: nothing of it is for the sink */
    bool unnamed;       /* PARSE, BIND, DESCRIBE_STATEMENT: of the unnamed statement */
    bool described;     /* EXECUTE: of the portal that the step before described */
    Prepared *prepared; /* PARSE, BIND, DESCRIBE_STATEMENT; borrowed from the known statements */
} Expect;

/* Where the head stands between its messages. */
typedef enum ExpectPhase {
    PHASE_START,
    PHASE_TYPES,     /* DESCRIBE_STATEMENT: t came */
    PHASE_ROWS,      /* rows may come */
    PHASE_COPY_IN,   /* the server reads d, c, f */
    PHASE_COPY_OUT,  /* the server sends d */
    PHASE_COPY_DONE, /* ... and has sent c */
    PHASE_RESULT,    /* QUERY, FUNCTION: a result is complete; another one or Z may follow */
    PHASE_FAILED     /* E came; only Z may follow */
} ExpectPhase;

typedef struct ExpectQueue {
    Expect *ring;               /* owned */
    uint32_t size, head, count; /* size is a power of two */
    uint32_t readies;           /* ReadyForQuery owed: SYNC, QUERY and FUNCTION in the queue */
    uint32_t swallowed;         /* Syncs that the last CopyInResponse made the server ignore */
    ExpectPhase phase;
    int columns;   /* of the rows now coming; -1 when not known */
    int described; /* columns that the last Describe of a portal told; -1 none */
    bool skipping; /* the server skips what it reads until a Sync, and none is in the queue */
} ExpectQueue;

void expect_init(ExpectQueue *queue);
void expect_finish(ExpectQueue *queue);
/* False when memory is out. */
bool expect_push(ExpectQueue *queue, Expect expect) MUST_USE;
/* True when a step of this kind would only be skipped by the server: neither send nor push it. */
static inline bool expect_would_skip(const ExpectQueue *queue, ExpectKind kind)
{
    return queue->skipping && kind != EXPECT_SYNC;
}
/* NULL when nothing is owed. Markers of COPY that have had their time are dropped first. */
const Expect *expect_head(ExpectQueue *queue);

typedef enum ExpectVerdict {
    EXPECT_REFUSED,  /* the server may not send this now: drop the connection */
    EXPECT_GOES_ON,  /* belongs to the head, which waits for more */
    EXPECT_ANSWERED, /* the head's last message; it has left the queue */
    EXPECT_FAILED,   /* the head's error; it has left the queue. Next: expect_skip until false.
                       A QUERY, FUNCTION or SYNC stays, for its Z */
    EXPECT_READY     /* Z; it has left the queue */
} ExpectVerdict;

/* Matches a message by its type (not N, S, A, which may come at any time). `*ret` is the
 * expectation it belongs to. A count of columns goes in with T (n: 0) and comes out, for rows, by
 * expect_columns. */
ExpectVerdict expect_match(ExpectQueue *queue, uint8_t type, int columns, Expect *ret) MUST_USE;
/* After EXPECT_FAILED: takes out what the server skips. False at the Sync, or at the end of the
 * queue (what comes is skipped then, too). */
bool expect_skip(ExpectQueue *queue, Expect *ret) MUST_USE;
/* Takes out whatever is at the head: the connection is lost, or nothing was sent. */
bool expect_drop(ExpectQueue *queue, Expect *ret) MUST_USE;
/* The answers that Shoal owes itself: takes out a synthetic head. */
bool expect_take_synthetic(ExpectQueue *queue, Expect *ret) MUST_USE;

static inline bool expect_copy_in(const ExpectQueue *queue)
{
    return queue->count > 0 && queue->phase == PHASE_COPY_IN;
}
/* True while a Parse of this statement was sent and is not yet answered. */
bool expect_awaits_parse(const ExpectQueue *queue, const Prepared *prepared);
/* True while the server is in COPY IN and no end of it has been sent: it ignores a Sync
 * (bad-input 99). */
bool expect_ignores_sync(const ExpectQueue *queue);

#endif
