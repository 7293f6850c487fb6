"""moves - a gigabyte goes from one shard to the other under 300 updates a second, and comes back.

Updates are sent at a fixed rate by clients of ours, each measured from the moment it was due; a single one that fails
fails the run. Afterwards no row and no update is missing. --scale 10 is 1 GB; --rounds moves there and back.
"""
import random
import statistics
import threading
import time

from bench.harness import Bar, Failed, result, say
from tests.support.moves import OVER, phase_table, phases_of

BUCKETS = 1024
CLIENTS, RATE = 12, 300
ROW_BYTES = 1000
TABLE = 'CREATE TABLE load (id bigint PRIMARY KEY, n bigint NOT NULL, filler text NOT NULL)'
BUCKET = f'(((hashint8extended(id, 8816678312871386365) & {BUCKETS - 1}) + {0x49a0f4dd15e5a8e3 & (BUCKETS - 1)}) & {BUCKETS - 1})'
SUM = 'SELECT count(*), sum(n) FROM load'


class Updates:
    """Clients that update a row each, when it is due."""

    def __init__(self, side, keys, clients):
        self.side, self.keys, self.stop = side, keys, threading.Event()
        self.late_ms, self.errors, self.done = [], [], 0
        self.threads = [threading.Thread(target=self.run, args=(n, clients), daemon=True) for n in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)

    def run(self, number, clients):
        rng, step = random.Random(number), clients / RATE
        try:
            with self.side.connect(timeout_s=60) as conn:
                due = time.monotonic() + step * number / clients
                while not self.stop.is_set():
                    time.sleep(max(0, due - time.monotonic()))
                    conn.query(f'UPDATE load SET n = n + 1 WHERE id = {rng.choice(self.keys)}')
                    self.late_ms.append((time.monotonic() - due) * 1000)
                    self.done += 1
                    due += step
        except Exception as err:  # a client that ends is what this bench is about
            self.errors.append(repr(err))


def prepare(bench):
    rows = bench.options.scale * 100000
    shards = {name: bench.cluster(name, tables=False) for name in ('s0', 's1')}
    for cluster in shards.values():
        cluster.sql(TABLE, database='bench')
    say(f'{rows} rows of {ROW_BYTES} bytes on s0')
    shards['s0'].sql(f"INSERT INTO load SELECT id, 0, repeat(md5(id::text), {ROW_BYTES // 32}) FROM generate_series(1, "
                     f'{rows * 2 + rows // 5}) id WHERE {BUCKET} < {BUCKETS // 2} LIMIT {rows}', 'VACUUM ANALYZE load', 'CHECKPOINT',
                     database='bench')
    side = bench.start_shoal('shoal', shards, tables={'load': {'key': 'id'}}, buckets=BUCKETS, move_rollback_window='0')
    bench.made['moves'] = side
    keys = [int(r[0]) for r in shards['s0'].query('SELECT id FROM load ORDER BY random() LIMIT 50000', 'bench')]
    return side, keys


def move(side, target):
    """(seconds until it has switched, bytes)"""
    started = time.monotonic()
    number = side.shoal.console(f'MOVE 0-{BUCKETS // 2 - 1} TO {target}')[0]['move']
    switched, moved = None, 0
    while True:
        row = next(r for r in side.shoal.console('SHOW MOVES') if r['id'] == number)
        moved = max(moved, int(row['bytes'] or 0))
        if switched is None and row['state'] in ('switched', 'finishing', 'done'):
            switched = time.monotonic() - started
        if row['state'] in OVER:
            break
        time.sleep(0.2)
    if row['state'] != 'done':
        raise Failed(f"move {number}: {row['state']}, {row['reason']}")
    return switched, moved


def run(bench, options):
    side, keys = prepare(bench)
    clients = int(options.clients or CLIENTS)
    speeds, worst, sent = [], [], 0
    for n in range(2 * max(options.rounds // 2, 1)):
        target = 's1' if n % 2 == 0 else 's0'
        with Updates(side, keys, clients) as updates:
            time.sleep(1)
            seconds, moved = move(side, target)
            time.sleep(1)
        if updates.errors:
            raise Failed(f'{len(updates.errors)} clients saw an error: {updates.errors[0]}')
        speeds.append(moved / seconds / 1e6)
        worst.append(max(updates.late_ms))
        sent += updates.done
        say(f'  to {target}: {moved / 1e6:.0f} MB in {seconds:.1f} s, {updates.done} updates, the latest {worst[-1]:.0f} ms')
    with side.connect(timeout_s=600) as conn:
        answered = [int(cell) for cell in conn.query(SUM)[0]]
    if answered != [bench.options.scale * 100000, sent]:
        raise Failed(f'rows, updates: {answered}; sent: {sent}')
    events = side.shoal.console('SHOW EVENTS')
    for event in events:
        if 'MB/s (seconds' in event['event']:
            print('  ' + event['event'])
    pauses = sorted(int(e['event'].rsplit(' ', 2)[-2]) for e in events if 'held back for' in e['event'])
    print(phase_table(phases_of(events)))
    return [result('moves', options, {}, [
        Bar('moving under 300 updates/s: MB/s', round(statistics.median(speeds), 1), 35, False),
        Bar('the worst client latency, ms', round(max(worst)), 150, True),
        Bar('write pause p99, ms', pauses[min(len(pauses) - 1, int(len(pauses) * 0.99))], 100, True)],
        pauses_ms=pauses, mb_per_s=[round(s, 1) for s in speeds])]
