"""writes - single-row updates with fsync on: two shoalds, one with batch_writes for the table, one without.

Every side is its own client's commit; only `shoal` lets several clients share one. Run it with --fsync.
"""
from bench.harness import pgbench, result, say

SCRIPT = ('\\set aid random(1, 100000 * :scale)\n'
          'UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n')


def run(bench, options):
    if not options.fsync:
        say('writes: without --fsync a commit costs next to nothing, and this measures little')
    shards = {'s0': bench.cluster()}
    shared = bench.start_shoal('shoal', shards, tables={'pgbench_accounts': {'batch_writes': 'on'}})
    plain = bench.start_shoal('plain', shards)
    bench.made['shoal-writes'], bench.made['shoal-plain'] = shared, plain
    script = bench.script('writes', SCRIPT)
    results = []
    for clients in map(int, (options.clients or '64').split(',')):
        runs = bench.rounds(bench.sides('direct', 'pgbouncer') + [shared, plain],
                            lambda side: pgbench(side, clients, options.seconds, script, options.protocol,
                                                 variables={'scale': options.scale}))
        results.append(result('writes', options, runs, [], clients=clients, protocol=options.protocol))
    return results
