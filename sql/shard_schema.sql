-- What Shoal keeps in each shard's database, version 1: the decisions of transactions over several shards.
-- Run by the control user; harmless when it was run before, or when two routers run it at once. One
-- statement, so that it happens as a whole. A released version is never edited: a change is a file of its
-- own with the steps from one version to the next (admin/shard_schema.c runs them in order).
DO $shoal_migration$
DECLARE
    found_version text;
    found_owner text;
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(6003958104911);
    SELECT pg_catalog.obj_description(n.oid, 'pg_namespace'), r.rolname
      INTO found_version, found_owner
      FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
     WHERE n.nspname = 'shoal';
    IF found_version LIKE 'Shoal, version %' THEN
        RETURN;
    END IF;
    IF found_owner IS NOT NULL THEN
        RAISE EXCEPTION 'schema shoal exists and was not made by Shoal'
            USING ERRCODE = '42P06', HINT = 'Rename or drop it; Shoal keeps its own tables in a schema of that name.';
    END IF;

    CREATE SCHEMA shoal;
    GRANT USAGE ON SCHEMA shoal TO PUBLIC;

    -- One row per transaction over several shards that this shard decides. commit: written by that
    -- transaction itself, on this shard; when it is there, the others commit. Not commit: a tombstone of a
    -- recovery that found no decision; whoever comes later to decide otherwise fails on the key.
    CREATE TABLE shoal.decision (
        gid        text        NOT NULL PRIMARY KEY,
        commit     boolean     NOT NULL,
        decided_at timestamptz NOT NULL DEFAULT pg_catalog.now()
    );
    REVOKE ALL ON shoal.decision FROM PUBLIC;

    -- Clients' transactions decide with their own rights; only this function reaches the table. What was
    -- answered must be on disk even where the client has given up durability for itself: others commit
    -- because of it.
    CREATE FUNCTION shoal.decide(gid text) RETURNS void
        LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $decide$
        SELECT pg_catalog.set_config('synchronous_commit', 'on', true)
         WHERE pg_catalog.current_setting('synchronous_commit') = 'off';
        INSERT INTO shoal.decision (gid, commit) VALUES ($1, true);
    $decide$;
    GRANT EXECUTE ON FUNCTION shoal.decide(text) TO PUBLIC;

    COMMENT ON SCHEMA shoal IS 'Shoal, version 1';
END
$shoal_migration$;
