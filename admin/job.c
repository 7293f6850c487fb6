/*
 * job.c - Calls that wait: for a catalog round, for the workers' adoption of a topology.
 *
 * Workers do not answer a wake-up; they announce what they have adopted (core/published.h). So
 * while somebody waits, a short timer looks; nobody waits, no timer.
 */
#include "admin/control_state.h"

#include <inttypes.h>

#include "admin/answer.h"

#define ADOPTION_POLL_MS 1
#define ADOPTION_SLOW_US 2000000

void job_start(Job *job, Control *control, Call *call, void (*on_free)(Job *job))
{
    job->control = control;
    job->call = call;
    job->on_free = on_free;
    list_init(&job->link);
    list_push(&control->jobs, &job->link);
}

void job_end(Job *job, const Error *err)
{
    Control *control = job->control;
    Call *call = job->call;
    list_remove(&job->link);
    if (control->distribute == job)
        control->distribute = NULL;
    if (call && err)
        answer_error(call, err);
    job->on_free(job);
    if (call)
        control_answer(control, call);
}

void job_wait_round(Job *job, uint32_t database, void (*on_round)(Job *job, const Error *err))
{
    assert(database < job->control->loader_count);
    job->database = database;
    job->on_round = on_round;
    job->round = catalog_loader_refresh(&job->control->loaders[database]);
}

void jobs_on_round(Control *control, uint32_t database, uint64_t round, const Error *err)
{
    /* A Job may end in its callback, but it ends no other. */
    LIST_EACH_SAFE (link, &control->jobs) {
        Job *job = list_entry(link, Job, link);
        void (*on_round)(Job *, const Error *) = job->on_round;
        if (!on_round || job->database != database || job->round > round)
            continue;
        job->on_round = NULL;
        on_round(job, err);
    }
}

void job_wait_look(Job *job, void (*on_looked)(Job *job))
{
    job->on_looked = on_looked;
    job->looked = recovery_kick(&job->control->recovery);
}

void jobs_on_recovery(Control *control, uint64_t round)
{
    LIST_EACH_SAFE (link, &control->jobs) {
        Job *job = list_entry(link, Job, link);
        void (*on_looked)(Job *) = job->on_looked;
        if (!on_looked || job->looked > round)
            continue;
        job->on_looked = NULL;
        on_looked(job);
    }
}

void job_wait_locks(Job *job, void (*on_locked)(Job *job))
{
    job->on_locked = on_locked;
    job->locked = deadlock_kick(&job->control->deadlock);
}

void jobs_on_locks(Control *control, uint64_t look)
{
    LIST_EACH_SAFE (link, &control->jobs) {
        Job *job = list_entry(link, Job, link);
        void (*on_locked)(Job *) = job->on_locked;
        if (!on_locked || job->locked > look)
            continue;
        job->on_locked = NULL;
        on_locked(job);
    }
}

void job_wait_adoption(Job *job, void (*on_adopted)(Job *job))
{
    Control *control = job->control;
    job->version = control->topology->published.version;
    job->on_adopted = on_adopted;
    job->waiting_since_us = control->loop.now_us;
    job->slow_told = false;
    /* Never now: the caller may still be in the middle of something. */
    timer_start_ms(&control->adoption_timer, 0);
}

static void job_tell_slow(Job *job)
{
    if (job->slow_told || job->control->loop.now_us - job->waiting_since_us < ADOPTION_SLOW_US)
        return;
    job->slow_told = true;
    log_line(LOG_WARNING, "control", "a worker has not yet adopted topology %" PRIu64,
             job->version);
}

void jobs_on_adoption_time(Timer *timer)
{
    Control *control = timer->ctx;
    uint64_t adopted = published_adopted_by_all(control->options.topologies);
    bool more = false;
    LIST_EACH_SAFE (link, &control->jobs) {
        Job *job = list_entry(link, Job, link);
        void (*on_adopted)(Job *) = job->on_adopted;
        if (!on_adopted)
            continue;
        if (job->version > adopted) {
            job_tell_slow(job);
            more = true;
            continue;
        }
        job->on_adopted = NULL;
        on_adopted(job);
    }
    if (more)
        timer_start_ms(timer, ADOPTION_POLL_MS);
}

void jobs_end_all(Control *control, const Error *err)
{
    while (!list_empty(&control->jobs))
        job_end(list_entry(list_first(&control->jobs), Job, link), err);
    timer_stop(&control->adoption_timer);
}
