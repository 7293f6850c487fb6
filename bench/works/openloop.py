"""openloop - lookups that come at a fixed rate, 70 % of what direct PostgreSQL can do: what users wait.

A closed loop hides its queue: whoever waits asks less. Here transactions are due at random moments, and
their time counts from then.
"""
import statistics

from bench.harness import Bar, pgbench, quantile, result, say
from bench.works.point import SCRIPT

SHARE = 0.7


def run(bench, options):
    clients = int(options.clients or 64)
    script = bench.script('point', SCRIPT)
    variables = {'scale': options.scale}
    sides = bench.sides('direct', 'pgbouncer', 'shoal')
    capacity = pgbench(sides[0], clients, options.seconds, script, options.protocol, variables=variables).tps
    rate = round(capacity * SHARE)
    say(f'direct can do {capacity:.0f} per second; at {rate} per second:')
    runs = bench.rounds(sides, lambda side: pgbench(side, clients, options.seconds, script, options.protocol, rate, variables))

    def latency(q):
        return {name: round(statistics.median(quantile(r.latency_us, q) for r in rows)) if rows else None
                for name, rows in runs.items()}

    def against(q):
        both = list(zip(runs['shoal'], runs['pgbouncer']))
        return round(statistics.median(quantile(a.latency_us, q) / quantile(b.latency_us, q) for a, b in both), 3) if both else None
    p50, p99 = latency(0.5), latency(0.99)
    for name in p50:
        say(f'  {name:<10} p50 {p50[name]} us, p99 {p99[name]} us')
    return [result('openloop', options, runs, [] if clients < 64 else [Bar('open loop, p50 / PgBouncer\'s', against(0.5), 1.0, True),
                                               Bar('open loop, p99 / PgBouncer\'s', against(0.99), 1.0, True)],
                   clients=clients, protocol=options.protocol, rate=rate, p50_us=p50, p99_us=p99)]
