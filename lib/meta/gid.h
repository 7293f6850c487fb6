/*
 * gid.h - names of transactions over several shards: who began one, and which shard decides it.
 *
 *     shoal_<cluster id>_<router id>_<epoch>_<n>-<8 random hex digits>_<decider shard>
 *     └────────── prefix ──────────┘
 *
 * The prefix says whose it is: recovery touches its own only (H61). The epoch grows with each start of
 * the router. The random digits keep other users of the shard from deciding what they can guess. The
 * decider is in the name, so that nothing has to be remembered elsewhere: a gid is read, never rebuilt
 * (H58). Names are plain: no quote or backslash has to be escaped in SQL.
 */
#ifndef SHOAL_META_GID_H
#define SHOAL_META_GID_H

#include "core/error.h"
#include "core/slice.h"

#define GID_SIZE 200 /* PostgreSQL's GIDSIZE, with the NUL (22023 above) */

typedef struct GidPrefix {
    char text[64];  /* "shoal_<cluster>_<router>_" */
    uint64_t epoch; /* of this start; 0: the store could not be written, no gid may be made */
} GidPrefix;

typedef enum GidOwner {
    GID_FOREIGN, /* another application's, or another cluster's */
    GID_OTHER,   /* another router's of this cluster */
    GID_OWN
} GidOwner;

typedef struct GidParts {
    GidOwner owner;
    uint64_t epoch;
    Slice shard; /* of the decider; in the gid's text */
} GidParts;

void gid_prefix_init(GidPrefix *prefix, const char *cluster_id, const char *router_id, uint64_t epoch);
/* A new name; `n` is unique in this process. 54000 when the shard's name is too long or of bytes that
 * would need quoting, 55000 when the prefix has no epoch. */
bool gid_make(const GidPrefix *prefix, uint64_t n, const char *decider_shard,
              char ret_gid[static GID_SIZE], Error *err) MUST_USE;
/* Whose it is; epoch and shard are filled for GID_OWN only. A text with our prefix and a tail that we
 * would not have made is FOREIGN. */
GidParts gid_read(const GidPrefix *own, Slice gid);

#endif
