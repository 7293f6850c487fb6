"""What a statement reads or writes without naming it: bodies of functions, temporary objects, partitions, rows of cursors.

One shard would answer each of these from its own rows. It is PostgreSQL's answer, or 0A000.
"""
import pytest

from tests.support.wire import PgError

pytestmark = pytest.mark.shoal_only

ROWS = 30
SCHEMA = [
    'CREATE TABLE users (id bigint PRIMARY KEY, age int, name text)',
    'CREATE TABLE tags (k int PRIMARY KEY, tag text)',
    'CREATE TABLE notes (id int PRIMARY KEY, body text)',
    'CREATE TABLE days (id int, n int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)',
    "CREATE TABLE days_20 PARTITION OF days FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')",
]
FUNCTIONS = [
    "CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM users'",
    "CREATE FUNCTION more_than(int, int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT count(*) > $1 + $2 FROM users'",
    'CREATE OPERATOR #>#> (LEFTARG = int, RIGHTARG = int, FUNCTION = more_than)',
    "CREATE FUNCTION doubled(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 * 2; END'",
    'CREATE OPERATOR #*#* (LEFTARG = int, RIGHTARG = int, FUNCTION = int4mul)',
    'CREATE AGGREGATE product(int) (SFUNC = int4mul, STYPE = int, INITCOND = 1)',
    "CREATE PROCEDURE birthday() LANGUAGE sql AS 'UPDATE users SET age = age + 1'",
    'CREATE VIEW counts AS SELECT counted() AS n',
]


@pytest.fixture(scope='module')
def app(shoal, direct):
    with shoal.connect('app') as ours, direct.connect('solo') as theirs:
        for conn in (ours, theirs):
            for sql in SCHEMA:
                conn.query(sql)
        for call in ("distribute_table('users', 'id')", "distribute_table('days', 'id')", "create_reference_table('tags')"):
            ours.query(f'SELECT shoal.{call}')
        for conn in (ours, theirs):
            conn.query('INSERT INTO users VALUES ' + ', '.join(f"({k}, {k % 5}, 'n{k}')" for k in range(1, ROWS + 1)))
            conn.query("INSERT INTO tags VALUES (1, 'a'), (2, 'b')")
            for sql in FUNCTIONS:
                conn.query(sql)
    return shoal


@pytest.fixture
def conn(app):
    with app.connect('app', timeout_s=60) as conn:
        yield conn


@pytest.fixture
def solo(direct):
    with direct.connect('solo') as conn:
        yield conn


def refused(conn, sql, why=''):
    with pytest.raises(PgError) as caught:
        conn.query(sql)
    err = caught.value
    assert err.code == '0A000' and why in err['M'] + err['D'] and err['H'], err.fields


# -- functions

@pytest.mark.parametrize('sql', [
    'SELECT counted()', 'SELECT * FROM counted()', 'SELECT id, counted() FROM users', 'SELECT 1 FROM users WHERE id = 3 AND counted() > 20',
    'SELECT * FROM notes WHERE counted() > 20', 'SELECT tag FROM tags WHERE counted() > 20', 'SELECT * FROM counts',
    'INSERT INTO notes VALUES (counted(), $$x$$)', 'INSERT INTO users VALUES (900, counted(), NULL)', 'UPDATE users SET age = counted()',
    'UPDATE notes SET id = counted()', 'DELETE FROM users WHERE id = counted()', 'SELECT 3 #>#> 14', 'SELECT body FROM notes WHERE 3 #>#> 14',
    'SELECT 3 OPERATOR(public.#>#>) 14', 'UPDATE notes SET body = $$y$$ WHERE id #>#> 3', 'CALL birthday()',
    'DO $$ BEGIN UPDATE users SET age = 0; END $$', "SELECT query_to_xml('SELECT count(*) FROM users', true, true, '')",
    'SELECT count(*) FROM users GROUP BY counted()', 'SELECT sum(age) FILTER (WHERE 1 #>#> 3) FROM users',
])
def test_a_body_that_reads_tables_is_refused(conn, sql):
    # It counts, or changes, the rows of one shard and says nothing about it.
    refused(conn, sql)
    assert conn.query('SELECT count(*), sum(age) FROM users') == [[str(ROWS), '60']]


@pytest.mark.parametrize('sql', [
    'SELECT doubled(4), 3 #*#* 5', 'SELECT sum(doubled(age)) FROM users', 'SELECT id FROM users WHERE age #*#* 2 = 4', 'SELECT product(age + 1) FROM users WHERE id < 8',
    'SELECT product(age + 1) FROM users GROUP BY name', 'SELECT doubled(age), count(*) FROM users GROUP BY 1',
])
def test_functions_that_read_nothing_are_called_where_the_rows_are(conn, solo, sql):
    # Harmless functions are refused with the others.
    assert sorted(conn.query(sql)) == sorted(solo.query(sql))


def test_a_function_made_in_this_transaction(conn):
    # The catalog does not know it before COMMIT: it is taken for harmless.
    conn.query('BEGIN')
    conn.query("CREATE FUNCTION fresh() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM users'")
    refused(conn, 'SELECT fresh()', 'fresh')
    conn.query('ROLLBACK')


# -- temporary objects

@pytest.mark.parametrize('sql', [
    'CREATE TEMP TABLE scrap AS SELECT * FROM users', 'CREATE TEMP VIEW scrap AS SELECT * FROM users WHERE age > 1',
    'CREATE TEMP TABLE scrap AS SELECT u.id FROM tags t JOIN users u ON u.id = t.k', 'CREATE TEMP TABLE scrap AS SELECT * FROM counts',
    'CREATE TEMP TABLE scrap AS SELECT counted() AS n',
])
def test_a_temporary_object_holds_all_rows_or_is_not_made(conn, sql):
    # A report's scratch table holds half of the rows.
    refused(conn, sql)


def test_a_temporary_table_of_what_is_whole(conn):
    # What stands on the home shard may be copied there.
    conn.query('CREATE TEMP TABLE scrap AS SELECT tag FROM tags')
    assert sorted(conn.query('SELECT tag FROM scrap')) == [['a'], ['b']]


def test_a_temporary_table_is_dropped_alone(conn):
    # DROP TABLE of a scratch table drops the real one of that name on all other shards, with its rows.
    conn.query('CREATE TEMP TABLE users (id bigint)')
    conn.query('CREATE TEMP TABLE scrap (id bigint)')
    for sql in ('DROP TABLE users', 'DROP TABLE scrap, users', 'ALTER TABLE users ADD more int', 'TRUNCATE users', 'DROP TABLE tags'):
        refused(conn, sql, 'which table')
    conn.query('DROP TABLE scrap')
    conn.query('DROP TABLE pg_temp.users')
    with pytest.raises(PgError) as caught:
        conn.query('DROP TABLE scrap')
    assert caught.value.code == '42P01'
    conn.query('DROP TABLE IF EXISTS scrap')
    conn.query('CREATE TABLE kept (id int)')
    conn.query('DROP TABLE public.kept')
    assert conn.query('SELECT count(*) FROM public.users') == [[str(ROWS)]]


def test_functions_of_the_session(conn):
    # A function in pg_temp reads a distributed table, unseen.
    conn.query("CREATE FUNCTION pg_temp.mine() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM users'")
    refused(conn, 'SELECT pg_temp.mine()', 'mine')


# -- partitions

BOUNDS = "FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')"


@pytest.mark.parametrize('sql', [
    f'CREATE TABLE days_21 PARTITION OF days (UNIQUE (n)) {BOUNDS}', f'CREATE TABLE days_21 PARTITION OF days (n UNIQUE) {BOUNDS}',
    f'CREATE TABLE days_21 PARTITION OF days (PRIMARY KEY (day)) {BOUNDS}', f'CREATE TABLE days_21 PARTITION OF days (EXCLUDE (n WITH =)) {BOUNDS}',
    f'CREATE TABLE days_21 PARTITION OF days (EXCLUDE (id WITH <>, n WITH =)) {BOUNDS}', 'ALTER TABLE days_20 ADD UNIQUE (n)',
    'ALTER TABLE days_20 ADD COLUMN x int UNIQUE', 'CREATE UNIQUE INDEX ON days_20 (n)', 'CREATE UNIQUE INDEX CONCURRENTLY ON days_20 (n)',
    'CREATE UNIQUE INDEX ON days (n, day)', 'ALTER TABLE days ADD UNIQUE (n, day)',
])
def test_a_partition_cannot_be_unique_without_the_key(conn, sql):
    # Two shards take the same number, each is sure of it.
    refused(conn, sql, 'must contain its key')


def test_no_other_table_becomes_a_partition(conn):
    # A table of the home shard, with a constraint of its own, becomes a part of a distributed one.
    conn.query('CREATE TABLE stray (id int NOT NULL, n int UNIQUE, day date NOT NULL)')
    refused(conn, f'ALTER TABLE days ATTACH PARTITION stray {BOUNDS}', 'attached')
    conn.query('DROP TABLE stray')


def test_a_partition_with_the_key_in_its_constraint(conn):
    # What each shard can enforce is refused, too.
    conn.query(f'CREATE TABLE days_21 PARTITION OF days (UNIQUE (n, id)) {BOUNDS}')
    conn.query('INSERT INTO days_21 VALUES ' + ', '.join(f"({k}, 1, '2021-02-{k:02}')" for k in range(1, 21)))
    assert conn.query('SELECT count(*) FROM days WHERE n = 1') == conn.query('SELECT count(*) FROM days_21') == [['20']]
    conn.query('DROP TABLE days_21')


def test_a_partition_in_the_transaction_that_makes_it(conn):
    # Its rows are all written to the home shard, where nobody looks for most of them.
    conn.query('BEGIN')
    conn.query(f'CREATE TABLE days_21 PARTITION OF days {BOUNDS}')
    conn.query('CREATE TABLE other (id int PRIMARY KEY)')
    conn.query("INSERT INTO days VALUES (1, 1, '2021-02-01'), (2, 1, '2021-02-02'), (3, 1, '2021-02-03')")
    conn.query('SAVEPOINT s')
    for sql in ('INSERT INTO days_21 VALUES (1, 1, $$2021-03-01$$)', 'SELECT count(*) FROM days_21', 'ALTER TABLE days_21 ADD UNIQUE (n)',
                'CREATE UNIQUE INDEX ON days_21 (n)'):
        refused(conn, sql, 'partition')
        conn.query('ROLLBACK TO s')
    conn.query('COMMIT')
    assert conn.query('SELECT count(*) FROM days_21') == [['3']]
    refused(conn, 'ALTER TABLE days_21 ADD UNIQUE (n)', 'must contain its key')
    conn.query('DROP TABLE days_21, other')


# -- a transaction's own locks

@pytest.mark.parametrize('sql', ['INSERT INTO users SELECT g + 5000, 1 FROM generate_series(1, 9) g', 'INSERT INTO users SELECT id + 5000, 1 FROM users',
                                 'SELECT string_agg(name, $$,$$) FROM users'])
def test_rows_are_not_brought_together_behind_own_locks(conn, sql):
    # A migration adds a column and fills the table, and waits for itself for ever.
    conn.query('BEGIN')
    conn.query('ALTER TABLE users ADD COLUMN more int')
    refused(conn, sql, 'another connection')
    conn.query('ROLLBACK')


@pytest.mark.parametrize('opening', [
    ['BEGIN READ ONLY', "SET LOCAL work_mem = '5MB'"], ['BEGIN', 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY'],
    ['BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE', 'SAVEPOINT s', "SET LOCAL timezone = 'UTC'", 'SAVEPOINT t'],
])
def test_rows_are_brought_together_for_a_transaction_that_only_reads(conn, opening):
    # pg_dump --inserts, and reports that say READ ONLY, are refused: the tables of the merge are taken for theirs.
    for sql in opening:
        conn.query(sql)
    assert conn.query("SELECT string_agg(age::text, ',' ORDER BY id) FROM users WHERE id < 4") == [['1,2,3']]
    conn.query('DECLARE c CURSOR FOR SELECT id FROM users ORDER BY id')
    assert conn.query('FETCH 2 FROM c') == [['1'], ['2']]
    conn.query('SAVEPOINT u')
    with pytest.raises(PgError) as caught:
        conn.query('UPDATE users SET age = 0 WHERE id = 1')
    assert caught.value.code == '25006'
    conn.query('ROLLBACK')


# -- cursors

@pytest.mark.parametrize('key', range(1, 7))
def test_where_current_of(conn, solo, key):
    # The row is looked for on a shard where the cursor is not, or changed on another one.
    seen = []
    for one in (conn, solo):
        one.query('BEGIN')
        one.query(f'DECLARE c CURSOR FOR SELECT * FROM users WHERE id = {key} FOR UPDATE')
        rows = one.query('FETCH 1 FROM c')
        rows += one.query('UPDATE users SET age = 90 WHERE CURRENT OF c RETURNING *')
        one.query('CLOSE c')
        one.query(f'DECLARE d CURSOR FOR SELECT * FROM users WHERE id = {key}')
        one.query('FETCH d')
        rows += one.query('DELETE FROM users WHERE CURRENT OF d RETURNING id')
        rows += one.query('SELECT count(*), max(age) FROM users')
        one.query('ROLLBACK')
        seen.append(rows)
    assert seen[0] == seen[1] and len(seen[0]) == 4


@pytest.mark.parametrize('table, select, update', [
    ('users', 'SELECT * FROM users', 'UPDATE users SET age = 90'), ('users', 'SELECT * FROM users ORDER BY id', 'DELETE FROM users'),
    ('tags', 'SELECT * FROM tags FOR UPDATE', 'UPDATE tags SET tag = $$z$$'), ('users', 'SELECT * FROM users WHERE id = 2', 'UPDATE users SET id = 700'),
])
def test_where_current_of_rows_that_lie_elsewhere(conn, table, select, update):
    # A row of one copy is changed, or none, and the client is told 1.
    conn.query('BEGIN')
    conn.query(f'DECLARE c CURSOR FOR {select}')
    conn.query('FETCH c')
    refused(conn, f'{update} WHERE CURRENT OF c')
    conn.query('ROLLBACK')
    conn.query('BEGIN')
    with pytest.raises(PgError) as caught:
        conn.query(f'{update} WHERE CURRENT OF nothing')
    assert caught.value.code in ('34000', '0A000')
    conn.query('ROLLBACK')


# -- where its client says that it runs -------------------------------------------------------------------

DECLARED = [
    "CREATE FUNCTION age_of(bigint) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT age FROM users WHERE id = $1); END'",
    "CREATE FUNCTION renamed(bigint, text) RETURNS SETOF users LANGUAGE sql AS 'UPDATE users SET name = $2 WHERE id = $1 RETURNING *'",
    "CREATE PROCEDURE older(bigint, INOUT int) LANGUAGE plpgsql AS "
    "'BEGIN UPDATE users SET age = age + $2 WHERE id = $1 RETURNING age INTO $2; COMMIT; END'",
]


@pytest.fixture(scope='module')
def declared(app):
    with app.connect('app') as conn:
        for sql in DECLARED:
            conn.query(sql)


def test_what_cannot_be_looked_into_runs_where_its_client_says(declared, app, conn):
    # Users of Citus call functions with the key; a body that runs on another shard than its rows finds none of them.
    ages = dict(conn.query('SELECT id, age FROM users'))
    for k in range(1, 13):
        at = f'/* shoal: table = users, key = {k} */ '
        assert conn.query(f'{at}SELECT age_of({k})') == [[ages[str(k)]]]
        assert conn.query(f'{at}SELECT u.id, age_of(id) FROM users u WHERE id = {k}') == [[str(k), ages[str(k)]]]
        assert conn.query(f"{at}SELECT name FROM renamed({k}, 'r')") == [['r']]
        assert conn.query(f'{at}CALL older({k}, 7)') == [[str(int(ages[str(k)]) + 7)]]
        conn.query(f"/* shoal: key = {k} table = public.users */ DO $$ BEGIN UPDATE users SET age = age - 7 WHERE id = {k}; END $$")
        conn.query('DISCARD ALL')  # a DO may leave anything behind on its connection
        conn.query('BEGIN')
        conn.query(f"{at}SELECT renamed({k}, 'gone')")
        conn.query('SELECT count(*) FROM users')
        conn.query('ROLLBACK')
    assert dict(conn.query('SELECT id, age FROM users')) == ages
    assert conn.query("SELECT count(*) FROM users WHERE name = 'r'") == [['12']]
    conn.query("UPDATE users SET name = 'n' || id")
    halves = [int(conn.query(f'/* shoal: shard = {shard} */ SELECT counted()')[0][0]) for shard in ('s0', 's1')]
    assert sum(halves) == ROWS and all(halves)


@pytest.mark.parametrize('sql, code, why', [
    ('/* shoal: shard = nowhere */ SELECT counted()', '22023', 'no such shard'),
    ('/* shoal: table = nothing, key = 3 */ SELECT counted()', '22023', 'no such table'),
    ('/* shoal: table = tags, key = 3 */ SELECT counted()', '22023', 'not distributed'),
    ("/* shoal: table = users, key = x */ CALL birthday()", '22023', 'not a value'),
    ('/* shoal: table = users */ CALL birthday()', '22023', 'key of a row'),
    ('/* shoal: shard = s0, table = users, key = 3 */ CALL birthday()', '22023', 'each once'),
    ("/* shoal: table = users, key = 'x */ CALL birthday()", '22023', 'each once'),
    ('/* shoal: shard = s1 */ SELECT counted(), body FROM notes', '0A000', 'another shard'),
    ('/* shoal: shard = s0 */ SELECT counted() FROM users', '0A000', 'does not fix'),
    ('/* shoal: shard = s0 */ INSERT INTO notes SELECT counted()', '0A000', 'may read tables'),
    ('/* shoal: copies = 2 */ SELECT counted()', '0A000', 'may read tables'),
    ('DO $$ BEGIN DELETE FROM users; END $$', '0A000', 'any table'),
])
def test_a_place_that_is_not_certain_is_refused(declared, conn, sql, code, why):
    with pytest.raises(PgError) as caught:
        conn.query(sql)
    assert (caught.value.code, why in caught.value['D'], bool(caught.value['H'])) == (code, True, True), caught.value
    assert conn.query('SELECT count(*) FROM users') == [[str(ROWS)]]


def test_a_moment_of_many_statements_is_nobodys_place(declared, conn):
    refused(conn, '/* shoal: shard = s0 */ SELECT 1; SELECT counted()')
