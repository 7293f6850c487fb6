"""Startup, TLS and authentication: good clients get in, bad bytes are answered as the table says.

Numbers are those of the table of bad inputs (4a, 4b).
"""
import socket
import ssl
import struct
import subprocess
import time

import pytest

from tests.support.cluster import wait_until
from tests.support.shoal import Shoal
from tests.support.wire import (CLOSED, GSS_CODE, PROTOCOL_3_0, SSL_CODE, Conn, PgError, Scram, cstr,
                                error_fields, errors_of, message, query, rows_of, startup, types_of,
                                untyped)

LOGIN_TIMEOUT_S = 2
PASSWORD = 'correct horse'
GOOD = {'user': 'app', 'database': 'solo'}


@pytest.fixture(scope='module')
def shoal_settings():
    return {'login_timeout': f'{LOGIN_TIMEOUT_S}s'}


@pytest.fixture(scope='module')
def certificate(workspace):
    key, cert = workspace.path / 'server.key', workspace.path / 'server.crt'
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj',
                    '/CN=localhost', '-keyout', key, '-out', cert], check=True, capture_output=True)
    key.chmod(0o600)
    return cert, key


@pytest.fixture(scope='module')
def guarded(workspace, clusters, certificate):
    """A Shoal that asks for SCRAM and offers TLS."""
    cert, key = certificate
    users = workspace.path / 'users.txt'
    verifier = clusters[0].query("SELECT rolpassword FROM pg_authid WHERE rolname = 'listed'")[0][0]
    users.write_text(f'"listed" "{verifier}"\n"quoted ""user""" "pass ""word"""\n')
    users.chmod(0o600)
    shoal = Shoal(workspace, {'s0': clusters[0], 's1': clusters[1]},
                  databases={'solo': {'shards': 's0', 'server_user': 'app'}},
                  users={'admin': {'password': 'admin', 'admin': 'on'}, 'app': {'password': PASSWORD},
                         'empty': {'password': 'x'}},
                  settings={'auth': 'scram-sha-256', 'tls_cert': cert, 'tls_key': key, 'user_list': users,
                            'login_timeout': f'{LOGIN_TIMEOUT_S}s'}, name='guarded')
    shoal.start(wait=False)
    try:
        wait_until('the guarded shoald', lambda: shoal.connect('solo', password=PASSWORD).alive(), 30)
        yield shoal
    finally:
        shoal.finish()


@pytest.fixture(scope='module')
def clusters(workspace):
    from tests.e2e.conftest import prepared_cluster
    made = [prepared_cluster(workspace, name) for name in ('s0', 's1')]
    made[0].sql(f"CREATE ROLE listed LOGIN PASSWORD '{PASSWORD}'")
    yield made
    for cluster in made:
        cluster.stop()


@pytest.fixture(scope='module')
def trusting(certificate):
    context = ssl.create_default_context(cafile=str(certificate[0]))
    return context


def talk(target, data, timeout_s=LOGIN_TIMEOUT_S + 3):
    """Sends raw bytes on a fresh connection; messages until it closes, is ready, or falls silent."""
    conn = Conn(target.address, login=False, timeout_s=timeout_s)
    try:
        return conn.exchange(data, 1, timeout_s)
    finally:
        conn.abort()


def code(seen):
    errors = errors_of(seen)
    return (errors[0]['S'], errors[0].code) if errors else None


def well(target):
    with target.connect('solo') as conn:
        assert conn.alive()


# -- 4a -------------------------------------------------------------------------------------------

BAD_STARTUP = [
    (1, 'length 0', struct.pack('!I', 0), '08P01'),
    (2, 'length 3', struct.pack('!I', 3), '08P01'),
    (3, 'length 4', struct.pack('!I', 4), '08P01'),
    (3, 'length 7', struct.pack('!I', 7) + b'abc', '08P01'),
    (4, 'length 8', struct.pack('!II', 8, PROTOCOL_3_0), '08P01'),
    (5, 'length 10005', struct.pack('!II', 10005, PROTOCOL_3_0), '08P01'),
    (6, 'length 2^31-1', struct.pack('!II', 2**31 - 1, PROTOCOL_3_0), '08P01'),
    (7, 'length 2^31', struct.pack('!II', 2**31, PROTOCOL_3_0), '08P01'),
    (7, 'length -1', struct.pack('!II', 2**32 - 1, PROTOCOL_3_0), '08P01'),
    (10, 'HTTP', b'GET / HTTP/1.1\r\nHost: x\r\n\r\n', None),
    (11, 'TLS ClientHello', b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + b'\0' * 100, None),
    (12, 'protocol 2.0', startup(GOOD, 2 << 16), '0A000'),
    (13, 'protocol 4.0', startup(GOOD, 4 << 16), '0A000'),
    (16, 'no final NUL', struct.pack('!II', 8 + 9, PROTOCOL_3_0) + b'user\0app\0', '08P01'),
    (17, 'NUL and junk', struct.pack('!II', 8 + 14, PROTOCOL_3_0) + b'user\0app\0\0junk', '08P01'),
    (18, 'key without value', struct.pack('!II', 8 + 6, PROTOCOL_3_0) + b'user\0\0', None),
    (19, 'no user', startup({'database': 'solo'}), '28000'),
    (19, 'empty user', startup({'user': '', 'database': 'solo'}), '28000'),
    (20, 'user twice', startup([('user', 'app'), ('user', 'postgres'), ('database', 'solo')]), '08P01'),
    (21, 'database twice', startup([('user', 'app'), ('database', 'a'), ('database', 'solo')]), '08P01'),
    (22, 'user of 70 bytes', startup({'user': 'u' * 70, 'database': 'solo'}), '28000'),
    (23, 'unknown database', startup({'user': 'app', 'database': 'nowhere'}), '3D000'),
    (25, 'database of odd bytes', startup([('user', 'app'), ('database', b'\xff\n\x1b[31m')]), '3D000'),
    (26, 'replication', startup(dict(GOOD, replication='true')), '0A000'),
    (26, 'replication=database', startup(dict(GOOD, replication='database')), '0A000'),
    (27, 'replication=banana', startup(dict(GOOD, replication='banana')), '22023'),
    (28, 'unknown setting', startup(dict(GOOD, no_such_setting='1')), '42704'),
    (29, 'unknown encoding', startup(dict(GOOD, client_encoding='KLINGON')), '22023'),
    (33, 'SSLRequest twice', untyped(SSL_CODE) * 2, None),
    (34, 'GSSENCRequest twice', untyped(GSS_CODE) * 2, None),
    (35, 'SSLRequest with startup behind', untyped(SSL_CODE) + startup(GOOD), None),
    (36, 'GSSENCRequest with startup behind', untyped(GSS_CODE) + startup(GOOD), None),
    (38, 'CancelRequest of 12 bytes', untyped(80877102, b'', 12) + b'\0\0\0\0', None),
    (38, 'CancelRequest of 20 bytes', untyped(80877102, b'\0' * 12), None),
    (39, 'CancelRequest of an unknown key', untyped(80877102, b'\0\0\0\1\0\0\0\2'), None),
]


@pytest.mark.shoal_only
@pytest.mark.parametrize('number, name, data, sqlstate', BAD_STARTUP,
                         ids=[f'{n}-{name}'.replace(' ', '-') for n, name, _, _ in BAD_STARTUP])
def test_bad_startup(shoal, number, name, data, sqlstate):
    # Bytes that are no PostgreSQL client get in, hold a slot for ever, or take the process down.
    seen = talk(shoal, data)
    assert seen[-1] == CLOSED, f'still open: {seen}'
    if sqlstate is not None:
        assert code(seen) == ('FATAL', sqlstate)
    assert 'Z' not in types_of(seen)
    well(shoal)


@pytest.mark.shoal_only
@pytest.mark.parametrize('data', [b'', b'\0\0', struct.pack('!I', 50), startup(GOOD)[:-3]],
                         ids=['nothing', 'two bytes', 'only a length', 'half a startup'])
def test_silence_is_cut(shoal, data):
    # 8, 9: silent connections use up the client limit.
    started = time.monotonic()
    seen = talk(shoal, data, LOGIN_TIMEOUT_S + 5)
    assert seen[-1] == CLOSED
    assert time.monotonic() - started < LOGIN_TIMEOUT_S + 2
    log = shoal.log.read_text(errors='replace')
    assert len(log) < 200000, 'the log grows with every silent client'


@pytest.mark.shoal_only
def test_many_ssl_requests(shoal):
    # 34: a loop of negotiation requests costs the router work without end (CVE-2026-6479).
    seen = talk(shoal, (untyped(SSL_CODE) + untyped(GSS_CODE)) * 1000)
    assert seen[-1] == CLOSED
    well(shoal)


@pytest.mark.parametrize('minor', [2, 99, 9999])
@pytest.mark.shoal_only
def test_newer_minor_version(shoal, minor):
    # 14: clients of newer PostgreSQL versions cannot connect at all.
    with shoal.connect('solo', login=False) as conn:
        seen = conn.login(GOOD, protocol=PROTOCOL_3_0 + minor)
        offers = [m for m in seen if m.type == 'v']
        assert len(offers) == 1, types_of(seen)
        newest, unknown = struct.unpack_from('!II', offers[0].body)
        assert newest in (PROTOCOL_3_0, 0) and unknown == 0
        assert conn.alive()


@pytest.mark.shoal_only
def test_protocol_options(shoal):
    # 15: a client that asks for an extension it could live without is thrown out.
    with shoal.connect('solo', login=False) as conn:
        seen = conn.login(dict(GOOD, **{'_pq_.foo': '1', '_pq_.bar': 'x'}))
        offers = [m for m in seen if m.type == 'v']
        assert len(offers) == 1
        assert struct.unpack_from('!I', offers[0].body, 4)[0] == 2
        assert b'_pq_.foo\0' in offers[0].body and b'_pq_.bar\0' in offers[0].body
        assert conn.alive()


def test_parameters_are_those_of_the_server(shoal, direct):
    # Drivers decide by server_version, DateStyle and friends how to read values.
    with shoal.connect('solo') as ours, direct.connect('solo') as theirs:
        assert ours.parameters == theirs.parameters


def test_order_of_the_login(shoal):
    # Drivers wait for AuthenticationOk ... BackendKeyData ... ReadyForQuery, in this order.
    with shoal.connect('solo', login=False) as conn:
        seen = conn.login(GOOD)
        kinds = [m.type for m in seen]
        assert kinds[0] == 'R' and kinds[-2:] == ['K', 'Z'] and set(kinds[1:-2]) == {'S'}


def test_startup_settings(shoal):
    # application_name, DateStyle, TimeZone given at startup are lost.
    parameters = {'application_name': 'my app', 'DateStyle': 'German', 'TimeZone': 'Asia/Tokyo',
                  'client_encoding': 'UTF8', 'extra_float_digits': '2', 'search_path': 'pg_catalog'}
    with shoal.connect('solo', parameters=parameters) as conn:
        for name in ('DateStyle', 'TimeZone', 'extra_float_digits', 'search_path'):
            assert parameters[name] in conn.query(f'SHOW {name}')[0][0]
        assert conn.parameters['TimeZone'] == 'Asia/Tokyo'
        assert conn.parameters['application_name'] == 'my app'
    with shoal.connect('solo') as conn:
        assert 'German' not in conn.query('SHOW DateStyle')[0][0]


@pytest.mark.shoal_only
@pytest.mark.parametrize('options', ['-c no.such setting=1', "-c work_mem='64MB", '-c ' + 'x' * 9000,
                                     '-c session_preload_libraries=evil', '--single'])
def test_startup_options_are_bounded(shoal, options):
    # 31, 32: startup options reach where they must not (CVE-2025-12819).
    try:
        with shoal.connect('solo', parameters={'options': options}) as conn:
            assert conn.alive()
    except PgError as err:
        assert err['S'] == 'FATAL'
    well(shoal)


@pytest.mark.shoal_only
def test_plain_connection_after_declined_tls(shoal):
    # sslmode=prefer, libpq's default, cannot connect.
    with Conn(shoal.address, login=False) as conn:
        conn.send(untyped(GSS_CODE))
        assert conn.sock.recv(1) == b'N'
        conn.send(untyped(SSL_CODE))
        assert conn.sock.recv(1) == b'N'
        conn.login(GOOD)
        assert conn.alive()


@pytest.mark.shoal_only
def test_many_clients_come_and_go(shoal):
    # Each connection leaves something behind, until no one gets in any more.
    for _ in range(300):
        sock = socket.create_connection(shoal.address)
        sock.sendall(startup(GOOD)[:10])
        sock.close()
    well(shoal)


# -- 4b -------------------------------------------------------------------------------------------

def test_scram(guarded):
    # Nobody gets in; or everybody does.
    with guarded.connect('solo', password=PASSWORD) as conn:
        assert conn.alive()
    with guarded.connect('solo', user='listed', password=PASSWORD) as conn:
        assert conn.alive()
    with guarded.connect('solo', user='quoted "user"', password='pass "word"') as conn:
        assert conn.alive()


@pytest.mark.parametrize('user, password', [('app', 'wrong'), ('app', ''), ('listed', 'wrong'),
                                            ('nobody', PASSWORD), ('listed', ' ' + PASSWORD)])
def test_wrong_password(guarded, user, password):
    # 24, 51: an unknown user must not be told apart from a wrong password.
    with pytest.raises(PgError) as caught:
        guarded.connect('solo', user=user, password=password)
    assert caught.value.code == '28P01' and caught.value['S'] == 'FATAL'
    assert PASSWORD not in str(caught.value)


def test_wrong_password_on_a_warm_pool(guarded):
    # 55: with a server connection ready, any password gets in (CVE-2025-46801).
    with guarded.connect('solo', password=PASSWORD) as warm:
        assert warm.alive()
        for _ in range(5):
            with pytest.raises(PgError) as caught:
                guarded.connect('solo', password='wrong')
            assert caught.value.code == '28P01'


def sasl(mechanism, first, length=None):
    return message('p', cstr(mechanism)
                   + struct.pack('!I', (len(first) if length is None else length) & 0xffffffff) + first)


FIRST = b'n,,n=,r=abcdefghijklmnopqrstuvwx'
BAD_AUTH = [
    (41, 'Query instead of a password', query('SELECT 1')),
    (42, 'unknown mechanism', sasl('ROT13', FIRST)),
    (43, 'mechanism without NUL', message('p', b'SCRAM-SHA-256')),
    (45, 'length -2', sasl('SCRAM-SHA-256', FIRST, -2)),
    (45, 'length 2^31-1', sasl('SCRAM-SHA-256', FIRST, 2**31 - 1)),
    (45, 'length past the end', sasl('SCRAM-SHA-256', FIRST, len(FIRST) + 1)),
    (45, 'length too short', sasl('SCRAM-SHA-256', FIRST, len(FIRST) - 1)),
    (46, 'garbage', sasl('SCRAM-SHA-256', b'\xff\xfe garbage')),
    (46, 'nothing', sasl('SCRAM-SHA-256', b'')),
    (47, 'channel binding without TLS', sasl('SCRAM-SHA-256', b'p=tls-server-end-point,,' + FIRST[3:])),
    (48, 'PLUS without TLS', sasl('SCRAM-SHA-256-PLUS', b'p=tls-server-end-point,,' + FIRST[3:])),
    (50, '70 kB', sasl('SCRAM-SHA-256', FIRST + b'x' * 70000)),
    (53, 'a plain password', message('p', cstr(PASSWORD))),
    (53, 'an md5 password', message('p', cstr('md5' + '0' * 32))),
    (57, 'Terminate', message('X')),
    (63, 'a length of 2^31-1', message('p', b'', 2**31 - 1)),
]


@pytest.mark.parametrize('number, name, data', BAD_AUTH,
                         ids=[f'{n}-{name}'.replace(' ', '-') for n, name, _ in BAD_AUTH])
def test_bad_authentication(guarded, number, name, data):
    # Broken or hostile SASL messages crash the process or get in.
    with Conn(guarded.address, login=False, timeout_s=LOGIN_TIMEOUT_S + 3) as conn:
        conn.send(startup(GOOD))
        assert conn.receive().type == 'R'
        seen = conn.exchange(data)
        assert seen[-1] == CLOSED
        for err in errors_of(seen):
            assert err['S'] == 'FATAL' and err.code[:2] in ('08', '28')
    assert guarded.connect('solo', password=PASSWORD).alive()


def test_replayed_proof(guarded):
    # A proof overheard once opens the door for ever.
    with Conn(guarded.address, login=False) as conn:
        conn.send(startup(GOOD))
        conn.receive()
        scram = Scram(PASSWORD)
        conn.send(message('p', scram.initial()))
        proof = scram.proof(conn.receive().body[4:])
    with Conn(guarded.address, login=False) as conn:
        conn.send(startup(GOOD))
        conn.receive()
        conn.send(message('p', scram.initial()))
        conn.receive()
        seen = conn.exchange(message('p', proof))
        assert seen[-1] == CLOSED and 'Z' not in types_of(seen)


def test_tls(guarded, trusting):
    # A client that insists on TLS cannot connect, or believes it is encrypted when it is not.
    with guarded.connect('solo', password=PASSWORD, tls=trusting) as conn:
        assert conn.sock.version() in ('TLSv1.2', 'TLSv1.3')
        assert conn.query("SELECT length(repeat('x', 3))") == [['3']]
        big = conn.query("SELECT repeat('x', 3000000)")[0][0]
        assert len(big) == 3000000
        assert conn.query(f"SELECT length('{'y' * 2000000}')") == [['2000000']]


def test_tls_many_small_answers(guarded, trusting):
    # H13: records and pipelines over TLS get stuck when data waits inside the TLS layer.
    with guarded.connect('solo', password=PASSWORD, tls=trusting) as conn:
        seen = conn.exchange(b''.join(query(f'SELECT {i}') for i in range(500)), 500)
        assert [int(row[0]) for row in rows_of(seen)] == list(range(500))


def test_bytes_before_tls_are_not_used(guarded):
    # H83: a man in the middle puts statements in front of the encrypted session.
    with Conn(guarded.address, login=False) as conn:
        conn.send(untyped(SSL_CODE) + startup(GOOD))
        got = b''
        while True:
            more = conn.receive_bytes(LOGIN_TIMEOUT_S + 3)
            assert more is not None, 'still open'
            if not more:
                break
            got += more
        assert b'SCRAM' not in got, 'the stuffed startup was read'


def test_broken_tls_handshake(guarded):
    # Garbage in the handshake takes the process down or holds a slot for ever.
    for junk in (b'\0' * 200, b'\x16\x03\x01\xff\xff' + b'x' * 500, b''):
        with Conn(guarded.address, login=False) as conn:
            conn.send(untyped(SSL_CODE))
            assert conn.sock.recv(1) == b'S'
            if junk:
                conn.send(junk)
            deadline = time.monotonic() + LOGIN_TIMEOUT_S + 3
            while conn.receive_bytes(max(deadline - time.monotonic(), 0)):
                pass
            assert time.monotonic() < deadline, 'still open'
    assert guarded.connect('solo', password=PASSWORD).alive()


def test_tls_required(workspace, clusters, certificate, trusting):
    # 37: a password travels in the clear though the operator demanded TLS.
    cert, key = certificate
    strict = Shoal(workspace, {'s0': clusters[0]}, databases={'solo': {'shards': 's0'}},
                   users={'app': {}}, name='strict',
                   settings={'tls_cert': cert, 'tls_key': key, 'tls_required': 'on'})
    strict.start(wait=False)
    try:
        wait_until('the strict shoald', lambda: strict.connect('solo', tls=trusting).alive(), 30)
        with pytest.raises(PgError) as caught:
            strict.connect('solo')
        assert caught.value.code == '28000'
    finally:
        strict.finish()


def test_an_unknown_user_looks_like_a_known_one(guarded):
    # H93: user names can be probed by how the exchange looks.
    shapes = []
    for user in ('app', 'nobody'):
        with Conn(guarded.address, login=False) as conn:
            conn.send(startup(dict(GOOD, user=user)))
            first = conn.receive()
            scram = Scram('wrong')
            conn.send(message('p', scram.initial()))
            challenge = conn.receive()
            assert challenge.type == 'R', error_fields(challenge.body)
            fields = dict(p.split(b'=', 1) for p in challenge.body[4:].split(b','))
            conn.send(message('p', scram.proof(challenge.body[4:])))
            last = conn.receive()
            shapes.append((first.type, first.body, len(fields[b's']), fields[b'i'],
                           error_fields(last.body).get('C')))
    assert shapes[0] == shapes[1]


def test_salt_of_an_unknown_user_stays(guarded):
    # H93: a salt that changes from try to try gives an unknown user away.
    salts = set()
    for _ in range(3):
        with Conn(guarded.address, login=False) as conn:
            conn.send(startup(dict(GOOD, user='nobody')))
            conn.receive()
            conn.send(message('p', Scram('x').initial()))
            salts.add(dict(p.split(b'=', 1) for p in conn.receive().body[4:].split(b','))[b's'])
    assert len(salts) == 1
