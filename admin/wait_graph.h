/*
 * wait_graph.h - who waits for whom, over all shards, and whether they wait in a circle. Pure.
 *
 *     client 7 ──s0──> client 9          a circle on one shard is PostgreSQL's own business;
 *        ^───────s1───────┘              one over several shards nobody sees but us
 */
#ifndef SHOAL_ADMIN_WAIT_GRAPH_H
#define SHOAL_ADMIN_WAIT_GRAPH_H

#include "core/arena.h"

/* One server process waits for another one (or for a prepared transaction: blocker_pid 0). */
typedef struct WaitEdge {
    uint32_t shard;
    uint64_t pid, blocker_pid;
    const char *since;           /* as the server tells it: the same wait has the same text */
    const char *what;            /* "ShareLock on transactionid", "... on relation public.bank" */
    uint64_t waited_ms;
    double begun;                /* epoch seconds: the waiter's transaction on that shard */
    int waiter, blocker;         /* clients, as indexes; -1: not a client of ours */
} WaitEdge;

/* A circle over more than one shard: fills `ret` with indexes of its edges, in order; 0: there is none. */
uint32_t wait_graph_circle(const WaitEdge *edges, uint32_t count, uint32_t *ret, Arena *arena) MUST_USE;
/* Every edge of the circle, as the same wait, is among `now` too: they all waited at one moment. */
bool wait_graph_persists(const WaitEdge *circle, uint32_t count, const WaitEdge *now, uint32_t now_count);

#endif
