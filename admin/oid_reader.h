/*
 * oid_reader.h - keeps the OidMaps of one database's shards true: part of each catalog round.
 *
 *     catalog round ──> digest of each shard ──all as before──────────────────────────> on_done(false)
 *                            └─some differ──> lists of all ──> OidMaps ──> on_done(true)
 *
 * A shard that does not answer keeps the map that it had. The control thread's, as everything here.
 */
#ifndef SHOAL_ADMIN_OID_READER_H
#define SHOAL_ADMIN_OID_READER_H

#include "admin/pg_client.h"
#include "meta/oid_map.h"
#include "meta/topology.h"

typedef struct OidReader OidReader;
typedef struct OidSource OidSource;

struct OidReader {
    const Config *config; /* borrowed */
    uint32_t database;
    const uint32_t *primaries; /* by shard: borrowed */
    OidSource *sources;        /* one for each shard of the database; the first is home; owned */
    uint32_t count;            /* 0: the database has one shard, nothing is asked */
    uint32_t waiting;          /* sources that have not answered in this phase */
    bool listing;              /* the second phase */
    void (*on_done)(OidReader *reader, bool changed);
    void *ctx;
};

/* False when memory is out; finish is due in any case. */
bool oid_reader_init(OidReader *reader, Loop *loop, const Config *config, uint32_t database,
                     const uint32_t *primaries, void (*on_done)(OidReader *reader, bool changed), void *ctx) MUST_USE;
void oid_reader_finish(OidReader *reader);
/* on_done is called once, never before this has returned; with nothing to ask it returns false and calls nobody. */
bool oid_reader_run(OidReader *reader) MUST_USE;
/* The map of the database's i-th shard; NULL: as home. Borrowed. */
OidMap *oid_reader_map(const OidReader *reader, uint32_t i);

#endif
