"""Mounted in Bottle: the snippet of the documentation, served by whatever Bottle can use."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from tests.conftest import MakeClient
from tests.support import Recorder
from tests.web.conftest import Run, Serve, WebServer, dial, is_calm

pytest.importorskip("bottle", reason="Bottle is not installed")

SNIPPETS = Path(__file__).parents[2] / "docs" / "snippets"


@pytest.fixture(autouse=True)
def program(tmp_path: Path) -> None:
    """Where the servers look for it."""
    (tmp_path / "bottle_app.py").write_text((SNIPPETS / "bottle_app.py").read_text("utf-8"))


def login(server: WebServer, name: str) -> str:
    """Logs in on the site; the cookie."""
    with urllib.request.urlopen(f"{server.url}/login/{name}") as answer:
        return str(answer.headers["Set-Cookie"]).partition(";")[0]


def check(server: WebServer, make_client: MakeClient) -> None:
    """The WebSocket and the pages, and that they know each other."""
    ann = make_client(server.ws("/ws"), ws_options={"cookie": login(server, "ann")})
    seen = Recorder()
    ann.channel.on("seen", seen)
    assert ann.connect() == "hello ann"
    assert ann.call("add", [1, 2]) == 3
    assert server.get("/ws/wse.js")[0] == 200
    assert server.get() == (200, "1 users are here")
    assert seen.wait_for(1) == ["/"]
    with pytest.raises(PermissionError):
        make_client(server.ws("/ws")).connect()
    ann.disconnect()
    assert is_calm(server), server.log


def test_46_under_gunicorn(gunicorn: Serve, make_client: MakeClient) -> None:
    check(gunicorn("bottle_app:app", "--worker-class", "gthread", "--threads", "8"), make_client)


def test_46_under_the_development_server_of_werkzeug(
    web_server: Run, make_client: MakeClient
) -> None:
    run = "run_simple('127.0.0.1', 0, app, threaded=True)"
    program = f"from bottle_app import app; from werkzeug.serving import run_simple; {run}"
    check(web_server("-c", program, listening=r"Running on http://.*:(\d+)"), make_client)


# What Bottle runs by itself, which here tells the port that it got, too.
WSGIREF = """
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer
from bottle_app import app

class Server({bases}):
    daemon_threads = True

    def server_activate(self):
        super().server_activate()
        print("listening on port", self.server_port)

app.run(port=0, server_class=Server)
"""


def test_46_under_the_server_of_bottle_with_threads(
    web_server: Run, make_client: MakeClient
) -> None:
    program = WSGIREF.format(bases="ThreadingMixIn, WSGIServer")
    check(web_server("-c", program, listening=r"listening on port (\d+)"), make_client)


def test_46_the_server_of_bottle_has_no_threads_and_refuses(web_server: Run) -> None:
    program = WSGIREF.format(bases="WSGIServer")
    server = web_server("-c", program, listening=r"listening on port (\d+)")
    assert [dial(server.ws("/ws")) for _ in range(2)] == [503, 503]
    line = server.wait_for_line("one request at a time")
    assert server.lines("one request at a time") == [line]
    assert "--worker-class gthread --threads 100" in line
    assert server.get() == (200, "0 users are here")
