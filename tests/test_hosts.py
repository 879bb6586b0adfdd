"""What is found out about WSGI servers, and how their threads are shared out."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from types import FunctionType, SimpleNamespace
from typing import Any

import pytest

from tests.conftest import Connect, MakeServer
from tests.hosts import werkzeug_serving
from tests.support import Recorder, accept_all, wait_until
from wse_sync import WseServer, hosts
from wse_sync.hosts import Host, Places, find_host, is_patched_late


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as one:
        yield one


def handle_request(self: Any, environ: dict[str, Any]) -> Host:
    return find_host(environ)


class Worker:
    """Has what is used of gunicorn's workers."""

    def __init__(self, *, pooled: bool = True) -> None:
        self.alive = True
        self.cfg = SimpleNamespace(threads=40, worker_connections=1000, graceful_timeout=30)
        if pooled:
            self.tpool = None

    def find(self, environ: dict[str, Any]) -> Host:
        """Has the application called by a function of a module of gunicorn."""
        module = {"__name__": "gunicorn.workers.gthread", "find_host": find_host}
        host = FunctionType(handle_request.__code__, module)(self, environ)
        assert isinstance(host, Host)
        return host


def test_the_socket_is_where_werkzeug_puts_it(sock: socket.socket) -> None:
    environ = {"werkzeug.socket": sock, "SERVER_SOFTWARE": "Werkzeug/3", "wsgi.multithread": True}
    assert find_host(environ) == Host("Werkzeug/3", sock)


def test_without_threads_there_is_one(sock: socket.socket) -> None:
    host = find_host({"werkzeug.socket": sock, "wsgi.multithread": False})
    assert (host.threads, host.reserve) == (1, 1)


def test_a_worker_of_gunicorn_is_found_and_says_how_many_threads_it_has(
    sock: socket.socket,
) -> None:
    worker = Worker()
    environ = {"gunicorn.socket": sock, "SERVER_SOFTWARE": "gunicorn/27", "wsgi.multithread": True}
    assert worker.find(environ) == Host("gunicorn/27", sock, 40, "--threads", worker)


def test_one_with_greenlets_counts_connections(sock: socket.socket) -> None:
    host = Worker(pooled=False).find({"gunicorn.socket": sock, "wsgi.multithread": True})
    assert (host.threads, host.setting) == (1000, "--worker-connections")


def test_a_worker_that_is_not_found_has_no_limit(sock: socket.socket) -> None:
    host = find_host({"gunicorn.socket": sock, "wsgi.multithread": True})
    assert (host.socket, host.threads, host.worker) == (sock, None, None)


def test_who_keeps_the_socket_is_called_by_name() -> None:
    assert find_host({"SERVER_SOFTWARE": "waitress"}) == Host("waitress", None)


def test_sockets_of_eventlet_are_none_that_fit() -> None:
    kind = type("GreenSocket", (socket.socket,), {"__module__": "eventlet.greenio.base"})
    with kind() as green:
        host = find_host({"gunicorn.socket": green, "SERVER_SOFTWARE": "gunicorn/23"})
    assert host == Host("gunicorn/23 with eventlet", None)


def test_threads_that_are_exchanged_after_the_import_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not is_patched_late()
    monkeypatch.setattr(threading, "Lock", threading.RLock)
    assert is_patched_late()


@pytest.mark.parametrize(
    ("threads", "reserve"), [(1, 1), (2, 1), (39, 1), (40, 2), (100, 5), (None, 0)]
)
def test_one_thread_in_twenty_is_for_pages(threads: int | None, reserve: int) -> None:
    assert Host("", None, threads).reserve == reserve


def test_places_are_taken_over_all_servers_and_given_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    places, host = Places(), Host("gunicorn/27", None, 3, "--threads")
    one, other = WseServer(accept_all), WseServer(accept_all)
    assert places.take(one, host)
    assert places.take(other, host)
    assert not places.take(one, host)
    assert not places.take(other, host)
    [line] = caplog.messages
    assert "2 WebSockets" in line
    assert "3 threads of gunicorn/27" in line
    assert "--threads" in line
    assert not places.give_back(other)
    assert places.take(one, host)
    assert not places.take(one, host)
    assert len(caplog.messages) == 2


def test_the_end_of_a_worker_closes_every_connection_and_the_last_one_closes_the_server(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker()

    def find(environ: dict[str, Any]) -> Host:
        return find_host(environ)._replace(worker=worker)

    monkeypatch.setattr("wse_sync.wsgi.find_host", find)
    monkeypatch.setattr(hosts, "_LOOK", 0.01)
    server, closed, left = make_server(start=False, conn_per_user=3), Recorder(), Recorder()
    server.when.left(lambda client, code, reason: left.add((code, reason)))
    with werkzeug_serving(server.wsgi_app, "/") as url:
        for _ in range(3):
            connect(url).when.closed(closed)
        worker.alive = False
        assert closed.wait_for(3) == [(1012, "wse.by-server")] * 3
        assert left.wait_for(1) == [(1012, "wse.by-server")]
        wait_until(lambda: not loop_runs(), "it looks at the worker without end")


def loop_runs() -> bool:
    return any(thread.name == "wse-loop" for thread in threading.enumerate())
