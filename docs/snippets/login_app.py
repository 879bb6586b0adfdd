"""A Flask application whose users come to the WebSocket with their session."""

from __future__ import annotations

from typing import Any

from flask import Flask, session

from wse_sync import AuthRequest, WseServer

app = Flask(__name__)
app.secret_key = "for tests only"


def identify(auth: AuthRequest) -> None:
    with app.request_context(auth.environ):
        auth.accept(session.get("user"), "hello")


wse = WseServer(identify)


@app.post("/login/<user>")
def login(user: str) -> str:
    session["user"] = user
    return "welcome"


@app.route("/ws", websocket=True)
def socket() -> Any:
    return wse.wsgi_app
