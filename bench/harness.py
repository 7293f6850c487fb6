"""harness.py - what every workload needs: sides to compare, rounds in turn, CPU, medians, bars.

    bench = Bench(options)
    sides = bench.sides('direct', 'pgbouncer', 'shoal', 'null')
    rounds = bench.rounds(sides, lambda side: pgbench(side, ...))     -> {side: [Run, Run ...]}

A Side is something that pgbench can be pointed at. All sides have their turn in every round, each round
begins with another one, and what counts are medians of ratios within a round (bench/README.md).
"""
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support import host  # noqa: E402
from tests.support.cluster import Cluster, children_of, wait_until  # noqa: E402
from tests.support.shoal import Shoal  # noqa: E402
from tests.support.wire import Conn  # noqa: E402

BUILD = ROOT / 'build-release'
CARRIES_PREPARED = (1, 21)  # PgBouncer, prepared statements in transaction mode
SERVER_CONNECTIONS = 20
TICK_US = 1e6 / os.sysconf('SC_CLK_TCK')

# cpu_us: of the proxy and all PostgreSQL processes per transaction; latency_us: sorted, or None
Run = namedtuple('Run', 'tps cpu_us latency_us')
# What performance.md asks for: value >= wanted, or <= when `less`.
Bar = namedtuple('Bar', 'what value wanted less')


class Failed(Exception):
    pass


def say(text):
    print(text, flush=True)


def build():
    """The release, with symbols for the profile of instructions."""
    if not (BUILD / 'build.ninja').exists():
        subprocess.run(['meson', 'setup', str(BUILD), '--buildtype=release', '-Db_lto=true', '-Ddebug=true', '-Dtests=false'], cwd=ROOT,
                       check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, CC='gcc'))
    subprocess.run(['ninja', '-C', str(BUILD)], check=True, stdout=subprocess.DEVNULL)
    os.environ['SHOAL_BIN'] = str(BUILD / 'bin' / 'shoald')


# -- CPU and memory -----------------------------------------------------------------------------------

def ticks(pid, with_reaped=False):
    try:
        fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    except FileNotFoundError:
        return 0
    return sum(map(int, fields[11:15] if with_reaped else fields[11:13]))


def postgres_ticks(cluster):
    """The postmaster, the children it has reaped, and those that live."""
    pid = cluster.pid()
    return ticks(pid, with_reaped=True) + sum(ticks(child) for child in children_of(pid))


def resident_bytes(pid):
    for line in Path(f'/proc/{pid}/status').read_text().splitlines():
        if line.startswith('VmRSS'):
            return int(line.split()[1]) * 1024
    raise Failed(f'process {pid} has no VmRSS')


# -- sides ----------------------------------------------------------------------------------------------

class Side:
    """What pgbench is pointed at: `clusters` and `process` are those whose CPU counts."""

    def __init__(self, name, port, clusters=(), process=None, database='bench', stop=None):
        self.name, self.port, self.clusters, self.process = name, port, clusters, process
        self.database, self.stop = database, stop

    def cpu_ticks(self):
        return sum(postgres_ticks(c) for c in self.clusters) + (ticks(self.process.pid) if self.process else 0)

    def connect(self, **kwargs):
        return Conn(('127.0.0.1', self.port), database=self.database, user='postgres', **kwargs)

    def wait_ready(self):
        def ready():
            with self.connect() as conn:
                return conn.query('SELECT 1') == [['1']]
        wait_until(self.name, ready, 15)


class Bench:
    """One run's folder, clusters and sides; made when they are first asked for, ended by finish()."""

    def __init__(self, options):
        self.options = options
        self.workspace = host.Workspace('bench')
        self.clusters, self.made = {}, {}

    def cluster(self, name='bench', tables=True):
        """A cluster with pgbench's tables in its memory. Its durability is switched off unless --fsync: the
        sides share one disk, and that is not what is compared."""
        if name in self.clusters:
            return self.clusters[name]
        settings = {'max_connections': '600', 'shared_buffers': '512MB', 'autovacuum': 'off', 'max_wal_size': '4GB'}
        if self.options.fsync:
            settings.update({'fsync': 'on', 'full_page_writes': 'on'})
        cluster = Cluster(self.workspace, name, settings=settings).create().start()
        self.clusters[name] = cluster
        cluster.sql('CREATE DATABASE bench')
        if tables:
            say(f'{self.options.scale * 100000} rows in PostgreSQL\'s memory')
            subprocess.run(['pgbench', '-i', '-q', '-s', str(self.options.scale), '-h', '127.0.0.1', '-p', str(cluster.port),
                            '-U', 'postgres', 'bench'], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            cluster.sql('VACUUM ANALYZE', 'CREATE EXTENSION IF NOT EXISTS pg_prewarm', "SELECT pg_prewarm('pgbench_accounts')",
                        "SELECT pg_prewarm('pgbench_accounts_pkey')", 'CHECKPOINT', database='bench')
        return cluster

    def sides(self, *names):
        return [self.side(name) for name in names]

    def side(self, name):
        if name not in self.made:
            self.made[name] = getattr(self, 'make_' + name)()
            if name != 'null':
                self.made[name].wait_ready()
        return self.made[name]

    def make_direct(self):
        cluster = self.cluster()
        return Side('direct', cluster.port, [cluster])

    def pgbouncer(self):
        """(its program, its version): Debian's, or a newer one that PGBOUNCER names."""
        program = os.environ.get('PGBOUNCER', '/usr/sbin/pgbouncer')
        said = subprocess.run([program, '--version'], capture_output=True, text=True, check=True).stdout
        return program, tuple(map(int, re.search(r'PgBouncer (\d+)\.(\d+)', said).groups()))

    def make_pgbouncer(self):
        program, version = self.pgbouncer()
        cluster, port = self.cluster(), host.free_port()
        folder = self.workspace.folder('pgbouncer')
        (folder / 'users.txt').write_text('"postgres" ""\n')
        ini = folder / 'pgbouncer.ini'
        ini.write_text('[databases]\n'
                       f'bench = host=127.0.0.1 port={cluster.port} dbname=bench user=postgres\n'
                       '[pgbouncer]\nlisten_addr = 127.0.0.1\n'
                       f'listen_port = {port}\nauth_type = trust\nauth_file = {folder}/users.txt\n'
                       f'pool_mode = transaction\ndefault_pool_size = {SERVER_CONNECTIONS}\nmax_client_conn = 12000\n'
                       'ignore_startup_parameters = extra_float_digits\nunix_socket_dir =\n'
                       'log_connections = 0\nlog_disconnections = 0\nlog_stats = 0\n'
                       + ('max_prepared_statements = 200\n' if version >= CARRIES_PREPARED else ''))
        log = open(folder / 'pgbouncer.log', 'wb')
        process = subprocess.Popen(host.demoted([program, str(ini)]), stdout=log, stderr=log,
                                   stdin=subprocess.DEVNULL, cwd='/')
        return Side('pgbouncer', port, [cluster], process, stop=process.terminate)

    def make_shoal(self):
        return self.start_shoal('shoal', {'s0': self.cluster()})

    def start_shoal(self, name, shards, tables=None, **settings):
        """A shoald over these shards, started as users start it."""
        shoal = Shoal(self.workspace, shards, databases={'bench': {'pool_size': str(SERVER_CONNECTIONS)}},
                      users={'admin': {'admin': 'on'}, 'postgres': {'admin': 'on'}}, name=name, tables=tables,
                      settings=dict({'workers': 0}, **settings), batch={'batch_proof_every': 10000})
        shoal.start()
        side = Side(name, shoal.port, list(shards.values()), shoal.process, stop=shoal.finish)
        side.shoal = shoal
        return side

    def make_null(self):
        port = host.free_port()
        process = subprocess.Popen([str(BUILD / 'bench' / 'null_server'), str(port)])
        return Side('null', port, [], process, stop=process.terminate)

    def script(self, name, text):
        path = self.workspace.path / f'{name}.sql'
        path.write_text(text)
        return path

    def rounds(self, sides, run):
        """{name: [what run(side) gave, a round each]}; a side that fails is left out from then on."""
        runs, dropped = {s.name: [] for s in sides}, set()
        for turn in range(self.options.rounds):
            for side in sides[turn % len(sides):] + sides[:turn % len(sides)]:
                if side.name in dropped:
                    continue
                try:
                    runs[side.name].append(run(side))
                except Failed as err:
                    dropped.add(side.name)
                    runs[side.name] = []
                    say(f'  {side.name}: {err}')
            say(f'  round {turn + 1} of {self.options.rounds}: ' + '  '.join(
                f'{s.name} {runs[s.name][-1].tps:.0f}' for s in sides if runs[s.name]))
        return runs

    def finish(self):
        for side in reversed(list(self.made.values())):
            if side.stop:
                side.stop()
        for cluster in self.clusters.values():
            cluster.stop()


# -- pgbench ---------------------------------------------------------------------------------------------

def pgbench(side, clients, seconds, script=None, protocol='simple', rate=None, variables=None, extra=()):
    """One run; with `rate` an open loop, whose latencies count from when a transaction was due."""
    argv = ['pgbench', '-n', '-M', protocol, '-c', str(clients), '-j', str(min(clients, os.cpu_count() or 1)),
            '-T', str(seconds), '-h', '127.0.0.1', '-p', str(side.port), '-U', 'postgres', *extra]
    argv += ['-f', str(script)] if script else []
    argv += [f'-D{key}={value}' for key, value in (variables or {}).items()]
    log = Path(f'/tmp/shoal-bench-{os.getpid()}')
    argv += ['-R', str(rate), '-l', f'--log-prefix={log}'] if rate else []
    before = side.cpu_ticks()
    done = subprocess.run(argv + [side.database], capture_output=True, text=True)
    found = re.search(r'tps = ([\d.]+) \(without', done.stdout)
    count = re.search(r'transactions actually processed: (\d+)', done.stdout)
    try:
        if done.returncode != 0 or found is None or not int(count.group(1)):
            raise Failed((done.stderr.strip().splitlines() or ['no result'])[-1])
        latency_us = sorted(int(line.split()[2]) for path in log.parent.glob(log.name + '*')
                            for line in path.read_text().splitlines()) if rate else None
    finally:
        for path in log.parent.glob(log.name + '*'):
            path.unlink()
    time.sleep(0.2)  # backends that end now are still counted
    return Run(float(found.group(1)), (side.cpu_ticks() - before) * TICK_US / int(count.group(1)), latency_us)


def quantile(values, q):
    return values[min(len(values) - 1, int(q * len(values)))]


# -- figures ----------------------------------------------------------------------------------------------

def medians(runs, field, digits=0):
    return {name: round(statistics.median(getattr(r, field) for r in rows), digits) if rows else None
            for name, rows in runs.items()}


def ratio(runs, name, other, field='tps'):
    """Median over the rounds of name's figure divided by the other's."""
    both = list(zip(runs.get(name, ()), runs.get(other, ())))
    return round(statistics.median(getattr(a, field) / max(getattr(b, field), 1e-9) for a, b in both), 3) if both else None


def result(work, options, runs, bars, **more):
    """What a workload returns: one line of JSON."""
    return dict({'work': work, 'tps': medians(runs, 'tps'), 'cpu_us': medians(runs, 'cpu_us', 1),
                 'bars': [bar._asdict() for bar in bars if bar.value is not None],
                 'rounds': options.rounds, 'seconds': options.seconds}, **more)


def met(bar):
    return bar['value'] <= bar['wanted'] if bar['less'] else bar['value'] >= bar['wanted']


def print_table(results):
    names = [n for n in ('direct', 'pgbouncer', 'shoal', 'null')]

    def cell(value, width):
        return f'{"-" if value is None else value:>{width}}'
    rows = [r for r in results if any(r['tps'].get(n) for n in names)]
    if rows:
        say('\n' + ' ' * 26 + 'transactions per second'.center(44) + '  ' + 'CPU us per transaction'.center(32))
        say(f'{"workload":<26}' + ' '.join(f'{n:>10}' for n in names) + '  ' + ' '.join(f'{n:>10}' for n in names[:3]))
    for r in rows:
        title = ' '.join(str(x) for x in (r['work'], r.get('clients', ''), r.get('protocol', '') if r.get('protocol') != 'simple' else ''))
        say(f'{title:<26}' + ' '.join(cell(None if r['tps'].get(n) is None else f'{r["tps"][n]:.0f}', 10) for n in names)
            + '  ' + ' '.join(cell(r['cpu_us'].get(n), 10) for n in names[:3]))
    if any(r['bars'] for r in results):
        say(f'\n{"bar":<66}{"measured":>10}{"wanted":>10}')
    for r in results:
        for bar in r['bars']:
            sign = '<=' if bar['less'] else '>='
            say(f'{bar["what"]:<66}{bar["value"]:>10}{sign + " " + str(bar["wanted"]):>10}  {"met" if met(bar) else "MISSED"}')


def print_json(results):
    for r in results:
        say(json.dumps(r, separators=(',', ':')))
