/*
 * prepared.h - a statement text that may be prepared on many server connections.
 *
 * Interned per worker by (text, parameter type OIDs): two clients that prepare the same text share
 * one Prepared, which has one name (`shoal_5f0c93a1_17`) on every server connection that knows it. No client
 * hits it by chance: a statement that it does not have goes to the server under its own name, which must be nobody's
 * there (26000), and SQL's EXECUTE and DEALLOCATE reach the same names. Reference
 * counted: sessions' statements, backends' known sets and batch groups hold references; the last
 * one frees it, so nothing grows for ever (H21).
 *
 * A text that is prepared after a change of the schema is another statement than before, with
 * another name: `select *` then has other columns, and who prepares it afresh must not be told
 * "cached plan must not change result type" (H19); who prepared it before must. Role and search_path need no place in the key:
 * pools are per user, and PostgreSQL replans when search_path changed (H20, tested).
 */
#ifndef SHOAL_BACKEND_PREPARED_H
#define SHOAL_BACKEND_PREPARED_H

#include "core/map.h"

typedef struct Prepared {
    uint64_t id;    /* never used twice in a worker */
    char name[40];  /* on the server, NUL-terminated; an identifier that needs no quotes */
    Slice text;     /* owned */
    uint32_t *oids; /* declared parameter types, owned */
    uint32_t oid_count;
    uint32_t *learned; /* types of its parameters, once a server has told; owned, NULL: not yet (translate.h) */
    uint32_t learned_count;
    uint64_t epoch; /* the set's when it was made */
    uint64_t hash;
    uint32_t refs;
} Prepared;

typedef struct PreparedSet {
    Map by_text;
    uint64_t next_id;
    uint32_t tag; /* of the names: another one in each process */
    uint64_t epoch; /* counts changes of the schema that this worker has heard of */
    size_t bytes;   /* of texts, for SHOW */
} PreparedSet;

void prepared_set_init(PreparedSet *set);
void prepared_set_finish(PreparedSet *set);
/* One reference for the caller; NULL when memory is out. */
Prepared *prepared_intern(PreparedSet *set, Slice text, const uint32_t *oids,
                          uint32_t count) MUST_USE;
/* DDL was committed, or the catalog was read anew: what is interned from now on is different. */
static inline void prepared_schema_changed(PreparedSet *set)
{
    set->epoch++;
}
Prepared *prepared_retain(Prepared *prepared);
void prepared_release(PreparedSet *set, Prepared *prepared); /* NULL is fine */

#endif
