"""mixed - lookups and 10 % single-row updates; Shoal has two shards, the others one server.

Each shard holds all rows, and only those that belong to it are ever asked for: loading is not what is
measured.
"""
from bench.harness import Bar, pgbench, ratio, result

SCRIPT = ('\\set id random(1, 100000 * :scale)\n\\set dice random(1, 10)\n\\if :dice = 1\n'
          'UPDATE mixed SET balance = balance + 1 WHERE id = :id;\n\\else\nSELECT balance FROM mixed WHERE id = :id;\n\\endif\n')
TABLE = 'CREATE TABLE mixed (id bigint PRIMARY KEY, balance int, filler text) WITH (fillfactor = 80)'
ROWS = "INSERT INTO mixed SELECT i, 0, repeat('x', 80) FROM generate_series(1, {}) i"


def load(bench, cluster):
    cluster.sql(ROWS.format(100000 * bench.options.scale), 'VACUUM ANALYZE mixed', 'CHECKPOINT', database='bench')


def run(bench, options):
    home = bench.cluster()
    shards = {name: bench.cluster(name, tables=False) for name in ('m0', 'm1')}
    home.sql(TABLE, database='bench')
    load(bench, home)
    shoal = bench.start_shoal('shoal', shards)
    bench.made['shoal-mixed'] = shoal
    with shoal.connect() as conn:
        conn.query(TABLE)
        conn.query("SELECT shoal.distribute_table('mixed', 'id')")
    for cluster in shards.values():
        load(bench, cluster)
    script = bench.script('mixed', SCRIPT)
    results = []
    for clients in map(int, (options.clients or '64').split(',')):
        runs = bench.rounds(bench.sides('direct', 'pgbouncer') + [shoal],
                            lambda side: pgbench(side, clients, options.seconds, script, options.protocol,
                                                 variables={'scale': options.scale}))
        results.append(result('mixed', options, runs, [] if clients < 64 else [
            Bar(f'mixed, {clients} clients, 2 shards: x PgBouncer on one server', ratio(runs, 'shoal', 'pgbouncer'), 3.0, False)],
            clients=clients, protocol=options.protocol))
    return results
