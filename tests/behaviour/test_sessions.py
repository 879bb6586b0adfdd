"""Promises 37 to 41: a link may die, nothing is lost and nothing happens twice."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from tests.conftest import Connect, MakeClient, MakeRawClient, MakeServer
from tests.core.protocols import BaseProtocol, NumberProtocol
from tests.support import (
    PATIENCE,
    QUICK,
    RESPONSE,
    WELCOME,
    Pair,
    RawPeers,
    Recorder,
    Thread,
    connection_of,
    pass_time,
    payloads,
    story,
    wait_event,
    wait_until,
)
from wse_sync import (
    WSE_ERROR,
    WSE_STATUS,
    AuthRequest,
    JsonProtocol,
    WseConnection,
    WseError,
)

BEAT: dict[str, Any] = {"ping_interval": 20.0, "ping_timeout": 20.0}
EXPIRED = (1006, "wse.session-expired")


def error_of(future: Any) -> WseError:
    """The WseError with which a call ended."""
    error = future.exception(PATIENCE)
    assert isinstance(error, WseError), error
    return error


def double(ran: Recorder, *arguments: Any) -> Any:
    """A procedure that notes what it was called with."""
    ran.add(arguments[-1])
    return 2 * arguments[-1]


class Gate:
    """A procedure that waits until it is let go; it counts how often it ran."""

    def __init__(self) -> None:
        self.began = Recorder()
        self.ended = Recorder()
        self._open = threading.Event()

    def __call__(self, *arguments: Any) -> Any:
        self.began.add(arguments[-1])
        wait_event(self._open)
        self.ended.add(arguments[-1])
        return ["result", arguments[-1]]

    def open(self) -> None:
        self._open.set()


# 37


def test_37_everything_arrives_once_and_in_order_whatever_happens_to_the_link(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    cuts, burst = 12, 40
    with Pair(make_server(), make_client) as pair:
        up, down = payloads(pair.server), payloads(pair.client)
        ran = [Recorder(), Recorder()]
        pair.server.register("double", partial(double, ran[0]))
        pair.client.register("double", partial(double, ran[1]))
        futures = []
        for cut in range(cuts):
            for number in range(cut * burst, (cut + 1) * burst):
                pair.client.send("number", number)
                pair.conn.send("number", number)
                futures.append(pair.client.submit("double", number, timeout=None))
                futures.append(pair.conn.submit("double", number, timeout=None))
            pair.proxy.cut(reset=bool(cut % 2))
        total = cuts * burst
        expected = list(range(total))
        assert up.wait_for(total) == expected
        assert down.wait_for(total) == expected
        results = [future.result(PATIENCE) for future in futures]
        assert results == [2 * number for number in expected for _ in range(2)]
        assert sorted(ran[0].items) == sorted(ran[1].items) == expected
        assert up.items == down.items == expected
        # A link that is over before the server has noticed is taken over without "suspended".
        told = pair.story.items[2:]
        assert "resumed" in told
        assert set(told) <= {"suspended", "resumed"}


def test_37_what_is_sent_between_links_waits_at_both_ends(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with Pair(make_server(), make_client) as pair:
        up, down = payloads(pair.server), payloads(pair.client)
        pair.server.register("double", lambda conn, n: 2 * n)
        pair.client.register("double", lambda n: 2 * n)
        pair.cut()
        assert pair.conn.client is not None
        for number in range(0, 40, 4):
            pair.conn.send("number", number)
            assert pair.server.send("ann", "number", number + 1) == 1
            assert pair.server.broadcast("number", number + 2) == 1
            assert pair.conn.client.send("number", number + 3) == 1
        for number in range(40):
            pair.client.send("number", number)
        futures = [pair.client.submit("double", 1), pair.conn.submit("double", 2)]
        calls = [Thread(lambda: pair.client.call("double", 3))]
        calls.append(Thread(lambda: pair.conn.call("double", 4)))
        pair.back()
        assert up.wait_for(40) == down.wait_for(40) == list(range(40))
        assert [future.result(PATIENCE) for future in futures] == [2, 4]
        assert [call.result() for call in calls] == [6, 8]


def test_37_the_connection_is_the_same_over_all_links(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with Pair(make_server(), make_client) as pair:
        conns: Recorder = Recorder()
        pair.server.channel.on("number", lambda conn, payload: conns.add(conn))
        conn, user = pair.conn, pair.server.clients["ann"]
        conn_id = conn.conn_id
        conn.data["mine"] = 1
        for links in range(1, 4):
            pair.client.send("number", links)
            assert conns.wait_for(links)[-1] is conn
            assert conn.state == "open"
            pair.cut()
            assert conn.state == "suspended"
            assert "suspended" in repr(conn)
            assert pair.server.clients["ann"] is user
            assert dict(user.conns) == {conn_id: conn}
            pair.back()
        assert conn.state == "open"
        assert conn.client is user
        assert connection_of(pair.server) is conn
        assert (conn.cid, conn.conn_id, conn.data) == ("ann", conn_id, {"mine": 1})
        assert pair.client.cid == "ann"


def test_37_the_connection_tells_how_it_came_back(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(lambda auth: auth.accept("ann"))
    told = story(server)
    raw = make_raw_client(server, header=["X-Link: 1"])
    session = raw.begin("token 1")
    conn = connection_of(server)
    raw.abort()
    told.wait_until(lambda items: items[-1:] == ["suspended"])
    back = make_raw_client(server, header=["X-Link: 2"])
    back.begin("token 2", {"id": session["id"], "received": 0})
    assert conn.identity == "token 2"
    assert conn.environ["HTTP_X_LINK"] == "2"


def test_37_signals_come_in_the_order_of_what_happens(
    make_server: MakeServer, make_raw_client: MakeRawClient, no_late_acks: None
) -> None:
    server = make_server()
    told, go_on = story(server), threading.Event()

    def handle(conn: WseConnection, payload: Any) -> None:
        wait_event(go_on)
        told.add(payload)

    server.channel.on("number", handle)
    raw = make_raw_client(server)
    session = raw.begin("ann")
    conn = connection_of(server)
    for number in (1, 2, 3):
        raw.send_frame("number", number)
    raw.sync()
    raw.abort()
    wait_until(lambda: conn.state == "suspended", conn)
    back = make_raw_client(server)
    assert back.begin("ann", {"id": session["id"], "received": 0})["received"] == 3
    back.send_frame("number", 4)
    back.sync()
    go_on.set()
    expected = ["joined", "connected", 1, 2, 3, "suspended", "resumed", 4]
    assert told.wait_for(len(expected)) == expected
    back.send_frame("number", 5)
    back.close()
    expected += [5, ("disconnected", 1000, "wse.by-client"), ("left", 1000, "wse.by-client")]
    assert told.wait_for(len(expected)) == expected


def test_37_a_client_hears_of_every_link(make_server: MakeServer, make_client: MakeClient) -> None:
    with Pair(make_server(), make_client) as pair:
        ready, closed, statuses = Recorder(), Recorder(), Recorder()
        pair.client.when.ready(ready)
        pair.client.when.closed(lambda code, reason: closed.add(code))
        pair.client.when.updated(statuses)
        for links in range(1, 4):
            pair.cut(reset=True)
            assert closed.wait_for(links) == [1006] * links
            pair.back()
            assert ready.wait_for(links + 1)[-1] == {"hello": "ann"}
        expected = [WSE_STATUS.READY, *[WSE_STATUS.RE_CONNECTING, WSE_STATUS.READY] * 3]
        statuses.wait_until(lambda items: items[-len(expected) :] == expected)


def test_37_what_stands_in_the_lane_was_received(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with Pair(make_server(), make_client) as pair:
        gates = [Gate(), Gate()]
        pair.server.channel.on("number", gates[0])
        pair.client.channel.on("number", gates[1])
        for number in range(20):
            pair.client.send("number", number)
            pair.conn.send("number", number)
        for gate in gates:
            gate.began.wait_for(1)
        pair.proxy.refuse()
        pair.proxy.cut()
        wait_until(lambda: pair.conn.state == "suspended", pair.conn)
        pair.proxy.admit()
        wait_until(lambda: pair.conn.state == "open", pair.conn)
        wait_until(lambda: pair.client.status == WSE_STATUS.READY, pair.client)
        for gate in gates:
            gate.open()
            assert gate.ended.wait_for(20) == list(range(20))
        assert [len(gate.began) for gate in gates] == [20, 20]


@pytest.mark.parametrize(
    "stalled",
    [{}, {"to_client": False}, {"to_server": False}],
    ids=["both ways", "to server", "to client"],
)
def test_37_a_silent_link_is_noticed_by_both_ends_and_nothing_is_lost(
    make_server: MakeServer, make_client: MakeClient, stalled: dict[str, bool]
) -> None:
    with Pair(make_server(**BEAT), make_client, **BEAT) as pair:
        up, down, closed = payloads(pair.server), payloads(pair.client), Recorder()
        pair.client.when.closed(lambda code, reason: closed.add(code))
        pair.server.register("double", lambda conn, n: 2 * n)
        pair.client.register("double", lambda n: 2 * n)
        pair.proxy.refuse()
        pair.proxy.stall(**stalled)
        for number in range(50):
            pair.client.send("number", number)
            pair.conn.send("number", number)
        futures = [
            pair.client.submit("double", 1, timeout=None),
            pair.conn.submit("double", 1, timeout=None),
        ]
        for _ in range(2):
            pass_time(20.0)
        pair.story.wait_until(lambda items: items[-1:] == ["suspended"])
        assert closed.wait_for(1)[0] == 1006
        for number in range(50, 100):
            pair.client.send("number", number)
            pair.conn.send("number", number)
        pair.back()
        assert up.wait_for(100) == down.wait_for(100) == list(range(100))
        assert [future.result(PATIENCE) for future in futures] == [2, 2]
        assert set(pair.story.items[2:]) == {"suspended", "resumed"}


@pytest.mark.parametrize("jump", [86400.0, -86400.0], ids=["forward", "back"])
def test_37_the_wall_clock_does_not_matter(
    make_server: MakeServer,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
    jump: float,
) -> None:
    real_time = time.time

    def set_clock(jumps: int) -> None:
        monkeypatch.setattr(time, "time", lambda: real_time() + jumps * jump)

    with Pair(make_server(), make_client) as pair:
        up, down = payloads(pair.server), payloads(pair.client)
        gate = Gate()
        pair.server.register("slow", gate)
        future = pair.client.submit("slow", 1)
        gate.began.wait_for(1)
        for links in range(1, 4):
            set_clock(2 * links - 1)
            pair.client.send("number", 3 * links)
            pair.cut()
            set_clock(2 * links)
            pair.client.send("number", 3 * links + 1)
            pair.conn.send("number", 3 * links + 1)
            pair.back()
            pair.client.send("number", 3 * links + 2)
        assert up.wait_for(9) == list(range(3, 12))
        assert down.wait_for(3) == [4, 7, 10]
        gate.open()
        assert future.result(PATIENCE) == ["result", 1]
        assert set(pair.story.items[2:]) == {"suspended", "resumed"}


@pytest.mark.parametrize("jump", [86400.0, -86400.0], ids=["forward", "back"])
def test_37_the_window_ends_whatever_the_wall_clock_says(
    make_server: MakeServer,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
    jump: float,
) -> None:
    real_time = time.time
    with Pair(make_server(resume_window=0.2), make_client) as pair:
        monkeypatch.setattr(time, "time", lambda: real_time() + jump)
        pair.proxy.refuse()
        pair.proxy.cut()
        monkeypatch.setattr(time, "time", lambda: real_time() + 2 * jump)
        expected = ["suspended", ("disconnected", *EXPIRED), ("left", *EXPIRED)]
        assert pair.story.wait_for(5)[2:] == expected


def test_37_a_custom_protocol_that_can_acknowledge_has_sessions(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server(protocol=NumberProtocol())
    with Pair(server, make_client, protocol=NumberProtocol()) as pair:
        assert pair.client.cid == "ann"
        up, down, gate = payloads(pair.server), payloads(pair.client), Gate()
        pair.server.register("slow", gate)
        for number in range(100):
            pair.client.send("number", number)
            pair.conn.send("number", number)
        future = pair.client.submit("slow", 1)
        gate.began.wait_for(1)
        pair.cut()
        gate.open()
        pair.client.send("number", 100)
        pair.conn.send("number", 100)
        pair.back()
        assert future.result(PATIENCE) == ["result", 1]
        assert up.wait_for(101) == down.wait_for(101) == list(range(101))


def test_37_a_custom_protocol_that_cannot_acknowledge_has_none(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server(protocol=BaseProtocol())
    with Pair(server, make_client, protocol=BaseProtocol()) as pair:
        assert pair.client.cid is None
        gate = Gate()
        pair.server.register("slow", gate)
        future = pair.client.submit("slow", timeout=None)
        gate.began.wait_for(1)
        pair.proxy.refuse()
        pair.proxy.cut()
        error = error_of(future)
        assert error.code == WSE_ERROR.RP_DISCONNECT
        assert error.details["disconnected"][0] in (1005, 1006)
        gate.open()
        # Not before the server knows: or the user would have been there all the time.
        pair.story.wait_for(4)
        pair.proxy.admit()
        told = pair.story.wait_for(6)
        assert "suspended" not in told
        assert told.count("joined") == 2


# 38


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("when", ["between the links", "after the reconnect"])
def test_38_a_call_in_flight_returns_its_result_and_its_procedure_ran_once(
    make_server: MakeServer, make_client: MakeClient, side: str, when: str
) -> None:
    with Pair(make_server(), make_client) as pair:
        caller: Any = pair.client if side == "client" else pair.conn
        callee: Any = pair.server if side == "client" else pair.client
        gate = Gate()
        callee.register("slow", gate)
        calls = [caller.submit("slow", number) for number in range(20)]
        blocked = Thread(lambda: caller.call("slow", 20))
        gate.began.wait_for(21)
        pair.cut()
        if when == "between the links":
            gate.open()
            gate.ended.wait_for(21)
            assert not any(call.done() for call in calls)
        pair.back()
        gate.open()
        results = [call.result(PATIENCE) for call in calls]
        assert results == [["result", number] for number in range(20)]
        assert blocked.result() == ["result", 20]
        assert sorted(gate.began.items) == list(range(21))


@pytest.mark.parametrize("side", ["client", "server"])
def test_38_a_call_that_fails_between_the_links_fails_after_the_reconnect(
    make_server: MakeServer, make_client: MakeClient, side: str
) -> None:
    with Pair(make_server(), make_client) as pair:
        caller: Any = pair.client if side == "client" else pair.conn
        callee: Any = pair.server if side == "client" else pair.client
        gate = Gate()

        def fail(*arguments: Any) -> None:
            gate(*arguments)
            raise WseError("my-code", {"why": arguments[-1]})

        callee.register("fail", fail)
        future = caller.submit("fail", "so")
        gate.began.wait_for(1)
        pair.cut()
        gate.open()
        gate.ended.wait_for(1)
        pair.back()
        error = error_of(future)
        assert (error.code, error.details) == ("my-code", {"why": "so", "rp": "fail"})


def test_38_calls_within_calls_survive(make_server: MakeServer, make_client: MakeClient) -> None:
    with Pair(make_server(), make_client) as pair:
        gate = Gate()

        def down(conn: WseConnection, depth: int) -> Any:
            return ["down", conn.call("up", depth - 1)]

        def up(depth: int) -> Any:
            return ["up", pair.client.call("down", depth - 1) if depth else gate(depth)]

        pair.server.register("down", down)
        pair.client.register("up", up)
        future = pair.client.submit("down", 5)
        gate.began.wait_for(1)
        pair.cut()
        gate.open()
        pair.back()
        expected: list[Any] = ["result", 0]
        for name in ["up", "down"] * 3:
            expected = [name, expected]
        assert future.result(PATIENCE) == expected


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("in_flight", [True, False], ids=["in flight", "queued"])
def test_38_the_timeout_counts_while_the_link_is_down(
    make_server: MakeServer, make_client: MakeClient, side: str, in_flight: bool
) -> None:
    with Pair(make_server(), make_client) as pair:
        caller: Any = pair.client if side == "client" else pair.conn
        callee: Any = pair.server if side == "client" else pair.client
        gate = Gate()
        callee.register("slow", gate)
        callee.register("quick", lambda *arguments: arguments[-1])
        if not in_flight:
            pair.cut()
        future = caller.submit("slow", 1, timeout=10.0)
        blocked = Thread(lambda: caller.call("slow", 2, timeout=10.0))
        open_calls = (pair.client.connection if side == "client" else pair.conn)._callers
        wait_until(lambda: len(open_calls) == 2)
        if in_flight:
            gate.began.wait_for(2)
            pair.cut()
        pass_time(10.0)
        error = error_of(future)
        assert error.code == WSE_ERROR.RP_TIMEOUT
        with pytest.raises(TimeoutError):
            blocked.result()
        assert pair.conn.state == "suspended"
        gate.open()
        pair.back()
        # What came too late is answered by nothing, and disturbs nothing.
        assert caller.call("quick", 3) == 3
        assert len(gate.began) == (2 if in_flight else 0)


@pytest.mark.parametrize("side", ["client", "server"])
def test_38_a_call_that_was_cancelled_between_the_links_is_not_sent(
    make_server: MakeServer, make_client: MakeClient, side: str
) -> None:
    with Pair(make_server(), make_client) as pair:
        caller: Any = pair.client if side == "client" else pair.conn
        callee: Any = pair.server if side == "client" else pair.client
        ran = Recorder()
        callee.register("double", partial(double, ran))
        pair.cut()
        futures = [caller.submit("double", number) for number in range(5)]
        for number in (0, 3):
            assert futures[number].cancel()
        pair.back()
        for number in (1, 2, 4):
            futures[number].result(PATIENCE)
        assert sorted(ran.items) == [1, 2, 4]


# 39


def test_39_a_client_learns_what_became_of_its_frames(
    make_client: MakeClient, no_late_acks: None
) -> None:
    with RawPeers() as peers:
        client = make_client(peers.url, reconnect=True, backoff=QUICK, call_timeout=None)
        errors, gate, quick = Recorder(), Gate(), Gate()
        client.when.error(errors)
        client.register("slow", gate)
        client.register("quick", quick)
        connecting = Thread(lambda: client.connect("ann"))
        peer = peers.next()
        peer.grant("first")
        connecting.result()
        client.send("a", "acknowledged")
        for type in ("a", "b", "a"):
            client.send(type, "not acknowledged")
        written = client.submit("written")
        assert [peer.recv_frame()[0] for _ in range(5)] == ["a", "a", "b", "a", "written"]
        peer.send_frame("~wse:ack", 1)
        peer.send_frame("slow", "before", "stamp 1")
        peer.send_frame("quick", "between", "stamp 2")
        gate.began.wait_for(1)
        quick.began.wait_for(1)
        peer.abort()
        back = peers.next()
        quick.open()
        quick.ended.wait_for(1)
        client.send("a", "unwritten")
        unwritten = client.submit("unwritten", 1)
        client.send("c", "unwritten")
        assert not written.done()
        back.grant("second")
        error = error_of(written)
        assert error.code == WSE_ERROR.RP_DISCONNECT
        assert error.details["disconnected"] == list(EXPIRED)
        (report,) = errors.wait_for(1)
        assert isinstance(report, WseError)
        assert report.code == WSE_ERROR.CONNECTION_CLOSED
        assert report.details["messages"] == {"a": 2, "b": 1}
        arrived = [back.recv_frame() for _ in range(3)]
        stamp = arrived[1][2]
        assert arrived == [
            ["a", "unwritten", None],
            ["unwritten", 1, stamp],
            ["c", "unwritten", None],
        ]
        # Whoever waited for these answers is gone.
        gate.open()
        gate.ended.wait_for(1)
        back.send_frame(RESPONSE, "result", stamp)
        assert unwritten.result(PATIENCE) == "result"
        client.send("last")
        assert back.recv_frame() == ["last", None, None]
        assert len(errors) == 1


def test_39_an_answer_of_the_old_session_does_not_reach_the_new_one(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    told, gate = story(server), Gate()
    server.register("slow", gate)
    raw = make_raw_client(server)
    session = raw.begin("ann")
    future = connection_of(server).submit("any", timeout=None)
    raw.send_frame("slow", None, "stamp")
    gate.began.wait_for(1)
    raw.abort()
    told.wait_until(lambda items: items[-1:] == ["suspended"])
    back = make_raw_client(server)
    assert back.begin("ann", {"id": session["id"], "received": 99})["resumed"] is False
    error = error_of(future)
    assert error.code == WSE_ERROR.RP_DISCONNECT
    assert error.details["disconnected"] == list(EXPIRED)
    gate.open()
    gate.ended.wait_for(1)
    for _ in range(20):
        back.sync()
    connection_of(server).send("news")
    assert back.recv_frame()[0] == "news"


# 40


def test_40_the_identity_is_checked_at_every_link(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    asked, tokens, welcomes = Recorder(), itertools.count(1), Recorder()

    def identify(auth: AuthRequest) -> None:
        asked.add(auth.identity)
        auth.accept("ann", {"links": len(asked)})

    with Pair(make_server(identify), make_client, lambda: next(tokens)) as pair:
        pair.client.when.ready(welcomes)
        for links in range(2, 5):
            pair.cut()
            pair.back()
            assert welcomes.wait_for(links)[-1] == {"links": links}
        # Attempts that reached nobody had tokens of their own.
        assert len(set(asked.items)) == len(asked) == 4


@pytest.mark.parametrize("state", ["suspended", "open"])
@pytest.mark.parametrize("received", [0, 3, 99])
def test_40_a_stolen_id_opens_nothing_and_gives_no_hint(
    make_server: MakeServer, make_raw_client: MakeRawClient, state: str, received: int
) -> None:
    server = make_server()
    told = story(server)
    raw = make_raw_client(server)
    session = raw.begin("ann")
    conn = connection_of(server)
    for number in range(3):
        conn.send("news", number)
        raw.recv_frame()
    if state == "suspended":
        raw.abort()
        told.wait_until(lambda items: "suspended" in items)
    plain = make_raw_client(server).begin("bob")
    thief = make_raw_client(server)
    stolen = {"id": session["id"], "received": received}
    fresh = thief.begin("eve", stolen)
    assert fresh["id"] not in (session["id"], plain["id"])
    assert fresh == {**plain, "id": fresh["id"]}
    thief.sync()
    assert conn.state == state
    assert connection_of(server) is conn
    if state == "open":
        raw.sync()
        raw.abort()
        # Not as the last: what befell bob and eve may be told later.
        told.wait_until(lambda items: "suspended" in items)
    back = make_raw_client(server)
    assert back.begin("ann", {"id": session["id"], "received": 1})["resumed"] is True
    assert [back.recv_frame()[1] for _ in range(2)] == [1, 2]
    assert not [item for item in told.items if isinstance(item, tuple)]


def test_40_a_thief_who_is_refused_changes_nothing(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(lambda auth: auth.accept(auth.meta.get("cid")))
    told = story(server)
    raw = make_raw_client(server)
    raw.hi("", {"cid": "ann"}, wse={"v": 1, "session": None})
    session = raw.recv_frame()[2]["session"]
    known = {"v": 1, "session": {"id": session["id"], "received": 0}}
    thief = make_raw_client(server)
    thief.hi("", {}, wse=known)
    assert thief.recv_close() == (1000, "wse.not-authorized")
    raw.sync()
    raw.abort()
    told.wait_for(3)
    back = make_raw_client(server)
    back.hi("", {"cid": "ann"}, wse=known)
    assert back.recv_frame()[2]["session"]["resumed"] is True
    assert told.wait_for(4) == ["joined", "connected", "suspended", "resumed"]


class Watched(JsonProtocol):
    """Knows the ids of the sessions that it was granted."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    def unpack(self, data: str | bytes) -> Any:
        frame = super().unpack(data)
        if frame.type == WELCOME:
            self.ids.add(frame.stamp["session"]["id"])
        return frame


def test_40_the_id_is_neither_logged_nor_shown(
    make_server: MakeServer,
    make_client: MakeClient,
    make_raw_client: MakeRawClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    requests, errors, shown = Recorder(), Recorder(), Recorder()

    def identify(auth: AuthRequest) -> None:
        requests.add(auth)
        auth.accept(auth.identity)

    protocol = Watched()
    with Pair(make_server(identify), make_client, protocol=protocol) as pair:
        pair.server.when.error(lambda error, conn: errors.add(error))
        pair.client.when.error(errors)

        def look() -> None:
            for thing in (pair.client, pair.server, pair.conn, pair.conn.client, pair.server.when):
                shown.add(repr(thing))

        look()
        pair.cut()
        look()
        pair.back()
        look()
        pair.client.send("nobody listens")
        with pytest.raises(LookupError):
            pair.client.call("no such procedure")
        (known,) = protocol.ids
        for received in (0, 99, -1, "x", None):
            raw = make_raw_client(pair.server)
            raw.hi("eve", wse={"v": 1, "session": {"id": known, "received": received}})
            raw.recv()
        pair.cut()
        # An impossible count ends the session of the client, which then begins another.
        raw = make_raw_client(pair.server)
        raw.begin("ann", {"id": known, "received": 99})
        pair.proxy.admit()
        wait_until(lambda: len(protocol.ids) == 2, protocol.ids)
        look()
        errors.wait_for(3)
        texts = [caplog.text, *shown.items]
        texts += [repr(item) for item in requests.items]
        texts += [f"{item!r} {item} {item.details}" for item in errors.items]
        for session_id in protocol.ids:
            assert not [text for text in texts if session_id in text]


# 41


def test_41_a_device_that_returns_before_the_server_noticed_takes_its_session_back(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with Pair(make_server(ping_interval=None), make_client) as pair:
        up, down = payloads(pair.server), payloads(pair.client)
        gates = [Gate(), Gate()]
        pair.server.register("slow", gates[0])
        pair.client.register("slow", gates[1])
        futures = [
            pair.client.submit("slow", 1, timeout=None),
            pair.conn.submit("slow", 2, timeout=None),
        ]
        for gate in gates:
            gate.began.wait_for(1)
        pair.proxy.stall()
        for number in range(20):
            pair.client.send("number", number)
            pair.conn.send("number", number)
        for _ in range(2):
            pass_time(20.0)
        assert pair.story.wait_for(3)[2:] == ["resumed"]
        assert up.wait_for(20) == down.wait_for(20) == list(range(20))
        for gate in gates:
            gate.open()
        results = [future.result(PATIENCE) for future in futures]
        assert results == [["result", 1], ["result", 2]]
        # What the old link still brings comes too late.
        pair.proxy.resume()
        pair.client.send("number", 20)
        pair.conn.send("number", 20)
        assert up.wait_for(21) == down.wait_for(21) == list(range(21))
        assert pair.conn.state == "open"
        assert pair.story.items[2:] == ["resumed"]


def test_41_the_old_link_is_closed_without_events(
    make_server: MakeServer, make_raw_client: MakeRawClient, no_late_acks: None
) -> None:
    server = make_server()
    told, numbers = story(server), payloads(server)
    raw = make_raw_client(server)
    session = raw.begin("ann")
    conn = connection_of(server)
    raw.send_frame("number", 1)
    conn.send("news", 1)
    assert raw.recv_frame()[0] == "news"
    raw.sync()
    back = make_raw_client(server)
    taken = back.begin("ann", {"id": session["id"], "received": 0})
    assert taken == {**session, "resumed": True, "received": 1}
    assert back.recv_frame() == ["news", 1, None]
    with suppress(OSError):  # it may be cut already
        raw.send_frame("number", 2)
    assert raw.recv_close() == (1000, "wse.clients-concurrency")
    back.send_frame("number", 3)
    assert numbers.wait_for(2) == [1, 3]
    assert connection_of(server) is conn
    assert conn.state == "open"
    assert told.items == ["joined", "connected", "resumed"]


@pytest.mark.parametrize("state", ["suspended", "open"])
@pytest.mark.parametrize("order", [[0, 1], [1, 0]], ids=["in order", "in reverse"])
@pytest.mark.parametrize("devices", [1, 2])
def test_41_of_two_links_that_race_for_one_session_exactly_one_gets_it(
    make_server: MakeServer,
    make_raw_client: MakeRawClient,
    state: str,
    order: list[int],
    devices: int,
) -> None:
    """The newer link, whatever is decided first: a client that dials again means that one."""
    requests, held = Recorder(), threading.Event()

    def identify(auth: AuthRequest) -> None:
        if held.is_set():
            requests.add(auth)
        else:
            auth.accept("ann")

    server = make_server(identify, conn_per_user=devices)
    told = story(server)
    raw = make_raw_client(server)
    session = raw.begin("ann")
    for number in range(3):
        connection_of(server).send("news", number)
    if state == "suspended":
        raw.abort()
        told.wait_until(lambda items: items[-1:] == ["suspended"])
    held.set()
    links = [make_raw_client(server) for _ in range(2)]
    known = {"v": 1, "session": {"id": session["id"], "received": 1}}
    for number, link in enumerate(links):
        link.hi("ann", {"number": number}, wse=known)
    asked = {auth.meta["number"]: auth for auth in requests.wait_for(2)}
    for number in order:
        asked[number].accept("ann")
    loser, winner = links
    assert winner.recv_frame()[2]["session"] == {**session, "resumed": True}
    fresh = loser.recv_frame()[2]["session"]
    assert fresh["id"] != session["id"]
    assert fresh == {**session, "id": fresh["id"]}
    assert [winner.recv_frame()[1] for _ in range(2)] == [1, 2]
    winner.sync()
    if devices == 1:
        assert loser.recv_close()[0] == 1006
    else:
        loser.sync()
    expected = ["connected"] * devices + ["joined", "resumed"]
    expected += ["suspended"] * (state == "suspended")
    assert sorted(told.wait_for(len(expected))) == expected
    assert len(server.clients["ann"].conns) == devices


def test_41_a_hi_that_comes_late_does_not_push_out_the_client_that_dialed_again(
    make_server: MakeServer, make_raw_client: MakeRawClient, connect: Connect
) -> None:
    server = make_server()
    told = story(server)
    late, device = make_raw_client(server), make_raw_client(server)
    client = connect(server, reconnect=True)
    told.wait_for(2)
    conn = connection_of(server)
    # What the client sent on a link that it has given up, and the network has not.
    late.begin("ann")
    assert late.recv_close() == (1006, "")
    assert connection_of(server) is conn
    assert told.items == ["joined", "connected"]
    # Who does not come back by itself may be another device, and this is its only attempt.
    device.login("ann")
    assert client.wait(PATIENCE)


def test_41_of_many_links_that_race_at_once_exactly_one_gets_the_session(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    requests, held = Recorder(), threading.Event()

    def identify(auth: AuthRequest) -> None:
        if held.is_set():
            requests.add(auth)
        else:
            auth.accept("ann")

    server = make_server(identify, conn_per_user=20)
    session = make_raw_client(server).begin("ann")
    held.set()
    links = [make_raw_client(server) for _ in range(8)]
    for link in links:
        link.hi("ann", wse={"v": 1, "session": {"id": session["id"], "received": 0}})
    together = threading.Barrier(len(links))

    def accept(auth: AuthRequest) -> None:
        together.wait(PATIENCE)
        auth.accept("ann")

    for thread in [Thread(partial(accept, auth)) for auth in requests.wait_for(len(links))]:
        thread.result()
    granted = [link.recv_frame()[2]["session"] for link in links]
    assert sorted(each["resumed"] for each in granted) == [False] * 7 + [True]
    assert len({each["id"] for each in granted}) == len(links)


def test_41_the_newest_link_gets_the_session_also_if_it_is_held_up_when_it_is_let_in(
    make_server: MakeServer, make_raw_client: MakeRawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older one that comes just then begins anew."""
    requests, entered, go_on = Recorder(), threading.Event(), threading.Event()

    def identify(auth: AuthRequest) -> None:
        requests.add(auth)
        if len(requests) == 1:
            auth.accept("ann")

    server = make_server(identify, conn_per_user=3)
    session = make_raw_client(server).begin("ann")
    older, newest = make_raw_client(server), make_raw_client(server)
    for number, link in enumerate([older, newest], 2):
        link.hi("ann", wse={"v": 1, "session": {"id": session["id"], "received": 0}})
        requests.wait_for(number)
    take_over = WseConnection.take_over

    def take_over_late(self: WseConnection, newcomer: WseConnection, welcome: object) -> bool:
        if newcomer.conn_id == requests.items[2].conn_id:
            entered.set()
            wait_event(go_on)
        return take_over(self, newcomer, welcome)

    monkeypatch.setattr(WseConnection, "take_over", take_over_late)
    letting_in = Thread(lambda: requests.items[2].accept("ann"))
    wait_event(entered)
    requests.items[1].accept("ann")
    go_on.set()
    letting_in.result()
    assert older.recv_frame()[2]["session"]["resumed"] is False
    assert newest.recv_frame()[2]["session"]["resumed"] is True
