"""DDL over two shards: every form, atomically, and the shards agree afterwards.

After each test SHOW SCHEMA_DRIFT must be empty: it compares tables, columns, indexes, constraints, functions, types,
views, triggers, policies and extensions of the shards.
"""
import pytest

from tests.support.cluster import wait_until
from tests.support.wire import PgError, query

pytestmark = pytest.mark.shoal_only


@pytest.fixture(autouse=True)
def agreement(shoal, request):
    yield
    if request.node.get_closest_marker('may_drift') is None:
        assert shoal.console('SHOW SCHEMA_DRIFT') == []


@pytest.fixture
def conn(shoal):
    with shoal.connect('app', timeout_s=60) as conn:
        yield conn


def refusal(conn, sql):
    with pytest.raises(PgError) as caught:
        conn.query(sql)
    assert conn.alive()
    return caught.value


def on_each(clusters, sql):
    return [cluster.query(sql, database='app', user='app') for cluster in clusters]


def same(clusters, sql):
    first, second = on_each(clusters, sql)
    assert first == second
    return first


@pytest.fixture(scope='module')
def tenants(shoal):
    with shoal.connect('app', timeout_s=60) as conn:
        conn.query('CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL, age int)')
        conn.query("SELECT shoal.distribute_table('tenants', 'id')")
        conn.query('INSERT INTO tenants VALUES ' + ', '.join(f"({i}, 'n{i}', {i})" for i in range(1, 41)))
    return shoal


FORMS = [
    ['CREATE SCHEMA one', 'CREATE TABLE one.t (id int PRIMARY KEY)', 'ALTER SCHEMA one RENAME TO two', 'DROP SCHEMA two CASCADE'],
    ["CREATE TYPE mood AS ENUM ('sad', 'ok')", "ALTER TYPE mood ADD VALUE 'happy'", "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'",
     'ALTER TABLE tenants ADD COLUMN mood mood', 'ALTER TABLE tenants DROP COLUMN mood', 'DROP TYPE mood'],
    ["CREATE DOMAIN mail AS text CHECK (VALUE ~ '@')", 'ALTER DOMAIN mail SET NOT NULL', 'DROP DOMAIN mail'],
    ['CREATE TYPE pair AS (a int, b text)', 'ALTER TYPE pair ADD ATTRIBUTE c int', 'DROP TYPE pair'],
    ['CREATE INDEX age_i ON tenants (age)', 'CREATE INDEX IF NOT EXISTS age_i ON tenants (age)',
     'ALTER INDEX age_i SET (fillfactor = 70)', 'REINDEX INDEX age_i', 'DROP INDEX age_i'],
    ['CREATE UNIQUE INDEX u_i ON tenants (id, name)', 'ALTER TABLE tenants ADD CONSTRAINT u_c UNIQUE USING INDEX u_i',
     'ALTER TABLE tenants DROP CONSTRAINT u_c'],
    ['ALTER TABLE tenants ADD COLUMN n int DEFAULT 7 NOT NULL', 'ALTER TABLE tenants ALTER COLUMN n TYPE bigint USING n * 2',
     'ALTER TABLE tenants ALTER COLUMN n DROP NOT NULL', 'ALTER TABLE tenants ALTER COLUMN n SET DEFAULT 8',
     'ALTER TABLE tenants RENAME COLUMN n TO m', 'ALTER TABLE tenants ALTER COLUMN m SET STATISTICS 50',
     'ALTER TABLE tenants DROP COLUMN m'],
    ['ALTER TABLE tenants ADD CONSTRAINT old CHECK (age >= 0) NOT VALID', 'ALTER TABLE tenants VALIDATE CONSTRAINT old',
     'ALTER TABLE tenants RENAME CONSTRAINT old TO older', 'ALTER TABLE tenants DROP CONSTRAINT older'],
    ['CREATE TABLE users (tenant bigint, id int, PRIMARY KEY (tenant, id))', "SELECT shoal.distribute_table('users', 'tenant')",
     'ALTER TABLE users ADD CONSTRAINT k FOREIGN KEY (tenant) REFERENCES tenants ON DELETE CASCADE',
     'ALTER TABLE users DROP CONSTRAINT k', 'TRUNCATE users', 'DROP TABLE users'],
    ["CREATE FUNCTION f(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x + 1'",
     "CREATE OR REPLACE FUNCTION f(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN x; END $$",
     'ALTER FUNCTION f(int) STRICT', 'CREATE INDEX f_i ON tenants (f(age))', 'DROP INDEX f_i', 'DROP FUNCTION f(int)'],
    ["CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'", 'DROP PROCEDURE p()'],
    ["CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
     'CREATE TRIGGER g BEFORE INSERT ON tenants FOR EACH ROW EXECUTE FUNCTION g()',
     'ALTER TABLE tenants DISABLE TRIGGER g', 'DROP TRIGGER g ON tenants', 'DROP FUNCTION g()'],
    ['CREATE EXTENSION pg_trgm', 'CREATE INDEX trgm_i ON tenants USING gin (name gin_trgm_ops)', 'DROP INDEX trgm_i',
     'DROP EXTENSION pg_trgm'],
    ['CREATE VIEW v AS SELECT id, name FROM tenants', 'CREATE OR REPLACE VIEW v AS SELECT id, name, age FROM tenants',
     'ALTER VIEW v ALTER COLUMN age SET DEFAULT 1', 'DROP VIEW v'],
    ['CREATE SEQUENCE q', 'ALTER SEQUENCE q OWNED BY tenants.id', 'DROP SEQUENCE q'],
    ['ALTER TABLE tenants ENABLE ROW LEVEL SECURITY', 'CREATE POLICY mine ON tenants USING (age > 0)', 'DROP POLICY mine ON tenants',
     'ALTER TABLE tenants DISABLE ROW LEVEL SECURITY'],
    ['GRANT SELECT, INSERT ON tenants TO other', 'GRANT USAGE ON SCHEMA public TO other', 'REVOKE ALL ON tenants FROM other',
     'ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO other', 'ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM other'],
    ['CREATE ROLE clerk NOLOGIN', 'GRANT clerk TO other', 'ALTER ROLE clerk CREATEDB', 'DROP ROLE clerk'],
    ["COMMENT ON TABLE tenants IS 'x'", "COMMENT ON COLUMN tenants.age IS 'y'", 'COMMENT ON TABLE tenants IS NULL'],
    ['CREATE STATISTICS s ON name, age FROM tenants', 'ANALYZE tenants', 'DROP STATISTICS s'],
    ['VACUUM tenants', 'VACUUM (ANALYZE) tenants', 'ANALYZE', 'CLUSTER tenants USING tenants_pkey', 'REINDEX TABLE tenants'],
    ['CREATE TABLE plain (id serial PRIMARY KEY, body text)', 'ALTER TABLE plain RENAME TO plainer', 'TRUNCATE plainer RESTART IDENTITY',
     'DROP TABLE plainer'],
    ['CREATE TABLE parts (id int, day date) PARTITION BY RANGE (day)',
     "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')", 'DROP TABLE parts'],
]


@pytest.mark.parametrize('forms', FORMS, ids=[forms[0][:40] for forms in FORMS])
def test_a_form_changes_both_shards(tenants, shoal, conn, forms):
    # A migration leaves the shards with different schemas.
    for sql in forms:
        conn.query(sql)
        assert shoal.console('SHOW SCHEMA_DRIFT') == [], sql
    assert conn.query('SELECT count(*), sum(age) FROM tenants') == [['40', '820']]


def test_all_or_nothing(tenants, conn, clusters):
    # DDL fails on the second shard and stays on the first.
    clusters[1].sql('CREATE TABLE there (id int)', database='app', user='app')
    assert refusal(conn, 'CREATE TABLE there (id int)').code == '42P07'
    assert on_each(clusters, "SELECT to_regclass('there') IS NULL") == [[['t']], [['f']]]
    clusters[1].sql('DROP TABLE there', database='app', user='app')
    conn.query('BEGIN')
    conn.query('CREATE TABLE gone (id int)')
    conn.query('ALTER TABLE tenants ADD COLUMN gone int')
    conn.query('ROLLBACK')
    assert same(clusters, "SELECT to_regclass('gone'), count(*) FROM pg_attribute WHERE attrelid = 'tenants'::regclass "
                          "AND attnum > 0 AND NOT attisdropped") == [[None, '3']]


@pytest.mark.parametrize('sql', ['CREATE UNIQUE INDEX ON tenants (name)', 'ALTER TABLE tenants ADD UNIQUE (name)',
                                 'ALTER TABLE tenants ADD CONSTRAINT x EXCLUDE (name WITH =)'])
def test_a_unique_constraint_without_the_key(tenants, conn, sql):
    # Each shard would look at its own rows: two tenants have one name, and nobody says so.
    err = refusal(conn, sql)
    assert err.code == '0A000' and 'key' in err.fields.get('D', '') + err.fields.get('M', '')


def test_truncate_is_of_all_shards(tenants, conn, clusters):
    # The second shard's rows come back.
    conn.query('CREATE TABLE heap (id int PRIMARY KEY)')
    conn.query("SELECT shoal.distribute_table('heap', 'id')")
    conn.query('INSERT INTO heap VALUES ' + ', '.join(f'({i})' for i in range(50)))
    conn.query('BEGIN')
    conn.query('TRUNCATE heap')
    assert conn.query('SELECT id FROM heap') == []
    conn.query('ROLLBACK')
    assert conn.query('SELECT count(*) FROM heap') == [['50']]
    conn.query('TRUNCATE heap')
    assert same(clusters, 'SELECT count(*) FROM heap') == [['0']]
    conn.query('DROP TABLE heap')


def test_a_transaction_does_not_wait_for_itself(tenants, conn):
    # The merge server waits for a lock that its own client holds: for ever.
    for sql in ('LOCK TABLE tenants', 'LOCK TABLE tenants IN ACCESS EXCLUSIVE MODE', 'ALTER TABLE tenants ADD COLUMN late int'):
        conn.query('BEGIN')
        conn.query(sql)
        assert len(conn.query('SELECT id FROM tenants')) == 40
        with pytest.raises(PgError) as caught:
            conn.query('SELECT sum(age) FROM tenants')
        assert caught.value.code == '0A000'
        conn.query('ROLLBACK')
    conn.query('BEGIN')
    conn.query('LOCK TABLE tenants IN SHARE MODE')
    assert conn.query('SELECT sum(age) FROM tenants') == [['820']]
    conn.query('ROLLBACK')


def test_a_client_leaves_while_its_rows_wait(tenants, shoal, clusters):
    # It waits for a lock of somebody else's, goes away, and takes Shoal with it.
    with shoal.connect('app') as conn:
        conn.query('CREATE TABLE other_t (id int PRIMARY KEY, n int)')
        conn.query("SELECT shoal.distribute_table('other_t', 'id')")
        conn.query('INSERT INTO other_t VALUES ' + ', '.join(f'({i}, 0)' for i in range(40)))
    for cluster in clusters:
        with cluster.connect('app', 'app') as holder:
            holder.query('BEGIN')
            holder.query('LOCK TABLE tenants')
            clients = [shoal.connect('app') for _ in range(6)]
            for number, client in enumerate(clients):
                if number % 2: # with connections of its own on both shards
                    client.query('BEGIN')
                    client.query(f"UPDATE other_t SET n = {number} WHERE id IN ({number}, {number + 10}, {number + 20})")
                client.send(query('SELECT sum(age), name FROM tenants GROUP BY name'))
            wait_until('somebody to wait', lambda: cluster.query(
                "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'tenants'::regclass", 'app'))
            for client in clients:
                client.abort()
    assert shoal.query('SELECT sum(age) FROM tenants') == [['820']]


# -- SHOW SCHEMA_DRIFT ----------------------------------------------------------------------------------------

DRIFTS = [
    ('CREATE TABLE extra (id int)', 'DROP TABLE extra', ('table', 'public.extra', 'only here')),
    ('ALTER TABLE tenants ADD COLUMN extra int', 'ALTER TABLE tenants DROP COLUMN extra',
     ('column', 'public.tenants.extra', 'only here')),
    ('ALTER TABLE tenants ALTER COLUMN age SET DEFAULT 5', 'ALTER TABLE tenants ALTER COLUMN age DROP DEFAULT',
     ('column', 'public.tenants.age', 'differs')),
    ('CREATE INDEX extra_i ON tenants (age)', 'DROP INDEX extra_i', ('index', 'public.extra_i', 'only here')),
    ('ALTER TABLE tenants ADD CONSTRAINT c CHECK (age > 0)', 'ALTER TABLE tenants DROP CONSTRAINT c',
     ('constraint', 'public.tenants.c', 'only here')),
    ("CREATE FUNCTION h() RETURNS int LANGUAGE sql AS 'SELECT 1'", 'DROP FUNCTION h()', ('function', 'public.h()', 'only here')),
    ("CREATE TYPE extra AS ENUM ('a')", 'DROP TYPE extra', ('type', 'public.extra', 'only here')),
    ('CREATE VIEW extra AS SELECT 1 AS x', 'DROP VIEW extra', ('view', 'public.extra', 'only here')),
    ('ALTER TABLE tenants ENABLE ROW LEVEL SECURITY', 'ALTER TABLE tenants DISABLE ROW LEVEL SECURITY',
     ('table', 'public.tenants', 'differs')),
    ("COMMENT ON TABLE tenants IS 'x'; CREATE EXTENSION citext", 'COMMENT ON TABLE tenants IS NULL; DROP EXTENSION citext',
     ('extension', 'citext', 'only here')),
]


@pytest.mark.parametrize('there, back, wanted', DRIFTS, ids=[d[0][:30] for d in DRIFTS])
def test_drift_is_shown(tenants, shoal, clusters, there, back, wanted):
    # A shard that was changed by hand answers otherwise, and nobody knows.
    clusters[1].sql(there, database='app', user='app')
    try:
        rows = shoal.console('SHOW SCHEMA_DRIFT')
        assert wanted in [(row['kind'], row['object'], row['what']) for row in rows]
        assert all(row['shard'] == 's1' and row['database'] == 'app' for row in rows)
    finally:
        clusters[1].sql(back, database='app', user='app')


def test_drift_of_what_is_missing(tenants, shoal, clusters):
    clusters[0].sql('CREATE INDEX only_home ON tenants (age)', database='app', user='app')
    assert [(row['object'], row['what'], row['here']) for row in shoal.console('SHOW SCHEMA_DRIFT')] == \
        [('public.only_home', 'missing', None)]
    clusters[0].sql('DROP INDEX only_home', database='app', user='app')


# -- CREATE INDEX CONCURRENTLY -----------------------------------------------------------------------------------

def test_an_index_built_concurrently(tenants, conn, clusters):
    # It is on one shard only, or refused altogether.
    conn.query('CREATE INDEX CONCURRENTLY c_i ON tenants (age)')
    assert same(clusters, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'c_i'::regclass") == [['t']]
    conn.query('REINDEX INDEX CONCURRENTLY c_i')
    conn.query('DROP INDEX CONCURRENTLY c_i')
    conn.query('BEGIN')
    with pytest.raises(PgError) as caught:
        conn.query('CREATE INDEX CONCURRENTLY c_i ON tenants (age)')
    assert caught.value.code == '25001'
    conn.query('ROLLBACK')


def test_an_index_that_fails_on_one_shard_can_be_gone_on_with(tenants, shoal, conn, clusters):
    # The first shard has it, the second one an invalid half: nobody says where, and running it again fails.
    clusters[1].sql('ALTER TABLE tenants ADD COLUMN bad int', database='app', user='app')
    clusters[0].sql('ALTER TABLE tenants ADD COLUMN bad int', database='app', user='app')
    clusters[1].sql('UPDATE tenants SET bad = 0', database='app', user='app')
    clusters[0].sql('UPDATE tenants SET bad = 1', database='app', user='app')
    wait_until('the column to be known', lambda: conn.query('SELECT bad FROM tenants LIMIT 1'))
    err = refusal(conn, 'CREATE INDEX CONCURRENTLY bad_i ON tenants ((1 / bad))')
    assert err.code == '22012'
    assert 's1' in err.fields['D'] and 'done on: s0' in err.fields['D'], err.fields
    [row] = shoal.console('SHOW SCHEMA_DRIFT')
    assert row['object'] == 'public.bad_i' and row['what'] == 'differs' and 'INVALID' in row['here']
    conn.query('UPDATE tenants SET bad = 2')
    conn.query('CREATE INDEX CONCURRENTLY IF NOT EXISTS bad_i ON tenants ((1 / bad))')
    assert same(clusters, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'bad_i'::regclass") == [['t']]
    conn.query('ALTER TABLE tenants DROP COLUMN bad')


def test_an_index_while_a_shard_dies(tenants, shoal, conn, clusters):
    # A shard is killed in the middle: what stands is told, and the statement can be run again.
    clusters[1].kill9()
    err = refusal(conn, 'CREATE INDEX CONCURRENTLY k_i ON tenants (name)')
    assert 'done on: s0' in err.fields.get('D', ''), err.fields
    assert [(row['shard'], row['what']) for row in shoal.console('SHOW SCHEMA_DRIFT')] == [('s1', 'unreachable')]
    clusters[1].start()
    wait_until('the shard to be back', lambda: shoal.query('SELECT count(*) FROM tenants'), 20)
    conn.query('CREATE INDEX CONCURRENTLY IF NOT EXISTS k_i ON tenants (name)')
    assert same(clusters, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'k_i'::regclass") == [['t']]
    conn.query('DROP INDEX CONCURRENTLY k_i')
