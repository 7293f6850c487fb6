/*
 * prefetch.h - one session's answers, fetched ahead by one batch: the sequential N+1 loop.
 *
 *     SELECT id, author FROM posts         7, 9, 4              what the session read
 *     SELECT name FROM users WHERE id = 7  ──> batch {7, 9, 4} ──> its own answer, from the batch
 *     SELECT name FROM users WHERE id = 9  ──> kept rows           no statement
 *     SELECT name FROM users WHERE id = 4  ──> kept rows           no statement
 *
 * The caller guesses the keys; nothing here depends on the guess being right. An answer is given from the
 * kept rows only to a statement of the same Group with the same key bytes: to one that could have
 * travelled in that batch (docs/batching.md). How old it may be is the caller's business.
 *
 * The batch is speculation. It runs on a connection of its own; inside a transaction on that
 * transaction's, between SAVEPOINT and ROLLBACK TO, in one write. On any error, and when it takes longer
 * than `wait_ms`, it is given up and the client's own statement runs as it is.
 *
 *   state    meaning                                   leaves to
 *   WAITING  the batch is under way                    READY, OVER
 *   READY    its rows are here                         (dropped)
 *   OVER     given up, or its client has gone          (dropped)
 */
#ifndef SHOAL_BATCHER_PREFETCH_H
#define SHOAL_BATCHER_PREFETCH_H

#include "batcher/batcher.h"

typedef struct Prefetch Prefetch;

typedef enum PrefetchState { PREFETCH_WAITING, PREFETCH_READY, PREFETCH_OVER } PrefetchState;

#define PREFETCH_LINKS_MAX 4

/* A value of the statement that is different in each turn of the loop. */
typedef struct PrefetchLink {
    ShapeValueKind kind; /* SHAPE_VALUE_PARAM or SHAPE_VALUE_LITERAL */
    uint32_t index; /* as in ShapeValue */
} PrefetchLink;

/* A guess at such a value, as it stood in a DataRow. */
typedef struct PrefetchValue {
    Slice bytes;
    uint16_t format;
} PrefetchValue;

typedef struct PrefetchInput {
    const BatchCandidate *candidate; /* the client's statement */
    Backend *held; /* of its transaction; NULL: autocommit */
    /* The transaction's connection is free again, and the statement was not answered: its task is
     * DONE, as it came, and is to be run there now. Called from inside the batch's last answer. */
    void (*on_refused)(Task *task);
    PrefetchLink links[PREFETCH_LINKS_MAX];
    uint32_t link_count;
    const PrefetchValue *values; /* row_count times link_count; borrowed during the call */
    uint32_t row_count;
    uint64_t bytes_max; /* of the rows kept */
    uint32_t wait_ms;
} PrefetchInput;

/* The batcher has the task, its sink will hear the answer, and the Prefetch is the caller's until he
 * drops it. NULL: nothing happened; *ret_reason tells why (BATCH_NO_KEY: a link is no key of the
 * statement; BATCH_KEY_VALUE: no other key to fetch). */
Prefetch *prefetch_start(Batcher *batcher, const PrefetchInput *input, Task *task,
                         BatchReason *ret_reason) MUST_USE;
/* True: the task's sink will hear its answer at the end of this turn. False: not among what is kept. */
bool prefetch_answer(Prefetch *prefetch, const BatchCandidate *candidate, Task *task) MUST_USE;
/* NULL is fine. A WAITING one goes on for its client and keeps nothing. */
void prefetch_drop(Prefetch *prefetch);

PrefetchState prefetch_state(const Prefetch *prefetch);
uint64_t prefetch_asked_us(const Prefetch *prefetch); /* before its snapshot was taken; loop clock */
uint32_t prefetch_keys(const Prefetch *prefetch); /* fetched ahead: not the client's own */
size_t prefetch_bytes(const Prefetch *prefetch);

#endif
