"""Results fetched in parts: cursors and portals, of one shard and of several, like one PostgreSQL's.

Every script runs through Shoal (two shards) and on one PostgreSQL with the same rows: the same messages come back.
"""
import subprocess

import psycopg2
import pytest

from tests.support.differential import compare, difference
from tests.support.wire import (Msg, bind, close, column_names, describe, errors_of, execute, extended, flush, parse, query, rows_of, sync,
                                tags_of)

pytestmark = pytest.mark.shoal_only

ROWS = 60
SCHEMA = ['CREATE TABLE users (id bigint PRIMARY KEY, name text, age int)',
          'CREATE TABLE orders (user_id bigint, id int, total numeric, PRIMARY KEY (user_id, id))',
          'CREATE TABLE items (sku int PRIMARY KEY, name text)',
          'CREATE TABLE notes (id int PRIMARY KEY, body text)']
ALL = 'SELECT id, name FROM users ORDER BY id'


@pytest.fixture(scope='module')
def shoal_settings():
    return {'client_cursors_max': '12'}


@pytest.fixture(scope='module')
def app(shoal, clusters):
    with shoal.connect('app') as ours, clusters[0].connect('solo', 'app') as theirs:
        for conn in (ours, theirs):
            for ddl in SCHEMA:
                conn.query(ddl)
        for table, key in (('users', 'id'), ('orders', 'user_id'), ('items', 'sku')):
            ours.query(f"SELECT shoal.distribute_table('{table}', '{key}')")
        for conn in (ours, theirs):
            for k in range(1, ROWS + 1):
                conn.query(f"INSERT INTO users VALUES ({k}, 'n{k % 7}', {k % 9})")
                conn.query(f"INSERT INTO orders VALUES ({k}, {k % 3}, {k}.5)")
                conn.query(f"INSERT INTO items VALUES ({k}, 'n{k % 5}')")
            conn.query("INSERT INTO notes SELECT g, 'b' || g FROM generate_series(1, 30) g")
    return shoal


@pytest.fixture
def both(app, clusters):
    """The same script on one PostgreSQL and through Shoal: the same answers."""
    def run(*parts, fails=0):
        answers = []
        for side, database in ((clusters[0], 'solo'), (app, 'app')):
            with side.connect(database, 'app', timeout_s=60) as conn:
                seen = []
                for data, ready in parts:
                    seen += conn.exchange(data, ready)
                answers.append(seen)
        found = difference(*[[same(m) for m in seen] for seen in answers])
        assert found is None, '\n' + found
        assert len(errors_of(answers[1])) == fails, errors_of(answers[1])
        return answers[1]
    return run


def same(msg):
    """Which table a column came from, the merge server cannot tell."""
    if msg.type != 'T':
        return msg
    at, kept = 2, b''
    for name in column_names(msg.body):
        at += len(name.encode()) + 1
        kept += name.encode() + b'\0' + msg.body[at + 6:at + 18]
        at += 18
    return Msg('T', kept)


def simple(*texts):
    return [(query(text), 1) for text in texts]


# -- SQL -----------------------------------------------------------------------------------------------

SELECTS = [ALL, 'SELECT id AS a, id AS a, name FROM users ORDER BY 1 DESC', 'SELECT name, id FROM users WHERE age < 4 ORDER BY name, id',
           'SELECT count(*), sum(age) AS s FROM users', 'SELECT name, count(*) FROM users GROUP BY name ORDER BY name',
           'SELECT u.id, o.total FROM users u JOIN orders o ON o.user_id = u.id ORDER BY o.total LIMIT 20 OFFSET 3',
           'SELECT u.id, i.sku FROM users u JOIN items i ON i.name = u.name ORDER BY 1, 2 LIMIT 25',
           'SELECT id, rank() OVER (ORDER BY age, id) FROM users ORDER BY 2', 'SELECT name FROM users WHERE id = 7',
           'SELECT id FROM notes ORDER BY id', 'SELECT n.id, u.name FROM notes n JOIN users u ON u.id = n.id ORDER BY 1',
           'WITH t AS (SELECT age, count(*) AS c FROM users GROUP BY age) SELECT * FROM t ORDER BY age']


@pytest.mark.parametrize('sql', SELECTS)
def test_declare_fetch_move_close(both, sql):
    # A cursor over several shards shows the rows of one of them, or skips some between two FETCHes.
    both(*simple('BEGIN', f'DECLARE c CURSOR FOR {sql}', 'FETCH 3 FROM c', 'MOVE 2 IN c', 'FETCH NEXT FROM c', 'FETCH FORWARD 7 FROM c',
                 'SELECT name FROM users WHERE id = 3', 'FETCH ALL FROM c', 'FETCH 1 FROM c', 'CLOSE c', 'COMMIT'))


def test_scroll(both):
    # Backwards, absolute and relative positions.
    both(*simple('BEGIN', f'DECLARE c SCROLL CURSOR FOR {ALL}', 'FETCH LAST FROM c', 'FETCH BACKWARD 3 FROM c', 'FETCH ABSOLUTE 10 FROM c',
                 'FETCH RELATIVE -2 FROM c', 'MOVE FIRST FROM c', 'FETCH BACKWARD ALL FROM c', 'FETCH PRIOR FROM c', 'FETCH 2 FROM c', 'COMMIT'))
    both(*simple('BEGIN', f'DECLARE c NO SCROLL CURSOR FOR {ALL}', 'FETCH 3 FROM c', 'FETCH BACKWARD 1 FROM c', 'FETCH 1 FROM c', 'ROLLBACK'),
         fails=2)


def test_several_at_once(both):
    # One cursor's rows in another's answer; writes between two fetches hidden or shown wrongly.
    both(*simple('BEGIN', f'DECLARE a CURSOR FOR {ALL}', 'FETCH 2 FROM a', 'DECLARE "B c" CURSOR FOR SELECT sku FROM items ORDER BY sku DESC',
                 'FETCH 2 FROM "B c"', 'DECLARE one CURSOR FOR SELECT name, age FROM users WHERE id = 9', "UPDATE users SET name = 'x' WHERE id = 3",
                 'DELETE FROM users WHERE age = 4', 'FETCH 4 FROM a', 'FETCH 4 FROM one', 'FETCH 2 FROM "B c"', 'DECLARE a CURSOR FOR SELECT 1', 'ROLLBACK'),
         fails=1)
    both(*simple('BEGIN', "UPDATE users SET name = 'mine' WHERE id IN (1, 2, 3, 4)", f'DECLARE a CURSOR FOR {ALL}', 'FETCH 5 FROM a',
                 'CLOSE ALL', 'FETCH 1 FROM a', 'ROLLBACK'), fails=1)
    both(*simple('BEGIN', f'DECLARE a CURSOR FOR {ALL}', 'CLOSE a', f'DECLARE a CURSOR FOR {ALL}', 'FETCH 1 FROM a', 'CLOSE a', 'CLOSE a', 'COMMIT'), fails=1)


def test_savepoints(both):
    # A cursor outlives the savepoint in which it was made, or dies with one that is older.
    both(*simple('BEGIN', f'DECLARE a CURSOR FOR {ALL}', 'FETCH 2 FROM a', 'SAVEPOINT s', 'FETCH 1 FROM a', f'DECLARE b CURSOR FOR {ALL}', 'FETCH 1 FROM b',
                 'ROLLBACK TO s', 'FETCH 1 FROM a', 'FETCH 1 FROM b', 'ROLLBACK TO s', f'DECLARE b CURSOR FOR {ALL}', 'RELEASE s',
                 'SAVEPOINT t', 'ROLLBACK TO t', 'FETCH 2 FROM b', 'COMMIT'), fails=1)


def test_outside_of_transactions(both):
    both(*simple(f'DECLARE c CURSOR FOR {ALL}', 'FETCH 1 FROM c', 'BEGIN', f'DECLARE c CURSOR FOR {ALL}', 'COMMIT', 'FETCH 1 FROM c'), fails=3)


def test_with_hold(both):
    # It outlives its transaction, unless that is rolled back.
    both(*simple('BEGIN', f'DECLARE c CURSOR WITH HOLD FOR {ALL}', 'FETCH 2 FROM c', 'COMMIT', 'FETCH 2 FROM c', 'BEGIN', 'FETCH 2 FROM c',
                 'ROLLBACK', 'FETCH 1 FROM c', 'SELECT count(*) FROM users', 'CLOSE c', 'FETCH 1 FROM c'), fails=1)
    both(*simple(f'DECLARE c SCROLL CURSOR WITH HOLD FOR {ALL}', 'FETCH LAST FROM c', 'FETCH FIRST FROM c', 'CLOSE ALL', 'FETCH 1 FROM c'), fails=1)
    both(*simple('BEGIN', f'DECLARE c CURSOR WITH HOLD FOR {ALL}', 'ROLLBACK', 'FETCH 2 FROM c'), fails=1)
    both(*simple(f'DECLARE c CURSOR WITH HOLD FOR {ALL}', 'FETCH 1 FROM c', 'DISCARD ALL', 'FETCH 1 FROM c'), fails=1)


def test_one_shard_knows_its_cursors(direct, shoal):
    # A cursor that was closed among other statements is taken for open.
    def script(conn):
        seen = []
        for sql in ('DECLARE c CURSOR WITH HOLD FOR SELECT 1', 'CLOSE c; SELECT 2', 'DECLARE c CURSOR WITH HOLD FOR SELECT 3', 'FETCH 1 FROM c',
                    'CLOSE ALL', 'FETCH 1 FROM c'):
            seen += conn.exchange(query(sql))
        return seen
    compare(script, direct, shoal)


def test_one_query_of_several(both):
    both((query(f'BEGIN; DECLARE c CURSOR FOR {ALL}; FETCH 2 FROM c; FETCH 3 FROM c; COMMIT'), 1))
    both((query(f'DECLARE c CURSOR FOR {ALL}; FETCH 2 FROM c'), 1), *simple('FETCH 1 FROM c'), fails=1)


def test_locks_and_current_of(app, clusters):
    # FOR UPDATE would lock nothing: refused; WHERE CURRENT OF never changes another shard's row.
    with app.connect('app', timeout_s=60) as conn:
        conn.query('BEGIN')
        err = errors_of(conn.exchange(query('DECLARE c CURSOR FOR SELECT id FROM users FOR UPDATE')))[0]
        assert err.code == '0A000'
        conn.query('ROLLBACK')
        conn.query('BEGIN')
        conn.query(f'DECLARE c CURSOR FOR {ALL}')
        conn.query('FETCH 1 FROM c')
        assert errors_of(conn.exchange(query('DELETE FROM users WHERE CURRENT OF c')))
        conn.query('ROLLBACK')


def test_too_many(app):
    with app.connect('app', timeout_s=60) as conn:
        conn.query('BEGIN')
        for k in range(12):
            conn.query(f'DECLARE c{k} CURSOR FOR SELECT id FROM users WHERE id = {k}')
        assert errors_of(conn.exchange(query(f'DECLARE z CURSOR FOR {ALL}')))[0].code == '54000'
        conn.query('ROLLBACK')


# -- protocol ------------------------------------------------------------------------------------------

@pytest.mark.parametrize('sql', SELECTS)
def test_fetch_size_in_a_transaction(both, sql):
    # JDBC's fetch size, asyncpg's cursor.
    both((query('BEGIN'), 1), (parse('', sql) + bind('C_1', '', results=[1]) + describe('P', 'C_1') + execute('C_1', 4) + sync(), 1),
         (execute('C_1', 4) + sync(), 1), (query('SELECT name FROM users WHERE id = 2'), 1), (describe('P', 'C_1') + sync(), 1),
         (execute('C_1', 5) + sync(), 1), (execute('C_1', 0) + sync(), 1), (close('P', 'C_1') + sync(), 1), (query('COMMIT'), 1))


@pytest.mark.parametrize('sql', SELECTS)
def test_fetch_size_outside_of_a_transaction(both, sql):
    # The portal is gone after Sync, as in PostgreSQL; what was limited is not the whole answer.
    both((parse('', sql) + bind() + describe('P') + execute('', 4) + sync(), 1), (execute('', 4) + sync(), 1), fails=1)


def test_bound_first_and_executed_later(both):
    # A Bind that was answered by one shard, and its Execute with that shard's rows alone.
    for sql in SELECTS:
        both((query('BEGIN'), 1), (parse('s', sql) + bind('p', 's') + describe('P', 'p') + sync(), 1), (execute('p', 3) + sync(), 1),
             (execute('p', 3) + sync(), 1), (close('P', 'p') + sync(), 1), (bind('p', 's') + sync(), 1), (execute('p') + sync(), 1), (query('COMMIT'), 1))
    for sql in ('UPDATE users SET age = age + 1', "INSERT INTO notes SELECT id + 1000, name FROM users", 'DELETE FROM orders'):
        both((query('BEGIN'), 1), (parse('', sql) + bind('p') + describe('P', 'p') + sync(), 1), (execute('p', 1) + sync(), 1), (query('ROLLBACK'), 1))


def test_executed_twice_in_one_series(app):
    # The second part of the rows is never sent, and nobody is told.
    with app.connect('app', timeout_s=60) as conn:
        seen = conn.exchange(parse('', ALL) + bind() + execute('', 5) + execute('', 5) + sync())
        assert errors_of(seen)[0].code == '0A000' and not rows_of(seen)
        assert len(rows_of(conn.exchange(query(ALL)))) == ROWS


def test_flush_between(app, clusters):
    # node-postgres' cursor: Flush instead of Sync, outside of a transaction.
    answers = []
    for side, database in ((clusters[0], 'solo'), (app, 'app')):
        with side.connect(database, 'app', timeout_s=60) as conn:
            seen = []
            for data, end in ((parse('', ALL) + bind() + describe('P') + flush(), 'T'), (execute('', 25) + flush(), 's'),
                              (execute('', 25) + flush(), 's'), (execute('', 25) + flush(), 'C')):
                conn.send(data)
                seen += conn.until(end)
            answers.append(seen + conn.exchange(close('P') + sync()))
    answers = [[same(m) for m in seen] for seen in answers]
    assert difference(*answers) is None, difference(*answers)
    assert len(rows_of(answers[1])) == ROWS


def test_parameters(both):
    sql = 'SELECT id, name FROM users WHERE age > $1 ORDER BY name, id LIMIT $2'
    both((query('BEGIN'), 1), (parse('', sql) + bind('c', '', ['2', '30']) + execute('c', 7) + sync(), 1), (execute('c', 50) + sync(), 1), (query('COMMIT'), 1))
    both((query('BEGIN'), 1), (extended(f'DECLARE c CURSOR FOR {sql}', ['2', '30']), 1), (extended('FETCH 9 FROM c', results=[1]), 1),
         (describe('P', 'c') + sync(), 1), (execute('c', 3) + sync(), 1), (query('FETCH 2 FROM c'), 1), (extended('CLOSE c'), 1), (query('COMMIT'), 1))


# -- drivers -------------------------------------------------------------------------------------------

def test_psycopg2_named_cursor(app):
    conn = psycopg2.connect(host='127.0.0.1', port=app.address[1], dbname='app', user='app')
    with conn, conn.cursor('named') as cur:
        cur.itersize = 7
        cur.execute('SELECT id FROM users WHERE age <> %s ORDER BY name, id', (3,))
        rows = [row[0] for row in cur]
    with conn, conn.cursor() as cur:
        cur.execute('SELECT id FROM users WHERE age <> 3 ORDER BY name, id')
        assert rows == [row[0] for row in cur.fetchall()]
    conn.close()


def test_psql_fetch_count(app):
    sql = 'SELECT id, name FROM users ORDER BY name, id'
    url = f'host=127.0.0.1 port={app.address[1]} dbname=app user=app'
    whole = subprocess.run(['psql', '-X', url, '-Atc', sql], capture_output=True, text=True, timeout=60)
    parts = subprocess.run(['psql', '-X', url, '-At', '-v', 'FETCH_COUNT=9'], input=sql + ';', capture_output=True, text=True, timeout=60)
    assert whole.returncode == 0 and parts.returncode == 0, parts.stderr
    assert parts.stdout == whole.stdout and parts.stdout.count('\n') == ROWS
