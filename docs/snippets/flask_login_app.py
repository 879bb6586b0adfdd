"""Who has logged in by a form is the user of the WebSocket.

Run it with ``flask --app flask_login_app run``; it needs Flask-Login.
"""

from __future__ import annotations

import secrets

from flask import Flask, request
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user

from wse_sync import AuthRequest, WseConnection
from wse_sync.flask import WseFlask

wse = WseFlask(identify=lambda auth: identify(auth), conn_per_user=10)
login_manager = LoginManager()


class User(UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name


login_manager.user_loader(User)


def identify(auth: AuthRequest) -> None:
    # The cookies are those of the page: a browser sends them with the upgrade.
    if current_user.is_authenticated:
        auth.accept(current_user.id)
    else:
        auth.refuse()


@wse.register("whoami")
def whoami(conn: WseConnection, payload: None) -> str:
    return f"{current_user.id}, one of {len(wse.clients)}"


def create_app() -> Flask:
    app = Flask(__name__)
    app.secret_key = secrets.token_hex()
    login_manager.init_app(app)
    wse.init_app(app)

    @app.post("/login")
    def login() -> str:
        login_user(User(request.form["name"]))  # a real one asks for a password
        return "welcome"

    @app.post("/logout")
    def logout() -> str:
        # The connections have the cookies of their handshake: they go with the login.
        wse.drop_client(current_user.id, "logged out")
        logout_user()
        return "bye"

    return app
