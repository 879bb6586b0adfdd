"""The application: its settings, and what every response has in common."""

from __future__ import annotations

import os
import secrets
from datetime import timedelta
from pathlib import Path
from tempfile import mkstemp
from typing import Any

from flask import Flask, Response

from .accounts import accounts, logins
from .models import create_tables, db
from .sockets import wse

HERE = Path(__file__).parent

# Nothing but what this server has, and no script or style in the HTML: so what somebody manages to
# smuggle into a page does nothing.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


def create_app(settings: dict[str, Any] | None = None) -> Flask:
    """Makes the application.

    Args:
        settings: They come before environment variables, such as FLASK_SECRET_KEY, and those
            before the defaults.
    """
    app = Flask(__name__, instance_path=str(HERE / "instance"))
    app.config.update(
        SQLALCHEMY_DATABASE_URI="sqlite:///chat.db",  # in the instance folder
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=timedelta(days=30),
        MAX_RATE=[20, 10.0],  # messages of a user, within so many seconds
        MAX_CONTENT_LENGTH=16 * 1024,  # bytes of a form; the WebSocket has limits of its own
    )
    app.config.from_prefixed_env()
    if "FLASK_SECRET_KEY" in os.environ:
        # It is text, also if it looks like a number, which is JSON and would become one.
        app.config["SECRET_KEY"] = os.environ["FLASK_SECRET_KEY"]
    app.config.update(settings or {})
    if not app.config["SECRET_KEY"]:
        app.config["SECRET_KEY"] = kept_secret(Path(app.instance_path) / "secret_key")

    db.init_app(app)
    logins.init_app(app)
    wse.init_app(app)
    app.register_blueprint(accounts)
    app.after_request(harden)
    with app.app_context():
        create_tables()
    return app


def kept_secret(path: Path) -> str:
    """A secret that outlives the process, or everybody would be logged out by a restart."""
    if not path.exists() or not path.read_text():
        path.parent.mkdir(exist_ok=True)
        # All of it or nothing is kept: with half a secret, others could make up cookies.
        handle, draft = mkstemp(dir=path.parent)  # which only its owner may read
        with open(handle, "w") as file:
            file.write(secrets.token_hex(32))
        os.replace(draft, path)
    return path.read_text()


def harden(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
