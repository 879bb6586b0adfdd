"""What stats() says of a server and a client: everything once, whatever happens to links."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from tests.conftest import Connect, MakeClient, MakeRawClient, MakeServer
from tests.support import (
    RESPONSE_ERR,
    Pair,
    RawClient,
    Recorder,
    Thread,
    connection_of,
    pass_time,
    payloads,
    wait_event,
    wait_until,
)
from wse_sync import WSE_ERROR, WseConnection, WseError, WseServer
from wse_sync.stats import CallStats


class Door:
    """A handler that returns when the test says so."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self, *_: Any) -> None:
        self.entered.release()
        wait_event(self._open, "the door is opened")

    def open(self) -> None:
        self._open.set()


def counts(calls: CallStats) -> tuple[int, int]:
    return calls.count, calls.failed


def test_messages_and_calls_are_counted_at_both_ends(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    server.register("add", lambda conn, numbers: sum(numbers))
    arrived = payloads(server, "note")
    client = connect(server)
    client.register("measure", lambda payload: 21.5)
    heard = payloads(client, "news")
    for number in range(20):
        assert client.call("add", [number, 1]) == number + 1
        client.send("note", number)
    arrived.wait_for(20)
    conn = connection_of(server)
    for number in range(10):
        assert conn.call("measure") == 21.5
        conn.send("news", number)
        server.send("ann", "news")
        server.broadcast("news")
    heard.wait_for(30)
    # The reader counts the last one when it has handed it on.
    wait_until(lambda: client.stats().messages_received == 30)

    ours, theirs = server.stats(), client.stats()
    assert (ours.messages_received, ours.messages_sent) == (20, 30)
    assert (theirs.messages_received, theirs.messages_sent) == (30, 20)
    assert counts(ours.calls_served["add"]) == counts(theirs.calls_made["add"]) == (20, 0)
    assert counts(ours.calls_made["measure"]) == counts(theirs.calls_served["measure"]) == (10, 0)
    assert ours.calls_served["add"].seconds < theirs.calls_made["add"].seconds
    assert (ours.calls_waiting, ours.calls_open, theirs.calls_open) == (0, 0, 0)
    assert dict(ours.errors) == dict(theirs.errors) == {}


def test_a_broadcast_counts_for_each_connection(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    for name in ("ann", "bob", "cat"):
        connect(server, name)
    assert server.broadcast("news") == 3
    assert server.send("nobody", "news") == 0
    assert server.stats().messages_sent == 3


def test_it_says_who_is_there(make_server: MakeServer, make_raw_client: MakeRawClient) -> None:
    server = make_server(conn_per_user=2)
    for _ in range(2):
        make_raw_client(server).begin("ann")
    bob = make_raw_client(server)
    bob.begin("bob")
    stranger = make_raw_client(server)
    wait_until(lambda: server.stats().strangers == 1)
    found = server.stats()
    assert (found.users, found.connections, found.suspended) == (2, 3, 0)

    bob.abort()
    wait_until(lambda: server.stats().suspended == 1)
    assert (server.stats().users, server.stats().connections) == (2, 2)
    stranger.send("junk")
    assert stranger.recv_close() == (1000, "wse.protocol-error")
    wait_until(lambda: server.stats().strangers == 0)
    assert server.stats().errors == {WSE_ERROR.MESSAGE_PROCESSING_ERROR: 1}


def test_counts_stay_when_users_go(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    server.register("add", lambda conn, numbers: sum(numbers))
    arrived = payloads(server, "note")
    for turn in range(1, 4):
        client = connect(server, "ann")
        client.call("add", [1])
        client.send("note")
        server.broadcast("news")
        arrived.wait_for(turn)
        client.disconnect()
        wait_until(lambda: not server.clients)
        found = server.stats()
        assert (found.messages_received, found.messages_sent) == (turn, turn)
        assert found.calls_served["add"].count == turn


def test_37_what_a_lost_link_has_carried_is_counted_once(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    at_server = payloads(server)
    door = Door()
    server.register("wait", door)
    with Pair(server, make_client) as pair:
        at_client = payloads(pair.client)
        future = pair.client.submit("wait")
        assert door.entered.acquire(timeout=10)
        pair.cut()
        for number in range(5):
            pair.client.send("number", number)
            pair.conn.send("number", number)
        waiting = server.stats()
        assert (waiting.connections, waiting.suspended, waiting.users) == (0, 1, 1)
        assert waiting.queued_bytes > 0
        assert pair.client.stats().queued_bytes > 0
        door.open()
        pair.back()
        future.result(10)
        at_server.wait_for(5)
        at_client.wait_for(5)
        wait_until(lambda: server.stats().messages_received == 5, "the reader has counted the last")
        found = server.stats()
        assert (found.messages_received, found.messages_sent) == (5, 5)
        assert counts(found.calls_served["wait"]) == (1, 0)
        assert counts(pair.client.stats().calls_made["wait"]) == (1, 0)
        assert found.connections == 1


def failing(server: WseServer) -> None:
    """Procedures and handlers that raise."""

    def divide(conn: WseConnection, by: int) -> float:
        return 1 / by

    def refuse(conn: WseConnection, payload: Any) -> None:
        raise WseError("shop.sold-out")

    server.register("divide", divide)
    server.register("buy", refuse)
    server.register("object", lambda conn, payload: object())
    server.channel.on("divide", divide)


def test_errors_are_counted_by_code(
    make_server: MakeServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()
    failing(server)
    errors = Recorder()
    server.when.error(lambda error, conn: errors.add(error))
    client = connect(server)
    for name, payload in [("divide", 0), ("divide", 0), ("buy", 1), ("object", 1), ("nobody", 1)]:
        with pytest.raises(WseError):
            client.call(name, payload)
    assert client.call("divide", 1) == 1
    client.send("divide", 0)
    errors.wait_for(6)
    found = server.stats()
    assert found.errors == {
        WSE_ERROR.RP_EXECUTION_FAILED: 3,
        "shop.sold-out": 1,
        WSE_ERROR.RP_NOT_REGISTERED: 1,
        "exception": 1,
    }
    assert {name: counts(calls) for name, calls in found.calls_served.items()} == {
        "divide": (3, 2),
        "buy": (1, 1),
        "object": (1, 1),
    }
    assert client.stats().errors == {
        WSE_ERROR.RP_EXECUTION_FAILED: 3,
        "other": 1,  # a code of the other side's own
        WSE_ERROR.RP_NOT_REGISTERED: 1,
    }


def test_calls_that_end_without_an_answer_are_counted(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    raw = make_raw_client(server)
    raw.login("ann")
    conn = connection_of(server)
    late = conn.submit("measure", timeout=30)
    lost = conn.submit("measure", timeout=None)
    forgotten = conn.submit("measure", timeout=None)
    assert server.stats().calls_open == 3
    forgotten.cancel()
    pass_time(31.0)
    assert isinstance(late.exception(10), TimeoutError)
    raw.close()
    assert isinstance(lost.exception(10), ConnectionError)
    found = server.stats()
    calls = found.calls_made["measure"]
    assert counts(calls) == (2, 2)
    assert calls.seconds >= 60
    assert found.errors == {WSE_ERROR.RP_TIMEOUT: 1, WSE_ERROR.RP_DISCONNECT: 1}
    assert found.calls_open == 0


def test_the_time_of_a_call_includes_the_wait_for_its_turn(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    door = Door()
    server.channel.on("slow", door)
    server.register("add", lambda conn, numbers: sum(numbers))
    client = connect(server)
    client.send("slow")
    assert door.entered.acquire(timeout=10)
    future = client.submit("add", [1, 2])
    wait_until(lambda: server.stats().unhandled_bytes > 2 * 256)  # the message and the call
    pass_time(5.0)
    door.open()
    assert future.result(10) == 3
    calls = server.stats().calls_served["add"]
    median = calls.percentile(50)
    assert calls.seconds >= 5.0
    assert median is not None and median >= 4.0


def test_it_says_how_many_calls_run_and_wait(make_server: MakeServer, connect: Connect) -> None:
    server = make_server(max_workers=2)
    door = Door()
    server.register("wait", door)
    client = connect(server)
    futures = [client.submit("wait") for _ in range(5)]
    wait_until(lambda: server.stats().calls_waiting == 3)
    assert server.stats().calls_running == 2
    assert client.stats().calls_open == 5
    door.open()
    for future in futures:
        future.result(10)
    wait_until(lambda: server.stats().calls_running == 0)
    assert server.stats().calls_waiting == 0


def test_what_clients_make_up_makes_nothing_grow(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    raw = make_raw_client(server)
    raw.login("ann")
    for number in range(300):
        raw.send_frame(f"made up {number}", None, "1")
        raw.recv_frame()
    conn = connection_of(server)
    for number in range(5):
        future = conn.submit("measure")
        stamp = raw.recv_frame()[2]
        raw.send_frame(RESPONSE_ERR, {"code": f"made up {number}"}, stamp)
        assert future.exception(10) is not None
    found = server.stats()
    assert dict(found.calls_served) == {}
    assert found.errors == {WSE_ERROR.RP_NOT_REGISTERED: 300, "other": 5}


def test_what_waits_for_a_slow_reader_is_queued(make_server: MakeServer) -> None:
    server = make_server()
    text = "x" * 100_000
    with RawClient(server.url) as raw:
        raw.login("ann")
        sent = 0
        while not server.stats().queued_bytes:
            server.broadcast("news", text)
            sent += 1
        assert server.stats().messages_sent == sent
        for _ in range(sent):
            raw.recv_frame()
        wait_until(lambda: server.stats().queued_bytes == 0)


def test_what_a_session_keeps_is_unacknowledged(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    raw = make_raw_client(server)
    raw.begin("ann")
    server.broadcast("news", "x" * 1000)
    raw.recv_frame()
    assert server.stats().unacknowledged_bytes > 1000
    raw.send_frame("~wse:ack", 1)
    wait_until(lambda: server.stats().unacknowledged_bytes == 0)


def test_it_may_be_asked_while_everything_changes(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server(conn_per_user=10)
    server.register("add", lambda conn, numbers: sum(numbers))
    ended = threading.Event()

    def come_and_go(number: int) -> None:
        for _ in range(10):
            client = make_client(server)
            client.connect(f"user {number}")
            client.call("add", [1])
            client.disconnect()

    def watch() -> list[int]:
        seen = []
        while not ended.is_set():
            found = server.stats()
            seen.append(sum(calls.count for calls in found.calls_served.values()))
            assert min(found.users, found.connections, found.suspended, found.strangers) >= 0
        return seen

    watching = Thread(watch)
    threads = [Thread(partial(come_and_go, number)) for number in range(4)]
    for thread in threads:
        thread.result()
    ended.set()
    seen = watching.result()
    assert seen == sorted(seen)
    assert server.stats().calls_served["add"].count == 40
