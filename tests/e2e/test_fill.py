"""Tables that already hold rows are distributed: each row goes to its shard once, whatever is written and whoever dies meanwhile."""
import os
import threading

import pytest

from tests.support.cluster import wait_until
from tests.support.shoal import Shoal, binary
from tests.support.wire import Closed, PgError

pytestmark = pytest.mark.shoal_only


@pytest.fixture
def conn(shoal):
    with shoal.connect('app', timeout_s=90) as conn:
        yield conn


def rows_on(clusters, table, order='1'):
    return [c.query(f'SELECT * FROM {table} ORDER BY {order}', 'app', 'app') for c in clusters]


def made(conn, name, columns='id bigint PRIMARY KEY, note text', rows=400, values="g, 'note ' || g"):
    conn.query(f'CREATE TABLE {name} ({columns})')
    conn.query(f'INSERT INTO {name} SELECT {values} FROM generate_series(1, {rows}) g')


def refusal(conn, sql):
    with pytest.raises(PgError) as caught:
        conn.query(sql)
    return caught.value


def test_rows_go_to_their_shards(shoal, conn, clusters):
    # Rows stay behind where their key is not looked for, or are there twice.
    made(conn, 'filled')
    conn.query("SELECT shoal.distribute_table('filled', 'id')")
    here, there = rows_on(clusters, 'filled')
    assert len(here) > 100 and len(there) > 100 and len(here) + len(there) == 400
    for k in (1, 7, 399):
        assert conn.query(f'SELECT note FROM filled WHERE id = {k}') == [[f'note {k}']]
    assert conn.query('SELECT count(*), count(DISTINCT id) FROM filled') == [['400', '400']]
    assert any('copied' in row['event'] for row in shoal.console('SHOW EVENTS'))
    conn.query("SELECT shoal.undistribute_table('filled')")
    here, there = rows_on(clusters, 'filled')
    assert len(here) == 400 and there == []
    assert conn.query('SELECT count(*) FROM filled') == [['400']]
    assert [c.query("SELECT count(*) FROM pg_prepared_xacts") for c in clusters] == [[['0']], [['0']]]
    assert [c.query("SELECT to_regclass('shoal.distribute_rows')", 'app') for c in clusters] == [[[None]], [[None]]]


def test_all_kinds_of_columns(conn, clusters):
    # A value is another one after its way.
    conn.query('CREATE TABLE kinds (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t text, a text[], j jsonb, b bytea, n numeric, s timestamptz, '
         'twice int GENERATED ALWAYS AS (cardinality(a) * 2) STORED)')
    conn.query("INSERT INTO kinds (t, a, j, b, n, s) SELECT E'a\\tb\\\\' || g, ARRAY[NULL, 'x,\"y'], '{\"k\": [1, null]}', '\\x00ff', g / 3.0, now() FROM "
               "generate_series(1, 60) g")
    before = conn.query('SELECT * FROM kinds ORDER BY id')
    conn.query("SELECT create_distributed_table('kinds', 'id')")
    assert conn.query('SELECT * FROM kinds ORDER BY id') == before
    assert all(len(rows) > 10 for rows in rows_on(clusters, 'kinds'))
    new = conn.query("INSERT INTO kinds (t) VALUES ('x'), ('y'), ('z') RETURNING id")
    assert len({row[0] for row in new}) == 3 and all(int(row[0]) > 60 for row in new)


def test_reference_and_local_tables(conn, clusters):
    made(conn, 'lands')
    conn.query("SELECT create_reference_table('lands')")
    here, there = rows_on(clusters, 'lands')
    assert here == there and len(here) == 400
    conn.query("UPDATE lands SET note = 'x' WHERE id = 5")
    made(conn, 'settings')
    conn.query("SELECT shoal.place_table('settings', 's1')")
    here, there = rows_on(clusters, 'settings')
    assert here == [] and len(there) == 400
    assert conn.query('SELECT count(*) FROM settings') == [['400']]
    conn.query("SELECT shoal.undistribute_table('settings')")
    assert [len(rows) for rows in rows_on(clusters, 'settings')] == [400, 0]


def test_a_partitioned_table_takes_its_rows_along(shoal, conn, clusters):
    # Rows stay in partitions of the home shard, where nobody looks for them; or are taken there twice.
    conn.query('CREATE TABLE visits (id bigint, at date, note text, twice bigint GENERATED ALWAYS AS (id * 2) STORED, PRIMARY KEY (id, at)) '
               'PARTITION BY RANGE (at)')
    conn.query("CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')")
    conn.query("CREATE TABLE visits_2 PARTITION OF visits FOR VALUES FROM ('2024-02-01') TO ('2024-03-01') PARTITION BY HASH (id)")
    for part in range(2):
        conn.query(f'CREATE TABLE visits_2_{part} PARTITION OF visits_2 FOR VALUES WITH (modulus 2, remainder {part})')
    conn.query('CREATE TABLE visits_rest PARTITION OF visits DEFAULT')
    conn.query("INSERT INTO visits (id, at, note) SELECT g, date '2024-01-01' + (g * 7) % 90, 'n' || g FROM generate_series(1, 400) g")
    before = conn.query('SELECT * FROM visits ORDER BY id')
    conn.query("SELECT shoal.distribute_table('visits', 'id')")
    here, there = rows_on(clusters, 'visits')
    assert len(here) > 100 and len(there) > 100 and len(here) + len(there) == 400
    assert all(c.query('SELECT count(*) > 10 FROM ' + part, 'app') == [['t']] for c in clusters for part in
               ('visits_1', 'visits_2_0', 'visits_2_1', 'visits_rest'))
    assert conn.query('SELECT * FROM visits ORDER BY id') == before
    assert all(conn.query(f'SELECT note FROM visits WHERE id = {k}') == [[f'n{k}']] for k in (1, 200, 399))
    assert shoal.console('FSCK') == []
    conn.query("INSERT INTO visits (id, at, note) VALUES (9001, '2024-01-05', 'later')")
    conn.query("SELECT shoal.undistribute_table('visits')")
    here, there = rows_on(clusters, 'visits')
    assert len(here) == 401 and there == []
    assert [c.query('SELECT count(*) FROM pg_prepared_xacts') for c in clusters] == [[['0']], [['0']]]


def test_a_partition_that_is_missing_there(conn, clusters):
    # Half of the rows have moved, the others have no place: nothing may be changed.
    conn.query('CREATE TABLE gaps (id bigint, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)')
    conn.query("CREATE TABLE gaps_1 PARTITION OF gaps FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')")
    conn.query("INSERT INTO gaps SELECT g, '2024-01-01' FROM generate_series(1, 50) g")
    clusters[1].sql('DROP TABLE gaps_1', database='app')
    assert refusal(conn, "SELECT shoal.distribute_table('gaps', 'id')").code == '23514'
    assert [len(rows) for rows in rows_on(clusters, 'gaps')] == [50, 0]
    assert conn.query('SELECT count(*) FROM gaps') == [['50']]
    conn.query('DROP TABLE IF EXISTS gaps')


def test_refused_and_nothing_is_changed(conn, clusters):
    made(conn, 'holes', 'id bigint, note text', 20)
    conn.query('INSERT INTO holes VALUES (NULL, NULL)')
    err = refusal(conn, "SELECT shoal.distribute_table('holes', 'id')")
    assert err.code == '55000' and 'NULL' in err['H']
    assert [len(rows) for rows in rows_on(clusters, 'holes')] == [21, 0]
    made(conn, 'pairs', 'a int, b int, PRIMARY KEY (a, b)', 20, 'g, g')
    assert refusal(conn, "SELECT shoal.distribute_table('pairs', 'a, b')").code == '55000'
    conn.query("SELECT shoal.distribute_table('pairs', 'a')")
    assert conn.query('SELECT count(*) FROM pairs') == [['20']]


def test_triggers_do_not_fire_for_rows_that_move(conn, clusters):
    # Each order is mailed to its customer again.
    made(conn, 'told')
    conn.query('CREATE TABLE mails (n int)')
    conn.query("CREATE FUNCTION mail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO mails VALUES (1); RETURN NULL; END'")
    conn.query('CREATE TRIGGER mail AFTER INSERT OR DELETE ON told FOR EACH ROW EXECUTE FUNCTION mail()')
    conn.query("SELECT shoal.distribute_table('told', 'id')")
    assert [rows for rows in rows_on(clusters, 'mails')] == [[], []]
    assert conn.query('SELECT count(*) FROM told') == [['400']]


def test_writers_at_the_same_time(shoal, conn, clusters):
    # A row that was written while the others moved is lost, or nobody finds it.
    made(conn, 'busy', rows=2000)
    written, stop = [], threading.Event()

    def write(base):
        with shoal.connect('app', timeout_s=90) as writer:
            k = base
            while not stop.is_set():
                k += 1
                try:
                    writer.query(f"INSERT INTO busy VALUES ({k}, 'w')")
                    written.append(k)
                    if writer.query(f'SELECT note FROM busy WHERE id = {k}') != [['w']]:
                        lost.append(k)
                except PgError as err:
                    if err.code not in ('57014', '55P03'):
                        lost.append((k, str(err)))
    lost = []
    threads = [threading.Thread(target=write, args=(base,)) for base in (10**5, 2 * 10**5, 3 * 10**5)]
    for thread in threads:
        thread.start()
    wait_until('writers to write', lambda: len(written) > 20, 60)

    def distribute():
        try:
            return conn.query("SELECT shoal.distribute_table('busy', 'id')")
        except PgError as err:
            assert err.code == '55P03', err
    wait_until('the table to be distributed', distribute, 90)
    seen = len(written)
    wait_until('writers to go on', lambda: len(written) > seen + 20, 60)
    stop.set()
    for thread in threads:
        thread.join()
    assert not lost
    ids = [int(row[0]) for rows in rows_on(clusters, 'busy') for row in rows]
    assert len(ids) == len(set(ids)) and set(written) <= set(ids) and set(range(1, 2001)) <= set(ids)
    for k in written[:5] + written[-5:]:
        assert conn.query(f'SELECT count(*) FROM busy WHERE id = {k}') == [['1']]


@pytest.mark.parametrize('place, distributed', [('fill_copied', False), ('fill_prepared', False), ('fill_stored', True), ('fill_half', True)])
def test_killed_in_between(workspace, clusters, place, distributed):
    # Half of the rows are gone, or all are there twice.
    if not os.popen(f'{binary()} --failpoints').read():
        pytest.skip('built without -Dfailpoints=true')
    name = f'killed_{place}'
    users = {'admin': {'admin': 'on'}, 'app': {'admin': 'on'}}
    shoal = Shoal(workspace, {'s0': clusters[0], 's1': clusters[1]}, databases={'app': {'shards': 's0, s1'}}, users=users, name=name)
    shoal.start(failpoint=f'{place}:panic')
    try:
        with shoal.connect('app', timeout_s=90) as conn:
            made(conn, name, rows=200)
            with pytest.raises((Closed, PgError)):
                conn.query(f"SELECT shoal.distribute_table('{name}', 'id')")
        shoal.process.wait(60)
        shoal.start()
        wait_until('all to be ended', lambda: all(c.query("SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'shoal-rows%'") == [['0']]
                                                  for c in clusters), 60)
        with shoal.connect('app', timeout_s=90) as conn:
            here, there = rows_on(clusters, name)
            assert len(here) + len(there) == 200 and bool(there) == distributed
            assert conn.query(f'SELECT count(*) FROM {name}') == [['200']]
            assert conn.query(f'SELECT note FROM {name} WHERE id = 77') == [['note 77']]
            wait_until('it to be over', lambda: any(f'{name}: its rows' in row['event'] for row in shoal.console('SHOW EVENTS'))
                       if place != 'fill_copied' else True, 60)
            if not distributed:
                conn.query(f"SELECT shoal.distribute_table('{name}', 'id')")
            assert conn.query(f'SELECT count(*) FROM {name}') == [['200']]
            assert all(len(rows) > 40 for rows in rows_on(clusters, name))
    finally:
        shoal.finish()


def test_a_shard_that_cannot_prepare(conn, clusters):
    # An error in between leaves locks, or rows on two shards.
    made(conn, 'refused')
    blocker = clusters[1].connect('app', 'app')
    blocker.query('BEGIN')
    blocker.query('SELECT * FROM refused')  # ACCESS EXCLUSIVE cannot be had
    assert refusal(conn, "SELECT shoal.distribute_table('refused', 'id')").code == '55P03'
    blocker.query('ROLLBACK')
    blocker.close()
    wait_until('nothing to be prepared', lambda: all(c.query('SELECT count(*) FROM pg_prepared_xacts') == [['0']] for c in clusters), 60)
    assert [len(rows) for rows in rows_on(clusters, 'refused')] == [400, 0]
    wait_until('it to be possible again', lambda: conn.query("SELECT shoal.distribute_table('refused', 'id')"), 60)
    assert conn.query('SELECT count(*) FROM refused') == [['400']]
