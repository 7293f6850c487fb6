"""TPC-H's 22 queries over three shards: the same bytes as from one PostgreSQL with all the rows.

orders and lineitem lie together by orderkey, part and partsupp by partkey; supplier and customer by their own key;
region and nation are reference tables. What every query needs most (joins off the key) is gathered.
"""
import pytest

from tests.e2e.conftest import prepared_cluster
from tests.support import host, tpch
from tests.support.shoal import Shoal
from tests.support.wire import errors_of, extended, message, query, rows_of, tags_of

pytestmark = pytest.mark.shoal_only

SHARDS = ['s0', 's1', 's2']


@pytest.fixture(scope='module')
def clusters(workspace):
    made = [prepared_cluster(workspace, name) for name in SHARDS]
    yield made
    for cluster in made:
        cluster.stop()


@pytest.fixture(scope='module')
def shoal_databases():
    return {'app': {'shards': ', '.join(SHARDS)}}


@pytest.fixture(scope='module')
def shoal(workspace, clusters, shoal_users, shoal_databases):
    shoal = Shoal(workspace, dict(zip(SHARDS, clusters)), users=shoal_users, databases=shoal_databases)
    shoal.start()
    yield shoal
    shoal.finish()


def load(conn, table, data):
    conn.send(query(f'COPY {table} FROM STDIN'))
    conn.until('G')
    seen = conn.exchange(message('d', data) + message('c'))
    assert not errors_of(seen), errors_of(seen)
    return tags_of(seen)


@pytest.fixture(scope='module')
def app(shoal, clusters):
    made = tpch.rows(host.SEED)
    with shoal.connect('app', timeout_s=60) as ours, clusters[0].connect('solo', 'app', timeout_s=60) as theirs:
        for table, (key, ddl) in tpch.TABLES.items():
            for conn in (ours, theirs):
                conn.query(f'CREATE TABLE {table} ({ddl})')
            if key:
                ours.query(f"SELECT create_distributed_table('{table}', '{key}')")
            else:
                ours.query(f"SELECT create_reference_table('{table}')")
            for conn in (ours, theirs):
                assert load(conn, table, tpch.copy_text(made[table])) == [f'COPY {len(made[table])}']
        ours.query('ANALYZE')
        theirs.query('ANALYZE')
    return shoal


def test_rows_lie_on_all_shards(app, clusters):
    for table, (key, _) in tpch.TABLES.items():
        counts = [int(cluster.query(f'SELECT count(*) FROM {table}', 'app')[0][0]) for cluster in clusters]
        whole = int(clusters[0].query(f'SELECT count(*) FROM {table}', 'solo')[0][0])
        assert counts == [whole] * 3 if key is None else sum(counts) == whole and all(counts), (table, counts)


@pytest.mark.parametrize('number', list(tpch.QUERIES))
@pytest.mark.parametrize('protocol', ['simple', 'extended'])
def test_query(app, clusters, number, protocol):
    # A report that counts the rows of one shard, or rounds on the way, is believed by those who read it.
    sql = tpch.QUERIES[number]
    data = query(sql) if protocol == 'simple' else extended(sql)
    with app.connect('app', timeout_s=100) as ours, clusters[0].connect('solo', 'app', timeout_s=60) as theirs:
        expected, actual = theirs.exchange(data), ours.exchange(data)
    assert not errors_of(expected) and rows_of(expected), f'seed {host.SEED}: a query without rows shows nothing'
    assert not errors_of(actual), f'seed {host.SEED}: {errors_of(actual)}'
    assert (rows_of(actual), tags_of(actual)) == (rows_of(expected), tags_of(expected)), f'seed {host.SEED}'
