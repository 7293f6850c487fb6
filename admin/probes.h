/*
 * probes.h - is each server there, is it what shards.ini says it is, and since when?
 *
 * Once a second each server is asked for its role, its system identifier and its timeline, over a
 * kept connection. The answers are for operators (SHOW SHARDS, events); the data path finds out by
 * itself. A change is told once, not each second. Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_PROBES_H
#define SHOAL_ADMIN_PROBES_H

#include "admin/pg_client.h"
#include "core/log.h"
#include "meta/config.h"

typedef struct Probes Probes;

typedef enum HealthState {
    HEALTH_UNKNOWN, /* not yet asked */
    HEALTH_UP,      /* answers and is what it should be */
    HEALTH_WRONG,   /* answers, but is not what shards.ini says; `why` */
    HEALTH_DOWN     /* does not answer; `why` */
} HealthState;

typedef struct ServerHealth {
    PgClient client;
    Probes *probes;
    const ServerConfig *server; /* borrowed from the Config in force */
    int state;                  /* HealthState */
    char why[200];
    bool in_recovery;
    char system_id[24]; /* "" while not known */
    uint64_t timeline;
    uint64_t version;              /* 150018 */
    uint64_t prepared_max;         /* max_prepared_transactions */
    uint64_t changed_wall_us;      /* when `state` became what it is */
    uint64_t asked_us, latency_us; /* of the last answer, connection included where it was new */
} ServerHealth;

struct Probes {
    Loop *loop;
    const Config *config;
    ServerHealth *servers; /* by ServerConfig.index */
    uint32_t count;
    Timer timer;
    /* A change worth a line in the log and in SHOW EVENTS. */
    void (*on_event)(void *ctx, LogLevel level, const char *kind, const char *text);
    void *ctx;
};

bool probes_init(Probes *probes, Loop *loop, const Config *config,
                 void (*on_event)(void *ctx, LogLevel level, const char *kind, const char *text),
                 void *ctx) MUST_USE;
void probes_finish(Probes *probes);
const char *health_state_name(int state);

#endif
