"""A Flask application that a factory makes: one for each test, with settings of its own."""

from __future__ import annotations

from typing import Any

from flask import Flask, current_app

from wse_sync import WseConnection
from wse_sync.flask import WseFlask

wse = WseFlask(identify=lambda auth: auth.accept(auth.identity, "hello"))


@wse.register("title")
def title(conn: WseConnection, payload: None) -> str:
    return str(current_app.config["TITLE"])


def create_app(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update({"TITLE": "a shop", **config})
    wse.init_app(app)
    return app
