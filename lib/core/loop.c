/*
 * loop.c - libev's loop with a turn's beginning and end.
 *
 *     check  (highest priority, first after the poll): take the time, disarm loop_again
 *     io, timers, mail                                 the turn's events
 *     prepare (last before the poll):                  the hooks
 *
 * loop_again arms an idle watcher, which makes libev poll without sleeping.
 */
#include "core/loop.h"

#include <signal.h>
#include <stdlib.h>

#include "core/clock.h"

#define POLL_MAX_US 50 /* a poll that took longer had nothing to tell at first: it slept */

static void loop_on_turn_begin(struct ev_loop *ev, ev_check *watcher, int revents);
static void loop_on_turn_over(struct ev_loop *ev, ev_prepare *watcher, int revents);
static void loop_on_idle(struct ev_loop *ev, ev_idle *watcher, int revents);
static void loop_run_hooks(Loop *loop);

bool loop_init(Loop *loop)
{
    uint64_t now_us = clock_now_us();
    *loop = (Loop){.now_us = now_us, .arrival_us = now_us, .asleep_us = now_us};
    list_init(&loop->dirty);
    loop->scratch = malloc(LOOP_SCRATCH_SIZE);
    loop->ev = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!loop->scratch || !loop->ev) {
        loop_finish(loop);
        return false;
    }
    signal(SIGPIPE, SIG_IGN);
    MEM_POISON(loop->scratch, LOOP_SCRATCH_SIZE);

    ev_check_init(&loop->check, loop_on_turn_begin);
    ev_set_priority(&loop->check, EV_MAXPRI);
    loop->check.data = loop;
    ev_check_start(loop->ev, &loop->check);

    ev_prepare_init(&loop->prepare, loop_on_turn_over);
    loop->prepare.data = loop;
    ev_prepare_start(loop->ev, &loop->prepare);

    ev_idle_init(&loop->idle, loop_on_idle);
    loop->idle.data = loop;
    return true;
}

void loop_finish(Loop *loop)
{
    if (loop->ev) {
        ev_idle_stop(loop->ev, &loop->idle);
        ev_prepare_stop(loop->ev, &loop->prepare);
        ev_check_stop(loop->ev, &loop->check);
        ev_loop_destroy(loop->ev);
    }
    send_ring_destroy(loop->sends);
    if (loop->scratch)
        MEM_UNPOISON(loop->scratch, LOOP_SCRATCH_SIZE);
    free(loop->scratch);
    *loop = (Loop){0};
}

void loop_run(Loop *loop)
{
    while (!loop->stopping)
        ev_run(loop->ev, 0);
    loop_run_hooks(loop);
}

void loop_turn(Loop *loop, bool wait)
{
    ev_run(loop->ev, wait ? EVRUN_ONCE : EVRUN_NOWAIT);
    loop_run_hooks(loop);
}

void loop_stop(Loop *loop)
{
    loop->stopping = true;
    ev_break(loop->ev, EVBREAK_ALL);
}

void loop_on_turn_end(Loop *loop, LoopHook hook, void *ctx)
{
    assert(loop->hook_count < LOOP_HOOKS_MAX);
    loop->hooks[loop->hook_count].hook = hook;
    loop->hooks[loop->hook_count].ctx = ctx;
    loop->hook_count++;
}

bool loop_send_together(Loop *loop, uint32_t min)
{
    assert(!loop->sends && min > 0);
    loop->sends = send_ring_create();
    loop->sends_min = min;
    return loop->sends != NULL;
}

void loop_again(Loop *loop) { ev_idle_start(loop->ev, &loop->idle); }

static void loop_on_turn_begin(struct ev_loop *ev, ev_check *watcher, int revents)
{
    Loop *loop = watcher->data;
    uint64_t now_us = clock_now_us();
    bool slept = now_us - loop->asleep_us > POLL_MAX_US;
    loop->arrival_us = slept ? now_us : loop->now_us;
    loop->now_us = now_us;
    ev_idle_stop(ev, &loop->idle);
}

static void loop_on_turn_over(struct ev_loop *ev, ev_prepare *watcher, int revents)
{
    Loop *loop = watcher->data;
    loop_run_hooks(loop);
    loop->asleep_us = clock_now_us();
}

/* Exists only to be armed; loop_on_turn_begin disarms it before it could run. */
static void loop_on_idle(struct ev_loop *ev, ev_idle *watcher, int revents)
{
    ev_idle_stop(ev, watcher);
}

static void loop_run_hooks(Loop *loop)
{
    loop->in_hooks = true;
    for (int i = 0; i < loop->hook_count; i++)
        loop->hooks[i].hook(loop->hooks[i].ctx);
    loop->in_hooks = false;
    /* Output that appeared after the flush must not wait for the next event. */
    if (!list_empty(&loop->dirty) && loop->hook_count > 0)
        loop_again(loop);
}

static void timer_on_time(struct ev_loop *ev, ev_timer *watcher, int revents)
{
    Timer *timer = watcher->data;
    timer->on_time(timer);
}

void timer_init(Timer *timer, Loop *loop, TimerFn on_time, void *ctx)
{
    timer->loop = loop;
    timer->on_time = on_time;
    timer->ctx = ctx;
    ev_timer_init(&timer->ev, timer_on_time, 0., 0.);
    timer->ev.data = timer;
}

void timer_start_ms(Timer *timer, uint64_t after_ms)
{
    struct ev_loop *ev = timer->loop->ev;
    /* Between runs libev's time stands still: a timer armed at start-up would fire early. */
    if (ev_depth(ev) == 0)
        ev_now_update(ev);
    ev_timer_stop(ev, &timer->ev);
    ev_timer_set(&timer->ev, (double)after_ms / 1000., 0.);
    ev_timer_start(ev, &timer->ev);
}

void timer_stop(Timer *timer) { ev_timer_stop(timer->loop->ev, &timer->ev); }
