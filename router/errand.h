/*
 * errand.h - one statement of a client that takes Shoal several turns, in one transaction.
 *
 *     INSERT INTO t SELECT ...        turn 0   the rows, by gather                  read here
 *                                     turn 1   each shard its rows                  the answer
 *                                     COMMIT   (unless the client's own transaction goes on)
 *                                     ──> T D* C to the client
 *
 * What a turn answers does not go to the client but into `answer`; on_answer reads it and says what follows. The
 * client hears nothing before the transaction is committed, or that it failed.
 */
#ifndef SHOAL_ROUTER_ERRAND_H
#define SHOAL_ROUTER_ERRAND_H

#include "router/request.h"

typedef struct Errand Errand;

typedef enum ErrandNext {
    ERRAND_NEXT,   /* another turn */
    ERRAND_ANSWER, /* what was answered is the client's answer */
    ERRAND_FAIL    /* `err` is */
} ErrandNext;

typedef struct ErrandOps {
    /* Starts a turn, as dispatch starts a request: it ends by request_end. */
    void (*on_turn)(Errand *errand, uint32_t turn);
    /* A turn was answered, and did not fail: T? D* C. Valid during the call. */
    ErrandNext (*on_answer)(Errand *errand, uint32_t turn, Slice frames, Error *err);
    /* Gives back what is not in the request's arena. */
    void (*on_free)(Errand *errand);
} ErrandOps;

struct Errand {
    Request *request;
    const ErrandOps *ops;
    void *own;
    uint32_t turn;
    PlanStatement *statement; /* the client's */
    Buf answer;               /* of the turn that runs; bounded by errand_max_bytes */
    bool unseen;              /* the transaction is Shoal's own */
    TaskStep *steps;          /* the client's: they wait for the answer */
    uint32_t step_count, step_room, dealt;
    Slice described; /* parameters of the client's statement, as they were found */
};

/* Begins the transaction, where there is none, and the first turn. `own` is given to on_free in any case. */
void errand_start(Request *request, const ErrandOps *ops, void *own);
/* request_end asks: true when it was only a turn that has ended. */
bool errand_turn_ended(Request *request);
/* The request goes. NULL is fine. */
void errand_free(Errand *errand);

#endif
