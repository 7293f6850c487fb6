/*
 * store_fill.c - rows on their way to their shards while their table becomes another kind: fact "fill" (admin/row_fill.h).
 *
 * It is written before anything is prepared on a shard and goes when all of it has ended, so a router that starts
 * knows what it must end, and how: by whether the table is in the store.
 */
#include <stdio.h>

#include "meta/store_rows.h"

#define FORMAT "%199[^\x1f]\x1f%127[^\x1f]\x1f%63[^\x1f]\x1f%63[^\x1f]\x1f%c"

bool store_load_fill(Store *store, StoreFill *ret_fill, Error *err)
{
    char value[640];
    StoreFill fill = {0};
    if (!store_fact_find(store, "fill", value, sizeof value, err))
        return false;
    if (value[0] && sscanf(value, FORMAT, fill.gid, fill.database, fill.schema, fill.name, &fill.when) != 5)
        return store_corrupt(store, err, "the fact \"%s\" is no distribution of rows", "fill");
    *ret_fill = fill;
    return true;
}

bool store_save_fill(Store *store, const StoreFill *fill, Error *err)
{
    char value[640] = "";
    if (fill)
        snprintf(value, sizeof value, "%s\x1f%s\x1f%s\x1f%s\x1f%c", fill->gid, fill->database, fill->schema, fill->name,
                 fill->when);
    if (!store_begin(store, err))
        return false;
    if (store_fact_put(store, "fill", value, err))
        return store_commit(store, err);
    store_rollback(store);
    return false;
}
