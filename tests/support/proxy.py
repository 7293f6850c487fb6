"""proxy.py - a TCP proxy that breaks what passes through it, when told or when it sees something.

    shoald ──> Proxy.port ──> PostgreSQL          stands where a Cluster stands in shards.ini: it has a port

    blackhole()  nothing passes any more, connections stay open; new ones are taken and hear nothing
    halfopen()   what the server says is lost, what the client says passes
    block(word)  a blackhole for connections of clients that began with these bytes (a user's name), old and new
    heal()       all of that is over for new connections; those that lost bytes are cut
    kill(), rst()            every connection ends: by FIN, by RST
    delay(s), slice(n), limit(bytes_per_s)   for what passes from now on
    drop_after(n)            RST after so many more bytes from the server
    on(pattern, action)      action(proxy) once, when the client's bytes match, before they pass;
                             after=True: when they have passed, while the answer is held back
    turns                    how often a client spoke after its server had: round trips
    swap(these, those)       bytes of the client's, once: as if it had said something else of the same length
"""
import re
import socket
import struct
import threading
import time

TAIL = 400  # bytes kept, so that a pattern may lie over two reads


class Proxy:
    def __init__(self, target_port, target_host='127.0.0.1'):
        self.target = (target_host, target_port)
        self.listener = socket.create_server(('127.0.0.1', 0), backlog=200)
        self.port = self.listener.getsockname()[1]
        self.lock = threading.RLock()
        self.pairs = []
        self.watches = []
        self.swaps = []
        self.turns = 0
        self.mode, self.blocked = 'open', None
        self.pause_s = self.piece = self.rate = 0
        self.bytes_left = None
        self.closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    # -- verbs -------------------------------------------------------------------------------

    def blackhole(self):
        self.mode = 'blackhole'

    def halfopen(self):
        self.mode = 'halfopen'

    def block(self, word):
        self.blocked = word

    def heal(self):
        broken = self.mode != 'open' or self.blocked is not None
        self.mode, self.blocked, self.bytes_left = 'open', None, None
        self.swaps = []
        self.pause_s = self.piece = self.rate = 0
        if broken:
            self.rst()

    def kill(self):
        self._cut(False)

    def rst(self):
        self._cut(True)

    def delay(self, seconds):
        self.pause_s = seconds

    def slice(self, size):
        self.piece = size

    def limit(self, bytes_per_s):
        self.rate = bytes_per_s

    def drop_after(self, count):
        self.bytes_left = count

    def on(self, pattern, action, after=False):
        with self.lock:
            self.watches.append([re.compile(pattern), action, after])

    def swap(self, these, those):
        assert len(these) == len(those)
        with self.lock:
            self.swaps.append((these, those))

    def close(self):
        self.closed = True
        self.listener.close()
        self.rst()

    # -- the way of the bytes ------------------------------------------------------------------

    def _cut(self, hard):
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            pair.end(hard)

    def _accept(self):
        while not self.closed:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            server = socket.create_connection(self.target, timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = Pair(self, client, server)
        with self.lock:
            self.pairs.append(pair)
        pair.start()

    def _swapped(self, data):
        with self.lock:
            for swap in [s for s in self.swaps if s[0] in data]:
                self.swaps.remove(swap)
                data = data.replace(*swap, 1)
        return data

    def _matched(self, text, fresh_from):
        """A watch whose pattern ends among the fresh bytes."""
        with self.lock:
            for watch in self.watches:
                if any(found.end() > fresh_from for found in watch[0].finditer(text)):
                    self.watches.remove(watch)
                    return watch
        return None


class Pair:
    """One connection: two threads."""

    def __init__(self, proxy, client, server):
        self.proxy, self.client, self.server = proxy, client, server
        self.speaking = False
        self.held = threading.Event()
        self.held.set()
        self.tail = self.head = b''

    def start(self):
        for args in ((self.client, self.server, True), (self.server, self.client, False)):
            threading.Thread(target=self._pump, args=args, daemon=True).start()

    def end(self, hard):
        for sock in (self.client, self.server):
            try:
                if hard:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                else:
                    sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            if hard:
                try:  # wakes the thread that reads; close alone does not
                    sock.shutdown(socket.SHUT_RD)
                except OSError:
                    pass
            sock.close()

    def _pump(self, source, sink, from_client):
        try:
            while True:
                data = source.recv(1 << 16)
                if not data:
                    break
                self._pass_on(data, sink, from_client)
        except OSError:
            pass
        self.end(False)

    def _pass_on(self, data, sink, from_client):
        proxy = self.proxy
        watch = None
        if from_client:
            if len(self.head) < TAIL:
                self.head += data
            proxy.turns += not self.speaking
            data = proxy._swapped(data)
            watch = proxy._matched((self.tail + data).decode('latin-1'), len(self.tail))
            self.tail = b'' if watch else (self.tail + data)[-TAIL:]
        else:
            self.held.wait()
        self.speaking = from_client
        if watch and not watch[2]:
            watch[1](proxy)
        if watch and watch[2]:
            self.held.clear()
        while proxy.mode == 'blackhole' or (proxy.blocked and proxy.blocked in self.head) or (proxy.mode == 'halfopen' and not from_client):
            time.sleep(0.02)
            if self not in proxy.pairs:
                raise OSError('cut')
        if proxy.pause_s:
            time.sleep(proxy.pause_s)
        self._send(data, sink, from_client)
        if watch and watch[2]:
            watch[1](proxy)
            self.held.set()

    def _send(self, data, sink, from_client):
        proxy = self.proxy
        if not from_client and proxy.bytes_left is not None:
            data = data[:proxy.bytes_left]
            proxy.bytes_left -= len(data)
        step = proxy.piece or len(data) or 1
        for at in range(0, len(data), step):
            sink.sendall(data[at:at + step])
            if proxy.rate:
                time.sleep(step / proxy.rate)
        if not from_client and proxy.bytes_left == 0:
            proxy.bytes_left = None
            self.end(True)
