/*
 * shard_add.c - the Jobs behind SHARD ADD and SHARD REMOVE.
 *
 * PostgreSQL's own tools copy the schema: what they know about dumping an object is more than we would
 * ever write down. They run as a child program, one database after the other; passwords go to them in
 * their environment, not in their arguments.
 */
#include "admin/shard_add.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/answer.h"
#include "admin/child.h"
#include "admin/control_state.h"
#include "admin/joining.h"
#include "admin/move_sql.h"
#include "admin/shard_numbers.h"
#include "meta/pin.h"
#include "wire/value.h"

#define ASK_TIMEOUT_MS 20000
#define READY_US       UINT64_C(5000000)
#define READY_LOOK_MS  5

/* $HOME_ROOT, $NEW_ROOT: database postgres; $HOME_DB, $NEW_DB: the database itself; $DB: its name. A role
 * that is there already is an error of psql's, which says nothing. An empty database is filled in one
 * transaction; a filled one is left to the verification. */
static const char SCRIPT[] =
    "set -e\n"
    "f=$(mktemp); trap 'rm -f \"$f\"' EXIT\n"
    "chmod 600 \"$f\"\n"
    "psql -XAtqc 'SELECT 1' -d \"$NEW_ROOT\" >/dev/null\n"
    "PGPASSWORD=$HOME_PASSWORD pg_dumpall --roles-only -d \"$HOME_ROOT\" -f \"$f\"\n"
    "psql -Xq -d \"$NEW_ROOT\" -f \"$f\" >/dev/null 2>&1 || true\n"
    "there=$(echo \"SELECT 1 FROM pg_database WHERE datname = :'db'\" | psql -XAtq -v db=\"$DB\" -d \"$NEW_ROOT\")\n"
    "if [ -z \"$there\" ]; then\n"
    "  PGPASSWORD=$HOME_PASSWORD pg_dump -C -s --no-publications --no-subscriptions -N shoal -d \"$HOME_DB\" -f \"$f\"\n"
    "  psql -Xq -v ON_ERROR_STOP=1 -d \"$NEW_ROOT\" -f \"$f\" >/dev/null\n"
    "  exit 0\n"
    "fi\n"
    "n=$(psql -XAtq -d \"$NEW_DB\" -c \"SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = "
    "c.relnamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'shoal') AND n.nspname !~ '^pg_'\")\n"
    "if [ \"$n\" = 0 ]; then\n"
    "  PGPASSWORD=$HOME_PASSWORD pg_dump -s --no-publications --no-subscriptions -N shoal -d \"$HOME_DB\" -f \"$f\"\n"
    "  sed -i '/^CREATE SCHEMA public;$/d' \"$f\"\n"
    "  psql -Xq -1 -v ON_ERROR_STOP=1 -d \"$NEW_DB\" -f \"$f\" >/dev/null\n"
    "fi\n";

typedef struct ShardAddJob ShardAddJob;

/* The tool's run: outlives the Job when that ends before. */
typedef struct SchemaCopy {
    Child child;
    ShardAddJob *job; /* NULL: nobody waits any more */
    Control *control;
    Arena arena;
    char *argv[4];
    char *env[10];
} SchemaCopy;

typedef struct FactsAsk {
    ShardAddJob *job;
    PgClient client;
    PgQuery query;
    const char *facts; /* in the call's arena */
} FactsAsk;

struct ShardAddJob {
    Job job;
    Config *config; /* with the new shard; given away when it joins */
    const char *name;
    uint32_t shard;    /* its index in `config` */
    uint32_t database; /* looked at now */
    SchemaCopy *copy;
    FactsAsk asks[2]; /* home, new */
    uint32_t pending;
    bool failed, joined;
    Joining joining;
    ShardNumbers numbers;
    Timer timer; /* joined: until recovery has looked at the shard, too */
    uint64_t joined_at_us;
    Error err;
};

static void database_next(ShardAddJob *job);
static void add_on_time(Timer *timer);
static bool facts_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void facts_on_done(PgClient *client, const Error *err);

static const PgClientEvents FACTS_EVENTS = {.on_result = facts_on_result, .on_done = facts_on_done};

static bool out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

static void end_oom(ShardAddJob *job)
{
    Error err;
    (void)out_of_memory(&err);
    job_end(&job->job, &err);
}

static void add_on_free(Job *base)
{
    ShardAddJob *job = container_of(base, ShardAddJob, job);
    joining_release(&job->joining);
    numbers_close(&job->numbers);
    base->control->shard_joining = false;
    if (!base->control->stopping)
        moves_look_later(base->control);
    timer_stop(&job->timer);
    if (job->copy)
        job->copy->job = NULL;
    for (int i = 0; i < 2; i++)
        pg_client_close(&job->asks[i].client);
    config_free(job->config);
    free(job);
}

static const Config *job_config(const ShardAddJob *job)
{
    return job->joined ? job->job.control->config : job->config;
}

/* Who takes its writes: of the new one before it joins, whom shards.ini names. */
static const ServerConfig *shard_server(const ShardAddJob *job, uint32_t shard)
{
    const Control *control = job->job.control;
    return shard < control->config->shard_count ? control_primary(control, shard)
                                                : job_config(job)->shards[shard].primary;
}

/* ---- start ----------------------------------------------------------------------------------- */

static bool may_join(Control *control, const char *name, Error *err)
{
    for (uint32_t i = 0; i < control->config->shard_count; i++) {
        if (strcmp(control->config->shards[i].name, name) != 0)
            continue;
        error_set(err, "42710", "shard %s has joined already", name);
        return false;
    }
    if (!joining_may(control, err))
        return false;
    if (!control->shard_joining && !control->distribute && control->loader_count)
        return true;
    error_set(err, SQLSTATE_OBJECT_IN_USE, "another shard is joining, or a table is being distributed");
    error_hint(err, "Try again when it is done.");
    return false;
}

/* shards.ini as it is now, with the members and this one. */
static bool config_with(ShardAddJob *job, Error *err)
{
    Control *control = job->job.control;
    Arena *arena = &job->job.call->arena;
    const Config *now = control->config;
    const char **members = arena_array(arena, const char *, now->shard_count);
    job->config = members ? config_load(control->options.config_path, err) : NULL;
    if (!job->config)
        return members ? false : out_of_memory(err);
    for (uint32_t i = 0; i < now->shard_count; i++)
        members[i] = now->shards[i].name;
    if (!config_arrange(job->config, members, now->shard_count, job->name, err))
        return false;
    if (job->config->shard_count != now->shard_count + 1 ||
        strcmp(job->config->shards[now->shard_count].name, job->name) != 0) {
        error_set(err, SQLSTATE_UNDEFINED_OBJECT, "there is no [shard %s] in %.200s", job->name, now->path);
        error_hint(err, "Write [shard %s] with primary = host=... port=... first.", job->name);
        return false;
    }
    job->shard = now->shard_count;
    return true;
}

bool console_shard_add(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                       Error *err)
{
    if (arguments->count != 1) {
        error_set(err, SQLSTATE_SYNTAX_ERROR, "SHARD ADD takes the name of a shard");
        error_hint(err, "Write its [shard NAME] section into shards.ini first.");
        return false;
    }
    if (!may_join(control, arguments->words[0], err))
        return false;
    ShardAddJob *job = calloc(1, sizeof *job);
    if (!job)
        return out_of_memory(err);
    job_start(&job->job, control, call, add_on_free);
    control->shard_joining = true;
    job->name = arguments->words[0];
    timer_init(&job->timer, &control->loop, add_on_time, job);
    for (int i = 0; i < 2; i++) {
        job->asks[i].job = job;
        pg_client_init(&job->asks[i].client, &control->loop, &FACTS_EVENTS, &job->asks[i]);
    }
    Error failed;
    if (!config_with(job, &failed))
        job_end(&job->job, &failed);
    else
        database_next(job);
    return true;
}

/* ---- schema ---------------------------------------------------------------------------------- */

static void copy_on_end(Child *child)
{
    SchemaCopy *copy = child->ctx;
    ShardAddJob *job = copy->job;
    Control *control = copy->control;
    control->reports--;
    if (job) {
        job->copy = NULL;
        Error err;
        if (child->status != 0) {
            error_set(&err, SQLSTATE_OBJECT_NOT_READY, "the schema could not be made on shard %s", job->name);
            error_detail(&err, "%.500s", child->output[0] ? child->output : "pg_dump or psql could not be run.");
            error_hint(&err, "pg_dump, pg_dumpall and psql must be installed here, as new as the servers.");
            job_end(&job->job, &err);
        } else {
            job->failed = false;
            job->pending = 2;
            for (uint32_t i = 0; i < 2; i++) {
                FactsAsk *ask = &job->asks[i];
                const Config *config = job_config(job);
                const DatabaseConfig *database = &config->databases[job->database];
                const ServerConfig *server = shard_server(job, i ? job->shard : database->shards[0]);
                PgLogin login = control_login(config, database, server);
                pg_client_run(&ask->client, &login, &ask->query, 1, ASK_TIMEOUT_MS);
            }
        }
    }
    arena_finish(&copy->arena);
    free(copy);
    control_stop_if_due(control);
}

static char *env_of(Arena *arena, const char *name, const PgLogin *login)
{
    return arena_printf(arena, "%s=%s dbname='%s' user='%s'", name, login->conninfo, login->dbname, login->user);
}

static bool copy_fill(SchemaCopy *copy, const Config *config, const DatabaseConfig *database,
                      const ServerConfig *home, const ServerConfig *server)
{
    Arena *arena = &copy->arena;
    PgLogin logins[4] = {control_login(config, database, home), control_login(config, database, server),
                         control_login(config, database, home), control_login(config, database, server)};
    static const char *const NAMES[4] = {"HOME_DB", "NEW_DB", "HOME_ROOT", "NEW_ROOT"};
    logins[2].dbname = logins[3].dbname = "postgres";
    uint32_t n = 0;
    for (; n < 4; n++)
        copy->env[n] = env_of(arena, NAMES[n], &logins[n]);
    copy->env[n++] = arena_printf(arena, "DB=%s", database->dbname);
    copy->env[n++] = arena_printf(arena, "HOME_PASSWORD=%s", logins[0].password ? logins[0].password : "");
    if (logins[1].password)
        copy->env[n++] = arena_printf(arena, "PGPASSWORD=%s", logins[1].password);
    copy->argv[0] = arena_printf(arena, "sh");
    copy->argv[1] = arena_printf(arena, "-c");
    copy->argv[2] = arena_printf(arena, "%s", SCRIPT);
    for (uint32_t i = 0; i < n; i++) {
        if (!copy->env[i])
            return false;
    }
    return copy->argv[0] && copy->argv[1] && copy->argv[2];
}

static bool facts_prepare(ShardAddJob *job, uint32_t database)
{
    const Topology *topology = job->job.control->topology;
    Arena *arena = &job->job.call->arena;
    Table *tables = arena_array(arena, Table, topology->table_count + 1);
    uint32_t count = 0;
    const DatabaseConfig *known =
        config_database(job->job.control->config, slice_str(job_config(job)->databases[database].name));
    for (uint32_t i = 0; tables && known && i < topology->table_count; i++) {
        if (topology->tables[i].database == known->index)
            tables[count++] = topology->tables[i];
    }
    const char *sql = tables ? tables_sql_facts(arena, tables, count) : NULL;
    job->asks[0].query = job->asks[1].query = (PgQuery){.sql = sql};
    return sql != NULL;
}

static void database_copy(ShardAddJob *job)
{
    const Config *config = job_config(job);
    Control *control = job->job.control;
    SchemaCopy *copy = calloc(1, sizeof *copy);
    if (copy)
        arena_init(&copy->arena, 4096);
    if (!copy || !facts_prepare(job, job->database) ||
        !copy_fill(copy, config, &config->databases[job->database],
                   shard_server(job, config->databases[job->database].shards[0]), shard_server(job, job->shard))) {
        if (copy)
            arena_finish(&copy->arena);
        free(copy);
        end_oom(job);
        return;
    }
    copy->job = job;
    copy->control = control;
    copy->child = (Child){
        .argv = copy->argv, .env = copy->env, .reply = &control->inbox, .ctx = copy, .on_end = copy_on_end};
    job->copy = copy;
    control->reports++; /* a stop waits for the child's end */
    if (child_run(&copy->child))
        return;
    copy->child.status = -1;
    copy_on_end(&copy->child);
}

static bool lies_on(const DatabaseConfig *database, uint32_t shard)
{
    for (uint32_t i = 0; i < database->shard_count; i++) {
        if (database->shards[i] == shard)
            return true;
    }
    return false;
}

/* ---- joining --------------------------------------------------------------------------------- */

static void add_answer(ShardAddJob *job)
{
    static const AnswerColumn COLUMNS[] = {{"shard", WIRE_OID_TEXT}, {"next", WIRE_OID_TEXT}};
    const char *cells[] = {job->name, "REBALANCE PLAN, then REBALANCE START"};
    Call *call = job->job.call;
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    answer_row(call, cells, ARRAY_LEN(COLUMNS));
    answer_done(call, "SHARD");
    job_end(&job->job, NULL);
}

/* Transactions over several shards need what recovery makes there; a shard that cannot have it is told
 * by SHOW RECOVERY, and by their errors. Until then they wait. Then DDL that ran between the copy and the
 * joining is looked for: it is on the others only. */
static void add_on_time(Timer *timer)
{
    ShardAddJob *job = timer->ctx;
    Control *control = job->job.control;
    bool ready = true;
    for (uint32_t d = 0; d < control->config->database_count; d++)
        ready &= !lies_on(&control->config->databases[d], job->shard) ||
                 !topology_two_phase_why(control->topology, d, job->shard);
    if (!ready && control->loop.now_us - job->joined_at_us <= READY_US) {
        timer_start_ms(timer, READY_LOOK_MS);
        return;
    }
    joining_release(&job->joining);
    char text[200];
    snprintf(text, sizeof text, "shard %s has joined; what writes to several shards was held back for %" PRIu64 " ms",
             job->name, job->joining.held_us / 1000);
    control_event(control, LOG_INFO, "shard", text);
    job->database = 0;
    database_next(job);
}

static void add_on_adopted(Job *base)
{
    ShardAddJob *job = container_of(base, ShardAddJob, job);
    job->joined_at_us = base->control->loop.now_us;
    job->shard = job->job.control->config->shard_count - 1;
    timer_start_ms(&job->timer, 0);
}

static void add_on_ready(Joining *joining, const Error *failed)
{
    ShardAddJob *job = joining->ctx;
    Error err;
    Config *config = job->config;
    if (failed) {
        err = *failed;
        job_end(&job->job, &err);
        return;
    }
    job->config = NULL;
    if (!control_adopt_shard(job->job.control, config, &err)) {
        job_end(&job->job, &err);
        return;
    }
    job->joined = true;
    job_wait_adoption(&job->job, add_on_adopted);
}

static void database_next(ShardAddJob *job)
{
    const Config *config = job_config(job);
    while (job->database < config->database_count && !lies_on(&config->databases[job->database], job->shard))
        job->database++;
    if (job->database < config->database_count)
        database_copy(job);
    else if (job->joined)
        add_answer(job);
    else
        joining_begin(&job->joining, job->job.control, job->config, job->shard, &job->job.call->arena, add_on_ready, job);
}

static bool facts_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    FactsAsk *ask = client->ctx;
    ask->facts = arena_text(&ask->job->job.call->arena, PQntuples(rows) ? pg_slice(rows, 0, 0) : (Slice){0});
    return true;
}

static void database_done(ShardAddJob *job)
{
    job->database++;
    database_next(job);
}

static void numbers_on_done(ShardNumbers *numbers, const Error *failed)
{
    ShardAddJob *job = numbers->ctx;
    if (failed) {
        Error err = *failed;
        job_end(&job->job, &err);
        return;
    }
    numbers_close(numbers);
    database_done(job);
}

/* Its tables stand: from where on its sequences may give numbers. */
static void numbers_begin_there(ShardAddJob *job)
{
    Control *control = job->job.control;
    const DatabaseConfig *database = &job->config->databases[job->database];
    const DatabaseConfig *known = config_database(control->config, slice_str(database->name));
    PgLogin new = control_login(job->config, database, shard_server(job, job->shard));
    if (known)
        numbers_run(&job->numbers, control, known->index, &new, &job->job.call->arena, numbers_on_done, job);
    else
        database_done(job);
}

static void facts_on_done(PgClient *client, const Error *err)
{
    FactsAsk *ask = client->ctx;
    ShardAddJob *job = ask->job;
    if (err && !job->failed) {
        job->failed = true;
        job->err = *err;
        error_detail(&job->err, "%s %s", ask == &job->asks[0] ? "Home shard:" : "New shard:", client->why);
    }
    if (--job->pending > 0)
        return;
    const char *home = job->asks[0].facts, *new = job->asks[1].facts;
    if (!job->failed && (!home || !new || strcmp(home, new) != 0)) {
        job->failed = true;
        error_set(&job->err, SQLSTATE_OBJECT_NOT_READY, "the tables on shard %s are not those of the home shard",
                  job->name);
        error_hint(&job->err, job->joined ? "The shard has joined, and owns nothing yet. FSCK tells what differs."
                                          : "Drop its databases, and try again: they are made from the home shard.");
    }
    if (job->failed) {
        Error told = job->err;
        job_end(&job->job, &told);
        return;
    }
    if (job->joined)
        database_done(job);
    else
        numbers_begin_there(job);
}

/* ---- SHARD REMOVE ---------------------------------------------------------------------------- */

bool console_shard_remove(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                          Error *err)
{
    static const AnswerColumn COLUMNS[] = {{"shard", WIRE_OID_TEXT}, {"next", WIRE_OID_TEXT}};
    const Config *config = control->config;
    uint32_t shard = 0, owned = 0;
    const char *name = arguments->count == 1 ? arguments->words[0] : "";
    while (shard < config->shard_count && strcmp(config->shards[shard].name, name) != 0)
        shard++;
    if (shard == config->shard_count) {
        error_set(err, SQLSTATE_UNDEFINED_OBJECT, "there is no shard \"%s\"", name);
        return false;
    }
    for (uint32_t b = 0; b < control->map->bucket_count; b++)
        owned += control->map->shard_of[b] == shard && bucket_in_use(control->map, b);
    for (uint32_t d = 0; d < config->database_count; d++) {
        if (config->databases[d].shards[0] != shard)
            continue;
        error_set(err, SQLSTATE_OBJECT_IN_USE, "shard %s is the home shard of database %s", name,
                  config->databases[d].name);
        error_hint(err, "Tables that are not distributed live there.");
        return false;
    }
    for (uint32_t i = 0; i < control->topology->table_count; i++) {
        const Table *table = &control->topology->tables[i];
        for (uint32_t k = 0; table->kind != TABLE_HASH && k < table->place_count; k++) {
            if (table->places[k].shard != shard)
                continue;
            error_set(err, SQLSTATE_OBJECT_IN_USE, "rows of table \"%.*s\" are placed on shard %s by hand",
                      SLICE_FMT(table->name), name);
            error_hint(err, "They are not moved by REBALANCE.");
            return false;
        }
    }
    if (owned > 0 || moves_any(control)) {
        error_set(err, SQLSTATE_OBJECT_IN_USE, "shard %s owns %u buckets, or moves are under way", name, owned);
        error_hint(err, "REBALANCE START DRAIN %s, wait until SHOW MOVES says done, and try again.", name);
        return false;
    }
    const char *cells[] = {name, arena_printf(&call->arena, "It is empty. Take [shard %s] out of shards.ini, and "
                                                            "restart shoald.", name)};
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    answer_row(call, cells, ARRAY_LEN(COLUMNS));
    answer_done(call, "SHARD");
    control_answer(control, call);
    return true;
}
