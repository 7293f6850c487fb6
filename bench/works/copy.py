"""copy - COPY of a million rows into a table over two shards, against one PostgreSQL.

psql reads the same file for both; the table is empty before each turn.
"""
import subprocess
import time

from bench.harness import TICK_US, Bar, Failed, Run, ratio, result

TABLE = 'CREATE TABLE items (id bigint PRIMARY KEY, price int, label text)'


def write_rows(path, count):
    with open(path, 'w') as out:
        for first in range(0, count, 10000):
            out.write(''.join(f'{i}\t{i * 7919 % 100000}\titem number {i}, of which there are many\n'
                              for i in range(first, first + 10000)))
    path.chmod(0o644)


def sides(bench):
    """Direct, and Shoal over two shards; both hold an empty table."""
    direct = bench.side('direct')
    shards = {name: bench.cluster(name, tables=False) for name in ('c0', 'c1')}
    shoal = bench.start_shoal('shoal', shards)
    bench.made['shoal-copy'] = shoal
    with direct.connect() as conn:
        conn.query(TABLE)
    with shoal.connect() as conn:
        conn.query(TABLE)
        conn.query("SELECT shoal.distribute_table('items', 'id')")
    return direct, shoal


def copy_in(side, path, count):
    with side.connect() as conn:
        conn.query('TRUNCATE items')
    before, start_s = side.cpu_ticks(), time.monotonic()
    done = subprocess.run(['psql', '-X', '-q', '-h', '127.0.0.1', '-p', str(side.port), '-U', 'postgres', '-d', side.database,
                           '-v', 'ON_ERROR_STOP=1', '-c', f"\\copy items from '{path}'"], capture_output=True, text=True)
    took_s = time.monotonic() - start_s
    if done.returncode != 0:
        raise Failed(done.stderr.strip().splitlines()[-1])
    with side.connect() as conn:
        if conn.query('SELECT count(*) FROM items') != [[str(count)]]:
            raise AssertionError(f'{side.name}: not all rows of the COPY are there')
    return Run(count / took_s, (side.cpu_ticks() - before) * TICK_US / count, None)


def run(bench, options):
    count, path = options.scale * 100000, bench.workspace.path / 'items.txt'
    write_rows(path, count)
    runs = bench.rounds(sides(bench), lambda side: copy_in(side, path, count))
    return [result('copy', options, runs, [
        Bar(f'COPY of {count} rows over 2 shards: x into one PostgreSQL', ratio(runs, 'shoal', 'direct'), 0.8, False)],
        rows=count)]
