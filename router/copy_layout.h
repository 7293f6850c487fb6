/*
 * copy_layout.h - what a COPY statement says about its data, and which shard a row of it belongs to. Pure.
 */
#ifndef SHOAL_ROUTER_COPY_LAYOUT_H
#define SHOAL_ROUTER_COPY_LAYOUT_H

#include "router/planner.h"
#include "wire/copy.h"

/* The table as it was when the COPY began: the topology may change meanwhile. Texts in the request's arena. */
typedef struct CopyTarget {
    uint32_t database;
    Slice schema, name;
    bool all; /* a reference table: every row to every shard */
    uint64_t map_version;
    TableKey keys[TABLE_KEYS_MAX];
    CatalogColumn columns[TABLE_KEYS_MAX]; /* of the keys: length, NOT NULL */
    uint32_t key_count;
    bool forced_null; /* FORCE_NULL, FORCE_NOT_NULL: a key that looks like NULL cannot be judged */
    bool binary, utf8;
    bool same_encoding;
} CopyTarget;

/* Options, columns and table of the statement. 0A000 for options that cannot be followed; options that
 * PostgreSQL refuses are not our business. */
bool copy_target_read(CopyTarget *target, const Topology *topology, const Plan *plan, const Shape *shape,
                      Arena *arena, CopyLayout *ret_layout, Error *err) MUST_USE;
/* The table and the map are still those that the COPY began with: 40001. */
bool copy_target_holds(const CopyTarget *target, const Topology *topology, Error *err) MUST_USE;
/* Rows that PostgreSQL will refuse go to the first shard of the database, so that it says why. */
bool copy_target_shard(const CopyTarget *target, const Topology *topology, const CopyRow *row, Arena *scratch,
                       uint32_t *ret_shard, Error *err) MUST_USE;

/* The same for the options alone: COPY TO. */
bool copy_options_read(const Shape *shape, CopyLayout *ret_layout, bool *ret_forced_null, Error *err) MUST_USE;

#endif
