/*
 * prepared.h - a statement text that may be prepared on many server connections.
 *
 * Interned per worker by (text, parameter type OIDs): two clients that prepare the same text share
 * one Prepared, which has one name (`s17`) on every server connection that knows it. Reference
 * counted: sessions' statements, backends' known sets and batch groups hold references; the last
 * one frees it, so nothing grows for ever (H21). Role and search_path need no place in the key:
 * pools are per user, and PostgreSQL replans when search_path changed (H20, tested).
 */
#ifndef SHOAL_BACKEND_PREPARED_H
#define SHOAL_BACKEND_PREPARED_H

#include "core/map.h"

typedef struct Prepared {
    uint64_t id;    /* never used twice in a worker */
    char name[24];  /* on the server, NUL-terminated */
    Slice text;     /* owned */
    uint32_t *oids; /* declared parameter types, owned */
    uint32_t oid_count;
    uint64_t hash;
    uint32_t refs;
} Prepared;

typedef struct PreparedSet {
    Map by_text;
    uint64_t next_id;
    size_t bytes; /* of texts, for SHOW */
} PreparedSet;

void prepared_set_init(PreparedSet *set);
void prepared_set_finish(PreparedSet *set);
/* One reference for the caller; NULL when memory is out. */
Prepared *prepared_intern(PreparedSet *set, Slice text, const uint32_t *oids,
                          uint32_t count) MUST_USE;
Prepared *prepared_retain(Prepared *prepared);
void prepared_release(PreparedSet *set, Prepared *prepared); /* NULL is fine */

#endif
