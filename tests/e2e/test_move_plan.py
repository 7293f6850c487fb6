"""What REBALANCE PLAN says before anything moves: what, how much, how long, what stands in the way. And it moves nothing."""
import json
import subprocess

import pytest

from tests.support.moves import Moving
from tests.support.shoal import binary

pytestmark = pytest.mark.shoal_only

DDL = ['CREATE TABLE small(id bigint PRIMARY KEY, v text)', 'CREATE TABLE wide(id bigint PRIMARY KEY, body text)']
ROWS = 640


@pytest.fixture(scope='module')
def moving(workspace):
    moving = Moving(workspace, 2, DDL, {'small': 'id', 'wide': 'id'})
    moving.shoal.start()
    with moving.shoal.connect() as conn:
        conn.query('INSERT INTO small VALUES ' + ', '.join(f"({i}, 'v{i}')" for i in range(ROWS)))
    yield moving
    moving.finish()


def key_on(moving, shard, near=0):
    """A key whose bucket lives on the shard; with its bucket."""
    owners = moving.owners()
    for key in range(near, near + 1000):
        bucket = int(moving.clusters[0].query(f'SELECT {moving.bucket_sql(str(key) + "::bigint")}')[0][0])
        if owners[bucket] == shard:
            return key, bucket
    raise AssertionError(f'no key of {shard}')


def test_a_plan_tells_rows_bytes_time_and_room(moving):
    # People start a move of a terabyte, believing it was a megabyte.
    on_s0 = int(moving.clusters[0].query('SELECT count(*) FROM small', 'app')[0][0])
    plan = moving.shoal.console('REBALANCE PLAN DRAIN s0')
    assert len(plan) == 1
    row = plan[0]
    assert (row['source'], row['target'], row['bucket_count']) == ('s0', 's1', '32')
    assert int(row['rows']) == on_s0
    on_disk = int(moving.clusters[0].query("SELECT pg_total_relation_size('small')", 'app')[0][0])
    assert on_disk * 0.9 <= int(row['bytes']) <= on_disk + 32 * 1024 * 2
    assert int(row['seconds']) >= 1 and 'assumed' in row['seconds_by']
    assert int(row['target_free']) > 0
    assert row['blocked_by'] is None
    assert moving.shoal.console('REBALANCE PLAN') == []  # the shards are even
    assert moving.shoal.console('SHOW MOVES') == []      # and nothing has begun


def test_by_bytes(moving):
    # A shard with the large rows stays as full as it is, because it has as many buckets as the other.
    key, bucket = key_on(moving, 's0')
    other, _ = key_on(moving, 's0', key + 1)
    with moving.shoal.connect() as conn:
        for k in (key, other):
            conn.query(f"INSERT INTO wide SELECT {k}, string_agg(md5(i::text), '') FROM generate_series(1, 30000) i")
    plan = moving.shoal.console('REBALANCE PLAN BY BYTES')
    assert [row['source'] for row in plan] == ['s0'], plan
    assert int(plan[0]['bytes']) > 400_000
    assert int(plan[0]['bucket_count']) <= 4, plan  # few buckets on the road
    assert moving.shoal.console('REBALANCE PLAN BY COUNT') == []


def test_by_load(moving):
    # A shard with the busy keys stays busy.
    buckets = {}
    near = 0
    while len(buckets) < 4:
        key, bucket = key_on(moving, 's1', near)
        near = key + 1
        buckets.setdefault(bucket, key)
    with moving.shoal.connect() as conn:
        for _ in range(300):
            for key in buckets.values():
                conn.query(f'SELECT v FROM small WHERE id = {key}')
    plan = moving.shoal.console('REBALANCE PLAN BY LOAD')
    assert [(row['source'], row['target']) for row in plan] == [('s1', 's0')], plan
    assert int(plan[0]['bucket_count']) <= 4, plan
    assert {int(b) for run in plan[0]['buckets'].split(',') for b in run.split('-')} <= set(buckets), plan


def test_weights(moving):
    # A server three times as large gets as little as the small one.
    moving.shoal.write_ini(moving.shoal.ini_text().replace('[shard s1]\n', '[shard s1]\nweight = 3\n'))
    moving.shoal.console('RELOAD')
    plan = moving.shoal.console('REBALANCE PLAN')
    assert [(row['source'], row['target'], row['bucket_count']) for row in plan] == [('s0', 's1', '16')]
    moving.shoal.write_ini()
    moving.shoal.console('RELOAD')
    assert moving.shoal.console('REBALANCE PLAN') == []


def test_what_blocks_it_is_said_with_its_remedy(moving):
    # The first obstacle is said, then the next one, then the next one; each a move that failed.
    moving.clusters[0].sql('ALTER TABLE small REPLICA IDENTITY NOTHING', database='app')
    moving.clusters[1].sql('CREATE TABLE plain(id int)', 'ALTER TABLE wide ADD COLUMN more int', database='app')
    try:
        row = moving.shoal.console('REBALANCE PLAN DRAIN s0')[0]
        lines = row['blocked_by'].split('\n')
        assert any('replica identity of table public.small' in line and 'Add a primary key' in line for line in lines), lines
        assert any('not the same on both shards' in line and 'FSCK' in line for line in lines), lines
    finally:
        moving.clusters[0].sql('ALTER TABLE small REPLICA IDENTITY DEFAULT', database='app')
        moving.clusters[1].sql('DROP TABLE plain', 'ALTER TABLE wide DROP COLUMN more', database='app')
    # A column that was there and went leaves no trace in what is compared.
    assert moving.shoal.console('REBALANCE PLAN DRAIN s0')[0]['blocked_by'] is None


def test_a_shard_that_does_not_answer(moving):
    # A plan made without a shard's figures, which nobody notices.
    moving.clusters[1].stop()
    try:
        row = moving.shoal.console('REBALANCE PLAN DRAIN s0')[0]
        assert 's1, database app' in row['blocked_by'], row
        with pytest.raises(Exception, match='s1'):
            moving.shoal.console('REBALANCE PLAN BY BYTES')
    finally:
        moving.clusters[1].start()


def test_words(moving):
    # A wrong word starts something else than was meant.
    for command in ('REBALANCE PLAN BY', 'REBALANCE PLAN BY COLOUR', 'REBALANCE START DRAIN', 'REBALANCE PLAN NOW'):
        with pytest.raises(Exception, match='syntax error'):
            moving.shoal.console(command)
    with pytest.raises(Exception, match='no shard "s9"'):
        moving.shoal.console('REBALANCE PLAN DRAIN s9')
    with pytest.raises(Exception, match='would be left'):
        moving.shoal.write_ini(moving.shoal.ini_text().replace('[shard s1]\n', '[shard s1]\nweight = 0\n'))
        moving.shoal.console('RELOAD')
        moving.shoal.console('REBALANCE PLAN DRAIN s0')


def test_for_programs(moving):
    # Whoever automates it must read a picture.
    moving.shoal.write_ini()
    moving.shoal.console('RELOAD')
    out = subprocess.run([binary().parent / 'shoalctl', '-p', str(moving.shoal.port), '-U', 'admin', '--json', 'rebalance',
                          'plan', '--drain', 's0', '--by', 'bytes'], capture_output=True, text=True, timeout=60)
    assert out.returncode == 0, out.stderr
    rows = json.loads(out.stdout)
    assert rows[0]['source'] == 's0' and rows[0]['rows'] > 0 and rows[0]['blocked_by'] is None
