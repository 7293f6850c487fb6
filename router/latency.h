/*
 * latency.h - where the time of each request went, from the arrival of its bytes to their leaving.
 *
 *     arrived   seen      turn      planned   sent      answered  ended     left the kernel's way
 *        |--read--|--order--|--plan---|--queue--|--server-|--split--|--write--|
 *        |--------------------------------- total ---------------------------|
 *
 *     read    bytes lay in the kernel while the worker was busy, and were decoded
 *     order   waited behind earlier requests of the same client
 *     plan    was parsed, looked up, planned; all of it when Shoal answers by itself
 *     queue   waited for a batch to collect, for a server connection
 *     server  PostgreSQL, and the way there and back
 *     split   rows were dealt out, the answer was written for the client
 *     write   waited behind earlier answers, and for the kernel to take it (a slow client)
 *
 * Nothing is left out when the worker is slow: the clock starts at the earliest moment at which the
 * bytes can have come (loop.h), so a figure is never too small, and too large by one turn at most.
 * Owner: one worker; the control thread reads the histograms.
 */
#ifndef SHOAL_ROUTER_LATENCY_H
#define SHOAL_ROUTER_LATENCY_H

#include "core/stats.h"

typedef struct Request Request;
typedef struct Session Session;
typedef struct Task Task;

typedef enum LatencyStage {
    LATENCY_READ,
    LATENCY_ORDER,
    LATENCY_PLAN,
    LATENCY_QUEUE,
    LATENCY_SERVER,
    LATENCY_SPLIT,
    LATENCY_WRITE,
    LATENCY_TOTAL,
    LATENCY_STAGE_COUNT
} LatencyStage;

/* How a request went: figures of one way say nothing about another. */
typedef enum LatencyPath {
    LATENCY_BATCHED, /* through the batcher, alone or with others */
    LATENCY_DIRECT,  /* a task of its own on a server connection */
    LATENCY_SCATTER, /* tasks on several shards; `server` is from the first sent to the last answered */
    LATENCY_LOCAL,   /* answered by Shoal, the console */
    LATENCY_PATH_COUNT
} LatencyPath;

typedef struct LatencyStats {
    Histogram of[LATENCY_PATH_COUNT][LATENCY_STAGE_COUNT]; /* microseconds */
} LatencyStats;

/* A request's stamps, CLOCK_MONOTONIC microseconds; 0: it did not come by there. */
typedef struct LatencyTimes {
    uint64_t arrived_us, seen_us, turn_us, planned_us, sent_us, answered_us, ended_us;
    uint32_t tasks; /* answered */
} LatencyTimes;

/* An ended request waits for its bytes to be written. */
typedef struct LatencyLeaving {
    Session *session; /* NULL: gone, forget it */
    uint64_t mark;    /* of session->stream.bytes_out: when that is reached its answer is out */
    LatencyTimes times;
    LatencyPath path;
} LatencyLeaving;

typedef struct LatencyLog {
    LatencyLeaving *leaving; /* owned */
    uint32_t count, room;
    uint32_t slow; /* of them: those at the front that a flush did not get out */
    uint64_t looked_us; /* when those were looked at last */
} LatencyLog;

const char *latency_stage_name(LatencyStage stage);
const char *latency_path_name(LatencyPath path);

/* Called by the sink that hears its tasks: the first one sent and the last one answered count. */
void latency_on_answer(Request *request, const Task *task);
/* Its answer is in the client's output buffer: the request leaves its session. */
void latency_on_leave(Request *request);
/* After each flush of the worker's streams. */
void latency_on_flushed(LatencyLog *log, LatencyStats *stats);
/* The session dies: nobody will see its bytes go. */
void latency_forget(LatencyLog *log, const Session *session);
void latency_finish(LatencyLog *log);

#endif
