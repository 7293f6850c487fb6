/*
 * worker.h - one data-path thread: loop, listener, sessions, pools, batcher; shares nothing.
 *
 *   turn end, in this order:   batcher closes what is due -> pools send -> streams flush
 *                              -> the dead are reaped -> a newly published topology is adopted
 */
#ifndef SHOAL_ROUTER_WORKER_H
#define SHOAL_ROUTER_WORKER_H

#include <pthread.h>

#include "backend/pool.h"
#include "batcher/batcher.h"
#include "meta/gid.h"
#include "router/call.h"
#include "router/report.h"
#include "router/write_epoch.h"

typedef struct Worker Worker;

typedef struct WorkerStats {
    Counter clients;        /* gauge */
    Counter connections;    /* accepted since start */
    Counter refused;        /* logins that failed, limits */
    Counter http_requests, bad_startups, cancels_unknown;
    Counter statements;     /* answered, all kinds */
    Counter transactions;
    Counter errors;         /* error answers, Shoal's and PostgreSQL's */
    Counter plans[8];       /* by PlanKind */
    Counter bytes_in, bytes_out;
    Histogram latency_us;   /* from the arrival of a request's last byte to its last answer byte queued */
} WorkerStats;

/* What every worker is made of; filled by the composition root (bin/shoald.c). */
typedef struct WorkerOptions {
    uint32_t index, count;
    Published *topologies;
    Canceller *canceller;
    Inbox *control; /* where Calls go */
    /* Runs on the control thread for each Call; `owner` is the control inbox's. Set by admin. */
    void (*on_call)(Mail *mail, void *owner);
    Worker **all; /* the workers by index, for cancel requests and reports */
    void *tls;    /* SSL_CTX * or NULL */
    WriteEpochs *epochs; /* one for all workers */
    const GidPrefix *gid; /* of this start; for gid_make, with numbers that no other worker makes */
} WorkerOptions;

Worker *worker_create(const WorkerOptions *options, Error *err) MUST_USE;
/* Binds the listener (SO_REUSEPORT) and starts the thread. */
bool worker_start(Worker *worker, Error *err) MUST_USE;
/* From any thread: no new connections; sessions end as they become idle; then the thread ends. After
 * `grace_ms` those left get 57P01 and are closed. */
void worker_stop(Worker *worker, uint32_t grace_ms);
void worker_join(Worker *worker);
void worker_destroy(Worker *worker);

Inbox *worker_inbox(Worker *worker);
const WorkerStats *worker_stats(const Worker *worker);
/* Starts a report's round (control thread). */
void worker_report(Worker *const *workers, uint32_t count, Report *report);
/* A mail handler: control wakes workers with it after publishing, so that idle ones adopt. */
void worker_wake(Worker *worker);

#endif
