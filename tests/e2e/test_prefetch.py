"""N+1 loops are seen, reported and answered ahead; every answer equals PostgreSQL's.

Two workers, so that the other client of a test is on another thread: what it writes must be heard of.
"""
import re
import struct
import threading
import time

import pytest

from tests.support.cluster import wait_until
from tests.support.differential import difference
from tests.support.wire import bind, describe, errors_of, execute, extended, parse, query, rows_of, sync, types_of

USERS, POSTS = 400, 100
AGE_MS = 30000

SCHEMA = [
    'CREATE TABLE users (id int PRIMARY KEY, name text, mail text, n int DEFAULT 0)',
    f"INSERT INTO users SELECT g, 'user ' || g, CASE WHEN g % 7 = 0 THEN NULL ELSE g || '@x' END, g "
    f'FROM generate_series(1, {USERS}) g',
    'CREATE TABLE posts (id bigint PRIMARY KEY, author int, title text, code uuid, tag text)',
    "INSERT INTO posts SELECT g, CASE WHEN g % 13 = 0 THEN NULL ELSE (g * 37) % 200 + 1 END, 'post ' || g, "
    "lpad(to_hex(g), 32, '0')::uuid, 'tag ' || g FROM generate_series(1, 500) g",
    'CREATE TABLE comments (id int PRIMARY KEY, post bigint, body text)',
    "INSERT INTO comments SELECT g, g % 300, 'comment ' || g FROM generate_series(1, 2000) g",
    'CREATE INDEX ON comments (post)',
    'CREATE TABLE things (code uuid PRIMARY KEY, v text)',
    "INSERT INTO things SELECT lpad(to_hex(g), 32, '0')::uuid, 'thing ' || g FROM generate_series(1, 500) g",
    'CREATE TABLE lines (post bigint, author int, v text, PRIMARY KEY (post, author))',
    "INSERT INTO lines SELECT id, author, 'line ' || id FROM posts WHERE author IS NOT NULL",
    'CREATE TABLE ratios (id int PRIMARY KEY, d int)',
    f'INSERT INTO ratios SELECT g, CASE WHEN g = 60 THEN 0 ELSE g END FROM generate_series(1, {USERS}) g',
    'CREATE SCHEMA other_path',
    'CREATE TABLE other_path.users (id int PRIMARY KEY, name text, mail text, n int DEFAULT 0)',
    f"INSERT INTO other_path.users SELECT g, 'other ' || g, NULL, g FROM generate_series(1, {USERS}) g",
    'CREATE TABLE owners (id int PRIMARY KEY)', f'INSERT INTO owners SELECT generate_series(1, {USERS})',
    'CREATE TABLE owned (id int PRIMARY KEY REFERENCES owners ON DELETE CASCADE, v text)',
    f"INSERT INTO owned SELECT g, 'v' || g FROM generate_series(1, {USERS}) g",
    'CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)',
    'CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000)',
    f"INSERT INTO parts SELECT g, 'v' || g FROM generate_series(1, {USERS}) g",
    "CREATE FUNCTION touch(i int) RETURNS int LANGUAGE sql AS "
    "$$ UPDATE users SET name = name || '!' WHERE id = i RETURNING id $$",
    'CREATE TABLE secured (id int PRIMARY KEY, tenant text, v text)',
    f"INSERT INTO secured SELECT g, 't' || g % 2, 'v' || g FROM generate_series(1, {USERS}) g",
    'ALTER TABLE secured ENABLE ROW LEVEL SECURITY',
    "CREATE POLICY mine ON secured USING (tenant = current_setting('app.tenant', true))",
    'GRANT SELECT ON ALL TABLES IN SCHEMA public TO other',
    'ANALYZE']

PARENT = f'SELECT id, author, title FROM posts ORDER BY id LIMIT {POSTS}'
CHILD = 'SELECT id, name, mail FROM users WHERE id = '
RR = 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY'


@pytest.fixture(scope='module')
def solo_schema():
    return SCHEMA


@pytest.fixture(scope='module')
def shoal_settings():
    return {'workers': 2}


@pytest.fixture(scope='module')
def batch_settings():
    return {'prefetch_wait': '5s'}


@pytest.fixture(scope='module')
def shoal_databases():
    # solo: exact prefetch only; stale: the same database, where answers may be older.
    return {'app': {'shards': 's0, s1'}, 'solo': {'shards': 's0'},
            'stale': {'dbname': 'solo', 'shards': 's0', 'prefetch_max_age_ms': str(AGE_MS)},
            'brief': {'dbname': 'solo', 'shards': 's0', 'prefetch_max_age_ms': '300'}}


@pytest.fixture
def fresh(shoal, clusters):
    """The rows as they were."""
    yield
    clusters[0].sql(f"UPDATE users SET name = 'user ' || id, n = id WHERE name <> 'user ' || id OR n <> id",
                    database='solo', user='app')


# -- pages ------------------------------------------------------------------------------------------------

class Sql:
    """How a client asks: sends a statement with one value, gives the messages back."""

    def __init__(self, conn):
        self.conn = conn

    def parent(self, sql=PARENT):
        return self.conn.exchange(query(sql))


class Simple(Sql):
    def child(self, sql, *values):
        return self.conn.exchange(query(fill(sql, values)))


class Quoted(Sql):
    def child(self, sql, *values):
        return self.conn.exchange(query(fill(sql, [f"'{v}'" for v in values])))


class Extended(Sql):
    results = ()

    def parent(self, sql=PARENT):
        return self.conn.exchange(extended(sql, results=self.results))

    def child(self, sql, *values):
        return self.conn.exchange(extended(fill(sql, [f'${i + 1}' for i in range(len(values))]),
                                           [str(v) for v in values], results=self.results))


class Binary(Extended):
    results = (1,)

    def child(self, sql, *values):
        text = fill(sql, [f'${i + 1}' for i in range(len(values))])
        return self.conn.exchange(extended(text, [struct.pack('!i', int(v)) for v in values],
                                           types=[23] * len(values), formats=(1,), results=(1,)))


class Prepared(Extended):
    """Parse once, without Describe afterwards: as drivers do that know the statement."""

    def __init__(self, conn):
        super().__init__(conn)
        self.names = {}

    def child(self, sql, *values):
        text = fill(sql, [f'${i + 1}' for i in range(len(values))])
        seen = []
        if text not in self.names:
            self.names[text] = f'q{len(self.names)}'
            seen = self.conn.exchange(parse(self.names[text], text) + describe('S', self.names[text]) + sync())
        return seen + self.conn.exchange(bind('', self.names[text], [str(v) for v in values]) + execute() + sync())


WAYS = [Simple, Quoted, Extended, Binary, Prepared]


def fill(sql, values):
    """'a = ? AND b = ?' with the values in their places; without ? the value stands at the end."""
    if '?' not in sql:
        return sql + str(values[0])
    values = list(values)
    return re.sub(r'\?', lambda _: str(values.pop(0)), sql)


def page(way, child=CHILD, columns=(1,), parent=PARENT, begin=None, rows=None, each=None):
    """One page: the parent, then a child for each row whose values are not NULL. All messages."""
    seen = way.conn.exchange(query(begin)) if begin else []
    answer = way.parent(parent)
    seen += answer
    for n, row in enumerate(rows_of(answer)):
        values = [decode(way, row[c]) for c in columns]
        if None in values or (rows is not None and n >= rows):
            continue
        if each:
            each(n)
        seen += way.child(child, *values)
    return seen + (way.conn.exchange(query('COMMIT')) if begin else [])


def decode(way, value):
    if value is None or not isinstance(way, Binary):
        return None if value is None else value.decode()
    return str(int.from_bytes(value, 'big', signed=True)) if len(value) in (4, 8) else value.decode()


def learn(way, pages=4, **kwargs):
    for _ in range(pages):
        page(way, **kwargs)


def stats(shoal):
    return {r['name']: int(r['value']) for r in shoal.console('SHOW STATS')}


class Counted:
    """What Shoal did inside the block: counters of SHOW STATS, as differences."""

    def __init__(self, shoal):
        self.shoal = shoal

    def __enter__(self):
        self.before = stats(self.shoal)
        return self

    def __exit__(self, *exc):
        after = stats(self.shoal)
        self.hits, self.sent, self.keys = (after[k] - self.before[k] for k in
                                           ('prefetch_hits', 'prefetches', 'prefetched_keys'))


def patterns(shoal, child=None):
    rows = shoal.console('SHOW N1')
    return [r for r in rows if child is None or child in r['child']]


def other_worker(shoal, database, conn):
    """A connection on another worker than conn's."""
    mine = conn.query('SELECT pg_backend_pid()') and worker_of(shoal, conn)
    for _ in range(50):
        other = shoal.connect(database)
        if worker_of(shoal, other) != mine:
            return other
        other.close()
    pytest.fail('the kernel gives all connections to one worker')


def worker_of(shoal, conn):
    port = conn.sock.getsockname()[1]
    rows = [r for r in shoal.console('SHOW CLIENTS') if r['peer'].endswith(f':{port}')]
    return rows[0]['worker']


def both(direct, way, **kwargs):
    """The page's messages as PostgreSQL gives them, when it is asked for the second time."""
    with direct.connect('solo') as conn:
        mine = way(conn)
        page(mine, **kwargs)
        return page(mine, **kwargs)


def check_pages(shoal, conn, way, expected, pages=4, **kwargs):
    """The same page again and again, each answer compared; the last one counted."""
    mine = way(conn)
    page(mine, **kwargs)
    for n in range(pages):
        with Counted(shoal) as counted:
            found = difference(expected, page(mine, **kwargs))
        assert found is None, f'page {n}\n' + found
    assert conn.alive()
    return counted


def children_in(expected):
    return types_of(expected).count('C') - 1


# -- exact: REPEATABLE READ -----------------------------------------------------------------------------------

@pytest.mark.parametrize('way', WAYS, ids=lambda w: w.__name__)
def test_a_page_in_repeatable_read_is_answered_by_one_batch(shoal, direct, way):
    # Every ORM page with a lazy relation: the same bytes, and two queries instead of a hundred and one.
    expected = both(direct, way, begin=RR)
    with shoal.connect('solo') as conn:
        counted = check_pages(shoal, conn, way, expected, begin=RR)
    assert counted.sent == 1 and counted.hits == children_in(expected) - 3, counted.__dict__


def test_postgresql_executes_a_handful_of_statements(shoal, clusters):
    # The claim itself, by PostgreSQL's own count: A and one batch, and what stands around them.
    with shoal.connect('solo') as conn:
        way = Extended(conn)
        learn(way, begin=RR)
        with Statements(clusters[0]) as seen:
            page(way, begin=RR)
        assert seen.selects == 2 and seen.all <= 8, seen.texts
    with shoal.connect('stale') as conn:
        learn(Extended(conn))
        with Statements(clusters[0]) as seen:
            page(Extended(conn))
        assert seen.all == 2, seen.texts


class Statements:
    """What one server has executed inside the block, from its log."""

    def __init__(self, cluster):
        self.cluster = cluster

    def __enter__(self):
        self.cluster.sql("ALTER SYSTEM SET log_statement = 'all'", 'SELECT pg_reload_conf()')
        wait_until('the server to log', lambda: self.cluster.query('SHOW log_statement') == [['all']])
        time.sleep(0.2)
        self.size = self.cluster.log.stat().st_size
        return self

    def __exit__(self, *exc):
        self.cluster.sql("ALTER SYSTEM RESET log_statement", 'SELECT pg_reload_conf()')
        text = self.cluster.log.read_bytes()[self.size:].decode(errors='replace')
        self.texts = [t for t in re.findall(r'LOG:  (?:statement|execute [^:]*): (.*)', text)
                      if re.search('FROM (users|posts)|^(BEGIN|COMMIT|SAVEPOINT|ROLLBACK|RELEASE|SET)', t)]
        self.selects = len([t for t in self.texts if t.startswith('SELECT')])
        self.all = len(self.texts)


@pytest.mark.parametrize('child, columns', [
    ('SELECT count(*), max(id) FROM comments WHERE post = ?', (0,)),
    ('SELECT id, body FROM comments WHERE post = ? ORDER BY id DESC LIMIT 3', (0,)),
    ("SELECT v FROM lines WHERE post = ? AND author = ?", (0, 1)),
    ("SELECT u.name, p.title FROM users u JOIN posts p ON p.author = u.id WHERE u.id = ? ORDER BY p.id LIMIT 2", (1,)),
    ('SELECT v FROM parts WHERE id = ?', (1,)),
], ids=['aggregate', 'many rows', 'two keys', 'join', 'partitions'])
@pytest.mark.parametrize('way', [Simple, Extended], ids=lambda w: w.__name__)
def test_children_of_every_kind(shoal, direct, way, child, columns):
    expected = both(direct, way, child=child, columns=columns, begin=RR)
    with shoal.connect('solo') as conn:
        counted = check_pages(shoal, conn, way, expected, child=child, columns=columns, begin=RR)
    assert counted.sent == 1 and counted.hits > 80, (counted.__dict__, patterns(shoal, child[:20]))


def test_uuids_from_rows_and_two_relations_of_one_parent(shoal, direct):
    parent = 'SELECT id, author, code::text FROM posts ORDER BY id LIMIT 60'

    def twice(way):
        seen = way.conn.exchange(query(RR))
        answer = way.parent(parent)
        for row in rows_of(answer):
            seen += way.child('SELECT v FROM things WHERE code = ?', row[2].decode())
        for row in rows_of(answer):
            if row[1] is not None:
                seen += way.child(CHILD, row[1].decode())
        return seen + way.conn.exchange(query('COMMIT'))

    with direct.connect('solo') as conn:
        expected = twice(Extended(conn))
    with shoal.connect('solo') as conn:
        for _ in range(5):
            with Counted(shoal) as counted:
                found = difference(expected, twice(Extended(conn)))
            assert found is None, '\n' + found
    assert counted.sent == 2 and counted.hits > 100, (counted.__dict__, patterns(shoal))


def test_interleaved_relations(shoal, direct):
    # for post in posts: post.author, post.comments - the children take turns.
    def mixed(way):
        seen = way.conn.exchange(query(RR))
        answer = way.parent('SELECT id, author FROM posts WHERE author IS NOT NULL ORDER BY id LIMIT 50')
        for row in rows_of(answer):
            seen += way.child(CHILD, row[1].decode())
            seen += way.child('SELECT id, body FROM comments WHERE post = ? ORDER BY id', row[0].decode())
        return seen + way.conn.exchange(query('COMMIT'))

    with direct.connect('solo') as conn:
        expected = mixed(Extended(conn))
    with shoal.connect('solo') as conn:
        for _ in range(5):
            with Counted(shoal) as counted:
                found = difference(expected, mixed(Extended(conn)))
            assert found is None, '\n' + found
    assert counted.sent == 2 and counted.hits == 98, (counted.__dict__, patterns(shoal))


def test_an_identity_map_skips_what_it_has(shoal, direct):
    # SQLAlchemy asks once for each author; rows that repeat one are passed over.
    def page_once(way):
        seen, met = way.conn.exchange(query(RR)), set()
        answer = way.parent('SELECT id, id % 30 + 1 FROM posts ORDER BY id LIMIT 90')
        for row in rows_of(answer):
            if row[1] not in met:
                met.add(row[1])
                seen += way.child(CHILD, row[1].decode())
        return seen + way.conn.exchange(query('COMMIT'))

    with direct.connect('solo') as conn:
        expected = page_once(Extended(conn))
    with shoal.connect('solo') as conn:
        for _ in range(5):
            with Counted(shoal) as counted:
                found = difference(expected, page_once(Extended(conn)))
            assert found is None, '\n' + found
    assert counted.sent == 1 and counted.hits == 29


def test_set_transaction_counts_as_begin_does(shoal):
    # Sequelize and TypeORM: BEGIN, then SET TRANSACTION ISOLATION LEVEL.
    with shoal.connect('solo') as conn:
        def once():
            conn.query('BEGIN')
            conn.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ')
            page(Extended(conn))
            conn.query('COMMIT')
        for _ in range(4):
            once()
        with Counted(shoal) as counted:
            once()
    assert counted.hits > 80


@pytest.mark.parametrize('begin', ['BEGIN', 'BEGIN ISOLATION LEVEL SERIALIZABLE', 'BEGIN; SELECT 1; COMMIT', None])
def test_nothing_is_fetched_ahead_elsewhere(shoal, begin):
    # READ COMMITTED is opt-in; SERIALIZABLE never: what was read decides who must fail.
    with shoal.connect('solo') as conn:
        with Counted(shoal) as counted:
            learn(Extended(conn), pages=5, begin=begin)
    assert counted.sent == counted.hits == 0


def test_the_snapshot_is_the_transactions(shoal, clusters, fresh):
    # What others commit in the middle of the loop is not seen, as in PostgreSQL.
    with shoal.connect('solo') as conn:
        way = Extended(conn)
        learn(way, begin=RR)

        def write(n):
            if n == 20:
                clusters[0].sql("UPDATE users SET name = 'changed'", database='solo', user='app')
        with Counted(shoal) as counted:
            seen = page(way, begin=RR, each=write)
        assert counted.hits > 80
        assert not [r for r in rows_of(seen) if b'changed' in r]
        assert [r for r in rows_of(page(way, begin=RR)) if b'changed' in r]


@pytest.mark.parametrize('write', [
    "UPDATE users SET name = 'mine' WHERE id = 149", "DELETE FROM users WHERE id = 149",
    'SELECT touch(149)', "WITH w AS (UPDATE users SET name = 'mine' WHERE id = 149 RETURNING id) SELECT * FROM w",
    "DO $$ BEGIN UPDATE users SET name = 'mine' WHERE id = 149; END $$"])
def test_own_writes_are_seen_at_once(shoal, direct, write, fresh):
    # Row 4 of the page is author 149; it is written after the second child, in the same transaction.
    begin = 'BEGIN ISOLATION LEVEL REPEATABLE READ'

    def run(conn, statement):
        def each(n):
            if n == 2 and statement:
                conn.query(statement)
        seen = conn.exchange(query(begin)) + page(Extended(conn), each=each)
        conn.query('ROLLBACK')
        return seen

    with direct.connect('solo') as conn:
        expected = run(conn, write)
    with shoal.connect('solo') as conn:
        for _ in range(4):
            run(conn, None)
        found = difference(expected, run(conn, write))
        assert found is None, '\n' + found


def test_savepoints_and_rollbacks_of_the_client(shoal, direct, fresh):
    def run(conn, changes=True):
        way = Extended(conn)
        seen = conn.exchange(query('BEGIN ISOLATION LEVEL REPEATABLE READ')) if changes else []

        def each(n):
            if changes and n == 10:
                seen.extend(conn.exchange(query("SAVEPOINT a; UPDATE users SET name = 'lost'")))
            if changes and n == 20:
                seen.extend(conn.exchange(query('ROLLBACK TO a')))
            if changes and n == 30:
                seen.extend(conn.exchange(query('SAVEPOINT "_shoal_ahead"')))
            if changes and n == 40:
                seen.extend(conn.exchange(query('RELEASE "_shoal_ahead"; RELEASE a')))
        seen += page(way, each=each, begin=None if changes else RR)
        return seen + (conn.exchange(query('ROLLBACK')) if changes else [])

    with direct.connect('solo') as conn:
        expected = run(conn)
    with shoal.connect('solo') as conn:
        for _ in range(4):
            run(conn, changes=False)
        for _ in range(2):
            found = difference(expected, run(conn))
            assert found is None, '\n' + found


# -- errors, cancels, deaths ---------------------------------------------------------------------------------------

def test_a_poisoned_key_fails_only_its_own_statement(shoal, direct):
    # Author 60 divides by zero. In the transaction nothing may fail before that one is asked for.
    child = 'SELECT 100 / d, id FROM ratios WHERE id = '
    parent = 'SELECT id, id + 20 FROM posts ORDER BY id LIMIT 60'

    def run(conn):
        return page(Extended(conn), child=child, parent=parent, begin=RR)

    with direct.connect('solo') as conn:
        expected = run(conn)
    assert len(errors_of(expected)) > 1  # 22012, then 25P02 up to the COMMIT
    with shoal.connect('solo') as conn:
        for _ in range(6):
            found = difference(expected, run(conn))
            assert found is None, '\n' + found
    with shoal.connect('stale') as conn:
        for _ in range(6):
            errors = errors_of(page(Extended(conn), child=child, parent=parent))
            assert [e.fields['C'] for e in errors] == ['22012']


def test_a_cancel_while_the_batch_runs(shoal, direct):
    # The first child waits for the batch of all. Its cancel must end it, and fail the transaction.
    child = 'SELECT id, (SELECT count(*) FROM generate_series(1, 30000 + id)) FROM users WHERE id = '
    with shoal.connect('solo') as conn:
        way = Extended(conn)
        learn(way, child=child, begin=RR, rows=25)
        for _ in range(3):
            conn.query(RR)
            rows = rows_of(way.parent())
            conn.send(extended(child + '$1', [rows[0][1].decode()]))
            time.sleep(0.02)
            conn.cancel()
            seen = conn.until('Z')
            if errors_of(seen):
                assert errors_of(seen)[0].fields['C'] == '57014' and conn.status == 'E'
                assert errors_of(way.child(child, 1))[0].fields['C'] == '25P02'
            conn.query('ROLLBACK')
            assert conn.alive()


def test_a_client_that_dies_in_mid_loop(shoal):
    for n in range(6):
        conn = shoal.connect('solo')
        way = Extended(conn)
        learn(way, pages=3, begin=RR)
        conn.query(RR)
        rows = rows_of(way.parent())
        if n % 2:
            way.child(CHILD, rows[0][1].decode())
        else:
            conn.send(extended(CHILD + '$1', [rows[0][1].decode()]))
        conn.abort()
    with shoal.connect('solo') as conn:
        assert conn.alive()
    wait_until('what they kept to be given back', lambda: stats(shoal)['n1_memory'] == 0)


def test_the_server_dies_in_mid_loop(shoal, clusters):
    # The transaction is gone; rows that are kept must not pretend that it is not.
    with shoal.connect('solo') as conn:
        way = Extended(conn)
        learn(way, begin=RR)
        conn.query(RR)
        rows = rows_of(way.parent())
        way.child(CHILD, rows[0][1].decode())
        pid = [r for r in shoal.console('SHOW CLIENTS') if r['server_pid']][0]['server_pid']
        clusters[0].query(f'SELECT pg_terminate_backend({pid}, 5000)')
        time.sleep(0.3)
        assert errors_of(way.child(CHILD, rows[1][1].decode()))[0].fields['C'] == '25P02'
        conn.query('ROLLBACK')
        assert conn.alive()


def test_rollback_throws_away(shoal, fresh, clusters):
    with shoal.connect('solo') as conn:
        way = Extended(conn)
        learn(way, begin=RR)
        conn.query(RR)
        rows = rows_of(way.parent())
        way.child(CHILD, rows[0][1].decode())
        conn.query('ROLLBACK')
        clusters[0].sql("UPDATE users SET name = 'after'", database='solo', user='app')
        assert rows_of(way.child(CHILD, rows[1][1].decode()))[0][1] == b'after'


# -- bounded staleness ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize('way', [Simple, Binary, Prepared], ids=lambda w: w.__name__)
@pytest.mark.parametrize('begin', [None, 'BEGIN'])
def test_a_page_where_age_is_allowed(shoal, direct, way, begin):
    expected = both(direct, way, begin=begin)
    with shoal.connect('stale') as conn:
        counted = check_pages(shoal, conn, way, expected, begin=begin)
    assert counted.sent == 1 and counted.hits > 80


def stale_loop(shoal, clusters, database, between, after=30):
    """A page whose rows are changed behind its back at row `after`; the names of the children from there."""
    conn = shoal.connect(database)
    way = Extended(conn)
    learn(way)
    rows = [r for r in rows_of(way.parent()) if r[1] is not None]
    names = []
    for n, row in enumerate(rows):
        if n == after:
            between(conn)
        names.append(rows_of(way.child(CHILD, row[1].decode()))[0][1].decode())
    conn.close()
    return names[:after], names[after:]


UPDATE = "UPDATE users SET name = 'new'"


def test_what_nobody_tells_us_of_is_old_for_its_age_at_most(shoal, clusters, fresh):
    # A write that does not pass through Shoal is seen when the age is over, not later.
    before, behind = stale_loop(shoal, clusters, 'stale', lambda _: clusters[0].sql(UPDATE, database='solo', user='app'))
    assert set(behind) & {'new'} == set()

    def wait(_):
        clusters[0].sql(UPDATE, database='solo', user='app')
        time.sleep(0.35)
    before, behind = stale_loop(shoal, clusters, 'brief', wait)
    assert set(behind) == {'new'}


@pytest.mark.parametrize('write', [UPDATE, 'BEGIN; ' + UPDATE + '; COMMIT', 'SELECT touch(id) FROM users',
                                   f"COPY"], ids=['update', 'multi', 'function', 'copy'])
def test_a_write_of_the_session_is_seen_at_once(shoal, clusters, fresh, write):
    def own(conn):
        if write == 'COPY':
            conn.query('BEGIN')
            conn.query('ALTER TABLE users DISABLE TRIGGER USER')
            conn.query(UPDATE)
            conn.query('COMMIT')
        else:
            conn.query(write)
    before, behind = stale_loop(shoal, clusters, 'stale', own)
    assert all(n == 'new' or n.endswith('!') for n in behind)


@pytest.mark.parametrize('how', ['autocommit', 'extended', 'transaction', 'function', 'solo'])
def test_a_write_of_another_client_on_another_worker_is_seen(shoal, clusters, fresh, how):
    # It was acknowledged before the next child is asked for: the child must see it.
    def write(conn):
        with other_worker(shoal, 'solo' if how == 'solo' else 'stale', conn) as other:
            if how == 'extended':
                other.execute('UPDATE users SET name = $1', ['new'])
            elif how == 'transaction':
                other.query('BEGIN')
                other.query(UPDATE)
                other.query('SELECT 1')
                other.query('COMMIT')
            elif how == 'function':
                other.query('SELECT touch(id) FROM users')
            else:
                other.query(UPDATE)
    before, behind = stale_loop(shoal, clusters, 'stale', write)
    assert all(n == 'new' or n.endswith('!') for n in behind), behind[:3]


def test_an_uncommitted_write_of_another_changes_nothing(shoal, clusters, fresh):
    others = []

    def write(conn):
        others.append(other_worker(shoal, 'stale', conn))
        others[0].query('BEGIN')
        others[0].query(UPDATE)
    before, behind = stale_loop(shoal, clusters, 'stale', write)
    assert not set(behind) & {'new'}
    others[0].query('ROLLBACK')
    others[0].close()


def loop_of(shoal, child, parent, between, database='stale'):
    """Values of the first column of each child, before and after `between` is called at row 20."""
    with shoal.connect(database) as conn:
        way = Extended(conn)
        learn(way, child=child, parent=parent, columns=(0,))
        values = []
        rows = rows_of(way.parent(parent))
        for n, row in enumerate(rows):
            if n == 20:
                between(conn)
            got = rows_of(way.child(child, row[0].decode()))
            values.append(got[0][0] if got else None)
        return values[20:]


def test_a_cascade_and_a_partition_count_as_writes(shoal, clusters):
    # DELETE of owners deletes from owned; an INSERT into parts_1 is one into parts.
    parent = 'SELECT id FROM owners ORDER BY id LIMIT 50'

    def cascade(conn):
        with other_worker(shoal, 'stale', conn) as other:
            other.query('DELETE FROM owners WHERE id BETWEEN 21 AND 50')
    assert set(loop_of(shoal, 'SELECT v FROM owned WHERE id = ', parent, cascade)) == {None}

    def partition(conn):
        with other_worker(shoal, 'stale', conn) as other:
            other.query("UPDATE parts_1 SET v = 'new'")
    parent = 'SELECT id FROM users ORDER BY id LIMIT 50'
    assert set(loop_of(shoal, 'SELECT v FROM parts WHERE id = ', parent, partition)) == {b'new'}


@pytest.mark.parametrize('statement', ['SET search_path = other_path, public', "SET application_name = 'x'",
                                       "SELECT set_config('search_path', 'other_path, public', false)"])
def test_any_set_throws_away(shoal, statement, fresh):
    # The same text means another table now.
    with shoal.connect('stale') as conn:
        way = Extended(conn)
        learn(way)
        rows = rows_of(way.parent())
        way.child(CHILD, rows[0][1].decode())
        with Counted(shoal) as counted:
            conn.query(statement)
            answer = rows_of(way.child(CHILD, rows[1][1].decode()))[0][1].decode()
        assert answer.startswith('other' if 'other_path' in statement else 'user'), answer
        assert counted.hits == 0


def test_row_security_is_never_answered_from_what_another_saw(shoal, clusters):
    # A policy that reads a setting: whoever changes it must see other rows.
    child = 'SELECT v FROM secured WHERE id = '
    with shoal.connect('stale', user='other') as conn:
        way = Extended(conn)
        conn.query("SET app.tenant = 't0'")
        learn(way, child=child)
        rows = rows_of(way.parent())
        seen = {}
        for n, row in enumerate(r for r in rows if r[1] is not None):
            if n == 20:
                conn.query("SET app.tenant = 't1'")
            got = rows_of(way.child(child, row[1].decode()))
            assert bool(got) == (int(row[1]) % 2 == (1 if n >= 20 else 0))


def test_users_and_tables_may_have_ages_of_their_own(workspace, clusters):
    from tests.support.shoal import Shoal
    shoal = Shoal(workspace, {'s0': clusters[0]}, databases={'solo': {}}, batch={'prefetch_wait': '5s'},
                  users={'admin': {'admin': 'on'}, 'app': {}, 'other': {'prefetch_max_age_ms': '20000'}},
                  tables={'public.things': {'prefetch_max_age_ms': '20000'}}, name='ages')
    shoal.start()
    try:
        for user, child, column, hits in (('app', CHILD, 1, False), ('other', CHILD, 1, True),
                                          ('app', 'SELECT v FROM things WHERE code = ?', 2, True)):
            with shoal.connect('solo', user=user) as conn:
                with Counted(shoal) as counted:
                    learn(Extended(conn), pages=5, child=child, columns=(column,),
                          parent='SELECT id, author, code FROM posts ORDER BY id LIMIT 40')
            assert (counted.hits > 30) == hits, (user, child)
    finally:
        shoal.finish()


# -- what an operator sees ------------------------------------------------------------------------------------------

def test_show_n1(shoal):
    child = 'SELECT mail, name FROM users WHERE id = '
    with shoal.connect('solo') as conn:
        learn(Simple(conn), pages=4, child=child)
        row = patterns(shoal, 'SELECT mail, name FROM users')[0]
        assert row['database'] == 'solo' and 'FROM posts' in row['parent'] and row['column'] == '2'
        assert row['prefetched'] == 'no' and 'prefetch_max_age_ms' in row['why_not']
        assert int(row['loops']) == 4 and int(row['n_max']) == 93 and int(row['saved']) == 0
        assert int(row['time_us']) > 0
        learn(Simple(conn), pages=2, child=child, begin=RR)
        row = patterns(shoal, 'SELECT mail, name FROM users')[0]
        assert row['prefetched'] == 'yes' and row['why_not'] is None and int(row['saved']) == 184


def test_a_session_without_a_loop_is_not_listed(shoal):
    before = len(patterns(shoal))
    with shoal.connect('solo') as conn:
        for n in range(1, 60):
            conn.query(f'SELECT n FROM users WHERE id = {n}')
    with shoal.connect('solo') as conn:
        conn.query('SELECT 1')
        for n in range(1, 60):
            conn.query(f'SELECT n, id FROM users WHERE id = {n}')
    assert len(patterns(shoal)) == before


def test_results_too_large_and_loops_that_do_not_fit_are_told(shoal):
    with shoal.connect('solo') as conn:
        learn(Simple(conn), parent='SELECT id, author FROM posts a, generate_series(1, 3) ORDER BY 1', rows=10)
        row = [r for r in patterns(shoal) if 'generate_series' in r['parent']][0]
        assert row['prefetched'] == 'no' and 'n1_rows_max' in row['why_not']
        for _ in range(4):
            conn.query('SELECT id FROM posts ORDER BY title LIMIT 5')
            for n in range(300, 310):
                conn.query(f'SELECT mail FROM users WHERE id = {n}')
        row = [r for r in patterns(shoal) if 'ORDER BY title' in r['parent']][0]
        assert row['prefetched'] == 'no' and 'not those' in row['why_not']


def test_memory_comes_back(shoal):
    with shoal.connect('stale') as conn:
        learn(Extended(conn), pages=5)
        assert stats(shoal)['n1_memory'] > 0
        wait_until('an idle session to give back', lambda: stats(shoal)['n1_memory'] == 0)


def test_loops_that_waste_are_left_alone(shoal):
    # A page that stops after three rows: after two such batches there is no third one.
    with shoal.connect('solo') as conn:
        child = 'SELECT id, n, mail FROM users WHERE id = '
        learn(Extended(conn), child=child, begin=RR)
        with Counted(shoal) as counted:
            learn(Extended(conn), pages=8, child=child, begin=RR, rows=3)
    assert 2 <= counted.sent <= 3


def test_many_clients_at_once(shoal, direct):
    # Loops and writers side by side; every answer of a REPEATABLE READ page equals the first one's.
    expected = both(direct, Extended, child='SELECT id, mail FROM users WHERE id = ', begin=RR)
    failures = []

    def client():
        try:
            with shoal.connect('solo') as conn:
                page(Extended(conn), child='SELECT id, mail FROM users WHERE id = ', begin=RR)
                for _ in range(6):
                    found = difference(expected, page(Extended(conn), child='SELECT id, mail FROM users WHERE id = ',
                                                      begin=RR))
                    if found:
                        failures.append(found)
        except Exception as err:
            failures.append(repr(err))
    threads = [threading.Thread(target=client) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures[0]
