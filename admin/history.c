/* history.c - takes a Sample every five seconds; see history.h. */
#include "admin/history.h"

#include <stdlib.h>

#include "admin/show.h"
#include "core/clock.h"

static void latency_merge(LatencyStats *into, const LatencyStats *from)
{
    for (int path = 0; path < LATENCY_PATH_COUNT; path++)
        for (int stage = 0; stage < LATENCY_STAGE_COUNT; stage++)
            histogram_merge(&into->of[path][stage], &from->of[path][stage]);
}

void history_latency(const History *history, LatencyStats *ret)
{
    memset(ret, 0, sizeof *ret);
    for (uint32_t i = 0; i < history->worker_count; i++)
        latency_merge(ret, &worker_stats(history->workers[i])->latency);
}

void history_latency_minute(const History *history, const LatencyStats *now, LatencyStats *ret)
{
    bool whole = history->minute_count > HISTORY_MINUTE; /* else: since the start */
    const LatencyStats *then = &history->minute[(history->minute_at + 1) % (HISTORY_MINUTE + 1)];
    memset(ret, 0, sizeof *ret);
    latency_merge(ret, now);
    for (int path = 0; whole && path < LATENCY_PATH_COUNT; path++)
        for (int stage = 0; stage < LATENCY_STAGE_COUNT; stage++)
            histogram_subtract(&ret->of[path][stage], &then->of[path][stage]);
}

/* 58: system error, XX: internal error. Neither is a client's fault. */
static uint64_t internal_errors(const WorkerStats *s)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < WORKER_ERROR_CLASSES; i++) {
        char name[3];
        error_class_name(i, name);
        if (strcmp(name, "58") == 0 || strcmp(name, "XX") == 0)
            count += counter_get(&s->error_classes[i]);
    }
    return count;
}

static HistorySample totals_now(const History *history)
{
    HistorySample t = {.at_wall_us = clock_wall_us()};
    for (uint32_t i = 0; i < history->worker_count; i++) {
        const WorkerStats *s = worker_stats(history->workers[i]);
        const BatcherStats *b = worker_batcher_stats(history->workers[i]);
        t.clients += counter_get(&s->clients);
        t.statements += counter_get(&s->statements);
        t.transactions += counter_get(&s->transactions);
        t.errors += counter_get(&s->errors);
        t.internal_errors += internal_errors(s);
        t.batched += counter_get(&b->statements);
        t.batches += counter_get(&b->batches);
    }
    return t;
}

static void latency_step(History *history, HistorySample *sample)
{
    uint32_t next = (history->minute_at + 1) % (HISTORY_MINUTE + 1);
    const LatencyStats *before = &history->minute[history->minute_at];
    LatencyStats *now = &history->minute[next];
    history_latency(history, now);
    Histogram *step = calloc(1, sizeof *step);
    for (int path = LATENCY_BATCHED; step && path <= LATENCY_SCATTER; path++) {
        histogram_merge(step, &now->of[path][LATENCY_TOTAL]);
        if (history->minute_count)
            histogram_subtract(step, &before->of[path][LATENCY_TOTAL]);
    }
    if (step && counter_get(&step->count)) {
        sample->p50_us = histogram_quantile(step, 0.5);
        sample->p99_us = histogram_quantile(step, 0.99);
        sample->max_us = histogram_quantile(step, 1);
    }
    free(step);
    history->minute_at = next;
    history->minute_count = MIN(history->minute_count + 1, HISTORY_MINUTE + 1);
}

static void history_on_step(Timer *timer)
{
    History *history = timer->ctx;
    uint64_t now_us = clock_now_us();
    HistorySample now = totals_now(history), sample = now;
    const HistorySample *old = &history->totals;
    sample.took_us = now_us - history->step_us;
    sample.statements -= old->statements;
    sample.transactions -= old->transactions;
    sample.errors -= old->errors;
    sample.internal_errors -= old->internal_errors;
    sample.batched -= old->batched;
    sample.batches -= old->batches;
    latency_step(history, &sample);
    history->totals = now;
    history->step_us = now_us;
    history->samples[history->next] = sample;
    history->next = (history->next + 1) % HISTORY_SAMPLES;
    history->count = MIN(history->count + 1, HISTORY_SAMPLES);
    timer_start_ms(timer, HISTORY_STEP_MS);
}

bool history_start(History *history, Loop *loop, Worker *const *workers, uint32_t count)
{
    history->workers = workers;
    history->worker_count = count;
    history->samples = calloc(HISTORY_SAMPLES, sizeof *history->samples);
    history->minute = calloc(HISTORY_MINUTE + 1, sizeof *history->minute);
    timer_init(&history->timer, loop, history_on_step, history);
    if (!history->samples || !history->minute) {
        history_finish(history);
        return false;
    }
    history->step_us = clock_now_us();
    timer_start_ms(&history->timer, HISTORY_STEP_MS);
    return true;
}

void history_finish(History *history)
{
    if (history->timer.loop)
        timer_stop(&history->timer);
    free(history->samples);
    free(history->minute);
    *history = (History){0};
}

const HistorySample *history_sample(const History *history, uint32_t i)
{
    if (i >= history->count)
        return NULL;
    return &history->samples[(history->next + HISTORY_SAMPLES - 1 - i) % HISTORY_SAMPLES];
}

bool show_history(Control *control, Call *call, const Command *command,
                  const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {
        TEXT("at"),     INT8("statements_per_s"), INT8("transactions_per_s"), INT8("errors"),
        INT8("clients"), INT8("batched_per_s"),    INT8("batches_per_s"),      INT8("p50_us"),
        INT8("p99_us"), INT8("max_us")};
    Arena *arena = &call->arena;
    const HistorySample *s;
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t i = 0; (s = history_sample(&control->history, i)); i++) {
        double seconds = (double)MAX(s->took_us, 1) / 1e6;
        const uint64_t rates[] = {s->statements, s->transactions, s->batched, s->batches};
        const char *per_s[ARRAY_LEN(rates)];
        for (size_t k = 0; k < ARRAY_LEN(rates); k++)
            per_s[k] = number(arena, (uint64_t)((double)rates[k] / seconds + 0.5));
        bool any = s->max_us > 0;
        const char *cells[] = {wall_text(arena, s->at_wall_us), per_s[0], per_s[1],
                               number(arena, s->errors), number(arena, s->clients),
                               per_s[2], per_s[3],
                               any ? number(arena, s->p50_us) : NULL,
                               any ? number(arena, s->p99_us) : NULL,
                               any ? number(arena, s->max_us) : NULL};
        answer_row(call, cells, ARRAY_LEN(cells));
    }
    return show_end(control, call);
}
