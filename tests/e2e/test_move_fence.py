"""Who waits inside a move's fence, whom it waits for, and that nobody reads rows that are gone or not there yet."""
import time

import pytest

from tests.support.cluster import wait_until
from tests.support.moves import Moving
from tests.support.wire import TIMEOUT, errors_of, query, rows_of

pytestmark = pytest.mark.shoal_only

DDL = ['CREATE TABLE rows(id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, '
       't text DEFAULT 1, "row" text, x text, bucket int, hash int, "we""ird" text DEFAULT 2)']  # names that a move's SQL uses
KEYS = 400


class Fenced(Moving):
    """Buckets 0-7 go to the shard that has them not, and are held in the fence while `before` is open."""

    def __init__(self, workspace):
        super().__init__(workspace, 2, DDL, {'rows': 'id'}, settings={'move_fence_timeout': '60s'},
                         cluster_settings={'max_prepared_transactions': '20'})
        self.shoal.start()
        with self.shoal.connect() as conn:
            conn.query('INSERT INTO rows VALUES ' + ', '.join(f'({key}, {key})' for key in range(KEYS)))
        self.buckets = {int(key): int(bucket) for key, bucket in self.clusters[0].query(
            f'SELECT k, {self.bucket_sql("k::bigint")} FROM generate_series(0, {2 * KEYS}) k')}

    def prepare(self):
        """Names of the shards that lose and get buckets 0-7, and keys: moving, staying there, staying here."""
        owners = self.owners()
        self.loser = owners[0]
        self.gainer = 's1' if self.loser == 's0' else 's0'
        self.on_loser, self.on_gainer = (self.clusters[int(name[1])] for name in (self.loser, self.gainer))
        stays = {name: [k for k in range(KEYS) if owners[self.buckets[k]] == name and self.buckets[k] > 7] for name in ('s0', 's1')}
        self.moves = [k for k in range(KEYS) if self.buckets[k] < 8]
        self.stays, self.there = stays[self.loser], stays[self.gainer]
        return self

    def enter(self, before):
        """`before` is on the loser; the move has come to its fence, and waits."""
        before.query('BEGIN')
        before.query(f'SELECT n FROM rows WHERE id = {self.moves[0]}')
        self.number = super().move('0-7', self.gainer)
        wait_until('the fence', lambda: self.state(self.number)['step'] == 'fence', 60, 0.02)

    def value(self, key):
        return next(int(n) for c in self.clusters for n, in c.query(f'SELECT n FROM rows WHERE id = {key}', 'app'))

    def switched(self):
        wait_until('the switch', lambda: self.owners()[0] == self.gainer, 60, 0.05)

    def over(self):
        row = self.wait(self.number)
        assert row['state'] == 'done', row
        self.check()


@pytest.fixture(scope='module')
def fenced(workspace):
    fenced = Fenced(workspace)
    yield fenced
    fenced.finish()


def test_who_comes_inside_the_fence_is_not_waited_for(fenced):
    # A long transaction that needs nothing of what moves holds the move up, and uses rows behind their last count.
    # All it puts off is the deletion of the old copies.
    fenced.prepare()
    with fenced.shoal.connect() as before, fenced.shoal.connect(timeout_s=90) as late:
        late.query('BEGIN')
        late.query(f'SELECT n FROM rows WHERE id = {fenced.there[0]}')
        fenced.enter(before)
        late.query(f'SELECT n FROM rows WHERE id = {fenced.stays[0]}')  # joins the loser only now
        late.send(query(f'SELECT n FROM rows WHERE id = {fenced.moves[1]}'))
        assert late.receive(0.5) is TIMEOUT, 'it was answered by the old map'
        before.query('COMMIT')
        assert not errors_of(late.until('Z'))
        fenced.switched()  # although it is open
        wait_until('the move to tell whom it waits for', lambda: 'have been at work' in (fenced.state(fenced.number)['reason'] or ''), 60, 0.05)
        assert int(fenced.on_loser.query(f'SELECT count(*) FROM rows WHERE {fenced.bucket_sql("id")} < 8', 'app')[0][0]) == len(fenced.moves)
        assert late.query(f'SELECT n FROM rows WHERE id = {fenced.moves[1]}') == [[str(fenced.value(fenced.moves[1]))]]
        late.query('COMMIT')
    fenced.over()


REPEATABLE = 'BEGIN ISOLATION LEVEL REPEATABLE READ'


def test_a_snapshot_that_has_old_copies_does_not_show_them(fenced):
    # A REPEATABLE READ transaction sees old copies after their deletion, when nobody passes over them any more: rows are twice.
    if fenced.prepare().loser != 's0':
        fenced.wait(fenced.move('0-7', 's0'))
        fenced.prepare()
    with fenced.shoal.connect() as before, fenced.shoal.connect() as late, fenced.shoal.connect(timeout_s=60) as conn:
        fenced.enter(before)
        late.query('BEGIN')
        late.query(f'SELECT n FROM rows WHERE id = {fenced.stays[0]}')  # puts off the deletion
        before.query('COMMIT')
        wait_until('the switch', lambda: fenced.state(fenced.number)['step'] == 'finish_wait', 60, 0.05)
        conn.query(REPEATABLE)
        conn.query('SELECT 1')  # on the home shard, without a lock that keeps the guards there
        late.query('COMMIT')
        wait_until('the deletion', lambda: fenced.state(fenced.number)['state'] == 'done' or
                   fenced.state(fenced.number)['step'] == 'finish_seen', 60, 0.05)
        assert conn.query('SELECT count(*), count(DISTINCT id) FROM rows') == [[str(KEYS), str(KEYS)]]
        conn.query('COMMIT')
    fenced.over()


def begin_plain(conn, fenced, sql):
    conn.query(REPEATABLE)
    return lambda: conn.send(query(sql))


def begin_set(conn, fenced, sql):
    conn.query('BEGIN')
    conn.query('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE')
    return lambda: conn.send(query(sql))


def begin_elsewhere(conn, fenced, sql):
    conn.query(REPEATABLE)
    return lambda: (conn.query(f'SELECT n FROM rows WHERE id = {fenced.stays[0]}'), conn.send(query(sql)))


def begin_default(conn, fenced, sql):
    conn.query("SET default_transaction_isolation = 'repeatable read'")
    return lambda: conn.send(query(f'BEGIN; {sql}'))


def begin_in_one(conn, fenced, sql):
    return lambda: conn.send(query(f'{REPEATABLE}; {sql}'))


def begin_chained(conn, fenced, sql):
    conn.query(REPEATABLE)
    conn.query(f'SELECT n FROM rows WHERE id = {fenced.there[1]}')
    return lambda: (conn.query('COMMIT AND CHAIN'), conn.send(query(sql)))


@pytest.mark.parametrize('begin', [begin_plain, begin_set, begin_elsewhere, begin_default, begin_in_one, begin_chained],
                         ids=lambda f: f.__name__[6:])
def test_no_snapshot_is_taken_where_rows_are_to_come(fenced, begin):
    # A REPEATABLE READ transaction reads moved rows on their new shard in a snapshot that has not got them.
    fenced.prepare()
    key = fenced.moves[2]
    with fenced.shoal.connect() as before, fenced.shoal.connect(timeout_s=90) as late:
        old = fenced.value(key)
        go = begin(late, fenced, f'SELECT n FROM rows WHERE id = {fenced.there[0]}')
        fenced.enter(before)
        go()
        assert late.receive(0.5) is TIMEOUT, 'a snapshot was taken inside the fence'
        before.query(f'UPDATE rows SET n = n + 1 WHERE id = {key}')  # must be seen: committed before the switch
        before.query('COMMIT')
        seen = late.until('Z')
        assert not errors_of(seen) and [row[0] for row in rows_of(seen)] == [str(fenced.value(fenced.there[0])).encode()]
        fenced.switched()
        assert late.query(f'SELECT n FROM rows WHERE id = {key}') == [[str(old + 1)]]
        late.query('COMMIT')
    fenced.over()


def test_a_long_transaction_keeps_a_move_waiting_and_nobody_else(fenced):
    # A move that wants a lock stands before a long transaction, and all clients behind the move; or it is given up.
    fenced.prepare()
    with fenced.shoal.connect() as long, fenced.shoal.connect(timeout_s=60) as conn:
        long.query('BEGIN')
        long.query(f'UPDATE rows SET n = n WHERE id = {fenced.stays[0]}')
        fenced.number = fenced.move('0-7', fenced.gainer)
        wait_until('the move to tell that it waits', lambda: 'lock timeout' in (fenced.state(fenced.number)['reason'] or ''), 60, 0.05)
        worst = 0
        for _ in range(20):
            began = time.monotonic()
            conn.query(f'UPDATE rows SET n = n WHERE id = {fenced.moves[4]}')
            worst = max(worst, time.monotonic() - began)
            time.sleep(0.05)
        assert worst < 10, worst
        assert fenced.state(fenced.number)['step'] == 'publish'
        long.query('COMMIT')
    fenced.over()


def test_statements_that_began_together_end_by_the_same_map(fenced, monkeypatch):
    # The second of two statements in one Query comes to the old shard when its tables are locked: an error, and no row.
    monkeypatch.setenv('SHOAL_FAILPOINT', 'final_catchup_done:sleep:3000')
    fenced.shoal.terminate()
    fenced.shoal.start()
    fenced.prepare()
    key, other = fenced.moves[3], fenced.there[3]
    old = fenced.value(key)
    with fenced.on_gainer.connect('app') as holder, fenced.shoal.connect(timeout_s=90) as conn:
        holder.query('SELECT pg_advisory_lock(7)')
        conn.send(query(f'SELECT n FROM rows WHERE id = {other} AND pg_advisory_xact_lock(7) IS NOT NULL; '
                        f'UPDATE rows SET n = n + 1 WHERE id = {key}'))
        wait_until('the first statement to wait', lambda: fenced.on_gainer.query(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND wait_event = 'advisory'") == [['1']], 30, 0.05)
        fenced.number = fenced.move('0-7', fenced.gainer)
        wait_until('the fence', lambda: fenced.state(fenced.number)['step'] in ('fence', 'drain', 'lock'), 60, 0.01)
        time.sleep(0.5)  # whoever does not wait in the fence stands behind its locks now
        holder.query('SELECT pg_advisory_unlock(7)')
        seen = conn.until('Z')
    assert not errors_of(seen), errors_of(seen)
    assert fenced.value(key) == old + 1
    fenced.over()
    assert fenced.value(key) == old + 1
    monkeypatch.delenv('SHOAL_FAILPOINT')
    fenced.shoal.terminate()
    fenced.shoal.start()
