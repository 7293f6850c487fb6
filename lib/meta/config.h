/*
 * config.h - shards.ini as a value: what the operator wrote, checked, with defaults filled in.
 *
 * Everything an operator may set stands once, as a row of the settings table (config_settings):
 * section, key, type, range, unit, default, whether RELOAD applies it, help. The parser, the errors
 * (file:line: reason, nearest key), SHOW CONFIG and docs/configuration.md grow from those rows.
 * A Config is immutable once loaded and freed as a whole; it is part of a Topology.
 */
#ifndef SHOAL_META_CONFIG_H
#define SHOAL_META_CONFIG_H

#include <stdio.h>

#include "core/arena.h"
#include "core/error.h"

typedef enum ServerRole { SERVER_PRIMARY, SERVER_REPLICA } ServerRole;

/* One PostgreSQL server. `index` counts servers through all shards: it numbers pools and stats. */
typedef struct ServerConfig {
    const char *name; /* "s0/primary", "s0/replica1" */
    const char *conninfo; /* libpq keywords as written: host=... port=... sslmode=...; no user, dbname */
    const char *host;
    int port;
    ServerRole role; /* as written; who is the primary now stands in the Topology */
    uint32_t weight; /* share of reads, 1 to 1000 */
    const char *zone; /* where it stands; NULL: not said */
    const char *patroni_host; /* name or address of its Patroni's REST; NULL: none */
    int patroni_port;
    uint32_t shard; /* index in shards */
    uint32_t index;
} ServerConfig;

/* [shard NAME]  primary = host=... port=...   replica = ... (repeatable) */
typedef struct ShardConfig {
    const char *name;
    ServerConfig *primary;
    ServerConfig **replicas;
    uint32_t replica_count;
    uint32_t weight; /* its share of the buckets; 0: none */
} ShardConfig;

/* What a read may be answered from (docs/replicas.md). */
typedef enum ReadConsistency {
    READ_DEFAULT,  /* what the next wider level says: user, database, [replicas] */
    READ_STRONG,   /* the primary */
    READ_BOUNDED,  /* a server whose data is at most max_lag old */
    READ_SESSION,  /* a server that has all this session has written and seen */
    READ_EVENTUAL, /* any replica of the shard */
    READ_CONSISTENCY_COUNT
} ReadConsistency;

/* How a read is given to one of the servers that may answer it. */
typedef enum BalancePolicy {
    BALANCE_HOT_COLD, /* in-flight reads and latency together (Prequal's rule) */
    BALANCE_ROUND_ROBIN,
    BALANCE_WEIGHTED,
    BALANCE_LEAST_CONNECTIONS,
    BALANCE_POWER_OF_TWO,
    BALANCE_RESPONSE_TIME,
    BALANCE_NEAREST,
    BALANCE_HASH,
    BALANCE_POLICY_COUNT
} BalancePolicy;

extern const char *const READ_CONSISTENCY_NAMES[]; /* NULL-terminated */
extern const char *const BALANCE_POLICY_NAMES[];
/* [profile NAME], or one of the three that are there without a section: latency, balanced,
 * throughput. How batches of those who have it are made. */
typedef struct ProfileConfig {
    const char *name;
    bool batch;
    uint32_t batch_max;    /* members: the upper bound of what is tuned */
    uint32_t inflight_max; /* batches of one group on one server: likewise */
    uint32_t target_ms;    /* 95 % of the batches shall be answered within this time; 0: not tuned */
} ProfileConfig;

/* [application NAME]: those who set this application_name */
typedef struct ApplicationConfig {
    const char *name;
    const char *profile;
} ApplicationConfig;

/* How a transaction that has written on several shards commits (router/commit.h). */
typedef enum CommitMode { COMMIT_TWO_PHASE, COMMIT_ONE_PHASE } CommitMode;

/* [database NAME] */
typedef struct DatabaseConfig {
    const char *name;   /* what clients ask for */
    const char *dbname; /* its name on the servers; default: name */
    uint32_t *shards;   /* indexes in shards; the first is the home shard (local tables, catalog) */
    uint32_t shard_count;
    const char *server_user;     /* NULL: the client's user name */
    const char *server_password; /* secret; NULL: the user's own, or none */
    bool batch;                  /* batching on */
    const char *profile;         /* NULL: the default one */
    CommitMode commit_mode;
    uint32_t pool_size;          /* server connections per server and user, all workers together */
    ReadConsistency read_consistency;
    uint32_t max_lag_ms;         /* 0: the one of [replicas] */
    uint32_t prefetch_max_age_ms; /* READ COMMITTED: how old an answer fetched ahead may be; 0 none */
    uint32_t index;
} DatabaseConfig;

typedef enum AuthMethod { AUTH_TRUST, AUTH_SCRAM } AuthMethod;

/* [user NAME] or a line of the user list file ("name" "password or SCRAM verifier"). */
typedef struct UserConfig {
    const char *name;
    const char *password; /* secret, plain; NULL when only a verifier is known */
    /* SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>; derived at load time when a plain
     * password was given, so that no worker ever runs a key derivation (H29). NULL: cannot log in
     * by SCRAM. */
    const char *verifier;
    bool admin; /* may use the console's commands that change something */
    bool monitor; /* may use the console's SHOW */
    ReadConsistency read_consistency;
    uint32_t prefetch_max_age_ms; /* 0: as the database has it */
    const char *profile; /* of its batches; NULL: the database's */
} UserConfig;

/* [table NAME] of a database: distributed tables to begin with (the store knows those added at run
 * time), and how statements on a table are batched, distributed or not. */
typedef struct TableConfig {
    const char *database, *schema, *name; /* schema default public */
    const char *kind;    /* of TableKind, by name */
    const char *key;     /* columns, joined by TABLE_KEY_SEPARATOR (topology.h); "" for reference and local;
                          * NULL: the section does not distribute it */
    const char *shard;   /* local: its shard */
    const char *places;  /* range, list: VALUE@SHARD, ... as written */
    const char *key_type; /* range, list: of the key, by its SQL name */
    const char *colocate_with; /* group's name; NULL: the default one of its kind */
    bool batch;          /* statements that read it may be batched */
    bool batch_writes;   /* single-row writes of several clients may share a commit */
    const char *profile; /* NULL: the user's or the database's */
    uint32_t copies;     /* servers that a read of it asks at once; 0: as [replicas] says */
    uint32_t prefetch_max_age_ms; /* 0: as the user has it */
    int line;
} TableConfig;

typedef struct Config {
    const char *path;
    /* [shoal] */
    const char *listen;   /* address; "*" for all */
    int port;
    int workers;          /* 0: one per two cores, at least one */
    bool io_uring;        /* many answers leave by one system call, where the kernel has it */
    const char *store;    /* path of the SQLite file */
    const char *log_level;
    uint32_t buckets;     /* only for a new store: 64..16384, power of two */
    AuthMethod auth;
    const char *user_list; /* path or NULL */
    const char *control_user, *control_password; /* who Shoal itself logs in as; NULL: see docs */
    const char *tls_cert, *tls_key; /* paths or NULL: SSLRequest answered N */
    bool tls_required;
    uint32_t client_max;            /* sessions, all workers together */
    uint32_t login_timeout_ms;
    uint32_t query_wait_timeout_ms; /* a statement may wait that long for a server connection; 0: for ever */
    uint32_t server_connect_timeout_ms;
    uint32_t server_idle_timeout_ms;
    uint32_t server_lifetime_ms;
    uint32_t server_statements_max; /* prepared statements kept per server connection */
    uint32_t client_statements_max; /* per session */
    uint32_t client_cursors_max;    /* per session: portals that are fetched in parts */
    uint32_t idle_in_transaction_timeout_ms; /* 0: never */
    uint32_t tcp_user_timeout_ms;
    uint32_t shutdown_timeout_ms;
    uint32_t commit_timeout_ms; /* how long a phase of a commit over shards waits for a server */
    uint64_t transaction_script_max; /* bytes of savepoints and settings that a late shard is told */
    uint64_t message_max;     /* bytes of one client message */
    uint64_t server_message_max; /* bytes of one server message */
    uint64_t output_high;     /* bytes waiting for a slow client before its server is paused */
    uint32_t shape_cache_max; /* statements per worker */
    uint64_t shape_cache_bytes;
    uint64_t gather_max_bytes;
    uint64_t errand_max_bytes; /* rows that one statement moves from shard to shard */
    uint64_t copy_row_max;    /* bytes of one row of COPY data into a table on several shards */
    uint32_t pipeline_max;    /* requests of one client read ahead */
    uint32_t statement_stats_max; /* statements whose figures are kept, per worker; 0: none */
    const char *http_listen;  /* address of metrics and dashboard */
    int http_port;            /* 0: off */
    const char *http_password; /* NULL: nobody is asked */
    uint32_t move_parallel;
    uint64_t move_bytes_per_s, move_lag_max, move_lag_undo; /* bytes */
    uint32_t move_load_max; /* statements that run on the source; 0: no bound */
    uint32_t move_slot_timeout_ms, move_fence_timeout_ms, move_fence_attempts, move_rollback_window_ms;
    uint32_t fence_wait_max; /* requests per worker */
    /* [batch] */
    bool batch;
    uint32_t batch_max;          /* members */
    uint32_t batch_inflight_max; /* batches of one group in flight on one server: c */
    uint32_t batch_templates_max; /* statements known, per worker */
    uint64_t batch_bytes_max;    /* result bytes buffered per batch */
    uint32_t batch_rows_max;
    bool n1;                  /* sequential N+1 loops are looked for */
    uint32_t n1_loop_min;     /* statements */
    uint32_t n1_rows_max;     /* rows of a result remembered per session; keys fetched ahead */
    uint64_t n1_bytes_max;    /* per session: of rows remembered, and of answers fetched ahead */
    uint64_t n1_memory_max;   /* the same of all sessions of a worker */
    uint32_t n1_patterns_max; /* per worker */
    bool prefetch;
    uint32_t prefetch_wait_ms; /* a statement is held up that long at most by what is fetched ahead */
    bool prefetch_stale; /* some database, user or table has a prefetch_max_age_ms; computed */
    uint32_t batch_pipeline_max; /* tier C: originals of several clients behind each other; 1: off */
    uint32_t batch_writes_max;   /* members of one commit */
    uint32_t batch_proof_every;  /* one in so many batches is run with its originals; 0: none */
    const char *profile;         /* of those who have none */
    uint32_t catalog_poll_ms;
    /* [replicas] */
    ReadConsistency read_consistency;
    uint32_t max_lag_ms;
    uint64_t max_lag_bytes;      /* 0: no limit */
    BalancePolicy balance;
    const char *zone;            /* this router's own; NULL: not said */
    uint32_t lag_check_ms;
    uint32_t primary_reads_max;  /* reads for which no replica will do, at one time at a primary */
    bool hedge;
    uint32_t copies;             /* servers that a read asks at once */
    uint32_t hedge_percentile;
    uint32_t hedge_max;          /* percent of reads */
    uint32_t retry_max;          /* percent of reads */
    bool breaker;
    uint32_t breaker_failures;   /* percent */
    uint32_t breaker_slow_ms;    /* 0: slowness does not count */
    uint32_t breaker_open_ms;
    uint32_t switchover_wait_ms;
    uint32_t failover_wait_ms;   /* 0: statements fail at once when there is no primary */
    uint32_t recovery_interval_ms; /* between looks for prepared transactions that nobody ends */
    uint32_t deadlock_interval_ms; /* between looks for deadlocks over shards; 0: never */

    ShardConfig *shards;
    uint32_t shard_count;
    ServerConfig **servers; /* by index */
    uint32_t server_count;
    DatabaseConfig *databases;
    uint32_t database_count;
    UserConfig *users;
    uint32_t user_count;
    TableConfig *tables;
    uint32_t table_count;
    bool batch_writes; /* some table has it */
    bool table_copies; /* likewise */
    ProfileConfig *profiles; /* the three first, then own ones */
    uint32_t profile_count;
    ApplicationConfig *applications;
    uint32_t application_count;
    Arena arena;
} Config;

typedef enum SettingType {
    SETTING_BOOL,
    SETTING_INT,
    SETTING_DURATION, /* us ms s min h d; stored in ms */
    SETTING_SIZE,     /* B kB MB GB; stored in bytes */
    SETTING_TEXT,
    SETTING_ENUM
} SettingType;

typedef struct Setting {
    const char *section, *key;
    SettingType type;
    size_t offset; /* of the field in Config (or in the section's struct) */
    size_t width;  /* bytes of the field */
    int64_t min, max;
    const char *const *choices; /* SETTING_ENUM: NULL-terminated */
    const char *def;            /* default as text; NULL: required or none */
    bool reload;                /* RELOAD applies it */
    bool secret;                /* never shown (H89) */
    const char *help;
} Setting;

const Setting *config_settings(size_t *ret_count);
/* docs/configuration.md. */
void config_write_markdown(FILE *out);

/* NULL and err ("path:line: reason", F0000, HINT with the nearest key) for a wrong file. */
Config *config_load(const char *path, Error *err) MUST_USE;
void config_free(Config *config);
/* Of a Config that nobody shares yet: its shards become `members`, in that order, and `joining` behind
 * them (NULL: none); others, which have no schema yet, are left out. Members that the file does not
 * name are missing. */
bool config_arrange(Config *config, const char *const *members, uint32_t member_count, const char *joining,
                    Error *err) MUST_USE;
/* Of a section that is there once: [shoal], [batch], [replicas]; not of a list. */
bool setting_is_global(const Setting *setting);
/* The value in force of a global setting as text; "********" for secrets. */
const char *config_show(const Config *config, const Setting *setting, Arena *arena);
/* Settings that differ but need a restart, for the RELOAD answer: their names joined, or NULL. */
const char *config_restart_needed(const Config *old, const Config *new, Arena *arena);

const DatabaseConfig *config_database(const Config *config, Slice name);
const UserConfig *config_user(const Config *config, Slice name);
/* These are asked when a statement is judged, not for each one. NULL: there is none. */
const TableConfig *config_table(const Config *config, const char *database, Slice schema, Slice name);
const ProfileConfig *config_profile(const Config *config, Slice name);
const ApplicationConfig *config_application(const Config *config, Slice name);

#endif
