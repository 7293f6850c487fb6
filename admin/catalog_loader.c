/*
 * catalog_loader.c - rounds of one database: poll, and read all when something changed.
 *
 *     idle --timer, refresh--> polling --digest same--------------------> OIDs of the other shards --> idle
 *                                 └--digest differs--> reading --COMMIT-->
 *
 * The digest of a new Catalog is read in the same snapshot as its rows, so that a change made in
 * between is found by the next poll.
 */
#include "admin/catalog_loader.h"

#include "admin/catalog_rows.h"
#include "core/log.h"

#define RETRY_MS         1000
#define ROUND_TIMEOUT_MS 20000

static void loader_on_time(Timer *timer);
static bool loader_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void loader_on_done(PgClient *client, const Error *err);
static void loader_on_oids(OidReader *reader, bool changed);

static const PgClientEvents CLIENT_EVENTS = {.on_result = loader_on_result,
                                             .on_done = loader_on_done};

void catalog_loader_init(CatalogLoader *loader, Loop *loop, const Config *config, uint32_t database,
                         const uint32_t *primaries, const Catalog *known, const CatalogLoaderEvents *events, void *ctx)
{
    *loader = (CatalogLoader){.config = config, .database = database, .primaries = primaries, .events = events, .ctx = ctx};
    if (known && known->loaded) {
        loader->digest = known->digest;
        loader->version = known->version;
    }
    if (!oid_reader_init(&loader->oids, loop, config, database, primaries, loader_on_oids, loader))
        log_line(LOG_ERROR, "catalog", "out of memory: OIDs of the shards are not translated");
    pg_client_init(&loader->client, loop, &CLIENT_EVENTS, loader);
    timer_init(&loader->timer, loop, loader_on_time, loader);
    timer_start_ms(&loader->timer, 0);
}

void catalog_loader_finish(CatalogLoader *loader)
{
    timer_stop(&loader->timer);
    pg_client_close(&loader->client);
    oid_reader_finish(&loader->oids);
    catalog_free(loader->next);
    loader->next = NULL;
}

PgLogin control_login(const Config *config, const DatabaseConfig *database,
                      const ServerConfig *server)
{
    PgLogin login = {.conninfo = server->conninfo,
                     .dbname = database ? database->dbname : "postgres",
                     .user = config->control_user,
                     .password = config->control_password};
    if (!login.user && database) {
        login.user = database->server_user;
        login.password = database->server_password;
    }
    const UserConfig *user = NULL;
    for (uint32_t i = 0; !login.user && i < config->user_count; i++) {
        if (!user || (config->users[i].admin && !user->admin))
            user = &config->users[i];
    }
    if (user) {
        login.user = user->name;
        login.password = login.password ? login.password : user->password;
    }
    if (!login.user)
        login.user = "postgres";
    return login;
}

static void loader_run(CatalogLoader *loader, const PgQuery *queries, uint32_t count)
{
    const DatabaseConfig *database = &loader->config->databases[loader->database];
    uint32_t shard = database->shards[0], server = loader->primaries[shard];
    const ServerConfig *home = server < loader->config->server_count ? loader->config->servers[server]
                                                                     : loader->config->shards[shard].primary;
    PgLogin login = control_login(loader->config, database, home);
    pg_client_run(&loader->client, &login, queries, count, ROUND_TIMEOUT_MS);
}

static void loader_begin(CatalogLoader *loader)
{
    assert(!loader->running);
    timer_stop(&loader->timer);
    loader->running = true;
    loader->round++;
    loader_run(loader, &CATALOG_QUERIES[CATALOG_ASK_DIGEST], 1);
}

static void loader_on_time(Timer *timer)
{
    loader_begin(timer->ctx);
}

uint64_t catalog_loader_refresh(CatalogLoader *loader)
{
    if (!loader->running) {
        loader_begin(loader);
        return loader->round;
    }
    /* The running round may have looked before the change. */
    loader->again = true;
    return loader->round + 1;
}

static bool loader_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    CatalogLoader *loader = client->ctx;
    if (loader->reading)
        return catalog_rows_take(loader, (CatalogQuestion)index, rows, err);
    if (pg_u64(rows, 0, 0) != loader->digest || loader->version == 0)
        loader->reading = true;
    return true;
}

/* Ends the round and arms the next one. */
static void round_end(CatalogLoader *loader, const Error *err)
{
    uint64_t round = loader->round;
    const DatabaseConfig *database = &loader->config->databases[loader->database];
    if (err && !loader->down)
        log_line(LOG_WARNING, "catalog", "database %s: %s (%s)", database->name, err->message,
                 loader->client.why);
    else if (!err && loader->down)
        log_line(LOG_INFO, "catalog", "database %s: the home shard answers again", database->name);
    loader->down = err != NULL;
    loader->reading = loader->running = false;
    catalog_free(loader->next);
    loader->next = NULL;
    if (loader->again) {
        loader->again = false;
        loader_begin(loader);
    } else {
        timer_start_ms(&loader->timer, err ? RETRY_MS : loader->config->catalog_poll_ms);
    }
    loader->events->on_round(loader, round, err);
}

static void loader_on_oids(OidReader *reader, bool changed)
{
    CatalogLoader *loader = reader->ctx;
    if (changed)
        loader->events->on_oids(loader);
    round_end(loader, NULL);
}

/* The home shard has told; the others say what they call the same. */
static void round_rest(CatalogLoader *loader)
{
    if (!oid_reader_run(&loader->oids))
        round_end(loader, NULL);
}

static void loader_on_done(PgClient *client, const Error *err)
{
    CatalogLoader *loader = client->ctx;
    if (err) {
        round_end(loader, err);
        return;
    }
    if (!loader->reading) {
        round_rest(loader);
        return;
    }
    if (!loader->next) {
        loader->next = catalog_create();
        if (!loader->next) {
            Error oom;
            error_set(&oom, SQLSTATE_OUT_OF_MEMORY, "out of memory while reading the catalog");
            round_end(loader, &oom);
            return;
        }
        loader_run(loader, CATALOG_QUERIES, CATALOG_QUESTION_COUNT);
        return;
    }
    Catalog *catalog = loader->next;
    loader->next = NULL;
    catalog->loaded = true;
    catalog->version = ++loader->version;
    loader->digest = catalog->digest;
    loader->events->on_catalog(loader, catalog);
    round_rest(loader);
}
