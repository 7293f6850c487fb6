/*
 * plan_facts.c - one question with several kinds of rows for each database on each shard.
 *
 *     'table'    number, bytes on disk with indexes, percent that the sample reads
 *     'bucket'   number of the table, bucket, rows, bytes in them      (of the sample)
 *     'missing'  problem, remedy
 *     'shape'    tables_sql_facts
 *
 * and a second one about the disk, which may fail: then the room is not known.
 */
#include "admin/plan_facts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "admin/move_sql.h"

#define ASK_TIMEOUT_MS 60000

struct FactsAsk {
    PlanFacts *facts;
    PgClient client;
    uint32_t database, shard;
    const Table *tables; /* in the arena */
    uint32_t table_count;
    bool answered;
    PgQuery queries[2];
};

static bool ask_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void ask_on_done(PgClient *client, const Error *err);

static const PgClientEvents ASK_EVENTS = {.on_result = ask_on_result, .on_done = ask_on_done};

/* ---- the question ------------------------------------------------------------------------------- */

/* The data directory and its times, by which a server on this machine is told from one that only has the same path.
 * No row where tables lie elsewhere, too. */
static const char DISK[] =
    "SELECT current_setting('data_directory'), extract(epoch FROM modification)::int8, extract(epoch FROM change)::int8 "
    "FROM pg_stat_file('.') WHERE NOT EXISTS (SELECT FROM pg_class WHERE reltablespace NOT IN (0, 1664)) AND (SELECT "
    "dattablespace = 1663 FROM pg_database WHERE datname = current_database())";

static const char *sample_sql(Arena *arena, const Table *table, uint32_t number, uint32_t bucket_count)
{
    const char *name = sql_table_name(arena, table);
    const char *bucket = bucket_sql_table(arena, table, "t.", bucket_count);
    const char *total = sql_table_size(arena, table, "pg_total_relation_size");
    const char *heap = sql_table_size(arena, table, "pg_relation_size");
    const char *percent =
        heap ? arena_printf(arena, "least(100, 100.0 * %d * current_setting('block_size')::int / greatest(%s, 1))",
                            FACTS_PAGES, heap)
             : NULL;
    if (!bucket || !percent || !total)
        return NULL;
    return arena_printf(arena,
                        " UNION ALL SELECT 'table', '%u', (%s)::text, (%s)::text, NULL"
                        " UNION ALL (SELECT 'bucket', '%u', (%s)::text, count(*)::text, sum(pg_column_size(t.*))::text"
                        " FROM %s t TABLESAMPLE SYSTEM ((SELECT (%s)::real)) GROUP BY 3)", number, total, percent,
                        number, bucket, name, percent);
}

static const char *question(const FactsAsk *ask)
{
    Arena *arena = ask->facts->arena;
    const char *missing = tables_sql_requirements(arena, ask->tables, ask->table_count);
    const char *shape = tables_sql_facts(arena, ask->tables, ask->table_count);
    const char *text = missing && shape ? arena_printf(arena,
                                                       "SELECT 'missing', m.problem, m.remedy, NULL, NULL FROM (%s) m"
                                                       " UNION ALL SELECT 'shape', (%s), NULL, NULL, NULL",
                                                       missing, shape)
                                        : NULL;
    for (uint32_t t = 0; text && t < ask->table_count; t++) {
        if (!bucket_sql_knows(&ask->tables[t], ask->facts->bucket_count))
            continue;
        const char *sample = sample_sql(arena, &ask->tables[t], t, ask->facts->bucket_count);
        text = sample ? arena_printf(arena, "%s%s", text, sample) : NULL;
    }
    return text;
}

/* ---- asking --------------------------------------------------------------------------------------- */

void facts_find(PlanFacts *facts, uint32_t shard, const char *database, const char *problem, const char *remedy)
{
    FactsFinding *finding = arena_new(facts->arena, FactsFinding), **tail = &facts->findings;
    if (!finding)
        return;
    *finding = (FactsFinding){.shard = shard,
                              .database = arena_text(facts->arena, slice_str(database)),
                              .problem = arena_text(facts->arena, slice_str(problem)),
                              .remedy = arena_text(facts->arena, slice_str(remedy))};
    while (*tail)
        tail = &(*tail)->next;
    if (finding->database && finding->problem && finding->remedy)
        *tail = finding;
}

/* Hash tables of the database that its catalog knows. */
static bool ask_fill(FactsAsk *ask)
{
    const Topology *topology = ask->facts->control->topology;
    Table *tables = arena_array(ask->facts->arena, Table, topology->table_count + 1);
    const Catalog *catalog = topology->catalogs[ask->database];
    for (uint32_t i = 0; tables && i < topology->table_count; i++) {
        const Table *table = &topology->tables[i];
        if (table->database != ask->database || table->partition || table->kind != TABLE_HASH ||
            (catalog->loaded && !catalog_table(catalog, table->schema, table->name)))
            continue;
        if (!table_keep(&tables[ask->table_count++], table, ask->facts->arena))
            return false;
    }
    ask->tables = tables;
    return tables != NULL;
}

static void tell_unmovable(const FactsAsk *ask)
{
    const DatabaseConfig *database = &ask->facts->control->config->databases[ask->database];
    for (uint32_t t = 0; t < ask->table_count; t++) {
        const Table *table = &ask->tables[t];
        char problem[300];
        if (bucket_sql_knows(table, ask->facts->bucket_count))
            continue;
        snprintf(problem, sizeof problem, "buckets of table \"%.*s\" cannot be moved yet", SLICE_FMT(table->name));
        facts_find(ask->facts, ask->shard, database->name, problem,
                   tables_why_unmovable(table));
    }
}

static bool facts_alloc(PlanFacts *facts)
{
    Arena *arena = facts->arena;
    size_t pairs = (size_t)facts->database_count * facts->shard_count;
    facts->rows = arena_array(arena, uint64_t, facts->bucket_count);
    facts->data = arena_array(arena, uint64_t, facts->bucket_count);
    facts->bytes = arena_array(arena, uint64_t, facts->bucket_count);
    facts->room = arena_array(arena, uint64_t, facts->shard_count);
    facts->strays = arena_array(arena, BucketSet, facts->shard_count);
    facts->shapes = arena_array(arena, const char *, MAX(pairs, 1));
    facts->asks = calloc(MAX(pairs, 1), sizeof *facts->asks);
    if (!facts->rows || !facts->data || !facts->bytes || !facts->room || !facts->strays || !facts->shapes ||
        !facts->asks)
        return false;
    for (uint32_t s = 0; s < facts->shard_count; s++) {
        facts->room[s] = UINT64_MAX;
        if (!bucket_set_init(&facts->strays[s], facts->bucket_count, arena))
            return false;
    }
    return true;
}

bool facts_ask(PlanFacts *facts, Control *control, Arena *arena, void (*on_done)(void *ctx), void *ctx)
{
    const Config *config = control->config;
    *facts = (PlanFacts){.control = control, .arena = arena, .bucket_count = control->map->bucket_count,
                         .shard_count = config->shard_count, .database_count = config->database_count,
                         .on_done = on_done, .ctx = ctx};
    if (!facts_alloc(facts))
        return false;
    for (uint32_t d = 0; d < config->database_count; d++) {
        for (uint32_t s = 0; s < config->databases[d].shard_count; s++) {
            FactsAsk *ask = &facts->asks[facts->ask_count];
            *ask = (FactsAsk){.facts = facts, .database = d, .shard = config->databases[d].shards[s]};
            if (!ask_fill(ask))
                return false;
            if (ask->table_count == 0)
                continue;
            ask->queries[0].sql = question(ask);
            ask->queries[1].sql = DISK;
            if (!ask->queries[0].sql)
                return false;
            pg_client_init(&ask->client, &control->loop, &ASK_EVENTS, ask);
            tell_unmovable(ask);
            facts->ask_count++;
        }
    }
    facts->pending = facts->ask_count;
    for (uint32_t i = 0; i < facts->ask_count; i++) {
        FactsAsk *ask = &facts->asks[i];
        PgLogin login = control_login(config, &config->databases[ask->database], control_primary(control, ask->shard));
        pg_client_run(&ask->client, &login, ask->queries, ARRAY_LEN(ask->queries), ASK_TIMEOUT_MS);
    }
    return true;
}

void facts_close(PlanFacts *facts)
{
    for (uint32_t i = 0; i < facts->ask_count; i++)
        pg_client_close(&facts->asks[i].client);
    free(facts->asks);
    facts->asks = NULL;
    facts->ask_count = 0;
}

/* ---- answers ------------------------------------------------------------------------------------ */

static bool is_row(const PGresult *rows, int row, const char *kind, uint32_t number)
{
    return strcmp(PQgetvalue(rows, row, 0), kind) == 0 && pg_u64(rows, row, 1) == number;
}

static void bucket_add(const FactsAsk *ask, uint32_t bucket, double rows, double data, double bytes)
{
    PlanFacts *facts = ask->facts;
    const Control *control = facts->control;
    if (control->map->shard_of[bucket] == ask->shard) {
        facts->rows[bucket] += (uint64_t)rows;
        facts->data[bucket] += (uint64_t)data;
        facts->bytes[bucket] += (uint64_t)bytes;
    } else if (!moves_has_bucket(control, bucket)) {
        bucket_set_add(&facts->strays[ask->shard], bucket);
    }
}

/* The table's bytes are its buckets', by what the sample saw of each. */
static void table_add(const FactsAsk *ask, uint32_t number, const PGresult *rows)
{
    double disk = 0, percent = 100, seen = 0;
    for (int i = 0; i < PQntuples(rows); i++) {
        if (is_row(rows, i, "table", number)) {
            disk = strtod(PQgetvalue(rows, i, 2), NULL);
            percent = strtod(PQgetvalue(rows, i, 3), NULL);
        } else if (is_row(rows, i, "bucket", number)) {
            seen += strtod(PQgetvalue(rows, i, 4), NULL);
        }
    }
    for (int i = 0; seen > 0 && percent > 0 && i < PQntuples(rows); i++) {
        uint64_t bucket = pg_u64(rows, i, 2);
        double data = strtod(PQgetvalue(rows, i, 4), NULL);
        if (!is_row(rows, i, "bucket", number) || PQgetisnull(rows, i, 2) || bucket >= ask->facts->bucket_count)
            continue;
        bucket_add(ask, (uint32_t)bucket, strtod(PQgetvalue(rows, i, 3), NULL) * 100 / percent, data * 100 / percent,
                   disk * data / seen);
    }
}

static bool is_here(const char *host)
{
    return host && (host[0] == '/' || strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 ||
                    strcmp(host, "localhost") == 0);
}

/* Bytes free under the directory, when it is this machine's and the very one that the server means. */
static void disk_look(const FactsAsk *ask, const PGresult *rows)
{
    const ServerConfig *server = control_primary(ask->facts->control, ask->shard);
    struct stat stat_here;
    struct statvfs disk;
    if (PQntuples(rows) != 1 || !is_here(server->host))
        return;
    const char *path = PQgetvalue(rows, 0, 0);
    if (stat(path, &stat_here) == 0 && statvfs(path, &disk) == 0 &&
        (uint64_t)stat_here.st_mtime == pg_u64(rows, 0, 1) && (uint64_t)stat_here.st_ctime == pg_u64(rows, 0, 2))
        ask->facts->room[ask->shard] = (uint64_t)disk.f_bavail * disk.f_frsize;
}

static bool ask_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    FactsAsk *ask = client->ctx;
    PlanFacts *facts = ask->facts;
    (void)err;
    if (index == 1) {
        disk_look(ask, rows);
        return true;
    }
    ask->answered = true;
    for (int i = 0; i < PQntuples(rows); i++) {
        const char *kind = PQgetvalue(rows, i, 0);
        if (strcmp(kind, "missing") == 0)
            facts_find(facts, ask->shard, facts->control->config->databases[ask->database].name,
                       PQgetvalue(rows, i, 1), PQgetvalue(rows, i, 2));
        else if (strcmp(kind, "shape") == 0)
            facts->shapes[ask->database * facts->shard_count + ask->shard] =
                arena_text(facts->arena, pg_slice(rows, i, 1));
    }
    for (uint32_t t = 0; t < ask->table_count; t++)
        table_add(ask, t, rows);
    return true;
}

static void ask_on_done(PgClient *client, const Error *err)
{
    FactsAsk *ask = client->ctx;
    PlanFacts *facts = ask->facts;
    if (err && !ask->answered) {
        const char *name = facts->control->config->shards[ask->shard].name;
        facts->silent = true;
        facts->failed = *err;
        error_detail(&facts->failed, "Shard %s: %s.", name, client->why[0] ? client->why : err->message);
        facts_find(facts, ask->shard, facts->control->config->databases[ask->database].name,
                   client->why[0] ? client->why : err->message, "The shard must answer; SHOW SERVERS.");
    }
    if (--facts->pending == 0)
        facts->on_done(facts->ctx);
}
