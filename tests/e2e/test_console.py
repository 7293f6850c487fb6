"""The console: what an operator sees and does through psql in the database shoal."""
import subprocess

import pytest

from tests.support.cluster import wait_until
from tests.support.shoal import Shoal, binary
from tests.support.wire import (PgError, bind, column_names, errors_of, execute, extended, parse, query, rows_of,
                                sync, tags_of)

pytestmark = pytest.mark.shoal_only

SHOWS = ['HELP', 'VERSION', 'CONFIG', 'DATABASES', 'POOLS', 'CLIENTS', 'SERVERS', 'SHARDS', 'TABLES', 'BATCHES',
         'BATCH_REASONS', 'STATS', 'STATEMENTS', 'LATENCY', 'LATENCY_BUCKETS', 'HISTORY', 'HEALTH', 'PROCESS']


@pytest.fixture(scope='module')
def shoal_users():
    return {'admin': {'admin': 'on'}, 'watcher': {'monitor': 'on'}, 'app': {}}


def psql(shoal, command, user='admin', database='shoal', *arguments):
    return subprocess.run(['psql', '-X', '-h', '127.0.0.1', '-p', str(shoal.port), '-U', user, '-d', database,
                           '-c', command, *arguments], capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize('what', SHOWS)
def test_show(shoal, what):
    # An operator is blind.
    with shoal.connect('solo') as conn:
        conn.query('SELECT 1')
        done = psql(shoal, f'SHOW {what}')
        assert done.returncode == 0 and not done.stderr, done.stderr
        assert 'rows)' in done.stdout or 'row)' in done.stdout


@pytest.mark.parametrize('what', SHOWS)
def test_show_by_the_extended_protocol(shoal, what):
    # Monitoring programs speak the extended protocol only (134).
    with shoal.connect('shoal', user='admin') as conn:
        simple = conn.exchange(query(f'SHOW {what}'))
        seen = conn.exchange(extended(f'SHOW {what}'))
        errors = errors_of(seen)
        assert not errors or errors[0].code == '0A000'
        if not errors:
            assert column_names([m for m in seen if m.type == 'T'][0].body) == \
                column_names([m for m in simple if m.type == 'T'][0].body)
        assert errors_of(conn.exchange(query('SHOW VERSION'))) == []


def test_help_names_everything(shoal):
    # Nobody reads the manual first.
    text = psql(shoal, 'SHOW HELP').stdout
    for what in SHOWS + ['RELOAD', 'SHUTDOWN']:
        assert what in text.upper(), what


def test_what_show_says_is_true(shoal):
    # Wrong figures are worse than none.
    with shoal.connect('solo') as a, shoal.connect('app') as b:
        a.query('BEGIN')
        a.query('SELECT 1')
        clients = shoal.console('SHOW CLIENTS')
        assert {row['database'] for row in clients} >= {'solo', 'app'}
        assert {row['name'] if 'name' in row else row['database'] for row in shoal.console('SHOW DATABASES')} \
            >= {'solo', 'app'}
        assert len(shoal.console('SHOW SHARDS')) >= 2
        assert b.alive()
        a.query('COMMIT')


@pytest.mark.parametrize('command, code', [
    ('SHOW NOTHING', '42601'), ('FROBNICATE', '42601'), ('SHOW STATS; DROP TABLE x', '42601'),
    ("SHOW 'STATS'", '42601'), ('SHOW STATS nonsense', '42601'), ('SELECT * FROM pg_class', '42601'),
    ('SHOW ' + 'x' * 1000000, '42601')])
def test_wrong_commands(shoal, command, code):
    # 134: a typing error does something else, or ends the connection.
    with shoal.connect('shoal', user='admin') as conn:
        errors = errors_of(conn.exchange(query(command)))
        assert errors and errors[0].code in (code, '0A000'), errors
        assert len(conn.query('SHOW VERSION')) == 1


@pytest.mark.parametrize('command', ['show version', 'Show Version;', '  SHOW VERSION  ;  ', 'SHOW /* x */ VERSION',
                                     '-- hello\nSHOW VERSION'])
def test_ways_to_write_a_command(shoal, command):
    # 134: psql and people write commands in many ways.
    with shoal.connect('shoal', user='admin') as conn:
        assert len(conn.query(command)) == 1


def test_empty_commands(shoal):
    # 70: drivers ping with an empty statement.
    with shoal.connect('shoal', user='admin') as conn:
        assert [m.type for m in conn.exchange(query(''))] == ['I', 'Z']
        assert [m.type for m in conn.exchange(query(';'))] == ['I', 'Z']


def test_rights(shoal):
    # 135: anybody who can connect can shut down the router.
    with shoal.connect('shoal', user='watcher') as conn:
        assert conn.query('SHOW STATS') is not None
        for command in ('RELOAD', 'SHUTDOWN'):
            with pytest.raises(PgError) as caught:
                conn.query(command)
            assert caught.value.code == '42501'
    try:
        with shoal.connect('shoal', user='app') as conn:
            for command in ('SHOW CLIENTS', 'SHOW CONFIG', 'RELOAD', 'SHUTDOWN'):
                with pytest.raises(PgError) as caught:
                    conn.query(command)
                assert caught.value.code == '42501'
    except PgError as err:
        assert err.code in ('42501', '28000', '3D000')
    assert shoal.process.poll() is None


def test_secrets_are_not_shown(workspace, clusters):
    # H89: a password stands on the operator's screen and in the log.
    secret = 'hunter2hunter2'
    shoal = Shoal(workspace, {'s0': clusters[0]}, name='secret',
                  databases={'app': {'server_user': 'app', 'server_password': secret}},
                  users={'admin': {'admin': 'on', 'password': secret}})
    shoal.start()
    try:
        for what in SHOWS:
            assert secret not in psql(shoal, f'SHOW {what}').stdout
        assert secret not in shoal.log.read_text()
    finally:
        shoal.finish()


def test_reload_applies_a_setting(shoal):
    # A changed file needs a restart, and every client notices.
    original = shoal.ini_text()
    with shoal.connect('solo') as conn:
        shoal.write_ini(original.replace('[shoal]', '[shoal]\nquery_wait_timeout = 77s'))
        assert not psql(shoal, 'RELOAD').stderr
        assert '77' in psql(shoal, 'SHOW CONFIG').stdout
        assert conn.alive()
    shoal.write_ini(original)
    shoal.console('RELOAD')


@pytest.mark.parametrize('change, wanted', [
    (('[shoal]', '[shoal]\nprot = 1'), 'port'), (('[shoal]', '[shoal]\nclient_max = banana'), 'client_max'),
    (('[shoal]', '[shoal]\nclient_max = 9999999999999'), 'client_max'), (('[shoal]', '[shaol]'), 'shoal'),
    (('[shard s1]', '[shard s0]'), 's0'), (('[shoal]', '[shoal]\nlogin_timeout = 5 parsecs'), 'login_timeout')])
def test_reload_of_a_wrong_file(shoal, change, wanted):
    # 127-129: a wrong file takes the running system down, or is half applied.
    original = shoal.ini_text()
    with shoal.connect('solo') as conn:
        shoal.write_ini(original.replace(*change))
        try:
            with pytest.raises(PgError) as caught:
                shoal.console('RELOAD')
            text = str(caught.value)
            assert caught.value.code == 'F0000' and 'shards.ini:' in text and wanted in text
            assert conn.alive()
        finally:
            shoal.write_ini(original)
        shoal.console('RELOAD')


WRONG_FILES = [
    (None, 'No such file'), (b'', 'shard'), (b'\0' * 100, 'byte'), (b'x' * 1000000, ''),
    (b'[shoal]\nprot = 6432\n', 'port'), (b'[shoal]\nport = 0\n', '1'), (b'[shoal]\nport = 65536\n', '65535'),
    (b'[shoal]\nport = abc\n', 'port'), (b'[batch]\nbatch = maybe\n', 'batch'), (b'port = 1\n', 'section'),
    (b'[shard s0]\n', 'primary'), (b'[shoal]\nport = 1\nport = 2\n', 'port'),
    (b'[shard s0]\nprimary = host=a port=1\n[shard s1]\nprimary = host=a port=1\n[database x]\n', 'a:1'),
]


@pytest.mark.parametrize('text, wanted', WRONG_FILES, ids=range(len(WRONG_FILES)))
def test_start_with_a_wrong_file(workspace, text, wanted):
    # 127-130: shoald starts with half a configuration, or ends without telling why.
    folder = workspace.path / f'wrong-{hash((text, wanted)) & 0xffffff}'
    folder.mkdir()
    path = folder / 'shards.ini'
    if text is not None:
        path.write_bytes(text)
        path.chmod(0o600)
    done = subprocess.run([str(binary()), str(path)], capture_output=True, text=True, timeout=20, cwd=folder)
    assert done.returncode not in (0, 98, 99, -6, -11), done.stderr
    said = done.stderr + done.stdout
    assert 'shards.ini' in said and wanted in said
    assert len(said) < 3000


def test_shutdown(workspace, clusters):
    # An orderly stop cuts a running statement off.
    shoal = Shoal(workspace, {'s0': clusters[0]}, databases={'solo': {}}, name='ending',
                  users={'admin': {'admin': 'on'}, 'app': {}})
    shoal.start()
    with shoal.connect('solo') as conn:
        conn.send(query('SELECT pg_sleep(1), 42'))
        wait_until('the statement to run', lambda: clusters[0].query(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1), 42%' AND state = 'active' "
            "AND pid <> pg_backend_pid()") != [['0']], 5)
        try:
            shoal.console('SHUTDOWN')
        except (PgError, OSError):
            pass
        assert rows_of(conn.until('Z')) == [[b'', b'42']]
    assert shoal.process.wait(15) == 0
    shoal.finish()
