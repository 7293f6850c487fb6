"""Reads go to replicas while rows change their shard: a replica that is behind knows them where they were. And while a
primary is away."""
import time

import pytest

from tests.support.cluster import wait_until
from tests.support.moves import Moving
from tests.support.wire import TIMEOUT, errors_of, query

pytestmark = pytest.mark.shoal_only

KEYS = 300
ALL = [[str(KEYS), str(sum(range(KEYS)))]]
COUNT = 'SELECT count(*), sum(id) FROM rows'


class Replicated(Moving):
    """Each shard has a replica, and every read may go there, however old it is."""

    def __init__(self, workspace):
        super().__init__(workspace, 2, ['CREATE TABLE rows(id bigint PRIMARY KEY, n int NOT NULL)'], {'rows': 'id'},
                         settings={'move_rollback_window': '10min'})
        self.replicas = [c.create_replica(c.name + 'r').start() for c in self.clusters]
        self.shoal.shards = {c.name: (c, r) for c, r in zip(self.clusters, self.replicas)}
        self.shoal.replicas = {'read_consistency': 'eventual', 'lag_check': '50ms', 'max_lag': '1min', 'hedge': 'off'}

    def finish(self):
        super().finish()
        for replica in self.replicas:
            replica.stop()

    def fresh(self):
        """Every replica shows what its primary has."""
        wait_until('replicas to be fresh', lambda: all(
            row['lag_ms'] == '0' for row in self.shoal.console('SHOW REPLICAS') if row['role'] == 'replica'), 60)

    def asked(self):
        """Reads that replicas have answered."""
        return sum(int(row['reads']) for row in self.shoal.console('SHOW REPLICAS') if row['role'] == 'replica')


@pytest.fixture(scope='module')
def moving(workspace):
    moving = Replicated(workspace)
    moving.shoal.write_ini()
    moving.shoal.start()
    with moving.shoal.connect() as conn:
        conn.query('INSERT INTO rows VALUES ' + ', '.join(f'({i}, 0)' for i in range(KEYS)))
    yield moving
    moving.finish()


@pytest.fixture(autouse=True)
def resumed(moving):
    yield
    for replica in moving.replicas:
        replica.resume_replay()


@pytest.mark.parametrize('sql', [
    'SELECT id FROM rows WHERE id <= 3 ORDER BY id', 'SELECT count(DISTINCT n) FROM rows', 'EXPLAIN SELECT id FROM rows',
    'BEGIN; DECLARE c CURSOR FOR SELECT id FROM rows; FETCH 1 FROM c; COMMIT', 'BEGIN; SELECT count(*) FROM rows; COMMIT',
    'COPY (SELECT id FROM rows WHERE id <= 3) TO STDOUT', 'SELECT id FROM rows WHERE id = {0}; UPDATE rows SET n = n WHERE id = {1}'])
def test_what_several_shards_answer_waits_for_a_primary(moving, sql):
    # A switchover or a promotion is an error page for everything that reads more than one shard.
    owners = moving.owners()
    keys = [next(k for k, bucket in c.query(f'SELECT id, {moving.bucket_sql("id")} FROM rows ORDER BY id', 'app')
                 if owners[int(bucket)] == c.name) for c in moving.clusters]
    with moving.shoal.connect(timeout_s=60) as conn, moving.shoal.connect() as reader:
        conn.query("SET shoal.read_consistency = 'strong'")
        moving.shoal.console('PAUSE s1')
        try:
            conn.send(query(sql.format(*keys)))
            assert conn.receive(0.3) is TIMEOUT, 'it was begun'
            assert reader.query(COUNT) == ALL  # on replicas it goes on
        finally:
            moving.shoal.console('RESUME s1')
        seen = conn.until('Z')
    assert not errors_of(seen), errors_of(seen)
    assert any(m.type in 'CDd' for m in seen)


def test_a_transaction_on_a_replica_does_not_miss_rows(moving):
    # It was on the new owner's replica before the rows came. Each statement sees what is there, and the replica is behind.
    moving.fresh()
    owners = moving.owners()
    gainer = 0 if owners[40] == 's1' else 1
    buckets = moving.clusters[0].query(f'SELECT k, {moving.bucket_sql("k::bigint")} FROM generate_series(0, {KEYS - 1}) k')
    moves = next(key for key, bucket in buckets if 40 <= int(bucket) < 44)
    there = next(key for key, bucket in buckets if owners[int(bucket)] == f's{gainer}')
    with moving.shoal.connect(timeout_s=60) as conn, moving.shoal.connect(timeout_s=60) as late:
        before = moving.asked()
        conn.query('BEGIN READ ONLY')
        assert conn.query(f'SELECT id FROM rows WHERE id = {there}') == [[there]]
        assert moving.asked() > before
        moving.replicas[gainer].pause_replay()
        number = moving.move('40-43', f's{gainer}')
        wait_until('the fence', lambda: moving.state(number)['step'] in ('fence', 'follow', 'rest'), 60, 0.02)
        time.sleep(0.5)
        late.send(query(f'BEGIN READ ONLY; SELECT id FROM rows WHERE id = {there}'))
        assert conn.query(f'SELECT id FROM rows WHERE id = {moves}') == [[moves]]
        conn.query('COMMIT')
        moving.wait(number, ('switched',))
        assert not errors_of(late.until('Z'))
        assert late.query(f'SELECT id FROM rows WHERE id = {moves}') == [[moves]]
        late.query('COMMIT')
        moving.replicas[gainer].resume_replay()
        moving.shoal.console(f'REBALANCE ROLLBACK {number}')
        assert moving.wait(number)['state'] == 'cancelled'


def test_nothing_is_missing_and_nothing_is_twice(moving):
    # A replica of the new owner that has no copies yet hides rows; one of the old owner that has them still shows them twice.
    moving.fresh()
    with moving.shoal.connect() as conn:
        wait_until('replicas to be asked', lambda: conn.query(COUNT) == ALL and moving.asked() > 0, 60)
        moving.replicas[1].pause_replay()
        number = moving.move('0-31', 's1')
        wait_until('the way back', lambda: conn.query(COUNT) == ALL and moving.state(number)['step'] == 'rest', 60)
        for key in range(0, KEYS, 7):
            assert conn.query(f'SELECT id FROM rows WHERE id = {key}') == [[str(key)]]
        assert conn.query(COUNT) == ALL
        moving.replicas[1].resume_replay()
        moving.fresh()
        before = moving.asked()
        wait_until('replicas to be asked again', lambda: conn.query(COUNT) == ALL and moving.asked() > before, 60)
        moving.replicas[0].pause_replay()
        moving.shoal.console(f'REBALANCE FINISH {number}')
        assert moving.wait(number)['state'] == 'done'
        for _ in range(20):
            assert conn.query(COUNT) == ALL  # the old rows have gone from s0, and its replica does not know
        moving.replicas[0].resume_replay()
        moving.fresh()
        before = moving.asked()
        wait_until('replicas to be asked again', lambda: conn.query(COUNT) == ALL and moving.asked() > before, 60)


def test_a_move_that_is_undone(moving):
    # Copies were deleted from the target, and its replica still has them.
    moving.fresh()
    with moving.shoal.connect() as conn:
        number = moving.move('32-63', 's0')
        wait_until('the move to begin', lambda: moving.state(number)['state'] == 'moving', 30, 0.02)
        moving.shoal.console('REBALANCE PAUSE')
        wait_until('the rows to be copied', lambda: moving.state(number)['step'] == 'catch_up', 30, 0.05)
        moving.fresh()
        assert conn.query(COUNT) == ALL
        moving.replicas[0].pause_replay()
        moving.shoal.console(f'REBALANCE CANCEL {number}')
        moving.shoal.console('REBALANCE RESUME')
        assert moving.wait(number)['state'] == 'cancelled'
        for _ in range(20):
            assert conn.query(COUNT) == ALL
        moving.replicas[0].resume_replay()
        moving.fresh()
        assert conn.query(COUNT) == ALL
