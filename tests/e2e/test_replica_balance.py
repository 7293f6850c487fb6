"""Which replica answers: every policy in its direction, hedges, breakers, budgets, the bound on the primary.

    shoald ──> proxy ──> replica      a proxy makes one of three slow, as a sick machine is

Shares are counted by Shoal (SHOW REPLICAS) and, where it matters, by PostgreSQL itself. H36: two peers shipped
least-connections and the lag ban the wrong way round, so each test here would fail if a comparison were turned.
A busy machine makes healthy servers slow for a while, so a share is waited for: round after round, until it is
as it has to be. What is compared are counts, never times.
"""
import threading
import time

import pytest

from tests.support import host
from tests.support.cluster import Cluster, wait_until
from tests.support.openloop import OpenLoop
from tests.support.proxy import Proxy
from tests.support.shoal import Shoal
from tests.support.wire import Closed, PgError, query

pytestmark = pytest.mark.shoal_only

SLOW_S = 0.05
NAMES = ('s0/replica1', 's0/replica2', 's0/replica3')
BASE = {'lag_check': '50ms', 'read_consistency': 'eventual', 'hedge': 'off', 'breaker': 'off'}


@pytest.fixture(scope='module')
def servers(workspace):
    primary = Cluster(workspace, 'primary').create().start()
    primary.sql('CREATE ROLE app LOGIN SUPERUSER', 'CREATE ROLE admin LOGIN', 'CREATE DATABASE app OWNER app')
    primary.sql('CREATE TABLE words (id int PRIMARY KEY, word text)',
                "INSERT INTO words SELECT g, 'word ' || g FROM generate_series(1, 100) g", database='app', user='app')
    made = [primary] + [primary.create_replica(f'replica{i}').start() for i in (1, 2, 3)]
    for replica in made[1:]:
        primary.wait_caught_up(replica)
    yield made
    for server in made:
        server.stop()


@pytest.fixture(scope='module')
def proxies(servers):
    made = [Proxy(server.port) for server in servers[1:]]
    for i, proxy in enumerate(made):
        proxy.options = f'weight={i + 1} zone={"abc"[i]}'
    yield made
    for proxy in made:
        proxy.close()


@pytest.fixture(scope='module')
def shoal(workspace, servers, proxies):
    shoal = Shoal(workspace, {'s0': (servers[0], *proxies)}, users={'admin': {'admin': 'on'}, 'app': {}},
                  batch={'batch': 'off'}, replicas=dict(BASE))
    shoal.start()
    try:
        yield shoal
    finally:
        shoal.finish()


@pytest.fixture(autouse=True)
def healthy(shoal, proxies):
    """Each test finds three quick replicas in use, of which nothing is remembered."""
    for proxy in proxies:
        proxy.delay(0)
    shoal.reload(**BASE)
    wait_until('three replicas in use', lambda: all(not rows(shoal)[name]['why'] for name in NAMES))


def rows(shoal):
    return {row['server']: row for row in shoal.console('SHOW REPLICAS')}


def measured(shoal):
    """What the primary had is known from before whatever comes now: else a lag has no beginning."""
    wait_until('lags to be known', lambda: all(rows(shoal)[name]['lag_ms'] == '0' for name in NAMES))


def counted(shoal, column, before=None):
    return {name: int(row[column]) - (before or {}).get(name, 0) for name, row in rows(shoal).items()}


def read(conn, number):
    conn.query(f'SELECT word FROM words WHERE id = {number % 100 + 1}')


def crowd(shoal, seconds=1.2, clients=10, ask=read):
    """A closed loop of clients; {server: share of the reads}, and who was never answered wrongly."""
    before, errors, until = counted(shoal, 'reads'), [], time.monotonic() + seconds

    def work(number):
        try:
            with shoal.connect() as conn:
                while time.monotonic() < until:
                    ask(conn, number)
                    number += 7
        except (PgError, Closed, OSError) as err:
            errors.append(repr(err))
    threads = [threading.Thread(target=work, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[:3]
    reads = counted(shoal, 'reads', before)
    total = sum(reads.values())
    assert total >= clients, reads
    return {name: count / total for name, count in reads.items()}


def crowd_until(shoal, what, is_so, **crowds):
    """Crowds, until their shares are so."""
    seen = []

    def round_():
        seen.append(crowd(shoal, **crowds))
        return is_so(seen[-1])
    try:
        wait_until(what, round_)
    except AssertionError as err:
        raise AssertionError(f'{err}; seen {seen[-3:]}') from None
    return seen[-1]


def near(share, wanted):
    return all(abs(share[name] - part) < 0.05 for name, part in zip(NAMES, wanted)) and share['s0/primary'] == 0


# -- policies: who gets how much -------------------------------------------------------------------------

def test_round_robin_gives_each_the_same(shoal):
    shoal.reload(**dict(BASE, balance='round_robin'))
    crowd_until(shoal, 'a third each', lambda share: near(share, (1 / 3, 1 / 3, 1 / 3)))


def test_weights_are_shares(shoal):
    """Else: the small machine gets what the large one could bear."""
    shoal.reload(**dict(BASE, balance='weighted'))
    crowd_until(shoal, 'as the weights are', lambda share: near(share, (1 / 6, 2 / 6, 3 / 6)))


@pytest.mark.parametrize('policy, most', [('hot_cold', 0.10), ('response_time', 0.15), ('least_connections', 0.15),
                                          ('power_of_two', 0.22)])
def test_h36_the_slow_one_gets_least(shoal, proxies, policy, most):
    """H36. Else: the more a server suffers the more it is given. Weights here are 1, 2, 3: the slow one is the 3."""
    shoal.reload(**dict(BASE, balance=policy))
    proxies[2].delay(SLOW_S)
    crowd_until(shoal, 'the slow one to be left alone', lambda share: share['s0/replica3'] < most and
                min(share['s0/replica1'], share['s0/replica2']) > 2 * share['s0/replica3'], seconds=2.0)


@pytest.mark.parametrize('policy', ['hot_cold', 'response_time', 'least_connections', 'power_of_two'] if host.LONG
                         else ['hot_cold'])
def test_one_that_has_recovered_is_used_again(shoal, proxies, policy):
    """Else: a hiccup of a second costs a replica for ever."""
    shoal.reload(**dict(BASE, balance=policy))
    proxies[0].delay(SLOW_S)
    crowd(shoal, 0.8)
    proxies[0].delay(0)
    crowd_until(shoal, 'it not to be left alone', lambda share: share['s0/replica1'] > 0.08, seconds=0.5)  # its weight is 1/6


def test_nearest_takes_the_zone_then_the_way(shoal, proxies):
    """Else: reads cross the ocean beside a server in the same rack."""
    shoal.reload(**dict(BASE, balance='nearest', zone='b'))
    crowd_until(shoal, 'all in the zone', lambda share: share['s0/replica2'] == 1.0)
    proxies[1].delay(SLOW_S)
    crowd_until(shoal, 'slow, but here', lambda share: share['s0/replica2'] == 1.0)
    proxies[1].delay(0)
    shoal.reload(**dict(BASE, balance='nearest', zone='nowhere'))
    proxies[0].delay(SLOW_S)
    proxies[1].delay(SLOW_S)
    crowd_until(shoal, 'the nearest one', lambda share: share['s0/replica3'] == 1.0, seconds=0.5)


def test_hash_keeps_a_statement_where_its_pages_are_warm(shoal, servers):
    """Else: each replica has to hold all the data in its memory."""
    shoal.reload(**dict(BASE, balance='hash'))

    def places(conn):
        where = {}
        for _ in range(3):
            for key in range(1, 61):
                port = conn.query(f"SELECT current_setting('port') FROM words WHERE id = {key}")[0][0]
                where.setdefault(key, set()).add(int(port))
        return where
    with shoal.connect() as conn:
        wait_until('each key to have its place', lambda: all(len(ports) == 1 for ports in places(conn).values()))
        where = places(conn)
        spread = [sum(1 for ports in where.values() if server.port in ports) for server in servers[1:]]
        assert min(spread) >= 5, spread
        assert spread[2] >= spread[0] / 2, spread


def test_hash_moves_only_the_keys_of_who_goes(shoal, servers, proxies):
    """Else: one lost replica makes the caches of all the others cold."""
    shoal.reload(**dict(BASE, balance='hash'))

    def places(conn):
        return {key: int(conn.query(f"SELECT current_setting('port') FROM words WHERE id = {key}")[0][0])
                for key in range(1, 61)}
    with shoal.connect() as conn:
        before = places(conn)
        proxies[1].blackhole()
        try:
            wait_until('replica2 to be down', lambda: rows(shoal)['s0/replica2']['state'] == 'down')
            gone, stays = servers[2].port, {key: port for key, port in before.items() if port != servers[2].port}

            def only_its_keys():
                after = places(conn)
                return gone not in after.values() and all(after[key] == port for key, port in stays.items())
            wait_until('only the keys of replica2 to move', only_its_keys)
        finally:
            proxies[1].heal()


def at_once(shoal, sql, count):
    """The same statement by so many clients together: how many were answered by whom."""
    answers, start = [], threading.Barrier(count)

    def work():
        with shoal.connect(timeout_s=60) as conn:
            conn.query('SELECT 1')
            start.wait(60)
            answers.append(int(conn.query(sql)[0][0]))
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == count
    return {port: answers.count(port) for port in set(answers)}


def test_hash_spills_over_where_a_key_is_hot(shoal, servers):
    """Else: the one page that everybody reads takes its replica down, and two others look on."""
    shoal.reload(**dict(BASE, balance='hash'))
    hot = "SELECT current_setting('port'), pg_sleep(0.5) FROM words WHERE id = 5"
    weights = {server.port: i + 1 for i, server in enumerate(servers[1:])}
    seen = []

    def spills():
        seen.append(at_once(shoal, hot, 12))
        # A quarter more than its share, and the one that takes the room.
        within = all(count <= 12 * 1.25 * weights[port] / 6 + 2 for port, count in seen[-1].items())
        return len(seen[-1]) >= 2 and within
    wait_until('a hot key on more than one replica', spills)
    print(seen[-1])
    with shoal.connect() as conn:  # one at a time it has its place
        wait_until('it to be at home', lambda: len({conn.query(hot.replace('0.5', '0'))[0][0] for _ in range(8)}) == 1)


# -- copies -------------------------------------------------------------------------------------------------

def test_copies_ask_several_and_take_the_first(shoal, proxies, servers):
    """Else: a statement that must be quick waits for the one server that is not; or a loser's answer is the next one's."""
    shoal.reload(**dict(BASE, balance='round_robin'))
    crowd(shoal, 0.3)  # connections are there
    pids = "SELECT pid FROM pg_stat_activity WHERE usename = 'app' ORDER BY 1"

    def asked(conn, copies):
        before = counted(shoal, 'reads')
        for number in range(1, 31):  # an answer that went astray would be the next one's
            row = conn.query(f"/* shoal: copies = {copies} */ SELECT {number}, word FROM words WHERE id = {number}")
            assert row == [[str(number), f'word {number}']]
        return counted(shoal, 'reads', before)
    with shoal.connect(timeout_s=60) as conn:
        for copies in (1, 2, 3):
            def counts():
                hedges, extra = counted(shoal, 'hedges'), counted(shoal, 'copies')
                reads = sum(asked(conn, copies).values())
                assert not sum(counted(shoal, 'hedges', hedges).values())  # hedge = off: copies are no hedges
                return (reads, sum(counted(shoal, 'copies', extra).values())) == (30 * copies, 30 * (copies - 1))
            wait_until(f'{copies} to be asked', counts)
        wait_until('each of three to be asked each time', lambda: [asked(conn, 3)[name] for name in NAMES] == [30] * 3)
        before = [server.query(pids) for server in servers[2:]]
        for proxy in proxies[1:]:
            proxy.delay(0.3)

        def first():
            ports = {conn.query(f"/* shoal: copies = 3 */ SELECT current_setting('port'), {i} FROM words WHERE id = 1")[0][0]
                     for i in range(20)}
            return ports == {str(servers[1].port)}
        wait_until('the quick one to be first', first)
        for proxy in proxies:
            proxy.delay(0)
        assert [row[0] for row in conn.query('SELECT id FROM words ORDER BY id LIMIT 3')] == ['1', '2', '3']
    for server, pids_before in zip(servers[2:], before):  # losers were left to finish
        assert set(map(tuple, pids_before)) <= set(map(tuple, server.query(pids)))
        assert 'canceling statement due to user request' not in server.log.read_text()


def test_copies_are_said_once_for_a_table_or_for_all(shoal):
    """Else: each statement of an application must be edited to be asked twice."""
    def asked(sql='SELECT word FROM words WHERE id = 3', **parameters):
        with shoal.connect(**parameters) as conn:
            return counting(conn, sql)

    def counting(conn, sql):
        before = sum(counted(shoal, 'reads').values())
        for _ in range(10):
            conn.query(sql)
        return (sum(counted(shoal, 'reads').values()) - before) / 10
    shoal.tables = {'words': {'copies': '2'}}
    try:
        shoal.reload(**BASE)
        wait_until('two for the table', lambda: asked() == 2)
        wait_until('one for what reads no table', lambda: asked('SELECT 1 + 2') == 1)
        wait_until('what the statement says', lambda: asked('/* shoal: copies = 3 */ SELECT word FROM words WHERE id = 3') == 3)
        with shoal.connect() as conn:
            conn.query('SET shoal.copies = 1')
            assert conn.query('SHOW shoal.copies') == [['1']]
            wait_until('what the session says', lambda: counting(conn, 'SELECT word FROM words WHERE id = 3') == 1)
            conn.query('RESET shoal.copies')
            wait_until('the table again', lambda: counting(conn, 'SELECT word FROM words WHERE id = 3') == 2)
            with pytest.raises(PgError) as err:
                conn.query('SET shoal.copies = 4')
            assert err.value.code == '22023'
        shoal.tables = {}
        shoal.reload(**dict(BASE, copies='3'))
        wait_until('three for all', lambda: asked('SELECT 1 + 2') == 3)
    finally:
        shoal.tables = {}


# -- a slow one of three: what users wait -------------------------------------------------------------------

def tail(shoal, **settings):
    """p50 and p99 of reads at a fixed rate, once the figures of the first second are learned."""
    shoal.reload(**dict(BASE, **settings))
    for seconds in (0.8, 20 if host.LONG else 1.5):
        load = OpenLoop(shoal.connect, read, rate=160, seconds=seconds, threads=24).run()
        assert not load.errors, load.errors[:3]
    return load.latency_ms(0.5), load.latency_ms(0.99)


def test_a_slow_replica_is_not_what_users_feel(shoal, proxies):
    """Else: one sick machine of three decides how slow every third page is. Felt is what waits for its answer: reads
    that were asked there, less those that somebody else answered sooner."""
    proxies[2].delay(SLOW_S)

    def felt(what, most, least=0.0, **settings):
        seen = []

        def round_():
            reads, wins, hedges = counted(shoal, 'reads'), counted(shoal, 'hedge_wins'), counted(shoal, 'hedges')
            p50, p99 = tail(shoal, **settings)
            reads, wins = counted(shoal, 'reads', reads), counted(shoal, 'hedge_wins', wins)
            asked = sum(reads.values()) - sum(counted(shoal, 'hedges', hedges).values())
            saved = wins['s0/replica1'] + wins['s0/replica2']
            seen.append(max(0, reads['s0/replica3'] - saved) / asked)
            print(f'{what}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {100 * seen[-1]:.1f} % of the reads waited for the slow one')
            return least <= seen[-1] <= most
        wait_until(f'{what}: {least} to {most} of the reads to wait for the slow one', round_)
    felt('round robin', 0.40, 0.25, balance='round_robin')
    felt('default', 0.05)
    felt('default, hedged', 0.05, hedge='on')
    felt('round robin, hedged at p55', 0.15, balance='round_robin', hedge='on', hedge_percentile='55', hedge_max='60')


# -- hedging ---------------------------------------------------------------------------------------------------

def test_hedges_are_late_few_and_leave_the_loser_alone(shoal, proxies, servers):
    """Else: hedging doubles the load just when servers are slow, or kills connections by cancelling."""
    settings = dict(BASE, balance='round_robin', hedge='on', hedge_percentile='60', hedge_max='10')
    shoal.reload(**settings)
    crowd(shoal, 0.8)  # the percentile and the connections are there
    pids = "SELECT pid FROM pg_stat_activity WHERE usename = 'app' ORDER BY 1"
    before, hedges = servers[3].query(pids), counted(shoal, 'hedges')
    wins, reads, copies = counted(shoal, 'hedge_wins'), counted(shoal, 'reads'), counted(shoal, 'copies')
    proxies[2].delay(SLOW_S)
    wait_until('hedges that win', lambda: crowd(shoal, 1.5, clients=6) and sum(counted(shoal, 'hedges', hedges).values()) > 5
               and sum(counted(shoal, 'hedge_wins', wins).values()) > 0)
    hedges, wins, reads = counted(shoal, 'hedges', hedges), counted(shoal, 'hedge_wins', wins), counted(shoal, 'reads', reads)
    asked = sum(reads.values()) - sum(hedges.values())
    print(f'{sum(hedges.values())} hedges of {asked} reads, {sum(wins.values())} won')
    assert sum(hedges.values()) <= asked * 0.10 + 21, (hedges, asked)  # 20 may have been saved up
    assert not sum(counted(shoal, 'copies', copies).values())
    assert wins['s0/replica3'] <= wins['s0/replica1'] + wins['s0/replica2'], wins
    proxies[2].delay(0)
    crowd(shoal, 0.5, clients=6)
    after = servers[3].query(pids)
    assert set(map(tuple, before)) <= set(map(tuple, after)), (before, after)  # nobody was cut off
    assert 'canceling statement due to user request' not in servers[3].log.read_text()


def test_clients_that_go_while_several_are_asked(shoal, proxies):
    """Else: a client that hangs up takes the worker with it, or its reads count as under way for ever."""
    shoal.reload(**dict(BASE, hedge='on', hedge_percentile='50', hedge_max='100'))
    crowd(shoal, 0.5)  # the percentile is there
    proxies[0].delay(0.02)
    proxies[1].delay(0.04)
    try:
        for turn in range(60):
            conns = [shoal.connect() for _ in range(4)]
            for number, conn in enumerate(conns):
                hint = ('', '/* shoal: copies = 3 */ ', "/* shoal: deadline = 20ms */ ", '/* shoal: copies = 2 */ ')[number]
                conn.send(query(f'{hint}SELECT id, word FROM words WHERE id >= {turn % 50}'))
            if turn % 2:
                time.sleep(0.005 * (turn % 8))  # before a hedge, between, behind the first answer
            if turn % 10 == 5:
                shoal.console('RELOAD')
            for conn in conns:
                conn.sock.close()
    finally:
        for proxy in proxies:
            proxy.delay(0)
    wait_until('nothing to be under way', lambda: all(row['inflight'] == '0' for row in rows(shoal).values()))
    with shoal.connect() as conn:
        assert [read(conn, number) for number in range(20)] == [None] * 20


def test_the_delay_of_a_hedge_is_learned(shoal, proxies, servers):
    """Else: reads that are slow by nature are all asked twice."""
    shoal.reload(**dict(BASE, balance='round_robin', hedge='on', hedge_percentile='95', hedge_max='100'))

    def sleepy(conn, number):
        conn.query(f'SELECT pg_sleep(0.1), {number}')

    def few():
        before, reads = counted(shoal, 'hedges'), counted(shoal, 'reads')
        crowd(shoal, 2.0, clients=6, ask=sleepy)  # all take 100 ms: that is what becomes usual
        hedges, asked = sum(counted(shoal, 'hedges', before).values()), sum(counted(shoal, 'reads', reads).values())
        print(f'{hedges} of {asked}')
        return hedges < asked * 0.35
    wait_until('reads that take as long as all others not to be hedged', few)


# -- breakers ----------------------------------------------------------------------------------------------------

def test_a_breaker_opens_tries_and_closes(shoal, proxies):
    """Else: every read waits for the server that crawls, or a healed one is never used again."""
    shoal.reload(**dict(BASE, balance='round_robin', breaker='on', breaker_slow='400ms', breaker_open='400ms',
                        breaker_failures='20'))
    def breaker(name):
        return rows(shoal)[name]['breaker']
    wait_until('all to be closed', lambda: crowd(shoal, 0.5) and all(breaker(name) == 'closed' for name in NAMES))
    opened = int(rows(shoal)['s0/replica2']['breaker_opened'])
    proxies[1].delay(0.4)
    # The quick reads of the last ten seconds count too.
    wait_until('it to open', lambda: crowd(shoal, 0.5) and int(rows(shoal)['s0/replica2']['breaker_opened']) > opened)
    row = rows(shoal)['s0/replica2']
    assert row['breaker'] in ('open', 'half-open') and row['why'] == 'breaker is open', row
    crowd_until(shoal, 'only a few to try', lambda share: share['s0/replica2'] < 0.05, seconds=1.5)
    proxies[1].delay(0)
    wait_until('it to close', lambda: crowd(shoal, 0.3) and breaker('s0/replica2') == 'closed')
    crowd_until(shoal, 'its share', lambda share: share['s0/replica2'] > 0.25, seconds=0.6)


def test_sql_errors_open_no_breaker(shoal):
    """Else: one application with a bug takes all replicas from the others."""
    shoal.reload(**dict(BASE, balance='round_robin', breaker='on', breaker_failures='5'))
    with shoal.connect() as conn:
        for number in range(150):
            with pytest.raises(PgError) as err:
                conn.query(f'SELECT 1 / (id - id) FROM words WHERE id = {number % 100 + 1}')
            assert err.value.code == '22012'
    assert all(row['breaker'] == 'closed' and row['breaker_opened'] == rows(shoal)[name]['breaker_opened']
               for name, row in rows(shoal).items() if name in NAMES)
    crowd_until(shoal, 'all to be in use', lambda share: min(share[name] for name in NAMES) > 0.25, seconds=0.5)


def cut_off(server, stop):
    """Ends the connections of the application there, again and again."""
    with server.connect() as conn:
        while not stop.is_set():
            conn.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            time.sleep(0.02)


def lossy(shoal, server, seconds, clients=6):
    """(errors, reads, reruns) of a load while `server` loses its connections."""
    stop, errors = threading.Event(), []
    killer = threading.Thread(target=cut_off, args=(server, stop))
    reads, reruns = counted(shoal, 'reads'), counted(shoal, 'reruns')

    def work(number, until):
        with shoal.connect() as conn:
            while time.monotonic() < until:
                try:
                    conn.query(f"SELECT count(*), pg_sleep(0.003) FROM words WHERE id > {number % 100}")
                except PgError as err:
                    errors.append(err)
                number += 1
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=work, args=(i, until)) for i in range(clients)]
    killer.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    killer.join()
    return errors, sum(counted(shoal, 'reads', reads).values()), sum(counted(shoal, 'reruns', reruns).values())


def test_lost_reads_run_again_within_their_budget(shoal, servers):
    """Else: a replica that dies is an error page; or a retry storm follows each hiccup."""
    shoal.reload(**dict(BASE, balance='round_robin', retry_max='100'))
    def rerun_enough():
        errors, reads, reruns = lossy(shoal, servers[1], 1.5)
        assert not errors, (errors, reads, reruns)
        return reruns > 3
    wait_until('reads that run again', rerun_enough)
    shoal.reload(**dict(BASE, balance='round_robin', retry_max='0'))

    def spent():  # what was saved is spent first
        errors, _, reruns = lossy(shoal, servers[1], 1.0)
        if not errors or reruns:
            return False
        for err in errors:  # a connection that was lost before the statement was sent is another matter
            assert err['D'] and ('retry_max' in err['H'] if 'The read was tried 1 time, last on s0/replica1' in err['D']
                                 else err.code == '08001'), err
        return any('retry_max (it is 0 percent' in (err['H'] or '') for err in errors)
    wait_until('none to run again', spent)


def test_a_read_that_is_not_tried_again_says_why(shoal, servers):
    """Else: all that an application hears of a spent budget is a conflict of some server's, and nobody knows what to
    change."""
    servers[0].sql("""CREATE OR REPLACE FUNCTION conflict() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN
        IF pg_is_in_recovery() THEN RAISE 'in the way' USING ERRCODE = '40001', DETAIL = 'Rows must go.'; END IF;
        RETURN 7; END $$""", database='app', user='app')
    for replica in servers[1:]:
        servers[0].wait_caught_up(replica)
    shoal.reload(**dict(BASE, balance='round_robin', retry_max='100'))
    with shoal.connect() as conn:
        def tried():
            for number in range(10):  # each earns one that may run again
                read(conn, number)
            before = counted(shoal, 'reruns')
            assert conn.query('SELECT conflict()') == [['7']]  # all replicas fail, the primary does not
            return sum(counted(shoal, 'reruns', before).values()) == 3
        wait_until('the function to be known, and a read of it to run four times', tried)
        shoal.reload(**dict(BASE, balance='round_robin', retry_max='0'))

        def failed():
            try:
                assert conn.query('SELECT conflict()') == [['7']]  # what was saved is spent first
            except PgError as err:
                return err
        # The last that was saved may not be enough for all of them.
        err = wait_until('the budget to be spent', lambda: (lambda e: e if e and 'tried 1 time,' in e['D'] else None)(failed()))
        assert (err.code, err['M']) == ('40001', 'in the way')
        assert err['D'].startswith('Rows must go. The read was tried 1 time, last on s0/replica'), err
        assert err['D'].endswith('and not again: the budget of reads that run again is spent.'), err
        assert 'retry_max (it is 0 percent of reads)' in err['H'] and 'SHOW REPLICAS' in err['H'], err
        assert conn.query('SELECT 1 FROM words WHERE id = 1') == [['1']]


def test_failures_open_the_breaker(shoal, servers):
    shoal.reload(**dict(BASE, balance='round_robin', breaker='on', breaker_failures='2', breaker_open='300ms',
                        retry_max='100'))
    opened = int(rows(shoal)['s0/replica1']['breaker_opened'])

    def open_():
        errors, _, _ = lossy(shoal, servers[1], 0.5)
        assert not errors
        return int(rows(shoal)['s0/replica1']['breaker_opened']) > opened
    wait_until('it to open', open_)
    wait_until('it to close', lambda: crowd(shoal, 0.3) and rows(shoal)['s0/replica1']['breaker'] == 'closed')


# -- the primary -----------------------------------------------------------------------------------------------------

def test_h82_the_primary_never_has_more_than_its_bound(shoal, servers, proxies):
    """H82. Else: replicas fall behind, and their load takes the primary down with them."""
    shoal.reload(**dict(BASE, read_consistency='bounded', max_lag='300ms', primary_reads_max='3'))
    measured(shoal)
    for replica in servers[1:]:
        replica.pause_replay()
    refused, answered, most = [], [], 0
    try:
        servers[0].sql("UPDATE words SET word = 'new' WHERE id = 1", database='app', user='app')
        wait_until('replicas to be too old', lambda: all(int(rows(shoal)[name]['lag_ms'] or 0) > 500 for name in NAMES))
        until = time.monotonic() + 2.0

        def enough():
            return time.monotonic() > until + 50 or (time.monotonic() > until and len(answered) > 20 and refused)

        def work(number):
            with shoal.connect() as conn:
                while not enough():
                    try:
                        conn.query(f'SELECT word, pg_sleep(0.02) FROM words WHERE id = {number}')
                        answered.append(number)
                    except PgError as err:
                        refused.append(err.code)
        threads = [threading.Thread(target=work, args=(i + 1,)) for i in range(9)]
        for thread in threads:
            thread.start()
        with servers[0].connect() as conn:
            while not enough():
                busy = conn.query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'")
                most = max(most, int(busy[0][0]))
                time.sleep(0.01)
        for thread in threads:
            thread.join()
    finally:
        for replica in servers[1:]:
            replica.resume_replay()
    print(f'{len(answered)} answered, {len(refused)} refused, at most {most} at one time on the primary')
    assert set(refused) == {'53300'} and len(answered) > 20
    assert 1 <= most <= 3


# -- deadlines ------------------------------------------------------------------------------------------------------

def test_a_deadline_is_an_honest_error(shoal, servers):
    """Else: a page that has half a second waits for a server that has not."""
    shoal.reload(**dict(BASE, balance='round_robin'))

    def sleepers():
        asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(100)%' AND state = 'active' AND usename = 'app'"
        return sum(int(server.query(asked)[0][0]) for server in servers)
    with shoal.connect(timeout_s=60) as conn:
        conn.query("SET shoal.deadline = '300ms'")
        assert conn.query('SHOW shoal.deadline') == [['300ms']]
        for _ in range(3):
            with pytest.raises(PgError) as err:
                conn.query('SELECT pg_sleep(100)')
            assert err.value.code == '57014' and 'deadline' in err.value['M']
        wait_until('nobody to work on it any more', lambda: sleepers() == 0)
        conn.query("SET shoal.deadline = '1min'")
        for number in range(12):
            assert conn.query(f'SELECT {number}, word FROM words WHERE id = 5') == [[str(number), 'word 5']]
        conn.query('RESET shoal.deadline')
        assert all(conn.query(f'SELECT {i}') == [[str(i)]] for i in range(6))
        for wrong in ('p20', 'soon', 'off stale', '10ms fresh'):
            with pytest.raises(PgError) as err:
                conn.query(f"SET shoal.deadline = '{wrong}'")
            assert err.value.code == '22023'


def test_a_deadline_may_be_met_with_old_data(shoal, servers, proxies):
    """Asked for: any replica rather than none. Else: late is the only alternative to wrong.

    Whom the second question goes to must not depend on whose turn the first one was: with turns in common the two
    slow ones were asked for each read, for ever, or never, as the number of reads before was even or odd."""
    shoal.reload(**dict(BASE, read_consistency='bounded', max_lag='5s', lag_check='200ms', balance='round_robin'))
    measured(shoal)
    servers[1].pause_replay()
    try:
        servers[0].sql("UPDATE words SET word = 'newer' WHERE id = 7", database='app', user='app')
        wait_until('replica1 to be too old', lambda: int(rows(shoal)['s0/replica1']['lag_ms'] or 0) > 5300)
        proxies[1].delay(0.3)
        proxies[2].delay(0.3)
        ask = "SELECT current_setting('port'), word FROM words WHERE id = 7"
        with shoal.connect() as conn:
            for turn in ('even', 'odd'):
                conn.query("SET shoal.deadline = '60ms stale'")
                wait_until(f'old data in time, turns {turn}', lambda: conn.query(ask)[0] == [str(servers[1].port), 'word 7'])
                conn.query('RESET shoal.deadline')
                conn.query(ask)
            conn.query("SET shoal.deadline = 'p95'")
            assert conn.query('SHOW shoal.deadline') == [['p95']]
    finally:
        servers[1].resume_replay()
        servers[0].sql("UPDATE words SET word = 'word 7' WHERE id = 7", database='app', user='app')
