"""WseFlask: a server for each application, and every handler in a request context of its own."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import urllib.error
import urllib.request
import weakref
from collections.abc import Iterator
from typing import Any, Callable

import flask
import pytest
import websocket
from flask.sessions import SecureCookieSessionInterface

from tests.conftest import Connect, MakeClient, MakeRawClient
from tests.hosts import werkzeug_serving
from tests.programs import Program
from tests.support import PATIENCE, QUICK, Recorder, Thread, accept_all, wait_event, wait_until
from wse_sync import (
    WSE_ERROR,
    AuthRequest,
    JsonProtocol,
    WseClient,
    WseConnection,
    WseConnectionError,
    WseError,
    WseServer,
    WseTimeoutError,
    WseTypeError,
    WseValueError,
)
from wse_sync.flask import WseFlask
from wse_sync.testing import TestServer

PATH = "/ws"


def make_app(name: str = "pages", **config: Any) -> flask.Flask:
    """An application with a page, and a session that a browser may have."""
    app = flask.Flask(name)
    app.config.update(SECRET_KEY="not a secret", **config)

    @app.get("/")
    def page() -> str:
        return "a page"

    return app


@contextlib.contextmanager
def serving(app: flask.Flask, path: str = PATH) -> Iterator[str]:
    """Serves the application; at the end its WebSockets are closed first."""
    with werkzeug_serving(app, path) as url:
        try:
            yield url
        finally:
            app.extensions["wse"].of(app).close()


def cookie(app: flask.Flask, **values: Any) -> str:
    """The session that a login of this application would have given to a browser."""
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    return f"session={serializer.dumps(values)}"


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url.replace("ws", "http", 1), timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


# What it is


def test_it_is_a_server_and_an_extension() -> None:
    app = make_app()
    wse = WseFlask(app, identify=accept_all)
    assert isinstance(wse, WseServer)
    assert app.extensions["wse"] is wse
    assert repr(wse) == "<WseFlask /ws of pages>"
    assert repr(WseFlask(identify=accept_all)) == "<WseFlask of no application yet>"


def test_it_needs_an_identify_handler() -> None:
    with pytest.raises(WseError) as caught:
        WseFlask(make_app(), identify=None)  # type: ignore[arg-type]
    assert caught.value.code == WSE_ERROR.IDENTIFY_HANDLER_MISSING


def test_its_addresses_have_names() -> None:
    app = make_app(SERVER_NAME="example.org")
    WseFlask(app, identify=accept_all, path="/live")
    with app.test_request_context():
        assert flask.url_for("wse") == "/live"
        assert flask.url_for("wse_script") == "/live/wse.js"
        assert flask.url_for("wse_socket", _external=True) == "ws://example.org/live"


@pytest.mark.parametrize("option", ["port", "host", "http_app", "ssl_context", "nonsense"])
def test_an_option_that_it_does_not_have_is_named(option: str) -> None:
    options: dict[str, Any] = {option: 1}
    with pytest.raises(WseTypeError, match=rf"'{option}'.*max_connections"):
        WseFlask(identify=accept_all, **options)


def test_options_are_checked_before_there_is_an_application() -> None:
    with pytest.raises(WseValueError, match="conn_per_user"):
        WseFlask(identify=accept_all, conn_per_user=0)
    with pytest.raises(WseValueError, match="begin with /"):
        WseFlask(identify=accept_all, path="ws")
    with pytest.raises(WseTypeError, match="path"):
        WseFlask(identify=accept_all, path=None)  # type: ignore[arg-type]
    with pytest.raises(WseTypeError, match="path"):
        WseFlask(identify=accept_all, path=5)  # type: ignore[arg-type]


def test_settings_of_the_application_come_first() -> None:
    app = make_app(WSE_CONN_PER_USER=3, WSE_PATH="/live", WSE_CALL_TIMEOUT=None)
    wse = WseFlask(identify=accept_all, conn_per_user=2, max_connections=7, call_timeout=1.0)
    wse.init_app(app)
    server = wse.of(app)
    assert (server.conn_per_user, server.path, server.call_timeout) == (3, "/live", None)
    assert server.max_connections == 7
    with app.test_request_context():
        assert flask.url_for("wse") == "/live"
    # With one application, it is what that says.
    assert (wse.conn_per_user, wse.call_timeout) == (3, None)
    assert repr(wse) == "<WseFlask /live of pages>"


def test_settings_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_WSE_CONN_PER_USER", "4")
    app = make_app()
    app.config.from_prefixed_env()
    assert WseFlask(app, identify=accept_all).of(app).conn_per_user == 4


def test_a_text_does_not_send_tracebacks_to_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flask reads the environment as JSON, and has what is none as a text."""
    monkeypatch.setenv("FLASK_WSE_DEBUG", "False")
    app = make_app()
    app.config.from_prefixed_env()
    with pytest.raises(WseTypeError, match="debug must be True or False, not 'False'"):
        WseFlask(app, identify=accept_all)


def test_a_setting_that_makes_no_sense_is_named() -> None:
    with pytest.raises(WseValueError, match=r"WSE_CONNECTIONS.*max_connections"):
        WseFlask(make_app(WSE_CONNECTIONS=1), identify=accept_all)
    with pytest.raises(WseTypeError, match="max_workers"):
        WseFlask(make_app(WSE_MAX_WORKERS="many"), identify=accept_all)
    for path in (None, 5):
        with pytest.raises(WseTypeError, match="path"):
            WseFlask(make_app(WSE_PATH=path), identify=accept_all)


def test_one_application_has_one() -> None:
    app = make_app()
    wse = WseFlask(app, identify=accept_all)
    for another in (wse, WseFlask(identify=accept_all)):
        with pytest.raises(WseValueError, match="already"):
            another.init_app(app)


def test_without_an_application_it_says_what_comes_first() -> None:
    wse = WseFlask(identify=accept_all)
    for use in (
        lambda: wse.clients,
        lambda: wse.send("ann", "news"),
        lambda: wse.broadcast("news"),
        lambda: wse.of(make_app()),
    ):
        with pytest.raises(WseValueError, match="init_app"):
            use()
    wse.close()


def test_it_is_the_application_that_is_served() -> None:
    wse = WseFlask(make_app(), identify=accept_all)
    with pytest.raises(WseValueError, match="flask run or gunicorn"):
        wse.start()
    with pytest.raises(WseValueError, match="flask run or gunicorn"):
        wse.serve_forever()


def test_nothing_is_started_before_the_first_connection(connect: Connect) -> None:
    before = set(threading.enumerate())
    app = make_app()
    wse = WseFlask(app, identify=accept_all)
    wse.register("echo", lambda conn, payload: payload)
    wse.broadcast("news")
    assert app.test_client().get("/").text == "a page"
    assert set(threading.enumerate()) == before
    with serving(app) as url:
        assert connect(url).call("echo", 1) == 1


def test_an_application_that_is_gone_is_forgotten() -> None:
    wse = WseFlask(identify=accept_all)
    first = make_app()
    wse.init_app(first)
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None
    second = make_app()
    wse.init_app(second)
    assert wse.broadcast("news") == 0


def test_an_application_that_was_given_at_once_stays() -> None:
    wse = WseFlask(make_app(), identify=accept_all)
    gc.collect()
    assert repr(wse) == "<WseFlask /ws of pages>"
    assert wse.broadcast("news") == 0


# HTTP


def test_pages_are_those_of_the_application(make_raw_client: MakeRawClient) -> None:
    app = make_app()
    WseFlask(app, identify=accept_all)
    with serving(app, "") as url:
        assert get(f"{url}/") == (200, "a page")
        assert get(f"{url}/missing")[0] == 404
        status, hint = get(f"{url}{PATH}")
        assert status == 426
        assert "WSE client" in hint
        status, script = get(f"{url}{PATH}/wse.js")
        assert status == 200
        assert "export" in script
        with pytest.raises(websocket.WebSocketBadStatusException) as caught:
            make_raw_client(f"{url}/elsewhere")
        assert caught.value.status_code == 404


def test_a_page_may_live_at_the_same_path_at_the_root(connect: Connect) -> None:
    app = flask.Flask("root")
    wse = WseFlask(app, identify=accept_all, path="/")
    wse.register("endpoint", lambda conn, payload: flask.request.endpoint)
    app.add_url_rule("/", "page", lambda: "a page")
    with serving(app, "/") as url:
        assert get(url) == (200, "a page")
        assert get(f"{url}wse.js")[0] == 200
        assert connect(url).call("endpoint") == "wse_socket"


@pytest.mark.skipif(
    "TRUSTED_HOSTS" not in flask.Flask.default_config, reason="Flask 3.1 brings TRUSTED_HOSTS"
)
@pytest.mark.parametrize("host", ["evil.example", "good.example.evil.example", "evil.example:80"])
def test_a_host_that_is_not_trusted_gets_neither_page_nor_socket(host: str) -> None:
    """The page of somebody whose name leads here would be of the same origin."""
    app = make_app(TRUSTED_HOSTS=["good.example", ".good.example"])
    wse = WseFlask(app, identify=accept_all)
    browser = app.test_client()
    for path in ("/", PATH, f"{PATH}/wse.js"):
        assert browser.get(path, headers={"Host": host}).status_code == 400
    with TestServer(wse) as test:
        with pytest.raises(WseConnectionError, match="400") as caught:
            test.connect("ann", headers={"Host": host, "Origin": f"http://{host}"})
        assert caught.value.details["status"] == 400
        for good in ("good.example", "www.good.example:8080"):
            test.connect(good, headers={"Host": good, "Origin": f"http://{good}"})
        assert len(wse.clients) == 2
    assert browser.get("/", headers={"Host": "good.example"}).status_code == 200


def test_middleware_sees_upgrades_if_it_comes_after_the_extension() -> None:
    def middleware(app: flask.Flask, name: str) -> None:
        inner = app.wsgi_app

        def outer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            environ[f"tests.{name}"] = True
            return inner(environ, start_response)

        app.wsgi_app = outer  # type: ignore[method-assign]

    app = make_app()
    middleware(app, "before")
    wse = WseFlask(app, identify=accept_all)
    middleware(app, "after")
    names = ("before", "after")

    @app.get("/seen")
    def seen_by() -> list[str]:
        return [name for name in names if f"tests.{name}" in flask.request.environ]

    wse.register("seen", lambda conn, payload: seen_by())
    assert app.test_client().get("/seen").json == ["before", "after"]
    with TestServer(wse, app=app) as test:
        assert test.connect("ann").call("seen") == ["after"]


def test_the_extension_is_the_application_with_its_socket(connect: Connect) -> None:
    app = make_app()
    wse = WseFlask(app, identify=accept_all)
    wse.register("echo", lambda conn, payload: payload)
    with werkzeug_serving(wse.wsgi_app, PATH) as url:
        assert get(url.replace(PATH, "/")) == (200, "a page")
        assert connect(url).call("echo", 1) == 1
        wse.close()


# The context of handlers


def seen() -> tuple[str, str, Any, str | None, str | None]:
    """What a handler sees of its context."""
    flask.g.calls = flask.g.get("calls", 0) + 1
    assert flask.g.calls == 1, "the context is not fresh"
    return (
        flask.current_app.name,
        flask.request.headers["X-Device"],
        flask.session.get("user"),
        flask.request.args.get("room"),
        flask.request.endpoint,
    )


HERE = ("pages", "pi", "ann", "blue", "wse_socket")


def test_every_handler_runs_in_a_context_of_the_handshake(make_client: MakeClient) -> None:
    app = make_app()
    log = Recorder()

    def note(name: str) -> Callable[..., None]:
        return lambda *values: log.add((name, seen()))

    def identify(auth: AuthRequest) -> None:
        log.add(("identify", seen()))
        auth.accept(flask.session["user"])

    wse = WseFlask(app, identify=identify, resume_window=60.0)

    @wse.use_challenge
    def ask(auth: AuthRequest) -> str:
        log.add(("challenge", seen()))
        return "quest"

    names = ("joined", "connected", "suspended", "resumed", "disconnected", "left", "ignored")
    for name in (*names, "error"):
        getattr(wse.when, name)(note(name))
    wse.channel.on("message", note("message"))
    wse.channel.once("message", note("once"))

    @wse.register("work")
    def work(conn: WseConnection, payload: Any) -> list[Any]:
        return list(seen())

    @wse.register("fail")
    def fail(conn: WseConnection, payload: Any) -> None:
        raise LookupError("no")

    with serving(app) as url:
        client = make_client(
            f"{url}?room=blue",
            reconnect=True,
            backoff=QUICK,
            ws_options={"header": {"X-Device": "pi"}, "cookie": cookie(app, user="ann")},
        )
        client.challenge(lambda quest: "solution")
        client.connect()
        client.send("message")
        client.send("nonsense")
        assert tuple(client.call("work")) == HERE
        with pytest.raises(WseError):
            client.call("fail")
        (conn,) = wse.clients["ann"].conns.values()
        conn.arrival.fail()  # so that the server knows before the client comes back
        wait_until(lambda: conn.links == 1)
        assert tuple(client.call("work")) == HERE
        client.disconnect()
        items = log.wait_for(14)
    assert {what for _, what in items} == {HERE}
    names_seen = [name for name, _ in items]
    assert sorted(names_seen) == sorted(
        [*names, "error", "message", "once", *2 * ["identify", "challenge"]]
    )


def test_contexts_end_with_their_handlers(connect: Connect) -> None:
    app = make_app()
    ended = Recorder()
    app.teardown_request(lambda error: ended.add(("request", error)))
    app.teardown_appcontext(lambda error: ended.add(("app", error)))
    wse = WseFlask(app, identify=accept_all)
    wse.register("echo", lambda conn, payload: payload)
    with serving(app) as url:
        client = connect(url)
        ended.wait_for(2)
        ended.items.clear()
        for _ in range(20):  # the first on workers, later ones in the reader
            client.call("echo")
        assert ended.wait_for(40)[:40] == 20 * [("request", None), ("app", None)]


def test_what_a_handler_raises_reaches_the_end_of_its_context(connect: Connect) -> None:
    app = make_app()
    ended, reported = Recorder(), Recorder()
    app.teardown_request(lambda error: ended.add(error))
    wse = WseFlask(app, identify=accept_all)
    wse.when.error(lambda error, conn: reported.add((error, conn.cid)))
    errors = [ValueError("a message"), ValueError("a signal")]

    @wse.channel.on("fail")
    def fail(conn: WseConnection, payload: Any) -> None:
        raise errors[0]

    @wse.when.ignored
    def ignored(conn: WseConnection, type: str, payload: Any) -> None:
        raise errors[1]

    with serving(app) as url:
        client = connect(url)
        client.send("fail")
        client.send("nonsense")
        assert reported.wait_for(2) == [(error, "ann") for error in errors]
        wait_until(lambda: [error for error in ended.items if error] == errors)


def test_handlers_at_the_same_time_have_contexts_of_their_own(connect: Connect) -> None:
    app = make_app()
    wse = WseFlask(app, identify=accept_all)
    meeting = threading.Barrier(8)

    @wse.register("meet")
    def meet(conn: WseConnection, number: int) -> tuple[int, str]:
        flask.g.number = number
        meeting.wait(PATIENCE)
        return flask.g.number, flask.request.args["who"]

    with serving(app) as url:
        ann, bob = (connect(f"{url}?who={who}", who) for who in ("ann", "bob"))
        futures = [(ann if n % 2 else bob).submit("meet", n) for n in range(8)]
        answers = [future.result(PATIENCE) for future in futures]
    assert answers == [[n, "ann" if n % 2 else "bob"] for n in range(8)]


def test_a_handler_may_call_back_and_be_called_within(connect: Connect) -> None:
    app = make_app()
    wse = WseFlask(app, identify=accept_all)

    @wse.register("down")
    def down(conn: WseConnection, depth: int) -> Any:
        flask.g.depth = depth
        result = conn.call("up", depth - 1) if depth else "ground"
        assert flask.g.depth == depth
        return result

    with serving(app) as url:
        client = connect(url)
        client.register("up", lambda depth: client.call("down", depth))
        assert client.call("down", 5) == "ground"


def test_each_application_has_figures_of_its_own(connect: Connect) -> None:
    wse = WseFlask(identify=accept_all)
    wse.register("add", lambda conn, numbers: sum(numbers))
    apps = [make_app(name) for name in ("first", "second")]
    for app in apps:
        wse.init_app(app)
    with serving(apps[0]) as first, serving(apps[1]) as second:
        for url, calls in ((first, 3), (second, 1)):
            client = connect(url)
            for _ in range(calls):
                client.call("add", [1])
        found = [wse.of(app).stats().calls_served["add"].count for app in apps]
        assert found == [3, 1]
        with apps[1].app_context():
            assert wse.stats().connections == 1
            assert wse.stats().calls_served["add"].count == 1
        wse.close()


def test_functions_before_requests_do_not_run_for_the_socket(connect: Connect) -> None:
    app = make_app()
    asked = Recorder()
    app.before_request(lambda: asked.add(flask.request.path))
    wse = WseFlask(app, identify=accept_all)
    wse.register("echo", lambda conn, payload: payload)
    with serving(app) as url:
        assert connect(url).call("echo", 1) == 1
        assert get(url.replace(PATH, "/"))[0] == 200
    assert asked.items == ["/"]


def test_a_session_that_a_handler_changes_is_warned_of_once(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    wse = WseFlask(app, identify=accept_all)

    @wse.register("change")
    def change(conn: WseConnection, payload: Any) -> None:
        flask.session["lost"] = payload

    with serving(app) as url, caplog.at_level(logging.WARNING, "wse_sync.server"):
        client = connect(url)
        client.call("change", 1)
        client.call("change", 2)
    ours = [record for record in caplog.records if record.name == "wse_sync.server"]
    assert [record.getMessage() for record in ours] == [
        "a handler changed flask.session: no response takes that to the browser,"
        " so it is lost (said once)"
    ]


def test_a_decision_may_be_taken_later_in_a_view(make_client: MakeClient) -> None:
    app = make_app()
    waiting = Recorder()
    joined = Recorder()
    wse = WseFlask(app, identify=waiting)
    wse.when.joined(lambda client, meta: joined.add((client.cid, flask.request.path)))

    @app.get("/allow")
    def allow() -> str:
        waiting.items[0].accept("ann", "welcome")
        return "done"

    with serving(app) as url:
        client = make_client(url)
        connecting = Thread(client.connect)
        waiting.wait_for(1)
        assert get(url.replace(PATH, "/allow")) == (200, "done")
        assert connecting.result() == "welcome"
        assert joined.wait_for(1) == [("ann", PATH)]


# Sending


def test_sending_needs_no_context(connect: Connect) -> None:
    app = make_app()
    wse = WseFlask(app, identify=accept_all)

    @app.get("/tell")
    def tell() -> str:
        return f"{wse.broadcast('news', 'from a view')} {wse.send('ann', 'news', 'to ann')}"

    with serving(app) as url:
        client = connect(url)
        news = Recorder()
        client.channel.on("news", news)
        client.register("whoami", lambda payload: "ann's page")
        assert get(url.replace(PATH, "/tell")) == (200, "1 1")
        assert Thread(lambda: wse.broadcast("news", "from a thread")).result() == 1
        timer = threading.Timer(0.0, lambda: wse.clients["ann"].send("news", "from a scheduler"))
        timer.start()
        assert news.wait_for(4) == ["from a view", "to ann", "from a thread", "from a scheduler"]
        timer.join()
        (conn,) = wse.clients["ann"].conns.values()
        assert conn.call("whoami") == "ann's page"
        wse.drop_client("ann", "enough")
        assert client.wait(PATIENCE)


# Factories, and several applications


def test_handlers_may_be_bound_before_and_after_the_application(make_client: MakeClient) -> None:
    wse = WseFlask(identify=accept_all)
    wse.register("before", lambda conn, payload: "before")
    app = make_app()
    wse.init_app(app)
    wse.register("after", lambda conn, payload: "after")
    quests = Recorder()

    @wse.use_challenge
    def ask(auth: AuthRequest) -> int:
        quests.add(flask.current_app.name)
        return 1

    with serving(app) as url:
        client = make_client(url)
        client.challenge(lambda quest: quest)
        client.connect("ann")
        assert [client.call("before"), client.call("after")] == ["before", "after"]
    assert quests.items == ["pages"]


def test_several_applications_are_worlds_apart(connect: Connect) -> None:
    wse = WseFlask(identify=accept_all, conn_per_user=1)
    wse.register("where", lambda conn, payload: flask.current_app.name)
    apps = [make_app(name, WSE_MAX_CONNECTIONS=n) for n, name in enumerate(("one", "two"), 1)]
    for app in apps:
        wse.init_app(app)
    assert [wse.of(app).max_connections for app in apps] == [1, 2]
    with serving(apps[0]) as first, serving(apps[1]) as second:
        # The same name is two users: neither pushes the other out.
        clients = [connect(first, "ann"), connect(second, "ann"), connect(second, "bob")]
        news = [Recorder() for _ in clients]
        for client, recorder in zip(clients, news):
            client.channel.on("news", recorder)
        assert [client.call("where") for client in clients] == ["one", "two", "two"]
        for use in (lambda: wse.clients, lambda: wse.broadcast("news")):
            with pytest.raises(WseValueError, match="2 applications"):
                use()
        with apps[0].app_context():
            assert list(wse.clients) == ["ann"]
            assert wse.broadcast("news", 1) == 1
        with apps[1].app_context():
            assert wse.broadcast("news", 2) == 2
            assert wse.send("ann", "news", 3) == 1
        assert wse.of(apps[1]).send("bob", "news", 4) == 1
        assert news[0].wait_for(1) == [1]
        assert news[1].wait_for(2) == [2, 3]
        assert news[2].wait_for(2) == [2, 4]
        wse.of(apps[0]).close()
        assert clients[0].wait(PATIENCE)
        assert clients[1].call("where") == "two"


def test_the_sender_of_a_signal_is_the_server_of_the_application() -> None:
    wse = WseFlask(identify=accept_all)
    apps = [make_app(name) for name in ("one", "two")]
    joined = Recorder()

    def note(sender: WseServer, **values: Any) -> None:
        joined.add((sender, values["client"].cid))

    for app in apps:
        wse.init_app(app)
    wse.when.joined.connect(note, sender=wse.of(apps[1]))
    for app, name in zip(apps, ("ann", "bob")):
        with TestServer(wse.of(app)) as test:
            test.connect(name)
            test.settle()
    assert joined.items == [(wse.of(apps[1]), "bob")]


def test_inboxes_go_on_until_the_last_application_is_closed() -> None:
    wse = WseFlask(identify=accept_all)
    apps = [make_app(name) for name in ("one", "two")]
    for app in apps:
        wse.init_app(app)
    with TestServer(wse.of(apps[1])) as test, wse.channel.listen("news") as inbox:
        client = test.connect("ann")
        wse.of(apps[0]).close()
        client.send("news", 1)
        assert inbox.get(PATIENCE)[1:] == ("news", 1)
        waiting = Thread(lambda: wse.channel.wait("more"))
        wse.of(apps[1]).close()
        with pytest.raises(WseConnectionError):
            inbox.get(PATIENCE)
        with pytest.raises(WseConnectionError):
            waiting.result()


def test_an_application_that_comes_after_all_were_closed_has_inboxes() -> None:
    wse = WseFlask(make_app("one"), identify=accept_all)
    wse.close()
    app = make_app("two")
    wse.init_app(app)
    with werkzeug_serving(app, PATH) as url, wse.channel.listen("news") as inbox:
        with WseClient(url) as client:
            client.connect("ann")
            client.send("news", 1)
            assert inbox.get(PATIENCE)[1:] == ("news", 1)
        wse.close()


# Under test


def test_a_factory_is_tested_without_sockets_again_and_again() -> None:
    wse = WseFlask(identify=lambda auth: auth.accept(flask.session["user"]), path="/live")
    wse.register("whoami", lambda conn, payload: [flask.session["user"], flask.request.path])
    for name in ("ann", "bob"):
        app = make_app(name)
        wse.init_app(app)
        with TestServer(wse.of(app)) as test:
            client = test.connect(cookies=dict([cookie(app, user=name).split("=", 1)]))
            assert client.call("whoami") == [name, "/live"]
            with app.app_context():
                assert list(wse.clients) == [name]


def test_the_extension_itself_is_tested_when_it_has_one_application() -> None:
    wse = WseFlask(make_app(), identify=accept_all)
    wse.register("echo", lambda conn, payload: [flask.current_app.name, payload])
    for _ in range(2):
        with TestServer(wse) as test:
            client = test.connect("ann", reconnect=True)
            assert client.call("echo", 1) == ["pages", 1]
            test.cut(client)
            test.advance(60.0)
            assert client.call("echo", 2) == ["pages", 2]


def test_the_extension_is_tested_where_its_application_says() -> None:
    class TextProtocol(JsonProtocol):
        name = "text"

    app = make_app(WSE_PATH="/live", WSE_PROTOCOL=TextProtocol())
    wse = WseFlask(app, identify=accept_all)
    wse.register("path", lambda conn, payload: flask.request.path)
    with TestServer(wse) as test:
        client = test.connect("ann", protocol=TextProtocol())
        assert client.call("path") == "/live"


def test_which_of_several_applications_is_tested_has_to_be_said() -> None:
    wse = WseFlask(identify=accept_all)
    with pytest.raises(WseValueError, match="init_app"):
        TestServer(wse).start()
    apps = [make_app(name) for name in ("one", "two")]
    for app in apps:
        wse.init_app(app)
    assert repr(wse) == "<WseFlask /ws of one, /ws of two>"
    for _ in range(2):  # and it is not taken for open the next time
        with pytest.raises(WseValueError, match=r"2 applications.*TestServer\(wse\.of\(app\)\)"):
            TestServer(wse, url="memory://several/ws").start()


def test_the_extension_is_busy_while_a_handler_runs() -> None:
    """Else time would pass for what it does, such as to let somebody in."""
    wse = WseFlask(make_app(), identify=accept_all)
    inside, go = threading.Event(), threading.Event()

    @wse.register("block")
    def block(conn: WseConnection, payload: Any) -> None:
        inside.set()
        wait_event(go)

    with TestServer(wse) as test:
        answer = test.connect("ann").submit("block")
        wait_event(inside)
        test.advance(0.0, settle=False)  # the reader is done with the call
        with pytest.raises(WseTimeoutError, match="a handler in"):
            test.settle(0.0)
        go.set()
        answer.result(PATIENCE)


# The end


SERVED = """
import os, threading, time
import flask
from werkzeug.serving import make_server
from wse_sync.flask import WseFlask
from wse_sync.testing import TestServer

app = flask.Flask("served")
wse = WseFlask(app, identify=lambda auth: auth.accept(auth.identity))

@wse.register("fork")
def fork(conn, payload):
    child = os.fork()
    if not child:
        # As a program that was forked off ends: with everything that is to be done then.
        import atexit
        atexit._run_exitfuncs()
        os._exit(0)
    return os.waitpid(child, 0)[1]

listener = make_server("127.0.0.1", 0, app, threaded=True)
threading.Thread(target=listener.serve_forever, daemon=True).start()
print(listener.server_port)
time.sleep(3600)
"""


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_clients_hear_that_the_process_ends_and_not_that_a_forked_one_does(
    connect: Connect,
) -> None:
    with Program(SERVED) as program:
        client = connect(f"ws://127.0.0.1:{program.line()}{PATH}")
        closed = Recorder()
        client.when.closed(closed)
        assert client.call("fork") == 0
        assert not closed.items
        program.interrupt()
        assert closed.wait_for(1) == [(1012, "wse.by-server")]
        assert client.wait(PATIENCE)
