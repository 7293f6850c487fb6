/*
 * oid_book.h - the newest OidMap of each database's shards, by name: it outlives RELOAD and the readers.
 * The control thread's.
 */
#ifndef SHOAL_ADMIN_OID_BOOK_H
#define SHOAL_ADMIN_OID_BOOK_H

#include "admin/oid_reader.h"

typedef struct OidBookEntry OidBookEntry;

typedef struct OidBook {
    OidBookEntry *entries; /* owned */
    uint32_t count;
} OidBook;

void oid_book_finish(OidBook *book);
/* What a reader has found out last. */
void oid_book_take(OidBook *book, const OidReader *reader);
/* Gives the maps to a topology of whatever configuration. */
bool oid_book_fill(const OidBook *book, Topology *topology, Error *err) MUST_USE;

#endif
