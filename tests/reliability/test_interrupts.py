"""Signals: Ctrl-C in every call that blocks, and at every step; handlers that close."""

from __future__ import annotations

import contextlib
import itertools
import queue
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

import pytest

from tests.conftest import MakeClient, MakeRawClient, MakeServer
from tests.programs import SAY_INSIDE, Program
from tests.support import PATIENCE, wait_until
from wse_sync import WSE_STATUS, AuthRequest

PRELUDE = (
    SAY_INSIDE
    + """
import signal
import time

from tests.faults import FaultProxy
from wse_sync import Backoff, WseClient, WseServer

signal.signal(signal.SIGINT, signal.default_int_handler)
free, blocked = threading.Event(), threading.Event()


def identify(auth):
    if auth.identity != "undecided":
        auth.accept("ann")


def block(*args):
    blocked.set()
    free.wait()


def serve():
    options = {"auth_timeout": None, "call_timeout": None, "max_queue_bytes": 65536}
    server = WseServer(identify, port=0, **options)
    server.register("echo", lambda conn, payload: payload)
    server.register("block", block)
    server.channel.on("block", block)
    return server.start()


def client_of(url, **options):
    client = WseClient(url, call_timeout=None, **options)
    client.register("block", block)
    client.register("echo", lambda payload: payload)
    return client


def only_connection():
    return next(iter(server.clients["ann"].conns.values()))


def fill():
    while True:
        client.send("block", "x" * 65536)


server = serve()
proxy = FaultProxy(server.url)
"""
)

INTERRUPTED = """
say_inside(*INSIDE)
try:
    BLOCKED
    print("returned")
except KeyboardInterrupt:
    print("interrupted")
free.set()
print([AFTER])
client.disconnect()
server.close()
proxy.close()
ours = [thread for thread in threading.enumerate() if thread.name.startswith("wse")]
for thread in ours:  # what was interrupted may be about to end
    thread.join(10)
print("threads", [thread.name for thread in ours if thread.is_alive()])
"""


class Case(NamedTuple):
    """A call that blocks.

    Attributes:
        inside: The functions that are under way when Ctrl-C comes.
        blocked: What calls them.
        before: What comes before.
        after: What is printed afterwards: by default, what a call returns that is made then.
        expected: What that is.
    """

    inside: tuple[str, ...]
    blocked: str
    before: str = 'client = client_of(server.url); client.connect("ann")'
    after: str = 'client.call("echo", 1)'
    expected: str = "[1]"


STALLED = 'client = client_of(proxy.url); client.connect("ann"); proxy.stall()'
NOT_WELCOME = "client = client_of(server.url, reconnect=True, backoff=Backoff(60.0, 1.0, 60.0))"
NOBODY = NOT_WELCOME.replace("server.url", "proxy.url") + "; proxy.refuse()"
RETURNING = """
client = client_of(proxy.url, reconnect=True, backoff=Backoff(60.0, 1.0, 60.0))
client.connect("ann")
proxy.refuse()
proxy.cut()
client.channel.on("never", print)
while client.status == "READY":
    time.sleep(0.01)
"""
OFFLINE = "client.wait(10), client.status.value"
IS_OFFLINE = "[True, 'OFFLINE']"

CASES = {
    "connect, undecided": Case(
        ("connect", "wait"), 'client.connect("undecided")', NOT_WELCOME, OFFLINE, IS_OFFLINE
    ),
    "connect, nobody there": Case(
        ("connect", "wait"), 'client.connect("ann")', NOBODY, OFFLINE, IS_OFFLINE
    ),
    "jump, undecided": Case(
        ("jump", "wait"), 'client.jump(server.url, "undecided")', after=OFFLINE, expected=IS_OFFLINE
    ),
    "jump, nobody there": Case(
        ("jump", "wait"), 'client.jump(proxy.url, "ann")', NOBODY, OFFLINE, IS_OFFLINE
    ),
    "call": Case(("call", "wait"), 'client.call("block")'),
    "call, between links": Case(
        ("call", "wait"),
        'client.call("echo", 2)',
        RETURNING,
        "client.status.value",
        "['RE_CONNECTING']",
    ),
    "result": Case(("result", "wait"), 'client.submit("block").result()'),
    "exception": Case(("exception", "wait"), 'client.submit("block").exception()'),
    "send, no room": Case(
        ("fill", "wait_for_room", "wait"),
        "fill()",
        """
client = client_of(server.url, max_queue_bytes=65536)
client.connect("ann")
""",
    ),
    "send, no acknowledgements": Case(
        ("fill", "_await_acks", "wait"),
        "fill()",
        """
client = client_of(server.url, reconnect=True, resume_buffer_bytes=2**17)
client.connect("ann")
""",
    ),
    "wait": Case(("client.wait", "wait"), "client.wait()"),
    "channel.wait": Case(("channel.wait", "wait"), 'client.channel.wait("never")'),
    "inbox": Case(
        ("__next__", "wait"),
        "next(inbox)",
        """
client = client_of(server.url)
client.connect("ann")
inbox = client.channel.listen("never").__enter__()
""",
    ),
    "disconnect": Case(
        ("disconnect", "join"),
        "client.disconnect(timeout=60)",
        STALLED,
        "proxy.cut(), " + OFFLINE,
        "[None, True, 'OFFLINE']",
    ),
    "server's call": Case(("call", "wait"), 'only_connection().call("block")'),
    "server's result": Case(("result", "wait"), 'only_connection().submit("block").result()'),
    "server's channel.wait": Case(("channel.wait", "wait"), 'server.channel.wait("never")'),
    "serve_forever": Case(
        ("serve_forever", "wait"), "server.serve_forever()", after=OFFLINE, expected=IS_OFFLINE
    ),
    "close": Case(
        ("close", "join"),
        "server.close(60)",
        """
client = client_of(server.url)
client.connect("ann")
client.submit("block")
blocked.wait()
""",
        OFFLINE,
        IS_OFFLINE,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_ctrl_c_in_a_call_that_blocks(case: Case) -> None:
    """It raises, and what was interrupted is over, or as if it had not been; nothing is stuck."""
    script = INTERRUPTED.replace("INSIDE", repr(case.inside))
    script = script.replace("BLOCKED", case.blocked).replace("AFTER", case.after)
    with Program(f"{PRELUDE}\n{case.before}\n{script}") as program:
        assert program.line() == "inside"
        program.interrupt()
        returns = "returned" if case.inside[0] == "serve_forever" else "interrupted"
        assert program.end() == (0, [returns, case.expected, "threads []"], [])


# Handlers of the signal module

CLOSING = """
import signal
import threading

from wse_sync import WseClient, WseServer, interrupts

interrupts._MORE = 0.1


def close(number, frame):
    client.disconnect(timeout=0.1)
    server.close(2.0)
    print("handled")


signal.signal(signal.SIGUSR1, close)
server = WseServer(lambda auth: auth.accept("ann"), port=0).start()
client = WseClient(server.url)
client.connect("ann")
with LOCK:
    signal.raise_signal(signal.SIGUSR1)
    print("handler has returned")
for thread in threading.enumerate():
    if thread.name == "wse-closer":
        thread.join(10)
print(client.wait(10), client.status.value, dict(server.clients))
"""


@pytest.mark.parametrize("lock", ["threading.Lock()", "client._state", "server._lock"])
def test_a_signal_handler_may_close_whatever_it_has_interrupted(lock: str) -> None:
    """If that holds a lock which is needed, the handler waits for no longer than it said."""
    with Program(CLOSING.replace("LOCK", lock)) as program:
        lines = ["handled", "handler has returned", "True OFFLINE {}"]
        assert program.end() == (0, lines, [])


# Ctrl-C at every step


def interrupt(work: Callable[[], object], place: int) -> bool:
    """Does something, with Ctrl-C at one of the places where the interpreter looks for signals.

    Returns:
        Whether there are so many.
    """
    places = itertools.count(1)
    came = False

    def look(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal came
        ours = "wse_sync" in frame.f_code.co_filename and event in ("call", "c_return")
        if ours and next(places) == place:
            came = True
            raise KeyboardInterrupt

    sys.setprofile(look)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            work()
    finally:
        sys.setprofile(None)
    return came


def test_connect_can_be_interrupted_at_every_step_and_made_again(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    client = make_client(make_server())
    for step in itertools.count(1):
        interrupted = interrupt(lambda: client.connect("ann"), step)
        assert (client.status == WSE_STATUS.READY) != interrupted
        if not interrupted:
            break
        client.connect("ann")
        client.disconnect()
    assert step > 20


def test_jump_can_be_interrupted_at_every_step_and_made_again(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    servers = [make_server(), make_server()]
    client = make_client(servers[0])
    for step in itertools.count(1):
        client.connect("ann")
        url = servers[step % 2].url
        interrupted = interrupt(lambda: client.jump(url), step)  # noqa: B023  (it is done by then)
        assert client.status in (WSE_STATUS.READY, WSE_STATUS.OFFLINE)
        client.jump(url)
        client.disconnect()
        if not interrupted:
            break
    assert step > 20


@pytest.mark.parametrize("end", ["close", "disconnect"])
def test_the_end_can_be_interrupted_at_every_step_and_asked_for_again(
    make_server: MakeServer, make_client: MakeClient, end: str
) -> None:
    server = make_server()
    for step in itertools.count(1):
        client = make_client(server.start())
        client.connect("ann")
        act = server.close if end == "close" else client.disconnect
        interrupted = interrupt(act, step)
        act()
        assert client.wait(PATIENCE)
        client.disconnect()
        if not interrupted:
            break
    assert step > 5


@pytest.mark.parametrize("whose", ["connection", "user"])
def test_drop_can_be_interrupted_at_every_step_and_asked_for_again(
    make_server: MakeServer, make_client: MakeClient, whose: str
) -> None:
    server = make_server()
    for step in itertools.count(1):
        client = make_client(server)
        client.connect("ann")
        (connection,) = server.clients["ann"].conns.values()
        if whose == "user":
            interrupted = interrupt(lambda: server.drop_client("ann"), step)
        else:
            interrupted = interrupt(connection.drop, step)
        if interrupted:  # it has begun, and is done, or it has not
            server.drop_client("ann")
        assert client.wait(PATIENCE)
        wait_until(lambda: not server.clients, "the user has left")
        if not interrupted:
            break
    assert step > 2  # more, if it has to wait


@pytest.mark.parametrize("decision", ["accept", "refuse"])
def test_a_decision_can_be_interrupted_at_every_step_and_taken_again(
    make_server: MakeServer, make_raw_client: MakeRawClient, decision: str
) -> None:
    asked: queue.SimpleQueue[AuthRequest] = queue.SimpleQueue()
    server = make_server(asked.put)

    def decide(auth: AuthRequest) -> None:
        auth.accept("ann", "welcome") if decision == "accept" else auth.refuse()

    for step in itertools.count(1):
        client = make_raw_client(server)
        client.hi("ann")
        auth = asked.get(timeout=PATIENCE)
        interrupted = interrupt(lambda: decide(auth), step)  # noqa: B023  (it is done by then)
        if interrupted:
            decide(auth)
        if decision == "accept":
            assert client.recv_frame()[1] == "welcome"
            client.send_frame("never heard")
        else:
            assert client.recv_close() == (1000, "wse.not-authorized")
        client.close()
        wait_until(lambda: not server.links(), "it is gone")
        if not interrupted:
            break
    assert step > 2  # more, if it has to wait
