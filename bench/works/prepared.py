"""prepared - the same lookups as prepared statements."""
from bench.works import point

CLIENTS = '64,256'


def run(bench, options):
    options.clients = options.clients or CLIENTS
    return point.run(bench, options, protocol='prepared')
