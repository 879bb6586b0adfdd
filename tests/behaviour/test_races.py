"""Races that were lost once, each forced by a test that stops a thread in the wrong moment."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

import pytest

from tests.conftest import Connect, MakeClient, MakeServer, MakeTestServer
from tests.faults import FaultProxy
from tests.support import PATIENCE, Recorder, Thread, pass_time, wait_event, wait_until
from wse_sync import (
    WSE_ERROR,
    WSE_STATUS,
    Backoff,
    JsonProtocol,
    WseConnection,
    WseError,
    WseServer,
)

SLOW = Backoff(0.5, 1.0, 0.5)


class SlowToBeWelcomed(JsonProtocol):
    """Stops in the welcome, once it is asked to."""

    def __init__(self) -> None:
        self.armed = False
        self.inside = threading.Event()
        self.go_on = threading.Event()

    def unpack(self, data: str | bytes) -> Any:
        frame = super().unpack(data)
        if frame.type == "~wse:welcome" and self.armed:
            self.armed = False
            self.inside.set()
            wait_event(self.go_on)
        return frame


def test_33_what_waits_is_not_lost_when_the_jump_comes_with_the_welcome(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    """The verdict of the link falls while its welcome is being read."""
    here, there = make_server(), make_server()
    arrived = Recorder()
    there.channel.on("number", lambda conn, payload: arrived.add(payload))
    closed = Recorder()
    protocol = SlowToBeWelcomed()
    with FaultProxy(here.url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=SLOW, protocol=protocol)
        client.when.closed(closed)
        client.connect("ann")
        protocol.armed = True
        proxy.cut()
        wait_until(lambda: client.status == WSE_STATUS.RE_CONNECTING, lambda: client.status)
        client.send("number", 1)
        client.send("number", 2)
        wait_event(protocol.inside)
        jumping = Thread(lambda: client.jump(there.url))
        wait_until(lambda: closed.items[1:] == [(4000, "jump")], lambda: closed.items)
        protocol.go_on.set()
        jumping.result()
        assert arrived.wait_for(2) == [1, 2]


def test_45_a_server_that_starts_again_listens_again(make_server: MakeServer) -> None:
    server = make_server()
    server.close()
    server.start()
    with server.channel.listen() as inbox:
        assert "open" in repr(inbox)
    with pytest.raises(TimeoutError):
        server.channel.wait("news", timeout=0.0)


def test_45_strangers_get_a_bounded_number_of_threads(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(max_connections=5)
    strangers: list[socket.socket] = []
    try:
        for _ in range(200):
            strangers.append(socket.create_connection(address_of(server)))
        wait_until(lambda: "given up" in caplog.text, lambda: caplog.text)
        assert readers() <= 2 * 5 + 100
        assert caplog.text.count("given up") == 1
    finally:
        for stranger in strangers:
            stranger.close()
    wait_until(lambda: readers() == 0, lambda: readers())


def test_45_requests_whose_bodies_never_end_keep_nobody_out(
    make_server: MakeServer, connect: Connect
) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        entered.add(None)
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        start_response("200 OK", [])
        return []

    entered = Recorder()
    server = make_server(max_connections=5, http_app=app, auth_timeout=None)
    user = connect(server, "ann")
    strangers: list[socket.socket] = []
    try:
        for count in range(1, 2 * 5 + 100):
            strangers.append(socket.create_connection(address_of(server)))
            strangers[-1].sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nx")
            entered.wait_for(count)
        wait_until(lambda: readers() <= 2 * 5 + 100 - 50, lambda: readers())
        assert connect(server, "bob").cid == "bob"
        assert strangers[0].recv(1) == b""
        assert user.status == WSE_STATUS.READY
    finally:
        for stranger in strangers:
            stranger.close()


def address_of(server: WseServer) -> tuple[str, int]:
    assert server.port is not None
    return server.host, server.port


def readers() -> int:
    return sum(thread.name.startswith("wse-reader") for thread in threading.enumerate())


def test_45_handlers_that_close_the_server_at_the_same_time_do_not_wait_for_each_other(
    make_server: MakeServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(conn_per_user=2)
    both = threading.Barrier(2)
    ended = Recorder()

    def end(conn: WseConnection, payload: Any) -> None:
        both.wait(PATIENCE)
        server.close()
        ended.add(payload)

    server.register("end", end)
    client = connect(server)
    futures = [client.submit("end", number) for number in range(2)]
    ended.wait_for(2)
    for future in futures:
        assert isinstance(future.exception(PATIENCE), WseError)
    assert "still running" not in caplog.text


def test_ctrl_c_in_a_late_handler_is_the_callers(make_server: MakeServer, connect: Connect) -> None:
    """It runs in the thread of the caller, not in one of ours."""

    def interrupted(welcome: Any) -> None:
        raise KeyboardInterrupt

    client = connect(make_server())
    ready = Recorder()
    client.when.ready(ready)
    ready.wait_for(1)
    with pytest.raises(KeyboardInterrupt):
        client.when.ready(interrupted)


def test_secrets_in_the_url_are_neither_logged_nor_shown(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with refusing_port() as port:
        client = make_client(f"ws://ann:s3cret@127.0.0.1:{port}/path?token=s3cret")
        with pytest.raises(ConnectionError) as caught:
            client.connect()
    assert f"ws://127.0.0.1:{port}/path" in caplog.text
    for text in (caplog.text, str(caught.value), repr(client)):
        assert "s3cret" not in text


def test_the_name_of_a_procedure_cannot_fill_the_log(
    make_server: MakeServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(LookupError):
        connect(make_server()).call("x" * 100_000)
    wait_until(lambda: "procedure" in caplog.text, "it is logged")
    assert all(len(record.getMessage()) < 1000 for record in caplog.records)


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port that is taken and refuses."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield int(sock.getsockname()[1])


def test_33_a_jump_in_a_callable_identity_is_refused_and_does_not_hang(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    client = make_client(server)
    with pytest.raises(WseError) as caught:
        client.connect(lambda: client.jump(server.url))
    assert caught.value.code == WSE_ERROR.CLIENT_ALREADY_CONNECTED
    assert client.connect("ann") == {"hello": "ann"}


def test_33_a_jump_at_the_moment_when_the_client_goes_offline_connects(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = make_server(), make_server()
    client = connect(here)
    inside, go_on = threading.Event(), threading.Event()
    interrupt = client.channel.interrupt

    def slow(why: str) -> None:
        inside.set()
        wait_event(go_on)
        interrupt(why)

    monkeypatch.setattr(client.channel, "interrupt", slow)
    here.drop_client("ann")
    wait_event(inside)
    jumping = Thread(lambda: client.jump(there.url))
    go_on.set()
    assert jumping.result() == {"hello": "ann"}
    assert client.status == WSE_STATUS.READY


def test_30_the_end_of_one_life_does_not_fall_into_the_next(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server()
    client = connect(server)
    inside, go_on = threading.Event(), threading.Event()
    set_status = client.set_status

    def slow(status: WSE_STATUS) -> None:
        if status is WSE_STATUS.OFFLINE and not inside.is_set():
            inside.set()
            wait_event(go_on)
        set_status(status)

    monkeypatch.setattr(client, "set_status", slow)
    server.drop_client("ann")
    wait_event(inside)
    connecting = Thread(lambda: client.connect("ann"))
    go_on.set()
    assert connecting.result() == {"hello": "ann"}
    assert client.status == WSE_STATUS.READY
    assert client.wait(0) is False


def test_35_a_link_that_was_reset_is_noticed_also_while_the_reader_waits_for_room(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server(ping_interval=20.0, ping_timeout=20.0, max_queue_bytes=50_000)
    go_on, entered = threading.Event(), threading.Event()

    def slow(conn: WseConnection, payload: str) -> None:
        entered.set()
        wait_event(go_on)

    server.channel.on("news", slow)
    with FaultProxy(server.url) as proxy:
        client = make_client(proxy.url, ping_interval=None)
        client.connect("ann")
        for _ in range(20):
            client.send("news", "x" * 10_000)
        wait_event(entered)
        proxy.cut(reset=True)
        pass_time(20.0)
        wait_until(lambda: not server.clients, lambda: server.clients)
        assert not go_on.is_set()
        go_on.set()


def test_42_a_reader_that_waits_for_room_shows_life_without_a_heartbeat_of_its_own(
    make_test_server: MakeTestServer,
) -> None:
    test = make_test_server(ping_interval=None, max_queue_bytes=50_000)
    go_on, handled = threading.Event(), Recorder()

    def slow(conn: WseConnection, payload: int) -> None:
        go_on.wait()
        handled.add(conn.conn_id)

    test.server.channel.on("news", slow)
    client = test.connect("ann", ping_interval=5.0, ping_timeout=10.0)
    for _ in range(20):
        client.send("news", "x" * 10_000)
    wait_until(lambda: [link for link in test.server.links() if link.paused])
    # Longer than the client would wait for somebody who is silent.
    test.advance(600.0, settle=False)
    assert client.status == WSE_STATUS.READY
    go_on.set()
    test.settle()
    assert len(handled) == 20


def test_22_a_traceback_that_cannot_be_made_keeps_no_answer_back(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPython 3.11.0 to 3.11.8 may raise SystemError when two threads format one at once."""

    def broken(*arguments: Any) -> list[str]:
        raise SystemError("AST constructor recursion depth mismatch")

    server = make_server(debug=True)
    server.register("fail", lambda conn, payload: 1 // 0)
    client = connect(server)
    monkeypatch.setattr("wse_sync.service.traceback.format_exception", broken)
    with pytest.raises(WseError) as caught:
        client.call("fail")
    monkeypatch.undo()
    assert caught.value.details["origin"]["stack"] == "(no traceback: SystemError)"
