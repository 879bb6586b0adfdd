"""A Flask application with a page and a WebSocket.

Run it with ``flask --app flask_app run``.
"""

from __future__ import annotations

from typing import Any

from flask import Flask

from wse_sync import AuthRequest, WseConnection, WseServer

app = Flask(__name__)


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity, "hello")


wse = WseServer(identify)  # no port: Flask has one


@wse.register("add")
def add(conn: WseConnection, numbers: list[float]) -> float:
    return sum(numbers)


@app.get("/")
def page() -> str:
    return f"{len(wse.clients)} users are here"


# Werkzeug has separate rules for upgrades; the second one gives visitors with a browser a hint.
@app.route("/ws", websocket=True)
@app.route("/ws")
def ws() -> Any:
    return wse.wsgi_app
