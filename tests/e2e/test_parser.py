"""Hostile and unknown SQL: nothing that a client writes ends the process, and PostgreSQL has the last word.

H43: the parser's recursion is bounded before it runs. H94: what it does not know still reaches PostgreSQL.
"""
import time

import pytest

from tests.support import host
from tests.support.differential import compare, sent
from tests.support.wire import bind, errors_of, execute, extended, parse, query, rows_of, sync

pytestmark = pytest.mark.shoal_only


@pytest.fixture(scope='module')
def solo_schema():
    return ['CREATE TABLE kv (id bigint PRIMARY KEY, v text)', "INSERT INTO kv VALUES (1, 'v1')"]


def deep(n):
    """Statements that make a recursive parser, printer or walker dive."""
    return {
        'sum': 'SELECT ' + '+'.join(['1'] * n),
        'parentheses': 'SELECT ' + '(' * n + '1' + ')' * n,
        'union': ' UNION ALL '.join(['SELECT 1'] * n),
        'and': 'SELECT 1 FROM kv WHERE ' + ' AND '.join(['id = 1'] * n),
        'or': 'SELECT 1 FROM kv WHERE ' + ' OR '.join(['id = 1'] * n),
        'not': 'SELECT ' + 'NOT ' * n + 'true',
        'minus': 'SELECT ' + '- ' * n + '1',
        'cast': 'SELECT 1' + '::int' * n,
        'case': 'SELECT ' + 'CASE WHEN true THEN ' * n + '1' + ' END' * n,
        'function': 'SELECT ' + 'abs(' * n + '1' + ')' * n,
        'array': 'SELECT ' + 'ARRAY[' * n + '1' + ']' * n,
        'subscript': 'SELECT x' + '[1]' * n + ' FROM (SELECT ARRAY[1] AS x) s',
        'subselect': 'SELECT * FROM ' + '(SELECT * FROM ' * n + 'kv' + ' x)' * n + ' x',
        'exists': 'SELECT ' + 'EXISTS (SELECT ' * n + '1' + ')' * n,
        'join': 'SELECT 1 FROM kv' + ' NATURAL JOIN kv' * n,
        'brackets of joins': 'SELECT 1 FROM ' + '(' * n + 'kv' + ' CROSS JOIN kv)' * n,
        'with': 'WITH ' + ', '.join(f'c{i} AS (SELECT 1)' for i in range(n)) + ' SELECT 1',
        'nested with': 'WITH a AS (' * n + 'SELECT 1' + ') SELECT 1' * n,
        'concat': "SELECT " + '||'.join(["'x'"] * n),
        'row': 'SELECT ' + 'ROW(' * n + '1' + ')' * n,
        'collate': "SELECT 'x'" + ' COLLATE "C"' * n,
        'indirection': 'SELECT (x)' + '.y' * n,
        'in list': 'SELECT 1 FROM kv WHERE id IN (' + ','.join(['1'] * n) + ')',
        'values': 'VALUES ' + ','.join(['(1)'] * n),
        'statements': 'SELECT 1;' * min(n, 2000),
        'semicolons': ';' * n + 'SELECT 1',
        'comments': 'SELECT ' + '/*' * n + '*/' * n + '1',
        'open comments': 'SELECT ' + '/*' * n,
        'open parentheses': 'SELECT ' + '(' * n,
        'explain': 'EXPLAIN ' * n + 'SELECT 1',
        'between': 'SELECT 1' + ' BETWEEN 1 AND 1' * n,
        'is null': 'SELECT 1' + ' IS NULL' * n,
        'at time zone': 'SELECT now()' + " AT TIME ZONE 'UTC'" * n,
        'operator': 'SELECT 1' + ' OPERATOR(pg_catalog.+) 1' * n,
        'create': 'CREATE SCHEMA x ' + 'CREATE TABLE t (a int) ' * min(n, 3000) + 'nonsense',
        'set': 'SET search_path = ' + ','.join(['a'] * n) + ' nonsense',
    }


# PostgreSQL itself needs many seconds for larger ones of these.
SLOW_IN_POSTGRESQL = {'with': 3000, 'join': 700, 'in list': 24000, 'comments': 5000, 'open comments': 5000}
COUNTS = [700, 3000, 24000, 100000] if host.LONG else [3000, 64000]


@pytest.mark.parametrize('count', COUNTS)
@pytest.mark.parametrize('what', deep(1))
def test_deep_statements(shoal, what, count):
    # H43: one client's statement takes the process, and everybody's connection, down.
    count = min(count, SLOW_IN_POSTGRESQL.get(what, count))
    sql = deep(count)[what]
    with shoal.connect('solo', timeout_s=60) as conn:
        for data in (query('EXPLAIN ' + sql if what not in ('statements', 'semicolons', 'open comments') and
                           not sql.startswith(('EXPLAIN', 'CREATE', 'SET')) else sql),
                     parse('', sql) + sync()):
            seen = conn.exchange(data)
            assert seen[-1].type == 'Z', f'{seen[-1].type}: the connection did not survive'
            for err in errors_of(seen):
                assert err.code in ('54001', '42601', '54011', '54000', '42809', '53200', '0A000', '42883', '42846',
                                    '42P01', '42803', '42804', '42712', '42703', '54023', 'XX000', '22023', '3F000',
                                    '2202E'), str(err)[:300]
            if what in ('sum', 'parentheses') and count >= 64000 and data[0:1] == b'Q':
                assert errors_of(seen)[0].code in ('54001', '42601')
        assert conn.alive()


def test_the_process_still_serves_others(shoal):
    # The hostile client's neighbours notice.
    with shoal.connect('solo') as neighbour, shoal.connect('solo', timeout_s=60) as evil:
        for sql in ('SELECT ' + '+'.join(['1'] * 64000), 'SELECT ' + '/*' * 20000 + '*/' * 20000 + '1',
                    'SELECT ' + ','.join(['1'] * 1600), 'SELECT 1' + ' ' * 10000000):
            evil.send(query(sql))
            started = time.monotonic()
            assert neighbour.query('SELECT v FROM kv WHERE id = 1') == [['v1']]
            assert time.monotonic() - started < 10, sql[:40]
            assert evil.until('Z')[-1].type == 'Z'
        assert evil.alive()


def test_large_statements(shoal):
    # A statement of many megabytes is parsed in quadratic time, or not at all.
    with shoal.connect('solo', timeout_s=60) as conn:
        assert conn.query("SELECT length('" + 'x' * 20000000 + "')") == [['20000000']]
        rows = ','.join(f"({k}, 'r{k}')" for k in range(100, 20100))
        conn.query('CREATE TABLE IF NOT EXISTS many (id int, v text)')
        conn.query(f'INSERT INTO many VALUES {rows}')
        assert conn.query('SELECT count(*) FROM many') == [['20000']]
        conn.query('DROP TABLE many')


UNKNOWN = [
    "SELECT * FROM JSON_TABLE('[1]', '$[*]' COLUMNS (a int PATH '$')) j",
    'MERGE INTO kv USING kv k ON false WHEN NOT MATCHED THEN DO NOTHING RETURNING *',
    'SELEC v FROM kv', 'SELECT v FROM kv WHERE', 'SELECT FROM WHERE', 'nonsense', 'SELECT v FORM kv WHERE id = 1',
    'INSERT kv VALUES (1)', "SELECT v FROM kv WHERE id = 'abc", 'SELECT v FROM kv WHERE id = $', '\\d', 'SELECT 1a',
    'SELECT 0x1F', "SELECT E'\\xZZ'", 'SELECT 1_000', 'COPY', 'GRANT', "SELECT U&'\\d800'", 'SELECT * FROM kv WHERE id = 1;;;x',
]


@pytest.mark.parametrize('sql', UNKNOWN)
def test_statements_the_parser_does_not_know(direct, shoal, sql):
    # H94: newer syntax, or a typing error, is answered by the router instead of PostgreSQL.
    compare(sent(query(sql)), direct, shoal)
    compare(sent(extended(sql)), direct, shoal)


@pytest.mark.parametrize('sql', UNKNOWN[:8])
def test_unknown_statements_on_a_sharded_database(shoal, sql):
    # H94: refused only when its shard cannot be known, with the syntax error where it is one.
    with shoal.connect('app') as conn:
        err = errors_of(conn.exchange(query(sql)))[0]
        assert err.code in ('42601', '0A000', '42P01'), str(err)
        assert conn.alive()


def test_odd_literals_are_data(shoal):
    # H44, H45: text in a literal is read as SQL.
    with shoal.connect('solo') as conn:
        for text in ("a'b", 'a\\', "--", '/*', '$1', '$$', ';', "'';--", '\\\'', 'é', '\t', 'E\'x\''):
            quoted = "'" + text.replace("'", "''") + "'"
            assert conn.query(f'SELECT {quoted}, 1') == [[text, '1']]
            assert conn.execute('SELECT $1::text', [text]) == [[text]]
        assert conn.query("SELECT E'a\\'b', $q$it's$q$, U&'\\0041', 'a'\n'b', B'101', X'1F'") == \
            [["a'b", "it's", 'A', 'ab', '101', '00011111']]
        assert conn.query('SELECT 5 - -3, 5-(-3), 1--2\n') == [['8', '8', '1']]
        conn.query('SET standard_conforming_strings = off')
        conn.query('SET escape_string_warning = off')
        assert conn.query("SELECT 'a\\'b', 1") == [["a'b", '1']]
        assert conn.query("SELECT v FROM kv WHERE id = 1 AND 'x\\'' = 'x\\''") == [['v1']]


def test_thousands_of_different_statements(shoal):
    # H21: the cache of parsed statements grows without end.
    with shoal.connect('solo') as conn:
        conn.exchange(b''.join(query(f'SELECT 1 AS warm{n}') for n in range(300)), 300)
        before = shoal.rss_kib()
        for turn in range(20):
            data = b''.join(query(f'SELECT 1 AS c{turn}_{n}, v AS d{n} FROM kv WHERE id = 1') for n in range(500))
            assert not errors_of(conn.exchange(data, 500))
        assert shoal.rss_kib() - before < 300 * 1024
        for n in range(2000):
            conn.send(parse('', f'SELECT {n} AS u{n}') + bind() + execute() + sync())
        seen = conn.until('Z', 2000)
        assert [int(r[0]) for r in rows_of(seen)] == list(range(2000))
