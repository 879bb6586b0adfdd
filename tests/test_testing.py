"""What users test their programs with: a server without a port, a network that fails, and time."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Callable
from wsgiref import validate

import flask
import pytest

from tests.conftest import Connect, MakeClient, MakeServer, MakeTestServer
from tests.core.protocols import NumberProtocol
from tests.support import (
    PATIENCE,
    QUICK,
    Recorder,
    Thread,
    accept_all,
    connection_of,
    payloads,
    story,
    wait_event,
    wait_until,
)
from wse_sync import (
    WSE_ERROR,
    WSE_REASON,
    AuthRequest,
    Backoff,
    WseClient,
    WseConnection,
    WseConnectionError,
    WseError,
    WsePermissionError,
    WseServer,
    WseTimeoutError,
    WseValueError,
    clock,
    procedures,
    testing,
    workers,
)
from wse_sync.life import Life
from wse_sync.link import Link
from wse_sync.loop import loop
from wse_sync.testing import TestServer
from wse_sync.transport.base import Transport

HOUR = 3600.0
SLOW = Backoff(initial=30.0, factor=1.0, maximum=30.0)


@pytest.fixture
def test(make_test_server: MakeTestServer) -> TestServer:
    return make_test_server()


def status_of(client: WseClient) -> str:
    return str(client.status)


def error_of(action: Callable[[], object]) -> WseError:
    """What it fails with."""
    with pytest.raises(WseError) as caught:
        action()
    return caught.value


def failure(test: TestServer, **options: Any) -> WseConnectionError:
    """What connecting fails with, for want of a link."""
    with pytest.raises(WseConnectionError) as caught:
        test.connect("ann", **options)
    assert caught.value.code == WSE_ERROR.WS_CLIENT_ERROR
    return caught.value


@contextlib.contextmanager
def blocking(server: WseServer | WseClient, name: str = "block") -> Iterator[threading.Event]:
    """A procedure that returns at the end; what it gives tells that it has begun."""
    begun, released = threading.Event(), threading.Event()

    def block(*_: Any) -> bool:
        begun.set()
        return released.wait(PATIENCE)

    server.register(name, block)
    try:
        yield begun
    finally:
        released.set()
        server.unregister(name)


# Clients


def test_messages_and_calls_go_both_ways(test: TestServer) -> None:
    came = payloads(test.server, "say")
    test.server.register("add", lambda conn, numbers: sum(numbers))
    client = test.connect("ann", {"room": 1})
    client.register("who", lambda payload: "me")
    heard = payloads(client, "news")
    assert status_of(client) == "READY"
    assert connection_of(test.server).meta == {"room": 1}
    assert client.call("add", [1, 2]) == 3
    assert connection_of(test.server).call("who") == "me"
    client.send("say", b"bytes".decode())
    test.server.broadcast("news", "rain")
    test.settle()
    assert (came.items, heard.items) == (["bytes"], ["rain"])


def test_no_socket_is_connected_or_bound(test: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("that is a socket")

    for name in ("connect", "bind", "listen", "accept"):
        monkeypatch.setattr(socket.socket, name, refuse)
    with pytest.raises(WseError, match=WSE_ERROR.RP_NOT_REGISTERED):
        test.connect("ann").call("nothing")
    assert test.server.port is None


def test_every_client_of_the_process_finds_the_url(test: TestServer, connect: Connect) -> None:
    client = connect(test.url, "ann")
    assert client.cid == "ann"
    assert test.url.startswith("memory://")
    assert test.url in repr(client)
    assert test.url in repr(test)


def test_a_client_may_be_prepared_before_it_connects(test: TestServer) -> None:
    test.server.use_challenge(lambda auth: 6)
    client = test.client()
    client.challenge(lambda quest: quest * 7)
    assert status_of(client) == "IDLE"
    client.connect("ann")
    assert status_of(client) == "READY"


def test_several_devices_and_users(make_test_server: MakeTestServer) -> None:
    test = make_test_server(conn_per_user=2)
    clients = [test.connect(name) for name in ("ann", "ann", "bob")]
    heard = [payloads(client, "news") for client in clients]
    assert test.server.send("ann", "news", 1) == 2
    test.settle()
    assert [recorder.items for recorder in heard] == [[1], [1], []]


def test_binary_protocols_travel(make_test_server: MakeTestServer) -> None:
    test = make_test_server(protocol=NumberProtocol())
    test.server.register("echo", lambda conn, payload: payload)
    assert test.connect("ann", protocol=NumberProtocol()).call("echo", "é") == "é"
    error = failure(test)
    assert "numbers" in str(error)


# Refusals


def test_a_refusal_is_raised_as_ever(make_test_server: MakeTestServer) -> None:
    test = make_test_server(lambda auth: auth.refuse())
    with pytest.raises(WsePermissionError) as caught:
        test.connect("ann")
    assert caught.value.code == WSE_ERROR.NOT_AUTHORIZED


def test_another_path_is_not_found(make_test_server: MakeTestServer, connect: Connect) -> None:
    test = make_test_server(path="/ws")
    assert test.url.endswith("/ws")
    test.connect("ann")
    with pytest.raises(WseConnectionError) as caught:
        # That trying again is useless ends it, in spite of reconnect.
        connect(f"{test.url}/other", "ann", reconnect=True)
    assert caught.value.details == {"status": 404}
    assert "no WebSocket at /ws/other" in str(caught.value)


def test_one_connection_too_many_gets_503(make_test_server: MakeTestServer) -> None:
    test = make_test_server(max_connections=1)
    test.connect("ann")
    assert failure(test).details == {"status": 503}


def test_a_page_of_another_origin_gets_403(test: TestServer) -> None:
    assert failure(test, headers={"Origin": "http://elsewhere"}).details == {"status": 403}
    test.connect("ann", headers={"Origin": "http://localhost"})


def test_an_app_that_raises_answers_with_500(
    test: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise ZeroDivisionError

    with TestServer(WseServer(accept_all), app=app) as broken:
        assert failure(broken).details == {"status": 500}
    assert "ZeroDivisionError" in caplog.text


def test_the_body_of_an_answer_is_closed_and_told(test: TestServer) -> None:
    class Body:
        closed = False

        def __iter__(self) -> Iterator[bytes]:
            yield b"come back "
            yield b"on Monday\n"

        def close(self) -> None:
            self.closed = True

    body = Body()

    def app(environ: dict[str, Any], start_response: Any) -> Body:
        start_response("429 Too Many Requests", [])
        return body

    with TestServer(WseServer(accept_all), app=app) as closed:
        error = failure(closed)
    assert error.details == {"status": 429}
    assert "come back on Monday" in str(error)
    assert body.closed


# The upgrade


def check_environ(environ: dict[str, Any]) -> None:
    """Fails if PEP 3333 does not allow it."""
    validate.check_environ(environ)  # type: ignore[attr-defined]


def environ_of(test: TestServer, **options: Any) -> dict[str, Any]:
    """The environ that the server sees for a client with these options."""
    seen = Recorder()

    def identify(auth: AuthRequest) -> None:
        seen.add(auth.environ)
        auth.accept(auth.identity)

    test.server.identify = identify
    test.connect("ann", **options)
    environ: dict[str, Any] = seen.wait_for(1)[0]
    return environ


def test_the_environ_is_one_of_wsgi(test: TestServer) -> None:
    environ = environ_of(test)
    check_environ(environ)
    assert (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("GET", "/")
    assert environ["HTTP_HOST"] == "localhost"
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["REMOTE_ADDR"] == "127.0.0.1" == connection_of(test.server).remote_addr


def test_headers_and_cookies_arrive(test: TestServer) -> None:
    environ = environ_of(
        test, headers={"Authorization": "Bearer 1", "X-Many": "a"}, cookies={"a": "1", "b": "2"}
    )
    assert environ["HTTP_AUTHORIZATION"] == "Bearer 1"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"


@pytest.mark.parametrize(
    "header", [["X-Many: a", "x-many: b", "Cookie: c=3"], {"X-Many": "a, b", "Cookie": "c=3"}]
)
def test_what_ws_options_say_arrives(test: TestServer, header: Any) -> None:
    ws_options = {"header": header, "cookie": "a=1", "host": "hub.example", "origin": None}
    environ = environ_of(test, ws_options=ws_options)
    assert environ["HTTP_X_MANY"] == "a, b"
    assert environ["HTTP_COOKIE"] == "c=3; a=1"
    assert environ["HTTP_HOST"] == "hub.example"
    assert "HTTP_ORIGIN" not in environ


def test_path_and_query_arrive(make_client: MakeClient) -> None:
    server = WseServer(accept_all)
    with TestServer(server, url="wss://hub.example:8443/a%20b?c=d") as test:
        environ = environ_of(test)
    check_environ(environ)
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/a b", "c=d")
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("hub.example", "8443")
    assert (environ["HTTP_HOST"], environ["wsgi.url_scheme"]) == ("hub.example:8443", "https")


def test_what_a_proxy_would_say_can_be_added() -> None:
    server = WseServer(accept_all, conn_per_user=2)
    with TestServer(server, environ={"REMOTE_USER": "ann"}) as test:
        assert environ_of(test)["REMOTE_USER"] == "ann"
        test.environ["REMOTE_ADDR"] = "10.0.0.7"
        assert environ_of(test)["REMOTE_ADDR"] == "10.0.0.7"
        addresses = {conn.remote_addr for conn in server.clients["ann"].conns.values()}
        assert addresses == {"127.0.0.1", "10.0.0.7"}


@pytest.fixture
def flask_app() -> flask.Flask:
    """An application with a login, which keeps who it was in the session."""
    app = flask.Flask("tested")
    app.secret_key = "secret"

    @app.post("/login/<name>")
    def login(name: str) -> str:
        flask.session["name"] = name
        return "welcome"

    return app


def test_the_session_of_a_flask_test_client_is_that_of_the_connection(
    flask_app: flask.Flask,
) -> None:
    def identify(auth: AuthRequest) -> None:
        with flask_app.request_context(auth.environ):
            auth.accept(flask.session.get("name"))

    browser = flask_app.test_client()
    browser.post("/login/ann")
    cookie = browser.get_cookie("session")
    assert cookie is not None
    with TestServer(WseServer(identify, path="/ws")) as test:
        assert test.connect(cookies={"session": cookie.value}).cid == "ann"
        with pytest.raises(WsePermissionError):
            test.connect()


def test_the_upgrade_may_go_through_the_app(flask_app: flask.Flask) -> None:
    wse = WseServer(accept_all)
    asked = Recorder()
    flask_app.before_request(lambda: asked.add(flask.request.path))
    flask_app.route("/ws", websocket=True)(lambda: wse.wsgi_app)
    with TestServer(wse, app=flask_app, url="memory://tested/ws") as test:
        test.server.register("add", lambda conn, numbers: sum(numbers))
        assert test.connect("ann").call("add", [1, 2]) == 3
        with pytest.raises(WseConnectionError, match="404"):
            WseClient("memory://tested/elsewhere").connect("ann")
    assert asked.items == ["/ws", "/elsewhere"]


# Life


def test_a_server_may_be_tested_again_and_again() -> None:
    server = WseServer(accept_all)
    server.register("add", lambda conn, numbers: sum(numbers))
    for _ in range(3):
        with TestServer(server) as test:
            assert test.connect("ann").call("add", [1, 2]) == 3
            assert list(server.clients) == ["ann"]
        assert not server.clients


def test_a_test_server_may_be_opened_again() -> None:
    test = TestServer(WseServer(accept_all))
    for _ in range(2):
        assert test.start() is test
        client = test.connect("ann")
        test.close()
        test.close()
        assert status_of(client) == "OFFLINE"


def test_closing_ends_every_client_also_those_of_the_program() -> None:
    before = set(threading.enumerate())
    server = WseServer(accept_all)
    server.register("add", lambda conn, numbers: sum(numbers))
    with TestServer(server) as test:
        ours = test.connect("ann", reconnect=True)
        theirs = WseClient(test.url, reconnect=True)
        theirs.connect("bob")
        program = Thread(theirs.wait)
        away = WseClient(test.url, reconnect=True, backoff=SLOW)
        away.connect("cid")
        with test.unreachable():
            test.cut(away)
        silent = test.connect("dan")
        test.silence(silent)
        ours.call("add", [1, 2])
        began = time.monotonic()
    assert time.monotonic() - began < PATIENCE / 2
    assert program.result() is True
    assert set(threading.enumerate()) == before
    for client in (ours, theirs, away, silent):
        assert status_of(client) == "OFFLINE"


def test_closing_is_bounded_when_a_handler_does_not_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_IDLE", 0.01)  # or the thread would stay for a while
    server = WseServer(accept_all)
    test = TestServer(server).start()
    with blocking(server) as begun:
        test.connect("ann").submit("block")
        wait_event(begun)
        began = time.monotonic()
        test.close(timeout=0.1)
        assert time.monotonic() - began < PATIENCE / 2
    wait_until(lambda: not server.workers._threads)


def test_only_one_takes_the_place_of_a_server(test: TestServer) -> None:
    second = TestServer(test.server, url=test.url)
    with pytest.raises(WseValueError, match="another TestServer"):
        second.start()
    second._place.close()
    test.connect("ann")


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(WseValueError):
        TestServer(WseServer(accept_all), url="http://hub.example/")


def test_a_program_that_dials_a_url_of_its_own_reaches_it(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    """And the network when the test is over."""
    real = make_server(lambda auth: auth.accept(auth.identity, "real"))
    url = f"{real.url}path?token=1"
    with TestServer(WseServer(lambda auth: auth.accept(auth.identity, "test")), url=real.url):
        client = make_client(url)
        assert client.connect("ann") == "test"
    assert status_of(client) == "OFFLINE"
    assert client.connect("ann") == "real"


def test_without_a_test_server_nothing_is_at_its_url(make_client: MakeClient) -> None:
    test = TestServer(WseServer(accept_all))
    with pytest.raises(WseConnectionError, match="nothing serves memory://"):
        make_client(test.url).connect("ann")
    client = make_client(test.url, reconnect=True, backoff=QUICK)
    connecting = Thread(lambda: client.connect("ann"))
    with test:
        assert connecting.result() == {"hello": "ann"}


def test_clients_jump_from_one_to_another_and_to_real_ones(
    make_test_server: MakeTestServer, make_server: MakeServer, make_client: MakeClient
) -> None:
    def named(name: str) -> Callable[[AuthRequest], None]:
        return lambda auth: auth.accept(auth.identity, name)

    first, second = make_test_server(named("first")), make_test_server(named("second"))
    real = make_server(named("real"))
    client = make_client(first)
    assert client.connect("ann") == "first"
    assert client.jump(second.url) == "second"
    assert client.jump(real.url) == "real"
    first.settle()
    assert client.jump(first.url) == "first"


def test_pytest_does_not_take_it_for_a_test() -> None:
    assert TestServer.__test__ is False


# An attempt that hangs


@pytest.fixture
def hanging() -> Iterator[TestServer]:
    """The app in front of the server does not answer."""
    released = threading.Event()
    server = WseServer(accept_all)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        released.wait(PATIENCE)
        return server.wsgi_app(environ, start_response)

    with TestServer(server, app=app) as test:
        yield test
        released.set()


def test_the_time_to_connect_is_limited(hanging: TestServer) -> None:
    connecting = Thread(lambda: failure(hanging, connect_timeout=10.0))
    wait_until(lambda: hanging._place.dialed)
    wait_until(lambda: loop.next_deadline() < math.inf)
    assert loop.next_deadline() == pytest.approx(clock.monotonic() + 10.0, abs=PATIENCE)
    # Not with advance(), which would wait for the end of the attempt.
    clock.advance(10.0)
    loop.look_again()
    assert "given up" in str(connecting.result())


def test_an_attempt_can_be_ended(hanging: TestServer) -> None:
    client = hanging.client(reconnect=True)
    connecting = Thread(lambda: error_of(lambda: client.connect("ann")))
    wait_until(lambda: hanging._place.dialed)
    client.disconnect()
    connecting.result()
    assert status_of(client) == "OFFLINE"


# The network


def test_a_cut_is_known_to_both_ends_at_once(test: TestServer) -> None:
    told = story(test.server)
    client = test.connect("ann")
    conn = connection_of(test.server)
    test.cut()
    assert status_of(client) == "OFFLINE"
    assert conn.state == "closed"
    assert told.items[2:] == [("disconnected", 1006, ""), ("left", 1006, "")]


def test_a_session_survives_a_cut(test: TestServer) -> None:
    came = payloads(test.server)
    client = test.connect("ann", reconnect=True)
    conn = connection_of(test.server)
    with test.unreachable():
        test.cut()
        assert status_of(client) == "RE_CONNECTING"
        assert conn.state == "suspended"
        client.send("number", 1)
    # An attempt may have failed meanwhile, and the next one is later.
    test.advance_until(lambda: status_of(client) == "READY")
    test.settle()
    assert connection_of(test.server) is conn
    assert came.items == [1]


@pytest.mark.parametrize("end", ["client", "conn"])
def test_one_link_may_be_cut_among_others(test: TestServer, end: str) -> None:
    ann, bob = test.connect("ann"), test.connect("bob")
    test.cut(ann if end == "client" else connection_of(test.server, "ann"))
    assert (status_of(ann), status_of(bob)) == ("OFFLINE", "READY")
    assert list(test.server.clients) == ["bob"]


def test_who_has_no_link_loses_none(test: TestServer) -> None:
    client = test.client()
    test.cut(client)
    test.cut()
    client.connect("ann")
    conn = connection_of(test.server)
    client.disconnect()
    test.cut(conn)
    test.silence(client)


@pytest.mark.parametrize("quick", [False, True])
def test_a_link_may_be_cut_amid_a_call(
    test: TestServer, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by the thread that reads the link, which serves quick calls itself."""
    monkeypatch.setattr(procedures, "QUICK_RUNS", 0 if quick else math.inf)
    ran = Recorder()

    def cut(conn: WseConnection, payload: Any) -> str:
        ran.add(threading.current_thread().name.startswith("wse-test"))
        test.cut(conn)
        return "done"

    test.server.register("cut", cut)
    client = test.connect("ann", reconnect=True, backoff=QUICK)
    test.settle()  # what is told of the login would be before the call
    assert client.call("cut") == "done"
    assert ran.items == [quick]


def test_nobody_gets_through_while_it_is_unreachable(test: TestServer) -> None:
    there = test.connect("ann")
    with test.unreachable():
        with test.unreachable():
            assert "does not let anybody through" in str(failure(test))
        failure(test)
        assert status_of(there) == "READY"
    test.connect("bob")


def test_who_cannot_get_through_tries_again_and_again(test: TestServer) -> None:
    client = test.connect("ann", reconnect=True, backoff=Backoff(4.0, 1.0, 4.0))
    tries = Recorder()

    def identity() -> str:
        tries.add(clock.monotonic())
        return "ann"

    client.jump(test.url, identity)
    with test.unreachable():
        test.cut()
        test.advance(60.0)
    assert status_of(client) == "RE_CONNECTING"
    test.advance(4.0)
    assert status_of(client) == "READY"
    pauses = [later - earlier for earlier, later in zip(tries.items[1:], tries.items[2:])]
    assert len(pauses) >= 60.0 / 4.1
    assert max(pauses) < 4.0 + PATIENCE


def test_silence_is_noticed_by_both_ends_when_time_has_passed(test: TestServer) -> None:
    told = story(test.server)
    client = test.connect("ann")
    closed = Recorder()
    client.when.closed(closed)
    other = test.connect("bob")
    told.wait_for(4)
    test.silence(client)
    client.send("number", 1)
    assert test.server.send("ann", "number", 1) == 1
    test.advance(30.0)
    assert status_of(client) == "READY"
    assert len(told) == 4
    # The second half of the time begins with the ping, which may be late.
    test.advance(10.0 + PATIENCE)
    assert status_of(client) == "OFFLINE"
    assert told.items[4:] == [("disconnected", 1006, ""), ("left", 1006, "")]
    assert closed.items == [(1006, "")]
    assert status_of(other) == "READY"


def test_a_silent_end_does_not_hear_of_the_end_of_the_other(test: TestServer) -> None:
    client = test.connect("ann")
    conn = connection_of(test.server)
    test.silence(conn)
    client.disconnect(timeout=0.1)
    test.settle()
    assert conn.state == "open"
    test.cut(conn)
    assert conn.state == "closed"


def test_who_comes_back_from_silence_has_its_session(test: TestServer) -> None:
    client = test.connect("ann", reconnect=True)
    conn = connection_of(test.server)
    ignored = Recorder()
    test.server.when.ignored(ignored)
    test.silence()
    client.send("number", 1)
    test.advance(60.0)
    assert status_of(client) == "READY"
    assert connection_of(test.server) is conn
    assert ignored.items == [(conn, "number", 1)]


# Time


def test_calls_time_out(test: TestServer) -> None:
    client = test.connect("ann")
    with blocking(test.server) as begun:
        future = client.submit("block")
        wait_event(begun)
        test.advance(10.0, settle=False)
        assert not future.done()
        test.advance(10.0, settle=False)
        error = future.exception(0.0)
        assert isinstance(error, WseTimeoutError)
        assert error.code == WSE_ERROR.RP_TIMEOUT


def test_time_passes_by_itself_as_well(test: TestServer) -> None:
    client = test.connect("ann")
    with blocking(test.server), pytest.raises(WseTimeoutError):
        client.call("block", timeout=0.01)


def test_a_thread_that_waits_for_an_answer_is_told(test: TestServer) -> None:
    client = test.connect("ann")
    waiting = threading.Event()
    client.register("slow", lambda payload: waiting.wait(PATIENCE))
    calling = Thread(lambda: error_of(lambda: connection_of(test.server).call("slow")))
    wait_until(lambda: len(connection_of(test.server)._callers))
    test.advance(20.0, settle=False)
    assert isinstance(calling.result(), WseTimeoutError)
    waiting.set()


def test_strangers_who_are_not_let_in_are_closed(make_test_server: MakeTestServer) -> None:
    test = make_test_server(lambda auth: None)
    connecting = Thread(lambda: error_of(lambda: test.connect("ann")))
    wait_until(lambda: test.server.links())
    test.advance(10.0)
    assert connecting.is_alive()
    test.advance(10.0)
    assert connecting.result().details == {"closed": [1000, WSE_REASON.AUTH_TIMEOUT]}


def test_a_session_ends_when_nobody_comes_back(test: TestServer) -> None:
    told = story(test.server)
    client = test.connect("ann", reconnect=True, backoff=QUICK)
    with test.unreachable():
        test.cut()
        test.advance(30.0)
        assert told.items == ["joined", "connected", "suspended"]
        test.advance(30.1)
    expired = (1006, WSE_REASON.SESSION_EXPIRED)
    assert told.items[3:] == [("disconnected", *expired), ("left", *expired)]
    test.advance(1.0)
    assert status_of(client) == "READY"
    assert told.items[5:] == ["joined", "connected"]


def test_what_is_due_on_the_way_happens_at_its_time(test: TestServer) -> None:
    """The client comes back before its session ends, although both are due in one go."""
    told = story(test.server)
    test.connect("ann", reconnect=True, backoff=SLOW)
    test.cut()
    test.advance(HOUR)
    assert told.items == ["joined", "connected", "suspended", "resumed"]
    ran: list[float] = []
    begin = clock.monotonic()
    for delay in (30.0, 10.0, 20.0):
        loop.call_later(delay, lambda: ran.append(clock.monotonic() - begin))
    test.advance(HOUR)
    assert ran == pytest.approx([10.0, 20.0, 30.0], abs=PATIENCE / 2)


def test_a_day_does_no_harm_to_a_healthy_link(test: TestServer) -> None:
    told = story(test.server)
    client = test.connect("ann", reconnect=True)
    conn = connection_of(test.server)
    for seconds in (HOUR, 20.0, 20.0, 40.0, 19.99, 0.02, 20.0, 0.0, 24 * HOUR):
        test.advance(seconds)
    assert status_of(client) == "READY"
    assert conn.state == "open"
    assert told.items == ["joined", "connected"]


def test_the_heart_beats_meanwhile(test: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    client = test.connect("ann")
    link = client.connection.link
    assert link is not None
    pings = Recorder()
    encode = link.transport.encode_ping

    def count() -> bytes:
        pings.add(None)
        return encode()

    monkeypatch.setattr(link.transport, "encode_ping", count)
    test.advance(HOUR)
    # The pings of the other end are life, too.
    assert HOUR / 45 < len(pings) <= HOUR / 20


def test_a_client_that_owes_acknowledgements_is_not_given_up(
    make_test_server: MakeTestServer,
) -> None:
    """Its own timer for them is due before the patience of the server is over."""
    test = make_test_server(resume_buffer_frames=10)
    client = test.connect("ann", reconnect=True)
    for number in range(20):
        test.server.send("ann", "number", number)
    test.advance(HOUR)
    assert status_of(client) == "READY"


def test_every_timeout_of_a_client_passes(make_test_server: MakeTestServer) -> None:
    test = make_test_server(
        lambda auth: auth.accept(auth.identity) if auth.identity else None, auth_timeout=None
    )
    client = test.connect("ann")
    silent = test.client()

    def get() -> Any:
        with client.channel.listen("never") as inbox:
            return inbox.get(timeout=HOUR)

    waits: list[Callable[[], Any]] = [
        lambda: client.channel.wait("never", timeout=HOUR),
        get,
        lambda: silent.connect(timeout=HOUR),
    ]
    threads = [Thread(partial(error_of, wait)) for wait in waits]
    waiting = Thread(lambda: client.wait(HOUR))
    wait_until(lambda: len(clock._waits) == 4)
    test.advance(HOUR / 2)
    assert waiting.is_alive() and all(thread.is_alive() for thread in threads)
    test.advance(HOUR / 2)
    assert all(isinstance(thread.result(), WseTimeoutError) for thread in threads)
    assert waiting.result() is False


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, "1"])
def test_time_does_not_go_back(test: TestServer, seconds: Any) -> None:
    with pytest.raises(WseError):
        test.advance(seconds)


def test_many_clients_cost_no_more_steps(test: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their hearts beat at about the same time, however slowly they came."""
    monkeypatch.setattr(testing, "_STEP", PATIENCE)
    for number in range(20):
        test.connect(number + 1)
    steps = Recorder()
    look_again = loop.look_again

    def count() -> None:
        steps.add(None)
        look_again()

    monkeypatch.setattr(loop, "look_again", count)
    test.advance(HOUR)
    # One by one, they would take 40 each time.
    assert len(steps) < 10 * HOUR / 20
    assert len(test.server.clients) == 20


def test_time_passes_until_something_has_happened(test: TestServer) -> None:
    """In a thread that nobody knows, as a program has one."""
    client = test.connect("ann")
    turns = Recorder()

    def program() -> None:
        while not client.wait(60.0):
            turns.add(clock.monotonic())

    running = Thread(program)
    test.advance_until(lambda: len(turns) == 3, step=10.0)
    assert turns.items[2] - turns.items[0] >= 120.0
    client.disconnect()
    running.result()


def test_what_does_not_happen_is_not_waited_for_for_ever(test: TestServer) -> None:
    with pytest.raises(WseTimeoutError, match="it has not happened"):
        test.advance_until(lambda: False, timeout=0.05)


# Rest


def test_settle_waits_for_everything_that_comes_of_a_message(test: TestServer) -> None:
    """Message, call, call back, message, over two clients, again and again."""
    done: list[int] = []
    ann, bob = test.connect("ann"), test.connect("bob")

    @test.server.channel.on("first")
    def first(conn: WseConnection, number: int) -> None:
        conn.call("second", number)
        test.server.send("bob", "third", number)

    ann.register("second", lambda number: ann.call("inner", number))
    test.server.register("inner", lambda conn, number: number)
    bob.channel.on("third", lambda number: bob.send("fourth", number))
    test.server.channel.on("fourth", lambda conn, number: done.append(number))
    for number in range(100):
        ann.send("first", number)
        test.settle()
        assert done == list(range(number + 1))


def test_settle_says_what_is_busy(test: TestServer) -> None:
    client = test.connect("ann")
    with blocking(test.server) as begun:
        client.submit("block")
        wait_event(begun)
        test.advance(0.0, settle=False)  # the reader is done with the call
        with pytest.raises(WseTimeoutError, match="a handler in wse-"):
            test.settle(timeout=0.05)


@pytest.mark.parametrize("quick", [False, True])
def test_in_a_handler_it_does_not_wait_for_that(
    test: TestServer, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if quick:
        monkeypatch.setattr(procedures, "QUICK_RUNS", 0)
    client = test.connect("ann")

    def rest(conn: WseConnection, payload: Any) -> str:
        test.settle()
        test.advance(60.0)
        return "rested"

    test.server.register("rest", rest)
    assert client.call("rest", timeout=None) == "rested"


def test_a_solver_and_a_callable_identity_are_handlers(test: TestServer) -> None:
    released = threading.Event()
    test.server.use_challenge(lambda auth: "quest")
    client = test.client()
    client.challenge(lambda quest: released.wait(PATIENCE))
    connecting = Thread(lambda: client.connect(lambda: "ann"))
    wait_until(lambda: any(life.is_asking and life.link for life in test._place.dialed))
    test.advance(1.0, settle=False)
    with pytest.raises(WseTimeoutError, match="wse-client-"):
        test.settle(timeout=0.05)
    released.set()
    connecting.result()
    test.settle()


def test_settle_waits_for_what_comes_of_an_identity(
    test: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It returns while settle() looks for what is busy."""
    go_on, dialing, dialed = (threading.Event() for _ in range(3))
    links, dial, asked = TestServer._links, Life._dial, Recorder()

    def identity() -> str:
        asked.add(None)
        if len(asked) == 2:
            wait_event(go_on)
        return "ann"

    def links_late(self: TestServer, lives: list[Life]) -> list[Link]:
        if not lives:  # it has just looked at all of them
            go_on.set()
            wait_event(dialing)
        return links(self, lives)

    def dial_late(self: Life, url: str) -> Transport:
        dialing.set()
        wait_event(dialed)
        return dial(self, url)

    client = test.client(reconnect=True, backoff=QUICK)
    client.connect(identity)
    test.settle()
    monkeypatch.setattr(TestServer, "_links", links_late)
    monkeypatch.setattr(Life, "_dial", dial_late)
    conn = connection_of(test.server)
    conn.arrival.fail()
    asked.wait_for(2)
    with pytest.raises(WseTimeoutError, match="still busy"):
        test.settle(timeout=0.05)
    go_on.set()
    dialed.set()
    test.settle()
    assert status_of(client) == "READY"


def test_a_reader_that_waits_for_room_is_at_rest(make_test_server: MakeTestServer) -> None:
    """It waits for a handler."""
    test = make_test_server(max_queue_bytes=1000)
    released = threading.Event()
    handled = payloads(test.server, "big")
    test.server.channel.on("big", lambda conn, payload: released.wait(PATIENCE))
    client = test.connect("ann")
    for _ in range(5):
        client.send("big", "x" * 400)
    wait_until(lambda: any(link.paused for link in test.server.links()))
    test.advance(HOUR / 60, settle=False)
    assert status_of(client) == "READY"
    released.set()
    test.settle()
    assert len(handled) == 5
