"""An ORM's migrations run unchanged over two shards, up and down; its queries answer as on one PostgreSQL.

Django, with migrations as it makes them itself. `plain` is a database without Shoal.
"""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_drivers import environment
from tests.support.shoal import Shoal

pytestmark = pytest.mark.shoal_only
pytest.importorskip('django', reason="needs Debian's python3-django")

TABLES = ('tenant', 'user', 'order', 'item', 'event')


@pytest.fixture(scope='module')
def shoal(workspace, clusters, shoal_databases, shoal_users):
    """The shop's tables are distributed as soon as a migration makes them."""
    tables = {f'shop_{name}': {'key': 'id', 'database': 'app'} for name in TABLES}
    shoal = Shoal(workspace, {'s0': clusters[0], 's1': clusters[1]}, databases=shoal_databases, users=shoal_users,
                  tables=tables).start()
    yield shoal
    shoal.finish()


@pytest.fixture(scope='module')
def project(workspace):
    folder = workspace.path / 'saas'
    shutil.copytree(Path(__file__).parent / 'saas', folder, ignore=shutil.ignore_patterns('__pycache__'))
    return folder


def manage(project, end, *arguments):
    env = dict(environment(), PGPORT=str(end[0]), PGDATABASE=end[1], PYTHONDONTWRITEBYTECODE='1')
    done = subprocess.run([sys.executable, str(project / 'manage.py'), *arguments], capture_output=True, text=True,
                          timeout=110, env=env, cwd=project)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_django(shoal, clusters, project):
    # The first migration of an existing application fails, or its pages show half of the rows.
    clusters[0].sql('CREATE DATABASE plain OWNER app')
    sharded, plain = (shoal.port, 'app'), (clusters[0].port, 'plain')
    manage(project, plain, 'makemigrations', 'shop')
    for end in (sharded, plain):
        manage(project, end, 'migrate')
        manage(project, end, 'migrate', 'shop', 'zero')
        manage(project, end, 'migrate')
        assert 'No changes detected' in manage(project, end, 'makemigrations', '--check')
    assert shoal.console('SHOW SCHEMA_DRIFT') == []
    assert {row['name']: row['kind'] for row in shoal.console('SHOW TABLES')} == {f'shop_{t}': 'hash' for t in TABLES}
    answers = [manage(project, end, 'answers').splitlines() for end in (sharded, plain)]
    assert answers[0] == answers[1]
    spread = [cluster.query('SELECT count(*) FROM shop_item', 'app')[0][0] for cluster in clusters]
    assert '0' not in spread and sum(map(int, spread)) == 240
    model = project / 'shop' / 'models.py'
    model.write_text(model.read_text().replace(
        "plan = models.CharField(max_length=10, default='free', db_index=True)",
        "plan = models.CharField(max_length=20, default='free')\n    seats = models.IntegerField(default=5)"))
    manage(project, plain, 'makemigrations', 'shop')
    for end in (sharded, plain):
        manage(project, end, 'migrate')
    assert shoal.console('SHOW SCHEMA_DRIFT') == []
    assert shoal.query('SELECT sum(seats) FROM shop_tenant') == [['65']]
    manage(project, sharded, 'migrate', 'shop', '0001')
    manage(project, sharded, 'migrate', 'shop', 'zero')
    assert shoal.console('SHOW SCHEMA_DRIFT') == []
