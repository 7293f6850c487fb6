"""Tables of every shape move with their buckets: keys of several columns; what cannot move is said before."""
import pytest

from tests.support.cluster import wait_until
from tests.support.moves import Moving

pytestmark = pytest.mark.shoal_only

KEYS = {
    'pairs': 'tenant, region',
    'triples': 'tenant, day, ok',
    'wide': 'a, b, c, d, e, f, g, h',
}
DDL = ['CREATE TABLE pairs(tenant bigint, region text, no int, body text, PRIMARY KEY (tenant, region, no))',
       'CREATE TABLE triples(tenant uuid, day date, ok bool, n int, PRIMARY KEY (ok, tenant, day))',
       'CREATE TABLE wide(a int2, b int4, c int8, d text, e varchar(9), f char(5), g timestamp, h bytea, '
       'PRIMARY KEY (a, b, c, d, e, f, g, h))',
       'CREATE TABLE single(id bigint PRIMARY KEY, n int)']
ROWS = 400


@pytest.fixture(scope='module')
def moving(workspace):
    moving = Moving(workspace, 2, DDL, dict(KEYS, single='id'), settings={'move_fence_timeout': '3s',
                                                                         'move_rollback_window': '10min'})
    moving.shoal.start()
    with moving.shoal.connect() as conn:
        insert(conn, 'pairs', [f"({i % 40}, 'r{i % 7}', {i}, repeat('x', {i % 90}))" for i in range(ROWS)])
        insert(conn, 'triples', [f"('00000000-0000-0000-0000-{i:012}', '2020-01-{1 + i % 28:02}', {i % 2 == 0}, {i})"
                                 for i in range(ROWS)])
        insert(conn, 'wide', [f"({i % 5}, {i % 3}, {i}, 'd{i}', 'e', 'f', '2020-01-01 00:00:{i % 60:02}', '\\x{i % 100:02}')"
                              for i in range(ROWS)])
        insert(conn, 'single', [f'({i}, 0)' for i in range(ROWS)])
    yield moving
    moving.finish()


def insert(conn, table, rows):
    conn.query(f'INSERT INTO {table} VALUES ' + ', '.join(rows))


def rows_of(moving, table):
    """Of all shards together, as text: a row that lies on two counts twice."""
    return sorted(row[0] for c in moving.joined() for row in c.query(f'SELECT t::text FROM {table} t', 'app'))


def held(moving, number):
    """Copied, and not going on."""
    wait_until('the move to begin', lambda: moving.state(number)['state'] == 'moving', 60, 0.02)
    moving.shoal.console('REBALANCE PAUSE')
    wait_until('the rows to be copied', lambda: moving.state(number)['step'] == 'catch_up', 60, 0.05)


def switched(moving, number):
    moving.shoal.console('REBALANCE RESUME')
    wait_until('the way back', lambda: moving.state(number)['step'] == 'rest' or
               moving.state(number)['state'] in ('failed', 'done'), 60, 0.05)
    assert moving.state(number)['state'] == 'switched', moving.state(number)


def test_keys_of_several_columns(moving):
    # A table by (tenant, region) keeps every bucket of the database where it is; or rows go to a wrong shard.
    assert moving.shoal.console('FSCK') == []  # SQL's bucket of a row is the one that it was routed by
    on_s0 = {t: len(moving.clusters[0].query(f'SELECT FROM {t}', 'app')) for t in KEYS}
    assert all(0 < on_s0[t] < ROWS for t in KEYS), on_s0
    plan = moving.shoal.console('REBALANCE PLAN DRAIN s0')[0]
    assert plan['blocked_by'] is None and int(plan['rows']) > sum(on_s0.values()), plan
    before = {t: rows_of(moving, t) for t in moving.tables}
    number = moving.move('0-15', 's1')
    held(moving, number)
    with moving.shoal.connect() as conn:
        # What lies on two shards is counted once, and written once, while it travels.
        assert conn.query('SELECT count(*), sum(no) FROM pairs') == [[str(ROWS), str(sum(range(ROWS)))]]
        assert conn.query('SELECT count(*) FROM triples t WHERE ok') == [[str(ROWS // 2)]]
        assert conn.query('SELECT count(*) FROM wide') == [[str(ROWS)]]
        conn.query("UPDATE pairs SET body = body || '!' WHERE no % 3 = 0")
        for tenant in range(40):
            conn.query(f"UPDATE pairs SET body = body || '?' WHERE tenant = {tenant} AND region = 'r{tenant % 7}'")
        conn.query("DELETE FROM pairs WHERE tenant = 3 AND region = 'r3'")
        insert(conn, 'pairs', [f"({t}, 'late', 1, 'b')" for t in range(40)])
        conn.query('UPDATE triples SET n = n + 1')
        switched(moving, number)
        written = {t: rows_of(moving, t) for t in moving.tables}
        assert conn.query('SELECT count(*) FROM pairs WHERE region = $$late$$') == [['40']]
        for tenant in range(40):
            assert conn.query(f"SELECT count(*) FROM pairs WHERE tenant = {tenant} AND region = 'late'") == [['1']]
        insert(conn, 'pairs', [f"({t}, 'later', 1, 'b')" for t in range(40)])
        moving.shoal.console(f'REBALANCE ROLLBACK {number}')
        assert moving.wait(number)['state'] == 'cancelled', moving.state(number)
        conn.query("DELETE FROM pairs WHERE region IN ('late', 'later')")
        assert len(rows_of(moving, 'pairs')) == len(before['pairs']) - len([r for r in before['pairs'] if r.startswith('(3,r3,')])
    assert len(written['triples']) > ROWS  # two copies, until the end
    assert moving.shoal.console('FSCK') == []
    assert len(rows_of(moving, 'triples')) == ROWS and rows_of(moving, 'wide') == before['wide']
    wait_until('nothing to be left behind', lambda: not moving.leftovers(), 30, 0.2)


def test_one_key_of_several_columns(moving):
    # MOVE KEY takes the first column's value for the whole key.
    with moving.shoal.connect() as conn:
        bucket = int(conn.query("SELECT shoal.bucket_of('pairs', '5', 'r5')")[0][0])
        source = conn.query("SELECT shoal.shard_of('pairs', '5', 'r5')")[0][0]
        target = 's1' if source == 's0' else 's0'
        body = conn.query("SELECT no, body FROM pairs WHERE tenant = 5 AND region = 'r5' ORDER BY no")
        assert body
        with pytest.raises(Exception, match='the key of table "public.pairs" is .tenant, region.'):
            moving.shoal.console(f'MOVE KEY pairs 5 TO {target}')
        row = moving.shoal.console(f'MOVE KEY pairs 5 r5 TO {target}')[0]
        switched(moving, int(row['move']))
        moving.shoal.console(f"REBALANCE FINISH {row['move']}")
        assert moving.wait(int(row['move']))['state'] == 'done'
        assert moving.owners()[bucket] == target
        assert conn.query("SELECT no, body FROM pairs WHERE tenant = 5 AND region = 'r5' ORDER BY no") == body
    assert moving.shoal.console('FSCK') == []


def test_an_identity_without_the_whole_key_is_refused(moving):
    # The application's own UPDATE fails as soon as the publication is there.
    with moving.shoal.connect() as conn:
        conn.query('CREATE TABLE half(tenant bigint, region text, n int)')
        conn.query("SELECT shoal.distribute_table('half', 'tenant, region')")
        row = moving.wait(moving.move('20', 's1'))
        assert row['state'] == 'failed' and 'replica identity of table public.half' in row['reason'], row
        conn.query('ALTER TABLE half REPLICA IDENTITY FULL')
        number = moving.move('20', 's1')
        switched(moving, number)
        moving.shoal.console(f'REBALANCE FINISH {number}')
        assert moving.wait(number)['state'] == 'done'
        conn.query('DROP TABLE half')
