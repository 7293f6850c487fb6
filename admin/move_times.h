/*
 * move_times.h - what a move spends its time on, step by step, until it has switched: the event for people says it.
 * Owner: the move. Control thread.
 */
#ifndef SHOAL_ADMIN_MOVE_TIMES_H
#define SHOAL_ADMIN_MOVE_TIMES_H

#include <stddef.h>
#include <stdint.h>

#define MOVE_TIMES_MAX 32 /* steps with different names; what comes behind them is left out */

typedef struct MoveTimes {
    struct {
        const char *step; /* a step's name, which lives for ever */
        uint64_t spent_us;
    } steps[MOVE_TIMES_MAX]; /* in the order in which they were first taken */
    uint32_t count;
} MoveTimes;

void move_times_reset(MoveTimes *times);
/* Steps that are taken again add up. */
void move_times_add(MoveTimes *times, const char *step, uint64_t spent_us);
/* "copy 5.2, verify 3.1": seconds; steps of less than 50 ms are not named. Cut where `size` ends, never within a step. */
void move_times_text(const MoveTimes *times, char *text, size_t size);

#endif
