/*
 * figures.c - SHOW LATENCY, LATENCY_BUCKETS, ERRORS and PROCESS: what is measured all the time.
 *
 * These are the workers' atomic counters, summed here: no worker is asked. (What is listed per
 * object, clients and pools and templates, is asked with a Report: router/report.h.)
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/show.h"
#include "core/clock.h"

/* ---- latency --------------------------------------------------------------------------------- */

typedef struct LatencyPair {
    LatencyStats all, minute;
} LatencyPair;

static LatencyPair *latency_read(Control *control, Error *err)
{
    LatencyPair *pair = calloc(1, sizeof *pair);
    if (!pair || !control->history.minute) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        free(pair);
        return NULL;
    }
    history_latency(&control->history, &pair->all);
    history_latency_minute(&control->history, &pair->all, &pair->minute);
    return pair;
}

static void latency_row(Call *call, LatencyPath path, LatencyStage stage, const LatencyPair *pair)
{
    static const double QUANTILES[] = {0.5, 0.95, 0.99, 0.999, 1};
    const Histogram *h = &pair->all.of[path][stage], *minute = &pair->minute.of[path][stage];
    uint64_t count = counter_get(&h->count);
    Arena *arena = &call->arena;
    const char *cells[12] = {latency_path_name(path), latency_stage_name(stage),
                             number(arena, count), number(arena, counter_get(&h->sum) / MAX(count, 1))};
    for (size_t i = 0; i < ARRAY_LEN(QUANTILES); i++)
        cells[4 + i] = number(arena, histogram_quantile(h, QUANTILES[i]));
    if (counter_get(&minute->count)) {
        cells[9] = number(arena, histogram_quantile(minute, 0.5));
        cells[10] = number(arena, histogram_quantile(minute, 0.95));
        cells[11] = number(arena, histogram_quantile(minute, 0.99));
    }
    answer_row(call, cells, ARRAY_LEN(cells));
}

bool show_latency(Control *control, Call *call, const Command *command,
                  const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {
        TEXT("path"),          TEXT("stage"),         INT8("count"),        INT8("mean_us"),
        INT8("p50_us"),        INT8("p95_us"),        INT8("p99_us"),       INT8("p999_us"),
        INT8("max_us"),        INT8("minute_p50_us"), INT8("minute_p95_us"), INT8("minute_p99_us")};
    LatencyPair *pair = latency_read(control, err);
    if (!pair)
        return false;
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (int path = 0; path < LATENCY_PATH_COUNT; path++)
        for (int stage = 0; stage < LATENCY_STAGE_COUNT; stage++)
            if (counter_get(&pair->all.of[path][stage].count))
                latency_row(call, (LatencyPath)path, (LatencyStage)stage, pair);
    free(pair);
    return show_end(control, call);
}

/* Cumulated, at powers of two from 16 us to 16 s, as monitoring systems want it: histograms of
 * several routers can be added there. */
static void buckets_rows(Call *call, LatencyPath path, LatencyStage stage, const Histogram *h)
{
    Arena *arena = &call->arena;
    for (unsigned power = 4; power <= 24; power += 2) {
        uint64_t le_us = (uint64_t)1 << power;
        const char *cells[] = {latency_path_name(path), latency_stage_name(stage),
                               number(arena, le_us),
                               number(arena, histogram_count_upto(h, le_us - 1)), NULL};
        answer_row(call, cells, ARRAY_LEN(cells));
    }
    const char *cells[] = {latency_path_name(path), latency_stage_name(stage), NULL,
                           number(arena, histogram_count_upto(h, UINT64_MAX)),
                           number(arena, counter_get(&h->sum))};
    answer_row(call, cells, ARRAY_LEN(cells));
}

bool show_latency_buckets(Control *control, Call *call, const Command *command,
                          const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {TEXT("path"), TEXT("stage"), INT8("le_us"),
                                           INT8("count"), INT8("sum_us")};
    LatencyStats *all = calloc(1, sizeof *all);
    if (!all) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    history_latency(&control->history, all);
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (int path = 0; path < LATENCY_PATH_COUNT; path++)
        for (int stage = 0; stage < LATENCY_STAGE_COUNT; stage++)
            buckets_rows(call, (LatencyPath)path, (LatencyStage)stage, &all->of[path][stage]);
    free(all);
    return show_end(control, call);
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* PostgreSQL's Appendix A. */
static const struct {
    char class[3];
    const char *meaning;
} CLASSES[] = {
    {"03", "SQL statement not yet complete"}, {"08", "connection exception"},
    {"0A", "feature not supported"},          {"21", "cardinality violation"},
    {"22", "data exception"},                 {"23", "integrity constraint violation"},
    {"24", "invalid cursor state"},           {"25", "invalid transaction state"},
    {"26", "invalid statement name"},         {"28", "invalid authorization"},
    {"2B", "dependent objects exist"},        {"2D", "invalid transaction termination"},
    {"34", "invalid cursor name"},            {"3B", "savepoint exception"},
    {"3D", "invalid catalog name"},           {"3F", "invalid schema name"},
    {"40", "transaction rollback"},           {"42", "syntax error or access rule violation"},
    {"44", "WITH CHECK OPTION violation"},    {"53", "insufficient resources"},
    {"54", "limit exceeded"},                 {"55", "object not in prerequisite state"},
    {"57", "operator intervention"},          {"58", "system error"},
    {"F0", "configuration file error"},       {"P0", "PL/pgSQL error"},
    {"XX", "internal error"},
};

static const char *class_meaning(const char *class)
{
    for (size_t i = 0; i < ARRAY_LEN(CLASSES); i++)
        if (strcmp(CLASSES[i].class, class) == 0)
            return CLASSES[i].meaning;
    return "other";
}

bool show_errors(Control *control, Call *call, const Command *command,
                 const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {TEXT("class"), TEXT("meaning"), INT8("errors")};
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t i = 0; i < WORKER_ERROR_CLASSES; i++) {
        uint64_t count = 0;
        char class[3];
        for (uint32_t w = 0; w < control->worker_count; w++)
            count += counter_get(&worker_stats(control->workers[w])->error_classes[i]);
        error_class_name(i, class);
        const char *cells[] = {class, class_meaning(class), number(&call->arena, count)};
        if (count)
            answer_row(call, cells, ARRAY_LEN(cells));
    }
    return show_end(control, call);
}

/* ---- the process ----------------------------------------------------------------------------- */

static uint64_t resident_bytes(void)
{
    unsigned long total = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (!statm)
        return 0;
    if (fscanf(statm, "%lu %lu", &total, &resident) != 2)
        resident = 0;
    fclose(statm);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t open_descriptors(void)
{
    uint64_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder && readdir(folder))
        count++;
    if (folder)
        closedir(folder);
    return count > 3 ? count - 3 : 0; /* ".", ".." and the folder's own */
}

static uint64_t file_bytes(const char *path, const char *suffix, Arena *arena)
{
    struct stat st;
    const char *name = arena_printf(arena, "%s%s", path, suffix);
    return name && stat(name, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static uint64_t timeval_us(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

bool show_process(Control *control, Call *call, const Command *command,
                  const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {TEXT("name"), INT8("value"), TEXT("help")};
    Arena *arena = &call->arena;
    struct rusage usage = {0};
    struct rlimit files = {0};
    getrusage(RUSAGE_SELF, &usage);
    getrlimit(RLIMIT_NOFILE, &files);
    const char *store = control->config->store;
    const struct {
        const char *name;
        uint64_t value;
        const char *help;
    } ROWS[] = {
        {"uptime_s", (clock_wall_us() - control->started_wall_us) / 1000000, "Seconds since the start."},
        {"workers", control->worker_count, "Threads that carry queries."},
        {"cpu_user_us", timeval_us(usage.ru_utime), "Processor time in the program."},
        {"cpu_system_us", timeval_us(usage.ru_stime), "Processor time in the kernel."},
        {"resident_bytes", resident_bytes(), "Memory in use."},
        {"descriptors", open_descriptors(), "Open files and connections."},
        {"descriptors_max", (uint64_t)files.rlim_cur, "As many are allowed."},
        {"store_bytes", file_bytes(store, "", arena) + file_bytes(store, "-wal", arena),
         "The metadata store's files."},
        {"store_errors", control->store_errors, "Events that could not be written to the store."},
        {"topology_version", control->topology->published.version, "Newest published topology."},
        {"map_version", control->map->version, "Version of the bucket map."},
    };
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        const char *cells[] = {ROWS[i].name, number(arena, ROWS[i].value), ROWS[i].help};
        answer_row(call, cells, ARRAY_LEN(cells));
    }
    return show_end(control, call);
}
