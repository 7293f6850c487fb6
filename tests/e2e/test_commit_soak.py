"""Transfers and appends while everything dies at random: nothing acknowledged is lost, nothing is half done.

Short: some seconds. Long: 30 minutes. The run prints its seed and a summary.
"""
import random
import threading
import time
from collections import Counter

import pytest

from tests.e2e.conftest import prepared_cluster
from tests.support import host
from tests.support.bank import UNKNOWN, Bank
from tests.support.cluster import wait_until
from tests.support.proxy import Proxy
from tests.support.shoal import Shoal
from tests.support.wire import PgError

pytestmark = pytest.mark.shoal_only

SECONDS = 1800 if host.LONG else 20
CLIENTS = 6
KEYS = 12


@pytest.fixture(autouse=True)
def time_limit():
    """The suite's own limit is its SECONDS and the waits below."""
    yield


@pytest.fixture(scope='module')
def clusters(workspace):
    made = [prepared_cluster(workspace, name) for name in ('s0', 's1', 's2')]
    yield made
    for cluster in made:
        cluster.stop()


class Appends:
    """List per key: what was acknowledged is there once and in order; what is unknown, once or not."""

    def __init__(self, shoal):
        self.lock = threading.Lock()
        self.acked = {k: [] for k in range(KEYS)}
        self.unknown = {k: set() for k in range(KEYS)}
        self.failed = {k: set() for k in range(KEYS)}
        with shoal.connect('app') as conn:
            conn.query('CREATE TABLE list (id bigint PRIMARY KEY, v text NOT NULL)')
            conn.query("SELECT shoal.distribute_table('list', 'id')")
            for k in range(KEYS):
                conn.query(f"INSERT INTO list VALUES ({k}, '')")

    def append(self, conn, k, x):
        """One client appends to one key only, so that its order is known."""
        try:
            conn.query(f"UPDATE list SET v = v || '{x} ' WHERE id = {k}")
            self.acked[k].append(x)
        except PgError as err:
            # What is unknown is said to be unknown; any other error is a definite no.
            (self.unknown if err.code in UNKNOWN else self.failed)[k].add(x)
        except OSError:
            self.unknown[k].add(x)
            raise

    def check(self, conn):
        for k in range(KEYS):
            there = conn.query(f'SELECT v FROM list WHERE id = {k}')[0][0].split()
            assert len(there) == len(set(there)), f'key {k}: an element is there twice'
            assert not set(there) & self.failed[k], f'key {k}: an element that was refused is there'
            assert [x for x in there if x not in self.unknown[k]] == self.acked[k], f'key {k}: lost or out of order'


class Killer(threading.Thread):
    """Kills something every second or so, and lets it come back."""

    def __init__(self, shoal, clusters, proxies, stop, rng):
        super().__init__()
        self.shoal, self.clusters, self.proxies, self.stop, self.rng = shoal, clusters, proxies, stop, rng
        self.done = Counter()
        self.error = None

    def run(self):
        try:
            while time.monotonic() < self.stop:
                time.sleep(self.rng.uniform(0.3, 1.5))
                what = self.rng.choice([self.router, self.router, self.shard, self.shard_backend, self.cut, self.hole])
                what(self.rng.randrange(len(self.clusters)))
                self.done[what.__name__] += 1
        except BaseException as err:
            self.error = err

    def router(self, _):
        self.shoal.kill9()
        self.shoal.start()

    def shard(self, n):
        self.clusters[n].stop('immediate')
        time.sleep(self.rng.uniform(0, 1))
        self.clusters[n].start()

    def shard_backend(self, n):
        try:
            self.clusters[n].query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        except (PgError, OSError):
            pass

    def cut(self, n):
        self.proxies[n].rst()

    def hole(self, n):
        self.proxies[n].blackhole()
        time.sleep(self.rng.uniform(0.5, 3))
        self.proxies[n].heal()


def client(n, shoal, bank, appends, stop):
    rng = random.Random(f'{host.SEED} client {n}')
    x = 0
    while time.monotonic() < stop:
        try:
            with shoal.connect('app', timeout_s=15) as conn:
                while time.monotonic() < stop:
                    if n % 2:
                        shards = sorted(rng.sample(range(3), rng.choice([2, 2, 3])))
                        with appends.lock:
                            tid = bank.take_tid()
                        outcome = bank.transfer(conn, bank.accounts_on(shards, rng), tid, 15)
                        if outcome == 'unknown' or (outcome == 'failed' and not conn.alive()):
                            break
                    else:
                        x += 1
                        appends.append(conn, rng.choice(range(n, KEYS, CLIENTS)), f'{n}.{x}')
        except (PgError, OSError):
            time.sleep(0.1)


@pytest.mark.may_stop
def test_soak(workspace, clusters):
    proxies = [Proxy(c.port) for c in clusters]
    shoal = Shoal(workspace, dict(zip(('s0', 's1', 's2'), proxies)), databases={'app': {'shards': 's0, s1, s2'}},
                  users={'admin': {'admin': 'on'}, 'app': {}},
                  settings={'commit_timeout': '3s', 'tcp_user_timeout': '2s', 'recovery_interval': '1s',
                            'server_connect_timeout': '2s', 'workers': '2'})
    shoal.start()
    bank, appends = Bank(shoal, clusters), Appends(shoal)
    stop = time.monotonic() + SECONDS
    killer = Killer(shoal, clusters, proxies, stop, random.Random(f'{host.SEED} killer'))
    threads = [threading.Thread(target=client, args=(n, shoal, bank, appends, stop)) for n in range(CLIENTS)]
    for thread in threads + [killer]:
        thread.start()
    for thread in threads + [killer]:
        thread.join()
    assert killer.error is None, killer.error
    assert not shoal.sanitizer_reports(), shoal.sanitizer_reports()[:6000]
    bank.wait_settled(10)
    found = bank.check()
    def read():
        with shoal.connect('app', timeout_s=10) as conn:
            appends.check(conn)
        return True
    wait_until('the lists to be readable', read, 15)
    rows = {row['name']: row['value'] for row in shoal.console('SHOW RECOVERY')}
    print(f'seed {host.SEED}: {SECONDS} s, transfers {dict(found)}, appends'
          f' {sum(map(len, appends.acked.values()))}, unknown {sum(map(len, appends.unknown.values()))},'
          f' faults {dict(killer.done)}, recovery {rows}')
    assert rows['damage'] == '0' and found['committed'] > 0
    shoal.finish()
    for proxy in proxies:
        proxy.close()
