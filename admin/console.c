/*
 * console.c - the console's commands.
 *
 * What workers know (clients, pools, batches ...) is asked with one Report that goes through all of
 * them; everything else is known here. Secrets have no way into a row: config_show hides them.
 */
#include "admin/console.h"

#include <stdio.h>
#include <stdlib.h>

#include "admin/answer.h"
#include "admin/console_moves.h"
#include "admin/pins.h"
#include "admin/control_state.h"
#include "admin/drift.h"
#include "admin/fsck.h"
#include "admin/places.h"
#include "admin/replicas.h"
#include "admin/shard_add.h"
#include "admin/resolve.h"
#include "admin/show.h"
#include "admin/switchover.h"
#include "core/clock.h"
#include "meta/pin.h"
#include "wire/backend.h"

#define EVENTS_MAX          200
#define SHUTDOWN_WAIT_MAX_S 86400

static CommandFn show_help, show_version, show_config, show_databases, show_shards, show_tables,
    show_map, show_events, show_report, run_reload, run_shutdown;


static const Command COMMANDS[] = {
    {"show help", COMMAND_FOR_MONITORS, "", "This list.", 0, show_help},
    {"show version", COMMAND_FOR_MONITORS, "", "Program, PostgreSQL protocol, start, cluster.", 0,
     show_version},
    {"show config", COMMAND_FOR_MONITORS, "",
     "Settings in force, their defaults, and whether RELOAD applies them.", 0, show_config},
    {"show databases", COMMAND_FOR_MONITORS, "",
     "Databases, where they live, and what is known of their catalog.", 0, show_databases},
    {"show shards", COMMAND_FOR_MONITORS, "",
     "Servers of each shard with role, health and the reason when it is not up.", 0, show_shards},
    {"show servers_health", COMMAND_FOR_MONITORS, "", "The same as SHOW SHARDS.", 0, show_shards},
    {"show replicas", COMMAND_FOR_MONITORS, "",
     "Servers of shards with replicas: role, lag, why out of use, and their share of the reads.", 0, show_replicas},
    {"show replica_lag", COMMAND_FOR_MONITORS, "", "Lag of each replica, second by second, newest first.", 0,
     show_replica_lag},
    {"show tables", COMMAND_FOR_MONITORS, "", "Distributed tables with their keys.", 0,
     show_tables},
    {"show schema_drift", COMMAND_FOR_MONITORS, "",
     "What is in a shard's schema and not, or otherwise, in the home shard's; no rows: they agree.", 0, show_schema_drift},
    {"show map", COMMAND_FOR_MONITORS, "", "Buckets of each shard.", 0, show_map},
    {"show pools", COMMAND_FOR_MONITORS, "", "Server connections by pool.", REPORT_POOLS,
     show_report},
    {"show clients", COMMAND_FOR_MONITORS, "", "Sessions of clients.", REPORT_CLIENTS, show_report},
    {"show servers", COMMAND_FOR_MONITORS, "", "Server connections one by one.", REPORT_SERVERS,
     show_report},
    {"show batches", COMMAND_FOR_MONITORS, "",
     "Statements that travel together: members, sizes, times, or why not.", REPORT_BATCHES,
     show_report},
    {"show batch_reasons", COMMAND_FOR_MONITORS, "",
     "How often a statement was not batched, by reason.", REPORT_BATCH_REASONS, show_report},
    {"show n1", COMMAND_FOR_MONITORS, "",
     "Sequential N+1 loops: a query, then one for each of its rows; what they cost, whether they were "
     "answered ahead, or why not.", REPORT_N1, show_report},
    {"show stats", COMMAND_FOR_MONITORS, "", "Counters since the start.", REPORT_STATS,
     show_report},
    {"show statements", COMMAND_FOR_MONITORS, "",
     "Statements without their values: how often, how long, batched or why not.",
     REPORT_STATEMENTS, show_report},
    {"show latency", COMMAND_FOR_MONITORS, "",
     "Where time goes, by stage, since the start and in the last minute.", 0, show_latency},
    {"show latency_buckets", COMMAND_FOR_MONITORS, "", "The same as histograms.", 0,
     show_latency_buckets},
    {"show errors", COMMAND_FOR_MONITORS, "", "Errors told to clients, by class.", 0, show_errors},
    {"show history", COMMAND_FOR_MONITORS, "", "The last half hour, every five seconds.", 0,
     show_history},
    {"show health", COMMAND_FOR_MONITORS, "", "Is everything well? If not: what, and where.", 0,
     show_health},
    {"show process", COMMAND_FOR_MONITORS, "", "Memory, processor time, descriptors, versions.", 0,
     show_process},
    {"show commits", COMMAND_FOR_MONITORS, "",
     "Transactions over several shards that are being committed now.", REPORT_TRANSACTIONS, show_report},
    {"show events", COMMAND_FOR_MONITORS, "", "What happened lately, newest first.", 0,
     show_events},
    {"show moves", COMMAND_FOR_MONITORS, "", "Moves of buckets: where they go, how far they are.", 0,
     console_show_moves},
    {"show pins", COMMAND_FOR_MONITORS, "", "Keys that live apart from their buckets.", 0, console_show_pins},
    {"move", COMMAND_FOR_ADMINS, "buckets TO shard | KEY table key TO shard | TENANT table key TO shard",
     "Moves buckets, the bucket of a key, or one key's rows alone, to another shard while everybody works.", 0,
     console_move},
    {"rebalance plan", COMMAND_FOR_ADMINS, "[BY COUNT|BYTES|LOAD] [DRAIN shard]",
     "What REBALANCE START would move, how long that takes, and what stands in its way.",
     REBALANCE_PLAN, console_rebalance},
    {"rebalance start", COMMAND_FOR_ADMINS, "[BY COUNT|BYTES|LOAD] [DRAIN shard]",
     "Moves as few buckets as make the shards even, or empty one.", REBALANCE_START, console_rebalance},
    {"rebalance pause", COMMAND_FOR_ADMINS, "", "Nothing new begins to move, nothing is switched.",
     REBALANCE_PAUSE, console_rebalance},
    {"rebalance resume", COMMAND_FOR_ADMINS, "", "Goes on.", REBALANCE_RESUME, console_rebalance},
    {"rebalance cancel", COMMAND_FOR_ADMINS, "[move]", "Undoes moves that are not switched yet.",
     REBALANCE_CANCEL, console_rebalance},
    {"rebalance rollback", COMMAND_FOR_ADMINS, "[move]",
     "Brings the rows of switched moves back to where they came from.", REBALANCE_ROLLBACK, console_rebalance},
    {"rebalance finish", COMMAND_FOR_ADMINS, "[move]",
     "Ends the time in which switched moves can be rolled back: old rows are deleted.", REBALANCE_FINISH,
     console_rebalance},
    {"shard add", COMMAND_FOR_ADMINS, "shard", "Makes the schema on a new shard of shards.ini, and lets it join.", 0,
     console_shard_add},
    {"shard remove", COMMAND_FOR_ADMINS, "shard", "Says whether a shard is empty, and how to take it out.", 0,
     console_shard_remove},
    {"switchover", COMMAND_FOR_ADMINS, "shard TO server",
     "Promotes a standby while everybody works: statements wait for a moment, none fails.", 0, console_switchover},
    {"pause", COMMAND_FOR_ADMINS, "shard",
     "New statements for the shard's primary wait; answered when nothing runs there any more.", 0, console_pause},
    {"resume", COMMAND_FOR_ADMINS, "shard", "Ends a pause; says that the primary is who it was when that is in doubt.", 0, console_resume},
    {"fsck", COMMAND_FOR_ADMINS, "[REPAIR]",
     "Looks whether every row is on its shard, schemas are equal and nothing was left behind.", 0, console_fsck},
    {"show transactions", COMMAND_FOR_MONITORS, "",
     "Prepared transactions of all shards: whose, how old, where, and what was decided.", 0,
     show_transactions},
    {"show locks", COMMAND_FOR_MONITORS, "",
     "Who waits for whose lock on which shard, both ends named by client.", 0, show_locks},
    {"show recovery", COMMAND_FOR_MONITORS, "", "Counters and gauges of the recovery.", 0, show_recovery},
    {"resolve", COMMAND_FOR_ADMINS, "'gid' COMMIT|ROLLBACK [FORCE]",
     "Ends a prepared transaction; against its decision only with FORCE.", 0, run_resolve},
    {"reload", COMMAND_FOR_ADMINS, "", "Reads shards.ini again; a wrong file changes nothing.", 0,
     run_reload},
    {"shutdown", COMMAND_FOR_ADMINS, "[WAIT seconds]",
     "Stops; sessions in a transaction get that long to finish.", 0, run_shutdown},
};

const Command *console_commands(size_t *ret_count)
{
    *ret_count = ARRAY_LEN(COMMANDS);
    return COMMANDS;
}

void console_run(Control *control, Call *call)
{
    Error err;
    CommandLine line, arguments;
    if (!command_line_read(call->text, &call->arena, &line, &err))
        goto failed;
    if (line.count == 0) {
        backend_put_empty_query(&call->answer);
        control_answer(control, call);
        return;
    }
    const Command *command = command_find(COMMANDS, ARRAY_LEN(COMMANDS), &line, &arguments, &err);
    if (!command || !command_allowed(command, call, &err))
        goto failed;
    if (command->run(control, call, command, &arguments, &err))
        return;
failed:
    answer_error(call, &err);
    control_answer(control, call);
}

/* ---- what is known here ---------------------------------------------------------------------- */

static bool show_help(Control *control, Call *call, const Command *command,
                      const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {TEXT("command"), TEXT("for"), TEXT("help")};
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++) {
        const Command *c = &COMMANDS[i];
        char *words =
            arena_printf(&call->arena, "%s%s%s", c->words, *c->arguments ? " " : "", c->arguments);
        for (char *p = words; p && *p && p < words + strlen(c->words); p++)
            *p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
        const char *cells[] = {words, c->right == COMMAND_FOR_ADMINS ? "admin" : "monitor",
                               c->help};
        answer_row(call, cells, ARRAY_LEN(cells));
    }
    return show_end(control, call);
}

static bool show_version(Control *control, Call *call, const Command *command,
                         const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {TEXT("version"), TEXT("started"), INT8("workers"),
                                           INT8("topology"), TEXT("cluster")};
    const char *cells[] = {"Shoal " SHOAL_VERSION,
                           wall_text(&call->arena, control->started_wall_us),
                           number(&call->arena, control->worker_count),
                           number(&call->arena, control->topology->published.version),
                           store_cluster_id(control->store)};
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    answer_row(call, cells, ARRAY_LEN(cells));
    return show_end(control, call);
}

static bool show_config(Control *control, Call *call, const Command *command,
                        const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {TEXT("section"), TEXT("key"),    TEXT("value"),
                                           TEXT("default"), TEXT("reload"), TEXT("help")};
    size_t count;
    const Setting *settings = config_settings(&count);
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (size_t i = 0; i < count; i++) {
        const Setting *s = &settings[i];
        /* The other sections are lists: SHOW SHARDS, DATABASES and TABLES show them. */
        if (!setting_is_global(s))
            continue;
        const char *cells[] = {
            s->section,        s->key, config_show(control->config, s, &call->arena), s->def,
            yes_no(s->reload), s->help};
        answer_row(call, cells, ARRAY_LEN(cells));
    }
    return show_end(control, call);
}

static const char *shard_names(const Config *config, const DatabaseConfig *database, Arena *arena)
{
    const char *names = "";
    for (uint32_t i = 0; i < database->shard_count; i++)
        names = arena_printf(arena, "%s%s%s", names, i ? ", " : "",
                             config->shards[database->shards[i]].name);
    return names;
}

static bool show_databases(Control *control, Call *call, const Command *command,
                           const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {TEXT("name"),
                                           TEXT("dbname"),
                                           TEXT("shards"),
                                           TEXT("server_user"),
                                           TEXT("batch"),
                                           INT8("pool_size"),
                                           INT8("distributed_tables"),
                                           TEXT("catalog"),
                                           INT8("catalog_version"),
                                           INT8("tables"),
                                           INT8("server_version"),
                                           TEXT("encoding")};
    Arena *arena = &call->arena;
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t i = 0; i < control->config->database_count; i++) {
        const DatabaseConfig *database = &control->config->databases[i];
        const Catalog *catalog = control->catalogs[i];
        uint32_t distributed = 0;
        for (uint32_t t = 0; t < control->table_count; t++)
            distributed += control->tables[t].database == i;
        bool down = i < control->loader_count && control->loaders[i].down;
        const char *cells[] = {database->name,
                               database->dbname,
                               shard_names(control->config, database, arena),
                               database->server_user,
                               yes_no(database->batch),
                               number(arena, database->pool_size),
                               number(arena, distributed),
                               !catalog->loaded ? (down ? "unreachable" : "loading")
                               : down           ? "kept"
                                                : "current",
                               number(arena, catalog->version),
                               number(arena, catalog->tables.count),
                               number(arena, (uint64_t)catalog->server_version),
                               catalog->loaded ? arena_text(arena, catalog->encoding) : NULL};
        answer_row(call, cells, ARRAY_LEN(cells));
    }
    return show_end(control, call);
}

static bool show_shards(Control *control, Call *call, const Command *command,
                        const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {TEXT("shard"),
                                           TEXT("server"),
                                           TEXT("role"),
                                           TEXT("host"),
                                           INT8("port"),
                                           TEXT("state"),
                                           TEXT("why"),
                                           TEXT("since"),
                                           INT8("latency_us"),
                                           TEXT("in_recovery"),
                                           TEXT("system_identifier"),
                                           INT8("timeline"),
                                           INT8("server_version"),
                                           INT8("max_prepared_transactions")};
    Arena *arena = &call->arena;
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t i = 0; control->probes.servers && i < control->probes.count; i++) {
        const ServerHealth *health = &control->probes.servers[i];
        const ServerConfig *server = health->server;
        bool known = health->system_id[0] != '\0';
        const char *cells[] = {control->config->shards[server->shard].name,
                               server->name,
                               server == control_primary(control, server->shard) ? "primary" : "replica",
                               server->host,
                               number(arena, (uint64_t)server->port),
                               health_state_name(health->state),
                               health->why[0] ? health->why : NULL,
                               wall_text(arena, health->changed_wall_us),
                               known ? number(arena, health->latency_us) : NULL,
                               known ? yes_no(health->in_recovery) : NULL,
                               known ? health->system_id : NULL,
                               known ? number(arena, health->timeline) : NULL,
                               known ? number(arena, health->version) : NULL,
                               known ? number(arena, health->prepared_max) : NULL};
        answer_row(call, cells, ARRAY_LEN(cells));
    }
    return show_end(control, call);
}

/* "integer, text"; NULL when a column is not known, or there is none. */
static const char *key_types_text(const Table *table, Arena *arena)
{
    const char *text = "";
    for (uint32_t i = 0; text && i < table->key_count; i++)
        text = arena_printf(arena, "%s%s%s", text, i ? ", " : "", key_type_name(table->keys[i].type));
    return table->key_count && table_is_ready(table) ? text : NULL;
}

static bool show_tables(Control *control, Call *call, const Command *command,
                        const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {TEXT("database"),   TEXT("schema"), TEXT("name"),
                                           TEXT("kind"),       TEXT("key"),    TEXT("key_type"),
                                           TEXT("colocation"), TEXT("places"),
                                           TEXT("state")};
    Arena *arena = &call->arena;
    const Topology *topology = control->topology;
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t i = 0; i < topology->table_count; i++) {
        const Table *table = &topology->tables[i];
        if (table->partition)
            continue;
        const char *state = table_is_ready(table)    ? "ready"
                            : table->keys[0].oid      ? "key type not allowed"
                            : topology->catalogs[table->database]->loaded
                                ? "table or key column not found"
                                : "catalog not loaded";
        const char *cells[] = {topology->config->databases[table->database].name,
                               arena_text(arena, table->schema),
                               arena_text(arena, table->name),
                               table_kind_name(table->kind),
                               arena_text(arena, table->key),
                               key_types_text(table, arena),
                               arena_text(arena, table->colocation),
                               places_text(table, topology->config, arena),
                               state};
        answer_row(call, cells, ARRAY_LEN(cells));
    }
    return show_end(control, call);
}

/* "0-340, 682-700": the runs of buckets that a shard has, cut when there are many. */
static const char *bucket_runs(const ShardMap *map, uint32_t shard, Arena *arena,
                               uint32_t *ret_count)
{
    const char *text = "";
    uint32_t runs = 0;
    *ret_count = 0;
    for (uint32_t b = 0; b < map->bucket_count; b++) {
        if (map->shard_of[b] != shard || !bucket_in_use(map, b))
            continue;
        uint32_t first = b;
        while (b + 1 < map->bucket_count && map->shard_of[b + 1] == shard && bucket_in_use(map, b + 1))
            b++;
        *ret_count += b - first + 1;
        runs++;
        if (runs <= 20)
            text = arena_printf(arena, "%s%s%u-%u", text, runs > 1 ? ", " : "", first, b);
        else if (runs == 21)
            text = arena_printf(arena, "%s ...", text);
    }
    return text;
}

static bool show_map(Control *control, Call *call, const Command *command,
                     const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {TEXT("shard"), INT8("buckets"), TEXT("ranges"),
                                           INT8("bucket_count"), INT8("map_version")};
    Arena *arena = &call->arena;
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t i = 0; i < control->config->shard_count; i++) {
        uint32_t count;
        const char *runs = bucket_runs(control->map, i, arena, &count);
        const char *cells[] = {control->config->shards[i].name, number(arena, count), runs,
                               number(arena, control->map->bucket_count),
                               number(arena, control->map->version)};
        answer_row(call, cells, ARRAY_LEN(cells));
    }
    return show_end(control, call);
}

static bool show_events(Control *control, Call *call, const Command *command,
                        const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {TEXT("at"), TEXT("kind"), TEXT("event")};
    StoreEvent *events;
    uint32_t count;
    if (!store_load_events(control->store, &call->arena, EVENTS_MAX, &events, &count, err))
        return false;
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t i = 0; i < count; i++) {
        const char *cells[] = {wall_text(&call->arena, events[i].at_wall_us), events[i].kind,
                               events[i].text};
        answer_row(call, cells, ARRAY_LEN(cells));
    }
    return show_end(control, call);
}

/* ---- what the workers know ------------------------------------------------------------------- */

static void report_on_reply(Mail *mail, void *owner)
{
    Control *control = owner;
    Report *report = container_of(mail, Report, mail);
    Call *call = report->ctx;
    uint32_t count;
    const ReportColumn *columns = report_columns(report->kind, &count);
    control->reports--;
    report_merge(report);
    AnswerColumn answer[32];
    assert(count <= ARRAY_LEN(answer));
    for (uint32_t i = 0; i < count; i++)
        answer[i] = (AnswerColumn){columns[i].name, columns[i].type_oid};
    answer_columns(call, answer, count);
    for (const ReportRow *row = report->rows; row; row = row->next)
        answer_row(call, row->cells, count);
    report_free(report);
    show_end(control, call);
    control_stop_if_due(control);
}

/* A Report is not a Job: it is on its way through the workers and cannot be called back. */
static bool show_report(Control *control, Call *call, const Command *command,
                        const CommandLine *arguments, Error *err)
{
    Report *report = report_create((ReportKind)command->detail);
    if (!report) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    report->reply = &control->inbox;
    report->on_reply = report_on_reply;
    report->ctx = call;
    control->reports++;
    worker_report(control->workers, control->worker_count, report);
    return true;
}

/* ---- what changes something ------------------------------------------------------------------ */

static void reload_on_free(Job *job)
{
    free(job);
}

static void reload_on_adopted(Job *job)
{
    answer_done(job->call, "RELOAD");
    job_end(job, NULL);
}

static bool run_reload(Control *control, Call *call, const Command *command,
                       const CommandLine *arguments, Error *err)
{
    Job *job = calloc(1, sizeof *job);
    if (!job) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    const char *restart;
    if (!control_reload(control, &call->arena, &restart, err)) {
        free(job);
        return false;
    }
    if (restart) {
        Error notice;
        error_set(&notice, "01000", "these settings need a restart to take effect: %s", restart);
        backend_put_notice(&call->answer, SEVERITY_WARNING, &notice);
    }
    job_start(job, control, call, reload_on_free);
    job_wait_adoption(job, reload_on_adopted);
    return true;
}

static bool run_shutdown(Control *control, Call *call, const Command *command,
                         const CommandLine *arguments, Error *err)
{
    uint64_t grace_ms = control->config->shutdown_timeout_ms;
    if (arguments->count > 0) {
        if (strcmp(arguments->words[0], "wait") != 0 || arguments->count != 2) {
            error_set(err, SQLSTATE_SYNTAX_ERROR, "syntax error at or near \"%.40s\"",
                      arguments->words[arguments->count > 2 ? 2 : 0]);
            error_hint(err, "SHUTDOWN [WAIT seconds]");
            return false;
        }
        char *end;
        unsigned long seconds = strtoul(arguments->words[1], &end, 10);
        if (*end || strlen(arguments->words[1]) > 5 || seconds > SHUTDOWN_WAIT_MAX_S) {
            error_set(err, SQLSTATE_INVALID_PARAMETER,
                      "WAIT takes a number of seconds from 0 to %d", SHUTDOWN_WAIT_MAX_S);
            return false;
        }
        grace_ms = seconds * 1000;
    }
    answer_done(call, "SHUTDOWN");
    control_answer(control, call);
    control_request_stop(control, (uint32_t)grace_ms);
    return true;
}
