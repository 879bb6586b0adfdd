"""A Flask application with a page and a WebSocket.

Run it with ``flask --app flask_app run``.
"""

from __future__ import annotations

from flask import Flask, request

from wse_sync import AuthRequest, WseConnection
from wse_sync.flask import WseFlask

app = Flask(__name__)


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity, "hello")


wse = WseFlask(app, identify=identify)


@wse.register("add")
def add(conn: WseConnection, numbers: list[float]) -> float:
    app.logger.info("%s adds, with %s", conn.cid, request.user_agent)
    return sum(numbers)


@app.get("/")
def page() -> str:
    wse.broadcast("visit", request.path)
    return f"{len(wse.clients)} users are here"
