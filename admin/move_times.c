/* move_times.c - seconds by the names of steps: a move of an hour is asked where the hour went. */
#include "admin/move_times.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAMED_US 50000

void move_times_reset(MoveTimes *times)
{
    *times = (MoveTimes){0};
}

void move_times_add(MoveTimes *times, const char *step, uint64_t spent_us)
{
    uint32_t i = 0;
    while (i < times->count && strcmp(times->steps[i].step, step) != 0)
        i++;
    if (i == MOVE_TIMES_MAX)
        return;
    times->steps[i].step = step;
    times->steps[i].spent_us += spent_us;
    times->count += i == times->count;
}

void move_times_text(const MoveTimes *times, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < times->count; i++) {
        uint64_t tenths = (times->steps[i].spent_us + 50000) / 100000;
        char part[80];
        if (times->steps[i].spent_us < NAMED_US)
            continue;
        int len = snprintf(part, sizeof part, "%s%s %" PRIu64 ".%" PRIu64, used ? ", " : "", times->steps[i].step,
                           tenths / 10, tenths % 10);
        if (used + (size_t)len >= size)
            return;
        memcpy(text + used, part, (size_t)len + 1);
        used += (size_t)len;
    }
}
