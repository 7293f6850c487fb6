/*
 * deadlock.h - finds circles of waiting clients over several shards, and breaks them; SHOW LOCKS.
 *
 *     each deadlock_interval: every primary: who waits for whom? ── nobody ──> idle
 *         someone ──> the workers: which client is that process? ──> circle over shards?
 *             yes ──> look again at once ──> still? ──> the youngest hears 40P01 (router/verdict.h)
 *
 * Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_DEADLOCK_H
#define SHOAL_ADMIN_DEADLOCK_H

#include "admin/command.h"
#include "admin/pg_client.h"
#include "admin/wait_graph.h"

typedef struct Control Control;
typedef struct Deadlock Deadlock;
typedef struct Report Report;

/* One primary's connection. */
typedef struct LockWatch {
    PgClient client;
    Deadlock *deadlock;
    uint32_t shard;
} LockWatch;

/* A client that holds, or waits on, some server connection. */
typedef struct LockClient {
    uint64_t id, worker, statements;
    const char *user, *database, *peer;
} LockClient;

/* One look at all shards; texts in its arena. */
typedef struct LockLook {
    Arena arena;
    WaitEdge *edges;
    uint32_t edge_count, edge_room;
    LockClient *clients;
    uint32_t client_count;
    bool complete; /* every shard answered, and memory was enough */
} LockLook;

struct Deadlock {
    Control *control;
    Timer timer;
    LockWatch *watches; /* [watch_count]: shards of databases that have several */
    uint32_t watch_count;
    enum { DEADLOCK_IDLE, DEADLOCK_ASKING, DEADLOCK_MAPPING } step;
    uint32_t pending;
    uint64_t look;     /* begun so far */
    LockLook now, last; /* being made; the last one that is whole, for SHOW LOCKS */
    /* What the look before has found; in `suspect_arena`. */
    WaitEdge *circle;
    uint32_t circle_count;
    Arena circle_arena;
    bool again; /* somebody wants a look that begins after the running one */
    uint64_t found; /* deadlocks broken since the start */
};

bool deadlock_init(Deadlock *deadlock, Control *control) MUST_USE;
void deadlock_finish(Deadlock *deadlock);
/* A look that begins now or right after the running one: its number. */
uint64_t deadlock_kick(Deadlock *deadlock);

/* SHOW LOCKS */
bool show_locks(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err);

#endif
