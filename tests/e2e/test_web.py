"""The web page: what it reads is there, and a browser shows it without a complaint."""
import json
import re
import threading
import time

import pytest

from tests.support import host
from tests.support.browser import Browser, find

pytestmark = pytest.mark.shoal_only

EVIL = "<img src=x onerror='window.evil=1'><script>window.evil=2</script>"  # fits into a quoted name
needs_browser = pytest.mark.skipif(find() is None, reason='no Chromium on this machine: nobody looks at the page')


@pytest.fixture(scope='module')
def solo_schema():
    return ['CREATE TABLE users (id int PRIMARY KEY, name text)',
            "INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 1000) i"]


@pytest.fixture(scope='module')
def shoal_settings():
    return {'http_port': host.free_port(), 'workers': 2}


@pytest.fixture(scope='module')
def load(shoal):
    """Eight clients that look things up until the module ends."""
    going = True

    def run(number):
        with shoal.connect('solo', parameters={'application_name': EVIL}) as conn:
            while going:
                conn.query(f'SELECT name FROM users WHERE id = {number * 100 + 1}')
                conn.query(f'SELECT count(*) AS "{EVIL}" FROM users WHERE id < {number}')
                time.sleep(0.01)
    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    yield
    going = False
    for thread in threads:
        thread.join()


@pytest.fixture(scope='module')
def url(shoal):
    return f'http://127.0.0.1:{shoal.settings["http_port"]}/'


def script_of(shoal):
    return shoal.http('/shoal.js')[2].decode()


def test_what_the_page_asks_for_is_there(shoal):
    # A renamed SHOW leaves an empty page at 3 a.m.
    names = {row['name'] for row in json.loads(shoal.http('/api/index.json')[2])['shows']}
    asked = {name for part in re.findall(r'Promise\.all\(\[(.*?)\]', script_of(shoal)) for name in re.findall(r"'(\w+)'", part)}
    assert len(asked) >= 12 and asked <= names


def test_columns_that_the_page_reads_are_there(shoal):
    # A renamed column shows as nothing.
    shoal.query('SELECT 1', 'solo')
    wanted = {'health': 'check state what', 'latency': 'path stage count minute_p50_us minute_p99_us',
              'history': 'statements_per_s p50_us p99_us batched_per_s batches_per_s', 'pools': 'server database user active '
              'held idle waiting waits wait_us losses', 'shards': 'server role state why latency_us',
              'statements': 'statement database calls per_s errors batched not_batched p50_us p99_us total_us',
              'batches': 'sizes', 'batch_reasons': 'reason statements help', 'events': 'at kind event',
              'map': 'shard buckets ranges bucket_count', 'version': 'version started workers'}
    for show, columns in wanted.items():
        answer = json.loads(shoal.http(f'/api/{show}.json')[2])
        assert set(columns.split()) <= {c['name'] for c in answer['columns']}, show
    stats = {row['name'] for row in shoal.api('stats')}
    assert {'statements', 'batches', 'batched_statements', 'statements_saved', 'clients', 'errors'} <= stats


def test_the_page_stands_alone(shoal):
    # The page needs the Internet, where the router has none.
    for path in ('/', '/shoal.css', '/shoal.js', '/shoal.svg'):
        text = shoal.http(path)[2].decode()
        outside = [u for u in re.findall(r'https?://[^\s"\'<>)]+', text) if 'www.w3.org/2000/svg' not in u]
        assert outside == [], path
        assert len(text) < 60000


@needs_browser
@pytest.mark.parametrize('width, dark', [(1280, False), (390, False), (1280, True)])
def test_the_page_in_a_browser(shoal, load, url, width, dark):
    # Nobody has looked at the page.
    with Browser() as browser:
        page = browser.page(url, width=width, dark=dark)
        page.wait('document.querySelector("#verdict").className !== "verdict wait"')
        page.wait('document.querySelectorAll("#slow tbody tr").length > 0')
        page.wait('document.querySelector(".tile b").textContent !== "-"')  # two rounds: there is a rate
        assert page.problems == []
        assert page.value('document.querySelector("#verdict strong").textContent') == 'Everything is well.'
        assert page.value('document.querySelectorAll(".tile").length') >= 8
        assert page.value('document.querySelectorAll("#shards tbody tr").length') == 2
        assert page.value('document.querySelectorAll("#shards rect").length') >= 2
        assert page.value('document.querySelector("#version").textContent').startswith('0.')
        # Nothing is wider than the screen: no sideways scrolling of the page itself.
        assert page.value('document.documentElement.scrollWidth') <= width
        assert all(u.startswith((url, 'data:')) for u in page.requests), set(page.requests)


@needs_browser
def test_texts_of_clients_are_no_programs(shoal, load, url):
    # An application_name runs in the operator's browser.
    with Browser() as browser:
        page = browser.page(url)
        page.wait('document.querySelector("#show-clients") !== null')
        page.value('document.querySelector("#show-clients").open = true')
        page.wait('document.querySelectorAll("#show-clients tbody tr").length > 0')
        page.wait('document.querySelectorAll("#slow tbody tr").length > 0')
        page.sleep(1)
        assert page.value('document.querySelector("#show-clients").textContent.includes("onerror")')
        assert page.value('document.querySelector("#slow").textContent.includes("onerror")')
        assert page.value('window.evil') is None
        assert page.value('document.querySelectorAll("main img, main script").length') == 0
        assert page.problems == []


@needs_browser
def test_the_page_says_when_nobody_answers(workspace, clusters):
    # Old figures look like new ones while the router is dead.
    from tests.support.shoal import Shoal
    shoal = Shoal(workspace, {'s0': clusters[0]}, databases={'solo': {}}, users={'admin': {'admin': 'on'}},
                  settings={'http_port': host.free_port()}, name='gone')
    shoal.start()
    with Browser() as browser:
        page = browser.page(f'http://127.0.0.1:{shoal.settings["http_port"]}/')
        page.wait('document.querySelector("#verdict").className === "verdict ok"')
        shoal.finish()
        page.wait('document.querySelector("#pulse").className === "lost"')
        assert 'no answer' in page.value('document.querySelector("#pulse").textContent')
        assert 'does not answer' in page.value('document.querySelector("#verdict").textContent')


@needs_browser
def test_the_page_names_what_is_wrong(workspace, clusters):
    # Green, while a server is down.
    from tests.support.shoal import Shoal

    class Nowhere:
        port = host.free_port()
    shoal = Shoal(workspace, {'s0': clusters[0], 's1': Nowhere()}, databases={'app': {}}, users={'admin': {'admin': 'on'}},
                  settings={'http_port': host.free_port()}, name='wrong')
    shoal.start()
    try:
        with Browser() as browser:
            page = browser.page(f'http://127.0.0.1:{shoal.settings["http_port"]}/')
            page.wait('document.querySelector("#verdict").className === "verdict bad"')
            assert 's1/primary is down' in page.value('document.querySelector("#verdict").textContent')
            assert page.problems == []
    finally:
        shoal.finish()
