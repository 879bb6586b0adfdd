"""How sessions end: by their bounds, by drop and eviction, by close, jump, refusal and restart."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from typing import Any, Callable

import pytest

from tests.conftest import MakeClient, MakeRawClient, MakeServer, MakeTestServer
from tests.faults import FaultProxy
from tests.support import (
    ACK,
    PATIENCE,
    QUICK,
    Pair,
    RawClient,
    RawPeer,
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
    WseClient,
    WseConnection,
    WseError,
)

EXPIRED = (1006, "wse.session-expired")
SLOW = (1013, "wse.slow-consumer")
CLOSED = (1012, "wse.by-server")


def ends(code: int, reason: str) -> list[tuple[str, int, str]]:
    """What is told of a user who is gone."""
    return [("disconnected", code, reason), ("left", code, reason)]


def is_disconnected(future: Any, code: int, reason: str) -> None:
    """The call has ended because of this."""
    error = future.exception(PATIENCE)
    assert isinstance(error, WseError)
    assert isinstance(error, ConnectionError)
    assert error.code == WSE_ERROR.RP_DISCONNECT
    assert error.details["disconnected"] == [code, reason]


def is_not_ready(attempt: Callable[[], object]) -> None:
    with pytest.raises(ConnectionError) as caught:
        attempt()
    assert isinstance(caught.value, WseError)
    assert caught.value.code == WSE_ERROR.CONNECTION_NOT_READY


def suspend(raw: RawClient, conn: WseConnection) -> None:
    """Has a raw client lose its link."""
    raw.abort()
    wait_until(lambda: conn.state == "suspended", conn)
    with conn._lock:
        pass  # it is among those that are suspended, too


# The window


def test_the_window_ends_a_session_with_its_calls(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with Pair(make_server(resume_window=0.2), make_client, call_timeout=None) as pair:
        errors = Recorder()
        pair.client.when.error(errors)
        pair.server.register("double", lambda conn, n: 2 * n)
        go_on = threading.Event()
        pair.server.register("slow", lambda conn, payload: wait_event(go_on))
        pair.client.register("slow", lambda payload: wait_event(go_on))
        calls = [pair.client.submit("slow"), pair.conn.submit("slow", timeout=None)]
        pair.cut()
        expected = ["joined", "connected", "suspended", *ends(*EXPIRED)]
        assert pair.story.wait_for(5) == expected
        assert pair.conn.state == "closed"
        assert not pair.server.clients
        is_disconnected(calls[1], *EXPIRED)
        is_not_ready(lambda: pair.conn.send("news"))
        queued = pair.client.submit("double", 2)
        assert not calls[0].done()
        pair.proxy.admit()
        is_disconnected(calls[0], *EXPIRED)
        assert queued.result(PATIENCE) == 4
        go_on.set()
        assert pair.story.wait_for(7)[5:] == ["joined", "connected"]
        assert connection_of(pair.server) is not pair.conn


# On purpose


@pytest.mark.parametrize("state", ["suspended", "open"])
@pytest.mark.parametrize("how", ["conn.drop", "client.drop", "drop_client"])
def test_a_drop_ends_a_session_at_once(
    make_server: MakeServer, make_client: MakeClient, how: str, state: str
) -> None:
    with Pair(make_server(), make_client) as pair:
        go_on = threading.Event()
        pair.client.register("slow", lambda payload: wait_event(go_on))
        future = pair.conn.submit("slow", timeout=None)
        if state == "suspended":
            pair.cut()
        before = len(pair.story)
        user = pair.server.clients["ann"]
        drops: dict[str, Callable[[str], object]] = {
            "conn.drop": pair.conn.drop,
            "client.drop": user.drop,
            "drop_client": partial(pair.server.drop_client, "ann"),
        }
        drops[how]("enough")
        assert pair.conn.state == "closed"
        assert not pair.server.clients
        assert pair.story.wait_for(before + 2)[before:] == ends(1000, "enough")
        is_disconnected(future, 1000, "enough")
        is_not_ready(lambda: pair.conn.send("news"))
        if state == "suspended":
            pair.proxy.admit()
            assert pair.story.wait_for(before + 4)[-2:] == ["joined", "connected"]
        else:
            assert pair.client.wait(PATIENCE)
        go_on.set()


def test_of_several_devices_a_suspended_one_goes_before_a_live_one(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(conn_per_user=3)
    told = story(server)
    raws, conns = [], []
    for _ in range(3):
        raws.append(make_raw_client(server))
        session = raws[-1].begin("ann")
        conns.append(list(server.clients["ann"].conns.values())[-1])
    suspend(raws[2], conns[2])
    newest = make_raw_client(server)
    newest.begin("ann")
    evicted = ("disconnected", 1000, "wse.clients-concurrency")
    expected = sorted(["joined", *["connected"] * 4, "suspended", str(evicted)])
    assert sorted(map(str, told.wait_for(len(expected)))) == expected
    assert [conn.state for conn in conns] == ["open", "open", "closed"]
    # It comes back as a new device. Now all are live: the oldest goes.
    back = make_raw_client(server)
    assert back.begin("ann", {"id": session["id"], "received": 0})["resumed"] is False
    assert raws[0].recv_close() == evicted[1:]
    assert [conn.state for conn in conns] == ["closed", "open", "closed"]
    told.wait_for(len(expected) + 2)
    assert not [item for item in told.items if item[0] == "left"]


def test_45_close_ends_suspended_sessions_and_leaves_nothing(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    # Whatever outlives the test is found by the fixture that looks for threads.
    server = make_server(resume_window=3600.0, call_timeout=3600.0)
    told = story(server)
    raw = make_raw_client(server)
    session = raw.begin("ann")
    conn = connection_of(server)
    raw.send_frame("number", 1)
    future = conn.submit("any")
    conn.send("news", 1)
    suspend(raw, conn)
    server.close()
    assert told.wait_for(5) == ["joined", "connected", "suspended", *ends(*CLOSED)]
    is_disconnected(future, *CLOSED)
    assert conn.state == "closed"
    assert not server.clients
    server.start()
    back = make_raw_client(server)
    assert back.begin("ann", {"id": session["id"], "received": 0})["resumed"] is False


def test_close_of_the_server_ends_open_sessions_for_good(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(resume_window=3600.0)
    told = story(server)
    raw = make_raw_client(server)
    raw.begin("ann")
    closing = Thread(server.close)
    assert raw.recv_close() == CLOSED
    raw.close(*CLOSED)
    closing.result()
    assert told.wait_for(4) == ["joined", "connected", *ends(*CLOSED)]


def test_39_a_client_of_a_server_that_is_gone_learns_what_became_of_its_frames(
    make_server: MakeServer,
    make_client: MakeClient,
    endpoints: contextlib.ExitStack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wse_sync.core.delivery.ACK_SECONDS", 3600.0)
    first = make_server()
    port = first.port
    arrived = [payloads(first, "a"), payloads(first, "b")]
    # Held by the client, so that the server can end.
    go_on = threading.Event()
    first.register("slow", lambda conn, payload: conn.call("hold"))
    proxy = endpoints.enter_context(FaultProxy(first.url))
    client = make_client(proxy.url, reconnect=True, backoff=QUICK, call_timeout=None)
    held = Recorder()

    def hold(payload: Any) -> None:
        held.add(payload)
        wait_event(go_on)

    client.register("hold", hold)
    errors = Recorder()
    client.when.error(lambda error: errors.add(error) if error.details.get("messages") else None)
    client.connect("ann")
    written = client.submit("slow")
    held.wait_for(1)
    for number, type in enumerate(["a", "b", "a"]):
        client.send(type, number)
    arrived[0].wait_for(2)
    arrived[1].wait_for(1)
    # What the server says at its end does not arrive: as if it had been killed.
    proxy.stall(to_server=False)
    first.close(timeout=0.1)
    proxy.cut()
    wait_until(lambda: client.status == WSE_STATUS.RE_CONNECTING, client)
    assert not written.done()
    client.send("a", "unwritten")
    unwritten = client.submit("double", 2)
    second = make_server(port=port, start=False)
    seen = payloads(second, "a")
    told = story(second)
    second.register("double", lambda conn, n: 2 * n)
    second.start()
    is_disconnected(written, *EXPIRED)
    assert unwritten.result(PATIENCE) == 4
    assert seen.wait_for(1) == ["unwritten"]
    (report,) = errors.wait_for(1)
    assert report.code == WSE_ERROR.CONNECTION_CLOSED
    assert report.details["messages"] == {"a": 2, "b": 1}
    assert told.wait_for(2) == ["joined", "connected"]
    go_on.set()


def test_39_what_a_server_has_when_it_closes_is_not_reported_as_lost(
    make_server: MakeServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wse_sync.core.delivery.ACK_SECONDS", 3600.0)
    first = make_server()
    port, arrived = first.port, payloads(first, "a")
    client = make_client(first, reconnect=True, backoff=QUICK)
    errors, welcomes = Recorder(), Recorder()
    client.when.error(errors)
    client.when.ready(welcomes)
    client.connect("ann")
    client.send("a", 1)
    arrived.wait_for(1)
    first.close()
    make_server(port=port)
    welcomes.wait_for(2)
    client.disconnect()
    assert errors.items == []


@pytest.mark.parametrize("state", ["open", "suspended"])
def test_33_a_jump_leaves_the_session_behind(
    make_server: MakeServer,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
) -> None:
    monkeypatch.setattr("wse_sync.core.delivery.ACK_SECONDS", 3600.0)
    with Pair(make_server(), make_client, call_timeout=None) as pair, RawPeers() as there:
        go_on, errors, numbers = threading.Event(), Recorder(), payloads(pair.server)
        pair.client.when.error(errors)
        pair.server.register("slow", lambda conn, payload: wait_event(go_on))
        pair.client.register("slow", lambda payload: wait_event(go_on))
        theirs = pair.conn.submit("slow", timeout=None)
        ours = pair.client.submit("slow")
        pair.client.send("number", 1)
        numbers.wait_for(1)
        if state == "suspended":
            pair.cut()
            pair.client.send("number", 2)
        jumping = Thread(lambda: pair.client.jump(there.url))
        peer = there.next()
        # The secret is for nobody else.
        assert peer.grant()["wse"] == {"v": 1, "session": None}
        jumping.result()
        is_disconnected(ours, 4000, "jump")
        if state == "open":
            is_disconnected(theirs, 4000, "jump")
            assert pair.story.wait_for(4)[2:] == ends(4000, "jump")
            assert errors.items == []
        else:
            # Nobody could tell the server: it waits for its window to end.
            assert pair.conn.state == "suspended"
            assert peer.recv_frame() == ["number", 2, None]
            (report,) = errors.wait_for(1)
            assert report.details["messages"] == {"number": 1}
        go_on.set()


def test_34_disconnect_ends_the_session_on_purpose(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with Pair(make_server(), make_client, call_timeout=None) as pair:
        go_on = threading.Event()
        pair.server.register("slow", lambda conn, payload: wait_event(go_on))
        future = pair.client.submit("slow")
        pair.client.send("number", 1)
        pair.client.disconnect("enough")
        assert pair.story.wait_for(4) == ["joined", "connected", *ends(1000, "enough")]
        is_disconnected(future, 1000, "enough")
        go_on.set()


def test_39_a_client_that_is_refused_at_the_reconnect_is_offline(
    make_server: MakeServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wse_sync.core.delivery.ACK_SECONDS", 3600.0)
    banned = threading.Event()

    def identify(auth: AuthRequest) -> None:
        auth.accept("" if banned.is_set() else auth.identity)

    with Pair(make_server(identify), make_client, call_timeout=None) as pair:
        go_on, began = threading.Event(), Recorder()
        errors = Recorder()
        pair.client.when.error(errors)
        numbers = payloads(pair.server)

        def slow(conn: WseConnection, payload: Any) -> None:
            began.add(payload)
            wait_event(go_on)

        pair.server.register("slow", slow)
        calls = [pair.client.submit("slow")]
        pair.client.send("number", 1)
        began.wait_for(1)
        numbers.wait_for(1)
        pair.cut()
        pair.client.send("number", 2)
        calls.append(pair.client.submit("slow"))
        banned.set()
        pair.proxy.admit()
        assert pair.client.wait(PATIENCE)
        assert pair.client.status == WSE_STATUS.OFFLINE
        for call in calls:
            is_disconnected(call, 1000, "wse.not-authorized")
        (report,) = errors.wait_for(1)
        assert report.details["messages"] == {"number": 2}
        is_not_ready(lambda: pair.client.send("number", 3))
        assert pair.conn.state == "suspended"
        go_on.set()


def test_a_client_that_does_not_reconnect_has_no_session(make_client: MakeClient) -> None:
    with RawPeers() as peers:
        client = make_client(peers.url, call_timeout=None)
        connecting = Thread(lambda: client.connect("ann"))
        peer = peers.next()
        peer.welcome(None, {"v": 1, "cid": "ann", "session": None})
        connecting.result()
        assert client.cid == "ann"
        numbers = payloads(client)
        for number in range(200):
            peer.send_frame("number", number)
        peer.sync()
        numbers.wait_for(200)
        future = client.submit("any")
        assert peer.recv_frame()[0] == "any"
        peer.abort()
        is_disconnected(future, 1006, "")
        assert client.wait(PATIENCE)


# How many


def test_the_longest_suspended_session_goes_when_there_are_too_many(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(max_suspended=2)
    gone = Recorder()
    server.when.disconnected(lambda conn, *why: gone.add((conn.cid, *why)))
    raws = {cid: make_raw_client(server) for cid in ("ann", "bob", "cyd", "dan")}
    ids = {cid: raw.begin(cid)["id"] for cid, raw in raws.items()}
    conns = {cid: connection_of(server, cid) for cid in raws}
    calls = {cid: conn.submit("any", timeout=None) for cid, conn in conns.items()}
    for cid in ("cyd", "ann"):
        suspend(raws[cid], conns[cid])
    assert gone.items == []
    suspend(raws["dan"], conns["dan"])
    assert gone.wait_for(1) == [("cyd", *EXPIRED)]
    is_disconnected(calls["cyd"], *EXPIRED)
    suspend(raws["bob"], conns["bob"])
    assert gone.wait_for(2) == [("cyd", *EXPIRED), ("ann", *EXPIRED)]
    for cid, resumed in [("ann", False), ("bob", True), ("cyd", False), ("dan", True)]:
        back = make_raw_client(server)
        assert back.begin(cid, {"id": ids[cid], "received": 0})["resumed"] is resumed
    assert len(gone) == 2


def test_whoever_comes_back_makes_room_for_another(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(max_suspended=1)
    told = story(server, "disconnected", "suspended")
    for number in range(1, 6):
        raw = make_raw_client(server)
        session = raw.begin(f"user {number}")
        suspend(raw, connection_of(server, f"user {number}"))
        back = make_raw_client(server)
        assert back.begin(f"user {number}", {"id": session["id"], "received": 0})["resumed"]
        assert told.wait_for(number) == ["suspended"] * number


# How much


@pytest.mark.parametrize(
    ("limits", "size"),
    [({"resume_buffer_frames": 5}, 1), ({"resume_buffer_bytes": 10_000}, 1950)],
    ids=["frames", "bytes"],
)
def test_a_suspended_session_ends_at_the_bound_of_its_buffer(
    make_server: MakeServer, make_raw_client: MakeRawClient, limits: dict[str, Any], size: int
) -> None:
    server = make_server(**limits)
    told = story(server)
    raw = make_raw_client(server)
    session = raw.begin("ann")
    conn = connection_of(server)
    # What was sent and not acknowledged counts as well.
    conn.send("news", "x" * size)
    future = conn.submit("any", "x" * size, timeout=None)
    for _ in range(2):
        raw.recv_frame()
    suspend(raw, conn)
    conn.send("news", "x" * size)
    assert server.send("ann", "news", "x" * size) == 1
    assert server.broadcast("news", "x" * size) == 1
    assert not future.done()
    is_not_ready(lambda: conn.send("news", "x" * size))
    is_disconnected(future, *SLOW)
    assert told.wait_for(5) == ["joined", "connected", "suspended", *ends(*SLOW)]
    assert conn.state == "closed"
    back = make_raw_client(server)
    assert back.begin("ann", {"id": session["id"], "received": 2})["resumed"] is False


@pytest.mark.parametrize("how", ["server.send", "broadcast"])
def test_sending_to_many_does_not_count_a_session_that_is_full(
    make_server: MakeServer, make_raw_client: MakeRawClient, how: str
) -> None:
    server = make_server(resume_buffer_frames=2, conn_per_user=2)
    told = story(server, "disconnected")
    full, healthy = make_raw_client(server), make_raw_client(server)
    full.begin("ann")
    conn = connection_of(server)
    healthy.begin("ann")
    suspend(full, conn)
    for number in (1, 2, 3):
        sent = server.send("ann", "n", number) if how == "server.send" else server.broadcast("n")
        assert sent == (1 if number == 3 else 2)
        healthy.recv_frame()
        healthy.send_frame(ACK, number)
        healthy.sync()
    assert told.wait_for(1) == [("disconnected", *SLOW)]
    healthy.sync()


@pytest.mark.parametrize(
    ("limits", "size"),
    [({"resume_buffer_frames": 20}, 1), ({"resume_buffer_bytes": 20_000}, 1000)],
    ids=["frames", "bytes"],
)
def test_42_a_reader_that_acknowledges_nothing_is_closed(
    make_server: MakeServer, make_raw_client: MakeRawClient, limits: dict[str, Any], size: int
) -> None:
    server = make_server(**limits)
    told = story(server)
    raw = make_raw_client(server)
    session = raw.begin("ann")
    conn = connection_of(server)
    future = conn.submit("any", timeout=None)
    for _ in range(30):
        conn.send("news", "x" * size)
    pass_time(4.0)
    assert raw.recv_close() == SLOW
    assert told.wait_for(4) == ["joined", "connected", *ends(*SLOW)]
    is_disconnected(future, *SLOW)
    back = make_raw_client(server)
    assert back.begin("ann", {"id": session["id"], "received": 0})["resumed"] is False


@pytest.mark.parametrize("received", [9, 10])
def test_what_the_buffer_could_not_hold_cannot_be_sent_again(
    make_server: MakeServer, make_raw_client: MakeRawClient, received: int
) -> None:
    server = make_server(resume_buffer_frames=20)
    told = story(server, "disconnected")
    raw = make_raw_client(server)
    session = raw.begin("ann")
    conn = connection_of(server)
    for number in range(30):
        conn.send("news", number)
    suspend(raw, conn)
    back = make_raw_client(server)
    again = back.begin("ann", {"id": session["id"], "received": received})
    if received == 10:
        assert again["resumed"] is True
        assert [back.recv_frame()[1] for _ in range(20)] == list(range(10, 30))
    else:
        assert again["resumed"] is False
        assert told.wait_for(1) == [("disconnected", *EXPIRED)]


def test_37_a_burst_of_more_than_the_buffer_holds_reaches_a_healthy_client_whole(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server(resume_buffer_frames=100, resume_buffer_bytes=10_000)
    with Pair(server, make_client) as pair:
        down = payloads(pair.client)
        for number in range(0, 6000, 3):
            pair.conn.send("number", number)
            assert server.send("ann", "number", number + 1) == 1
            assert server.broadcast("number", number + 2) == 1
        assert down.wait_for(6000) == list(range(6000))
        # And once it is acknowledged, the session can be resumed again.
        pair.cut()
        pair.conn.send("number", 6000)
        pair.back()
        assert down.wait_for(6001)[-1] == 6000
        assert pair.story.items == ["joined", "connected", "suspended", "resumed"]


def full(peers: RawPeers, make_client: MakeClient, **limits: Any) -> tuple[RawPeer, WseClient]:
    """A client that has sent as much as may be unacknowledged: five frames."""
    client = make_client(peers.url, reconnect=True, backoff=QUICK, **limits)
    connecting = Thread(lambda: client.connect("ann"))
    peer = peers.next()
    peer.grant()
    connecting.result()
    for number in range(5):
        client.send("number", [number, "x" * 100])
    assert [peer.recv_frame()[1][0] for _ in range(5)] == list(range(5))
    return peer, client


FULL = pytest.mark.parametrize(
    "limits",
    [{"resume_buffer_frames": 5}, {"resume_buffer_bytes": 700}],
    ids=["frames", "bytes"],
)


@FULL
def test_37_a_client_whose_buffer_is_full_waits_for_acknowledgements(
    make_client: MakeClient, limits: dict[str, int]
) -> None:
    with RawPeers() as peers:
        peer, client = full(peers, make_client, **limits)

        def send() -> None:
            for number in range(5, 15):
                client.send("number", [number, "x" * 100])

        sending = Thread(send)
        for acked in (3, 5, 6, 11):
            for _ in range(20):
                peer.sync()
            assert sending.is_alive()
            peer.send_frame(ACK, acked)
            last = min(acked + 4, 14)
            while peer.recv_frame()[1][0] < last:
                continue
        sending.result()
        peer.sync()


@FULL
def test_38_the_timeout_of_a_call_counts_while_it_waits_for_acknowledgements(
    make_client: MakeClient, limits: dict[str, int]
) -> None:
    with RawPeers() as peers:
        peer, client = full(peers, make_client, **limits)
        with pytest.raises(TimeoutError) as caught:
            client.call("any", "x" * 100, timeout=0.1)
        assert isinstance(caught.value, WseError)
        assert caught.value.code == WSE_ERROR.RP_TIMEOUT
        peer.send_frame(ACK, 5)
        client.send("number", [5])
        assert peer.recv_frame() == ["number", [5], None]


def test_37_a_client_that_waits_for_acknowledgements_is_told_when_the_link_is_lost(
    make_client: MakeClient,
) -> None:
    with RawPeers() as peers:
        peer, client = full(peers, make_client, resume_buffer_frames=5)
        sending = Thread(lambda: client.send("number", [5]))
        for _ in range(20):
            peer.sync()
        peer.abort()
        back = peers.next()
        is_not_ready(sending.result)
        back.grant(resumed=True, received=2)
        assert [back.recv_frame()[1][0] for _ in range(3)] == [2, 3, 4]
        client.send("number", [5])
        assert back.recv_frame() == ["number", [5], None]


def test_37_between_links_a_client_keeps_no_more_than_it_may(
    make_test_server: MakeTestServer,
) -> None:
    test = make_test_server()
    numbers = payloads(test.server)
    client = test.connect("ann", reconnect=True, resume_buffer_frames=5)
    with test.unreachable():
        test.cut()
        for number in range(4):
            client.send("number", number)
        future = client.submit("any")
        is_not_ready(lambda: client.send("number", 5))
        is_not_ready(lambda: client.submit("any"))

    def send_more() -> None:
        for number in range(4, 10):
            client.send("number", number)

    test.advance(30.0)
    assert isinstance(future.exception(PATIENCE), LookupError)
    sending = Thread(send_more)
    # It waits for acknowledgements, which come a second after what they are for.
    test.advance_until(lambda: len(numbers) == 10)
    sending.result()
    assert numbers.items == list(range(10))


def test_19_a_handler_that_answers_a_flood_does_not_wait_for_ever(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    """It waits for acknowledgements, which stand behind what the reader has no room for."""
    go_on = threading.Event()
    bounds = {"max_queue_bytes": 100_000, "resume_buffer_frames": 100}
    with Pair(make_server(), make_client, **bounds) as pair:

        def reply(number: int) -> None:
            wait_event(go_on)
            pair.client.send("number", number)

        pair.client.channel.on("number", reply)
        numbers = payloads(pair.server)
        for number in range(600):
            pair.conn.send("number", number)
        go_on.set()
        assert numbers.wait_for(600) == list(range(600))


def test_calls_that_have_timed_out_take_no_room_while_a_device_is_away(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(resume_buffer_frames=3)
    raw = make_raw_client(server)
    raw.begin("ann")
    conn = connection_of(server)
    suspend(raw, conn)
    for _ in range(10):
        with pytest.raises(TimeoutError):
            conn.call("battery", timeout=0.01)
    conn.send("news", "still there")
    assert conn.state == "suspended"
