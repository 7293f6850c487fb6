"""Random statements of all kinds: what select_grammar.py knows, more SELECTs, more types, and writes.

Wide makes one Script from a seed: one statement, or a transaction of several. As there, what is made must have one right answer:
whose row wins is never left open (sources of INSERT ... SELECT are unique, UPDATE ... FROM sets constants).
"""
from .select_grammar import KEYS, SCHEMA, TABLES, WORDS, Grammar, Item, Statement
from .select_grammar import rows as select_rows

# As in select_grammar, with more kinds: j jsonb, a text[], z timestamptz, c text of another collation, u uuid.
WRITTEN = {
    'things': ([('id', 'i'), ('label', 'c'), ('tags', 'a'), ('doc', 'j'), ('seen', 'z'), ('code', 't'), ('bal', 'n'), ('tok', 'u')], 'id',
               'id bigint PRIMARY KEY, label text COLLATE "en-x-icu", tags text[], doc jsonb, seen timestamptz, '
               "code varchar(12) DEFAULT 'new', bal numeric(12,2) DEFAULT 0, tok uuid"),
    'lines': ([('thing_id', 'i'), ('n', 'i'), ('note', 't'), ('amount', 'n'), ('day', 'd')], 'thing_id',
              "thing_id bigint, n int, note text NOT NULL DEFAULT '-', amount numeric(10,2), day date, PRIMARY KEY (thing_id, n), "
              'CHECK (amount < 1000)'),
    'codes': ([('code', 't'), ('v', 'i'), ('day', 'd')], 'code', 'code text PRIMARY KEY, v int, day date'),
    'places': ([('tenant', 'i'), ('region', 't'), ('v', 'i'), ('at', 's')], 'tenant',
               'tenant int, region text, v int, at timestamp, PRIMARY KEY (tenant, region)'),
    'labels': ([('k', 'i'), ('label', 't')], None, 'k int PRIMARY KEY, label text'),
    'scratch': ([('id', 'i'), ('v', 't'), ('n', 'i')], None, 'id int PRIMARY KEY, v text, n int'),
}
# Read like tables. A key where the view shows it.
VIEWS = {
    'grown': ([('id', 'i'), ('name', 't'), ('age', 'i'), ('org', 'i')], 'id', 'SELECT id, name, age, org FROM users WHERE age > 2'),
    'spent': ([('id', 'i'), ('name', 't'), ('n', 'i'), ('amount', 'n')], 'id',
              'SELECT u.id, u.name, count(o.id) AS n, sum(o.amount) AS amount FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id'),
    'by_kind': ([('kind', 'i'), ('n', 'i'), ('last', 's')], None, 'SELECT kind, count(*) AS n, max(at) AS last FROM events GROUP BY kind'),
    'busy': ([('id', 'i'), ('n', 'i')], 'id', 'SELECT s.id, s.n + 1 AS n FROM spent s JOIN grown g ON g.id = s.id WHERE s.n > 0'),
    'known': ([('id', 'i'), ('code', 't'), ('label', 't')], 'id', 'SELECT t.id, t.code, l.label FROM things t JOIN labels l ON l.k = t.id'),
    'named': ([('k', 'i'), ('label', 't')], None, "SELECT k, label FROM labels WHERE label <> ''"),
    'jotted': ([('id', 'i'), ('v', 't'), ('kind', 't')], None, 'SELECT s.id, s.v, k.label AS kind FROM scratch s LEFT JOIN kinds k ON k.kind = s.n'),
    'cheap': ([('id', 'i'), ('code', 't'), ('bal', 'n'), ('seen', 'z')], 'id', 'SELECT id, code, bal, seen FROM things WHERE bal < 10'),
    'short': ([('thing_id', 'i'), ('n', 'i'), ('note', 't')], 'thing_id', 'SELECT thing_id, n, note FROM lines WHERE length(note) < 4 WITH CHECK OPTION'),
    'plain': ([('id', 'i'), ('v', 't')], None, 'SELECT id, v FROM scratch'),
}
ALL = {**TABLES, **WRITTEN, **VIEWS}
UNIQUE = {'things': ['id'], 'lines': ['thing_id', 'n'], 'codes': ['code'], 'places': ['tenant', 'region'], 'labels': ['k'], 'scratch': ['id']}
DDL = SCHEMA + [f'CREATE TABLE {name} ({ddl})' for name, (_, _, ddl) in WRITTEN.items()]
PLACEMENT = [f"SELECT shoal.distribute_table('{name}', '{'tenant, region' if name == 'places' else key}')"
             for name, (_, key, _) in {**TABLES, **WRITTEN}.items() if key] + ["SELECT shoal.create_reference_table('labels')"]
VIEW_DDL = [f'CREATE VIEW {name} AS {query}' for name, (_, _, query) in VIEWS.items()]
LABELS = ['résumé', 'Resume', 'resume', 'ábc', 'abd', 'Zebra', 'zebra', 'ñ', 'n', '', 'a b', 'a-b', 'ß', 'ss']


def rows(rng):
    yield from select_rows(rng)
    made = Wide(rng.random())
    for name in WRITTEN:
        for k in range(1, KEYS - 5):
            yield f'INSERT INTO {name} VALUES {made.row(name, [c for c, _ in WRITTEN[name][0]], k)} ON CONFLICT DO NOTHING'


class Script:
    """Statements of one connection; `block`: between BEGIN and `end` (COMMIT, ROLLBACK)."""

    def __init__(self, statements, block=False):
        self.statements, self.block = statements, block

    def __repr__(self):
        return '; '.join(map(repr, self.statements))


class Wide(Grammar):
    tables = ALL

    def value(self, kind):
        return {'j': lambda: self.pick("""'{"a": 1, "b": [1, 2]}'""", """'{"a": "x", "c": null}'""", "'[]'", "'3'", """'{"a": 2}'"""),
                'a': lambda: self.pick("'{x,y}'", "'{}'", "'{y,NULL,x}'", "'{\"a b\",c}'"),
                'z': lambda: f"'2024-0{self.rng.randint(1, 9)}-03 0{self.rng.randint(0, 9)}:30:00+0{self.rng.randint(0, 3)}'",
                'c': lambda: "'" + self.pick(*LABELS) + "'",
                'u': lambda: f"'00000000-0000-0000-0000-{self.rng.randint(0, 9):012d}'"}.get(kind, lambda: Grammar.value(self, kind))()

    # -- more SELECTs

    def limit(self, count):
        return ' ORDER BY ' + ', '.join(str(n + 1) for n in range(count)) + self.pick('', f' LIMIT {self.pick(1, 4, 20)}')

    def typed_expression(self, items):
        """Of the richer kinds, with functions of theirs."""
        text, kind = self.column(items, 'jazcun')
        return {'j': lambda: self.pick(f"{text} ->> 'a'", f"{text} -> 'b'", f"jsonb_typeof({text})", f"{text} @> '{{\"a\": 1}}'", text,
                                       f"{text} #>> '{{b,0}}'", f"jsonb_array_length(coalesce({text} -> 'b', '[]'))"
                                       if self.chance(0.2) else f"{text} ? 'a'"),
                'a': lambda: self.pick(f'cardinality({text})', f"array_position({text}, 'x')", f"'x' = ANY ({text})", f'{text}[1]',
                                       f"array_to_string({text}, '/', '*')", f"{text} && '{{x}}'", f"{text} || '{{z}}'::text[]", text),
                'z': lambda: self.pick(f"extract(hour FROM {text})", f"date_trunc('day', {text})", f"{text} AT TIME ZONE 'UTC'",
                                       f"{text} + interval '1 month'", f"{text}::date", text),
                'c': lambda: self.pick(f'lower({text})', f"{text} || '!'", f'length({text})', f'{text} COLLATE "C"', text, f"{text} < 'm'"),
                'u': lambda: self.pick(f'{text}::text', text), 'n': lambda: self.pick(f'round({text})', f'{text}::int', f'-{text}', f'{text} * 2'),
                'i': lambda: text}[kind]()

    def form_types(self):
        text, items = self.from_clause()
        if not any(k in 'jazcu' for i in items for _, k in i.columns):
            text, item = self.table('things')
            items = [item]
        out = [self.typed_expression(items) for _ in range(self.pick(1, 2, 3))]
        sql = f'SELECT {self.pick("", "", "DISTINCT ")}{", ".join(out)} FROM {text}{self.where(items)}'
        return Statement(sql + self.limit(len(out)), True) if self.chance(0.5) else Statement(sql)

    def form_types_group(self):
        text, item = self.table('things')
        out = self.typed_expression([item])
        call = self.pick('count(*)', f'max({item.alias}.label)', f'min({item.alias}.label)', f'max({item.alias}.seen)', f'sum({item.alias}.bal)',
                         f'max({item.alias}.code)', f'array_agg({item.alias}.id ORDER BY {item.alias}.id)', f'count(DISTINCT {item.alias}.label)',
                         f'jsonb_agg({item.alias}.doc ORDER BY {item.alias}.id)', f"string_agg({item.alias}.label, ',' ORDER BY {item.alias}.id)",
                         f'jsonb_object_agg({item.alias}.id, {item.alias}.code ORDER BY {item.alias}.id)', f'bool_or({item.alias}.bal > 3)')
        sql = f'SELECT {out}, {call} FROM {text}{self.where([item])} GROUP BY 1'
        return Statement(sql + ' ORDER BY 1', True) if self.chance(0.4) else Statement(sql)

    def form_unnest(self):
        text, item = self.table('things')
        return Statement(self.pick(
            f'SELECT {item.alias}.id, t FROM {text}, unnest({item.alias}.tags) t{self.where([item])}',
            f'SELECT t, count(*) FROM {text}, unnest({item.alias}.tags) AS t{self.where([item])} GROUP BY t',
            f'SELECT {item.alias}.id, e.key, e.value FROM {text}, jsonb_each_text({item.alias}.doc) e WHERE jsonb_typeof({item.alias}.doc) = \'object\'',
            f'SELECT id, unnest(tags) FROM {text}{self.where([item])}',
            f'SELECT {item.alias}.id, g FROM {text} CROSS JOIN generate_series(1, {self.pick(2, 3)}) g{self.where([item])}'))

    def form_distinct_on(self):
        text, item = self.table('users', 'things', 'events')
        on = self.column([item])[0]
        rest = self.expression([item])[0]
        return Statement(f'SELECT DISTINCT ON ({on}) {on}, {item.alias}.id, {rest} FROM {text}{self.where([item])} '
                         f'ORDER BY {on}{self.pick("", " DESC", " NULLS FIRST")}, {item.alias}.id{self.pick("", " DESC")}'
                         f'{self.pick("", " LIMIT 5")}', True)

    def form_sets(self):
        """Set operations of several columns, nested, with ALL."""
        def part():
            text, items = self.from_clause()
            if not all(any(k == want for i in items for _, k in i.columns) for want in 'it'):
                text, item = self.table('users', 'codes', 'places', 'scratch')
                items = [item]
            return f'SELECT {self.column(items, "i")[0]}, {self.column(items, "t")[0]} FROM {text}{self.where(items)}'
        how = [self.pick('UNION', 'UNION ALL', 'INTERSECT', 'EXCEPT', 'INTERSECT ALL', 'EXCEPT ALL') for _ in range(2)]
        sql = self.pick(f'{part()} {how[0]} {part()}', f'({part()} {how[0]} {part()}) {how[1]} {part()}',
                        f'{part()} {how[0]} ({part()} {how[1]} {part()})', f"{part()} {how[0]} VALUES (1, 'ada'), (2, NULL)",
                        f'SELECT count(*), min(a), max(b) FROM ({part()} {how[0]} {part()}) s(a, b)')
        return Statement(sql + self.limit(2), True) if self.chance(0.4) and 's(a' not in sql else Statement(sql)

    def form_windows(self):
        text, items = self.from_clause()
        keyed = [f'{i.alias}.{n}' for i in items for n, _ in i.columns]
        order = ', '.join(keyed)
        kind = self.column(items, 'in')[0]
        frame = self.pick('', ' ROWS BETWEEN 1 PRECEDING AND CURRENT ROW', ' RANGE UNBOUNDED PRECEDING', ' GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING',
                          ' ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE CURRENT ROW')
        call = self.pick(f'sum({kind})', f'count({kind})', f'max({kind})', f'first_value({kind})', f'last_value({kind})', f'lead({kind}, 2)',
                         f'nth_value({kind}, 2)')
        part = self.column(items)[0]
        if any('tags' in k or 'doc' in k for k in keyed) and 'RANGE' in frame:
            frame = ''
        return Statement(self.pick(
            f'SELECT {part}, {call} OVER (PARTITION BY {part} ORDER BY {order}{frame}) FROM {text}{self.where(items)}',
            f'SELECT ntile(3) OVER w, dense_rank() OVER w, {call} OVER w FROM {text}{self.where(items)} WINDOW w AS (ORDER BY {order})',
            f'SELECT {part}, count(*), rank() OVER (ORDER BY count(*), {part}) FROM {text}{self.where(items)} GROUP BY {part}',
            f'SELECT * FROM (SELECT {part} AS p, row_number() OVER (PARTITION BY {part} ORDER BY {order}) AS r FROM {text}{self.where(items)}) s WHERE r = 1',
            f'SELECT sum(count(*)) OVER (PARTITION BY {part}) FROM {text}{self.where(items)} GROUP BY {part}'))

    def form_grouping(self):
        text, items = self.from_clause()
        a, b = self.column(items, 'intds')[0], self.column(items, 'intds')[0]
        how = self.pick(f'GROUPING SETS (({a}), ({b}), ())', f'ROLLUP ({a}, {b})', f'CUBE ({a}, {b})', f'GROUPING SETS (({a}, {b}), ({a}))',
                        f'{a}, ROLLUP ({b})')
        return Statement(f'SELECT {a}, {b}, grouping({a}), {self.aggregate(items)} FROM {text}{self.where(items)} GROUP BY {how}'
                         + self.pick('', ' HAVING count(*) > 1'))

    def form_laterals(self):
        text, item = self.table('users', 'things', 'events')
        inner, other = self.table('lines', 'orders')
        key = item.key
        top = self.pick('', f' ORDER BY {other.alias}.{other.columns[1][0]}, {other.alias}.{other.key} LIMIT {self.pick(1, 2)}')
        link = self.pick(f'{other.alias}.{other.key} = {item.alias}.{key}', f'{other.alias}.{other.key} = {item.alias}.{key} + 1',
                         f'{other.alias}.{other.key} < {item.alias}.{key}')
        return Statement(f'SELECT {item.alias}.{key}, s.* FROM {text} {self.pick("JOIN", "LEFT JOIN")} LATERAL (SELECT {other.alias}.{other.columns[1][0]} AS n, '
                         f'{other.alias}.{other.key} AS k FROM {inner} WHERE {link}{top}) s ON true{self.where([item])}')

    def form_recursives(self):
        return Statement(self.pick(
            f'WITH RECURSIVE r(n) AS (VALUES ({self.pick(1, 2)}) UNION ALL SELECT n + 1 FROM r WHERE n < {self.pick(5, 12)}) '
            f'SELECT r.n, count(l.n) FROM r LEFT JOIN lines l ON l.thing_id = r.n GROUP BY r.n',
            'WITH RECURSIVE up(id, user_id, path) AS (SELECT id, user_id, ARRAY[id::bigint] FROM events WHERE kind = 1 UNION ALL '
            'SELECT e.id, e.user_id, path || e.id::bigint FROM events e JOIN up ON e.id = up.user_id WHERE NOT e.id = ANY (path)) '
            'SELECT id, user_id, path FROM up',
            'WITH RECURSIVE c AS (SELECT tenant, 1 AS d FROM places UNION SELECT tenant + 1, d + 1 FROM c WHERE d < 4) '
            'SELECT d, count(*), sum(tenant) FROM c GROUP BY d'))

    def form_ctes(self):
        first, items = self.from_clause()
        a = self.expression(items)[0]
        text, item = self.table()
        b, kind = self.column([item])
        more = self.pick('', 'MATERIALIZED ', 'NOT MATERIALIZED ')
        return Statement(self.pick(
            f'WITH a AS {more}(SELECT {a} AS x FROM {first}{self.where(items)}), b AS (SELECT {b} AS y FROM {text}) '
            f'SELECT (SELECT count(*) FROM a), (SELECT count(DISTINCT y) FROM b), (SELECT count(*) FROM b WHERE y IS NULL)',
            f'WITH a AS {more}(SELECT {b} AS y, count(*) AS n FROM {text}{self.where([item])} GROUP BY 1) SELECT p.y, p.n, q.n FROM a p '
            f'LEFT JOIN a q ON q.n = p.n + 1',
            f'WITH users AS (SELECT {b} AS id FROM {text}{self.where([item])}) SELECT count(*), count(id) FROM users'))

    def form_ties(self):
        text, item = self.table('users', 'things', 'lines', 'codes')
        by = self.column([item])[0]
        return Statement(f'SELECT {by} FROM {text}{self.where([item])} ORDER BY {by}{self.pick("", " DESC")} '
                         f'FETCH FIRST {self.pick(1, 3, 7)} ROWS WITH TIES', True)

    def form_ranges(self):
        """Keys by ranges, lists, arrays, row comparisons."""
        name = self.pick('things', 'users', 'lines', 'codes', 'places')
        text, item = self.table(name)
        key, kind = item.key, dict(item.columns)[item.key]
        k = f'{item.alias}.{key}'
        values = [self.value(kind) for _ in range(3)]
        cast = 'text' if kind == 't' else 'int'
        term = self.pick(f'{k} IN ({", ".join(values)})', f'{k} = ANY (ARRAY[{", ".join(values)}]::{cast}[])', f'{k} BETWEEN {values[0]} AND {values[1]}',
                         f'({k} = {values[0]} OR {k} = {values[1]})', f'{k} NOT IN ({values[0]}, {values[1]})', f'{k} IS NOT DISTINCT FROM {values[0]}',
                         f'{k} = {values[0]} AND {k} = {values[1]}', f'{k} > ALL (ARRAY[{values[0]}]::{cast}[])', f'NOT ({k} <> {values[0]})',
                         f'({k}, 1) = ({values[0]}, 1)', f'{k} IN (SELECT {key} FROM {name} WHERE {key} < {values[0]})', f'{k} = (SELECT max({key}) FROM {name})')
        return Statement(f'SELECT {self.pick("*", "count(*)", k)} FROM {text} WHERE {term}')

    # -- writes

    def row(self, name, columns, number=None):
        kinds = dict(WRITTEN[name][0])
        out = []
        for column in columns:
            if column in UNIQUE[name]:
                k = self.rng.randint(1, KEYS) if number is None else number
                out.append({'region': f"'r{k % 3}'", 'code': f"'c{k}'", 'n': str(k % 4)}.get(column, str(k)))
            elif self.chance(0.08) and not number:
                out.append('DEFAULT')
            else:
                out.append('NULL' if self.chance(0.1) and column != 'note' else self.value(kinds[column]))
        return f'({", ".join(out)})'

    def returning(self, name, alias=None):
        columns = [c for c, _ in WRITTEN[name][0]]
        at = f'{alias or name}.'
        return self.pick('', '', f' RETURNING {at}*' if alias else ' RETURNING *',
                         f' RETURNING {at}{self.pick(*columns)}, {at}{columns[0]} IS NULL AS missing')

    def conflict(self, name, columns):
        free = [c for c in columns if c not in UNIQUE[name]]
        if not free or self.chance(0.4):
            return self.pick('', ' ON CONFLICT DO NOTHING', f' ON CONFLICT ({", ".join(UNIQUE[name])}) DO NOTHING')
        column = self.pick(*free)
        kind = dict(WRITTEN[name][0])[column]
        new = self.pick(f'excluded.{column}', f'excluded.{column}', self.value(kind),
                        f'coalesce({name}.{column}, excluded.{column})')
        tail = self.pick('', '', f' WHERE {name}.{self.pick(*free)} IS NOT NULL')
        return f' ON CONFLICT ({", ".join(UNIQUE[name])}) DO UPDATE SET {column} = {new}{tail}'

    def written(self):
        return self.pick('things', 'things', 'lines', 'lines', 'codes', 'places', 'labels', 'scratch')

    def write_insert(self):
        name = self.written()
        columns = [c for c, _ in WRITTEN[name][0]]
        if self.chance(0.6):
            keep = [c for c in columns if c in UNIQUE[name] or self.chance(0.6)]
            self.rng.shuffle(keep)
            columns = keep
        lines = [self.row(name, columns) for _ in range(self.pick(1, 1, 2, 4, 9))]
        return Statement(f'INSERT INTO {name} ({", ".join(columns)}) VALUES {", ".join(lines)}{self.conflict(name, columns)}{self.returning(name)}')

    def write_insert_select(self):
        number = self.rng.randint(50, 90)
        tail = self.pick('', ' ON CONFLICT DO NOTHING')
        sql = self.pick(
            lambda: f'INSERT INTO lines (thing_id, n, note) SELECT id, {number}, coalesce(code, \'none\') FROM things{self.of("things")}',
            lambda: f'INSERT INTO lines (thing_id, n, amount) SELECT id, {number}, score FROM users{self.of("users")}',
            lambda: f'INSERT INTO things (id, label, bal) SELECT user_id + {number}, min(item), sum(amount) FROM orders{self.of("orders")} GROUP BY user_id',
            lambda: f"INSERT INTO codes (code, v) SELECT name || '{number}', count(*) FROM users WHERE name IS NOT NULL GROUP BY name",
            lambda: f"INSERT INTO places (tenant, region, v) SELECT id, 'x{number % 3}', age FROM users{self.of('users')}",
            lambda: f'INSERT INTO labels (k, label) SELECT {number} + kind, min(note) FROM events WHERE kind IS NOT NULL GROUP BY kind',
            lambda: f'INSERT INTO scratch (id, n) SELECT {number} * 100 + id::int, age FROM users{self.of("users")}',
            lambda: f'INSERT INTO things (id, code) SELECT g, \'gen\' FROM generate_series({number}, {number + 4}) g',
            lambda: f"INSERT INTO codes (code, v) SELECT 's' || id, n FROM scratch{self.of('scratch')}")()
        name = sql.split()[2]
        return Statement(sql + tail + self.returning(name))

    def of(self, name, depth=1):
        return self.where([Item(name, ALL[name][0], None)])

    def change(self, name):
        column, kind = self.pick(*[c for c in WRITTEN[name][0] if c[0] not in UNIQUE[name]])
        own = {'i': f'{column} + 1', 'n': f'{column} * 2', 't': f"{column} || 'x'", 'a': f"{column} || '{{q}}'::text[]", 'c': f'upper({column})',
               'j': f"{column} || '{{\"z\": 1}}'", 'd': f'{column} + 1', 's': f"{column} + interval '1 day'"}
        return f'{column} = {self.pick(self.value(kind), own.get(kind, "NULL"), own.get(kind, "DEFAULT"), "NULL" if column != "note" else "DEFAULT")}'

    def write_update(self):
        name = self.written()
        changes = ', '.join({c.split(' =')[0]: c for c in [self.change(name) for _ in range(self.pick(1, 1, 2))]}.values())
        return Statement(f'UPDATE {name} SET {changes}{self.matching(name)}{self.returning(name)}')

    def matching(self, name):
        """WHERE: with the key, without it, or nothing."""
        if self.chance(0.5):
            terms = [f'{c} = ' + {'region': f"'r{self.rng.randint(0, 2)}'", 'code': f"'c{self.rng.randint(1, KEYS)}'"}.get(c, str(self.rng.randint(0, KEYS)))
                     for c in UNIQUE[name] if c != 'n' or self.chance(0.5)]
            if self.chance(0.3):
                terms = [f'{UNIQUE[name][0]} IN ({terms[0].split(" = ")[1]}, {terms[0].split(" = ")[1]})'] + terms[1:]
            return ' WHERE ' + ' AND '.join(terms)
        return self.of(name)

    def write_update_from(self):
        item = Item('t', WRITTEN['things'][0], 'id')
        return Statement(self.pick(
            lambda: f"UPDATE things AS t SET code = 'up' FROM lines l WHERE l.thing_id = t.id AND {self.term([Item('l', WRITTEN['lines'][0])], 0)} RETURNING t.id",
            lambda: f"UPDATE lines AS l SET note = 'far' FROM things t WHERE t.id = l.thing_id AND {self.term([item], 0)}",
            lambda: f"UPDATE lines SET amount = 5 WHERE thing_id IN (SELECT id FROM things WHERE {self.term([Item('things', WRITTEN['things'][0])], 0)})",
            lambda: f"UPDATE things SET bal = (SELECT count(*) FROM lines WHERE thing_id = things.id){self.matching('things')} RETURNING id, bal",
            lambda: f"UPDATE codes SET v = (SELECT max(k) FROM labels){self.matching('codes')}",
            lambda: f"UPDATE scratch SET n = (SELECT count(*) FROM things){self.matching('scratch')}",
            lambda: "UPDATE things AS t SET code = 'ref' FROM labels r WHERE r.k = t.id RETURNING t.id")())

    def write_delete(self):
        name = self.written()
        rare = self.matching(name)
        return Statement(f'DELETE FROM {name}{rare or " WHERE " + UNIQUE[name][0] + " = " + self.value(dict(WRITTEN[name][0])[UNIQUE[name][0]])}'
                         f'{self.returning(name)}')

    def write_delete_using(self):
        return Statement(self.pick(
            lambda: f"DELETE FROM lines l USING things t WHERE t.id = l.thing_id AND {self.term([Item('t', WRITTEN['things'][0], 'id')], 0)} RETURNING l.thing_id, l.n",
            lambda: f"DELETE FROM things t WHERE NOT EXISTS (SELECT 1 FROM lines l WHERE l.thing_id = t.id) AND t.id > {self.rng.randint(20, 90)} RETURNING id",
            lambda: f"DELETE FROM lines WHERE n > {self.pick(3, 60)}",
            lambda: f"DELETE FROM codes WHERE code IN (SELECT name FROM users) RETURNING *",
            lambda: f"DELETE FROM labels WHERE k > {self.rng.randint(20, 60)}")())

    def write_view(self):
        k = self.rng.randint(1, KEYS + 10)
        note = self.pick("'ab'", "'much too long'", 'NULL')
        return Statement(self.pick(
            lambda: f"INSERT INTO cheap (id, code, bal) VALUES ({k}, 'c', {self.pick(3, 30)}), ({k + 1}, 'd', NULL){self.pick('', ' ON CONFLICT DO NOTHING')}",
            lambda: f'INSERT INTO short VALUES ({k}, {self.pick(1, 70)}, {note}) ON CONFLICT DO NOTHING',
            lambda: f"INSERT INTO plain VALUES ({k}, 'p') ON CONFLICT (id) DO UPDATE SET v = excluded.v RETURNING *",
            lambda: f"UPDATE cheap SET code = 'v', bal = bal + 1{self.of('cheap')}{self.pick('', ' RETURNING id, bal')}",
            lambda: f"UPDATE cheap SET code = 'v' WHERE id = {k}",
            lambda: f"UPDATE short SET note = {note} WHERE thing_id {self.pick('=', '>')} {k}",
            lambda: f"UPDATE plain SET v = v || 'w'{self.of('plain')} RETURNING *",
            lambda: f"UPDATE named SET label = 'n' WHERE k = {k}",
            lambda: f"UPDATE things AS t SET code = 'g' FROM grown g WHERE g.id = t.id AND {self.term([Item('g', VIEWS['grown'][0])], 0)}",
            lambda: f"DELETE FROM cheap WHERE id = {k} RETURNING *",
            lambda: f"DELETE FROM short WHERE thing_id > {k} AND n > 3",
            lambda: f"DELETE FROM lines l USING spent s WHERE s.id = l.thing_id AND s.n > {self.pick(2, 5)}",
            lambda: f"INSERT INTO scratch (id, n) SELECT {k} * 1000 + id, n FROM spent{self.of('spent')} ON CONFLICT DO NOTHING",
            lambda: f"INSERT INTO lines (thing_id, n) SELECT id, 97 FROM grown{self.of('grown')} ON CONFLICT DO NOTHING",
            lambda: f"UPDATE grown SET id = id + 1 WHERE id = {k}",
            lambda: f"UPDATE by_kind SET n = 1")())

    def write_cte(self):
        return Statement(self.pick(
            f"WITH gone AS (DELETE FROM lines WHERE thing_id = {self.rng.randint(1, KEYS)} RETURNING *) SELECT count(*), sum(amount) FROM gone",
            f"WITH got AS (UPDATE things SET bal = 1 WHERE id = {self.rng.randint(1, KEYS)} RETURNING id) SELECT * FROM got",
            f"WITH n AS (SELECT id FROM things WHERE id < {self.rng.randint(1, 9)}) UPDATE things SET code = 'cte' WHERE id IN (SELECT id FROM n)"))

    def write_key(self):
        """New keys that no other row has had: PostgreSQL looks for double ones row by row, in no order that could be told."""
        far = self.rng.randint(10 ** 6, 10 ** 9)
        return Statement(self.pick(
            lambda: f'UPDATE things SET id = id + {far} WHERE id = {self.rng.randint(1, KEYS)}{self.returning("things")}',
            lambda: f'UPDATE things SET id = {self.rng.randint(1, KEYS)} WHERE id = {self.rng.randint(1, KEYS)}{self.returning("things")}',
            lambda: f'UPDATE things SET id = id, {self.change("things")}{self.matching("things")}{self.returning("things")}',
            lambda: f'UPDATE things AS t SET id = t.id + {far}, label = t.code{self.of("things").replace("things.", "t.")} RETURNING t.*',
            lambda: f'UPDATE lines SET thing_id = thing_id + {far % 10 ** 7}, {self.change("lines")}{self.matching("lines")}{self.returning("lines")}',
            lambda: f"UPDATE places SET region = region || '{far}'{self.matching('places')}{self.returning('places')}",
            lambda: f"UPDATE codes SET code = code || '{far}', {self.change('codes')}{self.matching('codes')}{self.returning('codes')}",
            lambda: f"UPDATE things AS t SET id = t.id + {far} FROM labels r WHERE r.k = t.id",
            lambda: f"WITH n AS (SELECT id FROM things WHERE id < {self.rng.randint(1, 9)}) UPDATE things SET id = id + {far} WHERE id IN (SELECT id FROM n)")())

    def write_merge(self):
        """The same source row never meets twice what it changes, but where PostgreSQL must say so (21000)."""
        return Statement(getattr(self, self.pick('merge_rows', 'merge_rows', 'merge_query', 'merge_query', 'merge_wide', 'merge_odd'))())

    def when(self, name, columns, alias='s'):
        """WHEN clauses for a target t; `columns`: what each column of the target is given."""
        keys = set(UNIQUE[name])
        free = [c for c in columns if c not in keys]
        sets = ', '.join(f'{c} = {columns[c]}' for c in free if self.chance(0.7)) or f'{free[0]} = DEFAULT'
        matched = self.pick(f'UPDATE SET {sets}', f'UPDATE SET {sets}', 'DELETE', 'DO NOTHING')
        own = self.pick('', '', '', f' AND t.{self.pick(*free)} IS {self.pick("", "NOT ")}NULL', f' AND {alias}.k > {self.rng.randint(0, KEYS)}')
        made = list(columns)
        self.rng.shuffle(made)
        insert = self.pick(f'INSERT ({", ".join(made)}) VALUES ({", ".join(columns[c] for c in made)})', 'DO NOTHING')
        missing = self.pick('', '', f' AND {alias}.k IS NOT NULL', f' AND {alias}.k % 2 = 0')
        clauses = [f'WHEN MATCHED{own} THEN {matched}', f'WHEN NOT MATCHED{missing} THEN {insert}']
        if own and self.chance(0.4):
            clauses.insert(1, 'WHEN MATCHED THEN DELETE')
        return ' '.join(clauses if self.chance(0.8) else clauses[:1] if self.chance(0.5) else clauses[-1:])

    def merge_rows(self):
        """VALUES, arrays, a row of constants."""
        some = self.rng.sample(range(1, KEYS + 20), self.pick(1, 1, 2, 5))
        texts = [self.pick("'m'", "'a b'", "'\"{}\\'", 'NULL', "''") for _ in some]
        keys = [str(k) for k in some]
        odd = self.pick('', '', '', '', '', 'twice', 'NULL', 'amount')  # one error at most: which of two comes first is nobody's promise
        if odd == 'twice':
            keys[-1] = keys[0]
        if odd == 'NULL':
            keys[-1] = 'NULL::int'
        lines = ', '.join(f'({k}, {t})' for k, t in zip(keys, texts))
        source = self.pick(f'(VALUES {lines}) s(k, x)', f'(VALUES {lines}) AS s (k, x)', f'(SELECT * FROM (VALUES {lines}) v(k, x) ORDER BY k) s',
                           f'unnest(ARRAY[{", ".join(keys)}], ARRAY[{", ".join(texts)}]::text[]) s(k, x)',
                           f'(SELECT {keys[0]}::bigint AS k, {texts[0]}::text AS x) AS s')
        name = self.pick('things', 'things', 'lines', 'places')
        if name == 'things':
            return f'MERGE INTO things t USING {source} ON {self.pick("t.id = s.k", "s.k = t.id", "t.id = s.k AND t.bal >= 0", "id = k")} ' + \
                self.when('things', {'id': 's.k', 'code': 's.x', 'label': self.pick("s.x || '!'", 's.x'), 'bal': self.pick('s.k * 2', '7')})
        if name == 'lines':
            return f'MERGE INTO lines t USING {source} ON t.thing_id = s.k AND t.n = {self.pick(0, 1, "s.k % 4")} ' + \
                self.when('lines', {'thing_id': 's.k', 'n': self.pick('0', '1', 's.k % 4'), 'note': "coalesce(s.x, 'm')", 'amount': '2000' if odd == 'amount' else 's.k'})
        region = self.pick('s.x', "coalesce(s.x, 'r1')")
        return f"MERGE INTO places t USING (SELECT q.k, 'r' || q.k % 3 AS r, q.x FROM {source.replace(') s', ') q').replace('AS s', 'AS q')}) s " \
            f'ON t.tenant = s.k AND t.region = s.r ' + self.when('places', {'tenant': 's.k', 'region': self.pick('s.r', 's.r', region), 'v': 's.k + 1'})

    def merge_query(self):
        """Subqueries and tables, with the key or without it."""
        number = self.rng.randint(1, 60)
        source, k, x = self.pick(
            lambda: (f'(SELECT thing_id AS k, count(*) AS n, max(note) AS x FROM lines{self.of("lines")} GROUP BY thing_id) s', 's.k', 's.x'),
            lambda: (f'(SELECT user_id AS k, min(item) AS x FROM orders{self.of("orders")} GROUP BY 1) s', 's.k', 's.x'),
            lambda: (f'(SELECT DISTINCT user_id AS k, \'d\' AS x FROM events{self.of("events")}) s', 's.k', 's.x'),
            lambda: (f'(SELECT id + {number} AS k, name AS x FROM users{self.of("users")}) AS s', 's.k', 's.x'),
            lambda: (f'(SELECT k, label AS x FROM labels) s', 's.k', 's.x'),
            lambda: (f'(SELECT id AS k, name AS x FROM {self.pick("grown", "spent")}) s', 's.k', 's.x'),
            lambda: ('spent s', 's.id', 's.name'),
            lambda: (f'(SELECT id AS k, v AS x FROM scratch{self.of("scratch")}) s', 's.k', 's.x'),
            lambda: (f'(SELECT l.thing_id AS k, string_agg(t.code, \',\' ORDER BY t.id) AS x FROM lines l JOIN things t ON t.id = l.n GROUP BY 1) s', 's.k', 's.x'))()
        sql = f'MERGE INTO things t USING {source} ON t.id = {k} ' + self.when('things', {'id': k, 'code': f'left({x}, 12)', 'bal': '3', 'seen': "'2024-01-01'"})
        if self.chance(0.15):
            sql = f'WITH w AS (SELECT id, code FROM things{self.of("things")}), s AS (SELECT id + {number} AS k, code AS x FROM w) ' \
                f'MERGE INTO things t USING s ON t.id = s.k ' + self.when('things', {'id': 's.k', 'code': 's.x'})
        return sql

    def merge_wide(self):
        """Nothing is inserted: the key is not needed."""
        return self.pick(
            f"MERGE INTO things t USING (VALUES ('up'), ('{self.pick(*WORDS)}'), ('new')) s(x) ON t.code = s.x WHEN MATCHED THEN "
            f'{self.pick("DELETE", "UPDATE SET bal = bal + 1", "UPDATE SET code = NULL")}',
            f'MERGE INTO lines t USING (SELECT DISTINCT kind FROM events WHERE kind IS NOT NULL) s ON t.n = s.kind WHEN MATCHED AND t.amount > {self.rng.randint(0, 9)} '
            f'THEN {self.pick("DELETE", "UPDATE SET amount = 1")}',
            'MERGE INTO lines t USING scratch s ON t.thing_id = s.id WHEN MATCHED THEN UPDATE SET note = coalesce(s.v, t.note)',
            f"MERGE INTO codes t USING (SELECT name AS code, count(*) AS n FROM users GROUP BY 1) s ON t.code = s.code WHEN MATCHED THEN UPDATE SET v = n "
            f"WHEN NOT MATCHED AND s.code IS NOT NULL THEN INSERT VALUES (s.code, s.n)")

    def merge_odd(self):
        """What is an error, or refused."""
        k = self.rng.randint(1, KEYS)
        return self.pick(
            "MERGE INTO lines l USING things t ON l.thing_id = t.id WHEN MATCHED AND l.n > 2 THEN DELETE WHEN NOT MATCHED THEN "
            "INSERT (thing_id, n, note) VALUES (t.id, 0, 'merged')",
            f"MERGE INTO things t USING (VALUES ({k}, 'm')) s(id, c) ON t.id = s.id WHEN NOT MATCHED THEN INSERT (id, code) VALUES (s.id + 1, s.c)",
            f"MERGE INTO things t USING (VALUES ({k}, 'm')) s(id, c) ON t.id = s.id WHEN MATCHED THEN UPDATE SET nothing = 1",
            f"MERGE INTO things t USING (VALUES ({k}, 'much longer than twelve')) s(id, c) ON t.id = s.id WHEN MATCHED THEN UPDATE SET code = s.c "
            f'WHEN NOT MATCHED THEN INSERT (id, code) VALUES (s.id, s.c)',
            "MERGE INTO things t USING (SELECT user_id AS k, note AS x FROM events) s ON t.id = s.k WHEN MATCHED THEN UPDATE SET code = left(s.x, 12)",
            f"MERGE INTO scratch t USING (SELECT id, name FROM users) s ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = s.name",
            f"MERGE INTO labels t USING (VALUES ({k}, 'm')) s(k, c) ON t.k = s.k WHEN MATCHED THEN UPDATE SET label = s.c "
            f'WHEN NOT MATCHED THEN INSERT VALUES (s.k, s.c)',
            f"MERGE INTO things t USING (SELECT {k} AS id, * FROM scratch) s ON t.code = s.v WHEN MATCHED THEN UPDATE SET bal = (SELECT count(*) FROM lines)")

    def write(self):
        forms = ['write_insert'] * 6 + ['write_insert_select'] * 3 + ['write_update'] * 5 + ['write_update_from'] * 3 + \
            ['write_delete'] * 3 + ['write_delete_using'] * 2 + ['write_cte', 'write_key', 'write_key', 'write_merge', 'write_merge', 'write_view', 'write_view']
        made = getattr(self, self.pick(*forms))()
        made.writes = True
        if self.chance(0.3):
            self.parametrize(made)
        return made

    # -- the draw

    def script(self):
        roll = self.rng.random()
        if roll < 0.6:
            return Script([self.statement()])
        if roll < 0.9:
            return Script([self.write()])
        inside = [self.write() if self.chance(0.6) else self.statement() for _ in range(self.pick(2, 3, 5))]
        if self.chance(0.25):
            at = self.rng.randint(0, len(inside) - 1)
            inside[at:at] = [Statement('SAVEPOINT s')]
            inside.append(Statement(self.pick('ROLLBACK TO s', 'RELEASE s')))
            inside.append(self.statement())
        return Script([Statement('BEGIN')] + inside + [Statement(self.pick('COMMIT', 'COMMIT', 'ROLLBACK'))], True)
