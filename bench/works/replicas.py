"""replicas - one of three replicas answers 50 ms late: what users wait, by policy, at a fixed rate.

Round robin without hedging is what a load balancer in front of PostgreSQL does; every third read meets the slow
server. The default and hedging must keep the 99th percentile away from it, and hedging must stay within its cap.
"""
import statistics

from bench.harness import Bar, Side, pgbench, quantile, result, say
from bench.works.point import SCRIPT
from tests.support.proxy import Proxy
from tests.support.shoal import Shoal

SLOW_S = 0.05
SIDES = {
    'round robin': {'balance': 'round_robin', 'hedge': 'off'},
    'default': {'hedge': 'off'},
    'default, hedged': {'hedge': 'on'},
    'round robin, hedged': {'balance': 'round_robin', 'hedge': 'on', 'hedge_percentile': '60', 'hedge_max': '40'},
}


def start(bench, name, servers, settings):
    shoal = Shoal(bench.workspace, {'s0': servers}, name=name.replace(', ', '-').replace(' ', '-'),
                  databases={'bench': {'pool_size': '40', 'read_consistency': 'eventual'}},
                  users={'admin': {'admin': 'on'}, 'postgres': {'admin': 'on'}},
                  settings={'workers': 1}, batch={'batch': 'off', 'batch_proof_every': 0}, replicas=settings)
    shoal.start()
    side = Side(name, shoal.port, [], shoal.process, stop=shoal.finish)
    side.shoal = shoal
    bench.made[name] = side
    return side


def counted(side, column, server=None):
    return sum(int(row[column]) for row in side.shoal.console('SHOW REPLICAS') if server in (None, row['server']))


def felt(side):
    """(reads that waited for the slow one's answer, reads): those that were asked there, less those that another one
    answered sooner. Unlike a percentile of times it does not depend on what else the machine does."""
    saved = sum(counted(side, 'hedge_wins', f's0/replica{i}') for i in (1, 2))
    return counted(side, 'reads', 's0/replica3') - saved, counted(side, 'reads') - counted(side, 'hedges')


def run(bench, options):
    clients, rate = int(options.clients or 64), 400
    primary = bench.cluster()
    replicas = [primary.create_replica(f'replica{i}', {'max_connections': '600'}).start() for i in (1, 2, 3)]
    for i, replica in enumerate(replicas):
        bench.clusters[f'replica{i}'] = replica
        primary.wait_caught_up(replica, 60)
    slow = Proxy(replicas[2].port)
    slow.delay(SLOW_S)
    sides = [start(bench, name, (primary, *replicas[:2], slow), settings) for name, settings in SIDES.items()]
    script, variables = bench.script('point', SCRIPT), {'scale': options.scale}
    for side in sides:  # connections are open, latencies known
        pgbench(side, clients, 4, script, 'simple', rate, variables)
    before = {side.name: felt(side) for side in sides}
    runs = bench.rounds(sides, lambda side: pgbench(side, clients, options.seconds, script, 'simple', rate, variables))

    def latency(q):
        return {name: round(statistics.median(quantile(r.latency_us, q) for r in rows)) for name, rows in runs.items() if rows}

    def against(name, q):
        return round(statistics.median(quantile(a.latency_us, q) / quantile(b.latency_us, q)
                                       for a, b in zip(runs[name], runs['round robin'])), 3)
    p50, p99 = latency(0.5), latency(0.99)
    for name in p50:
        say(f'  {name:<22} p50 {p50[name]} us, p99 {p99[name]} us')
    extra = {name: round(100 * counted(bench.made[name], 'hedges') /
                         max(1, counted(bench.made[name], 'reads') - counted(bench.made[name], 'hedges')), 2)
             for name in SIDES if 'hedged' in name}
    after = {side.name: felt(side) for side in sides}
    waited = {name: round(max(0.0, 100 * (after[name][0] - before[name][0]) / max(1, after[name][1] - before[name][1])), 2)
              for name in before}
    say('  reads that waited for the slow one, percent: ' + ', '.join(f'{name} {share}' for name, share in waited.items()))
    slow.close()
    bars = [Bar('reads that waited for the slow one, percent, default', waited['default'], 1, True),
            Bar('reads that waited for the slow one, percent, default hedged', waited['default, hedged'], 1, True),
            Bar('slow replica, p99, default / round robin', against('default', 0.99), 0.5, True),
            Bar('slow replica, p99, default hedged / round robin', against('default, hedged', 0.99), 0.5, True),
            Bar('slow replica, p99, hedged round robin / round robin', against('round robin, hedged', 0.99), 0.5, True),
            Bar('hedges in percent of reads (hedge_max 5)', extra['default, hedged'], 5.5, True),
            Bar('hedges in percent of reads (hedge_max 40)', extra['round robin, hedged'], 40.5, True)]
    return [result('replicas', options, runs, bars, clients=clients, rate=rate, p50_us=p50, p99_us=p99, hedges_percent=extra, waited_percent=waited)]
