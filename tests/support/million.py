"""million.py - promise_load.c from Python: a million checked reads, while the test breaks something.

    load = Million(shoal, reads=1_000_000)      writers and readers run
    load.begin()                                from here on reads count (the fault is there)
    load.wait()                                 so many bounded reads were answered
    counts = load.finish()                      asserts that no promise was broken
"""
import json
import signal
import subprocess

from . import shoal as shoals

ALLOWED = frozenset()  # errors of clients


class Million:
    def __init__(self, shoal, reads, **options):
        argv = [str(shoals.binary().parent.parent / 'tests' / 'support' / 'promise_load'), '--port', str(shoal.port),
                '--reads', str(reads)]
        for key, value in options.items():
            argv += [f'--{key.replace("_", "-")}', str(value)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.expect('ready')

    def expect(self, word):
        line = self.process.stdout.readline().strip()
        assert line == word, f'{line!r}, not {word!r}: {self.process.stderr.read() if not line else ""}'

    def begin(self):
        self.process.send_signal(signal.SIGUSR1)

    def wait(self):
        self.expect('done')

    def finish(self, errors=ALLOWED):
        """Counts; every error must be of one of these SQLSTATEs."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=60)
        assert out.strip(), err
        counts = json.loads(out.strip().splitlines()[-1])
        assert counts['violations'] == 0, counts['shown']
        assert set(counts['errors']) <= set(errors), counts
        return counts
