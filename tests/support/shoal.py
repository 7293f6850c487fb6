"""shoal.py - a shoald of the tests' own: writes shards.ini, starts it under sanitizers, holds it to account.

The build that is tested: SHOAL_BIN, or build-check/bin/shoald as ./check makes it. Every instance must
end without a sanitizer report: finish() looks, and fails the test otherwise.
"""
import os
import signal
import subprocess
import time
from pathlib import Path

from . import host
from .cluster import wait_until
from .wire import Conn, PgError

START_S = 60


def binary():
    named = os.environ.get('SHOAL_BIN')
    candidates = [Path(named)] if named else [host.ROOT / b / 'bin' / 'shoald'
                                              for b in ('build-check', 'build', 'build-release')]
    for path in candidates:
        if path.exists():
            return path
    raise FileNotFoundError('no shoald: run ./check once, or set SHOAL_BIN')


class Shoal:
    """One shoald.  `shards`: {'s0': cluster or (primary, replica, ...)}; databases: {'app': {...}}."""

    def __init__(self, workspace, shards, databases=None, users=None, tables=None, settings=None,
                 batch=None, name='shoal', replicas=None):
        self.workspace, self.name = workspace, name
        self.port = host.free_port()
        self.shards = {key: value if isinstance(value, tuple) else (value,)
                       for key, value in shards.items()}
        self.databases = {'app': {}} if databases is None else databases
        self.users = users or {}
        self.tables = tables or {}
        self.folder = workspace.folder(f'{name}-{self.port}')
        self.ini = self.folder / 'shards.ini'
        self.log = self.folder / 'shoald.log'
        self.settings = dict({'listen': '127.0.0.1', 'port': self.port, 'workers': 1,
                              'store': self.folder / 'shoal.db', 'auth': 'trust', 'control_user': 'postgres',
                              'http_port': 0}, **(settings or {}))
        self.batch = dict({'batch_proof_every': 1}, **(batch or {}))  # each batch is held against its originals
        self.replicas = replicas or {}
        self.process = None
        self.may_differ = False  # a test that provokes a proof's failure says so
        self.address = ('127.0.0.1', self.port)

    # -- shards.ini --------------------------------------------------------------------------

    def ini_text(self):
        out = ['[shoal]'] + [f'{k} = {v}' for k, v in self.settings.items()]
        if self.batch:
            out += ['', '[batch]'] + [f'{k} = {v}' for k, v in self.batch.items()]
        if self.replicas:
            out += ['', '[replicas]'] + [f'{k} = {v}' for k, v in self.replicas.items()]
        for name, servers in self.shards.items():
            out += ['', f'[shard {name}]']
            for role, server in zip(['primary'] + ['replica'] * len(servers), servers):
                options = getattr(server, 'options', '')  # 'weight=2 zone=a'
                out.append(f'{role} = host=127.0.0.1 port={server.port} {options}'.rstrip())
        for kind, sections in (('database', self.databases), ('user', self.users),
                               ('table', self.tables)):
            for name, rows in sections.items():
                out += ['', f'[{kind} {name}]'] + [f'{k} = {v}' for k, v in rows.items()]
        return '\n'.join(out) + '\n'

    def write_ini(self, text=None):
        self.ini.write_text(self.ini_text() if text is None else text)
        self.ini.chmod(0o600)

    def reload(self, **replicas):
        """[replicas] becomes what is given, and RELOAD has been answered."""
        self.replicas = replicas
        self.write_ini()
        self.console('RELOAD')

    # -- life --------------------------------------------------------------------------------

    def start(self, wait=True, failpoint=None):
        """`failpoint`: what SHOAL_FAILPOINT is to say (lib/core/failpoint.h)."""
        if not self.ini.exists():
            self.write_ini()
        env = dict(os.environ)
        if failpoint:
            env['SHOAL_FAILPOINT'] = failpoint
        reports = self.folder / 'sanitizer'
        env['ASAN_OPTIONS'] = (f'log_path={reports}:detect_leaks=1:abort_on_error=0:exitcode=99:'
                               'detect_stack_use_after_return=1')
        env['UBSAN_OPTIONS'] = f'log_path={reports}:print_stacktrace=1:halt_on_error=1:exitcode=98'
        env['LSAN_OPTIONS'] = f'suppressions={host.ROOT}/tests/support/lsan.supp:print_suppressions=0'
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(self.argv(), stdout=log, stderr=log, env=env,
                                            stdin=subprocess.DEVNULL, cwd=self.folder)
        if wait:
            self.wait_ready()
        return self

    def argv(self):
        return os.environ.get('SHOAL_WRAPPER', '').split() + [str(binary()), str(self.ini)]

    def wait_ready(self, timeout_s=START_S):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f'shoald ended with {self.process.returncode}:\n{self.tail()}')
            return self.console('SHOW VERSION')
        wait_until('shoald to be ready', ready, timeout_s)

    def tail(self, size=4000):
        text = self.log.read_text(errors='replace')[-size:] if self.log.exists() else ''
        return text + self.sanitizer_reports()

    def terminate(self, timeout_s=60):
        """SIGTERM: a graceful stop. Returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f'shoald did not stop within {timeout_s} s of SIGTERM:\n{self.tail()}')

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def finish(self):
        """Stops it if it still runs; a sanitizer report or a bad exit fails the test."""
        if self.process is None:
            return
        died = self.process.poll()
        if died is None:
            status = self.terminate()
        else:
            status = 0 if died in (0, -signal.SIGKILL) else died
        reports = self.sanitizer_reports()
        disproved = [line for line in self.log.read_text(errors='replace').splitlines()
                     if 'a batch and its originals differ' in line]
        assert not disproved or self.may_differ, '\n'.join(disproved)
        assert not reports, f'sanitizer report of shoald:\n{reports[:8000]}'
        assert status == 0, f'shoald ended with {status}:\n{self.tail()}'

    def sanitizer_reports(self):
        return '\n'.join(p.read_text(errors='replace')
                         for p in sorted(self.folder.glob('sanitizer.*')))

    def wait_logged(self, text, timeout_s=60, start=0):
        """Until the log has said it, from offset `start` on."""
        wait_until(f'"{text}" in the log', lambda: text in self.log.read_text(errors='replace')[start:],
                   timeout_s, 0.01)

    # -- talking to it -----------------------------------------------------------------------

    def connect(self, database=None, user='app', **kwargs):
        if database is None:
            database = next(iter(self.databases))
        return Conn(self.address, database=database, user=user, **kwargs)

    def query(self, sql, database=None, user='app'):
        with self.connect(database, user) as conn:
            return conn.query(sql)

    def console(self, command, user='admin'):
        """Rows of a console command as dicts of text by column name."""
        from .wire import column_names, errors_of, query, rows_of
        with self.connect('shoal', user) as conn:
            seen = conn.exchange(query(command))
        for err in errors_of(seen):
            raise err
        heads = [m for m in seen if m.type == 'T']
        names = column_names(heads[0].body) if heads else []
        return [dict(zip(names, [None if v is None else v.decode() for v in row]))
                for row in rows_of(seen)]

    def http(self, path, method='GET', headers=None, body=None, timeout_s=20):
        """(status, headers by lower-case name, body) of one request; needs settings http_port."""
        import http.client
        conn = http.client.HTTPConnection('127.0.0.1', int(self.settings['http_port']), timeout=timeout_s)
        try:
            conn.request(method, path, body=body, headers=headers or {})
            answer = conn.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            conn.close()

    def api(self, show, **kwargs):
        """Rows of /api/<show>.json."""
        import json
        status, _, body = self.http(f'/api/{show}.json', **kwargs)
        assert status == 200, (status, body)
        return json.loads(body)['rows']

    def rss_kib(self):
        for line in Path(f'/proc/{self.process.pid}/status').read_text().splitlines():
            if line.startswith('VmRSS'):
                return int(line.split()[1])
        raise AssertionError('no VmRSS')


class Direct:
    """PostgreSQL in Shoal's place: proves that the harness is right before it judges Shoal."""

    def __init__(self, cluster, databases=('app',)):
        self.cluster, self.databases = cluster, list(databases)
        self.address = ('127.0.0.1', cluster.port)

    def connect(self, database=None, user='app', **kwargs):
        return Conn(self.address, database=database or self.databases[0], user=user, **kwargs)

    def query(self, sql, database=None, user='app'):
        with self.connect(database, user) as conn:
            return conn.query(sql)

    def finish(self):
        pass


__all__ = ['Shoal', 'Direct', 'PgError', 'binary']
