/*
 * control.c - the control thread: how it comes to be, what it is asked, and how it ends.
 *
 * Order of birth: loop, inbox, config, store, map, tables, catalogs (empty), first topology (parts.c); then,
 * when the loop runs, loaders and probes. Death is the opposite. Everything that replaces a part
 * (RELOAD, a catalog, a distributed table) ends in control_publish.
 */
#include "admin/control_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/answer.h"
#include "admin/console.h"
#include "admin/functions.h"
#include "admin/moves.h"
#include "admin/resolve.h"
#include "admin/row_fill_end.h"
#include "core/clock.h"

#define COLLECT_MS         1000
#define HTTP_RETRY_MS      5000
#define READY_MS           3000 /* a home shard that does not answer must not hold up the others' start */

static void control_start(Control *control);
static void control_open_http(Timer *timer);
static void loaders_start(Control *control);
static void loaders_finish(Control *control);
static void epoch_begin(Control *control);
static void control_on_collect(Timer *timer);
static void control_on_ready_time(Timer *timer);
static void control_on_catalog(CatalogLoader *loader, Catalog *catalog);
static void control_on_oids(CatalogLoader *loader);
static void control_on_round(CatalogLoader *loader, uint64_t round, const Error *err);

static const CatalogLoaderEvents LOADER_EVENTS = {.on_catalog = control_on_catalog,
                                                  .on_oids = control_on_oids,
                                                  .on_round = control_on_round};

/* ---- members: shards that have joined (admin/shard_add.h) -------------------------------------- */

static bool members_store(Control *control, const Config *config, Error *err)
{
    Arena arena;
    arena_init(&arena, 1024);
    const char **names = arena_array(&arena, const char *, config->shard_count);
    for (uint32_t i = 0; names && i < config->shard_count; i++)
        names[i] = config->shards[i].name;
    bool ok = names ? store_put_members(control->store, names, config->shard_count, err) : control_out_of_memory(err);
    arena_finish(&arena);
    return ok;
}

/* At the start: the store's order. A store that knows none yet has just been made, or was made before
 * there were members: then all shards of the file are. */
static bool members_apply(Control *control, Config *config, bool *ret_new, Error *err)
{
    Arena arena;
    const char **names;
    uint32_t count, written = config->shard_count;
    arena_init(&arena, 1024);
    bool ok = store_load_members(control->store, &arena, &names, &count, err) &&
              (count == 0 || config_arrange(config, names, count, NULL, err));
    *ret_new = ok && count == 0;
    arena_finish(&arena);
    if (ok && config->shard_count < written)
        log_line(LOG_WARNING, "control", "%u shards of %s have not joined yet: SHARD ADD", written - config->shard_count,
                 config->path);
    return ok;
}

Control *control_create(const ControlOptions *options, Config *config, Error *err)
{
    Control *control = calloc(1, sizeof *control);
    if (!control || !loop_init(&control->loop)) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while starting");
        free(control);
        config_free(config);
        return NULL;
    }
    control->options = *options;
    control->started_wall_us = clock_wall_us();
    list_init(&control->jobs);
    list_init(&control->switches);
    list_init(&control->moves.list);
    inbox_open(&control->inbox, &control->loop, control);
    arena_init(&control->tables_arena, 4096);
    timer_init(&control->adoption_timer, &control->loop, jobs_on_adoption_time, control);
    timer_init(&control->collect_timer, &control->loop, control_on_collect, control);
    timer_init(&control->ready_timer, &control->loop, control_on_ready_time, control);
    timer_init(&control->http_timer, &control->loop, control_open_http, control);
    control->store = store_open(config->store, config->buckets, config, err);
    if (!control->store) {
        config_free(config);
        control_destroy(control);
        return NULL;
    }
    bool new_members;
    if (!members_apply(control, config, &new_members, err) || !failover_init(control, config, err)) {
        config_free(config);
        control_destroy(control);
        return NULL;
    }
    if (!control_load_parts(control, config, err)) {
        control_destroy(control);
        return NULL;
    }
    /* What cannot be written now is the same at the next start: no reason not to serve (M1). */
    if (new_members && !members_store(control, control->config, err))
        log_error("store", err);
    epoch_begin(control);
    return control;
}

Inbox *control_inbox(Control *control)
{
    return &control->inbox;
}

Loop *control_loop(Control *control)
{
    return &control->loop;
}

const Config *control_config(const Control *control)
{
    return control->config;
}

const GidPrefix *control_gid(const Control *control)
{
    return &control->gid;
}

void control_set_workers(Control *control, Worker *const *workers, uint32_t count)
{
    control->workers = workers;
    control->worker_count = count;
}

void control_run(Control *control)
{
    control_start(control);
    loop_run(&control->loop);
}

static void probes_start(Control *control)
{
    const ProbeEvents events = {control_event, failover_on_primary, control};
    if (!probes_init(&control->probes, &control->loop, control->config, control->standings,
                     control->roles, &events))
        log_line(LOG_ERROR, "control", "out of memory: servers are not watched");
}

/* Before any transaction gets a name. A store that cannot be written does not keep single shards from
 * working: only commits over several of them are refused (M1). */
static void epoch_begin(Control *control)
{
    char router_id[STORE_ROUTER_ID_SIZE] = "0";
    uint64_t epoch = 0;
    Error err;
    if (!store_next_epoch(control->store, router_id, &epoch, &err)) {
        log_error("store", &err);
        log_line(LOG_ERROR, "store", "transactions over several shards are refused until a restart");
        epoch = 0;
    }
    gid_prefix_init(&control->gid, store_cluster_id(control->store), router_id, epoch);
}

static void control_start(Control *control)
{
    loaders_start(control);
    moves_init(control);
    probes_start(control);
    if (!history_start(&control->history, &control->loop, control->workers, control->worker_count))
        log_line(LOG_ERROR, "control", "out of memory: there is no history");
    bucket_load_start(&control->bucket_load, &control->loop, control->workers, control->worker_count);
    control_open_http(&control->http_timer);
    if (!recovery_init(&control->recovery, control))
        log_line(LOG_ERROR, "control", "out of memory: prepared transactions are not recovered");
    row_fill_end_begin(control, NULL, NULL);
    if (!deadlock_init(&control->deadlock, control))
        log_line(LOG_ERROR, "control", "out of memory: deadlocks over shards are not found");
    timer_start_ms(&control->collect_timer, COLLECT_MS);
    timer_start_ms(&control->ready_timer, control->config->database_count ? READY_MS : 0);
}

/* Metrics and the web page are no reason not to carry queries: a port that cannot be had is tried
 * again. */
static void control_open_http(Timer *timer)
{
    Control *control = timer->ctx;
    Error err;
    if (control->config->http_port == 0 || control->http)
        return;
    control->http = http_open(control, &err);
    if (control->http) {
        if (control->http_complained)
            control_event(control, LOG_INFO, "http", "the HTTP port is there now");
        return;
    }
    if (!control->http_complained)
        control_event(control, LOG_WARNING, "http", err.message);
    control->http_complained = true;
    timer_start_ms(timer, HTTP_RETRY_MS);
}

/* Topologies that long statements held on to are freed here. */
static void control_on_collect(Timer *timer)
{
    Control *control = timer->ctx;
    published_collect(control->options.topologies);
    timer_start_ms(timer, COLLECT_MS);
}

/* ---- reload ---------------------------------------------------------------------------------- */

/* A new [shard] section is not seen by RELOAD: it joins by SHARD ADD. */
static bool members_keep(const Control *control, Config *config, Arena *arena, Error *err)
{
    const Config *now = control->config;
    const char **names = arena_array(arena, const char *, now->shard_count);
    if (!names)
        return control_out_of_memory(err);
    for (uint32_t i = 0; i < now->shard_count; i++)
        names[i] = now->shards[i].name;
    return config_arrange(config, names, now->shard_count, NULL, err);
}

/* Who holds pointers into the Config that was replaced begins anew. */
static void config_changed(Control *control)
{
    loaders_finish(control);
    loaders_start(control);
    if (!probes_restart(&control->probes, control->config, control->standings, control->roles))
        log_line(LOG_ERROR, "control", "out of memory: servers are not watched");
}

bool control_adopt_shard(Control *control, Config *config, Error *err)
{
    if (control->stopping || !members_store(control, config, err)) {
        if (control->stopping)
            error_set(err, SQLSTATE_ADMIN_SHUTDOWN, "Shoal is shutting down");
        config_free(config);
        return false;
    }
    /* They count shards, and the topology of the new ones asks them. */
    Config *old = control->config;
    Error again;
    if (!failover_grow(control, config, err)) {
        if (!members_store(control, old, &again))
            log_error("store", &again);
        config_free(config);
        return false;
    }
    control->config = config;
    bool grown = recovery_grow(&control->recovery, control);
    control->config = old;
    deadlock_finish(&control->deadlock);
    bool ok = control_load_parts(control, config, err);
    if (!ok && !members_store(control, old, &again))
        log_error("store", &again);
    config_changed(control);
    if (!grown || (!ok && !recovery_grow(&control->recovery, control)))
        log_line(LOG_ERROR, "control", "out of memory: prepared transactions are not recovered");
    if (!deadlock_init(&control->deadlock, control))
        log_line(LOG_ERROR, "control", "out of memory: deadlocks over shards are not found");
    if (ok)
        control_event(control, LOG_INFO, "shard", "a shard has joined");
    return ok;
}

bool control_reload(Control *control, Arena *arena, const char **ret_restart, Error *err)
{
    if (control->stopping) {
        error_set(err, SQLSTATE_ADMIN_SHUTDOWN, "Shoal is shutting down");
        return false;
    }
    if (control->distribute || control->shard_joining) {
        error_set(err, SQLSTATE_OBJECT_IN_USE, "a table is being distributed, or a shard is joining");
        error_hint(err, "Try again when it is done.");
        return false;
    }
    Config *config = config_load(control->options.config_path, err);
    if (!config)
        return false;
    if (!members_keep(control, config, arena, err)) {
        config_free(config);
        return false;
    }
    const char *restart = config_restart_needed(control->config, config, arena);
    /* A Config is adopted as a whole. Settings of the process just stay as they are; shards and
     * databases that differ would be half old, half new. */
    if (restart && strchr(restart, '[')) {
        error_set(err, SQLSTATE_CONFIG_FILE, "%s changed in a way that needs a restart: %s",
                  control->options.config_path, restart);
        error_hint(err, "Nothing was changed. Restart shoald, or take the change back.");
        config_free(config);
        return false;
    }
    if (!control_load_parts(control, config, err))
        return false;
    *ret_restart = restart;
    config_changed(control);
    control_event(control, LOG_INFO, "reload", "configuration was read again");
    return true;
}

/* ---- catalogs -------------------------------------------------------------------------------- */

static void loaders_start(Control *control)
{
    uint32_t count = control->config->database_count;
    control->loaders = calloc(MAX(count, 1), sizeof *control->loaders);
    if (!control->loaders) {
        log_line(LOG_ERROR, "control", "out of memory: catalogs are not read");
        return;
    }
    control->loader_count = count;
    for (uint32_t i = 0; i < count; i++)
        catalog_loader_init(&control->loaders[i], &control->loop, control->config, i,
                            control->primaries, control->catalogs[i], &LOADER_EVENTS, control);
}

/* Who waits for a round of a loader that goes is let go: its catalog is read anew in any case. */
static void loaders_finish(Control *control)
{
    for (uint32_t i = 0; i < control->loader_count; i++)
        catalog_loader_finish(&control->loaders[i]);
    free(control->loaders);
    control->loaders = NULL;
    uint32_t count = control->loader_count;
    control->loader_count = 0;
    for (uint32_t i = 0; i < count; i++)
        jobs_on_round(control, i, UINT64_MAX, NULL);
}

static void control_on_catalog(CatalogLoader *loader, Catalog *catalog)
{
    Control *control = loader->ctx;
    const DatabaseConfig *database = &control->config->databases[loader->database];
    Catalog *old = control->catalogs[loader->database];
    control->catalogs[loader->database] = catalog;
    Error err;
    if (!control_publish(control, &err)) {
        log_error("control", &err);
        control->catalogs[loader->database] = old;
        catalog_free(catalog);
        return;
    }
    log_line(LOG_INFO, "catalog", "database %s: version %" PRIu64 ", %zu tables, PostgreSQL %d",
             database->name, catalog->version, catalog->tables.count, catalog->server_version);
    catalog_free(old);
}

static void control_on_oids(CatalogLoader *loader)
{
    Control *control = loader->ctx;
    Error err;
    oid_book_take(&control->oids, &loader->oids);
    if (!control_publish(control, &err))
        log_error("control", &err);
}

static bool loaders_tried(const Control *control)
{
    for (uint32_t i = 0; i < control->loader_count; i++) {
        if (control->loaders[i].round == 0 ||
            (control->loaders[i].round == 1 && control->loaders[i].running))
            return false;
    }
    return true;
}

void control_try_ready(Control *control)
{
    if (!control->ready && !control->stopping && loaders_tried(control) &&
        (control->recovery.first_done || !control->recovery.control))
        timer_start_ms(&control->ready_timer, 0);
}

static void control_on_round(CatalogLoader *loader, uint64_t round, const Error *err)
{
    Control *control = loader->ctx;
    control_try_ready(control);
    jobs_on_round(control, loader->database, round, err);
}

static void control_on_ready_time(Timer *timer)
{
    Control *control = timer->ctx;
    if (control->ready || control->stopping)
        return;
    control->ready = true;
    control->options.on_ready(control->options.ctx);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void catalog_job_on_adopted(Job *job)
{
    job_end(job, NULL);
}

/* Also after a failed round: the statement itself was done, and the last catalog stays in force. */
static void catalog_job_on_round(Job *job, const Error *err)
{
    job_wait_adoption(job, catalog_job_on_adopted);
}

static void catalog_job_free(Job *job)
{
    free(job);
}

static void control_call_catalog(Control *control, Call *call)
{
    const DatabaseConfig *database = config_database(control->config, slice_str(call->database));
    Job *job = database && control->loader_count ? calloc(1, sizeof *job) : NULL;
    if (!job) {
        control_answer(control, call);
        return;
    }
    job_start(job, control, call, catalog_job_free);
    job_wait_round(job, database->index, catalog_job_on_round);
}

void control_on_call(Mail *mail, void *owner)
{
    Control *control = owner;
    Call *call = container_of(mail, Call, mail);
    if (control->stopping) {
        Error err;
        error_set(&err, SQLSTATE_ADMIN_SHUTDOWN, "Shoal is shutting down");
        answer_error(call, &err);
        control_answer(control, call);
        return;
    }
    switch (call->kind) {
    case CALL_CONSOLE:
        console_run(control, call);
        return;
    case CALL_FUNCTION:
        functions_run(control, call);
        return;
    case CALL_CATALOG:
        control_call_catalog(control, call);
        return;
    case CALL_RESOLVE:
        resolve_call(control, call);
        return;
    }
}

void control_answer(Control *control, Call *call)
{
    if (control->stop_told || control->ended) { /* the worker may take no more mail */
        call->mail.next = control->parked;
        control->parked = &call->mail;
        return;
    }
    call->mail.on_delivery = call->on_reply;
    inbox_send(call->reply, &call->mail);
}

void control_event(void *ctx, LogLevel level, const char *kind, const char *text)
{
    Control *control = ctx;
    log_line(level, kind, "%s", text);
    Error err;
    if (!store_add_event(control->store, kind, text, &err)) {
        control->store_errors++;
        log_error("store", &err);
    }
}

/* ---- the end --------------------------------------------------------------------------------- */

void control_request_stop(Control *control, uint32_t grace_ms)
{
    bool first = !control->stopping;
    control->stopping = true;
    control->grace_ms = first ? grace_ms : MIN(grace_ms, control->grace_ms);
    if (first) {
        control_event(control, LOG_INFO, "shutdown", "shutting down");
        timer_stop(&control->ready_timer);
        timer_stop(&control->http_timer);
        http_refuse(control->http);
        probes_finish(&control->probes);
        recovery_finish(&control->recovery);
        row_fill_end_forget(control);
        row_fill_end_stop(control);
        deadlock_finish(&control->deadlock);
        Error err;
        error_set(&err, SQLSTATE_ADMIN_SHUTDOWN, "Shoal is shutting down");
        jobs_end_all(control, &err);
        moves_finish(control);
        loaders_finish(control);
    }
    control_stop_if_due(control);
}

void control_stop_if_due(Control *control)
{
    if (!control->stopping || control->reports > 0)
        return;
    control->stop_told = true;
    control->options.on_stop(control->options.ctx, control->grace_ms);
}

void control_end(Control *control)
{
    control->ended = true;
    timer_stop(&control->collect_timer);
    http_close(control->http);
    control->http = NULL;
    history_finish(&control->history);
    bucket_load_finish(&control->bucket_load);
    loop_stop(&control->loop);
}

void control_destroy(Control *control)
{
    if (!control)
        return;
    control->ended = true;
    http_close(control->http);
    control->http = NULL;
    history_finish(&control->history);
    bucket_load_finish(&control->bucket_load);
    inbox_close(&control->inbox);
    Error err;
    error_set(&err, SQLSTATE_ADMIN_SHUTDOWN, "Shoal is shutting down");
    jobs_end_all(control, &err);
    moves_finish(control);
    probes_finish(&control->probes);
    recovery_finish(&control->recovery);
    row_fill_end_stop(control);
    deadlock_finish(&control->deadlock);
    loaders_finish(control);
    oid_book_finish(&control->oids);
    control_free_parts(control);
    arena_finish(&control->tables_arena);
    store_close(control->store);
    failover_finish(control);
    while (control->parked) {
        Mail *mail = control->parked;
        control->parked = mail->next;
        call_free(container_of(mail, Call, mail));
    }
    loop_finish(&control->loop);
    free(control);
}
