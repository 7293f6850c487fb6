"""host.py - this machine as the tests see it: folders that go away, ports, and who runs a server.

PostgreSQL refuses to run as root. Run by root, the tests hand every server to an unprivileged user
(SHOAL_RUN_AS, default postgres); run by anybody else, servers run as that user.
"""
import atexit
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from . import servers

ROOT = Path(__file__).resolve().parents[2]
LONG = os.environ.get('SHOAL_LONG', '') == '1'
SEED = int(os.environ.get('SHOAL_SEED', '0')) or random.SystemRandom().randrange(1, 2**31)


def pg_bin(program):
    """Path of one of PostgreSQL's server programs (Debian keeps them out of PATH)."""
    other = servers.program(ROOT, program)
    if other:
        return other
    found = sorted(Path('/usr/lib/postgresql').glob(f'*/bin/{program}'))
    preferred = [p for p in found if p.parts[4] == '15']
    path = (preferred or found or [shutil.which(program)])[-1]
    if path is None:
        raise FileNotFoundError(f'{program}: is PostgreSQL installed?')
    return str(path)


def run_as():
    """The user that servers run as: None when that is the one we are already."""
    if os.geteuid() != 0:
        return None
    return pwd.getpwnam(os.environ.get('SHOAL_RUN_AS', 'postgres'))


def demoted(argv):
    user = run_as()
    if user is None:
        return list(argv)
    return ['setpriv', f'--reuid={user.pw_uid}', f'--regid={user.pw_gid}', '--clear-groups',
            '--'] + list(argv)


def run_server_tool(argv, **kwargs):
    """Runs a short program as the servers' user; its output is in the error when it fails."""
    done = subprocess.run(demoted(argv), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, cwd='/', **kwargs)
    if done.returncode != 0:
        raise RuntimeError(f'{" ".join(map(str, argv))}: exit {done.returncode}\n'
                           + done.stdout.decode(errors='replace')[-4000:])
    return done.stdout.decode(errors='replace')


class Workspace:
    """A folder for one suite, owned by the servers' user, removed at the end (kept: SHOAL_KEEP=1)."""

    def __init__(self, name):
        base = os.environ.get('SHOAL_TMP', tempfile.gettempdir())
        self.path = Path(tempfile.mkdtemp(prefix=f'shoal-{name[:16]}-', dir=base))
        self.path.chmod(0o755)
        give_to_server(self.path)
        if os.environ.get('SHOAL_KEEP') != '1':
            atexit.register(shutil.rmtree, self.path, ignore_errors=True)

    def folder(self, name):
        path = self.path / name
        path.mkdir()
        give_to_server(path)
        return path


def give_to_server(path):
    user = run_as()
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


_handed_out = set()


def free_port():
    """A port below the ephemeral range, so that no outgoing connection takes it meanwhile."""
    rng = random.SystemRandom()
    for _ in range(200):
        port = rng.randrange(15000, 32000)
        if port in _handed_out:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(('127.0.0.1', port))
            except OSError:
                continue
        _handed_out.add(port)
        return port
    raise RuntimeError('no free port found')
