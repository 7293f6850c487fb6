"""The shard function is PostgreSQL's own: many thousand random keys of each type, asked of PostgreSQL itself."""
import random
import struct
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.support import host
from tests.support.shoal import binary
from tests.support.wire import PgError

MODULUS = 1024
COUNT = 50000 if host.LONG else 3000
ROUTED = 2000 if host.LONG else 120

OID = {'int2': 21, 'int4': 23, 'int8': 20, 'text': 25, 'varchar': 1043, 'bpchar': 1042, 'uuid': 2950, 'bytea': 17,
       'date': 1082, 'timestamp': 1114, 'timestamptz': 1184, 'bool': 16}
DECLARED = dict({t: t for t in OID}, bpchar='char(20)', varchar='varchar(300)')


def whole_number(rng, bits):
    edge = 2 ** (bits - 1)
    kind = rng.random()
    if kind < 0.1:
        return rng.choice([0, 1, -1, edge - 1, -edge, edge // 2, -edge // 2])
    if kind < 0.5:
        return rng.randrange(-1000, 1000)
    return rng.randrange(-edge, edge)


def some_text(rng, longest=40):
    alphabet = rng.choice(['abc ', 'aäöüé€😀', '0123456789-', "'\"\\%_\t\n", 'the quick brown fox'])
    return ''.join(rng.choice(alphabet) for _ in range(rng.randrange(0, longest)))


def moment(rng):
    """Years that PostgreSQL writes without BC, from 1 to 9999, with and without a fraction."""
    day = f'{rng.randrange(1, 10000):04}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}'
    time = f'{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}'
    fraction = rng.choice(['', '', f'.{rng.randrange(10**6):06}', f'.{rng.randrange(10)}'])
    return day, time + fraction


def key(rng, kind):
    """A random key as text that PostgreSQL's input function takes."""
    if kind in ('int2', 'int4', 'int8'):
        return str(whole_number(rng, {'int2': 16, 'int4': 32, 'int8': 64}[kind]))
    if kind in ('text', 'varchar'):
        return some_text(rng, 300 if rng.random() < 0.05 else 40)
    if kind == 'bpchar':
        return some_text(rng, 18) + ' ' * rng.randrange(3)
    if kind == 'uuid':
        text = str(uuid.UUID(int=rng.getrandbits(128)))
        return rng.choice([text, text.upper(), '{' + text + '}', text.replace('-', '')])
    if kind == 'bytea':
        return '\\x' + rng.randbytes(rng.randrange(0, 30)).hex()
    if kind == 'date':
        return moment(rng)[0]
    if kind == 'timestamp':
        return ' '.join(moment(rng))
    if kind == 'timestamptz':
        return ' '.join(moment(rng)) + rng.choice(['+00', '+02', '-05:30', 'Z'])
    return rng.choice(['t', 'f', 'true', 'no', 'on', '0'])


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def ask_shoal(kind, keys, form=0):
    """Row hashes by Shoal's own code; None where it leaves the value to PostgreSQL."""
    lines = ''.join(f'{OID[kind]}\t{form}\t{(k if isinstance(k, bytes) else k.encode()).hex()}\n' for k in keys)
    program = Path(binary()).parents[1] / 'tests' / 'support' / 'hash_cli'
    done = subprocess.run([str(program)], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    answers = done.stdout.decode().split()
    assert len(answers) == len(keys)
    return [None if a in ('opaque', 'range') else int(a) for a in answers]


@pytest.fixture(scope='module')
def judge(clusters):
    """PostgreSQL with an empty hash-partitioned table per type."""
    for kind in OID:
        clusters[0].sql(f'CREATE TABLE judge_{kind} (k {DECLARED[kind]}) PARTITION BY HASH (k)', database='solo')
    return clusters[0]


def satisfied(judge, kind, pairs):
    """For (key text, remainder) pairs: does PostgreSQL put that key there?"""
    wrong = []
    for at in range(0, len(pairs), 500):
        values = ', '.join(f'({n}, {quoted(k)}, {r})' for n, (k, r) in enumerate(pairs[at:at + 500], at))
        rows = judge.query(f"SELECT n FROM (VALUES {values}) v(n, k, r) WHERE NOT satisfies_hash_partition("
                           f"'judge_{kind}'::regclass, {MODULUS}, r, k::{DECLARED[kind]})", 'solo')
        wrong += [pairs[int(n)] for (n,) in rows]
    return wrong


@pytest.mark.shoal_only
@pytest.mark.parametrize('kind', OID)
def test_hash_equals_postgresql(judge, rng, kind):
    # Rows of an existing hash-partitioned table, and every check on a shard, disagree with the router.
    keys = [key(rng, kind) for _ in range(COUNT)]
    hashes = ask_shoal(kind, keys)
    understood = [(k, h % MODULUS) for k, h in zip(keys, hashes) if h is not None]
    assert len(understood) > COUNT * 0.9, 'most keys are left to PostgreSQL'
    assert satisfied(judge, kind, understood) == []


@pytest.mark.shoal_only
def test_binary_equals_text(rng):
    # H52: a driver that sends binary looks on another shard.
    for kind, code, bits in (('int2', '!h', 16), ('int4', '!i', 32), ('int8', '!q', 64)):
        keys = [whole_number(rng, bits) for _ in range(1000)]
        assert ask_shoal(kind, [str(k) for k in keys]) == ask_shoal(kind, [struct.pack(code, k) for k in keys], 1)
    uuids = [uuid.UUID(int=rng.getrandbits(128)) for _ in range(1000)]
    assert ask_shoal('uuid', [str(u) for u in uuids]) == ask_shoal('uuid', [u.bytes for u in uuids], 1)
    texts = [some_text(rng) for _ in range(1000)]
    assert ask_shoal('text', texts) == ask_shoal('text', texts, 1)


@pytest.mark.shoal_only
def test_integers_of_all_widths_agree(rng):
    # A smallint key joined to a bigint key lies on another shard.
    keys = [str(whole_number(rng, 16)) for _ in range(1000)]
    assert ask_shoal('int2', keys) == ask_shoal('int4', keys) == ask_shoal('int8', keys)


@pytest.mark.shoal_only
def test_vectors():
    # The shard of a key changes with a new version of Shoal, and every row is on the wrong one.
    vectors = {('int8', '0'): 432, ('int8', '1'): 952, ('int8', '42'): 610, ('int8', '-42'): 322,
               ('int8', '9223372036854775807'): 630, ('int8', '-9223372036854775808'): 383, ('text', ''): 166,
               ('text', 'a'): 862, ('text', 'user-1'): 245, ('text', 'é'): 943,
               ('uuid', 'f47ac10b-58cc-4372-a567-0e02b2c3d479'): 362}
    for (kind, text), bucket in vectors.items():
        assert ask_shoal(kind, [text])[0] % MODULUS == bucket, (kind, text)


@pytest.mark.shoal_only
@pytest.mark.parametrize('kind', OID)
def test_rows_through_the_wire(shoal, clusters, judge, kind):
    # What the hash says and where the router sends the row are two things.
    rng = random.Random(f'{host.SEED} wire {kind}')
    with shoal.connect('app') as conn:
        conn.query(f'CREATE TABLE by_{kind} (k {DECLARED[kind]} NOT NULL, n int)')
        conn.query(f"SELECT shoal.distribute_table('by_{kind}', 'k')")
        sent = 0
        for n in range(ROUTED if kind != 'bool' else 10):
            text = key(rng, kind)
            try:
                if n % 2:
                    conn.execute(f'INSERT INTO by_{kind} (k, n) VALUES ($1, $2)', [text, str(n)])
                else:
                    conn.query(f'INSERT INTO by_{kind} (k, n) VALUES ({quoted(text)}, {n})')
                sent += 1
            except PgError as err:
                assert err.code == '0A000', str(err)  # a spelling that only PostgreSQL understands
        assert sent > ROUTED * 0.8 or kind == 'bool'
    found = 0
    for shard, cluster in enumerate(clusters):
        rows = cluster.query(f'SELECT k::text FROM by_{kind}', 'app')
        found += len(rows)
        hashes = ask_shoal(kind, [r[0] for r in rows]) if rows else []
        on = [h % MODULUS * 2 // MODULUS for h in hashes if h is not None]
        assert all(s == shard for s in on), f'{kind}: rows on the wrong shard'
    assert found == sent
