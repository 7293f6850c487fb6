/*
 * settings.c - everything an operator may write into shards.ini, one row each.
 *
 * The parser, its errors, SHOW CONFIG, RELOAD's report and docs/configuration.md grow from these
 * rows. A row of width 0 is read by config.c itself, because its value refers to other sections.
 * Rows of [shoal] and [batch] point into Config, the others into the struct of their section.
 */
#include "meta/settings.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const LOG_LEVELS[] = {"debug", "info", "warning", "error", NULL};
static const char *const COMMIT_MODES[] = {[COMMIT_TWO_PHASE] = "two_phase",
                                           [COMMIT_ONE_PHASE] = "one_phase_best_effort", NULL};
static const char *const AUTH_METHODS[] = {[AUTH_TRUST] = "trust", [AUTH_SCRAM] = "scram-sha-256", NULL};

const char *const READ_CONSISTENCY_NAMES[] = {"default", "strong", "bounded", "session", "eventual", NULL};
const char *const BALANCE_POLICY_NAMES[] = {
    [BALANCE_HOT_COLD] = "hot_cold",
    [BALANCE_ROUND_ROBIN] = "round_robin",
    [BALANCE_WEIGHTED] = "weighted",
    [BALANCE_LEAST_CONNECTIONS] = "least_connections",
    [BALANCE_POWER_OF_TWO] = "power_of_two",
    [BALANCE_RESPONSE_TIME] = "response_time",
    [BALANCE_NEAREST] = "nearest",
    [BALANCE_HASH] = "hash",
    NULL};

#define MS INT64_C(1)
#define SECOND (1000 * MS)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define KB INT64_C(1024)
#define MB (1024 * KB)
#define GB (1024 * MB)

#define AT(type, field) offsetof(type, field), sizeof(((type *)NULL)->field)
#define SHOAL(field) AT(Config, field)
#define RELOADS true
#define RESTARTS false

static const char *const TABLE_KINDS[] = {"hash", "range", "list", "reference", "local", NULL};

static const Setting SETTINGS[] = {
    {"shoal", "listen", SETTING_TEXT, SHOAL(listen), 1, 255, NULL, "127.0.0.1", RESTARTS, false,
     "Address clients connect to; `*` for all addresses of this machine."},
    {"shoal", "port", SETTING_INT, SHOAL(port), 1, 65535, NULL, "6432", RESTARTS, false,
     "TCP port clients connect to."},
    {"shoal", "workers", SETTING_INT, SHOAL(workers), 0, 60, NULL, "0", RESTARTS, false,
     "Threads that carry queries. 0: one per two cores, at least one."},
    {"shoal", "io_uring", SETTING_BOOL, SHOAL(io_uring), 0, 1, NULL, "on", RESTARTS, false,
     "Write many answers by one system call, where the kernel offers io_uring; the log says when it does not."},
    {"shoal", "store", SETTING_TEXT, SHOAL(store), 1, 4000, NULL, "shoal.db", RESTARTS, false,
     "File of the metadata store (SQLite). Made when it does not exist; back it up."},
    {"shoal", "control_user", SETTING_TEXT, SHOAL(control_user), 1, 63, NULL, NULL, RELOADS, false,
     "Who Shoal itself logs in as to read catalogs and watch servers. Default: server_user of the "
     "database, else the first admin user, else postgres."},
    {"shoal", "control_password", SETTING_TEXT, SHOAL(control_password), 1, 1000, NULL, NULL, RELOADS,
     true, "Password of control_user."},
    {"shoal", "buckets", SETTING_INT, SHOAL(buckets), 64, 16384, NULL, "1024", RESTARTS, false,
     "Buckets that rows are hashed into, a power of two. Used only when the store is made."},
    {"shoal", "log_level", SETTING_ENUM, SHOAL(log_level), 0, 0, LOG_LEVELS, "info", RELOADS, false,
     "Least important lines that are logged."},
    {"shoal", "auth", SETTING_ENUM, SHOAL(auth), 0, 0, AUTH_METHODS, "scram-sha-256", RELOADS, false,
     "How clients prove who they are. `trust` asks for nothing: only for addresses nobody else can reach."},
    {"shoal", "user_list", SETTING_TEXT, SHOAL(user_list), 1, 4000, NULL, NULL, RELOADS, false,
     "File with one `\"user\" \"password or SCRAM verifier\"` per line, besides the [user NAME] sections."},
    {"shoal", "tls_cert", SETTING_TEXT, SHOAL(tls_cert), 1, 4000, NULL, NULL, RESTARTS, false,
     "Certificate chain (PEM) shown to clients. Without it clients connect unencrypted."},
    {"shoal", "tls_key", SETTING_TEXT, SHOAL(tls_key), 1, 4000, NULL, NULL, RESTARTS, false,
     "Private key (PEM) of tls_cert."},
    {"shoal", "tls_required", SETTING_BOOL, SHOAL(tls_required), 0, 1, NULL, "off", RELOADS, false,
     "Turn away clients that do not encrypt."},
    {"shoal", "client_max", SETTING_INT, SHOAL(client_max), 1, 1000000, NULL, "10000", RELOADS, false,
     "Client connections, all workers together."},
    {"shoal", "login_timeout", SETTING_DURATION, SHOAL(login_timeout_ms), SECOND, HOUR, NULL, "15s",
     RELOADS, false, "A client must have logged in after this time."},
    {"shoal", "query_wait_timeout", SETTING_DURATION, SHOAL(query_wait_timeout_ms), 0, DAY, NULL,
     "2min", RELOADS, false, "How long a statement may wait for a server connection. 0: for ever."},
    {"shoal", "server_connect_timeout", SETTING_DURATION, SHOAL(server_connect_timeout_ms),
     100 * MS, HOUR, NULL, "5s", RELOADS, false, "How long connecting and logging in to a server may take."},
    {"shoal", "server_idle_timeout", SETTING_DURATION, SHOAL(server_idle_timeout_ms), SECOND,
     20 * DAY, NULL, "10min", RELOADS, false, "A server connection nobody used for so long is closed."},
    {"shoal", "server_lifetime", SETTING_DURATION, SHOAL(server_lifetime_ms), SECOND, 20 * DAY,
     NULL, "1h", RELOADS, false, "A server connection older than this is closed once it is free."},
    {"shoal", "server_statements_max", SETTING_INT, SHOAL(server_statements_max), 1, 100000, NULL,
     "500", RELOADS, false, "Prepared statements kept on each server connection."},
    {"shoal", "client_statements_max", SETTING_INT, SHOAL(client_statements_max), 1, 1000000, NULL,
     "10000", RELOADS, false, "Prepared statements one client may hold."},
    {"shoal", "client_cursors_max", SETTING_INT, SHOAL(client_cursors_max), 1, 100000, NULL,
     "100", RELOADS, false, "Cursors and portals one client may have open on a sharded database; over several shards each "
     "keeps a server connection."},
    {"shoal", "idle_in_transaction_timeout", SETTING_DURATION, SHOAL(idle_in_transaction_timeout_ms),
     0, 20 * DAY, NULL, "0", RELOADS, false,
     "A client that leaves a transaction open and silent for so long is disconnected. 0: never."},
    {"shoal", "tcp_user_timeout", SETTING_DURATION, SHOAL(tcp_user_timeout_ms), 0, HOUR, NULL,
     "3s", RELOADS, false,
     "A server connection whose bytes were not acknowledged for so long is broken. 0: the kernel's default."},
    {"shoal", "shutdown_timeout", SETTING_DURATION, SHOAL(shutdown_timeout_ms), 0, DAY, NULL,
     "30s", RELOADS, false, "How long a shutdown waits for running transactions."},
    {"shoal", "commit_timeout", SETTING_DURATION, SHOAL(commit_timeout_ms), 100 * MS, HOUR, NULL, "10s",
     RELOADS, false,
     "How long a commit over several shards waits for a server in each of its phases; then recovery ends it."},
    {"shoal", "transaction_script_max", SETTING_SIZE, SHOAL(transaction_script_max), KB, GB, NULL, "64kB",
     RELOADS, false,
     "Savepoints and SET LOCAL of one transaction that are kept for shards that join it later."},
    {"shoal", "message_max", SETTING_SIZE, SHOAL(message_max), 64 * KB, GB, NULL, "256MB", RELOADS,
     false, "Bytes of one message from a client."},
    {"shoal", "server_message_max", SETTING_SIZE, SHOAL(server_message_max), 64 * KB, 2 * GB - 1,
     NULL, "1GB", RELOADS, false, "Bytes of one message from a server."},
    {"shoal", "output_high", SETTING_SIZE, SHOAL(output_high), 16 * KB, GB, NULL, "1MB", RELOADS,
     false, "Bytes that may wait for a slow client before its servers are slowed down."},
    {"shoal", "shape_cache_max", SETTING_INT, SHOAL(shape_cache_max), 16, 1000000, NULL, "4096",
     RESTARTS, false, "Parsed statements kept per worker."},
    {"shoal", "copy_row_max", SETTING_SIZE, SHOAL(copy_row_max), 64 * KB, GB, NULL, "64MB", RELOADS, false,
     "One row of COPY data that is dealt out to several shards."},
    {"shoal", "shape_cache_bytes", SETTING_SIZE, SHOAL(shape_cache_bytes), MB, 16 * GB, NULL,
     "64MB", RESTARTS, false, "Memory for parsed statements per worker."},
    {"shoal", "gather_max_bytes", SETTING_SIZE, SHOAL(gather_max_bytes), 64 * 1024, 1024 * GB, NULL, "1GB",
     RELOADS, false, "Rows that one statement may bring together on one server, in bytes; past it, an error."},
    {"shoal", "errand_max_bytes", SETTING_SIZE, SHOAL(errand_max_bytes), 64 * 1024, GB, NULL, "64MB",
     RELOADS, false, "Rows that one INSERT ... SELECT, or UPDATE of the key, may move through Shoal, in bytes; past it, an error."},
    {"shoal", "pipeline_max", SETTING_INT, SHOAL(pipeline_max), 1, 100000, NULL, "1024", RELOADS,
     false, "Requests of one client that are read ahead."},
    {"shoal", "statement_stats_max", SETTING_INT, SHOAL(statement_stats_max), 0, 100000, NULL,
     "1000", RELOADS, false, "Statements whose figures are kept for SHOW STATEMENTS, per worker. 0: none."},
    {"shoal", "http_listen", SETTING_TEXT, SHOAL(http_listen), 1, 255, NULL, "127.0.0.1", RESTARTS,
     false, "Address of metrics, health checks and the web page. Other than a loopback address only with http_password."},
    {"shoal", "http_port", SETTING_INT, SHOAL(http_port), 0, 65535, NULL, "6480", RESTARTS, false,
     "TCP port of metrics, health checks and the web page (HTTP). 0: off."},
    {"shoal", "http_password", SETTING_TEXT, SHOAL(http_password), 1, 1000, NULL, NULL, RELOADS, true,
     "What /metrics, /api and the web page ask for (HTTP basic authentication, any user name); /health does not."},
    {"shoal", "catalog_poll", SETTING_DURATION, SHOAL(catalog_poll_ms), 100 * MS, HOUR, NULL, "1s",
     RELOADS, false, "How often the servers' catalogs are looked at for changes made without the router."},
    {"shoal", "move_parallel", SETTING_INT, SHOAL(move_parallel), 1, 16, NULL, "2", RELOADS, false,
     "Moves of buckets at a time; never two that share a shard."},
    {"shoal", "move_speed", SETTING_SIZE, SHOAL(move_bytes_per_s), 0, 100 * GB, NULL, "0", RELOADS, false,
     "Bytes per second that a move copies at most. 0: no limit."},
    {"shoal", "move_lag_max", SETTING_SIZE, SHOAL(move_lag_max), MB, 1000 * GB, NULL, "1GB", RELOADS, false,
     "The target of a move may be behind by so much log; past it the move pauses, and goes on at three quarters."},
    {"shoal", "move_lag_undo", SETTING_SIZE, SHOAL(move_lag_undo), MB, 1000 * GB, NULL, "16GB", RELOADS, false,
     "Log that a move may make its source keep; past it the move is undone."},
    {"shoal", "move_load_max", SETTING_INT, SHOAL(move_load_max), 0, 100000, NULL, "0", RELOADS, false,
     "A move pauses while more statements than this run on its source, and goes on when there are fewer. 0: never."},
    {"shoal", "move_slot_timeout", SETTING_DURATION, SHOAL(move_slot_timeout_ms), SECOND, DAY, NULL, "2min",
     RELOADS, false, "How long a move waits for transactions that run already when it begins."},
    {"shoal", "move_fence_timeout", SETTING_DURATION, SHOAL(move_fence_timeout_ms), 100 * MS, MINUTE, NULL,
     "3s", RELOADS, false,
     "How long statements for moving buckets may be held back; then they go on, and the move tries again."},
    {"shoal", "move_fence_attempts", SETTING_INT, SHOAL(move_fence_attempts), 1, 10000, NULL, "30", RELOADS,
     false, "How often it tries, before the move is undone."},
    {"shoal", "move_rollback_window", SETTING_DURATION, SHOAL(move_rollback_window_ms), 0, 20 * DAY, NULL,
     "1min", RELOADS, false,
     "How long a finished move can be rolled back; the old rows are deleted afterwards. 0: not at all."},
    {"shoal", "fence_wait_max", SETTING_INT, SHOAL(fence_wait_max), 1, 1000000, NULL, "10000", RELOADS, false,
     "Statements per worker that may wait for moving buckets; more are refused."},

    {"shoal", "recovery_interval", SETTING_DURATION, SHOAL(recovery_interval_ms), 100 * MS, HOUR, NULL,
     "5s", RELOADS, false,
     "How often the shards are asked for prepared transactions that nobody brings to an end; each second while there are some."},
    {"shoal", "deadlock_interval", SETTING_DURATION, SHOAL(deadlock_interval_ms), 0, MINUTE, NULL, "1s",
     RELOADS, false, "How often the shards are asked who waits for whom, to find deadlocks over several shards. 0: never."},
    {"batch", "batch", SETTING_BOOL, SHOAL(batch), 0, 1, NULL, "on", RELOADS, false,
     "Answer equal small queries of many clients by one statement."},
    {"batch", "batch_max", SETTING_INT, SHOAL(batch_max), 2, 10000, NULL, "100", RELOADS, false,
     "Queries in one batch."},
    {"batch", "batch_inflight_max", SETTING_INT, SHOAL(batch_inflight_max), 1, 1000, NULL, "4",
     RELOADS, false,
     "Batches of the same statement under way on one server, at most; the next one collects meanwhile. "
     "It is one until more of them serve more queries."},
    {"batch", "batch_bytes_max", SETTING_SIZE, SHOAL(batch_bytes_max), 64 * KB, GB, NULL, "16MB",
     RELOADS, false, "Result bytes held for one batch; past it the queries are run one by one."},
    {"batch", "batch_rows_max", SETTING_INT, SHOAL(batch_rows_max), 1, 100000000, NULL, "100000",
     RELOADS, false, "Result rows held for one batch; past it the queries are run one by one."},
    {"batch", "batch_templates_max", SETTING_INT, SHOAL(batch_templates_max), 16, 1000000, NULL, "4096",
     RELOADS, false, "Statements that are known to be batched, or not, per worker; past it the longest unused is forgotten."},
    {"batch", "n1", SETTING_BOOL, SHOAL(n1), 0, 1, NULL, "on", RELOADS, false,
     "Look for sequential N+1 loops (SHOW N1): a query, then another one for each of its rows."},
    {"batch", "n1_loop_min", SETTING_INT, SHOAL(n1_loop_min), 3, 1000, NULL, "5", RELOADS, false,
     "Queries in a row that make a loop."},
    {"batch", "n1_rows_max", SETTING_INT, SHOAL(n1_rows_max), 10, 10000, NULL, "1000", RELOADS, false,
     "Rows of a result that are remembered for its loop, and keys fetched ahead at once."},
    {"batch", "n1_bytes_max", SETTING_SIZE, SHOAL(n1_bytes_max), 4 * KB, GB, NULL, "1MB", RELOADS, false,
     "Bytes of such a result, and of answers fetched ahead, per client."},
    {"batch", "n1_memory_max", SETTING_SIZE, SHOAL(n1_memory_max), 64 * KB, 64 * GB, NULL, "32MB", RELOADS,
     false, "The same for all clients of a worker."},
    {"batch", "n1_patterns_max", SETTING_INT, SHOAL(n1_patterns_max), 10, 100000, NULL, "500", RELOADS, false,
     "N+1 loops known per worker; the one not seen for longest makes room."},
    {"batch", "prefetch", SETTING_BOOL, SHOAL(prefetch), 0, 1, NULL, "on", RELOADS, false,
     "Answer the queries of a known N+1 loop by one: in REPEATABLE READ transactions, where that is exact, and "
     "where prefetch_max_age_ms allows it."},
    {"batch", "prefetch_wait", SETTING_DURATION, SHOAL(prefetch_wait_ms), 1 * MS, MINUTE, NULL, "50ms", RELOADS,
     false, "How long a query may be held up by what is fetched ahead, or eight times what it takes alone if that is "
     "longer; past it that is given up."},

    {"batch", "batch_pipeline_max", SETTING_INT, SHOAL(batch_pipeline_max), 1, 1000, NULL, "8",
     RELOADS, false,
     "Short reads that cannot be batched, sent behind each other on one server connection when all are busy. "
     "1: one at a time."},
    {"batch", "batch_writes_max", SETTING_INT, SHOAL(batch_writes_max), 1, 1000, NULL, "32", RELOADS,
     false, "Writes of one commit, for tables with batch_writes = on."},
    {"batch", "batch_proof_every", SETTING_INT, SHOAL(batch_proof_every), 0, 1000000000, NULL, "10000",
     RELOADS, false,
     "One in so many batches is run together with its originals and compared byte for byte. 0: none."},
    {"batch", "profile", SETTING_TEXT, SHOAL(profile), 1, 63, NULL, "balanced", RELOADS, false,
     "Profile of those who have none: latency, balanced, throughput, or one of your own."},

    {"profile", "batch", SETTING_BOOL, AT(ProfileConfig, batch), 0, 1, NULL, "on", RELOADS, false,
     "Batching for those who have this profile."},
    {"profile", "batch_max", SETTING_INT, AT(ProfileConfig, batch_max), 2, 10000, NULL, NULL, RELOADS,
     false, "Queries in one batch, at most. Default: batch_max of [batch]."},
    {"profile", "batch_inflight_max", SETTING_INT, AT(ProfileConfig, inflight_max), 1, 1000, NULL, NULL,
     RELOADS, false, "Batches of the same statement under way on one server, at most. Default: that of [batch]."},
    {"profile", "batch_target", SETTING_DURATION, AT(ProfileConfig, target_ms), 0, HOUR, NULL, NULL,
     RELOADS, false,
     "95 % of the batches shall be answered within this time: they are made smaller until they are. "
     "0: always as large as they come. Default: 20ms; latency 5ms, throughput 100ms."},
    {"application", "profile", SETTING_TEXT, AT(ApplicationConfig, profile), 1, 63, NULL, NULL, RELOADS,
     false, "Profile of sessions with this application_name."},

    {"replicas", "read_consistency", SETTING_ENUM, SHOAL(read_consistency), 0, 0, READ_CONSISTENCY_NAMES,
     "strong", RELOADS, false,
     "What reads are answered from where nobody says more: strong is the primary, bounded a server with data of "
     "at most max_lag, session one that has all the session has written and seen, eventual any replica."},
    {"replicas", "max_lag", SETTING_DURATION, SHOAL(max_lag_ms), MS, DAY, NULL, "1s", RELOADS, false,
     "How old the data of a bounded read may be."},
    {"replicas", "max_lag_bytes", SETTING_SIZE, SHOAL(max_lag_bytes), 0, 1024 * GB, NULL, "0", RELOADS, false,
     "How many bytes of WAL a server may be behind for a bounded read, besides max_lag. 0: any number."},
    {"replicas", "balance", SETTING_ENUM, SHOAL(balance), 0, 0, BALANCE_POLICY_NAMES, "hot_cold", RELOADS, false,
     "Which of the servers that may answer gets a read: the one with low latency that is not busier than the "
     "others (hot_cold), or by the rule that is named."},
    {"replicas", "zone", SETTING_TEXT, SHOAL(zone), 1, 63, NULL, NULL, RELOADS, false,
     "Where this router stands. balance = nearest prefers servers with the same zone=... in their line."},
    {"replicas", "lag_check", SETTING_DURATION, SHOAL(lag_check_ms), 10 * MS, MINUTE, NULL, "100ms", RELOADS, false,
     "How often servers of a shard with replicas are asked for their role and position. A figure that is older "
     "counts as unknown for reads that need a younger one."},
    {"replicas", "primary_reads_max", SETTING_INT, SHOAL(primary_reads_max), 0, 1000000, NULL, "200", RELOADS, false,
     "Reads at one time that primaries take because no replica is there or young enough, all workers together; "
     "those beyond are refused (53300)."},
    {"replicas", "hedge", SETTING_BOOL, SHOAL(hedge), 0, 1, NULL, "on", RELOADS, false,
     "Ask a second server when the first is slower than hedge_percentile of reads; the first answer counts."},
    {"replicas", "copies", SETTING_INT, SHOAL(copies), 1, 3, NULL, "1", RELOADS, false,
     "Servers that each read on replicas asks at once; the first answer counts. More than 1 costs that many times the load."},
    {"replicas", "hedge_percentile", SETTING_INT, SHOAL(hedge_percentile), 50, 99, NULL, "95", RELOADS, false,
     "Reads that take longer than this share of them are hedged."},
    {"replicas", "hedge_max", SETTING_INT, SHOAL(hedge_max), 0, 100, NULL, "5", RELOADS, false,
     "Second questions, in percent of reads."},
    {"replicas", "retry_max", SETTING_INT, SHOAL(retry_max), 0, 100, NULL, "20", RELOADS, false,
     "Reads run again on another server after a lost connection or a recovery conflict, in percent of reads."},
    {"replicas", "breaker", SETTING_BOOL, SHOAL(breaker), 0, 1, NULL, "on", RELOADS, false,
     "Stop sending reads to a replica whose reads fail or are slow; a few probe it before it is used again."},
    {"replicas", "breaker_failures", SETTING_INT, SHOAL(breaker_failures), 1, 100, NULL, "50", RELOADS, false,
     "Percent of reads that are lost, refused or slow at which a replica's breaker opens. SQL errors do not count."},
    {"replicas", "breaker_slow", SETTING_DURATION, SHOAL(breaker_slow_ms), 0, HOUR, NULL, "0", RELOADS, false,
     "A read that takes longer counts as slow. 0: slowness does not count."},
    {"replicas", "breaker_open", SETTING_DURATION, SHOAL(breaker_open_ms), 10 * MS, HOUR, NULL, "2s", RELOADS, false,
     "How long an open breaker keeps reads away before it lets a few through."},
    {"replicas", "failover_wait", SETTING_DURATION, SHOAL(failover_wait_ms), 0, HOUR, NULL, "10s", RELOADS, false,
     "How long statements wait while a shard with replicas has no primary that can be reached. 0: they fail at once."},
    {"replicas", "switchover_wait", SETTING_DURATION, SHOAL(switchover_wait_ms), 10 * MS, HOUR, NULL, "5s", RELOADS, false,
     "How long SWITCHOVER and PAUSE wait for open transactions to end and for the new primary to replay everything; "
     "then all goes on as before. Keep it below failover_wait."},

    {"shard", "primary", SETTING_TEXT, 0, 0, 1, 4000, NULL, NULL, RESTARTS, false,
     "The server that takes writes: `host=... port=...` and other libpq keywords (sslmode=...). Required."},
    {"shard", "replica", SETTING_TEXT, 0, 0, 1, 4000, NULL, NULL, RESTARTS, false,
     "A streaming replica of the primary. May be repeated. weight=N, zone=NAME and patroni=http://host:port may stand among the keywords."},

    {"shard", "weight", SETTING_INT, AT(ShardConfig, weight), 0, 1000, NULL, "1", RELOADS, false,
     "Its share of the buckets, when REBALANCE spreads them, against the weights of the others. 0: none."},

    {"database", "dbname", SETTING_TEXT, AT(DatabaseConfig, dbname), 1, 63, NULL, NULL, RESTARTS,
     false, "Its name on the servers. Default: the name of the section."},
    {"database", "shards", SETTING_TEXT, 0, 0, 1, 4000, NULL, NULL, RESTARTS, false,
     "Shards it lies on, separated by commas; the first one holds the tables that are not distributed. "
     "Default: all shards."},
    {"database", "server_user", SETTING_TEXT, AT(DatabaseConfig, server_user), 1, 63, NULL, NULL,
     RELOADS, false, "User for connections to the servers. Default: the client's."},
    {"database", "server_password", SETTING_TEXT, AT(DatabaseConfig, server_password), 1, 1000,
     NULL, NULL, RELOADS, true, "Password of server_user. Default: the user's own, or none."},
    {"database", "batch", SETTING_BOOL, AT(DatabaseConfig, batch), 0, 1, NULL, "on", RELOADS, false,
     "Batching for this database."},
    {"database", "read_consistency", SETTING_ENUM, AT(DatabaseConfig, read_consistency), 0, 0,
     READ_CONSISTENCY_NAMES, "default", RELOADS, false, "What reads are answered from; default: as [replicas] says."},
    {"database", "max_lag", SETTING_DURATION, AT(DatabaseConfig, max_lag_ms), 0, DAY, NULL, "0", RELOADS, false,
     "How old the data of a bounded read may be. 0: as [replicas] says."},
    {"database", "profile", SETTING_TEXT, AT(DatabaseConfig, profile), 1, 63, NULL, NULL, RELOADS, false,
     "Profile of its batches. Default: that of [batch]."},
    {"database", "commit_mode", SETTING_ENUM, AT(DatabaseConfig, commit_mode), 0, 0, COMMIT_MODES,
     "two_phase", RELOADS, false,
     "How a transaction that has written on several shards commits. `one_phase_best_effort` needs no prepared "
     "transactions, and leaves some shards committed and others not when a server dies at the wrong moment."},
    {"database", "pool_size", SETTING_INT, AT(DatabaseConfig, pool_size), 1, 10000, NULL, "20",
     RELOADS, false, "Connections per server and user, all workers together."},
    {"database", "prefetch_max_age_ms", SETTING_INT, AT(DatabaseConfig, prefetch_max_age_ms), 0, 60000, NULL,
     "0", RELOADS, false,
     "In READ COMMITTED, answer the queries of an N+1 loop from one that was run up to so many milliseconds "
     "before. 0: never."},

    {"user", "password", SETTING_TEXT, AT(UserConfig, password), 1, 1000, NULL, NULL, RELOADS, true,
     "Plain, or a verifier (`SCRAM-SHA-256$...`) as in pg_authid.rolpassword."},
    {"user", "admin", SETTING_BOOL, AT(UserConfig, admin), 0, 1, NULL, "off", RELOADS, false,
     "May use every command of the console."},
    {"user", "monitor", SETTING_BOOL, AT(UserConfig, monitor), 0, 1, NULL, "off", RELOADS, false,
     "May use SHOW in the console."},
    {"user", "prefetch_max_age_ms", SETTING_INT, AT(UserConfig, prefetch_max_age_ms), 0, 60000, NULL, "0",
     RELOADS, false, "The same for one user. 0: as the database has it."},
    {"user", "profile", SETTING_TEXT, AT(UserConfig, profile), 1, 63, NULL, NULL, RELOADS, false,
     "Profile of this user's batches. Default: the database's."},

    {"user", "read_consistency", SETTING_ENUM, AT(UserConfig, read_consistency), 0, 0, READ_CONSISTENCY_NAMES,
     "default", RELOADS, false, "What this user's reads are answered from; default: as the database says."},

    {"table", "database", SETTING_TEXT, AT(TableConfig, database), 1, 63, NULL, NULL, RELOADS, false,
     "Database of the table. Needed when there is more than one."},
    {"table", "kind", SETTING_ENUM, AT(TableConfig, kind), 0, 0, TABLE_KINDS, "hash", RELOADS, false,
     "How its rows are spread: by a hash of the key, by ranges or a list of its values, `reference`: all of "
     "them on each shard, `local`: all of them on one shard."},
    {"table", "key", SETTING_TEXT, AT(TableConfig, key), 1, 600, NULL, NULL, RELOADS, false,
     "Column that decides on which shard a row lies; up to 8, separated by commas, for `hash`. Without it, "
     "and without another kind, the table is not distributed by this section."},
    {"table", "places", SETTING_TEXT, AT(TableConfig, places), 1, 60000, NULL, NULL, RELOADS, false,
     "Of `range` and `list`: `VALUE@SHARD, ...`; of a range the lowest value. `*` stands for no value: from "
     "the lowest on, or all others."},
    {"table", "key_type", SETTING_TEXT, AT(TableConfig, key_type), 1, 63, NULL, NULL, RELOADS, false,
     "Of `range` and `list`: the key's type, such as `bigint`, `date` or `text`."},
    {"table", "shard", SETTING_TEXT, AT(TableConfig, shard), 1, 63, NULL, NULL, RELOADS, false,
     "Of `local`: the shard that has its rows."},
    {"table", "colocation", SETTING_TEXT, AT(TableConfig, colocate_with), 1, 63, NULL, NULL, RELOADS, false,
     "Name of its group: tables of one group with equal keys have them on the same shard. Default: one "
     "group for all `hash` tables, one of its own for each other."},
    {"table", "batch", SETTING_BOOL, AT(TableConfig, batch), 0, 1, NULL, "on", RELOADS, false,
     "Batching for statements that read this table."},
    {"table", "batch_writes", SETTING_BOOL, AT(TableConfig, batch_writes), 0, 1, NULL, "off", RELOADS,
     false, "Single-row INSERT, UPDATE and DELETE of several clients may share one commit."},
    {"table", "profile", SETTING_TEXT, AT(TableConfig, profile), 1, 63, NULL, NULL, RELOADS, false,
     "Profile of batches that read this table. Default: the application's, the user's or the database's."},
    {"table", "copies", SETTING_INT, AT(TableConfig, copies), 0, 3, NULL, "0", RELOADS, false,
     "Servers that a read of this table asks at once. 0: as [replicas] says."},
    {"table", "prefetch_max_age_ms", SETTING_INT, AT(TableConfig, prefetch_max_age_ms), 0, 60000, NULL, "0",
     RELOADS, false, "The same for queries of this table. 0: as the user or the database has it."},
};

const Setting *config_settings(size_t *ret_count)
{
    *ret_count = ARRAY_LEN(SETTINGS);
    return SETTINGS;
}

const Setting *setting_find(const char *section, const char *key)
{
    for (size_t i = 0; i < ARRAY_LEN(SETTINGS); i++) {
        if (strcmp(SETTINGS[i].section, section) == 0 && strcmp(SETTINGS[i].key, key) == 0)
            return &SETTINGS[i];
    }
    return NULL;
}

/* ---- text -> field ---- */

typedef struct Unit {
    const char *name;
    int64_t factor;
} Unit;

/* Largest first, so that a value is shown in the largest unit that fits exactly. */
static const Unit DURATION_UNITS[] = {{"d", DAY},   {"h", HOUR}, {"min", MINUTE},
                                      {"s", SECOND}, {"ms", MS},  {NULL, 0}};
static const Unit SIZE_UNITS[] = {{"GB", GB}, {"MB", MB}, {"kB", KB}, {"B", 1}, {NULL, 0}};

static const Unit *setting_units(const Setting *setting)
{
    return setting->type == SETTING_DURATION ? DURATION_UNITS
           : setting->type == SETTING_SIZE   ? SIZE_UNITS
                                             : NULL;
}

/* "5s" for 5000 ms. */
static void number_text(const Unit *units, int64_t value, char *text, size_t size)
{
    while (units && value != 0 && value % units->factor != 0)
        units++;
    if (!units || value == 0)
        snprintf(text, size, "%" PRId64, value);
    else
        snprintf(text, size, "%" PRId64 "%s", value / units->factor, units->name);
}

/* A whole number and, where the row has units, one of them. Too big ones saturate: the range check
 * that follows names the limits. False when it is no such thing. */
static bool number_read(const Unit *units, const char *text, int64_t *ret_value)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || isspace((unsigned char)*text))
        return false;
    while (*end == ' ')
        end++;
    int64_t factor = 1;
    if (units && units == DURATION_UNITS && strcmp(end, "us") == 0) {
        number = number / 1000 + (number % 1000 > 0); /* never rounds down to "never" */
    } else if (units && *end) {
        while (units->name && strcmp(units->name, end) != 0 &&
               !(strcmp(units->name, "kB") == 0 && strcmp(end, "KB") == 0))
            units++;
        if (!units->name)
            return false;
        factor = units->factor;
    } else if (*end || (units == DURATION_UNITS && number != 0)) {
        return false;
    }
    if (errno == ERANGE || __builtin_mul_overflow(number, factor, &number))
        number = *text == '-' ? INT64_MIN : INT64_MAX;
    *ret_value = number;
    return true;
}

static bool bool_read(const char *text, int64_t *ret_value)
{
    static const char *const WORDS[] = {"off", "on", "false", "true", "no", "yes", "0", "1"};
    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++) {
        if (slice_equal_nocase(slice_str(text), slice_str(WORDS[i]))) {
            *ret_value = i % 2;
            return true;
        }
    }
    return false;
}

static void field_put(const Setting *setting, void *base, int64_t value)
{
    void *field = (char *)base + setting->offset;
    switch (setting->width) {
    case 1:
        *(bool *)field = value != 0;
        break;
    case 4:
        *(uint32_t *)field = (uint32_t)value;
        break;
    default:
        assert(setting->width == 8);
        *(uint64_t *)field = (uint64_t)value;
    }
}

static int64_t field_get(const Setting *setting, const void *base)
{
    const void *field = (const char *)base + setting->offset;
    switch (setting->width) {
    case 1:
        return *(const bool *)field;
    case 4:
        return *(const uint32_t *)field; /* no row allows negative numbers */
    default:
        assert(setting->width == 8);
        return (int64_t) * (const uint64_t *)field;
    }
}

static bool number_store(const Setting *setting, void *base, const char *text,
                         char ret_reason[static 256])
{
    static const char *const EXPECTED[] = {
        [SETTING_INT] = "a whole number",
        [SETTING_DURATION] = "a duration such as 500ms, 5s, 10min, 1h or 1d",
        [SETTING_SIZE] = "a size such as 64kB, 16MB or 1GB",
    };
    const Unit *units = setting_units(setting);
    int64_t value;
    if (!number_read(units, text, &value)) {
        snprintf(ret_reason, 256, "%s must be %s, not \"%.60s\"", setting->key,
                 EXPECTED[setting->type], text);
        return false;
    }
    if (value < setting->min || value > setting->max) {
        char min[32], max[32];
        number_text(units, setting->min, min, sizeof min);
        number_text(units, setting->max, max, sizeof max);
        snprintf(ret_reason, 256, "%s must be between %s and %s, not \"%.60s\"", setting->key, min,
                 max, text);
        return false;
    }
    field_put(setting, base, value);
    return true;
}

static bool enum_store(const Setting *setting, void *base, const char *text,
                       char ret_reason[static 256])
{
    const char *const *choices = setting->choices;
    for (int i = 0; choices[i]; i++) {
        if (strcmp(choices[i], text) != 0)
            continue;
        if (setting->width == sizeof(char *))
            *(const char **)(void *)((char *)base + setting->offset) = choices[i];
        else
            field_put(setting, base, i);
        return true;
    }
    int n = snprintf(ret_reason, 256, "%s must be one of", setting->key);
    for (int i = 0; choices[i]; i++)
        n += snprintf(ret_reason + n, 256 - (size_t)n, "%s %s", i ? "," : "", choices[i]);
    snprintf(ret_reason + n, 256 - (size_t)n, "; not \"%.60s\"", text);
    return false;
}

static bool text_store(const Setting *setting, void *base, const char *text, Arena *arena,
                       char ret_reason[static 256])
{
    size_t len = strlen(text);
    if ((int64_t)len < setting->min || (int64_t)len > setting->max) {
        snprintf(ret_reason, 256, "%s must have between %" PRId64 " and %" PRId64 " bytes",
                 setting->key, setting->min, setting->max);
        return false;
    }
    if (setting->width == 0)
        return true;
    const char *copy = arena_text(arena, slice_str(text));
    if (!copy)
        snprintf(ret_reason, 256, "out of memory");
    else
        *(const char **)(void *)((char *)base + setting->offset) = copy;
    return copy != NULL;
}

bool setting_store(const Setting *setting, void *base, const char *text, Arena *arena,
                   char ret_reason[static 256])
{
    int64_t value;
    switch (setting->type) {
    case SETTING_BOOL:
        if (bool_read(text, &value)) {
            field_put(setting, base, value);
            return true;
        }
        snprintf(ret_reason, 256, "%s must be on or off, not \"%.60s\"", setting->key, text);
        return false;
    case SETTING_ENUM:
        return enum_store(setting, base, text, ret_reason);
    case SETTING_TEXT:
        return text_store(setting, base, text, arena, ret_reason);
    case SETTING_INT:
    case SETTING_DURATION:
    case SETTING_SIZE:
        return number_store(setting, base, text, ret_reason);
    }
    return false;
}

bool settings_default(const char *section, void *base, Arena *arena)
{
    char reason[256];
    for (size_t i = 0; i < ARRAY_LEN(SETTINGS); i++) {
        const Setting *s = &SETTINGS[i];
        if (s->def && strcmp(s->section, section) == 0 &&
            !setting_store(s, base, s->def, arena, reason))
            return false;
    }
    return true;
}

/* ---- field -> text ---- */

const char *setting_show(const Setting *setting, const void *base, Arena *arena)
{
    assert(setting->width > 0);
    if (setting->secret)
        return "********";
    char text[32];
    switch (setting->type) {
    case SETTING_BOOL:
        return field_get(setting, base) ? "on" : "off";
    case SETTING_ENUM:
        if (setting->width != sizeof(char *))
            return setting->choices[field_get(setting, base)];
        /* fall through */
    case SETTING_TEXT: {
        const char *value = *(const char *const *)(const void *)((const char *)base + setting->offset);
        return value ? value : "";
    }
    case SETTING_INT:
    case SETTING_DURATION:
    case SETTING_SIZE:
        number_text(setting_units(setting), field_get(setting, base), text, sizeof text);
        return arena_text(arena, slice_str(text));
    }
    return "";
}

/* ---- docs/configuration.md ---- */

static void write_row(const Setting *s, FILE *out)
{
    char range[300] = "", min[32], max[32];
    if (s->type == SETTING_BOOL) {
        snprintf(range, sizeof range, "on, off");
    } else if (s->type == SETTING_ENUM) {
        for (int i = 0, n = 0; s->choices[i]; i++)
            n += snprintf(range + n, sizeof range - (size_t)n, "%s%s", i ? ", " : "", s->choices[i]);
    } else if (s->type != SETTING_TEXT) {
        number_text(setting_units(s), s->min, min, sizeof min);
        number_text(setting_units(s), s->max, max, sizeof max);
        snprintf(range, sizeof range, "%s to %s", min, max);
    }
    fprintf(out, "| `%s` | %s | %s | %s | %s |\n", s->key, s->def ? s->def : "", range,
            s->reload ? "RELOAD" : "restart", s->help);
}

void config_write_markdown(FILE *out)
{
    static const struct {
        const char *section, *title, *text;
    } SECTIONS[] = {
        {"shoal", "[shoal]", "The router itself: where it listens, whom it lets in, what it allows them."},
        {"batch", "[batch]", "Many small queries as one."},
        {"replicas", "[replicas]",
         "Reads on replicas, and what happens when a primary is lost (docs/replicas.md)."},
        {"profile", "[profile NAME]",
         "How batches are made for those who have this profile. `latency`, `balanced` and `throughput` are\n"
         "there without a section; a section of that name changes them. The most particular one counts: a\n"
         "statement's `/* shoal: profile=NAME */`, then the table's, the application's, the user's, the\n"
         "database's, that of [batch]."},
        {"application", "[application NAME]", "Sessions that have set this application_name."},
        {"shard", "[shard NAME]",
         "One primary with any number of replicas. A server's user and database are not written here: "
         "they come from the client or the [database NAME] section. At least one shard is needed."},
        {"database", "[database NAME]",
         "A database that clients may ask for. At least one is needed."},
        {"user", "[user NAME]",
         "Somebody who may log in. A file with a password in it must not be readable by everybody."},
        {"table", "[table SCHEMA.NAME]",
         "A table that is not simply on the first shard of its database. The schema is `public` "
         "when it is left out; names follow SQL's rules (`\"Quoted Names\"` keep their capitals). Tables "
         "distributed from the console need no section here. A section without a key only holds settings."},
    };
    fputs("# Configuration\n\n"
          "<!-- Written from the settings table (lib/meta/settings.c) by `ninja -C build settings-doc`. -->\n\n"
          "Shoal reads one file, `shards.ini`: sections in brackets, `key = value` below them, comments after\n"
          "`#` or `;` at the beginning of a line, or after ` ;` behind a value (so no value has ` ;` in it).\n"
          "Paths that do not begin with `/` start at the directory of the file.\n\n"
          "Durations are written with a unit: `us` `ms` `s` `min` `h` `d`. Sizes too: `B` `kB` `MB` `GB`.\n"
          "A wrong line stops the start with `file:line: reason`; RELOAD keeps the old configuration then.\n"
          "The last column but one says how a changed value is taken over: by RELOAD, or by a restart.\n",
          out);
    for (size_t i = 0; i < ARRAY_LEN(SECTIONS); i++) {
        fprintf(out, "\n## %s\n\n%s\n\n| Key | Default | Range | Applied by | Meaning |\n|---|---|---|---|---|\n",
                SECTIONS[i].title, SECTIONS[i].text);
        for (size_t k = 0; k < ARRAY_LEN(SETTINGS); k++) {
            if (strcmp(SETTINGS[k].section, SECTIONS[i].section) == 0)
                write_row(&SETTINGS[k], out);
        }
    }
}
