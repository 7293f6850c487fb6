/*
 * loop.h - one thread's event loop: libev, its timers, and the end of each turn.
 *
 *     turn:  events (read, decode, plan) -> turn-end hooks in order of registration -> sleep
 *
 * Collect during the turn, act at its end: that is batching, and fewer system calls. The hooks run
 * right before the loop would sleep (ev_prepare). A hook that made new work ready asks for another
 * turn with loop_again. Owner: its thread; nothing here may be called from another one.
 */
#ifndef SHOAL_CORE_LOOP_H
#define SHOAL_CORE_LOOP_H

#include <ev.h>

#include "core/list.h"
#include "core/send_ring.h"

typedef struct Loop Loop;
typedef struct Timer Timer;

typedef void (*LoopHook)(void *ctx);
typedef void (*TimerFn)(Timer *timer);

/* Embed it; `ctx` is the owner's. Not in the loop while not armed. */
struct Timer {
    ev_timer ev;
    Loop *loop;
    TimerFn on_time;
    void *ctx;
};

#define LOOP_HOOKS_MAX 16
#define LOOP_SCRATCH_SIZE ((size_t)64 * 1024)

struct Loop {
    struct ev_loop *ev; /* owned */
    uint64_t now_us; /* clock at the start of this turn's events; cheap to read */
    /* Bytes read in this turn came at this moment at the earliest: when the loop slept, it is
     * now_us, else the last time it looked before. So a busy loop does not hide from a latency
     * what bytes have waited in the kernel. */
    uint64_t arrival_us;
    uint64_t asleep_us; /* when the last turn ended */
    ev_prepare prepare;
    ev_check check;
    ev_idle idle; /* armed by loop_again: keeps the loop from sleeping */
    struct {
        LoopHook hook;
        void *ctx;
    } hooks[LOOP_HOOKS_MAX];
    int hook_count;
    bool stopping;
    bool in_hooks; /* the turn's end: what becomes ready now needs another turn */
    List dirty;    /* streams with output; flushed by stream_flush_all, see stream.h */
    SendRing *sends; /* owned; NULL: each stream writes by itself */
    uint32_t sends_min;
    uint8_t *scratch; /* owned, LOOP_SCRATCH_SIZE bytes: where streams read to; see stream.c */
};

/* False when memory or descriptors are out. Also makes the process ignore SIGPIPE: OpenSSL writes
 * with plain write(2). */
bool loop_init(Loop *loop) MUST_USE;
void loop_finish(Loop *loop);
/* Runs until loop_stop; the hooks run once more before it returns. */
void loop_run(Loop *loop);
void loop_stop(Loop *loop);
/* One turn, for tests and for draining: waits for an event at most when `wait`. */
void loop_turn(Loop *loop, bool wait);
void loop_on_turn_end(Loop *loop, LoopHook hook, void *ctx);
/* From now on, when at least `min` streams without TLS have output at a turn's end, one system call writes all of
 * it. To be called by the loop's thread. False with errno set: the kernel has no io_uring for us, and each stream
 * goes on writing by itself. */
bool loop_send_together(Loop *loop, uint32_t min) MUST_USE;
/* Do not sleep before the next turn. */
void loop_again(Loop *loop);

void timer_init(Timer *timer, Loop *loop, TimerFn on_time, void *ctx);
/* Arms or re-arms; fires once. Counted from the start of this turn (loop->now_us). */
void timer_start_ms(Timer *timer, uint64_t after_ms);
void timer_stop(Timer *timer);
/* Not ev_is_active: its cast drops the const. */
static inline bool timer_armed(const Timer *timer) { return timer->ev.active != 0; }

#endif
