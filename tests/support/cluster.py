"""cluster.py - a throwaway PostgreSQL cluster: made, started, killed, copied as a replica."""
import os
import signal
import time
from pathlib import Path

from . import host
from .wire import Conn, PgError

# Durability costs time and a test cluster has nothing to lose; everything else is PostgreSQL's own.
SETTINGS = {
    'listen_addresses': "'127.0.0.1'", 'fsync': 'off', 'full_page_writes': 'off',
    'shared_buffers': '64MB', 'max_connections': '200', 'max_prepared_transactions': '20',
    'wal_level': 'logical', 'max_wal_senders': '10', 'jit': 'off', 'timezone': "'UTC'",
    'log_timezone': "'UTC'", 'lc_messages': "'C'", 'wal_receiver_status_interval': '1s',
    'log_line_prefix': "'%m [%p] %a '", 'password_encryption': 'scram-sha-256',
}


class Cluster:
    """One server: `port` on 127.0.0.1, superuser postgres, every role trusted unless hba says else."""

    def __init__(self, workspace, name, settings=None, hba=None):
        self.name = name
        self.port = host.free_port()
        self.data = workspace.path / name
        self.log = workspace.path / f'{name}.log'
        self.settings = dict(SETTINGS, unix_socket_directories=f"'{workspace.path}'",
                             **(settings or {}))
        self.hba = hba
        self.workspace = workspace
        self.standby_of = None

    # -- life --------------------------------------------------------------------------------

    def create(self):
        host.run_server_tool([host.pg_bin('initdb'), '-D', str(self.data), '-U', 'postgres',
                              '-A', 'trust', '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync'])
        self.configure()
        return self

    def create_replica(self, name, settings=None):
        """A streaming replica of this running cluster."""
        replica = Cluster(self.workspace, name, settings)
        host.run_server_tool([host.pg_bin('pg_basebackup'), '-D', str(replica.data), '-R',
                              '-X', 'stream', '-c', 'fast', '--no-sync', '-h', '127.0.0.1',
                              '-p', str(self.port), '-U', 'postgres'])
        replica.standby_of = self
        replica.configure(primary_conninfo=f"'host=127.0.0.1 port={self.port} user=postgres'")
        return replica

    def configure(self, **changes):
        self.settings.update(changes)
        lines = [f'{key} = {value}\n' for key, value in self.settings.items()]
        lines.append(f'port = {self.port}\n')
        self._write('postgresql.conf', ''.join(lines))
        if self.hba is not None:
            self._write('pg_hba.conf', self.hba)

    def _write(self, name, text):
        path = self.data / name
        path.write_text(text)
        host.give_to_server(path)

    def start(self, timeout_s=60):
        host.run_server_tool([host.pg_bin('pg_ctl'), '-D', str(self.data), '-l', str(self.log),
                              '-w', '-t', str(timeout_s), 'start'])
        return self

    def stop(self, mode='immediate'):
        if self.pid() is not None:
            host.run_server_tool([host.pg_bin('pg_ctl'), '-D', str(self.data), '-m', mode, '-w',
                                  '-t', '60', 'stop'])

    def kill9(self):
        """The machine is gone: postmaster and its children at once."""
        pid = self.pid()
        os.kill(pid, signal.SIGSTOP)  # no new children meanwhile
        every = children_of(pid) + [pid]
        for each in every:
            try:
                os.kill(each, signal.SIGKILL)
            except ProcessLookupError:
                pass
        while any(not is_zombie(each) for each in every):
            time.sleep(0.01)
        # Where nobody reaps orphans, the zombie's pid would look like a running server.
        (self.data / 'postmaster.pid').unlink(missing_ok=True)
        for lock in self.workspace.path.glob(f'.s.PGSQL.{self.port}*'):
            lock.unlink()

    # -- as a standby ------------------------------------------------------------------------

    def freeze(self):
        """SIGSTOP for all of it: TCP still answers, PostgreSQL does not."""
        self.frozen = children_of(self.pid()) + [self.pid()]
        for each in self.frozen:
            signal_pid(each, signal.SIGSTOP)

    def thaw(self):
        for each in getattr(self, 'frozen', []):
            signal_pid(each, signal.SIGCONT)
        self.frozen = []

    def promote(self):
        self.query('SELECT pg_promote(true, 30)')
        self.standby_of = None

    def received(self):
        """How far it has the WAL of a primary that is gone: whoever has most must be promoted, or the others
        cannot follow."""
        wait_until('the walreceiver to go', lambda: not self.query('SELECT 1 FROM pg_stat_wal_receiver'))
        return int(self.query("SELECT (pg_last_wal_receive_lsn() - '0/0')::bigint")[0][0])

    def cut_receiver(self):
        """What it receives from now on is nothing; what it has replayed stays (L2)."""
        self.sql("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'",
                 'SELECT pg_reload_conf()')
        wait_until('the walreceiver to go', lambda: not self.query('SELECT 1 FROM pg_stat_wal_receiver'))

    def join_receiver(self):
        self.sql('ALTER SYSTEM RESET primary_conninfo', 'SELECT pg_reload_conf()')

    def pause_replay(self):
        """Returns when nothing is replayed any more: the function only asks for it."""
        self.query('SELECT pg_wal_replay_pause()')
        wait_until('replay to pause', lambda: self.query('SELECT pg_get_wal_replay_pause_state()') == [['paused']])

    def resume_replay(self):
        self.query('SELECT pg_wal_replay_resume()')

    def delay_replay(self, delay):
        self.sql(f"ALTER SYSTEM SET recovery_min_apply_delay = '{delay}'", 'SELECT pg_reload_conf()')

    def pid(self):
        try:
            pid = int((self.data / 'postmaster.pid').read_text().split()[0])
        except (FileNotFoundError, IndexError):
            return None
        return pid if Path(f'/proc/{pid}').exists() and not is_zombie(pid) else None

    # -- questions ---------------------------------------------------------------------------

    def connect(self, database='postgres', user='postgres', **kwargs):
        return Conn(('127.0.0.1', self.port), database=database, user=user, **kwargs)

    def query(self, sql, database='postgres', user='postgres'):
        """Rows as lists of text; an error raises PgError."""
        with self.connect(database, user) as conn:
            return conn.query(sql)

    def sql(self, *statements, database='postgres', user='postgres'):
        with self.connect(database, user) as conn:
            for statement in statements:
                conn.query(statement)

    def wait_caught_up(self, replica, timeout_s=60):
        lsn = self.query('SELECT pg_current_wal_flush_lsn()')[0][0]
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if replica.query(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'")[0][0] == 't':
                return
            time.sleep(0.05)
        raise TimeoutError(f'{replica.name} does not reach {lsn}')


def children_of(pid):
    try:
        text = Path(f'/proc/{pid}/task/{pid}/children').read_text()
    except FileNotFoundError:
        return []
    return [int(p) for p in text.split()]


def signal_pid(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def is_zombie(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z'
    except FileNotFoundError:
        return True


PATIENCE_S = 60  # no machine is so slow; a wait is a condition, never a measurement


def wait_until(what, condition, timeout_s=PATIENCE_S, pause_s=0.05):
    """Repeats `condition` until it is true; errors of connecting count as not yet. A bound below PATIENCE_S is taken
    for PATIENCE_S: it costs time only when the test fails."""
    timeout_s = max(timeout_s, PATIENCE_S)
    deadline = time.monotonic() + timeout_s
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
        except (OSError, PgError) as err:
            last = err
        if time.monotonic() > deadline:
            raise AssertionError(f'waited {timeout_s} s for {what}' + (f': {last}' if last else ''))
        time.sleep(pause_s)
