/*
 * n1.h - the sequential N+1 loop of one session: seen, reported, answered ahead.
 *
 *     SELECT id, author FROM posts LIMIT 100     parent
 *     SELECT .. FROM users WHERE id = 7          ┐
 *     SELECT .. FROM users WHERE id = 9          │ child, a hundred times, each after the answer before it
 *     ...                                        ┘
 *
 *   1 counting     every SELECT: has its shape come once, twice or three statements before? Five compares,
 *                  no memory but N1Watch. A run of n1_loop_min makes a suspicion, in the worker's book.
 *   2 remembering  only for parents in the book: the rows of their result, as they pass to the client.
 *   3 following    only for their children: do the values come from those rows? Two loops confirm it.
 *   4 asking ahead the first child is answered by one batch of all keys (batcher/prefetch.h), the next
 *                  ones from its rows.
 *
 * When may an answer be given that was fetched before the statement came?
 *   - in a REPEATABLE READ transaction, of which the batch was a part: it is what the statement would
 *     have read. Any statement of the session but a harmless SELECT throws it away.
 *   - otherwise where prefetch_max_age_ms allows it: not older than that; thrown away by any statement of
 *     the session but a harmless SELECT, and by any write to its tables through this router
 *     (write_epoch.h).
 * And always only to the same statement (shape, parameters, formats, settings, search_path).
 */
#ifndef SHOAL_ROUTER_N1_H
#define SHOAL_ROUTER_N1_H

#include "router/write_epoch.h"

typedef struct Session Session;
typedef struct Request Request;
typedef struct BatchCandidate BatchCandidate;
typedef struct Backend Backend;
typedef struct Task Task;
typedef struct N1Loop N1Loop;

#define N1_PERIODS 3 /* a loop of up to so many statements for each row */

typedef enum N1Isolation { N1_READ_COMMITTED, N1_REPEATABLE_READ, N1_NO_ISOLATION } N1Isolation;

/* Inside each Session; small. */
typedef struct N1Watch {
    uint64_t seen[N1_PERIODS + 1]; /* hashes of the last SELECTs' shapes, newest first */
    uint64_t origin[N1_PERIODS]; /* what came before the run of this period began */
    uint64_t run, run_origin; /* the last run: its statement, and what came before it */
    uint16_t matches[N1_PERIODS]; /* SELECTs in a row equal to the one `period` before */
    uint8_t isolation; /* N1Isolation of the open transaction */
    bool portal_left; /* a row limit left a portal open in it */
    WriteSet wrote; /* by the open transaction, or the running statement */
    N1Loop *loop; /* owned; NULL as long as no known parent was seen */
} N1Watch;

/* A request whose turn has come, once for each: nothing else of the session is running. */
void n1_watch(Request *request);
/* Several statements of the request may read in one snapshot: it sets an isolation level that does that, or has one. */
bool n1_may_keep_snapshot(const Request *request);
/* It belongs to a loop that might be answered ahead. */
bool n1_follows(const Request *request);
/* True: the batcher has the request's task, its answer comes from a batch with more keys, or from what
 * such a batch has brought. `held`: the connection of its transaction, or NULL. */
bool n1_answer(Request *request, const BatchCandidate *candidate, Backend *held) MUST_USE;
/* A row of a result that is remembered (request->n1_parent). */
void n1_on_row(Request *request, Slice body);
/* A statement is done (CommandComplete): its writes may be seen from now on. */
void n1_on_done(Session *session);
/* The request is answered. */
void n1_on_end(Request *request, char tx_status);
/* From the sweep: what nobody has asked for lately is given back. */
void n1_sweep(Session *session, uint64_t now_us);
void n1_finish(Session *session);

#endif
