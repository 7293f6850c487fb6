"""One connection's part of the oracle: scripts run on Shoal and on one PostgreSQL, and held against each other.

Many lanes run beside one another, each a process with a database of its own, so that writes of one do not disturb another.
A script that Shoal refuses (0A000) is taken back on PostgreSQL, too, and counted by its reason.
"""
import multiprocessing
import os
import random
import time
from collections import Counter
from decimal import Decimal

from . import sql_grammar as grammar
from .wire import Conn, bind, describe, errors_of, execute, parse, query, rows_of, sync, tags_of

REFUSED = '0A000'
SECONDS = int(os.environ.get('SHOAL_ORACLE_S', '0')) or 10 ** 6  # a run ends after this long, and says how far it came
CHECK_EVERY = 40  # writing scripts between two looks at whole tables


def bytes_of(statement):
    if not statement.values:
        return query(statement.sql)
    return parse('', statement.sql) + bind('', '', statement.values) + describe('P') + execute() + sync()


def columns_of(seen):
    """Names and types of the answer. Types of users have their own OID in each database."""
    body = next((m.body for m in seen if m.type == 'T'), b'\0\0')
    out, at = [], 2
    for _ in range(int.from_bytes(body[:2], 'big')):
        end = body.index(b'\0', at)
        oid = int.from_bytes(body[end + 7:end + 11], 'big')
        out.append((body[at:end], oid if oid < 16384 else 'user'))
        at = end + 19
    return out


def plain(value, oid):
    """1.20 and 1.2 are equal: which of them DISTINCT keeps, and which comes first, is nobody's promise."""
    return Decimal(value.decode()).normalize() if oid == 1700 and value is not None else value


def outcome(seen, ordered):
    if seen[-1].type in ('closed', 'timeout'):
        return seen[-1].type
    if errors_of(seen):
        return errors_of(seen)[0].code
    columns = columns_of(seen)
    rows = [tuple(plain(value, oid) for value, (_, oid) in zip(row, columns)) for row in rows_of(seen)]
    return columns, tags_of(seen), rows if ordered else Counter(rows)


class Lane:
    """`shards`: addresses of the servers behind Shoal, the home shard first; `solo`: of the one PostgreSQL."""

    def __init__(self, name, seed, shoal, shards, solo):
        self.name, self.seed, self.shoal, self.shards, self.solo = name, seed, shoal, shards, solo
        self.counts, self.refused, self.wrong = Counter(), Counter(), []

    def set_up(self):
        rng = random.Random(self.seed)
        inserts = list(grammar.rows(rng))
        for address, mine in ((self.solo, False), (self.shoal, True)):
            with Conn(address, self.name, 'app', timeout_s=60) as conn:
                for sql in grammar.DDL + (grammar.PLACEMENT if mine else []) + grammar.VIEW_DDL:
                    conn.query(sql)
                for at in range(0, len(inserts), 1 if mine else 100):
                    conn.query(inserts[at] if mine else '; '.join(inserts[at:at + 100]))

    def run(self, count):
        with Conn(self.shoal, self.name, 'app', timeout_s=120) as ours, Conn(self.solo, self.name, 'app', timeout_s=120) as theirs:
            number, unseen, end = 0, 0, time.monotonic() + SECONDS
            while self.counts['statements'] < count and len(self.wrong) < 5 and time.monotonic() < end:
                script = grammar.Wide(f'{self.seed} {number}').script()
                where = f'seed {self.seed}, script {number}'
                number += 1
                if not self.one(script, where, ours, theirs):
                    break
                unseen += any(getattr(s, 'writes', False) for s in script.statements)
                if unseen == CHECK_EVERY:
                    unseen = 0
                    if not self.tables_agree(theirs, where):
                        break
            if not self.wrong:
                self.tables_agree(theirs, 'the end')
        return self

    def one(self, script, where, ours, theirs):
        """False: the two sides are no longer alike."""
        for at, statement in enumerate(script.statements):
            data = bytes_of(statement)
            mine = ours.exchange(data)
            actual = outcome(mine, statement.ordered)
            self.counts['statements'] += 1
            writes = getattr(statement, 'writes', False)
            if actual == REFUSED and (writes or script.block):
                self.refuse(mine)
                if script.block:
                    ours.query('ROLLBACK')
                    theirs.query('ROLLBACK')
                return True
            expected = outcome(theirs.exchange(data), statement.ordered)
            if actual == REFUSED and expected != REFUSED:
                self.refuse(mine)
                continue
            if actual != expected:
                self.wrong.append(f'{where}, statement {at + 1} of {script!r}\n  {statement!r}\n  PostgreSQL {short(expected)}\n'
                                  f'  Shoal      {short(actual)} {errors_of(mine)}')
                if script.block or writes or actual in ('closed', 'timeout'):
                    return False
                continue
            self.counts['failed alike' if isinstance(expected, str) else 'answered alike'] += 1
            self.counts['written alike'] += writes and not isinstance(expected, str)
        return True

    def refuse(self, seen):
        err = errors_of(seen)[0]
        self.counts['refused'] += 1
        self.refused[f"{err['M']}: {err['D']}"] += 1

    def tables_agree(self, theirs, where):
        """What stands on the shards, all together, is what PostgreSQL has; reference tables whole on each."""
        for name in grammar.WRITTEN:
            expected = Counter(map(tuple, theirs.query(f'SELECT * FROM {name}')))
            found = []
            for address in self.shards:
                with Conn(address, self.name, 'app', timeout_s=60) as conn:
                    found.append(Counter(map(tuple, conn.query(f'SELECT * FROM {name}'))))
            if name == 'labels':
                same = all(rows == expected for rows in found)
            else:
                same = sum(found, Counter()) == expected
            if not same:
                total = sum(found, Counter())
                self.wrong.append(f'{where}: table {name} differs: missing {short(expected - total)}, too many {short(total - expected)}')
                return False
        return True


def short(value):
    return repr(value)[:3000]


def _worker(lane, count, queue):
    try:
        lane.run(count)
        queue.put((lane.name, lane.counts, lane.refused, lane.wrong))
    except BaseException as err:  # whatever it is, the parent must hear of it
        queue.put((lane.name, lane.counts, lane.refused, lane.wrong + [f'{lane.name}: {err!r}']))


def run_together(lanes, count):
    """Each lane in a process of its own; (counts, refusals by reason, what was wrong) of all."""
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    workers = [context.Process(target=_worker, args=(lane, count, queue), daemon=True) for lane in lanes]
    for worker in workers:
        worker.start()
    counts, refused, wrong = Counter(), Counter(), []
    for _ in workers:
        name, some, reasons, bad = queue.get()
        counts.update(some)
        refused.update(reasons)
        wrong += [f'[{name}] {text}' for text in bad]
    for worker in workers:
        worker.join()
    return counts, refused, wrong
