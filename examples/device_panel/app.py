"""The application: its settings and secrets, and the page behind a password."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from tempfile import mkstemp
from typing import Any, Union

from flask import (
    Blueprint,
    Flask,
    abort,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from werkzeug.wrappers import Response

from .hub import Hub
from .logins import Logins

HERE = Path(__file__).parent
DEVICES = ("kitchen", "cellar")  # those that the first start makes secrets for

# Nothing but what this server has, and no script or style in the HTML.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

Page = Union[str, Response]
views = Blueprint("views", __name__)


def create_app(settings: dict[str, Any] | None = None) -> Flask:
    """Makes the application.

    Args:
        settings: They come before environment variables, such as FLASK_PASSWORD, and those before
            what is kept in the instance folder.
    """
    app = Flask(__name__, instance_path=str(HERE / "instance"))
    app.config.update(
        SESSION_COOKIE_SAMESITE="Lax",
        DEVICE_SECRETS=f"{app.instance_path}/devices",
        LOGINS=f"{app.instance_path}/logins",
    )
    app.config.from_prefixed_env()
    # Those are text, also if they look like a number, which is JSON and would become one.
    for name in ("SECRET_KEY", "PASSWORD"):
        if f"FLASK_{name}" in os.environ:
            app.config[name] = os.environ[f"FLASK_{name}"]
    app.config.update(settings or {})
    instance = Path(app.instance_path)
    if not app.config["SECRET_KEY"]:
        app.config["SECRET_KEY"] = kept_secret(instance / "secret_key")
    if not app.config.get("PASSWORD"):
        app.config["PASSWORD"] = kept_secret(instance / "password", size=9)
        print(f" * The password of the panel: {app.config['PASSWORD']}")

    devices = Path(app.config["DEVICE_SECRETS"])
    if not devices.exists():
        for name in DEVICES:
            kept_secret(devices / name)
    logins = Logins(Path(app.config["LOGINS"]), app.permanent_session_lifetime)
    app.extensions["logins"] = logins
    app.extensions["hub"] = Hub(app, devices, logins)
    app.register_blueprint(views)
    return app


def kept_secret(path: Path, size: int = 32) -> str:
    """A secret of so many random bytes: made the first time, and only its owner may read it."""
    if not path.exists() or not path.read_text().strip():
        path.parent.mkdir(parents=True, exist_ok=True)
        # All of it or nothing is kept: half a secret, or none, would let strangers in. With a dot
        # in its name, the file is not that of a device meanwhile.
        handle, draft = mkstemp(dir=path.parent, prefix=".")
        with open(handle, "w") as file:
            file.write(secrets.token_urlsafe(size))
        os.replace(draft, path)
    return path.read_text().strip()


@views.before_app_request
def refuse_forged_forms() -> None:
    """A page of somebody else can send a form here, but does not know what is in the session."""
    token = session.setdefault("csrf", secrets.token_hex(16))
    given = request.form.get("csrf", "")
    if request.method == "POST" and not hmac.compare_digest(token.encode(), given.encode()):
        abort(400, "This form is too old. Go back, reload the page and try again.")


@views.after_app_request
def harden(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@views.get("/")
def panel() -> Page:
    if not current_app.extensions["logins"].has(session.get("login")):
        return redirect(url_for(".login"))
    return render_template("panel.html")


@views.route("/login", methods=["GET", "POST"])
def login() -> Page:
    if request.method == "POST":
        given, wanted = request.form["password"], current_app.config["PASSWORD"]
        if hmac.compare_digest(given.encode(), wanted.encode()):
            session.clear()  # nothing of a session that somebody else may have prepared
            session["login"] = current_app.extensions["logins"].begin()
            return redirect(url_for(".panel"))
        flash("That is not the password.")
    return render_template("login.html")


@views.post("/logout")
def logout() -> Page:
    if "login" in session:
        current_app.extensions["hub"].log_out(session["login"])
    session.clear()
    return redirect(url_for(".login"))
