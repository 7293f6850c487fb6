#!/usr/bin/python3
"""check.py - builds and runs the suites, two at a time, and counts. Called by ./check."""
import argparse
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / 'build-log'
FUZZ_S = {False: 10, True: 300}

Suite = namedtuple('Suite', 'name what run')
Result = namedtuple('Result', 'passed failed skipped seconds detail')

options = None
say_lock = threading.Lock()


def say(text):
    with say_lock:
        print(text, flush=True)


def logged(name, argv, env=None, timeout_s=1500):
    """Runs a program with its output in OUT/name.log; returns (exit status, log path)."""
    log = OUT / f'{name}.log'
    with open(log, 'ab') as out:
        try:
            done = subprocess.run(argv, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT,
                                  stdin=subprocess.DEVNULL, env=dict(os.environ, **(env or {})),
                                  timeout=timeout_s)
        except subprocess.TimeoutExpired:
            out.write(b'\ntook too long\n')
            return 124, log
    return done.returncode, log


def tail(path, lines=60):
    return '\n'.join(path.read_text(errors='replace').splitlines()[-lines:])


# -- the kinds of suites ---------------------------------------------------------------------------

def configure(folder, *arguments, cc='gcc'):
    """meson setup; from the beginning when this script asks for other options than the folder has."""
    made, wanted = ROOT / folder / '.check-options', ' '.join(arguments)
    if made.exists() and made.read_text() == wanted:
        return
    shutil.rmtree(ROOT / folder, ignore_errors=True)
    status, log = logged(f'setup-{folder}', ['meson', 'setup', folder, *arguments], {'CC': cc})
    if status != 0:
        sys.exit(f'meson setup {folder} failed:\n{tail(log)}')
    made.write_text(wanted)


def build():
    say('building build-check (sanitizers, warnings as errors)')
    configure('build-check', '-Dwerror=true', '-Dfailpoints=true', '-Db_sanitize=address,undefined', '-Db_lundef=false')
    status, log = logged('build', ['ninja', '-C', 'build-check'])
    if status != 0:
        sys.exit(f'the build failed:\n{tail(log)}')


def run_unit():
    status, log = logged('unit', ['meson', 'test', '-C', 'build-check', '--no-rebuild', '--suite', 'unit',
                                  '--print-errorlogs', '--num-processes', '2'],
                         {'ASAN_OPTIONS': 'detect_leaks=1'})
    text = log.read_text(errors='replace')

    def count(word):
        found = re.findall(rf'^{word}:\s+(\d+)', text, re.M)
        return int(found[-1]) if found else 0
    passed, failed = count('Ok'), count('Fail') + count('Timeout') + count('Unexpected Pass')
    if status != 0 and not failed:
        failed = 1
    return passed, failed, count('Skipped'), tail(log) if failed else ''


def run_fuzz():
    """Each libFuzzer target for some seconds over its corpus, in a build of its own (clang)."""
    configure('build-fuzz', '-Dwerror=false', '-Dfuzz=true', '-Dtests=false', '-Db_sanitize=address,undefined',
              '-Db_lundef=false', '-Dc_args=-fsanitize=fuzzer-no-link', cc='clang')
    names = sorted(path.stem for path in (ROOT / 'tests' / 'fuzz').glob('fuzz_*.c'))
    status, log = logged('fuzz', ['ninja', '-C', 'build-fuzz', *[f'tests/fuzz/{name}' for name in names]])
    if status != 0:
        return 0, 1, 0, tail(log)
    targets = [ROOT / 'build-fuzz' / 'tests' / 'fuzz' / name for name in names]
    passed = failed = 0
    detail = ''
    for target in targets:
        corpus = ROOT / 'tests' / 'fuzz' / 'corpus' / target.name.removeprefix('fuzz_')
        fresh = ROOT / 'build-fuzz' / 'corpus' / target.name
        fresh.mkdir(parents=True, exist_ok=True)
        argv = [str(target), f'-max_total_time={FUZZ_S[options.long]}', '-timeout=10', '-rss_limit_mb=2048',
                f'-artifact_prefix={ROOT}/build-fuzz/', f'-seed={options.seed}', str(fresh)]
        if corpus.is_dir():
            argv.append(str(corpus))
        dictionary = ROOT / 'tests' / 'fuzz' / f'{target.name.removeprefix("fuzz_")}.dict'
        if dictionary.exists():
            argv.insert(1, f'-dict={dictionary}')
        status, log = logged(f'fuzz-{target.name}', argv)
        if status == 0:
            passed += 1
        else:
            failed += 1
            detail += f'{target.name}:\n{tail(log, 40)}\n'
    if not targets:
        failed, detail = 1, 'no fuzz target was built\n'
    return passed, failed, 0, detail


def pytest_suite(path):
    def run():
        name = Path(path).stem.removeprefix('test_').replace('_', '-')
        report = OUT / f'{name}.xml'
        report.unlink(missing_ok=True)
        env = {'SHOAL_SEED': str(options.seed), 'SHOAL_LONG': '1' if options.long else '',
               'PYTHONDONTWRITEBYTECODE': '1', 'SHOAL_BIN': os.environ.get(
                   'SHOAL_BIN', str(ROOT / 'build-check' / 'bin' / 'shoald'))}
        status, log = logged(name, ['/usr/bin/python3', '-m', 'pytest', path, f'--junitxml={report}'],
                             env, 7200 if options.long else 900)
        if not report.exists():
            return 0, 1, 0, tail(log)
        passed = failed = skipped = 0
        for case in ElementTree.parse(report).iter('testcase'):
            kinds = {child.tag for child in case}
            if kinds & {'failure', 'error'}:
                failed += 1
            elif 'skipped' in kinds:
                skipped += 1
            else:
                passed += 1
        if status not in (0, 5) and not failed:
            failed = 1
        return passed, failed, skipped, tail(log, 120) if failed else ''
    return run


def suites():
    """In the order in which they are started: the longest first."""
    found = [Suite('unit', 'every folder by itself, cmocka', run_unit),
             Suite('fuzz', 'frames, startup and SQL lexer under libFuzzer', run_fuzz),
             Suite('arrows', 'what a folder may include', pytest_suite('tests/arrows/test_arrows.py'))]
    for path in sorted((ROOT / 'tests' / 'e2e').glob('test_*.py'), key=weight):
        what = path.read_text().split('"""', 2)[1].strip().splitlines()[0]
        found.append(Suite(path.stem.removeprefix('test_').replace('_', '-'), what.rstrip('.'),
                           pytest_suite(str(path.relative_to(ROOT)))))
    return found


def weight(path):
    """Seconds of the last run, so that long suites start early."""
    try:
        seconds = json.loads((OUT / 'seconds.json').read_text())
    except (OSError, ValueError):
        seconds = {}
    return -seconds.get(path.stem, 30), path.stem


# -- the run -----------------------------------------------------------------------------------------

def run_suite(suite):
    started = time.monotonic()
    try:
        passed, failed, skipped, detail = suite.run()
    except Exception as err:  # a broken suite is a failed one, not the end of the run
        passed, failed, skipped, detail = 0, 1, 0, f'{type(err).__name__}: {err}'
    result = Result(passed, failed, skipped, time.monotonic() - started, detail)
    verdict = 'ok  ' if not failed else 'FAIL'
    say(f'{verdict} {suite.name:<18} {passed:>4} passed {failed:>3} failed {skipped:>3} skipped'
        f' {result.seconds:>6.0f} s'
        + (f'\n---- {suite.name} (build-log/{suite.name}.log)\n{result.detail}\n----' if result.detail else ''))
    return suite, result


def main():
    global options
    parser = argparse.ArgumentParser(prog='check')
    parser.add_argument('names', nargs='*', metavar='NAME')
    parser.add_argument('--list', action='store_true', help='names of the suites')
    parser.add_argument('--long', action='store_true', help='more cases, more time')
    parser.add_argument('--seed', type=int, default=int(time.time()) % 1000000 + 1)
    parser.add_argument('-j', '--jobs', type=int, default=min(os.cpu_count() or 2, 4))
    options = parser.parse_args()

    known = suites()
    if options.list:
        for suite in known:
            print(f'{suite.name:<18} {suite.what}')
        return 0
    wanted = [s for s in known if not options.names or s.name in options.names]
    unknown = set(options.names) - {s.name for s in known}
    if unknown:
        sys.exit(f'no such suite: {", ".join(sorted(unknown))} (./check --list names them)')

    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.glob('*.log'):
        old.unlink()
    started = time.monotonic()
    say(f'seed {options.seed}')
    if any(s.name not in ('arrows', 'fuzz') for s in wanted):
        build()
    with concurrent.futures.ThreadPoolExecutor(max(options.jobs, 1)) as pool:
        results = list(pool.map(run_suite, wanted))
    return summarise(results, time.monotonic() - started)


def summarise(results, seconds):
    (OUT / 'seconds.json').write_text(json.dumps(
        {'test_' + s.name.replace('-', '_'): round(r.seconds) for s, r in results}))
    broken = [suite.name for suite, result in results if result.failed]
    if broken:
        say(f'\nfailed (told above): {", ".join(broken)}')
    passed = sum(r.passed for _, r in results)
    failed = sum(r.failed for _, r in results)
    skipped = sum(r.skipped for _, r in results)
    say(f'\n{len(results)} suites in {seconds:.0f} s, seed {options.seed}')
    say(f'{passed} passed, {failed} failed' + (f', {skipped} skipped' if skipped else ''))
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == '__main__':
    sys.exit(main())
