"""The folders' arrows: a folder includes itself and what stands left of it, nothing else.

    core < { wire, query, meta } < backend < batcher < router < admin < bin
"""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FLOOR = {'core': 0, 'wire': 1, 'query': 1, 'meta': 1, 'backend': 2, 'batcher': 3, 'router': 4,
         'admin': 5, 'bin': 6}
PLACE = {name: (ROOT / 'lib' / name if name in ('core', 'wire', 'query', 'meta', 'backend')
                else ROOT / name) for name in FLOOR}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
# A library and the only folder that speaks to it.
ONLY_USER = {'sqlite3.h': 'meta', 'pg_query.h': 'query', 'microhttpd.h': 'admin', 'ini.h': 'meta'}


def may_include(folder, other):
    """Itself, and folders of lower floors: so wire, query and meta never one another."""
    return folder == other or FLOOR[other] < FLOOR[folder]


def includes():
    for folder, place in PLACE.items():
        for path in sorted(p for p in place.rglob('*') if p.suffix in ('.c', '.h')):
            for quote, name in INCLUDE.findall(path.read_text()):
                yield folder, path.relative_to(ROOT), quote, name


def violations(found):
    for folder, path, quote, name in found:
        top = name.split('/')[0]
        if quote == '"' and '/' in name and top in FLOOR and not may_include(folder, top):
            yield f'{path}: {folder} must not include "{name}"'
        if quote == '"' and '/' not in name and not name.endswith('.inc.h'):
            yield f'{path}: "{name}" hides its folder; write "folder/{name}"'
        if name in ONLY_USER and folder != ONLY_USER[name]:
            yield f'{path}: only {ONLY_USER[name]} speaks to <{name}>'


def test_arrows_hold():
    # The next reader loses the map of the house: a change anywhere may break anything.
    assert list(violations(includes())) == []


@pytest.mark.parametrize('folder, name', [
    ('core', 'wire/frame.h'), ('wire', 'meta/config.h'), ('query', 'wire/frame.h'),
    ('meta', 'query/shape.h'), ('backend', 'router/session.h'), ('router', 'admin/console.h')])
def test_a_wrong_arrow_is_seen(folder, name):
    # A test that cannot fail holds nothing.
    assert list(violations([(folder, 'x.c', '"', name)]))


def test_every_folder_has_a_readme():
    # The stranger at 3 a.m. finds no door.
    assert [str(place.relative_to(ROOT)) for place in PLACE.values()
            if any(place.glob('*.c')) and not (place / 'README.md').exists()] == []


def test_failpoints_are_registered():
    # A failpoint with a misspelt name never fails, and the test that arms it proves nothing.
    table = set(re.findall(r'\{"([a-z_]+)", "', (ROOT / 'lib' / 'core' / 'failpoint.c').read_text()))
    used = {name for place in PLACE.values() for path in place.rglob('*.c')
            for name in re.findall(r'FAILPOINT(?:_FAILS)?\("([^"]+)"', path.read_text())}
    assert table and used <= table, used - table
