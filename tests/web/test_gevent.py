"""Mounted in gunicorn with gevent workers: threads are greenlets there."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Connect, MakeClient, MakeRawClient
from tests.support import Recorder, wait_until
from tests.web.conftest import APP, PATIENT, Serve, dial, dialed, enters, is_calm

pytest.importorskip("gevent", reason="gevent is not installed")

GEVENT = ("--worker-class", "gevent")
FLASK_APP = """
import threading
import flask
from wse_sync.flask import WseFlask

app = flask.Flask(__name__)
wse = WseFlask(app, identify=lambda auth: auth.accept(flask.request.args["who"]))
meeting = threading.Barrier(16)


@wse.register("meet")
def meet(conn, number):
    flask.g.number = number
    meeting.wait(30.0)
    double = conn.call("double", number)
    return [flask.g.number, double, flask.request.args["who"], flask.current_app.name]


@app.get("/")
def page():
    return f"{wse.broadcast('news', flask.request.path)} were told"
"""
WORDS = "x" * 300_000


def test_logins_messages_and_calls_work(gunicorn: Serve, connect: Connect) -> None:
    server = gunicorn(APP, *GEVENT)
    ann, bob = connect(server.ws("/ws"), "ann"), connect(server.ws("/ws"), "bob")
    news = Recorder()
    bob.channel.on("news", news)
    bob.register("answer", lambda question: f"{question}!")
    assert ann.call("add", [1, 2]) == 3
    assert bob.call("ask back", "well") == "well!"
    assert ann.call("echo", WORDS) == WORDS
    ann.send("spread", WORDS)
    assert news.wait_for(1) == [WORDS]
    assert server.get() == (200, "2 users are here")
    ann.disconnect()
    server.wait_for_line("ann left: 1000 wse.by-client")
    assert is_calm(server), server.log


def test_fifty_connections_call_at_the_same_time(gunicorn: Serve, make_client: MakeClient) -> None:
    server = gunicorn(APP, *GEVENT)
    clients = [make_client(server.ws("/ws")) for _ in range(50)]
    for number, client in enumerate(clients):
        client.connect(f"user-{number}")
    for _ in range(20):
        calls = [
            client.submit("echo", [number, "x" * 1000]) for number, client in enumerate(clients)
        ]
        assert [call.result(30.0)[0] for call in calls] == list(range(50))
    assert server.get() == (200, "50 users are here")
    assert is_calm(server), server.log


def test_a_reader_that_is_too_slow_delays_nobody_and_is_given_up(
    gunicorn: Serve, connect: Connect, make_raw_client: MakeRawClient
) -> None:
    server = gunicorn(APP, *GEVENT)
    slow = make_raw_client(server.ws("/ws"))
    slow.login("slow")
    sock = slow.socket.sock
    assert sock is not None
    ann, news = connect(server.ws("/ws"), "ann"), Recorder()
    ann.channel.on("news", news)
    count = 0
    while ann.call("flood", "x" * 1000) == 2:
        count += 100
        assert count < 50_000, "what nobody reads is kept without bound"
        # Half of it: so there is room now and then, but never for all that waits.
        sock.recv(50_000)
    server.wait_for_line("slow left: 1013 wse.slow-consumer")
    assert ann.call("flood", "x") == 1
    news.wait_for(count + 200)
    assert is_calm(server), server.log


def test_a_peer_that_is_silent_is_given_up(gunicorn: Serve, make_raw_client: MakeRawClient) -> None:
    server = gunicorn(APP, *GEVENT, environ={"HEARTBEAT": "2"})
    make_raw_client(server.ws("/ws")).login("silent")
    server.wait_for_line("silent left: 1006")


def test_when_gunicorn_ends_the_clients_are_told_and_it_does_not_wait_for_them(
    gunicorn: Serve, connect: Connect
) -> None:
    server = gunicorn(APP, *GEVENT, *PATIENT)
    closed = Recorder()
    connect(server.ws("/ws"), "ann").when.closed(closed)
    server.terminate()
    assert closed.wait_for(1) == [(1012, "wse.by-server")]
    assert server.wait() == 0
    assert server.lines("ann left: 1012 wse.by-server")
    assert is_calm(server), server.log


def test_places_are_those_that_gunicorn_has_connections_for(gunicorn: Serve) -> None:
    server = gunicorn(APP, *GEVENT, "--worker-connections", "20")
    with dialed(server.ws("/ws"), 40) as (clients, refused):
        assert (len(clients), refused) == (19, [503] * 21)
        line = server.wait_for_line("refused a connection")
        assert "--worker-connections" in line
        assert server.get() == (200, "0 users are here")
        clients[0].close()
        with ExitStack() as stack:
            wait_until(partial(enters, server.ws("/ws"), stack))


def test_a_process_that_is_patched_after_the_import_is_refused(gunicorn: Serve) -> None:
    server = gunicorn(APP, *GEVENT, "--preload")
    assert dial(server.ws("/ws")) == 501
    line = server.wait_for_line("gevent has patched")
    assert "--preload" in line
    assert server.get() == (200, "0 users are here")


def test_the_worker_that_leaves_http_to_gevent_is_refused(gunicorn: Serve) -> None:
    server = gunicorn(APP, "--worker-class", "gevent_pywsgi")
    assert dial(server.ws("/ws")) == 501
    line = server.wait_for_line("exposes no socket")
    assert "gevent" in line


def test_handlers_of_flask_in_greenlets_have_contexts_of_their_own(
    gunicorn: Serve, connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "served.py").write_text(FLASK_APP, "utf-8")
    server = gunicorn("served:app", *GEVENT)
    clients = [connect(server.ws(f"/ws?who={who}")) for who in ("ann", "bob")]
    news = Recorder()
    for client in clients:
        client.channel.on("news", news)
        client.register("double", lambda number: number * 2)
    calls = [clients[n % 2].submit("meet", n) for n in range(16)]
    answers = [call.result(30.0) for call in calls]
    assert answers == [[n, n * 2, ("ann", "bob")[n % 2], "served"] for n in range(16)]
    assert server.get() == (200, "2 were told")
    assert news.wait_for(2) == ["/", "/"]
    assert is_calm(server), server.log
