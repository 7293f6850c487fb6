/*
 * show.h - what the handlers of SHOW have in common: columns, cells, the end.
 *
 *     static const AnswerColumn COLUMNS[] = {TEXT("name"), INT8("value")};
 *     answer_columns(...), answer_row(...) ..., return show_end(control, call);
 */
#ifndef SHOAL_ADMIN_SHOW_H
#define SHOAL_ADMIN_SHOW_H

#include <inttypes.h>
#include <time.h>

#include "admin/answer.h"
#include "admin/command.h"
#include "admin/control_state.h"
#include "wire/value.h"

#define TEXT(column_name)                                                                          \
    {                                                                                              \
        column_name, WIRE_OID_TEXT                                                                 \
    }
#define INT8(column_name)                                                                          \
    {                                                                                              \
        column_name, WIRE_OID_INT8                                                                 \
    }

typedef bool CommandFn(Control *control, Call *call, const Command *command,
                       const CommandLine *arguments, Error *err);

/* figures.c: what is measured */
CommandFn show_latency, show_latency_buckets, show_errors, show_process;
/* history.c, verdict.c */
CommandFn show_history, show_health;

/* Ends a SHOW: the tag, and the answer on its way. */
static inline bool show_end(Control *control, Call *call)
{
    answer_done(call, "SHOW");
    control_answer(control, call);
    return true;
}

static inline const char *number(Arena *arena, uint64_t value)
{
    return arena_printf(arena, "%" PRIu64, value);
}

static inline const char *yes_no(bool value)
{
    return value ? "yes" : "no";
}

static inline const char *wall_text(Arena *arena, uint64_t wall_us)
{
    time_t seconds = (time_t)(wall_us / 1000000);
    struct tm tm;
    char text[32];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    return arena_printf(arena, "%s.%03u UTC", text, (unsigned)(wall_us / 1000 % 1000));
}

#endif
