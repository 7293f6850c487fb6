/*
 * tuner.c - why two controllers: a batch that is too large makes its own members wait, one too many
 * batches under way makes all of them smaller. The first is seen in T against the target, the second
 * in T against what a batch of that size takes alone.
 */
#include "batcher/tuner.h"

#define WINDOW        20u /* batches: 95 % of them means all but one */
#define STEP          4.0 /* members more after a good window */
#define CUT           0.9
#define SIZE_MATTERS  0.25 /* below this part of T, n is not to blame */
#define FORGET        0.995
#define CROWD_WINDOW  48u
#define STRAIN_MAX    1.25
#define GAIN_MIN      1.15 /* of one batch more, to keep it: scheduling alone makes 5 to 10 % */
#define LOSS_MAX      0.97 /* of one batch less */
#define PAUSE_MAX     256u
#define BATCH_MAX_LOW 2.0

void tuner_init(Tuner *tuner, TunerLimits limits)
{
    *tuner = (Tuner){.limits = limits,
                     .batch_max = (double)limits.batch_max,
                     .inflight = 1,
                     .pause_next = 1};
}

void tuner_limit(Tuner *tuner, TunerLimits limits)
{
    bool raised = limits.batch_max > tuner->limits.batch_max;
    tuner->limits = limits;
    if (raised && limits.target_us == 0)
        tuner->batch_max = (double)limits.batch_max;
    tuner->batch_max = MIN(tuner->batch_max, (double)limits.batch_max);
    if (tuner->inflight > MAX(limits.inflight_max, 1)) {
        tuner->inflight = MAX(limits.inflight_max, 1);
        tuner->trial = 0;
    }
}

/* ---- T(n) = a + b n -------------------------------------------------------------------------- */

double tuner_expect(const Tuner *tuner, uint32_t members, double *ret_b)
{
    *ret_b = 0;
    if (tuner->weight < 8)
        return 0;
    double mean_n = tuner->n / tuner->weight, mean_t = tuner->t / tuner->weight;
    double spread = tuner->nn / tuner->weight - mean_n * mean_n;
    if (spread > 0.5)
        *ret_b = MAX(0.0, (tuner->nt / tuner->weight - mean_n * mean_t) / spread);
    *ret_b = MIN(*ret_b, mean_t / MAX(mean_n, 1.0)); /* a is never negative */
    return mean_t + *ret_b * ((double)members - mean_n);
}

static void learn(Tuner *tuner, double n, double t)
{
    tuner->weight = tuner->weight * FORGET + 1;
    tuner->n = tuner->n * FORGET + n;
    tuner->t = tuner->t * FORGET + t;
    tuner->nn = tuner->nn * FORGET + n * n;
    tuner->nt = tuner->nt * FORGET + n * t;
}

/* ---- n_max ----------------------------------------------------------------------------------- */

static void size_cut(Tuner *tuner)
{
    double b, expected = tuner_expect(tuner, tuner->largest, &b);
    if (expected > 0 && b > 0 && b * tuner->largest < SIZE_MATTERS * expected)
        return;
    double from = MIN(tuner->batch_max, (double)MAX(tuner->largest, 1));
    tuner->batch_max = MAX(from * CUT, MIN(BATCH_MAX_LOW, (double)tuner->limits.batch_max));
}

static void size_window_over(Tuner *tuner)
{
    if (tuner->late > WINDOW / 20)
        size_cut(tuner);
    else if (tuner->full * 2 >= WINDOW)
        tuner->batch_max = MIN(tuner->batch_max + STEP, (double)tuner->limits.batch_max);
    tuner->seen = tuner->late = tuner->full = tuner->largest = 0;
}

static void size_observe(Tuner *tuner, const TunerBatch *batch)
{
    if (tuner->limits.target_us == 0)
        return;
    tuner->seen++;
    tuner->late += batch->service_us > tuner->limits.target_us;
    tuner->full += batch->members * 4 >= tuner_batch_max(tuner) * 3;
    tuner->largest = MAX(tuner->largest, batch->members);
    if (tuner->seen == WINDOW)
        size_window_over(tuner);
}

/* ---- c --------------------------------------------------------------------------------------- */

/* A trial that failed: each next one comes later. */
static void trial_undo(Tuner *tuner)
{
    tuner->inflight = (uint32_t)((int)tuner->inflight - tuner->trial);
    tuner->pause = tuner->pause_next;
    tuner->pause_next = MIN(tuner->pause_next * 2, PAUSE_MAX);
}

static void trial_judge(Tuner *tuner, double rate, double strain)
{
    double wanted = tuner->trial > 0 ? GAIN_MIN : LOSS_MAX;
    bool good = rate >= tuner->rate_before * wanted && (tuner->trial < 0 || strain <= STRAIN_MAX);
    if (good)
        tuner->pause_next = 1;
    else
        trial_undo(tuner);
    tuner->last_trial = good ? -tuner->trial : tuner->trial; /* what was good is tried again */
    tuner->trial = 0;
}

/* Up and down in turn, where there is room. */
static void trial_begin(Tuner *tuner, double rate)
{
    bool up = tuner->inflight < tuner->limits.inflight_max && tuner->waiting * 2 >= CROWD_WINDOW;
    bool down = tuner->inflight > 1;
    if (!up && !down)
        return;
    tuner->trial = up && (!down || tuner->last_trial < 0) ? 1 : down ? -1 : 0;
    tuner->inflight = (uint32_t)((int)tuner->inflight + tuner->trial);
    tuner->rate_before = rate;
}

static void crowd_window_over(Tuner *tuner, uint64_t now_us)
{
    double strain = tuner->strain / CROWD_WINDOW;
    double rate = (double)tuner->members / (double)MAX(now_us - tuner->since_us, 1);
    if (tuner->trial != 0)
        trial_judge(tuner, rate, strain);
    else if (strain > STRAIN_MAX && tuner->inflight > 1)
        tuner->inflight--;
    else if (tuner->pause > 0)
        tuner->pause--;
    else
        trial_begin(tuner, rate);
    tuner->rounds = tuner->waiting = 0;
    tuner->members = 0;
    tuner->strain = 0;
    tuner->since_us = now_us;
}

static void crowd_observe(Tuner *tuner, const TunerBatch *batch, uint64_t now_us)
{
    if (tuner->limits.inflight_max <= 1)
        return;
    double b, expected = tuner_expect(tuner, batch->members, &b);
    if (tuner->since_us == 0)
        tuner->since_us = now_us;
    tuner->strain += expected > 0 ? (double)batch->service_us / expected : 1.0;
    tuner->waiting += batch->waiting;
    tuner->members += batch->members;
    if (++tuner->rounds == CROWD_WINDOW)
        crowd_window_over(tuner, now_us);
}

void tuner_observe(Tuner *tuner, TunerBatch batch, uint64_t now_us)
{
    if (batch.alone)
        learn(tuner, batch.members, (double)batch.service_us);
    size_observe(tuner, &batch);
    crowd_observe(tuner, &batch, now_us);
}
