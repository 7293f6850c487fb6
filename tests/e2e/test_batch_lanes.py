"""Statements that cannot become one: behind each other on one connection, writes with one commit; profiles and hints.

Tier C sends several clients' originals behind each other, one Sync each. Shared commits send single-row
writes of several clients between one BEGIN and one COMMIT. Both must look as if each had been alone.
"""
import threading
import time

import pytest

from tests.support.cluster import wait_until
from tests.support.differential import difference
from tests.support.shoal import Shoal
from tests.support.wire import (CLOSED, Closed, PgError, bind, describe, errors_of, execute, parse, query, rows_of, sync)

CLIENTS = 48
SCHEMA = [
    'CREATE TABLE items (id int PRIMARY KEY, name text, small int)',
    "INSERT INTO items SELECT g, 'item ' || g, g % 10 FROM generate_series(1, 2000) g",
    'CREATE TABLE accounts (id int PRIMARY KEY, n int NOT NULL DEFAULT 0 CHECK (n < 1000000), note text UNIQUE)',
    'INSERT INTO accounts SELECT g FROM generate_series(1, 1000) g',
    'CREATE TABLE log (id bigserial PRIMARY KEY, client int, turn int, UNIQUE (client, turn))',
    'CREATE TABLE children (id int PRIMARY KEY, account int REFERENCES accounts DEFERRABLE INITIALLY DEFERRED)',
    'CREATE TABLE watched (id int PRIMARY KEY, n int)',
    'INSERT INTO watched SELECT g, 0 FROM generate_series(1, 100) g',
    'CREATE TABLE seen (txid bigint)',
    "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN INSERT INTO seen VALUES (txid_current()); RETURN NULL; END'",
    'CREATE TRIGGER watch AFTER UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION watch()',
    'CREATE FUNCTION nap(float8) RETURNS int STABLE LANGUAGE plpgsql AS '
    "'BEGIN PERFORM pg_sleep($1); RETURN 1; END'",
    'CREATE TABLE naps (id int PRIMARY KEY, s float8)',
    'INSERT INTO naps SELECT g, 0 FROM generate_series(1, 100) g',
    'CREATE TABLE ranked (id int PRIMARY KEY, v text)',
    "INSERT INTO ranked SELECT g, 'v' || g FROM generate_series(1, 500) g",
    'ANALYZE']


@pytest.fixture(scope='module')
def solo_schema():
    return SCHEMA


@pytest.fixture(scope='module')
def shoal(workspace, clusters, shoal_users):
    databases = {'solo': {'shards': 's0', 'pool_size': '3', 'profile': 'latency'}}
    tables = {name: {'database': 'solo', 'batch_writes': 'on'}
              for name in ('accounts', 'log', 'children', 'watched')}
    tables['ranked'] = {'database': 'solo', 'profile': 'mine'}
    users = dict(shoal_users, other={'profile': 'throughput'})
    shoal = Shoal(workspace, {'s0': clusters[0]}, databases=databases, users=users, tables=tables)
    shoal.write_ini(shoal.ini_text() + '\n[profile mine]\nbatch_max = 7\n[profile none]\nbatch = off\n'
                                       '[application nightly]\nprofile = none\n')
    shoal.start()
    try:
        yield shoal
    finally:
        shoal.finish()


def stat(shoal, name):
    return {row['name']: int(row['value']) for row in shoal.console('SHOW STATS')}[name]


def rows_for(shoal, text):
    return [row for row in shoal.console('SHOW BATCHES') if text in row['template']]


def close(conns):
    for conn in conns:
        conn.close()


def warm(shoal, *statements):
    """Until they are known to be fast, statements travel alone."""
    with shoal.connect('solo') as conn:
        for sql in statements:
            for _ in range(12):
                conn.exchange(query(sql))


# -- tier C -------------------------------------------------------------------------------------------

ODD = ['SELECT id FROM items WHERE id = {0} UNION SELECT {0} + 1 ORDER BY 1',
       'WITH w AS (SELECT * FROM items WHERE small = 3) SELECT count(*) FROM w WHERE id < {0}',
       'SELECT name FROM items WHERE name = \'item {0}\' OR id = {0}',
       'SELECT {0}, now() IS NOT NULL',
       'SELECT 10 / ({0} - {0} % 7), name FROM items WHERE id < 3 ORDER BY id',
       'VALUES ({0}), (2)',
       'SELECT g FROM generate_series(1, {0} % 5) g']


def test_originals_behind_each_other(shoal, direct):
    # C: statements of several clients on one connection answer each other's rows, or in the wrong form.
    warm(shoal, *[sql.format(5) for sql in ODD])
    conns = [shoal.connect('solo', timeout_s=60) for _ in range(CLIENTS)]
    plain = [direct.connect('solo') for _ in range(CLIENTS)]
    before, pipelines = stat(shoal, 'pipelined_statements'), stat(shoal, 'pipelines')
    def travelled():
        return stat(shoal, 'pipelined_statements') - before, stat(shoal, 'pipelines') - pipelines

    for turn in range(400):  # on a busy machine few of them are fast, and travel
        if turn >= 40 and travelled()[0] > 300:
            break
        datas = [query(ODD[(turn + n) % len(ODD)].format(turn * 50 + n)) for n in range(CLIENTS)]
        if turn % 2:
            datas = [parse('', ODD[(turn + n) % len(ODD)].format('$1::int' if '\'' not in ODD[(turn + n) % len(ODD)]
                                                                 else str(n)))
                     + bind('', '', [str(n)] if '\'' not in ODD[(turn + n) % len(ODD)] else [])
                     + describe('P') + execute() + sync() for n in range(CLIENTS)]
        for conn, data in zip(conns, datas):
            conn.send(data)
        for ours, theirs, data in zip(conns, plain, datas):
            found = difference(theirs.exchange(data), ours.until('Z'))
            assert found is None, f'{data!r}\n{found}'
    members, runs = travelled()
    assert members > 300 and runs * 2 <= members, (members, runs)
    close(conns + plain)


def test_nobody_waits_behind_a_slow_one(shoal, direct):
    # C: fast statements wait for a slow one that happened to be in front of them.
    sql = 'SELECT nap(s) + {0} FROM naps WHERE id = {0} UNION SELECT 0'
    quick = 'SELECT {0} UNION SELECT 0 ORDER BY 1'
    warm(shoal, sql.format(1), quick.format(1))
    conns = [shoal.connect('solo', timeout_s=60) for _ in range(12)]
    direct.query('UPDATE naps SET s = 15 WHERE id = 7', 'solo')
    started = time.monotonic()
    for n, conn in enumerate(conns):  # three connections: somebody is behind the slow one
        conn.send(query(sql.format(7) if n == 0 else quick.format(n)))
    for n, conn in enumerate(conns[1:], 1):
        assert rows_of(conn.until('Z')) == [[b'0'], [str(n).encode()]]
    assert time.monotonic() - started < 10
    conns[0].cancel()
    assert errors_of(conns[0].until('Z'))[0].code == '57014'
    direct.query('UPDATE naps SET s = 0 WHERE id = 7', 'solo')
    close(conns)


def test_cancel_in_a_convoy(shoal, direct):
    # 16: a cancel in tier C hits the statement of another client.
    sql = 'SELECT nap(s) + {0} FROM naps WHERE id = {0} UNION SELECT 1'
    direct.query('UPDATE naps SET s = 0', 'solo')
    warm(shoal, sql.format(1))
    conns = [shoal.connect('solo', timeout_s=60) for _ in range(24)]
    for turn in range(10):
        slow = turn % 3 == 0
        if slow:
            direct.query('UPDATE naps SET s = 0.3 WHERE id = 5', 'solo')
        for n, conn in enumerate(conns):
            conn.send(query(sql.format(5 if n == turn else 20 + n)))
        conns[turn].cancel()
        for n, conn in enumerate(conns):
            seen = conn.until('Z')
            errors = errors_of(seen)
            assert not errors or (n == turn and errors[0].code == '57014'), (n, turn, errors)
            assert errors or sorted(rows_of(seen)) == sorted([[b'1'], [str(1 + (5 if n == turn else 20 + n)).encode()]])
        if slow:
            direct.query('UPDATE naps SET s = 0', 'solo')
            warm(shoal, sql.format(1))
    close(conns)


def test_members_die_in_a_convoy(shoal):
    # C: a client that dies takes those behind it along, or they get its answer.
    warm(shoal, ODD[0].format(1))
    conns = [shoal.connect('solo', timeout_s=60) for _ in range(CLIENTS)]
    for turn in range(20):
        for n, conn in enumerate(conns):
            conn.send(query(ODD[0].format(100 * turn + n + 1)))
        victims = [(turn + k * 7) % CLIENTS for k in range(5)]
        for victim in victims:
            conns[victim].abort()
        for n, conn in enumerate(conns):
            if n not in victims:
                k = 100 * turn + n + 1
                want = [[str(k).encode()], [str(k + 1).encode()]] if k <= 2000 else [[str(k + 1).encode()]]
                assert rows_of(conn.until('Z')) == want
        for victim in set(victims):
            conns[victim] = shoal.connect('solo', timeout_s=60)
    close(conns)


def test_a_server_connection_dies_under_a_convoy(shoal, clusters):
    # C, P10: reads that nobody has heard anything of are lost although they could run again.
    warm(shoal, ODD[0].format(1))
    conns = [shoal.connect('solo', timeout_s=60) for _ in range(CLIENTS)]
    lost = 0
    for turn in range(15):
        for n, conn in enumerate(conns):
            conn.send(query(ODD[0].format(n + 1)))
        if turn % 3 == 0:
            clusters[0].query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'solo' "
                              "AND application_name = 'shoal'")
        for n, conn in enumerate(conns):
            seen = conn.until('Z')
            lost += bool(errors_of(seen))
            assert all(err.code == '08006' for err in errors_of(seen))
            assert errors_of(seen) or rows_of(seen) == [[str(n + 1).encode()], [str(n + 2).encode()]]
    assert lost < 40  # of 240 that were under way; those that were already running again when it happened
    close(conns)


def test_volatile_statements_stay_alone(shoal, direct):
    # C: what may run twice (when the one before it is slow) must not count.
    direct.query('CREATE SEQUENCE IF NOT EXISTS ticks', 'solo')
    conns = [shoal.connect('solo') for _ in range(CLIENTS)]
    drawn = []
    for _ in range(10):
        for conn in conns:
            conn.send(query("SELECT nextval('ticks') UNION SELECT 0 ORDER BY 1 DESC"))
        drawn += [int(rows_of(conn.until('Z'))[0][0]) for conn in conns]
    assert sorted(drawn) == list(range(1, 10 * CLIENTS + 1))
    close(conns)


# -- shared commits -----------------------------------------------------------------------------------

def work(shoal, clients, turns, make, check=None):
    """Threads that write and read; what they found wrong."""
    wrong = []

    def run(number):
        try:
            with shoal.connect('solo', timeout_s=60) as conn:
                for turn in range(turns):
                    make(conn, number, turn, wrong)
        except (Closed, PgError, AssertionError) as err:
            wrong.append((number, repr(err)))
    threads = [threading.Thread(target=run, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def test_writes_share_commits(shoal, direct):
    # An increment is lost or made twice; a client does not see what it has written.
    direct.query('UPDATE accounts SET n = 0', 'solo')

    def make(conn, number, turn, wrong):
        seen = conn.exchange(query(f'UPDATE accounts SET n = n + 1 WHERE id = {number % 20 + 1}'))
        if [m.body for m in seen if m.type == 'C'] != [b'UPDATE 1\0']:
            wrong.append((number, turn, seen))
        [[n]] = conn.query(f'SELECT n FROM accounts WHERE id = {number % 20 + 1}')
        own.setdefault(number, 0)
        if int(n) <= own[number]:
            wrong.append((number, turn, n))
        own[number] = int(n)
    own = {}
    before, commits = stat(shoal, 'batched_writes'), stat(shoal, 'write_commits')
    assert work(shoal, 40, 25, make) == []
    assert direct.query('SELECT sum(n), max(n), count(*) FROM accounts WHERE id <= 20', 'solo') == [['1000', '50', '20']]
    writes, commits = stat(shoal, 'batched_writes') - before, stat(shoal, 'write_commits') - commits
    assert writes > 200 and commits * 2 <= writes, (writes, commits)


def test_only_the_guilty_write_fails(shoal, direct):
    # 14: a duplicate key, a violated CHECK or a deferred foreign key rolls back the writes of others.
    direct.query('DELETE FROM children; DELETE FROM log', 'solo')
    bad = {}

    def make(conn, number, turn, wrong):
        guilty = (number + turn) % 8 == 0
        kind = turn % 3
        if kind == 0:
            key = (0, 0) if guilty else (number, turn)
            sql = f'INSERT INTO log (client, turn) VALUES ({key[0]}, {key[1]}) RETURNING client, turn'
            want, code = [[str(key[0]), str(key[1])]], '23505'
        elif kind == 1:
            sql = f'UPDATE accounts SET n = {2000000 if guilty else turn} WHERE id = {number + 100}'
            want, code = [], '23514'
        else:
            sql = f'INSERT INTO children VALUES ({number * 100 + turn}, {99999 if guilty else number + 1})'
            want, code = [], '23503'
        try:
            rows = conn.query(sql)
            if rows != want or (guilty and (kind or bad.setdefault('first', number) != number)):
                wrong.append((number, turn, sql, rows))
        except PgError as err:
            if not guilty or err.code != code:
                wrong.append((number, turn, sql, err))
    failed = stat(shoal, 'write_commits_failed')
    assert work(shoal, 32, 24, make) == []
    assert stat(shoal, 'write_commits_failed') > failed
    good = sum(1 for n in range(32) for t in range(0, 24, 3) if (n + t) % 8)
    assert direct.query('SELECT count(*) FROM log WHERE (client, turn) <> (0, 0)', 'solo') == [[str(good)]]
    good = sum(1 for n in range(32) for t in range(2, 24, 3) if (n + t) % 8)
    assert direct.query('SELECT count(*) FROM children', 'solo') == [[str(good)]]


def test_each_write_is_durable_when_acknowledged(shoal, clusters):
    # A write is acknowledged before its commit: it must be there for others at that moment.
    other = clusters[0].connect('solo')
    lock = threading.Lock()

    def make(conn, number, turn, wrong):
        conn.query(f'UPDATE accounts SET n = {turn + 1} WHERE id = {number + 200}')
        with lock:
            if other.query(f'SELECT n FROM accounts WHERE id = {number + 200}') != [[str(turn + 1)]]:
                wrong.append((number, turn))
    assert work(shoal, 24, 25, make) == []
    other.close()


def test_a_lock_is_waited_for_alone(shoal, direct):
    # A row locked by a long transaction makes everybody wait who writes to the table.
    holder = direct.connect('solo')
    holder.query('BEGIN')
    holder.query('SELECT * FROM accounts WHERE id = 300 FOR UPDATE')
    conns = [shoal.connect('solo', timeout_s=30) for _ in range(12)]
    started = time.monotonic()
    for n, conn in enumerate(conns):
        conn.send(query(f'UPDATE accounts SET n = 5 WHERE id = {300 + n}'))
    for conn in conns[1:]:
        assert not errors_of(conn.until('Z'))
    assert time.monotonic() - started < 25  # holder has not let go: nobody needed it to
    holder.query('COMMIT')
    assert not errors_of(conns[0].until('Z'))
    holder.close()
    close(conns)


def test_hot_rows_do_not_deadlock(shoal, clusters):
    # Two commits take the same rows in another order, and wait for each other for a second.
    import random

    def make(conn, number, turn, wrong):
        rng = random.Random(number * 1000 + turn)
        k = rng.randrange(400, 410)
        if turn % 2:
            conn.query(f'UPDATE accounts SET n = n + 1 WHERE id = {k}')
        else:
            conn.execute('UPDATE accounts SET n = n + 1 WHERE id = $1', [str(k)])
    deadlocks = clusters[0].query("SELECT deadlocks FROM pg_stat_database WHERE datname = 'solo'")
    assert work(shoal, 32, 30, make) == []
    assert clusters[0].query("SELECT deadlocks FROM pg_stat_database WHERE datname = 'solo'") == deadlocks
    assert clusters[0].query('SELECT sum(n) FROM accounts WHERE id BETWEEN 400 AND 409', 'solo') == [['960']]


def test_triggers_keep_their_transaction(shoal, direct):
    # A trigger that looks at its transaction sees that of others.
    def make(conn, number, turn, wrong):
        conn.query(f'UPDATE watched SET n = n + 1 WHERE id = {number + 1}')
    assert work(shoal, 16, 10, make) == []
    assert direct.query('SELECT count(*), count(DISTINCT txid) FROM seen', 'solo') == [['160', '160']]


def test_order_of_one_client(shoal, direct):
    # Writes that one client has pipelined, and its reads between them, change places.
    conns = [shoal.connect('solo', timeout_s=60) for _ in range(16)]
    data = [b''.join(query(f'UPDATE accounts SET n = {turn} WHERE id = {n + 500}') +
                     query(f'SELECT n FROM accounts WHERE id = {n + 500}') for turn in range(1, 11)) for n in range(16)]
    for conn, each in zip(conns, data):
        conn.send(each)
    for conn in conns:
        seen = conn.until('Z', 20)
        assert not errors_of(seen)
        assert rows_of(seen) == [[str(turn).encode()] for turn in range(1, 11)]
    close(conns)


def test_writers_die_and_servers_too(shoal, clusters, direct):
    # After a loss a write is made twice, or told to have succeeded when it was not.
    direct.query('UPDATE accounts SET n = 0 WHERE id BETWEEN 600 AND 631', 'solo')
    sure, maybe, stop = [0] * 32, [0] * 32, threading.Event()

    def run(number):
        while not stop.is_set():
            try:
                with shoal.connect('solo', timeout_s=60) as conn:
                    for turn in range(20):
                        conn.send(query(f'UPDATE accounts SET n = n + 1 WHERE id = {600 + number}'))
                        if turn == 13 and number % 4 == 0:
                            maybe[number] += 1
                            conn.abort()
                            break
                        seen = conn.until('Z')
                        if errors_of(seen) or seen[-1] == CLOSED:
                            maybe[number] += 1
                        else:
                            sure[number] += 1
            except (OSError, Closed, PgError):
                pass
    threads = [threading.Thread(target=run, args=(n,)) for n in range(32)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        time.sleep(0.25)
        clusters[0].query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'solo' "
                          "AND application_name = 'shoal' AND pid <> pg_backend_pid()")
    stop.set()
    for thread in threads:
        thread.join()
    time.sleep(0.2)
    rows = direct.query('SELECT n FROM accounts WHERE id BETWEEN 600 AND 631 ORDER BY id', 'solo')
    for number, [n] in enumerate(rows):
        assert sure[number] <= int(n) <= sure[number] + maybe[number], number
    assert sum(sure) > 100


# -- profiles and hints ---------------------------------------------------------------------------------

def burst(shoal, conns, sql):
    for _ in range(4):
        for n, conn in enumerate(conns):
            conn.send(query(sql.format(n + 1)))
        for conn in conns:
            assert not errors_of(conn.until('Z'))


def test_profiles(shoal):
    # A profile that was assigned is not the one that is used.
    conns = [shoal.connect('solo') for _ in range(CLIENTS)]
    burst(shoal, conns, 'SELECT v FROM ranked WHERE id = {0}')  # by table: at most 7
    [row] = rows_for(shoal, 'FROM ranked')
    assert 2 <= int(row['size_max']) <= 7
    burst(shoal, conns, 'SELECT name, 1 FROM items WHERE id = {0}')  # by database: latency, at most 50
    [row] = rows_for(shoal, 'SELECT name, ? FROM items')
    assert int(row['size_max']) > 7
    burst(shoal, conns, '/* shoal: profile=mine */ SELECT name, 2, 2 FROM items WHERE id = {0}')  # by hint
    [row] = rows_for(shoal, 'SELECT name, ?, ? FROM items')
    assert 2 <= int(row['size_max']) <= 7
    for conn in conns:  # by application_name: off
        conn.query("SET application_name = 'nightly'")
    burst(shoal, conns, 'SELECT name, 3, 3, 3 FROM items WHERE id = {0}')
    [row] = rows_for(shoal, 'SELECT name, ?, ?, ? FROM items')
    assert row['reason'] == 'off' and int(row['statements']) == 0
    close(conns)


def test_hints_are_no_strings(shoal):
    # A hint inside a string or behind the statement's beginning is obeyed.
    conns = [shoal.connect('solo') for _ in range(CLIENTS)]
    burst(shoal, conns, "SELECT name, '/* shoal: batch=off */' AS a FROM items WHERE id = {0}")
    [row] = rows_for(shoal, 'AS a FROM items')
    assert int(row['statements']) > CLIENTS
    burst(shoal, conns, 'SELECT name AS b /* shoal: batch=off */ FROM items WHERE id = {0}')
    [row] = rows_for(shoal, 'AS b')
    assert int(row['statements']) > CLIENTS
    before = stat(shoal, 'batched_statements')
    burst(shoal, conns, '/* shoal: batch = off */ SELECT name AS c FROM items WHERE id = {0}')
    assert stat(shoal, 'batched_statements') == before
    close(conns)


def test_unknown_profiles_stop_the_start(workspace, clusters):
    # A misspelt profile is silently the default one.
    shoal = Shoal(workspace, {'s0': clusters[0]}, databases={'solo': {'shards': 's0', 'profile': 'latencyy'}},
                  name='wrong')
    shoal.start(wait=False)
    wait_until('shoald to end', lambda: shoal.process.poll() is not None, 20)
    assert 'unknown profile "latencyy"' in shoal.tail()
    shoal.process = None
