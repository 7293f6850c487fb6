-- The metadata store, version 3 (SQLite). Written by the control thread alone.
--
-- Every row but an event's carries `sum`, a hash of its other columns, because SQLite does not notice flipped
-- bits. The facts seal_bucket, seal_distributed_table, seal_move and seal_member hold count and hash over all
-- rows of those tables, so that a lost row is noticed, too.

-- cluster_id, bucket_count, map_version, generation, seal_*; router_id and router_epoch from the first start on
CREATE TABLE fact (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL,
    sum   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Where the rows of a bucket live: one row per bucket, by the shard's name in shards.ini.
CREATE TABLE bucket (
    bucket INTEGER NOT NULL PRIMARY KEY,
    shard  TEXT NOT NULL,
    sum    INTEGER NOT NULL
) STRICT;

-- Tables that are not simply on the home shard. kind: hash range list reference local. key_column: its columns,
-- joined by U+001F. placement: values and their shards, `<hex>@<shard> ...`, as lib/meta/placement.h tells.
CREATE TABLE distributed_table (
    database_name TEXT NOT NULL,
    schema_name   TEXT NOT NULL,
    table_name    TEXT NOT NULL,
    key_column    TEXT NOT NULL,
    colocation    TEXT NOT NULL,
    kind          TEXT NOT NULL,
    placement     TEXT NOT NULL,
    sum           INTEGER NOT NULL,
    PRIMARY KEY (database_name, schema_name, table_name)
) STRICT, WITHOUT ROWID;

-- One row per move, with the step that is taken, or was taken last. Its bucket rows change in the
-- same transaction in which its state becomes "switched".
CREATE TABLE move (
    id              INTEGER NOT NULL PRIMARY KEY,
    source_shard    TEXT NOT NULL,
    target_shard    TEXT NOT NULL,
    buckets         TEXT NOT NULL,    -- runs: 0-3,7
    state           TEXT NOT NULL,
    step            TEXT NOT NULL,
    attempts        INTEGER NOT NULL,
    reason          TEXT NOT NULL,    -- why it was undone or stopped; empty: it was not
    created_wall_us INTEGER NOT NULL,
    changed_wall_us INTEGER NOT NULL,
    sum             INTEGER NOT NULL
) STRICT;

-- Shards that have the schema and may hold buckets, in the order of their indexes.
CREATE TABLE member (
    position INTEGER NOT NULL PRIMARY KEY,
    shard    TEXT NOT NULL,
    sum      INTEGER NOT NULL
) STRICT;

-- Values that have a bucket of their own, behind those of the hash, and where each lives. No database: free for another.
CREATE TABLE pin (
    bucket        INTEGER NOT NULL PRIMARY KEY,
    database_name TEXT NOT NULL,
    colocation    TEXT NOT NULL,
    key_type      TEXT NOT NULL,
    value         TEXT NOT NULL,      -- hexadecimal digits of its canonical form
    shard         TEXT NOT NULL,
    sum           INTEGER NOT NULL
) STRICT;

-- What happened to the cluster, newest last; old ones are dropped.
CREATE TABLE event (
    id         INTEGER NOT NULL PRIMARY KEY,
    at_wall_us INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    text       TEXT NOT NULL
) STRICT;
