/*
 * task.h - one piece of work for one server connection, and the Sink its answers come up through.
 *
 *     questions go down as Tasks:   request / batch -> pool -> backend -> PostgreSQL
 *     answers come up by Sinks:     backend -> split -> gather -> encode -> client
 *
 * A Task is a list of steps, the protocol messages of one Request; it ends with the ReadyForQuery
 * of its last Sync or Query. Statement names in the steps are Shoal's business: a step refers to a
 * Prepared, and the backend writes the name the server knows, parses it there first where it is
 * missing, and answers for the server what the client need not wait for.
 *
 *   state      which list the task is in               enters by           leaves by
 *   NEW        none                                    task_init           submit, batcher_add
 *   MEMBER     batch.members                           batcher_add         split, retry, cancel
 *   WAITING    pool.waiting                            pool_submit         handed out, timeout
 *   INFLIGHT   backend.inflight                        backend_run         last ReadyForQuery, loss
 *   DONE       none; sink has had on_ready(last) or on_lost
 */
#ifndef SHOAL_BACKEND_TASK_H
#define SHOAL_BACKEND_TASK_H

#include "backend/guc.h"
#include "backend/prepared.h"
#include "core/error.h"
#include "core/list.h"
#include "wire/frame.h"

typedef struct Task Task;
typedef struct Sink Sink;
typedef struct Backend Backend;

typedef struct SinkOps {
    /* A server message for this task, in the order the client must see them: 1 2 3 t T n D C I s E
     * N S A G H V d c. The bytes are valid during the call only. Messages of hidden steps do not
     * come, except E. An E is followed by on_ready (or on_lost), never by rows. FATAL errors do not
     * come: on_lost tells of them. */
    void (*on_frame)(Sink *sink, Task *task, const Frame *frame);
    /* ReadyForQuery with the server's transaction status I, T or E. `last`: the task is DONE, in no
     * list, and may be freed or used again right here. Inside this call, and only there,
     * task->backend still names the connection: it is held for task->holder when the status is T or
     * E, or from task_hold on, and then the sink may backend_run the next task at once (it starts
     * when this call has returned). Otherwise it goes back to its pool when this call has returned.
     * The ReadyForQuery of a hidden step comes only when it is the last. */
    void (*on_ready)(Sink *sink, Task *task, char tx_status, bool last);
    /* The task ends without its last ReadyForQuery: no connection could be had, the connection
     * died, the wait timed out. It is DONE, as above. `maybe_executed`: bytes had been sent, the
     * outcome is unknown to us (P6, P10). A connection held for the task's holder is DEAD; unless the
     * task was refused before it was sent (cancelled, settings): then it is held as before. */
    void (*on_lost)(Sink *sink, Task *task, const Error *err, bool maybe_executed);
} SinkOps;

struct Sink {
    const SinkOps *ops;
};

typedef enum TaskOp {
    TASK_QUERY, /* frame Q */
    TASK_PARSE, /* prepared (named), or the unnamed statement: `unnamed` */
    TASK_BIND,  /* frame B as the client sent it; its statement name is replaced */
    TASK_DESCRIBE_STATEMENT,
    TASK_DESCRIBE_PORTAL, /* frame D */
    TASK_EXECUTE,         /* frame E */
    TASK_CLOSE_STATEMENT, /* answered by Shoal: the server keeps it for others */
    TASK_CLOSE_PORTAL,    /* frame C */
    TASK_FUNCTION,        /* frame F */
    TASK_FLUSH,
    TASK_SYNC,
    TASK_RAW /* frame sent as it is, no answer of its own: d c f */
} TaskOp;

typedef struct TaskStep {
    TaskOp op;
    bool unnamed;       /* PARSE, BIND, DESCRIBE_STATEMENT: the unnamed statement */
    bool hidden;        /* its answers are not shown to the sink (Shoal's own step) */
    Prepared *prepared; /* PARSE, BIND, DESCRIBE_STATEMENT; borrowed, the owner keeps a reference */
    Slice frame; /* whole message; lives as long as the task. PARSE, SYNC, FLUSH: not needed */
} TaskStep;

typedef enum TaskState { TASK_NEW, TASK_MEMBER, TASK_WAITING, TASK_INFLIGHT, TASK_DONE } TaskState;

struct Task {
    List link; /* in the list that the state names */
    int state; /* TaskState */
    Sink *sink;
    TaskStep *steps; /* borrowed: the request's arena */
    uint32_t step_count;
    GucVector *gucs;  /* what the server session must look like; borrowed from the session */
    Backend *backend; /* while INFLIGHT, and inside on_ready(last) */
    void *
        holder; /* the session that may keep the backend when the transaction goes on; NULL never */
    bool open;  /* more steps will be fed (Flush without Sync, COPY IN) */
    bool sent;  /* some byte of it was written */
    bool answered;  /* some frame of it went up */
    bool cancelled; /* a cancel was asked for */
    bool read_only; /* may be run again elsewhere when the connection dies before an answer */
    uint64_t queued_us, sent_us, done_us; /* loop clock */

    /* This folder's own. */
    struct Pool *pool; /* while WAITING */
    TaskStep *fed;     /* steps fed before it was at work; owned, freed when DONE */
    uint32_t fed_count;
    bool feed_failed; /* no memory for them */
};

void task_init(Task *task, Sink *sink, TaskStep *steps, uint32_t step_count);
/* The one way a task's state moves; asserts the table above. A DONE task may go round again. */
void task_move(Task *task, TaskState to);

#endif
