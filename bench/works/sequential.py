"""sequential - a page of 1 + 100 queries, one after the other, as ORMs make it; prefetch on.

The client is pgbench: it asks for 100 posts, then for the author of each. It does not look at the rows, so
the authors follow from the post's number; each page begins at another post.
"""
import subprocess

from bench.harness import Bar, Side, pgbench, ratio, result, say
from tests.support.shoal import Shoal

ROWS = 100
MAX_AGE_MS = 1000
COUNTED = 50  # pages
SCHEMA = [
    'CREATE TABLE authors (id int PRIMARY KEY, name text NOT NULL, bio text)',
    'CREATE TABLE posts (id int PRIMARY KEY, author_id int NOT NULL, title text NOT NULL)',
    "INSERT INTO authors SELECT g, 'author ' || g, repeat('words ', 10) FROM generate_series(0, 99999) g",
    "INSERT INTO posts SELECT g, g * 7 % 100000, 'post ' || g FROM generate_series(1, 200000) g", 'VACUUM ANALYZE']


def page(begin='', end=''):
    """pgbench's script: a page is one transaction of pgbench's."""
    lines = ['\\set first random(1, 199900)', *([begin] if begin else []),
             f'SELECT id, author_id, title FROM posts WHERE id >= :first ORDER BY id LIMIT {ROWS};']
    for n in range(ROWS):
        lines += [f'\\set author ((:first + {n}) * 7) % 100000', 'SELECT name, bio FROM authors WHERE id = :author;']
    return '\n'.join(lines + ([end] if end else [])) + '\n'


def start(bench, cluster):
    shoal = Shoal(bench.workspace, {'s0': cluster}, name='shoal-pages', settings={'workers': 0},
                  databases={'bench': {'prefetch_max_age_ms': str(MAX_AGE_MS)}},
                  users={'admin': {'admin': 'on'}, 'postgres': {'admin': 'on'}})
    shoal.start()
    side = Side('shoal', shoal.port, [cluster], shoal.process, stop=shoal.finish)
    side.shoal = shoal
    bench.made['shoal-pages'] = side
    return side


def asked(shoal):
    """Statements that Shoal has had PostgreSQL run."""
    return sum(int(r['tasks']) for r in shoal.console('SHOW POOLS'))


def statements_per_page(side, script, protocol):
    """Of pages that are known already."""
    before = asked(side.shoal)
    subprocess.run(['pgbench', '-n', '-M', protocol, '-c', '1', '-t', str(COUNTED), '-f', str(script), '-h', '127.0.0.1',
                    '-p', str(side.port), '-U', 'postgres', side.database], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    return (asked(side.shoal) - before) / COUNTED


def run(bench, options):
    cluster = bench.cluster()
    cluster.sql(*SCHEMA, database='bench')
    shoal = start(bench, cluster)
    results = []
    for name, begin, end in (('sequential', '', ''),
                             ('sequential in REPEATABLE READ', 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;', 'COMMIT;')):
        script = bench.script(name.replace(' ', '-'), page(begin, end))
        runs = bench.rounds(bench.sides('direct') + [shoal],
                            lambda side: pgbench(side, 1, options.seconds, script, options.protocol))
        count = statements_per_page(shoal, script, options.protocol)
        against = ratio(runs, 'direct', 'shoal')
        say(f'  {name}: page time {against} x direct, {count:.1f} statements at PostgreSQL per page of {ROWS + 1}')
        bars = [Bar(f'{name}: page time / direct', against, 0.7, True)]
        if not begin:
            bars.append(Bar(f'{name}: statements at PostgreSQL per page', round(count, 2), 3, True))
        results.append(result(name, options, runs, bars, clients=1, protocol=options.protocol, statements=round(count, 2)))
    return results
