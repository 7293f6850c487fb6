"""Reads on replicas keep what was promised: bounded, session, eventual, under every fault of a replica.

The oracle counts versions. One writer raises n of a key through Shoal and notes when each version was
acknowledged. A bounded read that began at t must see all that was acknowledged before t - max_lag; a session
must see what it wrote itself and never go back; what nobody wrote is never seen.
"""
import contextlib
import os
import signal
import threading
import time
from collections import Counter

import pytest

from tests.support import host
from tests.support.cluster import Cluster, wait_until
from tests.support.million import Million
from tests.support.shoal import Shoal
from tests.support.wire import PgError, column_names, errors_of, query, rows_of

pytestmark = pytest.mark.shoal_only

KEYS = 20
MAX_LAG_S = 0.6
READS = int(os.environ.get('SHOAL_READS', 1_000_000 if host.LONG else 0))  # per fault; the short form goes by time
SECONDS = 2.5
PIPELINE = 25

QUICK = {'max_standby_streaming_delay': '200ms', 'hot_standby_feedback': 'off',
         'wal_retrieve_retry_interval': '200ms'}


class Oracle:
    """Versions of each key: acknowledged, with the time; and asked for, which may or may not be there."""

    def __init__(self):
        self.acked = [[(0.0, 0)] for _ in range(KEYS)]
        self.asked = [0] * KEYS

    def due(self, key, before):
        """The version that every reader must see that may not miss what was acknowledged before."""
        best = 0
        for at, version in reversed(self.acked[key]):
            if at <= before:
                best = version
                break
        return best


class Load:
    """Threads that write and read until told to stop; every violation is kept."""

    def __init__(self, shoal):
        self.shoal, self.oracle = shoal, Oracle()
        self.violations, self.errors, self.counts = [], [], Counter()
        self.stopping = threading.Event()
        self.writing = threading.Event()
        self.writing.set()
        self.threads = []

    def start(self, bounded=2, session=1, eventual=1):
        with self.shoal.connect() as conn:
            conn.query('UPDATE versions SET n = 0')
        plan = [(self.write, ())] + [(self.read_bounded, (i,)) for i in range(bounded)]
        plan += [(self.read_session, (i,)) for i in range(session)]
        plan += [(self.read_eventual, (i,)) for i in range(eventual)]
        time.sleep(MAX_LAG_S + 0.3)  # the reset is old enough for all
        for target, args in plan:
            thread = threading.Thread(target=self.guarded, args=(target, args))
            thread.start()
            self.threads.append(thread)
        return self

    def guarded(self, target, args):
        try:
            target(*args)
        except Exception as err:
            self.errors.append(f'{target.__name__}: {type(err).__name__}: {err}')

    def run(self, enough):
        """For SECONDS, and as long as it takes until there was enough to tell."""
        until = time.monotonic() + SECONDS
        wait_until('enough reads', lambda: self.errors or (time.monotonic() > until and enough()))

    def finish(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
        assert not self.violations, self.violations[:5]
        assert not self.errors, self.errors[:5]
        return self.counts

    def write(self):
        with self.shoal.connect() as conn:
            key = 0
            while not self.stopping.is_set():
                if not self.writing.is_set():
                    time.sleep(0.01)
                    continue
                key = (key + 1) % KEYS
                self.oracle.asked[key] += 1
                conn.query(f'UPDATE versions SET n = n + 1 WHERE id = {key}')
                self.oracle.acked[key].append((time.monotonic(), self.oracle.asked[key]))
                self.counts['writes'] += 1
                time.sleep(0.002)

    def ask(self, conn, keys):
        """Versions of these keys, by as many statements in one go."""
        seen = conn.exchange(b''.join(query(f'SELECT n FROM versions WHERE id = {k}') for k in keys), len(keys),
                             timeout_s=30)
        for err in errors_of(seen):
            raise err
        return [int(row[0]) for row in rows_of(seen)]

    def note(self, kind, key, version, least, what):
        if not least <= version <= self.oracle.asked[key]:
            self.violations.append(f'{kind}: key {key} has version {version}, {what} {least}, '
                                   f'asked for {self.oracle.asked[key]}')

    def read_bounded(self, seed):
        with self.shoal.connect() as conn:
            conn.query("SET shoal.read_consistency = 'bounded'")
            conn.query(f"SET shoal.max_lag = '{int(MAX_LAG_S * 1000)}ms'")
            turn = seed
            while not self.stopping.is_set():
                keys = [(turn + i * 7) % KEYS for i in range(PIPELINE)]
                turn += 1
                began = time.monotonic()
                versions = self.ask(conn, keys)
                for key, version in zip(keys, versions):
                    self.note('bounded', key, version, self.oracle.due(key, began - MAX_LAG_S), 'must have')
                self.counts['bounded'] += len(keys)

    def read_session(self, seed):
        """Writes a row of its own now and then, and reads it back at once; reads the others in between."""
        own = KEYS + 1 + seed
        with self.shoal.connect() as conn:
            conn.query("SET shoal.read_consistency = 'session'")
            mine = int(conn.query(f'SELECT n FROM versions WHERE id = {own}')[0][0])
            last = [0] * KEYS
            turn = 0
            while not self.stopping.is_set():
                turn += 1
                if turn % 10 == 0 and self.writing.is_set():
                    conn.query(f'UPDATE versions SET n = n + 1 WHERE id = {own}')
                    mine += 1
                    self.counts['session writes'] += 1
                got = int(conn.query(f'SELECT n FROM versions WHERE id = {own}')[0][0])
                if got != mine:
                    self.violations.append(f'session: wrote {mine}, read {got}')
                pair = [turn % KEYS, (turn + 7) % KEYS]  # under way together, perhaps on two servers
                for key, version in zip(pair, self.ask(conn, pair)):
                    self.note('session', key, version, last[key], 'has seen')
                    last[key] = version
                self.counts['session'] += 3
                if turn % 50 == 0:
                    time.sleep(0.3)  # long enough that replicas come into play again

    def read_eventual(self, seed):
        with self.shoal.connect() as conn:
            conn.query("SET shoal.read_consistency = 'eventual'")
            while not self.stopping.is_set():
                keys = list(range(KEYS))
                for key, version in zip(keys, self.ask(conn, keys)):
                    self.note('eventual', key, version, 0, 'at least')
                self.counts['eventual'] += len(keys)


# -- the cluster ---------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def servers(workspace):
    primary = Cluster(workspace, 'primary', dict(QUICK)).create().start()
    primary.sql('CREATE ROLE app LOGIN SUPERUSER', 'CREATE ROLE admin LOGIN', 'CREATE DATABASE app OWNER app')
    primary.sql('CREATE TABLE versions (id int PRIMARY KEY, n bigint NOT NULL)',
                f'INSERT INTO versions SELECT g, 0 FROM generate_series(0, {KEYS + 10}) g',
                'CREATE VIEW latest AS SELECT * FROM versions', 'CREATE SEQUENCE ids',
                'CREATE VIEW newest AS SELECT max(n) AS n FROM latest',
                "CREATE VIEW locking AS SELECT id, pg_try_advisory_lock_shared(1) FROM versions",
                "CREATE VIEW leaking AS SELECT id FROM locking",
                'CREATE VIEW started AS SELECT pg_postmaster_start_time()',
                'CREATE TABLE owned (id int, who text)', 'ALTER TABLE owned ENABLE ROW LEVEL SECURITY',
                'CREATE POLICY mine ON owned USING (who = current_user)',
                'CREATE TABLE guarded (id int)', 'ALTER TABLE guarded ENABLE ROW LEVEL SECURITY',
                "CREATE POLICY odd ON guarded USING (random() < 2)",
                'CREATE UNLOGGED TABLE scratch (id int)',
                database='app', user='app')
    made = [primary] + [primary.create_replica(f'replica{i}', dict(QUICK)).start() for i in (1, 2)]
    for replica in made[1:]:
        primary.wait_caught_up(replica)
    yield made
    for server in made:
        server.thaw()
        server.stop()


@pytest.fixture(scope='module')
def shoal(workspace, servers):
    shoal = Shoal(workspace, {'s0': tuple(servers)}, users={'admin': {'admin': 'on'}, 'app': {}},
                  replicas={'lag_check': '50ms', 'max_lag': f'{int(MAX_LAG_S * 1000)}ms'})
    shoal.start()
    try:
        yield shoal
    finally:
        shoal.finish()


@pytest.fixture(autouse=True)
def healthy(servers, shoal):
    """Each test finds, and leaves, two replicas in use."""
    wait_until('both replicas in use', lambda: all(row_of(shoal, name)['lag_bytes'] == '0' and not row_of(shoal, name)['why']
                                                   for name in ('s0/replica1', 's0/replica2')))


def row_of(shoal, server):
    return next(row for row in shoal.console('SHOW REPLICAS') if row['server'] == server)


def shares(shoal, before=None):
    now = {row['server']: int(row['reads']) for row in shoal.console('SHOW REPLICAS')}
    return {name: reads - (before or {}).get(name, 0) for name, reads in now.items()}


def ported(conn, sql="SELECT current_setting('port')"):
    return int(conn.query(sql)[0][0])


def ports(servers):
    return {server.port for server in servers[1:]}


def wait_ported(conn, servers, sql="SELECT current_setting('port')"):
    """The read goes to a replica; on a busy machine both may be taken for lost for a moment."""
    wait_until(f'a replica to answer {sql}', lambda: ported(conn, sql) in ports(servers))


def report(what, counts, share):
    total = sum(share.values()) or 1
    text = ', '.join(f'{name} {100 * reads / total:.1f} %' for name, reads in share.items())
    print(f'{what}: {dict(counts)}; reads with a promise: {text}')
    return {name: reads / total for name, reads in share.items()}


# -- faults ----------------------------------------------------------------------------------------------

class Fault:
    """What happens to replica1, and how it ends."""

    def __init__(self, begin, end):
        self.begin, self.end = begin, end


def killed_end(replica):
    replica.start()


FAULTS = {
    'none': Fault(lambda r: None, lambda r: None),
    'paused': Fault(lambda r: r.pause_replay(), lambda r: r.resume_replay()),
    'delayed': Fault(lambda r: r.delay_replay('1500ms'), lambda r: r.delay_replay('0')),
    'cut': Fault(lambda r: r.cut_receiver(), lambda r: r.join_receiver()),
    'killed': Fault(lambda r: r.kill9(), killed_end),
    'stopped': Fault(lambda r: r.freeze(), lambda r: r.thaw()),
}


@pytest.mark.parametrize('name', FAULTS)
def test_no_read_is_older_than_its_promise(shoal, servers, name):
    """Else: a page shows what the application was promised it would not."""
    fault, replica, before = FAULTS[name], servers[1], shares(shoal)
    load = Load(shoal).start()

    def enough():
        reads = shares(shoal, before)
        least = (200, 200) if name == 'none' else (0, 200)
        return (load.counts['bounded'] > 500 and load.counts['session writes'] >= 3 and
                reads['s0/replica1'] >= least[0] and reads['s0/replica2'] >= least[1])
    try:
        time.sleep(0.5)
        fault.begin(replica)
        try:
            load.run(enough)
        finally:
            fault.end(replica)
        time.sleep(1.0)
    finally:
        counts = load.finish()
    report(name, counts, shares(shoal, before))


@pytest.mark.skipif(not READS, reason='the long form: --long, or SHOAL_READS=n')
@pytest.mark.parametrize('name', FAULTS)
def test_a_million_reads_under_each_fault(shoal, servers, name):
    """The same promises, in numbers that chance does not survive (promise_load.c is the oracle)."""
    signal.alarm(3600)
    fault, replica = FAULTS[name], servers[1]
    with shoal.connect() as conn:
        conn.query('UPDATE versions SET n = 0')
    for each in servers[1:]:
        servers[0].wait_caught_up(each)
    time.sleep(MAX_LAG_S + 0.3)
    before, began = shares(shoal), time.monotonic()
    load = Million(shoal, READS, keys=KEYS, max_lag_ms=int(MAX_LAG_S * 1000))
    try:
        time.sleep(0.5)
        fault.begin(replica)
        try:
            load.begin()
            load.wait()
        finally:
            fault.end(replica)
        time.sleep(1.0)
    finally:
        counts = load.finish()
    share = report(f'{name}, seed {host.SEED}, {time.monotonic() - began:.0f} s', counts, shares(shoal, before))
    assert counts['bounded'] >= READS and counts['session_writes'] >= 3 and counts['writes'] > 100
    assert share['s0/replica1'] + share['s0/replica2'] > 0.2, share  # 0.9 where nothing else runs


def test_promises_hold_over_a_promotion(workspace):
    """The primary dies, a standby takes over, the other one follows. Else: the old data come back for a while."""
    signal.alarm(3600 if READS else 120)
    sync = dict(QUICK, synchronous_standby_names="'ANY 1 (*)'")
    primary = Cluster(workspace, 'p-primary', dict(QUICK)).create().start()
    made = [primary]
    try:
        primary.sql('CREATE ROLE app LOGIN SUPERUSER', 'CREATE ROLE admin LOGIN', 'CREATE DATABASE app OWNER app')
        primary.sql('CREATE TABLE versions (id int PRIMARY KEY, n bigint NOT NULL)',
                    f'INSERT INTO versions SELECT g, 0 FROM generate_series(0, {KEYS + 10}) g', database='app', user='app')
        made += [primary.create_replica(f'p-replica{i}', sync).start() for i in (1, 2)]
        for replica in made[1:]:
            primary.wait_caught_up(replica)
        primary.configure(**dict(sync, synchronous_standby_names="'2 (*)'"))  # whoever is promoted has everything
        primary.query('SELECT pg_reload_conf()')
        own = Shoal(workspace, {'s0': tuple(made)}, name='promotion', users={'admin': {'admin': 'on'}, 'app': {}},
                    settings={'tcp_user_timeout': '1s'},
                    replicas={'lag_check': '50ms', 'max_lag': f'{int(MAX_LAG_S * 1000)}ms', 'failover_wait': '30s'})
        own.start()
        try:
            wait_until('both replicas in use', lambda: all(row_of(own, f's0/replica{i}')['lag_bytes'] == '0' for i in (1, 2)))
            before, began = shares(own), time.monotonic()
            load = Million(own, READS or 15_000, keys=KEYS, max_lag_ms=int(MAX_LAG_S * 1000))
            try:
                time.sleep(0.5)
                load.begin()
                primary.kill9()
                names = {made[1]: 's0/replica1', made[2]: 's0/replica2'}
                new, other = sorted(made[1:], key=lambda each: -each.received())
                other.sql(f"ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port={new.port} user=postgres'",
                          'SELECT pg_reload_conf()')
                new.promote()
                load.wait()
                wait_until('the other standby to follow', lambda: row_of(own, names[other])['state'] == 'up')
                time.sleep(1.0)
            finally:  # what was under way when the primary died: said to be unknown
                counts = load.finish(errors={'40003', '08007', '08006'})
            share = report(f'promoted, {time.monotonic() - began:.0f} s', counts, shares(own, before))
            assert counts['writes'] > 20 and sum(counts['errors'].values()) < 60, counts
            assert share[names[other]] > 0.05, share
        finally:
            own.finish()
    finally:
        for server in made:
            server.stop()


def test_a_router_that_was_stopped_trusts_no_old_figure(shoal, servers):
    """R3. Else: after a pause of the router the first reads go by what was true before it."""
    conn = shoal.connect()
    conn.query("SET shoal.read_consistency = 'bounded'")
    conn.query("SET shoal.max_lag = '600ms'")
    for _ in range(10):
        conn.query('SELECT n FROM versions WHERE id = 0')
    for replica in servers[1:]:
        replica.pause_replay()
    try:
        os.kill(shoal.process.pid, signal.SIGSTOP)
        servers[0].sql('UPDATE versions SET n = 777 WHERE id = 0', database='app', user='app')
        time.sleep(1.5)
        conn.send(query('SELECT n FROM versions WHERE id = 0'))
        os.kill(shoal.process.pid, signal.SIGCONT)
        rows = rows_of(conn.until('Z'))
        assert [[v.decode() for v in row] for row in rows] == [['777']]
    finally:
        os.kill(shoal.process.pid, signal.SIGCONT)
        for replica in servers[1:]:
            replica.resume_replay()
        conn.close()


# -- what may go ---------------------------------------------------------------------------------------------

REPLICA = ["SELECT current_setting('port')", "SELECT current_setting('port'), n FROM versions WHERE id = 1",
           "SELECT current_setting('port'), random(), now() FROM versions",
           "WITH v AS (SELECT * FROM versions) SELECT current_setting('port'), count(*) FROM v",
           "SELECT current_setting('port') FROM latest LIMIT 1", "SELECT current_setting('port'), n FROM newest",
           "SELECT current_setting('port'), count(*) FROM owned",
           "SELECT current_setting('port') FROM versions a JOIN versions b USING (id) GROUP BY a.id"]
PRIMARY = ["SELECT current_setting('port') FROM versions WHERE id = 1 FOR UPDATE",
           "SELECT current_setting('port'), nextval('ids')",
           "SELECT current_setting('port') FROM locking LIMIT 1", "SELECT current_setting('port') FROM leaking LIMIT 1",
           "SELECT current_setting('port') FROM started", "SELECT current_setting('port'), count(*) FROM guarded",
           "SELECT current_setting('port') FROM versions, pg_advisory_xact_lock(1) LIMIT 1",
           "SELECT current_setting('port'), count(*) FROM scratch",
           "SELECT current_setting('port'), pg_is_in_recovery()",
           "SELECT current_setting('port'), txid_current_snapshot()",
           "WITH w AS (UPDATE versions SET n = n WHERE id = 3 RETURNING id) SELECT current_setting('port') FROM w"]


def test_only_what_reads_goes_to_a_replica(shoal, servers):
    """Else: an advisory lock that protects nobody, or an error where the primary would have answered."""
    with shoal.connect() as conn:
        conn.query("SET shoal.read_consistency = 'eventual'")
        for sql in REPLICA:
            wait_ported(conn, servers, sql)
        for sql in PRIMARY:
            assert ported(conn, sql) == servers[0].port, sql
        conn.query('BEGIN')
        assert ported(conn) == servers[0].port
        conn.query('COMMIT')


def test_strong_is_the_default(shoal, servers):
    with shoal.connect() as conn:
        assert all(ported(conn) == servers[0].port for _ in range(5))
        assert conn.query('SHOW shoal.read_consistency') == [['default']]


def test_a_read_only_transaction_stays_on_its_replica(shoal, servers):
    """Else: two statements of one snapshot come from two servers."""
    with shoal.connect() as conn:
        conn.query("SET shoal.read_consistency = 'eventual'")
        def stays(begin):
            conn.query(begin)
            seen = {ported(conn) for _ in range(5)}
            conn.query('COMMIT')
            assert len(seen) == 1
            return seen <= ports(servers)
        for begin in ('BEGIN READ ONLY', 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY'):
            wait_until(f'{begin} to go to a replica', lambda: stays(begin))
        conn.query('BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY')
        assert ported(conn) == servers[0].port
        conn.query('COMMIT')


def test_set_local_chooses_the_server_of_one_transaction(shoal, servers):
    """Else: one page of an application that may be stale makes the next one stale too."""
    with shoal.connect() as conn:
        def goes(begin, *local):
            conn.query(begin)
            for each in local:
                conn.query(each)
            seen = {ported(conn), ported(conn)}
            conn.query('COMMIT')
            assert len(seen) == 1
            return seen <= ports(servers)
        local = "SET LOCAL shoal.read_consistency = 'eventual'"
        wait_until('SET LOCAL to count', lambda: goes('BEGIN READ ONLY', local))
        wait_until('SET LOCAL to count', lambda: goes('BEGIN TRANSACTION READ ONLY', "SET LOCAL statement_timeout = '1min'", local,
                                                      'SAVEPOINT a', 'RELEASE a'))
        wait_until('the comment to count', lambda: goes('/* shoal: read_consistency = eventual */ BEGIN READ ONLY'))
        assert not goes('BEGIN READ ONLY') and not goes('BEGIN')
        assert conn.query('SHOW shoal.read_consistency') == [['default']]
        conn.query('BEGIN READ ONLY')
        conn.query('SELECT 1')
        for sql, code in ((local, '25001'), ('SELECT 1', '25P02')):
            with pytest.raises(PgError) as err:
                conn.query(sql)
            assert err.value.code == code
        conn.query('ROLLBACK')
        conn.query('BEGIN READ ONLY')  # nothing of it ever reaches a server
        conn.query('COMMIT')
        conn.query('BEGIN READ ONLY')
        seen = conn.exchange(query("SELECT 1; SELECT 2; COMMIT"))
        assert [m.type for m in seen if m.type in 'CEZ'] == ['C', 'C', 'C', 'Z'] and conn.query('SELECT 3') == [['3']]
        conn.query('BEGIN READ ONLY')
        with pytest.raises(PgError) as err:
            conn.query('UPDATE versions SET n = n')
        assert err.value.code == '25006'
        conn.query('ROLLBACK')


def test_hint_session_and_startup_say_where(shoal, servers):
    with shoal.connect() as conn:
        wait_ported(conn, servers, "/* shoal: read_consistency = eventual */ SELECT current_setting('port')")
        conn.query("SET shoal.read_consistency = 'eventual'")
        assert ported(conn, "/* shoal: read_consistency=strong */ SELECT current_setting('port')") == servers[0].port
        assert ported(conn, "/* shoal: read_consistency=bounded, max_lag=1ms */ SELECT current_setting('port')") == servers[0].port
        conn.query('RESET shoal.read_consistency')
        assert ported(conn) == servers[0].port
        conn.query("SET shoal.read_consistency = 'eventual'")
        conn.query('DISCARD ALL')
        assert ported(conn) == servers[0].port
        with pytest.raises(PgError) as err:
            conn.query("SET shoal.read_consistency = 'newest'")
        assert err.value.code == '22023' and 'eventual' in err.value['H']
    with shoal.connect(parameters={'options': '-c shoal.read_consistency=eventual'}) as conn:
        wait_ported(conn, servers)


# -- sessions ---------------------------------------------------------------------------------------------------

def test_the_token_of_one_session_holds_for_another(shoal, servers):
    """Else: a page that is shown after a form was sent misses what was sent."""
    with shoal.connect() as writer, shoal.connect() as reader:
        for replica in servers[1:]:
            replica.pause_replay()
        try:
            n = int(writer.query('UPDATE versions SET n = n + 1 WHERE id = 5 RETURNING n')[0][0])
            token = writer.query('SHOW shoal.session_lsn')[0][0]
            assert token.startswith('s0=')
            reader.query("SET shoal.read_consistency = 'session'")
            time.sleep(0.3)
            reader.query(f"SET shoal.session_lsn = '{token}'")
            for _ in range(5):
                assert reader.query('SELECT n FROM versions WHERE id = 5') == [[str(n)]]
            assert ported(reader) == servers[0].port
        finally:
            for replica in servers[1:]:
                replica.resume_replay()
        wait_until('replicas to answer with the token', lambda: (time.sleep(0.4), ported(reader))[1] in ports(servers))
        assert reader.query('SELECT n FROM versions WHERE id = 5') == [[str(n)]]
        with pytest.raises(PgError):
            reader.query("SET shoal.session_lsn = 's9=0/1'")


@pytest.mark.parametrize('batch', ['off', 'on'])
def test_two_reads_on_their_way_do_not_go_back(workspace, servers, batch):
    """Monotonic reads, also of statements that are asked before the first is answered. Else: a list shows a row, and the
    detail page that was asked for with it does not have it. replica1 stands still; round robin offers it every second read."""
    own = Shoal(workspace, {'s0': tuple(servers)}, name=f'pair-{batch}', users={'admin': {'admin': 'on'}, 'app': {}},
                batch={'batch': batch},
                replicas={'lag_check': '50ms', 'balance': 'round_robin', 'hedge': 'off', 'breaker': 'off'})
    own.start()
    try:
        key, ask = 11, 'SELECT n FROM versions WHERE id = 11'
        wait_until('lags to be known', lambda: all(row_of(own, f's0/replica{i}')['lag_ms'] == '0' for i in (1, 2)))
        before = int(servers[0].query(f'SELECT n FROM versions WHERE id = {key}', database='app', user='app')[0][0])
        readers = [own.connect(timeout_s=60) for _ in range(8)]
        for reader in readers:
            reader.query("SET shoal.read_consistency = 'session'")

        def free():  # what they knew when the last one said SET is behind them
            with own.connect() as conn:
                conn.query("SET shoal.read_consistency = 'eventual'")
                known = {ported(conn) for _ in range(4)} == ports(servers)
            return known and ported(readers[-1]) in ports(servers)
        wait_until('replicas to answer', free)
        servers[1].pause_replay()
        servers[0].sql(f'UPDATE versions SET n = n + 1 WHERE id = {key}', database='app', user='app')
        servers[0].wait_caught_up(servers[2])
        olds, backs, share = 0, [], shares(own)
        for reader in readers[1:]:
            for _ in range(6):
                seen = [int(row[0]) for row in rows_of(reader.exchange(query(ask) * 4, 4, timeout_s=60))]
                assert set(seen) <= {before, before + 1} and len(seen) == 4
                olds += before in seen
                if seen != sorted(seen):
                    backs.append(seen)
        print(f'{olds} answers were old, reads {shares(own, share)}')
        assert not backs, backs
    finally:
        servers[1].resume_replay()
        own.finish()


# -- trouble on the replica ---------------------------------------------------------------------------------------

def test_a_recovery_conflict_is_answered_elsewhere(shoal, servers):
    """Else: a report fails because somebody vacuumed."""
    servers[0].sql('CREATE TABLE churn (id int)', database='app', user='app')
    wait_until('the catalog to know the table', lambda: shoal.query('SELECT count(*) FROM churn'))
    asked = "SELECT count(*) FROM churn, pg_sleep(3)"
    running = f"SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query = '{asked}'"
    reruns = sum(int(row['reruns']) for row in shoal.console('SHOW REPLICAS'))

    def conflict():
        answers = []
        servers[0].sql('INSERT INTO churn SELECT g FROM generate_series(1, 10000) g', database='app', user='app')
        for replica in servers[1:]:
            servers[0].wait_caught_up(replica)

        def report_query():
            with shoal.connect(timeout_s=60) as conn:
                conn.query("SET shoal.read_consistency = 'eventual'")
                answers.append(conn.query(asked))
        thread = threading.Thread(target=report_query)
        thread.start()
        wait_until('it to run', lambda: not thread.is_alive() or any(replica.query(running) for replica in servers[1:]))
        servers[0].sql('DELETE FROM churn', 'VACUUM churn', database='app', user='app')
        thread.join(60)
        assert answers in ([[['10000']]], [[['0']]]), answers
        return sum(int(row['reruns']) for row in shoal.console('SHOW REPLICAS')) > reruns
    wait_until('a read to run again', conflict)


def test_what_is_not_replayed_yet_is_asked_of_the_primary(shoal, servers):
    """Else: `relation does not exist` for a table that does."""
    for replica in servers[1:]:
        replica.pause_replay()
    try:
        with shoal.connect() as conn:
            conn.query("SET shoal.read_consistency = 'eventual'")
            conn.query('CREATE TABLE fresh (id int)')
            assert conn.query('SELECT count(*) FROM fresh') == [['0']]
            conn.query('DROP TABLE fresh')
    finally:
        for replica in servers[1:]:
            replica.resume_replay()


def test_h82_the_primary_takes_only_so_many_reads_of_lost_replicas(workspace, servers):
    """H82. Else: replicas fall behind, and their load takes the primary down with them."""
    shoal = Shoal(workspace, {'s0': tuple(servers)}, users={'admin': {'admin': 'on'}, 'app': {}}, name='bound',
                  databases={'app': {'read_consistency': 'bounded', 'max_lag': '300ms'}},
                  replicas={'lag_check': '50ms', 'primary_reads_max': '3'})
    shoal.start()
    conns = []
    sleeping = "FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(1000)%' AND usename = 'app'"
    try:
        wait_until('lags to be known', lambda: all(row_of(shoal, f's0/replica{i}')['lag_ms'] == '0' for i in (1, 2)))
        for replica in servers[1:]:
            replica.pause_replay()
        servers[0].sql('UPDATE versions SET n = n + 1 WHERE id = 9', database='app', user='app')
        wait_until('replicas to be too old', lambda: all(int(row_of(shoal, f's0/replica{i}')['lag_ms'] or 0) > 500 for i in (1, 2)))
        conns = [shoal.connect(timeout_s=60) for _ in range(6)]
        for conn in conns[:3]:
            conn.send(query('SELECT count(*) FROM versions, pg_sleep(1000)'))
        wait_until('three to run on the primary', lambda: servers[0].query(f'SELECT count(*) {sleeping}') == [['3']])
        for conn in conns[3:]:
            conn.send(query('SELECT count(*) FROM versions, pg_sleep(1000)'))
        assert [errors_of(conn.until('Z'))[0].code for conn in conns[3:]] == ['53300'] * 3
        assert servers[0].query(f'SELECT count(pg_cancel_backend(pid)) {sleeping}') == [['3']]
        assert [errors_of(conn.until('Z'))[0].code for conn in conns[:3]] == ['57014'] * 3
        assert shoal.query('SELECT count(*) FROM versions') == [[str(KEYS + 11)]]
        shoal.query('UPDATE versions SET n = n WHERE id = 9')
    finally:
        for conn in conns:
            conn.close()
        for replica in servers[1:]:
            replica.resume_replay()
        shoal.finish()


def test_a_loop_is_answered_ahead_by_replicas_within_their_promise(workspace, servers):
    """Else: an N+1 loop burdens the primary although its reads may go to replicas; or it is answered by rows that are
    older than what was promised, or after a write of its own."""
    own = Shoal(workspace, {'s0': tuple(servers)}, name='ahead', users={'admin': {'admin': 'on'}, 'app': {}},
                databases={'app': {'read_consistency': 'bounded', 'max_lag': '1h', 'prefetch_max_age_ms': '60000'}},
                batch={'prefetch_wait': '5s'}, replicas={'lag_check': '50ms'})
    own.start()

    def hits():
        return int({row['name']: row['value'] for row in own.console('SHOW STATS')}['prefetch_hits'])

    def children(conn, ids):
        return [int(conn.query(f'SELECT n FROM loops WHERE id = {one}')[0][0]) for one in ids]

    def parent(conn):
        return [int(row[0]) for row in conn.query('SELECT id FROM loops ORDER BY id LIMIT 30')]

    def put(value):  # past Shoal: nothing tells it of the write
        servers[0].sql(f'UPDATE loops SET n = {value}', database='app', user='app')

    def catch_up():
        for replica in servers[1:]:
            servers[0].wait_caught_up(replica)

    def page_half(conn, value):
        """A loop in its middle, where the rest is kept already."""
        def ahead():
            ids, before = parent(conn), hits()
            assert children(conn, ids[:10]) == [value] * 10
            if hits() > before:
                return ids[10:]
            children(conn, ids[10:])
        return wait_until('the loop to be answered ahead', ahead)
    servers[0].sql('CREATE TABLE loops (id int PRIMARY KEY, n int)', 'INSERT INTO loops SELECT g, 1 FROM generate_series(1, 40) g',
                   database='app', user='app')
    catch_up()
    conn = own.connect(timeout_s=60)
    try:
        wait_until('the table to be known', lambda: children(conn, [1]) == [1])
        wait_until('lags to be known', lambda: all(row_of(own, f's0/replica{i}')['lag_ms'] == '0' for i in (1, 2)))
        page_half(conn, 1)
        # Replicas that stand still answer it: within an hour's bound, and the primary would say 2.
        for replica in servers[1:]:
            replica.pause_replay()
        put(2)
        rest = page_half(conn, 1)
        # The same rows are not for those who ask for the primary, nor for a bound that they are too old for.
        conn.query("SET shoal.read_consistency = 'strong'")
        assert children(conn, rest[:5]) == [2] * 5
        conn.query('RESET shoal.read_consistency')
        page_half(conn, 1)
        wait_until('replicas to be older than a second',
                   lambda: all(int(row_of(own, f's0/replica{i}')['lag_ms'] or 0) > 1500 for i in (1, 2)))
        rest = page_half(conn, 1)
        conn.query("SET shoal.max_lag = '1s'")
        assert children(conn, rest[:5]) == [2] * 5
        for replica in servers[1:]:
            replica.resume_replay()
        catch_up()
        wait_until('lags to be small', lambda: all(int(row_of(own, f's0/replica{i}')['lag_ms'] or 9999) < 500 for i in (1, 2)))
        # What was fresh when it was fetched grows old.
        rest = page_half(conn, 2)
        put(3)
        time.sleep(1.2)
        assert children(conn, rest[:5]) == [3] * 5
        # A session that must see what it has written is never answered by what was there before.
        conn.query("SET shoal.read_consistency = 'session'")
        for turn in range(10, 14):
            ids, before = parent(conn), hits()
            conn.query(f'UPDATE loops SET n = {turn}')
            assert children(conn, ids) == [turn] * 30 and hits() == before
    finally:
        conn.close()
        for replica in servers[1:]:
            replica.resume_replay()
        own.finish()


# -- what operators see ---------------------------------------------------------------------------------------------

def test_lag_is_zero_when_idle_and_grows_when_cut(shoal, servers):
    """L2. Else: the replica that receives nothing any more is the one that never lags."""
    wait_until('no lag', lambda: row_of(shoal, 's0/replica1')['lag_ms'] == '0')
    servers[1].cut_receiver()
    try:
        servers[0].sql('UPDATE versions SET n = n + 1 WHERE id = 2', database='app', user='app')

        def seen():
            row = row_of(shoal, 's0/replica1')
            return (int(row['lag_ms'] or 0) >= 1500 and int(row['lag_bytes']) > 0 and 'walreceiver' in (row['why'] or '') and
                    int(row_of(shoal, 's0/replica2')['lag_ms'] or 9999) < 500)
        wait_until('the one that is cut to grow old, and only that one', seen)
    finally:
        servers[1].join_receiver()
    assert any(int(row['lag_ms'] or 0) >= 500 for row in shoal.console('SHOW REPLICA_LAG') if row['server'] == 's0/replica1')


def test_show_replicas_says_why_a_server_is_out(shoal, servers):
    """Else: a replica answers nothing, and whoever is on call has to guess."""
    def why(name='s0/replica1'):
        return row_of(shoal, name)['why'] or ''
    servers[1].pause_replay()
    try:
        wait_until('the pause to be told', lambda: why() == 'replay is paused')
        assert not why('s0/replica2') and row_of(shoal, 's0/replica1')['state'] == 'up'
    finally:
        servers[1].resume_replay()
    wait_until('nothing to be told', lambda: not why())
    servers[1].freeze()
    try:
        wait_until('silence to be told', lambda: row_of(shoal, 's0/replica1')['state'] == 'down' and why())
        assert row_of(shoal, 's0/replica2')['state'] == 'up'
    finally:
        servers[1].thaw()
    wait_until('it to be back', lambda: row_of(shoal, 's0/replica1')['state'] == 'up' and not why())
    for name in ('s0/replica1', 's0/replica2'):  # second by second, the newest first, five minutes at most
        at = [row['at'] for row in shoal.console('SHOW REPLICA_LAG') if row['server'] == name]
        assert len(at) >= 2 and at == sorted(at, reverse=True) and len(set(at)) == len(at) <= 300, at


def test_lags_survive_a_reload(workspace, servers):
    """Else: after RELOAD a replica that lags is of unknown age until it has caught up, and its history is gone."""
    own = Shoal(workspace, {'s0': tuple(servers)}, name='kept', users={'admin': {'admin': 'on'}, 'app': {}},
                replicas={'lag_check': '50ms'})
    own.start()
    try:
        wait_until('lags to be known', lambda: all(row_of(own, f's0/replica{i}')['lag_ms'] == '0' for i in (1, 2)))
        for replica in servers[1:]:
            replica.pause_replay()
        servers[0].sql('UPDATE versions SET n = n + 1 WHERE id = 8', database='app', user='app')
        wait_until('a lag', lambda: int(row_of(own, 's0/replica1')['lag_ms'] or 0) > 1500)

        def history():
            return {row['at'] for row in own.console('SHOW REPLICA_LAG') if row['server'] == 's0/replica1'}
        before, lag = history(), int(row_of(own, 's0/replica1')['lag_ms'])
        assert before
        own.reload(lag_check='60ms')
        wait_until('it to be asked again', lambda: row_of(own, 's0/replica1')['lag_bytes'] not in (None, '0'))
        wait_until('the lag to go on', lambda: int(row_of(own, 's0/replica1')['lag_ms'] or 0) >= lag)
        assert before <= history()
    finally:
        for replica in servers[1:]:
            replica.resume_replay()
        own.finish()


def test_a_bound_in_bytes(workspace, servers):
    """Else: max_lag_bytes stands in the file, and a replica that is a gigabyte behind answers."""
    own = Shoal(workspace, {'s0': tuple(servers)}, name='bytes', users={'admin': {'admin': 'on'}, 'app': {}},
                replicas={'lag_check': '50ms', 'read_consistency': 'bounded', 'max_lag': '1h', 'max_lag_bytes': '1MB'})
    own.start()
    try:
        names = ('s0/replica1', 's0/replica2')

        def behind(name):
            return int(row_of(own, name)['lag_bytes'] or 0)

        def emit(size):
            servers[0].query(f"SELECT pg_logical_emit_message(false, 'far', repeat('x', {size}))")
        wait_until('lags to be known', lambda: all(row_of(own, name)['lag_ms'] == '0' for name in names))
        for replica in servers[1:]:
            replica.pause_replay()
        with own.connect() as conn:
            emit(50_000)
            wait_until('them to be behind', lambda: all(behind(name) > 50_000 for name in names))
            assert all(behind(name) < 1_000_000 for name in names)
            wait_ported(conn, servers)
            for _ in range(3):
                emit(500_000)
            wait_until('them to be too far behind', lambda: all(behind(name) > 1_500_000 for name in names))
            assert {ported(conn) for _ in range(10)} == {servers[0].port}
            servers[2].resume_replay()
            wait_until('one to be near enough', lambda: ported(conn) == servers[2].port)
            assert servers[1].port not in {ported(conn) for _ in range(10)}
            # By bytes alone: an hour old would do.
            assert int(row_of(own, 's0/replica1')['lag_ms']) < 3_600_000
    finally:
        for replica in servers[1:]:
            replica.resume_replay()
        own.finish()


def test_a_replica_of_another_cluster_is_not_read(workspace, servers, shoal):
    """L3, N5. Else: after an address was reused reads come from somebody else's rows."""
    stranger = Cluster(workspace, 'stranger').create().start()
    try:
        stranger.sql('CREATE ROLE app LOGIN SUPERUSER', 'CREATE ROLE admin LOGIN', 'CREATE DATABASE app OWNER app')
        own = Shoal(workspace, {'s0': (servers[0], servers[1], stranger)}, name='stranger',
                    users={'admin': {'admin': 'on'}, 'app': {}}, replicas={'lag_check': '50ms'},
                    databases={'app': {'read_consistency': 'eventual'}})
        own.start()
        try:
            wait_until('the stranger to be known', lambda: row_of(own, 's0/replica2')['state'] == 'wrong')
            row = row_of(own, 's0/replica2')
            assert row['state'] == 'wrong' and 'system identifier' in row['why']
            with own.connect() as conn:
                wait_ported(conn, servers[:2])
                assert stranger.port not in {ported(conn) for _ in range(20)}
        finally:
            own.finish()
    finally:
        stranger.stop()


# -- several shards ---------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def two(workspace):
    """Two shards with a replica each: (shoal, [[primary, replica], ...])."""
    made = []
    for name in ('t0', 't1'):
        primary = Cluster(workspace, name, dict(QUICK)).create().start()
        primary.sql('CREATE ROLE app LOGIN SUPERUSER', 'CREATE ROLE admin LOGIN', 'CREATE DATABASE app OWNER app')
        made.append([primary, None])
    for pair in made:
        pair[1] = pair[0].create_replica(f'{pair[0].name}-replica', dict(QUICK)).start()
        pair[0].wait_caught_up(pair[1])
    shoal = Shoal(workspace, {'s0': tuple(made[0]), 's1': tuple(made[1])}, name='two',
                  databases={'app': {'shards': 's0, s1'}}, users={'admin': {'admin': 'on'}, 'app': {'admin': 'on'}},
                  settings={'move_rollback_window': '1s'}, replicas={'lag_check': '50ms', 'max_lag': '600ms'})
    shoal.start()
    try:
        shoal.query('CREATE TABLE spread (id bigint PRIMARY KEY, n int)')
        shoal.query("SELECT shoal.distribute_table('spread', 'id')")
        shoal.query('INSERT INTO spread VALUES ' + ', '.join(f'({i}, {i})' for i in range(200)))
        wait_until('replicas to have it', lambda: all(
            row['lag_bytes'] in (None, '0') and not row['why'] for row in shoal.console('SHOW REPLICAS')), 20)
        yield shoal, made
    finally:
        shoal.finish()
        for pair in made:
            for server in pair:
                server.thaw()
                server.stop()


def seen_ports(conn, sql="SELECT DISTINCT current_setting('port') FROM spread"):
    return {int(row[0]) for row in conn.query(sql)}


def test_scatters_go_to_replicas_under_the_same_rules(two):
    """Else: the heaviest reads of all stay on the primaries."""
    shoal, made = two
    replicas, primaries = {pair[1].port for pair in made}, {pair[0].port for pair in made}
    with shoal.connect() as conn:
        assert seen_ports(conn) == primaries
        conn.query("SET shoal.read_consistency = 'eventual'")
        wait_until('both legs to go to replicas', lambda: seen_ports(conn) == replicas)
        assert conn.query('SELECT count(*), sum(n) FROM spread') == [['200', '19900']]
        assert conn.query('SELECT id FROM spread ORDER BY id DESC LIMIT 2') == [['199'], ['198']]
        assert seen_ports(conn, "SELECT current_setting('port') FROM spread FOR UPDATE") == primaries
        conn.query("SET shoal.read_consistency = 'session'")
        conn.query('UPDATE spread SET n = n + 1')
        assert conn.query('SELECT sum(n) FROM spread') == [['20100']]
        conn.query('UPDATE spread SET n = n - 1')


def test_a_leg_that_fails_on_a_replica_runs_on_its_primary(two):
    """Else: a table that is not replayed yet, or a standby that dies, fails what touches all shards."""
    shoal, made = two
    with shoal.connect() as conn:
        conn.query("SET shoal.read_consistency = 'eventual'")
        made[1][1].pause_replay()
        try:
            conn.query('CREATE TABLE late (id bigint PRIMARY KEY)')
            conn.query("SELECT shoal.distribute_table('late', 'id')")
            conn.query('INSERT INTO late VALUES (1), (2), (3), (4), (5), (6)')
            made[0][0].wait_caught_up(made[0][1])
            assert conn.query('SELECT count(*) FROM late') == [['6']]
        finally:
            made[1][1].resume_replay()
        conn.query('DROP TABLE late')
        made[0][1].kill9()
        try:
            for _ in range(30):
                assert conn.query('SELECT count(*) FROM spread') == [['200']]
        finally:
            made[0][1].start()
            wait_until('it to be back', lambda: all(row['state'] == 'up' for row in shoal.console('SHOW REPLICAS')))
            # Its breaker has opened, and lets reads through again one by one.
            wait_until('reads to go there again', lambda: all(
                seen_ports(conn) == {pair[1].port for pair in made} for _ in range(5)), 30)


def test_a_leg_that_is_not_tried_again_says_why(two):
    """Else: one shard's conflict fails a report, and nothing tells which setting would let it run again."""
    shoal, made = two
    for primary, replica in made:
        primary.sql("""CREATE FUNCTION conflict(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
            IF pg_is_in_recovery() THEN RAISE 'in the way' USING ERRCODE = '40001'; END IF; RETURN n; END $$""",
                    database='app', user='app')
        primary.wait_caught_up(replica)
    with shoal.connect() as conn:
        conn.query("SET shoal.read_consistency = 'eventual'")
        asked = 'SELECT sum(n) FROM spread WHERE conflict(n) = n'
        reruns = sum(int(row['reruns']) for row in shoal.console('SHOW REPLICAS'))
        wait_until('legs to run again', lambda: conn.query(asked) == [['19900']] and
                   sum(int(row['reruns']) for row in shoal.console('SHOW REPLICAS')) > reruns)
        shoal.reload(lag_check='50ms', max_lag='600ms', retry_max='0')

        def failed():
            try:
                conn.query(asked)
            except PgError as err:
                return err
        try:
            err = wait_until('the budget to be spent', failed)
            assert err.code == '40001' and 'The read was tried 1 time, last on s' in err['D'], err
            assert 'retry_max (it is 0 percent of reads)' in err['H'], err
        finally:
            shoal.reload(lag_check='50ms', max_lag='600ms')


def test_a_replica_without_the_rows_of_a_move_answers_nothing(two):
    """Else: after rebalancing, rows are gone for those who read on a replica that has not got them yet."""
    shoal, made = two
    replicas, late = {pair[1].port for pair in made}, made[1][1].port
    wishes = ("SET shoal.read_consistency = 'eventual'", "SET shoal.read_consistency = 'session'",
              "SET shoal.read_consistency = 'bounded'; SET shoal.max_lag = '1h'")  # the late one is within each of these
    asked = "SELECT current_setting('port'), n FROM spread WHERE id = {}"

    def where(conn):
        return {key: int(conn.query(asked.format(key))[0][0]) for key in range(200)}

    with contextlib.ExitStack() as stack:
        strong, *readers = [stack.enter_context(shoal.connect(timeout_s=60)) for _ in range(4)]
        for conn, wish in zip(readers, wishes):
            for one in wish.split('; '):
                conn.query(one)
            wait_until('replicas to answer', lambda: seen_ports(conn) == replicas)
        before = where(strong)
        made[1][1].pause_replay()
        try:
            number = int(shoal.console('MOVE 0-255 TO s1')[0]['move'])

            def over():
                for conn in readers:
                    assert conn.query('SELECT count(*), sum(n) FROM spread') == [['200', '19900']]
                state = {int(row['id']): row for row in shoal.console('SHOW MOVES')}[number]['state']
                assert state != 'failed'
                return state in ('switched', 'finishing', 'done')
            wait_until('the move', over, 120)
            moved = [key for key, port in where(strong).items() if port != before[key]]
            assert moved and {before[key] for key in moved} == {made[0][0].port}, moved
            for conn in readers:
                for key in moved:
                    assert conn.query(asked.format(key)) == [[str(made[1][0].port), str(key)]], key
                assert late not in seen_ports(conn)
        finally:
            made[1][1].resume_replay()
        for conn in readers:
            wait_until('replicas to answer again', lambda: seen_ports(conn) == replicas)
            for key in moved:
                wait_until('those of the new shard, too', lambda: conn.query(asked.format(key)) == [[str(late), str(key)]])


def test_set_local_counts_for_one_transaction(two):
    """Else: the setting of one request's transaction is that of the next one's."""
    shoal, made = two
    replicas, primaries = {pair[1].port for pair in made}, {pair[0].port for pair in made}
    where = "SELECT current_setting('port') FROM spread WHERE id = 7"
    with shoal.connect() as conn:
        def goes():
            conn.query('ROLLBACK')
            conn.query('BEGIN READ ONLY')
            conn.query("SET LOCAL shoal.read_consistency = 'eventual'")
            return seen_ports(conn, where) <= replicas
        wait_until('the transaction to go to a replica', goes)
        with pytest.raises(PgError) as err:
            conn.query("SET LOCAL shoal.read_consistency = 'strong'")
        assert err.value.code == '25001'
        conn.query('ROLLBACK')
        conn.query('BEGIN READ ONLY')
        assert seen_ports(conn, where) <= primaries
        conn.query('COMMIT')
        assert conn.query('SHOW shoal.read_consistency') == [['default']]
        seen = conn.exchange(query("SET LOCAL shoal.max_lag = '1s'"))
        assert [m.type for m in seen] == ['N', 'C', 'Z']


def test_a_read_only_transaction_of_several_shards_stays_on_replicas(two):
    shoal, made = two
    replicas = {pair[1].port for pair in made}
    with shoal.connect() as conn:
        conn.query("SET shoal.read_consistency = 'eventual'")

        def stays():
            conn.query('BEGIN READ ONLY')
            seen = set()
            for key in range(12):
                seen |= seen_ports(conn, f"SELECT current_setting('port') FROM spread WHERE id = {key}")
            conn.query('COMMIT')
            assert len(seen) == 2
            return seen == replicas
        wait_until('both to be replicas', stays)
