"""The server's part of the API reference that no numbered promise spells out."""

from __future__ import annotations

import logging
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Callable

import pytest
import websocket

import wse_sync
from tests.conftest import Connect, MakeClient, MakeRawClient, MakeServer
from tests.programs import SAY_INSIDE, Program
from tests.support import PATIENCE, RawClient, Recorder, Thread, accept_all, wait_event, wait_until
from wse_sync import (
    WSE_ERROR,
    WSE_REASON,
    AuthRequest,
    JsonProtocol,
    WseConnection,
    WseError,
    WseIdentity,
    WseServer,
)


@pytest.fixture
def server(make_server: MakeServer) -> WseServer:
    return make_server()


def connection_of(server: WseServer, cid: str = "ann") -> WseConnection:
    (conn,) = server.clients[cid].conns.values()
    return conn


# The package


def test_the_package_gives_the_public_names() -> None:
    for name in (
        "WseServer",
        "WseClient",
        "WseConnection",
        "WseIdentity",
        "AuthRequest",
        "WseError",
        "WSE_STATUS",
        "WSE_ERROR",
        "WSE_REASON",
        "Protocol",
        "JsonProtocol",
        "Backoff",
    ):
        assert hasattr(wse_sync, name)
        assert name in wse_sync.__all__


def test_making_a_server_starts_no_thread_and_opens_no_socket() -> None:
    threads = threading.active_count()
    server = WseServer(accept_all, port=0)
    assert threading.active_count() == threads
    server.close()


# Life


def test_start_returns_the_server_and_url_and_port_say_where_it_listens(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server(start=False)
    assert server.start() is server
    assert isinstance(server.port, int)
    assert server.port > 0
    assert f"127.0.0.1:{server.port}" in server.url
    assert server.url.startswith("ws://")
    assert make_client(server.url).connect("ann") == {"hello": "ann"}


def test_a_server_without_a_port_cannot_start() -> None:
    with pytest.raises(WseError) as caught:
        WseServer(accept_all).start()
    assert isinstance(caught.value, ValueError)


def test_a_port_that_is_taken_raises(make_server: MakeServer, server: WseServer) -> None:
    other = make_server(start=False, port=server.port)
    with pytest.raises(OSError, match=str(server.port)):
        other.start()


def test_with_starts_and_closes(make_client: MakeClient) -> None:
    with WseServer(accept_all, port=0) as server:
        client = make_client(server)
        client.connect("ann")
        url = server.url
    assert client.wait(PATIENCE)
    with pytest.raises(WseError) as caught:
        make_client(url).connect("ann")
    assert caught.value.code == WSE_ERROR.WS_CLIENT_ERROR


def test_close_tells_every_connection_and_again_has_no_effect(
    server: WseServer, connect: Connect
) -> None:
    closed = Recorder()
    lives = Recorder()
    server.when.disconnected(lambda conn, code, reason: lives.add((conn.cid, code, reason)))
    server.when.left(lambda client, code, reason: lives.add((client.cid, code, reason)))
    for cid in ("ann", "ben"):
        connect(server, cid).when.closed(closed)
    server.close()
    server.close()
    assert closed.wait_for(2) == 2 * [(1012, WSE_REASON.BY_SERVER)]
    assert sorted(lives.items) == [
        ("ann", 1012, "wse.by-server"),
        ("ann", 1012, "wse.by-server"),
        ("ben", 1012, "wse.by-server"),
        ("ben", 1012, "wse.by-server"),
    ]
    assert dict(server.clients) == {}


def test_close_flushes_what_was_sent_before(server: WseServer, connect: Connect) -> None:
    client = connect(server, "ann")
    heard = Recorder()
    client.channel.on("n", heard)
    for number in range(500):
        server.broadcast("n", number)
    server.close()
    assert heard.wait_for(500) == list(range(500))


def test_close_before_start_has_no_effect() -> None:
    server = WseServer(accept_all, port=0)
    server.close()
    with server:
        assert server.port


def test_close_returns_within_its_timeout_while_a_handler_is_blocked(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    entered = threading.Event()
    opened = threading.Event()

    def block(conn: WseConnection, payload: Any) -> None:
        entered.set()
        opened.wait(PATIENCE)

    server.channel.on("block", block)
    client = connect(server, "ann")
    client.send("block")
    wait_event(entered, "the handler")
    try:
        Thread(lambda: server.close(timeout=0.2)).result(PATIENCE / 2)
        assert not opened.is_set()
    finally:
        opened.set()


def test_serve_forever_blocks_until_close(make_client: MakeClient) -> None:
    server = WseServer(accept_all, port=0)
    serving = Thread(server.serve_forever)
    wait_until(lambda: server.port, "a port")
    assert make_client(server).connect("ann") == {"hello": "ann"}
    assert serving.is_alive()
    server.close()
    serving.result()


SERVING = (
    SAY_INSIDE
    + """
from wse_sync import WseServer

server = WseServer(lambda auth: auth.accept("ann"), port=0)
server.when.left(lambda client, code, reason: print("left", code, reason))
server.start()
print(server.url)
say_inside("serve_forever", "wait")
server.serve_forever()
print("returned")
"""
)


def test_ctrl_c_in_serve_forever_closes_in_order_and_returns() -> None:
    with Program(SERVING) as program:
        with RawClient(program.line()) as raw:
            raw.login()
            assert program.line() == "inside"
            program.interrupt()
            assert raw.recv_close() == (1012, "wse.by-server")
        assert program.end() == (0, ["left 1012 wse.by-server", "returned"], [])


def test_path_limits_where_upgrades_are_taken(
    make_server: MakeServer, make_client: MakeClient, make_raw_client: MakeRawClient
) -> None:
    server = make_server(path="/ws")
    assert server.url.endswith("/ws")
    base = server.url[: -len("/ws")]
    assert make_client(base + "/ws").connect("ann") == {"hello": "ann"}
    assert make_raw_client(base + "/ws?token=1").login("ben") == {"hello": "ben"}
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        make_raw_client(base + "/other")
    assert caught.value.status_code == 404


def test_without_a_path_every_path_is_taken(
    server: WseServer, make_raw_client: MakeRawClient
) -> None:
    raw = make_raw_client(f"ws://127.0.0.1:{server.port}/any/where")
    assert raw.login("ann") == {"hello": "ann"}


def http_get(server: WseServer, path: str = "/") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_plain_http_gets_426_with_a_hint(server: WseServer) -> None:
    status, text = http_get(server)
    assert status == 426
    assert "WebSocket" in text


def test_plain_http_goes_to_the_http_app(make_server: MakeServer, make_client: MakeClient) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [environ["PATH_INFO"].encode()]

    server = make_server(http_app=app)
    assert http_get(server, "/page") == (200, "/page")
    assert make_client(server).connect("ann") == {"hello": "ann"}


def test_whoever_is_gone_counts_until_what_came_from_there_is_handled(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    """Else work could be heaped up by coming and going."""
    begun, go_on = Recorder(), threading.Event()

    def handle(conn: WseConnection, payload: Any) -> None:
        begun.add(conn.cid)
        wait_event(go_on)

    server = make_server(max_connections=2)
    server.channel.on("work", handle)
    for name in ("ann", "bob"):
        client = make_client(server)
        client.connect(name)
        client.send("work")
        begun.wait_for(1 + (name == "bob"))
        client.disconnect()
        wait_until(lambda: name not in server.clients, "the user has left")  # noqa: B023
    with pytest.raises(WseError) as caught:
        make_client(server).connect("cid")
    assert caught.value.details["status"] == 503
    stats = server.stats()
    assert (stats.connections, stats.users) == (0, 0)
    assert stats.unhandled_bytes > 0
    go_on.set()
    wait_until(lambda: server.stats().unhandled_bytes == 0, "all is handled")

    def there_is_room_again() -> bool:
        try:
            return bool(make_client(server).connect("cid"))
        except WseError:
            return False

    wait_until(there_is_room_again, "room for one more")
    assert list(server.clients) == ["cid"]


def test_more_connections_than_max_connections_get_503(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(max_connections=2)
    first = make_raw_client(server)
    first.login("ann")
    make_raw_client(server).login("ben")
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        make_raw_client(server)
    assert caught.value.status_code == 503
    first.close()

    def there_is_room_again() -> bool:
        try:
            return bool(make_raw_client(server).login("cleo"))
        except websocket.WebSocketBadStatusException:
            return False

    wait_until(there_is_room_again, "room for one more")


# clients


def test_clients_is_a_read_only_mapping(server: WseServer, connect: Connect) -> None:
    connect(server, "ann")
    connect(server, "ben")
    assert isinstance(server.clients, Mapping)
    assert sorted(server.clients) == ["ann", "ben"]
    assert len(server.clients) == 2
    assert "ann" in server.clients
    assert "nobody" not in server.clients
    assert server.clients.get("nobody") is None
    assert isinstance(server.clients["ann"], WseIdentity)
    with pytest.raises(KeyError):
        server.clients["nobody"]
    clients: Any = server.clients
    with pytest.raises(TypeError):
        clients["eve"] = None
    with pytest.raises(TypeError):
        del clients["ann"]
    assert isinstance(server.clients["ann"].conns, Mapping)
    conns: Any = server.clients["ann"].conns
    with pytest.raises(TypeError):
        conns["x"] = None


def test_clients_and_conns_may_be_iterated_while_users_come_and_go(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server(conn_per_user=3)
    stop = threading.Event()

    def visit(number: int) -> None:
        while not stop.is_set():
            client = make_client(server)
            client.connect(f"user-{number % 2}")
            client.disconnect()

    visitors = [Thread(partial(visit, number)) for number in range(4)]
    try:
        for _ in range(300):
            for cid, identity in server.clients.items():
                assert identity.cid == cid
                for conn_id, conn in identity.conns.items():
                    assert conn.conn_id == conn_id
                    assert conn.cid == cid
    finally:
        stop.set()
        for visitor in visitors:
            visitor.result()


# AuthRequest


def test_an_auth_request_says_who_asks_and_from_where(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    requests = Recorder()

    def identify(auth: AuthRequest) -> None:
        requests.add(auth)
        accept_all(auth)

    server = make_server(identify)
    conns = Recorder()
    server.when.connected(conns)
    raw = make_raw_client(
        f"{server.url.rstrip('/')}/where?token=t&x=1",
        header=["X-Device: pi"],
        cookie="session=abc",
    )
    raw.login("ann", {"n": 1})
    (auth,) = requests.items
    (conn,) = conns.wait_for(1)
    assert isinstance(auth, AuthRequest)
    assert auth.identity == "ann"
    assert auth.meta == {"n": 1}
    assert auth.challenge is None
    assert auth.conn_id == conn.conn_id
    assert "127.0.0.1" in str(auth.remote_addr)
    assert auth.environ["QUERY_STRING"] == "token=t&x=1"
    assert auth.environ["PATH_INFO"] == "/where"
    assert auth.environ["HTTP_X_DEVICE"] == "pi"
    assert auth.environ["HTTP_COOKIE"] == "session=abc"
    assert "AuthRequest" in repr(auth)


# WseConnection and WseIdentity


def test_a_connection_has_what_the_reference_says(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(lambda auth: auth.accept("ann"))
    connect(server, {"token": "t"}, {"device": "pi"})
    conn = connection_of(server)
    assert conn.cid == "ann"
    assert isinstance(conn.conn_id, str)
    assert conn.identity == {"token": "t"}
    assert conn.meta == {"device": "pi"}
    assert conn.client is server.clients["ann"]
    assert "127.0.0.1" in str(conn.remote_addr)
    assert conn.environ["REQUEST_METHOD"] == "GET"
    assert conn.state == "open"
    assert conn.data == {}


def test_data_is_the_applications_own_and_stays_with_the_connection(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(conn_per_user=2)

    def count(conn: WseConnection, payload: Any) -> int:
        conn.data["count"] = conn.data.get("count", 0) + 1
        return int(conn.data["count"])

    server.register("count", count)
    first, second = connect(server, "ann"), connect(server, "ann")
    assert [first.call("count"), first.call("count"), second.call("count")] == [1, 2, 1]


def test_an_identity_keeps_the_meta_of_its_first_connection(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(conn_per_user=2)
    connect(server, "ann", {"device": 1})
    connect(server, "ann", {"device": 2})
    identity = server.clients["ann"]
    assert identity.meta == {"device": 1}
    assert [conn.meta for conn in identity.conns.values()] == [{"device": 1}, {"device": 2}]


@pytest.mark.parametrize("by", ["connection", "identity"])
def test_drop_closes_with_by_server_by_default(
    server: WseServer, connect: Connect, by: str
) -> None:
    client = connect(server, "ann", reconnect=True)
    closed = Recorder()
    client.when.closed(closed)
    conn = connection_of(server)
    if by == "connection":
        conn.drop()
        conn.drop()
    else:
        server.clients["ann"].drop()
    assert closed.wait_for(1) == [(1000, "wse.by-server")]
    assert client.wait(PATIENCE)
    assert conn.state == "closed"


@pytest.mark.parametrize(
    ("reason", "arrives"),
    [
        ("x" * 123, "x" * 123),
        ("x" * 200, "x" * 123),
        ("é" * 100, "é" * 61),
        ("☃" * 100, "☃" * 41),
    ],
)
def test_a_reason_is_cut_at_a_character_boundary(
    server: WseServer, make_raw_client: MakeRawClient, reason: str, arrives: str
) -> None:
    raw = make_raw_client(server)
    raw.login("ann")
    server.drop_client("ann", reason)
    assert raw.recv_close() == (1000, arrives)


def test_a_closed_connection_neither_sends_nor_calls(server: WseServer, connect: Connect) -> None:
    client = connect(server, "ann")
    conn = connection_of(server)
    identity = server.clients["ann"]
    client.disconnect()
    wait_until(lambda: conn.state == "closed", lambda: conn.state)
    for use in (conn.send, conn.call):
        with pytest.raises(WseError) as caught:
            use("anything", 1)
        assert caught.value.code == WSE_ERROR.CONNECTION_NOT_READY
        assert isinstance(caught.value, ConnectionError)
    assert identity.send("anything") == 0


def test_submit_on_a_connection_gives_a_future(server: WseServer, connect: Connect) -> None:
    client = connect(server, "ann")
    client.register("double", lambda payload: payload * 2)
    assert connection_of(server).submit("double", 4, timeout=PATIENCE).result(PATIENCE) == 8


# when


def test_connect_is_blinkers_own_with_sender_and_keywords(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    seen = Recorder()

    def receiver(name: str) -> Any:
        def receive(sender: Any, **keywords: Any) -> None:
            seen.add((name, sender is server, sorted(keywords)))

        return receive

    expected = {
        "joined": ["client", "meta"],
        "left": ["client", "code", "reason"],
        "connected": ["conn"],
        "disconnected": ["code", "conn", "reason"],
        "ignored": ["conn", "payload", "type"],
        "error": ["conn", "error"],
    }
    receivers = {name: receiver(name) for name in expected}
    for name, each in receivers.items():
        getattr(server.when, name).connect(each)
    server.channel.on("fail", lambda conn, payload: 1 // 0)
    client = connect(server, "ann")
    client.send("nobody")
    client.send("fail")
    seen.wait_until(lambda items: any(item[0] == "error" for item in items))
    client.disconnect()
    items = seen.wait_for(len(expected))
    assert sorted(items) == sorted((name, True, keys) for name, keys in expected.items())
    server.when.joined.disconnect(receivers["joined"])
    connect(server, "ben")
    wait_until(lambda: len(seen) > len(expected))
    assert [item[0] for item in seen.items][len(expected) :] == ["connected"]


def test_calling_a_signal_binds_a_plain_handler_strongly_and_returns_it(
    server: WseServer, connect: Connect
) -> None:
    seen = Recorder()

    @server.when.joined
    def joined(client: WseIdentity, meta: Any) -> None:
        seen.add(("decorated", client.cid, meta))

    # Nobody else holds this one.
    server.when.joined(lambda client, meta: seen.add(("lambda", client.cid, meta)))
    assert callable(joined)
    connect(server, "ann", {"n": 1})
    assert seen.wait_for(2) == [("decorated", "ann", {"n": 1}), ("lambda", "ann", {"n": 1})]


def test_every_signal_takes_plain_handlers(server: WseServer) -> None:
    names = [
        "joined",
        "left",
        "connected",
        "disconnected",
        "error",
        "ignored",
    ]
    for name in names:
        handler = Recorder()
        assert getattr(server.when, name)(handler) is handler


def test_handlers_run_in_the_order_in_which_they_were_bound(
    server: WseServer, connect: Connect
) -> None:
    seen = Recorder()

    def receive(sender: Any, **_: Any) -> None:
        seen.add("receiver")

    for number in range(10):
        server.when.connected(lambda conn, number=number: seen.add(number))
    server.when.connected.connect(receive)
    for number in range(10, 20):
        server.when.connected(lambda conn, number=number: seen.add(number))
    connect(server, "ann")
    assert seen.wait_for(21) == [*range(10), "receiver", *range(10, 20)]


def test_handlers_of_a_channel_run_in_the_order_in_which_they_were_added(
    server: WseServer, connect: Connect
) -> None:
    seen = Recorder()
    for number in range(20):
        server.channel.on("chat", lambda conn, payload, number=number: seen.add(number))
    connect(server, "ann").send("chat")
    assert seen.wait_for(20) == list(range(20))


def test_a_receiver_that_raises_stops_no_other(server: WseServer, connect: Connect) -> None:
    seen = Recorder()

    def broken(sender: Any, **_: Any) -> None:
        raise RuntimeError("broken receiver")

    def whole(sender: Any, **_: Any) -> None:
        seen.add("whole")

    server.when.joined.connect(broken)
    server.when.joined.connect(whole)
    server.when.joined(lambda client, meta: seen.add("plain"))
    connect(server, "ann")
    assert seen.wait_for(2) == ["whole", "plain"]


# channel


def test_on_decorates_and_once_runs_once(server: WseServer, connect: Connect) -> None:
    seen = Recorder()

    @server.channel.on("chat")
    def chat(conn: WseConnection, payload: Any) -> None:
        seen.add(("chat", conn.cid, payload))

    server.channel.once("chat", lambda conn, payload: seen.add(("once", payload)))
    client = connect(server, "ann")
    client.send("chat", 1)
    client.send("chat", 2)
    assert seen.wait_for(3) == [("chat", "ann", 1), ("once", 1), ("chat", "ann", 2)]
    server.channel.off("chat", chat)
    client.send("chat", 3)
    server.channel.on("end", lambda conn, payload: seen.add("end"))
    client.send("end")
    assert seen.wait_until(lambda items: "end" in items)[3:] == ["end"]


def test_wait_returns_the_next_payload_of_a_type(server: WseServer, connect: Connect) -> None:
    client = connect(server, "ann")
    stop = threading.Event()

    def send_until_heard() -> None:
        while not stop.wait(0.01):
            client.send("other")
            client.send("chat", {"n": 1})

    sending = Thread(send_until_heard)
    try:
        got = server.channel.wait("chat", timeout=PATIENCE)
    finally:
        stop.set()
        sending.result()
    assert got == (connection_of(server), {"n": 1})


def test_wait_raises_timeout_error(server: WseServer) -> None:
    with pytest.raises(TimeoutError):
        server.channel.wait("chat", timeout=0.05)


def test_listen_iterates_over_connection_type_and_payload(
    server: WseServer, connect: Connect
) -> None:
    client = connect(server, "ann")
    conn = connection_of(server)
    ignored = Recorder()
    server.when.ignored(lambda conn, type, payload: ignored.add(type))
    with server.channel.listen("a", "b", max_items=2) as inbox:
        for number in range(6):
            client.send("abc"[number % 3], number)
        items = [next(inbox) for _ in range(4)]
    assert items == [(conn, "a", 0), (conn, "b", 1), (conn, "a", 3), (conn, "b", 4)]
    assert ignored.wait_for(2) == ["c", "c"]


# Payloads that cannot be packed


class NoJson:
    """Nothing that JSON could hold."""


UNPACKABLE = [
    (NoJson(), TypeError, "NoJson"),
    ({"a": [1, {"b": NoJson()}]}, TypeError, "NoJson"),
    ({1, 2}, TypeError, "set"),
    (b"bytes", TypeError, "bytes"),
    (float("nan"), ValueError, "nan"),
    ([1.0, float("inf")], ValueError, "inf"),
    ({"x": float("-inf")}, ValueError, "inf"),
]


@pytest.mark.parametrize(("payload", "kind", "word"), UNPACKABLE)
def test_a_payload_that_cannot_be_packed_raises_at_the_caller_and_nothing_is_sent(
    server: WseServer, make_raw_client: MakeRawClient, payload: Any, kind: Any, word: str
) -> None:
    raw = make_raw_client(server)
    raw.login("ann")
    conn = connection_of(server)
    uses: list[Callable[[], Any]] = [
        lambda: conn.send("chat", payload),
        lambda: conn.call("proc", payload),
        lambda: conn.submit("proc", payload).result(PATIENCE),
        lambda: server.send("ann", "chat", payload),
        lambda: server.clients["ann"].send("chat", payload),
        lambda: server.broadcast("chat", payload),
    ]
    for use in uses:
        with pytest.raises(WseError) as caught:
            use()
        assert isinstance(caught.value, kind)
        assert caught.value.code == WSE_ERROR.RP_SEND_FAILED
        assert word in str(caught.value)
    conn.send("end")
    assert raw.recv_frame() == ["end", None, None]
    assert conn.state == "open"


@pytest.mark.parametrize(("payload", "kind", "word"), UNPACKABLE)
def test_the_client_too_raises_at_the_caller(
    server: WseServer, connect: Connect, payload: Any, kind: Any, word: str
) -> None:
    ignored = Recorder()
    server.when.ignored(lambda conn, type, payload: ignored.add(type))
    client = connect(server, "ann")
    uses: list[Callable[[], Any]] = [
        lambda: client.send("chat", payload),
        lambda: client.call("proc", payload),
    ]
    for use in uses:
        with pytest.raises(WseError) as caught:
            use()
        assert isinstance(caught.value, kind)
        assert word in str(caught.value)
    client.send("end")
    assert ignored.wait_for(1) == ["end"]


def test_a_payload_that_contains_itself_raises(server: WseServer, connect: Connect) -> None:
    client = connect(server, "ann")
    circle: list[Any] = []
    circle.append(circle)
    for use in (client.send, client.call, connection_of(server).send):
        with pytest.raises(ValueError, match="payload"):
            use("chat", circle)


def test_a_welcome_that_cannot_be_packed_is_reported_and_refuses_or_closes(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server(lambda auth: auth.accept("ann", NoJson()))
    errors = Recorder()
    joined = Recorder()
    server.when.error(lambda error, conn: errors.add(error))
    server.when.joined(joined)
    with pytest.raises(WseError):
        make_client(server).connect("ann")
    assert "NoJson" in str(errors.wait_for(1)[0])
    assert dict(server.clients) == {}
    assert joined.items == []


@pytest.mark.parametrize("type", [*JsonProtocol().internal_types.values(), "", None, 5, ["x"]])
def test_internal_types_and_what_is_no_type_cannot_be_sent_or_called(
    server: WseServer, connect: Connect, type: Any
) -> None:
    client = connect(server, "ann")
    conn = connection_of(server)
    uses: list[Callable[[Any], Any]] = [
        client.send,
        client.call,
        conn.send,
        conn.call,
        server.broadcast,
        lambda type: server.send("ann", type),
    ]
    for use in uses:
        with pytest.raises((TypeError, ValueError)):
            use(type)
    server.register("ping", lambda conn, payload: payload)
    assert client.call("ping", 1) == 1


# The rest


def test_options_are_as_given(make_server: MakeServer) -> None:
    protocol = JsonProtocol()
    server = make_server(protocol=protocol, conn_per_user=4, call_timeout=7.5)
    assert server.protocol is protocol
    assert server.conn_per_user == 4
    assert server.call_timeout == 7.5
    default = make_server()
    assert isinstance(default.protocol, JsonProtocol)
    assert (default.conn_per_user, default.call_timeout) == (1, 20.0)


def test_options_are_keyword_only() -> None:
    server_class: Any = WseServer
    with pytest.raises(TypeError):
        server_class(accept_all, "127.0.0.1", 0)


def test_every_object_has_a_repr_that_helps(server: WseServer, connect: Connect) -> None:
    assert "WseServer" in repr(server)
    assert str(server.port) in repr(server)
    connect(server, "ann")
    identity = server.clients["ann"]
    conn = connection_of(server)
    assert "WseIdentity" in repr(identity)
    assert "ann" in repr(identity)
    for word in ("WseConnection", "open", "ann", "127.0.0.1"):
        assert word in repr(conn)
    conn.drop()
    assert "closed" in repr(conn)
    server.close()
    assert "WseServer" in repr(server)


def test_a_server_may_be_started_again_after_close(
    server: WseServer, make_client: MakeClient
) -> None:
    server.close()
    server.start()
    assert make_client(server).connect("ann") == {"hello": "ann"}


def test_the_log_holds_no_payload_and_no_credentials(
    make_server: MakeServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "wse_sync"):
        server = make_server(lambda auth: auth.accept("ann", "hidden-welcome"))
        server.register("echo", lambda conn, payload: payload)
        client = connect(server, "hidden-identity", {"m": "hidden-meta"})
        client.call("echo", "hidden-call")
        client.send("chat", "hidden-message")
        client.disconnect()
        server.close()
    assert "hidden" not in caplog.text


def test_a_connection_that_never_upgrades_disturbs_nobody(
    server: WseServer, connect: Connect
) -> None:
    server.register("ping", lambda conn, payload: payload)
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE):
        assert connect(server, "ann").call("ping", 1) == 1
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as rude:
            rude.sendall(b"\x16\x03\x01 not HTTP at all\r\n\r\n")
            assert connect(server, "ben").call("ping", 1) == 1
