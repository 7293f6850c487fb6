/*
 * fence.h - statements for buckets that are about to change their shard wait, and then go to the new one.
 *
 *     topology with fence adopted ─> a statement that needs a fenced bucket is parked: its request stays
 *                                    QUEUED, the session goes on when the next topology is adopted
 *     control asks each worker:      how many of those sent before are still running on that shard?
 *     0 from all ─> nobody uses the old shard for these buckets, and nobody will
 *
 * A transaction that has been on the source since before the fence goes on there: it must end before
 * the move can go on, so holding it back would hold back everybody. So must one on the target that keeps its snapshot:
 * that is older than the rows that come. All others wait, whatever they are: reads too, or they would miss what
 * was written on the new shard; and those which would take such a snapshot now (the table in fence.c).
 */
#ifndef SHOAL_ROUTER_FENCE_H
#define SHOAL_ROUTER_FENCE_H

#include "router/planner.h"
#include "router/worker.h"

typedef struct Request Request;
typedef struct Session Session;

#define FENCE_ANY_SHARD    UINT32_MAX
#define FENCE_NO_SHARD     (UINT32_MAX - 1) /* only the gainer counts */
#define FENCE_ANY_DATABASE UINT32_MAX

/* The control thread's question, on its way through the workers and back. */
typedef struct FenceAsk {
    Mail mail;
    uint64_t version;    /* of the first topology with the fence */
    uint32_t database;   /* of the sessions that count, or FENCE_ANY_DATABASE */
    bool requests_only;  /* open transactions between two statements do not count */
    bool primary_only;   /* transactions on replicas do not count */
    uint32_t shard;      /* that loses buckets, or FENCE_ANY_SHARD, FENCE_NO_SHARD */
    uint32_t gainer;     /* that gets them: a transaction there may have a snapshot without their rows */
    bool gain_every;     /* see Topology */
    Worker *const *workers;
    uint32_t worker_count, next_worker;
    uint32_t blockers;   /* answer: sessions with requests or transactions older than `version` */
    uint32_t waiting;    /* those of them whose request has not been sent to a server yet */
    Inbox *reply;
    void (*on_reply)(Mail *mail, void *owner);
    void *ctx;
} FenceAsk;

/* Control thread: sends it round. */
void fence_ask(FenceAsk *ask);

/* A series that is under way was planned before the fence: what follows in it runs there, too. */
bool fence_passed(const Request *request);
/* The request must wait: it needs a fenced bucket, or would take a snapshot that is kept where rows are about to come,
 * and its transaction has not been on those shards since before. */
bool fence_holds(const Request *request, const Plan *plan);
/* Takes note that the session waits; it is run again when a topology is adopted. False: too many wait
 * (53000-class error for the client). */
bool fence_park(Session *session) MUST_USE;
void fence_unpark(Session *session);
/* A topology was adopted: those that wait are run again at the end of the turn. */
void fence_on_adopt(Worker *worker);
/* What ends the request when no more may wait. */
void fence_full_error(const Worker *worker, Error *err);

#endif
