"""Commits over several shards, with a crash at every point: all shards commit, or none does.

Each case arms one failpoint of the commit, strikes when it is hit, lets everything come back, and holds the
rows and the client's answer against each other. The points a to o are those of the failpoints' table.
"""
import os
import random
import signal
import threading
import time

import pytest

from tests.e2e.conftest import prepared_cluster
from tests.support import host
from tests.support.bank import Bank
from tests.support.cluster import children_of, wait_until
from tests.support.proxy import Proxy
from tests.support.shoal import Shoal, binary

pytestmark = pytest.mark.shoal_only

# Failpoint, its letters, how many shards it needs.
POINTS = [('commit_received', 'a', 2), ('commit_named', 'b', 2), ('commit_before_prepare', 'c', 2),
          ('commit_prepare_sent', 'd', 2), ('commit_prepared_one', 'e', 3), ('commit_prepare_failed', 'f', 2),
          ('commit_prepare_failed', 'g', 2), ('commit_prepared', 'h', 2), ('commit_decision_sent', 'i', 2), ('commit_decided', 'j', 2),
          ('commit_second_sent', 'k', 2), ('commit_second_one', 'l', 3), ('commit_second_failed', 'm', 2),
          ('commit_done', 'n', 2), ('commit_told', 'o', 2)]
FAULTS = ['kill', 'stop', 'blackhole', 'hang', 'store']
HANG_S = 30 if host.LONG else 4
SLEEP_MS = 700
SETTLE_S = 10


def all_cases():
    for shards in (2, 3):
        for point, letters, least in POINTS:
            if shards < least:
                continue
            for fault in FAULTS:
                victims = range(shards) if fault in ('stop', 'blackhole', 'hang') else [None]
                for victim in victims:
                    yield point, letters, shards, fault, victim


def chosen_cases():
    """Short: the places where the decision lies between two servers, each with another fault."""
    every = list(all_cases())
    if host.LONG:
        return every
    wanted = [('commit_prepare_sent', 2, 'kill', None), ('commit_prepared_one', 3, 'stop', 1),
              ('commit_prepare_failed', 2, 'kill', None), ('commit_prepared', 3, 'kill', None),
              ('commit_decision_sent', 2, 'kill', None), ('commit_decision_sent', 2, 'stop', 0),
              ('commit_decision_sent', 2, 'stop', 1), ('commit_decided', 2, 'store', None),
              ('commit_decided', 2, 'blackhole', 0), ('commit_second_one', 3, 'kill', None),
              ('commit_second_failed', 2, 'kill', None)]
    return [case for case in every if (case[0], case[2], case[3], case[4]) in wanted]


@pytest.fixture(scope='module')
def clusters(workspace):
    made = [prepared_cluster(workspace, name) for name in ('s0', 's1', 's2')]
    yield made
    for cluster in made:
        cluster.stop()


class Scene:
    """Three shards behind proxies, a bank over them, and a shoald that is started anew for each case."""

    def __init__(self, workspace, clusters):
        self.clusters = clusters
        self.proxies = [Proxy(c.port) for c in clusters]
        self.shoal = Shoal(workspace, dict(zip(('s0', 's1', 's2'), self.proxies)),
                           databases={'app': {'shards': 's0, s1, s2'}},
                           users={'admin': {'admin': 'on'}, 'app': {}},
                           settings={'commit_timeout': '3s', 'tcp_user_timeout': '2s', 'recovery_interval': '1s',
                                     'server_connect_timeout': '2s'})
        self.shoal.start()
        self.bank = Bank(self.shoal, clusters)
        for cluster in clusters:  # a row below zero fails, but only when the transaction prepares
            cluster.sql('CREATE FUNCTION strict() RETURNS trigger LANGUAGE plpgsql AS'
                        " 'BEGIN IF NEW.amount > 900 THEN RAISE EXCEPTION ''too much'' USING ERRCODE = ''23514'';"
                        " END IF; RETURN NULL; END'",
                        'CREATE CONSTRAINT TRIGGER strict AFTER INSERT ON ledger DEFERRABLE INITIALLY DEFERRED'
                        ' FOR EACH ROW EXECUTE FUNCTION strict()', database='app', user='app')
        self.stop_shoal()

    def stop_shoal(self):
        if self.shoal.process.poll() is None:
            self.shoal.kill9()
        reports = self.shoal.sanitizer_reports()
        assert not reports, reports[:6000]

    # -- faults ---------------------------------------------------------------------------------

    def strike(self, fault, victim):
        """Returns what undoes it."""
        if fault == 'stop':
            self.clusters[victim].stop('immediate')
            return self.clusters[victim].start
        if fault == 'blackhole':
            self.proxies[victim].blackhole()
            return self.proxies[victim].heal
        if fault == 'hang':
            pid = self.clusters[victim].pid()
            every = [pid] + children_of(pid)
            signal_all(every, signal.SIGSTOP)
            return lambda: signal_all(every, signal.SIGCONT)
        return lambda: None

    def failpoint(self, point, fault):
        then = 'panic' if fault in ('kill', 'store') else f'sleep:{SLEEP_MS}'
        return f'{point}:{then}'

    # -- one case --------------------------------------------------------------------------------

    def run(self, point, letters, shards, fault, victim, rng):
        which = rng.sample(range(3), shards)
        ids = self.bank.accounts_on(which, rng)
        tid = self.bank.take_tid()
        log_from = self.shoal.log.stat().st_size
        self.shoal.start(failpoint=self.failpoint(point, fault))
        conn = self.shoal.connect('app', timeout_s=20)
        for proxy, cluster in zip(self.proxies, self.clusters):
            if letters == 'm':
                proxy.on('COMMIT PREPARED', self.steal(cluster))
            if letters == 'g':
                proxy.swap(b'PREPARE TRANSACTION', b'ROLLBACK           ')
        client = threading.Thread(target=self.commit, args=(conn, ids, tid, letters))
        client.start()
        try:
            self.shoal.wait_logged(f"failpoint {point}:", 30, log_from)
            undo = self.strike(fault, which[victim] if victim is not None else None)
            struck = time.monotonic()
            client.join(2 if fault != 'hang' else HANG_S)
            if fault == 'hang':  # recovery, too, has to live with it
                time.sleep(max(0.0, struck + HANG_S - time.monotonic()))
        finally:
            undo() if 'undo' in dir() else None
        for proxy in self.proxies:
            proxy.swaps, proxy.watches = [], []
        back = time.monotonic()
        if fault == 'store':  # recovery needs no store: it must work where nothing can be written there
            self.restart('store_commit:enospc')
        elif fault == 'kill':
            self.restart()
        client.join(30)
        assert not client.is_alive(), 'the client was left without an answer'
        conn.abort()
        self.bank.wait_settled(SETTLE_S)
        settled_s = time.monotonic() - back
        self.serves(rng)
        self.bank.check()
        damage = {row['name']: row['value'] for row in self.shoal.console('SHOW RECOVERY')}['damage']
        assert damage == '0', 'a transaction ended against its decision'
        self.stop_shoal()
        return self.bank.outcomes[tid][0], settled_s

    def commit(self, conn, ids, tid, letters):
        if letters != 'f':
            outcome = self.bank.transfer(conn, ids, tid, 25)
            # PREPARE TRANSACTION was answered by the tag ROLLBACK, and by no error (H57).
            assert letters != 'g' or outcome != 'committed'
            return
        # The first one is refused by a deferred trigger when it prepares.
        conn.query('BEGIN')
        for sql in self.bank.statements(ids, tid):
            conn.query(sql.replace(f'{tid}, 1)', f'{tid}, 1001)').replace(f'{tid}, -', f'{tid}, 1001 -'))
        outcome, text = self.bank.commit(conn, 25)
        assert outcome != 'committed', 'a deferred trigger has refused it'
        self.bank.outcomes[tid] = (outcome, ids, text)

    def steal(self, cluster):
        """Somebody else is faster with COMMIT PREPARED: 42704 for us (H58)."""
        def ended(_):
            for (gid,) in cluster.query('SELECT gid FROM pg_prepared_xacts', 'app'):
                cluster.query(f"COMMIT PREPARED '{gid}'", 'app')
        return ended

    def restart(self, failpoint=None):
        self.shoal.process.wait(10)
        self.shoal.start(failpoint=failpoint)

    def serves(self, rng):
        """A client's next transfer over all shards goes through within 5 s."""
        def once():
            with self.shoal.connect('app', timeout_s=10) as conn:
                ids = self.bank.accounts_on((0, 1, 2), rng)
                return self.bank.transfer(conn, ids, self.bank.take_tid(), 10) == 'committed'
        if os.environ.get('SHOAL_FAILPOINT') or self.store_is_broken():
            return
        wait_until('transfers to go through again', once, 5)

    def store_is_broken(self):
        rows = {row['name']: row['value'] for row in self.shoal.console('SHOW RECOVERY')}
        return rows['epoch'] == '0'

    def clean(self):
        """After a case that failed: the next one must not suffer from it."""
        if self.shoal.process.poll() is None:
            self.shoal.kill9()
        for proxy, cluster in zip(self.proxies, self.clusters):
            proxy.heal()
            if cluster.pid() is None:
                cluster.start()
            for (gid,) in cluster.query('SELECT gid FROM pg_prepared_xacts', 'app'):
                cluster.query(f"ROLLBACK PREPARED '{gid}'", 'app')
        self.bank.forget()

    def close(self):
        self.stop_shoal()
        for proxy in self.proxies:
            proxy.close()


def signal_all(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


@pytest.fixture(scope='module')
def scene(workspace, clusters):
    if not os.popen(f'{binary()} --failpoints').read():
        pytest.skip('this shoald has no failpoints (-Dfailpoints=true)')
    scene = Scene(workspace, clusters)
    yield scene
    scene.close()


@pytest.mark.may_stop
@pytest.mark.parametrize('case', chosen_cases(),
                         ids=lambda c: f'{c[0]}-{c[1]}-{c[2]}-{c[3]}' + ('' if c[4] is None else str(c[4])))
def test_crash(scene, case):
    # Money appears or is lost: one shard has committed what another has rolled back.
    point, letters, shards, fault, victim = case
    rng = random.Random(f'{host.SEED} {case}')
    try:
        outcome, settled_s = scene.run(point, letters, shards, fault, victim, rng)
    except BaseException:
        print(scene.shoal.tail())
        scene.clean()
        raise
    print(f'seed {host.SEED} {point} ({letters}) {shards} shards {fault} {victim}: client {outcome},'
          f' settled after {settled_s:.1f} s')
