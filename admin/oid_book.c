/*
 * oid_book.c - maps by the names of database and shard, because a RELOAD may number both anew.
 */
#include "admin/oid_book.h"

#include <stdlib.h>
#include <string.h>

struct OidBookEntry {
    char *database, *shard; /* owned */
    OidMap *map;            /* one reference; NULL: as the home shard */
};

void oid_book_finish(OidBook *book)
{
    for (uint32_t i = 0; i < book->count; i++) {
        free(book->entries[i].database);
        free(book->entries[i].shard);
        oid_map_free(book->entries[i].map);
    }
    free(book->entries);
    *book = (OidBook){0};
}

static OidBookEntry *entry_find(const OidBook *book, const char *database, const char *shard)
{
    for (uint32_t i = 0; i < book->count; i++)
        if (strcmp(book->entries[i].database, database) == 0 && strcmp(book->entries[i].shard, shard) == 0)
            return &book->entries[i];
    return NULL;
}

/* NULL: no memory; the map is taken by the next round that finds a change. */
static OidBookEntry *entry_add(OidBook *book, const char *database, const char *shard)
{
    OidBookEntry *more = realloc(book->entries, (book->count + 1) * sizeof *more);
    if (!more)
        return NULL;
    book->entries = more;
    OidBookEntry entry = {.database = strdup(database), .shard = strdup(shard)};
    if (!entry.database || !entry.shard) {
        free(entry.database);
        free(entry.shard);
        return NULL;
    }
    more[book->count] = entry;
    return &more[book->count++];
}

void oid_book_take(OidBook *book, const OidReader *reader)
{
    const DatabaseConfig *database = &reader->config->databases[reader->database];
    for (uint32_t i = 0; i < reader->count; i++) {
        const char *shard = reader->config->shards[database->shards[i]].name;
        OidBookEntry *entry = entry_find(book, database->name, shard);
        if (!entry)
            entry = entry_add(book, database->name, shard);
        if (!entry)
            continue;
        oid_map_free(entry->map);
        entry->map = oid_map_retain(oid_reader_map(reader, i));
    }
}

bool oid_book_fill(const OidBook *book, Topology *topology, Error *err)
{
    const Config *config = topology->config;
    OidMap **maps = calloc((size_t)config->database_count * config->shard_count + 1, sizeof *maps);
    if (!maps) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while building the topology");
        return false;
    }
    for (uint32_t d = 0; d < config->database_count; d++)
        for (uint32_t s = 0; s < config->shard_count; s++) {
            const OidBookEntry *entry = entry_find(book, config->databases[d].name, config->shards[s].name);
            maps[(size_t)d * config->shard_count + s] = entry ? entry->map : NULL;
        }
    bool ok = topology_set_oids(topology, maps, err);
    free(maps);
    return ok;
}
