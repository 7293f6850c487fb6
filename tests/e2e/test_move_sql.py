"""Statements for several shards, and DDL, while rows lie on two of them: copied, switched, rolled back, finished.

Each statement is asked of Shoal and of one PostgreSQL that has all rows (database `whole`); answers must be equal.
"""
import threading
import time

import pytest

from tests.support.cluster import wait_until
from tests.support.moves import Moving
from tests.support.wire import PgError, errors_of, message, query

pytestmark = pytest.mark.shoal_only

DDL = ['CREATE TABLE users(id bigint PRIMARY KEY, name text NOT NULL, age int, twice int GENERATED ALWAYS AS (age * 2) STORED)',
       'CREATE TABLE orders(user_id bigint, id bigint, amount numeric, PRIMARY KEY (user_id, id))',
       'CREATE TABLE kinds(id int PRIMARY KEY, title text)']
SELECTS = [
    'SELECT * FROM users ORDER BY id',
    'SELECT id, age FROM users WHERE age > 20 ORDER BY id DESC LIMIT 7 OFFSET 3',
    'SELECT count(*), sum(age), min(id), max(name), avg(age) FROM users',
    'SELECT age % 5, count(*) FROM users GROUP BY 1 ORDER BY 1',
    'SELECT count(*) FROM users u JOIN orders o ON o.user_id = u.id WHERE u.age > 10',
    'SELECT u.id, count(o.id) FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id ORDER BY u.id',
    'SELECT u.name, k.title FROM users u JOIN kinds k ON k.id = u.age % 3 ORDER BY u.id',
    'SELECT id, rank() OVER (ORDER BY age, id) FROM users ORDER BY 2, 1',
    'SELECT count(DISTINCT age) FROM users',
    'SELECT a.id, b.id FROM users a JOIN users b ON a.age = b.age AND a.id < b.id ORDER BY 1, 2',
    'SELECT count(*) FROM users x(a, b, c)',
    'SELECT count(*) FROM (users u JOIN orders o ON o.user_id = u.id) AS j',
    'SELECT id FROM users u WHERE EXISTS (SELECT FROM orders o WHERE o.user_id = u.id AND o.amount > 50) ORDER BY id',
    'WITH old AS (SELECT * FROM users WHERE age > 30) SELECT count(*), sum(age) FROM old',
    'SELECT age FROM users UNION SELECT age + 1 FROM users ORDER BY 1',
    'SELECT id FROM users WHERE id IN (1, 2, 3, 40, 41, 42, 77) ORDER BY id',
    'SELECT id, name FROM users WHERE age = 12 ORDER BY id FOR UPDATE',
]
WRITES = [
    "UPDATE users SET age = age + 1 WHERE age % 2 = 0",
    "UPDATE users SET name = name || '!' WHERE id IN (3, 4, 5, 60, 61, 62)",
    "UPDATE orders o SET amount = amount + 1 FROM users u WHERE u.id = o.user_id AND u.age > 25",
    "DELETE FROM orders WHERE amount > 90",
    "INSERT INTO orders SELECT user_id, id + 100000, amount FROM orders WHERE id % 50 = 1",
    "INSERT INTO orders SELECT id, 200000 + id, age FROM users WHERE age = 7",
    "DELETE FROM orders WHERE id >= 100000",
    "UPDATE kinds SET title = title || '+'",
    "INSERT INTO kinds VALUES (1000 + (SELECT count(*) FROM kinds), 'x')",
]
PEOPLE = 120


@pytest.fixture(scope='module')
def moving(workspace):
    moving = Moving(workspace, 3, DDL, {'users': 'id', 'orders': 'user_id'},
                    settings={'move_rollback_window': '10min', 'move_fence_timeout': '3s'})
    whole = moving.clusters[0]
    whole.sql('CREATE DATABASE whole OWNER app')
    whole.sql(*DDL, database='whole', user='app')
    moving.shoal.start()
    with moving.shoal.connect() as conn:
        conn.query("SELECT shoal.create_reference_table('kinds')")
        both(moving, conn, "INSERT INTO kinds VALUES (0, 'a'), (1, 'b'), (2, 'c')")
        both(moving, conn, 'INSERT INTO users(id, name, age) VALUES ' +
             ', '.join(f"({i}, 'n{i}', {i % 37})" for i in range(PEOPLE)))
        both(moving, conn, 'INSERT INTO orders VALUES ' +
             ', '.join(f'({i % PEOPLE}, {i}, {i % 97})' for i in range(3 * PEOPLE)))
    yield moving
    moving.finish()


def copy_in(conn, sql, data):
    conn.send(query(sql))
    conn.until('G')
    for err in errors_of(conn.exchange(message('d', data) + message('c'))):
        raise err


def copy_out(conn, sql):
    """Its lines, in some order."""
    seen = conn.exchange(query(sql))
    for err in errors_of(seen):
        raise err
    return sorted(b''.join(m.body for m in seen if m.type == 'd').splitlines())


def both(moving, conn, sql):
    """The same of Shoal and of the PostgreSQL that has everything."""
    wanted = moving.clusters[0].query(sql, 'whole')
    got = conn.query(sql)
    assert [[c if c is None else str(c) for c in row] for row in got] == \
        [[c if c is None else str(c) for c in row] for row in wanted], sql
    return got


def whole_battery(moving, number=0):
    """All of them in the simple protocol, alone and in a transaction; COPY out and in."""
    with moving.shoal.connect() as conn:
        for sql in SELECTS:
            assert both(moving, conn, sql) == conn.execute(sql), sql  # and by the extended protocol
        for least in (5, 30):
            assert conn.execute('SELECT count(*), sum(age) FROM users WHERE age > $1', [str(least).encode()]) == \
                moving.clusters[0].query(f'SELECT count(*), sum(age) FROM users WHERE age > {least}', 'whole')
        for sql in WRITES:
            if 'FROM kinds' not in sql:  # a subquery in VALUES for a reference table is refused
                both(moving, conn, sql)
        conn.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
        for sql in SELECTS[:-1]:
            both(moving, conn, sql)
        conn.query('COMMIT')
        first = 10000 + 100 * number
        rows = ', '.join(f"({i}, 'new{i}', {i % 37})" for i in range(first, first + 40))
        both(moving, conn, f'INSERT INTO users(id, name, age) VALUES {rows}')
        lines = b''.join(f'{i}\tcopied\t{i % 37}\n'.encode() for i in range(first + 40, first + 80))
        copy_in(conn, 'COPY users(id, name, age) FROM STDIN', lines)
        for i in range(first + 40, first + 80):
            moving.clusters[0].sql(f"INSERT INTO users(id, name, age) VALUES ({i}, 'copied', {i % 37})", database='whole')
        for sql in ('COPY users TO STDOUT', 'COPY users(name, id) TO STDOUT (FORMAT csv)',
                    'COPY (SELECT id, name FROM users WHERE age > 5) TO STDOUT'):
            with moving.clusters[0].connect('whole') as whole:
                assert copy_out(conn, sql) == copy_out(whole, sql), sql
        both(moving, conn, 'SELECT * FROM users ORDER BY id')


def start_and_hold(moving, buckets, target):
    """A move that has copied everything and does not go on."""
    number = moving.move(buckets, target)
    wait_until('the move to begin', lambda: moving.state(number)['state'] == 'moving', 30, 0.02)
    moving.shoal.console('REBALANCE PAUSE')
    wait_until('the rows to be copied', lambda: moving.state(number)['step'] == 'catch_up', 30, 0.05)
    return number


def test_rows_on_two_shards_are_one_row(moving):
    # A count is too high, an UPDATE changes a row twice, or a report fails for as long as a move takes.
    number = start_and_hold(moving, '0-9', 's1')
    whole_battery(moving, 1)
    with moving.shoal.connect() as conn:
        for sql in ('ALTER TABLE users ADD COLUMN late int', 'TRUNCATE orders', 'DROP TABLE orders',
                    'CREATE INDEX late ON users(age)'):
            with pytest.raises(PgError) as refused:
                conn.query(sql)
            assert refused.value.fields['C'] == '55006' and refused.value.fields['H'], sql
        conn.query('ANALYZE users')
        conn.query('CREATE TABLE other(a int)')
    moving.shoal.console('REBALANCE RESUME')
    moving.wait(number, ('switched',))
    wait_until('the way back', lambda: moving.state(number)['step'] == 'rest', 30, 0.05)
    whole_battery(moving, 2)
    moving.shoal.console(f'REBALANCE ROLLBACK {number}')
    assert moving.wait(number)['state'] == 'cancelled'
    whole_battery(moving, 3)
    moving.check()


def test_tables_change_in_the_rollback_window(moving):
    # Nobody can deploy for as long as old rows are kept; or the rollback brings back a table of another shape.
    number = moving.move('10-15', 's1')
    wait_until('the way back', lambda: moving.state(number)['step'] == 'rest', 30, 0.05)
    with moving.shoal.connect() as conn:
        for sql in ('ALTER TABLE users ADD COLUMN late int NOT NULL DEFAULT 7', 'CREATE INDEX by_age ON users(age)',
                    'ALTER TABLE users DROP COLUMN late', 'ALTER TABLE users ADD COLUMN note text'):
            both(moving, conn, sql)
            both(moving, conn, "UPDATE users SET name = name || '.' WHERE age < 9")
            both(moving, conn, 'SELECT * FROM users ORDER BY id')
        conn.query('CREATE TABLE passing(id bigint PRIMARY KEY, n int)')
    whole_battery(moving, 4)
    moving.shoal.console(f'REBALANCE ROLLBACK {number}')
    assert moving.wait(number)['state'] == 'cancelled', moving.state(number)
    whole_battery(moving, 5)
    moving.check()


def test_a_table_that_goes_in_the_rollback_window(moving):
    # A table dropped meanwhile keeps the move from ever being finished.
    with moving.shoal.connect() as conn:
        conn.query('CREATE TABLE doomed(id bigint PRIMARY KEY, n int)')
        conn.query("SELECT shoal.distribute_table('doomed', 'id')")
        for key in range(60):
            conn.query(f'INSERT INTO doomed VALUES ({key}, 0)')
        number = moving.move('16-20', 's1')
        wait_until('the way back', lambda: moving.state(number)['step'] == 'rest', 30, 0.05)
        conn.query('DROP TABLE doomed')
    moving.shoal.console(f'REBALANCE FINISH {number}')
    assert moving.wait(number)['state'] == 'done', moving.state(number)
    moving.check()


def test_reports_run_through_every_pause(moving):
    # A report fails, or counts wrong, in the moment in which rows change their shard.
    stop, wrong = threading.Event(), []

    def report():
        try:
            with moving.shoal.connect(timeout_s=40) as conn:
                wanted = conn.query('SELECT count(*), sum(id) FROM users')
                while not stop.is_set():
                    for sql in ('SELECT count(*), sum(id) FROM users',
                                'SELECT count(*), sum(id) FROM (SELECT id, row_number() OVER () FROM users) x'):
                        got = conn.query(sql)
                        if got != wanted:
                            wrong.append((sql, got, wanted))
                    conn.query('UPDATE users SET age = age WHERE age = 3')
                    conn.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
                    a = conn.query('SELECT count(*), sum(id) FROM users')
                    time.sleep(0.02)
                    b = conn.query('SELECT count(*), sum(id) FROM users')
                    if a != wanted or b != wanted:
                        wrong.append(('repeatable read', a, b, wanted))
                    conn.query('COMMIT')
        except (PgError, OSError) as err:
            wrong.append(repr(err))

    threads = [threading.Thread(target=report, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for target in ('s2', 's1', 's0'):
        number = moving.move('0-3', target)
        wait_until('the way back', lambda: moving.state(number)['step'] == 'rest' or
                   moving.state(number)['state'] in ('failed', 'done'), 60, 0.05)
        assert moving.state(number)['state'] == 'switched', (moving.state(number)['reason'], wrong[:3])
        moving.shoal.console(f'REBALANCE FINISH {number}')
        assert moving.wait(number)['state'] == 'done', moving.state(number)
        assert not wrong, wrong[:3]
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not wrong and not any(t.is_alive() for t in threads), wrong[:3]
    moving.check()
