"""A system that is short of threads, descriptors or disk: what can be done is done, the rest waits.

Threads run out for real, too: no stack of that size can be had.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import Connect, MakeClient, MakeServer
from tests.programs import SAY_INSIDE, Program
from tests.support import (
    PATIENCE,
    QUICK,
    Recorder,
    Thread,
    connection_of,
    payloads,
    wait_until,
)
from wse_sync import WSE_ERROR, WSE_STATUS, WseConnectionError
from wse_sync.loop import Loop
from wse_sync.workers import Workers

TOO_MUCH = 2**46  # bytes; more than processors can address


@contextmanager
def no_threads(*workers: Workers) -> Iterator[None]:
    """No thread can be started meanwhile, and these have none to spare."""
    for each in workers:
        assert each.join(PATIENCE)
    before = threading.stack_size(TOO_MUCH)
    try:
        with pytest.raises(RuntimeError):
            threading.Thread(target=print).start()
        yield
    finally:
        threading.stack_size(before)


# Threads


def test_timers_that_had_no_thread_run_when_there_is_one() -> None:
    loop, ran = Loop(), Recorder()
    with no_threads():
        loop.call_later(0.0, lambda: ran.add("early"))
        with pytest.raises(OSError, match="thread"), socket.socket() as sock:
            loop.watch(sock, lambda: None)
        loop.rest(PATIENCE)
    loop.call_later(0.0, lambda: ran.add("late"))
    assert ran.wait_for(2) == ["early", "late"]
    loop.rest(PATIENCE)


def test_a_server_that_cannot_start_says_so_and_can_later(make_server: MakeServer) -> None:
    server = make_server(start=False)
    with no_threads():
        with pytest.raises(OSError, match="thread"):
            server.start()
        server.close()
    with server:
        assert server.port


def test_a_client_that_cannot_connect_says_so_and_can_later(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    server.register("double", lambda conn, number: 2 * number)
    client, statuses = make_client(server), Recorder()
    with no_threads():
        with pytest.raises(WseConnectionError, match="thread") as caught:
            client.connect("ann")
        assert caught.value.code == WSE_ERROR.WS_CLIENT_ERROR
        assert client.status == WSE_STATUS.OFFLINE
        client.disconnect()
    client.when.updated(statuses)
    client.connect("ann")
    assert client.call("double", 2) == 4
    statuses.wait_until(lambda seen: WSE_STATUS.READY in seen)


def test_a_client_that_loses_its_link_goes_on_trying(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    server.register("double", lambda conn, number: 2 * number)
    client = connect(server, reconnect=True, backoff=QUICK)
    closed, returned = Recorder(), Recorder()
    client.when.closed(closed)
    server.when.resumed(returned)
    with no_threads(server.workers, client.workers):
        connection_of(server).arrival.fail()
        wait_until(lambda: client.status == WSE_STATUS.RE_CONNECTING, "it has lost its link")
    returned.wait_for(1)
    assert client.call("double", 2) == 4
    assert closed.wait_for(1) == [(1006, "")]


def test_what_had_no_thread_arrives_once_over_the_next_link(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    numbers = payloads(server)
    client = connect(server, reconnect=True, backoff=QUICK)
    with no_threads(server.workers, client.workers):
        for number in range(10):
            client.send("number", number)
        wait_until(lambda: client.status == WSE_STATUS.RE_CONNECTING, "the server cannot take it")
    assert numbers.wait_for(10) == list(range(10))
    client.send("number", 10)
    assert numbers.wait_for(11)[-1] == 10


# Descriptors

DESCRIPTORS = """
import resource
import signal
import sys
import threading

from wse_sync import Backoff, WseClient, WseError, WseServer


def limit(descriptors):
    # Those that are open stay so; with 3 there are no others.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
"""

SERVING = (
    DESCRIPTORS
    + SAY_INSIDE
    + """
server = WseServer(lambda auth: auth.accept(auth.identity), port=0)
server.register("double", lambda conn, number: 2 * number)
server.register("limit", lambda conn, descriptors: limit(descriptors))
print(server.start().url)
say_inside("serve_forever", "wait")
server.serve_forever()
"""
)
NO_DESCRIPTOR = "Too many open files"


def test_a_server_without_descriptors_serves_whom_it_has_and_accepts_again(
    connect: Connect, make_client: MakeClient
) -> None:
    with Program(SERVING) as program:
        url = program.line()
        assert program.line() == "inside"
        ann, bob = connect(url, "ann"), make_client(url)
        ann.call("limit", 3)
        joining = Thread(lambda: bob.connect("bob"))
        assert NO_DESCRIPTOR in program.error_line()
        assert ann.call("double", 2) == 4
        ann.call("limit", 64)
        joining.result()
        assert bob.call("double", 3) == 6
        program.terminate()
        assert program.end() == (0, [], [])


DIALING = (
    DESCRIPTORS
    + """
import logging

logging.basicConfig(stream=sys.stdout, format="%(message)s")
logging.getLogger("wse_sync.client").setLevel(logging.INFO)
release = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: release.set())
url = sys.argv[1]
once = WseClient(url)
patient = WseClient(url, reconnect=True, backoff=Backoff(0.01, 1.0, 0.01))


def connect(client):
    try:
        client.connect("ann")
    except WseError as error:
        print(error.code, client.status.value)


limit(3)
connect(once)
trying = threading.Thread(target=connect, args=(patient,))
trying.start()
release.wait()
release.clear()
patient.disconnect()
trying.join()
limit(64)
print(once.connect("ann"), once.call("double", 2))
once.disconnect()
print("back:", patient.connect("ann"))
limit(3)
patient.send("cut")
release.wait()
limit(64)
print(patient.call("double", 3))
patient.disconnect()
"""
)


def test_a_client_without_descriptors_says_so_and_goes_on_trying(make_server: MakeServer) -> None:
    server = make_server(lambda auth: auth.accept("ann", "hello"))
    server.register("double", lambda conn, number: 2 * number)
    server.channel.on("cut", lambda conn, payload: conn.arrival.fail())
    with Program(DIALING, server.url) as program:
        said = lines_until(program, "wse.client.ws-error OFFLINE")
        assert said
        said.append(program.line())
        program.send_signal(signal.SIGUSR1)
        said += lines_until(program, "wse.client.connection-closed OFFLINE")
        assert all(NO_DESCRIPTOR in line for line in said)
        assert program.line() == "hello 4"
        assert program.line() == "back: hello"
        assert NO_DESCRIPTOR in program.line()
        program.send_signal(signal.SIGUSR1)
        lines_until(program, "6")
        status, _, _ = program.end()
        assert status == 0


def lines_until(program: Program, last: str) -> list[str]:
    """Those that it prints before this one."""
    lines: list[str] = []
    for line in iter(program.line, last):
        lines.append(line)
    return lines


# Disk

FULL_DISK = """
import logging

from wse_sync import Backoff, WseClient, WseError, WseServer

logging.basicConfig(stream=open("/dev/full", "w", buffering=1), level=logging.DEBUG)


def fail(*args):
    raise ValueError("with a traceback, for the log")


server = WseServer(lambda auth: auth.accept(auth.identity), port=0)
server.register("double", lambda conn, number: 2 * number)
server.register("fail", fail)
server.channel.on("fail", fail)
server.channel.on("cut", lambda conn, payload: conn.arrival.fail())
with server, WseClient(server.url, reconnect=True, backoff=Backoff(0.01)) as client:
    client.channel.on("fail", fail)
    client.connect("ann")
    client.send("fail")
    try:
        client.call("fail")
    except WseError as error:
        print(error.code)
    server.broadcast("fail")
    client.send("cut")
    print([client.call("double", number) for number in range(3)])
"""


def test_nothing_is_lost_when_the_disk_is_full_of_the_log() -> None:
    with Program(FULL_DISK) as program:
        status, lines, errors = program.end()
    assert (status, lines) == (0, ["wse.server.rp.failed", "[0, 2, 4]"])
    assert "--- Logging error ---" in errors  # of the logging module, which nobody can stop
