"""scatter - a SELECT over two shards: a sum over a million rows, the first ten by key, and ten million rows to a slow reader.

Direct: the same rows in one PostgreSQL of the same machine.
"""
import statistics
import time

from bench.harness import Bar, Run, ratio, resident_bytes, result, say
from bench.works import copy

SUM = 'SELECT count(*), sum(price), avg(price) FROM items'
FIRST = 'SELECT * FROM items ORDER BY id LIMIT 10'
ALL = 'SELECT i.id, i.label, g FROM items i, generate_series(1, 10) g'
SLOW_BYTES_PER_S = 40 << 20


def seconds_of(conn, sql, times):
    took = []
    for _ in range(times):
        start_s = time.perf_counter()
        conn.query(sql)
        took.append(time.perf_counter() - start_s)
    return statistics.median(took)


def timed(side, sql, times):
    with side.connect() as conn:
        conn.query(sql)  # plans and caches
        return Run(1 / seconds_of(conn, sql, times), 0, None)


def read_slowly(side):
    """Reads the whole answer, SLOW_BYTES_PER_S; returns (rows told by the tag, most resident bytes above idle)."""
    idle, most, last = resident_bytes(side.process.pid), 0, b''
    with side.connect() as conn:
        text = ALL.encode() + b'\0'
        conn.sock.sendall(b'Q' + (len(text) + 4).to_bytes(4, 'big') + text)
        start_s, got = time.monotonic(), 0
        while not last.endswith(b'Z\0\0\0\x05I'):
            chunk = conn.sock.recv(1 << 20)
            if not chunk:
                raise AssertionError('the connection was closed')
            got, last = got + len(chunk), (last + chunk)[-64:]
            most = max(most, resident_bytes(side.process.pid) - idle)
            ahead_s = got / SLOW_BYTES_PER_S - (time.monotonic() - start_s)
            if ahead_s > 0.005:
                time.sleep(ahead_s)
    return int(last.rpartition(b'SELECT ')[2].partition(b'\0')[0]), most


def run(bench, options):
    count, path = options.scale * 100000, bench.workspace.path / 'items.txt'
    copy.write_rows(path, count)
    direct, shoal = copy.sides(bench)
    for side in (direct, shoal):
        copy.copy_in(side, path, count)
        with side.connect() as conn:
            conn.query('VACUUM ANALYZE items')
    sums = bench.rounds((direct, shoal), lambda side: timed(side, SUM, 3))
    firsts = bench.rounds((direct, shoal), lambda side: timed(side, FIRST, 50))
    longer_ms = round(statistics.median(1000 / s.tps - 1000 / d.tps for s, d in zip(firsts['shoal'], firsts['direct'])), 3)
    rows, most = read_slowly(shoal)
    if rows != count * 10:
        raise AssertionError(f'{rows} rows came, of {count * 10}')
    say(f'  {rows} rows to a slow reader: {most / 2**20:.1f} MiB above idle')
    return [result('scatter', options, sums, [
        Bar(f'count, sum, avg of {count} rows over 2 shards: direct\'s time x', round(1 / ratio(sums, 'shoal', 'direct'), 3), 1.1, True),
        Bar('ORDER BY key LIMIT 10 over 2 shards: ms longer than direct', longer_ms, 1.0, True),
        Bar(f'{rows} rows to a slow reader: MiB above idle', round(most / 2**20, 1), 64, True)], rows=count)]
