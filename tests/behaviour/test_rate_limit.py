"""``rate_limit``: what counts, over which links, and that nobody else is harmed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import websocket

from tests.conftest import Connect, MakeRawClient, MakeServer, MakeTestServer
from tests.support import ACK, QUICK, RESPONSE, RawClient, Recorder, frame, wait_until
from wse_sync import (
    WSE_ERROR,
    WSE_STATUS,
    WseConnection,
    WseConnectionError,
    WseError,
    WseServer,
)

LIMIT = (5, 10.0)
OVER = (1008, "wse.rate-limit")


class Watched:
    """A server, and what it has told of."""

    def __init__(self, server: WseServer) -> None:
        self.server = server
        self.messages, self.errors, self.ends = Recorder(), Recorder(), Recorder()
        server.channel.on("m", lambda conn, payload: self.messages.add(payload))
        server.register("echo", lambda conn, payload: payload)
        server.when.error(lambda error, conn: self.errors.add((error, conn.cid)))
        server.when.disconnected(lambda conn, code, reason: self.ends.add((conn.cid, code, reason)))

    def was_told(self, cid: str) -> bool:
        """Whether the error signal said whose limit it was, once."""
        ((error, whose),) = self.errors.wait_for(1)
        assert isinstance(error, WseError)
        assert error.code == WSE_ERROR.MESSAGE_PROCESSING_ERROR
        assert error.details["closed"] == list(OVER)
        return bool(whose == cid)


@pytest.fixture
def watched(make_server: MakeServer) -> Watched:
    return Watched(make_server(rate_limit=LIMIT))


def send_each(client: RawClient, *frames: str | bytes) -> None:
    for data in frames:
        client.send(data)


def binary(client: RawClient, number: int) -> None:
    client.send(frame("m", number).encode())


def fragments(client: RawClient, number: int) -> None:
    data = frame("m", number)
    for place, part in enumerate(data):
        opcode = websocket.ABNF.OPCODE_CONT if place else websocket.ABNF.OPCODE_TEXT
        last = int(place == len(data) - 1)
        client.socket.send_frame(websocket.ABNF(last, 0, 0, 0, opcode, 1, part.encode()))


KINDS: dict[str, Any] = {
    "text": lambda client, number: client.send_frame("m", number),
    "binary": binary,
    "fragments": fragments,
    "call": lambda client, number: client.send_frame("echo", number, f"stamp-{number}"),
    "unknown call": lambda client, number: client.send_frame("none", number, f"stamp-{number}"),
    "ignored": lambda client, number: client.send_frame("ignored", number),
    "answer to nothing": lambda client, number: client.send_frame(RESPONSE, number, "forged"),
    "acknowledgement of nothing": lambda client, number: client.send_frame(ACK, 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_nobody_asked_for_counts(
    watched: Watched, make_raw_client: MakeRawClient, connect: Connect, kind: str
) -> None:
    bystander = connect(watched.server, "bystander")
    client = make_raw_client(watched.server)
    client.begin("ann")
    for number in range(LIMIT[0] + 1):
        KINDS[kind](client, number)
    assert client.recv_close() == OVER
    assert watched.ends.wait_for(1) == [("ann", *OVER)]
    if kind != "unknown call":
        assert watched.was_told("ann")
    if kind in ("text", "binary", "fragments"):
        assert watched.messages.items == [0, 1, 2, 3, 4]
    assert bystander.call("echo", 1) == 1
    assert bystander.status == WSE_STATUS.READY


def test_calls_served_by_the_reader_count(make_server: MakeServer, connect: Connect) -> None:
    watched = Watched(make_server(rate_limit=(100, 1000.0)))
    client = connect(watched.server, "ann")
    for number in range(100):  # quick since the eighth
        assert client.call("echo", number) == number
    with pytest.raises(WseConnectionError) as caught:
        client.call("echo", 100)
    assert caught.value.details["disconnected"] == list(OVER)
    assert watched.was_told("ann")


def test_answers_to_calls_of_the_server_do_not_count(
    make_server: MakeServer, connect: Connect
) -> None:
    watched = Watched(make_server(rate_limit=LIMIT))
    client = connect(watched.server, "ann", reconnect=True)
    client.register("twice", lambda payload: 2 * payload)
    (conn,) = watched.server.clients["ann"].conns.values()
    assert [conn.call("twice", number) for number in range(300)] == [*range(0, 600, 2)]
    assert client.call("echo", 1) == 1


def test_acknowledgements_of_something_do_not_count(
    make_server: MakeServer, connect: Connect
) -> None:
    watched = Watched(make_server(rate_limit=LIMIT))
    client = connect(watched.server, "ann", reconnect=True)
    numbers = Recorder()
    client.channel.on("number", numbers)
    for number in range(64 * 20):
        watched.server.broadcast("number", number)
    numbers.wait_for(64 * 20)
    assert client.call("echo", 1) == 1


def test_pings_do_not_count(watched: Watched, make_raw_client: MakeRawClient) -> None:
    client = make_raw_client(watched.server)
    client.login("ann")
    for _ in range(20):
        client.sync()
    client.send_frame("m", 1)
    assert watched.messages.wait_for(1) == [1]


def test_below_the_rate_it_goes_on_for_ever(make_test_server: MakeTestServer) -> None:
    test = make_test_server(rate_limit=LIMIT)
    watched = Watched(test.server)
    client = test.connect("ann")
    for _ in range(20):
        for number in range(5):
            client.send("m", number)
        test.advance(10.0)
    assert len(watched.messages) == 100
    assert watched.errors.items == []


def test_a_resumed_session_has_no_more_than_before(make_test_server: MakeTestServer) -> None:
    test = make_test_server(rate_limit=(5, 1000.0))
    watched = Watched(test.server)
    client = test.connect("ann", reconnect=True, backoff=QUICK)
    for number in range(5):
        client.send("m", number)
        with test.unreachable():  # or it might send again what the server is about to read
            test.cut(client)
        test.advance(1.0)
        assert client.status == WSE_STATUS.READY
    client.send("m", 5)
    test.settle()
    assert watched.messages.items == [0, 1, 2, 3, 4]
    assert watched.ends.items == [("ann", *OVER)]
    # It is final, also for one that reconnects.
    assert client.wait(5.0)


def test_what_comes_before_the_welcome_counts_once_it_is_given(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    asked = Recorder()
    watched = Watched(make_server(asked, rate_limit=LIMIT))
    client = make_raw_client(watched.server)
    client.hi("ann")
    send_each(client, *(frame("m", number) for number in range(20)))
    client.sync()
    (auth,) = asked.wait_for(1)
    auth.accept("ann")
    assert client.recv_close() == OVER
    assert watched.messages.items == [0, 1, 2, 3, 4]
    assert watched.was_told("ann")
    watched.ends.wait_for(1)
    assert len(watched.errors) == 1


def test_each_connection_has_a_limit_of_its_own(make_test_server: MakeTestServer) -> None:
    test = make_test_server(rate_limit=LIMIT, conn_per_user=2)
    watched = Watched(test.server)
    clients = [test.connect("ann") for _ in range(2)]
    for client in clients:
        for number in range(5):
            client.send("m", number)
    test.settle()
    assert len(watched.messages) == 10
    clients[0].send("m", 5)
    test.settle()
    assert clients[0].status == WSE_STATUS.OFFLINE
    assert clients[1].status == WSE_STATUS.READY


def test_without_the_option_nothing_is_counted(make_test_server: MakeTestServer) -> None:
    test = make_test_server()
    watched = Watched(test.server)
    client = test.connect("ann")
    for number in range(2000):
        client.send("m", number)
    watched.messages.wait_for(2000)
    (conn,) = test.server.clients["ann"].conns.values()
    assert conn.meter is None


def test_a_procedure_that_is_running_when_it_happens_ends_in_order(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    watched = Watched(make_server(rate_limit=(2, 1000.0)))
    began, ended = Recorder(), Recorder()

    @watched.server.register("slow")
    def slow(conn: WseConnection, payload: Any) -> Any:
        began.add(payload)
        wait_until(lambda: conn.state == "closed")
        ended.add(payload)
        return payload

    client = make_raw_client(watched.server)
    client.login("ann")
    client.send_frame("slow", 1, "stamp-1")
    began.wait_for(1)
    send_each(client, frame("m", 1), frame("m", 2))
    assert client.recv_close() == OVER
    ended.wait_for(1)


def test_json_that_is_cut_is_a_violation_first(
    watched: Watched, make_raw_client: MakeRawClient
) -> None:
    client = make_raw_client(watched.server)
    client.login("ann")
    client.send(json.dumps(["m", 1])[:-1])
    assert client.recv_close() == (1000, "wse.protocol-error")
