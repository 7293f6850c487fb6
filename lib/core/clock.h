/* clock.h - time that never jumps (CLOCK_MONOTONIC), in microseconds, and wall time for people. */
#ifndef SHOAL_CORE_CLOCK_H
#define SHOAL_CORE_CLOCK_H

#include "core/base.h"

uint64_t clock_now_us(void);
/* Seconds and microseconds of CLOCK_REALTIME as "2026-01-31 12:34:56.789 UTC"; for logs and SHOW. */
void clock_wall_text(char ret_text[static 32]);
uint64_t clock_wall_us(void);

#endif
