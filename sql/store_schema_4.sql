-- The metadata store, from version 3 to version 4: pinned values.

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
