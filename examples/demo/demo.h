/*
 * demo.h - the demonstration's client program: an application's side of the story.
 *
 *   shoal_demo load     writes rows through Shoal, one INSERT each, pipelined over several connections
 *   shoal_demo lookup   many clients, each asking for one row at a time; every answer is compared with
 *                       what the shards hold, read from them directly
 *
 * Both print one line of JSON.
 */
#ifndef SHOAL_DEMO_H
#define SHOAL_DEMO_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct DemoOptions {
    const char *conninfo;      /* of Shoal */
    const char **shards;       /* conninfos of the shards, for direct reads */
    int shard_count;
    int clients;
    int64_t rows;
    double seconds;
    bool batch_off; /* lookups ask not to be batched */
} DemoOptions;

/* Exit statuses: 0 done, 1 failed, with the reason on stderr. */
int demo_load(const DemoOptions *options);
int demo_lookup(const DemoOptions *options);

/* A connection that works, or NULL and the reason on stderr. */
PGconn *demo_connect(const char *conninfo);
double demo_now_s(void);

/* What row `id` of the table users says; both sides of the comparison start from the id alone only
 * while loading: lookups compare with what the shards answer. */
int demo_name(int64_t id, char *ret_name, int size);
int demo_email(int64_t id, char *ret_email, int size);

#endif
