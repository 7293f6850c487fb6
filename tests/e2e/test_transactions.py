"""Transactions over several shards: what a client sees, what recovery does, what operators are shown (H57-H68)."""
import random
import shutil
import sqlite3
import threading
import time

import pytest

from tests.support import host
from tests.support.bank import Bank
from tests.support.cluster import wait_until
from tests.support.proxy import Proxy
from tests.support.shoal import Shoal
from tests.support.wire import Closed, PgError, query

pytestmark = pytest.mark.shoal_only


@pytest.fixture(scope='module')
def proxies(clusters):
    made = [Proxy(c.port) for c in clusters]
    yield made
    for proxy in made:
        proxy.close()


@pytest.fixture(scope='module')
def shoal(workspace, clusters, proxies):
    shoal = Shoal(workspace, {'s0': proxies[0], 's1': proxies[1]},
                  databases={'app': {'shards': 's0, s1'}, 'solo': {'shards': 's0'}},
                  users={'admin': {'admin': 'on'}, 'app': {}, 'other': {}},
                  settings={'commit_timeout': '6s', 'recovery_interval': '300ms', 'tcp_user_timeout': '2s'})
    shoal.start()
    yield shoal
    shoal.finish()


@pytest.fixture(scope='module')
def bank(shoal, clusters):
    made = Bank(shoal, clusters)
    for cluster in clusters:
        cluster.sql('CREATE FUNCTION strict() RETURNS trigger LANGUAGE plpgsql AS'
                    " 'BEGIN IF NEW.balance < 0 THEN RAISE EXCEPTION ''overdrawn'' USING ERRCODE = ''23514'';"
                    " END IF; RETURN NULL; END'",
                    'CREATE CONSTRAINT TRIGGER strict AFTER UPDATE ON bank DEFERRABLE INITIALLY DEFERRED'
                    ' FOR EACH ROW EXECUTE FUNCTION strict()', 'GRANT ALL ON bank, ledger TO other',
                    database='app', user='app')
    return made


@pytest.fixture
def conn(shoal, bank):
    with shoal.connect('app', timeout_s=20) as conn:
        yield conn


@pytest.fixture
def ids(bank, rng):
    """An account on each shard."""
    return bank.accounts_on((0, 1), rng)


def balance(bank, k):
    for cluster in bank.clusters:
        for row in cluster.query(f'SELECT balance FROM bank WHERE id = {k}', 'app'):
            return int(row[0])
    return None


def add(conn, k, amount):
    conn.query(f'UPDATE bank SET balance = balance + {amount} WHERE id = {k}')


def code_of(conn, sql):
    with pytest.raises(PgError) as caught:
        conn.query(sql)
    return caught.value


def prefix_of(shoal):
    """What this router's transactions begin with. Its store is locked while it runs: read a copy."""
    copy = shoal.folder / 'copy.db'
    for ending in ('', '-wal'):
        source = shoal.folder / f'shoal.db{ending}'
        if source.exists():
            shutil.copy(source, f'{copy}{ending}')
    with sqlite3.connect(copy) as db:
        facts = dict(db.execute('SELECT name, value FROM fact'))
    return f"shoal_{facts['cluster_id']}_{facts['router_id']}_"


def prepare_by_hand(cluster, gid, k=None, database='app'):
    work = f'UPDATE bank SET balance = balance WHERE id = {k}' if k is not None else \
        f'CREATE TABLE left_over_{random.randrange(10**9)} (a int)'
    with cluster.connect(database, 'app') as conn:
        conn.query('BEGIN')
        conn.query(work)
        conn.query(f"PREPARE TRANSACTION '{gid}'")


def prepared(cluster):
    return {row[0] for row in cluster.query('SELECT gid FROM pg_prepared_xacts')}


def recovery(shoal, name):
    return int({row['name']: row['value'] for row in shoal.console('SHOW RECOVERY')}[name])


# -- what a client sees -----------------------------------------------------------------------------

def test_commit_and_rollback(conn, bank, ids):
    a, b = ids
    before = [balance(bank, k) for k in ids]
    conn.query('BEGIN')
    add(conn, a, -5)
    add(conn, b, 5)
    conn.query('ROLLBACK')
    assert [balance(bank, k) for k in ids] == before
    conn.query('BEGIN')
    add(conn, a, -5)
    add(conn, b, 5)
    conn.query('COMMIT')
    assert [balance(bank, k) for k in ids] == [before[0] - 5, before[1] + 5]
    conn.query('BEGIN')
    add(conn, b, -5)
    add(conn, a, 5)
    conn.query('COMMIT')
    assert all(prepared(c) == set() for c in bank.clusters)


def test_h57_h63_commit_after_an_error_commits_nothing(conn, bank, ids):
    # pgdog#454: the shard that had no error commits. PREPARE in an aborted transaction answers ROLLBACK, too.
    a, b = ids
    before = [balance(bank, k) for k in ids]
    conn.query('BEGIN')
    add(conn, a, -5)
    assert code_of(conn, f'UPDATE bank SET balance = balance / 0 WHERE id = {b}').code == '22012'
    assert code_of(conn, f'SELECT balance FROM bank WHERE id = {a}').code == '25P02'
    seen = conn.exchange(query('COMMIT'))
    assert [m.body for m in seen if m.type == 'C'] == [b'ROLLBACK\0']
    assert [balance(bank, k) for k in ids] == before
    with bank.clusters[0].connect('app', 'app') as raw:  # the fact this guards against
        raw.query('BEGIN')
        code_of(raw, 'SELECT 1/0')
        seen = raw.exchange(query("PREPARE TRANSACTION 'nothing'"))
        assert [m.body for m in seen if m.type == 'C'] == [b'ROLLBACK\0'] and not any(m.type == 'E' for m in seen)


def test_h63_no_shard_joins_what_has_failed(conn, bank, ids):
    # The statement on the second shard runs, and is committed alone.
    before = balance(bank, ids[1])
    conn.query('BEGIN')
    assert code_of(conn, f'SELECT 1/0 FROM bank WHERE id = {ids[0]}').code == '22012'
    assert code_of(conn, f'UPDATE bank SET balance = 0 WHERE id = {ids[1]}').code == '25P02'
    seen = conn.exchange(query('COMMIT'))
    assert [m.body for m in seen if m.type == 'C'] == [b'ROLLBACK\0']
    assert balance(bank, ids[1]) == before


def test_h63_commit_after_a_shard_could_not_be_reached(shoal, conn, bank, clusters, ids):
    # The shard that was reached first knows of no failure: its COMMIT would be half of the transaction.
    before = [balance(bank, k) for k in ids]
    conn.query('BEGIN')
    add(conn, ids[0], -5)
    clusters[1].stop('immediate')
    try:
        code_of(conn, f'UPDATE bank SET balance = balance + 5 WHERE id = {ids[1]}')
        assert conn.status == 'E'
        seen = conn.exchange(query('COMMIT'))
        assert [m.body for m in seen if m.type == 'C'] == [b'ROLLBACK\0'], seen
    finally:
        clusters[1].start()
    assert [balance(bank, k) for k in ids] == before
    wait_until('s1 to be used again', lambda: committed(shoal, ids), 15)


@pytest.mark.parametrize('victim', [0, 1])
def test_h63_a_participant_dies_while_another_one_works(shoal, conn, bank, clusters, ids, victim):
    # Its part is rolled back by its server; what is left must not commit without it.
    before = [balance(bank, k) for k in ids]
    here, there = ids[victim], ids[1 - victim]
    conn.query('BEGIN')
    add(conn, here, -5)
    conn.send(query(f'UPDATE bank SET balance = balance + 5 WHERE id = {there} AND pg_sleep(1) IS NOT NULL'))
    time.sleep(0.4)
    clusters[victim].query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'app'"
                           " AND state = 'idle in transaction'")
    conn.until('Z')
    assert conn.status == 'E'
    seen = conn.exchange(query('COMMIT'))
    assert [m.body for m in seen if m.type == 'C'] == [b'ROLLBACK\0'], seen
    assert [balance(bank, k) for k in ids] == before


def test_savepoints(conn, bank, ids):
    # Work before the savepoint is lost, or work after it stays, on the shard that joined late.
    a, b = ids
    before = [balance(bank, k) for k in ids]
    conn.query('BEGIN')
    add(conn, a, 1)
    conn.query('SAVEPOINT one')
    add(conn, b, 10)
    conn.query('SAVEPOINT two')
    add(conn, a, 100)
    conn.query('ROLLBACK TO one')
    add(conn, b, 1000)
    conn.query('RELEASE one')
    conn.query('COMMIT')
    assert [balance(bank, k) for k in ids] == [before[0] + 1, before[1] + 1000]
    conn.query('BEGIN')
    add(conn, a, -1)
    conn.query('SAVEPOINT s')
    assert code_of(conn, f'UPDATE bank SET balance = balance / 0 WHERE id = {b}').code == '22012'
    conn.query('ROLLBACK TO s')
    add(conn, b, -1000)
    conn.query('COMMIT')
    assert [balance(bank, k) for k in ids] == before


def test_a_failed_transaction_lets_its_locks_go(shoal, conn, bank, ids):
    # PostgreSQL aborts at the error; over shards the others would hold their rows until the client says ROLLBACK.
    a, b = ids
    conn.query('BEGIN')
    add(conn, a, 1)
    assert code_of(conn, f'UPDATE bank SET balance = balance / 0 WHERE id = {b}').code == '22012'
    with shoal.connect('app', timeout_s=30) as other:
        other.query("SET lock_timeout = '20s'")
        add(other, a, 0)
    assert code_of(conn, 'SELECT 1').code == '25P02'
    assert code_of(conn, f'SELECT balance FROM bank WHERE id = {a}').code == '25P02'
    seen = conn.exchange(query('COMMIT'))
    assert [m.body for m in seen if m.type == 'C'] == [b'ROLLBACK\0'] and conn.status == 'I'
    conn.query('BEGIN')
    add(conn, a, 1)
    conn.query('SAVEPOINT s')
    code_of(conn, f'UPDATE bank SET balance = balance / 0 WHERE id = {b}')
    conn.query('ROLLBACK TO s')
    add(conn, a, -1)
    conn.query('COMMIT')


@pytest.mark.parametrize('level', ['read committed', 'repeatable read', 'serializable'])
def test_isolation_levels_reach_every_shard(conn, bank, ids, level):
    # A transaction is serializable on its first shard and read committed on the next.
    conn.query(f'BEGIN ISOLATION LEVEL {level}')
    for k in ids:
        assert conn.query(f"SELECT current_setting('transaction_isolation') FROM bank WHERE id = {k}") == [[level]]
    conn.query('COMMIT')


def test_read_only_over_shards(conn, bank, ids):
    conn.query('BEGIN READ ONLY')
    for k in ids:
        assert len(conn.query(f'SELECT balance FROM bank WHERE id = {k}')) == 1
    assert code_of(conn, f'UPDATE bank SET balance = 0 WHERE id = {ids[1]}').code == '25006'
    conn.query('ROLLBACK')


def test_commit_and_chain(conn, bank, ids):
    a, b = ids
    before = [balance(bank, k) for k in ids]
    conn.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
    add(conn, a, 2)
    add(conn, b, -2)
    conn.query('COMMIT AND CHAIN')
    assert conn.status == 'T'
    assert conn.query(f"SELECT current_setting('transaction_isolation') FROM bank WHERE id = {b}") == [['repeatable read']]
    add(conn, a, -2)
    add(conn, b, 2)
    conn.query('COMMIT')
    assert conn.status == 'I'
    assert [balance(bank, k) for k in ids] == before


@pytest.mark.parametrize('which', [0, 1])
def test_a_deferred_constraint_that_fails_at_prepare(conn, bank, ids, which):
    # The other shard has committed when the check comes.
    before = [balance(bank, k) for k in ids]
    conn.query('BEGIN')
    add(conn, ids[which], -10 ** 6)
    add(conn, ids[1 - which], 10 ** 6)
    err = code_of(conn, 'COMMIT')
    assert err.code == '23514' and 'overdrawn' in str(err)
    assert conn.status == 'I'
    assert [balance(bank, k) for k in ids] == before
    assert all(prepared(c) == set() for c in bank.clusters)


@pytest.fixture
def best_effort(shoal):
    shoal.databases['app']['commit_mode'] = 'one_phase_best_effort'
    shoal.reload()
    yield
    del shoal.databases['app']['commit_mode']
    shoal.reload()


def test_best_effort_commits_one_shard_after_the_other(shoal, best_effort, bank, ids):
    # The operator chose speed: nobody says afterwards that one shard has kept its part and another one has not.
    before = [balance(bank, k) for k in ids]
    codes = []
    with shoal.connect('app', timeout_s=20) as conn:
        conn.query('BEGIN')
        add(conn, ids[0], 1)
        add(conn, ids[1], -1)
        conn.query('COMMIT')
        assert [balance(bank, k) for k in ids] == [before[0] + 1, before[1] - 1]
        add(conn, ids[0], -1)
        add(conn, ids[1], 1)
        for bad, good in ((0, 1), (1, 0)):  # the shard that refuses commits first, or last
            conn.query('BEGIN')
            add(conn, ids[0], -10 ** 6 if bad == 0 else 5)
            add(conn, ids[1], -10 ** 6 if bad == 1 else 5)
            err = code_of(conn, 'COMMIT')
            kept = [balance(bank, k) for k in ids]
            bank.clusters[good].query(f'UPDATE bank SET balance = {before[good]} WHERE id = {ids[good]}', 'app')
            codes.append(err.code)
            assert conn.status == 'I' and kept[bad] == before[bad]
            assert kept[good] == before[good] + (5 if err.code == '08007' else 0), err
            if err.code == '08007':
                assert f'not on shard s{bad}' in str(err) and 'one_phase_best_effort' in str(err.fields), err.fields
    assert sorted(codes) == ['08007', '23514']


def test_a_cancel_while_waiting_on_the_second_shard(shoal, conn, bank, ids):
    a, b = ids
    with shoal.connect('app', timeout_s=20) as holder:
        holder.query('BEGIN')
        add(holder, b, 0)
        conn.query('BEGIN')
        add(conn, a, 1)
        conn.send(query(f'UPDATE bank SET balance = balance + 1 WHERE id = {b}'))
        time.sleep(0.3)
        conn.cancel()
        errors = [m for m in conn.until('Z') if m.type == 'E']
        assert errors and b'57014' in errors[0].body
        conn.query('ROLLBACK')
        holder.query('ROLLBACK')


# -- what a commit costs ------------------------------------------------------------------------------

def synced(clusters):
    """WAL syncs so far. Server processes tell theirs when they end."""
    for cluster in clusters:
        cluster.sql("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                    ' AND pid <> pg_backend_pid()')
    return sum(int(c.query('SELECT wal_sync FROM pg_stat_wal')[0][0]) for c in clusters)


@pytest.fixture
def durable(clusters):
    for cluster in clusters:
        cluster.sql('ALTER SYSTEM SET fsync = on', 'SELECT pg_reload_conf()')
    yield
    for cluster in clusters:
        cluster.sql('ALTER SYSTEM RESET fsync', 'SELECT pg_reload_conf()')


@pytest.mark.parametrize('writers, rounds, syncs', [(1, 1, 1), (2, 3, 3)])
def test_round_trips_and_syncs_of_a_commit(shoal, bank, clusters, proxies, rng, durable, writers, rounds, syncs):
    # Each round trip and each sync more is time that rows stay locked: 3 and 2w - 1 are what we promise.
    count = 30
    ids = bank.accounts_on((0, 1), rng)[:writers]
    before, turned = synced(clusters), 0
    with shoal.connect('app', timeout_s=20) as conn:
        add(conn, ids[0], 0)
        for _ in range(count):
            conn.query('BEGIN')
            for k in ids:
                add(conn, k, 0)
            began = sum(p.turns for p in proxies)
            conn.query('COMMIT')
            turned += sum(p.turns for p in proxies) - began
    assert rounds * count <= turned < (rounds + 1) * count, turned  # recovery looks now and then
    # Forgetting decisions, the control connections and PostgreSQL's own background add some.
    per_commit = (synced(clusters) - before) / count
    assert syncs <= per_commit < syncs + 1, per_commit


# -- deadlocks ---------------------------------------------------------------------------------------

def in_background(conn, sql, result, name):
    def run():
        started = time.monotonic()
        try:
            result[name] = conn.query(sql)
        except (PgError, Closed) as err:
            result[name] = err
            if isinstance(err, PgError):
                conn.query('ROLLBACK')
        result[name + ' took'] = time.monotonic() - started
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_deadlock_over_shards(shoal, conn, bank, ids):
    # Both wait for ever: no server sees the circle.
    a, b = ids
    result = {}
    with shoal.connect('app', timeout_s=20) as other:
        conn.query('BEGIN')
        add(conn, a, 0)
        other.query('BEGIN')
        add(other, b, 0)
        threads = [in_background(conn, f'UPDATE bank SET balance = balance WHERE id = {b}', result, 'conn')]
        rows = wait_until('the wait to be shown', lambda: shoal.console('SHOW LOCKS'), 5)
        assert len(rows) == 1 and rows[0]['shard'] == 's1' and rows[0]['waiter'] and rows[0]['blocker'], rows
        threads.append(in_background(other, f'UPDATE bank SET balance = balance WHERE id = {a}', result, 'other'))
        for thread in threads:
            thread.join(15)
        failed = [name for name in ('conn', 'other') if isinstance(result.get(name), PgError)]
        assert failed == ['other'], result  # the younger one
        err = result['other']
        assert err.code == '40P01' and err.fields['D'].count('blocked by client') == 2, err.fields
        print(f"found after {result['other took']:.2f} s")
        assert result['other took'] < 12, result  # 2 s on a machine that is not busy
        conn.query('ROLLBACK')
    assert any(row['kind'] == 'deadlock' for row in shoal.console('SHOW EVENTS'))


def test_a_deadlock_on_one_shard_stays_postgresqls(shoal, conn, bank, rng):
    a, b = rng.sample(bank.by_shard[0], 2)
    result = {}
    with shoal.connect('app', timeout_s=20) as other:
        for each, k in ((conn, a), (other, b)):
            each.query('BEGIN')
            add(each, k, 0)
        threads = [in_background(conn, f'UPDATE bank SET balance = balance WHERE id = {b}', result, 'conn'),
                   in_background(other, f'UPDATE bank SET balance = balance WHERE id = {a}', result, 'other')]
        for thread in threads:
            thread.join(15)
        errors = [r for r in (result.get('conn'), result.get('other')) if isinstance(r, PgError)]
        assert len(errors) == 1 and errors[0].code == '40P01' and 'process' in errors[0].fields['D'].lower()
        for each in (conn, other):
            each.query('ROLLBACK')


# -- recovery -----------------------------------------------------------------------------------------

def test_h58_what_an_earlier_start_left(shoal, bank, clusters, ids):
    # The decider is read from the name: a router that would rebuild it finds nothing, and hides orphans.
    prefix = prefix_of(shoal)
    commit, abort = f'{prefix}1_900-00000001_s0', f'{prefix}1_901-00000002_s0'
    clusters[0].query(f"SELECT shoal.decide('{commit}')", 'app', 'other')  # as any user may
    prepare_by_hand(clusters[1], commit)
    prepare_by_hand(clusters[1], abort, ids[1])
    bank.wait_settled(10)
    assert clusters[0].query(f"SELECT commit FROM shoal.decision WHERE gid = '{abort}'", 'app') == [['f']]
    err = code_of(clusters[0].connect('app', 'other'), f"SELECT shoal.decide('{abort}')")
    assert err.code == '23505'  # who comes later to commit is too late
    assert recovery(shoal, 'damage') == 0


def test_h59_a_prepare_that_lands_late(shoal, conn, bank, proxies, ids):
    # ROLLBACK PREPARED finds nothing, then the slow PREPARE arrives, and locks its rows for ever.
    before = [balance(bank, k) for k in ids]
    conn.query('BEGIN')
    for k in ids:
        add(conn, k, 7)
    for proxy in proxies:
        proxy.on('PREPARE TRANSACTION', lambda p: time.sleep(8))
    err = code_of(conn, 'COMMIT')
    for proxy in proxies:
        proxy.watches.clear()
    assert err.code[:2] in ('40', '08') and err.code != '08007', err
    time.sleep(3)
    bank.wait_settled(15)
    assert [balance(bank, k) for k in ids] == before


def test_h60_recovery_leaves_live_transactions_alone(shoal, conn, bank, proxies, ids):
    # citus#1030: it rolls back what is just being committed.
    rounds = recovery(shoal, 'rounds')
    before = [balance(bank, k) for k in ids]
    conn.query('BEGIN')
    for k, amount in zip(ids, (3, -3)):
        add(conn, k, amount)
    for proxy in proxies:
        proxy.on('shoal.decide', lambda p: time.sleep(3))
    result = {}
    thread = in_background(conn, 'COMMIT', result, 'commit')
    wait_until('it to be prepared', lambda: any(prepared(c) for c in bank.clusters))
    shown = [row for row in shoal.console('SHOW TRANSACTIONS') if row['state'] == 'active']
    thread.join(15)
    for proxy in proxies:
        proxy.watches.clear()
    assert result['commit'] == [] and len(shown) == 1, (result, shown)
    assert recovery(shoal, 'rounds') > rounds + 2
    assert [balance(bank, k) for k in ids] == [before[0] + 3, before[1] - 3]
    conn.query('BEGIN')
    for k, amount in zip(ids, (-3, 3)):
        add(conn, k, amount)
    conn.query('COMMIT')


def test_h61_what_is_not_ours_is_not_touched(shoal, bank, clusters):
    # citus#6548, SPQR: another application's transactions are ended by a router that has never seen them.
    prefix = prefix_of(shoal)
    cluster_part = '_'.join(prefix.split('_')[:2])
    foreign = ['an application\'\'s', f'{cluster_part}_ffffffff_1_1-00000000_s0', f'{prefix}tail']
    for gid in foreign:
        prepare_by_hand(clusters[1], gid)
    prepare_by_hand(clusters[1], f'{prefix}1_5-0000000a_s0', database='solo')
    time.sleep(2)
    assert len(prepared(clusters[1])) == 4
    states = {row['gid']: row['state'] for row in shoal.console('SHOW TRANSACTIONS')}
    assert sorted(states.values()) == ['foreign', 'foreign', 'other router'], states
    with pytest.raises(PgError) as caught:
        shoal.console('RESOLVE "an application\'s" COMMIT')
    assert caught.value.code == '22023'
    for gid in foreign:
        clusters[1].query(f"ROLLBACK PREPARED '{gid}'", 'app')
    clusters[1].query(f"ROLLBACK PREPARED '{prefix}1_5-0000000a_s0'", 'solo')


def test_h62_a_shard_that_dies_after_the_decision(shoal, conn, bank, proxies, ids):
    # The client hears COMMIT; what is not yet seen on that shard is shown as such, and comes.
    before = [balance(bank, k) for k in ids]
    conn.query('BEGIN')
    for k, amount in zip(ids, (4, -4)):
        add(conn, k, amount)
    for proxy in proxies:
        proxy.on('COMMIT PREPARED', lambda p: p.blackhole())
    result = {}
    thread = in_background(conn, 'COMMIT', result, 'commit')
    thread.join(25)
    for proxy in proxies:
        proxy.watches.clear()
        proxy.heal()
    assert result['commit'] == [] or getattr(result['commit'], 'code', '') == '08007', result
    bank.wait_settled(15)
    assert [balance(bank, k) for k in ids] == [before[0] + 4, before[1] - 4]
    with shoal.connect('app', timeout_s=20) as again:
        again.query('BEGIN')
        for k, amount in zip(ids, (-4, 4)):
            add(again, k, amount)
        again.query('COMMIT')


def test_h64_decisions_are_forgotten(shoal, conn, bank, ids, clusters):
    # citus#1614: a row for each transaction, for ever.
    for _ in range(20):
        conn.query('BEGIN')
        for k in ids:
            add(conn, k, 0)
        conn.query('COMMIT')
    wait_until('decisions to be forgotten', lambda: all(
        c.query('SELECT count(*) FROM shoal.decision WHERE commit', 'app') == [['0']] for c in clusters), 10)


def test_h65_a_decision_is_durable_whatever_the_client_said(clusters):
    # synchronous_commit = off: the decider forgets in a crash what others have committed because of it.
    with clusters[0].connect('app', 'other') as raw:
        raw.query('SET synchronous_commit = off')
        raw.query('BEGIN')
        raw.query("SELECT shoal.decide('a test of its own')")
        assert raw.query('SHOW synchronous_commit') == [['on']]
        raw.query('ROLLBACK')
        assert raw.query('SHOW synchronous_commit') == [['off']]
        assert code_of(raw, 'SELECT * FROM shoal.decision').code == '42501'


def test_h66_an_end_against_the_decision_is_told(workspace, clusters, proxies, bank, shoal, ids):
    # Somebody commits by hand what was decided to abort: silent, half a transaction stays.
    prefix = prefix_of(shoal)
    shoal.terminate()
    gid = f'{prefix}1_77-00000077_s0'
    clusters[0].query(f"INSERT INTO shoal.decision (gid, commit) VALUES ('{gid}', false)", 'app')
    prepare_by_hand(clusters[1], gid, ids[1])
    start = shoal.log.stat().st_size
    shoal.start(wait=False, failpoint='recovery_finish:sleep:2500')
    try:
        shoal.wait_logged('failpoint recovery_finish', 15, start)
        clusters[1].query(f"COMMIT PREPARED '{gid}'", 'app')
        shoal.wait_ready()
        wait_until('the damage to be found', lambda: recovery(shoal, 'damage') == 1, 10)
        assert any(row['kind'] == 'heuristic' and gid in row['event'] for row in shoal.console('SHOW EVENTS'))
    finally:
        shoal.terminate()
        shoal.start()


def test_h67_a_store_that_cannot_be_written(workspace, clusters, proxies, shoal, bank, ids):
    # Names of transactions are used twice; or the whole router stands still because of its store.
    shoal.terminate()
    shoal.start(failpoint='store_commit:enospc')
    try:
        with shoal.connect('app', timeout_s=20) as conn:
            add(conn, ids[0], 0)
            conn.query('BEGIN')
            for k in ids:
                add(conn, k, 0)
            err = code_of(conn, 'COMMIT')
            assert err.code == '55000' and err.fields['H'], err.fields
        assert all(prepared(c) == set() for c in clusters)
    finally:
        shoal.terminate()
        shoal.start()


def test_resolve(shoal, bank, clusters, proxies, ids):
    # At 3 a.m. an operator ends a transaction against its decision, because nobody has shown it.
    prefix = prefix_of(shoal)
    gid = f'{prefix}1_88-00000088_s0'
    proxies[0].blackhole()
    try:
        wait_until('s0 to be seen as down', lambda: shoal.console('SHOW SHARDS')[0]['state'] == 'down', 15)
        prepare_by_hand(clusters[1], gid, ids[1])
        rows = [r for r in shoal.console('SHOW TRANSACTIONS') if r['gid'] == gid]
        assert rows[0]['state'] == 'in doubt' and rows[0]['decision'] == 'unknown' and rows[0]['decider'] == 's0'
        assert int(rows[0]['locks']) > 0 and rows[0]['shards'] == 's1', rows
        with pytest.raises(PgError) as caught:
            shoal.console(f"RESOLVE '{gid}' ROLLBACK")
        assert caught.value.code == '55000' and 'FORCE' in caught.value.fields['H']
        assert gid in prepared(clusters[1])
        done = shoal.console(f"RESOLVE '{gid}' ROLLBACK FORCE")
        assert done[0]['result'] == 'rolled back' and gid not in prepared(clusters[1])
    finally:
        proxies[0].heal()
    wait_until('s0 to be up', lambda: shoal.console('SHOW SHARDS')[0]['state'] == 'up', 15)
    assert any(row['kind'] == 'in_doubt' and gid in row['event'] for row in shoal.console('SHOW EVENTS'))


def test_two_recoverers_at_once(workspace, shoal, bank, clusters, proxies):
    # Two routers with the same identity (a copied store) end the same transactions in two ways.
    prefix = prefix_of(shoal)
    shoal.terminate()
    count = 12
    twin = Shoal(workspace, {'s0': proxies[0], 's1': proxies[1]}, name='twin', databases=shoal.databases,
                 users=shoal.users, settings={'recovery_interval': '100ms'})
    shutil.copy(shoal.folder / 'shoal.db', twin.folder / 'shoal.db')
    for n in range(count):
        gid = f'{prefix}1_{1000 + n}-0000abcd_s0'
        if n % 2:
            clusters[0].query(f"SELECT shoal.decide('{gid}')", 'app')
        prepare_by_hand(clusters[1], gid)
    try:
        for each in (shoal, twin):
            each.start(wait=False)
        for each in (shoal, twin):
            each.wait_ready()
        bank.wait_settled(10)
        assert [recovery(each, 'damage') for each in (shoal, twin)] == [0, 0]
        ended = sum(recovery(each, name) for each in (shoal, twin) for name in ('committed', 'rolled_back'))
        assert ended == count
    finally:
        twin.finish()


def test_without_prepared_transactions(workspace, clusters, bank, shoal, ids):
    # max_prepared_transactions = 0: the commit fails when all the work is done, with PostgreSQL's words.
    clusters[1].stop('fast')
    clusters[1].configure(max_prepared_transactions='0')
    clusters[1].start()
    try:
        wait_until('Shoal to see it', lambda: [r for r in shoal.console('SHOW SHARDS')
                                               if r['shard'] == 's1' and r['max_prepared_transactions'] == '0'], 15)
        time.sleep(1.5)
        with shoal.connect('app', timeout_s=20) as conn:
            before = [balance(bank, k) for k in ids]
            conn.query('BEGIN')
            add(conn, ids[0], 1)
            with pytest.raises(PgError) as caught:
                add(conn, ids[1], -1)
                conn.query('COMMIT')
            assert caught.value.code in ('55000', '0A000'), caught.value
            assert 'max_prepared_transactions' in str(caught.value.fields), caught.value.fields
            conn.query('ROLLBACK')
            assert [balance(bank, k) for k in ids] == before
    finally:
        clusters[1].stop('fast')
        clusters[1].configure(max_prepared_transactions='20')
        clusters[1].start()
        wait_until('transfers to go through again', lambda: committed(shoal, ids), 15)


def committed(shoal, ids):
    with shoal.connect('app', timeout_s=10) as conn:
        conn.query('BEGIN')
        for k in ids:
            add(conn, k, 0)
        conn.query('COMMIT')
    return True


def test_fairness(shoal, bank, rng):
    # Clients in a crowd of transfers starve: some never get their turn.
    stop = time.monotonic() + (20 if host.LONG else 4)
    done = [0] * 8

    def work(n):
        own = random.Random(f'{host.SEED} fairness {n}')
        with shoal.connect('app', timeout_s=30) as conn:
            while time.monotonic() < stop:
                a, b = sorted(bank.accounts_on((0, 1), own))
                conn.query('BEGIN')
                add(conn, a, 1)
                add(conn, b, -1)
                conn.query('COMMIT')
                conn.query('BEGIN')
                add(conn, a, -1)
                add(conn, b, 1)
                conn.query('COMMIT')
                done[n] += 1
    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(done))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(done) > 0 and max(done) < 10 * min(done) + 10, done
    assert sum(sum(int(r[0]) for r in c.query('SELECT sum(balance) FROM bank', 'app')) for c in bank.clusters) \
        == bank.accounts * 1000


def test_h63_a_failed_transaction_runs_nothing_on_other_shards(conn, bank, rng):
    # A statement for other shards than the one that failed is executed, and COMMIT may keep it.
    a, b = bank.accounts_on((0, 1), rng)
    before = balance(bank, a), balance(bank, b)
    for many in (f'INSERT INTO bank VALUES ({a}, 0), (-77, 0), (-78, 0), (-79, 0)', 'SELECT 1 / count(*) FROM bank WHERE id = -5'):
        for savepoint in (False, True):
            conn.query('BEGIN')
            add(conn, b, 5)
            if savepoint:
                conn.query('SAVEPOINT s')
            code_of(conn, many)
            for sql in (f'UPDATE bank SET balance = 0 WHERE id = {a}', f'UPDATE bank SET balance = 0 WHERE id = {b}', 'SELECT count(*) FROM bank',
                        'INSERT INTO bank VALUES (-80, 0), (-81, 0), (-82, 0), (-83, 0)', 'UPDATE bank SET balance = 0', 'SELECT 1',
                        f'EXPLAIN ANALYZE UPDATE bank SET balance = 0'):
                assert code_of(conn, sql).code == '25P02'
            assert conn.status == 'E'
            conn.query('COMMIT')
            assert (balance(bank, a), balance(bank, b)) == before
            assert conn.query('SELECT count(*) FROM bank WHERE id < 0') == [['0']]
