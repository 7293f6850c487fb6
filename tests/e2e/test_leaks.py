"""Nothing is left behind: clients come, go and die; LeakSanitizer looks at shutdown, memory stays flat.

The reports are read by Shoal.finish(), at the end of every suite; here is the load that would fill them.
"""
import random
import threading
import time

import pytest

from tests.support import host
from tests.support.cluster import wait_until
from tests.support.shoal import Shoal
from tests.support.wire import (PgError, bind, close, cstr, describe, execute, extended, flush, message, parse, query,
                                startup, sync)

pytestmark = pytest.mark.shoal_only

SECONDS = 60 if host.LONG else 8


@pytest.fixture(scope='module')
def solo_schema():
    return ['CREATE TABLE kv (id bigint PRIMARY KEY, v text)',
            "INSERT INTO kv SELECT g, repeat('v', 500) || g FROM generate_series(1, 1000) g",
            'CREATE TABLE sink (id bigint, v text)']


def random_messages(rng):
    """A piece of a conversation: good, bad, or cut."""
    k = rng.randrange(1, 1100)
    return rng.choice([
        lambda: query(f'SELECT v FROM kv WHERE id = {k}'),
        lambda: extended('SELECT v FROM kv WHERE id = $1', [str(k)], name=rng.choice(['', 'a', f'n{k}'])),
        lambda: query('BEGIN') + query(f"INSERT INTO sink VALUES ({k}, 'x')") + query('ROLLBACK'),
        lambda: query('SELECT 1/0'), lambda: query('SELECT pg_sleep(0.01)'), lambda: query('nonsense'),
        lambda: query("SELECT repeat('x', 100000) FROM generate_series(1, 20)"),
        lambda: parse('p', 'SELECT v FROM kv') + bind('', 'p') + execute('', 3) + flush(),
        lambda: parse('', 'SELECT $1::int') + bind('', '', ['x']) + execute() + sync(),
        lambda: query('COPY sink FROM STDIN') + message('d', b'1\tx\n') + message('f', cstr('no')),
        lambda: query('COPY kv TO STDOUT'), lambda: describe('S', 'nobody') + sync(), lambda: close('S', 'a') + sync(),
        lambda: query("SET app.x = '1'"), lambda: query('DISCARD ALL'), lambda: sync() * 5,
        lambda: query('SELECT v FROM kv WHERE id = 5 FOR UPDATE'), lambda: message('z', b'junk'),
        lambda: query('BEGIN') + query('SELECT 1'), lambda: b'Q\0\0'])()


def one_client(shoal, rng):
    try:
        conn = shoal.connect(rng.choice(['solo', 'solo', 'app']), timeout_s=5)
    except (PgError, OSError):
        return
    try:
        for _ in range(rng.randrange(0, 8)):
            data = random_messages(rng)
            conn.send(data[:rng.randrange(len(data) + 1)] if rng.random() < 0.1 else data)
            kind = rng.random()
            if kind < 0.6:
                conn.until('Z', 1, 0.3)
            elif kind < 0.65:
                conn.cancel()
    except OSError:
        pass
    conn.abort() if rng.random() < 0.5 else conn.close()


def crowd(shoal, seconds, threads=12):
    stop = time.monotonic() + seconds

    def work(number):
        rng = random.Random(f'{host.SEED} {number}')
        while time.monotonic() < stop and shoal.process.poll() is None:
            one_client(shoal, rng)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def test_a_crowd_that_comes_goes_and_dies(shoal, clusters):
    # Every client leaves some bytes, a server connection, or a slot behind; after a week nobody gets in.
    crowd(shoal, SECONDS)
    with shoal.connect('solo') as conn:
        assert conn.alive()
        assert len(conn.query('SELECT v FROM kv WHERE id = 7')) == 1
    wait_until('the clients to be forgotten',
               lambda: len([r for r in shoal.console('SHOW CLIENTS') if r['database'] in ('solo', 'app')]) == 0, 10)
    left = "SELECT pid, state, query FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND usename = 'app'"
    try:
        wait_until('no transaction left open', lambda: clusters[0].query(left) == [], 10)
    except AssertionError:
        stuck = clusters[0].query(left)
        rows = [row for row in shoal.console('SHOW SERVERS') if row['server_pid'] in {pid for pid, *_ in stuck}]
        raise AssertionError(f'{stuck}\nknown to Shoal as: {rows}')


def test_memory_stays_flat(shoal):
    # H15, H21: memory grows with every hour of the same load.
    crowd(shoal, SECONDS / 2)
    before = shoal.rss_kib()
    crowd(shoal, SECONDS)
    grown = shoal.rss_kib() - before
    # AddressSanitizer keeps freed memory in quarantine (256 MiB at most).
    assert grown < 300 * 1024, f'{grown} KiB more'


def test_large_answers_do_not_stay(shoal):
    # H15: buffers that keep their largest size: 100 MB became 4 GB.
    conns = [shoal.connect('solo', timeout_s=30) for _ in range(20)]
    for conn in conns:
        conn.query("SELECT repeat('x', 4000000)")
    conn = conns[0]
    assert conn.alive()
    rows = [row for row in shoal.console('SHOW CLIENTS') if row['database'] == 'solo']
    assert len(rows) == 20
    for conn in conns:
        conn.close()


def test_shutdown_in_the_middle(workspace, clusters, shoal_users):
    # What was under way at shutdown is freed twice, or never.
    shoal = Shoal(workspace, {'s0': clusters[0], 's1': clusters[1]}, name='middle', users=shoal_users,
                  databases={'solo': {'shards': 's0'}, 'app': {'shards': 's0, s1'}},
                  settings={'shutdown_timeout': '1s'})
    shoal.start()
    conns = [shoal.connect('solo', timeout_s=10) for _ in range(20)]
    for n, conn in enumerate(conns):
        if n % 4 == 0:
            conn.send(query('SELECT pg_sleep(20)'))
        elif n % 4 == 1:
            conn.exchange(query('BEGIN') + query('SELECT 1'), 2)
        elif n % 4 == 2:
            conn.send(startup({'user': 'app'})[:7])
        else:
            conn.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))
    time.sleep(0.3)
    assert shoal.terminate(15) == 0
    shoal.finish()
    for conn in conns:
        conn.abort()


def test_idle_clients_are_small(workspace, clusters, shoal_users):
    # Ten thousand idle connections of an application's fleet fill the machine's memory.
    count = 1000
    shoal = Shoal(workspace, {'s0': clusters[0]}, name='idle', users=shoal_users, databases={'solo': {}}).start()
    try:
        warm = [shoal.connect('solo') for _ in range(50)]
        before = shoal.rss_kib()
        conns = [shoal.connect('solo') for _ in range(count)]
        each = (shoal.rss_kib() - before) / count
        for conn in conns + warm:
            conn.close()
        # Under AddressSanitizer every allocation is several times its size; bench/ measures the release build.
        assert each < 64, f'{each:.1f} KiB for each idle client'
    finally:
        shoal.finish()
