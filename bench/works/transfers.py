"""transfers - two updates in one transaction: on one shard, and over two (two-phase commit); fsync on.

Both kinds go through the same shoald over the same two servers. A commit over two shards waits for three
syncs, two of them one after the other, and for three rounds instead of one; how many syncs the servers
really made is counted (pg_stat_wal). Direct: the same two updates in one PostgreSQL.
"""
import statistics

from bench.harness import Bar, Side, pgbench, ratio, result, say

ROWS = 100000
HALF = ROWS // 2
TRANSFER = ('BEGIN;\nUPDATE purse SET coins = coins - 1 WHERE id = :a;\n'
            'UPDATE purse SET coins = coins + 1 WHERE id = :b;\nCOMMIT;\n')
SCRIPTS = {
    'one': f'\\set s random(0, 1)\n\\set a :s * {HALF} + random(1, {HALF})\n\\set b :s * {HALF} + random(1, {HALF})\n',
    'two': f'\\set a random(1, {HALF})\n\\set b {HALF} + random(1, {HALF})\n',
}
TABLE = 'CREATE TABLE purse (id int PRIMARY KEY, coins int NOT NULL)'


def syncs(clusters):
    """Backends tell their counts when they end."""
    for cluster in clusters:
        cluster.sql("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                    ' AND pid <> pg_backend_pid()')
    return sum(int(c.query('SELECT wal_sync FROM pg_stat_wal')[0][0]) for c in clusters)


def prepare(bench):
    bench.options.fsync = True  # without it there is nothing to measure
    shards = {name: bench.cluster(name, tables=False) for name in ('s0', 's1')}
    side = bench.start_shoal('shoal', shards)
    bench.made['transfers'] = side
    with side.connect() as conn:
        conn.query(TABLE)
        conn.query(f"SELECT shoal.distribute_by_range('purse', 'id', '*@s0, {HALF + 1}@s1')")
        for first in range(1, ROWS, 5000):
            conn.query('INSERT INTO purse VALUES ' + ', '.join(f'({i}, 1000)' for i in range(first, first + 5000)))
    direct = bench.cluster('direct', tables=False)
    direct.sql(TABLE, f'INSERT INTO purse SELECT i, 1000 FROM generate_series(1, {ROWS}) i', database='bench')
    for cluster in [*shards.values(), direct]:
        cluster.sql('VACUUM ANALYZE purse', 'CHECKPOINT', database='bench')
    return side, list(shards.values()), direct


def run(bench, options):
    clients = int(options.clients or 16)
    side, clusters, direct = prepare(bench)
    sides = [Side(kind, side.port, clusters, side.process) for kind in ('one', 'two')]
    sides.append(Side('direct', direct.port, [direct]))
    scripts = {kind: bench.script(kind, text + TRANSFER) for kind, text in SCRIPTS.items()}
    scripts['direct'] = scripts['two']
    synced = {s.name: [] for s in sides}

    def turn(s):
        before = syncs(s.clusters)
        done = pgbench(s, clients, options.seconds, scripts[s.name], options.protocol)
        synced[s.name].append((syncs(s.clusters) - before) / (done.tps * options.seconds))
        return done
    runs = bench.rounds(sides, turn)
    with side.connect() as conn:
        total = conn.query('SELECT sum(coins) FROM purse')[0][0]
    if int(total) != ROWS * 1000:
        raise AssertionError(f'the purses hold {total} coins')
    per = {name: round(statistics.median(values), 2) for name, values in synced.items() if values}
    say(f'  WAL syncs per transaction (commits of several clients share them): {per}')
    return [result('transfers', options, runs, [
        Bar(f'transfers, {clients} clients: over two shards x on one', ratio(runs, 'two', 'one'), 0.5, False)],
        clients=clients, protocol=options.protocol, syncs=per)]
