/*
 * distribute.c - the Job behind shoal.distribute_table() and shoal.undistribute_table().
 *
 *     refresh catalog -> plan -> check on all shards (transactions stay open, table locked)
 *        all fine  -> store -> publish -> all workers adopted -> cancel who waits for us, COMMIT ->
 * answer one not   -> connections are closed, which rolls back; answered with that shard's reason
 *
 * Checks look at each shard, not only at the home shard: a table that differs on one of them would
 * fail or mislead later, statement by statement.
 */
#include "admin/distribute.h"

#include <stdio.h>
#include <stdlib.h>

#include "admin/answer.h"
#include "admin/control_state.h"
#include "admin/row_fill_end.h"
#include "core/failpoint.h"
#include "admin/shard_numbers.h"
#include "meta/bucket_sql.h"

#define CHECK_TIMEOUT_MS 20000
#define STRINGIFY_(x) #x
#define STRINGIFY(x) STRINGIFY_(x)
#define DRAIN_LOOK_MS    5
#define DRAIN_MAX_US     UINT64_C(10000000) /* what runs on a server for so long cannot touch the table */
/* Questions to each shard, in this order. $1 schema, $2 table. */
typedef enum CheckQuestion {
    CHECK_BEGIN,
    CHECK_PATIENCE, /* rows may take long; the lock itself does not */
    CHECK_FACTS, /* before the lock: a missing table is told in our words */
    CHECK_LOCK,
    CHECK_FACTS_AGAIN, /* nothing changed while we waited for the lock */
    CHECK_UNIQUE,
    CHECK_FOREIGN,
    CHECK_ROWS,
    CHECK_SEQUENCES,
    CHECK_COUNT
} CheckQuestion;

typedef struct DistributeJob DistributeJob;

/* One shard's conversation. */
typedef struct ShardCheck {
    DistributeJob *job;
    PgClient client;
    uint32_t index;
    bool holds; /* rows */
    const char *shard, *server; /* names, in the call's arena */
    bool home;
    bool done;
    PgQuery queries[CHECK_COUNT];
} ShardCheck;

struct DistributeJob {
    Job job;
    DistributePlan plan;
    const Function *function;
    const char *values[2]; /* parameters of the questions */
    ShardCheck *checks;
    uint32_t check_count, pending;
    RowFill fill;     /* rows that go along */
    char *last_ids; /* of its sequences, at home */
    enum { FILL_NONE, FILL_COPY, FILL_MOVE, FILL_PREPARE, FILL_DECIDED } filling;
    PgQuery cancel; /* of those who wait for prepared locks */
    bool releasing;
    Drain drain; /* requests that were planned before */
    Timer timer; /* the next look at it */
    uint64_t draining_since_us;
    bool cancelling; /* those who wait for our locks are being cancelled */
};

static void distribute_on_round(Job *base, const Error *err);
static bool checks_start(DistributeJob *job, Error *err);
static bool check_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void check_on_done(PgClient *client, const Error *err);
static bool distribute_go_on(DistributeJob *job, Error *err);
static bool distribute_decide(DistributeJob *job, Error *err);
static void distribute_on_adopted(Job *base);
static void distribute_on_time(Timer *timer);
static void distribute_answer(DistributeJob *job);
static void distribute_on_free(Job *base);

static const PgClientEvents CLIENT_EVENTS = {.on_result = check_on_result,
                                             .on_done = check_on_done};

/* %s is the key: a text[]. */
static const char FACTS_SQL[] =
    "SELECT CASE WHEN c.relkind <> 'p' OR NOT EXISTS (SELECT FROM pg_catalog.pg_partition_tree(c.oid) p JOIN pg_class f"
    "   ON f.oid = p.relid WHERE f.relkind NOT IN ('r', 'p')) THEN c.relkind ELSE 'f' END, (SELECT pg_catalog.string_agg(a.atttypid::text, ',' ORDER BY k.i)"
    "   FROM pg_catalog.unnest(%s) WITH ORDINALITY k(name, i) JOIN pg_attribute a ON a.attrelid = c.oid"
    "    AND a.attname = k.name AND a.attnum > 0 AND NOT a.attisdropped),"
    " NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_collation l ON l.oid = a.attcollation"
    "   WHERE a.attrelid = c.oid AND a.attname = ANY (%s) AND NOT l.collisdeterministic),"
    " pg_catalog.current_setting('server_encoding'),"
    " EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid OR (i.inhparent = c.oid AND c.relkind <> 'p')),"
    " pg_catalog.pg_has_role(c.relowner, 'USAGE'),"
    " (SELECT pg_catalog.json_object_agg(a.attname, coalesce(pg_catalog.pg_sequence_last_value(d.objid), 0)) FROM pg_depend d"
    "   JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid"
    "   WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE') AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass"
    "    AND d.refobjid = c.oid AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0)"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = $1 AND c.relname = $2";

/* Unique indexes and exclusion constraints without all columns of the key among theirs. */
static const char UNIQUE_SQL[] =
    "SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid"
    " JOIN pg_class c ON c.oid = i.indrelid OR i.indrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid))"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = $1 AND c.relname = $2 AND (i.indisunique OR i.indisexclusion)"
    " AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attname = ANY (%s)"
    "   AND NOT EXISTS (SELECT FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) k"
    "     WHERE i.indkey[k] = a.attnum)) ORDER BY 1 LIMIT 1";

/* Foreign keys from (out) and to (in) the table: the other table, and which of its columns are paired with
 * our key, in its order, joined as the store joins them; NULL when some column is not paired. */
static const char FOREIGN_SQL[] =
    "SELECT f.conname, f.conrelid = c.oid, on2.nspname, o.relname,"
    " (SELECT CASE WHEN pg_catalog.count(*) = pg_catalog.cardinality(%s)"
    "    THEN pg_catalog.string_agg(oa.attname, pg_catalog.chr(31) ORDER BY k.i) END"
    "   FROM pg_catalog.unnest(%s) WITH ORDINALITY k(name, i)"
    "   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = k.name"
    "   JOIN pg_catalog.generate_subscripts(f.conkey, 1) s(i)"
    "    ON (CASE WHEN f.conrelid = c.oid THEN f.conkey ELSE f.confkey END)[s.i] = a.attnum"
    "   JOIN pg_attribute oa ON oa.attrelid = o.oid"
    "    AND oa.attnum = (CASE WHEN f.conrelid = c.oid THEN f.confkey ELSE f.conkey END)[s.i])"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " JOIN pg_constraint f ON f.contype = 'f' AND (f.conrelid = c.oid OR f.confrelid = c.oid)"
    " JOIN pg_class o ON o.oid = CASE WHEN f.conrelid = c.oid THEN f.confrelid ELSE f.conrelid END"
    " JOIN pg_namespace on2 ON on2.oid = o.relnamespace"
    " WHERE n.nspname = $1 AND c.relname = $2 ORDER BY 1";

/* Each shard's own share of the numbers that the table's sequences give: shard i of the database takes
 * i+1, i+1+64, i+1+128 ... so that ids are unique over all shards. One that counts otherwise is left alone. */
static const char SEQUENCES_SQL[] =
    "DO $shoal$ DECLARE s record; last bigint; BEGIN"
    " FOR s IN SELECT d.objid::regclass AS name FROM pg_depend d JOIN pg_sequence q ON q.seqrelid = d.objid"
    "   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass"
    "    AND d.refobjid = %s::regclass AND d.deptype IN ('a', 'i') AND q.seqincrement = 1 LOOP"
    "  EXECUTE pg_catalog.format('SELECT last_value FROM %%s', s.name) INTO last;"
    "  EXECUTE pg_catalog.format('ALTER SEQUENCE %%s INCREMENT BY " STRINGIFY(SEQUENCE_STRIDE)
    " RESTART WITH %%s', s.name,"
    "   (last / " STRINGIFY(SEQUENCE_STRIDE) ") * " STRINGIFY(SEQUENCE_STRIDE) " + %u"
    "   + CASE WHEN last > 1 THEN " STRINGIFY(SEQUENCE_STRIDE) " ELSE 0 END);"
    " END LOOP; END $shoal$";

static bool out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

/* ---- the Job --------------------------------------------------------------------------------- */

bool distribute_run(Control *control, Call *call, const Function *function, Error *err)
{
    const DatabaseConfig *database = config_database(control->config, slice_str(call->database));
    if (!database || !control->loader_count) {
        error_set(err, SQLSTATE_INVALID_DATABASE, "database \"%s\" does not exist", call->database);
        return false;
    }
    if (moves_any(control)) {
        error_set(err, SQLSTATE_OBJECT_IN_USE, "buckets are being moved");
        error_hint(err, "Try again when SHOW MOVES says that they are done, or REBALANCE FINISH.");
        return false;
    }
    if (control->distribute || control->shard_joining || control->fill_end) {
        error_set(err, SQLSTATE_OBJECT_IN_USE, "another table is being distributed");
        error_hint(err, "Try again when it is done.");
        return false;
    }
    DistributeJob *job = calloc(1, sizeof *job);
    if (!job)
        return out_of_memory(err);
    job->function = function;
    job_start(&job->job, control, call, distribute_on_free);
    control->distribute = &job->job;
    /* The table may have been created a moment ago. */
    job_wait_round(&job->job, database->index, distribute_on_round);
    return true;
}

static void distribute_on_round(Job *base, const Error *refresh_err)
{
    DistributeJob *job = container_of(base, DistributeJob, job);
    Control *control = base->control;
    Call *call = base->call;
    Error err;
    /* The refresh may have failed, or RELOAD may have come in between: the plan is made of what is
     * in force now, and the shards are asked in any case. */
    const DatabaseConfig *database = config_database(control->config, slice_str(call->database));
    if (!database) {
        error_set(&err, SQLSTATE_INVALID_DATABASE, "database \"%s\" does not exist",
                  call->database);
        job_end(base, &err);
        return;
    }
    if (!distribute_plan_make(control->topology, database->index, job->function->name, call->args, call->arg_count,
                              &call->arena, &job->plan, &err)) {
        job_end(base, &err);
        return;
    }
    if (job->plan.already)
        distribute_answer(job);
    else if (!checks_start(job, &err))
        job_end(base, &err);
}

/* Identifiers are quoted by doubling quotes; they cannot contain NUL. */
static const char *quoted(Arena *arena, const char *name)
{
    char *text = arena_alloc(arena, strlen(name) * 2 + 3);
    if (!text)
        return NULL;
    char *at = text;
    *at++ = '"';
    for (; *name; name++) {
        if (*name == '"')
            *at++ = '"';
        *at++ = *name;
    }
    *at++ = '"';
    *at = '\0';
    return text;
}

/* The role that the client's statements have on the servers: PostgreSQL decides what it may. */
static PgLogin client_login(const Config *config, const DatabaseConfig *database,
                            const ServerConfig *server, const char *user_name)
{
    const UserConfig *user = config_user(config, slice_str(user_name));
    bool own = database->server_user == NULL;
    const char *password = database->server_password;
    return (PgLogin){.conninfo = server->conninfo,
                     .dbname = database->dbname,
                     .user = own ? user_name : database->server_user,
                     .password = password || !own || !user ? password : user->password};
}

static bool checks_start(DistributeJob *job, Error *err)
{
    Control *control = job->job.control;
    Arena *arena = &job->job.call->arena;
    const Config *config = control->config;
    const DatabaseConfig *database = &config->databases[job->plan.database];
    const char *schema = quoted(arena, job->plan.schema), *name = quoted(arena, job->plan.name);
    job->checks = calloc(database->shard_count, sizeof *job->checks);
    if (!job->checks || !schema || !name)
        return out_of_memory(err);
    const DistributePlan *plan = &job->plan;
    const char *only = plan->partitioned ? "" : "ONLY ";
    const char *lock = arena_printf(arena, "LOCK TABLE %s%s.%s IN EXCLUSIVE MODE", only, schema, name);
    const char *rows = arena_printf(arena, "SELECT EXISTS (SELECT FROM %s%s.%s)", only, schema, name);
    /* A reference table's copies go when it becomes an ordinary one: the home shard has all of its rows. */
    const char *clear = arena_printf(arena, "WITH gone AS (DELETE FROM ONLY %s.%s RETURNING 1)"
                                            " SELECT count(*) < 0 FROM gone", schema, name);
    const char *facts_sql = arena_printf(arena, FACTS_SQL, plan->key_array, plan->key_array);
    const char *unique_sql = arena_printf(arena, UNIQUE_SQL, plan->key_array);
    const char *foreign_sql = arena_printf(arena, FOREIGN_SQL, plan->key_array, plan->key_array);
    const char *quoted_name = sql_quote_literal(arena, slice_str(arena_printf(arena, "%s.%s", schema, name)));
    if (!lock || !rows || !clear || !facts_sql || !unique_sql || !foreign_sql || !quoted_name)
        return out_of_memory(err);
    bool numbered = !plan->undo && plan->key_count && database->shard_count <= SEQUENCE_STRIDE;
    job->values[0] = job->plan.schema;
    job->values[1] = job->plan.name;
    job->check_count = job->pending = database->shard_count;
    for (uint32_t i = 0; i < job->check_count; i++) {
        ShardCheck *check = &job->checks[i];
        const ShardConfig *shard = &config->shards[database->shards[i]];
        check->job = job;
        check->home = i == 0;
        check->index = i;
        check->shard = arena_text(arena, slice_str(shard->name));
        const ServerConfig *server = control_primary(control, database->shards[i]);
        check->server = arena_text(arena, slice_str(server->name));
        PgQuery facts = {facts_sql, job->values, 2};
        const char *sequences = numbered ? arena_printf(arena, SEQUENCES_SQL, quoted_name, i + 1) : "SELECT";
        if (!sequences)
            return out_of_memory(err);
        check->queries[CHECK_BEGIN] = (PgQuery){.sql = "BEGIN"};
        check->queries[CHECK_PATIENCE] = (PgQuery){
            .sql = "SELECT pg_catalog.set_config(n, '0', true) FROM pg_catalog.unnest(ARRAY['statement_timeout',"
                   " 'idle_in_transaction_session_timeout']) n"};
        check->queries[CHECK_FACTS] = check->queries[CHECK_FACTS_AGAIN] = facts;
        check->queries[CHECK_LOCK] = (PgQuery){.sql = lock};
        check->queries[CHECK_UNIQUE] = (PgQuery){unique_sql, job->values, 2};
        check->queries[CHECK_FOREIGN] = (PgQuery){foreign_sql, job->values, 2};
        bool copies = plan->undo && plan->kind == TABLE_REFERENCE && i > 0;
        check->queries[CHECK_ROWS] = (PgQuery){.sql = copies ? clear : rows};
        check->queries[CHECK_SEQUENCES] = (PgQuery){.sql = sequences};
        pg_client_init(&check->client, &control->loop, &CLIENT_EVENTS, check);
        PgLogin login = client_login(config, database, server, job->job.call->user);
        pg_client_run(&check->client, &login, check->queries, CHECK_COUNT, CHECK_TIMEOUT_MS);
    }
    return true;
}

/* ---- what the shards say --------------------------------------------------------------------- */

static bool check_facts(const ShardCheck *check, const PGresult *rows, Error *err)
{
    const DistributePlan *plan = &check->job->plan;
    if (PQntuples(rows) == 0) {
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "table \"%s.%s\" does not exist on shard %s",
                  plan->schema, plan->name, check->shard);
        error_hint(err, "CREATE TABLE through Shoal makes it on every shard.");
        return false;
    }
    if (!pg_bool(rows, 0, 5)) {
        error_set(err, SQLSTATE_NO_PRIVILEGE, "must be owner of table %s", plan->name);
        error_hint(err, "Only its owner may say how a table is distributed.");
        return false;
    }
    if (plan->undo)
        return true;
    const Catalog *catalog = check->job->job.control->catalogs[plan->database];
    const char *reason = NULL;
    if (*PQgetvalue(rows, 0, 0) != (plan->partitioned ? 'p' : 'r'))
        reason = plan->partitioned ? "is not a partitioned table of ordinary ones" : "is not an ordinary table";
    else if (pg_bool(rows, 0, 4))
        reason = "is part of an inheritance tree";
    else if (plan->key_count && (!pg_text(rows, 0, 1) || strcmp(pg_text(rows, 0, 1), plan->key_oids) != 0))
        reason = "has no key column of the same type";
    else if (!pg_bool(rows, 0, 2))
        reason = "has a key column with a nondeterministic collation";
    else if (!slice_equal(pg_slice(rows, 0, 3), catalog->encoding))
        reason = "is in a database of another encoding";
    if (!reason)
        return true;
    error_set(err, SQLSTATE_OBJECT_NOT_READY, "table \"%s.%s\" on shard %s %s", plan->schema,
              plan->name, check->shard, reason);
    error_hint(err, "The table must be the same on every shard.");
    return false;
}

static bool check_unique(const ShardCheck *check, const PGresult *rows, Error *err)
{
    if (PQntuples(rows) == 0 || check->job->plan.undo)
        return true;
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED,
              "unique index \"%s\" does not contain the key column \"%s\"", PQgetvalue(rows, 0, 0),
              check->job->plan.key_text);
    error_hint(err,
               "Shards cannot see each other's rows: a unique or exclusion constraint can only "
               "be kept when it contains the key column.");
    return false;
}

/* The key of `other` as FOREIGN_SQL writes paired columns. */
static bool pairs_key(const Table *other, const char *paired)
{
    Slice rest = slice_str(paired);
    for (uint32_t i = 0; i < other->key_count; i++) {
        Slice column = other->keys[i].column;
        if (rest.len < column.len || memcmp(rest.data, column.data, column.len) != 0)
            return false;
        rest = slice_from(rest, column.len);
        if (i + 1 < other->key_count && (rest.len == 0 || *rest.data != TABLE_KEY_SEPARATOR))
            return false;
        rest = slice_from(rest, i + 1 < other->key_count ? 1 : 0);
    }
    return rest.len == 0;
}

/* Rows of two keyed tables that belong together are on one shard. */
static bool keyed_together(const DistributePlan *plan, const Table *other, const char *paired)
{
    bool together = paired && other->kind == plan->kind && other->key_count == plan->key_count &&
                    slice_is(other->colocation, plan->colocation) && pairs_key(other, paired);
    for (uint32_t i = 0; together && i < plan->key_count; i++)
        together = other->keys[i].type == plan->keys[i].type;
    return together;
}

static uint32_t local_shard(const ShardCheck *check, const Table *table)
{
    const DatabaseConfig *database =
        &check->job->job.control->config->databases[check->job->plan.database];
    return table && table->place_count ? table->places->shard : database->shards[0];
}

/* `other` is NULL for a table of the home shard. */
static bool foreign_holds(const ShardCheck *check, const Table *other, bool outgoing, const char *paired)
{
    const DistributePlan *plan = &check->job->plan;
    bool local = !other || other->kind == TABLE_LOCAL;
    bool reference = other && other->kind == TABLE_REFERENCE;
    if (plan->kind == TABLE_REFERENCE)
        return !outgoing || reference; /* what it refers to must be everywhere, too */
    if (reference)
        return outgoing;
    if (plan->kind == TABLE_LOCAL)
        return local && local_shard(check, other) == plan->places->shard;
    if (local) /* the referencing table can be distributed by its paired columns next */
        return !other && paired && !outgoing;
    return keyed_together(plan, other, paired);
}

static bool check_foreign_row(const ShardCheck *check, const PGresult *rows, int i, Error *err)
{
    const DistributePlan *plan = &check->job->plan;
    bool outgoing = pg_bool(rows, i, 1);
    const char *schema = PQgetvalue(rows, i, 2), *name = PQgetvalue(rows, i, 3);
    const char *paired = pg_text(rows, i, 4);
    bool self = strcmp(schema, plan->schema) == 0 && strcmp(name, plan->name) == 0;
    const Table *other = topology_table(check->job->job.control->topology, plan->database,
                                        slice_str(schema), slice_str(name));
    if (self ? plan->key_count == 0 || (paired && strcmp(paired, plan->key) == 0)
             : foreign_holds(check, other, outgoing, paired))
        return true;
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED,
              "foreign key \"%s\" %s \"%s.%s\" does not join the tables by their keys",
              PQgetvalue(rows, i, 0), outgoing ? "to" : "from", schema, name);
    error_hint(err,
               plan->kind == TABLE_REFERENCE ? "Make the referenced table a reference table first."
               : paired && outgoing
                   ? "Distribute the referenced table first, by the column that the key column "
                     "references; or make it a reference table."
                   : "Shards cannot see each other's rows: a foreign key can only be kept when "
                     "it pairs the two tables' keys, or refers to a reference table.");
    return false;
}

/* Rows that are already where a local table shall be. */
static bool holds_local(const ShardCheck *check)
{
    const Config *config = check->job->job.control->config;
    return !check->job->plan.undo &&
           strcmp(config->shards[check->job->plan.places->shard].name, check->shard) == 0;
}

static bool check_rows(ShardCheck *check, const PGresult *rows, Error *err)
{
    const DistributePlan *plan = &check->job->plan;
    bool copies = plan->undo && plan->kind == TABLE_REFERENCE; /* they are gone by now */
    if (!pg_bool(rows, 0, 0) || copies)
        return true;
    check->holds = true;
    if (plan->undo || check->home || (plan->kind == TABLE_LOCAL && holds_local(check)))
        return true; /* they stay, or go along (row_fill.h) */
    error_set(err, SQLSTATE_OBJECT_NOT_READY, "table \"%s.%s\" holds rows on shard %s",
              plan->schema, plan->name, check->shard);
    error_hint(err, "Only rows on the home shard go along: move the others there, or delete them.");
    return false;
}

static bool check_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    ShardCheck *check = client->ctx;
    if (check->job->releasing)
        return true;
    if (check->job->filling) {
        row_fill_take(&check->job->fill, check->index, index, rows);
        return true;
    }
    switch ((CheckQuestion)index) {
    case CHECK_FACTS:
        if (check->home && PQntuples(rows) && pg_text(rows, 0, 6))
            check->job->last_ids = arena_text(&check->job->job.call->arena, pg_slice(rows, 0, 6));
        return check_facts(check, rows, err);
    case CHECK_FACTS_AGAIN:
        return check_facts(check, rows, err);
    case CHECK_UNIQUE:
        return check_unique(check, rows, err);
    case CHECK_FOREIGN:
        for (int i = 0; !check->job->plan.undo && i < PQntuples(rows); i++) {
            if (!check_foreign_row(check, rows, i, err))
                return false;
        }
        return true;
    case CHECK_ROWS:
        return check_rows(check, rows, err);
    case CHECK_BEGIN:
    case CHECK_PATIENCE:
    case CHECK_LOCK:
    case CHECK_SEQUENCES:
    case CHECK_COUNT:
        break;
    }
    return true;
}

static void check_on_done(PgClient *client, const Error *err)
{
    ShardCheck *check = client->ctx;
    DistributeJob *job = check->job;
    check->done = true;
    if (err && !job->releasing) {
        Error told = *err;
        if (!told.detail[0])
            error_detail(&told, "Shard %s, server %s.", check->shard, check->server);
        if (error_is(&told, "55P03"))
            error_hint(&told, "Somebody writes to the table; try again when it is quiet.");
        if (client->why[0])
            log_line(LOG_WARNING, "distribute", "shard %s: %s", check->shard, client->why);
        job_end(&job->job, &told);
        return;
    }
    /* While releasing, an error means that the connection is gone, and the lock with it. */
    if (--job->pending > 0)
        return;
    if (job->releasing && job->cancelling) {
        timer_start_ms(&job->timer, DRAIN_LOOK_MS);
        return;
    }
    if (job->releasing) {
        distribute_answer(job);
        return;
    }
    Error failed;
    if (!distribute_go_on(job, &failed))
        job_end(&job->job, &failed);
}

/* ---- rows that go along (row_fill.h) -------------------------------------------------------------- */

static void on_copied(RowFill *fill, const Error *err)
{
    DistributeJob *job = fill->ctx;
    Error failed;
    if (err || !distribute_go_on(job, &failed))
        job_end(&job->job, err ? err : &failed);
}

/* Which shards have rows decides whether any must go; false: they may not. */
static bool fill_is_needed(const DistributeJob *job, bool *holds, bool *ret, Error *err)
{
    const DistributePlan *plan = &job->plan;
    const DatabaseConfig *database = &job->job.control->config->databases[plan->database];
    bool others = false;
    for (uint32_t i = 0; i < job->check_count; i++) {
        holds[i] = job->checks[i].holds;
        others |= i > 0 && holds[i];
    }
    bool stays = !plan->undo && plan->kind == TABLE_LOCAL && plan->places->shard == database->shards[0];
    *ret = plan->undo ? others : holds[0] && !stays;
    if (!*ret || plan->undo || !others)
        return true;
    error_set(err, SQLSTATE_OBJECT_NOT_READY, "table \"%s.%s\" holds rows on several shards", plan->schema, plan->name);
    error_hint(err, "Delete those that are not meant.");
    return false;
}

static const char *role_of(const DistributeJob *job)
{
    const DatabaseConfig *database = &job->job.control->config->databases[job->plan.database];
    return database->server_user ? database->server_user : job->job.call->user;
}

static bool fill_start(DistributeJob *job, bool *ret_needed, Error *err)
{
    Control *control = job->job.control;
    Arena *arena = &job->job.call->arena;
    bool *holds = arena_array(arena, bool, job->check_count + 1);
    if (!holds)
        return out_of_memory(err);
    if (!fill_is_needed(job, holds, ret_needed, err) || !*ret_needed)
        return !*ret_needed;
    if (!row_fill_init(&job->fill, control, &job->plan, holds, role_of(job), arena, err))
        return false;
    job->fill.last_ids = job->last_ids;
    job->fill.on_copied = on_copied;
    job->fill.ctx = job;
    job->filling = FILL_COPY;
    row_fill_copy(&job->fill);
    return true;
}

/* The next statements of all shards, in their open transactions. */
static bool fill_run(DistributeJob *job, bool (*make)(RowFill *fill, uint32_t index), Error *err)
{
    Control *control = job->job.control;
    const DatabaseConfig *database = &control->config->databases[job->plan.database];
    for (uint32_t i = 0; i < job->check_count; i++)
        if (!make(&job->fill, i))
            return out_of_memory(err);
    job->pending = job->check_count;
    for (uint32_t i = 0; i < job->check_count; i++) {
        PgLogin login = client_login(control->config, database, control_primary(control, database->shards[i]), job->job.call->user);
        pg_client_run(&job->checks[i].client, &login, job->fill.shards[i].queries, job->fill.shards[i].query_count, 0);
    }
    return true;
}

/* All shards have answered, or the rows are copied: what comes next. False: it has failed. */
static bool distribute_go_on(DistributeJob *job, Error *err)
{
    bool needed = false;
    switch (job->filling) {
    case FILL_NONE:
        if (!fill_start(job, &needed, err))
            return false;
        return needed || distribute_decide(job, err);
    case FILL_COPY:
        job->filling = FILL_MOVE;
        return fill_run(job, row_fill_moves_make, err);
    case FILL_MOVE:
        if (!row_fill_agrees(&job->fill, err) || !row_fill_begin_end(&job->fill, err))
            return false;
        job->filling = FILL_PREPARE;
        return fill_run(job, row_fill_prepare_make, err);
    default:
        if (FAILPOINT_FAILS("fill_prepared", err) || !distribute_decide(job, err))
            return false;
        job->filling = FILL_DECIDED;
        return true;
    }
}

/* ---- the decision ---------------------------------------------------------------------------- */

static bool distribute_store(const DistributeJob *job, bool undo, Error *err)
{
    Control *control = job->job.control;
    const DistributePlan *plan = &job->plan;
    StoreTable table = {.database = control->config->databases[plan->database].name,
                        .schema = plan->schema,
                        .name = plan->name,
                        .key = plan->key,
                        .kind = table_kind_name(plan->kind),
                        .placement = plan->placement,
                        .colocation = plan->colocation};
    return undo ? store_remove_table(control->store, &table, err)
                : store_add_table(control->store, &table, err);
}

static bool distribute_decide(DistributeJob *job, Error *err)
{
    Control *control = job->job.control;
    if (!distribute_store(job, job->plan.undo, err))
        return false;
    if (!control_load_tables(control, err) || !control_publish(control, err)) {
        /* Nobody has seen it: the store goes back to what is in force. */
        Error again;
        if (!distribute_store(job, !job->plan.undo, &again) ||
            !control_load_tables(control, &again))
            log_error("control", &again);
        return false;
    }
    (void)FAILPOINT("fill_stored");
    char text[200];
    snprintf(text, sizeof text, "table %s.%s of database %s %s a %s table%s%s", job->plan.schema,
             job->plan.name, control->config->databases[job->plan.database].name,
             job->plan.undo ? "is no longer" : "is now", table_kind_name(job->plan.kind),
             job->plan.key_count ? ", by " : "", job->plan.key_text);
    control_event(control, LOG_INFO, "table", text);
    job_wait_adoption(&job->job, distribute_on_adopted);
    return true;
}

/* Whoever waits for our lock was planned before: cancelled, it is planned anew when it is retried.
 * Only sessions that our role may signal can be helped so, which are the same client's in a
 * database with server_user. */
static const PgQuery CANCEL_QUERIES[] = {
    {.sql = "SELECT pg_catalog.pg_cancel_backend(a.pid) FROM pg_stat_activity a"
            " WHERE pg_catalog.pg_backend_pid() = ANY (pg_catalog.pg_blocking_pids(a.pid))"
            " AND pg_catalog.pg_has_role(a.usesysid, 'USAGE')"},
};
/* The same, when the lock is a prepared transaction's. %s: the table. */
static const char CANCEL_WAITING_SQL[] =
    "SELECT pg_catalog.pg_cancel_backend(a.pid) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted"
    " AND l.relation = %s::regclass WHERE pg_catalog.pg_has_role(a.usesysid, 'USAGE')";
static const PgQuery RELEASE_QUERIES[] = {{.sql = "COMMIT"}};

static void on_all_shards(DistributeJob *job, const PgQuery *queries, uint32_t count)
{
    Control *control = job->job.control;
    const DatabaseConfig *database = &control->config->databases[job->plan.database];
    job->pending = job->check_count;
    for (uint32_t i = 0; i < job->check_count; i++) {
        const ServerConfig *server = control_primary(control, database->shards[i]);
        PgLogin login = client_login(control->config, database, server, job->job.call->user);
        pg_client_run(&job->checks[i].client, &login, queries, count, CHECK_TIMEOUT_MS);
    }
}

/* Every worker plans by the new topology. What was planned before and still waits, in a pool or for our
 * locks, must end before they are let go: it would write to the wrong shard. */
static void distribute_on_adopted(Job *base)
{
    DistributeJob *job = container_of(base, DistributeJob, job);
    const char *name = job->filling ? sql_quote_literal(&base->call->arena, slice_str(job->fill.table)) : "";
    const char *cancel = name ? arena_printf(&base->call->arena, CANCEL_WAITING_SQL, name) : NULL;
    job->cancel = (PgQuery){.sql = cancel ? cancel : "SELECT"};
    job->releasing = true;
    job->draining_since_us = base->control->loop.now_us;
    drain_start(&job->drain, base->control, FENCE_ANY_SHARD);
    job->drain.database = job->plan.database;
    job->drain.requests_only = true;
    timer_init(&job->timer, &base->control->loop, distribute_on_time, job);
    timer_start_ms(&job->timer, 0);
}

/* What was prepared is committed on all shards. */
static void on_rows_home(void *ctx)
{
    DistributeJob *job = ctx;
    distribute_answer(job);
}

static void distribute_on_time(Timer *timer)
{
    DistributeJob *job = timer->ctx;
    bool late = job->job.control->loop.now_us - job->draining_since_us > DRAIN_MAX_US;
    if (job->drain.done || (late && job->drain.waiting == 0)) {
        job->cancelling = false;
        if (job->filling) {
            row_fill_end_begin(job->job.control, on_rows_home, job);
            return;
        }
        on_all_shards(job, RELEASE_QUERIES, ARRAY_LEN(RELEASE_QUERIES));
        return;
    }
    drain_look(&job->drain);
    job->cancelling = true;
    on_all_shards(job, job->filling ? &job->cancel : CANCEL_QUERIES, 1);
}

static void distribute_answer(DistributeJob *job)
{
    Call *call = job->job.call;
    const DistributePlan *plan = &job->plan;
    const ShardMap *map = job->job.control->map;
    const char *text;
    if (plan->undo)
        text = plan->already ? "was not distributed" : "no longer distributed";
    else
        text = plan->kind == TABLE_HASH
                   ? arena_printf(&call->arena, "%sdistributed by %s over %u buckets",
                                  plan->already ? "already " : "", plan->key_text, map->bucket_count)
                   : arena_printf(&call->arena, "%sa %s table%s%s", plan->already ? "already " : "",
                                  table_kind_name(plan->kind), plan->key_count ? ", by " : "", plan->key_text);
    function_answer(call, job->function->name, text);
    job_end(&job->job, NULL);
}

static void distribute_on_free(Job *base)
{
    DistributeJob *job = container_of(base, DistributeJob, job);
    Control *control = base->control;
    bool unfinished = job->filling >= FILL_PREPARE;
    drain_stop(&job->drain);
    if (job->timer.loop)
        timer_stop(&job->timer);
    for (uint32_t i = 0; job->checks && i < job->check_count; i++)
        pg_client_close(&job->checks[i].client);
    row_fill_end_forget(control);
    row_fill_finish(&job->fill);
    free(job->checks);
    free(job);
    if (unfinished && !control->stopping) /* as the store says: rolled back, or committed */
        row_fill_end_begin(control, NULL, NULL);
}
