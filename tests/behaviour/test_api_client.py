"""The client's members, one by one, as the API says."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from typing import Any

import pytest

from tests.conftest import Connect, MakeClient, MakeRawServer, MakeServer
from tests.faults import FaultProxy
from tests.support import NEVER, PATIENCE, QUICK, RawPeer, Recorder, Thread, wait_event, wait_until
from wse_sync import (
    WSE_ERROR,
    WSE_STATUS,
    AuthRequest,
    WseClient,
    WseConnection,
    WseError,
    WseServer,
)


def conn_of(server: WseServer, cid: str = "ann") -> WseConnection:
    (conn,) = server.clients[cid].conns.values()
    return conn


# Making one


def test_making_a_client_dials_nobody(make_server: MakeServer) -> None:
    with FaultProxy(make_server().url) as proxy:
        client = WseClient(proxy.url, reconnect=True)
        assert client.url == proxy.url
        assert client.status == WSE_STATUS.IDLE
        assert client.cid is None
        assert proxy.accepted == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "127.0.0.1:80", "", "ws://"])
def test_a_url_that_is_none_is_an_error_that_shows_it(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        WseClient(url).connect("ann")
    assert isinstance(caught.value, WseError)
    assert repr(url) in str(caught.value) or url in str(caught.value)


def test_options_are_keyword_only() -> None:
    positional: Any = WseClient
    with pytest.raises(TypeError):
        positional("ws://127.0.0.1:9/", True)


def test_the_repr_says_class_state_and_peer(make_server: MakeServer, connect: Connect) -> None:
    client = connect(make_server())
    assert "WseClient" in repr(client)
    assert "READY" in repr(client)
    assert client.url in repr(client)
    client.disconnect()
    assert "OFFLINE" in repr(client)


# connect


def test_connect_needs_no_arguments(make_server: MakeServer, make_client: MakeClient) -> None:
    asked = Recorder()

    def identify(auth: AuthRequest) -> None:
        asked.add((auth.identity, auth.meta))
        auth.accept("ann")

    make_client(make_server(identify)).connect()
    assert asked.items == [("", {})]


def test_a_callable_identity_is_called_before_every_attempt(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with FaultProxy(make_server().url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=QUICK)
        tokens = iter(f"token-{number}" for number in range(1000))
        ready, called = Recorder(), Recorder()
        client.when.ready(ready)

        def identity() -> str:
            token = next(tokens)
            called.add(token)
            return token

        assert client.connect(identity) == {"hello": "token-0"}
        assert called.items == ["token-0"]
        proxy.cut()
        second = ready.wait_for(2)[1]
        assert second == {"hello": called.items[-1]}
        assert len(called) >= 2


def test_an_identity_that_raises_fails_the_connect(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    client = make_client(make_server())

    def identity() -> str:
        raise KeyError("no token")

    with pytest.raises((KeyError, WseError)):
        client.connect(identity)
    assert client.status == WSE_STATUS.OFFLINE
    assert client.connect("ann") == {"hello": "ann"}


def test_an_identity_that_raises_after_the_first_welcome_is_asked_again(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with FaultProxy(make_server().url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=QUICK)
        answers = iter(["first", KeyError("no token"), "third"])
        ready, errors = Recorder(), Recorder()
        client.when.ready(ready)
        client.when.error(errors)

        def identity() -> str:
            answer = next(answers)
            if isinstance(answer, KeyError):
                raise answer
            return str(answer)

        client.connect(identity)
        proxy.cut()
        assert ready.wait_for(2) == [{"hello": "first"}, {"hello": "third"}]
        assert [type(error) for error in errors.wait_for(1)] == [KeyError]


def test_what_cannot_be_packed_as_identity_raises_at_the_caller(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    client = make_client(make_server(), reconnect=True, backoff=QUICK)
    with pytest.raises(TypeError) as caught:
        client.connect({"token": object()})
    assert isinstance(caught.value, WseError)
    assert "object" in str(caught.value)
    assert client.connect("ann") == {"hello": "ann"}


def test_ws_options_reach_the_upgrade(
    make_client: MakeClient, make_raw_server: MakeRawServer
) -> None:
    seen = Recorder()

    def script(peer: RawPeer) -> None:
        seen.add((peer.path, dict(peer.headers)))
        peer.welcome()
        peer.recv_close()

    server = make_raw_server(script)
    client = make_client(
        f"{server.url}chat?room=blue",
        ws_options={
            "header": {"X-Device": "pi"},
            "cookie": "session=secret",
            "origin": "https://chat.example.org",
        },
    )
    client.connect()
    ((path, headers),) = seen.items
    assert path == "/chat?room=blue"
    assert headers["x-device"] == "pi"
    assert headers["cookie"] == "session=secret"
    assert headers["origin"] == "https://chat.example.org"
    client.disconnect()


def test_the_first_frame_is_what_the_wire_says(
    make_client: MakeClient, make_raw_server: MakeRawServer
) -> None:
    frames, offered = Recorder(), Recorder()

    def script(peer: RawPeer) -> None:
        offered.add(peer.request.subprotocols)
        frames.add(peer.recv_frame())
        peer.send_frame("~wse:welcome")
        peer.recv_close()

    client = make_client(make_raw_server(script))
    assert client.connect({"token": "t"}, {"device": "pi"}) is None
    ((type, hi, stamp),) = frames.items
    assert (type, stamp) == ("~wse:hi", None)
    assert hi["identity"] == {"token": "t"}
    assert hi["meta"] == {"device": "pi"}
    assert offered.items == [["wse-default-json"]]
    client.disconnect()


# challenge


def test_a_challenge_without_a_solver_fails_the_connect(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    server.use_challenge(lambda auth: "quest")
    client = make_client(server, reconnect=True, backoff=QUICK)
    with pytest.raises(WseError) as caught:
        client.connect("ann")
    assert caught.value.code == WSE_ERROR.INVALID_CRA_HANDLER
    assert client.status == WSE_STATUS.OFFLINE


@pytest.mark.parametrize("solver", [None, "secret", 42])
def test_a_solver_that_cannot_be_called_is_refused(make_client: MakeClient, solver: Any) -> None:
    with pytest.raises(WseError) as caught:
        make_client("ws://127.0.0.1:9/").challenge(solver)
    assert caught.value.code == WSE_ERROR.INVALID_CRA_HANDLER


def test_challenge_decorates(make_server: MakeServer, make_client: MakeClient) -> None:
    def identify(auth: AuthRequest) -> None:
        assert auth.challenge is not None
        auth.accept("ann", auth.challenge.response)

    server = make_server(identify)
    server.use_challenge(lambda auth: 21)
    client = make_client(server)

    @client.challenge
    def solve(quest: int) -> int:
        return quest * 2

    assert solve(1) == 2
    assert client.connect() == 42


def test_a_solver_that_raises_fails_the_connect(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    server.use_challenge(lambda auth: "quest")
    client = make_client(server)

    def solve(quest: str) -> str:
        raise KeyError("no secret")

    client.challenge(solve)
    with pytest.raises((KeyError, WseError)):
        client.connect("ann")
    assert client.status == WSE_STATUS.OFFLINE


# register, submit


def test_register_decorates(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    client = connect(server)

    @client.register("double")
    def double(payload: int) -> int:
        return payload * 2

    assert double(2) == 4
    assert conn_of(server).call("double", 4) == 8


def test_submit_gives_a_future(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    server.register("add", lambda conn, pair: sum(pair))
    client = connect(server)
    future = client.submit("add", [1, 2])
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(PATIENCE) == 3
    called_back = Recorder()
    client.submit("unknown").add_done_callback(lambda done: called_back.add(done.exception()))
    (error,) = called_back.wait_for(1)
    assert isinstance(error, LookupError)


def test_a_callback_of_a_future_may_call(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    server.register("add", lambda conn, pair: sum(pair))
    client = connect(server)
    sums = Recorder()
    first = client.submit("add", [1, 2])
    first.add_done_callback(
        lambda done: client.submit("add", [done.result(), 10]).add_done_callback(
            lambda last: sums.add(last.result())
        )
    )
    assert sums.wait_for(1) == [13]


@pytest.mark.parametrize("type", ["~wse:hi", "~wse:response", "~wse:welcome", "~wse:challenge"])
def test_types_of_the_protocol_are_refused_everywhere(
    make_server: MakeServer, connect: Connect, type: str
) -> None:
    client = connect(make_server())
    attempts: list[Any] = [
        lambda: client.send(type),
        lambda: client.call(type),
        lambda: client.submit(type).result(PATIENCE),
        lambda: client.register(type, lambda payload: None),
        lambda: client.channel.on(type, lambda payload: None),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError) as caught:
            attempt()
        assert isinstance(caught.value, WseError)
        assert type in str(caught.value)
    assert client.status == WSE_STATUS.READY


# channel


def test_channel_on_once_and_off(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    client = connect(server)
    always, once, removed, end, ignored = (Recorder() for _ in range(5))
    client.channel.on("news", always)
    client.channel.once("news", once)
    client.channel.on("news", removed)
    client.channel.off("news", removed)
    client.channel.on("end", end)
    client.when.ignored(ignored)
    for number in range(3):
        server.broadcast("news", number)
    server.broadcast("unheard", 7)
    server.broadcast("end")
    end.wait_for(1)
    assert always.items == [0, 1, 2]
    assert once.items == [0]
    assert removed.items == []
    assert ignored.wait_for(1) == [("unheard", 7)]


def test_channel_on_decorates(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    client = connect(server)
    heard = Recorder()

    @client.channel.on("news")
    def news(payload: Any) -> str:
        heard.add(payload)
        return "itself"

    assert news(0) == "itself"
    server.broadcast("news", 1)
    assert heard.wait_for(2) == [0, 1]


def test_handlers_run_in_the_order_of_binding_and_one_that_raises_stops_no_other(
    make_server: MakeServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()
    client = connect(server)
    heard, errors = Recorder(), Recorder()
    client.when.error(errors)

    def fail(payload: Any) -> None:
        heard.add("fails")
        raise KeyError("of the handler")

    client.channel.on("news", lambda payload: heard.add("first"))
    client.channel.on("news", fail)
    client.channel.on("news", lambda payload: heard.add("last"))
    with caplog.at_level(logging.ERROR, "wse_sync.client"):
        server.broadcast("news")
        assert heard.wait_for(3) == ["first", "fails", "last"]
        (error,) = errors.wait_for(1)
    assert isinstance(error, KeyError)
    assert "of the handler" in caplog.text
    assert "Traceback" in caplog.text
    assert client.status == WSE_STATUS.READY


def test_wait_returns_the_next_payload(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    client = connect(server)
    ignored = Recorder()
    client.when.ignored(ignored)
    waiting = Thread(lambda: client.channel.wait("news", timeout=PATIENCE))
    numbers = iter(range(1_000_000))
    # When the wait has begun is not to be seen from here, so there is always a next one.
    wait_until(lambda: server.broadcast("news", next(numbers)) and not waiting.is_alive())
    assert isinstance(waiting.result(), int)


def test_wait_times_out(make_server: MakeServer, connect: Connect) -> None:
    client = connect(make_server())
    with pytest.raises(TimeoutError):
        client.channel.wait("news", timeout=0.05)


def test_wait_and_listen_end_when_the_client_is_offline_for_good(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    client = connect(server)
    began = threading.Event()

    def listen() -> list[Any]:
        with client.channel.listen("news") as inbox:
            began.set()
            return list(inbox)

    listening = Thread(listen)
    wait_event(began)
    (conn,) = server.clients["ann"].conns.values()
    client.register("flushed", lambda payload: payload)
    server.broadcast("news", 1)
    # A call starts after the messages before it.
    assert conn.call("flushed", 1) == 1
    client.disconnect()
    assert listening.result() == [("news", 1)]
    with pytest.raises(ConnectionError) as caught:
        client.channel.wait("news")
    assert isinstance(caught.value, WseError)
    assert caught.value.code == WSE_ERROR.CONNECTION_CLOSED


def test_a_wait_that_is_going_on_ends_with_the_client(
    make_server: MakeServer, connect: Connect
) -> None:
    client = connect(make_server())
    waiting = Thread(lambda: client.channel.wait("never"))
    client.disconnect()
    with pytest.raises(ConnectionError) as caught:
        waiting.result()
    assert isinstance(caught.value, WseError)
    assert caught.value.code == WSE_ERROR.CONNECTION_CLOSED


def test_listen_iterates_over_the_types_it_was_given(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    client = connect(server)
    ignored = Recorder()
    client.when.ignored(ignored)
    with client.channel.listen("news", "end") as inbox:
        for number in range(5):
            server.broadcast("news", number)
            server.broadcast("other", number)
        server.broadcast("end")
        received = []
        for type, payload in inbox:
            if type == "end":
                break
            received.append((type, payload))
    assert received == [("news", number) for number in range(5)]
    # What was listened to counts as handled, the rest does not.
    assert ignored.wait_for(5) == [("other", number) for number in range(5)]


def test_listen_without_types_hears_everything(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    client = connect(server)
    with client.channel.listen() as inbox:
        server.broadcast("one", 1)
        server.broadcast("two", 2)
        items = iter(inbox)
        assert [next(items), next(items)] == [("one", 1), ("two", 2)]


def test_a_full_inbox_pushes_back_and_drops_nothing(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    client = connect(server)
    server.register("echo", lambda conn, payload: payload)
    with client.channel.listen("news", max_items=3) as inbox:
        for number in range(100):
            server.broadcast("news", number)
        # The lane waits, the connection does not.
        assert client.call("echo", 1) == 1
        items = iter(inbox)
        assert [next(items)[1] for _ in range(100)] == list(range(100))


# when


def test_late_handlers_of_ready_and_updated_are_called_at_once(
    make_server: MakeServer, connect: Connect
) -> None:
    client = connect(make_server())
    early, ready, updated = Recorder(), Recorder(), Recorder()
    client.when.updated(early)
    # The signals follow connect() a moment later.
    early.wait_until(lambda items: WSE_STATUS.READY in items)
    client.when.ready(ready)
    client.when.updated(updated)
    assert ready.wait_for(1) == [{"hello": "ann"}]
    assert updated.wait_for(1) == [WSE_STATUS.READY]
    client.disconnect()
    updated.wait_until(lambda items: items[-1:] == [WSE_STATUS.OFFLINE])
    late = Recorder()
    client.when.updated(late)
    assert late.wait_for(1) == [WSE_STATUS.OFFLINE]


def test_every_member_of_when_is_a_signal(make_server: MakeServer, make_client: MakeClient) -> None:
    client = make_client(make_server())
    received = Recorder()

    def receiver(name: str) -> Any:
        def receive(sender: Any, **values: Any) -> None:
            received.add((name, sender, values))

        return receive

    receivers = {}
    for name in ("connected", "ready", "closed", "error", "updated", "ignored"):
        receivers[name] = receiver(name)
        getattr(client.when, name).connect(receivers[name])
    client.connect("ann")
    client.disconnect("bye")
    items = received.wait_until(lambda items: [each for each in items if each[0] == "closed"])
    assert all(sender is client for _, sender, _ in items)
    assert ("connected", client, {}) in items
    assert ("ready", client, {"welcome": {"hello": "ann"}}) in items
    assert ("closed", client, {"code": 1000, "reason": "bye"}) in items
    assert ("updated", client, {"status": WSE_STATUS.READY}) in items


def test_binding_returns_the_handler_and_holds_it(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    client = make_client(make_server())
    order = Recorder()

    @client.when.ready
    def first(welcome: Any) -> str:
        order.add("first")
        return "itself"

    assert first(None) == "itself"
    # Nobody else holds these.
    client.when.ready(lambda welcome: order.add("second"))
    client.when.ready(lambda welcome: order.add("third"))
    client.connect("ann")
    assert order.wait_for(4) == ["first", "first", "second", "third"]


def test_a_signal_handler_that_raises_is_logged_and_stops_no_other(
    make_server: MakeServer, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(make_server())
    errors, after = Recorder(), Recorder()
    client.when.error(errors)

    def fail(welcome: Any) -> None:
        raise KeyError("of the handler")

    client.when.ready(fail)
    client.when.ready(after)
    with caplog.at_level(logging.ERROR, "wse_sync.client"):
        client.connect("ann")
        after.wait_for(1)
        (error,) = errors.wait_for(1)
    assert isinstance(error, KeyError)
    assert "of the handler" in caplog.text
    assert client.status == WSE_STATUS.READY


def test_closed_fires_for_every_lost_link(make_server: MakeServer, make_client: MakeClient) -> None:
    with FaultProxy(make_server().url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=QUICK)
        ready, closed = Recorder(), Recorder()
        client.when.ready(ready)
        client.when.closed(lambda code, reason: closed.add(code))
        client.connect("ann")
        for links in (2, 3, 4):
            proxy.cut()
            ready.wait_for(links)
        client.disconnect()
        assert closed.wait_for(4) == [1006, 1006, 1006, 1000]


def test_frames_that_make_no_sense_are_reported_and_close_the_link(
    make_client: MakeClient, make_raw_server: MakeRawServer
) -> None:
    closes = Recorder()
    junk: list[str | bytes] = [
        "junk",
        "{}",
        "[]",
        '[""]',
        "[5]",
        b"\xff\xfe",
        '["~wse:hi"]',
        '["x", NaN]',
    ]

    def script(peer: RawPeer) -> None:
        peer.welcome()
        peer.send(junk[peer.number])
        closes.add(peer.recv_close())

    server = make_raw_server(script)
    for number in range(len(junk)):
        client = make_client(server, reconnect=True, backoff=QUICK)
        errors = Recorder()
        client.when.error(errors)
        client.connect("ann")
        assert client.wait(PATIENCE), junk[number]
        assert closes.wait_for(number + 1)[number] == (1000, "wse.protocol-error"), junk[number]
        (error,) = errors.wait_for(1)
        assert error.code in {
            WSE_ERROR.MESSAGE_PROCESSING_ERROR,
            WSE_ERROR.PROTOCOL_VIOLATION,
        }


def test_frames_before_the_welcome_mean_nothing(
    make_client: MakeClient, make_raw_server: MakeRawServer
) -> None:
    def script(peer: RawPeer) -> None:
        peer.send_frame("news", "too early")
        peer.send_frame("procedure", 1, "STAMP")
        peer.welcome("at last")
        peer.send_frame("news", "in time")
        peer.recv_close()

    client = make_client(make_raw_server(script))
    heard = Recorder()
    client.channel.on("news", heard)
    client.register("procedure", heard)
    assert client.connect("ann") == "at last"
    assert heard.wait_for(1) == ["in time"]
    client.disconnect()


def test_errors_of_procedures_are_reported_with_their_cause(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    client = connect(server)
    errors = Recorder()
    client.when.error(errors)

    def fail(payload: Any) -> None:
        raise KeyError("of the procedure")

    client.register("fails", fail)
    with pytest.raises(WseError):
        conn_of(server).call("fails")
    (error,) = errors.wait_for(1)
    assert isinstance(error, WseError)
    assert error.code == WSE_ERROR.RP_EXECUTION_FAILED
    assert error.details["rp"] == "fails"
    assert isinstance(error.__cause__, KeyError)


@pytest.mark.parametrize("debug", [False, True])
def test_a_traceback_travels_only_with_debug(
    make_server: MakeServer, connect: Connect, debug: bool
) -> None:
    server = make_server()
    client = connect(server, debug=debug)

    def fail(payload: Any) -> None:
        raise KeyError("of the procedure")

    client.register("fails", fail)
    with pytest.raises(WseError) as caught:
        conn_of(server).call("fails")
    origin = caught.value.details["origin"]
    assert origin["name"] == "KeyError"
    assert ("stack" in origin) is debug
    if debug:
        assert "of the procedure" in origin["stack"]


# wait


def test_wait_tells_whether_the_client_is_offline_for_good(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with FaultProxy(make_server().url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=NEVER)
        statuses = Recorder()
        client.when.updated(statuses)
        client.connect("ann")
        assert client.wait(0.01) is False
        proxy.cut()
        statuses.wait_until(lambda items: items[-1:] == [WSE_STATUS.RE_CONNECTING])
        assert client.wait(0.01) is False
        client.disconnect()
        assert client.wait() is True
