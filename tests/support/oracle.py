"""oracle.py - schemas, statements and answers by the thousand: what PostgreSQL says is asked once and kept.

    plan = Schema(rng)                  tables of random key types, views, partitions, policies, NULLs
    plan.create(direct)                 made and filled
    questions = plan.questions(n)       SQL with keys in it, simple and extended, good and bad
    answer_all(direct, questions)       each one's exact bytes, from PostgreSQL alone

A fleet of clients then sends pipelines of them through Shoal and compares bytes with bytes, which costs
next to nothing: so a million answers are a matter of minutes. All of it follows from one seed.
"""
import threading
import time

from .wire import Closed, PgError, bind, describe, error_fields, errors_of, execute, parse, query, rows_of, sync


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


# How keys of a type are made in SQL from a number, and spelt by clients; what no value of it looks like.
KINDS = {
    'int': ('{g}', lambda k, r: r.choice([str(k)] * 6 + [quoted(f' {k} '), f'+{k}', quoted(str(k))]), ["'x'", '1.5', "'99999999999'"]),
    'bigint': ('{g}::bigint * 3', lambda k, r: r.choice([str(k * 3)] * 6 + [quoted(str(k * 3))]), ["''", '9' * 20]),
    'smallint': ('({g} % 30000)::smallint', lambda k, r: r.choice([str(k), quoted(str(k))]), ['40000', "'40000'"]),
    'text': ("'k' || {g}", lambda k, r: quoted(f'k{k}'), []),
    'varchar(20)': ("'V' || {g}", lambda k, r: quoted(f'V{k}'), []),
    'char(8)': ("'c' || {g}", lambda k, r: quoted(f'c{k}' + ' ' * r.randrange(3)), []),
    'uuid': ("lpad(to_hex({g}), 32, '0')::uuid",
             lambda k, r: quoted(r.choice([str.lower, str.upper])(f'00000000-0000-0000-0000-{k:012x}')), ["'not one'"]),
    'numeric': ('{g} / 4.0', lambda k, r: r.choice([quoted, str])(f'{k / 4:.{r.choice([2, 2, 3])}f}'), ["'x'"]),
    'date': ("date '2000-01-01' + {g}",
             lambda k, r: quoted(time.strftime('%Y-%m-%d', time.gmtime(946684800 + 86400 * k))), ["'2001-02-30'"]),
    'timestamptz': ("timestamptz '2020-01-01 00:00:00+00' + {g} * interval '1 hour'",
                    lambda k, r: quoted(time.strftime('%Y-%m-%d %H:%M:%S+00', time.gmtime(1577836800 + 3600 * k))), []),
    'citext': ("'Ci' || {g}", lambda k, r: quoted(r.choice([str.lower, str.upper])(f'ci{k}')), []),
    'colour': ("(ARRAY['red','green','blue'])[1 + {g} % 3]::colour", lambda k, r: r.choice(["'red'", "'green'"]), ["'pink'"]),
    'int[]': ('ARRAY[{g}, NULL]', lambda k, r: quoted('{%d,NULL}' % k), ["'{1'"]),
    'boolean': ('{g} % 2 = 0', lambda k, r: r.choice(["'t'", "'no'", "'1'"]), ["'maybe'"]),
    'inet': ("('10.1.' || {g} / 250 || '.' || {g} % 250)::inet", lambda k, r: quoted(f'10.1.{k // 250}.{k % 250}'), ["'10.1.1'"]),
}
FEW = ('colour', 'boolean')  # never unique
VALUES = ['g::text', "CASE WHEN g % 5 = 0 THEN NULL ELSE 'v' || g END", 'g / 7.0::float8', "ARRAY[g::text, NULL, 'a,\"b']",
          "jsonb_build_object('g', g, 'n', NULL)", "date '1999-12-31' + g", 'g % 3 = 0', "decode(lpad(to_hex(g), 8, '0'), 'hex')",
          "repeat('fat ', g % 40)", "row(g, 'x')::text", 'g * 1.10']
VALUE_TYPES = ['text', 'text', 'float8', 'text[]', 'jsonb', 'date', 'boolean', 'bytea', 'text', 'text', 'numeric(12,2)']
ROWS = 400


class Table:
    def __init__(self, number, rng):
        self.name, self.rng = f'gen{number}', rng
        self.keys = rng.sample(sorted(KINDS), rng.choice([1, 1, 1, 2]))
        few = [key for key in self.keys if key in FEW]
        self.unique = not few and rng.random() < 0.6
        self.values = [rng.randrange(len(VALUES)) for _ in range(rng.randrange(1, 5))]
        self.parted = self.unique and self.keys[0] in ('int', 'bigint', 'text', 'uuid') and rng.random() < 0.3
        self.policy = not self.parted and rng.random() < 0.2
        self.view = rng.random() < 0.4

    def statements(self):
        columns = [f'k{n} {kind}' for n, kind in enumerate(self.keys)]
        columns += [f'v{n} {VALUE_TYPES[v]}' for n, v in enumerate(self.values)]
        keys = ', '.join(f'k{n}' for n in range(len(self.keys)))
        head = f'CREATE TABLE {self.name} ({", ".join(columns)}'
        if self.unique:
            head += f', PRIMARY KEY ({keys})'
        yield head + ')' + (' PARTITION BY HASH (k0)' if self.parted else '')
        for part in range(2 if self.parted else 0):
            yield f'CREATE TABLE {self.name}_{part} PARTITION OF {self.name} FOR VALUES WITH (MODULUS 2, REMAINDER {part})'
        # Without a unique key: two rows of each, in no order of their own.
        source = f'generate_series(1, {ROWS}) g' + ('' if self.unique else ', generate_series(1, 2) again')
        yield (f'INSERT INTO {self.name} SELECT ' + ', '.join(
            [KINDS[kind][0].format(g='g') for kind in self.keys] + [VALUES[v] for v in self.values]) + f' FROM {source}')
        if not self.unique:
            yield f'CREATE INDEX ON {self.name} ({keys})'
        if self.policy:
            yield f'ALTER TABLE {self.name} ENABLE ROW LEVEL SECURITY'
            yield f"CREATE POLICY p ON {self.name} USING (current_user <> 'other' OR v0 IS NOT NULL)"
        if self.view:
            yield f'CREATE VIEW {self.name}_view AS SELECT * FROM {self.name} WHERE v0 IS NOT NULL'
        yield f'GRANT SELECT ON {self.name} TO other'
        if self.view:
            yield f'GRANT SELECT ON {self.name}_view TO other'

    def shape(self, rng):
        """SQL with {0}, {1} for the keys, ordered where order could differ."""
        values = [f'v{n}' for n in range(len(self.values))]
        keys = [f'k{n}' for n in range(len(self.keys))]
        name = f'{self.name}_view' if self.view and rng.random() < 0.4 else self.name
        where = ' AND '.join(f'{key} = {{{n}}}' for n, key in enumerate(keys))
        everything = ', '.join(f'{column}::text COLLATE "C"' for column in keys + values)
        form = rng.randrange(6)
        if form == 0:
            return f'SELECT count(*), max(v0::text) FROM {name} WHERE {where}'
        if form == 1:
            return f'SELECT {", ".join(keys + values)} FROM {name} WHERE {where} ORDER BY {everything}'
        if form == 2:
            return f'SELECT {", ".join(rng.sample(values, 1) + keys)} FROM {name} WHERE {where} ORDER BY {everything} LIMIT 1'
        if form == 3:
            return f'SELECT * FROM {name} WHERE {where} AND v0 IS NOT NULL ORDER BY {everything}'
        if form == 4:
            return (f'SELECT a.v0, (SELECT count(*) FROM {self.name} b WHERE b.k0 = a.k0) FROM {name} a WHERE '
                    + ' AND '.join(f'a.{key} = {{{n}}}' for n, key in enumerate(keys))
                    + ' ORDER BY ' + everything.replace('k', 'a.k').replace('v', 'a.v'))
        if self.unique and name == self.name:
            return f'SELECT {", ".join(values)} FROM {name} WHERE {where}'
        return f'SELECT DISTINCT v0::text FROM {name} WHERE {where} ORDER BY 1'


class Question:
    __slots__ = ('data', 'answer', 'sql')

    def __init__(self, sql, data):
        self.sql, self.data, self.answer = sql, data, None


class Schema:
    def __init__(self, rng, tables=10):
        self.rng = rng
        self.tables = [Table(n, rng) for n in range(tables)]

    def create(self, run):
        run('CREATE EXTENSION IF NOT EXISTS citext')
        run("CREATE TYPE colour AS ENUM ('red', 'green', 'blue')")
        for table in self.tables:
            for statement in table.statements():
                run(statement)
        run('ANALYZE')

    def question(self, table, shape):
        rng, spelt = self.rng, []
        for kind in table.keys:
            _, spell, bad = KINDS[kind]
            k = rng.randrange(1, ROWS + 20)
            spelt.append(rng.choice(bad) if bad and rng.random() < 0.02 else spell(k, rng))
        if rng.random() < 0.6 or any(not text.startswith("'") for text in spelt):
            sql = shape.format(*spelt)
            return Question(sql, query(sql))
        sql = shape.format(*[f'${n + 1}' for n in range(len(spelt))])
        values = [text[1:-1].replace("''", "'") for text in spelt]
        if rng.random() < 0.02:
            values[0] = None
        return Question(f'{sql} {values}', parse('', sql) + bind('', '', values, [], rng.choice([[], [], [1]])) +
                        describe('P') + execute() + sync())

    def questions(self, shapes, each):
        """A few shapes of random tables, many keys of each."""
        made = []
        for _ in range(shapes):
            table = self.rng.choice(self.tables)
            shape = table.shape(self.rng)
            made += [self.question(table, shape) for _ in range(each)]
        return made


def read_exactly(conn, size, patience_s=60):
    """That many bytes as they come; fewer at the end of the connection."""
    parts, have, end = [conn.buf], len(conn.buf), time.monotonic() + patience_s
    conn.buf = b''
    while have < size and time.monotonic() < end:
        got = conn.receive_bytes(1)
        if got == b'':
            break
        if got:
            parts.append(got)
            have += len(got)
    return b''.join(parts)


def answer_all(conn, questions):
    """Each question's bytes, from PostgreSQL alone. Pipelined, so that it does not take long."""
    for at in range(0, len(questions), 50):
        some = questions[at:at + 50]
        conn.send(b''.join(question.data for question in some))
        for question in some:
            seen = conn.until('Z')
            question.answer = b''.join(msg.type.encode() + (len(msg.body) + 4).to_bytes(4, 'big') + msg.body for msg in seen)


def first_difference(questions, got):
    at = 0
    for question in questions:
        want = question.answer
        have = got[at:at + len(want)]
        if have != want:
            same = next((n for n, (a, b) in enumerate(zip(want, have)) if a != b), min(len(want), len(have)))
            show = slice(max(same - 100, 0), same + 300)
            return (f'{question.sql}\n  at byte {same} of {len(want)}, {len(have)} are there\n'
                    f'  PostgreSQL {want[show]!r}\n  Shoal      {have[show]!r}')
        at += len(want)
    return f'{len(got) - at} bytes behind the last answer: {got[at:at + 300]!r}'


def play(conns, rng, questions, depth):
    """Each client pipelines `depth` of them; returns how many answers were compared."""
    plans = [[rng.choice(questions) for _ in range(depth)] for _ in conns]
    for conn, plan in zip(conns, plans):
        conn.send(b''.join(question.data for question in plan))
    for conn, plan in zip(conns, plans):
        want = b''.join(question.answer for question in plan)
        got = read_exactly(conn, len(want))
        assert got == want, first_difference(plan, got)
    return depth * len(conns)


class Chaos(threading.Thread):
    """Somebody who disturbs the fleet until he is told to stop; what he found wrong is in `wrong`."""

    def __init__(self, turn):
        super().__init__(daemon=True)
        self.turn, self.stopped, self.wrong, self.turns = turn, threading.Event(), [], 0

    def run(self):
        while not self.stopped.is_set():
            try:
                self.turn(self)
                self.turns += 1
            except (OSError, Closed) as err:
                self.wrong.append(repr(err))
            except (AssertionError, PgError) as err:
                self.wrong.append(str(err))

    def stop(self):
        self.stopped.set()
        self.join(60)


__all__ = ['Schema', 'Chaos', 'answer_all', 'play', 'error_fields', 'errors_of', 'rows_of']
