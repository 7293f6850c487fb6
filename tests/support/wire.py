"""wire.py - PostgreSQL's protocol v3 as bytes: build any message, right or wrong, and see every answer.

    conn = Conn(('127.0.0.1', 6432), database='app', user='app')
    conn.query('SELECT 1')                      -> [['1']]
    conn.exchange(query('SELECT 1'))            -> [Msg('T', ...), Msg('D', ...), Msg('C', ...), Msg('Z', b'I')]
    conn.exchange(parse('', 'SELECT $1') + bind('', '', [b'x']) + execute() + sync())

Nothing is hidden: a Msg is its type and its exact body. A closed connection shows as CLOSED at the end.
"""
import base64
import hashlib
import hmac
import os
import select
import socket
import ssl
import struct
import time
import weakref
from collections import namedtuple

Msg = namedtuple('Msg', 'type body')
CLOSED = Msg('closed', b'')
TIMEOUT = Msg('timeout', b'')

PROTOCOL_3_0 = 196608
SSL_CODE, GSS_CODE, CANCEL_CODE = 80877103, 80877104, 80877102
# Asynchronous messages: they may stand anywhere and belong to no statement.
ASYNC = 'NSA'


class PgError(Exception):
    """An ErrorResponse; fields by letter: err['C'] is the SQLSTATE."""

    def __init__(self, fields):
        self.fields = fields
        text = f'{fields.get("C")}: {fields.get("M")}'
        for letter, name in (('D', 'DETAIL'), ('H', 'HINT')):
            if letter in fields:
                text += f'\n{name}: {fields[letter]}'
        super().__init__(text)

    def __getitem__(self, letter):
        return self.fields.get(letter)

    @property
    def code(self):
        return self.fields.get('C')


class Closed(OSError):
    """The server closed the connection where an answer was awaited."""


# -- messages of the client ----------------------------------------------------------------------

def cstr(value):
    return (value if isinstance(value, bytes) else value.encode()) + b'\0'


def message(kind, body=b'', length=None):
    """Any message; `length` lies when it is given."""
    kind = kind if isinstance(kind, bytes) else kind.encode('latin-1')
    return kind + struct.pack('!I', (len(body) + 4 if length is None else length) & 0xffffffff) + body


def startup(parameters, protocol=PROTOCOL_3_0):
    body = struct.pack('!I', protocol)
    pairs = parameters.items() if isinstance(parameters, dict) else parameters
    for key, value in pairs:
        body += cstr(key) + cstr(value)
    body += b'\0'
    return struct.pack('!I', len(body) + 4) + body


def untyped(code, extra=b'', length=None):
    """SSLRequest, GSSENCRequest, CancelRequest and their broken relatives."""
    size = len(extra) + 8 if length is None else length
    return struct.pack('!II', size & 0xffffffff, code) + extra


def query(sql):
    return message('Q', cstr(sql))


def parse(name, sql, types=(), count=None):
    return message('P', cstr(name) + cstr(sql) + struct.pack('!h', len(types) if count is None else count)
                   + b''.join(struct.pack('!I', t) for t in types))


def bind(portal='', name='', values=(), formats=(), results=()):
    """`values`: bytes, str or None. `formats`, `results`: lists of 0 (text) and 1 (binary)."""
    body = cstr(portal) + cstr(name) + struct.pack(f'!H{len(formats)}h', len(formats), *formats)
    body += struct.pack('!H', len(values))
    for value in values:
        if value is None:
            body += struct.pack('!i', -1)
        else:
            raw = value if isinstance(value, bytes) else str(value).encode()
            body += struct.pack('!i', len(raw)) + raw
    return message('B', body + struct.pack(f'!H{len(results)}h', len(results), *results))


def describe(kind, name=''):
    return message('D', kind.encode() + cstr(name))


def execute(portal='', max_rows=0):
    return message('E', cstr(portal) + struct.pack('!i', max_rows))


def close(kind, name=''):
    return message('C', kind.encode() + cstr(name))


def sync():
    return message('S')


def flush():
    return message('H')


def terminate():
    return message('X')


def extended(sql, values=(), types=(), formats=(), results=(), name=''):
    """One statement by the extended protocol, with Describe, as most drivers send it."""
    return (parse(name, sql, types) + bind('', name, values, formats, results) + describe('P')
            + execute() + sync())


# -- answers of the server -----------------------------------------------------------------------

def error_fields(body):
    fields, at = {}, 0
    while at < len(body) and body[at] != 0:
        end = body.index(b'\0', at + 1)
        fields[chr(body[at])] = body[at + 1:end].decode('utf-8', 'replace')
        at = end + 1
    return fields


def row_fields(body):
    """The values of a DataRow: bytes, None for NULL."""
    count, at, values = struct.unpack_from('!H', body)[0], 2, []
    for _ in range(count):
        size = struct.unpack_from('!i', body, at)[0]
        at += 4
        values.append(None if size < 0 else body[at:at + size])
        at += max(size, 0)
    return values


def column_names(body):
    count, at, names = struct.unpack_from('!H', body)[0], 2, []
    for _ in range(count):
        end = body.index(b'\0', at)
        names.append(body[at:end].decode())
        at = end + 19
    return names


def rows_of(messages):
    return [row_fields(m.body) for m in messages if m.type == 'D']


def errors_of(messages):
    return [PgError(error_fields(m.body)) for m in messages if m.type == 'E']


def tags_of(messages):
    return [m.body[:-1].decode() for m in messages if m.type == 'C']


def types_of(messages):
    """The conversation in one word: 'TDCZ'. Asynchronous messages are left out."""
    short = {'closed': 'x', 'timeout': '?'}
    return ''.join(short.get(m.type, m.type) for m in messages if m.type not in ASYNC)


class Conn:
    """One client connection. `login=False` leaves the startup to the test."""

    opened = weakref.WeakSet()  # all there are: a failed test's are closed by conftest.py

    def __init__(self, address, database='postgres', user='postgres', password=None, login=True,
                 parameters=None, tls=None, timeout_s=20, protocol=PROTOCOL_3_0):
        self.address, self.timeout_s, self.closed = address, timeout_s, False
        self.sock = socket.create_connection(address, timeout=timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = b''
        self.parameters, self.backend_key, self.status = {}, None, None
        self.notices = []
        Conn.opened.add(self)
        if tls is not None:
            self.start_tls(tls)
        if login:
            self.login(dict({'user': user, 'database': database}, **(parameters or {})), password,
                       protocol)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Politely: Terminate, then the socket."""
        if not self.closed:
            try:
                self.sock.sendall(terminate())
            except OSError:
                pass
            self.abort()

    def abort(self):
        """As a client that died: the socket goes without a word."""
        self.closed = True
        self.sock.close()

    # -- raw -------------------------------------------------------------------------------------

    def send(self, data):
        self.sock.sendall(data)

    def receive(self, timeout_s=None):
        """The next message; CLOSED at the end; TIMEOUT when nothing whole came in time."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while True:
            if len(self.buf) >= 5:
                size = struct.unpack_from('!I', self.buf, 1)[0]
                if len(self.buf) >= size + 1:
                    msg = Msg(chr(self.buf[0]), self.buf[5:size + 1])
                    self.buf = self.buf[size + 1:]
                    self._note(msg)
                    return msg
            more = self.receive_bytes(max(deadline - time.monotonic(), 0))
            if more is None:
                return TIMEOUT
            if more == b'':
                return CLOSED
            self.buf += more

    def receive_bytes(self, timeout_s=None):
        """What has come: b'' at the end, None in vain."""
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        pending = getattr(self.sock, 'pending', lambda: 0)()
        if not pending:
            poll = select.poll()
            poll.register(self.sock, select.POLLIN)
            if not poll.poll(timeout_s * 1000):
                return None
        try:
            return self.sock.recv(1 << 18)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            return b''

    def until(self, last='Z', count=1, timeout_s=None):
        """Messages up to the count-th of type `last`, or CLOSED, or TIMEOUT."""
        seen = []
        while count > 0:
            msg = self.receive(timeout_s)
            seen.append(msg)
            if msg in (CLOSED, TIMEOUT):
                break
            count -= msg.type == last
        return seen

    def exchange(self, data, ready=1, timeout_s=None):
        """Sends, and collects the answers up to that many ReadyForQuery."""
        try:
            self.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return self.until('Z', ready, timeout_s)

    def _note(self, msg):
        if msg.type == 'S':
            key, value = msg.body[:-1].split(b'\0')
            self.parameters[key.decode()] = value.decode()
        elif msg.type == 'K':
            self.backend_key = msg.body
        elif msg.type == 'Z':
            self.status = msg.body.decode()
        elif msg.type == 'N':
            self.notices.append(error_fields(msg.body))

    # -- startup ---------------------------------------------------------------------------------

    def start_tls(self, context):
        self.send(untyped(SSL_CODE))
        answer = self.sock.recv(1)
        if answer != b'S':
            raise ConnectionError(f'TLS declined: {answer!r}')
        self.sock = context.wrap_socket(self.sock, server_hostname='localhost')

    def login(self, parameters, password=None, protocol=PROTOCOL_3_0):
        """Startup and authentication up to ReadyForQuery; an error raises PgError."""
        self.send(startup(parameters, protocol))
        return self.finish_login(parameters.get('user', ''), password)

    def finish_login(self, user, password=None):
        seen = []
        while True:
            msg = self.receive()
            seen.append(msg)
            if msg.type == 'R':
                self._authenticate(msg.body, user, password)
            elif msg.type == 'E':
                raise PgError(error_fields(msg.body))
            elif msg in (CLOSED, TIMEOUT):
                raise Closed(f'{msg.type} during login')
            elif msg.type == 'Z':
                return seen

    def _authenticate(self, body, user, password):
        kind = struct.unpack_from('!I', body)[0]
        if kind == 0:
            return
        if kind == 3:
            self.send(message('p', cstr(password)))
        elif kind == 5:
            inner = hashlib.md5(password.encode() + user.encode()).hexdigest().encode()
            self.send(message('p', cstr(b'md5' + hashlib.md5(inner + body[4:8]).hexdigest().encode())))
        elif kind == 10:
            self.scram = Scram(password or '')
            self.send(message('p', self.scram.initial()))
        elif kind == 11:
            self.send(message('p', self.scram.proof(body[4:])))
        elif kind == 12:
            assert self.scram.verify(body[4:]), 'the server does not know the password'
        else:
            raise AssertionError(f'authentication request {kind}')

    # -- comfort ---------------------------------------------------------------------------------

    def query(self, sql):
        """Rows as lists of text (None: NULL) by the simple protocol; an error raises PgError."""
        return self.rows(query(sql))

    def execute(self, sql, values=(), **kwargs):
        """The same by the extended protocol."""
        return self.rows(extended(sql, values, **kwargs))

    def rows(self, data):
        seen = self.exchange(data)
        errors = errors_of(seen)
        if errors:
            raise errors[0]
        if seen[-1] in (CLOSED, TIMEOUT):
            raise Closed(f'{seen[-1].type} while waiting for an answer')
        return [[None if v is None else v.decode('utf-8', 'surrogateescape') for v in row]
                for row in rows_of(seen)]

    def alive(self):
        """True when the connection still answers, in step: the nonce must come back."""
        nonce = os.urandom(4).hex()
        try:
            return self.query(f"SELECT '{nonce}'") == [[nonce]]
        except (OSError, PgError):
            return False

    def cancel(self):
        """A CancelRequest for this connection, on its own socket as the protocol wants it."""
        send_cancel(self.address, self.backend_key)


def send_cancel(address, key):
    """Sends a CancelRequest and waits until the server has closed: the only answer there is."""
    with socket.create_connection(address, timeout=10) as sock:
        sock.sendall(untyped(CANCEL_CODE, key))
        try:
            return sock.recv(100)
        except ConnectionResetError:
            return b''


class Scram:
    """SCRAM-SHA-256, the client's side (RFC 5802), without channel binding."""

    def __init__(self, password, gs2=b'n,,'):
        self.password, self.gs2 = password.encode(), gs2
        self.nonce = base64.b64encode(os.urandom(18))
        self.bare = b'n=,r=' + self.nonce

    def initial(self, mechanism=b'SCRAM-SHA-256'):
        first = self.gs2 + self.bare
        return cstr(mechanism) + struct.pack('!i', len(first)) + first

    def proof(self, server_first):
        fields = dict(part.split(b'=', 1) for part in server_first.split(b','))
        assert fields[b'r'].startswith(self.nonce), 'the server changed the nonce'
        salted = hashlib.pbkdf2_hmac('sha256', self.password, base64.b64decode(fields[b's']),
                                     int(fields[b'i']))
        final = b'c=' + base64.b64encode(self.gs2) + b',r=' + fields[b'r']
        signed = self.bare + b',' + server_first + b',' + final
        client_key = hmac.digest(salted, b'Client Key', 'sha256')
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, 'sha256')
        self.server_signature = hmac.digest(hmac.digest(salted, b'Server Key', 'sha256'), signed, 'sha256')
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        return final + b',p=' + base64.b64encode(proof)

    def verify(self, server_final):
        return server_final == b'v=' + base64.b64encode(self.server_signature)
