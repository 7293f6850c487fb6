"""Writes whose rows Shoal must send somewhere: INSERT ... SELECT, keys from defaults, UPDATE of the key, MERGE.

Every statement runs through Shoal (two shards) and on one PostgreSQL; answers, errors and the tables afterwards are the same.
"""
import re
import struct

import pytest

from tests.support.cluster import wait_until
from tests.support.wire import PgError, bind, describe, errors_of, execute, parse, query, rows_of, sync, tags_of

pytestmark = pytest.mark.shoal_only

SCHEMA = [
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    'CREATE TABLE users (id bigint PRIMARY KEY, name varchar(12), age int, mood mood, born date)',
    'CREATE TABLE archive (user_id bigint, note text, at timestamptz DEFAULT now(), PRIMARY KEY (user_id, note))',
    'CREATE TABLE events (id int PRIMARY KEY, user_id bigint, tags text[], price numeric(8,2), ratio float8, raw bytea)',
    'CREATE TABLE people (id bigserial PRIMARY KEY, name text NOT NULL, code text UNIQUE DEFERRABLE, twice int GENERATED ALWAYS AS (5 * 2) STORED)',
    'CREATE TABLE tickets (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text DEFAULT \'none\', size int CHECK (size < 100))',
    'CREATE TABLE countries (code text PRIMARY KEY, title text)',
    'CREATE TABLE notes (id int, body text)',
]
KEYS = {'users': 'id', 'archive': 'user_id', 'events': 'id', 'tickets': 'id'}
ROWS = 40


@pytest.fixture(scope='module')
def app(shoal, clusters):
    clusters[1].sql('CREATE TYPE filler AS ENUM ()', database='app', user='app')  # OIDs differ (H55)
    with shoal.connect('app') as ours, clusters[0].connect('solo', 'app') as theirs:
        for conn in (ours, theirs):
            for ddl in SCHEMA:
                conn.query(ddl)
        ours.query('ALTER TABLE people DROP CONSTRAINT people_code_key')
        theirs.query('ALTER TABLE people DROP CONSTRAINT people_code_key')
        for table, key in {**KEYS, 'people': 'id'}.items():
            ours.query(f"SELECT shoal.distribute_table('{table}', '{key}')")
        ours.query("SELECT shoal.create_reference_table('countries')")
    return shoal


@pytest.fixture
def both(app, clusters):
    """Empty tables, filled alike."""
    with app.connect('app', timeout_s=60) as ours, clusters[0].connect('solo', 'app', timeout_s=60) as theirs:
        pair = Both(ours, theirs)
        for table in ('people', 'tickets'):
            ours.query(f'DELETE FROM {table}')
            theirs.query(f'DELETE FROM {table}')
        for table in ('users', 'archive', 'events', 'countries', 'notes'):
            pair.run(f'DELETE FROM {table}')
        for k in range(1, ROWS + 1):
            pair.run(f"INSERT INTO users VALUES ({k}, 'n{k % 7}', {k % 9}, '{['sad', 'ok'][k % 2]}', '2001-02-0{k % 9 + 1}')")
            pair.run(f"INSERT INTO events VALUES ({k}, {k * 7 % ROWS + 1}, '{{a,\"b \\\" c\",NULL}}', {k}.25, {k} / 3.0, '\\x00ff{k:02x}')")
        pair.run("INSERT INTO countries VALUES ('de', 'Germany'), ('us', 'States')")
        pair.run("INSERT INTO notes VALUES (1, 'home')")
        assert pair.run('SELECT count(*) FROM events') == [[b'%d' % ROWS]]
        yield pair


class Both:
    """Shoal, and the one PostgreSQL that it must be like."""

    def __init__(self, ours, theirs):
        self.ours, self.theirs = ours, theirs

    def run(self, sql, values=None, ordered=False):
        data = query(sql) if values is None else parse('', sql) + bind('', '', values) + describe('P') + execute() + sync()
        mine, other = self.ours.exchange(data), self.theirs.exchange(data)
        assert [e.code for e in errors_of(mine)] == [e.code for e in errors_of(other)], f'{sql}: {errors_of(mine)} {errors_of(other)}'
        order = list if ordered else lambda rows: sorted(rows, key=repr)
        assert (tags_of(mine), order(rows_of(mine))) == (tags_of(other), order(rows_of(other))), sql
        if errors_of(mine):
            return errors_of(mine)[0], errors_of(other)[0]
        return rows_of(mine)

    def same(self, *tables, columns='*'):
        for table in tables or ('users', 'archive', 'events', 'countries', 'notes'):
            self.run(f'SELECT {columns} FROM {table}')


def found(clusters, table, key='id'):
    """Each row lies where its key says: every shard is asked by Shoal's own function for hash partitions."""
    total = 0
    for number, cluster in enumerate(clusters):
        rows = cluster.query(f'SELECT {key}::text FROM {table}', 'app')
        total += len(rows)
        wrong = cluster.query(f'SELECT {key} FROM {table} WHERE ((((hashint8extended({key}, 8816678312871386365) & 1023) + 227) & 1023) / 512) <> {number}', 'app')
        assert not wrong, f'{table}: rows {wrong} on shard {number}'
    return total


# -- INSERT ... SELECT ------------------------------------------------------------------------------------

def test_rows_that_stay_are_pushed(both, app, clusters):
    before = plans(app)
    both.run("INSERT INTO archive SELECT id, name FROM users WHERE age > 2")
    both.run('INSERT INTO archive (note, user_id) SELECT u.name || $1, u.id FROM users u JOIN archive a ON a.user_id = u.id WHERE u.age = $2',
             ['!', '5'])
    both.run('DELETE FROM notes')
    assert plans(app) - before == 2
    both.same('archive', columns='user_id, note')
    assert found(clusters, 'archive', 'user_id') > 10


def plans(app):
    return {row['name']: int(row['value']) for row in app.console('SHOW STATS')}['plans_insert_select']


@pytest.mark.parametrize('sql', [
    'INSERT INTO archive (user_id, note) SELECT user_id, id::text FROM events',
    "INSERT INTO archive (user_id, note) SELECT user_id, 'x' || id FROM events ORDER BY id LIMIT 9",
    'INSERT INTO archive (user_id, note) SELECT age, max(name) FROM users GROUP BY age',
    'INSERT INTO archive (user_id, note) SELECT id + 1000, name FROM users UNION SELECT 7, title FROM countries',
    'WITH w AS (SELECT user_id AS k, count(*) AS n FROM events GROUP BY 1) INSERT INTO archive (user_id, note) SELECT k, n FROM w',
    'INSERT INTO users (id, name, mood) SELECT g, NULL, \'ok\' FROM generate_series(100, 160) g',
    "INSERT INTO users (id, name, age) SELECT id + 500, 'it''s \\ \"q\" {}', '7' FROM events",
    'INSERT INTO events SELECT id + 100, user_id, tags, price * 1.005, ratio, raw FROM events',
    'INSERT INTO events (id, tags, raw) SELECT id + 200, ARRAY[name, NULL, \'\'], name::bytea FROM users',
    'INSERT INTO users SELECT id + 300, name, age, mood, born FROM users WHERE mood = \'sad\'',
    'INSERT INTO notes SELECT id, name FROM users',
    'INSERT INTO notes SELECT count(*), \'users\' FROM users',
    'INSERT INTO countries SELECT name, max(id)::text FROM users GROUP BY name',
    'INSERT INTO countries SELECT DISTINCT code || id, title FROM countries, notes',
    'INSERT INTO archive (user_id, note) SELECT a.id, b.name FROM users a LEFT JOIN users b ON b.id = a.id + 1 WHERE b.name IS NOT NULL',
    'INSERT INTO archive (user_id, note) SELECT 5, relname FROM pg_class WHERE relname = \'pg_class\'',
])
def test_insert_select(both, clusters, sql):
    # Rows on a shard where nobody looks for them, or half of a statement.
    both.run(sql)
    both.same('users', 'events', 'countries', 'notes')
    both.same('archive', columns='user_id, note')
    for table, key in KEYS.items():
        found(clusters, table, key)
    copies = [cluster.query('SELECT * FROM countries ORDER BY 1', 'app') for cluster in clusters]
    assert copies[0] == copies[1]


def test_insert_select_with_parameters(both, clusters):
    both.run('INSERT INTO archive (user_id, note) SELECT user_id + $1, $2 FROM events WHERE id < $3 RETURNING user_id, note', ['100', 'p', '9'])
    both.run("INSERT INTO archive (user_id, note) SELECT id, $1 FROM events WHERE user_id > $2 ON CONFLICT (user_id, note) DO UPDATE "
             "SET note = archive.note || $3 RETURNING user_id, note", ['p', '3', '!'])
    both.run('INSERT INTO users (id, name, born) SELECT id + 900, $1, $2 FROM events', ['x', '2001-01-01'])
    both.same('archive', columns='user_id, note')
    both.same('users')
    found(clusters, 'archive', 'user_id')


def test_on_conflict_and_returning(both):
    both.run("INSERT INTO archive (user_id, note) SELECT id, 'a' FROM events WHERE id < 10")
    both.run("INSERT INTO archive (user_id, note) SELECT id, 'a' FROM events WHERE id < 20 ON CONFLICT DO NOTHING RETURNING *, user_id + 1 - user_id"
             .replace('*', 'user_id, note'))
    both.run("INSERT INTO archive AS x (user_id, note) SELECT user_id, 'a' FROM events ON CONFLICT (user_id, note) DO UPDATE SET note = x.note || excluded.note")
    both.run("INSERT INTO archive (user_id, note) SELECT 1, 'twice' FROM events ON CONFLICT (user_id, note) DO UPDATE SET note = 'z'")  # 21000
    both.run('INSERT INTO archive (user_id, note) SELECT user_id, name FROM events JOIN users USING (id) WHERE false RETURNING note')
    both.same('archive', columns='user_id, note')


@pytest.mark.parametrize('sql, code', [
    ("INSERT INTO archive (user_id, note) SELECT user_id, 'same' FROM events UNION ALL SELECT user_id, 'same' FROM events", '23505'),
    ('INSERT INTO archive (user_id, note) SELECT user_id, NULL FROM events', '23502'),
    ("INSERT INTO users (id, name) SELECT id + 100, repeat('x', id) FROM events", '22001'),
    ("INSERT INTO users (id, age) SELECT id + 100, 'seven' FROM events", '22P02'),
    ("INSERT INTO users (id, age) SELECT id + 100, 1 / (id - 7) FROM events", '22012'),
    ('INSERT INTO users (id, nothing) SELECT id, 1 FROM events', '42703'),
    ('INSERT INTO users (id) SELECT tags FROM events', '42804'),
    ('INSERT INTO users (id) SELECT id, 1 FROM events', '42601'),
    ('INSERT INTO tickets (id, title) SELECT id, name FROM users', '428C9'),
    ('INSERT INTO tickets (title, size) SELECT name, 99 + id % 2 FROM users', '23514'),
])
def test_errors_are_postgresqls(both, sql, code):
    # A failure on one shard must leave no rows on another.
    mine, other = both.run(sql)
    assert mine.code == code and mine['M'] == other['M']
    both.same('users', 'events')
    both.same('archive', columns='user_id, note')
    assert both.run('SELECT count(*) FROM tickets') == [[b'0']]


def test_in_a_transaction(both, clusters):
    # It sees what the transaction wrote, and goes with it.
    both.run('BEGIN')
    both.run("INSERT INTO users (id, name) VALUES (501, 'own')")
    both.run("UPDATE countries SET title = 'own' WHERE code = 'de'")
    both.run("INSERT INTO archive (user_id, note) SELECT id + 1, name || (SELECT title FROM countries WHERE code = 'de') FROM users WHERE id > 30")
    both.same('archive', columns='user_id, note')
    both.run('ROLLBACK')
    assert both.run('SELECT count(*) FROM archive') == [[b'0']]
    both.run('BEGIN')
    both.run('INSERT INTO users (id, age) SELECT id + 100, 1 / (id - 7) FROM events')
    both.run('SELECT 1')  # 25P02
    both.run('COMMIT')
    both.run("INSERT INTO users (id) SELECT user_id + 700 FROM events; INSERT INTO notes SELECT id, name FROM users WHERE id > 700")
    both.same('users', 'notes')


def test_limits(both, app):
    app.console('SHOW CONFIG')
    mine = both.ours.exchange(query("INSERT INTO users (id, name) SELECT id + 100, 'x' FROM events ON CONFLICT DO NOTHING RETURNING (SELECT max(id) FROM users)"))
    assert errors_of(mine)[0].code == '0A000'
    both.run('SET extra_float_digits = 0')
    mine = both.ours.exchange(query('INSERT INTO users (id) SELECT user_id + 800 FROM events'))
    assert errors_of(mine)[0].code == '0A000' and 'extra_float_digits' in errors_of(mine)[0]['D']
    both.run('RESET extra_float_digits')


# -- keys that defaults give ---------------------------------------------------------------------------------

def ids(conn, table):
    return [int(row[0]) for row in conn.query(f'SELECT id FROM {table}')]


def test_key_from_a_sequence(both, clusters):
    # What every ORM does: INSERT without the id, RETURNING it.
    made = [both.ours.execute("INSERT INTO people (name) VALUES ($1) RETURNING id, name, twice", [f'p{n}']) for n in range(6)]
    assert [row[0][1:] for row in made] == [[f'p{n}', '10'] for n in range(6)]
    made = [row[0][0] for row in made] + [row[0] for row in both.ours.query("INSERT INTO people (id, name) VALUES (DEFAULT, 'a'), (DEFAULT, 'b') RETURNING id")]
    made += [row[0] for row in both.ours.query("INSERT INTO people (name, code) SELECT 'q', NULL FROM generate_series(1, 30) RETURNING id")]
    assert len(set(made)) == 38 == len(ids(both.ours, 'people'))
    assert found(clusters, 'people') == 38
    for row in made:
        assert both.ours.query(f'SELECT count(*) FROM people WHERE id = {row}') == [['1']]
    with pytest.raises(PgError, match='null value in column "name" of relation "people"') as failure:
        both.ours.query('INSERT INTO people DEFAULT VALUES')
    assert failure.value.code == '23502'


def test_key_that_only_postgresql_knows(both, clusters):
    both.run("INSERT INTO users (id, name) VALUES (abs(-77), 'x'), (78, 'y'), (length('123') * 100, 'z') RETURNING id, name")
    both.run("INSERT INTO users (id, name) VALUES ($1::int + 1000, $2)", ['1', 'p'])
    both.run('INSERT INTO users (id) VALUES (NULL)')
    both.run('INSERT INTO users (id) VALUES (99999999999999999999)')
    both.same('users')
    assert found(clusters, 'users') == ROWS + 4


def test_key_from_an_identity(both, clusters):
    made = both.ours.query("INSERT INTO tickets DEFAULT VALUES RETURNING id, title, size")
    assert made[0][1:] == ['none', None]
    both.ours.query("INSERT INTO tickets (size) SELECT g FROM generate_series(1, 20) g")
    both.ours.query("INSERT INTO tickets (id, size) OVERRIDING SYSTEM VALUE VALUES (100000, 5)")
    both.ours.query("INSERT INTO tickets (id, size) OVERRIDING SYSTEM VALUE SELECT 200000 + id, 5 FROM events")
    assert len(set(ids(both.ours, 'tickets'))) == 22 + ROWS == found(clusters, 'tickets')
    with pytest.raises(PgError) as failure:
        both.ours.query("INSERT INTO tickets (size) VALUES (100)")
    assert failure.value.code == '23514'


# -- MERGE ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('sql', [
    "MERGE INTO users u USING archive a ON u.id = a.user_id WHEN MATCHED AND a.note LIKE 'n%' THEN UPDATE SET name = 'm', age = age + 1 "
    "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, name) VALUES (a.user_id, 'new')",
    'MERGE INTO users u USING archive a ON a.user_id = u.id WHEN NOT MATCHED THEN INSERT VALUES (user_id, note, 1, NULL, NULL)',
    'MERGE INTO users USING countries c ON c.title = name WHEN MATCHED THEN DELETE',
])
def test_merge(both, clusters, sql):
    both.run("INSERT INTO archive (user_id, note) SELECT id * 2, name FROM users WHERE id > 10")
    both.run("UPDATE countries SET title = 'n3' WHERE code = 'de'")
    both.run(sql)
    both.same('users')
    found(clusters, 'users')


SET_X = "WHEN MATCHED THEN UPDATE SET name = s.x WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.x)"
MERGED = {
    'one shard': f"MERGE INTO users u USING (VALUES (3::bigint, 'm')) s(id, x) ON u.id = s.id {SET_X}",
    'rows of several': f"MERGE INTO users u USING (VALUES (3, 'm'), (400, 'new'), (401, 'new'), (5, NULL)) AS s(id, x) ON s.id = u.id AND u.age > 2 {SET_X}",
    'select': "MERGE INTO users USING (SELECT 7 AS id, 'sel' AS x) s ON users.id = s.id WHEN MATCHED THEN UPDATE SET name = x || $$'\"{\\$$",
    'subquery of another key': "MERGE INTO users u USING (SELECT user_id, count(*) AS n, max(ratio) AS r, array_agg(tags) AS t FROM events GROUP BY user_id) s "
                               "ON u.id = s.user_id WHEN MATCHED AND s.n > 0 AND cardinality(t) > 1 THEN UPDATE SET age = n, name = left(r::text, 12)",
    'subquery of the key': "MERGE INTO users u USING (SELECT user_id AS uid, count(*) AS n FROM archive GROUP BY 1) s ON u.id = s.uid "
                           "WHEN MATCHED THEN DELETE WHEN NOT MATCHED AND n > 0 THEN INSERT (id, age) VALUES (uid, n)",
    'with': "WITH a AS (SELECT user_id * 100 AS id FROM events WHERE id < 9), s AS (SELECT * FROM a) MERGE INTO users u USING s ON u.id = s.id "
            "WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'w')",
    'table, another key': "MERGE INTO users u USING events e ON u.id = e.user_id AND e.id < 30 WHEN MATCHED AND e.price > 20 THEN UPDATE SET name = e.raw::text, age = e.id",
    'table of one shard': "MERGE INTO users u USING notes n ON n.id = u.id WHEN MATCHED THEN UPDATE SET name = body",
    'reference table': "MERGE INTO users u USING (SELECT length(title) AS id, code FROM countries) c ON u.id = c.id WHEN MATCHED THEN UPDATE SET name = code",
    'function': "MERGE INTO users u USING unnest(ARRAY[1, 2, 900], ARRAY['a', NULL, 'c']) AS s(id, x) ON u.id = s.id " + SET_X,
    'no rows': f"MERGE INTO users u USING (SELECT id, 'x' AS x FROM events WHERE false) s ON u.id = s.id {SET_X}",
    'NULL key, inserted': f"MERGE INTO users u USING (VALUES (1, 'a'), (NULL, 'b')) s(id, x) ON u.id = s.id {SET_X}",
    'NULL key, passed over': "MERGE INTO users u USING (VALUES (1, 'a'), (NULL, 'b')) s(id, x) ON u.id = s.id WHEN MATCHED THEN DELETE",
    'NULL key, once': "MERGE INTO users u USING (VALUES (1, 'a'), (NULL, 'b')) s(id, x) ON u.id = s.id WHEN NOT MATCHED AND s.id IS NOT NULL THEN INSERT VALUES (s.id)",
    'twice': f"MERGE INTO users u USING (VALUES (1, 'a'), (2, 'b'), (1, 'c')) s(id, x) ON u.id = s.id {SET_X}",
    'double': f"MERGE INTO users u USING (VALUES (801, 'a'), (2, 'b'), (801, 'c')) s(id, x) ON u.id = s.id {SET_X}",
    'error of a row': f"MERGE INTO users u USING (VALUES (801, 'a'), (2, 'much longer than twelve')) s(id, x) ON u.id = s.id {SET_X}",
    'not joined by the key': "MERGE INTO users u USING (VALUES (1, 'a'), (3, 'b')) s(a, x) ON u.age = s.a WHEN MATCHED THEN UPDATE SET name = s.x",
    'nothing inserted': "MERGE INTO users u USING (SELECT DISTINCT id % 4 AS a FROM events) s ON u.age = s.a WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN DO NOTHING",
    'several actions': "MERGE INTO users u USING (SELECT id * 3 AS id FROM events) s ON u.id = s.id WHEN MATCHED AND u.age > 4 THEN DELETE "
                       "WHEN MATCHED AND u.age = 1 THEN DO NOTHING WHEN MATCHED THEN UPDATE SET age = u.age + 10 WHEN NOT MATCHED AND s.id % 2 = 0 "
                       "THEN INSERT (age, id, name) VALUES (1, s.id, DEFAULT) WHEN NOT MATCHED THEN DO NOTHING",
    'into a table of one shard': "MERGE INTO notes n USING (SELECT age, count(*) AS c FROM users GROUP BY age) s ON n.id = s.age WHEN MATCHED THEN UPDATE SET body = s.c::text "
                                 "WHEN NOT MATCHED THEN INSERT VALUES (s.age + 1, 'new')",
    'types': "MERGE INTO events e USING (SELECT id + 500 AS id, tags, price, ratio, raw, ARRAY[1.50, NULL] AS l, NULL AS none, 'sad'::mood AS m, B'101' AS bits, "
             "'x  '::char(3) AS c, ROW(1, NULL)::text AS rw FROM events) s ON s.id = e.id WHEN NOT MATCHED AND l[1] = 1.5 AND none IS NULL AND m = 'sad' AND bits = B'101' "
             "AND octet_length(c) = 3 THEN INSERT (id, tags, price, ratio, raw) VALUES (s.id, s.tags, s.price, ratio, raw)",
}


@pytest.mark.parametrize('sql', MERGED.values(), ids=MERGED.keys())
def test_merge_of_rows(both, clusters, sql):
    # A row of the source that meets no target on its shard is inserted twice, or where nobody looks for it.
    both.run("INSERT INTO archive (user_id, note) SELECT id * 2, name FROM users WHERE id > 10")
    both.run(sql)
    for block in (['BEGIN', sql, 'ROLLBACK'], ['BEGIN', 'DELETE FROM users WHERE id = 3', sql, 'SELECT count(*) FROM users', 'COMMIT']):
        for statement in block:
            both.run(statement)
    both.same('users', 'events', 'notes')
    found(clusters, 'users')
    found(clusters, 'events')


def test_merge_with_parameters(both, clusters):
    upsert = ('MERGE INTO users u USING (VALUES ($1::bigint, $2::text), ($3, $4)) s(id, x) ON u.id = s.id '
              'WHEN MATCHED THEN UPDATE SET name = s.x, age = $5 WHEN NOT MATCHED THEN INSERT (id, name, age) VALUES (s.id, s.x, $5)')
    both.run(upsert, ['3', 'three', '777', 'seven', '55'])
    both.run(upsert, ['3', None, '778', 'seven', None])
    both.run('MERGE INTO users u USING (SELECT $1::bigint AS id, $2::text AS x) s ON u.id = s.id ' + SET_X, ['900', 'one'])
    both.run('MERGE INTO users u USING (SELECT id + $2::int AS id FROM events WHERE price < $1) s ON u.id = s.id WHEN MATCHED THEN UPDATE SET name = $3',
             ['9.5', '4', 'far'])
    both.run('MERGE INTO users u USING (VALUES ($1::bigint)) s(id) ON u.id = s.id WHEN MATCHED THEN DELETE', ['no number'])
    both.same('users')
    found(clusters, 'users')


@pytest.mark.parametrize('sql, detail', [
    ("MERGE INTO users u USING (VALUES (1, 2)) s(a, b) ON u.id = s.a WHEN NOT MATCHED THEN INSERT (id) VALUES (s.b)", 'another key'),
    ("MERGE INTO users u USING (VALUES (1, 2)) s(a, b) ON u.age = s.a WHEN NOT MATCHED THEN INSERT (id) VALUES (s.a)", 'ON does not say'),
    ("MERGE INTO users u USING (VALUES (1, 2)) s(a, b) ON u.id = s.a WHEN MATCHED THEN UPDATE SET age = (SELECT max(id) FROM events)", 'has a subquery'),
    ("MERGE INTO users u USING (VALUES (1.0, 2), (2.0, 3)) s(a, b) ON u.id = s.a WHEN MATCHED THEN DELETE", 'another type'),
    ("MERGE INTO users u USING (SELECT * FROM events, notes) s ON u.id = s.user_id WHEN MATCHED THEN DELETE", '\\* means'),
    ("MERGE INTO countries c USING users u ON c.title = u.name WHEN MATCHED THEN DELETE", 'not'),
])
def test_merge_is_refused(both, sql, detail):
    with pytest.raises(PgError, match='0A000.*cannot be run over several shards') as failure:
        both.ours.query(sql)
    assert re.search(detail, failure.value.fields['D'])
    both.same('users')


def test_keys_in_another_encoding(app):
    # A key that is hashed as LATIN1 lies on a shard where a client that speaks UTF8 does not look for it.
    with app.connect('app', timeout_s=60) as conn:
        conn.query('CREATE TABLE cities (name text PRIMARY KEY, v int)')
        conn.query("SELECT shoal.distribute_table('cities', 'name')")
        conn.query('CREATE TABLE spelled (name text, v int)')
        conn.query("INSERT INTO spelled SELECT chr(220) || n, n FROM generate_series(1, 9) n")
        conn.query('SET client_encoding = latin1')
        for sql in ('INSERT INTO cities SELECT name, v FROM spelled',
                    'MERGE INTO cities c USING spelled s ON c.name = s.name WHEN NOT MATCHED THEN INSERT VALUES (s.name, s.v)'):
            with pytest.raises(PgError, match='0A000'):
                conn.query(sql)
        conn.query('RESET client_encoding')
        conn.query('MERGE INTO cities c USING spelled s ON c.name = s.name WHEN NOT MATCHED THEN INSERT VALUES (s.name, s.v)')
        assert [conn.query(f"SELECT v FROM cities WHERE name = 'Ü{n}'") for n in range(1, 10)] == [[[str(n)]] for n in range(1, 10)]


# -- IN and ANY: only the shards that own a key -----------------------------------------------------------------

@pytest.fixture
def asked(both, clusters):
    """Which shards were asked a statement with this mark; the servers' own logs say it."""
    for cluster in clusters:
        cluster.sql("ALTER SYSTEM SET log_line_prefix = '<%d> '")  # solo's is the PostgreSQL beside
        cluster.sql("ALTER SYSTEM SET log_statement = 'all'")
        cluster.sql('SELECT pg_reload_conf()')
        wait_until('statements to be logged', lambda c=cluster: c.query('SHOW log_statement') == [['all']])
    yield lambda mark: [n for n, cluster in enumerate(clusters)
                        if any(line.startswith('<app>') and mark in line for line in cluster.log.read_text(errors='replace').split('\n'))]
    for cluster in clusters:
        cluster.sql('ALTER SYSTEM RESET log_statement')
        cluster.sql('SELECT pg_reload_conf()')


def homes(clusters):
    """Two keys of each shard."""
    return [[int(row[0]) for row in cluster.query('SELECT id FROM users ORDER BY id LIMIT 2', 'app')] for cluster in clusters]


def test_h46_lists_go_to_the_shards_that_own_a_key(both, asked, clusters):
    # IN (1,3) answered from one shard (pgdog#639); or asked of all.
    first, second = homes(clusters)
    wanted = {0: first, 1: second}
    for number, (sql, form) in enumerate([
            ("SELECT id, name FROM users WHERE id IN ({}) AND 'mark{}' = 'mark{}'", 'list'),
            ("SELECT u.id, a.note FROM users u LEFT JOIN archive a ON a.user_id = u.id WHERE u.id IN ({}) AND 'mark{}' = 'mark{}'", 'list'),
            ("SELECT count(*), max(age) FROM users WHERE id = ANY ('{{{}}}') AND 'mark{}' = 'mark{}'", 'list'),
            ("SELECT id FROM users WHERE id = ANY ('{{{}}}'::int[]) AND 'mark{}' = 'mark{}' ORDER BY id DESC LIMIT 3", 'list'),
            ("UPDATE users SET age = age + 1 WHERE id IN ({}) AND 'mark{}' = 'mark{}' RETURNING id, age", 'list'),
            ("DELETE FROM users WHERE id = ANY (ARRAY[{}]) AND 'mark{}' = 'mark{}'", 'list')]):
        for shards in ([0], [1], [0, 1]):
            mark = f'{number}{"".join(map(str, shards))}x'
            keys = ', '.join(str(k) for shard in shards for k in wanted[shard])
            both.run(sql.format(keys, mark, mark))
            assert asked(f'mark{mark}') == shards, sql
    both.same('users')


def test_arrays_as_parameters(both, asked, clusters):
    first, second = homes(clusters)
    for number, (keys, shards) in enumerate([(first, [0]), (second, [1]), (first + second, [0, 1])]):
        text = '{' + ', '.join(f'"{k}"' if k % 2 else str(k) for k in keys) + ',NULL}'
        both.run(f"SELECT id, name FROM users WHERE id = ANY($1) AND 'text{number}' = 'text{number}'", [text])
        assert asked(f'text{number}') == shards
        both.run(f"UPDATE users SET age = 3 WHERE id = ANY($1::bigint[]) AND 'cast{number}' = 'cast{number}' RETURNING id", [text])
        assert asked(f'cast{number}') == shards
        array = struct.pack(f'!iiiii', 1, 0, 20, len(keys), 1) + b''.join(struct.pack('!iq', 8, k) for k in keys)
        data = parse('', f"SELECT id FROM users WHERE id = ANY($1) AND 'bin{number}' = 'bin{number}'", [1016]) + \
            bind('', '', [array], [1]) + execute() + sync()
        seen = both.ours.exchange(data)
        assert sorted(int(row[0]) for row in rows_of(seen)) == sorted(keys) and asked(f'bin{number}') == shards


@pytest.mark.parametrize('condition', [
    'id IN (1, NULL, 2)', "id IN ('1', '2 ')", 'id IN (1, 2.0, 3.5)', 'id NOT IN (1, 2)', 'id = ANY (NULL)', "id = ANY ('{}')",
    "id = ANY ('{1,NULL, 2 }')", "id = ANY ('{{1,2},{3,4}}')", "id = ANY ('[0:1]={1,2}')", "id = ANY ('{1,x}')", "id IN (1, 'x')",
    'id IN (1, (SELECT max(id) FROM users))', 'id = ANY (ARRAY[1, 2] || 3)', 'id = ANY (ARRAY[ARRAY[1, 2], ARRAY[3, 4]])',
    'id IN (1, 2) OR age = 3', 'NOT id IN (1, 2)', 'id <> ALL (ARRAY[1, 2])', 'id IN (1, 99999999999, -5)', 'id > ANY (ARRAY[38, 39])',
    'id IN (1, 2) AND id IN (2, 3)', 'id IN (age, 4)', "name IN ('n1', 'n2')", "id = ANY ('{1,2')", 'id = SOME (ARRAY[7, 8])',
    'EXISTS (SELECT 1 FROM archive WHERE user_id IN (1, 2) AND user_id = id)', 'id + 0 IN (1, 2, 3)', 'id IN (-(-3), +4)',
])
def test_lists_of_all_kinds(both, condition):
    # H49: a condition that looks like a list of keys and is none.
    both.run(f'SELECT id, name FROM users WHERE {condition}')
    both.run(f'SELECT count(*) FROM users u LEFT JOIN archive a ON a.user_id = u.id AND a.user_id IN (1, 2) WHERE {condition}')
    if 'SELECT' in condition:
        return
    both.run(f'UPDATE users SET age = 100 WHERE {condition}')
    both.run(f'DELETE FROM users WHERE {condition}')
    both.same('users')


# ---- UPDATE of the shard key --------------------------------------------------------------------------------

def key_set(conn, table='users', key='id'):
    return sorted(int(k) for k, in conn.query(f'SELECT {key} FROM {table}'))


def assert_one_place(clusters, table='users', key='id'):
    """Each row lies on one shard, and is found there by its key: no copy was left behind."""
    lying = []
    for cluster in clusters[:2]:
        with cluster.connect('app', 'app') as conn:
            lying += key_set(conn, table, key)
    lying.sort()
    assert len(lying) == len(set(lying))
    return lying


@pytest.mark.parametrize('sql', [
    'UPDATE users SET id = 1005 WHERE id = 5',
    'UPDATE users SET id = id + 1000',
    "UPDATE users SET id = id + 1000, name = 'x' || id, age = age + 0.6, mood = DEFAULT WHERE id % 3 = 0",
    'UPDATE users SET id = id',
    'UPDATE users SET id = id WHERE id = 7',
    'UPDATE users SET id = 5000 WHERE id = 99999',
    'UPDATE users SET id = 5000 WHERE id = NULL',
    'UPDATE users SET id = -id WHERE id IN (3, 4, 5, 6, 7, 8)',
    'UPDATE users SET (id, name) = (id + 2000, upper(name)) WHERE age > 4',
    'UPDATE users AS u SET id = u.id * 100 WHERE u.age < 3 RETURNING u.id, u.name, u.*',
    'UPDATE users SET id = id + 1000 WHERE id BETWEEN 10 AND 20 RETURNING *',
    'UPDATE users SET id = id RETURNING public.users.id, age * 2 AS twice',
    'UPDATE users SET id = 1 WHERE id = 99999 RETURNING id, born',
    "WITH w AS (SELECT 3 AS n) UPDATE users SET id = id + 1000 WHERE id = (SELECT n FROM w)",
    "UPDATE users u SET id = u.id + 1000, name = c.title FROM countries c WHERE c.code = 'de' AND u.age = 2",
    "UPDATE users u SET id = u.id + 1000 FROM archive a WHERE a.user_id = u.id",
    "UPDATE events SET id = id + 1000, tags = tags || 'q', ratio = ratio / 7, raw = raw || '\\x01' RETURNING *",
    "UPDATE people SET id = id + 1000 RETURNING id, name, twice",
    "UPDATE tickets SET id = DEFAULT WHERE false",
])
def test_update_of_the_key(both, clusters, sql):
    both.run("INSERT INTO archive VALUES (3, 'a', '2020-01-01'), (3, 'b', '2020-01-01'), (9, 'c', '2020-01-01')")
    both.run("INSERT INTO people (id, name) SELECT g, 'p' || g FROM generate_series(1, 9) g")
    both.run(sql)
    both.same('users', 'events', 'archive')
    both.same('people', columns='id, name, code, twice')
    assert assert_one_place(clusters) == key_set(both.theirs)
    for key in key_set(both.theirs):
        assert both.run(f'SELECT count(*) FROM users WHERE id = {key}') == [[b'1']]


@pytest.mark.parametrize('sql, code', [
    ('UPDATE users SET id = 7 WHERE id = 5', '23505'),
    ('UPDATE users SET id = 2000 WHERE id < 6', '23505'),
    ('UPDATE users SET id = NULL WHERE id = 5', '23502'),
    ("UPDATE users SET id = id + 1000, name = 'far too long a name'", '22001'),
    ("UPDATE users SET id = name", '42804'),
    ("UPDATE users SET id = 'x' WHERE id = 1", '22P02'),
    ('UPDATE users SET id = id + 1000 WHERE age / 0 = 1', '22012'),
    ('UPDATE users SET id = id + 1000, nothing = 1', '42703'),
    ('UPDATE events SET id = id + 2147483647', '22003'),
])
def test_update_of_the_key_fails_as_in_postgresql(both, clusters, sql, code):
    mine, other = both.run(sql)
    assert mine.code == other.code == code
    both.same('users', 'events')
    for transaction in ('ROLLBACK', 'COMMIT'):
        both.run('BEGIN')
        both.run('UPDATE users SET age = 99 WHERE id = 8')
        both.run(sql)
        assert both.run('SELECT 1')[0].code == '25P02'
        both.run(transaction)
        both.same('users', 'events')
    assert assert_one_place(clusters) == key_set(both.theirs)


def test_update_of_the_key_with_parameters(both, clusters):
    both.run('UPDATE users SET id = $1, name = $2 WHERE id = $3', [b'1003', b'moved', b'3'])
    both.run('UPDATE users SET id = id + $1, age = $2 WHERE age > $3', [b'2000', None, b'4'])
    both.run('UPDATE users SET id = id + $1 WHERE id > $2 RETURNING id, name, born', [b'5000', b'1000'])
    both.run('UPDATE users SET id = $1 WHERE id = $1', [b'8'])
    both.same('users')
    # Values and results in binary, as drivers with types send them.
    data = parse('', 'UPDATE users SET id = id + $1 WHERE id = $2 RETURNING id, age', types=[20, 20]) + bind(
        '', '', [struct.pack('!q', 700), struct.pack('!q', 1)], formats=[1], results=[1]) + describe('P') + execute() + sync()
    mine, other = both.ours.exchange(data), both.theirs.exchange(data)
    assert rows_of(mine) == rows_of(other) == [[struct.pack('!q', 701), struct.pack('!i', 1)]]
    assert tags_of(mine) == ['UPDATE 1']
    both.same('users')
    assert assert_one_place(clusters) == key_set(both.theirs)


def test_update_of_the_key_in_a_transaction(both, clusters):
    # What a transaction moved it sees itself, and can move again, take back to a savepoint, or altogether.
    both.run('BEGIN')
    both.run('UPDATE users SET id = id + 1000 WHERE id <= 10')
    both.run('SELECT * FROM users WHERE id > 1000')
    both.run('SAVEPOINT a')
    both.run('UPDATE users SET id = id + 1000 WHERE id > 1000 RETURNING id')
    both.run("UPDATE users SET name = 'late' WHERE id = 2003")
    both.same('users')
    both.run('ROLLBACK TO a')
    both.same('users')
    both.run('UPDATE users SET id = 1 WHERE id = 1001')
    both.run('SAVEPOINT b')
    assert both.run('UPDATE users SET id = 12 WHERE id = 1002')[0].code == '23505'
    both.run('ROLLBACK TO b')
    both.run('COMMIT')
    both.same('users')
    both.run('BEGIN')
    both.run('UPDATE users SET id = -id')
    both.run('ROLLBACK')
    both.same('users')
    assert assert_one_place(clusters) == key_set(both.theirs)


def blocked(cluster, database):
    with cluster.connect(database) as conn:
        return conn.query('SELECT count(*) FROM pg_locks WHERE NOT granted') != [['0']]


@pytest.mark.parametrize('first, second', [
    ('UPDATE users SET age = age + 100 WHERE id = 5', 'UPDATE users SET id = 1005, name = name || age WHERE id = 5 RETURNING *'),
    ('UPDATE users SET age = 100 WHERE id = 5', 'UPDATE users SET id = id + 1000 WHERE age < 9'),
    ('DELETE FROM users WHERE id = 5', 'UPDATE users SET id = id + 1000'),
    ('UPDATE users SET id = 1005 WHERE id = 5', 'UPDATE users SET age = age + 100 WHERE id = 5'),
    ('UPDATE users SET id = 1005 WHERE id = 5', 'DELETE FROM users WHERE id = 5'),
    ('UPDATE users SET id = 1005 WHERE id = 5', 'UPDATE users SET id = 2005 WHERE id = 5 RETURNING id'),
    ('UPDATE users SET id = 1005 WHERE id = 5', "INSERT INTO users (id, name) VALUES (1005, 'new') ON CONFLICT (id) DO UPDATE SET name = 'old'"),
])
@pytest.mark.parametrize('end', ['COMMIT', 'ROLLBACK'])
def test_update_of_the_key_beside_another_writer(both, app, clusters, first, second, end):
    # The second waits for the first, and then sees what the first has left: no change is lost, no row comes back.
    answers = []
    for name, connect, where in (('ours', lambda: app.connect('app', timeout_s=60), 'app'),
                                 ('theirs', lambda: clusters[0].connect('solo', 'app', timeout_s=60), 'solo')):
        with connect() as one, connect() as two:
            one.query('BEGIN')
            one.query(first)
            two.send(query(second))
            wait_until(f'{name}: the second to wait', lambda: any(blocked(c, where) for c in clusters[:2 if where == 'app' else 1]))
            one.query(end)
            said = two.exchange(b'')
            answers.append(([e.code for e in errors_of(said)], tags_of(said), rows_of(said)))
    assert answers[0] == answers[1]
    both.same('users')
    assert assert_one_place(clusters) == key_set(both.theirs)


def test_update_of_the_key_that_is_refused(both, app):
    conn = both.ours
    for ddl in ('CREATE TABLE owners (id int PRIMARY KEY, v int)', 'CREATE TABLE pets (owner_id int, n int, note text, PRIMARY KEY (owner_id, n))'):
        conn.query(ddl)
    conn.query("SELECT shoal.distribute_table('owners', 'id')")
    conn.query("SELECT shoal.distribute_table('pets', 'owner_id')")
    conn.query('INSERT INTO owners VALUES (1, 1), (2, 2), (3, 3)')
    conn.query("INSERT INTO pets VALUES (1, 1, 'x')")

    def refused(sql, words):
        with pytest.raises(PgError) as caught:
            conn.query(sql)
        assert caught.value.code == '0A000' and words in caught.value['D'] and caught.value['H'], caught.value
    conn.query('UPDATE owners SET id = 11 WHERE id = 1')
    conn.query('UPDATE owners SET id = 1 WHERE id = 11')
    conn.query('ALTER TABLE pets ADD FOREIGN KEY (owner_id) REFERENCES owners')
    refused('UPDATE pets SET owner_id = 2', 'foreign key')
    with pytest.raises(PgError) as caught:
        conn.query('UPDATE owners SET id = 11 WHERE id = 1')
    assert caught.value.code == '23503'
    conn.query('UPDATE owners SET id = 12 WHERE id = 2')
    assert sorted(conn.query('SELECT * FROM owners')) == [['1', '1'], ['12', '2'], ['3', '3']]
    conn.query('ALTER TABLE pets DROP CONSTRAINT pets_owner_id_fkey')
    conn.query('ALTER TABLE pets ADD FOREIGN KEY (owner_id) REFERENCES owners ON UPDATE CASCADE')
    refused('UPDATE owners SET id = 11 WHERE id = 1', 'foreign key')
    conn.query('DROP TABLE pets')
    conn.query('ALTER TABLE owners ENABLE ROW LEVEL SECURITY')
    refused('UPDATE owners SET id = 11 WHERE id = 1', 'policies')
    conn.query('ALTER TABLE owners DISABLE ROW LEVEL SECURITY')
    refused('WITH d AS (DELETE FROM users WHERE id = 1) UPDATE owners SET id = 11 WHERE id = 1', 'WITH')
    refused('INSERT INTO owners VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET id = 5', 'only UPDATE')
    refused('UPDATE owners o SET id = o.id + 10 FROM countries c WHERE c.code = \'de\' RETURNING c.title', 'RETURNING')
    conn.query('CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$')
    conn.query('CREATE TRIGGER noted AFTER UPDATE ON owners FOR EACH ROW EXECUTE FUNCTION noted()')
    refused('UPDATE owners SET id = 11 WHERE id = 1', 'triggers')
    conn.query('DROP TABLE owners')
    conn.query('DROP FUNCTION noted')


def test_h51_a_row_whose_key_changes_is_found_by_one_key(both):
    # It would lie where its old key belongs, and nobody would find it by the new one.
    for old in range(1, 9):
        new = 1000 + old
        both.ours.query(f'UPDATE users SET id = {new} WHERE id = {old}')
        assert both.ours.query(f'SELECT id FROM users WHERE id = {new}') == [[str(new)]]
        assert both.ours.query(f'SELECT id FROM users WHERE id = {old}') == []
    assert both.ours.query('SELECT count(*), count(DISTINCT id) FROM users') == [[str(ROWS), str(ROWS)]]
    both.ours.query('DELETE FROM users WHERE id > 1000')
    both.theirs.query('DELETE FROM users')
    both.ours.query('DELETE FROM users')
