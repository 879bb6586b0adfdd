"""A Flask application whose users come to the WebSocket with their session."""

from __future__ import annotations

from flask import Flask, session

from wse_sync import AuthRequest
from wse_sync.flask import WseFlask

app = Flask(__name__)
app.secret_key = "for tests only"


def identify(auth: AuthRequest) -> None:
    auth.accept(session.get("user"), "hello")


wse = WseFlask(app, identify=identify)


@app.post("/login/<user>")
def login(user: str) -> str:
    session["user"] = user
    return "welcome"
