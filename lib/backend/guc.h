/*
 * guc.h - the session settings a client has made, as one comparable value.
 *
 * A GucVector is the sorted list of (name, value as SQL text); NULL stands for "nothing set".
 * Interned per worker, so that two vectors are equal exactly when their pointers are: a task and a
 * server connection match by one comparison. When they differ, the connection is brought to the
 * task's vector in the same write as the task itself (guc_transition).
 */
#ifndef SHOAL_BACKEND_GUC_H
#define SHOAL_BACKEND_GUC_H

#include "core/buf.h"
#include "core/map.h"

typedef struct GucEntry {
    Slice name;  /* lower case */
    Slice value; /* right-hand side of SET name TO ..., never empty */
} GucEntry;

typedef struct GucVector {
    GucEntry *entries; /* sorted by name */
    uint32_t count;
    uint64_t hash;
    uint32_t refs;
} GucVector;

typedef struct GucSet {
    Map vectors;
} GucSet;

void guc_set_init(GucSet *set);
void guc_set_finish(GucSet *set);

/* Each returns one reference (NULL: the empty vector, no failure). `base` is not consumed.
 * `*ret_ok` is false only when memory is out. */
GucVector *guc_with(GucSet *set, const GucVector *base, Slice name, Slice value, bool *ret_ok);
GucVector *guc_without(GucSet *set, const GucVector *base, Slice name, bool *ret_ok);
GucVector *guc_retain(GucVector *vector);
void guc_release(GucSet *set, GucVector *vector);
const GucEntry *guc_find(const GucVector *vector, Slice name);

/* SQL that brings a server session from one vector to another ("" when equal); resets what `from`
 * set and `to` does not. role and session_authorization are reset first and set last. */
bool guc_transition(const GucVector *from, const GucVector *to, Buf *ret_sql);

#endif
