/*
 * oid_reader.c - asks every shard for its users' types and tables when their digest has changed.
 */
#include "admin/oid_reader.h"

#include <stdlib.h>

#include "admin/catalog_loader.h"

#define READ_TIMEOUT_MS 3000

/* clang-format off */
#define TYPES "pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace" \
    " WHERE t.oid >= 16384 AND n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp%'"
#define RELATIONS "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace" \
    " WHERE c.oid >= 16384 AND c.relkind IN ('r', 'v', 'm', 'f', 'p') AND n.nspname NOT LIKE 'pg\\_toast%'" \
    " AND n.nspname NOT LIKE 'pg\\_temp%'"

/* Sums do not depend on the order; a name or an OID that changes changes them. */
static const char DIGEST_SQL[] =
    "SELECT (SELECT pg_catalog.count(*)::text || ' ' || coalesce(pg_catalog.sum(pg_catalog.hashtextextended("
    "n.nspname || '.' || t.typname || ' ' || t.oid::text, 0)::numeric), 0)::text FROM " TYPES ")"
    " || ' ' || (SELECT pg_catalog.count(*)::text || ' ' || coalesce(pg_catalog.sum(pg_catalog.hashtextextended("
    "n.nspname || '.' || c.relname || ' ' || c.oid::text, 0)::numeric), 0)::text FROM " RELATIONS ")";

static const char LIST_SQL[] =
    "SELECT * FROM ("
    "SELECT 't ' || n.nspname || '.' || t.typname AS name, t.oid,"
    " CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE 0 END,"
    " CASE WHEN t.typtype = 'd' THEN 'd' WHEN t.typtype = 'c' THEN 'c'"
    "   WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN 'a' ELSE '-' END"
    " FROM " TYPES
    " UNION ALL SELECT 'r ' || n.nspname || '.' || c.relname, c.oid, 0, '-' FROM " RELATIONS
    ") x ORDER BY name COLLATE \"C\"";
/* clang-format on */

static const PgQuery DIGEST_QUERY = {.sql = DIGEST_SQL};
static const PgQuery LIST_QUERY = {.sql = LIST_SQL};

struct OidSource {
    OidReader *reader;
    PgClient client;
    char *digest;      /* of the list that `map` was made of; NULL: not known */
    char *digest_next; /* the one just told; NULL: it did not answer */
    PGresult *list;    /* while they are compared */
    OidMap *map;
};

static bool source_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void source_on_done(PgClient *client, const Error *err);

static const PgClientEvents EVENTS = {.on_result = source_on_result, .on_done = source_on_done};

bool oid_reader_init(OidReader *reader, Loop *loop, const Config *config, uint32_t database,
                     const uint32_t *primaries, void (*on_done)(OidReader *reader, bool changed), void *ctx)
{
    uint32_t count = config->databases[database].shard_count;
    *reader = (OidReader){.config = config, .database = database, .primaries = primaries, .on_done = on_done,
                          .ctx = ctx};
    if (count < 2)
        return true;
    reader->sources = calloc(count, sizeof *reader->sources);
    if (!reader->sources)
        return false;
    reader->count = count;
    for (uint32_t i = 0; i < count; i++) {
        reader->sources[i].reader = reader;
        pg_client_init(&reader->sources[i].client, loop, &EVENTS, &reader->sources[i]);
    }
    return true;
}

void oid_reader_finish(OidReader *reader)
{
    for (uint32_t i = 0; i < reader->count; i++) {
        OidSource *source = &reader->sources[i];
        pg_client_close(&source->client);
        PQclear(source->list);
        free(source->digest);
        free(source->digest_next);
        oid_map_free(source->map);
    }
    free(reader->sources);
    reader->sources = NULL;
    reader->count = 0;
}

OidMap *oid_reader_map(const OidReader *reader, uint32_t i)
{
    return i < reader->count ? reader->sources[i].map : NULL;
}

/* ---- asking ------------------------------------------------------------------------------------- */

static void ask_all(OidReader *reader, const PgQuery *query)
{
    const DatabaseConfig *database = &reader->config->databases[reader->database];
    reader->waiting = reader->count;
    for (uint32_t i = 0; i < reader->count; i++) {
        uint32_t shard = database->shards[i], server = reader->primaries[shard];
        const ServerConfig *primary = server < reader->config->server_count
                                          ? reader->config->servers[server]
                                          : reader->config->shards[shard].primary;
        PgLogin login = control_login(reader->config, database, primary);
        pg_client_run(&reader->sources[i].client, &login, query, 1, READ_TIMEOUT_MS);
    }
}

bool oid_reader_run(OidReader *reader)
{
    if (reader->count == 0 || reader->waiting)
        return false;
    reader->listing = false;
    for (uint32_t i = 0; i < reader->count; i++) {
        free(reader->sources[i].digest_next);
        reader->sources[i].digest_next = NULL;
    }
    ask_all(reader, &DIGEST_QUERY);
    return true;
}

static bool source_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    OidSource *source = client->ctx;
    (void)index;
    if (!source->reader->listing) {
        const char *digest = pg_text(rows, 0, 0);
        source->digest_next = digest ? strdup(digest) : NULL;
        return true;
    }
    source->list = PQcopyResult(rows, PG_COPYRES_ATTRS | PG_COPYRES_TUPLES);
    if (!source->list)
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return source->list != NULL;
}

/* ---- comparing ------------------------------------------------------------------------------------ */

static bool differs(const OidSource *source)
{
    return source->digest_next && (!source->digest || strcmp(source->digest, source->digest_next) != 0);
}

static uint8_t shape_of(char letter)
{
    return letter == 'a' ? OID_SHAPE_ARRAY : letter == 'c' ? OID_SHAPE_RECORD
                                         : letter == 'd' ? OID_SHAPE_DOMAIN
                                                         : OID_SHAPE_PLAIN;
}

static OidName *names_of(const PGresult *rows, uint32_t *ret_count)
{
    uint32_t count = (uint32_t)PQntuples(rows);
    OidName *names = calloc((size_t)count + 1, sizeof *names);
    for (uint32_t i = 0; names && i < count; i++) {
        Slice name = pg_slice(rows, (int)i, 0);
        names[i] = (OidName){.name = name,
                             .oid = (uint32_t)pg_u64(rows, (int)i, 1),
                             .base = (uint32_t)pg_u64(rows, (int)i, 2),
                             .relation = name.len && name.data[0] == 'r',
                             .shape = shape_of(*PQgetvalue(rows, (int)i, 3))};
    }
    *ret_count = count;
    return names;
}

static void digest_keep(OidSource *source)
{
    free(source->digest);
    source->digest = source->digest_next;
    source->digest_next = NULL;
}

/* A map that could not be made, for want of memory, is made by the next round. */
static bool compare(const OidName *home, uint32_t home_count, OidSource *source)
{
    uint32_t count;
    OidMap *map = NULL;
    OidName *names = names_of(source->list, &count);
    bool ok = names && oid_map_make(home, home_count, names, count, &map);
    free(names);
    if (!ok)
        return false;
    oid_map_free(source->map);
    source->map = map;
    digest_keep(source);
    return true;
}

static void compare_all(OidReader *reader)
{
    OidSource *home = &reader->sources[0];
    uint32_t count = 0;
    OidName *names = home->list ? names_of(home->list, &count) : NULL;
    bool all = names != NULL;
    for (uint32_t i = 1; i < reader->count; i++)
        all &= names && reader->sources[i].list && compare(names, count, &reader->sources[i]);
    if (all)
        digest_keep(home);
    free(names);
    for (uint32_t i = 0; i < reader->count; i++) {
        PQclear(reader->sources[i].list);
        reader->sources[i].list = NULL;
    }
}

static void source_on_done(PgClient *client, const Error *err)
{
    OidReader *reader = ((OidSource *)client->ctx)->reader;
    bool changed = false;
    (void)err; /* who keeps the catalogs and the probes tell of it */
    if (--reader->waiting)
        return;
    if (reader->listing) {
        compare_all(reader);
        reader->on_done(reader, true);
        return;
    }
    for (uint32_t i = 0; i < reader->count; i++)
        changed |= differs(&reader->sources[i]);
    if (!changed) {
        reader->on_done(reader, false);
        return;
    }
    reader->listing = true;
    ask_all(reader, &LIST_QUERY);
}
