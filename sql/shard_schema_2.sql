-- Schema `shoal` on a shard, version 1 -> 2: parts of transactions over several shards leave evidence.
-- A standby that is promoted may lack a part that was prepared: without a row of its own nobody could tell
-- a part that was committed from one that never came. Run by the control user, harmless when it was run
-- before; two routers may run it at once.
DO $shoal_migration$
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(6003958104911);
    IF pg_catalog.obj_description(pg_catalog.to_regnamespace('shoal'), 'pg_namespace') <> 'Shoal, version 1' THEN
        RETURN;
    END IF;

    -- The shards whose parts left evidence when this was decided, by commas; '' by a router of version 1.
    ALTER TABLE shoal.decision ADD COLUMN branches text NOT NULL DEFAULT '';

    -- One row per part, written by the part itself right before it is prepared: seen when it is committed.
    CREATE TABLE shoal.branch (
        gid        text        NOT NULL PRIMARY KEY,
        written_at timestamptz NOT NULL DEFAULT pg_catalog.now()
    );
    REVOKE ALL ON shoal.branch FROM PUBLIC;

    -- What others commit because of must be as durable as they are: flushed, and on a synchronous standby
    -- where there is one, whatever the client has set for itself. PL/pgSQL keeps its plans: a function in SQL
    -- is planned anew in each transaction.
    CREATE FUNCTION shoal.branch(gid text) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $branch$
    BEGIN
        IF pg_catalog.current_setting('synchronous_commit') IN ('off', 'local') THEN
            PERFORM pg_catalog.set_config('synchronous_commit', 'on', true);
        END IF;
        INSERT INTO shoal.branch (gid) VALUES ($1);
    END
    $branch$;
    GRANT EXECUTE ON FUNCTION shoal.branch(text) TO PUBLIC;

    CREATE FUNCTION shoal.decide(gid text, branches text) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $decide$
    BEGIN
        IF pg_catalog.current_setting('synchronous_commit') IN ('off', 'local') THEN
            PERFORM pg_catalog.set_config('synchronous_commit', 'on', true);
        END IF;
        INSERT INTO shoal.decision (gid, commit, branches) VALUES ($1, true, $2);
    END
    $decide$;
    GRANT EXECUTE ON FUNCTION shoal.decide(text, text) TO PUBLIC;

    COMMENT ON SCHEMA shoal IS 'Shoal, version 2';
END
$shoal_migration$;
