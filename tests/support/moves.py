"""moves.py - a cluster whose buckets move: asked for, waited for, and held to account afterwards.

    check(cluster)   every key once, on the shard that the map names; nothing left behind
"""
import hashlib
import time

from . import host
from .cluster import Cluster, wait_until
from .shoal import Shoal

OVER = ('done', 'cancelled', 'failed')
# Workers of a subscription start at once instead of each 5 s: the tests are about other things.
FAST = {'wal_retrieve_retry_interval': "'200ms'"}
LEFTOVERS = """
    SELECT 'slot ' || slot_name FROM pg_replication_slots
    UNION ALL SELECT 'subscription ' || subname FROM pg_subscription
    UNION ALL SELECT 'publication ' || pubname FROM pg_publication
    UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgname ~ '^shoal_'
    UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE proname ~ '^move_'
    UNION ALL SELECT 'prepared ' || gid FROM pg_prepared_xacts"""


class Moving:
    """`count` shards behind one shoald; tables are made on all of them and distributed."""

    def __init__(self, workspace, count, ddl, tables, settings=None, buckets=64, cluster_settings=None,
                 spare=0):
        self.workspace, self.ddl, self.tables = workspace, ddl, tables
        self.clusters = [self.make_cluster(i, cluster_settings, bare=i >= count) for i in range(count + spare)]
        self.shoal = Shoal(workspace, {c.name: c for c in self.clusters[:count]}, databases={'app': {}},
                           users={'admin': {'admin': 'on'}, 'app': {'admin': 'on'}},
                           tables={name: {'key': key} for name, key in tables.items()},
                           settings=dict({'buckets': buckets, 'move_rollback_window': '0', 'workers': 2},
                                         **(settings or {})), name=f'moving{count}')

    def make_cluster(self, number, settings=None, bare=False):
        cluster = Cluster(self.workspace, f's{number}', dict(FAST, **(settings or {}))).create().start()
        if bare:  # a new server, as it comes
            return cluster
        cluster.sql('CREATE ROLE app LOGIN SUPERUSER', 'CREATE ROLE admin LOGIN', 'CREATE DATABASE app OWNER app')
        if self.ddl:
            cluster.sql(*self.ddl, database='app', user='app')
        return cluster

    def finish(self):
        try:
            self.shoal.finish()
        finally:
            for cluster in self.clusters:
                cluster.stop()

    def add_shard(self, cluster):
        """Writes its section and lets it join."""
        self.shoal.shards[cluster.name] = (cluster,)
        self.shoal.write_ini()
        return self.shoal.console(f'SHARD ADD {cluster.name}')

    def joined(self):
        return [c for c in self.clusters if c.name in self.shoal.shards]

    # -- moves -------------------------------------------------------------------------------

    def move(self, buckets, target):
        return int(self.shoal.console(f'MOVE {buckets} TO {target}')[0]['move'])

    def state(self, number):
        return {int(row['id']): row for row in self.shoal.console('SHOW MOVES')}[number]

    def wait(self, number, states=OVER, timeout_s=60):
        try:
            wait_until(f'move {number} to be one of {states}',
                       lambda: self.state(number)['state'] in states, timeout_s, 0.1)
        except AssertionError as err:
            raise AssertionError(f'{err}: {self.state(number)}\n{self.told()}') from None
        return self.state(number)

    def told(self):
        """What the log says of moves: for a test that has failed."""
        lines = [line for line in self.shoal.log.read_text(errors='replace').splitlines() if ' move' in line]
        return '\n'.join(lines[-40:])

    def wait_all(self, timeout_s=120):
        wait_until('all moves to be over', lambda: all(row['state'] in OVER for row in self.shoal.console('SHOW MOVES')),
                   timeout_s, 0.1)
        return self.shoal.console('SHOW MOVES')

    def owners(self):
        """bucket -> name of its shard."""
        found = {}
        for row in self.shoal.console('SHOW MAP'):
            for run in filter(None, (row['ranges'] or '').split(', ')):
                first, last = run.split('-')
                for bucket in range(int(first), int(last) + 1):
                    found[bucket] = row['shard']
        return found

    # -- the truth ---------------------------------------------------------------------------

    def bucket_sql(self, column):
        count = int(self.shoal.settings['buckets'])
        return (f'((((hashint8extended({column}, 8816678312871386365) & {count - 1}) + '
                f'{0x49a0f4dd15e5a8e3 & (count - 1)}) & {count - 1}))')

    def misplaced(self):
        """Rows that lie where the map does not name their bucket."""
        owners, wrong = self.owners(), []
        for cluster in self.joined():
            for table, key in self.tables.items():
                for bucket, count in cluster.query(
                        f'SELECT {self.bucket_sql(key)}, count(*) FROM {table} GROUP BY 1', 'app'):
                    if owners[int(bucket)] != cluster.name:
                        wrong.append((cluster.name, table, int(bucket), int(count)))
        return wrong

    def digest(self):
        """Of all rows of all shards together: one copy each, whichever shard it lies on."""
        lines = []
        for cluster in self.joined():
            for table in self.tables:
                lines += [f'{table} {row[0]}' for row in cluster.query(f'SELECT (t.*)::text FROM {table} t', 'app')]
        return hashlib.sha256('\n'.join(sorted(lines)).encode()).hexdigest(), len(lines)

    def leftovers(self):
        return [(c.name, row[0]) for c in self.joined() for row in c.query(LEFTOVERS, 'app')]

    def check(self):
        assert self.misplaced() == []
        wait_until('nothing to be left behind', lambda: not self.leftovers(), 10, 0.2)

    def pauses_ms(self):
        return [int(row['event'].rsplit(' ', 2)[-2]) for row in self.shoal.console('SHOW EVENTS')
                if 'held back for' in row['event']]

    def phases_ms(self):
        return phases_of(self.shoal.console('SHOW EVENTS'))


def phases_of(events):
    """phase of the pause -> what it took in each move; of SHOW EVENTS."""
    found = {}
    for row in events:
        if 'held back for' not in row['event']:
            continue
        inner = row['event'].split('now (', 1)[1].split(')', 1)[0]
        for phase in inner.split(', '):
            name, ms = phase.rsplit(' ', 1)
            found.setdefault(name, []).append(int(ms))
    return found


def phase_table(phases):
    """For people: what the pauses were spent on."""
    return '\n'.join(f'{name:>16}  median {sorted(ms)[len(ms) // 2]:>4} ms, most {max(ms):>4} ms  of {len(ms)}'
                     for name, ms in phases.items())


def pause_histogram(pauses):
    """For people: how long statements were held back."""
    edges = (50, 100, 150, 250, 500, 1000, 3000, 10**9)
    lines, low = [], 0
    for edge in edges:
        count = sum(low <= p < edge for p in pauses)
        if count:
            lines.append(f'{low:>5} ms ..{"" if edge == 10**9 else edge:>5}  {"#" * count} {count}')
        low = edge
    return '\n'.join(lines)


__all__ = ['Moving', 'pause_histogram', 'phase_table', 'phases_of', 'host', 'time']
