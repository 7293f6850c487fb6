/*
 * pool_set.c - all pools of one worker: found by (server, database, user), kept in step with the
 * configuration, looked at when the turn ends and ten times a second.
 *
 * A Pool lives as long as its set, because sessions and batches point to it; one that is no longer
 * configured closes its connections as they become free and costs a few hundred bytes.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/backend_internal.h"
#include "core/log.h"

#define TICK_MS 100u

typedef struct PoolKey {
    const char *server, *database; /* names */
    Slice user;
    bool user_forced;
} PoolKey;

static void pool_set_on_tick(Timer *timer);
static PoolLimits limits_of(const Config *config);
static uint64_t pool_hash(const PoolKey *key);
static bool pool_equal(const void *item, const void *key);
static Pool *pool_create(PoolSet *set, const ServerConfig *server, const DatabaseConfig *database,
                         const char *user, bool user_forced);
static void pool_destroy(Pool *pool);
static void pool_adopt(Pool *pool, const Config *config);
static bool pool_set_strings(Pool *pool, const ServerConfig *server, const DatabaseConfig *database,
                             const char *password);
static bool pool_settled(const Pool *pool);
static bool text_replace(char **at, const char *text, bool *ret_changed);
static bool text_equal(const char *a, const char *b);

PoolSet *pool_set_create(Loop *loop, Inbox *inbox, Canceller *canceller, uint32_t workers,
                         PreparedSet *prepared, GucSet *gucs, const PoolEvents *events)
{
    PoolSet *set = calloc(1, sizeof(*set));
    if (!set)
        return NULL;
    set->loop = loop;
    set->inbox = inbox;
    set->canceller = canceller;
    set->workers = MAX(1, workers);
    set->prepared = prepared;
    set->gucs = gucs;
    if (events)
        set->events = *events;
    map_init(&set->by_name, pool_equal);
    list_init(&set->pools);
    list_init(&set->dirty);
    list_init(&set->attention);
    list_init(&set->cancels);
    timer_init(&set->tick, loop, pool_set_on_tick, set);
    return set;
}

void pool_set_destroy(PoolSet *set)
{
    if (!set)
        return;
    timer_stop(&set->tick);
    LIST_EACH_SAFE (link, &set->pools)
        pool_destroy(list_entry(link, Pool, link));
    LIST_EACH_SAFE (link,
                    &set->cancels) { /* their threads are gone, and their mail with the inbox */
        CancelJob *job = list_entry(link, CancelJob, link);
        list_remove(&job->link);
        cancel_job_free(job);
    }
    map_finish(&set->by_name);
    free(set);
}

/* ---- the configuration ---------------------------------------------------------------------- */

void pool_set_adopt(PoolSet *set, const Topology *topology)
{
    uint64_t version = 0;
    for (uint32_t i = 0; topology->catalogs && i < topology->config->database_count; i++)
        version += topology->catalogs[i]->version;
    if (version != set->catalog_version)
        prepared_schema_changed(set->prepared);
    set->catalog_version = version;
    set->limits = limits_of(topology->config);
    set->topology = topology;
    LIST_EACH (link, &set->pools)
        pool_adopt(list_entry(link, Pool, link), topology->config);
}

ServerIdentity pool_identity(const Pool *pool)
{
    const Topology *topology = pool->set->topology;
    bool known = topology && topology->stamps && pool->server.index < topology->config->server_count;
    return known ? identity_of(topology, &pool->server) : (ServerIdentity){0};
}

static PoolLimits limits_of(const Config *config)
{
    return (PoolLimits){
        .query_wait_timeout_ms = config->query_wait_timeout_ms,
        .connect_timeout_ms = MAX(1, config->server_connect_timeout_ms),
        .idle_timeout_ms = config->server_idle_timeout_ms,
        .lifetime_ms = config->server_lifetime_ms,
        .statements_max = config->server_statements_max,
        .tcp_user_timeout_ms = config->tcp_user_timeout_ms,
        .message_max = config->message_max,
        .server_message_max = config->server_message_max,
        .output_high = config->output_high,
    };
}

static void pool_adopt(Pool *pool, const Config *config)
{
    const ServerConfig *server = NULL;
    for (uint32_t i = 0; i < config->server_count; i++)
        if (strcmp(config->servers[i]->name, pool->server.name) == 0)
            server = config->servers[i];
    const DatabaseConfig *database = NULL;
    for (uint32_t i = 0; i < config->database_count; i++)
        if (strcmp(config->databases[i].name, pool->database) == 0)
            database = &config->databases[i];
    bool forced = database && database->server_user;
    if (server && database) { /* RELOAD may number them anew */
        pool->server.shard = server->shard;
        pool->database_index = database->index;
    }
    pool->gone = !server || !database || forced != pool->user_forced ||
                 (forced && strcmp(database->server_user, pool->user) != 0);
    bool primary = pool_identity(pool).primary;
    if (primary != pool->primary)
        pool->down = false; /* it was refused for what it was */
    pool->primary = primary;
    if (!pool->gone) {
        const char *password = database->server_password;
        for (uint32_t i = 0; i < config->user_count && !password; i++)
            if (strcmp(config->users[i].name, pool->user) == 0)
                password = config->users[i].password;
        if (!pool_set_strings(pool, server, database, password))
            log_line(LOG_WARNING, pool->name, "out of memory; it keeps its old configuration");
    }
    pool_touch(pool);
}

/* A sink that hears of its loss may change the lists: each round begins at the head again. */
static void pool_drop(Pool *pool, const Error *err)
{
    List *lists[] = {&pool->connecting, &pool->idle, &pool->busy, &pool->held};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        List *link;
        while ((link = list_first(lists[i]))) {
            Backend *backend = list_entry(link, Backend, link);
            if (!list_empty(&backend->inflight) || backend->holder)
                backend_lose(backend, err);
            else
                backend_close(backend);
        }
    }
}

void pool_set_drop_server(PoolSet *set, const char *server, const Error *err)
{
    LIST_EACH (link, &set->pools) {
        Pool *pool = list_entry(link, Pool, link);
        if (strcmp(pool->server.name, server) != 0)
            continue;
        pool_drop(pool, err);
        pool_fail_waiting(pool, err);
        pool_touch(pool);
    }
}

/* Backends of one server, in all its pools. */
static void server_hold(PoolSet *set, const char *server, const Error *why)
{
    LIST_EACH (link, &set->pools) {
        Pool *pool = list_entry(link, Pool, link);
        List *lists[] = {&pool->connecting, &pool->idle, &pool->busy, &pool->held};
        if (strcmp(pool->server.name, server) != 0)
            continue;
        pool->doubted = why != NULL;
        if (why)
            pool->doubt = *why;
        for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
            LIST_EACH (of, lists[i]) {
                Stream *stream = &list_entry(of, Backend, link)->stream;
                stream->held = why != NULL;
                if (!why && stream->state == STREAM_OPEN && buf_len(&stream->out))
                    stream_touch(stream);
            }
        }
        pool_touch(pool);
    }
}

void pool_set_hold_server(PoolSet *set, const char *server, const Error *why)
{
    server_hold(set, server, why);
}

void pool_set_release_server(PoolSet *set, const char *server)
{
    server_hold(set, server, NULL);
}

/* ---- pools ---------------------------------------------------------------------------------- */

Pool *pool_get(PoolSet *set, const ServerConfig *server, const DatabaseConfig *database,
               const UserConfig *user, Slice user_name)
{
    bool forced = database->server_user != NULL;
    PoolKey key = {.server = server->name,
                   .database = database->name,
                   .user_forced = forced,
                   .user = forced ? slice_str(database->server_user) : user_name};
    uint64_t hash = pool_hash(&key);
    Pool *pool = map_get(&set->by_name, hash, &key);
    if (pool)
        return pool;
    char *text = strndup((const char *)key.user.data, key.user.len);
    pool = text ? pool_create(set, server, database, text, forced) : NULL;
    free(text);
    const char *password = database->server_password ? database->server_password
                           : user                    ? user->password
                                                     : NULL;
    if (pool && (!pool_set_strings(pool, server, database, password) ||
                 !map_put(&set->by_name, hash, pool))) {
        pool_destroy(pool);
        return NULL;
    }
    return pool;
}

static uint64_t pool_hash(const PoolKey *key)
{
    uint64_t hash = slice_hash(slice_str(key->server), 0) * 31 + slice_hash(key->user, 0);
    return hash * 31 + slice_hash(slice_str(key->database), 0) + key->user_forced;
}

static bool pool_equal(const void *item, const void *wanted)
{
    const Pool *pool = item;
    const PoolKey *key = wanted;
    return pool->user_forced == key->user_forced && slice_is(key->user, pool->user) &&
           strcmp(pool->database, key->database) == 0 &&
           strcmp(pool->server.name, key->server) == 0;
}

static Pool *pool_create(PoolSet *set, const ServerConfig *server, const DatabaseConfig *database,
                         const char *user, bool user_forced)
{
    Pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        return NULL;
    pool->set = set;
    pool->id = ++set->next_pool_id;
    pool->user_forced = user_forced;
    pool->unsure = true;
    pool->database_index = database->index;
    list_init(&pool->link);
    list_init(&pool->dirty);
    list_init(&pool->connecting);
    list_init(&pool->idle);
    list_init(&pool->busy);
    list_init(&pool->held);
    list_init(&pool->dead);
    list_init(&pool->waiting);
    list_init(&pool->refused);
    list_init(&pool->warmers);
    list_push(&set->pools, &pool->link);
    pool->user = strdup(user);
    pool->database = strdup(database->name);
    if (!pool->user || !pool->database ||
        asprintf(&pool->name, "%s %s/%s", server->name, database->name, user) < 0) {
        pool->name = NULL;
        pool_destroy(pool);
        return NULL;
    }
    return pool;
}

/* What connections are opened with. A change of it makes the old ones go when they are free. */
static bool pool_set_strings(Pool *pool, const ServerConfig *server, const DatabaseConfig *database,
                             const char *password)
{
    ServerConfig old = pool->server;
    char *name = pool->server_texts[0], *conninfo = pool->server_texts[1];
    char *host = pool->server_texts[2];
    bool changed = false, named = false;
    bool ok = text_replace(&name, server->name, &named); /* each is tried, whatever became of it */
    ok = text_replace(&conninfo, server->conninfo, &changed) && ok;
    ok = text_replace(&host, server->host, &changed) && ok;
    ok = text_replace(&pool->dbname, database->dbname ? database->dbname : database->name,
                      &changed) && ok;
    ok = text_replace(&pool->password, password, &changed) && ok;
    pool->server = *server;
    pool->server.name = pool->server_texts[0] = name;
    pool->server.conninfo = pool->server_texts[1] = conninfo;
    pool->server.host = pool->server_texts[2] = host;
    changed |= old.port != server->port;
    pool->generation += changed;
    if (changed)
        pool->down = false; /* another address, another try */
    uint32_t workers = pool->set->workers;
    pool->size = MAX(1, (database->pool_size + workers - 1) / workers);
    return ok;
}

static void pool_destroy(Pool *pool)
{
    Error err;
    error_set(&err, SQLSTATE_ADMIN_SHUTDOWN, "terminating connection due to administrator command");
    error_detail(&err, "Shoal is shutting down.");
    List *lists[] = {&pool->connecting, &pool->idle, &pool->busy, &pool->held};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        LIST_EACH_SAFE (link, lists[i]) {
            Backend *backend = list_entry(link, Backend, link);
            if (!list_empty(&backend->inflight))
                backend_lose(backend, &err);
            else
                backend_close(backend);
        }
    List *queues[] = {&pool->waiting, &pool->refused};
    for (size_t i = 0; i < ARRAY_LEN(queues); i++)
        for (List *link = list_pop(queues[i]); link; link = list_pop(queues[i])) {
            Task *task = list_entry(link, Task, link);
            task_move(task, TASK_DONE);
            task->sink->ops->on_lost(task->sink, task, &err, false);
        }
    pool_reap(pool);
    list_remove(&pool->link);
    list_remove(&pool->dirty);
    while (list_pop(&pool->warmers)) {
    }
    for (size_t i = 0; i < ARRAY_LEN(pool->server_texts); i++)
        free(pool->server_texts[i]);
    for (size_t i = 0; i < PARAMETERS_MAX; i++)
        free(pool->values[i]);
    free(pool->name);
    free(pool->database);
    free(pool->dbname);
    free(pool->user);
    free(pool->password);
    free(pool);
}

Pool *pool_set_next(PoolSet *set, size_t *cursor)
{
    size_t i = 0;
    LIST_EACH (link, &set->pools)
        if (i++ == *cursor) {
            ++*cursor;
            return list_entry(link, Pool, link);
        }
    return NULL;
}

/* ---- turns and time ------------------------------------------------------------------------- */

void pool_set_turn_end(PoolSet *set)
{
    List dirty; /* what becomes dirty again waits for the next turn */
    for (List *link = list_pop(&set->attention); link; link = list_pop(&set->attention))
        conversation_answer(list_entry(link, Backend, attention));
    list_init(&dirty);
    list_splice(&dirty, &set->dirty);
    bool active = !list_empty(&dirty);
    for (List *link = list_pop(&dirty); link; link = list_pop(&dirty)) {
        Pool *pool = list_entry(link, Pool, dirty);
        pool_dispatch(pool);
        pool_reap(pool);
        pool_gauge(pool);
        if (pool_settled(pool)) /* touched by nothing but this dispatch itself: no turn for that */
            list_remove(&pool->dirty);
    }
    set->turn_us = set->loop->now_us;
    if (!list_empty(&set->dirty) || !list_empty(&set->attention))
        loop_again(set->loop);
    if (active && !timer_armed(&set->tick))
        timer_start_ms(&set->tick, TICK_MS);
}

static void pool_set_on_tick(Timer *timer)
{
    PoolSet *set = timer->ctx;
    bool active = false;
    LIST_EACH_SAFE (link, &set->pools) {
        Pool *pool = list_entry(link, Pool, link);
        pool_tick(pool, set->loop->now_us);
        active |= pool_active(pool);
    }
    if (active)
        timer_start_ms(timer, TICK_MS);
}

/* ---- texts ---------------------------------------------------------------------------------- */

/* Frees nothing that is still the same, so that an unchanged pool stays as it is. */
static bool text_replace(char **at, const char *text, bool *ret_changed)
{
    if (text_equal(*at, text))
        return true;
    char *copy = text ? strdup(text) : NULL;
    if (text && !copy)
        return false;
    *ret_changed |= *at != NULL || text == NULL;
    free(*at);
    *at = copy;
    return true;
}

static bool text_equal(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool pool_settled(const Pool *pool)
{
    return list_empty(&pool->waiting) && list_empty(&pool->dead) && list_empty(&pool->refused) &&
           list_empty(&pool->warmers);
}
