"""COPY of tables on several shards: what is loaded and read must be what one PostgreSQL has.

The same statements and bytes go to `app` (two shards, through Shoal) and to `solo`'s server directly.
"""
import io
import struct
import subprocess
import threading

import psycopg2
import pytest

from tests.support import host

pytestmark = pytest.mark.shoal_only

SCHEMA = '''
CREATE TABLE t (id bigint PRIMARY KEY, name text, note text);
CREATE TABLE w (word text, n int, PRIMARY KEY (word, n));
CREATE TABLE g (a int, twice int GENERATED ALWAYS AS (a * 2) STORED, b text, PRIMARY KEY (a));
CREATE TABLE plain (id int, x text)
'''


@pytest.fixture(scope='module')
def solo_schema():
    return [s for s in SCHEMA.split(';') if s.strip()]


@pytest.fixture(scope='module')
def pair(shoal, clusters):
    """(through Shoal, one PostgreSQL)."""
    def dial(port, database):
        conn = psycopg2.connect(host='127.0.0.1', port=port, user='app', dbname=database)
        conn.autocommit = True
        return conn
    sharded, single = dial(shoal.port, 'app'), dial(clusters[0].port, 'solo')
    with sharded.cursor() as cur:
        for statement in SCHEMA.split(';'):
            cur.execute(statement)
        for table, key in (('t', 'id'), ('w', 'word'), ('g', 'a')):
            cur.execute(f"SELECT shoal.distribute_table('{table}', '{key}')")
    yield sharded, single
    sharded.close()
    single.close()


@pytest.fixture(autouse=True)
def empty(pair):
    for conn in pair:
        conn.rollback()
        conn.autocommit = True
        with conn.cursor() as cur:
            cur.execute('TRUNCATE t, w, g, plain')


def load(conn, sql, data):
    """The count, or the SQLSTATE."""
    with conn.cursor() as cur:
        try:
            cur.copy_expert(sql, io.BytesIO(data))
            return cur.rowcount
        except psycopg2.Error as err:
            if not conn.autocommit:
                conn.rollback()
            return err.pgcode


def dump(conn, sql):
    out = io.BytesIO()
    with conn.cursor() as cur:
        cur.copy_expert(sql, out)
    return out.getvalue()


def lines(data):
    return sorted(data.splitlines())


def both(pair, sql, data):
    seen = [load(conn, sql, data) for conn in pair]
    assert seen[0] == seen[1], f'{sql}: {seen[0]}, PostgreSQL {seen[1]}: {data[:300]!r}'
    return seen[0]


def same_rows(pair, table, clusters=None):
    first, second = (lines(dump(conn, f'COPY {table} TO STDOUT')) for conn in pair)
    assert first == second
    return first


def test_h54_rows_land_where_they_are_looked_for(pair, clusters):
    # A loaded row that its key does not find is lost (H54).
    data = b''.join(b'%d\tname %d\t\\N\n' % (i, i) for i in range(500))
    assert both(pair, 'COPY t FROM STDIN', data) == 500
    assert len(same_rows(pair, 't')) == 500
    counts = [int(c.query('SELECT count(*) FROM t', database='app')[0][0]) for c in clusters]
    assert sum(counts) == 500 and min(counts) > 150
    with pair[0].cursor() as cur:
        for i in (0, 7, 42, 499):
            cur.execute('SELECT name FROM t WHERE id = %s', (i,))
            assert cur.fetchall() == [(f'name {i}',)]


FORMATS = [
    ('COPY t FROM STDIN', b'1\ta\\tb\\\nc\t\\N\r\n2\t\\\\N\t\r\n'),
    ('COPY t FROM STDIN', b'1\ta\t\n\\.\n'),
    ('COPY t (note, id) FROM STDIN', b'x\t5\ny\t6'),
    ('COPY t FROM STDIN CSV', b'1,"a,\n""b""",\n2,"",x\n'),
    ('COPY t FROM STDIN CSV HEADER', b'id,name,note\n1,a,b\n2,c,d\n'),
    ('COPY t FROM STDIN (FORMAT csv, HEADER match)', b'id,name,note\n3,a,b\n'),
    ('COPY t FROM STDIN (FORMAT csv, HEADER match)', b'id,nama,note\n3,a,b\n'),
    ("COPY t FROM STDIN (FORMAT csv, DELIMITER ';', QUOTE '''', ESCAPE E'\\\\', NULL 'nix')",
     b"1;'a\\';b';nix\n2;'nix';''\n"),
    ("COPY t FROM STDIN (DELIMITER '|', NULL '')", b'1||x\n2|a|\n'),
    ('COPY t (id, name) FROM STDIN WHERE id > 3', b'1\ta\n5\tb\n9\tc\n'),
    ('COPY g FROM STDIN', b'1\tx\n2\ty\n'),
    ('COPY w FROM STDIN', 'süß\t1\n\\xc3\\xbc\t2\nplain\t3\n'.encode()),
    ('COPY t FROM STDIN', b''),
    ('COPY t FROM STDIN CSV HEADER', b'id,name,note\n'),
    # what PostgreSQL refuses, in its own words
    ('COPY t FROM STDIN', b'1\ta\tb\nx\ta\tb\n'),
    ('COPY t FROM STDIN', b'1\ta\tb\n2\n'),
    ('COPY t FROM STDIN', b'1\ta\tb\n1\ta\tb\n'),
    ('COPY t FROM STDIN', b'1\ta\tb\n2\ta\tb\tc\n'),
    ('COPY t FROM STDIN', b'1\ta\tb\r\n2\ta\tb\n'),
    ('COPY t FROM STDIN', b'1\ta\tb\n\\N\ta\tb\n'),
    ('COPY t FROM STDIN CSV', b'1,"a,b\n'),
    ('COPY t FROM STDIN', b'99999999999999999999\ta\tb\n'),
    ('COPY t FROM STDIN BINARY', b'1\ta\tb\n2\ta\tb\n3\ta\tb\n4\ta\tb\n'),
    ('COPY t (id, nope) FROM STDIN', b'1\ta\n'),
]


@pytest.mark.parametrize('sql, data', FORMATS)
def test_formats(pair, sql, data):
    # A file that one PostgreSQL loads is loaded otherwise, or half of it.
    both(pair, sql, data)
    for table in ('t', 'g', 'w'):
        same_rows(pair, table)


def binary(rows):
    out = b'PGCOPY\n\xff\r\n\0' + struct.pack('!ii', 0, 0)
    for row in rows:
        out += struct.pack('!h', len(row))
        for value in row:
            out += struct.pack('!i', -1) if value is None else struct.pack('!i', len(value)) + value
    return out + b'\xff\xff'


def test_binary(pair):
    # Drivers that load in binary (asyncpg, JDBC) put rows on wrong shards.
    rows = [(struct.pack('!q', i - 50), b'n%d' % i, None if i % 3 else b'\xff\xff'.replace(b'\xff', b'x'))
            for i in range(200)]
    assert both(pair, 'COPY t FROM STDIN (FORMAT binary)', binary(rows)) == 200
    same_rows(pair, 't')
    first, second = (dump(conn, 'COPY t TO STDOUT (FORMAT binary)') for conn in pair)
    assert len(first) == len(second) and first[:19] == second[:19] and first.endswith(b'\xff\xff')
    for conn, data in zip(pair, (first, second)):
        with conn.cursor() as cur:
            cur.execute('TRUNCATE t')
        assert load(conn, 'COPY t FROM STDIN (FORMAT binary)', data) == 200
    same_rows(pair, 't')
    assert both(pair, 'COPY t FROM STDIN (FORMAT binary)', binary([(b'\0\0\0\1', b'a', b'b')])) == '08P01'


def test_copy_out_is_one_file(pair):
    # A dump has its header in the middle, or only one shard's rows.
    both(pair, 'COPY t FROM STDIN', b''.join(b'%d\t%d\tx\n' % (i, i % 7) for i in range(100)))
    for sql in ('COPY t TO STDOUT CSV HEADER', 'COPY t (note, id) TO STDOUT (FORMAT csv, FORCE_QUOTE *)',
                'COPY (SELECT id, name || note FROM t WHERE id > 20) TO STDOUT (HEADER)',
                'COPY (SELECT * FROM t WHERE id = 5) TO STDOUT'):
        first, second = (dump(conn, sql) for conn in pair)
        assert lines(first) == lines(second), sql
        if 'HEADER' in sql:
            assert first.splitlines()[0] == second.splitlines()[0]
    assert dump(pair[0], 'COPY (SELECT * FROM t WHERE id < 0) TO STDOUT CSV HEADER') == b'id,name,note\n'


def test_all_or_nothing(pair, clusters):
    # Half a file is loaded, and nobody knows which half.
    good = b''.join(b'%d\ta\tb\n' % i for i in range(2000))
    assert both(pair, 'COPY t FROM STDIN', good + b'7\ta\tb\n') == '23505'
    assert same_rows(pair, 't') == []
    for conn in pair:
        conn.autocommit = False
        with conn.cursor() as cur:
            cur.execute("INSERT INTO t VALUES (-1, 'x', 'y')")
        assert load(conn, 'COPY t FROM STDIN', good) == 2000
        conn.rollback()
        assert lines(dump(conn, 'COPY t TO STDOUT')) == []
        assert load(conn, 'COPY t FROM STDIN', good) == 2000
        conn.commit()
        conn.autocommit = True
    assert len(same_rows(pair, 't')) == 2000


def test_no_guess(pair):
    # A key that Shoal reads otherwise than PostgreSQL is written where nobody finds it.
    sharded = pair[0]
    assert load(sharded, 'COPY w (n) FROM STDIN', b'1\n') == '0A000'
    assert load(sharded, "COPY w FROM STDIN (ENCODING 'LATIN1')", b'a\t1\n') == '0A000'
    with sharded.cursor() as cur:
        cur.execute("SET client_encoding = 'LATIN1'")
    assert load(sharded, 'COPY w FROM STDIN', 'süß\t1\n'.encode('latin-1')) == '0A000'
    assert load(sharded, 'COPY w FROM STDIN', b'ascii\t1\n') == 1
    with sharded.cursor() as cur:
        cur.execute("SET client_encoding = 'SJIS'")
    assert load(sharded, 'COPY w FROM STDIN', b'a\t1\n') == '0A000'
    with sharded.cursor() as cur:
        cur.execute('RESET client_encoding')


def test_a_client_that_gives_up(pair):
    # CopyFail leaves rows, or a connection that nobody can use.
    class Broken(io.RawIOBase):
        count = 0

        def read(self, size=-1):
            self.count += 1
            if self.count > 3:
                raise ValueError('gone')
            return b''.join(b'%d\ta\tb\n' % (self.count * 1000 + i) for i in range(500))
    for conn in pair:
        with conn.cursor() as cur, pytest.raises(psycopg2.Error) as caught:
            cur.copy_expert('COPY t FROM STDIN', Broken())
        assert caught.value.pgcode == '57014'
    assert same_rows(pair, 't') == []


def test_random_files(pair, rng):
    # The one file in a thousand that a user has.
    alphabet = ['a', 'B', '1', ' ', '\\', '"', ',', '\t', '\n', 'é', '.', 'N', '']
    for _ in range(60 if host.LONG else 15):
        rows = [(i, ''.join(rng.choices(alphabet, k=rng.randint(0, 6))), rng.choice([None, '', 'x'])) for i in
                rng.sample(range(-1000, 1000), rng.randint(0, 60))]
        with pair[1].cursor() as cur:
            cur.execute('TRUNCATE t')
            cur.executemany('INSERT INTO t VALUES (%s, %s, %s)', rows)
        options = rng.choice(['', 'CSV', 'CSV HEADER', "CSV QUOTE '''' ESCAPE '\"'", 'BINARY', "DELIMITER '|'",
                              "CSV NULL 'x1' FORCE_QUOTE name"])
        data = dump(pair[1], f'COPY t TO STDOUT {options.replace("FORCE_QUOTE", "FORCE QUOTE")}')
        with pair[0].cursor() as cur:
            cur.execute('TRUNCATE t')
        assert load(pair[0], f'COPY t FROM STDIN {options.partition("FORCE")[0]}', data) == len(rows)
        same_rows(pair, 't')


def test_psql_and_slow_shards(shoal, clusters, pair):
    # A file larger than the router's memory is held there when a shard is slow.
    rows = 60000 if host.LONG else 15000
    data = ''.join(f'{i}\t{"x" * 300}\t\\N\n' for i in range(rows))
    with clusters[1].connect('app', 'app') as lock:
        lock.query('BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE')
        release = threading.Timer(1.5, lock.query, ('COMMIT',))
        release.start()
        psql = subprocess.run(['psql', '-X', '-h', '127.0.0.1', '-p', str(shoal.port), '-U', 'app', '-c',
                               '\\copy t from pstdin', 'app'], input=data, stdout=subprocess.PIPE, text=True,
                              timeout=60)
        release.join()
    out = psql.stdout
    assert f'COPY {rows}' in out
    assert len(dump(pair[0], 'COPY t (id) TO STDOUT').splitlines()) == rows
