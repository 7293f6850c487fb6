"""HTTP: routes, wrong requests, slow clients, passwords, and texts that want to be scripts."""
import base64
import json
import re
import socket
import subprocess
import threading
import time

import pytest

from tests.support import host
from tests.support.cluster import wait_until
from tests.support.shoal import Shoal, binary

pytestmark = pytest.mark.shoal_only

EVIL = '<script>alert(1)</script>'


@pytest.fixture(scope='module')
def shoal_settings():
    return {'http_port': host.free_port()}


def raw(shoal, request, timeout_s=10, half_close=True):
    """Bytes in, bytes out, until the server closes or falls silent."""
    with socket.create_connection(('127.0.0.1', int(shoal.settings['http_port'])), timeout=timeout_s) as sock:
        out = b''
        try:
            sock.sendall(request)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            while chunk := sock.recv(65536):
                out += chunk
        except OSError:  # silent, or it has closed before it has read all
            pass
    return out


def shows(shoal):
    return [row['name'] for row in json.loads(shoal.http('/api/index.json')[2])['shows']]


# -- routes -----------------------------------------------------------------------------------------

@pytest.mark.parametrize('path, kind', [
    ('/', 'text/html'), ('/shoal.js', 'text/javascript'), ('/shoal.css', 'text/css'), ('/shoal.svg', 'image/svg+xml'),
    ('/metrics', 'text/plain'), ('/health', 'text/plain'), ('/health/live', 'text/plain'),
    ('/health/ready', 'text/plain'), ('/api/index.json', 'application/json'), ('/api/stats.json', 'application/json'),
    ('/?x=1', 'text/html')])
def test_routes(shoal, path, kind):
    # The page, or what monitors it, finds nothing.
    status, headers, body = shoal.http(path)
    assert status == 200 and headers['content-type'].startswith(kind) and len(body) == int(headers['content-length'])
    assert headers['cache-control'] == 'no-store' and headers['x-content-type-options'] == 'nosniff'
    assert "default-src 'none'" in headers['content-security-policy']
    status, head, nothing = shoal.http(path, method='HEAD')
    assert status == 200 and nothing == b'' and head['content-type'] == headers['content-type']


def test_every_show_is_there(shoal):
    # A SHOW that only psql has is not seen on the page.
    names = shows(shoal)
    in_psql = {r['command'].split(' ', 1)[1].lower().replace(' ', '_') for r in shoal.console('SHOW HELP')
               if r['command'].startswith('SHOW ') and r['for'] == 'monitor' and ' ' not in
               r['command'].replace('SHOW ', '', 1)}
    assert in_psql <= set(names)
    for name in names:
        status, _, body = shoal.http(f'/api/{name}.json')
        answer = json.loads(body)
        assert status == 200 and answer['show'] == name, (name, body)
        columns = [c['name'] for c in answer['columns']]
        for row in answer['rows']:
            assert list(row) == columns


def test_numbers_are_numbers(shoal):
    # A program has to guess what a figure is.
    with shoal.connect('solo') as conn:
        conn.query('SELECT 1')
        rows = {r['name']: r['value'] for r in shoal.api('stats')}
        assert isinstance(rows['statements'], int) and rows['statements'] >= 1
        clients = shoal.api('clients')
        mine = [r for r in clients if r['database'] == 'solo'][0]
        assert mine['server_pid'] is None and isinstance(mine['id'], int) and mine['tls'] == 'no'


@pytest.mark.parametrize('path', ['/nope', '/api', '/api/', '/api/x', '/api/reload.json', '/api/shutdown.json',
                                  '/api/../metrics', '//', '/metrics/', '/health/x', '/api/stats', '/api/.json',
                                  '/api/' + 'x' * 3000 + '.json', '/api/%00.json', '/%2e%2e/%2e%2e/etc/passwd',
                                  '/api/stats%00.json', '/api/show stats.json'.replace(' ', '%20')])
def test_what_is_not_there(shoal, path):
    # A wrong path ends the router, or does something.
    assert shoal.http(path)[0] in (400, 404)
    assert shoal.http('/health')[0] == 200


@pytest.mark.parametrize('method', ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'FROBNICATE'])
@pytest.mark.parametrize('path', ['/', '/api/stats.json', '/metrics', '/health'])
def test_nothing_can_be_changed(shoal, method, path):
    # A page of somebody else shuts the router down.
    status, headers, _ = shoal.http(path, method=method, body=b'x' * 100 if method in ('POST', 'PUT') else None)
    assert status == 405 and headers['allow'] == 'GET, HEAD'


# -- health -----------------------------------------------------------------------------------------

def test_health_follows_the_servers(workspace, clusters):
    # A load balancer sends clients to a router that can serve nobody, or to one that stops.
    class Nowhere:
        port = host.free_port()
    shoal = Shoal(workspace, {'s0': Nowhere()}, databases={'app': {}}, users={'admin': {'admin': 'on'}},
                  settings={'http_port': host.free_port()}, name='down')
    shoal.start()
    try:
        wait_until('the probe to fail', lambda: shoal.http('/health')[0] == 503, 10)
        assert shoal.http('/health')[2] == b'no server can be reached\n'
        assert shoal.http('/health/live')[0] == 200
        checks = {r['check']: r for r in shoal.api('health') if r['state'] == 'bad'}
        assert 's0/primary is down' in checks['servers']['what'] and 'catalogs' in checks
        assert shoal.console('SHOW HEALTH')
    finally:
        shoal.finish()


def test_health_tells_of_the_end(workspace, clusters):
    # Clients are sent to a router that is stopping.
    shoal = Shoal(workspace, {'s0': clusters[0]}, databases={'solo': {}}, users={'admin': {'admin': 'on'}},
                  settings={'http_port': host.free_port(), 'shutdown_timeout': '20s'}, name='end')
    shoal.start()
    conn = shoal.connect('solo')
    try:
        conn.query('BEGIN')
        conn.query('SELECT 1')
        shoal.console('SHUTDOWN WAIT 20')
        wait_until('503', lambda: shoal.http('/health')[0] == 503, 5)
        assert shoal.http('/health')[2] == b'stopping\n'
        assert shoal.http('/health/live')[0] == 200
        assert shoal.http('/metrics')[0] == 503
        conn.query('COMMIT')
    finally:
        conn.abort()
        shoal.process.wait(20)
        shoal.finish()


def test_the_end_while_it_is_asked(workspace, clusters):
    # The router dies, or hangs, because somebody reads the metrics just then.
    shoal = Shoal(workspace, {'s0': clusters[0]}, databases={'solo': {}}, users={'admin': {'admin': 'on'}},
                  settings={'http_port': host.free_port()}, name='asked')
    shoal.start()
    going = True

    def ask():
        while going:
            try:
                shoal.http('/metrics', timeout_s=5)
                shoal.http('/api/servers.json', timeout_s=5)
            except OSError:
                time.sleep(0.01)
            except Exception:  # half an answer: the process has ended
                pass
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    try:
        assert shoal.terminate() == 0
    finally:
        going = False
        for thread in threads:
            thread.join()
        shoal.finish()


def test_a_port_that_is_taken(workspace, clusters):
    # Queries are not carried because a port for the page is not free.
    port = host.free_port()
    taken = socket.create_server(('127.0.0.1', port))
    shoal = Shoal(workspace, {'s0': clusters[0]}, databases={'solo': {}}, users={'admin': {'admin': 'on'}},
                  settings={'http_port': port}, name='taken')
    shoal.start()
    try:
        assert shoal.query('SELECT 1', 'solo', user='postgres') == [['1']]
        row = [r for r in shoal.console('SHOW HEALTH') if r['check'] == 'http'][0]
        assert row['state'] == 'warning' and str(port) in row['what']
        taken.close()
        wait_until('the port to be taken over', lambda: not any(
            r['check'] == 'http' and r['state'] != 'ok' for r in shoal.console('SHOW HEALTH')), 12)
        assert shoal.http('/health')[0] == 200
    finally:
        taken.close()
        shoal.finish()


# -- bytes from the network --------------------------------------------------------------------------

@pytest.mark.parametrize('request_bytes', [
    b'', b'\n', b'GET\r\n\r\n', b'GET / HTTP/9.9\r\n\r\n', b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    b'GET / HTTP/1.1\r\n\r\n', b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
    b'\0\0\0\x08\x04\xd2\x16\x2f', b'GET /' + b'a' * 100000 + b' HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ' + b'a' * 100000 + b'\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n' + b''.join(b'X%d: 1\r\n' % i for i in range(5000)) + b'\r\n',
    b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic ' + b'=' * 1000 + b'\r\n\r\n'], ids=range(13))
def test_wrong_bytes(shoal, request_bytes):
    # One wrong request ends the router for all.
    answer = raw(shoal, request_bytes, timeout_s=3)
    assert answer == b'' or re.match(rb'HTTP/1\.[01] \d\d\d ', answer), answer[:100]
    if len(request_bytes) > 50000:
        assert answer == b'' or re.match(rb'HTTP/1\.[01] 4\d\d ', answer), answer[:100]
    assert shoal.http('/health')[0] == 200


def test_many_requests_on_one_connection(shoal):
    # A browser keeps its connection.
    one = b'GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'
    last = b'GET /api/stats.json HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n'
    answer = raw(shoal, one * 5 + last, half_close=False)
    assert answer.count(b'HTTP/1.1 200') == 6 and answer.endswith(b'}')


def test_slow_clients_hold_up_nobody(shoal):
    # A browser that fell asleep stops the router, or the health checks.
    port = int(shoal.settings['http_port'])
    sleepers = [socket.create_connection(('127.0.0.1', port)) for _ in range(40)]
    try:
        for i, sock in enumerate(sleepers):
            sock.sendall(b'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n' + (b'\r\n' if i % 2 else b''))
        started = time.monotonic()
        assert shoal.http('/health')[0] == 200
        assert shoal.query('SELECT 1', 'solo') == [['1']]
        assert time.monotonic() - started < 20
    finally:
        for sock in sleepers:
            sock.close()
    assert shoal.http('/metrics')[0] == 200


def test_connections_have_a_limit(shoal):
    # Whoever opens enough connections takes the descriptors of the clients.
    port = int(shoal.settings['http_port'])
    many = [socket.create_connection(('127.0.0.1', port)) for _ in range(100)]
    try:
        time.sleep(0.3)
        descriptors = {r['name']: int(r['value']) for r in shoal.console('SHOW PROCESS')}['descriptors']
        assert descriptors < 130, descriptors
        assert shoal.query('SELECT 1', 'solo') == [['1']]
    finally:
        for sock in many:
            sock.close()
    wait_until('the page again', lambda: shoal.http('/health')[0] == 200, 10)


def test_who_leaves_while_he_is_served(shoal):
    # The answer of somebody who has gone is written into memory that is free.
    port = int(shoal.settings['http_port'])
    for _ in range(50):
        with socket.create_connection(('127.0.0.1', port)) as sock:
            sock.sendall(b'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n')
    assert shoal.http('/metrics')[0] == 200


# -- who may ------------------------------------------------------------------------------------------

def basic(password, user='shoal'):
    return {'Authorization': 'Basic ' + base64.b64encode(f'{user}:{password}'.encode()).decode()}


def test_a_password(workspace, clusters):
    # Whoever reaches the port sees the statements of all clients.
    secret = 'correct:horse battery'
    shoal = Shoal(workspace, {'s0': clusters[0]}, databases={'solo': {}}, users={'admin': {'admin': 'on'}},
                  settings={'http_port': host.free_port(), 'http_password': secret}, name='password')
    shoal.start()
    try:
        for path in ('/', '/metrics', '/api/stats.json', '/shoal.js', '/nope'):
            status, headers, body = shoal.http(path)
            assert status == 401 and headers['www-authenticate'].startswith('Basic realm='), path
            for wrong in (basic(''), basic('wrong'), basic(secret + 'x'), basic(secret[:-1]),
                          {'Authorization': 'Bearer ' + secret}, {'Authorization': 'Basic !!!'},
                          {'Authorization': 'Basic'}, basic(secret.upper())):
                assert shoal.http(path, headers=wrong)[0] == 401, (path, wrong)
        assert shoal.http('/metrics', headers=basic(secret))[0] == 200
        assert shoal.http('/api/stats.json', headers=basic(secret, user='prometheus'))[0] == 200
        assert shoal.http('/health')[0] == 200
        for name in ['config', 'databases', 'events', 'health']:
            assert secret not in shoal.http(f'/api/{name}.json', headers=basic(secret))[2].decode()
        assert secret not in shoal.log.read_text()
    finally:
        shoal.finish()


@pytest.mark.parametrize('address', ['0.0.0.0', '*', '192.0.2.1', '::', 'example.org'])
def test_no_open_page_by_accident(workspace, clusters, address):
    # One line too much in a file, and the world reads along.
    shoal = Shoal(workspace, {'s0': clusters[0]}, databases={'solo': {}},
                  settings={'http_port': host.free_port(), 'http_listen': address}, name='open')
    shoal.write_ini()
    done = subprocess.run([str(binary()), '--check-config', str(shoal.ini)], capture_output=True, text=True, timeout=20)
    assert done.returncode != 0 and 'http_password' in done.stderr, done.stderr


@pytest.mark.parametrize('address', ['::1', 'localhost'])
def test_loopback_addresses(workspace, clusters, address):
    # The page is not there although the address is right.
    shoal = Shoal(workspace, {'s0': clusters[0]}, databases={'solo': {}}, users={'admin': {'admin': 'on'}},
                  settings={'http_port': host.free_port(), 'http_listen': address}, name='loopback')
    shoal.start()
    try:
        with socket.create_connection((address, int(shoal.settings['http_port'])), timeout=5) as sock:
            sock.sendall(b'GET /health HTTP/1.0\r\n\r\n')
            assert b'200 OK' in sock.recv(1000)
    except OSError:
        if address != '::1':
            raise
        pytest.skip('this machine has no IPv6')
    finally:
        shoal.finish()


@pytest.mark.parametrize('name, status', [('127.0.0.1', 200), ('localhost:6480', 200), ('[::1]:6480', 200),
                                          ('evil.example', 403), ('localhost.evil.example', 403),
                                          ('127.0.0.1.evil.example', 403), ('', 403)])
def test_names_of_others(shoal, name, status):
    # A web site whose name leads to 127.0.0.1 reads the statements of all clients (DNS rebinding).
    assert shoal.http('/api/stats.json', headers={'Host': name})[0] == status
    assert shoal.http('/health', headers={'Host': name})[0] == 200


# -- what clients write --------------------------------------------------------------------------------

def test_texts_stay_texts(shoal):
    # An application_name becomes a program in the operator's browser.
    with shoal.connect('solo', parameters={'application_name': EVIL}) as conn:
        conn.query(f'SELECT 1 AS "{EVIL}"')
        with shoal.connect('solo', parameters={'application_name': 'caf\u00e9 \u2603 "\\'}) as other:
            other.query('SELECT 2')
            status, headers, body = shoal.http('/api/clients.json')
            names = {r['application'] for r in json.loads(body)['rows']}
            assert EVIL in names and 'caf\u00e9 \u2603 "\\' in names
            assert headers['content-type'] == 'application/json' and headers['x-content-type-options'] == 'nosniff'
    texts = [r['statement'] for r in shoal.api('statements')]
    assert any(EVIL in text for text in texts)
    assert EVIL.encode() not in shoal.http('/')[2]
    script = shoal.http('/shoal.js')[2].decode()
    assert 'innerHTML' not in script and 'document.write' not in script and 'insertAdjacentHTML' not in script


def test_bytes_that_are_no_text(shoal):
    # One client with an old encoding, and nobody has a page any more.
    with shoal.connect('solo') as conn:
        sql = b'SELECT 1 AS "\xff\xfe"\0'
        conn.sock.sendall(b'Q' + (4 + len(sql)).to_bytes(4, 'big') + sql)
        time.sleep(0.3)
        for name in ('statements', 'batches', 'clients'):
            assert isinstance(shoal.api(name), list)
        assert shoal.http('/metrics')[0] == 200
        conn.abort()
