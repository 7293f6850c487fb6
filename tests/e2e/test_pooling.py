"""Transaction pooling: many clients on few server connections, and none notices another.

H numbers are those of the hazards.
"""
import threading
import time

import pytest

from tests.support.cluster import wait_until
from tests.support.wire import (CLOSED, PgError, bind, close, describe, errors_of, execute, extended, parse, query,
                                rows_of, send_cancel, sync, tags_of)

POOL = 3


@pytest.fixture(scope='module')
def shoal_databases():
    return {'solo': {'shards': 's0', 'pool_size': str(POOL)}, 'app': {'shards': 's0, s1', 'pool_size': str(POOL)}}


@pytest.fixture(scope='module')
def shoal_settings():
    return {'query_wait_timeout': '3s', 'client_max': '300', 'idle_in_transaction_timeout': '0'}


@pytest.fixture(scope='module')
def solo_schema():
    return ['CREATE TABLE kv (id bigint PRIMARY KEY, v text)', 'GRANT ALL ON kv TO other',
            "INSERT INTO kv SELECT g, 'v' || g FROM generate_series(1, 100) g",
            "CREATE SCHEMA evil", "CREATE TABLE evil.kv (id bigint, v text)", "INSERT INTO evil.kv VALUES (1, 'evil')"]


@pytest.fixture
def conn(shoal):
    with shoal.connect('solo') as conn:
        yield conn


def servers_used(clusters, database='solo'):
    rows = clusters[0].query("SELECT count(*) FROM pg_stat_activity WHERE datname = '%s' AND usename = 'app' "
                             "AND backend_type = 'client backend'" % database)
    return int(rows[0][0])


def answer(conn):
    """The rows of the statement under way; an error raises."""
    seen = conn.until('Z')
    for err in errors_of(seen):
        raise err
    return rows_of(seen)


def open_many(shoal, count, database='solo', **kwargs):
    return [shoal.connect(database, **kwargs) for _ in range(count)]


def shut(conns):
    for conn in conns:
        conn.close()


# -- pinning and limits -----------------------------------------------------------------------------

def test_a_transaction_keeps_its_server(conn):
    # Statements of one transaction run on different servers: nothing of it is atomic.
    conn.query('BEGIN')
    pids = {conn.query('SELECT pg_backend_pid()')[0][0] for _ in range(20)}
    conn.query('COMMIT')
    assert len(pids) == 1


@pytest.mark.shoal_only
def test_many_clients_few_servers(shoal, clusters):
    # PostgreSQL runs out of connections, which is what a pooler is there to prevent.
    conns = open_many(shoal, 60)
    for conn in conns:
        conn.send(query('SELECT pg_backend_pid()'))
    pids = {answer(conn)[0][0] for conn in conns}
    assert len(pids) <= POOL and servers_used(clusters) <= POOL
    shut(conns)


@pytest.mark.shoal_only
def test_the_longest_waiter_is_next(shoal):
    # H31: late clients overtake early ones, and the early ones starve.
    blockers = open_many(shoal, POOL)
    for conn in blockers:
        conn.query('BEGIN')
        conn.query('SELECT pg_backend_pid()')
    waiters = open_many(shoal, 10)
    for n, conn in enumerate(waiters):
        conn.send(query(f"SELECT {n}, clock_timestamp(), pg_sleep(0.01)"))
        time.sleep(0.02)
    for conn in blockers:
        conn.query('COMMIT')
    times = [answer(conn)[0][1] for conn in waiters]
    late = sum(1 for a, b in zip(times, times[POOL:]) if a > b)
    assert late == 0, 'a waiter was overtaken by one that came a whole pool later'
    shut(blockers + waiters)


@pytest.mark.shoal_only
def test_waiting_ends(shoal):
    # A client waits for ever for a server connection that never comes free.
    blockers = open_many(shoal, POOL)
    for conn in blockers:
        conn.query('BEGIN')
        conn.query('SELECT 1')
    with shoal.connect('solo') as waiter:
        started = time.monotonic()
        with pytest.raises(PgError) as caught:
            waiter.query('SELECT pg_backend_pid()')
        assert 2 < time.monotonic() - started < 25
        assert caught.value.code in ('53300', '57014', '08001'), str(caught.value)
        shut(blockers)
        wait_until('the next statement to work', lambda: waiter.query('SELECT 1') == [['1']], 5)


@pytest.mark.shoal_only
def test_too_many_clients(shoal):
    # One application's leak of connections takes the process's memory or files from all.
    conns, refusal = [], None
    try:
        for _ in range(320):
            conns.append(shoal.connect('solo'))
    except PgError as err:
        refusal = err
    assert refusal is not None and refusal.code == '53300'
    assert len(conns) <= 300
    assert conns[0].alive()
    shut(conns)
    wait_until('room again', lambda: shoal.connect('solo').alive(), 5)


@pytest.mark.shoal_only
def test_servers_are_kept_when_clients_go(shoal, clusters):
    # H33: each page of the application costs a new server connection.
    with shoal.connect('solo') as conn:
        first = conn.query('SELECT pg_backend_pid()')
    seen = set()
    for _ in range(30):
        with shoal.connect('solo') as conn:
            seen.add(conn.query('SELECT pg_backend_pid()')[0][0])
    assert first[0][0] in seen and len(seen) <= POOL


@pytest.mark.shoal_only
def test_users_do_not_share_servers(shoal):
    # A statement runs with the rights of another user.
    for _ in range(5):
        with shoal.connect('solo', user='app') as a, shoal.connect('solo', user='other') as b:
            assert a.query('SELECT current_user') == [['app']]
            assert b.query('SELECT current_user, session_user') == [['other', 'other']]


# -- prepared statements -----------------------------------------------------------------------------

def test_prepared_on_every_server(shoal):
    # "prepared statement does not exist": what every ORM sees behind a naive pooler.
    conns = open_many(shoal, 12)
    for n, conn in enumerate(conns):
        seen = conn.exchange(parse('s1', f'SELECT v, {n} FROM kv WHERE id = $1') + sync())
        assert not errors_of(seen)
    for turn in range(1, 20):
        for conn in conns:
            conn.send(bind('', 's1', [str(turn)]) + execute() + sync())
        for n, conn in enumerate(conns):
            assert answer(conn) == [[f'v{turn}'.encode(), str(n).encode()]]
    shut(conns)


def test_close_and_prepare_again(conn):
    # H16: a failed or closed statement answers for its successor of the same name.
    for n in range(10):
        bad = conn.exchange(parse('x', 'SELECT wrong syntax here') + sync())
        assert errors_of(bad)
        seen = conn.exchange(parse('x', f'SELECT {n}') + bind('', 'x') + execute() + close('S', 'x') + sync())
        assert rows_of(seen) == [[str(n).encode()]]


def test_after_ddl(conn, clusters):
    # H19: "cached plan must not change result type" until the application restarts.
    conn.query('CREATE TABLE IF NOT EXISTS changing (a int)')
    conn.query('DELETE FROM changing')
    conn.query('INSERT INTO changing VALUES (1)')
    conn.exchange(parse('star', 'SELECT * FROM changing') + sync())
    assert rows_of(conn.exchange(bind('', 'star') + execute() + sync())) == [[b'1']]
    conn.query('ALTER TABLE changing ADD b int DEFAULT 2')
    conn.exchange(close('S', 'star') + sync())
    seen = conn.exchange(parse('star', 'SELECT * FROM changing') + bind('', 'star') + execute() + sync())
    assert rows_of(seen) == [[b'1', b'2']]
    conn.query('DROP TABLE changing')


def test_deallocate_all(conn):
    # H18: DEALLOCATE ALL of one client erases what others prepared, or leaves its own.
    conn.exchange(parse('d', 'SELECT 1') + sync())
    conn.query('DEALLOCATE ALL')
    assert errors_of(conn.exchange(bind('', 'd') + execute() + sync()))[0].code == '26000'
    seen = conn.exchange(parse('d', 'SELECT 2') + bind('', 'd') + execute() + sync())
    assert rows_of(seen) == [[b'2']]


def test_deallocate_does_not_reach_others(shoal):
    # H18 from the other side.
    a, b = open_many(shoal, 2)
    for conn in (a, b):
        conn.exchange(parse('mine', 'SELECT 5') + sync())
        conn.exchange(bind('', 'mine') + execute() + sync())
    a.query('DEALLOCATE ALL')
    a.query('DISCARD ALL')
    for _ in range(10):
        assert rows_of(b.exchange(bind('', 'mine') + execute() + sync())) == [[b'5']]
    shut([a, b])


def test_types_are_part_of_a_statement(shoal):
    # H20: two clients prepare the same text with different types and share one plan.
    a, b = open_many(shoal, 2)
    a.exchange(parse('t', 'SELECT pg_typeof($1)', (23,)) + sync())
    b.exchange(parse('t', 'SELECT pg_typeof($1)', (25,)) + sync())
    for _ in range(10):
        assert rows_of(a.exchange(bind('', 't', ['1']) + execute() + sync())) == [[b'integer']]
        assert rows_of(b.exchange(bind('', 't', ['1']) + execute() + sync())) == [[b'text']]
    shut([a, b])


# -- session state -----------------------------------------------------------------------------------

@pytest.mark.parametrize('name, value, other', [
    ('search_path', 'evil', None), ('DateStyle', "'German'", None), ('TimeZone', "'Asia/Tokyo'", None),
    ('statement_timeout', "'123s'", None), ('app.tenant', "'secret'", ''), ('standard_conforming_strings', 'off', None),
    ('default_transaction_read_only', 'on', None), ('extra_float_digits', '0', None)])
@pytest.mark.shoal_only
def test_settings_do_not_leak(shoal, name, value, other):
    # H24, H25: a stranger's SET decides what my statements mean.
    with shoal.connect('solo') as conn:
        try:
            before = conn.query(f'SHOW {name}')
        except PgError:
            before = None
    a = shoal.connect('solo')
    a.query(f'SET {name} = {value}')
    mine = a.query(f'SHOW {name}')
    others = open_many(shoal, POOL * 3)
    for conn in others:
        conn.send(query(f"SELECT current_setting('{name}', true), pg_sleep(0.01)"))
    for conn in others:
        got = answer(conn)[0][0]
        assert (got or b'').decode() == (before[0][0] if before else '')
    for _ in range(POOL * 3):
        assert a.query(f'SHOW {name}') == mine
    shut(others + [a])


def test_a_setting_follows_its_client(shoal):
    # My own SET is forgotten at the next statement.
    conns = open_many(shoal, 8)
    for n, conn in enumerate(conns):
        conn.query(f"SET application_name = 'client {n}'")
        conn.query(f"SET app.n = '{n}'")
    for _ in range(5):
        for n, conn in enumerate(conns):
            assert conn.query("SELECT current_setting('app.n')") == [[str(n)]]
    shut(conns)


def test_set_local_and_rollback(conn):
    # H27: SET LOCAL outlives its transaction, or a rolled back SET stays.
    conn.query('SET DateStyle = ISO')
    before = conn.query('SHOW DateStyle')
    for statements in (('BEGIN', "SET LOCAL DateStyle = 'German'", 'COMMIT'),
                       ('BEGIN', "SET DateStyle = 'German'", 'ROLLBACK')):
        for statement in statements:
            conn.query(statement)
        for _ in range(5):
            assert conn.query('SHOW DateStyle') == before
    conn.query('BEGIN')
    conn.query("SET DateStyle = 'German'")
    conn.query('COMMIT')
    assert 'German' in conn.query('SHOW DateStyle')[0][0]
    conn.query('RESET DateStyle')
    assert conn.query('SHOW DateStyle') == before


def test_reset_all_and_discard_all(conn):
    # H24: after DISCARD ALL the client still wears old settings.
    conn.query("SET app.x = '1'")
    conn.query("SET DateStyle = 'German'")
    conn.query('DISCARD ALL')
    for _ in range(POOL * 2):
        assert 'German' not in conn.query('SHOW DateStyle')[0][0]
    conn.query("SET DateStyle = 'German'")
    conn.query('RESET ALL')
    for _ in range(POOL * 2):
        assert 'German' not in conn.query('SHOW DateStyle')[0][0]


@pytest.mark.shoal_only
def test_set_role_does_not_leak(shoal):
    # H24: SET ROLE leaked to the next client (pgdog#1341).
    with shoal.connect('solo') as a:
        try:
            a.query('SET ROLE other')
        except PgError as err:
            assert err.code == '0A000'
        others = open_many(shoal, POOL * 2)
        for conn in others:
            conn.send(query('SELECT current_user, pg_sleep(0.01)'))
        assert {answer(conn)[0][0] for conn in others} == {b'app'}
        shut(others)


@pytest.mark.parametrize('statement', [
    'CREATE TEMP TABLE secret (a int)', 'LISTEN channel', 'SELECT pg_advisory_lock(42)',
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "PREPARE p AS SELECT 1", "SELECT set_config('app.leak', 'x', false)",
    'SET SESSION AUTHORIZATION other', "SELECT pg_try_advisory_lock(43)", 'LOAD \'plpgsql\'',
    'CREATE TEMP VIEW tv AS SELECT 1'])
@pytest.mark.shoal_only
def test_session_objects_do_not_leak(shoal, clusters, statement):
    # 124, H28: session state stays on a shared server and meets the next client, or blocks it for ever.
    a = shoal.connect('solo')
    try:
        a.query(statement)
        accepted = True
    except PgError as err:
        accepted = False
        assert err.code == '0A000' and err['H'], str(err)
    if accepted and 'TEMP TABLE' in statement:
        for _ in range(POOL * 2):
            assert a.query('SELECT count(*) FROM secret') == [['0']]
    if accepted and 'PREPARE' in statement:
        for _ in range(POOL * 2):
            assert a.query('EXECUTE p') == [['1']]
    a.close()
    ask = ("SELECT (SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relnamespace = pg_my_temp_schema()),"
           "(SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_cursors WHERE is_holdable),"
           "(SELECT count(*) FROM pg_prepared_statements WHERE from_sql), current_setting('app.leak', true), "
           'session_user, pg_sleep(0.01)')
    for _ in range(3):
        # As many as there are servers: who asks for session state may keep its server until it goes.
        others = open_many(shoal, POOL)
        for conn in others:
            conn.send(query(ask))
        for conn in others:
            row = answer(conn)[0][:6]
            assert row[:4] == [b'0'] * 4 and not row[4] and row[5] == b'app', row
        shut(others)
    locks = clusters[0].query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    assert locks == [['0']]


@pytest.mark.shoal_only
def test_set_transaction(conn):
    # H27: an isolation level set for one transaction changes the next.
    conn.query('BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY')
    assert conn.query('SHOW transaction_isolation') == [['serializable']]
    conn.query('COMMIT')
    for _ in range(POOL * 2):
        assert conn.query('SHOW transaction_isolation') == [['read committed']]
        assert conn.query('SHOW transaction_read_only') == [['off']]


# -- cancel ------------------------------------------------------------------------------------------

def test_cancel(shoal):
    # Ctrl-C in psql does nothing, and the server works on.
    with shoal.connect('solo') as conn:
        conn.send(query('SELECT pg_sleep(60)'))
        time.sleep(0.3)
        started = time.monotonic()
        conn.cancel()
        errors = errors_of(conn.until('Z'))
        assert errors[0].code == '57014' and time.monotonic() - started < 25
        assert conn.alive()


@pytest.mark.shoal_only
def test_cancel_while_waiting(shoal):
    # A statement that waits for a server cannot be cancelled.
    blockers = open_many(shoal, POOL)
    for conn in blockers:
        conn.query('BEGIN')
        conn.query('SELECT 1')
    with shoal.connect('solo') as conn:
        conn.send(query('SELECT pg_backend_pid()'))
        time.sleep(0.2)
        conn.cancel()
        assert errors_of(conn.until('Z', timeout_s=25))[0].code == '57014'
        shut(blockers)
        assert conn.alive()


@pytest.mark.shoal_only
def test_cancel_never_hits_another(shoal):
    # H30: a late cancel kills the statement of the next client on that server.
    stop = time.monotonic() + 4
    victims, wrong = open_many(shoal, POOL * 2), []

    def work(conn, n):
        turn = 0
        while time.monotonic() < stop:
            turn += 1
            seen = conn.exchange(query(f"SELECT '{n}-{turn}', pg_sleep(0.002)"))
            if errors_of(seen) or rows_of(seen)[0][0] != f'{n}-{turn}'.encode():
                wrong.append(seen)

    threads = [threading.Thread(target=work, args=(conn, n)) for n, conn in enumerate(victims)]
    for thread in threads:
        thread.start()
    storm = open_many(shoal, 4)
    while time.monotonic() < stop:
        for conn in storm:
            conn.send(query('SELECT 1'))
            send_cancel(conn.address, conn.backend_key)
            seen = conn.until('Z')
            assert not errors_of(seen) or errors_of(seen)[0].code == '57014'
    for thread in threads:
        thread.join()
    assert wrong == []
    shut(victims + storm)


@pytest.mark.shoal_only
def test_cancel_of_an_idle_client(shoal):
    # A cancel that comes too late cancels the client's next statement.
    with shoal.connect('solo') as conn:
        for n in range(20):
            conn.cancel()
            assert conn.query(f'SELECT {n}') == [[str(n)]]


@pytest.mark.shoal_only
def test_keys_differ(shoal):
    # Cancel keys that can be guessed let anybody cancel anything.
    conns = open_many(shoal, 50)
    assert len({conn.backend_key for conn in conns}) == 50
    assert len({conn.backend_key[4:] for conn in conns}) == 50
    shut(conns)


# -- clients that misbehave --------------------------------------------------------------------------

@pytest.mark.shoal_only
def test_client_dies_while_it_runs(shoal, clusters):
    # A client that died blocks its server connection, and after some of them the pool is empty.
    for _ in range(POOL * 3):
        conn = shoal.connect('solo')
        conn.send(query('SELECT pg_sleep(0.2)'))
        time.sleep(0.02)
        conn.abort()
    with shoal.connect('solo') as conn:
        assert conn.alive()


@pytest.mark.shoal_only
def test_client_dies_while_it_waits(shoal):
    # H31: a waiter that left takes a server connection with it.
    blockers = open_many(shoal, POOL)
    for conn in blockers:
        conn.query('BEGIN')
        conn.query('SELECT 1')
    for _ in range(20):
        conn = shoal.connect('solo')
        conn.send(query('SELECT pg_backend_pid()'))
        time.sleep(0.005)
        conn.abort()
    shut(blockers)
    with shoal.connect('solo') as conn:
        assert conn.alive()
        assert wait_until('nobody waiting', lambda: all(
            int(row.get('waiting') or row.get('cl_waiting') or 0) == 0 for row in shoal.console('SHOW POOLS')), 5)


@pytest.mark.shoal_only
def test_slow_reader_does_not_fill_memory(shoal):
    # One client that does not read its rows takes the memory of the process.
    before = shoal.rss_kib()
    with shoal.connect('solo', timeout_s=60) as conn:
        conn.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)"))
        time.sleep(2)
        assert shoal.rss_kib() - before < 64 * 1024
        with shoal.connect('solo') as other:
            assert other.alive()
        seen = conn.until('Z', timeout_s=60)
        assert tags_of(seen) == ['SELECT 200000']


@pytest.mark.shoal_only
def test_client_that_pipelines_without_end_is_slowed(shoal):
    # A client that sends faster than its server answers takes the memory of the process.
    before = shoal.rss_kib()
    with shoal.connect('solo', timeout_s=60) as conn:
        one = query('SELECT pg_sleep(3)') + query('SELECT 1 /* ' + 'x' * 20000 + ' */') * 3000
        conn.sock.setblocking(False)
        sent = 0
        until = time.monotonic() + 2
        while sent < len(one) and time.monotonic() < until:
            try:
                sent += conn.sock.send(one[sent:sent + 65536])
            except BlockingIOError:
                time.sleep(0.01)
        assert sent < len(one) / 2, 'nobody slowed the client'
        assert shoal.rss_kib() - before < 96 * 1024
        conn.abort()
    with shoal.connect('solo') as other:
        assert other.alive()


@pytest.mark.shoal_only
def test_flush_then_silence_holds_one_server(shoal):
    # 106: a Flush without Sync leaves an implicit transaction open; its end frees the server.
    for _ in range(POOL * 2):
        conn = shoal.connect('solo')
        conn.send(parse('', 'SELECT 1') + bind() + execute() + b'H\0\0\0\4')
        assert conn.until('C')[-1].type == 'C'
        conn.abort()
    with shoal.connect('solo') as conn:
        assert conn.alive()


@pytest.mark.shoal_only
def test_server_connection_is_killed(shoal, clusters):
    # An administrator's pg_terminate_backend takes the client's connection with it, or hangs it.
    with shoal.connect('solo') as conn:
        pid = conn.query('SELECT pg_backend_pid()')[0][0]
        clusters[0].query(f'SELECT pg_terminate_backend({pid})')
        time.sleep(0.2)
        assert wait_until('a fresh server', lambda: conn.alive(), 5)
    with shoal.connect('solo') as conn:
        conn.query('BEGIN')
        pid = conn.query('SELECT pg_backend_pid()')[0][0]
        clusters[0].query(f'SELECT pg_terminate_backend({pid})')
        seen = conn.exchange(query('SELECT 1'))
        assert errors_of(seen) or seen[-1] == CLOSED
