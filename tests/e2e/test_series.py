"""Series: several statements in one Query, or one pipeline, whose rows are on several shards.

PostgreSQL makes one transaction of them. Each story is told to a single PostgreSQL too; both must answer with the
same messages and leave the same rows.
"""
import pytest

from tests.support.wire import (bind, describe, errors_of, execute, extended, parse, query, rows_of, sync,
                                tags_of, types_of)

pytestmark = pytest.mark.shoal_only

KEYS = range(1, 41)


@pytest.fixture(scope='module')
def app(shoal, clusters):
    with shoal.connect('app') as conn:
        conn.query('CREATE TABLE acc (id bigint PRIMARY KEY, bal int NOT NULL CHECK (bal >= 0), note text)')
        conn.query("SELECT shoal.distribute_table('acc', 'id')")
    clusters[0].sql('CREATE DATABASE plain')
    clusters[0].sql('CREATE TABLE acc (id bigint PRIMARY KEY, bal int NOT NULL CHECK (bal >= 0), note text)',
                    database='plain')
    return shoal


@pytest.fixture
def both(app, clusters):
    """Connections to Shoal and to one PostgreSQL, over the same forty accounts."""
    with app.connect('app') as conn, clusters[0].connect('plain') as plain:
        for each in (conn, plain):
            each.query('DELETE FROM acc')
            for key in KEYS:
                each.query(f'INSERT INTO acc VALUES ({key}, 100)')
        yield conn, plain


def words(messages):
    """What a client sees, without what only one server knows (OIDs, places in source files)."""
    told = []
    for m in messages:
        if m.type == 'T':
            told.append(('T', int.from_bytes(m.body[:2], 'big')))
        elif m.type in 'EN':
            fields = dict((f[:1], f[1:]) for f in m.body.split(b'\0') if f)
            told.append((m.type, fields[b'C'], fields[b'M']))
        else:
            told.append((m.type, m.body))
    return told


def same(both, data, rows="SELECT id, bal, note FROM acc WHERE id = {}"):
    """Tells it to both and compares every message; then every row, one by one."""
    conn, plain = both
    data = query(data) if isinstance(data, str) else data
    seen = conn.exchange(data)
    assert words(seen) == words(plain.exchange(data))
    assert conn.status == plain.status
    if conn.status == 'I':
        for key in KEYS:
            assert conn.query(rows.format(key)) == plain.query(rows.format(key))
    return seen


def step(sql, *values):
    return parse('', sql) + bind('', '', [str(v) for v in values]) + describe('P', '') + execute()


STORIES = [
    "UPDATE acc SET bal = bal - 1 WHERE id = 1; UPDATE acc SET bal = bal + 1 WHERE id = 2; "
    "UPDATE acc SET bal = bal + 1 WHERE id = 3; SELECT bal FROM acc WHERE id = 5",
    "UPDATE acc SET bal = 0 WHERE id = 1; UPDATE acc SET bal = -1 WHERE id = 2; UPDATE acc SET bal = 7 WHERE id = 3",
    "BEGIN; UPDATE acc SET bal = 1 WHERE id = 1; UPDATE acc SET bal = 2 WHERE id = 2; COMMIT; "
    "UPDATE acc SET bal = 3 WHERE id = 3; UPDATE acc SET bal = bal / 0 WHERE id = 4",
    "BEGIN; UPDATE acc SET bal = 1 WHERE id = 1; UPDATE acc SET bal = 2 WHERE id = 2; ROLLBACK; SELECT 1 AS one",
    "BEGIN; DELETE FROM acc WHERE id = 1; SAVEPOINT a; DELETE FROM acc WHERE id = 2; DELETE FROM acc WHERE id = 3; "
    "ROLLBACK TO a; DELETE FROM acc WHERE id = 4; RELEASE a; COMMIT",
    "UPDATE acc SET note = 'a;b' WHERE id = 1; /* ; */ UPDATE acc SET note = $$x;y$$ WHERE id = 2 -- ;\n; ; "
    "UPDATE acc SET note = (SELECT 'c;d') WHERE id = 3;",
    "DELETE FROM acc WHERE id = 1; SAVEPOINT a; DELETE FROM acc WHERE id = 2",
    "DELETE FROM acc; SELECT 1 / 0",
    "DELETE FROM acc; INSERT INTO acc VALUES (1, 5); INSERT INTO acc VALUES (2, 5) RETURNING note",
    "SET LOCAL statement_timeout = '5s'; DELETE FROM acc WHERE id = 1; DELETE FROM acc WHERE id = 2; SHOW statement_timeout",
    "SELEC 1; DELETE FROM acc WHERE id = 1",
]


@pytest.mark.parametrize('sql', STORIES)
def test_a_query_of_several_statements(both, sql):
    # One half of a script is committed and the other is not.
    same(both, sql)


def test_a_block_goes_on_after_the_query(both):
    # psycopg2, JDBC: BEGIN travels with the first statement; the second one is on another shard.
    for key in (2, 3, 5):
        same(both, f'BEGIN; UPDATE acc SET bal = bal - 1 WHERE id = 1')
        same(both, f'UPDATE acc SET bal = bal + 1 WHERE id = {key}')
        same(both, 'COMMIT')


def test_begin_in_a_pipeline_with_the_first_statement(both):
    # The same in the extended protocol.
    for key in (2, 3, 5):
        same(both, step('BEGIN') + step('UPDATE acc SET bal = bal - 1 WHERE id = $1', 1) + sync())
        same(both, step('UPDATE acc SET bal = bal + 1 WHERE id = $1', key) + sync())
        same(both, step('COMMIT') + sync())


def test_a_pipeline_is_one_transaction(both):
    # executemany(): the rows before the bad one stay although the client was told of an error.
    same(both, b''.join(step('UPDATE acc SET bal = bal + $2 WHERE id = $1 RETURNING bal', k, k) for k in KEYS) + sync())
    seen = same(both, b''.join(step('UPDATE acc SET bal = bal - $2 WHERE id = $1', k, 109 + k % 7) for k in KEYS) + sync())
    assert errors_of(seen)[0].code == '23514'
    same(both, step('SELECT bal FROM acc WHERE id = $1', 1) + step('SELECT bal FROM acc WHERE id = $1', 2) + sync())


def test_named_statements_in_a_pipeline(both):
    # A statement that was parsed in a part that never ran is thought to be there.
    bad = parse('s1', 'UPDATE acc SET bal = $2 WHERE id = $1') + bind('', 's1', ['1', '-5']) + execute() + \
        parse('s2', 'SELECT bal FROM acc WHERE id = $1') + bind('', 's2', ['2']) + execute() + sync()
    same(both, bad)
    same(both, bind('', 's1', ['2', '5']) + execute() + sync())
    conn, plain = both
    data = bind('', 's2', ['2']) + execute() + sync()
    assert errors_of(conn.exchange(data))[0].code == errors_of(plain.exchange(data))[0].code == '26000'


def test_ddl_among_other_statements(app, clusters):
    # A migration: Prisma sends the whole script as one Query.
    with app.connect('app') as conn:
        seen = conn.exchange(query('CREATE TABLE made (a int); CREATE INDEX ON made (a); INSERT INTO made VALUES (1); '
                                   'ALTER TABLE acc ADD COLUMN extra int DEFAULT 4; UPDATE acc SET extra = 5 WHERE id = 1'))
        assert not errors_of(seen), errors_of(seen)
        assert conn.query('SELECT a FROM made') == [['1']]
        seen = conn.exchange(query('CREATE TABLE unmade (a int); SELECT 1 / 0'))
        assert errors_of(seen)[0].code == '22012' and types_of(seen)[-1] == 'Z'
        conn.query('ALTER TABLE acc DROP COLUMN extra; DROP TABLE made')
    for cluster in clusters:
        assert cluster.query("SELECT count(*) FROM pg_class WHERE relname IN ('made', 'unmade')", 'app') == [['0']]
        assert cluster.query('SELECT gid FROM pg_prepared_xacts', 'app') == []
