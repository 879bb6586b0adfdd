"""A server that ends in order: what runs is answered, what comes later is not begun."""

from __future__ import annotations

import math
import signal
import socket
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import Connect, MakeClient, MakeServer
from tests.hosts import werkzeug_serving
from tests.programs import SAY_INSIDE, Program
from tests.support import (
    PATIENCE,
    QUICK,
    RawClient,
    Recorder,
    Thread,
    connection_of,
    payloads,
    wait_event,
    wait_until,
)
from wse_sync import (
    WSE_ERROR,
    WseConnection,
    WseError,
    WseServer,
    hosts,
    procedures,
)
from wse_sync.hosts import Host, find_host
from wse_sync.workers import Task
from wse_sync.wsgi import UPGRADED

BY_SERVER = (1012, "wse.by-server")
LONG = 60.0
"""Seconds that close() may take: a test that needs so many has failed long ago."""


class Gate:
    """A handler that says that it runs, and returns when it may."""

    def __init__(self) -> None:
        self.entered = Recorder()
        self._open = threading.Event()

    def __call__(self, *args: Any) -> Any:
        self.entered.add(args[-1])
        wait_event(self._open)
        return args[-1]

    def open(self) -> None:
        self._open.set()


def closing(server: WseServer, timeout: float = LONG) -> Thread[None]:
    """Closes the server in another thread; returns when it takes nothing more."""
    url = server.url
    thread = Thread(lambda: server.close(timeout))
    wait_until(lambda: refuses(url), "the port is closed")
    # The port is closed first. Then connections are shut, before anything else can be noticed.
    wait_until(
        lambda: all(
            conn.lane.is_shut for user in server.clients.values() for conn in user.conns.values()
        ),
        "connections are shut",
    )
    return thread


def refuses(url: str) -> bool:
    """Whether nobody listens there."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), PATIENCE).close()
    except ConnectionError:
        return True
    return False


def failure(future: Future[Any]) -> WseError:
    error = future.exception(PATIENCE)
    assert isinstance(error, WseError)
    return error


@pytest.mark.parametrize("reconnect", [False, True], ids=["plain", "session"])
@pytest.mark.parametrize("thread", ["worker", "reader"])
def test_calls_that_run_are_answered_before_the_goodbye(
    make_server: MakeServer,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    reconnect: bool,
    thread: str,
) -> None:
    # As if it had been quick so far, or never.
    monkeypatch.setattr(procedures, "QUICK_RUNS", 0 if thread == "reader" else math.inf)
    server = make_server()
    gate, closed = Gate(), Recorder()
    server.register("slow", gate)
    client = connect(server, reconnect=reconnect, backoff=QUICK)
    client.when.closed(closed)
    futures = [client.submit("slow", number) for number in range(3)]
    gate.entered.wait_for(3)
    ending = closing(server)
    assert ending.is_alive()
    gate.open()
    assert [future.result(PATIENCE) for future in futures] == [0, 1, 2]
    ending.result()
    assert closed.wait_for(1) == [BY_SERVER]


def test_messages_that_run_finish_and_what_they_send_arrives(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    gate = Gate()

    def work(conn: WseConnection, payload: Any) -> None:
        gate(payload)
        conn.send("number", 1)
        conn.send("number", conn.call("double", 1))

    server.channel.on("work", work)
    client = connect(server)
    client.register("double", lambda number: 2 * number)
    numbers, closed = payloads(client), Recorder()
    client.when.closed(closed)
    client.send("work")
    gate.entered.wait_for(1)
    ending = closing(server)
    gate.open()
    assert numbers.wait_for(2) == [1, 2]
    ending.result()
    assert closed.wait_for(1) == [BY_SERVER]


def test_messages_and_calls_that_wait_behind_those_that_run_are_handled(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(max_workers=1)
    gate = Gate()
    server.register("work", gate)
    server.channel.on("work", gate)
    client = connect(server)
    client.send("work", "first")
    gate.entered.wait_for(1)
    client.send("work", "second")
    futures = [client.submit("work", number) for number in range(3)]
    lane = connection_of(server).lane
    wait_until(lambda: len(lane._items) == 4, "all has been taken")
    ending = closing(server)
    gate.open()
    assert [future.result(PATIENCE) for future in futures] == [0, 1, 2]
    ending.result()
    assert gate.entered.items[:2] == ["first", "second"]


@pytest.mark.parametrize("reconnect", [False, True], ids=["plain", "session"])
def test_what_comes_after_is_not_begun_and_the_client_is_told(
    make_server: MakeServer, connect: Connect, reconnect: bool
) -> None:
    server = make_server()
    gate, ran = Gate(), Recorder()
    server.register("slow", gate)
    server.register("late", ran)
    server.channel.on("late", ran)
    client = connect(server, reconnect=reconnect, backoff=QUICK)
    errors, port = Recorder(), server.port
    client.when.error(errors)
    slow = client.submit("slow")
    gate.entered.wait_for(1)
    ending = closing(server)
    client.send("late")
    late = client.submit("late")
    gate.open()
    ending.result()
    assert slow.result(PATIENCE) is None
    if reconnect:
        make_server(port=port)  # who has no session for the client
    assert failure(late).code == WSE_ERROR.RP_DISCONNECT
    assert ran.items == []
    if reconnect:
        (lost,) = errors.wait_for(1)
        assert lost.details["messages"] == {"late": 1}


def test_a_call_that_is_just_being_taken_is_answered(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server()
    server.register("double", lambda conn, number: 2 * number)
    client, url = connect(server), server.url
    endings: list[Thread[None]] = []

    def close_and_call(task: Task, waiting: Task | None = None) -> bool:
        endings.append(Thread(lambda: server.close(LONG)))
        wait_until(lambda: refuses(url), "the port is closed")
        return call(task, waiting)

    call = server.workers.call
    monkeypatch.setattr(server.workers, "call", close_and_call)
    assert client.call("double", 2) == 4
    endings[0].result()


@pytest.mark.parametrize("thread", ["worker", "reader"])
def test_a_handler_that_closes_does_not_wait_for_itself(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, thread: str
) -> None:
    monkeypatch.setattr(procedures, "QUICK_RUNS", 0 if thread == "reader" else math.inf)
    server = make_server()
    ended = Recorder()

    def close(conn: WseConnection, payload: Any) -> None:
        server.close(LONG)
        ended.add(payload)

    server.register("close", close)
    client, began = connect(server), time.monotonic()
    assert failure(client.submit("close")).details["disconnected"] == list(BY_SERVER)
    ended.wait_for(1)
    assert time.monotonic() - began < LONG / 2


def test_the_end_of_gunicorn_is_as_graceful(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = SimpleNamespace(alive=True, cfg=SimpleNamespace(graceful_timeout=2 * LONG))

    def find(environ: dict[str, Any]) -> Host:
        return find_host(environ)._replace(worker=worker)

    monkeypatch.setattr("wse_sync.wsgi.find_host", find)
    monkeypatch.setattr(hosts, "_LOOK", 0.01)
    server = make_server(start=False)
    gate, closed = Gate(), Recorder()
    server.register("slow", gate)
    with werkzeug_serving(server.wsgi_app, "/") as url:
        client = connect(url)
        client.when.closed(closed)
        future = client.submit("slow", 1)
        gate.entered.wait_for(1)
        lane = connection_of(server).lane
        worker.alive = False
        wait_until(lambda: lane.is_shut, "the connection is shut")
        gate.open()
        assert future.result(PATIENCE) == 1
        assert closed.wait_for(1) == [BY_SERVER]


def test_a_stranger_is_not_let_in_any_more(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    gate = Gate()
    server.register("slow", gate)
    client = connect(server)
    stranger = RawClient(server.url)
    wait_until(lambda: _strangers(server) == 1, "its link is there")
    future = client.submit("slow")
    gate.entered.wait_for(1)
    ending = closing(server)
    stranger.hi("bob")
    gate.open()
    assert future.result(PATIENCE) is None
    assert stranger.recv_close() == BY_SERVER
    stranger.abort()
    ending.result()
    assert not server.clients


def _strangers(server: WseServer) -> int:
    """Those who speak WebSocket, and have not been let in."""
    return sum(UPGRADED in conn.environ and conn.cid is None for conn in server._arrivals)


def test_a_handler_that_never_returns_is_waited_for_until_the_timeout(
    make_server: MakeServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()
    stuck = Gate()
    server.register("stuck", stuck)
    server.register("double", lambda conn, number: 2 * number)
    client, other = connect(server, "ann"), connect(server, "bob")
    closed = Recorder()
    other.when.closed(closed)
    future = client.submit("stuck")
    stuck.entered.wait_for(1)
    try:
        assert other.call("double", 2) == 4
        server.close(0.5)
        assert closed.wait_for(1) == [BY_SERVER]
        assert failure(future).details["disconnected"] == list(BY_SERVER)
        assert "closed, but handlers are still running" in caplog.messages
    finally:
        stuck.open()


def test_a_reader_that_was_replaced_is_nothing_that_runs(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that reads in its place would be there until the next message."""
    monkeypatch.setattr(procedures, "QUICK_RUNS", 0)
    server = make_server()
    gate = Gate()
    server.register("slow", gate)
    client = connect(server)
    conn = connection_of(server)
    link = conn.arrival
    wait_until(lambda: not conn.lane._running, "nothing is before the call")
    future = client.submit("slow")
    gate.entered.wait_for(1)
    wait_until(lambda: link.turn.is_away, "another thread reads")
    gate.open()
    assert future.result(PATIENCE) is None
    assert link.turn.is_away
    began = time.monotonic()
    server.close(LONG)
    assert time.monotonic() - began < LONG / 2


SERVER = (
    SAY_INSIDE
    + """
import signal
import threading

from wse_sync import WseServer

server = WseServer(lambda auth: auth.accept(auth.identity), port=0)
release = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: release.set())


@server.register("slow")
def slow(conn, value):
    print("slow", flush=True)
    release.wait()
    return value


print(server.start().url)
say_inside("serve_forever", "wait")
server.serve_forever()
print("default", signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
print("threads", [thread.name for thread in threading.enumerate() if thread.name[:3] == "wse"])
"""
)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_serve_forever_when_the_calls_that_run_are_answered(
    make_client: MakeClient, number: signal.Signals, at_once: bool
) -> None:
    with Program(SERVER) as program:
        url = program.line()
        assert program.line() == "inside"
        client = make_client(url)
        closed = Recorder()
        client.when.closed(closed)
        client.connect("ann")
        future = client.submit("slow", 1)
        assert program.line() == "slow"
        program.send_signal(number)
        if not at_once:
            wait_until(lambda: refuses(url), "the port is closed")
        program.terminate()  # some supervisors say it twice, and it disturbs nobody
        program.send_signal(signal.SIGUSR1)
        assert future.result(PATIENCE) == 1
        assert closed.wait_for(1) == [BY_SERVER]
        assert program.end() == (0, ["default True", "threads []"], [])


OTHERS_HANDLER = (
    SAY_INSIDE
    + """
import signal
import threading

from wse_sync import WseServer


def handler(number, frame):
    print("mine")
    server.close()


def serve():
    before = signal.getsignal(signal.SIGTERM)
    say_inside("serve_forever", "wait")
    server.serve_forever()
    print("served", signal.getsignal(signal.SIGTERM) is before)


server = WseServer(lambda auth: auth.accept("ann"), port=0)
"""
)


def test_a_handler_of_the_programs_own_stays() -> None:
    with Program(OTHERS_HANDLER + "signal.signal(signal.SIGTERM, handler)\nserve()\n") as program:
        assert program.line() == "inside"
        program.terminate()
        assert program.end() == (0, ["mine", "served True"], [])


def test_in_another_thread_signals_are_left_alone() -> None:
    script = (
        OTHERS_HANDLER + "thread = threading.Thread(target=serve)\nthread.start()\nthread.join()"
    )
    with Program(script) as program:
        assert program.line() == "inside"
        program.terminate()
        assert program.end() == (-signal.SIGTERM, [], [])
