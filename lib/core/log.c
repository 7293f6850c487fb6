/*
 * log.c - a line is built on the stack and leaves with one write(2), so that lines of several
 * threads never mix and no lock is needed.
 *
 *     2026-01-31 12:34:56.789 UTC warning client 17: password authentication failed
 *
 * Who and what may hold a client's bytes. Control bytes are escaped (\n, \x1b), so that nobody can
 * forge a line or drive the operator's terminal.
 */
#include "core/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"

#define LOG_LINE_MAX 4096

typedef struct Line {
    size_t len;
    bool cut;
    char text[LOG_LINE_MAX];
} Line;

static const char *const LEVEL_NAMES[] = {"debug", "info", "warning", "error"};

/* Relaxed everywhere: a level published late costs a line, nothing else depends on it. */
static atomic_int log_level = LOG_INFO;

static void line_add(Line *line, const char *text);
static void line_end(Line *line);

void log_level_set(LogLevel level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

bool log_enabled(LogLevel level)
{
    return (int)level >= atomic_load_explicit(&log_level, memory_order_relaxed);
}

void log_line(LogLevel level, const char *who, const char *fmt, ...)
{
    if (!log_enabled(level))
        return;
    int saved_errno = errno; /* a log line in a cleanup path must not change what is reported */
    char message[LOG_LINE_MAX / 2];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    char now[32];
    clock_wall_text(now);

    Line line;
    line.len = 0;
    line.cut = n >= (int)sizeof(message);
    line_add(&line, now);
    line_add(&line, " ");
    line_add(&line, LEVEL_NAMES[level]);
    line_add(&line, " ");
    line_add(&line, who ? who : "shoal");
    line_add(&line, ": ");
    line_add(&line, n < 0 ? fmt : message);
    line_end(&line);
    errno = saved_errno;
}

void log_error(const char *who, const Error *err)
{
    log_line(LOG_ERROR, who, "%s (%s)%s%s%s%s", err->message, err->sqlstate,
             err->detail[0] ? "; detail: " : "", err->detail, err->hint[0] ? "; hint: " : "",
             err->hint);
}

/* Appends the text with its control bytes escaped; what does not fit is left out. */
static void line_add(Line *line, const char *text)
{
    const size_t max = LOG_LINE_MAX - sizeof("...\n"); /* room for line_end */
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        char escaped[8] = {(char)c, '\0'};
        if (c == '\n')
            memcpy(escaped, "\\n", 3);
        else if (c < 0x20 || c == 0x7f)
            snprintf(escaped, sizeof(escaped), "\\x%02x", c);
        size_t n = strlen(escaped);
        if (line->len + n > max) {
            line->cut = true;
            return;
        }
        memcpy(line->text + line->len, escaped, n);
        line->len += n;
    }
}

static void line_end(Line *line)
{
    if (line->cut) {
        memcpy(line->text + line->len, "...", 3);
        line->len += 3;
    }
    line->text[line->len++] = '\n';
    /* Nobody is left to tell when stderr is full or gone. */
    ssize_t n = write(STDERR_FILENO, line->text, line->len);
    (void)n;
}
