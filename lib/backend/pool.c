/*
 * pool.c - one pool: tasks wait in a queue, connections in a stack, and the turn's end brings them
 * together.
 *
 *     waiting   T1 T2 T3 ...   longest waiting first, served first (H31)
 *     idle      B7 B2 B5       last used first: what is not needed grows old and is closed
 *
 *     dispatch:  waiting x idle -> in flight;  what still waits -> open more, at most 4 at a time;
 *                nothing lives and the server is down -> the waiters are told, at once
 *
 * Nothing happens inside pool_submit: a task is handed out when the turn is over, so a sink is
 * never called back by its own call, and what a turn collects goes out together.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/backend_internal.h"
#include "core/log.h"

#define BLIND_AFTER_US  ((uint64_t)3 * 1000 * 1000) /* where nobody could ever look, a connection is used after all */
#define STALE_AFTER_US 1000 /* idle for longer: look whether the server has hung up meanwhile (H14) */
#define CONNECTING_MAX 4u
#define BACKOFF_MIN_MS 250u
#define BACKOFF_MAX_MS 1000u
#define ALONE_MAX_US   (30u * 1000 * 1000) /* for a drain or a cancel that does not end */

static void pool_hand_out(Pool *pool);
static void pool_open_more(Pool *pool);
static void pool_tell_warmers(Pool *pool, const Error *err);
static void task_refuse(Task *task, const Error *err);
static bool pool_may_connect(const Pool *pool);

const char *const PARAMETER_NAMES[PARAMETERS_MAX] = {
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "scram_iterations",
    "search_path",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
};

/* ---- tasks come in -------------------------------------------------------------------------- */

void pool_submit(Pool *pool, Task *task)
{
    task_move(task, TASK_WAITING);
    task->pool = pool;
    task->backend = NULL;
    task->queued_us = pool->set->loop->now_us;
    list_push(&pool->waiting, &task->link);
    pool->waiting_count++;
    pool_touch(pool);
}

void pool_forget_task(Task *task)
{
    assert(task->state == TASK_WAITING);
    if (!task->cancelled)
        task->pool->waiting_count--;
    list_remove(&task->link);
    pool_touch(task->pool);
}

void pool_refuse_task(Task *task)
{
    assert(task->state == TASK_WAITING && task->cancelled);
    Pool *pool = task->pool;
    pool->waiting_count--;
    list_remove(&task->link);
    list_push(&pool->refused, &task->link);
    pool_touch(pool);
}

/* The turn's end will look at it. From within a later hook of the same end, the next one. */
void pool_touch(Pool *pool)
{
    PoolSet *set = pool->set;
    if (!list_linked(&pool->dirty))
        list_push(&set->dirty, &pool->dirty);
    if (set->loop->in_hooks && set->turn_us == set->loop->now_us)
        loop_again(set->loop);
}

/* ---- the turn's end ------------------------------------------------------------------------- */

void pool_dispatch(Pool *pool)
{
    Error err;
    for (List *link = list_pop(&pool->refused); link; link = list_pop(&pool->refused)) {
        error_set(&err, SQLSTATE_QUERY_CANCELED, "canceling statement due to user request");
        task_refuse(list_entry(link, Task, link), &err);
    }
    if (pool->doubted)
        pool_fail_waiting(pool, &pool->doubt);
    else
        pool_hand_out(pool);
    pool_open_more(pool);
    if (pool->warm) {
        pool_tell_warmers(pool, NULL);
    } else if (pool->down && pool->counts[BACKEND_CONNECTING] == 0) {
        err = pool->down_error;
        pool_tell_warmers(pool, &err);
    }
    if (pool->down && pool_live(pool) == 0 && pool->counts[BACKEND_CONNECTING] == 0) {
        err = pool->down_error;
        pool_fail_waiting(pool, &err);
    }
}

/* The shard's servers were asked again since this connection stands, and nobody has taken the primary's
 * place. Else one that died, was replaced and came back would be written to until somebody looks. */
static bool pool_trusts(Pool *pool, const Backend *backend, uint64_t now_us)
{
    ServerIdentity identity = pool_identity(pool);
    if (!pool->unsure || !identity.watched || !identity.primary)
        return true;
    ServerStanding standing = standing_get(pool->set->topology->standings, pool->server.index);
    bool looked = (standing.state == HEALTH_UP && standing.looked_us > backend->connected_us) ||
                  standing.vouched_us > backend->connected_us;
    bool blind = !standing.measured_us && now_us - backend->connected_us > BLIND_AFTER_US; /* never asked: who it is must do */
    pool->unsure = !looked && !blind;
    return !pool->unsure;
}

static void pool_hand_out(Pool *pool)
{
    uint64_t now_us = pool->set->loop->now_us;
    PoolStats *stats = &pool->stats;
    for (List *link = pool->idle.next, *next; link != &pool->idle && pool->waiting_count;
         link = next) {
        Backend *backend = list_entry(link, Backend, link);
        next = link->next;
        /* One that became free in this very turn was heard a moment ago. Bytes nobody has read are
         * the reader's business in the next turn (H14). */
        if (now_us - backend->idle_since_us > STALE_AFTER_US && backend_stale(backend))
            continue;
        if (!pool_trusts(pool, backend, now_us))
            continue;
        Task *task = list_entry(list_pop(&pool->waiting), Task, link);
        pool->waiting_count--;
        if (now_us > task->queued_us) {
            counter_add(&stats->waits, 1);
            counter_add(&stats->wait_us, now_us - task->queued_us);
        }
        backend_take(backend, task);
        backend_settle(backend);
    }
}

static void pool_open_more(Pool *pool)
{
    uint32_t wanted = pool->waiting_count;
    if (wanted == 0 && !pool->warm && !list_empty(&pool->warmers))
        wanted = 1;
    while (wanted > pool->counts[BACKEND_CONNECTING] && pool_may_connect(pool))
        backend_open(pool);
}

static bool pool_may_connect(const Pool *pool)
{
    uint32_t connecting = pool->counts[BACKEND_CONNECTING];
    /* While the server is down one attempt is enough to find out. */
    uint32_t most = pool->down ? 1 : CONNECTING_MAX;
    return connecting < most && connecting + pool_live(pool) < pool->size &&
           (!pool->down || pool->set->loop->now_us >= pool->retry_us);
}

void pool_on_connected(Pool *pool, Backend *backend)
{
    counter_add(&pool->stats.connects, 1);
    if (pool->down)
        log_line(LOG_INFO, pool->name, "the server accepts connections again");
    pool->down = false;
    pool->backoff_ms = 0;
    pool->warm = true;
    pool->value_count = 0;
    for (size_t i = 0; i < PARAMETERS_MAX; i++) {
        if (!backend->parameters[i])
            continue;
        char *copy = strdup(backend->parameters[i]);
        if (!copy)
            continue;
        free(pool->values[pool->value_count]);
        pool->value_names[pool->value_count] = PARAMETER_NAMES[i];
        pool->values[pool->value_count++] = copy;
    }
    pool_touch(pool);
}

void pool_on_connect_failed(Pool *pool, const Error *err)
{
    counter_add(&pool->stats.connect_failures, 1);
    pool->down = pool->unsure = true;
    pool->down_error = *err;
    pool->backoff_ms = MIN(MAX(pool->backoff_ms * 2, BACKOFF_MIN_MS), BACKOFF_MAX_MS);
    pool->retry_us = pool->set->loop->now_us + (uint64_t)pool->backoff_ms * 1000;
    pool_touch(pool);
}

void pool_fail_waiting(Pool *pool, const Error *err)
{
    List waiting; /* what their sinks submit again waits for the next turn */
    list_init(&waiting);
    list_splice(&waiting, &pool->waiting);
    while (!list_empty(&waiting)) { /* a sink may abandon others of them */
        Task *task = list_entry(list_first(&waiting), Task, link);
        pool_forget_task(task);
        task_refuse(task, err);
    }
}

static void task_refuse(Task *task, const Error *err)
{
    task->done_us = task->pool->set->loop->now_us;
    task_move(task, TASK_DONE);
    task->sink->ops->on_lost(task->sink, task, err, false);
}

void pool_reap(Pool *pool)
{
    LIST_EACH_SAFE (link, &pool->dead)
        backend_free(list_entry(link, Backend, link));
}

void pool_gauge(Pool *pool)
{
    PoolStats *stats = &pool->stats;
    atomic_store_explicit(&stats->active,
                          pool->counts[BACKEND_BUSY] + pool->counts[BACKEND_CANCELLING],
                          memory_order_relaxed);
    atomic_store_explicit(&stats->idle, pool->counts[BACKEND_IDLE], memory_order_relaxed);
    atomic_store_explicit(&stats->held, pool->counts[BACKEND_HELD], memory_order_relaxed);
    atomic_store_explicit(&stats->connecting, pool->counts[BACKEND_CONNECTING],
                          memory_order_relaxed);
    atomic_store_explicit(&stats->waiting, pool->waiting_count, memory_order_relaxed);
}

/* ---- as time goes by ------------------------------------------------------------------------ */

static void pool_expire_waiting(Pool *pool, uint64_t now_us);
static void pool_expire_idle(Pool *pool, uint64_t now_us);
static void pool_expire_alone(Pool *pool, uint64_t now_us);

void pool_tick(Pool *pool, uint64_t now_us)
{
    pool_expire_waiting(pool, now_us);
    pool_expire_idle(pool, now_us);
    pool_expire_alone(pool, now_us);
    if (pool->waiting_count || !list_empty(&pool->warmers))
        pool_touch(pool); /* perhaps it is time for another attempt */
}

bool pool_active(const Pool *pool)
{
    return pool->waiting_count || pool_live(pool) || pool->counts[BACKEND_CONNECTING] ||
           pool->warmers.next != &pool->warmers;
}

/* The queue is in order of arrival, so only its head needs a look. */
static void pool_expire_waiting(Pool *pool, uint64_t now_us)
{
    uint32_t timeout_ms = pool->set->limits.query_wait_timeout_ms;
    while (timeout_ms && pool->waiting_count) {
        Task *task = list_entry(list_first(&pool->waiting), Task, link);
        if (now_us - task->queued_us < (uint64_t)timeout_ms * 1000)
            return;
        Error err;
        error_set(&err, SQLSTATE_TOO_MANY_CONNECTIONS,
                  "no server connection became free within %u ms", timeout_ms);
        error_detail(&err,
                     "All %u connections to server %s for database \"%s\" as user \"%s\" "
                     "are in use; %u statements wait.",
                     pool->size, pool->server.name, pool->dbname, pool->user, pool->waiting_count);
        error_hint(&err, "Raise pool_size or query_wait_timeout, or look for long transactions "
                         "with SHOW SERVERS.");
        pool_forget_task(task);
        task_refuse(task, &err);
    }
}

static void pool_expire_idle(Pool *pool, uint64_t now_us)
{
    uint64_t idle_us = (uint64_t)pool->set->limits.idle_timeout_ms * 1000;
    LIST_EACH_SAFE (link, &pool->idle) {
        Backend *backend = list_entry(link, Backend, link);
        bool idle_too_long = idle_us && now_us - backend->idle_since_us > idle_us;
        bool too_old = backend->expires_us && now_us > backend->expires_us;
        if (idle_too_long || too_old || pool->gone || backend->generation != pool->generation)
            backend_close(backend);
    }
}

static void pool_expire_alone(Pool *pool, uint64_t now_us)
{
    Error err;
    LIST_EACH_SAFE (link, &pool->busy) {
        Backend *backend = list_entry(link, Backend, link);
        bool alone = backend->draining || backend->state == BACKEND_CANCELLING;
        if (!alone || now_us - backend->alone_since_us < ALONE_MAX_US)
            continue;
        error_set(&err, SQLSTATE_CONNECTION_FAILURE,
                  "the server did not stop a cancelled statement");
        const Expect *head = expect_head(&backend->owed);
        error_detail(&err,
                     "State %s, errand %d, owed %u answers (%u Z), head %d in phase %d, skipping %d, "
                     "cancel %d, paused %d, unsent %zu, unread %zu.",
                     backend_state_name(backend->state), (int)backend->errand, backend->owed.count,
                     backend->owed.readies, head ? (int)head->kind : -1, (int)backend->owed.phase,
                     (int)backend->owed.skipping, backend->cancel != NULL,
                     (int)backend->stream.paused, buf_len(&backend->stream.out),
                     buf_len(&backend->stream.in));
        log_line(LOG_WARNING, backend->who, "%s", err.detail);
        backend_lose(backend, &err);
        return; /* its sinks may have changed the list */
    }
}

/* ---- parameters, and the first connection --------------------------------------------------- */

uint32_t pool_parameters(const Pool *pool, const char *const **ret_names,
                         const char *const **ret_values)
{
    *ret_names = pool->value_names;
    *ret_values = (const char *const *)pool->values;
    return pool->value_count;
}

void pool_warm(Pool *pool, PoolWaiter *waiter)
{
    list_init(&waiter->link);
    list_push(&pool->warmers, &waiter->link);
    pool_touch(pool);
}

void pool_warm_cancel(PoolWaiter *waiter)
{
    list_remove(&waiter->link);
}

static void pool_tell_warmers(Pool *pool, const Error *err)
{
    List warmers;
    list_init(&warmers);
    list_splice(&warmers, &pool->warmers);
    for (List *link = list_pop(&warmers); link; link = list_pop(&warmers)) {
        PoolWaiter *waiter = list_entry(link, PoolWaiter, link);
        waiter->on_warm(waiter, pool, err);
    }
}

/* ---- what others may know ------------------------------------------------------------------- */

List *pool_list(Pool *pool, BackendState state)
{
    switch (state) {
    case BACKEND_CONNECTING:
        return &pool->connecting;
    case BACKEND_IDLE:
        return &pool->idle;
    case BACKEND_HELD:
        return &pool->held;
    case BACKEND_DEAD:
        return &pool->dead;
    case BACKEND_BUSY:
    case BACKEND_CANCELLING:
        break;
    }
    return &pool->busy;
}

void pool_each_backend(Pool *pool, void (*fn)(Backend *backend, void *ctx), void *ctx)
{
    List *lists[] = {&pool->busy, &pool->held, &pool->idle, &pool->connecting};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        LIST_EACH_SAFE (link, lists[i])
            fn(list_entry(link, Backend, link), ctx);
}

const char *pool_name(const Pool *pool)
{
    return pool->name;
}
const ServerConfig *pool_server(const Pool *pool)
{
    return &pool->server;
}
Slice pool_database(const Pool *pool)
{
    return slice_str(pool->database);
}
Slice pool_user(const Pool *pool)
{
    return slice_str(pool->user);
}
uint64_t pool_id(const Pool *pool)
{
    return pool->id;
}
const PoolStats *pool_stats(const Pool *pool)
{
    return &pool->stats;
}
uint32_t pool_size(const Pool *pool)
{
    return pool->size;
}
