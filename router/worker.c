/*
 * worker.c - birth, turns and death of one data-path thread.
 *
 *   events ─> sessions read, decode, plan ─┐
 *   turn end:  run woken sessions ─> batcher ─> pools ─> flush streams ─> reap ─> adopt topology
 *
 * The thread has a large stack, because libpg_query recurses (H43). Everything in here is touched by
 * this thread alone, but for the inbox and the counters.
 */
#include "router/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "meta/bucket_sql.h"
#include "router/commit.h"
#include "router/gather.h"
#include "router/cancel.h"
#include "router/copy_in.h"
#include "router/fence.h"
#include "router/greeting.h"
#include "router/park.h"
#include "router/portal.h"
#include "router/reads.h"
#include "router/worker_state.h"

#define STACK_SIZE     ((size_t)64 << 20) /* address space; pages are used as they are touched */
#define SWEEP_MS       200
#define SENDS_MIN      2 /* streams with output that share a system call */
#define CLOSING_MAX_US ((uint64_t)5 * 1000 * 1000) /* last words to a client that does not read */

void worker_wake_session(Worker *worker, Session *session)
{
    if (!list_linked(&session->wake_link)) {
        list_push(&worker->woken, &session->wake_link);
        if (worker->loop.in_hooks) /* otherwise this turn's end comes anyway */
            loop_again(&worker->loop);
    }
}

/* ---- turn end ----------------------------------------------------------------------------------- */

static void run_woken(void *ctx)
{
    Worker *worker = ctx;
    doubt_notice(worker);
    List now;
    list_init(&now);
    list_splice(&now, &worker->woken);
    List *link;
    while ((link = list_pop(&now))) {
        Session *session = list_entry(link, Session, wake_link);
        if (session->state == SESSION_ACTIVE)
            session_run(session);
    }
}

static void close_batches(void *ctx)
{
    batcher_turn_end(((Worker *)ctx)->batcher);
}

static void send_tasks(void *ctx)
{
    pool_set_turn_end(((Worker *)ctx)->pools);
}

static void flush_streams(void *ctx)
{
    Worker *worker = ctx;
    doubt_notice(worker); /* the last moment before anything leaves */
    stream_flush_all(&worker->loop);
    latency_on_flushed(&worker->latency, &worker->stats.latency);
    commit_on_flushed(worker);
    LIST_EACH_SAFE(link, &worker->closing) { /* those whose last words are out now */
        Session *session = list_entry(link, Session, link);
        if (buf_len(&session->stream.out) == 0)
            session_kill(session);
    }
}

static void reap(void *ctx)
{
    Worker *worker = ctx;
    List *link;
    while ((link = list_first(&worker->dead)))
        session_destroy(list_entry(link, Session, link));
    bool commits = !list_empty(&worker->commits) && clock_now_us() < worker->stop_at_us;
    if (worker->stopping && worker->session_count == 0 && !commits)
        loop_stop(&worker->loop);
}

/* Whoever had the role may still be alive and take writes that are lost: no statement goes there any
 * more, and what runs there ends now. */
static void leave_old_primaries(Worker *worker, const Topology *before)
{
    const Topology *now = worker->topology;
    uint32_t shards = MIN(before->config->shard_count, now->config->shard_count); /* one may have joined */
    for (uint32_t i = 0; i < shards; i++) {
        uint32_t old = before->primaries[i] != NO_PRIMARY ? before->primaries[i] : before->leaving[i];
        if (old == NO_PRIMARY || old == now->primaries[i] || old == now->leaving[i])
            continue;
        Error err;
        error_set(&err, SQLSTATE_ADMIN_SHUTDOWN, "server %s is not the primary of shard %s any more",
                  now->config->servers[old]->name, now->config->shards[i].name);
        error_hint(&err, "Try again: Shoal uses the new one as soon as it knows of it.");
        pool_set_drop_server(worker->pools, now->config->servers[old]->name, &err);
    }
}

/* Rows are on another shard by now, or copies of them have gone that were passed over until now (foreign.h): a
 * replica that does not show it yet hides rows, or shows them twice. */
static bool rows_have_moved(const Topology *before, const Topology *now)
{
    if (before->map->version != now->map->version || before->copies_gone != now->copies_gone)
        return true;
    uint32_t shards = before->foreign ? MIN(before->config->shard_count, now->config->shard_count) : 0;
    for (uint32_t s = 0; s < shards; s++)
        for (uint32_t b = 0; b < before->foreign[s].bucket_count; b++)
            if (before->foreign[s].has[b] && !(now->foreign && bucket_set_has(&now->foreign[s], b)))
                return true;
    return false;
}

static void adopt_topology(void *ctx)
{
    Worker *worker = ctx;
    PublishedValue *value = published_peek(worker->options.topologies);
    Topology *topology = container_of(value, Topology, published);
    if (topology == worker->topology)
        return;
    const Topology *before = worker->topology;
    worker->topology = topology;
    if (rows_have_moved(before, topology))
        worker->reads->map_since_us = clock_now_us();
    reads_grow(worker->reads, topology->config);
    doubt_look(worker);
    leave_old_primaries(worker, before); /* before anybody hears that it is adopted */
    published_announce(worker->options.topologies, worker->reader, value, 0);
    pool_set_adopt(worker->pools, topology);
    batcher_adopt(worker->batcher, topology);
    digests_limit(&worker->digests, topology->config->statement_stats_max);
    worker->n1.patterns_max = worker_config(worker)->n1_patterns_max;
    greetings_forget(worker);
    parks_look(worker);
    fence_on_adopt(worker);
}

/* ---- timeouts ------------------------------------------------------------------------------------- */

static void idle_in_transaction(Session *session, uint64_t limit_us, uint64_t now_us)
{
    if (!limit_us || session->tx == TX_IDLE || session->request_count ||
        now_us - session->idle_since_us < limit_us)
        return;
    Error err;
    error_set(&err, "25P03", "terminating connection due to idle-in-transaction timeout");
    session_fatal(session, &err);
}

static void worker_on_sweep(Timer *timer)
{
    Worker *worker = timer->ctx;
    uint64_t now_us = clock_now_us();
    uint64_t limit_us = (uint64_t)worker_config(worker)->idle_in_transaction_timeout_ms * 1000;
    LIST_EACH_SAFE(link, &worker->closing) {
        Session *session = list_entry(link, Session, link);
        if (now_us - session->closing_since_us > CLOSING_MAX_US)
            session_kill(session);
    }
    LIST_EACH_SAFE(link, &worker->sessions) {
        Session *session = list_entry(link, Session, link);
        if (worker->stopping && now_us >= worker->stop_at_us)
            session_stop(session);
        else if (session->state == SESSION_ACTIVE)
            idle_in_transaction(session, limit_us, now_us);
        n1_sweep(session, now_us);
    }
    commit_sweep(worker);
    timer_start_ms(&worker->sweep, SWEEP_MS);
}

/* ---- what the pools tell --------------------------------------------------------------------------- */

static void on_drained(void *holder, Backend *backend)
{
    Session *session = holder;
    if (session->holder.kind == HOLDER_GATHER)
        gather_on_server_drained(holder);
    if (session->holder.kind != HOLDER_SESSION || !copy_in_drained(session, backend))
        return;
    session->input_blocked = false;
    worker_wake_session(session->worker, session);
}

static void on_held_message(void *holder, Backend *backend, const Frame *frame)
{
    Session *session = holder;
    if (session->holder.kind == HOLDER_COMMIT) {
        if (!frame)
            commit_on_held_lost(holder, backend);
    } else if (session->holder.kind == HOLDER_GATHER) {
        if (!frame)
            gather_on_held_lost(holder, backend);
    } else if (session->holder.kind == HOLDER_PORTAL) {
        if (!frame)
            portal_on_held_lost(holder);
    } else if (!frame) {
        session_on_held_lost(session, backend);
    } else if (session->state == SESSION_ACTIVE) {
        buf_append(&session->stream.out, frame->whole);
        stream_touch(&session->stream);
    }
}

/* ---- birth and death ----------------------------------------------------------------------------------- */

static bool worker_build(Worker *worker)
{
    const Config *config = worker_config(worker);
    PoolEvents events = {.on_drained = on_drained, .on_held_message = on_held_message, .ctx = worker};
    prepared_set_init(&worker->prepared);
    guc_set_init(&worker->gucs);
    digests_init(&worker->digests, config->statement_stats_max);
    shape_cache_init(&worker->shapes, config->shape_cache_max, config->shape_cache_bytes);
    worker->statements = (StatementContext){&worker->prepared, &worker->shapes};
    worker->pools = pool_set_create(&worker->loop, &worker->inbox, worker->options.canceller,
                                    worker->options.count, &worker->prepared, &worker->gucs, &events);
    worker->batcher = worker->pools ? batcher_create(&worker->loop, &worker->prepared, &worker->gucs,
                                                     &worker->shapes)
                                    : NULL;
    worker->reads = reads_create(worker);
    if (!worker->batcher || !worker->reads)
        return false;
    pool_set_adopt(worker->pools, worker->topology);
    batcher_adopt(worker->batcher, worker->topology);
    worker->n1.patterns_max = config->n1_patterns_max;
    return true;
}

static void worker_hooks(Worker *worker)
{
    Loop *loop = &worker->loop;
    loop_on_turn_end(loop, run_woken, worker);
    loop_on_turn_end(loop, close_batches, worker);
    loop_on_turn_end(loop, send_tasks, worker);
    loop_on_turn_end(loop, flush_streams, worker);
    loop_on_turn_end(loop, reap, worker);
    loop_on_turn_end(loop, adopt_topology, worker);
}

Worker *worker_create(const WorkerOptions *options, Error *err)
{
    Worker *worker = calloc(1, sizeof *worker);
    if (!worker || !loop_init(&worker->loop)) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "cannot create a worker: out of memory or descriptors");
        free(worker);
        return NULL;
    }
    worker->options = *options;
    worker->listen_fd = -1;
    worker->next_session_id = options->index + 1;
    worker->next_commit = options->index + 1;
    snprintf(worker->who, sizeof worker->who, "worker %u", options->index);
    list_init(&worker->sessions);
    list_init(&worker->closing);
    list_init(&worker->dead);
    list_init(&worker->woken);
    list_init(&worker->commits);
    list_init(&worker->free_requests);
    list_init(&worker->parked);
    timer_init(&worker->park_timer, &worker->loop, parks_on_time, worker);
    n1_book_init(&worker->n1);
    arena_init(&worker->scratch, 16384);
    cancel_init(worker);
    greetings_init(worker);
    inbox_open(&worker->inbox, &worker->loop, worker);
    worker->reader = published_add_reader(options->topologies);
    PublishedValue *value = published_adopt(options->topologies, worker->reader, 0);
    worker->topology = container_of(value, Topology, published);
    if (!worker_build(worker)) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "cannot create a worker: out of memory");
        worker_destroy(worker);
        return NULL;
    }
    worker_hooks(worker);
    timer_init(&worker->sweep, &worker->loop, worker_on_sweep, worker);
    timer_start_ms(&worker->sweep, SWEEP_MS);
    return worker;
}

static void *worker_main(void *arg)
{
    Worker *worker = arg;
    if (worker_config(worker)->io_uring && !loop_send_together(&worker->loop, SENDS_MIN))
        log_line(LOG_INFO, "worker", "io_uring is not to be had (%s): each answer is a system call of its own",
                 strerror(errno));
    loop_run(&worker->loop);
    return NULL;
}

bool worker_start(Worker *worker, Error *err)
{
    pthread_attr_t attr;
    if (!listener_open(worker, err))
        return false;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    int code = pthread_create(&worker->thread, &attr, worker_main, worker);
    pthread_attr_destroy(&attr);
    if (code) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "cannot start a worker thread: %s", strerror(code));
        listener_close(worker);
        return false;
    }
    worker->started = true;
    return true;
}

typedef struct StopMail {
    Mail mail;
    uint32_t grace_ms;
} StopMail;

static void stop_on_delivery(Mail *mail, void *owner)
{
    Worker *worker = owner;
    StopMail *stop = container_of(mail, StopMail, mail);
    uint64_t at = clock_now_us() + (uint64_t)stop->grace_ms * 1000;
    worker->stop_at_us = worker->stopping ? MIN(worker->stop_at_us, at) : at;
    worker->stopping = true;
    free(stop);
    listener_close(worker);
    LIST_EACH_SAFE(link, &worker->sessions) {
        Session *session = list_entry(link, Session, link);
        if (session->state == SESSION_LOGIN)
            session_kill(session);
        else
            worker_wake_session(worker, session); /* the idle ones are told at once */
    }
    loop_again(&worker->loop);
}

void worker_stop(Worker *worker, uint32_t grace_ms)
{
    StopMail *stop = calloc(1, sizeof *stop);
    if (!stop)
        return;
    *stop = (StopMail){.mail = {.on_delivery = stop_on_delivery}, .grace_ms = grace_ms};
    inbox_send(&worker->inbox, &stop->mail);
}

void worker_join(Worker *worker)
{
    if (worker->started)
        pthread_join(worker->thread, NULL);
    worker->started = false;
}

void worker_destroy(Worker *worker)
{
    if (!worker)
        return;
    assert(!worker->started);
    List *link;
    while ((link = list_first(&worker->sessions)) || (link = list_first(&worker->closing)))
        session_kill(list_entry(link, Session, link));
    reap(worker);
    commit_drop_all(worker);
    listener_close(worker);
    inbox_close(&worker->inbox);
    timer_stop(&worker->sweep);
    timer_stop(&worker->park_timer);
    greetings_finish(worker);
    latency_finish(&worker->latency);
    digests_finish(&worker->digests);
    n1_book_finish(&worker->n1);
    batcher_destroy(worker->batcher);
    reads_destroy(worker->reads);
    if (worker->pools)
        pool_set_destroy(worker->pools);
    doubts_finish(&worker->doubts);
    request_drop_free(worker);
    cancel_finish(worker);
    shape_cache_finish(&worker->shapes);
    guc_set_finish(&worker->gucs);
    prepared_set_finish(&worker->prepared);
    arena_finish(&worker->scratch);
    loop_finish(&worker->loop);
    free(worker);
}

Inbox *worker_inbox(Worker *worker)
{
    return &worker->inbox;
}

const WorkerStats *worker_stats(const Worker *worker)
{
    return &worker->stats;
}

const BatcherStats *worker_batcher_stats(const Worker *worker)
{
    return batcher_stats(worker->batcher);
}

/* ---- errors by class ------------------------------------------------------------------------- */

static int class_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'Z' ? c - 'A' + 10 : -1;
}

void worker_count_error(Worker *worker, const char *sqlstate)
{
    int first = class_digit(sqlstate[0]), second = first < 0 ? -1 : class_digit(sqlstate[1]);
    counter_add(&worker->stats.errors, 1);
    if (second >= 0)
        counter_add(&worker->stats.error_classes[first * 36 + second], 1);
}

void error_class_name(uint32_t index, char ret_name[static 3])
{
    static const char DIGITS[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    ret_name[0] = DIGITS[index / 36 % 36];
    ret_name[1] = DIGITS[index % 36];
    ret_name[2] = 0;
}

static void wake_on_delivery(Mail *mail, void *owner)
{
    (void)owner; /* waking was all: the turn's end adopts */
    free(mail);
}

void worker_wake(Worker *worker)
{
    Mail *mail = calloc(1, sizeof *mail);
    if (!mail)
        return;
    mail->on_delivery = wake_on_delivery;
    inbox_send(&worker->inbox, mail);
}
