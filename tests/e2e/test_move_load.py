"""Buckets move there and back while clients work: no error, no wrong answer, no lost write."""
import random
import threading
import time

import pytest

from tests.support import host
from tests.support.cluster import wait_until
from tests.support.moves import Moving, pause_histogram, phase_table
from tests.support.wire import PgError, bind, describe, errors_of, execute, parse, query, rows_of, sync

pytestmark = pytest.mark.shoal_only

CLIENTS = 32
KEYS = 400
ACCOUNTS = 200
KINDS = 8
DDL = ['CREATE TABLE lists(id bigint PRIMARY KEY, v text NOT NULL)',
       'CREATE TABLE facts(id bigint PRIMARY KEY, body text NOT NULL)',
       'CREATE TABLE accounts(id bigint PRIMARY KEY, balance bigint NOT NULL)',
       'CREATE TABLE tickets(owner bigint, id bigserial, PRIMARY KEY (owner, id))',
       "CREATE TYPE mood AS ENUM ('low', 'high')",
       'CREATE TABLE kinds(id int PRIMARY KEY, n bigint NOT NULL, m mood, twice bigint GENERATED ALWAYS AS (n * 2) STORED)',
       'CREATE TABLE t(id int PRIMARY KEY, t text, "row" text, x text, name int, "we""ird Ä" text)',  # names that SQL of ours uses
       'CREATE TABLE titles(id int PRIMARY KEY, kind int REFERENCES kinds(id), body text)',
       "CREATE FUNCTION shout(v text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT upper(v)$$",
       'CREATE VIEW loud AS SELECT id, shout(body) AS body FROM titles']
TABLES = {'lists': 'id', 'facts': 'id', 'accounts': 'id'}


def body_of(key):
    return f'body-{key}-' + 'x' * (key % 50)


@pytest.fixture(scope='module')
def moving(workspace):
    moving = Moving(workspace, 2, DDL, TABLES, spare=1,
                    settings={'move_fence_timeout': '2s', 'query_wait_timeout': '30s'})
    moving.shoal.start()
    with moving.shoal.connect() as conn:
        for table in ('kinds', 'titles', 't'):
            conn.query(f"SELECT shoal.create_reference_table('{table}')")
        conn.query("SELECT shoal.distribute_table('tickets', 'owner')")
        conn.query('INSERT INTO kinds VALUES ' + ', '.join(f"({i}, 0, 'high')" for i in range(KINDS)))
        conn.query("INSERT INTO t SELECT g, 'a' || g, 'b', NULL, g, 'c' FROM generate_series(1, 50) g")
        conn.query('INSERT INTO titles VALUES ' + ', '.join(f"({i}, {i % KINDS}, 'a\tb\\n{i}')" for i in range(300)))
        for key in range(KEYS):
            conn.query(f"INSERT INTO lists VALUES ({key}, '')")
            conn.query(f"INSERT INTO facts VALUES ({key}, '{body_of(key)}')")
        for key in range(ACCOUNTS):
            conn.query(f'INSERT INTO accounts VALUES ({key}, 1000)')
    yield moving
    moving.finish()


class Load:
    """W1 bank, W2 append lists, W3 lookups with a nonce; each in several protocols."""

    def __init__(self, shoal, clients=CLIENTS):
        self.shoal, self.clients = shoal, clients
        self.stop = threading.Event()
        self.errors, self.wrong, self.slowest = [], [], 0.0
        self.referred = [0] * KINDS  # writes to each row of the reference table that were acknowledged
        self.appended = {}   # key -> texts that were acknowledged
        self.done = 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads), 'a client hangs'

    def run(self, number):
        rng = random.Random(f'{host.SEED} {number}')
        work = (self.append, self.append_prepared, self.lookup, self.lookup_pipelined, self.transfer,
                self.transaction, self.refer)[number % 7]
        try:
            with self.shoal.connect(timeout_s=40) as conn:
                if work == self.append_prepared:
                    conn.exchange(parse('app', 'UPDATE lists SET v = v || $1 WHERE id = $2') + sync())
                while not self.stop.is_set():
                    started = time.monotonic()
                    work(conn, rng, number)
                    self.slowest = max(self.slowest, time.monotonic() - started)
                    self.done += 1
                    time.sleep(0.002)
        except (PgError, OSError, AssertionError) as err:
            self.errors.append(f'{work.__name__}: {err!r}')

    # Each list belongs to one client: appends must stand there once, in order.
    def append(self, conn, rng, number):
        key = number + self.clients * rng.randrange(KEYS // self.clients)
        text = f'{number}.{self.done}.{rng.randrange(10**6)};'
        conn.query(f"UPDATE lists SET v = v || '{text}' WHERE id = {key}")
        self.appended.setdefault(key, []).append(text)

    def append_prepared(self, conn, rng, number):
        key = number + self.clients * rng.randrange(KEYS // self.clients)
        text = f'{number}.{self.done}.{rng.randrange(10**6)};'
        seen = conn.exchange(bind('', 'app', [text.encode(), str(key).encode()]) + execute() + sync())
        for err in errors_of(seen):
            raise err
        self.appended.setdefault(key, []).append(text)

    def lookup(self, conn, rng, number):
        key, nonce = rng.randrange(KEYS), rng.randrange(10**9)
        rows = conn.query(f'SELECT body, {nonce} FROM facts WHERE id = {key}')
        if rows != [[body_of(key), str(nonce)]]:
            self.wrong.append((key, rows))

    def lookup_pipelined(self, conn, rng, number):
        keys = [rng.randrange(KEYS) for _ in range(5)]
        data = b''.join(parse('', 'SELECT id, body FROM facts WHERE id = $1') + bind('', '', [str(k).encode()]) +
                        describe('P', '') + execute() + sync() for k in keys)
        seen = conn.exchange(data, ready=5)
        for err in errors_of(seen):
            raise err
        rows = [[cell.decode() for cell in row] for row in rows_of(seen)]
        if rows != [[str(k), body_of(k)] for k in keys]:
            self.wrong.append((keys, rows))

    def transfer(self, conn, rng, number):
        a, b = sorted(rng.sample(range(ACCOUNTS), 2))
        amount = rng.randrange(1, 5)
        conn.query('BEGIN')
        conn.query(f'UPDATE accounts SET balance = balance - {amount} WHERE id = {a}')
        conn.query(f'UPDATE accounts SET balance = balance + {amount} WHERE id = {b}')
        conn.query('COMMIT')

    def refer(self, conn, rng, number):
        kind = number % KINDS
        conn.query(f'UPDATE kinds SET n = n + 1 WHERE id = {kind}')
        with self.lock:
            self.referred[kind] += 1
        rows = conn.query(f'SELECT t.id, k.twice >= 2 FROM titles t JOIN kinds k ON k.id = t.kind WHERE t.id = {kind}')
        if rows != [[str(kind), 't']]:
            self.wrong.append((kind, rows))

    def transaction(self, conn, rng, number):
        key = number + self.clients * rng.randrange(KEYS // self.clients)
        text = f'{number}.{self.done}.{rng.randrange(10**6)};'
        conn.query('BEGIN')
        before = conn.query(f'SELECT v FROM lists WHERE id = {key}')[0][0]
        conn.query(f"UPDATE lists SET v = v || '{text}' WHERE id = {key}")
        after = conn.query(f'SELECT v FROM lists WHERE id = {key}')[0][0]
        conn.query('COMMIT')
        if after != before + text:
            self.wrong.append((key, before[-60:], after[-60:]))
        self.appended.setdefault(key, []).append(text)


def settle(moving, load, appended_before):
    """After the clients have gone: every acknowledged write is there, once, in its place."""
    assert load.errors == [] and load.wrong == []
    moving.check()
    for cluster in moving.joined():
        for key, text in cluster.query('SELECT id, v FROM lists', 'app'):
            mine = load.appended.get(int(key), [])
            assert text == appended_before.get(int(key), '') + ''.join(mine), f'list {key}'
            appended_before[int(key)] = text
    total = sum(int(c.query('SELECT coalesce(sum(balance), 0) FROM accounts', 'app')[0][0])
                for c in moving.joined())
    assert total == 1000 * ACCOUNTS
    kinds = [c.query('SELECT id, n, m, twice FROM kinds ORDER BY id', 'app') for c in moving.joined()]
    assert all(rows == kinds[0] for rows in kinds), kinds
    counted = appended_before.setdefault('kinds', [0] * KINDS)
    for i in range(KINDS):
        counted[i] += load.referred[i]
    assert [int(row[1]) for row in kinds[0]] == counted
    titles = [c.query('SELECT * FROM loud ORDER BY id', 'app') for c in moving.joined()]
    assert len(titles[0]) == 300 and all(rows == titles[0] for rows in titles)
    rows = sorted(int(row[0]) for c in moving.joined() for row in c.query('SELECT id FROM facts', 'app'))
    assert rows == list(range(KEYS))


@pytest.fixture(scope='module')
def lists():
    return {}


def take_numbers(conn, ids):
    for owner in range(60):
        ids.append(conn.query(f'INSERT INTO tickets(owner) VALUES ({owner}) RETURNING id')[0][0])


def test_there_and_back(moving, lists):
    # Clients see errors, wrong rows, or lose writes while buckets move.
    rounds = 6 if host.LONG else 2
    with Load(moving.shoal) as load:
        time.sleep(1)
        for _ in range(rounds):
            for buckets, target in (('0-7', 's1'), ('0-7', 's0')):
                row = moving.wait(moving.move(buckets, target))
                assert row['state'] == 'done', row
                assert not load.errors and not load.wrong, (load.errors[:3], load.wrong[:3])
    settle(moving, load, lists)
    pauses = moving.pauses_ms()
    print(f'\n{load.done} statements, slowest {load.slowest * 1000:.0f} ms, pauses of {len(pauses)} moves:\n'
          + pause_histogram(pauses) + '\n' + phase_table(moving.phases_ms()))
    assert len(pauses) >= 2 * rounds


def test_a_shard_more_and_one_drained(moving, lists):
    # Growing and shrinking the cluster costs an outage.
    ids = []
    with Load(moving.shoal) as load, moving.shoal.connect() as conn:
        take_numbers(conn, ids)
        moving.add_shard(moving.clusters[2])
        assert len({tuple(map(tuple, c.query('SELECT * FROM t ORDER BY id', 'app'))) for c in moving.clusters}) == 1
        for command in ('REBALANCE START', 'REBALANCE START DRAIN s1'):
            plan = moving.shoal.console(command)
            assert plan, command
            rows = moving.wait_all(100)
            assert all(row['state'] == 'done' for row in rows), rows[-2:]
            take_numbers(conn, ids)
    assert len(ids) == len(set(ids)), 'an id was given twice'
    print([row['event'] for row in moving.shoal.console('SHOW EVENTS') if 'held back for' in row['event'] and 'joined' in row['event']])
    settle(moving, load, lists)
    owned = {row['shard']: int(row['buckets']) for row in moving.shoal.console('SHOW MAP')}
    assert owned['s1'] == 0 and abs(owned['s0'] - owned['s2']) <= 1, owned
    assert moving.shoal.console('FSCK') == []
    answer = moving.shoal.console('SHARD REMOVE s1')
    assert 'empty' in answer[0]['next']
    del moving.shoal.shards['s1']
    moving.shoal.write_ini()
    moving.shoal.terminate()
    moving.shoal.start()
    assert {row['shard'] for row in moving.shoal.console('SHOW MAP')} == {'s0', 's2'}
    with moving.shoal.connect() as conn:
        assert conn.query('SELECT body FROM facts WHERE id = 7') == [[body_of(7)]]


def test_a_long_transaction_holds_nobody_up(moving):
    # A forgotten transaction on the source makes everybody wait for as long as it likes.
    source = next(row['shard'] for row in moving.shoal.console('SHOW MAP') if row['buckets'] != '0')
    owners = moving.owners()
    target = next(s for s in set(owners.values()) if s != source)
    bucket = next(b for b, owner in owners.items() if owner == source)
    key = next(k for k in range(KEYS) if moving.owners()[int(moving.clusters[0].query(
        f'SELECT {moving.bucket_sql(str(k) + "::bigint")}')[0][0])] == source)
    with moving.shoal.connect() as holder, moving.shoal.connect() as other:
        holder.query('BEGIN')
        holder.query(f"UPDATE lists SET v = v WHERE id = {key}")
        number = moving.move(str(bucket), target)
        deadline, slowest = time.monotonic() + 8, 0.0
        while time.monotonic() < deadline:
            started = time.monotonic()
            other.query(f'SELECT body FROM facts WHERE id = {key}')
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.05)
        assert moving.state(number)['state'] == 'moving'
        assert slowest < 4, slowest  # move_fence_timeout is 2 s
        holder.query('COMMIT')
    assert moving.wait(number)['state'] == 'done'
    moving.check()


def test_it_gives_way(moving):
    # A move takes the last of what an overloaded server has.
    owners = moving.owners()
    bucket, source = next(iter(owners.items()))
    target = next(s for s in moving.shoal.shards if s != source)
    cluster = moving.shoal.shards[source][0]
    moving.shoal.settings['move_load_max'] = 4
    moving.shoal.write_ini()
    moving.shoal.console('RELOAD')

    def work():
        try:
            with cluster.connect('app', timeout_s=200) as conn:
                conn.query('SELECT pg_sleep(180)')
        except (PgError, OSError, AssertionError):
            pass  # it is ended below

    sleepers = [threading.Thread(target=work, daemon=True) for _ in range(6)]
    for sleeper in sleepers:
        sleeper.start()
    asleep = "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(180)'"
    try:
        wait_until('the server to be busy', lambda: len(cluster.query(asleep)) == 6, 60)
        number = moving.move(str(bucket), target)
        wait_until('the move to pause', lambda: (moving.state(number)['reason'] or '').startswith('pauses: '), 60)
        wait_until('all else to be done', lambda: moving.state(number)['step'] in ('copy', 'catch_up'), 60)
        assert moving.state(number)['state'] == 'moving' and moving.owners()[bucket] == source
    finally:
        cluster.query(f'SELECT pg_terminate_backend(pid) FROM ({asleep}) s')
        for sleeper in sleepers:
            sleeper.join(60)
    assert moving.wait(number)['state'] == 'done'
    events = ' '.join(row['event'] for row in moving.shoal.console('SHOW EVENTS'))
    assert f'move {number} pauses: ' in events and f'move {number} goes on: ' in events
    del moving.shoal.settings['move_load_max']
    moving.shoal.write_ini()
    moving.shoal.console('RELOAD')
    moving.check()
