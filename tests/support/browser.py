"""browser.py - a headless Chromium for the suites that look at the page: opens, waits, asks, photographs.

    with Browser() as browser:
        page = browser.page('http://127.0.0.1:6480/', width=1280, height=1400)
        page.wait('document.title == "Shoal"')
        assert page.problems == []          # console errors, exceptions, refused loads

Speaks the DevTools protocol over two pipes (--remote-debugging-pipe): no library needed. Where no
Chromium is installed, find() is None and the tests say that they were skipped.
"""
import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time


def find():
    return next((path for name in ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
                 if (path := shutil.which(name))), None)


class Browser:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix='shoal-browser-')
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()

        def pipes():
            a, b = os.dup(theirs_in), os.dup(theirs_out)  # away from 3 and 4 first
            os.dup2(a, 3)
            os.dup2(b, 4)
        self.process = subprocess.Popen(
            [find(), '--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--no-first-run',
             '--disable-dev-shm-usage', '--disable-background-networking', '--remote-debugging-pipe',
             f'--user-data-dir={self.folder}', 'about:blank'],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=pipes, close_fds=False, env=dict(os.environ, HOME=self.folder))
        os.close(theirs_in)
        os.close(theirs_out)
        self.read_fd, self.write_fd, self.rest = ours_in, ours_out, b''
        self.numbers, self.pages = itertools.count(1), {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.read_fd)
        os.close(self.write_fd)
        shutil.rmtree(self.folder, ignore_errors=True)

    def receive(self, until):
        """The next message, or None when it is time."""
        while b'\0' not in self.rest:
            if not select.select([self.read_fd], [], [], max(0, until - time.monotonic()))[0]:
                return None
            chunk = os.read(self.read_fd, 1 << 20)
            if not chunk:
                raise AssertionError(f'the browser has ended: {self.process.poll()}')
            self.rest += chunk
        line, _, self.rest = self.rest.partition(b'\0')
        message = json.loads(line)
        page = self.pages.get(message.get('sessionId'))
        if page and 'method' in message:
            page.hear(message['method'], message['params'])
        return message

    def call(self, method, params=None, session=None, timeout_s=40):
        number = next(self.numbers)
        message = {'id': number, 'method': method, 'params': params or {}}
        if session:
            message['sessionId'] = session
        os.write(self.write_fd, json.dumps(message).encode() + b'\0')
        until = time.monotonic() + timeout_s
        while answer := self.receive(until):
            if answer.get('id') == number:
                assert 'error' not in answer, (method, answer)
                return answer['result']
        raise AssertionError(f'the browser does not answer {method}')

    def page(self, url, width=1280, height=1400, dark=False):
        target = self.call('Target.createTarget', {'url': 'about:blank'})['targetId']
        session = self.call('Target.attachToTarget', {'targetId': target, 'flatten': True})['sessionId']
        page = self.pages[session] = Page(self, session)
        for method in ('Page.enable', 'Runtime.enable', 'Log.enable', 'Network.enable'):
            page.call(method)
        page.call('Emulation.setDeviceMetricsOverride',
                  {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': width < 600})
        page.call('Emulation.setEmulatedMedia',
                  {'features': [{'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}]})
        page.call('Page.navigate', {'url': url})
        return page


class Page:
    def __init__(self, browser, session):
        self.browser, self.session = browser, session
        self.problems, self.requests = [], []

    def hear(self, method, params):
        if method == 'Runtime.exceptionThrown':
            details = params['exceptionDetails']
            self.problems.append(details.get('exception', {}).get('description', details['text']))
        elif method == 'Runtime.consoleAPICalled' and params['type'] in ('error', 'warning', 'assert'):
            self.problems.append(str([a.get('value') for a in params['args']]))
        elif method == 'Log.entryAdded' and params['entry']['level'] in ('error', 'warning'):
            self.problems.append(params['entry']['text'])
        elif method == 'Network.requestWillBeSent':
            self.requests.append(params['request']['url'])

    def call(self, method, params=None):
        return self.browser.call(method, params, self.session)

    def value(self, expression):
        result = self.call('Runtime.evaluate', {'expression': expression, 'returnByValue': True})
        assert 'exceptionDetails' not in result, (expression, result)
        return result['result'].get('value')

    def wait(self, expression, timeout_s=30):
        until = time.monotonic() + timeout_s
        while not self.value(f'(() => {{ try {{ return !!({expression}); }} catch (e) {{ return false; }} }})()'):
            assert time.monotonic() < until, f'waited {timeout_s} s for {expression}; problems: {self.problems}'
            self.browser.receive(time.monotonic() + 0.1)

    def sleep(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.browser.receive(until)

    def photograph(self, path, whole=True):
        params = {'format': 'png', 'captureBeyondViewport': whole}
        if whole:
            size = self.call('Page.getLayoutMetrics')['cssContentSize']
            params['clip'] = dict(size, scale=1)
        with open(path, 'wb') as out:
            out.write(base64.b64decode(self.call('Page.captureScreenshot', params)['data']))
