"""FSCK finds rows in the wrong place, schemas that differ and what moves left behind; preflight refuses early."""
import pytest

from tests.support.moves import Moving
from tests.support.wire import PgError

pytestmark = pytest.mark.shoal_only

DDL = ['CREATE TABLE rows(id bigint PRIMARY KEY, n int)', 'CREATE TABLE loose(id bigint, n int)']
ON_S1, ON_S0 = 40, 3  # buckets of 64 over two shards


@pytest.fixture(scope='module')
def moving(workspace):
    moving = Moving(workspace, 2, DDL, {'rows': 'id'})
    moving.shoal.start()
    with moving.shoal.connect() as conn:
        for key in range(100):
            conn.query(f'INSERT INTO rows VALUES ({key}, {key})')
    yield moving
    moving.finish()


def key_in(moving, bucket):
    found = moving.clusters[0].query(
        f'SELECT k FROM generate_series(1000, 9000) k WHERE {moving.bucket_sql("k::bigint")} = {bucket} LIMIT 1')
    return int(found[0][0])


def findings(moving, kind, repair=''):
    return [row for row in moving.shoal.console(f'FSCK {repair}') if row['finding'] == kind]


def test_a_sound_cluster(moving):
    # FSCK cries wolf, and nobody listens to it any more.
    assert moving.shoal.console('FSCK') == []


def test_misplaced_rows(moving):
    # A row that no query finds stays lost.
    key = key_in(moving, ON_S1)
    moving.clusters[0].sql(f'INSERT INTO rows VALUES ({key}, 0)', database='app')
    found = findings(moving, 'misplaced rows')
    assert len(found) == 1 and found[0]['shard'] == 's0' and f'bucket {ON_S1}' in found[0]['what']
    assert findings(moving, 'misplaced rows', 'REPAIR')  # rows are never deleted by themselves
    # ... and a move to that shard is refused, instead of mixing them up.
    row = moving.wait(moving.move(str(ON_S1), 's0'))
    assert row['state'] == 'failed' and 'rows of these buckets' in row['reason']
    assert len(findings(moving, 'misplaced rows')) == 1
    moving.clusters[0].sql(f'DELETE FROM rows WHERE id = {key}', database='app')
    assert moving.shoal.console('FSCK') == []


def test_a_schema_that_differs(moving):
    # A column that is missing on one shard is noticed by the statement that fails.
    moving.clusters[1].sql('ALTER TABLE rows ADD COLUMN extra int', database='app')
    found = findings(moving, 'schema')
    assert len(found) == 1 and 'extra' in found[0]['what']
    row = moving.wait(moving.move(str(ON_S0), 's1'))
    assert row['state'] == 'failed' and 'not the same on both shards' in row['reason']
    moving.clusters[1].sql('ALTER TABLE rows DROP COLUMN extra', database='app')
    assert moving.shoal.console('FSCK') == []


def test_leftovers(moving):
    # A slot that nobody reads fills the source's disk (H77).
    cluster_id = moving.shoal.console('SHOW VERSION')[0]['cluster'][:8]
    name = f'shoal_{cluster_id}_999'
    moving.clusters[0].sql(f"SELECT pg_create_logical_replication_slot('{name}_0', 'pgoutput')",
                           f'CREATE PUBLICATION {name} FOR TABLE rows', database='app')
    assert {row['object'] for row in findings(moving, 'leftover')} == {f'slot {name}_0', f'publication {name}'}
    findings(moving, 'leftover', 'REPAIR')
    assert moving.shoal.console('FSCK') == []


def test_no_replica_identity(moving):
    # The application's own UPDATE fails, because the publication's filter needs the key.
    with moving.shoal.connect() as conn:
        conn.query("SELECT shoal.distribute_table('loose', 'id')")
        row = moving.wait(moving.move(str(ON_S0), 's1'))
        assert row['state'] == 'failed' and 'replica identity' in row['reason'], row
        told = [e['event'] for e in moving.shoal.console('SHOW EVENTS') if f"move {row['id']} cannot begin" in e['event']]
        assert {t.split(': ')[1].split(',')[0] for t in told} == {'s0', 's1'}, told  # all of them at once
        assert all('Add a primary key' in t for t in told)
        for cluster in moving.clusters:
            cluster.sql('ALTER TABLE loose REPLICA IDENTITY FULL', database='app')
        key = key_in(moving, ON_S0)
        conn.query(f'INSERT INTO loose VALUES ({key}, 1)')
        moving.tables['loose'] = 'id'
        assert moving.wait(moving.move(str(ON_S0), 's1'))['state'] == 'done'
        assert conn.query(f'SELECT n FROM loose WHERE id = {key}') == [['1']]
    moving.check()


def test_wrong_wishes(moving):
    # A slip of the finger starts a move that cannot end well.
    for command, code in (('MOVE 99 TO s1', '22023'), ('MOVE 1 TO s7', '42704'), ('MOVE 0-63 TO s1', '22023'),
                          ('MOVE x TO s1', '22023'), ('MOVE 40 TO s1', '22023'), ('MOVE 1 INTO s1', '42601'),
                          ('REBALANCE CANCEL 12345', '42704'), ('REBALANCE START BY COLOUR', '42601'),
                          ('SHARD ADD s9', '42704'), ('SHARD REMOVE s0', '55006')):
        with pytest.raises(PgError) as caught:
            moving.shoal.console(command)
        assert caught.value.code == code, (command, caught.value)


def test_tables_stay_known_while_buckets_move(moving):
    # A table becomes distributed beside a move that knows nothing of it, and its rows are not moved.
    moving.shoal.ini.write_text(moving.shoal.ini.read_text().replace('move_rollback_window = 0',
                                                                     'move_rollback_window = 1min'))
    moving.shoal.console('RELOAD')
    number = moving.move('5', 's1')
    moving.wait(number, ('switched',))
    with moving.shoal.connect() as conn:
        conn.query('UPDATE rows SET n = n + 1')
        assert conn.query('SELECT count(*) FROM rows') == [['100']]
        before = moving.shoal.ini.read_text()
        moving.shoal.ini.write_text(before + '\n[table late]\nkey = id\n')
        with pytest.raises(PgError) as caught:
            moving.shoal.console('RELOAD')
        assert caught.value.code == '55006'
        moving.shoal.ini.write_text(before)
        moving.shoal.console('RELOAD')
        moving.shoal.console(f'REBALANCE ROLLBACK {number}')
        assert moving.wait(number)['state'] == 'cancelled'
        assert moving.owners()[5] == 's0'
        conn.query('UPDATE rows SET n = n + 1')
        assert conn.query('SELECT count(*) FROM rows') == [['100']]
    moving.check()


def test_tables_of_other_kinds_beside(moving):
    # A reference table keeps buckets from moving, or is moved with them; a new shard has none of its rows.
    with moving.shoal.connect() as conn:
        conn.query('CREATE TABLE lands(code text PRIMARY KEY)')
        conn.query("SELECT shoal.create_reference_table('lands')")
        conn.query("INSERT INTO lands VALUES ('de')")
        moving.shoal.console('REBALANCE FINISH')
        number = moving.move('6', 's1')
        moving.wait(number, ('switched',))
        assert conn.query('SELECT code FROM lands') == [['de']]
        with pytest.raises(PgError) as caught:  # its rows have to be copied, and a move could be rolled back meanwhile
            moving.shoal.console('SHARD ADD s9')
        assert caught.value.code == '55006'
        moving.shoal.console(f'REBALANCE FINISH {number}')
        assert moving.wait(number)['state'] == 'done'
        assert [c.query('SELECT code FROM lands', 'app') for c in moving.clusters] == [[['de']], [['de']]]
    moving.check()
