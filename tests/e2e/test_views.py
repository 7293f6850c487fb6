"""Views over distributed tables answer as over one PostgreSQL with all the rows; what cannot be right is refused."""
from collections import Counter

import pytest

from tests.support.cluster import wait_until
from tests.support.wire import PgError

pytestmark = pytest.mark.shoal_only

SCHEMA = [
    'CREATE TABLE users (id bigint PRIMARY KEY, name text, age int, org int)',
    'CREATE TABLE orders (user_id bigint, n int, amount numeric(10,2), PRIMARY KEY (user_id, n))',
    'CREATE TABLE items (sku text PRIMARY KEY, title text)',
    'CREATE TABLE orgs (org int PRIMARY KEY, label text)',
    'CREATE TABLE notes (id int PRIMARY KEY, note text)',
]
VIEWS = [
    'CREATE VIEW grown AS SELECT id, name, age FROM users WHERE age > 17',
    'CREATE VIEW "Odd Names" ("The Id", "select") AS SELECT id, name FROM users WHERE id % 2 = 1',
    'CREATE VIEW totals AS SELECT org, count(*) AS n, avg(age) AS age FROM users GROUP BY org',
    'CREATE VIEW spent AS SELECT u.id, u.name, sum(o.amount) AS amount FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id, u.name',
    'CREATE VIEW titled AS SELECT u.id, i.title FROM users u JOIN items i ON i.sku = u.name',
    'CREATE VIEW top AS SELECT id, age FROM users ORDER BY age DESC, id LIMIT 5',
    'CREATE VIEW named AS SELECT id, name FROM grown UNION ALL SELECT n, sku FROM (SELECT 0 AS n, sku FROM items) s',
    'CREATE VIEW deep AS SELECT g.id, g.name, s.amount, l.label FROM grown g JOIN spent s USING (id) JOIN users u USING (id) JOIN orgs l ON l.org = u.org',
    'CREATE VIEW labels AS SELECT org, upper(label) AS label FROM orgs',
    "CREATE VIEW mine AS SELECT id, note || '!' AS note FROM notes",
    'CREATE VIEW kinds AS SELECT relkind, count(*) > 0 AS some FROM pg_catalog.pg_class GROUP BY 1',
    "CREATE VIEW quoted AS SELECT id, 'it''s; -- $1 \"x\"' || name AS name, E'a\\\\b' AS raw FROM users",
    'CREATE VIEW ages AS WITH a AS (SELECT age, count(*) AS n FROM users GROUP BY age) SELECT a.age, a.n FROM a WHERE n > 1',
]


@pytest.fixture(scope='module')
def app(shoal, direct):
    with shoal.connect('app') as ours, direct.connect('solo') as theirs:
        for sql in SCHEMA:
            ours.query(sql)
            theirs.query(sql)
        for call in ("distribute_table('users', 'id')", "distribute_table('orders', 'user_id')", "distribute_table('items', 'sku')",
                     "create_reference_table('orgs')"):
            ours.query(f'SELECT shoal.{call}')
        for conn in (ours, theirs):
            for k in range(1, 31):
                conn.query(f"INSERT INTO users VALUES ({k}, 'n{k % 7}', {k + 5}, {k % 4})")
                conn.query(f'INSERT INTO orders VALUES ({k}, 1, {k}.5), ({k}, 2, 3)')
            conn.query("INSERT INTO items VALUES ('n1', 'one'), ('n2', 'two'), ('n3', 'three'), ('n4', 'four')")
            conn.query("INSERT INTO orgs VALUES (0, 'a'), (1, 'b'), (2, 'c')")
            conn.query("INSERT INTO notes VALUES (1, 'x'), (2, 'y')")
            for sql in VIEWS:
                conn.query(sql)
    return shoal


@pytest.fixture
def conn(app):
    with app.connect('app') as conn:
        yield conn


@pytest.fixture
def solo(direct):
    with direct.connect('solo') as conn:
        yield conn


QUESTIONS = [
    'SELECT * FROM grown', 'SELECT name FROM grown WHERE id = 25', 'SELECT count(*) FROM grown WHERE age < 25',
    'SELECT g.name, count(*) FROM grown AS g GROUP BY g.name', 'SELECT grown.id FROM grown ORDER BY id DESC LIMIT 3',
    'SELECT "The Id", "select" FROM "Odd Names" WHERE "The Id" < 9', 'SELECT x."select" FROM public."Odd Names" x',
    'SELECT * FROM totals', 'SELECT max(n) FROM totals', 'SELECT t.n FROM totals t WHERE t.org = 2',
    'SELECT * FROM spent WHERE amount > 20', 'SELECT sum(amount) FROM spent', 'SELECT * FROM titled', 'SELECT title, count(*) FROM titled GROUP BY 1',
    'SELECT * FROM top', 'SELECT avg(age) FROM top', 'SELECT * FROM named', 'SELECT * FROM deep', 'SELECT label, sum(amount) FROM deep GROUP BY label',
    'SELECT * FROM labels', 'SELECT * FROM mine', 'SELECT g.id, l.label FROM grown g JOIN users u USING (id) JOIN labels l USING (org)',
    'SELECT some FROM kinds', 'SELECT * FROM quoted WHERE id < 4', 'SELECT * FROM ages',
    'SELECT a.id FROM grown a, grown b WHERE a.id = b.id + 1', 'SELECT id FROM users WHERE id IN (SELECT id FROM grown) AND age < 20',
    'SELECT (SELECT count(*) FROM totals) AS n, (SELECT max(id) FROM grown)', 'WITH g AS (SELECT id FROM grown) SELECT count(*) FROM g',
    'WITH grown AS (SELECT 1 AS id) SELECT * FROM grown', 'SELECT u.name FROM users u LEFT JOIN top t ON t.id = u.id WHERE t.id IS NULL',
    'SELECT x.id FROM users u, LATERAL (SELECT g.id FROM grown g WHERE g.id = u.id) x', 'SELECT * FROM grown UNION SELECT * FROM grown',
    'SELECT nothing FROM grown', 'SELECT grown.* FROM grown WHERE age = 1/0', 'SELECT id FROM grown WHERE id IN (SELECT user_id FROM orders WHERE amount > 10)',
]


def answer(conn, sql, values=None):
    try:
        return Counter(map(tuple, conn.query(sql) if values is None else conn.execute(sql, values)))
    except PgError as err:
        return err.code


@pytest.mark.parametrize('sql', QUESTIONS)
def test_views_are_read_as_over_one_database(conn, solo, sql):
    # A report counts the rows of one shard and calls them all.
    assert answer(conn, sql) == answer(solo, sql)
    assert answer(conn, sql, []) == answer(solo, sql, [])


def test_parameters_keep_their_places(conn, solo):
    sql = "SELECT id, name FROM quoted WHERE id > $2 AND name LIKE $1"
    assert answer(conn, sql, ['it%', '20']) == answer(solo, sql, ['it%', '20'])


def test_a_view_is_followed_when_it_changes(conn, solo):
    # Yesterday's definition answers.
    for one in (conn, solo):
        one.query('CREATE VIEW moving AS SELECT id FROM users WHERE age > 30')
        one.query('CREATE VIEW above AS SELECT count(*) FROM moving')
    assert answer(conn, 'SELECT * FROM above') == answer(solo, 'SELECT * FROM above')
    for one in (conn, solo):
        one.query('CREATE OR REPLACE VIEW moving AS SELECT id FROM users WHERE age > 33')
    assert answer(conn, 'SELECT * FROM above') == answer(solo, 'SELECT * FROM above')
    for one in (conn, solo):
        one.query('DROP VIEW above, moving')
    assert answer(conn, 'SELECT * FROM above') == answer(solo, 'SELECT * FROM above') == '42P01'


def test_in_a_transaction_views_see_what_it_wrote(conn):
    conn.query('BEGIN')
    conn.query("INSERT INTO users VALUES (1000, 'new', 90, 1), (1001, 'new', 91, 1)")
    assert conn.query("SELECT id FROM grown WHERE name = 'new' ORDER BY id") == [['1000'], ['1001']]
    conn.query('ROLLBACK')
    assert conn.query("SELECT id FROM grown WHERE name = 'new'") == []


def test_rows_are_written_from_views(conn, solo):
    for one in (conn, solo):
        one.query('CREATE TABLE sums (org int PRIMARY KEY, n bigint)')
    conn.query("SELECT shoal.distribute_table('sums', 'org')")
    for one in (conn, solo):
        one.query('INSERT INTO sums SELECT org, n FROM totals')
        one.query('UPDATE sums SET n = 0 WHERE org = 2')
    for sql in ('SELECT * FROM sums', 'SELECT count(*) FROM users'):
        assert answer(conn, sql) == answer(solo, sql)


# -- written through

THROUGH = [
    'CREATE VIEW adults AS SELECT id, name, age FROM users WHERE age > 17 WITH CHECK OPTION',
    'CREATE VIEW labeled AS SELECT age AS years, upper(name) AS big, id, name FROM users',
    'CREATE VIEW swapped AS SELECT org AS id, id AS org, name FROM users',
    'CREATE VIEW keyless AS SELECT name, age FROM users',
    'CREATE VIEW older AS SELECT id, name, age FROM users WHERE age > (SELECT avg(age) FROM users)',
    'CREATE VIEW noted AS SELECT id, note FROM notes',
]
WRITES = [
    "INSERT INTO adults VALUES (500, 'new', 44)", "INSERT INTO adults (age, id) VALUES (50, 501), (51, 502), (52, 503), (53, 504) RETURNING *",
    "INSERT INTO adults VALUES (505, 'young', 3)", "INSERT INTO adults VALUES (500, 'x', 20), (506, 'x', 3)", "INSERT INTO adults VALUES (3, 'dup', 30)",
    "INSERT INTO adults VALUES (20, 'x', 60) ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING *", 'INSERT INTO labeled (years, id) VALUES (7, 600), (8, 601)',
    "INSERT INTO labeled VALUES (7, 'x', 600)", "UPDATE adults SET name = 'up' WHERE id = 25 RETURNING *", "UPDATE adults SET name = 'up' WHERE id = 3",
    "UPDATE adults SET name = 'all' RETURNING id", 'UPDATE adults SET age = 1 WHERE id = 25', 'UPDATE adults SET age = age - 1', 'UPDATE adults SET age = age + 1',
    "UPDATE adults SET name = 'in' WHERE id IN (13, 14, 15, 16)", "UPDATE labeled SET years = years + 1 WHERE id = 4 RETURNING years, big", 'UPDATE labeled SET years = 9',
    'UPDATE adults a SET name = o.n::text FROM orders o WHERE o.user_id = a.id AND o.n = 1', 'DELETE FROM adults WHERE id = 25 RETURNING name', 'DELETE FROM adults',
    "INSERT INTO noted VALUES (5, 'n'), (6, NULL) RETURNING *", "UPDATE noted SET note = note || '!' WHERE id > 1 RETURNING *", 'DELETE FROM noted',
    'DELETE FROM labeled WHERE years > 20', 'DELETE FROM adults WHERE nothing = 1', "INSERT INTO adults (id, org) VALUES (1, 1)", "UPDATE labeled SET big = 'x' WHERE id = 1",
]


@pytest.fixture(scope='module')
def through(app, direct):
    with app.connect('app') as ours, direct.connect('solo') as theirs:
        for conn in (ours, theirs):
            for sql in THROUGH:
                conn.query(sql)


@pytest.mark.parametrize('sql', WRITES)
def test_rows_are_written_through_a_plain_view(through, conn, solo, sql):
    # An ORM's view model writes to the shard that happens to answer, or past the view's own condition.
    seen = []
    for values in (None, []):
        for one in (conn, solo):
            one.query('BEGIN')
            told = answer(one, sql, values)
            if isinstance(told, str):
                one.query('ROLLBACK')
                one.query('BEGIN')
            seen.append((told, answer(one, 'SELECT * FROM users')))
            one.query('ROLLBACK')
        assert seen[-2] == seen[-1]


@pytest.mark.parametrize('sql', [
    "INSERT INTO swapped VALUES (1, 900, 'x')", "UPDATE swapped SET name = 'x' WHERE id = 1", "UPDATE swapped SET name = 'x' WHERE org = 3", 'DELETE FROM keyless',
    "UPDATE older SET name = 'x' WHERE id = 30", 'DELETE FROM older', 'UPDATE adults SET id = 900 WHERE id = 30', 'INSERT INTO adults SELECT n + 900, sku, 20 FROM items, orders',
    "INSERT INTO adults VALUES (900 + length('x'), 'x', 20)", 'UPDATE noted SET note = (SELECT max(name) FROM users)', 'DELETE FROM totals',
    'INSERT INTO noted SELECT id, name FROM users',
])
def test_views_that_hide_where_rows_belong_are_not_written_through(through, conn, sql):
    # The row goes where its org would be, or a condition over all rows is asked of each shard's own.
    before = answer(conn, 'SELECT * FROM users')
    with pytest.raises(PgError) as err:
        conn.query(sql)
    assert err.value.code in ('0A000', '55000') and err.value['H'], err.value.fields
    assert answer(conn, 'SELECT * FROM users') == before


REFUSED = [
    ('CREATE VIEW fence WITH (security_barrier) AS SELECT id, name, age FROM users WHERE age > 20', 'SELECT * FROM fence', 'security barrier'),
]


@pytest.mark.parametrize('ddl, sql, why', REFUSED)
def test_refused_with_the_reason(conn, ddl, sql, why):
    conn.query(ddl)
    with pytest.raises(PgError) as err:
        conn.query(sql)
    assert err.value.code == '0A000' and why in err.value['D'] and err.value['H']


def test_materialized_views_are_refused(conn, clusters):
    # Each shard would keep the rows of its own.
    with pytest.raises(PgError) as err:
        conn.query('CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM users')
    assert err.value.code == '0A000' and 'insert its rows' in err.value['H']
    for cluster in clusters:
        cluster.sql('CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM users', database='app', user='app')
    wait_until('the catalog to be read', lambda: 'materialized' in refusal(conn, 'SELECT * FROM kept'), 30)
    for cluster in clusters:
        cluster.sql('DROP MATERIALIZED VIEW kept', database='app', user='app')


def refusal(conn, sql):
    try:
        conn.query(sql)
    except PgError as err:
        return err['D'] or ''
    return ''


def test_rights_are_those_of_the_view(app, conn, clusters):
    # A view shows what its reader may not read, or its owner may not show.
    conn.query('CREATE VIEW open AS SELECT id, name FROM users')
    conn.query('CREATE VIEW asked WITH (security_invoker) AS SELECT count(*) AS n FROM users')
    with app.connect('app', user='other') as other:
        assert refusal(other, 'SELECT count(*) FROM open'), 'no right to the view'
        conn.query('GRANT SELECT ON users, open, asked TO other')
        assert other.query('SELECT count(*) FROM open') == conn.query('SELECT count(*) FROM users')
        assert other.query('SELECT n FROM asked') == conn.query('SELECT count(*) FROM users')
        conn.query('REVOKE SELECT ON open FROM other')
        assert 'may not be read' in refusal(other, 'SELECT count(*) FROM open')
        conn.query('GRANT SELECT ON open TO other')
        conn.query('REVOKE SELECT ON users FROM other')
        with pytest.raises(PgError) as err:  # by its owner's rights PostgreSQL would allow it
            other.query('SELECT count(*) FROM open')
        assert err.value.code == '42501'
        conn.query('SET ROLE other')
        assert 'SET ROLE' in refusal(conn, 'SELECT count(*) FROM open')
        conn.query('RESET ROLE')


def test_row_security_is_not_passed_by(conn):
    conn.query('CREATE TABLE secret (id int PRIMARY KEY, who text)')
    conn.query("SELECT shoal.distribute_table('secret', 'id')")
    conn.query('ALTER TABLE secret ENABLE ROW LEVEL SECURITY')
    conn.query('CREATE POLICY own ON secret USING (who = current_user)')
    conn.query('CREATE VIEW leak AS SELECT count(*) FROM secret')
    assert 'row security' in refusal(conn, 'SELECT * FROM leak')
