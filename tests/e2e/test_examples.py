"""The examples run as their READMEs say, and show what they claim.

An example whose toolchain is not here is skipped, with what is missing.
"""
import json
import subprocess

import pytest

from tests.support import host

RUN = host.ROOT / 'examples' / 'n1_page' / 'run'


@pytest.mark.parametrize('orm', ['django', 'sequelize', 'activerecord'])
def test_an_orm_page(orm):
    # Unmodified ORMs: 101 queries become two, on the same page.
    done = subprocess.run([str(RUN), '--json', orm], capture_output=True, text=True, timeout=110)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if lines and 'missing' in lines[0]:
        pytest.skip(f'{orm} needs {lines[0]["missing"]}')
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line['mode'] for line in lines] == ['autocommit', 'repeatable-read']
    for line in lines:
        assert line['direct']['queries'] == 101
        assert line['shoal']['digest'] == line['direct']['digest']
        # Two; more only when a batch took longer than the age that is allowed on a busy machine.
        assert line['shoal']['queries'] <= 6, line
