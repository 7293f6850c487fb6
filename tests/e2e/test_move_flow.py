"""Moves keep to their limits, and beside them run COPY, cursors, portals, slow readers and MERGE."""
import threading
import time

import pytest

from tests.support import host
from tests.support.cluster import wait_until
from tests.support.moves import Moving
from tests.support.wire import TIMEOUT, PgError, bind, errors_of, execute, message, parse, query, rows_of, sync

pytestmark = pytest.mark.shoal_only

DDL = ['CREATE TABLE big(id bigint PRIMARY KEY, n int NOT NULL, body text)',
       'CREATE TABLE loads(id bigint PRIMARY KEY, body text)',
       'CREATE TABLE news(id bigint PRIMARY KEY, n int)']
ROWS, WIDTH = 3000, 400


@pytest.fixture(scope='module')
def moving(workspace):
    moving = Moving(workspace, 2, DDL, {'big': 'id', 'loads': 'id', 'news': 'id'},
                    settings={'move_fence_timeout': '3s', 'query_wait_timeout': '60s'})
    moving.shoal.start()
    with moving.shoal.connect() as conn:
        for first in range(0, ROWS, 1000):
            conn.query('INSERT INTO big VALUES ' + ', '.join(f"({i}, {i}, '{str(i).zfill(WIDTH)}')"
                                                             for i in range(first, first + 1000)))
    yield moving
    moving.finish()


def set_to(moving, **settings):
    moving.shoal.settings.update(settings)
    moving.shoal.write_ini()
    moving.shoal.console('RELOAD')


def held(moving, number):
    wait_until('the move to begin', lambda: moving.state(number)['state'] == 'moving', 60, 0.02)
    moving.shoal.console('REBALANCE PAUSE')
    wait_until('the rows to be copied', lambda: moving.state(number)['step'] == 'catch_up', 60, 0.05)


def test_it_keeps_to_its_speed(moving):
    # A move takes the whole network, and nobody knows how long it will.
    limit = 100_000
    set_to(moving, move_speed=str(limit))
    number, seen, begun = moving.move('0-15', 's1'), [], None
    while True:
        row = moving.state(number)
        if row['step'] == 'copy':
            begun = begun or time.monotonic()
            seen.append(row)
        elif begun:
            break
        assert row['state'] in ('planned', 'moving'), row
        time.sleep(0.1)
    spent = time.monotonic() - begun
    row = moving.wait(number)
    assert row['state'] == 'done'
    copied = ROWS * WIDTH / 4
    assert spent > copied / limit / 3, (spent, copied)  # unlimited it is a fraction of a second
    assert [int(r['bytes'] or 0) for r in seen] == sorted(int(r['bytes'] or 0) for r in seen)
    assert any(r['seconds_left'] for r in seen) and all(int(r['rows_expected']) > 0 for r in seen[1:]), seen[-1]
    print(f'\n{copied / 1000:.0f} kB in {spent:.1f} s: {copied / spent / 1000:.0f} kB/s of {limit // 1000}')
    set_to(moving, move_speed='0')
    assert moving.wait(moving.move('0-15', 's0'))['state'] == 'done'
    moving.check()


def test_a_target_behind_pauses_it(moving):
    # A move is thrown away, and begun again from its first row, because the target was slow for a minute.
    set_to(moving, move_lag_max='1MB')
    number = moving.move('0-7', 's1')
    held(moving, number)
    key = moving.clusters[0].query(f'SELECT id FROM big WHERE {moving.bucket_sql("id")} < 8 LIMIT 1', 'app')[0][0]
    with moving.clusters[1].connect('app') as other:
        other.query('BEGIN')
        other.query('LOCK TABLE big IN EXCLUSIVE MODE')  # what arrives waits
        with moving.shoal.connect() as conn:
            conn.query(f'UPDATE big SET n = -1 WHERE id = {key}')
        moving.clusters[0].query("SELECT pg_logical_emit_message(true, 'x', repeat('x', 3000000)) IS NOT NULL", 'app')
        moving.shoal.console('REBALANCE RESUME')
        wait_until('the move to pause', lambda: (moving.state(number)['reason'] or '').startswith('pauses: s1 is'), 60)
        row = moving.state(number)
        assert row['state'] == 'moving' and int(row['lag_bytes']) > 1_000_000, row
        other.query('ROLLBACK')
    row = moving.wait(number)
    assert row['state'] == 'done', row
    told = ' '.join(r['event'] for r in moving.shoal.console('SHOW EVENTS'))
    assert f'move {number} pauses: s1 is' in told and f'move {number} goes on: s1 is' in told
    assert 'falls behind' not in told
    set_to(moving, move_lag_max='1GB')
    assert moving.clusters[1].query(f'SELECT n FROM big WHERE id = {key}', 'app') == [['-1']]
    assert moving.wait(moving.move('0-7', 's0'))['state'] == 'done'
    moving.check()


def test_a_target_far_behind_is_undone(moving):
    # The source keeps its log for a target that does not take it, until its disk is full and the database down.
    set_to(moving, move_lag_undo='1MB')
    before = moving.digest()
    number = moving.move('0-7', 's1')
    held(moving, number)
    key = moving.clusters[0].query(f'SELECT id FROM big WHERE {moving.bucket_sql("id")} < 8 LIMIT 1', 'app')[0][0]
    with moving.clusters[1].connect('app') as other:
        other.query('BEGIN')
        other.query('LOCK TABLE big IN EXCLUSIVE MODE')
        with moving.shoal.connect() as conn:
            conn.query(f'UPDATE big SET n = n WHERE id = {key}')
        moving.clusters[0].query("SELECT pg_logical_emit_message(true, 'x', repeat('x', 3000000)) IS NOT NULL", 'app')
        moving.shoal.console('REBALANCE RESUME')
        wait_until('the move to be undone', lambda: any(
            f'move {number} is undone (catch_up)' in r['event'] and 'move_lag_undo' in r['event']
            for r in moving.shoal.console('SHOW EVENTS')), 60)
        moving.shoal.console(f'REBALANCE CANCEL {number}')  # while it is undone, or when it waits for another attempt
        other.query('ROLLBACK')
    row = moving.wait(number)
    assert row['state'] == 'cancelled', row
    set_to(moving, move_lag_undo='16GB')
    assert moving.digest() == before
    moving.check()


def test_merge_and_locks_while_rows_lie_on_two_shards(moving):
    # A row is changed twice or inserted again by the copy's shard; or a lock is taken on a copy only.
    with moving.shoal.connect() as conn:
        conn.query('INSERT INTO news VALUES ' + ', '.join(f'({i}, {i})' for i in range(2900, 3100)))
        number = moving.move('0-15', 's1')
        held(moving, number)
        before = conn.query('SELECT count(*), sum(n) FROM big')[0]
        old = int(conn.query('SELECT coalesce(sum(n), 0) FROM big WHERE id >= 2900')[0][0])
        conn.query("MERGE INTO big b USING news s ON b.id = s.id WHEN MATCHED AND b.id % 2 = 0 THEN UPDATE SET n = b.n + 1 "
                   "WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN INSERT (id, n, body) VALUES (s.id, s.n, 'merged')")
        after = conn.query('SELECT count(*), sum(n) FROM big')[0]
        assert int(after[0]) == int(before[0]) + 100
        assert int(after[1]) == int(before[1]) + 50 + sum(range(3000, 3100)), (before, after, old)
        for sign, rows in (('+', '(SELECT DISTINCT id FROM news WHERE id < 2950)'), ('-', '(SELECT g FROM generate_series(2900, 2949) g)')):
            conn.query(f'MERGE INTO big b USING {rows} AS s (k) ON b.id = s.k WHEN MATCHED THEN UPDATE SET n = b.n {sign} 1 '
                       "WHEN NOT MATCHED THEN INSERT (id, n, body) VALUES (s.k, 0, 'lost')")
            assert int(conn.query('SELECT sum(n) FROM big')[0][0]) == int(after[1]) + (50 if sign == '+' else 0)
        with pytest.raises(PgError, match='55006'):  # every shard would change its copies, too
            conn.query('MERGE INTO big b USING (VALUES (1)) s (n) ON b.n = s.n WHEN MATCHED THEN DELETE')
        assert conn.query('SELECT count(*), sum(n) FROM big')[0] == after
        assert conn.query("SELECT count(*) FROM big AS x WHERE x.body = 'merged'") == [['100']]
        assert len(conn.query("SELECT x.id FROM big AS x WHERE x.body = 'merged' FOR UPDATE OF x")) == 100
        with pytest.raises(PgError) as refused:  # the alias hides the key, and locks cannot be gathered
            conn.query("SELECT j.id FROM (big b JOIN news s USING (id)) AS j FOR UPDATE")
        assert refused.value.code in ('55006', '0A000') and refused.value.fields['H']
        moving.shoal.console('REBALANCE RESUME')
        assert moving.wait(number)['state'] == 'done', moving.state(number)
        assert conn.query('SELECT count(*), sum(n) FROM big')[0] == after
        conn.query("DELETE FROM big WHERE body = 'merged'")
    assert moving.wait(moving.move('0-15', 's0'))['state'] == 'done'
    assert moving.shoal.console('FSCK') == []


@pytest.mark.parametrize('sql', ['SELECT id FROM big ORDER BY id', 'SELECT id FROM big', 'SELECT DISTINCT id FROM big b JOIN (SELECT 1 AS one) x ON true',
                                 'COPY (SELECT id FROM big) TO STDOUT'])
def test_a_statement_of_all_shards_waits_for_the_switch(moving, sql):
    # A long answer that began by the old map goes on when the old copies are deleted: their rows are missing in it.
    set_to(moving, move_fence_timeout='30s')
    source, target = ('s0', 's1') if set(moving.owners().values()) == {'s0', 's1'} and moving.owners()[0] == 's0' else ('s1', 's0')
    key = next(r[0] for c in moving.joined() for r in c.query(f'SELECT id FROM big WHERE {moving.bucket_sql("id")} < 8', 'app'))
    with moving.shoal.connect() as before, moving.shoal.connect(timeout_s=60) as conn:
        before.query('BEGIN')
        before.query(f'SELECT n FROM big WHERE id = {key}')  # has been there since before: the fence waits for it
        number = moving.move('0-7', target)
        wait_until('the fence', lambda: moving.state(number)['step'] == 'fence', 60, 0.02)
        conn.send(query(sql))
        first = conn.receive(0.5)
        assert first is TIMEOUT, 'it was answered by the old map'
        before.query('COMMIT')
        seen = conn.until('Z')
    assert not errors_of(seen)
    count = len(rows_of(seen)) or sum(m.type == 'd' for m in seen)
    assert count == ROWS
    assert moving.wait(number)['state'] == 'done', (source, moving.state(number))
    set_to(moving, move_fence_timeout='3s')
    moving.check()


class Streams:
    """W4 and W5: each client does one kind of work, over and over."""

    def __init__(self, shoal):
        self.shoal, self.stop, self.wrong = shoal, threading.Event(), []
        self.loaded, self.done = {}, {}
        works = (self.copy_in, self.copy_out, self.cursor, self.portal, self.slow_reader) * (7 if host.LONG else 2)
        self.threads = [threading.Thread(target=self.run, args=(n, w), daemon=True) for n, w in enumerate(works)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_until('everybody to have worked once', lambda: self.wrong or len(self.done) == len(self.threads), 180)
        return self

    def __exit__(self, *exc):
        self.stop.set()
        for thread in self.threads:
            thread.join(120)
        assert not any(t.is_alive() for t in self.threads), 'a client hangs'

    def run(self, number, work):
        try:
            with self.shoal.connect(timeout_s=120) as conn:
                while not self.stop.is_set():
                    work(conn, number)
                    self.done[number] = self.done.get(number, 0) + 1
                    time.sleep(0.01)
        except (PgError, OSError, AssertionError) as err:
            self.wrong.append(f'{work.__name__}: {err!r}')

    def copy_in(self, conn, number):
        first = 1_000_000 * (number + 1) + 200 * self.done.get(number, 0)
        conn.send(query('COPY loads FROM STDIN'))
        conn.until('G')
        lines = ''.join(f'{i}\tload {i}\n' for i in range(first, first + 200)).encode()
        for err in errors_of(conn.exchange(message('d', lines) + message('c'))):
            raise err
        self.loaded[number] = first + 200

    def copy_out(self, conn, number):
        seen = conn.exchange(query('COPY (SELECT id, n, body FROM big WHERE n >= 0) TO STDOUT'))
        for err in errors_of(seen):
            raise err
        lines = sorted(b''.join(m.body for m in seen if m.type == 'd').splitlines())
        assert len(lines) == ROWS and len(set(lines)) == ROWS, len(lines)

    def cursor(self, conn, number):
        conn.query('BEGIN')
        conn.query('DECLARE c CURSOR FOR SELECT id FROM big ORDER BY id')
        ids = []
        while rows := conn.query('FETCH 400 FROM c'):
            ids += [int(row[0]) for row in rows]
        conn.query('COMMIT')
        assert ids == list(range(ROWS)), len(ids)

    def portal(self, conn, number):
        conn.query('BEGIN')
        seen = conn.exchange(parse('', 'SELECT id FROM big ORDER BY id') + bind('p', '') + execute('p', 700) + sync())
        rows = rows_of(seen)
        while seen and any(m.type == 's' for m in seen):
            seen = conn.exchange(execute('p', 700) + sync())
            rows += rows_of(seen)
        for err in errors_of(seen):
            raise err
        conn.query('COMMIT')
        assert [int(row[0]) for row in rows] == list(range(ROWS)), len(rows)

    def slow_reader(self, conn, number):
        conn.send(query('SELECT id, body FROM big ORDER BY id'))
        count = 0
        while (m := conn.receive()).type != 'Z':
            assert m.type != 'E', m.body
            count += m.type == 'D'
            if m.type == 'D' and count % 500 == 0:
                time.sleep(0.02)
        assert count == ROWS, count


def test_copies_and_long_streams(moving):
    # A COPY into moving buckets loses rows or doubles them; a long answer changes in its middle.
    with moving.shoal.connect() as conn:
        conn.query('UPDATE big SET n = id')
    set_to(moving, move_fence_timeout='20s')  # on few cores 35 clients keep their transactions for long
    with Streams(moving.shoal) as streams:
        for target in ('s1', 's0'):
            row = moving.wait(moving.move('0-15', target), timeout_s=400)
            assert row['state'] == 'done', (row, streams.wrong[:3])
            assert not streams.wrong, streams.wrong[:3]
    assert not streams.wrong, streams.wrong[:3]
    rows = sorted(int(r[0]) for c in moving.joined() for r in c.query('SELECT id FROM loads', 'app'))
    wanted = sorted(i for number, end in streams.loaded.items() for i in range(1_000_000 * (number + 1), end))
    assert rows == wanted, (len(rows), len(wanted))
    set_to(moving, move_fence_timeout='3s')
    assert moving.shoal.console('FSCK') == []
    moving.check()
