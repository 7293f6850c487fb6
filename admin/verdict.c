/*
 * verdict.c - the checks behind SHOW HEALTH and /health.
 *
 * A new check is one function and one row. It tells by verdict_say, as often as it has something to
 * tell; the level of the worst one counts.
 */
#include "admin/verdict.h"

#include <stdarg.h>
#include <stdio.h>

#include "admin/show.h"

#define LATELY 12 /* samples of history: a minute */

struct Verdict {
    Control *control;
    Call *call;        /* rows go there; NULL: only the level is wanted */
    const char *check; /* the running one */
    VerdictLevel worst, worst_of_check;
};

static const char *const LEVELS[] = {
    [VERDICT_OK] = "ok", [VERDICT_WARNING] = "warning", [VERDICT_BAD] = "bad"};

const char *verdict_level_name(VerdictLevel level)
{
    return LEVELS[level];
}

static void verdict_row(Verdict *v, VerdictLevel level, const char *text)
{
    const char *cells[] = {v->check, LEVELS[level], text};
    if (v->call)
        answer_row(v->call, cells, ARRAY_LEN(cells));
}

PRINTF_LIKE(3, 4)
static void verdict_say(Verdict *v, VerdictLevel level, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    v->worst = MAX(v->worst, level);
    v->worst_of_check = MAX(v->worst_of_check, level);
    verdict_row(v, level, text);
}

/* ---- the checks ------------------------------------------------------------------------------ */

static void check_router(Verdict *v)
{
    if (v->control->stopping)
        verdict_say(v, VERDICT_BAD, "Shoal is shutting down");
    else if (!v->control->ready)
        verdict_say(v, VERDICT_BAD, "Shoal is starting");
}

static void check_servers(Verdict *v)
{
    const Probes *probes = &v->control->probes;
    for (uint32_t i = 0; probes->servers && i < probes->count; i++) {
        const ServerHealth *health = &probes->servers[i];
        bool primary = health->server->role == SERVER_PRIMARY;
        if (health->state == HEALTH_DOWN || health->state == HEALTH_WRONG)
            verdict_say(v, primary ? VERDICT_BAD : VERDICT_WARNING, "%s is %s: %s",
                        health->server->name, health_state_name(health->state), health->why);
    }
}

static void check_catalogs(Verdict *v)
{
    const Control *control = v->control;
    for (uint32_t i = 0; i < control->loader_count; i++) {
        const char *name = control->config->databases[i].name;
        if (!control->catalogs[i]->loaded)
            verdict_say(v, VERDICT_BAD, "the catalog of database %s is not loaded", name);
        else if (control->loaders[i].down)
            verdict_say(v, VERDICT_WARNING,
                        "the catalog of database %s cannot be read again; the last one is in force",
                        name);
    }
}

static void check_tables(Verdict *v)
{
    const Topology *topology = v->control->topology;
    for (uint32_t i = 0; i < topology->table_count; i++) {
        const Table *table = &topology->tables[i];
        if (!table_is_ready(table) && topology->catalogs[table->database]->loaded)
            verdict_say(v, VERDICT_BAD, "distributed table %.*s.%.*s of database %s cannot be used",
                        SLICE_FMT(table->schema), SLICE_FMT(table->name),
                        topology->config->databases[table->database].name);
    }
}

/* Answers are right, or nothing else matters. */
static void check_answers(Verdict *v)
{
    uint64_t mismatches = 0;
    for (uint32_t i = 0; i < v->control->worker_count; i++)
        mismatches += counter_get(&worker_batcher_stats(v->control->workers[i])->mismatches);
    if (mismatches)
        verdict_say(v, VERDICT_BAD,
                    "%" PRIu64 " batches gave other answers than their statements alone; the log names "
                    "them, and they are batched no more",
                    mismatches);
}

/* They hold locks until somebody decides. */
static void check_transactions(Verdict *v)
{
    const RecoveryStats *s = &v->control->recovery.stats;
    if (s->in_doubt)
        verdict_say(v, VERDICT_WARNING,
                    "%" PRIu64 " prepared transactions are in doubt, the oldest for %" PRIu64 " s",
                    s->in_doubt, s->oldest_ms / 1000);
}

static void check_store(Verdict *v)
{
    if (v->control->store_errors)
        verdict_say(v, VERDICT_BAD,
                    "%" PRIu64 " events could not be written to the metadata store; see the log",
                    v->control->store_errors);
}

static void check_errors(Verdict *v)
{
    uint64_t statements = 0, errors = 0, internal = 0;
    const HistorySample *s;
    for (uint32_t i = 0; i < LATELY && (s = history_sample(&v->control->history, i)); i++) {
        statements += s->statements;
        errors += s->errors;
        internal += s->internal_errors;
    }
    if (internal)
        verdict_say(v, VERDICT_BAD, "%" PRIu64 " internal errors in the last minute", internal);
    if (errors >= 20 && errors * 10 > statements)
        verdict_say(v, VERDICT_WARNING,
                    "%" PRIu64 " errors for %" PRIu64 " statements in the last minute", errors,
                    statements);
}

static void check_http(Verdict *v)
{
    const Control *control = v->control;
    if (control->config->http_port && !control->http)
        verdict_say(v, VERDICT_WARNING, "http_port %d cannot be listened on; see the log",
                    control->config->http_port);
}

static const struct {
    const char *name;
    void (*run)(Verdict *v);
} CHECKS[] = {
    {"router", check_router}, {"servers", check_servers}, {"catalogs", check_catalogs},
    {"tables", check_tables}, {"answers", check_answers}, {"store", check_store},
    {"transactions", check_transactions}, {"errors", check_errors}, {"http", check_http},
};

static VerdictLevel checks_run(Control *control, Call *call)
{
    Verdict v = {.control = control, .call = call};
    for (size_t i = 0; i < ARRAY_LEN(CHECKS); i++) {
        v.check = CHECKS[i].name;
        v.worst_of_check = VERDICT_OK;
        CHECKS[i].run(&v);
        if (v.worst_of_check == VERDICT_OK)
            verdict_row(&v, VERDICT_OK, NULL);
    }
    return v.worst;
}

VerdictLevel verdict_of(Control *control)
{
    return checks_run(control, NULL);
}

bool show_health(Control *control, Call *call, const Command *command,
                 const CommandLine *arguments, Error *err)
{
    static const AnswerColumn COLUMNS[] = {TEXT("check"), TEXT("state"), TEXT("what")};
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    checks_run(control, call);
    return show_end(control, call);
}

bool verdict_ready(const Control *control, const char **ret_why)
{
    const Probes *probes = &control->probes;
    bool one = false;
    for (uint32_t i = 0; probes->servers && i < probes->count; i++)
        one |= probes->servers[i].state == HEALTH_UP || probes->servers[i].state == HEALTH_UNKNOWN;
    *ret_why = control->stopping ? "stopping"
               : !control->ready ? "starting"
               : !one            ? "no server can be reached"
                                 : NULL;
    return *ret_why == NULL;
}
