/*
 * control.h - the control thread: the one who knows the cluster, and tells the workers.
 *
 *     shards.ini ──RELOAD──> Config  ┐
 *     store (SQLite) ──────> Map     ├─> Topology ──published──> workers
 *     home shards ──loader─> Catalog ┘
 *     sessions ──Call──> console, shoal.*() functions ──answer──> sessions
 *
 * It owns the store, the catalogs, the probes and its loop; in shoald the main thread is it.
 * Nothing on the data path ever waits for it, and it never waits for a server: all it asks of
 * PostgreSQL is asked by PgClient in its loop.
 *
 *     control_create -> (workers are made) -> control_set_workers -> control_run
 *         -> on_ready: catalogs were read (or could not be): start the listeners
 *         -> on_stop:  SHUTDOWN or a signal: stop the workers, then control_end
 *     -> control_destroy, when the workers are gone
 */
#ifndef SHOAL_ADMIN_CONTROL_H
#define SHOAL_ADMIN_CONTROL_H

#include "core/published.h"
#include "meta/config.h"
#include "router/worker.h"

typedef struct Control Control;

typedef struct ControlOptions {
    const char *config_path; /* what RELOAD reads; outlives Control */
    Published *topologies;   /* initialised by the caller; only Control publishes into it */
    /* Once, in the first turns of control_run. */
    void (*on_ready)(void *ctx);
    /* No more Calls are taken. May come a second time with a shorter grace. */
    void (*on_stop)(void *ctx, uint32_t grace_ms);
    void *ctx;
} ControlOptions;

/* Opens the store and publishes the first Topology (with catalogs not yet loaded). Takes the config
 * over, also on failure. Errors of the store and of shards.ini against the store come from here. */
Control *control_create(const ControlOptions *options, Config *config, Error *err) MUST_USE;
/* The workers have stopped and been joined; the Published may still hold topologies. */
void control_destroy(Control *control);

/* For WorkerOptions.control and .on_call. */
Inbox *control_inbox(Control *control);
void control_on_call(Mail *mail, void *owner);
void control_set_workers(Control *control, Worker *const *workers, uint32_t count);
Loop *control_loop(Control *control);
const Config *control_config(const Control *control);
/* For WorkerOptions.gid: constant after control_create. */
const GidPrefix *control_gid(const Control *control);

/* The loop; returns after control_end. */
void control_run(Control *control);
/* What SIGHUP and RELOAD do. An error leaves everything as it was. *ret_restart: names of changed
 * settings that need a restart, in the arena, or NULL. */
bool control_reload(Control *control, Arena *arena, const char **ret_restart, Error *err) MUST_USE;
/* What SIGTERM and SHUTDOWN do: calls on_stop as soon as no mail is on its way through the workers.
 */
void control_request_stop(Control *control, uint32_t grace_ms);
/* The workers are gone: control_run returns. */
void control_end(Control *control);

#endif
