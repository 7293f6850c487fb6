"""SELECTs over 2, 3 and 5 shards are answered as by one PostgreSQL with all the rows.

Statements come from tests/support/select_grammar.py by seed and number; a failure names both, and SHOAL_SEED replays it.
Refusals (0A000) are counted by their reason.
"""
import random
from collections import Counter
from decimal import Decimal

import pytest

from tests.e2e.conftest import prepared_cluster
from tests.support import host
from tests.support import select_grammar as oracle
from tests.support.cluster import wait_until
from tests.support.shoal import Shoal
from tests.support.wire import bind, describe, errors_of, execute, parse, query, rows_of, sync, tags_of

pytestmark = pytest.mark.shoal_only

# database: its shards
SPREAD = {'two': ['s0', 's1'], 'three': ['s0', 's1', 's2'], **({'five': ['s0', 's1', 's2', 's3', 's4']} if host.LONG else {})}
STATEMENTS = 34000 if host.LONG else 400


@pytest.fixture(scope='module')
def clusters(workspace):
    names = sorted({name for shards in SPREAD.values() for name in shards})
    made = [prepared_cluster(workspace, name) for name in names]
    for number, cluster in enumerate(made):
        cluster.sql(*[f'CREATE DATABASE {name} OWNER app' for name in SPREAD])
        for name in SPREAD:  # the OIDs of types differ from shard to shard (H55)
            cluster.sql(*[f'CREATE TYPE filler{n} AS ENUM ()' for n in range(number)], database=name, user='app')
    yield made
    for cluster in made:
        cluster.stop()


@pytest.fixture(scope='module')
def shoals(workspace, clusters, shoal_users):
    """One for each database: buckets are spread over all shards that a shoald knows."""
    made = {}
    for name, shards in SPREAD.items():
        made[name] = Shoal(workspace, dict(zip(shards, clusters)), users=shoal_users,
                           databases={name: {'shards': ', '.join(shards)}}, name=f'shoal-{name}')
        made[name].start()
    yield made
    for shoal in made.values():
        shoal.finish()


@pytest.fixture(scope='module')
def app(shoals, clusters):
    inserts = list(oracle.rows(random.Random(host.SEED)))
    clusters[0].sql(*oracle.SCHEMA, *inserts, database='solo', user='app')
    for name, shoal in shoals.items():
        with shoal.connect(name, timeout_s=60) as conn:
            for ddl in oracle.SCHEMA:
                conn.query(ddl)
            for table, (_, key, _) in oracle.TABLES.items():
                if key:
                    conn.query(f"SELECT shoal.distribute_table('{table}', '{key}')")
            for insert in inserts:
                conn.query(insert)
    return shoals


def bytes_of(statement):
    if not statement.values:
        return query(statement.sql)
    return parse('', statement.sql) + bind('', '', statement.values) + describe('P') + execute() + sync()


def columns_of(seen):
    """Names and types of the answer. Types of users have their own OID in each database."""
    body = next((m.body for m in seen if m.type == 'T'), b'\0\0')
    out, at = [], 2
    for _ in range(int.from_bytes(body[:2], 'big')):
        end = body.index(b'\0', at)
        oid = int.from_bytes(body[end + 7:end + 11], 'big')
        out.append((body[at:end], oid if oid < 16384 else 'user'))
        at = end + 19
    return out


def plain(value, oid):
    """1.20 and 1.2 are equal: which of them DISTINCT keeps, and which comes first, is nobody's promise."""
    return Decimal(value.decode()).normalize() if oid == 1700 and value is not None else value


def outcome(seen, ordered):
    if errors_of(seen):
        return errors_of(seen)[0].code
    columns = columns_of(seen)
    rows = [tuple(plain(value, oid) for value, (_, oid) in zip(row, columns)) for row in rows_of(seen)]
    return columns, tags_of(seen), rows if ordered else Counter(rows)


@pytest.mark.parametrize('name', list(SPREAD))
def test_random_statements(app, clusters, name, record_property):
    # H46-H50: a statement that needs rows of several shards is answered from some of them.
    refused, counts = Counter(), Counter()
    with app[name].connect(name, timeout_s=60) as ours, clusters[0].connect('solo', 'app', timeout_s=60) as theirs:
        for n in range(STATEMENTS):
            statement = oracle.Grammar(f'{host.SEED} {n}').statement()
            data = bytes_of(statement)
            seen = ours.exchange(data)
            expected = outcome(theirs.exchange(data), statement.ordered)
            actual = outcome(seen, statement.ordered)
            counts['statements'] += 1
            if actual == '0A000' and expected != '0A000':
                err = errors_of(seen)[0]
                refused[f"{err['M']}: {err['D']}"] += 1
                continue
            counts['failed alike' if isinstance(expected, str) else 'answered'] += 1
            assert actual == expected, \
                f'seed {host.SEED}, statement {n}: {statement!r}\nPostgreSQL {expected}\nShoal      {actual} {errors_of(seen)}'
    print(name, dict(counts), *refused.most_common(), sep='\n')
    for what, count in [*counts.items(), *refused.items()]:
        record_property(what, count)
    assert counts['answered'] > 0.7 * STATEMENTS, refused
