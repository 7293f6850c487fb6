/*
 * catalog_loader.h - keeps one database's Catalog true: a cheap poll, and a full read when it tells
 * of a change.
 *
 *     every poll_ms or on demand:  digest --same--> round over
 *                                     └--differs--> read all in one snapshot --> on_catalog, round
 * over
 *
 * Asked of the home shard's primary. While that one is down the last Catalog stays in force and a
 * round is tried each second. Rounds are numbered: who needs a look at the catalog that begins
 * after this moment waits for catalog_loader_refresh's number. Owner: the control thread. One per
 * database.
 */
#ifndef SHOAL_ADMIN_CATALOG_LOADER_H
#define SHOAL_ADMIN_CATALOG_LOADER_H

#include "admin/oid_reader.h"
#include "admin/pg_client.h"
#include "meta/topology.h"

typedef struct CatalogLoader CatalogLoader;

typedef struct CatalogLoaderEvents {
    /* A new catalog; the reference is the receiver's. */
    void (*on_catalog)(CatalogLoader *loader, Catalog *catalog);
    /* loader->oids has other maps than before. */
    void (*on_oids)(CatalogLoader *loader);
    /* Round `round` is over, well or not (err NULL or why). Last act of the loader in this turn. */
    void (*on_round)(CatalogLoader *loader, uint64_t round, const Error *err);
} CatalogLoaderEvents;

struct CatalogLoader {
    PgClient client;
    Timer timer;          /* the next poll */
    const Config *config; /* borrowed: in force as long as the loader */
    uint32_t database;
    const uint32_t *primaries; /* by shard, the control thread's: where the home shard is read now */
    uint64_t digest, version; /* of the catalog in force; 0 none */
    uint64_t round;           /* begun so far */
    bool running;             /* `round` is not over yet */
    bool again;               /* somebody wants a round that begins after the running one */
    bool reading;             /* the digest differed: reading all */
    bool down;                /* the last round failed; told once */
    OidReader oids;           /* of the other shards; the last part of a round */
    Catalog *next;            /* being filled; owned */
    CatalogTable **by_oid;    /* of `next`, in order of oid; in its arena */
    uint32_t by_oid_count;
    const CatalogLoaderEvents *events;
    void *ctx;
};

/* `known` is the catalog that is in force already (after RELOAD) or NULL. */
void catalog_loader_init(CatalogLoader *loader, Loop *loop, const Config *config, uint32_t database,
                         const uint32_t *primaries, const Catalog *known, const CatalogLoaderEvents *events, void *ctx);
void catalog_loader_finish(CatalogLoader *loader);
/* Begins a round now, or right after the running one; its number. */
uint64_t catalog_loader_refresh(CatalogLoader *loader);

/* How the control thread logs in for this database (NULL: for none): control_user when set, else
 * its server_user, else the first [user] with admin, else the first [user], else postgres. */
PgLogin control_login(const Config *config, const DatabaseConfig *database,
                      const ServerConfig *server);

#endif
