"""Metrics: every line as Prometheus wants it, and every figure what the clients did."""
import math
import re
import threading
import time

import pytest

from tests.support import host
from tests.support.cluster import wait_until
from tests.support.shoal import Shoal
from tests.support.wire import PgError

pytestmark = pytest.mark.shoal_only


@pytest.fixture(scope='module')
def solo_schema():
    return ['CREATE TABLE users (id int PRIMARY KEY, name text)',
            "INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 1000) i"]


@pytest.fixture(scope='module')
def shoal_settings():
    return {'http_port': host.free_port(), 'workers': 2}


# -- a strict reader of text format 0.0.4 ---------------------------------------------------------

NAME = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"')
VALUE = re.compile(r'[+-]?(\d+(\.\d+)?([eE][+-]?\d+)?|Inf|NaN)')


def read_labels(text):
    labels, at = {}, 0
    while at < len(text):
        found = LABEL.match(text, at)
        assert found, f'wrong label at {text[at:]!r}'
        assert found[1] not in labels, f'label {found[1]} twice'
        labels[found[1]] = found[2].replace('\\n', '\n').replace('\\"', '"').replace('\\\\', '\\')
        at = found.end()
        assert at == len(text) or text[at] == ',', text
        at += 1
    return labels


def base_name(name, types):
    for suffix in ('_bucket', '_sum', '_count'):
        if name.endswith(suffix) and types.get(name.removesuffix(suffix)) == 'histogram':
            return name.removesuffix(suffix)
    return name


def read_metrics(body):
    """{(name, frozenset(labels)): value}, types; whatever is not exactly right fails."""
    text = body.decode('utf-8')
    assert text.endswith('\n') and '\r' not in text
    types, series, current, closed = {}, {}, None, set()
    helped = set()
    for line in text.split('\n')[:-1]:
        if line.startswith('# HELP '):
            name, _, what = line[7:].partition(' ')
            assert NAME.fullmatch(name) and what and name not in helped, line
            helped.add(name)
        elif line.startswith('# TYPE '):
            name, kind = line[7:].split(' ')
            assert name not in types and name in helped and kind in ('counter', 'gauge', 'histogram'), line
            closed.add(current)
            types[name] = kind
            current = name
        else:
            found = NAME.match(line)
            assert found, line
            rest, labels = line[found.end():], {}
            if rest.startswith('{'):
                inside, _, rest = rest[1:].rpartition('}')
                labels = read_labels(inside)
            assert rest[0] == ' ' and VALUE.fullmatch(rest[1:]), line
            base = base_name(found[0], types)
            assert base == current and base not in closed, f'{line}: stands under {current}'
            key = (found[0], frozenset(labels.items()))
            assert key not in series, f'{line}: twice'
            series[key] = float(rest[1:])
    for (name, _), value in series.items():
        if types[base_name(name, types)] != 'gauge':
            assert value >= 0 and not math.isnan(value), name
        if types.get(name) == 'counter':
            assert name.endswith('_total'), name
    check_histograms(series, types)
    return series, types


def check_histograms(series, types):
    for base in (n for n, kind in types.items() if kind == 'histogram'):
        rows = {}
        for (name, labels), value in series.items():
            if name == base + '_bucket':
                plain = dict(labels)
                le = float(plain.pop('le').replace('+Inf', 'inf'))
                rows.setdefault(frozenset(plain.items()), []).append((le, value))
        assert rows
        for labels, buckets in rows.items():
            buckets.sort()
            counts = [count for _, count in buckets]
            assert buckets[-1][0] == math.inf and counts == sorted(counts)
            assert series[base + '_count', labels] == counts[-1]
            assert series[base + '_sum', labels] >= 0


def test_the_reader_is_strict():
    # A test that takes everything proves nothing.
    good = b'# HELP a_total x\n# TYPE a_total counter\na_total{b="c\\"\\n"} 1\n'
    assert read_metrics(good)[0] == {('a_total', frozenset({('b', 'c"\n')})): 1}
    for bad in (good[:-1], good + b'a_total{b="c\\"\\n"} 2\n', good.replace(b' 1\n', b' one\n'),
                good.replace(b'"c', b'c'), good.replace(b'# TYPE', b'# TIPE'), good + b'b 1\n', good + b'\n',
                good.replace(b' 1\n', b' -1\n')):
        with pytest.raises((AssertionError, ValueError)):
            read_metrics(bad)


def metrics_of(shoal):
    status, headers, body = shoal.http('/metrics')
    assert status == 200 and headers['content-type'].startswith('text/plain; version=0.0.4')
    return read_metrics(body)


def value(series, name, **labels):
    return series[name, frozenset(labels.items())]


def total(series, name):
    return sum(v for (n, _), v in series.items() if n == name)


# -- the figures ------------------------------------------------------------------------------------

def test_every_line_is_right(shoal):
    # One wrong line, and Prometheus takes none of them.
    series, types = metrics_of(shoal)
    assert len(types) > 50 and len(series) > 300
    assert value(series, 'shoal_health', check='servers') == 1
    assert value(series, 'shoal_server_up', shard='s0', server='s0/primary', role='primary') == 1


def test_every_documented_metric_is_there(shoal):
    # An alarm on a metric that is never told is silent for ever.
    shoal.query('SELECT 1', 'solo')
    documented = set(re.findall(r'^\| `(shoal_\w+)`', (host.ROOT / 'docs' / 'metrics.md').read_text(), re.M))
    assert documented == set(metrics_of(shoal)[1])


def test_values_are_what_the_clients_did(shoal):
    # A dashboard that shows other figures than what happened is worse than none.
    before, _ = metrics_of(shoal)
    with shoal.connect('solo') as conn:
        for i in range(40):
            conn.query(f'SELECT name FROM users WHERE id = {i + 1}')
        for _ in range(3):
            with pytest.raises(PgError):
                conn.query('SELECT 1 / 0')
        with pytest.raises(PgError):
            conn.query('SELECT nothing FROM nowhere')
        during, _ = metrics_of(shoal)
        assert value(during, 'shoal_clients') - value(before, 'shoal_clients') == 1
    after, _ = metrics_of(shoal)

    def grown(name, **labels):
        key = (name, frozenset(labels.items()))
        return after.get(key, 0) - before.get(key, 0)
    assert grown('shoal_statements_total') == 44
    assert grown('shoal_connections_total') == 1
    assert grown('shoal_errors_total', **{'class': '22'}) == 3
    assert grown('shoal_errors_total', **{'class': '42'}) == 1
    assert grown('shoal_plans_direct_total') == 44
    assert grown('shoal_client_received_bytes_total') > 44 * 20
    requests = total(after, 'shoal_request_duration_seconds_count') - \
        total(before, 'shoal_request_duration_seconds_count')
    assert requests >= 44 * 7


def test_the_stages_of_a_request_make_its_time(shoal):
    # Time that no stage owns is where the trouble hides.
    def sums(series):
        return {dict(labels)['stage']: v for (n, labels), v in series.items()
                if n == 'shoal_request_duration_seconds_sum' and dict(labels)['path'] == 'direct'}
    before = sums(metrics_of(shoal)[0])
    with shoal.connect('solo') as conn:
        for _ in range(5):
            conn.query('SELECT pg_sleep(0.1)')
    after = sums(metrics_of(shoal)[0])
    grown = {stage: after[stage] - before[stage] for stage in after}
    assert 0.5 <= grown['server'] < 30
    assert grown['total'] >= grown['server']
    assert abs(sum(v for k, v in grown.items() if k != 'total') - grown['total']) < 1e-4


def test_many_workers_are_one_figure(shoal):
    # Each worker's own share is shown as the whole.
    before, _ = metrics_of(shoal)

    def run():
        with shoal.connect('solo') as conn:
            for i in range(50):
                conn.query(f'SELECT name FROM users WHERE id = {i + 1}')
    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after, _ = metrics_of(shoal)
    assert value(after, 'shoal_statements_total') - value(before, 'shoal_statements_total') == 800
    batched = value(after, 'shoal_batched_statements_total') - value(before, 'shoal_batched_statements_total')
    batches = value(after, 'shoal_batches_total') - value(before, 'shoal_batches_total')
    saved = value(after, 'shoal_statements_saved_total') - value(before, 'shoal_statements_saved_total')
    assert batched > 0 and saved == batched - batches
    rows = shoal.console('SHOW BATCHES')
    row = [r for r in rows if 'FROM users WHERE id = ?' in r['template']][0]
    assert row['tier'] == 'A' and int(row['saved']) == int(row['statements']) - int(row['batches'])
    sizes = [part.split(':') for part in row['sizes'].split()]
    assert sum(int(count) for _, count in sizes) == int(row['batches']) + int(row['alone'])
    assert 0 < int(row['service_p50_us']) <= int(row['service_p95_us']) <= int(row['service_p99_us'])
    assert int(row['wait_p50_us']) <= int(row['wait_p99_us'])


def test_statements_are_told_apart(shoal):
    # Nobody finds the slow one.
    with shoal.connect('solo') as conn:
        for n in (1, 2, 3):
            conn.query(f'SELECT pg_sleep(0.02), name FROM users WHERE id = {n}')
        conn.query("UPDATE users SET name = 'x' WHERE id = 1")
        conn.query('BEGIN')
        conn.query('SELECT name FROM users WHERE id = 7')
        conn.query('COMMIT')
        with pytest.raises(PgError):
            conn.query('SELECT 4 / 0 AS told_apart')
    rows = {r['statement']: r for r in shoal.console('SHOW STATEMENTS') if r['database'] == 'solo'}
    slow = rows['SELECT pg_sleep(0.02), name FROM users WHERE id = ?']
    assert int(slow['calls']) == 3 and int(slow['batched']) == 0
    assert slow['not_batched'] == 'function'
    assert 20000 <= int(slow['p50_us']) and 20000 <= int(slow['max_us']) < 3000000
    assert rows['UPDATE users SET name = ? WHERE id = ?']['not_batched'] == 'not_select'
    assert rows['SELECT name FROM users WHERE id = ?']['not_batched'] in ('in_transaction', 'learning')
    assert int(rows['SELECT ? / ? AS told_apart']['errors']) == 1


def test_statement_figures_have_a_limit(workspace, clusters):
    # A program that writes each value into its statement's text eats the memory.
    shoal = Shoal(workspace, {'s0': clusters[0]}, databases={'solo': {}}, users={'admin': {'admin': 'on'}},
                  settings={'statement_stats_max': 5}, name='few')
    shoal.start()
    try:
        with shoal.connect('solo') as conn:
            for i in range(20):
                conn.query(f'SELECT 1 AS column_{i}')
        rows = shoal.console('SHOW STATEMENTS')
        assert len(rows) == 5 and rows[-1]['statement'] == 'SELECT ? AS column_19'
        stats = {r['name']: int(r['value']) for r in shoal.console('SHOW STATS')}
        assert stats['statement_stats_dropped'] == 15
    finally:
        shoal.finish()


def test_a_slow_reader_shows(shoal):
    # The time that a client takes to read is lost between the stages.
    text = b"SELECT repeat('x', 20000000) AS a_slow_reader\0"
    with shoal.connect('solo') as conn:
        conn.sock.sendall(b'Q' + (4 + len(text)).to_bytes(4, 'big') + text)
        time.sleep(0.7)
        size = 0
        while size < 20000000:
            size += len(conn.sock.recv(1 << 20))

        def stages():
            rows = shoal.console('SHOW LATENCY')
            return {stage: max(int(r['max_us']) for r in rows if r['stage'] == stage and r['path'] != 'local')
                    for stage in ('server', 'write', 'total')}
        wait_until('the answer is out', lambda: stages()['total'] > 600000, 30)
        seen = stages()
        assert max(seen['write'], seen['server']) > 300000, seen
        conn.abort()
