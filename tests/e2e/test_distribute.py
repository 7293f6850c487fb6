"""shoal.distribute_table() and what the control thread watches: catalogs and servers."""
import threading
import time

import pytest

from tests.support.cluster import wait_until
from tests.support.wire import PgError

pytestmark = pytest.mark.shoal_only


@pytest.fixture
def conn(shoal):
    with shoal.connect('app') as conn:
        yield conn


def on_shards(clusters, *statements):
    for cluster in clusters:
        cluster.sql(*statements, database='app', user='app')


def distribute(conn, table, key, *more):
    args = ', '.join(f"'{text}'" for text in (table, key) + more)
    return conn.query(f'SELECT shoal.distribute_table({args})')


def refusal(conn, sql):
    with pytest.raises(PgError) as caught:
        conn.query(sql)
    assert conn.alive()
    return caught.value


@pytest.mark.parametrize('on_s0, on_s1, code', [
    ('CREATE TABLE {}(id int)', 'SELECT 1', '55000'),
    ('CREATE TABLE {}(id int)', 'CREATE TABLE {}(id bigint)', '55000'),
    ('CREATE TABLE {}(id int)', 'CREATE TABLE {}(other int)', '55000'),
    ('CREATE TABLE {}(id int)', 'CREATE TABLE {}(id int); INSERT INTO {} VALUES (1)', '55000'),
    ('CREATE TABLE {}(id int)', 'CREATE VIEW {} AS SELECT 1 AS id', '55000'),
    ('CREATE TABLE {}(id int)', 'CREATE TABLE {}(id int, a int UNIQUE)', '0A000'),
    ('CREATE TABLE {}(id int, EXCLUDE (id WITH =))', 'CREATE TABLE {}(id int, x int, EXCLUDE (x WITH =))', '0A000'),
])
def test_shards_that_differ(shoal, conn, clusters, request, on_s0, on_s1, code):
    # A table is distributed that one shard cannot hold: its statements fail, or lie, one by one.
    name = f'differ_{abs(hash((on_s0, on_s1))) % 10**8}'
    for cluster, text in zip(clusters, (on_s0, on_s1)):
        cluster.sql(*text.replace('{}', name).split('; '), database='app', user='app')
    err = refusal(conn, f"SELECT shoal.distribute_table('{name}', 'id')")
    assert err.code == code and 's1' in str(err), err
    assert name not in {row['name'] for row in shoal.console('SHOW TABLES')}


def test_foreign_keys(conn, clusters):
    # A foreign key over shards refuses rows that are right, or keeps rows that are wrong.
    on_shards(clusters, 'CREATE TABLE parent(id bigint PRIMARY KEY)',
              'CREATE TABLE child(id bigint, p bigint REFERENCES parent, PRIMARY KEY (p, id))',
              'CREATE TABLE stray(id bigint PRIMARY KEY, p bigint REFERENCES parent)')
    assert refusal(conn, "SELECT shoal.distribute_table('child', 'p')").code == '0A000'
    distribute(conn, 'parent', 'id')
    distribute(conn, 'child', 'p', 'parent')
    assert refusal(conn, "SELECT shoal.distribute_table('stray', 'id')").code == '0A000'


def test_only_the_owner(shoal, conn, clusters):
    # Anybody who can connect moves the tables of others.
    on_shards(clusters, 'CREATE TABLE owned(id int)')
    with shoal.connect('app', user='other') as other:
        err = refusal(other, "SELECT shoal.distribute_table('owned', 'id')")
        assert err.code == '42501' and 'owner' in str(err)
    distribute(conn, 'owned', 'id')
    with shoal.connect('app', user='other') as other:
        assert refusal(other, "SELECT shoal.undistribute_table('owned')").code == '42501'
    conn.query("SELECT shoal.undistribute_table('owned')")


def test_again_and_back(conn, clusters):
    # A migration that runs twice fails, or a table cannot be taken back.
    on_shards(clusters, 'CREATE TABLE twice(id int, other int)')
    distribute(conn, 'twice', 'id')
    assert 'already' in distribute(conn, 'twice', 'id')[0][0]
    assert refusal(conn, "SELECT shoal.distribute_table('twice', 'other')").code == '42P07'
    for key in range(20):
        conn.query(f'INSERT INTO twice VALUES ({key}, 0)')
    conn.query("SELECT shoal.undistribute_table('twice')")
    assert [c.query('SELECT count(*) FROM twice', 'app', 'app') for c in clusters] == [[['20']], [['0']]]
    conn.query("SELECT shoal.distribute_table('twice', 'other')")
    assert sorted(c.query('SELECT count(*) FROM twice', 'app', 'app')[0][0] for c in clusters) == ['0', '20']
    clusters[1].sql('CREATE TABLE strays (id int)', 'INSERT INTO strays VALUES (1)', database='app', user='app')
    clusters[0].sql('CREATE TABLE strays (id int)', database='app', user='app')
    stray = refusal(conn, "SELECT shoal.distribute_table('strays', 'id')")
    assert stray.code == '55000' and 's1' in str(stray)


def test_a_table_in_use(conn, clusters):
    # distribute_table waits for ever behind a forgotten transaction, and everybody behind it.
    on_shards(clusters, 'CREATE TABLE busy(id int)')
    with clusters[1].connect(database='app', user='app') as writer:
        writer.query('BEGIN')
        writer.query('INSERT INTO busy VALUES (1)')
        started = time.monotonic()
        assert refusal(conn, "SELECT shoal.distribute_table('busy', 'id')").code == '55P03'
        assert time.monotonic() - started < 10
        writer.query('ROLLBACK')
    distribute(conn, 'busy', 'id')


def test_writers_at_the_moment_of_distribution(shoal, conn, clusters, rng):
    # A row that is written meanwhile lands on the wrong shard and is never found again.
    for n in range(15):
        on_shards(clusters, f'CREATE TABLE moment{n}(id int)')
        keys = range(8)

        def write(key):
            with shoal.connect('app') as writer:
                time.sleep(rng.random() * 0.04)
                try:
                    writer.query(f'INSERT INTO moment{n} VALUES ({key})')
                    written.append(key)
                except PgError:
                    pass
        written = []
        threads = [threading.Thread(target=write, args=(key,)) for key in keys]
        for thread in threads:
            thread.start()
        try:
            distribute(conn, f'moment{n}', 'id')
        except PgError as err:
            assert err.code in ('55000', '55P03'), err
        for thread in threads:
            thread.join()
        for key in written:
            assert conn.query(f'SELECT count(*) FROM moment{n} WHERE id = {key}') == [['1']]


def test_ddl_behind_shoals_back_is_seen(shoal, clusters):
    # A table made with psql on the shard stays unknown until a restart.
    def tables():
        return int({row['name']: row for row in shoal.console('SHOW DATABASES')}['app']['tables'])
    time.sleep(1.5)
    before = tables()
    clusters[0].sql('CREATE TABLE made_directly(id int)', database='app', user='app')
    wait_until('the new table to be seen', lambda: tables() == before + 1, 5)


def test_a_dead_server_is_told_and_healed(shoal, conn, clusters):
    # The operator learns from the users that a shard is down.
    def state(shard):
        return {row['shard']: row['state'] for row in shoal.console('SHOW SHARDS')}[shard]
    on_shards(clusters, 'CREATE TABLE orphan(id int)')
    wait_until('health to be known', lambda: state('s1') == 'up', 5)
    clusters[1].stop('immediate')
    try:
        wait_until('s1 to be down', lambda: state('s1') == 'down', 6)
        err = refusal(conn, "SELECT shoal.distribute_table('orphan', 'id')")
        assert err.code == '08001' and 's1' in str(err)
        assert any('s1/primary is down' in row['event'] for row in shoal.console('SHOW EVENTS'))
    finally:
        clusters[1].start()
    wait_until('s1 to be up again', lambda: state('s1') == 'up', 6)
    distribute(conn, 'orphan', 'id')
