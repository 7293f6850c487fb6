/*
 * load.c - writes the demo's users through Shoal: one INSERT per row, as an application would.
 *
 * Connections share the ids; each keeps a window of INSERTs under way (libpq's pipeline mode), every one
 * with its own Sync, so that each is a transaction of its own and may go to another shard.
 *
 *     next id ──> PQsendQueryPrepared + PQpipelineSync ──> [window of INSERTs] ──> answers, counted
 */
#include "examples/demo/demo.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW 64 /* INSERTs under way on one connection */
#define INSERT "INSERT INTO users (id, name, email, balance) VALUES ($1, $2, $3, $4)"

typedef struct Loader {
    PGconn *conn;
    int under_way;
} Loader;

typedef struct Load {
    int64_t next, last, done, failed;
    char failure[300]; /* the first one */
} Load;

static bool loader_send(Loader *loader, Load *load)
{
    char id[24], name[64], email[64], balance[24];
    snprintf(id, sizeof id, "%lld", (long long)load->next);
    snprintf(balance, sizeof balance, "%lld", (long long)(load->next % 1000));
    demo_name(load->next, name, sizeof name);
    demo_email(load->next, email, sizeof email);
    const char *values[] = {id, name, email, balance};
    if (!PQsendQueryPrepared(loader->conn, "insert", 4, values, NULL, NULL, 0) || !PQpipelineSync(loader->conn))
        return false;
    load->next++;
    loader->under_way++;
    return true;
}

/* Takes what has come; false when the connection is lost. */
static bool loader_read(Loader *loader, Load *load)
{
    if (!PQconsumeInput(loader->conn))
        return false;
    while (loader->under_way > 0 && !PQisBusy(loader->conn)) {
        PGresult *result = PQgetResult(loader->conn);
        if (result == NULL)
            continue; /* between the results of two statements */
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_PIPELINE_SYNC) {
            loader->under_way--;
        } else if (status == PGRES_COMMAND_OK) {
            load->done++;
        } else {
            if (load->failed++ == 0)
                snprintf(load->failure, sizeof load->failure, "%s", PQresultErrorMessage(result));
        }
        PQclear(result);
    }
    return true;
}

static bool loader_open(Loader *loader, const char *conninfo)
{
    loader->conn = demo_connect(conninfo);
    if (loader->conn == NULL)
        return false;
    PGresult *result = PQprepare(loader->conn, "insert", INSERT, 0, NULL);
    bool ok = PQresultStatus(result) == PGRES_COMMAND_OK;
    if (!ok)
        fprintf(stderr, "shoal_demo: %s", PQresultErrorMessage(result));
    PQclear(result);
    return ok && PQsetnonblocking(loader->conn, 1) == 0 && PQenterPipelineMode(loader->conn) == 1;
}

/* One round: fill the windows, write, wait, read. False when a connection is lost. */
static bool load_turn(Loader *loaders, struct pollfd *polls, int count, Load *load)
{
    for (int i = 0; i < count; i++) {
        while (loaders[i].under_way < WINDOW && load->next <= load->last) {
            if (!loader_send(&loaders[i], load))
                return false;
        }
        int rest = PQflush(loaders[i].conn);
        if (rest < 0)
            return false;
        polls[i] = (struct pollfd){PQsocket(loaders[i].conn), (short)(POLLIN | (rest ? POLLOUT : 0)), 0};
    }
    poll(polls, (nfds_t)count, 1000);
    for (int i = 0; i < count; i++) {
        if ((polls[i].revents & ~POLLOUT) && !loader_read(&loaders[i], load))
            return false;
    }
    return true;
}

int demo_load(const DemoOptions *options)
{
    int count = options->clients;
    Loader *loaders = calloc((size_t)count, sizeof *loaders);
    struct pollfd *polls = calloc((size_t)count, sizeof *polls);
    Load load = {.next = 1, .last = options->rows};
    bool ok = loaders != NULL && polls != NULL;
    for (int i = 0; ok && i < count; i++)
        ok = loader_open(&loaders[i], options->conninfo);

    double started = demo_now_s();
    while (ok && load.done + load.failed < options->rows)
        ok = load_turn(loaders, polls, count, &load);
    double seconds = demo_now_s() - started;

    if (load.failed > 0)
        fprintf(stderr, "shoal_demo: %lld INSERTs failed, the first: %s", (long long)load.failed, load.failure);
    for (int i = 0; loaders != NULL && i < count && loaders[i].conn != NULL; i++) {
        if (!ok)
            fprintf(stderr, "%s", PQerrorMessage(loaders[i].conn));
        PQfinish(loaders[i].conn);
    }
    free(loaders);
    free(polls);
    printf("{\"rows\":%lld,\"failed\":%lld,\"seconds\":%.3f,\"per_second\":%.0f}\n", (long long)load.done,
           (long long)load.failed, seconds, (double)load.done / seconds);
    return ok && load.failed == 0 ? 0 : 1;
}
