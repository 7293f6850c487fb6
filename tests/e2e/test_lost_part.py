"""A standby is promoted that had not got a prepared part: half a transaction is lost, and Shoal says which (S5 of the fault matrix).

Asynchronous replication here, as it must not be where nothing may be lost: docs/transactions.md names the setting.
"""
import pytest

from tests.support.bank import Bank
from tests.support.cluster import Cluster, wait_until
from tests.support.shoal import Shoal
from tests.support.wire import Closed, PgError

pytestmark = pytest.mark.shoal_only


@pytest.fixture
def cluster_of_three(workspace, request):
    """s0; s1 and its standby; new for each test."""
    mark = request.node.name[-12:]
    made = [Cluster(workspace, name).create().start() for name in (f's0-{mark}', f's1-{mark}')]
    for cluster in made:
        cluster.sql('CREATE ROLE app LOGIN SUPERUSER', 'CREATE ROLE admin LOGIN', 'CREATE DATABASE app OWNER app')
    made.append(made[1].create_replica(f'standby-{mark}').start())
    made[1].wait_caught_up(made[2])
    yield made
    for server in made:
        server.thaw()
        server.stop()


def router(workspace, servers, **settings):
    s0, s1, standby = servers
    shoal = Shoal(workspace, {'s0': s0, 's1': (s1, standby)}, databases={'app': {'shards': 's0, s1'}},
                  users={'admin': {'admin': 'on'}, 'app': {}}, name='lost-part',
                  settings=dict({'recovery_interval': '300ms', 'tcp_user_timeout': '1s'}, **settings),
                  replicas={'lag_check': '50ms', 'failover_wait': '30s'})
    return shoal


def counter(shoal, name):
    return int({row['name']: row['value'] for row in shoal.console('SHOW RECOVERY')}[name])


def events(shoal, kind):
    return [row['event'] for row in shoal.console('SHOW EVENTS') if row['kind'] == kind]


def pay(shoal, bank):
    """One transfer between the shards; s0 decides, s1 prepares."""
    with shoal.connect(timeout_s=60) as conn:
        conn.query('BEGIN')
        for shard, amount in ((0, 1), (1, -1)):
            conn.query(f'UPDATE bank SET balance = balance + {amount} WHERE id = {bank.by_shard[shard][0]}')
        conn.query('COMMIT')


def settled(servers):
    """No decision any more; evidence stays longer."""
    return all(s.query('SELECT count(*) FROM shoal.decision WHERE commit', 'app') == [['0']] for s in servers)


def test_a_whole_transaction_shows_its_parts(workspace, cluster_of_three):
    """Else: each decision is told as damage, or none ever is."""
    s0, s1, _ = cluster_of_three
    shoal = router(workspace, cluster_of_three).start()
    bank = Bank(shoal, [s0, s1])
    pay(shoal, bank)
    assert int(s1.query('SELECT count(*) FROM shoal.branch', 'app')[0][0]) >= 1
    wait_until('the decision to be forgotten', lambda: settled((s0, s1)), 30)
    assert counter(shoal, 'damage') == 0 and counter(shoal, 'forgotten') >= 1 and not events(shoal, 'lost_part')

    # Evidence goes when it is a minute old and has no decision any more; what still has one stays.
    gid = s1.query('SELECT gid FROM shoal.branch', 'app')[0][0]
    assert gid.endswith('_s0')
    other = gid[:-len('-00000000_s0')] + '-ffffffff_s0'
    s0.query(f"INSERT INTO shoal.decision (gid, commit) VALUES ('{other}', false)", 'app')
    s1.query(f"INSERT INTO shoal.branch VALUES ('{other}', now() - interval '1 hour')", 'app')
    s1.query("UPDATE shoal.branch SET written_at = now() - interval '1 hour'", 'app')
    wait_until('the evidence to go', lambda: s1.query('SELECT gid FROM shoal.branch', 'app') == [[other]], 30)
    shoal.finish()


def test_a_promoted_standby_lacks_a_part(workspace, cluster_of_three):
    """Else: a client heard COMMIT, half of it has gone with the old primary, and nobody ever hears of it."""
    s0, s1, standby = cluster_of_three
    shoal = router(workspace, cluster_of_three).start()
    bank = Bank(shoal, [s0, s1])
    s1.wait_caught_up(standby)
    standby.cut_receiver()
    shoal.terminate()
    shoal.start(failpoint='commit_decided:panic')  # the decision stands, its part is prepared
    with pytest.raises((PgError, Closed, OSError)):
        pay(shoal, bank)
    wait_until('the router to be dead', lambda: shoal.process.poll() is not None, 30)
    assert s0.query('SELECT sum(balance) % 100 FROM bank', 'app') == [['1']]
    assert s1.query('SELECT count(*) FROM pg_prepared_xacts') == [['1']]
    s1.stop('immediate')
    standby.promote()
    assert standby.query('SELECT count(*) FROM pg_prepared_xacts') == [['0']]

    shoal.start()
    wait_until('the loss to be told', lambda: events(shoal, 'lost_part'), 60)
    told = events(shoal, 'lost_part')
    assert len(told) == 1 and 'shard s1 does not have its part' in told[0], told
    wait_until('the decision to be forgotten', lambda: settled((s0, standby)), 30)
    assert counter(shoal, 'damage') == 1 and len(events(shoal, 'lost_part')) == 1
    pay(shoal, bank)
    shoal.finish()


def test_a_part_rolled_back_by_hand(workspace, cluster_of_three):
    """Else: an operator ends one half by hand while nobody looks, and the books do not balance ever after."""
    s0, s1, _ = cluster_of_three
    shoal = router(workspace, cluster_of_three).start()
    bank = Bank(shoal, [s0, s1])
    shoal.terminate()
    shoal.start(failpoint='commit_decided:panic')
    with pytest.raises((PgError, Closed, OSError)):
        pay(shoal, bank)
    wait_until('the router to be dead', lambda: shoal.process.poll() is not None, 30)
    gid = s1.query('SELECT gid FROM pg_prepared_xacts')[0][0]
    s1.query(f"ROLLBACK PREPARED '{gid}'", 'app')
    shoal.start()
    wait_until('it to be told', lambda: any(gid in text for text in events(shoal, 'lost_part')), 60)
    assert counter(shoal, 'damage') == 1
    shoal.finish()


def test_an_older_schema_is_brought_up(workspace, cluster_of_three):
    """Else: after an upgrade nothing can be committed over shards, or decisions of the old version are lost."""
    s0, s1, _ = cluster_of_three
    first = router(workspace, cluster_of_three).start()
    bank = Bank(first, [s0, s1])
    pay(first, bank)
    wait_until('the decision to be forgotten', lambda: settled((s0, s1)), 30)
    first.terminate()
    prefix = s1.query('SELECT gid FROM shoal.branch', 'app')[0][0].rsplit('_', 3)[0]  # of epoch, number, decider
    for server in (s0, s1):  # as version 1 has left it, with a transaction that it had decided
        server.sql('DROP TABLE shoal.branch', 'DROP FUNCTION shoal.branch(text)', 'DROP FUNCTION shoal.decide(text, text)',
                   'ALTER TABLE shoal.decision DROP COLUMN branches', "COMMENT ON SCHEMA shoal IS 'Shoal, version 1'",
                   database='app')
    gid = f'{prefix}_1_900-0000abcd_s0'
    s0.query(f"SELECT shoal.decide('{gid}')", 'app')
    with s1.connect('app', 'app') as conn:
        conn.query('BEGIN')
        conn.query('UPDATE bank SET balance = -7 WHERE id = (SELECT min(id) FROM bank)')
        conn.query(f"PREPARE TRANSACTION '{gid}'")
    first.start()
    wait_until('the old transaction to be ended', lambda: s1.query('SELECT count(*) FROM bank WHERE balance = -7', 'app') == [['1']], 30)
    wait_until('its decision to be forgotten', lambda: settled((s0, s1)), 30)
    for server in (s0, s1):
        assert server.query("SELECT obj_description('shoal'::regnamespace)", 'app') == [['Shoal, version 2']]
    pay(first, bank)
    assert counter(first, 'damage') == 0
    first.finish()
