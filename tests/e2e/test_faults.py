"""Faults: a server dies, a shard stays away, shoald is killed; clear errors, and everything heals."""
import signal
import threading
import time

import pytest

from tests.support.cluster import wait_until
from tests.support.shoal import Shoal
from tests.support.wire import CLOSED, Closed, PgError, errors_of, query, rows_of

pytestmark = pytest.mark.shoal_only

HEAL_S = 5


@pytest.fixture(scope='module')
def solo_schema():
    return ['CREATE TABLE kv (id bigint PRIMARY KEY, v text)',
            "INSERT INTO kv SELECT g, 'v' || g FROM generate_series(1, 100) g"]


@pytest.fixture(scope='module')
def app(shoal):
    with shoal.connect('app') as conn:
        conn.query('CREATE TABLE users (id bigint PRIMARY KEY, name text)')
        conn.query("SELECT shoal.distribute_table('users', 'id')")
        for k in range(1, 41):
            conn.query(f"INSERT INTO users VALUES ({k}, 'u{k}')")
    return shoal


def keys_of(cluster):
    return [row[0] for row in cluster.query('SELECT id FROM users ORDER BY id', 'app')]


def clear(err):
    """What an error about a lost shard must tell."""
    assert err.code[:2] in ('08', '57', '53') or err.code == '40003', str(err)
    assert 's1' in str(err), f'which shard? {err}'


def test_a_killed_shard(app, clusters):
    # One dead shard stops the customers of the other, or its own see hangs instead of an error.
    here, there = keys_of(clusters[0])[0], keys_of(clusters[1])[0]
    with app.connect('app') as conn:
        assert conn.query(f'SELECT name FROM users WHERE id = {there}') == [[f'u{there}']]
        clusters[1].kill9()
        try:
            started = time.monotonic()
            with pytest.raises((PgError, Closed)) as caught:
                conn.query(f'SELECT name FROM users WHERE id = {there}')
            assert time.monotonic() - started < 30
            if caught.type is PgError:
                clear(caught.value)
                assert conn.query(f'SELECT name FROM users WHERE id = {here}') == [[f'u{here}']]
            with app.connect('app') as other:
                assert other.query(f'SELECT name FROM users WHERE id = {here}') == [[f'u{here}']]
                with pytest.raises(PgError) as caught:
                    other.query(f'SELECT name FROM users WHERE id = {there}')
                clear(caught.value)
        finally:
            clusters[1].start()
        with app.connect('app') as other:
            wait_until('the shard to be used again',
                       lambda: other.query(f'SELECT name FROM users WHERE id = {there}') == [[f'u{there}']], HEAL_S)


def test_a_shard_dies_under_running_statements(app, clusters):
    # Clients in the middle of an answer hang for ever.
    there = keys_of(clusters[1])[0]
    outcomes = []

    def run():
        with app.connect('app') as conn:
            try:
                conn.query(f'SELECT name, pg_sleep(20) FROM users WHERE id = {there}')
                outcomes.append(None)
            except (PgError, OSError) as err:
                outcomes.append(err)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    clusters[1].kill9()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads), 'a client hangs'
    clusters[1].start()
    assert len(outcomes) == 8 and all(isinstance(err, (PgError, OSError)) for err in outcomes)
    for err in outcomes:
        if isinstance(err, PgError):
            clear(err)
    with app.connect('app') as conn:
        wait_until('healing', lambda: conn.query(f'SELECT name FROM users WHERE id = {there}') == [[f'u{there}']],
                   HEAL_S)


def test_a_transaction_whose_server_died(app, clusters):
    # The rest of the transaction runs on another connection, as if its beginning had happened.
    there = keys_of(clusters[1])[0]
    with app.connect('app') as conn:
        conn.query('BEGIN')
        conn.query(f"UPDATE users SET name = 'changed' WHERE id = {there}")
        clusters[1].kill9()
        clusters[1].start()
        seen = conn.exchange(query(f"UPDATE users SET name = 'half' WHERE id = {there}"))
        assert errors_of(seen) or seen[-1] == CLOSED
        if seen[-1] != CLOSED:
            conn.exchange(query('COMMIT'))
    with app.connect('app') as conn:
        wait_until('the row as it was',
                   lambda: conn.query(f'SELECT name FROM users WHERE id = {there}') == [[f'u{there}']], HEAL_S)


def test_a_restart_of_postgresql(app, clusters):
    # "terminating connection due to administrator command" reaches clients that ran nothing.
    with app.connect('solo') as conn:
        assert conn.query('SELECT v FROM kv WHERE id = 1') == [['v1']]
        clusters[0].stop('fast')
        clusters[0].start()
        assert wait_until('healing', lambda: conn.query('SELECT v FROM kv WHERE id = 1') == [['v1']], HEAL_S)


def test_a_silent_server(app, clusters):
    # H34: a machine that is there but does not answer holds clients for ever; others must go on.
    here, there = keys_of(clusters[0])[0], keys_of(clusters[1])[0]
    import os
    from tests.support.cluster import children_of
    pids = [clusters[1].pid()] + children_of(clusters[1].pid())

    def signal_all(number):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # a connection that was closed meanwhile: its process ends as soon as it goes on
    signal_all(signal.SIGSTOP)
    try:
        with app.connect('app') as conn:
            conn.send(query(f'SELECT name FROM users WHERE id = {there}'))
            with app.connect('app') as other:
                started = time.monotonic()
                assert other.query(f'SELECT name FROM users WHERE id = {here}') == [[f'u{here}']]
                assert time.monotonic() - started < 20  # the stopped one is stopped until the end of this story
    finally:
        signal_all(signal.SIGCONT)
    with app.connect('app') as conn:
        wait_until('healing', lambda: conn.query(f'SELECT name FROM users WHERE id = {there}') == [[f'u{there}']],
                   HEAL_S)


def test_shoald_killed(app, clusters):
    # After kill -9 the router has forgotten which tables are distributed, or does not start at all.
    for _ in range(3):
        with app.connect('app') as conn:
            conn.query('SELECT 1')
            app.kill9()
        app.start()
        with app.connect('app') as conn:
            for k in range(1, 41):
                assert conn.query(f'SELECT name FROM users WHERE id = {k}') == [[f'u{k}']]


def test_shoald_killed_in_the_middle_of_distribute_table(app, clusters):
    # A table is half distributed: known to the store and not to the shards, or the other way.
    for n in range(4):
        with app.connect('app') as conn:
            conn.query(f'CREATE TABLE mid{n} (id bigint PRIMARY KEY)')
            conn.send(query(f"SELECT shoal.distribute_table('mid{n}', 'id')"))
            time.sleep(0.002 * n)
            app.kill9()
        app.start()
        with app.connect('app') as conn:
            known = {row.get('table') or row.get('name') for row in app.console('SHOW TABLES')}
            if f'mid{n}' not in known:
                conn.query(f"SELECT shoal.distribute_table('mid{n}', 'id')")
            for k in range(20):
                conn.query(f'INSERT INTO mid{n} VALUES ({k})')
        assert all(int(c.query(f'SELECT count(*) FROM mid{n}', 'app')[0][0]) > 0 for c in clusters)


def test_graceful_stop(app):
    # SIGTERM of a deployment cuts running statements off.
    with app.connect('solo') as conn, app.connect('solo') as idle:
        assert idle.alive()
        conn.send(query('SELECT pg_sleep(1), 7'))
        time.sleep(0.4)
        app.process.send_signal(signal.SIGTERM)
        assert rows_of(conn.until('Z')) == [[b'', b'7']]
        last = idle.until('Z', timeout_s=30)
        assert last[-1] == CLOSED
        for err in errors_of(last):
            assert err.code == '57P01'
    assert app.process.wait(10) == 0
    app.start()


def test_start_while_a_shard_is_down(workspace, clusters):
    # One dead shard keeps the whole system from starting.
    clusters[1].stop()
    shoal = Shoal(workspace, {'s0': clusters[0], 's1': clusters[1]}, name='early',
                  databases={'app': {'shards': 's0, s1'}, 'solo': {'shards': 's0'}},
                  users={'admin': {'admin': 'on'}, 'app': {'admin': 'on'}})
    try:
        shoal.start()
        with shoal.connect('solo') as conn:
            wait_until('the living shard', lambda: conn.query('SELECT v FROM kv WHERE id = 2') == [['v2']], HEAL_S)
        clusters[1].start()
        with shoal.connect('app') as conn:
            wait_until('the other shard', lambda: conn.query('SELECT 1') == [['1']], HEAL_S)
    finally:
        if clusters[1].pid() is None:
            clusters[1].start()
        shoal.finish()


@pytest.mark.parametrize('damage', ['zero', 'garbage', 'foreign', 'flip'])
def test_a_damaged_store(workspace, clusters, damage):
    # 132, H68: a damaged store becomes a guessed map: rows on the wrong shards.
    import sqlite3
    shoal = Shoal(workspace, {'s0': clusters[0], 's1': clusters[1]}, name=f'damaged-{damage}',
                  databases={'app': {'shards': 's0, s1'}}, users={'admin': {'admin': 'on'}, 'app': {'admin': 'on'}})
    shoal.start()
    shoal.finish()
    store = shoal.folder / 'shoal.db'
    if damage == 'zero':
        store.write_bytes(b'')
    elif damage == 'garbage':
        store.write_bytes(b'not a database' * 1000)
    elif damage == 'foreign':
        store.unlink()
        with sqlite3.connect(store) as db:
            db.execute('CREATE TABLE something (a)')
    else:
        with sqlite3.connect(store) as db:
            table = next(name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                         if 'bucket' in name or 'map' in name)
            column = [row[1] for row in db.execute(f'PRAGMA table_info({table})')]
            target = next(c for c in column if 'shard' in c)
            other = db.execute(f'SELECT {target} FROM {table} ORDER BY 1 DESC').fetchone()[0]
            db.execute(f'UPDATE {table} SET {target} = ? WHERE rowid = (SELECT min(rowid) FROM {table})', (other,))
    for leftover in ('shoal.db-wal', 'shoal.db-shm'):
        (shoal.folder / leftover).unlink(missing_ok=True)
    shoal.start(wait=False)
    status = shoal.process.wait(20)
    assert status not in (0, 98, 99, -6, -11), shoal.tail()
    assert 'shoal.db' in shoal.tail()
    assert not shoal.sanitizer_reports()
