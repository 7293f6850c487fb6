"""Random SELECTs over a schema whose tables stand in one PostgreSQL and spread over several shards.

A Grammar makes one statement from a seed. To widen it add a method whose name begins with `form_` (a whole SELECT)
to the class or to a subclass: all of them are drawn from. What it makes must have one right answer: rows are
compared as a multiset, or in order where `ordered`; so LIMIT stands only behind an ORDER BY over all columns.
Floats are quarters, whose sums are exact in any order.
"""
import random

KEYS = 30

# table: columns with their kind (i n t d b f e), shard key or None (local), DDL
TABLES = {
    'users': ([('id', 'i'), ('name', 't'), ('age', 'i'), ('org', 'i'), ('score', 'n'), ('born', 'd'), ('active', 'b'),
               ('ratio', 'f'), ('mood', 'e')], 'id',
              'id bigint PRIMARY KEY, name text, age int, org smallint, score numeric(10,2), born date, active bool, '
              'ratio float8, mood mood'),
    'orders': ([('user_id', 'i'), ('id', 'i'), ('item', 't'), ('amount', 'n'), ('placed', 's')], 'user_id',
               'user_id bigint, id int, item text, amount numeric, placed timestamp, PRIMARY KEY (user_id, id)'),
    'items': ([('sku', 't'), ('title', 't'), ('price', 'n'), ('kind', 'i')], 'sku',
              'sku text PRIMARY KEY, title text COLLATE "C", price numeric, kind int'),
    'events': ([('id', 'i'), ('user_id', 'i'), ('kind', 'i'), ('at', 's'), ('note', 't')], 'id',
               'id int PRIMARY KEY, user_id bigint, kind int, at timestamp, note text'),
    'kinds': ([('kind', 'i'), ('label', 't')], None, 'kind int, label text'),
}
SCHEMA = ["CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')"] + \
    [f'CREATE TABLE {name} ({ddl})' for name, (_, _, ddl) in TABLES.items()]
WORDS = ['ada', 'Bob', 'böe', 'bo', 'B', 'zed', 'eve ', '', 'Ada', '_x', 'a-b', 'ab']


def rows(rng):
    """INSERTs, each of one row."""
    def some(value):
        return 'NULL' if rng.random() < 0.1 else value

    def word():
        return some("'" + rng.choice(WORDS) + "'")

    def moment():
        return some(f"'2024-0{rng.randint(1, 9)}-1{rng.randint(0, 9)} 0{rng.randint(0, 9)}:00:00'")
    for k in range(1, KEYS + 1):
        yield (f"INSERT INTO users VALUES ({k}, {word()}, {some(k % 9)}, {some(k % 4)}, {some(f'{k % 7}.{k % 3}0')}, "
               f"{some(chr(39) + f'20{k % 20 + 10}-01-0{k % 9 + 1}' + chr(39))}, {some(str(k % 2 == 0).lower())}, "
               f"{some(k % 5 / 4)}, {some(rng.choice(['sad', 'ok', 'happy']).join([chr(39)] * 2))})")
        for n in range(k % 4):
            yield f"INSERT INTO orders VALUES ({k}, {n}, {some(chr(39) + f's{(k + n) % 8}' + chr(39))}, {some(f'{k * n}.{n}')}, {moment()})"
        yield f"INSERT INTO events VALUES ({k}, {some(rng.randint(1, KEYS + 5))}, {some(k % 5)}, {moment()}, {word()})"
    for k in range(8):
        yield f"INSERT INTO items VALUES ('s{k}', {word()}, {some(f'{k}.25')}, {some(k % 5)})"
    for k in range(5):
        yield f"INSERT INTO kinds VALUES ({k}, {word()})"


class Item:
    """A FROM item: alias, columns with kinds, and where its rows are."""

    def __init__(self, alias, columns, key=None):
        self.alias, self.columns, self.key = alias, columns, key


class Statement:
    def __init__(self, sql, ordered=False, values=()):
        self.sql, self.ordered, self.values = sql, ordered, list(values)

    def __repr__(self):
        return f'{self.sql}' + (f' -- {self.values}' if self.values else '')


class Grammar:
    tables = TABLES

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.aliases = 0

    # -- small choices

    def chance(self, p):
        return self.rng.random() < p

    def pick(self, *options):
        return self.rng.choice(options)

    def alias(self):
        self.aliases += 1
        return f'x{self.aliases}'

    def table(self, *names):
        name = self.pick(*(names or self.tables))
        columns, key, _ = self.tables[name]
        item = Item(self.alias(), columns, key)
        return f'{name} {item.alias}', item

    def column(self, items, kinds=''):
        found = [(f'{i.alias}.{n}', k) for i in items for n, k in i.columns if not kinds or k in kinds]
        return self.pick(*found) if found else ('1', 'i')

    def value(self, kind):
        return {'i': lambda: str(self.rng.randint(0, 12)), 'n': lambda: f'{self.rng.randint(0, 20)}.{self.pick(0, 5)}',
                't': lambda: "'" + self.pick(*WORDS, 's1', 's3') + "'", 'd': lambda: f"'201{self.rng.randint(0, 9)}-01-05'",
                's': lambda: f"'2024-0{self.rng.randint(1, 9)}-15'", 'b': lambda: self.pick('true', 'false'),
                'f': lambda: self.pick('0.25', '0.5', '1'), 'e': lambda: self.pick("'sad'", "'ok'", "'happy'")}[kind]()

    def term(self, items, depth=1):
        text, kind = self.column(items)
        roll = self.rng.random()
        if depth and roll < 0.12:
            return self.subquery_term(items)
        if roll < 0.2:
            return f'{text} IS {self.pick("", "NOT ")}NULL'
        if roll < 0.28:
            return f'({self.term(items, 0)} OR {self.term(items, 0)})'
        if roll < 0.34:
            return f'{text} IN ({self.value(kind)}, {self.value(kind)}, {self.value(kind)})'
        if roll < 0.38 and kind == 'i':
            return f'{text} BETWEEN {self.rng.randint(0, 5)} AND {self.rng.randint(4, 20)}'
        if roll < 0.42:
            return f'NOT {self.term(items, 0)}' if kind != 'b' else f'NOT {text}'
        if roll < 0.46 and kind == 't':
            return f"{text} LIKE '{self.pick('a', 'b', 's')}%'"
        return f'{text} {self.pick("=", "<", ">=", "<>", ">")} {self.value(kind)}'

    def subquery_term(self, items):
        inner, item = self.table()
        text, kind = self.column(items, 'int')
        other = self.column([item], kind)[0] if any(k == kind for _, k in item.columns) else None
        key = [(i, i.key) for i in items if i.key]
        if item.key and key and self.chance(0.5):
            outer = self.pick(*key)
            return (f'{self.pick("", "NOT ")}EXISTS (SELECT 1 FROM {inner} WHERE {item.alias}.{item.key} = '
                    f'{outer[0].alias}.{outer[1]} AND {self.term([item], 0)})') \
                if dict(item.columns)[item.key] == dict(outer[0].columns)[outer[1]] else 'true'
        if other is None:
            return f'(SELECT count(*) FROM {inner}) > {self.rng.randint(0, 20)}'
        return self.pick(f'{text} IN (SELECT {other} FROM {inner} WHERE {self.term([item], 0)})',
                         f'{text} NOT IN (SELECT {other} FROM {inner} WHERE {other} IS NOT NULL)',
                         f'{text} > ALL (SELECT {other} FROM {inner} WHERE {self.term([item], 0)})',
                         f'{text} >= (SELECT min({other}) FROM {inner})',
                         f'{text} = ANY (SELECT {other} FROM {inner})')

    def where(self, items):
        terms = [self.term(items) for _ in range(self.pick(0, 0, 1, 1, 2))]
        keyed = [i for i in items if i.key]
        if keyed and self.chance(0.1):
            item = self.pick(*keyed)
            kind = dict(item.columns)[item.key]
            terms.append(f'{item.alias}.{item.key} = {self.value(kind)}')
        return ' WHERE ' + ' AND '.join(terms) if terms else ''

    def from_clause(self):
        """One table, tables joined on their keys, or joined otherwise."""
        roll = self.rng.random()
        if roll < 0.45:
            text, item = self.table()
            return text, [item]
        left, a = self.table('users', 'users', 'events', 'orders')
        if roll < 0.75:
            right, b = self.table('orders', 'users', 'events')
            how = self.pick('JOIN', 'JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN')
            on = f'{a.alias}.{a.key} = {b.alias}.{b.key}'
            if how != 'FULL JOIN' and self.chance(0.2):
                on += f' AND {self.term([b], 0)}'
            text, items = f'{left} {how} {right} ON {on}', [a, b]
            if self.chance(0.15):
                third, c = self.table('orders', 'events')
                text, items = f'{text} JOIN {third} ON {c.alias}.{c.key} = {a.alias}.{a.key}', items + [c]
            return text, items
        right, b = self.table('items', 'kinds', 'events', 'users')
        pairs = [(n, m) for n, k in a.columns for m, j in b.columns if k == j and k in 'it']
        n, m = self.pick(*pairs) if pairs else (None, None)
        if n is None:
            return f'{left} CROSS JOIN {right}', [a, b]
        return f'{left} {self.pick("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN")} {right} ON {a.alias}.{n} = {b.alias}.{m}', [a, b]

    def expression(self, items):
        text, kind = self.column(items)
        roll = self.rng.random()
        if roll < 0.1 and kind == 'i':
            return f'{text} % 3', 'i'
        if roll < 0.15:
            return f'coalesce({text}, {self.value(kind)})', kind
        if roll < 0.2 and kind == 't':
            return f'upper({text})', 't'
        if roll < 0.24:
            return f'CASE WHEN {self.term(items, 0)} THEN {text} END', kind
        if roll < 0.27 and kind in 'ds':
            return f"date_trunc('month', {text})", 'z'
        if roll < 0.3:
            return f'{text} IS NULL', 'b'
        return text, kind

    def ordering(self, count):
        """ORDER BY all columns: total, so that LIMIT has one answer."""
        order = list(range(1, count + 1))
        self.rng.shuffle(order)
        text = ' ORDER BY ' + ', '.join(f'{n}{self.pick("", "", " DESC", " NULLS FIRST", " DESC NULLS LAST")}' for n in order)
        if self.chance(0.5):
            text += f' LIMIT {self.pick(0, 1, 3, 10, 50)}'
        if self.chance(0.25):
            text += f' OFFSET {self.pick(0, 1, 4, 30)}'
        return text

    # -- whole SELECTs

    def form_rows(self):
        text, items = self.from_clause()
        out = [self.expression(items)[0] for _ in range(self.pick(1, 2, 3))]
        distinct = 'DISTINCT ' if self.chance(0.2) else ''
        sql = f'SELECT {distinct}{", ".join(out)} FROM {text}{self.where(items)}'
        if self.chance(0.5):
            return Statement(sql + self.ordering(len(out)), True)
        return Statement(sql)

    def form_star(self):
        text, item = self.table()
        sql = f'SELECT * FROM {text}{self.where([item])}'
        return Statement(sql + self.ordering(len(item.columns)), True) if self.chance(0.5) else Statement(sql)

    def form_hidden_order(self):
        # ORDER BY what is not answered: users.id is unique, so the order is total.
        text, item = self.table('users')
        out = [self.expression([item])[0] for _ in range(2)]
        other = self.column([item])[0]
        sql = (f'SELECT {", ".join(out)} FROM {text}{self.where([item])} ORDER BY {other}'
               f'{self.pick("", " DESC", " NULLS FIRST")}, {item.alias}.id{self.pick("", " DESC")}')
        if self.chance(0.7):
            sql += f' LIMIT {self.pick(1, 5, 12)} OFFSET {self.pick(0, 0, 2, 7)}'
        return Statement(sql, True)

    def aggregate(self, items):
        text, kind = self.column(items)
        number, _ = self.column(items, 'in')
        extra = f' FILTER (WHERE {self.term(items, 0)})' if self.chance(0.15) else ''
        call = self.pick('count(*)', f'count({text})', f'sum({number})', f'avg({number})',
                         f'min({self.column(items, "intds")[0]})', f'max({self.column(items, "intds")[0]})',
                         f'count(DISTINCT {text})', f'bool_or({number} > 3)', f'bool_and({number} < 9)',
                         f'sum({self.column(items, "f")[0]})', f'avg({self.column(items, "f")[0]})',
                         f'bit_or({self.column(items, "i")[0]})', f'stddev({number})', f'variance({number})')
        return call + extra

    def form_aggregate(self):
        text, items = self.from_clause()
        out = [self.aggregate(items) for _ in range(self.pick(1, 2, 3))]
        having = self.pick('', '', '', f' HAVING count(*) > {self.rng.randint(0, 30)}')
        return Statement(f'SELECT {", ".join(out)} FROM {text}{self.where(items)}{having}')

    def form_group(self):
        text, items = self.from_clause()
        groups = [self.expression(items)[0] for _ in range(self.pick(1, 1, 2))]
        if self.chance(0.25):
            keyed = [i for i in items if i.key]
            if keyed:
                groups[0] = f'{keyed[0].alias}.{keyed[0].key}'
        out = groups + [self.aggregate(items) for _ in range(self.pick(1, 2))]
        if self.chance(0.2):
            out.append(f'{self.aggregate(items)} IS NULL')
        names = ', '.join(str(n + 1) for n in range(len(groups))) if self.chance(0.5) else ', '.join(groups)
        how = f'GROUPING SETS (({groups[0]}), ())' if self.chance(0.06) else f'ROLLUP ({names})' if \
            self.chance(0.04) and not names[0].isdigit() else names
        sql = f'SELECT {", ".join(out)} FROM {text}{self.where(items)} GROUP BY {how}'
        if self.chance(0.25):
            sql += f' HAVING {self.pick("count(*) > 1", f"{self.aggregate(items)} IS NOT NULL")}'
        if self.chance(0.4):
            return Statement(sql + self.ordering(len(out)), True)
        return Statement(sql)

    def form_window(self):
        text, item = self.table()
        part = self.pick('', f'PARTITION BY {self.column([item])[0]} ',
                         f'PARTITION BY {item.alias}.{item.key} ' if item.key else '')
        order = ', '.join(f'{item.alias}.{n}' for n, _ in item.columns)
        call = self.pick('row_number()', 'rank()', f'lag({self.column([item])[0]})', 'count(*)',
                         f'sum({self.column([item], "in")[0]})')
        return Statement(f'SELECT {self.expression([item])[0]}, {call} OVER ({part}ORDER BY {order}) FROM {text}{self.where([item])}')

    def form_union(self):
        kind = self.pick('i', 't', 'n')
        parts = []
        for _ in range(self.pick(2, 2, 3)):
            text, items = self.from_clause()
            found = [i for i in items if any(k == kind for _, k in i.columns)]
            if not found:
                text, item = self.table('users')
                items = found = [item]
            parts.append(f'SELECT {self.column(found, kind)[0]} FROM {text}{self.where(items)}')
        sql = f' {self.pick("UNION", "UNION ALL", "INTERSECT", "EXCEPT")} '.join(parts)
        return Statement(sql + self.ordering(1), True) if self.chance(0.4) else Statement(sql)

    def form_derived(self):
        text, items = self.from_clause()
        group = self.expression(items)[0]
        inner = f'SELECT {group} AS g, count(*) AS n FROM {text}{self.where(items)} GROUP BY 1'
        if self.chance(0.5):
            return Statement(f'SELECT * FROM ({inner}) s WHERE n > {self.pick(0, 1, 3)}')
        return Statement(f'WITH s AS ({inner}) SELECT max(n), min(n), count(*) FROM s')

    def form_lateral(self):
        text, item = self.table('users', 'events')
        inner, other = self.table('orders')
        return Statement(f'SELECT {item.alias}.{item.key}, s.n FROM {text} {self.pick("CROSS", "LEFT")} JOIN LATERAL (SELECT '
                         f'{self.pick("count(*)", f"max({other.alias}.amount)", f"sum({other.alias}.id)")} AS n FROM {inner} WHERE '
                         f'{other.alias}.user_id = {item.alias}.{self.pick(item.key, "user_id" if item.key == "id" and item.columns[1][0] == "user_id" else "id")}) s '
                         .replace('CROSS JOIN LATERAL', 'JOIN LATERAL') + f'ON true{self.where([item])}')

    def form_scalar(self):
        text, item = self.table('users')
        inner, other = self.table('orders', 'events')
        return Statement(f'SELECT {self.expression([item])[0]}, (SELECT {self.pick("count(*)", f"max({other.alias}.id)")} FROM {inner} '
                         f'WHERE {other.alias}.user_id = {item.alias}.id) FROM {text}{self.where([item])}')

    def form_recursive(self):
        top = self.pick(3, 9, 20)
        return Statement(f'WITH RECURSIVE r(id, depth) AS (SELECT id, 0 FROM users WHERE id = {self.rng.randint(1, 5)} UNION ALL '
                         f'SELECT u.id, depth + 1 FROM users u JOIN r ON u.id = r.id + {self.pick(1, 2)} WHERE depth < {top}) '
                         f'SELECT {self.pick("*", "count(*), max(id)", "depth")} FROM r')

    def form_ordered_set(self):
        text, item = self.table('users', 'orders')
        return Statement(f'SELECT {self.pick("percentile_disc(0.5)", "mode()")} WITHIN GROUP (ORDER BY {self.column([item], "in")[0]}), '
                         f"string_agg({item.alias}.{item.columns[1][0]}::text, ',' ORDER BY {item.alias}.{item.columns[1][0]}) "
                         f'FROM {text}{self.where([item])}')

    def form_error(self):
        text, item = self.table()
        return Statement(self.pick(f'SELECT nothing FROM {text}', f'SELECT 1 / 0 FROM {text}', f'SELECT sum(name) FROM users',
                                   f'SELECT no_such(1) FROM {text}', f'SELECT count(*) FROM missing, {text}',
                                   f"SELECT id FROM users WHERE age = 'x'", f'SELECT id, count(*) FROM users GROUP BY age',
                                   f'SELECT * FROM {text} LIMIT -1', f'SELECT id FROM users ORDER BY 3',
                                   f'SELECT {item.alias}.* FROM {text} WHERE sum(1) > 1'))

    # -- the draw

    def statement(self):
        forms = sorted(name for name in dir(self) if name.startswith('form_'))
        heavy = ['form_rows', 'form_group', 'form_aggregate', 'form_hidden_order']
        made = getattr(self, self.pick(*forms, *heavy, *heavy))()
        if self.chance(0.3):
            self.parametrize(made)
        return made

    def parametrize(self, statement):
        """Integers behind a comparison become parameters of the extended protocol."""
        out, values = [], []
        words = statement.sql.split(' ')
        for at, word in enumerate(words):
            if word.isdigit() and at and words[at - 1] in ('=', '<', '>=', '<>', '>', 'LIMIT', 'OFFSET') and self.chance(0.7):
                values.append(word)
                word = f'${len(values)}'
            out.append(word)
        statement.sql, statement.values = ' '.join(out), values
