"""Handlers that raise what no handler should, end what they belong to, or run when all ends."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from tests.conftest import Connect, MakeClient, MakeServer
from tests.programs import Program
from tests.support import PATIENCE, QUICK, Recorder, Thread, connection_of
from wse_sync import WSE_ERROR, WSE_STATUS, AuthRequest, WseClient, WseConnection, WseError

LONG = 60.0
"""Seconds that close() may take: a test that needs so many has failed long ago."""


class Unusual(BaseException):
    """Not an Exception."""


RAISED = [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Unusual("of ours")]


def fail_with(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any) -> None:
        raise error

    return fail


def names_of(errors: Recorder, count: int) -> set[str]:
    """The classes of what was reported, without what the library put around it."""
    return {type(error.__cause__ or error).__name__ for error in errors.wait_for(count)}


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_handlers_of_a_server_raise_is_reported_and_it_goes_on(
    make_server: MakeServer, connect: Connect, error: BaseException
) -> None:
    server = make_server(max_workers=1)
    errors, fail = Recorder(), fail_with(error)
    server.when.error(lambda error, conn: errors.add(error))
    server.when.error(fail)
    server.when.joined(fail)
    server.when.connected(fail)
    server.when.ignored(fail)
    server.channel.on("fail", fail)
    server.register("fail", fail)
    server.register("double", lambda conn, number: 2 * number)
    client = connect(server)
    client.send("fail")
    client.send("unknown")
    for _ in range(2):
        with pytest.raises(WseError) as caught:
            client.call("fail")
        assert caught.value.code == WSE_ERROR.RP_EXECUTION_FAILED
        assert caught.value.details["origin"]["name"] == type(error).__name__
    assert client.call("double", 2) == 4
    assert names_of(errors, 6) == {type(error).__name__}


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_handlers_of_a_client_raise_is_reported_and_it_goes_on(
    make_server: MakeServer, make_client: MakeClient, error: BaseException
) -> None:
    server = make_server()
    client = make_client(server)
    errors, fail = Recorder(), fail_with(error)
    client.when.error(errors)
    client.when.error(fail)
    client.when.connected(fail)
    client.when.ready(fail)
    client.when.ignored(fail)
    client.channel.on("fail", fail)
    client.register("fail", fail)
    client.register("double", lambda number: 2 * number)
    client.connect("ann")
    conn = connection_of(server)
    conn.send("fail")
    conn.send("unknown")
    with pytest.raises(WseError) as caught:
        conn.call("fail")
    assert caught.value.code == WSE_ERROR.RP_EXECUTION_FAILED
    assert conn.call("double", 2) == 4
    assert names_of(errors, 5) == {type(error).__name__}


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_identify_raises_refuses_and_others_come_in(
    make_server: MakeServer, connect: Connect, make_client: MakeClient, error: BaseException
) -> None:
    def identify(auth: AuthRequest) -> None:
        if auth.identity == "fail":
            raise error
        auth.accept(auth.identity)

    server, errors = make_server(identify), Recorder()
    server.when.error(lambda error, conn: errors.add(error))
    with pytest.raises(PermissionError):
        make_client(server).connect("fail")
    assert names_of(errors, 1) == {type(error).__name__}
    connect(server, "ann")


# Handlers that end what they belong to

ENDS_OF_SERVER: dict[str, Callable[[WseConnection], object]] = {
    "close": lambda conn: conn.endpoint.close(LONG),  # type: ignore[attr-defined]
    "drop": lambda conn: conn.drop(),
    "drop_client": lambda conn: conn.endpoint.drop_client("ann"),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("end", ENDS_OF_SERVER)
@pytest.mark.parametrize("signal", ["joined", "connected", "ignored", "error", "left"])
def test_a_handler_of_a_signal_may_end_the_connection_or_the_server(
    make_server: MakeServer, make_client: MakeClient, signal: str, end: str
) -> None:
    server, done = make_server(), Recorder()

    def handle(*args: Any) -> None:
        ENDS_OF_SERVER[end](known[0])
        done.add(signal)

    known: list[WseConnection] = []
    server.when.joined(lambda client, meta: known.extend(client.conns.values()))
    getattr(server.when, signal)(handle)
    client = make_client(server)
    client.connect("ann")
    if signal == "ignored":
        client.send("unknown")
    elif signal == "error":
        client.submit("unknown")
    elif signal == "left":
        client.disconnect()
    done.wait_for(1)
    assert client.wait(PATIENCE)
    server.close(LONG)
    assert not server.clients


@pytest.mark.parametrize("signal", ["connected", "ready", "updated", "ignored", "error", "closed"])
def test_a_handler_of_a_signal_may_disconnect_the_client(
    make_server: MakeServer, make_client: MakeClient, signal: str
) -> None:
    server = make_server()
    client, done = make_client(server, reconnect=True, backoff=QUICK), Recorder()

    def handle(*args: Any) -> None:
        client.disconnect(timeout=LONG)
        done.add(signal)

    getattr(client.when, signal)(handle)
    connecting = Thread(lambda: connect_anyhow(client))
    if signal in ("ignored", "error", "closed"):
        connecting.result()
        conn = connection_of(server)
        if signal == "ignored":
            conn.send("unknown")
        elif signal == "error":
            conn.submit("unknown")
        else:
            conn.arrival.fail()
    done.wait_for(1)
    connecting.result()
    assert client.wait(PATIENCE)
    assert client.status == WSE_STATUS.OFFLINE


def connect_anyhow(client: WseClient) -> None:
    """Connects; a handler may have disconnected before that returns."""
    try:
        client.connect("ann")
    except WseError as error:
        assert error.code == WSE_ERROR.CONNECTION_CLOSED


# The end of the interpreter

PROGRAM = """
import atexit
import sys
import threading

from wse_sync import WseClient, WseError, WseServer

free, inside = threading.Event(), threading.Semaphore(0)


def block(*args):
    inside.release()
    free.wait()


def call_and_call(client):
    try:
        while True:
            client.call("double", 1)
            inside.release()
    except WseError as error:
        print(error.code)  # what atexit ends


server = WseServer(lambda auth: auth.accept(auth.identity), port=0).start()
server.register("block", block)
server.register("double", lambda conn, number: 2 * number)
client = WseClient(server.url, reconnect=True)
client.register("block", block)
client.connect("ann")
conn = next(iter(server.clients["ann"].conns.values()))
# Each way in which calls are made: in threads, as futures, from both ends, served by a worker and
# by a reader.
threading.Thread(target=call_and_call, args=(client,), daemon=True).start()
futures = [client.submit("block"), conn.submit("block"), client.submit("block")]
for _ in range(50):
    inside.acquire()
"""
ENDINGS = {
    "the last line": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "an error": ("sys.stderr = None; raise ValueError", 1),
    "sys.exit in a with": ("with server, client:\n    free.set()\n    sys.exit(3)", 3),
    "disconnect at exit": ("free.set(); atexit.register(client.disconnect)", 0),
    "close at exit": ("free.set(); atexit.register(server.close)", 0),
    "close at exit, handlers blocked": ("atexit.register(server.close, 0.1)", 0),
    "both at exit": (
        "free.set(); atexit.register(server.close); atexit.register(client.disconnect)",
        0,
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_ends_whatever_is_in_flight(ending: str) -> None:
    script, expected = ENDINGS[ending]
    with Program(PROGRAM + script) as program:
        status, lines, errors = program.end()
    assert status == expected
    assert set(lines) <= {WSE_ERROR.RP_DISCONNECT, WSE_ERROR.CONNECTION_NOT_READY}
    assert [line for line in errors if "handlers are still running" not in line] == []
