/*
 * watch.c - one line per move:
 *
 *     move 3  s0 > s1  [##########..........]  52%  copy      31.2 MB/s  behind 0 B  8 s left
 *
 * On a terminal the lines are drawn over; otherwise a line is written when its text has changed.
 */
#include "bin/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BAR       20
#define LINES_MAX 50

static const char *cell(const PGresult *rows, int row, const char *name)
{
    int column = PQfnumber(rows, name);
    return column < 0 || PQgetisnull(rows, row, column) ? "" : PQgetvalue(rows, row, column);
}

static double number(const PGresult *rows, int row, const char *name)
{
    return strtod(cell(rows, row, name), NULL);
}

static bool is_over(const char *state)
{
    return strcmp(state, "done") == 0 || strcmp(state, "cancelled") == 0 || strcmp(state, "failed") == 0;
}

/* 1536 -> "1.5 kB" */
static const char *bytes_text(double bytes, char *text, size_t size)
{
    static const char *const UNITS[] = {"B", "kB", "MB", "GB", "TB"};
    int unit = 0;
    while (bytes >= 1024 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    snprintf(text, size, unit ? "%.1f %s" : "%.0f %s", bytes, UNITS[unit]);
    return text;
}

static void line_make(const PGresult *rows, int row, char *text, size_t size)
{
    double expected = number(rows, row, "rows_expected"), done = number(rows, row, "rows");
    const char *state = cell(rows, row, "state"), *step = cell(rows, row, "step");
    char bar[BAR + 1], speed[32], lag[32];
    bool behind = strcmp(state, "moving") == 0 || strcmp(state, "planned") == 0;
    double share = !behind ? 1 : expected > 0 ? done / expected : 0;
    share = share > 1 ? 1 : share;
    for (int i = 0; i < BAR; i++)
        bar[i] = i < (int)(share * BAR) ? '#' : '.';
    bar[BAR] = '\0';
    int n = snprintf(text, size, "move %s  %s > %s  [%s] %3.0f%%  %s%s%s", cell(rows, row, "id"), cell(rows, row, "source"),
                     cell(rows, row, "target"), bar, share * 100, state, *step ? ", " : "", step);
    if (is_over(state) || n < 0 || (size_t)n >= size)
        return;
    snprintf(text + n, size - (size_t)n, "  %s/s  behind %s  %s%s",
             bytes_text(number(rows, row, "bytes_per_s"), speed, sizeof speed),
             bytes_text(number(rows, row, "lag_bytes"), lag, sizeof lag), cell(rows, row, "seconds_left"),
             *cell(rows, row, "seconds_left") ? " s left" : "");
}

/* Draws those that were not over when we began to look; how many are still under way. */
static int draw(const PGresult *rows, int first, char lines[LINES_MAX][200], bool *ret_failed)
{
    bool terminal = isatty(STDOUT_FILENO);
    int busy = 0, shown = 0;
    for (int row = first; row < PQntuples(rows) && shown < LINES_MAX; row++, shown++) {
        char text[200];
        const char *state = cell(rows, row, "state");
        line_make(rows, row, text, sizeof text);
        if (terminal)
            printf("\033[2K%s\n", text);
        else if (strcmp(lines[shown], text) != 0)
            printf("%s\n", text);
        memcpy(lines[shown], text, sizeof text);
        busy += !is_over(state) && strcmp(cell(rows, row, "step"), "rest") != 0;
        *ret_failed |= strcmp(state, "failed") == 0;
    }
    if (terminal && busy)
        printf("\033[%dA", shown);
    fflush(stdout);
    return busy;
}

bool watch_moves(PGconn *conn, bool *ret_failed)
{
    static char lines[LINES_MAX][200];
    int first = -1;
    *ret_failed = false;
    for (;;) {
        PGresult *rows = PQexec(conn, "SHOW MOVES");
        if (PQresultStatus(rows) != PGRES_TUPLES_OK) {
            fprintf(stderr, "%s", PQerrorMessage(conn));
            PQclear(rows);
            return false;
        }
        for (int row = 0; first < 0 && row < PQntuples(rows); row++) {
            if (!is_over(cell(rows, row, "state")))
                first = row;
        }
        int busy = first < 0 ? 0 : draw(rows, first, lines, ret_failed);
        PQclear(rows);
        if (busy == 0)
            return true;
        sleep(1);
    }
}
