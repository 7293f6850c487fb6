/*
 * breaker.c - why this file exists: a server that takes a second to fail costs each read a second,
 * unless somebody remembers.
 */
#include "backend/breaker.h"

#include <string.h>

#define CALLS_MIN    10 /* fewer tell nothing */
#define PROBES_AT_ONCE 2
#define BACKOFF_MAX  8

void breaker_init(Breaker *breaker)
{
    memset(breaker, 0, sizeof *breaker);
    breaker->backoff = 1;
}

bool breaker_allows(Breaker *breaker, uint64_t now_us)
{
    if (breaker->state == BREAKER_OPEN && now_us >= breaker->until_us) {
        breaker->state = BREAKER_HALF_OPEN;
        breaker->probing = breaker->probed = 0;
    }
    if (breaker->state == BREAKER_HALF_OPEN)
        return breaker->probing < PROBES_AT_ONCE;
    return breaker->state == BREAKER_CLOSED;
}

void breaker_begin(Breaker *breaker)
{
    if (breaker->state == BREAKER_HALF_OPEN)
        breaker->probing++;
}

void breaker_forget(Breaker *breaker)
{
    if (breaker->state == BREAKER_HALF_OPEN && breaker->probing)
        breaker->probing--;
}

static void breaker_open(Breaker *breaker, const BreakerLimits *limits, uint64_t now_us)
{
    breaker->state = BREAKER_OPEN;
    breaker->until_us = now_us + limits->open_us * breaker->backoff;
    breaker->backoff = MIN(breaker->backoff * 2, BACKOFF_MAX);
    breaker->opened++;
    memset(breaker->slots, 0, sizeof breaker->slots);
}

static void count(Breaker *breaker, uint64_t now_us, bool ok)
{
    uint64_t second = now_us / 1000000;
    size_t i = second % BREAKER_SLOTS;
    if (breaker->slots[i].second != second) {
        breaker->slots[i].second = second;
        breaker->slots[i].calls = breaker->slots[i].failures = 0;
    }
    breaker->slots[i].calls++;
    breaker->slots[i].failures += !ok;
}

static bool too_many(const Breaker *breaker, const BreakerLimits *limits, uint64_t now_us)
{
    uint64_t second = now_us / 1000000, calls = 0, failures = 0;
    for (size_t i = 0; i < BREAKER_SLOTS; i++) {
        if (breaker->slots[i].second + BREAKER_SLOTS <= second)
            continue;
        calls += breaker->slots[i].calls;
        failures += breaker->slots[i].failures;
    }
    return calls >= CALLS_MIN && failures * 100 >= calls * limits->failure_percent;
}

void breaker_end(Breaker *breaker, const BreakerLimits *limits, uint64_t now_us, bool ok, uint64_t took_us)
{
    ok = ok && (!limits->slow_us || took_us <= limits->slow_us);
    if (breaker->state == BREAKER_CLOSED) {
        count(breaker, now_us, ok);
        if (!ok && too_many(breaker, limits, now_us))
            breaker_open(breaker, limits, now_us);
    } else if (breaker->state == BREAKER_HALF_OPEN) {
        breaker_forget(breaker);
        if (!ok) {
            breaker_open(breaker, limits, now_us);
        } else if (++breaker->probed >= BREAKER_PROBES) {
            breaker->state = BREAKER_CLOSED;
            breaker->backoff = 1;
        }
    }
    /* OPEN: a straggler from before; its verdict is in already. */
}

const char *breaker_state_name(int state)
{
    static const char *const NAMES[] = {"closed", "open", "half-open"};
    return NAMES[state];
}
