/*
 * top.c - asks a handful of SHOWs, and draws what has changed since the last time.
 *
 *     Shoal 0.1.0, 2 workers, up 3 h 12 min                  everything is well
 *     statements/s 41,200   saved 96 %   clients 64   waiting 0   errors/s 0
 *     STAGE     p50      p99         SERVER      STATE ...
 *     PER S     STATEMENT ...
 *
 * Rates are differences of SHOW STATS between two rounds. On a terminal each round replaces the one
 * before it; into a file they follow each other.
 */
#include "bin/top.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define ROWS_MAX  200
#define WIDTH_DEF 100

enum { SHOW_HEALTH, SHOW_STATS, SHOW_LATENCY, SHOW_SHARDS, SHOW_POOLS, SHOW_STATEMENTS, SHOW_VERSION, SHOW_COUNT };
static const char *const SHOWS[SHOW_COUNT] = {"SHOW HEALTH", "SHOW STATS", "SHOW LATENCY", "SHOW SHARDS",
                                              "SHOW POOLS", "SHOW STATEMENTS", "SHOW VERSION"};

typedef struct Round {
    PGresult *shows[SHOW_COUNT];
    double at_s;
} Round;

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void round_free(Round *round)
{
    for (int i = 0; i < SHOW_COUNT; i++)
        PQclear(round->shows[i]);
    *round = (Round){0};
}

static bool round_ask(PGconn *conn, Round *round)
{
    round->at_s = now_s();
    for (int i = 0; i < SHOW_COUNT; i++) {
        round->shows[i] = PQexec(conn, SHOWS[i]);
        if (PQresultStatus(round->shows[i]) != PGRES_TUPLES_OK)
            return false;
    }
    return true;
}

static const char *cell(const PGresult *rows, int row, const char *column)
{
    int number = PQfnumber(rows, column);
    return number < 0 || PQgetisnull(rows, row, number) ? "" : PQgetvalue(rows, row, number);
}

static double number(const PGresult *rows, int row, const char *column)
{
    return strtod(cell(rows, row, column), NULL);
}

static double stat(const Round *round, const char *name)
{
    const PGresult *rows = round->shows[SHOW_STATS];
    for (int i = 0; i < PQntuples(rows); i++)
        if (strcmp(PQgetvalue(rows, i, 0), name) == 0)
            return strtod(PQgetvalue(rows, i, 1), NULL);
    return 0;
}

static double rate(const Round *now, const Round *then, const char *name)
{
    double seconds = now->at_s - then->at_s;
    return seconds > 0 ? (stat(now, name) - stat(then, name)) / seconds : 0;
}

/* ---- drawing --------------------------------------------------------------------------------- */

static int screen_width(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 40 ? size.ws_col : WIDTH_DEF;
}

/* At most `width` characters; control bytes, which could speak to the terminal, become blanks. */
static void put_text(const char *text, int width)
{
    for (int column = 0; *text && column < width; text++) {
        unsigned char c = (unsigned char)*text;
        putchar(c < ' ' || c == 0x7f ? ' ' : c);
        column += (text[1] & 0xC0) != 0x80;
    }
}

static const char *time_text(double us, char text[static 16])
{
    if (us >= 1e6)
        snprintf(text, 16, "%.2f s", us / 1e6);
    else if (us >= 1e3)
        snprintf(text, 16, "%.2f ms", us / 1e3);
    else
        snprintf(text, 16, "%.0f us", us);
    return text;
}

static void draw_head(const Round *now)
{
    const PGresult *version = now->shows[SHOW_VERSION], *health = now->shows[SHOW_HEALTH];
    int wrong = 0;
    printf("%s, %s workers, since %.19s UTC\n", cell(version, 0, "version"), cell(version, 0, "workers"),
           cell(version, 0, "started"));
    for (int i = 0; i < PQntuples(health); i++) {
        if (strcmp(cell(health, i, "state"), "ok") == 0)
            continue;
        wrong++;
        printf("%-8s ", cell(health, i, "state"));
        put_text(cell(health, i, "what"), screen_width() - 10);
        putchar('\n');
    }
    if (!wrong)
        puts("ok       everything is well");
}

static void draw_rates(const Round *now, const Round *then)
{
    double statements = rate(now, then, "statements"), saved = rate(now, then, "statements_saved");
    double batched = rate(now, then, "batched_statements"), batches = rate(now, then, "batches");
    double waiting = 0;
    for (int i = 0; i < PQntuples(now->shows[SHOW_POOLS]); i++)
        waiting += number(now->shows[SHOW_POOLS], i, "waiting");
    printf("\n%-22s %-18s %-18s %-12s %-12s %s\n", "statements/s", "per batch", "saved", "clients",
           "waiting", "errors/s");
    printf("%-22.0f %-18.1f %5.1f %%            %-12.0f %-12.0f %.1f\n", statements,
           batches > 0 ? batched / batches : 0.0,
           statements > 0 ? 100 * (saved < statements ? saved / statements : 1.0) : 0.0,
           stat(now, "clients"), waiting, rate(now, then, "errors"));
}

static void draw_latency(const Round *now)
{
    const PGresult *rows = now->shows[SHOW_LATENCY];
    char p50[16], p95[16], p99[16];
    printf("\n%-9s %-8s %10s %10s %10s   last minute\n", "path", "stage", "p50", "p95", "p99");
    for (int i = 0; i < PQntuples(rows); i++) {
        if (!*cell(rows, i, "minute_p50_us") || strcmp(cell(rows, i, "path"), "local") == 0)
            continue;
        printf("%-9s %-8s %10s %10s %10s\n", cell(rows, i, "path"), cell(rows, i, "stage"),
               time_text(number(rows, i, "minute_p50_us"), p50),
               time_text(number(rows, i, "minute_p95_us"), p95),
               time_text(number(rows, i, "minute_p99_us"), p99));
    }
}

static void draw_servers(const Round *now)
{
    const PGresult *shards = now->shows[SHOW_SHARDS], *pools = now->shows[SHOW_POOLS];
    printf("\n%-16s %-8s %-8s %8s %8s %8s %8s\n", "server", "role", "state", "active", "held", "idle",
           "waiting");
    for (int i = 0; i < PQntuples(shards); i++) {
        double active = 0, held = 0, idle = 0, waiting = 0;
        for (int k = 0; k < PQntuples(pools); k++) {
            if (strcmp(cell(pools, k, "server"), cell(shards, i, "server")) != 0)
                continue;
            active += number(pools, k, "active");
            held += number(pools, k, "held");
            idle += number(pools, k, "idle");
            waiting += number(pools, k, "waiting");
        }
        printf("%-16s %-8s %-8s %8.0f %8.0f %8.0f %8.0f\n", cell(shards, i, "server"),
               cell(shards, i, "role"), cell(shards, i, "state"), active, held, idle, waiting);
    }
}

static const PGresult *sorted_rows;

static int by_rate(const void *a, const void *b)
{
    double x = number(sorted_rows, *(const int *)a, "per_s"), y = number(sorted_rows, *(const int *)b, "per_s");
    return x < y ? 1 : x > y ? -1 : 0;
}

static void draw_statements(const Round *now, int lines)
{
    const PGresult *rows = now->shows[SHOW_STATEMENTS];
    int order[ROWS_MAX], count = PQntuples(rows) < ROWS_MAX ? PQntuples(rows) : ROWS_MAX;
    char p50[16], p99[16];
    for (int i = 0; i < count; i++)
        order[i] = i;
    sorted_rows = rows;
    qsort(order, (size_t)count, sizeof *order, by_rate);
    printf("\n%8s %8s %10s %10s  %-14s %s\n", "per s", "batched", "p50", "p99", "why not", "statement");
    for (int i = 0; i < count && i < lines; i++) {
        int row = order[i];
        double calls = number(rows, row, "calls"), batched = number(rows, row, "batched");
        printf("%8.0f %6.0f %% %10s %10s  %-14.14s ", number(rows, row, "per_s"),
               calls > 0 ? 100 * batched / calls : 0.0, time_text(number(rows, row, "p50_us"), p50),
               time_text(number(rows, row, "p99_us"), p99),
               batched < calls ? cell(rows, row, "not_batched") : "");
        put_text(cell(rows, row, "statement"), screen_width() - 58);
        putchar('\n');
    }
}

static void draw(const Round *now, const Round *then)
{
    if (isatty(STDOUT_FILENO))
        fputs("\033[H\033[2J", stdout);
    draw_head(now);
    draw_rates(now, then);
    draw_latency(now);
    draw_servers(now);
    draw_statements(now, 15);
    fflush(stdout);
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    interrupted = 1;
}

static void wait_s(double seconds)
{
    struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&time, NULL);
}

bool top_run(PGconn *conn, double interval_s, unsigned rounds)
{
    Round now = {0}, then = {0};
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    bool ok = round_ask(conn, &then);
    for (unsigned i = 0; ok && !interrupted && (rounds == 0 || i < rounds); i++) {
        wait_s(interval_s);
        ok = interrupted || round_ask(conn, &now);
        if (!ok || interrupted)
            break;
        draw(&now, &then);
        round_free(&then);
        then = now;
        now = (Round){0};
    }
    round_free(&now);
    round_free(&then);
    return ok;
}
