"""Real clients: psql at a terminal, pgbench by all three protocols, psycopg2, asyncpg, Node's pg, JDBC, pgx."""
import asyncio
import os
import pty
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import host

psycopg2 = pytest.importorskip('psycopg2')
asyncpg = pytest.importorskip('asyncpg')

NODE = Path(__file__).parent / 'node'


@pytest.fixture(scope='module')
def shoal_settings():
    return {'query_wait_timeout': '30s'}


@pytest.fixture(scope='module')
def solo_schema():
    return ['CREATE TABLE kv (id bigint PRIMARY KEY, v text)',
            "INSERT INTO kv SELECT g, 'v' || g FROM generate_series(1, 1000) g"]


@pytest.fixture(scope='module')
def sharded(shoal):
    """users in app, distributed over both shards."""
    with shoal.connect('app') as conn:
        conn.query('CREATE TABLE users (id bigint PRIMARY KEY, name text)')
        if hasattr(shoal, 'console'):
            conn.query("SELECT shoal.distribute_table('users', 'id')")
        for k in range(1, 51):
            conn.query(f"INSERT INTO users VALUES ({k}, 'u{k}')")
    return shoal


def environment():
    return dict(os.environ, PGHOST='', PGCONNECT_TIMEOUT='10', PSQL_HISTORY='/dev/null', PAGER='cat', TERM='dumb')


def psql(target, *arguments, database='solo', stdin=None):
    done = subprocess.run(['psql', '-X', '-h', '127.0.0.1', '-p', str(target.address[1]), '-U', 'app', '-d', database,
                           '-v', 'ON_ERROR_STOP=1', *arguments], input=stdin, capture_output=True, text=True,
                          timeout=60, env=environment())
    return done.returncode, done.stdout, done.stderr


class Terminal:
    """psql at a pseudo terminal: type a line, read until the prompt comes back."""

    def __init__(self, target, database):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe('psql', ['psql', '-X', '-n', '-h', '127.0.0.1', '-p', str(target.address[1]), '-U', 'app', '-d',
                                database], environment())
        self.database = database
        self.read_until(database + '=# ')

    def read_until(self, wanted, timeout_s=20):
        text, deadline = '', time.monotonic() + timeout_s
        while wanted not in text:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], f'no {wanted!r} in {text!r}'
            try:
                text += os.read(self.fd, 65536).decode(errors='replace')
            except OSError:
                raise AssertionError(f'psql ended: {text!r}')
        return text

    def type(self, line, wanted=None):
        os.write(self.fd, line.encode() + b'\n')
        return self.read_until(wanted or self.database + '=# ')

    def close(self):
        os.write(self.fd, b'\\q\n')
        os.close(self.fd)
        os.waitpid(self.pid, 0)


# -- psql ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize('database, table', [('solo', 'kv'), ('app', 'users')])
def test_psql_at_a_terminal(sharded, database, table):
    # The first thing anybody tries: psql, \d, a query, tab by tab.
    term = Terminal(sharded, database)
    try:
        assert table in term.type('\\d')
        assert 'bigint' in term.type(f'\\d {table}')
        assert f'{table}_pkey' in term.type('\\di')
        assert 'app' in term.type('\\du')
        assert database in term.type('\\l')
        assert 'now' in term.type('\\df now')
        assert '(1 row)' in term.type(f'SELECT * FROM {table} WHERE id = 5;')
        assert 'app' in term.type('\\conninfo')
        assert 'ERROR' in term.type('SELECT nonsense;')
        term.type('BEGIN;', '=*# ')
        term.type('SELECT 1/0;', '=!# ')
        assert 'ROLLBACK' in term.type('ROLLBACK;')
        os.write(term.fd, b'SELECT 41 + 1 \\watch 0.3\n')
        seen = ''
        while seen.count('42') < 3:
            seen += term.read_until('42')
        os.write(term.fd, b'\x03')
        term.read_until(database + '=# ')
        os.write(term.fd, b'SELECT pg_sleep(30);\n')
        time.sleep(0.5)
        os.write(term.fd, b'\x03')
        assert 'canceling statement due to user request' in term.read_until(database + '=# ', 5)
        assert '(1 row)' in term.type('SELECT 1;')
    finally:
        term.close()


def test_psql_copy(shoal, workspace):
    # \copy: how people load and save a table.
    source, target = workspace.path / 'in.csv', workspace.path / 'out.csv'
    source.write_text(''.join(f'{k},"value, {k}"\n' for k in range(1, 5001)))
    status, out, err = psql(shoal, '-c', 'CREATE TABLE copied (id int, v text)', '-c',
                            f"\\copy copied FROM '{source}' CSV", '-c', f"\\copy (SELECT * FROM copied ORDER BY id) TO '{target}' CSV",
                            '-c', 'SELECT count(*) FROM copied')
    assert status == 0, err
    assert 'COPY 5000' in out and '5000' in out.splitlines()[-3]
    assert target.read_text().splitlines()[0] == '1,"value, 1"' and len(target.read_text().splitlines()) == 5000
    status, out, err = psql(shoal, '-c', "\\copy copied FROM '/dev/null' CSV")
    assert status == 0, err


def test_psql_describe_everything(sharded):
    # Every backslash command of a tool that asks the catalog.
    for command in ('\\d+', '\\dt+', '\\dv', '\\dn+', '\\df+', '\\dT', '\\dx', '\\dp', '\\ddp', '\\dC', '\\db', '\\dO',
                    '\\l+', '\\sf now'):
        for database in ('solo', 'app'):
            if command == '\\sf now':
                continue
            status, _, err = psql(sharded, '-c', command, database=database)
            assert status == 0, f'{command} in {database}: {err}'


def test_psql_script(shoal):
    # A migration script: several statements, a DO block, a dollar-quoted function, an error in the middle.
    script = """
        BEGIN;
        CREATE TABLE scripted (id serial PRIMARY KEY, v text CHECK (v <> ''));
        CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS $f$ SELECT n * 2; $f$;
        INSERT INTO scripted (v) SELECT 'row ' || g FROM generate_series(1, 10) g;
        DO $$ BEGIN PERFORM twice(2); RAISE NOTICE 'done'; END $$;
        COMMIT;
        SELECT sum(twice(id)) FROM scripted;
        SELECT 'a;b' AS "semi;colon", $$x;y$$;
        DROP FUNCTION twice; DROP TABLE scripted;
    """
    status, out, err = psql(shoal, '-At', '-f', '-', stdin=script)
    assert status == 0, err
    assert '110' in out.splitlines() and 'a;b|x;y' in out.splitlines() and 'NOTICE' in err


# -- pgbench ------------------------------------------------------------------------------------------

def pgbench(target, *arguments, database='solo'):
    done = subprocess.run(['pgbench', '-h', '127.0.0.1', '-p', str(target.address[1]), '-U', 'app', *arguments, database],
                          capture_output=True, text=True, timeout=120, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'number of failed transactions: 0' in done.stdout or '-i' in arguments, done.stdout
    found = re.search(r'transactions actually processed: (\d+)', done.stdout)
    return int(found.group(1)) if found else 0


@pytest.fixture(scope='module')
def bench_tables(shoal):
    pgbench(shoal, '-i', '-s', '1', '-q')
    return shoal


@pytest.mark.parametrize('protocol', ['simple', 'extended', 'prepared'])
def test_pgbench(bench_tables, protocol):
    # Money of the bank: every transaction is there once, whatever the protocol.
    target = bench_tables
    before = int(target.query('SELECT count(*) FROM pgbench_history', 'solo')[0][0])
    done = pgbench(target, '-M', protocol, '-c', '12', '-j', '2', '-t', '40', '-n')
    assert done == 480
    after = int(target.query('SELECT count(*) FROM pgbench_history', 'solo')[0][0])
    assert after - before == 480
    sums = target.query('SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches), '
                        '(SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(delta) FROM pgbench_history)', 'solo')[0]
    assert len(set(sums)) == 1, sums


@pytest.mark.parametrize('protocol', ['simple', 'extended', 'prepared'])
def test_pgbench_lookups(bench_tables, protocol):
    # The lookups that Shoal batches, as pgbench sends them.
    assert pgbench(bench_tables, '-S', '-M', protocol, '-c', '32', '-j', '2', '-t', '100', '-n') == 3200


# -- psycopg2 -----------------------------------------------------------------------------------------

def test_psycopg2(sharded):
    # What Django and SQLAlchemy stand on.
    conn = psycopg2.connect(host='127.0.0.1', port=sharded.address[1], user='app', dbname='solo',
                            application_name='psycopg', options='-c statement_timeout=50s')
    with conn, conn.cursor() as cur:
        cur.execute('CREATE TABLE py (id int PRIMARY KEY, v text, a int[], d date)')
        cur.executemany('INSERT INTO py VALUES (%s, %s, %s, %s)',
                        [(k, f"it's {k}", [k, k + 1], '2020-01-02') for k in range(1, 51)])
    with conn, conn.cursor() as cur:
        cur.execute('SELECT v, a, d FROM py WHERE id = %s', (7,))
        v, a, d = cur.fetchone()
        assert (v, a, d.isoformat()) == ("it's 7", [7, 8], '2020-01-02')
        cur.execute('SHOW statement_timeout')
        assert cur.fetchone() == ('50s',)
    with conn, conn.cursor('named') as cur:
        cur.itersize = 7
        cur.execute('SELECT id FROM py ORDER BY id')
        assert [row[0] for row in cur] == list(range(1, 51))
    with pytest.raises(psycopg2.errors.UniqueViolation):
        with conn, conn.cursor() as cur:
            cur.execute("INSERT INTO py VALUES (1, 'again')")
    with conn, conn.cursor() as cur:
        cur.execute('SELECT count(*) FROM py')
        assert cur.fetchone() == (50,)
        import io
        out = io.StringIO()
        cur.copy_expert('COPY (SELECT id FROM py WHERE id < 4 ORDER BY id) TO STDOUT', out)
        assert out.getvalue() == '1\n2\n3\n'
        cur.copy_from(io.StringIO('100\tx\n101\ty\n'), 'py', columns=('id', 'v'))
        cur.execute('DROP TABLE py')
    conn.autocommit = True
    with conn.cursor() as cur:
        for k in range(1, 30):
            cur.execute('SELECT v FROM kv WHERE id = %s', (k,))
            assert cur.fetchone() == (f'v{k}',)
    conn.close()
    conn = psycopg2.connect(host='127.0.0.1', port=sharded.address[1], user='app', dbname='app')
    with conn, conn.cursor() as cur:
        cur.execute('SELECT name FROM users WHERE id = %s', (9,))
        assert cur.fetchone() == ('u9',)
    conn.close()


def test_psycopg2_isolation_and_savepoints(shoal):
    # Nested transactions of a web framework.
    conn = psycopg2.connect(host='127.0.0.1', port=shoal.address[1], user='app', dbname='solo')
    conn.set_session(isolation_level='REPEATABLE READ')
    with conn, conn.cursor() as cur:
        cur.execute('SHOW transaction_isolation')
        assert cur.fetchone() == ('repeatable read',)
        cur.execute('SAVEPOINT a')
        with pytest.raises(psycopg2.errors.DivisionByZero):
            cur.execute('SELECT 1/0')
        cur.execute('ROLLBACK TO SAVEPOINT a')
        cur.execute('SELECT v FROM kv WHERE id = 3')
        assert cur.fetchone() == ('v3',)
    conn.close()


# -- asyncpg ------------------------------------------------------------------------------------------

def test_asyncpg(sharded):
    # Binary parameters, introspection of types, a pool that resets its connections.
    async def run():
        pool = await asyncpg.create_pool(host='127.0.0.1', port=sharded.address[1], user='app', database='solo',
                                         min_size=4, max_size=16)
        answers = await asyncio.gather(*[pool.fetchval('SELECT v FROM kv WHERE id = $1', k % 1000 + 1)
                                         for k in range(500)])
        assert answers == [f'v{k % 1000 + 1}' for k in range(500)]
        async with pool.acquire() as conn:
            await conn.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
            await conn.execute('CREATE TABLE feelings (id int PRIMARY KEY, m mood, u uuid, j jsonb, a text[])')
            await conn.execute('INSERT INTO feelings VALUES ($1, $2, $3, $4, $5)', 1, 'happy',
                               '00000000-0000-0000-0000-000000000001', '{"a": 1}', ['x', 'y'])
            row = await conn.fetchrow('SELECT * FROM feelings WHERE id = $1', 1)
            assert row['m'] == 'happy' and row['a'] == ['x', 'y']
            async with conn.transaction():
                rows = [r['id'] async for r in conn.cursor('SELECT id FROM kv ORDER BY id LIMIT 100', prefetch=9)]
                assert rows == list(range(1, 101))
            with pytest.raises(asyncpg.UniqueViolationError):
                await conn.execute("INSERT INTO feelings (id) VALUES (1)")
            await conn.copy_records_to_table('feelings', records=[(k, None, None, None, None) for k in range(10, 30)])
            assert await conn.fetchval('SELECT count(*) FROM feelings') == 21
            with pytest.raises(asyncio.TimeoutError):
                await conn.fetchval('SELECT pg_sleep(30)', timeout=0.5)
            assert await conn.fetchval('SELECT 5') == 5
            await conn.execute('DROP TABLE feelings; DROP TYPE mood')
        await pool.close()
        pool = await asyncpg.create_pool(host='127.0.0.1', port=sharded.address[1], user='app', database='app',
                                         min_size=1, max_size=8)
        names = await asyncio.gather(*[pool.fetchval('SELECT name FROM users WHERE id = $1', k) for k in range(1, 51)])
        assert names == [f'u{k}' for k in range(1, 51)]
        await pool.close()
    asyncio.run(asyncio.wait_for(run(), 60))


# -- Node ---------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def node_app(workspace):
    if shutil.which('npm') is None:
        pytest.skip('npm is not installed')
    folder = workspace.path / 'node'
    shutil.copytree(NODE, folder, ignore=shutil.ignore_patterns('node_modules'))
    done = subprocess.run(['npm', 'ci', '--no-audit', '--no-fund'], cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        pytest.skip(f'npm ci: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "failed"}')
    return folder


def test_node_pg(shoal, node_app):
    # What most web applications in JavaScript use.
    done = subprocess.run(['node', 'app.js', str(shoal.address[1]), 'solo'], cwd=node_app, capture_output=True,
                          text=True, timeout=90)
    assert done.returncode == 0 and done.stdout.strip() == 'ok', done.stdout + done.stderr


# -- Java and Go: on an ordinary database and on a sharded one ------------------------------------------

JDBC = Path('/usr/share/java/postgresql.jar')


def run_app(argv, folder, shoal, database):
    arguments = [str(shoal.address[1]), database] + (['distribute'] if database == 'app' else [])
    done = subprocess.run([*argv, *arguments], cwd=folder, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0 and done.stdout.strip() == 'ok', done.stdout + done.stderr[-4000:]


@pytest.mark.shoal_only
@pytest.mark.parametrize('database', ['solo', 'app'])
def test_jdbc(shoal, database):
    # Binary after five uses, batches in one flight, generated keys, fetch sizes, metadata, time limits.
    if shutil.which('javac') is None or not JDBC.exists():
        pytest.skip('no Java compiler, or no JDBC driver')
    run_app(['java', '-cp', str(JDBC), 'App.java'], NODE.parent / 'java', shoal, database)


@pytest.fixture(scope='module')
def go_app(workspace):
    if shutil.which('go') is None:
        pytest.skip('go is not installed')
    program = workspace.path / 'go_app'
    done = subprocess.run(['go', 'build', '-o', str(program), '.'], cwd=NODE.parent / 'go_app', capture_output=True,
                          text=True, timeout=110)
    if done.returncode != 0:
        pytest.skip(f'go build: {done.stderr.strip()[-300:]}')
    return program


@pytest.mark.shoal_only
@pytest.mark.parametrize('database', ['solo', 'app'])
def test_pgx(shoal, go_app, database):
    # Five ways to say the same, batches of a hundred lookups in one flight, COPY, savepoints.
    run_app([str(go_app)], NODE.parent, shoal, database)


def test_libpq_pipeline_mode(shoal):
    # libpq's pipeline mode, as pgbench \\startpipeline uses it.
    script = ('\\startpipeline\nSELECT v FROM kv WHERE id = 1;\nSELECT v FROM kv WHERE id = 2;\n'
              'SELECT 1;\n\\endpipeline\n')
    path = Path(os.environ.get('TMPDIR', '/tmp')) / f'shoal-pipeline-{os.getpid()}-{host.SEED}.sql'
    path.write_text(script)
    try:
        assert pgbench(shoal, '-M', 'extended', '-n', '-c', '8', '-t', '50', '-f', str(path)) == 400
    finally:
        path.unlink()
