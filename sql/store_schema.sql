-- The metadata store, version 1 (SQLite). Written by the control thread alone.
--
-- Every row but an event's carries `sum`, a hash of its other columns, because SQLite does not notice flipped
-- bits. The facts seal_bucket and seal_distributed_table hold count and hash over all rows of
-- those tables, so that a lost row is noticed, too.

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

-- Tables whose rows are spread over the shards by a hash of key_column.
CREATE TABLE distributed_table (
    database_name TEXT NOT NULL,
    schema_name   TEXT NOT NULL,
    table_name    TEXT NOT NULL,
    key_column    TEXT NOT NULL,
    colocation    TEXT NOT NULL,
    sum           INTEGER NOT NULL,
    PRIMARY KEY (database_name, schema_name, table_name)
) STRICT, WITHOUT ROWID;

-- What happened to the cluster, newest last; old ones are dropped.
CREATE TABLE event (
    id         INTEGER NOT NULL PRIMARY KEY,
    at_wall_us INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    text       TEXT NOT NULL
) STRICT;
