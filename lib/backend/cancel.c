/*
 * cancel.c - stopping what runs: because its client asks for it, or because its client has gone.
 *
 *     task_cancel    the task goes on and hears the server's error
 *     task_abandon   the task ends here and now; its backend cancels, drains and cleans up alone
 *     task_leave     the same, but the server may finish what it has begun: it will not take long
 *
 * A request goes to the canceller's thread and comes back as mail when the server has taken it.
 * Until then, and for one round trip more, the connection does nothing else (H30): see
 * backend_settle.
 */
#include "backend/backend_internal.h"

#include <stdlib.h>

#include "core/log.h"
#include "wire/frontend.h"

static void backend_request_cancel(Backend *backend);
static void backend_on_cancel_mail(Mail *mail, void *owner);
static void task_end(Task *task, bool cancels);
static void backend_abandon(Backend *backend, Task *task, bool cancels);

void task_cancel(Task *task)
{
    Backend *backend = task->backend;
    if (task->state == TASK_WAITING && !task->cancelled) {
        task->cancelled = true;
        pool_refuse_task(task);
    } else if (task->state == TASK_INFLIGHT) {
        task->cancelled = true; /* one that has not been sent is refused when its turn comes */
        if (backend->task == task && backend->errand == ERRAND_NONE)
            backend_request_cancel(backend);
    }
}

static void backend_request_cancel(Backend *backend)
{
    PoolSet *set = backend->pool->set;
    if (backend->cancel || !set->canceller)
        return;
    CancelJob *job = calloc(1, sizeof(*job));
    if (!job)
        return;
    job->cancel = PQgetCancel(backend->conn);
    if (!job->cancel) {
        free(job);
        return;
    }
    job->mail.on_delivery = backend_on_cancel_mail;
    job->inbox = set->inbox;
    job->backend = backend;
    list_init(&job->link);
    list_push(&set->cancels, &job->link);
    backend->cancel = job;
    counter_add(&backend->pool->stats.cancels, 1);
    canceller_submit(set->canceller, job);
}

static void backend_on_cancel_mail(Mail *mail, void *owner)
{
    CancelJob *job = container_of(mail, CancelJob, mail);
    Backend *backend = job->backend;
    list_remove(&job->link);
    if (backend) {
        if (job->failed)
            log_line(LOG_WARNING, backend->who, "cancel request failed: %.*s",
                     (int)strcspn(job->text, "\n"), job->text);
        backend_cancel_landed(backend);
    }
    cancel_job_free(job);
}

void backend_cancel_landed(Backend *backend)
{
    backend->cancel = NULL;
    backend->cancel_landing = true;
    backend_settle(backend);
}

void task_abandon(Task *task)
{
    task_end(task, true);
}

void task_leave(Task *task)
{
    task_end(task, false);
}

static void task_end(Task *task, bool cancels)
{
    Backend *backend = task->backend;
    if (task->state == TASK_WAITING) {
        pool_forget_task(task);
        task_move(task, TASK_DONE);
    } else if (task->state == TASK_INFLIGHT) {
        list_remove(&task->link);
        if (backend->task == task)
            backend_abandon(backend, task, cancels);
        task_move(task, TASK_DONE);
    }
    task->backend = NULL;
}

/* Nobody listens any more: make the server stop, and throw away what still comes. */
static void backend_abandon(Backend *backend, Task *task, bool cancels)
{
    backend->task = NULL;
    backend->draining = true;
    backend->alone_since_us = backend->pool->set->loop->now_us;
    if (!backend->holder)
        backend->dirty |= task->sent && !task->read_only;
    stream_resume(&backend->stream);
    if (backend->errand == ERRAND_SETTINGS)
        return; /* nothing of it was sent, nor will be */
    Buf *out = &backend->stream.out;
    bool ok = true;
    if (expect_ignores_sync(&backend->owed)) {
        frontend_put_copy_fail(out, SLICE("the client has gone"));
        ok = expect_push(&backend->owed, (Expect){.kind = EXPECT_COPY_END});
    } else if (cancels && expect_head(&backend->owed)) {
        backend_request_cancel(backend);
    }
    if (task->open) {
        frontend_put_sync(out);
        ok &= expect_push(&backend->owed, (Expect){.kind = EXPECT_SYNC, .hidden = true});
    }
    if (!ok)
        out->failed = true; /* no memory: the stream ends at the turn's end */
    stream_touch(&backend->stream);
}
