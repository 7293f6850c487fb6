/*
 * canceller.c - a bounded handful of threads that run PQcancel.
 *
 *     submit -> queue (mutex, condition) -> thread: PQcancel -> inbox_send
 *
 * The lock is held for a few instructions and never on the path of a statement. Threads are started
 * when there is more to do than threads wait, up to the bound, and live until the end; past the
 * bound requests wait their turn: a storm of cancels must not become a storm of connections. A
 * backend has at most one request under way, so the queue is as long as there are connections.
 */
#include "backend/canceller.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "core/log.h"

#define CANCELLER_THREADS_MAX 16u

struct Canceller {
    pthread_mutex_t lock; /* for everything below */
    pthread_cond_t ready;
    CancelJob *first, **last;
    pthread_t threads[CANCELLER_THREADS_MAX];
    unsigned thread_count, threads_max, waiting;
    bool stopping;
};

static void *canceller_main(void *arg);
static void canceller_start_thread(Canceller *canceller);
static CancelJob *canceller_take(Canceller *canceller);

Canceller *canceller_create(unsigned threads_max)
{
    Canceller *canceller = calloc(1, sizeof(*canceller));
    if (!canceller)
        return NULL;
    pthread_mutex_init(&canceller->lock, NULL);
    pthread_cond_init(&canceller->ready, NULL);
    canceller->last = &canceller->first;
    canceller->threads_max = MAX(1, MIN(threads_max, CANCELLER_THREADS_MAX));
    return canceller;
}

void canceller_destroy(Canceller *canceller)
{
    if (!canceller)
        return;
    pthread_mutex_lock(&canceller->lock);
    canceller->stopping = true;
    pthread_cond_broadcast(&canceller->ready);
    pthread_mutex_unlock(&canceller->lock);
    for (unsigned i = 0; i < canceller->thread_count; i++)
        pthread_join(canceller->threads[i], NULL);
    for (CancelJob *job = canceller->first, *next; job; job = next) {
        next = job->next;
        job->failed = true;
        inbox_send(job->inbox, &job->mail);
    }
    pthread_cond_destroy(&canceller->ready);
    pthread_mutex_destroy(&canceller->lock);
    free(canceller);
}

void canceller_submit(Canceller *canceller, CancelJob *job)
{
    job->next = NULL;
    pthread_mutex_lock(&canceller->lock);
    *canceller->last = job;
    canceller->last = &job->next;
    if (canceller->waiting == 0 && canceller->thread_count < canceller->threads_max)
        canceller_start_thread(canceller);
    bool lost = canceller->thread_count == 0;
    if (lost) { /* no thread to be had: it comes back undone */
        canceller->first = NULL;
        canceller->last = &canceller->first;
    }
    pthread_cond_signal(&canceller->ready);
    pthread_mutex_unlock(&canceller->lock);
    if (lost) {
        job->failed = true;
        inbox_send(job->inbox, &job->mail);
    }
}

void cancel_job_free(CancelJob *job)
{
    PQfreeCancel(job->cancel);
    free(job);
}

static void *canceller_main(void *arg)
{
    Canceller *canceller = arg;
    for (CancelJob *job = canceller_take(canceller); job; job = canceller_take(canceller)) {
        job->failed = !PQcancel(job->cancel, job->text, (int)sizeof(job->text));
        inbox_send(job->inbox, &job->mail); /* the worker's from here on */
    }
    return NULL;
}

/* Waits for one; NULL at the end of the process. */
static CancelJob *canceller_take(Canceller *canceller)
{
    pthread_mutex_lock(&canceller->lock);
    canceller->waiting++;
    while (!canceller->first && !canceller->stopping)
        pthread_cond_wait(&canceller->ready, &canceller->lock);
    canceller->waiting--;
    CancelJob *job = canceller->stopping ? NULL : canceller->first;
    if (job) {
        canceller->first = job->next;
        if (!canceller->first)
            canceller->last = &canceller->first;
    }
    pthread_mutex_unlock(&canceller->lock);
    return job;
}

/* Signals are for the main thread. */
static void canceller_start_thread(Canceller *canceller)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&canceller->threads[canceller->thread_count], NULL, canceller_main,
                       canceller) == 0)
        canceller->thread_count++;
    else
        log_line(LOG_WARNING, "canceller", "could not start a thread");
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}
