"""What Shoal believes about a session against what is true on the server: transactions, settings, portals,
errors in the middle of a series, series that a Flush has left open.
"""
import re
import threading
import time

import pytest

from tests.support import host
from tests.support.cluster import wait_until
from tests.support.differential import compare
from tests.support.wire import (CLOSED, TIMEOUT, PgError, bind, close, describe, errors_of, execute, extended, flush,
                                message, parse, query, rows_of, sync, tags_of, types_of)

pytestmark = pytest.mark.shoal_only


@pytest.fixture(scope='module')
def shoal_databases():
    return {'solo': {'shards': 's0', 'pool_size': '2'}, 'app': {'shards': 's0, s1', 'pool_size': '2'}}


@pytest.fixture(scope='module')
def solo_schema():
    return ['CREATE TABLE sink (id bigint, v text)', 'CREATE TABLE kv (id bigint PRIMARY KEY, v text)',
            "INSERT INTO kv SELECT g, 'v' || g FROM generate_series(1, 100) g"]


@pytest.fixture(scope='module')
def app(shoal):
    with shoal.connect('app') as conn:
        conn.query('CREATE TABLE users (id bigint PRIMARY KEY, name text)')
        conn.query("SELECT shoal.distribute_table('users', 'id')")
        for key in range(1, 41):
            conn.query(f"INSERT INTO users VALUES ({key}, 'u{key}')")
    return shoal


@pytest.fixture(scope='module')
def keys(app, clusters):
    """A key of each shard: (on the home shard, on the other)."""
    return tuple(int(cluster.query('SELECT min(id) FROM users', database='app', user='app')[0][0])
                 for cluster in clusters)


@pytest.fixture
def conn(shoal):
    with shoal.connect('solo') as conn:
        yield conn


@pytest.fixture
def sharded(app):
    with app.connect('app') as conn:
        yield conn


def answers(conn, data, count, timeout_s=10):
    """The types of the next `count` messages, asynchronous ones left out."""
    conn.send(data)
    seen = []
    while len(types_of(seen)) < count:
        seen.append(conn.receive(timeout_s))
        if seen[-1] in (CLOSED, TIMEOUT):
            break
    return seen


# -- series that a Flush leaves open ----------------------------------------------------------------

REJECTED = parse('', 'SELECT * FROM users LIMIT 1 FOR UPDATE') + bind() + execute()


def test_a_refused_series_waits_for_its_sync(sharded):
    # The Sync behind a refused series writes into memory that is somebody else's, or is answered twice.
    seen = answers(sharded, REJECTED + flush(), 3)
    assert types_of(seen) == '12E'
    assert sharded.receive(0.3) == TIMEOUT, 'ReadyForQuery before any Sync'
    seen = sharded.exchange(parse('', 'SELECT 1') + bind() + execute() + sync())
    assert types_of(seen) == 'Z', 'what comes before the Sync is passed over'
    assert sharded.alive()


def test_a_lazy_begin_with_flush(sharded, keys):
    # A driver that flushes gets ReadyForQuery where none belongs, and counts wrongly ever after.
    seen = answers(sharded, parse('', 'BEGIN') + bind() + execute() + flush(), 3)
    assert types_of(seen) == '12C'
    assert sharded.receive(0.3) == TIMEOUT
    assert types_of(sharded.exchange(sync())) == 'Z' and sharded.status == 'T'
    assert sharded.query(f'SELECT name FROM users WHERE id = {keys[1]}') == [[f'u{keys[1]}']]
    sharded.query('ROLLBACK')
    assert sharded.alive()


def test_a_console_series_with_flush(shoal):
    # The same on the console.
    with shoal.connect('shoal', user='admin') as conn:
        seen = answers(conn, parse('', 'SHOW VERSION') + bind() + execute() + flush(), 4)
        assert types_of(seen) == '12DC'
        assert conn.receive(0.3) == TIMEOUT
        assert types_of(conn.exchange(sync())) == 'Z'
        assert conn.query('SHOW VERSION')


def test_the_server_dies_under_an_open_series(conn, clusters):
    # The client's Sync comes when the series is gone: a crash, or an answer too many.
    seen = answers(conn, parse('', 'SELECT pg_backend_pid()') + bind() + execute() + flush(), 4)
    pid = rows_of(seen)[0][0].decode()
    clusters[0].query(f'SELECT pg_terminate_backend({pid})')
    assert types_of([conn.receive(5)]) == 'E'
    assert conn.receive(0.3) == TIMEOUT
    assert types_of(conn.exchange(sync())) == 'Z'
    assert conn.alive()


def test_a_malformed_message_before_flush(conn):
    # The client waits for the answer to its Flush, and Shoal for a Sync: for ever.
    bad = message('B', b'\0\0\0\0\0\1\xff\xff\xff\xfe\0\0')
    seen = answers(conn, parse('', 'SELECT v FROM kv WHERE id = $1') + bad + flush(), 2, 3)
    assert 'E' in types_of(seen)
    seen = conn.exchange(sync())
    assert types_of(seen) == 'Z'
    assert conn.alive()


# -- what is refused in the middle takes along what came before it ------------------------------------

MALFORMED = message('B', b'\0\0\0\0\0\1\xff\xff\xff\xfe\0\0')


@pytest.mark.parametrize('bad', [MALFORMED, parse('twice', 'SELECT 1') + parse('twice', 'SELECT 2'),
                                 message('D', b'X\0')], ids=['bind', 'parse', 'describe'])
def test_an_error_undoes_the_series(direct, shoal, bad):
    # The client is told that it failed, and the row is there.
    write = parse('', "INSERT INTO sink VALUES (77, 'undone')") + bind() + execute()

    def script(conn):
        seen = conn.exchange(write + bad + sync())
        return seen + conn.exchange(query('SELECT count(*) FROM sink WHERE id = 77'))
    compare(script, direct, shoal)


def test_an_error_after_flush_undoes_the_series(conn):
    # The same, for the part behind a Flush.
    write = parse('', "INSERT INTO sink VALUES (78, 'undone')") + bind() + execute()
    assert types_of(answers(conn, write + flush(), 3)) == '12C'
    seen = conn.exchange(MALFORMED + sync())
    assert types_of(seen) == 'EZ'
    assert conn.query('SELECT count(*) FROM sink WHERE id = 78') == [['0']]


def test_an_error_after_flush_fails_the_transaction(conn):
    # A transaction goes on, and commits, although the client was told that it failed.
    conn.query('BEGIN')
    write = parse('', "INSERT INTO sink VALUES (79, 'undone')") + bind() + execute()
    assert types_of(answers(conn, write + flush(), 3)) == '12C'
    seen = conn.exchange(MALFORMED + sync())
    assert types_of(seen) == 'EZ' and conn.status == 'E'
    assert tags_of(conn.exchange(query('COMMIT'))) == ['ROLLBACK']
    assert conn.query('SELECT count(*) FROM sink WHERE id = 79') == [['0']]


def test_another_shard_after_flush(sharded, keys, clusters):
    # A series over two shards is half done.
    write = parse('', f"INSERT INTO users VALUES ({keys[0]}, 'x') ON CONFLICT (id) DO UPDATE SET name = 'half'")
    assert types_of(answers(sharded, write + bind() + execute() + flush(), 3)) == '12C'
    seen = sharded.exchange(parse('', f'SELECT name FROM users WHERE id = {keys[1]}') + bind() + execute() + sync())
    assert types_of(seen) == 'EZ'
    assert sharded.query(f'SELECT name FROM users WHERE id = {keys[0]}') == [[f'u{keys[0]}']]


# -- settings -------------------------------------------------------------------------------------

SETTINGS = [
    ("BEGIN; SET work_mem = '1MB'; ROLLBACK", '4MB', False),
    ("BEGIN; SET work_mem = '1MB'; COMMIT", '1MB', False),
    ("SET work_mem = '1MB'; ROLLBACK", '4MB', False),
    ("SET work_mem = '1MB'; COMMIT; SELECT 1/0", '1MB', True),
    ("SET work_mem = '1MB'; SELECT 1/0", '4MB', True),
    ("BEGIN; SET work_mem = '1MB'; COMMIT; SELECT 1/0", '1MB', True),
    ("BEGIN; SET work_mem = '1MB'; COMMIT; BEGIN; SET work_mem = '2MB'; ROLLBACK", '1MB', False),
    ("SET work_mem = '1MB'; SET work_mem = '2MB'", '2MB', False),
    ("BEGIN; SAVEPOINT a; SET work_mem = '1MB'; ROLLBACK TO a; COMMIT", '4MB', False),
    ("BEGIN; SET work_mem = '1MB'; SAVEPOINT a; SET work_mem = '2MB'; ROLLBACK TO a; COMMIT", '1MB', False),
    ("BEGIN; SET work_mem = '1MB'; ROLLBACK AND CHAIN; COMMIT", '4MB', False),
    ("BEGIN; SET work_mem = '1MB'; COMMIT AND CHAIN; SET work_mem = '2MB'; ROLLBACK", '1MB', False),
    ("SET work_mem = '1MB'; RESET work_mem", '4MB', False),
    ("SET work_mem = '1MB'; RESET ALL", '4MB', False),
]


@pytest.mark.parametrize('together', [True, False], ids=['one-query', 'one-by-one'])
@pytest.mark.parametrize('sql, want, fails', SETTINGS, ids=[s for s, _, _ in SETTINGS])
def test_settings_are_what_the_server_would_have(shoal, clusters, sql, want, fails, together):
    # A client works under settings it has not made, or without those it has; or another one does.
    if not together and sql == "SET work_mem = '1MB'; ROLLBACK":
        want = '1MB'
    if not together and sql == "SET work_mem = '1MB'; SELECT 1/0":
        want = '1MB'
    with shoal.connect('solo') as one, shoal.connect('solo') as two, shoal.connect('solo') as three:
        for part in [sql] if together else sql.split(';'):
            seen = one.exchange(query(part))
            assert bool(errors_of(seen)) == (fails and (together or '1/0' in part))
        # two keeps the connection that one has used, if it may: both must be right everywhere
        two.query('BEGIN')
        assert two.query('SHOW work_mem') == [['4MB']]
        assert one.query('SHOW work_mem') == [[want]]
        two.query('ROLLBACK')
        assert three.query('SHOW work_mem') == [['4MB']]
        assert one.query('SHOW work_mem') == [[want]]


@pytest.mark.parametrize('sql', ['RESET work_mem', 'RESET ALL', 'DISCARD ALL', 'SET work_mem TO DEFAULT'])
def test_reset_goes_back_to_the_startup_settings(shoal, sql):
    # A client that named a setting when it connected has lost it for ever after a RESET.
    with shoal.connect('solo', parameters={'work_mem': '1MB'}) as one, shoal.connect('solo') as two:
        one.query("SET work_mem = '2MB'")
        one.query(sql)
        assert one.query('SHOW work_mem') == [['1MB']]
        assert two.query('SHOW work_mem') == [['4MB']]
        assert one.query('SHOW work_mem') == [['1MB']]


def test_reset_in_a_transaction_with_startup_settings(shoal):
    # The same behind a transaction; inside it the server's own default is in force.
    with shoal.connect('solo', parameters={'work_mem': '1MB'}) as one:
        one.query('BEGIN')
        one.query("SET work_mem = '2MB'")
        one.query('RESET work_mem')
        one.query('COMMIT')
        assert one.query('SHOW work_mem') == [['1MB']]


@pytest.mark.parametrize('offset', ['+00:00', '-08:00', '5:30', '+14:59'])
def test_a_time_zone_given_as_an_interval_is_carried(shoal, direct, offset):
    # Sequelize greets each connection with it: a session pinned for that would never share a connection.
    sql = f"SET client_min_messages TO warning;SET TIME ZONE INTERVAL '{offset}' HOUR TO MINUTE;"
    with direct.connect('solo') as conn:
        conn.query(sql)
        want = conn.query("SELECT current_setting('timezone'), timestamptz '2020-01-01 00:00Z'")
    others = [shoal.connect('solo') for _ in range(4)]
    with shoal.connect('solo') as conn:
        conn.query(sql)
        assert {r['pinned'] for r in shoal.console('SHOW CLIENTS') if r['database'] == 'solo'} == {'no'}
        for other in others:  # other sessions on the same few connections
            assert other.query('SHOW timezone') == [['UTC']]
            assert conn.query("SELECT current_setting('timezone'), timestamptz '2020-01-01 00:00Z'") == want
    for other in others:
        other.close()


def test_a_set_in_an_interleaved_portal(shoal):
    # What one client has set is there for the next one on that server connection.
    with shoal.connect('solo') as one, shoal.connect('solo') as two:
        seen = one.exchange(parse('', "SET work_mem = '1MB'") + bind('a') + parse('', 'SELECT 1') + bind('b')
                            + execute('a') + execute('b') + sync())
        assert types_of(seen) == '1212CDCZ'
        assert one.query('SHOW work_mem') == [['1MB']]
        two.query('BEGIN')
        assert two.query('SHOW work_mem') == [['4MB']]
        assert one.query('SHOW work_mem') == [['1MB']]
        two.query('ROLLBACK')
        assert two.query('SHOW work_mem') == [['4MB']]


def test_a_set_in_a_portal_of_an_earlier_request(shoal):
    # The same, when the portal is executed later in the transaction.
    with shoal.connect('solo') as one, shoal.connect('solo') as two:
        one.query('BEGIN')
        one.exchange(parse('', "SET work_mem = '1MB'") + bind('a') + sync())
        one.exchange(execute('a') + sync())
        one.query('COMMIT')
        assert one.query('SHOW work_mem') == [['1MB']]
        two.query('BEGIN')
        assert two.query('SHOW work_mem') == [['4MB']]
        two.query('ROLLBACK')
        assert two.query('SHOW work_mem') == [['4MB']]


def test_a_set_before_a_query_in_the_series(shoal):
    # A Query among extended messages commits what came before it; the error behind it does not undo that.
    with shoal.connect('solo') as one, shoal.connect('solo') as two:
        seen = one.exchange(parse('', "SET work_mem = '1MB'") + bind() + execute() + query('SELECT 1')
                            + parse('', 'SELECT 1/0') + bind() + execute() + sync(), ready=2)
        assert errors_of(seen)
        assert one.query('SHOW work_mem') == [['1MB']]
        two.query('BEGIN')
        assert two.query('SHOW work_mem') == [['4MB']]
        two.query('ROLLBACK')


def test_search_path_after_rollback_to(shoal, clusters):
    # The planner looks names up in a search_path that the server has forgotten.
    with shoal.connect('solo') as one:
        one.query('BEGIN')
        one.query('SAVEPOINT a')
        one.query("SET application_name = 'inner'")
        one.query('ROLLBACK TO a')
        assert one.query('SHOW application_name') != [['inner']]
        one.query('COMMIT')
        assert one.query('SHOW application_name') != [['inner']]


def test_deallocate_of_a_protocol_statement(direct, shoal):
    # psycopg3 and others prepare by message and deallocate by SQL.
    def script(conn):
        seen = conn.exchange(parse('mine', 'SELECT 1') + sync())
        seen += conn.exchange(query('DEALLOCATE mine'))
        seen += conn.exchange(bind('', 'mine') + execute() + sync())
        return seen + conn.exchange(parse('mine', 'SELECT 2') + sync())
    compare(script, direct, shoal)


# -- lazy transactions ----------------------------------------------------------------------------

def test_an_error_in_the_deferred_part(sharded, keys):
    # Two errors for one statement, or a statement that runs outside of the transaction.
    sharded.query('BEGIN')
    sharded.query('SET LOCAL nonsense = 1')
    seen = sharded.exchange(query(f"UPDATE users SET name = 'lost' WHERE id = {keys[1]}"))
    assert types_of(seen) == 'EZ' and sharded.status == 'E', types_of(seen)
    assert errors_of(seen)[0].code == '42704'
    assert tags_of(sharded.exchange(query('COMMIT'))) == ['ROLLBACK']
    assert sharded.query(f'SELECT name FROM users WHERE id = {keys[1]}') == [[f'u{keys[1]}']]


def test_an_error_in_the_deferred_part_extended(sharded, keys):
    # The same by the extended protocol.
    sharded.query('BEGIN')
    sharded.query('SET LOCAL nonsense = 1')
    seen = sharded.exchange(extended(f"UPDATE users SET name = 'lost' WHERE id = {keys[1]}"))
    assert types_of(seen) == 'EZ' and sharded.status == 'E', types_of(seen)
    sharded.query('ROLLBACK')
    assert sharded.alive()


@pytest.mark.parametrize('end', [sync(), flush()], ids=['sync', 'flush'])
@pytest.mark.parametrize('home', [0, 1])
def test_prepare_first_in_a_lazy_transaction(sharded, keys, end, home):
    # asyncpg prepares before it binds: the transaction must not be nailed to the home shard by that.
    sharded.query('BEGIN')
    sharded.send(parse('p', 'SELECT name FROM users WHERE id = $1') + describe('S', 'p') + end)
    seen = sharded.until('T')
    assert types_of(seen) == '1tT'
    if end == sync():
        assert types_of(sharded.until('Z')) == 'Z' and sharded.status == 'T'
    seen = sharded.exchange(bind('', 'p', [str(keys[home])]) + execute() + sync())
    assert rows_of(seen) == [[f'u{keys[home]}'.encode()]], errors_of(seen)
    assert sharded.status == 'T'
    sharded.query('COMMIT')


def test_a_failed_prepare_in_a_lazy_transaction(sharded):
    # The transaction goes on although one of its statements has failed.
    sharded.query('BEGIN')
    seen = sharded.exchange(parse('p', 'SELECT nothing FROM nowhere') + describe('S', 'p') + sync())
    assert types_of(seen) == 'EZ' and sharded.status == 'E'
    assert tags_of(sharded.exchange(query('COMMIT'))) == ['ROLLBACK']
    assert sharded.alive()


def test_bound_is_not_executed(sharded, keys, clusters):
    # Shoal acts on statements that the client has only looked at.
    sharded.exchange(parse('', 'BEGIN') + bind() + describe('P') + sync())
    assert sharded.status == 'I'
    sharded.exchange(parse('', 'DROP TABLE users') + bind() + describe('P') + sync())
    assert sharded.query(f'SELECT name FROM users WHERE id = {keys[0]}') == [[f'u{keys[0]}']]
    sharded.query('BEGIN')
    sharded.exchange(parse('', 'ROLLBACK') + bind() + sync())
    assert sharded.status == 'T'
    sharded.query('ROLLBACK')


def test_a_lost_transaction_and_chain(app, clusters, keys):
    # The client believes to be in a transaction, and each statement commits by itself.
    with app.connect('app') as conn:
        conn.query('BEGIN')
        pid = conn.query(f'SELECT pg_backend_pid() FROM users WHERE id = {keys[0]}')[0][0]
        clusters[0].query(f'SELECT pg_terminate_backend({pid})')
        time.sleep(0.3)
        conn.exchange(query('ROLLBACK AND CHAIN'))
        assert conn.status != 'I'
        conn.query('ROLLBACK')
        assert conn.alive()


# -- state on a server connection -------------------------------------------------------------------

def test_state_is_not_left_on_a_second_shard(app, clusters, keys):
    # A lock, once taken beside the connection that the session has, is never given back.
    with app.connect('app') as conn:
        conn.query(f'SELECT pg_advisory_lock(1) FROM users WHERE id = {keys[0]}')
        conn.exchange(query(f'SELECT pg_advisory_lock(2) FROM users WHERE id = {keys[1]}'))
    time.sleep(0.3)
    for cluster in clusters:
        wait_until('the locks to be gone', lambda: cluster.query(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [['0']], 5)


# -- COPY -----------------------------------------------------------------------------------------

def test_a_long_copy_that_fails_at_once(conn):
    # The client hangs: it was told to wait by a server that does not listen any more.
    conn.query('TRUNCATE sink')
    conn.send(query('COPY sink FROM STDIN'))
    assert types_of(conn.until('G')) == 'G'
    row = b'not a number\t' + b'x' * 60000 + b'\n'

    def pump():
        for _ in range(400):
            conn.send(message('d', row))
        conn.send(message('c') + query('SELECT 7'))
    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    seen = conn.until('Z', 2, 15)
    assert types_of(seen) == 'EZTDCZ'
    thread.join(10)
    assert conn.alive()


def test_the_server_dies_under_a_copy(shoal, clusters):
    # The same when the server is gone.
    with shoal.connect('solo') as conn:
        conn.query('BEGIN')
        pid = conn.query('SELECT pg_backend_pid()')[0][0]
        conn.send(query('COPY sink FROM STDIN'))
        assert types_of(conn.until('G')) == 'G'
        clusters[0].query(f'SELECT pg_terminate_backend({pid})')

        def pump():
            for _ in range(300):
                conn.send(message('d', b'1\t' + b'x' * 60000 + b'\n'))
            conn.send(message('c'))
        thread = threading.Thread(target=pump, daemon=True)
        thread.start()
        seen = conn.until('Z', 1, 15)
        assert types_of(seen) == 'EZ'
        thread.join(10)
        conn.exchange(query('ROLLBACK'))
        assert conn.alive()


# -- cancel ---------------------------------------------------------------------------------------

def test_cancel_reaches_ddl_on_all_shards(app, clusters):
    # DDL that waits for a lock cannot be stopped but by ending the client.
    blocker = clusters[1].connect(database='app', user='app')
    blocker.query('BEGIN')
    blocker.query('LOCK TABLE users')
    with app.connect('app') as conn:
        conn.send(query('ALTER TABLE users ADD COLUMN extra int'))
        time.sleep(0.5)
        conn.cancel()
        seen = conn.until('Z', 1, 10)
        assert [e.code for e in errors_of(seen)] == ['57014']
        blocker.query('ROLLBACK')
        assert conn.alive()
        for cluster in clusters:
            assert cluster.query("SELECT count(*) FROM information_schema.columns WHERE column_name = 'extra'",
                                 database='app', user='app') == [['0']]
    blocker.close()


def test_the_client_goes_while_ddl_waits(app, clusters):
    # The tables are locked by a statement that nobody waits for.
    blocker = clusters[1].connect(database='app', user='app')
    blocker.query('BEGIN')
    blocker.query('LOCK TABLE users')
    conn = app.connect('app')
    conn.send(query('ALTER TABLE users ADD COLUMN extra int'))
    time.sleep(0.5)
    conn.abort()
    wait_until('the locks to be gone', lambda: clusters[0].query(
        "SELECT count(*) FROM pg_locks WHERE relation = 'users'::regclass", database='app', user='app') == [['0']], 5)
    blocker.query('ROLLBACK')
    blocker.close()
    with app.connect('app') as conn:
        assert conn.alive()


# -- limits ---------------------------------------------------------------------------------------

def test_many_binds_before_one_sync(shoal):
    # executemany() of a driver: memory must grow with what was sent, not with its square.
    with shoal.connect('solo') as conn:
        one = bind('', 'many', ['1', 'x']) + execute()
        conn.send(parse('many', 'INSERT INTO sink VALUES ($1, $2)') + sync())
        conn.until('Z')
        before = memory_kb(shoal)
        seen = conn.exchange(one * 12000 + sync(), timeout_s=60)
        assert types_of(seen).count('C') == 12000
        assert memory_kb(shoal) - before < 200_000


def memory_kb(shoal):
    with open(f'/proc/{shoal.process.pid}/status') as status:
        return int([line for line in status if line.startswith('VmHWM')][0].split()[1])


def test_the_client_goes_while_ddl_commits(app, clusters):
    # The shards differ, because nobody was there any more to commit on the second one.
    clusters[0].query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    clusters[0].query('SELECT pg_reload_conf()')
    try:
        conn = app.connect('app')
        conn.send(query('CREATE TABLE half (id bigint)'))
        wait_until('the commit to wait', lambda: clusters[0].query(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == [['t']], 10)
        conn.abort()
        time.sleep(0.5)
    finally:
        clusters[0].query('ALTER SYSTEM RESET synchronous_standby_names')
        clusters[0].query('SELECT pg_reload_conf()')
    for cluster in clusters:
        wait_until('the table to be there', lambda: cluster.query(
            "SELECT count(*) FROM pg_tables WHERE tablename = 'half'", database='app', user='app') == [['1']], 5)
    with app.connect('app') as conn:
        assert conn.query("SELECT shoal.distribute_table('half', 'id')")
def pipeline_of(rng):
    """Statements of every kind, in both protocols, as a client that never waits would send them."""
    data, ready = b'', 0
    for _ in range(rng.randint(3, 14)):
        key = rng.randint(1, 100)
        kind = rng.randrange(15)
        if kind < 4:
            data += extended('SELECT v FROM kv WHERE id = $1', [str(key)])
            ready += 1
        elif kind < 6:
            data += query(f'SELECT v FROM kv WHERE id = {key}')
            ready += 1
        elif kind == 6:
            data += query(rng.choice(['BEGIN', 'COMMIT', 'ROLLBACK', 'SAVEPOINT a', 'ROLLBACK TO a']))
            ready += 1
        elif kind == 7:
            data += query('SELECT 1/0') if rng.random() < .5 else extended('SELECT nothing')
            ready += 1
        elif kind == 8:
            data += query(rng.choice(["SET work_mem = '1MB'", "SET LOCAL work_mem = '2MB'", 'RESET work_mem',
                                      'SHOW work_mem', 'RESET ALL']))
            ready += 1
        elif kind == 9:
            data += query("SET work_mem = '3MB'; SELECT 1; " + rng.choice(['COMMIT', 'ROLLBACK', 'SELECT 1/0',
                                                                          'COMMIT; SELECT 1/0']))
            ready += 1
        elif kind == 10:
            # Not in a failed transaction: there Shoal says ParseComplete to what it knows already.
            name = rng.choice('ab')
            data += query('ROLLBACK')
            data += parse(name, 'SELECT v FROM kv WHERE id = $1') + describe('S', name) + sync()
            ready += 1
            ready += 1
        elif kind == 11:
            name = rng.choice('ab')
            data += bind('', name, [str(key)]) + execute() + (close('S', name) if rng.random() < .3 else b'') + sync()
            ready += 1
        elif kind == 12:
            data += (parse('', 'SELECT v FROM kv WHERE id = $1') + bind('', '', [str(key)]) + execute() + flush()
                     + bind('', '', [str(key + 1)]) + execute() + sync())
            ready += 1
        elif kind == 13:
            data += (parse('', f"INSERT INTO sink VALUES ({key}, 'x')") + bind() + execute()
                     + (rng.choice([MALFORMED, bind('', 'nobody'), message('D', b'X\0')]) if rng.random() < .5 else b'')
                     + sync())
            ready += 1
        else:
            data += parse('', 'SELECT 1') + query('SHOW work_mem') + sync()
            ready += 2
    return data + query('ROLLBACK') + query('SHOW work_mem') + query('SELECT count(*) FROM sink'), ready + 3


@pytest.mark.parametrize('round_', range(200 if host.LONG else 10))
def test_random_pipelines(direct, shoal, clusters, rng, round_):
    # An answer goes to another question of the same client, is lost, or comes twice.
    for _ in range(10):
        data, ready = pipeline_of(rng)

        def script(conn):
            clusters[0].query('TRUNCATE sink', database='solo', user='app')
            conn.send(data)
            return conn.until('Z', ready, 5)
        compare(script, direct, shoal)


def test_nobody_elses_statement_under_a_name(conn):
    # A client that binds a name it never prepared runs another client's statement, or closes it for everybody.
    for key in range(1, 30):
        conn.query(f'SELECT v FROM kv WHERE id = {key}')
    known = [row[0] for row in conn.query('SELECT name FROM pg_prepared_statements')]
    assert known and not any(re.fullmatch(r'[a-z]+_?[0-9]+', name) for name in known)
    for name in [f's{n}' for n in range(1, 9)]:
        assert errors_of(conn.exchange(bind('', name, ['2']) + execute() + sync()))[0].code == '26000'
        for verb in ('EXECUTE', 'DEALLOCATE'):
            with pytest.raises(PgError) as caught:
                conn.query(f'{verb} {name}')
            assert caught.value.code == '26000'
