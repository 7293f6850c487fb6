/*
 * worker_state.h - the worker's struct, for the files of this folder that run inside its thread.
 *
 *   sessions ──run──> requests ──> batcher / pools ──> PostgreSQL
 *      ^                                  |
 *      └──── woken (turn end) <── sinks ──┘
 */
#ifndef SHOAL_ROUTER_WORKER_STATE_H
#define SHOAL_ROUTER_WORKER_STATE_H

#include <openssl/ssl.h>

#include "core/inbox.h"
#include "router/digest.h"
#include "router/doubt.h"
#include "router/n1_book.h"
#include "router/request.h"
#include "router/session.h"
#include "router/worker.h"

#define GREETINGS_MAX 1024 /* startup settings remembered per worker */

struct Worker {
    WorkerOptions options;
    Loop loop;
    Inbox inbox;
    pthread_t thread;
    bool started;
    int reader; /* number among the topologies' readers */
    Topology *topology; /* adopted; valid until the next turn's end */

    int listen_fd;
    ev_io acceptor;

    List sessions, closing, dead; /* Session.link, by state */
    List woken;          /* Session.wake_link: run them at the end of the turn */
    uint32_t parked_count; /* sessions that wait for a fence to go */
    List commits;        /* Commit.link: those under way */
    uint64_t next_commit; /* number in the next gid */
    Map cancel_keys;     /* cancel_pid -> Session */
    uint32_t next_cancel_pid;
    uint64_t next_session_id;
    uint32_t session_count;

    List free_requests; /* Request.link; kept with their arenas' first block */
    uint32_t gather_next; /* the merge servers take turns */
    uint32_t free_request_count;
    Map greetings; /* (pool, startup settings) -> Greeting: greeting.c */
    Arena scratch; /* of one dispatch */

    PreparedSet prepared;
    GucSet gucs;
    ShapeCache shapes;
    PoolSet *pools;
    Batcher *batcher;
    struct Reads *reads;
    List parked;      /* Parked.link: requests that wait for the cluster */
    Timer park_timer;
    uint32_t absent_count; /* sessions that have parked for a primary since all were last woken */
    Doubts doubts;         /* who is a primary, since the process was stopped */
    N1Book n1; /* loops that its sessions have shown */
    StatementContext statements;

    Timer sweep; /* timeouts that need no precision */
    bool stopping;
    uint64_t stop_at_us; /* sessions left by then are closed */
    WorkerStats stats;
    LatencyLog latency;
    DigestSet digests;
    char who[16];
};

static inline const Config *worker_config(const Worker *worker)
{
    return worker->topology->config;
}
/* Runs the session at the end of this turn. */
void worker_wake_session(Worker *worker, Session *session);

/* listener.c */
bool listener_open(Worker *worker, Error *err) MUST_USE;
void listener_close(Worker *worker);
/* request.c: frees the requests kept for reuse. */
void request_drop_free(Worker *worker);
/* call.c's mail back */
void call_on_reply(Mail *mail, void *owner);

#endif
