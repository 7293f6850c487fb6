/*
 * reads.h - which server answers a read, and what becomes of it there.
 *
 *     request ──reads_route──> what was promised (consistency.h), what may go (read_rules.h)
 *                   │            strong, or must not go ──────────────> the primary, as ever
 *                   ▼
 *               candidates: standings, breakers ──balance──> a replica      none: the primary, up to a
 *                   │                                                        bound (H82)
 *                   ▼ Read
 *               attempt 1 ──────────────answer──────────────> client
 *                   ├─ slower than p95: attempt 2 elsewhere; the first complete answer counts
 *                   └─ lost, recovery conflict, unknown table: again elsewhere, if nothing has gone out
 *
 * An answer is held back until it is complete, or longer than 16 KiB: until then it can be replaced.
 * One Reads per worker; it holds what this worker knows of servers from its own reads.
 */
#ifndef SHOAL_ROUTER_READS_H
#define SHOAL_ROUTER_READS_H

#include "backend/balance.h"
#include "backend/breaker.h"
#include "backend/hedge.h"
#include "router/consistency.h"
#include "router/read_denial.h"
#include "router/read_rules.h"
#include "router/request.h"

#define READ_ATTEMPTS_MAX READ_COPIES_MAX
#define READ_HOLD_MAX     ((size_t)16 * 1024)
#define READ_SAMPLES_MIN  8

typedef struct Reads Reads;
typedef struct Read Read;

typedef enum AttemptKind {
    ATTEMPT_FIRST,
    ATTEMPT_HEDGE,  /* another was slow; within hedge_max */
    ATTEMPT_COPY,   /* asked together with the first, by `copies` */
    ATTEMPT_RESCUE, /* all others were silent, or the deadline has passed */
} AttemptKind;

/* One server asked. The first is the request's own task; others have theirs here. */
typedef struct Attempt {
    Sink sink;
    Read *read;
    Task *task; /* the request's, or `own` */
    Task own;
    uint32_t server;
    bool active;   /* its task is under way */
    AttemptKind kind;
    bool fallback; /* on the primary for want of a replica: counted against primary_reads_max */
    bool failed;   /* an error has come that another server might not have */
    bool primary_only; /* ... and only the primary can tell */
    bool batched;
    uint64_t started_us;
    Buf held;      /* its answer so far */
} Attempt;

/* A request whose answer may come from one of several servers. In the request's arena; in reads.active
 * while an attempt is under way. */
struct Read {
    List link;
    Request *request;
    uint32_t shard;
    ReadPromise promise;
    bool may_hedge; /* an autocommit read: it may be asked twice */
    bool hedged;
    uint32_t copies;
    uint64_t deadline_us; /* of the clock: no answer by then, and it ends; 0 none */
    bool late_stale;      /* ... or any replica answers */
    uint64_t key;     /* for balance = hash */
    uint32_t kept;    /* chosen for it a moment ago, when the batcher was asked; NO_SERVER: nobody was */
    uint64_t started_us;
    uint64_t tried;   /* bit per place in the shard's list of servers */
    Attempt attempts[READ_ATTEMPTS_MAX];
    uint32_t attempt_count;
    uint32_t asked;       /* attempts begun, those that ran again included */
    ReadDenialReason denied; /* why it did not run again */
    Attempt *winner;  /* its answer goes to the client */
};

typedef struct ReadServer {
    uint32_t inflight;
    uint64_t latency_us, latency_at_us; /* of its reads, lately */
    uint32_t samples; /* of it; the first few are of cold connections and tell nothing */
    Breaker breaker;
    Counter reads, hedges, hedge_wins, copies, reruns, failures; /* asked; by hedging; that won; by `copies`; again elsewhere */
} ReadServer;

typedef struct ReadShard {
    Balancer balancer;
    Balancer again; /* for second questions: they take no turn of the first ones */
    Quantile quantile;
} ReadShard;

struct Reads {
    Worker *worker;
    ReadServer *servers; /* by server index */
    uint32_t server_count;
    ReadShard *shards; /* by shard index */
    uint32_t shard_count;
    Budget hedges, reruns;
    uint64_t map_since_us; /* rows of moved buckets were on their new shard by then, and old copies gone; 0: before we were */
    uint32_t primary_reads; /* fallbacks under way */
    List active;
    Timer timer;
    Counter rules[READ_RULE_COUNT]; /* statements that would have gone, by why not */
    Counter fallbacks, refused;     /* to the primary for want of a replica; not even there */
    Counter late, late_stale;       /* ended by their deadline; answered by any replica for it */
};

Reads *reads_create(Worker *worker) MUST_USE;
/* A shard has joined. False: out of memory; reads of the new one go to its primary. */
bool reads_grow(Reads *reads, const Config *config);
void reads_destroy(Reads *reads);

/* The pool for a request that runs on a connection of its own on `shard`; with request->read when more
 * than one server may answer it. *ret_pool NULL: nobody takes writes there now. False: it must be refused. */
bool reads_route(Request *request, uint32_t shard, Pool **ret_pool, Error *err) MUST_USE;
/* True: it must not be under way together with what the session asked before: it was promised that nothing of
 * that is gone again, and nobody knows yet what that saw. */
bool reads_wait_turn(const Request *request);
/* Where the first task's answers go. */
Sink *reads_sink(Request *request);
/* The first task was submitted. */
void reads_begin(Request *request);

/* As task_cancel, task_abandon and backend_resume, for the attempts beyond the request's own task. */
void reads_cancel(Request *request);
void reads_abandon(Request *request);
void reads_resume(Request *request);
/* The request is answered: what the session has written and seen by now. */
void reads_note_end(Request *request, char tx_status);

/* Rows that are fetched before they are asked for (n1.h): where, and what was known of that server then. */
typedef struct ReadOrigin {
    uint32_t server; /* NO_SERVER: the primary */
    ServerStanding standing; /* as it was: it grows old */
} ReadOrigin;
/* Where `request` was routed, now. */
ReadOrigin reads_origin(const Request *request);
/* True: what was fetched there then keeps the promise that `request` has, and may be its answer. */
bool reads_origin_keeps(const Request *request, const ReadOrigin *origin);
/* The pool that it was fetched from. */
Pool *reads_origin_pool(Request *request, const ReadOrigin *origin);

/* A leg of a SELECT over several shards: where it goes, and that it has ended. */
typedef struct LegRead {
    Pool *pool;      /* of a replica; NULL: it goes to the primary, as ever */
    uint32_t server; /* with `pool` */
    bool fallback;   /* on the primary for want of a replica */
    uint64_t started_us;
} LegRead;
/* A read over several shards, not begun yet: a replica of that shard may be asked for its leg. */
bool reads_leg_may_leave(const Request *request, uint32_t shard);
/* False: it must be refused (H82). */
bool reads_leg_begin(Request *request, uint32_t shard, LegRead *ret, Error *err) MUST_USE;
void reads_leg_end(Worker *worker, LegRead *leg, bool ok);
/* May it run again on the primary? What only the primary can tell costs one question at most; the rest is budgeted:
 * what is to be told then is in *ret_denial. */
bool reads_leg_again(Worker *worker, const LegRead *leg, bool primary_only, ReadDenial *ret_denial) MUST_USE;
/* An error that another server might not have. */
bool reads_may_differ(const Frame *error, bool *ret_primary_only);

/* read.c */
void read_start(Read *read, uint32_t server, bool fallback);
void reads_on_time(Timer *timer);
/* reads.c, for read.c: another server for it, NO_SERVER when there is none. Whoever is asked second has to
 * be quick: where the policy deals out turns, the quickest is taken instead. */
uint32_t reads_choose(Reads *reads, Read *read, ReadRefusal *ret_refusal);
Pool *reads_server_pool(Request *request, uint32_t server);
BreakerLimits reads_breaker_limits(const Reads *reads);
/* What is left of its measured latency: figures that nobody renews fade. */
uint64_t reads_latency_us(const ReadServer *server, uint64_t now_us);

#endif
