"""point - lookups by primary key: what Shoal is for."""
from bench.harness import CARRIES_PREPARED, Bar, pgbench, ratio, result, say

# pgbench -S, written out, so that the null server need not know pgbench's own questions.
SCRIPT = '\\set aid random(1, 100000 * :scale)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n'
CLIENTS = '1,64,256'


def bars(clients, protocol, runs):
    if clients not in (1, 64, 256):
        return []
    who = f'{clients} clients{", prepared" if protocol == "prepared" else ""}'
    to_null, to_peer, to_direct = (ratio(runs, 'shoal', n) for n in ('null', 'pgbouncer', 'direct'))
    if clients == 1:
        return [Bar('one connection: latency / PgBouncer\'s', to_peer and round(1 / to_peer, 3), 1.0, True)]
    peer, direct = (4.5, 3.0) if protocol == 'prepared' else (5.0, 4.0 if clients <= 64 else 8.0)
    found = [Bar(f'{who}: x direct', to_direct, direct, False)]
    # Either is enough; shown is the one that is nearer.
    if to_peer and to_null and to_null / 0.85 > to_peer / peer:
        found.append(Bar(f'{who}: share of the null server', to_null, 0.85, False))
    else:
        found.append(Bar(f'{who}: x PgBouncer', to_peer, peer, False) if to_peer else
                     Bar(f'{who}: share of the null server', to_null, 0.85, False))
    if clients == 64 and protocol == 'simple':
        found += [Bar('CPU per lookup / PgBouncer\'s', ratio(runs, 'shoal', 'pgbouncer', 'cpu_us'), 0.125, True),
                  Bar('CPU per lookup / direct\'s', ratio(runs, 'shoal', 'direct', 'cpu_us'), 0.222, True)]
    return found


def run(bench, options, protocol=None):
    protocol = protocol or options.protocol
    script = bench.script('point', SCRIPT)
    names = ['direct', 'pgbouncer', 'shoal', 'null']
    if protocol == 'prepared' and bench.pgbouncer()[1] < CARRIES_PREPARED:
        names.remove('pgbouncer')
    sides, results = bench.sides(*names), []
    for clients in map(int, (options.clients or CLIENTS).split(',')):
        say(f'{clients} clients, {protocol} protocol')
        runs = bench.rounds(sides, lambda side: pgbench(side, clients, options.seconds, script, protocol,
                                                        variables={'scale': options.scale}))
        results.append(result('point', options, runs, bars(clients, protocol, runs), clients=clients, protocol=protocol,
                              ratio={n: ratio(runs, 'shoal', n) for n in ('direct', 'pgbouncer', 'null')}))
    rows = bench.side('shoal').shoal.console('SHOW BATCHES')
    members, batches = sum(int(r['statements']) for r in rows), sum(int(r['batches']) for r in rows)
    if batches:
        say(f'Shoal\'s batches: {members / batches:.1f} statements on average, the largest '
            f'{max(int(r["size_max"] or 0) for r in rows)}')
    return results
