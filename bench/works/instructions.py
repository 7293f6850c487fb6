"""instructions - how many instructions Shoal spends on a lookup, and where (valgrind --tool=callgrind).

Repeatable where time is not. Two runs, one with twice as many lookups: the difference is what the lookups
cost, without the start. One worker, real PostgreSQL behind.
"""
import collections
import os
import re
import shutil
import subprocess

from bench.harness import Failed, Side, result, say
from bench.works.point import SCRIPT
from tests.support.shoal import Shoal

LOOKUPS = 300  # of each client in the shorter run
TOP = 25


def profile(bench, name, clients, lookups, protocol, script):
    """Instructions by function of one run of shoald."""
    out = bench.workspace.folder(f'callgrind-{name}') / 'out'
    shoal = Shoal(bench.workspace, {'s0': bench.cluster()}, databases={'bench': {}}, name=name,
                  users={'admin': {'admin': 'on'}, 'postgres': {'admin': 'on'}}, settings={'workers': 1},
                  batch={'batch_proof_every': 1000000})
    wrapper = os.environ.get('SHOAL_WRAPPER')
    os.environ['SHOAL_WRAPPER'] = f'valgrind --tool=callgrind --callgrind-out-file={out} --error-exitcode=0 -q'
    try:
        shoal.start()
        side = Side('shoal', shoal.port)
        done = subprocess.run(['pgbench', '-n', '-M', protocol, '-c', str(clients), '-j', '1', '-t', str(lookups), '-f', str(script),
                               f'-Dscale={bench.options.scale}', '-h', '127.0.0.1', '-p', str(side.port), '-U', 'postgres', 'bench'],
                              capture_output=True, text=True)
        if done.returncode:
            raise Failed(done.stderr.strip()[-300:])
        batches = shoal.console('SHOW STATS')
    finally:
        shoal.terminate(60)
        if wrapper is None:
            del os.environ['SHOAL_WRAPPER']
        else:
            os.environ['SHOAL_WRAPPER'] = wrapper
    text = subprocess.run(['callgrind_annotate', '--threshold=100', '--auto=no', '--show-percs=no', str(out)],
                          capture_output=True, text=True, check=True).stdout
    return read_annotation(text), {r['name']: int(r['value']) for r in batches}


def read_annotation(text):
    """{function: instructions} of "12,345  file.c:function [object]" lines."""
    found = collections.Counter()
    for line in text.splitlines():
        match = re.match(r'\s*([\d,]+)\s+(\S+?):(\S.*?)(?: \[(.*)\])?$', line)
        if match and not line.endswith('PROGRAM TOTALS'):
            found[(place_of(match[2], match[4]), match[3].split("'")[0])] += int(match[1].replace(',', ''))
    return found


def place_of(file, binary):
    """The folder of our sources, or the library."""
    for folder in ('lib/core', 'lib/wire', 'lib/query', 'lib/meta', 'lib/backend', 'batcher', 'router', 'admin', 'bin'):
        if f'/{folder}/' in '/' + file:
            return folder
    return os.path.basename(binary or file).split('.so')[0]


def run(bench, options):
    if not shutil.which('valgrind'):
        say('  valgrind is not installed')
        return []
    clients = int(options.clients or 16)
    script = bench.script('point', SCRIPT)
    short, _ = profile(bench, 'short', clients, LOOKUPS, options.protocol, script)
    long, stats = profile(bench, 'long', clients, 2 * LOOKUPS, options.protocol, script)
    queries = clients * LOOKUPS
    spent = collections.Counter({key: (long[key] - short[key]) / queries for key in long if long[key] > short[key]})
    total, places = sum(spent.values()), collections.Counter()
    for (place, _), count in spent.items():
        places[place] += count
    size = stats['batched_statements'] / max(stats['batches'], 1)
    say(f'\n{total:.0f} instructions for one lookup, {clients} clients, {options.protocol} protocol, {size:.1f} in a batch\n')
    for place, count in places.most_common(12):
        say(f'  {place:<24}{count:>9.0f}{100 * count / total:>7.1f} %')
    say('')
    for (place, function), count in spent.most_common(TOP):
        say(f'  {function[:44]:<46}{place:<18}{count:>8.0f}{100 * count / total:>7.1f} %')
    return [result('instructions', options, {}, [], clients=clients, protocol=options.protocol, instructions=round(total),
                   batch_size=round(size, 1), places={k: round(v) for k, v in places.most_common(12)})]
