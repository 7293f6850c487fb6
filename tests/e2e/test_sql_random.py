"""Random SQL over two shards: whatever Shoal answers, one PostgreSQL with all the rows answers too.

The same schema and rows stand in one database alone (solo) and distributed over s0 and s1 (app). Statements
come from a grammar that fixes most shard keys, in many spellings, and leaves some open. Shoal may refuse one
with 0A000; what it answers must be the same multiset of rows (with LIMIT, all columns are ordered by), the same
tag or the same SQLSTATE. After every hundred writes the rows of both shards together are those of solo.
"""
import random
import struct
from collections import Counter

import pytest

from tests.support import host
from tests.support.wire import bind, describe, errors_of, execute, parse, query, rows_of, sync, tags_of

pytestmark = pytest.mark.shoal_only

STATEMENTS = 50000 if host.LONG else 2000
KEYS = 24

# name: columns with their kind (i integer, t text, n numeric), and the shard key
TABLES = {
    'users': ([('id', 'i'), ('name', 't'), ('age', 'i'), ('grp', 'i')], 'id'),
    'orders': ([('user_id', 'i'), ('id', 'i'), ('total', 'n'), ('note', 't')], 'user_id'),
    'marks': ([('user_id', 'i'), ('mark', 't'), ('n', 'i')], 'user_id'),
    'names': ([('name', 't'), ('v', 'i')], 'name'),
    '"Users"': ([('Id', 'i'), ('id', 'i'), ('Name', 't')], 'Id'),
    'notes': ([('id', 'i'), ('v', 't'), ('user_id', 'i')], None),
    'kinds': ([('grp', 'i'), ('label', 't')], None),
    'other.users': ([('id', 'i'), ('name', 't')], None),
    'other.orders': ([('id', 'i'), ('user_id', 'i'), ('note', 't')], 'id'),
}
DDL = ['CREATE SCHEMA other',
       'CREATE TABLE users (id bigint PRIMARY KEY, name text, age int, grp int)',
       'CREATE TABLE orders (user_id bigint, id int, total numeric(10,2), note text, PRIMARY KEY (user_id, id))',
       'CREATE TABLE marks (user_id int, mark text, n int)',
       'CREATE TABLE names (name text PRIMARY KEY, v int)',
       'CREATE TABLE "Users" ("Id" int PRIMARY KEY, id int, "Name" text)',
       'CREATE TABLE notes (id int PRIMARY KEY, v text, user_id bigint)',
       'CREATE TABLE kinds (grp int, label text)',
       'CREATE TABLE other.users (id bigint PRIMARY KEY, name text)',
       'CREATE TABLE other.orders (id int, user_id bigint, note text)']


def quoted(name):
    return f'"{name}"' if name != name.lower() else name


def seed_rows():
    """INSERTs, each of one row."""
    for k in range(1, KEYS + 1):
        yield f"INSERT INTO users (id, name, age, grp) VALUES ({k}, 'n{k % 10}', {k % 7}, {k % 4})"
        for n in range(k % 4):
            yield f"INSERT INTO orders VALUES ({k}, {n}, {k * n}.50, 'n{n}')"
        for n in range(k % 3):
            yield f"INSERT INTO marks (mark, n, user_id) VALUES ('n{n}', {k + n}, {k})"
        yield f'INSERT INTO "Users" VALUES ({k}, {KEYS - k}, \'n{k % 5}\')'
        yield f"INSERT INTO other.orders VALUES ({k}, {k % 5}, 'o{k}')"
        if k <= 10:
            yield f"INSERT INTO names VALUES ('n{k}', {k})"
            yield f"INSERT INTO notes VALUES ({k}, 'n{k}', {k * 2})"
            yield f"INSERT INTO other.users VALUES ({k}, 'other{k}')"
        if k <= 4:
            yield f"INSERT INTO kinds VALUES ({k % 4}, 'kind{k}')"


@pytest.fixture(scope='module')
def app(shoal, direct):
    with shoal.connect('app') as ours, direct.connect('solo') as theirs:
        for ddl in DDL:
            ours.query(ddl)
            theirs.query(ddl)
        for name, (_, key) in TABLES.items():
            if key:
                ours.query(f"SELECT shoal.distribute_table('{name}', '{key}')")
        for insert in seed_rows():
            ours.query(insert)
            theirs.query(insert)
    return shoal


# -- the grammar ------------------------------------------------------------------------------------

class Item:
    """A FROM item: its alias, columns, and for a distributed table the shard key."""

    def __init__(self, alias, columns, key=None):
        self.alias, self.columns, self.key = alias, columns, key

    def column(self, name, bare=False):
        return quoted(name) if bare else f'{self.alias}.{quoted(name)}'


class Maker:
    """One statement. All keys are fixed to few values, so that many statements stay on one shard."""

    def __init__(self, rng):
        self.rng = rng
        self.number, self.word = rng.randrange(1, KEYS + 1), f'n{rng.randrange(1, 11)}'
        self.aliases, self.ctes = 0, []
        self.home = rng.random() < 0.3

    def chance(self, p):
        return self.rng.random() < p

    # values: {i:5} and {t:n1} become literals or parameters in Statement

    def value(self, kind):
        rng = self.rng
        if kind == 'i':
            return '{i:%d}' % (self.number if self.chance(0.75) else rng.randrange(-1, KEYS + 2))
        if kind == 'n':
            return rng.choice(['1.5', '{i:%d}' % rng.randrange(0, 9), '0'])
        return '{t:%s}' % (self.word if self.chance(0.6) else rng.choice(['n0', 'n1', 'n5', 'o3', '']))

    def key_term(self, item, bare=False):
        kind = dict(item.columns)[item.key]
        column = item.column(item.key, bare)
        value = '{i:%d}' % self.number if kind == 'i' else '{t:%s}' % self.word
        if self.chance(0.06):
            value = self.value(kind)
        form = self.rng.random()
        if form < 0.6:
            return f'{column} = {value}'
        if form < 0.75:
            return f'{value} = {column}'
        if form < 0.8:
            return f'({column} = {value})'
        if form < 0.85:
            return f'({column}, 1) = ({value}, 1)'
        if form < 0.88:
            return f'{column} OPERATOR(pg_catalog.=) {value}'
        if form < 0.92:
            cast = self.rng.choice(['int8', 'bigint', 'int4', 'smallint', 'text', 'numeric'] if kind == 'i' else
                                   ['text', 'varchar', 'char(3)', 'bpchar', 'varchar(1)'])
            return f'{column} = {value}::{cast}'
        return self.rng.choice([f'{column} = {value} AND {column} IS NOT NULL', f'{column} IN ({value})',
                                f'{column} = ANY(ARRAY[{value}])', f'{column} = NULL',
                                f'{column} IS NOT DISTINCT FROM {value}', f'{column} <> {value}',
                                f'({column} = {value}) IS NOT FALSE', f'{column} BETWEEN {value} AND {value}'])

    def new_alias(self):
        self.aliases += 1
        return self.rng.choice(['a', 'b', 'u', 'o', 'users', 'orders']) if self.chance(0.04) else f'x{self.aliases}'

    # FROM

    def table(self):
        names = list(TABLES)
        name = self.rng.choice(names if self.home else names[:5] + names[-1:])
        columns, key = TABLES[name]
        alias = self.new_alias()
        only = self.rng.choice(['', '', '', '', 'ONLY '])
        text = f'{only}{name} AS {alias}'
        if self.chance(0.12) and '.' not in name and not name.startswith('"'):
            return f'{only}{name}', Item(name, columns, key)
        if self.chance(0.06):
            renamed = columns[1:] + columns[:1]  # the names go round
            names = [n for n, _ in renamed]
            return (f'{text}({", ".join(map(quoted, names))})',
                    Item(alias, list(zip(names, [k for _, k in columns])), names[0] if key else None))
        return text, Item(alias, columns, key)

    def item(self, depth, outer):
        roll = self.rng.random()
        if roll < 0.72 or depth <= 0:
            return self.table()
        alias = self.new_alias()
        if roll < 0.84:
            lateral = self.chance(0.4)
            body, columns = self.select(depth - 1, outer if lateral else [], named=True)
            return f'{"LATERAL " if lateral else ""}({body}) AS {alias}', Item(alias, columns)
        if roll < 0.88 and self.ctes:
            name, columns = self.rng.choice(self.ctes)
            return f'{name} AS {alias}', Item(alias, columns)
        if roll < 0.92:
            return f'generate_series(1, 3) AS {alias}(id)', Item(alias, [('id', 'i')])
        if roll < 0.96:
            return (f'(VALUES ({self.value("i")}, {self.value("t")}), (2, NULL)) AS {alias}(id, name)',
                    Item(alias, [('id', 'i'), ('name', 't')]))
        return f'(SELECT {self.value("i")} AS id, 3 AS grp) AS {alias}', Item(alias, [('id', 'i'), ('grp', 'i')])

    def from_clause(self, depth, outer):
        """Text, items, and whether their rows are joined by conditions that fix keys."""
        text, item = self.item(depth, outer)
        items = [item]
        while len(items) < 4 and self.chance(0.42):
            before = list(items)
            right, item = self.item(depth - 1, outer + items)
            if self.chance(0.1):
                more, second = self.item(0, [])
                right = f'({right} {self.rng.choice(["JOIN", "LEFT JOIN"])} {more} ON {self.join_term([item], second)})'
                items.append(second)
            items.append(item)
            how = self.rng.choice(['JOIN', 'JOIN', 'LEFT JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN', ',', 'CROSS JOIN',
                                   'NATURAL JOIN', 'NATURAL LEFT JOIN', 'USING', 'LEFT USING', 'FULL USING', 'RIGHT USING'])
            if 'LATERAL' in right and how.startswith(('RIGHT', 'FULL')):
                how = 'LEFT JOIN'
            if how in (',', 'CROSS JOIN') or how.startswith('NATURAL'):
                text = f'{text}{"" if how == "," else " "}{how} {right}'
            elif how.endswith('USING'):
                common = [n for n, _ in item.columns if any(n == m for i in before for m, _ in i.columns)]
                if not common:
                    text = f'{text} CROSS JOIN {right}'
                    continue
                kind = how[:-5]
                text = f'{text} {kind}JOIN {right} USING ({quoted(self.rng.choice(common))})'
            else:
                text = f'{text} {how} {right} ON {self.join_term(before, item)}'
        return text, items

    def join_term(self, before, item):
        terms = []
        left = self.rng.choice(before)
        if item.key and left.key and self.chance(0.7):
            a, b = item.column(item.key), left.column(left.key)
            if dict(item.columns)[item.key] == dict(left.columns)[left.key]:
                terms.append(f'{a} = {b}' if self.chance(0.5) else f'{b} = {a}')
        if item.key and self.chance(0.3):
            terms.append(self.key_term(item, self.chance(0.2)))
        if not terms or self.chance(0.2):
            terms.append(self.term(0, before + [item]))
        return self.rng.choice([' AND '] * 9 + [' OR ']).join(terms)

    # conditions and expressions

    def any_column(self, items, kind=None):
        found = [(i, n, k) for i in items for n, k in i.columns if kind is None or k == kind]
        if not found:
            return None
        item, name, kind = self.rng.choice(found)
        return item.column(name, self.chance(0.1)), kind

    def term(self, depth, items, outer=()):
        rng, roll = self.rng, self.rng.random()
        column = self.any_column(list(items) + list(outer)) if items or outer else None
        if column is None:
            return rng.choice(['true', '1 = 1', f'{self.value("i")} > 2'])
        text, kind = column
        if depth > 0 and roll < 0.35:
            scope = list(items) + list(outer)
            inner, columns = self.select(depth - 1, scope, width=1, kind=kind)
            return rng.choice([f'{"NOT " if self.chance(0.3) else ""}EXISTS ({inner})', f'{text} IN ({inner})',
                               f'{text} = ANY ({inner})', f'{text} <> ALL ({inner})', f'{text} NOT IN ({inner})'])
        if roll < 0.45:
            other = self.any_column(list(items) + list(outer), kind)
            return f'{text} {rng.choice(["=", "<", ">=", "<>"])} {other[0]}'
        if roll < 0.55:
            return f'{text} IS {rng.choice(["", "NOT "])}NULL'
        if roll < 0.62:
            return f'({self.term(0, items, outer)} OR {self.term(0, items, outer)})'
        if roll < 0.66:
            return f'NOT ({self.term(0, items, outer)})'
        return f'{text} {rng.choice(["=", "<", ">=", "<>", "="])} {self.value(kind)}'

    def where(self, depth, items, outer=()):
        terms = []
        for item in items:
            if item.key and self.chance(0.68):
                terms.append(self.key_term(item, self.chance(0.15)))
        for item in items:
            for other in outer:
                if item.key and other.key and self.chance(0.35) and \
                        dict(item.columns)[item.key] == dict(other.columns)[other.key]:
                    terms.append(f'{item.column(item.key)} = {other.column(other.key)}')
        if self.chance(0.45):
            terms.append(self.term(depth, items, outer))
        self.rng.shuffle(terms)
        if not terms:
            return ''
        return ' WHERE ' + self.rng.choice([' AND '] * 24 + [' OR ']).join(terms)

    def expression(self, depth, items, outer=()):
        roll = self.rng.random()
        column = self.any_column(list(items) + list(outer))
        if column is None or roll < 0.06:
            kind = self.rng.choice('it')
            return (f'{self.value(kind)}::{"int8" if kind == "i" else "text"}'), kind
        text, kind = column
        if depth > 0 and roll < 0.14:
            inner, columns = self.select(depth - 1, list(items) + list(outer), width=1, one=True)
            return f'({inner})', columns[0][1]
        if roll < 0.2 and kind == 'i':
            return f'coalesce({text}, 0) + 1', 'i'
        if roll < 0.25 and kind == 'i':
            return f'CASE WHEN {self.term(0, items, outer)} THEN {text} END', 'i'
        if roll < 0.28 and kind == 't':
            return f'upper({text})', 't'
        if roll < 0.31:
            return f'count(*) OVER (PARTITION BY {text})', 'i'
        return text, kind

    # SELECT

    def plain_select(self, depth, outer, width, kind, one):
        """One SELECT without ORDER BY; its columns get names c1, c2 ..."""
        rng = self.rng
        from_text, items = self.from_clause(depth, outer)
        where = self.where(depth, items, outer)
        aggregate = one or self.chance(0.25)
        if aggregate:
            group = None if one or kind else (self.any_column(items) if self.chance(0.6) else None)
            out = []
            for n in range(width):
                argument = self.any_column(items, kind if kind in ('i', 't', 'n') else None) or ('1', 'i')
                how = rng.choice(['min', 'max'])
                if not kind and self.chance(0.5):
                    out.append(rng.choice([(f'count({argument[0]})', 'i'), ('count(*)', 'i'),
                                           (f'count(DISTINCT {argument[0]})', 'i')]))
                else:
                    out.append((f'{how}({argument[0]})', argument[1]))
            tail = ''
            if group:
                out[0] = group
                form = rng.random()
                tail = f' GROUP BY {group[0]}' if form < 0.7 else f' GROUP BY GROUPING SETS (({group[0]}), ())' \
                    if form < 0.85 else f' GROUP BY ROLLUP ({group[0]})'
                if self.chance(0.3):
                    tail += ' HAVING count(*) > 0'
            elif self.chance(0.1):
                tail = ' HAVING count(*) > 1'
            distinct = ''
        else:
            out = [self.expression(depth, items, outer) for _ in range(width)]
            if kind:
                out[0] = self.any_column(items, kind) or (self.value(kind) + ('::text' if kind == 't' else '::int8'), kind)
            tail, distinct = '', 'DISTINCT ' if self.chance(0.12) else ''
        columns = [(f'c{n + 1}', k) for n, (_, k) in enumerate(out)]
        names = ', '.join(f'{text} AS {name}' for (text, _), (name, _) in zip(out, columns))
        return f'SELECT {distinct}{names} FROM {from_text}{where}{tail}', columns

    def select(self, depth, outer, width=None, kind=None, one=False, named=False):
        width = width or self.rng.randrange(1, 4)
        text, columns = self.plain_select(depth, outer, width, kind, one)
        if not one and depth > 0 and self.chance(0.12):
            word = self.rng.choice(['UNION', 'UNION ALL', 'INTERSECT', 'EXCEPT', 'EXCEPT ALL'])
            other = self.plain_select(depth - 1, outer, width, kind, one)
            kinds = [k for _, k in other[1]]
            if kinds == [k for _, k in columns]:
                text = f'{text} {word} {other[0]}'
        if not one and self.chance(0.15):
            order = ', '.join(str(n + 1) for n in range(width))
            text += f' ORDER BY {order}'
            if self.chance(0.6):
                text += f' LIMIT {self.rng.randrange(0, 6)}'
                if self.chance(0.4):
                    text += f' OFFSET {self.rng.randrange(0, 3)}'
        return text, columns

    def with_clause(self):
        texts = []
        recursive = self.chance(0.15)
        for _ in range(self.rng.choice([0, 0, 0, 0, 0, 1, 1, 2])):
            name = self.rng.choice(['w1', 'w2', 'users', 'orders', 'w3'])
            if any(name == n for n, _ in self.ctes):
                continue
            body, columns = self.select(1, [])
            if self.chance(0.2):
                body = self.write(returning=True) or body
                columns = [('id', 'i')] if 'RETURNING' in body else columns
            texts.append(f'{name}({", ".join(n for n, _ in columns)}) AS '
                         f'{self.rng.choice(["", "", "MATERIALIZED ", "NOT MATERIALIZED "])}({body})')
            self.ctes.append((name, columns))
        return f'WITH {"RECURSIVE " if recursive else ""}{", ".join(texts)} ' if texts else ''

    # writes

    def write(self, returning=False):
        rng = self.rng
        name = rng.choice(['users', 'orders', 'marks', 'names', '"Users"', 'notes', 'other.users'])
        columns, key = TABLES[name]
        item = Item('t' if self.chance(0.7) else name.rpartition('.')[2], columns, key)
        number = next(n for n, k in columns if k == 'i')
        tail = f' RETURNING {item.column(number)}' if returning or self.chance(0.4) else ''
        free = [(n, k) for n, k in columns if n != key and n not in ('id', 'mark')]
        column, kind = rng.choice(free) if not self.chance(0.03) or not key else (key, dict(columns)[key])
        roll = rng.random()
        if roll < 0.35:
            return self.insert(name, columns, key, tail.replace(item.alias + '.', '') if tail else '')
        source, items = ('', [])
        if self.chance(0.2):
            source, items = self.from_clause(0, [])
        where = self.where(1, [item] + items)
        if not where:
            return None if returning else f'DELETE FROM {name} AS {item.alias} WHERE {self.term(0, [item])}{tail}'
        if roll < 0.75:
            new = rng.choice([self.value(kind), quoted(column) if not items else item.column(column)])
            if self.chance(0.15):
                new = f'({self.select(0, [item], width=1, kind=kind, one=True)[0]})'
            return (f'UPDATE {name} AS {item.alias} SET {quoted(column)} = {new}{" FROM " + source if source else ""}'
                    f'{where}{tail}')
        return f'DELETE FROM {name} AS {item.alias}{" USING " + source if source else ""}{where}{tail}'

    def insert(self, name, columns, key, tail):
        rows = self.rng.choice([1, 1, 1, 2, 3])
        order = list(columns)
        explicit = self.chance(0.7)
        if explicit:
            self.rng.shuffle(order)
        lines = []
        for _ in range(rows):
            values = [('{i:%d}' % (self.number if self.chance(0.8) else self.rng.randrange(1, KEYS + 1))) if n == key and k == 'i'
                      else self.value(k) for n, k in order]
            lines.append(f'({", ".join(values)})')
        target = f'{name} ({", ".join(quoted(n) for n, _ in order)})' if explicit else name
        source = f'VALUES {", ".join(lines)}'
        if self.chance(0.06):
            source = f'SELECT {lines[0][1:-1]}'
        conflict = ''
        if self.chance(0.7):
            unique = {'users': 'id', 'orders': 'user_id, id', 'names': 'name', '"Users"': '"Id"', 'notes': 'id',
                      'other.users': 'id'}.get(name)
            column = next(n for n, k in reversed(columns) if n != key)
            conflict = ' ON CONFLICT DO NOTHING'
            if unique and self.chance(0.6):
                new = f'excluded.{quoted(column)}'
                if self.chance(0.2):
                    kind = dict(columns)[column]
                    new = f'({self.select(0, [], width=1, kind=kind, one=True)[0]})'
                conflict = f' ON CONFLICT ({unique}) DO UPDATE SET {quoted(column)} = {new}'
        return f'INSERT INTO {target} {source}{conflict}{tail}'

    def statement(self):
        head = self.with_clause()
        if self.chance(0.3):
            body = self.write()
            if body:
                return head + body
        body, _ = self.select(2, [])
        if self.chance(0.03):
            body += ' FOR UPDATE'
        return head + body


class Statement:
    """The same bytes for both sides: simple, or extended with some values as parameters."""

    def __init__(self, rng):
        self.pattern = Maker(rng).statement()
        self.values, self.types, self.formats = [], [], []
        self.extended = rng.random() < 0.5
        typed, binary = rng.random() < 0.5, rng.random() < 0.3
        share = rng.random() < 0.3
        out, at, seen = '', 0, {}
        while True:
            start = self.pattern.find('{', at)
            if start < 0:
                break
            end = self.pattern.index('}', start)
            kind, text = self.pattern[start + 1], self.pattern[start + 3:end]
            out += self.pattern[at:start]
            at = end + 1
            if not self.extended or rng.random() < 0.4:
                out += (f"'{text}'" if rng.random() < 0.1 else text) if kind == 'i' else f"'{text}'"
            elif share and (kind, text) in seen:
                out += f'${seen[kind, text]}'
            else:
                out += self.parameter(rng, kind, text, typed, binary)
                seen[kind, text] = len(self.values)
        self.sql = out + self.pattern[at:]
        self.write = any(word in self.sql for word in ('INSERT', 'UPDATE ', 'DELETE'))
        self.data = query(self.sql)
        if self.extended:
            self.data = parse('', self.sql, self.types) + bind('', '', self.values, self.formats) + describe('P') \
                + execute() + sync()

    def parameter(self, rng, kind, text, typed, binary):
        oid = rng.choice([20, 23, 20, 1700]) if kind == 'i' else rng.choice([25, 25, 1043, 1042])
        value, form = text, 0
        if typed and binary and kind == 'i' and oid in (20, 23):
            value, form = struct.pack('!q' if oid == 20 else '!i', int(text)), 1
        self.values.append(value)
        self.types.append(oid if typed else 0)
        self.formats.append(form)
        return f'${len(self.values)}'

    def __repr__(self):
        return f'{self.sql}\n  values {self.values} types {self.types}'


# -- the comparison ---------------------------------------------------------------------------------

def outcome(messages):
    errors = errors_of(messages)
    if errors:
        return errors[0].code
    return tags_of(messages), Counter(map(tuple, rows_of(messages)))


def contents(connections):
    """All rows of each table, over all the connections."""
    return {name: Counter(tuple(row) for conn in connections for row in conn.query(f'SELECT * FROM {name}'))
            for name in TABLES}


def test_random_statements(app, direct, clusters, rng, record_property):
    # A statement that needs rows of both shards is answered from one: the worst that Shoal can do.
    counts = Counter()
    with app.connect('app', timeout_s=60) as ours, direct.connect('solo', timeout_s=60) as theirs:
        for n in range(STATEMENTS):
            one = random.Random(f'{host.SEED} {n}')
            statement = Statement(one)
            actual = outcome(ours.exchange(statement.data))
            counts['statements'] += 1
            if actual == '0A000':
                # Refused for certain: nothing may have been done. (PostgreSQL has a 0A000 of its own.)
                counts['refused'] += 1
                continue
            expected = outcome(theirs.exchange(statement.data))
            assert actual == expected, f'statement {n}: {statement!r}\nPostgreSQL {expected}\nShoal      {actual}'
            failed = isinstance(actual, str)
            counts['failed alike' if failed else 'answered alike'] += 1
            counts['rows'] += 0 if failed else sum(actual[1].values())
            if statement.write and not failed:
                counts['writes'] += 1
                if counts['writes'] % 100 == 0:
                    same_rows(direct, clusters, statement)
        same_rows(direct, clusters, statement)
    for what, count in counts.items():
        record_property(what, count)
    print(dict(counts))
    assert counts['answered alike'] > STATEMENTS / 5, counts


def same_rows(direct, clusters, last):
    shards = [cluster.connect('app', 'app') for cluster in clusters]
    with direct.connect('solo') as theirs:
        expected, actual = contents([theirs]), contents(shards)
    for conn in shards:
        conn.close()
    for name in TABLES:
        assert actual[name] == expected[name], f'{name} differs, after {last!r}'
