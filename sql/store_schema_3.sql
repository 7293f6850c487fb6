-- The metadata store, from version 2 to version 3: moves of buckets, and the shards that take part.

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
