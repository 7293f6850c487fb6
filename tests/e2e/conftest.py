"""What every suite shares: two shards, a one-shard database beside them, shoald in front.

    app     distributed over s0 and s1      solo    on s0 alone: every statement has one server
    shoal   the console                     direct  the same servers without Shoal

SHOAL_TARGET=direct puts PostgreSQL in Shoal's place, for the tests that can bear it.
"""
import os
import random
import resource
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import host  # noqa: E402
from tests.support.cluster import Cluster  # noqa: E402
from tests.support.shoal import Direct, Shoal  # noqa: E402
from tests.support.wire import Conn  # noqa: E402

STAND_IN = os.environ.get('SHOAL_TARGET') == 'direct'


def pytest_report_header(config):
    return f'seed {host.SEED}' + (', long' if host.LONG else '')


def pytest_configure(config):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # thousands of idle clients
    config.addinivalue_line('markers', 'shoal_only: asks for what only Shoal has')


def pytest_collection_modifyitems(items):
    if STAND_IN:
        for item in items:
            if item.get_closest_marker('shoal_only'):
                item.add_marker(pytest.mark.skip(reason='PostgreSQL stands in for Shoal'))


@pytest.fixture
def rng(request):
    """Random, but the same for the same seed and test."""
    return random.Random(f'{host.SEED} {request.node.name}')


@pytest.fixture(scope='module')
def workspace(request):
    return host.Workspace(request.module.__name__.rpartition('.')[2].removeprefix('test_'))


def prepared_cluster(workspace, name, **kwargs):
    """A running server with the roles and databases that the suites speak of."""
    cluster = Cluster(workspace, name, **kwargs).create().start()
    cluster.sql('CREATE ROLE app LOGIN SUPERUSER', 'CREATE ROLE other LOGIN',
                'CREATE ROLE admin LOGIN', 'CREATE DATABASE app OWNER app',
                'CREATE DATABASE solo OWNER app')
    return cluster


@pytest.fixture(scope='module')
def solo_schema():
    """Statements run in solo, directly, before Shoal starts."""
    return []


@pytest.fixture(scope='module')
def clusters(workspace, solo_schema):
    made = [prepared_cluster(workspace, name) for name in ('s0', 's1')]
    made[0].sql(*solo_schema, database='solo', user='app')
    yield made
    for cluster in made:
        cluster.stop()


@pytest.fixture(scope='module')
def direct(clusters):
    """The home shard without Shoal."""
    return Direct(clusters[0], ('solo', 'app'))


# A suite overrides any of these by defining a fixture of the same name.
@pytest.fixture(scope='module')
def shoal_settings():
    return {}


@pytest.fixture(scope='module')
def batch_settings():
    return {}


@pytest.fixture(scope='module')
def shoal_users():
    return {'admin': {'admin': 'on'}, 'app': {'admin': 'on'}, 'other': {}}


@pytest.fixture(scope='module')
def shoal_databases():
    return {'app': {'shards': 's0, s1'}, 'solo': {'shards': 's0'}}


@pytest.fixture(scope='module')
def shoal(workspace, clusters, shoal_settings, batch_settings, shoal_users, shoal_databases):
    if STAND_IN:
        yield Direct(clusters[0], ('app', 'solo'))
        return
    shoal = Shoal(workspace, {'s0': clusters[0], 's1': clusters[1]}, databases=shoal_databases,
                  users=shoal_users, settings=shoal_settings, batch=batch_settings)
    shoal.start()
    try:
        yield shoal
    finally:
        shoal.finish()


TEST_S = 600 if host.LONG else 300


@pytest.fixture(autouse=True)
def time_limit():
    """A test that hangs fails, and says where; the suite goes on."""
    def expired(*_):
        raise TimeoutError(f'the test took longer than {TEST_S} s')
    signal.signal(signal.SIGALRM, expired)
    signal.alarm(TEST_S)
    yield
    signal.alarm(0)


@pytest.fixture(autouse=True)
def still_standing(request):
    """A shoald that died under a test fails that test, not the next one; nor does what it left open."""
    before = set(Conn.opened)
    yield
    for conn in set(Conn.opened) - before:
        conn.abort()
    shoal = request.node.funcargs.get('shoal')
    process = getattr(shoal, 'process', None)
    if process is not None and process.poll() is not None and \
            not request.node.get_closest_marker('may_stop'):
        pytest.fail(f'shoald ended with {process.returncode}:\n{shoal.tail()}')
