/* clock.c - the two clocks of Linux that we use, and one text form for people. */
#include "core/clock.h"

#include <stdio.h>
#include <time.h>

static uint64_t clock_read_us(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

uint64_t clock_now_us(void) { return clock_read_us(CLOCK_MONOTONIC); }

uint64_t clock_wall_us(void) { return clock_read_us(CLOCK_REALTIME); }

void clock_wall_text(char ret_text[static 32])
{
    uint64_t now_us = clock_wall_us();
    time_t seconds = (time_t)(now_us / 1000000u);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t len = strftime(ret_text, 32, "%Y-%m-%d %H:%M:%S", &tm);
    snprintf(ret_text + len, 32 - len, ".%03u UTC", (unsigned)(now_us / 1000u % 1000u));
}
