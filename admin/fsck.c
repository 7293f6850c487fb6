/*
 * fsck.c - the Job behind FSCK: every database on every shard is asked at once, findings are collected,
 * compared, and answered together.
 */
#include "admin/fsck.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/answer.h"
#include "admin/control_state.h"
#include "admin/move_sql.h"
#include "wire/value.h"

#define ASK_TIMEOUT_MS (10 * 60 * 1000)
#define QUERIES_MAX    130
#define Q_FACTS        1 /* after the settings */
#define Q_LEFTOVERS    2
#define Q_FIRST_TABLE  3

typedef struct FsckJob FsckJob;

/* One database on one shard. */
typedef struct FsckAsk {
    FsckJob *job;
    PgClient client;
    uint32_t database, shard;
    Table *tables; /* in the call's arena */
    uint32_t table_count;
    PgQuery queries[QUERIES_MAX];
    uint32_t query_count;
    const char *facts;
    const char *drops; /* statements that take leftovers away; NULL: none */
    bool repairing;
    PgQuery repair;
} FsckAsk;

typedef struct Finding {
    struct Finding *next;
    const char *cells[6];
} Finding;

struct FsckJob {
    Job job;
    bool repair;
    FsckAsk *asks;
    uint32_t ask_count, pending;
    Finding *findings, **tail;
};

static bool ask_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void ask_on_done(PgClient *client, const Error *err);
static void fsck_answer(FsckJob *job);

static const PgClientEvents ASK_EVENTS = {.on_result = ask_on_result, .on_done = ask_on_done};

static bool out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

static Arena *arena_of(FsckJob *job)
{
    return &job->job.call->arena;
}

static const char *ask_database(const FsckAsk *ask)
{
    return ask->job->job.control->config->databases[ask->database].name;
}

static const char *ask_shard(const FsckAsk *ask)
{
    return ask->job->job.control->config->shards[ask->shard].name;
}

static void find(FsckAsk *ask, const char *kind, const char *object, const char *what, const char *remedy)
{
    FsckJob *job = ask->job;
    Finding *finding = arena_new(arena_of(job), Finding);
    if (!finding)
        return;
    finding->cells[0] = ask_database(ask);
    finding->cells[1] = ask_shard(ask);
    finding->cells[2] = kind;
    finding->cells[3] = object;
    finding->cells[4] = what;
    finding->cells[5] = remedy;
    *job->tail = finding;
    job->tail = &finding->next;
}

/* ---- questions ------------------------------------------------------------------------------- */

/* Everything that carries this cluster's name, and the number of its move. */
static const char *leftovers_sql(Arena *arena, const char *cluster)
{
    char *stem = arena_printf(arena, "^shoal_%.8s_([0-9]+)", cluster);
    return stem ? arena_printf(
                      arena,
                      "SELECT 'slot', slot_name, substring(slot_name from '%s') FROM pg_replication_slots WHERE "
                      "slot_name ~ '%s' AND database = current_database() UNION ALL SELECT 'subscription', subname, "
                      "substring(subname from '%s') FROM pg_subscription WHERE subname ~ '%s' AND subdbid = (SELECT "
                      "oid FROM pg_database WHERE datname = current_database()) UNION ALL SELECT 'publication', "
                      "pubname, substring(pubname from '%s') FROM pg_publication WHERE pubname ~ '%s' UNION ALL SELECT "
                      "'guard', proname, substring(proname from '^move_guard_([0-9]+)$') FROM pg_proc p JOIN "
                      "pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'shoal' AND proname ~ "
                      "'^move_guard_[0-9]+$'", stem, stem, stem, stem, stem, stem)
                : NULL;
}

static const char *counts_sql(Arena *arena, const Table *table, uint32_t bucket_count)
{
    char *name = sql_table_rows(arena, table), *bucket = bucket_sql_table(arena, table, "", bucket_count);
    char *has_key = bucket_sql_has_key(arena, table, "");
    return name && bucket && has_key
               ? arena_printf(arena, "SELECT CASE WHEN %s THEN %s ELSE -1 END, count(*) FROM %s GROUP BY 1 ORDER BY 1",
                              has_key, bucket, name)
               : NULL;
}

static bool ask_fill(FsckAsk *ask, Error *err)
{
    Control *control = ask->job->job.control;
    Arena *arena = arena_of(ask->job);
    const Topology *topology = control->topology;
    ask->tables = arena_array(arena, Table, topology->table_count + 1);
    if (!ask->tables)
        return out_of_memory(err);
    ask->queries[ask->query_count++] =
        (PgQuery){.sql = "SELECT set_config('statement_timeout', '0', false)"};
    ask->query_count = Q_FIRST_TABLE;
    for (uint32_t i = 0; i < topology->table_count; i++) {
        const Table *from = &topology->tables[i];
        if (from->database != ask->database || from->partition || !bucket_sql_knows(from, control->map->bucket_count) ||
            ask->query_count == QUERIES_MAX)
            continue;
        Table *table = &ask->tables[ask->table_count++];
        if (!table_keep(table, from, arena))
            return out_of_memory(err);
        ask->queries[ask->query_count++] =
            (PgQuery){.sql = counts_sql(arena, table, control->map->bucket_count)};
    }
    ask->queries[Q_FACTS] = (PgQuery){.sql = tables_sql_facts(arena, ask->tables, ask->table_count)};
    ask->queries[Q_LEFTOVERS] = (PgQuery){.sql = leftovers_sql(arena, store_cluster_id(control->store))};
    for (uint32_t i = 0; i < ask->query_count; i++) {
        if (!ask->queries[i].sql)
            return out_of_memory(err);
    }
    return true;
}

static void fsck_on_free(Job *base)
{
    FsckJob *job = container_of(base, FsckJob, job);
    for (uint32_t i = 0; job->asks && i < job->ask_count; i++)
        pg_client_close(&job->asks[i].client);
    free(job->asks);
    free(job);
}

static bool fsck_start(FsckJob *job, Error *err)
{
    Control *control = job->job.control;
    const Config *config = control->config;
    job->asks = calloc((size_t)config->database_count * config->shard_count + 1, sizeof *job->asks);
    if (!job->asks)
        return out_of_memory(err);
    for (uint32_t d = 0; d < config->database_count; d++) {
        if (!topology_database_sharded(control->topology, d))
            continue;
        for (uint32_t s = 0; s < config->databases[d].shard_count; s++) {
            FsckAsk *ask = &job->asks[job->ask_count++];
            ask->job = job;
            ask->database = d;
            ask->shard = config->databases[d].shards[s];
            pg_client_init(&ask->client, &control->loop, &ASK_EVENTS, ask);
            if (!ask_fill(ask, err))
                return false;
        }
    }
    job->pending = job->ask_count;
    for (uint32_t i = 0; i < job->ask_count; i++) {
        FsckAsk *ask = &job->asks[i];
        PgLogin login = control_login(config, &config->databases[ask->database], control_primary(control, ask->shard));
        pg_client_run(&ask->client, &login, ask->queries, ask->query_count, ASK_TIMEOUT_MS);
    }
    return true;
}

bool console_fsck(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err)
{
    bool repair = arguments->count == 1 && strcmp(arguments->words[0], "repair") == 0;
    if (arguments->count && !repair) {
        error_set(err, SQLSTATE_SYNTAX_ERROR, "syntax error at or near \"%.40s\"", arguments->words[0]);
        error_hint(err, "FSCK [REPAIR]");
        return false;
    }
    FsckJob *job = calloc(1, sizeof *job);
    if (!job)
        return out_of_memory(err);
    job->repair = repair;
    job->tail = &job->findings;
    job_start(&job->job, control, call, fsck_on_free);
    Error failed;
    if (!fsck_start(job, &failed))
        job_end(&job->job, &failed);
    else if (job->ask_count == 0)
        fsck_answer(job);
    return true;
}

/* ---- answers --------------------------------------------------------------------------------- */

static void take_counts(FsckAsk *ask, const Table *table, const PGresult *rows)
{
    Control *control = ask->job->job.control;
    Arena *arena = arena_of(ask->job);
    for (int r = 0; r < PQntuples(rows); r++) {
        int64_t bucket = strtoll(PQgetvalue(rows, r, 0), NULL, 10);
        const char *name = sql_table_name(arena, table), *count = PQgetvalue(rows, r, 1);
        if (bucket < 0) {
            find(ask, "no key", name, arena_printf(arena, "%s rows have no value in the key column", count),
                 "No statement with a key finds them: give them one, or delete them.");
            continue;
        }
        uint32_t owner = control->map->shard_of[bucket];
        if (owner == ask->shard || moves_has_bucket(control, (uint32_t)bucket))
            continue;
        find(ask, "misplaced rows", name,
             arena_printf(arena, "%s rows of bucket %" PRId64 ", which lives on %s", count, bucket,
                          control->config->shards[owner].name),
             "Compare them with the rows over there before you delete them here.");
    }
}

/* Objects of moves that are not over are where they should be. */
static void take_leftovers(FsckAsk *ask, const PGresult *rows)
{
    Arena *arena = arena_of(ask->job);
    const char *drops = NULL;
    for (int r = 0; r < PQntuples(rows); r++) {
        const char *kind = PQgetvalue(rows, r, 0), *name = PQgetvalue(rows, r, 1);
        uint64_t id = strtoull(PQgetvalue(rows, r, 2), NULL, 10);
        const Move *move = moves_find(ask->job->job.control, id);
        if (move && !move_is_over(move))
            continue;
        find(ask, "leftover", arena_printf(arena, "%s %s", kind, name),
             arena_printf(arena, "move %" PRIu64 " is over", id), "FSCK REPAIR takes it away.");
        const char *drop = tables_sql_drop_leftover(arena, kind, name);
        drops = drop ? arena_printf(arena, "%s%s", drops ? drops : "", drop) : drops;
    }
    if (drops)
        ask->drops = arena_printf(arena, "DO $shoal$BEGIN %s END$shoal$", drops);
}

static bool ask_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    FsckAsk *ask = client->ctx;
    if (ask->repairing)
        return true;
    if (index == Q_FACTS)
        ask->facts = arena_text(arena_of(ask->job), PQntuples(rows) ? pg_slice(rows, 0, 0) : (Slice){0});
    else if (index == Q_LEFTOVERS)
        take_leftovers(ask, rows);
    else if (index >= Q_FIRST_TABLE)
        take_counts(ask, &ask->tables[index - Q_FIRST_TABLE], rows);
    return true;
}

/* Against the same database's home shard, which was asked first. */
static void compare_facts(FsckJob *job)
{
    const FsckAsk *home = NULL;
    for (uint32_t i = 0; i < job->ask_count; i++) {
        FsckAsk *ask = &job->asks[i];
        if (!home || home->database != ask->database)
            home = ask;
        if (home == ask || !home->facts || !ask->facts || strcmp(home->facts, ask->facts) == 0)
            continue;
        const char *a = home->facts, *b = ask->facts;
        while (*a && *a == *b) {
            a++;
            b++;
        }
        while (a > home->facts && a[-1] != '\n') {
            a--;
            b--;
        }
        find(ask, "schema", NULL,
             arena_printf(arena_of(job), "here: %.*s; on the home shard: %.*s", (int)strcspn(b, "\n"), b,
                          (int)strcspn(a, "\n"), a),
             "DDL through Shoal changes all shards; make them equal.");
    }
}

static void fsck_answer(FsckJob *job)
{
    static const AnswerColumn COLUMNS[] = {{"database", WIRE_OID_TEXT}, {"shard", WIRE_OID_TEXT},
                                           {"finding", WIRE_OID_TEXT},  {"object", WIRE_OID_TEXT},
                                           {"what", WIRE_OID_TEXT},     {"remedy", WIRE_OID_TEXT}};
    Call *call = job->job.call;
    compare_facts(job);
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (const Finding *finding = job->findings; finding; finding = finding->next)
        answer_row(call, finding->cells, ARRAY_LEN(COLUMNS));
    answer_done(call, "FSCK");
    job_end(&job->job, NULL);
}

static void ask_on_done(PgClient *client, const Error *err)
{
    FsckAsk *ask = client->ctx;
    FsckJob *job = ask->job;
    Arena *arena = arena_of(job);
    if (err)
        find(ask, ask->repairing ? "not repaired" : "unreachable", NULL,
             arena_printf(arena, "%s%s%s", err->message, client->why[0] ? ": " : "", client->why),
             "Mend that, and look again.");
    if (!err && job->repair && ask->drops && !ask->repairing) {
        const Config *config = job->job.control->config;
        PgLogin login = control_login(config, &config->databases[ask->database], control_primary(job->job.control, ask->shard));
        ask->repairing = true;
        ask->repair = (PgQuery){.sql = ask->drops};
        pg_client_run(&ask->client, &login, &ask->repair, 1, ASK_TIMEOUT_MS);
        return;
    }
    if (--job->pending == 0)
        fsck_answer(job);
}
