"""WseFlask under gunicorn's gthread workers, also with the application loaded before the fork."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.conftest import MakeClient
from tests.support import PATIENCE, QUICK, Recorder
from tests.web.conftest import Serve, dialed
from tests.web.test_gunicorn import FULL, GTHREAD

pytest.importorskip("gunicorn", reason="needs gunicorn")

APP = """
import os, threading
import flask
from wse_sync.flask import WseFlask

app = flask.Flask(__name__)
# All dial from this machine, many at a time.
app.config["WSE_MAX_UNAUTHENTICATED_PER_ADDRESS"] = None
wse = WseFlask(app, identify=lambda auth: auth.accept(auth.identity))
MADE_IN = os.getpid()


@wse.register("where")
def where(conn, payload):
    return [os.getpid() == MADE_IN, flask.request.path, len(wse.clients)]


# In the master, if that has loaded this: what each worker inherits, the last fork is its own.
forks = []
os.register_at_fork(before=lambda: forks.append([it.name for it in threading.enumerate()]))


@wse.register("threads at forks")
def threads_at_forks(conn, payload):
    return forks


@app.get("/")
def page():
    return f"{wse.broadcast('news', 'somebody looks')} were told"
"""


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_pages_and_sockets_in_one_process(
    gunicorn: Serve, make_client: MakeClient, tmp_path: Path, preload: bool
) -> None:
    (tmp_path / "served.py").write_text(APP, "utf-8")
    options = ["--threads", "100", *(["--preload"] if preload else [])]
    server = gunicorn("served:app", *GTHREAD, *options)
    clients = [make_client(server.ws("/ws"), reconnect=True, backoff=QUICK) for _ in range(20)]
    news = Recorder()
    for number, client in enumerate(clients):
        client.channel.on("news", news)
        client.connect(f"user {number}", timeout=PATIENCE)
    assert [client.call("where") for client in clients] == [[not preload, "/ws", 20]] * 20
    assert server.get() == (200, "20 were told")
    assert news.wait_for(20) == ["somebody looks"] * 20
    before = clients[0].call("threads at forks")

    # A new worker for the old one: everybody is told, and comes back to it.
    closed = Recorder()
    for client in clients:
        client.when.closed(closed)
    server.send_signal(signal.SIGHUP)
    assert closed.wait_for(20, 30.0) == [(1012, "wse.by-server")] * 20
    assert [client.call("where")[1] for client in clients] == ["/ws"] * 20
    after = clients[0].call("threads at forks")
    if preload:
        # The master has made the application, and started nothing for it, before a worker or since.
        assert 1 <= len(before) < len(after)
        assert not [name for names in after for name in names if "wse" in name]
    for client in clients:
        client.disconnect()
    assert not server.lines("Traceback")


def test_the_surplus_of_200_gets_503_and_pages_are_served(gunicorn: Serve, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(APP, "utf-8")
    server = gunicorn("served:app", *GTHREAD, "--threads", "100")
    with dialed(server.ws("/ws"), 200) as (clients, refused):
        assert (len(clients), refused) == (95, [503] * 105)
        assert server.get()[0] == 200
        assert "--threads" in server.wait_for_line(FULL)
        assert len(server.lines(FULL)) == 1
