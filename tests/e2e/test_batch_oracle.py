"""Batching is exact: random lookups of 64 clients, batched by Shoal and alone on PostgreSQL, byte for byte.

Each round, every client sends one lookup before any answer is read, so that the batcher has what to collect;
the same bytes go to PostgreSQL on connections of their own. Poisoned keys (20 digits, 'abc', a division by
zero) stand among the good ones, and every query carries a nonce.
"""
import itertools
import random
import signal
import struct
import threading
import time
import uuid

import pytest

from tests.support import host
from tests.support.differential import difference
from tests.support.oracle import Chaos, Schema, answer_all, play as play_pipelines
from tests.support.wire import (PgError, bind, describe, errors_of, execute, message, parse, query, rows_of, sync)

CLIENTS = 64
ROUNDS = 2000 if host.LONG else 170
ITEMS = 3000

SCHEMA = [
    'CREATE TABLE items (id bigint PRIMARY KEY, name text, price numeric(10,2), tags text[], at timestamptz, '
    'day date, flag bool, doc jsonb, f float8, raw bytea, small int2)',
    "INSERT INTO items SELECT g, 'item ' || g, g * 1.01, ARRAY['a' || g, NULL, 'c,d'], "
    "'2020-01-01 00:00:00+00'::timestamptz + g * interval '1 hour', date '2000-01-01' + g, g % 3 = 0, "
    "jsonb_build_object('n', g), g / 7.0, decode(lpad(to_hex(g), 8, '0'), 'hex'), g % 100 "
    f'FROM generate_series(1, {ITEMS}) g',
    'INSERT INTO items (id) SELECT g FROM generate_series(5001, 5100) g',
    'CREATE TABLE codes (code text PRIMARY KEY, n int, country char(2))',
    f"INSERT INTO codes SELECT 'code-' || g, g, (ARRAY['de','fr','it'])[1 + g % 3] FROM generate_series(1, {ITEMS}) g",
    "INSERT INTO codes VALUES ('', 0, NULL), (E'quo''te \\\\ back', -1, 'de'), ('{a,b}', -2, 'fr'), ('NULL', -3, 'it'), "
    "('ünïcode €', -4, 'de'), ('a,b\"c', -5, 'fr'), (' blank ', -6, 'it'), (E'tab\\tnew\\nline', -7, 'de')",
    'CREATE TABLE things (id uuid PRIMARY KEY, v text)',
    f"INSERT INTO things SELECT lpad(to_hex(g), 32, '0')::uuid, 'thing ' || g FROM generate_series(1, {ITEMS}) g",
    'CREATE TABLE lines (order_id int, line_no smallint, sku text, n int, PRIMARY KEY (order_id, line_no))',
    "INSERT INTO lines SELECT o, l, 'sku ' || o || '/' || l, o * l FROM generate_series(1, 600) o, "
    'generate_series(1, 5) l',
    'CREATE TABLE events (item_id int, n int, note text)',
    "INSERT INTO events SELECT g % 500, g, 'note ' || g FROM generate_series(1, 5000) g",
    'CREATE INDEX ON events (item_id)',
    'CREATE TABLE countries (code char(2) PRIMARY KEY, name text)',
    "INSERT INTO countries VALUES ('de', 'Germany'), ('fr', 'France'), ('it', 'Italy')",
    'CREATE TABLE days (day date PRIMARY KEY, v int)',
    "INSERT INTO days SELECT date '2000-01-01' + g, g FROM generate_series(1, 1000) g",
    'CREATE TABLE padded (c char(8) PRIMARY KEY, v int)',
    "INSERT INTO padded SELECT 'p' || g, g FROM generate_series(1, 500) g",
    'CREATE TABLE sums (k numeric PRIMARY KEY, v text)',
    "INSERT INTO sums SELECT g + 0.50, 'sum ' || g FROM generate_series(1, 500) g",
    'CREATE VIEW dear AS SELECT id, name, price FROM items WHERE price > 100',
    'CREATE SEQUENCE seq',
    'CREATE EXTENSION IF NOT EXISTS citext',
    "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', 'it''s fine')",
    'CREATE TABLE odd (id int PRIMARY KEY, c citext UNIQUE, l text COLLATE loose UNIQUE, m mood, a int[], i inet, '
    'iv interval, r float8, t time)',
    "INSERT INTO odd SELECT g, 'Key-' || g, 'Word-' || g, (ARRAY['sad','ok','happy','it''s fine'])[1 + g % 4]::mood, "
    "ARRAY[g % 50, NULL, g % 7], ('10.0.' || g % 20 || '.' || g % 250)::inet, (g % 100) * interval '1 hour', "
    "(g % 90) / 4.0, time '00:00' + (g % 300) * interval '1 minute' FROM generate_series(1, 600) g",
    'CREATE INDEX ON odd (m)', 'CREATE INDEX ON odd (a)', 'CREATE INDEX ON odd (i)', 'CREATE INDEX ON odd (iv)',
    'CREATE INDEX ON odd (r)', 'CREATE INDEX ON odd (t)',
    'CREATE TABLE parted (tenant int, id int, v text, PRIMARY KEY (tenant, id)) PARTITION BY HASH (tenant)',
    *[f'CREATE TABLE parted{n} PARTITION OF parted FOR VALUES WITH (MODULUS 3, REMAINDER {n})' for n in range(3)],
    "INSERT INTO parted SELECT t, g, 'row ' || t || '/' || g FROM generate_series(1, 20) t, generate_series(1, 30) g",
    'CREATE VIEW wide AS SELECT i.id AS key, i.name, e.n, e.note FROM items i LEFT JOIN events e ON e.item_id = i.id',
    'CREATE VIEW upon AS SELECT key, max(n) AS top, count(*) FROM wide GROUP BY key',
    'CREATE MATERIALIZED VIEW frozen AS SELECT id, name FROM items', 'CREATE UNIQUE INDEX ON frozen (id)',
    'CREATE TABLE owned (id int PRIMARY KEY, owner name, v text)',
    "INSERT INTO owned SELECT g, CASE WHEN g % 2 = 0 THEN 'app' ELSE 'other' END, 'v' || g FROM generate_series(1, 200) g",
    'ALTER TABLE owned ENABLE ROW LEVEL SECURITY', 'ALTER TABLE owned FORCE ROW LEVEL SECURITY',
    'CREATE POLICY own ON owned USING (owner = current_user)', 'GRANT SELECT ON owned TO other',
    'CREATE TABLE secured (id int, tenant text, v text, PRIMARY KEY (id, tenant))',
    "INSERT INTO secured SELECT g, 't' || t, 'row ' || g || ' of t' || t FROM generate_series(1, 50) g, "
    'generate_series(0, 15) t',
    'ALTER TABLE secured ENABLE ROW LEVEL SECURITY',
    "CREATE POLICY mine ON secured USING (tenant = current_setting('app.tenant', true))",
    'GRANT SELECT ON secured TO other',
    'CREATE TABLE counters (id int PRIMARY KEY, n int)',
    'INSERT INTO counters SELECT g, 0 FROM generate_series(1, 100) g',
    'ANALYZE']


@pytest.fixture(scope='module')
def solo_schema():
    return SCHEMA


@pytest.fixture(scope='module')
def shoal_settings():
    return {'tcp_user_timeout': '1h'}  # the fleet reads one client after the other, which may take a while


@pytest.fixture(scope='module')
def shoal_databases():
    return {'solo': {'shards': 's0', 'pool_size': '4'}, 'app': {'shards': 's0, s1', 'pool_size': '4'}}


# -- keys -------------------------------------------------------------------------------------------

class Key:
    """How values of one column are drawn: as text, and in binary where that is plain."""

    def __init__(self, oid, draw, binary=None, poison=(), quoted=False):
        self.oid, self.draw, self.binary, self.poison, self.quoted = oid, draw, binary, poison, quoted

    def literal(self, text):
        if text is None:
            return 'NULL'
        return "'" + text.replace("'", "''") + "'" if self.quoted else text


def number(limit):
    return lambda rng: str(rng.randrange(1, limit) if rng.random() < 0.9 else rng.choice([0, -1, limit * 10, 2**31 - 1]))


BIG = Key(20, number(ITEMS + 1), lambda t: struct.pack('!q', int(t)),
          ['99999999999999999999', '-99999999999999999999', '9223372036854775807', '1.5', '1e3', '-0', '007'])
INT = Key(23, number(500), lambda t: struct.pack('!i', int(t)), ['2147483648', '99999999999999999999'])
QUOTED_BIG = Key(20, number(ITEMS + 1), lambda t: struct.pack('!q', int(t)),
                 ['abc', '', ' 12 ', '99999999999999999999', '0x10', '1_000'], quoted=True)
SMALL = Key(21, lambda rng: str(rng.randrange(0, 7)), lambda t: struct.pack('!h', int(t)), ['32768'])
SPECIAL = ['', "quo'te \\ back", '{a,b}', 'NULL', 'ünïcode €', 'a,b"c', ' blank ', 'tab\tnew\nline', '{}', '"', '\\']
TEXT = Key(25, lambda rng: rng.choice(SPECIAL) if rng.random() < 0.2 else f'code-{rng.randrange(1, ITEMS + 50)}',
           lambda t: t.encode(), ["x' OR true --", '$1', 'é' * 300], quoted=True)
UUID = Key(2950, lambda rng: rng.choice([str, lambda u: str(u).upper(), lambda u: '{' + str(u) + '}'])(
    uuid.UUID(int=rng.randrange(1, ITEMS + 50))), lambda t: uuid.UUID(t).bytes, ['not a uuid', '', 'f47ac10b'],
    quoted=True)
DATE = Key(1082, lambda rng: f'200{rng.randrange(0, 3)}-0{rng.randrange(1, 10)}-{rng.randrange(10, 28)}', None,
           ['2000-02-30', 'yesterdaY', 'abc', '01.02.2000'], quoted=True)
PADDED = Key(1042, lambda rng: f'p{rng.randrange(1, 600)}' + ' ' * rng.randrange(0, 3), None, ['toolongforthis'],
             quoted=True)
NUMERIC = Key(1700, lambda rng: f'{rng.randrange(1, 600)}.5' + '0' * rng.randrange(0, 3), None, ['NaN0', 'x'])

CITEXT = Key(0, lambda rng: rng.choice([str.upper, str.lower, str.title])(f'key-{rng.randrange(1, 650)}'), None,
             ['', "x'"], quoted=True)
LOOSE = Key(25, lambda rng: rng.choice([str.upper, str.lower, str.title])(f'word-{rng.randrange(1, 650)}'), None,
            [''], quoted=True)
MOOD = Key(0, lambda rng: rng.choice(['sad', 'ok', 'happy', "it's fine"]), None, ['angry', 'SAD', ''], quoted=True)
ARRAY = Key(1007, lambda rng: '{%d,NULL,%d}' % (rng.randrange(50), rng.randrange(7)), None,
            ['{1,2', '{{1},{2}}', '{}', '{ 1 , null, 2 }'], quoted=True)
INET = Key(869, lambda rng: f'10.0.{rng.randrange(20)}.{rng.randrange(250)}' + rng.choice(['', '/32']), None,
           ['10.0.0.256', '::1'], quoted=True)
SPAN = Key(1186, lambda rng: rng.choice(['{} hours', '{}:00', 'PT{}H', '{} h']).format(rng.randrange(100)), None,
           ['soon', '1 fortnight'], quoted=True)
FLOAT = Key(701, lambda rng: f'{rng.randrange(90) / 4.0}' + rng.choice(['', '0', 'e0']), None, ['NaN', 'x', '1e999'],
            quoted=True)
CLOCK = Key(1083, lambda rng: f'{rng.randrange(6):02}:{rng.randrange(60):02}' + rng.choice(['', ':00', ':00.0']), None,
            ['25:00', 'noon'], quoted=True)
DECIMAL = Key(1700, lambda rng: f'{rng.randrange(1, 600)}.5' + '0' * rng.randrange(0, 3), None, ['NaN', 'x', ''], quoted=True)
WHOLE = Key(1700, lambda rng: str(rng.randrange(1, 600)), None, ['99999999999999999999'])

# SQL with {0}, {1} for the keys; the kinds of the keys. `none`: what may not be batched, but must be right.
SHAPES = [
    ('SELECT id, name FROM items WHERE id = {0}', BIG),
    ('SELECT * FROM items WHERE id = {0}', BIG),
    ('SELECT name, price, at, day, flag FROM items WHERE items.id = {0}', BIG),
    ('SELECT id, tags, doc, f, raw FROM items i WHERE i.id = {0}', QUOTED_BIG),
    ('SELECT name AS "Weird Name", price * 2 AS double, upper(name) FROM items WHERE id = {0}', BIG),
    ('SELECT n, code FROM codes WHERE code = {0}', TEXT),
    ('SELECT v FROM things WHERE id = {0}', UUID),
    ('SELECT sku FROM lines WHERE order_id = {0} AND line_no = {1}', INT, SMALL),
    ('SELECT line_no, sku FROM lines WHERE order_id = {0} ORDER BY line_no', INT),
    ('SELECT line_no FROM lines WHERE order_id = {0} ORDER BY line_no DESC LIMIT 2', INT),
    ('SELECT n, note FROM events WHERE item_id = {0} ORDER BY n LIMIT 3', INT),
    ('SELECT count(*) FROM events WHERE item_id = {0}', INT),
    ('SELECT count(*), sum(n), max(note) FROM events WHERE item_id = {0}', INT),
    ('SELECT c.code, k.name FROM codes c JOIN countries k ON k.code = c.country WHERE c.code = {0}', TEXT),
    ('SELECT i.name, e.n FROM items i LEFT JOIN events e ON e.item_id = i.id WHERE i.id = {0} ORDER BY e.n', BIG),
    ('SELECT v FROM days WHERE day = {0}', DATE),
    ('SELECT v FROM padded WHERE c = {0}', PADDED),
    ('SELECT v FROM sums WHERE k = {0}', NUMERIC),
    ('SELECT name FROM dear WHERE id = {0}', BIG),
    ('SELECT 100 / (id - 7) AS q, name FROM items WHERE id = {0}', BIG),
    ("SELECT name::int FROM items WHERE id = {0} AND flag", BIG),
    ('SELECT EXISTS (SELECT FROM events WHERE item_id = {0})', INT),
    ('SELECT (SELECT max(n) FROM events e WHERE e.item_id = i.id) FROM items i WHERE id = {0}', BIG),
    ('SELECT id FROM items WHERE id = {0} AND name IS NOT NULL AND small < 50', BIG),
    ('SELECT DISTINCT note FROM events WHERE item_id = {0} ORDER BY note', INT),
    ('SELECT now() IS NOT NULL, id FROM items WHERE id = {0}', BIG),
    ('SELECT name FROM items WHERE id = {0} FOR SHARE', BIG),
    ('SELECT id, coalesce(name, $${0}$$) FROM items WHERE id = {0}', INT),
    ('SELECT x, code FROM codes AS c(x, code) WHERE c.code = {0}', INT),
    ('SELECT name, small FROM items NATURAL JOIN (SELECT 2::int2 AS small) s WHERE id = {0}', BIG),
    ('(SELECT id, name FROM items WHERE id = {0} ORDER BY name LIMIT 1)', BIG),
    ('SELECT id, id, name AS id FROM items WHERE id = {0} -- ; the end', BIG),
    ('SELECT FROM items WHERE id = {0} OFFSET 0', BIG),
    ('SELECT i, row(i.id, i.tags) FROM items i WHERE id = {0}', BIG),
    ('SELECT grouping(small), count(*) FROM items WHERE id = {0} GROUP BY ROLLUP (small) ORDER BY 1, 2', BIG),
    ('SELECT n, max(n) OVER (ORDER BY n ROWS 1 PRECEDING) FROM events WHERE item_id = {0} ORDER BY 1', INT),
    ('SELECT count({0}), max({0}) FROM events WHERE item_id = {0}', INT),
    ('SELECT (SELECT sum({0}) FROM events WHERE item_id = {0}) FROM items WHERE id = {0}', INT),
    ('SELECT name FROM items "_shoal_k" WHERE "_shoal_k".id = {0}', BIG),
    ('SELECT n FROM events WHERE item_id = {0} ORDER BY n LIMIT {0}', INT),
    ('SELECT id, c FROM odd WHERE c = {0}', CITEXT),
    ('SELECT id, l, m FROM odd WHERE l = {0}', LOOSE),
    ('SELECT id, m FROM odd WHERE m = {0} ORDER BY id LIMIT 5', MOOD),
    ('SELECT count(*), min(id) FROM odd WHERE a = {0}', ARRAY),
    ('SELECT id, i FROM odd WHERE i = {0} ORDER BY id', INET),
    ('SELECT id, iv FROM odd WHERE iv = {0} ORDER BY id', SPAN),
    ('SELECT count(*), max(id) FROM odd WHERE r = {0}', FLOAT),
    ('SELECT id FROM odd WHERE t = {0} ORDER BY id', CLOCK),
    ('SELECT v, k FROM sums WHERE k = {0}', WHOLE),
    ('SELECT k, v FROM sums WHERE k = {0}', DECIMAL),
    ('SELECT v FROM parted WHERE tenant = {0} AND id = {1}', INT, INT),
    ('SELECT id, v FROM parted WHERE tenant = {0} ORDER BY id DESC LIMIT 3', INT),
    ('SELECT name, n, note FROM wide WHERE key = {0} ORDER BY n', INT),
    ('SELECT * FROM upon WHERE key = {0}', INT),
    ('SELECT name FROM frozen WHERE id = {0}', BIG),
    ('SELECT v FROM owned WHERE id = {0}', INT),
    ('SELECT o.v, i.name FROM owned o JOIN items i ON i.id = o.id WHERE o.id = {0}', INT),
]
# Of these all is said when they are right, wherever they went.
TIERS = {'SELECT id, c FROM odd WHERE c = {0}': 'B', 'SELECT id, l, m FROM odd WHERE l = {0}': 'B',
         'SELECT id, m FROM odd WHERE m = {0} ORDER BY id LIMIT 5': 'B',
         'SELECT count(*), min(id) FROM odd WHERE a = {0}': 'B', 'SELECT id, i FROM odd WHERE i = {0} ORDER BY id': 'B',
         'SELECT v, k FROM sums WHERE k = {0}': 'B', 'SELECT k, v FROM sums WHERE k = {0}': 'B',
         'SELECT name FROM dear WHERE id = {0}': 'B',
         'SELECT name, n, note FROM wide WHERE key = {0} ORDER BY n': 'B',
         'SELECT name FROM frozen WHERE id = {0}': 'A', 'SELECT v FROM owned WHERE id = {0}': 'A',
         'SELECT v FROM parted WHERE tenant = {0} AND id = {1}': 'B', 'SELECT v FROM things WHERE id = {0}': 'A',
         'SELECT v FROM padded WHERE c = {0}': 'B', 'SELECT v FROM days WHERE day = {0}': 'B'}


class Lookup:
    """One query of one client: its bytes, the same for both sides."""

    def __init__(self, rng, shape, client, nonce):
        self.sql, self.keys = shape[0], shape[1:]
        texts = []
        for key in self.keys:
            if key.poison and rng.random() < 0.04:
                texts.append(rng.choice(key.poison))
            else:
                texts.append(key.draw(rng))
        self.nonce = nonce
        how = rng.random()
        if how < 0.45 or '$$' in self.sql:
            self.data = self.simple(texts)
        else:
            if rng.random() < 0.02:
                texts[0] = None
            self.data = self.extended(rng, texts, client, named=how > 0.7)

    def simple(self, texts):
        literals = [key.literal(text) for key, text in zip(self.keys, texts)]
        return query(f'/* nonce {self.nonce} */ ' + self.sql.format(*literals))

    def extended(self, rng, texts, client, named):
        sql = self.sql.format(*[f'${n + 1}' for n in range(len(texts))])
        types = [key.oid for key in self.keys] if rng.random() < 0.5 else []
        values, formats = [], []
        want_binary = rng.random() < 0.4
        for key, text in zip(self.keys, texts):
            value, form = text, 0
            # Binary needs the declared type: without one the server decides, and it decides the column's.
            if want_binary and key.binary is not None and text is not None and text not in key.poison:
                value, form = key.binary(text), 1
            values.append(value)
            formats.append(form)
        results = rng.choice([[], [], [0], [1]])
        name = ''
        head = b''
        if named:
            name = f's{SHAPES_INDEX[self.sql]}-{len(types)}'
            if name not in client.prepared:
                client.prepared.add(name)
                head = parse(name, sql, types)
        else:
            head = parse('', f'{sql} -- nonce {self.nonce}' if rng.random() < 0.3 else sql, types)
        body = bind('', name, values, formats, results)
        if rng.random() < 0.7:
            body += describe('P')
        return head + body + execute() + sync()


SHAPES_INDEX = {shape[0]: n for n, shape in enumerate(SHAPES)}

# Settings that change what answers look like: members of a batch must agree on them.
DRESS = [None, None, None, "SET DateStyle = 'German'", "SET TimeZone = 'Asia/Tokyo'", "SET bytea_output = 'escape'",
         'SET extra_float_digits = 0', None]


class Client:
    def __init__(self, shoal, direct, number, database='solo', dress=True):
        self.ours, self.theirs = shoal.connect(database, timeout_s=60), direct.connect(database, timeout_s=60)
        self.prepared = set()
        setting = DRESS[number % len(DRESS)] if dress else None
        if setting:
            self.ours.query(setting)
            self.theirs.query(setting)

    def close(self):
        self.ours.close()
        self.theirs.close()


def clients_of(shoal, direct, **kwargs):
    return [Client(shoal, direct, n, **kwargs) for n in range(CLIENTS)]


def play(clients, lookups):
    """All send, then all read; the first difference is an AssertionError that shows the query."""
    for client, lookup in zip(clients, lookups):
        client.ours.send(lookup.data)
    for client, lookup in zip(clients, lookups):
        client.theirs.send(lookup.data)
    for client, lookup in zip(clients, lookups):
        expected, actual = client.theirs.until('Z'), client.ours.until('Z')
        found = difference(expected, actual)
        assert found is None, f'{lookup.data!r}\n{found}'


def batches(shoal):
    """Totals of SHOW BATCHES: (statements that came, statements sent to PostgreSQL)."""
    rows = shoal.console('SHOW BATCHES')
    return (sum(int(row['statements']) for row in rows), sum(int(row['batches']) for row in rows))


def batched(shoal, before, at_least):
    """Proves that batching happened since `before`: so many members, and fewer statements than members."""
    if not hasattr(shoal, 'console'):
        return
    members, sent = (now - then for now, then in zip(batches(shoal), before))
    assert members >= at_least, f'only {members} lookups were batched'
    assert sent < members * 0.7, f'{members} lookups in {sent} batches'


def totals(shoal):
    return batches(shoal) if hasattr(shoal, 'console') else (0, 0)


def batched_so_far(shoal):
    """Statements answered from batches, also those of templates that are gone."""
    return sum(int(row['value']) for row in shoal.console('SHOW STATS') if row['name'] == 'batched_statements')


# -- the oracle -----------------------------------------------------------------------------------------

def test_random_lookups(shoal, direct, rng):
    # A batched lookup answers other bytes than the lookup alone: the product's reason to exist is gone.
    clients, nonce = clients_of(shoal, direct), itertools.count()
    before = totals(shoal)
    for _ in range(ROUNDS):
        few = rng.sample(SHAPES, rng.choice([1, 1, 2, 3]))
        play(clients, [Lookup(rng, rng.choice(few), client, next(nonce)) for client in clients])
    assert next(nonce) >= 10000
    batched(shoal, before, 1000)
    for client in clients:
        client.close()


@pytest.mark.parametrize('shape', SHAPES, ids=range(len(SHAPES)))
def test_each_shape(shoal, direct, rng, shape):
    # One form of query is rewritten wrongly.
    clients = clients_of(shoal, direct, dress=False)
    for turn in range(3):
        play(clients, [Lookup(rng, shape, client, f'{turn}-{n}') for n, client in enumerate(clients)])
    for client in clients:
        client.close()


# -- a million -------------------------------------------------------------------------------------------

ANSWERS = 24000
BATCHED = 1000000 if host.LONG else 0  # so many of them from batches
SLOW = 'CREATE OR REPLACE FUNCTION slowly(bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS ' \
       "'BEGIN PERFORM pg_sleep(0.02); RETURN $1; END'"


def state_of(shoal):
    """What the router is doing, for the report of a failure."""
    return '\n'.join(f'{what}: {row}' for what in ('CLIENTS', 'SERVERS', 'POOLS', 'LOCKS')
                     for row in shoal.console(f'SHOW {what}'))


def direct_state(direct):
    return '\n'.join(str(row) for row in direct.query(
        'SELECT pid, state, wait_event, now() - query_start, query FROM pg_stat_activity', 'solo'))


def chaos_of(shoal, direct, seed):
    """Writers, DDL, cancels, timeouts, deaths: each a thread with its own connections, until it is stopped."""
    low, high = [0] * 20, [0] * 20  # of each watched row: acknowledged, and at most sent

    def write(me):
        me.conn = getattr(me, 'conn', None) or direct.connect('solo')
        k = me.turns % 20
        high[k] += 1
        me.conn.query(f'UPDATE watched SET n = {high[k]} WHERE id = {k}')
        low[k] = high[k]

    def watch(me):  # H39: a value that existed while the question was open
        me.conns = getattr(me, 'conns', None) or [shoal.connect('solo', timeout_s=60) for _ in range(12)]
        asked = []
        for n, conn in enumerate(me.conns):
            k = (me.turns * 7 + n // 2) % 20
            asked.append((k, low[k]))
            conn.send(query(f'SELECT n FROM watched WHERE id = {k}'))
        for conn, (k, least) in zip(me.conns, asked):
            seen = conn.until('Z')
            value = int(rows_of(seen)[0][0])
            if not least <= value <= high[k]:
                me.wrong.append(f'watched {k}: {value} is not within {least}..{high[k]}')

    def alter(me):  # columns that nobody asks for, indexes, statistics
        me.conn = getattr(me, 'conn', None) or direct.connect('solo', timeout_s=60)
        name = f'side{me.turns % 4}'
        for sql in (f'CREATE TABLE {name} (id int PRIMARY KEY)', f'ALTER TABLE {name} ADD x text',
                    f'CREATE VIEW {name}_view AS SELECT * FROM {name}', f'DROP TABLE {name} CASCADE', 'ANALYZE items'):
            me.conn.query(sql)
        time.sleep(0.3)

    def stop_early(me):  # cancels and timeouts: the right answer, or 57014
        rng = random.Random(seed * 1000 + me.turns)
        me.conns = getattr(me, 'conns', None) or [shoal.connect('solo', timeout_s=60) for _ in range(8)]
        if me.turns == 0:
            for conn in me.conns[:3]:
                conn.query("SET statement_timeout = '30ms'")
        for n, conn in enumerate(me.conns):
            conn.send(query(f'SELECT id, slowly(id) FROM items WHERE id = {n + 1}'))
        victim = rng.choice(me.conns)
        time.sleep(rng.random() * 0.03)
        victim.cancel()
        for n, conn in enumerate(me.conns):
            seen = conn.until('Z')
            errors = errors_of(seen)
            good = [err.code for err in errors] == ['57014'] if errors else rows_of(seen) == [[str(n + 1).encode()] * 2]
            if not good or (errors and conn is not victim and n >= 3):
                me.wrong.append(f'{n}: {seen}\n{state_of(shoal)}\n{direct_state(direct)}')

    def die(me):
        conns = [shoal.connect('solo') for _ in range(4)]
        for conn in conns:
            conn.send(query(f'SELECT id, slowly(id) FROM items WHERE id = {me.turns % 50 + 1}') * 3)
        time.sleep(0.004 * (me.turns % 5))
        for conn in conns:
            conn.abort()

    return [Chaos(turn) for turn in (write, watch, alter, stop_early, die)]


@pytest.mark.shoal_only
def test_many_answers_of_generated_schemas(shoal, direct, rng):
    # H10, H37-H42: among many thousands of batched answers one is another client's, old, or not PostgreSQL's.
    signal.alarm(14000 if host.LONG else 120)  # a million take their time
    direct.query(SLOW, 'solo')
    direct.query('CREATE TABLE watched (id int PRIMARY KEY, n int); INSERT INTO watched SELECT g, 0 '
                 'FROM generate_series(0, 19) g', 'solo')
    answers, seed, before, began = 0, host.SEED, totals(shoal), batched_so_far(shoal)
    chaos = chaos_of(shoal, direct, seed)
    for each in chaos:
        each.start()
    generation = members = 0
    try:
        while answers < ANSWERS or members < BATCHED:
            generation += 1
            schema = Schema(rng)
            with direct.connect('solo', timeout_s=60) as asked:
                asked.query(f'DROP SCHEMA IF EXISTS gen CASCADE; CREATE SCHEMA gen; SET search_path = gen, public; '
                            'GRANT USAGE ON SCHEMA gen TO other')
                schema.create(asked.query)
                answers += play_generation(shoal, asked, schema, rng, 50000 if host.LONG else ANSWERS // 2)
            members = batched_so_far(shoal) - began
            print(f'{answers} answers of {generation} schemas, {members} from batches, seed {seed}', flush=True)
            for each in chaos:
                assert not each.wrong, each.wrong[0]
    finally:
        for each in chaos:
            each.stop()
    assert all(each.turns > 0 for each in chaos)
    members, sent = (now - then for now, then in zip(batches(shoal), before))
    print(f'{answers} answers, {generation} schemas, {members} batched in {sent}')
    # Each DDL makes all statements be learned anew, so it is not most of them.
    assert members * 10 > answers and sent * 2 < members, (answers, members, sent)


def play_generation(shoal, asked, schema, rng, wanted):
    conns = [shoal.connect('solo', timeout_s=120) for _ in range(CLIENTS // 2)]
    for conn in conns:
        conn.query('SET search_path = gen, public')
    time.sleep(1.2)  # the catalog is read each second
    answers = 0
    while answers < wanted:
        questions = schema.questions(shapes=rng.choice([2, 4, 8]), each=60)
        answer_all(asked, questions)
        for _ in range(4):
            answers += play_pipelines(conns, rng, questions, depth=40)
    for conn in conns:
        conn.close()
    return answers


@pytest.mark.shoal_only
def test_which_tier(shoal, rng):
    # What could be batched is not: types, views, row security or partitions have fallen out.
    conns = [shoal.connect('solo') for _ in range(24)]
    for sql, tier in TIERS.items():
        keys = next(shape[1:] for shape in SHAPES if shape[0] == sql)
        marked = sql.replace('SELECT', f'SELECT {len(sql)} AS marked_{len(sql)},', 1)
        for _ in range(6):
            for conn in conns:
                conn.send(query(marked.format(*[key.literal(key.draw(rng)) for key in keys])))
            for conn in conns:
                assert not errors_of(conn.until('Z')), marked
        found = [row for row in shoal.console('SHOW BATCHES') if f'marked_{len(sql)},' in row['template']]
        assert any(row['tier'] == tier and int(row['statements']) > 0 for row in found), (sql, found)
    for conn in conns:
        conn.close()


class Same:
    """Lookups of the same bytes but for one."""

    def __init__(self, data):
        self.data = data


POISON = [
    ("SELECT name FROM items WHERE id = '{}'", 'abc'), ("SELECT name FROM items WHERE id = '{}'", '9' * 20),
    ('SELECT 100 / (id - 7) FROM items WHERE id = {}', '7'), ('SELECT name FROM items WHERE id = {}', '9' * 20),
    ("SELECT v FROM things WHERE id = '{}'", 'nonsense'), ("SELECT v FROM days WHERE day = '{}'", '2000-02-30'),
    ('SELECT name FROM items WHERE id = {}', '1.5'), ('SELECT name FROM items WHERE id = {}', 'NULL')]


@pytest.mark.parametrize('sql, poison', POISON, ids=range(len(POISON)))
@pytest.mark.parametrize('place', [0, 31, 63])
def test_one_poisoned_key(shoal, direct, sql, poison, place):
    # H37: one client's bad key fails the queries of 63 others, or they see its error.
    clients = clients_of(shoal, direct, dress=False)
    good = '00000000-0000-0000-0000-0000000000{:02}' if 'things' in sql else '2000-03-{:02}' if 'days' in sql else '{}'
    for _ in range(3):
        play(clients, [Same(query(sql.format(poison if n == place else good.format(10 + n % 20))))
                       for n in range(CLIENTS)])
    for client in clients:
        client.close()


def test_the_same_key_for_all(shoal, direct):
    # 20: the same key many times in a batch is answered once.
    clients = clients_of(shoal, direct, dress=False)
    before = totals(shoal)
    for k in range(1, 20):
        play(clients, [Same(query(f'SELECT id, name FROM items WHERE id = {k}')) for _ in clients])
    batched(shoal, before, 200)
    for client in clients:
        client.close()


@pytest.mark.parametrize('setting, code', [
    ("SET client_encoding = 'SJIS'", b"'\x95\\'"), ("SET client_encoding = 'SJIS'", b"'\x95\\ OR code = ''c1'"),
    ('SET standard_conforming_strings = off', rb"'quo\'te'"), ('SET standard_conforming_strings = off', b"'code-\\061'"),
    (None, b'- 7'), (None, b'--7\n7')], ids=range(6))
def test_what_ends_a_literal(shoal, direct, setting, code):
    # H44, H45: a backslash that is half a letter, or one that escapes, ends the literal elsewhere than thought.
    # Texts that are no standard SQL pin a server connection each, and there are four.
    count = 3 if setting and 'strings' in setting else 24
    clients = [Client(shoal, direct, n, dress=False) for n in range(count)]
    for client in clients:
        for conn in (client.ours, client.theirs):
            if setting:
                conn.query(setting)
    sql = b'SELECT code, n FROM codes WHERE code = ' if code.startswith(b"'") else b'SELECT id, name FROM items WHERE id = '
    for turn in range(3):
        play(clients, [Same(message('Q', sql + (code if n % 2 else b"'code-%d'" % n if setting else b'%d' % n) + b'\0'))
                       for n in range(count)])
    for client in clients:
        client.close()


def test_missing_keys_only(shoal, direct):
    # H40: a batch without any row leaves its members without an answer.
    clients = clients_of(shoal, direct, dress=False)
    for sql in ('SELECT name FROM items WHERE id = {}', 'SELECT count(*) FROM events WHERE item_id = {}'):
        for _ in range(3):
            play(clients, [Same(query(sql.format(900000 + n))) for n in range(CLIENTS)])
    for client in clients:
        client.close()


def test_fat_rows_among_thin_ones(shoal, direct):
    # 18, H40: one member with megabytes of rows holds up the others, or breaks the batch.
    direct.query("UPDATE items SET name = repeat('fat ', 300000) WHERE id IN (11, 12)", 'solo')
    clients = clients_of(shoal, direct, dress=False)
    for turn in range(3):
        play(clients, [Same(query(f'SELECT id, name FROM items WHERE id = {n % 20 + 1}')) for n in range(CLIENTS)])
    direct.query("UPDATE items SET name = 'item ' || id WHERE id IN (11, 12)", 'solo')
    for client in clients:
        client.close()


def test_pipelines_of_lookups(shoal, direct, rng):
    # H10: pipelined lookups of many clients, batched across them, come back in another order.
    clients = clients_of(shoal, direct, dress=False)
    for _ in range(4):
        plans = [[rng.randrange(1, ITEMS) for _ in range(12)] for _ in clients]
        for client, keys in zip(clients, plans):
            data = b''.join(query(f'/* {n} */ SELECT id, name FROM items WHERE id = {k}') for n, k in enumerate(keys))
            client.ours.send(data)
        for client, keys in zip(clients, plans):
            assert rows_of(client.ours.until('Z', len(keys))) == \
                [[str(k).encode(), f'item {k}'.encode()] for k in keys]
    for client in clients:
        client.close()


def test_sharded_lookups(shoal, direct, rng):
    # Batches for two shards mix their keys.
    if not hasattr(shoal, 'console'):
        pytest.skip('PostgreSQL stands in for Shoal')
    with shoal.connect('app') as conn:
        conn.query('CREATE TABLE users (id bigint PRIMARY KEY, name text)')
        conn.query("SELECT shoal.distribute_table('users', 'id')")
        seen = conn.exchange(b''.join(query(f"INSERT INTO users VALUES ({k}, 'user {k}')") for k in range(1, 501)), 500)
        assert not errors_of(seen)
    conns = [shoal.connect('app') for _ in range(CLIENTS)]
    before = totals(shoal)
    for _ in range(30):
        keys = [rng.randrange(1, 520) for _ in conns]
        for conn, k in zip(conns, keys):
            conn.send(query(f'SELECT id, name FROM users WHERE id = {k}'))
        for conn, k in zip(conns, keys):
            want = [[str(k).encode(), f'user {k}'.encode()]] if k <= 500 else []
            assert rows_of(conn.until('Z')) == want
    batched(shoal, before, 300)
    for conn in conns:
        conn.close()


# -- what must not travel together ----------------------------------------------------------------------

def test_row_security_sees_its_own_tenant(shoal):
    # 5, H41: a batch runs with one tenant's settings and shows its rows to all others.
    conns = [shoal.connect('solo', user='other') for _ in range(16)]
    for n, conn in enumerate(conns):
        conn.query(f"SET app.tenant = 't{n}'")
    for turn in range(20):
        for conn in conns:
            conn.send(query(f'SELECT v FROM secured WHERE id = {turn % 50 + 1}'))
        for n, conn in enumerate(conns):
            assert rows_of(conn.until('Z')) == [[f'row {turn % 50 + 1} of t{n}'.encode()]]
    for conn in conns:
        conn.close()


def test_read_your_writes(shoal):
    # 1, H39: a lookup joins a batch that began before my own write, and shows me the past.
    wrong = []

    def work(number):
        rng = random.Random(number)
        with shoal.connect('solo', timeout_s=60) as conn:
            for turn in range(40):
                conn.query(f'UPDATE counters SET n = {turn} WHERE id = {number}')
                if conn.query(f'SELECT n FROM counters WHERE id = {number}') != [[str(turn)]]:
                    wrong.append((number, turn))
                conn.query(f'SELECT n FROM counters WHERE id = {rng.randrange(1, 100)}')

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 33)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_volatile_functions_run_for_each(shoal):
    # 9: nextval() in a lookup is evaluated once for the whole batch.
    conns = [shoal.connect('solo') for _ in range(CLIENTS)]
    drawn = []
    for _ in range(3):
        for n, conn in enumerate(conns):
            conn.send(query(f"SELECT nextval('seq'), id FROM items WHERE id = {n + 1}"))
        drawn += [rows_of(conn.until('Z'))[0][0] for conn in conns]
    assert len(set(drawn)) == len(drawn)
    for conn in conns:
        conn.close()


def test_inside_transactions(shoal):
    # 2, 3: a lookup inside a transaction must see that transaction's own rows and snapshot.
    conns = [shoal.connect('solo') for _ in range(4)]
    for n, conn in enumerate(conns):
        conn.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
        conn.query(f'INSERT INTO items (id, name) VALUES ({800000 + n}, \'mine {n}\')')
    for n, conn in enumerate(conns):
        for other in range(4):
            want = [[f'mine {n}']] if other == n else []
            assert conn.query(f'SELECT name FROM items WHERE id = {800000 + other}') == want
        conn.query('ROLLBACK')
        conn.close()


def test_temporary_tables_shadow(shoal):
    # 6: a client's temporary table of the same name is overlooked, or shown to others.
    with shoal.connect('solo') as conn, shoal.connect('solo') as other:
        try:
            conn.query('CREATE TEMP TABLE countries (code char(2) PRIMARY KEY, name text)')
        except PgError as err:
            assert err.code == '0A000'
            return
        conn.query("INSERT INTO pg_temp.countries VALUES ('de', 'mine')")
        for _ in range(10):
            assert conn.query("SELECT name FROM countries WHERE code = 'de'") == [['mine']]
            assert other.query("SELECT name FROM countries WHERE code = 'de'") == [['Germany']]
        conn.query('DROP TABLE pg_temp.countries')


def test_search_path_decides_the_table(shoal, direct):
    # 5: two clients mean two tables by one name.
    direct.cluster.sql('CREATE SCHEMA IF NOT EXISTS a', 'CREATE SCHEMA IF NOT EXISTS b',
                       *[f'CREATE TABLE {s}.same (id int PRIMARY KEY, v text)' for s in 'ab'],
                       *[f"INSERT INTO {s}.same SELECT g, '{s}' || g FROM generate_series(1, 100) g" for s in 'ab'],
                       database='solo', user='app')
    conns = [shoal.connect('solo') for _ in range(20)]
    for n, conn in enumerate(conns):
        conn.query(f"SET search_path = {'ab'[n % 2]}")
    for turn in range(10):
        for conn in conns:
            conn.send(query(f'SELECT v FROM same WHERE id = {turn + 1}'))
        for n, conn in enumerate(conns):
            assert rows_of(conn.until('Z')) == [[f"{'ab'[n % 2]}{turn + 1}".encode()]]
    for conn in conns:
        conn.close()


def test_ddl_between_batches(shoal, direct):
    # 11, H19: after ALTER TABLE on the server, the old RowDescription goes on being sent.
    direct.cluster.sql('CREATE TABLE moving (id int PRIMARY KEY, v text)',
                       "INSERT INTO moving SELECT g, 'v' || g FROM generate_series(1, 100) g",
                       database='solo', user='app')
    clients = clients_of(shoal, direct, dress=False)
    changes = ['ALTER TABLE moving ADD w int DEFAULT 5', 'ALTER TABLE moving ALTER w TYPE bigint',
               'ALTER TABLE moving RENAME v TO vv', 'ALTER TABLE moving DROP w',
               'ALTER TABLE moving DROP CONSTRAINT moving_pkey']
    for change in [None] + changes:
        if change:
            direct.cluster.sql(change, database='solo', user='app')
        for _ in range(3):
            play(clients, [Same(query(f'SELECT * FROM moving WHERE id = {n + 1}')) for n in range(CLIENTS)])
    for client in clients:
        client.close()


@pytest.mark.shoal_only
def test_cancel_one_member(shoal):
    # 16: cancelling one client's lookup cancels the batch of all.
    conns = [shoal.connect('solo') for _ in range(CLIENTS)]
    for turn in range(20):
        for n, conn in enumerate(conns):
            conn.send(query(f'SELECT id FROM items WHERE id = {n + 1}'))
        conns[turn].cancel()
        for n, conn in enumerate(conns):
            seen = conn.until('Z')
            errors = errors_of(seen)
            if n == turn and errors:
                assert errors[0].code == '57014'
            else:
                assert rows_of(seen) == [[str(n + 1).encode()]], f'client {n} in turn {turn}: {seen}'
    for conn in conns:
        conn.close()


@pytest.mark.shoal_only
def test_members_die(shoal):
    # A client that dies while its batch runs takes the others' answers with it.
    conns = [shoal.connect('solo') for _ in range(CLIENTS)]
    for turn in range(20):
        for n, conn in enumerate(conns):
            conn.send(query(f'SELECT id, name FROM items WHERE id = {n + 1}'))
        for victim in (turn, turn + 20, turn + 40):
            conns[victim].abort()
        for n, conn in enumerate(conns):
            if not conn.closed:
                assert rows_of(conn.until('Z')) == [[str(n + 1).encode(), f'item {n + 1}'.encode()]]
        for victim in (turn, turn + 20, turn + 40):
            conns[victim] = shoal.connect('solo')
    for conn in conns:
        conn.close()


@pytest.mark.shoal_only
def test_reasons_are_counted(shoal):
    # Nobody can tell why an application's lookups are not batched.
    with shoal.connect('solo') as conn:
        for _ in range(5):
            conn.query('SELECT id FROM items WHERE id = 1 FOR SHARE')
            conn.query('SELECT random(), id FROM items WHERE id = 1')
    rows = shoal.console('SHOW BATCH_REASONS')
    assert rows and any(int(row['statements']) > 0 for row in rows)


@pytest.mark.shoal_only
def test_batch_off_for_a_database(workspace, clusters, shoal_users):
    # batch = off is ignored.
    from tests.support.shoal import Shoal
    shoal = Shoal(workspace, {'s0': clusters[0]}, databases={'solo': {'batch': 'off', 'pool_size': '4'}},
                  users=shoal_users, name='off').start()
    try:
        conns = [shoal.connect('solo') for _ in range(CLIENTS)]
        for turn in range(5):
            for n, conn in enumerate(conns):
                conn.send(query(f'SELECT id FROM items WHERE id = {n + 1}'))
            for n, conn in enumerate(conns):
                assert rows_of(conn.until('Z')) == [[str(n + 1).encode()]]
        assert sum(int(row['statements']) for row in shoal.console('SHOW BATCHES')) == 0
        for conn in conns:
            conn.close()
    finally:
        shoal.finish()
