"""idle - memory of clients that only sit there: 10,000 of them."""
import resource
import socket
import time

from bench.harness import Bar, Failed, resident_bytes, result, say
from tests.support.wire import startup

CLIENTS = 10000


def log_in(side, count):
    """Sockets whose session has answered ReadyForQuery."""
    hello = startup({'user': 'postgres', 'database': 'bench'})
    opened = []
    for _ in range(count):
        sock = socket.create_connection(('127.0.0.1', side.port), timeout=20)
        sock.sendall(hello)
        opened.append(sock)
        seen = b''
        while not seen.endswith(b'Z\0\0\0\x05I'):
            chunk = sock.recv(4096)
            if not chunk:
                raise Failed(f'{side.name} turned client {len(opened)} away')
            seen += chunk
    return opened


def bytes_each(side, count):
    for sock in log_in(side, 100):  # what the first ones make once for all
        sock.close()
    time.sleep(1)
    before = resident_bytes(side.process.pid)
    clients = log_in(side, count)
    time.sleep(2)
    used = resident_bytes(side.process.pid) - before
    for sock in clients:
        sock.close()
    return round(used / count)


def run(bench, options):
    count = int(options.clients or CLIENTS)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    shoal = bench.start_shoal('shoal', {'s0': bench.cluster()}, client_max=count + 1000)
    bench.made['shoal-idle'] = shoal
    used = {}
    for side in (bench.side('pgbouncer'), shoal):
        try:
            used[side.name] = bytes_each(side, count)
            say(f'  {side.name}: {used[side.name]} bytes for each of {count} idle clients')
        except (Failed, OSError) as err:
            say(f'  {side.name}: {err}')
    return [result('idle', options, {}, [Bar(f'{count} idle clients: bytes each', used.get('shoal'), 2048, True)],
                   clients=count, bytes=used)]
