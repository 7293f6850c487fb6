"""One key's rows move alone, and stay apart from their bucket: under load, over crashes, and whatever moves afterwards."""
import json
import random
import subprocess
import threading
import time

import pytest

from tests.support import host
from tests.support.cluster import wait_until
from tests.support.moves import Moving
from tests.support.shoal import binary
from tests.support.wire import PgError, bind, errors_of, execute, message, parse, query, sync

pytestmark = [pytest.mark.shoal_only, pytest.mark.may_stop]

TENANTS, BIG = 120, 42
DDL = ['CREATE TABLE customers(id int PRIMARY KEY, name text NOT NULL)',
       'CREATE TABLE orders(customer bigint, id int, v text NOT NULL, PRIMARY KEY (customer, id))',
       'CREATE TABLE names(name text PRIMARY KEY, n int NOT NULL)',
       'CREATE TABLE bytes(k bytea PRIMARY KEY, n int)',
       'CREATE TABLE tags(k uuid PRIMARY KEY, n int)',
       'CREATE TABLE codes(k char(8) PRIMARY KEY, n int)',
       'CREATE TABLE days(k date PRIMARY KEY, n int)',
       'CREATE TABLE late(customer bigint PRIMARY KEY, n int)',
       'CREATE TABLE pairs(a bigint, b text, n int, PRIMARY KEY (a, b))',
       'CREATE TABLE apart(id bigint PRIMARY KEY, n int)']
TABLES = {'customers': 'id', 'orders': 'customer', 'names': 'name', 'bytes': 'k', 'tags': 'k', 'codes': 'k', 'days': 'k'}
KILLED_AT = ['plan_written', 'copy_mid', 'catchup_start', 'fence_acked', 'map_tx_begin', 'map_tx_committed', 'slot_dropped',
             'source_delete_mid', 'done']
KILLED_SHORT = ('copy_mid', 'map_tx_begin', 'map_tx_committed', 'done')


def rows_for(key):
    return 400 if key == BIG else 6


@pytest.fixture(scope='module')
def moving(workspace):
    moving = Moving(workspace, 2, DDL, TABLES, settings={'move_fence_timeout': '5s', 'query_wait_timeout': '60s'})
    moving.shoal.start()
    with moving.shoal.connect() as conn:
        conn.query("SELECT shoal.distribute_table('pairs', 'a, b')")
        conn.query("SELECT shoal.distribute_table('apart', 'id', 'none')")
        for key in range(TENANTS):
            conn.query(f"INSERT INTO customers VALUES ({key}, 'c{key}')")
            conn.query(f'INSERT INTO apart VALUES ({key}, {key})')
            conn.query('INSERT INTO orders VALUES ' + ', '.join(f"({key}, {i}, '')" for i in range(rows_for(key))))
        for key in ("it's", 'a\\b', 'näher', 'plain'):
            conn.query("INSERT INTO names VALUES ('" + key.replace("'", "''") + "', 1)")
    yield moving
    moving.finish()


def pins(moving):
    return {(row['colocation'], row['key']): row for row in moving.shoal.console('SHOW PINS')}


def unpinned(moving, but=None):
    return all(key == but for _, key in pins(moving))


def where(moving, table, column, literal):
    """shard -> how many rows of this value lie there."""
    found = {}
    for cluster in moving.clusters:
        count = int(cluster.query(f'SELECT count(*) FROM {table} WHERE {column} = {literal}', 'app')[0][0])
        if count:
            found[cluster.name] = count
    return found


def shard_of(moving, table, key):
    with moving.shoal.connect() as conn:
        return conn.query(f"SELECT shoal.shard_of('{table}', '{key}')")[0][0]


def other(shard):
    return 's1' if shard == 's0' else 's0'


def tenant(moving, target, table='orders', key=str(BIG)):
    return int(moving.shoal.console(f'MOVE TENANT {table} {key} TO {target}')[0]['move'])


def done(moving, number):
    row = moving.wait(number)
    assert row['state'] == 'done', row
    return row


def check(moving, shard):
    """The tenant is whole on its shard, everything else where the map says, and nothing is left."""
    assert where(moving, 'orders', 'customer', BIG) == {shard: rows_for(BIG)}
    assert where(moving, 'customers', 'id', BIG) == {shard: 1}
    wait_until('fsck to find nothing', lambda: moving.shoal.console('FSCK') == [], 30, 0.2)
    wait_until('nothing to be left behind', lambda: not moving.leftovers(), 30, 0.2)
    with moving.shoal.connect() as conn:
        assert conn.query('SELECT count(*), count(DISTINCT customer) FROM orders') == \
            [[str(sum(map(rows_for, range(TENANTS)))), str(TENANTS)]]
        assert conn.query(f'SELECT count(*) FROM orders o JOIN customers c ON c.id = o.customer WHERE c.id = {BIG}') == \
            [[str(rows_for(BIG))]]
        assert conn.query('SELECT count(*) FROM orders o JOIN customers c ON c.id = o.customer') == \
            [[str(sum(map(rows_for, range(TENANTS))))]]
        assert conn.query('SELECT count(*) FROM customers c JOIN apart a ON a.id = c.id') == [[str(TENANTS)]]


class Load:
    """Appends and reads of the big tenant and of all others, in several protocols; each list belongs to one client."""

    def __init__(self, shoal, clients=12):
        self.shoal, self.clients, self.stop = shoal, clients, threading.Event()
        self.errors, self.wrong, self.appended, self.done = [], [], {}, 0
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        for thread in self.threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in self.threads), 'a client hangs'

    def run(self, number):
        rng = random.Random(f'{host.SEED} tenant {number}')
        work = (self.append, self.append_prepared, self.lists, self.transaction, self.reports,
                self.multi if number == 5 else self.reports)[number % 6]  # two of multi could wait for each other
        try:
            with self.shoal.connect(timeout_s=80) as conn:
                conn.exchange(parse('app', 'UPDATE orders SET v = v || $1 WHERE customer = $2 AND id = $3') + sync())
                while not self.stop.is_set():
                    # Half of all work is the big tenant's.
                    key = BIG if rng.random() < 0.5 else rng.randrange(TENANTS)
                    work(conn, rng, number, key)
                    self.done += 1
                    time.sleep(0.002)
        except (PgError, OSError, AssertionError) as err:
            self.errors.append(f'{work.__name__}: {err!r}')

    def mine(self, rng, number, key):
        """An order that only this client writes to."""
        return number + self.clients * rng.randrange(rows_for(key) // self.clients) if rows_for(key) > self.clients else None

    def append(self, conn, rng, number, key):
        order = self.mine(rng, number, key)
        if order is None:
            assert conn.query(f'SELECT name FROM customers WHERE id = {key}') == [[f'c{key}']]
            return
        text = f'{number}.{self.done};'
        conn.query(f"UPDATE orders SET v = v || '{text}' WHERE customer = {key} AND id = {order}")
        self.appended.setdefault((key, order), []).append(text)

    def append_prepared(self, conn, rng, number, key):
        order = self.mine(rng, number, key)
        if order is None:
            return
        text = f'{number}.{self.done};'
        seen = conn.exchange(bind('', 'app', [text.encode(), str(key).encode(), str(order).encode()]) + execute() + sync())
        for err in errors_of(seen):
            raise err
        self.appended.setdefault((key, order), []).append(text)

    def lists(self, conn, rng, number, key):
        keys = sorted({key, rng.randrange(TENANTS), rng.randrange(TENANTS)})
        found = conn.query('SELECT id, name FROM customers WHERE id IN (' + ', '.join(map(str, keys)) + ') ORDER BY id')
        if found != [[str(k), f'c{k}'] for k in keys]:
            self.wrong.append((keys, found))

    def transaction(self, conn, rng, number, key):
        order = self.mine(rng, number, BIG)
        text = f'{number}.{self.done};'
        conn.query('BEGIN')
        conn.query(f"UPDATE customers SET name = name WHERE id = {key}")
        conn.query(f"UPDATE orders SET v = v || '{text}' WHERE customer = {BIG} AND id = {order}")
        conn.query('COMMIT')
        self.appended.setdefault((BIG, order), []).append(text)

    def reports(self, conn, rng, number, key):
        found = conn.query(f'SELECT count(*) FROM orders WHERE customer = {key}') + conn.query('SELECT count(*) FROM customers')
        if found != [[str(rows_for(key))], [str(TENANTS)]]:
            self.wrong.append((key, found))

    def multi(self, conn, rng, number, key):
        conn.query(f'UPDATE customers SET name = name WHERE id IN ({BIG}, {key}, {(key + 1) % TENANTS})')
        found = conn.query(f'SELECT count(*) FROM orders o JOIN customers c ON c.id = o.customer WHERE c.id = {key}')
        if found != [[str(rows_for(key))]]:
            self.wrong.append((key, found))


def settle(moving, load, before):
    """Every acknowledged write is there, once, in its place."""
    assert load.errors == [] and load.wrong == [], (load.errors[:3], load.wrong[:3])
    assert load.done > load.clients
    for cluster in moving.clusters:
        for customer, order, text in cluster.query('SELECT customer, id, v FROM orders', 'app'):
            place = (int(customer), int(order))
            assert text == before.get(place, '') + ''.join(load.appended.get(place, [])), place
            before[place] = text


@pytest.fixture(scope='module')
def texts():
    return {}


def test_under_load(moving, texts):
    # One customer is too big for its shard; moving it costs errors, wrong rows, or takes its neighbours along.
    home = shard_of(moving, 'orders', BIG)
    bucket = moving.shoal.console('SHOW MAP') and int(moving.clusters[0].query(
        f'SELECT {moving.bucket_sql(BIG)}', 'app')[0][0])
    others = [key for key in range(TENANTS) if key != BIG and int(moving.clusters[0].query(
        f'SELECT {moving.bucket_sql(key)}', 'app')[0][0]) == bucket]
    assert others, 'the bucket has rows of others'
    with Load(moving.shoal) as load:
        done(moving, tenant(moving, other(home)))
        pin = pins(moving)[('default', str(BIG))]
        assert (pin['shard'], pin['home_bucket'], pin['home_shard']) == (other(home), str(bucket), home), pin
        # Its bucket goes there and back, and leaves it alone.
        for target in (other(home), home):
            done(moving, moving.move(str(bucket), target))
            assert pins(moving)[('default', str(BIG))]['shard'] == other(home)
    settle(moving, load, texts)
    check(moving, other(home))
    assert all(where(moving, 'customers', 'id', key) == {home: 1} for key in others)
    assert shard_of(moving, 'customers', BIG) == other(home) and shard_of(moving, 'apart', BIG) == home
    with Load(moving.shoal) as load:
        done(moving, tenant(moving, home))
        wait_until('the pin to be over', lambda: unpinned(moving), 30, 0.1)
        time.sleep(0.3)
    settle(moving, load, texts)
    check(moving, home)


def test_rows_of_every_way(moving):
    # A tenant that lives apart is written to its old bucket by COPY, INSERT ... SELECT, or an UPDATE of the key.
    home = shard_of(moving, 'orders', BIG)
    done(moving, tenant(moving, other(home)))
    stranger = next(key for key in range(TENANTS) if shard_of(moving, 'orders', key) == home)
    with moving.shoal.connect() as conn:
        conn.query(f"INSERT INTO orders VALUES ({BIG}, 9001, 'a'), ({stranger}, 9001, 'b')")
        conn.query(f"INSERT INTO orders SELECT id, 9002, 'c' FROM customers WHERE id IN ({BIG}, {stranger})")
        conn.send(query('COPY orders FROM STDIN'))
        conn.until('G')
        seen = conn.exchange(message('d', f'{BIG}\t9003\td\n{stranger}\t9003\te\n'.encode()) + message('c'))
        assert errors_of(seen) == []
        conn.query("MERGE INTO orders o USING customers c ON o.customer = c.id AND o.id = 9003 "
                   f"WHEN MATCHED AND o.customer = {BIG} THEN UPDATE SET v = 'm'")
        assert where(moving, 'orders', 'id', 9001) == {'s0': 1, 's1': 1}
        assert where(moving, 'orders', 'id', 9002) == {'s0': 1, 's1': 1}
        assert where(moving, 'orders', 'id', 9003) == {'s0': 1, 's1': 1}
        assert conn.query(f'SELECT id, v FROM orders WHERE customer = {BIG} AND id > 9000 ORDER BY 1') == \
            [['9001', 'a'], ['9002', 'c'], ['9003', 'm']]
        # From the stranger's shard to the tenant's, and a key it never had.
        conn.query(f'UPDATE orders SET customer = {BIG}, id = 9004 WHERE customer = {stranger} AND id = 9001')
        assert where(moving, 'orders', 'id', 9004) == {other(home): 1}
        conn.query('DELETE FROM orders WHERE id > 9000')
        # A table that joins the group later finds the tenant there, and brings its rows.
        conn.query(f'INSERT INTO late SELECT g, g FROM generate_series(0, {TENANTS - 1}) g')
        conn.query("SELECT shoal.distribute_table('late', 'customer')")
        assert where(moving, 'late', 'customer', BIG) == {other(home): 1}
        assert conn.query(f'SELECT l.n, c.name FROM late l JOIN customers c ON c.id = l.customer WHERE c.id = {BIG}') == \
            [[str(BIG), f'c{BIG}']]
        assert conn.query('SELECT count(*) FROM late') == [[str(TENANTS)]]
    check(moving, other(home))
    with moving.shoal.connect() as conn:
        conn.query("SELECT shoal.undistribute_table('late')")
        assert conn.query('SELECT count(*) FROM late') == [[str(TENANTS)]]


def test_a_shard_with_a_tenant_is_drained(moving):
    # The last rows of a shard that goes are those that somebody put there by hand.
    home = shard_of(moving, 'orders', BIG)
    if ('default', str(BIG)) not in pins(moving):
        done(moving, tenant(moving, other(home)))
    away = pins(moving)[('default', str(BIG))]['shard']
    assert moving.shoal.console('REBALANCE PLAN') == [], 'a pinned value does not make shards uneven'
    moving.shoal.console(f'REBALANCE START DRAIN {away}')
    assert all(row['state'] == 'done' for row in moving.wait_all())
    check(moving, other(away))
    assert pins(moving) == {}
    owned = {row['shard']: int(row['buckets']) for row in moving.shoal.console('SHOW MAP')}
    assert owned[away] == 0
    moving.shoal.console('REBALANCE START')
    assert all(row['state'] == 'done' for row in moving.wait_all())


@pytest.mark.parametrize('table, literal, key', [
    ('names', "'it''s'", "'it''s'"), ('names', "E'a\\\\b'", "'a\\b'"), ('names', "'näher'", "'näher'"),
    ('bytes', "'\\x00ff'", "'\\x00ff'"), ('codes', "'ab'", 'ab'),
    ('tags', "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'")])
def test_values_of_other_types(moving, table, literal, key):
    # A value is written to the filter in another way than PostgreSQL reads it: its rows stay behind.
    column = TABLES[table]
    with moving.shoal.connect() as conn:
        conn.query(f'INSERT INTO {table} VALUES ({literal}, 7) ON CONFLICT DO NOTHING')
        home = next(iter(where(moving, table, column, literal)))
        done(moving, tenant(moving, other(home), table, key))
        assert where(moving, table, column, literal) == {other(home): 1}
        assert conn.query(f'UPDATE {table} SET n = 8 WHERE {column} = {literal} RETURNING n') == [['8']]
        assert moving.shoal.console('FSCK') == []
        number = tenant(moving, home, table, key)
        assert conn.query(f'SELECT n FROM {table} WHERE {column} = {literal}') == [['8']]
        done(moving, number)
        assert where(moving, table, column, literal) == {home: 1}
    wait_until('the pin to be over', lambda: unpinned(moving, but=str(BIG)), 30, 0.1)


def test_its_table_has_gone(moving):
    # A value of a table that was dropped cannot be moved any more, and its shard never becomes empty.
    with moving.shoal.connect() as conn:
        conn.query('CREATE TABLE solo(id bigint PRIMARY KEY)')
        conn.query("SELECT shoal.distribute_table('solo', 'id', 'none')")
        conn.query('INSERT INTO solo VALUES (7)')
        home = shard_of(moving, 'solo', 7)
        done(moving, tenant(moving, other(home), 'solo', '7'))
        pin = pins(moving)[('public.solo', '7')]
        conn.query('DROP TABLE solo')
    done(moving, moving.move(pin['bucket'], home))
    wait_until('the pin to be over', lambda: unpinned(moving), 30, 0.1)
    assert moving.shoal.console('FSCK') == []


def test_from_the_shell(moving):
    # shoalctl folds a value's capitals, or stumbles over its quotes: another tenant goes.
    key = 'O"Neil\'s Ärger'
    with moving.shoal.connect() as conn:
        conn.query("INSERT INTO names VALUES ('O\"Neil''s Ärger', 1), ('o\"neil''s ärger', 2)")
    literal = "'O\"Neil''s Ärger'"
    home = next(iter(where(moving, 'names', 'name', literal)))
    ctl = [binary().parent / 'shoalctl', '-p', str(moving.shoal.port), '-U', 'admin', '--json']
    for target in (other(home), home):
        out = subprocess.run([*ctl, 'move', 'tenant', 'names', key, 'to', target], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, timeout=60)
        assert out.returncode == 0, out.stdout
        done(moving, json.loads(out.stdout)[0]['move'])
        assert where(moving, 'names', 'name', literal) == {target: 1}
    with moving.shoal.connect() as conn:
        conn.query("DELETE FROM names WHERE n < 3 AND name ILIKE 'o%'")


def test_cancelled_and_rolled_back(moving):
    # A tenant whose move was undone lives apart for ever, although nobody wants it.
    home = shard_of(moving, 'orders', BIG)
    moving.shoal.console('REBALANCE PAUSE')
    number = tenant(moving, other(home))
    with pytest.raises(PgError) as err:
        tenant(moving, other(home))
    assert err.value.code == '55006'
    moving.shoal.console(f'REBALANCE CANCEL {number}')
    moving.wait(number, ('cancelled',))
    moving.shoal.console('REBALANCE RESUME')
    wait_until('the pin to be over', lambda: unpinned(moving), 30, 0.1)
    moving.shoal.settings['move_rollback_window'] = '600s'
    moving.shoal.write_ini()
    moving.shoal.console('RELOAD')
    number = tenant(moving, other(home))
    wait_until('the rollback window', lambda: moving.state(number)['step'] == 'rest', 60, 0.1)
    with moving.shoal.connect() as conn:
        conn.query(f"UPDATE customers SET name = 'there' WHERE id = {BIG}")
    moving.shoal.console(f'REBALANCE ROLLBACK {number}')
    moving.wait(number, ('cancelled',))
    wait_until('the pin to be over', lambda: unpinned(moving), 30, 0.1)
    with moving.shoal.connect() as conn:
        assert conn.query(f'SELECT name FROM customers WHERE id = {BIG}') == [['there']]
        conn.query(f"UPDATE customers SET name = 'c{BIG}' WHERE id = {BIG}")
    moving.shoal.settings['move_rollback_window'] = '0'
    moving.shoal.write_ini()
    moving.shoal.console('RELOAD')
    check(moving, home)


@pytest.mark.parametrize('words, state, told', [
    ('orders 42 TO nowhere', '42704', 'nowhere'),
    ('orders forty TO s1', '22023', 'no value'),
    ('missing 42 TO s1', '42P01', 'missing'),
    ('pairs 1 TO s1', '0A000', 'cannot be moved alone'),
    ("days 2026-01-01 TO s1", '0A000', 'cannot be moved alone'),
    ('orders TO s1', '42601', 'MOVE TENANT'),
    ('orders 42 IN nowhere TO s1', '42P01', 'orders')])
def test_what_cannot_be(moving, words, state, told):
    # Somebody mistypes, and rows go somewhere.
    with pytest.raises(PgError) as err:
        moving.shoal.console(f'MOVE TENANT {words}')
    assert err.value.code == state and told in str(err.value), err.value
    assert pins(moving) == {}


def test_a_bucket_nobody_is_pinned_to(moving):
    # A number that a tenant had once is moved, and nothing happens, for ever.
    with pytest.raises(PgError) as err:
        moving.shoal.console('MOVE "64" TO s1')
    assert err.value.code == '22023'
    home = shard_of(moving, 'orders', BIG)
    with pytest.raises(PgError) as err:
        tenant(moving, home)
    assert err.value.code == '22023' and 'already' in str(err.value)


@pytest.mark.parametrize('step', KILLED_AT if host.LONG else KILLED_SHORT)
def test_killed(moving, monkeypatch, step):
    # A crash at this step leaves the tenant on two shards, or on none.
    if not subprocess.run([str(binary()), '--failpoints'], stdout=subprocess.PIPE, text=True).stdout.split():
        pytest.skip('built without -Dfailpoints=true')
    home, digest = shard_of(moving, 'orders', BIG), moving.digest()
    moving.shoal.terminate()
    monkeypatch.setenv('SHOAL_FAILPOINT', f'{step}:panic')
    moving.shoal.start()
    try:
        tenant(moving, other(home))
    except (OSError, PgError):
        pass
    wait_until('shoald to be killed', lambda: moving.shoal.process.poll() is not None, 60, 0.02)
    monkeypatch.delenv('SHOAL_FAILPOINT')
    moving.shoal.start()
    assert all(row['state'] in ('done', 'cancelled', 'failed') for row in moving.wait_all())
    row = moving.shoal.console('SHOW MOVES')[-1]
    assert row['state'] == 'done', row
    check(moving, other(home))
    assert moving.digest() == digest
    done(moving, tenant(moving, home))
    check(moving, home)
    assert moving.digest() == digest
    wait_until('the pin to be over', lambda: unpinned(moving), 30, 0.1)
