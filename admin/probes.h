/*
 * probes.h - is each server there, is it what it should be, how far has it replayed, and since when?
 *
 *     primary   "I have inserted up to 0/5000"  ──> LagHistory ──┐
 *     standby   "I have replayed up to 0/4F00"  ─────────────────┴─> fresh_us ──> Standings ──> workers
 *     all       timeline, in recovery, system   ──> roles_decide ──> on_primary ──> the next Topology
 *
 * Servers of a shard with replicas are asked each `lag_check`, others once a second, over a kept
 * connection. A change of state is told once, not each time. Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_PROBES_H
#define SHOAL_ADMIN_PROBES_H

#include "admin/lag.h"
#include "admin/patroni.h"
#include "admin/pg_client.h"
#include "admin/roles.h"
#include "core/log.h"
#include "meta/config.h"
#include "meta/standing.h"

typedef struct Probes Probes;

#define LAG_SECONDS 300 /* of SHOW REPLICA_LAG */

/* One second of a standby's lag. */
typedef struct LagSecond {
    uint64_t wall_us; /* 0: none yet */
    uint64_t lag_us, lag_bytes;
} LagSecond;

typedef struct ServerHealth {
    PgClient client;
    Patroni patroni;
    Probes *probes;
    const ServerConfig *server; /* borrowed from the Config in force */
    int state;                  /* HealthState */
    char why[200];
    bool answered;    /* what follows is of the last answer, and the server still answers */
    bool in_recovery;
    bool replay_paused;
    char receiver[16];   /* pg_stat_wal_receiver.status; "" when there is none */
    char system_id[24];  /* "" while not known */
    uint64_t timeline;   /* highest that it has shown on this connection */
    uint64_t lsn;        /* replayed, or inserted when it is not in recovery */
    uint64_t version;              /* 150018 */
    uint64_t prepared_max;         /* max_prepared_transactions */
    uint64_t changed_wall_us;      /* when `state` became what it is */
    uint64_t asked_us, latency_us; /* of the last answer, connection included where it was new */
    int server_pid;                /* of the connection's backend */
    uint64_t since_us;             /* the connection stands since; 0: it does not */
    uint64_t measured_us;          /* when the last answered question was asked; 0 never */
    uint64_t vouched_us;           /* an operator has said that it is the primary; 0 never */
    uint64_t ended_us;             /* when the last question that ended, well or not, was asked; 0 never */
    char *place;                   /* its shard and address, still there when the Config is gone; owned */
    LagSecond *lags;               /* ring of LAG_SECONDS, standbys only */
    uint32_t lag_next;
} ServerHealth;

/* What is known of a shard as a whole. */
typedef struct ShardHealth {
    LagHistory *history; /* of the primary; NULL for a shard without replicas */
    uint32_t history_of; /* index of the server that it is of; NO_PRIMARY: it is empty */
    RoleMemory memory;   /* its `primary` counts the shard's servers, primary of the file first */
} ShardHealth;

typedef struct ProbeEvents {
    /* A change worth a line in the log and in SHOW EVENTS. */
    void (*on_event)(void *ctx, LogLevel level, const char *kind, const char *text);
    /* Another server (index), or NO_PRIMARY, takes the writes of this shard, on this timeline. */
    void (*on_primary)(void *ctx, uint32_t shard, uint32_t server, uint64_t timeline, uint64_t system_id);
    void *ctx;
} ProbeEvents;

struct Probes {
    Loop *loop;
    const Config *config;
    Standings *standings;  /* borrowed */
    ServerHealth *servers; /* by ServerConfig.index */
    uint32_t count;
    ShardHealth *shards; /* by shard index */
    uint32_t shard_count; /* the Config may be gone when all of it is freed */
    Timer timer;
    ProbeEvents events;
};

/* `memory`: by shard index, what was remembered of roles (primary is a server index or NO_PRIMARY). */
bool probes_init(Probes *probes, Loop *loop, const Config *config, Standings *standings,
                 const RoleMemory *memory, const ProbeEvents *events) MUST_USE;
/* Another Config: all are asked anew; the lags of servers whose address has not changed are kept. */
bool probes_restart(Probes *probes, const Config *config, Standings *standings, const RoleMemory *memory) MUST_USE;
void probes_finish(Probes *probes);
/* An operator says that this one is the primary of its shard, whoever does not answer. */
void probes_vouch(Probes *probes, uint32_t server);

/* How old a standby's data is now, in us; UINT64_MAX: not known. 0 while it has all there is. */
uint64_t server_lag_us(const ServerHealth *health, uint64_t now_us);

#endif
