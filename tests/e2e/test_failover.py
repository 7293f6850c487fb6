"""A standby is promoted under load: found by itself, writes wait for it, none acknowledged is lost, the old one is fenced.

Replication is synchronous here (all standbys, later ANY 1), as it must be where nothing acknowledged may be lost: an asynchronous
standby can be promoted without the last commits, and no router can bring them back.
"""
import contextlib
import http.server
import os
import signal
import socket
import threading
import time

import pytest

from tests.support import host
from tests.support.cluster import Cluster, wait_until
from tests.support.proxy import Proxy
from tests.support.shoal import Shoal
from tests.support.wire import Closed, PgError, errors_of, message, query

pytestmark = pytest.mark.shoal_only

SYNC = {'synchronous_standby_names': "'ANY 1 (*)'", 'wal_retrieve_retry_interval': '200ms', 'wal_log_hints': 'on'}


@pytest.fixture
def shard(workspace):
    """One primary, two standbys that follow whoever is promoted; new for each test."""
    made = []

    def make(name, standbys=2):
        primary = Cluster(workspace, name).create().start()
        primary.sql('CREATE ROLE app LOGIN SUPERUSER', 'CREATE ROLE admin LOGIN', 'CREATE DATABASE app OWNER app')
        primary.sql('CREATE TABLE log (id bigint PRIMARY KEY, client int NOT NULL)', database='app', user='app')
        mine = [primary]
        made.append(primary)
        for i in range(1, standbys + 1):
            mine.append(primary.create_replica(f'{name}-r{i}', dict(SYNC)).start())
            made.append(mine[-1])
        for replica in mine[1:]:
            primary.wait_caught_up(replica)
        # All have what was acknowledged, so that any may be promoted.
        primary.configure(**dict(SYNC, synchronous_standby_names=f"'{standbys} (*)'"))
        primary.query('SELECT pg_reload_conf()')
        return mine
    yield make
    for server in made:
        server.thaw()
        server.stop()


def router(workspace, servers, name, **replicas):
    shoal = Shoal(workspace, {'s0': tuple(servers)}, users={'admin': {'admin': 'on'}, 'app': {}}, name=name,
                  settings={'tcp_user_timeout': '1s'},
                  replicas=dict({'lag_check': '50ms', 'failover_wait': '60s', 'switchover_wait': '30s'}, **replicas))
    return shoal.start()


class Writers:
    """Clients that insert rows one by one and remember which were acknowledged, and which are in doubt."""

    def __init__(self, shoal, count=4):
        self.shoal = shoal
        self.acked, self.unknown, self.errors, self.waits = set(), set(), [], []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, client):
        number, conn = client * 1_000_000, None
        while not self.stopping.is_set():
            number += 1
            began = time.monotonic()
            try:
                conn = conn or self.shoal.connect(timeout_s=90)
                conn.query(f'INSERT INTO log VALUES ({number}, {client})')
                self.acked.add(number)
                self.waits.append((began, time.monotonic()))
            except PgError as err:
                self.errors.append((time.monotonic(), err.code, err['M']))
                self.unknown.add(number)
            except (Closed, OSError) as err:
                self.errors.append((time.monotonic(), 'closed', str(err)))
                self.unknown.add(number)
                conn = None
            time.sleep(0.005)
        if conn:
            conn.close()

    def warm(self):
        wait_until('writes to be acknowledged', lambda: len(self.acked) > 20)
        return self

    def finish(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(120)

    def first_after(self, at):
        return min(end for began, end in self.waits if end > at)


def rows_of_log(server):
    return {int(row[0]) for row in server.query('SELECT id FROM log', database='app', user='app')}


def row_of(shoal, server):
    return next(row for row in shoal.console('SHOW REPLICAS') if row['server'] == server)


def test_s5_a_lost_primary_is_replaced_and_fenced_when_it_comes_back(workspace, shard):
    """S5. Else: somebody must edit shards.ini at night, or writes go to the machine that came back."""
    primary, first, second = shard('lost')
    shoal = router(workspace, [primary, first, second], 'lost')
    try:
        writers = Writers(shoal).warm()
        primary.kill9()
        died = time.monotonic()
        time.sleep(0.5)
        names = {first: 's0/replica1', second: 's0/replica2'}
        first, second = sorted((first, second), key=lambda each: -each.received())
        second.sql(f"ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port={first.port} user=postgres'",
                   'SELECT pg_reload_conf()')
        first.promote()
        promoted = time.monotonic()
        wait_until('writes on the new primary', lambda: any(end > promoted for _, end in writers.waits[-50:]))
        time.sleep(1.0)
        writers.finish()
        there = rows_of_log(first)
        lost = writers.acked - there
        assert not lost, f'{len(lost)} acknowledged rows are lost'
        assert there <= writers.acked | writers.unknown
        codes = sorted({code for _, code, _ in writers.errors})
        print(f'{len(writers.acked)} acknowledged, first write {writers.first_after(promoted) - promoted:.2f} s after '
              f'the promotion ended ({writers.first_after(died + 0.3) - died:.2f} s after the death), '
              f'{len(writers.errors)} errors {codes}')
        assert len(writers.errors) <= 8 and set(codes) <= {'40003', '08007'}, writers.errors
        wait_until('the other standby to follow', lambda: row_of(shoal, names[second])['state'] == 'up')

        # The old primary comes back, as it was: nothing goes there.
        (primary.data / 'postmaster.pid').unlink(missing_ok=True)
        primary.configure(synchronous_standby_names="''")
        primary.start()
        wait_until('it to be fenced', lambda: 'fenced' in (row_of(shoal, 's0/primary')['why'] or ''))
        before = rows_of_log(primary)
        with shoal.connect() as conn:
            conn.query('INSERT INTO log VALUES (999999999, 9)')
            conn.query("SET shoal.read_consistency = 'eventual'")

            def all_there():
                seen = {conn.query("SELECT current_setting('port')")[0][0] for _ in range(10)}
                assert str(primary.port) not in seen
                return seen == {str(second.port)}
            wait_until('reads to go to the standby', all_there)
        assert rows_of_log(primary) == before and 999999999 in rows_of_log(first)

        # A router that starts now, with the new primary out of reach, does not write to the old one either.
        shoal.terminate()
        first.freeze()
        second.freeze()
        shoal.replicas['failover_wait'] = '2s'
        shoal.write_ini()
        shoal.start(wait=False)
        wait_until('the console', lambda: shoal.console('SHOW VERSION'))
        with pytest.raises((PgError, OSError)):
            shoal.query('INSERT INTO log VALUES (888888888, 9)')
        assert 888888888 not in rows_of_log(primary)
        first.thaw()
        second.thaw()
        events = [row['event'] for row in shoal.console('SHOW EVENTS')]
        assert any('is the primary now, on timeline 2' in text for text in events)
    finally:
        first.thaw()
        second.thaw()
        shoal.finish()


def test_never_two_primaries(workspace, shard):
    """Else: half of the writes go to each side of a split."""
    primary, first, second = shard('split')
    primary.configure(synchronous_standby_names="''")
    primary.query('SELECT pg_reload_conf()')
    shoal = router(workspace, [primary, first, second], 'split')
    try:
        with shoal.connect() as held:
            held.query('BEGIN')
            held.query('INSERT INTO log VALUES (1, 1)')
            first.sql("ALTER SYSTEM SET synchronous_standby_names = ''", 'SELECT pg_reload_conf()')
            first.promote()
            wait_until('the new primary', lambda: row_of(shoal, 's0/replica1')['role'] == 'primary')
            with pytest.raises((PgError, OSError)):  # what ran on the old one has ended, and was told so
                held.query('INSERT INTO log VALUES (2, 1)')
                held.query('COMMIT')
        old = len(rows_of_log(primary))
        for number in range(10, 60):
            shoal.query(f'INSERT INTO log VALUES ({number}, 1)')
        assert len(rows_of_log(primary)) == old
        assert set(range(10, 60)) <= rows_of_log(first)
    finally:
        shoal.finish()


def test_writes_wait_for_a_restart_and_no_longer_than_allowed(workspace, shard):
    """Else: each restart of a primary is an error page, or a client hangs for ever."""
    primary, first, second = shard('wait')
    shoal = router(workspace, [primary, first, second], 'wait', failover_wait='3s')
    try:
        shoal.query('INSERT INTO log VALUES (1, 1)')
        primary.stop('fast')
        began = time.monotonic()
        with pytest.raises(PgError) as err:
            shoal.query('INSERT INTO log VALUES (2, 1)')
        assert time.monotonic() - began > 2 and err.value.code.startswith('08')
        with shoal.connect() as reader:  # reads go on meanwhile
            reader.query("SET shoal.read_consistency = 'eventual'")
            assert reader.query('SELECT count(*) FROM log') == [['1']]
        shoal.reload(lag_check='50ms', failover_wait='60s')
        timer = threading.Timer(1.0, primary.start)
        timer.start()
        shoal.query('INSERT INTO log VALUES (3, 1)')
        timer.join()
        assert rows_of_log(primary) == {1, 3}
    finally:
        shoal.finish()


# -- the old primary comes back ------------------------------------------------------------------------------

def test_the_old_primary_is_never_written_to_however_quickly_it_returns(workspace, shard):
    """Else: what was acknowledged between its return and the next look at it is lost.

    Promoted and restarted in the same moment, with a lag_check so long that Shoal is late to notice."""
    primary, first, second = shard('quick')
    for server in (primary, first, second):  # nothing on the old one would wait for a standby
        server.configure(synchronous_standby_names="''")
        server.query('SELECT pg_reload_conf()')
    shoal = router(workspace, [primary, first, second], 'quick', lag_check='1s')
    try:
        writers, pairs = Writers(shoal, 5).warm(), Transactors(shoal, 2).warm()
        primary.kill9()
        first.promote()
        promoted = time.monotonic()
        primary.start()
        old = rows_of_log(primary)
        wait_until('writes on the new primary', lambda: any(began > promoted for began, _ in writers.waits[-50:]))
        time.sleep(0.5)
        writers.finish()
        pairs.finish()
        assert rows_of_log(primary) == old, 'written to after it came back'
        late = {number for number in writers.acked | pairs.acked if number not in old}
        assert late and late <= rows_of_log(first)
        print(f'{len(late)} rows since, none on the old one')
    finally:
        shoal.finish()


def settle(*servers):
    """Nothing waits for a standby: the old primary could take writes alone."""
    for server in servers:
        server.configure(synchronous_standby_names="''")
        server.query('SELECT pg_reload_conf()')


@contextlib.contextmanager
def asleep(shoal):
    """The router is stopped for longer than a turn may take."""
    os.kill(shoal.process.pid, signal.SIGSTOP)
    try:
        yield
        time.sleep(1.5)
    finally:
        os.kill(shoal.process.pid, signal.SIGCONT)


def test_r3_a_router_that_slept_through_a_failover_writes_nothing_old(workspace, shard):
    """R3. Else: a suspended machine wakes up and writes where it wrote before: the old primary still lives."""
    primary, first, second = shard('slept')
    settle(primary, first, second)
    shoal = router(workspace, [primary, first, second], 'slept')
    try:
        conns = [shoal.connect(timeout_s=90) for _ in range(6)]
        for number, conn in enumerate(conns):
            conn.query(f'INSERT INTO log VALUES ({number}, 1)')
        copier, held = shoal.connect(timeout_s=90), shoal.connect(timeout_s=90)
        held.query('BEGIN')
        held.query('INSERT INTO log VALUES (200, 1)')
        copier.send(query('COPY log FROM STDIN'))
        copier.until('G')
        with asleep(shoal):
            first.promote()
            old = rows_of_log(primary)
            for number, conn in enumerate(conns):
                conn.send(query(f'INSERT INTO log VALUES ({100 + number}, 1)'))
            held.send(query('COMMIT'))
            copier.send(message('d', b'300\t1\n') + message('c'))
        for conn in conns:
            assert not errors_of(conn.until('Z'))
        ended = held.until('Z')  # it had begun on the old one
        assert errors_of(ended) or ended[0].body == b'ROLLBACK\0', ended
        assert errors_of(copier.until('Z'))
        assert rows_of_log(primary) == old
        assert set(range(100, 106)) <= rows_of_log(first)
    finally:
        shoal.finish()


@pytest.mark.parametrize('deaf', ['all', 'standbys'] if host.LONG else ['all'])
def test_r3_who_cannot_look_does_not_trust_what_it_knew(workspace, shard, deaf):
    """Else: after ten seconds of silence the old primary is written to. The control thread's connections hear nothing,
    those of the pools stand: only not knowing keeps the router from writing."""
    primary, first, second = shard(f'deaf-{deaf}')
    settle(primary, first, second)
    proxies = [Proxy(server.port) for server in (primary, first, second)]
    shoal = router(workspace, proxies, f'deaf-{deaf}', failover_wait='6s')
    try:
        shoal.query('INSERT INTO log VALUES (1, 1)')
        held, idle = shoal.connect(timeout_s=60), shoal.connect(timeout_s=60)
        held.query('BEGIN')
        held.query('INSERT INTO log VALUES (2, 1)')
        idle.query('INSERT INTO log VALUES (3, 1)')
        with asleep(shoal):
            for proxy in proxies if deaf == 'all' else proxies[1:]:
                proxy.block(b'\0postgres\0')
            first.promote()
            old = rows_of_log(primary)
            held.send(query('INSERT INTO log VALUES (4, 1)'))
            idle.send(query('INSERT INTO log VALUES (5, 1)'))
        assert errors_of(held.until('Z')) and errors_of(held.exchange(query('INSERT INTO log VALUES (6, 1)')))
        held.query('ROLLBACK')
        told = errors_of(idle.until('Z'))
        assert told and told[0].code == '08001' and 'no primary of shard s0 is known' in told[0]['M'], told
        with pytest.raises(PgError) as err:  # twelve seconds after it woke up
            idle.query('INSERT INTO log VALUES (7, 1)')
        assert err.value.code == '08001'
        assert rows_of_log(primary) == old
        for proxy in proxies:
            proxy.heal()
        wait_until('writes on the new primary', lambda: shoal.query('INSERT INTO log VALUES (8, 1)') == [])
        assert rows_of_log(primary) == old and 8 in rows_of_log(first)
    finally:
        shoal.finish()
        for proxy in proxies:
            proxy.close()


def test_resume_ends_a_doubt(workspace, shard):
    """Else: a standby that is lost while the router sleeps keeps the shard from its writes for ever."""
    primary, first, second = shard('doubt')
    settle(primary, first, second)
    proxies = [Proxy(server.port) for server in (primary, first, second)]
    shoal = router(workspace, proxies, 'doubt', failover_wait='2s')
    try:
        with shoal.connect(timeout_s=60) as conn:
            conn.query('INSERT INTO log VALUES (1, 1)')
            with asleep(shoal):
                proxies[2].block(b'\0postgres\0')
            with pytest.raises(PgError) as err:
                conn.query('INSERT INTO log VALUES (2, 1)')
            assert err.value.code == '08001' and 'RESUME' in err.value['H']
            wait_until('it to be missed', lambda: row_of(shoal, 's0/replica2')['state'] == 'down')
            shoal.console('RESUME s0')
            wait_until('writes to go on', lambda: conn.query('INSERT INTO log VALUES (3, 1)') == [])
            # A stop finds it lost already: nobody waits for it, and what slept through it goes on.
            wait_until('it to be lost for longer', lambda: int(row_of(shoal, 's0/replica2')['measured_ms_ago']) > 6000)
            conn.query('BEGIN')
            conn.query('INSERT INTO log VALUES (4, 1)')
            with asleep(shoal):
                conn.send(query('COMMIT'))
            assert not errors_of(conn.until('Z'))
        assert rows_of_log(primary) == {1, 3, 4}
    finally:
        shoal.finish()
        for proxy in proxies:
            proxy.close()


def test_a_doubt_is_about_one_shard(workspace, shard):
    """Else: one standby that does not answer after a stop of the router keeps all shards from their writes; or nobody
    can see why."""
    made = [shard('one', 1), shard('two', 1)]
    for pair in made:
        settle(*pair)
    silent = Proxy(made[1][1].port)
    shoal = Shoal(workspace, {'s0': tuple(made[0]), 's1': (made[1][0], silent)}, name='doubts',
                  databases={'app': {'shards': 's0'}, 'other': {'shards': 's1', 'dbname': 'app'}},
                  users={'admin': {'admin': 'on'}, 'app': {}}, settings={'tcp_user_timeout': '1s'},
                  replicas={'lag_check': '50ms', 'failover_wait': '2s'})
    shoal.start()
    try:
        for database in ('app', 'other'):
            wait_until('writes', lambda: shoal.query('INSERT INTO log VALUES (1, 1)', database=database) == [])
        wait_until('all to be heard', lambda: all(not row['why'] for row in shoal.console('SHOW REPLICAS')))
        with asleep(shoal):
            silent.block(b'\0postgres\0')
        with shoal.connect(database='other', timeout_s=60) as doubted, shoal.connect(timeout_s=60) as trusted:
            trusted.query('INSERT INTO log VALUES (2, 1)')
            with pytest.raises(PgError) as err:
                doubted.query('INSERT INTO log VALUES (2, 1)')
            assert err.value.code == '08001' and 'no primary of shard s1 is known' in err.value['M'], err.value
            assert 'was stopped' in row_of(shoal, 's1/primary')['why'] and 'held' in row_of(shoal, 's1/primary')['why']
            assert 'has not answered since Shoal was stopped' in row_of(shoal, 's1/replica1')['why']
            assert not row_of(shoal, 's0/primary')['why'] and not row_of(shoal, 's0/replica1')['why']
            trusted.query('INSERT INTO log VALUES (3, 1)')
            silent.heal()
            wait_until('writes to go on', lambda: not errors_of(doubted.exchange(query('INSERT INTO log VALUES (3, 1)'))))
            wait_until('the doubt to be over', lambda: not row_of(shoal, 's1/primary')['why'])
        assert rows_of_log(made[0][0]) == {1, 2, 3} and rows_of_log(made[1][0]) == {1, 3}
    finally:
        shoal.finish()
        silent.close()


def test_n5_a_connection_asks_who_is_there(workspace, shard):
    """N5. Else: an address that was given to another cluster is written to until the next look at it."""
    primary, first, second = shard('address')
    stranger = Cluster(workspace, 'address-stranger').create().start()
    stranger.sql('CREATE ROLE app LOGIN SUPERUSER', 'CREATE ROLE admin LOGIN', 'CREATE DATABASE app OWNER app')
    stranger.sql('CREATE TABLE log (id bigint PRIMARY KEY, client int NOT NULL)', database='app', user='app')
    proxy = Proxy(primary.port)
    shoal = router(workspace, [proxy, first, second], 'address', lag_check='10s', failover_wait='1s')
    try:
        shoal.query('INSERT INTO log VALUES (1, 1)')
        proxy.target = ('127.0.0.1', stranger.port)
        proxy.rst()

        def refused():
            with pytest.raises((PgError, OSError)):
                shoal.query('INSERT INTO log VALUES (2, 1)')
            return 'system identifier' in shoal.log.read_text()
        wait_until('a connection to be refused for who is there', refused)
        assert rows_of_log(stranger) == set()
    finally:
        shoal.finish()
        proxy.close()
        stranger.stop()

# -- planned ----------------------------------------------------------------------------------------------

class Transactors(Writers):
    """Clients that insert two rows in a transaction with a pause in between: both are there, or none."""

    def run(self, client):
        number = 500_000_000 + client * 1_000_000
        with self.shoal.connect(timeout_s=90) as conn:
            while not self.stopping.is_set():
                number += 2
                began = time.monotonic()
                try:
                    conn.query('BEGIN')
                    conn.query(f'INSERT INTO log VALUES ({number}, {client})')
                    time.sleep(0.01)
                    conn.query(f'INSERT INTO log VALUES ({number + 1}, {client})')
                    conn.query('COMMIT')
                    self.acked |= {number, number + 1}
                    self.waits.append((began, time.monotonic()))
                except PgError as err:
                    self.errors.append((time.monotonic(), err.code, err['M']))
                    self.unknown |= {number, number + 1}
                    return


def worst_wait(*writers):
    return max(end - began for each in writers for began, end in each.waits)


def test_a_switchover_is_felt_by_nobody(workspace, shard):
    """Else: an update of a primary needs a night, a page that says sorry, and somebody who is awake."""
    primary, first, second = shard('switch')
    shoal = router(workspace, [primary, first, second], 'switch')
    try:
        writers, pairs = Writers(shoal).warm(), Transactors(shoal, 3).warm()
        second.sql(f"ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port={first.port} user=postgres'")
        answer = shoal.console('SWITCHOVER s0 TO s0/replica1')
        second.sql('SELECT pg_reload_conf()')
        assert answer[0]['primary'] == 's0/replica1' and answer[0]['was'] == 's0/primary', answer
        switched, old = time.monotonic(), rows_of_log(primary)
        wait_until('writes on the new primary', lambda: any(end > switched for _, end in writers.waits[-50:]))
        time.sleep(0.7)
        writers.finish()
        pairs.finish()
        print(f"switched in {answer[0]['waited_ms']} ms, longest wait of a client {worst_wait(writers, pairs):.2f} s, "
              f'{len(writers.acked) + len(pairs.acked)} rows, errors {writers.errors + pairs.errors}')
        assert not writers.errors and not pairs.errors
        there = rows_of_log(first)
        assert there == writers.acked | pairs.acked
        assert rows_of_log(primary) == old, 'the old primary was written to'
        assert worst_wait(writers, pairs) < 60
        wait_until('the old one to be fenced', lambda: 'fenced' in (row_of(shoal, 's0/primary')['why'] or ''))
    finally:
        shoal.finish()


def test_a_switchover_that_cannot_be_leaves_everything_as_it_was(workspace, shard):
    """Else: an attempt at the wrong moment is an outage."""
    primary, first, second = shard('attempt')
    shoal = router(workspace, [primary, first, second], 'attempt', switchover_wait='500ms')
    try:
        with shoal.connect() as held:
            held.query('BEGIN')
            held.query('INSERT INTO log VALUES (1, 1)')
            with pytest.raises(PgError) as err:
                shoal.console('SWITCHOVER s0 TO replica1')
            assert err.value.code == '55006' and '1 sessions' in err.value['D']
            held.query('INSERT INTO log VALUES (2, 1)')
            held.query('COMMIT')
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = ''", 'SELECT pg_reload_conf()')
        first.cut_receiver()
        wait_until('async writes', lambda: shoal.query('INSERT INTO log VALUES (3, 1)') == [])
        with pytest.raises(PgError) as err:
            shoal.console('SWITCHOVER s0 TO replica1')
        assert err.value.code == '55000' and 'replayed' in err.value['M']
        shoal.query('INSERT INTO log VALUES (4, 1)')
        for wrong, code in (('SWITCHOVER s0 TO primary', '55000'), ('SWITCHOVER s9 TO x', '42704'), ('RESUME s0', '55000'),
                            ('SWITCHOVER s0', '42601'), ('SWITCHOVER s0 TO nobody', '42704'), ('PAUSE', '42601')):
            with pytest.raises(PgError) as err:
                shoal.console(wrong)
            assert err.value.code == code, wrong
        assert rows_of_log(primary) == {1, 2, 3, 4} and row_of(shoal, 's0/primary')['role'] == 'primary'
    finally:
        shoal.finish()


def test_pause_promote_and_nobody_notices(workspace, shard):
    """PAUSE for those who promote by other means (Patroni). Else: what was under way at that moment is an error."""
    primary, first, second = shard('pause')
    shoal = router(workspace, [primary, first, second], 'pause')
    try:
        writers, pairs = Writers(shoal).warm(), Transactors(shoal, 2).warm()
        shoal.console('PAUSE s0')
        before = rows_of_log(primary)
        with shoal.connect() as reader:  # reads go on
            reader.query("SET shoal.read_consistency = 'eventual'")
            assert int(reader.query('SELECT count(*) FROM log')[0][0]) > 0
        time.sleep(0.3)
        assert rows_of_log(primary) == before and 'paused' in row_of(shoal, 's0/primary')['why']
        shoal.console('RESUME s0')
        wait_until('writes to go on', lambda: len(rows_of_log(primary)) > len(before))
        shoal.console('PAUSE s0')
        primary.stop('fast')
        second.sql(f"ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port={first.port} user=postgres'",
                   'SELECT pg_reload_conf()')
        first.promote()
        promoted = time.monotonic()
        wait_until('writes on the new primary', lambda: any(end > promoted for _, end in writers.waits[-50:]))
        writers.finish()
        pairs.finish()
        assert not writers.errors and not pairs.errors, (writers.errors, pairs.errors)
        assert rows_of_log(first) == writers.acked | pairs.acked
        print(f'longest wait {worst_wait(writers, pairs):.2f} s')
    finally:
        shoal.finish()


# -- Patroni -----------------------------------------------------------------------------------------------------

class Patroni:
    """Answers GET /primary as Patroni's documentation says: 200 with the leader's lock, 503 without."""

    def __init__(self, leader, host='127.0.0.1'):
        self.leader, outer = leader, self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = b'{"state": "running", "role": "%s"}' % (b'primary' if outer.leader else b'replica')
                self.send_response(200 if self.path == '/primary' and outer.leader else 503)
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass
        class Server(http.server.ThreadingHTTPServer):
            address_family = socket.AF_INET6 if host == '[::1]' else socket.AF_INET
        self.server = Server(('::1' if host == '[::1]' else '127.0.0.1', 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.option = f'patroni=http://{host}:{self.server.server_address[1]}'

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def ipv6_here():
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(('::1', 0))
        return True
    except OSError:
        return False


def test_patroni_says_who_may(workspace, shard):
    """Else: a standby that somebody promoted by mistake takes the writes beside a living leader. Who it is asked of is
    written as a name, as an IPv6 and as an IPv4 address; `localhost` may have addresses where nobody listens."""
    primary, first, second = shard('patroni')
    for server in (primary, first, second):
        server.configure(synchronous_standby_names="''")
        server.query('SELECT pg_reload_conf()')
    words = [Patroni(True, 'localhost'), Patroni(False, '[::1]' if ipv6_here() else 'localhost'), Patroni(False)]
    for server, word in zip((primary, first, second), words):
        server.options = word.option
    shoal = router(workspace, [primary, first, second], 'patroni')
    try:
        shoal.query('INSERT INTO log VALUES (1, 1)')
        first.promote()
        wait_until('the mistake to be seen', lambda: 'Patroni' in (row_of(shoal, 's0/replica1')['why'] or ''))
        for number in range(2, 20):
            shoal.query(f'INSERT INTO log VALUES ({number}, 1)')
        assert rows_of_log(primary) == set(range(1, 20)) and row_of(shoal, 's0/primary')['role'] == 'primary'
        words[0].leader = False  # the lock goes to the other one: now it counts
        words[1].leader = True
        wait_until('the new leader', lambda: row_of(shoal, 's0/replica1')['role'] == 'primary')
        shoal.query('INSERT INTO log VALUES (100, 1)')
        assert 100 in rows_of_log(first) and 100 not in rows_of_log(primary)
        for word in words:  # nobody answers: the timeline is what there is
            word.close()
        time.sleep(0.3)
        shoal.query('INSERT INTO log VALUES (101, 1)')
        assert 101 in rows_of_log(first)
    finally:
        shoal.finish()
