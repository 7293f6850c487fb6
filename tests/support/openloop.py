"""openloop.py - reads that are due at fixed moments, whoever has or has not answered: what users wait.

    with OpenLoop(connect, rate=200, threads=16) as load: ...      load.latency_ms(0.99)

A closed loop hides its queue: whoever waits asks less (bench/README.md). Time counts from when a read was due.
"""
import itertools
import threading
import time


class OpenLoop:
    """`connect()` gives a connection; `ask(conn, number)` makes one read of it."""

    def __init__(self, connect, ask, rate, seconds, threads=16):
        self.connect, self.ask = connect, ask
        self.rate, self.seconds, self.thread_count = rate, seconds, threads
        self.latencies, self.errors = [], []

    def run(self):
        """(latencies in ms, sorted; errors)."""
        conns = [self.connect() for _ in range(self.thread_count)]
        turn, total = itertools.count(), int(self.rate * self.seconds)
        began = time.monotonic() + 0.05

        def work(conn):
            while (number := next(turn)) < total:
                due = began + number / self.rate
                time.sleep(max(0, due - time.monotonic()))
                try:
                    self.ask(conn, number)
                except Exception as err:
                    self.errors.append(f'{type(err).__name__}: {err}')
                    return
                self.latencies.append((time.monotonic() - due) * 1000)
        threads = [threading.Thread(target=work, args=(conn,)) for conn in conns]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for conn in conns:
            conn.close()
        self.latencies.sort()
        return self

    def latency_ms(self, q):
        return self.latencies[min(len(self.latencies) - 1, int(q * len(self.latencies)))]
