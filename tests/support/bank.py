"""bank.py - transfers over shards, and what must be true of them whatever happened.

    bank(id, balance)        the sum over all shards never changes
    ledger(id, tid, amount)  a transfer `tid` has left all of its rows, on every shard it touched, or none

A client's answer is one of
    committed   COMMIT was answered: all rows must be there
    failed      an error that says it is not committed: none may be there
    unknown     the connection ended, 08007, or no answer in time: all or none
"""
import time
from collections import Counter

from .cluster import wait_until
from .wire import CLOSED, TIMEOUT, PgError, errors_of, query

START = 1000
UNKNOWN = ('08007', '40003')


class Bank:
    def __init__(self, shoal, clusters, accounts=60, database='app'):
        self.clusters, self.database = clusters, database
        with shoal.connect(database) as conn:
            conn.query('CREATE TABLE bank (id bigint PRIMARY KEY, balance bigint NOT NULL)')
            conn.query('CREATE TABLE ledger (id bigint, tid bigint, amount bigint, PRIMARY KEY (id, tid))')
            for table in ('bank', 'ledger'):
                conn.query(f"SELECT shoal.distribute_table('{table}', 'id')")
            for k in range(accounts):
                conn.query(f'INSERT INTO bank VALUES ({k}, {START})')
        self.by_shard = [[int(row[0]) for row in c.query('SELECT id FROM bank ORDER BY id', database)]
                         for c in clusters]
        assert all(self.by_shard), 'every shard must have accounts'
        self.accounts = accounts
        self.outcomes = {}  # tid -> (outcome, ids)
        self.next_tid = 1

    # -- one transfer ------------------------------------------------------------------------

    def accounts_on(self, shards, rng):
        """One account of each of these shards."""
        return [rng.choice(self.by_shard[s]) for s in shards]

    def take_tid(self):
        self.next_tid += 1
        return self.next_tid - 1

    def statements(self, ids, tid):
        """The first pays what the others get."""
        amounts = [-(len(ids) - 1)] + [1] * (len(ids) - 1)
        for k, amount in zip(ids, amounts):
            yield f'UPDATE bank SET balance = balance + {amount} WHERE id = {k}'
            yield f'INSERT INTO ledger VALUES ({k}, {tid}, {amount})'

    def transfer(self, conn, ids, tid, timeout_s=30, note=None):
        """Runs it on an open connection; returns and records how the client saw it end."""
        outcome = 'failed'
        text = None
        try:
            conn.query('BEGIN')
            for sql in self.statements(ids, tid):
                conn.query(sql)
        except (PgError, OSError) as err:
            text = str(err)
            self.rollback(conn)
        else:
            outcome, text = self.commit(conn, timeout_s)
        self.outcomes[tid] = (outcome, ids, text)
        return outcome

    @staticmethod
    def commit(conn, timeout_s):
        seen = conn.exchange(query('COMMIT'), 1, timeout_s)
        errors = errors_of(seen)
        tags = [m.body for m in seen if m.type == 'C']
        if errors:
            return ('unknown' if errors[0].code in UNKNOWN else 'failed'), str(errors[0])
        if tags == [b'COMMIT\0']:
            return 'committed', None
        if tags == [b'ROLLBACK\0']:
            return 'failed', 'ROLLBACK'
        assert seen[-1] in (CLOSED, TIMEOUT), seen
        return 'unknown', seen[-1].type

    @staticmethod
    def rollback(conn):
        try:
            conn.query('ROLLBACK')
        except (PgError, OSError):
            pass

    def forget(self):
        """After a failure: begins anew, with what is there."""
        for cluster in self.clusters:
            cluster.sql('TRUNCATE ledger', f'UPDATE bank SET balance = {START}', database=self.database)
        self.outcomes.clear()

    # -- what must hold ------------------------------------------------------------------------

    def prepared(self):
        return [row for c in self.clusters
                for row in c.query("SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'shoal%'")]

    def working(self):
        """Server processes that are in the middle of somebody's commit, or of any other statement."""
        return [row for c in self.clusters for row in c.query(
            "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND application_name <> 'shoal control'"
            " AND pid <> pg_backend_pid()", self.database)]

    def wait_settled(self, timeout_s=10):
        """Nothing is prepared, and nothing that could prepare or commit something is under way."""
        def settled():
            for _ in range(2):
                if self.prepared() or self.working():
                    return False
                time.sleep(0.1)
            return True
        wait_until('no transaction to be prepared any more', settled, timeout_s)

    def check(self):
        """Bank sum, all or nothing, and every client's answer; returns how many ended in which way."""
        found = Counter()
        rows = []
        for cluster in self.clusters:
            rows += [(int(t), int(k), int(a)) for t, k, a in
                     cluster.query('SELECT tid, id, amount FROM ledger', self.database)]
        legs = {}
        for tid, k, amount in rows:
            legs.setdefault(tid, {})[k] = amount
        assert set(legs) <= set(self.outcomes), 'rows of transfers that nobody has begun'
        for tid, (outcome, ids, text) in self.outcomes.items():
            there = set(legs.get(tid, {}))
            assert there in (set(), set(ids)), f'transfer {tid} ({outcome}) of {ids} is on {there}'
            assert sum(legs.get(tid, {}).values()) == 0
            assert outcome != 'committed' or there, f'transfer {tid} was acknowledged and is lost'
            assert outcome != 'failed' or not there, f'transfer {tid} was told to have failed ({text}), and is there'
            found[outcome] += 1
        total = sum(int(c.query('SELECT coalesce(sum(balance), 0) FROM bank', self.database)[0][0])
                    for c in self.clusters)
        assert total == self.accounts * START, f'the bank has {total}'
        return found
