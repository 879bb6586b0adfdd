"""``accept(…, expires_at=…)`` ends a login in time, with a link or without; so does a drop."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from functools import partial
from typing import Any

import pytest

from tests.conftest import MakeClient, MakeRawClient, MakeServer, MakeTestServer
from tests.faults import FaultProxy
from tests.support import QUICK, Recorder, Thread, accept_all, pass_time, wait_until
from wse_sync import (
    WSE_STATUS,
    AuthRequest,
    WseClient,
    WseConnectionError,
    WseError,
    WsePermissionError,
)
from wse_sync.testing import TestServer

OVER = (1008, "wse.not-authorized")


class Tokens:
    """Lets everybody in for so many seconds; None: for ever."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds

    def __call__(self, auth: AuthRequest) -> None:
        ends = None if self.seconds is None else time.time() + self.seconds
        auth.accept(auth.identity, "welcome", expires_at=ends)


def record(test: TestServer) -> tuple[Recorder, Recorder]:
    """How connections end, and how users leave."""
    gone, left = Recorder(), Recorder()
    test.server.when.disconnected(lambda conn, code, reason: gone.add((code, reason)))
    test.server.when.left(lambda client, code, reason: left.add((client.cid, code, reason)))
    return gone, left


def test_the_connection_is_closed_when_it_is_time(make_test_server: MakeTestServer) -> None:
    test = make_test_server(Tokens(600.0))
    gone, left = record(test)
    closed = Recorder()
    client = test.connect("ann", reconnect=True)
    client.when.closed(lambda code, reason: closed.add((code, reason)))
    test.advance(590.0)
    assert client.status == WSE_STATUS.READY
    test.advance(20.0)
    assert gone.items == [OVER]
    assert left.items == [("ann", *OVER)]
    assert closed.wait_for(1) == [OVER]
    # Final: whoever has a new token says so by connecting again.
    assert client.wait(5.0)
    client.connect("ann")
    assert client.status == WSE_STATUS.READY


def test_a_session_without_a_link_ends_then(make_test_server: MakeTestServer) -> None:
    test = make_test_server(Tokens(30.0), resume_window=1000.0)
    gone, left = record(test)
    test.connect("ann", reconnect=True)
    (conn,) = test.server.clients["ann"].conns.values()
    with test.unreachable():
        test.cut()
        future = conn.submit("anything", timeout=None)
        test.advance(20.0)
        assert conn.state == "suspended"
        test.advance(20.0)
    assert conn.state == "closed"
    assert gone.items == [OVER]
    assert left.items == [("ann", *OVER)]
    error = future.exception(5.0)
    assert isinstance(error, WseConnectionError)
    assert error.details["disconnected"] == list(OVER)


@pytest.mark.parametrize("later", [1000.0, None])
def test_what_is_said_when_it_comes_back_counts(
    make_test_server: MakeTestServer, later: float | None
) -> None:
    tokens = Tokens(30.0)
    test = make_test_server(tokens)
    client = test.connect("ann", reconnect=True)
    (conn,) = test.server.clients["ann"].conns.values()
    test.advance(20.0)
    tokens.seconds = later
    test.cut()
    test.advance(1.0)
    assert (client.status, conn.state) == (WSE_STATUS.READY, "open")
    test.advance(100.0)
    assert conn.state == "open"
    test.advance(2000.0)
    assert conn.state == ("open" if later is None else "closed")


def test_it_may_end_earlier_after_it_has_come_back(make_test_server: MakeTestServer) -> None:
    tokens = Tokens(None)
    test = make_test_server(tokens)
    test.connect("ann", reconnect=True)
    (conn,) = test.server.clients["ann"].conns.values()
    tokens.seconds = 5.0
    test.cut()
    test.advance(1.0)
    assert conn.state == "open"
    test.advance(10.0)
    assert conn.state == "closed"


@pytest.mark.parametrize("ago", [0.0, 1.0, 1e9])
def test_a_time_that_has_passed_refuses(make_test_server: MakeTestServer, ago: float) -> None:
    test = make_test_server(Tokens(-ago))
    with pytest.raises(WsePermissionError):
        test.connect("ann", reconnect=True)
    assert len(test.server.expiries) == 0


def test_a_time_that_is_none_decides_nothing(make_test_server: MakeTestServer) -> None:
    def identify(auth: AuthRequest) -> None:
        with pytest.raises(ValueError, match="expires_at"):
            auth.accept("ann", expires_at=float("nan"))
        auth.accept("bob")

    test = make_test_server(identify)
    test.connect("anybody")
    assert list(test.server.clients) == ["bob"]


def test_what_waits_goes_out_before_the_close(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(Tokens(30.0))
    client = make_raw_client(server)
    client.login("ann")
    server.broadcast("news", 1)
    pass_time(30.0)
    assert client.recv_frame() == ["news", 1, None]
    assert client.recv_close() == OVER


# Drops, at any moment


def test_drop_client_at_any_moment(make_server: MakeServer, make_client: MakeClient) -> None:
    """While users come in, are cut, suspended, resumed: each is gone once, and nobody is left."""
    seconds = 2.0
    server = make_server(accept_all, resume_window=5.0)
    story: dict[Any, list[str]] = {}
    guard = threading.Lock()

    def tell(what: str) -> Any:
        def note(conn: Any, *_: Any) -> None:
            with guard:
                story.setdefault(conn.conn_id, []).append(what)

        return note

    for name in ("connected", "suspended", "resumed", "disconnected"):
        getattr(server.when, name)(tell(name))
    joined, left = Recorder(), Recorder()
    server.when.joined(lambda client, meta: joined.add(client.cid))
    server.when.left(lambda client, code, reason: left.add(client.cid))
    names = [f"user-{number}" for number in range(6)]
    over = threading.Event()

    def live(client: WseClient, name: str) -> int:
        """Comes in again and again; how often."""
        for count in itertools.count():
            if over.is_set():
                return count
            with contextlib.suppress(WseError):
                client.connect(name, timeout=5.0)
                client.call("none", timeout=5.0)
            client.wait(0.2)
            client.disconnect()
        raise AssertionError

    def drop(seed: int) -> None:
        choice = random.Random(seed)
        while not over.is_set():
            server.drop_client(choice.choice(names), "dropped")
            over.wait(choice.random() * 0.01)

    with FaultProxy(server.url) as proxy:
        clients = [make_client(proxy.url, reconnect=True, backoff=QUICK) for _ in names]
        living = [Thread(partial(live, *each)) for each in zip(clients, names)]
        dropping = [Thread(partial(drop, seed)) for seed in range(3)]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            proxy.cut()
            over.wait(0.02)
        over.set()
        for thread in dropping:
            thread.result()
        counts = [thread.result(30.0) for thread in living]
    assert all(counts)
    for name in names:
        server.drop_client(name)

    def is_over() -> bool:
        """Whether nobody is there or on his way any more, and all of it has been told."""
        busy = server.links() or server.clients or len(server.strangers) or server.running()
        with guard:
            told = all(each[-1] == "disconnected" for each in story.values())
        return not busy and told and len(left) == len(joined)

    wait_until(is_over, lambda: story)
    assert sorted(joined.items) == sorted(left.items)
    for told in story.values():
        assert told[0] == "connected"
        assert told[-1] == "disconnected"
        assert told.count("connected") == told.count("disconnected") == 1
        between = told[1:-1]
        assert set(between) <= {"suspended", "resumed"}
        # Whoever is back before his loss was noticed is resumed only.
        assert ("suspended", "suspended") not in zip(between, between[1:])


@pytest.mark.parametrize("state", ["open", "suspended", "waiting for its decision"])
def test_drop_client_in_every_state(make_test_server: MakeTestServer, state: str) -> None:
    requests = Recorder()

    def identify(auth: AuthRequest) -> None:
        if auth.meta.get("later"):
            requests.add(auth)
        else:
            auth.accept("ann")

    test = make_test_server(identify)
    gone, left = record(test)
    client = test.connect("ann", reconnect=True)
    if state == "open":
        test.server.drop_client("ann", "enough")
        assert client.wait(5.0)
    elif state == "suspended":
        with test.unreachable():
            test.cut()
            test.server.drop_client("ann", "enough")
    else:
        client.jump(test.url, meta={}, identity="ann")
        other = Thread(lambda: test.connect("ann", {"later": True}))
        (auth,) = requests.wait_for(1)
        with test.unreachable():  # or the first one might be back, and push out the other
            test.cut(client)
            test.server.drop_client("ann", "enough")
            auth.accept("ann")
            assert other.result().status == WSE_STATUS.READY
            assert list(test.server.clients) == ["ann"]
    assert (1000, "enough") in gone.wait_until(lambda items: (1000, "enough") in items)
    left.wait_until(lambda items: ("ann", 1000, "enough") in items)
