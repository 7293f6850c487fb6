"""tpcb - pgbench's own transactions of five statements: nothing of them batches."""
from bench.harness import Bar, pgbench, ratio, result


def run(bench, options):
    clients = int(options.clients or 32)
    runs = bench.rounds(bench.sides('direct', 'pgbouncer', 'shoal'),
                        lambda side: pgbench(side, clients, options.seconds, protocol=options.protocol, extra=['-b', 'tpcb-like']))
    return [result('tpcb', options, runs, [
        Bar(f'tpcb-like, {clients} clients: x PgBouncer', ratio(runs, 'shoal', 'pgbouncer'), 1.1, False)],
        clients=clients, protocol=options.protocol)]
