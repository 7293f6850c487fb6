"""Kinds of tables: hash of several columns, range, list, reference, local; how they are made and written."""
import psycopg2
import pytest

from tests.support.wire import PgError

pytestmark = pytest.mark.shoal_only


@pytest.fixture
def conn(shoal):
    with shoal.connect('app') as conn:
        yield conn


@pytest.fixture
def driver(shoal):
    conn = psycopg2.connect(host='127.0.0.1', port=shoal.port, user='app', dbname='app')
    conn.autocommit = True
    yield conn
    conn.close()


def refusal(conn, sql):
    with pytest.raises(PgError) as caught:
        conn.query(sql)
    assert conn.alive()
    return caught.value


def on_each(clusters, sql):
    return [cluster.query(sql, database='app', user='app') for cluster in clusters]


def test_h56_reference_table(conn, clusters):
    # A join with a small table lacks rows on one shard, or the copies drift apart (H56).
    conn.query('CREATE TABLE countries (code text PRIMARY KEY, name text, seen timestamptz DEFAULT now())')
    conn.query('CREATE TABLE people (id bigint PRIMARY KEY, country text REFERENCES countries)')
    assert conn.query("SELECT create_reference_table('countries')") == [['a reference table']]
    conn.query("SELECT create_distributed_table('people', 'id')")
    assert refusal(conn, "INSERT INTO countries (code, name) VALUES ('de', 'x')").code == '0A000'
    assert refusal(conn, "INSERT INTO countries VALUES ('de', 'x', now())").code == '0A000'
    conn.query("INSERT INTO countries VALUES ('de', 'Germany', '2020-01-01'), ('fr', 'France', NULL)")
    assert conn.query("UPDATE countries SET name = upper(name) WHERE code = 'de' RETURNING name") == [['GERMANY']]
    for i in range(1, 9):
        conn.query(f"INSERT INTO people VALUES ({i}, 'de')")
        assert conn.query(f'SELECT c.name FROM people p JOIN countries c ON c.code = p.country WHERE p.id = {i}') \
            == [['GERMANY']]
    assert refusal(conn, "INSERT INTO people VALUES (1, 'xx')").code in ('23503', '23505')
    assert refusal(conn, "INSERT INTO countries VALUES ('de', 'again', NULL)").code == '23505'
    first, second = on_each(clusters, 'SELECT * FROM countries ORDER BY code')
    assert first == second and len(first) == 2
    conn.query('BEGIN')
    conn.query("DELETE FROM countries WHERE code = 'fr'")
    conn.query('ROLLBACK')
    assert conn.query('SELECT count(*) FROM countries') == [['2']]
    # copies that differ are noticed, and nothing is changed
    clusters[1].sql("DELETE FROM countries WHERE code = 'fr'", database='app', user='app')
    assert refusal(conn, "UPDATE countries SET name = 'x'").code == 'XX001'
    assert conn.query("SELECT name FROM countries WHERE code = 'de'") == [['GERMANY']]


def test_key_of_two_columns(conn, clusters):
    # A row of a composite key is looked for by half of it, or in PostgreSQL's other bucket.
    conn.query('CREATE TABLE pairs (tenant bigint, region text, n int, PRIMARY KEY (tenant, region))')
    assert refusal(conn, "SELECT shoal.distribute_table('pairs', 'tenant, nope')").code == '42703'
    conn.query("SELECT shoal.distribute_table('pairs', 'tenant, region')")
    rows = [(i, r) for i in range(20) for r in ('eu', 'us')]
    for tenant, region in rows:
        conn.query(f"INSERT INTO pairs VALUES ({tenant}, '{region}', 1)")
    for tenant, region in rows:
        assert conn.query(f"SELECT n FROM pairs WHERE tenant = {tenant} AND region = '{region}'") == [['1']]
    clusters[0].sql('CREATE TABLE IF NOT EXISTS twin (tenant bigint, region text) PARTITION BY HASH (tenant, region)',
                    database='app', user='app')
    for index, cluster in enumerate(clusters):
        for tenant, region in cluster.query('SELECT tenant, region FROM pairs', database='app', user='app'):
            bucket = conn.query(f"SELECT shoal.bucket_of('pairs', '{tenant}', '{region}')")[0][0]
            assert clusters[0].query(
                f"SELECT satisfies_hash_partition('twin'::regclass, 1024, {bucket}, {tenant}::bigint, '{region}'::text)",
                database='app', user='app') == [['t']]
            assert conn.query(f"SELECT shoal.shard_of('pairs', '{tenant}', '{region}')") == [[f's{index}']]


def test_h53_ranges_and_lists(conn, clusters):
    # A row goes to a shard that was not meant for it (H53).
    conn.query('CREATE TABLE days (day date PRIMARY KEY, n int)')
    conn.query('CREATE TABLE shops (land text, id int, PRIMARY KEY (land, id))')
    assert refusal(conn, "SELECT shoal.distribute_by_range('days', 'day', '2020-01-01@s9')").code == '42704'
    assert refusal(conn, "SELECT shoal.distribute_by_range('days', 'day', 'soon@s0')").code == '22023'
    assert refusal(conn, "SELECT shoal.distribute_by_range('shops', 'land', 'a@s0')").code == '22023'
    conn.query("SELECT shoal.distribute_by_range('days', 'day', '2020-01-01@s1, *@s0')")
    conn.query("SELECT shoal.distribute_by_list('shops', 'land', '''de''@s0, us@s1')")
    conn.query("INSERT INTO days VALUES ('2019-12-31', 1), ('2020-01-01', 2), ('1999-01-01', 3)")
    assert on_each(clusters, 'SELECT n FROM days ORDER BY n') == [[['1'], ['3']], [['2']]]
    assert conn.query("SELECT n FROM days WHERE day = '2020-01-01'") == [['2']]
    conn.query("INSERT INTO shops VALUES ('us', 1), ('de', 2)")
    assert on_each(clusters, 'SELECT id FROM shops') == [[['2']], [['1']]]
    assert refusal(conn, "INSERT INTO shops VALUES ('fr', 1)").code == '23514'
    assert conn.query("SELECT * FROM shops WHERE land = 'fr'") == []


def test_local_table(conn, shoal, clusters):
    # A table that was put elsewhere is looked for on the first shard.
    conn.query('CREATE TABLE settings (id int PRIMARY KEY, v text)')
    conn.query("SELECT shoal.place_table('settings', 's1')")
    conn.query("INSERT INTO settings VALUES (1, 'a'), (2, 'b')")
    assert conn.query('SELECT count(*) FROM settings') == [['2']]
    assert on_each(clusters, 'SELECT count(*) FROM settings') == [[['0']], [['2']]]
    kinds = {row['name']: row['kind'] for row in shoal.console('SHOW TABLES')}
    assert kinds['settings'] == 'local' and kinds.get('days', 'range') == 'range'


def test_citus_names(conn):
    # A migration written for Citus stops, or does something else without a word.
    conn.query('CREATE TABLE c1 (id int PRIMARY KEY)')
    conn.query('CREATE TABLE c2 (id int PRIMARY KEY)')
    conn.query("SELECT create_distributed_table('c1', 'id', 'hash', colocate_with => 'none')")
    conn.query("SELECT pg_catalog.create_distributed_table('c2', distribution_column := 'id', colocate_with := 'c1')")
    assert refusal(conn, "SELECT create_distributed_table('c1', 'id', 'append')").code == '0A000'
    assert refusal(conn, "SELECT create_distributed_table('c1', 'id', nope => 'x')").code == '42883'
    conn.query("SELECT undistribute_table('c2')")


def test_ids_are_unique_over_shards(conn, clusters):
    # Two orders have one number.
    conn.query('CREATE TABLE orders (customer int, id bigserial, n int GENERATED ALWAYS AS IDENTITY,'
               ' PRIMARY KEY (customer, id))')
    conn.query("SELECT shoal.distribute_table('orders', 'customer')")
    ids = [conn.query(f'INSERT INTO orders (customer) VALUES ({i}) RETURNING id, n')[0] for i in range(60)]
    assert len({row[0] for row in ids}) == 60 and len({row[1] for row in ids}) == 60
    assert {int(row[0]) % 64 for row in ids} == {1, 2}


def test_rows_of_one_insert_go_to_their_shards(conn, driver, clusters):
    # A bulk insert is refused, lands on one shard, or an ORM gets the wrong id for its object.
    conn.query('CREATE TABLE bulk (id bigint PRIMARY KEY, a text, b int DEFAULT 7)')
    conn.query("SELECT shoal.distribute_table('bulk', 'id')")
    rows = conn.query("INSERT INTO bulk (id, a) VALUES " + ', '.join(f"({i}, '(,)''{i}')" for i in range(50)) +
                      ' RETURNING id, a, b')
    assert rows == [[str(i), f"(,)'{i}", '7'] for i in range(50)]
    assert all(int(n[0][0]) > 10 for n in on_each(clusters, 'SELECT count(*) FROM bulk'))
    assert refusal(conn, 'INSERT INTO bulk (id) VALUES (100), (101), (102), (103), (104), (3)').code == '23505'
    assert conn.query("INSERT INTO bulk (id, a) VALUES (1, 'x'), (2, 'x'), (3, 'x'), (4, 'x'), (777, 'x')"
                      ' ON CONFLICT (id) DO UPDATE SET a = excluded.a RETURNING id') == [['1'], ['2'], ['3'], ['4'], ['777']]
    for i in (100, 101, 102, 103, 104):
        assert conn.query(f'SELECT * FROM bulk WHERE id = {i}') == []
    with driver.cursor() as cur:
        cur.execute('INSERT INTO bulk (id, a) VALUES (%s, %s), (%s, %s), (%s, %s)', (-1, 'x', -2, None, -3, 'z'))
        assert cur.rowcount == 3
    conn.query('BEGIN')
    conn.query('INSERT INTO bulk (id) VALUES (900), (901), (902), (903), (904)')
    conn.query('ROLLBACK')
    assert [n[0][0] for n in on_each(clusters, 'SELECT count(*) FROM bulk WHERE id BETWEEN 900 AND 904')] == ['0', '0']


def test_bound_rows(conn, clusters):
    # Values of one row are bound to another (asyncpg, JDBC, node).
    from tests.support.wire import bind, execute, parse, rows_of, sync
    conn.query('CREATE TABLE bound (id bigint PRIMARY KEY, a text)')
    conn.query("SELECT shoal.distribute_table('bound', 'id')")
    n = 12
    places = ', '.join(f'(${2 * i + 2}::bigint, ${2 * i + 1})' for i in range(n))
    values = [x for i in range(n) for x in (f'v{i}'.encode(), str(i).encode())]
    seen = conn.exchange(parse('', f'INSERT INTO bound VALUES {places} RETURNING id, a') +
                         bind('', '', values) + execute('') + sync())
    assert rows_of(seen) == [[str(i).encode(), f'v{i}'.encode()] for i in range(n)]
    assert sum(int(r[0][0]) for r in on_each(clusters, 'SELECT count(*) FROM bound')) == n


def test_declared_in_the_file(workspace, clusters):
    # A cluster set up by its file has other tables than the file says.
    from tests.support.shoal import Shoal
    for cluster in clusters:
        cluster.sql('CREATE TABLE f_ref (id int)', 'CREATE TABLE f_days (d date, n int)',
                    'CREATE TABLE f_local (id int)', 'CREATE TABLE f_two (a int, b int)', database='app', user='app')
    shoal = Shoal(workspace, {'s0': clusters[0], 's1': clusters[1]}, users={'app': {}, 'admin': {'admin': 'on'}},
                  tables={'f_ref': {'kind': 'reference'}, 'f_local': {'kind': 'local', 'shard': 's1'},
                          'f_two': {'key': 'a, b'},
                          'f_days': {'kind': 'range', 'key': 'd', 'key_type': 'date', 'places': '2020-01-01@s1, *@s0'}},
                  name='declared')
    shoal.start()
    try:
        rows = {row['name']: row for row in shoal.console('SHOW TABLES')}
        assert (rows['f_ref']['kind'], rows['f_local']['places'], rows['f_two']['key']) == ('reference', 's1', 'a, b')
        shoal.query("INSERT INTO f_days VALUES ('2020-01-01', 1), ('2019-01-01', 2)")
        shoal.query('INSERT INTO f_ref VALUES (5)')
        assert on_each(clusters, 'SELECT n FROM f_days') == [[['2']], [['1']]]
        assert on_each(clusters, 'SELECT id FROM f_ref') == [[['5']], [['5']]]
    finally:
        shoal.finish()
