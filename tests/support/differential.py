"""differential.py - the same bytes to PostgreSQL and to Shoal, and what may differ.

A Script is a function that drives a Conn and returns the messages it saw. compare() runs it on both
sides and holds the answers against each other, byte for byte, after the differences of this table:
"""
from .wire import ASYNC, Msg, error_fields, query

ALLOWED = {
    'backend-key': 'BackendKeyData: Shoal makes its own, so that a cancel reaches the right client',
    'parameter-status': 'ParameterStatus and NoticeResponse may stand at another place between messages',
    'router-error': 'an error that Shoal makes itself has the severity and SQLSTATE of PostgreSQL\'s, but '
                    'its own text, DETAIL, HINT and R=router, and no file and line',
    'silent-close': 'where PostgreSQL closes without a word, Shoal may send FATAL 08P01 first',
}


# Field R of every error that Shoal makes itself.
ROUTER = 'router'


def canonical(messages):
    """What must be equal: every message but the asynchronous ones; errors of the router by their code."""
    out = []
    for msg in messages:
        if msg.type in ASYNC or msg.type == 'K':
            continue
        if msg.type == 'E':
            fields = error_fields(msg.body)
            if fields.get('R') == ROUTER:
                msg = Msg('E', ('router', fields.get('S'), fields.get('C')))
        out.append(msg)
    return out


def same(a, b):
    if a.type == 'E' and b.type == 'E' and (isinstance(a.body, tuple) or isinstance(b.body, tuple)):
        return _code(a) == _code(b)
    return a == b


def _code(msg):
    if isinstance(msg.body, tuple):
        return msg.body[1:]
    fields = error_fields(msg.body)
    return (fields.get('S'), fields.get('C'))


def drop_fatal_before_close(messages):
    """For 'silent-close': ... E(FATAL 08P01) closed -> ... closed."""
    if len(messages) >= 2 and messages[-1].type == 'closed' and messages[-2].type == 'E' \
            and _code(messages[-2]) == ('FATAL', '08P01'):
        return messages[:-2] + messages[-1:]
    return messages


def difference(expected, actual):
    """None when equal after the allowed differences; otherwise a text for the reader."""
    left, right = canonical(expected), canonical(actual)
    for a, b in ((left, right), (drop_fatal_before_close(left), drop_fatal_before_close(right))):
        if len(a) == len(b) and all(map(same, a, b)):
            return None
    lines = []
    for at in range(max(len(left), len(right))):
        a = left[at] if at < len(left) else None
        b = right[at] if at < len(right) else None
        mark = '  ' if a and b and same(a, b) else '! '
        lines.append(f'{mark}PostgreSQL {show(a):<60}\n{mark}Shoal      {show(b)}')
    return '\n'.join(lines)


def show(msg):
    if msg is None:
        return '-'
    if msg.type == 'E' and isinstance(msg.body, bytes):
        fields = error_fields(msg.body)
        return 'E ' + ' '.join(f'{k}={v!r}' for k, v in fields.items())
    return f'{msg.type} {msg.body!r}'[:400]


def compare(script, direct, shoal, database='solo', user='app'):
    """Runs script(conn) on a fresh connection of each side; a difference is an AssertionError."""
    answers = []
    for side in (direct, shoal):
        with side.connect(database, user) as conn:
            answers.append(script(conn))
    found = difference(*answers)
    assert found is None, '\n' + found
    return answers[1]


def sent(data, ready=1, timeout_s=5, probe=True):
    """A Script: sends `data`, collects `ready` ReadyForQuery, then probes that the connection is in step."""
    def script(conn):
        seen = conn.exchange(data, ready, timeout_s)
        if probe and seen[-1].type not in ('closed', 'timeout'):
            seen += conn.exchange(query("SELECT 'in step'"))
        return seen
    return script
