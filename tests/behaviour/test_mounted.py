"""Promise 46: the same server object behind its own listener and inside WSGI servers."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from functools import partial
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import parse_qs, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.simple_server import make_server as make_wsgiref_server
from wsgiref.util import setup_testing_defaults

import flask
import pytest
import websocket

from tests.conftest import Connect, MakeClient, MakeRawClient, MakeServer
from tests.hosts import werkzeug_serving
from tests.programs import Program
from tests.support import (
    PATIENCE,
    RawClient,
    Recorder,
    Thread,
    accept_all,
    wait_event,
    wait_until,
)
from wse_sync import WSE_ERROR, AuthRequest, WseConnection, WseError, WseServer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PATH = "/chat"


def flask_app(server: WseServer) -> flask.Flask:
    """An application with a page, and a view that hands over to the server."""
    app = flask.Flask("mounted")

    @app.route("/")
    def page() -> str:
        return "a page"

    # Werkzeug matches an upgrade with the rules for WebSockets only, and the other way round.
    @app.route(PATH, websocket=True)
    @app.route(PATH)
    def chat() -> Any:
        return server.wsgi_app

    return app


@contextlib.contextmanager
def own_listener(server: WseServer) -> Iterator[str]:
    server.start()
    yield server.url


@contextlib.contextmanager
def in_flask(server: WseServer) -> Iterator[str]:
    with werkzeug_serving(flask_app(server), PATH) as url:
        yield url
        server.close()


@contextlib.contextmanager
def in_plain_wsgi(server: WseServer) -> Iterator[str]:
    with werkzeug_serving(server.wsgi_app, PATH) as url:
        yield url
        server.close()


Mount = Callable[[WseServer], "contextlib.AbstractContextManager[str]"]
MOUNTS = [own_listener, in_flask, in_plain_wsgi]
every_mount = pytest.mark.parametrize("mount", MOUNTS, ids=["own", "flask", "wsgi"])
mounted_only = pytest.mark.parametrize("mount", MOUNTS[1:], ids=["flask", "wsgi"])


def get(url: str) -> tuple[int, str]:
    """The status and the body of a plain request; `ws:` and `wss:` are read as `http:`."""
    try:
        with urllib.request.urlopen(url.replace("ws", "http", 1), timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@every_mount
def test_46_logins_messages_and_calls_work(
    make_server: MakeServer, make_client: MakeClient, mount: Mount
) -> None:
    server = make_server(start=False, conn_per_user=2)
    joined, connected, gone, left = (Recorder() for _ in range(4))
    server.when.joined(lambda client, meta: joined.add((client.cid, meta)))
    server.when.connected(lambda conn: connected.add(conn.cid))
    server.when.disconnected(lambda conn, code, reason: gone.add((code, reason)))
    server.when.left(lambda client, code, reason: left.add((code, reason)))
    up, down = Recorder(), Recorder()
    server.channel.on("up", lambda conn, payload: up.add((conn.cid, payload)))
    server.register("add", lambda conn, pair: sum(pair))
    with mount(server) as url:
        clients = [make_client(url) for _ in range(2)]
        for number, client in enumerate(clients):
            client.channel.on("down", down)
            client.register("whoami", lambda payload, number=number: number)
            assert client.connect("ann", {"n": number}) == {"hello": "ann"}
            client.send("up", number)
            assert client.call("add", [number, 1]) == number + 1
        connected.wait_for(2)
        answers = [conn.call("whoami") for conn in server.clients["ann"].conns.values()]
        assert sorted(answers) == [0, 1]
        assert server.broadcast("down", "x") == 2
        assert down.wait_for(2) == ["x", "x"]
        assert sorted(up.wait_for(2)) == [("ann", 0), ("ann", 1)]
        clients[0].disconnect("bye")
        assert gone.wait_for(1) == [(1000, "bye")]
        server.drop_client("ann", "enough")
        assert clients[1].wait(PATIENCE)
        assert gone.wait_for(2)[1] == (1000, "enough")
        assert joined.items == [("ann", {"n": 0})]
        assert left.wait_for(1) == [(1000, "enough")]


@every_mount
def test_46_refusals_and_challenges_work(
    make_server: MakeServer, make_client: MakeClient, mount: Mount
) -> None:
    def identify(auth: AuthRequest) -> None:
        assert auth.challenge is not None
        if auth.challenge.response == auth.challenge.quest * 2:
            auth.accept(auth.identity)
        else:
            auth.refuse()

    server = make_server(identify, start=False)
    server.use_challenge(lambda auth: 21)
    with mount(server) as url:
        right, wrong = make_client(url), make_client(url)
        right.challenge(lambda quest: quest * 2)
        wrong.challenge(lambda quest: quest)
        right.connect("ann")
        with pytest.raises(WseError) as caught:
            wrong.connect("bob")
        assert caught.value.code == WSE_ERROR.NOT_AUTHORIZED
        assert list(server.clients) == ["ann"]


@every_mount
def test_46_large_messages_go_both_ways_at_the_same_time(
    make_server: MakeServer, connect: Connect, mount: Mount
) -> None:
    server = make_server(start=False)
    server.register("echo", lambda conn, payload: payload)
    with mount(server) as url:
        client = connect(url)
        client.register("echo", lambda payload: payload)
        (conn,) = server.clients["ann"].conns.values()
        large = "x" * 2**21
        futures = [caller.submit("echo", large) for caller in (client, conn) for _ in range(3)]
        for future in futures:
            assert future.result(60) == large


@every_mount
def test_46_many_threads_share_one_connection(
    make_server: MakeServer, connect: Connect, mount: Mount
) -> None:
    server = make_server(start=False)
    server.register("echo", lambda conn, payload: payload)
    with mount(server) as url:
        client = connect(url)
        client.register("echo", lambda payload: payload)
        (conn,) = server.clients["ann"].conns.values()
        callers: list[Any] = [client, conn]

        def calls(caller: Any, number: int) -> list[Any]:
            return [caller.call("echo", [number, i]) for i in range(20)]

        threads = [
            Thread(partial(calls, caller, number)) for caller in callers for number in range(10)
        ]
        for number, thread in enumerate(threads):
            assert thread.result(60) == [[number % 10, i] for i in range(20)]


@every_mount
def test_46_the_environ_of_the_upgrade_reaches_identify_and_the_connection(
    make_server: MakeServer, make_client: MakeClient, mount: Mount
) -> None:
    asked, connected = Recorder(), Recorder()

    def identify(auth: AuthRequest) -> None:
        asked.add((auth.remote_addr, auth.environ))
        auth.accept("ann")

    server = make_server(identify, start=False)
    server.when.connected(connected)
    with mount(server) as url:
        client = make_client(
            f"{url}?room=blue",
            ws_options={"header": {"X-Device": "pi"}, "cookie": "session=secret"},
        )
        client.connect()
        ((remote_addr, environ),) = asked.items
        assert remote_addr == "127.0.0.1"
        assert environ["HTTP_X_DEVICE"] == "pi"
        assert environ["HTTP_COOKIE"] == "session=secret"
        assert parse_qs(environ["QUERY_STRING"]) == {"room": ["blue"]}
        assert environ["PATH_INFO"] == urlsplit(url).path
        conn = connected.wait_for(1)[0]
        assert conn.remote_addr == "127.0.0.1"
        assert conn.environ["HTTP_X_DEVICE"] == "pi"


@every_mount
def test_46_a_link_that_is_cut_is_noticed(
    make_server: MakeServer, mount: Mount, make_raw_client: MakeRawClient
) -> None:
    server = make_server(start=False)
    gone = Recorder()
    server.when.disconnected(lambda conn, code, reason: gone.add((conn.cid, code)))
    with mount(server) as url:
        peer = make_raw_client(url)
        peer.login("ann")
        peer.abort()
        assert gone.wait_for(1) == [("ann", 1006)]
        assert not server.clients


@every_mount
def test_46_nothing_follows_the_close_frame_on_the_socket(
    make_server: MakeServer, mount: Mount, make_raw_client: MakeRawClient
) -> None:
    server = make_server(start=False)
    with mount(server) as url:
        dropped, leaving = make_raw_client(url), make_raw_client(url)
        dropped.login("ann")
        leaving.login("bob")
        server.drop_client("ann", "enough")
        assert dropped.recv_close() == (1000, "enough")
        leaving.socket.send_close(1000, b"bye")
        assert leaving.recv_close()[0] == 1000
        for peer in (dropped, leaving):
            # An HTTP response after the upgrade would be junk to the other side.
            sock = peer.socket.sock
            assert sock is not None
            with contextlib.suppress(ConnectionError):
                assert sock.recv(100) == b""


@every_mount
def test_46_close_ends_the_connections_with_1012(
    make_server: MakeServer, connect: Connect, mount: Mount
) -> None:
    server = make_server(start=False)
    with mount(server) as url:
        client = connect(url)
        closed = Recorder()
        client.when.closed(closed)
        server.close()
        assert closed.wait_for(1) == [(1012, "wse.by-server")]
        assert not server.clients


@mounted_only
def test_46_a_mounted_server_needs_no_port(
    make_server: MakeServer, connect: Connect, mount: Mount
) -> None:
    server = make_server(start=False, port=None)
    server.register("echo", lambda conn, payload: payload)
    with mount(server) as url:
        assert connect(url).call("echo", 1) == 1


def test_46_start_needs_a_port() -> None:
    server = WseServer(accept_all)
    with pytest.raises(ValueError) as caught:
        server.start()
    assert isinstance(caught.value, WseError)
    assert "port" in str(caught.value)


def test_46_one_server_serves_its_own_listener_and_two_wsgi_servers_at_the_same_time(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(conn_per_user=3)
    server.register("echo", lambda conn, payload: payload)
    heard = Recorder()
    with in_flask(server) as flask_url, werkzeug_serving(server.wsgi_app, PATH) as plain_url:
        clients = [connect(url, "ann") for url in (server.url, flask_url, plain_url)]
        for number, client in enumerate(clients):
            client.channel.on("news", lambda payload, number=number: heard.add((number, payload)))
            assert client.call("echo", number) == number
        assert list(server.clients) == ["ann"]
        assert len(server.clients["ann"].conns) == 3
        assert server.broadcast("news", "x") == server.send("ann", "news", "x") == 3
        assert sorted(heard.wait_for(6)) == [(n, "x") for n in (0, 0, 1, 1, 2, 2)]
        # One more device pushes out the oldest, whichever way it came.
        newest = connect(flask_url, "ann")
        assert clients[0].wait(PATIENCE)
        assert newest.call("echo", 3) == 3
        assert len(server.clients["ann"].conns) == 3
        server.close()


def test_46_a_blocked_handler_of_one_mounted_connection_delays_no_other(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(start=False)
    server.register("echo", lambda conn, payload: payload)
    release, entered = threading.Event(), threading.Event()

    def block(conn: WseConnection, payload: Any) -> None:
        entered.set()
        wait_event(release)

    server.channel.on("block", block)
    try:
        with in_flask(server) as url:
            blocked, other = connect(url, "ann"), connect(url, "bob")
            blocked.send("block")
            wait_event(entered)
            assert other.call("echo", 1) == 1
            assert get(url.replace(PATH, "/")) == (200, "a page")
            release.set()
    finally:
        release.set()


@mounted_only
def test_46_the_wsgi_server_has_nothing_to_complain_about(
    make_server: MakeServer,
    connect: Connect,
    make_raw_client: MakeRawClient,
    mount: Mount,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = make_server(start=False)
    with caplog.at_level(logging.INFO), mount(server) as url:
        ended = Recorder()
        server.when.disconnected(lambda conn, code, reason: ended.add(code))
        connect(url, "ann").disconnect()
        peer = make_raw_client(url)
        peer.login("bob")
        peer.abort()
        connect(url, "cho")
        server.drop_client("cho")
        junk = make_raw_client(url)
        junk.send("junk")
        assert junk.recv_close() == (1000, "wse.protocol-error")
        ended.wait_for(3)
    for record in caplog.records:
        assert record.levelno < logging.ERROR or record.name.startswith("wse_sync"), record
        assert "Traceback" not in record.getMessage()
    assert "Traceback" not in capsys.readouterr().err


# Plain HTTP


@every_mount
def test_46_plain_http_is_told_to_upgrade(make_server: MakeServer, mount: Mount) -> None:
    server = make_server(start=False)
    with mount(server) as url:
        status, body = get(url)
        assert status == 426
        assert "websocket" in body.lower()


def hello_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello from {environ['PATH_INFO']}".encode()]


@every_mount
def test_46_plain_http_goes_to_http_app(
    make_server: MakeServer, connect: Connect, mount: Mount
) -> None:
    server = make_server(start=False, http_app=hello_app)
    server.register("echo", lambda conn, payload: payload)
    with mount(server) as url:
        status, body = get(url)
        assert (status, body) == (200, f"hello from {urlsplit(url).path}")
        assert connect(url).call("echo", 1) == 1


def test_46_a_flask_application_may_be_the_http_app_of_the_own_listener(
    make_server: MakeServer, connect: Connect
) -> None:
    app = flask.Flask("pages")

    @app.route("/form", methods=["POST"])
    def form() -> dict[str, Any]:
        return {"sent": flask.request.get_json()}

    server = make_server(http_app=app, path="/ws")
    client = connect(f"ws://127.0.0.1:{server.port}/ws")
    server.register("echo", lambda conn, payload: payload)
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/form",
        b'{"n": 1}',
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        assert response.read().strip() == b'{"sent":{"n":1}}'
    assert get(f"http://127.0.0.1:{server.port}/missing")[0] == 404
    assert client.call("echo", 1) == 1


def test_46_upgrades_happen_on_the_path_only(make_server: MakeServer, connect: Connect) -> None:
    server = make_server(path="/ws")
    base = f"ws://127.0.0.1:{server.port}"
    server.register("echo", lambda conn, payload: payload)
    assert connect(f"{base}/ws").call("echo", 1) == 1
    assert connect(f"{base}/ws?room=1", "bob").call("echo", 1) == 1
    for path in ("/", "/wsx", "/ws/more", "/other"):
        with pytest.raises(websocket.WebSocketBadStatusException) as caught:
            RawClient(base + path)
        assert caught.value.status_code == 404, path
        with pytest.raises(ConnectionError) as refused:
            connect(base + path)
        assert "404" in str(refused.value)


def test_46_one_connection_too_many_gets_503(make_server: MakeServer, connect: Connect) -> None:
    server = make_server(max_connections=2)
    gone = Recorder()
    server.when.disconnected(gone)
    first = connect(server, "ann")
    connect(server, "bob")
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        RawClient(server.url)
    assert caught.value.status_code == 503
    first.disconnect()
    gone.wait_for(1)
    wait_until(lambda: accepted(server.url))


def accepted(url: str) -> bool:
    """Whether an upgrade works now."""
    try:
        RawClient(url).abort()
    except websocket.WebSocketBadStatusException:
        return False
    return True


# Servers that keep their socket to themselves


def upgrade_environ() -> dict[str, Any]:
    environ: dict[str, Any] = {
        "HTTP_UPGRADE": "websocket",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        "HTTP_SEC_WEBSOCKET_KEY": "AAAAAAAAAAAAAAAAAAAAAA==",
        "HTTP_SEC_WEBSOCKET_PROTOCOL": "wse-default-json",
        "REMOTE_ADDR": "127.0.0.1",
    }
    setup_testing_defaults(environ)
    return environ


def test_46_a_wsgi_server_without_a_socket_gets_an_error_that_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = WseServer(accept_all)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        started.append((status, headers))

    with caplog.at_level(logging.INFO, "wse_sync.server"):
        body = b"".join(server.wsgi_app(upgrade_environ(), start_response)).decode()
    ((status, _),) = started
    assert status.startswith("5")
    text = (body + caplog.text).lower()
    assert "socket" in text
    # It names servers that do work.
    assert any(name in text for name in ("gunicorn", "werkzeug", "flask", "start()"))


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class Threaded(ThreadingMixIn, WSGIServer):
    """As Django's development server is made."""


@contextlib.contextmanager
def wsgiref_serving(server: WseServer, kind: type[WSGIServer]) -> Iterator[str]:
    """Serves with the server of the standard library; the URL."""
    with make_wsgiref_server("127.0.0.1", 0, server.wsgi_app, kind, Quiet) as listener:
        serving = Thread(partial(listener.serve_forever, poll_interval=0.01))
        try:
            yield f"ws://127.0.0.1:{listener.server_port}/"
        finally:
            server.close()
            listener.shutdown()
            serving.result()


def test_46_wsgiref_carries_connections_if_it_has_threads(
    make_server: MakeServer, connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    server = make_server(start=False)
    server.register("add", lambda conn, pair: sum(pair))
    with wsgiref_serving(server, Threaded) as url:
        ann, bob = connect(url, "ann"), connect(url, "bob")
        assert ann.call("add", [1, 2]) == bob.call("add", [2, 1]) == 3
        assert get(url)[0] == 426
        ann.disconnect()
    assert "Traceback" not in capsys.readouterr().err


def test_46_wsgiref_without_threads_refuses_and_says_what_to_do(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(start=False)
    with wsgiref_serving(server, WSGIServer) as url:
        for _ in range(2):
            with pytest.raises(websocket.WebSocketBadStatusException) as caught:
                RawClient(url)
            assert caught.value.status_code == 503
    [line] = [text for text in caplog.messages if "refused a connection" in text]
    assert "one request at a time" in line
    assert "--worker-class gthread" in line


# As a program


RUN_SIMPLE = """
import flask
from wse_sync import WseServer

server = WseServer(lambda auth: auth.accept(auth.identity))
server.register("add", lambda conn, pair: sum(pair))
server.channel.on("spread", lambda conn, payload: server.broadcast("news", payload))
app = flask.Flask("mounted")


@app.route("/chat", websocket=True)
def chat():
    return server.wsgi_app


app.run("127.0.0.1", 0)
"""


def test_46_works_under_flask_run_as_a_program(connect: Connect) -> None:
    with Program(RUN_SIMPLE) as program:
        line = ""
        while "http://" not in line:
            line = program.error_line()
        base = line[line.index("http://") :].split()[0].rstrip("/").replace("http", "ws", 1)
        ann, bob = connect(base + PATH, "ann"), connect(base + PATH, "bob")
        heard = Recorder()
        bob.channel.on("news", heard)
        assert ann.call("add", [1, 2]) == 3
        ann.send("spread", "x")
        assert heard.wait_for(1) == ["x"]
        ann.disconnect()
        bob.disconnect()


def test_46_a_plain_request_with_half_an_upgrade_is_no_upgrade(make_server: MakeServer) -> None:
    server = make_server()
    for headers in (
        b"Upgrade: websocket\r\n",
        b"Connection: Upgrade\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + headers + b"\r\n")
            status = int(sock.recv(4096).split()[1])
            assert status in {400, 426}, headers
