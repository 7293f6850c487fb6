"""Sharding: every row is found where PostgreSQL's own hash puts it, and no statement is answered by the wrong shard.

The shards are asked directly for what they hold. Numbers are those of the table of bad inputs (4d).
"""
import struct
import uuid

import pytest

from tests.support.wire import (PgError, bind, describe, errors_of, execute, extended, message, parse, query,
                                rows_of, sync, tags_of)

pytestmark = pytest.mark.shoal_only

ROWS = 200
SEED = 8816678312871386365
# bucket of a key as PostgreSQL computes it; buckets 0..511 live on s0, 512..1023 on s1.
BUCKET = '((({function}({value}, ' + str(SEED) + ') & 1023) + 227) & 1023)'


def placed(function, value):
    """SQL for the index of the shard that must hold `value`."""
    return '(' + BUCKET.format(function=function, value=value) + ' / 512)'


@pytest.fixture(scope='module')
def app(shoal):
    """users(bigint), names(text), things(uuid), orders(bigint, colocated with users), notes: local."""
    with shoal.connect('app') as conn:
        for ddl in ('CREATE TABLE users (id bigint PRIMARY KEY, name text, age int)',
                    'CREATE TABLE names (name text PRIMARY KEY, v int)',
                    'CREATE TABLE things (id uuid PRIMARY KEY, v int)',
                    'CREATE TABLE orders (user_id bigint, id bigint, total int, PRIMARY KEY (user_id, id))'):
            conn.query(ddl)
        for table, key in (('users', 'id'), ('names', 'name'), ('things', 'id'), ('orders', 'user_id')):
            conn.query(f"SELECT shoal.distribute_table('{table}', '{key}')")
        conn.query('CREATE TABLE notes (id int PRIMARY KEY, v text)')
        for k in range(1, ROWS + 1):
            conn.query(f"INSERT INTO users (id, name, age) VALUES ({k}, 'u{k}', {k % 50})")
            conn.query(f"INSERT INTO names VALUES ('user-{k}', {k})")
            conn.execute('INSERT INTO things VALUES ($1, $2)', [str(uuid.UUID(int=k)), str(k)])
            conn.execute('INSERT INTO orders (user_id, id, total) VALUES ($1, 1, $2)', [str(k), str(k * 10)])
    return shoal


@pytest.fixture
def conn(app):
    with app.connect('app') as conn:
        yield conn


def on_shards(clusters, sql):
    return [cluster.query(sql, database='app') for cluster in clusters]


def refused(conn, data):
    """The statement is refused as one that needs several shards; the connection goes on."""
    seen = conn.exchange(data if isinstance(data, bytes) else query(data))
    errors = errors_of(seen)
    assert errors, f'answered: {seen}'
    err = errors[0]
    assert err.code == '0A000', str(err)
    assert err['D'] and err['H'], f'no DETAIL or no HINT: {err.fields}'
    assert not rows_of(seen)
    assert conn.query('SELECT 1') == [['1']]
    return err


# -- where rows are -------------------------------------------------------------------------------

@pytest.mark.parametrize('table, key, function, cast', [
    ('users', 'id', 'hashint8extended', ''), ('names', 'name', 'hashtextextended', ''),
    ('things', 'id', 'uuid_hash_extended', ''), ('orders', 'user_id', 'hashint8extended', '')])
def test_rows_are_where_postgresql_would_put_them(app, clusters, table, key, function, cast):
    # A row on the wrong shard is a row that nobody finds again.
    total = 0
    for shard, cluster in enumerate(clusters):
        wrong = cluster.query(f'SELECT {key} FROM {table} WHERE {placed(function, key)} <> {shard}', 'app')
        assert wrong == []
        count = int(cluster.query(f'SELECT count(*) FROM {table}', 'app')[0][0])
        assert count > ROWS / 5, 'nearly everything is on one shard'
        total += count
    assert total == ROWS


def test_both_shards_know_the_schema(app, clusters):
    # A table that one shard lacks fails half of all lookups.
    columns = on_shards(clusters, "SELECT table_name, column_name, data_type FROM information_schema.columns "
                                  "WHERE table_schema = 'public' AND table_name <> 'notes' ORDER BY 1, 2")
    assert columns[0] == columns[1] and len(columns[0]) >= 10


# -- lookups --------------------------------------------------------------------------------------

@pytest.mark.parametrize('where', [
    'id = {k}', '{k} = id', 'users.id = {k}', "id = '{k}'", 'id = {k}::bigint', 'id = {k} AND true',
    '(id = {k})', 'id = {k} AND age >= 0', 'public.users.id = {k}'])
def test_literal_keys(app, conn, where):
    # A lookup finds nothing, though the row is there: it asked the wrong shard, or it is refused.
    table = 'public.users' if 'public' in where else 'users'
    for k in (1, 2, 3, 50, 77, ROWS):
        assert conn.query(f'SELECT name FROM {table} WHERE {where.format(k=k)}') == [[f'u{k}']]


def test_text_parameters(conn):
    # Drivers send keys as text without a type, or as int4.
    for k in range(1, 40):
        for types in ((), (20,), (23,)):
            assert conn.execute('SELECT name FROM users WHERE id = $1', [str(k)], types=types) == [[f'u{k}']]


def test_binary_parameters(conn):
    # Drivers that send binary (asyncpg, JDBC, npgsql) reach another shard than psql does (H52).
    for k in range(1, 40):
        assert conn.execute('SELECT name FROM users WHERE id = $1', [struct.pack('!q', k)], types=(20,),
                            formats=[1]) == [[f'u{k}']]
        assert conn.execute('SELECT name FROM users WHERE id = $1', [struct.pack('!i', k)], types=(23,),
                            formats=[1]) == [[f'u{k}']]
        assert conn.execute('SELECT name FROM users WHERE id = $1', [struct.pack('!h', k)], types=(21,),
                            formats=[1]) == [[f'u{k}']]
        assert conn.execute('SELECT v FROM things WHERE id = $1', [uuid.UUID(int=k).bytes], types=(2950,),
                            formats=[1]) == [[str(k)]]
        assert conn.execute('SELECT v FROM names WHERE name = $1', [f'user-{k}'.encode()], formats=[1]) == [[str(k)]]


def test_spellings_of_a_uuid(conn):
    # H52: the same uuid in capitals or braces is looked for on another shard.
    for k in range(1, 30):
        text = str(uuid.UUID(int=k))
        for spelling in (text, text.upper(), '{' + text + '}', text.replace('-', '')):
            assert conn.query(f"SELECT v FROM things WHERE id = '{spelling}'") == [[str(k)]]
            assert conn.execute('SELECT v FROM things WHERE id = $1', [spelling]) == [[str(k)]]


@pytest.mark.parametrize('literal', ['+7', ' 7', '7 ', '007', '7'])
def test_spellings_of_an_integer(conn, literal):
    # 118: the input function takes blanks, signs and zeros; the router must mean the same number.
    assert conn.execute('SELECT name FROM users WHERE id = $1', [literal], types=(20,)) == [['u7']]
    assert conn.query(f"SELECT name FROM users WHERE id = '{literal}'") == [['u7']]


@pytest.mark.parametrize('literal, want', [('1.0', 'u1'), ('1e0', 'u1'), ('-0', None), ('1.5', None),
                                           ('99999999999999999999', None)])
def test_numbers_that_are_no_integers(conn, literal, want):
    # 117, 118: numeric literals compare as numeric; right rows or a refusal, never a wrong answer.
    try:
        assert conn.query(f'SELECT name FROM users WHERE id = {literal}') == ([[want]] if want else [])
    except PgError as err:
        assert err.code == '0A000'


@pytest.mark.parametrize('literal, code', [("'abc'", '22P02'), ("'99999999999999999999'", '22003'),
                                           ("''", '22P02'), ("'0x1'", '22P02'), ("'1_0'", '22P02')])
def test_keys_that_are_no_keys(app, conn, clusters, literal, code):
    # 88, 89: the error must be PostgreSQL's own, with its text and position.
    sql = f'SELECT name FROM users WHERE id = {literal}'
    ours = errors_of(conn.exchange(query(sql)))[0]
    assert ours.code == code
    with clusters[0].connect('app', 'app') as other:
        theirs = errors_of(other.exchange(query(sql)))[0]
    assert ours.fields == theirs.fields


def test_null_keys(conn):
    # 90: NULL equals nothing.
    assert conn.execute('SELECT name FROM users WHERE id = $1', [None]) == []
    assert conn.query('SELECT name FROM users WHERE id = NULL') == []


def test_prepared_by_name(conn):
    # A named statement meets the shard of each Bind's key, not that of its first.
    seen = conn.exchange(parse('by_id', 'SELECT id, name FROM users WHERE id = $1', (20,)) + sync())
    assert not errors_of(seen)
    for k in range(1, 60):
        seen = conn.exchange(bind('', 'by_id', [str(k)]) + execute() + sync())
        assert rows_of(seen) == [[str(k).encode(), f'u{k}'.encode()]]


def test_pipelined_to_both_shards(conn):
    # H10: answers of two shards overtake one another.
    data = b''.join(bind('', 'p', [str(k)]) + execute() + sync() for k in range(1, 101))
    seen = conn.exchange(parse('p', 'SELECT id FROM users WHERE id = $1') + sync() + data, 101)
    assert [int(r[0]) for r in rows_of(seen)] == list(range(1, 101))


def test_joins_on_the_key(conn):
    # Colocated rows are not joined.
    for k in (1, 2, 3, 4):
        rows = conn.query(f'SELECT u.name, o.total FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = {k} '
                          f'AND o.user_id = {k}')
        assert rows == [[f'u{k}', str(k * 10)]]


def test_aggregates_of_one_key(conn):
    # count(*) of a key that does not exist answers nothing instead of 0.
    assert conn.query('SELECT count(*) FROM orders WHERE user_id = 5') == [['1']]
    assert conn.query('SELECT count(*), max(total) FROM orders WHERE user_id = 100000') == [['0', None]]


# -- writes ---------------------------------------------------------------------------------------

def test_update_delete_returning(app, conn, clusters):
    # A write goes to a shard that has not the row: UPDATE 0, and nobody notices.
    for k in range(3001, 3021):
        seen = conn.exchange(query(f"INSERT INTO users VALUES ({k}, 'new', 1) RETURNING id"))
        assert rows_of(seen) == [[str(k).encode()]] and tags_of(seen) == ['INSERT 0 1']
        seen = conn.exchange(extended('UPDATE users SET age = age + 1 WHERE id = $1 RETURNING age', [str(k)]))
        assert rows_of(seen) == [[b'2']] and tags_of(seen) == ['UPDATE 1']
        seen = conn.exchange(query(f'DELETE FROM users WHERE id = {k}'))
        assert tags_of(seen) == ['DELETE 1']
    assert on_shards(clusters, 'SELECT count(*) FROM users WHERE id > 3000') == [[['0']], [['0']]]


def test_insert_of_several_rows_of_one_key(conn):
    # A bulk insert of one customer's rows is refused, or spread.
    seen = conn.exchange(query('INSERT INTO orders (user_id, id, total) VALUES (9000, 1, 1), (9000, 2, 2)'))
    assert tags_of(seen) == ['INSERT 0 2']
    assert conn.query('SELECT sum(total) FROM orders WHERE user_id = 9000') == [['3']]
    conn.query('DELETE FROM orders WHERE user_id = 9000')


def test_upsert(conn):
    # INSERT ... ON CONFLICT of one key goes where the key lives.
    sql = ("INSERT INTO users (id, name, age) VALUES (4000, 'first', 1) ON CONFLICT (id) "
           'DO UPDATE SET age = users.age + 1 RETURNING age')
    try:
        assert conn.query(sql) == [['1']]
        assert conn.query(sql) == [['2']]
        conn.query('DELETE FROM users WHERE id = 4000')
    except PgError as err:
        assert err.code == '0A000'


def test_transaction_of_one_shard(app, conn):
    # BEGIN ... COMMIT of one customer's rows is refused, or half of it is lost.
    conn.query('BEGIN')
    conn.query("INSERT INTO users VALUES (5000, 'tx', 1)")
    conn.query('INSERT INTO orders VALUES (5000, 1, 1)')
    assert conn.query('SELECT count(*) FROM orders WHERE user_id = 5000') == [['1']]
    with app.connect('app') as other:
        assert other.query('SELECT count(*) FROM users WHERE id = 5000') == [['0']]
    conn.query('COMMIT')
    with app.connect('app') as other:
        assert other.query('SELECT count(*) FROM users WHERE id = 5000') == [['1']]
    conn.query('BEGIN')
    conn.query('DELETE FROM users WHERE id = 5000')
    conn.query('DELETE FROM orders WHERE user_id = 5000')
    conn.query('ROLLBACK')
    assert conn.query('SELECT count(*) FROM users WHERE id = 5000') == [['1']]


def test_transaction_over_two_shards(app, conn, clusters):
    # Half a transfer is committed.
    two = [on_shards(clusters, 'SELECT min(id) FROM users WHERE id <= 200')[n][0][0] for n in (0, 1)]
    conn.query('BEGIN')
    conn.query(f'UPDATE users SET age = age - 1 WHERE id = {two[0]}')
    seen = conn.exchange(query(f'UPDATE users SET age = age + 1 / 0 WHERE id = {two[1]}'))
    assert errors_of(seen)[0].code == '22012' and conn.status == 'E'
    seen = conn.exchange(query('COMMIT'))
    assert tags_of(seen) == ['ROLLBACK'] and conn.status == 'I'
    for n, k in enumerate(two):
        assert clusters[n].query(f'SELECT age FROM users WHERE id = {k}', 'app') == [[str(int(k) % 50)]]
    for step in (-1, 1):
        conn.query('BEGIN')
        conn.query(f'UPDATE users SET age = age + {step} WHERE id = {two[0]}')
        conn.query(f'UPDATE users SET age = age - {step} WHERE id = {two[1]}')
        assert tags_of(conn.exchange(query('COMMIT'))) == ['COMMIT']
        for n, k in enumerate(two):
            now = int(k) % 50 + ((-1, 1)[n] if step == -1 else 0)
            assert clusters[n].query(f'SELECT age FROM users WHERE id = {k}', 'app') == [[str(now)]]
    for cluster in clusters:
        assert cluster.query('SELECT gid FROM pg_prepared_xacts', 'app') == []


def test_writes_without_a_key_reach_every_shard(app, conn, clusters):
    # The rows of one shard are changed, and the client believes that all are.
    everywhere = sum(int(cluster.query('SELECT count(*) FROM users', 'app')[0][0]) for cluster in clusters)
    conn.query('BEGIN')
    assert tags_of(conn.exchange(query('UPDATE users SET age = age'))) == [f'UPDATE {everywhere}']
    assert tags_of(conn.exchange(extended('DELETE FROM users WHERE age < $1', ['1000']))) == [f'DELETE {everywhere}']
    conn.query('ROLLBACK')
    ids = conn.execute('UPDATE users SET age = age WHERE id <= $1 RETURNING id', ['20'])
    assert sorted(int(row[0]) for row in ids) == list(range(1, 21))


# -- what one shard must never answer --------------------------------------------------------------

CROSS = [
    'SELECT * FROM users', 'SELECT count(*) FROM users', 'SELECT name FROM users WHERE age = 3',
    'SELECT name FROM users WHERE id IN (1, 2, 3, 4, 5, 6)',
    'SELECT name FROM users WHERE id = 1 OR id = 2 OR id = 3 OR id = 4',
    'SELECT name FROM users WHERE id = 1 OR true', 'SELECT name FROM users WHERE id = 1 OR age = 2',
    'SELECT name FROM users WHERE id BETWEEN 1 AND 9', 'SELECT name FROM users WHERE id > 3',
    'SELECT name FROM users WHERE NOT id = 1', 'SELECT name FROM users WHERE id <> 1',
    'SELECT name FROM users WHERE id = abs(-1)', "SELECT name FROM users WHERE id::text = '1'",
    'SELECT name FROM users WHERE id + 0 = 1', 'SELECT name FROM users WHERE id = (SELECT 1)',
    'SELECT name FROM users WHERE id = ANY(ARRAY[1,2,3,4,5])', 'SELECT name FROM users WHERE (id = 1) IS NOT TRUE',
    'SELECT name FROM users WHERE (id = 1) = false', 'SELECT name FROM users WHERE CASE WHEN id = 1 THEN true ELSE true END',
    'SELECT name FROM users WHERE id = 1 UNION ALL SELECT name FROM users WHERE id = 2 UNION ALL SELECT name FROM users WHERE id = 3 UNION ALL SELECT name FROM users WHERE id = 5',
    'SELECT name FROM users WHERE id = 1 UNION SELECT name FROM names',
    'SELECT (SELECT count(*) FROM orders) FROM users WHERE id = 1',
    'SELECT name FROM users u WHERE u.id = 1 AND EXISTS (SELECT FROM orders)',
    'SELECT name FROM users WHERE id = 1 AND age IN (SELECT total FROM orders)',
    'SELECT * FROM users u, orders o WHERE u.id = 1', 'SELECT * FROM users u LEFT JOIN orders o ON u.id = 1 AND o.user_id = 1',
    'SELECT * FROM users u FULL JOIN orders o ON o.user_id = u.id WHERE u.id = 1 OR o.user_id = 2',
    'SELECT * FROM orders o LEFT JOIN users u ON u.id = o.user_id AND u.id = 3',
    'WITH x AS (SELECT * FROM users) SELECT * FROM x WHERE id = 1',
    'WITH x AS (DELETE FROM users RETURNING id) SELECT 1',
    'WITH x AS (INSERT INTO users VALUES (1)) SELECT * FROM users WHERE id = 2',
    'SELECT u.name FROM users u JOIN users v ON v.id = u.id WHERE u.id = 1 AND v.age = ANY (SELECT age FROM users)',
    'UPDATE users SET age = 0 WHERE id IN (SELECT user_id FROM orders)', 'DELETE FROM users USING notes',
    'WITH w AS (UPDATE users SET id = 2 WHERE id = 1 RETURNING id) SELECT id FROM w',
    "INSERT INTO users (name) VALUES ('no key')",
    "INSERT INTO users DEFAULT VALUES",
    "MERGE INTO users u USING orders o ON u.name = o.id::text WHEN NOT MATCHED THEN INSERT (id, name) VALUES (5, 'x')",
    'SELECT users.id FROM users, LATERAL (SELECT * FROM orders) x WHERE users.id = 1',
    'SELECT * FROM users, notes WHERE notes.id = 1', 'DECLARE c CURSOR WITH HOLD FOR SELECT * FROM users FOR UPDATE',
    'CREATE TABLE copy_of AS SELECT * FROM users', 'SELECT * INTO copy_of FROM users',
    'SELECT name FROM users TABLESAMPLE SYSTEM (50)', 'TABLE users', 'SELECT count(*) FROM ONLY users',
    'PREPARE p AS SELECT * FROM users', 'LOCK TABLE users IN SHARE MODE',
    'DO $$ BEGIN DELETE FROM users; END $$', 'WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < (SELECT count(*) FROM users)) SELECT * FROM r',
]


def whole(clusters):
    return [cluster.query('SELECT * FROM users ORDER BY id', 'app') for cluster in clusters]


TABLES = {'users': 'id bigint PRIMARY KEY, name text, age int', 'names': 'name text PRIMARY KEY, v int',
          'orders': 'user_id bigint, id bigint, total int, PRIMARY KEY (user_id, id)', 'notes': 'id int PRIMARY KEY, v text'}


def one_database(clusters):
    """The rows of both shards, together in `solo`."""
    for name, columns in TABLES.items():
        parts = [cluster.query(f'SELECT quote_nullable(t::text) FROM public.{name} t', 'app') for cluster in clusters]
        rows = [row[0] for part in (parts[:1] if name == 'notes' else parts) for row in part]
        clusters[0].sql(f'DROP TABLE IF EXISTS {name}', f'CREATE TABLE {name} ({columns})',
                        *([f'INSERT INTO {name} SELECT (r::{name}).* FROM unnest(ARRAY[{",".join(rows)}]::text[]) r']
                          if rows else []), database='solo', user='app')


def answered_as_one(clusters, seen, sql):
    """Refused, or the same rows as one PostgreSQL with all of them."""
    if errors_of(seen):
        assert errors_of(seen)[0].code == '0A000', str(errors_of(seen)[0])
        return
    one_database(clusters)
    with clusters[0].connect('solo', 'app') as solo:
        expected = solo.exchange(query(sql))
    assert not errors_of(expected)
    assert sorted(map(repr, rows_of(seen))) == sorted(map(repr, rows_of(expected)))


@pytest.mark.parametrize('sql', [sql for sql in CROSS if not sql.startswith('TRUNCATE')])
def test_never_answered_from_one_shard(app, conn, clusters, sql):
    # 119-121, H46-H51: half of the rows, shown or changed as if they were all.
    if sql.startswith(('SELECT', 'TABLE', 'WITH')) and 'INTO' not in sql and 'DELETE' not in sql:
        answered_as_one(clusters, conn.exchange(query(sql)), sql)
        return
    if 'copy_of' in sql or sql.startswith(('DO ', 'LOCK', 'EXPLAIN', 'PREPARE')):
        # May be refused with another reason, but never half done.
        before = whole(clusters)
        seen = conn.exchange(query(sql))
        assert errors_of(seen), f'answered: {tags_of(seen)}'
        assert whole(clusters) == before
        return
    before = whole(clusters) if not sql.startswith('SELECT') else None
    refused(conn, sql)
    if before is not None:
        assert whole(clusters) == before


def test_several_shards_in_the_extended_protocol(conn):
    # Drivers get all rows, each message its answer, and the connection goes on in step.
    assert conn.execute('SELECT count(*) FROM users WHERE id <= 200') == [['200']]
    assert sorted(conn.execute('SELECT name FROM users WHERE id IN ($1, $2, $3, $4, $5)', list('12345'))) == \
        [[f'u{k}'] for k in range(1, 6)]
    seen = conn.exchange(parse('n', 'SELECT name FROM users WHERE age = $1 AND id <= 200') + describe('S', 'n')
                         + bind('', 'n', ['1']) + execute() + sync())
    assert ''.join(m.type for m in seen if m.type != 'D') == '1tT2CZ'
    assert len(rows_of(seen)) == 4
    refused(conn, extended('SELECT name FROM users FOR UPDATE OF users'.replace(' FOR', ' LIMIT 1 FOR')))


def test_contradicting_keys(conn):
    # id = 1 AND id = 2 has no rows wherever it is asked.
    try:
        assert conn.query('SELECT name FROM users WHERE id = 1 AND id = 2') == []
    except PgError as err:
        assert err.code == '0A000'


def test_a_parameter_may_hide_the_key(conn):
    # A router that looks only at the first parameter asks the wrong shard.
    for k in range(1, 20):
        assert conn.execute('SELECT name FROM users WHERE age = $1 AND id = $2', [str(k % 50), str(k)]) == [[f'u{k}']]
        assert conn.execute('SELECT $1::text, name FROM users WHERE id = $2', ['x', str(k)]) == [['x', f'u{k}']]


def test_key_types_of_the_parameter(conn):
    # id = $1::text::bigint or a numeric parameter: the declared type decides how the bytes are read.
    for k in (1, 2, 3, 4, 5, 6):
        try:
            rows = conn.execute('SELECT name FROM users WHERE id = $1', [str(k)], types=(1700,))
            assert rows == [[f'u{k}']]
        except PgError as err:
            assert err.code == '0A000'


# -- the rest of the database -----------------------------------------------------------------------

def test_local_tables_live_on_the_home_shard(app, conn, clusters):
    # A table that nobody distributed is found at random.
    conn.query("INSERT INTO notes VALUES (1, 'here')")
    assert conn.query('SELECT v FROM notes') == [['here']]
    assert clusters[0].query('SELECT v FROM notes', 'app') == [['here']]
    assert conn.query('SELECT count(*) FROM notes WHERE v LIKE \'h%\'') == [['1']]


def test_statements_without_tables(conn):
    # SELECT 1, SHOW and the catalog need a shard, any.
    assert conn.query('SELECT 1 + 1') == [['2']]
    assert conn.query("SELECT relname FROM pg_class WHERE relname = 'users'") == [['users']]
    assert conn.query('SHOW server_version')


def test_distribute_table_errors(app, conn):
    # A typing error distributes nothing, and says why.
    for sql in ("SELECT shoal.distribute_table('missing', 'id')", "SELECT shoal.distribute_table('notes', 'nothing')",
                "SELECT shoal.distribute_table('notes')", "SELECT shoal.no_such_function(1)"):
        errors = errors_of(conn.exchange(query(sql)))
        assert errors and errors[0].code[:2] in ('42', '22', '0A'), sql
    assert conn.alive()


@pytest.mark.parametrize('column', ['f float8', 'n numeric', 'j jsonb', 'a int[]', 'c text COLLATE nd'])
def test_keys_that_cannot_be(app, conn, clusters, column):
    # A key whose equal values hash differently loses rows.
    if 'nd' in column:
        for cluster in clusters:
            try:
                cluster.sql("CREATE COLLATION IF NOT EXISTS nd (provider = icu, locale = 'und', deterministic = false)",
                            database='app', user='app')
            except PgError:
                pytest.skip('this PostgreSQL has no ICU')
    name = column.split()[0]
    conn.query(f'CREATE TABLE bad_{name} ({column})')
    try:
        errors = errors_of(conn.exchange(query(f"SELECT shoal.distribute_table('bad_{name}', '{name}')")))
        assert errors and errors[0]['M']
    finally:
        conn.query(f'DROP TABLE bad_{name}')


def test_distributed_tables_survive_a_restart(app, clusters):
    # After a restart every lookup goes to the home shard, and half of the rows are gone.
    app.terminate()
    app.start()
    with app.connect('app') as conn:
        for k in range(1, 60):
            assert conn.query(f'SELECT name FROM users WHERE id = {k}') == [[f'u{k}']]
        assert {row.get('table') or row.get('name') for row in app.console('SHOW TABLES')} >= {'users', 'names'}


@pytest.mark.shoal_only
def test_functions_that_read_tables_are_refused(conn):
    # A function that counts users would count those of one shard.
    conn.query("CREATE FUNCTION how_many() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM users'")
    conn.query("CREATE FUNCTION twice(n bigint) RETURNS bigint IMMUTABLE LANGUAGE sql AS 'SELECT n * 2'")
    for sql in ('SELECT how_many()', 'SELECT name, how_many() FROM users WHERE id = 1',
                "SELECT query_to_xml('SELECT count(*) FROM users', true, false, '')"):
        with pytest.raises(PgError) as err:
            conn.query(sql)
        assert err.value.code == '0A000' and err.value['D'] and err.value['H']
    assert conn.query('SELECT twice(id) FROM users WHERE id = 1') == [['2']]
    conn.query('DROP FUNCTION how_many(), twice(bigint)')


def test_function_call_message_is_refused(conn):
    # 103: a function called by its OID would run on one shard of a sharded database.
    errors = errors_of(conn.exchange(message('F', struct.pack('!IhhhiIh', 1397, 1, 1, 1, 4, 7, 1))))
    assert errors and errors[0].code == '0A000'
    assert conn.alive()


def test_two_phase_commands_are_refused(conn):
    # 125: PREPARE TRANSACTION by hand leaves a prepared transaction on one shard.
    conn.query('BEGIN')
    errors = errors_of(conn.exchange(query("PREPARE TRANSACTION 'x'")))
    assert errors and errors[0].code in ('0A000', '42501')
    conn.query('ROLLBACK')


def test_copy_out_of_a_distributed_table(conn):
    # An export holds one shard's rows only.
    refused(conn, 'COPY (SELECT count(*) FROM users) TO STDOUT')
    refused(conn, 'COPY (SELECT * FROM users ORDER BY id) TO STDOUT')
    rows = conn.query('SELECT count(*) FROM users WHERE id = 3')
    for sql in ('COPY users TO STDOUT', 'COPY (SELECT * FROM users) TO STDOUT'):
        seen = conn.exchange(query(sql))
        assert errors_of(seen) == [] and len([m for m in seen if m.type == 'd']) > len(rows)
    seen = conn.exchange(query('COPY (SELECT name FROM users WHERE id = 3) TO STDOUT'))
    assert errors_of(seen) == [] or errors_of(seen)[0].code == '0A000'
    assert [m.body for m in seen if m.type == 'd'] in ([b'u3\n'], [])


# -- names that mean another table --------------------------------------------------------------------

@pytest.fixture(scope='module')
def two_schemas(app):
    """b.users: local, on the home shard; b.orders: distributed by another key than public.orders."""
    with app.connect('app') as conn:
        conn.query('CREATE SCHEMA b')
        conn.query('CREATE TABLE b.users (id bigint, v text)')
        conn.query('CREATE TABLE b.orders (id bigint, user_id bigint)')
        conn.query("SELECT shoal.distribute_table('b.orders', 'id')")
        for k in range(1, 9):
            conn.query(f"INSERT INTO b.users VALUES ({k}, 'b{k}')")
    return app


@pytest.mark.parametrize('path', ['b, public', '"b",public', 'b', ' B , "$user"'])
def test_search_path_of_the_startup_message(two_schemas, path):
    # currentSchema=b,public of JDBC becomes one schema named "b, public", and no table is found.
    with two_schemas.connect('app', parameters={'search_path': path}) as conn:
        for k in range(1, 9):
            assert conn.query(f'SELECT v FROM users WHERE id = {k}') == [[f'b{k}']]
        answer = conn.query('SELECT * FROM orders WHERE user_id = 1')
        assert answer == clusters_rows(two_schemas, 'SELECT * FROM b.orders WHERE user_id = 1')


def clusters_rows(shoal, sql):
    """The rows of all shards, asked directly."""
    return [row for (cluster, *_) in shoal.shards.values() for row in cluster.query(sql, 'app')]


def test_search_path_of_set(two_schemas, conn):
    # A tenant's table is looked for where the one of another schema is kept.
    for setting in ("SET search_path = b, public", "SET search_path TO 'b'", 'SET search_path = "b"'):
        conn.query(setting)
        for k in range(1, 9):
            assert conn.query(f'SELECT v FROM users WHERE id = {k}') == [[f'b{k}']]
        conn.query('RESET search_path')
        assert conn.query('SELECT name FROM users WHERE id = 5') == [['u5']]


@pytest.mark.parametrize('setting', ['SET LOCAL search_path = b', "SELECT set_config('search_path', 'b', true)"])
def test_search_path_that_is_not_followed(two_schemas, setting):
    # SET LOCAL search_path: the rows of one schema's table are looked for by the key of another's.
    for k in range(1, 9):
        with two_schemas.connect('app') as conn:
            conn.query('BEGIN')
            conn.query(setting)
            seen = conn.exchange(query(f'SELECT * FROM orders WHERE user_id = {k}'))
            assert not rows_of(seen) and errors_of(seen) and errors_of(seen)[0].code == '0A000'
            conn.query('ROLLBACK')
            assert conn.query(f'SELECT total FROM public.orders WHERE user_id = {k}') == [[str(k * 10)]]


def test_temporary_table_of_the_same_name(app, clusters):
    # INSERT INTO a temporary table writes to the real one, on another shard.
    before = whole(clusters)
    for k in range(1, 9):
        with app.connect('app') as conn:
            conn.query('CREATE TEMP TABLE users (id bigint, v text)')
            seen = conn.exchange(query(f"INSERT INTO users VALUES ({k}, 'temp')"))
            assert not errors_of(seen) or errors_of(seen)[0].code == '0A000'
            seen = conn.exchange(query(f'SELECT v FROM users WHERE id = {k}'))
            assert errors_of(seen) and errors_of(seen)[0].code == '0A000' or rows_of(seen) == [[b'temp']]
            assert conn.query(f'SELECT name FROM public.users WHERE id = {k}') == [[f'u{k}']]
    assert whole(clusters) == before


@pytest.mark.parametrize('key, given, stored', [('varchar(3)', 'aaa  ', 'aaa'),
                                                ('timestamp(0)', '2020-01-01 00:00:03.7', '2020-01-01 00:00:04')])
def test_keys_that_are_stored_otherwise(app, conn, clusters, key, given, stored):
    # varchar(3) cuts blanks, timestamp(0) rounds: the row lies where nobody looks for it.
    conn.query(f'CREATE TABLE cut (k {key})')
    conn.query("SELECT shoal.distribute_table('cut', 'k')")
    try:
        conn.query(f"INSERT INTO cut VALUES ('{given}')")
        assert conn.query(f"SELECT k FROM cut WHERE k = '{stored}'") == [[stored]]
    finally:
        conn.query('DROP TABLE cut')


def test_a_parameter_in_several_places(conn):
    # Another place makes an undeclared parameter a numeric: '5.0' is the id 5, and float8 bytes are no int8.
    for k in range(1, 9):
        assert conn.execute('SELECT name FROM users WHERE 0.5::numeric < $1 AND id = $1', [f'{k}.0']) == [[f'u{k}']]
        seen = conn.exchange(extended('SELECT name FROM users WHERE 0::float8 < $1 AND id = $1',
                                      [struct.pack('!d', k)], formats=[1]))
        assert rows_of(seen) == [[f'u{k}'.encode()]]
        assert conn.execute('SELECT name FROM users u JOIN orders o ON o.user_id = $1 WHERE u.id = $1',
                            [str(k)]) == [[f'u{k}']]
