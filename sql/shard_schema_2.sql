-- Schema `shoal` on a shard, version 1 -> 2: every part of a transaction over several shards leaves evidence.
-- A standby that is promoted may lack a part that was prepared: without a row of its own nobody could tell
-- a part that was committed from one that never came. Run by the control user, harmless when it was run
-- before; two routers may run it at once.
DO $shoal_migration$
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(6003958104911);
    IF pg_catalog.obj_description(pg_catalog.to_regnamespace('shoal'), 'pg_namespace') <> 'Shoal, version 1' THEN
        RETURN;
    END IF;

    -- The shards whose parts were prepared when this was decided, by commas; '' by a router of version 1.
    ALTER TABLE shoal.decision ADD COLUMN branches text NOT NULL DEFAULT '';

    -- One row per part, written by the part itself right before it is prepared: seen when it is committed.
    CREATE TABLE shoal.branch (
        gid        text        NOT NULL PRIMARY KEY,
        written_at timestamptz NOT NULL DEFAULT pg_catalog.now()
    );
    REVOKE ALL ON shoal.branch FROM PUBLIC;

    -- What others commit because of must be as durable as they are: flushed, and on a synchronous standby
    -- where there is one, whatever the client has set for itself.
    CREATE FUNCTION shoal.branch(gid text) RETURNS void
        LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $branch$
        SELECT pg_catalog.set_config('synchronous_commit', 'on', true)
         WHERE pg_catalog.current_setting('synchronous_commit') IN ('off', 'local');
        INSERT INTO shoal.branch (gid) VALUES ($1);
    $branch$;
    GRANT EXECUTE ON FUNCTION shoal.branch(text) TO PUBLIC;

    CREATE FUNCTION shoal.decide(gid text, branches text) RETURNS void
        LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $decide$
        SELECT pg_catalog.set_config('synchronous_commit', 'on', true)
         WHERE pg_catalog.current_setting('synchronous_commit') IN ('off', 'local');
        INSERT INTO shoal.decision (gid, commit, branches) VALUES ($1, true, $2);
    $decide$;
    GRANT EXECUTE ON FUNCTION shoal.decide(text, text) TO PUBLIC;

    COMMENT ON SCHEMA shoal IS 'Shoal, version 2';
END
$shoal_migration$;
