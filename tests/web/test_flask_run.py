"""Under `flask run --debug`, with its reloader: nothing is started twice, and nothing is lost."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.conftest import MakeClient
from tests.support import PATIENCE, QUICK, Recorder
from tests.web.conftest import WebServer

APP = """
import os, threading
import flask
from wse_sync.flask import WseFlask

VERSION = {version}
wse = WseFlask(identify=lambda auth: auth.accept(auth.identity))
wse.register("version", lambda conn, payload: VERSION)
wse.register("process", lambda conn, payload: [os.getpid(), flask.current_app.debug])
wse.channel.on("say", lambda conn, text: wse.broadcast("said", text))


def create_app():
    app = flask.Flask(__name__)
    wse.init_app(app)
    app.add_url_rule("/", "page", lambda: str(VERSION))
    names = [thread.name for thread in threading.enumerate()]
    print("made in", os.getpid(), "with", [name for name in names if "wse" in name], flush=True)
    return app
"""


def write(directory: Path, version: int) -> None:
    # In one step: the reloader may look at any time.
    draft = directory / "draft"
    draft.write_text(APP.format(version=version), "utf-8")
    draft.replace(directory / "served.py")


def test_the_reloader_starts_nothing_twice_and_clients_come_back(
    tmp_path: Path, make_client: MakeClient
) -> None:
    write(tmp_path, 1)
    command = ("-m", "flask", "--app", "served:create_app", "run", "--debug", "--port", "0")
    program = WebServer(
        *command,
        directory=tmp_path,
        listening=r"Running on http://127\.0\.0\.1:(\d+)",
        # Two versions of a file within a second have the same bytecode to Python.
        environ={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    with contextlib.ExitStack() as stack:
        stack.callback(program.kill)
        client = make_client(program.ws("/ws"), reconnect=True, backoff=QUICK)
        said, closed = Recorder(), Recorder()
        client.channel.on("said", said)
        client.when.closed(closed)
        client.connect("ann", timeout=PATIENCE)
        process, debug = client.call("process")
        assert debug
        assert client.call("version") == 1
        client.send("say", "before")
        assert said.wait_for(1) == ["before"]

        write(tmp_path, 2)
        assert closed.wait_for(1, 30.0) == [(1012, "wse.by-server")]
        client.send("say", "meanwhile")
        assert said.wait_for(2, 30.0) == ["before", "meanwhile"]
        assert client.call("version") == 2
        assert client.call("process")[0] != process
        client.disconnect()
    made = program.lines("^made in")
    # The process that watches makes an application as well, and both serving ones do.
    assert len(made) >= 2
    assert all(line.endswith("with []") for line in made), made
    assert not program.lines("Traceback")
