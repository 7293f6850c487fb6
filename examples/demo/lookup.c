/*
 * lookup.c - many clients look single rows up through Shoal, and every answer is checked.
 *
 * First the truth: all rows are read from the shards directly. Then `clients` connections each ask for
 * a random row, wait for its answer, compare it, and ask again, until the time is over.
 *
 *     shards ──COPY──> truth[id]                     Shoal <──SELECT ... WHERE id = 42── client 1..n
 *                          └──────── compared with ─────────────> answer
 */
#include "examples/demo/demo.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MISSING_SHARE 50 /* one lookup in so many asks for a row that does not exist */

typedef struct Truth {
    char **rows; /* [count + 1], by id: "name TAB email"; NULL: not there */
    int64_t count;
} Truth;

/* Asks Shoal to send the statement on as it is. */
#define HINT_OFF "/* shoal: batch=off */ "

typedef struct Looker {
    PGconn *conn;
    int64_t asked; /* id of the lookup under way */
    double since_s;
} Looker;

typedef struct Tally {
    int64_t sent, compared, wrong, failed;
    double latency_s; /* sum */
    uint64_t random;
    const char *hint; /* before each statement */
    char failure[300];
} Tally;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* -- the truth ------------------------------------------------------------------------------------- */

/* Keeps a line of COPY (id TAB name TAB email LF). */
static bool truth_keep(Truth *truth, const char *line, int len)
{
    char *text;
    int64_t id = strtoll(line, &text, 10);
    if (id < 1 || id > truth->count || truth->rows[id] != NULL || *text != '\t')
        return false;
    truth->rows[id] = strndup(text + 1, (size_t)(len - (text + 1 - line) - 1));
    return truth->rows[id] != NULL;
}

static bool truth_read(Truth *truth, const char *conninfo)
{
    PGconn *conn = demo_connect(conninfo);
    if (conn == NULL)
        return false;
    PGresult *result = PQexec(conn, "COPY (SELECT id, name, email FROM users) TO STDOUT");
    bool ok = PQresultStatus(result) == PGRES_COPY_OUT;
    PQclear(result);
    char *line;
    int len;
    while (ok && (len = PQgetCopyData(conn, &line, 0)) > 0) {
        if (!truth_keep(truth, line, len)) {
            fprintf(stderr, "shoal_demo: a row twice, or one that was never written: %s", line);
            ok = false;
        }
        PQfreemem(line);
    }
    if (!ok)
        fprintf(stderr, "%s", PQerrorMessage(conn));
    PQfinish(conn);
    return ok;
}

/* -- the lookups ------------------------------------------------------------------------------------- */

static bool looker_ask(Looker *looker, const Truth *truth, Tally *tally)
{
    char sql[120];
    uint64_t draw = next_random(&tally->random);
    looker->asked = 1 + (int64_t)(draw % (uint64_t)truth->count);
    if (draw / 7 % MISSING_SHARE == 0)
        looker->asked += truth->count;
    snprintf(sql, sizeof sql, "%sSELECT id, name, email FROM users WHERE id = %lld", tally->hint,
             (long long)looker->asked);
    looker->since_s = demo_now_s();
    tally->sent++;
    return PQsendQuery(looker->conn, sql) == 1;
}

static bool answer_is_right(const PGresult *result, int64_t id, const Truth *truth)
{
    const char *want = id <= truth->count ? truth->rows[id] : NULL;
    char got[200];
    if (want == NULL)
        return PQntuples(result) == 0;
    if (PQntuples(result) != 1 || PQnfields(result) != 3 || atoll(PQgetvalue(result, 0, 0)) != id)
        return false;
    snprintf(got, sizeof got, "%s\t%s", PQgetvalue(result, 0, 1), PQgetvalue(result, 0, 2));
    return strcmp(got, want) == 0;
}

/* Takes what has come; *ret_idle when the answer is complete. False when the connection is lost. */
static bool looker_read(Looker *looker, const Truth *truth, Tally *tally, bool *ret_idle)
{
    *ret_idle = false;
    if (!PQconsumeInput(looker->conn))
        return false;
    while (!PQisBusy(looker->conn)) {
        PGresult *result = PQgetResult(looker->conn);
        if (result == NULL) {
            *ret_idle = true;
            tally->latency_s += demo_now_s() - looker->since_s;
            return true;
        }
        if (PQresultStatus(result) == PGRES_TUPLES_OK) {
            tally->compared++;
            tally->wrong += !answer_is_right(result, looker->asked, truth);
        } else if (tally->failed++ == 0) {
            snprintf(tally->failure, sizeof tally->failure, "%s", PQresultErrorMessage(result));
        }
        PQclear(result);
    }
    return true;
}

static bool lookers_run(Looker *lookers, struct pollfd *polls, const DemoOptions *options, const Truth *truth,
                        Tally *tally)
{
    double end_s = demo_now_s() + options->seconds;
    int busy = options->clients;
    for (int i = 0; i < options->clients; i++) {
        polls[i] = (struct pollfd){PQsocket(lookers[i].conn), POLLIN, 0};
        if (!looker_ask(&lookers[i], truth, tally))
            return false;
    }
    while (busy > 0) {
        poll(polls, (nfds_t)options->clients, 1000);
        bool over = demo_now_s() > end_s;
        for (int i = 0; i < options->clients; i++) {
            bool idle;
            if (polls[i].revents == 0)
                continue;
            if (!looker_read(&lookers[i], truth, tally, &idle))
                return false;
            if (idle && over) {
                polls[i].fd = -1;
                polls[i].revents = 0;
                busy--;
            } else if (idle && !looker_ask(&lookers[i], truth, tally)) {
                return false;
            }
        }
    }
    return true;
}

static void report(const Tally *tally, double seconds)
{
    if (tally->failed > 0)
        fprintf(stderr, "shoal_demo: %lld lookups failed, the first: %s", (long long)tally->failed, tally->failure);
    printf("{\"sent\":%lld,\"compared\":%lld,\"wrong\":%lld,\"failed\":%lld,\"seconds\":%.3f,\"per_second\":%.0f,"
           "\"latency_ms\":%.3f}\n",
           (long long)tally->sent, (long long)tally->compared, (long long)tally->wrong, (long long)tally->failed,
           seconds, (double)tally->sent / seconds, tally->latency_s * 1e3 / (double)(tally->sent ? tally->sent : 1));
}

int demo_lookup(const DemoOptions *options)
{
    Truth truth = {calloc((size_t)options->rows + 1, sizeof(char *)), options->rows};
    Looker *lookers = calloc((size_t)options->clients, sizeof *lookers);
    struct pollfd *polls = calloc((size_t)options->clients, sizeof *polls);
    Tally tally = {.random = 88172645463325252ULL, .hint = options->batch_off ? HINT_OFF : ""};
    bool ok = truth.rows != NULL && lookers != NULL && polls != NULL && options->shard_count > 0;
    for (int i = 0; ok && i < options->shard_count; i++)
        ok = truth_read(&truth, options->shards[i]);
    for (int i = 0; ok && i < options->clients; i++)
        ok = (lookers[i].conn = demo_connect(options->conninfo)) != NULL;

    double started = demo_now_s();
    if (ok && !lookers_run(lookers, polls, options, &truth, &tally)) {
        fprintf(stderr, "shoal_demo: a connection was lost\n");
        ok = false;
    }
    report(&tally, demo_now_s() - started);
    for (int i = 0; lookers != NULL && i < options->clients; i++)
        PQfinish(lookers[i].conn);
    for (int64_t id = 0; truth.rows != NULL && id <= truth.count; id++)
        free(truth.rows[id]);
    free(truth.rows);
    free(lookers);
    free(polls);
    return ok && tally.wrong == 0 && tally.failed == 0 ? 0 : 1;
}
