"""Mounted in gunicorn: threads, places, the end of a worker."""

from __future__ import annotations

import signal
import ssl
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import trustme

from tests.conftest import Connect, MakeClient
from tests.faults import FaultProxy
from tests.support import QUICK, Recorder, wait_until
from tests.web.conftest import APP, PATIENT, Serve, WebServer, dial, dialed, enters, is_calm
from wse_sync import WSE_STATUS, WseClient

GTHREAD = ("--worker-class", "gthread")
FULL = "refused a connection"


def test_46_logins_messages_and_calls_work(gunicorn: Serve, connect: Connect) -> None:
    server = gunicorn(APP, *GTHREAD, "--threads", "8")
    ann, bob = connect(server.ws("/ws"), "ann"), connect(server.ws("/ws"), "bob")
    news = Recorder()
    bob.channel.on("news", news)
    bob.register("answer", lambda question: f"{question}!")
    assert ann.call("add", [1, 2]) == 3
    assert bob.call("ask back", "well") == "well!"
    ann.send("spread", "x" * 300_000)
    assert news.wait_for(1) == ["x" * 300_000]
    assert server.get() == (200, "2 users are here")
    ann.disconnect()
    server.wait_for_line("ann left: 1000 wse.by-client")
    assert is_calm(server), server.log


def test_46_it_works_with_the_tls_of_gunicorn(
    gunicorn: Serve, make_client: MakeClient, tmp_path: Path
) -> None:
    authority, pem = trustme.CA(), tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    server = gunicorn(
        APP, *GTHREAD, "--threads", "8", "--certfile", str(pem), "--keyfile", str(pem)
    )
    client = make_client(server.ws("/ws").replace("ws:", "wss:"), ssl_context=trusting)
    client.connect("ann")
    assert client.call("echo", "x" * 300_000) == "x" * 300_000
    client.disconnect()
    server.wait_for_line("ann left: 1000 wse.by-client")
    server.terminate()
    server.wait()
    assert is_calm(server), server.log


# Threads


def test_200_dial_100_threads_and_the_surplus_gets_503(gunicorn: Serve) -> None:
    server = gunicorn(APP, *GTHREAD, "--threads", "100")
    with dialed(server.ws("/ws"), 200) as (clients, refused):
        assert (len(clients), refused) == (95, [503] * 105)
        assert server.get() == (200, "0 users are here")
        server.wait_for_line(FULL)
        [line] = server.lines(FULL)
        assert "95 WebSockets" in line
        assert "--threads" in line
        for number, client in enumerate(clients):
            assert client.login(f"user-{number}") == f"hello user-{number}"
        assert server.get() == (200, "95 users are here")

        for client in clients[:10]:
            client.close()
        with ExitStack() as stack:
            for _ in range(10):
                wait_until(partial(enters, server.ws("/ws"), stack))
            assert dial(server.ws("/ws")) == 503
            assert server.get() == (200, "85 users are here")
    assert is_calm(server), server.log


def test_places_are_those_of_the_process_whichever_server_has_them(gunicorn: Serve) -> None:
    server = gunicorn(APP, *GTHREAD, "--threads", "4")
    with (
        dialed(server.ws("/ws"), 2) as (two, _),
        dialed(server.ws("/other"), 1) as (one, _),
    ):
        assert (len(two), len(one)) == (2, 1)
        assert dial(server.ws("/ws")) == dial(server.ws("/other")) == 503
        server.wait_for_line(FULL)
        assert len(server.lines(FULL)) == 1


def test_a_middleware_does_not_hide_how_many_threads_there_are(gunicorn: Serve) -> None:
    server = gunicorn("tests.web.application:wrapped", *GTHREAD, "--threads", "3")
    with dialed(server.ws("/ws"), 6) as (clients, refused):
        assert (len(clients), refused) == (2, [503] * 4)


def test_it_is_said_each_time_that_the_places_run_out(gunicorn: Serve) -> None:
    server = gunicorn(APP, *GTHREAD, "--threads", "2")
    for count in (1, 2):
        with ExitStack() as stack:
            wait_until(partial(enters, server.ws("/ws"), stack))
            assert dial(server.ws("/ws")) == dial(server.ws("/ws")) == 503
            server.wait_for_line(FULL, count)


@pytest.mark.parametrize(
    "worker", [("--worker-class", "sync"), (*GTHREAD, "--threads", "1")], ids=["sync", "one thread"]
)
def test_a_worker_with_one_thread_refuses_every_upgrade(
    gunicorn: Serve, worker: tuple[str, ...]
) -> None:
    server = gunicorn(APP, *worker)
    assert [dial(server.ws("/ws")) for _ in range(3)] == [503] * 3
    server.wait_for_line(FULL)
    [line] = server.lines(FULL)
    assert "--worker-class gthread --threads 100" in line
    assert server.get() == (200, "0 users are here")


# The end of a worker


def returning(make_client: MakeClient, server: WebServer) -> tuple[WseClient, Recorder]:
    """A client that comes back, and how it was closed."""
    client, closed = make_client(server.ws("/ws"), reconnect=True, backoff=QUICK), Recorder()
    client.when.closed(closed)
    client.connect("ann")
    return client, closed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_46_when_gunicorn_ends_the_clients_are_told_and_it_does_not_wait_for_them(
    gunicorn: Serve, make_client: MakeClient, number: signal.Signals
) -> None:
    server = gunicorn(APP, *GTHREAD, "--threads", "8", *PATIENT)
    _, closed = returning(make_client, server)
    server.send_signal(number)
    assert closed.wait_for(1) == [(1012, "wse.by-server")]
    assert server.wait() == 0
    # What the application does at the end of a connection is done.
    assert server.lines("ann left: 1012 wse.by-server")
    assert is_calm(server), server.log


def test_46_when_gunicorn_reloads_the_clients_come_back_to_the_new_worker(
    gunicorn: Serve, make_client: MakeClient
) -> None:
    server = gunicorn(APP, *GTHREAD, "--threads", "8", *PATIENT)
    client, closed = returning(make_client, server)
    before = client.call("process")
    server.send_signal(signal.SIGHUP)
    assert closed.wait_for(1) == [(1012, "wse.by-server")]
    wait_until(lambda: client.status == WSE_STATUS.READY)
    assert client.call("process") != before
    server.wait_for_line(rf"Worker exiting \(pid: {before}\)")
    assert is_calm(server), server.log


def test_46_when_a_worker_has_served_its_requests_the_clients_come_back_to_the_next(
    gunicorn: Serve, make_client: MakeClient
) -> None:
    server = gunicorn(APP, *GTHREAD, "--threads", "8", *PATIENT, "--max-requests", "2")
    client, closed = returning(make_client, server)
    before = client.call("process")
    assert server.get() == (200, "1 users are here")
    assert closed.wait_for(1) == [(1012, "wse.by-server")]
    wait_until(lambda: client.status == WSE_STATUS.READY)
    assert client.call("process") != before
    assert is_calm(server), server.log


def test_46_a_resumed_session_is_closed_with_the_worker_as_well(
    gunicorn: Serve, make_client: MakeClient
) -> None:
    server = gunicorn(APP, *GTHREAD, "--threads", "8", *PATIENT)
    with FaultProxy(server.ws("/ws")) as proxy:
        client, closed = make_client(f"{proxy.url}ws", reconnect=True, backoff=QUICK), Recorder()
        client.connect("ann")
        client.when.closed(closed)
        proxy.cut(reset=True)
        closed.wait_for(1)
        wait_until(lambda: client.status == WSE_STATUS.READY)
        assert client.call("add", [1, 2]) == 3
        assert not server.lines("ann left")
        server.terminate()
        assert closed.wait_for(2)[1] == (1012, "wse.by-server")
        assert server.wait() == 0


# Processes


def test_46_a_server_made_before_the_fork_works_in_the_worker(
    gunicorn: Serve, connect: Connect
) -> None:
    server = gunicorn(APP, *GTHREAD, "--threads", "8", "--preload")
    client = connect(server.ws("/ws"))
    assert client.call("add", [1, 2]) == 3
    assert client.call("tell all", "x") == 1
    server.terminate()
    assert server.wait() == 0
    assert is_calm(server), server.log


def test_a_broadcast_reaches_the_users_of_its_own_process_only(
    gunicorn: Serve, make_client: MakeClient
) -> None:
    # One place in each worker: who finds none tries again, and gets to the other one.
    server = gunicorn(APP, *GTHREAD, "--threads", "2", "--workers", "2")
    clients = [make_client(server.ws("/ws"), reconnect=True, backoff=QUICK) for _ in range(2)]
    news = Recorder()
    for number, client in enumerate(clients):
        client.channel.on("news", lambda payload, number=number: news.add((number, payload)))
        client.connect(f"user-{number}", timeout=30.0)
    assert len({client.call("process") for client in clients}) == 2
    for client in clients:
        assert client.call("tell all", "x") == 1
    assert sorted(news.wait_for(2)) == [(0, "x"), (1, "x")]
