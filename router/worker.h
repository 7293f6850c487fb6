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
#include "router/latency.h"
#include "router/planner.h"
#include "router/report.h"
#include "router/write_epoch.h"

typedef struct Worker Worker;

#define WORKER_ERROR_CLASSES (36 * 36) /* the first two characters of a SQLSTATE, 0-9 A-Z */

typedef struct WorkerStats {
    Counter clients;        /* gauge */
    Counter connections;    /* accepted since start */
    Counter refused;        /* logins that failed, limits */
    Counter http_requests, bad_startups, cancels_unknown;
    Counter statements;     /* answered, all kinds */
    Counter transactions;
    Counter errors;         /* error answers, Shoal's and PostgreSQL's */
    Counter plans[PLAN_KIND_COUNT]; /* by PlanKind */
    Counter bytes_in, bytes_out;
    Counter error_classes[WORKER_ERROR_CLASSES]; /* the same by class of SQLSTATE: error_class_at */
    LatencyStats latency;
    Counter bucket_uses[SHARD_MAP_BUCKETS_MAX]; /* rows asked for by their key, by bucket: what REBALANCE BY LOAD goes by */
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

/* An error goes to a client. */
void worker_count_error(Worker *worker, const char *sqlstate);
/* "42" for the index of its counter. */
void error_class_name(uint32_t index, char ret_name[static 3]);

Inbox *worker_inbox(Worker *worker);
/* Counters: to be read from any thread. */
const WorkerStats *worker_stats(const Worker *worker);
const BatcherStats *worker_batcher_stats(const Worker *worker);
/* Starts a report's round (control thread). */
void worker_report(Worker *const *workers, uint32_t count, Report *report);
/* A mail handler: control wakes workers with it after publishing, so that idle ones adopt. */
void worker_wake(Worker *worker);

#endif
