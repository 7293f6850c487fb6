"""SQLAlchemy's models and Alembic's migrations run unchanged over two shards: made by themselves, up and down, queries alike.

`plain` is a database without Shoal. Needs Debian's python3-alembic.
"""
import os
import subprocess
import sys

import pytest

from tests.e2e.test_drivers import environment
from tests.support.shoal import Shoal

pytestmark = pytest.mark.shoal_only
pytest.importorskip('alembic', reason="needs Debian's python3-alembic")

TABLES = {'tenant': 'id', 'account': 'tenant_id', 'entry': 'tenant_id'}

MODELS = '''
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import declarative_base, relationship
Base = declarative_base()

class Tenant(Base):
    __tablename__ = 'tenant'
    id = sa.Column(sa.BigInteger, primary_key=True, autoincrement=False)
    name = sa.Column(sa.String(40), nullable=False, index=True)
    kind = sa.Column(sa.Enum('free', 'paid', name='tenant_kind'), nullable=False, server_default='free')
    accounts = relationship('Account', back_populates='tenant')

class Account(Base):
    __tablename__ = 'account'
    tenant_id = sa.Column(sa.BigInteger, sa.ForeignKey('tenant.id', ondelete='CASCADE'), primary_key=True)
    id = sa.Column(sa.BigInteger, primary_key=True, autoincrement=True)
    email = sa.Column(sa.Text)
    settings = sa.Column(JSONB, server_default='{}')
    made = sa.Column(sa.DateTime(timezone=True), server_default=sa.func.now())
    tenant = relationship(Tenant, back_populates='accounts')
    __table_args__ = (sa.UniqueConstraint('tenant_id', 'email'),)

class Entry(Base):
    __tablename__ = 'entry'
    tenant_id = sa.Column(sa.BigInteger, primary_key=True, autoincrement=False)
    n = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
    amount = sa.Column(sa.Numeric(12, 2), nullable=False)
    tags = sa.Column(sa.ARRAY(sa.Text))
'''

ENV = '''
import os, sys
from alembic import context
import sqlalchemy as sa
sys.path.insert(0, os.path.dirname(__file__))
from models import Base
engine = sa.create_engine(os.environ['TEST_URL'], poolclass=sa.pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True,
                      include_object=lambda o, name, kind, *_: kind != 'table' or name in ('tenant', 'account', 'entry', 'alembic_version'))
    with context.begin_transaction():
        context.run_migrations()
'''

SCRIPT = '''"""${message}"""
from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = depends_on = None

def upgrade():
    ${upgrades if upgrades else "pass"}

def downgrade():
    ${downgrades if downgrades else "pass"}
    op.execute('DROP TYPE IF EXISTS tenant_kind') if down_revision is None else None
'''

ANSWERS = '''
import os
import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload, selectinload
from models import Account, Entry, Tenant
engine = sa.create_engine(os.environ['TEST_URL'])
with Session(engine) as db:
    db.add_all([Tenant(id=k, name=f't{k % 5}', kind='paid' if k % 2 else 'free') for k in range(1, 21)])
    db.commit()
    for k in range(1, 21):
        db.add_all([Account(tenant_id=k, email=f'a{n}@t{k}', settings={'n': n}) for n in range(k % 4)])
        db.add_all([Entry(tenant_id=k, n=n, amount=k + n, tags=['x', str(n)]) for n in range(3)])
        db.commit()
    db.query(Entry).filter(Entry.tenant_id == 3, Entry.n == 1).update({'amount': Entry.amount * 2})
    db.query(Entry).filter(Entry.tenant_id == 4).delete()
    db.commit()
    try:
        with db.begin():
            db.add(Account(tenant_id=3, email='a1@t3'))
    except sa.exc.IntegrityError as err:
        print(err.orig.pgcode)
    db.rollback()
    print(sorted((t.id, t.name, t.kind, sorted(a.email for a in t.accounts))
          for t in db.query(Tenant).options(selectinload(Tenant.accounts)).filter(Tenant.kind == 'paid')))
    print(sorted((a.email, a.tenant.name) for a in db.query(Account).options(joinedload(Account.tenant))))
    print(sorted(db.query(Tenant.name, sa.func.count(), sa.func.sum(Entry.amount)).join(Entry, Entry.tenant_id == Tenant.id).group_by(Tenant.name).all()))
    print(db.query(Entry).order_by(Entry.amount.desc(), Entry.tenant_id, Entry.n).limit(5).offset(2).with_entities(Entry.tenant_id, Entry.n).all())
    print(db.scalar(sa.select(sa.func.count()).select_from(Tenant).where(Tenant.accounts.any())))
    print(sorted(db.execute(sa.select(Entry.tenant_id, sa.func.rank().over(order_by=Entry.amount)).where(Entry.tags.any('2'))).all()))
    print(db.get(Tenant, 7).name, sorted(c['name'] for c in sa.inspect(engine).get_columns('account')))
    print(sa.inspect(engine).get_pk_constraint('entry')['constrained_columns'], sa.inspect(engine).get_foreign_keys('account')[0]['referred_table'])
'''


@pytest.fixture(scope='module')
def shoal(workspace, clusters, shoal_databases, shoal_users):
    """The tables are distributed as soon as a migration makes them."""
    tables = {name: {'key': key, 'database': 'app'} for name, key in TABLES.items()}
    shoal = Shoal(workspace, {'s0': clusters[0], 's1': clusters[1]}, databases=shoal_databases, users=shoal_users, tables=tables).start()
    yield shoal
    shoal.finish()


@pytest.fixture(scope='module')
def project(workspace):
    folder = workspace.path / 'alembic'
    (folder / 'versions').mkdir(parents=True)
    (folder / 'models.py').write_text(MODELS)
    (folder / 'env.py').write_text(ENV)
    (folder / 'answers.py').write_text(ANSWERS)
    (folder / 'script.py.mako').write_text(SCRIPT)
    (folder / 'alembic.ini').write_text(f'[alembic]\nscript_location = {folder}\n')
    return folder


def run(project, end, *arguments):
    url = f'postgresql+psycopg2://app@127.0.0.1:{end[0]}/{end[1]}'
    env = dict(environment(), TEST_URL=url, PYTHONDONTWRITEBYTECODE='1', PYTHONPATH=os.pathsep.join([str(project)]))
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=110, env=env, cwd=project)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def migrate(project, end, *arguments):
    return run(project, end, '-m', 'alembic', *arguments)


def test_alembic(shoal, clusters, project):
    # The migrations of an existing application fail, are seen as changes for ever, or its queries show half of the rows.
    clusters[0].sql('CREATE DATABASE plain OWNER app')
    sharded, plain = (shoal.port, 'app'), (clusters[0].port, 'plain')
    migrate(project, plain, 'revision', '--autogenerate', '-m', 'first', '--rev-id', 'aaa1')
    for end in (sharded, plain):
        migrate(project, end, 'upgrade', 'head')
        migrate(project, end, 'downgrade', 'base')
        migrate(project, end, 'upgrade', 'head')
    assert shoal.console('SHOW SCHEMA_DRIFT') == []
    assert {row['name'] for row in shoal.console('SHOW TABLES')} == set(TABLES)
    answers = [run(project, end, 'answers.py').splitlines() for end in (sharded, plain)]
    assert answers[0] == answers[1] and len(answers[0]) == 9
    assert all(cluster.query('SELECT count(*) FROM entry', 'app') != [['0']] for cluster in clusters)
    models = project / 'models.py'
    models.write_text(models.read_text().replace('    tags = sa.Column(sa.ARRAY(sa.Text))',
                                                 "    tags = sa.Column(sa.ARRAY(sa.Text))\n    note = sa.Column(sa.Text, server_default='none', index=True)"))
    migrate(project, sharded, 'revision', '--autogenerate', '-m', 'second', '--rev-id', 'bbb2')
    second = next((project / 'versions').glob('bbb2*')).read_text()
    assert second.count('op.add_column') == 1 and 'alter' not in second and 'drop_table' not in second, second
    for end in (sharded, plain):
        migrate(project, end, 'upgrade', 'head')
    assert shoal.console('SHOW SCHEMA_DRIFT') == []
    assert shoal.query("SELECT count(*) FROM entry WHERE note = 'none'") == [['57']]
    for end in (sharded, plain):
        migrate(project, end, 'downgrade', 'base')
    assert shoal.console('SHOW SCHEMA_DRIFT') == []
