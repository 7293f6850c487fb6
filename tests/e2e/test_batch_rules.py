"""The 21 rules of batching: one test each, and each seen to fail when its rule is taken out.

Every test runs twice, against two shoalds of the same build: as they are, and with SHOAL_WITHOUT_RULE=n, which
takes rule n out (batcher/without.h; only in builds with failpoints). A test that holds without its rule tests
nothing. Proofs are off here: they would find most of it and make it good.
"""
import os
import threading
import time

import pytest

from tests.support.cluster import wait_until
from tests.support.shoal import Shoal
from tests.support.wire import (bind, describe, errors_of, execute, parse, query, rows_of, sync)

CLIENTS = 32
SCHEMA = [
    'CREATE TABLE items (id int PRIMARY KEY, name text, n int, at timestamptz)',
    "INSERT INTO items SELECT g, 'item ' || g, g, '2020-01-01 12:00:00+00' FROM generate_series(1, 1000) g",
    'CREATE TABLE codes (code text PRIMARY KEY, n int)',
    "INSERT INTO codes SELECT 'c' || g, g FROM generate_series(1, 1000) g",
    "INSERT INTO codes VALUES ('', 0)",
    'CREATE TABLE hidden (id int PRIMARY KEY, v text)',
    "INSERT INTO hidden SELECT g, 'secret ' || g FROM generate_series(1, 100) g",
    'GRANT SELECT ON items, codes TO other',
    'CREATE SEQUENCE ticks',
    'GRANT USAGE ON SEQUENCE ticks TO other',
    "CREATE VIEW ticking AS SELECT id, name, nextval('ticks') AS tick FROM items",
    'CREATE FUNCTION slow(int, float8) RETURNS int IMMUTABLE LANGUAGE plpgsql AS '
    "'BEGIN PERFORM pg_sleep($2); RETURN $1; END'",
    'CREATE FUNCTION noisy(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS '
    "'BEGIN RAISE NOTICE ''for %'', $1; RETURN $1; END'",
    'CREATE TABLE fat (id int PRIMARY KEY, v text)',
    "INSERT INTO fat SELECT g, repeat('fat ', 5000) FROM generate_series(1, 100) g",
    'ANALYZE']


@pytest.fixture(scope='module')
def solo_schema():
    return SCHEMA


RULES = {}


def rule(number, what):
    def keep(function):
        RULES[number] = (function, what)
        return function
    return keep


class World:
    """A shoald with or without the rule, and clients of it."""

    def __init__(self, shoal, direct):
        self.shoal, self.direct, self.conns = shoal, direct, []

    def connect(self, count=1, **kwargs):
        made = [self.shoal.connect('solo', timeout_s=20, **kwargs) for _ in range(count)]
        self.conns += made
        return made if count > 1 else made[0]

    def ask(self, conns, datas):
        """All send, then all read: what each has seen."""
        for conn, data in zip(conns, datas):
            conn.send(data)
        return [conn.until('Z') for conn in conns]

    def burst(self, conns, sql, keys, turns=6):
        """Some rounds of one statement; the first ones teach, so only the last answer counts."""
        for _ in range(turns):
            seen = self.ask(conns, [query(sql.format(key)) for key in keys])
        return seen

    def batched(self):
        return sum(int(row['statements']) for row in self.shoal.console('SHOW BATCHES') if row['tier'] in 'AB')

    def reason(self, name):
        return sum(int(row['statements']) for row in self.shoal.console('SHOW BATCH_REASONS') if row['reason'] == name)

    def close(self):
        for conn in self.conns:
            conn.close()


def texts(seen):
    return [[None if v is None else v.decode() for v in row] for row in rows_of(seen)]


# -- the rules ------------------------------------------------------------------------------------------

@rule(1, 'H39: nobody joins a batch that is on its way')
def nobody_joins_late(world):
    sql = 'SELECT n, slow(id, 0.25) FROM items WHERE id = {}'
    conns = world.connect(6)
    world.direct.query('UPDATE items SET n = 0 WHERE id = 5', 'solo')
    for conn in conns[:2]:
        world.ask([conn], [query(sql.format(900))])  # learned
    for conn in conns[:5]:  # the first alone, the others as a batch that is out for a second
        conn.send(query(sql.format(5)))
        time.sleep(0.006)
    time.sleep(0.1)
    world.direct.query('UPDATE items SET n = 77 WHERE id = 5', 'solo')
    late = world.ask(conns[5:], [query(sql.format(5))])[0]
    for conn in conns[:5]:
        conn.until('Z')
    assert texts(late) == [['77', '5']]


@rule(2, 'a transaction sees its own rows')
def transactions_stay_whole(world):
    conns = world.connect(4)
    world.burst(conns, 'SELECT name FROM items WHERE id = {}', [1, 2, 3, 4])
    conns[0].query('BEGIN')
    conns[0].query("UPDATE items SET name = 'mine' WHERE id = 7")
    seen = world.ask(conns, [query('SELECT name FROM items WHERE id = 7')] * 4)
    conns[0].query('ROLLBACK')
    assert [texts(each) for each in seen] == [[['mine']]] + [[['item 7']]] * 3


@rule(3, 'SERIALIZABLE statements keep their own transactions')
def serializable_runs_alone(world):
    conns = world.connect(CLIENTS)
    for conn in conns:
        conn.query("SET default_transaction_isolation = 'serializable'")
    before = world.batched()
    world.burst(conns, 'SELECT n, name FROM items WHERE id = {}', range(1, CLIENTS + 1))
    assert world.batched() == before


@rule(4, 'nobody reads with the rights of another')
def rights_stay_apart(world):
    mine, others = world.connect(16), world.connect(16, user='other')
    sql = 'SELECT v FROM hidden WHERE id = {}'
    world.burst(mine, sql, range(1, 17))
    for _ in range(5):
        seen = world.ask(mine + others, [query(sql.format(n + 1)) for n in range(32)])
        for n, each in enumerate(seen[:16]):
            assert texts(each) == [[f'secret {n + 1}']]
        for each in seen[16:]:
            assert [err.code for err in errors_of(each)] == ['42501']


@rule(5, 'H41: answers are made under the client\'s own settings')
def settings_stay_apart(world):
    conns = world.connect(CLIENTS)
    for n, conn in enumerate(conns):
        conn.query(f"SET TimeZone = '{'UTC' if n % 2 else 'Asia/Tokyo'}'")
    for seen in [world.burst(conns, 'SELECT at FROM items WHERE id = {}', range(1, CLIENTS + 1))]:
        for n, each in enumerate(seen):
            assert texts(each) == [['2020-01-01 12:00:00+00' if n % 2 else '2020-01-01 21:00:00+09']]


@rule(6, 'a temporary table shadows for its own session only')
def temporary_tables_shadow(world):
    conns = world.connect(4)
    world.burst(conns, 'SELECT name FROM items WHERE id = {}', [1, 2, 3, 4])
    conns[0].query('CREATE TEMP TABLE items (id int PRIMARY KEY, name text)')
    conns[0].query("INSERT INTO pg_temp.items VALUES (7, 'temporary')")
    for _ in range(4):
        seen = world.ask(conns, [query('SELECT name FROM items WHERE id = 7')] * 4)
        assert [texts(each) for each in seen] == [[['temporary']]] + [[['item 7']]] * 3


def all_different(world, sql):
    conns = world.connect(CLIENTS)
    drawn = []
    for _ in range(6):
        for each in world.ask(conns, [query(sql)] * CLIENTS):
            drawn += texts(each)[0]
    assert len(set(drawn)) == len(drawn)


@rule(7, 'a view that calls something volatile is not looked through')
def views_are_looked_through(world):
    all_different(world, 'SELECT tick FROM ticking WHERE id = 5')


@rule(8, 'a row lock is waited for alone')
def locks_are_waited_for_alone(world):
    conns, holder = world.connect(8), world.direct.connect('solo')
    sql = 'SELECT n FROM items WHERE id = {} FOR UPDATE'
    world.burst(conns, sql, range(101, 109), turns=3)
    holder.query('BEGIN')
    holder.query('SELECT n FROM items WHERE id = 101 FOR UPDATE')
    for _ in range(2):  # the locked one among others
        for conn, key in zip(conns[1:], range(102, 109)):
            conn.send(query(sql.format(key)))
        if not _:
            conns[0].send(query(sql.format(101)))
        time.sleep(0.02)
    released = threading.Event()
    rescue = threading.Timer(8, lambda: (released.set(), holder.query('ROLLBACK')))  # of those who wait for it
    rescue.start()
    seen = [conn.until('Z', 2, timeout_s=30) for conn in conns[1:]]
    waited = released.is_set()
    rescue.cancel()
    rescue.join()
    if not released.is_set():
        holder.query('ROLLBACK')
    conns[0].until('Z')
    holder.close()
    assert all(len(rows_of(each)) == 2 for each in seen) and not waited


@rule(9, 'a volatile function runs once for each client')
def volatile_functions_run_for_each(world):
    all_different(world, "SELECT nextval('ticks') FROM items WHERE id = 5")


@rule(10, 'H38: NULL is no key')
def null_is_no_key(world):
    conns = world.connect(CLIENTS)
    sql = parse('', 'SELECT n FROM codes WHERE code = $1')
    for _ in range(6):
        seen = world.ask(conns, [sql + bind('', '', [None if n % 4 == 0 else f'c{n}']) + execute() + sync()
                                 for n in range(CLIENTS)])
        for n, each in enumerate(seen):
            assert texts(each) == ([] if n % 4 == 0 else [[str(n)]])


@rule(11, 'each gets the formats that it asked for')
def formats_stay_apart(world):
    conns = world.connect(CLIENTS)
    sql = parse('', 'SELECT id FROM items WHERE id = $1')
    for _ in range(6):
        seen = world.ask(conns, [sql + bind('', '', [str(n + 1)], [], [n % 2]) + describe('P') + execute() + sync()
                                 for n in range(CLIENTS)])
        for n, each in enumerate(seen):
            assert rows_of(each) == [[(n + 1).to_bytes(4, 'big') if n % 2 else str(n + 1).encode()]]


@rule(12, 'ORDER BY and LIMIT hold for each')
def limits_hold_for_each(world):
    conns = world.connect(CLIENTS)
    seen = world.burst(conns, 'SELECT name FROM items WHERE id = {} ORDER BY name LIMIT 1', range(1, CLIENTS + 1))
    assert [texts(each) for each in seen] == [[[f'item {n + 1}']] for n in range(CLIENTS)]


@rule(13, 'each has its own tag')
def tags_are_their_own(world):
    conns = world.connect(CLIENTS)
    seen = world.burst(conns, 'SELECT name FROM items WHERE id = {}', range(990, 990 + CLIENTS))
    for n, each in enumerate(seen):
        assert [m.body for m in each if m.type == 'C'] == [b'SELECT 1\0' if n <= 10 else b'SELECT 0\0']


@rule(14, 'H37: one bad key fails nobody else')
def only_the_guilty_fails(world):
    conns = world.connect(CLIENTS)
    for _ in range(4):  # each turn counts: a statement that failed three times in company goes alone
        seen = world.burst(conns, 'SELECT 100 / (n - 7) FROM items WHERE id = {}', range(1, CLIENTS + 1), turns=1)
        for n, each in enumerate(seen):
            assert [err.code for err in errors_of(each)] == (['22012'] if n + 1 == 7 else [])


@rule(15, 'a statement_timeout is its own client\'s')
def timeouts_stay_apart(world):
    sql = 'SELECT n, slow(id, 0.2) FROM items WHERE id = {}'
    conns = world.connect(8)
    world.burst(conns[4:], sql, [1, 2, 3, 4], turns=2)
    for conn in conns[:4]:
        conn.query("SET statement_timeout = '100ms'")
    for _ in range(2):
        seen = world.ask(conns, [query(sql.format(n + 1)) for n in range(8)])
    for n, each in enumerate(seen):
        assert [err.code for err in errors_of(each)] == (['57014'] if n < 4 else [])


@rule(16, 'a cancelled member is answered at once')
def cancel_answers_at_once(world):
    sql = 'SELECT slow(id, 0.3) FROM items WHERE id = {}'
    conns = world.connect(5)
    world.ask(conns[:1], [query(sql.format(1))])
    for n, conn in enumerate(conns):
        conn.send(query(sql.format(n + 1)))
        time.sleep(0.002)
    time.sleep(0.1)
    conns[3].cancel()
    seen = [conn.until('Z') for conn in conns]
    for n, each in enumerate(seen):
        assert [err.code for err in errors_of(each)] == (['57014'] if n == 3 else [])


@rule(17, 'a notice goes to its own client')
def notices_go_to_their_own(world):
    conns = world.connect(8)
    for _ in range(4):
        seen = world.ask(conns, [query(f'SELECT noisy(id) FROM items WHERE id = {n + 1}') for n in range(8)])
        for n, each in enumerate(seen):
            assert [m.body.count(f'for {n + 1}\0'.encode()) for m in each if m.type == 'N'] == [1]


@rule(18, 'H40: what is kept of a batch is bounded')
def batches_are_bounded(world):
    conns = world.connect(CLIENTS)
    before = world.reason('limit')
    seen = world.burst(conns, 'SELECT v FROM fat WHERE id = {}', range(1, CLIENTS + 1))
    assert all(len(rows_of(each)[0][0]) == 20000 for each in seen)
    assert world.reason('limit') > before


@rule(19, 'a lost connection is one more try for each')
def losses_are_made_good(world):
    sql = 'SELECT slow(id, 0.1) FROM items WHERE id = {}'
    conns = world.connect(5)
    world.ask(conns[:1], [query(sql.format(1))])
    for n, conn in enumerate(conns):
        conn.send(query(sql.format(n + 1)))
        time.sleep(0.002)
    time.sleep(0.15)  # the batch of the four is at work
    world.direct.query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                       "WHERE query LIKE '%_shoal_%' AND pid <> pg_backend_pid()", 'solo')
    assert [texts(conn.until('Z')) for conn in conns] == [[[str(n + 1)]] for n in range(5)]


@rule(20, 'the same key twice, and both get its rows')
def the_same_key_for_all(world):
    conns = world.connect(CLIENTS)
    for each in world.burst(conns, 'SELECT name FROM items WHERE id = {}', [5] * CLIENTS):
        assert texts(each) == [['item 5']]


@rule(21, 'what one client pipelines is seen in its order')
def order_is_kept(world):
    first, second = "SELECT n FROM codes WHERE code = 'c5'", 'SELECT n FROM items WHERE id = 5'
    conns = world.connect(CLIENTS)
    for sql in (first, second):
        world.burst(conns, sql, [5] * CLIENTS)
    conn, writer = world.connect(), world.direct.connect('solo')
    world.conns.append(writer)
    for turn in range(5):
        held = turn * 1000 + 7
        writer.query('BEGIN; LOCK codes IN ACCESS EXCLUSIVE MODE; '
                     f"UPDATE codes SET n = {held} WHERE code = 'c5'; UPDATE items SET n = {held} WHERE id = 5")
        conn.send(query(first) + query(second))
        wait_until('the first to wait for the lock', lambda: writer.query(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'codes'::regclass") == [['1']], 30)
        time.sleep(0.05)  # without the rule the second one is answered now
        writer.query('COMMIT')
        assert [texts(conn.until('Z')), texts(conn.until('Z'))] == [[[str(held)]]] * 2


# -- both ways ------------------------------------------------------------------------------------------

def start(workspace, clusters, shoal_users, number, out, **batch):
    name = f'without{number}' if out else f'with{number}'
    shoal = Shoal(workspace, {'s0': clusters[0]}, databases={'solo': {'shards': 's0', 'pool_size': '6'}},
                  users=shoal_users, batch=dict({'batch_proof_every': 0, 'batch_bytes_max': '64kB', 'batch_pipeline_max': 1,
                                                 'batch_inflight_max': 1}, **batch), name=name)
    if out:
        os.environ['SHOAL_WITHOUT_RULE'] = str(number)
    try:
        shoal.start()
    finally:
        os.environ.pop('SHOAL_WITHOUT_RULE', None)
    return shoal


def run(workspace, clusters, shoal_users, direct, number, out):
    shoal = start(workspace, clusters, shoal_users, number, out)
    world = World(shoal, direct)
    failed = None
    try:
        RULES[number][0](world)
    except AssertionError as err:
        failed = err
    finally:
        world.close()
        if out:
            shoal.kill9()  # what it did wrong is no sanitizer's business
        else:
            shoal.finish()
    return failed


def test_there_is_one_for_each_rule():
    # A rule without a test.
    assert sorted(RULES) == list(range(1, 22))


@pytest.mark.shoal_only
@pytest.mark.parametrize('number', sorted(RULES), ids=lambda n: f'{n:02}-{RULES[n][1].split(":")[0].replace(" ", "-")}')
def test_rule(workspace, clusters, shoal_users, direct, number):
    # The rule is broken; or its test would not notice.
    failed = run(workspace, clusters, shoal_users, direct, number, out=False)
    assert failed is None, f'rule {number}: {failed}'
    # On a busy machine those who should travel together may miss one another: then nothing is there to notice.
    assert any(run(workspace, clusters, shoal_users, direct, number, out=True) is not None for _ in range(5)), \
        f'the test of rule {number} holds without the rule'


def back_in_time(workspace, clusters, shoal_users, direct, sql, out):
    """Pipelines of one client through batches of four, while another counts: how often the count went down."""
    shoal = start(workspace, clusters, shoal_users, 21, out, batch_max=4, batch_inflight_max=4, batch_pipeline_max=4)
    ended = threading.Event()

    def count():
        with direct.connect('solo') as writer:
            while not ended.is_set():
                writer.query('UPDATE items SET n = n + 1 WHERE id = 5')

    counter = threading.Thread(target=count)
    counter.start()
    backwards = asked = 0
    try:
        with shoal.connect('solo', timeout_s=60) as conn:
            until = time.monotonic() + 20
            while asked < 40 and not (out and backwards) and time.monotonic() < until:
                conn.send(b''.join([query(sql)] * 64))
                seen = [int(texts(conn.until('Z'))[0][0]) for _ in range(64)]
                backwards += sum(a > b for a, b in zip(seen, seen[1:]))
                asked += 1
    finally:
        ended.set()
        counter.join()
        shoal.kill9() if out else shoal.finish()
    return backwards


@pytest.mark.shoal_only
@pytest.mark.parametrize('sql', ['SELECT n FROM items WHERE id = 5', 'SELECT n FROM items WHERE id = 5 UNION SELECT n FROM items WHERE id = 5'],
                         ids=['keys', 'originals'])
def test_a_long_pipeline_does_not_go_back_in_time(workspace, clusters, shoal_users, direct, sql):
    """Else: a driver that pipelines (a JDBC batch, libpq's pipeline mode) reads an older row behind a newer one."""
    assert back_in_time(workspace, clusters, shoal_users, direct, sql, out=False) == 0
    assert any(back_in_time(workspace, clusters, shoal_users, direct, sql, out=True) for _ in range(5)), 'nothing was tested'


def test_more_statements_than_are_kept(workspace, clusters, shoal_users, direct):
    """Else: an application with many forms of queries has the first ones batched, and all later ones never again."""
    shoal = Shoal(workspace, {'s0': clusters[0]}, users=shoal_users, name='many-forms',
                  databases={'solo': {'shards': 's0'}},
                  batch={'batch_templates_max': '16'}).start()
    conns = [shoal.connect('solo') for _ in range(12)]

    def play(form):
        for _ in range(4):
            for n, conn in enumerate(conns):
                conn.send(query(f'SELECT name, id AS a{form} FROM items WHERE id = {n + 1}'))
            for n, conn in enumerate(conns):
                assert texts(conn.until('Z')) == [[f'item {n + 1}', str(n + 1)]]

    def in_batches():
        return int({row['name']: row['value'] for row in shoal.console('SHOW STATS')}['batched_statements'])

    wait_until('the table to be batched', lambda: (play(0), in_batches())[1] > 0, 30)
    for form in range(1, 60):
        play(form)
    before = in_batches()
    wait_until('the newest form to be batched', lambda: (play(60), in_batches())[1] > before, 30)
    assert len(shoal.console('SHOW BATCHES')) <= 32  # templates and judgements
    for conn in conns:
        conn.close()
    shoal.finish()
