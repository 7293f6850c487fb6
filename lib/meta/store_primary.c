/*
 * store_primary.c - who took the writes of each shard last: fact primary_<shard> = "1 7312 s0/replica1".
 *
 * Why it must not be forgotten: a router that starts after a failover may find only the old primary
 * alive. It looks healthy; only its timeline tells that its rows are no longer the shard's.
 */
#include <inttypes.h>
#include <stdio.h>

#include "meta/store_rows.h"

static void fact_name(const char *shard, char ret_name[static 96])
{
    snprintf(ret_name, 96, "primary_%.80s", shard); /* shard names have no quotes: config_cluster.c */
}

bool store_load_primary(Store *store, const char *shard, StorePrimary *ret_primary, Error *err)
{
    char name[96], sql[160], value[256];
    int64_t count;
    *ret_primary = (StorePrimary){0};
    fact_name(shard, name);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM fact WHERE name = '%s'", name);
    if (!store_number(store, sql, &count, err))
        return false;
    if (count == 0)
        return true;
    if (!store_fact_get(store, name, value, sizeof value, err))
        return false;
    StorePrimary known = {0};
    if (sscanf(value, "%" SCNu64 " %" SCNu64 " %127[^\n]", &known.timeline, &known.system_id,
               known.server) != 3)
        return store_corrupt(store, err, "the fact \"%s\" is no primary", name);
    *ret_primary = known;
    return true;
}

bool store_save_primary(Store *store, const char *shard, const StorePrimary *primary, Error *err)
{
    char name[96], value[256];
    fact_name(shard, name);
    snprintf(value, sizeof value, "%" PRIu64 " %" PRIu64 " %s", primary->timeline, primary->system_id,
             primary->server);
    if (!store_begin(store, err))
        return false;
    if (store_fact_put(store, name, value, err))
        return store_commit(store, err);
    store_rollback(store);
    return false;
}
