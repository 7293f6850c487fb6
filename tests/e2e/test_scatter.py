"""SELECTs over several shards: hazards H46-H55, transactions, cancel, limits, streaming.

What is answered is compared with the rows that the shards hold, asked directly. Random statements are in
test_sql_oracle.py.
"""
import struct
import threading
import time

import pytest

from tests.support.wire import (PgError, bind, describe, errors_of, execute, extended, parse, query, rows_of, sync,
                                tags_of)

pytestmark = pytest.mark.shoal_only

ROWS = 120
WORDS = ['ada', 'Bob', 'böe', 'bo', 'B', 'zed', '_x', 'Ada', 'a-b', 'ab']


@pytest.fixture(scope='module')
def shoal_settings():
    return {'gather_max_bytes': '256kB'}


@pytest.fixture(scope='module')
def app(shoal, clusters):
    # The OID of the enum is another one on each shard (H55).
    clusters[1].sql('CREATE TYPE other AS ENUM ()', 'CREATE TYPE another AS ENUM ()', database='app', user='app')
    with shoal.connect('app') as conn:
        for ddl in ("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",
                    'CREATE TABLE users (id bigint PRIMARY KEY, name text, age int, mood mood, price real)',
                    'CREATE TABLE orders (user_id bigint, id int, total numeric, PRIMARY KEY (user_id, id))',
                    'CREATE TABLE things (id uuid PRIMARY KEY, v int)',
                    'CREATE TABLE notes (id int PRIMARY KEY, v text)',
                    'CREATE TABLE big (id int PRIMARY KEY, v text)'):
            conn.query(ddl)
        for table, key in (('users', 'id'), ('orders', 'user_id'), ('things', 'id'), ('big', 'id')):
            conn.query(f"SELECT shoal.distribute_table('{table}', '{key}')")
        for k in range(1, ROWS + 1):
            conn.query(f"INSERT INTO users VALUES ({k}, '{WORDS[k % 10]}', {k % 7}, "
                       f"'{['sad', 'ok', 'happy'][k % 3]}', {k}.1)")
            for n in range(k % 3):
                conn.query(f'INSERT INTO orders VALUES ({k}, {n}, {k}.{n}0)')
        conn.query("INSERT INTO things VALUES ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 1)")
    for number, cluster in enumerate(clusters):  # 60,000 rows, 6 MB
        shard = f'((((hashint8extended(g, 8816678312871386365) & 1023) + 227) & 1023) / 512) = {number}'
        cluster.sql(f"INSERT INTO big SELECT g, repeat('x', 100) FROM generate_series(1, 60000) g WHERE {shard}",
                    database='app', user='app')
    return shoal


@pytest.fixture
def conn(app):
    with app.connect('app', timeout_s=60) as conn:
        yield conn


@pytest.fixture
def two(clusters):
    """A user on each shard."""
    return [cluster.query('SELECT min(id) FROM users', 'app')[0][0] for cluster in clusters]


# -- hazards -----------------------------------------------------------------------------------------

def test_h46_in_list(conn):
    # IN (1,3) answered from one shard (pgdog#639).
    assert sorted(conn.query('SELECT id FROM users WHERE id IN (1, 2, 3, 4, 5, 6)')) == [[str(k)] for k in range(1, 7)]
    assert len(conn.execute('SELECT id FROM users WHERE id = ANY($1)', ['{1,2,3,4,5,6,7,8}'])) == 8
    assert len(conn.execute('SELECT id FROM users WHERE id IN ($1, $2, $3, $4)', list('1234'))) == 4


def test_h47_merges_of_distinct_group_and_limit(conn):
    # LIMIT per shard, groups twice, DISTINCT twice (shardingsphere#2062, #4565, #14341; citus#2017).
    assert sorted(conn.query('SELECT DISTINCT age FROM users')) == [[str(n)] for n in range(7)]
    groups = conn.query('SELECT age, count(*) FROM users GROUP BY age ORDER BY age')
    assert [int(row[0]) for row in groups] == list(range(7)) and sum(int(row[1]) for row in groups) == ROWS
    assert conn.query('SELECT id FROM users ORDER BY id DESC LIMIT 3 OFFSET 2') == [['118'], ['117'], ['116']]
    assert conn.execute('SELECT id FROM users ORDER BY age, id LIMIT $1 OFFSET $2', ['2', '1']) == [['14'], ['21']]
    assert len(conn.query('SELECT id FROM users LIMIT 7')) == 7
    assert conn.query('SELECT age, count(*) FROM users GROUP BY 1 HAVING count(*) > 17 ORDER BY 2 DESC, 1 LIMIT 1') == [['1', '18']]
    assert conn.query('SELECT id FROM users LIMIT 0') == []
    err = errors_of(conn.exchange(extended('SELECT id FROM users LIMIT $1', ['-1'])))[0]
    assert err.code == '2201W'


def test_h48_exists(conn):
    # EXISTS scattered gives the answer of a random shard (vitess#10144).
    assert conn.query('SELECT EXISTS (SELECT 1 FROM users WHERE id = 7)') == [['t']]
    for age in range(7):
        assert conn.query(f'SELECT EXISTS (SELECT 1 FROM users WHERE age = {age})') == [['t']]
    assert conn.query('SELECT EXISTS (SELECT 1 FROM users WHERE age = 99)') == [['f']]
    assert conn.query('SELECT count(*) FROM users u WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id)') == [['40']]


def test_h49_constant_or(conn):
    # OR true taken for the other branch (citus#7783, vitess#19539).
    assert conn.query('SELECT count(*) FROM users WHERE id = 1 OR true') == [[str(ROWS)]]
    assert conn.query('SELECT count(*) FROM users WHERE id = 1 OR 1 = 1') == [[str(ROWS)]]
    assert conn.query('SELECT count(*) FROM users WHERE id = 1 OR false') == [['1']]
    assert conn.query('SELECT count(*) FROM users WHERE id = 1 AND false') == [['0']]


def test_h50_text_is_ordered_by_the_collation(conn, clusters):
    # Text merged by bytes against the database's collation.
    expected = clusters[0].query('SELECT w FROM unnest(ARRAY[' + ','.join(f"'{w}'" for w in WORDS) + ']) w ORDER BY w', 'app')
    assert conn.query('SELECT DISTINCT name FROM users ORDER BY name') == expected
    assert conn.query('SELECT name FROM users WHERE id <= 10 ORDER BY name LIMIT 4') == expected[:4]
    in_c = [[w] for w in sorted(WORDS, key=str.encode)]
    assert conn.query('SELECT name FROM users WHERE id <= 10 ORDER BY name COLLATE "C"') == in_c
    moods = [row[0] for row in conn.query('SELECT mood FROM users ORDER BY mood')]
    assert moods == ['sad'] * 40 + ['ok'] * 40 + ['happy'] * 40


def test_h52_spellings_of_a_uuid(conn):
    # A uuid in capitals or in binary hashed differently (spqr#1051).
    for text in ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'):
        assert conn.query(f"SELECT v FROM things WHERE id = '{text}'") == [['1']]
        assert conn.query(f"SELECT v FROM things WHERE id IN ('{text}', 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')") == [['1']]


@pytest.mark.parametrize('sql', ['SELECT id, mood FROM users', 'SELECT mood, id FROM users ORDER BY id',
                                 'SELECT mood, count(*) FROM users GROUP BY mood',
                                 'SELECT mood, row_number() OVER (ORDER BY id) FROM users'])
def test_h55_type_oids_are_those_of_one_shard(conn, clusters, sql):
    # The type of an enum has another OID on each shard (pgdog#1280).
    oid = int(clusters[0].query("SELECT 'mood'::regtype::oid", 'app')[0][0])
    assert oid != int(clusters[1].query("SELECT 'mood'::regtype::oid", 'app')[0][0])
    for _ in range(4):
        seen = conn.exchange(query(sql))
        assert not errors_of(seen)
        body = next(m.body for m in seen if m.type == 'T')
        at = body.index(b'mood\0')
        assert struct.unpack('!I', body[at + 11:at + 15])[0] in (oid,) or 'OVER' in sql or 'count' in sql
        assert len(rows_of(seen)) in (ROWS, 3)


# -- protocol ------------------------------------------------------------------------------------------

def test_binary_answers(conn):
    # A sum that is a numeric where an int8 was promised.
    seen = conn.exchange(extended('SELECT count(*), sum(age), min(id) FROM users', results=[1]))
    assert rows_of(seen) == [[struct.pack('!q', ROWS), struct.pack('!q', sum(k % 7 for k in range(1, ROWS + 1))),
                              struct.pack('!q', 1)]]
    seen = conn.exchange(extended('SELECT age, id FROM users ORDER BY id LIMIT 1', results=[1, 0]))
    assert rows_of(seen) == [[struct.pack('!i', 1), b'1']]


def test_named_statement_described_and_run_again(conn):
    # The description of a statement over several shards is not that of its rows.
    seen = conn.exchange(parse('q', 'SELECT age, count(*) FROM users WHERE id > $1 GROUP BY age') + describe('S', 'q') + sync())
    assert ''.join(m.type for m in seen) == '1tTZ'
    for low in (0, 60):
        seen = conn.exchange(bind('', 'q', [str(low)]) + describe('P') + execute() + sync())
        assert ''.join(m.type for m in seen if m.type != 'D') == '2TCZ'
        assert sum(int(row[1]) for row in rows_of(seen)) == ROWS - low


def test_parameters_only_in_the_final_statement(conn):
    # HAVING $1: the shards never hear of it, and PostgreSQL cannot know its type there.
    assert conn.execute('SELECT age FROM users GROUP BY age HAVING count(*) > $1 AND age > $2 ORDER BY 1', ['17', '0']) == [['1']]
    assert conn.execute('SELECT $1::text, count(*) FROM users', ['x']) == [['x', str(ROWS)]]


def test_errors_are_postgresqls_own(conn):
    # A rewritten statement's error would puzzle everybody.
    for sql, code in (('SELECT nothing FROM users', '42703'), ('SELECT sum(name) FROM users', '42883'),
                      ('SELECT age FROM users GROUP BY id % 2', '42803'), ('SELECT 1 / (age - age) FROM users', '22012'),
                      ('SELECT count(*) FROM users, missing', '42P01')):
        assert errors_of(conn.exchange(query(sql)))[0].code == code, sql
    assert conn.query('SELECT count(*) FROM users') == [[str(ROWS)]]


def test_float4_averages_are_not_made_of_float4_sums(conn, clusters):
    # avg(real) counts in double precision.
    parts = [clusters[n].query('SELECT price FROM users', 'app') for n in (0, 1)]
    values = ','.join(row[0] for part in parts for row in part)
    expected = clusters[0].query(f"SELECT avg(x) FROM unnest('{{{values}}}'::real[]) x", 'app')
    assert abs(float(conn.query('SELECT avg(price) FROM users')[0][0]) - float(expected[0][0])) < 1e-9


def test_one_moment(conn):
    # now() is another moment on each shard.
    assert len(conn.query('SELECT DISTINCT now() FROM users')) == 1
    assert len({row[0] for row in conn.query('SELECT now() FROM users')}) == 1
    assert len({row[0] for row in conn.query('SELECT current_date FROM users')}) == 1


# -- transactions ------------------------------------------------------------------------------------------

def test_a_transaction_sees_what_it_wrote(conn, two):
    # A report inside a transaction misses the transaction's own rows.
    conn.query('BEGIN')
    for k in two:
        conn.query(f'UPDATE users SET age = 1000 WHERE id = {k}')
    assert conn.query('SELECT count(*) FROM users WHERE age = 1000') == [['2']]
    assert conn.query('SELECT id FROM users WHERE age = 1000 ORDER BY id') == sorted([[k] for k in two], key=lambda r: int(r[0]))
    assert conn.query('SELECT count(DISTINCT id) FROM users WHERE age = 1000') == [['2']]
    conn.query('ROLLBACK')
    assert conn.query('SELECT count(*) FROM users WHERE age = 1000') == [['0']]


def test_after_a_gather_the_transaction_commits(conn, two, clusters):
    # Temporary tables in a participant would forbid PREPARE TRANSACTION.
    conn.query('BEGIN')
    conn.query(f'UPDATE users SET age = age + 1 WHERE id = {two[0]}')
    assert conn.query('SELECT count(DISTINCT name) FROM users') == [['10']]
    conn.query(f'UPDATE users SET age = age - 1 WHERE id = {two[1]}')
    assert tags_of(conn.exchange(query('COMMIT'))) == ['COMMIT']
    conn.query(f'UPDATE users SET age = age - 1 WHERE id = {two[0]}')
    conn.query(f'UPDATE users SET age = age + 1 WHERE id = {two[1]}')


def test_a_failed_gather_fails_the_transaction(conn, two):
    # The statement failed on the merge server alone: COMMIT must not go through.
    for sql in ('SELECT count(DISTINCT id), 1 / (count(*) - count(*)) FROM users', 'SELECT nothing, count(DISTINCT id) FROM users'):
        conn.query('BEGIN')
        conn.query(f'UPDATE users SET age = 77 WHERE id = {two[0]}')
        assert errors_of(conn.exchange(query(sql)))
        assert conn.status == 'E'
        assert tags_of(conn.exchange(query('COMMIT'))) == ['ROLLBACK']
    assert conn.query('SELECT count(*) FROM users WHERE age = 77') == [['0']]


# -- bounds ---------------------------------------------------------------------------------------------------

def test_a_gather_is_bounded(conn):
    # One report fills a server's disk with temporary tables.
    err = errors_of(conn.exchange(query('SELECT count(DISTINCT v) FROM big')))[0]
    assert err.code == '53400' and 'gather_max_bytes' in err['M'] and err['H']
    assert conn.query('SELECT count(DISTINCT v) FROM big WHERE id < 100') == [['1']]


def test_a_scatter_streams(app, conn):
    # Rows of all shards pile up in the router.
    before = app.rss_kib()
    assert len(conn.query('SELECT * FROM big')) == 60000
    assert [int(row[0]) for row in conn.query('SELECT id FROM big ORDER BY id')] == list(range(1, 60001))
    assert app.rss_kib() - before < 64 * 1024


def test_cancel(app, conn):
    # Ctrl-C stops one shard, and the others go on.
    for sql in ('SELECT count(*) FROM big a JOIN big b ON a.id = b.id + 0 * length(repeat(a.v, 200)) WHERE random() >= 0 AND a.v || b.v > \'\'',
                "SELECT count(DISTINCT u.id) FROM users u, users v, users w, users x WHERE u.age + v.age + w.age + x.age < 0"):
        conn.send(query(sql))
        time.sleep(0.5)
        conn.cancel()
        seen = conn.until('Z')
        assert errors_of(seen) and errors_of(seen)[0].code in ('57014', '53400')
    assert conn.query('SELECT count(*) FROM users') == [[str(ROWS)]]


def test_a_client_that_leaves(app, clusters):
    # Its queries run on, and its connections are lost to the others.
    for sql in ('SELECT * FROM big a, users', 'SELECT count(DISTINCT u.id) FROM users u, users v, users w, users x'):
        conn = app.connect('app')
        conn.send(query(sql))
        time.sleep(0.3)
        conn.abort()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        busy = [c.query("SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND state <> 'idle' "
                        "AND pid <> pg_backend_pid() AND usename = 'app'", 'app')[0][0] for c in clusters]
        if busy == ['0', '0']:
            break
        time.sleep(0.2)
    assert busy == ['0', '0']


def test_many_at_once(app):
    # Gathers that wait for each other's connections.
    failed = []

    def one(number):
        with app.connect('app', timeout_s=60) as own:
            for _ in range(5):
                if own.query('SELECT count(DISTINCT name), count(*) FROM users') != [['10', str(ROWS)]]:
                    failed.append(number)
    threads = [threading.Thread(target=one, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not failed and not any(t.is_alive() for t in threads)


# -- what is refused -------------------------------------------------------------------------------------------

@pytest.mark.parametrize('sql', ["SELECT nextval('s') FROM users", 'SELECT ctid FROM users', 'SELECT * FROM users TABLESAMPLE SYSTEM (10)',
                                 'SELECT * FROM users ORDER BY name LIMIT 3 FOR UPDATE', 'SELECT xmin FROM users'])
def test_refused_with_a_reason(conn, sql):
    # A half answer is worse than none.
    err = errors_of(conn.exchange(query(sql)))[0]
    assert err.code == '0A000' and err['D'] and err['H']
    with pytest.raises(PgError):
        conn.query(sql)
    assert conn.alive()
