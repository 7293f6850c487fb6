"""Protocol v3 after login: every message, right and wrong, answered as PostgreSQL answers it.

Numbers are those of the table of bad inputs (4c); H numbers those of the hazards.
"""
import struct

import pytest

from tests.support.differential import compare, sent
from tests.support.wire import (bind, close, cstr, describe, errors_of, execute, extended, flush,
                                message, parse, query, rows_of, sync, tags_of, types_of)


@pytest.fixture(scope='module')
def solo_schema():
    return ['CREATE TABLE kv (id bigint PRIMARY KEY, v text, n int)',
            "INSERT INTO kv SELECT g, 'v' || g, g FROM generate_series(1, 100) g",
            'CREATE TABLE sink (id bigint, v text)']


def raw_bind(values_part, formats=b'\0\0', results=b'\0\0'):
    """A Bind of the unnamed statement whose parameter part is given as it is."""
    return message('B', b'\0\0' + formats + values_part + results)


SELECT1 = parse('', 'SELECT v FROM kv WHERE id = $1')
REST = execute() + sync()

# number, name, bytes, ReadyForQuery awaited
CASES = [
    (57, 'unknown type z', message('z'), 1),
    (58, 'type NUL', message(b'\0'), 1),
    (59, 'backend type T', message('T', b'\0\0'), 1),
    (59, 'backend type R', message('R', b'\0\0\0\0'), 1),
    (59, 'backend type Z', message('Z', b'I'), 1),
    (60, 'password after login', message('p', cstr('secret')), 1),
    (61, 'Query of length 0', message('Q', b'', 0), 1),
    (61, 'Query of length 3', message('Q', b'', 3), 1),
    (62, 'Query of length -1', message('Q', b'', -1), 1),
    (63, 'Query of length 2^31-1', message('Q', b'', 2**31 - 1), 1),
    (64, 'Query of 1 GiB + 4', message('Q', b'', 2**30 + 4), 1),
    (65, 'Sync of length 10005', message('S', b'', 10005), 1),
    (65, 'Execute of length 20000', message('E', b'', 20000), 1),
    (66, 'Sync with payload', message('S', b'abc'), 1),
    (67, 'Query without NUL', message('Q', b'select 1'), 1),
    (68, 'Query with two strings', message('Q', b'select 1\0select 2\0'), 1),
    (69, 'Query without body', message('Q'), 1),
    (70, 'empty Query', query(''), 1),
    (70, 'semicolons', query(';;'), 1),
    (70, 'only a comment', query('-- nothing'), 1),
    (70, 'only a nested comment', query('/* a /* b */ c */'), 1),
    (71, 'invalid UTF-8', message('Q', b"select '\xff'\0"), 1),
    (71, 'overlong UTF-8', message('Q', b"select '\xc0\x80'\0"), 1),
    (71, 'surrogate UTF-8', message('Q', b"select '\xed\xa0\x80'\0"), 1),
    (71, 'invalid UTF-8 eats the quote', message('Q', b"select '\xe2'; select 2\0"), 1),
    (72, 'Parse without body', message('P') + sync(), 1),
    (72, 'Parse name without NUL', message('P', b'name') + sync(), 1),
    (73, 'Parse with -1 types', message('P', b'\0select 1\0\xff\xff') + sync(), 1),
    (73, 'Parse with 5 types, none sent', message('P', b'\0select 1\0\0\5') + sync(), 1),
    (74, 'Parse with trailing junk', message('P', b'\0select 1\0\0\0junk') + sync(), 1),
    (75, 'Parse of two statements', parse('', 'select 1; select 2') + sync(), 1),
    (76, 'Parse of a name twice', parse('a', 'select 1') + parse('a', 'select 2') + sync(), 1),
    (77, 'Parse with an unknown type', parse('', 'select $1', (99999999,)) + sync(), 1),
    (78, 'skip to Sync', parse('', 'selec 1') + bind() + describe('P') + execute() + sync(), 1),
    (79, 'Bind of an unknown statement', bind('', 'nobody') + REST, 1),
    (80, 'Bind with too few', SELECT1 + bind('', '', []) + REST, 1),
    (80, 'Bind with too many', SELECT1 + bind('', '', [b'1', b'2']) + REST, 1),
    (81, 'Bind with 3 formats for one', SELECT1 + bind('', '', [b'1'], [0, 0, 0]) + REST, 1),
    (82, 'Bind format 7', SELECT1 + bind('', '', [b'1'], [7]) + REST, 1),
    (82, 'Bind result format 7', SELECT1 + bind('', '', [b'1'], [], [7]) + REST, 1),
    (83, 'Bind with 2 result formats for one', SELECT1 + bind('', '', [b'1'], [], [0, 0]) + REST, 1),
    (84, 'Bind value of length -2', SELECT1 + raw_bind(b'\0\1\xff\xff\xff\xfe') + REST, 1),
    (84, 'Bind value past the end', SELECT1 + raw_bind(b'\0\1\0\0\0\x64abc', b'\0\0', b'') + REST, 1),
    (84, 'Bind value of 2^31-1', SELECT1 + raw_bind(b'\0\1\x7f\xff\xff\xffabc', b'\0\0', b'') + REST, 1),
    (85, 'Bind declares 65535, none sent', SELECT1 + raw_bind(b'\xff\xff', b'\0\0', b'') + REST, 1),
    (87, 'binary bigint of 3 bytes', SELECT1 + bind('', '', [b'\0\0\1'], [1]) + REST, 1),
    (88, 'bigint of 20 digits', SELECT1 + bind('', '', [b'99999999999999999999']) + REST, 1),
    (89, 'bigint abc', SELECT1 + bind('', '', [b'abc']) + REST, 1),
    (90, 'NULL key', SELECT1 + bind('', '', [None]) + describe('P') + REST, 1),
    (91, 'portal twice', parse('', 'select 1') + bind('p') + bind('p') + REST, 1),
    (92, 'Execute of an unknown portal', execute('nobody') + sync(), 1),
    (93, 'Execute with max_rows -5', SELECT1 + bind('', '', [b'1']) + execute('', -5) + sync(), 1),
    (94, 'Execute 1 of 3', parse('', 'select id from kv order by id limit 3') + bind('p')
     + execute('p', 1) + execute('p', 1) + execute('p', 0) + sync(), 1),
    (95, 'Describe X', message('D', b'X\0') + sync(), 1),
    (95, 'Close X', message('C', b'X\0') + sync(), 1),
    (96, 'Close of an unknown statement', close('S', 'nobody') + close('P', 'nobody') + sync(), 1),
    (97, 'COPY messages outside COPY', message('d', b'1\tx\n') + message('c') + message('f', cstr('no'))
     + sync(), 1),
    (104, 'Query before the Sync', SELECT1 + bind('', '', [b'1']) + execute() + query('select 7') + sync(), 2),
    (105, 'a thousand Syncs', sync() * 1000, 1000),
    (109, 'unterminated string', query("select 'abc"), 1),
    (109, 'unterminated comment', query('select 1 /* abc'), 1),
    (109, 'unterminated dollar quote', query('select $a$ abc'), 1),
    (111, 'parameter $0', query('select $0'), 1),
    (111, 'parameter out of range', query('select $99999999999'), 1),
    (112, 'an identifier of 100 characters', query('select 1 as ' + 'a' * 100), 1),
    (116, 'too many columns', query('select ' + ','.join(['1'] * 1700)), 1),
    (117, 'a key of 20 digits in the text', query('select v from kv where id = 99999999999999999999'), 1),
    (118, 'a key as quoted text', query("select v from kv where id = '1 '"), 1),
    (118, 'a key as 1.0', query('select v from kv where id = 1.0'), 1),
    (118, 'a key as 1e0', query('select v from kv where id = 1e0'), 1),
    (118, 'a key as -0', query('select v from kv where id = -0'), 1),
    (118, 'a key as 0x1', query("select v from kv where id = '0x1'"), 1),
    (118, 'a key as 1_000', query('select v from kv where id = 1_000'), 1),
    (122, 'several statements in one Query', query('select 1; select v from kv where id = 2; select 3'), 1),
    (122, 'an error rolls the others back',
     query("insert into sink values (1, 'gone'); select 1/0; insert into sink values (2, 'gone')")
     + query('select count(*) from sink'), 2),
    (122, 'BEGIN and COMMIT inside', query('begin; select 1; commit; select 2'), 1),
    (126, 'COMMIT in a failed transaction', query('begin') + query('select 1/0') + query('commit'), 3),
    (0, 'a SELECT of every type', query("select 1::int2, 2::int8, 1.5::float8, 'x'::text, true, null, "
                                        "'\\x00ff'::bytea, '2020-01-02'::date, '{1,2}'::int[], '{}'::jsonb"), 1),
    (0, 'no rows', query('select * from kv where id = 0'), 1),
    (0, 'a row without columns', query('select'), 1),
    (0, 'a notice', query("do $$ begin raise notice 'hello'; end $$"), 1),
    (0, 'an error with all fields', query('insert into kv values (1)'), 1),
    (0, 'SHOW', query('show server_version'), 1),
    (0, 'DISCARD ALL', query('discard all'), 1),
    (0, 'a function call', message('F', struct.pack('!IhhiihI', 99999999, 0, 0, 0, 0, 0, 0)[:10]), 1),
]


@pytest.mark.parametrize('number, name, data, ready', CASES,
                         ids=[f'{n}-{name}'.replace(' ', '-') for n, name, _, _ in CASES])
def test_bad_input(direct, shoal, number, name, data, ready):
    # A driver that errs, or an attacker, gets another answer than from PostgreSQL, or hangs.
    compare(sent(data, ready), direct, shoal)


def copy_script(start, *data, ready=1):
    """Starts a COPY FROM STDIN in a transaction, sends the rest when the server has said 'G'."""
    def script(conn):
        seen = conn.exchange(query('BEGIN'))
        conn.send(query(start))
        seen += conn.until('G', 1, 5)
        seen += conn.exchange(b''.join(data), ready, 5)
        if seen[-1].type == 'Z':
            seen += conn.exchange(query('ROLLBACK'))
        return seen
    return script


COPY = 'COPY sink FROM STDIN'
COPY_CASES = [
    (0, 'rows', COPY, [message('d', b'1\ta\n'), message('d', b'2\tb\n3\tc\n'), message('c')], 1),
    (0, 'no rows', COPY, [message('c')], 1),
    (98, 'Query during COPY', COPY, [message('d', b'1\ta\n'), query('select 1')], 1),
    (99, 'Sync and Flush during COPY', COPY, [message('d', b'1\ta\n'), sync(), flush(),
                                              message('d', b'2\tb\n'), message('c')], 1),
    (100, 'CopyFail', COPY, [message('d', b'1\ta\n'), message('f', cstr('I changed my mind'))], 1),
    (101, 'a bad row', COPY, [message('d', b'1\ta\n'), message('d', b'x\tb\n'), message('d', b'3\tc\n'),
                              message('c')], 1),
    (102, 'binary without signature', COPY + ' (FORMAT binary)', [message('d', b'not binary at all'),
                                                                  message('c')], 1),
]


@pytest.mark.parametrize('number, name, start, data, ready', COPY_CASES,
                         ids=[f'{c[0]}-{c[1]}'.replace(' ', '-') for c in COPY_CASES])
def test_copy_in(direct, shoal, number, name, start, data, ready):
    # Rows of a load are lost, or the load's failure hangs the connection (H09).
    compare(copy_script(start, *data, ready=ready), direct, shoal)


def test_copy_data_behind_a_failed_series(direct, shoal):
    # H09: a failed series passes over a COPY and its data; waiting for a COPY that never starts hangs for ever.
    def script(conn):
        conn.send(parse('', 'SELECT 1/0') + bind() + execute() + flush())
        seen = conn.until('E', 1, 5)
        conn.send(query(COPY) + message('d', b'1\ta\n') + message('f', cstr('no')))
        seen += conn.exchange(sync(), 1, 5)
        return seen + conn.exchange(query('SELECT 1'), 1, 5)
    compare(script, direct, shoal)


def test_copy_out(direct, shoal):
    # An export is cut short or garbled.
    compare(sent(query('COPY (SELECT * FROM kv ORDER BY id) TO STDOUT')), direct, shoal)


def test_copy_extended(direct, shoal):
    # Drivers that COPY by the extended protocol hang: its Sync is swallowed during the COPY.
    def script(conn):
        seen = conn.exchange(query('BEGIN'))
        conn.send(parse('', COPY) + bind() + execute() + sync())
        seen += conn.until('G', 1, 5)
        seen += conn.exchange(message('d', b'1\ta\n') + message('c') + sync(), 1, 5)
        seen += conn.exchange(query('SELECT count(*) FROM sink') + query('ROLLBACK'), 2, 5)
        return seen
    compare(script, direct, shoal)


def test_late_copy_messages_after_an_error(direct, shoal):
    # H09: CopyData that was under way when the COPY failed leaks the server connection.
    def script(conn):
        conn.send(query(COPY))
        seen = conn.until('G', 1, 5)
        seen += conn.exchange(message('d', b'bad\n'), 1, 5)
        seen += conn.exchange(message('d', b'late\n') * 50 + message('c') + query('SELECT 1'), 1, 5)
        return seen
    for _ in range(5):
        compare(script, direct, shoal)


def test_pipeline_counts_every_ready(direct, shoal):
    # H01, H02: answers of a pipeline are lost or shifted by one.
    data = b''.join(extended('SELECT $1::int', [str(i)]) for i in range(50)) + query('SELECT 50')
    seen = compare(sent(data, 51), direct, shoal)
    assert [int(row[0]) for row in rows_of(seen)[:51]] == list(range(51))


def test_pipeline_of_lookups_in_order(shoal):
    # H10, H42: a client reads another question's answer.
    with shoal.connect('solo') as conn:
        keys = [(i * 37) % 100 + 1 for i in range(300)]
        data = b''.join(query(f'SELECT v, {n} FROM kv WHERE id = {k}') for n, k in enumerate(keys))
        seen = conn.exchange(data, 300)
        assert rows_of(seen) == [[f'v{k}'.encode(), str(n).encode()] for n, k in enumerate(keys)]


def test_pipeline_error_in_the_middle(direct, shoal):
    # H04: after an error the rest of that pipeline segment runs, or the next one does not.
    data = (parse('', 'SELECT 1') + bind() + execute() + parse('', 'SELECT 1/0') + bind() + execute()
            + parse('', 'SELECT 2') + bind() + execute() + sync() + extended('SELECT 3'))
    compare(sent(data, 2), direct, shoal)


def test_pipeline_is_one_transaction_until_sync(direct, shoal):
    # What stands before the error stays behind, though PostgreSQL rolls it back with the pipeline.
    def script(conn):
        data = (parse('', "INSERT INTO sink VALUES (77, 'gone')") + bind() + execute()
                + parse('', 'SELECT 1/0') + bind() + execute() + sync())
        seen = conn.exchange(data, 1, 5)
        return seen + conn.exchange(query('SELECT count(*) FROM sink WHERE id = 77'))
    compare(script, direct, shoal)


def test_flush_without_sync(direct, shoal):
    # H05: drivers that describe with Flush (asyncpg, JDBC) hang, or hear ReadyForQuery too early.
    def script(conn):
        conn.send(parse('s', 'SELECT v FROM kv WHERE id = $1') + describe('S', 's') + flush())
        seen = conn.until('T', 1, 5)
        conn.send(bind('', 's', [b'5']) + execute() + flush())
        seen += conn.until('C', 1, 5)
        seen += conn.exchange(sync(), 1, 5)
        return seen + conn.exchange(query('SELECT 1'))
    compare(script, direct, shoal)


def test_two_unnamed_parses_in_one_pipeline(direct, shoal):
    # H07: the second unnamed statement answers the first one's Bind.
    data = (parse('', 'SELECT 1, $1::text') + bind('', '', [b'a']) + execute()
            + parse('', 'SELECT 2, $1::text') + bind('', '', [b'b']) + execute() + sync())
    compare(sent(data), direct, shoal)


def test_query_forgets_the_unnamed_statement(direct, shoal):
    # H07: a Bind after a simple Query runs a statement that PostgreSQL has forgotten.
    data = parse('', 'SELECT 1') + sync() + query('SELECT 2') + bind() + execute() + sync()
    compare(sent(data, 3), direct, shoal)


def test_describe_before_anything_runs(direct, shoal):
    # H06: BEGIN described gets no NoData, and the driver waits for ever.
    data = (parse('', 'BEGIN') + describe('S') + bind() + describe('P') + execute() + sync()
            + extended('SELECT 1') + extended('COMMIT'))
    compare(sent(data, 3), direct, shoal)


def test_portal_survives_in_a_transaction(direct, shoal):
    # H08: a cursor breaks when another statement runs beside it.
    def script(conn):
        seen = conn.exchange(query('BEGIN'))
        seen += conn.exchange(parse('', 'SELECT id FROM kv ORDER BY id') + bind('p') + execute('p', 2) + sync())
        seen += conn.exchange(query('SELECT 5'))
        seen += conn.exchange(execute('p', 2) + close('P', 'p') + sync())
        return seen + conn.exchange(query('COMMIT'))
    compare(script, direct, shoal)


def test_sql_cursor(direct, shoal):
    # DECLARE and FETCH in a transaction do not meet the same server.
    def script(conn):
        return conn.exchange(query('BEGIN') + query('DECLARE c CURSOR FOR SELECT id FROM kv ORDER BY id')
                             + query('FETCH 3 FROM c') + query('MOVE 2 FROM c') + query('FETCH 1 FROM c')
                             + query('CLOSE c') + query('COMMIT'), 7)
    compare(script, direct, shoal)


def test_function_call(direct, shoal):
    # F(103): lo_creat and friends of old drivers; 'F' for abs(int4) with one binary argument.
    body = struct.pack('!IhhhiIh', 1397, 1, 1, 1, 4, 7, 1)
    compare(sent(message('F', body)), direct, shoal)


def test_many_parameters(direct, shoal):
    # 86: 65,535 parameters are the limit of the protocol, and bulk inserts use them.
    count = 65535
    sql = 'SELECT ' + '+'.join(['1']) + ' WHERE 1 = ANY(ARRAY[' + ','.join(f'${i + 1}::int' for i in range(count)) + '])'
    compare(sent(parse('', sql) + bind('', '', ['1'] * count) + execute() + sync(), 1, 60), direct, shoal)


def test_large_messages(direct, shoal):
    # A row or a statement of some megabytes is cut or hangs (H12, H13).
    compare(sent(query("SELECT repeat('x', 5000000)"), 1, 20), direct, shoal)
    compare(sent(query("SELECT length('" + 'y' * 3000000 + "')"), 1, 20), direct, shoal)
    compare(sent(extended('SELECT $1::text', ['z' * 3000000]), 1, 20), direct, shoal)


def test_writing_without_reading(shoal):
    # H12: a client that sends much before it reads deadlocks against its own answers.
    with shoal.connect('solo', timeout_s=30) as conn:
        conn.sock.setblocking(False)
        want = 200
        data = memoryview(b''.join(query(f"SELECT {i}, repeat('x', 50000), '{'y' * 20000}'")
                                   for i in range(want)))
        import select
        rest, got = data, b''
        while rest:
            readable, writable, _ = select.select([conn.sock], [conn.sock], [], 30)
            assert readable or writable, 'stuck'
            if writable:
                rest = rest[conn.sock.send(rest):]
            elif readable:
                conn.buf += conn.sock.recv(1 << 20)
        conn.sock.setblocking(True)
        seen = conn.until('Z', want)
        assert [int(r[0]) for r in rows_of(seen)] == list(range(want))


def test_messages_in_single_bytes(direct, shoal):
    # A slow network splits messages anywhere.
    def script(conn):
        for byte in extended('SELECT v FROM kv WHERE id = $1', [b'3']) + query('SELECT 9'):
            conn.send(bytes([byte]))
        return conn.until('Z', 2, 10)
    compare(script, direct, shoal)


@pytest.mark.parametrize('data', [query('BEGIN') + query("INSERT INTO sink VALUES (55, 'half')")],
                         ids=['transaction'])
def test_client_dies_in_a_transaction(direct, shoal, data):
    # 107, 108: half a transaction of a client that died is committed, or blocks others.
    conn = shoal.connect('solo')
    conn.exchange(data, 2)
    conn.send(query('INSERT')[:4])
    conn.abort()
    with shoal.connect('solo') as other:
        assert other.query('SELECT count(*) FROM sink WHERE id = 55') == [['0']]


def test_terminate_in_a_transaction(shoal):
    # 107: the next client of that server connection finds itself inside a stranger's transaction.
    for _ in range(5):
        with shoal.connect('solo') as conn:
            conn.exchange(query('BEGIN') + query("INSERT INTO sink VALUES (56, 'half')"), 2)
    with shoal.connect('solo') as other:
        seen = other.exchange(query('SELECT count(*) FROM sink WHERE id = 56'))
        assert rows_of(seen) == [[b'0']]
        assert other.status == 'I'


def test_every_error_of_the_router_says_what_to_do(shoal):
    # An error without DETAIL and HINT leaves the developer alone.
    with shoal.connect('solo') as conn:
        seen = conn.exchange(message('Q', b'', 2**31 - 1))
        assert types_of(seen).endswith('x')
        for err in errors_of(seen):
            if err['R'] == 'router':
                assert err['C'] == '08P01' and err['S'] == 'FATAL'


def test_tags_of_many_commands(direct, shoal):
    # Drivers read the row count out of the tag.
    def script(conn):
        seen = conn.exchange(query('BEGIN') + query("INSERT INTO sink VALUES (1,'a'),(2,'b')")
                             + query("UPDATE sink SET v = 'c'") + query('DELETE FROM sink WHERE id = 1')
                             + query('SELECT 1 UNION ALL SELECT 2') + query('SAVEPOINT a')
                             + query('ROLLBACK TO a') + query('RELEASE a') + query('CREATE TEMP TABLE x(a int)')
                             + query('ROLLBACK'), 10, 10)
        assert len(tags_of(seen)) == 10
        return seen
    compare(script, direct, shoal)
