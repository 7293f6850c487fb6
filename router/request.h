/*
 * request.h - one question of a client, from its first byte to its last answer.
 *
 *     Query                                  one Request
 *     Parse Bind Describe Execute ... Sync   one Request
 *     Parse Flush                            one Request that is still open: goes out, goes on
 *
 *   state      where                       meaning                        leaves to
 *   BUILDING   session.building            the decoder adds steps         QUEUED
 *   QUEUED     session.requests            waits for its turn             RUNNING, ENDED
 *   RUNNING    session.requests            a task, a call, several legs    ENDED
 *   ENDED      session.requests until it   answered; `out` may hold what  (freed)
 *              is the first                must wait for those before it
 *
 * It lives until the session lets go of it and its last Task has ended.
 */
#ifndef SHOAL_ROUTER_REQUEST_H
#define SHOAL_ROUTER_REQUEST_H

#include "router/call.h"
#include "router/latency.h"
#include "router/planner.h"
#include "router/session.h"
#include "wire/frontend.h"

typedef enum RequestState { REQUEST_BUILDING, REQUEST_QUEUED, REQUEST_RUNNING, REQUEST_ENDED } RequestState;

typedef struct Scatter Scatter;
typedef struct Gather Gather;
typedef struct Series Series;
typedef struct Errand Errand;

typedef struct KeptPrepared {
    struct KeptPrepared *next;
    Prepared *prepared;
} KeptPrepared;

struct Request {
    List link; /* session.requests, or worker's free list */
    Session *session;
    int state; /* RequestState */
    Arena arena;
    LatencyTimes times; /* stamps of its way: latency.h */

    /* The client's messages, copied here: they must outlive the read buffer, for retries. */
    TaskStep *steps;
    uint32_t step_count, step_room;
    bool extended; /* built from extended messages (a Query may follow them) */
    bool complete; /* its Sync or its only Query is there */
    bool flushed;  /* Flush without Sync: what is there has been sent */
    bool cut;      /* ended by a Query instead of a Sync: it has no ReadyForQuery of its own */
    uint32_t steps_fed; /* of an open request: steps handed to the backend */

    /* Found when the request is dispatched, in step order. Shapes and statements hold references. */
    Statement **statements; /* referred to by PARSE, BIND, DESCRIBE; references held */
    uint32_t statement_count;
    Statement **created; /* by PARSE, in order; ParseCompletes confirm them one by one */
    uint32_t created_count, confirmed_count;
    PlanStatement *planned; /* statements that are bound or executed, in order */
    uint32_t planned_count, planned_room;
    Shape **shapes; /* of TASK_QUERYs; references held */
    uint32_t shape_count;
    uint32_t prepared_count; /* steps looked at so far */
    BindMessage *bound;      /* the last Bind, and its statement: what an Execute executes */
    Statement *bound_statement;
    const ShapeReading *last_reading;
    int32_t max_rows; /* of the last Execute */

    Error *local_error; /* Shoal's own: said when the steps before it are answered, unless they failed */
    bool error_seen;    /* an ErrorResponse went to the client */
    bool skipping;      /* since then the server passes over everything, up to a ReadyForQuery */
    char error_state[6];
    bool pins; /* it leaves state on the server session */
    bool not_batched; /* the batcher has said no already */
    uint8_t batch_reason; /* BatchReason of that no; 0: it was not asked */
    bool in_transaction;  /* when it was dispatched, its session was in one */
    bool n1_watched, n1_parent, n1_ahead; /* seen by n1_watch; its rows are remembered; answered ahead */
    uint8_t n1_track; /* of session->n1.loop, from 1; 0: it follows no loop */
    KeptPrepared *kept; /* request_prepare; references held */
    Prepared *probe;  /* PLAN_PROBE: the text asked about; reference held */

    Task task;
    Sink sink;
    bool task_active; /* the task is with the batcher, a pool or a backend */
    bool on_held; /* it runs on a connection that the session held before */
    bool opening; /* its first step takes the shard into the transaction, hidden */
    bool aside;    /* it only prepares, outside of the transaction that has no server yet */
    bool batched;
    uint32_t shard;
    uint64_t planned_version; /* of the topology it was planned by; 0: not yet */
    char tx_status; /* of the last ReadyForQuery of its task */
    Call *call;     /* under way; NULL otherwise */
    struct Read *read;     /* more than one server may answer it; in the arena */
    int read_rule;         /* ReadRule: why it went to a replica or not; -1: nobody asked */
    struct Parked *parked; /* it waits for the cluster; in the arena */
    uint64_t absent_since_us; /* when its primary was first found absent; 0 never */
    Series *series;   /* it is cut into parts; in the arena */
    Errand *errand;   /* it takes several turns (errand.h); in the arena */
    Buf *capture;     /* of the errand: answers go there, not to the client; NULL mostly */
    Scatter *scatter; /* it runs on several shards; owned */
    Gather *gather;   /* and a merge server finishes it (gather.h); owned */
    struct Portal *portal; /* its rows become this one's; session.portals owns it */
    Slice recalled_bind;   /* whole frame of a Bind that came in a request of before; empty mostly */
    Slice portal_head;     /* ... by DECLARE: its words up to FOR */
    bool whole;       /* only by GATHER: the other way was tried */
    uint32_t dealt;   /* steps answered by local_open and local_close */
    Slice parameter_description; /* of a Describe among its steps; whole t frame */

    Buf out; /* answers while requests before this one are not answered; empty otherwise */
};

Request *request_create(Session *session);
/* Gives back everything; its task is not active any more. */
void request_free(Request *request);
/* Nobody will read the answers: ends the task wherever it is. The request may be freed afterwards. */
void request_abandon(Request *request);

/* Adds a step; the frame is copied into the arena. False when memory is out. */
bool request_add(Request *request, TaskOp op, const Frame *frame) MUST_USE;

/* A text to be prepared on servers for this request; it lives as long as the request. NULL when memory is out. */
Prepared *request_prepare(Request *request, Slice text, const uint32_t *oids, uint32_t oid_count) MUST_USE;

/* Where its answer bytes go now: the client's stream, or `out` while others are before it. */
Buf *request_out(Request *request);
/* Answers were appended to request_out. */
void request_touch(Request *request);
/* The series is over although its Sync has not come: a Flush had sent it, and it ends by an error or by
 * an answer of Shoal's own. It has no ReadyForQuery; after an error the rest up to the Sync is passed
 * over. Nothing happens to a complete one. */
void request_cut(Request *request);
/* The answer is complete: ReadyForQuery is written, the session's transaction state is set, the
 * request leaves the list as soon as it is the first. */
void request_end(Request *request, char tx_status);

#endif
