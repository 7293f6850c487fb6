/*
 * shoald.c - the composition root: what there is, in which order it is born, and in which it dies.
 *
 *     birth   config -> TLS -> published -> control (store, first topology) -> canceller -> workers
 *             -> control runs: catalogs are read -> listeners open, threads start -> "ready"
 *     death   SIGTERM, SIGINT or SHUTDOWN -> workers stop (listeners closed, sessions end as they
 * become idle) -> a thread of its own joins them, so that the control loop goes on meanwhile and a
 * second signal is heard -> control's loop ends -> canceller, workers, control, published, TLS are
 * destroyed
 *
 * The main thread is the control thread. Signals are blocked everywhere else. The only exits of the
 * program are in main; nothing that comes from the wire leads to one.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include "admin/control.h"
#include "core/failpoint.h"
#include "core/log.h"
#include "bin/options.h"
#include "bin/port.h"
#include "bin/tls.h"

#define CANCEL_THREADS 4

/* Everything of the process; lives in main's stack. */
typedef struct Shoald {
    const Options *options;
    SSL_CTX *tls;
    Published topologies;
    Control *control;
    Canceller *canceller;
    Worker *workers[PUBLISHED_READERS_MAX];
    WriteEpochs epochs; /* of tables, for all workers */
    uint32_t worker_count, started;
    bool stop_asked; /* by a signal */
    pthread_t joiner;
    bool joining;
    Mail joined;
    ev_signal term, interrupt, hangup;
    int exit_code;
} Shoald;

static int shoald_run(Shoald *shoald, Config *config);
static int complain(const Error *err);
static int exit_code_of(const Error *err);
static int check_config(const Options *options);

int main(int argc, char **argv)
{
    Options options;
    Error err;
    if (!options_read(argc, argv, &options))
        return EX_USAGE;
    switch (options.what) {
    case OPTIONS_VERSION:
        printf("Shoal %s\n", SHOAL_VERSION);
        return EX_OK;
    case OPTIONS_HELP:
        options_help(argv[0]);
        return EX_OK;
    case OPTIONS_SETTINGS_MARKDOWN:
        config_write_markdown(stdout);
        return EX_OK;
    case OPTIONS_FAILPOINTS:
        failpoints_list(stdout);
        return EX_OK;
    case OPTIONS_CHECK_CONFIG:
        return check_config(&options);
    case OPTIONS_RUN:
        break;
    }
    const char *failpoints = getenv("SHOAL_FAILPOINT");
    if (failpoints && *failpoints && !failpoints_arm(failpoints, &err))
        return complain(&err);
    Config *config = config_load(options.config_path, &err);
    if (!config)
        return complain(&err);
    Shoald shoald = {.options = &options};
    return shoald_run(&shoald, config);
}

/* One line for the reason, and one each for detail and hint, as an operator wants to read them. */
static int complain(const Error *err)
{
    fprintf(stderr, "shoald: %s\n", err->message);
    if (err->detail[0])
        fprintf(stderr, "shoald: detail: %s\n", err->detail);
    if (err->hint[0])
        fprintf(stderr, "shoald: hint: %s\n", err->hint);
    return exit_code_of(err);
}

static int exit_code_of(const Error *err)
{
    static const struct {
        const char *sqlstate;
        int code;
    } CODES[] = {{SQLSTATE_CONFIG_FILE, EX_CONFIG},  {SQLSTATE_DATA_CORRUPTED, EX_DATAERR},
                 {SQLSTATE_IO_ERROR, EX_IOERR},      {SQLSTATE_OBJECT_IN_USE, EX_TEMPFAIL},
                 {SQLSTATE_OUT_OF_MEMORY, EX_OSERR}, {SQLSTATE_INTERNAL, EX_SOFTWARE}};
    for (size_t i = 0; i < ARRAY_LEN(CODES); i++) {
        if (error_is(err, CODES[i].sqlstate))
            return CODES[i].code;
    }
    return EX_UNAVAILABLE;
}

static int check_config(const Options *options)
{
    Error err;
    SSL_CTX *tls = NULL;
    Config *config = config_load(options->config_path, &err);
    bool ok = config && tls_context_make(config, &tls, &err);
    SSL_CTX_free(tls);
    config_free(config);
    if (!ok)
        return complain(&err);
    printf("%s: right\n", options->config_path);
    return EX_OK;
}

/* ---- birth ----------------------------------------------------------------------------------- */

/* One connection is one descriptor: as many as we are allowed. */
static void descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_line(LOG_WARNING, "shoald", "the limit of open files stays low: %s", strerror(errno));
}

static uint32_t worker_count_of(const Config *config)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t count = config->workers > 0 ? (uint32_t)config->workers : (uint32_t)MAX(1, cores / 2);
    return MIN(count, PUBLISHED_READERS_MAX);
}

/* Threads inherit the mask: signals are blocked whenever one is made, so that only the main thread
 * ever handles them. */
static void signals_mask(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(how, &set, NULL);
}

static void on_stop_signal(struct ev_loop *ev, ev_signal *watcher, int revents)
{
    Shoald *shoald = watcher->data;
    uint32_t grace_ms =
        shoald->stop_asked ? 0 : control_config(shoald->control)->shutdown_timeout_ms;
    shoald->stop_asked = true;
    control_request_stop(shoald->control, grace_ms);
}

static void on_reload_signal(struct ev_loop *ev, ev_signal *watcher, int revents)
{
    Shoald *shoald = watcher->data;
    Error err;
    Arena arena;
    const char *restart;
    arena_init(&arena, 1024);
    if (!control_reload(shoald->control, &arena, &restart, &err))
        log_error("reload", &err);
    else if (restart)
        log_line(LOG_WARNING, "reload", "these settings need a restart to take effect: %s",
                 restart);
    arena_finish(&arena);
}

static void signals_watch(Shoald *shoald)
{
    struct ev_loop *ev = control_loop(shoald->control)->ev;
    ev_signal_init(&shoald->term, on_stop_signal, SIGTERM);
    ev_signal_init(&shoald->interrupt, on_stop_signal, SIGINT);
    ev_signal_init(&shoald->hangup, on_reload_signal, SIGHUP);
    ev_signal *const watchers[] = {&shoald->term, &shoald->interrupt, &shoald->hangup};
    for (size_t i = 0; i < ARRAY_LEN(watchers); i++) {
        watchers[i]->data = shoald;
        ev_signal_start(ev, watchers[i]);
    }
    signals_mask(SIG_UNBLOCK);
}

static bool workers_create(Shoald *shoald, Error *err)
{
    uint32_t count = worker_count_of(control_config(shoald->control));
    for (uint32_t i = 0; i < count; i++) {
        WorkerOptions options = {.index = i,
                                 .count = count,
                                 .topologies = &shoald->topologies,
                                 .canceller = shoald->canceller,
                                 .control = control_inbox(shoald->control),
                                 .on_call = control_on_call,
                                 .all = shoald->workers,
                                 .tls = shoald->tls,
                                 .epochs = &shoald->epochs,
                                 .gid = control_gid(shoald->control)};
        shoald->workers[i] = worker_create(&options, err);
        if (!shoald->workers[i])
            return false;
        shoald->worker_count++;
    }
    control_set_workers(shoald->control, shoald->workers, count);
    return true;
}

static bool workers_start(Shoald *shoald, Error *err)
{
    bool ok = true;
    signals_mask(SIG_BLOCK);
    while (ok && shoald->started < shoald->worker_count) {
        ok = worker_start(shoald->workers[shoald->started], err);
        shoald->started += ok;
    }
    signals_mask(SIG_UNBLOCK);
    return ok;
}

static void shoald_on_ready(void *ctx)
{
    Shoald *shoald = ctx;
    const Config *config = control_config(shoald->control);
    Error err;
    if (!workers_start(shoald, &err)) {
        complain(&err);
        shoald->exit_code = EX_UNAVAILABLE;
        control_request_stop(shoald->control, 0);
        return;
    }
    fprintf(stderr, "shoald: ready on %s:%d\n", config->listen, config->port);
}

/* ---- death ----------------------------------------------------------------------------------- */

static void on_joined(Mail *mail, void *owner)
{
    control_end(owner);
}

static void *joiner_main(void *arg)
{
    Shoald *shoald = arg;
    for (uint32_t i = 0; i < shoald->started; i++)
        worker_join(shoald->workers[i]);
    shoald->joined.on_delivery = on_joined;
    inbox_send(control_inbox(shoald->control), &shoald->joined);
    return NULL;
}

static void shoald_on_stop(void *ctx, uint32_t grace_ms)
{
    Shoald *shoald = ctx;
    for (uint32_t i = 0; i < shoald->started; i++)
        worker_stop(shoald->workers[i], grace_ms);
    if (shoald->joining)
        return;
    signals_mask(SIG_BLOCK);
    shoald->joining = pthread_create(&shoald->joiner, NULL, joiner_main, shoald) == 0;
    signals_mask(SIG_UNBLOCK);
    if (shoald->joining)
        return;
    /* No thread to be had: wait here. */
    joiner_main(shoald);
}

static int shoald_run(Shoald *shoald, Config *config)
{
    Error err;
    bool ok = false;
    descriptors_raise();
    signals_mask(SIG_BLOCK);
    published_init(&shoald->topologies, topology_destroy);
    if (!port_check(config, &err) || !tls_context_make(config, &shoald->tls, &err)) {
        config_free(config);
        goto end;
    }
    ControlOptions options = {.config_path = shoald->options->config_path,
                              .topologies = &shoald->topologies,
                              .on_ready = shoald_on_ready,
                              .on_stop = shoald_on_stop,
                              .ctx = shoald};
    shoald->control = control_create(&options, config, &err);
    if (!shoald->control)
        goto end;
    shoald->canceller = canceller_create(CANCEL_THREADS);
    if (!shoald->canceller) {
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory while starting");
        goto end;
    }
    if (!workers_create(shoald, &err))
        goto end;
    signals_watch(shoald);
    control_run(shoald->control);
    if (shoald->joining)
        pthread_join(shoald->joiner, NULL);
    ok = true;
end:
    /* What the canceller has not done yet goes back to the workers' inboxes, which stand until
     * then. */
    canceller_destroy(shoald->canceller);
    for (uint32_t i = 0; i < shoald->worker_count; i++)
        worker_destroy(shoald->workers[i]);
    control_destroy(shoald->control);
    published_finish(&shoald->topologies);
    SSL_CTX_free(shoald->tls);
    return ok ? shoald->exit_code : complain(&err);
}
