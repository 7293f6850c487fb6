/*
 * demo.c - options and small helpers of the demonstration's client program.
 */
#include "examples/demo/demo.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SHARDS_MAX 64

double demo_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

PGconn *demo_connect(const char *conninfo)
{
    PGconn *conn = PQconnectdb(conninfo);
    if (PQstatus(conn) == CONNECTION_OK)
        return conn;
    fprintf(stderr, "shoal_demo: %s", PQerrorMessage(conn));
    PQfinish(conn);
    return NULL;
}

int demo_name(int64_t id, char *ret_name, int size)
{
    static const char *const FIRST[] = {"Ada", "Grace", "Edgar", "Barbara", "Jim", "Michael", "Radia", "Leslie"};
    static const char *const LAST[] = {"Herring", "Sprat", "Mackerel", "Pilchard", "Anchovy", "Cod", "Sardine"};
    return snprintf(ret_name, (size_t)size, "%s %s %lld", FIRST[id % 8], LAST[id % 7], (long long)id);
}

int demo_email(int64_t id, char *ret_email, int size)
{
    return snprintf(ret_email, (size_t)size, "user%lld@example.org", (long long)id);
}

static int usage(void)
{
    fprintf(stderr, "usage: shoal_demo load|lookup --to CONNINFO [--shard CONNINFO]... [--clients N]\n"
                    "                  [--rows N] [--seconds S] [--batch-off]\n");
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option OPTIONS[] = {{"to", required_argument, NULL, 't'},
                                            {"shard", required_argument, NULL, 's'},
                                            {"clients", required_argument, NULL, 'c'},
                                            {"rows", required_argument, NULL, 'r'},
                                            {"seconds", required_argument, NULL, 'd'},
                                            {"batch-off", no_argument, NULL, 'o'},
                                            {NULL, 0, NULL, 0}};
    const char *shards[SHARDS_MAX];
    DemoOptions options = {.shards = shards, .clients = 16, .rows = 200000, .seconds = 5};
    int option;
    while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
        if (option == 't')
            options.conninfo = optarg;
        else if (option == 's' && options.shard_count < SHARDS_MAX)
            shards[options.shard_count++] = optarg;
        else if (option == 'c')
            options.clients = atoi(optarg);
        else if (option == 'r')
            options.rows = atoll(optarg);
        else if (option == 'd')
            options.seconds = atof(optarg);
        else if (option == 'o')
            options.batch_off = true;
        else
            return usage();
    }
    if (optind + 1 != argc || options.conninfo == NULL || options.clients < 1 || options.rows < 1)
        return usage();
    if (strcmp(argv[optind], "load") == 0)
        return demo_load(&options);
    if (strcmp(argv[optind], "lookup") == 0)
        return demo_lookup(&options);
    return usage();
}
