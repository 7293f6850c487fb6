"""Statements over 2, 3 and 5 shards are answered as by one PostgreSQL with all the rows.

Scripts come from tests/support/sql_grammar.py by seed and number; a failure names both, and SHOAL_SEED replays it. Lanes run
side by side, each with a database of its own on Shoal and on one PostgreSQL. Refusals (0A000) are counted by their reason.
"""
import os
import signal

import pytest

from tests.e2e.conftest import prepared_cluster
from tests.support import host, sql_lane
from tests.support.shoal import Shoal

pytestmark = pytest.mark.shoal_only

SHARDS = [2, 3, 5]
# Statements of each lane. A fixed share of time each: a lane of 5 shards is the slowest.
STATEMENTS = int(os.environ.get('SHOAL_ORACLE', '0')) or (16700 if host.LONG else 170)
LANES = 2 if host.LONG else 1  # of each number of shards


@pytest.fixture(scope='module')
def clusters(workspace):
    made = [prepared_cluster(workspace, f's{n}') for n in range(max(SHARDS))]
    names = [f'{count}shards{lane}' for count in SHARDS for lane in range(LANES)]
    for number, cluster in enumerate(made):
        cluster.sql(*[f'CREATE DATABASE "{name}" OWNER app' for name in names])
        for name in names:  # the OIDs of types differ from shard to shard (H55)
            cluster.sql(*[f'CREATE TYPE filler{n} AS ENUM ()' for n in range(number)], database=name, user='app')
    yield made
    for cluster in made:
        cluster.stop()


@pytest.fixture(scope='module')
def solo(workspace):
    cluster = prepared_cluster(workspace, 'solo')
    cluster.sql(*[f'CREATE DATABASE "{count}shards{lane}" OWNER app' for count in SHARDS for lane in range(LANES)])
    yield cluster
    cluster.stop()


@pytest.fixture(scope='module')
def shoals(workspace, clusters, shoal_users):
    """One for each number of shards: buckets are spread over all shards that a shoald knows."""
    made = {}
    for count in SHARDS:
        shards = {f's{n}': clusters[n] for n in range(count)}
        made[count] = Shoal(workspace, shards, users=shoal_users, name=f'shoal-{count}',
                            databases={f'{count}shards{lane}': {'shards': ', '.join(shards)} for lane in range(LANES)})
        made[count].start()
    yield made
    for shoal in made.values():
        shoal.finish()


@pytest.fixture(scope='module')
def lanes(shoals, clusters, solo):
    signal.alarm(0 if host.LONG else 120)
    made = []
    for count in SHARDS:
        for lane in range(LANES):
            one = sql_lane.Lane(f'{count}shards{lane}', f'{host.SEED}/{count}.{lane}', shoals[count].address,
                                [('127.0.0.1', c.port) for c in clusters[:count]], ('127.0.0.1', solo.port))
            one.set_up()
            made.append(one)
    return made


def test_random_statements(lanes, record_property):
    # H46-H51: a statement that needs rows of several shards is answered from some of them, or writes to some of them.
    signal.alarm(3600 if host.LONG else 120)
    counts, refused, wrong = sql_lane.run_together(lanes, STATEMENTS)
    print(dict(counts), *refused.most_common(), sep='\n')
    for what, count in [*counts.items(), *refused.items()]:
        record_property(what, count)
    assert not wrong, f'seed {host.SEED}\n' + '\n\n'.join(wrong)
    assert counts['answered alike'] > 0.6 * counts['statements'], refused
